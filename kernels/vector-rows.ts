// Exact search over rows by slot: f32, or int8 first and the best of it again in f32; single queries, lists of slots, batches of queries.
//
// Why eight streams, eight rows at once and a heap that filters: dot-top-k.ts. What comes on top:
// - Bitmaps (live, filter) are looked at only for rows that pass the threshold, before the heap: nearly free, and a dead row never takes a place.
// - int8 (vector-codes8.ts) reads a quarter of the bytes. It fills a heap of candidates; their rows are then scored in f32 in the same call.
// - A batch reads a tile of rows that stays in the inner cache for all queries; four queries by two rows are eight accumulators.
// Each form sums a row in the same order, so the same row has the same score in all of them (of one binary).
//
// `args`, u32 words (src/kernel/vector-layout.ts names them: scanWords):
//   0 from  1 to: slots to look at           2 rows  3 bytes of a row (a multiple of 16; the query holds as many)
//   4 codes  5 bytes of a code  6 scales     7 bias (0 = none)  8 live (0 = all)  9 filter (0 = all)
//   10 queries  11 how many                  12 heaps  13 bytes of a heap
//   16 scratch: 4 bytes a query; int8: 176 + 2 codeBytes a query; both for a number of queries rounded up to four
//   17 list of slots  18 how many  19 slots that exist
// Heaps are reset by the host.
//
// int8 gives the answers of f32, not nearly so: a row's score by codes is off by at most a margin that follows from query and scales. So whatever scores by codes
// at least the threshold of the heap less the margin is scored again in f32, thirty-two rows at a time; nothing else can enter. For 100 of 200,000 random rows these are 1,165, of which 860 do enter.

import { dot64, dotOne, multiplyAdd, sumEach } from "./dot-top-k";
import { offer, thresholdOf } from "./top-k";
import { foldQuery, marginOf, roundingOf, roundingShare } from "./vector-codes8";

/** Bytes of a tile of rows that a batch passes over: with the queries it stays in the innermost cache. */
const tileBytes: u32 = 24 << 10;

/** Candidates that are scored again together, and bytes of their list: a group of eight may come on top of one less. */
const listMost: u32 = 32;
const listBytes: usize = 160;

function word(args: usize, index: usize): u32 {
  return load<u32>(args + (index << 2));
}

/** Whether both bitmaps have the slot. */
export function slotPasses(live: usize, filter: usize, slot: u32): bool {
  const at = (<usize>(slot >> 5)) << 2;
  let bits: u32 = 0xffffffff;
  if (live) bits = load<u32>(live + at);
  if (filter) bits &= load<u32>(filter + at);
  return ((bits >> (slot & 31)) & 1) != 0;
}

/** The slot of lane `lane`: from a list, or counted. */
function slotOf(list: usize, slot: u32, step: u32, lane: u32): u32 {
  return list ? load<u32>(list + ((<usize>lane) << 2)) : slot + lane * step;
}

/** Offers one score if its slot passes. */
function offerSlot(heap: usize, score: f32, slot: u32, live: usize, filter: usize, threshold: f32): f32 {
  return slotPasses(live, filter, slot) ? offer(heap, score, slot) : threshold;
}

/** Offers the lanes that reach the threshold. */
function offerLanes(heap: usize, scores: v128, list: usize, slot: u32, step: u32, live: usize, filter: usize, threshold: f32): f32 {
  let score = f32x4.extract_lane(scores, 0);
  if (score >= threshold) threshold = offerSlot(heap, score, slotOf(list, slot, step, 0), live, filter, threshold);
  score = f32x4.extract_lane(scores, 1);
  if (score >= threshold) threshold = offerSlot(heap, score, slotOf(list, slot, step, 1), live, filter, threshold);
  score = f32x4.extract_lane(scores, 2);
  if (score >= threshold) threshold = offerSlot(heap, score, slotOf(list, slot, step, 2), live, filter, threshold);
  score = f32x4.extract_lane(scores, 3);
  if (score >= threshold) threshold = offerSlot(heap, score, slotOf(list, slot, step, 3), live, filter, threshold);
  return threshold;
}

