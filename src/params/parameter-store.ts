// A table of parameters over several shards, each in a memory of its own: beyond 4 GiB in all, and later a writer each.
// Invariants: 1. a key's shard follows from the key alone (`shardOf`), so every node of equal shape finds it alike  2. answers stand in the order of the keys asked for
//             3. a batch is atomic a row, not as a whole: readers in other threads may see a part of it.
// Cost: with one shard none; with several a counting sort of the keys and a copy of the rows, some 10 ns a key.
// Concurrency: one thread writes all shards here; readers attach to each shard (`tickets`). Limits: shardsMax, 4 GiB a shard; batches of any length.

import { MillraceError } from "#base/errors";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { type InitialShape, shardOf } from "#kernel/parameter-key";
import { type NarrowRows, ParameterShard, type ParameterShardShape } from "./parameter-shard.ts";

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

export class ParameterStore {
  readonly dim: number;
  readonly shards: readonly ParameterShard[];
  readonly initial: InitialShape;
  readonly #leases: readonly MemoryLease[];
  /** Of the batch under way: shard by shard the places of its keys, where each shard's begin, its keys and its numbers. */
  #order = new Uint32Array(0);
  readonly #starts: Uint32Array;
  #keys = new Uint32Array(0);
  #found = new Uint8Array(0);
  #rows = new Float32Array(0);

  /** Takes memories from the pool under the name `owner`. Throws `invalid` for a shape that cannot be, `overloaded` when the pool is full. */
  constructor(pool: MemoryPool, owner: string, shape: ParameterStoreShape) {
    const { shardsMax, shardBytesMax } = parameterStoreLimits;
    const count = shape.shards ?? Math.max(1, Math.ceil(shape.bytes / shardBytesMax));
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
    this.dim = dim;
    this.initial = initial;
    this.shards = shards;
    this.#leases = leases;
    this.#starts = new Uint32Array(count + 1);
  }

  /** Gives the memories back; the store is not to be used any more. */
  release(): void {
    for (const lease of this.#leases) lease.release();
  }

  /** What other threads attach to: memory, generation and address of each shard. */
  tickets(): { readonly lease: MemoryLease["ticket"]; readonly at: number }[] {
    return this.#leases.map(({ ticket }, i) => ({ lease: ticket, at: this.shards[i]!.at }));
  }

  /** Takes the writes of all buckets of all shards. */
  lead(epoch: number, node: number): void {
    for (const shard of this.shards) for (let bucket = 0; bucket < shard.buckets; bucket++) shard.lead(bucket, epoch, node);
  }

  /** Sorts keys by shard, keeping their order within each. */
  #route(keys: Uint32Array, count: number): void {
    const shards = this.shards.length;
    if (keys.length < 2 * count) throw new MillraceError("invalid", `${count} keys in ${keys.length} words`, { todo: "give two words a key" });
    if (this.#order.length < count) {
      this.#order = new Uint32Array(count);
      this.#keys = new Uint32Array(2 * count);
      this.#found = new Uint8Array(count);
    }
    const starts = this.#starts.fill(0);
    for (let i = 0; i < count; i++) starts[shardOf(keys[2 * i]!, keys[2 * i + 1]!, shards) + 1]!++;
    for (let s = 0; s < shards; s++) starts[s + 1]! += starts[s]!;
    for (let i = 0; i < count; i++) {
      const to = starts[shardOf(keys[2 * i]!, keys[2 * i + 1]!, shards)]!++;
      this.#order[to] = i;
      this.#keys[2 * to] = keys[2 * i]!;
      this.#keys[2 * to + 1] = keys[2 * i + 1]!;
    }
    starts.copyWithin(1, 0, shards);
    starts[0] = 0;
  }

  /** Calls `part` for each shard that has keys of the batch. */
  #each(part: (shard: ParameterShard, keys: Uint32Array, first: number, count: number) => void): void {
    for (const [s, shard] of this.shards.entries()) {
      const first = this.#starts[s]!;
      const size = this.#starts[s + 1]! - first;
      if (size > 0) part(shard, this.#keys.subarray(2 * first, 2 * (first + size)), first, size);
    }
  }

  #numbers(count: number): Float32Array {
    if (this.#rows.length < count * this.dim) this.#rows = new Float32Array(count * this.dim);
    return this.#rows;
  }

