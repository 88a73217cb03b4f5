// Long doubles as texts: sums that a redis-server on x86-64 gave, and random sums against exact arithmetic.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { addLongDouble, formatLongDouble, parseLongDouble } from "./long-double.ts";

const seed = freshSeed();

function sum(a: string, b: string): string | undefined {
  const [left, right] = [parseLongDouble(a), parseLongDouble(b)];
  if (left === undefined || right === undefined) return undefined;
  const added = addLongDouble(left, right);
  return added === undefined ? undefined : formatLongDouble(added);
}

test("sums as redis-server 7.0.15 gives them", () => {
  assert.equal(sum("0.1", "0.2"), "0.3");
  assert.equal(sum("3.0e3", "200"), "3200");
  assert.equal(sum("10.50", "0.1"), "10.6");
  assert.equal(sum("5.0e3", "-5000"), "0");
  assert.equal(sum("1e17", "0.5"), "100000000000000000.5");
  assert.equal(sum("0x1p3", "1"), "9");
  assert.equal(sum("-0", "0"), "0");
  assert.equal(sum("inf", "1"), "inf");
  assert.equal(sum("inf", "-inf"), undefined);
});

test("what is no number", () => {
  for (const text of ["", " 1", "1 ", "+", ".", "e5", "nan", "1e", "0x", "1e5000", "1e-6000", "abc", "1".repeat(6_000)]) {
    assert.equal(parseLongDouble(text), undefined, JSON.stringify(text.slice(0, 20)));
  }
});

/** A printed sum in thousandths, rounded. */
function thousandths(text: string): bigint {
  const [whole, fraction = ""] = text.replace("-", "").split(".");
  const scaled = BigInt(whole! + fraction.padEnd(17, "0"));
  const rounded = (scaled + 5n * 10n ** 13n) / 10n ** 14n;
  return text.startsWith("-") ? -rounded : rounded;
}

test(`random sums of decimals are right to their last digit (SEED=${seed})`, () => {
  // 64 bits of mantissa hold 19 decimal digits: a sum of 15 is rounded beyond its last one, which doubles are not sure of after the second sum.
  const random = new Prng(seed);
  const text = (value: number): string => `${value < 0 ? "-" : ""}${Math.floor(Math.abs(value) / 1_000)}.${String(Math.abs(value) % 1_000).padStart(3, "0")}`;
  for (let i = 0; i < 5_000; i++) {
    const [a, b] = [random.between(-1e15, 1e15), random.between(-1e15, 1e15)];
    assert.equal(thousandths(sum(text(a), text(b))!), BigInt(a) + BigInt(b), `${text(a)} + ${text(b)}`);
  }
});
