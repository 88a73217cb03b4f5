// Batches over the shards of a table: keys are sorted by shard, each shard is asked once, answers stand in the order of the keys.
// Invariants: 1. a key's shard follows from the key alone (`shardOf`)  2. a table of one shard is asked directly.
// Cost: with one shard none; with several a counting sort of the keys and a copy of the rows, some 10 ns a key.
// Concurrency: one thread, the one that the shards (or readers) were made for. Limits: batches of any length.

import { MillraceError } from "#base/errors";
import { shardOf } from "#kernel/parameter-key";
import type { NarrowRows } from "./parameter-shard.ts";

/** What a shard and a reader of one have in common. */
export interface PullShard {
  readonly dim: number;
  pull(keys: Uint32Array, count: number, into: Float32Array, found?: Uint8Array): number;
  pullHalves(keys: Uint32Array, count: number, into: Uint16Array, found?: Uint8Array): number;
  pullBytes(keys: Uint32Array, count: number, into: NarrowRows, found?: Uint8Array): number;
}

export class ShardedPulls<Shard extends PullShard> {
  readonly dim: number;
  readonly shards: readonly Shard[];
  /** Of the batch under way: shard by shard the places of its keys, where each shard's begin, its keys and its numbers. */
  protected order = new Uint32Array(0);
  readonly #starts: Uint32Array;
  #keys = new Uint32Array(0);
  #found = new Uint8Array(0);
  #rows = new Float32Array(0);

  /** Over at least one shard. */
  constructor(shards: readonly Shard[]) {
    this.dim = shards[0]!.dim;
    this.shards = shards;
    this.#starts = new Uint32Array(shards.length + 1);
  }

  /** Sorts keys by shard, keeping their order within each. */
  protected route(keys: Uint32Array, count: number): void {
    const shards = this.shards.length;
    if (keys.length < 2 * count) throw new MillraceError("invalid", `${count} keys in ${keys.length} words`, { todo: "give two words a key" });
    if (this.order.length < count) {
      this.order = new Uint32Array(count);
      this.#keys = new Uint32Array(2 * count);
      this.#found = new Uint8Array(count);
    }
    const starts = this.#starts.fill(0);
    for (let i = 0; i < count; i++) starts[shardOf(keys[2 * i]!, keys[2 * i + 1]!, shards) + 1]!++;
    for (let s = 0; s < shards; s++) starts[s + 1]! += starts[s]!;
    for (let i = 0; i < count; i++) {
      const to = starts[shardOf(keys[2 * i]!, keys[2 * i + 1]!, shards)]!++;
      this.order[to] = i;
      this.#keys[2 * to] = keys[2 * i]!;
      this.#keys[2 * to + 1] = keys[2 * i + 1]!;
    }
    starts.copyWithin(1, 0, shards);
    starts[0] = 0;
  }

  /** Calls `part` for each shard that has keys of the batch. */
  protected each(part: (shard: Shard, keys: Uint32Array, first: number, count: number) => void): void {
    for (const [s, shard] of this.shards.entries()) {
      const first = this.#starts[s]!;
      const size = this.#starts[s + 1]! - first;
      if (size > 0) part(shard, this.#keys.subarray(2 * first, 2 * (first + size)), first, size);
    }
  }

  protected numbers(count: number): Float32Array {
    if (this.#rows.length < count * this.dim) this.#rows = new Float32Array(count * this.dim);
    return this.#rows;
  }

  /** Puts rows of `width` that stand in the order of shards back into the order asked for. */
  #scatter<T extends Float32Array | Uint16Array | Int8Array | Uint8Array>(from: T, into: T, width: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const [source, target] = [i * width, this.order[i]! * width];
      for (let j = 0; j < width; j++) into[target + j] = from[source + j]!;
    }
  }

  /** As `pull` of a shard. */
  pull(keys: Uint32Array, count: number, into: Float32Array, found?: Uint8Array): number {
    if (this.shards.length === 1) return this.shards[0]!.pull(keys, count, into, found);
    const rows = this.numbers(count);
    return this.#pullRows(keys, count, rows, into, found, (shard, own, size, part, flags) => shard.pull(own, size, part, flags));
  }

  pullHalves(keys: Uint32Array, count: number, into: Uint16Array, found?: Uint8Array): number {
    if (this.shards.length === 1) return this.shards[0]!.pullHalves(keys, count, into, found);
    const rows = new Uint16Array(this.numbers(count).buffer);
    return this.#pullRows(keys, count, rows, into, found, (shard, own, size, part, flags) => shard.pullHalves(own, size, part, flags));
  }

  /** Pulls into `rows` in the order of the shards, then to the callers' places. */
  #pullRows<Rows extends Float32Array | Uint16Array>(
    keys: Uint32Array,
    count: number,
    rows: Rows,
    into: Rows,
    found: Uint8Array | undefined,
    pull: (shard: Shard, own: Uint32Array, size: number, part: Rows, flags: Uint8Array | undefined) => number,
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
    const bytes = new Int8Array(this.numbers(count).buffer);
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
    part: (shard: Shard, keys: Uint32Array, first: number, size: number, found: Uint8Array) => number,
    scatter: () => void,
  ): number {
    if (room < count * this.dim || (found !== undefined && found.length < count)) {
      throw new MillraceError("invalid", `room for ${room} numbers of ${count} rows of ${this.dim}`, {
        todo: "give a whole row, and a byte of `found`, a key",
      });
    }
    this.route(keys, count);
    let missing = 0;
    this.each((shard, own, first, size) => {
      missing += part(shard, own, first, size, this.#found.subarray(first));
    });
    scatter();
    if (found !== undefined) this.#scatter(this.#found, found, 1, count);
    return missing;
  }
}
