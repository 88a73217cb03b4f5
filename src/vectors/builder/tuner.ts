// Finds the cheapest settings of a search that reach a recall: margin (when a list is passed over), slack (when a row is compared exactly) and the cap of lists.
// Model: recall and cost rise with each of the three (search-settings.ts), so for a given slack the cheapest margin is the smallest that reaches the target: a halving. The best slack
// lies inside: small, and lists must make up for rows that codes hid; large, and rows are compared exactly for nothing. It is found on a part of the queries by trying a few
// from a middle outwards while the cost falls; then margin and cap are set on all queries.
// Cost of a setting: what searches did (lists, slots, rows compared exactly), by weights in nanoseconds. Why not the time: another process on the same core changes it by half,
// and then the tuner would follow the neighbour's load. The weights are measured (docs/design/vectors.md); only their ratios matter.
// Safety: recall of a sample is not that of all queries. `sureOf` asks for one and a half standard errors more: of many settings the one that was lucky on the sample is chosen.
// Invariants: 1. what is returned reached the target on all queries given, or `met` is false and it is the exhaustive setting's recall that is told  2. the same segment, queries and
// truth give the same settings: no clock is read.
// Limits: `tunerLimits`.

import { createTopK, type TopK } from "#kernel/dot-top-k";
import { averageMargin, searchSettingsLimits, type SearchSettings } from "../segment/search-settings.ts";
import type { SearchWork } from "../segment/vector-segment.ts";

export const tunerLimits = {
  /** Searches of one tuning at most. */
  searchesMax: 40_000,
  /** What they may cost by the weights, ns: from half of it on no further slack is tried, from all of it on what was found is taken. */
  costMaxNs: 12e9,
  /** Queries that choose between slacks: so many rows compared together, within bounds. */
  coarseComparisons: 6e7,
  coarseQueries: 192,
  coarseQueriesMin: 64,
} as const;

/** What is tuned: a segment, or a test's model of one. */
export interface Tunable {
  readonly lists: number;
  readonly rows: number;
  readonly shape: { readonly dims: number };
  search(query: Float32Array, settings: SearchSettings, into: TopK): TopK;
  readonly work: Readonly<SearchWork>;
}

export interface QuerySet {
  /** Row-major. */
  readonly vectors: Float32Array;
  readonly count: number;
  readonly dims: number;
  /** The `at` nearest slots of query i by exact search: `truth[i * at ...]`, `found[i]` of them. */
  readonly truth: Uint32Array;
  readonly found: Uint32Array;
  readonly at: number;
}

export interface Tried {
  readonly settings: SearchSettings;
  readonly recall: number;
  /** Standard error of it. */
  readonly error: number;
  /** Nanoseconds a query, by the weights. */
  readonly cost: number;
  readonly work: SearchWork;
}

export interface Tuned extends Tried {
  readonly met: boolean;
  readonly searches: number;
}

/** Nanoseconds of the parts of a search, measured: docs/design/vectors.md, "Builder". */
export function searchCost(work: SearchWork, lists: number, dims: number): number {
  const centroids = lists > 1 ? lists * (8 + dims * 0.25) : 0;
  return 5_000 + centroids + work.lists * 20 + work.slots * dims * 0.06 + work.exact * (20 + dims * 0.6);
}

/** Runs the first `count` queries. */
export function measure(search: Tunable, queries: QuerySet, settings: SearchSettings, count = queries.count): Tried {
  const { dims, at, truth, found } = queries;
  const into = createTopK(at);
  const sum = { lists: 0, slots: 0, exact: 0 };
  let [recall, squares] = [0, 0];
  const wanted = new Set<number>();
  for (let q = 0; q < count; q++) {
    const answer = search.search(queries.vectors.subarray(q * dims, (q + 1) * dims), settings, into);
    const { work } = search;
    sum.lists += work.lists;
    sum.slots += work.slots;
    sum.exact += work.exact;
    wanted.clear();
    const from = q * at;
    for (let i = from; i < from + found[q]!; i++) wanted.add(truth[i]!);
    let hits = 0;
    for (let i = 0; i < answer.size; i++) if (wanted.has(answer.rows[i]!)) hits++;
    const part = wanted.size === 0 ? 1 : hits / wanted.size;
    recall += part;
    squares += part * part;
  }
  const mean = recall / count;
  const work = { lists: sum.lists / count, slots: sum.slots / count, exact: sum.exact / count };
  const error = Math.sqrt(Math.max(0, squares / count - mean * mean) / count);
  return { settings, recall: mean, error, cost: searchCost(work, search.lists, search.shape.dims), work };
}

/** How much more than the target a sample must show, so that all queries reach it most of the time. */
export function sureOf(tried: Pick<Tried, "recall" | "error">, target: number): boolean {
  return tried.recall - Math.min(1.5 * tried.error, (1 - target) / 3) >= target;
}

const slacks = [0.7, 1, 1.4, 1.8, 2.2, 2.7, 3.3, 4, 5, 6.5, 9, 12, 16] as const;
const middle = 4;
const { marginMax, listsMax } = searchSettingsLimits;
/** Above it hardly anything is passed over; where even that does not reach the target, slack is what lacks. */
const marginTop = marginMax - 0.5;

