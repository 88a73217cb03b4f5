// The vectors thread: opens the collections of the data folder and answers until it is asked to stop. Wiring only; src/vectors/host has the work.
//   DATA/registry.sqlite   which collections there are, heads of their versions (shared with the server)
//   DATA/log/vec-*         what was written
//   DATA/blobs             versions
//   DATA/vectors           versions that were fetched, work of folds

import { MillraceError } from "#base/errors";
import { openFolderBlobs } from "#backbone/folder-blobs";
import type { Durability } from "#backbone/log";
import { collectDropped } from "#kernel/collect-dropped";
import { warmKernels } from "#kernel/kernels";
import { MemoryPool } from "#kernel/memory-pool";
import { childRssBytesMin } from "#platform/child-processes";
import { giveWay } from "#platform/be-nicer";
import { collectGarbage } from "#platform/garbage";
import { LoopStallMeter } from "#platform/loop-stall";
import { moduleBeside } from "#platform/module-beside";
import { promptFiles } from "#platform/system-files";
import { systemChildProcesses } from "#platform/system-child-processes";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import { threadLoadMeter } from "#platform/thread-load";
import { type WorkerBody, standingBack } from "#platform/workers";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { type BuiltVersion, vectorsKind } from "#vectors/builder/version-config";
import { deltaPartition } from "#vectors/collection/collection-record";
import type { FoldJob } from "#vectors/collection/fold";
import type { AnswersMessage, CallsMessage } from "#vectors/host/vector-calls";
import { VectorHost } from "#vectors/host/vector-host";
import { vectorDefaults, type VectorsConfig } from "#wire/vector-config";
import { openDataFolder, servingCheckpointPages } from "./data-folder.ts";
import { blobsFolderOf } from "./import-process.ts";
import type { FoldProcessData, FromFold } from "./vector-fold.worker.ts";

/** What the thread is started with. */
export interface VectorsThreadData {
  readonly config: VectorsConfig;
  readonly dataFolder: string;
  readonly durability: Durability;
  readonly intervalMs?: number;
  readonly node: string;
  /** A thread before this one was open. */
  readonly hasServed: boolean;
}

/** How far back the longest stall in the status reaches. */
const stallSeconds = 30;
/** Of folds: they take only what nobody else wants. */
const foldNiceness = 19;

const body: WorkerBody = async ({ port, clock, files, data, signal }) => {
  const { config, dataFolder, durability, intervalMs, node, hasServed } = data as VectorsThreadData;
  const folder = files.join(dataFolder, "vectors");
  const backbone = await openDataFolder(dataFolder, durability, intervalMs, servingCheckpointPages, promptFiles());
  const { registry, log } = backbone;
  const blobs = openFolderBlobs({ files, folder: blobsFolderOf(dataFolder), processes: systemProcesses });
  const pool = new MemoryPool({ capBytes: (config.memoryMb ?? vectorDefaults.memoryMb) * 2 ** 20 });
  const collecting = collectDropped(pool, clock, collectGarbage, threadLoadMeter());
  // Compiled before anybody is answered: some 0.3 s of CPU.
  warmKernels("vectors");
  const stalls = new LoopStallMeter();
  stalls.start();
  // What a process of before left half done.
  await files.removeFolder(files.join(folder, "folds"));

  const fold = async (job: FoldJob, foldSignal: AbortSignal, onProgress: (share: number) => void): Promise<BuiltVersion> => {
    const name = deltaPartition(job.record.id);
    const child = systemChildProcesses.start(
      moduleBeside("./vector-fold.worker", import.meta.url),
      { job, dataFolder, folder: files.join(folder, "folds", name) } satisfies FoldProcessData,
      { name: `fold-${name}`, niceness: foldNiceness, rssBytesMax: Math.max(childRssBytesMin, job.memoryBytes) },
    );
    const onAbort = (): void => void child.stop(0).catch(() => undefined);
    foldSignal.addEventListener("abort", onAbort, { once: true });
    try {
      for (;;) {
        const message = (await child.receive()) as FromFold | undefined;
        if (message === undefined) break;
        if ("built" in message) return message.built;
        onProgress(message.share);
      }
      throw (await child.failed) ?? new MillraceError("internal", "a fold ended without a word", { todo: "report this" });
    } finally {
      foldSignal.removeEventListener("abort", onAbort);
      await child.stop().catch(() => undefined);
    }
  };

  const host = new VectorHost({
    config,
    clock,
    files,
    registry,
    log,
    snapshots: (keepVersions) => new SnapshotStore({ blobs, registry, clock, random: systemRandom, kind: vectorsKind, keepVersions }),
    random: systemRandom,
    workers: standingBack(systemWorkers),
    giveWay,
    node,
    hasServed,
    folder,
    pool,
    fold,
    tell: (message: AnswersMessage) => port.send(message),
    stallMs: () => Math.max(0, ...stalls.lastSecondsMs(stallSeconds)),
  });
  const listening = (async () => {
    for (;;) {
      const message = (await port.receive()) as CallsMessage | undefined;
      if (message === undefined) return;
      host.hear(message);
    }
  })();
  try {
    await host.run(signal);
    await listening;
  } finally {
    stalls.stop();
    collecting.stop();
    await backbone.close();
  }
};

export default body;
