// The machine's threads. See workers.ts for the contract.
// Cost: starting a thread takes about 50 ms and 10 MB; a message 10 to 40 us. Large data belongs into shared memory.
// Concurrency: `start`, `send`, `receive` and `stop` belong to one thread, the parent's.

import { Worker } from "node:worker_threads";
import type { MillraceError } from "#base/errors";
import { MessageQueue } from "./message-queue.ts";
import { moduleBeside } from "./module-beside.ts";
import { systemClock } from "./system-clock.ts";
import { unpackFailure, workerDied, workerEnded, workerFlooded } from "./worker-failure.ts";
import type { ToParent, ToWorker, WorkerStart } from "./worker-protocol.ts";
import { type RunningWorker, stopGraceMsDefault, type Workers } from "./workers.ts";

const mainModule = moduleBeside("./system-worker-main", import.meta.url);

/** Milliseconds for a thread whose body has returned to fall silent (an open handle, a forgotten timer) before it is ended. */
const silenceMsMax = 200;

export const systemWorkers: Workers = {
  start(module, data, name) {
    const start: WorkerStart = { module: module.href, name, data };
    return new SystemWorker(new Worker(mainModule, { name, workerData: start }), name);
  },
};

class SystemWorker implements RunningWorker {
  readonly failed: Promise<MillraceError | undefined>;
  readonly #thread: Worker;
  readonly #name: string;
  readonly #queue = new MessageQueue();
  readonly #exited: Promise<void>;
  #failure: MillraceError | undefined;
  #ended = false;
  #stopping: Promise<void> | undefined;

  constructor(thread: Worker, name: string) {
    this.#thread = thread;
    this.#name = name;
    thread.on("message", (message: ToParent) => this.#hear(message));
    thread.on("messageerror", (cause) => this.#fail(workerDied(name, "a message could not be read", cause)));
    thread.on("error", (cause) => this.#fail(workerDied(name, cause instanceof Error ? cause.message : String(cause), cause)));
    this.#exited = new Promise((resolve) => {
      thread.on("exit", (code) => {
        if (!this.#ended) this.#fail(workerDied(name, `exit code ${code}`));
        this.#queue.end();
        resolve();
      });
    });
    this.failed = this.#exited.then(() => this.#failure);
  }

  send(message: unknown): void {
    if (!this.#ended) this.#tell(["message", message]);
  }

  receive(): Promise<unknown> {
    return this.#queue.receive();
  }

  stop(graceMs = stopGraceMsDefault): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    if (!this.#ended) this.#tell(["stop"]);
    const grace = systemClock.after(graceMs, () => {
      if (!this.#ended) this.#fail(workerEnded(this.#name, graceMs));
      void this.#thread.terminate();
    });
    await this.#exited;
    grace.cancel();
  }

  #tell(message: ToWorker): void {
    this.#thread.postMessage(message);
  }

  #hear(message: ToParent): void {
    if (message[0] === "message") {
      if (!this.#ended && !this.#queue.push(message[1])) {
        this.#fail(workerFlooded(this.#name));
        void this.#thread.terminate();
      }
      return;
    }
    if (message[0] === "failed") this.#fail(unpackFailure(message[1]));
    this.#ended = true;
    this.#queue.end();
    const silence = systemClock.after(silenceMsMax, () => void this.#thread.terminate());
    void this.#exited.then(() => silence.cancel());
  }

  /** The first failure is the one that counts. */
  #fail(failure: MillraceError): void {
    this.#failure ??= failure;
    this.#ended = true;
  }
}
