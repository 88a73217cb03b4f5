// The parameter table: closed forms of each optimizer's step on all widths, equal bits of all variants, initial values, a model test against a Map,
// a full table, checkpoints (golden file, damage, other shapes), and rows that are never seen half written by other threads.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { KernelMemory } from "#kernel/kernel-memory";
import { parameterRowHead, parameterWord } from "#kernel/parameter-layout";
import { type KernelVariant, kernels, kernelVariants, loadVariant } from "#kernel/kernels";
import { moduleBeside } from "#platform/module-beside";
import { systemWorkers } from "#platform/system-workers";
import { type Optimizer, type ParameterShape, ParameterTable } from "./parameter-table.ts";
import type { ReaderReport, RowTask } from "./torn-rows.worker.ts";

const seed = process.env["SEED"] ?? "params";
const runnable = kernelVariants.filter((variant) => typeof loadVariant(variant) !== "string");
const optimizers: readonly Optimizer[] = ["sgd", "adagrad", "rowwise-adagrad"];

const usual: ParameterShape = {
  dims: 5,
  factors: 4,
  capacityRows: 1_000,
  seed: 42n,
  initialScale: 0.5,
  optimizer: "adagrad",
  rate: { linear: 0.3, factors: 0.1 },
  l2: { linear: 0.01, factors: 0.02 },
  initialAccumulator: 0.1,
};

function newTable(
  shape: Partial<ParameterShape> = {},
  variant: KernelVariant = runnable[0]!,
  laneBytes = 64 * 1024,
): { memory: KernelMemory; table: ParameterTable } {
  const all = { ...usual, ...shape };
  const memory = KernelMemory.create({ dataBytes: ParameterTable.bytesFor(all), lanes: 4, laneBytes }, kernels(variant));
  return { memory, table: ParameterTable.create(memory, all) };
}

/** A key's two words, both told by the number. */
const wordsOf = (keys: readonly number[]): Uint32Array => Uint32Array.from(keys.flatMap((key) => [key, Math.imul(key, 0x9e37_79b1)]));

function pull(table: ParameterTable, keys: readonly number[]): number[][] {
  const values = new Float32Array(keys.length * table.dims);
  table.pull(wordsOf(keys), keys.length, values);
  return keys.map((_, i) => [...values.subarray(i * table.dims, (i + 1) * table.dims)]);
}

const push = (table: ParameterTable, keys: readonly number[], gradients: readonly (readonly number[])[]): number =>
  table.push(wordsOf(keys), keys.length, Float32Array.from(gradients.flat()));

const numbers = (prng: Prng, count: number): number[] => Array.from({ length: count }, () => Math.fround(prng.normal()));

/** The step as the formula says, in f64: weights and accumulators in, the same out. */
function stepOf(shape: ParameterShape, weights: number[], accumulators: number[], gradient: readonly number[]): void {
  const { dims, factors, optimizer, rate, l2 } = shape;
  const part = (from: number, to: number, pace: number, decay: number, shared: number): void => {
    if (from === to) return;
    const g = gradient.slice(from, to).map((value, i) => value + decay * weights[from + i]!);
    const mean = g.reduce((sum, value) => sum + value * value, 0) / (to - from);
    if (optimizer === "rowwise-adagrad") accumulators[shared]! += mean;
    g.forEach((value, i) => {
      if (optimizer === "adagrad") accumulators[from + i]! += value * value;
      const a = optimizer === "adagrad" ? accumulators[from + i]! : accumulators[shared]!;
      weights[from + i]! -= optimizer === "sgd" ? pace * value : (pace * value) / (Math.sqrt(a) + 1e-8);
    });
  };
  part(0, factors, rate.factors, l2.factors, 0);
  part(factors, dims, rate.linear, l2.linear, 1);
}

