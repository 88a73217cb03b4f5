// The reader of the test for torn and foreign rows of a shard: pulls keys, whose rows say whose they are, until it is told to stop.
// A row is its key, then one stamp again and again; a missing key reads as zeros.

import { KernelMemory } from "#kernel/kernel-memory";
import { type KernelVariant, kernels } from "#kernel/kernels";
import type { WasmMemory } from "#kernel/web-assembly";
import type { WorkerBody } from "#platform/workers";
import { Prng } from "#base/prng";
import { ShardReader } from "./parameter-shard.ts";

export interface ForeignTask {
  readonly memory: WasmMemory;
  readonly at: number;
  readonly lane: number;
  readonly variant: KernelVariant;
  /** Keys are 1 to this; the writer keeps the first `kept` at all times. */
  readonly keyMax: number;
  readonly kept: number;
  /** [0] = 1: stop. [lane] = pulls done so far. */
  readonly progress: Int32Array;
}

export interface ForeignReport {
  readonly rows: number;
  readonly missing: number;
  readonly torn: number;
  readonly foreign: number;
  /** Kept keys that read as missing. */
  readonly lost: number;
}

const body: WorkerBody = async ({ port, data }) => {
  const { memory, at, lane, variant, keyMax, kept, progress } = data as ForeignTask;
  const reader = ShardReader.attach(KernelMemory.attach(memory, lane, kernels(variant)), at, lane);
  const { dim } = reader;
  const count = 200;
  const keys = new Uint32Array(2 * count);
  const values = new Float32Array(count * dim);
  const found = new Uint8Array(count);
  const prng = new Prng(`reader ${lane}`);
  const report = { rows: 0, missing: 0, torn: 0, foreign: 0, lost: 0 };
  port.send("ready");
  while (Atomics.load(progress, 0) === 0) {
    for (let i = 0; i < count; i++) keys[2 * i] = 1 + (i % 10 === 0 ? prng.below(kept) : prng.below(keyMax));
    report.missing += reader.pull(keys, count, values, found);
    for (let i = 0; i < count; i++) {
      const key = keys[2 * i]!;
      const [owner, stamp] = [values[i * dim]!, values[i * dim + 1]!];
      report.rows++;
      if (owner !== (found[i] === 1 ? key : 0)) report.foreign++;
      if (found[i] === 0 && key <= kept) report.lost++;
      for (let j = 1; j < dim; j++) {
        if (values[i * dim + j] !== stamp) {
          report.torn++;
          break;
        }
      }
    }
    Atomics.add(progress, lane, 1);
  }
  port.send(report satisfies ForeignReport);
};

export default body;
