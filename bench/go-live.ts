// go-live: a new version of a large collection from the start of its build until it is served, under queries; what queries notice of a switch; many small tasks on several builders.
// Work: 2,000,000 x 64 about 20,000 seeded clusters of uneven size (bench/load/clustered-vectors.ts) in one .npy file, a vector task over it in a real server (`millrace start`), which
// builds in a child at low priority. Queries: further rows of the same model, one VSEARCH of 20 answers each over the Redis port, open loop: a query is due whether the one before
// was answered or not, and its latency counts from when it was due. The cache of results is off.
//   1. the first build, nobody asks          2. the second build, under queries: `build_to_live_s` is from the ask to the first look at which the server serves the new version;
//      `load_s`: from its going live (the head) to its serving; `failed_queries` of all queries of the run
//   3. rounds of a quiet window and one with a switch (roll-back, live) in turn; `p99_ratio_during_switch` = the median p99 of windows with a switch over that of quiet ones
//   4. 100 switches of a collection of 200,000 x 32 under queries: `resident_ratio` = the server's resident memory after the last over after the tenth
//   5. 50 tasks of 2,000 x 32 on three `millrace builder` processes over one data folder, one of which is killed (kill -9) while it builds: `tasks_live`, `tasks_live_s` from the asks
// Checked: every answer has as many elements as were asked for. What waits is looked for every 20 ms, so that times are up to so much too long.

import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { npyHeader } from "#base/npy-header";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { RespClient } from "#wire/resp-client";
import { decodeAnswer } from "#wire/vector-api";
import type { VectorTaskDetail, VectorTasksAnswer } from "#wire/vector-task-api";
import { median, openLoop, quantile, type Scenario } from "./harness.ts";
import { ClusteredVectors } from "./load/clustered-vectors.ts";
import { type ServerProcess, startServerProcess, temporaryFolder } from "./load/server-process.ts";

const answers = 20;
const waitMsMax = 900_000;

/** Writes rows of a model as .npy, in parts. */
async function writeRows(path: string, model: ClusteredVectors, count: number): Promise<void> {
  const file = createWriteStream(path);
  file.write(npyHeader("<f4", [count, model.dims]));
  const stream = model.stream("rows");
  for (let from = 0; from < count; from += 100_000) {
    const part = new Float32Array(Math.min(100_000, count - from) * model.dims);
    model.fill(stream, part);
    if (!file.write(new Uint8Array(part.buffer))) await once(file, "drain");
  }
  file.end();
  await once(file, "close");
}

async function call<T>(server: ServerProcess, method: "GET" | "POST", path: string, body?: object): Promise<T> {
  const answer = await fetch(`${server.address}${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text.slice(0, 400)}`);
  return JSON.parse(text) as T;
}

