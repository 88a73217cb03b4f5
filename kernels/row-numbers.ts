// Rows of f32, one number after another: copied, summed, looked through for what is not finite.
// Invariant: no fused multiply-add and a fixed order of every sum: all variants and the scalar twins give the same bits.

/** (a + b) + (c + d) of the four lanes. */
export function sumFour(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** Copies `dim` numbers and nothing behind them. */
export function copyNumbers(to: usize, from: usize, dim: u32): void {
  const bytes = (<usize>dim) << 2;
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(to + at, v128.load(from + at));
  for (; at < bytes; at += 4) store<u32>(to + at, load<u32>(from + at));
}

/** Whether all of `bytes` (a multiple of 16) are finite: x - x is 0 for those alone. */
export function allFinite(at: usize, bytes: usize): bool {
  let differences = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) {
    const x = v128.load(at + i);
    differences = f32x4.add(differences, f32x4.sub(x, x));
  }
  return sumFour(differences) == 0;
}
