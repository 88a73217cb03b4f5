// The factorisation machine: one step against a naive one in f64 and against numerical gradients, all variants equal bit for bit, score, vectors and
// query against evaluate, cuts of a batch, restart, what is not finite.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels, kernelVariants, loadVariant } from "#kernel/kernels";
import { moduleBeside } from "#platform/module-beside";
import { systemWorkers } from "#platform/system-workers";
import { FactorisationMachine, type FmOptions } from "./factorisation-machine.ts";
import { readMachineCheckpoint } from "./machine-checkpoint.ts";
import type { LogitReport, LogitTask } from "./torn-logits.worker.ts";

const seed = process.env["SEED"] ?? "fm";
const runnable = kernelVariants.filter((variant) => typeof loadVariant(variant) !== "string");

const usual: FmOptions = {
  factors: 8,
  capacityRows: 5_000,
  seed: 0x1234_5678_9abc_def0n,
  initialScale: 0.1,
  optimizer: "adagrad",
  rate: { linear: 0.1, factors: 0.05 },
  l2: { linear: 0.001, factors: 0.002 },
  initialAccumulator: 0.1,
};

function machineOf(options: Partial<FmOptions> = {}, variant = runnable[0]!, laneBytes = 64 * 1024): { memory: KernelMemory; fm: FactorisationMachine } {
  const all = { ...usual, ...options };
  const memory = KernelMemory.create({ dataBytes: FactorisationMachine.bytesFor(all), lanes: 3, laneBytes }, kernels(variant));
  return { memory, fm: FactorisationMachine.create(memory, all) };
}

interface Slot {
  readonly key: number;
  readonly x: number;
  readonly linear: boolean;
}

/** The high word differs from 0 so that both halves of a key count. */
const highOf = (key: number): number => Math.imul(key, 0x85eb_ca6b) >>> 0;

function rowsOf(rows: readonly (readonly Slot[])[]): SlotRows {
  const samples = new SlotRows();
  for (const row of rows) {
    for (const { key, x, linear } of row) {
      if (linear) samples.addLinear(key, highOf(key), x);
      else samples.addFull(key, highOf(key), x);
    }
    samples.endRow();
  }
  return samples;
}

function randomRow(prng: Prng, keysMax: number, linearMax: number, fullMax: number): Slot[] {
  const slots = new Map<number, Slot>();
  for (let i = prng.below(linearMax + 1); i > 0; i--) {
    const key = 1_000_000 + prng.below(keysMax);
    slots.set(key, { key, x: Math.fround(prng.normal()), linear: true });
  }
  for (let i = prng.below(fullMax + 1); i > 0; i--) {
    const key = prng.below(keysMax);
    slots.set(key, { key, x: prng.chance(0.5) ? 1 : Math.fround(prng.normal()), linear: false });
  }
  return [...slots.values()];
}

function learnAll(fm: FactorisationMachine, samples: SlotRows, labels: ArrayLike<number>, importance = 1, shift = 0): Float32Array {
  const logits = new Float32Array(samples.rows);
  const fill = (value: number): Float32Array => new Float32Array(samples.rows).fill(value);
  fm.learn(samples, Float32Array.from(labels), fill(importance), fill(shift), logits);
  return logits;
}

/** All parameters of the keys: per key factors numbers v, then w. */
function parametersOf(fm: FactorisationMachine, keys: readonly number[]): Map<number, number[]> {
  const words = Uint32Array.from(keys.flatMap((key) => [key, highOf(key)]));
  const values = new Float32Array(keys.length * fm.table.dims);
  fm.table.pull(words, keys.length, values);
  return new Map(keys.map((key, i) => [key, [...values.subarray(i * fm.table.dims, (i + 1) * fm.table.dims)]]));
}

