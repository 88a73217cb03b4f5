// The shape of a parameter table and its bytes in a kernel memory. Layout: kernels/parameters.ts.
// Why here and not with the table's face: the kernels' warm-up and contract suite make tables too, and both stand below src/params.
// Cost: 8 bytes an index slot (1.33 to 2.67 slots a row), 16 + 4 paddedDims bytes a row, accumulators of 4 paddedDims (adagrad), 8 (rowwise) or 0.
// Limits: parameterLimits; a table and everything else in its memory at most 4 GiB.

import { MillraceError } from "#base/errors";
import { roundUp } from "./kernel-memory.ts";

/** In the order of their codes in the header. */
export const optimizers = ["sgd", "adagrad", "rowwise-adagrad"] as const;
export type Optimizer = (typeof optimizers)[number];

export const parameterLimits = { dimsMax: 256, capacityRowsMax: 2 ** 26 } as const;

export interface ParameterShape {
  /** Numbers of a row. */
  readonly dims: number;
  /** So many leading numbers begin at random and have the rate and l2 called `factors`; a multiple of 4, 0 to dims. The others are `linear`. */
  readonly factors: number;
  /** Rows it can hold; a full table refuses new keys. */
  readonly capacityRows: number;
  /** Of the initial values and of the index. */
  readonly seed: bigint;
  /** Factors begin uniformly in [-initialScale, initialScale). */
  readonly initialScale: number;
  readonly optimizer: Optimizer;
  /** Step size. */
  readonly rate: { readonly linear: number; readonly factors: number };
  /** Weight decay, added to the gradient before the accumulator (coupled), on the rows of a step only. */
  readonly l2: { readonly linear: number; readonly factors: number };
  /** First value of every accumulator. */
  readonly initialAccumulator: number;
}

/** "PRT1" */
export const parameterMagic = 0x3154_5250;
/** Which u32 of the header holds what. */
export const parameterWord = {
  indexFrom: 2,
  rowsFrom: 3,
  accumulatorsFrom: 4,
  rowBytes: 5,
  dims: 6,
  factors: 7,
  count: 8,
  capacityRows: 9,
  seedLow: 10,
  seedHigh: 11,
  initialScale: 12,
  initialAccumulator: 13,
  optimizer: 14,
  accumulatorBytes: 15,
  refused: 16,
  skipped: 17,
  unsteady: 18,
  paddedDims: 19,
  rateFactors: 20,
  rateLinear: 21,
  l2Factors: 22,
  l2Linear: 23,
  epoch: 24,
  pendingSlots: 25,
  pendingCount: 26,
  pendingRestOnly: 27,
  pendingValues: 28,
} as const;

/** Bytes of a row before its values: seq, touches, key. */
export const parameterRowHead = 16;
const headerBytes = 128;
/** Kernels touch up to 260 bytes from a row's or accumulator's address on to have its lines on their way. */
const tailBytes = 320;

interface Places {
  readonly slots: number;
  readonly paddedDims: number;
  readonly rowBytes: number;
  readonly accumulatorBytes: number;
  readonly rowsFrom: number;
  readonly accumulatorsFrom: number;
  readonly bytes: number;
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

function placesOf(shape: ParameterShape): Places {
  const refuse = (what: string, todo: string): never => {
    throw new MillraceError("invalid", `a parameter table with ${what}`, { todo });
  };
  const { dims, factors, capacityRows, seed, initialScale, optimizer, rate, l2, initialAccumulator } = shape;
  if (!isWhole(dims, 1, parameterLimits.dimsMax)) refuse(`rows of ${dims} numbers`, `use 1 to ${parameterLimits.dimsMax}`);
  if (!isWhole(factors, 0, dims) || factors % 4 !== 0) refuse(`${factors} factors of ${dims} numbers`, "use a multiple of 4, at most dims");
  if (!isWhole(capacityRows, 1, parameterLimits.capacityRowsMax)) refuse(`${capacityRows} rows`, `use 1 to ${parameterLimits.capacityRowsMax}`);
  if (seed < 0n || seed >= 1n << 64n) refuse("a seed outside 64 bits", "use 0 to 2^64 - 1");
  if (!optimizers.includes(optimizer)) refuse(`the optimizer ${String(optimizer)}`, `use one of ${optimizers.join(", ")}`);
  for (const [name, value] of Object.entries({
    initialScale,
    initialAccumulator,
    rateLinear: rate.linear,
    rateFactors: rate.factors,
    l2Linear: l2.linear,
    l2Factors: l2.factors,
  }))
    if (!(value >= 0 && value <= 1e6)) refuse(`${name} ${value}`, "use a number from 0 to 1,000,000");
  const paddedDims = roundUp(dims, 4);
  const slots = Math.max(16, 2 ** Math.ceil(Math.log2(Math.ceil(capacityRows / 0.75))));
  const rowBytes = parameterRowHead + 4 * paddedDims;
  const accumulatorBytes = optimizer === "adagrad" ? 4 * paddedDims : optimizer === "rowwise-adagrad" ? 8 : 0;
  const rowsFrom = headerBytes + slots * 8;
  const accumulatorsFrom = roundUp(rowsFrom + capacityRows * rowBytes, 64);
  return {
    slots,
    paddedDims,
    rowBytes,
    accumulatorBytes,
    rowsFrom,
    accumulatorsFrom,
    bytes: roundUp(accumulatorsFrom + capacityRows * accumulatorBytes + tailBytes, 64),
  };
}

/** Bytes to reserve for a table of this shape. Throws `invalid` for a shape that cannot be. */
export function parameterTableBytes(shape: ParameterShape): number {
  return placesOf(shape).bytes;
}

/** Makes the bytes at `at` (64-aligned) an empty table. Rows are not touched, so pages are taken only as rows come. */
export function formatParameterTable(words: Uint32Array, at: number, shape: ParameterShape): void {
  const { slots, paddedDims, rowBytes, accumulatorBytes, rowsFrom, accumulatorsFrom } = placesOf(shape);
  const head = at / 4;
  words.fill(0, head, head + rowsFrom / 4);
  const real = new Float32Array(1);
  const bits = new Uint32Array(real.buffer);
  const bitsOf = (value: number): number => {
    real[0] = value;
    return bits[0]!;
  };
  const word = parameterWord;
  words[head + 1] = slots - 1;
  words[head + word.indexFrom] = headerBytes;
  words[head + word.rowsFrom] = rowsFrom;
  words[head + word.accumulatorsFrom] = accumulatorsFrom;
  words[head + word.rowBytes] = rowBytes;
  words[head + word.dims] = shape.dims;
  words[head + word.factors] = shape.factors;
  words[head + word.capacityRows] = shape.capacityRows;
  words[head + word.seedLow] = Number(shape.seed & 0xffff_ffffn);
  words[head + word.seedHigh] = Number(shape.seed >> 32n);
  words[head + word.initialScale] = bitsOf(shape.initialScale);
  words[head + word.initialAccumulator] = bitsOf(shape.initialAccumulator);
  words[head + word.optimizer] = optimizers.indexOf(shape.optimizer);
  words[head + word.accumulatorBytes] = accumulatorBytes;
  words[head + word.paddedDims] = paddedDims;
  words[head + word.rateFactors] = bitsOf(shape.rate.factors);
  words[head + word.rateLinear] = bitsOf(shape.rate.linear);
  words[head + word.l2Factors] = bitsOf(shape.l2.factors);
  words[head + word.l2Linear] = bitsOf(shape.l2.linear);
  // Last: whoever attaches looks for it.
  Atomics.store(words, head, parameterMagic);
}
