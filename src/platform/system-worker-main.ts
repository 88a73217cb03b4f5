// The first module of every worker thread. What it does stands in worker-body-run.ts.
// Concurrency: runs in the worker's thread; the thread ends when the body has returned and nothing is pending any more (the parent ends it otherwise).

import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { giveWay, threadStandsBack } from "./be-nicer.ts";
import type { Clock } from "./clock.ts";
import { systemClock } from "./system-clock.ts";
import { systemFiles, threadFiles } from "./system-files.ts";
import { runBody } from "./worker-body-run.ts";
import type { ToWorker, WorkerStart } from "./worker-protocol.ts";

/** Of a thread that stands back: what yields the loop also gives way to other threads. */
const givingWay: Clock = {
  ...systemClock,
  yield() {
    giveWay();
    return systemClock.yield();
  },
};

function main(port: MessagePort, start: WorkerStart): Promise<void> {
  threadStandsBack(start.niceness);
  return runBody(
    {
      listen: (hear) => port.on("message", (message: ToWorker) => hear(message)),
      tell: (message) => port.postMessage(message),
      close: () => port.close(),
    },
    start,
    start.niceness > 0 ? { clock: givingWay, files: threadFiles } : { clock: systemClock, files: systemFiles },
  );
}

if (parentPort !== null) await main(parentPort, workerData as WorkerStart);
