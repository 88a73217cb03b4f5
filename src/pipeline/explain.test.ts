// Why an item is in the answer, and why not; what the trace and the observer tell.

import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#platform/system-clock";
import { Runner, type StepTrace, filter, hydrate, pipeline, score, source, topK, windowed } from "./index.ts";

interface Home {
  readonly fail?: boolean;
}
const near = source<Home>()("near", { sim: "f32" }, (_ctx, emit) => {
  const out = emit(10);
  for (let i = 0; i < 10; i++) {
    out.id[i] = i;
    out.sim[i] = 10 - i;
  }
});
const fresh = source<Home>()("fresh", { age: { type: "f32", default: 99 } }, (_ctx, emit) => {
  const out = emit(3);
  out.id.set([2, 10, 11]);
  out.age.set([1, 2, 3]);
});
const authors = hydrate<Home>()("authors", {}, { author: "str" }, (_ctx, batch, out) => {
  for (let i = 0; i < batch.n; i++) out.author[i] = batch.id[i]! < 3 ? "ann" : `a${batch.id[i]}`;
});
const notFive = filter<Home>()("not-five", {}, (_ctx, batch, keep) => {
  for (let i = 0; i < batch.n; i++) if (batch.id[i] === 5) keep[i] = 0;
});
const bySim = score<Home>()("by-sim", { sim: "f32" }, { score: "f32" }, (_ctx, batch, out) => out.score.set(batch.col("sim")));
const freshness = score<Home>()("freshness", { age: "f32", score: "f32" }, { score: "f32" }, (ctx, batch, out) => {
  if (ctx.req.fail === true) throw new Error("away");
  const age = batch.col("age");
  for (let i = 0; i < batch.n; i++) if (age[i]! < 10) out.score[i] = out.score[i]! + 20;
});
const last = source<Home>()("last", {}, (_ctx, emit) => void emit(3).id.set([1, 40, 41]));
const built = pipeline<Home>("home")
  .recall([near, fresh], { quota: { near: 9 } })
  .filter(notFive)
  .hydrate(authors)
  .score(bySim)
  .score(freshness)
  .select(4, windowed({ by: "author", window: 4, max: 1 }))
  .fallback(pipeline<Home>("last-resort").recall([last]).select(4, topK()).build())
  .build();
const runner = new Runner({ clock: systemClock, strict: true });

test("promise: for every item the answer to why, and why not", async () => {
  const result = await runner.run(built, {}, { explain: true });
  // Scores: 2 has 8 + 20, 10 and 11 have 20, 0 has 10, 1 has 9; 0, 1 and 2 are by ann.
  assert.deepEqual([...result.ids], [2, 10, 11, 3]);
  const two = result.why(2)!;
  assert.deepEqual(two, {
    id: 2,
    pipeline: "home",
    verdict: "chosen",
    text: "chosen for place 1",
    place: 1,
    sources: ["near", "fresh"],
    ranks: [
      { step: "by-sim", rank: 3, of: 10, score: 8 },
      { step: "freshness", rank: 1, of: 10, score: 28 },
    ],
    columns: { score: 28, sources: 3, sim: 8, age: 1, author: "ann" },
  });
  const rule = "at most 1 of a author in 4 places";
  for (const [id, verdict, text] of [
    [0, "dropped", `dropped by ${rule}`],
    [5, "filtered", "filtered by not-five"],
    [4, "ranked", "ranked 7 of 10"],
    [9, "not recalled", "not recalled: beyond the quota of near"],
    [12345, "not recalled", "not recalled"],
  ] as const) {
    const why = result.why(id)!;
    assert.deepEqual([why.verdict, why.text], [verdict, text], `id ${id}`);
  }
  assert.equal(result.why(5)!.ranks.length, 0);
  assert.deepEqual(result.why(5)!.columns, { score: 0, sources: 1, sim: 5, age: 99, author: "" });
  assert.equal((await runner.run(built, {})).why(2), undefined);
});

test("why after a fallback: the pipeline that chose, and what the flow that failed knew", async () => {
  const live = new Runner({ clock: systemClock });
  const result = await live.run(built, { fail: true }, { explain: true });
  assert.deepEqual([...result.ids], [1, 40, 41]);
  assert.deepEqual([result.why(40)!.pipeline, result.why(40)!.text], ["last-resort", "chosen for place 2"]);
  assert.deepEqual([result.why(3)!.verdict, result.why(3)!.text], ["flow failed", "recalled by a flow that failed"]);
  assert.equal(result.why(5)!.text, "filtered by not-five");
});

test("a row that left after several selects is told by the one that dropped it", async () => {
  const two = pipeline<Home>("two").recall([near]).score(bySim).select(6, topK("broad")).filter(notFive).select(2, topK("narrow")).build();
  const result = await runner.run(two, {}, { explain: true });
  assert.deepEqual([result.why(8)!.step, result.why(8)!.text], ["broad", "ranked 9 of 10"]);
  assert.deepEqual([result.why(3)!.step, result.why(3)!.text], ["narrow", "ranked 4 of 5"]);
});

test("the trace has one record a step with rows in and out, and the observer gets the same", async () => {
  const seen: string[] = [];
  const requests: unknown[] = [];
  const observed = new Runner({
    clock: systemClock,
    observer: {
      step: (p, step, micros, rowsIn, rowsOut, outcome) => seen.push(`${p} ${step} ${rowsIn}->${rowsOut} ${outcome} ${micros >= 0}`),
      request: (p, micros, rows, degraded) => requests.push([p, micros > 0, rows, degraded.length]),
    },
  });
  const line = (t: StepTrace): string => `${t.pipeline} ${t.step} ${t.rowsIn}->${t.rowsOut} ${t.outcome} ${t.micros >= 0}`;
  const result = await observed.run(built, {});
  assert.deepEqual(seen, result.trace.map(line));
  assert.deepEqual(seen, [
    "home near 10->9 ok true",
    "home fresh 3->3 ok true",
    "home merge 1 12->11 ok true",
    "home not-five 11->10 ok true",
    "home authors 10->10 ok true",
    "home by-sim 10->10 ok true",
    "home freshness 10->10 ok true",
    "home windowed(author) 10->4 ok true",
  ]);
  await observed.run(built, { fail: true });
  const failing = pipeline<Home>("failing").recall([near]).score(freshness2).build();
  await assert.rejects(observed.run(failing, {}));
  assert.deepEqual(requests, [
    ["home", true, 4, 0],
    ["home", true, 3, 1],
    ["failing", true, 0, 0],
  ]);
  assert.equal(seen.at(-1), "failing fails 10->10 error true");
});
const freshness2 = score<Home>()("fails", {}, { score: "f32" }, () => {
  throw new Error("away");
});
