// The trainer's thread: joins the live model, opens the data folder's log for reading and runs the loop of src/training/trainer-loop.ts. Wiring only.
// It never writes the log, so it takes no lock: the registry that the log asks for is one of its own.

import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { warmKernels } from "#kernel/kernels";
import { LiveModel, modelLane } from "#models/live-model";
import { LedModel } from "#models/model-sync";
import type { WorkerBody } from "#platform/workers";
import { ItemVectors } from "#training/item-vectors";
import { runTrainerLoop } from "#training/trainer-loop";
import { TrainingSignals } from "#training/training-signals";
import { extractorOf, trainingOptionsOf } from "./model-parts.ts";
import { modelSyncOptionsOf } from "./model-syncing.ts";
import { checkpointKindOf, modelFolder } from "./model-folder.ts";
import type { TrainerThreadData } from "./training.ts";

const body: WorkerBody = async ({ port, clock, files, data, signal }) => {
  const { config, dataFolder, partition, ticket, signals, sync } = data as TrainerThreadData;
  const log = openEmbeddedLog({ files, clock, registry: createMemoryRegistry({ clock }), folder: files.join(dataFolder, "log"), durability: "none" });
  const model = LiveModel.attach(ticket, modelLane.trainer);
  const extractor = extractorOf(config);
  warmKernels("parameters");
  try {
    await runTrainerLoop({
      log,
      partition,
      files,
      clock,
      extractor,
      machine: model.machine,
      vectors: new ItemVectors(model),
      training: trainingOptionsOf(config),
      folder: modelFolder(files, dataFolder),
      optionsHash: checkpointKindOf(config, extractor).optionsHash,
      checkpointSeconds: config.checkpointSeconds,
      signals: new TrainingSignals(signals),
      ...(sync === undefined
        ? {}
        : { lead: () => LedModel.open(modelSyncOptionsOf(config, sync, model, extractor, clock), files, modelFolder(files, dataFolder)) }),
      report: (report) => port.send(report),
      signal,
    });
  } finally {
    await log.close();
  }
};

export default body;
