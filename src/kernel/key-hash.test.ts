// The hashes are part of file formats: the document's vectors hold for every variant, and each hash spreads keys as a random function would.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { hashKeys, stripeHashes } from "./hash-keys.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, kernelVariants, loadVariant } from "./kernels.ts";
import { KeyBatch } from "./key-batch.ts";
import { hashKey, keySeed, stripeHash } from "./key-hash.ts";

const mask64 = (1n << 64n) - 1n;
const golden = 0x9e3779b97f4a7c15n;

function mix64(value: bigint): bigint {
  let z = value & mask64;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask64;
  return z ^ (z >> 31n);
}

/** The definition of docs/format/key-hash.md, word for word, in the slowest and plainest way. */
function definedHash(key: Uint8Array, seed: bigint): bigint {
  let h = (mix64(seed + golden) + BigInt(key.length) * golden) & mask64;
  for (let at = 0; at < key.length; at += 8) {
    let word = 0n;
    for (let i = 0; i < 8; i++) word |= BigInt(key[at + i] ?? 0) << BigInt(8 * i);
    const x = h ^ word;
    h = ((x & 0xffffffffn) * (x >> 32n) + (((x << 23n) | (x >> 41n)) & mask64)) & mask64;
  }
  return mix64(h);
}

/** Likewise, of the stripe hash. */
function definedStripeHash(key: Uint8Array, seed: bigint): bigint {
  const start = mix64(seed + golden);
  const secret: bigint[] = [];
  for (let i = 0n; i < 8n; i++) {
    const pair = mix64(start + (i + 1n) * golden);
    secret.push(pair & 0xffffffffn, pair >> 32n);
  }
  const wordsOf = (piece: Uint8Array): bigint[] => {
    const view = new DataView(piece.buffer, piece.byteOffset, 16);
    return [0, 4, 8, 12].map((at) => BigInt(view.getUint32(at, true)));
  };
  const stripe = (pieces: readonly Uint8Array[]): bigint => {
    const [p0, p1, p2, p3] = pieces.map(wordsOf);
    const word = (words: readonly bigint[], j: number, first: number): bigint => (words[j]! + secret[first + j]!) & 0xffffffffn;
    let sum = 0n;
    for (let j = 0; j < 4; j++) sum += word(p0!, j, 0) * word(p1!, j, 4) + word(p2!, j, 8) * word(p3!, j, 12);
    return sum;
  };
  const n = key.length;
  const pieceAt = (at: number): Uint8Array => key.slice(at, at + 16);
  let h = start + BigInt(n) * golden;
  if (n < 16) {
    const piece = new Uint8Array(16);
    if (n < 8) piece.set(key, 8 - n);
    else {
      piece.set(key.subarray(0, 8));
      piece.set(key.subarray(n - 8), 8);
    }
    return mix64(h + stripe([piece, piece, piece, piece]));
  }
  if (n <= 64) return mix64(h + stripe([0, Math.min(16, n - 16), Math.min(32, n - 16), n - 16].map(pieceAt)));
  for (let at = 0; at < n - 64; at += 64) h = mix64(h + stripe([at, at + 16, at + 32, at + 48].map(pieceAt)));
  return mix64(h + stripe([n - 64, n - 48, n - 32, n - 16].map(pieceAt)));
}

const hashes = [
  { name: "the key hash", heading: "## Vectors of the key hash", defined: definedHash, one: hashKey, many: hashKeys },
  { name: "the stripe hash", heading: "## Vectors of the stripe hash", defined: definedStripeHash, one: stripeHash, many: stripeHashes },
] as const;

const document = readFileSync(new URL("../../docs/format/key-hash.md", import.meta.url), "utf8");

