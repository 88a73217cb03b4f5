// Guards filtered search of a segment: whatever passes, given as bits or as a filter, its answers are those of exact search over what passes; and each way of filling the room is taken.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Prng } from "#base/prng";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import { MemoryPool } from "#kernel/memory-pool";
import type { VectorMetric } from "#kernel/vector-layout";
import { exactSearch, exactSearchOf, normalise } from "#kernel/vector-rows";
import { freshSeed } from "#platform/fresh-seed";
import { systemFiles } from "#platform/system-files";
import { buildSegment } from "../segment/build-segment.ts";
import { exhaustiveSettings, type SearchSettings } from "../segment/search-settings.ts";
import { loadSegment, packIds, writeSegment } from "../segment/segment-files.ts";
import { paddingSlot, type SegmentParts } from "../segment/segment-parts.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import { AttributeColumns, type AttributeSource } from "./attribute-columns.ts";
import { attributeRoom, loadAttributes, writeAttributes } from "./attribute-files.ts";
import { compileFilter } from "./filter.ts";
import { fillFilter, type Filled, filteredLimits, filteredSearch, type FilteredWork, type Passing, searchPassing } from "./filtered-search.ts";

const seed = process.env["SEED"] ?? freshSeed();
const root = mkdtempSync(join(tmpdir(), "millrace-filtered-"));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;

interface World {
  readonly segment: VectorSegment;
  readonly stored: AttributeSource;
  /** Text by slot. */
  readonly textOf: (slot: number) => string | undefined;
  readonly prng: Prng;
}

/** Rows around some middles, each with a number without relation to its place and its middle. */
async function worldOf(metric: VectorMetric, count: number, dims: number, lists: number): Promise<World> {
  const prng = new Prng(seed).fork(`${metric} ${count}`);
  const middles = Float32Array.from({ length: 30 * dims }, () => prng.normal());
  const vectors = new Float32Array(count * dims);
  const texts: string[] = [];
  for (let row = 0; row < count; row++) {
    const middle = prng.below(30);
    for (let j = 0; j < dims; j++) vectors[row * dims + j] = middles[middle * dims + j]! + prng.normal(0, 0.5);
    texts.push(`{"n":${prng.below(count)},"middle":"m${middle}"}`);
  }
  const parts = await buildSegment({ vectors, count, dims }, { metric, lists, seed: 1 });
  const { segment, pathOf, room } = await load(parts, texts);
  const stored = await loadAttributes(systemFiles, pathOf, { memory: segment.memory, at: segment.extraAt, room, slots: segment.slots });
  assert.ok(stored !== undefined);
  for (let dead = 0; dead < count / 50; dead++) segment.kill(prng.below(segment.slots));
  return { segment, stored, textOf: (slot) => (parts.order[slot] === paddingSlot ? undefined : texts[parts.order[slot]!]), prng };
}

/** Writes and loads a segment, with room for the attributes of its rows. */
async function load(
  parts: SegmentParts,
  texts?: readonly string[],
): Promise<{ readonly segment: VectorSegment; readonly pathOf: (name: string) => string; readonly room: number }> {
  const folder = join(root, String(folders++));
  await systemFiles.makeFolder(folder);
  const pathOf = (name: string): string => join(folder, name);
  await writeSegment(parts, packIds(Array.from({ length: parts.rows }, (_, i) => String(i))), systemFiles, folder);
  if (texts !== undefined) await writeAttributes(parts.order, texts, systemFiles, folder);
  const room = await attributeRoom(systemFiles, pathOf);
  return { segment: await loadSegment(systemFiles, pathOf, new MemoryPool({ capBytes: 1 << 28 }), { owner: "test", extraBytes: room }), pathOf, room };
}

const answersOf = ({ size, rows, scores }: TopK): readonly (readonly [number, number])[] => Array.from({ length: size }, (_, i) => [rows[i]!, scores[i]!]);

/** All live rows by their exact score, nearest first. */
function ranked({ segment }: World, query: Float32Array): readonly (readonly [number, number])[] {
  return answersOf(exactSearch(segment.block, query, segment.slots, createTopK(segment.slots), { use: "f32" }));
}

function fill(segment: VectorSegment, passing: Passing): Filled {
  const filling = fillFilter(segment, passing);
  for (;;) {
    const { done, value } = filling.next();
    if (done === true) return value;
  }
}

