// Guards the sort of builders, every variant against a plain sort: keys of many kinds, equal ones of which the last stays, and prepared ones that share long beginnings.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { recordSortWorkBytes, sortItemBytes } from "./entry-layout.ts";
import { recordBytes, writeRecord } from "./entry-record.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, kernelVariants } from "./kernels.ts";

const seed = process.env["SEED"] ?? "sort-records";
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A key of one kind. */
const kinds: Readonly<Record<string, (prng: Prng) => Uint8Array>> = {
  numbers: (prng) => text(`item:${String(prng.below(100_000)).padStart(12, "0")}`),
  "few bytes, often equal, also empty": (prng) => prng.bytes(new Uint8Array(prng.below(4))),
  "all bytes at all places": (prng) => prng.bytes(new Uint8Array(8 + prng.below(9))),
  "zeros and lengths": (prng) => new Uint8Array(prng.below(40)),
  "long shared beginnings that part late": (prng) => text("x".repeat(prng.below(3) * 50) + String(prng.below(30)) + "y".repeat(prng.below(2) * 200)),
  "one key": () => text("one"),
  "two places of the window": (prng) => Uint8Array.of(7, prng.below(256), 7, 7, prng.below(256), 7, 7, 7, 7),
};

function sorted(variant: (typeof kernelVariants)[number], keys: readonly Uint8Array[]): { got: number[]; addresses: number[] } {
  const size = keys.reduce((sum, key) => sum + recordBytes(key.length, 5, 0, 9), 0);
  const rows = keys.length;
  const memory = KernelMemory.create({ dataBytes: size + 64 * 20 + rows * (4 + 2 * sortItemBytes) + recordSortWorkBytes }, kernels(variant));
  const from = memory.reserve(size + 64) + 3;
  const addresses: number[] = [];
  let at = from;
  for (const key of keys) {
    addresses.push(at);
    at = writeRecord(memory.bytes, at, key, 8, new Uint8Array(5), 0, 9);
  }
  const list = memory.reserve(4 * rows);
  const words = memory.u32.subarray(list / 4, list / 4 + rows);
  const sharedAt = memory.reserve(64);
  const find = (begin: number, end: number, to: number, most: number): number => memory.calls.findRecords(begin, end, to, most, sharedAt) >>> 0;
  if (rows > 0) {
    assert.equal(find(from, at, list, rows - 1), 0xffffffff, "more than announced");
    assert.equal(find(from, at - 1, list, rows), 0xffffffff, "cut");
  }
  // In two parts, as staged blocks come.
  const half = rows >> 1;
  memory.u32.fill(0, sharedAt / 4, sharedAt / 4 + 2);
  assert.equal(find(from, addresses[half] ?? at, list, half), half);
  assert.equal(find(addresses[half] ?? at, at, list + 4 * half, rows - half), rows - half);
  assert.deepEqual([...words], addresses);
  const shared = memory.u32[sharedAt / 4 + 1]!;
  const first = keys[0] ?? new Uint8Array(0);
  const same = (length: number): boolean =>
    keys.every((key) => key.length >= length && Buffer.compare(key.subarray(0, length), first.subarray(0, length)) === 0);
  if (rows > 0) assert.ok(same(shared) && (shared === first.length || !same(shared + 1)), `${shared} bytes are shared`);
  const items = memory.reserve(rows * sortItemBytes);
  const spare = memory.reserve(rows * sortItemBytes);
  const kept = memory.calls.sortRecords(list, rows, shared, items, spare, memory.reserve(recordSortWorkBytes)) >>> 0;
  return { got: [...words.subarray(0, kept)], addresses };
}

for (const variant of kernelVariants) {
  for (const [kind, keyOf] of Object.entries(kinds)) {
    test(`${variant}: sorted by key, the last of equal ones: ${kind} (SEED=${seed})`, () => {
      const prng = new Prng(seed).fork(kind);
      for (const rows of [0, 1, 2, 13, 100, 3_000, ...(variant === "scalar" ? [] : [8_000])]) {
        const keys = Array.from({ length: rows }, () => keyOf(prng));
        const { got, addresses } = sorted(variant, keys);
        const last = new Map(keys.map((key, i) => [Buffer.from(key).toString("latin1"), i]));
        const model = [...last.values()].map((i) => ({ key: keys[i]!, address: addresses[i]! })).toSorted((a, b) => Buffer.compare(a.key, b.key));
        assert.deepEqual(
          got,
          model.map(({ address }) => address),
          `${rows} rows`,
        );
      }
    });
  }
}
