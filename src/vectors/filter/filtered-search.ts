// Search of a segment among the rows that pass a filter, at any share of rows and wherever they lie, without losing recall.
//
// Two ways; `chooseWay` has the arithmetic:
//   index   the lists as without a filter, the bits ANDed before a row becomes a candidate. Lists are judged by the rows in them that pass (kernels/vector-ivf.ts), so fewer passing rows mean
//           more lists by themselves; `filteredSettings` adds what is left: the k-th best of fewer rows lies further out, where lists are harder to judge.
//   exact   all rows that pass, by their int8 codes first and exactly wherever a code's error leaves a doubt (kernels/vector-filter.ts): right wherever they lie.
// A filter may name what lies far from the query: then the nearest lists hold much less of it than the whole does, and the k-th best stands among thousands as near as it. The index
// notices before it looks into a list (leastShare) and exact search takes over.
//
// Where so few pass that they are compared one by one, what stands in the segment's filter room are their slots, which always find room there, and no bits: a bitmap as it is given is
// listed in the pass that copies it, an order of a column names the slots at once.
//
// Cost: docs/design/vector-filters.md. Concurrency: one thread a segment; the segment's filter room is in use from `fillFilter` to the end of the last search that names it.
// Limits: those of the segment.

import { createTopK, type TopK } from "#kernel/dot-top-k";
import { fewBits } from "#kernel/vector-layout";
import { exactSearchOf, ExactScan } from "#kernel/vector-rows";
import { copyNumbers } from "#platform/copy-bytes";
import { filterShares, type SearchSettings, searchSettingsLimits } from "../segment/search-settings.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import { type AttributeSource, SourceFilter } from "./attribute-columns.ts";
import type { Filter } from "./filter.ts";

export const filteredLimits = {
  /** Below this share of the rows, those that pass are compared one by one. */
  exactShareMax: 0.02,
  /** Below this share of the whole's, the nearest lists hold too little of what passes for the index. */
  leastShare: 0.25,
  /** Slots in one step of filling a bitmap, and of an exact search: some 0.3 ms where all pass. */
  stepSlots: 1 << 15,
  /** Words of a bitmap that an estimate looks at. */
  sampleWords: 256,
  /** Words of a bitmap that is given that are looked at to see whether it is worth listing. */
  firstLookWords: 64,
  /** Words of a bitmap that are copied, then listed while they lie in a near cache. A multiple of fewBits.wordsTogether. */
  copyWords: 16_384,
  /** Slots of a list in one step of an exact search: some 0.2 ms. */
  stepRows: 1 << 12,
} as const;

/**
 * What a filter makes of settings that say nothing of filters: errors of the 4-bit codes allowed for at least (with fewer, recall ends below 0.99 whatever the margin; tuned or not), a margin that counts
 * as tuned at least, margin that any filter adds, margin for each halving of the rows that pass, and more of it for each halving below a tenth. How much a filter needs differs by 3 from one collection to
 * another, so builds tune it (src/vectors/builder/filter-tuner.ts); this is for the hardest that was met.
 * Why a least margin: where clusters are as large as lists, all answers of an unfiltered search stand in the first lists, so that any margin serves and tuning ends as low as 0. With a filter answers come
 * from several clusters, of which such a margin says nothing.
 */
const filterAdds = {
  blocks: { slackLeast: 4.5, marginLeast: 7, margin: 1.8, halving: 0.3, belowTenth: 0.4 },
  wholeLists: { slackLeast: 4, marginLeast: 6, margin: 0.4, halving: 0.55, belowTenth: 0 },
} as const;

/** Added at least, also where filters at random need less: one that names what lies near is a search without a filter, of which lists are judged more strictly here (src/kernel/vector-ivf.ts, gate). */
const filterAddsLeast = 1.25;

/** What passes: bits by slot, or a filter over attributes. */
export type Passing = { readonly bitmap: Uint32Array } | { readonly filter: Filter; readonly attributes: AttributeSource | undefined };

