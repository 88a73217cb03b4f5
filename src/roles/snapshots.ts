// The snapshots of a data folder, for commands: its registry and blobs, opened for the length of one step.

import { openFolderBlobs } from "#backbone/folder-blobs";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { SnapshotControl } from "#snapshot/snapshot-control";
import { openDataFolder, requireDataFolder } from "./data-folder.ts";
import { blobsFolderOf } from "./import-process.ts";

/** How long a command that makes a version live waits until those who follow serve it. */
export const servedWaitMsMax = 60_000;

/** Runs one step on the snapshots of a data folder. Throws `not-found` for a folder that is none, and makes nothing there. */
export async function withSnapshots<T>(dataFolder: string, step: (control: SnapshotControl) => Promise<T>): Promise<T> {
  await requireDataFolder(dataFolder);
  const folder = await openDataFolder(dataFolder, "none");
  try {
    const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(dataFolder), processes: systemProcesses });
    return await step(new SnapshotControl({ blobs, registry: folder.registry, clock: systemClock, random: systemRandom }));
  } finally {
    await folder.close();
  }
}
