// A store of several shards against one Map of rows, dense blocks, and its checkpoints: incremental, at one moment, restored after every kind of end.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { MemoryPool } from "#kernel/memory-pool";
import { initialValues } from "#kernel/parameter-key";
import { Simulation } from "#platform/simulation";
import { systemFiles } from "#platform/system-files";
import { DenseBlock } from "./dense-block.ts";
import { ParameterStore, type ParameterStoreShape } from "./parameter-store.ts";
import { exportNpy, importNpy } from "./npy-exchange.ts";
import { StoreCheckpointer } from "./store-checkpoint.ts";
import { contentOf } from "./sync-table.contract.ts";
import { lastVersion } from "./sync-table.ts";

const seed = process.env["SEED"] ?? "store";
const usual: ParameterStoreShape = {
  dim: 4,
  buckets: 16,
  shards: 3,
  initial: { seed: 7n, factors: 4, initialScale: 0.5 },
  bytes: 3 << 20,
  laneBytes: 64 << 10,
};

function newStore(shape: Partial<ParameterStoreShape> = {}): ParameterStore {
  const store = new ParameterStore(new MemoryPool({ capBytes: 1 << 30 }), "test", { ...usual, ...shape });
  store.lead(1, 1);
  return store;
}

const keysOf = (numbers: readonly number[]): Uint32Array => Uint32Array.from(numbers.flatMap((key) => [key, Math.imul(key, 0x9e37_79b1) >>> 0]));
const range = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);
const filled = (count: number, value: number): Float32Array => new Float32Array(count * 4).fill(value);
const contentsOf = (store: ParameterStore): unknown => store.shards.map((shard) => contentOf(shard));

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "millrace-params-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test(`a store of three shards answers as one Map does: order kept, keys twice, narrow forms (SEED=${seed})`, () => {
  const store = newStore();
  const model = new Map<number, Float32Array>();
  const prng = new Prng(seed);
  const initial = (key: number): Float32Array => {
    const row = new Float32Array(4);
    initialValues(usual.initial, 4, key, Math.imul(key, 0x9e37_79b1) >>> 0, row, 0);
    return row;
  };
  for (let round = 0; round < 60; round++) {
    const numbers = Array.from({ length: prng.below(200) }, () => prng.below(1_000));
    const count = numbers.length;
    const values = Float32Array.from({ length: 4 * count }, () => prng.normal());
    if (round % 3 === 0) {
      assert.equal(store.assign(keysOf(numbers), count, values, round), 0);
      numbers.forEach((key, i) => model.set(key, values.slice(4 * i, 4 * i + 4)));
    } else if (round % 3 === 1) {
      store.add(keysOf(numbers), count, values, round);
      numbers.forEach((key, i) => {
        const row = model.get(key) ?? initial(key);
        model.set(
          key,
          row.map((value, j) => value + values[4 * i + j]!),
        );
      });
    } else {
      const gone = new Set(numbers.slice(0, 20));
      assert.equal(store.delete(keysOf(numbers.slice(0, 20)), Math.min(20, count)), [...gone].filter((key) => model.delete(key)).length);
    }
    const asked = Array.from({ length: 150 }, () => prng.below(1_100));
    const into = new Float32Array(600);
    const found = new Uint8Array(150);
    assert.equal(store.pull(keysOf(asked), 150, into, found), asked.filter((key) => !model.has(key)).length);
    asked.forEach((key, i) => {
      assert.deepEqual(into.subarray(4 * i, 4 * i + 4), model.get(key) ?? initial(key));
      assert.equal(found[i], model.has(key) ? 1 : 0);
    });
    if (round % 20 !== 0) continue;
    const narrow = { bytes: new Int8Array(600), scales: new Float32Array(150) };
    const halves = new Uint16Array(600);
    store.pullBytes(keysOf(asked), 150, narrow);
    store.pullHalves(keysOf(asked), 150, halves);
    for (let i = 0; i < 600; i++) {
      assert.ok(Math.abs(narrow.bytes[i]! * narrow.scales[i >> 2]! - into[i]!) <= narrow.scales[i >> 2]! * 0.501);
      assert.equal((halves[i]! & 0x8000) !== 0, into[i]! < 0);
    }
  }
  assert.equal(store.live, model.size);
  assert.ok(store.shards.every((shard) => shard.statistics().live > model.size / 5));
});

test("dense blocks: any length, beside sparse rows, initial until written", () => {
  const store = newStore();
  const block = new DenseBlock(store, "layer-1/weights", 1_003);
  const read = new Float32Array(1_003);
  assert.equal(block.read(read), 251);
  assert.ok(read.every((value) => value >= -0.5 && value < 0.5));
  block.write(
    Float32Array.from({ length: 1_003 }, (_, i) => i),
    1,
  );
  block.add(new Float32Array(1_003).fill(0.5), 2);
  assert.equal(new DenseBlock(store, "layer-1/weights", 1_003).read(read), 0);
  assert.ok(read.every((value, i) => value === i + 0.5));
  assert.equal(new DenseBlock(store, "layer-2/weights", 8).read(new Float32Array(8)), 2);
  block.delete();
  assert.equal(block.read(read), 251);
  assert.throws(() => block.write(new Float32Array(3), 1), /3 numbers/);
});

