// The vectors thread as an object of the server role: starts it, passes calls on, keeps what it tells, starts another one when it dies.
// Life: opening --ready--> open --thread dies--> failed --after a pause--> opening ...
// Invariants: 1. nothing acknowledged is lost with a thread: the next one reads versions and logs again  2. status is at most about a second old  3. every call ends by its deadline.
// Concurrency: the serving loop. Limits: those of VectorClient.

import type { Durability } from "#backbone/log";
import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import { moduleBeside } from "#platform/module-beside";
import type { RunningWorker, Workers } from "#platform/workers";
import type { AnswersMessage } from "#vectors/host/vector-calls";
import { VectorClient } from "#vectors/host/vector-client";
import type { VectorService } from "#vectors/vector-service";
import { vectorDefaults, type VectorsConfig } from "#wire/vector-config";
import type { VectorsThreadData } from "./vectors.worker.ts";

export const vectorsRoleLimits = {
  /** The log's last sync, on a slow disk. */
  stopGraceMs: 60_000,
  /** A collection of its young objects holds acknowledgements up: 5 ms with the engine's 48, 1 ms with these. */
  youngMb: 9,
  restartPauseFirstMs: 1_000,
  restartPauseMsMax: 60_000,
} as const;

export interface VectorsOptions {
  readonly workers: Workers;
  readonly clock: Clock;
  readonly config: VectorsConfig;
  readonly dataFolder: string;
  /** Of the collections' logs: what an acknowledgement of a write means. */
  readonly durability: Durability;
  readonly intervalMs?: number;
  /** Who serves, in the registry: as for tables. */
  readonly node: string;
  /** For the operator's log. */
  readonly warn: (message: string) => void;
}

export interface Vectors {
  readonly service: VectorService;
  /** Resolves when the collections are open; rejects with what stood against it at the first start. */
  readonly opened: Promise<void>;
  /** Whether it is known which collections there are, opened or not: from then on for good. */
  isNamed(): boolean;
  /** Why nothing is answered, when the thread died. */
  failed(): MillraceError | undefined;
  /** Ends folds, closes the logs. */
  stop(): Promise<void>;
}

/** Starts the thread. */
export function startVectors(options: VectorsOptions): Vectors {
  return new VectorsThread(options);
}

class VectorsThread implements Vectors {
  readonly service: VectorClient;
  readonly opened: Promise<void>;
  readonly #options: VectorsOptions;
  readonly #opening = Promise.withResolvers<void>();
  #worker: RunningWorker | undefined;
  #ended: Promise<void> = Promise.resolve();
  #failure: MillraceError | undefined;
  #wasOpen = false;
  #isNamed = false;
  #stopping = false;
  #pauseMs: number = vectorsRoleLimits.restartPauseFirstMs;

  constructor(options: VectorsOptions) {
    this.#options = options;
    this.opened = this.#opening.promise;
    // Who waits for it has it; nobody else need.
    this.opened.catch(() => undefined);
    this.service = new VectorClient({
      clock: options.clock,
      send: (message) => this.#worker?.send(message),
      memoryBytesMax: (options.config.memoryMb ?? vectorDefaults.memoryMb) * 2 ** 20,
      warn: options.warn,
    });
    this.#start();
  }

  #start(): void {
    const { workers, config, dataFolder, durability, intervalMs, node } = this.#options;
    const data: VectorsThreadData = { config, dataFolder, durability, node, hasServed: this.#wasOpen, ...(intervalMs === undefined ? {} : { intervalMs }) };
    const worker = workers.start(moduleBeside("./vectors.worker", import.meta.url), data, "vectors", 0, vectorsRoleLimits.youngMb);
    this.#worker = worker;
    this.#ended = this.#live(worker);
  }

  async #live(worker: RunningWorker): Promise<void> {
    const begunMs = this.#options.clock.monotonicMs();
    for (;;) {
      const message = (await worker.receive()) as AnswersMessage | undefined;
      if (message === undefined) break;
      const isReady = this.service.hear(message);
      if (message.named === true) this.#isNamed = true;
      if (!isReady) continue;
      this.#failure = undefined;
      this.#wasOpen = true;
      this.#opening.resolve();
    }
    const failure = await worker.failed;
    this.#worker = undefined;
    if (this.#stopping) {
      if (failure !== undefined) this.#options.warn(`the vectors thread ended with: ${failure.message}`);
      const stopped = new MillraceError("unavailable", "the server stops", { todo: "connect again" });
      this.#opening.reject(failure ?? stopped);
      this.service.lost(stopped);
      return;
    }
    this.#lost(failure ?? new MillraceError("internal", "it returned by itself", { todo: "report this" }), begunMs);
  }

  #lost(cause: MillraceError, begunMs: number): void {
    const { clock, warn } = this.#options;
    if (!this.#wasOpen) {
      this.#failure = cause;
      this.service.lost(cause);
      this.#opening.reject(cause);
      return;
    }
    if (clock.monotonicMs() - begunMs > vectorsRoleLimits.restartPauseMsMax) this.#pauseMs = vectorsRoleLimits.restartPauseFirstMs;
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(2 * pauseMs, vectorsRoleLimits.restartPauseMsMax);
    this.#failure = new MillraceError("unavailable", `the vectors thread died (${cause.what}); its collections are read again`, {
      cause,
      todo: "send again in a moment, and look at the server's log",
    });
    warn(`${this.#failure.message}; a new thread starts in ${pauseMs} ms`);
    this.service.lost(this.#failure);
    clock.after(
      pauseMs,
      () => {
        if (!this.#stopping) this.#start();
      },
      { background: true },
    );
  }

  isNamed(): boolean {
    return this.#isNamed;
  }

  failed(): MillraceError | undefined {
    return this.#failure;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    try {
      await this.#worker?.stop(vectorsRoleLimits.stopGraceMs);
      await this.#ended;
    } catch (thrown) {
      this.#options.warn(toMillraceError(thrown).message);
    }
  }
}
