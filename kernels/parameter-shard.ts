// A shard of parameters: u64 keys to rows of f32 with versions, in one memory; one writing thread, readers in any without torn or foreign rows.
// Memory, rows, index: shard-index.ts. Versions, recency lists, tombstones, digests: shard-lists.ts. The scalar twin: src/kernel/scalar-parameter-shard.ts.
//
// Initial value of number i: i < factors: scale times a number in [-1, 1) hashed from (seed, key, i); else 0. A missing key and a tombstone read so.
// Writing goes by groups of keys: new values complete and their place in the header, commit epoch odd, rows odd, values, rows even,
// commit epoch even, a fence between each. A reader that meets an odd row takes the new values from where the header says: it never waits for the writer.
// A key that comes twice in a group is written twice (two versions) in one go: the second finds the first's values by the slot number in its flags.
// Admission: 4-bit counters, four a key in one line of 64 bytes, raised conservatively (only the smallest): a count is too low only when it has faded, now and then too high.
// After 32 sightings a line, one line is halved, in turn: old sightings fade, without a pause. Rejected: a row not yet visible for every key seen; keeping those
// out of memory is what admission is for.
//
// Columns of entries for join and changes, room for n: u64 keys, u32 versions (high, low), u32 touched, u32 flags (1: tombstone), f32[dim] values.
// Working space: spareAt a row, slotsAt 32 slots of 32 bytes, valuesFrom the new values of a group.

import { fence } from "./fence";
import { copyNumbers } from "./row-numbers";
import {
  admissionAt,
  agingHandAt,
  agingSumAt,
  bucketMaskAt,
  bucketsAt,
  commitAt,
  conflictsAt,
  cursorBucketAt,
  cursorRowAt,
  dimAt,
  enter,
  evictedAt,
  evictHandAt,
  expiredAt,
  expireHandAt,
  factorsAt,
  find,
  giveBackRow,
  hashKeysTo,
  heldBackAt,
  insertEntry,
  leave,
  liveAt,
  locate,
  mayLieFurther,
  nextAt,
  notLedAt,
  pendingCountAt,
  pendingSlotsAt,
  pendingValuesAt,
  previousAt,
  reclaim,
  refusedAt,
  scaleAt,
  sketchAt,
  sketchMaskAt,
  skippedAt,
  slotShift,
  takeRow,
  touchedAt,
  unsteadyAt,
  valuesAt,
  versionHighAt,
  versionLowAt,
} from "./shard-index";
import {
  bucketLiveAt,
  bucketOf,
  bury,
  collectedHighAt,
  collectedLowAt,
  countLive,
  headAt,
  isTombstone,
  nextVersion,
  oldestTombstoneAt,
  removeRow,
  setVersion,
  tailAt,
  tombstoneFlag,
  unbury,
  versionOf,
} from "./shard-lists";
import { mixFour, mixWord } from "./word-mix";

export const spareAt: usize = 64;
export const slotsAt: usize = 4224;
export const valuesFrom: usize = 5248;
const golden: u32 = 0x9e3779b9;
/** Readings of one row before it counts as unsteady: only a writer that died in the middle leaves such a row. */
const readingsMax: u32 = 4096;
const sightingsALine: u32 = 32;
/** Rows of one group, at most: those of a factorisation machine's longest sample. */
const pendingMax: u32 = 1024;
/** Tombstones that expiring and evicting pass over in one call; a bucket with more of them in front is left to its next turn. */
const looksMax: u32 = 4096;

/** Keys handled at a time: wide rows have lines enough to fetch one beside the other. */
function groupOf(dim: u32): u32 {
  return dim <= 128 ? 32 : 8;
}

export function valueBytesOf(dim: u32): usize {
  return (<usize>dim * 4 + 15) & ~15;
}

