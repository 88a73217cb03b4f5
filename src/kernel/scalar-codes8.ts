// One byte a number, in plain TypeScript: what the scalar twins of exact search and of the index share of kernels/vector-codes8.ts and vector-filter.ts.
// Invariant: codes are those of the kernels; scores and margins but for their last bits. Cost: a loop a number.

const fround = Math.fround;

/** The codes of the query at word `query` to `coded`; returns what a product of codes is to be multiplied with, 0 where the query has no codes. `words`: numbers of the query. */
export function foldQuery(f32: Float32Array, query: number, scales: number, words: number, coded: Int16Array): number {
  let largest = 0;
  for (let i = 0; i < words; i++) largest = Math.max(largest, Math.abs(fround(f32[query + i]! * f32[scales + i]!)));
  const factor = fround(2047 / largest);
  if (!(largest > 0 && largest < Infinity && factor < Infinity)) return 0;
  for (let i = 0; i < words; i++) coded[i] = nearestWhole(fround(fround(f32[query + i]! * f32[scales + i]!) * factor));
  return fround(largest / (2047 * 127));
}

/** The score of the code at byte `code`. */
export function scoreCode(i8: Int8Array, code: number, coded: Int16Array, unit: number): number {
  let sum = 0;
  for (let j = 0; j < coded.length; j++) sum += i8[code + j]! * coded[j]!;
  return fround(fround(sum) * unit);
}

/** `slack` standard deviations of the error of a score by codes. */
export function codeMargin(coded: Int16Array, unit: number, slack: number): number {
  let squares = 0;
  for (const one of coded) squares = fround(squares + fround(one * one));
  return fround(fround(fround(slack) * unit) * fround(Math.sqrt(fround(squares / 12))));
}

/** Nearest whole number, halves to the even one, as the machine rounds. */
export function nearestWhole(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
