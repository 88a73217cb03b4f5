// Guards: an item's new vector is found by the next query after its sample was learned; an item that went is found no more; the sweep reaches every item.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { createTopK } from "#kernel/dot-top-k";
import type { LiveModel } from "#models/live-model";
import { smallModel, smallModelFactors as factors } from "#models/small-model.fuzz";
import { ItemVectors } from "./item-vectors.ts";

const seed = Number(process.env["SEED"] ?? 3);

/** Own key (field 7), category (field 8), and one linear slot. */
function addItem(rows: SlotRows, item: number): void {
  rows.addFull(item, 7, 1);
  rows.addFull(item % 10, 8, 1);
  rows.addLinear(1, 9, 0.5);
}

function put(model: LiveModel, item: number, available = true): void {
  const rows = new SlotRows();
  addItem(rows, item);
  rows.endRow();
  assert.ok(model.items.put(item, rows, 0, available));
}

function sample(item: number, user: number): SlotRows {
  const rows = new SlotRows();
  rows.addFull(user, 1, 1);
  rows.addLinear(0, 0, 1);
  addItem(rows, item);
  rows.endRow();
  return rows;
}

function learn(model: LiveModel, rows: SlotRows, label: number): void {
  const fill = (value: number): Float32Array => new Float32Array(rows.rows).fill(value);
  model.machine.learn(rows, fill(label), fill(1), fill(0), fill(0));
}

function userRow(user: number): SlotRows {
  const rows = new SlotRows();
  rows.addFull(user, 1, 1);
  rows.addLinear(0, 0, 1);
  rows.endRow();
  return rows;
}

/** Items by the user's logit, best first. */
function nearest(model: LiveModel, user: number, k: number): { items: number[]; logits: number[] } {
  const query = new Float32Array(model.machine.vectorDims);
  const own = model.machine.query(userRow(user), query);
  const found = model.vectors.search("dot", query.subarray(0, factors + 1), createTopK(k));
  return { items: [...found.rows.subarray(0, found.size)], logits: [...found.scores.subarray(0, found.size)].map((score) => score + own) };
}

/** The model's logit of the joined row. */
function logitOf(model: LiveModel, user: number, item: number): number {
  const logits = new Float32Array(1);
  model.machine.evaluate(sample(item, user), logits);
  return logits[0]!;
}

test("promise: what a sample taught about an item is found by the next query, with the model's own logit", () => {
  const model = smallModel(2_000);
  const vectors = new ItemVectors(model);
  for (let item = 0; item < 500; item++) put(model, item);
  assert.equal(vectors.followChanges(), 500);
  const taught = nearest(model, 42, 1).items[0] === 77 ? 78 : 77;
  let steps = 0;
  for (; nearest(model, 42, 1).items[0] !== taught; steps++) {
    assert.ok(steps < 60, "a taught item becomes the nearest");
    const rows = sample(taught, 42);
    learn(model, rows, 1);
    assert.equal(vectors.learned(rows), 1);
    const { items, logits } = nearest(model, 42, 500);
    const at = items.indexOf(taught);
    assert.ok(Math.abs(logits[at]! - logitOf(model, 42, taught)) < 1e-4, "the vector is that of the parameters as they are now");
  }
  assert.ok(steps > 0);
});

test("items that come, go and come back are followed in order, and the key of one leads to it", () => {
  const model = smallModel(2_000);
  const vectors = new ItemVectors(model);
  put(model, 3);
  put(model, 4, false);
  assert.equal(vectors.followChanges(), 2);
  assert.deepEqual(nearest(model, 1, 10).items, [3]);
  assert.equal(vectors.handleOf(3, 7), 3);
  model.items.setAvailable(3, false);
  model.items.setAvailable(4, true);
  vectors.followChanges();
  assert.deepEqual(nearest(model, 1, 10).items, [4]);
  assert.equal(vectors.handleOf(5, 7), undefined);
  // A sample of an item that went does not bring it back.
  const rows = sample(3, 1);
  learn(model, rows, 1);
  assert.equal(vectors.learned(rows), 1);
  assert.deepEqual(nearest(model, 1, 10).items, [4]);
  assert.equal(vectors.learned(sample(900, 1)), 0);
  assert.equal(vectors.unknown, 1);
  // A change that came after the last look is followed before the sample.
  put(model, 900);
  assert.equal(vectors.learned(sample(900, 1)), 1);
});

test("the sweep reaches every item in rounds, also after parameters that they share have moved", () => {
  const model = smallModel(2_000);
  for (let item = 0; item < 1_000; item++) put(model, item, item % 3 !== 0);
  const vectors = new ItemVectors(model);
  assert.equal(vectors.sweep(300), 300);
  assert.equal(vectors.rounds, 0);
  while (vectors.rounds === 0) vectors.sweep(300);
  assert.deepEqual(
    nearest(model, 5, 2_000).items.sort((a, b) => a - b),
    Array.from({ length: 1_000 }, (_, item) => item).filter((item) => item % 3 !== 0),
  );
  // Category 4 moves by samples of one item.
  const rows = new SlotRows();
  for (let i = 0; i < 50; i++) {
    rows.copyRow(sample(4, 5), 0);
    rows.endRow();
  }
  learn(model, rows, 1);
  const stale = (): number => {
    const { items, logits } = nearest(model, 5, 2_000);
    return items.filter((item, at) => Math.abs(logits[at]! - logitOf(model, 5, item)) > 1e-3).length;
  };
  assert.ok(stale() > 50);
  vectors.startOver();
  const before = vectors.rounds;
  while (vectors.rounds === before) vectors.sweep(128);
  assert.equal(stale(), 0);
});

test("more changes than are remembered: all rows are looked at", () => {
  const model = smallModel(10);
  const vectors = new ItemVectors(model);
  for (let item = 0; item < 10; item++) put(model, item);
  for (let change = 0; change < 70_000; change++) model.items.setAvailable(0, change % 2 === 0);
  model.items.setAvailable(0, false);
  assert.equal(vectors.followChanges(), 0);
  vectors.sweep(100);
  assert.deepEqual(
    nearest(model, 1, 20).items.sort((a, b) => a - b),
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  model.items.setAvailable(0, true);
  assert.equal(vectors.followChanges(), 1);
});

test("a random history of documents and samples leaves the vectors of exactly the available items", () => {
  console.log(`seed ${seed}`);
  const random = new Prng(seed);
  const model = smallModel(2_000);
  const vectors = new ItemVectors(model);
  const available = new Set<number>();
  for (let step = 0; step < 3_000; step++) {
    const item = random.below(1_200);
    if (random.chance(0.4)) {
      const shown = random.chance(0.7);
      put(model, item, shown);
      if (shown) available.add(item);
      else available.delete(item);
    } else if (random.chance(0.5)) {
      const rows = sample(item, random.below(20));
      learn(model, rows, random.below(2));
      vectors.learned(rows);
    } else vectors.sweep(random.below(400));
    if (step % 200 !== 0) continue;
    vectors.followChanges();
    assert.deepEqual(
      nearest(model, 1, 2_000).items.sort((a, b) => a - b),
      [...available].sort((a, b) => a - b),
    );
  }
});
