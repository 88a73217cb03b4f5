// import: a Parquet file becomes a served version, and what reads notice of it.
// Part 1, speed. Work: 10,000,000 rows of a 17-byte id and 8 f32, Parquet with zstd, made before the clock starts. CPU time of all processes: importer, reader, builder (child processes,
// user + system), and of the process that loads the version (fetch, verify, load, first read). keys_per_core_s = rows / that.
//   Arithmetic: 2 us a row are allowed. DuckDB reads at 0.2, packing and staging take some 0.3, sorting 0.3, the run file 0.3, loading 0.1 (docs/design/import.md).
// Part 2, reads. Another process holds store, table and follower of the same data folder (not the whole server: no socket between) and reads 100 random keys, 200 times a second, open loop,
// latency from when a read was due, on another core than the importer where `taskset` is there. Rounds alternate: nothing, an import that goes live in the middle of it. Then 100 switches by
// roll-back and going live again, under reads.
// Durability: the version's files are synced before they are published. Every 1,000th row of part 1 is looked up and compared.

import { execFileSync, type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { Prng } from "#base/prng";
import type { ImportResult } from "#features/import/importer";
import { readSchema } from "#features/tables/schema-registry";
import { EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { MemoryPool } from "#kernel/memory-pool";
import { RunLoader } from "#lsm/run-loader";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import { openDataFolder } from "#roles/data-folder";
import { blobsFolderOf } from "#roles/import-process";
import type { ImportTableOptions } from "#roles/importer";
import { followTable } from "#roles/table-base";
import { LoadSlots } from "#snapshot/load-slots";
import { SnapshotStore } from "#snapshot/snapshot-store";
import type { TablesConfig } from "#wire/table-config";
import { median, ownCpuMs, type Scenario, stolenMeter } from "./harness.ts";
import type { ReaderWork, RoundResult } from "./import/reader.ts";
import { temporaryFolder } from "./load/server-process.ts";

const columns = Array.from({ length: 8 }, (_, i) => `f${i}`);
const tables: TablesConfig = { items: { key: "string", columns: Object.fromEntries(columns.map((name) => [name, { type: "f32" as const }])) } };
const memoryBytes = 1 << 30;
const rowBytes = 17 + 8 * 4;

/** Rows in an order of no kind; f0 is `mark`, f1 the row's number modulo 2^16. */
async function makeParquet(path: string, rows: number, mark: number): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  const more = columns.slice(2).map((name, i) => `(hash(r * ${i + 3}) / 18446744073709551616)::FLOAT AS ${name}`);
  await connection.run(
    `COPY (SELECT printf('item:%012d', r) AS id, ${mark}::FLOAT AS f0, (r % 65536)::FLOAT AS f1, ${more.join(", ")} FROM (SELECT (i * 7919) % ${rows} AS r FROM range(${rows}) t(i))) ` +
      `TO '${path}' (FORMAT parquet, COMPRESSION zstd)`,
  );
  connection.closeSync();
  instance.closeSync();
}

/** User and system time of all ended children of this process and theirs, ms. */
function childrenCpuMs(): number {
  const stat = readFileSync("/proc/self/stat", "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

/** Resident bytes of the largest process below `pid`. */
function largestBelow(pid: number): number {
  const parentOf = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parentOf.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      continue;
    }
  }
  const isBelow = (one: number): boolean => one === pid || (parentOf.has(one) && isBelow(parentOf.get(one)!));
  let most = 0;
  for (const one of parentOf.keys()) {
    if (one === pid || !isBelow(one)) continue;
    try {
      most = Math.max(most, Number(readFileSync(`/proc/${one}/statm`, "utf8").split(" ")[1]) * 4_096);
    } catch {
      continue;
    }
  }
  return most;
}

/** Puts a process and its later threads and children on one core; false where that cannot be done. */
function pin(pid: number, core: number): boolean {
  try {
    execFileSync("taskset", ["-a", "-p", "-c", String(core), String(pid)], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

interface Imported {
  readonly result: ImportResult;
  readonly cpuMs: number;
  readonly wallMs: number;
  readonly rssPeakBytes: number;
}

async function runImport(options: ImportTableOptions, core?: number): Promise<Imported> {
  const cpuBefore = childrenCpuMs();
  const started = performance.now();
  const child = fork(join(import.meta.dirname, "import", "run-import.ts"), { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" });
  if (core !== undefined) pin(child.pid!, core);
  let rssPeakBytes = 0;
  const watch = setInterval(() => (rssPeakBytes = Math.max(rssPeakBytes, largestBelow(child.pid!))), 250);
  let answer: { value: ImportResult } | undefined;
  child.on("message", (message: { value: ImportResult }) => (answer = message));
  child.send({ work: options });
  await once(child, "close");
  clearInterval(watch);
  if (answer === undefined) throw new Error("the import failed");
  return { result: answer.value, cpuMs: childrenCpuMs() - cpuBefore, wallMs: performance.now() - started, rssPeakBytes };
}

/** Loads the live version as a server does and checks every 1,000th row. Returns this process's CPU time up to the first read. */
async function loadAndCheck(data: string, rows: number): Promise<number> {
  const folder = await openDataFolder(data, "none");
  const schema = (await readSchema(folder.registry, "items"))!;
  const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(data) });
  const snapshots = new SnapshotStore({ blobs, registry: folder.registry, clock: systemClock, random: systemRandom, kind: "table" });
  const pool = new MemoryPool({ capBytes: 4 * 2 ** 30 });
  const before = ownCpuMs();
  const loader = new RunLoader({ workers: systemWorkers, pool, clock: systemClock });
  const { follower } = followTable({
    snapshots,
    schema,
    node: "bench",
    pool,
    loader,
    slots: new LoadSlots(),
    folder: join(data, "local"),
    onAlarm: (alarm) => console.error(alarm),
  });
  follower.start();
  await follower.settled;
  const lease = follower.lease();
  if (lease === undefined) throw new Error("the version is not served");
  const cpuMs = ownCpuMs() - before;
  const keys = new KeyBatch();
  const refs = new EntryRefs();
  const encoder = new TextEncoder();
  for (let row = 0; row < rows; row += 1_000) {
    keys.clear();
    const key = encoder.encode(`item:${String(row).padStart(12, "0")}`);
    keys.addIn(schema.namespace, key, 0, key.length);
    refs.reset(1);
    await lease.value.runs.getMany(keys, refs, 0);
    if (refs.found !== 1) throw new Error(`row ${row} is not there`);
    const { bytes } = lease.value.runs.memoryOf(refs.source[0]!);
    const view = new DataView(bytes.buffer, refs.at[0]);
    const at = (name: string): number => schema.required(name).laid.offset;
    if (view.getFloat32(at("f0"), true) !== 1 || view.getFloat32(at("f1"), true) !== row % 65_536) throw new Error(`row ${row} is wrong`);
  }
  if (lease.value.rows !== rows) throw new Error(`${lease.value.rows} rows are served instead of ${rows}`);
  lease.release();
  await follower.stop();
  await loader.stop();
  await folder.close();
  return cpuMs;
}

class Reader {
  readonly process: ChildProcess;

  constructor() {
    this.process = fork(join(import.meta.dirname, "import", "reader.ts"), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      serialization: "advanced",
      execArgv: ["--expose-gc"],
    });
    this.process.on("message", (answer) => this.#answer?.(answer));
    this.process.on("exit", (code) => {
      this.#closed = true;
      this.#failed?.(new Error(`the reader ended with ${code}`));
    });
  }

  #answer: ((answer: unknown) => void) | undefined;
  #failed: ((failure: Error) => void) | undefined;
  #closed = false;

  /** One question at a time. */
  #ask<T>(message: unknown): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) reject(new Error("the reader has ended"));
      this.#answer = resolve as (answer: unknown) => void;
      this.#failed = reject;
      this.process.send(message as string);
    });
  }

  ready = (work: ReaderWork): Promise<unknown> => this.#ask({ work });
  begin = (): void => void this.process.send("begin");
  end = (): Promise<RoundResult> => this.#ask("end");
  resident = async (): Promise<number> => (await this.#ask<{ residentBytes: number }>("resident")).residentBytes;
  serving = async (): Promise<string | undefined> => (await this.#ask<{ serving: string | undefined }>("serving")).serving;

  async stop(): Promise<void> {
    if (this.#closed) return;
    if (this.process.connected) this.process.disconnect();
    if (!this.#closed) await once(this.process, "exit");
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const scenario: Scenario = {
  name: "import",
  head: "10 M rows (17-byte id, 8 f32) from Parquet to served: keys a core-second of all processes; then reads in another process while versions are built, switched and rolled back",
  async run({ quick, report, log }) {
    const folder = temporaryFolder();
    const prng = new Prng("import");
    try {
      // --- part 1 ---
      const rows = quick ? 200_000 : 10_000_000;
      const parquet = join(folder.path, "rows.parquet");
      await makeParquet(parquet, rows, 1);
      log(`made     ${rows} rows, ${(statSync(parquet).size / 2 ** 20).toFixed(0)} MiB of Parquet; checksum of the seed ${prng.below(2 ** 31)}`);
      const data = join(folder.path, "speed");
      const imported = await runImport({ dataFolder: data, table: "items", files: [parquet], tables, memoryBytes });
      if (imported.result.rows !== rows) throw new Error(`${imported.result.rows} rows were imported`);
      const loadCpuMs = await loadAndCheck(data, rows);
      const cpuS = (imported.cpuMs + loadCpuMs) / 1_000;
      log(
        `imported ${(imported.wallMs / 1_000).toFixed(1)} s wall, ${(imported.cpuMs / 1_000).toFixed(1)} s CPU; loaded with ${(loadCpuMs / 1_000).toFixed(1)} s CPU; ${imported.result.bytes} bytes`,
      );
      report({
        metric: "keys_per_core_s",
        value: rows / cpuS,
        unit: "1/s",
        better: "higher",
        target: 500_000,
        detail: `CPU of all processes, start of the processes and loading included; ${((imported.cpuMs * 1e6) / rows).toFixed(0)} ns a row to build, ${((loadCpuMs * 1e6) / rows).toFixed(0)} to load`,
      });
      report({ metric: "mb_per_core_s", value: (rows * rowBytes) / 1e6 / cpuS, unit: "MB/s", better: "higher", detail: "keys and values, not as compressed" });
      report({
        metric: "builder_memory_ratio",
        value: imported.rssPeakBytes / memoryBytes,
        unit: "ratio",
        better: "lower",
        target: 1,
        detail: `resident memory of the largest process of the import, ${(imported.rssPeakBytes / 2 ** 20).toFixed(0)} MiB, over its cap; looked at 4 times a second`,
      });

      // --- part 2 ---
      const readRows = quick ? 20_000 : 1_000_000;
      const files = [join(folder.path, "a.parquet"), join(folder.path, "b.parquet")];
      for (const [i, file] of files.entries()) await makeParquet(file, readRows, i + 1);
      const live = join(folder.path, "reads");
      await runImport({ dataFolder: live, table: "items", files: [files[0]!], tables, memoryBytes });
      const reader = new Reader();
      try {
        await reader.ready({ data: live, tables, table: "items", rows: readRows, readsPerS: 200 });
        const pinned = pin(reader.process.pid!, 1);
        // This process looks through /proc four times a second while an import runs, 3 ms each: beside the importer, not beside the reads.
        if (pinned) pin(process.pid, 0);
        const rounds = quick ? 2 : 5;
        const idle: number[] = [];
        const busy: number[] = [];
        let errors = 0;
        let mixed = 0;
        let reads = 0;
        const add = (round: RoundResult, into: number[]): void => {
          into.push(round.p99Ms);
          errors += round.errors;
          mixed += round.mixed;
          reads += round.reads;
        };
        const until = async (version: string): Promise<void> => {
          for (let tries = 0; (await reader.serving()) !== version; tries++) {
            if (tries > 3_000) throw new Error(`version ${version} is not served`);
            await pause(10);
          }
        };
        const stolen: string[] = [];
        for (let round = 0; round < rounds; round++) {
          const stolenNow = stolenMeter();
          reader.begin();
          await pause(quick ? 500 : 4_000);
          add(await reader.end(), idle);
          reader.begin();
          const { result } = await runImport(
            { dataFolder: live, table: "items", files: [files[(round + 1) % 2]!], tables, memoryBytes },
            pinned ? 0 : undefined,
          );
          await until(result.version);
          add(await reader.end(), busy);
          stolen.push(stolenNow());
          log(
            `round ${round + 1}: p99 of a read ${idle.at(-1)!.toFixed(2)} ms, while built and switched ${busy.at(-1)!.toFixed(2)} ms; stolen ${stolen.at(-1)!} ms`,
          );
        }
        const opened = await openDataFolder(live, "none");
        const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(live) });
        const snapshots = new SnapshotStore({ blobs, registry: opened.registry, clock: systemClock, random: systemRandom, kind: "table" });
        const switches = quick ? 6 : 100;
        const resident: number[] = [];
        let rolledBack = "";
        reader.begin();
        for (let i = 0; i < switches; i++) {
          if (i % 2 === 0) rolledBack = (await snapshots.head("items"))!.current!;
          const head = i % 2 === 0 ? await snapshots.rollback("items") : await snapshots.goLive("items", rolledBack);
          await until(head.current!);
          if (i === 1 || i === switches - 1) resident.push(await reader.resident());
        }
        const switching: number[] = [];
        add(await reader.end(), switching);
        await opened.close();
        report({
          metric: "read_p99_ratio",
          value: median(busy) / median(idle),
          unit: "ratio",
          better: "lower",
          target: 1.3,
          detail: `while built and switched ${median(busy).toFixed(2)} ms, else ${median(idle).toFixed(2)} ms; medians of ${rounds} rounds; ${pinned ? "reader and importer on two cores" : "not pinned: no taskset"}; stolen by other guests, ms of each round: ${stolen.join(", ")}`,
        });
        report({ metric: "read_errors", value: errors, unit: "count", better: "lower", target: 0, detail: `of ${reads} reads of 100 keys` });
        report({ metric: "mixed_version_batches", value: mixed, unit: "count", better: "lower", target: 0 });
        report({
          metric: "resident_ratio",
          value: resident[1]! / resident[0]!,
          unit: "ratio",
          better: "lower",
          target: 1.1,
          detail: `after ${switches} switches ${(resident[1]! / 2 ** 20).toFixed(0)} MiB, after 2 ${(resident[0]! / 2 ** 20).toFixed(0)} MiB; p99 while switching ${switching[0]!.toFixed(2)} ms`,
        });
      } finally {
        await reader.stop();
      }
    } finally {
      folder.remove();
    }
  },
};
