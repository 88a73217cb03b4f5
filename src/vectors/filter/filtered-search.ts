// Search of a segment among the rows that pass a filter, at any share of rows and wherever they lie, without losing recall.
//
// Two ways; `chooseWay` has the arithmetic:
//   index   the lists as without a filter, the bits ANDed before a row becomes a candidate. Lists are judged by the rows in them that pass (kernels/vector-ivf.ts), so fewer passing rows mean
//           more lists by themselves; `filteredSettings` adds what is left: the k-th best of fewer rows lies further out, where lists are harder to judge.
//   exact   all rows that pass, by their int8 codes first and exactly wherever a code's error leaves a doubt (kernels/vector-filter.ts): right wherever they lie.
// A filter may name what lies far from the query: then the nearest lists hold much less of it than the whole does, and the k-th best stands among thousands as near as it. The index
// notices before it looks into a list (leastShare) and exact search takes over.
//
// Cost: docs/design/vectors.md, "Filters". Concurrency: one thread a segment; the segment's filter room is in use from `fillFilter` to the end of the last search that names it.
// Limits: those of the segment.

import { createTopK, type TopK } from "#kernel/dot-top-k";
import { exactSearch, ExactScan } from "#kernel/vector-rows";
import { copyNumbers } from "#platform/copy-bytes";
import { type SearchSettings, searchSettingsLimits } from "../segment/search-settings.ts";
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
} as const;

/** Errors of the 4-bit codes that a filtered search allows for: with fewer, recall ends below 0.99 whatever the margin. */
const slackLeast = 4;
/** Margin that any filter adds, and that each halving of the rows that pass adds to it. */
const marginLeast = 0.4;
const marginHalf = 0.55;

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

/**
 * Settings for a search in which a share of the rows passes, from those tuned without a filter: more lists (margin), and at least four errors of the 4-bit codes (slack).
 * Measured on 1 M rows with 64 to 250 queries (docs/design/vector-filters.md): a recall@20 of 0.99 needs 0.5 more margin at a half and 1.8 at a tenth; what is given beyond brings 0.993 to 0.995.
 */
export function filteredSettings(settings: SearchSettings, share: number): SearchSettings {
  const { marginMax, listsMax } = searchSettingsLimits;
  const more = marginLeast + marginHalf * Math.log2(1 / Math.min(1, Math.max(share, 1e-6)));
  return { probes: listsMax, margin: Math.min(marginMax, settings.margin + more), slack: Math.min(marginMax, Math.max(settings.slack, slackLeast)) };
}

/** How many rows of a segment pass the bits in its filter room, about: from some words spread over it. Rows that are dead count as live ones. */
export function estimatePassing(segment: VectorSegment): number {
  const { u32 } = segment.memory;
  const words = segment.slots / 32;
  const from = segment.filterRoomAt / 4;
  const looked = Math.min(words, filteredLimits.sampleWords);
  // Spread evenly, each a little beside its place, so that no pattern of lists is met or missed each time. Whole numbers: a division a word would cost more than the words.
  const step = Math.floor(words / looked);
  const beside = words - step * looked + step;
  let set = 0;
  for (let i = 0, word = 0; i < looked; i++, word += step)
    set += bitsOf(u32[from + Math.min(words - 1, word + ((Math.imul(i, 0x9e37_79b1) >>> 16) % beside))]!);
  return (set * words) / looked;
}

/** Bits set in a word. */
function bitsOf(word: number): number {
  let bits = word - ((word >>> 1) & 0x5555_5555);
  bits = (bits & 0x3333_3333) + ((bits >>> 2) & 0x3333_3333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** Writes what passes to the segment's filter room, in steps; returns how many rows pass, about. Each `yield`: other work may come, but no other search of the segment. */
export function* fillFilter(segment: VectorSegment, passing: Passing): Generator<void, number, void> {
  const { memory, slots, filterRoomAt } = segment;
  const words = memory.u32.subarray(filterRoomAt / 4, filterRoomAt / 4 + slots / 32);
  if ("bitmap" in passing) {
    copyNumbers(passing.bitmap, 0, words.length, memory.u32, filterRoomAt / 4);
    return estimatePassing(segment);
  }
  const { filter, attributes } = passing;
  const source = attributes === undefined ? undefined : new SourceFilter(attributes, filter);
  if (source === undefined || source.isEmpty) {
    words.fill(0);
    return 0;
  }
  if (source.fillFew(words, slots * filteredLimits.exactShareMax * 2)) return estimatePassing(segment);
  let found = 0;
  for (let from = 0; from < slots; from += filteredLimits.stepSlots) {
    const to = Math.min(slots, from + filteredLimits.stepSlots);
    found += source.bitmap(from, to, words.subarray(from / 32, to / 32), { memory, at: filterRoomAt + from / 8 });
    yield;
  }
  return found;
}

export interface FilteredWork {
  way: FilteredWay;
  /** The index gave up, and exact search answered. */
  gaveUp: boolean;
}

/**
 * One query over what stands in the filter room. `passing`: what fillFilter returned. `into` gets the answers, as many as it has room for. Each `yield`: other work may come, but no other
 * search of the segment that has a filter.
 */
export function* searchPassing(
  segment: VectorSegment,
  query: Float32Array,
  passing: number,
  settings: SearchSettings,
  into: TopK,
  work?: FilteredWork,
): Generator<void, TopK, void> {
  const { block, filterRoomAt, liveRows, slots, lists } = segment;
  const count = into.rows.length;
  // An estimate of nothing may be a few.
  const way = chooseWay({ rows: liveRows, passing: Math.max(1, passing), count, lists });
  if (work !== undefined) [work.way, work.gaveUp] = [way, false];
  if (way === "index") {
    segment.search(query, filteredSettings(settings, passing / Math.max(1, liveRows)), into, filterRoomAt, filteredLimits.leastShare);
    if (segment.work.gaveUp !== true) return into;
    if (work !== undefined) work.gaveUp = true;
  }
  const k = Math.min(count, slots);
  const use = block.codesAt === 0 ? "f32" : "int8";
  const top = k === count ? into : createTopK(k);
  // Where few pass, a step covers more slots.
  const step = Math.min(slots, Math.ceil((filteredLimits.stepSlots * Math.max(1, Math.min(64, slots / Math.max(1, 2 * passing)))) / 32) * 32);
  if (step === slots) exactSearch(block, query, k, top, { filterAt: filterRoomAt, use });
  else {
    const scan = new ExactScan(block);
    scan.begin(query, k, { filterAt: filterRoomAt, use });
    for (let from = 0; from < slots; from += step) {
      scan.scan(from, Math.min(slots, from + step));
      if (from + step < slots) yield;
    }
    scan.end([top]);
  }
  if (top !== into) {
    into.rows.set(top.rows.subarray(0, top.size));
    into.scores.set(top.scores.subarray(0, top.size));
    into.size = top.size;
  }
  return into;
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
