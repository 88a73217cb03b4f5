// The settings of an optimizer, and the bytes of its state table in a kernel memory. Layout and formulae: kernels/optimizers.ts.
// Why here and not with the face (src/params/optimizer): the kernels' suite makes tables too.
// Cost: a row of d numbers (padded to d', a multiple of 4) takes 16 bytes + AdaGrad 4 d', Adam and FTRL 8 d', row-wise AdaGrad nothing more; 11.2 of index, 1 of uses. SGD keeps nothing.
// Limits: optimizerLimits; a table and everything else in its memory at most 4 GiB.

import { MillraceError } from "#base/errors";
import { roundUp } from "./kernel-memory.ts";

export const optimizerLimits = { dimMax: 1_024, capacityRowsMax: 2 ** 28, beta2Max: 0.9999 } as const;

/** In the order of their codes. */
export const optimizerKinds = ["sgd", "adagrad", "rowwise-adagrad", "adam", "ftrl", "group-ftrl"] as const;
export type OptimizerKind = (typeof optimizerKinds)[number];

/** Rows decay only when they are touched. */
export interface WeightDecay {
  readonly rate: number;
  /** `coupled`: rate x weight is added to the gradient, before accumulator and step alike. `decoupled`: the step takes learning rate x rate x weight off as well. */
  readonly how: "coupled" | "decoupled";
}

/** Numbers are those of one step; sources at the formulae. All from 0 to 1e6; what divides must be above 0 where said. */
export type OptimizerSettings =
  | { readonly kind: "sgd"; readonly rate: number; readonly decay?: WeightDecay }
  | {
      readonly kind: "adagrad" | "rowwise-adagrad";
      readonly rate: number;
      /** First value of an accumulator. Default 0.1; it or epsilon above 0. */
      readonly initialAccumulator?: number;
      /** Added to the root. Default 1e-8. */
      readonly epsilon?: number;
      readonly decay?: WeightDecay;
    }
  | {
      readonly kind: "adam";
      readonly rate: number;
      /** Below 1. Default 0.9. */
      readonly beta1?: number;
      /** At most optimizerLimits.beta2Max. Default 0.999. */
      readonly beta2?: number;
      /** "Epsilon hat": added to the root of the uncorrected v. Above 0. Default 1e-8. */
      readonly epsilon?: number;
      readonly decay?: WeightDecay;
    }
  | {
      readonly kind: "ftrl" | "group-ftrl";
      /** Step size. */
      readonly alpha: number;
      /** Default 1; it or initialAccumulator above 0. */
      readonly beta?: number;
      /** A number (group: a row) whose z is no longer than this is 0. Default 0. */
      readonly l1?: number;
      /** Default 0. */
      readonly l2?: number;
      /** First n of a row. Default 0. */
      readonly initialAccumulator?: number;
    };

export interface OptimizerShape {
  /** Numbers of a row, 1 to 1,024. */
  readonly dim: number;
  /** Rows whose state is kept; the coldest leave. SGD: 0. */
  readonly capacityRows: number;
  readonly settings: OptimizerSettings;
}

/** "OPS1" */
export const optimizerMagic = 0x3153_504f;
/** Which u32 of the header holds what. */
export const optimizerWord = {
  kind: 1,
  dim: 2,
  paddedDim: 3,
  capacityRows: 4,
  rows: 5,
  hand: 6,
  rowBytes: 7,
  places: 8,
  indexFrom: 9,
  usesFrom: 10,
  rowsFrom: 11,
  correctionsFrom: 12,
  corrections: 13,
  initial: 14,
  rate: 15,
  beta1: 16,
  rest1: 17,
  beta2: 18,
  rest2: 19,
  epsilon: 20,
  coupled: 21,
  decoupled: 22,
  l1: 23,
  l2: 24,
  beta: 25,
  evicted: 26,
  skipped: 27,
  unkept: 28,
  missed: 29,
} as const;

