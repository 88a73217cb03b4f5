// No wait without an end: a promise, or `timeout`.
// Limit: what was waited for goes on; `late` gets its result when it comes after all, to put it away.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";

export interface Deadline<T> {
  readonly clock: Clock;
  readonly ms: number;
  /** What did not happen in time: "loading table/items 2026..." */
  readonly what: string;
  /** What the one in charge should do then. */
  readonly todo: string;
  /** Ends the wait at once, with its reason. */
  readonly signal?: AbortSignal;
  /** Gets a result that came when nobody waited any more. */
  readonly late?: (result: T) => void;
}

/** Settles as `work` does, rejects with `timeout` after `ms`, or with the signal's reason. */
export function withDeadline<T>(work: Promise<T>, deadline: Deadline<T>): Promise<T> {
  const { clock, ms, what, todo, signal, late } = deadline;
  return new Promise((resolve, reject) => {
    let waiting = true;
    const end = (finish: () => void): void => {
      if (!waiting) return;
      waiting = false;
      timer.cancel();
      signal?.removeEventListener("abort", onAbort);
      finish();
    };
    const timer = clock.after(ms, () => end(() => reject(new MillraceError("timeout", `${what} took longer than ${ms} ms`, { todo }))));
    const onAbort = (): void => end(() => reject(signal!.reason as Error));
    work.then(
      (result) => {
        if (waiting) end(() => resolve(result));
        else late?.(result);
      },
      (thrown: unknown) => end(() => reject(toMillraceError(thrown, what))),
    );
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
  });
}
