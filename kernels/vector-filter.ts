// Filters of vector search: a column of attributes compared with a constant, to bits; and exact search over the few rows that pass, by their codes first.
//
// Bits: u32 words by slot, bit i of word w = slot 32 w + i. Columns hold whole words of slots (segments are padded to 32).
// The search over a list looks at a quarter of the bytes of a row: its int8 code. The code's score is off by an error of known size: each of its numbers was rounded by up to half a
// step, so the sum is off by unit * sqrt(sum of the query's squared codes / 12) (standard deviation). A row whose code stays more than `slack` of that below the k-th best is no
// answer; every other is compared exactly. So no number of candidates is to be guessed: where the k-th best is surrounded by thousands of rows as near as it (a filter that names
// what lies far from the query), more rows are compared, and the answers stay those of f32. `slack` 5: one row in three million is misjudged.
// Why in parts of partRows: a row that is compared exactly as soon as it is found is waited for alone (four cache lines); scored by codes first, then compared together, the misses
// overlap. Measured, 500 rows of 64 numbers, cold: 70 us one by one, see docs/design/vectors.md.

import { offer, thresholdOf, topKReset } from "./top-k";
import { foldQuery } from "./vector-codes8";
import { scanList, slotPasses } from "./vector-rows";

/** Rows scored by codes before the best of them are compared exactly: src/kernel/vector-layout.ts, filterScanRows. */
const partRows: u32 = 2048;
/** Rows that are fetched together before they are looked at, and bytes of them at the most: they stay in the innermost cache. A multiple of 8. */
const touchRows: u32 = 64;
const touchBytes: u32 = 24 << 10;

function word(args: usize, index: usize): u32 {
  return load<u32>(args + (index << 2));
}

/** Four products of one row's code to one score. */
function scoreOne(code: usize, coded: usize, codeBytes: usize, unit: f32): f32 {
  let sum = i32x4.splat(0);
  for (let at: usize = 0; at < codeBytes; at += 16) {
    const low = i32x4.dot_i16x8_s(v128.load_ext<i8>(code + at), v128.load(coded + (at << 1)));
    const high = i32x4.dot_i16x8_s(v128.load_ext<i8>(code + at, 8), v128.load(coded + (at << 1), 16));
    sum = i32x4.add(sum, i32x4.add(low, high));
  }
  return <f32>(i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1) + i32x4.extract_lane(sum, 2) + i32x4.extract_lane(sum, 3)) * unit;
}

/** How many rows of so many bytes are fetched together: a multiple of 8. */
function togetherOf(rowBytes: usize): u32 {
  return max<u32>(8, min<u32>(touchRows, (touchBytes / <u32>rowBytes) & ~7));
}

/**
 * Reads of each line of the first rows of a list, as many as are whole eights, so that their misses overlap. Eight a turn with nothing else between: the fewer instructions a row takes, the
 * more rows are waited for at once (one row a turn: 10 to 20 % longer; turns between those that compare: half as long again).
 */
function touchRowsOf(rows: usize, rowBytes: usize, list: usize, count: u32, most: u32): u32 {
  let sum: u32 = 0;
  for (let i: u32 = 0; i + 8 <= count; i += 8) {
    const entry = list + ((<usize>i) << 2);
    const r0 = rows + rowBytes * <usize>min(load<u32>(entry), most);
    const r1 = rows + rowBytes * <usize>min(load<u32>(entry, 4), most);
    const r2 = rows + rowBytes * <usize>min(load<u32>(entry, 8), most);
    const r3 = rows + rowBytes * <usize>min(load<u32>(entry, 12), most);
    const r4 = rows + rowBytes * <usize>min(load<u32>(entry, 16), most);
    const r5 = rows + rowBytes * <usize>min(load<u32>(entry, 20), most);
    const r6 = rows + rowBytes * <usize>min(load<u32>(entry, 24), most);
    const r7 = rows + rowBytes * <usize>min(load<u32>(entry, 28), most);
    for (let at: usize = 0; at < rowBytes; at += 64) {
      sum |= load<u8>(r0 + at) | load<u8>(r1 + at) | load<u8>(r2 + at) | load<u8>(r3 + at);
      sum |= load<u8>(r4 + at) | load<u8>(r5 + at) | load<u8>(r6 + at) | load<u8>(r7 + at);
    }
  }
  return sum;
}