for (const { name, heading, defined, one, many } of hashes) {
  const section = document.slice(document.indexOf(heading) + heading.length).split("\n## ")[0]!;
  const vectors = [...section.matchAll(/^\| `0x([0-9a-f]{16})` \| `([0-9a-f ]*)`(?: x (\d+))?[^|]*\| `0x([0-9a-f]{16})` \|$/gm)].map(
    ([, seed, bytes, times, hash]) => ({
      seed: BigInt(`0x${seed}`),
      key: Buffer.from(bytes!.replaceAll(" ", "").repeat(Number(times ?? 1)), "hex"),
      hash: BigInt(`0x${hash}`),
    }),
  );

  test(`promise: ${name} of files never changes (vectors of docs/format/key-hash.md, all kernel variants)`, () => {
    assert.ok(vectors.length >= 14, `${vectors.length} vectors read`);
    for (const { seed, key, hash } of vectors) {
      assert.equal(defined(key, seed), hash, "definition");
      assert.equal(one(key, keySeed(seed)), hash, "one key");
      for (const variant of kernelVariants) {
        if (typeof loadVariant(variant) === "string") continue;
        const into = new Uint32Array(2);
        many(KernelMemory.create({ dataBytes: 0 }, kernels(variant)), KeyBatch.of([key]), keySeed(seed), into);
        assert.equal((BigInt(into[1]!) << 32n) | BigInt(into[0]!), hash, variant);
      }
    }
  });
}

test(`the stripe hash: definition, TypeScript and kernels agree on keys of every length, whatever stands behind them (SEED=${process.env["SEED"] ?? "stripe"})`, () => {
  const prng = new Prng(process.env["SEED"] ?? "stripe");
  const seed = (BigInt(prng.u32()) << 32n) | BigInt(prng.u32());
  const keys = Array.from({ length: 420 }, (_, length) => prng.bytes(new Uint8Array(length % 210)));
  for (const key of keys.slice(0, 20)) key.fill(0xff);
  for (const variant of kernelVariants) {
    if (typeof loadVariant(variant) === "string") continue;
    const into = new Uint32Array(2 * keys.length);
    stripeHashes(KernelMemory.create({ dataBytes: 0 }, kernels(variant)), KeyBatch.of(keys), keySeed(seed), into);
    for (const [i, key] of keys.entries()) {
      const hash = definedStripeHash(key, seed);
      assert.equal((BigInt(into[2 * i + 1]!) << 32n) | BigInt(into[2 * i]!), hash, `${variant}, ${key.length} bytes`);
      assert.equal(stripeHash(key, keySeed(seed)), hash);
    }
  }
});

test(`the definition and its fast form agree on random keys (SEED=${process.env["SEED"] ?? "hash"})`, () => {
  const prng = new Prng(process.env["SEED"] ?? "hash");
  for (let round = 0; round < 3_000; round++) {
    const key = prng.bytes(new Uint8Array(prng.below(round % 10 === 0 ? 200 : 24)));
    const seed = (BigInt(prng.u32()) << 32n) | BigInt(prng.u32());
    assert.equal(hashKey(key, keySeed(seed)), definedHash(key, seed));
  }
  // Halves whose products lie at the edges of exact doubles.
  for (const word of [0xffff_ffff_ffff_ffffn, 0x8000_0000_8000_0000n, 0x0000_0001_ffff_ffffn, 0xffff_ffff_0000_0001n]) {
    const start = definedStartXor(word);
    assert.equal(hashKey(start, keySeed(0n)), definedHash(start, 0n));
  }
});

/** An 8-byte key that makes the inner word x equal `word` under seed 0. */
function definedStartXor(word: bigint): Uint8Array {
  const golden = 0x9e3779b97f4a7c15n;
  let z = golden;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask64;
  const h = ((z ^ (z >> 31n)) + 8n * golden) & mask64;
  const key = new Uint8Array(8);
  new DataView(key.buffer).setBigUint64(0, h ^ word, true);
  return key;
}

const memory = KernelMemory.create({ dataBytes: 0 });
const count = 1 << 16;

function hashesOf(keyOf: (i: number) => Uint8Array | string, seed = 1n, many: typeof hashKeys = hashKeys): Uint32Array {
  const batch = new KeyBatch();
  for (let i = 0; i < count; i++) batch.add(keyOf(i));
  const into = new Uint32Array(2 * count);
  many(memory, batch, keySeed(seed), into);
  return into;
}

