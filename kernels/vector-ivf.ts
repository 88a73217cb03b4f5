// Search of an index of lists: which lists, which of their rows by 4-bit codes, and those rows exactly; one query, one call.
//
// Why so: most of an exact scan compares rows that cannot be answers. Three sieves, each finer and dearer than the one before:
// 1. Lists. A list's rows have scores around its centroid's, spread by what they differ from it. Were they normally distributed, the share of rows that reach the k-th best
//    score T would fall by exp(-fall (T - centroid's score) / spread) where T is above; divided by the sum of that over all rows it is the share of the answers to be expected a row.
//    Lists that may expect less than exp(-margin) of the average are passed over. T comes from the first few lists. Compared with the usual "the nearest n lists": lists of wide
//    spread are preferred, and a query that lies between many lists gets many, one that lies in a tight cluster few (docs/design/vectors.md has the figures).
//    Lists are judged twice as it were: those that may expect `gate` less are looked into, but only at their blocks of 32 slots that may expect enough themselves. A block has a mean of its
//    own, told by 4-bit codes like a row's, so that the means of 32 blocks are scored in one step, and a spread around it. Rows of a list are put in order so that blocks are tight when an index
//    is built. The nearest lists are looked into first at the blocks whose means are best, which gives a T to judge their others by, and all lists after it.
// 2. Codes: two dimensions a code of 4 bits, of what a row differs from its centroid by, so that one set of tables (16 products for each code) serves all lists of a query. A table is
//    one register; one instruction looks up 16 rows. Sums stay in 8 bits for four codes, then in 16. A row is let through when its sum, and `slack` errors, reach T.
// 3. The rows themselves, in f32 (vector-rows.ts), to the heap: T rises.
//
// Where a filter leaves few rows of a list, a look at 32 of them for the one or two that pass is dear. These are compared by their int8 codes, whose errors are much smaller: 256 at a
// time, gathered over lists, so that their misses overlap (vector-filter.ts).
//
// Bitmaps are ANDed to the 32 rows of a block before they become candidates. With a filter, the lists count only the rows that pass, and are passed over when none does.
//
// Codes of a block of 32 slots: for each code 16 bytes, byte i = code of slot i, and of slot 16 + i in its upper half. Codes a slot: a multiple of four, the rest zeros.
// Codebook: for each code 16 first coordinates (f32), then 16 second ones. Codes that are only filled up have zeros.
//
// `args`, u32 or f32 words (src/kernel/vector-ivf.ts names them):
//   0 lists  1 bytes of a row (a multiple of 16; query and centroids too)  2 centroids  3 f32 a list: mean of -|x|^2/2 (0 = none: no l2)
//   4 f32 a list: spread of a score for a query of length 1  5 starts: lists + 1 slots, multiples of 32  6 f32 a list: its rows
//   7 rows  8 bias (0 = none)  9 codes  10 codes a slot  11 codebook  12 live (0 = all)  13 filter (0 = all)
//   14 query  15 f32 its length  16 heap, reset by the host  17 most lists  18 f32 margin  19 f32 slack times the query's length  20 f32 fall
//   21 scratch (ivfScratchBytes)  22 slots  23 out: lists looked into  24 out: slots whose codes were compared  25 out: rows compared exactly
//   26 lists of the first look  27 f32 least share: the search gives up, without answers, when so much less of the rows passes in the lists of the first look than in all (0 = never)
//   28 out: 1 = it gave up  29 f32 a list: standard deviation of a score by codes, for a query of length 1
//   30 int8 codes  31 bytes of one  32 scales  33 f32 share of a list's slots: where fewer pass, these are compared by their int8 codes (0 = nowhere)  34 f32 slack of those codes
//   35 f32 bend of the fall: the share falls by exp(-(fall + bend z) z) where T is z spreads above the centroid's score
//   38 codes of the means of blocks: a group for every 32 blocks of a list, laid out as the codes of 32 slots (0 = there are none: whole lists are looked into)  39 u32 a list: its first group
//   40 f32 a block: spread of a score around the mean's as the codes tell it, for a query of length 1  41 f32 a block: mean of -|x|^2/2 (l2 only)  42 f32 gate
//   43 f32 margin more for each e-fold by which the share of rows that pass is larger in the lists of the first look than in all: what passes then lies close together around the query, and T is far out
//   36 out: address of f32 a list, its centroid's score (l2: and mean bias)  37 out: address of u32 a list, 1 = it was looked into
// Scratch, f32 or u32 words, each part for lists rounded up to eight: scores, weights, fall, order, passing rows; then tables (16 bytes a code), a heap of `lists` entries, of blocks (sums
// of 32 means, their scores, how many spreads below T they may be for each count of passing rows, a heap of the best, a bit for each that was looked into), rows that wait for a look at their
// int8 codes (u32 how many, f32 step, f32 margin, u32 spare, the query's codes, scores, slots), candidates.

import { dotOne, multiplyAdd, relaxed, sumEach } from "./dot-top-k";
import { offer, thresholdOf, topKReset, topKSort } from "./top-k";
import { foldQuery } from "./vector-codes8";
import { codeMargin, scoreCodes } from "./vector-filter";
import { scanList } from "./vector-rows";

/** Largest entry of a table: four of them fit in 8 bits. */
const entryMax: f32 = 63;
/** Largest sum: compared as signed 16 bits. */
const sumMax: f32 = 32_000;
/** Candidates are compared exactly when so many have gathered, so that their misses overlap and T rises soon. */
const together: u32 = 32;
/** Rows that wait for a look at their int8 codes until so many are fetched and compared together. */
const fetched: u32 = 256;
/** Room for those that wait, and for their scores: the rows of two blocks and four places may come on top of one less. */
const waitingMost: u32 = fetched + 72;
/** Of a group of blocks: where scores and allowed distances for each count of passing rows lie behind the sums of codes, then a heap of the best blocks and bits of those looked into. */
const scoresFrom: usize = 64;
const limitsFrom: usize = scoresFrom + 128;
const bestFrom: usize = limitsFrom + 144;
/** Blocks looked into before all others at most. */
const bestMost: u32 = 256;
const doneFrom: usize = bestFrom + 16 + ((<usize>bestMost) << 3);
/** A list of fewer blocks is looked into as a whole: the look at their means would cost what it saves. */
const partedLeast: u32 = 4;
/** Spreads below T at which a block of the nearest lists is looked into before T is known well. */
const firstReach: f32 = 2.5;
/** Steps in which the lists are put in order. */
const buckets: u32 = 256;

