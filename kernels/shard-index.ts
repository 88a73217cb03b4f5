// The memory and the index of a parameter shard: where rows come from, how a key finds its row, when a place may be used again.
//
// Layout of a shard (64-aligned; written by src/kernel/parameter-shard-layout.ts, constants below). All places are addresses in the memory.
//   header 512 bytes, then a line for each reader's epoch, a ring of index areas that wait for readers, the directory (8 bytes a partition), a word a
//   partition (count u16, removals since its last rebuild u16), bucket heads (shard-lists.ts), the sketch (parameter-shard.ts); from bumpAt to endAt:
//   chunks, taken one after another and never given back: index areas and slabs of rows.
//
// Row, by the address r of its seq, a multiple of 4; rowBytes = 36 + 4 max(dim, 2), begins at r - 20:
//   -20 u32 version high   -16 u32 version low   -12 u32 next   -8 u32 previous (rows of its bucket in order of version, 0: none)   -4 u32 touched, seconds
//   +0 u32 seq (odd while being written)   +4 u16 flags   +6 u16 writes (stays at 65,535)   +8 u64 key   +16 f32[dim]; of a tombstone its two links instead
//   The writer's part lies before what readers need, so that 16 numbers are 80 bytes to read and not 100.
//
// Index: the highest bits of the key's hash choose a partition; its directory entry is u64 = area (low), groups (high). An area is a small closed table of
// search groups as in entry-probe.ts (a line: 12 tags of a byte, overflow bits, 12 references), home = the remaining bits x groups >> 32.
// A partition that is 85 % full is built anew a quarter larger, elsewhere, and published by one store; the old area goes to the rows as a slab when no
// reader is in it any more. So growing has no pauses (a partition has some 4,096 entries: 0.1 ms) and frees what it leaves. The sizes of each partition
// run along a ladder of its own, or all would grow at the same moment.
// Rejected: linear hashing over groups. Groups not yet split hold up to twice the average, so at an average of 85 % every second key needs a second line.
//
// Invariants: 1. an area does not change after it left the directory: a reader in it sees the index as it was when it left  2. a row is complete before its
//             reference is stored, the reference before its tag  3. rows and areas that were taken out wait in limbo, stamped with the epoch of that
//             moment, until every reader inside has entered later  4. a reader stores the epoch, with a fence, before it reads the directory
//             5. a partition has at least one free slot in 20, or inserting is refused; a search ends after all groups.

import { matching } from "./entry-probe";
import { fence } from "./fence";
import { mixFour, mixWord } from "./word-mix";

// Constants of a shard.
export const dimAt: usize = 4;
export const factorsAt: usize = 8;
export const rowBytesAt: usize = 12;
export const seedLowAt: usize = 16;
export const seedHighAt: usize = 20;
export const scaleAt: usize = 24;
export const bucketMaskAt: usize = 28;
export const bucketsAt: usize = 32;
export const directoryAt: usize = 36;
export const partitionBitsAt: usize = 40;
export const countsAt: usize = 44;
export const endAt: usize = 48;
export const sketchAt: usize = 52;
export const sketchMaskAt: usize = 56;
export const admissionAt: usize = 60;
export const slabBytesAt: usize = 64;
export const ringAt: usize = 68;
// The writer's words.
export const bumpAt: usize = 128;
export const slabAt: usize = 132;
export const slabEndAt: usize = 136;
export const freeRowAt: usize = 140;
export const limboHeadAt: usize = 144;
export const limboTailAt: usize = 148;
/** Numbers of areas that ever went into the ring and came out of it. */
export const ringInAt: usize = 152;
export const ringOutAt: usize = 156;
export const freeAreaAt: usize = 160;
export const liveAt: usize = 164;
export const tombstonesAt: usize = 168;
export const limboRowsAt: usize = 172;
export const freeRowsAt: usize = 176;
export const indexBytesAt: usize = 180;
export const dirtyHeadAt: usize = 184;
export const dirtyTailAt: usize = 188;
export const refusedAt: usize = 192;
export const heldBackAt: usize = 196;
export const notLedAt: usize = 200;
export const skippedAt: usize = 204;
export const conflictsAt: usize = 208;
export const evictedAt: usize = 212;
export const expiredAt: usize = 216;
export const agingSumAt: usize = 220;
export const agingHandAt: usize = 224;
export const evictHandAt: usize = 228;
export const expireHandAt: usize = 232;
export const cursorBucketAt: usize = 236;
export const cursorRowAt: usize = 240;
// Of the group of rows that is being written: the epoch is odd meanwhile.
export const commitAt: usize = 256;
export const pendingSlotsAt: usize = 260;
export const pendingCountAt: usize = 264;
export const pendingValuesAt: usize = 268;
// Shared with readers.
export const epochAt: usize = 320;
export const unsteadyAt: usize = 324;
export const readersAt: usize = 328;
export const readerWordsAt: usize = 512;

