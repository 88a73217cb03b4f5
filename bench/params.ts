// The parameter server's table in one process: pulls of batches, additions, growth, narrow pulls, bytes a row, and one table beyond 4 GiB that is filled, evicted,
// checkpointed and restored; and the same pulls from the real server process over loopback (PPULL, the SDK's client). Beside it redis-server with the same rows packed, MGET of the
// same batches. What counts over a socket is the CPU of both sides together, server with all its threads: rows a second "on one core" are rows by seconds of CPU that client and server
// took, as if one core did the work of both.
// Arithmetic: a row of 16 numbers is 80 bytes for a reader in 2.2 lines, and a line of the index: 3.2 misses, 100 ns each one after another, some 15 to 20 ns when
// the misses of 32 keys overlap: 50 to 70 ns a row at a million rows, less where Zipf's hot keys stay in the caches.
// Over loopback come some 25 us of system calls and copies a batch of 64 kB on each side: 100 to 150 ns a row in all.
// Aggregation: CPU time of this process (and of the servers), alternating rounds, minima.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Prng } from "#base/prng";
import { MemoryPool } from "#kernel/memory-pool";
import { kernelReport } from "#kernel/kernels";
import { ParameterStore } from "#params/parameter-store";
import { StoreCheckpointer } from "#params/store-checkpoint";
import { systemFiles } from "#platform/system-files";
import { ParameterClient } from "#sdk/index";
import { alternatingRounds, Checksum, median, processCpuMs, type Scenario, type ScenarioOptions } from "./harness.ts";
import { startRedis } from "./load/redis-process.ts";
import { startServerProcess, temporaryFolder } from "./load/server-process.ts";

const dim = 16;
const batchKeys = 1_000;

function putKey(keys: Uint32Array, at: number, row: number): void {
  keys[2 * at] = Math.imul(row, 0x9e37_79b1) >>> 0;
  keys[2 * at + 1] = Math.imul(row, 0x85eb_ca6b) >>> 0;
}

/** Row numbers by Zipf's law with exponent 1, hot ones spread over all numbers. */
function zipf(prng: Prng, rows: number): () => number {
  const sums = new Float64Array(rows);
  let sum = 0;
  for (let i = 0; i < rows; i++) sums[i] = sum += 1 / (i + 1);
  const spread = prng.shuffle(Array.from({ length: rows }, (_, i) => i));
  return () => {
    const drawn = prng.float() * sum;
    let low = 0;
    let high = rows - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < drawn) low = middle + 1;
      else high = middle;
    }
    return spread[low]!;
  };
}

/** Sends one prepared MGET and reads an answer of known length; the rows' bytes go to `into`, as a client that knows its width would do. */
class RedisReader {
  readonly #socket: Socket;
  #waiting: ((bytes: Buffer) => void) | undefined;
  #needed = 0;
  #parts: Buffer[] = [];
  #have = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (part) => {
      this.#parts.push(part);
      this.#have += part.length;
      if (this.#have < this.#needed) return;
      const whole = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
      this.#parts = [];
      this.#have = 0;
      this.#waiting?.(whole);
    });
  }

  call(request: Buffer, answerBytes: number): Promise<Buffer> {
    this.#needed = answerBytes;
    return new Promise((resolve) => {
      this.#waiting = resolve;
      this.#socket.write(request);
    });
  }
}

function command(name: string, parts: readonly Buffer[]): Buffer {
  const pieces: Buffer[] = [Buffer.from(`*${parts.length + 1}\r\n$${name.length}\r\n${name}\r\n`)];
  for (const part of parts) pieces.push(Buffer.from(`$${part.length}\r\n`), part, Buffer.from("\r\n"));
  return Buffer.concat(pieces);
}

/** The least round of both sides together; `other` has the rounds before the measured ones too. */
function bothMs(client: readonly number[], other: readonly number[]): number {
  return Math.min(...client.map((ms, i) => ms + other[other.length - client.length + i]!));
}