for (const variant of runnable) {
  test(`${variant}: steps of every optimizer follow their formulae on widths 1 to 17 (SEED=${seed})`, () => {
    for (const optimizer of optimizers) {
      for (let dims = 1; dims <= 17; dims++) {
        for (const factors of [0, 4, 8, 12, 16].filter((some) => some <= dims)) {
          for (const initialAccumulator of [0, 0.1]) {
            const prng = new Prng(seed).fork(`${optimizer} ${dims} ${factors}`);
            const shape = { ...usual, dims, factors, optimizer, initialAccumulator };
            const { table } = newTable(shape, variant);
            const keys = [1, 2, 3];
            const weights = pull(table, keys);
            const accumulators = keys.map(() => new Array<number>(Math.max(2, dims)).fill(initialAccumulator));
            for (let step = 0; step < 6; step++) {
              const gradients = keys.map(() => numbers(prng, dims));
              // Zeros meet an accumulator of 0 when it begins there.
              if (step === 0) gradients[0]!.fill(0);
              assert.equal(push(table, keys, gradients), 0);
              keys.forEach((_, i) => stepOf(shape, weights[i]!, accumulators[i]!, gradients[i]!));
            }
            pull(table, keys).forEach((row, i) =>
              row.forEach((value, j) => {
                // Six steps of at most 1, each with some roundings of 2^-24; without a first accumulator a small gradient's quotient is of size 1 too.
                assert.ok(
                  Math.abs(value - weights[i]![j]!) < 2e-5,
                  `${optimizer} dims ${dims} factors ${factors} key ${i} number ${j}: ${value} ${weights[i]![j]}`,
                );
              }),
            );
            assert.ok(table.finite());
            assert.equal(table.touches(1, 0x9e37_79b1), 6);
          }
        }
      }
    }
  });

  test(`${variant}: against a Map: pulls, pushes with duplicates, assignments, batches longer than the lane (SEED=${seed})`, () => {
    for (const optimizer of optimizers) {
      const prng = new Prng(seed).fork(`model ${optimizer}`);
      const shape = { ...usual, dims: 7, optimizer, capacityRows: 300 };
      const { table } = newTable(shape, variant, 8 * 1024);
      const model = new Map<number, { weights: number[]; accumulators: number[] }>();
      let refusedAtAll = 0;
      const initials = pull(
        newTable(shape, variant).table,
        Array.from({ length: 500 }, (_, key) => key),
      );
      const initial = (key: number): number[] => [...initials[key]!];
      const claim = (key: number): { weights: number[]; accumulators: number[] } | undefined => {
        if (!model.has(key) && model.size === 300) return undefined;
        if (!model.has(key)) model.set(key, { weights: initial(key), accumulators: new Array<number>(7).fill(usual.initialAccumulator) });
        return model.get(key);
      };
      for (let round = 0; round < 40; round++) {
        const keys = Array.from({ length: prng.below(50) }, () => prng.below(400));
        const rows = keys.map(() => numbers(prng, 7));
        let refused = 0;
        if (prng.chance(0.7)) {
          const sums = new Map<number, number[]>();
          for (const [i, key] of keys.entries()) {
            if (claim(key) === undefined) refused++;
            else sums.set(key, sums.get(key)?.map((value, j) => Math.fround(value + rows[i]![j]!)) ?? rows[i]!);
          }
          assert.equal(push(table, keys, rows), refused);
          for (const [key, gradient] of sums) stepOf(shape, model.get(key)!.weights, model.get(key)!.accumulators, gradient);
        } else {
          for (const [i, key] of keys.entries()) {
            const own = claim(key);
            if (own === undefined) refused++;
            else own.weights = [...rows[i]!];
          }
          assert.equal(table.assign(wordsOf(keys), keys.length, Float32Array.from(rows.flat())), refused);
        }
        refusedAtAll += refused;
        assert.equal(table.rowCount, model.size);
        assert.equal(table.refused, refusedAtAll);
        const asked = Array.from({ length: 500 }, () => prng.below(500));
        const values = new Float32Array(500 * 7);
        assert.equal(table.pull(wordsOf(asked), 500, values), asked.filter((key) => !model.has(key)).length);
        if (round % 8 !== 0) continue;
        asked.forEach((key, i) => {
          const expected = model.get(key)?.weights ?? initial(key);
          for (let j = 0; j < 7; j++) assert.ok(Math.abs(values[i * 7 + j]! - expected[j]!) < 1e-4, `round ${round} key ${key}`);
        });
      }
      assert.ok(refusedAtAll > 0, "it became full");
    }
  });
}

test(`promise: all variants give the same bits: values, accumulators, order (SEED=${seed})`, () => {
  for (const optimizer of optimizers) {
    for (const dims of [1, 3, 8, 17, 256]) {
      const saved = runnable.map((variant) => {
        const prng = new Prng(seed).fork("bits");
        const { table } = newTable({ dims, factors: Math.min(64, dims - (dims % 4)), optimizer, capacityRows: 60 }, variant, 256 * 1024);
        for (let round = 0; round < 10; round++) {
          const keys = Array.from({ length: 40 }, () => prng.below(80));
          const rows = keys.map(() => numbers(prng, dims));
          if (round === 7) rows[3]![0] = NaN;
          if (round % 5 === 4) table.assign(wordsOf(keys), 40, Float32Array.from(rows.flat()));
          else push(table, keys, rows);
        }
        return { saved: Buffer.concat(table.save()), missing: pull(table, [1_000, 1_001, 5]) };
      });
      for (const other of saved) assert.deepEqual(other, saved[0], `${optimizer} dims ${dims}`);
    }
  }
});

