// Optimizers against sequences worked out by hand, against each other (SIMD and scalar, one worker and four owners), and against the mistakes of other systems.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels, type KernelVariant, kernelVariants, loadVariant } from "#kernel/kernels";
import { MemoryPool } from "#kernel/memory-pool";
import { ParameterStore } from "../parameter-store.ts";
import { OwnerRouter, ownerOf } from "./placement.ts";
import { type OptimizerSettings, WorkerOptimizer } from "./worker-optimizer.ts";

const seed = Number(process.env["SEED"] ?? 4);
const runnable = kernelVariants.filter((variant) => typeof loadVariant(variant) !== "string");
const alone = { by: "owner", worker: 0, workers: 1 } as const;

function newOptimizer(
  settings: OptimizerSettings,
  dim: number,
  more: { capacityRows?: number; variant?: KernelVariant; by?: "example"; owner?: [number, number] } = {},
): WorkerOptimizer {
  const shape = { dim, settings, capacityRows: settings.kind === "sgd" ? 0 : (more.capacityRows ?? 64) };
  const memory = KernelMemory.create({ dataBytes: WorkerOptimizer.bytesFor(shape), laneBytes: 1 << 18 }, kernels(more.variant ?? runnable[0]!));
  const placement =
    more.by !== undefined ? { by: more.by } : more.owner !== undefined ? ({ by: "owner", worker: more.owner[0], workers: more.owner[1] } as const) : alone;
  return WorkerOptimizer.create(memory, shape, placement);
}

const wordsOf = (keys: readonly number[]): Uint32Array => Uint32Array.from(keys.flatMap((key) => [key, key ^ 0x5bd1e995]));

/** One step on key 1; `w` the weights before. */
function stepOn(optimizer: WorkerOptimizer, gradient: readonly number[], w?: readonly number[]): number[] {
  const { count, values } = optimizer.step(wordsOf([1]), 1, Float32Array.from(gradient), w === undefined ? undefined : Float32Array.from(w));
  assert.equal(count, 1);
  return [...values];
}

function closeTo(actual: readonly number[], expected: readonly number[], tolerance = 1e-6): void {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) =>
    assert.ok(Math.abs(value - expected[i]!) <= tolerance * Math.max(1, Math.abs(expected[i]!)), `${actual.join(" ")} is not ${expected.join(" ")}`),
  );
}

// ---- by hand; widths on both sides of a vector of four and of eight ----

const widths = [1, 3, 4, 5, 8, 9, 17];
const fill = (dim: number, value: number): number[] => new Array<number>(dim).fill(value);

test("SGD: - rate g", () => {
  for (const dim of widths) {
    const optimizer = newOptimizer({ kind: "sgd", rate: 0.5 }, dim);
    assert.deepEqual(stepOn(optimizer, fill(dim, 3)), fill(dim, -1.5));
    assert.deepEqual(stepOn(optimizer, fill(dim, -0.25)), fill(dim, 0.125));
  }
});

test("AdaGrad: the accumulator adds up squares; 16 + 9 = 5^2, + 144 = 13^2", () => {
  for (const dim of widths) {
    const optimizer = newOptimizer({ kind: "adagrad", rate: 2, initialAccumulator: 16, epsilon: 0 }, dim);
    closeTo(stepOn(optimizer, fill(dim, 3)), fill(dim, -6 / 5));
    closeTo(stepOn(optimizer, fill(dim, -12)), fill(dim, 24 / 13));
  }
  const optimizer = newOptimizer({ kind: "adagrad", rate: 1, initialAccumulator: 0, epsilon: 1 }, 2);
  closeTo(stepOn(optimizer, [3, 0]), [-3 / 4, 0]);
});

test("row-wise AdaGrad: one accumulator of mean squares; mean(1, 49) = 5^2, + 144 = 13^2", () => {
  const optimizer = newOptimizer({ kind: "rowwise-adagrad", rate: 1, initialAccumulator: 0, epsilon: 1e-12 }, 2);
  closeTo(stepOn(optimizer, [1, 7]), [-1 / 5, -7 / 5]);
  closeTo(stepOn(optimizer, [12, -12]), [-12 / 13, 12 / 13]);
  // The mean is over the row's own width, not over its padding.
  closeTo(stepOn(newOptimizer({ kind: "rowwise-adagrad", rate: 1, initialAccumulator: 0, epsilon: 1e-12 }, 5), [5, 5, 5, 5, 5]), fill(5, -1));
});