async function pulls({ quick, report, log }: ScenarioOptions): Promise<void> {
  const rows = quick ? 20_000 : 1_000_000;
  const batches = quick ? 20 : 300;
  const rounds = quick ? 2 : 9;
  const newStore = (): ParameterStore => {
    const made = new ParameterStore(new MemoryPool({ capBytes: 2 ** 30 }), "params", {
      dim,
      initial: { seed: 2026n, factors: dim, initialScale: 0.1 },
      bytes: quick ? 8 << 20 : 192 << 20,
      shards: 1,
    });
    made.lead(1, 1);
    return made;
  };
  const prng = new Prng("params");
  const keys = new Uint32Array(2 * batchKeys);
  const values = new Float32Array(batchKeys * dim);
  // The CPU clock of a thread goes in steps of some ms: each batch by the wall, the least of several fills, which do the same work in the same batches.
  const stepMs = new Float64Array(rows / batchKeys).fill(Infinity);
  let store = newStore();
  const fills = quick ? 2 : 5;
  for (let fill = 0; fill < fills; fill++) {
    if (fill > 0) store = newStore();
    for (let first = 0; first < rows; first += batchKeys) {
      for (let i = 0; i < batchKeys; i++) {
        putKey(keys, i, first + i);
        values.fill(first + i, i * dim, (i + 1) * dim);
      }
      const before = performance.now();
      if (store.assign(keys, batchKeys, values, 1) !== 0) throw new Error("the table is full");
      const batch = first / batchKeys;
      stepMs[batch] = Math.min(stepMs[batch]!, performance.now() - before);
    }
  }
  const longestMs = Math.max(...stepMs);
  const { usedBytes, indexBytes, rowBytes } = store.shards[0]!.statistics();
  const headBytes = rowBytes + indexBytes / rows - 4 * dim;
  report({
    metric: "bytes_beside_floats",
    value: headBytes,
    unit: "B/row",
    better: "lower",
    target: 44,
    detail: `rows ${rowBytes} B, index ${(indexBytes / rows).toFixed(2)} B a row; all memory taken, buckets included: ${(usedBytes / rows).toFixed(1)} B a row`,
  });
  report({
    metric: "growth_step_max_ms",
    value: longestMs,
    unit: "ms",
    better: "lower",
    target: 2,
    detail: `the longest of ${rows / batchKeys} batches of 1,000 new rows while the table grew to ${rows}, each the least of ${fills} fills; median ${median(stepMs).toFixed(2)} ms`,
  });

  const draw = zipf(prng, rows);
  const numbers = Array.from({ length: batches }, () => Uint32Array.from({ length: batchKeys }, draw));
  const asked = numbers.map((list) => {
    const own = new Uint32Array(2 * batchKeys);
    list.forEach((row, i) => putKey(own, i, row));
    return own;
  });
  const into = new Float32Array(batchKeys * dim);
  const halves = new Uint16Array(batchKeys * dim);
  const narrow = { bytes: new Int8Array(batchKeys * dim), scales: new Float32Array(batchKeys) };
  const checksum = new Checksum();
  for (const [n, own] of asked.entries()) {
    if (store.pull(own, batchKeys, into) !== 0) throw new Error("rows are missing");
    for (let i = 0; i < batchKeys; i++) if (into[i * dim] !== numbers[n]![i] || into[i * dim + dim - 1] !== numbers[n]![i]) throw new Error("a wrong row");
    checksum.add(into);
  }
  log(`checked  ${batches} batches; checksum of the rows ${checksum.hex()}; live variant ${kernelReport().live}`);

  const redis = await startRedis({ appendOnly: false });
  let mget: (() => Promise<void>) | undefined;
  const redisCpuMs: number[] = [];
  let socket: Socket | undefined;
  if (redis !== undefined) {
    socket = connect(redis.port, "127.0.0.1");
    socket.setNoDelay(true);
    const reader = new RedisReader(socket);
    const packed = (n: number): Buffer => {
      const key = new Uint32Array(2);
      putKey(key, 0, n);
      return Buffer.from(key.buffer);
    };
    for (let first = 0; first < rows; first += batchKeys) {
      const parts: Buffer[] = [];
      for (let i = 0; i < batchKeys; i++) parts.push(packed(first + i), Buffer.from(new Float32Array(dim).fill(first + i).buffer));
      await reader.call(command("MSET", parts), 5);
    }
    const requests = numbers.map((list) => command("MGET", Array.from(list, packed)));
    const rowAt = 5 + 4 * dim + 2;
    const answerBytes = `*${batchKeys}\r\n`.length + batchKeys * rowAt;
    const bytesInto = Buffer.from(into.buffer);
    mget = async () => {
      const before = processCpuMs(redis.pid);
      for (const request of requests) {
        const answer = await reader.call(request, answerBytes);
        for (let i = 0, at = answer.length - batchKeys * rowAt + 5; i < batchKeys; i++, at += rowAt) answer.copy(bytesInto, 4 * dim * i, at, at + 4 * dim);
      }
      redisCpuMs.push(processCpuMs(redis.pid) - before);
    };
    await mget();
    if (into[0] !== numbers.at(-1)![0]) throw new Error("redis answers another row");
    redisCpuMs.length = 0;
  }
  const folder = temporaryFolder();
  const configPath = join(folder.path, "config.json");
  const user = { dim, seed: 2026, initialScale: 0.1, memoryMb: quick ? 8 : 192, shards: 1, checkpoint: { everySeconds: 86_400 } };
  writeFileSync(configPath, JSON.stringify({ model: null, parameters: { tables: { user, added: user } } }));
  const server = await startServerProcess({ data: join(folder.path, "data"), durability: "none", more: ["--config", configPath] });
  const client = await ParameterClient.connect({ port: server.respPort });
  const table = client.table("user");
  const wide = (own: Uint32Array): BigUint64Array => new BigUint64Array(own.buffer, own.byteOffset, own.length / 2);
  for (let first = 0; first < rows; first += batchKeys) {
    for (let i = 0; i < batchKeys; i++) {
      putKey(keys, i, first + i);
      values.fill(first + i, i * dim, (i + 1) * dim);
    }
    if ((await table.assign(wide(keys), values)) !== batchKeys) throw new Error("the server's table is full");
  }
  const askedWide = asked.map(wide);
  /** Several times the batches: the CPU clock of another process goes in steps of 10 ms. */
  const passes = quick ? 1 : 4;
  const serverCpuMs: number[] = [];
  const loopback = async (): Promise<void> => {
    const before = processCpuMs(server.pid);
    for (let pass = 0; pass < passes; pass++) {
      for (const [n, own] of askedWide.entries()) {
        const { rows: pulled, missing } = await table.pull(own);
        if (missing !== 0 || pulled[0] !== numbers[n]![0] || pulled[(batchKeys - 1) * dim] !== numbers[n]![batchKeys - 1])
          throw new Error("the server answers another row");
      }
    }
    serverCpuMs.push(processCpuMs(server.pid) - before);
  };
  await loopback();
  serverCpuMs.length = 0;
  const deltas = new Float32Array(batchKeys * dim).fill(0.001);
  const pushCpuMs: number[] = [];
  // Another table: what is pulled stays as it was.
  const added = client.table("added");
  const pushes = async (): Promise<void> => {
    const before = processCpuMs(server.pid);
    for (let pass = 0; pass < passes; pass++) {
      for (const own of askedWide) if ((await added.add(own, deltas)) !== batchKeys) throw new Error("the server did not add all rows");
    }
    pushCpuMs.push(processCpuMs(server.pid) - before);
  };
  const result = await alternatingRounds(rounds, {
    pull: () => asked.forEach((own) => store.pull(own, batchKeys, into)),
    halves: () => asked.forEach((own) => store.pullHalves(own, batchKeys, halves)),
    bytes: () => asked.forEach((own) => store.pullBytes(own, batchKeys, narrow)),
    add: () => asked.forEach((own) => store.add(own, batchKeys, deltas, 2)),
    loopback,
    pushes,
    ...(mget === undefined ? {} : { mget }),
  });
  const perRow = (cpuMs: readonly number[]): number => (Math.min(...cpuMs) * 1e6) / (batches * batchKeys);
  const rate = (cpuMs: readonly number[]): number => 1e9 / perRow(cpuMs);
  const redisNs =
    mget === undefined
      ? undefined
      : (bothMs((result as unknown as Record<string, { cpuMs: number[] }>)["mget"]!.cpuMs, redisCpuMs) * 1e6) / (batches * batchKeys);
  report({
    metric: "pull_rows_per_s_inprocess",
    value: rate(result.pull.cpuMs),
    unit: "1/s",
    better: "higher",
    target: 6_000_000,
    peer:
      redisNs === undefined
        ? "redis-server: missing"
        : `redis-server ${redis!.version} MGET over loopback: ${(1e9 / redisNs).toFixed(0)} rows per CPU second of both sides`,
    detail: `${dim} floats, Zipf 1.0 over ${rows} keys, batches of ${batchKeys}, one core; best of ${rounds}, median ${Math.round((batches * batchKeys * 1e3) / median(result.pull.cpuMs))}`,
  });
  report({ metric: "pull_halves_rows_per_s", value: rate(result.halves.cpuMs), unit: "1/s", better: "higher", detail: "f16" });
  report({ metric: "pull_bytes_rows_per_s", value: rate(result.bytes.cpuMs), unit: "1/s", better: "higher", detail: "int8 with a scale a row" });
  report({ metric: "add_rows_per_s", value: rate(result.add.cpuMs), unit: "1/s", better: "higher", detail: "versions, recency list and digest kept" });
  const clientCpuMs = result.loopback.cpuMs;
  const loopbackNs = (bothMs(clientCpuMs, serverCpuMs) * 1e6) / (passes * batches * batchKeys);
  report({
    metric: "pull_rows_per_s_loopback",
    value: 1e9 / loopbackNs,
    unit: "1/s",
    better: "higher",
    target: 1_000_000,
    detail: `rows by CPU seconds of client and server process together, PPULL by the SDK, one batch of ${batchKeys} after another; of ${loopbackNs.toFixed(0)} ns a row the client has ${((Math.min(...clientCpuMs) * 1e6) / (passes * batches * batchKeys)).toFixed(0)}; wall ${((Math.min(...result.loopback.wallMs) * 1e3) / (passes * batches)).toFixed(0)} us a batch`,
  });
  const pushNs = (bothMs(result.pushes.cpuMs, pushCpuMs) * 1e6) / (passes * batches * batchKeys);
  report({
    metric: "push_rows_per_s_loopback",
    value: 1e9 / pushNs,
    unit: "1/s",
    better: "higher",
    detail: `PADD by the SDK, one batch after another, answered once it is applied; CPU of both sides, ${pushNs.toFixed(0)} ns a row; wall ${((Math.min(...result.pushes.wallMs) * 1e3) / (passes * batches)).toFixed(0)} us a batch`,
  });
  if (redisNs !== undefined) {
    report({
      metric: "cpu_ratio_vs_redis_mget",
      value: loopbackNs / redisNs,
      unit: "ratio",
      better: "lower",
      target: 0.6,
      peer: `redis-server ${redis!.version}, MGET of the same batches`,
      detail: `the same rows packed as one value a key, CPU of both sides: ours ${loopbackNs.toFixed(0)} ns a row, redis-server and a client that knows its answers' width ${redisNs.toFixed(0)} ns`,
    });
    report({
      metric: "redis_mget_ns_per_row",
      value: redisNs,
      unit: "ns",
      better: "lower",
      detail: `CPU of redis-server and of the client that reads its answers; ours in process ${perRow(result.pull.cpuMs).toFixed(0)} ns`,
    });
  }
  client.close();
  await server.kill();
  folder.remove();
  socket?.destroy();
  await redis?.stop();
  store.release();
}

