// Sorts records by key, equal keys by address. Items of 16 bytes: u64 window (eight bytes of the key, big-endian), u32 address, u32 0.
// How: a segment whose keys agree up to `depth` is split at the middle between its least and greatest window, again and again; where all windows
// are equal, keys that end there go to the front (by length, then address) and the others go on with their next eight bytes.
// Why not by a picked pivot: halving the range of numbers needs at most 64 splits a window whatever the keys are, so nobody can prepare
// keys that make a sort slow. Why windows: a record is read once for eight bytes of key, all other comparisons stay in the items.
//
// Stack: u32 how many, up to +16 zeros; then u32 from, u32 to, u32 depth, u32 0 a segment. The smaller part goes first, so 64 segments are enough.

import { compareBytes, headBytes, keyBytesOf, windowAt } from "./entry-record";

/** Depth of a segment whose windows are length and address: no two are equal. */
const byAddress: u32 = 0xffffffff;
const small: u32 = 12;

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

function push(stack: usize, from: u32, to: u32, depth: u32): void {
  const height = load<u32>(stack);
  const at = stack + 16 + ((<usize>height) << 4);
  store<u32>(at, from);
  store<u32>(at, to, 4);
  store<u32>(at, depth, 8);
  store<u32>(stack, height + 1);
}

export function entrySortBegin(stack: usize, count: u32): void {
  store<u32>(stack, 0);
  if (count > 1) push(stack, 0, count, 0);
}

function insertionSort(items: usize, from: u32, to: u32, depth: u32): void {
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

/** Items of equal windows: those whose key ends within it to the front, with length and address as window; the others get their next window. */
function splitEnded(items: usize, from: u32, to: u32, depth: u32): u32 {
  let low = from;
  let high = to;
  const next = depth + 8;
  while (low < high) {
    const item = items + ((<usize>low) << 4);
    const record = <usize>load<u32>(item, 8);
    const head = load<u64>(record);
    const bytes = keyBytesOf(head);
    if (bytes <= next) {
      store<u64>(item, ((<u64>bytes) << 32) | (<u64>record));
      low += 1;
    } else {
      store<u64>(item, windowAt(record + <usize>headBytes(head) + <usize>next, bytes - next));
      high -= 1;
      swap(item, items + ((<usize>high) << 4));
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

/** Sorts on until about `budget` items were visited. 1 when all is sorted. */
export function entrySort(items: usize, stack: usize, budget: u32): u32 {
  let left = <i64>budget;
  while (load<u32>(stack) > 0) {
    const height = load<u32>(stack) - 1;
    store<u32>(stack, height);
    const segment = stack + 16 + ((<usize>height) << 4);
    let from = load<u32>(segment);
    let to = load<u32>(segment, 4);
    let depth = load<u32>(segment, 8);
    while (to - from > 1) {
      if (left <= 0) {
        push(stack, from, to, depth);
        return 0;
      }
      const size = to - from;
      left -= <i64>size * 2;
      if (size <= small) {
        insertionSort(items, from, to, depth == byAddress ? 0 : depth);
        break;
      }
      let least = ~(<u64>0);
      let most: u64 = 0;
      const end = items + ((<usize>to) << 4);
      for (let at = items + ((<usize>from) << 4); at < end; at += 16) {
        const window = load<u64>(at);
        least = window < least ? window : least;
        most = window > most ? window : most;
      }
      let middle: u32;
      let lowDepth = depth;
      let highDepth = depth;
      if (least == most) {
        if (depth == byAddress) break;
        left -= <i64>size * 4;
        middle = splitEnded(items, from, to, depth);
        lowDepth = byAddress;
        highDepth = depth + 8;
      } else {
        middle = split(items, from, to, least + ((most - least) >> 1));
      }
      if (middle - from < to - middle) {
        if (to - middle > 1) push(stack, middle, to, highDepth);
        to = middle;
        depth = lowDepth;
      } else {
        if (middle - from > 1) push(stack, from, middle, lowDepth);
        from = middle;
        depth = highDepth;
      }
    }
  }
  return 1;
}

/** Addresses of the items. */
export function entrySortTake(items: usize, count: u32, out: usize): void {
  for (let i: u32 = 0; i < count; i++) store<u32>(out + ((<usize>i) << 2), load<u32>(items + ((<usize>i) << 4), 8));
}
