// The importer: one import of a table of a data folder, as a command or as a child of a server. Wiring only.
//   DATA/registry.sqlite   schema, head, turns, status (shared with the server)
//   DATA/blobs             versions
//   DATA/import            work folders, reject files
// The heavy halves run in processes of their own, at low priority and under a memory cap (src/features/import/importer.ts).

import { MillraceError } from "#base/errors";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { removeAbandonedWork } from "#features/import/abandoned-work";
import { BoardWriter } from "#features/import/import-board";
import type { ImportAsk } from "#features/import/import-jobs";
import { importLimits } from "#features/import/import-limits";
import { type ImportResult, type ImportStatus, TableImport } from "#features/import/importer";
import { registerSchemas, readSchema } from "#features/tables/schema-registry";
import { systemChildProcesses } from "#platform/system-child-processes";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { type ServedBy, untilServed } from "#snapshot/serving-wait";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { isServersTable, type TablesConfig } from "#wire/table-config";
import { openDataFolder } from "./data-folder.ts";
import { blobsFolderOf, importFolderOf, importNiceness as niceness, newImportJob, tableLogPartition } from "./import-process.ts";
import { servedWaitMsMax } from "./snapshots.ts";

export interface ImportTableOptions extends ImportAsk {
  readonly dataFolder: string;
  /** Name on the board; default: made up. */
  readonly job?: string;
  /** Tables to register first, when no server has yet. */
  readonly tables?: TablesConfig;
  readonly memoryBytes?: number;
  readonly builders?: number;
  readonly folders?: readonly string[];
  readonly onStatus?: (status: ImportStatus) => void;
  /** Told of abandoned imports whose work was removed, by their ids. */
  readonly onAbandoned?: (ids: readonly string[]) => void;
  readonly signal?: AbortSignal;
}

export interface ImportedTable extends ImportResult {
  /** Who follows the table and what they made of the version; absent when it is not live. */
  readonly served?: ServedBy;
}

/** Imports into a table; resolves once those who follow it serve the version, at most `servedWaitMsMax` later. Throws `not-found` for a table that nobody registered, and what TableImport throws. */
export async function importTable(options: ImportTableOptions): Promise<ImportedTable> {
  const { dataFolder, table, tables, memoryBytes = importLimits.memoryBytesDefault, onStatus } = options;
  const data = await openDataFolder(dataFolder, "none");
  try {
    const { registry, log } = data;
    if (tables !== undefined) await registerSchemas(registry, tables);
    if (isServersTable(table)) {
      throw new MillraceError("invalid", `table ${table} is counted by the server, nothing is imported into it`, { todo: "import into a table of your own" });
    }
    const schema = await readSchema(registry, table);
    if (schema === undefined) {
      throw new MillraceError("not-found", `there is no table ${JSON.stringify(table.slice(0, 64))} in ${dataFolder}`, {
        todo: "declare it in the configuration (tables) and start the server with it once, or name the configuration here",
      });
    }
    const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(dataFolder), processes: systemProcesses });
    const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: "table" });
    const board = new BoardWriter(registry, systemClock, options.job ?? newImportJob());
    const running = new TableImport({
      files: systemFiles,
      clock: systemClock,
      registry,
      snapshots,
      schema,
      request: {
        files: options.files ?? [],
        ...(options.query === undefined ? {} : { query: options.query }),
        ...(options.format === undefined ? {} : { format: options.format }),
      },
      folder: importFolderOf(dataFolder),
      start: (module, data_, name) => systemChildProcesses.start(module, data_, { name, niceness, rssBytesMax: memoryBytes }),
      logOffsets: async () => ({ [tableLogPartition]: (await log.bounds(tableLogPartition)).next }),
      memoryBytes,
      ...(options.builders === undefined ? {} : { builders: options.builders }),
      ...(options.rejectsMax === undefined ? {} : { rejectsMax: options.rejectsMax }),
      ...(options.folders === undefined ? {} : { folders: options.folders }),
      ...(options.live === undefined ? {} : { live: options.live }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onStatus: (status) => {
        board.show(status);
        onStatus?.(status);
      },
    });
    try {
      const result = await running.run();
      if (options.live === false) return result;
      const { signal } = options;
      const wait = { clock: systemClock, waitMsMax: servedWaitMsMax, ...(signal === undefined ? {} : { signal }) };
      // The import is done whatever comes of this.
      const served = await untilServed(snapshots, table, result.version, wait).catch(() => undefined);
      return served === undefined ? result : { ...result, served };
    } finally {
      const work = { files: systemFiles, clock: systemClock, registry, folder: importFolderOf(dataFolder), except: running.status.id };
      const abandoned = await removeAbandonedWork(work).catch(() => []);
      if (abandoned.length > 0) options.onAbandoned?.(abandoned);
      await board.end();
    }
  } finally {
    await data.close();
  }
}
