// One build of a vector task against a data folder. Wiring only.
//   DATA/registry.sqlite   the collection's record, head
//   DATA/log/vec-ID        writes of the collection: a version says from where on they are newer
//   DATA/blobs             versions
//   DATA/vectors/builds    work folders
// Invariant: the offset of the log is read before the first row is, and is that of the first attempt when builders were killed: a write made during any of them is newer than what is built.

import { MillraceError } from "#base/errors";
import { openFolderBlobs } from "#backbone/folder-blobs";
import type { Log } from "#backbone/log";
import type { Registry } from "#backbone/registry";
import { ownCpuMs } from "#platform/own-cpu";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { machineCores } from "#platform/system-process";
import { systemProcesses } from "#platform/system-processes";
import { randomId, systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { buildVersion } from "#vectors/builder/build-version";
import { TaskBoard, type TaskDelta } from "#vectors/builder/task-board";
import type { TaskToBuild } from "#vectors/builder/task-builder";
import { type BuildProgress, type BuiltVersion, vectorsKind } from "#vectors/builder/version-config";
import { deltaPartition, newCollectionId, putCollection, readCollection, snapshotNameOf } from "#vectors/collection/collection-record";
import type { CollectionShape } from "#vectors/vector-service";
import { collectionOf, vectorTaskDefaults } from "#wire/vector-task-config";
import { openDataFolder } from "./data-folder.ts";
import { blobsFolderOf } from "./import-process.ts";
import { openVectorSource } from "./vector-sources.ts";

export interface VectorBuildOptions {
  readonly dataFolder: string;
  readonly task: TaskToBuild;
  /** For tasks that came over HTTP. */
  readonly folders: readonly string[];
  readonly server?: string;
  readonly token?: string;
  /** That compute at once. Default: as many as there are cores, at most `buildThreadsMaxDefault`. */
  readonly threads?: number;
}

/** A step of a build may take long on a busy machine where everybody else goes first, and nothing renews a lease meanwhile. */
const buildLeaseMs = 120_000;
/** Threads that compute at once, on a machine of so many cores: the child stands back behind everything else, and more bring less. */
const buildThreadsMaxDefault = 4;
/** What Node and its libraries take beside the build. */
const processBytes = 160 << 20;

/** Where builds lay out files until they are moved into the blobs. */
export function vectorBuildsFolderOf(dataFolder: string): string {
  return systemFiles.join(dataFolder, "vectors", "builds");
}

/** Builds and publishes. Throws what the source and `buildVersion` throw. */
export async function buildVectorTask(
  options: VectorBuildOptions,
  watch: { readonly signal: AbortSignal; readonly onProgress: (progress: BuildProgress, nowMs: number) => void },
): Promise<BuiltVersion> {
  const { dataFolder, task, folders, server, token, threads = Math.min(machineCores(), buildThreadsMaxDefault) } = options;
  const { config } = task;
  const {
    metric = vectorTaskDefaults.metric,
    recallTarget = vectorTaskDefaults.recallTarget,
    recallAt = vectorTaskDefaults.recallAt,
    live = vectorTaskDefaults.live,
  } = config;
  const { keepVersions = vectorTaskDefaults.keepVersions, memoryMb = vectorTaskDefaults.memoryMb, lists, checks } = config;
  const memoryBytes = Math.max(32 << 20, memoryMb * 2 ** 20 - processBytes);
  const data = await openDataFolder(dataFolder, "none");
  const folder = systemFiles.join(vectorBuildsFolderOf(dataFolder), `${task.task}-${randomId(systemRandom, 8)}`);
  try {
    const { registry, log } = data;
    const collection = collectionOf(task.task, config);
    // Before anything is read; of the first attempt, when a builder was killed: what was written since then is newer still.
    const begun = await new TaskBoard(registry).firstDelta(task.task, await deltaNow(registry, log, collection));
    const inputs = systemFiles.join(folder, "inputs");
    await systemFiles.makeFolder(inputs);
    const source = await openVectorSource(config.source, {
      dataFolder,
      folder: inputs,
      memoryBytes,
      folders: task.restricted ? folders : undefined,
      server,
      token,
    });
    try {
      if (config.dims !== undefined && config.dims !== source.dims) {
        throw new MillraceError("invalid", `the source has vectors of ${source.dims} numbers, the task says ${config.dims}`, {
          todo: "correct the task, or the source",
        });
      }
      const { deltaOffset, deltaLog } = await deltaOf(registry, log, collection, { dims: source.dims, metric }, begun);
      const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(dataFolder), processes: systemProcesses });
      const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: vectorsKind, keepVersions, buildLeaseMs });
      return await buildVersion(
        source,
        {
          collection: snapshotNameOf(collection),
          metric,
          recallTarget,
          recallAt,
          deltaOffset,
          deltaLog,
          live,
          memoryBytes,
          ...(lists === undefined ? {} : { lists }),
          ...(checks === undefined ? {} : { checks }),
        },
        {
          snapshots,
          files: systemFiles,
          clock: systemClock,
          folder: systemFiles.join(folder, "version"),
          cpuMs: ownCpuMs,
          threads: { workers: systemWorkers, count: threads },
          signal: watch.signal,
          onProgress: (progress) => watch.onProgress(progress, systemClock.monotonicMs()),
        },
      );
    } finally {
      await source.close();
    }
  } finally {
    await systemFiles.removeFolder(folder).catch(() => undefined);
    await data.close();
  }
}

/** Where the collection's log stands. */
async function deltaNow(registry: Registry, log: Log, name: string): Promise<TaskDelta> {
  const stored = await readCollection(registry, name);
  return stored === undefined ? { log: null, offset: 0 } : { log: stored.record.id, offset: (await log.bounds(deltaPartition(stored.record.id))).next };
}

/** From where on the collection's log is newer than the build; makes the collection when there is none. Throws `conflict` for one of another shape. */
async function deltaOf(
  registry: Registry,
  log: Log,
  name: string,
  shape: CollectionShape,
  begun: TaskDelta,
): Promise<{ readonly deltaOffset: number; readonly deltaLog: number }> {
  const made = { name, id: newCollectionId(systemRandom), ...shape, state: "open" as const, madeMs: systemClock.nowMs() };
  // Whoever makes it at the same time is as good.
  const stored = (await readCollection(registry, name)) ?? (await putCollection(registry, made, 0)) ?? (await readCollection(registry, name));
  if (stored === undefined || stored.record.state === "dropping") {
    throw new MillraceError("conflict", `collection ${name} is being dropped`, { todo: "run the task again when it is gone" });
  }
  const { record } = stored;
  if (record.dims !== shape.dims || record.metric !== shape.metric) {
    throw new MillraceError(
      "conflict",
      `collection ${name} has vectors of ${record.dims} numbers compared by ${record.metric}, the task builds ${shape.dims} by ${shape.metric}`,
      {
        todo: "correct the task, build another collection, or drop this one",
      },
    );
  }
  // A collection made since the build began has newer writes alone; what the log has forgotten since then nobody can give back.
  const { first } = await log.bounds(deltaPartition(record.id));
  return { deltaOffset: begun.log === record.id ? Math.max(first, begun.offset) : first, deltaLog: record.id };
}
