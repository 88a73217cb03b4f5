// Views, tails and their searches against a map with exact search: what is written is found, what is removed is not, scores are true, memory that ends refuses before it changes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { MemoryPool } from "#kernel/memory-pool";
import { freshSeed } from "#platform/fresh-seed";
import { compileFilter } from "../filter/filter.ts";
import type { VectorMetric } from "../vector-service.ts";
import { CollectionView } from "./collection-view.ts";
import { PlainCollection } from "./plain-collection.contract.ts";
import { searchAtOnce } from "./view-search.ts";

const seed = freshSeed();

for (const metric of ["cosine", "ip", "l2"] as const satisfies readonly VectorMetric[]) {
  test(`a tail answers as a map with exact search does, ${metric}, seed ${seed}`, () => {
    const prng = new Prng(`${seed} ${metric}`);
    for (const dims of [1, 7, 64]) {
      const pool = new MemoryPool({ capBytes: 256 << 20 });
      const view = new CollectionView({ shape: { dims, metric }, pool, owner: "test" });
      const plain = new PlainCollection({ dims, metric });
      for (let round = 0; round < 40; round++) {
        for (let writes = 0; writes < 120; writes++) {
          const element = `e${prng.below(1_500)}`;
          const kind = prng.below(10);
          const attributes = prng.chance(0.5) ? undefined : prng.chance(0.2) ? "" : JSON.stringify({ x: prng.below(5) });
          const vector = Float32Array.from({ length: dims }, () => prng.float() - 0.5 + (round > 30 ? 3 : 0));
          if (kind < 7) assert.equal(view.upsert(element, vector, 0, attributes), plain.upsert(element, vector, attributes));
          else if (kind < 9) assert.equal(view.remove(element), plain.remove(element));
          else assert.equal(view.setAttributes(element, attributes ?? ""), plain.setAttributes(element, attributes ?? ""));
        }
        assert.equal(view.elements, plain.size);
        const count = 1 + prng.below(30);
        const queries = Float32Array.from({ length: 3 * dims }, () => prng.float() - 0.5);
        const filter = prng.chance(0.4) ? compileFilter(".x >= 2") : undefined;
        const exact = prng.chance(0.5);
        const found = searchAtOnce(view, { queries, count, exact, ...(filter === undefined ? {} : { filter }) });
        for (let q = 0; q < 3; q++) {
          const answers = Array.from(found.places.subarray(found.from[q], found.from[q + 1]), (place) => view.elementAt(place));
          plain.check(queries.subarray(q * dims, (q + 1) * dims), count, answers, found.scores.subarray(found.from[q]), filter);
        }
        for (const [element, { vector, norm, attributes }] of plain.rows) {
          if (!prng.chance(0.05)) continue;
          const place = view.placeOf(element);
          assert.ok(place !== undefined);
          assert.equal(view.attributesAt(place), attributes);
          assert.ok(Math.abs(view.normAt(place) - norm) < 1e-5 * Math.max(1, norm));
          const into = new Float32Array(dims);
          view.vectorAt(place, into);
          for (let j = 0; j < dims; j++) assert.ok(Math.abs(into[j]! - vector[j]!) < 1e-6);
        }
      }
      view.release();
      assert.equal(pool.statistics().leasedBytes, 0);
    }
  });
}

test(`full chunks whose codes are made piece by piece answer as a map does, in a memory that was full of something else, seed ${seed}`, () => {
  const prng = new Prng(`${seed} pieces`);
  const dims = 300;
  const shape = { dims, metric: "ip" } as const;
  const pool = new MemoryPool({ capBytes: 256 << 20 });
  // Every memory of the tail was used before: no number of it may count.
  const used = Array.from({ length: 6 }, (_, i) => pool.lease({ owner: "before", dataBytes: 1 << (20 + Math.floor(i / 2)), laneBytes: 64 << 10 }));
  for (const { memory } of used) memory.bytes.fill(0xff, memory.dataFrom, memory.dataFrom + memory.dataBytes);
  for (const lease of used) lease.release();
  const view = new CollectionView({ shape, pool, owner: "test" });
  const plain = new PlainCollection(shape);
  const write = (i: number, length: number): void => {
    const vector = Float32Array.from({ length: dims }, () => (prng.float() - 0.5) * length);
    assert.equal(view.upsert(`e${i}`, vector, 0, undefined), plain.upsert(`e${i}`, vector, undefined));
  };
  for (let i = 0; i < 2_500; i++) write(i, 1);
  assert.ok(view.tail.chunks.filter((chunk) => chunk.used === chunk.block.slots).length >= 1);
  const states = new Set<string>();
  for (let round = 0; round < 60; round++) {
    const queries = Float32Array.from({ length: dims }, () => prng.float() - 0.5);
    const found = searchAtOnce(view, { queries, count: 10, exact: false });
    plain.check(
      queries,
      10,
      Array.from(found.places, (place) => view.elementAt(place)),
      found.scores,
    );
    const { scaledSlots, codedSlots, block } = view.tail.chunks[0]!;
    states.add(scaledSlots < block.slots ? "scales" : codedSlots < block.slots ? "codes" : "whole");
    // Within the scales, and now and then beyond them.
    for (let writes = 0; writes < 20; writes++) write(prng.below(2_500), round % 12 === 11 ? 2 + round : 0.9);
    if (prng.chance(0.2)) assert.equal(view.remove(`e${round}`), plain.remove(`e${round}`));
  }
  assert.deepEqual([...states].sort(), ["codes", "scales", "whole"]);
  view.release();
});

test("a write that has no memory is refused before it changes anything, and says who must act", () => {
  const pool = new MemoryPool({ capBytes: 2 << 20 });
  const view = new CollectionView({ shape: { dims: 256, metric: "ip" }, pool, owner: "collection small" });
  const vector = new Float32Array(256).fill(1);
  let written = 0;
  assert.throws(() => {
    for (; written < 100_000; written++) view.upsert(`e${written}`, vector, 0, undefined);
  }, /overloaded.*collection small/);
  assert.ok(written > 100);
  assert.equal(view.elements, written);
  assert.equal(searchAtOnce(view, { queries: vector, count: 5, exact: true }).places.length, 5);
});