/** Writes `dim` initial values of a key to `to`. */
export function initialValues(shard: usize, tag: u32, hash: u32, to: usize): void {
  const factors = load<u32>(shard, factorsAt);
  const dim = load<u32>(shard, dimAt);
  const scale = f32x4.splat(load<f32>(shard, scaleAt));
  let at: u32 = 0;
  let step = i32x4.add(i32x4.splat(tag), i32x4(golden, 2 * golden, 3 * golden, 4 * golden));
  for (; at < factors; at += 4) {
    const bits = i32x4.shr_u(mixFour(i32x4.add(mixFour(step), i32x4.splat(hash))), 8);
    const unit = f32x4.sub(f32x4.mul(f32x4.convert_i32x4_s(bits), f32x4.splat(1.1920928955078125e-7)), f32x4.splat(1));
    v128.store(to + ((<usize>at) << 2), f32x4.mul(unit, scale));
    step = i32x4.add(step, i32x4.splat(4 * golden));
  }
  for (; at < dim; at++) store<u32>(to + ((<usize>at) << 2), 0);
}

/** to = a + b; false when a sum is not finite. */
function addNumbers(to: usize, a: usize, b: usize, dim: u32): bool {
  const bytes = (<usize>dim) << 2;
  let differences = f32x4.splat(0);
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    const sum = f32x4.add(v128.load(a + at), v128.load(b + at));
    v128.store(to + at, sum);
    differences = f32x4.add(differences, f32x4.sub(sum, sum));
  }
  let difference: f32 = 0;
  for (; at < bytes; at += 4) {
    const sum = load<f32>(a + at) + load<f32>(b + at);
    store<f32>(to + at, sum);
    difference += sum - sum;
  }
  difference +=
    f32x4.extract_lane(differences, 0) + f32x4.extract_lane(differences, 1) + f32x4.extract_lane(differences, 2) + f32x4.extract_lane(differences, 3);
  return difference == 0;
}

/** x - x is 0 for finite numbers alone. */
function allFinite(from: usize, dim: u32): bool {
  const end = from + ((<usize>dim) << 2);
  let differences = f32x4.splat(0);
  let at = from;
  for (; at + 16 <= end; at += 16) {
    const x = v128.load(at);
    differences = f32x4.add(differences, f32x4.sub(x, x));
  }
  let difference: f32 = 0;
  for (; at < end; at += 4) {
    const x = load<f32>(at);
    difference += x - x;
  }
  difference +=
    f32x4.extract_lane(differences, 0) + f32x4.extract_lane(differences, 1) + f32x4.extract_lane(differences, 2) + f32x4.extract_lane(differences, 3);
  return difference == 0;
}

export function raise(shard: usize, word: usize): void {
  store<u32>(shard + word, load<u32>(shard + word) + 1);
}

// ---- reading ----

/** What a row is becoming, from the group that is being written; false when it is not in it or the group ended meanwhile. */
function copyPending(shard: usize, row: usize, to: usize, word: usize): bool {
  const epoch = atomic.load<u32>(shard + commitAt);
  if ((epoch & 1) == 0) return false;
  const slots = <usize>load<u32>(shard, pendingSlotsAt);
  // Bounded, and within the lane: between two groups the words may not belong together.
  const count = min<u32>(load<u32>(shard, pendingCountAt), pendingMax);
  const dim = load<u32>(shard, dimAt);
  let i: u32 = 0;
  while (i < count && <usize>load<u32>(slots + ((<usize>i) << slotShift)) != row) i += 1;
  if (i >= count) return false;
  copyNumbers(to, <usize>load<u32>(shard, pendingValuesAt) + valueBytesOf(dim) * <usize>i, dim);
  fence(word);
  return atomic.load<u32>(shard + commitAt) == epoch;
}

/** Copies the whole values of a row, never a mixture; false when it is a tombstone. */
export function copySteady(shard: usize, row: usize, to: usize, word: usize): bool {
  const dim = load<u32>(shard, dimAt);
  for (let reading: u32 = 0; reading < readingsMax; reading++) {
    const seq = atomic.load<u32>(row);
    if ((seq & 1) != 0) {
      if (copyPending(shard, row, to, word)) return true;
      continue;
    }
    const buried = isTombstone(row);
    copyNumbers(to, row + valuesAt, dim);
    fence(word);
    if (atomic.load<u32>(row) == seq) return !buried;
  }
  atomic.add<u32>(shard + unsteadyAt, 1);
  return false;
}

