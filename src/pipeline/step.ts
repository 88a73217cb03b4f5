// Steps: what a user of the framework writes. A step says which columns it reads and writes and is otherwise a plain function over a batch.
// Why curried (`score<Home>()("blend", ...)`): TypeScript infers all type arguments of a call or none. The first call takes the request type, the second
// infers the columns from the declarations, so that they are written once.
// Invariants: 1. a step sees only the columns it declared  2. it keeps no array after it returned (or its promise settled): arrays are reused
//             3. columns of type `str` may be longer than `batch.n`, number columns are exactly `batch.n` long.

import type { ArrayOf, ArraysOf, ColumnSpecs, Reads } from "./column.ts";

export type Await<T> = T | PromiseLike<T>;

/** What a step knows about its request. */
export interface StepContext<R> {
  readonly req: R;
  /** Aborted at the step's timeout, at the end of the request's time, and when the caller gives up. */
  readonly signal: AbortSignal;
  /** Wall time at which the request began, milliseconds since 1970; the same for all steps of a request. */
  readonly nowMs: number;
  /** Rows in the batch when the step began. */
  readonly rows: number;
  /** Milliseconds left for this step: until its timeout or the end of the request's time, whichever is first. May be negative. */
  remainingMs(): number;
}

export interface SourceContext<R> extends StepContext<R> {
  /** Rows that will be kept of this source: its quota, else the batch limit. Emitting more is allowed, the first `limit` are kept. */
  readonly limit: number;
}

export interface SelectContext<R> extends StepContext<R> {
  /** Work space of `length` values, contents unspecified, valid until the selector returns. */
  scratch(length: number): Uint32Array;
  /** Present when the request asked to explain: tells that `row` ranked high enough but was passed over by `rule`. */
  readonly passedOver?: (row: number, rule: string) => void;
}

/** The candidate rows as a step sees them. */
export interface Batch<In extends Reads> {
  readonly n: number;
  /** The item handles; readable by every step without declaring it. */
  readonly id: Uint32Array;
  /** A declared column. Throws `internal` for one that was not declared. */
  col<K extends keyof In & string>(name: K): ArrayOf<In[K]>;
}

/** Columns of a source: the declared ones and the item handles. */
export type Emitted<Out extends ColumnSpecs> = ArraysOf<Out> & { readonly id: Uint32Array };

export type SourceRun<R, Out extends ColumnSpecs> = (ctx: SourceContext<R>, emit: (rows: number) => Emitted<Out>) => Await<void | number>;
export type WriterRun<R, In extends Reads, Out extends ColumnSpecs> = (ctx: StepContext<R>, batch: Batch<In>, out: ArraysOf<Out>) => Await<void>;
export type FilterRun<R, In extends Reads> = (ctx: StepContext<R>, batch: Batch<In>, keep: Uint8Array) => Await<void>;
export type SelectRun<R, In extends Reads> = (ctx: SelectContext<R>, batch: Batch<In>, k: number, order: Uint32Array) => number;

export interface Source<R, Out extends ColumnSpecs, N extends string = string> {
  readonly kind: "source";
  readonly name: N;
  readonly writes: Out;
  readonly run: SourceRun<R, Out>;
}
export interface Hydrate<R, In extends Reads, Out extends ColumnSpecs> {
  readonly kind: "hydrate";
  readonly name: string;
  readonly reads: In;
  readonly writes: Out;
  readonly run: WriterRun<R, In, Out>;
}
export interface Score<R, In extends Reads, Out extends ColumnSpecs> {
  readonly kind: "score";
  readonly name: string;
  readonly reads: In;
  readonly writes: Out;
  readonly run: WriterRun<R, In, Out>;
}
export interface Filter<R, In extends Reads> {
  readonly kind: "filter";
  readonly name: string;
  readonly reads: In;
  readonly run: FilterRun<R, In>;
}
export interface Select<R, In extends Reads> {
  readonly kind: "select";
  readonly name: string;
  readonly reads: In;
  readonly run: SelectRun<R, In>;
}

/** Nothing for columns a step may write; else an object type no declaration has, whose key is the message the compiler prints. */
type CheckReserved<Out> = [keyof Out & ("id" | "sources")] extends [never]
  ? unknown
  : { readonly "the framework itself writes this column": keyof Out & ("id" | "sources") };

/**
 * Declares a source of candidates. `run` calls `emit(rows)` and fills the arrays it gets (`id` and the declared columns, preset to their defaults).
 * It may emit several times (fill before the next call), and may return how many rows are used when it emitted more than it filled.
 */
export function source<R = unknown>() {
  return <const Out extends ColumnSpecs, const N extends string>(name: N, writes: Out & CheckReserved<Out>, run: SourceRun<R, Out>): Source<R, Out, N> => ({
    kind: "source",
    name,
    writes,
    run,
  });
}

/** Declares a step that adds columns. `out` holds exactly `batch.n` values a column: the values so far, else the column's default. */
export function hydrate<R = unknown>() {
  return <const In extends Reads, const Out extends ColumnSpecs>(
    name: string,
    reads: In,
    writes: Out & CheckReserved<Out>,
    run: WriterRun<R, In, Out>,
  ): Hydrate<R, In, Out> => ({
    kind: "hydrate",
    name,
    reads,
    writes,
    run,
  });
}

/** Declares a step that judges rows. The column `score` (f32, default 0) is the one selectors use; others may be written beside it. */
export function score<R = unknown>() {
  return <const In extends Reads, const Out extends ColumnSpecs>(
    name: string,
    reads: In,
    writes: Out & CheckReserved<Out>,
    run: WriterRun<R, In, Out>,
  ): Score<R, In, Out> => ({
    kind: "score",
    name,
    reads,
    writes,
    run,
  });
}

/** Declares a step that drops rows: `keep` is all 1, write 0 for the rows to drop. */
export function filter<R = unknown>() {
  return <const In extends Reads>(name: string, reads: In, run: FilterRun<R, In>): Filter<R, In> => ({ kind: "filter", name, reads, run });
}

/** Declares a step that chooses and orders: writes row numbers into `order` (length `batch.n`), best first, and returns how many (at most k). Synchronous. */
export function select<R = unknown>() {
  return <const In extends Reads>(name: string, reads: In, run: SelectRun<R, In>): Select<R, In> => ({ kind: "select", name, reads, run });
}
