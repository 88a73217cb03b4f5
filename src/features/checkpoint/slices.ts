// Long work on the serving loop, cut into slices between which other work runs.

import type { Clock } from "#platform/clock";

export class Slices {
  readonly #clock: Clock;
  readonly #sliceMs: number;
  #endMs: number;

  constructor(clock: Clock, sliceMs: number) {
    this.#clock = clock;
    this.#sliceMs = sliceMs;
    this.#endMs = clock.monotonicMs() + sliceMs;
  }

  /** Whether the slice is over. */
  get due(): boolean {
    return this.#clock.monotonicMs() >= this.#endMs;
  }

  /** Lets other work run, then begins the next slice. */
  async next(): Promise<void> {
    await this.#clock.yield();
    this.#endMs = this.#clock.monotonicMs() + this.#sliceMs;
  }
}
