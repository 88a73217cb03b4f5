// What every scorer promises: the answers of a naive computation, deadlines, refusals. See scorer.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import type { LiveModel } from "#models/live-model";
import { smallModel, smallModelFactors as factors } from "#models/small-model.fuzz";
import { type Scorer, scorerLimits } from "./scorer.ts";

const seed = Number(process.env["SEED"] ?? 17);

/** A model of `itemsMax` items with some trained parameters; its vectors are written by the test. */
export function createModel(itemsMax: number): LiveModel {
  const model = smallModel(itemsMax, { seed: 21n });
  const random = new Prng(1);
  const samples = randomRows(random, 500, 8);
  const labels = Float32Array.from({ length: 500 }, () => random.below(2));
  model.machine.learn(samples, labels, new Float32Array(500).fill(1), new Float32Array(500), new Float32Array(500));
  return model;
}

/** Rows of up to `slotsMax` linear and full slots each, keys without repetition. */
export function randomRows(random: Prng, rows: number, slotsMax: number): SlotRows {
  const made = new SlotRows();
  for (let row = 0; row < rows; row++) {
    for (let slot = random.below(slotsMax + 1); slot > 0; slot--) {
      if (random.chance(0.3)) made.addLinear(random.below(100), slot, random.normal());
      else made.addFull(random.below(100), slot, random.normal());
    }
    made.endRow();
  }
  return made;
}

/** The logit of each item by the machine itself, over joined rows, one by one. */
export function naiveLogits(model: LiveModel, user: SlotRows, items: SlotRows): Float32Array {
  const logits = new Float32Array(items.rows);
  for (let row = 0; row < items.rows; row++) {
    const joined = new SlotRows();
    joined.copyRow(user, 0);
    joined.copyRow(items, row);
    joined.endRow();
    model.machine.evaluate(joined, logits.subarray(row, row + 1));
  }
  return logits;
}

/** Sets the vectors of items 0..count-1 from random slots, every fifth hidden; returns the slots and what is visible. */
export function writeVectors(model: LiveModel, count: number, random: Prng): { items: SlotRows; visible: number[] } {
  // Keys apart from those of users.
  const items = new SlotRows();
  for (let row = 0; row < count; row++) {
    for (let slot = 1; slot <= 4; slot++) items.addFull(1_000 + random.below(100), 20 + slot, random.normal());
    items.addLinear(1_000 + row, 19, random.normal());
    items.endRow();
  }
  const { vectorDims } = model.machine;
  const rows = new Float32Array(count * vectorDims);
  model.machine.vectors(items, rows);
  const visible: number[] = [];
  for (let item = 0; item < count; item++) {
    model.vectors.write(item, rows, item * vectorDims);
    if (item % 5 === 4) model.vectors.hide(item);
    else visible.push(item);
  }
  return { items, visible };
}

function byScore(items: readonly number[], score: (item: number) => number, k: number): [number, number][] {
  return items
    .map((item): [number, number] => [item, score(item)])
    .sort((a, b) => b[1] - a[1])
    .slice(0, k);
}

function assertClose(actual: ArrayLike<number>, wanted: ArrayLike<number>, what: string): void {
  assert.equal(actual.length, wanted.length, what);
  for (let i = 0; i < wanted.length; i++)
    assert.ok(Math.abs(actual[i]! - wanted[i]!) < 2e-3 * (1 + Math.abs(wanted[i]!)), `${what} ${i}: ${actual[i]} for ${wanted[i]}`);
}