export const versionHighAt: usize = 20;
export const versionLowAt: usize = 16;
export const nextAt: usize = 12;
export const previousAt: usize = 8;
export const touchedAt: usize = 4;
export const valuesAt: usize = 16;
export const writerPart: usize = 20;

export const ringSize: u32 = 1024;
const groupEntries: u32 = 12;

/** A slot of working space for a key: u32 row (0 = none), seq, tag, hash, address of its group, of its bucket, 8 bytes spare. */
export const slotShift: usize = 5;

// ---- hashes ----

export function tagWord(shard: usize, key: u64): u32 {
  return mixWord((<u32>key) ^ load<u32>(shard, seedLowAt));
}

export function hashWord(shard: usize, key: u64, tag: u32): u32 {
  return mixWord(tag + ((<u32>(key >> 32)) ^ load<u32>(shard, seedHighAt)));
}

function byteTag(tag: u32): u32 {
  const low = tag & 255;
  return low + <u32>(low == 0);
}

function overflowBit(tag: u32): u32 {
  return (<u32>1) << ((tag >> 8) & 31);
}

function homeOf(hash: u32, bits: u32, groups: u32): u32 {
  return <u32>((<u64>(hash << bits) * <u64>groups) >> 32);
}

/** Tags and hashes of `count` keys to their slots. */
export function hashKeysTo(shard: usize, keys: usize, count: u32, slots: usize): void {
  const seedLow = load<u32>(shard, seedLowAt);
  const seedHigh = load<u32>(shard, seedHighAt);
  const lowSeeds = i32x4.splat(seedLow);
  const highSeeds = i32x4.splat(seedHigh);
  const end = slots + ((<usize>count) << slotShift);
  let at = slots;
  for (; at + 128 <= end; at += 128, keys += 32) {
    const first = v128.load(keys);
    const second = v128.load(keys, 16);
    const tags = mixFour(v128.xor(v128.shuffle<u32>(first, second, 0, 2, 4, 6), lowSeeds));
    const hashes = mixFour(i32x4.add(tags, v128.xor(v128.shuffle<u32>(first, second, 1, 3, 5, 7), highSeeds)));
    const front = v128.shuffle<u32>(tags, hashes, 0, 4, 1, 5);
    const back = v128.shuffle<u32>(tags, hashes, 2, 6, 3, 7);
    v128.store_lane<u64>(at, front, 0, 8);
    v128.store_lane<u64>(at, front, 1, 40);
    v128.store_lane<u64>(at, back, 0, 72);
    v128.store_lane<u64>(at, back, 1, 104);
  }
  for (; at < end; at += 32, keys += 8) {
    const tag = mixWord(load<u32>(keys) ^ seedLow);
    store<u32>(at, tag, 8);
    store<u32>(at, mixWord(tag + (load<u32>(keys, 4) ^ seedHigh)), 12);
  }
}

// ---- finding ----

/** Address of the key's row, tombstones included, or 0. */
export function find(shard: usize, key: u64, tag: u32, hash: u32): usize {
  const bits = load<u32>(shard, partitionBitsAt);
  const entry = atomic.load<u64>(<usize>load<u32>(shard, directoryAt) + ((<usize>(hash >> (32 - bits))) << 3));
  const groups = <u32>(entry >> 32);
  if (groups == 0) return 0;
  const area = <usize>(<u32>entry);
  const wanted = byteTag(tag);
  const bit = overflowBit(tag);
  let group = homeOf(hash, bits, groups);
  for (let walked: u32 = 0; walked < groups; walked++) {
    const at = area + ((<usize>group) << 6);
    for (let mask = matching(at, wanted); mask != 0; mask &= mask - 1) {
      const row = <usize>atomic.load<u32>(at + 16 + ((<usize>ctz(mask)) << 2));
      if (load<u64>(row, 8) == key) return row;
    }
    if ((load<u32>(at, 12) & bit) == 0) return 0;
    group = group + 1 == groups ? 0 : group + 1;
  }
  return 0;
}

