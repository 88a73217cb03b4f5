// Guards the bytes of VSEARCH and VADDS: what is written is read again, the golden bytes of docs/format/vector-answer.md, and that no bytes from outside are believed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { MillraceError } from "#base/errors";
import { decodeAnswer, decodeTexts, encodeAnswer, encodeTexts } from "./vector-api.ts";

const seed = Number(process.env["SEED"] ?? 1);
const answer = {
  version: "v1",
  from: Uint32Array.of(0, 2, 2, 3),
  elements: ["a", "bcd", "ä"],
  scores: Float32Array.of(1, 0.5, -0.25),
  attributes: [undefined, '{"x":1}', undefined],
};

test("promise: the bytes of an answer are those of docs/format/vector-answer.md", () => {
  const bytes = encodeAnswer("ip", { ...answer, elements: ["a", "bcd", "e"], attributes: [undefined, "{}", undefined] });
  assert.equal(
    Buffer.from(bytes).toString("hex"),
    "56535231" +
      "01" +
      "01" +
      "0200" +
      "03000000" +
      "03000000" +
      "1c000000" +
      "18000000" +
      "00000000020000000200000003000000" +
      "0000803f0000003f000080be" +
      "03000000" +
      "00000000010000000400000005000000" +
      "6162636465000000" +
      "03000000" +
      "00000000000000000200000002000000" +
      "7b7d0000" +
      "76310000",
  );
});

test("answers and texts are read as they were written", () => {
  for (const metric of ["cosine", "ip", "l2"] as const) {
    for (const given of [answer, { version: "", from: Uint32Array.of(0, 0), elements: [], scores: new Float32Array(0) }]) {
      const bytes = encodeAnswer(metric, given);
      assert.equal(bytes.length % 4, 0);
      assert.deepEqual(decodeAnswer(bytes), { metric, ...given });
      // Not aligned.
      const shifted = new Uint8Array(bytes.length + 1);
      shifted.set(bytes, 1);
      assert.deepEqual(decodeAnswer(shifted.subarray(1)), { metric, ...given });
      // A Buffer's slice is no copy.
      assert.deepEqual(decodeAnswer(Buffer.from(shifted.buffer, 1)), { metric, ...given });
    }
  }
  for (const texts of [[], [""], ["a", "", "bc"], ["ä", "€uro", "😀"], ["x".repeat(1_000)], ["\ufeffmark"]])
    assert.deepEqual(decodeTexts(encodeTexts(texts), "texts", 10), texts);
});

test(`bytes that were changed are an answer or an error, never a defect, seed ${seed}`, () => {
  const prng = new Prng(seed);
  const whole = encodeAnswer("cosine", answer);
  const refused = (read: () => unknown): void => {
    try {
      read();
    } catch (thrown) {
      assert.ok(thrown instanceof MillraceError, String(thrown));
    }
  };
  for (let round = 0; round < 3_000; round++) {
    const bytes = prng.chance(0.2) ? whole.slice(0, prng.below(whole.length)) : whole.slice();
    for (let i = prng.below(4); i >= 0 && bytes.length > 0; i--) bytes[prng.below(bytes.length)] = prng.chance(0.3) ? 255 : prng.below(256);
    refused(() => decodeAnswer(bytes));
    refused(() => decodeTexts(bytes.subarray(Math.min(bytes.length, 52)), "texts", 100));
  }
  for (const bad of [new Uint8Array(7), Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 97), encodeTexts(["a", "b"]).subarray(0, 12)]) {
    assert.throws(() => decodeTexts(bad, "texts", 10), { code: "invalid" });
  }
  assert.throws(() => decodeTexts(encodeTexts(["a", "b"]), "texts", 1), { code: "invalid", message: /2 texts, more than 1/ });
  assert.throws(() => decodeTexts(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 255), "texts", 1), { code: "invalid", message: /UTF-8/ });
});
