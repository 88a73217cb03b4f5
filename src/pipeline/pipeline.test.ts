// The semantics of a flow from declaration to result: order, merging, columns, filters, scores, selection, fallback, explain.

import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#platform/system-clock";
import { Runner, filter, hydrate, pipeline, score, source, topK, windowed } from "./index.ts";
import { measurePipeline } from "./pipeline.bench.ts";

interface Home {
  readonly n: number;
  readonly seen: ReadonlySet<number>;
}

const catalogue = Array.from({ length: 50 }, (_, i) => ({ id: i, author: i % 5, age: i }));

const vector = source<Home>()("vector", { sim: "f32" }, async (_ctx, emit) => {
  await Promise.resolve();
  const out = emit(20);
  for (let i = 0; i < 20; i++) {
    out.id[i] = i;
    out.sim[i] = 1 - i / 20;
  }
});
const fresh = source<Home>()("fresh", { isFresh: "u8" }, (_ctx, emit) => {
  const out = emit(10);
  for (let i = 0; i < 10; i++) {
    out.id[i] = 15 + i;
    out.isFresh[i] = 1;
  }
});
const unseen = filter<Home>()("unseen", {}, (ctx, batch, keep) => {
  const { id } = batch;
  for (let i = 0; i < batch.n; i++) if (ctx.req.seen.has(id[i]!)) keep[i] = 0;
});
const items = hydrate<Home>()("items", {}, { author: "u32", age: { type: "f32", default: 1000 } }, (_ctx, batch, out) => {
  const { id } = batch;
  for (let i = 0; i < batch.n; i++) {
    const item = catalogue[id[i]!];
    if (item === undefined) continue;
    out.author[i] = item.author;
    out.age[i] = item.age;
  }
});
const blend = score<Home>()("blend", { sim: "f32", isFresh: "u8", age: "f32" }, { score: "f32" }, (_ctx, batch, out) => {
  const sim = batch.col("sim");
  const isFresh = batch.col("isFresh");
  const age = batch.col("age");
  for (let i = 0; i < batch.n; i++) out.score[i] = sim[i]! + 0.5 * isFresh[i]! - 0.001 * age[i]!;
});
const popular = source<Home>()("popular", { pop: "f32" }, (_ctx, emit) => {
  const out = emit(50);
  for (let i = 0; i < 50; i++) {
    out.id[i] = 49 - i;
    out.pop[i] = 50 - i;
  }
});
const byPop = score<Home>()("by-pop", { pop: "f32" }, { score: "f32" }, (_ctx, batch, out) => out.score.set(batch.col("pop")));
const popularPage = pipeline<Home>("popular-page").recall([popular]).score(byPop).select(50, topK()).build();
const home = pipeline<Home>("home")
  .recall([vector, fresh], { timeoutMs: 20, onError: "empty", quota: { vector: 18, fresh: 10 } })
  .filter(unseen)
  .hydrate(items, { onError: "skip" })
  .score(blend)
  .select((ctx) => ctx.req.n, windowed({ by: "author", window: 3, max: 1 }))
  .fallback(popularPage)
  .build();

test("a flow recalls, merges, filters, hydrates, scores, selects, and fills up from its fallback", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  const result = await runner.run(home, { n: 30, seen: new Set([1, 2, 49]) }, { explain: true });
  assert.equal(result.n, 30);
  assert.equal(result.wanted, 30);
  assert.equal(new Set(result.ids).size, 30);
  for (const id of [1, 2, 49]) assert.equal(result.ids.includes(id), false);
  assert.deepEqual(result.sourcesOf([...result.ids].indexOf(16)), ["vector", "fresh"]);
  assert.equal(result.pipelineOf(0), "home");
  assert.equal(result.pipelineOf(29), "popular-page");
  assert.deepEqual(
    result.degraded.map((d) => [d.pipeline, d.reason, d.action]),
    [["home", "short", "fallback"]],
  );
  assert.equal(result.why(1)?.text, "filtered by unseen");
  assert.equal(result.why(18)?.sources.join(), "fresh");
  assert.equal(result.why(result.ids[0]!)?.place, 1);
  assert.equal(result.why(48)?.pipeline, "popular-page");
  assert.equal(result.why(7777)?.text, "not recalled");
});

test("the bench's variants answer alike", async () => {
  const micros = await measurePipeline(1, 5);
  for (const [name, value] of Object.entries(micros)) assert.ok(value > 0, name);
});
