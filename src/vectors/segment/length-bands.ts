// Lists for inner products over rows of uneven length: rows are parted by length first, and clustered by direction inside of each part.
//
// Why: the answers of an inner product are long rows. Over lengths of log-normal spread (deviation 0.5) half of the 20 best of 500,000 are among the longest thousandth. k-means by
// squared distance sees a thousandth of the rows: it gives them a thousandth of the lists, and lays others of them as outliers into lists of short ones, whose mean, spread and error of
// codes then say nothing of the rows that matter. For recall@20 of 0.99 half of all lists had to be looked into, and codes let through by twelve of their errors; with bands 150 of
// 2,000, and two errors (docs/design/vectors.md).
// How: bands of a common factor in length from the longest row down to the median, what is shorter is one. A band gets lists by the sum of its rows' squared lengths, at most one for
// `listRowsMin` rows. Inside a band k-means on directions (Dhillon and Modha, Machine Learning 42, 2001). Parting by length: Yan et al., "Norm-ranging LSH", NeurIPS 2018.
// Invariant: the same rows and generator give the same lists. Cost: a row is compared with the lists of its band alone, a fifth of them all where lengths differ much.
// Concurrency: one thread; lets others in at `onProgress`.

import type { Prng } from "#base/prng";
import { Centroids, findCentroids, sampleRows } from "#kernel/k-means";
import { KernelMemory, roundUp } from "#kernel/kernel-memory";
import { rowFloats, type VectorShape } from "#kernel/vector-layout";
import type { SegmentRows } from "./segment-parts.ts";

export const lengthBandLimits = {
  /** The length that a hundredth of the rows exceed, over the median, from which on bands are made. */
  spreadMin: 1.5,
  /** Longest over shortest row of a band. */
  factor: 1.3,
  bandRowsMin: 64,
  /** Rows of a list on the average at least: lists are padded to 32. */
  listRowsMin: 24,
} as const;

const chunkRows = 8_192;

export interface BandedLists {
  /** A list for each row. */
  readonly listOf: Uint32Array;
  readonly lists: number;
}

/** About `lists` of them. Undefined where lengths are alike: then there is nothing to part. */
export async function bandedLists(
  rows: SegmentRows,
  lists: number,
  prng: Prng,
  onProgress: (share: number) => Promise<void> | void,
): Promise<BandedLists | undefined> {
  const { vectors, count, dims } = rows;
  const lengths = new Float32Array(count);
  for (let row = 0; row < count; row++) {
    let square = 0;
    for (let j = row * dims; j < (row + 1) * dims; j++) square += vectors[j]! * vectors[j]!;
    lengths[row] = Math.sqrt(square);
  }
  const sorted = lengths.toSorted();
  const median = sorted[count >>> 1]!;
  // Rows that are not finite are refused by who asked.
  if (!(sorted[count - 1 - Math.floor(count / 100)]! > lengthBandLimits.spreadMin * median) || !Number.isFinite(sorted[count - 1])) return undefined;
  const bands = bandsOf(sorted, lists);
  // Rows of a band one behind the other, bands from the longest rows on.
  const bandOf = (length: number): number => bands.findIndex(({ least }) => length >= least);
  const next = Uint32Array.from(bands, ({ from }) => from);
  const byBand = new Uint32Array(count);
  for (let row = 0; row < count; row++) byBand[next[bandOf(lengths[row]!)]!++] = row;

  const shape: VectorShape = { dims, metric: "cosine" };
  const floats = rowFloats(dims);
  const most = Math.max(...bands.map((band) => band.lists));
  const room = Math.max(chunkRows, ...bands.map((band) => sampleRows(band.lists, band.rows))) + 4;
  const memory = KernelMemory.create({ dataBytes: Centroids.bytes(shape, most) * 2 + roundUp(room * floats * 4, 64) + 2 * roundUp(room * 4, 64) + 256 });
  const rowsAt = memory.reserve(room * floats * 4);
  const listAt = memory.reserve(room * 4);
  const scoreAt = memory.reserve(room * 4);
  const centroidsAt = new Centroids(memory, shape, most).places;
  const { f32, u32 } = memory;
  /** Directions of rows; a row of length 0 has none and stays 0. */
  const lay = (from: number, some: ArrayLike<number>): void => {
    for (let i = 0; i < some.length; i++) {
      const row = some[i]!;
      const scale = lengths[row]! > 0 ? 1 / lengths[row]! : 0;
      const to = rowsAt / 4 + (from + i) * floats;
      for (let j = 0; j < dims; j++) f32[to + j] = vectors[row * dims + j]! * scale;
      f32.fill(0, to + dims, to + floats);
    }
  };
  const listOf = new Uint32Array(count);
  let base = 0;
  for (const band of bands) {
    const own = byBand.subarray(band.from, band.from + band.rows);
    if (band.lists > 1) {
      const centroids = new Centroids(memory, shape, band.lists, centroidsAt);
      const sample = sampleRows(band.lists, band.rows);
      lay(0, pick(own, sample, prng));
      const share = (done: number): void | Promise<void> => onProgress((band.from + band.rows * done) / count);
      await findCentroids(memory, centroids, shape, { at: rowsAt, rows: sample, listAt, scoreAt }, prng, (done) => share(0.5 * done));
      centroids.prepare();
      for (let from = 0; from < band.rows; from += chunkRows) {
        const part = own.subarray(from, from + chunkRows);
        lay(0, part);
        centroids.nearest(rowsAt, part.length, listAt, scoreAt);
        for (let i = 0; i < part.length; i++) listOf[part[i]!] = base + u32[listAt / 4 + i]!;
        await share(0.5 + (0.5 * (from + part.length)) / band.rows);
      }
    } else for (const row of own) listOf[row] = base;
    base += band.lists;
  }
  return { listOf, lists: base };
}

