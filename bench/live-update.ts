// A collection that is written while it is searched: 1 M x 64 cosine (bench/load/clustered-vectors.ts), nine tenths of it in a base with an index, one tenth in the live tail.
// Timed: 2,000 upserts a second (VADD, one element each, elements drawn at random from all) and 200 queries a second (VSIM ... COUNT 10, fresh queries), open loop, over the Redis port of a
// real server (`millrace start`) from one other process, everything on one machine. visible_p99_ms: from the sending of a VADD to its acknowledgement at the client; one acknowledged write
// in a hundred is looked for at once by its own vector and must be the first answer, or the scenario fails. In detail, the same from the moment it was due: a timer of the load process that
// came late counts there.
// Durability: upserts at `interval` (what is acknowledged survives a kill -9 of the server, a power cut may cost the last 200 ms).
// loop_stall_max_ms: the most CPU time between two looks of the vectors thread at its messages, over the last 30 s of the load; the serving loop's own stands in the detail.
// Churn: then every element gets a new vector, in random order, by batches, while folds go on as they fall due; recall@20 of 500 queries against exact search (VSIM ... TRUTH) and the
// latency of queries are taken before and after.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { ownCpuMs } from "#platform/own-cpu";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemNetwork } from "#platform/system-network";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { buildVersion } from "#vectors/builder/build-version";
import type { VectorRowSource } from "#vectors/builder/row-source";
import { vectorsKind } from "#vectors/builder/version-config";
import { RespClient } from "#wire/resp-client";
import { encodeTexts } from "#wire/vector-api";
import { quantile, type Scenario } from "./harness.ts";
import { ClusteredVectors } from "./load/clustered-vectors.ts";
import { type ServerProcess, startServerProcess } from "./load/server-process.ts";

const dims = 64;
const key = "items";
const upsertsPerS = 2_000;
const queriesPerS = 200;
const elementOf = (row: number): string => `item:${row}`;
const bytesOf = (vectors: Float32Array, row: number): Uint8Array => new Uint8Array(vectors.buffer, vectors.byteOffset + row * dims * 4, dims * 4);

/** The base: a version in the data folder, before any server runs. */
async function buildBase(data: string, vectors: ClusteredVectors, rows: number, log: (line: string) => void): Promise<void> {
  await systemFiles.makeFolder(data);
  const registry = openSqliteRegistry({ path: join(data, "registry.sqlite"), clock: systemClock, processes: systemProcesses });
  const blobs = openFolderBlobs({ files: systemFiles, folder: join(data, "blobs"), processes: systemProcesses });
  const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: vectorsKind, buildLeaseMs: 600_000 });
  const stream = vectors.stream("rows");
  let at = 0;
  const source: VectorRowSource = {
    dims,
    rowsAbout: rows,
    read(rowsMax) {
      const count = Math.min(rowsMax, rows - at);
      if (count === 0) return Promise.resolve(undefined);
      const part = new Float32Array(count * dims);
      vectors.fill(stream, part);
      const ids = Array.from({ length: count }, (_, i) => elementOf(at + i));
      at += count;
      return Promise.resolve({ ids, vectors: part });
    },
    close: () => Promise.resolve(),
  };
  const cpuMs = ownCpuMs();
  const built = await buildVersion(
    source,
    { collection: key, metric: "cosine", deltaOffset: 0, memoryBytes: 4 * 2 ** 30 },
    { snapshots, files: systemFiles, clock: systemClock, folder: join(data, "work"), cpuMs: ownCpuMs },
  );
  await registry.close();
  if (built.outcome !== "live") throw new Error(`the base is ${built.outcome}: ${built.reasons.join("; ")}`);
  log(
    `base: ${rows} rows, ${built.statistics["lists"]} lists, ${((ownCpuMs() - cpuMs) / 1_000).toFixed(1)} s of CPU, settings ${JSON.stringify(built.settings)}`,
  );
}

