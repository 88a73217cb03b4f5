// The nearest centroid of each row as k-means.ts finds it, bit for bit, by products of whole bytes first: three to four times as fast where the binary has them.
//
// Centroids have codes of 8 bits, a row of 7, each with a scale of its own; sixteen products are one instruction. By Cauchy and Schwarz a product of codes is off by at most
//   |x| |c - its codes| + |x - its codes| |codes of c|
// so only centroids within twice the largest such bound of the best can be the nearest, and those (in blocks of eight: one or two of 256 of clustered rows) are compared in f32, with
// the very sums of centroidsNearest. Where many could be (centroids of very different lengths, rows that are all alike), four rows are compared with all, and so are some of the next.
// Without relaxed SIMD there is no such instruction: centroidsNearest does it.
//
//   codes   f32 the largest |c - codes|, f32 the largest |codes|, up to 64 bytes; then for each block of eight centroids: i32[8] starts (minus what raising the row's codes adds),
//           f32[8] scales, and for each four numbers of a row eight times four bytes

import { multiplyAdd, relaxed } from "./dot-top-k";
import { centroidsNearest, settle } from "./k-means";

const centroidCodeMax: f32 = 127;
const rowCodeMax: f32 = 63;
/** What a row's codes are raised by, so that none is negative. */
const rowCodeZero: i32 = 64;
const headBytes: usize = 64;
const blockHeadBytes: usize = 64;
/** Blocks of a row that may be compared in f32: beyond this share of all comparing with all is cheaper. */
const exactShare: u32 = 6;
/** Groups of four rows that are compared with all at most before codes are tried again. */
const passedOverMax: u32 = 63;

/** Writes the codes of centroids (f32 rows, `rowBytes` apart, a multiple of 16), centroidCodesBytes. */
export function centroidsCodes(rows: usize, count: u32, rowBytes: usize, out: usize): void {
  const blockBytes: usize = blockHeadBytes + (rowBytes << 1);
  memory.fill(out, 0, headBytes + <usize>((count + 7) >> 3) * blockBytes);
  let missedMost: f64 = 0;
  let lengthMost: f64 = 0;
  for (let c: u32 = 0; c < count; c++) {
    const row = rows + rowBytes * <usize>c;
    const block = out + headBytes + <usize>(c >> 3) * blockBytes;
    const lane = (<usize>(c & 7)) << 2;
    let most: f32 = 0;
    for (let at: usize = 0; at < rowBytes; at += 4) most = max<f32>(most, abs<f32>(load<f32>(row + at)));
    const scale: f32 = most / centroidCodeMax;
    const factor: f32 = scale > 0 ? 1 / scale : 0;
    let sum: i32 = 0;
    let missed: f64 = 0;
    let length: f64 = 0;
    for (let at: usize = 0; at < rowBytes; at += 4) {
      const x = load<f32>(row + at);
      // By the vector's conversion, which knows what to do with what is no number.
      const whole = i32x4.extract_lane(i32x4.trunc_sat_f32x4_s(f32x4.splat(nearest<f32>(x * factor))), 0);
      const code = max<i32>(-127, min<i32>(127, whole));
      const said = <f64>code * <f64>scale;
      sum += code;
      missed += (<f64>x - said) * (<f64>x - said);
      length += said * said;
      store<i8>(block + blockHeadBytes + ((at >> 4) << 5) + lane + ((at >> 2) & 3), <i8>code);
    }
    store<i32>(block + lane, -rowCodeZero * sum);
    store<f32>(block + lane, scale, 32);
    missedMost = max<f64>(missedMost, missed);
    lengthMost = max<f64>(lengthMost, length);
  }
  store<f32>(out, <f32>(sqrt<f64>(missedMost) * 1.000001));
  store<f32>(out, <f32>(sqrt<f64>(lengthMost) * 1.000001), 4);
}

/**
 * As centroidsNearest, by `codes` of the same centroids. `scratch`: 64 bytes, a row, and 4 f32 a centroid, these rounded up to eight.
 */