test("promise: a missing key reads the same in every thread, before and after it is inserted; the seed and the key decide", () => {
  const shape = { dims: 64, factors: 60 };
  const { memory, table } = newTable(shape);
  const reader = ParameterTable.attach(KernelMemory.attach(memory.memory, 1), table.at);
  const keys = Array.from({ length: 2_000 }, (_, i) => i);
  const before = pull(table, keys);
  assert.deepEqual(pull(reader, keys), before);
  // A step of zero gradients without decay inserts and changes nothing.
  const { table: still } = newTable({ ...shape, l2: { linear: 0, factors: 0 } }, runnable[0], 1 << 20);
  push(still, keys.slice(0, 500), new Array<number[]>(500).fill(new Array<number>(64).fill(0)));
  assert.equal(still.rowCount, 500);
  assert.deepEqual(pull(still, keys.slice(0, 600)), before.slice(0, 600));
  assert.notDeepEqual(pull(newTable({ ...shape, seed: 43n }).table, [7]), [before[7]]);
  assert.notDeepEqual(pull(newTable({ ...shape, seed: 42n + (1n << 32n) }).table, [7]), [before[7]]);
  // Uniform in [-scale, scale): mean 0 and variance scale^2 / 3, within six standard errors; no two components follow one another.
  const all = before.flatMap((row) => row.slice(0, 60));
  assert.ok(before.every((row) => row.slice(60).every((value) => value === 0)));
  assert.ok(all.every((value) => value >= -0.5 && value < 0.5));
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  const variance = all.reduce((sum, value) => sum + value * value, 0) / all.length;
  assert.ok(Math.abs(mean) < (6 * 0.5) / Math.sqrt(3 * all.length), `mean ${mean}`);
  assert.ok(Math.abs(variance - 0.25 / 3) < 0.002, `variance ${variance}`);
  for (const lag of [1, 4, 60]) {
    const along = all.slice(lag).reduce((sum, value, i) => sum + value * all[i]!, 0) / all.length;
    assert.ok(Math.abs(along) < (6 * 0.25) / 3 / Math.sqrt(all.length), `lag ${lag}: ${along}`);
  }
});

test("keys that differ in one bit, and keys 0 and 2^64 - 1, are different keys", () => {
  const { table } = newTable({ dims: 1, factors: 0, capacityRows: 200 });
  const keys: number[] = [0, 0, 0xffff_ffff, 0xffff_ffff];
  for (let bit = 0; bit < 32; bit++) keys.push((1 << bit) >>> 0, 0, 0, (1 << bit) >>> 0);
  const count = keys.length / 2;
  const values = Float32Array.from({ length: count }, (_, i) => i);
  table.assign(Uint32Array.from(keys), count, values);
  assert.equal(table.rowCount, count);
  const read = new Float32Array(count);
  assert.equal(table.pull(Uint32Array.from(keys), count, read), 0);
  assert.deepEqual(read, values);
});

test("a gradient that is not finite makes no step and is counted", () => {
  const { table } = newTable();
  push(table, [1], [[1, 2, 3, 4, 5]]);
  const before = pull(table, [1, 2]);
  push(
    table,
    [1, 2, 1],
    [
      [1, NaN, 0, 0, 0],
      [0, 0, 0, 0, Infinity],
      [1, 1, 1, 1, 1],
    ],
  );
  assert.deepEqual(pull(table, [1, 2]), before);
  assert.equal(table.skipped, 2);
});

test("a push of more keys than the lane holds is refused; a pull of as many is not", () => {
  const { table } = newTable({ capacityRows: 10_000 }, runnable[0], 8 * 1024);
  const most = table.pushKeysMax;
  assert.ok(most > 50);
  const keys = new Uint32Array(2 * (most + 1)).map((_, i) => i);
  assert.equal(table.push(keys, most, new Float32Array(5 * most)), 0);
  assert.throws(
    () => table.push(keys, most + 1, new Float32Array(5 * (most + 1))),
    (error: unknown) => error instanceof MillraceError && error.code === "invalid",
  );
  table.pull(keys, most + 1, new Float32Array(5 * (most + 1)));
});

// ---- checkpoints ----