function word(args: usize, index: usize): u32 {
  return load<u32>(args + (index << 2));
}

function real(args: usize, index: usize): f32 {
  return load<f32>(args + (index << 2));
}

function lookUp(table: v128, codes: v128): v128 {
  if (relaxed) return i8x16.relaxed_swizzle(table, codes);
  return i8x16.swizzle(table, codes);
}

/** e^x for x <= 0, to 1e-6; below -80 as at -80. */
function expOf(x: v128): v128 {
  const t = f32x4.mul(f32x4.max(x, f32x4.splat(-80)), f32x4.splat(1.44269504));
  const whole = f32x4.floor(t);
  const part = f32x4.sub(t, whole);
  let p = f32x4.splat(1.8775767e-3);
  p = f32x4.add(f32x4.mul(p, part), f32x4.splat(8.9893397e-3));
  p = f32x4.add(f32x4.mul(p, part), f32x4.splat(5.5826318e-2));
  p = f32x4.add(f32x4.mul(p, part), f32x4.splat(2.4015361e-1));
  p = f32x4.add(f32x4.mul(p, part), f32x4.splat(6.9315308e-1));
  p = f32x4.add(f32x4.mul(p, part), f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(whole), i32x4.splat(127)), 23);
  return f32x4.mul(p, power);
}

/** Natural logarithm of a positive number, to 1e-6. */
function logOf(x: f32): f32 {
  const bits = reinterpret<u32>(max<f32>(x, 1e-37));
  const power = <f32>(<i32>(bits >> 23) - 127);
  const part = reinterpret<f32>((bits & 0x7fffff) | 0x3f800000);
  const t = (part - 1) / (part + 1);
  const square = t * t;
  return power * 0.6931472 + 2 * t * (1 + square * (0.33333334 + square * (0.2 + square * (0.14285715 + square * 0.11111111))));
}

/** Scores of the centroids. */
function scoreLists(args: usize, scores: usize): void {
  const lists = word(args, 0);
  const rowBytes = <usize>word(args, 1);
  const centroids = <usize>word(args, 2);
  const bias = <usize>word(args, 3);
  const query = <usize>word(args, 14);
  let row = centroids;
  let i: u32 = 0;
  for (; i + 8 <= lists; i += 8) {
    const r1 = row + rowBytes;
    const r2 = r1 + rowBytes;
    const r3 = r2 + rowBytes;
    const r4 = r3 + rowBytes;
    const r5 = r4 + rowBytes;
    const r6 = r5 + rowBytes;
    const r7 = r6 + rowBytes;
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let a4 = a0;
    let a5 = a0;
    let a6 = a0;
    let a7 = a0;
    for (let at: usize = 0; at < rowBytes; at += 16) {
      const x = v128.load(query + at);
      a0 = multiplyAdd(v128.load(row + at), x, a0);
      a1 = multiplyAdd(v128.load(r1 + at), x, a1);
      a2 = multiplyAdd(v128.load(r2 + at), x, a2);
      a3 = multiplyAdd(v128.load(r3 + at), x, a3);
      a4 = multiplyAdd(v128.load(r4 + at), x, a4);
      a5 = multiplyAdd(v128.load(r5 + at), x, a5);
      a6 = multiplyAdd(v128.load(r6 + at), x, a6);
      a7 = multiplyAdd(v128.load(r7 + at), x, a7);
    }
    const to = scores + ((<usize>i) << 2);
    v128.store(to, sumEach(a0, a1, a2, a3));
    v128.store(to, sumEach(a4, a5, a6, a7), 16);
    row = r7 + rowBytes;
  }
  for (; i < lists; i++) {
    store<f32>(scores + ((<usize>i) << 2), dotOne(row, rowBytes, query));
    row += rowBytes;
  }
  if (!bias) return;
  for (let at: usize = 0; at < (<usize>lists) << 2; at += 4) store<f32>(scores + at, load<f32>(scores + at) + load<f32>(bias + at));
}

/** Bits of 16 slots that are set in live and filter, as a word of 32. */
function bitsAt(live: usize, filter: usize, word: usize): u32 {
  let bits: u32 = 0xffffffff;
  if (live) bits = load<u32>(live + (word << 2));
  if (filter) bits &= load<u32>(filter + (word << 2));
  return bits;
}

/** Rows of each list that pass the filter; returns how many in all. */
function countPassing(args: usize, passing: usize): f32 {
  const lists = word(args, 0);
  const starts = <usize>word(args, 5);
  const sizes = <usize>word(args, 6);
  const live = <usize>word(args, 12);
  const filter = <usize>word(args, 13);
  if (!filter) {
    let sum: f32 = 0;
    for (let at: usize = 0; at < (<usize>lists) << 2; at += 4) {
      const size = load<f32>(sizes + at);
      store<f32>(passing + at, size);
      sum += size;
    }
    return sum;
  }
  // Where all are live the filter stands for both.
  const other = (live ? live : filter) - filter;
  let all: u32 = 0;
  let at = filter + ((<usize>load<u32>(starts)) >> 3);
  for (let i: u32 = 0; i < lists; i++) {
    const end = filter + ((<usize>load<u32>(starts + ((<usize>i) << 2), 4)) >> 3);
    let count: u32 = 0;
    // Counts of 8 bits: 31 times 8 fit.
    while (at + 16 <= end) {
      const stop = min<usize>(end, at + 31 * 16);
      let sums = i8x16.splat(0);
      for (; at + 16 <= stop; at += 16) sums = i8x16.add(sums, i8x16.popcnt(v128.and(v128.load(at), v128.load(at + other))));
      const pairs = i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(sums));
      const halves = i64x2.add(pairs, v128.shuffle<i64>(pairs, pairs, 1, 0));
      const both = i64x2.extract_lane(halves, 0);
      count += <u32>both + <u32>(both >> 32);
    }
    if (at + 8 <= end) {
      count += <u32>popcnt<u64>(load<u64>(at) & load<u64>(at + other));
      at += 8;
    }
    if (at < end) {
      count += popcnt<u32>(load<u32>(at) & load<u32>(at + other));
      at += 4;
    }
    store<f32>(passing + ((<usize>i) << 2), <f32>count);
    all += count;
  }
  return <f32>all;
}

