// When memories that a pool dropped are collected: soon, but seldom.
// Why not at once: the collection stops the thread, and one collects what several leases dropped.
// Concurrency: the thread of the pool.

import type { Clock, Timer } from "#platform/clock";
import type { MemoryPool } from "./memory-pool.ts";

export const collectDroppedLimits = { delayMs: 500, pauseMs: 3_000 } as const;

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
