// The floor of a scan: adds up a block of f32 and nothing else. Only benches use it; it is a binary of its own.
// Why eight streams: this is the fastest order found on the machines at hand (1 stream 5.3 ms, 4 streams 3.7, 8 and 16 streams 3.5 for
// 51.2 MB, one core, one run), and a floor that is not the fastest would flatter the kernels that are held against it.

/** Sum of the f32 in `bytes` bytes (a multiple of 512) at `at`. */
export function sum(at: usize, bytes: usize): f32 {
  const part = bytes >> 3;
  let p0 = at;
  let p1 = p0 + part;
  let p2 = p1 + part;
  let p3 = p2 + part;
  let p4 = p3 + part;
  let p5 = p4 + part;
  let p6 = p5 + part;
  let p7 = p6 + part;
  const end = p1;
  let a0 = f32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let a4 = a0;
  let a5 = a0;
  let a6 = a0;
  let a7 = a0;
  while (p0 < end) {
    a0 = add64(a0, p0);
    a1 = add64(a1, p1);
    a2 = add64(a2, p2);
    a3 = add64(a3, p3);
    a4 = add64(a4, p4);
    a5 = add64(a5, p5);
    a6 = add64(a6, p6);
    a7 = add64(a7, p7);
    p0 += 64;
    p1 += 64;
    p2 += 64;
    p3 += 64;
    p4 += 64;
    p5 += 64;
    p6 += 64;
    p7 += 64;
  }
  const all = f32x4.add(f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)), f32x4.add(f32x4.add(a4, a5), f32x4.add(a6, a7)));
  return f32x4.extract_lane(all, 0) + f32x4.extract_lane(all, 1) + f32x4.extract_lane(all, 2) + f32x4.extract_lane(all, 3);
}

/** Four vectors onto one accumulator, as a tree: one addition on the accumulator's chain. */
function add64(sum: v128, at: usize): v128 {
  const low = f32x4.add(v128.load(at), v128.load(at, 16));
  const high = f32x4.add(v128.load(at, 32), v128.load(at, 48));
  return f32x4.add(sum, f32x4.add(low, high));
}