/** The rows that `count` keys (whose hashes stand in their slots) probably have, 0: none in their own group. Lines of groups, then of rows, are on their way. */
export function locate(shard: usize, count: u32, slots: usize, forWriting: bool): void {
  const directory = <usize>load<u32>(shard, directoryAt);
  const bits = load<u32>(shard, partitionBitsAt);
  const shift = 32 - bits;
  const end = slots + ((<usize>count) << slotShift);
  for (let at = slots; at < end; at += 32) {
    const hash = load<u32>(at, 12);
    const entry = atomic.load<u64>(directory + ((<usize>(hash >> shift)) << 3));
    store<u32>(at, <u32>entry + (homeOf(hash, bits, <u32>(entry >> 32)) << 6), 16);
  }
  // Nothing else in the loop, or fewer lines would be on their way at once. An empty partition reads the unused line at address 0.
  let seen: u32 = 0;
  for (let at = slots; at < end; at += 32) seen |= load<u32>(<usize>load<u32>(at, 16));
  for (let at = slots; at < end; at += 32) {
    const group = <usize>load<u32>(at, 16);
    const mask = matching(group, byteTag(load<u32>(at, 8)));
    const row = atomic.load<u32>(group + 16 + (((<usize>ctz(mask)) & 15) << 2));
    store<u32>(at, select<u32>(row, 0, mask != 0));
  }
  const last = ((<usize>load<u32>(shard, dimAt)) << 2) + valuesAt - 4;
  if (last < 128) {
    for (let at = slots; at < end; at += 32) {
      const row = <usize>load<u32>(at);
      seen |= load<u32>(row) | load<u32>(row, 64) | load<u32>(row + last);
    }
  } else {
    for (let at = slots; at < end; at += 32) {
      const row = <usize>load<u32>(at);
      for (let further: usize = 0; further < last; further += 64) seen |= load<u32>(row + further);
      seen |= load<u32>(row + last);
    }
  }
  if (forWriting) {
    // Neighbours in the list and the bucket's head change too. A row of 0 has its links in front of address 0: taken from 64 instead.
    for (let at = slots; at < end; at += 32) {
      const row = <usize>load<u32>(at);
      const safe = row == 0 ? <usize>64 : row;
      seen |= load<u32>(<usize>load<u32>(at, 20));
      seen |= load<u32>(safe - nextAt);
    }
    for (let at = slots; at < end; at += 32) {
      const row = <usize>load<u32>(at);
      const safe = row == 0 ? <usize>64 : row;
      // The row will stand behind the newest of its bucket (second word of its head).
      const tail = max<usize>(<usize>load<u32>(<usize>load<u32>(at, 20), 4), 64);
      seen |= load<u32>(<usize>load<u32>(safe - nextAt)) | load<u32>(<usize>load<u32>(safe - previousAt)) | load<u32>(tail - nextAt);
    }
  }
  // Stored, or the optimizer would drop the reading.
  store<u32>(slots - 32, seen);
}

/** Whether a key that `locate` found no row for may have one in another group. */
export function mayLieFurther(slot: usize): bool {
  return (load<u32>(<usize>load<u32>(slot, 16), 12) & overflowBit(load<u32>(slot, 8))) != 0;
}

// ---- readers ----

/** Enters as reader number `reader`; the writer's own thread (0xFFFFFFFF) need not. */
export function enter(shard: usize, reader: u32): void {
  if (reader == 0xffffffff) return;
  const word = shard + readerWordsAt + ((<usize>reader) << 6);
  atomic.store<u32>(word, atomic.load<u32>(shard + epochAt));
  fence(word);
}

export function leave(shard: usize, reader: u32): void {
  if (reader == 0xffffffff) return;
  atomic.store<u32>(shard + readerWordsAt + ((<usize>reader) << 6), 0);
}

// ---- memory ----

