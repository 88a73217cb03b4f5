// Recommend: one request through its scene's pipeline, and the answer with reasons, recorded so that later events can join it.
// Invariants: 1. an answer is empty only when no available item passes the filter  2. an answer counts everything that the intake had acknowledged before the
// request arrived  3. what is served is exposed: it is remembered at once, and in the log behind (not awaited: an answer promises nothing)
// 4. ids leave as strings only here.
// Cost: about 0.3-1 ms of the serving loop; see docs/design/recommend.md.

import { MillraceError } from "#base/errors";
import type { Catalog } from "#features/catalog";
import type { ServedRecord } from "#features/activity-record";
import { type Built, type Result, Runner } from "#pipeline/index";
import type { Clock } from "#platform/clock";
import type { Scorer } from "#ranking/scorer";
import type { PipelineGraph, RecommendAnswer, RecommendBody, RecommendedItem, Reason } from "#wire/api";
import { apiLimits } from "#wire/api";
import type { Served } from "./served-memory.ts";
import { everybodyPipeline, type GatewayConfig, type PipelineConfig, tasteOptionsOf } from "./config.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { candidateRow, type ModelFeatures, type RequestFeatures } from "./model-features.ts";
import type { CollectionSourceParts } from "./operator/collection-source.ts";
import { scoreTerms } from "./operator/weighted-score.ts";
import { compilePredicate, type Predicate } from "./predicate.ts";
import type { SceneRequest, SceneStores } from "./scene.ts";
import { type SceneColumns, scenePipeline } from "./scene-pipeline.ts";
import { TastePool } from "./taste.ts";

const defaultCount = 20;

interface Scene {
  readonly name: string;
  readonly config: PipelineConfig;
  readonly predicate: Predicate | undefined;
  readonly built: Built<SceneRequest, SceneColumns>;
}

export interface RecommenderOptions {
  readonly config: GatewayConfig;
  readonly stores: SceneStores;
  readonly clock: Clock;
  readonly metrics: GatewayMetrics;
  /** Steps that break a rule throw: for tests. */
  readonly strict?: boolean;
  readonly nextId: () => string;
  /** Offset up to which the log is counted. */
  readonly appliedOffset: () => number;
  readonly waitFor: (offset: number, timeoutMs: number) => Promise<boolean>;
  readonly learned?: { readonly features: ModelFeatures; readonly scorer: Scorer } | undefined;
  /** Where pipelines recall from vector collections; without it those sources are left out. */
  readonly collections?: CollectionSourceParts | undefined;
  /** Remembers the answer at once and writes it behind. */
  readonly onServed: (served: Served, record: ServedRecord) => void;
}

export class Recommender {
  readonly #options: RecommenderOptions;
  readonly #stores: SceneStores;
  readonly #catalog: Catalog;
  readonly #tastes = new TastePool();
  readonly #scenes = new Map<string, Scene>();
  readonly #lastResort: Built<SceneRequest, SceneColumns>;
  readonly #runner: Runner;
  #answers = 0;
  #fallbacks = 0;
  #degraded = 0;

