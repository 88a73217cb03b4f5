// Guards that a top list is what sorting everything would give, while keys rise, and stays in order through falls and removals.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ListRefill } from "./list-refill.ts";
import { TopList } from "./top-list.ts";

test("rising keys: the list is the best of all", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(40), fc.nat(20)), { maxLength: 300 }), fc.integer({ min: 1, max: 12 }), (steps, capacity) => {
      const list = new TopList(capacity);
      const keys = new Map<number, number>();
      for (const [handle, gain] of steps) {
        const key = (keys.get(handle) ?? 0) + gain;
        keys.set(handle, key);
        list.update(handle, key);
      }
      const expected = [...keys].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, capacity);
      assert.deepEqual(
        [...list.handles],
        expected.map(([handle]) => handle),
      );
    }),
  );
});

test("falls and removals keep the order, and a refill makes it exact again", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(30), fc.integer({ min: -50, max: 50 })), { maxLength: 200 }), (steps) => {
      const list = new TopList(10);
      const keys = new Map<number, number>();
      for (const [handle, key] of steps) {
        if (key < -40) {
          keys.delete(handle);
          list.remove(handle);
        } else {
          keys.set(handle, key);
          list.update(handle, key);
        }
        const held = [...list.handles].map((at) => [keys.get(at), -at]);
        assert.deepEqual(
          held,
          held.toSorted((a, b) => b[0]! - a[0]! || b[1]! - a[1]!),
        );
      }
      list.beginRefill();
      for (const [handle, key] of keys) list.update(handle, key);
      // Entries whose keys fell below those that were turned away leave as the better ones are offered again.
      const expected = [...keys].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 10);
      assert.deepEqual(
        [...list.handles],
        expected.map(([handle]) => handle),
      );
    }),
  );
});

test("it asks for a refill only when it has turned some away and lost many", () => {
  const list = new TopList(4);
  for (let handle = 0; handle < 4; handle += 1) list.update(handle, handle);
  for (let handle = 0; handle < 4; handle += 1) list.remove(handle);
  assert.equal(list.wantsRefill, false);
  for (let handle = 0; handle < 6; handle += 1) list.update(handle, handle);
  for (let handle = 2; handle < 5; handle += 1) list.remove(handle);
  assert.equal(list.wantsRefill, true);
});

test("a refill goes on in steps until all handles were offered, and only when it is wanted", () => {
  const list = new TopList(10);
  const offered: number[] = [];
  const refill = new ListRefill(
    list,
    () => 100,
    (handle) => {
      offered.push(handle);
      list.update(handle, handle);
    },
  );
  refill.step(7);
  assert.equal(offered.length, 0);
  for (let handle = 0; handle < 100; handle += 1) list.update(handle, handle);
  for (let handle = 93; handle < 100; handle += 1) list.remove(handle);
  for (let step = 0; step < 20; step += 1) refill.step(7);
  assert.equal(offered.length, 100);
  assert.deepEqual([...list.handles], [99, 98, 97, 96, 95, 94, 93, 92, 91, 90]);
});