test("Adam: equal gradients give steps of the rate each, whatever their size; 1 then -1 with betas 1/2 and 3/4 gives -1 and +1/3", () => {
  for (const dim of widths) {
    const optimizer = newOptimizer({ kind: "adam", rate: 0.01, epsilon: 1e-12 }, dim);
    for (let t = 0; t < 300; t++)
      closeTo(
        stepOn(
          optimizer,
          Array.from({ length: dim }, (_, i) => 0.3 * (i + 1)),
        ),
        fill(dim, -0.01),
        1e-6,
      );
  }
  const optimizer = newOptimizer({ kind: "adam", rate: 1, beta1: 0.5, beta2: 0.75, epsilon: 1e-12 }, 2);
  closeTo(stepOn(optimizer, [1, 1]), [-1, -1]);
  // m = 1/4 - 1/2, v = 3/16 + 4/16; corrections 1 - 1/4 and 1 - 9/16 = v.
  closeTo(stepOn(optimizer, [-1, -1]), [1 / 3, 1 / 3]);
});

test("Adam's epsilon is added to the root of the uncorrected v (epsilon hat)", () => {
  // m = g / 2, v = g^2 / 4, correction sqrt(1/4) / (1/2) = 1: g / 2 / (g / 2 + 3).
  closeTo(stepOn(newOptimizer({ kind: "adam", rate: 1, beta1: 0.5, beta2: 0.75, epsilon: 3 }, 1), [2]), [-1 / 4]);
});

test("Adam is lazy: t, m and v are the row's own and stand still while it is not touched", () => {
  const lazy = newOptimizer({ kind: "adam", rate: 0.1 }, 4);
  const other = newOptimizer({ kind: "adam", rate: 0.1 }, 4);
  const [first, second] = [Float32Array.of(1, -2, 3, 0.5), Float32Array.of(-1, 0.25, 4, 2)];
  const before = [...lazy.step(wordsOf([1]), 1, first).values];
  for (let i = 0; i < 50; i++) lazy.step(wordsOf([2]), 1, Float32Array.of(9, 9, 9, 9));
  const after = [...lazy.step(wordsOf([1]), 1, second).values];
  assert.deepEqual([before, after], [[...other.step(wordsOf([1]), 1, first).values], [...other.step(wordsOf([1]), 1, second).values]]);
  assert.equal(lazy.steps(1, 1 ^ 0x5bd1e995), 2);
  assert.equal(lazy.steps(2, 2 ^ 0x5bd1e995), 50);
});

test("FTRL: by hand with alpha 1, beta 1, l1 1: gradients 3, 4 give -1/2, -7/6; with l2 2 -1/3; below l1 0", () => {
  for (const dim of widths) {
    const optimizer = newOptimizer({ kind: "ftrl", alpha: 1, beta: 1, l1: 1 }, dim);
    // n = 9, sigma = 3, z = 3: - (3 - 1) / (1 + 3).
    closeTo(stepOn(optimizer, fill(dim, 3), fill(dim, 0)), fill(dim, -1 / 2));
    // n = 25, sigma = 2, z = 3 + 4 + 1 = 8: - (8 - 1) / (1 + 5).
    closeTo(stepOn(optimizer, fill(dim, 4), fill(dim, -1 / 2)), fill(dim, -7 / 6));
    closeTo(stepOn(newOptimizer({ kind: "ftrl", alpha: 1, beta: 1, l1: 1, l2: 2 }, dim), fill(dim, 3), fill(dim, 0)), fill(dim, -1 / 3));
    assert.deepEqual(stepOn(newOptimizer({ kind: "ftrl", alpha: 1, l1: 1 }, dim), fill(dim, 0.75), fill(dim, 0)), fill(dim, 0));
  }
  // alpha 1/2, beta 0, n0 16: n = 25, sigma = (5 - 4) / (1/2); D = 5 / (1/2).
  closeTo(stepOn(newOptimizer({ kind: "ftrl", alpha: 0.5, beta: 0, initialAccumulator: 16 }, 1), [3], [0]), [-3 / 10]);
});

test("group FTRL: by hand with alpha 1, beta 1, l1 1: gradients (3, 4) of length 5 give (-0.6, -0.64); a row within l1 is 0 as a whole", () => {
  const optimizer = newOptimizer({ kind: "group-ftrl", alpha: 1, beta: 1, l1: 1 }, 2);
  closeTo(stepOn(optimizer, [3, 4], [0, 0]), [-0.6, -0.64]);
  assert.deepEqual(stepOn(newOptimizer({ kind: "group-ftrl", alpha: 1, l1: 5 }, 2), [3, 4], [0, 0]), [0, 0]);
  // One coordinate far within l1 is kept with the others: the row's length decides.
  closeTo(stepOn(newOptimizer({ kind: "group-ftrl", alpha: 1, beta: 1, l1: 1 }, 3), [3, 4, 0], [0, 0, 0]), [-0.6, -0.64, 0]);
});

