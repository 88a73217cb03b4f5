// Nearest neighbours by an index of our own against usearch and faiss, at equal recall: the word vectors of a package that everybody can have, one core, one query at a time.
// Time is CPU time (user and system) of the process that searches, all its threads, from a query's numbers to its answers; each library is called as its users call it: ours and
// usearch from JavaScript, faiss from Python. Rounds alternate between all of them, each round the same queries, and each counts by its best round.
// Recall: of the true 20 best by exact search, an answer counts when its score reaches that of the 20th (less 1e-5, for sums in another order).
// Tuning: every library by a grid on the first 1,000 queries to 0.99 and a little (what a sample may miss), then all 10,000 are searched and recall is told.
// faiss chooses its instructions by itself (AVX-512 where the machine has it); the same again with AVX2 in the metrics that end in _avx2.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import { KernelMemory } from "#kernel/kernel-memory";
import { MemoryPool } from "#kernel/memory-pool";
import { createVectorBlock, slotsFor, vectorBlockBytes } from "#kernel/vector-layout";
import { exactSearchBatch, writeRows } from "#kernel/vector-rows";
import { systemFiles } from "#platform/system-files";
import { buildSegment } from "../src/vectors/segment/build-segment.ts";
import { loadSegment, packIds, writeSegment } from "../src/vectors/segment/segment-files.ts";
import type { SearchSettings } from "../src/vectors/segment/search-settings.ts";
import type { VectorSegment } from "../src/vectors/segment/vector-segment.ts";
import { type AnnData, annData, writeData } from "./ann/data.ts";
import { PeerProcess, type PeerRun } from "./ann/peer-process.ts";
import { Checksum, ownCpuMs, type Scenario, type ScenarioOptions } from "./harness.ts";
import { npmPeer, pythonPeer } from "./load/peers.ts";
import { temporaryFolder } from "./load/server-process.ts";

const k = 20;
const target = 0.99;
const faissPackages = ["faiss-cpu==1.15.1"];
const usearchVersion = "2.26.2";

/** A library, tuned, that searches some of the queries. */
interface Searcher {
  readonly name: string;
  readonly setting: string;
  run(from: number, count: number): Promise<PeerRun>;
}

function tops(count: number): TopK[] {
  return Array.from({ length: count }, () => createTopK(k));
}

/** Score of the true k-th best of each query, by exact search. */
function barsOf(data: AnnData): Float32Array {
  const { dims, rows, queries } = data;
  const shape = { dims, metric: "ip" } as const;
  const parts = { codes: false, live: false };
  const slots = slotsFor(rows.length / dims);
  const memory = KernelMemory.create({ dataBytes: vectorBlockBytes(shape, slots, parts) });
  const block = createVectorBlock(memory, shape, slots, parts);
  writeRows(block, 0, rows);
  const count = queries.length / dims;
  const bars = new Float32Array(count);
  const step = 100;
  const into = tops(step);
  // Padding rows are zeros, and would be found where true scores are negative.
  const padding = slots - rows.length / dims;
  const wide = Array.from({ length: step }, () => createTopK(k + padding));
  for (let from = 0; from < count; from += step) {
    const part = Math.min(step, count - from);
    exactSearchBatch(block, queries.subarray(from * dims, (from + part) * dims), k + padding, wide.slice(0, part), { use: "f32" });
    for (let i = 0; i < part; i++) {
      const scores = wide[i]!.scores.filter((_, at) => at < wide[i]!.size && wide[i]!.rows[at]! < rows.length / dims);
      into[i]!.scores.set(scores.subarray(0, k));
      bars[from + i] = into[i]!.scores[k - 1]!;
    }
  }
  return bars;
}

function searchWith(segment: VectorSegment, data: AnnData, bars: Float32Array, settings: SearchSettings, from: number, count: number): PeerRun {
  const { dims, queries } = data;
  const top = createTopK(k);
  let hits = 0;
  const before = ownCpuMs();
  for (let i = from; i < from + count; i++) {
    segment.search(queries.subarray(i * dims, (i + 1) * dims), settings, top);
    const bar = bars[i]! - 1e-5;
    for (let at = 0; at < top.size; at++) if (top.scores[at]! >= bar) hits++;
  }
  return { cpuS: (ownCpuMs() - before) / 1000, hits };
}

