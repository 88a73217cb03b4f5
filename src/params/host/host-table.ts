// One table of the parameter server: its rows in memory, its folder on disk, and the work that keeps it within its bounds.
//
// Bounds. A shard is full when its rows take about `highShare` of what its memory can hold; the rest is for the index, which grows in steps, and for rows that are leaving. Writes come in
// pieces of at most `pieceShare` of a shard; before each piece so many of the rows that were written longest ago are evicted that the piece fits even if all its keys are new. So no write is
// refused for want of room. Evicted and expired rows become tombstones while those are few, so that the next checkpoint writes them as single entries, and are removed at once beyond
// that (their bucket is then written whole).
// Durability. Rows are checkpointed, not logged: what was written after the last checkpoint is lost by a kill -9. Training repeats itself; a log would cost each push its bytes again.
//
// Invariants: 1. one call never works on more than about a thousand rows without returning (writes: what they were given; tombstones that take their room: `collectRows`)  2. tombstones are collected only when a checkpoint holds them, or
//                when there are too many  3. a table that was synchronised asks its `sync` before it removes anything  4. tombstones that followers do not hold yet cost no write its room:
//                whoever applies writes waits while `shortOfRoom`, and what comes nevertheless finds them collected.
// Concurrency: the parameters thread. Limits: those of ParameterStore.

import { MillraceError } from "#base/errors";
import type { MemoryPool } from "#kernel/memory-pool";
import { shardWord } from "#kernel/parameter-shard-layout";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { ParameterSaved, ParameterSyncStatus, ParameterTableStatus } from "#wire/parameter-api";
import { parameterDefaults, type ParameterTableConfig } from "#wire/parameter-config";
import type { ParameterShard, ShardStatistics } from "../parameter-shard.ts";
import { ParameterStore } from "../parameter-store.ts";
import { type OpenedCheckpoints, StoreCheckpointer } from "../store-checkpoint.ts";
import { compareVersions, counterOf, EntryBatch, epochOf, lastVersion, noVersion, type Version, versionLimits } from "../sync-table.ts";
import type { UpdateAnswer, UpdateKind } from "../update-ring.ts";
import { checkSameShape, checkShardMemory, readTableRecord, shapeOf, type TableRecord, writeTableRecord } from "./table-record.ts";

/** Threads by their lane in every table's memories, and their numbers as readers. Further ones take those behind. */
export const parameterLanes = { host: 0, serving: 1, more: 2, count: 8 } as const;

export const hostTableLimits = {
  /** Of the rows that a shard's memory can hold. */
  highShare: 0.86,
  /** The same with synchronisation: tombstones wait for followers, who have them and rows on their way beside. */
  syncedHighShare: 0.8,
  /** Of them, in one piece of a write. */
  pieceShare: 0.03,
  /** Of them, tombstones that wait for a checkpoint. */
  tombstoneShare: 0.05,
  /** Of them, tombstones at which a write does not wait for followers any more. */
  tombstoneShareMax: 0.1,
  /** So many tombstones are collected in one go while writes wait. */
  collectRows: 20_000,
  /** Rows of one slice of eviction, expiry and collection. */
  sliceRows: 500,
  /** Buckets of a shard that one slice looks at. */
  sliceBuckets: 128,
  /** Buckets that are asked for their hottest and coldest row. */
  sampleBuckets: 32,
} as const;

/** Of the index, a row, beside its bytes. */
const indexRowBytes = 8;
/** What stands before the notes of synchronisation: when the checkpoint was taken. */
const noteHeadBytes = 8;

