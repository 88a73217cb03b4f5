// The configuration of a gateway: event types, aggregations, pipelines, limits. Plain data, so that a file, a test or a replay can write it.
// Invariants: 1. every number has a name, a unit in the name and a default here  2. `checkConfig` refuses what cannot work, naming the field
// 3. the aggregations follow from the configuration alone: the same configuration and log give the same state.

import Type, { type Static } from "typebox";
import { MillraceError } from "#base/errors";
import { Extractor } from "#extract/extractor";
import { cooccurrence } from "#features/cooccurrence";
import { listEntriesMax } from "#features/checkpoint/stored-state";
import { decayedCount } from "#features/decayed-count";
import { historyList } from "#features/history-list";
import { recentList } from "#features/recent-list";
import { compileFilter } from "#vectors/filter/filter";
import { feedModel } from "./feed-model.ts";
import { checkSignals } from "./model-features.ts";
import { ModelConfig, ModelRank } from "./model-config.ts";
import type { ScoreWeights } from "./operator/weighted-score.ts";
import type { ResponseOptions } from "./responses.ts";
import { schemaCheck } from "./schema-check.ts";
import { shopModel } from "./shop-model.ts";
import type { TasteOptions } from "./taste.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

const closed = { additionalProperties: false } as const;
const Positive = Type.Number({ exclusiveMinimum: 0 });
const Share = Type.Number({ minimum: -1e6, maximum: 1e6 });

const Weights = Type.Object(
  {
    trend: Share,
    trendFloor: Positive,
    popularity: Share,
    popularityFloor: Positive,
    ownBase: Share,
    ownOften: Share,
    ownFloor: Positive,
    ownRecency: Share,
    ownHalfLifeDays: Positive,
    ownTogether: Share,
    together: Share,
    togetherFloor: Positive,
    fresh: Share,
    freshHalfLifeDays: Positive,
    rate: Share,
    affinity: Share,
    again: Share,
    explore: Share,
  },
  closed,
);

/** Candidates near a vector, from a vector collection whose elements are items (docs/vectors.md#recall). */
const CollectionRecall = Type.Object(
  {
    /** Of the source, as answers and traces show it. */
    name: Type.String({ pattern: "^[a-z][a-z0-9-]{0,31}$" }),
    collection: Type.String({ minLength: 1, maxLength: 256 }),
    /** By what is searched: the user's element of the collection `users`, the user's vector of the learned model, the item that the user touched last. */
    by: Type.Union([Type.Literal("user"), Type.Literal("model"), Type.Literal("item")]),
    /** Where vectors of users are, by user id. Default: the collection itself. */
    users: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    /** Most candidates. */
    rows: Type.Integer({ minimum: 1, maximum: 1_000 }),
    /** A loaded version; a request may name another one (`versions`). Default: the one that serves. */
    version: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    /** An expression over attributes. */
    filter: Type.Optional(Type.String({ minLength: 1, maxLength: 16_384 })),
    /** Compare with every row. */
    exact: Type.Optional(Type.Boolean()),
    /** Without an answer by then the recall goes on without it. Default 10. */
    deadlineMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
  },
  closed,
);
export type CollectionRecall = Static<typeof CollectionRecall>;

const Pipeline = Type.Object(
  {
    title: Type.Optional(Type.String({ maxLength: 200 })),
    /** Most candidates of each source; 0 leaves the source out. */
    quota: Type.Object(
      {
        ownHistory: Type.Integer({ minimum: 0, maximum: 2_000 }),
        together: Type.Integer({ minimum: 0, maximum: 2_000 }),
        popular: Type.Integer({ minimum: 0, maximum: 2_000 }),
        trending: Type.Integer({ minimum: 0, maximum: 2_000 }),
        fresh: Type.Integer({ minimum: 0, maximum: 2_000 }),
        affinity: Type.Integer({ minimum: 0, maximum: 2_000 }),
        /** Nearest by the model's live vectors. */
        vectors: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000 })),
      },
      closed,
    ),
    collections: Type.Optional(Type.Array(CollectionRecall, { maxItems: 8 })),
    weights: Weights,
    /** Ranks by the model; the weighted score is what stands without it. */
    model: Type.Optional(ModelRank),
    /** Attribute predicate that holds for every answer of this pipeline. */
    filter: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    /** Minutes for which a shown item stays away; 0: not at all. */
    shownMinutes: Type.Number({ minimum: 0 }),
    /** Minutes for which an item that the user is done with stays away; 0: not at all; "forever". */
    doneMinutes: Type.Union([Type.Number({ minimum: 0 }), Type.Literal("forever")]),
    /** At most `max` items of one category in any `window` consecutive places. */
    categories: Type.Optional(Type.Object({ window: Type.Integer({ minimum: 1, maximum: 200 }), max: Type.Integer({ minimum: 1, maximum: 200 }) }, closed)),
    deadlineMs: Type.Integer({ minimum: 1, maximum: 10_000 }),
  },
  closed,
);

