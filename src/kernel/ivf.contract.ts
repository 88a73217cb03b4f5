// What the kernels of an index of lists must do, in every variant: clusters and codes as a plain loop finds them, and searches that miss nothing when they look everywhere.
// Vectors of small whole numbers make every product exact, so that the nearest centroid and the answers are equal number for number, ties included.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { createTopK, type TopK } from "./dot-top-k.ts";
import { codeCount, codePoints, codePointsBytes, codes4Bytes, groupBlocks, groupsFor } from "./ivf-layout.ts";
import { Centroids, codebookScratchBytes, findCentroids, findCodebook } from "./k-means.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, type KernelVariant } from "./kernels.ts";
import {
  bitmapBytes,
  createVectorBlock,
  hasSlot,
  rowFloats,
  setSlot,
  slotsFor,
  type VectorBlock,
  vectorBlockBytes,
  type VectorMetric,
} from "./vector-layout.ts";
import { type ListIndex, listIndexScratchBytes, type ListSearch, searchLists } from "./vector-ivf.ts";
import { exactSearch, normalise, quantise, scalesOf, writeRows } from "./vector-rows.ts";

const everything: ListSearch = { probes: 0xffff_ffff, margin: Infinity, slack: Infinity };

interface Scored {
  readonly slot: number;
  readonly score: number;
}

function of({ size, rows, scores }: TopK): Scored[] {
  return Array.from({ length: size }, (_, i) => ({ slot: rows[i]!, score: scores[i]! }));
}

/** What a search says of lists: their scores, and as many seen as it looked into, the nearest of them first. */
function checkLists(
  { block, lists, centroidsAt, listBiasAt }: ListIndex,
  query: Float32Array,
  work: { readonly lists: number; readonly scoresAt: number; readonly seenAt: number },
  isFiltered: boolean,
): void {
  const { f32, u32 } = block.memory;
  const seen = u32.subarray(work.seenAt / 4, work.seenAt / 4 + lists);
  assert.equal(
    seen.reduce((sum, one) => sum + one, 0),
    work.lists,
  );
  let [best, near] = [-Infinity, 0];
  for (let list = 0; list < lists; list++) {
    let score = listBiasAt === 0 ? 0 : f32[listBiasAt / 4 + list]!;
    for (let j = 0; j < query.length; j++) score += query[j]! * f32[centroidsAt / 4 + list * rowFloats(query.length) + j]!;
    assert.ok(Math.abs(score - f32[work.scoresAt / 4 + list]!) < 1e-3, `list ${list}: ${score}, said ${f32[work.scoresAt / 4 + list]}`);
    if (score > best) [best, near] = [score, list];
  }
  // Filters may leave nothing of the nearest.
  if (work.lists > 30 && !isFiltered) assert.equal(seen[near], 1);
}

