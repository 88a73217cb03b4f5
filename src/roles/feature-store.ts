// The feature store of a node, wired: one pool of memories, one store over one partition of the log, the Redis keyspace and the tables on it, the Redis port.
// Order of a start: the port, which says LOADING; store (runs read, log replayed), tables with their imported versions. Order of a stop: the port drains, followers stop, the store is
// closed; the log and the registry belong to the caller.
//   DATA/store/   run files of live writes      DATA/blobs/    imported versions
//   DATA/local/   versions as this node has them, hard links where they can be

import { MillraceError, toMillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Registry } from "#backbone/registry";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { aclCommands } from "#commands/acl";
import { connectionCommands } from "#commands/connection";
import { keyspaceCommands } from "#commands/index";
import { persistenceCommands } from "#commands/persistence";
import { serverCommands } from "#commands/server";
import { namedCollections } from "#commands/named-collections";
import { tableCommands } from "#commands/tables";
import { vectorCommands } from "#commands/vectors";
import { removeAbandonedWork } from "#features/import/abandoned-work";
import { ImportJobs } from "#features/import/import-jobs";
import { Hashes } from "#features/keyspace/hashes";
import { HashSweep } from "#features/keyspace/hash-sweep";
import { KeyCount, type KeyCounts } from "#features/keyspace/key-count";
import { Keyspace } from "#features/keyspace/keyspace";
import type { Table } from "#features/tables/table";
import { openTables, type Tables } from "#features/tables/tables";
import { collectDropped, dropLongIdle } from "#kernel/collect-dropped";
import type { KeySeed } from "#kernel/key-hash";
import { recordBytes } from "#kernel/entry-record";
import { MemoryPool, type MemoryPoolStats } from "#kernel/memory-pool";
import { openStore, type StoreOpening, type StoreProgress } from "#lsm/open-store";
import { RunLoader } from "#lsm/run-loader";
import type { Store } from "#lsm/store";
import { keepCompiled } from "#platform/compile-cache";
import { collectGarbage, giveRoomBack } from "#platform/garbage";
import { keepYoungRoom } from "#platform/young-room";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemNetwork } from "#platform/system-network";
import { processId } from "#platform/system-process";
import { systemProcesses } from "#platform/system-processes";
import { randomId, systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import { threadLoadMeter } from "#platform/thread-load";
import type { AlarmSink } from "#snapshot/alarm";
import { LoadSlots } from "#snapshot/load-slots";
import { SnapshotControl } from "#snapshot/snapshot-control";
import { SnapshotStore } from "#snapshot/snapshot-store";
import type { VectorService } from "#vectors/vector-service";
import { Access } from "#wire/access-users";
import type { AccessConfig } from "#wire/access-config";
import type { CommandSpec } from "#wire/resp-command";
import { CommandTable } from "#wire/resp-command-table";
import { type RespServer, startRespServer } from "#wire/resp-server";
import type { TablesConfig } from "#wire/table-config";
import type { DataFolder } from "./data-folder.ts";
import { blobsFolderOf, importFolderOf, newImportJob, startImportProcess, tableLogPartition } from "./import-process.ts";
import { LateStore } from "./late-store.ts";
import { followTable, type TableBase } from "./table-base.ts";

export interface FeatureStoreOptions {
  readonly dataFolder: string;
  readonly folder: DataFolder;
  readonly tables: TablesConfig;
  /** Tables that the server writes itself: users only read them. */
  readonly ownTables?: TablesConfig;
  readonly access: AccessConfig | undefined;
  readonly host: string;
  /** Of the Redis protocol; 0 takes a free one. */
  readonly respPort: number;
  readonly version: string;
  /** Of all memtables, runs and imported versions together. */
  readonly memoryBytesMax: number;
  /** Folders from which imports over HTTP may read. */
  readonly importFolders: readonly string[];
  /** Vector collections: keys of the Redis port too. */
  readonly vectors: VectorService;
  /** Further commands of the Redis port; they answer for themselves while what they work on is being opened. */
  readonly commands?: readonly CommandSpec[];
  /** What else commands on keys need and is being read, in words: they answer LOADING until it is undefined once. */
  readonly loading?: () => string | undefined;
  readonly warn: (message: string) => void;
  /** Called at once with what says in words how far the opening is. */
  readonly onProgress?: (progress: () => string) => void;
}

export interface FeatureStore {
  readonly store: Store;
  readonly tables: Tables;
  readonly resp: RespServer;
  readonly access: Access;
  readonly snapshots: SnapshotControl;
  readonly imports: ImportJobs;
  readonly memories: () => MemoryPoolStats;
  /** Drains the port; the store is closed once `writers`, who write to it, have ended. */
  stop(timeoutMs: number, writers?: Promise<unknown>): Promise<{ cutOff: number }>;
}

const hexDigits = 40;
const memtableBytesMax = 16 << 20;
/** A memtable takes twice its bytes, and there are several while they are flushed: with little memory they must be small, or nothing else fits. */
const memtableShare = 16;
/** What the store leaves of the pool for merging, which makes a run beside those it replaces: without it a full store could not merge deleted rows away. */
const mergeBytesMax = 768 << 20;

/** Opens all of it; the Redis port listens at once and says LOADING, the promise resolves when it serves. Throws what the store throws (`corrupt`, `conflict`), and `conflict` for a taken port. */
export async function openFeatureStore(options: FeatureStoreOptions): Promise<FeatureStore> {
  const held = new HeldParts();
  try {
    return await openParts(options, held);
  } catch (thrown) {
    // What said why the start failed counts, not what fails because of it.
    await held.giveBack(0).catch(() => undefined);
    throw thrown;
  }
}

/** What runs or listens from its start on. The one way to end it, for a stop and for a start that fails anywhere: what is forgotten keeps the process alive. */
class HeldParts {
  resp: RespServer | undefined;
  readonly #ends: (() => unknown)[] = [];

  /** `end` runs after those that are added later. */
  add(end: () => unknown): void {
    this.#ends.push(end);
  }

  /** Drains the port, waits for `writers`, ends every part, whichever fails; throws what the first of them threw. */
  async giveBack(timeoutMs: number, writers?: Promise<unknown>): Promise<{ cutOff: number }> {
    const failures: unknown[] = [];
    const outcome = await this.resp?.drain(timeoutMs).catch((thrown: unknown) => void failures.push(thrown));
    await writers?.catch(() => undefined);
    for (const end of this.#ends.splice(0).reverse()) {
      try {
        await end();
      } catch (thrown) {
        failures.push(thrown);
      }
    }
    if (failures.length > 0) throw failures[0];
    return outcome ?? { cutOff: 0 };
  }
}

async function openParts(options: FeatureStoreOptions, held: HeldParts): Promise<FeatureStore> {
  const { dataFolder, folder, version, warn } = options;
  const { registry, log } = folder;
  const { join } = systemFiles;
  const seed = await keptSeed(registry);
  const pool = new MemoryPool({ capBytes: options.memoryBytesMax });
  const collecting = collectDropped(pool, systemClock, collectGarbage, threadLoadMeter());
  held.add(() => collecting.stop());
  const dropping = dropLongIdle(pool, systemClock);
  held.add(() => dropping.stop());
  const alarm = ({ message }: MillraceError): void => warn(message);
  // What closures ask for before it is there. Rights are written in names of commands, and some commands ask for rights.
  const later: { access?: Access; tables?: Tables; opening?: StoreOpening } = {};
  let isLoaded = false;
  const progress = (): string =>
    late.isOpen ? "loading the versions of the tables" : later.opening === undefined ? "opening the store" : openingWords(later.opening.progress());
  options.onProgress?.(progress);
  const loading = (): string | undefined => (isLoaded ? options.loading?.() : progress());

  // The port listens while the store is read: commands are declared over a store and tables that come later, and refused until then.
  const late = new LateStore();
  const lateTables = {
    required: (name: string): Table => later.tables!.required(name),
    get list(): readonly Table[] {
      return later.tables!.list;
    },
    get scans(): Tables["scans"] {
      return later.tables!.scans;
    },
  };
  const keyspace = new Keyspace({ store: late, clock: systemClock, random: new Prng(new DataView(systemRandom.bytes(new Uint8Array(4)).buffer).getUint32(0)) });
  const hashes = new Hashes(keyspace);
  const sweep = new HashSweep(keyspace, { onTrouble: (error) => warn(`sweeping old hash fields: ${String(error)}`) });
  const keyCount = new KeyCount(keyspace, hashes);
  const startedMs = systemClock.nowMs();
  const accessOf = (): Access => later.access!;
  const commands = new CommandTable(
    ...keyspaceCommands({ keyspace, hashes, collections: namedCollections(options.vectors) }),
    tableCommands(lateTables),
    vectorCommands({
      vectors: options.vectors,
      isPlainKey: (key) => {
        keyspace.begin();
        return keyspace.find(key) !== undefined;
      },
    }),
    [...(options.commands ?? [])],
    persistenceCommands(late),
    connectionCommands(accessOf),
    aclCommands(accessOf, systemRandom),
    serverCommands({
      access: accessOf,
      version,
      processId,
      runId: randomId(systemRandom, hexDigits),
      info: () =>
        late.isOpen ? infoOf(late, keyspace, keyCount, pool.statistics(), loading() === undefined) : loadingInfo(later.opening?.progress(), startedMs),
      memoryUsage: (key) => bytesOfKey(keyspace, key),
      lastSaveMs: () => startedMs,
    }),
  );
  const access = (later.access = new Access({ commands, clock: systemClock, ...(options.access === undefined ? {} : { config: options.access }) }));
  const resp = await startRespServer({
    network: systemNetwork,
    clock: systemClock,
    host: options.host,
    port: options.respPort,
    commands,
    access,
    loading,
    onDefect: (thrown) => warn(`a command failed that should not: ${String(thrown)}`),
  }).catch((thrown: unknown) => {
    if (!(thrown instanceof MillraceError) || thrown.code !== "conflict") throw thrown;
    throw new MillraceError("conflict", `port ${options.respPort} on ${options.host} is taken by another process`, {
      cause: thrown,
      todo: "stop that one, or choose another port with --resp-port",
    });
  });
  held.resp = resp;

  const opening = (later.opening = openStore({
    files: systemFiles,
    clock: systemClock,
    log,
    registry,
    workers: systemWorkers,
    pool,
    folder: join(dataFolder, "store"),
    partition: tableLogPartition,
    memoryBytesMax: options.memoryBytesMax - Math.min(mergeBytesMax, Math.floor(options.memoryBytesMax / 2)),
    memtableBytes: Math.min(memtableBytesMax, Math.floor(options.memoryBytesMax / memtableShare)),
    keepTombstones: () => later.tables?.namespaces ?? [],
    seed,
    onAlarm: alarm,
  }));
  const store = await opening.opened.catch((thrown: unknown) => {
    if (!(thrown instanceof MillraceError) || thrown.code !== "conflict") throw thrown;
    throw new MillraceError("conflict", `another server writes the data folder ${dataFolder}`, {
      cause: thrown,
      todo: "stop it, or name another folder with --data",
    });
  });
  held.add(() => store.close());
  late.open(store);
  const bases: TableBase[] = [];
  const loader = new RunLoader({ workers: systemWorkers, pool, clock: systemClock });
  held.add(() => loader.stop());
  held.add(async () => {
    for (const { follower } of bases) await follower.stop();
  });
  const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(dataFolder), processes: systemProcesses });
  const onAlarm: AlarmSink = ({ what, name, version: of, reasons }) => warn(`table ${name}: version ${of ?? "?"} ${what}: ${reasons.join("; ")}`);
  const versions = { blobs, registry, clock: systemClock, random: systemRandom, onAlarm };
  const snapshots = new SnapshotStore({ ...versions, kind: "table" });
  const slots = new LoadSlots();
  const tables = (later.tables = await openTables({
    registry,
    store,
    clock: systemClock,
    config: options.tables,
    ...(options.ownTables === undefined ? {} : { ownConfig: options.ownTables }),
    said: warn,
    baseOf(schema) {
      const base = followTable({ snapshots, schema, node: "server", pool, loader, slots, folder: join(dataFolder, "local", schema.name), onAlarm });
      bases.push(base);
      return base.source;
    },
  }));
  held.add(() => {
    tables.close();
  });
  for (const { follower } of bases) follower.start();
  await Promise.all(bases.map(({ follower }) => follower.settled));
  // The end of the start: these stop the thread, and nobody is served yet.
  keepCompiled();
  giveRoomBack();
  keepYoungRoom();

  sweep.start();
  held.add(() => {
    sweep.stop();
  });
  void removeAbandonedWork({ files: systemFiles, clock: systemClock, registry, folder: importFolderOf(dataFolder) }).then(
    (ids) => ids.length > 0 && warn(`removed the work of abandoned imports: ${ids.join(", ")}`),
    (thrown: unknown) => warn(`abandoned imports: ${toMillraceError(thrown).message}`),
  );
  const imports = new ImportJobs({
    registry,
    clock: systemClock,
    start: startImportProcess({ dataFolder, folders: options.importFolders }),
    newJob: newImportJob,
    onFailure: (job, error) => warn(`import ${job}: ${error.message}`),
  });
  held.add(() => imports.close());
  isLoaded = true;
  return {
    store,
    tables,
    resp,
    access,
    snapshots: new SnapshotControl(versions),
    imports,
    memories: () => pool.statistics(),
    stop: (timeoutMs, writers) => held.giveBack(timeoutMs, writers),
  };
}