/** Takes `bytes` (a multiple of 64) of memory that nobody used yet, or 0. */
function bump(shard: usize, bytes: u32): usize {
  const at = load<u32>(shard, bumpAt);
  if (bytes > load<u32>(shard, endAt) - at) return 0;
  store<u32>(shard, at + bytes, bumpAt);
  return <usize>at;
}

/** Gives back what waited in limbo and no reader can hold any more: a limited number of rows and areas a call. */
export function reclaim(shard: usize): void {
  const ringIn = load<u32>(shard, ringInAt);
  let ringOut = load<u32>(shard, ringOutAt);
  let row = <usize>load<u32>(shard, limboHeadAt);
  if (row == 0 && ringIn == ringOut) return;
  // Whoever enters from here on cannot find what is in limbo now.
  let epoch = load<u32>(shard, epochAt) + 1;
  if (epoch == 0) epoch = 1;
  atomic.store<u32>(shard + epochAt, epoch);
  fence(shard + epochAt);
  // How far the reader behind all others lies behind; stamps further behind are free. Epochs go round, distances do not.
  let behind: u32 = 0;
  const readers = atomic.load<u32>(shard + readersAt);
  for (let i: u32 = 0; i < readers; i++) {
    const entered = atomic.load<u32>(shard + readerWordsAt + ((<usize>i) << 6));
    if (entered != 0 && epoch - entered > behind) behind = epoch - entered;
  }
  for (let moved: u32 = 0; row != 0 && moved < 64 && epoch - load<u32>(row - touchedAt) > behind; moved++) {
    const next = <usize>load<u32>(row - nextAt);
    store<u32>(row - nextAt, load<u32>(shard, freeRowAt));
    store<u32>(shard, <u32>row, freeRowAt);
    store<u32>(shard, load<u32>(shard, limboRowsAt) - 1, limboRowsAt);
    store<u32>(shard, load<u32>(shard, freeRowsAt) + 1, freeRowsAt);
    row = next;
  }
  store<u32>(shard, <u32>row, limboHeadAt);
  if (row == 0) store<u32>(shard, 0, limboTailAt);
  while (ringOut != ringIn) {
    const waiting = <usize>load<u32>(shard, ringAt) + ((<usize>(ringOut % ringSize)) << 4);
    if (epoch - load<u32>(waiting, 8) <= behind) break;
    const area = <usize>load<u32>(waiting);
    store<u32>(area, load<u32>(shard, freeAreaAt));
    store<u32>(area, load<u32>(waiting, 4), 4);
    store<u32>(shard, <u32>area, freeAreaAt);
    ringOut += 1;
  }
  store<u32>(shard, ringOut, ringOutAt);
}

/** A zeroed area of so many groups, or 0. */
function takeArea(shard: usize, groups: u32): usize {
  const bytes = groups << 6;
  let before: usize = shard + freeAreaAt;
  let area = <usize>load<u32>(before);
  for (let tries: u32 = 0; area != 0 && tries < 16; tries++) {
    if (load<u32>(area, 4) == bytes) break;
    before = area;
    area = <usize>load<u32>(area);
  }
  if (area != 0 && load<u32>(area, 4) == bytes) store<u32>(before, load<u32>(area));
  else area = bump(shard, bytes);
  if (area != 0) {
    memory.fill(area, 0, <usize>bytes);
    store<u32>(shard, load<u32>(shard, indexBytesAt) + bytes, indexBytesAt);
  }
  return area;
}

/** Address of an unused row, or 0 when memory is full. Its seq is even. */
export function takeRow(shard: usize): usize {
  const rowBytes = load<u32>(shard, rowBytesAt);
  let row = <usize>load<u32>(shard, freeRowAt);
  if (row != 0) {
    store<u32>(shard, load<u32>(row - nextAt), freeRowAt);
    store<u32>(shard, load<u32>(shard, freeRowsAt) - 1, freeRowsAt);
    return row;
  }
  let at = load<u32>(shard, slabAt);
  let end = load<u32>(shard, slabEndAt);
  while (rowBytes > end - at) {
    // Areas of the index first: they are of no use to it once it has grown.
    const area = <usize>load<u32>(shard, freeAreaAt);
    if (area != 0) {
      store<u32>(shard, load<u32>(area), freeAreaAt);
      at = <u32>area;
      end = at + load<u32>(area, 4);
      continue;
    }
    let bytes = load<u32>(shard, slabBytesAt);
    const left = (load<u32>(shard, endAt) - load<u32>(shard, bumpAt)) & ~63;
    if (bytes > left) bytes = left;
    if (bytes < rowBytes) {
      store<u32>(shard, at, slabAt);
      store<u32>(shard, end, slabEndAt);
      return 0;
    }
    at = <u32>bump(shard, bytes);
    end = at + bytes;
  }
  store<u32>(shard, at + rowBytes, slabAt);
  store<u32>(shard, end, slabEndAt);
  row = <usize>at + writerPart;
  store<u32>(row, 0);
  return row;
}

