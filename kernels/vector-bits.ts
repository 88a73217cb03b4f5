// Bitmaps by slot: how many bits are set, and which.
// A bitmap is u32 words, bit i of word w = slot 32 w + i. Two may be given, of which the bits set in both count; an address of 0 = all bits set.
// Why by kernel: choosing between a scan and a list asks for the count first, and enumerating bits in JavaScript costs a few ns a slot.

/** Of 64 words, so many that have bits at the most for them to be taken one by one. */
const filledMost: u32 = 12;

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

/** Four words that both bitmaps have, all inside the range. */
function fourWords(first: usize, second: usize, word: u32): v128 {
  const at = (<usize>word) << 2;
  let bits = i32x4.splat(-1);
  if (first) bits = v128.load(first + at);
  if (second) bits = v128.and(bits, v128.load(second + at));
  return bits;
}

/** Bits that are set in both bitmaps in [from, to). */
export function bitsCount(first: usize, second: usize, from: u32, to: u32): u32 {
  if (from >= to) return 0;
  let count: u32 = 0;
  const end = (to - 1) >> 5;
  let word = from >> 5;
  if (from & 31) count += <u32>popcnt(bitsOf(first, second, word++, from, to));
  // Words that are in the range as a whole, four at a time.
  let sums = i32x4.splat(0);
  for (; (word + 4) << 5 <= to; word += 4) {
    const each = i8x16.popcnt(fourWords(first, second, word));
    sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(each)));
  }
  count += i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1) + i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3);
  for (; word <= end; word++) count += <u32>popcnt(bitsOf(first, second, word, from, to));
  return count;
}

/** Writes the slots of the set bits of 64, from `base` on; returns the end. May write two beyond it. Nearly always two are enough, so few branches are guessed wrong. */
function listBits(bits: u64, base: u32, to: usize): usize {
  const end = to + ((<usize>popcnt(bits)) << 2);
  store<u32>(to, base + <u32>ctz(bits));
  bits &= bits - 1;
  store<u32>(to, base + <u32>ctz(bits), 4);
  bits &= bits - 1;
  to += 8;
  while (bits != 0) {
    store<u32>(to, base + <u32>ctz(bits));
    bits &= bits - 1;
    to += 4;
  }
  return end;
}

/** Writes the slots of the first of the words that `full` names, counted from `word`, behind the `count` there are; returns how many there are then. May write two beyond them. */
function listNext(first: usize, second: usize, word: u32, full: u64, out: usize, count: u32): u32 {
  const one = word + ((<u32>ctz(full)) & 63);
  const at = (<usize>one) << 2;
  let bits = select<u32>(load<u32>(second + at), 0, full != 0);
  if (first) bits &= load<u32>(first + at);
  const base = one << 5;
  store<u32>(out + ((<usize>count) << 2), base + ctz<u32>(bits));
  count += <u32>(bits != 0);
  bits &= bits - 1;
  store<u32>(out + ((<usize>count) << 2), base + ctz<u32>(bits));
  count += <u32>(bits != 0);
  bits &= bits - 1;
  while (bits != 0) {
    store<u32>(out + ((<usize>count) << 2), base + ctz<u32>(bits));
    bits &= bits - 1;
    count += 1;
  }
  return count;
}

/** Which of 16 words have bits, as a mask. */
function filledWords(at: usize): u64 {
  const none = i32x4.splat(0);
  const a = i16x8.narrow_i32x4_s(i32x4.ne(v128.load(at), none), i32x4.ne(v128.load(at, 16), none));
  const b = i16x8.narrow_i32x4_s(i32x4.ne(v128.load(at, 32), none), i32x4.ne(v128.load(at, 48), none));
  return <u64>(<u32>i8x16.bitmask(i8x16.narrow_i16x8_s(a, b)));
}

