// The serving side of the bench `import`: store, table and follower of one data folder in a process of its own, and reads at a fixed rate on its own loop.
// Each read is 100 random keys with all columns; every row's f0 must be the same, since a version holds one number there.
// Messages in: "begin", "end", "resident"; out: { ready }, RoundResult, { residentBytes }.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { Prng } from "#base/prng";
import { ColumnBlock, rowStatus } from "#features/tables/column-block";
import { openTables } from "#features/tables/tables";
import { KeyBatch } from "#kernel/key-batch";
import { MemoryPool } from "#kernel/memory-pool";
import { openStore } from "#lsm/open-store";
import { RunLoader } from "#lsm/run-loader";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import { openDataFolder, servingCheckpointPages } from "#roles/data-folder";
import { blobsFolderOf, tableLogPartition } from "#roles/import-process";
import { followTable, type TableBase } from "#roles/table-base";
import { LoadSlots } from "#snapshot/load-slots";
import { SnapshotStore } from "#snapshot/snapshot-store";
import type { TablesConfig } from "#wire/table-config";
import { quantile } from "../harness.ts";

export interface ReaderWork {
  readonly data: string;
  readonly tables: TablesConfig;
  readonly table: string;
  readonly rows: number;
  readonly readsPerS: number;
}

export interface RoundResult {
  readonly p99Ms: number;
  readonly reads: number;
  readonly errors: number;
  readonly mixed: number;
  readonly versions: number;
}

const keysPerRead = 100;

async function serve(work: ReaderWork): Promise<void> {
  const folder = await openDataFolder(work.data, "none", undefined, servingCheckpointPages);
  const pool = new MemoryPool({ capBytes: 3 * 2 ** 30 });
  const { registry, log } = folder;
  const store = await openStore({
    files: systemFiles,
    clock: systemClock,
    log,
    registry,
    workers: systemWorkers,
    pool,
    folder: join(work.data, "store"),
    partition: tableLogPartition,
    memtableBytes: 1 << 20,
  }).opened;
  const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(work.data), processes: systemProcesses });
  const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: "table" });
  const loader = new RunLoader({ workers: systemWorkers, pool, clock: systemClock });
  const bases: TableBase[] = [];
  let errors = 0;
  const tables = await openTables({
    registry,
    store,
    clock: systemClock,
    config: work.tables,
    baseOf(schema) {
      const base = followTable({
        snapshots,
        schema,
        node: "bench",
        pool,
        loader,
        slots: new LoadSlots(),
        folder: join(work.data, "local", schema.name),
        onAlarm: (alarm) => {
          errors += 1;
          console.error(alarm);
        },
      });
      bases.push(base);
      return base.source;
    },
  });
  for (const { follower } of bases) {
    follower.start();
    await follower.settled;
  }
  const table = tables.required(work.table);
  const prng = new Prng("import-reader");
  const keys = new KeyBatch();
  const encoder = new TextEncoder();
  let latencies: number[] = [];
  let mixed = 0;
  let collecting = false;
  let versions = new Set<string>();
  const plan = table.plan();

  const readOnce = (): void => {
    keys.clear();
    for (let i = 0; i < keysPerRead; i++) table.addKey(keys, encoder.encode(`item:${String(prng.below(work.rows)).padStart(12, "0")}`));
    const answer = table.read(keys, plan);
    if (answer instanceof Promise) throw new Error("a table in memory answered with a promise");
    const block = new ColumnBlock(answer);
    const column = block.columns.find(({ name }) => name === "f0")!;
    const view = new DataView(block.bytes.buffer, block.bytes.byteOffset);
    const first = view.getFloat32(column.dataAt, true);
    let same = true;
    for (let row = 0; row < block.rows; row++) {
      if (block.status(row) !== rowStatus.found) errors += 1;
      if (view.getFloat32(column.dataAt + row * column.stride, true) !== first) same = false;
    }
    if (!same) mixed += 1;
    versions.add(block.version);
  };

  process.on("message", (message: string) => {
    if (message === "begin") {
      latencies = [];
      versions = new Set();
      errors = 0;
      mixed = 0;
      collecting = true;
    } else if (message === "end") {
      collecting = false;
      const result: RoundResult = { p99Ms: quantile(latencies, 0.99), reads: latencies.length, errors, mixed, versions: versions.size };
      process.send!(result);
    } else if (message === "resident") {
      (globalThis as { gc?: () => void }).gc?.();
      const pages = Number(readFileSync("/proc/self/statm", "utf8").split(" ")[1]);
      process.send!({ residentBytes: pages * 4_096 });
    } else if (message === "serving") {
      process.send!({ serving: bases[0]!.follower.state.serving });
    }
  });
  process.send!({ ready: true });

  // Open loop: a read counts from when it was due.
  const every = 1_000 / work.readsPerS;
  for (let due = performance.now() + every; process.connected; due += every) {
    const wait = due - performance.now();
    if (wait > 0) await sleep(wait);
    else if (-wait > 1_000) due = performance.now();
    try {
      if (bases[0]!.follower.state.serving === undefined) continue;
      readOnce();
    } catch (failure) {
      if (errors === 0) console.error(failure);
      errors += 1;
    }
    if (collecting) latencies.push(performance.now() - due);
  }
  process.exit(0);
}

process.once("message", (message: { work: ReaderWork }) => {
  serve(message.work).catch((failure: unknown) => {
    console.error(failure);
    process.exit(1);
  });
});
