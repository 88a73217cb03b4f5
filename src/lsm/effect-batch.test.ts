// Guards that an effect put from a range of bytes is the effect put from its key and value.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { EffectBatch } from "./effect-batch.ts";
import { storeLimits } from "./store.ts";

test("an effect put from a range is the same bytes, also when the batch grows by it", () => {
  const [key, kind, expiryMs, timeMs] = ["item-1", 8, 1_700_000_900_000, 1_700_000_000_000];
  for (const valueBytes of [0, 1, 31, 32, 33, 300, 8_192, 100_000]) {
    const bytes = Buffer.from(`before${key}${"v".repeat(valueBytes)}behind`);
    const [keyAt, valueAt] = [6, 6 + key.length];
    const end = valueAt + valueBytes;
    const [whole, ranged] = [new EffectBatch(), new EffectBatch()];
    for (let times = 0; times < 3; times += 1) {
      whole.put(513, bytes.subarray(keyAt, valueAt), kind, bytes.subarray(valueAt, end), expiryMs, timeMs);
      ranged.putRange(513, bytes, keyAt, valueAt, end, kind, expiryMs, timeMs);
    }
    assert.deepEqual([...ranged.entries], [...whole.entries]);
    assert.equal(ranged.count, 3);
  }
});

test("a range beyond a limit is refused and leaves the batch as it was", () => {
  const effects = new EffectBatch();
  const bytes = new Uint8Array(storeLimits.valueBytesMax + 10);
  const isInvalid = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "invalid";
  assert.throws(() => effects.putRange(1, bytes, 0, 1, storeLimits.valueBytesMax + 2, 8, 0, 0), isInvalid);
  assert.throws(() => effects.putRange(1, bytes, 0, storeLimits.keyBytesMax + 1, storeLimits.keyBytesMax + 2, 8, 0, 0), isInvalid);
  assert.throws(() => effects.putRange(1, bytes, 0, 1, 2, 0, 0, 0), isInvalid);
  assert.deepEqual([effects.count, effects.bytes], [0, 0]);
});
