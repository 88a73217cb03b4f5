// Guards what learning promises to a caller of the API, on the real server with the real trainer and ranker in their threads: a click moves the model's score of what
// was clicked and the item's vector, the stream tells it, the switch holds, and answers come also when nothing ranks.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { defaultConfig } from "#gateway/index";
import type { RecommendAnswer } from "#wire/api";
import type { LiveSecond, QualityAnswer, ScoreAnswer, SimilarAnswer, TrainingStatus, WayStep } from "#wire/live-api";
import { startTestServer, type TestServer } from "./http-server.ts";

const items = 60;
/** A window that a test can wait for. */
const quick = { ...defaultConfig, model: { ...defaultConfig.model!, samples: { ...defaultConfig.model!.samples, windowSeconds: 0.4 } } };

async function eventually<T>(what: string, ask: () => Promise<T | undefined>, withinMs = 10_000): Promise<T> {
  const until = Date.now() + withinMs;
  for (;;) {
    const found = await ask();
    if (found !== undefined) return found;
    if (Date.now() > until) assert.fail(`${what}: not within ${withinMs} ms`);
    await sleep(10);
  }
}

/** A server with a catalogue whose trainer is past its first window. */
async function startLearning(context: TestContext): Promise<TestServer> {
  const server = await startTestServer(context, { model: true, config: quick });
  const rows = Array.from({ length: items }, (_, index) => ({
    id: `room-${index}`,
    title: `Room ${index}`,
    category: `category-${index % 5}`,
    state: `topic-${index % 12}`,
    attributes: { language: "en", streamer: `streamer-${index}` },
  }));
  assert.equal((await server.send("PUT", "/v1/items", rows)).status, 200);
  await eventually("the first window is over", async () => {
    await recommend(server, "somebody");
    const { state } = await training(server);
    return state === "learning" ? true : undefined;
  });
  return server;
}

async function recommend(server: TestServer, user: string, more: object = {}): Promise<RecommendAnswer> {
  const { status, json, text } = await server.send("POST", "/v1/recommend/home", { user, n: 10, ...more });
  assert.equal(status, 200, text);
  return json as RecommendAnswer;
}

async function training(server: TestServer): Promise<TrainingStatus> {
  return (await server.send("GET", "/v1/training")).json as TrainingStatus;
}

async function click(server: TestServer, user: string, item: string, { recommendationId, items: shown }: RecommendAnswer): Promise<number> {
  const position = shown.findIndex(({ id }) => id === item);
  const event = { id: `click-${user}-${item}-${recommendationId}`, type: "click", user, item, recommendationId, position };
  const { json } = await server.send("POST", "/v1/events", event);
  return (json as { offset: number }).offset;
}

async function score(server: TestServer, answer: RecommendAnswer, item: string): Promise<ScoreAnswer> {
  const { status, json, text } = await server.send("POST", "/v1/score", { recommendationId: answer.recommendationId, item });
  assert.equal(status, 200, text);
  return json as ScoreAnswer;
}

test("promise: a click raises the model's score of what was clicked, by the features it was served with, and moves its vector", async (context) => {
  const server = await startLearning(context);
  const answer = await recommend(server, "ann", { explain: true });
  assert.deepEqual(answer.degraded, []);
  const item = answer.items[3]!;
  const before = await score(server, answer, item.id);
  assert.equal(before.position, 3);
  assert.ok(Math.abs(before.servedScore! - item.parts!["model.logit"]!) < 1e-4, "what was logged is what ranked");
  const similar = async (): Promise<SimilarAnswer> => (await server.send("POST", "/v1/similar", { item: item.id, n: 5 })).json as SimilarAnswer;
  const neighbours = await eventually("the item has a vector", async () => {
    const found = await similar();
    return found.items.length === 5 ? found : undefined;
  });
  const offset = await click(server, "ann", item.id, answer);
  const after = await eventually("the trainer has read the click", async () => {
    const now = await score(server, answer, item.id);
    return now.trainedOffset >= offset ? now : undefined;
  });
  assert.ok(after.score > before.score + 0.001, `${before.score} -> ${after.score}`);
  assert.equal(after.servedScore, before.servedScore, "the score of then stands");
  const moved = await eventually("the vectors have read the click", async () => {
    const now = await similar();
    return now.trainedOffset >= offset ? now : undefined;
  });
  assert.notDeepEqual(
    moved.items.map(({ similarity }) => similarity),
    neighbours.items.map(({ similarity }) => similarity),
  );
});