test(`checkpoints: a chain of a full file and parts restores the same entries, and goes on (SEED=${seed})`, async (t) => {
  const folder = folderOf(t);
  const store = newStore();
  const { checkpointer, restored } = await StoreCheckpointer.open(store, systemFiles, folder);
  assert.equal(restored, undefined);
  const prng = new Prng(seed).fork("chain");
  let [files, fullBytes, partBytes] = [0, 0, 0];
  store.assign(keysOf(range(4_000, 10_000)), 4_000, filled(4_000, 1), 0);
  for (let step = 0; step < 8; step++) {
    const numbers = Array.from({ length: 300 }, () => prng.below(3_000));
    store.assign(keysOf(numbers), 300, filled(300, step), step);
    if (step > 1) store.delete(keysOf(numbers.slice(0, 30)), 30);
    // Tombstones go before any checkpoint saw them, and rows without one.
    if (step === 4) for (const shard of store.shards) for (let bucket = 0; bucket < shard.buckets; bucket++) shard.collect(bucket, lastVersion);
    if (step === 5) store.evict(5_000 * store.shards[0]!.rowBytes, 100, true);
    const report = await checkpointer.save(step % 2 === 0 ? { notes: (shard) => Uint8Array.of(step, shard) } : {});
    // Parts larger than their full file begin a new chain.
    assert.equal(report.full, step === 0 || partBytes > fullBytes);
    if (report.full) [files, fullBytes, partBytes] = [1, report.bytes, 0];
    else [files, partBytes] = [files + 1, partBytes + report.bytes];
    assert.equal(report.files, files);
    if (!report.full && step !== 4 && step !== 5) assert.ok(report.entries <= 330, `${report.entries} entries of 300 writes`);
    const again = newStore();
    const opened = await StoreCheckpointer.open(again, systemFiles, folder);
    assert.equal(opened.restored, store.live);
    assert.deepEqual(opened.notes, step % 2 === 0 ? [0, 1, 2].map((shard) => Uint8Array.of(step, shard)) : [undefined, undefined, undefined]);
    assert.deepEqual(contentsOf(again), contentsOf(store), `step ${step}`);
    for (const [s, shard] of store.shards.entries())
      for (let bucket = 0; bucket < 16; bucket++) assert.deepEqual(again.shards[s]!.newest(bucket), shard.newest(bucket));
    if (step !== 6) continue;
    // A restored store writes on, into the same chain.
    again.lead(2, 1);
    again.assign(keysOf([1, 2, 9_999]), 3, filled(3, 50), 50);
    const second = await opened.checkpointer.save();
    assert.deepEqual([second.full, second.entries, second.files], [false, 3, files + 1]);
    const third = newStore();
    await StoreCheckpointer.open(third, systemFiles, folder);
    assert.deepEqual(contentsOf(third), contentsOf(again));
    break;
  }
});

test("promise: a checkpoint is one moment, though writing goes on while it is taken", async () => {
  // Pairs of rows are always written together; in no checkpoint do they differ.
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const node = simulation.node("a");
    await node.run(async () => {
      const store = newStore();
      const pairs = 4_000;
      const write = (value: number, from: number, count: number): void => {
        const numbers = range(count, from % (pairs - count));
        store.assign(keysOf([...numbers, ...numbers.map((key) => key + 100_000)]), 2 * count, filled(2 * count, value), value);
      };
      for (let from = 0; from < pairs; from += 500) write(0, from, 499);
      const { checkpointer } = await StoreCheckpointer.open(store, node.files, "checkpoints");
      let done = false;
      let writes = 0;
      const writer = (async (): Promise<void> => {
        for (let value = 1; !done; value++) {
          write(value, value * 37, 20);
          writes++;
          await node.clock.sleep(0.2);
        }
      })();
      for (let round = 0; round < 4; round++) {
        const before = writes;
        const report = await checkpointer.save({ full: round === 2 });
        assert.ok(report.rounds >= 2 && report.lastRoundEntries <= 2_000, JSON.stringify(report));
        if (round !== 1) assert.ok(writes > before, "nothing was written meanwhile");
        const again = newStore();
        await StoreCheckpointer.open(again, node.files, "checkpoints");
        const rows = new Float32Array(8 * pairs);
        again.pull(keysOf([...range(pairs), ...range(pairs, 100_000)]), 2 * pairs, rows);
        const found = new Uint8Array(2 * pairs);
        again.pull(keysOf([...range(pairs), ...range(pairs, 100_000)]), 2 * pairs, rows, found);
        for (let i = 0; i < pairs; i++) if (found[i] === 1) assert.equal(rows[4 * i], rows[4 * (i + pairs)], `pair ${i} of checkpoint ${round}`);
      }
      done = true;
      await writer;
    });
  });
});

