// The rows of a factorisation machine: the same bits for ever, versions and digests that followers can join, rows that leave and come again, readers while places are used
// again, damaged and foreign checkpoints.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels, type KernelVariant, kernelVariants, loadVariant } from "#kernel/kernels";
import { shardOfMachine } from "#kernel/shard-machine-layout";
import { moduleBeside } from "#platform/module-beside";
import { systemWorkers } from "#platform/system-workers";
import { ParameterShard } from "#params/parameter-shard";
import { compareVersions, EntryBatch, lastVersion, noVersion } from "#params/sync-table";
import type { EvictionReport, EvictionTask } from "./evicted-rows.worker.ts";
import { FactorisationMachine, type FmOptions } from "./factorisation-machine.ts";
import { readMachineCheckpoint } from "./machine-checkpoint.ts";
import { ShardRows } from "./shard-rows.ts";

const seed = process.env["SEED"] ?? "shard rows";
const runnable = kernelVariants.filter((variant) => typeof loadVariant(variant) !== "string");

const usual: FmOptions = {
  factors: 16,
  capacityRows: 4_000,
  seed: 0xfeed_0000_0000_0007n,
  initialScale: 0.1,
  optimizer: "adagrad",
  rate: { linear: 0.1, factors: 0.05 },
  l2: { linear: 0.001, factors: 0.002 },
  initialAccumulator: 0.1,
};

function machineOf(options: Partial<FmOptions> = {}, variant: KernelVariant = runnable[0]!): { memory: KernelMemory; fm: FactorisationMachine } {
  const all = { ...usual, ...options };
  const memory = KernelMemory.create({ dataBytes: FactorisationMachine.bytesFor(all), lanes: 4 }, kernels(variant));
  return { memory, fm: FactorisationMachine.create(memory, all) };
}

/** `count` samples of 3 linear and 20 full slots; keys come more often at the front. */
function samplesOf(prng: Prng, count: number, keys: number): SlotRows {
  const samples = new SlotRows();
  for (let n = 0; n < count; n++) {
    for (let slot = 0; slot < 3; slot++) samples.addLinear(slot, 1, 1);
    const seen = new Set<number>();
    while (seen.size < 20) seen.add(Math.floor(keys * prng.float() ** 2));
    for (const key of seen) samples.addFull(key, Math.imul(key, 0x85eb_ca6b) >>> 0, prng.chance(0.7) ? 1 : Math.fround(prng.normal()));
    samples.endRow();
  }
  return samples;
}

function learn(fm: FactorisationMachine, samples: SlotRows, labels: Float32Array, touchedS = 0): Float32Array {
  const logits = new Float32Array(samples.rows);
  fm.learn(samples, labels, new Float32Array(samples.rows).fill(1), new Float32Array(samples.rows), logits, new Uint32Array(samples.rows).fill(touchedS));
  return logits;
}

const labelsOf = (prng: Prng, count: number): Float32Array => Float32Array.from({ length: count }, () => prng.below(2));

const shardOf = (fm: FactorisationMachine): ParameterShard => {
  return fm.table.shard;
};

test("promise: the same samples give the same bits, release after release", () => {
  const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array => new Uint8Array(buffer, byteOffset, byteLength);
  // Logits and vectors of 4, 16 and 32 factors; an earlier table, another layout with other kernels, gave the same.
  for (const [optimizer, checksums] of [
    ["sgd", [2_329_660_324, 3_715_661_665, 2_767_445_361]],
    ["adagrad", [756_809_060, 2_664_588_229, 3_993_067_594]],
    ["rowwise-adagrad", [2_198_265_208, 2_992_369_497, 661_723_672]],
  ] as const) {
    for (const [i, factors] of [4, 16, 32].entries()) {
      const prng = new Prng("bits").fork(`${optimizer} ${factors}`);
      const { fm } = machineOf({ optimizer, factors });
      let checksum = 0;
      for (let batch = 0; batch < 6; batch++) {
        const samples = samplesOf(prng, 60, 2_000);
        checksum = crc32c(bytesOf(learn(fm, samples, labelsOf(prng, 60))), checksum);
      }
      const vectors = new Float32Array(200 * fm.vectorDims);
      fm.vectors(samplesOf(prng, 200, 2_500), vectors);
      assert.equal(crc32c(bytesOf(vectors), checksum), checksums[i], `${optimizer}, ${factors} factors`);
    }
  }
});