/**
 * The tables of a query: 16 products a code, less their least, in steps that are the same for all. Returns the step; the sum of what was taken off goes to `base`, the largest
 * sum (u32) behind it, then 15 (u32).
 */
function fillTables(args: usize, tables: usize, base: usize): f32 {
  const codes = word(args, 10);
  const book = <usize>word(args, 11);
  const query = <usize>word(args, 14);
  let widest: f32 = 0;
  let wide: f32 = 0;
  let least: f32 = 0;
  const rowBytes = <usize>word(args, 1);
  for (let j: u32 = 0; j < codes; j++) {
    const entry = book + ((<usize>j) << 7);
    const at = (<usize>j) << 3;
    const x = f32x4.splat(at < rowBytes ? load<f32>(query + at) : 0);
    const y = f32x4.splat(at < rowBytes ? load<f32>(query + at, 4) : 0);
    const p0 = f32x4.add(f32x4.mul(v128.load(entry), x), f32x4.mul(v128.load(entry, 64), y));
    const p1 = f32x4.add(f32x4.mul(v128.load(entry, 16), x), f32x4.mul(v128.load(entry, 80), y));
    const p2 = f32x4.add(f32x4.mul(v128.load(entry, 32), x), f32x4.mul(v128.load(entry, 96), y));
    const p3 = f32x4.add(f32x4.mul(v128.load(entry, 48), x), f32x4.mul(v128.load(entry, 112), y));
    let low = f32x4.min(f32x4.min(p0, p1), f32x4.min(p2, p3));
    let high = f32x4.max(f32x4.max(p0, p1), f32x4.max(p2, p3));
    low = f32x4.min(low, v128.shuffle<f32>(low, low, 2, 3, 0, 1));
    high = f32x4.max(high, v128.shuffle<f32>(high, high, 2, 3, 0, 1));
    const lowest = min<f32>(f32x4.extract_lane(low, 0), f32x4.extract_lane(low, 1));
    const range = max<f32>(f32x4.extract_lane(high, 0), f32x4.extract_lane(high, 1)) - lowest;
    least += lowest;
    wide += range;
    widest = max<f32>(widest, range);
  }
  const step = max<f32>(max<f32>(widest / entryMax, wide / sumMax), 1e-30);
  const scale = f32x4.splat(1 / step);
  let largest: u32 = 0;
  for (let j: u32 = 0; j < codes; j++) {
    const entry = book + ((<usize>j) << 7);
    const at = (<usize>j) << 3;
    const x = f32x4.mul(f32x4.splat(at < rowBytes ? load<f32>(query + at) : 0), scale);
    const y = f32x4.mul(f32x4.splat(at < rowBytes ? load<f32>(query + at, 4) : 0), scale);
    const p0 = f32x4.add(f32x4.mul(v128.load(entry), x), f32x4.mul(v128.load(entry, 64), y));
    const p1 = f32x4.add(f32x4.mul(v128.load(entry, 16), x), f32x4.mul(v128.load(entry, 80), y));
    const p2 = f32x4.add(f32x4.mul(v128.load(entry, 32), x), f32x4.mul(v128.load(entry, 96), y));
    const p3 = f32x4.add(f32x4.mul(v128.load(entry, 48), x), f32x4.mul(v128.load(entry, 112), y));
    let low = f32x4.min(f32x4.min(p0, p1), f32x4.min(p2, p3));
    low = f32x4.min(low, v128.shuffle<f32>(low, low, 2, 3, 0, 1));
    low = f32x4.min(low, v128.shuffle<f32>(low, low, 1, 0, 3, 2));
    const w0 = i16x8.narrow_i32x4_u(i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.sub(p0, low))), i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.sub(p1, low))));
    const w1 = i16x8.narrow_i32x4_u(i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.sub(p2, low))), i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.sub(p3, low))));
    const table = i8x16.min_u(i8x16.narrow_i16x8_u(w0, w1), i8x16.splat(63));
    v128.store(tables + ((<usize>j) << 4), table);
    let most = i8x16.max_u(table, v128.shuffle<i8>(table, table, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    most = i8x16.max_u(most, v128.shuffle<i8>(most, most, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    most = i8x16.max_u(most, i16x8.shr_u(most, 8));
    largest += max<u32>(i8x16.extract_lane_u(most, 0), i8x16.extract_lane_u(most, 2));
  }
  store<f32>(base, least);
  store<u32>(base, largest, 4);
  store<u32>(base, 15, 8);
  return step;
}

/** The lower half of each byte. Read from behind the tables: the engine would make a number that it knows anew at each use, three instructions of some seven. */
function lowOf(tables: usize, count: u32): v128 {
  return v128.load_splat<u8>(tables + ((<usize>count) << 4), 8);
}

/** Appends the slots whose bits are set; returns the end of the list. */
function append(list: usize, bits: u32, first: u32): usize {
  while (bits != 0) {
    store<u32>(list, first + ctz<u32>(bits));
    list += 4;
    bits &= bits - 1;
  }
  return list;
}

/**
 * Reads a number of each line of the blocks of `mask`, so that all of them are on their way together: blocks that do not follow on each other are not fetched ahead by the processor. What
 * it returns must be used, or the reads are left out.
 */
function touch(codes: usize, blockBytes: usize, from: u32, mask: u32): u32 {
  let sum: u32 = 0;
  for (; mask != 0; mask &= mask - 1) {
    let at = codes + blockBytes * <usize>(from + ctz<u32>(mask));
    for (const end = at + blockBytes; at < end; at += 128) sum += load<u32>(at) + load<u32>(at, 64);
  }
  return sum;
}

/** Slots of the blocks of `mask`, counted from block `from`, whose sum is above `bar`. Returns the end of the list of candidates. */
function sieve(codes: usize, count: u32, tables: usize, from: u32, mask: u32, bar: i32, live: usize, filter: usize, list: usize): usize {
  const low = lowOf(tables, count);
  const even = i16x8.splat(0xff);
  const limit = i16x8.splat(<i16>bar);
  const blockBytes = (<usize>count) << 4;
  for (; mask != 0; mask &= mask - 1) {
    const w = from + ctz<u32>(mask);
    const bits = bitsAt(live, filter, w);
    if (bits == 0) continue;
    let block = codes + blockBytes * <usize>w;
    const end = block + blockBytes;
    // Sums of the even slots (with those of the odd ones above them, taken off at the end) and of the odd ones.
    let a = i16x8.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let table = tables;
    while (block < end) {
      let x = v128.load(block);
      let t = v128.load(table);
      let s = lookUp(t, v128.and(x, low));
      let u = lookUp(t, v128.and(i16x8.shr_u(x, 4), low));
      x = v128.load(block, 16);
      t = v128.load(table, 16);
      s = i8x16.add(s, lookUp(t, v128.and(x, low)));
      u = i8x16.add(u, lookUp(t, v128.and(i16x8.shr_u(x, 4), low)));
      x = v128.load(block, 32);
      t = v128.load(table, 32);
      s = i8x16.add(s, lookUp(t, v128.and(x, low)));
      u = i8x16.add(u, lookUp(t, v128.and(i16x8.shr_u(x, 4), low)));
      x = v128.load(block, 48);
      t = v128.load(table, 48);
      s = i8x16.add(s, lookUp(t, v128.and(x, low)));
      u = i8x16.add(u, lookUp(t, v128.and(i16x8.shr_u(x, 4), low)));
      a = i16x8.add(a, s);
      b = i16x8.add(b, i16x8.shr_u(s, 8));
      c = i16x8.add(c, u);
      d = i16x8.add(d, i16x8.shr_u(u, 8));
      block += 64;
      table += 64;
    }
    a = i16x8.sub(a, i16x8.shl(b, 8));
    c = i16x8.sub(c, i16x8.shl(d, 8));
    const first = v128.bitselect(i16x8.gt_s(a, limit), i16x8.gt_s(b, limit), even);
    const second = v128.bitselect(i16x8.gt_s(c, limit), i16x8.gt_s(d, limit), even);
    const passed = ((<u32>i8x16.bitmask(first)) | ((<u32>i8x16.bitmask(second)) << 16)) & bits;
    if (passed != 0) list = append(list, passed, w << 5);
  }
  return list;
}

/** Sums of the 32 slots of one block, in their order: u16 each, to `sums`. */
function sumsOf(block: usize, count: u32, tables: usize, sums: usize): void {
  const low = lowOf(tables, count);
  const end = block + ((<usize>count) << 4);
  let a = i16x8.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let table = tables;
  while (block < end) {
    let x = v128.load(block);
    let t = v128.load(table);
    let s = lookUp(t, v128.and(x, low));
    let u = lookUp(t, v128.and(i16x8.shr_u(x, 4), low));
    x = v128.load(block, 16);
    t = v128.load(table, 16);
    s = i8x16.add(s, lookUp(t, v128.and(x, low)));
    u = i8x16.add(u, lookUp(t, v128.and(i16x8.shr_u(x, 4), low)));
    x = v128.load(block, 32);
    t = v128.load(table, 32);
    s = i8x16.add(s, lookUp(t, v128.and(x, low)));
    u = i8x16.add(u, lookUp(t, v128.and(i16x8.shr_u(x, 4), low)));
    x = v128.load(block, 48);
    t = v128.load(table, 48);
    s = i8x16.add(s, lookUp(t, v128.and(x, low)));
    u = i8x16.add(u, lookUp(t, v128.and(i16x8.shr_u(x, 4), low)));
    a = i16x8.add(a, s);
    b = i16x8.add(b, i16x8.shr_u(s, 8));
    c = i16x8.add(c, u);
    d = i16x8.add(d, i16x8.shr_u(u, 8));
    block += 64;
    table += 64;
  }
  a = i16x8.sub(a, i16x8.shl(b, 8));
  c = i16x8.sub(c, i16x8.shl(d, 8));
  v128.store(sums, v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
  v128.store(sums, v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15), 16);
  v128.store(sums, v128.shuffle<i16>(c, d, 0, 8, 1, 9, 2, 10, 3, 11), 32);
  v128.store(sums, v128.shuffle<i16>(c, d, 4, 12, 5, 13, 6, 14, 7, 15), 48);
}

/** As sieve, where each slot has a bias of its own: sums are scores in steps, compared with a score. `sums`: 64 bytes. */
function sieveBiased(
  codes: usize,
  count: u32,
  tables: usize,
  from: u32,
  mask: u32,
  bar: f32,
  step: f32,
  bias: usize,
  live: usize,
  filter: usize,
  list: usize,
  sums: usize,
): usize {
  const limit = f32x4.splat(bar);
  const scale = f32x4.splat(step);
  const blockBytes = (<usize>count) << 4;
  for (; mask != 0; mask &= mask - 1) {
    const w = from + ctz<u32>(mask);
    const bits = bitsAt(live, filter, w);
    if (bits == 0) continue;
    sumsOf(codes + blockBytes * <usize>w, count, tables, sums);
    const biases = bias + ((<usize>w) << 7);
    let passed = reaches(v128.load(sums), biases, scale, limit);
    passed |= reaches(v128.load(sums, 16), biases + 32, scale, limit) << 8;
    passed |= reaches(v128.load(sums, 32), biases + 64, scale, limit) << 16;
    passed |= reaches(v128.load(sums, 48), biases + 96, scale, limit) << 24;
    passed &= bits;
    if (passed != 0) list = append(list, passed, w << 5);
  }
  return list;
}

/** Which of eight sums, with their biases, reach the limit. */
function reaches(sums: v128, bias: usize, scale: v128, limit: v128): u32 {
  const x = f32x4.add(f32x4.mul(f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(sums)), scale), v128.load(bias));
  const y = f32x4.add(f32x4.mul(f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(sums)), scale), v128.load(bias, 16));
  return (<u32>i32x4.bitmask(f32x4.ge(x, limit))) | ((<u32>i32x4.bitmask(f32x4.ge(y, limit))) << 4);
}

