// What the kernels of an index of lists read and write: words of their arguments, sizes of codes, codebooks and scratch. The layouts are drawn in kernels/vector-ivf.ts.

import { codeBytes, heapBytes, rowFloats, slotsUnit } from "./vector-layout.ts";

/** Words of the arguments of ivfSearch. */
export const ivfWords = {
  lists: 0,
  rowBytes: 1,
  centroids: 2,
  listBias: 3,
  spreads: 4,
  starts: 5,
  sizes: 6,
  rows: 7,
  bias: 8,
  codes: 9,
  codeCount: 10,
  book: 11,
  live: 12,
  filter: 13,
  query: 14,
  queryLength: 15,
  heap: 16,
  probes: 17,
  margin: 18,
  slack: 19,
  fall: 20,
  scratch: 21,
  slots: 22,
  listsDone: 23,
  slotsDone: 24,
  exactDone: 25,
  firstLists: 26,
  leastShare: 27,
  gaveUp: 28,
  codeErrors: 29,
  codes8: 30,
  codeBytes: 31,
  scales: 32,
  byteShare: 33,
  byteSlack: 34,
  bend: 35,
  scoresAt: 36,
  seenAt: 37,
  blockCodes: 38,
  groups: 39,
  blockSpreads: 40,
  blockBias: 41,
  gate: 42,
  crowding: 43,
  count: 44,
} as const;

/** Points of a codebook a code. */
export const codePoints = 16;
/** Bytes of the points of one code. */
export const codePointsBytes = codePoints * 8;
/** Largest entry of a table, and largest sum of a row's entries. */
export const tableLimits = { entryMax: 63, sumMax: 32_000 } as const;
/** Candidates are compared when so many wait. */
export const comparedTogether = 32;
/** Rows that wait for a look at their int8 codes are looked at when so many wait. */
export const fetchedTogether = 256;
/** Room for them: two blocks of rows and four places may come on top. */
const waitingMost = fetchedTogether + 72;
/** Blocks of 32 slots whose means are scored together: a group. */
export const groupBlocks = 32;
/** A list of fewer blocks is looked into as a whole. */
export const partedBlocksMin = 4;
/** Best blocks of the nearest lists that are compared before all others, at most. */
export const bestBlocksMax = 256;
/** Spreads below the k-th best score at which a block of the nearest lists is looked into. */
export const firstReach = 2.5;
/** Steps in which lists are put in order. */
export const orderSteps = 256;

/** 4-bit codes of a row: one for two dimensions, filled up to a multiple of four. */
export function codeCount(dims: number): number {
  return Math.ceil(dims / 8) * 4;
}

/** Bytes of the 4-bit codes of so many slots. */
export function codes4Bytes(slots: number, dims: number): number {
  return (slots / 2) * codeCount(dims);
}

/** Groups of a list of so many slots. */
export function groupsFor(listSlots: number): number {
  return Math.ceil(listSlots / slotsUnit / groupBlocks);
}

/** Working space of a search of so many slots. `listSlotsMax`: those of the largest list. */
export function ivfScratchBytes(lists: number, slots: number, listSlotsMax: number, dims: number): number {
  const part = Math.ceil(lists / 8) * 32;
  const waiting = 16 + 2 * codeBytes(dims) + 2 * waitingMost * 4;
  const candidates = (comparedTogether + Math.max(waitingMost, listSlotsMax) + slotsUnit) * 4;
  // Of a group of blocks: sums, scores, distances for each count of rows; the best blocks; a bit a block.
  const blocks = 64 + 128 + 144 + heapBytes(bestBlocksMax) + (slots >>> 10) * 4 + 12;
  return 5 * part + codeCount(dims) * 16 + 16 + orderSteps * 4 + heapBytes(lists) + 16 + blocks + waiting + candidates;
}

/** Bytes of centroids as centroidsNearest wants them: blocks of eight. */
export function centroidBlocksBytes(centroids: number, dims: number): number {
  return Math.ceil(centroids / 8) * 32 * rowFloats(dims);
}

/** Bytes of the codes by which the nearest centroids are found faster: kernels/centroid-codes.ts. */
export function centroidCodesBytes(centroids: number, dims: number): number {
  return 64 + Math.ceil(centroids / 8) * (64 + 8 * rowFloats(dims));
}

/** Working space of centroidsNearest8. */
export function nearestScratchBytes(centroids: number, dims: number): number {
  return 64 + 4 * rowFloats(dims) + Math.ceil(centroids / 8) * 128;
}
