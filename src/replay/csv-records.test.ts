// Guards that no line of a file is lost or counted twice, however the file is written and however its bytes arrive. SEED=n replays one run.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { type CsvFault, CsvRecords, recordCharsMax } from "./csv-records.ts";

type Outcome = string[] | CsvFault;

function split(pieces: readonly string[]): Outcome[] {
  const outcomes: Outcome[] = [];
  const records = new CsvRecords((record) => outcomes.push(record));
  for (const piece of pieces) records.push(piece);
  records.end();
  return outcomes;
}

function cut(text: string, random: Prng): string[] {
  const pieces: string[] = [];
  const size = 1 + random.below(12);
  for (let at = 0; at < text.length;) {
    const next = at + 1 + random.below(size);
    pieces.push(text.slice(at, next));
    at = next;
  }
  return pieces;
}

const seed = freshSeed();

test(`what a writer wrote comes back, SEED=${seed}`, () => {
  const random = new Prng(seed);
  const parts = ["a", "7", ",", '"', "\n", "\r\n", " ", "é", ""];
  for (let round = 0; round < 2_000; round += 1) {
    const newline = random.below(2) === 0 ? "\n" : "\r\n";
    const records = Array.from({ length: 1 + random.below(4) }, () =>
      Array.from({ length: 2 + random.below(3) }, () => Array.from({ length: random.below(4) }, () => parts[random.below(parts.length)]!).join("")),
    );
    const write = (field: string): string => (/[",\n\r]/.test(field) || random.below(5) === 0 ? `"${field.replaceAll('"', '""')}"` : field);
    const text =
      (random.below(3) === 0 ? "\ufeff" : "") + records.map((fields) => fields.map(write).join(",")).join(newline) + (random.below(2) === 0 ? newline : "");
    assert.deepEqual(split(cut(text, random)), records, JSON.stringify(text));
  }
});

test(`any text gives the same records however it is cut, SEED=${seed}`, () => {
  const random = new Prng(seed + 1);
  const letters = 'ab,"\n\r';
  for (let round = 0; round < 5_000; round += 1) {
    const text = Array.from({ length: random.below(30) }, () => letters[random.below(letters.length)]!).join("");
    const whole = split([text]);
    assert.deepEqual(split(cut(text, random)), whole, JSON.stringify(text));
    const broken = whole.filter((outcome) => outcome === "broken-quotes").length;
    assert.ok(broken <= text.split("\n").length);
  }
});

test("a broken quote costs its own line, not those behind it", () => {
  assert.deepEqual(split(['1,"x,3\n4,5,6\n7,8,9\n']), ["broken-quotes", ["4", "5", "6"], ["7", "8", "9"]]);
  assert.deepEqual(split(['1,"x"y,3\n4,5,6\n']), ["broken-quotes", ["4", "5", "6"]]);
  assert.deepEqual(split(['1,"x\n2,"y"\n4,5,6\n']), ["broken-quotes", ["2", "y"], ["4", "5", "6"]]);
  // In a long file the quote is given up before the end is reached.
  const many = Array.from({ length: 30_000 }, (_, line) => `${line},5,6`);
  const outcomes = split([`1,"x,3\n${many.join("\n")}\n`]);
  assert.equal(outcomes[0], "broken-quotes");
  assert.equal(outcomes.length, 1 + many.length);
});

test("a quote inside an unquoted field is itself", () => {
  assert.deepEqual(split(['1,5" pipe,x\n']), [["1", '5" pipe', "x"]]);
});

test("a line beyond the limit is one fault, whole or in pieces", () => {
  const long = "x".repeat(recordCharsMax + 1);
  for (const text of [`a,b\n${long}\nc,d\n`, `a,b\n${long}\nc,d`]) {
    assert.deepEqual(split([text]), [["a", "b"], "too-long", ["c", "d"]]);
    assert.deepEqual(split(text.match(/[^]{1,1000}/g)!), [["a", "b"], "too-long", ["c", "d"]]);
  }
  assert.deepEqual(split(["x".repeat(recordCharsMax)]), [["x".repeat(recordCharsMax)]]);
});

test("blank lines are told, the newline at the end is none", () => {
  assert.deepEqual(split(["a,b\n\r\n\nc,d\n"]), [["a", "b"], "empty-line", "empty-line", ["c", "d"]]);
  assert.deepEqual(split([""]), []);
  assert.deepEqual(split(["\n"]), ["empty-line"]);
});
