// Search groups: where the record of a key lies. Memtables and run files share them.
// A group is one cache line, so that an absent key costs one miss:
//   +0 u8 tag x 12 (0 = free)   +12 u32 overflow   +16 u32 reference x 12
// group of a key = (high half of its hash * groups) >> 32; tag = lowest 8 bits of the low half, 0 taken as 1; overflow bit = bits 8 to 12 of the
// low half. A key whose group is full goes to the next one (after the last: the first) and sets its overflow bit in each group it passed, so
// a search goes on only past groups with that bit. A reference is the distance of the record from a base; the whole key is compared.
//
// Invariants: 1. at least one slot is free, or a search ends after all groups  2. a reference is written before its tag, the record before
//             both, so readers in other threads may search while one places  3. what a reference names is checked against `limit` before it
//             is read further than its first 64 bytes.
// Probe in lists of 64 keys, in phases (hash all, read all groups, match all tags, read all records, compare all): misses of a list overlap. A key that goes on to another
// slot or group goes through the phases again, with others: alone it would wait for two misses one after the other (7 in 100 keys did, a third of the time of all).
//
// Arguments of entryProbe (u32 each): groupsAt, groups, base, limit, seedLow, seedHigh, keys, offsets, count, source, outSource, outAt, outBytes,
// outKind, outExpiry, outTime, the answer `timed`, 1: nobody holds any of the keys yet, a word for what was read ahead, and 1: keys lie by the stripe hash.
// Of indexProbe: groupsAt, groups, seedLow, seedHigh, keys, offsets, count, table, blocks, separators, separatorsBytes, outBlocks, and 1: by the stripe hash.

import {
  compareBytes,
  headBytes,
  isHead,
  keyBytesOf,
  lineBytes,
  lineKeyBytesMax,
  lineKeyFrom,
  lineMask,
  lineShapeOf,
  placeOf,
  sameBytes,
  shapeMask,
  shapeOf,
  shortValueBytes,
  timeAt,
  timesFrom,
  valueBytesMax,
  valueBytesOf,
} from "./entry-record";
import { hashKey, secretOf, startOf, stripeHash, stripeHashUpTo64 } from "./key-hash";

const groupMax: u32 = 32;
const absent: u32 = 255;
const allSlots: u32 = 0xfff;
/** Bytes of the smallest head. */
const recordHeadMin: u32 = 3;
const inBlock: u32 = 4095;
const noBlock: u32 = 0xffffffff;

export function homeOf(hash: u64, groups: u32): u32 {
  return <u32>(((hash >> 32) * <u64>groups) >> 32);
}

export function tagOf(hash: u64): u32 {
  const tag = (<u32>hash) & 255;
  return tag + <u32>(tag == 0);
}

export function overflowBit(hash: u64): u32 {
  return (<u32>1) << (((<u32>hash) >> 8) & 31);
}

/** Bits of the slots of a group that hold a tag. */
export function matching(group: usize, tag: u32): u32 {
  return (<u32>i8x16.bitmask(i8x16.eq(v128.load(group), i8x16.splat(<i8>tag)))) & allSlots;
}

/** Whether a record ends before the limit. */
function isInside(reference: u32, skip: u32, bytes: u32, head: u64, limit: u32): bool {
  const value = valueBytesOf(head);
  return value <= valueBytesMax && <u64>reference + <u64>(skip + bytes) + <u64>value <= <u64>limit;
}

/** Keys of 16 to 64 bytes without a loop: four pieces of 16 that overlap. */
function sameUpTo64(a: usize, b: usize, bytes: u32): bool {
  const last = <usize>bytes - 16;
  const second = min<usize>(last, 16);
  const third = min<usize>(last, 32);
  return !v128.any_true(
    v128.or(
      v128.or(v128.xor(v128.load(a), v128.load(b)), v128.xor(v128.load(a + second), v128.load(b + second))),
      v128.or(v128.xor(v128.load(a + third), v128.load(b + third)), v128.xor(v128.load(a + last), v128.load(b + last))),
    ),
  );
}

