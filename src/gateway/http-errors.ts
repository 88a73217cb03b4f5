// Every way in which a request can fail, as one answer: `{"error": {code, message, todo, retryable, ...}}` and a status.
// Invariants: 1. whatever is thrown ends here  2. what an operator or a maintainer must act on is logged with the request's id, which the answer
// carries too; a stack or a cause never leaves the process  3. the status follows from the code (httpStatusOf), except where HTTP has a more exact
// one (404 route, 405, 408, 413, 415, 417, 431): then a `HttpRefusal` names it.

import { errorActors, httpStatusOf, MillraceError, toMillraceError, type ErrorCode } from "#base/errors";
import type { ErrorAnswer, Rejection } from "#wire/api";

/** What the HTTP side needs of a logger; a pino logger is one. */
export interface HttpLogger {
  error(detail: object, message: string): void;
  warn(detail: object, message: string): void;
}

export interface RefusalDetail {
  readonly todo?: string;
  readonly cause?: unknown;
  /** Where HTTP has a more exact status than the code's. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly rejected?: readonly Rejection[];
}

/** A MillraceError with what only HTTP knows. */
export class HttpRefusal extends MillraceError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly rejected: readonly Rejection[] | undefined;

  constructor(code: ErrorCode, what: string, detail: RefusalDetail = {}) {
    super(code, what, { ...(detail.todo === undefined ? {} : { todo: detail.todo }), ...(detail.cause === undefined ? {} : { cause: detail.cause }) });
    this.status = detail.status ?? httpStatusOf[code];
    this.headers = detail.headers ?? {};
    this.rejected = detail.rejected;
  }
}

/** Seconds that a caller should wait before it tries again. */
const retryAfterSeconds: Partial<Record<ErrorCode, string>> = { overloaded: "1", unavailable: "2" };

export interface ErrorReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorAnswer;
}

/** The answer for anything thrown; logs what someone other than the caller must look at. */
export function errorReply(thrown: unknown, requestId: string, logger: HttpLogger | undefined): ErrorReply {
  const error = thrown instanceof MillraceError ? thrown : (refusalOfFramework(thrown) ?? toMillraceError(thrown));
  const actor = errorActors[error.code];
  const hidden = error.code === "internal";
  const named = actor === "operator" || actor === "maintainer";
  if (named) logger?.error({ requestId, err: error, cause: error.cause }, error.message);
  const refusal = error instanceof HttpRefusal ? error : undefined;
  const todo = hidden ? "look up the requestId in the server's log, and report it if it is a defect" : error.todo;
  const wait = retryAfterSeconds[error.code];
  return {
    status: refusal?.status ?? httpStatusOf[error.code],
    headers: wait === undefined ? (refusal?.headers ?? {}) : { ...refusal?.headers, "retry-after": wait },
    body: {
      error: {
        code: error.code,
        message: hidden ? "[internal] the server failed on this request" : error.message,
        ...(todo === undefined ? {} : { todo }),
        retryable: error.retryable,
        ...(named ? { requestId } : {}),
        ...(refusal?.rejected === undefined ? {} : { rejected: [...refusal.rejected] }),
      },
    },
  };
}

/** Fastify's own refusals, by their code; `undefined` for what is no refusal of a request. */
function refusalOfFramework(thrown: unknown): HttpRefusal | undefined {
  const { code, statusCode } = (thrown ?? {}) as { code?: unknown; statusCode?: unknown };
  switch (code) {
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
    case "FST_ERR_CTP_EMPTY_TYPE":
      return wrongContentType();
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new HttpRefusal("invalid", "the body is larger than this server takes", {
        status: 413,
        todo: "send fewer rows in a request, docs/http-api.md has the limit",
      });
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
      return new HttpRefusal("invalid", "the body is not as long as its content-length says", { todo: "send the true length, or none and chunks" });
    case "FST_ERR_BAD_URL":
      return new HttpRefusal("invalid", "the path is not valid percent-encoded UTF-8", { todo: "write each id with encodeURIComponent, a % itself as %25" });
    case "FST_ERR_MAX_PARAM_LENGTH":
      return idTooLong();
  }
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500) {
    return new HttpRefusal("invalid", "the request cannot be read", { status: statusCode, cause: thrown, todo: "compare it with /openapi.json" });
  }
  return undefined;
}

export function wrongContentType(): HttpRefusal {
  return new HttpRefusal("unsupported", "the body's content-type is not one that this route reads", {
    status: 415,
    todo: "send `content-type: application/json` (events also as application/x-ndjson)",
  });
}

export function idTooLong(): HttpRefusal {
  return new HttpRefusal("invalid", "the id in the path is longer than 256 characters", { todo: "use a shorter id" });
}

/** What Node's parser refused before there was a request. */
export function errorReplyOfSocket(thrown: unknown): ErrorReply {
  const { code } = (thrown ?? {}) as { code?: unknown };
  if (code === "HPE_HEADER_OVERFLOW") {
    return errorReply(new HttpRefusal("invalid", "the request's headers are too large", { status: 431, todo: "send fewer or shorter headers" }), "", undefined);
  }
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") {
    const todo = "send the request faster, or in smaller parts";
    return errorReply(new HttpRefusal("timeout", "the request did not arrive in time", { status: 408, todo }), "", undefined);
  }
  const todo = "send HTTP/1.1 with a known method, valid headers and one length";
  return errorReply(new HttpRefusal("invalid", "the bytes are not a valid HTTP request", { todo }), "", undefined);
}
