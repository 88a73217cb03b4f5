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