test(`promise: who joins the changes has the trainer's rows, also of those that left (SEED=${seed})`, () => {
  for (const variant of runnable) {
    const prng = new Prng(seed).fork("changes");
    const all = { ...usual, capacityRows: 1_500 };
    const memory = KernelMemory.create({ dataBytes: ShardRows.bytesFor(all), lanes: 2 }, kernels(variant));
    const rows = ShardRows.create(memory, all, true);
    const fm = FactorisationMachine.attach(memory, rows.at);
    const shard = shardOf(fm);
    const shape = shardOfMachine(all);
    const follower = ParameterShard.create(KernelMemory.create({ dataBytes: 2 * shape.bytes }), { ...shape, bytes: 2 * shape.bytes });
    const known = Array.from({ length: shard.buckets }, () => noVersion);
    const dirty = new Uint32Array(shard.buckets);
    const changes = new EntryBatch(shard.dim);
    let tombstones = 0;
    for (let round = 0; round < 8; round++) {
      const samples = samplesOf(prng, 40, 4_000);
      learn(fm, samples, labelsOf(prng, 40), 1_000 + round);
      for (let taken = shard.takeDirty(dirty), i = 0; i < taken; i++) {
        const bucket = dirty[i]!;
        changes.clear();
        assert.ok(shard.changes(bucket, known[bucket]!, lastVersion, 10_000, changes));
        assert.ok(changes.count > 0, "a dirty bucket has changes");
        let before = known[bucket]!;
        for (let n = 0; n < changes.count; n++) {
          assert.ok(compareVersions(changes.versionAt(n), before) > 0, "versions ascend");
          before = changes.versionAt(n);
          if (changes.isTombstone(n)) tombstones++;
          else assert.ok(changes.touched[n]! === 1_000 + round);
        }
        known[bucket] = shard.newest(bucket);
        assert.deepEqual(before, known[bucket]);
        follower.join(changes, 0, changes.count);
      }
      for (let bucket = 0; bucket < shard.buckets; bucket++) {
        assert.deepEqual(follower.digest(bucket), shard.digest(bucket), `${variant}: digest of bucket ${bucket}`);
        assert.deepEqual(follower.counts(bucket), shard.counts(bucket));
      }
      const keys = samples.keys.subarray(0, 2 * samples.slots);
      const [own, its] = [new Float32Array(samples.slots * shard.dim), new Float32Array(samples.slots * shard.dim)];
      fm.table.pull(keys, samples.slots, own);
      follower.pull(keys, samples.slots, its);
      assert.deepEqual(its, own);
    }
    assert.ok(tombstones > 500, `${tombstones} tombstones`);
    assert.equal(follower.conflicts, 0);
  }
});

test("a row that left and comes again begins anew, with the first accumulator", () => {
  for (const followed of [false, true]) {
    const all = { ...usual, capacityRows: 64 };
    const memory = KernelMemory.create({ dataBytes: ShardRows.bytesFor(all) });
    const fm = FactorisationMachine.attach(memory, ShardRows.create(memory, all, followed).at);
    const pairOf = (first: number): SlotRows => {
      const rows = new SlotRows();
      rows.addFull(first, 9, 1);
      rows.addFull(first + 1, 9, 1);
      rows.endRow();
      return rows;
    };
    const read = (): number[] => {
      const values = new Float32Array(17);
      fm.table.pull(Uint32Array.of(1_000_000, 9), 1, values);
      return [...values];
    };
    const initial = read();
    learn(fm, pairOf(1_000_000), Float32Array.of(1));
    const once = read();
    assert.notDeepEqual(once, initial);
    learn(fm, pairOf(1_000_000), Float32Array.of(1));
    assert.notDeepEqual(read(), once);
    for (let n = 0; n < 400; n++) learn(fm, pairOf(2 * n), Float32Array.of(n & 1));
    assert.deepEqual(read(), initial, "it left");
    assert.ok(fm.rowCount <= 64);
    learn(fm, pairOf(1_000_000), Float32Array.of(1));
    assert.deepEqual(read(), once, "its accumulators left with it");
    assert.equal(fm.refused, 0);
  }
});

