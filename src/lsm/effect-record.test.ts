// The bytes of effects: golden record, transactions that are cut, damage, and the bounds of a batch.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { EntryView } from "#kernel/entry-record";
import { EffectBatch } from "./effect-batch.ts";
import { decodeEffectHead, effectBodyBytesMax, effectFlags, effectHeadBytes, EffectReader, type Effects, encodeEffectHead } from "./effect-record.ts";
import { storeLimits } from "./store.ts";

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const goldenFile = new URL("../../test/golden/effects/v2/two-transactions.bin", import.meta.url);

/** The record of docs/format/effect-record.md. */
function goldenRecord(): Uint8Array {
  const batch = new EffectBatch();
  batch.put(0, ascii("user:1"), 1, ascii("Ada"), 0, 0);
  batch.put(7, ascii("k"), 8, ascii("row"), 1_800_000_000_000, 1_704_067_200_000);
  batch.delete(0, ascii("gone"), 1_704_067_200_000);
  return recordOf(batch.entries, 3, 0, 1_704_067_200_000, 5);
}

function recordOf(entries: Uint8Array, count: number, flags: number, producer: number, sequence: number): Uint8Array {
  const record = new Uint8Array(effectHeadBytes + entries.length);
  encodeEffectHead(record, { flags, entries: count, producer, sequence });
  record.set(entries, effectHeadBytes);
  return record;
}

function listed(effects: Effects): [number, string, number, string, number, number][] {
  const found: [number, string, number, string, number, number][] = [];
  const entry = new EntryView();
  for (let at = 0; at < effects.bytes.length; at = entry.end) {
    assert.ok(entry.read(effects.bytes, at, effects.bytes.length));
    const key = entry.key();
    found.push([
      (key[0]! << 8) | key[1]!,
      new TextDecoder().decode(key.subarray(2)),
      entry.kind,
      new TextDecoder().decode(entry.value()),
      entry.expiryMs,
      entry.timeMs,
    ]);
  }
  return found;
}

test("promise: effect records of version 2 are read for ever", () => {
  const golden = new Uint8Array(readFileSync(goldenFile));
  assert.deepEqual(goldenRecord(), golden, "the writer's bytes");
  assert.deepEqual(decodeEffectHead(golden), { flags: 0, entries: 3, producer: 1_704_067_200_000, sequence: 5 });
  const read = new EffectReader().read(golden);
  assert.ok(typeof read === "object");
  assert.deepEqual(listed(read), [
    [0, "user:1", 1, "Ada", 0, 0],
    [7, "k", 8, "row", 1_800_000_000_000, 1_704_067_200_000],
    [0, "gone", 0, "", 0, 1_704_067_200_000],
  ]);
});

test("another version of effect records is refused, and says which", () => {
  for (const version of [1, 3]) {
    const record = goldenRecord();
    record[0] = version;
    assert.equal(decodeEffectHead(record), "version");
    assert.match(String(new EffectReader().read(record)), new RegExp(`version ${version}.*knows 2`));
  }
});

test("a transaction longer than a record is cut over several and comes out whole", () => {
  const batch = new EffectBatch();
  const value = new Uint8Array(400 * 1024).fill(7);
  for (let i = 0; i < 7; i++) batch.put(3, ascii(`key ${i}`), 1, value, 0, 0);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < batch.bytes; at += effectBodyBytesMax) parts.push(batch.entries.subarray(at, at + effectBodyBytesMax));
  assert.ok(parts.length > 2);
  const records = parts.map((part, i) =>
    recordOf(part, i === 0 ? 7 : 0, (i === 0 ? 0 : effectFlags.continued) | (i === parts.length - 1 ? 0 : effectFlags.continues), 9, i),
  );
  const reader = new EffectReader();
  for (const record of records.slice(0, -1)) assert.equal(reader.read(record), undefined);
  assert.ok(reader.isInside);
  const whole = reader.read(records.at(-1)!);
  assert.ok(typeof whole === "object" && whole.count === 7);
  assert.deepEqual(whole.bytes, new Uint8Array(batch.entries));
  assert.equal(typeof new EffectReader().read(records[1]!), "string", "its beginning is missing");
  const torn = new EffectReader();
  torn.read(records[0]!);
  assert.equal(typeof torn.read(recordOf(new Uint8Array(0), 0, 0, 10, 0)), "string", "another producer inside a transaction");
});

test("a record out of the order of its producer is refused", () => {
  const reader = new EffectReader();
  const empty = new Uint8Array(0);
  assert.ok(typeof reader.read(recordOf(empty, 0, 0, 4, 0)) === "object");
  assert.equal(typeof reader.read(recordOf(empty, 0, 0, 4, 0)), "string", "twice");
  assert.equal(typeof reader.read(recordOf(empty, 0, 0, 4, 2)), "string", "a gap");
  assert.ok(typeof new EffectReader().read(recordOf(empty, 0, 0, 4, 9)) === "object", "a reader may begin anywhere");
});

test("fuzz: no bytes make the reader throw or read outside; what it accepts is whole entries", () => {
  const seed = Number(process.env["SEED"] ?? 1);
  const random = new Prng(seed);
  const golden = goldenRecord();
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    const bytes = golden.slice(0, random.chance(0.2) ? random.below(golden.length + 1) : golden.length);
    const flips = random.below(4);
    for (let i = 0; i < flips && bytes.length > 0; i++) bytes[random.below(bytes.length)] = random.below(256);
    const read = new EffectReader().read(bytes);
    if (typeof read !== "object") continue;
    accepted++;
    assert.equal(listed(read).length, read.count, `seed ${seed}, round ${round}`);
  }
  assert.ok(accepted > 1_000, "records without a flip, or with one in a value, are accepted");
});

test("a batch refuses what is beyond the limits, and takes what is at them", () => {
  const batch = new EffectBatch();
  const key = new Uint8Array(storeLimits.keyBytesMax - 2);
  batch.put(65_535, key, 15, new Uint8Array(storeLimits.valueBytesMax), 2 ** 48 - 1, 2 ** 48 - 1);
  assert.equal(batch.count, 1);
  const refused: (() => void)[] = [
    () => batch.put(0, new Uint8Array(key.length + 1), 1, key, 0, 0),
    () => batch.put(0, key, 1, new Uint8Array(storeLimits.valueBytesMax + 1), 0, 0),
    () => batch.put(65_536, key, 1, key, 0, 0),
    () => batch.put(0, key, 0, key, 0, 0),
    () => batch.put(0, key, 16, key, 0, 0),
    () => batch.put(0, key, 1, key, 2 ** 48, 0),
    () => batch.delete(0, key, -1),
    () => {
      for (;;) batch.put(0, key, 1, new Uint8Array(100_000), 0, 0);
    },
  ];
  for (const attempt of refused) assert.throws(attempt, { code: "invalid" });
  assert.ok(batch.bytes <= storeLimits.batchBytesMax);
  const { count } = batch;
  assert.ok(typeof new EffectReader().read(recordOf(batch.entries, count, 0, 1, 1)) === "object");
});
