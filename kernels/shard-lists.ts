// The buckets of a parameter shard: versions, the recency list, tombstones, digests, and which buckets changed. Rows and header: shard-index.ts.
//
// A bucket (64 bytes): u32 head   +4 tail   +8 newest version high   +12 low   +16 epoch of its primary here (0: led elsewhere)   +20 its node   +24 live rows
//   +28 tombstones   +32 digest low   +36 high   +40 largest version of a tombstone collected, high   +44 low
//   +48 next dirty bucket + 1 (0xFFFFFFFF: the last; 0: not dirty)   +52 oldest tombstone   +56 newest tombstone   +60 live rows that left without one
// Lists go by row addresses, 0 ends them. A tombstone's numbers have no meaning, so the links of the bucket's list of tombstones lie there: next, previous.
//
// Invariants: 1. both lists ascend by version; versions of a bucket are distinct, but for entries that came with equal versions from a faulty node
//             2. a row stands in its bucket's list from its first version until it is released  3. digest = sum of terms of all rows in the list
//             4. newest never falls.

import { mixFour, mixWord } from "./word-mix";
import {
  bucketMaskAt,
  bucketsAt,
  dirtyHeadAt,
  dirtyTailAt,
  liveAt,
  nextAt,
  previousAt,
  releaseRow,
  removeEntry,
  tombstonesAt,
  valuesAt,
  versionHighAt,
  versionLowAt,
} from "./shard-index";

/** In a row's flags. Bits 8 to 15: number + 1 of its slot in the group under way, of the writer alone. */
export const tombstoneFlag: u32 = 1;
/** The optimizer has state for this row (shard-factorisation.ts). It falls when the row leaves. */
export const stateFlag: u32 = 2;
/** The row was written in the call under way and waits for its version. */
export const waitFlag: u32 = 4;

export const headAt: usize = 0;
export const tailAt: usize = 4;
export const newestHighAt: usize = 8;
export const newestLowAt: usize = 12;
export const leadEpochAt: usize = 16;
export const leadNodeAt: usize = 20;
export const bucketLiveAt: usize = 24;
export const bucketTombstonesAt: usize = 28;
export const digestAt: usize = 32;
export const collectedHighAt: usize = 40;
export const collectedLowAt: usize = 44;
export const dirtyNextAt: usize = 48;
export const oldestTombstoneAt: usize = 52;
export const newestTombstoneAt: usize = 56;
export const leftAt: usize = 60;

export function bucketOf(shard: usize, key: u64): usize {
  const place = mixWord(mixWord((<u32>(key >> 32)) ^ 0x2545f491) + <u32>key);
  return <usize>load<u32>(shard, bucketsAt) + ((<usize>(place & load<u32>(shard, bucketMaskAt))) << 6);
}

export function versionOf(row: usize): u64 {
  return ((<u64>load<u32>(row - versionHighAt)) << 32) | (<u64>load<u32>(row - versionLowAt));
}

export function newestOf(bucket: usize): u64 {
  return ((<u64>load<u32>(bucket, newestHighAt)) << 32) | (<u64>load<u32>(bucket, newestLowAt));
}

/** As entryTerm of src/kernel/parameter-key.ts: low half in the low bits. */
function entryTerm(key: u64, version: u64): u64 {
  let a = mixWord((<u32>key) ^ 0x9e3779b9);
  const b = mixWord(<u32>(key >> 32) + a);
  a = mixWord((a + b) ^ (<u32>version));
  const c = mixWord((b + a) ^ (<u32>(version >> 32)));
  a = mixWord(a + c);
  return ((<u64>c) << 32) | (<u64>a);
}

function addTerm(bucket: usize, key: u64, version: u64): void {
  store<u64>(bucket, load<u64>(bucket, digestAt) + entryTerm(key, version), digestAt);
}

function subtractTerm(bucket: usize, key: u64, version: u64): void {
  store<u64>(bucket, load<u64>(bucket, digestAt) - entryTerm(key, version), digestAt);
}