/** How often the aggregations are kept in tables (docs/design/features.md). */
const CheckpointConfig = Type.Object(
  {
    /** Seconds between two checkpoints, at least. Default 60. */
    everySeconds: Type.Optional(Type.Number({ minimum: 0.1, maximum: 86_400 })),
    /** Records of the log behind the last checkpoint after which the next one comes earlier. Default 200,000. */
    everyRecords: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000 })),
    /** KiB a second that checkpoints write on average, at most. Default 512. */
    kibPerSecond: Type.Optional(Type.Number({ minimum: 1, maximum: 10_000_000 })),
    /** Start also when what is to be counted again was trimmed from the log. Default false. */
    acceptLoss: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type CheckpointConfig = Static<typeof CheckpointConfig>;

/** How long the activity log is kept (docs/design/features.md). */
const LogConfig = Type.Object(
  {
    /** Records younger than this stay. Default 168, a week. What a restart needs stays in any case. */
    retentionHours: Type.Optional(Type.Number({ minimum: 0, maximum: 1_000_000 })),
    /** Beyond so many GB older records go, however young. Default: no limit. */
    retentionGb: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1_000_000 })),
  },
  closed,
);
export type LogConfig = Static<typeof LogConfig>;

export const GatewayConfigSchema = Type.Object(
  {
    /** Event type -> weight in all counts; 0: kept in the log, counted nowhere. */
    eventTypes: Type.Record(Type.String({ pattern: "^[a-z][a-z0-9_-]{0,31}$" }), Type.Number({ minimum: 0, maximum: 1_000 }), {
      minProperties: 1,
      maxProperties: 64,
    }),
    /** Event types after which a user is done with an item. */
    doneTypes: Type.Array(Type.String(), { maxItems: 64 }),
    popularityHalfLifeHours: Positive,
    trendHalfLifeHours: Positive,
    /** Items kept in order of popularity, of trend, of creation. */
    listItems: Type.Integer({ minimum: 100, maximum: 100_000 }),
    history: Type.Object({ items: Type.Integer({ minimum: 8, maximum: listEntriesMax }), halfLifeDays: Positive }, closed),
    done: Type.Object({ items: Type.Integer({ minimum: 8, maximum: listEntriesMax }) }, closed),
    together: Type.Object(
      {
        windowMinutes: Type.Number({ minimum: 0 }),
        halfLifeDays: Positive,
        /** Events of a user that a new one is paired with at most. */
        pairsPerEvent: Type.Integer({ minimum: 1, maximum: 4_096 }),
        neighbours: Type.Integer({ minimum: 8, maximum: 16_384 }),
        seeds: Type.Integer({ minimum: 1, maximum: 1_000 }),
        seedHalfLifeDays: Positive,
        seedPower: Type.Number({ minimum: 0, maximum: 2 }),
        candidatePower: Type.Number({ minimum: 0, maximum: 2 }),
        shrinkage: Type.Number({ minimum: 0 }),
      },
      closed,
    ),
    responses: Type.Object(
      {
        /** Event types that say that what was shown was wanted. */
        clickTypes: Type.Array(Type.String(), { maxItems: 64 }),
        /** Properties by which likings generalise: `category`, `state`, `attributes.NAME`. */
        facets: Type.Array(Type.String({ pattern: "^(category|state|attributes\\..{1,64})$" }), { maxItems: 8, uniqueItems: true }),
        baseRate: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
        placePower: Type.Number({ minimum: 0, maximum: 2 }),
        itemHalfLifeHours: Positive,
        valueHalfLifeHours: Positive,
        userHalfLifeHours: Positive,
        /** Clicks of proof: how many move a rate half the way from what was expected. */
        itemProof: Positive,
        valueProof: Positive,
        pairHalfLifeHours: Positive,
        userProof: Positive,
        pairProof: Positive,
        userValues: Type.Integer({ minimum: 8, maximum: listEntriesMax / 4 }),
        userItems: Type.Integer({ minimum: 8, maximum: listEntriesMax / 4 }),
      },
      closed,
    ),
    checkpoint: Type.Optional(CheckpointConfig),
    log: Type.Optional(LogConfig),
    model: Type.Optional(ModelConfig),
    pipelines: Type.Record(Type.String({ pattern: "^[a-z][a-z0-9-]{0,63}$" }), Pipeline, { minProperties: 1, maxProperties: 64 }),
    limits: Type.Object(
      {
        exposuresPerUser: Type.Integer({ minimum: 8, maximum: listEntriesMax }),
        servedAnswers: Type.Integer({ minimum: 1, maximum: 10_000_000 }),
        eventIdsPerGeneration: Type.Integer({ minimum: 1, maximum: 10_000_000 }),
      },
      closed,
    ),
  },
  closed,
);
export type GatewayConfig = Static<typeof GatewayConfigSchema>;
export type PipelineConfig = Static<typeof Pipeline>;

