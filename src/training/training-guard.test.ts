// The guard stops a broken stream and lets a changed one pass.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import { Prng } from "#base/prng";
import { logLossOf, sigmoid } from "./quality-stretch.ts";
import { guardDefaults, TrainingGuard } from "./training-guard.ts";

/** Samples until the guard trips, at most `count`. `truth` turns the logit into the true one. */
function feed(guard: TrainingGuard, prng: Prng, count: number, truth: (logit: number) => number): number {
  for (let i = 0; i < count; i += 1) {
    const logit = prng.normal(-3, 1);
    const positive = prng.chance(sigmoid(truth(logit)));
    if (guard.add(logit, logLossOf(logit, positive), positive ? 1 : 10)) return i;
  }
  return count;
}

test("promise: a broken stream stops training within the short mean's samples; a doubled click rate does not", (t) => {
  const prng = new Prng("guard");
  const guard = new TrainingGuard();
  assert.equal(
    feed(guard, prng, 50_000, (logit) => logit),
    50_000,
  );
  assert.ok(guard.calm);
  // A breaking event: twice as many clicks as predicted.
  assert.equal(
    feed(guard, prng, 50_000, (logit) => logit + Math.log(2)),
    50_000,
    guard.reason,
  );
  const tripped = feed(guard, prng, 50_000, (logit) => -logit);
  assert.ok(tripped < 2 * guardDefaults.shortSamples, `after ${tripped} samples`);
  assert.match(guard.reason, /log loss/);
  assert.equal(guard.calm, false);
  t.diagnostic(`labels turned round: stopped after ${tripped} samples: ${guard.reason}`);
  guard.reset();
  assert.equal(guard.reason, "");
});

test("a prediction that is no number stops at once, also before enough samples were seen", () => {
  for (const logit of [NaN, Infinity, -Infinity]) {
    const guard = new TrainingGuard();
    assert.equal(guard.add(0, 0.7, 1), false);
    assert.equal(guard.add(logit, NaN, 1), true);
    assert.match(guard.reason, /no number/);
    assert.equal(guard.add(0, 0.7, 1), true, "it stays tripped");
  }
});

test("a restored guard trips at the same sample", () => {
  const run = (cutAt: number): number => {
    const prng = new Prng("cut");
    let guard = new TrainingGuard();
    feed(guard, prng, cutAt, (logit) => logit);
    if (cutAt < 20_000) {
      const out = new ByteWriter();
      guard.save(out);
      guard = new TrainingGuard();
      guard.load(new ByteReader(out.since(0), "guard", ""));
      feed(guard, prng, 20_000 - cutAt, (logit) => logit);
    }
    return feed(guard, prng, 20_000, (logit) => -logit);
  };
  const whole = run(20_000);
  assert.ok(whole < 20_000);
  assert.equal(run(7_777), whole);
});
