// The one source of time. `systemClock` is the machine's; the simulated twin stands in `simulation.ts`.
// Why: rooms that get their clock handed in run in simulated time, in replays of old logs and in tests, unchanged.
// Invariant: nobody outside src/platform calls Date.now, performance.now or setTimeout.

/** A pending callback; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Wall time, milliseconds since 1970-01-01T00:00Z, integer. May jump in both directions. */
  nowMs(): number;
  /** Monotonic time in milliseconds from an arbitrary start, with fractions. Never goes back. */
  monotonicMs(): number;
  /** Calls `run` once after at least `delayMs`. `background: true` does not keep the process alive. */
  after(delayMs: number, run: () => void, options?: { background?: boolean }): Timer;
  /** Resolves after at least `delayMs`; rejects with the signal's reason when aborted. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
  /** Resolves on a later turn of the loop, after pending I/O had its chance (real: setImmediate). */
  yield(): Promise<void>;
}
