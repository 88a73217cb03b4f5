// Rows of a shard that are written while other threads read them, a few rows and always the same: none is ever seen half written, and no reader waits for a writer. What rows
// do that leave and come: foreign-rows.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { KernelMemory } from "#kernel/kernel-memory";
import { type KernelVariant, kernels, kernelVariants, loadVariant } from "#kernel/kernels";
import { shardRowWord, shardWord } from "#kernel/parameter-shard-layout";
import { moduleBeside } from "#platform/module-beside";
import { systemWorkers } from "#platform/system-workers";
import { ParameterShard, ShardReader } from "./parameter-shard.ts";
import { EntryBatch, versionOf } from "./sync-table.ts";
import type { ReaderReport, RowTask } from "./torn-rows.worker.ts";

const runnable = kernelVariants.filter((variant) => typeof loadVariant(variant) !== "string");

function newShard(dim: number, variant: KernelVariant): { memory: KernelMemory; shard: ParameterShard } {
  const bytes = 1 << 19;
  const memory = KernelMemory.create({ dataBytes: bytes, lanes: 4, laneBytes: 64 * 1024 }, kernels(variant));
  const shard = ParameterShard.create(memory, { dim, buckets: 4, initial: { seed: 3n, factors: 0, initialScale: 0 }, bytes });
  for (let bucket = 0; bucket < shard.buckets; bucket++) shard.lead(bucket, 1, 1);
  return { memory, shard };
}

/** Keys whose halves both differ. */
const keysOf = (numbers: readonly number[]): Uint32Array => Uint32Array.from(numbers.flatMap((key) => [key, Math.imul(key, 0x9e37_79b1) >>> 0]));

/** So many different values a reader must have seen. */
const valuesLeast = 30;

/** Writes rows whose numbers are all equal, by assignments, additions and joins, while other threads read them; returns what the readers saw. */
async function tornRows(writer: KernelVariant, readers: readonly KernelVariant[], writesMs: number): Promise<ReaderReport[]> {
  const dim = 64;
  const count = 4;
  const { memory, shard } = newShard(dim, writer);
  const keys = keysOf([1, 2, 3, 4]);
  const values = new Float32Array(count * dim);
  shard.assign(keys, count, values, 1);
  const joined = new EntryBatch(dim);
  const progress = new Int32Array(new SharedArrayBuffer(4 * (1 + readers.length)));
  const workers = readers.map((variant, i) => {
    const task: RowTask = { memory: memory.memory, at: shard.at, lane: i + 1, variant, progress, keys };
    return systemWorkers.start(moduleBeside("./torn-rows.worker", import.meta.url), task, `reader ${i}`);
  });
  const reports: ReaderReport[] = [];
  try {
    for (const worker of workers) assert.equal(await worker.receive(), "ready");
    // As long as asked, and until every reader has met the writer often: threads share cores. Rather ends without than never.
    const started = performance.now();
    const ready = (): boolean => readers.every((_, i) => Atomics.load(progress, i + 1) >= valuesLeast);
    for (let round = 1; performance.now() - started < (ready() ? writesMs : 20_000); round++) {
      for (let i = 0; i < 100; i++) shard.assign(keys, count, values.fill((round * 100 + i) % 1_000), round);
      for (let i = 0; i < 100; i++) shard.add(keys, count, values.fill(1), round);
      if (round % 16 !== 0) continue;
      // From another node, and back: each epoch is above the one before.
      const epoch = round / 16 + 1;
      if (epoch >= 60_000) continue;
      joined.clear();
      for (let i = 0; i < count; i++) joined.push(keys[2 * i]!, keys[2 * i + 1]!, versionOf(epoch, i + 1, 2), 0, round);
      joined.values.fill(epoch, 0, count * dim);
      assert.equal(shard.join(joined, 0, count), count);
      for (let bucket = 0; bucket < shard.buckets; bucket++) shard.lead(bucket, epoch, 3);
    }
    Atomics.store(progress, 0, 1);
    for (const worker of workers) reports.push((await worker.receive()) as ReaderReport);
  } finally {
    Atomics.store(progress, 0, 1);
    for (const worker of workers) await worker.stop();
  }
  assert.equal(shard.unsteady, 0, "a reader gave up on a row");
  return reports;
}

test("promise: a reader in another thread never sees a row half written, whatever variants write and read", async () => {
  for (const [writer, readers] of [
    [runnable[0]!, [runnable[0]!, "scalar"]],
    ["scalar", [runnable[0]!, "scalar"]],
  ] as const) {
    const reports = await tornRows(writer, readers, process.env["MILLRACE_LONG"] ? 10_000 : 700);
    for (const [i, { reads, mixtures, missing, values }] of reports.entries()) {
      assert.equal(mixtures, 0, `writer ${writer}, reader ${readers[i]}: ${mixtures} of ${reads} rows were mixtures`);
      assert.equal(missing, 0, `writer ${writer}, reader ${readers[i]}: ${missing} of ${reads} rows were missing`);
      assert.ok(reads > 100, `${reads} reads`);
      assert.ok(values >= valuesLeast, `only ${values} different values were seen: the writer was not running meanwhile`);
    }
  }
});

test("promise: a reader waits for no writer: one that stopped in the middle of a row is read past, one that died is counted", () => {
  const dim = 20;
  for (const variant of runnable) {
    const { memory, shard } = newShard(dim, variant);
    const old = Array.from({ length: dim }, (_, i) => i + 1);
    const keys = keysOf([2, 1]);
    shard.assign(keys, 2, Float32Array.from([...old, ...old]), 1);
    const { u32, f32, lane } = memory;
    const { keyLow, keyHigh, values: valuesWord } = shardRowWord;
    const end = (shard.at + shard.statistics().usedBytes) / 4;
    let row = shard.at / 4;
    while (row < end && !(u32[row + keyLow] === keys[0] && u32[row + keyHigh] === keys[1] && old.every((value, i) => f32[row + valuesWord + i] === value)))
      row++;
    assert.ok(row < end, "the row was found");
    // What `commit` has done when its thread loses the core in the middle of the row.
    lane.reset();
    const slots = lane.take(32);
    const values = lane.take(4 * dim);
    const becoming = old.map((value) => 100 + value);
    u32[slots / 4] = 4 * row;
    f32.set(becoming, values / 4);
    const head = shard.at / 4;
    u32[head + shardWord.pendingSlots] = slots;
    u32[head + shardWord.pendingCount] = 1;
    u32[head + shardWord.pendingValues] = values;
    u32[head + shardWord.commit]! += 1;
    u32[row]! |= 1;
    f32.set(becoming.slice(0, 9), row + valuesWord);
    const read = (by: KernelVariant): { rows: number[]; missing: number } => {
      const into = new Float32Array(2 * dim);
      const missing = ShardReader.attach(KernelMemory.attach(memory.memory, 1, kernels(by)), shard.at, 1).pull(keys, 2, into);
      return { rows: [...into], missing };
    };
    for (const other of runnable) assert.deepEqual(read(other), { rows: [...becoming, ...old], missing: 0 }, `${variant} wrote, ${other} read`);
    assert.equal(shard.unsteady, 0);
    // The writer is dead and its group has ended: the row has no whole values any more, and reads as missing.
    u32[head + shardWord.commit]! += 1;
    for (const [i, other] of runnable.entries()) {
      assert.deepEqual(read(other), { rows: [...new Array<number>(dim).fill(0), ...old], missing: 1 }, `${variant} died, ${other} read`);
      assert.equal(shard.unsteady, i + 1);
    }
  }
});
