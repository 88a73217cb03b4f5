// A builder of vector tasks, in a server or as a process of its own (`millrace builder`): takes tasks by lease, has each built by a child at low priority under its memory cap. Wiring only.
// Any number of builders share the tasks of a data folder.

import type { Registry } from "#backbone/registry";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { MillraceError } from "#base/errors";
import { readSchema } from "#features/tables/schema-registry";
import { moduleBeside } from "#platform/module-beside";
import { systemChildProcesses } from "#platform/system-child-processes";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { processId } from "#platform/system-process";
import { systemProcesses } from "#platform/system-processes";
import { randomId, systemRandom } from "#platform/system-random";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { TaskBoard } from "#vectors/builder/task-board";
import { TaskBuilder, type TaskBuilt, type TaskToBuild } from "#vectors/builder/task-builder";
import { TaskControl, type TaskWorld } from "#vectors/builder/task-control";
import { type BuildProgress, type BuiltVersion, vectorsKind } from "#vectors/builder/version-config";
import { vectorTaskDefaults } from "#wire/vector-task-config";
import { openDataFolder, requireDataFolder } from "./data-folder.ts";
import { blobsFolderOf, importNiceness } from "./import-process.ts";
import type { VectorBuildMessage } from "./vector-build.worker.ts";
import type { VectorBuildOptions } from "./vector-build.ts";

export interface BuilderOptions {
  readonly registry: Registry;
  readonly dataFolder: string;
  /** Builds at once. Default 1. */
  readonly slots?: number;
  /** Threads of a build. Default: as many as there are cores, at most 4. */
  readonly threads?: number;
  /** Where files of tasks that came over HTTP may lie. */
  readonly folders: readonly string[];
  /** Address of the server whose tables tasks read. A function: of one that is not up yet. */
  readonly server: () => string | undefined;
  readonly token?: string;
  /** For the operator's log: builds that failed or were refused, and what hinders the builder. */
  readonly warn: (message: string) => void;
}

export interface Builder {
  readonly name: string;
  readonly running: readonly string[];
  /** Ends builds under way; others, or this one when it starts again, begin them anew. */
  stop(): Promise<void>;
}

/** How long a child may take to end when its build is stopped. */
const graceMs = 5_000;

/** Starts a builder; it works until it is stopped. */
export function startBuilder(options: BuilderOptions): Builder {
  const { registry, dataFolder, folders, slots, threads, server, token, warn } = options;
  const name = `builder-${processId}-${randomId(systemRandom, 4)}`;
  const builder = new TaskBuilder({
    board: new TaskBoard(registry),
    clock: systemClock,
    files: systemFiles,
    builder: name,
    folders,
    ...(slots === undefined ? {} : { slots }),
    onAlarm: ({ task, verdict, reasons }) =>
      warn(`vector task ${task}: the build ${verdict === "refused" ? "was refused" : "failed"}: ${reasons.slice(0, 3).join("; ")}`),
    build: (task, onProgress, signal) => {
      const address = server();
      return buildInChild(
        {
          dataFolder,
          task,
          folders,
          ...(threads === undefined ? {} : { threads }),
          ...(address === undefined ? {} : { server: address }),
          ...(token === undefined ? {} : { token }),
        },
        onProgress,
        signal,
      );
    },
  });
  const working = builder.run();
  return {
    name,
    get running() {
      return builder.running;
    },
    async stop() {
      builder.stop();
      await working;
    },
  };
}

/** One build in a process of its own. Rejects with what the build threw, `overloaded` when it took more memory than the task allows, the signal's reason. */
async function buildInChild(work: VectorBuildOptions, onProgress: (progress: BuildProgress) => void, signal: AbortSignal): Promise<TaskBuilt> {
  const task: TaskToBuild = work.task;
  const { memoryMb = vectorTaskDefaults.memoryMb } = task.config;
  signal.throwIfAborted();
  const child = systemChildProcesses.start(moduleBeside("./vector-build.worker", import.meta.url), work, {
    name: `build-${task.task}`.slice(0, 64),
    niceness: importNiceness,
    rssBytesMax: memoryMb * 2 ** 20,
  });
  const stop = (): void => void child.stop(graceMs);
  signal.addEventListener("abort", stop, { once: true });
  try {
    let built: BuiltVersion | undefined;
    for (;;) {
      const message = (await child.receive()) as VectorBuildMessage | undefined;
      if (message === undefined) break;
      if ("progress" in message) onProgress(message.progress);
      else built = message.built;
    }
    const failure = await child.failed;
    // What was built is built, however its process ended.
    if (built !== undefined) {
      const { cpuMs, rssBytesPeak } = child.usage();
      return { ...built, cpuMs, rssBytesPeak };
    }
    signal.throwIfAborted();
    throw failure ?? new MillraceError("internal", `the process that built ${task.task} ended without an answer`);
  } finally {
    signal.removeEventListener("abort", stop);
    await child.stop(graceMs);
  }
}

/** The tasks of a data folder, for HTTP (`restricted`) and commands. `world`: what a server knows better than the registry, which has the tables of the last start. */
export function vectorTaskControl(registry: Registry, dataFolder: string, restricted = false, world: TaskWorld = {}): TaskControl {
  const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(dataFolder), processes: systemProcesses });
  const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: vectorsKind });
  return new TaskControl({
    registry,
    snapshots,
    clock: systemClock,
    restricted,
    world: { columnsOf: async (table) => (await readSchema(registry, table))?.columns ?? null, ...world },
  });
}

/** Runs one step on the tasks of a data folder, whose server may be running. Throws `not-found` for a folder that is none, and makes nothing there. */
export async function withVectorTasks<T>(dataFolder: string, step: (control: TaskControl) => Promise<T>): Promise<T> {
  await requireDataFolder(dataFolder);
  const folder = await openDataFolder(dataFolder, "none");
  try {
    return await step(vectorTaskControl(folder.registry, dataFolder));
  } finally {
    await folder.close();
  }
}

/** A builder as a process of its own, until `signal`. Throws `not-found` for a folder that is none. */
export async function runBuilder(
  options: Omit<BuilderOptions, "registry" | "server"> & { readonly server?: string; readonly signal: AbortSignal; readonly onStart: (name: string) => void },
): Promise<void> {
  const { dataFolder, signal, server } = options;
  await requireDataFolder(dataFolder);
  const folder = await openDataFolder(dataFolder, "none");
  try {
    const builder = startBuilder({ ...options, registry: folder.registry, server: () => server });
    options.onStart(builder.name);
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await builder.stop();
  } finally {
    await folder.close();
  }
}