/** Seed of the key hash: random, and kept with the data, so that nobody can prepare keys that fall into one place. */
async function keptSeed(registry: Registry): Promise<KeySeed> {
  const fresh = systemRandom.bytes(new Uint8Array(8));
  await registry.put("store/seed", fresh, { expect: 0 });
  const kept = await registry.get("store/seed");
  const view = new DataView(Uint8Array.from(kept?.value ?? fresh).buffer);
  return { low: view.getUint32(0, true), high: view.getUint32(4, true) };
}

/** As in Redis an empty database has no line. Expiry is exact, so an average of what is left is not kept. */
function keyspaceInfo({ keys, expires }: KeyCounts): Readonly<Record<string, string>> {
  return keys === 0 ? {} : { db0: `keys=${keys},expires=${expires},avg_ttl=0` };
}

/** How far the store is: reading its runs takes most of the time. */
function openingWords({ stage, bytesLoaded, bytesTotal, recordsReplayed, recordsTotal }: StoreProgress): string {
  const runs = stage === "log" ? 0 : bytesTotal === 0 ? 1 : bytesLoaded / bytesTotal;
  const replay = stage === "replay" && recordsTotal > 0 ? recordsReplayed / recordsTotal : stage === "ready" ? 1 : 0;
  return `opening the store: ${Math.floor(80 * runs + 20 * replay)} %`;
}

