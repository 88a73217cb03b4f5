// The loop of training over a data folder, as tests run it: in their own process, or in one that is going to be killed.

import { openEmbeddedLog } from "#backbone/embedded-log";
import type { Log } from "#backbone/log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Extractor } from "#extract/extractor";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { newMachine, streamDeclaration } from "./click-stream.fuzz.ts";
import { runTrainerLoop, type TrainerReport } from "./trainer-loop.ts";
import { trainingDefaults, type TrainingOptions } from "./trainer.ts";
import { TrainingSignals } from "./training-signals.ts";

export const partition = "activity";
/** Of the checkpoints it writes. */
export const runKind = { extractorId: Extractor.compile(streamDeclaration).id, optionsHash: 1 };

const training: TrainingOptions = {
  ...trainingDefaults,
  positiveTypes: ["click"],
  windowMs: 1_000,
  latenessMs: 5_000,
  earlyMs: 500,
  negativeRate: 0.5,
  cacheBytesMax: 20_000,
};

/** The folder's log, with small segments. */
export function openLog(folder: string): Log {
  const registry = createMemoryRegistry({ clock: systemClock });
  return openEmbeddedLog({
    files: systemFiles,
    clock: systemClock,
    registry,
    folder: systemFiles.join(folder, "log"),
    durability: "none",
    segmentBytesMax: 300_000,
  });
}

/** Runs the loop until it is stopped; `model` is the folder of its checkpoints below `folder`. */
export function run(
  folder: string,
  model: string,
  checkpointSeconds: number,
): { signals: TrainingSignals; reports: TrainerReport[]; stop: () => Promise<void> } {
  const log = openLog(folder);
  const signals = new TrainingSignals();
  const reports: TrainerReport[] = [];
  const stopping = new AbortController();
  const running = runTrainerLoop({
    log,
    partition,
    files: systemFiles,
    clock: systemClock,
    extractor: Extractor.compile(streamDeclaration),
    machine: newMachine(),
    training,
    folder: systemFiles.join(folder, model),
    optionsHash: runKind.optionsHash,
    checkpointSeconds,
    signals,
    report: (report) => reports.push(structuredClone(report)),
    signal: stopping.signal,
  });
  return {
    signals,
    reports,
    async stop() {
      stopping.abort();
      await running;
      await log.close();
    },
  };
}

/** Runs with a checkpoint every few milliseconds and tells how far it is, until it is killed. */
export async function runForKill(folder: string, tell: (line: string) => void): Promise<void> {
  const { signals } = run(folder, "model", 0.02);
  for (;;) {
    tell(`${signals.get("trained")}\n`);
    await systemClock.sleep(2);
  }
}
