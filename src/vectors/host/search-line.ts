// The searches of a thread, in slices: between two slices messages are read, writes applied and the log's answers taken.
// While single writes are on their way a slice is shorter: an acknowledgement takes two or three turns of the thread, so that many slices wait in it.
// Quick ones (by index, no filter, few queries) go before long ones, but a long one has a slice after each of them; work for idle times goes on only when there are neither.
// Invariants: 1. a slice ends after `sliceMs` and the step it is in  2. of each kind, searches are done in the order in which they came  3. each ends by its deadline.
// Concurrency: one thread. Limits: `waitingMax` searches.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";

/** One search: steps, and what becomes of it. */
export interface LineJob {
  readonly quick: boolean;
  /** Monotonic milliseconds. */
  readonly deadlineMs: number;
  /** Begun when its turn comes. */
  readonly steps: () => Generator<void, void, void>;
  readonly fail: (error: MillraceError) => void;
}

interface Running {
  readonly job: LineJob;
  steps: Generator<void, void, void> | undefined;
}

export interface SearchLineOptions {
  readonly clock: Clock;
  readonly sliceMs: number;
  /** Whether something is under way that every slice holds up; then it ends after `hurriedSliceMs`. */
  readonly hurries?: () => boolean;
  readonly hurriedSliceMs?: number;
  /** Called between two slices. */
  readonly between?: () => void;
  readonly waitingMax: number;
  /** Work for idle times, undefined when there is none. */
  readonly idle: () => Generator<void, void, void> | undefined;
}

export class SearchLine {
  readonly #options: SearchLineOptions;
  #quick: Running[] = [];
  #long: Running[] = [];
  #running = false;
  #stopped = false;
  #idle: Generator<void, void, void> | undefined;

  constructor(options: SearchLineOptions) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#quick.length + this.#long.length;
  }

  add(job: LineJob): void {
    const { waitingMax } = this.#options;
    if (this.#stopped) return job.fail(new MillraceError("unavailable", "the server stops", { todo: "connect again" }));
    if (this.waiting >= waitingMax) {
      return job.fail(new MillraceError("overloaded", `${waitingMax} searches wait, the most`, { todo: "send fewer at once, or more servers must serve" }));
    }
    (job.quick ? this.#quick : this.#long).push({ job, steps: undefined });
    this.wake();
  }

  /** There may be work for idle times. */
  wake(): void {
    if (this.#running || this.#stopped) return;
    this.#running = true;
    // What came in one message is taken in before its first search begins.
    queueMicrotask(() => void this.#run());
  }

  stop(): void {
    this.#stopped = true;
    const failure = new MillraceError("unavailable", "the server stops", { todo: "connect again" });
    for (const { job, steps } of [...this.#quick.splice(0), ...this.#long.splice(0)]) {
      steps?.return();
      job.fail(failure);
    }
    this.#idle?.return();
    this.#idle = undefined;
  }

  get #sliceMs(): number {
    const { sliceMs, hurriedSliceMs = sliceMs, hurries } = this.#options;
    return hurries?.() === true ? Math.min(sliceMs, hurriedSliceMs) : sliceMs;
  }

  async #run(): Promise<void> {
    const { clock, between } = this.#options;
    let sinceMs = clock.monotonicMs();
    const turn = async (): Promise<void> => {
      await clock.yield();
      between?.();
      sinceMs = clock.monotonicMs();
    };
    while (!this.#stopped) {
      const quick = this.#quick[0];
      const long = this.#long[0];
      if (quick !== undefined) {
        if (this.#advance(quick, sinceMs)) this.#quick.shift();
        else {
          await turn();
          continue;
        }
      }
      // A long one has its slice after every quick one, which has its own turn.
      if (long !== undefined) {
        if (quick !== undefined) await turn();
        if (this.#long[0] === long && this.#advance(long, sinceMs)) this.#long.shift();
      }
      if (quick === undefined && long === undefined) {
        this.#idle ??= this.#options.idle();
        if (this.#idle === undefined) break;
        try {
          do {
            if (this.#idle.next().done === true) this.#idle = undefined;
          } while (this.#idle !== undefined && clock.monotonicMs() - sinceMs < this.#sliceMs);
        } catch {
          this.#idle = undefined;
        }
      }
      if (clock.monotonicMs() - sinceMs < this.#sliceMs) continue;
      await turn();
    }
    this.#running = false;
  }

  /** One slice; true when the search is over. */
  #advance(running: Running, sinceMs: number): boolean {
    const { clock } = this.#options;
    const { job } = running;
    try {
      if (clock.monotonicMs() > job.deadlineMs) {
        running.steps?.return();
        job.fail(new MillraceError("timeout", "a search was not done within its time", { todo: "send fewer at once, compare less, or give it more time" }));
        return true;
      }
      running.steps ??= job.steps();
      do if (running.steps.next().done === true) return true;
      while (clock.monotonicMs() - sinceMs < this.#sliceMs);
      return false;
    } catch (thrown) {
      job.fail(toMillraceError(thrown, "a search"));
      return true;
    }
  }
}
