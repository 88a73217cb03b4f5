// reopen: a large keyspace served again after a kill -9, the memory that it takes, and what a row on disk costs.
// Work: 10,000,000 distinct keys of 18 bytes with 64-byte values, set over the Redis port in pipelines of 1,000; then kill -9 and a start on the same folder. No model, no demo, durability `interval`.
//   reopen_s      from the start of the new process to the first right answer to a GET, files in the page cache of the system (a machine that kept running); every 1,000th key is checked afterwards
//   memory_ratio  resident memory of the whole server process then, over key + value bytes; `memory_ratio_settled` the same a minute later, when what was left to merge is merged
//                 and what that took was given back
// Nothing is flushed by hand before the kill: what the log still holds beyond the runs is replayed within reopen_s.

import { writeFileSync } from "node:fs";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { RespClient } from "#wire/resp-client";
import { processCpuMs, type Scenario } from "./harness.ts";
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
  },
};

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
