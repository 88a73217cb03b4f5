// Pushes that were sent again: each push of a worker has a sequence number, and a number that was applied is not applied a second time.
// Why: a worker whose connection broke does not know whether its last push was applied; adding a step twice is an error that nobody finds.
// Invariants: 1. of one table and worker a number is applied at most once, while the table's thread lives  2. a number that is still under way is answered with the outcome of the first
//             3. a number older than the window is refused, never applied.
// Cost: a look-up. Concurrency: the serving loop. Limits: pushWindow numbers a worker, pushWorkersMax workers; a worker that was silent for longer than so many others is forgotten.

import { MillraceError, toMillraceError } from "#base/errors";
import { parameterLimits } from "#wire/parameter-limits";

interface Window {
  largest: number;
  readonly outcomes: Map<number, Promise<number>>;
}

export class PushWindows {
  /** The longest silent first. */
  readonly #windows = new Map<string, Window>();

  /** The outcome of `push` under this number: that of the first call with it. `table`: a number that a table of the same name never had before. */
  once(table: number, worker: string, seq: number, push: () => Promise<number>): Promise<number> {
    const { pushWindow, pushWorkersMax } = parameterLimits;
    const key = `${table} ${worker}`;
    const window = this.#windows.get(key) ?? { largest: 0, outcomes: new Map<number, Promise<number>>() };
    this.#windows.delete(key);
    this.#windows.set(key, window);
    if (this.#windows.size > pushWorkersMax) this.#windows.delete(this.#windows.keys().next().value!);
    const known = window.outcomes.get(seq);
    if (known !== undefined) return known;
    if (seq <= window.largest - pushWindow) {
      return Promise.reject(
        new MillraceError("conflict", `SEQ ${seq}, where this worker has sent ${window.largest}: it may have been applied`, {
          todo: `send again within ${pushWindow} pushes, with numbers that rise`,
        }),
      );
    }
    const outcome = push();
    window.outcomes.set(seq, outcome);
    if (seq > window.largest) {
      window.largest = seq;
      for (const old of window.outcomes.keys()) {
        if (old > seq - pushWindow) break;
        window.outcomes.delete(old);
      }
    }
    outcome.catch((thrown: unknown) => {
      // What ended by its deadline may still be applied; everything else was not, and may come again.
      if (toMillraceError(thrown).code !== "timeout") window.outcomes.delete(seq);
    });
    return outcome;
  }
}