/**
 * Reads `count` rows of `dim` numbers to `out`; missing keys and tombstones read as their initial values. `found`: a byte a key, or 0. `reader`: number of the reader, 0xFFFFFFFF:
 * the writer's thread. Returns how many were missing.
 */
export function shardPull(shard: usize, keys: usize, count: u32, out: usize, found: usize, reader: u32, scratch: usize): u32 {
  const dim = load<u32>(shard, dimAt);
  const outBytes = (<usize>dim) << 2;
  const slots = scratch + slotsAt;
  const group = groupOf(dim);
  let missing: u32 = 0;
  enter(shard, reader);
  for (let first: u32 = 0; first < count; first += group) {
    const size = min<u32>(count - first, group);
    const own = keys + ((<usize>first) << 3);
    hashKeysTo(shard, own, size, slots);
    locate(shard, size, slots, false);
    for (let i: u32 = 0; i < size; i++) {
      const at = slots + ((<usize>i) << slotShift);
      const key = load<u64>(own + ((<usize>i) << 3));
      let row = <usize>load<u32>(at);
      if (row != 0 ? load<u64>(row, 8) != key : mayLieFurther(at)) {
        row = find(shard, key, load<u32>(at, 8), load<u32>(at, 12));
        store<u32>(at, <u32>row);
      }
      if (row != 0) store<u32>(at, atomic.load<u32>(row), 4);
    }
    let to = out + outBytes * <usize>first;
    for (let i: u32 = 0; i < size; i++, to += outBytes) {
      const at = slots + ((<usize>i) << slotShift);
      const row = <usize>load<u32>(at);
      const there = row != 0 && !isTombstone(row);
      store<u32>(at, <u32>there, 24);
      if (there) copyNumbers(to, row + valuesAt, dim);
      else initialValues(shard, load<u32>(at, 8), load<u32>(at, 12), to);
    }
    fence(scratch);
    for (let i: u32 = 0; i < size; i++) {
      const at = slots + ((<usize>i) << slotShift);
      const row = <usize>load<u32>(at);
      let there = load<u32>(at, 24);
      if (row != 0) {
        const seq = load<u32>(at, 4);
        if ((seq & 1) != 0 || atomic.load<u32>(row) != seq) {
          const target = out + outBytes * <usize>(first + i);
          there = <u32>copySteady(shard, row, target, scratch);
          if (there == 0) initialValues(shard, load<u32>(at, 8), load<u32>(at, 12), target);
        }
      }
      missing += 1 - there;
      if (found != 0) store<u8>(found + <usize>(first + i), <u8>there);
    }
  }
  leave(shard, reader);
  return missing;
}

// ---- writing ----

/** Makes the new values of slots with a row visible; clears their marks and tombstone flags. */
export function commit(shard: usize, slots: usize, count: u32, values: usize): void {
  const dim = load<u32>(shard, dimAt);
  const bytes = valueBytesOf(dim);
  store<u32>(shard, <u32>slots, pendingSlotsAt);
  store<u32>(shard, count, pendingCountAt);
  store<u32>(shard, <u32>values, pendingValuesAt);
  atomic.add<u32>(shard + commitAt, 1);
  for (let i: u32 = 0; i < count; i++) {
    const row = <usize>load<u32>(slots + ((<usize>i) << slotShift));
    if (row != 0) store<u32>(row, load<u32>(row) | 1);
  }
  fence(slots - 16);
  for (let i: u32 = 0; i < count; i++) {
    const row = <usize>load<u32>(slots + ((<usize>i) << slotShift));
    if (row == 0) continue;
    copyNumbers(row + valuesAt, values + bytes * <usize>i, dim);
    store<u32>(row, load<u32>(row, 4) & ~(0xff00 | tombstoneFlag), 4);
  }
  fence(slots - 16);
  for (let i: u32 = 0; i < count; i++) {
    const row = <usize>load<u32>(slots + ((<usize>i) << slotShift));
    if (row != 0) store<u32>(row, (load<u32>(row) | 1) + 1);
  }
  atomic.add<u32>(shard + commitAt, 1);
}

