// The threads of a model beside the serving loop: one trains it or takes its rows from where it is trained, one ranks, over one shared memory. Started before the gateway, stopped after it.

import type { Learning, ModelConfig, Waited } from "#gateway/index";
import { modelNodeName } from "#models/model-sync";
import { systemClock } from "#platform/system-clock";
import { systemWorkers } from "#platform/system-workers";
import { gatedScorer } from "#ranking/gated-scorer";
import { workerScorer } from "#ranking/worker-scorer";
import { needOf, sourcesInWords } from "#wire/parameter-api";
import { createModel } from "./model-parts.ts";
import { type ModelSyncing, startTraining } from "./training.ts";

/** How long the start waits for the ranker; without it the weighted score ranks. */
const rankerMsMax = 10_000;

export interface ModelThreadsOptions {
  readonly config: ModelConfig;
  readonly dataFolder: string;
  /** Absent: nobody follows the model and it follows nobody. */
  readonly sync?: ModelSyncing;
  /** A node of this name is to be reached at this port of this machine. */
  readonly passOn?: (name: string, port: number) => void;
  readonly warn: (message: string) => void;
}

export interface ModelThreads {
  readonly learning: Learning;
  /** What /health/ready waits for: a followed model that is not as new as its source. */
  waitedFor(): Waited[];
  /** Lets the trainer write its checkpoint and end, then ends the ranker. */
  stop(): Promise<void>;
}

/** Starts both; the trainer goes on from the newest good checkpoint of the data folder. */
export function startModelThreads({ config, dataFolder, sync, passOn, warn }: ModelThreadsOptions): ModelThreads {
  const follows = sync?.follow !== undefined;
  // Who does not learn needs no room for what an optimizer keeps.
  const { extractor, model } = createModel(follows ? { ...config, optimizer: "sgd" } : config);
  const training = startTraining({
    workers: systemWorkers,
    config,
    dataFolder,
    ticket: model.ticket,
    ...(sync === undefined ? {} : { sync }),
    onFollowed: (port) => passOn?.(modelNodeName(extractor.id, config), port),
    warn,
  });
  const ranker = workerScorer(systemWorkers, systemClock, model.ticket, {
    onLost: ({ message }, pauseMs) => warn(`the ranker's thread ended, a new one starts in ${pauseMs} ms: ${message}`),
  });
  const ready = ranker.whenReady(rankerMsMax).then((answers) => {
    if (!answers) warn(`the ranker does not answer after ${rankerMsMax} ms; until it does, counts rank`);
  });
  let loaded = !follows;
  void training.ready.then(() => (loaded = true));
  const scorer = follows ? gatedScorer(ranker, () => loaded, "the followed model is being loaded") : ranker;
  return {
    learning: { extractor, model, scorer, signals: training.signals, trainer: training, positiveTypes: config.samples.positiveTypes, ready },
    waitedFor() {
      const { sync: state } = training.status();
      if (!follows || (loaded && state?.ready === true)) return [];
      if (state === undefined) return [`the model is not as new as ${sync.follow.join(", ")}`];
      const what = `the model is not as new as ${sourcesInWords(state)}`;
      const needs = needOf(state);
      return [needs === undefined ? what : { what, needs }];
    },
    async stop() {
      await training.stop();
      await scorer.close();
    },
  };
}
