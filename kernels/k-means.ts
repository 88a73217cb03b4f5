// The inner loops of building an index: rows to their nearest centroid, sums of the rows of a centroid, and codes of 4 bits.
//
// `centroidsNearest` keeps a tile of four rows by eight centroids in registers: one load of a centroid serves four rows, one of a row two vectors of centroids. Centroids are
// transposed: blocks of eight, for each dimension eight numbers, so that no sum runs across lanes.

import { dotOne, multiplyAdd } from "./dot-top-k";
import { sumFour } from "./row-numbers";

/** Rows (f32, `rowBytes` apart, a multiple of 16) to blocks of eight: number d of centroid c = out[(c / 8) * rowBytes / 4 * 8 + 8 d + c % 8]. Missing ones of the last block: zeros. */
export function centroidsTranspose(rows: usize, count: u32, rowBytes: usize, out: usize): void {
  const blocks = (count + 7) >> 3;
  memory.fill(out, 0, ((<usize>blocks) << 3) * rowBytes);
  for (let c: u32 = 0; c < count; c++) {
    const row = rows + rowBytes * <usize>c;
    const to = out + ((<usize>(c >> 3)) << 3) * rowBytes + ((<usize>(c & 7)) << 2);
    for (let at: usize = 0; at < rowBytes; at += 4) store<f32>(to + (at << 3), load<f32>(row + at));
  }
}

/**
 * For each row the centroid with the largest product plus bias (f32 a centroid, filled up to eight with -Infinity), its number to `outList` and the score to `outScore`.
 * Rows rounded up to four are read and written. Equal scores: some centroid of them, the same each time.
 */
export function centroidsNearest(rows: usize, count: u32, rowBytes: usize, blocks: usize, centroids: u32, bias: usize, outList: usize, outScore: usize): void {
  const groups = (centroids + 7) >> 3;
  for (let i: u32 = 0; i < count; i += 4) {
    const r0 = rows + rowBytes * <usize>i;
    const r1 = r0 + rowBytes;
    const r2 = r1 + rowBytes;
    const r3 = r2 + rowBytes;
    let best0 = f32x4.splat(-Infinity);
    let best1 = best0;
    let best2 = best0;
    let best3 = best0;
    let at0 = i32x4.splat(0);
    let at1 = at0;
    let at2 = at0;
    let at3 = at0;
    let block = blocks;
    for (let g: u32 = 0; g < groups; g++) {
      const biasLow = v128.load(bias + ((<usize>g) << 5));
      const biasHigh = v128.load(bias + ((<usize>g) << 5), 16);
      let a0 = biasLow;
      let a1 = biasLow;
      let a2 = biasLow;
      let a3 = biasLow;
      let b0 = biasHigh;
      let b1 = biasHigh;
      let b2 = biasHigh;
      let b3 = biasHigh;
      for (let at: usize = 0; at < rowBytes; at += 4) {
        const x = v128.load(block);
        const y = v128.load(block, 16);
        block += 32;
        const s0 = v128.load32_splat(r0 + at);
        a0 = multiplyAdd(x, s0, a0);
        b0 = multiplyAdd(y, s0, b0);
        const s1 = v128.load32_splat(r1 + at);
        a1 = multiplyAdd(x, s1, a1);
        b1 = multiplyAdd(y, s1, b1);
        const s2 = v128.load32_splat(r2 + at);
        a2 = multiplyAdd(x, s2, a2);
        b2 = multiplyAdd(y, s2, b2);
        const s3 = v128.load32_splat(r3 + at);
        a3 = multiplyAdd(x, s3, a3);
        b3 = multiplyAdd(y, s3, b3);
      }
      // The better of both vectors, twice the group's number, one more for the second.
      const low = i32x4.splat(2 * g);
      const high = i32x4.splat(2 * g + 1);
      let over = f32x4.gt(b0, a0);
      let score = v128.bitselect(b0, a0, over);
      let from = v128.bitselect(high, low, over);
      over = f32x4.gt(score, best0);
      best0 = v128.bitselect(score, best0, over);
      at0 = v128.bitselect(from, at0, over);
      over = f32x4.gt(b1, a1);
      score = v128.bitselect(b1, a1, over);
      from = v128.bitselect(high, low, over);
      over = f32x4.gt(score, best1);
      best1 = v128.bitselect(score, best1, over);
      at1 = v128.bitselect(from, at1, over);
      over = f32x4.gt(b2, a2);
      score = v128.bitselect(b2, a2, over);
      from = v128.bitselect(high, low, over);
      over = f32x4.gt(score, best2);
      best2 = v128.bitselect(score, best2, over);
      at2 = v128.bitselect(from, at2, over);
      over = f32x4.gt(b3, a3);
      score = v128.bitselect(b3, a3, over);
      from = v128.bitselect(high, low, over);
      over = f32x4.gt(score, best3);
      best3 = v128.bitselect(score, best3, over);
      at3 = v128.bitselect(from, at3, over);
    }
    const to = (<usize>i) << 2;
    settle(best0, at0, outList + to, outScore + to);
    settle(best1, at1, outList + to + 4, outScore + to + 4);
    settle(best2, at2, outList + to + 8, outScore + to + 8);
    settle(best3, at3, outList + to + 12, outScore + to + 12);
  }
}

