// The packed row of a small hash: its bytes, its way back, the search for fields, and what damage does to it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { decodeRow, FieldPlaces, findFields, type HashField, hashRowLimits, HashRowEncoder, keyExpiryOf, type WantedFields } from "./hash-row.ts";

const seed = freshSeed();
const rounds = process.env["MILLRACE_LONG"] === undefined ? 400 : 20_000;
const text = new TextEncoder();
const bytes = (name: string): Uint8Array => text.encode(name);
const hex = (row: Uint8Array): string => Buffer.from(row).toString("hex");
const field = (name: string, value: string, expiryMs = 0): HashField => ({ name: bytes(name), value: bytes(value), expiryMs });

function wantedOf(names: readonly Uint8Array[]): WantedFields {
  const buffer = new Uint8Array(names.reduce((sum, name) => sum + name.length, 0));
  const starts: number[] = [];
  let at = 0;
  for (const name of names) {
    starts.push(at);
    buffer.set(name, at);
    at += name.length;
  }
  return { buffer, count: names.length, start: (i) => starts[i]!, end: (i) => starts[i]! + names[i]!.length };
}

test("golden bytes of docs/format/hash-row.md", () => {
  const encoder = new HashRowEncoder();
  const plain = encoder.encode([field("ctr", "0.25"), field("n", "7")], 0)!;
  assert.equal(hex(plain.row), "0100020000030463747230" + "2e3235" + "0001016e37");
  assert.equal(plain.expiryMs, 0);
  // Two fields share an expiry, a third has its own; all expire before the key does, so the key's stands in the row.
  const timed = encoder.encode([field("a", "1", 1_000), field("b", "2", 1_000), field("c", "3", 2_000)], 5_000)!;
  assert.equal(hex(timed.row), "01070300" + "e80300000000" + "881300000000" + "0801016131" + "0801016232" + "040101d007000000006333");
  assert.equal(timed.expiryMs, 2_000);
  assert.equal(keyExpiryOf(timed.row, timed.expiryMs), 5_000);
});

test("a row beyond its limits is none", () => {
  const encoder = new HashRowEncoder();
  const many = Array.from({ length: hashRowLimits.fieldsMax }, (_, i) => field(`f${i}`, ""));
  assert.notEqual(encoder.encode(many, 0), undefined);
  assert.equal(encoder.encode([...many, field("one more", "")], 0), undefined);
  assert.notEqual(encoder.encode([field("f", "x".repeat(hashRowLimits.rowBytesMax - 40))], 0), undefined);
  assert.equal(encoder.encode([field("f", "x".repeat(hashRowLimits.rowBytesMax))], 0), undefined);
});

test(`random rows come back, and every field is found at its place (SEED=${seed}, ${rounds} rows)`, () => {
  const random = new Prng(seed);
  const encoder = new HashRowEncoder();
  const places = new FieldPlaces();
  const nowMs = 1_000_000;
  const expiries = [0, 0, 0, nowMs - 1, nowMs, nowMs + 1, nowMs + 500, 2 ** 48 - 1];
  const randomBytes = (most: number): Uint8Array => random.bytes(new Uint8Array(random.chance(0.05) ? random.below(700) : random.below(most)));
  for (let round = 0; round < rounds; round++) {
    const model = new Map<string, HashField>();
    for (let i = random.between(1, 30); i > 0; i--) {
      const name = randomBytes(3);
      const value = randomBytes(40);
      const expiryMs = random.pick(expiries);
      model.set(hex(name), { name, value, expiryMs });
    }
    const fields = [...model.values()];
    const keyExpiryMs = random.pick([0, nowMs + 100, nowMs + 10_000, 2 ** 48 - 1]);
    const encoded = encoder.encode(fields, keyExpiryMs);
    if (encoded === undefined) continue;
    const { row, expiryMs } = encoded;
    const live = fields.filter((one) => one.expiryMs === 0 || one.expiryMs > nowMs);
    // The entry is gone exactly when the key or all fields have expired.
    const last = fields.some((one) => one.expiryMs === 0) ? Infinity : Math.max(...fields.map((one) => one.expiryMs));
    assert.equal(expiryMs === 0 ? Infinity : expiryMs, Math.min(keyExpiryMs === 0 ? Infinity : keyExpiryMs, last));
    const decoded = decodeRow(row, expiryMs, nowMs);
    assert.equal(decoded.keyExpiryMs, keyExpiryMs);
    const shown = (list: readonly HashField[]): string[] => list.map((one) => `${hex(one.name)}=${hex(one.value)}@${one.expiryMs}`);
    assert.deepEqual(shown(decoded.fields), shown(live));

    const names = Array.from({ length: random.between(1, 12) }, () => (random.chance(0.7) ? random.pick(fields).name : randomBytes(3)));
    const memory = new Uint8Array(row.length + 13);
    memory.set(row, 7);
    findFields(memory, 7, row.length, wantedOf(names), 0, nowMs, places);
    for (const [i, name] of names.entries()) {
      const expected = live.find((one) => hex(one.name) === hex(name));
      const at = places.at[i]!;
      assert.equal(at === -1 ? undefined : hex(memory.subarray(at, at + places.bytes[i]!)), expected === undefined ? undefined : hex(expected.value));
    }
  }
});

