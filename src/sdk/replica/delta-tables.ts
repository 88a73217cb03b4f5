// The live rows of one table in this process: memtables that effects are put into, and that grow by moving into a larger one.
//   young <- every effect      old -> moved key by key into young where young has none of it, then given back
// Why two and not runs: a replica writes nothing to disk, so it needs neither flush nor compaction, and what it holds is bounded by the live rows of one table.
// Invariants: 1. the newest entry of a key is in `young`, or in `old` while `young` has none of it  2. a tombstone or an expired entry stays: it hides the base
// 3. memory of records that were replaced is taken back by the next move.
// Cost: a put 0.2 to 0.5 us; a move visits each entry once, `moveEntries` a step (about a millisecond). Twice the live bytes during a move.
// Concurrency: one thread. Limits: `bytesMax` of records; above it `put` throws `overloaded`.

import { assert, MillraceError } from "#base/errors";
import { absentSource, EntryRefs } from "#kernel/entry-refs";
import { EntryView, RecordBatch } from "#kernel/entry-record";
import { KeyBatch } from "#kernel/key-batch";
import type { KeySeed } from "#kernel/key-hash";
import type { KernelMemory } from "#kernel/kernel-memory";
import { MemTable, memTableBytes } from "#kernel/mem-table";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { markAbsent } from "#lsm/store";

export const deltaTableLimits = {
  /** Records of the first memtable. */
  bytesMin: 1 << 20,
  /** Entries that one step of a move looks at. */
  moveEntries: 512,
  /** Numbers of the sources that a look-up names: `young`, `old`. */
  sources: 2,
} as const;

/** A record takes at least so many bytes: the index is sized for it, and filled earlier by smaller ones. */
const recordBytesExpected = 48;
/** Beyond a record's own bytes in the record area: a number and rounding. */
const paddingBytesMax = 12;
/** The longest record with its key fits. */
const laneBytes = 1 << 20;

interface Held {
  readonly lease: MemoryLease;
  readonly table: MemTable;
}

export interface DeltaTablesOptions {
  readonly pool: MemoryPool;
  readonly owner: string;
  readonly seed: KeySeed;
  /** Records of both tables together. */
  readonly bytesMax: number;
}

export class DeltaTables {
  readonly #options: DeltaTablesOptions;
  #young: Held;
  #old: Held | undefined;
  #moved = 0;
  readonly #entry = new EntryView();
  readonly #keys = new KeyBatch();
  readonly #addresses = new Uint32Array(deltaTableLimits.moveEntries);
  readonly #records = new RecordBatch();
  readonly #moveRefs = new EntryRefs();

  constructor(options: DeltaTablesOptions) {
    this.#options = options;
    this.#young = this.#make(deltaTableLimits.bytesMin, 0);
  }

  /** Keys, tombstones too; a key that is being moved counts twice. */
  get entries(): number {
    return this.#young.table.count + (this.#old?.table.count ?? 0);
  }

  /** Bytes of records, those that were replaced and not yet taken back too. */
  get bytes(): number {
    return this.#young.table.recordBytes.used + (this.#old?.table.recordBytes.used ?? 0);
  }

  get isMoving(): boolean {
    return this.#old !== undefined;
  }

  memoryOf(source: number): KernelMemory {
    return source === 0 ? this.#young.lease.memory : this.#old!.lease.memory;
  }

  /** Puts `count` records that lie one behind another in `bytes[from, to)`. Throws `overloaded` when there is no room for them; those before are in. */
  put(bytes: Uint8Array, from: number, to: number, count: number): void {
    if (this.#old !== undefined && !this.#fitsBesideMove(to - from, count)) while (this.step());
    let at = from;
    let left = count;
    for (;;) {
      const { taken, next } = this.#young.table.putRecords(bytes, at, to, left);
      at = next;
      left -= taken;
      if (left === 0) return;
      this.#grow(to - at, left);
    }
  }

  /** Whether what is still to be moved has room beside so many records more. */
  #fitsBesideMove(bytes: number, count: number): boolean {
    const { table } = this.#young;
    const old = this.#old!.table;
    const { used, max } = table.recordBytes;
    return table.count + count + old.count - this.#moved <= table.entriesMax && used + bytes + count * paddingBytesMax + old.recordBytes.used <= max;
  }

  /** As Store.getMany: newest of each key, tombstones and expired entries as absent but hidden. */
  getMany(keys: KeyBatch, refs: EntryRefs, nowMs: number): void {
    const { count } = keys;
    refs.reset(count);
    if (this.#young.table.count > 0) this.#young.table.probe(keys, refs, 0);
    if (this.#old !== undefined && refs.found < count) this.#old.table.probe(keys, refs, 1);
    if (refs.found === 0) {
      refs.at.fill(0, 0, count);
      return;
    }
    const { source, kind, expiryMs, at, timed } = refs;
    for (let i = 0; i < count; i++) {
      if (source[i] === absentSource) at[i] = 0;
      else if (kind[i] === 0 || (timed && expiryMs[i]! > 0 && expiryMs[i]! <= nowMs)) markAbsent(refs, i, true);
    }
  }

  /** About a millisecond of moving; false when nothing is left to move. */
  step(): boolean {
    const old = this.#old;
    if (old === undefined) return false;
    const { table } = old;
    if (!table.isOrdered) {
      table.orderStep();
      return true;
    }
    const count = table.addresses(this.#moved, deltaTableLimits.moveEntries, this.#addresses);
    if (count === 0) {
      this.#old = undefined;
      old.lease.release();
      return false;
    }
    this.#keys.clear();
    const entry = this.#entry;
    for (let i = 0; i < count; i++) this.#keys.add(table.entryAt(this.#moved + i, entry).key());
    const refs = this.#moveRefs;
    refs.reset(count);
    this.#young.table.probe(this.#keys, refs, 0);
    this.#records.clear();
    for (let i = 0; i < count; i++) {
      if (refs.source[i] !== absentSource) continue;
      table.entryAt(this.#moved + i, entry);
      this.#records.add(entry.key(), entry.kind, entry.value(), entry.expiryMs, entry.timeMs);
    }
    assert(this.#young.table.put(this.#records) === this.#records.count, "put keeps room for what is moved");
    this.#moved += count;
    return true;
  }

  release(): void {
    this.#young.lease.release();
    this.#old?.lease.release();
    this.#old = undefined;
  }

  #grow(bytesMore: number, countMore: number): void {
    // Full again before the last move was over: it ends now, which takes longer than a step.
    while (this.step());
    const { count, recordBytes } = this.#young.table;
    const needed = recordBytes.used + bytesMore + countMore * paddingBytesMax;
    const { bytesMax } = this.#options;
    if (needed > bytesMax) {
      throw new MillraceError("overloaded", `live rows of ${needed} bytes in a replica that takes ${bytesMax}`, {
        todo: "raise deltaBytesMax, or import the table anew so that the server can let old live rows go",
      });
    }
    this.#old = this.#young;
    this.#moved = 0;
    this.#young = this.#make(Math.max(deltaTableLimits.bytesMin, 2 * needed), 2 * (count + countMore));
  }

  #make(recordBytesMax: number, entriesLeast: number): Held {
    const size = { entriesMax: Math.max(1_024, entriesLeast, Math.ceil(recordBytesMax / recordBytesExpected)), recordBytesMax };
    const { pool, owner, seed } = this.#options;
    const lease = pool.lease({ owner, dataBytes: memTableBytes(size), laneBytes });
    return { lease, table: MemTable.create(lease.memory, size, seed) };
  }
}
