// Rows of a bulk load: columns to packed rows, and packed rows with their keys to entry records, dealt by the hash of the key to the block in hand of its slice.
// Arguments of packRows, words of 4 bytes: 0 rows, 1 out, 2 bytes of a row, 3 template (a row with all that is equal in every one), 4 columns, 5 how many;
// a column, 8 words: 0 data, 1 bytes of a value, 2 place in the row, 3 validity bits (bit i of byte i >> 3; 0: the template has its bit and all rows have a value),
// 4 place of the byte with its bit, 5 the bit, 6 and 7 none.
// Arguments of stageRows: stageWords in src/kernel/entry-layout.ts. A slice, 4 words: 0 block (0: none), 1 bytes used, 2 rows, 3 none.
// Reads up to 15 bytes past keys, rows and head; writes exactly what a record takes: blocks lie side by side.

import { copyBytes } from "./entry-record";
import { foldWord, mix64, startOf } from "./key-hash";

const golden: u64 = 0x9e3779b97f4a7c15;

function word(args: usize, index: usize): u32 {
  return load<u32>(args + (index << 2));
}

function setWord(args: usize, index: usize, value: u32): void {
  store<u32>(args + (index << 2), value);
}

/** Packs rows of one length from columns of fixed width. */
export function packRows(args: usize): void {
  const rows = word(args, 0);
  const out = <usize>word(args, 1);
  const rowBytes = <usize>word(args, 2);
  const template = <usize>word(args, 3);
  const end = out + <usize>rows * rowBytes;
  for (let to = out; to < end; to += rowBytes) copyBytes(to, template, <u32>rowBytes);
  const columns = <usize>word(args, 4);
  const columnsEnd = columns + ((<usize>word(args, 5)) << 5);
  for (let column = columns; column < columnsEnd; column += 32) {
    let data = <usize>word(column, 0);
    const width = word(column, 1);
    const valid = <usize>word(column, 3);
    let to = out + <usize>word(column, 2);
    if (valid == 0) {
      if (width == 4) {
        for (; to < end; to += rowBytes, data += 4) store<u32>(to, load<u32>(data));
      } else if (width == 8) {
        for (; to < end; to += rowBytes, data += 8) store<u64>(to, load<u64>(data));
      } else {
        for (; to < end; to += rowBytes, data += <usize>width) copyBytes(to, data, width);
      }
      continue;
    }
    let bits = out + <usize>word(column, 4);
    const bit = <u8>word(column, 5);
    for (let row: u32 = 0; row < rows; row++) {
      if (((load<u8>(valid + ((<usize>row) >> 3)) >> ((<u8>row) & 7)) & 1) != 0) {
        copyBytes(to, data, width);
        store<u8>(bits, load<u8>(bits) | bit);
      }
      to += rowBytes;
      bits += rowBytes;
      data += <usize>width;
    }
  }
}

/** hashKey of a key whose first `prefixBytes` (at most 7) stand apart, as the low bytes of `prefix`. */
function hashBehind(prefix: u64, prefixBytes: u32, key: usize, keyBytes: u32, start: u64): u64 {
  const bytes = prefixBytes + keyBytes;
  let h = start + <u64>bytes * golden;
  const first = prefix | (load<u64>(key) << ((<u64>prefixBytes) << 3));
  if (bytes < 8) return mix64(bytes == 0 ? h : foldWord(h, first & (((<u64>1) << ((<u64>bytes) << 3)) - 1)));
  h = foldWord(h, first);
  const end = key + <usize>keyBytes;
  let at = key + 8 - <usize>prefixBytes;
  for (; at + 8 <= end; at += 8) h = foldWord(h, load<u64>(at));
  const rest = <u64>(end - at);
  if (rest > 0) h = foldWord(h, load<u64>(at) & (((<u64>1) << (rest << 3)) - 1));
  return mix64(h);
}

