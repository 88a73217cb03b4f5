// State synchronisation of parameters: how soon an update can be read at a follower, and how many bytes that takes, against other ways of replication.
// Latency: separate processes on loopback, 16 floats a row, Zipf 1.0 over 262,144 keys. An update counts from the moment at which it was due (a batch every
// millisecond) until its row, or a newer one of its key, can be read. Updates that were overtaken before they left are not seen at the follower and not in the figures.
// Bytes: as counted at the sockets of both directions, frames and answers included, a follower. The log sends 80 bytes an update (key, version, 64 of values) and
// nothing else; the coalescing log 80 a distinct key of a period; Merkle by the formula of the design note with the distinct keys counted; redis-server by its own
// replication offset, values of 64 bytes as SETs.
// Clock: CPU time of the processes themselves; wall time for latencies, so a busy machine makes them meaningless.

import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { SyncNode } from "#params/sync/sync-node";
import { processCpuMs, quantile, type Scenario } from "./harness.ts";
import { type RedisProcess, startRedis } from "./load/redis-process.ts";
import { scoredRun } from "./param-sync/scored.ts";
import { servedRun } from "./param-sync/served.ts";
import { buckets, dim, keyCount, keyTo, newShard, type NodeOptions, type NodeReport, type Order, recordBytes, zipfRanks } from "./param-sync/work.ts";

const base = process.hrtime.bigint();

interface NodeProcess {
  readonly child: ChildProcess;
  readonly port: number;
  order(order: Order): void;
  report(): Promise<NodeReport>;
  stop(): Promise<void>;
}

