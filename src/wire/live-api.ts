// The HTTP messages of learning: similar items, the model's score of one item, training and its quality, and what `GET /v1/live` streams.
// Why beside api.ts: those messages are the product's core and stand still; these are what the console and an operator watch.
// Invariants: as in api.ts. A number that is not known is absent, never 0.

import type { ErrorCode } from "#base/errors";
import Type, { type Static } from "typebox";
import { apiLimits, Id, Latency } from "./api.ts";

const closed = { additionalProperties: false } as const;
const Maybe = Type.Optional(Type.Number());

export const SimilarBody = Type.Object(
  { item: Id, n: Type.Optional(Type.Integer({ minimum: 1, maximum: apiLimits.recommendMax, description: "how many, default 20" })) },
  closed,
);
export type SimilarBody = Static<typeof SimilarBody>;
export const SimilarAnswer = Type.Object({
  item: Type.String(),
  items: Type.Array(
    Type.Object({ id: Type.String(), similarity: Type.Number({ description: "cosine of the live vectors" }), title: Type.Optional(Type.String()) }),
  ),
  trainedOffset: Type.Integer({ description: "log offset up to which the vectors have learned" }),
  tookMs: Type.Number(),
});
export type SimilarAnswer = Static<typeof SimilarAnswer>;

export const ScoreBody = Type.Object({ recommendationId: Type.String({ minLength: 1, maxLength: 128 }), item: Id }, closed);
export type ScoreBody = Static<typeof ScoreBody>;
/** The model's opinion of one served item, by the features as they were logged when it was served and the parameters of now. */
export const ScoreAnswer = Type.Object({
  recommendationId: Type.String(),
  item: Type.String(),
  position: Type.Integer(),
  servedScore: Type.Optional(Type.Number({ description: "logit when it was served; absent when the weighted score ranked" })),
  score: Type.Number({ description: "logit of now, same features" }),
  probability: Type.Number({ description: "of a click at that position, by the parameters of now" }),
  trainedOffset: Type.Integer({ description: "log offset up to which the parameters have learned" }),
});
export type ScoreAnswer = Static<typeof ScoreAnswer>;

/** Prequential figures of one stretch of samples: each sample is predicted before it is learned. Weighted by 1 / rate of kept negatives. */
export const QualityPoint = Type.Object({
  atMs: Type.Number({ description: "begin of the stretch, time of the records" }),
  samples: Type.Integer(),
  positives: Type.Integer(),
  logLoss: Maybe,
  auc: Maybe,
  calibration: Type.Optional(Type.Number({ description: "sum of predictions / clicks; 1 is right" })),
  countingLogLoss: Type.Optional(Type.Number({ description: "the counting model on the same samples" })),
  countingAuc: Maybe,
  countingCalibration: Maybe,
  training: Type.Boolean({ description: "false: predicted by a model that did not learn meanwhile" }),
});
export type QualityPoint = Static<typeof QualityPoint>;
export const QualityAnswer = Type.Object({
  model: Type.Optional(Type.String({ description: "absent: no model is configured" })),
  everyMs: Type.Number(),
  points: Type.Array(QualityPoint, { description: "oldest first" }),
});
export type QualityAnswer = Static<typeof QualityAnswer>;

/** How the model's rows go between servers (docs/parameters.md). */
export const ModelSync = Type.Object({
  ready: Type.Boolean({ description: "as new as its source; where the model is trained always" }),
  leads: Type.Integer({ description: "buckets led here: all where the model is trained, none where it follows" }),
  followers: Type.Array(Type.Object({ node: Type.Integer(), lagMs: Type.Number(), waitingBuckets: Type.Integer() })),
  sources: Type.Array(
    Type.Object({
      address: Type.String(),
      connected: Type.Boolean(),
      ageMs: Type.Number({ description: "age of the oldest change there that has not come; silence counts" }),
      fault: Type.Optional(Type.String()),
      needs: Type.Optional(
        Type.Object({ code: Type.Unsafe<ErrorCode>(Type.String()), todo: Type.String() }, { description: "the fault does not pass by waiting" }),
      ),
    }),
  ),
  digestMismatches: Type.Integer(),
  conflicts: Type.Integer(),
  lostWrites: Type.Integer(),
  tableFull: Type.Integer({ description: "times that what came found no room: raise capacityRows to the leader's" }),
  followersRefused: Type.Integer(),
  turnedStale: Type.Integer(),
  leadFault: Type.Optional(Type.String()),
  leadNeeds: Type.Optional(Type.Object({ code: Type.Unsafe<ErrorCode>(Type.String()), todo: Type.String() })),
});
export type ModelSync = Static<typeof ModelSync>;

