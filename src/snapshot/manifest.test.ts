// Guards the manifest's bytes: those of version 1 are read for ever, and nothing that was not written as a manifest is taken for one.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { decodeManifest, encodeManifest, type Manifest, manifestLimits } from "./manifest.ts";
import { isVersion, newVersion, versionTimeMs } from "./version.ts";

const golden: Manifest = {
  format: 1,
  kind: "table",
  name: "items",
  version: "20261122T084107123-k3dq",
  createdAtMs: 1_795_336_867_123,
  files: [
    { name: "run-00000", bytes: 1_048_576, crc32c: 0x8a2d11c0, rows: 12_000 },
    { name: "run-00001", bytes: 4_096, crc32c: 7 },
  ],
  statistics: { rows: 12_000, "nulls.ctr": 120, "norm.embedding.mean": 0.98 },
  meta: { schema: 3, shards: 2, offsets: { "table-log": 4711 } },
};
const goldenPath = join(import.meta.dirname, "../../test/golden/snapshot/v1/manifest");
const todoOf = (thrown: unknown): string => (thrown instanceof MillraceError ? thrown.code : `no MillraceError: ${String(thrown)}`);

test("golden: a manifest of version 1 has these bytes, and is read from them", () => {
  const bytes = new Uint8Array(readFileSync(goldenPath));
  assert.deepEqual(Buffer.from(encodeManifest(golden)).toString(), Buffer.from(bytes).toString());
  assert.deepEqual(decodeManifest(bytes), golden);
  assert.deepEqual(decodeManifest(bytes, golden), golden);
});

test("promise: no flipped bit, no missing or added byte goes unseen", () => {
  const bytes = encodeManifest(golden);
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const flipped = bytes.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    assert.throws(() => decodeManifest(flipped), { code: "corrupt" }, `bit ${bit}`);
  }
  for (let length = 0; length < bytes.length; length += 1)
    assert.throws(() => decodeManifest(bytes.subarray(0, length)), { code: "corrupt" }, `${length} bytes`);
  assert.throws(() => decodeManifest(new Uint8Array([...bytes, 10])), { code: "corrupt" });
});

test("a manifest in the place of another is refused", () => {
  const bytes = encodeManifest(golden);
  for (const other of [{ kind: "vectors" }, { name: "item" }, { version: "20261122T084107124-k3dq" }]) {
    assert.throws(() => decodeManifest(bytes, { ...golden, ...other }), { code: "corrupt", message: /says that it is table\/items 20261122T084107123-k3dq/ });
  }
});

/** A text with a checksum that agrees: what only its content can give away. */
function signed(text: string): Uint8Array {
  const body = new TextEncoder().encode(text);
  const crc = crcOf(body).toString(16).padStart(8, "0");
  return new Uint8Array([...body, ...new TextEncoder().encode(`crc32c ${crc}\n`)]);
}

