// Guards the bytes of records of variable length: what is written is read, and what does not fit is refused at its very byte.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteReader } from "./byte-reader.ts";
import { ByteWriter } from "./byte-writer.ts";
import { MillraceError } from "./errors.ts";

const isCorrupt = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "corrupt" && thrown.todo === "todo";
const reader = (bytes: Uint8Array): ByteReader => new ByteReader(bytes, "test", "todo");

test("fields are read back, and no prefix of them is enough", () => {
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(0xffffffff),
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      fc.float(),
      fc.double(),
      fc.oneof(fc.nat(300), fc.nat(0xffffffff)),
      fc.oneof(fc.string(), fc.string({ unit: "grapheme", maxLength: 200 }), fc.constant("x".repeat(128))),
      fc.uint8Array({ maxLength: 200 }),
      (u8, u32, i32, f32, f64, varint, text, block) => {
        const out = new ByteWriter(1);
        out.u8(7);
        const from = out.length;
        out.u8(u8);
        out.u32(u32);
        out.i32(i32);
        out.f32(f32);
        out.f64(f64);
        out.varint(varint);
        out.string(text);
        out.block(block);
        const bytes = out.since(from);
        const read = (given: Uint8Array): unknown[] => {
          const one = reader(given);
          const fields = [one.u8(), one.u32(), one.i32(), one.f32(), one.f64(), one.varint(), one.string(), one.block()];
          one.end();
          return fields;
        };
        assert.deepEqual(read(bytes), [u8, u32, i32, f32, f64, varint, text.toWellFormed(), block]);
        for (let length = 0; length < bytes.length; length += 1) assert.throws(() => read(bytes.subarray(0, length)), isCorrupt);
        assert.throws(() => read(Uint8Array.of(...bytes, 0)), isCorrupt);
      },
    ),
    { numRuns: 60 },
  );
});

test("a varint of more than 32 bits, text that is not UTF-8 and JSON that is no object are corrupt", () => {
  assert.equal(reader(Uint8Array.of(255, 255, 255, 255, 15)).varint(), 0xffffffff);
  assert.throws(() => reader(Uint8Array.of(255, 255, 255, 255, 16)).varint(), isCorrupt);
  assert.throws(() => reader(Uint8Array.of(128, 128, 128, 128, 128, 0)).varint(), isCorrupt);
  assert.throws(() => reader(Uint8Array.of(1, 255)).string(), isCorrupt);
  for (const text of ["[]", "null", "7", "{", ""]) {
    const out = new ByteWriter();
    out.string(text);
    assert.throws(() => reader(out.since(0)).object(), isCorrupt, text);
  }
});
