import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { freshSeed } from "#platform/fresh-seed";
import { KeyBlobWriter } from "./key-blob.ts";
import { tableLimits } from "./table-limits.ts";

/** The blob as docs/tables.md has it, key by key. */
function expected(keys: readonly string[]): Buffer {
  const encoded = keys.map((key) => Buffer.from(key));
  const head = Buffer.alloc(4 * (keys.length + 2));
  head.writeUInt32LE(keys.length, 0);
  let bound = 0;
  encoded.forEach((key, i) => head.writeUInt32LE((bound += key.length), 8 + 4 * i));
  return Buffer.concat([head, ...encoded]);
}

test("a blob holds count, bounds and the UTF-8 of the keys, whatever the writer wrote before", () => {
  const writer = new KeyBlobWriter();
  const key = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.constantFrom("\ud83d", "\ude00", "item:000000000001", "x".repeat(3_000)));
  fc.assert(
    fc.property(fc.array(key, { maxLength: 40 }), (keys) => assert.ok(expected(keys).equals(writer.fill(keys)))),
    { seed: freshSeed(), numRuns: 100 },
  );
});

test("more keys than one read takes, and longer ones than a table has, are refused", () => {
  const most = Array.from({ length: tableLimits.readKeysMax }, (_, i) => `k${i}`);
  const writer = new KeyBlobWriter();
  assert.ok(expected(most).equals(writer.fill(most)));
  assert.throws(() => writer.fill([...most, "one more"]), { code: "invalid" });
  assert.throws(() => writer.fill(["a", "x".repeat(tableLimits.keyBytesMax + 1)]), { code: "invalid" });
});