for (const metric of ["cosine", "ip", "l2"] as const) {
  void test(`${metric}: promise: searches among what passes have the answers of exact search, whatever passes (SEED=${seed})`, async () => {
    const dims = 20;
    const world = await worldOf(metric, 6_000, dims, 40);
    const { segment, prng, stored, textOf } = world;
    const { slots } = segment;
    const taken = new Set<string>();
    for (let round = 0; round < 6; round++) {
      const query = Float32Array.from({ length: dims }, () => prng.normal());
      if (metric === "cosine") normalise(query, dims);
      const all = ranked(world, query);
      const check = (passing: Passing, passes: (slot: number) => boolean, what: string): void => {
        const k = prng.pick([1, 5, 20, 300]);
        const work: FilteredWork = { way: "none", gaveUp: false };
        const top = filteredSearch(segment, query, passing, exhaustiveSettings, createTopK(k), work);
        taken.add(`${work.way}${fill(segment, passing).listed ? ", listed" : ""}`);
        const expected = all.filter(([slot]) => passes(slot)).slice(0, k);
        assert.deepEqual(answersOf(top), expected, `${what}, ${k} answers, ${work.way}`);
      };
      for (const share of [0, 0.0005, 0.004, 0.015, 0.04, 0.5, 1]) {
        const chosen = new Set<number>();
        const opposed = prng.chance(0.5);
        if (opposed) for (const [slot] of all.slice(Math.floor(all.length * (1 - share)))) chosen.add(slot);
        else for (let slot = 0; slot < slots; slot++) if (prng.chance(share)) chosen.add(slot);
        const bitmap = new Uint32Array(slots / 32);
        for (const slot of chosen) bitmap[slot >>> 5]! |= 1 << (slot & 31);
        check({ bitmap }, (slot) => chosen.has(slot), `${opposed ? "opposed" : "independent"} ${share}`);
      }
      const from = prng.below(6_000);
      for (const text of [
        `.n >= ${from} and .n < ${from + prng.below(200)}`,
        `.n == ${from} or .n == ${from + 1} or .n == ${from}`,
        `.n in [${from}, ${from}, ${from + 1}]`,
        `.n < 150 and .middle != "m${prng.below(30)}"`,
        `.middle == "m${prng.below(30)}"`,
        `.n * 2 < ${2 * from}`,
        ".missing > 1",
      ]) {
        const filter = compileFilter(text);
        check({ filter, attributes: stored }, (slot) => filter.passes(textOf(slot)), text);
      }
    }
    for (const way of ["exact, listed", "index", "none, listed"]) assert.ok(taken.has(way), `${way} was not taken, but ${[...taken].join("; ")}`);
    segment.release();
  });
}

for (const [clusters, spread, hasBlocks] of [
  [200, 0.3, false],
  [1_000, 0.2, true],
] as const) {
  void test(`promise: what few rows pass is found by settings tuned without a filter: ${clusters} clusters of 8 numbers`, async () => {
    const [dims, count, queries, k] = [8, 40_000, 50, 20];
    const prng = new Prng("rows of 8 numbers").fork(String(clusters));
    const middles = Float32Array.from({ length: clusters * dims }, () => prng.normal());
    const draw = (rows: number): Float32Array => {
      const drawn = new Float32Array(rows * dims);
      for (let row = 0; row < rows; row++) {
        const middle = prng.below(clusters) * dims;
        for (let j = 0; j < dims; j++) drawn[row * dims + j] = middles[middle + j]! + prng.normal(0, spread);
      }
      return drawn;
    };
    const { segment } = await load(await buildSegment({ vectors: draw(count), count, dims }, { metric: "cosine", seed: 1 }));
    assert.equal((segment.index?.blockCodesAt ?? 0) !== 0, hasBlocks);
    const asked = draw(queries);
    const top = createTopK(k);
    const room = segment.filterRoomAt;
    const recallOf = (settings: SearchSettings, share: number): number => {
      let found = 0;
      for (let i = 0; i < queries; i++) {
        const query = asked.subarray(i * dims, (i + 1) * dims);
        normalise(query, dims);
        const bitmap = new Uint32Array(segment.slots / 32).fill(share === 1 ? 0xffff_ffff : 0);
        if (share < 1) for (let slot = 0; slot < segment.slots; slot++) if (prng.u32() < share * 2 ** 32) bitmap[slot >>> 5]! |= 1 << (slot & 31);
        const work: FilteredWork = { way: "index", gaveUp: false };
        if (share === 1) segment.search(query, settings, top);
        else filteredSearch(segment, query, { bitmap }, settings, top, work);
        assert.equal(work.way, "index");
        const scores = top.scores.slice(0, top.size);
        segment.memory.u32.set(bitmap, room / 4);
        const bar = exactSearch(segment.block, query, k, top, { use: "f32", filterAt: room }).scores[k - 1]! - 1e-6;
        for (const score of scores) if (score >= bar) found++;
      }
      return found / (queries * k);
    };
    // Answers of unfiltered searches stand in the first lists, so tuning ends at the least margin.
    const settings: SearchSettings = { probes: 65_536, margin: 0, slack: 4 };
    assert.ok(recallOf(settings, 1) >= 0.98);
    for (const share of [0.1, 0.03]) {
      const recall = recallOf(settings, share);
      assert.ok(recall >= 0.985, `recall@20 ${recall} where ${share} of the rows pass`);
    }
    segment.release();
  });
}

