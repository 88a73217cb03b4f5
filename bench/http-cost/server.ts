// The server of bench/http-cost.ts in a process of its own: the real HTTP server over a gateway that does nothing.
// This stand-in exists for this measurement alone: with the real gateway the cost of HTTP cannot be told from the gateway's.

import { createHttpServer } from "#gateway/http-server";
import type { Gateway } from "#gateway/gateway";
import { GatewayMetrics } from "#gateway/metrics";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import type { PutAnswer, RecommendAnswer } from "#wire/api";

const nothing = { count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 };
const put: PutAnswer = { accepted: 1, rejected: [], offset: 1, durability: "none" };

/** The shape and size of a real answer of 20 items. */
export const answer: RecommendAnswer = {
  recommendationId: "r-0123456789abcdef",
  pipeline: "home",
  items: Array.from({ length: 20 }, (_, at) => ({
    id: `item-${1_000 + at}`,
    score: 1 / (at + 1.37),
    sources: ["own-history", "popular"],
    reasons: [
      { code: "together", text: "People who watched this also watched that one", item: `item-${at}`, share: 0.625 },
      { code: "popular", text: "Popular now", share: 0.375 },
    ],
    title: `The title of room ${at}`,
    category: "music",
    attributes: { viewers: 1_234 + at, language: "en", live: true },
  })),
  degraded: [],
  offset: 1_234_567,
  tookMs: 1.25,
};

const gateway: Gateway = {
  putEvents: (events) => Promise.resolve({ accepted: events.length, duplicates: 0, rejected: [], offset: 1, durability: "none" }),
  putItems: () => Promise.resolve(put),
  patchItem: () => Promise.resolve(put),
  getItem: () => undefined,
  listItems: () => [],
  deleteItem: () => Promise.resolve(false),
  putUsers: () => Promise.resolve(put),
  patchUser: () => Promise.resolve(put),
  getUser: () => undefined,
  deleteUser: () => Promise.resolve(false),
  recommend: () => Promise.resolve(answer),
  pipelines: () => [],
  similar: () => Promise.resolve({ item: "", items: [], trainedOffset: 0, tookMs: 0 }),
  score: () => ({ recommendationId: "", item: "", position: 0, score: 0, probability: 0, trainedOffset: 0 }),
  training: () => undefined,
  ranking: () => undefined,
  switchTraining: () => Promise.reject(new Error("no trainer")),
  quality: () => ({ everyMs: 1_000, points: [] }),
  watch: () => () => undefined,
  readiness: () => ({ ready: true, waiting: [] }),
  status: () => ({
    version: "bench",
    startedAtMs: 0,
    nowMs: 0,
    durability: "none",
    items: 0,
    users: 0,
    eventsAccepted: 0,
    eventsRebuilt: 0,
    eventsDuplicate: 0,
    eventsRejected: 0,
    eventsJoined: 0,
    recommendations: 0,
    fallbacks: 0,
    degraded: 0,
    logOffset: 0,
    recommend: nothing,
    eventToFeature: nothing,
    memoryBytes: {},
    pipelines: [],
  }),
};

if (process.send !== undefined) {
  const metrics = new GatewayMetrics();
  // Ten pipelines of ten steps: what a scrape of a large installation renders.
  for (let pipeline = 0; pipeline < 10; pipeline += 1) {
    const handle = metrics.pipeline(`pipeline-${pipeline}`);
    for (let step = 0; step < 10; step += 1) for (let run = 1; run <= 100; run += 1) handle.step(`step-${step}`).ran(run / 50, run * 10, run);
    handle.answered(3, 20, 20);
  }
  const server = createHttpServer({ gateway, metrics, clock: systemClock, files: systemFiles, port: 0 });
  await server.listen();
  process.send({ port: server.port });
  process.on("message", (ask) => {
    if (ask === "cpu") process.send!(process.cpuUsage());
    else void server.drain(1_000).then(() => process.exit(0));
  });
}
