// Columns: their types, their arrays, and the pool that lends the arrays to requests.
// Why: a batch of candidates is a row count plus one flat array per column, so a step is a loop over numbers and nothing is allocated per row. One array a
// column (not one buffer cut into pieces) because columns come and go during a request and each is compacted on its own.
// Invariants: 1. an array is owned by the pool or by exactly one request, never by both  2. capacities are powers of two, so an array fits its whole class
//             3. an array from `take` holds old values: whoever takes it fills what will be read  4. a `str` array given back holds no strings.
// Cost: take and give are a pop and a push. Idle bytes are bounded by `pooledBytesMax`.
// Concurrency: one thread; any number of requests in flight.

export type ColumnType = "u32" | "f32" | "f64" | "u8" | "str";

/** The array behind a column of each type. */
export interface ColumnArrays {
  u32: Uint32Array<ArrayBuffer>;
  f32: Float32Array<ArrayBuffer>;
  f64: Float64Array<ArrayBuffer>;
  u8: Uint8Array<ArrayBuffer>;
  str: string[];
}
export type ColumnArray = ColumnArrays[ColumnType];
export type NumberArray = Exclude<ColumnArray, string[]>;

/** What happens to a column when several sources bring the same id: the larger value, the sum, or the value of the source declared first. */
export type MergeRule = "max" | "sum" | "first";

export interface NumberColumn {
  readonly type: "u32" | "f32" | "f64" | "u8";
  /** Value of rows that nobody wrote. Default 0. */
  readonly default?: number;
  /** Default `max`. */
  readonly merge?: MergeRule;
}
export interface TextColumn {
  readonly type: "str";
  /** Value of rows that nobody wrote. Default "". */
  readonly default?: string;
  readonly merge?: "first";
}
/** A column as a step declares it: `"f32"` is short for `{ type: "f32", default: 0, merge: "max" }`. */
export type ColumnSpec = ColumnType | NumberColumn | TextColumn;
export type ColumnSpecs = { readonly [name: string]: ColumnSpec };

/** A column type a step reads; `any` takes whatever type was written. */
export type ReadType = ColumnType | "any";
export type Reads = { readonly [name: string]: ReadType };
/** Column names with their types: what a flow has so far. */
export type ColumnTypes = { readonly [name: string]: ColumnType };

export type TypeOfSpec<S> = S extends ColumnType ? S : S extends { readonly type: infer T extends ColumnType } ? T : never;
export type TypesOf<C extends ColumnSpecs> = { readonly [K in keyof C]: TypeOfSpec<C[K]> };
export type ArrayOf<T> = T extends ColumnType ? ColumnArrays[T] : ColumnArray;
/** The arrays a step writes, by column name. */
export type ArraysOf<C extends ColumnSpecs> = { readonly [K in keyof C]: ArrayOf<TypeOfSpec<C[K]>> };

export const bytesPerValue: Record<ColumnType, number> = { u32: 4, f32: 4, f64: 8, u8: 1, str: 8 };

const capacityMin = 256;

function capacityFor(rows: number): number {
  return rows <= capacityMin ? capacityMin : 2 ** (32 - Math.clz32(rows - 1));
}

/** A new array that no pool owns: zeros or empty strings. */
export function createColumn<T extends ColumnType>(type: T, length: number): ColumnArrays[T];
export function createColumn(type: ColumnType, capacity: number): ColumnArray {
  switch (type) {
    case "u32":
      return new Uint32Array(capacity);
    case "f32":
      return new Float32Array(capacity);
    case "f64":
      return new Float64Array(capacity);
    case "u8":
      return new Uint8Array(capacity);
    case "str":
      return new Array<string>(capacity).fill("");
  }
}

/** Lends column arrays to requests and takes them back. */
export class ColumnPool {
  readonly #bytesMax: number;
  readonly #free: Record<ColumnType, Map<number, ColumnArray[]>> = { u32: new Map(), f32: new Map(), f64: new Map(), u8: new Map(), str: new Map() };
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Idle bytes, for `memory_bytes{owner}`. */
  get idleBytes(): number {
    return this.#bytes;
  }

