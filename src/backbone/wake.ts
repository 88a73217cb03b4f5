// Wakes whoever waits for "something changed". A version number closes the gap between looking and waiting: read `version`, look, then wait for a
// change since that version.
// Cost: one array entry a waiter. Concurrency: one thread.

import type { Clock } from "#platform/clock";

export class Wake {
  #version = 0;
  #waiters: (() => void)[] = [];

  get version(): number {
    return this.#version;
  }

  notify(): void {
    this.#version += 1;
    if (this.#waiters.length === 0) return;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }

  /** Resolves at once when `notify` was called since `version`, else at the next call, when the signal aborts, or after `within.delayMs`. */
  changed(version: number, signal: AbortSignal, within?: { clock: Clock; delayMs: number }): Promise<void> {
    if (version !== this.#version || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener("abort", giveUp);
        timer?.cancel();
        resolve();
      };
      const giveUp = (): void => {
        this.#waiters = this.#waiters.filter((waiter) => waiter !== done);
        done();
      };
      const timer = within?.clock.after(within.delayMs, giveUp);
      signal.addEventListener("abort", giveUp);
      this.#waiters.push(done);
    });
  }
}
