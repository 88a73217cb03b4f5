// The runs of one version of a table, one file a shard: looked up in batches, scanned in key order. In memory, or on disk with only the index in memory.
// Why every shard is asked for every key that is still absent: an absent key costs a cache line of tags, less than sorting the batch by shard.
// Invariants: 1. nothing is served before it was verified: all blocks in memory mode; the index in disk mode, and each block when it is read  2. a value that a
// look-up on disk gave stays where it is until `landingBytes / 2` more bytes of values have come.
// Concurrency: one thread; on disk any number of look-ups at once. The owner closes a set when nobody reads it any more (the follower's leases).
// Limits: `storeLimits.sourcesMax` files; on disk a look-up of at most `landingBytes / 2` bytes of values.

import { MillraceError } from "#base/errors";
import { absentSource, type EntryRefs } from "#kernel/entry-refs";
import { compareBytes, entryKinds } from "#kernel/entry-record";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { KeyBatch } from "#kernel/key-batch";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { type RunImage } from "#kernel/run-image";
import type { RunStatistics } from "#kernel/run-format";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { DiskRun, type DiskWalk } from "./disk-run.ts";
import { leaseForRun, readRun, type RunToLoad } from "./loaded-run.ts";
import type { RunLoader } from "./run-loader.ts";
import type { ScanPage } from "./scan-page.ts";
import { Scanner } from "./scanner.ts";
import { type ScanRange, storeLimits } from "./store.ts";

const filesAtOnce = 3;
const landingBytes = 16 << 20;
const pageBytesMax = 1 << 20;

export interface RunSetOptions {
  readonly files: Files;
  readonly clock: Clock;
  /** Runs, or their indexes, take their memories here. */
  readonly pool: MemoryPool;
  /** Whom the pool counts them for: table and version. */
  readonly owner: string;
  readonly storage: "memory" | "disk";
  /** Told of bytes as they are read; of those that a loader reads, file by file. */
  readonly onRead?: (bytes: number) => void;
  /** Reads and verifies files in memory mode; without it the calling thread does, in slices. */
  readonly loader?: RunLoader;
  /** Looked at before each file. */
  readonly signal?: AbortSignal;
}

interface MemoryFile {
  readonly lease: MemoryLease;
  readonly image: RunImage;
}

export class RunSet {
  readonly storage: "memory" | "disk";
  readonly #clock: Clock;
  readonly #loaded: readonly MemoryFile[];
  readonly #disk: readonly DiskRun[];
  /** Where values from disk are put for their readers. */
  readonly #landing: MemoryLease | undefined;
  readonly #landingFrom: number;
  #landed = 0;
  #firstSource = 0;
  #isClosed = false;

  private constructor(options: RunSetOptions, loaded: readonly MemoryFile[], disk: readonly DiskRun[]) {
    this.storage = options.storage;
    this.#clock = options.clock;
    this.#loaded = loaded;
    this.#disk = disk;
    if (disk.length > 0) {
      const { lease, at } = leaseForRun(options.pool, options.owner, landingBytes);
      this.#landing = lease;
      this.#landingFrom = at;
    } else {
      this.#landingFrom = 0;
    }
  }

