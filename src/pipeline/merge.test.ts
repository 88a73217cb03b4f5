// Merging against a Map, and what quotas and the batch limit cut.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { freshSeed } from "#platform/fresh-seed";
import { systemClock } from "#platform/system-clock";
import { Runner, filter, hydrate, pipeline, source } from "./index.ts";

const seed = freshSeed();
console.log(`merge.test seed ${seed}`);

interface Brought {
  readonly id: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly t: string;
}
const anyBrought = fc.array(
  fc.record({
    id: fc.oneof(fc.nat(30), fc.constantFrom(0xffffffff, 0x80000000)),
    a: fc.integer({ min: -9, max: 9 }),
    b: fc.integer({ min: -9, max: 9 }),
    c: fc.nat(9),
    t: fc.constantFrom("x", "y", "z"),
  }),
  { maxLength: 40 },
);

const writes = {
  a: { type: "f32", default: -100, merge: "max" },
  b: { type: "f64", default: 50, merge: "sum" },
  c: { type: "u8", default: 7, merge: "first" },
  t: { type: "str", default: "none" },
} as const;
type Name = keyof typeof writes;

/** A source of the given rows that declares some of the columns, emitting in pieces of `piece` rows. */
function bringing(name: string, rows: readonly Brought[], names: readonly Name[], piece: number) {
  const declared = Object.fromEntries(names.map((n) => [n, writes[n]])) as Partial<typeof writes> as typeof writes;
  return source<null>()(name, declared, (_ctx, emit) => {
    for (let from = 0; from < rows.length; from += piece) {
      const part = rows.slice(from, from + piece);
      const out = emit(part.length);
      part.forEach((row, i) => {
        out.id[i] = row.id;
        for (const n of names) (out[n] as (string | number)[])[i] = row[n];
      });
    }
  });
}

test("promise: the same id from several sources is one row, merged by each column's rule", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  const declared: Name[][] = [["a", "b", "t"], ["a", "c"], ["b", "c", "t"], []];
  const names = ["s0", "s1", "s2", "s3"];
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(anyBrought, anyBrought, anyBrought, anyBrought),
      fc.integer({ min: 1, max: 50 }),
      fc.boolean(),
      async (all, piece, twoRecalls) => {
        const sources = all.map((rows, s) => bringing(names[s]!, rows, declared[s]!, piece));
        const flow = pipeline<null>("p");
        const built = (twoRecalls ? flow.recall(sources.slice(0, 2)).recall(sources.slice(2)) : flow.recall(sources)).build();
        const result = await runner.run(built, null);

        const expected = new Map<number, { by: Set<number>; values: Partial<Record<Name, string | number>> }>();
        all.forEach((rows, s) => {
          for (const row of rows) {
            const known = expected.get(row.id) ?? { by: new Set(), values: {} };
            for (const n of declared[s]!) {
              const old = known.values[n];
              const { merge } = { merge: "first", ...writes[n] } as { merge: string };
              if (old === undefined) known.values[n] = row[n];
              else if (merge === "sum") known.values[n] = (old as number) + (row[n] as number);
              else if (merge === "max") known.values[n] = Math.max(old as number, row[n] as number);
            }
            known.by.add(s);
            expected.set(row.id, known);
          }
        });
        assert.deepEqual([...result.ids], [...expected.keys()]);
        [...expected.values()].forEach(({ by, values }, row) => {
          for (const n of Object.keys(writes) as Name[]) assert.equal(result.col(n)[row], values[n] ?? writes[n].default, `${n} of row ${row}`);
          assert.deepEqual(
            result.sourcesOf(row),
            [...by].sort().map((s) => names[s]),
          );
          assert.equal(
            result.col("sources")[row],
            [...by].reduce((bits, s) => bits | (1 << s), 0),
          );
        });
      },
    ),
    { seed, numRuns: 200 },
  );
});

const many = (name: string, from: number, count: number) =>
  source<null>()(name, {}, (_ctx, emit) => {
    const { id } = emit(count);
    for (let i = 0; i < count; i++) id[i] = from + i;
  });

