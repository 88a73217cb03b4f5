// Clusters of rows, found on a sample; rows to their clusters; the codebook of 4-bit codes. The typed face of kernels/k-means.ts and vector-codes4.ts.
//
// Source: Lloyd, "Least squares quantization in PCM", IEEE Trans. IT 28(2), 1982; for cosine with centroids of length 1 (Dhillon and Modha, Machine Learning 42, 2001).
// Rounds over samples that grow: the first rounds only have to spread the centroids, and cost a quarter.
// Invariant: the same rows and the same generator give the same centroids, on the same kernel variant.
// Cost: rows x centroids x dims multiplications a round, about 10 a nanosecond in f32, 25 by codes (kernels/centroid-codes.ts). Concurrency: one caller a memory; `nearest` by any thread
// with a lane of its own.

import type { Prng } from "#base/prng";
import { centroidBlocksBytes, centroidCodesBytes, codeCount, codePoints, codePointsBytes, nearestScratchBytes } from "./ivf-layout.ts";
import type { KernelMemory } from "./kernel-memory.ts";
import { rowFloats, type VectorShape } from "./vector-layout.ts";

/** Rows a centroid in each round. */
const roundRows = [10, 10, 20, 20, 40, 40] as const;
export const kMeansRounds = roundRows.length;

/** Rows of a sample for so many centroids. */
export function sampleRows(centroids: number, rows: number): number {
  return Math.min(rows, centroids * roundRows.at(-1)!);
}

/** Where centroids lie: another thread that is told so finds the nearest too, while nobody changes them. */
export interface CentroidPlaces {
  readonly rowsAt: number;
  readonly blocksAt: number;
  readonly biasAt: number;
  readonly sumsAt: number;
  readonly countsAt: number;
  readonly codesAt: number;
}

/** Centroids of a memory, with what finds the nearest. */
export class Centroids {
  readonly #memory: KernelMemory;
  readonly #shape: VectorShape;
  readonly count: number;
  readonly places: CentroidPlaces;

  /** Reserves `bytes(shape, count)`, unless `places` says where they lie. */
  constructor(memory: KernelMemory, shape: VectorShape, count: number, places?: CentroidPlaces) {
    const rowBytes = rowFloats(shape.dims) * 4;
    this.#memory = memory;
    this.#shape = shape;
    this.count = count;
    this.places = places ?? {
      rowsAt: memory.reserve(count * rowBytes),
      blocksAt: memory.reserve(centroidBlocksBytes(count, shape.dims)),
      biasAt: memory.reserve((count + 8) * 4),
      sumsAt: memory.reserve(count * rowBytes),
      countsAt: memory.reserve(count * 4),
      codesAt: memory.reserve(centroidCodesBytes(count, shape.dims)),
    };
  }

  /** f32 rows. */
  get rowsAt(): number {
    return this.places.rowsAt;
  }

  static bytes(shape: VectorShape, count: number): number {
    const rowBytes = rowFloats(shape.dims) * 4;
    return 2 * count * rowBytes + centroidBlocksBytes(count, shape.dims) + (count + 8) * 4 + count * 4 + centroidCodesBytes(count, shape.dims) + 6 * 64;
  }