test(`a key that comes twice in a sample: all variants agree, and all rows stay in order (SEED=${seed})`, () => {
  const outcomes = runnable.map((variant) => {
    const prng = new Prng(seed).fork("twice");
    const { fm } = machineOf({ capacityRows: 200 }, variant);
    const logits: number[] = [];
    for (let n = 0; n < 60; n++) {
      const samples = new SlotRows();
      for (let slot = 0; slot < 5; slot++) samples.addLinear(prng.below(40), 0, 1);
      for (let slot = 0; slot < 30; slot++) samples.addFull(prng.below(400), 0, Math.fround(prng.float()));
      samples.endRow();
      logits.push(...learn(fm, samples, labelsOf(prng, 1)));
    }
    return { logits, saved: Buffer.concat(fm.save()) };
  });
  for (const outcome of outcomes) assert.deepEqual(outcome, outcomes[0]);
  assert.ok(readMachineCheckpoint([outcomes[0]!.saved]).head.evicted > 0);
});

test("a bucket that is led elsewhere takes no step, and is read", () => {
  const { fm } = machineOf();
  const shard = shardOf(fm);
  const samples = samplesOf(new Prng("led"), 30, 500);
  for (let bucket = 0; bucket < shard.buckets; bucket += 2) shard.follow(bucket);
  learn(fm, samples, new Float32Array(30));
  assert.ok(shard.statistics().notLed > 0);
  for (let bucket = 0; bucket < shard.buckets; bucket++) {
    if (bucket % 2 === 0) assert.deepEqual(shard.counts(bucket), { live: 0, tombstones: 0 });
  }
  assert.ok(fm.rowCount > 100);
  assert.ok(fm.finite());
});

test("promise: no logit is made of another key's row while rows leave and places are used again, whatever variants write and read", async () => {
  const options: FmOptions = { ...usual, capacityRows: 600, rate: { linear: 0, factors: 0 }, l2: { linear: 0, factors: 0 }, initialScale: 0.5 };
  const keys = 3_000;
  for (const [writer, reader] of [
    [runnable[0]!, runnable[0]!],
    ["scalar", runnable[0]!],
    [runnable[0]!, "scalar"],
  ] as const) {
    const { memory, fm } = machineOf(options, writer);
    const progress = new Int32Array(new SharedArrayBuffer(16));
    const workers = await Promise.all(
      [1, 2].map(async (lane) => {
        const task: EvictionTask = { memory: memory.memory, at: fm.at, lane, variant: reader, options, keys, progress };
        const worker = systemWorkers.start(moduleBeside("./evicted-rows.worker", import.meta.url), task, `reader ${lane}`);
        assert.equal(await worker.receive(), "ready");
        return worker;
      }),
    );
    const started = performance.now();
    const least = process.env["MILLRACE_LONG"] ? 5_000 : 300;
    const shard = shardOf(fm);
    const enough = (): boolean => Math.min(Atomics.load(progress, 1), Atomics.load(progress, 2)) >= 640 && shard.statistics().evicted > 500;
    for (let n = 0; performance.now() - started < (enough() ? least : 20_000); n++) {
      const samples = new SlotRows();
      for (let row = 0; row < 16; row++) {
        for (let slot = 0; slot < 24; slot++) samples.addFull(((n * 16 + row) * 24 + slot * 137) % keys, 3, 1);
        samples.endRow();
      }
      learn(fm, samples, new Float32Array(16).fill(1));
    }
    Atomics.store(progress, 0, 1);
    const { evicted, unsteady } = shard.statistics();
    for (const worker of workers) {
      const { logits, wrong } = (await worker.receive()) as EvictionReport;
      await worker.stop();
      assert.equal(wrong, 0, `${writer} wrote, ${reader} read: ${wrong} of ${logits} wrong`);
      assert.ok(logits >= 640, "the reader had no turn");
    }
    assert.ok(evicted > 500, `${evicted} evicted`);
    assert.equal(unsteady, 0);
  }
});

