// Inner product of one query with many f32 rows, the best k kept in a heap that filters by its threshold.
//
// Why eight rows at once, each from its own eighth of the block: one core reads memory faster through several sequential streams than
// through one (measured: 8 streams read 51 MB 1.4x as fast as 1), one load of the query serves eight rows, and eight accumulators hide the
// latency of multiply-add. Why a filter: after some hundred rows nearly no score passes the root of the heap, so the scan has one
// predictable branch for eight rows.
// Order and heap: top-k.ts.

import { offer, thresholdOf } from "./top-k";

/** Whether this binary may use relaxed SIMD: of several binaries the best that the machine has is loaded. */
// @ts-ignore: known to the AssemblyScript compiler, a constant while compiling
export const relaxed: bool = ASC_FEATURE_RELAXED_SIMD;

/** a * b + c, fused where the binary may. */
export function multiplyAdd(a: v128, b: v128, c: v128): v128 {
  if (relaxed) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** Sixteen numbers of a row times those of the query, in order. A step of 64 bytes takes one address for four loads. */
export function dot64(row: usize, x0: v128, x1: v128, x2: v128, x3: v128, sum: v128): v128 {
  sum = multiplyAdd(v128.load(row), x0, sum);
  sum = multiplyAdd(v128.load(row, 16), x1, sum);
  sum = multiplyAdd(v128.load(row, 32), x2, sum);
  return multiplyAdd(v128.load(row, 48), x3, sum);
}

/** Four accumulators to one vector of their four sums: a transpose and additions instead of four horizontal sums. */
export function sumEach(a0: v128, a1: v128, a2: v128, a3: v128): v128 {
  const t0 = v128.shuffle<f32>(a0, a1, 0, 4, 1, 5);
  const t1 = v128.shuffle<f32>(a0, a1, 2, 6, 3, 7);
  const t2 = v128.shuffle<f32>(a2, a3, 0, 4, 1, 5);
  const t3 = v128.shuffle<f32>(a2, a3, 2, 6, 3, 7);
  const u0 = f32x4.add(t0, t1);
  const u1 = f32x4.add(t2, t3);
  return f32x4.add(v128.shuffle<f32>(u0, u1, 0, 1, 4, 5), v128.shuffle<f32>(u0, u1, 2, 3, 6, 7));
}

/** One row, summed in the same order as a row of a group of eight, so that its place in a block does not change its score. */
export function dotOne(row: usize, rowBytes: usize, query: usize): f32 {
  let sum = f32x4.splat(0);
  for (let at: usize = 0; at < rowBytes; at += 16) sum = multiplyAdd(v128.load(row + at), v128.load(query + at), sum);
  const low = v128.shuffle<f32>(sum, sum, 0, 1, 0, 1);
  const high = v128.shuffle<f32>(sum, sum, 2, 3, 2, 3);
  const pairs = f32x4.add(low, high);
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/** Offers the lanes that reach the threshold; the row of lane i is `row + i * step`. */
function offerFour(heap: usize, scores: v128, row: u32, step: u32, threshold: f32): f32 {
  let score = f32x4.extract_lane(scores, 0);
  if (score >= threshold) threshold = offer(heap, score, row);
  score = f32x4.extract_lane(scores, 1);
  if (score >= threshold) threshold = offer(heap, score, row + step);
  score = f32x4.extract_lane(scores, 2);
  if (score >= threshold) threshold = offer(heap, score, row + 2 * step);
  score = f32x4.extract_lane(scores, 3);
  if (score >= threshold) threshold = offer(heap, score, row + 3 * step);
  return threshold;
}

/**
 * Scores `rowCount` rows that lie `stride` bytes apart and offers them to the heap as rows `firstRow`, `firstRow + 1`, ...
 * `rowBytes` = bytes of a row that are multiplied, a multiple of 16; the query holds as many.
 */
export function dotTopK(heap: usize, rowsAt: usize, rowCount: u32, stride: usize, rowBytes: usize, query: usize, firstRow: u32): void {
  let threshold = thresholdOf(heap);
  const whole = rowBytes & ~63;
  const part = rowCount >> 3;
  const leap = stride * <usize>part;
  let r0 = rowsAt;
  let r1 = r0 + leap;
  let r2 = r1 + leap;
  let r3 = r2 + leap;
  let r4 = r3 + leap;
  let r5 = r4 + leap;
  let r6 = r5 + leap;
  let r7 = r6 + leap;
  let bar = f32x4.splat(threshold);
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
    const s = sumEach(a0, a1, a2, a3);
    const t = sumEach(a4, a5, a6, a7);
    if (v128.any_true(v128.or(f32x4.ge(s, bar), f32x4.ge(t, bar)))) {
      threshold = offerFour(heap, s, firstRow + i, part, threshold);
      threshold = offerFour(heap, t, firstRow + i + 4 * part, part, threshold);
      bar = f32x4.splat(threshold);
    }
    r0 += stride;
    r1 += stride;
    r2 += stride;
    r3 += stride;
    r4 += stride;
    r5 += stride;
    r6 += stride;
    r7 += stride;
  }
  for (let i = part << 3; i < rowCount; i++) {
    const score = dotOne(rowsAt + stride * <usize>i, rowBytes, query);
    if (score >= threshold) threshold = offer(heap, score, firstRow + i);
  }
}

/**
 * As dotTopK, for the `listCount` rows whose numbers (u32, each at most once, any order) stand at `list`. The heap gets those numbers.
 * A number >= rowCount is passed over. Returns how many were passed over.
 */
export function dotTopKOf(heap: usize, rowsAt: usize, rowCount: u32, stride: usize, rowBytes: usize, query: usize, list: usize, listCount: u32): u32 {
  let threshold = thresholdOf(heap);
  const whole = rowBytes & ~63;
  let passedOver: u32 = 0;
  let i: u32 = 0;
  const top = i32x4.splat(rowCount);
  while (i < listCount) {
    const entry = list + ((<usize>i) << 2);
    // Eight that are all in range go together; otherwise, and at the end, one by one.
    if (listCount - i >= 8 && i32x4.all_true(v128.and(i32x4.lt_u(v128.load(entry), top), i32x4.lt_u(v128.load(entry, 16), top)))) {
      const r0 = rowsAt + stride * <usize>load<u32>(entry);
      const r1 = rowsAt + stride * <usize>load<u32>(entry, 4);
      const r2 = rowsAt + stride * <usize>load<u32>(entry, 8);
      const r3 = rowsAt + stride * <usize>load<u32>(entry, 12);
      const r4 = rowsAt + stride * <usize>load<u32>(entry, 16);
      const r5 = rowsAt + stride * <usize>load<u32>(entry, 20);
      const r6 = rowsAt + stride * <usize>load<u32>(entry, 24);
      const r7 = rowsAt + stride * <usize>load<u32>(entry, 28);
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
      const bar = f32x4.splat(threshold);
      const s = sumEach(a0, a1, a2, a3);
      const t = sumEach(a4, a5, a6, a7);
      if (v128.any_true(f32x4.ge(s, bar))) threshold = offerListed(heap, s, entry, threshold);
      if (v128.any_true(f32x4.ge(t, bar))) threshold = offerListed(heap, t, entry + 16, threshold);
      i += 8;
      continue;
    }
    const row = load<u32>(entry);
    if (row < rowCount) {
      const score = dotOne(rowsAt + stride * <usize>row, rowBytes, query);
      if (score >= threshold) threshold = offer(heap, score, row);
    } else {
      passedOver += 1;
    }
    i += 1;
  }
  return passedOver;
}

/** Offers the lanes that reach the threshold; the row of lane i is the i-th u32 at `list`. */
function offerListed(heap: usize, scores: v128, list: usize, threshold: f32): f32 {
  let score = f32x4.extract_lane(scores, 0);
  if (score >= threshold) threshold = offer(heap, score, load<u32>(list));
  score = f32x4.extract_lane(scores, 1);
  if (score >= threshold) threshold = offer(heap, score, load<u32>(list, 4));
  score = f32x4.extract_lane(scores, 2);
  if (score >= threshold) threshold = offer(heap, score, load<u32>(list, 8));
  score = f32x4.extract_lane(scores, 3);
  if (score >= threshold) threshold = offer(heap, score, load<u32>(list, 12));
  return threshold;
}