interface Band {
  /** Of the longest rows the first. */
  readonly from: number;
  readonly rows: number;
  /** Length of its shortest row; 0 for the last band. */
  readonly least: number;
  readonly lists: number;
}

/** `sorted`: lengths, shortest first. */
function bandsOf(sorted: Float32Array, lists: number): Band[] {
  const { factor, bandRowsMin, listRowsMin } = lengthBandLimits;
  const count = sorted.length;
  const median = sorted[count >>> 1]!;
  /** The i-th longest. */
  const longest = (i: number): number => sorted[count - 1 - i]!;
  const found: { from: number; rows: number; least: number; squares: number; lists: number }[] = [];
  for (let from = 0; from < count;) {
    const bound = longest(from) / factor;
    const isLast = bound < median;
    let [to, squares] = [from, 0];
    // Equal lengths stay together: a band is told by the length of its shortest row.
    while (to < count && (isLast || to - from < bandRowsMin || longest(to) >= bound || longest(to) === longest(to - 1))) squares += longest(to++) ** 2;
    found.push({ from, rows: to - from, least: to === count ? 0 : longest(to - 1), squares, lists: 0 });
    from = to;
  }
  // What a band cannot use goes to the others: a few rows far beyond all others have nearly all of the squares.
  let left = lists;
  for (let open = found; open.length > 0;) {
    const all = open.reduce((sum, { squares }) => sum + squares, 0);
    const shareOf = (squares: number): number => (all > 0 ? (left * squares) / all : 0);
    const mostOf = (rows: number): number => Math.max(1, Math.floor(rows / listRowsMin));
    const full = open.filter(({ rows, squares }) => shareOf(squares) >= mostOf(rows));
    for (const band of full.length > 0 ? full : open) {
      band.lists = full.length > 0 ? mostOf(band.rows) : Math.max(1, Math.round(shareOf(band.squares)));
    }
    if (full.length === 0) break;
    for (const band of full) left -= band.lists;
    left = Math.max(0, left);
    open = open.filter((band) => !full.includes(band));
  }
  return found;
}

/** `some` of the numbers, in random order. */
function pick(of: Uint32Array, some: number, prng: Prng): Uint32Array {
  const all = of.slice();
  for (let i = 0; i < some; i++) {
    const j = i + prng.below(all.length - i);
    const kept = all[i]!;
    all[i] = all[j]!;
    all[j] = kept;
  }
  return all.subarray(0, some);
}