test(`promise: a restored store holds exactly what the store held at the checkpoint's moment, whatever was done meanwhile (SEED=${seed})`, async () => {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const node = simulation.node("a");
    await node.run(async () => {
      const store = newStore();
      const prng = new Prng(seed).fork("meanwhile");
      store.assign(keysOf(range(6_000)), 6_000, filled(6_000, 0), 0);
      const { checkpointer } = await StoreCheckpointer.open(store, node.files, "checkpoints");
      let done = false;
      const writer = (async (): Promise<void> => {
        for (let step = 1; !done; step++) {
          const numbers = Array.from({ length: 40 }, () => prng.below(8_000));
          if (step % 3 === 0) store.delete(keysOf(numbers), 10);
          else store.add(keysOf(numbers), 40, filled(40, step), step);
          const shard = store.shards[step % 3]!;
          if (step % 4 === 0) for (let bucket = 0; bucket < 16; bucket += 3) shard.collect(bucket, lastVersion);
          if (step % 17 === 0) store.evict(5_900 * shard.rowBytes, 8, true);
          if (step % 19 === 0) store.expireUntouched(step - 60, 16, 5);
          await node.clock.sleep(prng.below(10) / 10);
        }
      })();
      for (let round = 0; round < 6; round++) {
        const held: unknown[] = [];
        const { rounds } = await checkpointer.save({
          full: round === 3,
          notes: (shard) => {
            held[shard] = contentOf(store.shards[shard]!);
            return new Uint8Array(0);
          },
        });
        assert.ok(rounds >= 2);
        const again = newStore();
        await StoreCheckpointer.open(again, node.files, "checkpoints");
        assert.deepEqual(contentsOf(again), held, `checkpoint ${round}`);
      }
      done = true;
      await writer;
    });
  });
});

test("promise: power lost at any moment of a save leaves the last checkpoint or the new one", async () => {
  const rounds = process.env["MILLRACE_LONG"] ? 100 : 25;
  let olds = 0;
  let news = 0;
  for (let run = 0; run < rounds; run++) {
    const simulation = new Simulation({ seed: `${seed} ${run}` });
    await simulation.run(async () => {
      const prng = new Prng(`${seed} ${run}`);
      const node = simulation.node("a");
      let done = false;
      const running = node.run(async () => {
        const store = newStore();
        const { checkpointer } = await StoreCheckpointer.open(store, node.files, "checkpoints");
        store.assign(keysOf(range(500)), 500, filled(500, 1), 1);
        await checkpointer.save();
        // Somewhere in the second save: it takes some 10 ms.
        void simulation.clock.sleep(prng.below(140) / 10).then(() => node.crash("power"));
        store.assign(keysOf(range(400)), 400, filled(400, 2), 2);
        store.delete(keysOf(range(50, 450)), 50);
        await checkpointer.save({ full: run % 2 === 0 });
        done = true;
      });
      await running;
      const again = simulation.node("a");
      await again.run(async () => {
        const store = newStore();
        const { restored, checkpointer } = await StoreCheckpointer.open(store, again.files, "checkpoints");
        assert.ok(restored === 450 || (restored === 500 && !done), `${restored}`);
        const rows = new Float32Array(2_000);
        store.pull(keysOf(range(500)), 500, rows);
        assert.equal(rows[0], restored === 500 ? 1 : 2);
        if (restored === 500) olds++;
        else news++;
        assert.ok((await checkpointer.save()).files >= 1);
      });
    });
  }
  assert.ok(olds > 0 && news > 0, `${olds} old and ${news} new checkpoints of ${rounds}`);
});

test("a damaged checkpoint is refused: every byte counts, and so do length, order and shape", async (t) => {
  const folder = folderOf(t);
  const store = newStore({ shards: 2, buckets: 2 });
  const { checkpointer } = await StoreCheckpointer.open(store, systemFiles, folder);
  store.assign(keysOf(range(6)), 6, filled(6, 1), 1);
  await checkpointer.save();
  store.delete(keysOf([1]), 1);
  await checkpointer.save();
  const refused = async (codes: readonly string[], shape: Partial<ParameterStoreShape> = {}): Promise<void> => {
    await assert.rejects(
      StoreCheckpointer.open(newStore({ shards: 2, buckets: 2, ...shape }), systemFiles, folder),
      (error: unknown) => error instanceof MillraceError && codes.includes(error.code),
    );
  };
  for (const name of ["000001.full", "000002.part"]) {
    const path = join(folder, name);
    const whole = readFileSync(path);
    for (let at = 0; at < whole.length; at += 1 + (at % 3)) {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 1 << (at % 8);
      writeFileSync(path, bytes);
      await refused(["corrupt", "unsupported", "conflict"]);
    }
    for (const size of [0, 63, whole.length - 1]) {
      writeFileSync(path, whole.subarray(0, size));
      await refused(["corrupt"]);
    }
    writeFileSync(path, whole);
  }
  await refused(["conflict"], { dim: 5 });
  await refused(["conflict"], { initial: { seed: 8n, factors: 4, initialScale: 0.5 } });
  await refused(["conflict"], { buckets: 4 });
  writeFileSync(join(folder, "manifest.json"), "{");
  await refused(["corrupt"]);
});

