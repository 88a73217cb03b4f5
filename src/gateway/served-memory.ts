// Remembers the last answers by their recommendation id, so that later events can be joined to the answer that showed the item.
// Ids read `r-INCARNATION-SEQUENCE`: the sequence (base 36) is the place in a ring, the whole id is compared, so nothing is hashed and the bound is
// exact. A new process has a new incarnation, since answers are not acknowledged to be in the log before they are given.
// Invariants: 1. at most `capacity` answers  2. an id that is not remembered is `undefined`, never a wrong answer.
// Cost: about 200 bytes an answer of 20 items.

export interface Served {
  readonly recommendationId: string;
  readonly pipeline: string;
  readonly user: number;
  readonly items: Uint32Array;
  readonly atMs: number;
}

export class ServedMemory {
  readonly #ring: (Served | undefined)[];
  readonly #incarnation: string;
  #next = 0;
  #held = 0;

  /** `incarnation`: letters and digits, new for each process. */
  constructor(capacity: number, incarnation: string) {
    this.#ring = Array.from({ length: capacity }, () => undefined);
    this.#incarnation = incarnation;
  }

  nextId(): string {
    return `r-${this.#incarnation}-${(this.#next++).toString(36)}`;
  }

  add(served: Served): void {
    const place = this.#placeOf(served.recommendationId);
    if (place === undefined) return;
    if (this.#ring[place] === undefined) this.#held += 1;
    this.#ring[place] = served;
  }

  find(recommendationId: string): Served | undefined {
    const place = this.#placeOf(recommendationId);
    const served = place === undefined ? undefined : this.#ring[place];
    return served?.recommendationId === recommendationId ? served : undefined;
  }

  get bytes(): number {
    return this.#ring.length * 8 + this.#held * 200;
  }

  #placeOf(recommendationId: string): number | undefined {
    const dash = recommendationId.lastIndexOf("-");
    const sequence = Number.parseInt(recommendationId.slice(dash + 1), 36);
    return dash < 0 || !Number.isSafeInteger(sequence) || sequence < 0 ? undefined : sequence % this.#ring.length;
  }
}
