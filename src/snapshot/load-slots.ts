// How many versions a process fetches and loads at the same time, over all its followers: each takes network, disk and memory beside what is served.
// Invariants: 1. at most `max` hold a slot  2. who asked first gets the next one.
// Limits: as many may wait as there are followers; each waits with a deadline of its own.

import type { Clock } from "#platform/clock";
import { MillraceError, toMillraceError } from "#base/errors";

export class LoadSlots {
  readonly #max: number;
  #held = 0;
  #waiting: (() => void)[] = [];

  /** `max`: 1 or more; default 2. */
  constructor(max = 2) {
    this.#max = Math.max(1, max);
  }

  get held(): number {
    return this.#held;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** A slot, to be given back by calling the result. Throws `timeout` after `waitMsMax`, or the signal's reason. */
  async take(clock: Clock, waitMsMax: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#held < this.#max) this.#held += 1;
    else await this.#wait(clock, waitMsMax, signal);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = this.#waiting.shift();
      if (next === undefined) this.#held -= 1;
      else next();
    };
  }

  /** The slot passes from hand to hand: `#held` does not change. */
  #wait(clock: Clock, waitMsMax: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (why: unknown): void => {
        end();
        this.#waiting = this.#waiting.filter((one) => one !== go);
        reject(toMillraceError(why));
      };
      const onAbort = (): void => leave(signal.reason);
      const timer = clock.after(waitMsMax, () =>
        leave(new MillraceError("timeout", `no slot to load a version within ${waitMsMax} ms`, { todo: "other versions are being loaded: it is tried again" })),
      );
      const end = (): void => {
        timer.cancel();
        signal.removeEventListener("abort", onAbort);
      };
      const go = (): void => {
        end();
        resolve();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(go);
    });
  }
}
