// The typed faces refuse what kernels would not survive: wrong sizes, wrong lanes, batches and keys beyond their limits.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ErrorCode, MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { createF32Block, createTopK, f32RowBytes, searchByDot, writeF32Rows } from "./dot-top-k.ts";
import { gatherRows } from "./gather-rows.ts";
import { hashKeys } from "./hash-keys.ts";
import { absentSource, EntryRefs } from "./entry-refs.ts";
import { KernelMemory, kernelMemoryLimits } from "./kernel-memory.ts";
import { KeyBatch, keyLimits } from "./key-batch.ts";
import { keySeed } from "./key-hash.ts";
import { KeyTable, keyTableBytes } from "./key-table.ts";

function refuses(code: ErrorCode, call: () => unknown): void {
  assert.throws(call, (error: unknown) => error instanceof MillraceError && error.code === code && error.todo !== undefined);
}

const small = { dataBytes: 4_096, laneBytes: 8 * 1024 };

test("a memory refuses shapes beyond its limits, foreign memories and lanes that are not there", () => {
  refuses("invalid", () => KernelMemory.create({ dataBytes: 0, lanes: 0 }));
  refuses("invalid", () => KernelMemory.create({ dataBytes: 0, lanes: kernelMemoryLimits.lanesMax + 1 }));
  refuses("invalid", () => KernelMemory.create({ dataBytes: 0, laneBytes: 100 }));
  refuses("invalid", () => KernelMemory.create({ dataBytes: 2 ** 32 }));
  refuses("invalid", () => KernelMemory.create({ dataBytes: 1.5 }));
  const memory = KernelMemory.create({ ...small, lanes: 2 });
  refuses("invalid", () => KernelMemory.attach(memory.memory, 2));
  refuses("invalid", () => KernelMemory.attach({ buffer: new SharedArrayBuffer(65_536) }, 0));
  refuses("invalid", () => KernelMemory.format(memory.memory, { dataBytes: 1 << 20 }));
  assert.notEqual(KernelMemory.attach(memory.memory, 1).lane.take(16), memory.lane.take(16));
});

test("the data area is handed out once, aligned, and no further than it goes", () => {
  const memory = KernelMemory.create(small);
  const first = memory.reserve(100);
  assert.equal(first, memory.dataFrom);
  assert.equal(memory.reserve(1), first + 128);
  assert.equal(first % 64, 0);
  refuses("overloaded", () => memory.reserve(memory.freeBytes + 1));
  memory.reserve(memory.freeBytes);
  assert.equal(memory.freeBytes, 0);
});

test("search refuses dimensions, k and rows that do not fit", () => {
  const memory = KernelMemory.create(small);
  const block = createF32Block(memory, 10, 5);
  assert.equal(f32RowBytes(5), 32);
  refuses("invalid", () => f32RowBytes(0));
  refuses("invalid", () => createTopK(0));
  refuses("invalid", () => createTopK(65_537));
  refuses("invalid", () => searchByDot(block, new Float32Array(6), createTopK(1)));
  refuses("invalid", () => searchByDot(block, new Float32Array(5), createTopK(2_000)));
  refuses("invalid", () => writeF32Rows(block, 9, new Float32Array(10)));
  refuses("invalid", () => writeF32Rows(block, 0, new Float32Array(7)));
  writeF32Rows(block, 9, new Float32Array(5));
});

test("gather refuses widths and arrays that do not fit", () => {
  const memory = KernelMemory.create(small);
  refuses("invalid", () => gatherRows({ memory, at: memory.dataFrom, rowBytes: 0, rowCount: 1 }, Uint32Array.of(0), new Uint8Array(4)));
  refuses("invalid", () => gatherRows({ memory, at: memory.dataFrom, rowBytes: 8, rowCount: 1 }, Uint32Array.of(0, 0), new Uint8Array(15)));
  refuses("invalid", () => gatherRows({ memory, at: memory.dataFrom, rowBytes: 9_000, rowCount: 1 }, Uint32Array.of(0), new Uint8Array(9_000)));
});

test("a batch keeps bytes and texts apart, grows, and is reused; its limits are errors that leave it whole", () => {
  const batch = KeyBatch.of(["é", Uint8Array.of(1, 2), ""]);
  assert.deepEqual([...batch.offsets.subarray(0, 4)], [0, 2, 4, 4]);
  assert.deepEqual([...batch.bytes.subarray(0, 4)], [0xc3, 0xa9, 1, 2]);
  batch.clear();
  for (let i = 0; i < 1_000; i++) batch.add(`key number ${i}`);
  assert.equal(batch.count, 1_000);
  assert.equal(Buffer.from(batch.bytes.subarray(batch.offsets[999], batch.offsets[1_000])).toString(), "key number 999");
  refuses("invalid", () => batch.add(new Uint8Array(keyLimits.keyBytesMax + 1)));
  refuses("invalid", () => batch.add("é".repeat(keyLimits.keyBytesMax / 2 + 1)));
  batch.add(new Uint8Array(keyLimits.keyBytesMax));
  batch.add("é".repeat(keyLimits.keyBytesMax / 2));
  assert.equal(batch.count, 1_002);
});

