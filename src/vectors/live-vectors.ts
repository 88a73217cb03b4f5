// Vectors that move while they are searched: row r belongs to item handle r, one thread rewrites rows, any number of threads search them exactly.
//
//   header   64 bytes: u32 magic, u32 rowsMax, u32 dims, u32 cosineDims, u32 rowCount, u32 address of the rows, u32 address of the unit rows
//   rows     f32[dims], zeros, one state word; a multiple of 16 bytes (dims 17: 20 floats)
//   units    f32[cosineDims], zeros: the first cosineDims numbers of the row, divided by their length
//
// Why exact: 100,000 rows of 20 floats are 8 MB, less than a millisecond of one core, and a row written now is found by the next search. Why a second,
// normalised block: cosine is not an inner product with rows of different lengths; fetching more by inner product first has no bound (one long row pushes any
// number of better ones out), and dividing in JavaScript costs 4 to 5 times the scan. It takes 4 * cosineDims bytes a row more.
// The state word stands where the query has a zero: its bits are those of a float in [1, 2), so it adds 0 to the product; its low bit says "being written".
//
// Invariants: 1. a row without an answer (hidden, never written, not finite) has NaN as its first number, so no scan finds it  2. a row becomes visible by its
// first number, written last, and hidden by its first number, written first: no product holds numbers of a hidden row  3. rows below rowCount are laid out;
// what stands beyond may be anything.
// Torn rows: a scan may read a row while it is written and choose it, or not, by a product of old and new numbers, off by at most
// sum |q_j| |new_j - old_j|. So answers are read again as whole versions and scored by them: what is reported is the score of one whole version, and only the
// choice at the edge of the k may be wrong by that bound, until the next search. See docs/design/vectors.md.
// Cost: a write 0.5 us; a scan reads each byte once (bench/exact-search.ts); answers 0.2 us each (src/ranking/ranking.bench.ts).
// Concurrency: one thread writes (`write`, `hide`); any thread reads, each through its own lane of the memory.
// Limits: rowsMax; answersMax of a search; a reader gives up on a row that stays half written (its writer died): it counts as hidden until it is written again.

import { MillraceError } from "#base/errors";
import { f32RowBytes, type TopK } from "#kernel/dot-top-k";
import { type KernelMemory, roundUp } from "#kernel/kernel-memory";
import { checkHeader } from "#kernel/memory-header";

const magic = 0x31_56_4c_4d; // "MLV1"
const headerBytes = 64;
const rowCountWord = 4;
/** Bits of 1.0f: a state word is this and a counter of 23 bits. */
const stateBase = 0x3f80_0000;
const counterMask = 0x007f_ffff;
/** Reads of a row that is being written before it counts as hidden: a write takes about as long as 20 of them. */
const readsMax = 10_000;

export const liveVectorLimits = { answersMax: 10_000, rowsMax: 50_000_000 } as const;

export interface LiveVectorsShape {
  readonly rowsMax: number;
  /** Numbers of a row that count for the inner product. */
  readonly dims: number;
  /** The first so many count for the cosine; 0: no search by cosine. At most dims. */
  readonly cosineDims: number;
}

export type VectorMeasure = "dot" | "cosine";

export class LiveVectors {
  readonly memory: KernelMemory;
  /** Address of the header: what another thread attaches to. */
  readonly at: number;
  readonly rowsMax: number;
  readonly dims: number;
  readonly cosineDims: number;
  /** Floats from one row to the next. */
  readonly stride: number;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #f32: Float32Array<SharedArrayBuffer>;
  readonly #rowsFrom: number;
  readonly #unitsFrom: number;
  readonly #unitStride: number;

  private constructor(memory: KernelMemory, at: number) {
    const head = at / 4;
    const { u32 } = memory;
    checkHeader(memory, at, headerBytes, magic, "live vectors", "a LiveVectors");
    this.memory = memory;
    this.at = at;
    this.rowsMax = u32[head + 1]!;
    this.dims = u32[head + 2]!;
    this.cosineDims = u32[head + 3]!;
    this.stride = f32RowBytes(this.dims + 1) / 4;
    this.#unitStride = this.cosineDims === 0 ? 0 : f32RowBytes(this.cosineDims) / 4;
    this.#rowsFrom = u32[head + 5]! / 4;
    this.#unitsFrom = u32[head + 6]! / 4;
    this.#words = new Int32Array(memory.memory.buffer);
    this.#f32 = memory.f32;
  }