  /** An array of at least `rows` values, contents unspecified (`str`: empty strings). */
  take<T extends ColumnType>(type: T, rows: number): ColumnArrays[T] {
    const capacity = capacityFor(rows);
    const found = this.#free[type].get(capacity)?.pop();
    if (found === undefined) return createColumn(type, capacity);
    this.#bytes -= capacity * bytesPerValue[type];
    return found as ColumnArrays[T];
  }

  /** Gives an array back. The caller must hold no view of it that it will use again. */
  give(type: ColumnType, array: ColumnArray): void {
    const bytes = array.length * bytesPerValue[type];
    if (this.#bytes + bytes > this.#bytesMax) return;
    if (type === "str") (array as string[]).fill("");
    this.#bytes += bytes;
    const list = this.#free[type].get(array.length);
    if (list === undefined) this.#free[type].set(array.length, [array]);
    else list.push(array);
  }
}

export function fillColumn(array: ColumnArray, value: number | string, from: number, to: number): void {
  // One cast instead of five branches: number columns have number defaults by construction (plan.ts checks it).
  (array as { fill(value: number | string, from: number, to: number): unknown }).fill(value, from, to);
}

// One literal loop per type: each keeps its own type feedback, so the engine compiles five tight loops instead of one that asks for the type at each element.
function gatherU32(to: Uint32Array, at: number, from: Uint32Array, rows: Uint32Array, n: number): void {
  for (let i = 0; i < n; i++) to[at + i] = from[rows[i]!]!;
}
function gatherF32(to: Float32Array, at: number, from: Float32Array, rows: Uint32Array, n: number): void {
  for (let i = 0; i < n; i++) to[at + i] = from[rows[i]!]!;
}
function gatherF64(to: Float64Array, at: number, from: Float64Array, rows: Uint32Array, n: number): void {
  for (let i = 0; i < n; i++) to[at + i] = from[rows[i]!]!;
}
function gatherU8(to: Uint8Array, at: number, from: Uint8Array, rows: Uint32Array, n: number): void {
  for (let i = 0; i < n; i++) to[at + i] = from[rows[i]!]!;
}
function gatherStr(to: string[], at: number, from: string[], rows: Uint32Array, n: number): void {
  for (let i = 0; i < n; i++) to[at + i] = from[rows[i]!]!;
}

/** to[at + i] = from[rows[i]] for i < n. In place (`to === from`, at 0) only when `rows` ascends. */
export function gatherColumn(type: ColumnType, to: ColumnArray, at: number, from: ColumnArray, rows: Uint32Array, n: number): void {
  switch (type) {
    case "u32":
      return gatherU32(to as Uint32Array, at, from as Uint32Array, rows, n);
    case "f32":
      return gatherF32(to as Float32Array, at, from as Float32Array, rows, n);
    case "f64":
      return gatherF64(to as Float64Array, at, from as Float64Array, rows, n);
    case "u8":
      return gatherU8(to as Uint8Array, at, from as Uint8Array, rows, n);
    case "str":
      return gatherStr(to as string[], at, from as string[], rows, n);
  }
}

/** Copies rows [0, n) of `from` to `to` beginning at row `at`. */
export function copyColumn(type: ColumnType, to: ColumnArray, at: number, from: ColumnArray, n: number): void {
  if (type === "str") for (let i = 0; i < n; i++) (to as string[])[at + i] = (from as string[])[i]!;
  else (to as Float64Array).set((from as Float64Array).subarray(0, n), at);
}

/** The first `n` values. Number columns: a view of exactly n values. Text columns: the array itself, which may be longer than n. */
export function viewColumn<A extends ColumnArray>(array: A, n: number): A {
  return (Array.isArray(array) ? array : array.subarray(0, n)) as A;
}

/** A copy of the first `n` values that no pool owns. */
export function ownColumn(array: ColumnArray, n: number): ColumnArray {
  return array.slice(0, n);
}