/** The definition, in f64. */
function naiveLogit(row: readonly Slot[], parameters: ReadonlyMap<number, readonly number[]>, factors: number): number {
  let logit = 0;
  for (const { key, x } of row) logit += parameters.get(key)![factors]! * x;
  const full = row.filter(({ linear }) => !linear);
  for (let i = 0; i < full.length; i++) {
    for (let j = i + 1; j < full.length; j++) {
      for (let f = 0; f < factors; f++) logit += parameters.get(full[i]!.key)![f]! * full[i]!.x * parameters.get(full[j]!.key)![f]! * full[j]!.x;
    }
  }
  return logit;
}

const logLoss = (z: number, label: number): number => Math.log1p(Math.exp(-Math.abs(z))) + Math.max(z, 0) - label * z;

/** What was learned, with its order and without versions: the records of its rows. */
function contentOf(fm: FactorisationMachine): unknown {
  const saved = fm.save();
  const records: number[][] = [];
  readMachineCheckpoint(saved).rows((words, at) => records.push([...words.subarray(at, at + 2), ...words.subarray(at + 4, at + 6 + fm.table.dims)]));
  return records;
}

function evictedOf(saved: Uint8Array): number {
  return readMachineCheckpoint([saved]).head.evicted;
}

for (const variant of runnable) {
  test(`${variant}: the logit is the sum over pairs, for every number of factors (SEED=${seed})`, () => {
    const prng = new Prng(seed).fork("logit");
    for (const factors of [4, 8, 12, 16, 20, 32, 64]) {
      const { fm } = machineOf({ factors, initialScale: 0.5 }, variant);
      const rows = Array.from({ length: 40 }, () => randomRow(prng, 50, 5, 12));
      learnAll(
        fm,
        rowsOf(rows.slice(0, 20)),
        new Float32Array(20).map((_, i) => i & 1),
      );
      const parameters = parametersOf(fm, [...new Set(rows.flat().map(({ key }) => key))]);
      const logits = new Float32Array(40);
      fm.evaluate(rowsOf(rows), logits);
      for (const [r, row] of rows.entries()) {
        // Sums of some hundred products of numbers near 1, each rounded at 2^-24.
        const expected = naiveLogit(row, parameters, factors);
        assert.ok(Math.abs(logits[r]! - expected) < 2e-5 * (1 + Math.abs(expected) + row.length), `factors ${factors} row ${r}: ${logits[r]} ${expected}`);
      }
    }
  });

  test(`${variant}: the step of plain SGD is the numerical gradient of the log loss (SEED=${seed})`, () => {
    const prng = new Prng(seed).fork("gradient");
    for (const factors of [4, 16]) {
      for (const [label, importance, shift] of [
        [1, 1, 0],
        [0, 2.5, -1.5],
        [0.25, 1, 3],
      ] as const) {
        const { fm } = machineOf({ factors, optimizer: "sgd", rate: { linear: 1, factors: 1 }, l2: { linear: 0, factors: 0 }, initialScale: 0.4 }, variant);
        const row = [...randomRow(prng, 1_000, 4, 6), { key: 7, x: 1.5, linear: false }, { key: 1_000_007, x: -2, linear: true }].filter(
          (slot, i, all) => all.findIndex(({ key }) => key === slot.key) === i,
        );
        const keys = row.map(({ key }) => key);
        const before = parametersOf(fm, keys);
        const loss = (parameters: ReadonlyMap<number, readonly number[]>): number => importance * logLoss(naiveLogit(row, parameters, factors) + shift, label);
        learnAll(fm, rowsOf([row]), [label], importance, shift);
        const after = parametersOf(fm, keys);
        for (const { key, linear } of row) {
          for (let i = linear ? factors : 0; i <= factors; i++) {
            const moved = (by: number): Map<number, number[]> => new Map(before).set(key, before.get(key)!.with(i, before.get(key)![i]! + by));
            const gradient = (loss(moved(1e-4)) - loss(moved(-1e-4))) / 2e-4;
            const step = before.get(key)![i]! - after.get(key)![i]!;
            assert.ok(
              Math.abs(step - gradient) < 1e-5 * (1 + Math.abs(gradient)) * (1 + Math.abs(before.get(key)![i]!)),
              `key ${key} component ${i}: ${step} ${gradient}`,
            );
          }
          if (linear) assert.deepEqual(after.get(key)!.slice(0, factors), before.get(key)!.slice(0, factors), "a linear-only slot leaves its vector");
        }
      }
    }
  });

  test(`${variant}: many steps of every optimizer follow a naive machine in f64 (SEED=${seed})`, () => {
    for (const optimizer of ["sgd", "adagrad", "rowwise-adagrad"] as const) {
      const prng = new Prng(seed).fork(optimizer);
      const { factors, rate, l2, initialAccumulator } = usual;
      const { fm } = machineOf({ optimizer }, variant);
      const rows = Array.from({ length: 200 }, () => randomRow(prng, 30, 3, 8));
      const labels = rows.map(() => prng.below(2));
      const keys = [...new Set(rows.flat().map(({ key }) => key))];
      const parameters = parametersOf(fm, keys);
      const accumulators = new Map(keys.map((key) => [key, new Array<number>(factors + 1).fill(initialAccumulator)]));
      const logits = learnAll(fm, rowsOf(rows), labels);
      for (const [r, row] of rows.entries()) {
        const logit = naiveLogit(row, parameters, factors);
        assert.ok(Math.abs(logit - logits[r]!) < 1e-3 * (1 + Math.abs(logit)), `${optimizer} sample ${r}: ${logits[r]} ${logit}`);
        const g = 1 / (1 + Math.exp(-logit)) - labels[r]!;
        const sums = Array.from({ length: factors }, (_, f) => row.reduce((sum, { key, x, linear }) => sum + (linear ? 0 : parameters.get(key)![f]! * x), 0));
        const steps = row.map(({ key, x, linear }) => {
          const w = parameters.get(key)!;
          const gradient = w.map((weight, f) =>
            f === factors ? g * x + l2.linear * weight : linear ? 0 : g * x * (sums[f]! - weight * x) + l2.factors * weight,
          );
          return { key, linear, gradient };
        });
        for (const { key, linear, gradient } of steps) {
          const w = parameters.get(key)!;
          const a = accumulators.get(key)!;
          const mean = gradient.slice(0, factors).reduce((sum, part) => sum + part * part, 0) / factors;
          gradient.forEach((part, f) => {
            if (linear && f < factors) return;
            a[f]! += optimizer === "rowwise-adagrad" && f < factors ? mean : part * part;
            const pace = f === factors ? rate.linear : rate.factors;
            w[f]! -= optimizer === "sgd" ? pace * part : (pace * part) / Math.sqrt(a[f]!);
          });
        }
      }
      const learned = parametersOf(fm, keys);
      for (const key of keys)
        learned.get(key)!.forEach((value, f) => assert.ok(Math.abs(value - parameters.get(key)![f]!) < 1e-3, `${optimizer} key ${key} component ${f}`));
    }
  });
}

