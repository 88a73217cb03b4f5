// The HTTP messages of millrace: one schema each, from which come the TypeScript types, the validators and the OpenAPI document.
// Why here: the gateway serves them and the SDK sends them, and neither may know the other.
// Invariants: 1. times are integer milliseconds since 1970-01-01T00:00Z  2. ids are opaque strings of 1 to 256 characters
// 3. an object refuses unknown fields, so that a typing mistake is an error and not a silent loss  4. every list has a maximum.

import Type, { type Static } from "typebox";

/** Maxima of what a caller may send; the error names the limit. */
export const apiLimits = {
  eventsPerRequestMax: 1_000,
  itemsPerRequestMax: 1_000,
  usersPerRequestMax: 1_000,
  /** Parsed in one go: 1 MiB is about 10 ms of the serving loop. */
  bodyBytesMax: 1024 * 1024,
  idCharactersMax: 256,
  attributesMax: 64,
  recommendMax: 200,
  excludeMax: 1_000,
  predicateDepthMax: 8,
  predicateTermsMax: 256,
  deadlineMsMax: 10_000,
  /** An event's time may lie this far ahead of the server's clock. */
  futureMsMax: 60_000,
} as const;

const closed = { additionalProperties: false } as const;
export const Id = Type.String({ minLength: 1, maxLength: apiLimits.idCharactersMax });
const Milliseconds = Type.Integer({ minimum: 0, maximum: 8.64e15, description: "milliseconds since 1970-01-01T00:00Z" });
const Scalar = Type.Union([Type.String({ maxLength: 1024 }), Type.Number(), Type.Boolean()]);
const Attribute = Type.Union([Scalar, Type.Array(Type.String({ maxLength: 256 }), { maxItems: 64 })]);
// A record checks only the keys that its pattern matches: without the pattern and `closed` a key with a line break would carry anything.
const Key = Type.String({ pattern: "^[\\s\\S]{1,64}$" });
const Attributes = Type.Record(Key, Attribute, { ...closed, maxProperties: apiLimits.attributesMax });

/** One thing that a user did. */
export const EventBody = Type.Object(
  {
    id: Type.Optional(Type.String({ minLength: 1, maxLength: 128, description: "makes the event idempotent: the same id is counted once" })),
    type: Type.String({ pattern: "^[a-z][a-z0-9_-]{0,31}$", description: "click, like, purchase, ...: a type of the configuration" }),
    user: Id,
    item: Id,
    ts: Type.Optional(Milliseconds),
    recommendationId: Type.Optional(Type.String({ minLength: 1, maxLength: 128, description: "the answer that showed the item" })),
    position: Type.Optional(Type.Integer({ minimum: 0, maximum: 100_000 })),
    value: Type.Optional(Type.Number({ description: "seconds watched, money paid, ..." })),
    context: Type.Optional(Type.Record(Key, Scalar, { ...closed, maxProperties: 32 })),
  },
  closed,
);
export type EventBody = Static<typeof EventBody>;

export const Rejection = Type.Object({
  index: Type.Integer({ description: "position in the request" }),
  code: Type.String(),
  message: Type.String(),
});
export type Rejection = Static<typeof Rejection>;

export const EventsAnswer = Type.Object({
  accepted: Type.Integer({ description: "in the log and counted by this request" }),
  duplicates: Type.Integer({ description: "known by their id, counted before" }),
  rejected: Type.Array(Rejection),
  offset: Type.Integer({ description: "log offset after the last accepted event; pass it as minOffset to read your writes on another node" }),
  durability: Type.Union([Type.Literal("always"), Type.Literal("interval"), Type.Literal("none")], { description: "what the acknowledgement means" }),
});
export type EventsAnswer = Static<typeof EventsAnswer>;

const itemFields = {
  title: Type.Optional(Type.String({ maxLength: 500 })),
  category: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
  tags: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 64 }), { maxItems: 32 })),
  createdAt: Type.Optional(Milliseconds),
  available: Type.Optional(Type.Boolean({ description: "false: known, but never recommended; default true" })),
  state: Type.Optional(Type.String({ maxLength: 128, description: "a change makes the item new again for dedupe, e.g. the topic of a live stream" })),
  attributes: Type.Optional(Attributes),
};
/** What PUT replaces and PATCH merges. */
export const ItemBody = Type.Object(itemFields, closed);
export type ItemBody = Static<typeof ItemBody>;
export const ItemRow = Type.Object({ id: Id, ...itemFields }, closed);
export type ItemRow = Static<typeof ItemRow>;

