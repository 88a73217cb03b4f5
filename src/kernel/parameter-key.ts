// What follows from a parameter's key alone: its bucket, its shard, its initial values; and from key and version: its term of a digest.
// Why here: the kernel's scalar twin, the table's face and the plain table that tests hold it against must agree to the bit. kernels/parameter-shard.ts
// computes the same.
// Invariants: 1. bucket and shard depend on no seed, so every node finds them alike  2. they use other mixes than the index, so a bucket's keys lie
//             all over it  3. (key, version) to a digest's term is a bijection for a fixed key and for a fixed version: two terms of one key never agree.
// Cost: a mix is some 4 ns here, 1 ns in a kernel. Concurrency: none of its own.

const golden = 0x9e3779b9;
const placeSeed = 0x2545f491;

/** The finalizer of MurmurHash3 (Appleby), a bijection of 32 bits. */
export function mixWord(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** 32 bits of a key: the lowest choose its bucket, the highest its shard. */
export function placeOf(keyLow: number, keyHigh: number): number {
  return mixWord((mixWord(keyHigh ^ placeSeed) + keyLow) | 0);
}

/** `buckets`: a power of two, at most 65,536. */
export function bucketOf(keyLow: number, keyHigh: number, buckets: number): number {
  return placeOf(keyLow, keyHigh) & (buckets - 1);
}

/** `shards`: 1 to 256. */
export function shardOf(keyLow: number, keyHigh: number, shards: number): number {
  return ((placeOf(keyLow, keyHigh) >>> 16) * shards) >>> 16;
}

/** Term of an entry in its bucket's digest, to `into[at]` (low half) and `into[at + 1]` (high half). */
export function entryTerm(keyLow: number, keyHigh: number, versionHigh: number, versionLow: number, into: Uint32Array, at: number): void {
  let a = mixWord(keyLow ^ golden);
  const b = mixWord((keyHigh + a) | 0);
  a = mixWord(((a + b) ^ versionLow) | 0);
  const c = mixWord(((b + a) ^ versionHigh) | 0);
  into[at] = mixWord((a + c) | 0);
  into[at + 1] = c;
}

/** How the rows of a table begin. */
export interface InitialShape {
  /** Of the initial values and of the index; 64 bits. */
  readonly seed: bigint;
  /** So many leading numbers begin at random, the others at 0; a multiple of 4. */
  readonly factors: number;
  /** Random ones lie uniformly in [-initialScale, initialScale). */
  readonly initialScale: number;
}

/** The two words that index and initial values of a key come from: a bijection of (low, high). */
export function tagOf(keyLow: number, seedLow: number): number {
  return mixWord(keyLow ^ seedLow);
}

export function hashOf(tag: number, keyHigh: number, seedHigh: number): number {
  return mixWord((tag + ((keyHigh ^ seedHigh) >>> 0)) | 0);
}

/** Initial values of a key: `dim` numbers to `into[at]` on. What a missing key reads as, at every node. */
export function initialValues(shape: InitialShape, dim: number, keyLow: number, keyHigh: number, into: Float32Array, at: number): void {
  const tag = tagOf(keyLow, Number(shape.seed & 0xffff_ffffn));
  const hash = hashOf(tag, keyHigh, Number(shape.seed >> 32n));
  fillInitial(tag, hash, shape.factors, Math.fround(shape.initialScale), dim, into, at);
}

/** The same of a key whose two words are known. */
export function fillInitial(tag: number, hash: number, factors: number, scale: number, dim: number, into: Float32Array, at: number): void {
  for (let i = 0; i < factors; i++) {
    // 24 bits times 2^-23, less 1: exact; one rounding at the scale.
    const bits = mixWord((mixWord((tag + Math.imul(i + 1, golden)) | 0) + hash) | 0) >>> 8;
    into[at + i] = (bits * 1.1920928955078125e-7 - 1) * scale;
  }
  into.fill(0, at + factors, at + dim);
}