/** Weights chosen by the replay of a shop's log (docs/design/recommend.md). */
const shopWeights: ScoreWeights = {
  trend: 0.64,
  trendFloor: 0.3,
  popularity: 0.11,
  popularityFloor: 0.5,
  ownBase: 0.6,
  ownOften: 1.07,
  ownFloor: 0.02,
  ownRecency: -0.87,
  ownHalfLifeDays: 21,
  ownTogether: 0,
  together: 1.5,
  togetherFloor: 0.03,
  fresh: 1.7,
  freshHalfLifeDays: 2,
  rate: 0,
  affinity: 0,
  again: 0,
  explore: 0,
};

/** Weights chosen by `npm run bench -- feed-quality` (docs/design/recommend.md). Small ones order what nothing is known of: no exposures, no facets. */
const feedWeights: ScoreWeights = {
  ...shopWeights,
  trend: 0.03,
  popularity: 0.01,
  ownBase: 0.05,
  ownOften: 0,
  ownFloor: 1,
  ownRecency: 0,
  together: 0.03,
  togetherFloor: 0.02,
  fresh: 0.03,
  freshHalfLifeDays: 0.05,
  rate: 1,
  affinity: 1,
  again: 1,
  explore: 0.5,
};

const feedQuota = { ownHistory: 30, together: 50, popular: 30, trending: 30, fresh: 30, affinity: 150 };

const shopQuota = { ownHistory: 300, together: 500, popular: 200, trending: 100, fresh: 50, affinity: 0 };

/** What everybody sees, without dedupe: a pipeline of its own and the last resort of the others. */
export const everybodyPipeline: PipelineConfig = {
  title: "The same for everybody",
  quota: { ownHistory: 0, together: 0, popular: 300, trending: 300, fresh: 50, affinity: 0 },
  weights: { ...shopWeights, ownBase: 0, ownOften: 0, ownRecency: 0, together: 0 },
  shownMinutes: 0,
  doneMinutes: 0,
  deadlineMs: 200,
};

const shopPipeline: PipelineConfig = {
  title: "Things to buy again and things that go with them",
  quota: shopQuota,
  weights: shopWeights,
  shownMinutes: 0,
  doneMinutes: 0,
  deadlineMs: 200,
};

const discoverPipeline: PipelineConfig = { ...shopPipeline, title: "Things that the user never bought", doneMinutes: "forever" };

