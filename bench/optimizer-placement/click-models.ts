// A factorisation machine over rows that are pulled, in plain typed arrays, and what becomes of its gradients: exact Adam with the moments beside the weights, or weights in a real
// parameter table and moments at workers.
// A row is 16 factors and a weight. logit = sum w x + 1/2 sum over factors ((sum v x)^2 - sum (v x)^2); linear-only slots take part with their weight alone.
// Invariants: 1. a slice of samples is predicted with the rows as they are before it, by every learner alike  2. gradients of a minibatch stand in the order of its samples and slots.

import { KernelMemory } from "#kernel/kernel-memory";
import { initialValues } from "#kernel/parameter-key";
import { MemoryPool } from "#kernel/memory-pool";
import { OwnerRouter } from "#params/optimizer/placement";
import { type OptimizerSettings, type Placement, WorkerOptimizer } from "#params/optimizer/worker-optimizer";
import { ParameterStore } from "#params/parameter-store";
import type { ClickLog } from "./click-log.ts";

export const factors = 16;
export const dim = factors + 1;
const initial = { seed: 2026n, factors, initialScale: 0.05 };

export interface AdamNumbers {
  readonly rate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

/** Samples by number, with their slots' rows. */
export class Slice {
  readonly log: ClickLog;
  samples: readonly number[] = [];
  /** Slots of all samples, one behind another. */
  count = 0;
  ids = new Uint32Array(0);
  keys = new Uint32Array(0);
  rows = new Float32Array(0);
  gradients = new Float32Array(0);
  readonly #sums = new Float64Array(factors);

  constructor(log: ClickLog) {
    this.log = log;
  }

  take(samples: readonly number[]): void {
    const { log } = this;
    this.samples = samples;
    this.count = samples.reduce((sum, sample) => sum + log.offsets[sample + 1]! - log.offsets[sample]!, 0);
    if (this.ids.length < this.count) {
      this.ids = new Uint32Array(2 * this.count);
      this.keys = new Uint32Array(4 * this.count);
      this.rows = new Float32Array(2 * this.count * dim);
      this.gradients = new Float32Array(2 * this.count * dim);
    }
    let at = 0;
    for (const sample of samples) {
      for (let slot = log.offsets[sample]!; slot < log.offsets[sample + 1]!; slot++, at++) {
        const id = log.ids[slot]!;
        this.ids[at] = id;
        this.keys[2 * at] = log.keys[2 * id]!;
        this.keys[2 * at + 1] = log.keys[2 * id + 1]!;
      }
    }
  }

  /** Logit of each sample; with `learn` its gradients too. */
  run(logits: Float32Array, learn: boolean): void {
    const { log, rows, gradients } = this;
    const sums = this.#sums;
    if (learn) gradients.fill(0, 0, this.count * dim);
    let at = 0;
    this.samples.forEach((sample, number) => {
      const from = log.offsets[sample]!;
      const full = log.linearEnds[sample]! - from;
      const slots = log.offsets[sample + 1]! - from;
      let logit = 0;
      sums.fill(0);
      for (let slot = 0; slot < slots; slot++) {
        const x = log.x[from + slot]!;
        const row = (at + slot) * dim;
        logit += rows[row + factors]! * x;
        if (slot < full) continue;
        for (let f = 0; f < factors; f++) {
          const vx = rows[row + f]! * x;
          sums[f]! += vx;
          logit -= 0.5 * vx * vx;
        }
      }
      for (let f = 0; f < factors; f++) logit += 0.5 * sums[f]! * sums[f]!;
      logits[number] = logit;
      if (learn) {
        const g = 1 / (1 + Math.exp(-logit)) - log.clicked[sample]!;
        for (let slot = 0; slot < slots; slot++) {
          const x = log.x[from + slot]!;
          const row = (at + slot) * dim;
          gradients[row + factors] = g * x;
          if (slot < full) continue;
          for (let f = 0; f < factors; f++) gradients[row + f] = g * x * (sums[f]! - rows[row + f]! * x);
        }
      }
      at += slots;
    });
  }
}

export interface ClickLearner {
  readonly name: string;
  /** Rows of the slice's slots as they are now. */
  pull(slice: Slice): void;
  /** One minibatch. */
  learn(slice: Slice, minibatch: readonly number[]): void;
  /** All weights, by number of the key. */
  weights(): Float32Array;
  facts(): string;
  close(): void;
}

/** Exact lazy Adam with the moments beside the weights, said once more in plain arithmetic: one server, one order. */
export class AdamBeside implements ClickLearner {
  readonly name = "exact";
  readonly #adam: AdamNumbers;
  readonly #w: Float32Array;
  readonly #m: Float32Array;
  readonly #v: Float32Array;
  readonly #t: Uint32Array;
  readonly #g: Float32Array;
  readonly #isIn: Uint8Array;