/** What INFO says before the store is open, by which clients of Redis wait. */
function loadingInfo(progress: StoreProgress | undefined, startedMs: number): Readonly<Record<string, Readonly<Record<string, string | number>>>> {
  const { bytesLoaded = 0, bytesTotal = 0 } = progress ?? {};
  const percent = bytesTotal === 0 ? 0 : (100 * bytesLoaded) / bytesTotal;
  return {
    Persistence: {
      loading: 1,
      loading_start_time: Math.floor(startedMs / 1_000),
      loading_total_bytes: bytesTotal,
      loading_loaded_bytes: bytesLoaded,
      loading_loaded_perc: percent.toFixed(2),
      loading_eta_seconds: 1,
      store_opening: progress === undefined ? "" : openingWords(progress),
    },
  };
}

/** What the store and the keyspace add to INFO. */
function infoOf(
  store: Store,
  keyspace: Keyspace,
  keyCount: KeyCount,
  pool: MemoryPoolStats,
  isLoaded: boolean,
): Readonly<Record<string, Readonly<Record<string, string | number>>>> {
  const { memoryBytes, memoryBytesMax, offset, loggedOffset, flushedOffset, replayBytes, working, refused, runs, counts } = store.state;
  return {
    Memory: {
      used_memory: memoryBytes,
      maxmemory: memoryBytesMax,
      pool_bytes: pool.totalBytes,
      pool_idle_bytes: pool.idleBytes,
      pool_dropped_bytes: pool.droppedBytes,
    },
    Persistence: {
      ...(isLoaded ? {} : { loading: 1, loading_eta_seconds: 1 }),
      log_offset: offset,
      log_acknowledged: loggedOffset,
      log_flushed: flushedOffset,
      log_replay_bytes: replayBytes,
      rdb_bgsave_in_progress: working === "flush" ? 1 : 0,
      store_working: working ?? "none",
      store_refuses: refused?.reason ?? "no",
      store_refuses_because: refused?.error.message ?? "",
      // Where tools of Redis look for a disk that takes no more writes.
      aof_last_write_status: refused?.reason === "log-failed" ? "err" : "ok",
      store_runs: runs.reduce((sum, { files }) => sum + files, 0),
      store_run_bytes: runs.reduce((sum, { bytes }) => sum + bytes, 0),
      store_flushes: counts.flushes,
      store_compactions: counts.compactions,
      store_run_bytes_written: counts.runBytesWritten,
    },
    Stats: { keyspace_hits: keyspace.hits, keyspace_misses: keyspace.misses },
    Keyspace: keyspaceInfo(keyCount.read()),
  };
}

/** A key with its value as they are stored; undefined when there is none. */
function bytesOfKey(keyspace: Keyspace, key: Uint8Array): number | undefined {
  const entry = keyspace.find(key);
  // 7 bytes of the index are this key's.
  return entry === undefined ? undefined : recordBytes(key.length + 2, entry.value.length, entry.expiryMs, 0) + 7;
}
