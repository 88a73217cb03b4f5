// The shape of a parameter shard and its first bytes in a kernel memory. Layout: kernels/shard-index.ts and shard-lists.ts.
// Why here and not with the table's face: warm-up and the contract suite make shards too, and both stand below src/params.
// Cost: 36 bytes a row beside its numbers, 6.3 to 7.9 of index (a partition is 68 to 85 % full), 64 a bucket, 12 a partition, and 28 KiB.
// Limits: parameterShardLimits; a shard and everything else in its memory at most 4 GiB.

import { MillraceError } from "#base/errors";
import { roundUp } from "./kernel-memory.ts";
import type { InitialShape } from "./parameter-key.ts";

export const parameterShardLimits = {
  dimMax: 1_024,
  bucketsMax: 65_536,
  /** As many as a memory has lanes. */
  readersMax: 64,
  sightingsMax: 15,
  sketchBytesMax: 1 << 30,
  /** Rows that a partition of the index has when the memory is full; at most 16 times as many. */
  partitionRows: 4_096,
} as const;

export interface ParameterShardShape {
  /** Numbers of a row. */
  readonly dim: number;
  /** Parts of the keys that versions are counted in; a power of two. Default 4,096. */
  readonly buckets?: number;
  /** What missing keys read as. `factors` a multiple of 4, at most `dim`. */
  readonly initial: InitialShape;
  /** Memory of the shard, all in. Pages are taken from the machine only as rows come. */
  readonly bytes: number;
  /** A key gets a row with its `sightings`th addition; until then it is counted in a sketch. Default: with the first. */
  readonly admission?: { readonly sightings: number; readonly sketchBytes: number };
}

/** "PSH1" */
export const parameterShardMagic = 0x3148_5350;

/** Which u32 of the header holds what. */
export const shardWord = {
  dim: 1,
  factors: 2,
  rowBytes: 3,
  seedLow: 4,
  seedHigh: 5,
  scale: 6,
  bucketMask: 7,
  bucketsAt: 8,
  directoryAt: 9,
  partitionBits: 10,
  countsAt: 11,
  endAt: 12,
  sketchAt: 13,
  sketchMask: 14,
  admission: 15,
  slabBytes: 16,
  ringAt: 17,
  bump: 32,
  slab: 33,
  slabEnd: 34,
  freeRow: 35,
  limboHead: 36,
  limboTail: 37,
  ringIn: 38,
  ringOut: 39,
  freeArea: 40,
  live: 41,
  tombstones: 42,
  limboRows: 43,
  freeRows: 44,
  indexBytes: 45,
  dirtyHead: 46,
  dirtyTail: 47,
  refused: 48,
  heldBack: 49,
  notLed: 50,
  skipped: 51,
  conflicts: 52,
  evicted: 53,
  expired: 54,
  agingSum: 55,
  agingHand: 56,
  evictHand: 57,
  expireHand: 58,
  cursorBucket: 59,
  cursorRow: 60,
  commit: 64,
  pendingSlots: 65,
  pendingCount: 66,
  pendingValues: 67,
  epoch: 80,
  unsteady: 81,
  readers: 82,
  readerWords: 128,
} as const;

/** Which u32 of a bucket's 16 holds what. */
export const bucketWord = {
  head: 0,
  tail: 1,
  newestHigh: 2,
  newestLow: 3,
  leadEpoch: 4,
  leadNode: 5,
  live: 6,
  tombstones: 7,
  digestLow: 8,
  digestHigh: 9,
  collectedHigh: 10,
  collectedLow: 11,
  dirtyNext: 12,
  oldestTombstone: 13,
  newestTombstone: 14,
  left: 15,
} as const;

/** Which u32 holds what, counted from a row's seq. Bits of `flags`: 0 tombstone, 1 an optimizer has state for it; its high half counts writes. */
export const shardRowWord = {
  versionHigh: -5,
  versionLow: -4,
  next: -3,
  touched: -1,
  flags: 1,
  keyLow: 2,
  keyHigh: 3,
  values: 4,
} as const;

export const shardHeaderBytes = 512 + 64 * parameterShardLimits.readersMax;
export const bucketBytes = 64;
/** Areas that may wait for readers, 16 bytes each. */
export const ringSize = 1_024;
/** What a row's head takes; its numbers at least 8, for the links of a tombstone. */
const rowHeadBytes = 36;
/** Kernels read a little past the end of a row. */
const tailBytes = 256;

/** Working space of the calls, bytes. */
export const shardScratch = {
  /** Reading. */
  readBytes: 5_248,
  /** Writing: the values of a group on top. */
  writeBytes: (dim: number): number => 5_248 + (dim <= 128 ? 32 : 8) * roundUp(4 * dim, 16),
} as const;

export function rowBytesOf(dim: number): number {
  return rowHeadBytes + 4 * Math.max(dim, 2);
}

interface Places {
  readonly buckets: number;
  readonly bits: number;
  readonly ringFrom: number;
  readonly directoryFrom: number;
  readonly countsFrom: number;
  readonly bucketsFrom: number;
  readonly sketchFrom: number;
  readonly sketchLines: number;
  readonly chunksFrom: number;
  readonly slabBytes: number;
}