/**
 * Scores of the rows of a list by their codes, to `scores`; what does not exist has NaN. `coded`, `unit`: of foldQuery. `spare`: 4 bytes that are written, so that the loads that only
 * fetch are not taken for useless.
 */
export function scoreCodes(
  codes: usize,
  codeBytes: usize,
  bias: usize,
  coded: usize,
  slots: u32,
  list: usize,
  count: u32,
  unit: f32,
  scores: usize,
  spare: usize,
): void {
  const units = f32x4.splat(unit);
  const top = i32x4.splat(slots);
  let i: u32 = 0;
  let touched: u32 = 0;
  let fetched: u32 = 0;
  const together = togetherOf(codeBytes);
  for (; i + 8 <= count; i += 8) {
    const entry = list + ((<usize>i) << 2);
    if (i == fetched) {
      touched |= touchRowsOf(codes, codeBytes, entry, min(together, count - i), slots - 1);
      fetched += together;
    }
    if (!i32x4.all_true(v128.and(i32x4.lt_u(v128.load(entry), top), i32x4.lt_u(v128.load(entry, 16), top)))) break;
    const c0 = codes + codeBytes * <usize>load<u32>(entry);
    const c1 = codes + codeBytes * <usize>load<u32>(entry, 4);
    const c2 = codes + codeBytes * <usize>load<u32>(entry, 8);
    const c3 = codes + codeBytes * <usize>load<u32>(entry, 12);
    const c4 = codes + codeBytes * <usize>load<u32>(entry, 16);
    const c5 = codes + codeBytes * <usize>load<u32>(entry, 20);
    const c6 = codes + codeBytes * <usize>load<u32>(entry, 24);
    const c7 = codes + codeBytes * <usize>load<u32>(entry, 28);
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let a4 = a0;
    let a5 = a0;
    let a6 = a0;
    let a7 = a0;
    for (let at: usize = 0; at < codeBytes; at += 16) {
      const x = v128.load(coded + (at << 1));
      const y = v128.load(coded + (at << 1), 16);
      a0 = i32x4.add(a0, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c0 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c0 + at, 8), y)));
      a1 = i32x4.add(a1, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c1 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c1 + at, 8), y)));
      a2 = i32x4.add(a2, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c2 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c2 + at, 8), y)));
      a3 = i32x4.add(a3, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c3 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c3 + at, 8), y)));
      a4 = i32x4.add(a4, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c4 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c4 + at, 8), y)));
      a5 = i32x4.add(a5, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c5 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c5 + at, 8), y)));
      a6 = i32x4.add(a6, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c6 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c6 + at, 8), y)));
      a7 = i32x4.add(a7, i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(c7 + at), x), i32x4.dot_i16x8_s(v128.load_ext<i8>(c7 + at, 8), y)));
    }
    let s = f32x4.mul(f32x4.convert_i32x4_s(sumsOf(a0, a1, a2, a3)), units);
    let t = f32x4.mul(f32x4.convert_i32x4_s(sumsOf(a4, a5, a6, a7)), units);
    if (bias) {
      s = f32x4.add(s, biasAt(bias, entry));
      t = f32x4.add(t, biasAt(bias, entry + 16));
    }
    const to = scores + ((<usize>i) << 2);
    v128.store(to, s);
    v128.store(to, t, 16);
  }
  for (; i < count; i++) {
    const slot = load<u32>(list + ((<usize>i) << 2));
    let score: f32 = NaN;
    if (slot < slots) {
      score = scoreOne(codes + codeBytes * <usize>slot, coded, codeBytes, unit);
      if (bias) score += load<f32>(bias + ((<usize>slot) << 2));
    }
    store<f32>(scores + ((<usize>i) << 2), score);
  }
  store<u32>(spare, touched);
}