export const UserBody = Type.Object({ attributes: Type.Optional(Attributes) }, closed);
export type UserBody = Static<typeof UserBody>;
export const UserRow = Type.Object({ id: Id, attributes: Type.Optional(Attributes) }, closed);
export type UserRow = Static<typeof UserRow>;

export const PutAnswer = Type.Object({ accepted: Type.Integer(), rejected: Type.Array(Rejection), offset: Type.Integer(), durability: Type.String() });
export type PutAnswer = Static<typeof PutAnswer>;

/** Attribute predicate. Fields: `id`, `title`, `category`, `tags`, `createdAt`, `state`, `available`, or the name of an attribute. A scalar means equal, an array
 * one of; for list fields (`tags`) equal means contains. Several fields must all hold. */
export type Condition =
  | string
  | number
  | boolean
  | readonly (string | number)[]
  | {
      eq?: string | number | boolean;
      ne?: string | number | boolean;
      in?: readonly (string | number)[];
      nin?: readonly (string | number)[];
      gt?: number;
      gte?: number;
      lt?: number;
      lte?: number;
      exists?: boolean;
    };
export interface Predicate {
  readonly and?: readonly Predicate[];
  readonly or?: readonly Predicate[];
  readonly not?: Predicate;
  readonly [field: string]: Condition | Predicate | readonly Predicate[] | undefined;
}

export const RecommendBody = Type.Object(
  {
    user: Id,
    n: Type.Optional(Type.Integer({ minimum: 1, maximum: apiLimits.recommendMax, description: "how many items, default 20" })),
    filter: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), { description: 'attribute predicate, e.g. {"category": ["music", "chat"], "viewers": {"gte": 10}}' }),
    ),
    exclude: Type.Optional(Type.Array(Id, { maxItems: apiLimits.excludeMax })),
    explain: Type.Optional(Type.Boolean({ description: "score parts per item and the trace of the pipeline" })),
    record: Type.Optional(Type.Boolean({ description: "false: the answer is not remembered as shown (a preview); default true" })),
    deadlineMs: Type.Optional(Type.Integer({ minimum: 1, maximum: apiLimits.deadlineMsMax })),
    versions: Type.Optional(
      Type.Record(Type.String({ pattern: "^[^\\u0000-\\u001f\\u007f]{1,256}$" }), Type.String({ minLength: 1, maxLength: 128 }), {
        additionalProperties: false,
        maxProperties: 16,
        description: "versions of vector collections that this request is answered from, by collection",
      }),
    ),
    minOffset: Type.Optional(Type.Integer({ minimum: 0, description: "wait until this offset of the log is counted (read your writes)" })),
  },
  closed,
);
export type RecommendBody = Omit<Static<typeof RecommendBody>, "filter"> & { filter?: Predicate };

export const Reason = Type.Object({
  code: Type.String({ description: "own-history, together, popular, fresh, rate, affinity, again" }),
  text: Type.String({ description: "a sentence for the user" }),
  item: Type.Optional(Type.String({ description: "the item of the user's own that led here" })),
  share: Type.Number({ description: "part of the score that this reason brought, 0..1" }),
});
export type Reason = Static<typeof Reason>;

export const RecommendedItem = Type.Object({
  id: Id,
  score: Type.Number(),
  sources: Type.Array(Type.String()),
  reasons: Type.Array(Reason),
  title: Type.Optional(Type.String()),
  category: Type.Optional(Type.String()),
  attributes: Type.Optional(Attributes),
  parts: Type.Optional(Type.Record(Type.String(), Type.Number(), { description: "with explain: the columns that the score read" })),
});
export type RecommendedItem = Static<typeof RecommendedItem>;

/** A page of the catalogue, in the order of first appearance. */
export const ItemsPage = Type.Object({ items: Type.Array(ItemRow), next: Type.Optional(Type.String({ description: "pass it as after for the next page" })) });
export type ItemsPage = Static<typeof ItemsPage>;

export const DeleteAnswer = Type.Object({ deleted: Type.Boolean() });
export type DeleteAnswer = Static<typeof DeleteAnswer>;

