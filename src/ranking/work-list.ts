// Work list: which request the ranker does a piece of next.
// Scores come before searches (a page waits for them, and they are shorter), then the one with the least left, so that a request of one piece never waits for one of
// ten; among equals the oldest. Every fourth piece goes to the oldest request of all, so that a stream of short ones cannot keep a long one waiting for ever.
// Cost: a walk over the requests under way (tens) for each piece. Limits: those of the mailbox.

export interface Work {
  /** Pieces left, about. */
  readonly left: number;
  /** Goes before those that are not. */
  readonly urgent: boolean;
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
    for (const work of this.#works) if (goesBefore(work, best)) best = work;
    return best;
  }

  drop(work: W): void {
    const at = this.#works.indexOf(work);
    if (at >= 0) this.#works.splice(at, 1);
  }
}

function goesBefore(work: Work, other: Work): boolean {
  return work.urgent === other.urgent ? work.left < other.left : work.urgent;
}