/** The bias of four slots. */
function biasOf(bias: usize, list: usize, slot: u32, step: u32): v128 {
  let four = v128.load32_zero(bias + ((<usize>slotOf(list, slot, step, 0)) << 2));
  four = v128.load_lane<f32>(bias + ((<usize>slotOf(list, slot, step, 1)) << 2), four, 1);
  four = v128.load_lane<f32>(bias + ((<usize>slotOf(list, slot, step, 2)) << 2), four, 2);
  return v128.load_lane<f32>(bias + ((<usize>slotOf(list, slot, step, 3)) << 2), four, 3);
}

/** Offers the slots of [from, to) by their f32 rows, one query. */
export function vectorScan(args: usize): void {
  const from = word(args, 0);
  const to = word(args, 1);
  if (from >= to) return;
  const rows = <usize>word(args, 2);
  const rowBytes = <usize>word(args, 3);
  const bias = <usize>word(args, 7);
  const live = <usize>word(args, 8);
  const filter = <usize>word(args, 9);
  const query = <usize>word(args, 10);
  const heap = <usize>word(args, 12);
  const whole = rowBytes & ~63;
  let threshold = thresholdOf(heap);
  let bar = f32x4.splat(threshold);
  const part = (to - from) >> 3;
  const leap = rowBytes * <usize>part;
  let r0 = rows + rowBytes * <usize>from;
  let r1 = r0 + leap;
  let r2 = r1 + leap;
  let r3 = r2 + leap;
  let r4 = r3 + leap;
  let r5 = r4 + leap;
  let r6 = r5 + leap;
  let r7 = r6 + leap;
  for (let i: u32 = 0; i < part; i++) {
    let a0 = f32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let a4 = a0;
    let a5 = a0;
    let a6 = a0;
    let a7 = a0;
    let at: usize = 0;
    for (; at < whole; at += 64) {
      const x0 = v128.load(query + at);
      const x1 = v128.load(query + at, 16);
      const x2 = v128.load(query + at, 32);
      const x3 = v128.load(query + at, 48);
      a0 = dot64(r0 + at, x0, x1, x2, x3, a0);
      a1 = dot64(r1 + at, x0, x1, x2, x3, a1);
      a2 = dot64(r2 + at, x0, x1, x2, x3, a2);
      a3 = dot64(r3 + at, x0, x1, x2, x3, a3);
      a4 = dot64(r4 + at, x0, x1, x2, x3, a4);
      a5 = dot64(r5 + at, x0, x1, x2, x3, a5);
      a6 = dot64(r6 + at, x0, x1, x2, x3, a6);
      a7 = dot64(r7 + at, x0, x1, x2, x3, a7);
    }
    for (; at < rowBytes; at += 16) {
      const x = v128.load(query + at);
      a0 = multiplyAdd(v128.load(r0 + at), x, a0);
      a1 = multiplyAdd(v128.load(r1 + at), x, a1);
      a2 = multiplyAdd(v128.load(r2 + at), x, a2);
      a3 = multiplyAdd(v128.load(r3 + at), x, a3);
      a4 = multiplyAdd(v128.load(r4 + at), x, a4);
      a5 = multiplyAdd(v128.load(r5 + at), x, a5);
      a6 = multiplyAdd(v128.load(r6 + at), x, a6);
      a7 = multiplyAdd(v128.load(r7 + at), x, a7);
    }
    let s = sumEach(a0, a1, a2, a3);
    let t = sumEach(a4, a5, a6, a7);
    if (bias) {
      s = f32x4.add(s, biasOf(bias, 0, from + i, part));
      t = f32x4.add(t, biasOf(bias, 0, from + i + 4 * part, part));
    }
    if (v128.any_true(v128.or(f32x4.ge(s, bar), f32x4.ge(t, bar)))) {
      threshold = offerLanes(heap, s, 0, from + i, part, live, filter, threshold);
      threshold = offerLanes(heap, t, 0, from + i + 4 * part, part, live, filter, threshold);
      bar = f32x4.splat(threshold);
    }
    r0 += rowBytes;
    r1 += rowBytes;
    r2 += rowBytes;
    r3 += rowBytes;
    r4 += rowBytes;
    r5 += rowBytes;
    r6 += rowBytes;
    r7 += rowBytes;
  }
  for (let slot = from + (part << 3); slot < to; slot++) {
    let score = dotOne(rows + rowBytes * <usize>slot, rowBytes, query);
    if (bias) score += load<f32>(bias + ((<usize>slot) << 2));
    if (score >= threshold) threshold = offerSlot(heap, score, slot, live, filter, threshold);
  }
}