const word64 = (low: number, high: number): Uint8Array => new Uint8Array(Uint32Array.of(low, high).buffer);
const families: Record<string, (i: number) => Uint8Array | string> = {
  "counted text": (i) => `user:${i}`,
  "counted 32-bit numbers": (i) => word64(i, 0).subarray(0, 4),
  "counted 64-bit numbers": (i) => word64(i, 0),
  "64-bit numbers that differ high": (i) => word64(0, i),
  "numbers at bit 48": (i) => word64(0, (i << 16) >>> 0),
  "two words that move together": (i) => Buffer.concat([word64(i, i), word64(i, i)]),
  "one byte repeated, in every length": (i) => new Uint8Array((i & 255) + 1).fill(i >>> 8),
  "long keys that differ in one middle bit pattern": (i) => Buffer.concat([Buffer.alloc(24, 65), word64(i, 0), Buffer.alloc(28, 66)]),
  doubles: (i) => new Uint8Array(Float64Array.of(-i / 8).buffer),
};

for (const [name, keyOf] of Object.entries(families)) {
  test(`hashes spread like random numbers: ${name}`, () => {
    for (const { many } of hashes) assertSpread(hashesOf(keyOf, 1n, many));
  });
}

function assertSpread(hashes: Uint32Array): void {
  // Each window of 12 bits over 4,096 buckets: chi-square with 4,095 degrees of freedom, mean 4,095, deviation 90.5; 7 deviations either side.
  for (const shift of [0, 4, 10, 20]) {
    for (const half of [0, 1]) {
      const buckets = new Uint32Array(4_096);
      for (let i = 0; i < count; i++) buckets[(hashes[2 * i + half]! >>> shift) & 4_095]!++;
      const expected = count / 4_096;
      const chi = buckets.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
      assert.ok(Math.abs(chi - 4_095) < 7 * 90.5, `half ${half} shift ${shift}: chi-square ${chi}`);
    }
  }
  // Equal 32-bit halves: expected 0.5 pairs among 65,536 keys; 8 or more has probability below 1e-7.
  for (const half of [0, 1]) {
    const seen = new Set<number>();
    for (let i = 0; i < count; i++) seen.add(hashes[2 * i + half]!);
    assert.ok(count - seen.size < 8, `${count - seen.size} equal halves`);
  }
}

test("every bit of key and seed turns each bit of the hash about half of the time", () => {
  const prng = new Prng("avalanche");
  const rounds = 200;
  for (const [length, hash] of [
    [3, hashKey],
    [20, hashKey],
    [3, stripeHash],
    [20, stripeHash],
  ] as const) {
    for (let bit = 0; bit < length * 8 + 64; bit++) {
      const turned = new Uint32Array(64);
      for (let round = 0; round < rounds; round++) {
        const key = prng.bytes(new Uint8Array(length));
        const seed = (BigInt(prng.u32()) << 32n) | BigInt(prng.u32());
        const before = hash(key, keySeed(seed));
        const inKey = bit < length * 8;
        if (inKey) key[bit >> 3]! ^= 1 << (bit & 7);
        let difference = before ^ hash(key, keySeed(inKey ? seed : seed ^ (1n << BigInt(bit - length * 8))));
        for (let i = 0; difference !== 0n; i++, difference >>= 1n) if ((difference & 1n) === 1n) turned[i]!++;
      }
      // Binomial: mean 100, deviation 7.1; 6.5 deviations over 20,000 cells.
      for (const n of turned) assert.ok(Math.abs(n - rounds / 2) < 46, `length ${length} bit ${bit}: ${n} of ${rounds}`);
    }
  }
});

test("another seed is another hash: keys that collide in a table of one seed do not in another", () => {
  for (const { many } of hashes) {
    const one = hashesOf((i) => `k${i}`, 1n, many);
    const two = hashesOf((i) => `k${i}`, 2n, many);
    let agree = 0;
    for (let i = 0; i < count; i++) if ((one[2 * i]! & 0xfff) === (two[2 * i]! & 0xfff)) agree++;
    assert.ok(Math.abs(agree - count / 4_096) < 40, `${agree} of ${count} keep their slot, expected ${count / 4_096}`);
  }
});