  constructor(options: RecommenderOptions) {
    this.#options = options;
    this.#stores = options.stores;
    this.#catalog = options.stores.catalog;
    const { metrics } = options;
    this.#runner = new Runner({
      clock: options.clock,
      strict: options.strict === true,
      observer: {
        step(pipeline, step, micros, rowsIn, rowsOut, outcome) {
          if (outcome === "off") return;
          const handle = metrics.pipeline(pipeline).step(step);
          handle.ran(micros / 1_000, rowsIn, rowsOut);
          if (outcome !== "ok" && outcome !== "cancelled") handle.failed(outcome);
        },
      },
    });
    const { stores, clock, learned, collections } = options;
    const parts = { stores, tastes: this.#tastes, tasteOptions: tasteOptionsOf(options.config), clock, learned, collections };
    for (const [name, config] of Object.entries(options.config.pipelines)) {
      const predicate = config.filter === undefined ? undefined : compilePredicate(config.filter);
      this.#scenes.set(name, { name, config, predicate, built: scenePipeline(name, config, parts) });
    }
    this.#lastResort = scenePipeline("last-resort", everybodyPipeline, parts);
  }

  get counts(): { readonly answers: number; readonly fallbacks: number; readonly degraded: number } {
    return { answers: this.#answers, fallbacks: this.#fallbacks, degraded: this.#degraded };
  }

  /** Bytes of column arrays that wait for the next request. */
  get bytes(): number {
    return this.#runner.idleBytes;
  }

  get names(): string[] {
    return [...this.#scenes.keys()];
  }

  graphs(): PipelineGraph[] {
    return [...this.#scenes.values()].map(({ name, built }) => ({ name, nodes: [...built.graph.nodes], mermaid: built.mermaid() }));
  }

  async recommend(name: string, body: RecommendBody): Promise<RecommendAnswer> {
    const { clock, metrics } = this.#options;
    const startMs = clock.monotonicMs();
    const scene = this.#scenes.get(name);
    if (scene === undefined) throw new MillraceError("not-found", "no such pipeline", { todo: `use one of: ${this.names.join(", ")}` });
    const wanted = body.n ?? defaultCount;
    const deadlineMs = Math.min(body.deadlineMs ?? scene.config.deadlineMs, apiLimits.deadlineMsMax);
    const leftMs = (): number => Math.max(1, deadlineMs - (clock.monotonicMs() - startMs));
    if (body.minOffset !== undefined && !(await this.#options.waitFor(body.minOffset, deadlineMs))) {
      throw new MillraceError("timeout", `offset ${body.minOffset} was not counted within ${deadlineMs} ms`, { todo: "ask again, or raise deadlineMs" });
    }
    const user = this.#catalog.users.find(body.user) ?? -1;
    const nowMs = clock.nowMs();
    const req: SceneRequest = {
      user,
      nowMs,
      n: wanted,
      predicate: both(scene.predicate, body.filter === undefined ? undefined : compilePredicate(body.filter)),
      exclude: this.#handles(body.exclude),
      versions: body.versions,
      taste: undefined,
      model: this.#modelRequest(scene, body.user, user, nowMs),
    };
    const offset = this.#options.appliedOffset();
    let result: Result<SceneColumns>;
    const degraded: string[] = [];
    try {
      result = await this.#runner.run(scene.built, req, { timeoutMs: leftMs(), explain: body.explain === true });
      if (result.n === 0 && this.#catalog.availableCount > 0) {
        // Nothing passed the filters that the fallback shares (all is bought): rather what everybody sees than nothing.
        degraded.push("last-resort: nothing was left for this user");
        result = await this.#runner.run(this.#lastResort, req, { timeoutMs: leftMs() });
      }
    } finally {
      if (req.taste !== undefined) this.#tastes.give(req.taste);
    }
    for (const { step, reason, action } of result.degraded) degraded.push(`${step}: ${reason}, ${action}`);

    const { weights } = scene.config;
    const items: RecommendedItem[] = [];
    for (let row = 0; row < result.n; row += 1) items.push(this.#item(result, row, weights, req.model, body.explain === true));
    const pipelineMetrics = metrics.pipeline(name);
    this.#answers += 1;
    if (degraded.length > 0) this.#degraded += 1;
    const fallback = result.degraded.find(({ action }) => action === "fallback");
    if (fallback !== undefined) pipelineMetrics.fallback(fallback.reason);
    // The weighted score in the place of the model's is a fallback too.
    const unranked = result.degraded.find(({ step, action }) => step === "model" && action === "skip");
    if (unranked !== undefined) pipelineMetrics.fallback(`model-${unranked.reason}`);
    if (fallback !== undefined || unranked !== undefined) this.#fallbacks += 1;
    const recommendationId = this.#options.nextId();
    if (body.record !== false && items.length > 0) this.#record(recommendationId, name, body.user, result.ids, items, req);
    if (req.model !== undefined) this.#options.learned!.features.release(req.model);
    const tookMs = clock.monotonicMs() - startMs;
    pipelineMetrics.answered(tookMs, items.length, wanted);
    return {
      recommendationId,
      pipeline: name,
      items,
      degraded,
      offset,
      tookMs: Math.round(tookMs * 1000) / 1000,
      ...(body.explain === true ? { trace: result.trace.map(traceRow) } : {}),
    };
  }

  #handles(ids: readonly string[] | undefined): ReadonlySet<number> {
    const handles = new Set<number>();
    for (const id of ids ?? []) {
      const handle = this.#catalog.items.find(id);
      if (handle !== undefined) handles.add(handle);
    }
    return handles;
  }

  /** What the model sees of a request, where a model ranks or finds. */
  #modelRequest({ name, config }: Scene, id: string, user: number, nowMs: number): RequestFeatures | undefined {
    const isAsked = config.collections?.some(({ by }) => by === "model") ?? false;
    if (config.model === undefined && (config.quota.vectors ?? 0) === 0 && !isAsked) return undefined;
    return this.#options.learned?.features.begin({ user, id, pipeline: name, nowMs });
  }

  #record(recommendationId: string, pipeline: string, userId: string, ids: Uint32Array, items: readonly RecommendedItem[], req: SceneRequest): void {
    const { nowMs: atMs, model } = req;
    const user = this.#catalog.meetUser(userId);
    const n = items.length;
    const seen = model === undefined ? undefined : this.#options.learned!.features.answer(model, ids, n);
    const features = seen === undefined ? {} : { features: seen };
    this.#options.metrics.second.shown += n;
    this.#options.onServed(
      { recommendationId, pipeline, user, items: ids.slice(0, n), atMs, ...features },
      { kind: "served", atMs, recommendationId, pipeline, user: userId, items: items.map(({ id }) => id), ...features },
    );
  }

  #item(result: Result<SceneColumns>, row: number, weights: PipelineConfig["weights"], model: RequestFeatures | undefined, explain: boolean): RecommendedItem {
    const item = result.ids[row]!;
    const body = this.#catalog.itemBody(item);
    const columns = {
      ownCount: valueAt(result, "ownCount", row),
      ownDecayed: valueAt(result, "ownDecayed", row),
      ownAgeDays: valueAt(result, "ownAgeDays", row),
      together: valueAt(result, "together", row),
      trend: this.#stores.trend.at(item, this.#options.clock.nowMs()),
      popularity: this.#stores.popularity.at(item, this.#options.clock.nowMs()),
      ageDays: valueAt(result, "ageDays", row),
      rate: valueAt(result, "rate", row),
      affinity: valueAt(result, "affinity", row),
      again: valueAt(result, "again", row),
      unproven: valueAt(result, "unproven", row),
    };
    const terms = scoreTerms(columns, weights);
    const score = result.scores[row]!;
    return {
      id: this.#catalog.items.id(item),
      score: Number.isFinite(score) ? score : 0,
      sources: [...result.sourcesOf(row)],
      reasons: this.#reasons(terms, valueAt(result, "via", row) - 1),
      ...(body.title === undefined ? {} : { title: body.title }),
      ...(body.category === undefined ? {} : { category: body.category }),
      ...(body.attributes === undefined ? {} : { attributes: body.attributes }),
      ...(explain
        ? {
            parts: {
              ...columns,
              own: terms.own,
              "score.together": terms.together,
              "score.popular": terms.popular,
              "score.fresh": terms.fresh,
              "score.rate": terms.rate,
              "score.affinity": terms.affinity,
              "score.again": terms.again,
              ...modelParts(model, item),
            },
          }
        : {}),
    };
  }

  /** At most three, the largest first; at least one. */
  #reasons(terms: ReturnType<typeof scoreTerms>, via: number): Reason[] {
    const positive =
      Math.max(terms.own, 0) +
      Math.max(terms.together, 0) +
      Math.max(terms.popular, 0) +
      Math.max(terms.fresh, 0) +
      Math.max(terms.rate, 0) +
      Math.max(terms.affinity, 0) +
      Math.max(terms.again, 0);
    const reasons: Reason[] = [];
    const add = (code: string, text: string, part: number, item?: string): void => {
      if (part <= 0) return;
      reasons.push({ code, text, share: Math.round((part / positive) * 1000) / 1000, ...(item === undefined ? {} : { item }) });
    };
    add("own-history", "You looked at this before", terms.own);
    if (via >= 0) {
      const title = this.#catalog.itemBody(via).title ?? this.#catalog.items.id(via);
      add("together", `Often together with ${title}`, terms.together, this.#catalog.items.id(via));
    }
    add("affinity", "You like its kind", terms.affinity);
    add("again", "You took it before when it was shown", terms.again);
    add("rate", "Often taken when shown", terms.rate);
    add("popular", "Popular right now", terms.popular);
    add("fresh", "New", terms.fresh);
    reasons.sort((a, b) => b.share - a.share);
    if (reasons.length === 0) reasons.push({ code: "popular", text: "Something to begin with", share: 1 });
    return reasons.slice(0, 3);
  }
}