test(`a damaged row is refused or read within its bounds, never a crash (SEED=${seed})`, () => {
  const random = new Prng(seed).fork("damage");
  const encoder = new HashRowEncoder();
  const places = new FieldPlaces();
  let refused = 0;
  for (let round = 0; round < rounds; round++) {
    const fields = Array.from({ length: random.between(1, 8) }, (_, i) => field(`f${i}`, "v".repeat(random.below(300)), random.pick([0, 0, 50, 60])));
    let row = encoder.encode(fields, random.pick([0, 70]))!.row.slice();
    if (random.chance(0.5)) row = row.subarray(0, random.below(row.length));
    else row[random.below(row.length)] = random.below(256);
    for (const read of [
      () => decodeRow(row, 0, 10),
      () => {
        findFields(row, 0, row.length, wantedOf([bytes("f1"), bytes("f7")]), 0, 10, places);
        for (const i of [0, 1]) assert.ok(places.at[i]! <= row.length && (places.at[i] === -1 || places.at[i]! + places.bytes[i]! <= row.length));
      },
    ]) {
      try {
        read();
      } catch (thrown) {
        assert.equal((thrown as { code?: string }).code, "corrupt");
        refused++;
      }
    }
  }
  assert.ok(refused > rounds / 4, "the damage was seen");
});

test(`promise: putting fields into a row byte by byte gives what decoding, setting and encoding gives (SEED=${process.env["SEED"] ?? "merge"})`, () => {
  const random = new Prng(process.env["SEED"] ?? "merge");
  const encoder = new HashRowEncoder();
  const plain = new HashRowEncoder();
  let merges = 0;
  for (let round = 0; round < 300; round++) {
    let row: Uint8Array | undefined;
    const model = new Map<string, string>();
    for (let step = 0; step < 12; step++) {
      const parts: string[] = [];
      for (let pair = 1 + random.below(6); pair > 0; pair--)
        parts.push(`f${random.below(12)}`, "v".repeat(random.chance(0.02) ? 300 : random.below(20)) + String(random.below(9)));
      const buffer = Buffer.from(parts.join(""));
      const starts = [0];
      for (const part of parts) starts.push(starts.at(-1)! + part.length);
      const args = { buffer, count: parts.length, start: (i: number) => starts[i]!, end: (i: number) => starts[i + 1]! };
      const merged = encoder.merge(row, args, 0);
      const names = parts.filter((_part, i) => i % 2 === 0);
      const simple = new Set(names).size === names.length && parts.every((part) => part.length <= 255);
      if (!simple) assert.equal(merged, undefined);
      const before = model.size;
      for (let i = 0; i < parts.length; i += 2) model.set(parts[i]!, parts[i + 1]!);
      const expected = plain.encode(
        Array.from(model, ([name, value]) => ({ name: Buffer.from(name), value: Buffer.from(value), expiryMs: 0 })),
        0,
      )!.row;
      if (merged !== undefined) {
        merges++;
        assert.equal(merged.added, model.size - before);
        assert.deepEqual(Buffer.from(merged.row), Buffer.from(expected));
      }
      row = expected.slice();
    }
  }
  assert.ok(merges > 1_000);
  // What has an expiry is for the plain way.
  const timed = plain.encode([{ name: Buffer.from("a"), value: Buffer.from("1"), expiryMs: 9_999 }], 0)!.row;
  const one = { buffer: Buffer.from("a2"), count: 2, start: (i: number) => i, end: (i: number) => i + 1 };
  assert.equal(encoder.merge(timed, one, 0), undefined);
  assert.throws(() => encoder.merge(expectedCut(plain), one, 0), { code: "corrupt" });
});

function expectedCut(encoder: HashRowEncoder): Uint8Array {
  return encoder.encode([{ name: Buffer.from("abc"), value: Buffer.from("123"), expiryMs: 0 }], 0)!.row.slice(0, -1);
}