test("weight decay: coupled counts in the accumulator and in the step, decoupled in neither; only rows touched decay", () => {
  for (const dim of widths) {
    const w = fill(dim, 2);
    assert.deepEqual(stepOn(newOptimizer({ kind: "sgd", rate: 0.5, decay: { rate: 0.25, how: "coupled" } }, dim), fill(dim, 1), w), fill(dim, -0.75));
    assert.deepEqual(stepOn(newOptimizer({ kind: "sgd", rate: 0.5, decay: { rate: 0.25, how: "decoupled" } }, dim), fill(dim, 1), w), fill(dim, -0.75));
    // g + decay w = 3: a = 16 + 9.
    closeTo(
      stepOn(newOptimizer({ kind: "adagrad", rate: 1, initialAccumulator: 16, epsilon: 0, decay: { rate: 1, how: "coupled" } }, dim), fill(dim, 1), w),
      fill(dim, -3 / 5),
    );
    // a = 16 + 9 of g = 3 alone, then rate x decay x w = 2 off.
    closeTo(
      stepOn(newOptimizer({ kind: "adagrad", rate: 1, initialAccumulator: 16, epsilon: 0, decay: { rate: 1, how: "decoupled" } }, dim), fill(dim, 3), w),
      fill(dim, -3 / 5 - 2),
    );
    closeTo(
      stepOn(newOptimizer({ kind: "adam", rate: 1, beta1: 0.5, beta2: 0.75, epsilon: 1e-12, decay: { rate: 0.5, how: "decoupled" } }, dim), fill(dim, 3), w),
      fill(dim, -2),
    );
    closeTo(
      stepOn(
        newOptimizer({ kind: "rowwise-adagrad", rate: 1, initialAccumulator: 0, epsilon: 1e-12, decay: { rate: 1, how: "coupled" } }, dim),
        fill(dim, 5),
        w,
      ),
      fill(dim, -1),
    );
  }
});

// ---- mistakes of other systems (reference 4.2) ----

test("trap: gradients of one key in a minibatch are added up before the one step, wherever they stand", () => {
  for (const variant of runnable) {
    const optimizer = newOptimizer({ kind: "adagrad", rate: 1, initialAccumulator: 16, epsilon: 0 }, 5, { variant });
    const gradients = Float32Array.from([...fill(5, 1), ...fill(5, 12), ...fill(5, 5), ...fill(5, -3)]);
    const { count, keys, values } = optimizer.step(wordsOf([1, 2, 1, 1]), 4, gradients);
    assert.equal(count, 2);
    assert.deepEqual([...keys], [...wordsOf([1, 2])]);
    closeTo([...values], [...fill(5, -3 / 5), ...fill(5, -12 / Math.sqrt(160))]);
    assert.equal(optimizer.steps(1, 1 ^ 0x5bd1e995), 1);
  }
});

test("trap: FTRL's sign of a negative z is -1, not 0: with l1 the weight is the mirror of the positive one", () => {
  for (const dim of widths) {
    const settings = { kind: "ftrl", alpha: 1, beta: 1, l1: 1 } as const;
    closeTo(stepOn(newOptimizer(settings, dim), fill(dim, -3), fill(dim, 0)), fill(dim, 1 / 2));
    assert.deepEqual(stepOn(newOptimizer(settings, dim), fill(dim, -0.75), fill(dim, 0)), fill(dim, 0));
  }
});

test("trap: decay enters AdaGrad's accumulator and step alike on every width and variant", () => {
  for (const variant of runnable) {
    for (let dim = 1; dim <= 17; dim++) {
      const optimizer = newOptimizer({ kind: "adagrad", rate: 1, initialAccumulator: 16, epsilon: 0, decay: { rate: 1, how: "coupled" } }, dim, { variant });
      closeTo(stepOn(optimizer, fill(dim, 1), fill(dim, 2)), fill(dim, -3 / 5));
      closeTo(stepOn(optimizer, fill(dim, 10), fill(dim, 2)), fill(dim, -12 / 13));
    }
  }
});

test("trap: group FTRL's l2 adds to the divisor on every width and variant", () => {
  for (const variant of runnable) {
    for (let dim = 1; dim <= 17; dim++) {
      // Of length 6 each in all: n = 36 / dim a number.
      const g = 6 / Math.sqrt(dim);
      const optimizer = newOptimizer({ kind: "group-ftrl", alpha: 0.5, beta: 1, l1: 2, l2: 3 }, dim, { variant });
      closeTo(stepOn(optimizer, fill(dim, g), fill(dim, 0)), fill(dim, (g * (2 - 6)) / 6 / ((1 + g) / 0.5 + 3)));
    }
  }
});

test("trap: group FTRL of a row of zeros with l1 0 stays 0 and is no NaN", () => {
  for (const variant of runnable) {
    for (const dim of widths)
      assert.deepEqual(stepOn(newOptimizer({ kind: "group-ftrl", alpha: 1, l1: 0 }, dim, { variant }), fill(dim, 0), fill(dim, 0)), fill(dim, 0));
  }
});

test("trap: row-wise AdaGrad steps with the accumulator that has this gradient already", () => {
  closeTo(stepOn(newOptimizer({ kind: "rowwise-adagrad", rate: 1, initialAccumulator: 9, epsilon: 0 }, 3), [4, 4, 4]), fill(3, -4 / 5));
});