test(`promise: all variants learn and answer the same bits, however a batch is cut (SEED=${seed})`, () => {
  for (const optimizer of ["sgd", "adagrad", "rowwise-adagrad"] as const) {
    for (const factors of [4, 16, 24]) {
      const prng = new Prng(seed).fork(`${optimizer} ${factors}`);
      const rows = Array.from({ length: 120 }, () => randomRow(prng, 200, 4, 10));
      const labels = Float32Array.from(rows, () => prng.below(2));
      const options = { optimizer, factors, capacityRows: 300 };
      const asked = rowsOf(Array.from({ length: 60 }, () => randomRow(prng, 300, 4, 10)));
      const outcomes = runnable.flatMap((variant) =>
        [120, 17, 1].map((size) => {
          const { fm } = machineOf(options, variant, size === 120 ? 8 * 1024 + 128 * 1024 : 64 * 1024);
          const logits = new Float32Array(120);
          for (let first = 0; first < 120; first += size)
            logits.set(learnAll(fm, rowsOf(rows.slice(first, first + size)), labels.subarray(first, first + size), 1.25, 0.5), first);
          const later = new Float32Array(60);
          fm.evaluate(asked, later);
          const vectors = new Float32Array(60 * fm.vectorDims);
          fm.vectors(asked, vectors);
          return { variant, size, logits, later, vectors, refused: fm.refused, saved: Buffer.concat(fm.save()) };
        }),
      );
      for (const outcome of outcomes) {
        const { variant, size, ...results } = outcome;
        const { variant: _v, size: _s, ...first } = outcomes[0]!;
        assert.deepEqual(results, first, `${optimizer} factors ${factors}: ${variant} in parts of ${size}`);
      }
      // So many keys that some are evicted.
      assert.ok(evictedOf(outcomes[0]!.saved) > 10);
    }
  }
});

