// The first module of every worker thread: loads the body, hands it its context, and reports how it ended.
// Concurrency: runs in the worker's thread; the thread ends when the body has returned and nothing is pending any more (the parent ends it otherwise).

import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { MillraceError } from "#base/errors";
import { MessageQueue } from "./message-queue.ts";
import { systemClock } from "./system-clock.ts";
import { systemFiles } from "./system-files.ts";
import { packFailure, workerFailure, workerFlooded } from "./worker-failure.ts";
import type { ToParent, ToWorker, WorkerStart } from "./worker-protocol.ts";
import type { WorkerBody } from "./workers.ts";

async function main(port: MessagePort, start: WorkerStart): Promise<void> {
  const tell = (message: ToParent): void => port.postMessage(message);
  const queue = new MessageQueue();
  const stop = new AbortController();
  const reason = new MillraceError("unavailable", `worker ${start.name} was asked to stop`);
  const fail = (thrown: unknown): void => {
    tell(["failed", packFailure(workerFailure(start.name, thrown))]);
    port.close();
  };
  port.on("message", (message: ToWorker) => {
    if (message[0] === "message") {
      if (!queue.push(message[1])) fail(workerFlooded(start.name));
    } else {
      queue.end();
      stop.abort(reason);
    }
  });
  try {
    const loaded = (await import(start.module)) as { default?: WorkerBody };
    if (typeof loaded.default !== "function") throw new MillraceError("internal", `worker ${start.name}: ${start.module} has no default export to run`);
    await loaded.default({
      port: { send: (message) => tell(["message", message]), receive: () => queue.receive() },
      clock: systemClock,
      files: systemFiles,
      data: start.data,
      signal: stop.signal,
    });
    tell(["ended"]);
    port.close();
  } catch (thrown) {
    // A body that ends by the signal's own reason has done as it was told.
    if (thrown === reason) {
      tell(["ended"]);
      port.close();
    } else fail(thrown);
  }
}

if (parentPort !== null) await main(parentPort, workerData as WorkerStart);
