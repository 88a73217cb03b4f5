// What a call of the client throws: a MillraceError with the server's code, and what only an answer knows.

import { type ErrorCode, errorActors, MillraceError } from "#base/errors";
import type { ErrorAnswer, Rejection } from "#wire/api";

/** A failed call. `code` decides what to do; `retryable` says whether the same call may succeed later. */
export class RequestError extends MillraceError {
  /** HTTP status of the answer; 0 when there was none (no connection, or no answer in time). */
  readonly status: number;
  /** The rows that were refused, where the call sent rows and all of them were. */
  readonly rejected: readonly Rejection[];
  /** Names the lines of the server's log, where someone must look there. */
  readonly requestId: string | undefined;

  constructor(code: ErrorCode, what: string, detail: { todo?: string; cause?: unknown; status?: number; rejected?: readonly Rejection[]; requestId?: string }) {
    super(code, what, { ...(detail.todo === undefined ? {} : { todo: detail.todo }), ...(detail.cause === undefined ? {} : { cause: detail.cause }) });
    this.status = detail.status ?? 0;
    this.rejected = detail.rejected ?? [];
    this.requestId = detail.requestId;
  }
}

/** Statuses of something between us and the server (a proxy), which does not speak our errors. */
const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  401: "unauthorized",
  403: "unauthorized",
  404: "not-found",
  408: "timeout",
  409: "conflict",
  429: "overloaded",
  502: "unavailable",
  503: "unavailable",
  504: "timeout",
};

/** The error of an answer with a status that is no success. */
export function errorOfAnswer(status: number, body: unknown, call: string): RequestError {
  const error = (body as Partial<ErrorAnswer> | null | undefined)?.error;
  if (typeof error?.code !== "string" || typeof error.message !== "string" || !Object.hasOwn(errorActors, error.code)) {
    const code = codeOfStatus[status] ?? (status < 500 ? "invalid" : "internal");
    return new RequestError(code, `${call} was answered with status ${status} and no error of millrace`, {
      status,
      todo: "check that the address is a millrace server's",
    });
  }
  // The message is `[code] what: todo`; the class puts it together again.
  const { todo } = error;
  let what = error.message.replace(/^\[[a-z-]+\] /, "");
  if (todo !== undefined && what.endsWith(`: ${todo}`)) what = what.slice(0, -todo.length - 2);
  return new RequestError(error.code as ErrorCode, what, {
    status,
    ...(todo === undefined ? {} : { todo }),
    ...(error.rejected === undefined ? {} : { rejected: error.rejected }),
    ...(error.requestId === undefined ? {} : { requestId: error.requestId }),
  });
}
