// What each route does: from a parsed request to a call of the gateway. The server adds limits, metrics, errors and the page around it.
// Invariants: 1. a route refuses query parameters that it does not know  2. rows are checked by the gateway, once; here only the shape around them
// 3. a handler returns the answer or throws; it never touches the socket.

import type { TSchema } from "typebox";
import Type from "typebox";
import { errorActors, type ErrorCode, MillraceError } from "#base/errors";
import {
  apiLimits,
  DeleteAnswer,
  EventBody,
  EventsAnswer,
  ItemBody,
  ItemRow,
  ItemsPage,
  PipelineGraph,
  PipelinesAnswer,
  PutAnswer,
  ReadyAnswer,
  RecommendAnswer,
  RecommendBody,
  type Rejection,
  StatusAnswer,
  UserBody,
  UserRow,
} from "#wire/api";
import {
  HistoryAnswer,
  type LiveSecond,
  QualityAnswer,
  ScoreAnswer,
  ScoreBody,
  SimilarAnswer,
  SimilarBody,
  TrainingBody,
  TrainingStatus,
} from "#wire/live-api";
import type { Gateway, Readiness } from "./gateway.ts";
import { StreamAnswer } from "./http-stream.ts";
import type { LiveSeconds } from "./live-seconds.ts";
import { schemaCheck } from "./schema-check.ts";
import { HttpRefusal, idTooLong } from "./http-errors.ts";

/** A request as a handler sees it. */
export interface Call {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
  /** Name of the user whose token it has; `anonymous` without one. */
  readonly caller: string;
}

/** An answer as text that is made already: not JSON, or JSON with numbers that JSON.stringify would round. */
export class TextAnswer {
  readonly text: string;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly status: number;

  constructor(text: string, contentType: string, headers: Readonly<Record<string, string>> = {}, status = 200) {
    this.text = text;
    this.contentType = contentType;
    this.headers = headers;
    this.status = status;
  }
}

export class StatusedAnswer {
  readonly status: number;
  readonly body: unknown;

  constructor(status: number, body: unknown) {
    this.status = status;
    this.body = body;
  }
}

export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With `:name` for parameters. */
  readonly url: string;
  readonly summary: string;
  readonly tag: "events" | "items" | "users" | "recommend" | "learning" | "tables" | "feast" | "store" | "parameters" | "vectors" | "server";
  /** Names of the query parameters, each with its description. */
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: TSchema;
  /** The handler gets the body as bytes (a Uint8Array, empty without a body), whatever its content-type says, and reads it itself. */
  readonly raw?: boolean;
  /** The JSON answer; absent for text. */
  readonly answer?: TSchema;
  /** Answered also when the server is full or drains: an operator must be able to look. */
  readonly always?: boolean;
  readonly handle: (call: Call) => unknown;
}

const itemsLimitDefault = 100;