test(`score is evaluate of the joined rows, and c_U + <U, I> + c_I (SEED=${seed})`, () => {
  const prng = new Prng(seed).fork("score");
  for (const factors of [4, 16, 32]) {
    const { fm } = machineOf({ factors, initialScale: 0.3 });
    const shift = (row: Slot[], by: number): Slot[] => row.map((slot) => ({ ...slot, key: slot.key + by }));
    const users = Array.from({ length: 5 }, () => randomRow(prng, 100, 4, 20));
    const items = Array.from({ length: 150 }, () => shift(randomRow(prng, 100, 4, 20), 2_000));
    learnAll(
      fm,
      rowsOf(items.map((item, i) => [...users[i % 4]!, ...item])),
      items.map((_, i) => i & 1),
    );
    const itemRows = rowsOf(items);
    for (const user of users) {
      const userRow = rowsOf([user]);
      const joined = new Float32Array(150);
      fm.evaluate(rowsOf(items.map((item) => [...user, ...item])), joined);
      const scored = new Float32Array(150);
      fm.score(userRow, itemRows, scored);
      const vectors = new Float32Array(150 * fm.vectorDims);
      fm.vectors(itemRows, vectors);
      const query = new Float32Array(fm.vectorDims).fill(NaN);
      const own = fm.query(userRow, query);
      for (let i = 0; i < 150; i++) {
        const bound = 1e-4 * (1 + Math.abs(joined[i]!));
        assert.ok(Math.abs(scored[i]! - joined[i]!) < bound, `item ${i}: ${scored[i]} ${joined[i]}`);
        let dot = own;
        for (let f = 0; f < fm.vectorDims; f++) dot += query[f]! * vectors[i * fm.vectorDims + f]!;
        assert.ok(Math.abs(dot - joined[i]!) < bound, `item ${i}: ${dot} ${joined[i]}`);
        assert.deepEqual([...vectors.subarray(i * fm.vectorDims + factors + 1, (i + 1) * fm.vectorDims)], [0, 0, 0]);
      }
    }
  }
});

test(`an empty batch, an empty row and a row of linear-only slots are fine`, () => {
  const { fm } = machineOf();
  const nothing = new SlotRows();
  fm.evaluate(nothing, new Float32Array(0));
  fm.learn(nothing, new Float32Array(0), new Float32Array(0), new Float32Array(0), new Float32Array(0));
  const logits = learnAll(fm, rowsOf([[], [{ key: 3, x: 2, linear: true }], []]), [1, 1, 0]);
  assert.deepEqual([...logits], [0, 0, 0]);
  fm.evaluate(rowsOf([[], [{ key: 3, x: 2, linear: true }]]), logits);
  assert.equal(logits[0], 0);
  assert.ok(logits[1]! > 0);
  fm.score(rowsOf([[]]), rowsOf([[{ key: 3, x: 2, linear: true }]]), logits);
  assert.ok(logits[0] > 0);
});

