// The scalar twin of kernels/parameter-shard.ts, shard-index.ts, shard-lists.ts and parameter-narrow.ts: the same calls over the same bytes.
// Invariants: 1. the same bits and the same places as the binaries: rows, areas and lists come out alike word for word
//             2. rows are written and read by the same protocol of seq and epochs, so threads of different variants work on one shard.
// Cost: some 10x the SIMD kernels. Concurrency: as theirs: one writing thread, any number of readers.

import type { KernelCalls } from "./kernel-calls.ts";
import { entryTerm, fillInitial, hashOf, mixWord, placeOf, tagOf } from "./parameter-key.ts";
import { bucketBytes, bucketWord as bucketW, ringSize, shardWord as word } from "./parameter-shard-layout.ts";
import type { WasmMemory } from "./web-assembly.ts";

export type ParameterShardCalls = Pick<
  KernelCalls,
  | "shardAdd"
  | "shardAssign"
  | "shardChanges"
  | "shardCollect"
  | "shardDelete"
  | "shardEvict"
  | "shardExpire"
  | "shardJoin"
  | "shardPull"
  | "narrowHalves"
  | "narrowBytes"
>;

const { fround } = Math;
const golden = 0x9e3779b9;
const readingsMax = 4_096;
const looksMax = 4_096;
const sightingsALine = 32;
const pendingMax = 1_024;
const noReader = 0xffff_ffff;
const tombstoneFlag = 1;
/** The optimizer has state for this row: scalar-shard-factorisation.ts. */
export const stateFlag = 2;
/** Places in working space, bytes. */
const slotsFrom = 4_224;
const valuesFrom = 5_248;
/** Words of a row, from its seq. */
const versionHigh = -5;
const versionLow = -4;
const next = -3;
const previous = -2;
const touched = -1;
const state = 1;
const keyLow = 2;
const keyHigh = 3;
const values = 4;

/** Words of one slot of working space. */
const slotWords = 8;
const ofSlot = { row: 0, seq: 1, tag: 2, hash: 3, group: 4, bucket: 5, there: 6 } as const;

const isAbove = (aHigh: number, aLow: number, bHigh: number, bLow: number): boolean => aHigh > bHigh || (aHigh === bHigh && aLow > bLow);
const groupOf = (dim: number): number => (dim <= 128 ? 32 : 8);
const byteTag = (tag: number): number => tag & 255 || 1;
const overflowBit = (tag: number): number => 1 << ((tag >>> 8) & 31);
const homeOf = (hash: number, bits: number, groups: number): number => Math.floor((((hash << bits) >>> 0) * groups) / 4_294_967_296);

/** What the scalar factorisation machine over a shard needs beside the calls. Structures are named by word indices, of the shard that was opened last. */
export interface ScalarShard {
  readonly calls: ParameterShardCalls;
  open(shard: number): void;
  enter(reader: number): void;
  leave(reader: number): void;
  reclaim(): void;
  /** Tag and hash of the key at a word, to two words of `into`. */
  wordsOf(key: number, into: Uint32Array): void;
  /** The key's row, tombstones included, or 0. */
  find(low: number, high: number, tag: number, hash: number): number;
  isTombstone(row: number): boolean;
  /** Copies the whole values of a row, never a mixture; false when it is a tombstone. */
  copySteady(row: number, to: number, scratchWord: number): boolean;
  /** Initial values to `into[at]` on. */
  initial(tag: number, hash: number, into: Float32Array, at: number): void;
  bucketFor(low: number, high: number): number;
  /** Whether the bucket gives out a version; `stamp` gives a row this one, and its place behind all others. */
  nextVersion(bucket: number): boolean;
  stamp(bucket: number, row: number): void;
  makeRow(tag: number, hash: number, low: number, high: number, scratchWord: number): number;
  countLive(bucket: number, rows: number): void;
  unbury(bucket: number, row: number): void;
  countWrite(row: number, seconds: number): void;
  raise(index: number, by?: number): void;
  commit(slots: number, count: number, from: number): void;
}

export function bindScalarParameterShard(memory: WasmMemory): ParameterShardCalls {
  return scalarShard(memory).calls;
}