/** Puts a row that nothing refers to any more into limbo. */
export function releaseRow(shard: usize, row: usize): void {
  store<u32>(row - versionHighAt, 0);
  store<u32>(row - versionLowAt, 0);
  store<u32>(row - nextAt, 0);
  store<u32>(row - touchedAt, load<u32>(shard, epochAt));
  const tail = <usize>load<u32>(shard, limboTailAt);
  if (tail == 0) store<u32>(shard, <u32>row, limboHeadAt);
  else store<u32>(tail - nextAt, <u32>row);
  store<u32>(shard, <u32>row, limboTailAt);
  store<u32>(shard, load<u32>(shard, limboRowsAt) + 1, limboRowsAt);
}

/** A row that was taken and never referred to. */
export function giveBackRow(shard: usize, row: usize): void {
  store<u32>(row - nextAt, load<u32>(shard, freeRowAt));
  store<u32>(shard, <u32>row, freeRowAt);
  store<u32>(shard, load<u32>(shard, freeRowsAt) + 1, freeRowsAt);
}

// ---- changing the index ----

function placeIn(area: usize, groups: u32, bits: u32, tag: u32, hash: u32, row: u32): void {
  let group = homeOf(hash, bits, groups);
  while (true) {
    const at = area + ((<usize>group) << 6);
    const free = matching(at, 0);
    if (free != 0) {
      const slot = <usize>ctz(free);
      atomic.store<u32>(at + 16 + (slot << 2), row);
      atomic.store<u8>(at + slot, <u8>byteTag(tag));
      return;
    }
    store<u32>(at, load<u32>(at, 12) | overflowBit(tag), 12);
    group = group + 1 == groups ? 0 : group + 1;
  }
}

/** The next size on a partition's ladder: 8 x (1 to 1.25, by its number) x 1.25^k, and every number below 8. */
function largerOf(partition: u32, groups: u32): u32 {
  if (groups < 8) return groups + 1;
  let size: f64 = 8 * (1 + 0.25 * (<f64>(partition * 0x9e3779b9) / 4294967296.0));
  while (<u32>size <= groups) size *= 1.25;
  return <u32>size;
}

