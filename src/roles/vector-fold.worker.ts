// One fold of a collection, in a process of its own: reads a version and the log, builds and stages a new version, says which. Wiring only; src/vectors/collection/fold.ts has the work.

import { openFolderBlobs } from "#backbone/folder-blobs";
import { ownCpuMs } from "#platform/own-cpu";
import { systemClock } from "#platform/system-clock";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import type { WorkerBody } from "#platform/workers";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { type BuiltVersion, vectorsKind } from "#vectors/builder/version-config";
import { type FoldJob, foldVersion } from "#vectors/collection/fold";
import { loadBase } from "#vectors/collection/load-base";
import { openDataFolder } from "./data-folder.ts";
import { blobsFolderOf } from "./import-process.ts";

export interface FoldProcessData {
  readonly job: FoldJob;
  readonly dataFolder: string;
  /** Of this fold alone. */
  readonly folder: string;
}

export type FromFold = { readonly share: number } | { readonly built: BuiltVersion };

/** Told at most so often. */
const tellMs = 500;
/** A fold publishes and is replaced by the next one: many may be kept while somebody reads them. */
const keepVersions = 3;
/** A step of a build may take long on a busy machine, and nothing renews a lease meanwhile. */
const buildLeaseMs = 120_000;

const body: WorkerBody = async ({ port, files, data, signal }) => {
  const { job, dataFolder, folder } = data as FoldProcessData;
  const backbone = await openDataFolder(dataFolder, "none");
  try {
    const { registry, log } = backbone;
    const blobs = openFolderBlobs({ files, folder: blobsFolderOf(dataFolder), processes: systemProcesses });
    const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: vectorsKind, keepVersions, buildLeaseMs });
    let toldMs = -Infinity;
    const built = await foldVersion(job, {
      snapshots,
      log,
      files,
      clock: systemClock,
      folder,
      cpuMs: ownCpuMs,
      loadBase: (manifest, fetched, pool, owner) => loadBase({ manifest, fetched, files, pool, owner }),
      onProgress: (share) => {
        const nowMs = systemClock.monotonicMs();
        if (nowMs - toldMs < tellMs) return;
        toldMs = nowMs;
        port.send({ share } satisfies FromFold);
      },
      signal,
    });
    port.send({ built } satisfies FromFold);
  } finally {
    await backbone.close();
  }
};

export default body;
