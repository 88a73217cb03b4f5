// A mix of 32 bits that spreads keys over indexes, buckets and sketches, and gives initial values and digest terms.
// A hash never stands for a key: whoever looks one up compares the key.
// Invariant: a bijection of 32 bits, the same as mixWord of src/kernel/parameter-key.ts.

/** The finalizer of MurmurHash3 (Appleby), a bijection of 32 bits. */
export function mixWord(h: u32): u32 {
  h = (h ^ (h >> 16)) * 0x85ebca6b;
  h = (h ^ (h >> 13)) * 0xc2b2ae35;
  return h ^ (h >> 16);
}

/** Four words at once. */
export function mixFour(h: v128): v128 {
  h = i32x4.mul(v128.xor(h, i32x4.shr_u(h, 16)), i32x4.splat(0x85ebca6b));
  h = i32x4.mul(v128.xor(h, i32x4.shr_u(h, 13)), i32x4.splat(0xc2b2ae35));
  return v128.xor(h, i32x4.shr_u(h, 16));
}
