// The factorisation machine (Rendle, 2010) over a parameter table: a row is `factors` numbers v and one weight w.
//   logit = sum w x + 1/2 sum_f [(sum v_f x)^2 - sum (v_f x)^2]; linear-only slots take part in the first sum alone.
// Rows of slots: slots of row r = [offsets[r], linearEnds[r]) linear-only, [linearEnds[r], offsets[r + 1]) full; keys u64, weights f32.
// Sums of a row, in this order in memory: f32 S[factors] = sum v x, f32 q[4] = sum (v x)^2 by lane, f32 L = sum w x, three zeros.
// Scratch: as parameters.ts says; reading takes 2,048 + 16 bytes a slot of a group (128 slots, or one longer row), learning
// 2,048 + (16 + 4 paddedDims) bytes a slot of the longest row.
// Order of every sum: slot by slot, block by block, no fused multiply-add: the scalar twin gives the same bits.

import {
  accumulatorOf,
  changed,
  claim,
  commit,
  copySteady,
  fence,
  initialValues,
  resolve,
  rowHead,
  slotsAt,
  spareAt,
  stepFactors,
  stepRest,
  sumFour,
} from "./parameters";

export const groupSlots: u32 = 128;
const logitMax: f64 = 30;
export const gradientMax: f32 = 1000000;

export const asLogits: u32 = 0;
export const asSums: u32 = 1;
export const asVectors: u32 = 2;

/** 1 / (1 + e^-z) in f64, |z| taken as at most 30. The relative error of the series is below 1e-13. */
export function sigmoid(z: f64): f64 {
  const x = -max<f64>(-logitMax, min<f64>(logitMax, z));
  const n = floor<f64>(x * 1.4426950408889634 + 0.5);
  const r = x - n * 0.6931471803691238 - n * 1.9082149292705877e-10;
  let e: f64 = 1 + r / 11;
  e = 1 + (r / 10) * e;
  e = 1 + (r / 9) * e;
  e = 1 + (r / 8) * e;
  e = 1 + (r / 7) * e;
  e = 1 + (r / 6) * e;
  e = 1 + (r / 5) * e;
  e = 1 + (r / 4) * e;
  e = 1 + (r / 3) * e;
  e = 1 + (r / 2) * e;
  e = 1 + r * e;
  return 1 / (1 + e * reinterpret<f64>((<i64>n + 1023) << 52));
}

/** Sums at `sums` := those at `start`, or zeros. */
export function begin(sums: usize, start: usize, factors: u32): void {
  const bytes = (<usize>factors + 8) << 2;
  if (start == 0) memory.fill(sums, 0, bytes);
  else for (let at: usize = 0; at < bytes; at += 16) v128.store(sums + at, v128.load(start + at));
}

export function addLinear(sums: usize, factors: u32, values: usize, x: f32): void {
  const at = (<usize>factors) << 2;
  store<f32>(sums + at, load<f32>(sums + at, 16) + x * load<f32>(values + at), 16);
}

/** Adds one full slot. */
export function addSlot(sums: usize, factors: u32, values: usize, x: f32): void {
  const bytes = (<usize>factors) << 2;
  const scale = f32x4.splat(x);
  let q = v128.load(sums + bytes);
  for (let at: usize = 0; at < bytes; at += 16) {
    const y = f32x4.mul(v128.load(values + at), scale);
    v128.store(sums + at, f32x4.add(v128.load(sums + at), y));
    q = f32x4.add(q, f32x4.mul(y, y));
  }
  v128.store(sums + bytes, q);
  addLinear(sums, factors, values, x);
}

