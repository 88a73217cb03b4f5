// Codes of 4 bits for two dimensions each, of what rows differ from their centroid by. Layout of codes and codebook: vector-ivf.ts.

/** The nearest of 16 points of the codebook entry to (x, y); of equal ones the lowest. Its squared distance goes to `out`. */
function nearest(entry: usize, x: f32, y: f32, out: usize): u32 {
  const xs = f32x4.splat(x);
  const ys = f32x4.splat(y);
  let best = f32x4.splat(Infinity);
  let at = i32x4.splat(0);
  for (let part: usize = 0; part < 64; part += 16) {
    const dx = f32x4.sub(v128.load(entry + part), xs);
    const dy = f32x4.sub(v128.load(entry + part, 64), ys);
    const far = f32x4.add(f32x4.mul(dx, dx), f32x4.mul(dy, dy));
    const under = f32x4.lt(far, best);
    best = v128.bitselect(far, best, under);
    at = v128.bitselect(i32x4.splat(<i32>(part >> 2)), at, under);
  }
  let least = f32x4.extract_lane(best, 0);
  let code = <u32>i32x4.extract_lane(at, 0);
  let other = f32x4.extract_lane(best, 1);
  let number = <u32>i32x4.extract_lane(at, 1) + 1;
  if (other < least || (other == least && number < code)) {
    least = other;
    code = number;
  }
  other = f32x4.extract_lane(best, 2);
  number = <u32>i32x4.extract_lane(at, 2) + 2;
  if (other < least || (other == least && number < code)) {
    least = other;
    code = number;
  }
  other = f32x4.extract_lane(best, 3);
  number = <u32>i32x4.extract_lane(at, 3) + 3;
  if (other < least || (other == least && number < code)) {
    least = other;
    code = number;
  }
  store<f32>(out, least);
  return code;
}

/**
 * Writes the codes of the 32 slots of each of `blocks` blocks whose rows lie one behind the other. `lists`: number of the centroid of each block (u32).
 * `errors`: f32 a slot, the squared difference between the row and what its codes say. `scratch`: 8 bytes.
 */
export function codes4Encode(
  rows: usize,
  blocks: u32,
  rowBytes: usize,
  lists: usize,
  centroids: usize,
  book: usize,
  codes: u32,
  out: usize,
  errors: usize,
  scratch: usize,
): void {
  const blockBytes = (<usize>codes) << 4;
  for (let b: u32 = 0; b < blocks; b++) {
    const to = out + blockBytes * <usize>b;
    memory.fill(to, 0, blockBytes);
    const centroid = centroids + rowBytes * <usize>load<u32>(lists + ((<usize>b) << 2));
    for (let slot: u32 = 0; slot < 32; slot++) {
      const row = rows + rowBytes * <usize>((b << 5) + slot);
      const byte = to + <usize>(slot & 15);
      const shift = (slot >> 4) << 2;
      let error: f32 = 0;
      for (let at: usize = 0; at < rowBytes; at += 8) {
        const code = nearest(book + (at << 4), load<f32>(row + at) - load<f32>(centroid + at), load<f32>(row + at, 4) - load<f32>(centroid + at, 4), scratch);
        error += load<f32>(scratch);
        const place = byte + (at << 1);
        store<u8>(place, load<u8>(place) | (code << shift));
      }
      store<f32>(errors + ((((<usize>b) << 5) + <usize>slot) << 2), error);
    }
  }
}

/**
 * One round of k-means for the 16 points of each code, over `count` differences of `rowBytes` (a multiple of 16). `sums`: 48 f64 a code, cleared by the host: first coordinates,
 * second ones, counts. Returns the sum of squared differences to the points they were given to.
 */
export function codes4Learn(differences: usize, count: u32, rowBytes: usize, book: usize, sums: usize, scratch: usize): f64 {
  let error: f64 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const row = differences + rowBytes * <usize>i;
    for (let at: usize = 0; at < rowBytes; at += 8) {
      const x = load<f32>(row + at);
      const y = load<f32>(row + at, 4);
      const code = nearest(book + (at << 4), x, y, scratch);
      const sum = sums + (at >> 3) * 384 + ((<usize>code) << 3);
      store<f64>(sum, load<f64>(sum) + <f64>x);
      store<f64>(sum, load<f64>(sum, 128) + <f64>y, 128);
      store<f64>(sum, load<f64>(sum, 256) + 1, 256);
      error += <f64>load<f32>(scratch);
    }
  }
  return error;
}

/** 1 when all of the numbers are finite. */
export function floatsFinite(at: usize, count: u32): u32 {
  // A number less itself is 0, or no number where it is infinite or none.
  let odd = f32x4.splat(0);
  let i: u32 = 0;
  for (; i + 4 <= count; i += 4) {
    const x = v128.load(at + ((<usize>i) << 2));
    const y = f32x4.sub(x, x);
    odd = v128.or(odd, f32x4.ne(y, y));
  }
  if (v128.any_true(odd)) return 0;
  for (; i < count; i++) {
    const x = load<f32>(at + ((<usize>i) << 2));
    if (!(x - x == 0)) return 0;
  }
  return 1;
}