function unlink(bucket: usize, row: usize): void {
  const next = <usize>load<u32>(row - nextAt);
  const previous = <usize>load<u32>(row - previousAt);
  if (next == 0) store<u32>(bucket, <u32>previous, tailAt);
  else store<u32>(next - previousAt, <u32>previous);
  if (previous == 0) store<u32>(bucket, <u32>next, headAt);
  else store<u32>(previous - nextAt, <u32>next);
}

/** Puts a row behind `previous`, 0: in front. */
function linkBehind(bucket: usize, row: usize, previous: usize): void {
  const next = previous == 0 ? <usize>load<u32>(bucket, headAt) : <usize>load<u32>(previous - nextAt);
  store<u32>(row - nextAt, <u32>next);
  store<u32>(row - previousAt, <u32>previous);
  if (next == 0) store<u32>(bucket, <u32>row, tailAt);
  else store<u32>(next - previousAt, <u32>row);
  if (previous == 0) store<u32>(bucket, <u32>row, headAt);
  else store<u32>(previous - nextAt, <u32>row);
}

/** The same for tombstones, whose links lie in their values. */
function unlinkTombstone(bucket: usize, row: usize): void {
  const next = <usize>load<u32>(row, valuesAt);
  const previous = <usize>load<u32>(row, valuesAt + 4);
  if (next == 0) store<u32>(bucket, <u32>previous, newestTombstoneAt);
  else store<u32>(next, <u32>previous, valuesAt + 4);
  if (previous == 0) store<u32>(bucket, <u32>next, oldestTombstoneAt);
  else store<u32>(previous, <u32>next, valuesAt);
}

/** Links a tombstone, whose version stands, at its place. */
function linkTombstone(bucket: usize, row: usize): void {
  const version = versionOf(row);
  let previous = <usize>load<u32>(bucket, newestTombstoneAt);
  while (previous != 0 && versionOf(previous) > version) previous = <usize>load<u32>(previous, valuesAt + 4);
  const next = previous == 0 ? <usize>load<u32>(bucket, oldestTombstoneAt) : <usize>load<u32>(previous, valuesAt);
  store<u32>(row, <u32>next, valuesAt);
  store<u32>(row, <u32>previous, valuesAt + 4);
  if (next == 0) store<u32>(bucket, <u32>row, newestTombstoneAt);
  else store<u32>(next, <u32>row, valuesAt + 4);
  if (previous == 0) store<u32>(bucket, <u32>row, oldestTombstoneAt);
  else store<u32>(previous, <u32>row, valuesAt);
}

function markDirty(shard: usize, bucket: usize): void {
  if (load<u32>(bucket, dirtyNextAt) != 0) return;
  const number = <u32>((bucket - <usize>load<u32>(shard, bucketsAt)) >> 6) + 1;
  const last = load<u32>(shard, dirtyTailAt);
  store<u32>(bucket, 0xffffffff, dirtyNextAt);
  if (last == 0) store<u32>(shard, number, dirtyHeadAt);
  else store<u32>(<usize>load<u32>(shard, bucketsAt) + ((<usize>(last - 1)) << 6), number, dirtyNextAt);
  store<u32>(shard, number, dirtyTailAt);
}

/** Gives a row (new when its version is 0) this version and its place in the list. Changes no flags. */
export function setVersion(shard: usize, bucket: usize, row: usize, version: u64): void {
  const key = load<u64>(row, 8);
  const before = versionOf(row);
  let previous = <usize>load<u32>(bucket, tailAt);
  if (before != 0) {
    subtractTerm(bucket, key, before);
    if (previous == row) previous = <usize>load<u32>(row - previousAt);
    unlink(bucket, row);
  }
  while (previous != 0 && versionOf(previous) > version) previous = <usize>load<u32>(previous - previousAt);
  linkBehind(bucket, row, previous);
  store<u32>(row - versionHighAt, <u32>(version >> 32));
  store<u32>(row - versionLowAt, <u32>version);
  addTerm(bucket, key, version);
  if (version > newestOf(bucket)) {
    store<u32>(bucket, <u32>(version >> 32), newestHighAt);
    store<u32>(bucket, <u32>version, newestLowAt);
  }
  markDirty(shard, bucket);
}