export const optimizerHeaderBytes = 128;
/** Of a row before its vectors: key, t, the accumulator of row-wise AdaGrad. */
export const optimizerRowHead = 16;
/** Vectors of a row's state, by kind. */
const vectorsOf = [0, 1, 0, 2, 2, 2] as const;
/** Places of the index a row. */
const placesPerRow = 1.4;
/** Kernels touch up to a line behind a place of the index or a row. */
const tailBytes = 64;

function refuse(what: string, todo: string): never {
  throw new MillraceError("invalid", `an optimizer with ${what}`, { todo });
}

interface Checked {
  readonly kind: number;
  readonly initial: number;
  readonly rate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly coupled: number;
  readonly decoupled: number;
  readonly l1: number;
  readonly l2: number;
  readonly beta: number;
}

function checked(settings: OptimizerSettings): Checked {
  const kind = optimizerKinds.indexOf(settings.kind);
  if (kind < 0) refuse(`the kind ${String(settings.kind)}`, `use one of ${optimizerKinds.join(", ")}`);
  const decay = "decay" in settings ? settings.decay : undefined;
  const all = {
    kind,
    initial: ("initialAccumulator" in settings ? settings.initialAccumulator : undefined) ?? (settings.kind.endsWith("adagrad") ? 0.1 : 0),
    rate: "alpha" in settings ? settings.alpha : settings.rate,
    beta1: ("beta1" in settings ? settings.beta1 : undefined) ?? 0.9,
    beta2: ("beta2" in settings ? settings.beta2 : undefined) ?? 0.999,
    epsilon: ("epsilon" in settings ? settings.epsilon : undefined) ?? 1e-8,
    coupled: decay?.how === "coupled" ? decay.rate : 0,
    decoupled: decay?.how === "decoupled" ? decay.rate : 0,
    l1: ("l1" in settings ? settings.l1 : undefined) ?? 0,
    l2: ("l2" in settings ? settings.l2 : undefined) ?? 0,
    beta: ("beta" in settings ? settings.beta : undefined) ?? 1,
  };
  for (const [name, value] of Object.entries(all)) if (!(value >= 0 && value <= 1e6)) refuse(`${name} ${value}`, "use a number from 0 to 1,000,000");
  if (decay !== undefined && decay.how !== "coupled" && decay.how !== "decoupled") refuse("a decay of no kind", "use coupled or decoupled");
  const above = (value: number, name: string): void => {
    if (Math.fround(value) <= 0) refuse(`${name} of 0`, "use a number above 0 that a float can hold");
  };
  above(all.rate, "a rate (alpha)");
  if (settings.kind === "adagrad" || settings.kind === "rowwise-adagrad") above(all.initial + all.epsilon, "initialAccumulator and epsilon");
  if (settings.kind === "adam") {
    above(all.epsilon, "an epsilon");
    if (all.beta1 >= 1 || all.beta2 > optimizerLimits.beta2Max) {
      refuse(`beta1 ${all.beta1} and beta2 ${all.beta2}`, `keep beta1 below 1 and beta2 at most ${optimizerLimits.beta2Max}`);
    }
  }
  // Else nothing divides, and no z can stand for the weights of a row that has no state.
  if ("alpha" in settings) above(all.initial + all.beta, "beta and initialAccumulator");
  return all;
}

/** What Adam multiplies m with at step 1, 2, ...: until it no longer differs from the rate. */
function correctionsOf(rate: number, beta1: number, beta2: number): Float32Array {
  const list: number[] = [];
  for (let power1 = beta1, power2 = beta2; ; power1 *= beta1, power2 *= beta2) {
    list.push((rate * Math.sqrt(1 - power2)) / (1 - power1));
    if (power1 < 2 ** -26 && power2 < 2 ** -26) return Float32Array.from(list);
  }
}

interface Places {
  readonly paddedDim: number;
  readonly rowBytes: number;
  readonly places: number;
  readonly usesFrom: number;
  readonly indexFrom: number;
  readonly rowsFrom: number;
  readonly bytes: number;
}

