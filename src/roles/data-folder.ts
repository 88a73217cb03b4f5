// The data folder of a node: where what lies, and the embedded backbone over it.
//   DATA/registry.sqlite   names, leases, locks
//   DATA/log/PARTITION/    segment files (docs/format/log-segment.md)
// Invariant: one server writes a data folder; a second one gets `conflict` from the log's lock and changes nothing.

import { MillraceError } from "#base/errors";
import type { Durability, Log } from "#backbone/log";
import { openEmbeddedLog } from "#backbone/embedded-log";
import type { Registry } from "#backbone/registry";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import type { Files } from "#platform/files";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";

const registryName = "registry.sqlite";

export interface DataFolder {
  readonly registry: Registry;
  readonly log: Log;
  close(): Promise<void>;
}

/** For the registry of a process that serves: imports and commands, which come and go, copy its log into its file before a loop that serves has to. */
export const servingCheckpointPages = 8_000;

/** Opens the backbone of a data folder, making what is missing. `checkpointPages`: of the registry. `logFiles`: how the log is written. */
export async function openDataFolder(
  folder: string,
  durability: Durability,
  intervalMs?: number,
  checkpointPages?: number,
  logFiles: Files = systemFiles,
): Promise<DataFolder> {
  await systemFiles.makeFolder(folder);
  const registry = openSqliteRegistry({
    path: systemFiles.join(folder, registryName),
    clock: systemClock,
    processes: systemProcesses,
    ...(checkpointPages === undefined ? {} : { checkpointPages }),
  });
  const log = openEmbeddedLog({
    files: logFiles,
    clock: systemClock,
    registry,
    folder: systemFiles.join(folder, "log"),
    durability,
    ...(intervalMs === undefined ? {} : { intervalMs }),
  });
  return {
    registry,
    log,
    async close() {
      await log.close();
      await registry.close();
    },
  };
}

/** For commands that read or change what a server made: a folder named wrongly must not become one. Throws `not-found` for a folder without a registry. */
export async function requireDataFolder(folder: string): Promise<void> {
  const names = await systemFiles.list(folder);
  if (names?.includes(registryName) === true) return;
  throw new MillraceError("not-found", `there is no data folder ${folder}`, { todo: "name the one of a server with --data" });
}

/** Is there nothing in the folder's log yet? */
export async function isEmptyDataFolder(folder: string): Promise<boolean> {
  const partitions = await systemFiles.list(systemFiles.join(folder, "log"));
  return partitions === undefined || partitions.length === 0;
}
