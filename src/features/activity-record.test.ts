// Guards the bytes of the activity log: what is written is read back, old bytes are read for ever, and bytes that nobody wrote are refused.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { MillraceError } from "#base/errors";
import { freshSeed } from "#platform/fresh-seed";
import { type ActivityRecord, decodeRecord, RecordWriter } from "./activity-record.ts";

const text = fc.oneof(fc.string({ maxLength: 40 }), fc.string({ unit: "grapheme", maxLength: 40 }), fc.constant("x".repeat(300)));
const time = fc.double({ min: 0, max: 8.64e15, noNaN: true });
const body = fc.record(
  { title: text, tags: fc.array(text, { maxLength: 3 }), attributes: fc.dictionary(text, fc.oneof(text, fc.boolean(), fc.integer())) },
  { requiredKeys: [] },
);

const anyRecord: fc.Arbitrary<ActivityRecord> = fc.oneof(
  fc.record({
    kind: fc.constant("event" as const),
    atMs: time,
    receivedMs: time,
    type: text,
    user: text,
    item: text,
    id: text,
    recommendationId: text,
    position: fc.integer({ min: -1, max: 100_000 }),
    // JSON, by which callers send it, has no infinities; NaN stands for none.
    value: fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.constant(Number.NaN)),
    context: text,
  }),
  fc.record({ kind: fc.constantFrom("itemPut" as const, "itemPatch" as const), atMs: time, id: text, body }) as fc.Arbitrary<ActivityRecord>,
  fc.record({
    kind: fc.constantFrom("userPut" as const, "userPatch" as const),
    atMs: time,
    id: text,
    body: fc.record({ attributes: fc.dictionary(text, text) }),
  }) as fc.Arbitrary<ActivityRecord>,
  fc.record({ kind: fc.constantFrom("itemDelete" as const, "userDelete" as const), atMs: time, id: text }) as fc.Arbitrary<ActivityRecord>,
  fc.record(
    {
      kind: fc.constant("served" as const),
      atMs: time,
      recommendationId: text,
      pipeline: text,
      user: text,
      items: fc.array(text, { maxLength: 30 }),
      features: fc.uint8Array({ maxLength: 300 }),
    },
    { requiredKeys: ["kind", "atMs", "recommendationId", "pipeline", "user", "items"] },
  ) as fc.Arbitrary<ActivityRecord>,
  fc.record({ kind: fc.constant("training" as const), atMs: time, on: fc.boolean(), reason: text }),
);

/** What JSON keeps of a body: lone surrogates and negative zero aside, all of it. */
const asWritten = (record: ActivityRecord): unknown => JSON.parse(JSON.stringify({ ...record, ...("value" in record ? { value: String(record.value) } : {}) }));

test("every record is read back as it was written", () => {
  fc.assert(
    fc.property(fc.array(anyRecord, { maxLength: 20 }), (records) => {
      const writer = new RecordWriter(64);
      const encoded = records.map((record) => writer.encode(record));
      const decoded = encoded.map((bytes) => decodeRecord(bytes));
      assert.deepEqual(decoded.map(asWritten), records.map(wellFormed).map(asWritten));
    }),
  );
});

/** UTF-8 has no lone surrogates: they become the replacement character, as everywhere in the web platform. */
function wellFormed(record: ActivityRecord): ActivityRecord {
  return JSON.parse(
    JSON.stringify(record, (_, value: unknown) => (typeof value === "string" ? value.toWellFormed() : value === undefined ? null : value)),
    (key, value: unknown) => (key === "value" && value === null ? Number.NaN : value),
  ) as ActivityRecord;
}

test("fuzz: cut, changed and random bytes are refused with a code or read as some record, never more", () => {
  const seed = freshSeed();
  fc.assert(
    fc.property(anyRecord, fc.nat(), fc.nat(255), fc.uint8Array({ maxLength: 60 }), (record, place, byte, noise) => {
      const bytes = new RecordWriter(64).encode(record).slice();
      for (const broken of [bytes.subarray(0, place % bytes.length), bytes.with(place % bytes.length, byte), noise, new Uint8Array([...bytes, 0])]) {
        try {
          decodeRecord(broken);
        } catch (thrown) {
          assert.ok(thrown instanceof MillraceError && (thrown.code === "corrupt" || thrown.code === "unsupported"), `seed ${seed}: ${String(thrown)}`);
        }
      }
    }),
    { seed, numRuns: 500 },
  );
});