/** `open` makes a scorer that is ready; it is closed by the suite. */
export function scorerContract(name: string, open: (model: LiveModel) => Promise<Scorer>): void {
  const withScorer = async (itemsMax: number, body: (model: LiveModel, scorer: Scorer, random: Prng) => Promise<void>): Promise<void> => {
    console.log(`seed ${seed}`);
    const model = createModel(itemsMax);
    const scorer = await open(model);
    try {
      await body(model, scorer, new Prng(seed));
    } finally {
      await scorer.close();
    }
  };

  test(`${name}: logits are those of the machine, for any number of candidates, several callers at once`, async () => {
    await withScorer(10, async (model, scorer, random) => {
      const cases = [0, 1, 2, 255, 256, 257, 700].map((rows) => ({
        user: randomRows(random, 1, 8),
        items: randomRows(random, rows, 6),
        logits: new Float32Array(rows + 1).fill(7),
      }));
      const calls = cases.map(({ user, items, logits }) => scorer.score(user, items, logits, 20_000));
      await Promise.all(calls);
      for (const { user, items, logits } of cases) {
        assertClose(logits.subarray(0, items.rows), naiveLogits(model, user, items), `logits of ${items.rows}`);
        assert.equal(logits[items.rows], 7, "nothing is written beyond the candidates");
      }
      assert.equal(scorer.metrics.requests.score, cases.length);
      assert.equal(scorer.metrics.roundTripUs.count, cases.length);
      assert.equal(scorer.metrics.rows.max, 700);
    });
  });

  test(`${name}: a caller may use its slots again as soon as the call returned`, async () => {
    await withScorer(10, async (model, scorer, random) => {
      const user = randomRows(random, 1, 8);
      const items = randomRows(random, 50, 6);
      const wanted = naiveLogits(model, user, items);
      const logits = new Float32Array(50);
      const call = scorer.score(user, items, logits, 20_000);
      items.keys.fill(0);
      items.weights.fill(0);
      user.keys.fill(0);
      await call;
      assertClose(logits, wanted, "logits");
    });
  });

  test(`${name}: search gives the items of the largest logits, similar those of the largest cosines, hidden ones never`, async () => {
    await withScorer(2_000, async (model, scorer, random) => {
      const { items, visible } = writeVectors(model, 1_500, random);
      const user = randomRows(random, 1, 8);
      const logits = naiveLogits(model, user, items);
      for (const k of [1, 10, 1_000]) {
        const found = new Uint32Array(k);
        const scores = new Float32Array(k);
        assert.equal(await scorer.search(user, k, found, scores, 20_000), k);
        const wanted = byScore(visible, (item) => logits[item]!, k);
        assertClose(
          scores,
          wanted.map(([, score]) => score),
          `best ${k}`,
        );
        found.forEach((item, at) => assert.ok(visible.includes(item) && Math.abs(logits[item]! - scores[at]!) < 2e-3 * (1 + Math.abs(scores[at]!))));
        assert.equal(new Set(found).size, k);
      }
      const rows = new Float32Array(1_500 * model.machine.vectorDims);
      model.machine.vectors(items, rows);
      const vector = (item: number): Float32Array => rows.subarray(item * model.machine.vectorDims, item * model.machine.vectorDims + factors);
      const cosine = (a: Float32Array, b: Float32Array): number => {
        const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
        return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
      };
      const near = new Uint32Array(20);
      const cosines = new Float32Array(20);
      assert.equal(await scorer.similar(7, 20, near, cosines, 20_000), 20);
      const others = visible.filter((item) => item !== 7);
      assertClose(
        cosines,
        byScore(others, (item) => cosine(vector(7), vector(item)), 20).map(([, score]) => score),
        "cosines",
      );
      near.forEach((item) => assert.ok(others.includes(item)));
      // Hidden, never written, beyond all rows.
      for (const item of [4, 1_700, 4_000_000_000]) assert.equal(await scorer.similar(item, 5, near, cosines, 20_000), 0);
    });
  });

  test(`${name}: an item's new vector is found by the next query, one that was hidden is not`, async () => {
    await withScorer(100, async (model, scorer) => {
      const user = randomRows(new Prng(4), 1, 8);
      const row = new Float32Array(factors + 1);
      const found = new Uint32Array(3);
      const scores = new Float32Array(3);
      for (let item = 0; item < 30; item++) {
        row[factors] = item;
        model.vectors.write(item, row);
        assert.equal(await scorer.search(user, 3, found, scores, 20_000), Math.min(3, item + 1));
        assert.equal(found[0], item);
      }
      model.vectors.hide(29);
      row[factors] = 100;
      model.vectors.write(5, row);
      await scorer.search(user, 3, found, scores, 20_000);
      assert.deepEqual([...found], [5, 28, 27]);
    });
  });

  test(`${name}: what cannot be asked is invalid, a deadline that has passed is a timeout, and after close all is unavailable`, async () => {
    await withScorer(10, async (model, scorer, random) => {
      const one = randomRows(random, 1, 4);
      const two = randomRows(random, 2, 4);
      const found = new Uint32Array(scorerLimits.answersMax + 1);
      const scores = new Float32Array(scorerLimits.answersMax + 1);
      const many = new SlotRows();
      for (let row = 0; row <= scorerLimits.rowsMax; row++) many.endRow();
      await assert.rejects(scorer.score(two, one, scores, 100), { code: "invalid" });
      await assert.rejects(scorer.score(one, two, new Float32Array(1), 100), { code: "invalid" });
      await assert.rejects(scorer.score(one, many, new Float32Array(many.rows), 100), { code: "invalid" });
      await assert.rejects(scorer.search(one, 0, found, scores, 100), { code: "invalid" });
      await assert.rejects(scorer.search(one, scorerLimits.answersMax + 1, found, scores, 100), { code: "invalid" });
      await assert.rejects(scorer.similar(1, 5, new Uint32Array(4), scores, 100), { code: "invalid" });
      for (const deadlineMs of [0, -1, NaN]) await assert.rejects(scorer.score(one, two, scores, deadlineMs), { code: "timeout" });
      assert.equal(scorer.metrics.timeouts, 3);
      assert.equal(await scorer.search(one, 5, found, scores, 20_000), 0, "no vectors, no answers");
      assert.equal(model.vectors.rowCount, 0);
      await scorer.close();
      await assert.rejects(scorer.score(one, two, scores, 100), { code: "unavailable" });
      await assert.rejects(scorer.similar(1, 5, found, scores, 100), { code: "unavailable" });
      assert.equal(scorer.metrics.ready, false);
    });
  });
}