export function scalarShard(memory: WasmMemory): ScalarShard {
  const { buffer } = memory;
  const u8 = new Uint8Array(buffer);
  const u16 = new Uint16Array(buffer);
  const u32 = new Uint32Array(buffer);
  const f32 = new Float32Array(buffer);
  const term = new Uint32Array(2);
  const spare = new Float32Array(1_024);

  // ---- the shard opened last: its constants in plain variables; addresses of structures as word indices ----

  let head = 0;
  let dim = 0;
  let factors = 0;
  let scale = 0;
  let seedLow = 0;
  let seedHigh = 0;
  let bucketsAt = 0;
  let bucketMask = 0;
  let directory = 0;
  let bits = 0;
  let counts = 0;
  let ring = 0;

  function open(shard: number): void {
    head = shard >>> 2;
    dim = u32[head + word.dim]!;
    factors = u32[head + word.factors]!;
    scale = f32[head + word.scale]!;
    seedLow = u32[head + word.seedLow]!;
    seedHigh = u32[head + word.seedHigh]!;
    bucketsAt = u32[head + word.bucketsAt]! >>> 2;
    bucketMask = u32[head + word.bucketMask]!;
    directory = u32[head + word.directoryAt]! >>> 2;
    bits = u32[head + word.partitionBits]!;
    counts = u32[head + word.countsAt]! >>> 2;
    ring = u32[head + word.ringAt]! >>> 2;
  }

  const at = (index: number): number => u32[head + index]!;
  const put = (index: number, value: number): void => {
    u32[head + index] = value;
  };
  const raise = (index: number, by = 1): void => {
    u32[head + index]! += by;
  };
  /** A read-modify-write keeps what is before it before what is after it. */
  const fence = (scratchWord: number): void => {
    Atomics.add(u32, scratchWord, 0);
  };

  // ---- finding ----

  function matching(group: number, tag: number): number {
    let mask = 0;
    for (let slot = 0; slot < 12; slot++) if (u8[4 * group + slot] === tag) mask |= 1 << slot;
    return mask;
  }

  const lowest = (mask: number): number => 31 - Math.clz32(mask & -mask);

  /** Word of the key's row, tombstones included, or 0. */
  function find(low: number, high: number, tag: number, hash: number): number {
    const entry = directory + 2 * (hash >>> (32 - bits));
    // The area before the number of groups: it is published as one, and read again when it changed meanwhile.
    let area = Atomics.load(u32, entry);
    let groups = Atomics.load(u32, entry + 1);
    for (let again = Atomics.load(u32, entry); again !== area; again = Atomics.load(u32, entry)) {
      area = again;
      groups = Atomics.load(u32, entry + 1);
    }
    if (groups === 0) return 0;
    let group = homeOf(hash, bits, groups);
    for (let walked = 0; walked < groups; walked++) {
      const line = (area >>> 2) + 16 * group;
      for (let mask = matching(line, byteTag(tag)); mask !== 0; mask &= mask - 1) {
        const row = Atomics.load(u32, line + 4 + lowest(mask)) >>> 2;
        if (u32[row + keyLow] === low && u32[row + keyHigh] === high) return row;
      }
      if ((u32[line + 3]! & overflowBit(tag)) === 0) return 0;
      group = group + 1 === groups ? 0 : group + 1;
    }
    return 0;
  }

  // ---- readers ----

  const readerWord = (reader: number): number => head + word.readerWords + 16 * reader;

  function enter(reader: number): void {
    if (reader === noReader) return;
    Atomics.store(u32, readerWord(reader), Atomics.load(u32, head + word.epoch));
    fence(readerWord(reader));
  }

  function leave(reader: number): void {
    if (reader !== noReader) Atomics.store(u32, readerWord(reader), 0);
  }

  // ---- memory ----

  function bump(bytes: number): number {
    const place = at(word.bump);
    if (bytes > at(word.endAt) - place) return 0;
    put(word.bump, place + bytes);
    return place;
  }

  function reclaim(): void {
    const ringIn = at(word.ringIn);
    let ringOut = at(word.ringOut);
    let row = at(word.limboHead) >>> 2;
    if (row === 0 && ringIn === ringOut) return;
    const epoch = (at(word.epoch) + 1) >>> 0 || 1;
    Atomics.store(u32, head + word.epoch, epoch);
    fence(head + word.epoch);
    let behind = 0;
    const readers = Atomics.load(u32, head + word.readers);
    for (let i = 0; i < readers; i++) {
      const entered = Atomics.load(u32, readerWord(i));
      if (entered !== 0 && (epoch - entered) >>> 0 > behind) behind = (epoch - entered) >>> 0;
    }
    for (let moved = 0; row !== 0 && moved < 64 && (epoch - u32[row + touched]!) >>> 0 > behind; moved++) {
      const following = u32[row + next]! >>> 2;
      u32[row + next] = at(word.freeRow);
      put(word.freeRow, 4 * row);
      raise(word.limboRows, -1);
      raise(word.freeRows);
      row = following;
    }
    put(word.limboHead, 4 * row);
    if (row === 0) put(word.limboTail, 0);
    while (ringOut !== ringIn) {
      const waiting = ring + 4 * (ringOut % ringSize);
      if ((epoch - u32[waiting + 2]!) >>> 0 <= behind) break;
      const area = u32[waiting]! >>> 2;
      u32[area] = at(word.freeArea);
      u32[area + 1] = u32[waiting + 1]!;
      put(word.freeArea, 4 * area);
      ringOut = (ringOut + 1) >>> 0;
    }
    put(word.ringOut, ringOut);
  }

  /** Address of a zeroed area of so many groups, or 0. */
  function takeArea(groups: number): number {
    const bytes = groups * 64;
    let before = head + word.freeArea;
    let area = u32[before]! >>> 2;
    for (let tries = 0; area !== 0 && tries < 16 && u32[area + 1] !== bytes; tries++) {
      before = area;
      area = u32[area]! >>> 2;
    }
    let place: number;
    if (area !== 0 && u32[area + 1] === bytes) {
      u32[before] = u32[area]!;
      place = 4 * area;
    } else place = bump(bytes);
    if (place !== 0) {
      u8.fill(0, place, place + bytes);
      raise(word.indexBytes, bytes);
    }
    return place;
  }

  /** Word of an unused row, or 0. */
  function takeRow(): number {
    const rowBytes = at(word.rowBytes);
    const free = at(word.freeRow) >>> 2;
    if (free !== 0) {
      put(word.freeRow, u32[free + next]!);
      raise(word.freeRows, -1);
      return free;
    }
    let place = at(word.slab);
    let end = at(word.slabEnd);
    while (rowBytes > end - place) {
      const area = at(word.freeArea);
      if (area !== 0) {
        put(word.freeArea, u32[area >>> 2]!);
        place = area;
        end = place + u32[(area >>> 2) + 1]!;
        continue;
      }
      const left = at(word.endAt) - at(word.bump);
      const bytes = Math.min(at(word.slabBytes), left - (left % 64));
      if (bytes < rowBytes) {
        put(word.slab, place);
        put(word.slabEnd, end);
        return 0;
      }
      place = bump(bytes);
      end = place + bytes;
    }
    put(word.slab, place + rowBytes);
    put(word.slabEnd, end);
    const row = (place >>> 2) + 5;
    u32[row] = 0;
    return row;
  }

  function releaseRow(row: number): void {
    u32[row + versionHigh] = 0;
    u32[row + versionLow] = 0;
    u32[row + next] = 0;
    u32[row + touched] = at(word.epoch);
    const tail = at(word.limboTail) >>> 2;
    if (tail === 0) put(word.limboHead, 4 * row);
    else u32[tail + next] = 4 * row;
    put(word.limboTail, 4 * row);
    raise(word.limboRows);
  }

  function giveBackRow(row: number): void {
    u32[row + next] = at(word.freeRow);
    put(word.freeRow, 4 * row);
    raise(word.freeRows);
  }

  // ---- changing the index ----

  /** `area`: a word; `row`: an address. */
  function placeIn(area: number, groups: number, tag: number, hash: number, row: number): void {
    for (let group = homeOf(hash, bits, groups); ; group = group + 1 === groups ? 0 : group + 1) {
      const line = area + 16 * group;
      const free = matching(line, 0);
      if (free !== 0) {
        const slot = lowest(free);
        Atomics.store(u32, line + 4 + slot, row);
        Atomics.store(u8, 4 * line + slot, byteTag(tag));
        return;
      }
      u32[line + 3] = u32[line + 3]! | overflowBit(tag);
    }
  }

  function largerOf(partition: number, groups: number): number {
    if (groups < 8) return groups + 1;
    let size = 8 * (1 + 0.25 * ((Math.imul(partition, golden) >>> 0) / 4_294_967_296));
    while (Math.floor(size) <= groups) size *= 1.25;
    return Math.floor(size);
  }

  function rebuild(partition: number, groups: number): boolean {
    const ringIn = at(word.ringIn);
    if ((ringIn - at(word.ringOut)) >>> 0 >= ringSize) return false;
    const area = takeArea(groups);
    if (area === 0) return false;
    const entry = directory + 2 * partition;
    const old = u32[entry]!;
    const oldGroups = u32[entry + 1]!;
    for (let group = 0; group < oldGroups; group++) {
      const line = (old >>> 2) + 16 * group;
      for (let mask = matching(line, 0) ^ 0xfff; mask !== 0; mask &= mask - 1) {
        const row = u32[line + 4 + lowest(mask)]!;
        const tag = tagOf(u32[(row >>> 2) + keyLow]!, seedLow);
        placeIn(area >>> 2, groups, tag, hashOf(tag, u32[(row >>> 2) + keyHigh]!, seedHigh), row);
      }
    }
    put(word.cursorRow, 0);
    pair64[0] = area;
    pair64[1] = groups;
    Atomics.store(u64, entry >>> 1, whole64[0]!);
    if (oldGroups !== 0) {
      const waiting = ring + 4 * (ringIn % ringSize);
      u32[waiting] = old;
      u32[waiting + 1] = oldGroups * 64;
      u32[waiting + 2] = at(word.epoch);
      put(word.ringIn, ringIn + 1);
      raise(word.indexBytes, -oldGroups * 64);
    }
    u32[counts + partition]! &= 0xffff;
    return true;
  }

  const u64 = new BigUint64Array(buffer);
  const whole64 = new BigUint64Array(1);
  const pair64 = new Uint32Array(whole64.buffer);

  /** `row`: a word. */
  function insertEntry(tag: number, hash: number, row: number): boolean {
    const partition = hash >>> (32 - bits);
    const entry = directory + 2 * partition;
    let groups = u32[entry + 1]!;
    const count = u32[counts + partition]! & 0xffff;
    if (count * 5 >= groups * 51 || count === 0xffff) {
      if ((count === 0xffff || !rebuild(partition, largerOf(partition, groups))) && (count === 0xffff || count * 20 >= groups * 12 * 19)) return false;
      groups = u32[entry + 1]!;
    }
    placeIn(u32[entry]! >>> 2, groups, tag, hash, 4 * row);
    u32[counts + partition]!++;
    return true;
  }

  function removeEntry(row: number): void {
    const tag = tagOf(u32[row + keyLow]!, seedLow);
    const hash = hashOf(tag, u32[row + keyHigh]!, seedHigh);
    const partition = hash >>> (32 - bits);
    const area = u32[directory + 2 * partition]! >>> 2;
    const groups = u32[directory + 2 * partition + 1]!;
    let group = homeOf(hash, bits, groups);
    for (let walked = 0; walked < groups; walked++) {
      const line = area + 16 * group;
      for (let mask = matching(line, byteTag(tag)); mask !== 0; mask &= mask - 1) {
        const slot = lowest(mask);
        if (u32[line + 4 + slot] !== 4 * row) continue;
        Atomics.store(u8, 4 * line + slot, 0);
        const left = u32[counts + partition]! - 1;
        u32[counts + partition] = left + 0x10000;
        const removals = (left >>> 16) + 1;
        if (removals >= groups * 12 && removals >= 64) {
          u32[counts + partition] = left & 0xffff;
          rebuild(partition, groups);
        }
        return;
      }
      group = group + 1 === groups ? 0 : group + 1;
    }
  }

  // ---- buckets ----

  /** Word of the bucket of a key. */
  const bucketFor = (low: number, high: number): number => bucketsAt + (bucketBytes / 4) * (placeOf(low, high) & bucketMask);

  function countTerm(bucket: number, row: number, sign: 1 | -1): void {
    entryTerm(u32[row + keyLow]!, u32[row + keyHigh]!, u32[row + versionHigh]!, u32[row + versionLow]!, term, 0);
    const low = u32[bucket + bucketW.digestLow]! + sign * term[0]!;
    const carry = low > 0xffff_ffff ? 1 : low < 0 ? -1 : 0;
    u32[bucket + bucketW.digestLow] = low;
    u32[bucket + bucketW.digestHigh] = u32[bucket + bucketW.digestHigh]! + sign * term[1]! + carry;
  }

  function unlink(bucket: number, row: number): void {
    const after = u32[row + next]!;
    const before = u32[row + previous]!;
    if (after === 0) u32[bucket + bucketW.tail] = before;
    else u32[(after >>> 2) + previous] = before;
    if (before === 0) u32[bucket + bucketW.head] = after;
    else u32[(before >>> 2) + next] = after;
  }

  /** `before`: a word, 0 puts it in front. */
  function linkBehind(bucket: number, row: number, before: number): void {
    const after = before === 0 ? u32[bucket + bucketW.head]! : u32[before + next]!;
    u32[row + next] = after;
    u32[row + previous] = 4 * before;
    if (after === 0) u32[bucket + bucketW.tail] = 4 * row;
    else u32[(after >>> 2) + previous] = 4 * row;
    if (before === 0) u32[bucket + bucketW.head] = 4 * row;
    else u32[before + next] = 4 * row;
  }

  function unlinkTombstone(bucket: number, row: number): void {
    const after = u32[row + values]!;
    const before = u32[row + values + 1]!;
    if (after === 0) u32[bucket + bucketW.newestTombstone] = before;
    else u32[(after >>> 2) + values + 1] = before;
    if (before === 0) u32[bucket + bucketW.oldestTombstone] = after;
    else u32[(before >>> 2) + values] = after;
  }

  const rowAbove = (row: number, high: number, low: number): boolean => isAbove(u32[row + versionHigh]!, u32[row + versionLow]!, high, low);

  function linkTombstone(bucket: number, row: number): void {
    const [high, low] = [u32[row + versionHigh]!, u32[row + versionLow]!];
    let before = u32[bucket + bucketW.newestTombstone]! >>> 2;
    while (before !== 0 && rowAbove(before, high, low)) before = u32[before + values + 1]! >>> 2;
    const after = before === 0 ? u32[bucket + bucketW.oldestTombstone]! : u32[before + values]!;
    u32[row + values] = after;
    u32[row + values + 1] = 4 * before;
    if (after === 0) u32[bucket + bucketW.newestTombstone] = 4 * row;
    else u32[(after >>> 2) + values + 1] = 4 * row;
    if (before === 0) u32[bucket + bucketW.oldestTombstone] = 4 * row;
    else u32[before + values] = 4 * row;
  }

  function markDirty(bucket: number): void {
    if (u32[bucket + bucketW.dirtyNext] !== 0) return;
    const number = (bucket - bucketsAt) / (bucketBytes / 4) + 1;
    const last = at(word.dirtyTail);
    u32[bucket + bucketW.dirtyNext] = 0xffff_ffff;
    if (last === 0) put(word.dirtyHead, number);
    else u32[bucketsAt + (bucketBytes / 4) * (last - 1) + bucketW.dirtyNext] = number;
    put(word.dirtyTail, number);
  }

  function setVersion(bucket: number, row: number, high: number, low: number): void {
    let before = u32[bucket + bucketW.tail]! >>> 2;
    if (u32[row + versionHigh] !== 0 || u32[row + versionLow] !== 0) {
      countTerm(bucket, row, -1);
      if (before === row) before = u32[row + previous]! >>> 2;
      unlink(bucket, row);
    }
    while (before !== 0 && rowAbove(before, high, low)) before = u32[before + previous]! >>> 2;
    linkBehind(bucket, row, before);
    u32[row + versionHigh] = high;
    u32[row + versionLow] = low;
    countTerm(bucket, row, 1);
    if (isAbove(high, low, u32[bucket + bucketW.newestHigh]!, u32[bucket + bucketW.newestLow]!)) {
      u32[bucket + bucketW.newestHigh] = high;
      u32[bucket + bucketW.newestLow] = low;
    }
    markDirty(bucket);
  }

  let stampHigh = 0;
  let stampLow = 0;

  /** Puts the version of the next write of a bucket into stampHigh and stampLow; false when there is none. */
  function nextVersion(bucket: number): boolean {
    const epoch = u32[bucket + bucketW.leadEpoch]!;
    const newestHigh = u32[bucket + bucketW.newestHigh]!;
    if (epoch === 0 || newestHigh >>> 16 > epoch) return false;
    const counter = (newestHigh & 0xffff) * 2 ** 24 + (u32[bucket + bucketW.newestLow]! >>> 8) + 1;
    if (counter > 0xff_ffff_ffff) return false;
    stampHigh = ((epoch << 16) | Math.floor(counter / 2 ** 24)) >>> 0;
    stampLow = (((counter % 2 ** 24) << 8) | u32[bucket + bucketW.leadNode]!) >>> 0;
    return true;
  }

  function countLive(bucket: number, rows: number): void {
    u32[bucket + bucketW.live]! += rows;
    raise(word.live, rows);
  }

  function countTombstones(bucket: number, rows: number): void {
    u32[bucket + bucketW.tombstones]! += rows;
    raise(word.tombstones, rows);
  }

  const isTombstone = (row: number): boolean => (u32[row + state]! & tombstoneFlag) !== 0;

  function unbury(bucket: number, row: number): void {
    unlinkTombstone(bucket, row);
    countTombstones(bucket, -1);
    countLive(bucket, 1);
  }

  function raiseFlag(row: number): void {
    Atomics.store(u32, row + state, (u32[row + state]! | tombstoneFlag) & ~stateFlag);
    Atomics.add(u32, row, 2);
  }

  function bury(bucket: number, row: number, high: number, low: number, fresh: boolean): void {
    if (fresh) countTombstones(bucket, 1);
    else if (isTombstone(row)) unlinkTombstone(bucket, row);
    else {
      countLive(bucket, -1);
      countTombstones(bucket, 1);
      raiseFlag(row);
    }
    setVersion(bucket, row, high, low);
    linkTombstone(bucket, row);
  }

  function removeRow(bucket: number, row: number): void {
    if (isTombstone(row)) {
      unlinkTombstone(bucket, row);
      countTombstones(bucket, -1);
    } else {
      countLive(bucket, -1);
      u32[bucket + bucketW.left]!++;
      raiseFlag(row);
    }
    countTerm(bucket, row, -1);
    unlink(bucket, row);
    removeEntry(row);
    releaseRow(row);
  }

  // ---- reading ----

  const initial = (tag: number, hash: number, into: Float32Array, place: number): void => fillInitial(tag, hash, factors, scale, dim, into, place);

  const valueWords = (): number => 4 * Math.ceil(dim / 4);

  function copyPending(row: number, to: number, scratchWord: number): boolean {
    const epoch = Atomics.load(u32, head + word.commit);
    if ((epoch & 1) === 0) return false;
    const slots = at(word.pendingSlots) >>> 2;
    const count = Math.min(at(word.pendingCount), pendingMax);
    let i = 0;
    while (i < count && u32[slots + slotWords * i] !== 4 * row) i++;
    if (i >= count) return false;
    const from = (at(word.pendingValues) >>> 2) + valueWords() * i;
    u32.copyWithin(to, from, from + dim);
    fence(scratchWord);
    return Atomics.load(u32, head + word.commit) === epoch;
  }

  function copySteady(row: number, to: number, scratchWord: number): boolean {
    for (let reading = 0; reading < readingsMax; reading++) {
      const seq = Atomics.load(u32, row);
      if ((seq & 1) !== 0) {
        if (copyPending(row, to, scratchWord)) return true;
        continue;
      }
      const buried = isTombstone(row);
      u32.copyWithin(to, row + values, row + values + dim);
      fence(scratchWord);
      if (Atomics.load(u32, row) === seq) return !buried;
    }
    Atomics.add(u32, head + word.unsteady, 1);
    return false;
  }

  // ---- writing ----

  function commit(slots: number, count: number, from: number): void {
    const width = valueWords();
    put(word.pendingSlots, 4 * slots);
    put(word.pendingCount, count);
    put(word.pendingValues, 4 * from);
    Atomics.add(u32, head + word.commit, 1);
    for (let i = 0; i < count; i++) {
      const row = u32[slots + slotWords * i]! >>> 2;
      if (row !== 0) u32[row] = u32[row]! | 1;
    }
    fence(slots - 4);
    for (let i = 0; i < count; i++) {
      const row = u32[slots + slotWords * i]! >>> 2;
      if (row === 0) continue;
      u32.copyWithin(row + values, from + width * i, from + width * i + dim);
      u32[row + state] = u32[row + state]! & ~(0xff00 | tombstoneFlag);
    }
    fence(slots - 4);
    for (let i = 0; i < count; i++) {
      const row = u32[slots + slotWords * i]! >>> 2;
      if (row !== 0) u32[row] = (u32[row]! | 1) + 1;
    }
    Atomics.add(u32, head + word.commit, 1);
  }

  /** The slots of a group: tag, hash, bucket and row (a word, unlike the binaries' address; only what `commit` leaves is read by others). */
  function prepare(keys: number, size: number, slots: number): void {
    reclaim();
    for (let i = 0; i < size; i++) {
      const low = u32[keys + 2 * i]!;
      const high = u32[keys + 2 * i + 1]!;
      const slot = slots + slotWords * i;
      const tag = tagOf(low, seedLow);
      u32[slot + ofSlot.tag] = tag;
      u32[slot + ofSlot.hash] = hashOf(tag, high, seedHigh);
      u32[slot + ofSlot.bucket] = bucketFor(low, high);
      u32[slot + ofSlot.row] = 0;
    }
  }

  const rowOf = (slot: number, keys: number, i: number): number =>
    find(u32[keys + 2 * i]!, u32[keys + 2 * i + 1]!, u32[slot + ofSlot.tag]!, u32[slot + ofSlot.hash]!);

  function makeRow(tag: number, hash: number, low: number, high: number, scratchWord: number): number {
    const row = takeRow();
    if (row === 0) return 0;
    u32[row + versionHigh] = 0;
    u32[row + versionLow] = 0;
    u32[row + state] = tombstoneFlag;
    u32[row + keyLow] = low;
    u32[row + keyHigh] = high;
    initial(tag, hash, f32, row + values);
    fence(scratchWord);
    if (insertEntry(tag, hash, row)) return row;
    giveBackRow(row);
    return 0;
  }

  const pendingOf = (row: number): number => (u32[row + state]! >>> 8) & 0xff;

  function countWrite(row: number, seconds: number): void {
    const writes = 2 * (row + state) + 1;
    if (u16[writes] !== 0xffff) u16[writes]!++;
    u32[row + touched] = seconds;
  }

  function admit(tag: number, hash: number): boolean {
    const threshold = at(word.admission);
    if (threshold <= 1) return true;
    const sketch = at(word.sketchAt);
    const mask = at(word.sketchMask);
    const line = sketch + 64 * ((mixWord((hash + golden) | 0) & mask) >>> 0);
    const places = mixWord((tag + golden) | 0);
    let least = 15;
    for (let i = 0; i < 4; i++) {
      const place = (places >>> (i * 7)) & 127;
      least = Math.min(least, (u8[line + (place >>> 1)]! >>> ((place & 1) << 2)) & 15);
    }
    if (least + 1 >= threshold) return true;
    for (let i = 0; i < 4; i++) {
      const place = (places >>> (i * 7)) & 127;
      const shift = (place & 1) << 2;
      const byte = u8[line + (place >>> 1)]!;
      if (((byte >>> shift) & 15) === least) u8[line + (place >>> 1)] = byte + (1 << shift);
    }
    const sum = at(word.agingSum) + 1;
    if (sum < sightingsALine) {
      put(word.agingSum, sum);
      return false;
    }
    put(word.agingSum, 0);
    const hand = (at(word.agingHand) & mask) >>> 0;
    const fading = sketch + 64 * hand;
    for (let i = fading; i < fading + 64; i++) u8[i] = (u8[i]! >>> 1) & 0x77;
    put(word.agingHand, hand + 1);
    return false;
  }

  /** x - x is 0 for finite numbers alone. */
  function allFinite(from: number): boolean {
    for (let i = 0; i < dim; i++) if (f32[from + i]! - f32[from + i]! !== 0) return false;
    return true;
  }

  function write(shard: number, keysAt: number, count: number, given: number, seconds: number, scratch: number, adding: boolean): number {
    open(shard);
    const slots = (scratch + slotsFrom) >>> 2;
    const fresh = (scratch + valuesFrom) >>> 2;
    const width = valueWords();
    const group = groupOf(dim);
    let refused = 0;
    for (let first = 0; first < count; first += group) {
      const size = Math.min(count - first, group);
      const keys = (keysAt >>> 2) + 2 * first;
      prepare(keys, size, slots);
      for (let i = 0; i < size; i++) {
        const slot = slots + slotWords * i;
        const from = (given >>> 2) + dim * (first + i);
        const bucket = u32[slot + ofSlot.bucket]!;
        if (!nextVersion(bucket)) {
          raise(word.notLed);
          refused++;
          continue;
        }
        if (!allFinite(from)) {
          raise(word.skipped);
          continue;
        }
        let row = rowOf(slot, keys, i);
        let made = false;
        if (row === 0) {
          if (adding && !admit(u32[slot + ofSlot.tag]!, u32[slot + ofSlot.hash]!)) {
            raise(word.heldBack);
            refused++;
            continue;
          }
          row = makeRow(u32[slot + ofSlot.tag]!, u32[slot + ofSlot.hash]!, u32[keys + 2 * i]!, u32[keys + 2 * i + 1]!, scratch >>> 2);
          if (row === 0) {
            raise(word.refused);
            refused++;
            continue;
          }
          made = true;
          countLive(bucket, 1);
        }
        const pending = pendingOf(row);
        const value = fresh + width * (pending !== 0 ? pending - 1 : i);
        if (adding) {
          if (pending === 0 && !made && isTombstone(row)) initial(u32[slot + ofSlot.tag]!, u32[slot + ofSlot.hash]!, spare, 0);
          else {
            const base = pending !== 0 ? value : row + values;
            for (let j = 0; j < dim; j++) spare[j] = f32[base + j]!;
          }
          let finite = true;
          for (let j = 0; j < dim; j++) {
            const sum = fround(spare[j]! + f32[from + j]!);
            if (sum - sum !== 0) finite = false;
            spare[j] = sum;
          }
          if (!finite) {
            raise(word.skipped);
            continue;
          }
          for (let j = 0; j < dim; j++) f32[value + j] = spare[j]!;
        } else u32.copyWithin(value, from, from + dim);
        if (pending === 0) {
          if (!made && isTombstone(row)) unbury(bucket, row);
          u32[row + state] = u32[row + state]! | ((i + 1) << 8);
          u32[slot + ofSlot.row] = 4 * row;
        }
        countWrite(row, seconds);
        setVersion(bucket, row, stampHigh, stampLow);
      }
      commit(slots, size, fresh);
    }
    return refused;
  }

  function compareEntries(row: number, buried: boolean, seconds: number, from: number): number {
    if (isTombstone(row) !== buried) return buried ? 1 : -1;
    if (u32[row + touched] !== seconds) return seconds > u32[row + touched]! ? 1 : -1;
    if (buried) return 0;
    for (let i = 0; i < dim; i++) if (u32[row + values + i] !== u32[from + i]) return u32[from + i]! > u32[row + values + i]! ? 1 : -1;
    return 0;
  }

  // ---- leaving ----

  function markCollected(bucket: number, high: number, low: number): void {
    if (!isAbove(high, low, u32[bucket + bucketW.collectedHigh]!, u32[bucket + bucketW.collectedLow]!)) return;
    u32[bucket + bucketW.collectedHigh] = high;
    u32[bucket + bucketW.collectedLow] = low;
  }

  function dismiss(bucket: number, row: number, atOnce: boolean): void {
    if (atOnce) removeRow(bucket, row);
    else bury(bucket, row, stampHigh, stampLow, false);
  }

  /** f32 to f16, to the nearest, ties to even; what is too large becomes infinite. */
  function halfOf(b: number): number {
    const sign = (b >>> 16) & 0x8000;
    const magnitude = b & 0x7fff_ffff;
    if (magnitude > 0x7f80_0000) return sign | 0x7e00;
    if (magnitude >= 0x4780_0000) return sign | 0x7c00;
    if (magnitude >= 0x3880_0000) return (sign | ((magnitude - 0x3800_0000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)) & 0xffff;
    // Subnormal: in units of 2^-24, rounded as f32 rounds an addition to 0.5, whose last bit is 2^-24.
    wide[0] = fround(narrowReal(magnitude) + 0.5);
    return sign | (wideBits[0]! - 0x3f00_0000);
  }

  const wide = new Float32Array(1);
  const wideBits = new Uint32Array(wide.buffer);
  function narrowReal(magnitude: number): number {
    wideBits[0] = magnitude;
    return wide[0]!;
  }

  const calls: ParameterShardCalls = {
    shardPull(shard, keysAt, count, out, found, reader, scratch) {
      open(shard);
      const scratchWord = scratch >>> 2;
      const asReader = reader >>> 0;
      let missing = 0;
      enter(asReader);
      for (let i = 0; i < count; i++) {
        const low = u32[(keysAt >>> 2) + 2 * i]!;
        const high = u32[(keysAt >>> 2) + 2 * i + 1]!;
        const tag = tagOf(low, seedLow);
        const hash = hashOf(tag, high, seedHigh);
        const to = (out >>> 2) + dim * i;
        const row = find(low, high, tag, hash);
        const there = row !== 0 && copySteady(row, to, scratchWord);
        if (!there) {
          missing++;
          initial(tag, hash, f32, to);
        }
        if (found !== 0) u8[(found >>> 0) + i] = there ? 1 : 0;
      }
      leave(asReader);
      return missing;
    },

    shardAssign: (shard, keys, count, given, seconds, scratch) => write(shard, keys, count, given, seconds >>> 0, scratch, false),
    shardAdd: (shard, keys, count, deltas, seconds, scratch) => write(shard, keys, count, deltas, seconds >>> 0, scratch, true),

    shardDelete(shard, keysAt, count, scratch) {
      open(shard);
      const slots = (scratch + slotsFrom) >>> 2;
      const group = groupOf(dim);
      let deleted = 0;
      for (let first = 0; first < count; first += group) {
        const size = Math.min(count - first, group);
        const keys = (keysAt >>> 2) + 2 * first;
        prepare(keys, size, slots);
        for (let i = 0; i < size; i++) {
          const slot = slots + slotWords * i;
          const row = rowOf(slot, keys, i);
          if (row === 0 || isTombstone(row)) continue;
          const bucket = u32[slot + ofSlot.bucket]!;
          if (!nextVersion(bucket)) {
            raise(word.notLed);
            continue;
          }
          bury(bucket, row, stampHigh, stampLow, false);
          deleted++;
        }
      }
      return deleted;
    },

    shardJoin(shard, columns, count, scratch) {
      open(shard);
      const keysFrom = columns >>> 2;
      const versions = keysFrom + 2 * count;
      const touches = versions + 2 * count;
      const flags = touches + count;
      const given = flags + count;
      const slots = (scratch + slotsFrom) >>> 2;
      const fresh = (scratch + valuesFrom) >>> 2;
      const width = valueWords();
      const group = groupOf(dim);
      const handled = (scratch >>> 2) + 2;
      let newer = 0;
      u32[handled] = count;
      for (let first = 0; first < count; first += group) {
        const size = Math.min(count - first, group);
        const keys = keysFrom + 2 * first;
        prepare(keys, size, slots);
        let full = false;
        for (let i = 0; i < size && !full; i++) {
          const n = first + i;
          const slot = slots + slotWords * i;
          const high = u32[versions + 2 * n]!;
          const low = u32[versions + 2 * n + 1]!;
          if (high === 0 && low === 0) continue;
          const seconds = u32[touches + n]!;
          const buried = (u32[flags + n]! & 1) !== 0;
          const from = given + dim * n;
          const bucket = u32[slot + ofSlot.bucket]!;
          let row = rowOf(slot, keys, i);
          let made = false;
          if (row === 0) {
            row = makeRow(u32[slot + ofSlot.tag]!, u32[slot + ofSlot.hash]!, u32[keys + 2 * i]!, u32[keys + 2 * i + 1]!, scratch >>> 2);
            if (row === 0) {
              raise(word.refused);
              u32[handled] = n;
              full = true;
              continue;
            }
            made = true;
            if (!buried) countLive(bucket, 1);
          } else {
            if (rowAbove(row, high, low)) continue;
            if (pendingOf(row) !== 0) {
              commit(slots, i, fresh);
              for (let done = 0; done < i; done++) u32[slots + slotWords * done] = 0;
            }
            if (u32[row + versionHigh] === high && u32[row + versionLow] === low) {
              const order = compareEntries(row, buried, seconds, from);
              if (order === 0) continue;
              raise(word.conflicts);
              if (order < 0) continue;
            }
          }
          newer++;
          countWrite(row, seconds);
          if (buried) {
            bury(bucket, row, high, low, made);
            continue;
          }
          u32.copyWithin(fresh + width * i, from, from + dim);
          if (!made && isTombstone(row)) unbury(bucket, row);
          u32[row + state] = u32[row + state]! | ((i + 1) << 8);
          u32[slot + ofSlot.row] = 4 * row;
          setVersion(bucket, row, high, low);
        }
        commit(slots, size, fresh);
        if (full) break;
      }
      return newer;
    },

    shardChanges(shard, number, givenAfterHigh, givenAfterLow, givenUpToHigh, givenUpToLow, max, columns) {
      open(shard);
      const [afterHigh, afterLow] = [givenAfterHigh >>> 0, givenAfterLow >>> 0];
      const [upToHigh, upToLow] = [givenUpToHigh >>> 0, givenUpToLow >>> 0];
      const bucket = bucketsAt + (bucketBytes / 4) * number;
      let row = 0;
      if (afterHigh === 0 && afterLow === 0) row = u32[bucket + bucketW.head]! >>> 2;
      else {
        const cursor = at(word.cursorRow) >>> 2;
        const stands =
          cursor !== 0 &&
          at(word.cursorBucket) === number &&
          u32[cursor + versionHigh] === afterHigh &&
          u32[cursor + versionLow] === afterLow &&
          bucketFor(u32[cursor + keyLow]!, u32[cursor + keyHigh]!) === bucket;
        if (stands) {
          row = u32[cursor + next]! >>> 2;
          while (row !== 0 && !rowAbove(row, afterHigh, afterLow)) row = u32[row + next]! >>> 2;
        } else {
          for (let back = u32[bucket + bucketW.tail]! >>> 2; back !== 0 && rowAbove(back, afterHigh, afterLow); back = u32[back + previous]! >>> 2) row = back;
        }
      }
      const keys = columns >>> 2;
      const versions = keys + 2 * max;
      const touches = versions + 2 * max;
      const flags = touches + max;
      let to = flags + max;
      let count = 0;
      let last = 0;
      while (row !== 0 && !rowAbove(row, upToHigh, upToLow)) {
        if (count === max) {
          put(word.cursorBucket, number);
          put(word.cursorRow, 4 * last);
          return 2 * count;
        }
        const buried = isTombstone(row);
        u32[keys + 2 * count] = u32[row + keyLow]!;
        u32[keys + 2 * count + 1] = u32[row + keyHigh]!;
        u32[versions + 2 * count] = u32[row + versionHigh]!;
        u32[versions + 2 * count + 1] = u32[row + versionLow]!;
        u32[touches + count] = u32[row + touched]!;
        u32[flags + count] = buried ? 1 : 0;
        if (buried) u32.fill(0, to, to + dim);
        else u32.copyWithin(to, row + values, row + values + dim);
        to += dim;
        count++;
        last = row;
        row = u32[row + next]! >>> 2;
      }
      return 2 * count + 1;
    },

    shardCollect(shard, number, givenHigh, givenLow, max, everything) {
      open(shard);
      const bucket = bucketsAt + (bucketBytes / 4) * number;
      let removed = 0;
      while (removed < max) {
        const row = u32[bucket + (everything !== 0 ? bucketW.head : bucketW.oldestTombstone)]! >>> 2;
        if (row === 0 || rowAbove(row, givenHigh >>> 0, givenLow >>> 0)) break;
        if (isTombstone(row)) markCollected(bucket, u32[row + versionHigh]!, u32[row + versionLow]!);
        removeRow(bucket, row);
        removed++;
      }
      return removed;
    },

    shardEvict(shard, liveTarget, max, atOnce) {
      open(shard);
      reclaim();
      const share = Math.floor(liveTarget / (bucketMask + 1));
      let hand = at(word.evictHand) & bucketMask;
      let evicted = 0;
      let looks = 0;
      for (let visited = 0; visited <= bucketMask && evicted < max && looks < looksMax && at(word.live) > liveTarget; visited++) {
        const bucket = bucketsAt + (bucketBytes / 4) * hand;
        let row = u32[bucket + bucketW.head]! >>> 2;
        while (row !== 0 && evicted < max && looks < looksMax && u32[bucket + bucketW.live]! > share && at(word.live) > liveTarget) {
          const following = u32[row + next]! >>> 2;
          if (isTombstone(row)) looks++;
          else {
            if (!nextVersion(bucket)) break;
            dismiss(bucket, row, atOnce !== 0);
            evicted++;
          }
          row = following;
        }
        if (evicted < max) hand = (hand + 1) & bucketMask;
      }
      put(word.evictHand, hand);
      raise(word.evicted, evicted);
      return evicted;
    },

    shardExpire(shard, seconds, buckets, max, atOnce) {
      open(shard);
      reclaim();
      let hand = at(word.expireHand) & bucketMask;
      let expired = 0;
      let looks = 0;
      for (let visited = 0; visited < buckets && expired < max && looks < looksMax; visited++) {
        const bucket = bucketsAt + (bucketBytes / 4) * hand;
        let row = u32[bucket + bucketW.head]! >>> 2;
        while (row !== 0 && expired < max && looks < looksMax) {
          const following = u32[row + next]! >>> 2;
          if (isTombstone(row)) looks++;
          else {
            if (u32[row + touched]! >= seconds >>> 0) break;
            if (!nextVersion(bucket)) break;
            dismiss(bucket, row, atOnce !== 0);
            expired++;
          }
          row = following;
        }
        if (expired < max) hand = (hand + 1) & bucketMask;
      }
      put(word.expireHand, hand);
      raise(word.expired, expired);
      return expired;
    },

    narrowHalves(from, count, to) {
      for (let i = 0; i < count; i++) u16[(to >>> 1) + i] = halfOf(u32[(from >>> 2) + i]!);
    },

    narrowBytes(from, rows, width, scales, to) {
      for (let row = 0; row < rows; row++) {
        const at0 = (from >>> 2) + row * width;
        let most = 0;
        for (let i = 0; i < width; i++) most = Math.max(most, Math.abs(f32[at0 + i]!));
        const flat = !(most > fround(1e-30));
        const inverse = flat ? 0 : fround(127 / most);
        f32[(scales >>> 2) + row] = flat ? 0 : fround(most / 127);
        for (let i = 0; i < width; i++) {
          const x = fround(f32[at0 + i]! * inverse);
          const floor = Math.floor(x);
          const rest = x - floor;
          const even = rest > 0.5 || (rest === 0.5 && (floor & 1) !== 0) ? floor + 1 : floor;
          u8[(to >>> 0) + row * width + i] = Math.max(-127, Math.min(127, even));
        }
      }
    },
  };
  return {
    calls,
    open,
    enter,
    leave,
    reclaim,
    wordsOf(key, into) {
      into[0] = tagOf(u32[key]!, seedLow);
      into[1] = hashOf(into[0], u32[key + 1]!, seedHigh);
    },
    find,
    isTombstone,
    copySteady,
    initial,
    bucketFor,
    nextVersion,
    stamp: (bucket, row) => setVersion(bucket, row, stampHigh, stampLow),
    makeRow,
    countLive,
    unbury,
    countWrite,
    raise,
    commit,
  };
}
