// Guards the benches against rot: every scenario runs in --quick and reports finite values, and the harness refuses dishonest ones.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  alternatingRounds,
  Checksum,
  median,
  type Metric,
  MetricSheet,
  openLoop,
  ownCpuMs,
  processCpuMs,
  quantile,
  targetMet,
  threadsCpuMs,
} from "./harness.ts";
import { differenceAtOneMoment } from "./load/at-one-moment.ts";
import { scenarioNames } from "./run.ts";

const runner = join(import.meta.dirname, "run.ts");

function runBench(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [runner, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}

/** Every scenario starts servers and processes; together they take a minute of two cores. */
const skip = process.env["MILLRACE_LONG"] === undefined ? "runs in `npm run test:long`, and as a step of its own in .ci/run" : false;

for (const name of scenarioNames()) {
  test(`bench ${name} runs in --quick and reports finite values`, { skip }, async () => {
    const { code, stdout, stderr } = await runBench(name, "--quick", "--json");
    assert.equal(code, 0, stderr);
    const metrics = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Metric & { bench: string });
    assert.ok(metrics.length > 0, "no metric");
    for (const metric of metrics) {
      assert.equal(metric.bench, name);
      assert.ok(Number.isFinite(metric.value), `${metric.metric} is ${metric.value}`);
      assert.ok(metric.better === "lower" || metric.better === "higher", `${metric.metric} does not say which way is better`);
      assert.deepEqual(Object.keys(metric), ["bench", "metric", "value", "unit", "better", "target", "peer", "detail"]);
    }
    assert.equal(new Set(metrics.map(({ metric }) => metric)).size, metrics.length, "a metric was printed twice");
  });
}

test("an unknown bench is refused with the list of known ones", async () => {
  const { code, stderr } = await runBench("no-such-bench");
  assert.equal(code, 1);
  assert.match(stderr, /no bench named no-such-bench; there are:/);
});

test("a metric is refused when its name repeats, is no snake case, or its value is no number", () => {
  const sheet = new MetricSheet();
  const metric: Metric = { metric: "answer_ms", value: 1, unit: "ms", better: "lower" };
  sheet.add(metric);
  assert.throws(() => sheet.add({ ...metric, value: 2 }), /reported twice/);
  assert.throws(() => sheet.add({ ...metric, metric: "nan_ms", value: Number.NaN }), /not a number/);
  assert.throws(() => sheet.add({ ...metric, metric: "Answer-ms" }), /snake case/);
  assert.equal(sheet.list().length, 1);
});

test("a target is met on its own side, and exactly", () => {
  const metric: Metric = { metric: "x", value: 10, unit: "ms", better: "lower" };
  assert.equal(targetMet(metric), undefined);
  assert.equal(targetMet({ ...metric, target: 10 }), true);
  assert.equal(targetMet({ ...metric, target: 9.9 }), false);
  assert.equal(targetMet({ ...metric, better: "higher", target: 10 }), true);
  assert.equal(targetMet({ ...metric, better: "higher", target: 10.1 }), false);
});

test("quantile and median: none, one, two, ties, ends", () => {
  assert.ok(Number.isNaN(quantile([], 0.5)) && Number.isNaN(median([])));
  assert.equal(quantile([7], 0), 7);
  assert.equal(quantile([7], 1), 7);
  assert.equal(median([4, 1]), 2.5);
  assert.equal(median([9, 1, 5]), 5);
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  assert.equal(quantile(hundred, 0.99), 99);
  assert.equal(quantile(hundred, 0.5), 50);
  assert.equal(quantile(hundred, 1), 100);
});

test("alternating rounds measure every variant equally often, after one unmeasured round", async () => {
  const calls: string[] = [];
  const samples = await alternatingRounds(3, { a: () => calls.push("a"), b: () => Promise.resolve(calls.push("b")) });
  assert.equal(calls.join(""), "ab" + "ba" + "ab" + "ba");
  assert.equal(samples.a.wallMs.length, 3);
  assert.equal(samples.b.cpuMs.length, 3);
});

test("open load is not slowed by a slow server: latency counts from the due time, overload is dropped and counted", async () => {
  const slow = await openLoop({ ratePerS: 200, durationMs: 250, inFlightMax: 10, send: () => sleep(100) });
  assert.equal(slow.sent + slow.dropped, 50);
  assert.ok(slow.dropped >= 10, `dropped ${slow.dropped}: 200/s at 100 ms each needs 20 in flight, 10 are allowed`);
  assert.equal(slow.latencyMs.length, slow.sent);
  assert.ok(Math.min(...slow.latencyMs) >= 99);

  const failing = await openLoop({
    ratePerS: 1000,
    durationMs: 20,
    send: (index) => (index % 2 === 0 ? Promise.reject(new Error("refused")) : Promise.resolve()),
  });
  assert.equal(failing.failed, 10);
  assert.match(String(failing.firstFailure), /refused/);
});

test("CPU meters see work, of this process and of another", () => {
  const before = ownCpuMs();
  const otherBefore = processCpuMs(process.pid);
  const threadsBefore = threadsCpuMs(process.pid);
  for (const end = performance.now() + 60; performance.now() < end;);
  assert.ok(ownCpuMs() - before > 5, "a busy loop of 60 ms used no CPU time");
  assert.ok(processCpuMs(process.pid) - otherBefore >= 10);
  assert.ok(threadsCpuMs(process.pid) - threadsBefore >= 10);
  assert.throws(() => processCpuMs(2 ** 30), /ENOENT/);
  assert.throws(() => threadsCpuMs(2 ** 30), /ENOENT/);
});

test("a checksum tells order and content", () => {
  const sum = (...parts: (string | number | ArrayBufferView)[]): string => parts.reduce((hash: Checksum, part) => hash.add(part), new Checksum()).hex();
  assert.match(sum(1), /^[0-9a-f]{16}$/);
  assert.notEqual(sum(1, 2), sum(2, 1));
  assert.notEqual(sum(12, 3), sum(1, 23));
  assert.equal(sum(new Float32Array([1, 2])), sum(new Float32Array([1, 2])));
});

test("the difference of two scores is of one moment, whatever is learned while they are asked for", async () => {
  // A bias that falls with every question, as when the windows of many answers close at once, until they are all closed.
  let asked = 0;
  const bias = (): number => {
    asked += 1;
    return asked < 30 ? -0.01 * asked : -0.3;
  };
  const first = async (): Promise<number> => bias() + 1.25;
  const second = async (): Promise<number> => bias() + 0.75;
  assert.ok((await first()) - (await second()) > 0.505, "asked one after the other it is too high");
  assert.ok(Math.abs((await differenceAtOneMoment(first, second, 100)) - 0.5) < 1e-12);
  asked = 0;
  await assert.rejects(differenceAtOneMoment(first, second, 5), /did not stand still/);
});
