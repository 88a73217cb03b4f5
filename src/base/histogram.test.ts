// Guards the error bound of every latency that metrics and benches report.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Histogram, histogramBytes } from "./histogram.ts";
import { Prng } from "./prng.ts";

test("quantiles stay within 0.8 % of the sorted values, from 1 us to 1 h", () => {
  const prng = new Prng(1);
  const values = Array.from({ length: 20_000 }, () => Math.round(Math.exp(prng.float() * Math.log(3.6e9))));
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  values.sort((a, b) => a - b);
  for (const q of [0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1]) {
    const exact = values[Math.max(1, Math.ceil(q * values.length)) - 1]!;
    const told = histogram.quantile(q);
    assert.ok(Math.abs(told - exact) <= exact / 128 + 0.5, `q ${q}: told ${told}, exact ${exact}`);
  }
  assert.equal(histogram.count, values.length);
  assert.equal(
    histogram.sum,
    values.reduce((a, b) => a + b, 0),
  );
  assert.equal(histogram.max, values.at(-1));
  assert.equal(histogram.min, values[0]);
});

test("every power of two and its neighbours fall into a bucket that holds them", () => {
  for (let exponent = 0; exponent <= 32; exponent++) {
    for (const value of [2 ** exponent - 1, 2 ** exponent, 2 ** exponent + 1]) {
      if (value > 4_294_967_295) continue;
      const histogram = new Histogram();
      histogram.record(value);
      histogram.record(value);
      const [[edge, count]] = [...histogram.buckets()] as [[number, number]];
      assert.equal(count, 2);
      assert.ok(edge >= value && edge <= value * (1 + 1 / 64), `${value} -> ${edge}`);
      assert.equal(histogram.quantile(0.5), value, "min and max bound the answer");
    }
  }
});

test("empty, odd and oversized values", () => {
  const histogram = new Histogram();
  assert.ok(Number.isNaN(histogram.quantile(0.5)));
  assert.equal(histogram.max, 0);
  histogram.record(-5);
  histogram.record(NaN);
  assert.equal(histogram.max, 0);
  assert.equal(histogram.count, 2);
  histogram.record(1e300);
  assert.equal(histogram.max, 4_294_967_295);
  assert.equal(histogram.quantile(1), 4_294_967_295);
  histogram.reset();
  assert.equal(histogram.count, 0);
  histogram.record(9, 3);
  assert.deepEqual([histogram.count, histogram.sum, histogram.min, histogram.mean], [3, 27, 9, 9]);
});

test("merging equals recording everything in one", () => {
  const prng = new Prng(2);
  const [left, right, both] = [new Histogram(), new Histogram(), new Histogram()];
  for (let i = 0; i < 5000; i++) {
    const value = prng.exponential(50_000);
    (i % 3 === 0 ? left : right).record(value);
    both.record(value);
  }
  left.merge(right);
  left.merge(new Histogram());
  assert.deepEqual(left.memory, both.memory);
  const fresh = new Histogram();
  fresh.merge(both);
  assert.deepEqual(fresh.memory, both.memory);
});

test("lives in shared memory at an offset", () => {
  const memory = new SharedArrayBuffer(2 * histogramBytes);
  const writer = new Histogram(memory, histogramBytes);
  const reader = new Histogram(memory, histogramBytes);
  writer.record(1234);
  assert.equal(reader.count, 1);
  assert.equal(reader.max, 1234);
  assert.equal(new Histogram(memory, 0).count, 0);
});