export const StepTrace = Type.Object({
  step: Type.String(),
  kind: Type.String(),
  rowsIn: Type.Integer(),
  rowsOut: Type.Integer(),
  micros: Type.Number(),
  outcome: Type.String(),
});
export type StepTrace = Static<typeof StepTrace>;

export const RecommendAnswer = Type.Object({
  recommendationId: Type.String(),
  pipeline: Type.String(),
  items: Type.Array(RecommendedItem),
  degraded: Type.Array(Type.String(), { description: "what was left out or replaced, empty when nothing" }),
  offset: Type.Integer({ description: "log offset up to which events are in this answer" }),
  tookMs: Type.Number(),
  trace: Type.Optional(Type.Array(StepTrace)),
});
export type RecommendAnswer = Static<typeof RecommendAnswer>;

export const ErrorAnswer = Type.Object({
  error: Type.Object({
    code: Type.String(),
    message: Type.String(),
    todo: Type.Optional(Type.String({ description: "what to do, by whom it concerns" })),
    retryable: Type.Boolean(),
    requestId: Type.Optional(Type.String({ description: "names the lines of the server's log; given where an operator or a maintainer must act" })),
    rejected: Type.Optional(Type.Array(Rejection)),
  }),
});
export type ErrorAnswer = Static<typeof ErrorAnswer>;

export const PipelineGraph = Type.Object({
  name: Type.String(),
  nodes: Type.Array(Type.Unknown()),
  mermaid: Type.String(),
});
export type PipelineGraph = Static<typeof PipelineGraph>;

export const PipelinesAnswer = Type.Object({ pipelines: Type.Array(PipelineGraph) });
export type PipelinesAnswer = Static<typeof PipelinesAnswer>;

export const ReadyAnswer = Type.Object({
  ready: Type.Boolean(),
  waiting: Type.Array(Type.String(), { description: "what it waits for, in words with numbers" }),
  error: Type.Optional(ErrorAnswer.properties.error),
});
export type ReadyAnswer = Static<typeof ReadyAnswer>;

export const Latency = Type.Object({ count: Type.Integer(), p50Ms: Type.Number(), p99Ms: Type.Number(), maxMs: Type.Number() });

/** What `GET /v1/status` tells: counts and latencies since the start of the process. */
export const StatusAnswer = Type.Object({
  version: Type.String(),
  ready: Type.Boolean(),
  waiting: Type.Array(Type.String()),
  startedAtMs: Type.Number(),
  nowMs: Type.Number(),
  durability: Type.String(),
  items: Type.Integer(),
  users: Type.Integer(),
  eventsAccepted: Type.Integer({ description: "since the start" }),
  eventsRebuilt: Type.Integer({ description: "counted again from the log at the start" }),
  eventsDuplicate: Type.Integer(),
  eventsRejected: Type.Integer(),
  eventsJoined: Type.Integer({ description: "named a recommendation that showed their item" }),
  recommendations: Type.Integer(),
  fallbacks: Type.Integer(),
  degraded: Type.Integer(),
  logOffset: Type.Integer(),
  recommend: Latency,
  eventToFeature: Latency,
  memoryBytes: Type.Record(Type.String(), Type.Number(), { description: "by owner" }),
  pipelines: Type.Array(Type.String()),
  /** Of each pipeline that answered since the start. */
  work: Type.Array(
    Type.Object({
      pipeline: Type.String(),
      requests: Latency,
      fallbacks: Type.Record(Type.String(), Type.Number(), { description: "by reason" }),
      steps: Type.Array(
        Type.Object({
          step: Type.String(),
          ...Latency.properties,
          errors: Type.Integer(),
          rowsIn: Type.Number({ description: "mean" }),
          rowsOut: Type.Number({ description: "mean" }),
        }),
      ),
    }),
  ),
  loopStallSecondsMs: Type.Optional(
    Type.Array(Type.Number(), {
      description: "the same for each of the last 60 seconds, newest last: reading it changes nothing, so any number of readers may",
    }),
  ),
  loopStallMaxMs: Type.Optional(Type.Number({ description: "the most CPU time that the serving loop was held in one go" })),
  http: Type.Object({ running: Type.Integer(), requests: Type.Integer(), refused: Type.Integer({ description: "answered with a status of 400 or above" }) }),
});
export type StatusAnswer = Static<typeof StatusAnswer>;