/** What synchronisation says of a table to whom keeps it. Absent: nobody follows it and it follows nobody. */
export interface TableSync {
  /** This node takes the table's writes; only then rows are evicted and expired here. */
  readonly leads: boolean;
  /** Tombstones of the bucket up to this version are no longer needed by any peer. */
  collectUpTo(shard: number, bucket: number): Version;
  /** Goes into the checkpoint, in the step that takes it; comes back as `notes` of the opened table. */
  notes(shard: number): Uint8Array;
  /** There are too many tombstones: collects those of the bucket that nobody who is connected needs; with `whoeverHolds` all, and followers load it anew. */
  collectHeld(shard: number, bucket: number, whoeverHolds?: boolean): void;
  /** Why a write is not taken right now. */
  refusal(): MillraceError | undefined;
  /** After writes were applied here. */
  written(): void;
  /** After a slice of eviction and expiry. */
  swept(): void;
  status(): ParameterSyncStatus;
  /** Ends its connections; the table goes on. */
  close(): Promise<void>;
}

export interface HostTableOptions {
  readonly id: number;
  readonly name: string;
  readonly config: ParameterTableConfig;
  /** By the configuration file. */
  readonly declared: boolean;
  readonly node: number;
  /** False: writes of this node come by synchronisation. Default true. */
  readonly leads?: boolean;
  readonly pool: MemoryPool;
  readonly files: Files;
  readonly clock: Clock;
  readonly folder: string;
}

interface Bounds {
  /** Rows that live at most. */
  readonly high: number;
  readonly syncedHigh: number;
  readonly tombstonesMax: number;
  readonly piece: number;
  readonly tombstones: number;
}

/** Of an empty shard: what is taken by then is no row's. */
function boundsOf(shard: ParameterShard): Bounds {
  const { highShare, syncedHighShare, pieceShare, tombstoneShare, tombstoneShareMax } = hostTableLimits;
  const { bytes, usedBytes, rowBytes } = shard.statistics();
  const slabBytes = shard.memory.u32[shard.at / 4 + shardWord.slabBytes]!;
  // Rows lie in slabs; what is left at a slab's end is lost.
  const whole = (Math.floor(slabBytes / rowBytes) * rowBytes) / slabBytes;
  const rows = ((bytes - usedBytes) * whole) / (rowBytes + indexRowBytes);
  return {
    high: Math.floor(highShare * rows),
    syncedHigh: Math.floor(syncedHighShare * rows),
    piece: Math.max(1, Math.floor(pieceShare * rows)),
    tombstones: Math.floor(tombstoneShare * rows),
    tombstonesMax: Math.floor(tombstoneShareMax * rows),
  };
}

/** The highest epoch that rows have: higher than the record's when they came from another node. */
function epochIn({ shards }: ParameterStore): number {
  let epoch = 0;
  for (const shard of shards) for (let b = 0; b < shard.buckets; b++) epoch = Math.max(epoch, epochOf(shard.newest(b)));
  return epoch;
}

export class HostTable {
  readonly id: number;
  readonly name: string;
  readonly config: ParameterTableConfig;
  readonly declared: boolean;
  readonly store: ParameterStore;
  /** What its synchronisation gave to the checkpoint that was restored, by shard. */
  readonly notes: readonly (Uint8Array | undefined)[];
  /** Of the writes since this start. */
  readonly epoch: number;
  /** To be set once, by whoever synchronises the table. */
  sync: TableSync | undefined;
  readonly #clock: Clock;
  readonly #checkpointer: StoreCheckpointer;
  readonly #bounds: readonly Bounds[];
  /** Newest version of each bucket in the last checkpoint, high and low, by shard. */
  readonly #saved: readonly Uint32Array[];
  /** Sum of the counters in the last checkpoint. */
  #savedWrites = 0;
  /** Rows that had left without a version (evicted or expired at once) by the last checkpoint. */
  #savedLeft = 0;
  #checkpoint: ParameterTableStatus["checkpoint"];
  /** Monotonic. */
  #nextSaveMs: number;
  #running: Promise<unknown> = Promise.resolve();
  #following: Promise<ParameterSaved> | undefined;
  #collectFrom = 0;
  /** The same, for what is collected while memory is short. */
  #roomFrom = 0;
  #hottestS = 0;
  readonly #sample: EntryBatch;

