// The run files of one imported version in this process: those of the chosen shards, read into pooled memories and looked up in batches.
// Why keys are dealt out by hash when there are several runs: a run that a key is not in costs a cache miss like the one that it is in.
// Invariants: 1. every block was checked before the version is served  2. a key of a shard that is not here is never answered as absent (`isHere`).
// Cost: docs/local-replica.md. Memory: the files, and 2 MiB a file. Concurrency: one thread. Limits: 200 run files here.

import { MillraceError } from "#base/errors";
import { absentSource, EntryRefs } from "#kernel/entry-refs";
import { hashKeys } from "#kernel/hash-keys";
import { KeyBatch } from "#kernel/key-batch";
import type { KeySeed } from "#kernel/key-hash";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import type { RunImage } from "#kernel/run-image";
import { leaseForRun, readRun } from "#lsm/loaded-run";
import type { BaseRuns } from "#features/tables/table-base";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";

/** Up to so many runs are simply asked one after another. */
const askAllMax = 2;
/** Sources of a look-up are numbered in one byte, and the live rows need some too. */
const runsMax = 200;

export interface RunFile {
  readonly path: string;
  readonly bytes: number;
  /** Its place among all run files of the version. */
  readonly run: number;
}

export interface ReplicaRunsParts {
  readonly files: Files;
  readonly clock: Clock;
  readonly pool: MemoryPool;
  readonly owner: string;
  /** Those of the chosen shards. */
  readonly wanted: readonly RunFile[];
  /** Of the whole version. */
  readonly runs: number;
  /** Of the hash that says which run holds a key. */
  readonly seed: KeySeed;
  readonly runOf: (hashHigh: number, runs: number) => number;
  readonly signal: AbortSignal;
  readonly onProgress: (bytesDone: number) => void;
}

interface Held {
  readonly lease: MemoryLease;
  readonly image: RunImage;
}

export class ReplicaRuns implements BaseRuns {
  readonly #parts: ReplicaRunsParts;
  readonly #held: readonly Held[];
  /** By run: its place in `#held`, or 255. */
  readonly #placeOf: Uint8Array;
  #hashes = new Uint32Array(0);
  /** Keys dealt out: a batch and its answers a run, and which key each one is. */
  readonly #dealt: { readonly keys: KeyBatch; readonly refs: EntryRefs; numbers: Uint32Array }[];