/** Appends the slots whose bits are set of 64; returns the end. May write four beyond it. Four at a time, so that few branches are guessed wrong. */
function appendAll(list: usize, bits: u64, first: u32): usize {
  const end = list + ((<usize>popcnt(bits)) << 2);
  do {
    store<u32>(list, first + <u32>ctz(bits));
    bits &= bits - 1;
    store<u32>(list, first + <u32>ctz(bits), 4);
    bits &= bits - 1;
    store<u32>(list, first + <u32>ctz(bits), 8);
    bits &= bits - 1;
    store<u32>(list, first + <u32>ctz(bits), 12);
    bits &= bits - 1;
    list += 16;
  } while (bits != 0);
  return end;
}

/** Rows of the blocks of `mask` that pass begin to wait for a look at their int8 codes. Returns how many of the candidates wait then. */
function wait(args: usize, from: u32, mask: u32, bytes: usize, candidates: usize, held: u32): u32 {
  const live = <usize>word(args, 12);
  const filter = <usize>word(args, 13);
  const start = waitingOf(args, bytes);
  const full = start + ((<usize>fetched) << 2);
  let end = start + ((<usize>load<u32>(bytes)) << 2);
  // Blocks that stand beside each other by twos.
  while (mask != 0) {
    const first = ctz<u32>(mask);
    const w = from + first;
    let bits = <u64>bitsAt(live, filter, w);
    mask &= mask - 1;
    if (ctz<u32>(mask) == first + 1) {
      bits |= (<u64>bitsAt(live, filter, w + 1)) << 32;
      mask &= mask - 1;
    }
    end = appendAll(end, bits, w << 5);
    if (end < full) continue;
    held = lookAt(args, bytes, <u32>((end - start) >> 2), candidates, held);
    end = start;
  }
  store<u32>(bytes, <u32>((end - start) >> 2));
  return held;
}