  private constructor(options: HostTableOptions, store: ParameterStore, bounds: readonly Bounds[], opened: OpenedCheckpoints, epoch: number) {
    const { id, name, config, declared, clock } = options;
    this.id = id;
    this.name = name;
    this.config = config;
    this.declared = declared;
    this.store = store;
    this.epoch = epoch;
    this.#clock = clock;
    this.#checkpointer = opened.checkpointer;
    this.#sample = new EntryBatch(store.dim);
    this.#saved = store.shards.map(({ buckets }) => new Uint32Array(2 * buckets));
    this.notes = opened.notes.map((note) => note?.subarray(noteHeadBytes));
    const first = opened.notes[0];
    const atMs = first === undefined || first.length < noteHeadBytes ? 0 : new DataView(first.buffer, first.byteOffset).getFloat64(0, true);
    const { newest, files, bytes } = opened.checkpointer.chain;
    this.#checkpoint = { id: newest, atMs, bytes, ms: 0, files, unsavedRows: 0 };
    this.#bounds = bounds;
    for (const s of store.shards.keys()) this.#noteSaved(s);
    this.#savedWrites = this.#writes();
    this.#savedLeft = this.#left();
    this.#nextSaveMs = clock.monotonicMs() + this.#everyMs;
  }

  /**
   * Opens a table in its folder, with the rows of its checkpoint. Throws `conflict` for a folder of another shape (it names the field), `corrupt` for a damaged checkpoint (the files are left
   * as they are), `overloaded` when memory does not hold the rows.
   */
  static async open(options: HostTableOptions): Promise<HostTable> {
    const { name, config, declared, files, folder, pool, node } = options;
    await files.makeFolder(folder);
    const kept = await readTableRecord(files, folder);
    const shape = shapeOf(config, kept?.shape);
    if (kept !== undefined) checkSameShape(name, kept.shape, shape, folder);
    checkShardMemory(name, config, shape);
    const { dim, seed, initialScale, factors, shards, buckets } = shape;
    const { admission } = config;
    const store = new ParameterStore(pool, `parameters ${name}`, {
      dim,
      initial: { seed: BigInt(seed), factors, initialScale },
      bytes: config.memoryMb * 2 ** 20,
      shards,
      buckets,
      lanes: parameterLanes.count,
      ...(admission === undefined
        ? {}
        : { admission: { sightings: admission.sightings, sketchBytes: (admission.sketchMb ?? parameterDefaults.sketchMb) * 2 ** 20 } }),
    });
    const bounds = store.shards.map(boundsOf);
    try {
      const opened = await StoreCheckpointer.open(store, files, folder);
      const epoch = Math.min(versionLimits.epochMax, Math.max(kept?.epoch ?? 0, epochIn(store)) + 1);
      const record: TableRecord = { version: 1, created: !declared, shape, config, epoch };
      await writeTableRecord(files, folder, record);
      if (options.leads ?? true) store.lead(epoch, node);
      return new HostTable(options, store, bounds, opened, epoch);
    } catch (thrown) {
      store.release();
      if (!(thrown instanceof MillraceError)) throw thrown;
      if (thrown.code === "overloaded") {
        throw new MillraceError("overloaded", `parameter table ${name}: ${config.memoryMb} MiB do not hold the rows of its checkpoint`, {
          cause: thrown,
          todo: "raise its memoryMb",
        });
      }
      throw new MillraceError(thrown.code, `parameter table ${name}: ${thrown.what}`, {
        cause: thrown,
        ...(thrown.todo === undefined ? {} : { todo: thrown.todo }),
      });
    }
  }

