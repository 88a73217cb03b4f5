// Hash table of byte-string keys to row numbers 0, 1, 2, ... in order of insertion. Open addressing, linear probing, no removal.
// Why: one lookup touches a slot line and the record of the key; the key lies with its row, so that the full comparison costs no further
// miss. A hash never stands for a key: the tag only saves comparisons.
//
// Layout, relative to the table's address (64-byte aligned):
//   +0 u32 "KTB1"   +4 u32 slotMask   +8 u32 slotsFrom   +12 u32 recordsFrom   +16 u32 recordBytesMax   +20 u32 recordBytesUsed
//   +24 u32 count   +28 u32 countMax   +32 u32 seedLow   +36 u32 seedHigh   up to +64 zeros
//   slots: u64 each = tag (low 32) and reference (high 32); reference 0 = empty, else the record's byte offset behind recordsFrom
//   records: u32 row, u32 length, the key's bytes, zeros up to a multiple of 8; the first stands at 8
// slot of a key = low half of its hash & slotMask, tag = high half.
//
// Invariants: 1. countMax <= 3/4 of the slots, so a probe ends  2. a record is complete before its slot names it (one atomic store), so
//             readers in other threads may probe while one thread inserts  3. recordsFrom + recordBytesMax + 64 lies inside the table.
// Probe in groups of 32 keys, in phases (hash all, read all slots, choose, read all record heads, compare all): misses of a group overlap.

import { hashKey, startOf } from "./key-hash";

const groupMax: u32 = 32;
const none: u32 = 0xffffffff;

function keyEquals(record: usize, key: usize, bytes: u32): bool {
  if (load<u32>(record, 4) != bytes) return false;
  let at = record + 8;
  const end = at + <usize>bytes;
  for (; at + 8 <= end; at += 8, key += 8) if (load<u64>(at) != load<u64>(key)) return false;
  const rest = <u64>(end - at);
  // The bytes behind a key are zeros in a record, anything in a batch.
  return rest == 0 || load<u64>(at) == (load<u64>(key) & (((<u64>1) << (rest << 3)) - 1));
}

/** Searches from `slot` on: low half = the key's row or `none`, high half = the slot where the search ended. */
function search(slots: usize, slotMask: u32, records: usize, slot: u32, tag: u32, key: usize, bytes: u32): u64 {
  while (true) {
    const entry = atomic.load<u64>(slots + ((<usize>slot) << 3));
    const reference = <u32>(entry >> 32);
    if (reference == 0) return ((<u64>slot) << 32) | (<u64>none);
    if (<u32>entry == tag) {
      const record = records + <usize>reference;
      if (keyEquals(record, key, bytes)) return ((<u64>slot) << 32) | (<u64>load<u32>(record));
    }
    slot = (slot + 1) & slotMask;
  }
}

/**
 * Looks up `count` keys; writes each key's row, or 0xFFFFFFFF, to `outRows`. Returns how many were found.
 * `scratch`: 32 x 16 bytes.
 */
export function keyTableProbe(table: usize, keys: usize, offsets: usize, count: u32, outRows: usize, scratch: usize): u32 {
  const slotMask = load<u32>(table, 4);
  const slots = table + <usize>load<u32>(table, 8);
  const records = table + <usize>load<u32>(table, 12);
  const start = startOf(load<u32>(table, 32), load<u32>(table, 36));
  let found: u32 = 0;
  for (let first: u32 = 0; first < count; first += groupMax) {
    const size = count - first < groupMax ? count - first : groupMax;
    const bounds = offsets + ((<usize>first) << 2);
    // 1. hash all: scratch[i] = hash, entry
    for (let i: u32 = 0; i < size; i++) {
      const from = load<u32>(bounds + ((<usize>i) << 2));
      const to = load<u32>(bounds + ((<usize>i) << 2), 4);
      store<u64>(scratch + ((<usize>i) << 4), hashKey(keys + <usize>from, to - from, start));
    }
    // 2. read all home slots
    for (let i: u32 = 0; i < size; i++) {
      const slot = load<u32>(scratch + ((<usize>i) << 4)) & slotMask;
      store<u64>(scratch + ((<usize>i) << 4), atomic.load<u64>(slots + ((<usize>slot) << 3)), 8);
    }
    // 3. choose: move on while the slot is taken under another tag; scratch[i] = tag, slot, reference (0 = absent)
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 4);
      let slot = load<u32>(at) & slotMask;
      const tag = load<u32>(at, 4);
      let entry = load<u64>(at, 8);
      while (entry >> 32 != 0 && <u32>entry != tag) {
        slot = (slot + 1) & slotMask;
        entry = atomic.load<u64>(slots + ((<usize>slot) << 3));
      }
      store<u32>(at, slot);
      store<u32>(at, <u32>(entry >> 32), 8);
    }
    // 4. read all record heads, and a line further, where a key of more than 56 bytes goes on
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 4);
      const record = records + <usize>load<u32>(at, 8);
      store<u32>(at, load<u32>(record) ^ load<u32>(record, 60), 12);
    }
    // 5. compare all
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 4);
      const reference = load<u32>(at, 8);
      let row = none;
      if (reference != 0) {
        const record = records + <usize>reference;
        const from = load<u32>(bounds + ((<usize>i) << 2));
        const bytes = load<u32>(bounds + ((<usize>i) << 2), 4) - from;
        const key = keys + <usize>from;
        if (keyEquals(record, key, bytes)) row = load<u32>(record);
        else row = <u32>search(slots, slotMask, records, (load<u32>(at) + 1) & slotMask, load<u32>(at, 4), key, bytes);
        if (row != none) found += 1;
      }
      store<u32>(outRows + ((<usize>(first + i)) << 2), row);
    }
  }
  return found;
}