/** Finds the rows of a group for writing: slots with row, tag, hash, bucket. */
function prepare(shard: usize, keys: usize, size: u32, slots: usize): void {
  reclaim(shard);
  hashKeysTo(shard, keys, size, slots);
  for (let i: u32 = 0; i < size; i++) store<u32>(slots + ((<usize>i) << slotShift), <u32>bucketOf(shard, load<u64>(keys + ((<usize>i) << 3))), 20);
  locate(shard, size, slots, true);
}

/** The row of a slot's key, also one that an earlier key of the group made. */
function rowOf(shard: usize, slot: usize, key: u64): usize {
  const row = <usize>load<u32>(slot);
  if (row != 0 && load<u64>(row, 8) == key) return row;
  return find(shard, key, load<u32>(slot, 8), load<u32>(slot, 12));
}

/** A new row with its initial values, flagged as a tombstone, that the index refers to, or 0 when memory is full. */
export function makeRow(shard: usize, slot: usize, key: u64, word: usize): usize {
  const row = takeRow(shard);
  if (row == 0) return 0;
  const tag = load<u32>(slot, 8);
  const hash = load<u32>(slot, 12);
  store<u32>(row - versionHighAt, 0);
  store<u32>(row - versionLowAt, 0);
  store<u32>(row, tombstoneFlag, 4);
  store<u64>(row, key, 8);
  initialValues(shard, tag, hash, row + valuesAt);
  fence(word);
  if (insertEntry(shard, tag, hash, row)) return row;
  giveBackRow(shard, row);
  return 0;
}

function pendingOf(row: usize): u32 {
  return (load<u32>(row, 4) >> 8) & 0xff;
}

/** Marks a row as written by slot `i` of the group. */
function setPending(row: usize, i: u32): void {
  store<u32>(row, load<u32>(row, 4) | ((i + 1) << 8), 4);
}

export function countWrite(row: usize, seconds: u32): void {
  const writes = <u32>load<u16>(row, 6);
  if (writes != 0xffff) store<u16>(row, <u16>(writes + 1), 6);
  store<u32>(row - touchedAt, seconds);
}

/** One sighting of a key without a row; true when it was seen often enough. */
function admit(shard: usize, tag: u32, hash: u32): bool {
  const threshold = load<u32>(shard, admissionAt);
  if (threshold <= 1) return true;
  const sketch = <usize>load<u32>(shard, sketchAt);
  const mask = load<u32>(shard, sketchMaskAt);
  const line = sketch + ((<usize>(mixWord(hash + golden) & mask)) << 6);
  const places = mixWord(tag + golden);
  let least: u32 = 15;
  for (let i: u32 = 0; i < 4; i++) {
    const place = (places >> (i * 7)) & 127;
    least = min<u32>(least, ((<u32>load<u8>(line + <usize>(place >> 1))) >> ((place & 1) << 2)) & 15);
  }
  if (least + 1 >= threshold) return true;
  for (let i: u32 = 0; i < 4; i++) {
    const place = (places >> (i * 7)) & 127;
    const at = line + <usize>(place >> 1);
    const shift = (place & 1) << 2;
    const byte = <u32>load<u8>(at);
    if (((byte >> shift) & 15) == least) store<u8>(at, <u8>(byte + (1 << shift)));
  }
  const sum = load<u32>(shard, agingSumAt) + 1;
  if (sum < sightingsALine) {
    store<u32>(shard, sum, agingSumAt);
    return false;
  }
  store<u32>(shard, 0, agingSumAt);
  const hand = load<u32>(shard, agingHandAt) & mask;
  const fading = sketch + ((<usize>hand) << 6);
  for (let at: usize = 0; at < 64; at += 8) store<u64>(fading + at, (load<u64>(fading + at) >> 1) & 0x7777777777777777);
  store<u32>(shard, hand + 1, agingHandAt);
  return false;
}

