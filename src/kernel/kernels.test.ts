// The contract of all variants, the choice between them, and what variants share: bytes of a table, scores but for their last bits.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { createF32Block, createTopK, searchByDot, writeF32Rows } from "./dot-top-k.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernelContract } from "./kernels.contract.ts";
import { chooseKernels, kernelReport, kernels, type Kernels, kernelVariants, liveVariant, loadVariant } from "./kernels.ts";
import { KeyBatch } from "./key-batch.ts";
import { keySeed } from "./key-hash.ts";
import { KeyTable, keyTableBytes } from "./key-table.ts";
import { warmUp } from "./warm-up.ts";
import { warmUpParameters } from "./warm-up-parameters.ts";
import { warmUpVectors } from "./warm-up-vectors.ts";

const runnable = kernelVariants.filter((variant) => typeof loadVariant(variant) !== "string");

for (const variant of kernelVariants) {
  const loaded = loadVariant(variant);
  if (typeof loaded === "string") test(`${variant}: contract`, { skip: loaded }, () => {});
  else kernelContract(variant);
}

test("the live variant is the first that runs, and the report gives a reason for each one passed over", () => {
  assert.equal(liveVariant(), runnable[0]);
  assert.equal(kernels().variant, liveVariant());
  assert.deepEqual(
    kernelReport().refused.map(({ variant }) => variant),
    kernelVariants.slice(0, kernelVariants.indexOf(liveVariant())),
  );
});

test("this engine, Node 24 with built kernels, runs relaxed SIMD", () => {
  assert.equal(liveVariant(), "relaxed");
});

test("warming up runs every kernel on each variant", () => {
  // As a process does that was not told to begin cold.
  for (const variant of runnable) {
    const loaded = loadVariant(variant) as Kernels;
    for (const warm of [warmUp, warmUpParameters, warmUpVectors]) warm(loaded);
  }
});

test("a missing or refused binary falls back, with the reason kept", () => {
  const simd128 = readFileSync(new URL("../../kernels/build/kernels.simd128.wasm", import.meta.url));
  const nothing = chooseKernels(() => undefined);
  assert.equal(nothing.kernels.variant, "scalar");
  assert.equal(nothing.report.refused.length, 2);
  assert.match(nothing.report.refused[0]!.reason, /kernels\.relaxed\.wasm is missing: npm install builds it/);

  const damaged = chooseKernels((file) => (file.includes("relaxed") ? Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 255) : simd128));
  assert.equal(damaged.kernels.variant, "simd128");
  assert.match(damaged.report.refused[0]!.reason, /refuses kernels\.relaxed\.wasm/);

  assert.equal(
    loadVariant("simd128", () => undefined),
    "kernels/build/kernels.simd128.wasm is missing: npm install builds it",
  );
});

test("a binary without a kernel is refused when it is bound", () => {
  const empty = loadVariant("simd128", () => Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0));
  assert.ok(typeof empty !== "string");
  assert.throws(
    () => KernelMemory.create({ dataBytes: 0 }, empty),
    (error: unknown) => error instanceof MillraceError && error.code === "internal",
  );
});

test("a table built by one variant is read and continued by every other", () => {
  const size = { keysMax: 400, keyBytesMax: 20_000 };
  const prng = new Prng(process.env["SEED"] ?? "shared");
  const keys = Array.from({ length: 300 }, () => prng.bytes(new Uint8Array(prng.below(60))));
  const batch = KeyBatch.of(keys);
  const distinct = new Set(keys.map((key) => Buffer.from(key).toString("hex"))).size;
  for (const builder of runnable) {
    const memory = KernelMemory.create({ dataBytes: keyTableBytes(size) }, kernels(builder));
    const table = KeyTable.create(memory, size, keySeed(5n));
    const rows = new Uint32Array(300);
    table.insert(KeyBatch.of(keys.slice(0, 100)), rows);
    for (const other of runnable) {
      const joined = KeyTable.attach(KernelMemory.attach(memory.memory, 0, kernels(other)), table.at);
      assert.equal(joined.insert(batch, rows), 300);
      const found = new Uint32Array(300);
      assert.equal(joined.probe(batch, found), 300, `${builder} read by ${other}`);
      assert.deepEqual(found, rows);
      assert.equal(joined.count, distinct);
    }
  }
});