/** An index made the plain way: `lists` clusters around random rows, the parts that a build makes. */
export function plainIndex(
  variant: KernelVariant,
  seed: string,
  dims: number,
  metric: VectorMetric,
  counts: readonly number[],
  draw: (prng: Prng) => number,
  withBlocks = true,
): ListIndex {
  const prng = new Prng(seed);
  const shape = { dims, metric };
  const floats = rowFloats(dims);
  const lists = counts.length;
  const starts = [0];
  for (const count of counts) starts.push(starts.at(-1)! + slotsFor(count));
  const slots = starts.at(-1)!;
  const listSlotsMax = Math.max(...counts.map(slotsFor));
  const rows = counts.reduce((a, b) => a + b, 0);
  const groups = counts.reduce((sum, count) => sum + groupsFor(slotsFor(count)), 0);
  const memory = KernelMemory.create(
    {
      dataBytes:
        vectorBlockBytes(shape, slots, { codes: true, live: true }) +
        (lists * floats + 5 * lists + rows * floats) * 4 +
        codes4Bytes(slots, dims) +
        codeCount(dims) * codePointsBytes +
        codebookScratchBytes(dims) +
        listIndexScratchBytes(lists, slots, listSlotsMax, dims) +
        groups * groupBlocks * (floats * 4 + codeCount(dims) / 2 + 8) +
        slots * (rowFloats(dims) / 8 + 1) +
        bitmapBytes(slots) +
        slots * 5 +
        lists * 4 +
        28 * 64,
      laneBytes: 1 << 16,
    },
    kernels(variant),
  );
  const { f32, u32, calls } = memory;
  const block = createVectorBlock(memory, shape, slots, { codes: true, live: true });
  const centroidsAt = memory.reserve(lists * floats * 4);
  const listBiasAt = metric === "l2" ? memory.reserve(lists * 4) : 0;
  const spreadsAt = memory.reserve(lists * 4);
  const startsAt = memory.reserve((lists + 1) * 4);
  const sizesAt = memory.reserve(lists * 4);
  const codes4At = memory.reserve(codes4Bytes(slots, dims));
  const bookAt = memory.reserve(codeCount(dims) * codePointsBytes);
  const blockListsAt = memory.reserve(slots);
  const errorsAt = memory.reserve(slots * 4);
  const codeErrorsAt = memory.reserve(lists * 4);
  const differencesAt = memory.reserve(rows * floats * 4);
  const bookScratchAt = memory.reserve(codebookScratchBytes(dims));
  u32.set(starts, startsAt / 4);
  f32.fill(0, centroidsAt / 4, centroidsAt / 4 + lists * floats);
  let difference = differencesAt / 4;
  counts.forEach((count, list) => {
    const middle = Float32Array.from({ length: dims }, () => draw(prng));
    const vectors = Float32Array.from({ length: count * dims }, (_, i) => middle[i % dims]! + draw(prng));
    writeRows(block, starts[list]!, vectors);
    let square = 0;
    for (let i = 0; i < count; i++) {
      setSlot(memory, block.liveAt, starts[list]! + i, true);
      for (let j = 0; j < dims; j++) {
        const value = f32[block.rowsAt / 4 + (starts[list]! + i) * floats + j]!;
        f32[centroidsAt / 4 + list * floats + j]! += value / count;
        square += (value * value) / count;
      }
    }
    let mean = 0;
    for (let j = 0; j < dims; j++) mean += f32[centroidsAt / 4 + list * floats + j]! ** 2;
    f32[spreadsAt / 4 + list] = Math.sqrt(Math.max(square - mean, 1e-4) / dims);
    f32[sizesAt / 4 + list] = count;
    if (listBiasAt !== 0) f32[listBiasAt / 4 + list] = -square / 2;
    for (let i = 0; i < count; i++)
      for (let j = 0; j < floats; j++)
        f32[difference++] = f32[block.rowsAt / 4 + (starts[list]! + i) * floats + j]! - f32[centroidsAt / 4 + list * floats + j]!;
    for (let b = starts[list]! / 32; b < starts[list + 1]! / 32; b++) u32[blockListsAt / 4 + b] = list;
  });
  findCodebook(memory, dims, differencesAt, rows, bookAt, bookScratchAt, prng);
  calls.codes4Encode(block.rowsAt, slots / 32, floats * 4, blockListsAt, centroidsAt, bookAt, codeCount(dims), codes4At, errorsAt, bookScratchAt);
  counts.forEach((count, list) => {
    let square = 0;
    for (let i = 0; i < count; i++) square += f32[errorsAt / 4 + starts[list]! + i]!;
    f32[codeErrorsAt / 4 + list] = Math.sqrt(square / count / dims);
  });
  scalesOf(block);
  quantise(block);
  const scratchAt = memory.reserve(listIndexScratchBytes(lists, slots, listSlotsMax, dims));
  const index = { block, lists, centroidsAt, listBiasAt, spreadsAt, startsAt, sizesAt, codes4At, bookAt, codeErrorsAt, scratchAt };
  if (!withBlocks) return { ...index, blockCodesAt: 0, groupsAt: 0, blockSpreadsAt: 0, blockBiasAt: 0 };
  // Means of blocks, and their codes in groups of one list.
  const meansAt = memory.reserve((slots / 32) * floats * 4);
  const squaresAt = memory.reserve((slots / 32 + 4) * 4);
  const groupRowsAt = memory.reserve(groups * groupBlocks * floats * 4);
  const groupListsAt = memory.reserve(groups * 4);
  const groupErrorsAt = memory.reserve(groups * groupBlocks * 4);
  const blockCodesAt = memory.reserve(codes4Bytes(groups * groupBlocks, dims));
  const groupsAt = memory.reserve((lists + 1) * 4);
  const blockSpreadsAt = memory.reserve((slots / 32 + 16) * 4);
  const blockBiasAt = metric === "l2" ? memory.reserve((slots / 32 + 4) * 4) : 0;
  calls.blocksMean(block.rowsAt, slots / 32, floats * 4, block.liveAt, meansAt, squaresAt);
  f32.fill(0, groupRowsAt / 4, groupRowsAt / 4 + groups * groupBlocks * floats);
  let group = 0;
  for (let list = 0; list < lists; list++) {
    u32[groupsAt / 4 + list] = group;
    const [from, to] = [starts[list]! / 32, starts[list + 1]! / 32];
    f32.copyWithin(groupRowsAt / 4 + group * groupBlocks * floats, meansAt / 4 + from * floats, meansAt / 4 + to * floats);
    for (let i = 0; i < groupsFor((to - from) * 32); i++) u32[groupListsAt / 4 + group++] = list;
  }
  const codes = codeCount(dims);
  calls.codes4Encode(groupRowsAt, groups, floats * 4, groupListsAt, centroidsAt, bookAt, codes, blockCodesAt, groupErrorsAt, bookScratchAt);
  for (let list = 0; list < lists; list++)
    for (let at = starts[list]! / 32, i = 0; at < starts[list + 1]! / 32; at++, i++) {
      const error = f32[groupErrorsAt / 4 + u32[groupsAt / 4 + list]! * groupBlocks + i]!;
      f32[blockSpreadsAt / 4 + at] = Math.sqrt(Math.max(f32[squaresAt / 4 + at]! + error, 1e-4) / dims);
      if (blockBiasAt === 0) continue;
      const count = Math.min(32, counts[list]! - 32 * i);
      for (let row = 0; row < count; row++) f32[blockBiasAt / 4 + at]! += f32[block.biasAt / 4 + at * 32 + row]! / count;
    }
  return { ...index, blockCodesAt, groupsAt, blockSpreadsAt, blockBiasAt };
}

