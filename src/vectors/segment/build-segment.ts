// Builds a segment out of rows: clusters them, puts them in the order of their lists, makes their codes.
//
//   sample -> centroids (k-means) -> each row to its list; scales, means -> order of slots -> codebook on a sample of differences -> rows, codes by slot
//
// A list's centroid is the mean of its rows, and its spread the deviation of a row's score from the centroid's: what a search judges lists by (kernels/vector-ivf.ts).
// Invariants: 1. pure: the same rows, options and kernel variant give the same bytes  2. each row has one slot; no list is empty  3. the input is only read.
// Cost: rows x lists x dims multiplications, and 0.4 of that for at most 40 rows a list (docs/design/vectors.md). Memory: segmentBytes.
// Concurrency: computes in its thread and lets others in at `onProgress` only: builds run in a thread or process of their own.

import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { codeCount, codePointsBytes, codes4Bytes } from "#kernel/ivf-layout";
import { Centroids, codebookScratchBytes, findCentroids, findCodebook, sampleRows } from "#kernel/k-means";
import { KernelMemory, roundUp } from "#kernel/kernel-memory";
import {
  bitmapBytes,
  codeBytes,
  createVectorBlock,
  rowFloats,
  setSlot,
  slotsFor,
  slotsUnit,
  type VectorBlock,
  vectorBlockBytes,
  type VectorMetric,
  type VectorShape,
} from "#kernel/vector-layout";
import { quantise, scalesOf, writeRows } from "#kernel/vector-rows";
import { paddingSlot, type SegmentArray, type SegmentParts, type SegmentRows } from "./segment-parts.ts";

export interface SegmentOptions {
  readonly metric: VectorMetric;
  /** Default: listsFor(rows). 1: no index. */
  readonly lists?: number;
  readonly seed?: number | string;
  /** 0 to 1; called every some ten milliseconds. The build waits for what it returns. */
  readonly onProgress?: (share: number) => void | Promise<void>;
  readonly signal?: AbortSignal;
}

/** Rows written and coded at a time. */
const chunkRows = 8_192;
/** Differences that the codebook is found on. */
const bookRows = 20_000;
/** Up to so many rows exact search is as fast as looking for the right ones. */
const rowsWithoutIndex = 20_000;

/** Lists that suit so many rows. 1: no index. */
export function listsFor(rows: number): number {
  if (rows < rowsWithoutIndex) return 1;
  return Math.min(2_048, 2 ** Math.round(Math.log2(3.5 * Math.sqrt(rows))));
}

/** Bytes that a build of this size takes beside its input (its working memory and the arrays it returns), and about what a loaded segment takes, without ids. */
export function segmentBytes(rows: number, dims: number, lists = listsFor(rows)): { readonly build: number; readonly loaded: number } {
  const slots = slotsFor(rows + (lists > 1 ? (lists * slotsUnit) / 2 : 0));
  const arrays = slots * (rowFloats(dims) * 4 + codeBytes(dims) + 8) + codes4Bytes(lists > 1 ? slots : 0, dims) + lists * (rowFloats(dims) * 4 + 16);
  const working = lists > 1 ? sampleRows(lists, rows) * (rowFloats(dims) * 4 + 8) + 4 * lists * rowFloats(dims) * 4 : 0;
  const chunk = chunkRows * (rowFloats(dims) * 8 + codeBytes(dims) + 64) + bookRows * rowFloats(dims) * 4;
  return { build: arrays + working + chunk + rows * 8, loaded: arrays + slots * 12 + slots / 4 };
}

function copyOf(memory: KernelMemory, at: number, bytes: number): ArrayBuffer {
  const copy = new ArrayBuffer(bytes);
  new Uint8Array(copy).set(memory.bytes.subarray(at, at + bytes));
  return copy;
}

