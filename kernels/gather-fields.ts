// Fixed-width fields of looked-up values, copied to columns.
//
// Arguments, u32 each: +0 count   +4 source   +8 sources (u8 a row)   +12 ats   +16 lengths   +20 bytesMin (>= 4)   +24 mask   +28 match
//   +32 fields   +36 fieldCount   +40 spans   +44 spanCount   +48 requiredFrom   +52 requiredAt   +56 requiredBytes   +60 memoryEnd   +64 touched
//   +68 outputs   +72 outputCount   +76 note   from +80 scratch: 32 x 8 bytes
// A field: u32 offset, bytes, out (of row 0), stride, validBit (0xFFFFFFFF: always there), valid (address of bits, 0: none), default, 0.
// A span: u32 offset, bytes, out, stride: fields that lie side by side on both sides.
// An output: u32 out, bytes of a row, a row of defaults, 0: rows that do not take part get the defaults. With outputCount 0 they are left alone.
// `touched`: 16 bytes of scratch, then u8 a row, set to 1 where the row took part, to 3 where its first word has a bit of `note` besides.
// A row takes part when its source is `source`, its value has bytesMin bytes and (its first word & mask) == match.
//
// In groups of 32 rows: the lines of all rows are touched first, so that their misses overlap. Rows that have every field (the bits `required`
// are all set) go span by span, all rows of a span one after another; the others field by field.

import { copyBytes } from "./entry-record";

const groupMax: u32 = 32;
const always: u32 = 0xffffffff;

function hasAll(value: usize, from: u32, required: usize, bytes: u32): bool {
  for (let i: usize = 0; i < <usize>bytes; i++) {
    const need = load<u8>(required + i);
    if ((load<u8>(value + <usize>from + i) & need) != need) return false;
  }
  return true;
}

/** One row field by field. `row` counts in the whole call. */
function copyRow(value: usize, row: u32, fields: usize, fieldCount: u32): void {
  for (let f: u32 = 0; f < fieldCount; f++) {
    const field = fields + ((<usize>f) << 5);
    const bytes = load<u32>(field, 4);
    const bit = load<u32>(field, 16);
    const there = bit == always || (((<u32>load<u8>(value + <usize>(bit >> 3))) >> (bit & 7)) & 1) != 0;
    const from = there ? value + <usize>load<u32>(field) : <usize>load<u32>(field, 24);
    copyBytes(<usize>load<u32>(field, 8) + <usize>load<u32>(field, 12) * <usize>row, from, bytes);
    const valid = <usize>load<u32>(field, 20);
    if (valid == 0) continue;
    const at = valid + <usize>(row >> 3);
    const mark = (<u32>1) << (row & 7);
    store<u8>(at, <u8>(there ? (<u32>load<u8>(at)) | mark : (<u32>load<u8>(at)) & ~mark));
  }
}

/** Defaults for a row that does not take part. */
function copyDefaults(row: u32, outputs: usize, outputCount: u32): void {
  for (let o: u32 = 0; o < outputCount; o++) {
    const output = outputs + ((<usize>o) << 4);
    const bytes = load<u32>(output, 4);
    copyBytes(<usize>load<u32>(output) + <usize>bytes * <usize>row, <usize>load<u32>(output, 8), bytes);
  }
}

