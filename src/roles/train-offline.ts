// Training without a server: joined samples out of a data folder into a file, and a model out of sample files or of a data folder's log, by the code that the
// server's trainer runs.
// Invariants: 1. a data folder is only read; it may be that of a running server  2. trained from a data folder, the checkpoint is the one that the server would
// have written at the same offset  3. from sample files it stands at offset 0: a server that starts from it takes its log in on top of what the files taught.
// 4. a data folder and its samples teach the same parameters; the figures of samples are a little too good, since each is judged just before its step and not when
// its answer was given.

import type { Log } from "#backbone/log";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { MillraceError } from "#base/errors";
import { decodeRecord } from "#features/activity-record";
import { activityPartition, type ModelConfig } from "#gateway/index";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { AnswerRecords } from "#training/answer-records";
import { writeCheckpoint } from "#training/checkpoint";
import { Joiner, type JoinerCounts } from "#training/joiner";
import type { QualityFigures } from "#training/quality-stretch";
import { readSampleFile, SampleFileWriter } from "#training/sample-file";
import { Trainer } from "#training/trainer";
import { isEmptyDataFolder } from "./data-folder.ts";
import { checkpointKindOf } from "./model-folder.ts";
import { createModel, trainingOptionsOf } from "./model-parts.ts";

const readBytes = 1 << 20;

function openForReading(dataFolder: string): Log {
  const registry = createMemoryRegistry({ clock: systemClock });
  return openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: systemFiles.join(dataFolder, "log"), durability: "none" });
}

/** Calls `take` with every record that the folder's log holds now, in order. */
async function eachRecord(log: Log, signal: AbortSignal, take: (bytes: Uint8Array, offset: number) => Promise<void> | undefined): Promise<void> {
  for (let offset = (await log.bounds(activityPartition)).first; ;) {
    signal.throwIfAborted();
    const found = await log.read(activityPartition, offset, readBytes);
    if (found === undefined) return;
    for (const [at, bytes] of found.records.entries()) {
      const waiting = take(bytes, found.firstOffset + at);
      if (waiting !== undefined) await waiting;
    }
    offset = found.firstOffset + found.records.length;
  }
}

async function checkDataFolder(folder: string): Promise<void> {
  if (!(await isEmptyDataFolder(folder))) return;
  throw new MillraceError("not-found", `${folder} holds no log`, { todo: "name the data folder of a server (millrace start --data)" });
}

export interface SamplesResult {
  readonly samples: number;
  readonly counts: JoinerCounts;
  /** Answers whose window is still open: they will make samples later. */
  readonly openAnswers: number;
}

/** Writes the joined samples of a data folder's log to a new file, whatever extractor made their features. `conflict` when `out` is there. */
export async function writeSamples(dataFolder: string, config: ModelConfig, out: string, signal: AbortSignal): Promise<SamplesResult> {
  await checkDataFolder(dataFolder);
  const log = openForReading(dataFolder);
  const options = trainingOptionsOf(config);
  try {
    const file = await SampleFileWriter.create(systemFiles, out);
    try {
      const answers = new AnswerRecords((offset, bytesMax) => log.read(activityPartition, offset, bytesMax), options.cacheBytesMax);
      // As the trainer: before the first window is over there would be positives and no negatives.
      const joiner: Joiner = new Joiner(options, undefined, answers, (sample) => {
        if (joiner.settled) file.add(sample);
      });
      await eachRecord(log, signal, (bytes, offset) => {
        const waiting = joiner.take(decodeRecord(bytes), bytes, offset);
        if (waiting === undefined && !file.full) return undefined;
        return (waiting ?? Promise.resolve()).then(() => file.drain());
      });
      await file.close();
      return { samples: file.samples, counts: joiner.counts, openAnswers: joiner.openAnswers };
    } catch (thrown) {
      // Half a file would look like a whole one. The first failure is what the caller must hear of.
      await file.close().catch(() => undefined);
      await systemFiles.remove(out).catch(() => false);
      throw thrown;
    }
  } finally {
    await log.close();
  }
}

export interface TrainResult {
  readonly quality: QualityFigures;
  readonly rows: number;
  /** Samples that could not be read, or of another extractor. */
  readonly unreadable: number;
  /** Why the guard stopped training; "" when it did not. */
  readonly stopped: string;
  readonly checkpointBytes: number;
}

/** Trains a new model from one data folder or from sample files, in their order, and writes its checkpoint into the folder `out`. */
export async function trainOffline(inputs: readonly string[], config: ModelConfig, out: string, signal: AbortSignal): Promise<TrainResult> {
  const folders = await Promise.all(inputs.map(async (input) => (await systemFiles.list(input).catch(() => undefined)) !== undefined));
  const isFolder = folders.includes(true);
  if (isFolder && inputs.length > 1) {
    throw new MillraceError("invalid", "a data folder and something else to train from", {
      todo: "name one data folder, or only sample files (millrace samples)",
    });
  }
  const { extractor, model } = createModel(config);
  const dataFolder = isFolder ? inputs[0]! : undefined;
  if (dataFolder !== undefined) await checkDataFolder(dataFolder);
  const log = dataFolder === undefined ? undefined : openForReading(dataFolder);
  try {
    const trainer = new Trainer({
      options: trainingOptionsOf(config),
      extractor,
      machine: model.machine,
      read: async (offset, bytesMax) => log?.read(activityPartition, offset, bytesMax),
    });
    if (log !== undefined) trainer.skipTo((await log.bounds(activityPartition)).first);
    if (log !== undefined) await eachRecord(log, signal, (bytes, offset) => trainer.take(bytes, offset));
    else {
      for (const path of inputs) {
        for await (const samples of readSampleFile(systemFiles, path)) {
          signal.throwIfAborted();
          for (const sample of samples) trainer.add(sample);
        }
      }
    }
    const parts = trainer.save();
    if (parts === undefined) {
      throw new MillraceError(
        "internal",
        `the trained model is not worth keeping: ${trainer.reason === "" ? "its log loss is unusually high" : trainer.reason}`,
        {
          todo: "look at the samples, or lower the rates in the configuration's section model",
        },
      );
    }
    const kind = checkpointKindOf(config, extractor);
    const checkpointBytes = await writeCheckpoint(systemFiles, systemClock, out, { ...kind, offset: trainer.offset, writtenMs: systemClock.nowMs(), parts });
    const { quality, machine, unreadable, state, reason } = trainer;
    return { quality: quality.total(), rows: machine.rowCount, unreadable, stopped: state === "stopped" ? reason : "", checkpointBytes };
  } finally {
    await log?.close();
  }
}