/** Keys of 48 to 64 bytes likewise. */
function sameFrom48(a: usize, b: usize, bytes: u32): bool {
  const last = <usize>bytes - 16;
  return !v128.any_true(
    v128.or(
      v128.or(v128.xor(v128.load(a), v128.load(b)), v128.xor(v128.load(a, 16), v128.load(b, 16))),
      v128.or(v128.xor(v128.load(a, 32), v128.load(b, 32)), v128.xor(v128.load(a + last), v128.load(b + last))),
    ),
  );
}

/** Whether the record at a reference has this key. */
function holds(base: usize, limit: u32, reference: u32, key: usize, bytes: u32): bool {
  if (reference == 0 || reference > limit) return false;
  const record = base + <usize>reference;
  const head = load<u64>(record);
  if (keyBytesOf(head) != bytes || !isHead(head)) return false;
  const skip = headBytes(head);
  if (!isInside(reference, skip, bytes, head, limit)) return false;
  return sameBytes(record + <usize>skip, key, bytes);
}

/** Address of the slot's reference that names the key, or 0. `mask`: candidates of the home group that are left to try. */
export function findFrom(groupsAt: usize, groups: u32, home: u32, mask: u32, base: usize, limit: u32, hash: u64, key: usize, bytes: u32): usize {
  const tag = tagOf(hash);
  const bit = overflowBit(hash);
  let group = home;
  for (let walked: u32 = 0; walked < groups; walked++) {
    const at = groupsAt + ((<usize>group) << 6);
    while (mask != 0) {
      const where = at + 16 + ((<usize>ctz(mask)) << 2);
      mask &= mask - 1;
      if (holds(base, limit, atomic.load<u32>(where), key, bytes)) return where;
    }
    if ((load<u32>(at, 12) & bit) == 0) return 0;
    group = group + 1 == groups ? 0 : group + 1;
    mask = matching(groupsAt + ((<usize>group) << 6), tag);
  }
  return 0;
}

/** Puts a reference into the first free slot from the home group on. One thread. */
export function place(groupsAt: usize, groups: u32, hash: u64, reference: u32): void {
  let group = homeOf(hash, groups);
  while (true) {
    const at = groupsAt + ((<usize>group) << 6);
    const free = matching(at, 0);
    if (free != 0) {
      const slot = <usize>ctz(free);
      atomic.store<u32>(at + 16 + (slot << 2), reference);
      atomic.store<u8>(at + slot, <u8>tagOf(hash));
      return;
    }
    store<u32>(at, load<u32>(at, 12) | overflowBit(hash), 12);
    group = group + 1 == groups ? 0 : group + 1;
  }
}

// ---- entryProbe ----
// A function for each phase: what a loop uses fits the registers then. All in one, a third of the instructions were copies to and from the stack.
// The list is 64 items of 32 bytes: +0 tag and overflow bit (the low half of the hash)   +4 group   +8 bytes of the key   +12 key   +16 record, or `nowhere`
// +20 slots to look at, later what is left: slots, 0x1000 = the next group   +24 number   +28 groups left behind. Behind it, `work`: +0 the secrets   +64 what
// all hashes start from   +72 1: some key is shorter than 48 or longer than 64 bytes   +76 the next key to look at   +80 found.
// A key of which no record is named has one at `nowhere`, whose first byte is 255: nobody's, but no branch either.

const listBytes: usize = 2048;

function putItem(at: usize, hash: u64, groupsAt: u32, groups: u64, bytes: u32, key: u32, number: usize): void {
  store<u32>(at, (<u32>hash) | (<u32>(((<u32>hash) & 255) == 0)));
  store<u32>(at, groupsAt + ((<u32>(((hash >> 32) * groups) >> 32)) << 6), 4);
  store<u32>(at, bytes, 8);
  store<u32>(at, key, 12);
  store<u32>(at, allSlots, 20);
  store<u64>(at, <u64>number, 24);
}

