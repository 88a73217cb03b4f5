// The scheduler of simulated time: everything that is pending (timers, file operations, deliveries, worker messages) is one event in one queue.
// Why: promise-based code is deterministic as long as only one thing happens at a time and the next thing is chosen by a seed. The scheduler fires one
// event, lets every promise that follows from it settle (one turn of the real loop), then fires the next; virtual time jumps from event to event.
// Invariants: 1. the order of events depends on the seed and on what the code under test asks for, on nothing else  2. time never goes back  3. an
// event of an ended life never fires  4. the trace hash covers time, label and order of every event that fired.
// Cost: about 10 us of CPU time an event with what follows from it (measured with file operations on a loaded machine).
// Concurrency: one thread; one drive at a time.
// Limits: eventsMax and virtualMsMax end a drive that would run for ever; nothing pending while the body waits is reported as a deadlock.

import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Timer } from "./clock.ts";

/** The time in which a process (or a worker in it) lives. What belongs to an ended life has no further effect. */
export class Life {
  #alive = true;
  readonly #atEnd = new Set<() => void>();

  get alive(): boolean {
    return this.#alive;
  }

  /** Calls `run` once when the life ends; returns a function that takes the call back. */
  onEnd(run: () => void): () => void {
    if (this.#alive) this.#atEnd.add(run);
    return () => this.#atEnd.delete(run);
  }

  /** A life that ends with this one or before. */
  child(): Life {
    const child = new Life();
    child.onEnd(this.onEnd(() => child.end()));
    return child;
  }

  end(): void {
    if (!this.#alive) return;
    this.#alive = false;
    const runs = [...this.#atEnd];
    this.#atEnd.clear();
    for (const run of runs) run();
  }
}

interface PendingEvent {
  readonly atUs: number;
  readonly sequence: number;
  readonly label: string;
  readonly life: Life;
  run: (() => void) | undefined;
}

export interface SchedulerLimits {
  /** Events of one drive, default 5,000,000. */
  readonly eventsMax: number;
  /** Virtual time of one drive, default 30 days. */
  readonly virtualMsMax: number;
}

function before(a: PendingEvent, b: PendingEvent): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.sequence < b.sequence);
}

export class SimulatedScheduler {
  readonly seed: number | string;
  /** The root of all streams; parts fork their own by name. */
  readonly random: Prng;
  readonly #limits: SchedulerLimits;
  /** Called with each event that fires, for a printed trace. */
  onEvent: ((atUs: number, label: string) => void) | undefined;
  #nowUs = 0;
  #sequence = 0;
  #fired = 0;
  #heap: PendingEvent[] = [];
  #cancelled = 0;
  #outside = 0;
  #outsideDone: (() => void) | undefined;
  #driving = false;
  #hashLow = 0x811c9dc5;
  #hashHigh = 0x1234567;

  constructor(seed: number | string, limits: SchedulerLimits) {
    this.seed = seed;
    this.random = new Prng(seed);
    this.#limits = limits;
  }

  /** Virtual microseconds since the simulation began, integer. */
  get nowUs(): number {
    return this.#nowUs;
  }

  /** Events that fired so far. */
  get fired(): number {
    return this.#fired;
  }

