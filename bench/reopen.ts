// reopen: a large keyspace served again after a kill -9, the memory that it takes, and what a row on disk costs.
// Work: 10,000,000 distinct keys of 18 bytes with 64-byte values, set over the Redis port in pipelines of 1,000; then kill -9 and a start on the same folder. No model, no demo, durability `interval`.
//   reopen_s      from the start of the new process to the first right answer to a GET, files in the page cache of the system (a machine that kept running); every 1,000th key is checked afterwards
//   memory_ratio  resident memory of the whole server process then, over key + value bytes; `memory_ratio_settled` the same a minute later, when what was left to merge is merged
//                 and what that took was given back
// Nothing is flushed by hand before the kill: what the log still holds beyond the runs is replayed within reopen_s.
//   io_per_row    1,000,000 such rows imported into a table with `storage: "disk"`, 50,000 of them read over HTTP, distinct and in random order, 100 a request: reads of the file (one block of
//                 4 KiB each) that the server's store made, over rows that were found. Every look-up reads; that the system may have the block in its cache is not counted as a saving.
//                 Beside it what the system says that the process read (rchar of /proc, sockets included), and the reads for keys that are not there.

import { execFileSync } from "node:child_process";
import { createWriteStream, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline as pump } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { RespClient } from "#wire/resp-client";
import { processCpuMs, type Scenario } from "./harness.ts";
import { Lane } from "./load/lane.ts";
import { type ServerProcess, startServerProcess, temporaryFolder } from "./load/server-process.ts";

const keyBytes = 18;
const valueBytes = 64;
const pipeline = 1_000;
const settleMs = 60_000;

export const scenario: Scenario = {
  name: "reopen",
  head: "10 M keys served again after kill -9: seconds and memory",
  async run({ quick, report, log }) {
    const keys = quick ? 100_000 : 10_000_000;
    const folder = temporaryFolder();
    const config = join(folder.path, "reopen.json");
    writeFileSync(config, JSON.stringify({ model: null }));
    const start = (): Promise<ServerProcess> =>
      startServerProcess({ data: join(folder.path, "data"), durability: "interval", more: ["--resp-port", "0", "--config", config] });
    let server = await start();
    try {
      let client = await open(server);
      const cpuBeforeMs = processCpuMs(server.pid);
      const startMs = performance.now();
      for (let from = 0; from < keys; from += pipeline) {
        const answers = [];
        for (let index = from; index < Math.min(keys, from + pipeline); index += 1) answers.push(client.command("SET", keyOf(index), valueOf(index)));
        for (const answer of await Promise.all(answers)) if (answer !== "OK") throw new Error(`SET answered ${String(answer)}`);
      }
      const fillMs = performance.now() - startMs;
      const fillCpuMs = processCpuMs(server.pid) - cpuBeforeMs;
      log(`${keys} keys set in ${(fillMs / 1_000).toFixed(1)} s, ${(fillCpuMs / 1_000).toFixed(1)} s CPU of the server`);
      client.close();
      await server.kill();

      const again = performance.now();
      server = await start();
      client = await open(server);
      await expect(client, keys - 1);
      const reopenS = (performance.now() - again) / 1_000;
      const residentBytes = residentOf(server.pid);
      for (let index = 0; index < keys; index += 1_000) await expect(client, index);
      await sleep(quick ? 1_000 : settleMs);
      const settledBytes = residentOf(server.pid);
      client.close();
      report({ metric: "fill_per_core_s", value: keys / (fillCpuMs / 1_000), unit: "1/s", better: "higher", detail: "SET, flush and merging included" });
      report({
        metric: "reopen_s",
        value: reopenS,
        unit: "s",
        better: "lower",
        target: 3,
        detail: `${keys} keys; the process is ready after ${(server.readyMs / 1_000).toFixed(2)} s`,
      });
      report({
        metric: "memory_ratio",
        value: residentBytes / (keys * (keyBytes + valueBytes)),
        unit: "ratio",
        better: "lower",
        target: 1.35,
        detail: `${(residentBytes / 2 ** 20).toFixed(0)} MiB resident, the whole process`,
      });
      report({
        metric: "memory_ratio_settled",
        value: settledBytes / (keys * (keyBytes + valueBytes)),
        unit: "ratio",
        better: "lower",
        target: 1.35,
        detail: `${(settledBytes / 2 ** 20).toFixed(0)} MiB resident, ${settleMs / 1_000} s later`,
      });
    } finally {
      await server.stop();
      folder.remove();
    }
    const io = await readFromDisk(quick ? 20_000 : 1_000_000, quick ? 2_000 : 50_000);
    report({
      metric: "io_per_row",
      value: io.perRow,
      unit: "reads/row",
      better: "lower",
      target: 1,
      detail: `${io.rows} rows found; by the system ${io.systemBytesPerRow.toFixed(0)} B read a row, sockets included; ${io.perAbsentKey.toFixed(4)} reads for a key that is not there`,
    });
  },
};

