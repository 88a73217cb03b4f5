// What the factorisation machine (Rendle, 2010) computes with the numbers of a row, wherever rows lie: a row is `factors` numbers v and one weight w.
//   logit = sum w x + 1/2 sum_f [(sum v_f x)^2 - sum (v_f x)^2], the second part over full slots only; linear-only slots count in the first sum alone.
// Sums of a row of slots, in this order in memory: f32 S[factors] = sum v x, f32 q[4] = sum (v x)^2 by lane, f32 L = sum w x, three zeros.
// Order of every sum: slot by slot, block by block, no fused multiply-add: the scalar twin (src/kernel/scalar-factors.ts) gives the same bits.

import { sumFour } from "./row-numbers";

const logitMax: f64 = 30;
export const gradientMax: f32 = 1000000;
export const epsilon: f32 = 1e-8;

/** Forms in which `put` hands out what was summed. */
export const asLogits: u32 = 0;
export const asSums: u32 = 1;
export const asVectors: u32 = 2;

/** Optimizers, as in the header of a machine; any other number: SGD. */
export const adagrad: u32 = 1;
export const rowwise: u32 = 2;

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

/** Adds one linear-only slot. */
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

/** Writes what was summed for row `row` in this form: its logit, its sums (factors + 8 numbers), or S, the logit and three zeros. */
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

/**
 * One step of the optimizer for `bytes` of a row: `weights` are read, `values` hold the gradient and get the new weights.
 * `size`: how many components the part has (row-wise AdaGrad takes their mean).
 */
export function stepPart(optimizer: u32, weights: usize, accumulator: usize, values: usize, bytes: usize, rate: f32, l2: f32, size: f32): void {
  const decay = f32x4.splat(l2);
  const pace = f32x4.splat(rate);
  if (optimizer == adagrad) {
    const small = f32x4.splat(epsilon);
    for (let at: usize = 0; at < bytes; at += 16) {
      const w = v128.load(weights + at);
      const g = f32x4.add(v128.load(values + at), f32x4.mul(decay, w));
      const a = f32x4.add(v128.load(accumulator + at), f32x4.mul(g, g));
      v128.store(accumulator + at, a);
      v128.store(values + at, f32x4.sub(w, f32x4.div(f32x4.mul(pace, g), f32x4.add(f32x4.sqrt(a), small))));
    }
  } else if (optimizer == rowwise) {
    let squares = f32x4.splat(0);
    for (let at: usize = 0; at < bytes; at += 16) {
      const g = f32x4.add(v128.load(values + at), f32x4.mul(decay, v128.load(weights + at)));
      v128.store(values + at, g);
      squares = f32x4.add(squares, f32x4.mul(g, g));
    }
    const a = load<f32>(accumulator) + sumFour(squares) / size;
    store<f32>(accumulator, a);
    const shared = f32x4.splat(rate / (sqrt<f32>(a) + epsilon));
    for (let at: usize = 0; at < bytes; at += 16) {
      v128.store(values + at, f32x4.sub(v128.load(weights + at), f32x4.mul(shared, v128.load(values + at))));
    }
  } else {
    for (let at: usize = 0; at < bytes; at += 16) {
      const w = v128.load(weights + at);
      const g = f32x4.add(v128.load(values + at), f32x4.mul(decay, w));
      v128.store(values + at, f32x4.sub(w, f32x4.mul(pace, g)));
    }
  }
}