/** The best of four lanes; of equal ones the lowest centroid. `at`: number of the vector of four in each. */
export function settle(best: v128, at: v128, outList: usize, outScore: usize): void {
  let score = f32x4.extract_lane(best, 0);
  let list = (<u32>i32x4.extract_lane(at, 0)) << 2;
  let other = f32x4.extract_lane(best, 1);
  let number = ((<u32>i32x4.extract_lane(at, 1)) << 2) + 1;
  if (other > score || (other == score && number < list)) {
    score = other;
    list = number;
  }
  other = f32x4.extract_lane(best, 2);
  number = ((<u32>i32x4.extract_lane(at, 2)) << 2) + 2;
  if (other > score || (other == score && number < list)) {
    score = other;
    list = number;
  }
  other = f32x4.extract_lane(best, 3);
  number = ((<u32>i32x4.extract_lane(at, 3)) << 2) + 3;
  if (other > score || (other == score && number < list)) {
    score = other;
    list = number;
  }
  store<u32>(outList, list);
  store<f32>(outScore, score);
}

/** Adds each row to the sum of its list (f32 rows of the same size), and one to its count (u32). */
export function centroidsAdd(rows: usize, count: u32, rowBytes: usize, lists: usize, sums: usize, counts: usize): void {
  for (let i: u32 = 0; i < count; i++) {
    const list = <usize>load<u32>(lists + ((<usize>i) << 2));
    const row = rows + rowBytes * <usize>i;
    const sum = sums + rowBytes * list;
    for (let at: usize = 0; at < rowBytes; at += 16) v128.store(sum + at, f32x4.add(v128.load(sum + at), v128.load(row + at)));
    store<u32>(counts + (list << 2), load<u32>(counts + (list << 2)) + 1);
  }
}

/** Rounds of two means that part rows in two. */
const halvings: u32 = 3;

/** Squared distance of two rows. */
function distance(a: usize, b: usize, rowBytes: usize): f32 {
  let sum = f32x4.splat(0);
  for (let at: usize = 0; at < rowBytes; at += 16) {
    const x = f32x4.sub(v128.load(a + at), v128.load(b + at));
    sum = multiplyAdd(x, x, sum);
  }
  return sumFour(sum);
}

/** Which of `count` rows lies farthest from `row`. */
function farthest(rows: usize, rowBytes: usize, order: usize, count: u32, row: usize): usize {
  let most: f32 = -1;
  let found = row;
  for (let i: u32 = 0; i < count; i++) {
    const other = rows + rowBytes * <usize>load<u32>(order + ((<usize>i) << 2));
    const far = distance(other, row, rowBytes);
    if (far > most) {
      most = far;
      found = other;
    }
  }
  return found;
}

/** Puts the `first` entries of largest key before the others. */
function partition(order: usize, keys: usize, count: u32, first: u32): void {
  let low: i32 = 0;
  let high = <i32>count - 1;
  const wanted = <i32>first - 1;
  while (low < high) {
    const pivot = load<f32>(keys + ((<usize>((low + high) >> 1)) << 2));
    let i = low;
    let j = high;
    while (i <= j) {
      while (load<f32>(keys + ((<usize>i) << 2)) > pivot) i++;
      while (load<f32>(keys + ((<usize>j) << 2)) < pivot) j--;
      if (i > j) break;
      const a = (<usize>i) << 2;
      const b = (<usize>j) << 2;
      const key = load<f32>(keys + a);
      store<f32>(keys + a, load<f32>(keys + b));
      store<f32>(keys + b, key);
      const row = load<u32>(order + a);
      store<u32>(order + a, load<u32>(order + b));
      store<u32>(order + b, row);
      i++;
      j--;
    }
    if (wanted <= j) high = j;
    else if (wanted >= i) low = i;
    else return;
  }
}

