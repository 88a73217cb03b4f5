// Records in blocks: many blocks, given whole or in pieces, at any address; what is missing, out of order, cut or changed is refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { readBlocks, writeBlocks } from "./record-blocks.ts";

const kind = { name: "test file", magic: 0x4b4c4258 };
const [rowCount, recordWords] = [2_500, 1_000] as const;

const numberOf = (row: number, word: number): number => (Math.imul(row + 1, 0x9e37_79b1) ^ word) >>> 0;

const written = (): Uint8Array[] =>
  writeBlocks(kind, rowCount, recordWords, (row, words, at) => {
    for (let i = 0; i < recordWords; i++) words[at + i] = numberOf(row, i);
  });

test("a file of many blocks comes back row by row, as often as wanted, in pieces or whole, aligned or not", () => {
  const parts = written();
  assert.ok(parts.length > 2);
  const head = new Uint8Array(8);
  for (const given of [
    [head, ...parts],
    [Buffer.concat([head, ...parts])],
    [Buffer.concat([Buffer.from([7]), head, ...parts]).subarray(1)],
    [head, ...parts.map((part) => Buffer.concat([Buffer.from([7]), part]).subarray(1))],
  ]) {
    const rows = readBlocks(kind, given, 8, rowCount, recordWords);
    for (let time = 0; time < 2; time++) {
      let next = 0;
      rows((row, words, at) => {
        assert.equal(row, next++);
        for (const word of [0, 1, recordWords - 1]) assert.equal(words[at + word], numberOf(row, word));
      });
      assert.equal(next, rowCount);
    }
  }
});

test("no rows are no blocks", () => {
  assert.deepEqual(
    writeBlocks(kind, 0, 4, () => assert.fail("no row is asked for")),
    [],
  );
  readBlocks(kind, [new Uint8Array(8)], 8, 0, 4)(() => assert.fail("no row is there"));
});

test("blocks that are missing, out of order, twice, cut or changed are refused", () => {
  const parts = written();
  const [first, second, ...others] = parts as [Uint8Array, Uint8Array, ...Uint8Array[]];
  const refused = (given: readonly Uint8Array[], rows: number = rowCount): void => {
    assert.throws(
      () => readBlocks(kind, given, 0, rows, recordWords),
      (error: unknown) => error instanceof MillraceError && error.code === "corrupt",
    );
  };
  refused(parts.slice(0, -1));
  refused(parts.slice(1));
  refused([second, first, ...others]);
  refused([first, first, second, ...others]);
  refused([...parts, first]);
  refused(parts, rowCount - 1);
  refused(parts, rowCount + 1);
  for (const length of [4, 15, 16, 17, second.length - 4, second.length - 1]) refused([first, second.subarray(0, length), ...others]);
  for (const at of [0, 4, 8, 12, 16, second.length - 1]) {
    const bad = Uint8Array.from(second);
    bad[at]! ^= 1;
    refused([first, bad, ...others]);
  }
});
