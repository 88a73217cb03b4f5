// Bitmaps by slot: how many bits are set, and which.
// A bitmap is u32 words, bit i of word w = slot 32 w + i. Two may be given, of which the bits set in both count; an address of 0 = all bits set.
// Why by kernel: choosing between a scan and a list asks for the count first, and enumerating bits in JavaScript costs a few ns a slot.

/** The bits of word `word` that both bitmaps have, of slots in [from, to). */
function bitsOf(first: usize, second: usize, word: u32, from: u32, to: u32): u32 {
  const at = (<usize>word) << 2;
  let bits: u32 = 0xffffffff;
  if (first) bits = load<u32>(first + at);
  if (second) bits &= load<u32>(second + at);
  const base = word << 5;
  if (base < from) bits &= (<u32>0xffffffff) << (from - base);
  if (to - base < 32) bits &= ((<u32>1) << (to - base)) - 1;
  return bits;
}

/** Bits that are set in both bitmaps in [from, to). */
export function bitsCount(first: usize, second: usize, from: u32, to: u32): u32 {
  if (from >= to) return 0;
  let count: u32 = 0;
  const end = (to - 1) >> 5;
  for (let word = from >> 5; word <= end; word++) count += <u32>popcnt(bitsOf(first, second, word, from, to));
  return count;
}

/** Writes the slots in [from, to) whose bits are set in both bitmaps to `out`, ascending, u32 each, at most `max`. Returns how many. */
export function bitsList(first: usize, second: usize, from: u32, to: u32, out: usize, max: u32): u32 {
  if (from >= to) return 0;
  let count: u32 = 0;
  const end = (to - 1) >> 5;
  for (let word = from >> 5; word <= end; word++) {
    let bits = bitsOf(first, second, word, from, to);
    const base = word << 5;
    while (bits != 0) {
      if (count == max) return count;
      store<u32>(out + ((<usize>count) << 2), base + <u32>ctz(bits));
      bits &= bits - 1;
      count += 1;
    }
  }
  return count;
}
