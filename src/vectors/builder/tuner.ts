// Finds the cheapest settings of a search that reach a recall: margin (when a list is passed over), slack (when a row is compared exactly) and the cap of lists.
// Model: recall and cost rise with each of the three (search-settings.ts), so for a given slack the cheapest margin is the smallest that reaches the target: a halving. The best slack
// lies inside: small, and lists must make up for rows that codes hid; large, and rows are compared exactly for nothing. It is found on a part of the queries by trying a few
// from a middle outwards while the cost falls; then margin and cap are set on all queries.
// Cost of a setting: what searches did (lists, slots, rows compared exactly), by weights in nanoseconds. Why not the time: another process on the same core changes it by half,
// and then the tuner would follow the neighbour's load. The weights are measured (docs/design/vectors.md); only their ratios matter.
// Safety: recall of a sample is not that of all queries. `sureOf` asks for one standard error more than the target, and says by how much.
// Invariants: 1. what is returned reached the target on all queries given, or `met` is false and it is the exhaustive setting's recall that is told  2. the same segment, queries and
// truth give the same settings: no clock is read.
// Limits: `tunerLimits`.

import { createTopK, type TopK } from "#kernel/dot-top-k";
import { searchSettingsLimits, type SearchSettings } from "../segment/search-settings.ts";
import type { SearchWork } from "../segment/vector-segment.ts";

export const tunerLimits = {
  /** Searches of one tuning: what it costs at most. */
  searchesMax: 40_000,
  /** Queries that choose between slacks. */
  coarseQueries: 192,
} as const;

/** What is tuned: a segment, or a test's model of one. */
export interface Tunable {
  readonly lists: number;
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
  const centroids = lists > 1 ? lists * dims * 0.07 : 0;
  return 2_000 + centroids + work.lists * 60 + work.slots * dims * 0.012 + work.exact * (6 + dims * 0.12);
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
function sureOf(tried: Tried, target: number): boolean {
  return tried.recall - Math.min(tried.error, (1 - target) / 4) >= target;
}

const slacks = [0.6, 1, 1.4, 1.8, 2.2, 2.7, 3.3, 4, 5] as const;
const middle = 4;
const steps = 12;
const { marginMax, listsMax } = searchSettingsLimits;

/**
 * The cheapest settings found that reach `target`. `before`: those of a version before; kept when they still reach it (a fold need not search anew).
 */
export function tune(search: Tunable, queries: QuerySet, target: number, before?: SearchSettings): Tuned {
  let searches = 0;
  const run = (settings: SearchSettings, count = queries.count): Tried => {
    searches += count;
    return measure(search, queries, settings, count);
  };
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
  const coarse = Math.min(queries.count, tunerLimits.coarseQueries);
  /** The smallest margin that reaches the target with this slack; undefined when none does. */
  const cheapest = (slack: number, count: number, from: number, to: number, halvings: number): Tried | undefined => {
    let [low, high] = [from, to];
    let best: Tried | undefined;
    for (let step = 0; step < halvings && searches < tunerLimits.searchesMax; step++) {
      const margin = best === undefined && step === 0 ? high : (low + high) / 2;
      const tried = run({ probes: listsMax, margin, slack }, count);
      if (sureOf(tried, target)) {
        best = tried;
        high = margin;
      } else if (step === 0) return undefined;
      else low = margin;
    }
    return best;
  };
  const found = new Map<number, Tried | undefined>();
  const at = (place: number): Tried | undefined => {
    const slack = slacks[place];
    if (slack === undefined) return undefined;
    if (!found.has(place)) found.set(place, cheapest(slack, coarse, 0, marginMax / 2, steps / 2 + 1));
    return found.get(place);
  };
  // Outwards while it gets cheaper: towards more slack where the target is out of reach, towards less where it is reached.
  let place: number = middle;
  while (place < slacks.length - 1 && at(place) === undefined) place++;
  for (const way of [-1, 1]) {
    for (let next = place + way; next >= 0 && next < slacks.length; next += way) {
      const [here, there] = [at(place), at(next)];
      if (there === undefined || (here !== undefined && there.cost >= here.cost)) break;
      place = next;
    }
  }
  const chosen = at(place);
  if (chosen === undefined) {
    const all = run(exhaustive);
    return done(all, all.recall >= target);
  }
  // On all queries: the margin again, in a window about the one found; what the window's top does not reach, a wider one does.
  const { margin } = chosen.settings;
  const { slack } = chosen.settings;
  let fine = cheapest(slack, queries.count, Math.max(0, margin * 0.6), Math.min(marginMax, margin * 1.15 + 0.2), 6);
  fine ??= cheapest(slack, queries.count, margin, Math.min(marginMax, margin * 2 + 1), 6);
  fine ??= cheapest(slacks[Math.min(place + 2, slacks.length - 1)]!, queries.count, margin, marginMax, 8);
  if (fine === undefined) {
    const all = run(exhaustive);
    return done(all, all.recall >= target);
  }
  return done(capped(fine, queries, search, target, run), true);
}

/** With a cap of lists and a little more margin, where that is cheaper: queries without near neighbours then end early. */
function capped(fine: Tried, queries: QuerySet, search: Tunable, target: number, run: (settings: SearchSettings) => Tried): Tried {
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