/** Throws `invalid` for rows that are not finite (cosine: or of length 0), and for options that cannot be. */
export async function buildSegment(rows: SegmentRows, options: SegmentOptions): Promise<SegmentParts> {
  const { vectors, count, dims } = rows;
  const shape: VectorShape = { dims, metric: options.metric };
  if (!Number.isInteger(count) || count < 1 || vectors.length < count * dims) {
    throw new MillraceError("invalid", `a segment of ${count} rows out of ${vectors.length} numbers of ${dims} a row`, { todo: "give at least one whole row" });
  }
  const asked = options.lists ?? listsFor(count);
  if (!Number.isInteger(asked) || asked < 1 || asked > 65_536)
    throw new MillraceError("invalid", `a segment of ${asked} lists`, { todo: "ask for 1 to 65,536" });
  const build = new Build(rows, shape, Math.min(asked, count), options);
  return build.run();
}

class Build {
  readonly #rows: SegmentRows;
  readonly #shape: VectorShape;
  readonly #options: SegmentOptions;
  readonly #floats: number;
  readonly #memory: KernelMemory;
  readonly #prng: Prng;
  readonly #centroids: Centroids | undefined;
  /** A part of the rows as a block, for the kernels of rows and codes. */
  readonly #chunk: VectorBlock;
  readonly #listAt: number;
  readonly #scoreAt: number;
  readonly #wideAt: number;

