// The one error class of millrace and its closed set of codes.
// Why: a caller decides by code, a log shows only the message, so the message begins with the code and says who must act.
// Invariants: 1. every error that leaves a room is a MillraceError  2. `retryable` follows from the code alone
//             3. a message never holds a secret nor a value of a user's data (field names and limits are fine).
// Expected misses are values, not errors.

/** code -> who must act. The order is the order of docs/errors.md. */
export const errorActors = {
  invalid: "caller",
  "not-found": "caller",
  conflict: "caller",
  unauthorized: "caller",
  unsupported: "caller",
  overloaded: "retry",
  timeout: "retry",
  unavailable: "retry",
  corrupt: "operator",
  internal: "maintainer",
} as const;

export type ErrorCode = keyof typeof errorActors;

/** HTTP status of each code. Source: RFC 9110 section 15; 429 from RFC 6585. */
export const httpStatusOf: Record<ErrorCode, number> = {
  invalid: 400,
  "not-found": 404,
  conflict: 409,
  unauthorized: 401,
  unsupported: 400,
  overloaded: 429,
  timeout: 504,
  unavailable: 503,
  corrupt: 500,
  internal: 500,
};

export interface ErrorDetail {
  /** What the one who must act should do, one sentence. */
  readonly todo?: string;
  readonly cause?: unknown;
}

/** Thrown by every room. `message` reads `[code] what failed, on what: what to do`. */
export class MillraceError extends Error {
  override readonly name = "MillraceError";
  readonly code: ErrorCode;
  /** The message without code and advice. */
  readonly what: string;
  readonly todo: string | undefined;

  constructor(code: ErrorCode, what: string, detail: ErrorDetail = {}) {
    super(`[${code}] ${what}${detail.todo === undefined ? "" : `: ${detail.todo}`}`, detail.cause === undefined ? {} : { cause: detail.cause });
    this.code = code;
    this.what = what;
    this.todo = detail.todo;
  }

  get retryable(): boolean {
    return errorActors[this.code] === "retry";
  }
}

/** `overloaded` since too much was asked for in a time, not for want of room: nothing is full, and asking again later is all there is to do. Clients of Redis get another word for it. */
export class RateError extends MillraceError {
  constructor(what: string, todo: string) {
    super("overloaded", what, { todo });
  }
}

/** Any thrown value as a MillraceError; what is not one already becomes `internal` with its cause kept. */
export function toMillraceError(thrown: unknown, what = "unexpected failure"): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  return new MillraceError("internal", what, { cause: thrown, todo: "this is a defect of millrace, please report it with the log lines around it" });
}

/** For our own mistakes only; must never be reachable by input. */
export function assert(claim: boolean, message: string): asserts claim {
  if (!claim) throw new MillraceError("internal", `broken invariant: ${message}`);
}