/** Stages rows until all are done (0) or a slice needs another block (1; which one, and the row, stand in the arguments). */
export function stageRows(args: usize): u32 {
  const keys = <usize>word(args, 0);
  const offsets = <usize>word(args, 1);
  const refused = <usize>word(args, 2);
  const rowsEnd = word(args, 4);
  const values = <usize>word(args, 5);
  const valueOffsets = <usize>word(args, 6);
  const front = <usize>word(args, 8);
  const timesBytes = word(args, 9);
  const prefixBytes = word(args, 10);
  const keyBytesMax = word(args, 11);
  const start = startOf(word(args, 14), word(args, 15));
  const slices = <u64>word(args, 16);
  const slicesAt = <usize>word(args, 17);
  const blockBytes = word(args, 18);
  const recordBytesMax = word(args, 19);
  const prefix = load<u64>(front + <usize>timesBytes) & (((<u64>1) << ((<u64>prefixBytes) << 3)) - 1);
  const flags = word(args, 24);
  const frontBytes = timesBytes + prefixBytes;
  let stagedRows = word(args, 20);
  let stagedBytes = word(args, 21);
  let refusedRows = word(args, 22);
  let status: u32 = 0;
  let row = word(args, 3);
  for (; row < rowsEnd; row++) {
    const fault = refused + ((<usize>row) << 1);
    if (load<u16>(fault) != 0) {
      refusedRows += 1;
      continue;
    }
    const bound = offsets + ((<usize>row) << 2);
    const key = keys + <usize>load<u32>(bound);
    const keyBytes = load<u32>(bound, 4) - load<u32>(bound);
    if (keyBytes == 0 || keyBytes > keyBytesMax) {
      store<u16>(fault, <u16>word(args, 12));
      refusedRows += 1;
      continue;
    }
    let value = values;
    let valueBytes = word(args, 7);
    if (valueOffsets == 0) {
      value += <usize>row * <usize>valueBytes;
    } else {
      const from = load<u32>(valueOffsets + ((<usize>row) << 2));
      value += <usize>from;
      valueBytes = load<u32>(valueOffsets + ((<usize>row) << 2), 4) - from;
    }
    const wholeKeyBytes = prefixBytes + keyBytes;
    const long = wholeKeyBytes > 255 || valueBytes > 65535;
    const headBytes: u32 = long ? 8 : valueBytes > 255 ? 4 : 3;
    const record = headBytes + frontBytes + keyBytes + valueBytes;
    if (record > recordBytesMax) {
      store<u16>(fault, <u16>word(args, 13));
      refusedRows += 1;
      continue;
    }
    const hash = hashBehind(prefix, prefixBytes, key, keyBytes, start);
    const number = <u32>(((hash >> 32) * slices) >> 32);
    const slice = slicesAt + ((<usize>number) << 4);
    const block = load<u32>(slice);
    const used = load<u32>(slice, 4);
    if (block == 0 || used + record > blockBytes) {
      setWord(args, 23, number);
      status = 1;
      break;
    }
    const to = <usize>block + <usize>used;
    if (long) {
      store<u32>(to, flags | 0x80 | (wholeKeyBytes << 8));
      store<u32>(to, valueBytes, 4);
    } else {
      // The fourth byte of a head of three is overwritten by what comes next: a key is never empty.
      store<u32>(to, flags | (valueBytes > 255 ? 0x40 : 0) | (wholeKeyBytes << 8) | (valueBytes << 16));
    }
    let at = to + <usize>headBytes;
    copyBytes(at, front, frontBytes);
    at += <usize>frontBytes;
    copyBytes(at, key, keyBytes);
    copyBytes(at + <usize>keyBytes, value, valueBytes);
    store<u32>(slice, used + record, 4);
    store<u32>(slice, load<u32>(slice, 8) + 1, 8);
    stagedRows += 1;
    stagedBytes += wholeKeyBytes + valueBytes;
  }
  setWord(args, 3, row);
  setWord(args, 20, stagedRows);
  setWord(args, 21, stagedBytes);
  setWord(args, 22, refusedRows);
  return status;
}
