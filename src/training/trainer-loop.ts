// The loop of the trainer's thread: reads the activity log behind the serving loop, learns, keeps the item vectors true, says how far it is, writes checkpoints.
//
//   log --slices--> trainer.take ... flush (steps, vectors of the samples' items) --> `trained`, `vectors` published --> (sweep, report, checkpoint when due) --> again
//
// Waiting: woken by the shared word `head`, and every `pollMs` in any case, since the log may be written by somebody who knows nothing of the word.
// Invariants: 1. `trained` is published after the steps and before any waiting, `vectors` once the items of the same samples have their new vectors  2. what is published never falls
// 3. cutting into slices changes nothing of what is learned (trainer.ts)  4. one checkpoint is written at a time, beside training, of one moment; a failed one
// is told and tried again when the next is due  5. at the signal it stops behind the slice under way, writes a checkpoint and returns.
// Cost: at rest one look at the folder every `pollMs`. A save copies the tables (some 100 ms for 400,000 rows) and is the longest pause of learning.
// 6. followers are pushed what was learned once the vectors stand, and what was taken back.
// Concurrency: one thread, the writer of machine and vectors.

import type { Log } from "#backbone/log";
import { MillraceError, toMillraceError } from "#base/errors";
import type { Extractor } from "#extract/extractor";
import type { FactorisationMachine } from "#models/factorisation-machine";
import type { LedModel } from "#models/model-sync";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { QualityPoint, TrainingStatus } from "#wire/live-api";
import { type Checkpoint, type CheckpointKind, checkpointsKept, restoreNewest, writeCheckpoint } from "./checkpoint.ts";
import { type ItemVectors, sweepItemsPerSecond } from "./item-vectors.ts";
import { qualityWidths } from "./quality-history.ts";
import { trainerStatus } from "./trainer-status.ts";
import { Trainer, type TrainerState, type TrainingOptions } from "./trainer.ts";
import type { TrainingSignals } from "./training-signals.ts";

export interface TrainerLoopOptions {
  readonly log: Log;
  readonly partition: string;
  readonly files: Files;
  readonly clock: Clock;
  readonly extractor: Extractor;
  readonly machine: FactorisationMachine;
  /** Absent: nobody searches vectors (files, benches). */
  readonly vectors?: ItemVectors;
  readonly training: TrainingOptions;
  /** Folder of checkpoints. */
  readonly folder: string;
  /** `optionsHash` of the model's and the training's options. */
  readonly optionsHash: number;
  readonly checkpointSeconds: number;
  readonly signals: TrainingSignals;
  /** Lets others follow the machine from now on: called once it is restored, before anything is learned. Absent: nobody follows it. */
  readonly lead?: () => Promise<LedModel>;
  readonly report: (report: TrainerReport) => void;
  readonly signal: AbortSignal;
}

/** What the loop tells, about once a second. */
export type TrainerReport =
  | { readonly kind: "status"; readonly status: TrainingStatus }
  /** Closed stretches, oldest first; after a start all that the checkpoint held. */
  | { readonly kind: "quality"; readonly width: number; readonly points: readonly QualityPoint[] }
  | { readonly kind: "warning"; readonly message: string }
  /** The log is needed from this offset on, by a start from the newest checkpoints. */
  | { readonly kind: "needs"; readonly offset: number }
  /** The vectors of all items have been written once: searching them makes sense. */
  | { readonly kind: "ready" }
  /** Whoever follows the machine connects to this port of this machine (SyncPort.passOn). */
  | { readonly kind: "followed"; readonly port: number };

/** Longest wait for the word `head`. */
const pollMs = 20;
/** Bytes of log a slice; small when the trainer is near the head, so that what is learned shows at once. */
const sliceBytes = 64 * 1024;
const reportMs = 1_000;
/** Points of quality in one message. */
const pointsPerReportMax = 2_000;
/** Items swept in one go: about 1 ms. */
const sweepBatchMax = 500;

/** Runs until the signal. Throws when the log or the folder cannot be read (`corrupt`, `unavailable`, `unsupported`). */
export async function runTrainerLoop(options: TrainerLoopOptions): Promise<void> {
  const loop = new TrainerLoop(options);
  await loop.start();
  await loop.run();
}

