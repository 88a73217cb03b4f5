// Guards: the place that is named for a body that is not JSON is the true one. The model is JSON.parse: our scanner finds a fault exactly where that one
// refuses, and everything before the fault can be completed.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { freshSeed } from "#platform/fresh-seed";
import { jsonFaultOf } from "./json-fault.ts";

const seed = freshSeed();

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

test("names line, column and what is wrong", () => {
  const cases: [string, string, number, number][] = [
    ["", "the text ends where a value should stand", 1, 1],
    ["  \n", "the text ends where a value should stand", 2, 1],
    ["{", "the text ends where a key in double quotes should stand", 1, 2],
    ['{"a"', "no colon after a key", 1, 5],
    ['{"a":1', "the text ends where comma or closing brace should stand", 1, 7],
    ['{"a":1,}', "no key in double quotes", 1, 8],
    ["{'a':1}", "no key in double quotes", 1, 2],
    ["[1,2", "the text ends where comma or closing bracket should stand", 1, 5],
    ["[1 2]", "no comma or closing bracket", 1, 4],
    ["[1,]", "no value", 1, 4],
    ["[1]\n]", "more text after the value", 2, 1],
    ["NaN", "no value", 1, 1],
    ["01", "more text after the value", 1, 2],
    ["1.", "more text after the value", 1, 2],
    ['"a', "the text ends inside a string", 1, 3],
    ['"a\\x"', "no valid escape", 1, 3],
    ['"a\tb"', "a control character stands in a string", 1, 3],
    ['{\n  "a": [1,\n  tru]}', "no value", 3, 3],
  ];
  for (const [text, expected, line, column] of cases) assert.deepEqual(jsonFaultOf(text), { expected, line, column }, JSON.stringify(text));
});

test("a fault is found exactly where JSON.parse refuses", (context) => {
  context.diagnostic(`SEED=${seed}`);
  const damaged = fc.tuple(fc.json({ maxDepth: 4 }), fc.nat(), fc.constantFrom("", "cut", ...'{}[],:"\\ \n0-.eE+tfn\u0007x')).map(([text, at, damage]) => {
    const place = at % (text.length + 1);
    return damage === "" ? text : damage === "cut" ? text.slice(0, place) : text.slice(0, place) + damage + text.slice(place + (at % 2));
  });
  fc.assert(
    fc.property(damaged, (text) => {
      const fault = jsonFaultOf(text);
      assert.equal(fault.expected === "nothing is wrong", isJson(text));
      const lines = text.split("\n");
      assert.ok(fault.line >= 1 && fault.line <= lines.length && fault.column >= 1 && fault.column <= lines[fault.line - 1]!.length + 1);
    }),
    { seed, numRuns: 5_000 },
  );
});

test("depth does not overflow the stack, length does not take more than linear time", () => {
  const deep = `${"[".repeat(1_000_000)}x`;
  assert.equal(jsonFaultOf(deep).column, 1_000_001);
  assert.equal(jsonFaultOf(`${'{"a":'.repeat(500_000)}1`).expected, "the text ends where comma or closing brace should stand");
  assert.equal(jsonFaultOf(`"${"a".repeat(4_000_000)}`).column, 4_000_002);
});
