// The parameters thread as an object of the server role: starts it, joins the tables that it opens, passes requests on, keeps what it tells, starts another one when it dies.
// Life: opening --ready--> open --thread dies--> failed --after a pause--> opening ...; pulls are answered in all of them once a table was there, writes only while it is open.
// Invariants: 1. status is at most about a second old  2. a thread that dies takes its unsaved rows with it, as a kill -9 of the process does: its tables are read from their checkpoints again; until
//                then pulls read the memory as it was left  3. every request ends by its deadline.
// Concurrency: the serving loop. Limits: asksMax requests under way.

import { MillraceError, toMillraceError } from "#base/errors";
import { parameterLanes } from "#params/host/host-table";
import type { ParameterTableTicket } from "#params/host/parameter-host";
import { ServedTables } from "#params/host/served-tables";
import { UpdateBell } from "#params/update-ring";
import type { Clock } from "#platform/clock";
import { moduleBeside } from "#platform/module-beside";
import { type FailureMessage, unpackFailure } from "#platform/worker-failure";
import type { RunningWorker, Workers } from "#platform/workers";
import type { ParameterControl, ParameterExchange, ParameterLooking, ParameterSaved, ParametersStatus, ParameterTableLook } from "#wire/parameter-api";
import { type ParametersConfig, parameterMemoryMb, type ParameterTableConfig } from "#wire/parameter-config";
import type { ParametersThreadData } from "./parameters.worker.ts";

/** To the thread. */
export interface ParametersAsk {
  readonly id: number;
  readonly ask: "create" | "drop" | "save" | "look" | "export" | "import";
  readonly name: string;
  readonly config?: ParameterTableConfig;
  readonly exchange?: string;
}

/** To the thread: a node of this name is to be reached at this port of this machine. */
export interface ParametersPassOn {
  readonly name: string;
  readonly port: number;
}

/** From the thread. */
export type FromParameters =
  | { readonly kind: "opened"; readonly table: ParameterTableTicket }
  | { readonly kind: "dropped"; readonly id: number }
  /** With `lead: "lease"`: who takes the writes; undefined: this server, or nobody right now. */
  | { readonly kind: "leader"; readonly address?: string }
  | { readonly kind: "ready" }
  | { readonly kind: "status"; readonly status: ParametersStatus }
  | { readonly kind: "warning"; readonly message: string }
  | { readonly kind: "answer"; readonly id: number; readonly value?: unknown; readonly failure?: FailureMessage };

export const parametersLimits = {
  asksMax: 256,
  /** Of a request that reads or writes a whole table, and of others. */
  longAskMs: 3_600_000,
  askMs: 60_000,
  /** The last checkpoints, on a slow disk. */
  stopGraceMs: 120_000,
  restartPauseFirstMs: 1_000,
  restartPauseMsMax: 60_000,
} as const;

export interface ParametersOptions {
  readonly workers: Workers;
  readonly clock: Clock;
  readonly config: ParametersConfig;
  readonly dataFolder: string;
  /** For the operator's log. */
  readonly warn: (message: string) => void;
}

export interface Parameters extends ParameterControl, ParameterLooking {
  readonly served: ServedTables;
  /** Resolves when all tables are open; rejects with what stood against it at the first start. */
  readonly opened: Promise<void>;
  /** Connections to the port of synchronisation for a node of this name, in another thread, go to this port of this machine from now on. */
  passOn(name: string, port: number): void;
  /** Why writes are refused, when the thread died. */
  writesFailed(): MillraceError | undefined;
  /** Lets it write the last checkpoints and end. */
  stop(): Promise<void>;
}

interface Asked {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: MillraceError) => void;
}

/** Starts the thread. */
export function startParameters(options: ParametersOptions): Parameters {
  return new ParametersThread(options);
}

