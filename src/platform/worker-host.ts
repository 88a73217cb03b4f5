// The parent's side of a worker body, the same for threads and child processes: messages, the one failure that counts, stopping.
// Invariants: those of workers.ts. The first failure is the one that is reported.
// Concurrency: belongs to the parent's thread.

import type { MillraceError } from "#base/errors";
import { MessageQueue } from "./message-queue.ts";
import { systemClock } from "./system-clock.ts";
import { unpackFailure, workerDied, workerEnded, workerFlooded } from "./worker-failure.ts";
import type { ToParent, ToWorker } from "./worker-protocol.ts";
import { type RunningWorker, stopGraceMsDefault } from "./workers.ts";

/** What carries the messages and can be ended. */
export interface WorkerWire {
  /** May throw for what cannot be copied. */
  tell(message: ToWorker): void;
  terminate(): void;
}

/** Milliseconds for a body that has returned to fall silent (an open handle, a forgotten timer) before its thread or process is ended. */
const silenceMsMax = 200;

export class WorkerHost implements RunningWorker {
  readonly failed: Promise<MillraceError | undefined>;
  readonly #name: string;
  readonly #wire: WorkerWire;
  readonly #queue = new MessageQueue();
  readonly #gone = Promise.withResolvers<void>();
  #failure: MillraceError | undefined;
  #ended = false;
  #stopping: Promise<void> | undefined;

  constructor(name: string, wire: WorkerWire) {
    this.#name = name;
    this.#wire = wire;
    this.failed = this.#gone.promise.then(() => this.#failure);
  }

  send(message: unknown): void {
    if (!this.#ended) this.#wire.tell(["message", message]);
  }

  receive(): Promise<unknown> {
    return this.#queue.receive();
  }

  stop(graceMs = stopGraceMsDefault): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    if (!this.#ended) this.#wire.tell(["stop"]);
    const grace = systemClock.after(graceMs, () => {
      if (!this.#ended) this.fail(workerEnded(this.#name, graceMs));
      this.#wire.terminate();
    });
    await this.#gone.promise;
    grace.cancel();
  }

  // --- for the wire ------------------------------------------------------------------------------------------------------------------

  hear(message: ToParent): void {
    if (message[0] === "message") {
      if (!this.#ended && !this.#queue.push(message[1])) this.end(workerFlooded(this.#name));
      return;
    }
    if (message[0] === "failed") this.fail(unpackFailure(message[1]));
    this.#ended = true;
    this.#queue.end();
    const silence = systemClock.after(silenceMsMax, () => this.#wire.terminate());
    void this.#gone.promise.then(() => silence.cancel());
  }

  fail(failure: MillraceError): void {
    this.#failure ??= failure;
    this.#ended = true;
  }

  /** Reports a failure and ends the thread or process. */
  end(failure: MillraceError): void {
    this.fail(failure);
    this.#wire.terminate();
  }

  /** The thread or process is gone and everything it sent was heard. `how` tells of an end without a word. */
  gone(how: string): void {
    if (!this.#ended) this.fail(workerDied(this.#name, how));
    this.#queue.end();
    this.#gone.resolve();
  }
}