  constructor(rows: SegmentRows, shape: VectorShape, lists: number, options: SegmentOptions) {
    this.#rows = rows;
    this.#shape = shape;
    this.#options = options;
    this.#floats = rowFloats(shape.dims);
    this.#prng = new Prng(options.seed ?? "segment");
    const sample = lists > 1 ? sampleRows(lists, rows.count) : 0;
    const wide = Math.max(sample, lists > 1 ? Math.min(bookRows, rows.count) : 0) + 4;
    const parts = { codes: true, live: true };
    this.#memory = KernelMemory.create({
      dataBytes:
        vectorBlockBytes(shape, chunkRows, parts) +
        (lists > 1 ? Centroids.bytes(shape, lists) : 0) +
        2 * roundUp((Math.max(wide, chunkRows) + 4) * 4, 64) +
        roundUp(wide * this.#floats * 4, 64) +
        roundUp(codeCount(shape.dims) * codePointsBytes, 64) +
        roundUp(codebookScratchBytes(shape.dims), 64) +
        roundUp(codes4Bytes(chunkRows, shape.dims), 64) +
        chunkRows * 4 +
        2 * 64,
    });
    this.#chunk = createVectorBlock(this.#memory, shape, chunkRows, parts);
    this.#centroids = lists > 1 ? new Centroids(this.#memory, shape, lists) : undefined;
    this.#listAt = this.#memory.reserve((Math.max(wide, chunkRows) + 4) * 4);
    this.#scoreAt = this.#memory.reserve((Math.max(wide, chunkRows) + 4) * 4);
    this.#wideAt = this.#memory.reserve(wide * this.#floats * 4);
  }

  async #progress(share: number): Promise<void> {
    this.#options.signal?.throwIfAborted();
    await this.#options.onProgress?.(Math.min(1, share));
  }

  /** Puts rows of the input, as the metric wants them, into the chunk. Slots of `paddingSlot` are zeros and not live. */
  #fill(count: number, rowAt: (i: number) => number, norms?: Float32Array): void {
    const { vectors } = this.#rows;
    const { dims } = this.#shape;
    const whole = slotsFor(count);
    const part = new Float32Array(whole * dims);
    this.#memory.bytes.fill(0, this.#chunk.liveAt, this.#chunk.liveAt + bitmapBytes(chunkRows));
    for (let i = 0; i < count; i++) {
      const row = rowAt(i);
      if (row === paddingSlot) continue;
      part.set(vectors.subarray(row * dims, (row + 1) * dims), i * dims);
      setSlot(this.#memory, this.#chunk.liveAt, i, true);
    }
    writeRows(this.#chunk, 0, part, norms);
  }

  async run(): Promise<SegmentParts> {
    const { count } = this.#rows;
    const listOf = new Uint32Array(count);
    if (this.#centroids !== undefined) await this.#cluster(this.#centroids);
    const assigned = await this.#assign(listOf);
    const order = this.#order(listOf, assigned.sizes);
    const lists = assigned.sizes.length;
    const starts = new Uint32Array(lists + 1);
    for (let list = 0; list < lists; list++) starts[list + 1] = starts[list]! + slotsFor(assigned.sizes[list]!);
    const slots = order.length;
    const arrays = new Map<string, SegmentArray>([["starts", starts]]);
    let codeError = 0;
    let bookAt = 0;
    let centroidsAt = 0;
    if (this.#centroids !== undefined && lists > 1) {
      centroidsAt = this.#centroids.rowsAt;
      // Lists without rows are left out: what stays moves up.
      const f32 = this.#memory.f32;
      assigned.kept.forEach((from, to) =>
        f32.copyWithin(centroidsAt / 4 + to * this.#floats, centroidsAt / 4 + from * this.#floats, centroidsAt / 4 + (from + 1) * this.#floats),
      );
      arrays.set("centroids", new Float32Array(copyOf(this.#memory, centroidsAt, lists * this.#floats * 4)));
      arrays.set("spreads", assigned.spreads);
      if (this.#shape.metric === "l2") arrays.set("list-bias", assigned.biases);
      bookAt = this.#memory.reserve(codeCount(this.#shape.dims) * codePointsBytes);
      codeError = await this.#codebook(order, starts, centroidsAt, bookAt);
      arrays.set("points", new Float32Array(copyOf(this.#memory, bookAt, codeCount(this.#shape.dims) * codePointsBytes)));
    }
    await this.#encode(order, starts, assigned.sizes, arrays, centroidsAt, bookAt);
    await this.#progress(1);
    return {
      shape: this.#shape,
      rows: count,
      slots,
      lists,
      order,
      arrays,
      statistics: { codeError, listRowsMax: assigned.sizes.reduce((a, b) => Math.max(a, b), 0), paddingShare: 1 - count / slots },
    };
  }

  async #cluster(centroids: Centroids): Promise<void> {
    const { count } = this.#rows;
    const rows = sampleRows(centroids.count, count);
    const picked = pick(count, rows, this.#prng.fork("sample"));
    const { f32 } = this.#memory;
    for (let from = 0; from < rows; from += chunkRows) {
      const part = Math.min(chunkRows, rows - from);
      this.#fill(part, (i) => picked[from + i]!);
      f32.copyWithin(this.#wideAt / 4 + from * this.#floats, this.#chunk.rowsAt / 4, this.#chunk.rowsAt / 4 + part * this.#floats);
    }
    await findCentroids(
      this.#memory,
      centroids,
      this.#shape,
      { at: this.#wideAt, rows, listAt: this.#listAt, scoreAt: this.#scoreAt },
      this.#prng.fork("centroids"),
      (share) => this.#progress(0.35 * share),
    );
  }

  /** Gives each row its list, finds means and spreads; scales of the int8 codes are those of all rows after it. */
  async #assign(listOf: Uint32Array): Promise<{ sizes: Uint32Array; kept: number[]; spreads: Float32Array; biases: Float32Array }> {
    const { count } = this.#rows;
    const { dims } = this.#shape;
    const { f32, u32 } = this.#memory;
    const centroids = this.#centroids;
    const total = centroids?.count ?? 1;
    const squares = new Float64Array(total);
    const counts = new Uint32Array(total);
    centroids?.prepare();
    centroids?.clearSums();
    for (let from = 0; from < count; from += chunkRows) {
      const part = Math.min(chunkRows, count - from);
      this.#fill(part, (i) => from + i);
      const bad = scalesOf(this.#chunk, 0, slotsFor(part));
      if (bad > 0) throw new MillraceError("invalid", `${bad} rows of a segment are not finite`, { todo: "leave them out" });
      centroids?.nearest(this.#chunk.rowsAt, part, this.#listAt, this.#scoreAt);
      centroids?.add(this.#chunk.rowsAt, part, this.#listAt);
      for (let i = 0; i < part; i++) {
        const list = centroids === undefined ? 0 : u32[this.#listAt / 4 + i]!;
        const row = this.#chunk.rowsAt / 4 + i * this.#floats;
        let square = 0;
        for (let j = row; j < row + dims; j++) square += f32[j]! * f32[j]!;
        if (this.#shape.metric === "cosine" && square < 0.5) throw new MillraceError("invalid", "a row of length 0 has no cosine", { todo: "leave it out" });
        squares[list]! += square;
        counts[list]!++;
        listOf[from + i] = list;
      }
      await this.#progress(0.35 + (0.45 * (from + part)) / count);
    }
    centroids?.useMeans(false);
    const kept: number[] = [];
    const numberOf = new Uint32Array(total);
    counts.forEach((size, list) => {
      if (size > 0) numberOf[list] = kept.push(list) - 1;
    });
    for (let i = 0; i < count; i++) listOf[i] = numberOf[listOf[i]!]!;
    const spreads = new Float32Array(kept.length);
    const biases = new Float32Array(kept.length);
    kept.forEach((list, at) => {
      let mean = 0;
      if (centroids !== undefined) for (let j = centroids.rowsAt / 4 + list * this.#floats, end = j + dims; j < end; j++) mean += f32[j]! * f32[j]!;
      const square = squares[list]! / counts[list]!;
      // Of a list of one row, or of equal ones, nothing is known but that it is not sure.
      spreads[at] = Math.sqrt(Math.max(square - mean, 1e-4 * square, 1e-30) / dims);
      biases[at] = -square / 2;
    });
    return { sizes: Uint32Array.from(kept, (list) => counts[list]!), kept, spreads, biases };
  }

  /** Slots of the lists one after another, rows in the order of the input. */
  #order(listOf: Uint32Array, sizes: Uint32Array): Uint32Array {
    const next = new Uint32Array(sizes.length);
    let slots = 0;
    sizes.forEach((size, list) => {
      next[list] = slots;
      slots += slotsFor(size);
    });
    const order = new Uint32Array(slots).fill(paddingSlot);
    listOf.forEach((list, row) => (order[next[list]!++] = row));
    return order;
  }

  async #codebook(order: Uint32Array, starts: Uint32Array, centroidsAt: number, bookAt: number): Promise<number> {
    const prng = this.#prng.fork("codes");
    const rows = Math.min(bookRows, this.#rows.count);
    const slots: number[] = [];
    while (slots.length < rows) {
      const slot = prng.below(order.length);
      if (order[slot] !== paddingSlot) slots.push(slot);
    }
    slots.sort((a, b) => a - b);
    const { f32 } = this.#memory;
    const floats = this.#floats;
    let list = 0;
    for (let from = 0; from < rows; from += chunkRows) {
      const part = Math.min(chunkRows, rows - from);
      this.#fill(part, (i) => order[slots[from + i]!]!);
      for (let i = 0; i < part; i++) {
        while (starts[list + 1]! <= slots[from + i]!) list++;
        const to = this.#wideAt / 4 + (from + i) * floats;
        const row = this.#chunk.rowsAt / 4 + i * floats;
        const centroid = centroidsAt / 4 + list * floats;
        for (let j = 0; j < floats; j++) f32[to + j] = f32[row + j]! - f32[centroid + j]!;
      }
    }
    const scratchAt = this.#memory.reserve(codebookScratchBytes(this.#shape.dims));
    const left = findCodebook(this.#memory, this.#shape.dims, this.#wideAt, rows, bookAt, scratchAt, prng);
    await this.#progress(0.85);
    return Math.sqrt(left / this.#shape.dims);
  }

  async #encode(
    order: Uint32Array,
    starts: Uint32Array,
    sizes: Uint32Array,
    arrays: Map<string, SegmentArray>,
    centroidsAt: number,
    bookAt: number,
  ): Promise<void> {
    const { dims, metric } = this.#shape;
    const { u32, bytes, calls } = this.#memory;
    const slots = order.length;
    const rows = new Float32Array(slots * this.#floats);
    const codes8 = new Int8Array(slots * codeBytes(dims));
    const live = new Uint32Array(slots / slotsUnit);
    const norms = metric === "cosine" ? new Float32Array(slots) : undefined;
    const bias = metric === "l2" ? new Float32Array(slots) : undefined;
    const coded = bookAt !== 0;
    const codes4 = coded ? new Uint8Array(codes4Bytes(slots, dims)) : undefined;
    const codes4At = coded ? this.#memory.reserve(codes4Bytes(chunkRows, dims)) : 0;
    const errors = coded ? new Float64Array(starts.length - 1) : undefined;
    const errorsAt = coded ? this.#memory.reserve(chunkRows * 4) : 0;
    const scratchAt = this.#scoreAt;
    const chunk = this.#chunk;
    let list = 0;
    for (let from = 0; from < slots; from += chunkRows) {
      const part = Math.min(chunkRows, slots - from);
      const chunkNorms = norms === undefined ? undefined : new Float32Array(part);
      this.#fill(part, (i) => order[from + i]!, chunkNorms);
      quantise(chunk, 0, part);
      new Uint8Array(rows.buffer).set(bytes.subarray(chunk.rowsAt, chunk.rowsAt + part * this.#floats * 4), from * this.#floats * 4);
      new Uint8Array(codes8.buffer).set(bytes.subarray(chunk.codesAt, chunk.codesAt + part * codeBytes(dims)), from * codeBytes(dims));
      live.set(u32.subarray(chunk.liveAt / 4, chunk.liveAt / 4 + part / slotsUnit), from / slotsUnit);
      if (norms !== undefined && chunkNorms !== undefined) norms.set(chunkNorms, from);
      if (bias !== undefined) for (let i = 0; i < part; i++) bias[from + i] = order[from + i] === paddingSlot ? 0 : this.#memory.f32[chunk.biasAt / 4 + i]!;
      if (codes4 !== undefined) {
        for (let block = 0; block < part / slotsUnit; block++) {
          while (starts[list + 1]! <= from + block * slotsUnit) list++;
          u32[this.#listAt / 4 + block] = list;
        }
        calls.codes4Encode(chunk.rowsAt, part / slotsUnit, this.#floats * 4, this.#listAt, centroidsAt, bookAt, codeCount(dims), codes4At, errorsAt, scratchAt);
        const size = codes4Bytes(part, dims);
        codes4.set(bytes.subarray(codes4At, codes4At + size), codes4Bytes(from, dims));
        for (let i = 0; i < part; i++) if (order[from + i] !== paddingSlot) errors![u32[this.#listAt / 4 + (i >>> 5)]!]! += this.#memory.f32[errorsAt / 4 + i]!;
      }
      await this.#progress(0.85 + (0.15 * (from + part)) / slots);
    }
    arrays.set("live", live).set("rows", rows).set("codes8", codes8);
    arrays.set("scales", new Float32Array(copyOf(this.#memory, chunk.scalesAt, codeBytes(dims) * 4)));
    if (norms !== undefined) arrays.set("norms", norms);
    if (bias !== undefined) arrays.set("bias", bias);
    if (codes4 !== undefined && errors !== undefined) {
      arrays.set("codes4", codes4);
      arrays.set(
        "code-errors",
        Float32Array.from(errors, (square, at) => Math.sqrt(square / sizes[at]! / dims)),
      );
    }
  }
}

/** `some` of the numbers below `count`, in random order. */
function pick(count: number, some: number, prng: Prng): Uint32Array {
  const all = new Uint32Array(count);
  for (let i = 0; i < count; i++) all[i] = i;
  for (let i = 0; i < some; i++) {
    const j = i + prng.below(count - i);
    const kept = all[i]!;
    all[i] = all[j]!;
    all[j] = kept;
  }
  return all.subarray(0, some);
}