export type FilteredWay = "index" | "exact" | "none";

/**
 * How to search, for `passing` of `rows` rows that pass.
 * Exact: a row that passes costs a miss of the cache and a product of its code, 35 to 50 ns at 64 numbers; measured the same from 0.1 % to 10 %. Index: at recall 0.99 some 0.2 to 0.5 ms of a million rows,
 * which is what 10,000 to 15,000 rows cost exactly; both grow alike with dimensions, and with rows the index grows slower but is better tuned, so a share of the rows serves for both.
 */
export function chooseWay(numbers: { readonly rows: number; readonly passing: number; readonly count: number; readonly lists: number }): FilteredWay {
  const { rows, passing, count, lists } = numbers;
  if (passing === 0) return "none";
  return lists <= 1 || passing <= Math.max(4 * count, rows * filteredLimits.exactShareMax) ? "exact" : "index";
}

/** Errors of the 4-bit codes that a search with a filter allows for. */
export function filterSlack(settings: SearchSettings, hasBlocks: boolean): number {
  const { slackLeast } = hasBlocks ? filterAdds.blocks : filterAdds.wholeLists;
  return Math.min(searchSettingsLimits.marginMax, Math.max(settings.slack, slackLeast));
}

/**
 * Settings for a search in which a share of the rows passes: more lists or blocks (margin), and errors of the 4-bit codes (slack) allowed for. As tuned for filters, or by the rule
 * (docs/design/vector-filters.md).
 */
export function filteredSettings(settings: SearchSettings, share: number, hasBlocks: boolean): SearchSettings {
  const passing = Math.min(1, Math.max(share, 1e-6));
  const { marginLeast } = hasBlocks ? filterAdds.blocks : filterAdds.wholeLists;
  const tuned = settings.filterMargins === undefined ? 0 : Math.max(settings.margin + filterAddsLeast, tunedMargin(settings.filterMargins, passing));
  // Filters at random say too little where an unfiltered search needs next to nothing: those that name what lies near then lead to clusters that it never met.
  const isEnough = tuned > 0 && settings.margin >= marginLeast;
  const margin = isEnough ? tuned : Math.max(tuned, ruledMargin(settings.margin, passing, hasBlocks));
  const { marginMax, listsMax } = searchSettingsLimits;
  return { probes: listsMax, margin: Math.min(marginMax, margin), slack: filterSlack(settings, hasBlocks) };
}

function ruledMargin(tuned: number, share: number, hasBlocks: boolean): number {
  const { marginLeast, margin, halving, belowTenth } = hasBlocks ? filterAdds.blocks : filterAdds.wholeLists;
  return Math.max(tuned, marginLeast) + margin + halving * Math.log2(1 / share) + belowTenth * Math.max(0, Math.log2(0.1 / share));
}

/** Between two shares by their logarithms; beyond the last as there. */
function tunedMargin(margins: readonly number[], share: number): number {
  for (let i = 1; i < filterShares.length; i++) {
    const [more, less] = [filterShares[i - 1]!, filterShares[i]!];
    if (share >= more) return margins[i - 1]!;
    if (share > less) return margins[i - 1]! + ((margins[i]! - margins[i - 1]!) * Math.log(more / share)) / Math.log(more / less);
  }
  return margins.at(-1)!;
}

/** As chooseWay, of what stands in a filter room: a list is never left to the index, also where rows died since it was made. */
export function wayOf(segment: VectorSegment, filled: Filled, count: number): FilteredWay {
  const { liveRows, lists } = segment;
  if (filled.listed) return filled.rows === 0 ? "none" : "exact";
  // An estimate of nothing may be a few.
  return chooseWay({ rows: liveRows, passing: Math.max(1, filled.rows), count, lists });
}