/** Phase 1, of striped keys of 16 to 64 bytes that nobody holds yet, all of them: up to the first other one. Returns the end of the list. */
function listStripes(args: usize, end: usize, work: usize): usize {
  const s0 = v128.load(work);
  const s1 = v128.load(work, 16);
  const s2 = v128.load(work, 32);
  const s3 = v128.load(work, 48);
  const start = load<u64>(work, 64);
  const groupsAt = load<u32>(args);
  const groups = <u64>load<u32>(args, 4);
  const keys = load<u32>(args, 24);
  const offsets = <usize>load<u32>(args, 28);
  const first = <usize>load<u32>(work, 76);
  const upTo = offsets + (min<usize>(<usize>load<u32>(args, 32), first + ((work - end) >> 5)) << 2);
  let bounds = offsets + (first << 2);
  let from = load<u32>(bounds);
  let least: u32 = 48;
  for (; bounds < upTo; bounds += 4) {
    const to = load<u32>(bounds, 4);
    const bytes = to - from;
    if (bytes - 16 > 48) break;
    least = min<u32>(least, bytes);
    const key = <usize>(keys + from);
    const hash = stripeHashUpTo64(key, bytes, start, s0, s1, s2, s3);
    putItem(end, hash, groupsAt, groups, bytes, <u32>key, (bounds - offsets) >> 2);
    from = to;
    end += 32;
  }
  store<u32>(work, load<u32>(work, 72) | (<u32>(least < 48)), 72);
  store<u32>(work, <u32>((bounds - offsets) >> 2), 76);
  return end;
}

/** Phase 1, of any keys that nobody holds yet. */
function listKeys(args: usize, end: usize, work: usize): usize {
  const s0 = v128.load(work);
  const s1 = v128.load(work, 16);
  const s2 = v128.load(work, 32);
  const s3 = v128.load(work, 48);
  const start = load<u64>(work, 64);
  const groupsAt = load<u32>(args);
  const groups = <u64>load<u32>(args, 4);
  const keys = load<u32>(args, 24);
  const offsets = <usize>load<u32>(args, 28);
  const count = <usize>load<u32>(args, 32);
  const outSource = <usize>load<u32>(args, 40);
  const isStriped = load<u32>(args, 76) != 0;
  let next = <usize>load<u32>(work, 76);
  for (; next < count && end < work; next++) {
    if (<u32>load<u8>(outSource + next) != absent) continue;
    const bounds = offsets + (next << 2);
    const from = load<u32>(bounds);
    const bytes = load<u32>(bounds, 4) - from;
    const key = <usize>(keys + from);
    const hash = isStriped ? stripeHash(key, bytes, start, s0, s1, s2, s3) : hashKey(key, bytes, start);
    putItem(end, hash, groupsAt, groups, bytes, <u32>key, next);
    if (bytes - 48 > 16) store<u32>(work, 1, 72);
    end += 32;
  }
  store<u32>(work, <u32>next, 76);
  return end;
}

/** Phase 2: a byte of every group, and nothing else, since only loads that stand close together wait together. */
function readGroups(list: usize, end: usize): u32 {
  let seen: u32 = 0;
  for (let at = list; at < end; at += 32) seen ^= <u32>load<u8>(<usize>load<u32>(at, 4));
  return seen;
}

/** Phase 3: matches the tags of all, without a branch. Returns all references, or-ed. */
function matchTags(list: usize, end: usize, base: u32, limit: u64, nowhere: u32): u32 {
  let spread: u32 = 0;
  for (let at = list; at < end; at += 32) {
    const group = <usize>load<u32>(at, 4);
    const slots = (<u32>i8x16.bitmask(i8x16.eq(v128.load(group), v128.load8_splat(at)))) & load<u32>(at, 20);
    // Aligned, so it does not tear, and what follows depends on it.
    const held = load<u32>(group + (((<usize>ctz(slots)) & 15) << 2), 16);
    const goesOn = (load<u32>(group, 12) >> ((load<u32>(at) >> 8) & 31)) & 1;
    store<u32>(at, (slots & (slots - 1)) | (goesOn << 12), 20);
    // A record that holds the key lies inside with it; so what phases 4 and 5 read of any record does. Nothing lies at 0, and 0 - 1 is beyond all limits.
    const before = select<u32>(held, 0, slots != 0) - 1;
    const isNamed = <u64>before + <u64>load<u32>(at, 8) + <u64>(recordHeadMin + 1) <= limit;
    const reference = select<u32>(before + 1, nowhere - base, isNamed);
    store<u32>(at, base + reference, 16);
    spread |= reference;
  }
  return spread;
}

