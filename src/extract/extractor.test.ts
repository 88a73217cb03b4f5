// Guards the extractor: slots come from bytes alone, serving and training get the same ones bit for bit, parts join to the whole, damaged bytes are refused,
// and a declaration that cannot work is refused with its reason.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { MillraceError } from "#base/errors";
import { decodeRecord, RecordWriter } from "#features/activity-record";
import { freshSeed } from "#platform/fresh-seed";
import { decodeAnswerFeatures, encodeAnswerFeatures } from "./answer-features.ts";
import { Extractor, type ExtractorDeclaration, featureLimits, type FieldDeclaration, type RawValue } from "./extractor.ts";
import { SlotRows } from "./slot-rows.ts";

const declaration: ExtractorDeclaration = {
  fields: [
    { name: "counting", from: "signal.counting", kind: "linear", initial: 1 },
    { name: "user", from: "user.id", kind: "id" },
    { name: "country", from: "user.attributes.country", kind: "id", linearOnly: true },
    { name: "age", from: "user.attributes.age", kind: "bucket", bounds: [18, 25, 40, 60] },
    { name: "recent", from: "user.recent", kind: "ids", max: 5 },
    { name: "liked", from: "user.liked", kind: "ids", max: 8 },
    { name: "hour", from: "context.hour", kind: "bucket", bounds: [6, 12, 18], linearOnly: true },
    { name: "position", from: "context.position", kind: "bucket", bounds: [1, 2, 5, 10], linearOnly: true },
    { name: "item", from: "item.id", kind: "id" },
    { name: "category", from: "item.category", kind: "id" },
    { name: "tags", from: "item.tags", kind: "ids", max: 4 },
    { name: "price", from: "item.attributes.price", kind: "linear" },
    { name: "age-minutes", from: "signal.ageMinutes", kind: "bucket", bounds: [1, 10, 60], linearOnly: true },
    { name: "again", from: "signal.again", kind: "bucket", bounds: [-1, 0, 1] },
    { name: "again-linear", from: "signal.again", kind: "linear" },
  ],
  crosses: [
    { name: "user-category", cross: ["user", "category"] },
    { name: "recent-tags", cross: ["recent", "tags"] },
    { name: "hour-category", cross: ["hour", "category"] },
    { name: "liked-age", cross: ["liked", "age-minutes"] },
  ],
};

const text = fc.oneof(
  { arbitrary: fc.string({ maxLength: 12 }), weight: 4 },
  { arbitrary: fc.constantFrom("a", "b", "music", "röom-7"), weight: 4 },
  { arbitrary: fc.string({ unit: "grapheme", maxLength: 30 }), weight: 1 },
  { arbitrary: fc.constantFrom("x".repeat(127), "x".repeat(128), "é".repeat(featureLimits.valueCharactersMax), "x".repeat(2_000)), weight: 1 },
);
const number = fc.oneof(fc.double({ min: -100, max: 100, noNaN: true }), fc.double(), fc.constantFrom(0, Number.NaN, Number.POSITIVE_INFINITY, 1e30));
const weighted = fc
  .array(fc.tuple(text, number), { maxLength: 10 })
  .map((pairs) => ({ values: pairs.map(([one]) => one), weights: pairs.map(([, one]) => one) }));

function valueOf(field: FieldDeclaration): fc.Arbitrary<RawValue> {
  const fitting = field.kind === "id" ? text : field.kind === "ids" ? fc.oneof(fc.array(text, { maxLength: 8 }), weighted) : number;
  return fc.oneof({ arbitrary: fitting, weight: 8 }, { arbitrary: fc.oneof(text, number, weighted, fc.constant(undefined)), weight: 1 });
}

const extractor = Extractor.compile(declaration);
const userValues = fc.tuple(...extractor.userFields.map(valueOf));
const itemValues = fc.tuple(...extractor.itemFields.map(valueOf));
const signals = fc.array(number, { minLength: extractor.signalNames.length, maxLength: extractor.signalNames.length });
const place = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.constant(Number.NaN));

