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
// Probe in groups of 32 keys, in phases (hash all, read all groups, match all tags, read all record heads, compare all): misses of a group overlap.
//
// Arguments of entryProbe (u32 each): groupsAt, groups, base, limit, seedLow, seedHigh, keys, offsets, count, source, outSource, outAt, outBytes,
// outKind, outExpiry, outTime, the answer `timed`, and 1: nobody holds any of the keys yet. Of indexProbe: groupsAt, groups, seedLow, seedHigh, keys, offsets, count, table, blocks,
// separators, separatorsBytes, outBlocks.

import {
  compareBytes,
  headBytes,
  isHead,
  keyBytesOf,
  sameBytes,
  shapeMask,
  shapeOf,
  shortValueBytes,
  timeAt,
  timesFrom,
  valueBytesMax,
  valueBytesOf,
} from "./entry-record";
import { hashKey, startOf } from "./key-hash";

const groupMax: u32 = 32;
const absent: u32 = 255;
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
  return (<u32>i8x16.bitmask(i8x16.eq(v128.load(group), i8x16.splat(<i8>tag)))) & 0xfff;
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

/** Looks up the keys whose `outSource` is 255 and writes the answers of those found. Times are written, zeros included, once an entry
 * with one was found (`timed`). Returns how many. `scratch`: 32 x 32 bytes. */
export function entryProbe(args: usize, scratch: usize): u32 {
  const groupsAt = <usize>load<u32>(args);
  const groups = load<u32>(args, 4);
  const base = <usize>load<u32>(args, 8);
  const limit = load<u32>(args, 12);
  const start = startOf(load<u32>(args, 16), load<u32>(args, 20));
  const keys = <usize>load<u32>(args, 24);
  const offsets = <usize>load<u32>(args, 28);
  const count = load<u32>(args, 32);
  const source = load<u32>(args, 36);
  const outSource = <usize>load<u32>(args, 40);
  const outAt = <usize>load<u32>(args, 44);
  const outBytes = <usize>load<u32>(args, 48);
  const outKind = <usize>load<u32>(args, 52);
  const outExpiry = <usize>load<u32>(args, 56);
  const outTime = <usize>load<u32>(args, 60);
  let found: u32 = 0;
  let timed: u32 = 0;
  let next: u32 = 0;
  if (load<u32>(args, 68) != 0) memory.fill(outSource, <u8>absent, <usize>count);
  while (next < count) {
    // 1. hash the next 32 that nobody holds yet: scratch[i] = hash, number, address of its group
    let size: u32 = 0;
    for (; next < count && size < groupMax; next++) {
      if (<u32>load<u8>(outSource + <usize>next) != absent) continue;
      const at = scratch + ((<usize>size) << 5);
      const from = load<u32>(offsets + ((<usize>next) << 2));
      const to = load<u32>(offsets + ((<usize>next) << 2), 4);
      const hash = hashKey(keys + <usize>from, to - from, start);
      store<u64>(at, hash);
      store<u32>(at, next, 8);
      store<u32>(at, <u32>groupsAt + (homeOf(hash, groups) << 6), 12);
      size += 1;
    }
    // 2. read a word of every group, and nothing else: only loads that stand close together wait together
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 5);
      store<u32>(at, load<u32>(<usize>load<u32>(at, 12)), 24);
    }
    // 3. match the tags of all, without a branch: scratch[i] = candidates, reference of the first (0: none)
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 5);
      const group = <usize>load<u32>(at, 12);
      const mask = matching(group, tagOf(load<u64>(at)));
      store<u32>(at, mask, 20);
      const reference = atomic.load<u32>(group + 16 + (((<usize>ctz(mask)) & 15) << 2));
      store<u32>(at, select<u32>(reference, 0, mask != 0 && reference <= limit), 16);
    }
    // 4. read the heads of all first candidates, and a line further, where a longer key goes on
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 5);
      const record = base + <usize>load<u32>(at, 16);
      store<u32>(at, load<u32>(record) ^ load<u32>(record, 60), 24);
    }
    // 5. compare all
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 5);
      const number = <usize>load<u32>(at, 8);
      const from = load<u32>(offsets + (number << 2));
      const bytes = load<u32>(offsets + (number << 2), 4) - from;
      const key = keys + <usize>from;
      // One comparison: the length of the key, and a short form. What has the long form is found by the search below.
      const shape = shapeOf(bytes);
      let record = base + <usize>load<u32>(at, 16);
      let head = load<u64>(record);
      let skip = headBytes(head);
      let value = shortValueBytes(head);
      // Without a reference the record is the base itself, whose first word is no head with this shape or is refused by the search below.
      let same = false;
      if (((<u32>head) & shapeMask) == shape && load<u32>(at, 16) != 0 && <u64>load<u32>(at, 16) + <u64>(skip + bytes + value) <= <u64>limit) {
        const held = record + <usize>skip;
        same = bytes - 16 <= 48 ? sameUpTo64(held, key, bytes) : sameBytes(held, key, bytes);
      }
      if (!same) {
        const mask = load<u32>(at, 20);
        if (mask == 0 && (load<u32>(<usize>load<u32>(at, 12), 12) & overflowBit(load<u64>(at))) == 0) continue;
        const where = findFrom(groupsAt, groups, homeOf(load<u64>(at), groups), mask, base, limit, load<u64>(at), key, bytes);
        if (where == 0) continue;
        record = base + <usize>atomic.load<u32>(where);
        head = load<u64>(record);
        skip = headBytes(head);
        value = valueBytesOf(head);
      }
      const flags = <u32>head;
      found += 1;
      store<u8>(outSource + number, <u8>source);
      store<u32>(outAt + (number << 2), <u32>record + skip + bytes);
      store<u32>(outBytes + (number << 2), value);
      store<u8>(outKind + number, <u8>(flags & 15));
      if ((flags & 0x30) == 0) continue;
      if (timed == 0) {
        timed = 1;
        memory.fill(outExpiry, 0, (<usize>count) << 3);
        memory.fill(outTime, 0, (<usize>count) << 3);
      }
      let field = record + <usize>timesFrom(head);
      if ((flags & 0x10) != 0) {
        store<f64>(outExpiry + (number << 3), timeAt(field));
        field += 6;
      }
      if ((flags & 0x20) != 0) store<f64>(outTime + (number << 3), timeAt(field));
    }
  }
  store<u32>(args, timed, 64);
  return found;
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
      const hash = hashKey(keys + <usize>from, load<u32>(bounds, 4) - from, start);
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
