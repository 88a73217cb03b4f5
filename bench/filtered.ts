// Searches among the rows that pass a filter: 1 M x 64 of 20,000 clusters (bench/load/clustered-vectors.ts), recall@20 and CPU at selectivities of 0.5, 0.1, 0.01 and 0.001, for filters that have nothing
// to do with the query (independent), that name what lies near it (correlated), or what lies far away (opposed). A fresh filter for each query, given as a bitmap by slot that the search
// copies in; beside it, as variants without a target, fresh expressions over attributes.
//   independent  each row passes by chance
//   correlated   rows are ranked by their score with the query plus noise of the same deviation; the first pass
//   opposed      the rows with the lowest scores pass: none of what lies near does
//   apart        as opposed, with that noise: few of what lies near do. Counted with opposed
// Costs are CPU of the thread, or where a call is shorter than its steps the time of the fastest of 9 rounds (the machine may be shared); the compared ways alternate round by round, each query and filter once
// a round, so that a query finds the rows of the others in the caches and not its own.
// filtered_cost_dense: the largest of the cells 0.5 and 0.1, independent and correlated, against the same queries without a filter, by settings tuned to recall@20 >= 0.99: by a grid
// without a filter, and with filters at random on the same queries, which are not those that are measured, as a build does it.
// filtered_cost_sparse: the largest of all other cells, against exact f32 search over the passing rows where they lie, their slots given in the same memory.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Prng } from "#base/prng";
import { createTopK } from "#kernel/dot-top-k";
import { MemoryPool } from "#kernel/memory-pool";
import { rowFloats } from "#kernel/vector-layout";
import { exactSearch, exactSearchOf, listSlots } from "#kernel/vector-rows";
import { systemFiles } from "#platform/system-files";
import { SourceFilter } from "#vectors/filter/attribute-columns";
import { attributeRoom, loadAttributes, type StoredAttributes, writeAttributes } from "#vectors/filter/attribute-files";
import { compileFilter } from "#vectors/filter/filter";
import { filteredSearch, type FilteredWork, type Passing } from "#vectors/filter/filtered-search";
import { buildSegment } from "#vectors/segment/build-segment";
import { tuneFilters } from "#vectors/builder/filter-tuner";
import { filterShares, type SearchSettings } from "#vectors/segment/search-settings";
import { loadSegment, packIds, writeSegment } from "#vectors/segment/segment-files";
import type { VectorSegment } from "#vectors/segment/vector-segment";
import { threadCpuMs, type Scenario, type ScenarioOptions } from "./harness.ts";
import { ClusteredVectors } from "./load/clustered-vectors.ts";

const dims = 64;
const k = 20;
const shares = [0.5, 0.1, 0.01, 0.001] as const;
const relations = ["independent", "correlated", "opposed", "apart"] as const;
type Relation = (typeof relations)[number];

/** Share of the true answers' places that hold a row as near as the last of them; scores nearer than f32 tells apart count as equal. */
function recallOf(truth: Float32Array, found: { readonly size: number; readonly scores: Float32Array }): number {
  if (truth.length === 0) return 1;
  const bar = truth.at(-1)! - 1e-6;
  let right = 0;
  for (let i = 0; i < found.size; i++) if (found.scores[i]! >= bar) right++;
  return right / truth.length;
}

