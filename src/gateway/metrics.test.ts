// Guards: what the gateway counts is what the summaries and the text of /metrics say, and no input can grow the number of series without a bound.

import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#platform/system-clock";
import type { GatewayStatus } from "./gateway.ts";
import { createExposition } from "./metrics-exposition.ts";
import { GatewayMetrics } from "./metrics.ts";

const nothing = { count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 };
const status: GatewayStatus = {
  version: "1",
  startedAtMs: 0,
  nowMs: 0,
  durability: "none",
  items: 3,
  users: 4,
  eventsAccepted: 0,
  eventsRebuilt: 0,
  eventsDuplicate: 0,
  eventsRejected: 0,
  eventsJoined: 0,
  recommendations: 0,
  fallbacks: 0,
  degraded: 0,
  logOffset: 5,
  recommend: nothing,
  eventToFeature: nothing,
  memoryBytes: { catalogue: 6 },
  pipelines: [],
};

function textOf(metrics: GatewayMetrics): Promise<string> {
  return createExposition({ metrics, status: () => status, clock: systemClock, build: { version: "1", kernel: 'a "b"\\' }, running: () => 1 }).text();
}

test("summaries are of what was counted", () => {
  const metrics = new GatewayMetrics();
  const home = metrics.pipeline("home");
  assert.equal(metrics.pipeline("home"), home);
  for (let run = 1; run <= 100; run += 1) home.answered(run, run === 1 ? 0 : run === 2 ? 5 : 10, 10);
  home.fallback("short");
  home.fallback("short");
  const step = home.step("popular");
  step.ran(2, 10, 4);
  step.ran(4, 20, 8);
  step.failed("timeout");
  const [summary] = metrics.pipelineSummaries();
  assert.equal(summary!.requests.count, 100);
  assert.ok(Math.abs(summary!.requests.p50Ms - 50) < 1 && Math.abs(summary!.requests.p99Ms - 99) < 2 && summary!.requests.maxMs === 100);
  assert.deepEqual(summary!.fallbacks, { short: 2 });
  assert.deepEqual(
    summary!.steps.map(({ step: name, count, errors, rowsIn, rowsOut, maxMs }) => ({ name, count, errors, rowsIn, rowsOut, maxMs })),
    [{ name: "popular", count: 2, errors: 1, rowsIn: 15, rowsOut: 6, maxMs: 4 }],
  );
  metrics.pipeline("shop").answered(200, 10, 10);
  assert.deepEqual(metrics.recommendSummary().count, 101);
  assert.equal(metrics.recommendSummary().maxMs, 200);
  assert.equal(metrics.shortAnswers.with("home").value, 1);
  assert.equal(metrics.emptyAnswers.with("home").value, 1);
});

test("the text has cumulative buckets in seconds, sums, and escaped labels", async () => {
  const metrics = new GatewayMetrics();
  metrics.pipeline("home").answered(0.9, 1, 1);
  metrics.pipeline("home").answered(3, 1, 1);
  metrics.pipeline("home").answered(20_000, 1, 1);
  metrics.fallbacks.with('od"d\\\n', "x").add(2);
  const lines = (await textOf(metrics)).split("\n");
  const bucket = (le: string): string | undefined => lines.find((line) => line.startsWith(`rec_request_seconds_bucket{pipeline="home",le="${le}"}`));
  assert.deepEqual(
    ["0.0005", "0.001", "0.0025", "0.005", "10", "+Inf"].map((le) => bucket(le)?.split(" ")[1]),
    ["0", "1", "1", "2", "2", "3"],
  );
  assert.ok(lines.includes('rec_request_seconds_sum{pipeline="home"} 20.0039'));
  assert.ok(lines.includes('rec_request_seconds_count{pipeline="home"} 3'));
  assert.ok(lines.includes('rec_fallback_total{pipeline="od\\"d\\\\\\n",reason="x"} 2'));
  assert.ok(lines.includes('rec_build_info{version="1",kernel="a \\"b\\"\\\\"} 1'));
  assert.ok(lines.includes('rec_memory_bytes{owner="catalogue"} 6'));
});

test("a family holds no more series than its bound, and loses no count", async () => {
  const metrics = new GatewayMetrics({ seriesMax: 10 });
  for (let type = 0; type < 1_000; type += 1) metrics.events(`type-${type}`, "accepted");
  const series = [...metrics.eventCounts.series()];
  assert.equal(series.length, 11);
  assert.equal(
    series.reduce((sum, { metric }) => sum + metric.value, 0),
    1_000,
  );
  assert.equal(metrics.eventCounts.with("type-3", "accepted").value, 1);
  assert.equal(metrics.eventCounts.with("other", "other").value, 990);
  for (let name = 0; name < 100; name += 1) metrics.pipeline(`p-${name}`).answered(1, 1, 1);
  assert.equal(metrics.pipelineSummaries().length, 10);
  assert.ok((await textOf(metrics)).split("\n").length < 1_500);
});

test("scrapes at the same time share one rendering", async () => {
  let asked = 0;
  const exposition = createExposition({
    metrics: new GatewayMetrics(),
    status: () => {
      asked += 1;
      return status;
    },
    clock: systemClock,
    build: { version: "1" },
    running: () => 0,
  });
  const texts = await Promise.all([exposition.text(), exposition.text(), exposition.text()]);
  assert.equal(new Set(texts).size, 1);
  assert.equal(asked, 1);
  await exposition.text();
  assert.equal(asked, 2, "a later scrape reads anew");
});
