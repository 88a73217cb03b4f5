// The threads of a model beside the serving loop: one trains, one ranks, over one shared memory. Started before the gateway, stopped after it.

import type { Learning, ModelConfig } from "#gateway/index";
import { systemClock } from "#platform/system-clock";
import { systemWorkers } from "#platform/system-workers";
import { workerScorer } from "#ranking/worker-scorer";
import { createModel } from "./model-parts.ts";
import { startTraining } from "./training.ts";

/** How long the start waits for the ranker; without it the weighted score ranks. */
const rankerMsMax = 10_000;

export interface ModelThreads {
  readonly learning: Learning;
  /** Lets the trainer write its checkpoint and end, then ends the ranker. */
  stop(): Promise<void>;
}

/** Starts both; the trainer goes on from the newest good checkpoint of the data folder. */
export function startModelThreads(config: ModelConfig, dataFolder: string, warn: (message: string) => void): ModelThreads {
  const { extractor, model } = createModel(config);
  const training = startTraining({ workers: systemWorkers, config, dataFolder, ticket: model.ticket, warn });
  const scorer = workerScorer(systemWorkers, systemClock, model.ticket, {
    onLost: ({ message }, pauseMs) => warn(`the ranker's thread ended, a new one starts in ${pauseMs} ms: ${message}`),
  });
  const ready = scorer.whenReady(rankerMsMax).then((answers) => {
    if (!answers) warn(`the ranker does not answer after ${rankerMsMax} ms; until it does, counts rank`);
  });
  return {
    learning: { extractor, model, scorer, signals: training.signals, trainer: training, positiveTypes: config.samples.positiveTypes, ready },
    async stop() {
      await training.stop();
      await scorer.close();
    },
  };
}
