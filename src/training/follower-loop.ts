// The loop of the thread that holds a followed model: another server trains it, its rows come here as they are learned. Keeps the item vectors true to them and says how far it is.
//
// Invariants: 1. a row that came is read by every thread before this one returns; the vectors of the items whose own rows came follow in the same turn, those of shared rows by the sweep
// 2. nothing here learns, and the log is not read.
// Cost: at rest a look every `pollMs`. Concurrency: one thread, the writer of machine and vectors.

import type { FactorisationMachine } from "#models/factorisation-machine";
import type { FollowedModel } from "#models/model-sync";
import type { Clock } from "#platform/clock";
import type { TrainingStatus } from "#wire/live-api";
import { type ItemVectors, sweepItemsPerSecond } from "./item-vectors.ts";
import type { TrainerReport } from "./trainer-loop.ts";

export interface FollowerLoopOptions {
  readonly model: FollowedModel;
  readonly machine: FactorisationMachine;
  readonly vectors: ItemVectors;
  readonly clock: Clock;
  readonly report: (report: TrainerReport) => void;
  readonly signal: AbortSignal;
}

const pollMs = 20;
const reportMs = 1_000;
/** Between reports until the model may be used. */
const firstReportMs = 50;
/** Between two looks at what keeps sources from being followed, for the log. */
const faultMs = 5_000;
/** Items swept in one go: about 1 ms. */
const sweepBatchMax = 500;

/** Runs until the signal. */
export async function runFollowerLoop({ model, machine, vectors, clock, report, signal }: FollowerLoopOptions): Promise<void> {
  let reportDueMs = -Infinity;
  let faultDueMs = clock.monotonicMs() + faultMs;
  let told = "";
  let ready = false;
  let sweptMs = clock.monotonicMs();
  /** Rounds after which every item has a vector of the rows that were loaded. */
  let roundWanted = Infinity;
  try {
    report({ kind: "followed", port: await model.listen() });
    while (!signal.aborted) {
      const nowMs = clock.monotonicMs();
      vectors.followChanges();
      if (model.usable && roundWanted === Infinity) {
        vectors.startOver();
        roundWanted = vectors.rounds + 1;
      }
      const hurry = roundWanted !== Infinity && vectors.rounds < roundWanted;
      const due = hurry ? sweepBatchMax : Math.min(sweepBatchMax, Math.floor(((nowMs - sweptMs) / 1_000) * sweepItemsPerSecond));
      if (due > 0) {
        sweptMs = nowMs;
        vectors.sweep(due);
      }
      if (!ready && vectors.rounds >= roundWanted) {
        ready = true;
        reportDueMs = -Infinity;
        report({ kind: "ready" });
      }
      if (nowMs >= reportDueMs) {
        reportDueMs = nowMs + (ready ? reportMs : firstReportMs);
        report({ kind: "status", status: statusOf(model, machine) });
      }
      if (nowMs >= faultDueMs) {
        faultDueMs = nowMs + faultMs;
        const faults = faultsOf(model);
        if (faults !== told)
          report({ kind: "warning", message: faults === "" ? "the model's source is followed again" : `the model is not followed: ${faults}` });
        told = faults;
      }
      if (hurry) await clock.yield();
      else await clock.sleep(pollMs, signal).catch(() => undefined);
    }
  } finally {
    await model.close();
  }
}

function faultsOf(model: FollowedModel): string {
  const { sources } = model.status();
  return sources.flatMap(({ address, fault }) => (fault === undefined ? [] : [`${address}: ${fault}`])).join("; ");
}

function statusOf(model: FollowedModel, machine: FactorisationMachine): TrainingStatus {
  const sync = model.status();
  const reason = model.usable
    ? undefined
    : `its rows are being loaded from ${sync.sources.map(({ address }) => address).join(", ")}; until they are here, counts rank`;
  return {
    state: "following",
    ...(reason === undefined ? {} : { reason }),
    trainedOffset: 0,
    behind: 0,
    samples: 0,
    positives: 0,
    late: 0,
    unjoined: 0,
    openAnswers: 0,
    rows: machine.rowCount,
    capacityRows: machine.capacityRows,
    refusedRows: machine.refused,
    samplesPerS: 0,
    sync,
  };
}