test("quotas and the batch limit cut the last rows, and the trace counts them", async () => {
  const runner = new Runner({ clock: systemClock, strict: true, limits: { candidatesMax: 25 } });
  const built = pipeline<null>("p")
    .recall([many("a", 0, 30), many("b", 5, 30), many("none", 0, 0)], { quota: { a: 10, b: 20, none: 5 } })
    .build();
  const result = await runner.run(built, null, { explain: true });
  assert.deepEqual(
    [...result.ids],
    Array.from({ length: 25 }, (_, i) => i),
  );
  assert.deepEqual(
    result.trace.map(({ step, rowsIn, rowsOut, quota, cut }) => ({ step, rowsIn, rowsOut, quota, cut })),
    [
      { step: "a", rowsIn: 30, rowsOut: 10, quota: 10, cut: undefined },
      { step: "b", rowsIn: 30, rowsOut: 20, quota: 20, cut: undefined },
      { step: "none", rowsIn: 0, rowsOut: 0, quota: 5, cut: undefined },
      { step: "merge 1", rowsIn: 30, rowsOut: 25, quota: undefined, cut: 0 },
    ],
  );
  assert.equal(result.why(25)?.text, "not recalled: beyond the quota of b");
  const wide = await new Runner({ clock: systemClock, limits: { candidatesMax: 12 } }).run(built, null, { explain: true });
  assert.deepEqual([wide.n, wide.trace.at(-1)?.cut], [12, 5]);
  assert.equal(wide.why(13)?.text, "not recalled: the batch was full at 12 rows");
  assert.equal(wide.why(17)?.text, "not recalled: beyond the quota of b");
});

test("a source may use fewer rows than it emitted, over several pieces", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  const partial = source<null>()("partial", { t: { type: "str", default: "d" } }, (_ctx, emit) => {
    for (const from of [1, 4]) {
      const out = emit(3);
      for (let i = 0; i < 3; i++) out.id[i] = from + i;
      out.t[0] = `piece ${from}`;
    }
    return 4;
  });
  const result = await runner.run(pipeline<null>("p").recall([partial]).build(), null);
  assert.deepEqual([...result.ids], [1, 2, 3, 4]);
  assert.deepEqual(result.col("t"), ["piece 1", "d", "d", "piece 4"]);
});

test("thousands of rows, twice over: columns of every type survive merging and filters", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  const all = source<null>()("all", { f: "f64" }, (_ctx, emit) => {
    const out = emit(4_000);
    for (let i = 0; i < 4_000; i++) {
      out.id[i] = (i * 7919) % 4_001;
      out.f[i] = out.id[i]! / 3;
    }
  });
  const derived = hydrate<null>()("derived", { f: "f64" }, { u: "u32", b: "u8", s: "str", g: "f32" }, (_ctx, batch, out) => {
    const f = batch.col("f");
    for (let i = 0; i < batch.n; i++) {
      out.u[i] = batch.id[i]!;
      out.b[i] = batch.id[i]! & 255;
      out.s[i] = `#${batch.id[i]}`;
      out.g[i] = f[i]!;
    }
  });
  const third = filter<null>()("third", {}, (_ctx, batch, keep) => {
    for (let i = 0; i < batch.n; i++) keep[i] = batch.id[i]! % 3 === 0 ? 1 : 0;
  });
  const built = pipeline<null>("p")
    .recall([all, many("again", 0, 4_000)])
    .hydrate(derived)
    .filter(third)
    .build();
  for (let round = 0; round < 3; round++) {
    const result = await runner.run(built, null);
    assert.equal(new Set(result.ids).size, result.n);
    assert.equal(result.n, 1334);
    result.ids.forEach((id, row) => {
      assert.equal(id % 3, 0);
      assert.equal(result.col("u")[row], id);
      assert.equal(result.col("b")[row], id & 255);
      assert.equal(result.col("s")[row], `#${id}`);
      assert.equal(result.col("g")[row], Math.fround(result.col("f")[row]!));
    });
  }
});