  /** Bytes that `create` reserves. Throws `invalid` for a shape that cannot be. */
  static bytesFor(shape: LiveVectorsShape): number {
    const { rowsMax, dims, cosineDims } = shape;
    if (!Number.isInteger(rowsMax) || rowsMax < 1 || rowsMax > liveVectorLimits.rowsMax) {
      throw new MillraceError("invalid", `live vectors of ${rowsMax} rows`, { todo: `ask for 1 to ${liveVectorLimits.rowsMax}` });
    }
    if (!Number.isInteger(cosineDims) || cosineDims < 0 || cosineDims > dims) {
      throw new MillraceError("invalid", `cosines of ${cosineDims} of ${dims} numbers`, { todo: "use 0 to all of them" });
    }
    return headerBytes + roundUp(rowsMax * f32RowBytes(dims + 1), 64) + (cosineDims === 0 ? 0 : roundUp(rowsMax * f32RowBytes(cosineDims), 64));
  }

  /** Reserves and lays out an empty block. Touches only the header: memory is used as rows are written. */
  static create(memory: KernelMemory, shape: LiveVectorsShape): LiveVectors {
    const at = memory.reserve(LiveVectors.bytesFor(shape));
    const rowsAt = at + headerBytes;
    const unitsAt = rowsAt + roundUp(shape.rowsMax * f32RowBytes(shape.dims + 1), 64);
    memory.u32.set([magic, shape.rowsMax, shape.dims, shape.cosineDims, 0, rowsAt, unitsAt, 0], at / 4);
    return new LiveVectors(memory, at);
  }

  /** Joins what another thread created, through this thread's view of the same memory. Throws `corrupt` where there is none. */
  static attach(memory: KernelMemory, at: number): LiveVectors {
    return new LiveVectors(memory, at);
  }

