// Taste: for one request, how strongly each item belongs to what the user touched last, from the co-occurrence store.
//   taste(c) = sum over seeds s of  recency(s) x weight(s, c) / ((norm(s) + k)^a x (norm(c) + k)^b)
// where seeds are the user's newest distinct items, recency halves every `seedHalfLifeMs`, and norms are decayed event counts. With a = b = 1/2 it
// is the cosine of item-based collaborative filtering (Sarwar, Karypis, Konstan, Riedl, WWW 2001); other exponents and the shrinkage k are those
// that a replay chose (docs/design/recommend.md).
// Layout: dense columns over all items with the list of those touched; they come from a pool and are cleared by that list, so a request costs what it
// touches, not the catalogue.
// Cost: seeds x slots of their tables: 60 x 1,024 slots about 100 us.

import { kthLargest } from "#base/select-largest";
import type { HistoryView } from "#features/history-list";
import type { SceneStores } from "./scene.ts";

export interface TasteOptions {
  /** Newest distinct items of the user that are asked for their neighbours. */
  readonly seeds: number;
  readonly seedHalfLifeMs: number;
  /** Exponent of the seed's norm. */
  readonly seedPower: number;
  /** Exponent of the candidate's norm. */
  readonly candidatePower: number;
  /** Added to norms, in events: pairs of rare items prove little. */
  readonly shrinkage: number;
}

/** Smaller parts say nothing and would vanish in f32. */
const partMin = 1e-20;

export class Taste {
  #scores = new Float32Array(1_024);
  /** The seed that gave the largest part of an item's score, handle + 1. */
  #via = new Uint32Array(1_024);
  #viaScore = new Float32Array(1_024);
  #touched = new Uint32Array(1_024);
  #scratch = new Float32Array(1_024);
  #count = 0;

  /** Items with a score above 0. */
  get count(): number {
    return this.#count;
  }

  get touched(): Uint32Array {
    return this.#touched;
  }

  score(item: number): number {
    return item < this.#scores.length ? this.#scores[item]! : 0;
  }

  /** The seed behind most of an item's score, -1 when there is none. */
  via(item: number): number {
    return item < this.#via.length ? this.#via[item]! - 1 : -1;
  }

  /** Scores the neighbours of the user's newest items. */
  compute(stores: SceneStores, history: HistoryView, nowMs: number, options: TasteOptions): void {
    this.#ensure(stores.catalog.items.size);
    const newest = newestItems(history, options.seeds);
    const anchorMs = newest.length === 0 ? nowMs : history.times[newest[0]!]!;
    const scores = this.#scores;
    for (const entry of newest) {
      const seed = history.items[entry]!;
      const view = stores.together.of(seed, nowMs);
      if (view === undefined) continue;
      const recency = 2 ** ((history.times[entry]! - anchorMs) / options.seedHalfLifeMs);
      const share = (recency * view.factor) / (stores.togetherNorm.at(seed, nowMs) + options.shrinkage) ** options.seedPower;
      const { neighbours, weights } = view;
      for (let slot = view.from; slot < view.to; slot += 1) {
        const key = neighbours[slot]!;
        if (key === 0) continue;
        const item = key - 1;
        const part = share * weights[slot]!;
        if (part < partMin) continue;
        if (scores[item] === 0) {
          this.#touched[this.#count] = item;
          this.#count += 1;
        }
        scores[item]! += part;
        if (part > this.#viaScore[item]!) {
          this.#viaScore[item] = part;
          this.#via[item] = seed + 1;
        }
      }
    }
    for (let at = 0; at < this.#count; at += 1) {
      const item = this.#touched[at]!;
      scores[item]! /= (stores.togetherNorm.at(item, nowMs) + options.shrinkage) ** options.candidatePower;
    }
  }

  /** The lowest score among the best `k` touched items. */
  threshold(k: number): number {
    if (this.#count === 0 || k <= 0) return Number.POSITIVE_INFINITY;
    for (let at = 0; at < this.#count; at += 1) this.#scratch[at] = this.#scores[this.#touched[at]!]!;
    return k >= this.#count ? 0 : kthLargest(this.#scratch, this.#count, k);
  }

  /** Ready for the next request. */
  clear(): void {
    for (let at = 0; at < this.#count; at += 1) {
      const item = this.#touched[at]!;
      this.#scores[item] = 0;
      this.#via[item] = 0;
      this.#viaScore[item] = 0;
    }
    this.#count = 0;
  }

  #ensure(items: number): void {
    if (items <= this.#scores.length) return;
    const length = 2 ** Math.ceil(Math.log2(items));
    this.#scores = new Float32Array(length);
    this.#via = new Uint32Array(length);
    this.#viaScore = new Float32Array(length);
    this.#touched = new Uint32Array(length);
    this.#scratch = new Float32Array(length);
  }
}

/** Places of a user's newest `most` items in the view, newest first, ties to the later place. */
function newestItems(history: HistoryView, most: number): number[] {
  const places = Array.from({ length: history.to - history.from }, (_, index) => history.from + index);
  places.sort((a, b) => history.times[b]! - history.times[a]! || b - a);
  return places.slice(0, most);
}

/** Lends tastes to requests in flight. */
export class TastePool {
  readonly #free: Taste[] = [];

  take(): Taste {
    return this.#free.pop() ?? new Taste();
  }

  give(taste: Taste): void {
    taste.clear();
    if (this.#free.length < 16) this.#free.push(taste);
  }
}
