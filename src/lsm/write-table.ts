// A memtable of the store with its memory and its place in the log.
// Concurrency: the store's thread puts, probes and orders. Once it is handed to the worker for its flush, only the worker orders it.
// Lanes of its memory: 0 the store's thread, 1 the worker.

import { assert } from "#base/errors";
import type { KeySeed } from "#kernel/key-hash";
import { roundUp } from "#kernel/kernel-memory";
import { MemTable, memTableBytes, type MemTableSize } from "#kernel/mem-table";
import type { LeaseTicket, MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { runWriterBytes, type RunWriterSize } from "#kernel/run-writer";

export const storeLane = 0;
export const workerLane = 1;
export const tableLanes = 2;
/** Bounds the longest record: `storeLimits.valueBytesMax` with the longest key fits. */
export const tableLaneBytes = 1 << 20;

/** What the worker needs to flush it. */
export interface TableTicket {
  readonly ticket: LeaseTicket;
  readonly at: number;
  /** Bytes of the data area in front of what the worker may use. */
  readonly bytes: number;
}

/** The run writer that lies behind a table, for its flush: entries are then written without leaving their memory. */
export function tableWriterSize(entriesMax: number, recordBytesMax: number): RunWriterSize {
  return { entriesMax, recordBytesMax };
}

/** Average bytes of a record for which the index is sized; smaller ones fill the index first. */
const recordBytesExpected = 64;

export class WriteTable {
  /** Its number among the sources of a look-up, for as long as it lives. */
  readonly source: number;
  readonly #lease: MemoryLease;
  #table: MemTable;
  readonly #size: MemTableSize;
  #handedOver = false;
  /** Offset after its last effect. */
  endOffset: number;
  /** Bytes of effects that went into it: what a restart replays. */
  loggedBytes = 0;
  /** When its first effect came, monotonic; undefined while it is empty. */
  sinceMs: number | undefined;

  private constructor(lease: MemoryLease, table: MemTable, size: MemTableSize, source: number, offset: number) {
    this.#lease = lease;
    this.#size = size;
    this.#table = table;
    this.source = source;
    this.endOffset = offset;
  }

  static sizeOf(recordBytesMax: number): MemTableSize {
    return { entriesMax: Math.max(1_024, Math.ceil(recordBytesMax / recordBytesExpected)), recordBytesMax };
  }

  /** Bytes of memory that a table for so many bytes of records takes, lanes not counted. */
  static bytesFor(recordBytesMax: number): number {
    const size = WriteTable.sizeOf(recordBytesMax);
    return memTableBytes(size) + runWriterBytes(tableWriterSize(size.entriesMax, roundUp(size.recordBytesMax, 64))) + 128;
  }

  /** An empty one. Throws `overloaded` when the pool has no room. */
  static create(pool: MemoryPool, owner: string, recordBytesMax: number, seed: KeySeed, source: number, offset: number): WriteTable {
    const size = WriteTable.sizeOf(recordBytesMax);
    const dataBytes = WriteTable.bytesFor(recordBytesMax);
    const lease = pool.lease({ owner, dataBytes, lanes: tableLanes, laneBytes: tableLaneBytes });
    return new WriteTable(lease, MemTable.create(lease.memory, size, seed), size, source, offset);
  }

  get table(): MemTable {
    return this.#table;
  }

  /** Of the whole memory that it lies in. */
  get memoryBytes(): number {
    return this.#lease.memory.bytes.length;
  }

  get isEmpty(): boolean {
    return this.#table.count === 0;
  }

  /** Whether a batch surely fits: each entry takes its bytes, a reference and padding. */
  fits(count: number, bytes: number): boolean {
    const { used, max } = this.#table.recordBytes;
    return this.#table.count + count <= this.#table.entriesMax && used + bytes + count * 12 <= max;
  }

  /** Puts encoded entries that fit; `endOffset`: after them. */
  apply(entries: Uint8Array, count: number, endOffset: number, nowMs: number): void {
    const { taken } = this.#table.putRecords(entries, 0, entries.length, count);
    assert(taken === count, `a memtable with room took ${taken} of ${count} effects`);
    this.endOffset = endOffset;
    this.loggedBytes += entries.length;
    this.sinceMs ??= nowMs;
  }

  /** Whether the store's thread may bring it into order. */
  get isOwn(): boolean {
    return !this.#handedOver;
  }

  /** Works for about a millisecond towards key order; true when it is there. */
  orderStep(): boolean {
    return this.#table.isOrdered || (!this.#handedOver && this.#table.orderStep());
  }

  /** From here on the worker orders it. */
  handOver(): TableTicket {
    this.#handedOver = true;
    // A sort that was under way here is forgotten: the worker begins its own in the same place.
    this.#table = MemTable.attach(this.#lease.memory, this.#table.at);
    return { ticket: this.#lease.ticket, at: this.#table.at, bytes: memTableBytes(this.#size) };
  }

  /** The worker is through with it, whatever came of it. */
  takeBack(): void {
    this.#handedOver = false;
  }

  release(): void {
    this.#lease.release();
  }
}