interface DiskCost {
  readonly rows: number;
  readonly perRow: number;
  readonly perAbsentKey: number;
  readonly systemBytesPerRow: number;
}

/** Imports `count` rows into a table on disk and reads `wanted` of them, then as many keys that are not there. */
async function readFromDisk(count: number, wanted: number): Promise<DiskCost> {
  const folder = temporaryFolder();
  const [config, data, file] = ["disk.json", "data", "rows.csv"].map((name) => join(folder.path, name)) as [string, string, string];
  writeFileSync(config, JSON.stringify({ model: null, tables: { cold: { key: "string", columns: { value: { type: "string" } }, storage: "disk" } } }));
  await pump(function* () {
    yield "id,value\n";
    for (let index = 0; index < count; index += 1) yield `${keyOf(index)},${valueOf(index)}\n`;
  }, createWriteStream(file));
  const command = join(import.meta.dirname, "..", "bin", "millrace.js");
  execFileSync(process.execPath, [command, "import", "cold", file, "--data", data, "--config", config], { stdio: "ignore" });
  const server = await startServerProcess({ data, durability: "interval", more: ["--config", config] });
  const lane = new Lane(server.address);
  try {
    const random = new Prng(7n);
    const numbers = new Set<number>();
    while (numbers.size < wanted) numbers.add(random.below(count));
    const before = await countsOf(lane, server.pid);
    const rows = await readRows(lane, [...numbers]);
    const between = await countsOf(lane, server.pid);
    if (rows !== wanted) throw new Error(`${rows} of ${wanted} rows were found`);
    const ghosts = await readRows(
      lane,
      [...numbers].map((index) => index + count),
    );
    if (ghosts !== 0) throw new Error(`${ghosts} rows were found that nobody wrote`);
    const after = await countsOf(lane, server.pid);
    return {
      rows,
      perRow: (between.reads - before.reads) / rows,
      perAbsentKey: (after.reads - between.reads) / wanted,
      systemBytesPerRow: (between.systemBytes - before.systemBytes) / rows,
    };
  } finally {
    lane.close();
    await server.stop();
    folder.remove();
  }
}

/** How many of the rows were found, each compared with what was imported. */
async function readRows(lane: Lane, numbers: readonly number[]): Promise<number> {
  let found = 0;
  for (let from = 0; from < numbers.length; from += 100) {
    const batch = numbers.slice(from, from + 100);
    const answer = await lane.json<{ rows: (readonly unknown[])[] }>("POST", "/v1/tables/cold/read", { keys: batch.map(keyOf), columns: ["value"] });
    for (const [i, row] of answer.rows.entries()) {
      if (row === null || row[0] === null) continue;
      if (row[0] !== valueOf(batch[i]!)) throw new Error(`${keyOf(batch[i]!)} holds ${String(row[0])}`);
      found += 1;
    }
  }
  return found;
}

async function countsOf(lane: Lane, pid: number): Promise<{ reads: number; systemBytes: number }> {
  const { body } = await lane.request("GET", "/metrics");
  const reads = /^rec_table_disk_reads\{table="cold"\} (\S+)$/m.exec(body);
  if (reads === null) throw new Error("/metrics has no rec_table_disk_reads");
  return { reads: Number(reads[1]), systemBytes: Number(/rchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, "utf8"))![1]) };
}

function keyOf(index: number): string {
  return `user:${String(index).padStart(keyBytes - 5, "0")}`;
}

function valueOf(index: number): string {
  return `value of ${index} `.padEnd(valueBytes, "*");
}

async function expect(client: RespClient, index: number): Promise<void> {
  const value = await client.command("GET", keyOf(index));
  const text = value instanceof Uint8Array ? new TextDecoder().decode(value) : String(value);
  if (text !== valueOf(index)) throw new Error(`${keyOf(index)} holds ${text}`);
}

function residentOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1_024;
}

async function open(server: ServerProcess): Promise<RespClient> {
  const port = Number(/redis\s+127\.0\.0\.1:(\d+)/.exec(server.printed())?.[1]);
  if (!Number.isInteger(port)) throw new Error(`the server did not say its Redis port:\n${server.printed()}`);
  return RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port });
}
