// What travels between a thread or child process and its parent. Stop and end go the same way as messages, so that nothing overtakes anything.

import type { FailureMessage } from "./worker-failure.ts";

export type ToWorker = readonly ["message", unknown] | readonly ["stop"];

/** A child process gets what it is to do as its first message. */
export type ToChild = ToWorker | readonly ["start", WorkerStart];

export type ToParent =
  | readonly ["message", unknown]
  | readonly ["ended"]
  | readonly ["failed", FailureMessage]
  /** CPU milliseconds and resident bytes, from children on systems where the parent cannot look. */
  | readonly ["usage", number, number];

/** `workerData` of a thread, first message to a child process. */
export interface WorkerStart {
  readonly module: string;
  readonly name: string;
  readonly data: unknown;
  readonly niceness: number;
}