/** The default: a feed of things that come and go. */
export const defaultConfig: GatewayConfig = {
  eventTypes: { impression: 0, click: 1, watch: 1, like: 3, share: 3, cart: 2, purchase: 5 },
  doneTypes: ["purchase"],
  popularityHalfLifeHours: 6,
  trendHalfLifeHours: 0.5,
  listItems: 2_000,
  history: { items: 300, halfLifeDays: 14 },
  done: { items: 4_096 },
  together: {
    windowMinutes: 60,
    halfLifeDays: 14,
    pairsPerEvent: 64,
    neighbours: 384,
    seeds: 20,
    seedHalfLifeDays: 2,
    seedPower: 0.5,
    candidatePower: 0.5,
    shrinkage: 5,
  },
  responses: {
    clickTypes: ["click"],
    facets: ["category", "state", "attributes.language"],
    baseRate: 0.03,
    placePower: 0.25,
    itemHalfLifeHours: 0.5,
    valueHalfLifeHours: 0.25,
    userHalfLifeHours: 0.5,
    pairHalfLifeHours: 0.5,
    itemProof: 2,
    valueProof: 10,
    userProof: 1,
    pairProof: 2,
    userValues: 128,
    userItems: 128,
  },
  model: feedModel,
  pipelines: {
    home: {
      title: "A feed that follows the last clicks; what is passed over sinks",
      quota: { ...feedQuota, vectors: 100 },
      weights: feedWeights,
      model: { deadlineMs: 30, explore: 0.5 },
      shownMinutes: 0,
      doneMinutes: 0,
      categories: { window: 10, max: 8 },
      deadlineMs: 200,
    },
    shop: shopPipeline,
    discover: discoverPipeline,
    popular: everybodyPipeline,
    more: {
      title: "The same for turning pages: what was shown stays away for some minutes, unless it changed",
      quota: { ...feedQuota, popular: 200, trending: 200, affinity: 400 },
      weights: feedWeights,
      shownMinutes: 10,
      doneMinutes: 0,
      categories: { window: 5, max: 2 },
      deadlineMs: 200,
    },
  },
  limits: { exposuresPerUser: 256, servedAnswers: 65_536, eventIdsPerGeneration: 500_000 },
};

const { model: _ofTheFeed, ...withoutModel } = defaultConfig;
const { model: _rank, ...homeWithoutModel } = defaultConfig.pipelines["home"]!;

/** Nothing for what was hardly shown: a shop's things stay, and the weighted score has its own word for new ones. */
const shopRank: ModelRank = { deadlineMs: 20, explore: 0 };

/** A shop: baskets instead of sessions, weeks instead of hours. Chosen by a replay (docs/design/recommend.md). */
export const shopConfig: GatewayConfig = {
  ...withoutModel,
  eventTypes: { impression: 0, click: 0.1, watch: 0.1, like: 0.3, share: 0.3, cart: 0.5, purchase: 1 },
  popularityHalfLifeHours: 7 * 24,
  trendHalfLifeHours: 3 * 24,
  history: { items: 300, halfLifeDays: 90 },
  together: {
    windowMinutes: 30,
    halfLifeDays: 60,
    pairsPerEvent: 50,
    neighbours: 384,
    seeds: 100,
    seedHalfLifeDays: 60,
    seedPower: 0.5,
    candidatePower: 1,
    shrinkage: 5,
  },
  model: shopModel,
  pipelines: {
    ...defaultConfig.pipelines,
    home: { ...homeWithoutModel, quota: feedQuota },
    shop: { ...shopPipeline, model: shopRank },
    discover: { ...discoverPipeline, model: shopRank },
  },
};

/** Names of the sources that every pipeline has. */
const sourceNames = ["own-history", "together", "popular", "trending", "fresh", "affinity", "vectors", "named"] as const;

const configCheck = schemaCheck(GatewayConfigSchema);