/** A column of a row, 0 where the pipeline that chose the row has no such column. */
function valueAt(
  result: Result<SceneColumns>,
  column: "ownCount" | "ownDecayed" | "ownAgeDays" | "together" | "via" | "ageDays" | "rate" | "affinity" | "again" | "unproven",
  row: number,
): number {
  return result.col(column)[row]!;
}

/** What the model said of an item; nothing where it did not rank. */
function modelParts(model: RequestFeatures | undefined, item: number): Record<string, number> {
  const row = model === undefined ? -1 : candidateRow(model, item);
  if (model === undefined || row < 0 || Number.isNaN(model.logits[row]!)) return {};
  return { "model.logit": model.logits[row]!, "model.probability": 1 / (1 + Math.exp(-model.logits[row]!)), "counting.logit": model.counting[row]! };
}

function traceRow(step: Result["trace"][number]): NonNullable<RecommendAnswer["trace"]>[number] {
  return {
    step: `${step.pipeline}/${step.step}`,
    kind: step.kind,
    rowsIn: step.rowsIn,
    rowsOut: step.rowsOut,
    micros: Math.round(step.micros * 10) / 10,
    outcome: step.outcome,
  };
}

function both(scene: Predicate | undefined, request: Predicate | undefined): Predicate | undefined {
  if (scene === undefined || request === undefined) return scene ?? request;
  return { test: (catalog, item) => scene.test(catalog, item) && request.test(catalog, item), ids: request.ids ?? scene.ids };
}