/** Where the slots that wait stand: behind the counters, the query's codes and the scores. */
function waitingOf(args: usize, bytes: usize): usize {
  return bytes + 16 + ((<usize>word(args, 31)) << 1) + ((<usize>waitingMost) << 2);
}

/** Compares the rows that wait by their int8 codes; what may be an answer becomes a candidate. Returns how many of those wait then. */
function lookAt(args: usize, bytes: usize, count: u32, candidates: usize, held: u32): u32 {
  store<u32>(bytes, 0);
  if (count == 0) return held;
  const heap = <usize>word(args, 16);
  const codeBytes = <usize>word(args, 31);
  const coded = bytes + 16;
  const scores = coded + (codeBytes << 1);
  const waiting = waitingOf(args, bytes);
  store<u32>(args, word(args, 24) + count, 24 << 2);
  scoreCodes(<usize>word(args, 30), codeBytes, <usize>word(args, 8), coded, word(args, 22), waiting, count, load<f32>(bytes, 4), scores, bytes + 12);
  // What is written behind the last score is no number.
  const behind = scores + ((<usize>count) << 2);
  v128.store(behind, f32x4.splat(NaN));
  const bar = f32x4.splat(thresholdOf(heap) - load<f32>(bytes, 8));
  let end = candidates + ((<usize>held) << 2);
  let slot = waiting;
  for (let at = scores; at < behind; at += 16) {
    let hits = i32x4.bitmask(f32x4.ge(v128.load(at), bar));
    while (hits != 0) {
      store<u32>(end, load<u32>(slot + ((<usize>ctz(hits)) << 2)));
      end += 4;
      hits &= hits - 1;
    }
    slot += 16;
  }
  held = <u32>((end - candidates) >> 2);
  if (held < together) return held;
  compare(args, candidates, held);
  return 0;
}

/** Scores of the means of up to 32 blocks from block `from` on, whose codes are `group`: f32 each, behind the sums of `blocks`. `without`: the score of the centroid less what codes add. */
function scoreBlocks(args: usize, group: usize, from: u32, count: u32, without: f32, step: f32, tables: usize, blocks: usize): void {
  const bias = <usize>word(args, 41);
  store<u32>(args, word(args, 24) + 32, 24 << 2);
  sumsOf(group, word(args, 10), tables, blocks);
  const least = f32x4.splat(without);
  const scale = f32x4.splat(step);
  for (let at: usize = 0; at < (<usize>count) << 2; at += 16) {
    let score = f32x4.add(f32x4.mul(f32x4.convert_i32x4_u(v128.load_ext<u16>(blocks + (at >> 1))), scale), least);
    if (bias) score = f32x4.add(score, v128.load(bias + ((<usize>from) << 2) + at));
    v128.store(blocks + at, score, scoresFrom);
  }
}

/** Which of the blocks that scoreBlocks scored may hold enough of the answers. */
function promising(args: usize, from: u32, count: u32, threshold: f32, blocks: usize): u32 {
  const live = <usize>word(args, 12);
  const filter = <usize>word(args, 13);
  // Where there is one of the two it stands for both; without any all rows pass.
  const first = (<usize>from) << 2;
  const one = live | filter ? (filter ? filter : live) + first : 0;
  const other = (live ? live : filter) + first;
  const limits = blocks + limitsFrom;
  let far = v128.load_splat<f32>(limits + 128);
  const spreads = <usize>word(args, 40) + ((<usize>from) << 2);
  const length = real(args, 15);
  const isL2 = word(args, 41) != 0;
  const bar = f32x4.splat(threshold);
  let reach = f32x4.splat(max<f32>(length, 1e-20));
  let kept: u32 = 0;
  for (let i: u32 = 0; i < count; i += 4) {
    const at = (<usize>i) << 2;
    const score = v128.load(blocks + at, scoresFrom);
    // l2: the score moves with the distance to the query, |q|^2 - 2 score squared.
    if (isL2) reach = f32x4.sqrt(f32x4.max(f32x4.sub(f32x4.splat(length * length), f32x4.add(score, score)), f32x4.splat(1e-20)));
    if (one) {
      far = v128.load_splat<f32>(limits + ((<usize>popcnt<u32>(load<u32>(one + at) & load<u32>(other + at))) << 2));
      far = v128.load_lane<f32>(limits + ((<usize>popcnt<u32>(load<u32>(one + at, 4) & load<u32>(other + at, 4))) << 2), far, 1);
      far = v128.load_lane<f32>(limits + ((<usize>popcnt<u32>(load<u32>(one + at, 8) & load<u32>(other + at, 8))) << 2), far, 2);
      far = v128.load_lane<f32>(limits + ((<usize>popcnt<u32>(load<u32>(one + at, 12) & load<u32>(other + at, 12))) << 2), far, 3);
    }
    const best = f32x4.add(score, f32x4.mul(f32x4.mul(far, v128.load(spreads + at)), reach));
    kept |= (<u32>i32x4.bitmask(f32x4.ge(best, bar))) << i;
  }
  return count < 32 ? kept & ((1 << count) - 1) : kept;
}