/** The version of the next write of a bucket, or 0 when it is not led here (any more), or its counter has run out. */
export function nextVersion(bucket: usize): u64 {
  const epoch = load<u32>(bucket, leadEpochAt);
  const newest = newestOf(bucket);
  if (epoch == 0 || <u32>(newest >> 48) > epoch) return 0;
  const counter = ((newest >> 8) & 0xffffffffff) + 1;
  if (counter > 0xffffffffff) return 0;
  return ((<u64>epoch) << 48) | (counter << 8) | (<u64>load<u32>(bucket, leadNodeAt));
}

/** The bucket has given out this version. */
export function countVersion(bucket: usize, version: u64): void {
  store<u32>(bucket, <u32>(version >> 32), newestHighAt);
  store<u32>(bucket, <u32>version, newestLowAt);
}

/** A version that the bucket gave out, of which the low 32 bits of the counter are known: at most 2^32 - 1 writes ago, in the same epoch. */
export function versionGiven(bucket: usize, counterLow: u32): u64 {
  const newest = newestOf(bucket);
  return newest - ((<u64>(<u32>(newest >> 8) - counterLow)) << 8);
}

/**
 * Gives the rows that slots (shard-index.ts: row at +0, bucket at +20) name the versions at +8 (low, high), which their buckets have given out, and each its place at the end of its
 * list, in the order of the slots. A row stands once in the slots. The other words of the slots are used up. What setVersion does, in passes that do one thing each.
 */
export function stampRows(shard: usize, keys: usize, slots: usize, count: u32): void {
  const end = slots + ((<usize>count) << 5);
  for (let at = slots; at < end; at += 32) {
    const row = <usize>load<u32>(at);
    store<u32>(at, load<u32>(row - versionLowAt), 4);
    store<u32>(at, load<u32>(row - versionHighAt), 16);
  }
  // Terms of the digests, new less old, to +24 of each slot; those of slots beyond the last are never looked at.
  for (let at = slots; at < end; at += 128, keys += 32) {
    const k0 = v128.load(keys);
    const k1 = v128.load(keys, 16);
    let a = mixFour(v128.xor(v128.shuffle<u32>(k0, k1, 0, 2, 4, 6), i32x4.splat(0x9e3779b9)));
    const b = mixFour(i32x4.add(v128.shuffle<u32>(k0, k1, 1, 3, 5, 7), a));
    a = i32x4.add(a, b);
    const s0 = v128.load(at);
    const s1 = v128.load(at, 32);
    const s2 = v128.load(at, 64);
    const s3 = v128.load(at, 96);
    const oldLow = v128.shuffle<u32>(v128.shuffle<u32>(s0, s1, 1, 5, 1, 5), v128.shuffle<u32>(s2, s3, 1, 5, 1, 5), 0, 1, 4, 5);
    const front = v128.shuffle<u32>(s0, s1, 2, 6, 3, 7);
    const back = v128.shuffle<u32>(s2, s3, 2, 6, 3, 7);
    const newLow = v128.shuffle<u32>(front, back, 0, 1, 4, 5);
    const newHigh = v128.shuffle<u32>(front, back, 2, 3, 6, 7);
    const oldHigh = v128.shuffle<u32>(
      v128.shuffle<u32>(v128.load(at, 16), v128.load(at, 48), 0, 4, 0, 4),
      v128.shuffle<u32>(v128.load(at, 80), v128.load(at, 112), 0, 4, 0, 4),
      0,
      1,
      4,
      5,
    );
    const none = i32x4.eq(v128.or(oldLow, oldHigh), i32x4.splat(0));
    let before = mixFour(v128.xor(a, oldLow));
    let beforeHigh = mixFour(v128.xor(i32x4.add(b, before), oldHigh));
    before = v128.andnot(mixFour(i32x4.add(before, beforeHigh)), none);
    beforeHigh = v128.andnot(beforeHigh, none);
    let after = mixFour(v128.xor(a, newLow));
    const afterHigh = mixFour(v128.xor(i32x4.add(b, after), newHigh));
    after = mixFour(i32x4.add(after, afterHigh));
    const first = i64x2.sub(v128.shuffle<u32>(after, afterHigh, 0, 4, 1, 5), v128.shuffle<u32>(before, beforeHigh, 0, 4, 1, 5));
    const second = i64x2.sub(v128.shuffle<u32>(after, afterHigh, 2, 6, 3, 7), v128.shuffle<u32>(before, beforeHigh, 2, 6, 3, 7));
    v128.store_lane<u64>(at, first, 0, 24);
    v128.store_lane<u64>(at, first, 1, 56);
    v128.store_lane<u64>(at, second, 0, 88);
    v128.store_lane<u64>(at, second, 1, 120);
  }
  for (let at = slots; at < end; at += 32) {
    const row = <usize>load<u32>(at);
    const bucket = <usize>load<u32>(at, 20);
    store<u64>(bucket, load<u64>(bucket, digestAt) + load<u64>(at, 24), digestAt);
    const tail = <usize>load<u32>(bucket, tailAt);
    if (tail != row) {
      if ((load<u32>(at, 4) | load<u32>(at, 16)) != 0) unlink(bucket, row);
      linkBehind(bucket, row, tail);
    }
    store<u32>(row - versionHighAt, load<u32>(at, 12));
    store<u32>(row - versionLowAt, load<u32>(at, 8));
    markDirty(shard, bucket);
  }
}