/** Returns the configuration when it can work. Throws `invalid` naming the first field that is wrong. */
export function checkConfig(config: unknown): GatewayConfig {
  if (!configCheck.passes(config)) {
    throw new MillraceError("invalid", configCheck.complaint(config, "configuration"), { todo: "see defaultConfig for the form and the defaults" });
  }
  const checked = config;
  for (const [field, types] of [
    ["doneTypes", checked.doneTypes],
    ["responses.clickTypes", checked.responses.clickTypes],
    ["model.samples.positiveTypes", checked.model?.samples.positiveTypes ?? []],
  ] as const) {
    for (const type of types) {
      if (checked.eventTypes[type] !== undefined) continue;
      throw new MillraceError("invalid", `configuration ${field} names "${type}", which eventTypes lacks`, { todo: "declare the event type" });
    }
  }
  for (const [pipeline, { model, quota }] of Object.entries(checked.pipelines)) {
    if ((model === undefined && (quota.vectors ?? 0) === 0) || checked.model !== undefined) continue;
    throw new MillraceError("invalid", `configuration pipelines.${pipeline} uses the model, which the configuration lacks`, {
      todo: "add the section model, or take model and quota.vectors out of the pipeline",
    });
  }
  for (const [pipeline, { collections = [] }] of Object.entries(checked.pipelines)) {
    const names = new Set<string>(sourceNames);
    for (const { name, by, filter } of collections) {
      if (filter !== undefined) compileFilter(filter);
      if (names.has(name)) {
        throw new MillraceError("invalid", `configuration pipelines.${pipeline}.collections names two sources ${name}`, {
          todo: `choose another name than ${[...names].join(", ")}`,
        });
      }
      names.add(name);
      if (by !== "model" || checked.model !== undefined) continue;
      throw new MillraceError("invalid", `configuration pipelines.${pipeline}.collections asks by the model, which the configuration lacks`, {
        todo: "add the section model, or ask by user or item",
      });
    }
  }
  if (checked.model !== undefined) checkSignals(Extractor.compile({ fields: checked.model.fields, crosses: checked.model.crosses ?? [] }));
  return checked;
}

/** The aggregations that recommend reads. The order matters: a co-occurrence reads its list before the list takes the event. */

export function aggregationsOf(config: GatewayConfig) {
  const types = config.eventTypes;
  const presence = Object.fromEntries(
    Object.entries(types)
      .filter(([, weight]) => weight > 0)
      .map(([type]) => [type, 1]),
  );
  const doneTypes = Object.fromEntries(config.doneTypes.map((type) => [type, 1]));
  const togetherHalfLifeMs = config.together.halfLifeDays * dayMs;
  return {
    popularity: decayedCount({ by: "item", halfLifeMs: config.popularityHalfLifeHours * hourMs, types, top: config.listItems }),
    trend: decayedCount({ by: "item", halfLifeMs: config.trendHalfLifeHours * hourMs, types, top: config.listItems }),
    togetherNorm: decayedCount({ by: "item", halfLifeMs: togetherHalfLifeMs, types: presence }),
    together: cooccurrence({
      list: "recent",
      windowMs: config.together.windowMinutes * minuteMs,
      halfLifeMs: togetherHalfLifeMs,
      neighbours: config.together.neighbours,
      norm: "togetherNorm",
      shrinkage: Math.max(config.together.shrinkage, 1e-3),
      pairsPerEvent: config.together.pairsPerEvent,
    }),
    recent: recentList({ n: config.together.pairsPerEvent, types: presence }),
    history: historyList({ n: config.history.items, halfLifeMs: config.history.halfLifeDays * dayMs, types: presence }),
    done: historyList({ n: config.done.items, halfLifeMs: dayMs, types: doneTypes }),
  };
}

export function responseOptionsOf(config: GatewayConfig): ResponseOptions {
  const { clickTypes: _types, facets: _facets, itemHalfLifeHours, valueHalfLifeHours, userHalfLifeHours, pairHalfLifeHours, ...rest } = config.responses;
  return {
    ...rest,
    pairHalfLifeMs: pairHalfLifeHours * hourMs,
    itemHalfLifeMs: itemHalfLifeHours * hourMs,
    valueHalfLifeMs: valueHalfLifeHours * hourMs,
    userHalfLifeMs: userHalfLifeHours * hourMs,
  };
}

export function tasteOptionsOf(config: GatewayConfig): TasteOptions {
  const { seeds, seedHalfLifeDays, seedPower, candidatePower, shrinkage } = config.together;
  return { seeds, seedHalfLifeMs: seedHalfLifeDays * dayMs, seedPower, candidatePower, shrinkage };
}
