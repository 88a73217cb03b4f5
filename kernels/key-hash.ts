// The seeded 64-bit key hash. Its definition is part of file formats: docs/format/key-hash.md. Never change a constant.
// Why this form: WebAssembly has no 64 x 64 -> 128 multiply, so the full product of the two halves of a word is taken; it costs one
// instruction here and two exact 32-bit products in the TypeScript twin.
// Reads up to 7 bytes past the end of a key (and ignores them): the caller keeps them inside the memory.

const golden: u64 = 0x9e3779b97f4a7c15;

export function mix64(z: u64): u64 {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/** What all keys of one seed start from. */
export function startOf(seedLow: u32, seedHigh: u32): u64 {
  return mix64((((<u64>seedHigh) << 32) | (<u64>seedLow)) + golden);
}

export function foldWord(h: u64, word: u64): u64 {
  const x = h ^ word;
  return (x & 0xffffffff) * (x >> 32) + rotl<u64>(x, 23);
}

export function hashKey(at: usize, bytes: u32, start: u64): u64 {
  let h = start + <u64>bytes * golden;
  const end = at + <usize>bytes;
  // Two words a turn: the loop itself was a third of the instructions of a key of 60 bytes.
  for (; at + 16 <= end; at += 16) h = foldWord(foldWord(h, load<u64>(at)), load<u64>(at, 8));
  if (at + 8 <= end) {
    h = foldWord(h, load<u64>(at));
    at += 8;
  }
  const rest = <u64>(end - at);
  if (rest > 0) h = foldWord(h, load<u64>(at) & (((<u64>1) << (rest << 3)) - 1));
  return mix64(h);
}

/** Hashes `count` keys: key i is the bytes `keys + offsets[i]` up to `keys + offsets[i + 1]`. Writes a u64 each to `out`. */
export function hashKeys(keys: usize, offsets: usize, count: u32, seedLow: u32, seedHigh: u32, out: usize): void {
  const start = startOf(seedLow, seedHigh);
  for (let i: u32 = 0; i < count; i++) {
    const from = load<u32>(offsets + ((<usize>i) << 2));
    const to = load<u32>(offsets + ((<usize>i) << 2), 4);
    store<u64>(out + ((<usize>i) << 3), hashKey(keys + <usize>from, to - from, start));
  }
}

// ---- the stripe hash: docs/format/key-hash.md, "The stripe hash" ----
// Why a second one: all products of a stripe of 64 bytes are independent, where each word of `hashKey` waits for the one before. A key of 60 bytes takes half the instructions.

/** Words 2 i and 2 i + 1 of the secret that follows from `startOf` a seed. */
export function secretOf(start: u64, i: u64): v128 {
  return i64x2.replace_lane(i64x2.splat(mix64(start + (2 * i + 1) * golden)), 1, mix64(start + (2 * i + 2) * golden));
}

/** Sum of the products of 32-bit words of `a` with those of `b`, and of `c` with `d`, each word added to its secret. */
function sumOfProducts(a: v128, b: v128, c: v128, d: v128, s0: v128, s1: v128, s2: v128, s3: v128): u64 {
  a = i32x4.add(a, s0);
  b = i32x4.add(b, s1);
  c = i32x4.add(c, s2);
  d = i32x4.add(d, s3);
  const first = i64x2.add(i64x2.extmul_low_i32x4_u(a, b), i64x2.extmul_high_i32x4_u(a, b));
  const second = i64x2.add(i64x2.extmul_low_i32x4_u(c, d), i64x2.extmul_high_i32x4_u(c, d));
  const sum = i64x2.add(first, second);
  return <u64>i64x2.extract_lane(sum, 0) + <u64>i64x2.extract_lane(sum, 1);
}

/** The piece that stands for a key of less than 16 bytes. */
function shortPiece(at: usize, bytes: u32): v128 {
  if (bytes >= 8) return i64x2.replace_lane(i64x2.splat(load<u64>(at)), 1, load<u64>(at + <usize>bytes - 8));
  const word = bytes == 0 ? 0 : load<u64>(at) << ((8 - <u64>bytes) << 3);
  return i64x2.replace_lane(i64x2.splat(word), 1, 0);
}

/** Hash of a key of 16 to 64 bytes. */
export function stripeHashUpTo64(at: usize, bytes: u32, start: u64, s0: v128, s1: v128, s2: v128, s3: v128): u64 {
  const last = <usize>bytes - 16;
  const second = v128.load(at + min<usize>(last, 16));
  const third = v128.load(at + min<usize>(last, 32));
  return mix64(start + <u64>bytes * golden + sumOfProducts(v128.load(at), second, third, v128.load(at + last), s0, s1, s2, s3));
}

/** Hash of a key; `s0` to `s3` = `secretOf(start, 0)` to 3. Reads up to 7 bytes past the end of a key. */
export function stripeHash(at: usize, bytes: u32, start: u64, s0: v128, s1: v128, s2: v128, s3: v128): u64 {
  if (bytes - 16 <= 48) return stripeHashUpTo64(at, bytes, start, s0, s1, s2, s3);
  let h = start + <u64>bytes * golden;
  if (bytes < 16) {
    const piece = shortPiece(at, bytes);
    return mix64(h + sumOfProducts(piece, piece, piece, piece, s0, s1, s2, s3));
  }
  const last = at + <usize>bytes - 64;
  while (true) {
    h = mix64(h + sumOfProducts(v128.load(at), v128.load(at, 16), v128.load(at, 32), v128.load(at, 48), s0, s1, s2, s3));
    if (at == last) return h;
    at = min<usize>(at + 64, last);
  }
}

/** As `hashKeys`. */
export function stripeHashes(keys: usize, offsets: usize, count: u32, seedLow: u32, seedHigh: u32, out: usize): void {
  const start = startOf(seedLow, seedHigh);
  const s0 = secretOf(start, 0);
  const s1 = secretOf(start, 1);
  const s2 = secretOf(start, 2);
  const s3 = secretOf(start, 3);
  for (let i: u32 = 0; i < count; i++) {
    const from = load<u32>(offsets + ((<usize>i) << 2));
    const to = load<u32>(offsets + ((<usize>i) << 2), 4);
    store<u64>(out + ((<usize>i) << 3), stripeHash(keys + <usize>from, to - from, start, s0, s1, s2, s3));
  }
}
