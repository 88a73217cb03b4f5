// What the trainer says of itself, in the words of the API.

import type { ModelSync, TrainingStatus } from "#wire/live-api";
import type { Trainer } from "./trainer.ts";

export interface TrainerSurroundings {
  /** Offset behind the last record that the log is known to hold. */
  readonly head: number;
  readonly samplesPerS: number;
  readonly checkpoint?: { readonly atMs: number; readonly offset: number } | undefined;
  /** Where the machine may be followed. */
  readonly sync?: ModelSync | undefined;
}

/** The state after everything that was flushed. */
export function trainerStatus(trainer: Trainer, { head, samplesPerS, checkpoint, sync }: TrainerSurroundings): TrainingStatus {
  const { state, reason, offset, quality, joiner, machine } = trainer;
  const recent = quality.recent();
  const begins = state === "learning" && !trainer.settled;
  const why = begins ? waitsFor(joiner.begun) : reason;
  return {
    state: begins ? "starting" : state,
    ...(why === "" ? {} : { reason: why }),
    trainedOffset: offset,
    behind: Math.max(0, head - offset),
    samples: quality.samples,
    positives: quality.positives,
    late: joiner.counts.late,
    unjoined: joiner.counts.unjoined,
    openAnswers: joiner.openAnswers,
    rows: machine.rowCount,
    capacityRows: machine.capacityRows,
    refusedRows: machine.refused,
    samplesPerS,
    ...(checkpoint === undefined ? {} : { checkpointAtMs: checkpoint.atMs, checkpointOffset: checkpoint.offset }),
    ...(recent === undefined ? {} : { recent }),
    ...(sync === undefined ? {} : { sync }),
  };
}

function waitsFor(begun: boolean): string {
  return !begun
    ? "no answer of a pipeline that the model ranks is in the log yet: ask for recommendations"
    : "the first answers wait for their clicks; what was not clicked is known when that window is over, and learning begins then";
}
