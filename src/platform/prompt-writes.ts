// Whether a small write to a file is done in the calling thread, or by a thread of the pool.
// Why: a write of a kilobyte is a copy to memory of the system, 4 us; by way of the pool it takes 70 us, and on busy cores its answer waits for two threads' turns. Measured on two cores of a
// shared machine, ext4, 2,000 writes a second of 600 bytes and a sync five times a second: in the calling thread p50 0.004, p99 0.07, p99.9 0.8 ms, no slower while a sync was under way; by the
// pool 0.07, 2.8, 5.9 ms.
// What it risks: where the system makes writers wait (too much is unwritten, a file system that holds up writes during a sync) the thread waits with it. So each is timed: after a slow one the
// pool writes for a while, twice as long each time it is found slow again.
// Invariants: 1. only writes of at most `bytesMax`  2. of the time that writes are slow at most one is done in the calling thread per pause.
// Concurrency: one thread; one for all files of a thread, since slowness is the disk's.

export const promptWriteLimits = {
  bytesMax: 64 << 10,
  /** A write that takes longer is slow. Above what a thread waits for its core on a busy machine, mostly. */
  slowMs: 5,
  pauseMsMin: 100,
  pauseMsMax: 60_000,
  /** After so many that were not slow a pause is short again. */
  forgivenAfter: 256,
} as const;

export class PromptWrites {
  #pauseMs: number = promptWriteLimits.pauseMsMin;
  #pausedUntilMs = -Infinity;
  #fine = 0;

  /** `nowMs`: monotonic. */
  allows(bytes: number, nowMs: number): boolean {
    return bytes <= promptWriteLimits.bytesMax && nowMs >= this.#pausedUntilMs;
  }

  /** A write in the calling thread began at `fromMs` and ended at `nowMs`. */
  took(fromMs: number, nowMs: number): void {
    const { slowMs, pauseMsMin, pauseMsMax, forgivenAfter } = promptWriteLimits;
    if (nowMs - fromMs < slowMs) {
      this.#fine += 1;
      if (this.#fine === forgivenAfter) this.#pauseMs = pauseMsMin;
      return;
    }
    this.#fine = 0;
    this.#pausedUntilMs = nowMs + this.#pauseMs;
    this.#pauseMs = Math.min(2 * this.#pauseMs, pauseMsMax);
  }
}
