// Exact search over 200,000 x 64 f32 vectors, held against the floor of memory, plain JavaScript and two libraries.
// Arithmetic: 200,000 x 64 x 4 B = 51.2 MB a query; a core that reads 15 GB/s needs 3.4 ms for them, whatever it computes. By int8 codes it is 12.8 MB and the
// f32 rows of what comes near; 32 queries together read the rows once, so then arithmetic is the bound: 3.2 M multiply-adds of four numbers a query.
// Floor: adding up the same 51.2 MB of f32 by the same technology (WebAssembly SIMD128, kernels/memory-floor.ts), in the fastest order we found: eight streams. It reads the very
// pages that the searches read. A large third-level cache (105 MB on the machine of the design notes) may hold all of them, for the floor as for the searches; what is
// held against it is then the speed of that cache, which is no easier to reach. All ratios are to this floor, also those of int8.
// Peers: a scalar loop over a plain Float32Array with a typed heap, the fastest form we found; usearch's exactSearch (its JavaScript package, one thread) and faiss's IndexFlatIP
// (its Python package, one thread, a process of its own that runs before the rounds).
// Aggregation: every round runs all of them once, in an order that turns; ratios are taken between the minima over all rounds (the machine may
// be shared: the minimum is the run that was disturbed least), and beside them the median of the ratios within each round. A batch takes as long as ten queries and on a shared
// machine is never left alone, so its ratio is one of CPU times, summed over all rounds; that of the minima stands beside it.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Prng } from "#base/prng";
import { readWasmFile } from "#platform/wasm-file";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernelReport, kernels, loadVariant } from "#kernel/kernels";
import { createVectorBlock, setSlot, vectorBlockBytes, type VectorBlock } from "#kernel/vector-layout";
import { exactSearch, exactSearchBatch, quantise, scalesOf, writeRows } from "#kernel/vector-rows";
import { webAssembly, type WasmMemory } from "#kernel/web-assembly";
import { alternatingRounds, Checksum, median, type Samples, type Scenario } from "./harness.ts";
import { npmPeer, pythonPeer, requirePeer } from "./load/peers.ts";
import { temporaryFolder } from "./load/server-process.ts";

const k = 100;
const dims = 64;
/** Queries of a batch. */
const together = 32;
const usearchVersion = "2.26.2";
const faissPackages = ["faiss-cpu==1.15.1"];

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

/** usearch's own exact search, one query; undefined when it is not there. */
function usearchOver(rows: Float32Array): ((query: Float32Array) => BigUint64Array) | string {
  const peer = npmPeer("usearch", usearchVersion);
  if ("missing" in peer) return peer.missing;
  interface Usearch {
    exactSearch(rows: Float32Array, queries: Float32Array, dims: number, count: number, metric: string, threads: number): { readonly keys: BigUint64Array };
  }
  const { exactSearch: search } = requirePeer<Usearch>("usearch");
  return (query) => search(rows, query, dims, k, "ip", 1).keys;
}

interface Faiss {
  /** Least time of one query, and of a batch by query, ms. */
  readonly oneMs: number;
  readonly batchMs: number;
  /** Answers of the first query. */
  readonly rows: readonly number[];
}

function faissOver(rows: Float32Array, queries: Float32Array): Faiss | string {
  const peer = pythonPeer(faissPackages);
  if ("missing" in peer) return peer.missing;
  const folder = temporaryFolder();
  try {
    writeFileSync(join(folder.path, "rows.f32"), rows);
    writeFileSync(join(folder.path, "queries.f32"), queries);
    const program = join(import.meta.dirname, "exact-search", "faiss_flat.py");
    return JSON.parse(execFileSync(peer.path, [program, folder.path, `${dims}`, `${k}`, `${together}`], { encoding: "utf8", timeout: 120_000 })) as Faiss;
  } finally {
    folder.remove();
  }
}