interface Collection {
  readonly elements: number;
  readonly tailRows: number;
  readonly folding?: unknown;
  readonly folds: number;
  readonly failure?: string;
  readonly recall?: { readonly value: number; readonly samples: number };
  readonly versions: readonly unknown[];
}

class Node {
  readonly server: ServerProcess;
  readonly client: RespClient;
  readonly reader: RespClient;

  constructor(server: ServerProcess, client: RespClient, reader: RespClient) {
    this.server = server;
    this.client = client;
    this.reader = reader;
  }

  static async start(data: string): Promise<Node> {
    const config = join(data, "config.json");
    writeFileSync(
      config,
      JSON.stringify({
        vectors: {
          collections: {
            [key]: {
              dims,
              metric: "cosine",
              recallSampleEvery: 500,
              searchTimeoutMs: 60_000,
              fold: { tailRows: 200_000, tailShare: 100, tailRowsMin: 200_000, deletedShare: 1 },
            },
          },
          memoryMb: 4_096,
          cacheMb: 0,
        },
      }),
    );
    const server = await startServerProcess({ data, durability: "interval", more: ["--config", config] });
    const connect = (): Promise<RespClient> =>
      RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port: server.respPort, timeoutMs: 60_000 });
    return new Node(server, await connect(), await connect());
  }

  async status(): Promise<{ readonly collection: Collection; readonly stallMs: number; readonly loopStallMs: number }> {
    const text = await (await fetch(`${this.server.address}/metrics`)).text();
    const value = (name: string): number => Number(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+-]+)$`, "m").exec(text)?.[1] ?? Number.NaN);
    return {
      collection: {
        elements: value("rec_vectors_elements"),
        tailRows: value("rec_vectors_tail_rows"),
        folds: value("rec_vectors_folds"),
        versions: [],
        ...(value("rec_vectors_folding") > 0 ? { folding: true } : {}),
        ...(value("rec_vectors_in_trouble") > 0 ? { failure: "in trouble" } : {}),
        ...(Number.isNaN(value("rec_vectors_recall")) ? {} : { recall: { value: value("rec_vectors_recall"), samples: value("rec_vectors_recall_samples") } }),
      },
      stallMs: value("rec_vectors_loop_stall_max_ms"),
      loopStallMs: value("rec_loop_stall_max_ms"),
    };
  }

  async addMany(rows: readonly number[], vectors: Float32Array): Promise<void> {
    await this.client.command("VADDS", key, new Uint8Array(vectors.buffer, 0, rows.length * dims * 4), encodeTexts(rows.map(elementOf)));
  }

  async similar(query: Uint8Array, count: number, truth = false): Promise<string[]> {
    const answer = (await this.reader.command("VSIM", key, "FP32", query, "COUNT", count, ...(truth ? ["TRUTH"] : []))) as readonly unknown[];
    return answer.map((one) => (one instanceof Uint8Array ? new TextDecoder().decode(one) : String(one)));
  }

  async stop(): Promise<void> {
    this.client.close();
    this.reader.close();
    await this.server.stop();
  }
}

interface Load {
  readonly visibleMs: number[];
  readonly visibleDueMs: number[];
  readonly queryMs: number[];
  readonly looked: number;
}

/** Open loop for `seconds`. Throws when an acknowledged write is not found. */
async function load(node: Node, vectors: ClusteredVectors, rows: number, seconds: number, name: string, upserts = upsertsPerS): Promise<Load> {
  const prng = new Prng(name);
  const [writes, asked] = [vectors.stream(`${name} writes`), vectors.stream(`${name} queries`)];
  const out: Load & { looked: number } = { visibleMs: [], visibleDueMs: [], queryMs: [], looked: 0 };
  // Counted, not kept: tens of thousands of promises are work for this process' collector, whose pauses would count as the server's.
  let under = 0;
  const failures: unknown[] = [];
  const begin = (work: Promise<void>): void => {
    under += 1;
    work.then(
      () => (under -= 1),
      (thrown: unknown) => {
        under -= 1;
        failures.push(thrown);
      },
    );
  };
  /** Which write of an element was sent last: what was written again meanwhile is not looked for. */
  const lastSent = new Map<string, number>();
  const startMs = performance.now();
  let [written, queried] = [0, 0];
  const write = async (dueMs: number): Promise<void> => {
    const vector = new Float32Array(dims);
    vectors.fill(writes, vector);
    const element = elementOf(prng.below(rows));
    const number = written;
    lastSent.set(element, number);
    const sentMs = performance.now();
    await node.client.command("VADD", key, "FP32", bytesOf(vector, 0), element);
    const nowMs = performance.now();
    out.visibleMs.push(nowMs - sentMs);
    out.visibleDueMs.push(nowMs - dueMs);
    if (number % 100 !== 0) return;
    out.looked += 1;
    const [first] = await node.similar(bytesOf(vector, 0), 1);
    if (first !== element && lastSent.get(element) === number) throw new Error(`${element} was acknowledged and is not found, ${first} is`);
  };
  const ask = async (dueMs: number): Promise<void> => {
    const query = new Float32Array(dims);
    vectors.fill(asked, query);
    const answer = await node.similar(bytesOf(query, 0), 10);
    if (answer.length !== 10) throw new Error(`${answer.length} answers of 10`);
    out.queryMs.push(performance.now() - dueMs);
  };
  for (;;) {
    const nowMs = performance.now() - startMs;
    if (nowMs > seconds * 1_000) break;
    for (; (written * 1_000) / upserts <= nowMs; written++) begin(write(startMs + (written * 1_000) / upserts));
    for (; (queried * 1_000) / queriesPerS <= nowMs; queried++) begin(ask(startMs + (queried * 1_000) / queriesPerS));
    await sleep(1);
  }
  while (under > 0 && failures.length === 0) await sleep(1);
  if (failures.length > 0) throw failures[0];
  return out;
}

async function recallOf(node: Node, vectors: ClusteredVectors, queries: number, name: string): Promise<number> {
  const asked = vectors.rows(name, queries);
  let [hits, all] = [0, 0];
  for (let q = 0; q < queries; q++) {
    const truth = await node.similar(bytesOf(asked, q), 20, true);
    const found = new Set(await node.similar(bytesOf(asked, q), 20));
    all += truth.length;
    for (const one of truth) if (found.has(one)) hits += 1;
  }
  return hits / all;
}

const p = (values: number[], q: number): string => quantile(values, q).toFixed(2);

export const scenario: Scenario = {
  name: "live-update",
  head: "a collection of 1 M x 64, a tenth of it in the live tail: 2,000 upserts/s (durability interval) and 200 queries/s over the Redis port; then all of its vectors are replaced",
  async run({ quick, report, log }) {
    const rows = quick ? 50_000 : 1_000_000;
    const baseRows = rows * 0.9;
    const seconds = quick ? 4 : 40;
    const data = mkdtempSync(join(tmpdir(), "millrace-live-update-"));
    let node: Node | undefined;
    try {
      const vectors = new ClusteredVectors({ dims, ...(quick ? { clusters: 2_000 } : {}) });
      await buildBase(data, vectors, baseRows, log);
      node = await Node.start(data);
      for (let tries = 0; (await node.status()).collection.elements !== baseRows; tries++) {
        if (tries > 600) throw new Error(`the base is not served: ${JSON.stringify(await node.status())}\n${node.server.printed()}`);
        await sleep(100);
      }
      const tail = vectors.stream("tail");
      const step = 2_000;
      for (let row = baseRows; row < rows; row += step) {
        const part = new Float32Array(step * dims);
        vectors.fill(tail, part);
        await node.addMany(
          Array.from({ length: step }, (_, i) => row + i),
          part,
        );
      }
      await sleep(quick ? 1_200 : 3_000);
      const before = await node.status();
      log(`tail: ${before.collection.tailRows} rows`);
      const recallBefore = await recallOf(node, vectors, quick ? 50 : 500, "recall before");
      // A first, short round warms client and server up.
      await load(node, vectors, rows, quick ? 1 : 5, "warm");
      const live = await load(node, vectors, rows, seconds, "live");
      await sleep(1_100);
      const after = await node.status();
      log(
        `upserts ${live.visibleMs.length}: p50 ${p(live.visibleMs, 0.5)} p99 ${p(live.visibleMs, 0.99)} p99.9 ${p(live.visibleMs, 0.999)} ms; queries ${live.queryMs.length}: p50 ${p(live.queryMs, 0.5)} p99 ${p(live.queryMs, 0.99)} ms; tail ${after.collection.tailRows} rows; ${live.looked} writes looked for`,
      );
      report({
        metric: "visible_p99_ms",
        value: quantile(live.visibleMs, 0.99),
        unit: "ms",
        better: "lower",
        target: 2,
        detail: `p50 ${p(live.visibleMs, 0.5)}, from the due moment p99 ${p(live.visibleDueMs, 0.99)}; tail ${before.collection.tailRows} to ${after.collection.tailRows} rows`,
      });
      report({
        metric: "loop_stall_max_ms",
        value: after.stallMs,
        unit: "ms",
        better: "lower",
        target: 5,
        detail: `CPU time of the vectors thread, last 30 s${Number.isFinite(after.loopStallMs) ? `; the serving loop's ${after.loopStallMs.toFixed(1)}` : ""}`,
      });
      report({
        metric: "query_p99_ms",
        value: quantile(live.queryMs, 0.99),
        unit: "ms",
        better: "lower",
        detail: `p50 ${p(live.queryMs, 0.5)}, under the upserts`,
      });

      // Churn.
      const order = Uint32Array.from({ length: rows }, (_, i) => i);
      const prng = new Prng("churn");
      for (let i = rows - 1; i > 0; i--) {
        const other = prng.below(i + 1);
        [order[i], order[other]] = [order[other]!, order[i]!];
      }
      const quiet = await load(node, vectors, rows, quick ? 2 : 10, "quiet before", 1);
      const fresh = vectors.stream("churn");
      const startMs = performance.now();
      for (let row = 0; row < rows; row += step) {
        const part = new Float32Array(step * dims);
        vectors.fill(fresh, part);
        await node.addMany([...order.subarray(row, row + step)], part);
      }
      log(`churn: ${rows} upserts in ${((performance.now() - startMs) / 1_000).toFixed(1)} s`);
      for (let tries = 0, calm = 0; calm < 3; tries++) {
        await sleep(1_000);
        const { collection } = await node.status();
        if (collection.failure !== undefined || tries > 900) throw new Error(`no fold ends: ${JSON.stringify(await node.status())}\n${node.server.printed()}`);
        calm = collection.folding === undefined && collection.tailRows < 200_000 ? calm + 1 : 0;
      }
      const settled = await node.status();
      const churned = await load(node, vectors, rows, quick ? 2 : 10, "quiet after", 1);
      const recallAfter = await recallOf(node, vectors, quick ? 50 : 500, "recall after");
      report({
        metric: "recall_after_churn",
        value: recallAfter,
        unit: "ratio",
        better: "higher",
        target: 0.99,
        detail: `recall@20, before ${recallBefore.toFixed(4)}; ${settled.collection.folds} folds, ${settled.collection.tailRows} rows in the tail; sampled live: ${settled.collection.recall?.value.toFixed(4) ?? "none"}`,
      });
      report({
        metric: "query_p50_ratio_after_churn",
        value: quantile(churned.queryMs, 0.5) / quantile(quiet.queryMs, 0.5),
        unit: "ratio",
        better: "lower",
        detail: `before p50 ${p(quiet.queryMs, 0.5)} p99 ${p(quiet.queryMs, 0.99)}, after p50 ${p(churned.queryMs, 0.5)} p99 ${p(churned.queryMs, 0.99)} ms, 200 queries/s and 1 upsert/s`,
      });
    } finally {
      await node?.stop().catch(() => undefined);
      rmSync(data, { recursive: true, force: true });
    }
  },
};
