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

test("an array is copied as a whole, also onto a part of itself", () => {
  for (const buffer of [new ArrayBuffer(400), new SharedArrayBuffer(400)]) {
    for (const size of [1, 2, 9, 200]) {
      for (const [start, at] of [
        [50, 51],
        [50, 49],
        [50, 50],
        [0, 200],
        [9, 60],
      ] as const) {
        const all = new Uint8Array(buffer).map((_, i) => i);
        new Uint8Array(buffer).set(all);
        all.set(all.slice(start, start + size), at);
        copyBytes(new Uint8Array(buffer, start, size), 0, size, new Uint8Array(buffer), at);
        assert.deepEqual(Array.from(new Uint8Array(buffer)), Array.from(all));
      }
    }
  }
});

test("numbers are copied as TypedArray.set does, from entry to entry", () => {
  const prng = new Prng(process.env["SEED"] ?? "copy");
  for (let round = 0; round < 400; round++) {
    const from = Float64Array.from({ length: 300 }, () => prng.below(2 ** 32));
    const expected = Float64Array.from({ length: 300 }, () => prng.below(2 ** 32));
    const count = prng.pick([0, 1, 40, 200]);
    const start = prng.below(300 - count + 1);
    const at = prng.below(300 - count + 1);
    const doubles = new Float64Array(round % 2 === 0 ? new SharedArrayBuffer(2_456) : new ArrayBuffer(2_456), 56, 300);
    const words = new Uint32Array(round % 2 === 0 ? new SharedArrayBuffer(1_228) : new ArrayBuffer(1_228), 28, 300);
    doubles.set(expected);
    words.set(expected);
    expected.set(from.subarray(start, start + count), at);
    copyNumbers(from, start, start + count, doubles, at);
    copyNumbers(Uint32Array.from(from), start, start + count, words, at);
    assert.deepEqual(Array.from(doubles), Array.from(expected));
    assert.deepEqual(Array.from(words), Array.from(expected));
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