/** Slots of a row as text, bit for bit, in order. */
function slotsOf(rows: SlotRows, row: number): string[] {
  const slots: string[] = [];
  const bits = new Uint32Array(rows.weights.buffer);
  for (let at = rows.offsets[row]!; at < rows.offsets[row + 1]!; at += 1) {
    slots.push(`${at < rows.linearEnds[row]! ? "linear" : "full"} ${rows.keys[2 * at]} ${rows.keys[2 * at + 1]} ${bits[at]}`);
  }
  return slots;
}

/** The row as a scorer gets it: user part and candidate part, the candidate's document extracted earlier and copied. */
function servedRow(user: Uint8Array, position: number, item: Uint8Array, given: Float32Array): { user: string[]; candidate: string[] } {
  const rows = new SlotRows(1, 1);
  const [userCross, itemCross] = [extractor.userCrossValues(), extractor.itemCrossValues()];
  extractor.userSlots(user, position, rows, userCross);
  const cached = new SlotRows(1, 1);
  extractor.itemSlots(item, cached, itemCross);
  rows.copyRow(cached, 0);
  extractor.addSignals(given, 0, rows);
  extractor.addCrosses(userCross, itemCross.ends, 0, itemCross.keys, itemCross.weights, 0, given, 0, rows);
  rows.endRow();
  return { user: slotsOf(rows, 0), candidate: slotsOf(rows, 1) };
}

test("promise: what was learned from is bit for bit what was served", () => {
  fc.assert(
    fc.property(userValues, fc.array(fc.tuple(itemValues, signals), { minLength: 1, maxLength: 6 }), (user, items) => {
      // Serving: values to bytes, bytes to slots, and the answer into the log.
      const userBytes = extractor.encodeUser(user);
      const itemBytes = items.map(([values]) => extractor.encodeItem(values));
      const columns = Float32Array.from(items.flatMap(([, given]) => given));
      const features = encodeAnswerFeatures({
        extractorId: extractor.id,
        user: userBytes,
        items: itemBytes,
        signalCount: extractor.signalNames.length,
        signals: columns,
        servedLogits: new Float32Array(items.length),
        countingLogits: new Float32Array(items.length),
      })!;
      const record = new RecordWriter(64).encode({
        kind: "served",
        atMs: 1,
        recommendationId: "r",
        pipeline: "home",
        user: "ann",
        items: items.map((_, index) => `i${index}`),
        features,
      });
      // Training, elsewhere: a compiler of its own, bytes of the log at an odd place.
      const chunk = new Uint8Array(record.length + 3);
      chunk.set(record, 3);
      const trained = decodeRecord(chunk.subarray(3));
      assert.ok(trained.kind === "served");
      const logged = decodeAnswerFeatures(trained.features!);
      const other = Extractor.compile(structuredClone(declaration));
      assert.equal(logged.extractorId, other.id);
      const rows = new SlotRows(1, 1);
      logged.items.forEach((item, position) => other.sampleSlots(logged.user, position, item.item, item.signals, rows));
      items.forEach((_, at) => {
        const count = extractor.signalNames.length;
        const served = servedRow(userBytes, at, itemBytes[at]!, columns.subarray(at * count, (at + 1) * count));
        assert.deepEqual(slotsOf(rows, at).sort(), [...served.user, ...served.candidate].sort());
      });
    }),
    { numRuns: 300 },
  );
});

