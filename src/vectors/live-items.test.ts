// Guards collections over live vectors: they find what a sort finds, by vectors as they are at the moment of the search, in pieces that leave the loop, and say what they cannot.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { KernelMemory } from "#kernel/kernel-memory";
import { systemClock } from "#platform/system-clock";
import { liveItems, workedOutVectors } from "./live-items.ts";
import { LiveVectors } from "./live-vectors.ts";
import type { ShownCollection } from "./served-collections.ts";

const seed = Number(process.env["SEED"] ?? 1);
const shape = { rowsMax: 3_000, dims: 5, cosineDims: 4 };

function open(rows: number): { vectors: LiveVectors; cosine: ShownCollection; dot: ShownCollection; values: Float32Array[] } {
  const memory = KernelMemory.create({ dataBytes: LiveVectors.bytesFor(shape), lanes: 1, laneBytes: 1 << 20 });
  const vectors = LiveVectors.create(memory, shape);
  const prng = new Prng(seed);
  const values = Array.from({ length: rows }, () => Float32Array.from({ length: shape.dims }, () => prng.float() - 0.5));
  for (const [row, value] of values.entries()) vectors.write(row, value);
  const parts = {
    vectors,
    clock: systemClock,
    random: prng,
    elementAt: (row: number) => `i${row}`,
    rowOf: (element: string) => (/^i\d+$/.test(element) ? Number(element.slice(1)) : undefined),
  };
  return { vectors, values, cosine: liveItems("items", "cosine", parts), dot: liveItems("scores", "dot", parts) };
}

const product = (a: Float32Array, b: Float32Array, n: number): number => a.subarray(0, n).reduce((sum, one, i) => sum + one * b[i]!, 0);

test(`promise: exact by cosine and by product, and a row that moved is found where it is now, seed ${seed}`, async () => {
  const { vectors, values, cosine, dot } = open(2_000);
  assert.deepEqual(
    [cosine.shape, dot.shape],
    [
      { dims: 4, metric: "cosine" },
      { dims: 5, metric: "ip" },
    ],
  );
  const best = (score: (row: number) => number, k: number): string[] =>
    [...values.keys()]
      .sort((a, b) => score(b) - score(a))
      .slice(0, k)
      .map((row) => `i${row}`);
  const query = Float32Array.of(0.3, -0.2, 0.1, 0.4, 1);
  const byProduct = await dot.search({ collection: "scores", queries: query, count: 10 });
  assert.deepEqual(
    byProduct.elements,
    best((row) => product(query, values[row]!, 5), 10),
  );
  const cosineTo = (to: Float32Array) => (row: number) => product(to, values[row]!, 4) / Math.sqrt(product(to, to, 4) * product(values[row]!, values[row]!, 4));
  const byElement = await cosine.search({ collection: "items", queries: { element: "i7" }, count: 5 });
  assert.deepEqual(byElement.elements, best(cosineTo(values[7]!), 5));
  assert.equal(byElement.elements[0], "i7");
  const both = await cosine.search({ collection: "items", queries: Float32Array.of(...values[3]!.subarray(0, 4), ...values[4]!.subarray(0, 4)), count: 2 });
  assert.deepEqual([both.from, both.elements[0], both.elements[2]], [Uint32Array.of(0, 2, 4), "i3", "i4"]);
  // Moves, and is hidden.
  vectors.write(9, Float32Array.of(...values[7]!.subarray(0, 4), 0));
  assert.ok((await cosine.search({ collection: "items", queries: { element: "i7" }, count: 2 })).elements.includes("i9"));
  vectors.hide(9);
  assert.ok(!(await cosine.search({ collection: "items", queries: { element: "i7" }, count: 2 })).elements.includes("i9"));
  await assert.rejects(cosine.search({ collection: "items", queries: { element: "i9" }, count: 2 }), { code: "not-found" });
});

test("vectors are read as a cosine collection has them, and as they are", () => {
  const { values, cosine, dot } = open(10);
  const { found, vectors, norms } = cosine.get(["i2", "none", "i99"]);
  assert.deepEqual([...found], [1, 0, 0]);
  const norm = Math.sqrt(product(values[2]!, values[2]!, 4));
  assert.ok(Math.abs(norms[0]! - norm) < 1e-6 && Math.abs(vectors[0]! - values[2]![0]! / norm) < 1e-6);
  assert.deepEqual([...dot.get(["i2"]).vectors], [...values[2]!]);
  assert.equal(cosine.count(), 10);
  assert.deepEqual(
    [...cosine.random(20)].sort(),
    Array.from({ length: 10 }, (_, i) => `i${i}`),
  );
  assert.equal(new Set(cosine.random(4)).size, 4);
  assert.equal(cosine.random(-30).length, 30);
  assert.equal(open(0).cosine.random(3).length, 0);
});

test("what they cannot is said", async () => {
  const { cosine } = open(10);
  const ask = (more: object): Promise<unknown> => cosine.search({ collection: "items", queries: new Float32Array(4).fill(1), count: 3, ...more });
  assert.equal(((await ask({})) as { elements: string[] }).elements.length, 3);
  await assert.rejects(ask({ version: "v" }), { code: "not-found" });
  await assert.rejects(ask({ filter: ".x" }), { code: "unsupported" });
  await assert.rejects(ask({ queries: new Float32Array(5) }), { code: "invalid" });
  await assert.rejects(ask({ count: 0 }), { code: "invalid" });
  const users = workedOutVectors("users", 2, (user) => (user === "ann" ? Float32Array.of(1, 2) : undefined));
  assert.deepEqual(
    [[...users.get(["ann", "bob"]).found], [...users.get(["ann"]).vectors]],
    [
      [1, 0],
      [1, 2],
    ],
  );
  await assert.rejects(users.search({ collection: "users", queries: { element: "ann" }, count: 1 }), { code: "unsupported" });
});
