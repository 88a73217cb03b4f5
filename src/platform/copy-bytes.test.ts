// Bytes are copied exactly, from and to shared memory, at any place, also between overlapping parts, and never past an end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { copyBytes } from "./copy-bytes.ts";

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
