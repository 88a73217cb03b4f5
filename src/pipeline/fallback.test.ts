// The fallback: when it answers, what its rows must pass, how it is recorded.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "#platform/clock";
import { Simulation } from "#platform/simulation";
import { systemClock } from "#platform/system-clock";
import { Runner, filter, hydrate, pipeline, score, source, topK } from "./index.ts";

interface Home {
  readonly seen?: readonly number[];
}

const range = (name: string, from: number, to: number) =>
  source<Home>()(name, { pop: { type: "f32", default: -1 } }, (_ctx, emit) => {
    const out = emit(to - from);
    for (let i = 0; i < to - from; i++) {
      out.id[i] = from + i;
      out.pop[i] = 1000 - from - i;
    }
  });
const byPop = score<Home>()("by-pop", { pop: "f32" }, { score: "f32" }, (_ctx, batch, out) => out.score.set(batch.col("pop")));
const unseen = filter<Home>()("unseen", {}, (ctx, batch, keep) => {
  for (let i = 0; i < batch.n; i++) if (ctx.req.seen?.includes(batch.id[i]!) === true) keep[i] = 0;
});
const popular = pipeline<Home>("popular")
  .recall([range("pop", 0, 40)])
  .score(byPop)
  .select(20, topK())
  .build();
const runner = new Runner({ clock: systemClock, strict: true });

test("promise: an answer is never empty while the fallback has rows", async () => {
  const simulation = new Simulation({ seed: Number(process.env["SEED"] ?? 1) });
  await simulation.run(async () => {
    const { clock } = simulation;
    const inSimulation = new Runner({ clock });
    const failures = {
      throws: source<Home>()("main", {}, () => {
        throw new Error("away");
      }),
      rejects: source<Home>()("main", {}, async () => {
        await clock.sleep(1);
        throw new Error("away");
      }),
      "never settles": source<Home>()("main", {}, () => new Promise<void>(() => {})),
      "finds nothing": source<Home>()("main", {}, () => {}),
      "breaks a rule": source<Home>()("main", {}, (_ctx, emit) => void emit(-4)),
    };
    for (const [name, main] of Object.entries(failures)) {
      for (const onError of ["fail", "skip", "empty"] as const) {
        const built = pipeline<Home>("home").recall([main], { onError }).filter(unseen).select(10, topK()).fallback(popular).build();
        const result = await inSimulation.run(built, { seen: [0, 1] }, { timeoutMs: 100 });
        assert.deepEqual([...result.ids], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], `${name}, ${onError}`);
        assert.equal(result.degraded.at(-1)?.action, "fallback");
        assert.equal(result.pipelineOf(0), "popular");
      }
    }
  });
});

test("the fallback fills what is missing, without what is there, after it", async () => {
  const main = pipeline<Home>("home")
    .recall([range("main", 5, 9)])
    .score(byPop)
    .select(7, topK())
    .fallback(popular)
    .build();
  const result = await runner.run(main, {});
  assert.deepEqual([...result.ids], [5, 6, 7, 8, 0, 1, 2]);
  assert.deepEqual([...result.col("pop")], [995, 994, 993, 992, 1000, 999, 998]);
  assert.deepEqual(
    result.degraded.map(({ pipeline: p, step, reason, action, message }) => [p, step, reason, action, message]),
    [["home", "home", "short", "fallback", "4 of 7 rows; the rest is asked of popular"]],
  );
  assert.deepEqual([result.sourcesOf(0), result.sourcesOf(4)], [["main"], ["pop"]]);
  assert.equal(result.trace.find((t) => t.step === "exclude")?.rowsOut, 36);
});

test("a full answer asks no fallback", async () => {
  const built = pipeline<Home>("home")
    .recall([range("main", 5, 30)])
    .score(byPop)
    .select(7, topK())
    .fallback(popular)
    .build();
  const result = await runner.run(built, {});
  assert.deepEqual([result.n, result.degraded.length, result.trace.some((t) => t.pipeline === "popular")], [7, 0, false]);
});

test("promise: rows of a fallback pass every filter that is not optional, and the hydrators those filters need", async () => {
  const open = hydrate<Home>()("open-rooms", {}, { isOpen: "u8" }, (_ctx, batch, out) => {
    for (let i = 0; i < batch.n; i++) out.isOpen[i] = batch.id[i]! % 2 === 0 ? 1 : 0;
  });
  const unneeded = hydrate<Home>()("unneeded", {}, { title: "str" }, () => {});
  const onlyOpen = filter<Home>()("only-open", { isOpen: "u8" }, (_ctx, batch, keep) => keep.set(batch.col("isOpen")));
  const cheap = filter<Home>()("cheap", {}, (_ctx, batch, keep) => {
    for (let i = 0; i < batch.n; i++) keep[i] = batch.id[i]! < 3 ? 1 : 0;
  });
  const built = pipeline<Home>("home")
    .recall([range("main", 2, 3)])
    .hydrate(unneeded)
    .hydrate(open)
    .filter(onlyOpen)
    .filter(cheap, { optional: true })
    .filter(unseen)
    .select(6, topK())
    .fallback(popular)
    .build();
  const result = await runner.run(built, { seen: [4] });
  assert.deepEqual([...result.ids], [2, 0, 6, 8, 10, 12]);
  const ran = result.trace.filter((t) => t.pipeline === "popular").map((t) => t.step);
  assert.deepEqual(ran, ["pop", "merge pop", "exclude", "open-rooms", "only-open", "unseen", "by-pop", "top-k"]);
});

