// Readers in other threads while the writer inserts, rewrites, deletes, evicts and uses places again: no row is ever torn or another key's.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import { KernelMemory } from "#kernel/kernel-memory";
import { type KernelVariant, kernels, kernelVariants, loadVariant } from "#kernel/kernels";
import { moduleBeside } from "#platform/module-beside";
import { systemWorkers } from "#platform/system-workers";
import type { ForeignReport, ForeignTask } from "./foreign-rows.worker.ts";
import { ParameterShard } from "./parameter-shard.ts";
import { lastVersion } from "./sync-table.ts";

const runnable = kernelVariants.filter((variant) => typeof loadVariant(variant) !== "string");
const [keyMax, kept, dim] = [12_000, 40, 24] as const;

async function readWhileWriting(writer: KernelVariant, readers: readonly KernelVariant[], writesMs: number): Promise<ForeignReport[]> {
  // Room for 5,000 rows: places are used again all the time.
  const bytes = 1_000_000;
  const memory = KernelMemory.create({ dataBytes: bytes, lanes: 4, laneBytes: 128 * 1024 }, kernels(writer));
  const shard = ParameterShard.create(memory, { dim, buckets: 64, initial: { seed: 3n, factors: 0, initialScale: 0 }, bytes });
  for (let bucket = 0; bucket < 64; bucket++) shard.lead(bucket, 1, 1);
  const count = 64;
  const keys = new Uint32Array(2 * count);
  const values = new Float32Array(count * dim);
  let stamp = 0;
  /** Returns how many new keys found no room. */
  const write = (numberOf: (i: number) => number, size = count): number => {
    stamp = (stamp + 1) % 1_000_000;
    for (let i = 0; i < size; i++) {
      keys[2 * i] = numberOf(i);
      values.fill(stamp, i * dim, (i + 1) * dim);
      values[i * dim] = keys[2 * i]!;
    }
    return shard.assign(keys, size, values, stamp);
  };
  assert.equal(
    write((i) => i + 1, kept),
    0,
  );
  const progress = new Int32Array(new SharedArrayBuffer(4 * (1 + readers.length)));
  const workers = readers.map((variant, i) => {
    const task: ForeignTask = { memory: memory.memory, at: shard.at, lane: i + 1, variant, keyMax, kept, progress };
    return systemWorkers.start(moduleBeside("./foreign-rows.worker", import.meta.url), task, `reader ${i}`);
  });
  const reports: ForeignReport[] = [];
  let reused = 0;
  try {
    for (const worker of workers) assert.equal(await worker.receive(), "ready");
    const prng = new Prng(process.env["SEED"] ?? "foreign");
    const started = performance.now();
    const busy = (): boolean => reused > 3_000 && readers.every((_, i) => Atomics.load(progress, i + 1) >= 50);
    for (let round = 0; performance.now() - started < (busy() ? writesMs : 20_000); round++) {
      const full = write((i) => (i < kept && round % 8 === 0 ? i + 1 : kept + 1 + prng.below(keyMax - kept))) > 0;
      if (round % 5 === 0) {
        for (let i = 0; i < 10; i++) keys[2 * i] = kept + 1 + prng.below(keyMax - kept);
        shard.delete(keys, 10);
      }
      if (shard.statistics().live > 3_000) reused += shard.evict(2_900 * shard.rowBytes, 400, round % 2 === 0);
      for (let bucket = round % 4; bucket < 64; bucket += 4) shard.collect(bucket, lastVersion);
      // A reader lost its core in the middle of a pull: what it may hold cannot be used again before it goes on.
      if (full) await sleep(1);
    }
    Atomics.store(progress, 0, 1);
    for (const worker of workers) reports.push((await worker.receive()) as ForeignReport);
  } finally {
    Atomics.store(progress, 0, 1);
    for (const worker of workers) await worker.stop();
  }
  assert.ok(reused > 3_000, `only ${reused} rows left`);
  assert.equal(shard.unsteady, 0);
  return reports;
}

test("promise: under eviction a reader never sees a torn row, another key's row, or misses a key that is always there", async () => {
  for (const [writer, readers] of [
    [runnable[0]!, [runnable[0]!, runnable[0]!]],
    ["scalar", [runnable[0]!, "scalar"]],
    [runnable[0]!, ["scalar", runnable.at(-2)!]],
  ] as const) {
    const reports = await readWhileWriting(writer, readers, process.env["MILLRACE_LONG"] ? 20_000 : 700);
    for (const [i, { rows, missing, torn, foreign, lost }] of reports.entries()) {
      assert.deepEqual([torn, foreign, lost], [0, 0, 0], `writer ${writer}, reader ${readers[i]}: of ${rows} rows torn, foreign, lost`);
      assert.ok(rows >= 10_000 && missing > rows / 20 && missing < rows, `${rows} rows, ${missing} missing`);
    }
  }
});

test("a reader that stays inside keeps places from being used again; forgotten, they are used", () => {
  for (const variant of runnable) {
    const bytes = 400_000;
    const memory = KernelMemory.create({ dataBytes: bytes, lanes: 2 }, kernels(variant));
    const shard = ParameterShard.create(memory, { dim: 4, buckets: 4, initial: { seed: 3n, factors: 0, initialScale: 0 }, bytes });
    for (let bucket = 0; bucket < 4; bucket++) shard.lead(bucket, 1, 1);
    const batch = (from: number): Uint32Array => Uint32Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? from + i / 2 : 0));
    // What entering does, by a reader that then loses its core.
    const words = memory.u32;
    const readerWord = shard.at / 4 + 128 + 16 * 5;
    words[shard.at / 4 + 82] = 6;
    words[readerWord] = words[shard.at / 4 + 80]!;
    const values = new Float32Array(400).fill(1);
    for (let round = 0; round < 5; round++) {
      shard.assign(batch(1_000 * round), 100, values, 1);
      shard.evict(0, 100, true);
    }
    assert.deepEqual([shard.statistics().waiting, shard.statistics().free, shard.statistics().live], [500, 0, 0]);
    shard.forgetReader(5);
    for (let round = 5; round < 8; round++) {
      shard.assign(batch(1_000 * round), 100, values, 1);
      shard.evict(0, 100, true);
    }
    const { waiting, free } = shard.statistics();
    assert.ok(waiting <= 200 && waiting + free === 500, `${waiting} waiting, ${free} free`);
  }
});
