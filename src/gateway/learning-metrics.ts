// What the trainer and the ranker tell, under the names of docs/metrics.md. Read when somebody asks; nothing is counted here.
// A figure that is not known (no sample yet) is NaN, never 0.

import type { Histogram } from "#base/histogram";
import { rankingRequestKinds, type RankingMetrics } from "#ranking/ranking-metrics";
import type { TrainingStatus } from "#wire/live-api";
import { Family } from "./metric-families.ts";

export interface LearningGauge {
  readonly name: string;
  readonly help: string;
  readonly read: () => number | undefined;
}

export function learningGauges(training: () => TrainingStatus | undefined, ranking: RankingMetrics): LearningGauge[] {
  const of = (name: string, help: string, read: (status: TrainingStatus) => number | undefined): LearningGauge => ({
    name,
    help,
    read() {
      const status = training();
      return status === undefined ? undefined : read(status);
    },
  });
  const plain = (name: string, help: string, read: () => number): LearningGauge => ({ name, help, read });
  return [
    of("rec_training_learning", "1 while the model learns, 0 while it is off, stopped, starting or failed", ({ state }) => Number(state === "learning")),
    of("rec_training_stopped", "1 when training stopped itself or its thread died: alarm on it", ({ state }) =>
      Number(state === "stopped" || state === "failed"),
    ),
    of("rec_training_behind", "Records of the log that the trainer has not read", ({ behind }) => behind),
    of("rec_training_samples", "Samples learned or judged since the model began", ({ samples }) => samples),
    of("rec_training_positives", "Of these, clicked", ({ positives }) => positives),
    of("rec_training_late", "Actions after their window", ({ late }) => late),
    of("rec_training_unjoined", "Actions without an answer that showed the item", ({ unjoined }) => unjoined),
    of("rec_training_open_answers", "Answers whose window is open", ({ openAnswers }) => openAnswers),
    of("rec_model_rows", "Parameter rows", ({ rows }) => rows),
    of("rec_model_refused_rows", "Keys that found no memory for a row: alarm on any", ({ refusedRows }) => refusedRows),
    of("rec_model_checkpoint_offset", "Log offset of the newest checkpoint", ({ checkpointOffset }) => checkpointOffset),
    of("rec_model_sync_ready", "1 while a followed model is as new as its source, and where it is trained: alarm on it", ({ sync }) =>
      sync === undefined ? undefined : Number(sync.ready),
    ),
    of("rec_model_sync_age_seconds", "Of a followed model: age of the oldest step at its source that has not come", ({ sync }) =>
      sync === undefined || sync.sources.length === 0 ? undefined : Math.max(...sync.sources.map(({ ageMs }) => ageMs)) / 1_000,
    ),
    of("rec_model_sync_followers", "Servers that follow this one's model", ({ sync }) => sync?.followers.length),
    of("rec_model_sync_lag_seconds", "Age of the oldest step that one of them has not acknowledged", ({ sync }) =>
      sync === undefined ? undefined : Math.max(0, ...sync.followers.map(({ lagMs }) => lagMs)) / 1_000,
    ),
    of("rec_model_log_loss", "Prequential log loss of the newest minute", ({ recent }) => recent?.logLoss),
    of("rec_model_auc", "Prequential AUC of the newest minute", ({ recent }) => recent?.auc),
    of("rec_model_calibration", "Predicted over observed clicks of the newest minute; 1 is right", ({ recent }) => recent?.calibration),
    of("rec_counting_log_loss", "The same of the counting model", ({ recent }) => recent?.countingLogLoss),
    of("rec_counting_auc", "The same of the counting model", ({ recent }) => recent?.countingAuc),
    of("rec_counting_calibration", "The same of the counting model", ({ recent }) => recent?.countingCalibration),
    plain("rec_ranking_ready", "1 while the ranker answers", () => Number(ranking.ready)),
    plain("rec_ranking_requests", "Calls of the ranker since the start", () => rankingRequestKinds.reduce((sum, kind) => sum + ranking.requests[kind], 0)),
    plain("rec_ranking_timeouts", "Of these, not answered in time", () => ranking.timeouts),
    plain("rec_ranking_overloads", "Of these, refused because too many were under way", () => ranking.overloads),
    plain("rec_ranking_unavailable", "Of these, while the ranker was not there", () => ranking.unavailable),
    plain("rec_ranking_restarts", "Times the ranker was started again", () => ranking.restarts),
    plain("rec_ranking_under_way", "Calls under way", () => ranking.underWay),
  ];
}

/** Times of the ranker as histograms. */
export function rankingFamilies(ranking: RankingMetrics): Family<Histogram>[] {
  const family = (name: string, help: string, histogram: Histogram): Family<Histogram> => {
    const one = new Family(name, help, [], () => histogram, 1);
    one.with();
    return one;
  };
  return [
    family("rec_ranking_wait_seconds", "From a call of the ranker to its answer, less the computation", ranking.waitUs),
    family("rec_ranking_compute_seconds", "What the ranker spent on a call", ranking.computeUs),
    family("rec_ranking_rows", "Candidates of a call", ranking.rows),
  ];
}