const touchesOf = (store: ParameterStore): number[] =>
  store.shards.flatMap((shard) => contentOf(shard).flatMap(({ tombstone, touched }) => (tombstone ? [] : [touched])));

/** A small store with all kinds of entries, saved twice. */
async function goldenChain(folder: string): Promise<ParameterStore> {
  const store = newStore({ dim: 3, shards: 1, buckets: 2, initial: { seed: 42n, factors: 0, initialScale: 0.5 } });
  const { checkpointer } = await StoreCheckpointer.open(store, systemFiles, folder);
  store.assign(
    keysOf([1, 2, 3]),
    3,
    Float32Array.from({ length: 9 }, (_, i) => i / 4),
    1_700_000_000,
  );
  await checkpointer.save();
  store.delete(keysOf([2]), 1);
  store.add(keysOf([3]), 1, Float32Array.of(1, 2, 3), 1_700_000_001);
  await checkpointer.save();
  return store;
}

test("a checkpoint of version 1 is read for ever, and written the same", async (t) => {
  const golden = new URL("../../test/golden/store-checkpoint/v1/", import.meta.url);
  const folder = folderOf(t);
  const store = await goldenChain(folder);
  for (const name of ["000001.full", "000002.part", "manifest.json"])
    assert.deepEqual(readFileSync(join(folder, name)), readFileSync(new URL(name, golden)), name);
  const again = newStore({ dim: 3, shards: 1, buckets: 2, initial: { seed: 42n, factors: 0, initialScale: 0.5 } });
  assert.equal((await StoreCheckpointer.open(again, systemFiles, folder)).restored, 2);
  assert.deepEqual(contentsOf(again), contentsOf(store));
});

test(".npy: heads as the format says, live rows out and in again, damage refused", async (t) => {
  const folder = join(folderOf(t), "export");
  const store = newStore();
  for (let first = 0; first < 2_000; first += 500)
    store.assign(
      keysOf(range(500, first)),
      500,
      Float32Array.from({ length: 2_000 }, (_, i) => first + i / 8),
      first,
    );
  store.delete(keysOf(range(300)), 300);
  const manifest = await exportNpy(store, systemFiles, folder);
  assert.equal(manifest.rows, 1_700);
  const values = readFileSync(join(folder, "values.npy"));
  assert.equal(values.subarray(0, 8).toString("latin1"), "\x93NUMPY\x01\x00");
  assert.equal(values.readUInt16LE(8), 118);
  assert.equal(values.subarray(10, 127).toString("latin1").trimEnd(), "{'descr': '<f4', 'fortran_order': False, 'shape': (1700, 4), }");
  assert.equal(values[127], 0x0a);
  assert.equal(values.length, 128 + 1_700 * 16);
  const other = newStore({ shards: 2, buckets: 8 });
  assert.deepEqual(await importNpy(other, systemFiles, folder), { rows: 1_700, refused: 0 });
  assert.equal(other.live, 1_700);
  const keys = keysOf(range(2_000));
  const [ours, theirs] = [new Float32Array(8_000), new Float32Array(8_000)];
  store.pull(keys, 2_000, ours);
  other.pull(keys, 2_000, theirs);
  assert.deepEqual(theirs, ours);
  assert.deepEqual([...touchesOf(other)].sort(), [...touchesOf(store)].sort());
  await assert.rejects(exportNpy(store, systemFiles, folder), /holds an export/);
  await assert.rejects(importNpy(newStore({ dim: 5 }), systemFiles, folder), /rows of 4 numbers/);
  await assert.rejects(importNpy(newStore(), systemFiles, `${folder}-none`), /is not there/);
  values[500]! ^= 1;
  writeFileSync(join(folder, "values.npy"), values);
  const untouched = newStore();
  await assert.rejects(importNpy(untouched, systemFiles, folder), /fails its checksum/);
  assert.equal(untouched.live, 0);
  writeFileSync(join(folder, "values.npy"), values.subarray(0, 5_000));
  await assert.rejects(importNpy(untouched, systemFiles, folder), /another length/);
});
