// The one way to threads. A worker body is a module whose default export is a WorkerBody; it gets its port, clock and files handed in, so that
// the simulated twin can run the same body as a task of its scheduler.
// Invariants: 1. messages between one pair arrive in order  2. `stop` resolves when the body has returned or was ended
// 3. a body that throws is reported once by `failed`, never silently  4. messages are copied as by structuredClone; shared memories (and WebAssembly
// memories and modules) arrive shared.
// Limits: a side that does not receive holds at most `messagesWaitingMax` messages, then the worker fails with `overloaded`: pairs that may run
// ahead of one another count their requests.
// A body must not block its thread (Atomics.wait) when it is to run in simulation, where all bodies share one.

import type { MillraceError } from "#base/errors";
import type { Clock } from "./clock.ts";
import type { Files } from "./files.ts";

export interface WorkerPort {
  /** Never waits; what is sent to a side that has ended is dropped. */
  send(message: unknown): void;
  /** Next message, or `undefined` once the other side has ended (or has asked this one to stop) and all its messages were received. */
  receive(): Promise<unknown>;
}

export interface WorkerContext {
  readonly port: WorkerPort;
  readonly clock: Clock;
  readonly files: Files;
  /** What the parent passed; shared memories arrive shared. */
  readonly data: unknown;
  /** Aborted when the parent asks the body to stop. */
  readonly signal: AbortSignal;
}

export type WorkerBody = (context: WorkerContext) => Promise<void>;

export interface RunningWorker extends WorkerPort {
  /** Asks the body to return; ends it after `graceMs` (default 2,000). */
  stop(graceMs?: number): Promise<void>;
  /** Resolves once: with the failure when the body throws (its own MillraceError, else `internal`), the thread dies (`internal`), or had to be ended
   * by `stop` (`timeout`); with undefined after an orderly end. */
  readonly failed: Promise<MillraceError | undefined>;
}

/** Messages that may wait on one side. */
export const messagesWaitingMax = 65_536;

/** Milliseconds that `stop` gives a body to return. */
export const stopGraceMsDefault = 2_000;

export interface Workers {
  /**
   * `module` is the address of the body: `moduleBeside("./x.worker", import.meta.url)` of module-beside.ts. `data` is copied as a message is.
   * `niceness`, 0 (as the process) to 19: for work that stands back behind everything else on this machine, from when its body is loaded on. Such a body reads files
   * in its own thread, one at a time. A hint: not every system can do it.
   * `youngMb`: of the heap for new objects, for a thread whose callers wait on it: a collection of 16 MiB stops it for a third of the time that one of 48 does, three times as often.
   * Default: the engine's, 48.
   */
  start(module: URL, data: unknown, name: string, niceness?: number, youngMb?: number): RunningWorker;
}

/** Workers that all stand back. */
export function standingBack(workers: Workers, niceness = 19): Workers {
  return { start: (module, data, name, _niceness, youngMb) => workers.start(module, data, name, niceness, youngMb) };
}