/** Offers the slots of a list by their f32 rows; slots that do not exist are passed over. */
export function scanList(
  heap: usize,
  list: usize,
  count: u32,
  slots: u32,
  rows: usize,
  rowBytes: usize,
  query: usize,
  bias: usize,
  live: usize,
  filter: usize,
): void {
  const whole = rowBytes & ~63;
  let threshold = thresholdOf(heap);
  const top = i32x4.splat(slots);
  let i: u32 = 0;
  while (i < count) {
    const entry = list + ((<usize>i) << 2);
    // Eight that all exist go together; otherwise, and at the end, one by one.
    if (count - i >= 8 && i32x4.all_true(v128.and(i32x4.lt_u(v128.load(entry), top), i32x4.lt_u(v128.load(entry, 16), top)))) {
      const r0 = rows + rowBytes * <usize>load<u32>(entry);
      const r1 = rows + rowBytes * <usize>load<u32>(entry, 4);
      const r2 = rows + rowBytes * <usize>load<u32>(entry, 8);
      const r3 = rows + rowBytes * <usize>load<u32>(entry, 12);
      const r4 = rows + rowBytes * <usize>load<u32>(entry, 16);
      const r5 = rows + rowBytes * <usize>load<u32>(entry, 20);
      const r6 = rows + rowBytes * <usize>load<u32>(entry, 24);
      const r7 = rows + rowBytes * <usize>load<u32>(entry, 28);
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      let a4 = a0;
      let a5 = a0;
      let a6 = a0;
      let a7 = a0;
      let at: usize = 0;
      for (; at < whole; at += 64) {
        const x0 = v128.load(query + at);
        const x1 = v128.load(query + at, 16);
        const x2 = v128.load(query + at, 32);
        const x3 = v128.load(query + at, 48);
        a0 = dot64(r0 + at, x0, x1, x2, x3, a0);
        a1 = dot64(r1 + at, x0, x1, x2, x3, a1);
        a2 = dot64(r2 + at, x0, x1, x2, x3, a2);
        a3 = dot64(r3 + at, x0, x1, x2, x3, a3);
        a4 = dot64(r4 + at, x0, x1, x2, x3, a4);
        a5 = dot64(r5 + at, x0, x1, x2, x3, a5);
        a6 = dot64(r6 + at, x0, x1, x2, x3, a6);
        a7 = dot64(r7 + at, x0, x1, x2, x3, a7);
      }
      for (; at < rowBytes; at += 16) {
        const x = v128.load(query + at);
        a0 = multiplyAdd(v128.load(r0 + at), x, a0);
        a1 = multiplyAdd(v128.load(r1 + at), x, a1);
        a2 = multiplyAdd(v128.load(r2 + at), x, a2);
        a3 = multiplyAdd(v128.load(r3 + at), x, a3);
        a4 = multiplyAdd(v128.load(r4 + at), x, a4);
        a5 = multiplyAdd(v128.load(r5 + at), x, a5);
        a6 = multiplyAdd(v128.load(r6 + at), x, a6);
        a7 = multiplyAdd(v128.load(r7 + at), x, a7);
      }
      let s = sumEach(a0, a1, a2, a3);
      let t = sumEach(a4, a5, a6, a7);
      if (bias) {
        s = f32x4.add(s, biasOf(bias, entry, 0, 0));
        t = f32x4.add(t, biasOf(bias, entry + 16, 0, 0));
      }
      const bar = f32x4.splat(threshold);
      if (v128.any_true(v128.or(f32x4.ge(s, bar), f32x4.ge(t, bar)))) {
        threshold = offerLanes(heap, s, entry, 0, 0, live, filter, threshold);
        threshold = offerLanes(heap, t, entry + 16, 0, 0, live, filter, threshold);
      }
      i += 8;
      continue;
    }
    const slot = load<u32>(entry);
    if (slot < slots) {
      let score = dotOne(rows + rowBytes * <usize>slot, rowBytes, query);
      if (bias) score += load<f32>(bias + ((<usize>slot) << 2));
      if (score >= threshold) threshold = offerSlot(heap, score, slot, live, filter, threshold);
    }
    i += 1;
  }
}

