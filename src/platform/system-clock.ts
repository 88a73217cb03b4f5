// The machine's clock. See clock.ts for the contract.
// Why not setTimeout as it is: it fires up to 1 ms early by the monotonic clock (its own time is cached and cut to milliseconds), and turns every
// delay of more than 2^31 - 1 ms (25 days) into 1 ms. Both are mended by looking at the clock when the timer fires.

import { performance } from "node:perf_hooks";
import { setImmediate as immediate } from "node:timers/promises";
import type { Clock, Timer } from "./clock.ts";

/** The longest delay that setTimeout takes. */
const timeoutMsMax = 2_147_483_647;

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, run, options): Timer {
    // A delay that is no number counts as the shortest.
    const dueMs = performance.now() + (delayMs > 0 ? delayMs : 0);
    let timer: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      timer = setTimeout(look, Math.min(timeoutMsMax, Math.max(1, Math.ceil(leftMs))));
      if (options?.background === true) timer.unref();
    };
    const look = (): void => {
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) arm(leftMs);
      else run();
    };
    arm(dueMs - performance.now());
    return { cancel: () => clearTimeout(timer) };
  },
  sleep(delayMs, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const onAbort = (): void => {
        timer.cancel();
        reject(signal!.reason as Error);
      };
      const timer = systemClock.after(delayMs, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  },
  yield: () => immediate(),
};
