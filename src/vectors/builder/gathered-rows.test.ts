// Guards what a build believes of its rows: equal ids once, refused rows counted, statistics as a naive reckoning has them, and a bound that holds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { GatheredRows } from "./gathered-rows.ts";
import { rowsInMemory } from "./row-source.ts";

const mebibyte = 2 ** 20;

test("random batches with repeated ids equal a Map, row for row", () => {
  const seed = Number(process.env["SEED"] ?? 1);
  const random = new Prng(seed);
  const dims = 7;
  const rows = new GatheredRows(dims, "ip", { bytesMax: 64 * mebibyte, rowsAbout: 10 });
  const naive = new Map<string, { vector: number[]; attributes: string | undefined }>();
  let replaced = 0;
  for (let batch = 0; batch < 60; batch++) {
    const ids = Array.from({ length: 1 + random.below(900) }, () => `${random.pick(["item-", "käse/", "x".repeat(100)])}${random.below(20_000)}`);
    const vectors = Float32Array.from({ length: ids.length * dims }, () => random.normal());
    const attributes = ids.map((id) => (random.chance(0.3) ? JSON.stringify({ id }) : undefined));
    rows.add({ ids, vectors, attributes });
    ids.forEach((id, i) => {
      if (naive.has(id)) replaced++;
      naive.set(id, { vector: [...vectors.subarray(i * dims, (i + 1) * dims)], attributes: attributes[i] });
    });
  }
  assert.equal(rows.count, naive.size, `seed ${seed}`);
  assert.equal(rows.replaced, replaced);
  const offsets = rows.ids.offsets;
  [...naive].forEach(([id, { vector, attributes }], row) => {
    assert.equal(rows.idOf(row), id);
    assert.deepEqual([...rows.vectors.subarray(row * dims, (row + 1) * dims)], vector);
    assert.equal(rows.attributes?.[row], attributes);
    assert.ok(offsets[row + 1]! > offsets[row]!);
  });
  const norms = [...naive.values()].map(({ vector }) => Math.hypot(...vector));
  const mean = norms.reduce((sum, norm) => sum + norm, 0) / norms.length;
  assert.ok(Math.abs(rows.norms().mean - mean) < 1e-5 && Math.abs(rows.norms().max - Math.max(...norms)) < 1e-5);
});

test("a bad row is refused and counted, the others stay", () => {
  const rows = new GatheredRows(2, "cosine", { bytesMax: mebibyte });
  rows.add({
    ids: ["good", "", "nan", "infinite", "zero", "long".repeat(300), "huge"],
    vectors: Float32Array.of(1, 2, 1, 2, Number.NaN, 1, 1, Infinity, 0, 0, 1, 1, 1, 1),
    attributes: [undefined, undefined, undefined, undefined, undefined, undefined, "x".repeat(20_000)],
  });
  assert.equal(rows.count, 1);
  assert.equal(rows.refused, 6);
  assert.equal(rows.idOf(0), "good");
  assert.equal(rows.attributes, undefined);
});

test("more than the allowed memory is refused with what to do, and so is a batch that is none", () => {
  const rows = new GatheredRows(64, "ip", { bytesMax: 2 * mebibyte });
  const batch = (from: number): { ids: string[]; vectors: Float32Array } => ({
    ids: Array.from({ length: 1_000 }, (_, i) => `row-${from + i}`),
    vectors: new Float32Array(64_000).fill(1),
  });
  assert.throws(
    () => {
      for (let from = 0; from < 100_000; from += 1_000) rows.add(batch(from));
    },
    { code: "overloaded", message: /memoryMb/ },
  );
  assert.throws(() => rows.add({ ids: ["a"], vectors: new Float32Array(3) }), { code: "invalid" });
  assert.throws(() => rowsInMemory({ ids: ["a"], vectors: new Float32Array(3), dims: 4 }), { code: "invalid" });
});