async function startNode(node: number, sources: readonly number[]): Promise<NodeProcess> {
  const options: NodeOptions = { node, sources, base: String(base) };
  const child = fork(join(import.meta.dirname, "param-sync", "node.ts"), [JSON.stringify(options)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const next = <T>(name: string): Promise<T> =>
    new Promise((resolve, reject) => {
      const failed = (code: number | null): void => reject(new Error(`node ${node} ended with ${code}`));
      child.once("exit", failed);
      child.once("message", (message) => {
        child.off("exit", failed);
        resolve((message as Record<string, T>)[name]!);
      });
    });
  const port = await next<number>("port");
  return {
    child,
    port,
    order: (order) => void child.send(order),
    report() {
      child.send({ order: "report" } satisfies Order);
      return next<NodeReport>("report");
    },
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.disconnect();
      await ended;
    },
  };
}

interface Run {
  readonly primary: NodeReport;
  readonly followers: readonly NodeReport[];
}

/** `sourcesOf[i]`: which process follower i follows, 0 = the primary. */
async function latencyRun(perS: number, ms: number, sourcesOf: readonly number[]): Promise<Run> {
  const nodes: NodeProcess[] = [];
  try {
    nodes.push(await startNode(1, []));
    for (const source of sourcesOf) nodes.push(await startNode(nodes.length + 1, [nodes[source]!.port]));
    const [primary, ...followers] = nodes;
    primary!.order({ order: "write", perS });
    await sleep(Math.min(2_000, ms / 2));
    for (const node of nodes) node.order({ order: "mark" });
    await sleep(ms);
    const run = { primary: await primary!.report(), followers: await Promise.all(followers.map((follower) => follower.report())) };
    primary!.order({ order: "stop" });
    // A fast wrong answer is no figure: all must hold the same in the end.
    for (let tries = 0; ; tries++) {
      await sleep(100);
      const digests = new Set((await Promise.all(nodes.map((node) => node.report()))).map(({ digest }) => digest));
      if (digests.size === 1) return run;
      if (tries > 50) throw new Error("a follower holds other rows than the primary");
    }
  } finally {
    for (const node of nodes) await node.stop();
  }
}

interface Bytes {
  readonly perUpdate: number;
  readonly updates: number;
  /** Distinct keys a period. */
  readonly distinct: number;
}

/** Writes `updates` in periods of `period` and lets one push of all that changed follow each; counts the bytes of one follower. */
async function bytesOfPeriods(period: number, updates: number): Promise<Bytes> {
  const make = (node: number): { table: ReturnType<typeof newShard>; node: SyncNode } => {
    const table = newShard();
    const times = { pollMs: 0, beatMs: 30_000, compareMs: 600_000 };
    return { table, node: new SyncNode({ table, name: "bytes", node, network: systemNetwork, clock: systemClock, random: new Prng(node), times }) };
  };
  const [primary, follower] = [make(1), make(2)];
  const port = await primary.node.listen({ host: "127.0.0.1", port: 0 });
  primary.node.start();
  primary.node.lead(
    Array.from({ length: primary.node.groups }, (_, group) => group),
    1,
  );
  // Versions of a table that has lived for a while: their counters take the bytes that they take then.
  const keys = new Uint32Array(2 * 1_024);
  const values = new Float32Array(1_024 * dim);
  for (let rank = 0; rank < keyCount; rank += 1_024) {
    for (let i = 0; i < 1_024; i++) keyTo(rank + i, keys, i);
    primary.table.assign(keys, 1_024, values, 1_700_000_000);
  }
  primary.node.kick();
  follower.node.addSource([{ host: "127.0.0.1", port }], "all");
  follower.node.start();
  try {
    await follower.node.whenReady(60_000);
    const idle = async (): Promise<void> => {
      while (primary.node.metrics.followers.some(({ lagMs, waitingBuckets }) => lagMs > 0 || waitingBuckets > 0)) await sleep(1);
    };
    await idle();
    const ranks = zipfRanks(`periods of ${period}`, updates);
    const before = primary.node.metrics;
    for (let at = 0; at < updates; at += period) {
      for (let done = 0; done < period; done += 1_000) {
        const count = Math.min(1_000, period - done);
        for (let i = 0; i < count; i++) {
          keyTo(ranks[at + done + i]!, keys, i);
          values[i * dim] = at + done + i;
        }
        primary.table.assign(keys, count, values, Math.floor(systemClock.nowMs() / 1000));
      }
      primary.node.kick();
      await idle();
    }
    const after = primary.node.metrics;
    for (let bucket = 0; bucket < buckets; bucket++) {
      const [one, other] = [primary.table.digest(bucket), follower.table.digest(bucket)];
      if (one.high !== other.high || one.low !== other.low) throw new Error(`bucket ${bucket} differs after the last period`);
    }
    const bytes = after.bytesOut + after.bytesIn - before.bytesOut - before.bytesIn;
    return { perUpdate: bytes / updates, updates, distinct: ((after.entriesOut - before.entriesOut) * period) / updates };
  } finally {
    await follower.node.close();
    await primary.node.close();
  }
}

/** Bytes a period and follower of a Merkle tree of 32,768 leaves, built lazily, with a key list one way for each leaf that differs. */
function merkleBytes(distinct: number): number {
  const leaves = 32_768;
  let visited = 0;
  for (let level = 0; level < Math.log2(leaves); level++) visited += 2 ** level * (1 - (1 - 2 ** -level) ** distinct);
  const differing = leaves * (1 - (1 - 1 / leaves) ** distinct);
  return 2 * 8 * visited + (16 * differing * keyCount) / leaves + distinct * recordBytes;
}

interface RedisRun {
  /** Of the stream to one replica, an update. */
  readonly bytesPerUpdate: number;
  readonly cpuUsPerUpdate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** The same updates as SETs, pipelined every millisecond, to a server with `replicas`; seen when a replica answers with the last stamp. */
async function redisRun(replicas: number, perS: number, ms: number): Promise<RedisRun | undefined> {
  const servers: RedisProcess[] = [];
  const clients: Redis[] = [];
  try {
    for (let i = 0; i <= replicas; i++) {
      const server = await startRedis({ appendOnly: false });
      if (server === undefined) return undefined;
      servers.push(server);
      clients.push(new Redis({ port: server.port, host: "127.0.0.1" }));
    }
    const master = clients[0]!;
    for (const client of clients.slice(1)) await client.call("REPLICAOF", "127.0.0.1", String(servers[0]!.port));
    const offset = async (): Promise<number> => Number(/master_repl_offset:(\d+)/.exec(await master.info("replication"))![1]);
    for (let tries = 0; !/(?:.*state=online){1}/s.test(await master.info("replication")) || !(await allOnline(master, replicas)); tries++) {
      if (tries > 100) throw new Error("the replicas of redis-server did not come up");
      await sleep(100);
    }
    const ranks = zipfRanks("redis", 1 << 20);
    const key = Buffer.alloc(8);
    const words = new Uint32Array(2);
    const value = Buffer.alloc(4 * dim);
    const perBatch = Math.round(perS / 1000);
    // The writer sends its bytes itself: a client's command objects would be most of the cost.
    const stream = (master as unknown as { stream: { write(bytes: Buffer): boolean } }).stream;
    const command = (name: Buffer, content: Buffer): Buffer =>
      Buffer.concat([Buffer.from(`*3\r\n$3\r\nSET\r\n$${name.length}\r\n`), name, Buffer.from(`\r\n$${content.length}\r\n`), content, Buffer.from("\r\n")]);
    // Answers of what was written past the client would confuse it: the writer has a connection of its own.
    const { connect } = await import("node:net");
    const socket = connect(servers[0]!.port, "127.0.0.1");
    socket.setNoDelay(true);
    socket.resume();
    void stream;
    const latencyMs: number[] = [];
    let stop = false;
    let seen = -1;
    let written = -1;
    const dueMs: number[] = [];
    const started = performance.now();
    const replica = clients.at(-1)!;
    const watch = (async (): Promise<void> => {
      while (!stop) {
        const last = Number((await replica.get("probe")) ?? -1);
        const now = performance.now();
        for (; seen < last; seen++) latencyMs.push(now - dueMs[seen + 1]!);
        if (written === seen) await sleep(1);
      }
    })();
    const cpuBefore = servers.map(({ pid }) => processCpuMs(pid));
    const offsetBefore = await offset();
    let updates = 0;
    let probeBytes = 0;
    while (performance.now() - started < ms) {
      const passed = performance.now() - started;
      const parts: Buffer[] = [];
      while (written + 1 < passed) {
        for (let i = 0; i < perBatch; i++) {
          keyTo(ranks[updates++ & (ranks.length - 1)]!, words, 0);
          key.writeUInt32LE(words[0]!, 0);
          key.writeUInt32LE(words[1]!, 4);
          parts.push(command(Buffer.from(key), value));
        }
        written++;
        dueMs[written] = started + written;
        const probe = command(Buffer.from("probe"), Buffer.from(String(written)));
        probeBytes += probe.length;
        parts.push(probe);
      }
      if (parts.length > 0) socket.write(Buffer.concat(parts));
      await sleep(1);
    }
    while (seen < written) await sleep(5);
    stop = true;
    await watch;
    const bytes = (await offset()) - offsetBefore - probeBytes;
    const cpuMs = servers.reduce((sum, { pid }, i) => sum + processCpuMs(pid) - cpuBefore[i]!, 0);
    socket.destroy();
    return { bytesPerUpdate: bytes / updates, cpuUsPerUpdate: (cpuMs * 1000) / updates, p50Ms: quantile(latencyMs, 0.5), p99Ms: quantile(latencyMs, 0.99) };
  } finally {
    for (const client of clients) client.disconnect();
    for (const server of servers) await server.stop();
  }
}

async function allOnline(master: Redis, replicas: number): Promise<boolean> {
  return ((await master.info("replication")).match(/state=online/g) ?? []).length === replicas;
}

export const scenario: Scenario = {
  name: "param-sync",
  head: "parameter updates at followers: latency on loopback, bytes against a log, Merkle trees and redis-server's replication",
  async run({ quick, report, log }) {
    const ms = quick ? 3_000 : 10_000;
    const rate = 50_000;
    const one = await latencyRun(rate, ms, [0]);
    const [follower] = one.followers;
    const us = (reported: NodeReport, updates: number): number => (reported.cpuMs * 1000) / updates;
    const perPush = (follower!.entries / Math.max(1, follower!.pushes)).toFixed(1);
    const redisOne = await redisRun(1, rate, ms / 2);
    const redisFour = await redisRun(4, quick ? 10_000 : rate, ms / 2);
    const redisText = (run: RedisRun | undefined): string =>
      run === undefined
        ? "redis-server: missing"
        : `redis-server: p50 ${run.p50Ms.toFixed(2)}, p99 ${run.p99Ms.toFixed(2)} ms, ${run.cpuUsPerUpdate.toFixed(2)} us of CPU`;
    report({
      metric: "visible_p50_ms",
      value: quantile(follower!.latencyMs, 0.5),
      unit: "ms",
      better: "lower",
      target: 2,
      peer: redisText(redisOne),
      detail: `50,000 rows/s, one follower, ${perPush} entries a push, generator late by ${one.primary.lateMsMax.toFixed(1)} ms at worst`,
    });
    report({ metric: "visible_p99_ms", value: quantile(follower!.latencyMs, 0.99), unit: "ms", better: "lower", target: 6, peer: redisText(redisOne) });
    report({
      metric: "primary_cpu_us",
      value: us(one.primary, one.primary.updates),
      unit: "us",
      better: "lower",
      peer: redisText(redisOne),
      detail: "an update, generator and table included; redis-server: master and replica together, its writer not",
    });
    report({ metric: "follower_cpu_us", value: us(follower!, one.primary.updates), unit: "us", better: "lower", detail: "an update" });
    report({
      metric: "bytes_ratio_vs_log_same_run",
      value: one.primary.bytes / (one.primary.updates * recordBytes),
      unit: "ratio",
      better: "lower",
      detail: "of the run of 50,000 rows/s: an answer paces a push, so few updates meet in one, and coalescing gains little",
    });
    const tree = await latencyRun(10_000, ms, [0, 0, 1, 1]);
    const p99s = tree.followers.map(({ latencyMs }) => quantile(latencyMs, 0.99));
    report({
      metric: "tree_visible_p99_ms",
      value: Math.max(...p99s),
      unit: "ms",
      better: "lower",
      target: 10,
      peer: `${redisText(redisFour)} (4 replicas, ${quick ? 10 : 50},000/s)`,
      detail: `10,000 rows/s, two followers and two behind the first of them: ${p99s.map((value) => value.toFixed(1)).join(", ")} ms`,
    });

    const scored = await scoredRun(10_000, quick ? 50 : 1_000);
    report({
      metric: "push_to_served_p50_ms",
      value: quantile(scored.latencyMs, 0.5),
      unit: "ms",
      better: "lower",
      detail: `a step on the rows of a sample at the trainer to a score of it at a follower in another process that is the trainer's to the bit; ${scored.otherRows} other rows written, 10,000/s; ${scored.scores} scores computed`,
    });
    report({ metric: "push_to_served_p99_ms", value: quantile(scored.latencyMs, 0.99), unit: "ms", better: "lower", target: 6 });
    const served = await servedRun(10_000, quick ? 50 : 1_000);
    report({
      metric: "push_to_pulled_p50_ms",
      value: quantile(served.latencyMs, 0.5),
      unit: "ms",
      better: "lower",
      detail: `PADD at the leader's server to PPULL at the follower's, both real processes, 10,000 other rows/s; ${served.reads} pulls, each of them answered`,
    });
    report({
      metric: "push_to_pulled_p99_ms",
      value: quantile(served.latencyMs, 0.99),
      unit: "ms",
      better: "lower",
      target: 6,
      detail: `${quantile(served.afterAnswerMs, 0.99).toFixed(2)} ms after the answer to the PADD`,
    });

    const at1k = await bytesOfPeriods(1_000, quick ? 20_000 : 300_000);
    const at100k = await bytesOfPeriods(100_000, quick ? 100_000 : 1_000_000);
    const at1m = await bytesOfPeriods(1_000_000, quick ? 1_000_000 : 2_000_000);
    const shown = ({ perUpdate, distinct }: Bytes, period: number): string =>
      `${perUpdate.toFixed(1)} B an update, ${(period / distinct).toFixed(2)} updates a key; coalescing log ${((distinct * recordBytes) / period).toFixed(1)} B`;
    const ratio = (name: string, bytes: Bytes, period: number, target: number | undefined): void =>
      report({
        metric: name,
        value: bytes.perUpdate / recordBytes,
        unit: "ratio",
        better: "lower",
        ...(target === undefined ? {} : { target }),
        detail: shown(bytes, period),
      });
    ratio("bytes_ratio_vs_log_1k", at1k, 1_000, undefined);
    ratio("bytes_ratio_vs_log_100k", at100k, 100_000, 0.35);
    ratio("bytes_ratio_vs_log_1m", at1m, 1_000_000, 0.16);
    report({
      metric: "bytes_ratio_vs_merkle",
      value: (at100k.perUpdate * 100_000) / merkleBytes(at100k.distinct),
      unit: "ratio",
      better: "lower",
      detail: `100,000 updates a period; at 1,000 ${((at1k.perUpdate * 1_000) / merkleBytes(at1k.distinct)).toFixed(2)}, at 1 M ${((at1m.perUpdate * 1e6) / merkleBytes(at1m.distinct)).toFixed(2)}`,
    });
    if (redisOne === undefined || redisFour === undefined) {
      log("redis-server: missing");
      return;
    }
    for (const [replicas, run] of [
      [1, redisOne],
      [4, redisFour],
    ] as const) {
      report({
        metric: replicas === 1 ? "bytes_ratio_vs_redis" : "bytes_ratio_vs_redis_4_replicas",
        value: at1k.perUpdate / run.bytesPerUpdate,
        unit: "ratio",
        better: "lower",
        target: 0.8,
        peer: `redis-server: ${run.bytesPerUpdate.toFixed(1)} B an update and replica`,
        detail: `1,000 updates a period, ${at1k.perUpdate.toFixed(1)} B an update and follower`,
      });
    }
  },
};