test("promise: the stream tells every stage of a click, in order, with its milliseconds", async (context) => {
  const server = await startLearning(context);
  const stop = new AbortController();
  context.after(() => stop.abort());
  const stream = await fetch(`${server.http.address}/v1/live?user=bea`, { signal: stop.signal });
  assert.equal(stream.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const ways: WayStep[] = [];
  const seconds: LiveSecond[] = [];
  void (async () => {
    let text = "";
    for await (const chunk of stream.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const [, event, data] = /^event: (\w+)\ndata: (.*)$/s.exec(text.slice(0, end)) ?? [];
        text = text.slice(end + 2);
        if (event === "way") ways.push(JSON.parse(data!) as WayStep);
        if (event === "second") seconds.push(JSON.parse(data!) as LiveSecond);
      }
    }
  })().catch(() => undefined);
  const answer = await recommend(server, "bea");
  const item = answer.items[0]!.id;
  await click(server, "bea", item, answer);
  await click(server, "someone else", item, answer);
  await eventually("all four stages", async () => (ways.length >= 4 ? true : undefined));
  assert.deepEqual(
    ways.map(({ stage }) => stage),
    ["logged", "feature", "parameter", "vector"],
  );
  for (const [at, way] of ways.entries()) {
    assert.equal(way.item, item);
    assert.match(way.event, /^click-bea-/);
    assert.ok(way.ms >= (ways[at - 1]?.ms ?? 0), "times do not fall");
    assert.ok(way.detail.length > 5);
  }
  assert.ok(ways[2]!.after! > ways[2]!.before!, "the chance of a click rose");
  assert.ok(ways[3]!.after! > 0, "the vector turned");
  await eventually("a second", async () => (seconds.length > 0 ? true : undefined));
  assert.equal(seconds[0]!.training?.state, "learning");
});

test("promise: switched off the model stands still and is judged on; switched on it learns again", async (context) => {
  const server = await startLearning(context);
  const off = (await server.send("POST", "/v1/training", { on: false })).json as TrainingStatus;
  assert.equal(off.state, "off");
  const answer = await recommend(server, "cat");
  const item = answer.items[0]!.id;
  const before = await score(server, answer, item);
  const offset = await click(server, "cat", item, answer);
  const still = await eventually("the trainer has read the click", async () => {
    const now = await score(server, answer, item);
    return now.trainedOffset >= offset ? now : undefined;
  });
  assert.equal(still.score, before.score, "no parameter moved");
  await eventually("it was judged", async () => {
    await recommend(server, "dan");
    const { points } = (await server.send("GET", "/v1/quality?minutes=1")).json as QualityAnswer;
    return points.some((point) => !point.training && point.samples > 0) ? true : undefined;
  });
  const on = (await server.send("POST", "/v1/training", { on: true })).json as TrainingStatus;
  assert.equal(on.state, "learning");
  const next = await recommend(server, "cat");
  const clicked = next.items[1]!.id;
  const was = await score(server, next, clicked);
  const later = await click(server, "cat", clicked, next);
  await eventually("it learns", async () => {
    const now = await score(server, next, clicked);
    return now.trainedOffset >= later && now.score > was.score ? true : undefined;
  });
});

test("promise: an answer never waits for the model: without the ranker the weighted score stands, and says so", async (context) => {
  const server = await startLearning(context);
  await server.model!.scorer.close();
  const answer = await recommend(server, "eve");
  assert.equal(answer.items.length, 10);
  assert.ok(
    answer.degraded.some((what) => what.startsWith("model:")),
    answer.degraded.join("; "),
  );
  const rates = (await server.send("GET", "/metrics")).text;
  assert.match(rates, /^rec_training_learning 1$/m);
  assert.match(rates, /^rec_ranking_requests [1-9]/m);
  assert.match(rates, /rec_step_errors_total\{pipeline="home",step="model",class="error"\} [1-9]/);
});

test("questions about a model are refused with what to do", async (context) => {
  const without = await startTestServer(context);
  for (const [method, path, body] of [
    ["GET", "/v1/training", undefined],
    ["POST", "/v1/training", { on: true }],
    ["POST", "/v1/similar", { item: "a" }],
    ["POST", "/v1/score", { recommendationId: "r-1", item: "a" }],
  ] as const) {
    const { status, text } = await without.send(method, path, body);
    assert.equal(status, 404, `${method} ${path} ${status}`);
    assert.match(text, /this server has no model/);
  }
  const server = await startTestServer(context, { model: true });
  const unknown = await server.send("POST", "/v1/score", { recommendationId: "r-none-1", item: "a" });
  assert.equal(unknown.status, 404, unknown.text);
  assert.equal((await server.send("POST", "/v1/similar", { item: "nobody" })).status, 404);
  assert.equal((await server.send("POST", "/v1/training", { on: "yes" })).status, 400);
  assert.equal((await server.send("GET", "/v1/quality?minutes=0")).status, 400);
  assert.equal((await server.send("GET", "/v1/live?user=")).status, 400);
});
