// What learning gives to the gateway, handed in by roles: the compiled extractor, the live model's memory, who scores, and who trains.
// Why an interface of its own: the gateway serves with and without a model, with the trainer in another thread (server) or in this one (replay, tests).
// Invariants: 1. offsets are those of the activity log  2. nothing here is needed for an answer: without it, or when it is late or broken, the weighted score
// ranks.

import type { Extractor } from "#extract/extractor";
import type { LiveModel } from "#models/live-model";
import type { Clock } from "#platform/clock";
import type { Scorer } from "#ranking/scorer";
import type { TrainingSignals, TrainingWord } from "#training/training-signals";
import type { QualityAnswer, TrainingStatus } from "#wire/live-api";

/** What the serving loop sees of the trainer beside the shared words. */
export interface TrainerView {
  status(): TrainingStatus;
  /** The activity log is needed from this offset on, by a restart of training; 0 while it is not known. */
  logNeededFrom(): number;
  /** Prequential figures of the last `minutes` of record time, in the finest stretches that are kept for so long. */
  quality(minutes: number): QualityAnswer;
}

export interface Learning {
  readonly extractor: Extractor;
  readonly model: LiveModel;
  readonly scorer: Scorer;
  readonly signals: TrainingSignals;
  readonly trainer: TrainerView;
  /** Event types that the model learns from. */
  readonly positiveTypes: readonly string[];
  /** Waited for before the gateway is open: the first answers are ranked like the others. Resolves in bounded time. */
  readonly ready?: Promise<unknown>;
}

/** True once the word has passed `offset`, false after `timeoutMs`. */
export async function reached(signals: TrainingSignals, word: TrainingWord, offset: number, timeoutMs: number, clock: Clock): Promise<boolean> {
  const deadline = clock.monotonicMs() + timeoutMs;
  for (;;) {
    if (signals.get(word) >= offset) return true;
    const leftMs = deadline - clock.monotonicMs();
    if (leftMs <= 0) return false;
    await signals.changed(word, offset - 1, leftMs);
  }
}