export const TrainingStatus = Type.Object({
  state: Type.Union(
    [Type.Literal("starting"), Type.Literal("learning"), Type.Literal("off"), Type.Literal("stopped"), Type.Literal("failed"), Type.Literal("following")],
    { description: "following: another server trains the model, this one takes its rows; what this one's log says teaches nothing" },
  ),
  reason: Type.Optional(Type.String({ description: "why it does not learn, and what to do" })),
  trainedOffset: Type.Integer(),
  behind: Type.Integer({ description: "records of the log that it has not read yet" }),
  samples: Type.Integer({ description: "learned or judged since the start" }),
  positives: Type.Integer(),
  late: Type.Integer({ description: "actions after their window" }),
  unjoined: Type.Integer({ description: "actions without an answer that showed the item" }),
  openAnswers: Type.Integer({ description: "answers whose window is open" }),
  rows: Type.Integer({ description: "parameter rows" }),
  capacityRows: Type.Integer(),
  refusedRows: Type.Integer({ description: "keys that found the table full" }),
  samplesPerS: Type.Number(),
  checkpointAtMs: Maybe,
  checkpointOffset: Type.Optional(Type.Integer()),
  recent: Type.Optional(QualityPoint),
  sync: Type.Optional(ModelSync),
});
export type TrainingStatus = Static<typeof TrainingStatus>;
export const TrainingBody = Type.Object(
  { on: Type.Boolean({ description: "false: the model stands still but goes on being judged; true: it learns, also after it was stopped" }) },
  closed,
);
export type TrainingBody = Static<typeof TrainingBody>;

/** Rates and latencies of one second; `GET /v1/history` gives the last ones, `GET /v1/live` each as it comes (event `second`). */
export const LiveSecond = Type.Object({
  atMs: Type.Number(),
  requestsPerS: Type.Number(),
  recommendationsPerS: Type.Number(),
  eventsPerS: Type.Number(),
  errorsPerS: Type.Number(),
  fallbacksPerS: Type.Number(),
  recommend: Latency,
  eventToFeature: Latency,
  eventToParameter: Type.Optional(Latency),
  eventToVector: Type.Optional(Latency),
  loopStallMaxMs: Type.Number(),
  memoryBytes: Type.Number({ description: "sum over owners" }),
  clickRate: Type.Optional(Type.Number({ description: "clicks joined in this second / items served in it" })),
  training: Type.Optional(TrainingStatus),
});
export type LiveSecond = Static<typeof LiveSecond>;
export const HistoryAnswer = Type.Object({ seconds: Type.Array(LiveSecond, { description: "oldest first, at most 900" }) });
export type HistoryAnswer = Static<typeof HistoryAnswer>;

/** One step on the way of an event of a followed user (event `way` of `GET /v1/live?user=ID`). */
export const WayStep = Type.Object({
  /** The event's id, else its offset in the log as text. */
  event: Type.String(),
  type: Type.String(),
  item: Type.String(),
  stage: Type.Union([Type.Literal("logged"), Type.Literal("feature"), Type.Literal("parameter"), Type.Literal("vector")]),
  ms: Type.Number({ description: "since the receipt of the event, by the server" }),
  detail: Type.String({ description: "what changed, in words with numbers" }),
  before: Maybe,
  after: Maybe,
});
export type WayStep = Static<typeof WayStep>;
