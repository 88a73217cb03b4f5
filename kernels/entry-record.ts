// Reading an entry record (docs/format/run-file.md) and working on short byte strings: what the engine's kernels share.
//   u8 head (low 4 bits kind, 0x10 has expiry, 0x20 has time, 0x40 and 0x80 form), then by form
//   0: u8 keyBytes   u8 valueBytes      0x40: u8 keyBytes   u16 valueBytes      0x80: u24 keyBytes   u32 valueBytes      0xc0: no record
//   then   [u48 expiry]   [u48 time]   key   value
// Or, in a run, a key line of 64 bytes and elsewhere in its block the record without its key:
//   u8 0xc0 + 16 x (upper two bits of place) + 62 - keyBytes   u8 lower eight bits of place   key   zeros; place = offset of the rest in the block / 4
// All but lines may lie at any address. Reads up to 15 bytes past the end of a record or a key (and ignores them): the host keeps 64 bytes free.

export const keyBytesMax: u32 = 4096;
export const valueBytesMax: u32 = 1 << 28;

/** The smallest record: no key, no value. */
const recordBytesMin: usize = 3;
/** Bytes before the key, five bits for each upper half of a first byte: 3, 9, 9, 15; 4, 10, 10, 16; 8, 14, 14, 20. */
const headSizes: u64 = 0xa39c8829447a523;

/** Bytes before the key, from the first eight bytes of a record. */
export function headBytes(head: u64): u32 {
  return (<u32>(headSizes >> (((head >> 4) & 15) * 5))) & 31;
}

/** Bytes before expiry and time. */
export function timesFrom(head: u64): u32 {
  return headBytes(head & ~(<u64>0x30));
}

export function keyBytesOf(head: u64): u32 {
  return (<u32>(head >> 8)) & (0xff | ((((<u32>head) >> 7) & 1) * 0xffff00));
}

export function valueBytesOf(head: u64): u32 {
  const form = ((<u32>head) >> 6) & 3;
  // From bit 16, in the long form from bit 32; 8, 16 or 32 bits.
  return (<u32>(head >> (<u64>(16 + ((form & 2) << 3))))) & (0xffffffff >> ((0x1018 >> (form << 3)) & 31));
}

/** The same when the form is known to be short. */
export function shortValueBytes(head: u64): u32 {
  return (<u32>(head >> 16)) & (0xff | (((<u32>head) & 0x40) * 0x3fc));
}

/** What the first 16 bits of a record with a key of so many bytes are under `shapeMask`, in the two short forms; of a longer key, what none is. */
export function shapeOf(keyBytes: u32): u32 {
  return keyBytes < 256 ? keyBytes << 8 : 0xffffffff;
}
export const shapeMask: u32 = 0xff80;

/** Whether a first byte begins a record. */
export function isHead(head: u64): bool {
  return (head & 0xc0) != 0xc0;
}

/** Length of the record at `at`, or 0 when no whole, well-formed record stands before `limit`. */
export function recordSize(at: usize, limit: usize): u32 {
  if (at > limit || limit - at < recordBytesMin) return 0;
  const head = load<u64>(at);
  const key = keyBytesOf(head);
  const value = valueBytesOf(head);
  if (!isHead(head) || key > keyBytesMax || value > valueBytesMax) return 0;
  const size = headBytes(head) + key + value;
  return <usize>size > limit - at ? 0 : size;
}

/** The u48 at an address, as a number. */
export function timeAt(at: usize): f64 {
  return <f64>(load<u64>(at) & 0xffffffffffff);
}

export function sameBytes(a: usize, b: usize, bytes: u32): bool {
  if (bytes >= 16) {
    // The last 16 bytes may overlap those before. One test for up to 64 bytes.
    const last = <usize>bytes - 16;
    let differ = v128.xor(v128.load(a + last), v128.load(b + last));
    for (let i: usize = 0; i < last; i += 16) {
      differ = v128.or(differ, v128.xor(v128.load(a + i), v128.load(b + i)));
      if ((i & 63) == 48 && v128.any_true(differ)) return false;
    }
    return !v128.any_true(differ);
  }
  if (bytes >= 8) {
    const last = <usize>bytes - 8;
    return ((load<u64>(a) ^ load<u64>(b)) | (load<u64>(a + last) ^ load<u64>(b + last))) == 0;
  }
  return bytes == 0 || (load<u64>(a) ^ load<u64>(b)) << ((8 - <u64>bytes) << 3) == 0;
}

/** Copies exactly `bytes` bytes between places that do not overlap. */
export function copyBytes(to: usize, from: usize, bytes: u32): void {
  if (bytes >= 16) {
    const last = <usize>bytes - 16;
    const tail = v128.load(from + last);
    for (let i: usize = 0; i < last; i += 16) v128.store(to + i, v128.load(from + i));
    v128.store(to + last, tail);
  } else if (bytes >= 8) {
    const last = <usize>bytes - 8;
    const a = load<u64>(from);
    const b = load<u64>(from + last);
    store<u64>(to, a);
    store<u64>(to + last, b);
  } else if (bytes >= 4) {
    const last = <usize>bytes - 4;
    const a = load<u32>(from);
    const b = load<u32>(from + last);
    store<u32>(to, a);
    store<u32>(to + last, b);
  } else {
    for (let i: usize = 0; i < <usize>bytes; i++) store<u8>(to + i, load<u8>(from + i));
  }
}

/** Eight bytes of a key from `depth` on as a big-endian number, filled up with zeros. `rest` = bytes of the key behind `depth`. */
export function windowAt(at: usize, rest: u32): u64 {
  const word = bswap<u64>(load<u64>(at));
  if (rest >= 8) return word;
  return rest == 0 ? 0 : word & (~(<u64>0) << ((8 - <u64>rest) << 3));
}

/** Order of two byte strings: negative, 0 or positive. */
export function compareBytes(a: usize, aBytes: u32, b: usize, bBytes: u32): i32 {
  const shared = min<u32>(aBytes, bBytes);
  for (let i: u32 = 0; i < shared; i += 8) {
    const x = windowAt(a + <usize>i, shared - i);
    const y = windowAt(b + <usize>i, shared - i);
    if (x != y) return x < y ? -1 : 1;
  }
  return aBytes == bBytes ? 0 : aBytes < bBytes ? -1 : 1;
}

// ---- key lines ----

export const lineBytes: u32 = 64;
export const lineKeyBytesMin: u32 = 48;
export const lineKeyBytesMax: u32 = 62;
/** Where the key begins in its line. */
export const lineKeyFrom: u32 = 2;

/** What the first byte of the line of a key of so many bytes is under `lineMask`; of other keys, what none is. */
export function lineShapeOf(keyBytes: u32): u32 {
  return keyBytes - lineKeyBytesMin <= lineKeyBytesMax - lineKeyBytesMin ? 0xc0 | (lineKeyBytesMax - keyBytes) : 0xffffffff;
}
export const lineMask: u32 = 0xcf;

/** Where in its block the rest of the entry stands whose line begins with `head`. */
export function placeOf(head: u32): u32 {
  return ((head & 0x30) << 6) | ((head & 0xff00) >> 6);
}

/** First two bytes of a line. `place`: a multiple of 4. */
export function lineHead(keyBytes: u32, place: u32): u32 {
  return 0xc0 | ((place >> 6) & 0x30) | (lineKeyBytesMax - keyBytes) | ((place << 6) & 0xff00);
}