/** How far a score by codes is to be believed to be off: `slack` standard deviations. `unit`: of foldQuery. */
export function codeMargin(coded: usize, codeBytes: usize, unit: f32, slack: f32): f32 {
  let squares: f32 = 0;
  for (let at: usize = 0; at < codeBytes << 1; at += 2) {
    const one = <f32>load<i16>(coded + at);
    squares += one * one;
  }
  return slack * unit * sqrt<f32>(squares / 12);
}

/** Offers the score of a live slot to the heap of codes' scores. */
function offerScore(heap: usize, score: f32, slot: u32, live: usize, threshold: f32): f32 {
  return score >= threshold && slotPasses(live, 0, slot) ? offer(heap, score, 0) : threshold;
}

/** Offers four scores, of the slots of a list, to the heap of codes' scores. */
function offerScores(heap: usize, four: v128, entry: usize, live: usize, threshold: f32): f32 {
  threshold = offerScore(heap, f32x4.extract_lane(four, 0), load<u32>(entry), live, threshold);
  threshold = offerScore(heap, f32x4.extract_lane(four, 1), load<u32>(entry, 4), live, threshold);
  threshold = offerScore(heap, f32x4.extract_lane(four, 2), load<u32>(entry, 8), live, threshold);
  return offerScore(heap, f32x4.extract_lane(four, 3), load<u32>(entry, 12), live, threshold);
}

/**
 * Offers the slots of the list, one query, looking at their codes first. `args`: as vectorScanOf, and codes, scales, the heap of candidates (room for as many as the heap has) and a
 * scratch of 2 bytes of codes; `room`: 8 bytes for each of partRows. Each slot at most once; those that do not exist, and dead ones, are passed over. Returns how many rows were
 * compared exactly.
 */
export function filterScanOf(args: usize, slack: f32, room: usize): u32 {
  const rows = <usize>word(args, 2);
  const rowBytes = <usize>word(args, 3);
  const codes = <usize>word(args, 4);
  const codeBytes = <usize>word(args, 5);
  const bias = <usize>word(args, 7);
  const live = <usize>word(args, 8);
  const filter = <usize>word(args, 9);
  const query = <usize>word(args, 10);
  const heap = <usize>word(args, 12);
  const best = <usize>word(args, 14);
  const coded = <usize>word(args, 16);
  const list = <usize>word(args, 17);
  const all = word(args, 18);
  const slots = word(args, 19);
  const unit = foldQuery(query, rowBytes, <usize>word(args, 6), codeBytes, coded);
  const margin = codeMargin(coded, codeBytes, unit, slack);
  const chosen = room + ((<usize>partRows) << 2);
  topKReset(best, load<u32>(heap));
  const together = togetherOf(rowBytes);
  let known: f32 = -Infinity;
  let exact: u32 = 0;
  let touched: u32 = 0;
  for (let first: u32 = 0; first < all; first += partRows) {
    const count = min(partRows, all - first);
    const part = list + ((<usize>first) << 2);
    // What is spare stands where the list of the chosen will be.
    scoreCodes(codes, codeBytes, bias, coded, slots, part, count, unit, room, chosen);
    // The k-th best of the codes' scores so far, and of the exact ones.
    let i: u32 = 0;
    for (; i + 4 <= count; i += 4) {
      const four = v128.load(room + ((<usize>i) << 2));
      if (v128.any_true(f32x4.ge(four, f32x4.splat(known)))) known = offerScores(best, four, part + ((<usize>i) << 2), live, known);
    }
    for (; i < count; i++) {
      known = offerScore(best, load<f32>(room + ((<usize>i) << 2)), load<u32>(part + ((<usize>i) << 2)), live, known);
    }
    const bar = max<f32>(known, thresholdOf(heap)) - margin;
    let candidates: u32 = 0;
    i = 0;
    for (; i + 4 <= count; i += 4) {
      let hits = i32x4.bitmask(f32x4.ge(v128.load(room + ((<usize>i) << 2)), f32x4.splat(bar)));
      while (hits != 0) {
        store<u32>(chosen + ((<usize>candidates) << 2), load<u32>(part + ((<usize>(i + ctz(hits))) << 2)));
        candidates += 1;
        hits &= hits - 1;
      }
    }
    for (; i < count; i++) {
      if (!(load<f32>(room + ((<usize>i) << 2)) >= bar)) continue;
      store<u32>(chosen + ((<usize>candidates) << 2), load<u32>(part + ((<usize>i) << 2)));
      candidates += 1;
    }
    for (let from: u32 = 0; from < candidates; from += together) {
      const some = min(together, candidates - from);
      const at = chosen + ((<usize>from) << 2);
      touched |= touchRowsOf(rows, rowBytes, at, some, slots - 1);
      scanList(heap, at, some, slots, rows, rowBytes, query, bias, live, filter);
    }
    exact += candidates;
  }
  // So that the loads that only fetch are not taken for useless.
  store<u32>(room, touched);
  return exact;
}

