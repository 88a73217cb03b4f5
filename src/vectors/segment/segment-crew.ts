// The threads of a build: this one and others, over one memory. A job is cut into parts; each is laid out by this thread, done by any, and taken by this one in the order of the parts.
// Why in order: sums of floats depend on it, and so the bytes of a segment do not depend on how many threads there were.
// Invariants: 1. `after` of part i is called once, after that of part i - 1  2. at most as many parts are under way as there are rooms  3. a thread that dies ends the job with its failure.
// Cost: a thread 50 ms and 10 MB, a part two messages. Concurrency: one job at a time. Limits: `buildThreadsMax`.

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { Clock } from "#platform/clock";
import { moduleBeside } from "#platform/module-beside";
import type { RunningWorker, Workers } from "#platform/workers";
import { SegmentWork, type WorkPlaces, type WorkTask } from "./segment-work.ts";
import type { WorkDone, WorkSent, WorkStart } from "./segment-work.worker.ts";

export interface BuildThreads {
  readonly workers: Workers;
  readonly clock: Pick<Clock, "yield">;
  /** All together, the caller's among them. */
  readonly count: number;
  /** Multiplications from which on they are started. Default `worthThreads`. */
  readonly workMin?: number;
}

/** Multiplications below which threads would cost more than they save. */
export const worthThreads = 1e10;

export const buildThreadsMax = 16;
/** Parts that wait at a thread, the one under way among them: so that it never waits for this one. */
const partsAhead = 2;

/** Rooms that so many threads keep in use: what the others have, one for this one, one that waits for its turn. */
export function roomsFor(threads: number): number {
  return threads <= 1 ? 1 : partsAhead * (threads - 1) + 2;
}

export interface CrewJob {
  readonly parts: number;
  /** Lays out a part in a room. */
  task(part: number, room: number): WorkTask;
  /** Takes what came of it. The room is free after it. */
  after(part: number, room: number, answer: number): void | Promise<void>;
}

interface Hand {
  readonly worker: RunningWorker;
  parts: number;
}

export class SegmentCrew {
  readonly #work: SegmentWork;
  readonly #rooms: number;
  readonly #clock: Pick<Clock, "yield"> | undefined;
  readonly #hands: Hand[] = [];
  readonly #answers = new Map<number, number>();
  #news = Promise.withResolvers<void>();
  #failure: MillraceError | undefined;

  /** `memory`: with a lane for each thread. */
  constructor(memory: KernelMemory, places: WorkPlaces, threads: BuildThreads | undefined) {
    this.#work = new SegmentWork(memory, places);
    this.#rooms = places.rooms.length;
    this.#clock = threads?.clock;
    for (let lane = 1; lane < (threads?.count ?? 1); lane++) {
      const start: WorkStart = { memory: memory.memory, variant: memory.variant, lane, places };
      const hand: Hand = { worker: threads!.workers.start(moduleBeside("./segment-work.worker", import.meta.url), start, `build-${lane}`), parts: 0 };
      this.#hands.push(hand);
      void this.#hear(hand);
    }
  }

  async #hear(hand: Hand): Promise<void> {
    for (;;) {
      const done = (await hand.worker.receive()) as WorkDone | undefined;
      if (done === undefined) break;
      hand.parts--;
      this.#answers.set(...done);
      this.#news.resolve();
    }
    this.#failure ??= (await hand.worker.failed) ?? new MillraceError("internal", "a thread of a build ended before the build", { todo: "report this" });
    this.#news.resolve();
  }

  async run(job: CrewJob): Promise<void> {
    const roomOf = new Map<number, number>();
    const free = Array.from({ length: this.#rooms }, (_, room) => room);
    let [next, taken] = [0, 0];
    this.#answers.clear();
    const lay = (): { readonly part: number; readonly task: WorkTask } | undefined => {
      if (next === job.parts) return undefined;
      const room = free.pop();
      if (room === undefined) return undefined;
      const part = next++;
      roomOf.set(part, room);
      return { part, task: job.task(part, room) };
    };
    while (taken < job.parts) {
      for (const hand of this.#hands)
        while (hand.parts < partsAhead) {
          const laid = lay();
          if (laid === undefined) break;
          hand.worker.send([laid.part, laid.task] satisfies WorkSent);
          hand.parts++;
        }
      const own = lay();
      if (own !== undefined) this.#answers.set(own.part, this.#work.run(own.task));
      else if (!this.#answers.has(taken)) {
        await this.#news.promise;
        this.#news = Promise.withResolvers<void>();
      }
      // What the others said meanwhile comes in with a turn of the loop.
      if (this.#hands.length > 0) await this.#clock?.yield();
      if (this.#failure !== undefined) throw this.#failure;
      for (let answer = this.#answers.get(taken); answer !== undefined; answer = this.#answers.get(taken)) {
        const room = roomOf.get(taken)!;
        await job.after(taken, room, answer);
        this.#answers.delete(taken);
        roomOf.delete(taken);
        free.push(room);
        taken++;
      }
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.#hands.map(({ worker }) => worker.stop()));
  }
}