function placesOf(shape: ParameterShardShape): Places {
  const refuse = (what: string, todo: string): never => {
    throw new MillraceError("invalid", `a parameter shard with ${what}`, { todo });
  };
  const whole = (value: number, least: number, most: number): boolean => Number.isInteger(value) && value >= least && value <= most;
  const { dim, initial, bytes, admission } = shape;
  const buckets = shape.buckets ?? 4_096;
  const limits = parameterShardLimits;
  if (!whole(dim, 1, limits.dimMax)) refuse(`rows of ${dim} numbers`, `use 1 to ${limits.dimMax}`);
  if (!whole(buckets, 1, limits.bucketsMax) || (buckets & (buckets - 1)) !== 0) refuse(`${buckets} buckets`, `use a power of two up to ${limits.bucketsMax}`);
  if (!whole(initial.factors, 0, dim) || initial.factors % 4 !== 0) refuse(`${initial.factors} factors of ${dim} numbers`, "use a multiple of 4, at most dim");
  if (initial.seed < 0n || initial.seed >= 1n << 64n) refuse("a seed outside 64 bits", "use 0 to 2^64 - 1");
  if (!(initial.initialScale >= 0 && initial.initialScale <= 1e6)) refuse(`an initial scale of ${initial.initialScale}`, "use 0 to 1,000,000");
  if (admission !== undefined) {
    if (!whole(admission.sightings, 1, limits.sightingsMax)) refuse(`admission after ${admission.sightings} sightings`, `use 1 to ${limits.sightingsMax}`);
    if (!whole(admission.sketchBytes, 64, limits.sketchBytesMax)) refuse(`a sketch of ${admission.sketchBytes} bytes`, "use 64 bytes to 1 GiB");
  }
  if (!whole(bytes, 0, 2 ** 32 - 2 ** 16)) refuse(`${bytes} bytes`, "use several shards of at most 4 GiB less 64 KiB");
  const bits = Math.min(20, Math.max(1, Math.ceil(Math.log2(bytes / rowBytesOf(dim) / limits.partitionRows))));
  const sketchLines = admission === undefined || admission.sightings === 1 ? 0 : 2 ** Math.floor(Math.log2(admission.sketchBytes / 64));
  const ringFrom = shardHeaderBytes;
  const directoryFrom = ringFrom + 16 * ringSize;
  const countsFrom = directoryFrom + 8 * 2 ** bits;
  const bucketsFrom = roundUp(countsFrom + 4 * 2 ** bits, 64);
  const sketchFrom = bucketsFrom + bucketBytes * buckets;
  const chunksFrom = sketchFrom + 64 * sketchLines;
  const least = chunksFrom + 4_096 + 2 * rowBytesOf(dim) + tailBytes;
  if (bytes < least) refuse(`${bytes} bytes`, `give it at least ${least}`);
  return {
    buckets,
    bits,
    ringFrom,
    directoryFrom,
    countsFrom,
    bucketsFrom,
    sketchFrom,
    sketchLines,
    chunksFrom,
    // Small shards in small steps, so that rows leave room for the index.
    slabBytes: Math.max(roundUp(rowBytesOf(dim), 64), Math.min(1 << 16, 2 ** Math.floor(Math.log2((bytes - chunksFrom) / 64)))),
  };
}

/** Throws `invalid` for a shape that cannot be. */
export function checkShardShape(shape: ParameterShardShape): void {
  placesOf(shape);
}

/** Makes `shape.bytes` bytes at `at` (64-aligned) an empty shard. Only what lies before the chunks is written. */
export function formatParameterShard(words: Uint32Array, at: number, shape: ParameterShardShape): void {
  const places = placesOf(shape);
  const head = at / 4;
  words.fill(0, head, head + places.chunksFrom / 4);
  const scale = new Uint32Array(Float32Array.of(shape.initial.initialScale).buffer)[0]!;
  const put = (index: number, value: number): void => {
    words[head + index] = value;
  };
  put(shardWord.dim, shape.dim);
  put(shardWord.factors, shape.initial.factors);
  put(shardWord.rowBytes, rowBytesOf(shape.dim));
  put(shardWord.seedLow, Number(shape.initial.seed & 0xffff_ffffn));
  put(shardWord.seedHigh, Number(shape.initial.seed >> 32n));
  put(shardWord.scale, scale);
  put(shardWord.bucketMask, places.buckets - 1);
  put(shardWord.bucketsAt, at + places.bucketsFrom);
  put(shardWord.directoryAt, at + places.directoryFrom);
  put(shardWord.partitionBits, places.bits);
  put(shardWord.countsAt, at + places.countsFrom);
  put(shardWord.endAt, at + shape.bytes - tailBytes);
  put(shardWord.sketchAt, at + places.sketchFrom);
  put(shardWord.sketchMask, Math.max(0, places.sketchLines - 1));
  put(shardWord.admission, places.sketchLines === 0 ? 1 : shape.admission!.sightings);
  put(shardWord.slabBytes, places.slabBytes);
  put(shardWord.ringAt, at + places.ringFrom);
  put(shardWord.bump, at + places.chunksFrom);
  put(shardWord.epoch, 1);
  // Last: whoever attaches looks for it.
  Atomics.store(words, head, parameterShardMagic);
}