test("a filter on a score judges the fallback's rows by the flow's own scores and leaves theirs alone", async () => {
  const quality = score<Home>()("quality", {}, { score: "f32" }, (_ctx, batch, out) => {
    for (let i = 0; i < batch.n; i++) out.score[i] = batch.id[i]! % 3;
  });
  const good = filter<Home>()("good", { score: "f32" }, (_ctx, batch, keep) => {
    const scores = batch.col("score");
    for (let i = 0; i < batch.n; i++) keep[i] = scores[i]! === 2 ? 1 : 0;
  });
  const built = pipeline<Home>("home")
    .recall([range("main", 50, 51)])
    .score(quality)
    .filter(good)
    .select(3, topK())
    .fallback(popular)
    .build();
  const result = await runner.run(built, {});
  assert.deepEqual([...result.ids], [50, 2, 5]);
  assert.deepEqual([...result.scores], [2, 998, 995]);
});

test("a filter on a column of the flow's sources sees the declared default in the fallback's rows", async () => {
  const near = source<Home>()("near", { distance: { type: "f32", default: 9 } }, (_ctx, emit) => {
    const out = emit(2);
    out.id.set([70, 71]);
    out.distance.set([1, 20]);
  });
  const close = filter<Home>()("close", { distance: "f32" }, (_ctx, batch, keep) => {
    const distance = batch.col("distance");
    for (let i = 0; i < batch.n; i++) keep[i] = distance[i]! < 10 ? 1 : 0;
  });
  const built = pipeline<Home>("home").recall([near]).filter(close).select(3, topK()).fallback(popular).build();
  const result = await runner.run(built, {});
  assert.deepEqual([...result.ids], [70, 0, 1]);
  assert.deepEqual([...result.col("distance")], [1, 9, 9]);
});

test("a ladder of fallbacks: the last one's rows pass the filters of all flows above", async () => {
  const odd = filter<Home>()("odd", {}, (_ctx, batch, keep) => {
    for (let i = 0; i < batch.n; i++) keep[i] = batch.id[i]! % 2;
  });
  const middle = pipeline<Home>("middle")
    .recall([range("mid", 0, 6)])
    .filter(odd)
    .select(20, topK())
    .fallback(popular)
    .build();
  const built = pipeline<Home>("home")
    .recall([range("main", 11, 12)])
    .filter(unseen)
    .select(7, topK())
    .fallback(middle)
    .build();
  const result = await runner.run(built, { seen: [3, 7] });
  assert.deepEqual([...result.ids], [11, 1, 5, 9, 13, 15, 17]);
  assert.deepEqual(
    [0, 1, 3].map((row) => result.pipelineOf(row)),
    ["home", "middle", "popular"],
  );
  assert.deepEqual(
    result.degraded.map((d) => [d.pipeline, d.reason]),
    [
      ["home", "short"],
      ["middle", "short"],
    ],
  );
});

test("when flow and fallback both fail, the request's error is the flow's; rows that are there are kept", async () => {
  const live = new Runner({ clock: systemClock });
  const failing = (name: string) =>
    pipeline<Home>(name).recall([
      source<Home>()(name, {}, () => {
        throw new Error(`${name} is away`);
      }),
    ]);
  await assert.rejects(live.run(failing("first").fallback(failing("second").build()).build(), {}), /first is away/);
  const partly = pipeline<Home>("home")
    .recall([range("main", 0, 2)])
    .select(5, topK())
    .fallback(failing("second").build())
    .build();
  const result = await live.run(partly, {});
  assert.deepEqual([...result.ids], [0, 1]);
  assert.match(result.degraded.at(-1)!.message, /second is away/);
});

test("a fallback that begins late still gets its reserve, and an early end of the flow leaves it the rest", async () => {
  const simulation = new Simulation({ seed: Number(process.env["SEED"] ?? 1) });
  await simulation.run(async () => {
    const { clock } = simulation;
    const live = new Runner({ clock, strict: true });
    const asleep = (name: string, ms: number, c: Clock) =>
      source<Home>()(name, {}, async (ctx, emit) => {
        await c.sleep(ms, ctx.signal);
        emit(1).id[0] = ms;
      });
    const second = pipeline<Home>("second")
      .recall([asleep("b", 30, clock)])
      .select(1, topK())
      .build();
    const built = pipeline<Home>("first")
      .recall([asleep("a", 500, clock)])
      .select(1, topK())
      .fallback(second, { reserveMs: 60 })
      .build();
    const startMs = clock.monotonicMs();
    const result = await live.run(built, {}, { timeoutMs: 100 });
    const tookMs = clock.monotonicMs() - startMs;
    assert.deepEqual([...result.ids], [30]);
    assert.equal(result.degraded[0]?.reason, "timeout");
    assert.ok(tookMs >= 70 && tookMs < 120, `${tookMs} ms`);
  });
});

test("a flow without a select falls back only when it finds nothing, and then the fallback's own k holds", async () => {
  const some = pipeline<Home>("home")
    .recall([range("main", 5, 7)])
    .fallback(popular)
    .build();
  assert.deepEqual([...(await runner.run(some, {})).ids], [5, 6]);
  const none = pipeline<Home>("home")
    .recall([range("main", 5, 7)])
    .filter(unseen)
    .fallback(popular)
    .build();
  assert.equal((await runner.run(none, { seen: [5, 6] })).n, 20);
});