/** What stands in a segment's filter room. */
export interface Filled {
  /** How many rows pass, about where there are bits. Rows that are dead count as live ones. */
  readonly rows: number;
  /** Whether there are their slots, in any order, each once, and no bits. Never more than are compared one by one. */
  readonly listed: boolean;
}

/** About how many of the bits of words [from, from + words) are set: from `most` words spread over them. */
function estimateSet(bits: Uint32Array, from: number, words: number, most: number): number {
  const looked = Math.min(words, most);
  // Spread evenly, each a little beside its place, so that no pattern of lists is met or missed each time. Whole numbers: a division a word would cost more than the words.
  const step = Math.floor(words / looked);
  const beside = words - step * looked + step;
  let set = 0;
  for (let i = 0, word = 0; i < looked; i++, word += step)
    set += bitsOf(bits[from + Math.min(words - 1, word + ((Math.imul(i, 0x9e37_79b1) >>> 16) % beside))]!);
  return (set * words) / looked;
}

/** How many slots are listed at most: as many as are compared one by one whatever is asked for, and have room where a bitmap has. */
function listMax({ liveRows, slots }: VectorSegment): number {
  return Math.floor(Math.min(liveRows * filteredLimits.exactShareMax, slots / 32 - 4));
}

/** Bits set in a word. */
function bitsOf(word: number): number {
  let bits = word - ((word >>> 1) & 0x5555_5555);
  bits = (bits & 0x3333_3333) + ((bits >>> 2) & 0x3333_3333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** Writes what passes to the segment's filter room, in steps. Each `yield`: other work may come, but no other search of the segment that has a filter. */
export function* fillFilter(segment: VectorSegment, passing: Passing): Generator<void, Filled, void> {
  const { memory, slots, filterRoomAt } = segment;
  const { u32 } = memory;
  const words = slots / 32;
  if ("bitmap" in passing) {
    const listed = listBitmap(segment, passing.bitmap);
    if (listed !== undefined) return { rows: listed, listed: true };
    copyNumbers(passing.bitmap, 0, words, u32, filterRoomAt / 4);
    return { rows: estimateSet(u32, filterRoomAt / 4, words, filteredLimits.sampleWords), listed: false };
  }
  const { filter, attributes } = passing;
  const source = attributes === undefined ? undefined : new SourceFilter(attributes, filter);
  if (source === undefined || source.isEmpty) return { rows: 0, listed: true };
  const room = u32.subarray(filterRoomAt / 4, filterRoomAt / 4 + words);
  const listed = source.listFew(room, listMax(segment));
  if (listed !== undefined) return { rows: listed, listed: true };
  if (source.fillFew(room, slots * filteredLimits.exactShareMax * 2)) {
    return { rows: estimateSet(u32, filterRoomAt / 4, words, filteredLimits.sampleWords), listed: false };
  }
  let found = 0;
  for (let from = 0; from < slots; from += filteredLimits.stepSlots) {
    const to = Math.min(slots, from + filteredLimits.stepSlots);
    found += source.bitmap(from, to, room.subarray(from / 32, to / 32), { memory, at: filterRoomAt + from / 8 });
    yield;
  }
  return { rows: found, listed: false };
}

/** Writes the slots of a bitmap's bits to the segment's filter room; returns how many there are, undefined where there are more than are to be listed. */
function listBitmap(segment: VectorSegment, bitmap: Uint32Array): number | undefined {
  const { memory, slots, filterRoomAt } = segment;
  const { lane, u32, calls } = memory;
  const words = slots / 32;
  const most = listMax(segment);
  if (most < 1 || estimateSet(bitmap, 0, words, filteredLimits.firstLookWords) > 2 * most) return undefined;
  lane.reset();
  const part = Math.min(filteredLimits.copyWords, Math.floor((lane.free - fewBits.roomBytes) / 4 / fewBits.wordsTogether) * fewBits.wordsTogether);
  if (part < 1) return undefined;
  const room = lane.take(fewBits.roomBytes);
  const partAt = lane.take(part * 4);
  let count = 0;
  for (let from = 0; from < words; from += part) {
    const end = Math.min(words, from + part);
    const whole = (end - from + 63) & ~63;
    copyNumbers(bitmap, from, end, u32, partAt / 4);
    for (let behind = end - from; behind < whole; behind++) u32[partAt / 4 + behind] = 0;
    count = calls.bitsFew(partAt, whole, from * 32, filterRoomAt, count, most, room);
    if (count > most) return undefined;
  }
  return count;
}

export interface FilteredWork {
  way: FilteredWay;
  /** The index gave up, and exact search answered. */
  gaveUp: boolean;
}

/**
 * One query over what stands in the filter room. `filled`: what fillFilter returned. `into` gets the answers, as many as it has room for. Each `yield`: other work may come, but no other
 * search of the segment that has a filter.
 */
export function* searchPassing(
  segment: VectorSegment,
  query: Float32Array,
  filled: Filled,
  settings: SearchSettings,
  into: TopK,
  work?: FilteredWork,
): Generator<void, TopK, void> {
  const { block, filterRoomAt, liveRows, slots } = segment;
  const count = into.rows.length;
  const way = wayOf(segment, filled, count);
  if (work !== undefined) [work.way, work.gaveUp] = [way, false];
  if (way === "none") {
    into.size = 0;
    return into;
  }
  if (way === "index") {
    segment.search(
      query,
      filteredSettings(settings, filled.rows / Math.max(1, liveRows), (segment.index?.blockCodesAt ?? 0) !== 0),
      into,
      filterRoomAt,
      filteredLimits.leastShare,
    );
    if (segment.work.gaveUp !== true) return into;
    if (work !== undefined) work.gaveUp = true;
  }
  const k = Math.min(count, slots);
  const use = block.codesAt === 0 ? "f32" : "int8";
  const top = k === count ? into : createTopK(k);
  if (filled.listed && filled.rows <= filteredLimits.stepRows) exactSearchOf(block, query, k, top, { at: filterRoomAt, count: filled.rows }, use);
  else {
    const scan = new ExactScan(block);
    scan.begin(query, k, { filterAt: filled.listed ? 0 : filterRoomAt, use });
    for (const _ of scanSteps(segment, filled, scan)) yield;
    scan.end([top]);
  }
  if (top !== into) {
    into.rows.set(top.rows.subarray(0, top.size));
    into.scores.set(top.scores.subarray(0, top.size));
    into.size = top.size;
  }
  return into;
}

/** Compares all that passes, in steps, for the `queries` that `scan` was begun with: by the filter room where it holds bits. */
export function* scanSteps(segment: VectorSegment, filled: Filled, scan: ExactScan, queries = 1): Generator<void, void, void> {
  const { filterRoomAt, slots } = segment;
  const { stepSlots, stepRows } = filteredLimits;
  if (filled.listed) {
    const step = Math.ceil(stepRows / queries);
    for (let from = 0; from < filled.rows; from += step) {
      if (from > 0) yield;
      scan.scanOf({ at: filterRoomAt + from * 4, count: Math.min(step, filled.rows - from) });
    }
    return;
  }
  // Where few pass, a step covers more slots.
  const step = Math.min(slots, Math.ceil((stepSlots * Math.max(1, Math.min(64, slots / Math.max(1, 2 * filled.rows)))) / 32) * 32);
  for (let from = 0; from < slots; from += step) {
    if (from > 0) yield;
    scan.scan(from, Math.min(slots, from + step));
  }
}

/** All of it at once: fills the filter room and searches. */
export function filteredSearch(segment: VectorSegment, query: Float32Array, passing: Passing, settings: SearchSettings, into: TopK, work?: FilteredWork): TopK {
  const filling = fillFilter(segment, passing);
  let filled = filling.next();
  while (filled.done !== true) filled = filling.next();
  const search = searchPassing(segment, query, filled.value, settings, into, work);
  while (search.next().done !== true);
  return into;
}