/** Offers the slots of the list by their f32 rows, one query. */
export function vectorScanOf(args: usize): void {
  scanList(
    <usize>word(args, 12),
    <usize>word(args, 17),
    word(args, 18),
    word(args, 19),
    <usize>word(args, 2),
    <usize>word(args, 3),
    <usize>word(args, 10),
    <usize>word(args, 7),
    <usize>word(args, 8),
    <usize>word(args, 9),
  );
}

/** Scores the rows of a list of candidates, which passed the bitmaps, in f32 and offers them to the heap. */
function again(args: usize, list: usize, count: u32, query: usize, heap: usize): void {
  scanList(heap, list, count, word(args, 19), <usize>word(args, 2), <usize>word(args, 3), query, <usize>word(args, 7), 0, 0);
}

/** What a score by codes must reach; `share`: of the threshold itself, for the rounding of f32. */
function barOf(heap: usize, margin: f32, share: f32): f32 {
  const threshold = thresholdOf(heap);
  return threshold == -Infinity ? threshold : threshold - margin - abs(threshold) * share;
}

/** Appends the lanes that reach the bar and pass the bitmaps to a list; returns how many it has then. */
function listLanes(list: usize, listed: u32, scores: v128, bar: v128, slot: u32, step: u32, live: usize, filter: usize): u32 {
  let lanes = i32x4.bitmask(f32x4.ge(scores, bar));
  while (lanes != 0) {
    const at = slot + <u32>ctz(lanes) * step;
    store<u32>(list + ((<usize>listed) << 2), at);
    listed += <u32>slotPasses(live, filter, at);
    lanes &= lanes - 1;
  }
  return listed;
}

/** Sixteen products of a code with a query's code, as four sums. x, y: the query's first and last eight. */
export function dotCodes(code: usize, x: v128, y: v128, sum: v128): v128 {
  const low = i32x4.dot_i16x8_s(v128.load_ext<i8>(code), x);
  const high = i32x4.dot_i16x8_s(v128.load_ext<i8>(code, 8), y);
  return i32x4.add(i32x4.add(low, high), sum);
}

/** Thirty-two products. */
function dotCodes32(code: usize, x0: v128, x1: v128, x2: v128, x3: v128, sum: v128): v128 {
  const first = i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(code), x0), i32x4.dot_i16x8_s(v128.load_ext<i8>(code, 8), x1));
  const second = i32x4.add(i32x4.dot_i16x8_s(v128.load_ext<i8>(code, 16), x2), i32x4.dot_i16x8_s(v128.load_ext<i8>(code, 24), x3));
  return i32x4.add(i32x4.add(first, second), sum);
}

/** As sumEach, of whole numbers. */
export function sumEachWhole(a0: v128, a1: v128, a2: v128, a3: v128): v128 {
  const t0 = v128.shuffle<i32>(a0, a1, 0, 4, 1, 5);
  const t1 = v128.shuffle<i32>(a0, a1, 2, 6, 3, 7);
  const t2 = v128.shuffle<i32>(a2, a3, 0, 4, 1, 5);
  const t3 = v128.shuffle<i32>(a2, a3, 2, 6, 3, 7);
  const u0 = i32x4.add(t0, t1);
  const u1 = i32x4.add(t2, t3);
  return i32x4.add(v128.shuffle<i32>(u0, u1, 0, 1, 4, 5), v128.shuffle<i32>(u0, u1, 2, 3, 6, 7));
}

