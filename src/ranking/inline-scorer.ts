// Scorer in the caller's thread: for replays, tests and benches, where nobody waits for the loop. See scorer.ts for the contract.
// Limits: those of the contract; a call computes at once, so it knows no queue, no `overloaded`, and its deadline counts only before it begins.

import type { SlotRows } from "#extract/slot-rows";
import { createTopK } from "#kernel/dot-top-k";
import type { Clock } from "#platform/clock";
import { type RankingModel, type RankingTask, ScoreTask, SearchTask } from "./ranker.ts";
import { RankingMetrics, type RankingRequestKind } from "./ranking-metrics.ts";
import { checkAnswers, checkScore, deadlinePassed, rankerClosed, type Scorer } from "./scorer.ts";

/** Uses the lane of `model`'s memory that the caller's thread has. */
export function inlineScorer(model: RankingModel, clock: Clock): Scorer {
  return new InlineScorer(model, clock);
}

class InlineScorer implements Scorer {
  readonly metrics = new RankingMetrics();
  readonly #model: RankingModel;
  readonly #clock: Clock;
  #closed = false;

  constructor(model: RankingModel, clock: Clock) {
    this.#model = model;
    this.#clock = clock;
    this.metrics.ready = true;
  }

  async score(user: SlotRows, items: SlotRows, logits: Float32Array, deadlineMs: number): Promise<void> {
    checkScore(user, items, logits);
    this.metrics.rows.record(items.rows);
    await this.#run("score", deadlineMs, () => new ScoreTask(this.#model, user, items, logits));
  }

  async search(user: SlotRows, k: number, items: Uint32Array, scores: Float32Array, deadlineMs: number): Promise<number> {
    checkAnswers(k, items, scores);
    return this.#find(await this.#run("search", deadlineMs, () => SearchTask.forUser(this.#model, user, k)), k, items, scores);
  }

  async similar(item: number, k: number, items: Uint32Array, scores: Float32Array, deadlineMs: number): Promise<number> {
    checkAnswers(k, items, scores);
    return this.#find(await this.#run("similar", deadlineMs, () => SearchTask.like(this.#model, item, k)), k, items, scores);
  }

  close(): Promise<void> {
    this.#closed = true;
    this.metrics.ready = false;
    return Promise.resolve();
  }

  #run<T extends RankingTask>(kind: RankingRequestKind, deadlineMs: number, begin: () => T): Promise<T> {
    const { metrics } = this;
    metrics.requests[kind] += 1;
    if (this.#closed) {
      metrics.unavailable += 1;
      throw rankerClosed();
    }
    if (!(deadlineMs > 0)) {
      metrics.timeouts += 1;
      throw deadlinePassed(kind, deadlineMs);
    }
    const beganMs = this.#clock.monotonicMs();
    const task = begin();
    while (!task.advance());
    const tookUs = (this.#clock.monotonicMs() - beganMs) * 1_000;
    metrics.waitUs.record(0);
    metrics.computeUs.record(tookUs);
    metrics.roundTripUs.record(tookUs);
    metrics.batch.record(1);
    return Promise.resolve(task);
  }

  #find(search: SearchTask, k: number, items: Uint32Array, scores: Float32Array): number {
    const found = search.answers(createTopK(k));
    items.set(found.rows.subarray(0, found.size));
    scores.set(found.scores.subarray(0, found.size));
    return found.size;
  }
}
