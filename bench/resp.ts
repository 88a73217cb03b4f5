// resp: the Redis port beside a real redis-server, under the real redis-benchmark: operations per second of server CPU.
// Work: 64-byte values, keys drawn evenly from 1,000,000 (`-r 1000000`), some 10 % of them absent; 50 connections; pipelines of 16 and of 64. HMGET asks for 10 fields of a hash of 10 with 6-byte values.
// Durability: `interval` of 1 s here, `appendfsync everysec` there. Before anything is timed both are filled, and millrace's memtables are flushed to runs (SAVE) and merged;
// what a SET round writes stays where it is.
// Clock: CPU time (user + system, all threads) of the server process from /proc over one redis-benchmark call, wall beside it; 5 alternating rounds, medians.
// ratio = operations per server CPU second, millrace over redis-server. Answers are checked: the share of hits of one thousand keys, and their values.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { RespClient } from "#wire/resp-client";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { median, processCpuMs, type Scenario } from "./harness.ts";
import { type RedisProcess, startRedis, versionOf } from "./load/redis-process.ts";
import { startServerProcess, temporaryFolder } from "./load/server-process.ts";

const keys = 1_000_000;
const hashes = 100_000;
const valueBytes = 64;
const connections = 50;
const fields = Array.from({ length: 10 }, (_, index) => `field${index}`);

interface Target {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
}

interface Work {
  readonly name: string;
  readonly args: readonly string[];
  readonly operations: number;
}

export const scenario: Scenario = {
  name: "resp",
  head: "GET, SET and HMGET under redis-benchmark: operations per server CPU second beside redis-server",
  async run({ quick, report, log }) {
    if (versionOf("redis-benchmark") === undefined) {
      report({ metric: "peers_missing", value: 1, unit: "count", better: "lower", target: 0, peer: "redis-benchmark: missing" });
      return;
    }
    const folder = temporaryFolder();
    const config = join(folder.path, "resp.json");
    writeFileSync(config, JSON.stringify({ model: null }));
    const server = await startServerProcess({
      data: join(folder.path, "data"),
      durability: "interval",
      more: ["--interval-ms", "1000", "--resp-port", "0", "--config", config],
    });
    const redis: RedisProcess | undefined = await startRedis({ appendOnly: true });
    try {
      const port = Number(/redis\s+127\.0\.0\.1:(\d+)/.exec(server.printed())?.[1]);
      if (!Number.isInteger(port)) throw new Error(`the server did not say its Redis port:\n${server.printed()}`);
      const ours: Target = { name: "millrace", port, pid: server.pid };
      const targets: Target[] = redis === undefined ? [ours] : [ours, { name: "redis", port: redis.port, pid: redis.pid }];
      if (redis === undefined) log("redis-server: missing; no ratios");

      const filled = quick ? 20_000 : Math.round(keys * 2.3);
      for (const target of targets) {
        benchmark(target.port, ["-P", "64", "-n", String(filled), "-r", String(quick ? 10_000 : keys), "-d", String(valueBytes), "-t", "set"]);
        benchmark(target.port, [
          ...["-P", "64", "-n", String(quick ? 2_000 : hashes * 3), "-r", String(quick ? 1_000 : hashes)],
          ...["hset", "hash:__rand_int__", ...fields.flatMap((field) => [field, "v12345"])],
        ]);
      }
      await settle(port);
      const hits = await checked(ours, quick ? 10_000 : keys);
      log(`${(hits * 100).toFixed(1)} % of the keys are there`);

      for (const pipeline of quick ? [16] : [16, 64]) {
        const operations = quick ? 20_000 : 500_000;
        const works: Work[] = [
          { name: "get", operations, args: ["-t", "get"] },
          { name: "set", operations, args: ["-t", "set"] },
          { name: "hmget", operations: operations / 2, args: ["hmget", "hash:__rand_int__", ...fields] },
        ];
        for (const work of works) {
          const rates = new Map(targets.map(({ name }): [string, number[]] => [name, []]));
          for (let round = 0; round < (quick ? 1 : 5); round += 1) {
            for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
              const before = processCpuMs(target.pid);
              const range = quick ? 1_000 : work.name === "hmget" ? hashes : keys;
              benchmark(target.port, ["-P", String(pipeline), "-n", String(work.operations), "-r", String(range), "-d", String(valueBytes), ...work.args]);
              rates.get(target.name)!.push(work.operations / ((processCpuMs(target.pid) - before) / 1_000));
            }
          }
          const own = median(rates.get("millrace")!);
          const peer = rates.has("redis") ? median(rates.get("redis")!) : Number.NaN;
          log(`P=${pipeline} ${work.name}: millrace ${own.toFixed(0)}/s, redis ${peer.toFixed(0)}/s of server CPU`);
          report({ metric: `${work.name}_per_core_s_p${pipeline}`, value: own, unit: "1/s", better: "higher", detail: `${connections} connections` });
          if (!Number.isNaN(peer)) {
            report({
              metric: `${work.name}_ratio_p${pipeline}`,
              value: own / peer,
              unit: "ratio",
              better: "higher",
              target: 0.5,
              peer: `redis-server ${redis!.version}: ${peer.toFixed(0)}/s`,
              detail: "operations per server CPU second, medians of alternating rounds",
            });
          }
        }
      }
    } finally {
      await redis?.stop();
      await server.stop();
      folder.remove();
    }
  },
};

function benchmark(port: number, args: readonly string[]): void {
  execFileSync("redis-benchmark", ["-h", "127.0.0.1", "-p", String(port), "-c", String(connections), "-q", ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

/** Everything written lies in runs, and nothing is merged any more. */
async function settle(port: number): Promise<void> {
  const client = await open(port);
  await client.command("SAVE");
  let last = "";
  for (let quiet = 0; quiet < 4;) {
    await sleep(500);
    const info = String(await client.command("INFO", "persistence"));
    quiet = info === last ? quiet + 1 : 0;
    last = info;
  }
  client.close();
}

/** The share of keys that are there; throws when a value is not what was set. */
async function checked({ port }: Target, range: number): Promise<number> {
  const client = await open(port);
  let hits = 0;
  for (let index = 0; index < 1_000; index += 1) {
    const value = await client.command("GET", `key:${String(Math.floor((index * range) / 1_000)).padStart(12, "0")}`);
    if (value === null) continue;
    if (!(value instanceof Uint8Array) || value.length !== valueBytes) throw new Error(`key ${index} holds something else`);
    hits += 1;
  }
  client.close();
  return hits / 1_000;
}

async function open(port: number): Promise<RespClient> {
  return RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port });
}