function trained(shape: Partial<ParameterShape> = {}, rows = 5): ParameterTable {
  const { table } = newTable(shape);
  const prng = new Prng("golden");
  const { dims } = table;
  for (let round = 0; round < 3; round++)
    push(
      table,
      Array.from({ length: rows }, (_, i) => i * (round + 1)),
      Array.from({ length: rows }, () => numbers(prng, dims)),
    );
  return table;
}

test("a checkpoint of version 1 is read for ever, and written the same", () => {
  for (const optimizer of optimizers) {
    const golden = readFileSync(new URL(`../../test/golden/parameters/v1/${optimizer}.bin`, import.meta.url));
    const table = trained({ optimizer });
    assert.deepEqual(Buffer.concat(table.save()), golden, optimizer);
    const { table: other } = newTable({ optimizer, capacityRows: 16 });
    other.load([golden]);
    assert.deepEqual(Buffer.concat(other.save()), golden);
    assert.deepEqual(pull(other, [0, 4, 8, 99]), pull(table, [0, 4, 8, 99]));
  }
});

test("a damaged checkpoint changes nothing: every byte counts, and so does the end", () => {
  const parts = trained().save();
  const whole = Buffer.concat(parts);
  const table = trained({ capacityRows: 100 }, 9);
  const before = Buffer.concat(table.save());
  const refused = (bytes: Uint8Array, codes: readonly string[]): void => {
    assert.throws(
      () => table.load([bytes]),
      (error: unknown) => error instanceof MillraceError && codes.includes(error.code),
    );
    assert.deepEqual(Buffer.concat(table.save()), before);
  };
  for (let at = 0; at < whole.length; at++) {
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 1 << (at % 8);
    refused(bytes, ["corrupt", "unsupported"]);
  }
  for (let size = 0; size < whole.length; size++) refused(whole.subarray(0, size), ["corrupt"]);
  refused(Buffer.concat([whole, whole]), ["corrupt"]);
  assert.throws(() => table.load([]), /shorter than its head/);
  // Unaligned bytes are read all the same.
  table.load([Buffer.concat([Buffer.from([7]), whole]).subarray(1)]);
  assert.deepEqual(Buffer.concat(table.save()), whole);
});

test("a checkpoint of another shape or with too many rows is refused", () => {
  const parts = trained().save();
  const code = (shape: Partial<ParameterShape>): string => {
    try {
      newTable(shape).table.load(parts);
      return "taken";
    } catch (error) {
      return (error as MillraceError).code;
    }
  };
  for (const shape of [{ dims: 6 }, { factors: 0 }, { seed: 1n }, { initialScale: 0.25 }, { optimizer: "sgd" }] as const) assert.equal(code(shape), "conflict");
  assert.equal(code({ capacityRows: 3 }), "overloaded");
  assert.equal(code({ rate: { linear: 1, factors: 1 }, l2: { linear: 0, factors: 0 }, capacityRows: 20 }), "taken");
});

test("a checkpoint of many blocks", () => {
  const { table } = newTable({ dims: 200, factors: 0, capacityRows: 6_000 }, runnable[0], 1 << 20);
  const count = 6_000;
  const keys = wordsOf(Array.from({ length: count }, (_, i) => i));
  table.assign(
    keys,
    count,
    Float32Array.from({ length: count * 200 }, (_, i) => i),
  );
  const parts = table.save();
  assert.ok(parts.length > 2);
  const { table: other } = newTable({ dims: 200, factors: 0, capacityRows: 6_000 }, runnable[0], 1 << 20);
  other.load(parts);
  assert.deepEqual(Buffer.concat(other.save()), Buffer.concat(parts));
});

// ---- threads ----

/** So many different values a reader must have seen. */
const valuesLeast = 30;

/**
 * Writes rows whose numbers are all equal while other threads read them; returns what the readers saw. The writer assigns whole rows, pushes, and
 * goes back to a checkpoint now and then.
 */
