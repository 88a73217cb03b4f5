// Sorts records by key, equal keys by address. Items of 16 bytes: u64 window (eight bytes of the key, big-endian), u32 address,
// u32 number (the caller's).
// How: a segment whose keys agree up to `depth` is split at the middle between its least and greatest window, again and again; where all windows
// are equal, keys that end there go to the front (by length, then address) and the others go on with their next eight bytes.
// Why not by a picked pivot: halving the range of numbers needs at most 64 splits a window whatever the keys are, so nobody can prepare
// keys that make a sort slow. Why windows: a record is read once for eight bytes of key, all other comparisons stay in the items.
//
// Stack: u32 how many, up to +32 zeros; then 32 bytes a segment: u32 from, to, depth, and while its equal windows are being split low, progress + 1.
// The smaller part goes first, so 62 segments are enough.

import { compareBytes, headBytes, keyBytesOf, windowAt } from "./entry-record";

/** Depth of a segment whose windows are length and address: no two are equal. */
const byAddress: u32 = 0xffffffff;
export const small: u32 = 12;
const visitsARecord: i64 = 16;

function keyAt(record: usize): usize {
  return record + <usize>headBytes(load<u64>(record));
}

/** Order of two records by key from `depth` on, then by address. */
function compareRecords(a: usize, b: usize, depth: u32): i32 {
  const x = load<u64>(a);
  const y = load<u64>(b);
  const order = compareBytes(a + <usize>headBytes(x) + <usize>depth, keyBytesOf(x) - depth, b + <usize>headBytes(y) + <usize>depth, keyBytesOf(y) - depth);
  if (order != 0) return order;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** How many of the records at `addresses` stand in order, from the first on. */
export function entriesInOrder(addresses: usize, count: u32): u32 {
  for (let i: u32 = 1; i < count; i++) {
    const at = addresses + ((<usize>i) << 2);
    if (compareRecords(<usize>load<u32>(at - 4), <usize>load<u32>(at), 0) >= 0) return i;
  }
  return count;
}

/** An item for each address. */
export function entrySortFill(items: usize, addresses: usize, count: u32): void {
  for (let i: u32 = 0; i < count; i++) {
    const record = <usize>load<u32>(addresses + ((<usize>i) << 2));
    const head = load<u64>(record);
    const item = items + ((<usize>i) << 4);
    store<u64>(item, windowAt(record + <usize>headBytes(head), keyBytesOf(head)));
    store<u64>(item, <u64>record, 8);
  }
}

export function push(stack: usize, from: u32, to: u32, depth: u32, low: u32, progress: u32): void {
  const height = load<u32>(stack);
  const at = stack + 32 + ((<usize>height) << 5);
  store<u32>(at, from);
  store<u32>(at, to, 4);
  store<u32>(at, depth, 8);
  store<u32>(at, low, 12);
  store<u32>(at, progress, 16);
  store<u32>(stack, height + 1);
}

export function entrySortBegin(stack: usize, count: u32): void {
  store<u32>(stack, 0);
  if (count > 1) push(stack, 0, count, 0, 0, 0);
}

/** Sorts few items whose keys agree up to `depth`. */
export function insertionSort(items: usize, from: u32, to: u32, depth: u32): void {
  const first = items + ((<usize>from) << 4);
  const end = items + ((<usize>to) << 4);
  for (let i = first + 16; i < end; i += 16) {
    const item = v128.load(i);
    const window = load<u64>(i);
    const record = <usize>load<u32>(i, 8);
    let hole = i;
    for (; hole > first; hole -= 16) {
      const other = load<u64>(hole - 16);
      if (other < window) break;
      if (other == window && compareRecords(<usize>load<u32>(hole - 16, 8), record, depth) < 0) break;
      v128.store(hole, v128.load(hole - 16));
    }
    v128.store(hole, item);
  }
}

function swap(a: usize, b: usize): void {
  const x = v128.load(a);
  v128.store(a, v128.load(b));
  v128.store(b, x);
}

/**
 * Of items of equal windows, those whose key ends within it go to the front, with length and address as window; the others get their next
 * window. Goes over the items `at` to `end`; `low` = where those begin that go on. Returns the new `low`.
 */
function splitEnded(items: usize, low: u32, at: u32, end: u32, depth: u32): u32 {
  const next = depth + 8;
  for (let i = at; i < end; i++) {
    const item = items + ((<usize>i) << 4);
    const record = <usize>load<u32>(item, 8);
    const head = load<u64>(record);
    const bytes = keyBytesOf(head);
    if (bytes <= next) {
      store<u64>(item, ((<u64>bytes) << 32) | (<u64>record));
      swap(item, items + ((<usize>low) << 4));
      low += 1;
    } else {
      store<u64>(item, windowAt(record + <usize>headBytes(head) + <usize>next, bytes - next));
    }
  }
  return low;
}

/** Windows <= middle to the front; returns where the others begin. Both parts hold something. */
function split(items: usize, from: u32, to: u32, middle: u64): u32 {
  let low = items + ((<usize>from) << 4);
  let high = items + ((<usize>to) << 4) - 16;
  while (true) {
    while (load<u64>(low) <= middle) low += 16;
    while (load<u64>(high) > middle) high -= 16;
    if (low > high) break;
    swap(low, high);
    low += 16;
    high -= 16;
  }
  return <u32>((low - items) >> 4);
}

/** Sorts on until about `budget` item visits were spent. 1 when all is sorted. */
export function entrySort(items: usize, stack: usize, budget: u32): u32 {
  let left = <i64>budget;
  while (load<u32>(stack) > 0) {
    const height = load<u32>(stack) - 1;
    store<u32>(stack, height);
    const segment = stack + 32 + ((<usize>height) << 5);
    let from = load<u32>(segment);
    let to = load<u32>(segment, 4);
    let depth = load<u32>(segment, 8);
    let low = load<u32>(segment, 12);
    let progress = load<u32>(segment, 16);
    while (to - from > 1) {
      if (left <= 0) {
        push(stack, from, to, depth, low, progress);
        return 0;
      }
      const size = to - from;
      if (size <= small && progress == 0) {
        left -= <i64>size * 4;
        insertionSort(items, from, to, depth == byAddress ? 0 : depth);
        break;
      }
      let middle: u32;
      let lowDepth = depth;
      let highDepth = depth;
      if (progress == 0) {
        let least = ~(<u64>0);
        let most: u64 = 0;
        const end = items + ((<usize>to) << 4);
        for (let at = items + ((<usize>from) << 4); at < end; at += 16) {
          const window = load<u64>(at);
          least = window < least ? window : least;
          most = window > most ? window : most;
        }
        left -= <i64>size;
        if (least == most) {
          if (depth == byAddress) break;
          low = from;
          progress = from + 1;
          continue;
        }
        middle = split(items, from, to, least + ((most - least) >> 1));
        left -= <i64>size;
      } else {
        // Records are read here: the dearest visits, and a part that can stop anywhere.
        const at = progress - 1;
        const end = <u32>min<u64>(<u64>to, <u64>at + <u64>(left / visitsARecord) + 64);
        low = splitEnded(items, low, at, end, depth);
        left -= <i64>(end - at) * visitsARecord;
        progress = end + 1;
        if (end < to) continue;
        progress = 0;
        middle = low;
        lowDepth = byAddress;
        highDepth = depth + 8;
      }
      if (middle - from < to - middle) {
        if (to - middle > 1) push(stack, middle, to, highDepth, 0, 0);
        to = middle;
        depth = lowDepth;
      } else {
        if (middle - from > 1) push(stack, from, middle, lowDepth, 0, 0);
        from = middle;
        depth = highDepth;
      }
    }
  }
  return 1;
}

/** A word of each item, at `word`: 8 its address, 12 its number. */
export function entrySortTake(items: usize, count: u32, word: usize, out: usize): void {
  for (let i: u32 = 0; i < count; i++) store<u32>(out + ((<usize>i) << 2), load<u32>(items + ((<usize>i) << 4) + word));
}