test("variants give the same rows where scores are far apart, and scores equal to six digits", () => {
  const prng = new Prng("far apart");
  const dims = 70;
  const direction = Float32Array.from({ length: dims }, () => prng.normal());
  const rows = new Float32Array(500 * dims);
  const scale = prng.shuffle(Array.from({ length: 500 }, (_, i) => i / 100 - 2));
  for (let row = 0; row < 500; row++) for (let i = 0; i < dims; i++) rows[row * dims + i] = direction[i]! * scale[row]!;
  const tops = runnable.map((variant) => {
    const memory = KernelMemory.create({ dataBytes: 1 << 18 }, kernels(variant));
    const block = createF32Block(memory, 500, dims);
    writeF32Rows(block, 0, rows);
    return searchByDot(block, direction, createTopK(40));
  });
  for (const top of tops) {
    assert.deepEqual(top.rows, tops[0]!.rows);
    for (let i = 0; i < 40; i++) assert.ok(Math.abs(top.scores[i]! / tops[0]!.scores[i]! - 1) < 1e-6);
  }
});

test("a table is probed by other threads while one inserts: found keys have their row, keys inserted before are found", async (t) => {
  const size = { keysMax: 30_000, keyBytesMax: 600_000 };
  const memory = KernelMemory.create({ dataBytes: keyTableBytes(size), lanes: 2, laneBytes: 64 * 1024 });
  const table = KeyTable.create(memory, size, keySeed(11n));
  const moduleOf = (name: string): string => JSON.stringify(new URL(name, import.meta.url).href);
  const body = `
    const { parentPort, workerData } = require("node:worker_threads");
    (async () => {
      const { KernelMemory } = await import(${moduleOf("./kernel-memory.ts")});
      const { KeyTable } = await import(${moduleOf("./key-table.ts")});
      const { KeyBatch } = await import(${moduleOf("./key-batch.ts")});
      const table = KeyTable.attach(KernelMemory.attach(workerData.memory, 1), workerData.at);
      const rows = new Uint32Array(500);
      const batches = [];
      for (let first = 0; first < 30000; first += 500) batches.push(KeyBatch.of(Array.from({ length: 500 }, (_, i) => "key-" + (first + i))));
      parentPort.postMessage("ready");
      let probes = 0, wrong = 0, missed = 0, partial = 0;
      for (let done = false; !done; ) {
        done = table.count === 30000;
        for (const [n, batch] of batches.entries()) {
          const before = table.count;
          const found = table.probe(batch, rows);
          probes++;
          if (found > 0 && found < 500) partial++;
          for (let i = 0; i < 500; i++) {
            if (rows[i] === 0xffffffff) { if (n * 500 + i < before) missed++; }
            else if (rows[i] !== n * 500 + i) wrong++;
          }
        }
      }
      parentPort.postMessage({ probes, wrong, missed, partial });
    })();`;
  const worker = new Worker(body, { eval: true, workerData: { memory: memory.memory, at: table.at } });
  t.after(() => worker.terminate());
  const next = (): Promise<unknown> =>
    new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  assert.equal(await next(), "ready");
  const result = next();
  const rows = new Uint32Array(10);
  for (let i = 0; i < 30_000; i += 10) assert.equal(table.insert(KeyBatch.of(Array.from({ length: 10 }, (_, j) => `key-${i + j}`)), rows), 10);
  const { probes, wrong, missed } = (await result) as { probes: number; wrong: number; missed: number };
  assert.ok(probes >= 60);
  assert.equal(wrong, 0);
  assert.equal(missed, 0);
});