/** The cheapest margin and slack that reach the target on the first queries. */
function tune(segment: VectorSegment, data: AnnData, bars: Float32Array, queries: number, goal: number): SearchSettings {
  let best: { settings: SearchSettings; cpuS: number } | undefined;
  for (const slack of [2, 2.3, 2.6, 3, 3.5, 4.5]) {
    for (let margin = 6; margin <= 15; margin += 0.1) {
      const settings = { probes: segment.lists, margin: Math.round(margin * 10) / 10, slack };
      const { hits } = searchWith(segment, data, bars, settings, 0, queries);
      if (hits / queries / k < goal) {
        // Far from it: greater steps.
        if (hits / queries / k < goal - 0.01) margin += 0.3;
        continue;
      }
      let cpuS = Infinity;
      for (let round = 0; round < 3; round++) cpuS = Math.min(cpuS, searchWith(segment, data, bars, settings, 0, queries).cpuS);
      if (best === undefined || cpuS < best.cpuS) best = { settings, cpuS };
      break;
    }
  }
  return best?.settings ?? { probes: segment.lists, margin: 15.9, slack: 15.9 };
}

async function buildOurs(
  data: AnnData,
  folder: string,
  bars: Float32Array,
  tuning: number,
  goal: number,
): Promise<{ segment: VectorSegment; buildCpuS: number; loadMs: number; settings: SearchSettings }> {
  const { dims, rows } = data;
  const count = rows.length / dims;
  const before = ownCpuMs();
  const parts = await buildSegment({ vectors: rows, count, dims }, { metric: "cosine" });
  await systemFiles.makeFolder(folder);
  await writeSegment(parts, packIds(Array.from({ length: count }, (_, i) => String(i))), systemFiles, folder);
  const buildCpuS = (ownCpuMs() - before) / 1000;
  const started = performance.now();
  const segment = await loadSegment(systemFiles, (name) => join(folder, name), new MemoryPool(), { owner: "ann" });
  const loadMs = performance.now() - started;
  return { segment, buildCpuS, loadMs, settings: tune(segment, data, bars, tuning, goal) };
}

interface Built {
  readonly key: string;
  readonly cpuS: number;
  readonly setting: Readonly<Record<string, number>> | null;
  readonly recall: number | null;
  readonly tuningCpuS: number | null;
}

/** faiss of each family, tuned. */
async function faissSearchers(
  python: string,
  folder: string,
  dims: number,
  goal: number,
  tuning: number,
  level: string | undefined,
  log: ScenarioOptions["log"],
): Promise<{ flat: Searcher | undefined; all: Searcher[] }> {
  const suffix = level === undefined ? "" : ` ${level}`;
  const args = [join(import.meta.dirname, "ann/faiss_peer.py"), folder, String(dims), String(k), String(goal), String(tuning)];
  const peer = new PeerProcess(python, args, level === undefined ? {} : { FAISS_OPT_LEVEL: level });
  const families = [
    { family: "flat", keys: ["IVF1024,Flat", "IVF2048,Flat"] },
    { family: "pq", keys: ["IVF1024,PQ50x4fs,RFlat", "IVF2048,PQ50x4fs,RFlat"] },
    // The graph does not change with the instructions by much: it is built once.
    ...(level === undefined ? [{ family: "graph", keys: ["HNSW32"] }] : []),
  ];
  const all: Searcher[] = [];
  let flat: Searcher | undefined;
  for (const { family, keys } of families) {
    let best: Built | undefined;
    for (const key of keys) {
      const built = await peer.ask<Built>({ build: key, family });
      log(
        built.setting === null
          ? `faiss${suffix} ${key}: no setting of the grid reaches ${goal}`
          : `faiss${suffix} ${key}: built in ${built.cpuS.toFixed(1)} CPU s, ${JSON.stringify(built.setting)} recall ${built.recall!.toFixed(4)}, ${(tuning / built.tuningCpuS!).toFixed(0)} a second`,
      );
      if (built.setting === null) continue;
      const worse = best === undefined || built.tuningCpuS! < best.tuningCpuS! ? best : built;
      if (worse !== undefined) await peer.ask({ drop: worse.key });
      if (worse !== built) best = built;
    }
    if (best === undefined) continue;
    const { key, setting } = best;
    const searcher: Searcher = {
      name: `faiss${suffix} ${key}`,
      setting: JSON.stringify(setting),
      run: (from, count) => peer.ask<PeerRun>({ run: key, from, count }),
    };
    all.push(searcher);
    if (family === "flat") flat = searcher;
  }
  return { flat, all };
}

