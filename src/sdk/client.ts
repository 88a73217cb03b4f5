// The client: one method for each route, with the types of the wire.
// Invariants: 1. everything it throws is a RequestError (a MillraceError), or the reason of the caller's own signal  2. events get an id before they are
// sent, so that a repeated call counts them once.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import { systemClock } from "#platform/system-clock";
import { randomId, type RandomSource, systemRandom } from "#platform/system-random";
import {
  apiLimits,
  type DeleteAnswer,
  type EventBody,
  type EventsAnswer,
  type ItemBody,
  type ItemRow,
  type ItemsPage,
  type PipelineGraph,
  type PipelinesAnswer,
  type PutAnswer,
  type ReadyAnswer,
  type RecommendAnswer,
  type RecommendBody,
  type StatusAnswer,
  type UserBody,
  type UserRow,
} from "#wire/api";
import { RequestError } from "./request-error.ts";
import { type CallOptions, Transport } from "./transport.ts";

export interface ClientOptions {
  /** Whole time of a call in milliseconds, repetitions included. Default 5,000; sensible 100 to 60,000. */
  readonly timeoutMs?: number;
  /** How often a call is repeated after a failure that may pass. Default 2; 0 switches it off. */
  readonly retries?: number;
  /** Most calls at a time; the next one fails with `overloaded`. Default 256. */
  readonly inFlightMax?: number;
  /** For tests and simulations. */
  readonly clock?: Clock;
  /** Source of event ids and of jitter; for tests and simulations. */
  readonly random?: RandomSource;
}

/** A request for recommendations: the pipeline's name and what the server's `RecommendBody` says. */
export type RecommendRequest = RecommendBody & { readonly pipeline: string };

/** Rows of one kind (items or users): put, change, read, delete. */
export class Rows<Row extends { id: string }, Body> {
  readonly #path: string;
  readonly #transport: Transport;

  /** @private Made by the client. */
  constructor(transport: Transport, path: string) {
    this.#transport = transport;
    this.#path = path;
  }

  /** Puts one row or up to 1,000; what was there under the id is replaced. Refused rows are in `rejected`; when all are, it throws `invalid`. */
  put(rows: Row | readonly Row[], options: CallOptions = {}): Promise<PutAnswer> {
    return this.#transport.call({ method: "PUT", path: this.#path, body: Array.isArray(rows) ? rows : [rows], repeatable: true, ...options });
  }

  /** Changes the given fields of a row. Throws `not-found`. */
  async patch(id: string, body: Body, options: CallOptions = {}): Promise<PutAnswer> {
    return this.#transport.call({ method: "PATCH", path: this.one(id), body, repeatable: true, ...options });
  }

