// Opens a local replica of a table, from the data folder of a server on this machine.
//   DATA/registry.sqlite   schema, which version is live, which run files the server's delta has
//   DATA/blobs             imported versions
//   DATA/store             run files of the server's delta
//   DATA/log               effects
// Nothing is written to any of them but one entry of the registry, under a lease, that says which version this process serves.
// Invariants: 1. it resolves when the version that is live is served and every write logged before the call is in reads  2. what fails later is told (`onAlarm`,
// `state`), and reads go on from what is here.
// Cost: memory of the version's files, two versions during a switch; a thread that loads them, 12 MB; 50 to 100 looks a second at the registry and the log while nothing happens.
// Limits: the options; every wait has a deadline.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Blobs } from "#backbone/blobs";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { openFolderBlobs } from "#backbone/folder-blobs";
import type { Log } from "#backbone/log";
import type { Registry } from "#backbone/registry";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { readSchema } from "#features/tables/schema-registry";
import { schemaOf, type TableSchema } from "#features/tables/table-schema";
import { keySeed } from "#kernel/key-hash";
import { collectDropped, dropLongIdle } from "#kernel/collect-dropped";
import { MemoryPool } from "#kernel/memory-pool";
import { RunLoader } from "#lsm/run-loader";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { collectGarbage } from "#platform/garbage";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { randomId, type RandomSource, systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import type { Workers } from "#platform/workers";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { withDeadline } from "#snapshot/deadline";
import { BaseFollower } from "./base-follower.ts";
import { DeltaFollower } from "./delta-follower.ts";
import { folderFeed } from "./effect-feed.ts";
import { LocalTable } from "./local-table.ts";

/** Names in a data folder, and of the partition that tables are logged to. */
export const replicaLayout = {
  registry: "registry.sqlite",
  log: "log",
  blobs: "blobs",
  engine: "store",
  replicas: "replicas",
  partition: "table-log",
  kind: "table",
} as const;

export interface OpenTableOptions {
  /** Data folder of a millrace server on this machine. */
  readonly data: string;
  /** Shards to hold; default all. Keys of the others are `not loaded`. */
  readonly shards?: readonly number[];
  /** Memory of everything that this replica holds, two versions during a switch. Default 4 GiB. */
  readonly memoryBytesMax?: number;
  /** Of live rows. Default 512 MiB. */
  readonly deltaBytesMax?: number;
  /** Where versions are fetched to; it belongs to this replica alone. Default: a folder of its own below DATA/replicas. */
  readonly folder?: string;
  /** How this process calls itself to others: letters, digits, dots, underscores, dashes. Default: at random. */
  readonly node?: string;
  /** How long opening may take, milliseconds. Default 600,000. */
  readonly openMsMax?: number;
  /** Told of versions that were refused, and of effects that do not come in. Default: nobody; `state` shows them. */
  readonly onAlarm?: (message: string) => void;
}

/** The backbone of a replica: what `openTable` makes of a data folder, and tests of a simulated one. */
export interface ReplicaSources {
  readonly files: Files;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly registry: Registry;
  readonly log: Log;
  readonly blobs: Blobs;
  /** For the thread that loads versions; without it the calling one does. */
  readonly workers?: Workers;
  /** Folder of the server's run files. */
  readonly engineFolder: string;
  /** Folder of this replica. */
  readonly folder: string;
}

/** Opens a replica of table `name`. Throws `not-found` when the server has no such table, `timeout`, and what opening meets. */
export async function openTable(name: string, options: OpenTableOptions): Promise<LocalTable> {
  const { data } = options;
  const at = (part: string): string => systemFiles.join(data, part);
  if ((await systemFiles.sizeOf(at(replicaLayout.registry))) === undefined) {
    throw new MillraceError("not-found", `${data} is no data folder of a millrace server`, { todo: "give the folder that the server was started with" });
  }
  const registry = openSqliteRegistry({ path: at(replicaLayout.registry), clock: systemClock, processes: systemProcesses });
  const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: at(replicaLayout.log), durability: "interval" });
  const node = options.node ?? `replica-${randomId(systemRandom)}`;
  const folder = options.folder ?? systemFiles.join(at(replicaLayout.replicas), node, name);
  const sources = {
    files: systemFiles,
    clock: systemClock,
    random: systemRandom,
    registry,
    log,
    blobs: openFolderBlobs({ files: systemFiles, folder: at(replicaLayout.blobs), processes: systemProcesses }),
    workers: systemWorkers,
    engineFolder: at(replicaLayout.engine),
    folder,
  };
  const closeSources = async (): Promise<void> => {
    await log.close();
    await registry.close();
    // A folder that was made for this replica alone goes with it.
    if (options.folder === undefined) await systemFiles.removeFolder(systemFiles.join(at(replicaLayout.replicas), node));
  };
  try {
    return await openReplica(name, { ...options, node }, sources, closeSources);
  } catch (thrown) {
    await closeSources();
    throw thrown;
  }
}