async function until<T>(look: () => Promise<T | undefined>, what: string): Promise<T> {
  for (const end = performance.now() + waitMsMax; ; await sleep(20)) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${waitMsMax} ms`);
  }
}

/** Undefined also before the server has heard of the collection. */
const serving = async (server: ServerProcess, collection: string): Promise<string | undefined> => {
  const { collections } = await call<{ collections: { name: string; versions: { version: string; state: string }[] }[] }>(server, "GET", "/v1/vectors");
  const { versions = [] } = collections.find(({ name }) => name === collection) ?? {};
  return versions.find(({ state }) => state === "serving")?.version;
};

const residentBytes = (pid: number): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) * 1_024;

interface Built {
  readonly version: string;
  readonly toLiveS: number;
  readonly loadS: number;
  readonly detail: VectorTaskDetail;
}

/** Asks for a build and waits until the server serves what came of it. */
async function buildAndServe(server: ServerProcess, task: string): Promise<Built> {
  const before = (await call<VectorTaskDetail>(server, "GET", `/v1/vector-tasks/${task}`)).history.length;
  const asked = performance.now();
  await call(server, "POST", `/v1/vector-tasks/${task}/run`);
  let liveAt: number | undefined;
  const liveBefore = (await call<VectorTaskDetail>(server, "GET", `/v1/vector-tasks/${task}`)).live;
  const detail = await until(async () => {
    const now = await call<VectorTaskDetail>(server, "GET", `/v1/vector-tasks/${task}`);
    if (now.live !== liveBefore) liveAt ??= performance.now();
    const { last } = now;
    if (now.history.length > before && last?.verdict !== "live") throw new Error(`the build of ${task} was ${last?.verdict}: ${last?.reasons.join("; ")}`);
    return liveAt === undefined ? undefined : now;
  }, `a version of ${task}`);
  await until(async () => ((await serving(server, task)) === detail.live ? true : undefined), `the server serves ${task}`);
  const done = performance.now();
  const ended = await until(async () => {
    const now = await call<VectorTaskDetail>(server, "GET", `/v1/vector-tasks/${task}`);
    return now.history.length > before ? now : undefined;
  }, `the history of ${task}`);
  return { version: detail.live!, toLiveS: (done - asked) / 1_000, loadS: (done - liveAt!) / 1_000, detail: ended };
}

export const scenario: Scenario = {
  name: "go-live",
  head: "2,000,000 x 64 built, live and switched under queries in a real server; 100 switches; 50 small tasks on 3 builders, one of them killed",
  async run({ quick, report, log }) {
    const rows = quick ? 25_000 : 2_000_000;
    const smallRows = quick ? 3_000 : 200_000;
    const rounds = quick ? 2 : 6;
    const switches = quick ? 12 : 100;
    const ratePerS = quick ? 20 : 50;
    const temporary = temporaryFolder();
    const at = (name: string): string => join(temporary.path, name);
    const data = at("data");
    mkdirSync(data);
    const model = new ClusteredVectors({ clusters: quick ? 500 : 20_000 });
    const small = new ClusteredVectors({ dims: 32, clusters: 500, seed: 2 });
    await writeRows(at("items.npy"), model, rows);
    await writeRows(at("small.npy"), small, smallRows);
    const memoryMb = quick ? 1_024 : 6_144;
    const tasks = { items: { source: { npy: at("items.npy") }, memoryMb }, small: { source: { npy: at("small.npy") }, memoryMb: 2_048 } };
    writeFileSync(at("config.json"), JSON.stringify({ vectors: { memoryMb, cacheMb: 0, tasks } }));
    const server = await startServerProcess({ data, durability: "interval", more: ["--config", at("config.json")] });
    const client = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port: server.respPort, timeoutMs: 30_000 });
    const counted = { sent: 0, failed: 0 };
    try {
      const queriesOf = (of: ClusteredVectors): Uint8Array[] => {
        const vectors = of.rows("queries", 1_000);
        return Array.from({ length: 1_000 }, (_, i) => new Uint8Array(vectors.slice(i * of.dims, (i + 1) * of.dims).buffer));
      };
      const ask = async (collection: string, query: Uint8Array): Promise<void> => {
        const { from } = decodeAnswer((await client.command("VSEARCH", collection, query, "COUNT", answers)) as Uint8Array);
        if (from[1] !== answers) throw new Error(`${from[1] ?? 0} answers of ${answers}`);
      };
      /** Queries for so long, or until `work` ends; returns latencies. */
      const under = async (collection: string, queries: readonly Uint8Array[], durationMs: number): Promise<number[]> => {
        const load = await openLoop({ ratePerS, durationMs, send: (i) => ask(collection, queries[i % queries.length]!) });
        counted.sent += load.sent;
        counted.failed += load.failed + load.dropped;
        if (load.firstFailure !== undefined) log(`a query failed: ${String(load.firstFailure)}`);
        return load.latencyMs;
      };
      const whileUnder = async <T>(collection: string, queries: readonly Uint8Array[], work: () => Promise<T>): Promise<T> => {
        const state = { running: true };
        const asking = (async () => {
          while (state.running) await under(collection, queries, 1_000);
        })();
        try {
          return await work();
        } finally {
          state.running = false;
          await asking;
        }
      };

      const queries = queriesOf(model);
      const first = await buildAndServe(server, "items");
      log(
        `first build, nobody asks: live after ${first.toLiveS.toFixed(1)} s, loaded in ${first.loadS.toFixed(2)} s; ${JSON.stringify(first.detail.last?.stages)}`,
      );
      const second = await whileUnder("items", queries, () => buildAndServe(server, "items"));
      const { last } = second.detail;
      log(
        `second build, under ${ratePerS} queries/s: live after ${second.toLiveS.toFixed(1)} s; ${JSON.stringify(last?.stages)}, ${JSON.stringify(last?.settings)}`,
      );
      report({
        metric: "build_to_live_s",
        value: second.toLiveS,
        unit: "s",
        better: "lower",
        target: 60,
        detail: `${rows} rows, under ${ratePerS} queries/s; without queries ${first.toLiveS.toFixed(1)} s`,
      });
      report({
        metric: "build_cpu_s",
        value: (last?.cpuMs ?? 0) / 1_000,
        unit: "s",
        better: "lower",
        detail: Object.entries(last?.stages ?? {})
          .map(([stage, { cpuMs }]) => `${stage} ${(cpuMs / 1_000).toFixed(1)}`)
          .join(", "),
      });
      report({
        metric: "load_s",
        value: second.loadS,
        unit: "s",
        better: "lower",
        target: 5,
        detail: `from the head to serving; without queries ${first.loadS.toFixed(2)} s`,
      });
      report({
        metric: "built_recall",
        value: last?.recall ?? 0,
        unit: "share",
        better: "higher",
        target: 0.985,
        detail: `of held-out queries; p99 of one ${last?.searchP99Ms?.toFixed(2)} ms`,
      });

      const quiet: number[] = [];
      const during: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const windowMs = quick ? 1_500 : 5_000;
        for (const isSwitch of round % 2 === 0 ? [false, true] : [true, false]) {
          const asking = under("items", queries, windowMs);
          if (isSwitch) {
            await sleep(300);
            const target = (await serving(server, "items")) === first.version ? second.version : first.version;
            await call(server, "POST", "/v1/vector-tasks/items/live", { version: target });
            await until(async () => ((await serving(server, "items")) === target ? true : undefined), "the switch");
          }
          const latency = await asking;
          (isSwitch ? during : quiet).push(quantile(latency, 0.99));
        }
      }
      log(`p99 of quiet windows ${quiet.map((ms) => ms.toFixed(1)).join(" ")}; with a switch ${during.map((ms) => ms.toFixed(1)).join(" ")} ms`);
      report({
        metric: "p99_ratio_during_switch",
        value: median(during) / median(quiet),
        unit: "ratio",
        better: "lower",
        target: 1.3,
        detail: `quiet ${median(quiet).toFixed(1)} ms, during ${median(during).toFixed(1)} ms, medians of ${rounds} windows`,
      });

      // 100 switches of a smaller collection.
      const smallQueries = queriesOf(small);
      const one = await buildAndServe(server, "small");
      const two = await buildAndServe(server, "small");
      let residentEarly = 0;
      await whileUnder("small", smallQueries, async () => {
        for (let i = 1; i <= switches; i++) {
          const target = i % 2 === 1 ? one.version : two.version;
          await call(server, "POST", "/v1/vector-tasks/small/live", { version: target });
          await until(async () => ((await serving(server, "small")) === target ? true : undefined), "a switch");
          if (i === Math.min(10, switches)) residentEarly = residentBytes(server.pid);
        }
      });
      const residentLate = residentBytes(server.pid);
      report({
        metric: "resident_ratio",
        value: residentLate / residentEarly,
        unit: "ratio",
        better: "lower",
        target: 1.1,
        detail: `${switches} switches: ${(residentLate / 2 ** 20).toFixed(0)} MiB, after the tenth ${(residentEarly / 2 ** 20).toFixed(0)}`,
      });
      report({ metric: "failed_queries", value: counted.failed, unit: "count", better: "lower", target: 0, detail: `of ${counted.sent}` });
    } finally {
      client.close();
      await server.stop();
    }
    await manyTasks(quick, at, report, log);
    temporary.remove();
  },
};

/** Many small tasks on several builders, one killed on the way. */
async function manyTasks(
  quick: boolean,
  at: (name: string) => string,
  report: Parameters<Scenario["run"]>[0]["report"],
  log: (line: string) => void,
): Promise<void> {
  const count = quick ? 6 : 50;
  const builders = quick ? 2 : 3;
  const data = at("tasks-data");
  mkdirSync(data);
  const tasks: Record<string, object> = {};
  for (let i = 0; i < count; i++) {
    await writeRows(at(`task-${i}.npy`), new ClusteredVectors({ dims: 32, clusters: 50, seed: 100 + i }), 2_000);
    tasks[`task-${i}`] = { source: { npy: at(`task-${i}.npy`) }, memoryMb: 512 };
  }
  writeFileSync(at("tasks.json"), JSON.stringify({ vectors: { memoryMb: 1_024, builders: 0, tasks } }));
  const server = await startServerProcess({ data, durability: "interval", more: ["--config", at("tasks.json")] });
  const command = join(import.meta.dirname, "..", "bin", "millrace.js");
  const running: ChildProcess[] = [];
  const kill = (): void => running.forEach((child) => child.kill("SIGKILL"));
  process.on("exit", kill);
  try {
    const started = performance.now();
    for (let i = 0; i < count; i++) await call(server, "POST", `/v1/vector-tasks/task-${i}/run`);
    for (let i = 0; i < builders; i++)
      running.push(spawn(process.execPath, [command, "builder", "--data", data, "--server", server.address], { stdio: "ignore" }));
    let killed = false;
    const answer = await until(async () => {
      const now = await call<VectorTasksAnswer>(server, "GET", "/v1/vector-tasks");
      const live = now.tasks.filter(({ live: version }) => version !== null).length;
      const victim = running[0]!;
      // While it builds something.
      if (!killed && live >= 1 && now.tasks.some(({ running: build }) => build?.builder.startsWith(`builder-${victim.pid}-`) === true))
        killed = victim.kill("SIGKILL");
      return live === count ? now : undefined;
    }, "all tasks live");
    const tookS = (performance.now() - started) / 1_000;
    const by = new Map<string, number>();
    for (const { last } of answer.tasks) if (last !== null) by.set(last.builder, (by.get(last.builder) ?? 0) + 1);
    log(`builds by builder: ${[...by].map(([name, builds]) => `${name} ${builds}`).join(", ")}; ${killed ? "one was killed" : "none was killed in time"}`);
    const served = await until(async () => {
      let all = 0;
      for (let i = 0; i < count; i++) if ((await serving(server, `task-${i}`)) !== undefined) all++;
      return all === count ? all : undefined;
    }, "all tasks served");
    report({
      metric: "tasks_live",
      value: killed ? served : 0,
      unit: "count",
      better: "higher",
      target: count,
      detail: `of ${count} on ${builders} builders, ${killed ? "one killed on the way" : "none killed: not judged"}`,
    });
    report({ metric: "tasks_live_s", value: tookS, unit: "s", better: "lower", target: 300, detail: "from the first ask, starts of the builders included" });
  } finally {
    kill();
    process.off("exit", kill);
    await server.stop();
  }
}
