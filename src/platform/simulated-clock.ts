// The clock of one life on a simulated machine. See clock.ts for the contract.
// Invariants: 1. a timer fires at its due time or later, by a seeded delay that is mostly small and sometimes a hiccup  2. timers of an ended life never
// fire and its sleeps never settle  3. wall time = virtual time + the machine's offset, which tests may move in both directions; monotonic time
// begins anywhere and does not know of it.
// Virtual time stands still while code runs: a loop that spins until the clock moves would never end.

import type { Prng } from "#base/prng";
import type { Clock, Timer } from "./clock.ts";
import type { Life, SimulatedScheduler } from "./simulated-scheduler.ts";

/** Wall time of a machine, shared by its incarnations. */
export interface WallTime {
  /** Milliseconds since 1970 when virtual time was 0, plus every jump since. */
  offsetMs: number;
}

/** Lateness of a timer: mostly under 0.2 ms, one in 200 up to 20 ms (a busy loop or a descheduled process). Chosen. */
export function timerLatenessUs(random: Prng): number {
  return random.chance(0.005) ? random.below(20_000) : random.below(200);
}

export class SimulatedClock implements Clock {
  readonly #scheduler: SimulatedScheduler;
  readonly #life: Life;
  readonly #random: Prng;
  readonly #wall: WallTime;
  readonly #name: string;
  readonly #monotonicStartMs: number;

  constructor(scheduler: SimulatedScheduler, life: Life, wall: WallTime, name: string) {
    this.#scheduler = scheduler;
    this.#life = life;
    this.#wall = wall;
    this.#name = name;
    this.#random = scheduler.random.fork(`clock ${name}`);
    this.#monotonicStartMs = this.#random.below(1_000_000) - scheduler.nowUs / 1000;
  }

  nowMs(): number {
    return Math.floor(this.#wall.offsetMs + this.#scheduler.nowUs / 1000);
  }

  monotonicMs(): number {
    return this.#monotonicStartMs + this.#scheduler.nowUs / 1000;
  }

  after(delayMs: number, run: () => void): Timer {
    // As the system's: less than 1 ms, or no number at all, counts as 1 ms.
    const delayUs = delayMs >= 1 ? Math.ceil(delayMs * 1000) : 1000;
    return this.#scheduler.schedule(delayUs + timerLatenessUs(this.#random), `${this.#name} timer`, this.#life, run);
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const onAbort = (): void => {
        timer.cancel();
        if (this.#life.alive) reject(signal!.reason as Error);
      };
      const timer = this.after(delayMs, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  yield(): Promise<void> {
    return new Promise((resolve) => this.#scheduler.schedule(1 + this.#random.below(20), `${this.#name} yield`, this.#life, resolve));
  }
}