test("a row stays within the declared bounds, has finite numbers and no key twice", () => {
  fc.assert(
    fc.property(userValues, itemValues, signals, place, (user, item, given, position) => {
      const rows = new SlotRows();
      const [userBytes, itemBytes] = [extractor.encodeUser(user), extractor.encodeItem(item)];
      extractor.userSlots(userBytes, position, rows);
      extractor.itemSlots(itemBytes, rows);
      extractor.sampleSlots(userBytes, position, itemBytes, Float32Array.from(given), rows);
      const counts = [0, 1, 2].map((row) => rows.offsets[row + 1]! - rows.offsets[row]!);
      assert.ok(counts[0]! <= extractor.userSlotsMax && counts[1]! <= extractor.itemSlotsMax);
      assert.ok(counts[2]! <= extractor.userSlotsMax + extractor.candidateSlotsMax);
      assert.equal(new Set(slotsOf(rows, 2).map((slot) => slot.split(" ").slice(1, 3).join())).size, counts[2]);
      assert.ok(rows.weights.subarray(0, rows.slots).every((x) => Number.isFinite(x) && Math.abs(x) <= featureLimits.numberMax * featureLimits.valuesMax));
    }),
  );
});

function rowOf(user: readonly RawValue[], item: readonly RawValue[], given: readonly number[], position = 0): string[] {
  const rows = new SlotRows();
  extractor.sampleSlots(extractor.encodeUser(user), position, extractor.encodeItem(item), Float32Array.from(given), rows);
  return slotsOf(rows, 0);
}

const nobody: readonly RawValue[] = extractor.userFields.map(() => undefined);
const nothing: readonly RawValue[] = extractor.itemFields.map(() => undefined);
const unknown = [Number.NaN, Number.NaN, Number.NaN];

test("what is missing gives no slot: only the bias is left", () => {
  assert.equal(rowOf(nobody, nothing, unknown, Number.NaN).length, 1);
  assert.equal(rowOf(nobody, nothing, [0, Number.NaN, Number.NaN], Number.NaN).length, 1, "a linear 0 adds nothing");
  assert.equal(rowOf(nobody, nothing, unknown, 0).length, 2, "the place");
});

test("values of equal weight share the length 1, values that come twice are one slot, of many the first count", () => {
  const recent = extractor.userFields.findIndex(({ name }) => name === "recent");
  const weightsOf = (value: RawValue): number[] => {
    const rows = new SlotRows();
    extractor.userSlots(extractor.encodeUser(nobody.with(recent, value)), Number.NaN, rows);
    return [...rows.weights.subarray(1, rows.slots)];
  };
  assert.deepEqual(weightsOf(["a", "b", "c", "d"]), [0.5, 0.5, 0.5, 0.5]);
  assert.deepEqual(weightsOf(["a", "b", "a", "d"]), [1, 0.5, 0.5]);
  assert.deepEqual(weightsOf({ values: ["a", "", "b", "c"], weights: [3, 9, 0, -0.25] }), [3, -0.25]);
  assert.deepEqual(weightsOf({ values: ["a", "b", "a"], weights: [3, 1, 0.5] }), [3.5, 1]);
  assert.deepEqual(weightsOf({ values: [..."abcdefgh"], weights: [1, 2, 3, 4, 5, 6, 7, 8] }), [1, 2, 3, 4, 5]);
  assert.deepEqual(weightsOf("alone"), [1]);
});

test("a value falls into the bucket of its bound, also where the bound is no 32-bit float", () => {
  const buckets = Extractor.compile({ fields: [{ name: "n", from: "item.attributes.n", kind: "bucket", bounds: [0.1, 0.7, 5] }] });
  const keyOf = (value: number): string | undefined => {
    const rows = new SlotRows();
    buckets.itemSlots(buckets.encodeItem([value]), rows);
    return rows.slots === 0 ? undefined : `${rows.keys[0]} ${rows.keys[1]}`;
  };
  const keys = [-1, 0.1, 0.7, 5].map(keyOf);
  assert.equal(new Set(keys).size, 4);
  assert.deepEqual([-1e9, 0.1, 0.69, 0.7, 4.9, 5, 1e30].map(keyOf), [keys[0], keys[1], keys[1], keys[2], keys[2], keys[3], keys[3]]);
  assert.equal(keyOf(Number.NaN), undefined);
});

