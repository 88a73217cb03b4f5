// From the configuration's section `model` to its parts: extractor, live model, options of the trainer. One place, so that every process that trains or serves
// the same configuration builds the same.

import { Extractor } from "#extract/extractor";
import type { ModelConfig } from "#gateway/index";
import { LiveModel } from "#models/live-model";
import { trainingDefaults, type TrainingOptions } from "#training/trainer";

export interface ModelParts {
  readonly extractor: Extractor;
  readonly model: LiveModel;
}

/** An untrained model with room for what the configuration says. */
export function createModel(config: ModelConfig): ModelParts {
  const { factors, capacityRows, seed, initialScale, optimizer, rate, l2, initialAccumulator, itemsMax, slotsPerItemMax } = config;
  const model = LiveModel.create({
    machine: { factors, capacityRows, seed: BigInt(seed), initialScale, optimizer, rate, l2, initialAccumulator },
    itemsMax,
    slotsPerItemMax,
  });
  return { extractor: extractorOf(config), model };
}

export function extractorOf({ fields, crosses, initialBias }: ModelConfig): Extractor {
  return Extractor.compile({ fields, crosses: crosses ?? [], ...(initialBias === undefined ? {} : { initialBias }) });
}

export function trainingOptionsOf({ samples, seed }: ModelConfig): TrainingOptions {
  return {
    ...trainingDefaults,
    positiveTypes: samples.positiveTypes,
    windowMs: samples.windowSeconds * 1_000,
    latenessMs: samples.latenessSeconds * 1_000,
    ...(samples.gapSeconds === undefined ? {} : { gapMs: samples.gapSeconds * 1_000 }),
    negativeRate: samples.negativeRate,
    openAnswersMax: samples.openAnswersMax,
    seed: seed % 2 ** 31,
  };
}