void test(`a bitmap of more words than are copied at once, and a list of more than one step (SEED=${seed})`, async () => {
  const prng = new Prng(seed).fork("many words");
  const count = filteredLimits.copyWords * 32 + 5_000;
  const vectors = Float32Array.from({ length: count }, () => prng.float());
  const { segment } = await load(await buildSegment({ vectors, count, dims: 1 }, { metric: "ip", lists: 1, seed: 1 }));
  const query = Float32Array.of(1);
  const words = segment.slots / 32;
  for (const share of [0.0003, 0.018]) {
    const bitmap = new Uint32Array(words);
    // The ends of each copy too.
    for (let slot = 0; slot < segment.slots; slot++) if (prng.chance(share)) bitmap[slot >>> 5]! |= 1 << (slot & 31);
    for (let at = 0; at <= words; at += filteredLimits.copyWords) {
      if (at > 0) bitmap[at - 1]! |= 1 << 31;
      if (at < words) bitmap[at]! |= 1;
    }
    bitmap[words - 1]! |= 1 << 31;
    const filled = fill(segment, { bitmap });
    assert.ok(filled.listed);
    const expected: number[] = [];
    for (let slot = 0; slot < segment.slots; slot++) if (((bitmap[slot >>> 5]! >>> (slot & 31)) & 1) === 1) expected.push(slot);
    assert.deepEqual([...segment.memory.u32.subarray(segment.filterRoomAt / 4, segment.filterRoomAt / 4 + filled.rows)], expected);
    const top = createTopK(50);
    const steps = searchPassing(segment, query, filled, exhaustiveSettings, top);
    let yields = 0;
    while (steps.next().done !== true) yields++;
    if (share === 0.018) assert.ok(filled.rows > filteredLimits.stepRows);
    assert.equal(yields, Math.max(0, Math.ceil(filled.rows / filteredLimits.stepRows) - 1));
    assert.deepEqual(answersOf(top), answersOf(exactSearchOf(segment.block, query, 50, createTopK(50), Uint32Array.from(expected))));
  }
  segment.release();
});

void test("a list stands where rows die after it was made, and attributes that no row has pass nothing", async () => {
  const world = await worldOf("ip", 4_000, 8, 20);
  const { segment } = world;
  const query = new Float32Array(8).fill(1);
  const bitmap = new Uint32Array(segment.slots / 32);
  const most = Math.floor(segment.liveRows * filteredLimits.exactShareMax);
  // Spread over the ranks: rows that lie together may be taken for more than they are by the first look at some words.
  const all = ranked(world, query);
  const chosen = Array.from({ length: most }, (_, i) => all[Math.floor((i * all.length) / most)]![0]);
  for (const slot of chosen) bitmap[slot >>> 5]! |= 1 << (slot & 31);
  const filled = fill(segment, { bitmap });
  assert.deepEqual(filled, { rows: most, listed: true });
  // So many that what passes is now more than is compared one by one.
  for (let slot = 0; slot < segment.slots; slot++) if (!chosen.includes(slot) && slot % 2 === 0) segment.kill(slot);
  segment.kill(chosen[0]!);
  const top = createTopK(5);
  for (const _ of searchPassing(segment, query, filled, exhaustiveSettings, top));
  assert.deepEqual([...top.rows], chosen.slice(1, 6));
  filteredSearch(segment, query, { filter: compileFilter(".a == 1"), attributes: new AttributeColumns() }, exhaustiveSettings, top);
  assert.equal(top.size, 0);
  filteredSearch(segment, query, { filter: compileFilter(".a == 1"), attributes: undefined }, exhaustiveSettings, top);
  assert.equal(top.size, 0);
  segment.release();
});