class TrainerLoop {
  readonly #options: TrainerLoopOptions;
  readonly #kind: CheckpointKind;
  #trainer: Trainer;
  #checkpoint: { offset: number; atMs: number } | undefined;
  /** From where the log is needed by the checkpoints that were written or loaded, oldest first. */
  #needs: number[] = [];
  #checkpointDueMs = 0;
  #writing: Promise<void> | undefined;
  #reportDueMs = 0;
  #samplesReported = 0;
  #stateReported: TrainerState | undefined;
  #reportedMs = 0;
  /** Begin of the newest reported stretch of each width. */
  readonly #pointsReported = qualityWidths.map(() => -Infinity);
  #sweptMs = 0;
  /** Until the sweep has completed this round, it goes as fast as learning allows. */
  #roundWanted = 1;
  #ready = false;
  #led: LedModel | undefined;

  constructor(options: TrainerLoopOptions) {
    this.#options = options;
    this.#kind = { extractorId: options.extractor.id, optionsHash: options.optionsHash };
    this.#trainer = this.#newTrainer();
  }

  #newTrainer(): Trainer {
    const { training, extractor, machine, log, partition, vectors } = this.#options;
    return new Trainer({
      options: training,
      extractor,
      machine,
      read: (offset, bytesMax) => log.read(partition, offset, bytesMax),
      learned: (samples) => {
        vectors?.learned(samples);
        // Before anything is waited for: a comparison in between would find rows that no version tells of.
        this.#led?.written();
      },
      rolledBack: () => {
        this.#led?.rolledBack();
        vectors?.startOver();
        this.#roundWanted = (vectors?.rounds ?? 0) + 1;
      },
    });
  }

  /** Goes on from the newest good checkpoint; writes one at once when there is none, so that there always is one to go back to. */
  async start(): Promise<void> {
    const { files, folder, clock, signals, report } = this.#options;
    // What the log has lost (a power cut, a copy that was put back) was not learned either: an offset that comes again is another record.
    const { first, next } = await this.#options.log.bounds(this.#options.partition);
    const restored = await restoreNewest(
      files,
      folder,
      this.#kind,
      (checkpoint) => {
        if (checkpoint.offset > next) {
          throw new MillraceError("corrupt", `it has learned up to offset ${checkpoint.offset}, the log ends at ${next}`, {
            todo: "nothing: an older checkpoint is taken, or training begins anew from the log",
          });
        }
        const trainer = this.#newTrainer();
        trainer.load(checkpoint);
        this.#trainer = trainer;
      },
      (message) => report({ kind: "warning", message }),
    );
    if (restored === undefined) this.#trainer = this.#newTrainer();
    if (this.#trainer.offset < first) {
      report({ kind: "warning", message: `records ${this.#trainer.offset} to ${first} of the log were trimmed: what they say is not learned` });
      this.#trainer.skipTo(first);
    }
    this.#led = await this.#options.lead?.();
    if (this.#led !== undefined) report({ kind: "followed", port: await this.#led.listen() });
    if (restored === undefined) {
      this.#startCheckpoint();
      await this.#writing;
    } else {
      this.#checkpoint = { offset: restored.offset, atMs: restored.writtenMs };
      this.#need(this.#trainer.neededOffset);
    }
    const nowMs = clock.monotonicMs();
    this.#checkpointDueMs = nowMs + this.#options.checkpointSeconds * 1_000;
    this.#samplesReported = this.#trainer.quality.samples;
    this.#reportedMs = nowMs;
    this.#sweptMs = nowMs;
    signals.publish("trained", this.#trainer.offset);
    this.#report(nowMs);
  }

  async run(): Promise<void> {
    const { log, partition, clock, signals, signal } = this.#options;
    const stopped = (): void => signals.wake("head");
    signal.addEventListener("abort", stopped);
    try {
      while (!signal.aborted) {
        const from = this.#trainer.offset;
        const found = await log.read(partition, from, sliceBytes);
        if (found !== undefined) {
          for (const [at, bytes] of found.records.entries()) {
            const waiting = this.#trainer.take(bytes, found.firstOffset + at);
            if (waiting !== undefined) await waiting;
          }
        }
        this.#trainer.flush();
        if (found !== undefined) {
          signals.publish("trained", this.#trainer.offset);
          signals.publish("vectors", this.#trainer.offset);
        }
        const sweeping = this.#sweep();
        this.#due();
        if (found === undefined) await signals.changed("head", from, sweeping ? 1 : pollMs);
        else await clock.yield();
      }
    } finally {
      signal.removeEventListener("abort", stopped);
      await this.#led?.close();
      await this.#writing;
    }
    this.#startCheckpoint();
    await this.#writing;
    this.#report(clock.monotonicMs());
  }

  /** Rewrites vectors in turn. True while it is in a hurry. */
  #sweep(): boolean {
    const { vectors, clock, report } = this.#options;
    if (vectors === undefined) return false;
    const hurry = vectors.rounds < this.#roundWanted;
    const nowMs = clock.monotonicMs();
    // What was missed while learning took all the time is not made up for.
    const due = Math.floor(((nowMs - this.#sweptMs) / 1_000) * sweepItemsPerSecond);
    const batch = hurry ? sweepBatchMax : Math.min(sweepBatchMax, due);
    vectors.followChanges();
    if (batch === 0) return false;
    this.#sweptMs = nowMs;
    vectors.sweep(batch);
    if (vectors.rounds < this.#roundWanted) return true;
    if (!this.#ready) report({ kind: "ready" });
    this.#ready = true;
    return false;
  }

  #due(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs >= this.#checkpointDueMs && this.#writing === undefined) {
      this.#checkpointDueMs = nowMs + this.#options.checkpointSeconds * 1_000;
      if (this.#checkpoint?.offset !== this.#trainer.offset) this.#startCheckpoint();
    }
    // A change of state is told at once: somebody has just asked for it, or must hear of it.
    if (nowMs >= this.#reportDueMs || this.#trainer.state !== this.#stateReported) this.#report(nowMs);
  }

  #startCheckpoint(): void {
    const { files, clock, folder, report } = this.#options;
    if (this.#checkpoint?.offset === this.#trainer.offset) return;
    const parts = this.#trainer.save();
    if (parts === undefined) {
      const why = this.#trainer.reason === "" ? "the log loss is unusually high" : this.#trainer.reason;
      report({ kind: "warning", message: `no checkpoint was written now, the one before stands: ${why}` });
      return;
    }
    const needed = this.#trainer.neededOffset;
    const checkpoint: Checkpoint = { ...this.#kind, offset: this.#trainer.offset, writtenMs: clock.nowMs(), parts };
    this.#writing = writeCheckpoint(files, clock, folder, checkpoint).then(
      () => {
        this.#checkpoint = { offset: checkpoint.offset, atMs: checkpoint.writtenMs };
        this.#writing = undefined;
        this.#need(needed);
      },
      (thrown: unknown) => {
        this.#writing = undefined;
        const error: MillraceError = toMillraceError(thrown, "a checkpoint could not be written");
        report({ kind: "warning", message: `no checkpoint was written, the one before stands: ${error.message}` });
      },
    );
  }

  /** One more checkpoint stands, which needs the log from `offset` on; a start may have to go back to any that is kept. */
  #need(offset: number): void {
    this.#needs = [...this.#needs, offset].slice(-checkpointsKept);
    this.#options.report({ kind: "needs", offset: Math.min(...this.#needs) });
  }

  #report(nowMs: number): void {
    const { report } = this.#options;
    this.#reportDueMs = nowMs + reportMs;
    for (const width of qualityWidths.keys()) {
      const points = this.#trainer.quality.history.after(width, this.#pointsReported[width]!);
      for (let from = 0; from < points.length; from += pointsPerReportMax) {
        report({ kind: "quality", width, points: points.slice(from, from + pointsPerReportMax) });
      }
      this.#pointsReported[width] = points.at(-1)?.atMs ?? this.#pointsReported[width]!;
    }
    const { samples } = this.#trainer.quality;
    const seconds = (nowMs - this.#reportedMs) / 1_000;
    const samplesPerS = seconds > 0 ? (samples - this.#samplesReported) / seconds : 0;
    this.#samplesReported = samples;
    this.#reportedMs = nowMs;
    const head = this.#options.signals.get("head");
    this.#stateReported = this.#trainer.state;
    report({ kind: "status", status: trainerStatus(this.#trainer, { head, samplesPerS, checkpoint: this.#checkpoint, sync: this.#led?.status() }) });
  }
}
