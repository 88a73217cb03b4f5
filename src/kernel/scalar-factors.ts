// The scalar twin of kernels/factors.ts: the sums of a row of slots, the probability of a logit, the bounds of a gradient, one step of an optimizer.
// Invariant: every product, sum, quotient and root is rounded to f32 where the kernels round it, in their order: the same bits.
// Cost: some 8x the SIMD kernels. Concurrency: none of its own.

import { shardMachineLimits } from "./shard-machine-layout.ts";

const { fround } = Math;
const epsilon = fround(1e-8);
const gradientMax = 1e6;
const logitMax = 30;
const adagrad = 1;
const rowwise = 2;

/** A gradient within its bounds; what is no number becomes the upper one. */
export function bounded(gradient: number): number {
  const low = gradient < gradientMax ? gradient : gradientMax;
  return -gradientMax < low ? low : -gradientMax;
}

/** 2^n for n = -44 to 44. */
const powersOfTwo = Float64Array.from({ length: 89 }, (_, i) => {
  let power = 1;
  for (let n = 44; n < i; n++) power *= 2;
  for (let n = i; n < 44; n++) power /= 2;
  return power;
});

/** 1 / (1 + e^-z), |z| taken as at most 30: the series of the kernel, number for number. */
function sigmoid(z: number): number {
  const x = -Math.max(-logitMax, Math.min(logitMax, z));
  const n = Math.floor(x * 1.4426950408889634 + 0.5);
  const r = x - n * 0.6931471803691238 - n * 1.9082149292705877e-10;
  let e = 1 + r / 11;
  for (let i = 10; i >= 2; i--) e = 1 + (r / i) * e;
  e = 1 + r * e;
  return 1 / (1 + e * powersOfTwo[n + 44]!);
}

/** Slope of importance x log loss of sigmoid(logit + shift); undefined when something is not finite. */
export function slopeOf(logit: number, shift: number, label: number, importance: number): number | undefined {
  const z = logit + shift;
  if (!Number.isFinite(z)) return undefined;
  const g = fround((sigmoid(z) - label) * importance);
  return Number.isFinite(g) ? g : undefined;
}

/** (a + b) + (c + d) of four lanes, rounded each time. */
const sumFour = (a: number, b: number, c: number, d: number): number => fround(fround(a + b) + fround(c + d));

/** Sums of a row: S = sum v x, then q = sum (v x)^2 by lane, then L = sum w x, then three zeros. */
export class ScalarSums {
  readonly sums = new Float32Array(shardMachineLimits.factorsMax + 8);
  #factors = 0;

  begin(factors: number, start?: Float32Array): void {
    this.#factors = factors;
    if (start === undefined) this.sums.fill(0, 0, factors + 8);
    else this.sums.set(start);
  }

  addLinear(x: number, w: number): void {
    const at = this.#factors + 4;
    this.sums[at] = this.sums[at]! + fround(x * w);
  }

  addSlot(values: Float32Array, at: number, x: number): void {
    const { sums } = this;
    const factors = this.#factors;
    for (let i = 0; i < factors; i++) {
      const y = fround(values[at + i]! * x);
      sums[i] = sums[i]! + y;
      const lane = factors + (i & 3);
      sums[lane] = sums[lane]! + fround(y * y);
    }
    this.addLinear(x, values[at + factors]!);
  }

  /** The logit of what was summed. */
  finish(): number {
    const { sums } = this;
    const factors = this.#factors;
    const lanes = [0, 0, 0, 0];
    for (let i = 0; i < factors; i++) lanes[i & 3] = fround(lanes[i & 3]! + fround(sums[i]! * sums[i]!));
    for (let i = 0; i < 4; i++) lanes[i] = fround(lanes[i]! - sums[factors + i]!);
    return fround(sums[factors + 4]! + 0.5 * sumFour(lanes[0]!, lanes[1]!, lanes[2]!, lanes[3]!));
  }

  /** Gradient of the factors of a slot to `values[at]` on; `weights[from]`: its row. */
  gradient(weights: Float32Array, from: number, x: number, slope: number, values: Float32Array, at: number): void {
    for (let i = 0; i < this.#factors; i++) values[at + i] = bounded(fround(slope * fround(this.sums[i]! - fround(weights[from + i]! * x))));
  }
}

/** How one part of a row moves. */
export interface StepPart {
  /** As in the header: 1 AdaGrad, 2 row-wise AdaGrad, else SGD. */
  readonly optimizer: number;
  readonly rate: number;
  readonly l2: number;
  /** Numbers that count for the mean of row-wise AdaGrad. */
  readonly size: number;
}

/** One step for `count` numbers: gradients at `values[at]` become new weights; the old ones are `weights[from]`, accumulators begin at `values[accumulator]`. */
export function stepNumbers(
  { optimizer, rate, l2, size }: StepPart,
  count: number,
  weights: Float32Array,
  from: number,
  accumulator: number,
  values: Float32Array,
  at: number,
): void {
  if (optimizer === adagrad) {
    for (let i = 0; i < count; i++) {
      const w = weights[from + i]!;
      const g = fround(values[at + i]! + fround(l2 * w));
      const a = fround(values[accumulator + i]! + fround(g * g));
      values[accumulator + i] = a;
      values[at + i] = w - fround(fround(rate * g) / fround(fround(Math.sqrt(a)) + epsilon));
    }
  } else if (optimizer === rowwise) {
    const lanes = [0, 0, 0, 0];
    for (let i = 0; i < count; i++) {
      const g = fround(values[at + i]! + fround(l2 * weights[from + i]!));
      values[at + i] = g;
      lanes[i & 3] = fround(lanes[i & 3]! + fround(g * g));
    }
    const a = fround(values[accumulator]! + fround(sumFour(lanes[0]!, lanes[1]!, lanes[2]!, lanes[3]!) / size));
    values[accumulator] = a;
    const shared = fround(rate / fround(fround(Math.sqrt(a)) + epsilon));
    for (let i = 0; i < count; i++) values[at + i] = weights[from + i]! - fround(shared * values[at + i]!);
  } else {
    for (let i = 0; i < count; i++) {
      const w = weights[from + i]!;
      values[at + i] = w - fround(rate * fround(values[at + i]! + fround(l2 * w)));
    }
  }
}
