// A search of a view, in steps: the base by its index or exactly, then every chunk of the tail, merged; between steps the thread does other work, writes among it.
// Why writes may come between: nobody waits for a long exact search. What an answer shows is of some moment since it was asked for each of its elements; a write that was acknowledged
// before it was asked is in it. An element that moved meanwhile, from a slot to the tail, may be found in both places: its newer one stays.
// Order: nearer first, equal ones by place: slots of the base before rows of the tail, each ascending. The same state gives the same answer.
// Cost: a step is one call of a kernel over at most `stepBytes`, or one search of the index. Limits: vectorLimits.

import { createTopK, type TopK } from "#kernel/dot-top-k";
import { codeBytes, rowFloats, slotsUnit } from "#kernel/vector-layout";
import { candidatesFor, ExactScan, normalise } from "#kernel/vector-rows";
import type { Filter } from "../filter/filter.ts";
import { type Filled, fillFilter, scanSteps, searchPassing, wayOf } from "../filter/filtered-search.ts";
import type { SearchSettings } from "../segment/search-settings.ts";
import type { CollectionView } from "./collection-view.ts";
import { type TailLists, tailListsLimits } from "./tail-lists.ts";

export const viewSearchLimits = {
  /** What one step of an exact search reads: some 0.3 ms. */
  stepBytes: 3 << 20,
  /** Rows of the tail that are in no list, compared in one step. */
  stepRows: 4_096,
  /** Lists of the tail that are looked into in one step: some 0.2 ms. */
  stepLists: 96,
} as const;

export interface ViewSearch {
  /** Row-major. */
  readonly queries: Float32Array;
  readonly count: number;
  readonly settings?: SearchSettings;
  readonly exact: boolean;
  readonly filter?: Filter;
  /** Default viewSearchLimits.stepLists. */
  readonly stepLists?: number;
}

/** Places and scores of all queries one after the other, those of query q from `from[q]` on. */
export interface Found {
  readonly from: Uint32Array;
  readonly places: Int32Array;
  readonly scores: Float32Array;
  readonly rowsCompared: number;
}

/** The best of several sorted lists. */
class Best {
  size = 0;
  places: Int32Array;
  scores: Float32Array;
  #morePlaces: Int32Array;
  #moreScores: Float32Array;
  readonly #count: number;
  readonly #smallerIsNearer: boolean;

  constructor(count: number, smallerIsNearer: boolean) {
    this.#count = count;
    this.#smallerIsNearer = smallerIsNearer;
    this.places = new Int32Array(count);
    this.scores = new Float32Array(count);
    this.#morePlaces = new Int32Array(count);
    this.#moreScores = new Float32Array(count);
  }

  /** The score that the next one must reach; undefined: any is wanted. */
  get least(): number | undefined {
    return this.size < this.#count ? undefined : this.scores[this.size - 1];
  }

