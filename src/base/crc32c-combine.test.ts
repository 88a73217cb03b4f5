// Joined checksums are those of the joined bytes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "./crc32c.ts";
import { combineCrc32c } from "./crc32c-combine.ts";
import { Prng } from "./prng.ts";

test("the checksum of two pieces joined is that of the whole, for every cut", () => {
  const prng = new Prng("combine");
  const bytes = Uint8Array.from({ length: 5_000 }, () => prng.below(256));
  const whole = crc32c(bytes);
  for (const cut of [0, 1, 2, 3, 7, 8, 9, 64, 255, 256, 257, 4_095, 4_096, 4_097, 4_999, 5_000]) {
    assert.equal(combineCrc32c(crc32c(bytes, 0, 0, cut), crc32c(bytes, 0, cut), bytes.length - cut), whole, `cut at ${cut}`);
  }
});
