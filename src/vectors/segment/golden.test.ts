// Golden bytes: the files of versions 1 and 2 are read for ever. A segment of two lists whose every number is known, under each metric.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createTopK } from "#kernel/dot-top-k";
import { MemoryPool } from "#kernel/memory-pool";
import type { VectorMetric } from "#kernel/vector-layout";
import { systemFiles } from "#platform/system-files";
import { exhaustiveSettings } from "./search-settings.ts";
import { loadSegment, packIds, writeSegment } from "./segment-files.ts";
import { arraysOf, elementsOf, paddingSlot, type SegmentArray, type SegmentParts } from "./segment-parts.ts";

const golden = (version: number): string => join(import.meta.dirname, `../../../test/golden/vector-segment/v${version}`);

/** Three rows of two numbers in two lists: [3, 4], [0, 5] and [-1, 0]; under cosine of length 1. */
function partsOf(metric: VectorMetric): SegmentParts {
  const unit = metric === "cosine";
  const vectors = unit ? [0.6, 0.8, 0, 1, -1, 0] : [3, 4, 0, 5, -1, 0];
  const slotOf = [0, 1, 32];
  const order = new Uint32Array(64).fill(paddingSlot);
  slotOf.forEach((slot, row) => (order[slot] = row));
  const known: Record<string, readonly (readonly [number, number])[]> = {
    starts: [
      [1, 32],
      [2, 64],
    ],
    live: [
      [0, 3],
      [1, 1],
    ],
    rows: vectors.map((value, i) => [slotOf[i >> 1]! * 4 + (i & 1), value] as const),
    codes8: vectors.map((value, i) => [slotOf[i >> 1]! * 16 + (i & 1), Math.round((value / (unit ? 1 : 5)) * 127)] as const),
    scales: [
      [0, unit ? 1 : 5],
      [1, unit ? 1 : 5],
    ],
    norms: [
      [0, 5],
      [1, 5],
      [32, 1],
    ],
    bias: [
      [0, -12.5],
      [1, -12.5],
      [32, -0.5],
    ],
    centroids: [
      [0, 1.5],
      [1, 4.5],
      [4, -1],
    ],
    spreads: [
      [0, 1],
      [1, 0.5],
    ],
    "code-errors": [
      [0, 0.25],
      [1, 0.125],
    ],
    codes4: [
      [0, 1],
      [1, 2],
    ],
    points: [
      [1, 1.5],
      [2, -1.5],
      [17, -0.5],
      [18, 0.5],
    ],
    "list-bias": [
      [0, -12.5],
      [1, -0.5],
    ],
    "block-codes": [
      [0, 1],
      [64, 2],
    ],
    "block-spreads": [
      [0, 1.25],
      [1, 0.75],
    ],
    "block-bias": [
      [0, -12.5],
      [1, -0.5],
    ],
  };
  const arrays = new Map<string, SegmentArray>();
  for (const layout of arraysOf({ metric, dims: 2, rows: 3, slots: 64, lists: 2, idBytes: 9, groups: 2 })) {
    const numbers = known[layout.name];
    if (numbers === undefined) continue;
    const make = { "<f4": Float32Array, "<u4": Uint32Array, "|i1": Int8Array, "|u1": Uint8Array }[layout.type];
    const array = new make(elementsOf(layout));
    for (const [at, value] of numbers) array[at] = value;
    arrays.set(layout.name, array);
  }
  return { shape: { dims: 2, metric }, rows: 3, slots: 64, lists: 2, order, arrays, statistics: {} };
}

async function isRead(known: string, metric: VectorMetric): Promise<void> {
  const segment = await loadSegment(systemFiles, (name) => join(known, name), new MemoryPool(), { owner: "golden" });
  assert.deepEqual(
    ["a", "bé", "ccccc"].map((id) => segment.slotOf(id)),
    [0, 1, 32],
  );
  for (const settings of [exhaustiveSettings, { ...exhaustiveSettings, slack: 15 }]) {
    const top = segment.search(Float32Array.of(0, 1), settings, createTopK(3));
    // l2: squared distances 2, 16 and 18.
    assert.deepEqual([...top.rows], metric === "l2" ? [32, 1, 0] : [1, 0, 32]);
  }
  segment.release();
}

for (const metric of ["cosine", "ip", "l2"] as const) {
  test(`golden: a segment of version 2, ${metric}, has these bytes, and is read from them`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "millrace-golden-"));
    try {
      await writeSegment(partsOf(metric), packIds(["a", "bé", "ccccc"]), systemFiles, folder);
      const known = join(golden(2), metric);
      if (!existsSync(known)) {
        assert.equal(process.env["MILLRACE_GOLDEN"], "write", "no golden files: MILLRACE_GOLDEN=write writes them, once for a version");
        mkdirSync(known, { recursive: true });
        for (const name of readdirSync(folder)) writeFileSync(join(known, name), readFileSync(join(folder, name)));
      }
      assert.deepEqual(readdirSync(folder), readdirSync(known));
      for (const name of readdirSync(known))
        assert.deepEqual(readFileSync(join(folder, name)).toString("hex"), readFileSync(join(known, name)).toString("hex"), name);
      await isRead(known, metric);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test(`golden: a segment of version 1, ${metric}, is read as before`, () => isRead(join(golden(1), metric), metric));
}
