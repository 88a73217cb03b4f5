// Search of an index of lists: the typed face of kernels/vector-ivf.ts, where the way is told.
//
// Invariants: 1. what is compared exactly has the score that vector-rows.ts gives it  2. with everything set to its most the answers are those of exact search
//             3. recall and cost rise with `margin`, `slack` and `probes`.
// Cost: the centroids, 16 table entries a code, half a byte for two dimensions of each row of the lists looked into, and the exact rows of the candidates.
// Concurrency: one search of an index at a time: its scratch is its own, not the lane's. Limits: vectorRowLimits.

import { MillraceError } from "#base/errors";
import type { TopK } from "./dot-top-k.ts";
import { codeCount, ivfScratchBytes, ivfWords } from "./ivf-layout.ts";
import { codeBytes, heapBytes, rowFloats, type VectorBlock } from "./vector-layout.ts";
import { exactSearchOf } from "./vector-rows.ts";

/** Where the parts of an index lie: addresses in the memory of its block. */
export interface ListIndex {
  readonly block: VectorBlock;
  readonly lists: number;
  /** f32 rows: the mean of each list's rows. */
  readonly centroidsAt: number;
  /** l2: f32 a list, the mean of its rows' bias; else 0. */
  readonly listBiasAt: number;
  /** f32 a list: standard deviation of a row's score for a query of length 1. */
  readonly spreadsAt: number;
  /** u32, lists + 1: slots. */
  readonly startsAt: number;
  /** f32 a list: its rows. */
  readonly sizesAt: number;
  readonly codes4At: number;
  readonly bookAt: number;
  /** f32 a list: standard deviation of a score by codes for a query of length 1. */
  readonly codeErrorsAt: number;
  /** 4-bit codes of the means of blocks of 32 slots, in groups; 0: there are none, as in segments of format 1, and whole lists are looked into. */
  readonly blockCodesAt: number;
  /** u32 a list: number of its first group. */
  readonly groupsAt: number;
  /** f32 a block: standard deviation of a row's score around the mean's by its codes, for a query of length 1. */
  readonly blockSpreadsAt: number;
  /** l2: f32 a block, the mean of its rows' bias; else 0. */
  readonly blockBiasAt: number;
  /** listIndexScratchBytes. */
  readonly scratchAt: number;
}

export interface ListSearch {
  /** Most lists looked into. */
  readonly probes: number;
  /** Blocks (without them lists) that may expect less than exp(-margin) times the average share of answers a row are passed over. Infinity: none is. */
  readonly margin: number;
  /** Errors of the codes within which a row is compared exactly. Infinity: all are. */
  readonly slack: number;
  readonly filterAt?: number;
  /** Give up, without answers, where the share of rows that pass is so much smaller in the nearest lists than in all; default 0: never. */
  readonly leastShare?: number;
}

/** What a search did. */
export interface ListWork {
  lists: number;
  slots: number;
  exact: number;
  /** It gave up (leastShare). */
  gaveUp?: boolean;
  /** Addresses, good until the next call: f32 a list, the score of its centroid (l2: with the list's mean bias); u32 a list, 1 = it was looked into. */
  scoresAt?: number;
  seenAt?: number;
}

/** Lists of the first look, which gives a threshold to judge the others by. 2 to 16 are alike. */
const firstLists = 8;
/**
 * How fast the share of rows that reach a score falls at first, a spread of it, and how much faster with each spread more: near the tail of the normal distribution (docs/design/vectors.md).
 */
const normalFall = { fall: 1, bend: 0.25, gate: 1.5 } as const;
/**
 * With a filter: fewer lists are looked into for their blocks alone, which for the same recall saves a tenth of the time, and filters that name what lies near get more margin. They need it, 1 or 2 at a
 * tenth of the rows, and cost little, since all that passes lies in a few lists.
 */
const filteredFall = { ...normalFall, gate: 0.75, crowding: 0.5 } as const;
/** Without blocks and without a filter: by what the settings of such segments were tuned. */
const wholeListFall = { fall: 2.3, bend: 0, gate: 0 } as const;

/**
 * Where a filter leaves a smaller share of a list's slots, the int8 codes of those that pass are compared instead of the 4-bit codes of all. A row's int8 code costs a miss, some 35 ns; 32
 * slots by 4-bit codes 100 ns, beside what their errors let through.
 */
const byteShare = 0.2;
/** Standard deviations of the error of an int8 score within which a row is compared exactly: one row in three million is off by more. */
const byteSlack = 5;

/** Bytes of scratch that an index needs. */
export function listIndexScratchBytes(lists: number, slots: number, listSlotsMax: number, dims: number): number {
  return ivfScratchBytes(lists, slots, listSlotsMax, dims);
}

/**
 * The best `into.rows.length` rows for one query of `dims` numbers (cosine: of length 1), best first, as exactSearch gives them. Throws `invalid` for what does not fit.
 */
