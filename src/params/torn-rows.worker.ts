// The reader of the test for torn rows: pulls rows, whose numbers are all equal when they are whole, until it is told to stop.

import { KernelMemory } from "#kernel/kernel-memory";
import { type KernelVariant, kernels } from "#kernel/kernels";
import type { WasmMemory } from "#kernel/web-assembly";
import type { WorkerBody } from "#platform/workers";
import { ShardReader } from "./parameter-shard.ts";

export interface RowTask {
  readonly memory: WasmMemory;
  readonly at: number;
  readonly lane: number;
  readonly variant: KernelVariant;
  /** [0] = 1: stop. [lane] = different values seen so far. */
  readonly progress: Int32Array;
  readonly keys: Uint32Array;
}

export interface ReaderReport {
  readonly reads: number;
  /** Rows that held more than one value. */
  readonly mixtures: number;
  /** Readings of a key that was said to be missing. */
  readonly missing: number;
  /** How many different values were seen, at most 1,000. */
  readonly values: number;
}

const body: WorkerBody = async ({ port, data }) => {
  const { memory, at, lane, variant, progress, keys } = data as RowTask;
  const reader = ShardReader.attach(KernelMemory.attach(memory, lane, kernels(variant)), at, lane);
  const { dim } = reader;
  const count = keys.length / 2;
  const values = new Float32Array(count * dim);
  const seen = new Set<number>();
  let reads = 0;
  let mixtures = 0;
  let missing = 0;
  port.send("ready");
  while (Atomics.load(progress, 0) === 0) {
    missing += reader.pull(keys, count, values);
    for (let row = 0; row < count; row++) {
      const first = values[row * dim]!;
      reads++;
      if (seen.size < 1_000) seen.add(first);
      for (let i = 1; i < dim; i++) {
        if (values[row * dim + i] !== first) {
          mixtures++;
          break;
        }
      }
    }
    Atomics.store(progress, lane, seen.size);
  }
  port.send({ reads, mixtures, missing, values: seen.size } satisfies ReaderReport);
};

export default body;
