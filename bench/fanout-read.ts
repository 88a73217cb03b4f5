// Fan-out read: 1,000 random keys x 50 f32 over loopback, one request at a time; CPU of client and server together, a read.
// Clock: CPU time of this process (client) and of the server's process, over batches of reads, best of the rounds. Ours: 1 M rows, in one memtable, TMREAD with a blob of keys, the
// answer checked as a column block. Peers: redis-server without persistence, 20,000 rows (more would change its figures little), by ioredis: HMGET of 50 text fields a key in a pipeline, and MGET of
// packed blobs of 200 bytes. Durability plays no part: nothing is written while the clock runs. Keys are uniform; values differ by row and column and are checked.

import { fork, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Prng } from "#base/prng";
import { ColumnBlock } from "#features/tables/column-block";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { RespClient } from "#wire/resp-client";
import { columnCount, keyOf, valueOf } from "./fanout-read/work.ts";
import { Checksum, ownCpuMs, processCpuMs, type Scenario } from "./harness.ts";
import { startRedis } from "./load/redis-process.ts";

const keysPerRead = 1_000;
const redisRows = 20_000;

async function startOurs(rows: number): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(join(import.meta.dirname, "fanout-read", "server.ts"), [String(rows)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const port = await new Promise<number>((resolve, reject) => {
    child.once("message", (message) => resolve((message as { port: number }).port));
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { child, port };
}

const blob = Buffer.alloc(4 + 4 * (keysPerRead + 1) + 64 * keysPerRead);

/** u32 count, bounds, bytes: into one buffer that is reused, as a client that cares would do. */
function blobOf(rows: readonly number[]): Buffer {
  const view = new DataView(blob.buffer, blob.byteOffset);
  const from = 4 + 4 * (rows.length + 1);
  view.setUint32(0, rows.length, true);
  let bound = 0;
  rows.forEach((row, i) => {
    bound += blob.write(keyOf(row), from + bound, "latin1");
    view.setUint32(8 + 4 * i, bound, true);
  });
  return blob.subarray(0, from + bound);
}

/** CPU milliseconds of one read, client and server: the least of the rounds, each of `reads` reads. */
async function costOf(pid: number, rounds: number, reads: number, read: () => Promise<void>): Promise<number> {
  for (let i = 0; i < Math.ceil(reads / 4); i += 1) await read();
  let least = Infinity;
  for (let round = 0; round < rounds; round += 1) {
    const server = processCpuMs(pid);
    const client = ownCpuMs();
    for (let i = 0; i < reads; i += 1) await read();
    least = Math.min(least, (ownCpuMs() - client + processCpuMs(pid) - server) / reads);
  }
  return least;
}

export const scenario: Scenario = {
  name: "fanout-read",
  head: "1,000 keys x 50 f32 of 1 M rows over loopback: CPU of client and server together, against ioredis with redis-server",
  async run({ quick, report, log }) {
    const rows = quick ? 20_000 : 1_000_000;
    const rounds = quick ? 4 : 5;
    const prng = new Prng("fanout-read");
    const sum = new Checksum();
    const { child, port } = await startOurs(rows);
    const client = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port, protocol: 2 });
    try {
      const readOurs = async (columns: string): Promise<void> => {
        const asked = Array.from({ length: keysPerRead }, () => prng.below(rows));
        const keys = blobOf(asked);
        const block = new ColumnBlock((await client.command("TMREAD", "items", columns, "KEYSBLOB", keys)) as Uint8Array);
        const last = block.columns.at(-1)!;
        for (const row of [0, keysPerRead - 1]) {
          const bytes = block.bytesOf(row, last);
          const value = new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
          if (value !== valueOf(asked[row]!, Number(last.name.slice(1))) || !block.isValid(row, last)) throw new Error(`wrong value for ${keyOf(asked[row]!)}`);
          sum.add(value);
        }
      };
      const ten = Array.from({ length: 10 }, (_, i) => `f${i * 5}`).join(",");
      const all = await costOf(child.pid!, rounds, quick ? 150 : 200, () => readOurs("*"));
      const some = await costOf(child.pid!, rounds, quick ? 150 : 200, () => readOurs(ten));
      log(`a read of ${keysPerRead} x ${columnCount}: ${all.toFixed(2)} ms of CPU, of 10 columns ${some.toFixed(2)} ms; checksum ${sum.hex()}`);
      report({ metric: "cpu_ms", value: all, unit: "ms", better: "lower", detail: `${rows} rows, client and server` });
      report({ metric: "cpu_ratio_10_of_50_columns", value: some / all, unit: "ratio", better: "lower", target: 0.7, detail: "every fifth column" });
      const redis = await startRedis({ appendOnly: false });
      if (redis === undefined) {
        log("redis-server: missing");
        return;
      }
      const peer = new Redis({ port: redis.port, host: "127.0.0.1" });
      try {
        const names = Array.from({ length: columnCount }, (_, i) => `f${i}`);
        for (let first = 0; first < redisRows; first += 500) {
          const pipe = peer.pipeline();
          for (let row = first; row < first + 500; row += 1) {
            const values = Float32Array.from(names, (_, column) => valueOf(row, column));
            pipe.hset(`h${keyOf(row)}`, Object.fromEntries(names.map((name, i) => [name, values[i]!])));
            pipe.set(keyOf(row), Buffer.from(values.buffer));
          }
          await pipe.exec();
        }
        const asked = (): number[] => Array.from({ length: keysPerRead }, () => prng.below(redisRows));
        const mget = await costOf(redis.pid, rounds, quick ? 150 : 200, async () => {
          const keys = asked();
          const found = await peer.mgetBuffer(...keys.map(keyOf));
          if (found[0]!.readFloatLE(4) !== valueOf(keys[0]!, 1)) throw new Error("wrong value from MGET");
        });
        const hmget = await costOf(redis.pid, quick ? 1 : 3, quick ? 2 : 8, async () => {
          const keys = asked();
          const pipe = peer.pipeline();
          for (const key of keys) pipe.hmget(`h${keyOf(key)}`, ...names);
          const found = (await pipe.exec())!;
          const values = Float32Array.from(found[0]![1] as string[], Number);
          if (values[1] !== valueOf(keys[0]!, 1)) throw new Error("wrong value from HMGET");
        });
        report({
          metric: "cpu_ratio_vs_redis_mget_packed",
          value: all / mget,
          unit: "ratio",
          better: "lower",
          target: 0.6,
          peer: `redis ${redis.version} MGET of packed blobs: ${mget.toFixed(2)} ms`,
        });
        report({
          metric: "cpu_ratio_vs_ioredis_hmget",
          value: all / hmget,
          unit: "ratio",
          better: "lower",
          target: 0.025,
          peer: `ioredis HMGET pipelined: ${hmget.toFixed(1)} ms`,
        });
      } finally {
        peer.disconnect();
        await redis.stop();
      }
    } finally {
      client.close();
      child.disconnect();
    }
  },
};