/** Writes the slots in [from, to) whose bits are set in both bitmaps to `out`, ascending, u32 each, at most `max`. Returns how many. */
export function bitsList(first: usize, second: usize, from: u32, to: u32, out: usize, max: u32): u32 {
  if (from >= to) return 0;
  let count: u32 = 0;
  const end = (to - 1) >> 5;
  for (let word = from >> 5; word <= end; word++) {
    // Where nearly all words are empty, 64 at once: which are not is one mask, so that what is guessed wrong is a few times for 64 and not once a set bit.
    while (second && word << 5 >= from && (word + 64) << 5 <= to && count + 64 * 32 + 2 <= max) {
      const at = second + ((<usize>word) << 2);
      let full = filledWords(at) | (filledWords(at + 64) << 16) | (filledWords(at + 128) << 32) | (filledWords(at + 192) << 48);
      if (<u32>popcnt(full) > filledMost) break;
      // Four words at least, also where there are none: how many there are is not to be guessed.
      do {
        count = listNext(first, second, word, full, out, count);
        full &= full - 1;
        count = listNext(first, second, word, full, out, count);
        full &= full - 1;
        count = listNext(first, second, word, full, out, count);
        full &= full - 1;
        count = listNext(first, second, word, full, out, count);
        full &= full - 1;
      } while (full != 0);
      word += 64;
    }
    if (word > end) break;
    // Four words at a time while all of them are in the range and their bits have room; eight that have none in the second at once.
    while (word << 5 >= from && (word + 4) << 5 <= to && count + 130 <= max) {
      if (second) {
        while ((word + 8) << 5 <= to && !v128.any_true(v128.or(v128.load(second + ((<usize>word) << 2)), v128.load(second + ((<usize>word) << 2), 16))))
          word += 8;
        if ((word + 4) << 5 > to) break;
      }
      const four = fourWords(first, second, word);
      if (v128.any_true(four)) {
        const base = word << 5;
        let at = listBits(i64x2.extract_lane(four, 0), base, out + ((<usize>count) << 2));
        at = listBits(i64x2.extract_lane(four, 1), base + 64, at);
        count = <u32>((at - out) >> 2);
      }
      word += 4;
    }
    if (word > end) break;
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

/** Words whose set bits are listed together: src/kernel/vector-layout.ts, fewBits. A multiple of 64. */
const fewWords: u32 = 2048;

/** Which of 64 words have bits. */
function filledOf64(at: usize): u64 {
  return ~(emptyWords(at) | (emptyWords(at + 64) << 16) | (emptyWords(at + 128) << 32) | (emptyWords(at + 192) << 48));
}

/** Which of 16 words have none. */
function emptyWords(at: usize): u64 {
  const none = i32x4.splat(0);
  const a = i16x8.narrow_i32x4_s(i32x4.eq(v128.load(at), none), i32x4.eq(v128.load(at, 16), none));
  const b = i16x8.narrow_i32x4_s(i32x4.eq(v128.load(at, 32), none), i32x4.eq(v128.load(at, 48), none));
  return <u64>(<u32>i8x16.bitmask(i8x16.narrow_i16x8_s(a, b)));
}

/**
 * Appends the slots of the set bits of `words` words (a multiple of 64, the first of slot `firstSlot`) to the list at `out`, of which there are `count`. Returns how many there are then;
 * where there would be more than `max`, some number above it. May write four beyond `max`. `room`: 12 bytes for each 64 of fewWords, 4 for each of them, and 16.
 * Why in three goes (groups that have any, words of them that have any, bits): each is a loop whose end is told before, so that nearly no branch is guessed wrong.
 */
export function bitsFew(bits: usize, words: u32, firstSlot: u32, out: usize, count: u32, max: u32, room: usize): u32 {
  const bases = room + ((<usize>fewWords) >> 3);
  const list = bases + ((<usize>fewWords) >> 4);
  for (let from: u32 = 0; from < words; from += fewWords) {
    const end = min(from + fewWords, words);
    let groups: u32 = 0;
    for (let word = from; word < end; word += 64) {
      const filled = filledOf64(bits + ((<usize>word) << 2));
      store<u64>(room + ((<usize>groups) << 3), filled);
      store<u32>(bases + ((<usize>groups) << 2), word);
      groups += <u32>(filled != 0);
    }
    let all: u32 = 0;
    for (let group: u32 = 0; group < groups; group++) {
      let filled = load<u64>(room + ((<usize>group) << 3));
      const word = load<u32>(bases + ((<usize>group) << 2));
      let to = list + ((<usize>all) << 2);
      all += <u32>popcnt(filled);
      // Four at least, also where there are fewer.
      do {
        store<u32>(to, word + <u32>ctz(filled));
        filled &= filled - 1;
        store<u32>(to, word + <u32>ctz(filled), 4);
        filled &= filled - 1;
        store<u32>(to, word + <u32>ctz(filled), 8);
        filled &= filled - 1;
        store<u32>(to, word + <u32>ctz(filled), 12);
        filled &= filled - 1;
        to += 16;
      } while (filled != 0);
    }
    for (let i: u32 = 0; i < all; i++) {
      const word = load<u32>(list + ((<usize>i) << 2));
      let set = load<u32>(bits + ((<usize>word) << 2));
      const base = firstSlot + (word << 5);
      let to = out + ((<usize>count) << 2);
      count += <u32>popcnt(set);
      if (count > max) return count;
      store<u32>(to, base + ctz<u32>(set));
      set &= set - 1;
      store<u32>(to, base + ctz<u32>(set), 4);
      set &= set - 1;
      while (set != 0) {
        store<u32>(to, base + ctz<u32>(set), 8);
        set &= set - 1;
        to += 4;
      }
    }
  }
  return count;
}
