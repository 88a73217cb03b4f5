// Exact search over vector blocks: the contract in every variant, what the faces refuse, and that all variants agree.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type ErrorCode, MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { createTopK } from "./dot-top-k.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, kernelVariants, loadVariant } from "./kernels.ts";
import { codeBytes, createVectorBlock, rowFloats, setSlot, vectorBlockBytes } from "./vector-layout.ts";
import { exactSearch, exactSearchBatch, ExactScan, normalise, quantise, scalesOf, writeRows } from "./vector-rows.ts";
import { vectorContract } from "./vectors.contract.ts";

for (const variant of kernelVariants) {
  const loaded = loadVariant(variant);
  if (typeof loaded === "string") test(`${variant}: vectors`, { skip: loaded }, () => {});
  else vectorContract(variant);
}

function refuses(code: ErrorCode, call: () => unknown): void {
  assert.throws(call, (error: unknown) => error instanceof MillraceError && error.code === code);
}

test("int8 gives the answers of f32 where codes are poor: clusters far from zero, lengths that differ, one dimension much larger; in every variant", () => {
  const prng = new Prng(process.env["SEED"] ?? "poor codes");
  const dims = 52;
  const count = 3_000;
  const parts = { codes: true, live: true };
  for (const metric of ["l2", "ip"] as const) {
    const shape = { dims, metric };
    const vectors = new Float32Array(count * dims);
    for (let row = 0; row < count; row++) {
      const length = Math.exp(2 * prng.normal());
      const centre = prng.below(20) * 10;
      for (let i = 0; i < dims; i++) vectors[row * dims + i] = i === 3 ? 1_000 * prng.normal() : centre + length * prng.normal();
    }
    for (const variant of kernelVariants) {
      const memory = KernelMemory.create({ dataBytes: vectorBlockBytes(shape, count, parts) }, kernels(variant));
      const block = createVectorBlock(memory, shape, count, parts);
      writeRows(block, 0, vectors);
      for (let slot = 0; slot < count; slot++) setSlot(memory, block.liveAt, slot, true);
      scalesOf(block);
      quantise(block);
      for (let i = 0; i < 12; i++) {
        const query = vectors.slice(i * dims, (i + 1) * dims);
        const exact = exactSearch(block, query, 20, createTopK(20), { use: "f32" });
        assert.deepEqual(exactSearch(block, query, 20, createTopK(20), { use: "int8" }), exact, `${variant} ${metric} ${i}`);
        if (metric === "l2") assert.deepEqual([exact.rows[0], exact.scores[0]], [i, 0]);
      }
    }
  }
});

test("vectors of length one: norms are told, zeros stay zeros", () => {
  const vectors = Float32Array.of(3, 4, 0, 0, -2, 0);
  const norms = new Float32Array(3);
  normalise(vectors, 2, norms);
  assert.deepEqual([...norms], [5, 0, 2]);
  assert.deepEqual([...vectors], [Math.fround(0.6), Math.fround(0.8), 0, 0, -1, 0]);
});

test("what does not fit is refused", () => {
  const shape = { dims: 6, metric: "cosine" } as const;
  const memory = KernelMemory.create({ dataBytes: 64 * 1024, laneBytes: 8 * 1024 });
  const block = createVectorBlock(memory, shape, 40, { codes: true, live: true });
  assert.equal(block.slots, 64);
  assert.equal(rowFloats(6), 8);
  assert.equal(codeBytes(17), 32);
  refuses("invalid", () => rowFloats(0));
  refuses("invalid", () => codeBytes(8_193));
  refuses("invalid", () => exactSearch(block, new Float32Array(5), 1, createTopK(1)));
  refuses("invalid", () => exactSearch(block, new Float32Array(12), 1, createTopK(1)));
  refuses("invalid", () => exactSearch(block, new Float32Array(6), 2, createTopK(1)));
  refuses("invalid", () => exactSearch(block, new Float32Array(6), 0, createTopK(1)));
  refuses("invalid", () => exactSearch(block, new Float32Array(6), 1, createTopK(1), { to: 65 }));
  // One query and its heap must fit into the lane.
  refuses("invalid", () => exactSearch(block, new Float32Array(6), 2_000, createTopK(2_000)));
  refuses("invalid", () => exactSearchBatch(block, new Float32Array(12), 1, [createTopK(1)]));
  refuses("invalid", () => writeRows(block, 63, new Float32Array(12)));
  refuses("invalid", () => writeRows(block, 0, new Float32Array(7)));
  refuses("invalid", () => scalesOf({ ...block, codesAt: 0 }));
  refuses("internal", () => new ExactScan(block).scan(0, 1));
});
