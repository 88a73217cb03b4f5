// Builds the pipeline of a scene from its configuration: the whole of recommend in one function, control flow on top, operators as leaves.
//   recall (own history, together, popular, trending, fresh, affinity, vectors, collections, named) -> available -> predicate -> shown -> done -> counters, taste, responses
//   -> weighted -> model -> select
// and, when that fails, is late or short: popular, fresh and a scan of the catalogue -> the same filters but `shown` -> popularity.

import { type Built, pipeline, score, topK, windowed } from "#pipeline/index";
import type { Clock } from "#platform/clock";
import type { Scorer } from "#ranking/scorer";
import type { PipelineConfig } from "./config.ts";
import type { ModelFeatures } from "./model-features.ts";
import { affinitySource } from "./operator/affinity-source.ts";
import { availableFilter } from "./operator/available-filter.ts";
import { catalogueScanSource } from "./operator/catalogue-scan-source.ts";
import { collectionRecallDefaults, collectionSource, type CollectionSourceParts } from "./operator/collection-source.ts";
import { counterHydrate } from "./operator/counter-hydrate.ts";
import { doneFilter, shownFilter } from "./operator/dedupe-filter.ts";
import { modelScore } from "./operator/model-score.ts";
import { listSource } from "./operator/list-source.ts";
import { namedSource } from "./operator/named-source.ts";
import { ownHistorySource } from "./operator/own-history-source.ts";
import { predicateFilter } from "./operator/predicate-filter.ts";
import { responseHydrate } from "./operator/response-hydrate.ts";
import { tasteHydrate } from "./operator/taste-hydrate.ts";
import { togetherSource } from "./operator/together-source.ts";
import { vectorsSource } from "./operator/vectors-source.ts";
import { weightedScore } from "./operator/weighted-score.ts";
import type { SceneRequest, SceneStores } from "./scene.ts";
import type { TasteOptions, TastePool } from "./taste.ts";

/** Columns of an answer that reasons and explain read. */
export type SceneColumns = {
  readonly ownCount: "f32";
  readonly ownDecayed: "f32";
  readonly ownAgeDays: "f32";
  readonly together: "f32";
  readonly via: "u32";
  readonly trend: "f32";
  readonly popularity: "f32";
  readonly ageDays: "f32";
  readonly rate: "f32";
  readonly affinity: "f32";
  readonly again: "f32";
  readonly unproven: "f32";
  readonly category: "u32";
  readonly id: "u32";
  readonly score: "f32";
  readonly sources: "u32";
};

export interface ScenePipelineParts {
  readonly stores: SceneStores;
  readonly tastes: TastePool;
  readonly tasteOptions: TasteOptions;
  readonly clock: Clock;
  /** Absent: nothing is ranked or found by a model, whatever the configuration says. */
  readonly learned?: { readonly features: ModelFeatures; readonly scorer: Scorer } | undefined;
  /** Absent: nothing is recalled from vector collections, whatever the configuration says. */
  readonly collections?: CollectionSourceParts | undefined;
}

const minuteMs = 60_000;

/** How long a search of the vectors may take where no model ranks. */
const vectorsDeadlineMs = 10;

/** By popularity alone: what the fallback knows of every item. */
const popularityScore = score<SceneRequest>()("popularity", { popularity: "f32", trend: "f32" }, { score: "f32" }, (_, batch, out) => {
  const popularity = batch.col("popularity");
  const trend = batch.col("trend");
  for (let row = 0; row < batch.n; row += 1) out.score[row] = Math.log1p(popularity[row]!) + Math.log1p(trend[row]!);
});

/** What everybody gets when nothing better is there; empty only when no available item passes the filter. The flow that falls back here has its own
 * filters applied to these rows too (pipeline/run.ts), so that none is repeated. */
