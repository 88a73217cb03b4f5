// Finds the margins by which searches with a filter reach a recall: the least for each of a few shares of rows that pass (filterShares), by filters drawn at random.
// Why tuned and not by a rule: an unfiltered search finds its answers in the few lists around the query, and its margin says how near those lie; among fewer rows answers come from further out, and how
// much further depends on how the rows lie there. Measured on a dozen collections, what is to be added at a tenth lies between 0.5 and 3.5 (docs/design/vector-filters.md).
// Why filters at random speak for others: lists are judged by what passes in them, so a filter that names what lies near or far changes the lists and not the rule; the same sample is asked for a little
// more than the target, as in tuner.ts.
// Cost: exact search of `queriesMax` queries among each share, some 4 ms a query and million rows of 64 numbers together, and as many searches by the index as halvings: a second or two a million rows.
// Invariants: 1. margins do not fall as fewer rows pass  2. the same segment and queries give the same margins: no clock is read.
// Concurrency: one thread; the filter room of the segment is in use meanwhile.

import { Prng } from "#base/prng";
import { createTopK } from "#kernel/dot-top-k";
import { exactSearchBatch } from "#kernel/vector-rows";
import { filterSlack } from "../filter/filtered-search.ts";
import { filterShares, type SearchSettings, searchSettingsLimits } from "../segment/search-settings.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import { measure, type QuerySet, sureOf, type Tunable } from "./tuner.ts";

export const filterTunerLimits = {
  queriesMax: 128,
  /** Fewer where there are many rows: so many rows compared exactly for a share, within bounds. */
  comparisons: 2.56e8,
  queriesMin: 48,
  /** Queries that share a filter. */
  together: 16,
  /** A margin is known to within this. */
  fine: 0.12,
} as const;

/** Where outwards looking begins: few collections need less. */
const startLeast = 8;

/** Queries with one filter, and what is right. */
interface Filtered {
  readonly bitmap: Uint32Array;
  readonly queries: QuerySet;
}

/**
 * The margins for `filterShares`, marginMax where none reaches `target`. `settings`: as tuned without a filter; `queries`: any, their truth is not looked at. `pause`: awaited every 0.1 s or so of work on
 * a million rows; what it throws ends the tuning.
 */
export async function tuneFilters(
  segment: VectorSegment,
  queries: Pick<QuerySet, "vectors" | "count" | "dims" | "at">,
  settings: SearchSettings,
  target: number,
  pause: () => Promise<void> = () => Promise.resolve(),
): Promise<number[]> {
  const { marginMax, listsMax } = searchSettingsLimits;
  const { memory, filterRoomAt } = segment;
  const slack = filterSlack(settings, (segment.index?.blockCodesAt ?? 0) !== 0);
  const prng = new Prng("filters");
  const search: Tunable = {
    lists: segment.lists,
    rows: segment.rows,
    shape: segment.shape,
    work: segment.work,
    search: (query, by, into) => segment.search(query, by, into, filterRoomAt),
  };
  const { queriesMax, queriesMin, comparisons } = filterTunerLimits;
  const count = Math.min(queries.count, queriesMax, Math.max(queriesMin, Math.round(comparisons / segment.rows)));
  const margins: number[] = [];
  let least = settings.margin;
  for (const share of filterShares) {
    const drawn: Filtered[] = [];
    for (let first = 0; first < count; first += filterTunerLimits.together) {
      drawn.push(draw(segment, queries, first, Math.min(filterTunerLimits.together, count - first), share, prng));
      await pause();
    }
    const reaches = async (margin: number): Promise<boolean> => {
      let [recall, variance] = [0, 0];
      for (const { bitmap, queries: some } of drawn) {
        memory.u32.set(bitmap, filterRoomAt / 4);
        const tried = measure(search, some, { probes: listsMax, margin, slack });
        const weight = some.count / count;
        recall += tried.recall * weight;
        variance += (tried.error * weight) ** 2;
        await pause();
      }
      return sureOf({ recall, error: Math.sqrt(variance) }, target);
    };
    least = Math.max(least, await leastOf(reaches, Math.max(least, startLeast), marginMax));
    margins.push(least);
  }
  return margins;
}

/** A filter of that share, for `some` queries from `first` on, with the answers of exact search. */
function draw(
  { memory, filterRoomAt, slots, block }: VectorSegment,
  { vectors, dims, at }: Pick<QuerySet, "vectors" | "dims" | "at">,
  first: number,
  some: number,
  share: number,
  prng: Prng,
): Filtered {
  const bar = Math.floor(share * 2 ** 32);
  const bitmap = new Uint32Array(slots / 32);
  for (let slot = 0; slot < slots; slot++) if (prng.u32() < bar) bitmap[slot >>> 5]! |= 1 << (slot & 31);
  memory.u32.set(bitmap, filterRoomAt / 4);
  const own = vectors.subarray(first * dims, (first + some) * dims);
  const tops = Array.from({ length: some }, () => createTopK(at));
  exactSearchBatch(block, own, at, tops, { filterAt: filterRoomAt, use: "f32" });
  const truth = new Uint32Array(some * at);
  tops.forEach(({ rows, size }, q) => truth.set(rows.subarray(0, size), q * at));
  return { bitmap, queries: { vectors: own, count: some, dims, at, truth, found: Uint32Array.from(tops, ({ size }) => size) } };
}

/** The least number that `reaches` says yes to, to within `fine`, looking outwards from `start`; `top` where it says no up to there. */
async function leastOf(reaches: (margin: number) => Promise<boolean>, start: number, top: number): Promise<number> {
  let [low, high] = [0, top];
  if (await reaches(start)) {
    high = start;
    for (let step = 0.5; high > 0; step *= 2) {
      const next = Math.max(0, high - step);
      if (!(await reaches(next))) {
        low = next;
        break;
      }
      high = next;
    }
  } else {
    low = start;
    for (let step = 0.5; low + step < top; step *= 2) {
      if (await reaches(low + step)) {
        high = low + step;
        break;
      }
      low += step;
    }
  }
  while (high - low > filterTunerLimits.fine) {
    const middle = (low + high) / 2;
    if (await reaches(middle)) high = middle;
    else low = middle;
  }
  return high;
}