test("checkpoints that are damaged, older or of another shape are refused before anything changes", () => {
  const prng = new Prng("damage");
  const { fm } = machineOf({ capacityRows: 300 });
  learn(fm, samplesOf(prng, 30, 500), labelsOf(prng, 30));
  const good = Buffer.concat(fm.save());
  const refused = (code: string, machine: FactorisationMachine, bytes: Uint8Array): void => {
    const before = Buffer.concat(machine.save());
    assert.throws(
      () => machine.load([bytes]),
      (error: unknown) => error instanceof MillraceError && error.code === code,
    );
    assert.deepEqual(Buffer.concat(machine.save()), before);
  };
  const other = machineOf({ capacityRows: 300 }).fm;
  learn(other, samplesOf(prng, 5, 500), labelsOf(prng, 5));
  for (let at = 16; at < good.length; at += 1 + prng.below(700)) {
    const bad = Buffer.from(good);
    bad[at]! ^= 1 << prng.below(8);
    refused("corrupt", other, bad);
  }
  for (let length = 0; length < good.length; length += 1 + prng.below(2_000)) refused("corrupt", other, good.subarray(0, length));
  refused("corrupt", other, Buffer.concat([good, Uint8Array.of(0)]));
  const later = Buffer.from(good);
  later.writeUInt32LE(2, 8);
  refused("unsupported", other, later);
  // How files began before rows had versions.
  const older = Buffer.from(good);
  older.write("MILLRPRM", 0, "latin1");
  refused("unsupported", other, older);
  refused("conflict", machineOf({ seed: 1n }).fm, good);
  refused("conflict", machineOf({ optimizer: "sgd" }).fm, good);
  refused("overloaded", machineOf({ capacityRows: 10 }).fm, good);
});

test("a checkpoint of version 1 is read for ever, and written the same", () => {
  const trained = (optimizer: FmOptions["optimizer"]): FactorisationMachine => {
    const { fm } = machineOf({ factors: 4, capacityRows: 12, optimizer, seed: 42n, initialScale: 0.5 });
    for (let n = 0; n < 6; n++) {
      const samples = new SlotRows();
      samples.addLinear(0, 1, 1);
      for (let slot = 0; slot < 3; slot++) samples.addFull(1 + 3 * n + slot, 0x9e37_79b1, 0.5 + slot);
      samples.endRow();
      learn(fm, samples, Float32Array.of(n & 1), 1_700_000_000 + n);
    }
    return fm;
  };
  // The others differ in numbers and length only: their checksums stand for them.
  for (const [optimizer, checksum] of [
    ["sgd", 3_938_420_250],
    ["adagrad", 230_552_908],
    ["rowwise-adagrad", 2_458_004_778],
  ] as const) {
    const saved = Buffer.concat(trained(optimizer).save());
    assert.equal(crc32c(saved), checksum, optimizer);
    if (optimizer === "adagrad") assert.deepEqual(saved, readFileSync(new URL("../../test/golden/machine-checkpoint/v1/adagrad.bin", import.meta.url)));
    const other = machineOf({ factors: 4, capacityRows: 5_000, optimizer, seed: 42n, initialScale: 0.5 }).fm;
    other.load([saved]);
    assert.deepEqual(Buffer.concat(other.save()), saved);
  }
});

test("memory: all rows that may live have room, at several sizes", () => {
  for (const [factors, capacityRows, slots] of [
    [4, 1, 40],
    [4, 1_000, 40],
    [4, 3_000, 900],
    [16, 1_024, 40],
    [16, 30_000, 40],
    [64, 5_000, 40],
  ] as const) {
    const all = { ...usual, factors, capacityRows };
    const memory = KernelMemory.create({ dataBytes: ShardRows.bytesFor(all) });
    const rows = ShardRows.create(memory, all);
    const fm = FactorisationMachine.attach(memory, rows.at);
    for (let next = 0; next < 3 * capacityRows + 2_000;) {
      const samples = new SlotRows();
      for (let row = 0; row < 50; row++) {
        for (let slot = 0; slot < slots; slot++, next++) samples.addFull(next, Math.imul(next, 0x9e37_79b1) >>> 0, 1);
        samples.endRow();
      }
      learn(fm, samples, new Float32Array(50));
      assert.ok(fm.rowCount <= capacityRows);
    }
    assert.equal(fm.refused, 0);
    assert.ok(capacityRows < 100 || slots > 40 || fm.rowCount >= Math.floor((capacityRows * 63) / 64), `${fm.rowCount} of ${capacityRows}`);
  }
});
