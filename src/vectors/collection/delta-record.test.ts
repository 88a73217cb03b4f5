// Records of the delta log: golden bytes, refusals, damaged bytes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { type DeltaRecord, readDelta, writeAttributes, writeNothing, writeRemove, writeUpsert } from "./delta-record.ts";

const write = (record: DeltaRecord): Uint8Array => {
  const writer = new ByteWriter(16);
  if (record.kind === "upsert") writeUpsert(writer, record.element, record.vector, 0, record.vector.length, record.attributes);
  else if (record.kind === "remove") writeRemove(writer, record.element);
  else if (record.kind === "nothing") writeNothing(writer);
  else writeAttributes(writer, record.element, record.attributes);
  return writer.since(0).slice();
};
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("golden bytes of each kind (docs/format/vector-record.md)", () => {
  const golden: [DeltaRecord, string][] = [
    [{ kind: "upsert", element: "a1", vector: Float32Array.of(1, -2), attributes: undefined }, "0101026131" + "00" + "08" + "0000803f" + "000000c0"],
    [{ kind: "upsert", element: "é", vector: Float32Array.of(0.5), attributes: '{"x":1}' }, "010102c3a9" + "01" + "077b2278223a317d" + "04" + "0000003f"],
    [{ kind: "upsert", element: "b", vector: Float32Array.of(0), attributes: "" }, "01010162" + "0100" + "0400000000"],
    [{ kind: "remove", element: "a1" }, "0201026131"],
    [{ kind: "attributes", element: "a1", attributes: "{}" }, "0301026131027b7d"],
    [{ kind: "nothing" }, "0401"],
  ];
  for (const [record, bytes] of golden) {
    assert.equal(hex(write(record)), bytes);
    const dims = record.kind === "upsert" ? record.vector.length : 3;
    assert.deepEqual(readDelta(Buffer.from(bytes, "hex"), dims), record);
  }
});

test("a part of a larger array is written alone", () => {
  const writer = new ByteWriter();
  writeUpsert(writer, "x", Float32Array.of(1, 2, 3, 4, 5, 6), 2, 2, undefined);
  const record = readDelta(writer.since(0), 2);
  assert.deepEqual(record, { kind: "upsert", element: "x", vector: Float32Array.of(3, 4), attributes: undefined });
});

test("what is no record is refused: unknown kinds, later versions, wrong sizes, numbers that are not finite", () => {
  const refused = (bytes: string, code: string, dims = 1): void =>
    void assert.throws(
      () => readDelta(Buffer.from(bytes, "hex"), dims),
      (thrown) => thrown instanceof MillraceError && thrown.code === code,
      bytes,
    );
  refused("0501026131", "unsupported");
  refused("040100", "corrupt");
  refused("0202026131", "unsupported");
  refused("0201", "corrupt");
  refused("020100", "corrupt");
  refused("020102613100", "corrupt");
  refused("01010161000800000000" + "00000000", "corrupt", 1);
  refused("0101016102" + "0400000000", "corrupt");
  refused("0101016100" + "040000c07f", "corrupt");
  refused("0101016100" + "040000807f", "corrupt");
  refused("0301016102" + "ff", "corrupt");
});

test("fuzz: damaged records throw a MillraceError or read as a record", () => {
  const seed = freshSeed();
  const prng = new Prng(seed);
  for (let round = 0; round < 20_000; round++) {
    const dims = 1 + prng.below(9);
    const kind = prng.below(3);
    const record: DeltaRecord =
      kind === 0
        ? { kind: "upsert", element: `e${prng.below(1000)}`, vector: Float32Array.from({ length: dims }, () => prng.float() - 0.5), attributes: "{}" }
        : kind === 1
          ? { kind: "remove", element: "x".repeat(1 + prng.below(200)) }
          : { kind: "attributes", element: "é€", attributes: '{"a":[1,2]}' };
    const bytes = write(record);
    assert.deepEqual(readDelta(bytes, dims), record);
    const damaged = bytes.slice(0, prng.below(3) === 0 ? prng.below(bytes.length) : bytes.length);
    for (let flips = prng.below(4); flips > 0 && damaged.length > 0; flips--) damaged[prng.below(damaged.length)]! ^= 1 << prng.below(8);
    try {
      readDelta(damaged, dims);
    } catch (thrown) {
      assert.ok(
        thrown instanceof MillraceError && (thrown.code === "corrupt" || thrown.code === "unsupported"),
        `SEED=${seed} round ${round}: ${String(thrown)}`,
      );
    }
  }
});