  constructor(log: ClickLog, adam: AdamNumbers) {
    const keys = log.keys.length / 2;
    this.#adam = adam;
    this.#w = new Float32Array(keys * dim);
    this.#m = new Float32Array(keys * dim);
    this.#v = new Float32Array(keys * dim);
    this.#g = new Float32Array(keys * dim);
    this.#t = new Uint32Array(keys);
    this.#isIn = new Uint8Array(keys);
    for (let id = 0; id < keys; id++) initialValues(initial, dim, log.keys[2 * id]!, log.keys[2 * id + 1]!, this.#w, id * dim);
  }

  pull(slice: Slice): void {
    for (let i = 0; i < slice.count; i++) {
      const from = slice.ids[i]! * dim;
      for (let j = 0; j < dim; j++) slice.rows[i * dim + j] = this.#w[from + j]!;
    }
  }

  learn(slice: Slice, minibatch: readonly number[]): void {
    slice.take(minibatch);
    this.pull(slice);
    slice.run(new Float32Array(minibatch.length), true);
    const distinct: number[] = [];
    for (let i = 0; i < slice.count; i++) {
      const id = slice.ids[i]!;
      const isFirst = this.#isIn[id] === 0;
      if (isFirst) {
        this.#isIn[id] = 1;
        distinct.push(id);
      }
      for (let j = 0; j < dim; j++) this.#g[id * dim + j] = isFirst ? slice.gradients[i * dim + j]! : this.#g[id * dim + j]! + slice.gradients[i * dim + j]!;
    }
    const { fround, sqrt } = Math;
    const adam = this.#adam;
    const [beta1, beta2, epsilon] = [fround(adam.beta1), fround(adam.beta2), fround(adam.epsilon)];
    const [rest1, rest2] = [fround(1 - adam.beta1), fround(1 - adam.beta2)];
    for (const id of distinct) {
      this.#isIn[id] = 0;
      const t = ++this.#t[id]!;
      const rate = fround((adam.rate * sqrt(1 - powerOf(adam.beta2, t))) / (1 - powerOf(adam.beta1, t)));
      for (let i = id * dim; i < (id + 1) * dim; i++) {
        const g = this.#g[i]!;
        const m = fround(fround(beta1 * this.#m[i]!) + fround(rest1 * g));
        const v = fround(fround(beta2 * this.#v[i]!) + fround(rest2 * fround(g * g)));
        this.#m[i] = m;
        this.#v[i] = v;
        this.#w[i] = this.#w[i]! - fround(fround(rate * m) / fround(fround(sqrt(v)) + epsilon));
      }
    }
  }

  weights(): Float32Array {
    return this.#w;
  }

  facts(): string {
    return `${this.#t.length} rows`;
  }

  close(): void {}
}

/** power^t by repeated products, as the optimizer's own table is made: the same bits on every machine. */
const powers = new Map<number, number[]>();
function powerOf(base: number, t: number): number {
  const list = powers.get(base) ?? [1];
  powers.set(base, list);
  while (list.length <= t) list.push(list.at(-1)! * base);
  return list[t]!;
}

export interface WorkersOptions {
  readonly name: string;
  readonly by: Placement["by"];
  /** Rows of state that each worker keeps, worker by worker. */
  readonly capacityRows: readonly number[];
  readonly settings: OptimizerSettings;
}

/** Weights in a parameter table, moments at workers. */
export class WorkersLearner implements ClickLearner {
  readonly name: string;
  readonly #log: ClickLog;
  readonly #store: ParameterStore;
  readonly #workers: readonly WorkerOptimizer[];
  readonly #waiting: number[][];
  readonly #router: OwnerRouter | undefined;
  #minibatchSize = 0;

  constructor(log: ClickLog, { name, by, capacityRows, settings }: WorkersOptions) {
    const keys = log.keys.length / 2;
    this.name = name;
    this.#log = log;
    this.#store = new ParameterStore(new MemoryPool({ capBytes: 2 ** 30 }), "weights", { dim, initial, bytes: (1 << 20) + keys * 160, buckets: 1_024 });
    this.#store.lead(1, 1);
    const workers = capacityRows.length;
    this.#workers = capacityRows.map((rows, worker) => {
      const shape = { dim, settings, capacityRows: rows };
      const memory = KernelMemory.create({ dataBytes: WorkerOptimizer.bytesFor(shape), laneBytes: 4 << 20 });
      return WorkerOptimizer.create(memory, shape, by === "owner" ? { by, worker, workers } : { by });
    });
    this.#waiting = this.#workers.map(() => []);
    this.#router = by === "owner" ? new OwnerRouter(workers, dim) : undefined;
  }

  pull(slice: Slice): void {
    this.#store.pull(slice.keys, slice.count, slice.rows);
  }

  learn(slice: Slice, minibatch: readonly number[]): void {
    this.#minibatchSize = minibatch.length;
    if (this.#router !== undefined) {
      this.#gradients(slice, minibatch);
      this.#router.split(slice.keys, slice.count, slice.gradients).forEach((part, worker) => this.#step(worker, part.keys, part.count, part.rows));
      return;
    }
    // Each worker makes minibatches of the same size of its own viewers' samples.
    for (const sample of minibatch) {
      const worker = (Math.imul(this.#log.viewer[sample]!, 0x9e3779b1) >>> 0) % this.#workers.length;
      const own = this.#waiting[worker]!;
      own.push(sample);
      if (own.length < this.#minibatchSize) continue;
      this.#gradients(slice, own);
      this.#step(worker, slice.keys, slice.count, slice.gradients);
      own.length = 0;
    }
  }

  #gradients(slice: Slice, minibatch: readonly number[]): void {
    slice.take(minibatch);
    this.pull(slice);
    slice.run(new Float32Array(minibatch.length), true);
  }

  #step(worker: number, keys: Uint32Array, count: number, gradients: Float32Array): void {
    const update = this.#workers[worker]!.step(keys, count, gradients);
    if (this.#store.add(update.keys, update.count, update.values, 1) !== 0) throw new Error("the table is full");
  }

  weights(): Float32Array {
    const { keys } = this.#log;
    const into = new Float32Array((keys.length / 2) * dim);
    this.#store.pull(keys, keys.length / 2, into);
    return into;
  }

  /** Rows of state at each worker. */
  rows(): number[] {
    return this.#workers.map((worker) => worker.statistics().rows);
  }

  facts(): string {
    const sum = (of: (statistics: ReturnType<WorkerOptimizer["statistics"]>) => number): number =>
      this.#workers.reduce((all, worker) => all + of(worker.statistics()), 0);
    return `${this.#store.live} rows, state of ${sum(({ rows }) => rows)} at the workers, ${sum(({ evicted }) => evicted)} evictions`;
  }

  close(): void {
    this.#store.release();
  }
}

/** Predicts every sample before it is learned, slice by slice, and returns the logits. */
export function prequential(log: ClickLog, learner: ClickLearner, minibatchSize: number): Float32Array {
  const slice = new Slice(log);
  const logits = new Float32Array(log.samples);
  for (let first = 0; first < log.samples; first += minibatchSize) {
    const minibatch = Array.from({ length: Math.min(minibatchSize, log.samples - first) }, (_, i) => first + i);
    slice.take(minibatch);
    learner.pull(slice);
    slice.run(logits.subarray(first), false);
    learner.learn(slice, minibatch);
  }
  return logits;
}

/** Area under the curve of samples `from` on, ties by mid-ranks. */
export function aucOf(log: ClickLog, logits: Float32Array, from: number): number {
  const order = Array.from({ length: log.samples - from }, (_, i) => from + i).sort((a, b) => logits[a]! - logits[b]!);
  let positives = 0;
  let ranks = 0;
  for (let first = 0; first < order.length;) {
    let last = first;
    let wanted = 0;
    while (last < order.length && logits[order[last]!] === logits[order[first]!]) wanted += log.clicked[order[last++]!]!;
    positives += wanted;
    ranks += wanted * ((first + last + 1) / 2);
    first = last;
  }
  return (ranks - (positives * (positives + 1)) / 2) / (positives * (order.length - positives));
}
