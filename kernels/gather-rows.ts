// Row gather: numbered rows of one width, copied one after another.
// Why phases: the rows of a random batch miss the cache. Each group of 16 first touches the first lines of all its rows, so that the misses
// overlap; a copy at once per row would wait for each. Why own copy loops: memory.copy costs a call per row, 1.7x at 64 bytes (measured).
// Bounds: a row number >= rowCount gives a row of zeros (the probe answers 0xFFFFFFFF for an absent key).

const group: u32 = 16;

function copyRow(to: usize, from: usize, bytes: usize): void {
  let at: usize = 0;
  for (; at + 64 <= bytes; at += 64) {
    const a = v128.load(from + at);
    const b = v128.load(from + at, 16);
    const c = v128.load(from + at, 32);
    const d = v128.load(from + at, 48);
    v128.store(to + at, a);
    v128.store(to + at, b, 16);
    v128.store(to + at, c, 32);
    v128.store(to + at, d, 48);
  }
  for (; at + 16 <= bytes; at += 16) v128.store(to + at, v128.load(from + at));
  for (; at + 4 <= bytes; at += 4) store<u32>(to + at, load<u32>(from + at));
  for (; at < bytes; at++) store<u8>(to + at, load<u8>(from + at));
}

/** Reads one word of each row of a group (and of each further line, up to four), so that the lines are on their way. */
function touch(rowsAt: usize, rowCount: u32, rowBytes: usize, indices: usize, count: u32): u32 {
  let seen: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const index = load<u32>(indices + ((<usize>i) << 2));
    const from = rowsAt + rowBytes * (index < rowCount ? <usize>index : 0);
    seen |= <u32>load<u8>(from);
    if (rowBytes > 64) seen |= <u32>load<u8>(from, 64);
    if (rowBytes > 128) seen |= <u32>load<u8>(from, 128);
    if (rowBytes > 192) seen |= <u32>load<u8>(from, 192);
  }
  return seen;
}

/**
 * Copies rows `indices[0..count)` of `rowBytes` bytes each to `out`. Returns how many numbers were out of range (their rows are zeros).
 * `touched` is the address of a scratch word: what was read ahead is stored there, or the optimizer would drop the reading.
 */
export function gatherRows(rowsAt: usize, rowCount: u32, rowBytes: usize, indices: usize, count: u32, out: usize, touched: usize): u32 {
  let absent: u32 = 0;
  let seen: u32 = 0;
  for (let from: u32 = 0; from < count; from += group) {
    const to = from + group < count ? from + group : count;
    const entry = indices + ((<usize>from) << 2);
    if (rowCount > 0) seen |= touch(rowsAt, rowCount, rowBytes, entry, to - from);
    if (rowBytes == 32) {
      for (let i = from; i < to; i++) {
        const index = load<u32>(indices + ((<usize>i) << 2));
        if (index < rowCount) {
          const row = rowsAt + ((<usize>index) << 5);
          v128.store(out, v128.load(row));
          v128.store(out, v128.load(row, 16), 16);
        } else {
          memory.fill(out, 0, 32);
          absent += 1;
        }
        out += 32;
      }
    } else if (rowBytes == 64) {
      for (let i = from; i < to; i++) {
        const index = load<u32>(indices + ((<usize>i) << 2));
        if (index < rowCount) {
          const row = rowsAt + ((<usize>index) << 6);
          const a = v128.load(row);
          const b = v128.load(row, 16);
          const c = v128.load(row, 32);
          const d = v128.load(row, 48);
          v128.store(out, a);
          v128.store(out, b, 16);
          v128.store(out, c, 32);
          v128.store(out, d, 48);
        } else {
          memory.fill(out, 0, 64);
          absent += 1;
        }
        out += 64;
      }
    } else if (rowBytes == 4) {
      for (let i = from; i < to; i++) {
        const index = load<u32>(indices + ((<usize>i) << 2));
        if (index < rowCount) {
          store<u32>(out, load<u32>(rowsAt + ((<usize>index) << 2)));
        } else {
          store<u32>(out, 0);
          absent += 1;
        }
        out += 4;
      }
    } else if (rowBytes == 8) {
      for (let i = from; i < to; i++) {
        const index = load<u32>(indices + ((<usize>i) << 2));
        if (index < rowCount) {
          store<u64>(out, load<u64>(rowsAt + ((<usize>index) << 3)));
        } else {
          store<u64>(out, 0);
          absent += 1;
        }
        out += 8;
      }
    } else {
      for (let i = from; i < to; i++) {
        const index = load<u32>(indices + ((<usize>i) << 2));
        if (index < rowCount) {
          copyRow(out, rowsAt + rowBytes * <usize>index, rowBytes);
        } else {
          memory.fill(out, 0, rowBytes);
          absent += 1;
        }
        out += rowBytes;
      }
    }
  }
  store<u32>(touched, seen);
  return absent;
}
