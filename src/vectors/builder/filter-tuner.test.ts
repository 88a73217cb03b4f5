// Guards the margins of filtered searches: tuned on one set of queries and filters they serve others, also where the margin of unfiltered searches says nothing of filters.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Prng } from "#base/prng";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import { MemoryPool } from "#kernel/memory-pool";
import { exactSearch, normalise } from "#kernel/vector-rows";
import { freshSeed } from "#platform/fresh-seed";
import { systemFiles } from "#platform/system-files";
import { filteredSearch, filterSlack } from "../filter/filtered-search.ts";
import { buildSegment } from "../segment/build-segment.ts";
import { filterShares, parseSearchSettings, type SearchSettings, settingFigures } from "../segment/search-settings.ts";
import { loadSegment, packIds, writeSegment } from "../segment/segment-files.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import { tuneFilters } from "./filter-tuner.ts";

const seed = process.env["SEED"] ?? freshSeed();
const folder = mkdtempSync(join(tmpdir(), "millrace-filter-tuner-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const dims = 16;
const at = 10;

/** Rows around middles, and what draws more of them. */
async function worldOf(rows: number, middles: number, spread: number): Promise<{ segment: VectorSegment; draw: (count: number) => Float32Array }> {
  const prng = new Prng(seed).fork(`${rows} ${middles}`);
  const centres = Float32Array.from({ length: middles * dims }, () => prng.normal());
  const draw = (count: number): Float32Array => {
    const vectors = new Float32Array(count * dims);
    for (let row = 0; row < count; row++) {
      const middle = prng.below(middles);
      for (let j = 0; j < dims; j++) vectors[row * dims + j] = centres[middle * dims + j]! + prng.normal(0, spread);
    }
    normalise(vectors, dims);
    return vectors;
  };
  const parts = await buildSegment({ vectors: draw(rows), count: rows, dims }, { metric: "cosine", seed: 1 });
  const path = mkdtempSync(join(folder, "segment-"));
  await writeSegment(parts, packIds(Array.from({ length: rows }, (_, i) => String(i))), systemFiles, path);
  return { segment: await loadSegment(systemFiles, (name) => join(path, name), new MemoryPool({ capBytes: 2 ** 30 }), { owner: "test" }), draw };
}

/** Of fresh queries with a filter each. */
function recallOf(
  segment: VectorSegment,
  queries: Float32Array,
  share: number,
  prng: Prng,
  search: (query: Float32Array, bitmap: Uint32Array, into: TopK) => void,
): number {
  const [truth, found] = [createTopK(at), createTopK(at)];
  const count = queries.length / dims;
  let hits = 0;
  for (let q = 0; q < count; q++) {
    const query = queries.subarray(q * dims, (q + 1) * dims);
    const bitmap = new Uint32Array(segment.slots / 32);
    for (let slot = 0; slot < segment.slots; slot++) if (prng.float() < share) bitmap[slot >>> 5]! |= 1 << (slot & 31);
    segment.memory.u32.set(bitmap, segment.filterRoomAt / 4);
    exactSearch(segment.block, query, at, truth, { filterAt: segment.filterRoomAt });
    const right = new Set(truth.rows.subarray(0, truth.size));
    search(query, bitmap, found);
    for (let i = 0; i < found.size; i++) if (right.has(found.rows[i]!)) hits++;
  }
  return hits / (count * at);
}

for (const [what, rows, middles, spread, margin] of [
  ["clusters smaller than lists", 20_000, 2_000, 0.3, 7],
  ["clusters as large as lists, of which an unfiltered search needs no margin", 20_000, 150, 0.3, 0],
] as const) {
  test(`margins tuned for filters serve other queries and other filters: ${what}`, async () => {
    const { segment, draw } = await worldOf(rows, middles, spread);
    try {
      const untuned: SearchSettings = { probes: 65_536, margin, slack: 2.5 };
      const queries = { vectors: draw(96), count: 96, dims, at };
      const filterMargins = await tuneFilters(segment, queries, untuned, 0.99);
      assert.deepEqual(await tuneFilters(segment, queries, untuned, 0.99), filterMargins, "the same again");
      assert.equal(filterMargins.length, filterShares.length);
      for (let i = 1; i < filterMargins.length; i++) assert.ok(filterMargins[i]! >= filterMargins[i - 1]!, `${filterMargins.join()} rise`);
      const settings = { ...untuned, filterMargins };
      const prng = new Prng(seed);
      // Of 1,000 answers; those of one query stand and fall together.
      for (const share of [0.5, 0.2, 0.1, 0.05, 0.03]) {
        const recall = recallOf(segment, draw(100), share, prng, (query, bitmap, into) => filteredSearch(segment, query, { bitmap }, settings, into));
        assert.ok(recall >= 0.975, `recall ${recall} at ${share}, margins ${filterMargins.join()}`);
      }
      // The margins themselves, without what a rule adds: enough, and no more than that.
      assert.ok(filterMargins.at(-1)! < 14, filterMargins.join());
      const slack = filterSlack(settings, (segment.index?.blockCodesAt ?? 0) !== 0);
      for (const [i, share] of filterShares.entries()) {
        const by = (margin: number): number =>
          recallOf(segment, draw(100), share, prng, (query, _bitmap, into) =>
            segment.search(query, { probes: 65_536, margin, slack }, into, segment.filterRoomAt),
          );
        assert.ok(by(filterMargins[i]!) >= 0.975, `margin ${filterMargins[i]} at ${share}`);
      }
    } finally {
      segment.release();
    }
  });
}

test("margins for filters are read as they were written, each within limits", () => {
  const settings: SearchSettings = { probes: 10, margin: 7, slack: 3, filterMargins: [8, 9.5, 10] };
  assert.deepEqual(parseSearchSettings(JSON.parse(JSON.stringify(settings))), settings);
  for (const bad of [[8, 9], [8, 9, 17], [8, 9, -1], [8, 9, "10"], "8", {}, [8, 9, null]])
    assert.throws(() => parseSearchSettings({ ...settings, filterMargins: bad }), { code: "invalid" });
  assert.deepEqual(settingFigures(settings), { probes: 10, margin: 7, slack: 3, "filterMargin.0.5": 8, "filterMargin.0.1": 9.5, "filterMargin.0.025": 10 });
});