/** Copies the fields of the rows that take part; returns how many did. */
export function gatherFields(args: usize): u32 {
  const count = load<u32>(args);
  const source = load<u32>(args, 4);
  const sources = <usize>load<u32>(args, 8);
  const ats = <usize>load<u32>(args, 12);
  const lengths = <usize>load<u32>(args, 16);
  const bytesMin = load<u32>(args, 20);
  const mask = load<u32>(args, 24);
  const match = load<u32>(args, 28);
  const fields = <usize>load<u32>(args, 32);
  const fieldCount = load<u32>(args, 36);
  const spans = <usize>load<u32>(args, 40);
  const spanCount = load<u32>(args, 44);
  const requiredFrom = load<u32>(args, 48);
  const requiredAt = <usize>load<u32>(args, 52);
  const requiredBytes = load<u32>(args, 56);
  const memoryEnd = load<u32>(args, 60);
  const touched = <usize>load<u32>(args, 64);
  const outputs = <usize>load<u32>(args, 68);
  const outputCount = load<u32>(args, 72);
  const note = load<u32>(args, 76);
  const list = args + 80;
  const lines = min<u32>(bytesMin, 512) - 1;
  let taken: u32 = 0;
  let seen: u32 = 0;
  for (let first: u32 = 0; first < count; first += groupMax) {
    const end = min<u32>(first + groupMax, count);
    // 1. which rows: list[i] = value, row
    let size: u32 = 0;
    for (let row = first; row < end; row++) {
      const value = load<u32>(ats + ((<usize>row) << 2));
      const bytes = load<u32>(lengths + ((<usize>row) << 2));
      if (<u32>load<u8>(sources + <usize>row) != source || bytes < bytesMin || <u64>value + <u64>bytes > <u64>memoryEnd) {
        copyDefaults(row, outputs, outputCount);
        continue;
      }
      const at = list + ((<usize>size) << 3);
      store<u32>(at, value);
      store<u32>(at, row, 4);
      size += 1;
    }
    // the lines of each on their way, and nothing else: only loads that stand close together wait together
    const ends = list + ((<usize>size) << 3);
    for (let at = list; at < ends; at += 8) {
      const value = <usize>load<u32>(at);
      for (let line: u32 = 0; line < lines; line += 64) seen ^= <u32>load<u8>(value + <usize>line);
      seen ^= <u32>load<u8>(value + <usize>lines);
    }
    // 2. rows of the layout; those with every field stay in the list
    let whole: u32 = 0;
    let bits: u32 = 0;
    for (let i: u32 = 0; i < size; i++) {
      const at = list + ((<usize>i) << 3);
      const value = <usize>load<u32>(at);
      const row = load<u32>(at, 4);
      const word = load<u32>(value);
      if ((word & mask) != match) {
        copyDefaults(row, outputs, outputCount);
        continue;
      }
      store<u8>(touched + 16 + <usize>row, <u8>(1 + ((<u32>((word & note) != 0)) << 1)));
      taken += 1;
      if (hasAll(value, requiredFrom, requiredAt, requiredBytes)) {
        store<u64>(list + ((<usize>whole) << 3), load<u64>(at));
        whole += 1;
        bits |= (<u32>1) << (row - first);
      } else {
        copyRow(value, row, fields, fieldCount);
      }
    }
    if (whole == 0) continue;
    // 3. span by span
    const listEnd = list + ((<usize>whole) << 3);
    for (let s: u32 = 0; s < spanCount; s++) {
      const span = spans + ((<usize>s) << 4);
      const offset = <usize>load<u32>(span);
      const bytes = load<u32>(span, 4);
      const out = <usize>load<u32>(span, 8);
      const stride = <usize>load<u32>(span, 12);
      if (bytes == 4) {
        for (let at = list; at < listEnd; at += 8) {
          store<u32>(out + stride * <usize>load<u32>(at, 4), load<u32>(<usize>load<u32>(at) + offset));
        }
      } else if (bytes == 8) {
        for (let at = list; at < listEnd; at += 8) {
          store<u64>(out + stride * <usize>load<u32>(at, 4), load<u64>(<usize>load<u32>(at) + offset));
        }
      } else {
        for (let at = list; at < listEnd; at += 8) copyBytes(out + stride * <usize>load<u32>(at, 4), <usize>load<u32>(at) + offset, bytes);
      }
    }
    // 4. their bits, 32 rows at once
    for (let f: u32 = 0; f < fieldCount; f++) {
      const valid = <usize>load<u32>(fields + ((<usize>f) << 5), 20);
      if (valid != 0) store<u32>(valid + <usize>(first >> 3), load<u32>(valid + <usize>(first >> 3)) | bits);
    }
  }
  store<u32>(touched, seen);
  return taken;
}