test("the same text in another field, and another pair of a cross, has another key", () => {
  const sample = (country: string, category: string): Set<string> => {
    const values = nobody.with(0, "same").with(1, country);
    return new Set(rowOf(values, nothing.with(0, "same").with(1, category), unknown).map((slot) => slot.split(" ").slice(1, 3).join()));
  };
  const first = sample("same", "same");
  // bias, user, country, place, item, category, user-category.
  assert.equal(first.size, 7);
  assert.equal(new Set([...first, ...sample("same", "other")]).size, 9, "another category and another pair");
});

test("initial weights name the linear fields that begin with one", () => {
  const { keys, weights } = extractor.initialWeights();
  assert.deepEqual([...weights], [1]);
  const rows = new SlotRows();
  extractor.addSignals(Float32Array.of(2.5, Number.NaN, Number.NaN), 0, rows);
  rows.endRow();
  assert.deepEqual([...rows.keys.subarray(0, 2)], [...keys]);
  assert.equal(rows.weights[0], 2.5);
});

test("an initial bias is the weight of the slot that every row has, and no part of the id", () => {
  const biased = Extractor.compile({ ...declaration, initialBias: -5 });
  assert.equal(biased.id, extractor.id);
  const { keys, weights } = biased.initialWeights();
  assert.deepEqual([...weights], [-5, 1]);
  const bare = Extractor.compile({ fields: [{ name: "user", from: "user.id", kind: "id" }] });
  const rows = new SlotRows();
  bare.userSlots(bare.encodeUser([undefined]), Number.NaN, rows);
  assert.deepEqual([...rows.keys.subarray(0, 2)], [...keys.subarray(0, 2)]);
});

test("fuzz: cut, changed, grown and random bytes are corrupt or read as some values, and leave no row behind", () => {
  const seed = freshSeed();
  const isRefusal = (thrown: unknown): boolean => thrown instanceof MillraceError && (thrown.code === "corrupt" || thrown.code === "unsupported");
  fc.assert(
    fc.property(userValues, itemValues, fc.nat(), fc.nat(255), fc.uint8Array({ maxLength: 200 }), (user, item, where, byte, noise) => {
      const userBytes = extractor.encodeUser(user);
      const itemBytes = extractor.encodeItem(item);
      const answer = encodeAnswerFeatures({
        extractorId: 1,
        user: userBytes,
        items: [itemBytes, itemBytes],
        signalCount: 1,
        signals: new Float32Array(2),
        servedLogits: new Float32Array(2),
        countingLogits: new Float32Array(2),
      })!;
      const rows = new SlotRows();
      const readers: [Uint8Array, (bytes: Uint8Array) => unknown][] = [
        [userBytes, (bytes) => extractor.userSlots(bytes, 0, rows)],
        [itemBytes, (bytes) => extractor.itemSlots(bytes, rows)],
        [itemBytes, (bytes) => extractor.sampleSlots(userBytes, 0, bytes, new Float32Array(3), rows)],
        [answer, (bytes) => decodeAnswerFeatures(bytes).items.map(({ signals: given }) => given)],
      ];
      for (const [bytes, read] of readers) {
        const at = where % bytes.length;
        const oversized = bytes.slice();
        oversized.fill(255, at, at + 6);
        for (const broken of [bytes.subarray(0, at), bytes.with(at, byte), oversized, noise, Uint8Array.of(...bytes, 0)]) {
          // Bytes behind the given ones must not be read: they are poison.
          const framed = new Uint8Array(broken.length + 64).fill(255);
          framed.set(broken, 7);
          const before = rows.rows;
          try {
            read(framed.subarray(7, 7 + broken.length));
            const slots = rows.weights.subarray(0, rows.slots);
            assert.ok(slots.every(Number.isFinite), `seed ${seed}`);
          } catch (thrown) {
            assert.ok(isRefusal(thrown), `seed ${seed}: ${String(thrown)}`);
            assert.equal(rows.rows, before);
            rows.endRow();
            assert.equal(rows.offsets[before + 1], rows.offsets[before], "the refused row left slots");
          }
        }
      }
    }),
    { seed, numRuns: 200 },
  );
});

