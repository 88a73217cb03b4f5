// Guards that a seed written down today gives the same run tomorrow, and that the draws are fair.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "./prng.ts";

const draws = 100_000;

test("gives the published sequence of xoshiro128**", () => {
  // Made with the authors' C program from this state.
  const prng = Prng.fromState(0x964d4a0c, 0xd40ab895, 0xad7fdecb, 0x3006f0f0);
  assert.deepEqual([prng.u32(), prng.u32(), prng.u32(), prng.u32()], [0xf1391922, 0x6fe53806, 0xa5be2840, 0xf510ee70]);
  // Worked by hand from the definition: rotl(2 * 5, 7) * 9, then a state whose second word is 0.
  const small = Prng.fromState(1, 2, 3, 4);
  assert.deepEqual([small.u32(), small.u32()], [11520, 0]);
});

test("the same seed gives the same numbers, another seed others", () => {
  const list = (seed: number | string): number[] => {
    const prng = new Prng(seed);
    return Array.from({ length: 8 }, () => prng.u32());
  };
  assert.deepEqual(list(7), list(7));
  assert.deepEqual(list("seven"), list("seven"));
  assert.notDeepEqual(list(7), list(8));
  assert.notDeepEqual(list("7"), list(7));
  // Golden: a change here would change every recorded seed.
  assert.deepEqual(list(7).slice(0, 3), golden);
});

const golden = [1_801_096_769, 1_554_325_924, 2_992_800_842];

test("a fork depends on seed and name, not on the draws before it", () => {
  const early = new Prng(1);
  const first = early.fork("files").u32();
  for (let i = 0; i < 10; i++) early.u32();
  assert.equal(early.fork("files").u32(), first);
  assert.notEqual(early.fork("network").u32(), first);
  assert.notEqual(new Prng(2).fork("files").u32(), first);
  assert.notEqual(early.fork("a").fork("b").u32(), early.fork("b").fork("a").u32());
});

test("float is uniform in [0, 1)", () => {
  const prng = new Prng(3);
  const buckets = new Uint32Array(16);
  for (let i = 0; i < draws; i++) {
    const value = prng.float();
    assert.ok(value >= 0 && value < 1);
    buckets[Math.floor(value * 16)]!++;
  }
  // 5 standard deviations of a binomial count.
  for (const count of buckets) assert.ok(Math.abs(count - draws / 16) < 5 * Math.sqrt(draws / 16), `bucket ${count}`);
});

test("below covers its range without bias, also for ranges beyond 32 bits", () => {
  const prng = new Prng(4);
  const counts = new Uint32Array(3);
  for (let i = 0; i < draws; i++) counts[prng.below(3)]!++;
  for (const count of counts) assert.ok(Math.abs(count - draws / 3) < 5 * Math.sqrt(draws / 3));
  assert.equal(prng.below(1), 0);
  let high = 0;
  for (let i = 0; i < 1000; i++) {
    const value = prng.below(2 ** 52);
    assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** 52);
    if (value >= 2 ** 51) high++;
  }
  assert.ok(high > 400 && high < 600);
  const seen = new Set(Array.from({ length: 200 }, () => prng.between(-1, 2)));
  assert.deepEqual([...seen].sort(), [-1, 0, 1, 2]);
});

test("normal and exponential have the stated moments", () => {
  const prng = new Prng(5);
  let sum = 0;
  let squares = 0;
  let waits = 0;
  for (let i = 0; i < draws; i++) {
    const value = prng.normal(10, 2);
    sum += value;
    squares += (value - 10) ** 2;
    const wait = prng.exponential(3);
    assert.ok(wait >= 0);
    waits += wait;
  }
  assert.ok(Math.abs(sum / draws - 10) < 0.05);
  assert.ok(Math.abs(Math.sqrt(squares / draws) - 2) < 0.03);
  assert.ok(Math.abs(waits / draws - 3) < 0.06);
});

test("shuffle keeps the elements and reaches every order", () => {
  const prng = new Prng(6);
  const orders = new Map<string, number>();
  for (let i = 0; i < 6000; i++) {
    const key = prng.shuffle([1, 2, 3]).join("");
    orders.set(key, (orders.get(key) ?? 0) + 1);
  }
  assert.equal(orders.size, 6);
  for (const count of orders.values()) assert.ok(Math.abs(count - 1000) < 160);
  assert.throws(() => prng.pick([]), RangeError);
  assert.equal(prng.pick(["only"]), "only");
});

test("bytes fills every length", () => {
  for (const length of [0, 1, 2, 3, 4, 5, 1000]) {
    const filled = new Prng(9).bytes(new Uint8Array(length));
    assert.equal(filled.length, length);
    if (length === 1000) assert.ok(new Set(filled).size > 200);
  }
});