function placesOf({ dim, capacityRows, settings }: OptimizerShape, corrections: number): Places {
  if (!Number.isInteger(dim) || dim < 1 || dim > optimizerLimits.dimMax) refuse(`rows of ${dim} numbers`, `use 1 to ${optimizerLimits.dimMax}`);
  const least = settings.kind === "sgd" ? 0 : 1;
  const most = settings.kind === "sgd" ? 0 : optimizerLimits.capacityRowsMax;
  if (!Number.isInteger(capacityRows) || capacityRows < least || capacityRows > most) refuse(`state of ${capacityRows} rows`, `use ${least} to ${most}`);
  const paddedDim = roundUp(dim, 4);
  const rowBytes = optimizerRowHead + 4 * paddedDim * vectorsOf[optimizerKinds.indexOf(settings.kind)]!;
  const places = Math.ceil(capacityRows * placesPerRow) + 1;
  const usesFrom = optimizerHeaderBytes + roundUp(4 * corrections, 64);
  const indexFrom = usesFrom + roundUp(capacityRows, 64);
  const rowsFrom = indexFrom + roundUp(8 * places, 64);
  return { paddedDim, rowBytes, places, usesFrom, indexFrom, rowsFrom, bytes: roundUp(rowsFrom + rowBytes * capacityRows + tailBytes, 64) };
}

function correctionsFor(all: Checked, kind: OptimizerKind): Float32Array {
  return kind === "adam" ? correctionsOf(all.rate, all.beta1, all.beta2) : new Float32Array(0);
}

/** Bytes to reserve for a table of this shape. Throws `invalid` for a shape that cannot be. */
export function optimizerTableBytes(shape: OptimizerShape): number {
  return placesOf(shape, correctionsFor(checked(shape.settings), shape.settings.kind).length).bytes;
}

/** Makes the bytes at `at` (64-aligned) an empty table. Rows are not touched, so pages are taken only as rows come. */
export function formatOptimizerTable(words: Uint32Array, at: number, shape: OptimizerShape): void {
  const all = checked(shape.settings);
  const corrections = correctionsFor(all, shape.settings.kind);
  const { paddedDim, rowBytes, places, usesFrom, indexFrom, rowsFrom } = placesOf(shape, corrections.length);
  const head = at / 4;
  const word = optimizerWord;
  words.fill(0, head, head + rowsFrom / 4);
  words[head + word.kind] = all.kind;
  words[head + word.dim] = shape.dim;
  words[head + word.paddedDim] = paddedDim;
  words[head + word.capacityRows] = shape.capacityRows;
  words[head + word.rowBytes] = rowBytes;
  words[head + word.places] = places;
  words[head + word.usesFrom] = usesFrom;
  words[head + word.indexFrom] = indexFrom;
  words[head + word.rowsFrom] = rowsFrom;
  words[head + word.correctionsFrom] = optimizerHeaderBytes;
  words[head + word.corrections] = corrections.length;
  const numbers = new Float32Array(words.buffer, words.byteOffset + at, optimizerHeaderBytes / 4);
  numbers[word.initial] = all.initial;
  numbers[word.rate] = all.rate;
  numbers[word.beta1] = all.beta1;
  numbers[word.rest1] = 1 - all.beta1;
  numbers[word.beta2] = all.beta2;
  numbers[word.rest2] = 1 - all.beta2;
  numbers[word.epsilon] = all.epsilon;
  numbers[word.coupled] = all.coupled;
  numbers[word.decoupled] = all.rate * all.decoupled;
  numbers[word.l1] = all.l1;
  numbers[word.l2] = all.l2;
  numbers[word.beta] = all.beta;
  new Float32Array(words.buffer, words.byteOffset + at + optimizerHeaderBytes, corrections.length).set(corrections);
  words[head] = optimizerMagic;
}

/** Words of the merge table for a batch of `count` keys: a power of two. */
export function optimizerMergeWords(count: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, 2 * count)));
}

/** Working space of optimizerStep for `count` keys: a word, a spare row with its weights, 16 bytes and a padded row a key. */
export function optimizerWorkBytes(dim: number, count: number): number {
  const sumBytes = 4 * roundUp(dim, 4);
  return 64 + optimizerRowHead + 3 * sumBytes + count * (16 + sumBytes);
}