  /** Puts rows of `width` that stand in the order of shards back into the order asked for. */
  #scatter<T extends Float32Array | Uint16Array | Int8Array | Uint8Array>(from: T, into: T, width: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const [source, target] = [i * width, this.#order[i]! * width];
      for (let j = 0; j < width; j++) into[target + j] = from[source + j]!;
    }
  }

  /** As `pull` of a shard. */
  pull(keys: Uint32Array, count: number, into: Float32Array, found?: Uint8Array): number {
    if (this.shards.length === 1) return this.shards[0]!.pull(keys, count, into, found);
    const rows = this.#numbers(count);
    return this.#pullRows(keys, count, rows, into, found, (shard, own, size, part, flags) => shard.pull(own, size, part, flags));
  }

  pullHalves(keys: Uint32Array, count: number, into: Uint16Array, found?: Uint8Array): number {
    if (this.shards.length === 1) return this.shards[0]!.pullHalves(keys, count, into, found);
    const rows = new Uint16Array(this.#numbers(count).buffer);
    return this.#pullRows(keys, count, rows, into, found, (shard, own, size, part, flags) => shard.pullHalves(own, size, part, flags));
  }

  /** Pulls into `rows` in the order of the shards, then to the callers' places. */
  #pullRows<Rows extends Float32Array | Uint16Array>(
    keys: Uint32Array,
    count: number,
    rows: Rows,
    into: Rows,
    found: Uint8Array | undefined,
    pull: (shard: ParameterShard, own: Uint32Array, size: number, part: Rows, flags: Uint8Array | undefined) => number,
  ): number {
    return this.#pullSorted(
      keys,
      count,
      into.length,
      found,
      (shard, own, first, size, flags) => pull(shard, own, size, rows.subarray(first * this.dim) as Rows, flags),
      () => this.#scatter(rows, into, this.dim, count),
    );
  }

  pullBytes(keys: Uint32Array, count: number, into: NarrowRows, found?: Uint8Array): number {
    if (this.shards.length === 1) return this.shards[0]!.pullBytes(keys, count, into, found);
    const bytes = new Int8Array(this.#numbers(count).buffer);
    const scales = new Float32Array(count);
    return this.#pullSorted(
      keys,
      count,
      into.bytes.length,
      found,
      (shard, own, first, size, flags) => {
        return shard.pullBytes(own, size, { bytes: bytes.subarray(first * this.dim), scales: scales.subarray(first) }, flags);
      },
      () => {
        this.#scatter(bytes, into.bytes, this.dim, count);
        this.#scatter(scales, into.scales, 1, count);
      },
    );
  }

  #pullSorted(
    keys: Uint32Array,
    count: number,
    room: number,
    found: Uint8Array | undefined,
    part: (shard: ParameterShard, keys: Uint32Array, first: number, size: number, found: Uint8Array) => number,
    scatter: () => void,
  ): number {
    if (room < count * this.dim || (found !== undefined && found.length < count)) {
      throw new MillraceError("invalid", `room for ${room} numbers of ${count} rows of ${this.dim}`, {
        todo: "give a whole row, and a byte of `found`, a key",
      });
    }
    this.#route(keys, count);
    let missing = 0;
    this.#each((shard, own, first, size) => {
      missing += part(shard, own, first, size, this.#found.subarray(first));
    });
    scatter();
    if (found !== undefined) this.#scatter(this.#found, found, 1, count);
    return missing;
  }

  #write(call: "assign" | "add", keys: Uint32Array, count: number, numbers: Float32Array, touchedS: number): number {
    if (this.shards.length === 1) return this.shards[0]![call](keys, count, numbers, touchedS);
    if (numbers.length < count * this.dim)
      throw new MillraceError("invalid", `${numbers.length} numbers for ${count} rows of ${this.dim}`, { todo: "give whole rows" });
    this.#route(keys, count);
    const rows = this.#numbers(count);
    for (let i = 0; i < count; i++) {
      const [target, source] = [i * this.dim, this.#order[i]! * this.dim];
      for (let j = 0; j < this.dim; j++) rows[target + j] = numbers[source + j]!;
    }
    let refused = 0;
    this.#each((shard, own, first, size) => (refused += shard[call](own, size, rows.subarray(first * this.dim), touchedS)));
    return refused;
  }

  assign(keys: Uint32Array, count: number, values: Float32Array, touchedS: number): number {
    return this.#write("assign", keys, count, values, touchedS);
  }

  add(keys: Uint32Array, count: number, deltas: Float32Array, touchedS: number): number {
    return this.#write("add", keys, count, deltas, touchedS);
  }

  delete(keys: Uint32Array, count: number): number {
    this.#route(keys, count);
    let deleted = 0;
    this.#each((shard, own, _, size) => (deleted += shard.delete(own, size)));
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
    return this.shards.reduce((sum, shard) => sum + shard.statistics().live, 0);
  }
}