/** Adds the slots of one row, found by `resolve` or `claim`. `slots`, `weights`: of its first slot. */
function addRow(table: usize, slots: usize, weights: usize, linearOnly: u32, count: u32, factors: u32, sums: usize, spare: usize): void {
  let i: u32 = 0;
  for (; i < linearOnly; i++) {
    const row = <usize>load<u32>(slots + ((<usize>i) << 4));
    if (row != 0) addLinear(sums, factors, row + rowHead, load<f32>(weights + ((<usize>i) << 2)));
  }
  if (factors != 16) {
    for (; i < count; i++) {
      const at = slots + ((<usize>i) << 4);
      let values = <usize>load<u32>(at) + rowHead;
      if (values == rowHead) {
        initialValues(table, load<u32>(at, 8), load<u32>(at, 12), spare);
        values = spare;
      }
      addSlot(sums, factors, values, load<f32>(weights + ((<usize>i) << 2)));
    }
    return;
  }
  // The same in registers for the usual width.
  let s0 = v128.load(sums);
  let s1 = v128.load(sums, 16);
  let s2 = v128.load(sums, 32);
  let s3 = v128.load(sums, 48);
  let q = v128.load(sums, 64);
  let linear = load<f32>(sums, 80);
  for (; i < count; i++) {
    const at = slots + ((<usize>i) << 4);
    let values = <usize>load<u32>(at) + rowHead;
    if (values == rowHead) {
      initialValues(table, load<u32>(at, 8), load<u32>(at, 12), spare);
      values = spare;
    }
    const x = load<f32>(weights + ((<usize>i) << 2));
    const scale = f32x4.splat(x);
    const y0 = f32x4.mul(v128.load(values), scale);
    const y1 = f32x4.mul(v128.load(values, 16), scale);
    const y2 = f32x4.mul(v128.load(values, 32), scale);
    const y3 = f32x4.mul(v128.load(values, 48), scale);
    s0 = f32x4.add(s0, y0);
    s1 = f32x4.add(s1, y1);
    s2 = f32x4.add(s2, y2);
    s3 = f32x4.add(s3, y3);
    q = f32x4.add(q, f32x4.mul(y0, y0));
    q = f32x4.add(q, f32x4.mul(y1, y1));
    q = f32x4.add(q, f32x4.mul(y2, y2));
    q = f32x4.add(q, f32x4.mul(y3, y3));
    linear += x * load<f32>(values, 64);
  }
  v128.store(sums, s0);
  v128.store(sums, s1, 16);
  v128.store(sums, s2, 32);
  v128.store(sums, s3, 48);
  v128.store(sums, q, 64);
  store<f32>(sums, linear, 80);
}

/** As addRow, each row read by itself until it is whole: for what was written meanwhile. */
function addSteadyRow(table: usize, slots: usize, keys: usize, weights: usize, linearOnly: u32, count: u32, factors: u32, sums: usize, spare: usize): void {
  for (let i: u32 = 0; i < count; i++) {
    const x = load<f32>(weights + ((<usize>i) << 2));
    const found = copySteady(table, load<u64>(keys + ((<usize>i) << 3)), spare);
    if (i >= linearOnly) addSlot(sums, factors, spare, x);
    else if (found) addLinear(sums, factors, spare, x);
  }
}

/** L + 1/2 sum (S^2 - q): the logit of what was summed. */
export function finish(sums: usize, factors: u32): f32 {
  const bytes = (<usize>factors) << 2;
  let squares = f32x4.splat(0);
  for (let at: usize = 0; at < bytes; at += 16) {
    const s = v128.load(sums + at);
    squares = f32x4.add(squares, f32x4.mul(s, s));
  }
  return load<f32>(sums + bytes, 16) + 0.5 * sumFour(f32x4.sub(squares, v128.load(sums + bytes)));
}

export function put(sums: usize, factors: u32, out: usize, row: u32, form: u32): void {
  const bytes = (<usize>factors) << 2;
  if (form == asLogits) {
    store<f32>(out + ((<usize>row) << 2), finish(sums, factors));
  } else if (form == asSums) {
    const to = out + (bytes + 32) * <usize>row;
    for (let at: usize = 0; at < bytes + 32; at += 16) v128.store(to + at, v128.load(sums + at));
  } else {
    const to = out + (bytes + 16) * <usize>row;
    for (let at: usize = 0; at < bytes; at += 16) v128.store(to + at, v128.load(sums + at));
    v128.store(to + bytes, f32x4(finish(sums, factors), 0, 0, 0));
  }
}

function readRows(
  table: usize,
  start: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  out: usize,
  form: u32,
  scratch: usize,
): void {
  const factors = load<u32>(table, 28);
  const sums = scratch;
  const spare = scratch + spareAt;
  const slots = scratch + slotsAt;
  for (let r: u32 = 0; r < rows;) {
    const first = load<u32>(offsets + ((<usize>r) << 2));
    let last = r + 1;
    while (last < rows && load<u32>(offsets + ((<usize>last) << 2), 4) - first <= groupSlots) last += 1;
    const end = load<u32>(offsets + ((<usize>last) << 2));
    resolve(table, keys + ((<usize>first) << 3), end - first, slots);
    for (let i = r; i < last; i++) {
      const from = load<u32>(offsets + ((<usize>i) << 2));
      const to = load<u32>(offsets + ((<usize>i) << 2), 4);
      const linearOnly = load<u32>(linearEnds + ((<usize>i) << 2)) - from;
      begin(sums, start, factors);
      addRow(table, slots + ((<usize>(from - first)) << 4), weights + ((<usize>from) << 2), linearOnly, to - from, factors, sums, spare);
      put(sums, factors, out, i, form);
    }
    fence(slots - 16);
    for (let i = r; i < last; i++) {
      const from = load<u32>(offsets + ((<usize>i) << 2));
      const to = load<u32>(offsets + ((<usize>i) << 2), 4);
      const own = slots + ((<usize>(from - first)) << 4);
      if (!changed(own, to - from)) continue;
      const linearOnly = load<u32>(linearEnds + ((<usize>i) << 2)) - from;
      begin(sums, start, factors);
      addSteadyRow(table, own, keys + ((<usize>from) << 3), weights + ((<usize>from) << 2), linearOnly, to - from, factors, sums, spare);
      put(sums, factors, out, i, form);
    }
    r = last;
  }
}