  /** The row, or `undefined` when there is none. */
  async get(id: string, options: CallOptions = {}): Promise<Row | undefined> {
    return missing(this.#transport.call<Row>({ method: "GET", path: this.one(id), repeatable: true, ...options }));
  }

  /** Deletes a row; false when there was none (also when a repetition found it deleted by the first try). */
  async delete(id: string, options: CallOptions = {}): Promise<boolean> {
    const answer = await missing(this.#transport.call<DeleteAnswer>({ method: "DELETE", path: this.one(id), repeatable: true, ...options }));
    return answer?.deleted ?? false;
  }

  /** @private */
  protected one(id: string): string {
    if (id === "" || id === "." || id === ".." || id.length > apiLimits.idCharactersMax || !id.isWellFormed()) {
      throw new RequestError("invalid", "the id cannot stand in a path: it is empty, longer than 256 characters, one or two dots, or no valid Unicode", {
        todo: "use another id",
      });
    }
    return `${this.#path}/${encodeURIComponent(id)}`;
  }

  /** @private */
  protected page<T>(query: string, options: CallOptions): Promise<T> {
    return this.#transport.call({ method: "GET", path: `${this.#path}${query}`, repeatable: true, ...options });
  }
}

/** The catalogue. */
export class Items extends Rows<ItemRow, ItemBody> {
  /** Items in the order of their first appearance; pass `next` of the answer as `after` for the next page. `limit` 1 to 1,000, default 100. */
  list(page: { after?: string; limit?: number } = {}, options: CallOptions = {}): Promise<ItemsPage> {
    const query = new URLSearchParams();
    if (page.after !== undefined) query.set("after", page.after);
    if (page.limit !== undefined) query.set("limit", String(page.limit));
    return this.page(query.size === 0 ? "" : `?${query.toString()}`, options);
  }
}

/** What users did. */
export class Events {
  readonly #transport: Transport;
  readonly #random: RandomSource;

  /** @private Made by the client. */
  constructor(transport: Transport, random: RandomSource) {
    this.#transport = transport;
    this.#random = random;
  }

  /**
   * Sends one event or up to 1,000. Resolves when they are in the log, by the durability that the answer names. Events without an id get one, so
   * that a repetition counts once. Refused events are in `rejected`; when all are, it throws `invalid` with them.
   */
  send(events: EventBody | readonly EventBody[], options: CallOptions = {}): Promise<EventsAnswer> {
    const list = Array.isArray(events) ? (events as readonly EventBody[]) : [events as EventBody];
    const body = list.map((event) => (event.id === undefined ? { ...event, id: randomId(this.#random) } : event));
    return this.#transport.call({ method: "POST", path: "/v1/events", body, repeatable: true, ...options });
  }
}

/**
 * A client of one millrace server.
 *
 *     const client = new Client("http://127.0.0.1:8080");
 *     await client.items.put({ id: "m-1", title: "Noodle night", category: "cooking" });
 *     await client.events.send({ type: "click", user: "ann", item: "m-1" });
 *     const { items } = await client.recommend({ pipeline: "home", user: "ann", n: 10 });
 *
 * Keeps connections open between calls; needs no closing. One for a process is enough.
 */
export class Client {
  readonly events: Events;
  readonly items: Items;
  readonly users: Rows<UserRow, UserBody>;
  readonly #transport: Transport;

  /** Throws `invalid` for an address that is no http or https URL. */
  constructor(address: string | URL, options: ClientOptions = {}) {
    const baseUrl = URL.parse(String(address));
    if (baseUrl === null || !/^https?:$/.test(baseUrl.protocol)) {
      throw new MillraceError("invalid", "the server's address is no http URL", { todo: "pass for example http://127.0.0.1:8080" });
    }
    const random = options.random ?? systemRandom;
    this.#transport = new Transport({
      baseUrl,
      timeoutMs: options.timeoutMs ?? 5_000,
      retries: options.retries ?? 2,
      inFlightMax: options.inFlightMax ?? 256,
      clock: options.clock ?? systemClock,
      random,
    });
    this.events = new Events(this.#transport, random);
    this.items = new Items(this.#transport, "/v1/items");
    this.users = new Rows(this.#transport, "/v1/users");
  }

  /**
   * Recommendations for a user. Pass `recommendationId` of the answer on with the events that follow from it. Repeated only when the server did nothing,
   * because an answer is remembered as shown; with `record: false` nothing is remembered and it is repeated like a read.
   */
  recommend(request: RecommendRequest, options: CallOptions = {}): Promise<RecommendAnswer> {
    const { pipeline, ...body } = request;
    const path = `/v1/recommend/${encodeURIComponent(pipeline)}`;
    return this.#transport.call({ method: "POST", path, body, repeatable: request.record === false, ...options });
  }

  /** All pipelines as graphs. */
  async pipelines(options: CallOptions = {}): Promise<readonly PipelineGraph[]> {
    return (await this.#transport.call<PipelinesAnswer>({ method: "GET", path: "/v1/pipelines", repeatable: true, ...options })).pipelines;
  }

  /** The server's numbers since its start. */
  status(options: CallOptions = {}): Promise<StatusAnswer> {
    return this.#transport.call({ method: "GET", path: "/v1/status", repeatable: true, ...options });
  }

  /** Resolves once the server is ready, asking until `timeoutMs` (the client's, or the call's) is over; then throws what it waits for. */
  async ready(options: CallOptions = {}): Promise<void> {
    await this.#transport.call<ReadyAnswer>({ method: "GET", path: "/health/ready", repeatable: true, untilDeadline: true, ...options });
  }
}

/** The answer, or `undefined` when the row is not there. */
async function missing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (thrown) {
    if (thrown instanceof RequestError && thrown.code === "not-found") return undefined;
    throw thrown;
  }
}