test("a record that was cut anywhere is refused", () => {
  const bytes = extractor.encodeUser(["ann", "UK", 30, ["a", "b"], { values: ["x"], weights: [0.5] }, 12]);
  for (let length = 0; length < bytes.length; length += 1) {
    assert.throws(
      () => extractor.userSlots(bytes.subarray(0, length), 0, new SlotRows()),
      (thrown) => thrown instanceof MillraceError && thrown.code === "corrupt",
    );
  }
});

test("answers beyond the limits have no features", () => {
  const columns = (items: Uint8Array[]): Parameters<typeof encodeAnswerFeatures>[0] => ({
    extractorId: 1,
    user: new Uint8Array(0),
    items,
    signalCount: 0,
    signals: new Float32Array(0),
    servedLogits: new Float32Array(items.length),
    countingLogits: new Float32Array(items.length),
  });
  assert.equal(encodeAnswerFeatures(columns([new Uint8Array(featureLimits.answerBytesMax)])), undefined);
  assert.equal(encodeAnswerFeatures(columns(Array.from({ length: featureLimits.answerItemsMax + 1 }, () => new Uint8Array(0)))), undefined);
  const most = encodeAnswerFeatures(columns(Array.from({ length: featureLimits.answerItemsMax }, () => new Uint8Array(0))))!;
  assert.equal(decodeAnswerFeatures(most).items.length, featureLimits.answerItemsMax);
});

test("an extractor's id follows the declaration, not the weights that a model begins with", () => {
  const changed = (change: (fields: FieldDeclaration[]) => void): number => {
    const fields = declaration.fields.map((field) => ({ ...field }));
    change(fields);
    return Extractor.compile({ ...declaration, fields }).id;
  };
  assert.equal(
    changed(() => undefined),
    extractor.id,
  );
  assert.equal(
    changed((fields) => (fields[0] = { ...fields[0]!, initial: 2 })),
    extractor.id,
  );
  assert.notEqual(
    changed((fields) => (fields[4] = { ...fields[4]!, max: 6 })),
    extractor.id,
  );
  assert.notEqual(
    changed((fields) => fields.reverse()),
    extractor.id,
  );
  assert.notEqual(Extractor.compile({ fields: declaration.fields }).id, extractor.id);
});