/**
 * The cheapest settings found that reach `target`. `before`: those of a version before; kept when they still reach it (a fold need not search anew).
 */
export function tune(search: Tunable, queries: QuerySet, target: number, before?: SearchSettings): Tuned {
  let searches = 0;
  let costNs = 0;
  const run = (settings: SearchSettings, count = queries.count): Tried => {
    const tried = measure(search, queries, settings, count);
    searches += count;
    costNs += tried.cost * count;
    return tried;
  };
  const mayGoOn = (share = 1): boolean => searches < tunerLimits.searchesMax && costNs < share * tunerLimits.costMaxNs;
  const done = (tried: Tried, met: boolean): Tuned => ({ ...tried, met, searches });
  const exhaustive: SearchSettings = { probes: listsMax, margin: marginMax, slack: marginMax };
  if (search.lists <= 1 || queries.count === 0) {
    const only = run({ ...exhaustive, probes: 1 });
    return done(only, only.recall >= target);
  }
  if (before !== undefined) {
    const kept = run(before);
    // Not much better than asked for either: rows may have come to lie closer.
    if (sureOf(kept, target) && kept.recall - target < (1 - target) * 0.6) return done(kept, true);
  }
  /** The smallest margin that reaches the target with this slack, to within `fine`, looking outwards from `start`; undefined when none does. */
  const cheapest = (slack: number, count: number, start: number, fine: number): Tried | undefined => {
    const at = (margin: number): Tried => run({ probes: listsMax, margin, slack }, count);
    let best: Tried | undefined;
    let [low, high] = [0, start];
    let last = at(start);
    if (sureOf(last, target)) {
      best = last;
      for (let step = 0.5; high > 0 && mayGoOn(); step *= 2) {
        const margin = Math.max(0, high - step);
        const tried = at(margin);
        if (!sureOf(tried, target)) {
          low = margin;
          break;
        }
        [best, high] = [tried, margin];
      }
    } else {
      for (let step = 0.5; best === undefined; step *= 2) {
        if (high >= marginTop || !mayGoOn()) return undefined;
        low = high;
        high = Math.min(marginTop, high + step);
        const tried = at(high);
        if (sureOf(tried, target)) best = tried;
        // Twice the lists and nothing found: codes hide what lacks.
        else if (tried.recall - last.recall < (1 - target) * 0.02 && tried.cost > 1.3 * last.cost) return undefined;
        else last = tried;
      }
    }
    while (high - low > fine && mayGoOn()) {
      const margin = (low + high) / 2;
      const tried = at(margin);
      if (sureOf(tried, target)) [best, high] = [tried, margin];
      else low = margin;
    }
    return best;
  };
  const coarse = Math.min(
    queries.count,
    Math.max(tunerLimits.coarseQueriesMin, Math.min(tunerLimits.coarseQueries, Math.round(tunerLimits.coarseComparisons / search.rows))),
  );
  const found = new Map<number, Tried | undefined>();
  let start: number = averageMargin;
  const at = (place: number): Tried | undefined => {
    const slack = slacks[place];
    if (slack === undefined) return undefined;
    if (!found.has(place)) {
      const tried = cheapest(slack, coarse, start, 0.25);
      if (tried !== undefined) start = tried.settings.margin;
      found.set(place, tried);
    }
    return found.get(place);
  };
  // Outwards while it gets cheaper: towards more slack where the target is out of reach, towards less where it is reached.
  let place: number = middle;
  while (place < slacks.length - 1 && at(place) === undefined && mayGoOn(0.5)) place++;
  for (const way of [-1, 1]) {
    for (let next = place + way; next >= 0 && next < slacks.length; next += way) {
      if (!mayGoOn(0.5)) break;
      const [here, there] = [at(place), at(next)];
      if (there === undefined || (here !== undefined && there.cost >= here.cost)) break;
      place = next;
    }
  }
  const chosen = at(place);
  let fine: Tried | undefined;
  // On all queries: the margin again; what a part of them found just enough may need more slack.
  for (const more of [place, place + 1, place + 3]) {
    const slack = slacks[Math.min(more, slacks.length - 1)]!;
    if (chosen !== undefined) fine ??= cheapest(slack, queries.count, chosen.settings.margin, 0.06);
  }
  if (fine === undefined) {
    const all = run(exhaustive);
    return done(all, all.recall >= target);
  }
  return done(capped(fine, search, target, run), true);
}

/** With a cap of lists and a little more margin, where that is cheaper: queries without near neighbours then end early. */
function capped(fine: Tried, search: Tunable, target: number, run: (settings: SearchSettings) => Tried): Tried {
  let best = fine;
  for (const [wider, share] of [
    [0, 2],
    [0.25, 1.6],
    [0.5, 1.3],
  ] as const) {
    const probes = Math.max(1, Math.min(search.lists, Math.round(fine.work.lists * share)));
    const tried = run({ probes, margin: Math.min(marginMax, fine.settings.margin + wider), slack: fine.settings.slack });
    if (sureOf(tried, target) && tried.cost < best.cost) best = tried;
  }
  return best;
}