/** For each count of passing rows of a block how many spreads its mean may lie below T when a row must expect exp(least) of what one at T does: where `share` of all rows pass. */
function fillLimits(args: usize, limits: usize, least: f32, share: f32): void {
  const fall = real(args, 20);
  const bend = real(args, 35);
  store<f32>(limits, -Infinity);
  for (let passing: u32 = 1; passing <= 32; passing++) {
    const room = max<f32>(logOf(<f32>passing / (32 * share)) - least, 0);
    const far = bend > 0 ? (sqrt<f32>(fall * fall + 4 * bend * room) - fall) / (2 * bend) : room / fall;
    store<f32>(limits + ((<usize>passing) << 2), far);
  }
}

/** Bits of 32 blocks from `from` on: which were looked into. */
function doneOf(blocks: usize, from: u32): u32 {
  return <u32>(load<u64>(blocks + ((<usize>(from >> 5)) << 2), doneFrom) >> (<u64>(from & 31)));
}

function setDone(blocks: usize, from: u32, mask: u32): void {
  const at = blocks + ((<usize>(from >> 5)) << 2);
  const shift = <u64>(from & 31);
  store<u64>(at, load<u64>(at, doneFrom) | ((<u64>mask) << shift), doneFrom);
}

/** The score of a list less the mean bias of its rows, which slots and blocks bring themselves, and with what the least sum of codes adds. */
function withoutCodes(args: usize, list: u32, score: f32, base: usize): f32 {
  const bias = <usize>word(args, 3);
  if (bias) score -= load<f32>(bias + ((<usize>list) << 2));
  return score + load<f32>(base);
}

/** Looks into one list, of whose rows `passing` pass, at its blocks that promise enough; `held` candidates wait already. Returns how many wait after it. */
function visit(
  args: usize,
  list: u32,
  score: f32,
  passing: f32,
  tables: usize,
  base: usize,
  step: f32,
  blocks: usize,
  bytes: usize,
  candidates: usize,
  held: u32,
): u32 {
  const starts = <usize>word(args, 5);
  const from = load<u32>(starts + ((<usize>list) << 2)) >> 5;
  const to = load<u32>(starts + ((<usize>list) << 2), 4) >> 5;
  const heap = <usize>word(args, 16);
  const live = <usize>word(args, 12);
  const filter = <usize>word(args, 13);
  const bias = <usize>word(args, 8);
  const codes = <usize>word(args, 9);
  const count = word(args, 10);
  const groupBytes = (<usize>count) << 4;
  const groups = <usize>word(args, 38);
  let group = groups ? groups + groupBytes * <usize>load<u32>(<usize>word(args, 39) + ((<usize>list) << 2)) : 0;
  const slack = real(args, 19);
  const without = withoutCodes(args, list, score, base);
  const isScarce = passing < real(args, 33) * <f32>((to - from) << 5);
  for (let w = from; w < to; w += 32, group += groupBytes) {
    const size = min<u32>(to - w, 32);
    const threshold = thresholdOf(heap);
    const bar: f32 = slack < Infinity ? threshold - slack * load<f32>(<usize>word(args, 29) + ((<usize>list) << 2)) : -Infinity;
    const needed: f32 = bias ? 1 : ceil<f32>((bar - without) / step);
    if (bar > -Infinity && !bias && !isScarce && needed > <f32>load<u32>(base, 4)) return held;
    let mask: u32 = 0xffffffff >> (32 - size);
    if (groups) {
      if (threshold > -Infinity && to - from >= partedLeast) {
        scoreBlocks(args, group, w, size, without, step, tables, blocks);
        mask = promising(args, w, size, threshold, blocks);
      }
      mask &= ~doneOf(blocks, w);
      setDone(blocks, w, mask);
    }
    if (mask == 0) continue;
    if (bar > -Infinity && isScarce) {
      held = wait(args, w, mask, bytes, candidates, held);
      continue;
    }
    let end = candidates + ((<usize>held) << 2);
    if (!(bar > -Infinity) || needed <= 0) {
      for (; mask != 0; mask &= mask - 1) {
        const block = w + ctz<u32>(mask);
        end = append(end, bitsAt(live, filter, block), block << 5);
      }
    } else {
      store<u32>(args, word(args, 24) + (popcnt<u32>(mask) << 5), 24 << 2);
      if (groups) store<u32>(blocks, touch(codes, groupBytes, w, mask));
      if (bias) end = sieveBiased(codes, count, tables, w, mask, bar - without, step, bias, live, filter, end, blocks);
      else end = sieve(codes, count, tables, w, mask, <i32>needed - 1, live, filter, end);
    }
    held = <u32>((end - candidates) >> 2);
    if (held >= together) {
      compare(args, candidates, held);
      held = 0;
    }
  }
  return held;
}

