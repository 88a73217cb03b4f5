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

test("all variants keep the same candidates: int8 answers are the same rows even with no spare candidate", () => {
  const prng = new Prng(process.env["SEED"] ?? "candidates");
  const dims = 52;
  const shape = { dims, metric: "l2" } as const;
  const vectors = Float32Array.from({ length: 3_000 * dims }, () => prng.normal());
  const query = Float32Array.from({ length: dims }, () => prng.normal());
  const answers = kernelVariants.map((variant) => {
    const memory = KernelMemory.create({ dataBytes: vectorBlockBytes(shape, 3_000, { codes: true, live: true }) }, kernels(variant));
    const block = createVectorBlock(memory, shape, 3_000, { codes: true, live: true });
    writeRows(block, 0, vectors);
    for (let slot = 0; slot < 3_000; slot++) setSlot(memory, block.liveAt, slot, true);
    scalesOf(block);
    quantise(block);
    const top = exactSearch(block, query, 100, createTopK(100), { use: "int8", candidates: 100 });
    return top.rows.toSorted();
  });
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
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
  refuses("invalid", () => exactSearch(block, new Float32Array(6), 1, createTopK(1), { candidates: 0 }));
  // One query and its heap must fit into the lane.
  refuses("invalid", () => exactSearch(block, new Float32Array(6), 2_000, createTopK(2_000)));
  refuses("invalid", () => exactSearchBatch(block, new Float32Array(12), 1, [createTopK(1)]));
  refuses("invalid", () => writeRows(block, 63, new Float32Array(12)));
  refuses("invalid", () => writeRows(block, 0, new Float32Array(7)));
  refuses("invalid", () => scalesOf({ ...block, codesAt: 0 }));
  refuses("internal", () => new ExactScan(block).scan(0, 1));
});
