// Fan-out read: 1,000 random keys x 50 f32 over loopback, one request at a time; CPU of client and server together, a read.
// Clock: CPU time of this process (client) and of the server's threads, over batches of reads, medians of alternating rounds; for 10 of 50 columns
// the median of the rounds' ratios, since both of a round stand side by side. Which keys are asked for is drawn, and their texts are made, before the
// clock starts, for all sides alike; it ends when values were checked. Each side reads the same batches of keys, in another round each, so that none reads what another one has just brought into the
// caches; garbage of the side before is collected before the clock starts. Ours: 1 M rows, in one memtable, TMREAD with a blob of keys, the
// answer checked as a column block. Peers: redis-server without persistence, by ioredis: MGET of packed blobs of 200 bytes, the same 1 M rows, and HMGET of 50 text fields a key in a pipeline,
// 50,000 rows (more takes minutes to fill and favours nobody but us). Durability plays no part: nothing is written while the clock runs. Keys are uniform; values differ by row and column and are checked.

import { fork, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Prng } from "#base/prng";
import { ColumnBlock } from "#features/tables/column-block";
import { collectGarbage } from "#platform/garbage";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { KeyBlobWriter } from "#wire/key-blob";
import { RespClient } from "#wire/resp-client";
import { columnCount, keyOf, valueOf } from "./fanout-read/work.ts";
import { Checksum, median, ownCpuMs, type Scenario, threadsCpuMs } from "./harness.ts";
import { startRedis } from "./load/redis-process.ts";

const keysPerRead = 1_000;