test(`promise: a restart from a checkpoint goes on bit for bit, also in a machine of another capacity and in one that has moved on`, () => {
  for (const optimizer of ["sgd", "adagrad", "rowwise-adagrad"] as const) {
    const prng = new Prng(seed).fork(`restart ${optimizer}`);
    const rows = Array.from({ length: 300 }, () => randomRow(prng, 400, 4, 10));
    const labels = rows.map(() => prng.below(2));
    const learn = (fm: FactorisationMachine, from: number, to: number): Float32Array => learnAll(fm, rowsOf(rows.slice(from, to)), labels.slice(from, to));
    const { fm: uninterrupted } = machineOf({ optimizer });
    learn(uninterrupted, 0, 150);
    const parts = uninterrupted.save();
    const expected = learn(uninterrupted, 150, 300);
    const final = Buffer.concat(uninterrupted.save());
    const movedOn = machineOf({ optimizer }).fm;
    learn(movedOn, 0, 220);
    const other = machineOf({ optimizer }).fm;
    learn(other, 100, 300);
    const expectedContent = contentOf(uninterrupted);
    for (const [name, fm] of Object.entries({ fresh: machineOf({ optimizer, capacityRows: 900 }).fm, same: uninterrupted, movedOn, other })) {
      fm.load(name === "fresh" ? [Buffer.concat(parts)] : parts);
      // No version is given twice: a machine that has moved on counts on from where it was.
      const exactly = name === "fresh";
      if (exactly) assert.deepEqual(Buffer.concat(fm.save()), Buffer.concat(parts), name);
      assert.deepEqual(learn(fm, 150, 300), expected, name);
      if (exactly) assert.deepEqual(Buffer.concat(fm.save()), final, name);
      assert.deepEqual(contentOf(fm), expectedContent, name);
    }
  }
});

test(`what is not finite makes no step and is counted; the parameters stay finite under any input`, () => {
  const { memory, fm } = machineOf();
  const good: Slot[] = [
    { key: 1, x: 1, linear: false },
    { key: 2, x: 1, linear: false },
  ];
  learnAll(fm, rowsOf([good]), [1]);
  const before = Buffer.concat(fm.save());
  for (const [label, importance, shift] of [
    [NaN, 1, 0],
    [1, NaN, 0],
    [1, Infinity, 0],
    [1, 1, NaN],
    [1, 1, Infinity],
  ] as const)
    learnAll(fm, rowsOf([good]), [label], importance, shift);
  for (const x of [NaN, Infinity, -Infinity]) {
    const [logit] = learnAll(fm, rowsOf([[good[0]!, { ...good[1]!, x }]]), [1]);
    assert.ok(!Number.isFinite(logit), "the trainer sees it");
  }
  assert.equal(fm.skipped, 8);
  const after = Buffer.concat(fm.save());
  const headBytes = 96;
  assert.equal(Buffer.compare(before.subarray(headBytes), after.subarray(headBytes)), 0);
  // Extreme but finite: bounded errors and gradients.
  for (const x of [1e18, -1e18, 3e38, 1e-30]) learnAll(fm, rowsOf([[good[0]!, { ...good[1]!, x }], [{ key: 9, x, linear: true }]]), [1, 0], 1e30, 100);
  assert.ok(fm.finite());
  fm.table.assign(Uint32Array.of(5, 5), 1, new Float32Array(fm.table.dims).fill(NaN));
  assert.ok(fm.finite(), "such rows are not taken");
  // Memory that went wrong.
  const values = new Float32Array(fm.table.dims);
  fm.table.pull(Uint32Array.of(1, highOf(1)), 1, values);
  const at = memory.f32.findIndex((_, i) => values.every((value, j) => memory.f32[i + j] === value) && i * 4 >= memory.dataFrom);
  memory.f32[at + 3] = NaN;
  assert.ok(!fm.finite());
});

test(`assignLinear sets w and leaves the vector`, () => {
  const { fm } = machineOf();
  const before = parametersOf(fm, [4, 5]);
  assert.equal(fm.assignLinear(Uint32Array.of(4, highOf(4), 5, highOf(5)), Float32Array.of(1, -2)), 0);
  const after = parametersOf(fm, [4, 5]);
  assert.deepEqual(after.get(4), [...before.get(4)!.slice(0, 8), 1]);
  assert.deepEqual(after.get(5), [...before.get(5)!.slice(0, 8), -2]);
  const logits = new Float32Array(1);
  fm.evaluate(rowsOf([[{ key: 4, x: 3, linear: true }]]), logits);
  assert.equal(logits[0], 3);
});