  /** 16 hexadecimal digits over all events so far: equal for equal runs. */
  get traceHash(): string {
    return (this.#hashHigh >>> 0).toString(16).padStart(8, "0") + (this.#hashLow >>> 0).toString(16).padStart(8, "0");
  }

  /** Fires `run` after `delayUs` of virtual time unless cancelled or the life has ended by then. */
  schedule(delayUs: number, label: string, life: Life, run: () => void): Timer {
    const event: PendingEvent = { atUs: this.#nowUs + Math.max(0, Math.round(delayUs)), sequence: this.#sequence++, label, life, run };
    this.#push(event);
    return {
      cancel: () => {
        if (event.run === undefined) return;
        event.run = undefined;
        this.#cancelled += 1;
        if (this.#cancelled > 1000 && this.#cancelled * 2 > this.#heap.length) this.#compact();
      },
    };
  }

  /** Virtual time stands still until this real-world promise (a module import, a library's own I/O) has settled. */
  async outside<T>(work: Promise<T>): Promise<T> {
    this.#outside += 1;
    try {
      return await work;
    } finally {
      this.#outside -= 1;
      if (this.#outside === 0) {
        this.#outsideDone?.();
        this.#outsideDone = undefined;
      }
    }
  }

  /** Fires events until `body` has settled; returns or throws what it did. The queue is kept, a later drive goes on with it. */
  drive<T>(body: () => Promise<T>): Promise<T> {
    if (this.#driving)
      throw new MillraceError("conflict", `simulation ${this.seed} is already running`, { todo: "await the first run, or run code in it by node.run" });
    this.#driving = true;
    const eventsEnd = this.#fired + this.#limits.eventsMax;
    const timeEnd = this.#nowUs + this.#limits.virtualMsMax * 1000;
    return new Promise<T>((resolve, reject) => {
      let settled = false;
      const finish = (end: () => void): void => {
        settled = true;
        this.#driving = false;
        end();
      };
      const turn = (): void => {
        if (settled) return;
        if (this.#outside > 0) {
          this.#outsideDone = () => setImmediate(turn);
          return;
        }
        const event = this.#next();
        if (event === undefined) {
          const what = `simulation with seed ${this.seed} is stuck: nothing is pending and the body has not ended (${this.#where()})`;
          finish(() =>
            reject(new MillraceError("internal", what, { todo: "look for a promise that nobody resolves; real-world work needs simulation.outside" })),
          );
          return;
        }
        if (this.#fired >= eventsEnd || event.atUs > timeEnd) {
          const what = `simulation with seed ${this.seed} does not end (${this.#where()}, next event: ${event.label})`;
          finish(() => reject(new MillraceError("internal", what, { todo: "look for what waits for ever, or raise eventsMax or virtualMsMax" })));
          return;
        }
        this.#fire(event);
        setImmediate(turn);
      };
      // The body begins on a turn of its own, so that a synchronous throw is a rejection too.
      setImmediate(() => {
        Promise.resolve()
          .then(body)
          .then(
            (value) => finish(() => resolve(value)),
            (thrown: unknown) => finish(() => reject(this.#named(thrown))),
          );
        setImmediate(turn);
      });
    });
  }

  /** The same error, its message saying how to repeat the run. */
  #named(thrown: unknown): Error {
    if (!(thrown instanceof Error)) return thrown as Error;
    if (!thrown.message.includes("simulation seed")) thrown.message += `\n(simulation seed ${this.seed}, ${this.#where()})`;
    return thrown;
  }

  #where(): string {
    return `virtual time ${(this.#nowUs / 1000).toFixed(3)} ms, ${this.#fired} events`;
  }

  #fire(event: PendingEvent): void {
    this.#nowUs = event.atUs;
    this.#fired += 1;
    this.#hash(event);
    this.onEvent?.(event.atUs, event.label);
    const run = event.run!;
    event.run = undefined;
    run();
  }

  #hash(event: PendingEvent): void {
    let low = this.#hashLow ^ event.atUs;
    let high = this.#hashHigh ^ Math.floor(event.atUs / 4_294_967_296);
    for (let i = 0; i < event.label.length; i++) {
      low = Math.imul(low ^ event.label.charCodeAt(i), 0x01000193);
      high = Math.imul(high + low, 0x85ebca6b) ^ (low >>> 15);
    }
    this.#hashLow = low;
    this.#hashHigh = high;
  }

  #next(): PendingEvent | undefined {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return undefined;
      if (event.run === undefined) this.#cancelled -= 1;
      else if (event.life.alive) return event;
    }
  }

  #compact(): void {
    const kept = this.#heap.filter((event) => event.run !== undefined && event.life.alive);
    this.#heap = [];
    this.#cancelled = 0;
    for (const event of kept) this.#push(event);
  }

  #push(event: PendingEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): PendingEvent | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child += 1;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