  private constructor(parts: ReplicaRunsParts, held: readonly Held[]) {
    this.#parts = parts;
    this.#held = held;
    this.#placeOf = new Uint8Array(parts.runs).fill(absentSource);
    parts.wanted.forEach(({ run }, place) => (this.#placeOf[run] = place));
    this.#dealt = held.map(() => ({ keys: new KeyBatch(), refs: new EntryRefs(), numbers: new Uint32Array(0) }));
  }

  /** Reads and checks the files. Throws `corrupt` for a damaged one, `overloaded` when the pool has no room, and the signal's reason; nothing is kept then. */
  static async load(parts: ReplicaRunsParts): Promise<ReplicaRuns> {
    const { files, clock, pool, owner, wanted, signal } = parts;
    if (wanted.length > runsMax) {
      throw new MillraceError("invalid", `${wanted.length} run files in one replica`, { todo: `choose shards of at most ${runsMax} files together` });
    }
    const held: Held[] = [];
    let done = 0;
    try {
      for (const { path, bytes } of wanted) {
        signal.throwIfAborted();
        const { lease, at } = leaseForRun(pool, owner, bytes);
        try {
          const image = await readRun(files, clock, { path, bytes, headerCrc32c: undefined }, lease.memory, at, (more) => parts.onProgress((done += more)));
          held.push({ lease, image });
        } catch (thrown) {
          lease.release();
          throw thrown;
        }
      }
      return new ReplicaRuns(parts, held);
    } catch (thrown) {
      for (const { lease } of held) lease.release();
      throw thrown;
    }
  }

  /** Rows here. */
  get rows(): number {
    return this.#held.reduce((sum, { image }) => sum + image.count, 0);
  }

  get bytes(): number {
    return this.#held.reduce((sum, { image }) => sum + image.bytes, 0);
  }

  /** Of the search groups, the block table and the checksums: what a key costs beside its record. */
  get indexBytes(): number {
    return this.#held.reduce((sum, { image }) => sum + image.bytes - image.header.tableFrom, 0);
  }

  /** True when all shards of the version are here. */
  get isWhole(): boolean {
    return this.#held.length === this.#parts.runs;
  }

  getMany(keys: KeyBatch, refs: EntryRefs, firstSource: number): void {
    const held = this.#held;
    if (this.#parts.runs <= askAllMax) {
      for (let place = 0; place < held.length; place++) {
        if (refs.found < keys.count) held[place]!.image.probe(keys, refs, firstSource + place);
      }
    } else this.#deal(keys, refs, firstSource);
  }

  memoryOf(source: number): KernelMemory {
    return this.#held[source]!.lease.memory;
  }

  /** Never: a replica answers look-ups. */
  scan(): boolean {
    throw new MillraceError("unsupported", "a scan of a local replica", { todo: "scan the table at its server" });
  }

  /** Writes 1 for each key whose shard is here, else 0. */
  isHere(keys: KeyBatch, into: Uint8Array): void {
    const { count } = keys;
    if (this.isWhole) {
      into.fill(1, 0, count);
      return;
    }
    const hashes = this.#hash(keys);
    const { runOf, runs } = this.#parts;
    for (let i = 0; i < count; i++) into[i] = this.#placeOf[runOf(hashes[2 * i + 1]!, runs)] === absentSource ? 0 : 1;
  }

  release(): void {
    for (const { lease } of this.#held) lease.release();
  }

  #hash(keys: KeyBatch): Uint32Array {
    if (this.#hashes.length < 2 * keys.count) this.#hashes = new Uint32Array(2 * Math.max(1_024, keys.count));
    const memory = this.#held[0]?.lease.memory;
    if (memory !== undefined) hashKeys(memory, keys, this.#parts.seed, this.#hashes);
    return this.#hashes;
  }

  #deal(keys: KeyBatch, refs: EntryRefs, firstSource: number): void {
    const { runOf, runs } = this.#parts;
    if (this.#held.length === 0) return;
    const hashes = this.#hash(keys);
    const { bytes, offsets, count } = keys;
    for (const dealt of this.#dealt) dealt.keys.clear();
    for (let i = 0; i < count; i++) {
      const place = this.#placeOf[runOf(hashes[2 * i + 1]!, runs)]!;
      if (place === absentSource || refs.source[i] !== absentSource) continue;
      const dealt = this.#dealt[place]!;
      const n = dealt.keys.count;
      if (n === dealt.numbers.length) {
        const grown = new Uint32Array(Math.max(256, 2 * n));
        grown.set(dealt.numbers);
        dealt.numbers = grown;
      }
      dealt.numbers[n] = i;
      const from = offsets[i]!;
      dealt.keys.addIn((bytes[from]! << 8) | bytes[from + 1]!, bytes, from + 2, offsets[i + 1]!);
    }
    for (const [place, { keys: own, refs: found, numbers }] of this.#dealt.entries()) {
      if (own.count === 0) continue;
      found.reset(own.count);
      if (this.#held[place]!.image.probe(own, found, firstSource + place) === 0) continue;
      for (let n = 0; n < own.count; n++) {
        if (found.source[n] === absentSource) continue;
        const i = numbers[n]!;
        refs.source[i] = found.source[n]!;
        refs.at[i] = found.at[n]!;
        refs.bytes[i] = found.bytes[n]!;
        refs.kind[i] = found.kind[n]!;
        if (found.timed) {
          refs.expiryMs[i] = found.expiryMs[n]!;
          refs.timeMs[i] = found.timeMs[n]!;
        }
      }
      refs.found += found.found;
      refs.timed ||= found.timed;
    }
  }
}
