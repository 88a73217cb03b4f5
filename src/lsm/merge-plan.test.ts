// The plan of merges: single decisions, then what thousands of flushes cost in runs and in bytes written.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { mergePlanLimits, type PlannedRun, planMerge } from "./merge-plan.ts";

const run = (level: number, bytes: number, tombstones = 0): PlannedRun => ({ level, bytes, entries: Math.max(1, Math.floor(bytes / 100)), tombstones });

test("few small runs are left alone, four of a level become one of the next", () => {
  assert.equal(planMerge([], false), undefined);
  assert.equal(planMerge([run(0, 10)], true), undefined);
  assert.equal(planMerge([run(0, 10), run(0, 10), run(0, 10)], false), undefined);
  assert.deepEqual(planMerge([run(0, 10), run(0, 10), run(0, 10), run(0, 10), run(3, 10_000)], false), { first: 0, last: 3, level: 1 });
  assert.deepEqual(planMerge([run(0, 10), run(1, 40), run(1, 40), run(1, 40), run(1, 40), run(3, 10_000)], false), { first: 1, last: 4, level: 2 });
});

test("a merge that would fill the next level takes that along", () => {
  const runs = [run(0, 10), run(0, 10), run(0, 10), run(0, 10), run(1, 40), run(1, 40), run(1, 40), run(4, 100_000)];
  assert.deepEqual(planMerge(runs, false), { first: 0, last: 6, level: 2 });
});

test("all become one when the newer ones are as large as the oldest, or hide as much", () => {
  assert.deepEqual(planMerge([run(0, 60), run(1, 50), run(2, 100)], false), { first: 0, last: 2, level: 2 });
  assert.deepEqual(planMerge([run(0, 30, 100), run(2, 10_000)], false), { first: 0, last: 1, level: 2 });
  assert.equal(planMerge([run(0, 30, 5), run(2, 10_000)], false), undefined);
});

test("an idle store has at most two runs in the end", () => {
  const runs = [run(0, 10), run(0, 10), run(1, 40), run(3, 10_000)];
  assert.deepEqual(planMerge(runs, true), { first: 0, last: 2, level: 1 });
  assert.equal(planMerge([run(1, 60), run(3, 10_000)], true), undefined);
});

test("promise: whatever is flushed, runs stay few, and each byte is written a few times", () => {
  const seed = Number(process.env["SEED"] ?? 1);
  const random = new Prng(seed);
  for (const overwritten of [false, true]) {
    let runs: PlannedRun[] = [];
    let flushed = 0;
    let written = 0;
    let most = 0;
    for (let step = 0; step < 2_000; step++) {
      const bytes = random.between(500, 1_000);
      runs = [run(0, bytes), ...runs];
      flushed += bytes;
      written += bytes;
      for (;;) {
        const plan = planMerge(runs, false);
        if (plan === undefined) break;
        assert.ok(plan.first < plan.last && plan.last < runs.length);
        const sum = runs.slice(plan.first, plan.last + 1).reduce((total, one) => total + one.bytes, 0);
        // Where keys are overwritten a merge holds each once: 20,000 bytes of them.
        const merged = overwritten ? Math.min(sum, 20_000) : sum;
        written += merged;
        runs.splice(plan.first, plan.last - plan.first + 1, run(plan.level, merged));
      }
      most = Math.max(most, runs.length);
    }
    const bound = (mergePlanLimits.runsPerLevelMax - 1) * 6 + 1;
    assert.ok(most <= bound, `${most} runs, seed ${seed}`);
    assert.ok(written / flushed < (overwritten ? 5 : 8), `${written / flushed} times, seed ${seed}`);
    if (overwritten) assert.ok(runs.reduce((total, one) => total + one.bytes, 0) <= 3 * 20_000, "overtaken bytes stay within twice the live ones");
  }
});