/** As vectorScan, by codes first. */
export function vectorScan8(args: usize): void {
  const from = word(args, 0);
  const to = word(args, 1);
  if (from >= to) return;
  const codes = <usize>word(args, 4);
  const codeBytes = <usize>word(args, 5);
  const bias = <usize>word(args, 7);
  const live = <usize>word(args, 8);
  const filter = <usize>word(args, 9);
  const query = <usize>word(args, 10);
  const rowBytes = <usize>word(args, 3);
  const scales = <usize>word(args, 6);
  const heap = <usize>word(args, 12);
  const list = <usize>word(args, 16) + 16;
  const codedQuery = list + listBytes;
  const unit = foldQuery(query, rowBytes, scales, codeBytes, codedQuery);
  const units = f32x4.splat(unit);
  const margin = marginOf(query, rowBytes, scales, codedQuery, unit) + roundingOf(query, rowBytes, scales);
  const share = roundingShare(rowBytes);
  const whole = codeBytes & ~31;
  let listed: u32 = 0;
  let bar = f32x4.splat(barOf(heap, margin, share));
  const part = (to - from) >> 3;
  const leap = codeBytes * <usize>part;
  let r0 = codes + codeBytes * <usize>from;
  let r1 = r0 + leap;
  let r2 = r1 + leap;
  let r3 = r2 + leap;
  let r4 = r3 + leap;
  let r5 = r4 + leap;
  let r6 = r5 + leap;
  let r7 = r6 + leap;
  for (let i: u32 = 0; i < part; i++) {
    let a0 = i32x4.splat(0);
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let a4 = a0;
    let a5 = a0;
    let a6 = a0;
    let a7 = a0;
    let at: usize = 0;
    for (; at < whole; at += 32) {
      const x0 = v128.load(codedQuery + (at << 1));
      const x1 = v128.load(codedQuery + (at << 1), 16);
      const x2 = v128.load(codedQuery + (at << 1), 32);
      const x3 = v128.load(codedQuery + (at << 1), 48);
      a0 = dotCodes32(r0 + at, x0, x1, x2, x3, a0);
      a1 = dotCodes32(r1 + at, x0, x1, x2, x3, a1);
      a2 = dotCodes32(r2 + at, x0, x1, x2, x3, a2);
      a3 = dotCodes32(r3 + at, x0, x1, x2, x3, a3);
      a4 = dotCodes32(r4 + at, x0, x1, x2, x3, a4);
      a5 = dotCodes32(r5 + at, x0, x1, x2, x3, a5);
      a6 = dotCodes32(r6 + at, x0, x1, x2, x3, a6);
      a7 = dotCodes32(r7 + at, x0, x1, x2, x3, a7);
    }
    if (at < codeBytes) {
      const x = v128.load(codedQuery + (at << 1));
      const y = v128.load(codedQuery + (at << 1), 16);
      a0 = dotCodes(r0 + at, x, y, a0);
      a1 = dotCodes(r1 + at, x, y, a1);
      a2 = dotCodes(r2 + at, x, y, a2);
      a3 = dotCodes(r3 + at, x, y, a3);
      a4 = dotCodes(r4 + at, x, y, a4);
      a5 = dotCodes(r5 + at, x, y, a5);
      a6 = dotCodes(r6 + at, x, y, a6);
      a7 = dotCodes(r7 + at, x, y, a7);
    }
    let s = f32x4.mul(f32x4.convert_i32x4_s(sumEachWhole(a0, a1, a2, a3)), units);
    let t = f32x4.mul(f32x4.convert_i32x4_s(sumEachWhole(a4, a5, a6, a7)), units);
    if (bias) {
      s = f32x4.add(s, biasOf(bias, 0, from + i, part));
      t = f32x4.add(t, biasOf(bias, 0, from + i + 4 * part, part));
    }
    if (v128.any_true(v128.or(f32x4.ge(s, bar), f32x4.ge(t, bar)))) {
      listed = listLanes(list, listed, s, bar, from + i, part, live, filter);
      listed = listLanes(list, listed, t, bar, from + i + 4 * part, part, live, filter);
      if (listed >= listMost) {
        again(args, list, listed, query, heap);
        listed = 0;
        bar = f32x4.splat(barOf(heap, margin, share));
      }
    }
    r0 += codeBytes;
    r1 += codeBytes;
    r2 += codeBytes;
    r3 += codeBytes;
    r4 += codeBytes;
    r5 += codeBytes;
    r6 += codeBytes;
    r7 += codeBytes;
  }
  // Fewer than eight are left: they are scored as they are.
  for (let slot = from + (part << 3); slot < to; slot++) {
    store<u32>(list + ((<usize>listed) << 2), slot);
    listed += <u32>slotPasses(live, filter, slot);
  }
  again(args, list, listed, query, heap);
}

/** Writes the bars of `count` heaps; the lanes that fill up the last four never pass. */
function barsOf(heaps: usize, heapBytes: usize, count: u32, bars: usize): void {
  for (let q: u32 = 0; q < ((count + 3) & ~3); q++) {
    store<f32>(bars + ((<usize>q) << 2), q < count ? thresholdOf(heaps + heapBytes * <usize>q) : NaN);
  }
}