function sumsOf(a0: v128, a1: v128, a2: v128, a3: v128): v128 {
  const t0 = v128.shuffle<i32>(a0, a1, 0, 4, 1, 5);
  const t1 = v128.shuffle<i32>(a0, a1, 2, 6, 3, 7);
  const t2 = v128.shuffle<i32>(a2, a3, 0, 4, 1, 5);
  const t3 = v128.shuffle<i32>(a2, a3, 2, 6, 3, 7);
  const u0 = i32x4.add(t0, t1);
  const u1 = i32x4.add(t2, t3);
  return i32x4.add(v128.shuffle<i32>(u0, u1, 0, 1, 4, 5), v128.shuffle<i32>(u0, u1, 2, 3, 6, 7));
}

/** The bias of four slots of a list. */
function biasAt(bias: usize, entry: usize): v128 {
  let four = v128.load32_zero(bias + ((<usize>load<u32>(entry)) << 2));
  four = v128.load_lane<f32>(bias + ((<usize>load<u32>(entry, 4)) << 2), four, 1);
  four = v128.load_lane<f32>(bias + ((<usize>load<u32>(entry, 8)) << 2), four, 2);
  return v128.load_lane<f32>(bias + ((<usize>load<u32>(entry, 12)) << 2), four, 3);
}

/** Whether two numbers are in a range. */
function inRange(at: usize, low: v128, high: v128): v128 {
  const x = v128.load(at);
  return v128.and(f64x2.ge(x, low), f64x2.le(x, high));
}

/** Bits of `words` words of slots: low <= number <= high. NaN is in no range. */
export function filterNumbers(column: usize, low: f64, high: f64, words: u32, out: usize): void {
  const least = f64x2.splat(low);
  const most = f64x2.splat(high);
  for (let w: u32 = 0; w < words; w++) {
    let bits: u32 = 0;
    for (let i: u32 = 0; i < 32; i += 4) {
      const at = column + ((<usize>(w * 32 + i)) << 3);
      // Masks of four numbers, put together to one of 32-bit lanes.
      bits |= i32x4.bitmask(v128.shuffle<i32>(inRange(at, least, most), inRange(at + 16, least, most), 0, 2, 4, 6)) << i;
    }
    store<u32>(out + ((<usize>w) << 2), bits);
  }
}

/** Bits of `words` words of slots: whether the code is `code`. */
export function filterCodes(column: usize, code: u32, words: u32, out: usize): void {
  const wanted = i32x4.splat(code);
  for (let w: u32 = 0; w < words; w++) {
    let bits: u32 = 0;
    for (let i: u32 = 0; i < 32; i += 16) {
      const at = column + ((<usize>(w * 32 + i)) << 2);
      const a = i16x8.narrow_i32x4_s(i32x4.eq(v128.load(at), wanted), i32x4.eq(v128.load(at, 16), wanted));
      const b = i16x8.narrow_i32x4_s(i32x4.eq(v128.load(at, 32), wanted), i32x4.eq(v128.load(at, 48), wanted));
      bits |= i8x16.bitmask(i8x16.narrow_i16x8_s(a, b)) << i;
    }
    store<u32>(out + ((<usize>w) << 2), bits);
  }
}
