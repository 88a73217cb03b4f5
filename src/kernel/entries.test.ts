// The contract of the engine's kernels for every variant that runs here.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { RecordBatch } from "./entry-record.ts";
import { entriesContract } from "./entries.contract.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernelVariants, loadVariant } from "./kernels.ts";
import { keySeed } from "./key-hash.ts";
import { MemTable, memTableBytes } from "./mem-table.ts";

for (const variant of kernelVariants) {
  const loaded = loadVariant(variant);
  if (typeof loaded === "string") test(`${variant}: contract of entries`, { skip: loaded }, () => {});
  else entriesContract(variant);
}

test("promise: other threads probe a memtable while one puts: what was put before is found, whole, in its old or its new value", async (t) => {
  const keys = 4_000;
  const rounds = 6;
  const size = { entriesMax: keys, recordBytesMax: keys * rounds * 80, threads: true };
  const memory = KernelMemory.create({ dataBytes: memTableBytes(size), lanes: 2, laneBytes: 256 * 1024 });
  const table = MemTable.create(memory, size, keySeed(11n));
  const moduleOf = (name: string): string => JSON.stringify(new URL(name, import.meta.url).href);
  // A value repeats its number, so that half of an old and half of a new one shows.
  const body = `
    const { parentPort, workerData } = require("node:worker_threads");
    (async () => {
      const { KernelMemory } = await import(${moduleOf("./kernel-memory.ts")});
      const { MemTable } = await import(${moduleOf("./mem-table.ts")});
      const { KeyBatch } = await import(${moduleOf("./key-batch.ts")});
      const { EntryRefs } = await import(${moduleOf("./entry-refs.ts")});
      const memory = KernelMemory.attach(workerData.memory, 1);
      const table = MemTable.attach(memory, workerData.at);
      const refs = new EntryRefs();
      const batches = [];
      for (let first = 0; first < ${keys}; first += 500) batches.push(KeyBatch.of(Array.from({ length: 500 }, (_, i) => "key-" + (first + i))));
      parentPort.postMessage("ready");
      let torn = 0, missed = 0, wrong = 0, probes = 0;
      const done = new Int32Array(workerData.done);
      for (let last = false; ; ) {
        last = Atomics.load(done, 0) === 1;
        for (const [n, batch] of batches.entries()) {
          const before = table.count;
          refs.reset(500);
          table.probe(batch, refs, 3);
          probes++;
          for (let i = 0; i < 500; i++) {
            const number = n * 500 + i;
            if (refs.source[i] === 255) { if (number < before) missed++; continue; }
            const value = Buffer.from(memory.bytes.subarray(refs.at[i], refs.at[i] + refs.bytes[i])).toString().split(",");
            if (value.some((part) => part !== value[0])) torn++;
            if (!value[0].startsWith(number + ":")) wrong++;
            if (last && value[0] !== number + ":" + ${rounds - 1}) wrong++;
          }
        }
        if (last) break;
      }
      parentPort.postMessage({ torn, missed, wrong, probes });
    })();`;
  const done = new SharedArrayBuffer(4);
  const worker = new Worker(body, { eval: true, workerData: { memory: memory.memory, at: table.at, done } });
  t.after(() => worker.terminate());
  const next = (): Promise<unknown> =>
    new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  assert.equal(await next(), "ready");
  const result = next();
  const encoder = new TextEncoder();
  const batch = new RecordBatch();
  for (let round = 0; round < rounds; round++) {
    for (let first = 0; first < keys; first += 10) {
      batch.clear();
      for (let i = first; i < first + 10; i++)
        batch.add(encoder.encode(`key-${i}`), 1, encoder.encode(Array.from({ length: 4 }, () => `${i}:${round}`).join(",")));
      assert.equal(table.put(batch), 10);
    }
  }
  Atomics.store(new Int32Array(done), 0, 1);
  const { torn, missed, wrong, probes } = (await result) as Record<string, number>;
  assert.deepEqual([torn, missed, wrong], [0, 0, 0]);
  assert.ok(probes! >= 8);
});
