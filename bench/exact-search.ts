// Exact search over 200,000 x 64 f32 vectors, held against the floor of memory and against plain JavaScript.
// Arithmetic: 200,000 x 64 x 4 B = 51.2 MB a query; a core that reads 15 GB/s needs 3.4 ms for them, whatever it computes.
// Floor: adding up the same 51.2 MB by the same technology (WebAssembly SIMD128, kernels/memory-floor.ts), in the fastest order we found: eight
// streams. Peer: a scalar loop over a plain Float32Array with a typed heap, the fastest form we found.
// Aggregation: every round runs all of them once, in an order that turns; ratios are taken between the minima over all rounds (the machine may
// be shared: the minimum is the run that was disturbed least), and beside them the median of the ratios within each round.

import { Prng } from "#base/prng";
import { readWasmFile } from "#platform/wasm-file";
import { createF32Block, createTopK, f32RowBytes, searchByDot, type TopK, writeF32Rows } from "#kernel/dot-top-k";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernelReport, kernels, loadVariant } from "#kernel/kernels";
import { webAssembly, type WasmMemory } from "#kernel/web-assembly";
import { alternatingRounds, Checksum, median, type Scenario } from "./harness.ts";

const k = 100;
const dims = 64;

/** Whole rows of unit length in random directions, row-major. */
function unitRows(prng: Prng, count: number): Float32Array {
  const rows = new Float32Array(count * dims);
  for (let row = 0; row < count; row++) {
    let square = 0;
    for (let i = row * dims; i < (row + 1) * dims; i++) {
      // The sum of two uniform numbers less one: near enough to normal, and quick to draw.
      const value = (prng.u32() + prng.u32()) / 2 ** 32 - 1;
      rows[i] = value;
      square += value * value;
    }
    const scale = 1 / Math.sqrt(square);
    for (let i = row * dims; i < (row + 1) * dims; i++) rows[i]! *= scale;
  }
  return rows;
}

/** The peer: plain JavaScript, four rows at once so that one load of the query serves four, one comparison a row with the heap's root. */
function plainSearch(rows: Float32Array, query: Float32Array, into: TopK): void {
  into.scores.fill(-Infinity);
  into.rows.fill(0xffffffff);
  into.size = k;
  // In f64, or each use would widen it again.
  const wide = Float64Array.from(query);
  let root = -Infinity;
  const count = rows.length / dims;
  for (let row = 0; row < count; row += 4) {
    const at0 = row * dims;
    const at1 = at0 + dims;
    const at2 = at1 + dims;
    const at3 = at2 + dims;
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    for (let i = 0; i < dims; i++) {
      const x = wide[i]!;
      a += rows[at0 + i]! * x;
      b += rows[at1 + i]! * x;
      c += rows[at2 + i]! * x;
      d += rows[at3 + i]! * x;
    }
    if (a > root) root = replaceRoot(into, a, row);
    if (b > root) root = replaceRoot(into, b, row + 1);
    if (c > root) root = replaceRoot(into, c, row + 2);
    if (d > root) root = replaceRoot(into, d, row + 3);
  }
}

/** Puts an entry in the place of the worst of a full heap; returns the new worst score. */
function replaceRoot({ scores, rows }: TopK, score: number, row: number): number {
  let hole = 0;
  for (;;) {
    let child = 2 * hole + 1;
    if (child >= k) break;
    if (child + 1 < k && scores[child + 1]! < scores[child]!) child++;
    if (scores[child]! >= score) break;
    scores[hole] = scores[child]!;
    rows[hole] = rows[child]!;
    hole = child;
  }
  scores[hole] = score;
  rows[hole] = row;
  return scores[0]!;
}

/** Exact scores in f64, of all rows: the truth. */
function exactScores(rows: Float32Array, query: Float32Array): Float64Array {
  const scores = new Float64Array(rows.length / dims);
  for (let row = 0; row < scores.length; row++) {
    let sum = 0;
    for (let i = 0; i < dims; i++) sum += rows[row * dims + i]! * query[i]!;
    scores[row] = sum;
  }
  return scores;
}

/** Share of the answers that belong to the true best k. Scores nearer than f32 can tell apart count as equal. */
function recall(top: TopK, exact: Float64Array): number {
  const bar = exact.toSorted().at(-k)! - 1e-6;
  const rows = new Set(top.rows.subarray(0, top.size));
  let right = 0;
  for (const row of rows) if (exact[row]! >= bar) right++;
  return right / k;
}

function floorOver(memory: WasmMemory): (at: number, bytes: number) => number {
  const bytes = readWasmFile(new URL("../kernels/build/memory-floor.simd128.wasm", import.meta.url));
  if (bytes === undefined || webAssembly === undefined) throw new Error("the floor kernel is not built: npm install builds it");
  const { exports } = new webAssembly.Instance(new webAssembly.Module(bytes), { env: { memory } });
  return exports["sum"] as (at: number, bytes: number) => number;
}