function popularFallback(name: string, { stores, clock }: ScenePipelineParts): Built<SceneRequest> {
  const ranked = (flow: "popular" | "scan"): Built<SceneRequest> => {
    const begun = pipeline<SceneRequest>(flow === "scan" ? `${name}-scan` : name);
    const recalled =
      flow === "scan"
        ? begun.recall([catalogueScanSource(stores, clock)], { quota: { "catalogue-scan": 400 }, onError: "empty" })
        : begun.recall([listSource("popular", stores, stores.popularity.top!), listSource("fresh", stores, stores.catalog.fresh)], {
            quota: { popular: 400, fresh: 200 },
            onError: "empty",
          });
    const scored = recalled
      .hydrate(counterHydrate(stores))
      .score(popularityScore)
      .select(({ req }) => req.n, topK());
    return (flow === "scan" ? scored : scored.fallback(ranked("scan"))).build();
  };
  return ranked("popular");
}

/** The pipeline of one scene. */
export function scenePipeline(name: string, config: PipelineConfig, parts: ScenePipelineParts): Built<SceneRequest, SceneColumns> {
  const { stores, tastes, tasteOptions, learned } = parts;
  const { quota } = config;
  const near = parts.collections === undefined ? [] : (config.collections ?? []);
  const vectorsMax = learned === undefined ? 0 : (quota.vectors ?? 0);
  const off = (rows: number): { when?: () => boolean } => (rows === 0 ? { when: () => false } : {});
  const { rate, affinity, again, explore } = config.weights;
  const answering = rate !== 0 || affinity !== 0 || again !== 0 || explore !== 0;
  const doneMs = config.doneMinutes === "forever" ? Number.POSITIVE_INFINITY : config.doneMinutes * minuteMs;

  const weighted = pipeline<SceneRequest>(name)
    .recall(
      [
        ownHistorySource(stores),
        togetherSource(stores, tastes, tasteOptions),
        listSource("popular", stores, stores.popularity.top!),
        listSource("trending", stores, stores.trend.top!),
        listSource("fresh", stores, stores.catalog.fresh),
        affinitySource(stores, config.weights),
        ...(vectorsMax === 0 ? [] : [vectorsSource(learned!.scorer, vectorsMax, config.model?.deadlineMs ?? vectorsDeadlineMs)]),
        ...near.map((recall) => collectionSource(stores, parts.collections!, recall)),
        namedSource(stores),
      ],
      {
        onError: "skip",
        quota: {
          "own-history": Math.max(1, quota.ownHistory),
          together: Math.max(1, quota.together),
          popular: Math.max(1, quota.popular),
          trending: Math.max(1, quota.trending),
          fresh: Math.max(1, quota.fresh),
          affinity: Math.max(1, quota.affinity),
          ...(vectorsMax === 0 ? {} : { vectors: vectorsMax }),
          ...Object.fromEntries(near.map(({ name: its, rows }) => [its, rows])),
          named: 1_000,
        },
        each: {
          "own-history": off(quota.ownHistory),
          together: off(quota.together),
          popular: off(quota.popular),
          trending: off(quota.trending),
          fresh: off(quota.fresh),
          affinity: off(quota.affinity),
          // The service ends each call by its deadline; this holds whatever it does.
          ...Object.fromEntries(near.map(({ name: its, deadlineMs = collectionRecallDefaults.deadlineMs }) => [its, { timeoutMs: 2 * deadlineMs }])),
          named: { when: ({ req }) => req.predicate?.ids !== undefined },
        },
      },
    )
    .filter(availableFilter(stores))
    .filter(predicateFilter(stores), { when: ({ req }) => req.predicate !== undefined })
    .filter(shownFilter(stores, config.shownMinutes * minuteMs), { optional: true, when: () => config.shownMinutes > 0 })
    .filter(doneFilter(stores, doneMs), { when: () => doneMs > 0 })
    .hydrate(counterHydrate(stores))
    .hydrate(tasteHydrate())
    .hydrate(responseHydrate(stores), off(answering ? 1 : 0))
    .score(weightedScore(config.weights));
  const ranked =
    learned === undefined || config.model === undefined
      ? weighted
      : weighted.score(modelScore(learned.features, learned.scorer, config.model), { onError: "skip", note: "without it the weighted score stands" });

  const count = ({ req }: { req: SceneRequest }): number => req.n;
  const fallback = popularFallback(`${name}-fallback`, parts);
  const { categories } = config;
  return categories === undefined
    ? ranked.select(count, topK()).fallback(fallback).build()
    : ranked
        .select(count, windowed({ by: "category", window: categories.window, max: categories.max }))
        .fallback(fallback)
        .build();
}
