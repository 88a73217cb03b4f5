// What the gateway answers from the live model beside recommendations: items like an item, the score of a served item, and what an event changed.
// Invariants: 1. a served item is scored by its features as they were logged, never by fresh ones: only the parameters differ between two questions
// 2. nothing here writes.
// Cost: a score about 10 us on the serving loop (one row, no search); similar items are searched for in the ranker's thread.

import { MillraceError } from "#base/errors";
import { decodeAnswerFeatures } from "#extract/answer-features";
import { SlotRows } from "#extract/slot-rows";
import type { Catalog } from "#features/catalog";
import type { Clock } from "#platform/clock";
import type { ScoreAnswer, ScoreBody, SimilarAnswer, SimilarBody } from "#wire/live-api";
import type { ActivityState } from "./activity-state.ts";
import type { WayProbe } from "./event-ways.ts";
import type { Learning } from "./learning.ts";
import type { Declarations } from "#features/feature-set";

const similarDefault = 20;
/** A search of the live vectors may take so long. */
const similarDeadlineMs = 1_000;

export interface ModelAnswersOptions<D extends Declarations> {
  readonly learning: Learning | undefined;
  readonly state: ActivityState<D>;
  readonly clock: Clock;
}

export class ModelAnswers<D extends Declarations> implements WayProbe {
  readonly #learning: Learning | undefined;
  readonly #state: ActivityState<D>;
  readonly #catalog: Catalog;
  readonly #clock: Clock;
  readonly #row = new SlotRows(1, 64);
  readonly #logit = new Float32Array(1);

  constructor({ learning, state, clock }: ModelAnswersOptions<D>) {
    this.#learning = learning;
    this.#state = state;
    this.#catalog = state.catalog;
    this.#clock = clock;
  }

  async similar(body: SimilarBody): Promise<SimilarAnswer> {
    const { scorer, signals } = this.#required();
    const startMs = this.#clock.monotonicMs();
    const item = this.#catalog.items.find(body.item);
    if (item === undefined) throw new MillraceError("not-found", "no such item", { todo: "PUT it first" });
    const n = body.n ?? similarDefault;
    const found = new Uint32Array(n);
    const similarities = new Float32Array(n);
    // Read before the search: what it finds has learned at least so much.
    const trainedOffset = signals.get("vectors");
    const count = await scorer.similar(item, n, found, similarities, similarDeadlineMs);
    const items = Array.from({ length: count }, (_, at) => {
      const { title } = this.#catalog.itemBody(found[at]!);
      return { id: this.#catalog.items.id(found[at]!), similarity: similarities[at]!, ...(title === undefined ? {} : { title }) };
    });
    return { item: body.item, items, trainedOffset, tookMs: Math.round((this.#clock.monotonicMs() - startMs) * 1_000) / 1_000 };
  }

  score(body: ScoreBody): ScoreAnswer {
    const { signals } = this.#required();
    // Read before the parameters, as above.
    const trainedOffset = signals.get("trained");
    const scored = this.#scoreServed(body.recommendationId, body.item);
    if (scored === undefined) {
      throw new MillraceError("not-found", "no answer in memory with this id showed this item by the model", {
        todo: "ask with the recommendationId of a recent answer of a pipeline that the model ranks",
      });
    }
    const { logit, position, served } = scored;
    return {
      recommendationId: body.recommendationId,
      item: body.item,
      position,
      ...(Number.isNaN(served) ? {} : { servedScore: served }),
      score: logit,
      probability: 1 / (1 + Math.exp(-logit)),
      trainedOffset,
    };
  }

  liking(user: string, item: string): number | undefined {
    const userHandle = this.#catalog.users.find(user);
    const itemHandle = this.#catalog.items.find(item);
    if (userHandle === undefined || itemHandle === undefined) return undefined;
    const { responses } = this.#state;
    responses.begin(userHandle, this.#clock.nowMs());
    return Math.exp(responses.personal(itemHandle));
  }

  chance(recommendationId: string, item: string): number | undefined {
    const scored = this.#learning === undefined ? undefined : this.#scoreServed(recommendationId, item);
    return scored === undefined ? undefined : 1 / (1 + Math.exp(-scored.logit));
  }

  vector(item: string): Float32Array | undefined {
    const handle = this.#catalog.items.find(item);
    if (handle === undefined || this.#learning === undefined) return undefined;
    const { vectors, machine } = this.#learning.model;
    const row = new Float32Array(vectors.dims);
    // Behind the factors stands the item's own part of the logit, which is no direction.
    return vectors.read(handle, row) ? row.subarray(0, machine.factors) : undefined;
  }

  #scoreServed(recommendationId: string, item: string): { logit: number; position: number; served: number } | undefined {
    const { extractor, model } = this.#learning!;
    const handle = this.#catalog.items.find(item);
    const position = handle === undefined ? -1 : (this.#state.served.find(recommendationId)?.items.indexOf(handle) ?? -1);
    const bytes = this.#state.served.featuresOf(recommendationId);
    if (position < 0 || bytes === undefined) return undefined;
    const features = decodeAnswerFeatures(bytes);
    const one = features.items[position];
    if (features.extractorId !== extractor.id || one === undefined) return undefined;
    this.#row.clear();
    extractor.sampleSlots(features.user, position, one.item, one.signals, this.#row);
    model.machine.evaluate(this.#row, this.#logit);
    return { logit: this.#logit[0]!, position, served: one.servedLogit };
  }

  #required(): Learning {
    if (this.#learning !== undefined) return this.#learning;
    throw new MillraceError("not-found", "this server has no model", { todo: "name one in the configuration (model), or use the preset feed" });
  }
}
