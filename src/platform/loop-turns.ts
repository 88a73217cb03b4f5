// Turns of the loop, shared fairly: a task that comes when this turn has lasted long enough waits for one of its own.
// Why: one poll of the loop hands over everything that has come meanwhile. After a pause (the machine was busy elsewhere) that may be a dozen requests of a millisecond or two each, and nobody
// else has a turn until all are through: no timer, no deadline, no answer of another thread. So those that come late in a turn are taken one a turn, in the order in which they came.
// Invariants: 1. tasks begin in the order in which they were given  2. each runs exactly once  3. of those that waited one runs a turn, so timers and I/O have theirs between two.
// Cost: a reading of the clock a task, and one immediate a turn in which there was a task. A task that waits costs a turn of the loop, some microseconds.
// Concurrency: one thread. Limits: the caller's: whoever gives tasks bounds how many are under way (a queue of hundreds, as an array).

import type { Clock } from "./clock.ts";

/** How long a turn may last before further tasks wait, milliseconds. */
const turnMs = 2;

export class LoopTurns {
  readonly #clock: Clock;
  /** When the turn's first task began; undefined before it. */
  #beganMs: number | undefined;
  readonly #waiting: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Tasks that wait for a turn. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Runs the task: now, before this returns, or on a later turn. What it throws then is nobody's: it must not throw. */
  run(task: () => void): void {
    const lastedMs = this.#beganMs === undefined ? this.#begin() : this.#clock.monotonicMs() - this.#beganMs;
    if (this.waiting > 0 || lastedMs > turnMs) this.#waiting.push(task);
    else task();
  }

  #begin(): number {
    this.#beganMs = this.#clock.monotonicMs();
    void this.#clock.yield().then(() => this.#turn());
    return 0;
  }

  /** A new turn. */
  #turn(): void {
    this.#beganMs = undefined;
    const task = this.#waiting.shift();
    if (task === undefined) return;
    this.#begin();
    task();
  }
}