/** Sets or adds to rows. */
function write(shard: usize, keys: usize, count: u32, given: usize, seconds: u32, scratch: usize, adding: bool): u32 {
  const dim = load<u32>(shard, dimAt);
  const givenBytes = (<usize>dim) << 2;
  const valueBytes = valueBytesOf(dim);
  const slots = scratch + slotsAt;
  const values = scratch + valuesFrom;
  const spare = scratch + spareAt;
  const group = groupOf(dim);
  let refused: u32 = 0;
  for (let first: u32 = 0; first < count; first += group) {
    const size = min<u32>(count - first, group);
    const own = keys + ((<usize>first) << 3);
    prepare(shard, own, size, slots);
    for (let i: u32 = 0; i < size; i++) {
      const slot = slots + ((<usize>i) << slotShift);
      const key = load<u64>(own + ((<usize>i) << 3));
      const from = given + givenBytes * <usize>(first + i);
      const bucket = <usize>load<u32>(slot, 20);
      let row = rowOf(shard, slot, key);
      let fresh = false;
      // Only a slot whose values are to be written names a row.
      store<u32>(slot, 0);
      const version = nextVersion(bucket);
      if (version == 0) {
        raise(shard, notLedAt);
        refused += 1;
        continue;
      }
      if (!allFinite(from, dim)) {
        raise(shard, skippedAt);
        continue;
      }
      if (row == 0) {
        if (adding && !admit(shard, load<u32>(slot, 8), load<u32>(slot, 12))) {
          raise(shard, heldBackAt);
          refused += 1;
          continue;
        }
        // A tombstone to readers until its values stand.
        row = makeRow(shard, slot, key, scratch);
        if (row == 0) {
          raise(shard, refusedAt);
          refused += 1;
          continue;
        }
        fresh = true;
        countLive(shard, bucket, 1);
      }
      const pending = pendingOf(row);
      const value = values + valueBytes * <usize>(pending != 0 ? pending - 1 : i);
      if (adding) {
        let base = pending != 0 ? value : row + valuesAt;
        if (pending == 0 && !fresh && isTombstone(row)) {
          initialValues(shard, load<u32>(slot, 8), load<u32>(slot, 12), spare);
          base = spare;
        }
        // The sum of finite numbers may still exceed what f32 holds.
        if (!addNumbers(spare, base, from, dim)) {
          raise(shard, skippedAt);
          continue;
        }
        copyNumbers(value, spare, dim);
      } else copyNumbers(value, from, dim);
      if (pending == 0) {
        if (!fresh && isTombstone(row)) unbury(shard, bucket, row);
        setPending(row, i);
        store<u32>(slot, <u32>row);
      }
      countWrite(row, seconds);
      setVersion(shard, bucket, row, version);
    }
    commit(shard, slots, size, values);
  }
  return refused;
}

/** Sets `count` rows of `dim` numbers; returns how many were refused. Numbers that are not finite change nothing and count as skipped. */
export function shardAssign(shard: usize, keys: usize, count: u32, values: usize, seconds: u32, scratch: usize): u32 {
  return write(shard, keys, count, values, seconds, scratch, false);
}

/** Adds to `count` rows; returns how many were refused. */
export function shardAdd(shard: usize, keys: usize, count: u32, deltas: usize, seconds: u32, scratch: usize): u32 {
  return write(shard, keys, count, deltas, seconds, scratch, true);
}