export const scenario: Scenario = {
  name: "exact-search",
  head:
    "200,000 x 64 f32 unit vectors (51.2 MB, warm, beyond L2), all live, top 100 by inner product, one core, wall time; one query at a time and 32 together, by f32 and by int8 with exact " +
    "f32 scores; 64 queries in turn, nothing durable; floor = adding up the same f32 rows in WebAssembly SIMD",
  async run({ quick, report, log }) {
    const count = quick ? 20_000 : 200_000;
    const rounds = quick ? 12 : 60;
    const prng = new Prng("exact-search");
    const rows = unitRows(prng, count);
    const all = unitRows(prng, quick ? together : 64);
    const queries = Array.from({ length: all.length / dims }, (_, i) => all.slice(i * dims, (i + 1) * dims));
    const batch = all.slice(0, together * dims);
    const bytes = rows.byteLength;

    // One memory, so that all of them read the very same pages.
    const live = kernels();
    const shape = { dims, metric: "ip" } as const;
    const parts = { codes: true, live: true };
    const memory = KernelMemory.create({ dataBytes: vectorBlockBytes(shape, count, parts) }, live);
    const block = createVectorBlock(memory, shape, count, parts);
    writeRows(block, 0, rows);
    for (let slot = 0; slot < count; slot++) setSlot(memory, block.liveAt, slot, true);
    scalesOf(block);
    quantise(block);
    const simd128 = loadVariant("simd128");
    const plainSimdBlock: VectorBlock | undefined =
      typeof simd128 === "string" ? undefined : { ...block, memory: KernelMemory.attach(memory.memory, 0, simd128) };
    const sum = floorOver(memory.memory);
    const top = createTopK(k);
    const tops = Array.from({ length: together }, () => createTopK(k));
    const plainTop = createTopK(k);
    const usearch = quick ? "not asked in a quick run" : usearchOver(rows);
    const faiss = quick ? "not asked in a quick run" : faissOver(rows, batch);

    // Answers first: every query, every way.
    const checksum = new Checksum();
    const recalls: number[] = [];
    const recalls8: number[] = [];
    const must = (found: TopK, exact: Float64Array, who: string): void => {
      if (recall(found, exact) < 1) throw new Error(`${who} answers wrongly: its time would be no figure`);
    };
    for (const use of ["f32", "int8"] as const) {
      exactSearchBatch(block, batch, k, tops, { use });
      for (const [i, found] of tops.entries()) must(found, exactScores(rows, queries[i]!), `the batch by ${use}`);
    }
    for (const [i, query] of queries.entries()) {
      const exact = exactScores(rows, query);
      recalls.push(recall(exactSearch(block, query, k, top, { use: "f32" }), exact));
      checksum.add(top.rows.toSorted());
      recalls8.push(recall(exactSearch(block, query, k, top, { use: "int8" }), exact));
      plainSearch(rows, query, plainTop);
      must(plainTop, exact, "the plain JavaScript peer");
      if (plainSimdBlock !== undefined)
        for (const use of ["f32", "int8"] as const) must(exactSearch(plainSimdBlock, query, k, top, { use }), exact, `SIMD128 by ${use}`);
      if (i > 0) continue;
      const theirs = (numbers: Iterable<number>): TopK => ({ size: k, rows: Uint32Array.from(numbers), scores: top.scores });
      if (typeof usearch !== "string") must(theirs(Array.from(usearch(query), Number)), exact, "usearch");
      if (typeof faiss !== "string") must(theirs(faiss.rows), exact, "faiss");
    }
    if (Math.min(...recalls) < 1) throw new Error(`recall ${Math.min(...recalls)}: an exact search must find all`);
    let total = 0;
    for (const value of rows) total += value;
    if (Math.abs(sum(block.rowsAt, bytes) - total) > 1) throw new Error("the floor kernel adds wrongly: its time would be no floor");
    log(`checked  ${queries.length} queries, every way, against exact f64 scores; checksum of the answers ${checksum.hex()}`);

    let turn = 0;
    const next = (): Float32Array => queries[turn++ % queries.length]!;
    const ways: Readonly<Record<"floor" | "f32" | "int8" | "batch" | "batch8" | "plain", () => unknown>> &
      Readonly<Record<"simd128" | "simd128Int8" | "usearch", (() => unknown) | undefined>> = {
      floor: () => sum(block.rowsAt, bytes),
      f32: () => exactSearch(block, next(), k, top, { use: "f32" }),
      int8: () => exactSearch(block, next(), k, top, { use: "int8" }),
      simd128: plainSimdBlock && (() => exactSearch(plainSimdBlock, next(), k, top, { use: "f32" })),
      simd128Int8: plainSimdBlock && (() => exactSearch(plainSimdBlock, next(), k, top, { use: "int8" })),
      batch: () => exactSearchBatch(block, batch, k, tops, { use: "f32" }),
      batch8: () => exactSearchBatch(block, batch, k, tops, { use: "int8" }),
      plain: () => plainSearch(rows, next(), plainTop),
      usearch: typeof usearch === "string" ? undefined : () => usearch(next()),
    };
    // V8 compiles in the background: let it finish.
    await alternatingRounds(quick ? 4 : 6, ways);
    const measured = await alternatingRounds(rounds, ways);
    const { floor, f32, int8, plain } = measured;

    const least = ({ wallMs }: Samples): number => Math.min(...wallMs);
    const ratios = (a: Samples, b: Samples): number => median(a.wallMs.map((ms, round) => ms / b.wallMs[round]!));
    const gigabytes = (ms: number): string => `${(bytes / ms / 1e6).toFixed(1)} GB/s`;
    const { live: variant, refused } = kernelReport();
    const variantDetail = `live variant ${variant}${refused.map(({ variant: other, reason }) => `; ${other}: ${reason}`).join("")}`;
    const floorPeer = `floor: ${least(floor).toFixed(2)} ms`;
    const lower = (metric: string, value: number, unit: "ms" | "ratio", more: { target?: number; peer?: string; detail?: string } = {}): void =>
      report({ metric, value, unit, better: "lower", ...more });
    const overMinima = `minimum over minimum of ${rounds} alternating rounds`;
    const withinRounds = "median of the ratios within a round";

    lower("f32_ms_min", least(f32), "ms", { peer: floorPeer, detail: `${variantDetail}; ${gigabytes(least(f32))}; ${rounds} rounds` });
    lower("f32_ms_p50", median(f32.wallMs), "ms");
    lower("floor_ms_min", least(floor), "ms", { detail: gigabytes(least(floor)) });
    lower("floor_ms_p50", median(floor.wallMs), "ms");
    lower("f32_ratio_to_memory_floor", least(f32) / least(floor), "ratio", { target: 1.3, peer: floorPeer, detail: overMinima });
    lower("f32_ratio_to_memory_floor_p50", ratios(f32, floor), "ratio", { detail: withinRounds });
    lower("int8_ms_min", least(int8), "ms", { detail: "scan by codes and exact f32 scores in one call" });
    lower("int8_ratio_to_memory_floor", least(int8) / least(floor), "ratio", {
      target: 0.5,
      peer: floorPeer,
      detail: `${overMinima}; the floor is that of the f32 rows`,
    });
    lower("int8_ratio_to_memory_floor_p50", ratios(int8, floor), "ratio", { detail: withinRounds });
    report({
      metric: "int8_recall_at_100",
      value: Math.min(...recalls8),
      unit: "share",
      better: "higher",
      target: 0.999,
      detail: `worst of ${queries.length} queries`,
    });
    const cpu = ({ cpuMs }: Samples): number => cpuMs.reduce((sum, ms) => sum + ms, 0) / cpuMs.length;
    const f32Peer = `one query by f32: ${cpu(f32).toFixed(2)} ms of CPU`;
    const batched = (metric: string, samples: Samples, target?: number): void => {
      lower(`${metric}_cpu_ms`, cpu(samples) / together, "ms", { detail: `mean of ${rounds} rounds` });
      lower(`${metric}_ratio`, cpu(samples) / together / cpu(f32), "ratio", {
        ...(target === undefined ? {} : { target }),
        peer: f32Peer,
        detail: "CPU time over CPU time, means of the same rounds",
      });
      lower(`${metric}_ratio_min`, least(samples) / together / least(f32), "ratio", { detail: "wall time, minimum over minimum" });
    };
    batched("batch32_per_query", measured.batch, 0.35);
    batched("int8_batch32_per_query", measured.batch8);
    if (plainSimdBlock !== undefined) {
      lower("simd128_ratio_to_memory_floor", least(measured.simd128) / least(floor), "ratio", { detail: "without relaxed SIMD" });
      lower("simd128_int8_ratio_to_memory_floor", least(measured.simd128Int8) / least(floor), "ratio", { detail: "without relaxed SIMD" });
    }
    const higher = (metric: string, value: number, more: { target?: number; peer: string; detail?: string }): void =>
      report({ metric, value, unit: "ratio", better: "higher", ...more });
    const plainPeer = `plain JS: ${least(plain).toFixed(2)} ms`;
    higher("speedup_vs_js", least(plain) / least(f32), { target: 2.5, peer: plainPeer, detail: "minimum over minimum, same rounds" });
    higher("speedup_vs_js_p50", ratios(plain, f32), { peer: plainPeer, detail: withinRounds });
    if (typeof usearch !== "string") {
      const peer = `usearch exactSearch: ${least(measured.usearch).toFixed(2)} ms`;
      higher("speedup_vs_usearch_exact", least(measured.usearch) / least(int8), { peer, detail: "int8; minimum over minimum, same rounds" });
    }
    if (typeof faiss !== "string") {
      const peer = `faiss IndexFlatIP: ${faiss.oneMs.toFixed(2)} ms a query, ${faiss.batchMs.toFixed(2)} in a batch of ${together}`;
      higher("speedup_vs_faiss_flat", faiss.oneMs / least(int8), { peer, detail: "int8; minima, faiss in a process before the rounds" });
      higher("batch_speedup_vs_faiss_flat", faiss.batchMs / (least(measured.batch8) / together), {
        peer,
        detail: "int8, 32 queries; minima, faiss in a process before the rounds",
      });
    }
    const missing = [
      ...(typeof usearch === "string" ? [`usearch: missing (${usearch})`] : []),
      ...(typeof faiss === "string" ? [`faiss: missing (${faiss})`] : []),
    ];
    report({ metric: "peers_missing", value: missing.length, unit: "count", better: "lower", detail: missing.join("; ") });
    report({ metric: "recall_at_100", value: Math.min(...recalls), unit: "share", better: "higher", target: 1, detail: `worst of ${queries.length} queries` });
  },
};
