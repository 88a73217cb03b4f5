// When a pool lets go of memories that were idle for long, and when those that it dropped are collected: soon, but seldom.
// Why not at once: the collection stops the thread, and one collects what several leases dropped; and what is idle now serves the next merge or version, if one comes.
// Concurrency: the thread of the pool.

import type { Clock, Timer } from "#platform/clock";
import type { MemoryPool } from "./memory-pool.ts";

export const collectDroppedLimits = { delayMs: 500, pauseMs: 3_000 } as const;

/** A memory is dropped when nobody wanted it for one to two of these. */
export const idleMsMax = 15_000;

/** Has the pool drop what is idle for long, until `stop`. */
export function dropLongIdle(pool: MemoryPool, clock: Clock): { stop(): void } {
  let timer: Timer;
  const arm = (): void => {
    timer = clock.after(
      idleMsMax,
      () => {
        pool.dropLongIdle();
        arm();
      },
      { background: true },
    );
  };
  arm();
  return { stop: () => timer.cancel() };
}

/** Calls `collect` half a second after memories were dropped, at most every three, until `stop`. */
export function collectDropped(pool: MemoryPool, clock: Clock, collect: () => void): { stop(): void } {
  let timer: Timer | undefined;
  let lastMs = -Infinity;
  const stopListening = pool.onDropped(() => {
    if (timer !== undefined) return;
    const delayMs = Math.max(collectDroppedLimits.delayMs, lastMs + collectDroppedLimits.pauseMs - clock.monotonicMs());
    timer = clock.after(
      delayMs,
      () => {
        timer = undefined;
        lastMs = clock.monotonicMs();
        collect();
      },
      { background: true },
    );
  });
  return {
    stop() {
      stopListening();
      timer?.cancel();
      timer = undefined;
    },
  };
}
