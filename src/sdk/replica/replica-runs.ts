// The run files of one imported version in this process: those of the chosen shards, in memory, and which keys they could hold.
// Invariant: a key of a shard that is not here is never answered as absent (`isHere`).
// Concurrency: one thread. Limits: those of RunSet.

import { runOf } from "#features/import/table-version";
import type { BaseRuns } from "#features/tables/table-base";
import type { EntryRefs } from "#kernel/entry-refs";
import { hashKeys } from "#kernel/hash-keys";
import type { KeyBatch } from "#kernel/key-batch";
import type { KeySeed } from "#kernel/key-hash";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { RunSet } from "#lsm/run-set";
import type { ScanPage } from "#lsm/scan-page";
import type { ScanRange } from "#lsm/store";

export interface ReplicaRunsParts {
  readonly set: RunSet;
  /** Which runs of the version the set holds, in its order. */
  readonly held: readonly number[];
  /** Of the whole version. */
  readonly runs: number;
  /** Of the hash that says which run holds a key. */
  readonly seed: KeySeed;
}

export class ReplicaRuns implements BaseRuns {
  readonly #parts: ReplicaRunsParts;
  readonly #isHeld: Uint8Array;
  #hashes = new Uint32Array(0);
  /** False: nothing in here ever expires, so nobody needs to look at the clock. */
  readonly canExpire: boolean;

  constructor(parts: ReplicaRunsParts) {
    this.#parts = parts;
    this.#isHeld = new Uint8Array(parts.runs);
    for (const run of parts.held) this.#isHeld[run] = 1;
    this.canExpire = parts.set.statistics.some(({ expiring }) => expiring > 0);
  }

  /** Rows here. */
  get rows(): number {
    return this.#parts.set.count;
  }

  get bytes(): number {
    return this.#parts.set.memoryBytes;
  }

  get indexBytes(): number {
    return this.#parts.set.indexBytes;
  }

  /** True when all shards of the version are here. */
  get isWhole(): boolean {
    return this.#parts.held.length === this.#parts.runs;
  }

  getMany(keys: KeyBatch, refs: EntryRefs, firstSource: number): void {
    // In memory it answers at once.
    void this.#parts.set.getMany(keys, refs, firstSource);
  }

  memoryOf(source: number): KernelMemory {
    return this.#parts.set.memoryOf(source);
  }

  scan(range: ScanRange, into: ScanPage): boolean | Promise<boolean> {
    return this.#parts.set.scan(range, into);
  }

  /** Writes 1 for each key of the last `getMany` whose shard is here, else 0. */
  isHere(keys: KeyBatch, into: Uint8Array): void {
    const { count } = keys;
    if (this.isWhole) {
      into.fill(1, 0, count);
      return;
    }
    const { set, runs, seed } = this.#parts;
    if (this.#hashes.length < 2 * count) this.#hashes = new Uint32Array(2 * Math.max(1_024, count));
    const hashes = this.#hashes;
    hashKeys(set.memoryOf(0), keys, seed, hashes);
    for (let i = 0; i < count; i++) into[i] = this.#isHeld[runOf(hashes[2 * i + 1]!, runs)]!;
  }

  close(): Promise<void> {
    return Promise.resolve(this.#parts.set.close());
  }
}
