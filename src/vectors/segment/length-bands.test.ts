// Guards lists over rows of uneven length: what the answers of inner products are stays findable at a small part of the rows, and rows of like length are not parted.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { createTopK } from "#kernel/dot-top-k";
import { MemoryPool } from "#kernel/memory-pool";
import { exactSearch } from "#kernel/vector-rows";
import { systemFiles } from "#platform/system-files";
import { buildSegment } from "./build-segment.ts";
import { bandedLists } from "./length-bands.ts";
import { loadSegment, packIds, writeSegment } from "./segment-files.ts";

const dims = 16;

/** Rows around 200 directions, lengths log-normal with deviation `spread`. */
function rowsOf(count: number, spread: number): Float32Array {
  const random = new Prng("rows of uneven length");
  const middles = Float32Array.from({ length: 200 * dims }, () => random.normal());
  const rows = new Float32Array(count * dims);
  for (let row = 0; row < count; row++) {
    const middle = random.below(200) * dims;
    const length = Math.exp(spread * random.normal());
    for (let j = 0; j < dims; j++) rows[row * dims + j] = length * (middles[middle + j]! + 0.7 * random.normal());
  }
  return rows;
}

test("rows of like length are not parted; of uneven ones every row has a list of rows of about its length", async () => {
  const [count, lists] = [20_000, 128];
  assert.equal(await bandedLists({ vectors: rowsOf(count, 0.05), count, dims }, lists, new Prng(1), () => undefined), undefined);
  const vectors = rowsOf(count, 0.8);
  // Equal ones, of length 0 and one far beyond all others.
  vectors.fill(0, 0, 100 * dims);
  for (let row = 100; row < 300; row++) vectors.copyWithin(row * dims, 300 * dims, 301 * dims);
  vectors.fill(1e6, 400 * dims, 401 * dims);
  const found = await bandedLists({ vectors, count, dims }, lists, new Prng(1), () => undefined);
  assert.ok(found !== undefined && found.lists > lists / 2 && found.lists < lists * 2);
  const lengths = Float64Array.from({ length: count }, (_, row) => Math.hypot(...vectors.subarray(row * dims, (row + 1) * dims)));
  const median = lengths.toSorted()[count / 2]!;
  const [longest, shortest] = [new Float64Array(found.lists), new Float64Array(found.lists).fill(Infinity)];
  found.listOf.forEach((list, row) => {
    assert.ok(list < found.lists);
    longest[list] = Math.max(longest[list]!, lengths[row]!);
    shortest[list] = Math.min(shortest[list]!, lengths[row]!);
  });
  // Bands of the fewest rows apart, and the one below the median.
  const uneven = longest.filter((most, list) => shortest[list]! > 1.3 * median && most > 1.31 * shortest[list]!);
  assert.ok(uneven.length <= 3, `${uneven.length} lists of uneven rows`);
  const again = await bandedLists({ vectors, count, dims }, lists, new Prng(1), () => undefined);
  assert.deepEqual(again!.listOf, found.listOf);
});

test("promise: inner products over rows of log-normal lengths are found by an index at a tenth of the rows", async () => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-bands-"));
  const count = 40_000;
  const vectors = rowsOf(count, 0.5);
  const ids = Array.from({ length: count }, (_, i) => String(i));
  await writeSegment(await buildSegment({ vectors, count, dims }, { metric: "ip", lists: 512 }), packIds(ids), systemFiles, folder);
  const segment = await loadSegment(systemFiles, (name) => join(folder, name), new MemoryPool(), { owner: "test" });
  const [into, truth] = [createTopK(20), createTopK(20)];
  let [hits, slots] = [0, 0];
  const queries = 200;
  for (let q = 0; q < queries; q++) {
    const query = vectors.subarray(q * dims, (q + 1) * dims);
    segment.search(query, { probes: 65_536, margin: 8, slack: 3.5 }, into);
    slots += segment.work.slots + segment.work.exact;
    const wanted = new Set(exactSearch(segment.block, query, 20, truth).rows.subarray(0, 20));
    for (const slot of into.rows.subarray(0, into.size)) if (wanted.has(slot)) hits++;
  }
  segment.release();
  await rm(folder, { recursive: true });
  assert.ok(hits / (20 * queries) >= 0.985, `recall ${hits / (20 * queries)}`);
  assert.ok(slots / queries <= count / 10, `${slots / queries} rows a query`);
});