  get #everyMs(): number {
    return 1_000 * (this.config.checkpoint?.everySeconds ?? parameterDefaults.checkpointSeconds);
  }

  get #mayRemove(): boolean {
    return this.sync === undefined || this.sync.leads;
  }

  /** Applies a batch. Refused are keys that admission held back, rows that are not finite, and keys that found no room. Throws `invalid` for rows of another width, `conflict` for a table led elsewhere, `unavailable` while it changes hands. */
  apply(kind: UpdateKind, keys: Uint32Array, count: number, numbers: Float32Array, touchedS: number): UpdateAnswer {
    const { store } = this;
    const refusal = this.sync?.refusal();
    if (refusal !== undefined) throw refusal;
    if (kind === "delete") {
      const removed = store.delete(keys, count);
      this.sync?.written();
      return { removed };
    }
    if (numbers.length !== count * store.dim) {
      throw new MillraceError("invalid", `${numbers.length} numbers for ${count} rows of table ${this.name}`, { todo: `give ${store.dim} numbers a row` });
    }
    if (touchedS > this.#hottestS) this.#hottestS = touchedS;
    const skipped = this.#sum("skipped");
    const piece = this.#bounds[0]!.piece * store.shards.length;
    let refused = 0;
    for (let first = 0; first < count; first += piece) {
      const size = Math.min(piece, count - first);
      this.#makeRoom(size);
      const whole = size === count;
      refused += store[kind](
        whole ? keys : keys.subarray(2 * first, 2 * (first + size)),
        size,
        whole ? numbers : numbers.subarray(first * store.dim, (first + size) * store.dim),
        touchedS,
      );
    }
    this.sync?.written();
    return { refused: refused + this.#sum("skipped") - skipped };
  }

  #sum(field: "skipped" | "live" | "tombstones"): number {
    let sum = 0;
    for (const shard of this.store.shards) sum += shard[field];
    return sum;
  }

  /** Evicts so much of each shard that `count` new rows fit. */
  #makeRoom(count: number): void {
    if (!this.#mayRemove) return;
    const { shards } = this.store;
    // A shard's part of a batch is near the mean; what it has beyond is in the share above `high`.
    const own = Math.ceil(count / shards.length);
    for (const [s, shard] of shards.entries()) {
      const { live } = shard;
      const { piece, tombstonesMax } = this.#bounds[s]!;
      const target = Math.max(0, this.#high(s) - Math.min(own, piece));
      if (live <= target) continue;
      this.#evict(s, target, live - target);
      // Whoever applies writes has waited for followers as long as it does.
      if (this.sync !== undefined && shard.tombstones > tombstonesMax) this.#collectTombstones(s, true);
    }
  }

  #high(s: number): number {
    const { high, syncedHigh } = this.#bounds[s]!;
    return this.sync === undefined ? high : syncedHigh;
  }

  /** Tombstones take so much room that writes should wait for the followers that do not hold them yet. Collects some that all hold. */
  get shortOfRoom(): boolean {
    if (this.sync === undefined || !this.sync.leads) return false;
    let short = false;
    for (const [s, shard] of this.store.shards.entries()) {
      const { tombstones } = this.#bounds[s]!;
      if (shard.tombstones <= tombstones) continue;
      this.#collectTombstones(s, false);
      short ||= shard.tombstones > tombstones;
    }
    return short;
  }

  #collectTombstones(s: number, whoeverHolds: boolean): void {
    const shard = this.store.shards[s]!;
    // Counts what was written: only then it can be collected.
    this.sync!.written();
    const { tombstones } = shard;
    const least = Math.max(this.#bounds[s]!.tombstones / 2, tombstones - hostTableLimits.collectRows);
    for (let i = 0; i < shard.buckets && shard.tombstones > least; i++) {
      this.#roomFrom = (this.#roomFrom + 1) % shard.buckets;
      if (shard.counts(this.#roomFrom).tombstones > 0) this.sync!.collectHeld(s, this.#roomFrom, whoeverHolds);
    }
    this.sync!.written();
  }

  #evict(s: number, rows: number, max: number): number {
    const shard = this.store.shards[s]!;
    return shard.evict(rows * shard.rowBytes, max, this.#atOnce(s));
  }

  /** Rows that leave without a tombstone: there are too many of those already. */
  #atOnce(s: number): boolean {
    return this.sync === undefined && this.store.shards[s]!.tombstones >= this.#bounds[s]!.tombstones;
  }

  /** One slice of what is always to be done, some hundred microseconds: expiry, eviction, tombstones; begins a checkpoint when its time has come. `nowS`: seconds since 1970. */
  sweep(nowS: number): void {
    const { sliceRows, sliceBuckets } = hostTableLimits;
    const { expireAfterS } = this.config;
    for (const [s, shard] of this.store.shards.entries()) {
      if (this.#mayRemove) {
        if (expireAfterS !== undefined && nowS > expireAfterS) shard.expireUntouched(nowS - expireAfterS, sliceBuckets, sliceRows, this.#atOnce(s));
        const high = this.#high(s);
        if (shard.live > high) this.#evict(s, high, sliceRows);
      }
      this.#collect(s);
    }
    this.#collectFrom += sliceBuckets;
    this.sync?.swept();
    if (this.#clock.monotonicMs() >= this.#nextSaveMs) this.#saveInItsTime();
  }

  #collect(s: number): void {
    const shard = this.store.shards[s]!;
    const { tombstones } = shard;
    if (tombstones === 0) return;
    const { sliceRows, sliceBuckets } = hostTableLimits;
    const saved = this.#saved[s]!;
    const urgent = tombstones > this.#bounds[s]!.tombstones;
    for (let i = 0, left: number = sliceRows; i < Math.min(sliceBuckets, shard.buckets) && left > 0; i++) {
      const b = (this.#collectFrom + i) % shard.buckets;
      if (shard.counts(b).tombstones === 0) continue;
      if (urgent && this.sync !== undefined) {
        this.sync.collectHeld(s, b);
        continue;
      }
      const inCheckpoint = urgent ? lastVersion : { high: saved[2 * b]!, low: saved[2 * b + 1]! };
      const unneeded = this.sync?.collectUpTo(s, b) ?? lastVersion;
      left -= shard.collect(b, compareVersions(inCheckpoint, unneeded) < 0 ? inCheckpoint : unneeded, left);
    }
  }

  #saveInItsTime(): void {
    this.#nextSaveMs = Infinity;
    const began = this.#clock.monotonicMs();
    const done = (): void => {
      this.#nextSaveMs = Math.max(began + this.#everyMs, this.#clock.monotonicMs() + Math.min(1_000, this.#everyMs));
    };
    if (!this.#hasUnsaved()) done();
    // Its error stands in the status.
    else void this.save().then(done, done);
  }

  /** A checkpoint that holds everything written before the call; resolves when it is on disk. Calls that come while one is written share the next one. */
  save(): Promise<ParameterSaved> {
    this.#following ??= this.#running.then(() => {
      this.#following = undefined;
      const saving = this.#save();
      this.#running = saving.catch(() => undefined);
      return saving;
    });
    return this.#following;
  }

  async #save(): Promise<ParameterSaved> {
    const began = this.#clock.monotonicMs();
    const cut = { atMs: 0, writes: 0, left: 0, saved: this.#saved.map((): Uint32Array => new Uint32Array(0)) };
    try {
      const report = await this.#checkpointer.save({
        notes: (s) => {
          cut.saved[s] = this.#newest(s);
          if (s === 0) {
            cut.atMs = this.#clock.nowMs();
            cut.writes = this.#writes();
            cut.left = this.#left();
          }
          const more = this.sync?.notes(s) ?? new Uint8Array(0);
          const note = new Uint8Array(noteHeadBytes + more.length);
          new DataView(note.buffer).setFloat64(0, cut.atMs, true);
          note.set(more, noteHeadBytes);
          return note;
        },
      });
      for (const [s, saved] of this.#saved.entries()) saved.set(cut.saved[s]!);
      this.#savedWrites = cut.writes;
      this.#savedLeft = cut.left;
      const ms = this.#clock.monotonicMs() - began;
      this.#checkpoint = { id: report.number, atMs: cut.atMs, bytes: report.bytes, ms, files: report.files, unsavedRows: 0 };
      return { id: report.number, full: report.full, rows: report.entries, bytes: report.bytes, ms };
    } catch (thrown) {
      this.#checkpoint = { ...this.#checkpoint, error: (thrown as Error).message };
      throw thrown;
    }
  }

  #newest(s: number): Uint32Array {
    const shard = this.store.shards[s]!;
    const into = new Uint32Array(2 * shard.buckets);
    for (let b = 0; b < shard.buckets; b++) {
      const { high, low } = shard.newest(b);
      into[2 * b] = high;
      into[2 * b + 1] = low;
    }
    return into;
  }

  #noteSaved(s: number): void {
    this.#saved[s]!.set(this.#newest(s));
  }

  /** Versions that the buckets of a shard have given out. */
  #writesOf(s: number): number {
    const shard = this.store.shards[s]!;
    let sum = 0;
    for (let b = 0; b < shard.buckets; b++) sum += counterOf(shard.newest(b));
    return sum;
  }

  #writes(): number {
    let sum = 0;
    for (const s of this.store.shards.keys()) sum += this.#writesOf(s);
    return sum;
  }

  #left(): number {
    let sum = 0;
    for (const shard of this.store.shards) for (let b = 0; b < shard.buckets; b++) sum += shard.left(b);
    return sum;
  }

  /** Rows that only left count too: a restart would have them again. */
  #hasUnsaved(): boolean {
    return this.#writes() > this.#savedWrites || this.#left() !== this.#savedLeft;
  }

  /** About a millisecond. Counts of commands are the serving side's: 0 here. */
  status(): ParameterTableStatus {
    const { name, config, declared, store, sync } = this;
    const sum = {
      live: 0,
      tombstones: 0,
      usedBytes: 0,
      bytes: 0,
      refused: 0,
      heldBack: 0,
      skipped: 0,
      evicted: 0,
      expired: 0,
    } satisfies Partial<ShardStatistics>;
    for (const shard of store.shards) {
      const statistics = shard.statistics();
      for (const field of Object.keys(sum) as (keyof typeof sum)[]) sum[field] += statistics[field];
    }
    const { live, ...counted } = sum;
    const versions = Array.from(store.shards.keys(), (s) => this.#writesOf(s));
    return {
      name,
      state: "open",
      config,
      declared,
      dim: store.dim,
      shards: store.shards.length,
      rows: live,
      ...counted,
      pulls: 0,
      pulledRows: 0,
      missedRows: 0,
      pushes: 0,
      pushedRows: 0,
      checkpoint: { ...this.#checkpoint, unsavedRows: Math.max(0, versions.reduce((all, one) => all + one, 0) - this.#savedWrites) },
      versions,
      ...this.#touched(),
      ...(sync === undefined ? {} : { sync: sync.status() }),
    };
  }

  /** Of some buckets: each is a random sample of the keys. */
  #touched(): { hottestS: number; coldestS: number } {
    let hottestS = this.#hottestS;
    let coldestS = Infinity;
    const batch = this.#sample;
    const shard = this.store.shards[0]!;
    for (let b = 0, left: number = hostTableLimits.sampleBuckets; b < shard.buckets && left > 0; b++) {
      if (shard.counts(b).live === 0) continue;
      left--;
      const newest = shard.newest(b);
      batch.clear();
      shard.changes(b, noVersion, lastVersion, 1, batch);
      shard.changes(b, newest.low > 0 ? { high: newest.high, low: newest.low - 1 } : newest, newest, 1, batch);
      for (let i = 0; i < batch.count; i++) {
        if (batch.isTombstone(i)) continue;
        hottestS = Math.max(hottestS, batch.touched[i]!);
        coldestS = Math.min(coldestS, batch.touched[i]!);
      }
    }
    return { hottestS, coldestS: Number.isFinite(coldestS) ? coldestS : 0 };
  }

  /** Writes what was not written yet, and gives the memory back. */
  async close(): Promise<void> {
    this.#nextSaveMs = Infinity;
    await this.sync?.close();
    try {
      await this.#running;
      if (this.#hasUnsaved()) await this.save();
    } finally {
      this.store.release();
    }
  }

  /** Gives the memory back; nothing is written. */
  async discard(): Promise<void> {
    this.#nextSaveMs = Infinity;
    await this.sync?.close();
    await this.#following?.catch(() => undefined);
    await this.#running;
    this.store.release();
  }
}