/** Offers one row's scores to four heaps of four queries. */
function offerQueries(heaps: usize, heapBytes: usize, scores: v128, slot: u32, bars: usize): void {
  let score = f32x4.extract_lane(scores, 0);
  if (score >= load<f32>(bars)) store<f32>(bars, offer(heaps, score, slot));
  score = f32x4.extract_lane(scores, 1);
  if (score >= load<f32>(bars, 4)) store<f32>(bars, offer(heaps + heapBytes, score, slot), 4);
  score = f32x4.extract_lane(scores, 2);
  if (score >= load<f32>(bars, 8)) store<f32>(bars, offer(heaps + 2 * heapBytes, score, slot), 8);
  score = f32x4.extract_lane(scores, 3);
  if (score >= load<f32>(bars, 12)) store<f32>(bars, offer(heaps + 3 * heapBytes, score, slot), 12);
}

/** Offers the slots of [from, to) by their f32 rows to each query's heap. */
export function vectorBatch(args: usize): void {
  const to = word(args, 1);
  const rows = <usize>word(args, 2);
  const rowBytes = <usize>word(args, 3);
  const bias = <usize>word(args, 7);
  const live = <usize>word(args, 8);
  const filter = <usize>word(args, 9);
  const queries = <usize>word(args, 10);
  const count = word(args, 11);
  const heaps = <usize>word(args, 12);
  const heapBytes = <usize>word(args, 13);
  const bars = <usize>word(args, 16);
  const whole = rowBytes & ~31;
  barsOf(heaps, heapBytes, count, bars);
  const tileRows = max<u32>(tileBytes / <u32>rowBytes, 2) & ~1;
  for (let first = word(args, 0); first < to; first += tileRows) {
    const end = min(first + tileRows, to);
    for (let q: u32 = 0; q < count; q += 4) {
      const q0 = queries + rowBytes * <usize>q;
      // Of fewer than four the last is taken again; its bar lets nothing pass.
      const q1 = queries + rowBytes * <usize>min(q + 1, count - 1);
      const q2 = queries + rowBytes * <usize>min(q + 2, count - 1);
      const q3 = queries + rowBytes * <usize>min(q + 3, count - 1);
      const bar = bars + ((<usize>q) << 2);
      for (let slot = first; slot < end; slot += 2) {
        const r0 = rows + rowBytes * <usize>slot;
        // The second row of the last pair may be beyond the end: the first is taken again and not offered.
        const r1 = slot + 1 < end ? r0 + rowBytes : r0;
        let a0 = f32x4.splat(0);
        let a1 = a0;
        let a2 = a0;
        let a3 = a0;
        let b0 = a0;
        let b1 = a0;
        let b2 = a0;
        let b3 = a0;
        let at: usize = 0;
        for (; at < whole; at += 32) {
          const x0 = v128.load(r0 + at);
          const x1 = v128.load(r0 + at, 16);
          const y0 = v128.load(r1 + at);
          const y1 = v128.load(r1 + at, 16);
          let p0 = v128.load(q0 + at);
          let p1 = v128.load(q0 + at, 16);
          a0 = multiplyAdd(x1, p1, multiplyAdd(x0, p0, a0));
          b0 = multiplyAdd(y1, p1, multiplyAdd(y0, p0, b0));
          p0 = v128.load(q1 + at);
          p1 = v128.load(q1 + at, 16);
          a1 = multiplyAdd(x1, p1, multiplyAdd(x0, p0, a1));
          b1 = multiplyAdd(y1, p1, multiplyAdd(y0, p0, b1));
          p0 = v128.load(q2 + at);
          p1 = v128.load(q2 + at, 16);
          a2 = multiplyAdd(x1, p1, multiplyAdd(x0, p0, a2));
          b2 = multiplyAdd(y1, p1, multiplyAdd(y0, p0, b2));
          p0 = v128.load(q3 + at);
          p1 = v128.load(q3 + at, 16);
          a3 = multiplyAdd(x1, p1, multiplyAdd(x0, p0, a3));
          b3 = multiplyAdd(y1, p1, multiplyAdd(y0, p0, b3));
        }
        if (at < rowBytes) {
          const x = v128.load(r0 + at);
          const y = v128.load(r1 + at);
          let p = v128.load(q0 + at);
          a0 = multiplyAdd(x, p, a0);
          b0 = multiplyAdd(y, p, b0);
          p = v128.load(q1 + at);
          a1 = multiplyAdd(x, p, a1);
          b1 = multiplyAdd(y, p, b1);
          p = v128.load(q2 + at);
          a2 = multiplyAdd(x, p, a2);
          b2 = multiplyAdd(y, p, b2);
          p = v128.load(q3 + at);
          a3 = multiplyAdd(x, p, a3);
          b3 = multiplyAdd(y, p, b3);
        }
        let s = sumEach(a0, a1, a2, a3);
        let t = sumEach(b0, b1, b2, b3);
        if (bias) {
          s = f32x4.add(s, v128.load32_splat(bias + ((<usize>slot) << 2)));
          if (slot + 1 < end) t = f32x4.add(t, v128.load32_splat(bias + ((<usize>slot) << 2), 4));
        }
        const least = v128.load(bar);
        if (v128.any_true(v128.or(f32x4.ge(s, least), f32x4.ge(t, least)))) {
          const to4 = heaps + heapBytes * <usize>q;
          if (slotPasses(live, filter, slot)) offerQueries(to4, heapBytes, s, slot, bar);
          if (slot + 1 < end && slotPasses(live, filter, slot + 1)) offerQueries(to4, heapBytes, t, slot + 1, bar);
        }
      }
    }
  }
}

