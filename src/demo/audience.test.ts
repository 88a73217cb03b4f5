// The audience against the real gateway over HTTP, on a free port and a temporary folder.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { createHttpServer } from "#gateway/http-server";
import { defaultConfig, GatewayMetrics, openGateway, type OpenGateway } from "#gateway/index";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";
import type { EventBody } from "#wire/api";
import { Client } from "#sdk/index";
import { furnish } from "./furnish.ts";
import { type AudienceNews, type AudienceReport, type AudienceSecond, createWorld, liveThrough, newAudience, startAudience } from "./index.ts";
import { lookDelayMs, sendDelayMs } from "./delays.ts";
import { Draws } from "./draws.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { ClickMeter } from "./click-meter.ts";
import type { World } from "./world.ts";

interface TestServer {
  readonly address: string;
  readonly gateway: OpenGateway;
  stop(): Promise<void>;
}

async function startServer(port = 0): Promise<TestServer> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-demo-"));
  const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry: createMemoryRegistry({ clock: systemClock }), folder, durability: "none" });
  const metrics = new GatewayMetrics();
  const gateway = openGateway({ log, clock: systemClock, config: defaultConfig, version: "0", incarnation: "t1", metrics });
  const http = createHttpServer({ gateway, metrics, clock: systemClock, files: systemFiles, port });
  await http.listen();
  return {
    address: http.address,
    gateway,
    async stop() {
      await http.drain(1_000);
      await gateway.close();
      await log.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Collects reports and lets a test wait for the first one that it looks for. */
class Reports {
  readonly all: AudienceReport[] = [];
  #wake = (): void => undefined;
  readonly add = (report: AudienceReport): void => {
    this.all.push(report);
    this.#wake();
  };

  async until<R extends AudienceReport>(wanted: (report: AudienceReport) => report is R, what: string): Promise<R> {
    const deadline = systemClock.monotonicMs() + 60_000;
    for (let seen = 0; ;) {
      for (; seen < this.all.length; seen += 1) {
        const report = this.all[seen]!;
        if (wanted(report)) return report;
      }
      assert.ok(systemClock.monotonicMs() < deadline, `${what} did not come; last report: ${JSON.stringify(this.all.at(-1))}`);
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), systemClock.sleep(1_000)]);
    }
  }
}

// Large enough that the rooms that a viewer likes are not all shown (and kept away for ten minutes) within the test.
const small = { rooms: 1_000, viewers: 300 };

test("promise: the demo plays viewers against the public API, and their answers are personal from the first second", async () => {
  const server = await startServer();
  const reports = new Reports();
  const defaults = newAudience(server.address, 3, systemClock.nowMs());
  const audience = startAudience(systemWorkers, { ...defaults, world: { ...defaults.world, ...small }, requestsPerS: 20 }, reports.add);
  try {
    const second = await reports.until(
      (report): report is AudienceSecond => report.kind === "second" && (report.rates?.views ?? 0) >= 60 && report.eventsPerS > 0,
      "a report of 60 page views",
    );
    const made = reports.all.find((report) => report.kind === "made")!;
    assert.equal(made.seed, 3);
    assert.equal(made.viewers, small.viewers);
    const furnished = reports.all.find((report) => report.kind === "furnished")!;
    assert.equal(furnished.items, made.rooms);
    assert.equal(furnished.users, small.viewers);
    assert.ok(furnished.events > 500, `${furnished.events} past events`);
    assert.deepEqual(furnished.refused, {});
    assert.deepEqual(second.errors, {});
    assert.equal(second.skipped, 0);
    const { random, popular, oracle, expected } = second.rates!;
    assert.ok(random < popular && popular < oracle, JSON.stringify(second.rates));
    assert.ok(expected > 1.5 * random && expected < oracle, `the answers' click rate ${expected} against random ${random} and perfect ${oracle}`);
    assert.ok(second.p50Ms > 0 && second.p99Ms >= second.p50Ms);
    audience.breakingNews(17);
    const news = await reports.until((report): report is AudienceNews => report.kind === "news", "the news");
    assert.deepEqual({ topic: news.topic, name: news.name, triggered: news.triggered }, { topic: 17, name: "baking", triggered: true });
    assert.ok(news.reach > 0.4 && news.reach < 0.8, `${news.reach}`);
    const status = server.gateway.status();
    assert.ok(status.eventsJoined > 0, "events name the answer that showed their item");
    assert.equal(status.items, made.rooms);
  } finally {
    const asked = systemClock.monotonicMs();
    await audience.stop();
    assert.ok(systemClock.monotonicMs() - asked < 5_000, "stops promptly");
    assert.equal(await audience.failed, undefined);
    await server.stop();
  }
});