/** Makes rows tombstones; returns how many had a row. */
export function shardDelete(shard: usize, keys: usize, count: u32, scratch: usize): u32 {
  const slots = scratch + slotsAt;
  const group = groupOf(load<u32>(shard, dimAt));
  let deleted: u32 = 0;
  for (let first: u32 = 0; first < count; first += group) {
    const size = min<u32>(count - first, group);
    const own = keys + ((<usize>first) << 3);
    prepare(shard, own, size, slots);
    for (let i: u32 = 0; i < size; i++) {
      const slot = slots + ((<usize>i) << slotShift);
      const row = rowOf(shard, slot, load<u64>(own + ((<usize>i) << 3)));
      if (row == 0 || isTombstone(row)) continue;
      const bucket = <usize>load<u32>(slot, 20);
      const version = nextVersion(bucket);
      if (version == 0) {
        raise(shard, notLedAt);
        continue;
      }
      bury(shard, bucket, row, version, false);
      deleted += 1;
    }
  }
  return deleted;
}

/** Orders entries of equal version: a tombstone above a row, then touched, then the bits of the values from the first on. */
function compareEntries(row: usize, buried: bool, seconds: u32, values: usize, dim: u32): i32 {
  const own = isTombstone(row);
  if (own != buried) return buried ? 1 : -1;
  const touched = load<u32>(row - touchedAt);
  if (touched != seconds) return seconds > touched ? 1 : -1;
  if (buried) return 0;
  for (let at: usize = 0; at < (<usize>dim) << 2; at += 4) {
    const mine = load<u32>(row + valuesAt + at);
    const theirs = load<u32>(values + at);
    if (mine != theirs) return theirs > mine ? 1 : -1;
  }
  return 0;
}

/**
 * Joins `count` entries; `columns` has room for so many. Returns how many were newer. How many were looked at stands at `scratch + 8`: fewer than `count` when
 * memory was full.
 */
export function shardJoin(shard: usize, columns: usize, count: u32, scratch: usize): u32 {
  const dim = load<u32>(shard, dimAt);
  const versions = columns + ((<usize>count) << 3);
  const touched = versions + ((<usize>count) << 3);
  const flags = touched + ((<usize>count) << 2);
  const given = flags + ((<usize>count) << 2);
  const givenBytes = (<usize>dim) << 2;
  const valueBytes = valueBytesOf(dim);
  const slots = scratch + slotsAt;
  const values = scratch + valuesFrom;
  const group = groupOf(dim);
  let newer: u32 = 0;
  store<u32>(scratch, count, 8);
  for (let first: u32 = 0; first < count; first += group) {
    const size = min<u32>(count - first, group);
    const own = columns + ((<usize>first) << 3);
    prepare(shard, own, size, slots);
    let full = false;
    for (let i: u32 = 0; i < size; i++) {
      const number = <usize>(first + i);
      const slot = slots + ((<usize>i) << slotShift);
      const key = load<u64>(own + ((<usize>i) << 3));
      const version = ((<u64>load<u32>(versions + (number << 3))) << 32) | (<u64>load<u32>(versions + (number << 3), 4));
      const seconds = load<u32>(touched + (number << 2));
      const buried = (load<u32>(flags + (number << 2)) & 1) != 0;
      const from = given + givenBytes * number;
      const bucket = <usize>load<u32>(slot, 20);
      let row = rowOf(shard, slot, key);
      store<u32>(slot, 0);
      if (full || version == 0) continue;
      let fresh = false;
      if (row == 0) {
        row = makeRow(shard, slot, key, scratch);
        if (row == 0) {
          raise(shard, refusedAt);
          store<u32>(scratch, first + i, 8);
          full = true;
          continue;
        }
        fresh = true;
        if (!buried) countLive(shard, bucket, 1);
      } else {
        const mine = versionOf(row);
        if (version < mine) continue;
        if (pendingOf(row) != 0) {
          // The key came already in this group: what it became has to stand before it is compared or overwritten.
          commit(shard, slots, i, values);
          for (let done: u32 = 0; done < i; done++) store<u32>(slots + ((<usize>done) << slotShift), 0);
        }
        if (version == mine) {
          const order = compareEntries(row, buried, seconds, from, dim);
          if (order == 0) continue;
          raise(shard, conflictsAt);
          if (order < 0) continue;
        }
      }
      newer += 1;
      countWrite(row, seconds);
      if (buried) {
        bury(shard, bucket, row, version, fresh);
        continue;
      }
      copyNumbers(values + valueBytes * <usize>i, from, dim);
      if (!fresh && isTombstone(row)) unbury(shard, bucket, row);
      setPending(row, i);
      store<u32>(slot, <u32>row);
      setVersion(shard, bucket, row, version);
    }
    commit(shard, slots, size, values);
    if (full) break;
  }
  return newer;
}

