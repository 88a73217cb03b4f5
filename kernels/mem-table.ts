// The memtable: entries that come and change, found by search groups (entry-probe.ts), numbered in order of arrival.
//
// Layout, relative to the table's address (64-byte aligned), u32 each:
//   +0 "MEM1"   +4 groups   +8 groupsFrom   +12 numbersFrom   +16 recordsFrom   +20 recordsEnd   +24 recordsUsed (next free byte)   +28 count
//   +32 countMax   +36 seedLow   +40 seedHigh   +44 1: records never change   +48 orderFrom   +52 itemsFrom   +56 ordered   +60 tombstones put
//   groups; numbers: u32 an entry, the reference of its record; order: twice u32 an entry, numbers in key order (the host's); items: scratch of the sort
//   records: u32 number of the entry, the record, to a multiple of 8. A reference is the record's distance from the table.
//
// Invariants: 1. one thread puts  2. a record is whole before a reference names it; while +44 is 0 a value of the same room is overwritten where
//             it stands  3. a key keeps its number.

import { findFrom, homeOf, matching, place, tagOf } from "./entry-probe";
import { compareBytes, copyBytes, headBytes, keyBytesOf, recordSize, windowAt } from "./entry-record";
import { secretOf, startOf, stripeHash } from "./key-hash";

const groupMax: u32 = 32;

/**
 * Puts `count` records that lie one behind the other in `recordsBytes` bytes, in order. Returns how many: fewer when the table is full, or at a
 * record that is malformed or not whole. Writes the bytes taken, and 1 in the second case, to `scratch` (32 x 32 bytes).
 */
export function memTablePut(table: usize, records: usize, recordsBytes: u32, count: u32, scratch: usize): u32 {
  const groups = load<u32>(table, 4);
  const groupsAt = table + <usize>load<u32>(table, 8);
  const numbers = table + <usize>load<u32>(table, 12);
  const limit = load<u32>(table, 20);
  const countMax = load<u32>(table, 32);
  const start = startOf(load<u32>(table, 36), load<u32>(table, 40));
  const s0 = secretOf(start, 0);
  const s1 = secretOf(start, 1);
  const s2 = secretOf(start, 2);
  const s3 = secretOf(start, 3);
  const inPlace = load<u32>(table, 44) == 0;
  const end = records + <usize>recordsBytes;
  let entries = load<u32>(table, 28);
  let used = load<u32>(table, 24);
  let tombstones = load<u32>(table, 60);
  let at = records;
  let done: u32 = 0;
  let malformed: u32 = 0;
  let full = false;
  while (done < count && malformed == 0 && !full) {
    // 1. hash the next 32, their groups on their way: scratch[i] = hash, address, length
    let size: u32 = 0;
    let next = at;
    for (; size < groupMax && done + size < count; size++) {
      const bytes = recordSize(next, end);
      if (bytes == 0) {
        malformed = 1;
        break;
      }
      const head = load<u64>(next);
      const hash = stripeHash(next + <usize>headBytes(head), keyBytesOf(head), start, s0, s1, s2, s3);
      const item = scratch + ((<usize>size) << 5);
      store<u64>(item, hash);
      store<u32>(item, <u32>next, 8);
      store<u32>(item, bytes, 12);
      store<u32>(item, <u32>groupsAt + (homeOf(hash, groups) << 6), 16);
      next += <usize>bytes;
    }
    for (let i: u32 = 0; i < size; i++) {
      const item = scratch + ((<usize>i) << 5);
      store<u32>(item, load<u32>(<usize>load<u32>(item, 16)), 20);
    }
    // 2. the records of first candidates on their way; an entry of this group may still change what is found
    for (let i: u32 = 0; i < size; i++) {
      const item = scratch + ((<usize>i) << 5);
      const group = <usize>load<u32>(item, 16);
      const mask = matching(group, tagOf(load<u64>(item)));
      const reference = load<u32>(group + (((<usize>ctz(mask)) & 15) << 2), 16);
      store<u32>(item, load<u32>(table + <usize>select<u32>(reference, 0, mask != 0 && reference <= limit)), 20);
    }
    // 3. put one after another
    for (let i: u32 = 0; i < size; i++) {
      const item = scratch + ((<usize>i) << 5);
      const hash = load<u64>(item);
      const record = <usize>load<u32>(item, 8);
      const bytes = load<u32>(item, 12);
      const head = load<u64>(record);
      const home = homeOf(hash, groups);
      const mask = matching(groupsAt + ((<usize>home) << 6), tagOf(hash));
      const where = findFrom(groupsAt, groups, home, mask, table, limit, hash, record + <usize>headBytes(head), keyBytesOf(head));
      const room = (bytes + 11) & ~7;
      let number = entries;
      if (where != 0) {
        const known = table + <usize>load<u32>(where);
        const knownRoom = (recordSize(known, table + <usize>limit) + 11) & ~7;
        if (inPlace && room <= knownRoom) {
          copyBytes(known, record, bytes);
          if ((head & 15) == 0) tombstones += 1;
          at += <usize>bytes;
          done += 1;
          continue;
        }
        number = load<u32>(known - 4);
      } else if (entries >= countMax) {
        full = true;
        break;
      }
      if (<u64>used + <u64>room > <u64>limit) {
        full = true;
        break;
      }
      const reference = used + 4;
      store<u32>(table + <usize>used, number);
      copyBytes(table + <usize>reference, record, bytes);
      used += room;
      if (where != 0) atomic.store<u32>(where, reference);
      else place(groupsAt, groups, hash, reference);
      store<u32>(numbers + ((<usize>number) << 2), reference);
      if (where == 0) {
        entries += 1;
        atomic.store<u32>(table, entries, 28);
      }
      if ((head & 15) == 0) tombstones += 1;
      at += <usize>bytes;
      done += 1;
    }
  }
  store<u32>(table, used, 24);
  store<u32>(table, tombstones, 60);
  store<u32>(scratch, <u32>(at - records));
  store<u32>(scratch, full ? 0 : malformed, 4);
  return done;
}