test("a server that goes away is an error with a reason and a pause; when it comes back the audience plays on", async () => {
  const first = await startServer();
  const reports = new Reports();
  const defaults = newAudience(first.address, 4, systemClock.nowMs());
  const audience = startAudience(systemWorkers, { ...defaults, world: { ...defaults.world, ...small }, viewsBefore: 0, requestsPerS: 30 }, reports.add);
  try {
    await reports.until((report): report is AudienceSecond => report.kind === "second" && report.requestsPerS > 10, "the first page views");
    await first.stop();
    const failed = await reports.until((report): report is AudienceSecond => report.kind === "second" && report.pausing && report.skipped > 0, "a pause");
    // Whichever of its requests met it first.
    const unavailable = Object.entries(failed.errors).reduce((sum, [what, count]) => sum + (what.endsWith(": unavailable") ? count : 0), 0);
    assert.ok(unavailable > 0, JSON.stringify(failed.errors));
    // While it pauses it does not hammer: far fewer failures than page views that were due.
    assert.ok(unavailable < 60, JSON.stringify(failed.errors));
    const second = await startServer(Number(new URL(first.address).port));
    try {
      const before = reports.all.length;
      await reports.until(
        (report): report is AudienceSecond => report.kind === "second" && reports.all.indexOf(report) >= before && report.requestsPerS > 10,
        "page views after the return",
      );
    } finally {
      await second.stop();
    }
  } finally {
    await audience.stop();
  }
});

test("after a long stop the server holds the rooms of now: those that are gone are deleted, changed ones are put", async () => {
  const server = await startServer();
  try {
    const startMs = systemClock.nowMs() - 90_000_000;
    const world = createWorld({ seed: 5, startMs, rooms: 60, viewers: 5 });
    const client = new Client(server.address);
    const { signal } = new AbortController();
    const options = { client, world, history: [], signal, onProgress: () => undefined };
    assert.equal((await furnish(options)).removed, 0);
    await client.items.put({ id: "mine", title: "not of this world" });
    world.skipTo(startMs + 86_400_000);
    const { removed } = await furnish(options);
    assert.ok(removed > 0);
    const held = new Map((await client.items.list({ limit: 1_000 })).items.map((row) => [row.id, row]));
    assert.equal(held.size, world.rooms.slots + 1);
    for (let slot = 0; slot < world.rooms.slots; slot += 1) assert.deepEqual(held.get(world.rooms.idOf(slot)), world.rooms.row(slot));
  } finally {
    await server.stop();
  }
});

test("an audience that is stopped while it makes its world ends at once", async () => {
  const audience = startAudience(systemWorkers, newAudience("http://127.0.0.1:9", 1, systemClock.nowMs()), () => undefined);
  await audience.stop();
  assert.equal(await audience.failed, undefined);
});

test("the past: events in the order of time, of rooms that still are there, and the same again for the same world", () => {
  const nowMs = Date.UTC(2026, 0, 1);
  const live = (): { world: World; events: EventBody[] } => {
    const world = createWorld({ seed: 9, startMs: nowMs - 7_200_000, ...small });
    return { world, events: drain(liveThrough(world, nowMs, 6)) };
  };
  const { world, events } = live();
  assert.equal(world.nowMs, nowMs);
  assert.ok(events.length > 300, `${events.length} events`);
  assert.equal(new Set(events.map(({ id }) => id)).size, events.length, "ids are distinct");
  for (let i = 0; i < events.length; i += 1) {
    assert.ok(events[i]!.ts! < nowMs && (i === 0 || events[i]!.ts! >= events[i - 1]!.ts!));
    assert.notEqual(world.rooms.slotOf(events[i]!.item), undefined);
  }
  assert.deepEqual(live().events, events);
});

function drain<T>(generator: Generator<void, T, void>): T {
  for (;;) {
    const step = generator.next();
    if (step.done === true) return step.value;
  }
}

test("late looks and late messages: some, bounded, and the same when asked again", () => {
  const draws = new Draws(4);
  for (const [delay, chance, max] of [
    [(i: number) => lookDelayMs(draws, i % 50, i), parameter.lateLookChance, parameter.lateLookMaxMs],
    [(i: number) => sendDelayMs(draws, i % 50, i, 1), parameter.lateEventChance, parameter.lateEventMaxMs],
  ] as const) {
    let late = 0;
    for (let i = 0; i < 20_000; i += 1) {
      const ms = delay(i);
      assert.ok(ms >= 0 && ms <= max);
      if (ms > 0) late += 1;
      if (i % 1_000 === 0) assert.equal(delay(i), ms);
    }
    assert.ok(Math.abs(late / 20_000 - chance) < 0.006, `${late} of 20,000 late`);
  }
});

test("click rates are over the last minute, latencies over the last ten seconds", () => {
  const meter = new ClickMeter();
  assert.equal(meter.rates(), undefined);
  assert.equal(meter.quantileMs(0.99), 0);
  meter.view(10, 10, { expected: 9, random: 1, popular: 2, oracle: 10 });
  meter.latency(1_000);
  for (let second = 0; second < 59; second += 1) {
    meter.turn();
    meter.latency(second);
  }
  meter.view(10, 0, undefined);
  assert.deepEqual(meter.rates(), { views: 2, shown: 20, clicked: 0.5, expected: 0.9, random: 0.1, popular: 0.2, oracle: 1 });
  assert.equal(meter.quantileMs(1), 58);
  assert.equal(meter.quantileMs(0.1), 49);
  meter.turn();
  assert.deepEqual(meter.rates(), { views: 1, shown: 10, clicked: 0, expected: 0, random: 0, popular: 0, oracle: 0 });
});
