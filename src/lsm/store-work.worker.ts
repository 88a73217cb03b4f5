// The store's worker: does one job after another until it is told to stop.
// Concurrency: a thread of its own (a task of the scheduler in simulation); memories are shared, files its own.

import { MillraceError, toMillraceError } from "#base/errors";
import { packFailure } from "#platform/worker-failure";
import type { WorkerBody } from "#platform/workers";
import { doJob, type StoreJob } from "./store-job.ts";
import type { JobAnswer } from "./work-line.ts";

const body: WorkerBody = async ({ port, clock, files }) => {
  for (;;) {
    const job = (await port.receive()) as StoreJob | undefined;
    if (job === undefined) return;
    let answer: JobAnswer;
    try {
      answer = { done: await doJob(job, files, clock) };
    } catch (thrown) {
      const failure = thrown instanceof MillraceError ? thrown : toMillraceError(thrown, `the ${job.kind} of a store failed`);
      answer = { failed: packFailure(failure) };
    }
    port.send(answer);
  }
};

export default body;