/** Sort items of the entries `first`, `first + 1`, ... (their numbers): window, address, number. */
export function memTableItems(table: usize, first: u32, count: u32, items: usize): void {
  const numbers = table + <usize>load<u32>(table, 12);
  for (let i: u32 = 0; i < count; i++) {
    const record = table + <usize>load<u32>(numbers + ((<usize>(first + i)) << 2));
    const head = load<u64>(record);
    const item = items + ((<usize>i) << 4);
    store<u64>(item, windowAt(record + <usize>headBytes(head), keyBytesOf(head)));
    store<u32>(item, <u32>record, 8);
    store<u32>(item, first + i, 12);
  }
}

/** First place from `low` on, of `count` in an order, whose key is >= the key. */
function lowerBound(table: usize, order: usize, low: u32, count: u32, key: usize, keyBytes: u32): u32 {
  const numbers = table + <usize>load<u32>(table, 12);
  let high = count;
  while (low < high) {
    const middle = low + ((high - low) >> 1);
    const number = load<u32>(order + ((<usize>middle) << 2));
    const record = table + <usize>load<u32>(numbers + ((<usize>number) << 2));
    const head = load<u64>(record);
    if (compareBytes(record + <usize>headBytes(head), keyBytesOf(head), key, keyBytes) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function memTableSeek(table: usize, order: usize, count: u32, key: usize, keyBytes: u32): u32 {
  return lowerBound(table, order, 0, count, key, keyBytes);
}

/** Merges the sorted items of `fresh` entries that are not in the order `from` (of `count`) with it, into the order `to`. */
export function memTableMerge(table: usize, items: usize, fresh: u32, from: usize, count: u32, to: usize): void {
  let done: u32 = 0;
  for (let i: u32 = 0; i < fresh; i++) {
    const item = items + ((<usize>i) << 4);
    const record = <usize>load<u32>(item, 8);
    const head = load<u64>(record);
    const place = lowerBound(table, from, done, count, record + <usize>headBytes(head), keyBytesOf(head));
    memory.copy(to + ((<usize>(done + i)) << 2), from + ((<usize>done) << 2), (<usize>(place - done)) << 2);
    store<u32>(to + ((<usize>(place + i)) << 2), load<u32>(item, 12));
    done = place;
  }
  memory.copy(to + ((<usize>(done + fresh)) << 2), from + ((<usize>done) << 2), (<usize>(count - done)) << 2);
}
