// Sorts many records by key at once, for builders of runs, and leaves of equal keys the one at the highest address. On a serving loop: entry-sort.ts, which stops anywhere.
// How: what all keys begin with is passed over; of the next eight bytes of each key (its window) every byte is replaced by its rank among the bytes that occur there, which makes a number as small
// as the keys allow (12 digits take 40 bits, not 96) in the same order; its upper bits are sorted by counting, twelve bits or fewer a pass from the lowest. Few more bits are taken than
// tell so many records apart, so what is still equal is little and is sorted by entry-sort.ts, which goes on with deeper bytes and cannot be made slow by prepared keys.
// Item, 16 bytes: u64 window, u32 address, u32 code (those upper bits).
// Work, 98 KiB: 8 tables of 256 u64 (weight of a byte at a place), then lists of 4,096 u32, one a pass (places; three at most, room for five), then the stack of entry-sort.

import { entrySort, insertionSort, push, small } from "./entry-sort";
import { headBytes, keyBytesOf, recordSize, sameBytes, windowAt } from "./entry-record";

const tableBytes: usize = 2048;
const countsFrom: usize = 16384;
const countsBytes: usize = 16384;
const stackFrom: usize = 98304;
const digitBitsMax: u32 = 12;
const codeBitsMax: u32 = 32;
/** Bits beyond those that number all records: of keys spread evenly one in 16 shares its code with another. */
const spareBits: u32 = 4;

/**
 * Addresses of the records that lie one behind another between `from` and `end`; how many, or 2^32 - 1 when they are not `most` at the most, well-formed and whole.
 * `shared`, two words: address of the first key of all (0: there was none yet) and how many bytes all keys so far begin with; brought up to date.
 */
export function findRecords(from: usize, end: usize, addresses: usize, most: u32, shared: usize): u32 {
  let model = <usize>load<u32>(shared);
  let same = load<u32>(shared, 4);
  let count: u32 = 0;
  for (let at = from; at < end; count++) {
    const size = recordSize(at, end);
    if (size == 0 || count == most) return 0xffffffff;
    store<u32>(addresses + ((<usize>count) << 2), <u32>at);
    const head = load<u64>(at);
    const key = at + <usize>headBytes(head);
    if (model == 0) {
      model = key;
      same = keyBytesOf(head);
    }
    same = min<u32>(same, keyBytesOf(head));
    for (let i: u32 = 0; i < same; i += 8) {
      const differ = load<u64>(model + <usize>i) ^ load<u64>(key + <usize>i);
      if (differ != 0) {
        same = min<u32>(same, i + <u32>(ctz<u64>(differ) >> 3));
        break;
      }
    }
    at += <usize>size;
  }
  store<u32>(shared, <u32>model);
  store<u32>(shared, same, 4);
  return count;
}

/** An item for each record, and which bytes occur at each place of the windows (a 1 in their tables). */
function fill(items: usize, addresses: usize, count: u32, shared: u32, tables: usize): void {
  memory.fill(tables, 0, 8 * tableBytes);
  for (let i: u32 = 0; i < count; i++) {
    const record = <usize>load<u32>(addresses + ((<usize>i) << 2));
    const head = load<u64>(record);
    const window = windowAt(record + <usize>(headBytes(head) + shared), keyBytesOf(head) - shared);
    const item = items + ((<usize>i) << 4);
    store<u64>(item, window);
    store<u32>(item, <u32>record, 8);
    store<u8>(tables + ((<usize>(window >> 56)) << 3), 1);
    store<u8>(tables + tableBytes + ((<usize>((window >> 48) & 255)) << 3), 1);
    store<u8>(tables + 2 * tableBytes + ((<usize>((window >> 40) & 255)) << 3), 1);
    store<u8>(tables + 3 * tableBytes + ((<usize>((window >> 32) & 255)) << 3), 1);
    store<u8>(tables + 4 * tableBytes + ((<usize>((window >> 24) & 255)) << 3), 1);
    store<u8>(tables + 5 * tableBytes + ((<usize>((window >> 16) & 255)) << 3), 1);
    store<u8>(tables + 6 * tableBytes + ((<usize>((window >> 8) & 255)) << 3), 1);
    store<u8>(tables + 7 * tableBytes + ((<usize>(window & 255)) << 3), 1);
  }
}

/** Turns marks into weights: rank of the byte times the combinations of all places behind. Returns the bits of the largest sum. */
function weigh(tables: usize): u32 {
  let combinations: u64 = 1;
  for (let place = 7; place >= 0; place--) {
    const table = tables + <usize>place * tableBytes;
    let rank: u64 = 0;
    for (let byte: usize = 0; byte < 256; byte++) {
      if (load<u64>(table + (byte << 3)) == 0) continue;
      store<u64>(table + (byte << 3), rank * combinations);
      rank += 1;
    }
    combinations *= rank;
  }
  // All bytes at all places: 2^64, which is 0 here.
  return 64 - <u32>clz<u64>(combinations - 1);
}