/** One table beyond 4 GiB: filled, evicted under its bound, checkpointed, restored in its own memories, compared. */
async function largeTable({ quick, report, log }: ScenarioOptions): Promise<void> {
  const wide = 256;
  const bytes = quick ? 64 << 20 : 6 * 2 ** 30;
  const rows = Math.floor((bytes * 0.93) / (36 + 4 * wide + 8));
  const pool = new MemoryPool({ capBytes: quick ? 2 ** 30 : 16 * 2 ** 30 });
  const shape = { dim: wide, initial: { seed: 1n, factors: 0, initialScale: 0 }, bytes, shards: 2, laneBytes: 4 << 20 };
  const folder = mkdtempSync(join(tmpdir(), "millrace-params-"));
  const clock = performance.now();
  const at = (): string => `${((performance.now() - clock) / 1e3).toFixed(1)} s`;
  try {
    let store = new ParameterStore(pool, "large", shape);
    store.lead(1, 1);
    const keys = new Uint32Array(2 * batchKeys);
    const values = new Float32Array(batchKeys * wide);
    const found = new Uint8Array(batchKeys);
    const fill = (first: number): void => {
      for (let i = 0; i < batchKeys; i++) {
        putKey(keys, i, first + i);
        values.fill(first + i, i * wide, (i + 1) * wide);
      }
    };
    let refused = 0;
    for (let first = 0; first < rows; first += batchKeys) {
      fill(first);
      refused += store.assign(keys, batchKeys, values, Math.floor(first / 1e5));
    }
    if (refused > 0) throw new Error(`${refused} rows found no room`);
    const filled = store.live;
    log(
      `filled   ${filled} rows of ${wide}, ${store.shards.map((shard) => (shard.statistics().usedBytes / 2 ** 30).toFixed(2)).join(" + ")} GiB taken, ${at()}`,
    );
    const target = Math.floor(filled * 0.95);
    let evicted = 0;
    for (let step; (step = store.evict(target * store.shards[0]!.rowBytes, 1_000, true)) > 0;) evicted += step;
    log(`evicted  ${evicted}, ${store.live} are left, ${at()}`);
    let { checkpointer } = await StoreCheckpointer.open(store, systemFiles, folder);
    const full = await checkpointer.save();
    for (let first = rows - 20 * batchKeys; first < rows - 10 * batchKeys; first += batchKeys) {
      for (let i = 0; i < batchKeys; i++) putKey(keys, i, first + i);
      store.add(keys, batchKeys, values.fill(1), 9);
    }
    const part = await checkpointer.save();
    log(`saved    ${(full.bytes / 2 ** 30).toFixed(2)} GiB and ${(part.bytes / 2 ** 20).toFixed(0)} MiB, ${at()}`);
    if (part.full) throw new Error("the second checkpoint is not incremental");
    const digests = store.shards.map((shard) => Array.from({ length: shard.buckets }, (_, bucket) => shard.digest(bucket)));
    const live = store.live;
    store.release();
    store = new ParameterStore(pool, "large", shape);
    ({ checkpointer } = await StoreCheckpointer.open(store, systemFiles, folder));
    const same = store.shards.every((shard, s) =>
      digests[s]!.every(({ high, low }, bucket) => shard.digest(bucket).high === high && shard.digest(bucket).low === low),
    );
    let wrong = 0;
    for (let first = Math.floor(rows / 2); first < rows - 10 * batchKeys; first += 50 * batchKeys) {
      for (let i = 0; i < batchKeys; i++) putKey(keys, i, first + i);
      store.pull(keys, batchKeys, values, found);
      for (let i = 0; i < batchKeys; i++) {
        const added = first + i >= rows - 20 * batchKeys ? 1 : 0;
        if (found[i] === 1 && values[i * wide + 255] !== Math.fround(first + i + added)) wrong++;
      }
    }
    log(`restored ${store.live} rows, ${at()}`);
    const ok = same && wrong === 0 && store.live === live && evicted === filled - target;
    report({
      metric: "large_table_ok",
      value: ok ? 1 : 0,
      unit: "count",
      better: "higher",
      target: 1,
      detail: `${(bytes / 2 ** 30).toFixed(2)} GiB in two memories: ${filled} rows of ${wide}, ${evicted} evicted, checkpoint and part, restored with equal digests; resident ${(process.memoryUsage().rss / 2 ** 30).toFixed(1)} GiB; ${at()}`,
    });
    store.release();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const scenario: Scenario = {
  name: "params",
  head: "parameter tables: batches of 1,000 rows of 16 floats, Zipf 1.0 over 1 M keys, CPU time of one core, over loopback that of both processes together; a table of 6 GiB in two memories",
  async run(options) {
    await pulls(options);
    await largeTable(options);
  },
};
