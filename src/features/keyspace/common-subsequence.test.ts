// Longest common subsequences against trying all.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { cellsMax, longestCommonSubsequence } from "./common-subsequence.ts";

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const seed = freshSeed();

function longest(a: string, b: string): number {
  if (a === "" || b === "") return 0;
  return a[0] === b[0] ? 1 + longest(a.slice(1), b.slice(1)) : Math.max(longest(a.slice(1), b), longest(a, b.slice(1)));
}

test(`length, bytes and ranges of random pairs fit together (SEED=${seed})`, () => {
  const random = new Prng(seed);
  for (let i = 0; i < 500; i++) {
    const draw = (): string => Array.from({ length: random.below(9) }, () => "abc"[random.below(3)]!).join("");
    const [a, b] = [draw(), draw()];
    const found = longestCommonSubsequence(bytes(a), bytes(b))!;
    assert.equal(found.length, longest(a, b));
    const ranges = [...found.ranges].reverse();
    assert.equal(ranges.map(({ a: [from, to] }) => a.slice(from, to + 1)).join(""), String.fromCharCode(...found.bytes));
    assert.equal(ranges.map(({ b: [from, to] }) => b.slice(from, to + 1)).join(""), String.fromCharCode(...found.bytes));
  }
});

test("pairs beyond the limit are refused, but for what their ends share", () => {
  const long = new Uint8Array(4_000).fill(48);
  assert.deepEqual(longestCommonSubsequence(long, long), { length: 4_000, bytes: long, ranges: [{ a: [0, 3_999], b: [0, 3_999] }] });
  assert.deepEqual(longestCommonSubsequence(bytes("xab"), bytes("ab"))?.ranges, [{ a: [1, 2], b: [0, 1] }]);
  assert.equal(longestCommonSubsequence(new Uint8Array(2_000), new Uint8Array(Math.ceil(cellsMax / 2_000)).fill(1)), undefined);
});