export function ivfContract(variant: KernelVariant): void {
  const seed = process.env["SEED"] ?? "ivf";
  const under = (name: string): string => `${variant}: ${name}`;
  const metrics = ["cosine", "ip", "l2"] as const;
  const queryFor = (prng: Prng, { shape }: VectorBlock, draw: (prng: Prng) => number): Float32Array => {
    const query = Float32Array.from({ length: shape.dims }, () => draw(prng));
    if (shape.metric === "cosine") normalise(query, shape.dims);
    return query;
  };

  test(under(`all lists, all rows: the answers of exact search, ties and filters and dead rows and all (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("all");
    const draw = (from: Prng): number => from.between(-3, 3);
    for (const metric of ["ip", "l2"] as const)
      for (const dims of [1, 2, 3, 4, 7, 8, 16, 30, 52]) {
        // Lists of more than one group of blocks among them.
        const counts = Array.from({ length: prng.between(1, 20) }, (_, i) => prng.between(1, i === 3 ? 1_400 : 90));
        const index = plainIndex(variant, `${seed}${metric}${dims}`, dims, metric, counts, draw, prng.chance(0.7));
        const { block } = index;
        const filterAt = block.memory.reserve(bitmapBytes(block.slots));
        for (let slot = 0; slot < block.slots; slot++) {
          setSlot(block.memory, filterAt, slot, prng.chance(0.2));
          if (prng.chance(0.1)) setSlot(block.memory, block.liveAt, slot, false);
        }
        for (const k of [1, 10, 200])
          for (const filter of [0, filterAt]) {
            const query = queryFor(prng, block, draw);
            const exact = of(exactSearch(block, query, k, createTopK(k), { filterAt: filter, use: "f32" }));
            const work = { lists: 0, slots: 0, exact: 0 };
            assert.deepEqual(of(searchLists(index, query, { ...everything, filterAt: filter }, createTopK(k), work)), exact, `${metric} ${dims} ${k}`);
            // Codes do not lose what is within many of their errors.
            assert.deepEqual(of(searchLists(index, query, { ...everything, slack: 12, filterAt: filter }, createTopK(k), work)), exact);
          }
      }
  });

  test(under(`promise: lists of which few rows pass have the answers of exact search, wherever these lie (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("few");
    const whole = (from: Prng): number => from.between(-3, 3);
    const real = (from: Prng): number => from.normal();
    for (const metric of metrics)
      for (const [dims, draw] of [
        [1, whole],
        [5, whole],
        [17, real],
        [64, real],
      ] as const) {
        const counts = Array.from({ length: prng.between(2, 24) }, () => prng.between(1, 400));
        const index = plainIndex(variant, `${seed}few${metric}${dims}`, dims, metric, counts, draw, prng.chance(0.7));
        const { block, startsAt, lists } = index;
        const { memory } = block;
        const filterAt = memory.reserve(bitmapBytes(block.slots));
        for (let slot = 0; slot < block.slots; slot++) if (prng.chance(0.05)) setSlot(memory, block.liveAt, slot, false);
        const starts = memory.u32.slice(startsAt / 4, startsAt / 4 + lists + 1);
        // Nothing; one row; one or two of 32 together, or anywhere; more of each list; lists as a whole among others of which a few pass; everything.
        const filters: readonly ((list: number, slot: number) => boolean)[] = [
          () => false,
          (_, slot) => slot === Math.floor(block.slots / 3),
          (list, slot) => slot - starts[list]! < (starts[list + 1]! - starts[list]!) / 16,
          (_, slot) => slot % 19 === 3,
          () => prng.chance(0.12),
          (list) => list % 3 === 0 || prng.chance(0.04),
          () => true,
        ];
        filters.forEach((passes, which) => {
          let passing = 0;
          for (let list = 0; list < lists; list++)
            for (let slot = starts[list]!; slot < starts[list + 1]!; slot++) {
              const on = passes(list, slot);
              setSlot(memory, filterAt, slot, on);
              if (on && hasSlot(memory, block.liveAt, slot)) passing++;
            }
          for (const k of [1, 7, 60]) {
            const query = queryFor(prng, block, draw);
            const exact = of(exactSearch(block, query, k, createTopK(k), { filterAt, use: "f32" }));
            const work = { lists: 0, slots: 0, exact: 0 };
            // 4-bit codes that are believed to the letter lose answers; where only few pass they are not asked.
            const slack = which < 4 ? 0 : 14;
            const found = of(searchLists(index, query, { probes: 1_000, margin: Infinity, slack, filterAt }, createTopK(k), work));
            assert.deepEqual(found, exact, `${metric} ${dims} filter ${which} k ${k}`);
            // Means of blocks are read twice in the nearest lists, and once more at each wider first look.
            const means = index.blockCodesAt === 0 ? 0 : 3 * 32 * (lists + 16);
            if (slack === 0) assert.ok(work.slots <= passing + means, `${work.slots} codes for ${passing} rows that pass`);
          }
        });
      }
  });

  test(under(`promise: recall and work rise with margin and slack, and a filter costs no recall (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("rise");
    const draw = (from: Prng): number => from.normal();
    for (const [metric, withBlocks] of metrics.flatMap(
      (one) =>
        [
          [one, true],
          [one, false],
        ] as const,
    )) {
      const dims = 24;
      const counts = Array.from({ length: 40 }, () => prng.between(20, 200));
      const index = plainIndex(variant, `${seed}${metric}`, dims, metric, counts, draw, withBlocks);
      const { block } = index;
      const filterAt = block.memory.reserve(bitmapBytes(block.slots));
      for (let slot = 0; slot < block.slots; slot++) setSlot(block.memory, filterAt, slot, prng.chance(0.1));
      const queries = Array.from({ length: 20 }, () => queryFor(prng, block, draw));
      const k = 10;
      for (const filter of [0, filterAt]) {
        const truth = queries.map((query) => new Set(exactSearch(block, query, k, createTopK(k), { filterAt: filter, use: "f32" }).rows));
        const measure = (search: ListSearch): { recall: number; slots: number; exact: number } => {
          const sums = { recall: 0, slots: 0, exact: 0 };
          queries.forEach((query, i) => {
            const work = { lists: 0, slots: 0, exact: 0, scoresAt: 0, seenAt: 0 };
            const top = searchLists(index, query, { ...search, filterAt: filter }, createTopK(k), work);
            checkLists(index, query, work, filter !== 0);
            for (const row of top.rows.subarray(0, top.size)) if (truth[i]!.has(row)) sums.recall += 1 / k / queries.length;
            sums.slots += work.slots;
            sums.exact += work.exact;
          });
          return sums;
        };
        const little = measure({ probes: 1_000, margin: -2, slack: 0.5 });
        const more = measure({ probes: 1_000, margin: 1, slack: 0.5 });
        const most = measure({ probes: 1_000, margin: 5, slack: 4 });
        const few = measure({ probes: 2, margin: 5, slack: 4 });
        assert.ok(little.slots <= more.slots && more.slots <= most.slots, `${metric} ${JSON.stringify([little, more, most])}`);
        assert.ok(little.recall <= more.recall + 0.02 && more.recall <= most.recall + 0.02, `${metric} ${JSON.stringify([little, more, most])}`);
        assert.ok(most.recall > 0.98, `${metric} ${JSON.stringify(most)}`);
        assert.ok(few.slots < most.slots, `${metric} probes are a cap`);
      }
    }
  });

  test(under(`rows go to the centroid of the largest score, and each centroid gets its sum (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("nearest");
    for (let round = 0; round < 30; round++) {
      const dims = prng.between(1, 40);
      const floats = rowFloats(dims);
      const count = prng.between(1, 50);
      const total = prng.between(1, 30);
      const metric = prng.pick([...metrics]);
      const shape = { dims, metric };
      const memory = KernelMemory.create({ dataBytes: Centroids.bytes(shape, total) + (count + 4) * (floats * 4 + 8) + 512 }, kernels(variant));
      const centroids = new Centroids(memory, shape, total);
      const rowsAt = memory.reserve((count + 4) * floats * 4);
      const listAt = memory.reserve((count + 4) * 4);
      const scoreAt = memory.reserve((count + 4) * 4);
      const { f32, u32 } = memory;
      const draw = (at: number, rows: number): void => {
        for (let row = 0; row < rows; row++) for (let j = 0; j < floats; j++) f32[at / 4 + row * floats + j] = j < dims ? prng.between(-2, 2) : 0;
      };
      draw(rowsAt, count);
      draw(centroids.rowsAt, total);
      const row = (at: number, i: number): Float32Array => f32.slice(at / 4 + i * floats, at / 4 + (i + 1) * floats);
      centroids.prepare();
      centroids.clearSums();
      centroids.nearest(rowsAt, count, listAt, scoreAt);
      centroids.add(rowsAt, count, listAt);
      const sums = Array.from({ length: total }, () => ({ rows: 0, first: 0 }));
      for (let i = 0; i < count; i++) {
        const scores = Array.from({ length: total }, (_, c) => {
          const centroid = row(centroids.rowsAt, c);
          const bias = metric === "cosine" ? 0 : -centroid.reduce((sum, x) => sum + x * x, 0) / 2;
          return row(rowsAt, i).reduce((sum, x, j) => sum + x * centroid[j]!, bias);
        });
        assert.equal(f32[scoreAt / 4 + i], Math.max(...scores));
        const list = u32[listAt / 4 + i]!;
        assert.equal(scores[list], Math.max(...scores), `row ${i} of ${count}, ${total} centroids`);
        sums[list]!.rows++;
        sums[list]!.first += row(rowsAt, i)[0]!;
      }
      centroids.useMeans(false);
      sums.forEach(({ rows, first }, c) => {
        assert.equal(centroids.countOf(c), rows);
        if (rows > 0) assert.ok(Math.abs(f32[centroids.rowsAt / 4 + c * floats]! - first / rows) < 1e-5);
      });
    }
  });

  test(under(`promise: the nearest centroid by codes is that of comparing with all, bit for bit (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("nearest8");
    const kinds: Record<string, (row: number, j: number) => number> = {
      normal: () => prng.normal(),
      clustered: (row, j) => Math.sin((row % 7) * 12.9 + j * 78.2) + prng.normal(0, 0.1),
      // Many that could be the nearest, and equal ones.
      alike: () => 20 + prng.normal(0, 0.01),
      whole: () => prng.between(-2, 2),
      zeros: (row) => (row % 3 === 0 ? 0 : prng.normal()),
      uneven: (row) => Math.exp(((row * 7) % 11) - 5) * prng.normal(),
      tiny: () => 1e-40 * prng.normal(),
      huge: () => 1e18 * prng.normal(),
    };
    for (const [kind, draw] of Object.entries(kinds))
      for (const [dims, total] of [
        [1, 5],
        [19, 100],
        [64, 333],
      ] as const) {
        const metric = prng.pick([...metrics]);
        const shape = { dims, metric };
        const floats = rowFloats(dims);
        const count = 4 * prng.between(1, 60);
        const memory = KernelMemory.create({ dataBytes: Centroids.bytes(shape, total) + count * (floats * 4 + 16) + 1_024 }, kernels(variant));
        const centroids = new Centroids(memory, shape, total);
        const rowsAt = memory.reserve(count * floats * 4);
        const [listAt, scoreAt, plainListAt, plainScoreAt] = Array.from({ length: 4 }, () => memory.reserve(count * 4)) as [number, number, number, number];
        const { f32, u32, calls } = memory;
        for (const [at, rows] of [
          [rowsAt, count],
          [centroids.rowsAt, total],
        ] as const)
          for (let row = 0; row < rows; row++) for (let j = 0; j < floats; j++) f32[at / 4 + row * floats + j] = j < dims ? draw(row, j) : 0;
        centroids.prepare();
        centroids.nearest(rowsAt, count, listAt, scoreAt);
        const { blocksAt, biasAt } = centroids.places;
        calls.centroidsNearest(rowsAt, count, floats * 4, blocksAt, total, biasAt, plainListAt, plainScoreAt);
        const what = `${kind} ${metric} ${dims} numbers, ${total} centroids`;
        assert.deepEqual(u32.slice(listAt / 4, listAt / 4 + count), u32.slice(plainListAt / 4, plainListAt / 4 + count), what);
        assert.deepEqual(f32.slice(scoreAt / 4, scoreAt / 4 + count), f32.slice(plainScoreAt / 4, plainScoreAt / 4 + count), what);
      }
  });

  test(under("clusters that are there are found"), async () => {
    const prng = new Prng(seed).fork("clusters");
    const shape = { dims: 6, metric: "l2" } as const;
    const total = 5;
    const rows = 200;
    const memory = KernelMemory.create({ dataBytes: Centroids.bytes(shape, total) + (rows + 4) * (32 + 8) + 512 }, kernels(variant));
    const centroids = new Centroids(memory, shape, total);
    const at = memory.reserve((rows + 4) * 32);
    const listAt = memory.reserve((rows + 4) * 4);
    const scoreAt = memory.reserve((rows + 4) * 4);
    for (let i = 0; i < rows; i++) for (let j = 0; j < 8; j++) memory.f32[at / 4 + i * 8 + j] = j < 6 ? (i % total === j ? 100 : 0) + prng.float() : 0;
    const shares: number[] = [];
    await findCentroids(memory, centroids, shape, { at, rows, listAt, scoreAt }, prng, (share) => shares.push(share));
    assert.equal(shares.at(-1), 1);
    const found = Array.from({ length: total }, (_, c) => {
      const row = memory.f32.slice(centroids.rowsAt / 4 + c * 8, centroids.rowsAt / 4 + c * 8 + 6);
      return row.findIndex((x) => x > 99);
    });
    assert.deepEqual(found.toSorted(), [0, 1, 2, 3, 4]);
  });

  test(under(`codes name the nearest point, and no better points are found by another round (SEED=${seed})`), () => {
    const dims = 11;
    const index = plainIndex(variant, `${seed}codes`, dims, "ip", [70, 3, 33], (from) => from.normal());
    const { memory, rowsAt } = index.block;
    const { f32, bytes, u32 } = memory;
    const floats = rowFloats(dims);
    for (let list = 0; list < 3; list++) {
      for (let slot = u32[index.startsAt / 4 + list]!; slot < u32[index.startsAt / 4 + list + 1]!; slot++) {
        for (let code = 0; code < codeCount(dims); code++) {
          const byte = bytes[index.codes4At + ((slot >> 5) * codeCount(dims) + code) * 16 + (slot & 15)]!;
          const named = (slot & 16) === 0 ? byte & 15 : byte >> 4;
          const difference = [0, 1].map((j) =>
            2 * code + j < floats ? f32[rowsAt / 4 + slot * floats + 2 * code + j]! - f32[index.centroidsAt / 4 + list * floats + 2 * code + j]! : 0,
          );
          const far = Array.from({ length: codePoints }, (_, c) => {
            const point = index.bookAt / 4 + code * 2 * codePoints + c;
            return (f32[point]! - difference[0]!) ** 2 + (f32[point + codePoints]! - difference[1]!) ** 2;
          });
          assert.ok(far[named]! <= Math.min(...far) + 1e-5, `slot ${slot} code ${code}`);
        }
      }
    }
    for (let list = 0; list < 3; list++) assert.ok(f32[index.codeErrorsAt / 4 + list]! < 0.7);
  });

  test(under("numbers that are not finite are seen wherever they stand"), () => {
    const memory = KernelMemory.create({ dataBytes: 256 }, kernels(variant));
    const at = memory.reserve(200);
    for (const count of [1, 3, 4, 7, 8, 31])
      for (let place = 0; place < count; place++)
        for (const odd of [Number.NaN, Infinity, -Infinity]) {
          memory.f32.fill(1, at / 4, at / 4 + 40);
          assert.equal(memory.calls.floatsFinite(at, count), 1);
          memory.f32[at / 4 + place] = odd;
          assert.equal(memory.calls.floatsFinite(at, count), 0);
        }
  });
}
