// Numbers of the sources of look-ups: memtables and run files. A source keeps its number for life, so what a look-up answered stays right while others come.
// Limits: `storeLimits.sourcesMax`.

import { storeLimits } from "./store.ts";

export class SourceNumbers {
  readonly #taken = new Uint8Array(storeLimits.sourcesMax);

  /** A free number; undefined when all are taken. */
  take(): number | undefined {
    const number = this.#taken.indexOf(0);
    if (number < 0) return undefined;
    this.#taken[number] = 1;
    return number;
  }

  give(number: number): void {
    this.#taken[number] = 0;
  }
}