export function centroidsNearest8(
  rows: usize,
  count: u32,
  rowBytes: usize,
  blocks: usize,
  centroids: u32,
  bias: usize,
  codes: usize,
  scratch: usize,
  outList: usize,
  outScore: usize,
): void {
  if (!relaxed) {
    centroidsNearest(rows, count, rowBytes, blocks, centroids, bias, outList, outScore);
    return;
  }
  const groups = (centroids + 7) >> 3;
  const codeBytes = rowBytes >> 2;
  const c0 = scratch + 64;
  const c1 = c0 + codeBytes;
  const c2 = c1 + codeBytes;
  const c3 = c2 + codeBytes;
  const scores = c3 + codeBytes;
  const scoreBytes = (<usize>groups) << 5;
  let passedOver: u32 = 0;
  let toPass: u32 = 0;
  for (let i: u32 = 0; i < count; i += 4) {
    const r0 = rows + rowBytes * <usize>i;
    const to = (<usize>i) << 2;
    let settled = false;
    if (toPass > 0) toPass--;
    else {
      const m0 = f32x4.splat(rowCodes(r0, rowBytes, c0, scratch));
      const m1 = f32x4.splat(rowCodes(r0 + rowBytes, rowBytes, c1, scratch + 8));
      const m2 = f32x4.splat(rowCodes(r0 + 2 * rowBytes, rowBytes, c2, scratch + 16));
      const m3 = f32x4.splat(rowCodes(r0 + 3 * rowBytes, rowBytes, c3, scratch + 24));
      let best0 = f32x4.splat(-Infinity);
      let best1 = best0;
      let best2 = best0;
      let best3 = best0;
      let block = codes + headBytes;
      let biasAt = bias;
      let place = scores;
      for (let g: u32 = 0; g < groups; g++) {
        let a0 = v128.load(block);
        let b0 = v128.load(block, 16);
        let a1 = a0;
        let a2 = a0;
        let a3 = a0;
        let b1 = b0;
        let b2 = b0;
        let b3 = b0;
        const scaleA = v128.load(block, 32);
        const scaleB = v128.load(block, 48);
        block += blockHeadBytes;
        for (let at: usize = 0; at < codeBytes; at += 4) {
          const x = v128.load(block);
          const y = v128.load(block, 16);
          block += 32;
          const s0 = v128.load32_splat(c0 + at);
          a0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(x, s0, a0);
          b0 = i32x4.relaxed_dot_i8x16_i7x16_add_s(y, s0, b0);
          const s1 = v128.load32_splat(c1 + at);
          a1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(x, s1, a1);
          b1 = i32x4.relaxed_dot_i8x16_i7x16_add_s(y, s1, b1);
          const s2 = v128.load32_splat(c2 + at);
          a2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(x, s2, a2);
          b2 = i32x4.relaxed_dot_i8x16_i7x16_add_s(y, s2, b2);
          const s3 = v128.load32_splat(c3 + at);
          a3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(x, s3, a3);
          b3 = i32x4.relaxed_dot_i8x16_i7x16_add_s(y, s3, b3);
        }
        const biasA = v128.load(biasAt);
        const biasB = v128.load(biasAt, 16);
        biasAt += 32;
        best0 = kept(a0, b0, scaleA, scaleB, m0, biasA, biasB, place, best0);
        best1 = kept(a1, b1, scaleA, scaleB, m1, biasA, biasB, place + scoreBytes, best1);
        best2 = kept(a2, b2, scaleA, scaleB, m2, biasA, biasB, place + 2 * scoreBytes, best2);
        best3 = kept(a3, b3, scaleA, scaleB, m3, biasA, biasB, place + 3 * scoreBytes, best3);
        place += 32;
      }
      settled =
        settleBy(best0, 0, scratch, codes, r0, rowBytes, blocks, groups, bias, scores, outList + to, outScore + to) &&
        settleBy(best1, 1, scratch, codes, r0, rowBytes, blocks, groups, bias, scores, outList + to, outScore + to) &&
        settleBy(best2, 2, scratch, codes, r0, rowBytes, blocks, groups, bias, scores, outList + to, outScore + to) &&
        settleBy(best3, 3, scratch, codes, r0, rowBytes, blocks, groups, bias, scores, outList + to, outScore + to);
      passedOver = settled ? 0 : min<u32>(passedOverMax, 2 * passedOver + 1);
      toPass = passedOver;
    }
    if (!settled) centroidsNearest(r0, 4, rowBytes, blocks, centroids, bias, outList + to, outScore + to);
  }
}

/** Scores of eight centroids by codes, stored; the best so far in each lane is returned. */
function kept(low: v128, high: v128, scaleLow: v128, scaleHigh: v128, scale: v128, biasLow: v128, biasHigh: v128, to: usize, best: v128): v128 {
  const a = multiplyAdd(f32x4.mul(f32x4.convert_i32x4_s(low), scaleLow), scale, biasLow);
  const b = multiplyAdd(f32x4.mul(f32x4.convert_i32x4_s(high), scaleHigh), scale, biasHigh);
  v128.store(to, a);
  v128.store(to, b, 16);
  return f32x4.pmax(best, f32x4.pmax(a, b));
}