  /** Opens all files, several at once. Throws `corrupt` when one is damaged, `overloaded` when the pool has no room, the signal's reason; then nothing stays taken. */
  static async open(runs: readonly RunToLoad[], options: RunSetOptions): Promise<RunSet> {
    const { files, clock, pool, owner, storage, onRead, loader, signal } = options;
    if (runs.length > storeLimits.sourcesMax) {
      throw new MillraceError("invalid", `a version of ${runs.length} run files`, { todo: `build it with at most ${storeLimits.sourcesMax} shards` });
    }
    const loaded = new Array<MemoryFile>(storage === "memory" ? runs.length : 0);
    const disk = new Array<DiskRun>(storage === "disk" ? runs.length : 0);
    const leases: MemoryLease[] = [];
    let next = 0;
    const opener = async (): Promise<void> => {
      while (next < runs.length) {
        signal?.throwIfAborted();
        const i = next++;
        const run = runs[i]!;
        if (storage === "disk") {
          disk[i] = await DiskRun.open(files, pool, owner, run);
          continue;
        }
        const { lease, at } = leaseForRun(pool, owner, run.bytes);
        leases.push(lease);
        const image = loader === undefined ? await readRun(files, clock, run, lease.memory, at, onRead) : await loader.load(run, lease, at);
        if (loader !== undefined) onRead?.(run.bytes);
        loaded[i] = { lease, image };
      }
    };
    const ends = await Promise.allSettled(Array.from({ length: Math.min(filesAtOnce, runs.length) }, opener));
    const failed = ends.find((end) => end.status === "rejected");
    try {
      if (failed !== undefined) throw failed.reason;
      return new RunSet(options, loaded, disk);
    } catch (thrown) {
      for (const lease of leases) lease.release();
      for (const run of disk) await (run as DiskRun | undefined)?.close();
      throw thrown;
    }
  }

  /** Entries of all files. */
  get count(): number {
    return this.statistics.reduce((sum, one) => sum + one.entries, 0);
  }

  /** Of each file, in the order they were given. */
  get statistics(): readonly RunStatistics[] {
    return this.storage === "memory" ? this.#loaded.map(({ image }) => image.statistics) : this.#disk.map(({ index }) => index.statistics);
  }

  /** Bytes of memory that hold the runs or their indexes. */
  get memoryBytes(): number {
    return this.storage === "memory"
      ? this.#loaded.reduce((sum, { image }) => sum + image.bytes, 0)
      : this.#disk.reduce((sum, { index }) => sum + index.header.fileBytes - index.header.tableFrom, landingBytes);
  }

  /** Bytes of the files that are no entries: search groups, block tables, checksums. */
  get indexBytes(): number {
    const headers = this.storage === "memory" ? this.#loaded.map(({ image }) => image.header) : this.#disk.map(({ index }) => index.header);
    return headers.reduce((sum, { fileBytes, tableFrom }) => sum + fileBytes - tableFrom, 0);
  }

  /** Reads of the disk so far; 0 in memory mode. */
  get diskReads(): { readonly reads: number; readonly bytes: number } {
    return this.#disk.reduce((sum, { counts }) => ({ reads: sum.reads + counts.reads, bytes: sum.bytes + counts.readBytes }), { reads: 0, bytes: 0 });
  }

  /**
   * Fills `refs` for the keys that are still absent (`refs.reset` is the caller's); its sources count from `firstSource`. Tombstones and expired entries come out as
   * they stand. On disk a promise: `refs` must be left alone until it resolves, and `keys` may be filled again.
   */
  getMany(keys: KeyBatch, refs: EntryRefs, firstSource: number): void | Promise<void> {
    this.#checkOpen();
    this.#firstSource = firstSource;
    if (this.storage === "disk") return this.#getFromDisk(keys, refs, firstSource);
    for (const [i, { image }] of this.#loaded.entries()) {
      if (refs.found === keys.count) return;
      image.probe(keys, refs, firstSource + i);
    }
  }

  /** The memory of a source of the last `getMany`. */
  memoryOf(source: number): KernelMemory {
    const memory = this.storage === "disk" ? this.#landing?.memory : this.#loaded[source - this.#firstSource]?.lease.memory;
    if (memory === undefined) throw new MillraceError("invalid", `source ${source} of a look-up`, { todo: "ask for present keys of the last look-up only" });
    return memory;
  }

  /** A page in key order, as Store.scan; on disk a promise. */
  scan(range: ScanRange, into: ScanPage): boolean | Promise<boolean> {
    this.#checkOpen();
    if (this.storage === "disk") return this.#scanDisk(range, into);
    return new Scanner(this.#clock).scan(
      range,
      into,
      [],
      this.#loaded.map((file) => ({ files: [file] })),
    );
  }