// ---- changes ----

/**
 * Writes entries of a bucket with after < version <= upTo, ascending, at most `max`, to columns with room for `max`. Returns twice their number, and 1 more
 * when those are all.
 */
export function shardChanges(shard: usize, number: u32, afterHigh: u32, afterLow: u32, upToHigh: u32, upToLow: u32, max: u32, columns: usize): u32 {
  const dim = load<u32>(shard, dimAt);
  const bucket = <usize>load<u32>(shard, bucketsAt) + ((<usize>number) << 6);
  const after = ((<u64>afterHigh) << 32) | (<u64>afterLow);
  const upTo = ((<u64>upToHigh) << 32) | (<u64>upToLow);
  let row: usize = 0;
  if (after == 0) row = <usize>load<u32>(bucket, headAt);
  else {
    // Where the last call ended, if its row still stands there; else back from the newest.
    const cursor = <usize>load<u32>(shard, cursorRowAt);
    if (cursor != 0 && load<u32>(shard, cursorBucketAt) == number && versionOf(cursor) == after && bucketOf(shard, load<u64>(cursor, 8)) == bucket) {
      row = <usize>load<u32>(cursor - nextAt);
      while (row != 0 && versionOf(row) <= after) row = <usize>load<u32>(row - nextAt);
    } else {
      let previous = <usize>load<u32>(bucket, tailAt);
      while (previous != 0 && versionOf(previous) > after) {
        row = previous;
        previous = <usize>load<u32>(previous - previousAt);
      }
    }
  }
  const versions = columns + ((<usize>max) << 3);
  const touched = versions + ((<usize>max) << 3);
  const flags = touched + ((<usize>max) << 2);
  let to = flags + ((<usize>max) << 2);
  const bytes = (<usize>dim) << 2;
  let count: u32 = 0;
  let last: usize = 0;
  while (row != 0 && versionOf(row) <= upTo) {
    if (count == max) {
      store<u32>(shard, number, cursorBucketAt);
      store<u32>(shard, <u32>last, cursorRowAt);
      return 2 * count;
    }
    const buried = isTombstone(row);
    store<u64>(columns + ((<usize>count) << 3), load<u64>(row, 8));
    store<u32>(versions + ((<usize>count) << 3), load<u32>(row - versionHighAt));
    store<u32>(versions + ((<usize>count) << 3), load<u32>(row - versionLowAt), 4);
    store<u32>(touched + ((<usize>count) << 2), load<u32>(row - touchedAt));
    store<u32>(flags + ((<usize>count) << 2), <u32>buried);
    if (buried) memory.fill(to, 0, bytes);
    else copyNumbers(to, row + valuesAt, dim);
    to += bytes;
    count += 1;
    last = row;
    row = <usize>load<u32>(row - nextAt);
  }
  return 2 * count + 1;
}

// ---- leaving ----

/** Whoever knows the bucket only up to an earlier version can no longer learn of this tombstone. */
function markCollected(bucket: usize, version: u64): void {
  if (version <= (((<u64>load<u32>(bucket, collectedHighAt)) << 32) | (<u64>load<u32>(bucket, collectedLowAt)))) return;
  store<u32>(bucket, <u32>(version >> 32), collectedHighAt);
  store<u32>(bucket, <u32>version, collectedLowAt);
}

