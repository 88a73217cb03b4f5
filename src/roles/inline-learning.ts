// Learning in the thread of its caller: for replays, benches and tests, where a clock of their own decides what is known when. The same trainer, vectors and
// ranker as in the server's threads; only who calls them when is different.
// Invariant: nothing learns but in `catchUp`, so a caller who calls it at fixed moments of its clock gets the same model each time, up to the order of log writes.

import type { Log } from "#backbone/log";
import { activityPartition, type Learning, type ModelConfig } from "#gateway/index";
import { LiveModel, modelLane } from "#models/live-model";
import type { Clock } from "#platform/clock";
import { inlineScorer } from "#ranking/inline-scorer";
import { ItemVectors } from "#training/item-vectors";
import { Trainer } from "#training/trainer";
import { trainerStatus } from "#training/trainer-status";
import { TrainingSignals } from "#training/training-signals";
import { createModel, trainingOptionsOf } from "./model-parts.ts";

const readBytes = 1 << 20;
/** Items whose vectors follow shared parameters in one call: at ten calls a second of the caller's clock the rate of the server. */
const sweptItems = 2_000;

export interface InlineLearning {
  readonly learning: Learning;
  readonly trainer: Trainer;
  /** Learns all that the log holds and the gateway has applied. Resolves to the offset behind it. `vectors: false` leaves the item vectors as they are, for a caller
   * whose pipelines do not search them. */
  catchUp(options?: { readonly vectors: boolean }): Promise<number>;
}

/** A model of this configuration, untrained, that learns from the activity log. */
export function inlineLearning(config: ModelConfig, log: Log, clock: Clock): InlineLearning {
  const { extractor, model } = createModel(config);
  const trained = LiveModel.attach(model.ticket, modelLane.trainer);
  const signals = new TrainingSignals();
  const vectors = new ItemVectors(trained);
  let following = true;
  const trainer = new Trainer({
    options: trainingOptionsOf(config),
    extractor,
    machine: trained.machine,
    read: (offset, bytesMax) => log.read(activityPartition, offset, bytesMax),
    learned: (samples) => {
      if (following) vectors.learned(samples);
    },
    rolledBack: () => vectors.startOver(),
  });
  return {
    learning: {
      extractor,
      model,
      scorer: inlineScorer(model, clock),
      signals,
      positiveTypes: config.samples.positiveTypes,
      trainer: {
        status: () => trainerStatus(trainer, { head: signals.get("head"), samplesPerS: 0 }),
        // It keeps nothing: another one begins at the beginning.
        logNeededFrom: () => 0,
        quality: (minutes) => trainer.quality.history.answer(minutes),
      },
    },
    trainer,
    async catchUp(options) {
      following = options?.vectors !== false;
      const head = signals.get("head");
      while (trainer.offset < head) {
        const batch = await log.read(activityPartition, trainer.offset, readBytes);
        if (batch === undefined) break;
        for (let index = 0; index < batch.records.length && trainer.offset < head; index += 1) {
          await trainer.take(batch.records[index]!, batch.firstOffset + index);
        }
      }
      trainer.flush();
      if (following) {
        vectors.followChanges();
        vectors.sweep(sweptItems);
      }
      signals.publish("trained", trainer.offset);
      signals.publish("vectors", trainer.offset);
      return trainer.offset;
    },
  };
}