test("trap: FTRL begun from weights that are there keeps them: a step of gradient 0 changes nothing, also after its state was dropped", () => {
  for (const variant of runnable) {
    for (const settings of [
      { kind: "ftrl", alpha: 0.1, beta: 1 },
      { kind: "ftrl", alpha: 0.1, beta: 0, initialAccumulator: 0.1, l1: 0.5, l2: 2 },
      { kind: "group-ftrl", alpha: 0.1, beta: 1, l1: 0.5, l2: 2 },
    ] as const) {
      for (const dim of widths) {
        const optimizer = newOptimizer(settings, dim, { variant });
        let w = Array.from({ length: dim }, (_, i) => Math.fround(i === 2 && settings.kind === "ftrl" ? 0 : (i % 2 === 0 ? 0.3 : -0.2) + i / 50));
        closeTo(stepOn(optimizer, fill(dim, 0), w), w, 1e-5);
        for (let i = 0; i < 20; i++) w = stepOn(optimizer, fill(dim, Math.sin(i)), w);
        optimizer.clear();
        closeTo(stepOn(optimizer, fill(dim, 0), w), w, 1e-5);
      }
    }
  }
});

const everyKind: readonly OptimizerSettings[] = [
  { kind: "sgd", rate: 0.1, decay: { rate: 0.01, how: "coupled" } },
  { kind: "adagrad", rate: 0.1, decay: { rate: 0.01, how: "coupled" } },
  { kind: "adagrad", rate: 0.1, initialAccumulator: 0, epsilon: 1e-6, decay: { rate: 0.01, how: "decoupled" } },
  { kind: "rowwise-adagrad", rate: 0.1, decay: { rate: 0.01, how: "coupled" } },
  { kind: "adam", rate: 0.02, decay: { rate: 0.01, how: "decoupled" } },
  { kind: "adam", rate: 0.02, beta1: 0.8, beta2: 0.95, epsilon: 0.01, decay: { rate: 0.01, how: "coupled" } },
  { kind: "ftrl", alpha: 0.1, l1: 0.2, l2: 0.1 },
  { kind: "ftrl", alpha: 0.1, beta: 0, initialAccumulator: 0.1, l1: 0.05, l2: 0.5 },
  { kind: "group-ftrl", alpha: 0.1, l1: 0.4, l2: 0.1 },
];

/** Steps on random batches against a table of weights that follows what is said, as a server would. */
class Played {
  readonly weights = new Map<number, number[]>();
  readonly #optimizers: readonly WorkerOptimizer[];
  readonly #dim: number;

  constructor(optimizers: readonly WorkerOptimizer[]) {
    this.#optimizers = optimizers;
    this.#dim = optimizers[0]!.dim;
  }