/** Phase 4 where all begin at lines: the first byte of every record, and nothing else. Returns them, and-ed. */
function readLines(list: usize, end: usize): u32 {
  let heads: u32 = 255;
  for (let at = list; at < end; at += 32) heads &= <u32>load<u8>(<usize>load<u32>(at, 16));
  return heads;
}

/** Phase 4: the lines of all records from head to end of the key (of keys up to 100 bytes), and nothing else. Returns 0x80 or more when one of them is a key line. */
function readRecords(args: usize, list: usize, end: usize, nowhere: usize): u32 {
  let seen: u32 = 0;
  let lined: u32 = 0;
  for (let at = list; at < end; at += 32) {
    const record = <usize>load<u32>(at, 16);
    const size = <usize>load<u32>(at, 8) + 10;
    const head = <u32>load<u8>(record);
    seen ^= (<u32>load<u8>(record + (size >> 1))) ^ (<u32>load<u8>(record + size));
    lined |= select<u32>(0, head & (head << 1), record == nowhere);
  }
  store<u32>(args, seen, 72);
  return lined & 0x80;
}

/** Phase 4, when places are wanted: where a key has a line of its own the rest of the entry stands elsewhere in the block. */
function readRests(list: usize, end: usize, base: u32): u32 {
  let seen: u32 = 0;
  for (let at = list; at < end; at += 32) {
    const record = load<u32>(at, 16);
    const head = load<u32>(<usize>record);
    const rest = base + ((record - base) & ~inBlock) + placeOf(head);
    seen ^= <u32>load<u8>(<usize>select<u32>(rest, record, (head & 0xc0) == 0xc0));
  }
  return seen;
}

/** Brings a key that was not found back into the list when slots or groups are left for it. Returns where the next one goes. */
function keep(args: usize, at: usize, kept: usize): usize {
  const left = load<u32>(at, 20);
  const group = load<u32>(at, 4);
  const number = load<u32>(at, 24);
  const walked = load<u32>(at, 28);
  const slots = left & allSlots;
  const groups = load<u32>(args, 4);
  if (slots == 0 && walked + 1 >= groups) return kept;
  v128.store(kept, v128.load(at));
  store<u32>(kept, number, 24);
  if (slots != 0) {
    store<u32>(kept, slots, 20);
    store<u32>(kept, walked, 28);
  } else {
    const groupsAt = load<u32>(args);
    store<u32>(kept, group + 64 == groupsAt + (groups << 6) ? groupsAt : group + 64, 4);
    store<u32>(kept, allSlots, 20);
    store<u32>(kept, walked + 1, 28);
  }
  return kept + 32;
}

/** Phase 5 for presence, of keys of 48 to 64 bytes whose records are lines or nowhere. Returns the end of what stays in the list. */
function compareLines(args: usize, list: usize, end: usize, work: usize): usize {
  const source = load<u32>(args, 36);
  const outSource = <usize>load<u32>(args, 40);
  let found: u32 = 0;
  let kept = list;
  for (let at = list; at < end; at += 32) {
    const bytes = load<u32>(at, 8);
    const key = <usize>load<u32>(at, 12);
    const record = <usize>load<u32>(at, 16);
    const last = <usize>bytes - 16;
    const differ = v128.or(
      v128.or(v128.xor(v128.load(record, 2), v128.load(key)), v128.xor(v128.load(record, 18), v128.load(key, 16))),
      v128.or(v128.xor(v128.load(record, 34), v128.load(key, 32)), v128.xor(v128.load(record + last, 2), v128.load(key + last))),
    );
    // The first byte of a line says how long its key is; that of nowhere would say 47.
    const same = ((((<u32>load<u8>(record)) & lineMask) + bytes - (0xc0 + lineKeyBytesMax)) | (<u32>v128.any_true(differ))) == 0;
    found += <u32>same;
    store<u8>(outSource + <usize>load<u32>(at, 24), <u8>select<u32>(source, absent, same));
    if (select<u32>(0, load<u32>(at, 20), same) != 0) kept = keep(args, at, kept);
  }
  store<u32>(work, load<u32>(work, 80) + found, 80);
  return kept;
}