test(`another thread's machine reads what the writer's learned`, () => {
  const { memory, fm } = machineOf();
  const rows = rowsOf([
    [
      { key: 1, x: 1, linear: false },
      { key: 2, x: 1, linear: false },
    ],
  ]);
  learnAll(fm, rows, [1]);
  const reader = FactorisationMachine.attach(KernelMemory.attach(memory.memory, 1), fm.at);
  const [own, its] = [new Float32Array(1), new Float32Array(1)];
  fm.evaluate(rows, own);
  reader.evaluate(rows, its);
  assert.deepEqual(its, own);
  assert.throws(
    () => FactorisationMachine.attach(memory, fm.at + 64),
    (error: unknown) => error instanceof MillraceError && error.code === "corrupt",
  );
});

test(`promise: no logit and no vector is made of a row half written, whatever variants write and read`, async () => {
  const differentLeast = 20;
  for (const [writer, reader] of [
    [runnable[0]!, runnable[0]!],
    [runnable[0]!, "scalar"],
    ["scalar", runnable[0]!],
  ] as const) {
    const { memory, fm } = machineOf({ factors: 64 }, writer);
    const keys = Uint32Array.of(1, 0, 2, 0);
    const values = new Float32Array(2 * 65).fill(1, 65, 65 + 64);
    fm.table.assign(keys, 2, values);
    const progress = new Int32Array(new SharedArrayBuffer(8));
    const task: LogitTask = { memory: memory.memory, at: fm.at, variant: reader, progress, written: 1, still: 2 };
    const worker = systemWorkers.start(moduleBeside("./torn-logits.worker", import.meta.url), task, "reader");
    assert.equal(await worker.receive(), "ready");
    const started = performance.now();
    const least = process.env["MILLRACE_LONG"] ? 5_000 : 400;
    // As long as asked, and until the reader has met the writer often: threads share cores.
    for (let n = 0; performance.now() - started < (Atomics.load(progress, 1) >= differentLeast ? least : 20_000); n++) {
      for (let i = 0; i < 200; i++) fm.table.assign(keys, 1, values.fill((n * 200 + i) % 1_000, 0, 65));
    }
    Atomics.store(progress, 0, 1);
    const { logits, wrong, different } = (await worker.receive()) as LogitReport;
    await worker.stop();
    assert.equal(wrong, 0, `${writer} wrote, ${reader} read: ${wrong} of ${logits} wrong`);
    assert.ok(different >= differentLeast, `only ${different} different logits were seen`);
  }
});

test(`refusals name the fault`, () => {
  const refused = (code: string, call: () => unknown): void => assert.throws(call, (error: unknown) => error instanceof MillraceError && error.code === code);
  for (const factors of [0, 2, 6, 68, 4.5]) refused("invalid", () => FactorisationMachine.bytesFor({ ...usual, factors }));
  for (const bad of [{ capacityRows: 0 }, { seed: -1n }, { initialScale: NaN }, { rate: { linear: -1, factors: 1 } }])
    refused("invalid", () => FactorisationMachine.bytesFor({ ...usual, ...bad }));
  const { fm } = machineOf();
  const row = rowsOf([[{ key: 1, x: 1, linear: false }]]);
  refused("invalid", () => fm.evaluate(row, new Float32Array(0)));
  refused("invalid", () => fm.score(new SlotRows(), row, new Float32Array(1)));
  refused("invalid", () => fm.vectors(row, new Float32Array(4)));
  const long = rowsOf([Array.from({ length: 1_025 }, (_, key) => ({ key, x: 1, linear: false }))]);
  refused("invalid", () => fm.evaluate(long, new Float32Array(1)));
  const longest = rowsOf([Array.from({ length: 1_024 }, (_, key) => ({ key, x: 0.01, linear: false }))]);
  fm.evaluate(longest, new Float32Array(1));
  learnAll(machineOf({}, runnable[0], 1 << 20).fm, longest, [1]);
  refused("invalid", () => learnAll(machineOf({}, runnable[0], 16 * 1024).fm, longest, [1]));
});
