// The machine's threads. See workers.ts for the contract; worker-host.ts is the parent's side.
// Cost: starting a thread takes about 50 ms and 10 MB; a message 10 to 40 us. Large data belongs into shared memory.
// Concurrency: `start`, `send`, `receive` and `stop` belong to one thread, the parent's.

import { Worker } from "node:worker_threads";
import { moduleBeside } from "./module-beside.ts";
import { workerDied } from "./worker-failure.ts";
import { WorkerHost } from "./worker-host.ts";
import type { ToParent, WorkerStart } from "./worker-protocol.ts";
import type { Workers } from "./workers.ts";

const mainModule = moduleBeside("./system-worker-main", import.meta.url);

export const systemWorkers: Workers = {
  start(module, data, name, niceness = 0, youngMb) {
    const start: WorkerStart = { module: module.href, name, data, niceness };
    const thread = new Worker(mainModule, {
      name,
      workerData: start,
      ...(youngMb === undefined ? {} : { resourceLimits: { maxYoungGenerationSizeMb: youngMb } }),
    });
    const host = new WorkerHost(name, {
      tell: (message) => thread.postMessage(message),
      terminate: () => void thread.terminate(),
    });
    thread.on("message", (message: ToParent) => host.hear(message));
    thread.on("messageerror", (cause) => host.fail(workerDied(name, "a message could not be read", cause)));
    thread.on("error", (cause) => host.fail(workerDied(name, cause instanceof Error ? cause.message : String(cause), cause)));
    thread.on("exit", (code) => host.gone(`exit code ${code}`));
    return host;
  },
};