/** Phase 5, of any records, with all that is wanted. Returns the end of what stays in the list. */
function compareRecords(args: usize, list: usize, end: usize, work: usize, nowhere: usize): usize {
  const base = <usize>load<u32>(args, 8);
  const limit = load<u32>(args, 12);
  const source = load<u32>(args, 36);
  const outSource = <usize>load<u32>(args, 40);
  const outAt = <usize>load<u32>(args, 44);
  const outBytes = <usize>load<u32>(args, 48);
  const outKind = <usize>load<u32>(args, 52);
  const outExpiry = <usize>load<u32>(args, 56);
  let found: u32 = 0;
  let lined: u32 = 0;
  let kept = list;
  for (let at = list; at < end; at += 32) {
    const number = <usize>load<u32>(at, 24);
    const bytes = load<u32>(at, 8);
    const key = <usize>load<u32>(at, 12);
    const record = <usize>load<u32>(at, 16);
    const isNamed = record != nowhere;
    const head = select<u64>(load<u64>(record), 0, isNamed);
    let same: bool;
    let value: u32 = 0;
    let valueAt: u32 = 0;
    let timesAt: usize = 0;
    let rest = head;
    // An absent key goes the way of the one before it: no misprediction for each.
    lined = select<u32>(<u32>((head & 0xc0) == 0xc0), lined, isNamed);
    if (lined != 0) {
      // A line: its first byte says how long the key is.
      const isSound = ((<u32>(((<u32>head) & lineMask) == lineShapeOf(bytes))) & (<u32>(<u64>(<u32>record - <u32>base) + <u64>lineBytes <= <u64>limit))) != 0;
      const held = select<usize>(record + <usize>lineKeyFrom, list, isSound);
      same = ((<u32>sameFrom48(held, select<usize>(key, list, isSound), select<u32>(bytes, 48, isSound))) & (<u32>isSound)) != 0;
      if (outAt != 0 && same) {
        const from = ((<u32>record - <u32>base) & ~inBlock) + placeOf(<u32>head);
        rest = load<u64>(base + <usize>from);
        value = shortValueBytes(rest);
        const skip = headBytes(rest);
        same = ((<u32>(((<u32>rest) & shapeMask) == shapeOf(bytes))) & (<u32>(<u64>from + <u64>skip + <u64>value <= <u64>limit))) != 0;
        valueAt = <u32>base + from + skip;
        timesAt = base + <usize>(from + timesFrom(rest));
      }
    } else {
      // One comparison: the length of the key, and a short form.
      let fits = (<u32>(((<u32>head) & shapeMask) == shapeOf(bytes))) & (<u32>isNamed);
      value = shortValueBytes(head);
      if ((<u32>head) & 0x80) {
        value = valueBytesOf(head);
        fits = (<u32>isHead(head)) & (<u32>(keyBytesOf(head) == bytes)) & (<u32>(value <= valueBytesMax));
      }
      const skip = headBytes(head);
      const isSound = (fits & (<u32>(<u64>(<u32>record - <u32>base) + <u64>(skip + bytes) + <u64>value <= <u64>limit))) != 0;
      const held = select<usize>(record + <usize>skip, key, isSound);
      same = ((<u32>(bytes - 16 <= 48 ? sameUpTo64(held, key, bytes) : sameBytes(held, key, bytes))) & (<u32>isSound)) != 0;
      valueAt = <u32>record + skip + bytes;
      timesAt = record + <usize>timesFrom(head);
    }
    found += <u32>same;
    store<u8>(outSource + number, <u8>select<u32>(source, absent, same));
    if (outAt != 0) {
      store<u32>(outAt + (number << 2), valueAt);
      store<u32>(outBytes + (number << 2), value);
      store<u8>(outKind + number, <u8>((<u32>rest) & 15));
      if (outExpiry != 0 && ((<u32>rest) & 0x30) != 0 && same) putTimes(args, number, rest, timesAt);
    }
    if (((<u32>!same) & (<u32>(load<u32>(at, 20) != 0))) != 0) kept = keep(args, at, kept);
  }
  store<u32>(work, load<u32>(work, 80) + found, 80);
  return kept;
}

