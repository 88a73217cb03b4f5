// The first module of every worker thread. What it does stands in worker-body-run.ts.
// Concurrency: runs in the worker's thread; the thread ends when the body has returned and nothing is pending any more (the parent ends it otherwise).

import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { threadStandsBack } from "./be-nicer.ts";
import { systemFiles, threadFiles } from "./system-files.ts";
import { runBody } from "./worker-body-run.ts";
import type { ToWorker, WorkerStart } from "./worker-protocol.ts";

function main(port: MessagePort, start: WorkerStart): Promise<void> {
  threadStandsBack(start.niceness);
  return runBody(
    {
      listen: (hear) => port.on("message", (message: ToWorker) => hear(message)),
      tell: (message) => port.postMessage(message),
      close: () => port.close(),
    },
    start,
    start.niceness > 0 ? threadFiles : systemFiles,
  );
}

if (parentPort !== null) await main(parentPort, workerData as WorkerStart);