test("a run of keys is added as its keys one by one are, up to the first that does not fit", () => {
  const prng = new Prng(`runs ${process.env["SEED"] ?? "1"}`);
  const batch = new KeyBatch();
  for (let round = 0; round < 400; round++) {
    const sizes = Array.from({ length: prng.below(40) }, () => (prng.below(8) === 0 ? prng.below(70) : prng.below(20)));
    // At any address, with bytes before and behind it.
    const boundsAt = prng.below(9);
    const from = boundsAt + 4 * (sizes.length + 1) + prng.below(3);
    const skipped = prng.below(3);
    const total = skipped + sizes.reduce((sum, size) => sum + size, 0);
    const bytes = Uint8Array.from({ length: from + total + prng.below(4) }, () => prng.below(256));
    const view = new DataView(bytes.buffer);
    let bound = skipped;
    view.setUint32(boundsAt, bound, true);
    sizes.forEach((size, i) => view.setUint32(boundsAt + 4 * i + 4, (bound += size), true));
    let good = sizes.findIndex((size) => size < 3 || size > 60);
    if (good < 0) good = sizes.length;
    // A bound that falls back or reaches beyond: the keys before it are in.
    if (sizes.length > 0 && prng.below(4) === 0) {
      const broken = prng.below(sizes.length);
      const before = view.getUint32(boundsAt + 4 * broken, true);
      view.setUint32(boundsAt + 4 * broken + 4, prng.below(2) === 0 ? total + 1 + prng.below(9) : Math.max(0, before - 1 - prng.below(9)), true);
      good = Math.min(good, broken);
    }
    if (prng.below(3) > 0) batch.clear();
    const before = KeyBatch.of(Array.from({ length: batch.count }, (_, i) => batch.bytes.slice(batch.offsets[i], batch.offsets[i + 1])));
    let at = from + skipped;
    for (const size of sizes.slice(0, good)) before.addIn(0x1234, bytes, at, (at += size));
    const added = batch.addRunIn(0x1234, bytes, { count: sizes.length, boundsAt, from, to: from + total, keyBytesMin: 3, keyBytesMax: 60 });
    assert.equal(added, good, `round ${round}`);
    assert.equal(batch.count, before.count);
    assert.deepEqual(batch.offsets.slice(0, batch.count + 1), before.offsets.slice(0, before.count + 1), `round ${round}`);
    const end = batch.offsets[batch.count]!;
    assert.ok(Buffer.from(batch.bytes.subarray(0, end)).equals(before.bytes.subarray(0, end)), `round ${round}`);
  }
  const huge = { count: keyLimits.keysMax, boundsAt: 0, from: 0, to: 0, keyBytesMin: 0, keyBytesMax: 9 };
  batch.add("one");
  refuses("overloaded", () => batch.addRunIn(1, new Uint8Array(0), huge));
});

test("key tables refuse sizes, answers and addresses that cannot be", () => {
  const size = { keysMax: 10, keyBytesMax: 100 };
  const memory = KernelMemory.create({ dataBytes: keyTableBytes(size), laneBytes: 8 * 1024 });
  refuses("invalid", () => KeyTable.create(memory, { keysMax: 0, keyBytesMax: 1 }, keySeed(0n)));
  const table = KeyTable.create(memory, size, keySeed(0n));
  memory.reserve(memory.freeBytes);
  refuses("overloaded", () => KeyTable.create(memory, size, keySeed(0n)));
  refuses("corrupt", () => KeyTable.attach(memory, table.at + 64));
  refuses("invalid", () => table.probe(KeyBatch.of(["a", "b"]), new Uint32Array(1)));
  refuses("invalid", () => hashKeys(memory, KeyBatch.of(["a"]), keySeed(0n), new Uint32Array(1)));
  assert.equal(table.probe(new KeyBatch(), new Uint32Array(0)), 0);
  assert.equal(table.keysMax, 10);
});

test("answers of a look-up are told as bytes 1 and 0, and whether there are any, at every place and length", () => {
  for (const count of [0, 1, 3, 63, 64, 65, 200, 1_001]) {
    for (const at of [0, 1, 4]) {
      const refs = new EntryRefs();
      refs.reset(count, "presence");
      assert.equal(refs.noneFound(0, count), true);
      const into = new Uint8Array(new ArrayBuffer(count + at + 9), at).fill(9);
      for (let i = 0; i < count; i++) refs.source[i] = [absentSource, 0, 254, 128, 127, absentSource, 1][i % 7]!;
      refs.absences(into);
      for (let i = 0; i < into.length; i++) assert.equal(into[i], i >= count ? 9 : refs.source[i] === absentSource ? 1 : 0, `${i} of ${count} at ${at}`);
      refs.reset(count, "presence");
      for (const i of [0, 5, count >> 1, count - 1]) {
        if (i < 0 || i >= count) continue;
        refs.source[i] = 3;
        for (const [from, to] of [
          [0, count],
          [i, count],
          [0, i + 1],
          [i, i + 1],
        ] as const)
          assert.equal(refs.noneFound(from, to), false);
        assert.equal(refs.noneFound(0, i), true);
        assert.equal(refs.noneFound(i + 1, count), true);
        refs.source[i] = absentSource;
      }
      // An array of somebody else's.
      refs.source = new Uint8Array(Math.max(1, count)).fill(absentSource);
      assert.equal(refs.noneFound(0, count), true);
      if (count > 0) refs.source[count - 1] = 0;
      assert.equal(refs.noneFound(0, count), count === 0);
    }
  }
});