/** CRC32C bit by bit: another way than the code under test goes. */
function crcOf(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test("every field is checked, whatever the checksum says", () => {
  const text = (change: object): string => JSON.stringify({ ...golden, ...change });
  assert.deepEqual(decodeManifest(signed(text({}))), golden);
  const file = golden.files[0]!;
  const wrong: Record<string, object> = {
    "a file outside": { files: [{ ...file, name: "../run" }] },
    "a hidden file": { files: [{ ...file, name: ".run" }] },
    "a file in a folder": { files: [{ ...file, name: "a/b" }] },
    "a part of a file": { files: [{ ...file, name: "run~" }] },
    "a file twice": { files: [file, file] },
    "no size": { files: [{ ...file, bytes: -1 }] },
    "half a byte": { files: [{ ...file, bytes: 0.5 }] },
    "too many bytes": { files: [file, { ...file, name: "b", bytes: Number.MAX_SAFE_INTEGER }] },
    "a checksum of 33 bits": { files: [{ ...file, crc32c: 2 ** 32 }] },
    "a file with more": { files: [{ ...file, mode: 511 }] },
    "rows that are none": { files: [{ ...file, rows: "many" }] },
    "no files": { files: undefined },
    "files that are none": { files: {} },
    "another version's name": { version: "latest" },
    "a time that is none": { version: "20261322T084107123-k3dq" },
    "no kind": { kind: "" },
    "a kind that leaves its folder": { kind: ".." },
    "a text as a statistic": { statistics: { rows: "10" } },
    "a statistic without a name": { statistics: { "": 1 } },
    "a statistic with a line break": { statistics: { "a\nb": 1 } },
    "no time": { createdAtMs: -1 },
    "an unknown field": { more: 1 },
    "no meta": { meta: undefined },
  };
  for (const [what, change] of Object.entries(wrong)) assert.throws(() => decodeManifest(signed(text(change))), { code: "corrupt" }, what);
  for (const odd of ["null", "[]", "7", '"text"', "{", ""]) assert.throws(() => decodeManifest(signed(odd)), { code: /corrupt|unsupported/ }, odd);
  assert.throws(() => decodeManifest(signed(text({ format: 2 }))), { code: "unsupported" });
  // What would be refused is not written.
  for (const change of [{ files: [file, file] }, { statistics: { rows: Number.NaN } }, { kind: "a/b" }]) {
    assert.throws(() => encodeManifest({ ...golden, ...change }), { code: "invalid" });
  }
  assert.throws(() => encodeManifest({ ...golden, meta: "x".repeat(manifestLimits.bytesMax) }), { code: "invalid" });
});

test("fuzz: any manifest comes back as it was; any bytes are a manifest or refused with a code", () => {
  const seed = Number(process.env["SEED"] ?? 20261122);
  const name = fc.stringMatching(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}[A-Za-z0-9_-]$/);
  const manifests = fc.record({
    format: fc.constant(1 as const),
    kind: name,
    name,
    version: fc.nat(4e12).map((ms) => newVersion(ms, new Prng(ms))),
    createdAtMs: fc.maxSafeNat(),
    files: fc.uniqueArray(fc.record({ name, bytes: fc.nat(), crc32c: fc.nat(0xffff_ffff), rows: fc.nat() }), { selector: (file) => file.name }),
    statistics: fc.dictionary(
      fc.stringMatching(/^[a-z.]{1,20}$/),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
    ),
    meta: fc.jsonValue(),
  });
  const plain = (manifest: object): unknown => JSON.parse(JSON.stringify(manifest));
  fc.assert(
    fc.property(manifests, (manifest) => assert.deepEqual(plain(decodeManifest(encodeManifest(manifest), manifest)), plain(manifest))),
    { seed, numRuns: 300 },
  );
  const random = new Prng(seed);
  const good = encodeManifest(golden);
  for (let round = 0; round < 3_000; round += 1) {
    const bytes = random.chance(0.5) ? random.bytes(new Uint8Array(random.below(200))) : good.slice();
    const from = random.below(good.length);
    if (bytes.length === good.length) random.bytes(bytes.subarray(from, from + random.below(20)));
    try {
      const read = decodeManifest(bytes);
      assert.deepEqual(read, golden);
    } catch (thrown) {
      assert.match(todoOf(thrown), /^(corrupt|unsupported)$/, `seed ${seed}, round ${round}`);
    }
  }
});

test("versions rise with time, also when the clock goes back", () => {
  const random = new Prng(1);
  const first = newVersion(Date.UTC(2026, 10, 22, 8, 41, 7, 123), random);
  assert.match(first, /^20261122T084107123-[0-9a-z]{4}$/);
  assert.equal(versionTimeMs(first), Date.UTC(2026, 10, 22, 8, 41, 7, 123));
  const known = [first];
  for (const ms of [Date.UTC(2026, 10, 22, 8, 41, 7, 123), 0, Date.UTC(2026, 10, 22, 8, 41, 7, 100), Date.UTC(2026, 10, 23)])
    known.push(newVersion(ms, random, known));
  assert.deepEqual(known.toSorted(), known);
  for (const no of ["", "20261122T084107123", "20261122T084107123-", "20261122T084107123-ilou", "20261322T084107123-k3dq", "../20261122T084107123-k3dq", 7]) {
    assert.equal(isVersion(no), false, String(no));
  }
});
