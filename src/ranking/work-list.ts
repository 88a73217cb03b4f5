// Work list: which request the ranker does a piece of next.
// The one with the least left comes first, so that a request of one piece never waits for a search of ten; among equals the oldest. Every fourth piece goes to the
// oldest request of all, so that a stream of short ones cannot keep a long one waiting for ever.
// Cost: a walk over the requests under way (tens) for each piece. Limits: those of the mailbox.

export interface Work {
  /** Pieces left, about. */
  readonly left: number;
}

/** Every so many pieces one goes to the oldest. */
const oldestEvery = 4;

export class WorkList<W extends Work> {
  /** Oldest first. */
  readonly #works: W[] = [];
  #turn = 0;

  get size(): number {
    return this.#works.length;
  }

  add(work: W): void {
    this.#works.push(work);
  }

  /** The work whose piece is due; `undefined` when there is none. It stays until it is dropped. */
  next(): W | undefined {
    this.#turn = (this.#turn + 1) % oldestEvery;
    let best = this.#works[0];
    if (best === undefined || this.#turn === 0) return best;
    for (const work of this.#works) if (work.left < best.left) best = work;
    return best;
  }

  drop(work: W): void {
    const at = this.#works.indexOf(work);
    if (at >= 0) this.#works.splice(at, 1);
  }
}
