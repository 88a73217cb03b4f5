// Bytes of a log segment: the golden file of every version is read for ever, and no bytes whatever give a record that was not written.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import fc from "fast-check";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import {
  claimName,
  decodeFrame,
  decodeSegmentHeader,
  encodeFrame,
  encodeSegmentHeader,
  frameBytesOf,
  type Frame,
  frameRecords,
  parseClaimName,
  parseSegmentName,
  segmentHeaderBytes,
  segmentName,
} from "./segment-format.ts";

const seed = freshSeed();

const golden = {
  name: { firstOffset: 7, epoch: 2, previousEpoch: 1 },
  partition: "demo",
  header: { firstOffset: 7, epoch: 2, salt: 0x5eed_cafe, createdMs: 1_704_067_200_000 },
  appends: [["click", "view"], [""]],
};

/** The segment of the golden file, by the encoder: header, an append of two records, one of an empty record, a mark. */
function goldenSegment(): Uint8Array {
  const parts = [encodeSegmentHeader(golden.partition, golden.header)];
  let { firstOffset } = golden.header;
  let position = segmentHeaderBytes;
  for (const append of [...golden.appends, []]) {
    const records = append.map((text) => new TextEncoder().encode(text));
    const recordBytes = records.reduce((sum, record) => sum + record.length, 0);
    const bytes = new Uint8Array(frameBytesOf(records.length, recordBytes));
    encodeFrame(bytes, new DataView(bytes.buffer), 0, records, recordBytes, { firstOffset, epoch: 2, salt: golden.header.salt, syncedBytes: position });
    parts.push(bytes);
    position += bytes.length;
    firstOffset += records.length;
  }
  return new Uint8Array(Buffer.concat(parts));
}

test("the golden file of version 1 is written and read as ever", async () => {
  const path = new URL(`../../test/golden/log/v1/${segmentName(golden.name)}`, import.meta.url);
  const bytes = new Uint8Array(await readFile(path));
  assert.deepEqual(goldenSegment(), bytes);
  assert.deepEqual(decodeSegmentHeader(golden.partition, bytes), golden.header);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: string[][] = [];
  for (let at = segmentHeaderBytes; at < bytes.length;) {
    const frame = decodeFrame(bytes, view, at, bytes.length, golden.header) as Frame;
    const records: Uint8Array[] = [];
    frameRecords(bytes, view, at, frame, 0, records);
    found.push(records.map((record) => new TextDecoder().decode(record)));
    assert.equal(frame.syncedBytes, at);
    at = frame.end;
  }
  assert.deepEqual(found, [...golden.appends, []]);
});

test("the document shows these very bytes", async () => {
  const document = await readFile(new URL("../../docs/format/log-segment.md", import.meta.url), "utf8");
  const shown = [...document.matchAll(/^[0-9a-f]{4} {2}((?:[0-9a-f]{2} ?)+)/gm)].flatMap((match) => match[1]!.trim().split(/ +/));
  assert.equal(shown.join(""), Buffer.from(goldenSegment()).toString("hex"));
});

test("a header of another partition, version or with any flipped bit is none", () => {
  const bytes = encodeSegmentHeader("demo", golden.header);
  assert.equal(decodeSegmentHeader("other", bytes), undefined);
  for (let bit = 0; bit < 480; bit += 1) {
    const flipped = bytes.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(decodeSegmentHeader("demo", flipped), undefined, `bit ${bit}`);
  }
  assert.equal(decodeSegmentHeader("demo", bytes.subarray(0, 63)), undefined);
});

test("names come back as they were, and others are none", () => {
  for (const name of [
    golden.name,
    { firstOffset: 0, epoch: 1, previousEpoch: 0 },
    { firstOffset: Number.MAX_SAFE_INTEGER, epoch: 4_294_967_295, previousEpoch: 4_294_967_294 },
  ]) {
    assert.deepEqual(parseSegmentName(segmentName(name)), name);
  }
  assert.equal(parseClaimName(claimName(12)), 12);
  for (const name of ["", "x.seg", "0000000000000007-0000000002.seg", `${segmentName(golden.name)}.tmp`, claimName(3)])
    assert.equal(parseSegmentName(name), undefined);
  assert.equal(parseClaimName(segmentName(golden.name)), undefined);
});

test("fuzz: arbitrary and damaged bytes never throw and never give a record that was not written", (t) => {
  t.diagnostic(`seed ${seed}`);
  const random = new Prng(seed);
  const key = { epoch: 3, salt: 0x1234_5678 };
  for (let round = 0; round < 3_000; round += 1) {
    const records = Array.from({ length: random.below(6) }, () => random.bytes(new Uint8Array(random.below(60))));
    const recordBytes = records.reduce((sum, record) => sum + record.length, 0);
    const before = random.below(4) * 8;
    const bytes = random.bytes(new Uint8Array(before + frameBytesOf(records.length, recordBytes) + random.below(4) * 8));
    const view = new DataView(bytes.buffer);
    const end = encodeFrame(bytes, view, before, records, recordBytes, { ...key, firstOffset: random.below(1e9), syncedBytes: random.below(1e9) });
    const original = bytes.slice();
    const damage = random.below(5);
    if (damage === 1) bytes[before + random.below(end - before)]! ^= 1 << random.below(8);
    else if (damage === 2) random.bytes(bytes.subarray(before + random.below(end - before), end));
    else if (damage === 3) bytes.fill(0, before + random.below(end - before), end);
    else if (damage === 4) view.setUint32(before + random.pick([8, 12, 16, 24, 32]), random.u32(), true);
    const limit = random.chance(0.2) ? before + random.below(end - before) : bytes.length;
    for (let at = 0; at < bytes.length; at += 8) {
      const frame = decodeFrame(bytes, view, at, limit, key);
      if (frame === "damaged" || "short" in frame) continue;
      assert.equal(at, before);
      assert.ok(Buffer.from(bytes.subarray(at, frame.end)).equals(original.subarray(at, frame.end)), "only what was written decodes");
      const found: Uint8Array[] = [];
      frameRecords(bytes, view, at, frame, 0, found);
      assert.deepEqual(found, records);
    }
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(40), (bytes, at) => {
      const frame = decodeFrame(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), Math.min(at, bytes.length), bytes.length, key);
      assert.ok(frame === "damaged" || "short" in frame);
    }),
    { seed, numRuns: 2_000 },
  );
});

test("record bytes that are a frame of the same epoch, or of another segment, do not pass for one", () => {
  const inner = new Uint8Array(frameBytesOf(1, 5));
  encodeFrame(inner, new DataView(inner.buffer), 0, [new TextEncoder().encode("false")], 5, { firstOffset: 1, epoch: 3, salt: 1, syncedBytes: 1_000 });
  assert.equal(decodeFrame(inner, new DataView(inner.buffer), 0, inner.length, { epoch: 3, salt: 2 }), "damaged");
  assert.equal(decodeFrame(inner, new DataView(inner.buffer), 0, inner.length, { epoch: 4, salt: 1 }), "damaged");
});