/** Counts a row that was made, or a tombstone that came to life. */
export function countLive(shard: usize, bucket: usize, rows: u32): void {
  store<u32>(bucket, load<u32>(bucket, bucketLiveAt) + rows, bucketLiveAt);
  store<u32>(shard, load<u32>(shard, liveAt) + rows, liveAt);
}

function countTombstones(shard: usize, bucket: usize, rows: u32): void {
  store<u32>(bucket, load<u32>(bucket, bucketTombstonesAt) + rows, bucketTombstonesAt);
  store<u32>(shard, load<u32>(shard, tombstonesAt) + rows, tombstonesAt);
}

export function isTombstone(row: usize): bool {
  return (load<u32>(row, 4) & tombstoneFlag) != 0;
}

/** Takes a tombstone that is about to get values out of their list. Its flag falls with the values (commit). */
export function unbury(shard: usize, bucket: usize, row: usize): void {
  unlinkTombstone(bucket, row);
  countTombstones(shard, bucket, -1);
  countLive(shard, bucket, 1);
}

/** Makes a live row a tombstone, or gives a tombstone a newer version. `fresh`: the row was made for this, with the flag. */
export function bury(shard: usize, bucket: usize, row: usize, version: u64, fresh: bool): void {
  if (fresh) {
    countTombstones(shard, bucket, 1);
  } else if (isTombstone(row)) {
    unlinkTombstone(bucket, row);
  } else {
    countLive(shard, bucket, -1);
    countTombstones(shard, bucket, 1);
    // The flag, then the seq, then links in place of numbers: a reader that took links for numbers finds another seq.
    atomic.store<u32>(row + 4, (load<u32>(row, 4) | tombstoneFlag) & ~stateFlag);
    atomic.add<u32>(row, 2);
  }
  setVersion(shard, bucket, row, version);
  linkTombstone(bucket, row);
}

/** Takes a row out of everything. */
export function removeRow(shard: usize, bucket: usize, row: usize): void {
  if (isTombstone(row)) {
    unlinkTombstone(bucket, row);
    countTombstones(shard, bucket, -1);
  } else {
    countLive(shard, bucket, -1);
    store<u32>(bucket, load<u32>(bucket, leftAt) + 1, leftAt);
    atomic.store<u32>(row + 4, (load<u32>(row, 4) | tombstoneFlag) & ~stateFlag);
    atomic.add<u32>(row, 2);
  }
  subtractTerm(bucket, load<u64>(row, 8), versionOf(row));
  unlink(bucket, row);
  removeEntry(shard, row);
  releaseRow(shard, row);
}