test("a declaration that cannot work is refused, and the error names what and why", () => {
  const refused = (given: unknown, says: RegExp): void => {
    assert.throws(
      () => Extractor.compile(given as ExtractorDeclaration),
      (thrown) => thrown instanceof MillraceError && thrown.code === "invalid" && thrown.todo !== undefined && says.test(thrown.message),
      String(says),
    );
  };
  const field = (given: object): object => ({ fields: [{ name: "f", from: "item.id", kind: "id", ...given }] });
  refused({}, /fields/);
  refused({ fields: [] }, /0 fields/);
  refused({ fields: Array.from({ length: 65 }, (_, at) => ({ name: `f${at}`, from: "item.id", kind: "id" })) }, /65 fields/);
  refused(field({ name: "F" }), /name "F"/);
  refused({ fields: [declaration.fields[1], declaration.fields[1]] }, /"user" is declared twice/);
  refused(field({ from: "item.colour" }), /"f".*"item.colour".*item.category/);
  refused(field({ from: "user.attributes." }), /nothing to read/);
  refused(field({ from: 7 }), /nothing to read/);
  refused(field({ kind: "ids" }), /"f": kind "ids" of item.id.*can be id/);
  refused(field({ kind: "embedding" }), /embedding/);
  refused(field({ from: "signal.rate", kind: "id" }), /can be linear, bucket/);
  refused(field({ max: 3 }), /max of kind id/);
  refused(field({ from: "item.tags", kind: "ids", max: 0 }), /max 0/);
  refused(field({ from: "item.tags", kind: "ids", max: 257 }), /max 257/);
  refused(field({ bounds: [1] }), /bounds of kind id/);
  refused(field({ from: "signal.rate", kind: "bucket" }), /bucket without bounds/);
  refused(field({ from: "signal.rate", kind: "bucket", bounds: [1, 1] }), /bounds\[1\]/);
  refused(field({ from: "signal.rate", kind: "bucket", bounds: [1, 1 + 1e-12] }), /bounds\[1\]/);
  refused(field({ from: "signal.rate", kind: "bucket", bounds: [Number.NaN] }), /bounds\[0\]/);
  refused(field({ from: "signal.rate", kind: "linear", linearOnly: true }), /linearOnly/);
  refused(field({ initial: 1 }), /initial of kind id/);
  refused({ fields: declaration.fields, initialBias: Number.NaN }, /initialBias NaN/);
  refused(field({ from: "signal.rate", kind: "linear", initial: Number.POSITIVE_INFINITY }), /initial Infinity/);
  const crossed = (cross: unknown, name = "c"): object => ({ fields: declaration.fields, crosses: [{ name, cross }] });
  refused({ fields: declaration.fields, crosses: 7 }, /crosses/);
  refused(crossed(["user"]), /two names/);
  refused(crossed(["user", "nobody"]), /"nobody", which is not declared/);
  refused(crossed(["user", "price"]), /"price" is linear/);
  refused(crossed(["category", "user"]), /"category" is not of the user side/);
  refused(crossed(["position", "category"]), /position/);
  refused(crossed(["user", "recent"]), /"recent" is not of the item side/);
  refused(crossed(["user", "category"], "user"), /declared twice/);
  refused(
    {
      fields: [
        { name: "a", from: "user.recent", kind: "ids", max: 256 },
        { name: "b", from: "item.tags", kind: "ids", max: 16 },
      ],
      crosses: [{ name: "c", cross: ["a", "b"] }],
    },
    /4369 slots/,
  );
});

test("golden bytes and keys of version 1 stay what they are", () => {
  const hex = (bytes: Uint8Array): string => bytes.reduce((out, byte) => out + byte.toString(16).padStart(2, "0"), "");
  const user = extractor.encodeUser(["ann", "UK", 30, ["röom-7", "b"], { values: ["category=music"], weights: [0.5] }, 13]);
  const item = extractor.encodeItem(["röom-7", "music", ["late", "loud"], 12.5]);
  const given = Float32Array.of(-2.5, 7, Number.NaN);
  const features = encodeAnswerFeatures({
    extractorId: extractor.id,
    user,
    items: [item],
    signalCount: 3,
    signals: given,
    servedLogits: Float32Array.of(Number.NaN),
    countingLogits: Float32Array.of(-2.5),
  })!;
  const rows = new SlotRows();
  extractor.sampleSlots(user, 3, item, given, rows);
  const lines = [`id ${extractor.id}`, `user ${hex(user)}`, `item ${hex(item)}`, `answer ${hex(features)}`, ...slotsOf(rows, 0)];
  const path = new URL("../../test/golden/extract/v1.txt", import.meta.url);
  // To be run once, when a version is born: MILLRACE_WRITE_GOLDEN=extract-v1.
  if (process.env["MILLRACE_WRITE_GOLDEN"] === "extract-v1") writeFileSync(path, `${lines.join("\n")}\n`);
  const stored = readFileSync(path, "utf8").trimEnd().split("\n");
  assert.deepEqual(lines, stored);
  const answer = decodeAnswerFeatures(Uint8Array.from(stored[3]!.slice("answer ".length).match(/../g)!, (pair) => Number.parseInt(pair, 16)));
  assert.deepEqual([answer.user, answer.items[0]!.item, answer.items[0]!.signals], [new Uint8Array(user), new Uint8Array(item), given]);
  assert.ok(Number.isNaN(answer.items[0]!.servedLogit));
  assert.equal(answer.items[0]!.countingLogit, -2.5);
});