/** Compares all rows of the best blocks of the `count` lists at `nearest`, so many blocks that about twice the answers are among them: a first threshold. */
function compareBest(
  args: usize,
  nearest: usize,
  count: u32,
  scores: usize,
  passing: usize,
  tables: usize,
  base: usize,
  step: f32,
  blocks: usize,
  candidates: usize,
): void {
  const starts = <usize>word(args, 5);
  const live = <usize>word(args, 12);
  const filter = <usize>word(args, 13);
  const groupBytes = (<usize>word(args, 10)) << 4;
  const best = blocks + bestFrom;
  let passes: f32 = 0;
  let all: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const at = (<usize>load<u32>(nearest + ((<usize>i) << 2))) << 2;
    passes += load<f32>(passing + at);
    all += load<u32>(starts + at, 4) - load<u32>(starts + at);
  }
  const wanted: f32 = 2 * <f32>(min<u32>(load<u32>(<usize>word(args, 16)), bestMost << 5) + 8);
  const most = min<u32>(bestMost, <u32>ceil<f32>((wanted * <f32>all) / (32 * max<f32>(passes, 1))));
  topKReset(best, most);
  for (let i: u32 = 0; i < count; i++) {
    const list = load<u32>(nearest + ((<usize>i) << 2));
    const at = (<usize>list) << 2;
    const without = withoutCodes(args, list, load<f32>(scores + at), base);
    const to = load<u32>(starts + at, 4) >> 5;
    let group = <usize>word(args, 38) + groupBytes * <usize>load<u32>(<usize>word(args, 39) + at);
    for (let w = load<u32>(starts + at) >> 5; w < to; w += 32, group += groupBytes) {
      const size = min<u32>(to - w, 32);
      scoreBlocks(args, group, w, size, without, step, tables, blocks);
      let bar = thresholdOf(best);
      for (let block: u32 = 0; block < size; block++) {
        const score = load<f32>(blocks + ((<usize>block) << 2), scoresFrom);
        if (score >= bar && bitsAt(live, filter, w + block) != 0) bar = offer(best, score, w + block);
      }
    }
  }
  const found = load<u32>(best, 4);
  let held: u32 = 0;
  for (let i: u32 = 0; i < found; i++) {
    const block = load<u32>(best + 16 + ((<usize>(most + i)) << 2));
    setDone(blocks, block, 1);
    held = <u32>((append(candidates + ((<usize>held) << 2), bitsAt(live, filter, block), block << 5) - candidates) >> 2);
    if (held < together) continue;
    compare(args, candidates, held);
    held = 0;
  }
  if (held > 0) compare(args, candidates, held);
}

/** Compares the candidates exactly. */
function compare(args: usize, candidates: usize, held: u32): void {
  store<u32>(args, word(args, 25) + held, 25 << 2);
  scanList(
    <usize>word(args, 16),
    candidates,
    held,
    word(args, 22),
    <usize>word(args, 7),
    <usize>word(args, 1),
    <usize>word(args, 14),
    <usize>word(args, 8),
    0,
    0,
  );
}

/** How far the share of answers to be expected of a list's rows falls below that of others, as a logarithm; returns the largest. */
function fallOf(args: usize, scores: usize, falls: usize, passing: usize, threshold: f32): f32 {
  const lists = word(args, 0);
  const spreads = <usize>word(args, 4);
  const length = real(args, 15);
  const isL2 = word(args, 3) != 0;
  const fall = real(args, 20);
  const bend = real(args, 35);
  let largest: f32 = -Infinity;
  for (let at: usize = 0; at < (<usize>lists) << 2; at += 4) {
    const score = load<f32>(scores + at);
    // l2: the score moves with the distance to the query, |q|^2 - 2 score squared.
    const reach = isL2 ? sqrt<f32>(max<f32>(length * length - 2 * score, 0)) : length;
    const spread = max<f32>(load<f32>(spreads + at) * reach, 1e-20);
    // Half of the rows of a list whose mean reaches T do: more than all is not to be expected of any.
    // Bounded, so that no product leaves the numbers.
    const far = min<f32>(max<f32>(threshold - score, 0) / spread, 1e12);
    const value: f32 = load<f32>(passing + at) > 0 ? max<f32>(-far * (fall + bend * far), -1e30) : -Infinity;
    store<f32>(falls + at, value);
    largest = max<f32>(largest, value);
  }
  return largest;
}

/** How much larger the share of the rows that pass is in the nearest lists than in all of them. */
function crowdOf(args: usize, passing: usize, nearest: usize, count: u32, all: f32, rows: f32): f32 {
  const sizes = <usize>word(args, 6);
  let rowsNear: f32 = 0;
  let passNear: f32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const at = (<usize>load<u32>(nearest + ((<usize>i) << 2))) << 2;
    rowsNear += load<f32>(sizes + at);
    passNear += load<f32>(passing + at);
  }
  return (passNear * rows) / max<f32>(all * rowsNear, 1);
}

/** Blocks of a list. */
function sizeOf(args: usize, list: u32): u32 {
  const at = <usize>word(args, 5) + ((<usize>list) << 2);
  return (load<u32>(at, 4) - load<u32>(at)) >> 5;
}

/** Reads what a look into a list begins with, so that it is on its way: the means of its first blocks and their spreads. */
function touchList(args: usize, list: u32): u32 {
  const at = (<usize>list) << 2;
  const groupBytes = (<usize>word(args, 10)) << 4;
  const spreads = <usize>word(args, 40) + ((<usize>(load<u32>(<usize>word(args, 5) + at) >> 5)) << 2);
  return touch(<usize>word(args, 38), groupBytes, load<u32>(<usize>word(args, 39) + at), 1) + load<u32>(spreads) + load<u32>(spreads, 60);
}