async function startOurs(rows: number): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(join(import.meta.dirname, "fanout-read", "server.ts"), [String(rows)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const port = await new Promise<number>((resolve, reject) => {
    child.once("message", (message) => resolve((message as { port: number }).port));
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { child, port };
}

/** What the client's application sends its keys with. */
const blobs = new KeyBlobWriter();

interface Reader {
  readonly pid: number;
  readonly reads: number;
  readonly read: (asked: AskedKeys) => Promise<void>;
}

/** Of one read. */
interface AskedKeys {
  readonly rows: readonly number[];
  readonly texts: readonly string[];
}

interface Cost {
  /** CPU milliseconds of one read: of this process, and of the server's. */
  client: number;
  server: number;
}

/** What a read of each costs, round by round; all take turns in every round. */
async function roundsOf<Name extends string>(rounds: number, rows: number, readers: Readonly<Record<Name, Reader>>): Promise<Record<Name, Cost[]>> {
  const names = Object.keys(readers) as Name[];
  const found = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, Cost[]>;
  for (let round = -1; round < rounds; round += 1) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const { pid, reads, read } = readers[name];
      const prng = new Prng(`keys ${(round + names.indexOf(name) + names.length) % Math.max(rounds, names.length)}`);
      const asked = Array.from({ length: reads }, (): AskedKeys => {
        const drawn = Array.from({ length: keysPerRead }, () => prng.below(rows));
        return { rows: drawn, texts: drawn.map(keyOf) };
      });
      collectGarbage();
      const server = threadsCpuMs(pid);
      const client = ownCpuMs();
      for (const keys of asked) await read(keys);
      // The first round is for the compilers.
      if (round < 0) continue;
      found[name].push({ client: (ownCpuMs() - client) / reads, server: (threadsCpuMs(pid) - server) / reads });
    }
  }
  return found;
}

const middle = (costs: readonly Cost[]): Cost => ({ client: median(costs.map(({ client }) => client)), server: median(costs.map(({ server }) => server)) });
const sum = ({ client, server }: Cost): number => client + server;
const shown = (cost: Cost): string => `${sum(cost).toFixed(2)} ms, ${cost.client.toFixed(2)} of them the client's`;

export const scenario: Scenario = {
  name: "fanout-read",
  head: "1,000 keys x 50 f32 of 1 M rows over loopback: CPU of client and server together, against ioredis with redis-server",
  async run({ quick, report, log }) {
    const rows = quick ? 20_000 : 1_000_000;
    const hashRows = quick ? 2_000 : 50_000;
    const rounds = quick ? 2 : 7;
    const reads = quick ? 100 : 200;
    const answers = new Checksum();
    const { child, port } = await startOurs(rows);
    const client = await open(port);
    const redis = await startRedis({ appendOnly: false });
    const peer = redis === undefined ? undefined : new Redis({ port: redis.port, host: "127.0.0.1" });
    try {
      const readOurs = async (columns: string, asked: AskedKeys): Promise<void> => {
        const block = new ColumnBlock((await client.command("TMREAD", "items", columns, "KEYSBLOB", blobs.fill(asked.texts))) as Uint8Array);
        const last = block.columns.at(-1)!;
        for (const row of [0, keysPerRead - 1]) {
          const bytes = block.bytesOf(row, last);
          const value = new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
          if (value !== valueOf(asked.rows[row]!, Number(last.name.slice(1))) || !block.isValid(row, last))
            throw new Error(`wrong value for ${asked.texts[row]}`);
          answers.add(value);
        }
      };
      const ten = Array.from({ length: 10 }, (_, i) => `f${i * 5}`).join(",");
      const ours = {
        all: { pid: child.pid!, reads, read: (asked: AskedKeys) => readOurs("*", asked) },
        ten: { pid: child.pid!, reads, read: (asked: AskedKeys) => readOurs(ten, asked) },
      };
      let allRounds: Cost[];
      let someRounds: Cost[];
      if (redis === undefined || peer === undefined) {
        log("redis-server: missing");
        ({ all: allRounds, ten: someRounds } = await roundsOf(rounds, rows, ours));
      } else {
        await fillRedis(redis.port, rows, hashRows);
        const found = await roundsOf(rounds, rows, {
          ...ours,
          mget: {
            pid: redis.pid,
            reads,
            async read(asked) {
              const found = await peer.mgetBuffer(...asked.texts);
              if (found[0]!.readFloatLE(4) !== valueOf(asked.rows[0]!, 1)) throw new Error("wrong value from MGET");
            },
          },
          hmget: {
            pid: redis.pid,
            reads: quick ? 2 : 8,
            async read(asked) {
              const pipe = peer.pipeline();
              // Fewer rows are there: which of them is asked for is part of no read's work that would show.
              const keys = asked.rows.map((row) => row % hashRows);
              for (const key of keys) pipe.hmget(`h${keyOf(key)}`, ...names);
              const found = (await pipe.exec())!;
              const values = Float32Array.from(found[0]![1] as string[], Number);
              if (values[1] !== valueOf(keys[0]!, 1)) throw new Error("wrong value from HMGET");
            },
          },
        });
        ({ all: allRounds, ten: someRounds } = found);
        const [all, mget, hmget] = [allRounds, found.mget, found.hmget].map(middle) as [Cost, Cost, Cost];
        report({
          metric: "cpu_ratio_vs_redis_mget_packed",
          value: sum(all) / sum(mget),
          unit: "ratio",
          better: "lower",
          target: 0.6,
          peer: `redis ${redis.version} MGET of packed blobs: ${shown(mget)}`,
        });
        report({
          metric: "cpu_ratio_vs_ioredis_hmget",
          value: sum(all) / sum(hmget),
          unit: "ratio",
          better: "lower",
          target: 0.025,
          peer: `ioredis HMGET pipelined, ${hashRows} hashes: ${shown(hmget)}`,
        });
      }
      const all = middle(allRounds);
      const some = middle(someRounds);
      log(`a read of ${keysPerRead} x ${columnCount}: ${shown(all)}; of 10 columns ${shown(some)}; checksum ${answers.hex()}`);
      report({ metric: "cpu_ms", value: sum(all), unit: "ms", better: "lower", detail: `${rows} rows; ${shown(all)}` });
      // Both of a round stand side by side; from one round to the next the machine may be twice as slow.
      const ratios = someRounds.map((cost, round) => sum(cost) / sum(allRounds[round]!));
      report({
        metric: "cpu_ratio_10_of_50_columns",
        value: median(ratios),
        unit: "ratio",
        better: "lower",
        target: 0.7,
        detail: `every fifth column; median of the rounds' ratios, ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}; of the medians ${(sum(some) / sum(all)).toFixed(2)}`,
      });
    } finally {
      peer?.disconnect();
      await redis?.stop();
      client.close();
      child.disconnect();
    }
  },
};

const names = Array.from({ length: columnCount }, (_, i) => `f${i}`);

async function open(port: number): Promise<RespClient> {
  return RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port, protocol: 2 });
}

/** `rows` packed blobs, and `hashRows` hashes of text fields. */
async function fillRedis(port: number, rows: number, hashRows: number): Promise<void> {
  const client = await open(port);
  for (let first = 0; first < rows; first += 500) {
    const answers = [];
    for (let row = first; row < Math.min(rows, first + 500); row += 1) {
      const values = Float32Array.from(names, (_, column) => valueOf(row, column));
      answers.push(client.command("SET", keyOf(row), new Uint8Array(values.buffer)));
      if (row < hashRows) answers.push(client.command("HSET", `h${keyOf(row)}`, ...names.flatMap((name, i) => [name, String(values[i])])));
    }
    await Promise.all(answers);
  }
  client.close();
}