  /** Gives memories and files back. Nobody reads any more. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const { lease } of this.#loaded) lease.release();
    this.#landing?.release();
    for (const run of this.#disk) await run.close();
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new MillraceError("invalid", "the runs of this version are closed", { todo: "hold a lease of the version while reading it" });
  }

  async #getFromDisk(keys: KeyBatch, refs: EntryRefs, firstSource: number): Promise<void> {
    const { bytes: landing } = this.#landing!.memory;
    // Values are put down together when all have come, without a wait between that and the end.
    const found: { i: number; source: number; kind: number; value: Uint8Array; expiryMs: number; timeMs: number }[] = [];
    let total = 0;
    const known = new Uint8Array(refs.count);
    for (let i = 0; i < refs.count; i++) known[i] = refs.source[i] === absentSource ? 0 : 1;
    const batch = this.#disk.map((run, s) =>
      run.lookUp(
        keys,
        (i) => known[i] === 0,
        (i, entry) => {
          total += entry.valueBytes;
          found.push({ i, source: firstSource + s, kind: entry.kind, value: entry.value(), expiryMs: entry.expiryMs, timeMs: entry.timeMs });
        },
      ),
    );
    for (const end of await Promise.allSettled(batch)) if (end.status === "rejected") throw end.reason;
    this.#checkOpen();
    if (total > landingBytes / 2) {
      throw new MillraceError("overloaded", `a look-up of ${total} bytes of values from disk`, {
        todo: `ask for fewer rows: at most ${landingBytes / 2} bytes at once`,
      });
    }
    for (const { i, source, kind, value, expiryMs, timeMs } of found) {
      if (refs.source[i] !== absentSource) continue;
      if (this.#landed + value.length > landingBytes) this.#landed = 0;
      const at = this.#landingFrom + this.#landed;
      landing.set(value, at);
      this.#landed += value.length;
      refs.source[i] = source;
      refs.at[i] = at;
      refs.bytes[i] = value.length;
      refs.kind[i] = kind;
      refs.expiryMs[i] = expiryMs;
      refs.timeMs[i] = timeMs;
      if (expiryMs > 0 || timeMs > 0) refs.timed = true;
      refs.found++;
    }
  }

  async #scanDisk(range: ScanRange, into: ScanPage): Promise<boolean> {
    const { from, to, limit, reverse = false, values = true, nowMs = this.#clock.nowMs() } = range;
    if (!Number.isInteger(limit) || limit < 1 || limit > storeLimits.pageEntriesMax) {
      throw new MillraceError("invalid", `a page of ${limit} entries`, { todo: `ask for 1 to ${storeLimits.pageEntriesMax}` });
    }
    into.clear();
    const walks = this.#disk.map((run) => run.walk(from, to, reverse));
    await Promise.all(walks.map((walk) => walk.advance()));
    for (;;) {
      // Shards hold different keys: no two walks stand on the same one.
      let best: DiskWalk | undefined;
      for (const walk of walks) {
        if (!walk.valid) continue;
        if (best === undefined) best = walk;
        else {
          const [a, b] = [walk.entry, best.entry];
          const order = compareBytes(a.bytes, a.keyAt, a.keyEnd, b.bytes, b.keyAt, b.keyEnd);
          if (reverse ? order > 0 : order < 0) best = walk;
        }
      }
      if (best === undefined) return false;
      const { entry } = best;
      if (entry.kind !== entryKinds.tombstone && (entry.expiryMs === 0 || entry.expiryMs > nowMs)) {
        into.add(entry.bytes, entry.keyAt, entry.keyBytes, entry.valueAt, values ? entry.valueBytes : 0, entry.kind, entry.expiryMs, entry.timeMs);
      }
      if (into.count >= limit || into.bytes >= pageBytesMax) {
        const next = new Uint8Array(reverse ? entry.keyBytes : entry.keyBytes + 1);
        next.set(entry.key());
        into.next = next;
        return true;
      }
      await best.advance();
    }
  }
}
