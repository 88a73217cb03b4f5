// Where the model of a data folder lies, and which checkpoints belong to a configuration.
//   DATA/model/checkpoint-....mrcp   docs/format/checkpoint.md

import type { Extractor } from "#extract/extractor";
import type { ModelConfig } from "#gateway/index";
import type { Files } from "#platform/files";
import { type CheckpointKind, optionsHash } from "#training/checkpoint";
import { trainingOptionsOf } from "./model-parts.ts";

export function modelFolder(files: Files, dataFolder: string): string {
  return files.join(dataFolder, "model");
}

/** Everything in the configuration that changes what is learned; what only bounds memory or time beside it does not begin a model anew. */
export function checkpointKindOf(config: ModelConfig, extractor: Extractor): CheckpointKind {
  const { fields, crosses, factors, capacityRows, seed, optimizer, initialScale, initialAccumulator, rate, l2 } = config;
  const { cacheBytesMax: _, ...training } = trainingOptionsOf(config);
  const model = { fields, crosses, factors, capacityRows, seed, optimizer, initialScale, initialAccumulator, rate, l2 };
  return { extractorId: extractor.id, optionsHash: optionsHash({ model, training }) };
}