/** The API of the gateway. `statusOf` and `readiness` add what the server knows to what the gateway says. */
export function gatewayRoutes(gateway: Gateway, statusOf: () => StatusAnswer, readiness: () => Readiness, live: LiveSeconds): Route[] {
  const recommendBody = schemaCheck(RecommendBody).required;
  return [
    ...learningRoutes(gateway, live),
    {
      method: "POST",
      url: "/v1/events",
      tag: "events",
      summary: "Take in events: one, a list, {events: [...]}, or JSON lines",
      body: Type.Union([EventBody, listSchema(EventBody, apiLimits.eventsPerRequestMax), wrappedSchema("events", EventBody, apiLimits.eventsPerRequestMax)]),
      answer: EventsAnswer,
      async handle({ body }) {
        const events = rowsOf(body, "events", "event", apiLimits.eventsPerRequestMax);
        const answer = await gateway.putEvents(events);
        if (answer.accepted === 0 && answer.duplicates === 0) refuseAll("event", answer.rejected);
        return answer;
      },
    },
    ...rowRoutes("item", ItemRow, ItemBody, apiLimits.itemsPerRequestMax, {
      put: (rows) => gateway.putItems(rows),
      patch: (id, body) => gateway.patchItem(id, body as ItemBody),
      get: (id) => gateway.getItem(id),
      delete: (id) => gateway.deleteItem(id),
    }),
    {
      method: "GET",
      url: "/v1/items",
      tag: "items",
      summary: "Items in the order of their first appearance",
      query: { after: "the id after which the page begins", limit: `1 to ${apiLimits.itemsPerRequestMax}, default ${itemsLimitDefault}` },
      answer: ItemsPage,
      handle({ query }) {
        const limit = integerOf(query["limit"], "limit", itemsLimitDefault, 1, apiLimits.itemsPerRequestMax);
        const { after } = query;
        // One more than asked for says whether there is a next page.
        const found = gateway.listItems({ limit: limit + 1, ...(after === undefined ? {} : { after: idOf(after) }) });
        const items = found.slice(0, limit);
        return found.length > limit ? { items, next: items.at(-1)!.id } : { items };
      },
    },
    ...rowRoutes("user", UserRow, UserBody, apiLimits.usersPerRequestMax, {
      put: (rows) => gateway.putUsers(rows),
      patch: (id, body) => gateway.patchUser(id, body as UserBody),
      get: (id) => gateway.getUser(id),
      delete: (id) => gateway.deleteUser(id),
    }),
    {
      method: "POST",
      url: "/v1/recommend/:pipeline",
      tag: "recommend",
      summary: "Recommend items to a user by a pipeline",
      body: RecommendBody,
      answer: RecommendAnswer,
      handle: ({ params, body }) => gateway.recommend(idOf(params["pipeline"]), recommendBody(body, "the body") as RecommendBody),
    },
    {
      method: "GET",
      url: "/v1/pipelines",
      tag: "recommend",
      summary: "All pipelines as graphs",
      answer: PipelinesAnswer,
      handle: () => ({ pipelines: gateway.pipelines() }),
    },
    {
      method: "GET",
      url: "/v1/pipelines/:pipeline",
      tag: "recommend",
      summary: "One pipeline as a graph",
      query: { format: "json (default) or mermaid" },
      answer: PipelineGraph,
      handle({ params, query }) {
        const name = idOf(params["pipeline"]);
        const all = gateway.pipelines();
        const graph = all.find((one) => one.name === name);
        if (graph === undefined) {
          throw new MillraceError("not-found", "there is no such pipeline", { todo: `use one of: ${all.map((one) => one.name).join(", ")}` });
        }
        const format = query["format"] ?? "json";
        if (format === "mermaid") return new TextAnswer(graph.mermaid, "text/plain; charset=utf-8");
        if (format !== "json")
          throw new MillraceError("invalid", "the query parameter format is neither json nor mermaid", { todo: "use one of them, or none" });
        return graph;
      },
    },
    { method: "GET", url: "/v1/status", tag: "server", summary: "Numbers since the start", answer: StatusAnswer, always: true, handle: statusOf },
    {
      method: "GET",
      url: "/health/live",
      tag: "server",
      summary: "The process answers",
      answer: Type.Object({ live: Type.Boolean() }),
      always: true,
      handle: () => ({ live: true }),
    },
    {
      method: "GET",
      url: "/health/ready",
      tag: "server",
      summary: "Ready for requests (200), or what it waits for (503)",
      answer: ReadyAnswer,
      always: true,
      handle() {
        const { ready, waiting, code = "unavailable", todo = "ask again in a moment" } = readiness();
        if (ready) return { ready, waiting };
        const error = new MillraceError(code, `not ready: ${waiting.join("; ")}`, { todo });
        return new StatusedAnswer(503, {
          ready,
          waiting,
          error: { code: error.code, message: error.message, todo: error.todo, retryable: error.retryable },
        });
      },
    },
  ];
}

const qualityMinutesMax = 7 * 24 * 60;

