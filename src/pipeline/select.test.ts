// Selection against the plain definition: sort all rows; for windows, test every remaining row at every place.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { freshSeed } from "#platform/fresh-seed";
import { systemClock } from "#platform/system-clock";
import { Runner, type WindowRule, hydrate, pipeline, source, topK, topRows, windowed } from "./index.ts";
import { rankRows } from "./select-top.ts";

const seed = freshSeed();
console.log(`select.test seed ${seed}`);

/** Few distinct values, so that ties are common. */
const anyScore = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constantFrom(Infinity, -Infinity, 0.5, -0));

function sortedRows(scores: ArrayLike<number>): number[] {
  return Array.from(scores, (_, row) => row).sort((a, b) => (scores[a]! === scores[b]! ? a - b : scores[a]! < scores[b]! ? 1 : -1));
}

test("promise: top k is the head of the sorted order, ties to the lower row", () => {
  fc.assert(
    fc.property(fc.array(anyScore, { maxLength: 80 }), fc.nat(90), (values, k) => {
      const order = new Uint32Array(values.length);
      const count = topRows(Float32Array.from(values), values.length, k, order);
      assert.deepEqual([...order.subarray(0, count)], sortedRows(values).slice(0, k));
    }),
    { seed, numRuns: 400 },
  );
});

test("a whole ranking by packed keys is the same order", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(anyScore, fc.float({ noNaN: true })), { maxLength: 80 }), (values) => {
      const scores = Float32Array.from(values);
      assert.deepEqual([...rankRows(scores, values.length)], sortedRows(scores));
    }),
    { seed, numRuns: 400 },
  );
});

type Row = { readonly score: number; readonly author: number; readonly topic: string };
const titleOf = (rule: WindowRule): string => `${rule.by} ${rule.window} ${rule.max}`;

/** The definition: at each place the best remaining row that fits all rules, else all but the first, and so on. Says which rules each place kept. */
function plainWindowed(rows: readonly Row[], rules: readonly WindowRule<"author" | "topic">[], k: number): { order: number[]; relaxed: number[] } {
  const remaining = sortedRows(rows.map((r) => r.score));
  const order: number[] = [];
  const relaxed: number[] = [];
  while (order.length < k && remaining.length > 0) {
    for (let from = 0; from <= rules.length; from++) {
      const fits = (row: number): boolean =>
        rules.slice(from).every(({ by, window, max }) => {
          const before = window === 1 ? [] : order.slice(-Math.min(window - 1, order.length || 1));
          return before.filter((other) => rows[other]![by] === rows[row]![by]).length < max;
        });
      const at = remaining.findIndex(fits);
      if (at < 0) continue;
      order.push(...remaining.splice(at, 1));
      relaxed.push(from);
      break;
    }
  }
  return { order, relaxed };
}

const attributes = (rows: readonly Row[]) => [
  source<Row[]>()("rows", { score: "f32" }, (_ctx, emit) => {
    const out = emit(rows.length);
    rows.forEach((row, i) => {
      out.id[i] = i;
      out.score[i] = row.score;
    });
  }),
];
const columns = hydrate<readonly Row[]>()("attributes", {}, { author: "u8", topic: "str" }, (ctx, batch, out) => {
  for (let i = 0; i < batch.n; i++) {
    out.author[i] = ctx.req[batch.id[i]!]!.author;
    out.topic[i] = ctx.req[batch.id[i]!]!.topic;
  }
});
const anyRows = fc.array(
  fc.record({
    score: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.float({ noNaN: true, min: 0, max: 1 })),
    author: fc.nat(4),
    topic: fc.constantFrom("a", "b", "c"),
  }),
  { maxLength: 60 },
);
const anyRule = fc.record({
  by: fc.constantFrom("author" as const, "topic" as const),
  window: fc.oneof(fc.integer({ min: 1, max: 7 }), fc.constant(Infinity)),
  max: fc.integer({ min: 1, max: 3 }),
});

test("promise: the window rule holds at every place where any remaining row could keep it, and takes the best such row", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  await fc.assert(
    fc.asyncProperty(anyRows, fc.uniqueArray(anyRule, { minLength: 1, maxLength: 3, selector: titleOf }), fc.nat(30), async (rows, rules, k) => {
      const built = pipeline<Row[]>("p").recall(attributes(rows)).hydrate(columns).select(k, windowed(rules)).build();
      const result = await runner.run(built, rows);
      const expected = plainWindowed(rows, rules, k);
      assert.deepEqual([...result.ids], expected.order);
      assert.equal(result.n, Math.min(k, rows.length));
      // The claim itself, checked without the model: a place that needed no relaxing breaks no rule.
      for (const [place, relaxed] of expected.relaxed.entries()) {
        for (const { by, window, max } of rules.slice(relaxed)) {
          const inWindow = [...result.ids.subarray(Math.max(0, place - window + 1), place + 1)].map((id) => rows[id]![by]);
          assert.ok(inWindow.filter((value) => value === inWindow.at(-1)).length <= max);
        }
      }
    }),
    { seed, numRuns: 250 },
  );
});

test("many rows of one value, and more rows than the ranked prefix", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  const rows: Row[] = Array.from({ length: 900 }, (_, i) => ({ score: 1000 - i, author: i < 800 ? 1 : 2 + (i % 3), topic: "a" }));
  const rules = [{ by: "author" as const, window: 3, max: 1 }];
  const built = pipeline<Row[]>("p").recall(attributes(rows)).hydrate(columns).select(60, windowed(rules)).build();
  assert.deepEqual([...(await runner.run(built, rows)).ids], plainWindowed(rows, rules, 60).order);
});

test("a rule that is none is refused", () => {
  for (const bad of [
    { window: 0, max: 1 },
    { window: 3, max: 0 },
    { window: NaN, max: 1 },
  ]) {
    assert.throws(() => windowed({ by: "author", ...bad }), { code: "invalid" });
  }
});

test("selects in a row narrow the batch, each in its own order", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  const rows: Row[] = Array.from({ length: 30 }, (_, i) => ({ score: i, author: 0, topic: "a" }));
  const built = pipeline<Row[]>("p").recall(attributes(rows)).select(10, topK("first")).select(3, topK("second")).build();
  assert.deepEqual([...(await runner.run(built, rows)).ids], [29, 28, 27]);
});
