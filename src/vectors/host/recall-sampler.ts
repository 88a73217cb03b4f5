// Recall of live traffic: now and then a query that somebody asked is asked again, exactly and as usual, in idle times.
// Why both again: between the answer and the comparison writes come; asked one after the other they see the same rows but for the few written in between.
// Invariant: a sample that finds the thread busy waits; while one waits, no other is taken, so that a busy thread holds one query and no more.
// Limits: the last `kept` samples count.

import type { Filter } from "../filter/filter.ts";
import type { ViewLease } from "../collection/live-collection.ts";
import { searchView } from "../collection/view-search.ts";

const kept = 500;

export interface RecallSample {
  readonly query: Float32Array;
  readonly filter: Filter | undefined;
}

export class RecallSampler {
  readonly #every: number;
  readonly #at: number;
  #left: number;
  #waiting: RecallSample | undefined;
  #hits: number[] = [];
  #all: number[] = [];

  /** `every` 0: none. */
  constructor(every: number, at: number) {
    this.#every = every;
    this.#at = at;
    // Soon the first one: a quiet collection has a figure too.
    this.#left = Math.min(every, 10);
  }

  /** Counts searches; takes a sample when one is due. */
  seen(sample: () => RecallSample, searches: number): void {
    if (this.#every === 0) return;
    this.#left -= searches;
    if (this.#left > 0) return;
    this.#left = this.#every;
    this.#waiting ??= sample();
  }

  next(): RecallSample | undefined {
    const sample = this.#waiting;
    this.#waiting = undefined;
    return sample;
  }

  /** Releases the lease at its end. */
  *compare(lease: ViewLease, { query, filter }: RecallSample): Generator<void, void, void> {
    try {
      const { view } = lease;
      const search = { queries: query, count: this.#at, ...(filter === undefined ? {} : { filter }) };
      const exact = yield* searchView(view, { ...search, exact: true });
      const usual = yield* searchView(view, { ...search, exact: false });
      const found = new Set(usual.places);
      let [hits, all] = [0, 0];
      for (const place of exact.places) {
        if (!view.isLiveAt(place)) continue;
        all += 1;
        if (found.has(place)) hits += 1;
      }
      if (all === 0) return;
      this.#hits.push(hits);
      this.#all.push(all);
      if (this.#all.length > kept) {
        this.#hits.shift();
        this.#all.shift();
      }
    } finally {
      lease.release();
    }
  }

  get recall(): { readonly at: number; readonly value: number; readonly samples: number } | undefined {
    const all = this.#all.reduce((sum, one) => sum + one, 0);
    if (all === 0) return undefined;
    return { at: this.#at, value: this.#hits.reduce((sum, one) => sum + one, 0) / all, samples: this.#all.length };
  }
}
