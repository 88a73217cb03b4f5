// A table of parameters over several shards, each in a memory of its own: beyond 4 GiB in all, and later a writer each.
// Invariants: 1. a key's shard follows from the key alone (`shardOf`), so every node of equal shape finds it alike  2. answers stand in the order of the keys asked for
//             3. a batch is atomic a row, not as a whole: readers in other threads may see a part of it.
// Cost: with one shard none; with several a counting sort of the keys and a copy of the rows, some 10 ns a key.
// Concurrency: one thread writes all shards here; readers attach to each shard (`tickets`). Limits: shardsMax, 4 GiB a shard; batches of any length.

import { MillraceError } from "#base/errors";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import type { InitialShape } from "#kernel/parameter-key";
import { ParameterShard, type ParameterShardShape } from "./parameter-shard.ts";
import { ShardedPulls } from "./sharded-pulls.ts";

export const parameterStoreLimits = {
  shardsMax: 256,
  /** Of one shard, when the number of shards is not given. */
  shardBytesMax: 4 * 2 ** 30 - (64 << 20),
} as const;

export interface ParameterStoreShape {
  readonly dim: number;
  readonly initial: InitialShape;
  /** Of all shards together. */
  readonly bytes: number;
  /** Of each shard. Default 4,096. */
  readonly buckets?: number;
  /** Default: as few as `bytes` allow. */
  readonly shards?: number;
  /** `sketchBytes` of all shards together. */
  readonly admission?: { readonly sightings: number; readonly sketchBytes: number };
  /** Threads that read or write, each with a lane of `laneBytes`. Default 1 and 1 MiB. */
  readonly lanes?: number;
  readonly laneBytes?: number;
}

/** What other threads attach to: memory, generation and address of each shard. */
export interface ShardTicket {
  readonly lease: MemoryLease["ticket"];
  readonly at: number;
}

/** Shards of a table that says nothing of them. */
export function shardsFor(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / parameterStoreLimits.shardBytesMax));
}

function takeShards(pool: MemoryPool, owner: string, shape: ParameterStoreShape): { leases: MemoryLease[]; shards: ParameterShard[] } {
  const { shardsMax } = parameterStoreLimits;
  const count = shape.shards ?? shardsFor(shape.bytes);
  if (!Number.isInteger(count) || count < 1 || count > shardsMax) {
    throw new MillraceError("invalid", `a parameter table of ${count} shards`, { todo: `use 1 to ${shardsMax}` });
  }
  const { dim, initial, buckets, admission } = shape;
  const ofShard: ParameterShardShape = {
    dim,
    initial,
    bytes: Math.floor(shape.bytes / count / 64) * 64,
    ...(buckets === undefined ? {} : { buckets }),
    ...(admission === undefined ? {} : { admission: { sightings: admission.sightings, sketchBytes: Math.ceil(admission.sketchBytes / count) } }),
  };
  const leases: MemoryLease[] = [];
  const shards: ParameterShard[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const lease = pool.lease({
        dataBytes: ofShard.bytes + 64,
        owner,
        lanes: shape.lanes ?? 1,
        ...(shape.laneBytes === undefined ? {} : { laneBytes: shape.laneBytes }),
      });
      leases.push(lease);
      shards.push(ParameterShard.create(lease.memory, ofShard));
    }
  } catch (error) {
    for (const lease of leases) lease.release();
    throw error;
  }
  return { leases, shards };
}

export class ParameterStore extends ShardedPulls<ParameterShard> {
  readonly initial: InitialShape;
  readonly #leases: readonly MemoryLease[];

  /** Takes memories from the pool under the name `owner`. Throws `invalid` for a shape that cannot be, `overloaded` when the pool is full. */
  constructor(pool: MemoryPool, owner: string, shape: ParameterStoreShape) {
    const { leases, shards } = takeShards(pool, owner, shape);
    super(shards);
    this.initial = shape.initial;
    this.#leases = leases;
  }

  /** Gives the memories back; the store is not to be used any more. */
  release(): void {
    for (const lease of this.#leases) lease.release();
  }

  /** What `ParameterReader` of another thread attaches to. */
  tickets(): ShardTicket[] {
    return this.#leases.map(({ ticket }, i) => ({ lease: ticket, at: this.shards[i]!.at }));
  }

  /** Takes the writes of all buckets of all shards. */
  lead(epoch: number, node: number): void {
    for (const shard of this.shards) for (let bucket = 0; bucket < shard.buckets; bucket++) shard.lead(bucket, epoch, node);
  }

  #write(call: "assign" | "add", keys: Uint32Array, count: number, numbers: Float32Array, touchedS: number): number {
    if (this.shards.length === 1) return this.shards[0]![call](keys, count, numbers, touchedS);
    if (numbers.length < count * this.dim)
      throw new MillraceError("invalid", `${numbers.length} numbers for ${count} rows of ${this.dim}`, { todo: "give whole rows" });
    this.route(keys, count);
    const rows = this.numbers(count);
    for (let i = 0; i < count; i++) {
      const [target, source] = [i * this.dim, this.order[i]! * this.dim];
      for (let j = 0; j < this.dim; j++) rows[target + j] = numbers[source + j]!;
    }
    let refused = 0;
    this.each((shard, own, first, size) => (refused += shard[call](own, size, rows.subarray(first * this.dim), touchedS)));
    return refused;
  }

  assign(keys: Uint32Array, count: number, values: Float32Array, touchedS: number): number {
    return this.#write("assign", keys, count, values, touchedS);
  }

  add(keys: Uint32Array, count: number, deltas: Float32Array, touchedS: number): number {
    return this.#write("add", keys, count, deltas, touchedS);
  }

  delete(keys: Uint32Array, count: number): number {
    this.route(keys, count);
    let deleted = 0;
    this.each((shard, own, _, size) => (deleted += shard.delete(own, size)));
    return deleted;
  }

  /** As `evict` of a shard: each keeps an equal share of `liveBytes`; at most `max` rows of each. */
  evict(liveBytes: number, max: number, atOnce = false): number {
    let evicted = 0;
    for (const shard of this.shards) evicted += shard.evict(liveBytes / this.shards.length, max, atOnce);
    return evicted;
  }

  expireUntouched(beforeS: number, buckets: number, max: number, atOnce = false): number {
    let expired = 0;
    for (const shard of this.shards) expired += shard.expireUntouched(beforeS, buckets, max, atOnce);
    return expired;
  }

  get live(): number {
    return this.shards.reduce((sum, shard) => sum + shard.live, 0);
  }
}
