// The trainer's thread as an object of the server role: starts it, keeps what it tells (status, figures), stops it. What is shared with it are words
// (src/training/training-signals.ts) and the live model's memory; what it learns from is the log. It is switched by records of the log, not from here.
// A model that is followed (`sync.follow`) has another thread in its place (src/training/follower-loop.ts), which learns nothing.
// Invariants: 1. status and figures are those of the last report, at most about a second old; offsets are those of the shared words, of now
// 2. when the thread dies the server goes on without learning: status says `failed` and why.

import type { MillraceError } from "#base/errors";
import { activityPartition, type ModelConfig, type TrainerView } from "#gateway/index";
import type { LiveModelTicket } from "#models/live-model";
import { moduleBeside } from "#platform/module-beside";
import type { Workers } from "#platform/workers";
import { QualityHistory } from "#training/quality-history";
import type { TrainerReport } from "#training/trainer-loop";
import { TrainingSignals } from "#training/training-signals";
import type { TrainingStatus } from "#wire/live-api";

/** What the thread is started with. */
export interface TrainerThreadData {
  readonly config: ModelConfig;
  readonly dataFolder: string;
  readonly partition: string;
  readonly ticket: LiveModelTicket;
  readonly signals: SharedArrayBuffer;
  /** Absent: nobody follows the model and it follows nobody. */
  readonly sync?: ModelSyncing;
}

/** How the model is synchronised, of `parameters.sync`. */
export interface ModelSyncing {
  readonly node: number;
  readonly token?: string;
  /** Addresses of servers that train the model; absent: it is trained here. */
  readonly follow?: readonly string[];
}

export interface TrainingThreadOptions {
  readonly workers: Workers;
  readonly config: ModelConfig;
  readonly dataFolder: string;
  /** Of the live model that the serving loop holds. */
  readonly ticket: LiveModelTicket;
  readonly sync?: ModelSyncing;
  /** The model's rows are handed out at this port of this machine; told again when it changes. */
  readonly onFollowed?: (port: number) => void;
  /** For the operator's log. */
  readonly warn: (message: string) => void;
}

export interface TrainingThread extends TrainerView {
  /** `head` is the serving loop's to publish, after records are applied. */
  readonly signals: TrainingSignals;
  /** Resolves once the vectors of all items that were there have been written; never when the thread dies before. */
  readonly ready: Promise<void>;
  /** Resolves with the failure when the thread died, with undefined after `stop`. */
  readonly failed: Promise<MillraceError | undefined>;
  /** Lets it write a checkpoint and end. */
  stop(): Promise<void>;
}

/** A checkpoint of many rows takes seconds on a slow disk. */
const stopGraceMs = 30_000;

/** Starts the thread. A model that is trained here goes on from the newest good checkpoint of the data folder, one that is followed is loaded from its source. */
export function startTraining({ workers, config, dataFolder, ticket, sync, onFollowed, warn }: TrainingThreadOptions): TrainingThread {
  const follows = sync?.follow !== undefined;
  const signals = new TrainingSignals();
  const history = new QualityHistory();
  let last: TrainingStatus = { ...starting(config), ...(follows ? { state: "following" as const, reason: "its rows are being loaded" } : {}) };
  // Whoever follows reads nothing of the log.
  let needed = follows ? Number.MAX_SAFE_INTEGER : 0;
  const ready = Promise.withResolvers<void>();
  const data: TrainerThreadData = {
    config,
    dataFolder,
    partition: activityPartition,
    ticket,
    signals: signals.memory,
    ...(sync === undefined ? {} : { sync }),
  };
  const worker = workers.start(moduleBeside(follows ? "./model-follower.worker" : "./trainer.worker", import.meta.url), data, "trainer");
  const take = (report: TrainerReport): void => {
    if (report.kind === "status") last = report.status;
    else if (report.kind === "quality") for (const point of report.points) history.push(report.width, point);
    else if (report.kind === "ready") ready.resolve();
    else if (report.kind === "followed") onFollowed?.(report.port);
    else if (report.kind === "needs") needed = report.offset;
    else warn(report.message);
  };
  const listening = (async () => {
    for (;;) {
      const report = (await worker.receive()) as TrainerReport | undefined;
      if (report === undefined) return;
      take(report);
    }
  })();
  const failed = worker.failed.then((error) => {
    if (error !== undefined && follows) {
      const sync = last.sync === undefined ? {} : { sync: { ...last.sync, ready: false } };
      last = { ...last, ...sync, state: "failed", reason: `${error.message}; restart the server when the cause is gone` };
      warn(`the thread of the followed model ended, the server goes on with its rows as they are: ${error.message}`);
    } else if (error !== undefined) {
      last = { ...last, state: "failed", reason: `${error.message}; restart the server when the cause is gone, training goes on from its last checkpoint` };
      warn(`the trainer's thread ended, the server goes on without learning: ${error.message}`);
    }
    return error;
  });
  return {
    signals,
    ready: ready.promise,
    failed,
    status() {
      if (follows) return last;
      const trainedOffset = Math.max(last.trainedOffset, signals.get("trained"));
      return { ...last, trainedOffset, behind: Math.max(0, signals.get("head") - trainedOffset) };
    },
    logNeededFrom: () => needed,
    quality: (minutes) => history.answer(minutes),
    async stop() {
      await worker.stop(stopGraceMs);
      await listening;
    },
  };
}

function starting({ capacityRows }: ModelConfig): TrainingStatus {
  return {
    state: "starting",
    trainedOffset: 0,
    behind: 0,
    samples: 0,
    positives: 0,
    late: 0,
    unjoined: 0,
    openAnswers: 0,
    rows: 0,
    capacityRows,
    refusedRows: 0,
    samplesPerS: 0,
  };
}