class ParametersThread implements Parameters {
  readonly served: ServedTables;
  readonly opened: Promise<void>;
  readonly #options: ParametersOptions;
  readonly #opening = Promise.withResolvers<void>();
  readonly #asked = new Map<number, Asked>();
  /** Tables that the thread has open and this side could not join, by name. */
  readonly #unread = new Map<string, { readonly id: number; readonly reason: string }>();
  /** Told again to each thread that is started. */
  readonly #passedOn = new Map<string, number>();
  #nextAsk = 1;
  #worker: RunningWorker | undefined;
  #ended: Promise<void> = Promise.resolve();
  #last: ParametersStatus;
  #failure: MillraceError | undefined;
  #wasOpen = false;
  #stopping = false;
  #pauseMs: number = parametersLimits.restartPauseFirstMs;

  constructor(options: ParametersOptions) {
    this.#options = options;
    this.served = new ServedTables(options.clock, parameterLanes.serving);
    this.opened = this.#opening.promise;
    // Who waits for it has it; nobody else need.
    this.opened.catch(() => undefined);
    this.#last = { state: "opening", tables: [], memoryBytes: 0, memoryBytesMax: parameterMemoryMb(options.config) * 2 ** 20 };
    this.#start();
  }

  #start(): void {
    const { workers, config, dataFolder } = this.#options;
    const data: ParametersThreadData = { config, dataFolder, ring: this.served.serve(new UpdateBell()) };
    const worker = workers.start(moduleBeside("./parameters.worker", import.meta.url), data, "parameters");
    this.#worker = worker;
    for (const [name, port] of this.#passedOn) worker.send({ name, port } satisfies ParametersPassOn);
    this.#ended = this.#live(worker);
  }