async function tornRows(writer: KernelVariant, readers: readonly KernelVariant[], writesMs: number): Promise<ReaderReport[]> {
  const shape: ParameterShape = {
    ...usual,
    dims: 64,
    factors: 0,
    capacityRows: 64,
    optimizer: "sgd",
    rate: { linear: 1, factors: 1 },
    l2: { linear: 0, factors: 0 },
  };
  const memory = KernelMemory.create({ dataBytes: ParameterTable.bytesFor(shape), lanes: 4, laneBytes: 64 * 1024 }, kernels(writer));
  const table = ParameterTable.create(memory, shape);
  const keys = wordsOf([1, 2, 3, 4]);
  table.assign(keys, 4, new Float32Array(4 * 64));
  const progress = new Int32Array(new SharedArrayBuffer(4 * (1 + readers.length)));
  const workers = readers.map((variant, i) => {
    const task: RowTask = { memory: memory.memory, at: table.at, lane: i + 1, variant, progress, keys };
    return systemWorkers.start(moduleBeside("./torn-rows.worker", import.meta.url), task, `reader ${i}`);
  });
  for (const worker of workers) assert.equal(await worker.receive(), "ready");
  const checkpoint = table.save();
  const values = new Float32Array(4 * 64);
  // As long as asked, and until every reader has met the writer often: threads share cores. Rather ends without than never.
  const started = performance.now();
  const ready = (): boolean => readers.every((_, i) => Atomics.load(progress, i + 1) >= valuesLeast);
  for (let round = 1; performance.now() - started < (ready() ? writesMs : 20_000); round++) {
    for (let i = 0; i < 100; i++) table.assign(keys, 4, values.fill((round * 100 + i) % 1_000));
    for (let i = 0; i < 100; i++) table.push(keys, 4, values.fill(1));
    if (round % 16 === 0) table.load(checkpoint);
  }
  Atomics.store(progress, 0, 1);
  assert.equal(table.unsteady, 0, "a reader gave up on a row");
  const reports: ReaderReport[] = [];
  for (const worker of workers) {
    reports.push((await worker.receive()) as ReaderReport);
    await worker.stop();
  }
  return reports;
}

test("promise: a reader in another thread never sees a row half written, whatever variants write and read", async () => {
  for (const [writer, readers] of [
    [runnable[0]!, [runnable[0]!, "scalar"]],
    ["scalar", [runnable[0]!, "scalar"]],
  ] as const) {
    const reports = await tornRows(writer, readers, process.env["MILLRACE_LONG"] ? 10_000 : 700);
    for (const [i, { reads, mixtures, values }] of reports.entries()) {
      assert.equal(mixtures, 0, `writer ${writer}, reader ${readers[i]}: ${mixtures} of ${reads} rows were mixtures`);
      assert.ok(reads > 100, `${reads} reads`);
      assert.ok(values >= valuesLeast, `only ${values} different values were seen: the writer was not running meanwhile`);
    }
  }
});

test("promise: a reader waits for no writer: one that stopped in the middle of a row is read past, one that died is healed by load", () => {
  for (const variant of runnable) {
    for (const restOnly of [0, 1]) {
      const { memory, table } = newTable({ dims: 20, factors: 16 }, variant);
      const old = Array.from({ length: 20 }, (_, i) => i);
      table.assign(wordsOf([1, 2]), 2, Float32Array.from([...old, ...old]));
      const checkpoint = table.save();
      // What `commit` has done when its thread loses the core in the middle of the second row.
      const word = (index: number): number => memory.u32[table.at / 4 + index]!;
      const row = table.at + word(parameterWord.rowsFrom) + word(parameterWord.rowBytes);
      memory.lane.reset();
      const slots = memory.lane.take(16);
      const values = memory.lane.take(80);
      const becoming = old.map((value, i) => (i < 16 && restOnly === 1 ? value : 100 + i));
      memory.u32[slots / 4] = row;
      memory.f32.set(
        becoming.map((value, i) => (i < 16 && restOnly === 1 ? -1 : value)),
        values / 4,
      );
      memory.u32.set([word(parameterWord.epoch) + 1, slots, 1, restOnly, values], table.at / 4 + parameterWord.epoch);
      memory.u32[row / 4]! |= 1;
      const halfWritten = restOnly === 1 ? 18 : 9;
      memory.f32.set(becoming.slice(0, halfWritten), (row + parameterRowHead) / 4);
      for (const other of runnable) {
        const reader = ParameterTable.attach(KernelMemory.attach(memory.memory, 1, kernels(other)), table.at);
        assert.deepEqual(pull(reader, [2, 1]), [becoming, old], `${variant} wrote, ${other} read`);
      }
      assert.equal(table.unsteady, 0);
      // The writer is dead and its lane is used again: the row has no whole values any more.
      table.assign(wordsOf([1]), 1, Float32Array.from(old));
      const missing = pull(newTable({ dims: 20, factors: 16 }, variant).table, [2]);
      assert.deepEqual(pull(table, [2, 1]), [...missing, old]);
      assert.equal(table.unsteady, 1);
      table.load(checkpoint);
      assert.deepEqual(pull(table, [2, 1]), [old, old]);
      assert.equal(table.unsteady, 1);
    }
  }
});