  /**
   * Adds a sorted list. Place of row r: `base + step * r`, or of `rows[r]`. `mayRepeat`: what is there already, by an older vector of it, stays.
   */
  add(top: TopK, base: number, step: 1 | -1, { rows, mayRepeat = false }: { readonly rows?: Uint32Array; readonly mayRepeat?: boolean } = {}): void {
    const { places, scores } = this;
    const [newPlaces, newScores, less] = [this.#morePlaces, this.#moreScores, this.#smallerIsNearer];
    let [size, old, added] = [0, 0, 0];
    while (size < this.#count && (old < this.size || added < top.size)) {
      const number = top.rows[added]!;
      const place = base + step * (rows === undefined ? number : rows[number]!);
      if (mayRepeat && added < top.size && places.subarray(0, this.size).includes(place)) {
        added += 1;
        continue;
      }
      const [was, score] = [scores[old]!, top.scores[added]!];
      const isBefore = was === score ? orderOf(places[old]!) < orderOf(place) : less ? was < score : was > score;
      if (added >= top.size || (old < this.size && isBefore)) {
        newPlaces[size] = places[old]!;
        newScores[size++] = scores[old++]!;
      } else {
        newPlaces[size] = place;
        newScores[size++] = score;
        added += 1;
      }
    }
    [this.places, this.#morePlaces] = [newPlaces, places];
    [this.scores, this.#moreScores] = [newScores, scores];
    this.size = size;
  }
}

/** Slots of the base before rows of the tail, each ascending. */
function orderOf(place: number): number {
  return place >= 0 ? place : 2 ** 32 - place;
}

let spare: TopK | undefined;

/** A TopK of exactly `k` that nobody holds over a step. */
function topOf(k: number): TopK {
  if (spare?.rows.length !== k) spare = createTopK(k);
  return spare;
}

/** Runs a search; each `yield` is a place where other work may come. */
export function* searchView(view: CollectionView, search: ViewSearch): Generator<void, Found, void> {
  const { shape, base, tail } = view;
  const { dims, metric } = shape;
  const { count, filter, exact, stepLists = viewSearchLimits.stepLists } = search;
  const many = search.queries.length / dims;
  const queries = search.queries.slice();
  if (metric === "cosine") normalise(queries, dims);
  const before = view.changes;
  const bests = Array.from({ length: many }, () => new Best(count, metric === "l2"));
  /** Of a search whose rows of the tail are found by lists: those lists. */
  const looked = new Array<Uint32Array | undefined>(many);
  /** Whether lists were looked into, and in the end not all. */
  const partly = new Uint8Array(many);
  let lists = exact || filter !== undefined ? undefined : view.tailLists;
  // Idle times do the rest.
  if (lists !== undefined && lists.waitingRows > tailListsLimits.waitingMax) lists.work();
  if (lists?.canSearch(count) !== true) lists = undefined;
  const moves = lists?.moves;
  let compared = 0;

  // --- the base
  if (base !== undefined && base.segment.liveRows > 0) {
    const { segment } = base;
    let filled: Filled | undefined;
    let byExact = exact || segment.lists <= 1;
    if (filter !== undefined) {
      filled = yield* fillFilter(segment, { filter, attributes: base.attributes });
      if (wayOf(segment, filled, count) !== "index") byExact = true;
    }
    if (byExact) {
      const rowBytes = exact ? rowFloats(dims) * 4 : codeBytes(dims);
      const step = Math.max(slotsUnit, Math.floor(viewSearchLimits.stepBytes / rowBytes / slotsUnit) * slotsUnit);
      const group = queriesTogether(segment.memory.lane.free, count, dims);
      for (let first = 0; first < many; first += group) {
        const last = Math.min(many, first + group);
        const k = Math.min(count, segment.slots);
        const scan = new ExactScan(segment.block);
        const filterAt = filled === undefined || filled.listed ? 0 : segment.filterRoomAt;
        scan.begin(queries.subarray(first * dims, last * dims), k, { filterAt, use: exact || segment.block.codesAt === 0 ? "f32" : "int8" });
        if (filled?.listed === true) {
          yield* scanSteps(segment, filled, scan, last - first);
          yield;
        } else {
          for (let from = 0; from < segment.slots; from += step) {
            scan.scan(from, Math.min(segment.slots, from + step));
            yield;
          }
        }
        const tops = Array.from({ length: last - first }, () => createTopK(k));
        scan.end(tops);
        tops.forEach((top, i) => bests[first + i]!.add(top, 0, 1));
        compared += segment.liveRows * (last - first);
      }
    } else {
      const settings = search.settings ?? base.settings;
      for (let q = 0; q < many; q++) {
        const query = queries.subarray(q * dims, (q + 1) * dims);
        // A filtered search may take steps, over which the spare one may be taken.
        const top = filled === undefined ? topOf(count) : createTopK(count);
        if (filled === undefined) {
          segment.search(query, settings, top);
          // The lists that are looked into at most may hold fewer than are asked for.
          if (top.size < Math.min(count, segment.liveRows)) segment.search(query, { ...settings, probes: segment.lists }, top);
        } else yield* searchPassing(segment, query, filled, settings, top);
        bests[q]!.add(top, 0, 1);
        compared += segment.work.slots;
        const own = lists?.listsOf(query, bests[q]!.least);
        if (own !== undefined) {
          const mayRepeat = (): boolean => view.changes !== before || lists!.moves !== moves;
          for (let from = 0; from < own.length; from += stepLists) {
            yield;
            const isAll = lookInto(lists!, own.subarray(from, from + stepLists), query, bests[q]!, mayRepeat());
            looked[q] = isAll ? own : undefined;
            if (!isAll) break;
            partly[q] = 1;
          }
        }
        yield;
      }
    }
  }

  // --- the tail. Chunks that come meanwhile hold what was written after the search was asked.
  for (const chunk of [...tail.chunks]) {
    if (chunk.used === 0) continue;
    if (filter !== undefined) {
      // At once, and anew for each chunk: columns grow with every write.
      const words = chunk.filterAt / 4;
      const isSome = tail.filterInto(filter, chunk, chunk.block.memory.u32.subarray(words, words + chunk.block.slots / 32));
      if (!isSome) continue;
    }
    for (let q = 0; q < many; q++) {
      if (looked[q] !== undefined) continue;
      const top = topOf(Math.min(count, chunk.block.slots));
      tail.searchChunk(chunk, queries.subarray(q * dims, (q + 1) * dims), top, exact, filter === undefined ? 0 : chunk.filterAt);
      bests[q]!.add(top, -1 - chunk.first, -1, { mayRepeat: partly[q] === 1 });
      compared += chunk.used;
      yield;
    }
  }
  // Where lists were looked into: the rows that are in none.
  let step = 0;
  for (const [q, own] of looked.entries()) {
    if (own === undefined) continue;
    const query = queries.subarray(q * dims, (q + 1) * dims);
    const best = bests[q]!;
    if (lists!.othersAreFew) {
      // In one turn with it the lists, if some came there meanwhile.
      const mayRepeat = view.changes !== before;
      compared += lists!.lookAtOthers(query, count, (top, rows) => best.add(top, -1, -1, { rows, mayRepeat }));
      if (lists!.moves !== moves) lookInto(lists!, own, query, best, true);
      continue;
    }
    for (const chunk of [...tail.chunks]) {
      if (chunk.always === 0) continue;
      const top = topOf(Math.min(count, chunk.block.slots));
      tail.searchChunk(chunk, query, top, false, chunk.alwaysAt);
      best.add(top, -1 - chunk.first, -1, { mayRepeat: view.changes !== before });
      compared += chunk.always;
      step += chunk.always;
      if (step < viewSearchLimits.stepRows) continue;
      step = 0;
      yield;
    }
    // Some were given lists meanwhile: they may stand where it was looked before they came.
    if (lists!.moves !== moves) lookInto(lists!, own, query, best, true);
  }
  return gathered(view, bests, view.changes !== before, compared);
}

/** Adds the rows of the tail that are in these lists; false: none was added, they are to be compared one by one. */
function lookInto(lists: TailLists, own: Uint32Array, query: Float32Array, best: Best, again: boolean): boolean {
  return lists.look(own, query, best.places.length, best.least, (top, rows) => best.add(top, -1, -1, { rows, mayRepeat: again })) !== undefined;
}

/** Queries whose heaps fit a lane. */
function queriesTogether(laneBytes: number, count: number, dims: number): number {
  const each = 16 + 8 * count + 16 + 8 * candidatesFor(count) + 12 * codeBytes(dims);
  return Math.max(1, Math.min(64, Math.floor(laneBytes / 2 / each)));
}

/** All answers behind one another. `hasMoved`: writes came between the steps, so an element may stand in two places. */
function gathered(view: CollectionView, bests: readonly Best[], hasMoved: boolean, rowsCompared: number): Found {
  const all = bests.reduce((sum, { size }) => sum + size, 0);
  const from = new Uint32Array(bests.length + 1);
  const places = new Int32Array(all);
  const scores = new Float32Array(all);
  let at = 0;
  bests.forEach((best, q) => {
    // The newest place of each element: in the tail before the base, a later row before an earlier one, as where it was deleted and added again.
    const newest = new Map<string, number>();
    if (hasMoved) {
      for (let i = 0; i < best.size; i++) {
        const element = view.elementAt(best.places[i]!);
        newest.set(element, Math.min(best.places[i]!, newest.get(element) ?? Infinity));
      }
    }
    for (let i = 0; i < best.size; i++) {
      const place = best.places[i]!;
      if (hasMoved && newest.get(view.elementAt(place)) !== place) continue;
      places[at] = place;
      scores[at++] = best.scores[i]!;
    }
    from[q + 1] = at;
  });
  return { from, places: places.subarray(0, at), scores: scores.subarray(0, at), rowsCompared };
}

/** Runs all steps at once. */
export function searchAtOnce(view: CollectionView, search: ViewSearch): Found {
  const steps = searchView(view, search);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}