  weight(key: number): number[] {
    return this.weights.get(key) ?? Array.from({ length: this.#dim }, (_, i) => Math.fround(Math.sin(key * 31 + i) / 10));
  }

  /** Gives each key of the batch to its owner. */
  step(keys: readonly number[], gradients: Float32Array): void {
    const dim = this.#dim;
    const w = Float32Array.from(keys.flatMap((key) => this.weight(key)));
    const both = new Float32Array(2 * dim * keys.length);
    for (let i = 0; i < keys.length; i++) {
      both.set(gradients.subarray(i * dim, (i + 1) * dim), 2 * dim * i);
      both.set(w.subarray(i * dim, (i + 1) * dim), 2 * dim * i + dim);
    }
    const parts = new OwnerRouter(this.#optimizers.length, 2 * dim).split(wordsOf(keys), keys.length, both);
    parts.forEach((part, owner) => {
      const [g, own] = [new Float32Array(dim * part.count), new Float32Array(dim * part.count)];
      for (let i = 0; i < part.count; i++) {
        g.set(part.rows.subarray(2 * dim * i, 2 * dim * i + dim), dim * i);
        own.set(part.rows.subarray(2 * dim * i + dim, 2 * dim * (i + 1)), dim * i);
      }
      const optimizer = this.#optimizers[owner]!;
      const { count, keys: out, values } = optimizer.step(part.keys, part.count, g, own);
      for (let i = 0; i < count; i++) {
        const key = out[2 * i]!;
        const row = this.weight(key);
        this.weights.set(
          key,
          row.map((number, j) => (optimizer.update === "assign" ? values[i * dim + j]! : Math.fround(number + values[i * dim + j]!))),
        );
      }
    });
  }
}

function randomBatch(prng: Prng, dim: number, keyMax: number): { keys: number[]; gradients: Float32Array } {
  const keys = Array.from({ length: 1 + prng.below(24) }, () => 1 + Math.floor(keyMax * prng.float() ** 3));
  return { keys, gradients: Float32Array.from({ length: dim * keys.length }, () => prng.normal()) };
}

test(`promise: every kernel variant makes the same bits, on widths 1 to 17, with evictions (SEED=${seed})`, () => {
  for (const settings of everyKind) {
    for (let dim = 1; dim <= 17; dim++) {
      const sides = runnable.map((variant) => new Played([newOptimizer(settings, dim, { variant, capacityRows: 12 })]));
      const prng = new Prng(seed).fork(`${settings.kind} ${dim}`);
      for (let batch = 0; batch < 12; batch++) {
        const { keys, gradients } = randomBatch(prng, dim, 40);
        for (const side of sides) side.step(keys, gradients);
      }
      for (const side of sides) assert.deepEqual(side.weights, sides[0]!.weights, `${settings.kind}, rows of ${dim}`);
      assert.ok([...sides[0]!.weights.values()].flat().every(Number.isFinite));
    }
  }
});

test(`promise: four owners make the same bits as one worker, for the same order (SEED=${seed})`, () => {
  for (const settings of everyKind) {
    const dim = 6;
    const one = new Played([newOptimizer(settings, dim, { capacityRows: 300 })]);
    const four = new Played([0, 1, 2, 3].map((worker) => newOptimizer(settings, dim, { capacityRows: 300, owner: [worker, 4] })));
    const prng = new Prng(seed).fork(`owners ${settings.kind}`);
    for (let batch = 0; batch < 40; batch++) {
      const { keys, gradients } = randomBatch(prng, dim, 200);
      one.step(keys, gradients);
      four.step(keys, gradients);
    }
    assert.deepEqual(four.weights, one.weights, settings.kind);
  }
});

test(`trap: state goes on bit for bit after save and load, Adam's bias correction and the clock's hand included (SEED=${seed})`, () => {
  for (const settings of everyKind) {
    for (const dim of [1, 5, 8]) {
      const make = (): WorkerOptimizer => newOptimizer(settings, dim, { capacityRows: 20 });
      const [kept, saved] = [make(), make()];
      const [one, other] = [new Played([kept]), new Played([saved])];
      const prng = new Prng(seed).fork(`save ${settings.kind} ${dim}`);
      const play = (sides: readonly Played[]): void => {
        for (let batch = 0; batch < 15; batch++) {
          const { keys, gradients } = randomBatch(prng, dim, 60);
          for (const side of sides) side.step(keys, gradients);
        }
      };
      play([one, other]);
      const parts = saved.save();
      const restarted = make();
      restarted.load([Uint8Array.from(parts.flatMap((part) => [...part]))]);
      assert.deepEqual(restarted.save(), parts);
      assert.deepEqual(restarted.statistics(), saved.statistics());
      const third = new Played([restarted]);
      other.weights.forEach((row, key) => third.weights.set(key, row));
      play([one, third]);
      assert.deepEqual(third.weights, one.weights, `${settings.kind}, rows of ${dim}`);
      assert.deepEqual(restarted.save(), kept.save());
    }
  }
});

test("state that was dropped, by eviction, a restart or as asked, is as state that never was", () => {
  for (const settings of everyKind) {
    const optimizer = newOptimizer(settings, 3, { capacityRows: 1 });
    const w = [0.5, -0.25, 1];
    const fresh = stepOn(optimizer, [1, 2, 3], w);
    stepOn(optimizer, [-5, 1, 1], w);
    optimizer.step(wordsOf([2]), 1, Float32Array.of(1, 1, 1), Float32Array.from(w));
    assert.equal(optimizer.statistics().evicted, settings.kind === "sgd" ? 0 : 1);
    assert.deepEqual(stepOn(optimizer, [1, 2, 3], w), fresh, settings.kind);
    assert.equal(optimizer.drop(wordsOf([7, 1, 1]), 3), settings.kind === "sgd" ? 0 : 1);
    assert.deepEqual(stepOn(optimizer, [1, 2, 3], w), fresh, settings.kind);
    optimizer.clear();
    assert.deepEqual(stepOn(optimizer, [1, 2, 3], w), fresh, settings.kind);
  }
});

test("promise: a row that the server deleted or evicted takes its moments with it: the row that comes after it learns as one that never was", () => {
  const dim = 4;
  const newStore = (): ParameterStore => {
    const initial = { seed: 3n, factors: 4, initialScale: 0.5 };
    const store = new ParameterStore(new MemoryPool({ capBytes: 1 << 28 }), "test", {
      dim,
      buckets: 16,
      shards: 2,
      initial,
      bytes: 2 << 20,
      laneBytes: 1 << 18,
    });
    store.lead(1, 1);
    return store;
  };
  const [one, two] = [1, 2].map((key) => wordsOf([key])) as [Uint32Array, Uint32Array];
  for (const settings of everyKind) {
    const train = (store: ParameterStore, optimizer: WorkerOptimizer, keys: Uint32Array, gradient: readonly number[]): number[] => {
      const count = keys.length / 2;
      const rows = new Float32Array(count * dim);
      const found = new Uint8Array(count);
      store.pull(keys, count, rows, found);
      const batch = Float32Array.from({ length: count * dim }, (_, i) => gradient[i % dim]!);
      const update = optimizer.step(keys, count, batch, rows, found);
      if (optimizer.update === "assign") store.assign(update.keys, update.count, update.values, 1);
      else store.add(update.keys, update.count, update.values, 1);
      store.pull(keys, count, rows);
      return [...rows];
    };
    const fresh = train(newStore(), newOptimizer(settings, dim), one, [1, -2, 3, 0.5]);
    const [store, optimizer] = [newStore(), newOptimizer(settings, dim)];
    assert.deepEqual(train(store, optimizer, one, [1, -2, 3, 0.5]), fresh);
    for (let more = 0; more < 3; more++) train(store, optimizer, Uint32Array.of(...one, ...two), [-5, 1, 1, 2]);
    assert.equal(store.delete(one, 1), 1);
    assert.deepEqual(train(store, optimizer, one, [1, -2, 3, 0.5]), fresh, `${settings.kind}, deleted`);
    if (settings.kind !== "sgd")
      assert.deepEqual(
        [1, 2].map((key) => optimizer.steps(key, (key ^ 0x5bd1e995) >>> 0)),
        [1, 3],
        "of that row alone",
      );
    train(store, optimizer, one, [-5, 1, 1, 2]);
    for (const shard of store.shards) shard.evict(0, 1_000, true);
    assert.deepEqual(train(store, optimizer, one, [1, -2, 3, 0.5]), fresh, `${settings.kind}, evicted`);
    assert.throws(() => optimizer.step(one, 1, new Float32Array(dim), new Float32Array(dim), new Uint8Array(0)), { code: "invalid" });
  }
});

/** Which keys a clock with uses keeps, said with arrays. The last row takes the place of one that is dropped. */
class ClockModel {
  readonly rows: { key: number; uses: number; steps: number }[] = [];
  #hand = 0;
  readonly #capacity: number;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  drop(key: number): number {
    const row = this.rows.findIndex((each) => each.key === key);
    if (row < 0) return 0;
    const last = this.rows.pop()!;
    if (row < this.rows.length) this.rows[row] = last;
    return 1;
  }

  step(keys: ReadonlySet<number>): void {
    const batch = new Set<number>();
    const fresh: number[] = [];
    for (const key of keys) {
      const row = this.rows.find((each) => each.key === key);
      if (row === undefined) fresh.push(key);
      else {
        batch.add(key);
        row.uses = Math.min(3, row.uses + 1);
        row.steps++;
      }
    }
    for (const key of fresh) {
      if (this.rows.length < this.#capacity) this.rows.push({ key, uses: 0, steps: 1 });
      else if (batch.size < this.#capacity) {
        for (;;) {
          const row = this.rows[this.#hand]!;
          if (!batch.has(row.key) && row.uses === 0) break;
          if (!batch.has(row.key)) row.uses--;
          this.#hand = (this.#hand + 1) % this.#capacity;
        }
        this.rows[this.#hand] = { key, uses: 0, steps: 1 };
        this.#hand = (this.#hand + 1) % this.#capacity;
      } else continue;
      batch.add(key);
    }
  }
}

test(`which state is kept, against a model; the index holds through thousands of evictions (SEED=${seed})`, () => {
  for (const variant of runnable) {
    for (const capacity of [1, 7, 61]) {
      const optimizer = newOptimizer({ kind: "adam", rate: 0.1 }, 1, { variant, capacityRows: capacity });
      const model = new ClockModel(capacity);
      const prng = new Prng(seed).fork(`clock ${capacity}`);
      for (let batch = 0; batch < 400; batch++) {
        const keys = randomBatch(prng, 1, 300).keys;
        optimizer.step(wordsOf(keys), keys.length, new Float32Array(keys.length).fill(1));
        model.step(new Set(keys));
        if (batch % 5 > 0) continue;
        const dropped = randomBatch(prng, 1, 300).keys;
        const expected = dropped.reduce((sum, key) => sum + model.drop(key), 0);
        assert.equal(optimizer.drop(wordsOf(dropped), dropped.length), expected);
        assert.equal(optimizer.statistics().rows, model.rows.length);
      }
      assert.ok(optimizer.statistics().evicted > 100);
      assert.equal(optimizer.statistics().unkept > 0, capacity < 24);
      const kept = new Map(model.rows.map(({ key, steps }) => [key, steps]));
      for (let key = 1; key <= 300; key++)
        assert.equal(optimizer.steps(key, (key ^ 0x5bd1e995) >>> 0), kept.get(key), `${variant}, capacity ${capacity}, key ${key}`);
    }
  }
});

test("eviction keeps what comes often: 20 hot keys outlast thousands that come once", () => {
  const optimizer = newOptimizer({ kind: "adagrad", rate: 0.1 }, 4, { capacityRows: 60 });
  const hot = Array.from({ length: 20 }, (_, i) => i + 1);
  for (let batch = 0; batch < 300; batch++) {
    const keys = [...hot, ...Array.from({ length: 12 }, (_, i) => 1_000 + batch * 12 + i)];
    optimizer.step(wordsOf(keys), keys.length, new Float32Array(4 * keys.length).fill(1));
  }
  for (const key of hot) assert.equal(optimizer.steps(key, (key ^ 0x5bd1e995) >>> 0), 300);
});

// ---- what is refused, and what is not finite ----

test("FTRL on workers that share keys is refused with the reason; all others may", () => {
  for (const kind of ["ftrl", "group-ftrl"] as const) {
    assert.throws(() => newOptimizer({ kind, alpha: 1 }, 4, { by: "example" }), { code: "unsupported", message: /by key owner/ });
  }
  for (const settings of everyKind) if (!settings.kind.endsWith("ftrl")) newOptimizer(settings, 4, { by: "example" });
});

test("by owner, a batch with another worker's key is refused before anything is changed", () => {
  const worker = ownerOf(1, 1 ^ 0x5bd1e995, 4);
  const foreign = Array.from({ length: 50 }, (_, i) => i + 1).find((key) => ownerOf(key, key ^ 0x5bd1e995, 4) !== worker)!;
  const optimizer = newOptimizer({ kind: "adam", rate: 0.1 }, 1, { owner: [worker, 4] });
  assert.throws(() => optimizer.step(wordsOf([1, foreign]), 2, new Float32Array(2)), { code: "invalid", message: /OwnerRouter/ });
  assert.equal(optimizer.statistics().rows, 0);
  for (const wrong of [
    [4, 4],
    [-1, 4],
    [0, 0],
    [0, 257],
    [0.5, 2],
  ] as const) {
    assert.throws(() => newOptimizer({ kind: "sgd", rate: 1 }, 1, { owner: [...wrong] }), { code: "invalid" });
  }
});

test("what is not finite makes no step, keeps no state, and spares its neighbours", () => {
  for (const variant of runnable) {
    for (const settings of everyKind) {
      for (const bad of [Number.NaN, Infinity, -Infinity]) {
        const optimizer = newOptimizer(settings, 5, { variant });
        const w = Float32Array.from(fill(10, 0.5));
        const good = [...optimizer.step(wordsOf([9]), 1, new Float32Array(5).fill(2), w).values];
        const { count, keys, values } = optimizer.step(wordsOf([1, 2]), 2, Float32Array.from([...fill(4, 1), bad, ...fill(5, 2)]), w);
        assert.deepEqual([count, [...keys], [...values]], [1, [...wordsOf([2])], good], `${variant} ${settings.kind}`);
        assert.equal(optimizer.statistics().skipped, 1);
        const badWeights = Float32Array.from([...fill(4, 1), bad, ...fill(5, 0.5)]);
        if (optimizer.needsWeights) assert.equal(optimizer.step(wordsOf([3, 4]), 2, new Float32Array(10).fill(2), badWeights).count, 1);
        assert.deepEqual(stepOn(optimizer, fill(5, 2), fill(5, 0.5)), good, "state of what was skipped is as new");
      }
    }
    // A weight so large that the result overflows: not handed out, and the state begins anew.
    const optimizer = newOptimizer({ kind: "ftrl", alpha: 1e-6, beta: 1 }, 1, { variant });
    assert.equal(optimizer.step(wordsOf([1]), 1, Float32Array.of(1), Float32Array.of(3e38)).count, 0);
    assert.deepEqual(stepOn(optimizer, [1], [0.5]), stepOn(newOptimizer({ kind: "ftrl", alpha: 1e-6, beta: 1 }, 1, { variant }), [1], [0.5]));
  }
});

test("gradients are bounded to a million", () => {
  assert.deepEqual(stepOn(newOptimizer({ kind: "sgd", rate: 1 }, 2), [1e30, -1e7]), [-1e6, 1e6]);
});

test("settings, shapes and batches that cannot be are refused", () => {
  const refused: OptimizerSettings[] = [
    { kind: "sgd", rate: 0 },
    { kind: "sgd", rate: 1e-50 },
    { kind: "sgd", rate: Number.NaN },
    { kind: "adagrad", rate: 0.1, initialAccumulator: 0, epsilon: 0 },
    { kind: "adam", rate: 0.1, epsilon: 0 },
    { kind: "adam", rate: 0.1, beta1: 1 },
    { kind: "adam", rate: 0.1, beta2: 0.99999 },
    { kind: "ftrl", alpha: 0.1, beta: 0 },
    { kind: "ftrl", alpha: 0.1, l1: -1 },
    { kind: "lion" as "sgd", rate: 1 },
    { kind: "sgd", rate: 1, decay: { rate: 0.1, how: "both" as "coupled" } },
  ];
  for (const settings of refused) assert.throws(() => newOptimizer(settings, 4), { code: "invalid" }, JSON.stringify(settings));
  for (const dim of [0, 1_025, 1.5]) assert.throws(() => newOptimizer({ kind: "sgd", rate: 1 }, dim), { code: "invalid" });
  assert.throws(() => newOptimizer({ kind: "adam", rate: 1 }, 4, { capacityRows: 0 }), { code: "invalid" });
  const optimizer = newOptimizer({ kind: "adam", rate: 1, decay: { rate: 0.1, how: "coupled" } }, 4);
  const most = optimizer.stepKeysMax;
  assert.throws(() => optimizer.step(new Uint32Array(2), 2, new Float32Array(8), new Float32Array(8)), { code: "invalid" });
  assert.throws(() => optimizer.step(new Uint32Array(4), 2, new Float32Array(7), new Float32Array(8)), { code: "invalid" });
  assert.throws(() => optimizer.step(new Uint32Array(4), 2, new Float32Array(8)), { code: "invalid", message: /as pulled/ });
  assert.throws(() => optimizer.step(new Uint32Array(2 * most + 2), most + 1, new Float32Array(4 * most + 4), new Float32Array(4 * most + 4)), {
    code: "invalid",
  });
  const keys = Uint32Array.from({ length: 2 * most }, (_, i) => i >> 1);
  assert.equal(optimizer.step(keys, most, new Float32Array(4 * most), new Float32Array(4 * most)).count, most);
  assert.equal(optimizer.step(keys, 0, new Float32Array(0), new Float32Array(0)).count, 0);
});

test("a file that is damaged, or of another optimizer, changes nothing", () => {
  const optimizer = newOptimizer({ kind: "adam", rate: 0.1 }, 3);
  optimizer.step(wordsOf([1, 2, 3]), 3, new Float32Array(9).fill(1));
  const bytes = Uint8Array.from(optimizer.save().flatMap((part) => [...part]));
  const before = optimizer.save();
  for (let at = 0; at < bytes.length; at += 3) {
    const damaged = bytes.slice();
    damaged[at]! ^= 4;
    assert.throws(() => optimizer.load([damaged]), { code: at >= 8 && at < 12 ? "unsupported" : "corrupt" }, `byte ${at}`);
  }
  for (const length of [0, 50, 128, 140, bytes.length - 1]) assert.throws(() => optimizer.load([bytes.slice(0, length)]), { code: "corrupt" });
  assert.throws(() => optimizer.load([bytes, bytes.slice(0, 20)]), { code: "corrupt" });
  assert.deepEqual(optimizer.save(), before);
  for (const other of [
    newOptimizer({ kind: "adagrad", rate: 0.1 }, 3),
    newOptimizer({ kind: "adam", rate: 0.1 }, 4),
    newOptimizer({ kind: "adam", rate: 0.1 }, 3, { capacityRows: 2 }),
  ]) {
    assert.throws(() => other.load([bytes]), { code: "conflict" });
    assert.equal(other.statistics().rows, 0);
  }
  const slower = newOptimizer({ kind: "adam", rate: 0.05 }, 3);
  slower.load([bytes]);
  assert.equal(slower.statistics().rows, 3);
  const ftrl = newOptimizer({ kind: "ftrl", alpha: 0.1 }, 1);
  stepOn(ftrl, [1], [0]);
  assert.throws(() => newOptimizer({ kind: "ftrl", alpha: 0.2 }, 1).load(ftrl.save()), { code: "conflict" });
});

const goldenKinds: readonly OptimizerSettings[] = [
  { kind: "sgd", rate: 0.5 },
  { kind: "adagrad", rate: 0.5 },
  { kind: "rowwise-adagrad", rate: 0.5 },
  { kind: "adam", rate: 0.5 },
  { kind: "ftrl", alpha: 0.5, l1: 0.25 },
  { kind: "group-ftrl", alpha: 0.5, l1: 0.25 },
];

test("a file of version 1 is read for ever, and written the same", () => {
  for (const settings of goldenKinds) {
    const optimizer = newOptimizer(settings, 3, { capacityRows: 4 });
    for (const keys of [[1, 2], [2, 3], [2, 4], [5]]) {
      optimizer.step(
        wordsOf(keys),
        keys.length,
        Float32Array.from({ length: 3 * keys.length }, (_, i) => i - 1),
        new Float32Array(3 * keys.length).fill(0.5),
      );
    }
    const golden = readFileSync(new URL(`../../../test/golden/optimizer-state/v1/${settings.kind}.bin`, import.meta.url));
    assert.deepEqual(Buffer.concat(optimizer.save()), golden, settings.kind);
    const other = newOptimizer(settings, 3, { capacityRows: 4 });
    other.load([golden]);
    assert.deepEqual(Buffer.concat(other.save()), golden, settings.kind);
  }
});