/** Logits of `rows` rows, each begun with the sums at `start` (0: none). Any thread. */
export function fmLogits(
  table: usize,
  start: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  logits: usize,
  scratch: usize,
): void {
  readRows(table, start, offsets, linearEnds, keys, weights, rows, logits, asLogits, scratch);
}

/** Sums of `rows` rows, factors + 8 numbers each. Any thread. */
export function fmSums(table: usize, offsets: usize, linearEnds: usize, keys: usize, weights: usize, rows: u32, out: usize, scratch: usize): void {
  readRows(table, 0, offsets, linearEnds, keys, weights, rows, out, asSums, scratch);
}

/** Vectors of `rows` rows: S, then the row's own logit, then three zeros. Any thread. */
export function fmVectors(table: usize, offsets: usize, linearEnds: usize, keys: usize, weights: usize, rows: u32, out: usize, scratch: usize): void {
  readRows(table, 0, offsets, linearEnds, keys, weights, rows, out, asVectors, scratch);
}

/**
 * Row by row: finds or inserts the rows, writes the logit, then makes one step on importance x log loss of sigmoid(logit + shift).
 * A sample whose logit or gradient is not finite makes no step and counts as skipped. Writer only.
 */
export function fmLearn(
  table: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  labels: usize,
  importance: usize,
  shifts: usize,
  logits: usize,
  scratch: usize,
): void {
  const factors = load<u32>(table, 28);
  const factorBytes = (<usize>factors) << 2;
  const valueBytes = (<usize>load<u32>(table, 76)) << 2;
  const sums = scratch;
  const spare = scratch + spareAt;
  const slots = scratch + slotsAt;
  const top = f32x4.splat(gradientMax);
  const bottom = f32x4.splat(-gradientMax);
  for (let r: u32 = 0; r < rows; r++) {
    const sample = (<usize>r) << 2;
    const first = load<u32>(offsets + sample);
    const count = load<u32>(offsets + sample, 4) - first;
    const linearOnly = load<u32>(linearEnds + sample) - first;
    const x0 = weights + ((<usize>first) << 2);
    const values = slots + ((<usize>count) << 4);
    claim(table, keys + ((<usize>first) << 3), count, slots);
    begin(sums, 0, factors);
    addRow(table, slots, x0, linearOnly, count, factors, sums, spare);
    const logit = finish(sums, factors);
    store<f32>(logits + sample, logit);
    const z = <f64>logit + <f64>load<f32>(shifts + sample);
    // Zero when z is not finite, which counts as skipped below: the series takes no NaN.
    const p = z - z == 0 ? sigmoid(z) : 0;
    const g = <f32>((p - <f64>load<f32>(labels + sample)) * <f64>load<f32>(importance + sample));
    if (z - z != 0 || g - g != 0) {
      store<u32>(table, load<u32>(table, 68) + 1, 68);
      continue;
    }
    for (let i: u32 = 0; i < count; i++) {
      const row = <usize>load<u32>(slots + ((<usize>i) << 4));
      if (row == 0) continue;
      const accumulator = accumulatorOf(table, row);
      const value = values + valueBytes * <usize>i;
      const x = load<f32>(x0 + ((<usize>i) << 2));
      const gx = g * x;
      if (i >= linearOnly) {
        const scale = f32x4.splat(x);
        const slope = f32x4.splat(gx);
        for (let at: usize = 0; at < factorBytes; at += 16) {
          const rest = f32x4.sub(v128.load(sums + at), f32x4.mul(v128.load(row + rowHead + at), scale));
          v128.store(value + at, f32x4.pmax(bottom, f32x4.pmin(top, f32x4.mul(slope, rest))));
        }
        stepFactors(table, row, accumulator, value);
      }
      v128.store(value + factorBytes, f32x4.pmax(bottom, f32x4.pmin(top, f32x4(gx, 0, 0, 0))));
      stepRest(table, row, accumulator, value);
    }
    commit(table, slots, count, linearOnly, values, 1);
  }
}