/** As vectorScan8 for several queries. */
export function vectorBatch8(args: usize): void {
  const to = word(args, 1);
  const rowBytes = <usize>word(args, 3);
  const codes = <usize>word(args, 4);
  const codeBytes = <usize>word(args, 5);
  const bias = <usize>word(args, 7);
  const live = <usize>word(args, 8);
  const filter = <usize>word(args, 9);
  const queries = <usize>word(args, 10);
  const count = word(args, 11);
  const heaps = <usize>word(args, 12);
  const heapBytes = <usize>word(args, 13);
  const scales = <usize>word(args, 6);
  const padded = (count + 3) & ~3;
  const fours = (<usize>padded) << 2;
  const bars = <usize>word(args, 16);
  const units = bars + fours;
  const margins = units + fours;
  const counts = margins + fours;
  const lists = counts + fours;
  const coded = lists + listBytes * <usize>padded;
  const codedBytes = codeBytes << 1;
  const share = roundingShare(rowBytes);
  for (let q: u32 = 0; q < padded; q++) {
    const query = queries + rowBytes * <usize>min(q, count - 1);
    const codedQuery = coded + codedBytes * <usize>q;
    const at = (<usize>q) << 2;
    const unit = foldQuery(query, rowBytes, scales, codeBytes, codedQuery);
    const margin = marginOf(query, rowBytes, scales, codedQuery, unit) + roundingOf(query, rowBytes, scales);
    store<f32>(units + at, unit);
    store<f32>(margins + at, margin);
    store<u32>(counts + at, 0);
    // The lanes that fill up the last four never pass.
    store<f32>(bars + at, q < count ? barOf(heaps + heapBytes * <usize>q, margin, share) : NaN);
  }
  const tileRows = max<u32>(tileBytes / <u32>codeBytes, 2) & ~1;
  for (let first = word(args, 0); first < to; first += tileRows) {
    const end = min(first + tileRows, to);
    for (let q: u32 = 0; q < count; q += 4) {
      const q0 = coded + codedBytes * <usize>q;
      const q1 = q0 + codedBytes;
      const q2 = q1 + codedBytes;
      const q3 = q2 + codedBytes;
      const bar = bars + ((<usize>q) << 2);
      const unit = v128.load(units + ((<usize>q) << 2));
      for (let slot = first; slot < end; slot += 2) {
        const r0 = codes + codeBytes * <usize>slot;
        const r1 = slot + 1 < end ? r0 + codeBytes : r0;
        let a0 = i32x4.splat(0);
        let a1 = a0;
        let a2 = a0;
        let a3 = a0;
        let b0 = a0;
        let b1 = a0;
        let b2 = a0;
        let b3 = a0;
        for (let at: usize = 0; at < codeBytes; at += 16) {
          const x0 = v128.load_ext<i8>(r0 + at);
          const x1 = v128.load_ext<i8>(r0 + at, 8);
          const y0 = v128.load_ext<i8>(r1 + at);
          const y1 = v128.load_ext<i8>(r1 + at, 8);
          const twice = at << 1;
          let p0 = v128.load(q0 + twice);
          let p1 = v128.load(q0 + twice, 16);
          a0 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(x0, p0), i32x4.dot_i16x8_s(x1, p1)), a0);
          b0 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(y0, p0), i32x4.dot_i16x8_s(y1, p1)), b0);
          p0 = v128.load(q1 + twice);
          p1 = v128.load(q1 + twice, 16);
          a1 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(x0, p0), i32x4.dot_i16x8_s(x1, p1)), a1);
          b1 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(y0, p0), i32x4.dot_i16x8_s(y1, p1)), b1);
          p0 = v128.load(q2 + twice);
          p1 = v128.load(q2 + twice, 16);
          a2 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(x0, p0), i32x4.dot_i16x8_s(x1, p1)), a2);
          b2 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(y0, p0), i32x4.dot_i16x8_s(y1, p1)), b2);
          p0 = v128.load(q3 + twice);
          p1 = v128.load(q3 + twice, 16);
          a3 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(x0, p0), i32x4.dot_i16x8_s(x1, p1)), a3);
          b3 = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(y0, p0), i32x4.dot_i16x8_s(y1, p1)), b3);
        }
        let s = f32x4.mul(f32x4.convert_i32x4_s(sumEachWhole(a0, a1, a2, a3)), unit);
        let t = f32x4.mul(f32x4.convert_i32x4_s(sumEachWhole(b0, b1, b2, b3)), unit);
        if (bias) {
          s = f32x4.add(s, v128.load32_splat(bias + ((<usize>slot) << 2)));
          if (slot + 1 < end) t = f32x4.add(t, v128.load32_splat(bias + ((<usize>slot) << 2), 4));
        }
        const least = v128.load(bar);
        if (v128.any_true(v128.or(f32x4.ge(s, least), f32x4.ge(t, least)))) {
          // Eight lanes: the first row's four queries, then the second's.
          let lanes = i32x4.bitmask(f32x4.ge(s, least)) | (i32x4.bitmask(f32x4.ge(t, least)) << 4);
          while (lanes != 0) {
            const lane = <u32>ctz(lanes);
            lanes &= lanes - 1;
            const which = slot + (lane >> 2);
            if (which >= end || !slotPasses(live, filter, which)) continue;
            const one = q + (lane & 3);
            const at = (<usize>one) << 2;
            const list = lists + listBytes * <usize>one;
            let listed = load<u32>(counts + at);
            store<u32>(list + ((<usize>listed) << 2), which);
            listed += 1;
            if (listed == listMost) {
              const heap = heaps + heapBytes * <usize>one;
              again(args, list, listed, queries + rowBytes * <usize>one, heap);
              store<f32>(bars + at, barOf(heap, load<f32>(margins + at), share));
              listed = 0;
            }
            store<u32>(counts + at, listed);
          }
        }
      }
    }
  }
  for (let q: u32 = 0; q < count; q++) {
    again(args, lists + listBytes * <usize>q, load<u32>(counts + ((<usize>q) << 2)), queries + rowBytes * <usize>q, heaps + heapBytes * <usize>q);
  }
}

/**
 * Offers minus the squared distance of the `count` slots of the list to the heap: what a search by q.x - |x|^2 / 2 found, with distances as exact as f32 allows
 * (the difference of large products is not, where the distance is small).
 */
export function vectorDistances(args: usize): void {
  const heap = <usize>word(args, 12);
  const list = <usize>word(args, 17);
  const count = word(args, 18);
  const rows = <usize>word(args, 2);
  const rowBytes = <usize>word(args, 3);
  const query = <usize>word(args, 10);
  for (let i: u32 = 0; i < count; i++) {
    const slot = load<u32>(list + ((<usize>i) << 2));
    const row = rows + rowBytes * <usize>slot;
    let sum = f32x4.splat(0);
    for (let at: usize = 0; at < rowBytes; at += 16) {
      const apart = f32x4.sub(v128.load(row + at), v128.load(query + at));
      sum = multiplyAdd(apart, apart, sum);
    }
    const total = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) + f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3);
    offer(heap, -total, slot);
  }
}
