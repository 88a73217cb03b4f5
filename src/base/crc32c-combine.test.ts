// Joined checksums are those of the joined bytes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "./crc32c.ts";
import { combineCrc32c, combineEqualCrc32c } from "./crc32c-combine.ts";
import { Prng } from "./prng.ts";

test("the checksum of two pieces joined is that of the whole, for every cut", () => {
  const prng = new Prng("combine");
  const bytes = Uint8Array.from({ length: 5_000 }, () => prng.below(256));
  const whole = crc32c(bytes);
  for (const cut of [0, 1, 2, 3, 7, 8, 9, 64, 255, 256, 257, 4_095, 4_096, 4_097, 4_999, 5_000]) {
    assert.equal(combineCrc32c(crc32c(bytes, 0, 0, cut), crc32c(bytes, 0, cut), bytes.length - cut), whole, `cut at ${cut}`);
  }
});

test("the checksum of many pieces of one length joined is that of the whole", () => {
  const prng = new Prng("combine many");
  const bytes = Uint8Array.from({ length: 40_007 }, () => prng.below(256));
  for (const pieceBytes of [1, 64, 4_096, 10_000]) {
    const pieces = Math.min(300, Math.floor((bytes.length - 7) / pieceBytes));
    const sums = Uint32Array.from({ length: pieces + 1 }, (_, i) => (i === 0 ? 5 : crc32c(bytes, 0, 7 + (i - 1) * pieceBytes, 7 + i * pieceBytes)));
    const first = crc32c(bytes, 0, 0, 7);
    assert.equal(combineEqualCrc32c(first, sums, 1, pieces + 1, pieceBytes), crc32c(bytes, 0, 0, 7 + pieces * pieceBytes), `pieces of ${pieceBytes}`);
    assert.equal(combineEqualCrc32c(first, sums, 1, 1, pieceBytes), first, "none");
  }
});