/** Removes rows of a bucket with version <= upTo, oldest first, at most `max`: tombstones, or with `everything` also live ones. Returns how many. */
export function shardCollect(shard: usize, number: u32, upToHigh: u32, upToLow: u32, max: u32, everything: u32): u32 {
  const bucket = <usize>load<u32>(shard, bucketsAt) + ((<usize>number) << 6);
  const upTo = ((<u64>upToHigh) << 32) | (<u64>upToLow);
  let removed: u32 = 0;
  while (removed < max) {
    const row = <usize>(everything != 0 ? load<u32>(bucket, headAt) : load<u32>(bucket, oldestTombstoneAt));
    if (row == 0) break;
    const version = versionOf(row);
    if (version > upTo) break;
    if (isTombstone(row)) markCollected(bucket, version);
    removeRow(shard, bucket, row);
    removed += 1;
  }
  return removed;
}

/** A live row leaves as a tombstone, or, where nobody follows, at once. */
function dismiss(shard: usize, bucket: usize, row: usize, version: u64, atOnce: bool): void {
  if (atOnce) removeRow(shard, bucket, row);
  else bury(shard, bucket, row, version, false);
}

/**
 * Evicts live rows that were written longest ago until at most `liveTarget` are left, at most `max`; from each bucket what it holds beyond an equal share.
 * Only buckets led here. Returns how many.
 */
export function shardEvict(shard: usize, liveTarget: u32, max: u32, atOnce: u32): u32 {
  reclaim(shard);
  const mask = load<u32>(shard, bucketMaskAt);
  const share = liveTarget / (mask + 1);
  let hand = load<u32>(shard, evictHandAt) & mask;
  let evicted: u32 = 0;
  let looks: u32 = 0;
  for (let visited: u32 = 0; visited <= mask && evicted < max && looks < looksMax && load<u32>(shard, liveAt) > liveTarget; visited++) {
    const bucket = <usize>load<u32>(shard, bucketsAt) + ((<usize>hand) << 6);
    let row = <usize>load<u32>(bucket, headAt);
    while (row != 0 && evicted < max && looks < looksMax && load<u32>(bucket, bucketLiveAt) > share && load<u32>(shard, liveAt) > liveTarget) {
      const next = <usize>load<u32>(row - nextAt);
      if (isTombstone(row)) looks += 1;
      else {
        const version = nextVersion(bucket);
        if (version == 0) break;
        dismiss(shard, bucket, row, version, atOnce != 0);
        evicted += 1;
      }
      row = next;
    }
    if (evicted < max) hand = (hand + 1) & mask;
  }
  store<u32>(shard, hand, evictHandAt);
  store<u32>(shard, load<u32>(shard, evictedAt) + evicted, evictedAt);
  return evicted;
}

/**
 * Expires live rows that were touched before `seconds`, oldest first, in the next `buckets` buckets led here, at most `max`. Returns how many; a bucket that was
 * not finished is the first of the next call.
 */
export function shardExpire(shard: usize, seconds: u32, buckets: u32, max: u32, atOnce: u32): u32 {
  reclaim(shard);
  const mask = load<u32>(shard, bucketMaskAt);
  let hand = load<u32>(shard, expireHandAt) & mask;
  let expired: u32 = 0;
  let looks: u32 = 0;
  for (let visited: u32 = 0; visited < buckets && expired < max && looks < looksMax; visited++) {
    const bucket = <usize>load<u32>(shard, bucketsAt) + ((<usize>hand) << 6);
    let row = <usize>load<u32>(bucket, headAt);
    while (row != 0 && expired < max && looks < looksMax) {
      const next = <usize>load<u32>(row - nextAt);
      if (isTombstone(row)) looks += 1;
      else {
        if (load<u32>(row - touchedAt) >= seconds) break;
        const version = nextVersion(bucket);
        if (version == 0) break;
        dismiss(shard, bucket, row, version, atOnce != 0);
        expired += 1;
      }
      row = next;
    }
    if (expired < max) hand = (hand + 1) & mask;
  }
  store<u32>(shard, hand, expireHandAt);
  store<u32>(shard, load<u32>(shard, expiredAt) + expired, expiredAt);
  return expired;
}
