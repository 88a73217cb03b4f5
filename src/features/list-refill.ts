// Refills a top list, a few handles at a time, after removals have emptied it.
// Why in steps: the catalogue may hold a million items, and offering them all at once would stall the serving loop.
// Invariant: after a whole pass in which nothing else left the list it is exact again; until then it is in order but may miss some.
// Cost: `step(n)` looks at n handles, about 20 ns each; nothing while the list needs none.

import type { TopList } from "./top-list.ts";

export class ListRefill {
  readonly #list: TopList;
  readonly #size: () => number;
  readonly #offer: (handle: number) => void;
  /** Next handle to offer, -1 when no refill is under way. */
  #next = -1;

  /** `size`: handles there are; `offer`: updates the list with a handle's key where the handle belongs into it. */
  constructor(list: TopList, size: () => number, offer: (handle: number) => void) {
    this.#list = list;
    this.#size = size;
    this.#offer = offer;
  }

  /** Where it is, -1 when none is under way: for a checkpoint. */
  get next(): number {
    return this.#next;
  }
  set next(handle: number) {
    this.#next = handle;
  }

  /** Goes on by at most `most` handles. */
  step(most: number): void {
    if (this.#next < 0) {
      if (!this.#list.wantsRefill) return;
      this.#list.beginRefill();
      this.#next = 0;
    }
    const end = Math.min(this.#size(), this.#next + most);
    for (let handle = this.#next; handle < end; handle += 1) this.#offer(handle);
    this.#next = end === this.#size() ? -1 : end;
  }
}