  /** Rows that scans look at: one more than the highest row ever written. */
  get rowCount(): number {
    return Atomics.load(this.#words, this.at / 4 + rowCountWord) >>> 0;
  }

  /**
   * Replaces row `row` by `dims` numbers of `values` from `from` on; it is found from now on. Numbers that are not finite hide the row.
   * Throws `invalid` for a row beyond rowsMax.
   */
  write(row: number, values: Float32Array, from = 0): void {
    const { dims, cosineDims } = this;
    let squares = 0;
    let rest = 0;
    for (let i = 0; i < cosineDims; i++) squares += values[from + i]! * values[from + i]!;
    for (let i = cosineDims; i < dims; i++) rest += values[from + i]!;
    // 0 x Infinity and 0 x NaN are NaN.
    if ((squares + rest) * 0 !== 0) return this.hide(row);
    this.#reach(row);
    const f32 = this.#f32;
    const first = this.#rowsFrom + row * this.stride;
    const counter = this.#open(first);
    for (let i = dims - 1; i >= 0; i--) f32[first + i] = values[from + i]!;
    if (cosineDims > 0) {
      const unit = this.#unitsFrom + row * this.#unitStride;
      // A row without length has no direction: 0 / 0 = NaN hides it from searches by cosine.
      const length = Math.sqrt(squares);
      for (let i = cosineDims - 1; i >= 0; i--) f32[unit + i] = values[from + i]! / length;
    }
    this.#close(first, counter);
  }

  /** No search finds the row until it is written again. */
  hide(row: number): void {
    this.#reach(row);
    const first = this.#rowsFrom + row * this.stride;
    const counter = this.#open(first);
    this.#f32[first] = NaN;
    if (this.cosineDims > 0) this.#f32[this.#unitsFrom + row * this.#unitStride] = NaN;
    this.#close(first, counter);
  }

  /** Copies one whole version of a row to `into` (at least dims numbers). False: hidden, never written, or no such row; `into` then holds nothing of meaning. */
  read(row: number, into: Float32Array): boolean {
    if (!Number.isInteger(row) || row < 0 || row >= this.rowCount) return false;
    const words = this.#words;
    const f32 = this.#f32;
    const { dims } = this;
    const first = this.#rowsFrom + row * this.stride;
    const state = first + this.stride - 1;
    for (let tries = 0; tries < readsMax; tries++) {
      const before = Atomics.load(words, state);
      if ((before & 1) === 1) continue;
      for (let i = 0; i < dims; i++) into[i] = f32[first + i]!;
      if (Atomics.load(words, state) === before) return !Number.isNaN(into[0]);
    }
    return false;
  }

  /**
   * A search that its caller may cut into pieces. `query`: dims numbers for `dot`, cosineDims for `cosine` (of any length but 0). Finds at most `k` rows, never `except`.
   * Throws `invalid` for a query of another size, a k beyond the limit, or a cosine that the block has not.
   */
  scan(measure: VectorMeasure, query: Float32Array, k: number, except = -1): VectorScan {
    const dims = measure === "dot" ? this.dims : this.cosineDims;
    if (dims === 0) throw new MillraceError("invalid", "a search by cosine of vectors kept without", { todo: "create them with cosineDims" });
    if (query.length !== dims) {
      throw new MillraceError("invalid", `a query of ${query.length} numbers where ${dims} count`, { todo: "give as many numbers as the search compares" });
    }
    if (!Number.isInteger(k) || k < 1 || k > liveVectorLimits.answersMax) {
      throw new MillraceError("invalid", `a search for ${k} vectors`, { todo: `ask for 1 to ${liveVectorLimits.answersMax}` });
    }
    const [rowsAt, strideBytes] = measure === "dot" ? [this.#rowsFrom * 4, this.stride * 4] : [this.#unitsFrom * 4, this.#unitStride * 4];
    return new VectorScan(this, measure, query, k, except, rowsAt, strideBytes);
  }

  /** The best `into.rows.length` rows at once, best first, equal scores by the lower row. Returns `into`. */
  search(measure: VectorMeasure, query: Float32Array, into: TopK, except = -1): TopK {
    const scan = this.scan(measure, query, into.rows.length, except);
    while (!scan.advance(this.rowsMax));
    return scan.answers(into);
  }

  /** Makes the row part of the block, laid out as hidden, with all rows below it. */
  #reach(row: number): void {
    if (!Number.isInteger(row) || row < 0 || row >= this.rowsMax) {
      throw new MillraceError("invalid", `vector ${row} of ${this.rowsMax}`, { todo: "create the block with a larger rowsMax" });
    }
    const known = this.rowCount;
    if (row < known) return;
    const f32 = this.#f32;
    for (let next = known; next <= row; next++) {
      const first = this.#rowsFrom + next * this.stride;
      f32.fill(0, first + 1, first + this.stride);
      f32[first] = NaN;
      this.#words[first + this.stride - 1] = stateBase;
      if (this.cosineDims > 0) {
        const unit = this.#unitsFrom + next * this.#unitStride;
        f32.fill(0, unit + 1, unit + this.#unitStride);
        f32[unit] = NaN;
      }
    }
    Atomics.store(this.#words, this.at / 4 + rowCountWord, row + 1);
  }

  /** Marks the row as being written, also when a dead writer left it so; returns the counter to close it with. */
  #open(first: number): number {
    const state = first + this.stride - 1;
    const counter = (this.#words[state]! & counterMask) | 1;
    Atomics.store(this.#words, state, stateBase | counter);
    return counter;
  }

  #close(first: number, counter: number): void {
    Atomics.store(this.#words, first + this.stride - 1, stateBase | ((counter + 1) & counterMask));
  }
}

/** One search, piece by piece: other work of the thread, kernel calls too, may come between the pieces. */
export class VectorScan {
  readonly #vectors: LiveVectors;
  readonly #measure: VectorMeasure;
  readonly #query: Float32Array;
  readonly #k: number;
  readonly #except: number;
  readonly #rowsAt: number;
  readonly #strideBytes: number;
  readonly #scores: Float32Array;
  readonly #rows: Uint32Array;
  #size = 0;
  #next = 0;

  constructor(vectors: LiveVectors, measure: VectorMeasure, query: Float32Array, k: number, except: number, rowsAt: number, strideBytes: number) {
    this.#vectors = vectors;
    this.#measure = measure;
    this.#query = query;
    this.#k = k;
    this.#except = except;
    this.#rowsAt = rowsAt;
    this.#strideBytes = strideBytes;
    // One more than asked for, because `except` may be among them.
    const kept = except < 0 ? k : k + 1;
    this.#scores = new Float32Array(kept);
    this.#rows = new Uint32Array(kept);
  }

  /** Looks at the next `rowsMax` rows. True: all rows were looked at. */
  advance(rowsMax: number): boolean {
    const { memory, rowCount } = this.#vectors;
    const { lane, calls, f32, u32 } = memory;
    const count = Math.min(rowsMax, rowCount - this.#next);
    if (count <= 0) return true;
    const kept = this.#rows.length;
    lane.reset();
    const heap = lane.take(16 + 8 * kept);
    const queryAt = lane.take(this.#strideBytes);
    f32.fill(0, queryAt / 4, (queryAt + this.#strideBytes) / 4);
    f32.set(this.#query, queryAt / 4);
    calls.topKReset(heap, kept);
    const scoresFrom = heap / 4 + 4;
    const rowsFrom = scoresFrom + kept;
    // What earlier pieces found goes on filtering: worst first is a heap (its root is the worst, kernels/dot-top-k.ts).
    u32[heap / 4 + 1] = this.#size;
    for (let i = 0, from = this.#size - 1; from >= 0; i++, from--) {
      f32[scoresFrom + i] = this.#scores[from]!;
      u32[rowsFrom + i] = this.#rows[from]!;
    }
    calls.dotTopK(heap, this.#rowsAt + this.#next * this.#strideBytes, count, this.#strideBytes, this.#strideBytes, queryAt, this.#next);
    this.#size = calls.topKSort(heap) >>> 0;
    this.#scores.set(f32.subarray(scoresFrom, scoresFrom + this.#size));
    this.#rows.set(u32.subarray(rowsFrom, rowsFrom + this.#size));
    this.#next += count;
    return this.#next >= rowCount;
  }

  /**
   * Writes what was found to `into`, best first. Each row is read again as one whole version and scored by it; one that was hidden meanwhile is left out.
   * Of two rows with equal scores the lower comes first.
   */
  answers(into: TopK): TopK {
    const row = new Float32Array(this.#vectors.dims);
    const query = this.#query;
    const most = Math.min(this.#k, into.rows.length);
    let size = 0;
    for (let i = 0; i < this.#size; i++) {
      const candidate = this.#rows[i]!;
      if (candidate === this.#except || !this.#vectors.read(candidate, row)) continue;
      const score = this.#measure === "dot" ? dot(query, row, query.length) : cosine(query, row, query.length);
      if (!(score > -Infinity)) continue;
      if (size === most) break;
      let at = size++;
      // Nearly sorted already: only rows that changed since the scan move.
      for (; at > 0 && (into.scores[at - 1]! < score || (into.scores[at - 1] === score && into.rows[at - 1]! > candidate)); at--) {
        into.scores[at] = into.scores[at - 1]!;
        into.rows[at] = into.rows[at - 1]!;
      }
      into.scores[at] = score;
      into.rows[at] = candidate;
    }
    into.size = size;
    return into;
  }
}

function dot(query: Float32Array, row: Float32Array, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += query[i]! * row[i]!;
  return Math.fround(sum);
}

function cosine(query: Float32Array, row: Float32Array, count: number): number {
  let product = 0;
  let queryLength = 0;
  let rowLength = 0;
  for (let i = 0; i < count; i++) {
    product += query[i]! * row[i]!;
    queryLength += query[i]! * query[i]!;
    rowLength += row[i]! * row[i]!;
  }
  return Math.fround(product / Math.sqrt(queryLength * rowLength));
}
