// What a server needs of imports without the importer itself: where things lie, and how an import is started in a child. The importer brings DuckDB, 70 MB that a server that only
// serves must not load.

import type { ImportAsk } from "#features/import/import-jobs";
import { moduleBeside } from "#platform/module-beside";
import { systemChildProcesses } from "#platform/system-child-processes";
import { systemFiles } from "#platform/system-files";
import { randomId, systemRandom } from "#platform/system-random";
import type { RunningWorker } from "#platform/workers";

/** Partition of the log in which tables' live writes stand. */
export const tableLogPartition = "table-log";
/** Of readers and builders: below everything that serves. Measured: beside a process of niceness 10 on its core one turn of a serving loop in a hundred began 0.4 to 2 ms late, of 19 0.3 ms. */
export const importNiceness = 19;

/** Where the versions of a data folder lie. */
export function blobsFolderOf(dataFolder: string): string {
  return systemFiles.join(dataFolder, "blobs");
}

/** Where the work of imports and their reject files lie. */
export function importFolderOf(dataFolder: string): string {
  return systemFiles.join(dataFolder, "import");
}

/** A name for an import on the board. */
export function newImportJob(): string {
  return `import-${randomId(systemRandom, 10)}`;
}

/** For ImportJobs of a server: the whole import in a child, which has children of its own. */
export function startImportProcess(options: {
  dataFolder: string;
  folders: readonly string[];
  memoryBytes?: number;
}): (ask: ImportAsk, job: string) => RunningWorker {
  return (ask, job) =>
    systemChildProcesses.start(
      moduleBeside("./importer.worker", import.meta.url),
      { ...ask, ...options, job },
      { name: job, niceness: importNiceness, rssBytesMax: 512 << 20 },
    );
}
