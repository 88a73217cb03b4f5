// The work of the bench param-sync: which keys are updated, and the table that every process makes alike.

import { Prng } from "#base/prng";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels } from "#kernel/kernels";
import { mixWord } from "#kernel/parameter-key";
import { ParameterShard } from "#params/parameter-shard";

export const dim = 16;
export const buckets = 4096;
export const keyCount = 262_144;
/** Key and version, and the values: a record of a log. */
export const recordBytes = 16 + 4 * dim;

export function newShard(): ParameterShard {
  const bytes = 64 * 2 ** 20;
  return ParameterShard.create(KernelMemory.create({ dataBytes: bytes, lanes: 2, laneBytes: 1 << 20 }, kernels()), {
    dim,
    buckets,
    initial: { seed: 7n, factors: dim, initialScale: 0.05 },
    bytes,
  });
}

/** `count` ranks from a Zipf law with exponent 1 over `keyCount` keys. */
export function zipfRanks(seed: string, count: number): Uint32Array {
  const sums = new Float64Array(keyCount);
  let sum = 0;
  for (let rank = 0; rank < keyCount; rank++) sums[rank] = sum += 1 / (rank + 1);
  const random = new Prng(seed);
  return Uint32Array.from({ length: count }, () => {
    const drawn = random.float() * sum;
    let [low, high] = [0, keyCount - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! < drawn) low = middle + 1;
      else high = middle;
    }
    return low;
  });
}

/** Writes the two words of a rank's key. */
export function keyTo(rank: number, keys: Uint32Array, at: number): void {
  keys[2 * at] = mixWord(rank);
  keys[2 * at + 1] = mixWord(rank ^ 0x5bd1e995);
}

/** Microseconds since `base` (process.hrtime, one clock for all processes of a machine), modulo what a float holds exactly. */
export const stampsPerTurn = 2 ** 24;

export function stampUs(base: bigint): number {
  return Number((process.hrtime.bigint() - base) / 1000n) % stampsPerTurn;
}

export interface NodeOptions {
  readonly node: number;
  /** Ports of this machine to follow, the first that answers. Empty: the primary. */
  readonly sources: readonly number[];
  readonly base: string;
}

/** What the parent sends. */
export type Order = { readonly order: "write"; readonly perS: number } | { readonly order: "stop" } | { readonly order: "mark" } | { readonly order: "report" };

/** What a process answers. */
export interface NodeReport {
  readonly updates: number;
  readonly entries: number;
  readonly pushes: number;
  readonly bytes: number;
  readonly cpuMs: number;
  /** Sum of all buckets' digests. */
  readonly digest: string;
  readonly latencyMs: readonly number[];
  /** Of updates, by how much the generator was late. */
  readonly lateMsMax: number;
}
