// Guards that elements and rows belong together whatever comes and goes, against a Map.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { ElementBook } from "./element-book.ts";

const seed = freshSeed();

test(`model: rows of elements are those of a map, seed ${seed}`, () => {
  const prng = new Prng(seed);
  for (const names of [1, 30, 3_000]) {
    const book = new ElementBook();
    const there = new Map<string, number>();
    const texts: string[] = [];
    for (let step = 0; step < 20_000; step++) {
      const element = `${"é".repeat(prng.below(3))}item:${prng.below(names)}`;
      const row = book.rowOf(element);
      assert.equal(row, there.get(element));
      if (row === undefined) {
        assert.equal(book.add(element), texts.length);
        there.set(element, texts.length);
        texts.push(element);
      } else if (prng.below(3) === 0) {
        assert.equal(book.remove(element), true);
        there.delete(element);
      }
      assert.equal(book.rows, texts.length);
      const some = prng.below(texts.length);
      assert.equal(book.elementOf(some), texts[some], "also of a row that was taken out");
    }
    assert.equal(book.remove("never seen"), false);
    for (const [element, row] of there) assert.equal(book.rowOf(element), row);
  }
});

test("texts of every length, blocks that are just full, and long ones", () => {
  const book = new ElementBook();
  const texts = [
    "",
    ...Array.from({ length: 300 }, (_, i) => `${i}`.padEnd(1_024, "x")),
    ...Array.from({ length: 512 }, (_, i) => `${i}`.padEnd(512, "y")),
    "z".repeat(262_144),
    "a".repeat(262_145),
    "b".repeat(800_000),
    "c".repeat(524_288),
    "short",
    "\u{1f600}".repeat(70_000),
    "last",
  ];
  for (const [row, text] of texts.entries()) assert.equal(book.add(text), row);
  for (const [row, text] of texts.entries()) {
    assert.equal(book.rowOf(text), row);
    assert.equal(book.elementOf(row), text);
  }
  assert.equal(book.rowOf("z".repeat(262_143)), undefined);
});

test("texts that are the same in UTF-8 are one element", () => {
  const book = new ElementBook();
  book.add("a\ud800");
  assert.equal(book.rowOf("a\ufffd"), 0);
  assert.equal(book.elementOf(0), "a\ufffd");
});

test("300,000 elements are found, and none that is not there", () => {
  const book = new ElementBook();
  for (let i = 0; i < 300_000; i++) book.add(`item:${i}`);
  for (let i = 0; i < 300_000; i += 7) assert.equal(book.rowOf(`item:${i}`), i);
  for (let i = 300_000; i < 310_000; i++) assert.equal(book.rowOf(`item:${i}`), undefined);
});
