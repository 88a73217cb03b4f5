// How a worker's failure is told to its parent: as a MillraceError with its code, also across threads, where classes are lost.

import { type ErrorCode, MillraceError, errorActors } from "#base/errors";

/** A failure as it travels between threads. */
export interface FailureMessage {
  readonly code: ErrorCode;
  readonly what: string;
  readonly todo: string | undefined;
  readonly stack: string | undefined;
}

/** Any value thrown by the body of the worker `name`. */
export function workerFailure(name: string, thrown: unknown): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  const why = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  return new MillraceError("internal", `worker ${name} failed (${why})`, { cause: thrown, todo: "this is a defect, please report it with its stack" });
}

export function workerDied(name: string, how: string, cause?: unknown): MillraceError {
  return new MillraceError("internal", `worker ${name} ended without returning (${how})`, {
    cause,
    todo: "look at the messages before it; memory may have run out",
  });
}

export function workerFlooded(name: string): MillraceError {
  return new MillraceError("overloaded", `worker ${name} was sent more messages than may wait, or sent them`, { todo: "count the requests under way" });
}

export function workerEnded(name: string, graceMs: number): MillraceError {
  return new MillraceError("timeout", `worker ${name} did not return within ${graceMs} ms of being asked to stop, and was ended`, {
    todo: "let the body watch its signal",
  });
}

export function childTooLarge(options: { readonly name: string; readonly rssBytesMax: number }, what: string): MillraceError {
  return new MillraceError("overloaded", `child process ${options.name} was ended: ${what}, ${options.rssBytesMax} bytes are allowed`, {
    todo: "raise its memory cap, or give it less to do at once",
  });
}

export function packFailure(failure: MillraceError): FailureMessage {
  const cause = failure.cause instanceof Error ? failure.cause : failure;
  return { code: failure.code, what: failure.what, todo: failure.todo, stack: cause.stack };
}

export function unpackFailure(message: FailureMessage): MillraceError {
  const code = message.code in errorActors ? message.code : "internal";
  const cause = new Error("in the worker");
  if (message.stack !== undefined) cause.stack = message.stack;
  return new MillraceError(code, message.what, { cause, ...(message.todo === undefined ? {} : { todo: message.todo }) });
}