/**
 * Inserts `count` keys, in order; a key that is there keeps its row. Writes each key's row to `outRows` and returns how many keys were
 * handled: fewer than `count` when the table is full (rows, or bytes of records), which leaves the rest to a bigger table.
 * One thread at a time. `scratch`: 32 x 16 bytes.
 */
export function keyTableInsert(table: usize, keys: usize, offsets: usize, count: u32, outRows: usize, scratch: usize): u32 {
  const slotMask = load<u32>(table, 4);
  const slots = table + <usize>load<u32>(table, 8);
  const records = table + <usize>load<u32>(table, 12);
  const recordBytesMax = load<u32>(table, 16);
  const countMax = load<u32>(table, 28);
  const start = startOf(load<u32>(table, 32), load<u32>(table, 36));
  for (let first: u32 = 0; first < count; first += groupMax) {
    const size = count - first < groupMax ? count - first : groupMax;
    const bounds = offsets + ((<usize>first) << 2);
    for (let i: u32 = 0; i < size; i++) {
      const from = load<u32>(bounds + ((<usize>i) << 2));
      const to = load<u32>(bounds + ((<usize>i) << 2), 4);
      const hash = hashKey(keys + <usize>from, to - from, start);
      store<u64>(scratch + ((<usize>i) << 4), hash);
      // Only to have the line on its way: an insertion of this group may still change the slot.
      store<u64>(scratch + ((<usize>i) << 4), atomic.load<u64>(slots + ((<usize>((<u32>hash) & slotMask)) << 3)), 8);
    }
    for (let i: u32 = 0; i < size; i++) {
      const at = scratch + ((<usize>i) << 4);
      const from = load<u32>(bounds + ((<usize>i) << 2));
      const bytes = load<u32>(bounds + ((<usize>i) << 2), 4) - from;
      const key = keys + <usize>from;
      const tag = load<u32>(at, 4);
      const end = search(slots, slotMask, records, load<u32>(at) & slotMask, tag, key, bytes);
      let row = <u32>end;
      if (row == none) {
        row = load<u32>(table, 24);
        const reference = load<u32>(table, 20);
        const recordBytes = 8 + ((<u64>bytes + 7) & ~7);
        if (row >= countMax || <u64>reference + recordBytes > <u64>recordBytesMax) return first + i;
        const record = records + <usize>reference;
        store<u32>(record, row);
        store<u32>(record, bytes, 4);
        // The padding first: the copy then covers what belongs to the key.
        if (bytes > 0) store<u64>(record + <usize>recordBytes - 8, 0);
        memory.copy(record + 8, key, <usize>bytes);
        atomic.store<u64>(slots + ((<usize>(<u32>(end >> 32))) << 3), ((<u64>reference) << 32) | (<u64>tag));
        store<u32>(table, reference + <u32>recordBytes, 20);
        atomic.store<u32>(table, row + 1, 24);
      }
      store<u32>(outRows + ((<usize>(first + i)) << 2), row);
    }
  }
  return count;
}
