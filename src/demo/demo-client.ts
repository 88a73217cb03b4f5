// The demo's whole way to the server: the five calls of the public API that it uses.
// Why an interface: furnishing and the audience are tested against a small server of the test, and know nothing of connections.
// Invariant: every failure is a MillraceError; `overloaded`, `timeout` and `unavailable` are worth another try.

import { MillraceError, errorActors, type ErrorCode } from "#base/errors";
import type { ErrorAnswer, EventBody, EventsAnswer, ItemRow, PutAnswer, RecommendAnswer, RecommendBody, UserRow } from "#wire/api";

export interface DemoClient {
  /** True once the server answers requests. */
  ready(signal: AbortSignal): Promise<boolean>;
  putItems(rows: readonly ItemRow[], signal: AbortSignal): Promise<PutAnswer>;
  putUsers(rows: readonly UserRow[], signal: AbortSignal): Promise<PutAnswer>;
  deleteItem(id: string, signal: AbortSignal): Promise<void>;
  sendEvents(events: readonly EventBody[], signal: AbortSignal): Promise<EventsAnswer>;
  recommend(pipeline: string, body: RecommendBody, signal: AbortSignal): Promise<RecommendAnswer>;
}

const timeoutMs = 10_000;

/** Over HTTP to the server at `baseUrl`. */
export function httpClient(baseUrl: string): DemoClient {
  const call = async (method: string, path: string, signal: AbortSignal, body?: unknown): Promise<unknown> => {
    let response: Response;
    let text: string;
    try {
      response = await fetch(new URL(path, baseUrl), {
        method,
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
      });
      text = await response.text();
    } catch (thrown) {
      const late = thrown instanceof DOMException && thrown.name === "TimeoutError";
      throw new MillraceError(late ? "timeout" : "unavailable", `${method} ${path} got no answer`, { cause: thrown, todo: "see whether the server runs" });
    }
    if (response.ok) return JSON.parse(text) as unknown;
    const error = (JSON.parse(text) as Partial<ErrorAnswer>).error;
    const code = error !== undefined && error.code in errorActors ? (error.code as ErrorCode) : response.status >= 500 ? "unavailable" : "invalid";
    throw new MillraceError(code, `${method} ${path} answered ${response.status}: ${error?.message ?? "no reason given"}`);
  };
  return {
    ready: (signal) =>
      call("GET", "/health/ready", signal).then(
        () => true,
        () => false,
      ),
    putItems: (rows, signal) => call("PUT", "/v1/items", signal, rows) as Promise<PutAnswer>,
    putUsers: (rows, signal) => call("PUT", "/v1/users", signal, rows) as Promise<PutAnswer>,
    deleteItem: async (id, signal) => {
      try {
        await call("DELETE", `/v1/items/${encodeURIComponent(id)}`, signal);
      } catch (thrown) {
        if (!(thrown instanceof MillraceError && thrown.code === "not-found")) throw thrown;
      }
    },
    sendEvents: (events, signal) => call("POST", "/v1/events", signal, events) as Promise<EventsAnswer>,
    recommend: (pipeline, body, signal) => call("POST", `/v1/recommend/${pipeline}`, signal, body) as Promise<RecommendAnswer>,
  };
}
