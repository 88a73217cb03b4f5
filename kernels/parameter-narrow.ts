// Rows of f32 made narrow for serving: f16, and int8 with a scale a row. Input and output are batches that `shardPull` left in the lane, in the caches still.
// f16: to the nearest, ties to even; beyond 65,504 infinite. int8: scale = largest magnitude / 127, numbers = nearest(x * (127 / largest)), ties to even;
// a row whose largest magnitude is at most 1e-30 has scale 0 and zeros. So an error is at most half a scale, and a little: two roundings of 2^-24.

/** Bits of one f16. */
function halfOf(b: u32): u32 {
  const sign = (b >> 16) & 0x8000;
  const magnitude = b & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) return (sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13)) & 0xffff;
  // Subnormal: in units of 2^-24, which is the last bit of 0.5.
  return sign | (reinterpret<u32>(reinterpret<f32>(magnitude) + <f32>0.5) - 0x3f000000);
}

/** `count` numbers to f16, two bytes each. */
export function narrowHalves(from: usize, count: u32, to: usize): void {
  let i: u32 = 0;
  for (; i + 4 <= count; i += 4) {
    const b = v128.load(from + ((<usize>i) << 2));
    const magnitude = v128.and(b, i32x4.splat(0x7fffffff));
    const sign = v128.and(i32x4.shr_u(b, 16), i32x4.splat(0x8000));
    const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1));
    const normal = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, i32x4.splat(0xfff - 0x38000000)), odd), 13);
    const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
    let half = v128.bitselect(subnormal, normal, i32x4.gt_s(i32x4.splat(0x38800000), magnitude));
    half = v128.bitselect(i32x4.splat(0x7c00), half, i32x4.ge_s(magnitude, i32x4.splat(0x47800000)));
    half = v128.bitselect(i32x4.splat(0x7e00), half, i32x4.gt_s(magnitude, i32x4.splat(0x7f800000)));
    const whole = v128.or(half, sign);
    v128.store_lane<u64>(to + ((<usize>i) << 1), v128.shuffle<u16>(whole, whole, 0, 2, 4, 6, 0, 2, 4, 6), 0);
  }
  for (; i < count; i++) store<u16>(to + ((<usize>i) << 1), <u16>halfOf(load<u32>(from + ((<usize>i) << 2))));
}

/** `rows` rows of `width` numbers to int8; an f32 scale a row to `scales`. */
export function narrowBytes(from: usize, rows: u32, width: u32, scales: usize, to: usize): void {
  for (let row: u32 = 0; row < rows; row++) {
    const own = from + ((<usize>(row * width)) << 2);
    const out = to + <usize>(row * width);
    let mosts = f32x4.splat(0);
    let i: u32 = 0;
    for (; i + 4 <= width; i += 4) mosts = f32x4.max(mosts, f32x4.abs(v128.load(own + ((<usize>i) << 2))));
    let most = max<f32>(
      max<f32>(f32x4.extract_lane(mosts, 0), f32x4.extract_lane(mosts, 1)),
      max<f32>(f32x4.extract_lane(mosts, 2), f32x4.extract_lane(mosts, 3)),
    );
    for (; i < width; i++) most = max<f32>(most, abs<f32>(load<f32>(own + ((<usize>i) << 2))));
    const flat = !(most > 1e-30);
    const inverse: f32 = flat ? 0 : <f32>127 / most;
    store<f32>(scales + ((<usize>row) << 2), flat ? 0 : most / <f32>127);
    const inverses = f32x4.splat(inverse);
    for (i = 0; i + 4 <= width; i += 4) {
      const x = f32x4.nearest(f32x4.mul(v128.load(own + ((<usize>i) << 2)), inverses));
      const whole = i32x4.min_s(i32x4.max_s(i32x4.trunc_sat_f32x4_s(x), i32x4.splat(-127)), i32x4.splat(127));
      v128.store_lane<u32>(out + <usize>i, v128.shuffle<u8>(whole, whole, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12), 0);
    }
    for (; i < width; i++) {
      const x = nearest<f32>(load<f32>(own + ((<usize>i) << 2)) * inverse);
      store<i8>(out + <usize>i, <i8>max<i32>(-127, min<i32>(127, <i32>x)));
    }
  }
}