test("a record that was cut anywhere is refused", () => {
  const served = { kind: "served", atMs: 5, recommendationId: "r-1", pipeline: "home", user: "ann", items: ["x", "y"] } as const;
  for (const record of [served, { ...served, features: Uint8Array.of(1, 2, 3) }, { kind: "training", atMs: 5, on: true, reason: "so" } as const]) {
    const bytes = new RecordWriter(64).encode(record);
    for (let length = 0; length < bytes.length; length += 1) assert.throws(() => decodeRecord(bytes.subarray(0, length)), MillraceError);
  }
});

test("features are read where they lie, without a copy", () => {
  const features = Uint8Array.from({ length: 200 }, (_, index) => index);
  const bytes = new RecordWriter(64)
    .encode({ kind: "served", atMs: 5, recommendationId: "r-1", pipeline: "home", user: "ann", items: ["x"], features })
    .slice();
  const record = decodeRecord(bytes);
  assert.ok(record.kind === "served" && record.features !== undefined);
  assert.deepEqual(record.features, features);
  assert.equal(record.features.buffer, bytes.buffer);
});

const golden: Record<"v1" | "v2", ActivityRecord[]> = {
  v1: [
    {
      kind: "event",
      atMs: 1_700_000_000_123,
      receivedMs: 1_700_000_000_456,
      type: "click",
      user: "ann",
      item: "röom-7",
      id: "e-1",
      recommendationId: "r-a-1",
      position: 3,
      value: 12.5,
      context: '{"device":"phone"}',
    },
    {
      kind: "itemPut",
      atMs: 1_700_000_000_000,
      id: "röom-7",
      body: { title: "Noodle night", category: "cooking", tags: ["late"], attributes: { viewers: 120 } },
    },
    { kind: "itemPatch", atMs: 1_700_000_000_001, id: "röom-7", body: { state: "dessert" } },
    { kind: "itemDelete", atMs: 1_700_000_000_002, id: "röom-7" },
    { kind: "userPut", atMs: 1_700_000_000_003, id: "ann", body: { attributes: { country: "UK" } } },
    { kind: "userPatch", atMs: 1_700_000_000_004, id: "ann", body: { attributes: { age: 30 } } },
    { kind: "userDelete", atMs: 1_700_000_000_005, id: "ann" },
    { kind: "served", atMs: 1_700_000_000_006, recommendationId: "r-a-1", pipeline: "home", user: "ann", items: ["röom-7", "b"] },
  ],
  // What version 2 added: features of an answer, the switch of training.
  v2: [
    {
      kind: "served",
      atMs: 1_700_000_000_007,
      recommendationId: "r-a-2",
      pipeline: "home",
      user: "ann",
      items: ["röom-7", "b"],
      features: Uint8Array.of(1, 0, 128, 255),
    },
    { kind: "training", atMs: 1_700_000_000_008, on: false, reason: "asked for" },
    { kind: "training", atMs: 1_700_000_000_009, on: true, reason: "" },
  ],
};

for (const version of ["v1", "v2"] as const) {
  test(`golden bytes of ${version} are read for ever`, () => {
    const path = new URL(`../../test/golden/activity/${version}.hex`, import.meta.url);
    const writer = new RecordWriter(64);
    const lines = golden[version].map((record) => writer.encode(record).reduce((hex, byte) => hex + byte.toString(16).padStart(2, "0"), ""));
    // To be run once, when a version is born: MILLRACE_WRITE_GOLDEN=v2.
    if (process.env["MILLRACE_WRITE_GOLDEN"] === version) writeFileSync(path, `${lines.join("\n")}\n`);
    const stored = readFileSync(path, "utf8").trimEnd().split("\n");
    assert.deepEqual(lines, stored, `today's writer gives other bytes than ${version}`);
    assert.deepEqual(
      stored.map((line) => decodeRecord(Uint8Array.from(line.match(/../g)!, (pair) => Number.parseInt(pair, 16)))),
      golden[version],
    );
  });
}

test("a record of a newer build is unsupported, not corrupt", () => {
  const bytes = new RecordWriter(64).encode({ kind: "itemDelete", atMs: 1, id: "x" });
  const isUnsupported = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "unsupported";
  assert.throws(() => decodeRecord(bytes.with(1, 2)), isUnsupported);
  assert.throws(() => decodeRecord(bytes.with(0, 99)), isUnsupported);
  const served = new RecordWriter(64).encode({ kind: "served", atMs: 1, recommendationId: "", pipeline: "", user: "", items: [], features: new Uint8Array(0) });
  assert.throws(() => decodeRecord(served.with(1, 3)), isUnsupported);
});