/** Expiry and time of the entry with a head, which has one of them or both. The first such entry makes all others 0. */
function putTimes(args: usize, number: usize, head: u64, timesAt: usize): void {
  const outExpiry = <usize>load<u32>(args, 56);
  const outTime = <usize>load<u32>(args, 60);
  if (load<u32>(args, 64) == 0) {
    const size = (<usize>load<u32>(args, 32)) << 3;
    memory.fill(outExpiry, 0, size);
    memory.fill(outTime, 0, size);
    store<u32>(args, 1, 64);
  }
  if (((<u32>head) & 0x10) != 0) {
    store<f64>(outExpiry + (number << 3), timeAt(timesAt));
    timesAt += 6;
  }
  if (((<u32>head) & 0x20) != 0) store<f64>(outTime + (number << 3), timeAt(timesAt));
}

/**
 * Looks up the keys whose `outSource` is 255 and writes the answers of those found. Where `outAt` is 0 nothing but sources is written, where
 * `outExpiry` is 0 no times. Times are written, zeros included, once an entry with one was found (`timed`). Returns how many were found.
 * `list`: 2,304 bytes of scratch. Keys that the first record did not answer stay in the list and go through the phases again with the next ones.
 */
export function entryProbe(args: usize, list: usize): u32 {
  const work = list + listBytes;
  const nowhere = (work + 84 + 63) & ~63;
  const start = startOf(load<u32>(args, 16), load<u32>(args, 20));
  const base = load<u32>(args, 8);
  const limit = load<u32>(args, 12);
  const isPresence = load<u32>(args, 44) == 0;
  const isFresh = load<u32>(args, 68) != 0;
  const mayBeStripes = isFresh && load<u32>(args, 76) != 0;
  for (let i: usize = 0; i < 4; i++) v128.store(work + (i << 4), secretOf(start, <u64>i));
  store<u64>(work, start, 64);
  store<u64>(work, 0, 72);
  store<u32>(work, 0, 80);
  store<u8>(nowhere, 255);
  store<u32>(args, 0, 64);
  if (isFresh) memory.fill(<usize>load<u32>(args, 40), <u8>absent, <usize>load<u32>(args, 32));
  let end = list;
  let seen: u32 = 0;
  while (true) {
    if (mayBeStripes) end = listStripes(args, end, work);
    if (end < work) end = listKeys(args, end, work);
    if (end == list) break;
    seen ^= readGroups(list, end);
    const spread = matchTags(list, end, base, <u64>limit, <u32>nowhere);
    let heads: u32 = 0;
    let lined: u32 = 1;
    if (((spread | limit) & 63) == 0) heads = readLines(list, end);
    else lined = readRecords(args, list, end, nowhere);
    if (isPresence && (heads & 0xc0) == 0xc0 && load<u32>(work, 72) == 0) {
      end = compareLines(args, list, end, work);
    } else {
      if (!isPresence && lined != 0) seen ^= readRests(list, end, base);
      end = compareRecords(args, list, end, work, nowhere);
    }
  }
  store<u32>(args, load<u32>(args, 72) ^ seen, 72);
  return load<u32>(work, 80);
}

