// One HTTP call with a deadline and retries. Uses the global `fetch` of Node, which keeps connections alive and needs no library.
// Invariants: 1. a call ends by its deadline, retries and pauses included  2. a call is repeated only when the failure is retryable and repeating it
// cannot do harm: the same effect twice is the effect once, or the server did nothing  3. at most `inFlightMax` calls at a time; the next one is refused
// at once instead of waiting in a queue.
// Cost: about 100 us of CPU a call (fetch); send events in batches.
// Concurrency: any number of calls of one event loop.

import type { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { RandomSource } from "#platform/system-random";
import { errorOfAnswer, RequestError } from "./request-error.ts";

export interface TransportOptions {
  readonly baseUrl: URL;
  /** Whole time of a call, retries and pauses included. */
  readonly timeoutMs: number;
  /** How often a call is repeated at most. */
  readonly retries: number;
  readonly inFlightMax: number;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** Sent as `authorization: Bearer`. */
  readonly token?: string;
}

/** Of one call. */
export interface CallOptions {
  /** Instead of the client's. */
  readonly timeoutMs?: number;
  /** Ends the call early; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface Call extends CallOptions {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Begins with `/`; ids in it are percent-encoded. */
  readonly path: string;
  readonly body?: unknown;
  /** True when the same call twice has the effect of one. */
  readonly repeatable: boolean;
  /** Repeats until the deadline instead of `retries` times, without long pauses. */
  readonly untilDeadline?: boolean;
}

/** First pause before a repetition; doubled each time, up to the second. */
const pauseMs = { first: 50, max: 2_000 };

export class Transport {
  readonly #options: TransportOptions;
  #inFlight = 0;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /** The JSON of the answer. Throws `RequestError`. */
  async call<T>(call: Call): Promise<T> {
    const { clock, retries, inFlightMax } = this.#options;
    const name = `${call.method} ${call.path.split("?", 1)[0]!}`;
    if (this.#inFlight >= inFlightMax) {
      throw new RequestError("overloaded", `${inFlightMax} calls of this client are under way, the most`, {
        todo: "await calls before you begin new ones, or raise inFlightMax",
      });
    }
    const timeoutMs = call.timeoutMs ?? this.#options.timeoutMs;
    const deadline = clock.monotonicMs() + timeoutMs;
    const ending = new AbortController();
    const timer = clock.after(timeoutMs, () =>
      ending.abort(new RequestError("timeout", `${name} had no answer within ${timeoutMs} ms`, { todo: "try again, or raise timeoutMs" })),
    );
    const onAbort = (): void => ending.abort(call.signal!.reason);
    if (call.signal?.aborted === true) onAbort();
    else call.signal?.addEventListener("abort", onAbort, { once: true });
    // As text once: a repetition sends the same bytes.
    const text = call.body === undefined ? undefined : JSON.stringify(call.body);
    this.#inFlight += 1;
    let last: MillraceError | undefined;
    try {
      for (let attempt = 0; ; attempt += 1) {
        const failure = await this.#attempt<T>(call, text, name, ending.signal);
        if ("value" in failure) return failure.value;
        const { error, untouched, pauseAskedMs } = failure;
        last = error;
        if (!error.retryable || (attempt >= retries && call.untilDeadline !== true) || !(call.repeatable || untouched) || ending.signal.aborted) throw error;
        const pause = call.untilDeadline === true ? this.#pause(2) : Math.max(pauseAskedMs, this.#pause(attempt));
        // No use in waking after the deadline: the failure itself says more than a time-out.
        if (clock.monotonicMs() + pause >= deadline) throw error;
        await clock.sleep(pause, ending.signal);
      }
    } catch (thrown) {
      // A repetition that the deadline cut off: what the last whole answer said tells more than that.
      throw last !== undefined && call.untilDeadline === true && call.signal?.aborted !== true ? last : thrown;
    } finally {
      this.#inFlight -= 1;
      timer.cancel();
      call.signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Full jitter keeps many clients from coming back at the same moment. */
  #pause(attempt: number): number {
    const ceiling = Math.min(pauseMs.max, pauseMs.first * 2 ** attempt);
    return ceiling * (0.5 + this.#options.random.bytes(new Uint8Array(1))[0]! / 512);
  }

  async #attempt<T>(
    call: Call,
    text: string | undefined,
    name: string,
    signal: AbortSignal,
  ): Promise<{ value: T } | { error: MillraceError; untouched: boolean; pauseAskedMs: number }> {
    let response: Response;
    let body: unknown;
    try {
      response = await fetch(new URL(call.path, this.#options.baseUrl), {
        method: call.method,
        signal,
        redirect: "error",
        headers: {
          ...(this.#options.token === undefined ? {} : { authorization: `Bearer ${this.#options.token}` }),
          ...(text === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(text === undefined ? {} : { body: text }),
      });
      const answer = await response.text();
      try {
        body = JSON.parse(answer);
      } catch {
        // Not ours: the status says what can be said.
      }
    } catch (thrown) {
      if (signal.aborted) throw signal.reason;
      const { code } = ((thrown as Error).cause ?? {}) as { code?: string };
      const error = new RequestError("unavailable", `${name} found no server at ${this.#options.baseUrl.origin}${code === undefined ? "" : ` (${code})`}`, {
        cause: thrown,
        todo: "start it with `npm start`, or correct the address",
      });
      return { error, untouched: code === "ECONNREFUSED", pauseAskedMs: 0 };
    }
    if (response.ok) {
      if (body === undefined)
        throw new RequestError("internal", `${name} was answered without JSON`, {
          status: response.status,
          todo: "check that the address is a millrace server's",
        });
      return { value: body as T };
    }
    const error = errorOfAnswer(response.status, body, name);
    const askedS = Number(response.headers.get("retry-after") ?? 0);
    return { error, untouched: error.code === "overloaded" || error.code === "unavailable", pauseAskedMs: askedS > 0 && askedS < 3_600 ? askedS * 1_000 : 0 };
  }
}
