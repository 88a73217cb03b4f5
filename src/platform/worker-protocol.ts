// What travels between a thread and its parent. Stop and end go the same way as messages, so that nothing overtakes anything.

import type { FailureMessage } from "./worker-failure.ts";

export type ToWorker = readonly ["message", unknown] | readonly ["stop"];

export type ToParent = readonly ["message", unknown] | readonly ["ended"] | readonly ["failed", FailureMessage];

/** `workerData` of a thread. */
export interface WorkerStart {
  readonly module: string;
  readonly name: string;
  readonly data: unknown;
}
