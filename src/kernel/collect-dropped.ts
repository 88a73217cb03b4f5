// When a pool lets go of memories that were idle for long, and when those that it dropped are collected: soon, but seldom.
// Why not at once: the collection stops the thread, and one collects what several leases dropped; and what is idle now serves the next merge or version, if one comes.
// Why a serving thread waits for a quiet moment: a full collection takes 10 to 30 ms of a heap that serves, and nobody needs the room.
// Concurrency: the thread of the pool.

import type { Clock, Timer } from "#platform/clock";
import type { MemoryPool } from "./memory-pool.ts";

export const collectDroppedLimits = {
  delayMs: 500,
  pauseMs: 3_000,
  /** The loop stall meter and the metrics of a server at rest take 3 %. */
  quietLoad: 0.1,
  patienceMs: 300_000,
} as const;

/** A memory is dropped when nobody wanted it for one to two of these. */
export const idleMsMax = 10_000;

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

/**
 * Calls `collect` half a second after memories were dropped, at most every three, until `stop`.
 * `load`: for a thread that serves. What was only idle for long is then collected in a quiet moment (the thread's share of a processor since the call before is at most `quietLoad`), or
 * when the engine collects by itself, at the latest after `patienceMs`; memories whose room a lease needed do not wait.
 */
export function collectDropped(pool: MemoryPool, clock: Clock, collect: () => void, load?: () => number): { stop(): void } {
  let timer: Timer | undefined;
  let lastMs = -Infinity;
  /** Up to when a quiet moment is waited for. */
  let patientUntilMs = Infinity;
  const { delayMs, pauseMs, quietLoad, patienceMs } = collectDroppedLimits;
  const arm = (afterMs: number): void => {
    timer = clock.after(afterMs, look, { background: true });
  };
  const look = (): void => {
    timer = undefined;
    const nowMs = clock.monotonicMs();
    if (load !== undefined && nowMs < patientUntilMs && load() > quietLoad) {
      if (pool.statistics().droppedBytes > 0) arm(delayMs);
      return;
    }
    lastMs = nowMs;
    collect();
  };
  const stopListening = pool.onDropped((why) => {
    const nowMs = clock.monotonicMs();
    if (why === "room") patientUntilMs = nowMs;
    if (timer !== undefined) return;
    if (why === "idle") patientUntilMs = nowMs + patienceMs;
    load?.();
    arm(Math.max(delayMs, lastMs + pauseMs - nowMs));
  });
  return {
    stop() {
      stopListening();
      timer?.cancel();
      timer = undefined;
    },
  };
}