/** The search: answers are in the heap, unsorted. */
export function ivfSearch(args: usize): void {
  const lists = word(args, 0);
  const part = ((<usize>lists + 7) & ~7) << 2;
  const scores = <usize>word(args, 21);
  const passing = scores + part;
  const falls = passing + part;
  const order = falls + part;
  const seen = order + part;
  const tables = seen + part;
  const codes = word(args, 10);
  const base = tables + ((<usize>codes) << 4);
  const counts = base + 16;
  const near = counts + (buckets << 2);
  const heap = <usize>word(args, 16);
  store<u64>(args, 0, 23 << 2);
  store<u32>(args, 0, 25 << 2);
  store<u32>(args, 0, 28 << 2);
  store<u32>(args, <u32>scores, 36 << 2);
  store<u32>(args, <u32>seen, 37 << 2);

  scoreLists(args, scores);
  const all = countPassing(args, passing);
  const step = fillTables(args, tables, base);
  const first = min<u32>(word(args, 26), lists);
  const blocks = near + 16 + ((<usize>lists) << 3);
  const groups = word(args, 38);
  // A bit for each block, and room for those of 32 more.
  const doneBytes = (((<usize>word(args, 22)) >> 10) << 2) + 12;
  memory.fill(blocks + doneFrom, 0, doneBytes);
  const bytes = blocks + doneFrom + doneBytes;
  const codeBytes = <usize>word(args, 31);
  const candidates = waitingOf(args, bytes) + ((<usize>waitingMost) << 2);
  store<u32>(bytes, 0);
  if (real(args, 33) > 0) {
    const coded = bytes + 16;
    const unit = foldQuery(<usize>word(args, 14), <usize>word(args, 1), <usize>word(args, 32), codeBytes, coded);
    store<f32>(bytes, unit, 4);
    // A query that has no codes: all are compared exactly.
    store<f32>(bytes, unit > 0 ? codeMargin(coded, codeBytes, unit, real(args, 34)) : Infinity, 8);
  }
  memory.fill(seen, 0, part);
  const most = word(args, 17);
  let rows: f32 = 0;
  for (let i: u32 = 0; i < lists; i++) rows += load<f32>(<usize>word(args, 6) + ((<usize>i) << 2));
  let visited: u32 = 0;
  let held: u32 = 0;
  let crowd: f32 = 1;
  store<f32>(blocks, -Infinity, limitsFrom);
  for (let i: usize = 1; i <= 32; i++) store<f32>(blocks + (i << 2), firstReach, limitsFrom);

  // The first look: the nearest lists, more of them until there are k answers.
  let look = first;
  while (visited < lists && visited < most) {
    topKReset(near, min<u32>(look, lists));
    let bar: f32 = -Infinity;
    for (let i: u32 = 0; i < lists; i++) {
      const at = (<usize>i) << 2;
      const score = load<f32>(scores + at);
      if (score >= bar && load<u32>(seen + at) == 0 && load<f32>(passing + at) > 0) bar = offer(near, score, i);
    }
    const found = topKSort(near);
    if (found == 0) break;
    const kept = min<u32>(look, lists);
    if (visited == 0) {
      crowd = crowdOf(args, passing, near + 16 + ((<usize>kept) << 2), found, all, rows);
      // Where a filter names what lies far away, lists say little of where the answers are.
      if (crowd < real(args, 27)) {
        store<u32>(args, 1, 28 << 2);
        return;
      }
    }
    const nearest = near + 16 + ((<usize>kept) << 2);
    const looked = min<u32>(found, most - visited);
    if (groups) compareBest(args, nearest, looked, scores, passing, tables, base, step, blocks, candidates);
    for (let i: u32 = 0; i < looked; i++) {
      const list = load<u32>(nearest + ((<usize>i) << 2));
      const at = (<usize>list) << 2;
      store<u32>(seen + at, 1);
      held = visit(args, list, load<f32>(scores + at), load<f32>(passing + at), tables, base, step, blocks, bytes, candidates, held);
    }
    visited += looked;
    held = lookAt(args, bytes, load<u32>(bytes), candidates, held);
    if (held > 0) compare(args, candidates, held);
    held = 0;
    if (thresholdOf(heap) > -Infinity) break;
    look = look << 2;
  }
  store<u32>(args, visited, 23 << 2);
  const threshold = thresholdOf(heap);
  // Of whole lists nothing is left of those that were looked into.
  if (!(threshold > -Infinity) || (visited >= most && !groups)) return;

  // What is to be expected of each list, and which are worth it.
  const largest = fallOf(args, scores, falls, passing, threshold);
  let sum = f32x4.splat(0);
  const top = f32x4.splat(largest);
  for (let at = (<usize>lists) << 2; at < part; at += 4) {
    store<f32>(falls + at, -Infinity);
    store<f32>(passing + at, 0);
  }
  for (let at: usize = 0; at < part; at += 16) {
    sum = f32x4.add(sum, f32x4.mul(v128.load(passing + at), expOf(f32x4.sub(v128.load(falls + at), top))));
  }
  const total = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) + f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3);
  const more = real(args, 43) * logOf(max<f32>(crowd, 1));
  const enough = max<f32>(largest + logOf(total / max<f32>(all, 1)) - real(args, 18) - more, -1e30);
  fillLimits(args, blocks + limitsFrom, enough, all / rows);
  const least = groups ? max<f32>(enough - real(args, 42), -1e30) : enough;

  // Best first, by counting.
  const width = largest > least ? (<f32>buckets - 1) / (largest - least) : 0;
  memory.fill(counts, 0, buckets << 2);
  for (let i: u32 = 0; i < lists; i++) {
    const at = (<usize>i) << 2;
    const value = load<f32>(falls + at);
    if (!(value >= least) || (!groups && load<u32>(seen + at) != 0)) continue;
    const bucket = counts + ((<usize>(<u32>((largest - value) * width))) << 2);
    store<u32>(bucket, load<u32>(bucket) + 1);
  }
  let place: u32 = 0;
  for (let at: usize = 0; at < buckets << 2; at += 4) {
    const count = load<u32>(counts + at);
    store<u32>(counts + at, place);
    place += count;
  }
  for (let i: u32 = 0; i < lists; i++) {
    const at = (<usize>i) << 2;
    const value = load<f32>(falls + at);
    if (!(value >= least) || (!groups && load<u32>(seen + at) != 0)) continue;
    const bucket = counts + ((<usize>(<u32>((largest - value) * width))) << 2);
    const to = load<u32>(bucket);
    store<u32>(bucket, to + 1);
    store<u32>(order + ((<usize>to) << 2), i);
  }
  for (let i: u32 = 0; i < place; i++) {
    const list = load<u32>(order + ((<usize>i) << 2));
    const at = (<usize>list) << 2;
    // A list that is not parted must be worth it as a whole.
    if (groups && load<f32>(falls + at) < enough && sizeOf(args, list) < partedLeast) continue;
    if (load<u32>(seen + at) == 0) {
      if (visited >= most) continue;
      store<u32>(seen + at, 1);
      visited += 1;
    }
    if (groups && i + 1 < place) store<u32>(blocks, touchList(args, load<u32>(order + ((<usize>i) << 2), 4)));
    held = visit(args, list, load<f32>(scores + at), load<f32>(passing + at), tables, base, step, blocks, bytes, candidates, held);
  }
  held = lookAt(args, bytes, load<u32>(bytes), candidates, held);
  if (held > 0) compare(args, candidates, held);
  store<u32>(args, visited, 23 << 2);
}
