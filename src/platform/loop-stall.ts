// The loop stall meter: the most CPU time that this thread used between two ticks of a 1 ms timer.
// Why CPU time and not lateness: on a shared machine a late timer mostly says that the thread was descheduled; work of our own that holds the loop
// shows as CPU time of the thread, whoever else runs. Other threads of the process (workers, garbage collection helpers) do not count.
// Invariants: 1. every microsecond of the thread's CPU time between start and stop falls into exactly one tick  2. waiting, for I/O or for the
// processor, counts nothing.
// Cost: 1 us of work a tick, and up to 30 us (thread-cpu.ts) after one in which the thread was awake for a millisecond or more. Waking an idle thread a thousand times a second costs more: 3 % of a core on a loaded 2-core machine, with an empty
// timer just the same; a busy loop is awake anyway (loop-stall.test.ts prints both).
// Concurrency: belongs to the thread that starts it; its histogram may live in shared memory and be read by others.
// Limits: the system counts a thread's time in microseconds; work that spans a tick boundary inside one poll of the loop is seen whole, since no
// tick runs in between.

import { Histogram } from "#base/histogram";
import { threadCpuUs } from "./thread-cpu.ts";

/** A tick with less time awake is no stall, and what its reading may lack no more than this. */
const exactFromMs = 1;

/** How many seconds back the maxima of single seconds are kept. */
const secondsKept = 120;

export class LoopStallMeter {
  /** CPU microseconds per tick since the start (not cleared by `takeMaxMs`). */
  readonly histogram: Histogram;
  #timer: NodeJS.Timeout | undefined;
  #lastUs = 0;
  /** Monotonic milliseconds of the last tick, of which the thread slept so many since its start. */
  #lastMs = 0;
  #idleMs = 0;
  #maxUs = 0;
  readonly #secondsUs = new Float64Array(secondsKept);
  /** Monotonic second of the newest entry. */
  #second = 0;

  constructor(histogram = new Histogram()) {
    this.histogram = histogram;
  }

  /** Begins to measure this thread; does not keep the process alive. Starting twice is one start. */
  start(): void {
    if (this.#timer !== undefined) return;
    this.#lastUs = threadCpuUs();
    this.#timer = setInterval(() => this.#tick(), 1);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#tick();
  }

  /** Largest value since the start or the last `takeMaxMs`, in milliseconds of CPU time. */
  get maxMs(): number {
    return this.#maxUs / 1000;
  }

  /** The same, and begins a new maximum: for metrics by interval and rounds of a bench. */
  takeMaxMs(): number {
    const taken = this.#maxUs / 1000;
    this.#maxUs = 0;
    return taken;
  }

  /** Largest value of each of the last `count` whole or running seconds (at most 120), newest last, in milliseconds of CPU time. */
  lastSecondsMs(count: number): number[] {
    this.#turn();
    const length = Math.min(count, secondsKept);
    return Array.from({ length }, (_, index) => this.#secondsUs[(this.#second - (length - 1 - index) + secondsKept) % secondsKept]! / 1000);
  }

  /** Empties the entries of the seconds that have begun since the last tick. */
  #turn(): void {
    const second = Math.floor(performance.now() / 1000);
    for (let at = Math.max(this.#second + 1, second - secondsKept + 1); at <= second; at += 1) this.#secondsUs[at % secondsKept] = 0;
    this.#second = second;
  }

  #tick(): void {
    const nowMs = performance.now();
    const { idle } = performance.eventLoopUtilization();
    const awakeMs = nowMs - this.#lastMs - (idle - this.#idleMs);
    [this.#lastMs, this.#idleMs] = [nowMs, idle];
    const nowUs = threadCpuUs(awakeMs >= exactFromMs);
    const usedUs = nowUs - this.#lastUs;
    this.#lastUs = nowUs;
    if (usedUs > this.#maxUs) this.#maxUs = usedUs;
    this.#turn();
    const place = this.#second % secondsKept;
    if (usedUs > this.#secondsUs[place]!) this.#secondsUs[place] = usedUs;
    this.histogram.record(usedUs);
  }
}