export function searchLists(index: ListIndex, query: Float32Array, search: ListSearch, into: TopK, work?: ListWork): TopK {
  const { block } = index;
  const { memory, shape } = block;
  const { lane, u32, f32, calls } = memory;
  const { dims, metric } = shape;
  if (query.length !== dims) {
    throw new MillraceError("invalid", `a query of ${query.length} numbers for rows of ${dims}`, { todo: "give as many numbers as the block has dimensions" });
  }
  const k = into.rows.length;
  const floats = rowFloats(dims);
  lane.reset();
  const args = lane.take(ivfWords.count * 4);
  const queryAt = lane.take(floats * 4);
  const heap = lane.take(heapBytes(k));
  let square = 0;
  for (let i = 0; i < dims; i++) {
    const value = query[i]!;
    f32[queryAt / 4 + i] = value;
    square += value * value;
  }
  f32.fill(0, queryAt / 4 + dims, queryAt / 4 + floats);
  const length = Math.sqrt(square);
  const a = args / 4;
  u32[a + ivfWords.lists] = index.lists;
  u32[a + ivfWords.rowBytes] = floats * 4;
  u32[a + ivfWords.centroids] = index.centroidsAt;
  u32[a + ivfWords.listBias] = index.listBiasAt;
  u32[a + ivfWords.spreads] = index.spreadsAt;
  u32[a + ivfWords.starts] = index.startsAt;
  u32[a + ivfWords.sizes] = index.sizesAt;
  u32[a + ivfWords.rows] = block.rowsAt;
  u32[a + ivfWords.bias] = block.biasAt;
  u32[a + ivfWords.codes] = index.codes4At;
  u32[a + ivfWords.codeCount] = codeCount(dims);
  u32[a + ivfWords.book] = index.bookAt;
  u32[a + ivfWords.live] = block.liveAt;
  u32[a + ivfWords.filter] = search.filterAt ?? 0;
  u32[a + ivfWords.query] = queryAt;
  f32[a + ivfWords.queryLength] = length;
  u32[a + ivfWords.heap] = heap;
  u32[a + ivfWords.probes] = search.probes;
  f32[a + ivfWords.margin] = search.margin;
  // No length takes infinity away.
  f32[a + ivfWords.slack] = search.slack === Infinity ? Infinity : search.slack * length;
  u32[a + ivfWords.codeErrors] = index.codeErrorsAt;
  const isFiltered = (search.filterAt ?? 0) !== 0;
  const falls = isFiltered ? filteredFall : index.blockCodesAt !== 0 ? normalFall : wholeListFall;
  f32[a + ivfWords.fall] = falls.fall;
  f32[a + ivfWords.bend] = falls.bend;
  f32[a + ivfWords.gate] = falls.gate;
  f32[a + ivfWords.crowding] = isFiltered ? filteredFall.crowding : 0;
  u32[a + ivfWords.blockCodes] = index.blockCodesAt;
  u32[a + ivfWords.groups] = index.groupsAt;
  u32[a + ivfWords.blockSpreads] = index.blockSpreadsAt;
  u32[a + ivfWords.blockBias] = index.blockBiasAt;
  u32[a + ivfWords.scratch] = index.scratchAt;
  u32[a + ivfWords.slots] = block.slots;
  u32[a + ivfWords.firstLists] = firstLists;
  u32[a + ivfWords.codes8] = block.codesAt;
  u32[a + ivfWords.codeBytes] = codeBytes(dims);
  u32[a + ivfWords.scales] = block.scalesAt;
  // Without a filter all rows of a list pass.
  f32[a + ivfWords.byteShare] = isFiltered && block.codesAt !== 0 ? byteShare : 0;
  f32[a + ivfWords.byteSlack] = byteSlack;
  f32[a + ivfWords.leastShare] = search.leastShare ?? 0;
  calls.topKReset(heap, k);
  calls.ivfSearch(args);
  if (work !== undefined) {
    work.lists = u32[a + ivfWords.listsDone]!;
    work.slots = u32[a + ivfWords.slotsDone]!;
    work.exact = u32[a + ivfWords.exactDone]!;
    work.gaveUp = u32[a + ivfWords.gaveUp] === 1;
    work.scoresAt = u32[a + ivfWords.scoresAt]!;
    work.seenAt = u32[a + ivfWords.seenAt]!;
  }
  const size = calls.topKSort(heap) >>> 0;
  const scores = heap / 4 + 4;
  const rows = scores + k;
  // Squared distances as exact search gives them, not by the detour of the score.
  if (metric === "l2") return exactSearchOf(block, query, k, into, u32.slice(rows, rows + size));
  into.size = size;
  for (let i = 0; i < size; i++) {
    into.rows[i] = u32[rows + i]!;
    const score = f32[scores + i]!;
    into.scores[i] = metric === "ip" ? score : Math.max(-1, Math.min(1, score));
  }
  return into;
}
