// Bytes are copied exactly, from and to shared memory, at any place, also between overlapping parts, and never past an end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { copyBytes, copyNumbers } from "./copy-bytes.ts";

test(`copies as TypedArray.set does, whatever memory is shared (SEED=${process.env["SEED"] ?? "copy"})`, () => {
  const prng = new Prng(process.env["SEED"] ?? "copy");
  const arrays = [new Uint8Array(3_000), new Uint8Array(new SharedArrayBuffer(3_000)), new Uint8Array(new ArrayBuffer(3_100), 77, 3_000)];
  for (let round = 0; round < 500; round++) {
    const from = prng.pick(arrays);
    const to = prng.pick(arrays);
    prng.bytes(from);
    const size = prng.pick([0, 1, 7, 8, 61, 2_000]);
    const start = prng.below(3_000 - size + 1);
    const at = prng.below(3_000 - size + 1);
    const expected = Uint8Array.from(to);
    expected.set(Uint8Array.from(from.subarray(start, start + size)), at);
    copyBytes(from, start, start + size, to, at);
    assert.deepEqual(Uint8Array.from(to), expected);
  }
});

test("numbers are copied as TypedArray.set does, from entry to entry", () => {
  const prng = new Prng(process.env["SEED"] ?? "copy");
  for (const Numbers of [Uint32Array, Float64Array]) {
    const size = Numbers.BYTES_PER_ELEMENT;
    const arrays = [new Numbers(300), new Numbers(new SharedArrayBuffer(300 * size)), new Numbers(new ArrayBuffer(310 * size), 7 * size, 300)];
    for (let round = 0; round < 200; round++) {
      const from = prng.pick(arrays);
      const to = prng.pick(arrays);
      from.forEach((_, i) => (from[i] = prng.below(2 ** 32)));
      const count = prng.pick([0, 1, 40, 200]);
      const start = prng.below(300 - count + 1);
      const at = prng.below(300 - count + 1);
      const expected = Array.from(to);
      for (let i = 0, values = Array.from(from); i < count; i++) expected[at + i] = values[start + i]!;
      copyNumbers(from as Float64Array, start, start + count, to as Float64Array, at);
      assert.deepEqual(Array.from(to), expected);
    }
  }
  assert.throws(() => copyNumbers(new Uint32Array(4), 0, 4, new Uint32Array(4), 1), RangeError);
});

test("refuses what does not lie inside", () => {
  const bytes = new Uint8Array(10);
  for (const [start, end, at] of [
    [0, 11, 0],
    [-1, 3, 0],
    [5, 4, 0],
    [0, 6, 5],
    [0, 1, -1],
    [Number.NaN, 1, 0],
  ] as const) {
    assert.throws(() => copyBytes(bytes, start, end, new Uint8Array(10), at), RangeError);
  }
});
