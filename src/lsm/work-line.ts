// The store's side of its worker: one job at a time, each answered or failed.
// Why a worker: a flush sorts and writes some hundred thousand entries, a merge millions; the serving loop has 2 ms.
// Invariants: 1. a job settles once, also when the worker dies  2. a worker that died is started again for the next job.
// Concurrency: jobs of one line run one after the other in the order they were asked for.

import { toMillraceError } from "#base/errors";
import { moduleBeside } from "#platform/module-beside";
import { type FailureMessage, unpackFailure, workerDied } from "#platform/worker-failure";
import type { RunningWorker, Workers } from "#platform/workers";
import type { StoreJob, StoreJobResult } from "./store-job.ts";

/** What the worker answers to a job. */
export type JobAnswer = { readonly done: StoreJobResult } | { readonly failed: FailureMessage };

export class WorkLine {
  readonly #workers: Workers;
  readonly #name: string;
  #worker: RunningWorker | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  /** Jobs and rests that wait for their turn. */
  #waiting = 0;

  constructor(workers: Workers, name: string) {
    this.#workers = workers;
    this.#name = name;
  }

  /** Does a job; rejects with its failure. */
  do<J extends StoreJob>(job: J): Promise<StoreJobResult> {
    this.#waiting += 1;
    const turn = this.#turn.then(() => {
      this.#waiting -= 1;
      return this.#ask(job);
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** After the jobs that were asked for, the worker's thread collects its garbage; memories that were dropped are freed by that. Without a worker nothing. */
  collectGarbage(): void {
    this.#turn = this.#turn.then(async () => {
      // A worker that fails at this fails the next job, which says it.
      if (this.#worker !== undefined) await this.#ask({ kind: "collect" }).catch(() => undefined);
    });
  }

  /** After the jobs that were asked for, the worker's thread ends: with it goes all that it saw and held, 15 to 20 MB, at once. The next job starts another, which costs the caller's
   * thread 2 to 5 ms: for lines that rest for long. */
  rest(): void {
    this.#waiting += 1;
    this.#turn = this.#turn.then(async () => {
      this.#waiting -= 1;
      const worker = this.#worker;
      // Somebody who comes behind needs it.
      if (worker === undefined || this.#waiting > 0) return;
      this.#worker = undefined;
      await worker.stop().catch(() => undefined);
    });
  }

  async stop(): Promise<void> {
    await this.#turn;
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.stop();
  }

  async #ask(job: StoreJob): Promise<StoreJobResult> {
    const worker = (this.#worker ??= this.#workers.start(moduleBeside("./store-work.worker", import.meta.url), undefined, this.#name));
    worker.send(job);
    const answer = (await worker.receive()) as JobAnswer | undefined;
    if (answer === undefined) {
      this.#worker = undefined;
      const failure = await worker.failed;
      throw failure ?? workerDied(this.#name, "it ended during a job");
    }
    if ("failed" in answer) throw toMillraceError(unpackFailure(answer.failed));
    return answer.done;
  }
}