/** Builds a partition anew in `groups` groups; false when there is no memory, or the readers let no more areas go. */
function rebuild(shard: usize, partition: u32, groups: u32): bool {
  const ringIn = load<u32>(shard, ringInAt);
  if (ringIn - load<u32>(shard, ringOutAt) >= ringSize) return false;
  const area = takeArea(shard, groups);
  if (area == 0) return false;
  const bits = load<u32>(shard, partitionBitsAt);
  const place = <usize>load<u32>(shard, directoryAt) + ((<usize>partition) << 3);
  const entry = load<u64>(place);
  const old = <usize>(<u32>entry);
  const oldGroups = <u32>(entry >> 32);
  // The keys of all rows first, nothing else in the loop, or few lines would be on their way at once; a slot that was given up reads a row of before.
  let seen: u32 = 0;
  const end = old + ((<usize>oldGroups) << 6);
  for (let at = old; at < end; at += 64) {
    seen |= load<u32>(<usize>load<u32>(at, 16), 8) | load<u32>(<usize>load<u32>(at, 20), 8) | load<u32>(<usize>load<u32>(at, 24), 8);
    seen |= load<u32>(<usize>load<u32>(at, 28), 8) | load<u32>(<usize>load<u32>(at, 32), 8) | load<u32>(<usize>load<u32>(at, 36), 8);
    seen |= load<u32>(<usize>load<u32>(at, 40), 8) | load<u32>(<usize>load<u32>(at, 44), 8) | load<u32>(<usize>load<u32>(at, 48), 8);
    seen |= load<u32>(<usize>load<u32>(at, 52), 8) | load<u32>(<usize>load<u32>(at, 56), 8) | load<u32>(<usize>load<u32>(at, 60), 8);
  }
  for (let at = old; at < end; at += 64) {
    for (let mask = matching(at, 0) ^ 0xfff; mask != 0; mask &= mask - 1) {
      const row = load<u32>(at + 16 + ((<usize>ctz(mask)) << 2));
      const key = load<u64>(<usize>row, 8);
      const tag = tagWord(shard, key);
      placeIn(area, groups, bits, tag, hashWord(shard, key, tag), row);
    }
  }
  // Kept, or the optimizer would drop the first reading of the keys.
  store<u32>(shard, seen, cursorRowAt);
  store<u32>(shard, 0, cursorRowAt);
  atomic.store<u64>(place, ((<u64>groups) << 32) | (<u64>(<u32>area)));
  if (oldGroups != 0) {
    const waiting = <usize>load<u32>(shard, ringAt) + ((<usize>(ringIn % ringSize)) << 4);
    store<u32>(waiting, <u32>old);
    store<u32>(waiting, oldGroups << 6, 4);
    store<u32>(waiting, load<u32>(shard, epochAt), 8);
    store<u32>(shard, ringIn + 1, ringInAt);
    store<u32>(shard, load<u32>(shard, indexBytesAt) - (oldGroups << 6), indexBytesAt);
  }
  const count = <usize>load<u32>(shard, countsAt) + ((<usize>partition) << 2);
  store<u32>(count, load<u32>(count) & 0xffff);
  return true;
}

/** Refers to a complete row. False when there is no room for it. */
export function insertEntry(shard: usize, tag: u32, hash: u32, row: usize): bool {
  const bits = load<u32>(shard, partitionBitsAt);
  const partition = hash >> (32 - bits);
  const place = <usize>load<u32>(shard, directoryAt) + ((<usize>partition) << 3);
  const word = <usize>load<u32>(shard, countsAt) + ((<usize>partition) << 2);
  let groups = load<u32>(place, 4);
  const count = load<u32>(word) & 0xffff;
  if (count * 5 >= groups * 51 || count == 0xffff) {
    if (count == 0xffff || !rebuild(shard, partition, largerOf(partition, groups))) {
      if (count == 0xffff || count * 20 >= groups * groupEntries * 19) return false;
    }
    groups = load<u32>(place, 4);
  }
  placeIn(<usize>load<u32>(place), groups, bits, tag, hash, <u32>row);
  store<u32>(word, load<u32>(word) + 1);
  return true;
}

/** Takes the reference to a row out. */
export function removeEntry(shard: usize, row: usize): void {
  const key = load<u64>(row, 8);
  const tag = tagWord(shard, key);
  const hash = hashWord(shard, key, tag);
  const bits = load<u32>(shard, partitionBitsAt);
  const partition = hash >> (32 - bits);
  const place = <usize>load<u32>(shard, directoryAt) + ((<usize>partition) << 3);
  const area = <usize>load<u32>(place);
  const groups = load<u32>(place, 4);
  const wanted = byteTag(tag);
  let group = homeOf(hash, bits, groups);
  for (let walked: u32 = 0; walked < groups; walked++) {
    const at = area + ((<usize>group) << 6);
    for (let mask = matching(at, wanted); mask != 0; mask &= mask - 1) {
      const slot = <usize>ctz(mask);
      if (<usize>load<u32>(at + 16 + (slot << 2)) != row) continue;
      atomic.store<u8>(at + slot, 0);
      const word = <usize>load<u32>(shard, countsAt) + ((<usize>partition) << 2);
      const counts = load<u32>(word) - 1;
      store<u32>(word, counts + 0x10000);
      // Overflow bits stay when entries go: after as many removals as it has room, a partition is built anew in its size.
      const removals = (counts >> 16) + 1;
      if (removals >= groups * groupEntries && removals >= 64) {
        store<u32>(word, counts & 0xffff);
        rebuild(shard, partition, groups);
      }
      return;
    }
    group = group + 1 == groups ? 0 : group + 1;
  }
}