  /** After the rows changed, before `nearest`. */
  prepare(): void {
    const { f32, calls } = this.#memory;
    const floats = rowFloats(this.#shape.dims);
    const bias = this.places.biasAt / 4;
    f32.fill(-Infinity, bias, bias + this.count + 8);
    for (let c = 0; c < this.count; c++) {
      let square = 0;
      if (this.#shape.metric !== "cosine") for (let i = this.rowsAt / 4 + c * floats, end = i + floats; i < end; i++) square += f32[i]! * f32[i]!;
      f32[bias + c] = -square / 2;
    }
    calls.centroidsTranspose(this.rowsAt, this.count, floats * 4, this.places.blocksAt);
    calls.centroidsCodes(this.rowsAt, this.count, floats * 4, this.places.codesAt);
  }

  /** Bytes of a lane that `nearest` needs for its faster way; with less it takes the slower one, which gives the same. */
  static laneBytes(shape: VectorShape, count: number): number {
    return nearestScratchBytes(count, shape.dims);
  }

  /** Numbers of the nearest centroids (u32) to `listAt`, scores to `scoreAt`. Up to three rows more are read and written. */
  nearest(rowsAt: number, rows: number, listAt: number, scoreAt: number): void {
    const { calls, lane } = this.#memory;
    const { blocksAt, biasAt, codesAt } = this.places;
    const rowBytes = rowFloats(this.#shape.dims) * 4;
    lane.reset();
    const scratchBytes = nearestScratchBytes(this.count, this.#shape.dims);
    if (scratchBytes > lane.free) calls.centroidsNearest(rowsAt, rows, rowBytes, blocksAt, this.count, biasAt, listAt, scoreAt);
    else calls.centroidsNearest8(rowsAt, rows, rowBytes, blocksAt, this.count, biasAt, codesAt, lane.take(scratchBytes), listAt, scoreAt);
  }

  clearSums(): void {
    const { f32, u32 } = this.#memory;
    f32.fill(0, this.places.sumsAt / 4, this.places.sumsAt / 4 + this.count * rowFloats(this.#shape.dims));
    u32.fill(0, this.places.countsAt / 4, this.places.countsAt / 4 + this.count);
  }

  /** Adds rows to the sums of the lists that `nearest` wrote. */
  add(rowsAt: number, rows: number, listAt: number): void {
    this.#memory.calls.centroidsAdd(rowsAt, rows, rowFloats(this.#shape.dims) * 4, listAt, this.places.sumsAt, this.places.countsAt);
  }

  countOf(centroid: number): number {
    return this.#memory.u32[this.places.countsAt / 4 + centroid]!;
  }

  /** Gives the centroids that were put in their length for cosine. */
  toUnitLength(): void {
    const { f32 } = this.#memory;
    const floats = rowFloats(this.#shape.dims);
    for (let from = this.rowsAt / 4, end = from + this.count * floats; from < end; from += floats) {
      let square = 0;
      for (let i = from; i < from + floats; i++) square += f32[i]! * f32[i]!;
      const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
      for (let i = from; i < from + floats; i++) f32[i]! *= scale;
    }
  }

  /** Makes each centroid the mean of what was added; one without stays. */
  useMeans(unitLength: boolean): void {
    const { f32 } = this.#memory;
    const floats = rowFloats(this.#shape.dims);
    for (let c = 0; c < this.count; c++) {
      const count = this.countOf(c);
      if (count === 0) continue;
      const from = this.places.sumsAt / 4 + c * floats;
      let square = 0;
      if (unitLength) for (let i = from; i < from + floats; i++) square += f32[i]! * f32[i]!;
      const scale = unitLength ? (square > 0 ? 1 / Math.sqrt(square) : 0) : 1 / count;
      for (let i = 0; i < floats; i++) f32[this.rowsAt / 4 + c * floats + i] = f32[from + i]! * scale;
    }
  }
}

export interface CentroidSample {
  readonly at: number;
  readonly rows: number;
  /** A word a sample row each, rounded up to four. */
  readonly listAt: number;
  readonly scoreAt: number;
}

/** Gives the first `rows` rows of the sample their nearest centroids, in parts of `part` (a multiple of four); calls `done` with how many it has. */
export type SampleToCentroids = (rows: number, part: number, done: (rows: number) => unknown) => Promise<void>;

/**
 * Finds centroids for the sample (rows in random order). `after`: called with the share that is done, and waited for. `assign`: for who has several threads; what it writes must be what
 * `Centroids.nearest` writes.
 */
export async function findCentroids(
  memory: KernelMemory,
  centroids: Centroids,
  shape: VectorShape,
  sample: CentroidSample,
  prng: Prng,
  after: (share: number) => unknown,
  assign: SampleToCentroids = async (rows, part, done) => {
    for (let from = 0; from < rows; from += part) {
      const count = Math.min(part, rows - from);
      centroids.nearest(sample.at + from * rowFloats(shape.dims) * 4, count, sample.listAt + from * 4, sample.scoreAt + from * 4);
      await done(from + count);
    }
  },
): Promise<void> {
  const { f32 } = memory;
  const floats = rowFloats(shape.dims);
  const copyRow = (row: number, centroid: number): void => {
    f32.copyWithin(centroids.rowsAt / 4 + centroid * floats, sample.at / 4 + row * floats, sample.at / 4 + (row + 1) * floats);
  };
  for (let c = 0; c < centroids.count; c++) copyRow(c % sample.rows, c);
  for (const [round, perCentroid] of roundRows.entries()) {
    const rows = Math.min(sample.rows, centroids.count * perCentroid);
    centroids.prepare();
    centroids.clearSums();
    // In parts, so that whoever waits is asked now and then.
    const part = Math.max(4, Math.ceil(2 ** 28 / (centroids.count * floats) / 4) * 4);
    await assign(rows, part, (done) => after((round + done / rows) / roundRows.length));
    centroids.add(sample.at, rows, sample.listAt);
    centroids.useMeans(shape.metric === "cosine");
    // A centroid that nobody is near begins again at some row.
    for (let c = 0; c < centroids.count; c++) if (centroids.countOf(c) === 0) copyRow(prng.below(rows), c);
  }
}

const bookRounds = 12;

/** Working space of findCodebook: its sums. */
export function codebookScratchBytes(dims: number): number {
  return codeCount(dims) * 48 * 8 + 64;
}

/**
 * Finds the points of the 4-bit codes for `rows` differences between rows and their centroids, and writes them to `bookAt` (codeCount x codePointsBytes).
 * Returns the mean of the squared differences that are left, a row.
 */
export function findCodebook(memory: KernelMemory, dims: number, differencesAt: number, rows: number, bookAt: number, scratchAt: number, prng: Prng): number {
  const { f32, calls } = memory;
  const f64 = new Float64Array(memory.bytes.buffer);
  const floats = rowFloats(dims);
  const codes = codeCount(dims);
  f32.fill(0, bookAt / 4, (bookAt + codes * codePointsBytes) / 4);
  const startOver = (code: number, point: number): void => {
    const from = differencesAt / 4 + prng.below(rows) * floats + 2 * code;
    const to = (bookAt + code * codePointsBytes) / 4 + point;
    f32[to] = f32[from]!;
    f32[to + codePoints] = f32[from + 1]!;
  };
  const used = floats / 2;
  for (let code = 0; code < used; code++) for (let point = 0; point < codePoints; point++) startOver(code, point);
  const sumsAt = scratchAt + 64;
  for (let round = 0; ; round++) {
    f64.fill(0, sumsAt / 8, sumsAt / 8 + codes * 48);
    const left = calls.codes4Learn(differencesAt, rows, floats * 4, bookAt, sumsAt, scratchAt) / rows;
    if (round === bookRounds) return left;
    for (let code = 0; code < used; code++)
      for (let point = 0; point < codePoints; point++) {
        const sum = sumsAt / 8 + code * 48 + point;
        const count = f64[sum + 2 * codePoints]!;
        const to = (bookAt + code * codePointsBytes) / 4 + point;
        if (count === 0) startOver(code, point);
        else {
          f32[to] = f64[sum]! / count;
          f32[to + codePoints] = f64[sum + codePoints]! / count;
        }
      }
  }
}
