// The promise of columns: they answer as the interpreter does over the JSON text, for any mix of types and any expression.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { AttributeColumns } from "./attribute-columns.ts";
import { compileFilter } from "./filter.ts";

const seed = process.env["SEED"] ?? freshSeed();

const fieldNames = ["a", "b", "c-d", "year"];
const texts = ["", "x", "action", "5", " 7", "7 ", "0x10", "inf", "1e3", "ax", "ü"];
const numbers = [0, 1, -1, 2, 5, 7, 0.5, 1980, 1e300, -0];

function drawJson(prng: Prng, depth = 0): unknown {
  switch (prng.below(depth > 1 ? 4 : 7)) {
    case 0:
    case 1:
      return prng.pick(numbers);
    case 2:
      return prng.pick(texts);
    case 3:
      return prng.pick([true, false, null]);
    case 4:
    case 5:
      return Array.from({ length: prng.below(3) }, () => drawJson(prng, depth + 1));
    default:
      return prng.chance(0.2) ? { inner: 1 } : prng.pick(numbers);
  }
}

/** `pure`: each field holds one type only. */
function drawAttributes(prng: Prng, pure: boolean): string | undefined {
  if (prng.chance(0.1)) return prng.pick([undefined, "", "no json", "[1]", "3", '{"a":1']);
  const fields: Record<string, unknown> = {};
  fieldNames.forEach((name, i) => {
    if (prng.chance(0.85)) fields[name] = !pure ? drawJson(prng) : i % 2 === 0 ? prng.pick(numbers) : prng.pick(texts);
  });
  return JSON.stringify(fields);
}

function drawExpression(prng: Prng, depth: number): string {
  if (depth === 0 || prng.chance(0.25)) {
    switch (prng.below(6)) {
      case 0:
      case 1:
      case 2:
        return `.${prng.pick(fieldNames)}`;
      case 3:
        return String(Math.abs(prng.pick(numbers)));
      case 4:
        return JSON.stringify(prng.pick(texts));
      default:
        return prng.chance(0.5)
          ? prng.pick(["null", "true", "false"])
          : `[${Array.from({ length: prng.below(4) }, () => (prng.chance(0.5) ? String(prng.pick(numbers)) : `'${prng.pick(texts)}'`)).join(", ")}]`;
    }
  }
  const inner = (): string => drawExpression(prng, depth - 1);
  if (prng.chance(0.15)) return `not (${inner()})`;
  const operator = prng.pick(["+", "-", "*", "/", "%", "**", "<", "<=", ">", ">=", "==", "!=", "==", "in", "in", "and", "or", "&&", "||"]);
  return `(${inner()} ${operator} ${inner()})`;
}

void test(`promise: a filter over columns passes what it passes over the JSON texts (SEED=${seed})`, () => {
  const prng = new Prng(seed);
  let some = 0;
  for (let round = 0; round < 60; round++) {
    const columns = new AttributeColumns();
    const rows = prng.pick([1, 31, 40, 1_500]);
    const pure = prng.chance(0.5);
    for (let slot = 0; slot < rows; slot++) columns.set(slot, drawAttributes(prng, pure));
    // Changes, also of type.
    for (let change = 0; change < rows / 4; change++) columns.set(prng.below(rows), drawAttributes(prng, pure && prng.chance(0.9)));
    for (let expression = 0; expression < 12; expression++) {
      const text = drawExpression(prng, 1 + prng.below(4));
      const filter = compileFilter(text);
      const words = new Uint32Array(Math.ceil(rows / 32)).fill(0xffff_ffff);
      const passing = columns.bitmap(filter, 0, rows, words);
      let expected = 0;
      for (let slot = 0; slot < rows; slot++) {
        const truth = filter.passes(columns.textOf(slot));
        expected += Number(truth);
        assert.equal((words[slot >>> 5]! >>> (slot & 31)) & 1, Number(truth), `${text} of ${columns.textOf(slot)}`);
      }
      assert.equal(passing, expected);
      some += expected;
    }
  }
  assert.ok(some > 1_000, `only ${some} rows passed at all: the cases say nothing`);
});