/** Codes of a row to `out`; returns their scale. `figures`: the length of what they miss, and the row's. */
function rowCodes(row: usize, rowBytes: usize, out: usize, figures: usize): f32 {
  const mask = i32x4.splat(0x7fffffff);
  let most4 = f32x4.splat(0);
  for (let at: usize = 0; at < rowBytes; at += 16) most4 = f32x4.pmax(most4, v128.and(v128.load(row + at), mask));
  const scale: f32 = mostOf(most4) / rowCodeMax;
  const factor = f32x4.splat(scale > 0 ? 1 / scale : 0);
  const scales = f32x4.splat(scale);
  const low = i32x4.splat(-(<i32>rowCodeMax));
  const high = i32x4.splat(<i32>rowCodeMax);
  let missed = f32x4.splat(0);
  let length = f32x4.splat(0);
  for (let at: usize = 0; at < rowBytes; at += 16) {
    const x = v128.load(row + at);
    const code = i32x4.max_s(low, i32x4.min_s(high, i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(x, factor)))));
    const rest = f32x4.sub(x, f32x4.mul(f32x4.convert_i32x4_s(code), scales));
    missed = f32x4.add(missed, f32x4.mul(rest, rest));
    length = f32x4.add(length, f32x4.mul(x, x));
    const half = i16x8.narrow_i32x4_s(i32x4.add(code, i32x4.splat(rowCodeZero)), code);
    v128.store32_lane(out + (at >> 2), i8x16.narrow_i16x8_u(half, half), 0);
  }
  store<f32>(figures, sqrt<f32>(sumOf(missed)));
  store<f32>(figures, sqrt<f32>(sumOf(length)), 4);
  return scale;
}

function sumOf(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}

function mostOf(x: v128): f32 {
  return max<f32>(max<f32>(f32x4.extract_lane(x, 0), f32x4.extract_lane(x, 1)), max<f32>(f32x4.extract_lane(x, 2), f32x4.extract_lane(x, 3)));
}

/**
 * Compares row `lane` of four with the blocks that may hold its nearest centroid, in their order. `scratch`, `rows`, `scores`, `outList` and `outScore` are those of the four. False: there are too
 * many, or nothing is sure.
 */
function settleBy(
  bests: v128,
  lane: usize,
  scratch: usize,
  codes: usize,
  rows: usize,
  rowBytes: usize,
  blocks: usize,
  groups: u32,
  bias: usize,
  scores: usize,
  outList: usize,
  outScore: usize,
): bool {
  const row = rows + lane * rowBytes;
  const scored = scores + lane * ((<usize>groups) << 5);
  const exactMax = groups / exactShare + 2;
  const missed = load<f32>(scratch + (lane << 3));
  const length = load<f32>(scratch + (lane << 3), 4);
  const missedMost = load<f32>(codes);
  const lengthMost = load<f32>(codes, 4);
  // Sums of f32, and those of the scores by codes.
  const rounding: f32 = 1e-5 + <f32>rowBytes * 3e-8;
  const margin: f32 = 2.001 * (length * missedMost + missed * lengthMost) + rounding * lengthMost * (length + lengthMost);
  const bar: f32 = mostOf(bests) - margin;
  // Infinite or no number: beyond what codes can say.
  if (!(bar > -Infinity && bar < Infinity)) return false;
  const bars = f32x4.splat(bar);
  let best = f32x4.splat(-Infinity);
  let from = i32x4.splat(0);
  let exact: u32 = 0;
  for (let g: u32 = 0; g < groups; g++) {
    const at = scored + ((<usize>g) << 5);
    if (!v128.any_true(v128.or(f32x4.ge(v128.load(at), bars), f32x4.ge(v128.load(at, 16), bars)))) continue;
    if (exact == exactMax) return false;
    exact++;
    let a = v128.load(bias + ((<usize>g) << 5));
    let b = v128.load(bias + ((<usize>g) << 5), 16);
    let block = blocks + ((<usize>g) << 3) * rowBytes;
    for (let x: usize = 0; x < rowBytes; x += 4) {
      const s = v128.load32_splat(row + x);
      a = multiplyAdd(v128.load(block), s, a);
      b = multiplyAdd(v128.load(block, 16), s, b);
      block += 32;
    }
    let over = f32x4.gt(b, a);
    const score = v128.bitselect(b, a, over);
    const here = v128.bitselect(i32x4.splat(2 * g + 1), i32x4.splat(2 * g), over);
    over = f32x4.gt(score, best);
    best = v128.bitselect(score, best, over);
    from = v128.bitselect(here, from, over);
  }
  settle(best, from, outList + (lane << 2), outScore + (lane << 2));
  return true;
}