/** Whether the separator of a block is at most the key. One that lies outside is above every key. */
function begins(block: u32, key: usize, bytes: u32, table: usize, separators: usize, separatorsBytes: u32): bool {
  const from = load<u32>(table + ((<usize>block) << 2));
  if (<u64>from + 2 > <u64>separatorsBytes) return false;
  const size = <u32>load<u16>(separators + <usize>from);
  if (<u64>from + 2 + <u64>size > <u64>separatorsBytes) return false;
  return compareBytes(separators + <usize>from + 2, size, key, bytes) <= 0;
}

/** For each key the first block of the only unit that may hold it, or 0xFFFFFFFF. Returns how many have one. `scratch`: 32 x 32 bytes. */
export function indexProbe(args: usize, scratch: usize): u32 {
  const groupsAt = <usize>load<u32>(args);
  const groups = load<u32>(args, 4);
  const start = startOf(load<u32>(args, 8), load<u32>(args, 12));
  const s0 = secretOf(start, 0);
  const s1 = secretOf(start, 1);
  const s2 = secretOf(start, 2);
  const s3 = secretOf(start, 3);
  const isStriped = load<u32>(args, 48) != 0;
  const keys = <usize>load<u32>(args, 16);
  const offsets = <usize>load<u32>(args, 20);
  const count = load<u32>(args, 24);
  const table = <usize>load<u32>(args, 28);
  const blocks = load<u32>(args, 32);
  const separators = <usize>load<u32>(args, 36);
  const separatorsBytes = load<u32>(args, 40);
  const out = <usize>load<u32>(args, 44);
  let found: u32 = 0;
  for (let first: u32 = 0; first < count; first += groupMax) {
    const size = min<u32>(count - first, groupMax);
    for (let i: u32 = 0; i < size; i++) {
      const bounds = offsets + ((<usize>(first + i)) << 2);
      const from = load<u32>(bounds);
      const key = keys + <usize>from;
      const bytes = load<u32>(bounds, 4) - from;
      const hash = isStriped ? stripeHash(key, bytes, start, s0, s1, s2, s3) : hashKey(key, bytes, start);
      const at = scratch + ((<usize>i) << 5);
      store<u64>(at, hash);
      store<u32>(at, <u32>groupsAt + (homeOf(hash, groups) << 6), 8);
    }
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 5);
      store<u32>(at, load<u32>(<usize>load<u32>(at, 8)), 12);
    }
    for (let i: u32 = 0; i < size; i++) {
      const bounds = offsets + ((<usize>(first + i)) << 2);
      const from = load<u32>(bounds);
      const bytes = load<u32>(bounds, 4) - from;
      const key = keys + <usize>from;
      const hash = load<u64>(scratch + ((<usize>i) << 5));
      const tag = tagOf(hash);
      const bit = overflowBit(hash);
      let group = homeOf(hash, groups);
      let answer = noBlock;
      for (let walked: u32 = 0; walked < groups && answer == noBlock; walked++) {
        const at = groupsAt + ((<usize>group) << 6);
        for (let mask = matching(at, tag); mask != 0 && answer == noBlock; mask &= mask - 1) {
          const page = load<u32>(at + ((<usize>ctz(mask)) << 2), 16) >> 12;
          if (page == 0 || page > blocks) continue;
          const block = page - 1;
          if (!begins(block, key, bytes, table, separators, separatorsBytes)) continue;
          // The next block with another separator begins above the key, or there is none.
          const separator = load<u32>(table + ((<usize>block) << 2));
          let next = block + 1;
          while (next < blocks && load<u32>(table + ((<usize>next) << 2)) == separator) next += 1;
          if (next == blocks || !begins(next, key, bytes, table, separators, separatorsBytes)) answer = block;
        }
        if ((load<u32>(at, 12) & bit) == 0) break;
        group = group + 1 == groups ? 0 : group + 1;
      }
      if (answer != noBlock) found += 1;
      store<u32>(out + ((<usize>(first + i)) << 2), answer);
    }
  }
  return found;
}