  async #live(worker: RunningWorker): Promise<void> {
    const begunMs = this.#options.clock.monotonicMs();
    for (;;) {
      const message = (await worker.receive()) as FromParameters | undefined;
      if (message === undefined) break;
      try {
        this.#take(message);
      } catch (thrown) {
        // One message that cannot be followed does not end the server.
        const error = toMillraceError(thrown);
        if (message.kind === "opened") this.#unread.set(message.table.name, { id: message.table.id, reason: error.message });
        this.#options.warn(`a message of the parameters thread (${message.kind}) came to nothing: ${error.message}`);
      }
    }
    this.#unread.clear();
    const failure = await worker.failed;
    this.#worker = undefined;
    if (this.#stopping) {
      if (failure !== undefined) this.#options.warn(`the parameters thread ended with: ${failure.message}`);
      this.#opening.reject(failure ?? new MillraceError("unavailable", "the server stops"));
      this.#gone(new MillraceError("unavailable", "the server stops", { todo: "connect again" }));
      return;
    }
    this.#lost(failure ?? new MillraceError("internal", "it returned by itself", { todo: "report this" }), begunMs);
  }

  #take(message: FromParameters): void {
    switch (message.kind) {
      case "opened":
        this.#unread.delete(message.table.name);
        this.served.opened(message.table);
        return;
      case "dropped":
        for (const [name, { id }] of this.#unread) if (id === message.id) this.#unread.delete(name);
        this.served.dropped(message.id);
        return;
      case "leader":
        this.served.ledBy(message.address);
        return;
      case "ready":
        this.#failure = undefined;
        this.#wasOpen = true;
        this.#opening.resolve();
        return;
      case "status":
        this.#last = message.status;
        return;
      case "warning":
        this.#options.warn(message.message);
        return;
      case "answer": {
        const asked = this.#asked.get(message.id);
        this.#asked.delete(message.id);
        if (message.failure === undefined) asked?.resolve(message.value);
        else asked?.reject(unpackFailure(message.failure));
      }
    }
  }

  #gone(error: MillraceError): void {
    this.served.lost(error);
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }

  #lost(cause: MillraceError, begunMs: number): void {
    const { clock, warn } = this.#options;
    if (!this.#wasOpen) {
      this.#failure = cause;
      this.#last = { ...this.#last, state: "failed", reason: cause.message };
      this.#gone(cause);
      this.#opening.reject(cause);
      return;
    }
    if (clock.monotonicMs() - begunMs > parametersLimits.restartPauseMsMax) this.#pauseMs = parametersLimits.restartPauseFirstMs;
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(2 * pauseMs, parametersLimits.restartPauseMsMax);
    const failure = new MillraceError(
      "unavailable",
      `the parameters thread died (${cause.what}); pulls go on, its tables are read from their checkpoints again`,
      {
        cause,
        todo: "send again in a moment, and look at the server's log",
      },
    );
    this.#failure = failure;
    this.#last = { ...this.#last, state: "failed", reason: failure.message };
    warn(`${failure.message}; what was written after the last checkpoint is lost; a new thread starts in ${pauseMs} ms`);
    this.#gone(failure);
    clock.after(
      pauseMs,
      () => {
        if (!this.#stopping) this.#start();
      },
      { background: true },
    );
  }

  #ask(ask: Omit<ParametersAsk, "id">, withinMs: number): Promise<unknown> {
    const worker = this.#worker;
    if (worker === undefined)
      return Promise.reject(this.#failure ?? new MillraceError("unavailable", "the parameter tables are being opened", { todo: "send again in a moment" }));
    if (this.#asked.size >= parametersLimits.asksMax) {
      return Promise.reject(
        new MillraceError("overloaded", `${parametersLimits.asksMax} requests to the parameters thread, the most`, { todo: "wait for some of them" }),
      );
    }
    const id = this.#nextAsk++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#asked.set(id, { resolve, reject });
    const timer = this.#options.clock.after(
      withinMs,
      () => {
        this.#asked.delete(id);
        reject(
          new MillraceError("timeout", `${ask.ask} of parameter table ${ask.name} had no answer within ${withinMs} ms`, {
            todo: "look at PINFO, it may still be done",
          }),
        );
      },
      { background: true },
    );
    worker.send({ id, ...ask } satisfies ParametersAsk);
    return promise.finally(() => timer.cancel());
  }

  status(): ParametersStatus {
    const tables = this.#last.tables.map((table) => {
      const unread = this.#unread.get(table.name);
      return { ...table, ...this.served.find(table.name)?.counts, ...(unread === undefined ? {} : { state: "failed" as const, reason: unread.reason }) };
    });
    return { ...this.#last, tables };
  }

  async create(name: string, config: ParameterTableConfig): Promise<void> {
    await this.#ask({ ask: "create", name, config }, parametersLimits.askMs);
  }

  async drop(name: string): Promise<void> {
    await this.#ask({ ask: "drop", name }, parametersLimits.askMs);
  }

  async save(name: string): Promise<ParameterSaved> {
    return (await this.#ask({ ask: "save", name }, parametersLimits.longAskMs)) as ParameterSaved;
  }

  async look(name: string): Promise<ParameterTableLook> {
    return (await this.#ask({ ask: "look", name }, parametersLimits.askMs)) as ParameterTableLook;
  }

  async exportTable(name: string, exchange: string): Promise<ParameterExchange> {
    return (await this.#ask({ ask: "export", name, exchange }, parametersLimits.longAskMs)) as ParameterExchange;
  }

  async importTable(name: string, exchange: string): Promise<ParameterExchange> {
    return (await this.#ask({ ask: "import", name, exchange }, parametersLimits.longAskMs)) as ParameterExchange;
  }

  passOn(name: string, port: number): void {
    this.#passedOn.set(name, port);
    this.#worker?.send({ name, port } satisfies ParametersPassOn);
  }

  writesFailed(): MillraceError | undefined {
    return this.#failure;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    try {
      await this.#worker?.stop(parametersLimits.stopGraceMs);
      await this.#ended;
    } catch (thrown) {
      this.#options.warn(toMillraceError(thrown).message);
    }
    this.served.close();
  }
}
