// One byte a number for a first look at many vectors: a scale for each dimension, codes for each row, and the query that fits them.
//
// code_j = round(x_j / s_j * 127), s_j = the largest |x_j| of all rows. The scale goes into the query: with q'_j = q_j * s_j and unit = max |q'| / 2047,
// the query's code is round(q'_j / unit) in 16 bits, and q.x is about unit / 127 times the whole-number product of the codes.
// Why a scale for each dimension: one for all loses 2 % of the answers where dimensions differ in size. Why 16 bits a query: they cost nothing in the product.
// Limits: 8,192 dimensions, beyond which the sum of products leaves 32 bits.

const absMask: i32 = 0x7fffffff;
/** Largest code of a query's number. */
const queryMax: f32 = 2047;

/**
 * Raises the `codeBytes` f32 at `scales` to the largest |x| of the live rows in [from, to). Rows with a number that is not finite are passed over.
 * Rows are `rowBytes` apart; `live` 0 = all. Returns how many live rows were passed over.
 */
export function vectorScales(rowsAt: usize, rowBytes: usize, live: usize, from: u32, to: u32, scales: usize): u32 {
  const mask = i32x4.splat(absMask);
  let passedOver: u32 = 0;
  for (let slot = from; slot < to; slot++) {
    if (live && ((load<u32>(live + ((<usize>(slot >> 5)) << 2)) >> (slot & 31)) & 1) == 0) continue;
    const row = rowsAt + rowBytes * <usize>slot;
    // x - x is 0 where x is finite, else NaN.
    let rest = f32x4.splat(0);
    for (let at: usize = 0; at < rowBytes; at += 16) {
      const x = v128.load(row + at);
      rest = f32x4.add(rest, f32x4.sub(x, x));
    }
    if (!i32x4.all_true(f32x4.eq(rest, f32x4.splat(0)))) {
      passedOver += 1;
      continue;
    }
    for (let at: usize = 0; at < rowBytes; at += 16) {
      v128.store(scales + at, f32x4.pmax(v128.load(scales + at), v128.and(v128.load(row + at), mask)));
    }
  }
  return passedOver;
}

/** Sixteenth parts: four numbers as whole ones in [-127, 127]; what is no number, and what has no scale, is 0. */
function codesOf(row: usize, scales: usize): v128 {
  const scale = v128.load(scales);
  const factor = v128.and(f32x4.div(f32x4.splat(127), scale), f32x4.gt(scale, f32x4.splat(0)));
  const scaled = f32x4.nearest(f32x4.mul(v128.load(row), factor));
  return i32x4.max_s(i32x4.min_s(i32x4.trunc_sat_f32x4_s(scaled), i32x4.splat(127)), i32x4.splat(-127));
}

/** Writes the codes of the rows in [from, to), `codeBytes` (a multiple of 16) apart. Numbers beyond their scale are cut to it. May read 48 bytes beyond a row. */
export function vectorCodes(rowsAt: usize, rowBytes: usize, scales: usize, codesAt: usize, codeBytes: usize, from: u32, to: u32): void {
  for (let slot = from; slot < to; slot++) {
    const row = rowsAt + rowBytes * <usize>slot;
    const code = codesAt + codeBytes * <usize>slot;
    for (let at: usize = 0; at < codeBytes; at += 16) {
      // The scales beyond the row's numbers are 0, so whatever stands there becomes 0.
      const x = row + (at << 2);
      const s = scales + (at << 2);
      const low = i16x8.narrow_i32x4_s(codesOf(x, s), codesOf(x + 16, s + 16));
      const high = i16x8.narrow_i32x4_s(codesOf(x + 32, s + 32), codesOf(x + 48, s + 48));
      v128.store(code + at, i8x16.narrow_i16x8_s(low, high));
    }
  }
}

/**
 * Folds the scales into a query: `codeBytes` i16 to `out`. The query holds `rowBytes` of f32. Returns what a whole-number product is to be multiplied with;
 * 0 when the query is zero or not finite.
 */
export function foldQuery(query: usize, rowBytes: usize, scales: usize, codeBytes: usize, out: usize): f32 {
  const mask = i32x4.splat(absMask);
  let most = f32x4.splat(0);
  for (let at: usize = 0; at < rowBytes; at += 16) most = f32x4.max(most, v128.and(f32x4.mul(v128.load(query + at), v128.load(scales + at)), mask));
  const largest: f32 = max(max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)), max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)));
  const factor: f32 = queryMax / largest;
  const usable = largest > 0 && largest < Infinity && factor < Infinity;
  for (let at: usize = 0; at < codeBytes; at += 4) {
    let four = i32x4.splat(0);
    if (usable && at << 2 < rowBytes) {
      const folded = f32x4.mul(f32x4.mul(v128.load(query + (at << 2)), v128.load(scales + (at << 2))), f32x4.splat(factor));
      four = i32x4.trunc_sat_f32x4_s(f32x4.nearest(folded));
    }
    store<i64>(out + (at << 1), i64x2.extract_lane(i16x8.narrow_i32x4_s(four, four), 0));
  }
  return usable ? largest / (queryMax * 127) : 0;
}

/**
 * How far the score of a row by its codes may be from q.x, for every row whose numbers are within their scales: half a step of each number, and what rounding
 * took from the query. A thousandth more covers the rounding of this sum and of the codes. `unit`: what foldQuery returned.
 */
export function marginOf(query: usize, rowBytes: usize, scales: usize, coded: usize, unit: f32): f32 {
  let sum: f64 = 0;
  for (let at: usize = 0; at < rowBytes; at += 4) {
    const folded = <f64>(load<f32>(query + at) * load<f32>(scales + at));
    sum += abs(folded) / 254 + abs(folded - 127.0 * <f64>unit * <f64>load<i16>(coded + (at >> 1)));
  }
  return <f32>(sum * 1.001);
}

/** What f32 rounds away from a product of the query with any row within the scales. */
export function roundingOf(query: usize, rowBytes: usize, scales: usize): f32 {
  let sum: f64 = 0;
  for (let at: usize = 0; at < rowBytes; at += 4) sum += <f64>abs(load<f32>(query + at) * load<f32>(scales + at));
  return <f32>(2 * sum * <f64>roundingShare(rowBytes));
}

/** Relative error of a sum of so many products in four lanes. */
export function roundingShare(rowBytes: usize): f32 {
  return (<f32>((<u32>rowBytes) >> 4) + 16) * 6e-8;
}