async function loadWorld(rows: number, log: (line: string) => void): Promise<{ segment: VectorSegment; stored: StoredAttributes; model: ClusteredVectors }> {
  const folder = await mkdtemp(join(tmpdir(), "filtered-"));
  try {
    const model = new ClusteredVectors({ dims });
    const clusterOf = new Uint32Array(rows);
    const vectors = model.rows("rows", rows, clusterOf);
    const parts = await buildSegment({ vectors, count: rows, dims }, { metric: "cosine", seed: 1 });
    await writeSegment(parts, packIds(Array.from({ length: rows }, (_, i) => String(i))), systemFiles, folder);
    const prng = new Prng("attributes");
    // A price without relation to the place, and the cluster, which has one.
    const texts = Array.from({ length: rows }, (_, row) => `{"price":${prng.u32()},"kind":"k${clusterOf[row]! % 1_000}","cluster":${clusterOf[row]!}}`);
    await writeAttributes(parts.order, texts, systemFiles, folder);
    const pathOf = (name: string): string => join(folder, name);
    const room = await attributeRoom(systemFiles, pathOf);
    const listRoom = parts.slots * 4;
    const segment = await loadSegment(systemFiles, pathOf, new MemoryPool({ capBytes: 4 * 2 ** 30 }), { owner: "filtered", extraBytes: room + listRoom + 64 });
    const at = segment.extraAt + Math.ceil(listRoom / 64) * 64;
    const stored = await loadAttributes(systemFiles, pathOf, { memory: segment.memory, at, room, slots: segment.slots });
    if (stored === undefined) throw new Error("the attributes are gone");
    log(`segment ${segment.rows} rows, ${segment.lists} lists, ${Math.round(segment.bytes / 2 ** 20)} MiB`);
    return { segment, stored, model };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Settings of least cost, by slots compared, that reach recall@20 of 0.99 without a filter. */
function tuneUnfiltered(segment: VectorSegment, queries: Float32Array): { settings: SearchSettings; recall: number } {
  const count = queries.length / dims;
  const top = createTopK(k);
  const truths = Array.from({ length: count }, (_, i) =>
    exactSearch(segment.block, queries.subarray(i * dims, (i + 1) * dims), k, top, { use: "f32" }).scores.slice(0, top.size),
  );
  let best: { settings: SearchSettings; recall: number; cost: number } | undefined;
  for (const slack of [2.5, 3, 4]) {
    for (let margin = 5; margin <= 12; margin += 0.25) {
      const settings = { probes: 65_536, margin, slack };
      let recall = 0;
      let cost = 0;
      for (let i = 0; i < count; i++) {
        segment.search(queries.subarray(i * dims, (i + 1) * dims), settings, top);
        recall += recallOf(truths[i]!, top) / count;
        cost += segment.work.slots + 10 * segment.work.exact;
      }
      if (recall < 0.99) continue;
      if (best === undefined || cost < best.cost) best = { settings, recall, cost };
      break;
    }
  }
  if (best === undefined) throw new Error("no setting reaches a recall of 0.99 without a filter");
  return best;
}

/** Bits of `share` of the live slots, as the relation says. `scores`: of all slots with the query. */
function drawFilter(prng: Prng, segment: VectorSegment, relation: Relation, share: number, scores: Float32Array, deviation: number): Uint32Array {
  const { slots, memory, block } = segment;
  const bits = new Uint32Array(slots / 32);
  const live = memory.u32.subarray(block.liveAt / 4, block.liveAt / 4 + bits.length);
  if (relation === "independent") {
    const bar = Math.floor(share * 2 ** 32);
    for (let slot = 0; slot < slots; slot++) if (prng.u32() < bar) bits[slot >>> 5]! |= 1 << (slot & 31);
  } else {
    const keys = new Float32Array(slots);
    const sign = relation === "correlated" ? 1 : -1;
    const noise = relation === "opposed" ? 0 : (deviation * Math.sqrt(3)) / 2 ** 32;
    for (let slot = 0; slot < slots; slot++) keys[slot] = sign * scores[slot]! + noise * (prng.u32() + prng.u32() - 2 ** 32) * Math.SQRT2;
    const sample: number[] = [];
    for (let i = 0; i < 100_000; i++) {
      const slot = prng.below(slots);
      if (((live[slot >>> 5]! >>> (slot & 31)) & 1) === 1) sample.push(keys[slot]!);
    }
    const bar = Float32Array.from(sample)
      .sort()
      .at(-Math.max(1, Math.round(share * sample.length)))!;
    for (let slot = 0; slot < slots; slot++) if (keys[slot]! >= bar) bits[slot >>> 5]! |= 1 << (slot & 31);
  }
  for (let word = 0; word < bits.length; word++) bits[word]! &= live[word]!;
  return bits;
}

function allScores(segment: VectorSegment, query: Float32Array): { scores: Float32Array; deviation: number } {
  const { memory, block, slots } = segment;
  const scores = new Float32Array(slots);
  const floats = rowFloats(dims);
  let square = 0;
  for (let slot = 0; slot < slots; slot++) {
    const from = block.rowsAt / 4 + slot * floats;
    let sum = 0;
    for (let j = 0; j < dims; j++) sum += memory.f32[from + j]! * query[j]!;
    scores[slot] = sum;
    square += sum * sum;
  }
  return { scores, deviation: Math.sqrt(square / slots) };
}

interface Cell {
  readonly recall: number;
  readonly costMs: number;
  readonly exactMs: number;
  readonly plainMs: number;
  readonly ways: string;
}

export const scenario: Scenario = {
  name: "filtered",
  head: "recall@20 and CPU of searches among the rows that pass a fresh filter, 1 M x 64, by share of rows and where they lie",
  async run({ quick, report, log }: ScenarioOptions) {
    const rows = quick ? 60_000 : 1_000_000;
    const { segment, stored, model } = await loadWorld(rows, log);
    const { memory, block, extraAt } = segment;
    // A cell's recall is known to some 0.002: what is missing belongs to few queries.
    const count = quick ? 6 : 64;
    const rounds = quick ? 1 : 3;
    const tuning = model.rows("tuning", quick ? 40 : 200);
    const { settings: unfiltered, recall: plainRecall } = tuneUnfiltered(segment, tuning);
    const filterMargins = await tuneFilters(segment, { vectors: tuning, count: tuning.length / dims, dims, at: k }, unfiltered, 0.99);
    const settings: SearchSettings = { ...unfiltered, filterMargins };
    log(
      `without a filter: margin ${settings.margin}, slack ${settings.slack}, recall@20 ${plainRecall.toFixed(4)}; with one: margins ` +
        filterMargins.map((margin, i) => `${margin.toFixed(2)} at ${filterShares[i]!}`).join(", "),
    );
    const queries = model.rows("queries", count);
    const queryOf = (i: number): Float32Array => queries.subarray(i * dims, (i + 1) * dims);
    const top = createTopK(k);
    const work: FilteredWork = { way: "none", gaveUp: false };
    const scored = Array.from({ length: count }, (_, i) => allScores(segment, queryOf(i)));
    const prng = new Prng("filters");

    const measure = (passings: readonly Passing[], masks: readonly Uint32Array[]): Cell => {
      const truths: Float32Array[] = [];
      let recall = 0;
      const ways: Record<string, number> = {};
      for (let i = 0; i < count; i++) {
        memory.u32.set(masks[i]!, segment.filterRoomAt / 4);
        const listed = { at: extraAt, count: listSlots(block, segment.filterRoomAt, extraAt, segment.slots) };
        truths.push(exactSearchOf(block, queryOf(i), k, top, listed).scores.slice(0, top.size));
        filteredSearch(segment, queryOf(i), passings[i]!, settings, top, work);
        recall += recallOf(truths[i]!, top) / count;
        const way = work.gaveUp ? "index, then exact" : work.way;
        ways[way] = (ways[way] ?? 0) + 1;
      }
      const relist = (i: number): { at: number; count: number } => {
        memory.u32.set(masks[i]!, segment.filterRoomAt / 4);
        return { at: extraAt, count: listSlots(block, segment.filterRoomAt, extraAt, segment.slots) };
      };
      // CPU time moves in steps of some milliseconds. So calls that take longer are measured by it, all queries together; shorter ones by the clock, each query by its fastest round:
      // the one that was not interrupted.
      const meter = (): { wall: Float64Array; cpu: number; spent: number } => ({ wall: new Float64Array(count).fill(Infinity), cpu: Infinity, spent: 0 });
      const [cost, plain, exact] = [meter(), meter(), meter()];
      const time = (into: ReturnType<typeof meter>, i: number, run: () => void): void => {
        const cpu = threadCpuMs();
        const wall = performance.now();
        run();
        into.wall[i] = Math.min(into.wall[i]!, performance.now() - wall);
        into.spent += threadCpuMs() - cpu;
      };
      for (let round = 0; round < rounds * 3; round++) {
        // Long calls need no more than a few rounds.
        if (round >= rounds && exact.cpu > 2 * count) break;
        for (const one of [cost, plain, exact]) one.spent = 0;
        for (let i = 0; i < count; i++) time(cost, i, () => filteredSearch(segment, queryOf(i), passings[i]!, settings, top));
        for (let i = 0; i < count; i++) time(plain, i, () => segment.search(queryOf(i), settings, top));
        for (let i = 0; i < count; i++) {
          const list = relist(i);
          time(exact, i, () => exactSearchOf(block, queryOf(i), k, top, list));
        }
        for (const one of [cost, plain, exact]) one.cpu = Math.min(one.cpu, one.spent);
      }
      const msOf = ({ wall, cpu }: ReturnType<typeof meter>): number => (cpu > 2 * count ? cpu : wall.reduce((sum, one) => sum + one, 0)) / count;
      const ways2 = Object.entries(ways).map(([way, times]) => `${way} ${times}`);
      return { recall, costMs: msOf(cost), exactMs: msOf(exact), plainMs: msOf(plain), ways: ways2.join(", ") };
    };

    let recallMin = 1;
    let dense = 0;
    let sparse = 0;
    let [denseCell, sparseCell] = ["", ""];
    for (const share of shares) {
      for (const relation of relations) {
        const masks = scored.map(({ scores, deviation }) => drawFilter(prng, segment, relation, share, scores, deviation));
        const cell = measure(
          masks.map((bitmap) => ({ bitmap })),
          masks,
        );
        const isDense = share >= 0.1 && (relation === "independent" || relation === "correlated");
        const ratio = isDense ? cell.costMs / cell.plainMs : cell.costMs / cell.exactMs;
        const name = `${relation} ${share}`;
        recallMin = Math.min(recallMin, cell.recall);
        if (isDense && ratio > dense) [dense, denseCell] = [ratio, name];
        if (!isDense && ratio > sparse) [sparse, sparseCell] = [ratio, name];
        log(
          `${name.padEnd(18)} recall ${cell.recall.toFixed(4)}  ${(cell.costMs * 1000).toFixed(0)} us, without a filter ${(cell.plainMs * 1000).toFixed(0)}, exact f32 of the passing rows ` +
            `${(cell.exactMs * 1000).toFixed(0)}: ${ratio.toFixed(2)} (${isDense ? "of the first" : "of the second"}); ${cell.ways}`,
        );
      }
    }
    for (const share of shares) {
      const expressions = [`price range`, `price and not kind`].map((name, which) => ({
        name,
        text: (): string => {
          const from = Math.floor(prng.float() * (1 - share) * 2 ** 32);
          const range = `.price >= ${from} and .price < ${from + Math.floor(share * 2 ** 32)}`;
          return which === 0 ? range : `${range} and .kind != "k${prng.below(1_000)}" and .cluster * 2 < 39000`;
        },
      }));
      for (const { name, text } of expressions) {
        const filters = scored.map(() => compileFilter(text()));
        const masks = filters.map((filter) => {
          const bits = new Uint32Array(segment.slots / 32);
          new SourceFilter(stored, filter).bitmap(0, segment.slots, bits);
          return bits;
        });
        const cell = measure(
          filters.map((filter) => ({ filter, attributes: stored })),
          masks,
        );
        recallMin = Math.min(recallMin, cell.recall);
        log(
          `${`${name} ${share}`.padEnd(24)} recall ${cell.recall.toFixed(4)}  ${(cell.costMs * 1000).toFixed(0)} us, without a filter ${(cell.plainMs * 1000).toFixed(0)}, exact f32 of the passing rows ` +
            `${(cell.exactMs * 1000).toFixed(0)}; ${cell.ways}`,
        );
      }
    }
    segment.release();
    report({
      metric: "filtered_recall_min",
      value: recallMin,
      unit: "ratio",
      better: "higher",
      target: 0.99,
      detail: `${count} queries a cell, recall@20; without a filter ${plainRecall.toFixed(4)}`,
    });
    report({
      metric: "filtered_cost_dense",
      value: dense,
      unit: "ratio",
      better: "lower",
      target: 2,
      detail: `of the unfiltered query's CPU; largest: ${denseCell}`,
    });
    report({
      metric: "filtered_cost_sparse",
      value: sparse,
      unit: "ratio",
      better: "lower",
      target: 1.2,
      detail: `of exact f32 over the passing rows, slots given; largest: ${sparseCell}`,
    });
  },
};