export const scenario: Scenario = {
  name: "exact-search",
  head:
    "one query at a time over 200,000 x 64 f32 unit vectors (51.2 MB, warm, beyond L2), top 100 by inner product, one core, wall time; " +
    "64 queries in turn, nothing durable; floor = adding up the same bytes in WebAssembly SIMD",
  async run({ quick, report, log }) {
    const count = quick ? 20_000 : 200_000;
    const rounds = quick ? 12 : 120;
    const prng = new Prng("exact-search");
    const rows = unitRows(prng, count);
    const queries = Array.from({ length: quick ? 4 : 64 }, () => unitRows(prng, 1));
    const bytes = rows.byteLength;

    // One memory, so that all of them read the very same pages.
    const live = kernels();
    const memory = KernelMemory.create({ dataBytes: count * f32RowBytes(dims) }, live);
    const block = createF32Block(memory, count, dims);
    writeF32Rows(block, 0, rows);
    const simd128 = loadVariant("simd128");
    const plainSimdBlock = typeof simd128 === "string" ? undefined : { ...block, memory: KernelMemory.attach(memory.memory, 0, simd128) };
    const sum = floorOver(memory.memory);
    const top = createTopK(k);
    const plainTop = createTopK(k);

    // Answers first: every query, every way.
    const checksum = new Checksum();
    const recalls: number[] = [];
    for (const query of queries) {
      const exact = exactScores(rows, query);
      recalls.push(recall(searchByDot(block, query, top), exact));
      checksum.add(top.rows.toSorted());
      plainSearch(rows, query, plainTop);
      if (recall(plainTop, exact) < 1) throw new Error("the plain JavaScript peer answers wrongly: its time would be no peer");
      if (plainSimdBlock !== undefined && recall(searchByDot(plainSimdBlock, query, top), exact) < 1) throw new Error("the SIMD128 kernel answers wrongly");
    }
    if (Math.min(...recalls) < 1) throw new Error(`recall ${Math.min(...recalls)}: an exact search must find all`);
    let total = 0;
    for (const value of rows) total += value;
    if (Math.abs(sum(block.at, bytes) - total) > 1) throw new Error("the floor kernel adds wrongly: its time would be no floor");
    log(`checked  ${queries.length} queries x 3 ways against exact f64 scores; checksum of the answers ${checksum.hex()}`);

    let turn = 0;
    const next = (): Float32Array => queries[turn++ % queries.length]!;
    const ways: Record<"floor" | "f32" | "plain", () => unknown> & { simd128?: () => unknown } = {
      floor: () => sum(block.at, bytes),
      f32: () => searchByDot(block, next(), top),
      ...(plainSimdBlock === undefined ? {} : { simd128: () => searchByDot(plainSimdBlock, next(), top) }),
      plain: () => plainSearch(rows, next(), plainTop),
    };
    // V8 compiles in the background: let it finish.
    await alternatingRounds(quick ? 4 : 10, ways as Record<string, () => unknown>);
    const { floor, f32, plain, simd128: withoutRelaxed } = await alternatingRounds(rounds, ways);

    const least = (way: { wallMs: number[] }): number => Math.min(...way.wallMs);
    const ratios = (a: { wallMs: number[] }, b: { wallMs: number[] }): number => median(a.wallMs.map((ms, round) => ms / b.wallMs[round]!));
    const gigabytes = (ms: number): string => `${(bytes / ms / 1e6).toFixed(1)} GB/s`;
    const { live: variant, refused } = kernelReport();
    const variantDetail = `live variant ${variant}${refused.map(({ variant: other, reason }) => `; ${other}: ${reason}`).join("")}`;
    const floorPeer = `floor: ${least(floor).toFixed(2)} ms`;

    report({
      metric: "f32_ms_min",
      value: least(f32),
      unit: "ms",
      better: "lower",
      peer: floorPeer,
      detail: `${variantDetail}; ${gigabytes(least(f32))}; ${rounds} rounds`,
    });
    report({ metric: "f32_ms_p50", value: median(f32.wallMs), unit: "ms", better: "lower" });
    report({ metric: "floor_ms_min", value: least(floor), unit: "ms", better: "lower", detail: gigabytes(least(floor)) });
    report({ metric: "floor_ms_p50", value: median(floor.wallMs), unit: "ms", better: "lower" });
    report({
      metric: "f32_ratio_to_memory_floor",
      value: least(f32) / least(floor),
      unit: "ratio",
      better: "lower",
      target: 1.5,
      peer: floorPeer,
      detail: `minimum over minimum of ${rounds} alternating rounds`,
    });
    report({
      metric: "f32_ratio_to_memory_floor_p50",
      value: ratios(f32, floor),
      unit: "ratio",
      better: "lower",
      detail: "median of the ratios within a round",
    });
    if (withoutRelaxed !== undefined) {
      report({
        metric: "simd128_ratio_to_memory_floor",
        value: least(withoutRelaxed) / least(floor),
        unit: "ratio",
        better: "lower",
        detail: "without relaxed SIMD",
      });
    }
    report({
      metric: "speedup_vs_js",
      value: least(plain) / least(f32),
      unit: "ratio",
      better: "higher",
      target: 2.5,
      peer: `plain JS: ${least(plain).toFixed(2)} ms`,
      detail: "minimum over minimum, same rounds",
    });
    report({ metric: "speedup_vs_js_p50", value: ratios(plain, f32), unit: "ratio", better: "higher", detail: "median of the ratios within a round" });
    report({ metric: "recall_at_100", value: Math.min(...recalls), unit: "share", better: "higher", target: 1, detail: `worst of ${queries.length} queries` });
  },
};