async function usearchSearcher(
  folder: string,
  dims: number,
  goal: number,
  tuning: number,
  log: ScenarioOptions["log"],
): Promise<{ searcher: Searcher; buildCpuS: number }> {
  const peer = new PeerProcess(process.execPath, [join(import.meta.dirname, "ann/usearch-peer.ts"), folder, String(dims), String(k)]);
  const { cpuS, bytes } = await peer.ask<{ cpuS: number; bytes: number }>({ build: true });
  log(`usearch: built in ${cpuS.toFixed(1)} CPU s, ${bytes} bytes`);
  let ef = 0;
  for (const next of [512, 768, 1_024, 1_280, 1_536, 2_048, 3_072]) {
    ef = next;
    const { hits } = await peer.ask<PeerRun>({ ef, from: 0, count: tuning });
    if (hits / tuning / k >= goal) break;
  }
  return {
    searcher: { name: "usearch HNSW f32 M16 efc128", setting: `{"ef":${ef}}`, run: (from, count) => peer.ask<PeerRun>({ ef, from, count }) },
    buildCpuS: cpuS,
  };
}

export const scenario: Scenario = {
  name: "ann",
  head:
    "one query at a time over 331,479 x 100 word vectors (cosine; 10,000 held out as queries), 20 answers at recall 0.99, one core, CPU time of the searching process, best of the " +
    "rounds; ours in a loaded segment, all in memory; peers tuned over a grid to the same recall",
  async run({ quick, report, log }) {
    const data = annData(quick);
    const count = data.rows.length / data.dims;
    const all = data.queries.length / data.dims;
    const tuning = Math.min(all, quick ? 200 : 1_000);
    // A sample of 1,000 queries x 20 answers is a few thousandths of a per cent off.
    const goal = target + 0.0005;
    log(`data: ${data.name}, ${count} rows`);
    const bars = barsOf(data);
    const folder = temporaryFolder();
    const ours = await buildOurs(data, join(folder.path, "segment"), bars, tuning, goal);
    const { segment, settings } = ours;
    log(`ours: built in ${ours.buildCpuS.toFixed(1)} CPU s, ${segment.lists} lists, loaded in ${ours.loadMs.toFixed(0)} ms, ${JSON.stringify(settings)}`);

    const missing: string[] = [];
    const searchers: Searcher[] = [];
    let usearch: Awaited<ReturnType<typeof usearchSearcher>> | undefined;
    let faiss: Awaited<ReturnType<typeof faissSearchers>> | undefined;
    let faissAvx2: Awaited<ReturnType<typeof faissSearchers>> | undefined;
    if (quick || !data.isWords) missing.push("peers: not asked");
    else {
      writeData(folder.path, data, bars);
      const usearchPeer = npmPeer("usearch", usearchVersion);
      if ("missing" in usearchPeer) missing.push(`usearch: missing (${usearchPeer.missing})`);
      else usearch = await usearchSearcher(folder.path, data.dims, goal, Math.min(tuning, 400), log);
      const python = pythonPeer(faissPackages);
      if ("missing" in python) missing.push(`faiss: missing (${python.missing})`);
      else {
        faiss = await faissSearchers(python.path, folder.path, data.dims, goal, tuning, undefined, log);
        if (/avx512/.test(cpuFlags())) faissAvx2 = await faissSearchers(python.path, folder.path, data.dims, goal, tuning, "avx2", log);
      }
    }
    for (const line of missing) log(line);

    const own: Searcher = {
      name: "millrace",
      setting: JSON.stringify(settings),
      run: (from, part) => Promise.resolve(searchWith(segment, data, bars, settings, from, part)),
    };
    searchers.push(own, ...(faiss?.all ?? []), ...(faissAvx2?.all ?? []), ...(usearch === undefined ? [] : [usearch.searcher]));
    // Rounds of some queries each until all were searched; of each round the least of three runs counts.
    const round = Math.min(all, quick ? 250 : 1_000);
    const spent = new Map<Searcher, { cpuS: number; hits: number; best: number }>();
    for (let from = 0; from < all; from += round) {
      const part = Math.min(round, all - from);
      for (const searcher of searchers) {
        const sum = spent.get(searcher) ?? { cpuS: 0, hits: 0, best: 0 };
        let least: PeerRun | undefined;
        for (let again = 0; again < (searcher === usearch?.searcher ? 1 : 3); again++) {
          const run = await searcher.run(from, part);
          if (least === undefined || run.cpuS < least.cpuS) least = run;
        }
        sum.cpuS += least!.cpuS;
        sum.hits += least!.hits;
        sum.best = Math.max(sum.best, part / least!.cpuS);
        spent.set(searcher, sum);
      }
    }
    const qps = (searcher: Searcher): number => all / spent.get(searcher)!.cpuS;
    const recall = (searcher: Searcher): number => spent.get(searcher)!.hits / all / k;
    const tell = (searcher: Searcher): string =>
      `${searcher.name} ${searcher.setting}: ${qps(searcher).toFixed(0)} queries a CPU second at ${recall(searcher).toFixed(4)}`;
    for (const searcher of searchers) log(tell(searcher));

    // The same answers again, for the checksum, and what was compared.
    const checksum = new Checksum();
    const work = { lists: 0, slots: 0, exact: 0 };
    const top = createTopK(k);
    for (let i = 0; i < tuning; i++) {
      segment.search(data.queries.subarray(i * data.dims, (i + 1) * data.dims), settings, top);
      checksum.add(top.rows.toSorted());
      work.lists += segment.work.lists / tuning;
      work.slots += segment.work.slots / tuning;
      work.exact += segment.work.exact / tuning;
    }
    report({
      metric: "recall_at_20",
      value: recall(own),
      unit: "share",
      better: "higher",
      target,
      detail: `${data.name}; ${all} queries; checksum of the first answers ${checksum.hex()}`,
    });
    report({
      metric: "qps_per_cpu",
      value: qps(own),
      unit: "1/s",
      better: "higher",
      detail: `${JSON.stringify(settings)}: ${work.lists.toFixed(0)} lists, ${work.slots.toFixed(0)} rows by codes, ${work.exact.toFixed(0)} exactly; best round ${spent.get(own)!.best.toFixed(0)}`,
    });
    const against = (metric: string, peers: readonly (Searcher | undefined)[], bar: number | undefined): void => {
      const best = peers.flatMap((peer) => (peer === undefined ? [] : [peer])).sort((a, b) => qps(b) - qps(a))[0];
      if (best === undefined) return;
      report({ metric, value: qps(own) / qps(best), unit: "ratio", better: "higher", ...(bar === undefined ? {} : { target: bar }), peer: tell(best) });
    };
    against("qps_ratio_vs_usearch", [usearch?.searcher], 5);
    against("qps_ratio_vs_faiss_ivfflat", [faiss?.flat], 2.5);
    against("qps_ratio_vs_faiss_best", faiss?.all ?? [], 1.1);
    against("qps_ratio_vs_faiss_ivfflat_avx2", [faissAvx2?.flat], undefined);
    against("qps_ratio_vs_faiss_best_avx2", faissAvx2?.all ?? [], undefined);
    report({ metric: "build_cpu_s", value: ours.buildCpuS, unit: "s", better: "lower", detail: `${segment.lists} lists; files written` });
    if (usearch !== undefined) {
      report({
        metric: "build_cpu_ratio_vs_usearch",
        value: ours.buildCpuS / usearch.buildCpuS,
        unit: "ratio",
        better: "lower",
        target: 0.1,
        peer: `usearch: ${usearch.buildCpuS.toFixed(1)} CPU s`,
      });
    }
    report({
      metric: "bytes_per_vector",
      value: segment.bytes / count,
      unit: "B",
      better: "lower",
      detail: `f32 row ${data.dims * 4}, with int8 and 4-bit codes, ids and their table`,
    });
    report({ metric: "load_ms", value: ours.loadMs, unit: "ms", better: "lower", detail: "files in the page cache" });
    report({ metric: "peers_missing", value: missing.length, unit: "count", better: "lower", detail: missing.join("; ") });
    segment.release();
    folder.remove();
  },
};

/** What the machine's processor can do, where that is told. */
function cpuFlags(): string {
  try {
    return /^flags.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0] ?? "";
  } catch {
    return "";
  }
}