/** Similar items, the model's opinion, training, and what is watched live. */
function learningRoutes(gateway: Gateway, live: LiveSeconds): Route[] {
  const similarBody = schemaCheck(SimilarBody).required;
  const scoreBody = schemaCheck(ScoreBody).required;
  const trainingBody = schemaCheck(TrainingBody).required;
  const withoutModel = (): MillraceError =>
    new MillraceError("not-found", "this server has no model", { todo: "name one in the configuration (model), or use the preset feed" });
  return [
    {
      method: "POST",
      url: "/v1/similar",
      tag: "learning",
      summary: "Items like an item, by the vectors of this moment",
      body: SimilarBody,
      answer: SimilarAnswer,
      handle: ({ body }) => gateway.similar(similarBody(body, "the body")),
    },
    {
      method: "POST",
      url: "/v1/score",
      tag: "learning",
      summary: "The model's score of an item that was served, by the features of then and the parameters of now",
      body: ScoreBody,
      answer: ScoreAnswer,
      handle: ({ body }) => gateway.score(scoreBody(body, "the body")),
    },
    {
      method: "GET",
      url: "/v1/training",
      tag: "learning",
      summary: "What the trainer does",
      answer: TrainingStatus,
      always: true,
      handle() {
        const status = gateway.training();
        if (status === undefined) throw withoutModel();
        return status;
      },
    },
    {
      method: "POST",
      url: "/v1/training",
      tag: "learning",
      summary: "Switch learning off or on; on also after the trainer stopped itself",
      body: TrainingBody,
      answer: TrainingStatus,
      handle: ({ body }) => gateway.switchTraining(trainingBody(body, "the body").on),
    },
    {
      method: "GET",
      url: "/v1/quality",
      tag: "learning",
      summary: "How well the model predicted, before it learned, over time; beside the counting model",
      query: { minutes: `how far back, 1 to ${qualityMinutesMax}, default 15` },
      answer: QualityAnswer,
      always: true,
      handle: ({ query }) => gateway.quality(integerOf(query["minutes"], "minutes", 15, 1, qualityMinutesMax)),
    },
    {
      method: "GET",
      url: "/v1/history",
      tag: "learning",
      summary: "The last seconds, at most 900: rates and latencies",
      answer: HistoryAnswer,
      always: true,
      handle: () => ({ seconds: live.seconds }),
    },
    {
      method: "GET",
      url: "/v1/live",
      tag: "learning",
      summary: "Server-sent events: `second` once a second; with a user `way` for each stage of that user's events",
      query: { user: "whose events are followed" },
      always: true,
      handle: ({ query }) =>
        new StreamAnswer((send) => {
          const { user } = query;
          const ends = [
            ...(user === undefined ? [] : [gateway.watch(userOf(user), (step) => send("way", step))]),
            live.watch((second: LiveSecond) => send("second", second)),
          ];
          return () => {
            for (const end of ends) end();
          };
        }),
    },
  ];
}

interface RowCalls {
  put(rows: readonly unknown[]): Promise<PutAnswer>;
  patch(id: string, body: unknown): Promise<PutAnswer>;
  get(id: string): object | undefined;
  delete(id: string): Promise<boolean>;
}

/** The routes that items and users have in common. */
function rowRoutes(noun: "item" | "user", row: TSchema, body: TSchema, rowsMax: number, calls: RowCalls): Route[] {
  const plural = `${noun}s` as const;
  const one = `/v1/${plural}/:id`;
  const missing = (): MillraceError => new MillraceError("not-found", `there is no such ${noun}`, { todo: `put it with PUT /v1/${plural}/{id}` });
  const common = { tag: plural, url: one };
  return [
    {
      method: "PUT",
      url: `/v1/${plural}`,
      tag: plural,
      summary: `Put several ${plural}: a list, or {${plural}: [...]}`,
      body: Type.Union([listSchema(row, rowsMax), wrappedSchema(plural, row, rowsMax)]),
      answer: PutAnswer,
      async handle({ body }) {
        const answer = await calls.put(rowsOf(body, plural, noun, rowsMax));
        if (answer.accepted === 0) refuseAll(noun, answer.rejected);
        return answer;
      },
    },
    {
      ...common,
      method: "PUT",
      summary: `Put one ${noun}; what was there is replaced`,
      body,
      answer: PutAnswer,
      async handle({ params, body }) {
        const id = idOf(params["id"]);
        const answer = await calls.put([{ ...objectOf(body, id), id }]);
        if (answer.accepted === 0) refuseAll(noun, answer.rejected);
        return answer;
      },
    },
    {
      ...common,
      method: "PATCH",
      summary: `Change fields of one ${noun}`,
      body,
      answer: PutAnswer,
      async handle({ params, body }) {
        const id = idOf(params["id"]);
        const { id: _same, ...fields } = objectOf(body, id);
        const answer = await calls.patch(id, fields);
        if (answer.accepted === 0) refuseAll(noun, answer.rejected);
        return answer;
      },
    },
    {
      ...common,
      method: "GET",
      summary: `One ${noun}`,
      answer: row,
      handle({ params }) {
        const found = calls.get(idOf(params["id"]));
        if (found === undefined) throw missing();
        return found;
      },
    },
    {
      ...common,
      method: "DELETE",
      summary: `Delete one ${noun}`,
      answer: DeleteAnswer,
      async handle({ params }) {
        if (!(await calls.delete(idOf(params["id"])))) throw missing();
        return { deleted: true };
      },
    },
  ];
}