/** Opens a replica over any backbone. `closed` is called once, when it is closed. */
export async function openReplica(
  name: string,
  options: Omit<OpenTableOptions, "data"> & { readonly node: string },
  sources: ReplicaSources,
  closed: () => Promise<void> = () => Promise.resolve(),
): Promise<LocalTable> {
  const { clock, registry, files, random } = sources;
  const alarm = (message: string): void => options.onAlarm?.(message);
  const schema = await readSchema(registry, name);
  if (schema === undefined) {
    throw new MillraceError("not-found", `there is no table ${name}`, { todo: "declare it in the server's configuration, and start the server once" });
  }
  if (schema.document.storage === "disk") {
    throw new MillraceError("unsupported", `table ${name} lies on disk`, { todo: "read it at its server: a replica holds its rows in memory" });
  }
  const pool = new MemoryPool({ capBytes: options.memoryBytesMax ?? 4 * 2 ** 30 });
  const collecting = collectDropped(pool, clock, collectGarbage);
  const dropping = dropLongIdle(pool, clock);
  const snapshots = new SnapshotStore({ blobs: sources.blobs, registry, clock, random, kind: replicaLayout.kind });
  const feed = folderFeed({ files, clock, registry, log: sources.log, folder: sources.engineFolder, partition: replicaLayout.partition, pool });
  const seed = keySeed(new DataView(random.bytes(new Uint8Array(8)).buffer).getBigUint64(0));
  const delta = new DeltaFollower({
    feed,
    clock,
    namespace: schema.namespace,
    tables: { pool, owner: `replica ${name}, live rows`, seed, bytesMax: options.deltaBytesMax ?? 512 * 2 ** 20 },
    onAlarm: (error) => alarm(`live rows of table ${name}: ${error.message}`),
  });
  let newest: TableSchema = schema;
  let table: LocalTable | undefined = undefined;
  const takeSchema = (next: TableSchema): void => {
    if (next.document.revision < newest.document.revision) return;
    newest = next;
    table?.takeSchema(next);
  };
  const loader = sources.workers === undefined ? undefined : new RunLoader({ workers: sources.workers, pool, clock });
  const base = new BaseFollower({
    snapshots,
    table: name,
    node: options.node,
    files,
    clock,
    pool,
    loader,
    folder: sources.folder,
    shards: options.shards,
    onAlarm: ({ what, version, reasons }) => alarm(`version ${version ?? "?"} of table ${name}: ${what}: ${reasons.join("; ")}`),
    onVersion: ({ meta }) => {
      // Rows of a layout that the registry has not told us of yet.
      if (meta.schema.revision > newest.document.revision) takeSchema(schemaOf(meta.schema, name));
    },
  });
  const stop = new AbortController();
  const watching = watchSchema(name, registry, clock, stop.signal, takeSchema, alarm);
  const close = async (): Promise<void> => {
    stop.abort(new MillraceError("unavailable", `the replica of table ${name} was closed`));
    dropping.stop();
    collecting.stop();
    await base.stop();
    await loader?.stop();
    await delta.stop();
    await watching;
  };
  const opening = Promise.all([base.start(), delta.start()]);
  try {
    await withDeadline(opening, {
      clock,
      ms: options.openMsMax ?? 600_000,
      what: `opening a replica of table ${name}`,
      todo: "look at the server, or allow more time",
    });
    if (base.awaited && base.value === undefined) {
      const reason = base.state.refused.at(-1)?.reason ?? "it was not loaded";
      throw new MillraceError("unavailable", `no version of table ${name} can be served here: ${reason}`, {
        todo: "mend what is named, or roll back at the server",
      });
    }
  } catch (thrown) {
    opening.catch(() => undefined);
    await close();
    throw thrown;
  }
  let isClosed: Promise<void> | undefined;
  table = new LocalTable({ schema: newest, clock, base, delta, close: () => (isClosed ??= close().then(closed)) });
  return table;
}

/** Takes over each change of the schema, for as long as the replica lives. */
async function watchSchema(
  name: string,
  registry: Registry,
  clock: Clock,
  signal: AbortSignal,
  take: (schema: TableSchema) => void,
  alarm: (message: string) => void,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const change of registry.watch(`tables/${name}`, signal)) {
        if (change.key !== `tables/${name}` || change.entry === undefined) continue;
        const schema = await readSchema(registry, name);
        if (schema !== undefined) take(schema);
      }
    } catch (thrown) {
      if (!signal.aborted) alarm(`schema of table ${name}: ${toMillraceError(thrown).message}`);
    }
    if (!signal.aborted) await clock.sleep(1_000, signal).catch(() => undefined);
  }
}
