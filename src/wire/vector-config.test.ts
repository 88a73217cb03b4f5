// Guards what a configuration of vectors may say, that a refusal names the field, and what holds where nothing is said.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { checkVectors, tuningOf, vectorDefaults, VectorsConfig } from "./vector-config.ts";

test("promise: a section of vectors that cannot be is refused by the name of its field", () => {
  const items = { dims: 64 };
  const good: VectorsConfig = {
    collections: { items, "shop:users": { dims: 8, metric: "ip", recallTarget: 0.95, fold: { tailRows: 10, tailRowsMin: 5 }, keepVersions: 3 } },
    defaults: { recallAt: 10, fold: { everySeconds: 60 } },
    memoryMb: 64,
    cacheMb: 0,
    buildThreads: 2,
  };
  assert.ok(Value.Check(VectorsConfig, good));
  assert.equal(checkVectors(good), good);
  for (const bad of [
    { collections: { items: { dims: 0 } } },
    { buildThreads: 0 },
    { buildThreads: 17 },
    { collections: { items: { dims: 4_097 } } },
    { collections: { items: {} } },
    { collections: { items: { ...items, metric: "hamming" } } },
    { collections: { items: { ...items, recallTarget: 1.01 } } },
    { collections: { items: { ...items, fold: { tail: 1 } } } },
    { collections: { "": items } },
    { collections: { "a\nb": items } },
    { memoryMb: 1 },
    { collection: {} },
  ]) {
    assert.ok(!Value.Check(VectorsConfig, bad), JSON.stringify(bad));
  }
  for (const [bad, field] of [
    [{ collections: { "model:items": items } }, /vectors\.collections\.model:items begins with model:/],
    [
      { collections: { items: { ...items, fold: { tailRows: 5, tailRowsMin: 6 } } } },
      /vectors\.collections\.items\.fold\.tailRowsMin is 6, more than tailRows \(5\)/,
    ],
    [{ defaults: { fold: { tailRowsMin: 100_001 } } }, /vectors\.defaults\.fold\.tailRowsMin/],
  ] as const) {
    assert.throws(() => checkVectors(bad), { code: "invalid", message: field });
  }
});

test("a collection has its own word, else that of defaults, else the default", () => {
  const config: VectorsConfig = {
    collections: { a: { dims: 4, recallTarget: 0.9, fold: { tailRows: 7 } } },
    defaults: { recallTarget: 0.8, fold: { tailRows: 9, deletedShare: 0.5 } },
  };
  assert.equal(tuningOf(config, "a").recallTarget, 0.9);
  assert.deepEqual(tuningOf(config, "a").fold, { ...vectorDefaults.fold, tailRows: 7, deletedShare: 0.5 });
  assert.equal(tuningOf(config, "other").recallTarget, 0.8);
  assert.equal(tuningOf({}, "other").recallTarget, vectorDefaults.recallTarget);
});