function codeOf(tables: usize, window: u64): u64 {
  return (
    load<u64>(tables + ((<usize>(window >> 56)) << 3)) +
    load<u64>(tables + tableBytes + ((<usize>((window >> 48) & 255)) << 3)) +
    load<u64>(tables + 2 * tableBytes + ((<usize>((window >> 40) & 255)) << 3)) +
    load<u64>(tables + 3 * tableBytes + ((<usize>((window >> 32) & 255)) << 3)) +
    (load<u64>(tables + 4 * tableBytes + ((<usize>((window >> 24) & 255)) << 3)) +
      load<u64>(tables + 5 * tableBytes + ((<usize>((window >> 16) & 255)) << 3)) +
      load<u64>(tables + 6 * tableBytes + ((<usize>((window >> 8) & 255)) << 3)) +
      load<u64>(tables + 7 * tableBytes + ((<usize>(window & 255)) << 3)))
  );
}

/** Whether two neighbours of sorted items may have equal keys: equal windows, or windows that are length and address (entry-sort.ts). */
function mayBeEqual(a: usize, b: usize): bool {
  const x = load<u64>(a);
  const y = load<u64>(b);
  if (x == y) return true;
  return x >> 32 == y >> 32 && <u32>x == load<u32>(a, 8) && <u32>y == load<u32>(b, 8);
}

function haveEqualKeys(a: usize, b: usize): bool {
  const x = load<u64>(a);
  const y = load<u64>(b);
  const bytes = keyBytesOf(x);
  return bytes == keyBytesOf(y) && sameBytes(a + <usize>headBytes(x), b + <usize>headBytes(y), bytes);
}

/**
 * Sorts the records at `addresses` by key, of equal keys only the one at the highest address stays; returns how many are left. All keys begin with the same `shared` bytes (or more).
 * `items`, `spare`: 16 bytes a record each.
 */
export function sortRecords(addresses: usize, count: u32, shared: u32, items: usize, spare: usize, work: usize): u32 {
  if (count == 0) return 0;
  fill(items, addresses, count, shared, work);
  const bits = weigh(work);
  const codeBits = min<u32>(min<u32>(bits, codeBitsMax), 32 - <u32>clz<u32>(count) + spareBits);
  const shift = <u64>(bits - codeBits);
  const passes = (codeBits + digitBitsMax - 1) / digitBitsMax;
  const digitBits = passes == 0 ? 0 : (codeBits + passes - 1) / passes;
  const mask: u32 = (1 << digitBits) - 1;

  const counts = work + countsFrom;
  memory.fill(counts, 0, <usize>passes * countsBytes);
  const end = items + ((<usize>count) << 4);
  for (let item = items; item < end; item += 16) {
    const code = passes == 0 ? 0 : <u32>(codeOf(work, load<u64>(item)) >> shift);
    store<u32>(item, code, 12);
    for (let pass: u32 = 0; pass < passes; pass++) {
      const at = counts + <usize>pass * countsBytes + ((<usize>((code >> (pass * digitBits)) & mask)) << 2);
      store<u32>(at, load<u32>(at) + 1);
    }
  }
  let from = items;
  let to = spare;
  for (let pass: u32 = 0; pass < passes; pass++) {
    const places = counts + <usize>pass * countsBytes;
    let sum: u32 = 0;
    for (let digit: u32 = 0; digit <= mask; digit++) {
      const at = places + ((<usize>digit) << 2);
      const here = load<u32>(at);
      store<u32>(at, sum);
      sum += here;
    }
    const low = pass * digitBits;
    const fromEnd = from + ((<usize>count) << 4);
    for (let item = from; item < fromEnd; item += 16) {
      const at = places + ((<usize>((load<u32>(item, 12) >> low) & mask)) << 2);
      const place = load<u32>(at);
      store<u32>(at, place + 1);
      v128.store(to + ((<usize>place) << 4), v128.load(item));
    }
    const other = from;
    from = to;
    to = other;
  }

  // What the codes did not tell apart.
  const stack = work + stackFrom;
  for (let i: u32 = 0; i < count;) {
    const code = load<u32>(from + ((<usize>i) << 4), 12);
    let next = i + 1;
    while (next < count && load<u32>(from + ((<usize>next) << 4), 12) == code) next += 1;
    if (next - i > small) {
      store<u32>(stack, 0);
      push(stack, i, next, shared, 0, 0);
      while (entrySort(from, stack, 0x7fffffff) == 0);
    } else if (next - i > 1) {
      insertionSort(from, i, next, shared);
    }
    i = next;
  }

  let kept: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const item = from + ((<usize>i) << 4);
    const record = load<u32>(item, 8);
    if (i + 1 < count && load<u32>(item, 12) == load<u32>(item, 28) && mayBeEqual(item, item + 16) && haveEqualKeys(<usize>record, <usize>load<u32>(item, 24)))
      continue;
    store<u32>(addresses + ((<usize>kept) << 2), record);
    kept += 1;
  }
  return kept;
}