function listSchema(row: TSchema, rowsMax: number): TSchema {
  return Type.Array(row, { minItems: 1, maxItems: rowsMax });
}

function wrappedSchema(key: string, row: TSchema, rowsMax: number): TSchema {
  return Type.Object({ [key]: listSchema(row, rowsMax) }, { additionalProperties: false });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The rows of a body: a list, a list under `key`, or one object. */
function rowsOf(body: unknown, key: string, noun: string, rowsMax: number): readonly unknown[] {
  let rows: unknown = body;
  if (isObject(body)) {
    if (Object.hasOwn(body, key)) {
      if (Object.keys(body).length > 1)
        throw new MillraceError("invalid", `the body has fields beside "${key}"`, { todo: `send {"${key}": [...]} and nothing else` });
      rows = body[key];
    } else rows = [body];
  }
  if (!Array.isArray(rows)) {
    throw new MillraceError("invalid", `the body is no list of ${noun}s`, { todo: `send one ${noun} as an object, a list of them, or {"${key}": [...]}` });
  }
  if (rows.length === 0) throw new MillraceError("invalid", `the list of ${noun}s is empty`, { todo: `send at least one ${noun}` });
  if (rows.length > rowsMax) {
    throw new MillraceError("invalid", `${rows.length} ${noun}s in one request, ${rowsMax} are the most`, { todo: "send them in several requests" });
  }
  return rows;
}

/** The fields of one row whose id stands in the path. */
function objectOf(body: unknown, id: string): Record<string, unknown> {
  if (!isObject(body)) throw new MillraceError("invalid", "the body is no object", { todo: 'send its fields, for example {"title": "Noodle night"}' });
  if (Object.hasOwn(body, "id") && body["id"] !== id) {
    throw new MillraceError("invalid", "the id of the body is not the id of the path", { todo: "leave it out of the body" });
  }
  return body;
}

/** The query parameter `user`. */
function userOf(value: string): string {
  if (value.length >= 1 && value.length <= apiLimits.idCharactersMax) return value;
  throw new MillraceError("invalid", `the query parameter user is no id of 1 to ${apiLimits.idCharactersMax} characters`, {
    todo: "correct it, or leave it out",
  });
}

/** A parameter of the path or the query as an id. */
function idOf(value: string | undefined): string {
  if (value === undefined || value === "") throw new MillraceError("invalid", "the id in the path is empty", { todo: "put the id there, percent-encoded" });
  if (value.length > apiLimits.idCharactersMax) throw idTooLong();
  return value;
}

function integerOf(text: string | undefined, name: string, fallback: number, min: number, max: number): number {
  if (text === undefined) return fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) {
    throw new MillraceError("invalid", `the query parameter ${name} is no integer from ${min} to ${max}`, { todo: "correct it, or leave it out" });
  }
  return value;
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorActors, code);
}

/** Nothing of the request was taken: that is an error, with the reason of each row. */
function refuseAll(noun: string, rejected: readonly Rejection[]): never {
  const first = rejected[0];
  if (first === undefined) throw new MillraceError("internal", `no ${noun} was accepted and none rejected`);
  const reason = first.message.replace(/^\[[a-z-]+\] /, "");
  const what = rejected.length === 1 ? reason : `all ${rejected.length} ${noun}s were rejected, the first because: ${reason}`;
  const code = isErrorCode(first.code) && rejected.every((one) => one.code === first.code) ? first.code : "invalid";
  throw new HttpRefusal(code, what, { rejected, todo: "correct it and send again, error.rejected has each reason" });
}
