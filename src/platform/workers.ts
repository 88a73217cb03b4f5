// The one way to threads. A worker body is a module whose default export is a WorkerBody; it gets its port, clock and files handed in, so that
// the simulated twin can run the same body as a task of its scheduler.
// Invariants: 1. messages between one pair arrive in order  2. `stop` resolves when the body has returned or was ended
// 3. a body that throws is reported once by `failed`, never silently.

import type { Clock } from "./clock.ts";
import type { Files } from "./files.ts";

export interface WorkerPort {
  send(message: unknown): void;
  /** Next message, or `undefined` once the other side has stopped. */
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
  /** Resolves with the failure when the body throws or the thread dies, with undefined after an orderly end. */
  readonly failed: Promise<Error | undefined>;
}

export interface Workers {
  /** `module` is a URL: `new URL("./x.worker.ts", import.meta.url)` with the extension of the importing module (`.js` in the built form). */
  start(module: URL, data: unknown, name: string): RunningWorker;
}