/**
 * Puts the numbers of `count` rows (u32, at `order`) in such an order that each 32 of them lie close together: parts them in halves of whole blocks, each half again, along the line between
 * two means. `keys`: f32 a row. `scratch`: five rows. Numbers must be finite.
 */
export function blocksOrder(rows: usize, rowBytes: usize, order: usize, count: u32, keys: usize, scratch: usize): void {
  if (count <= 32) return;
  const a = scratch;
  const b = a + rowBytes;
  const axis = b + rowBytes;
  const sums = axis + rowBytes;
  const one = farthest(rows, rowBytes, order, count, rows + rowBytes * <usize>load<u32>(order));
  memory.copy(a, one, rowBytes);
  memory.copy(b, farthest(rows, rowBytes, order, count, one), rowBytes);
  for (let round: u32 = 0; round <= halvings; round++) {
    let middle = f32x4.splat(0);
    for (let at: usize = 0; at < rowBytes; at += 16) {
      const x = v128.load(a + at);
      const y = v128.load(b + at);
      const way = f32x4.sub(x, y);
      v128.store(axis + at, way);
      middle = multiplyAdd(way, f32x4.mul(f32x4.add(x, y), f32x4.splat(0.5)), middle);
    }
    const half = sumFour(middle);
    memory.fill(sums, 0, rowBytes << 1);
    let ones: u32 = 0;
    for (let i: u32 = 0; i < count; i++) {
      const row = rows + rowBytes * <usize>load<u32>(order + ((<usize>i) << 2));
      const key = dotOne(row, rowBytes, axis);
      store<f32>(keys + ((<usize>i) << 2), key);
      if (round == halvings) continue;
      const isOne = key > half;
      ones += <u32>isOne;
      const to = isOne ? sums : sums + rowBytes;
      for (let at: usize = 0; at < rowBytes; at += 16) v128.store(to + at, f32x4.add(v128.load(to + at), v128.load(row + at)));
    }
    if (round == halvings || ones == 0 || ones == count) {
      if (round < halvings) round = halvings - 1;
      continue;
    }
    const shareA = f32x4.splat(1 / <f32>ones);
    const shareB = f32x4.splat(1 / <f32>(count - ones));
    for (let at: usize = 0; at < rowBytes; at += 16) {
      v128.store(a + at, f32x4.mul(v128.load(sums + at), shareA));
      v128.store(b + at, f32x4.mul(v128.load(sums + rowBytes + at), shareB));
    }
  }
  const first = ((count + 31) >> 6) << 5;
  partition(order, keys, count, first);
  blocksOrder(rows, rowBytes, order, first, keys, scratch);
  blocksOrder(rows, rowBytes, order + ((<usize>first) << 2), count - first, keys, scratch);
}

/**
 * The mean of the rows of each of `blocks` blocks of 32 slots, whose rows stand first, to `means`; the mean of their squared differences to it, f32 a block, to `squares`. `live`: a word a
 * block; blocks without rows have zeros.
 */
export function blocksMean(rows: usize, blocks: u32, rowBytes: usize, live: usize, means: usize, squares: usize): void {
  for (let b: u32 = 0; b < blocks; b++) {
    const count = popcnt<u32>(load<u32>(live + ((<usize>b) << 2)));
    const from = rows + rowBytes * ((<usize>b) << 5);
    const end = from + rowBytes * <usize>count;
    const to = means + rowBytes * <usize>b;
    const share = f32x4.splat(count > 0 ? 1 / <f32>count : 0);
    let square = f32x4.splat(0);
    for (let at: usize = 0; at < rowBytes; at += 16) {
      let sum = f32x4.splat(0);
      for (let row = from; row < end; row += rowBytes) sum = f32x4.add(sum, v128.load(row + at));
      const mean = f32x4.mul(sum, share);
      v128.store(to + at, mean);
      for (let row = from; row < end; row += rowBytes) {
        const off = f32x4.sub(v128.load(row + at), mean);
        square = multiplyAdd(off, off, square);
      }
    }
    square = f32x4.mul(square, share);
    store<f32>(squares + ((<usize>b) << 2), sumFour(square));
  }
}
