// The mutable end of a store: entries by key in a kernel memory, looked up in batches, walked in key order. Layout: kernels/mem-table.ts.
// Why search groups of twelve tags in one cache line: one miss answers for an absent key, two for a found one, and a table may be filled
// to 80 %. Why records behind one another: a put is one copy, and a flush reads them as they are.
// Invariants: 1. an entry is never removed: a delete puts a tombstone  2. a record is complete before a reference names it, so with
//             `threads: true` other threads may probe while one puts  3. a record that was replaced stays where it is: views of it stay
//             valid until the table is cleared. Without `threads` a value of the same size (rounded up to 8) is overwritten in place
//             4. the order covers the entries that were there when it was made; `orderStep` brings it up to date, keys only ever join.
// Cost: 6.7 bytes a key of groups, 28 of numbers and order, 8 beside each record; a put some 0.2-0.5 us, a probe as of a run.
// Concurrency: one thread puts and orders; others probe through lanes of their own. Limits: 2^28 entries; one memory.

import { MillraceError } from "#base/errors";
import { groupBytes, groupSlots, memTableHeaderBytes, memTableWords, probeScratchBytes, sortItemBytes, sortStackBytes } from "./entry-layout.ts";
import { probeEntries } from "./entry-probe.ts";
import { type EntryView, readEntry, type RecordBatch, recordBytes, recordEnd, writeRecord } from "./entry-record.ts";
import type { EntryRefs } from "./entry-refs.ts";
import { type KernelMemory, roundUp } from "./kernel-memory.ts";
import type { KeyBatch } from "./key-batch.ts";
import type { KeySeed } from "./key-hash.ts";

/** "MEM1". */
const magic = 0x314d454d;
const load = 0.8;
const overreadBytes = 64;
/** Where a sort item holds the number of its entry. */
const numberWord = 12;
const recordTailBytes = 64;

export const memTableLimits = {
  entriesMax: 2 ** 28,
  /** Entries that one `orderStep` merges in. */
  mergeEntries: 512,
  /** Work of one `orderStep` that sorts everything anew, about a millisecond: items made, item visits, places written. */
  stepItems: 8_192,
  stepVisits: 150_000,
  stepPlaces: 262_144,
} as const;

export interface MemTableSize {
  /** Distinct keys it must hold. */
  readonly entriesMax: number;
  /** Bytes of records: `memRecordBytes` of each entry, and of each overwriting that does not fit in place. */
  readonly recordBytesMax: number;
  /** Other threads probe while one puts: nothing is overwritten in place. Default false. */
  readonly threads?: boolean;
}

/** Bytes of the record area that one entry takes. */
export function memRecordBytes(keyBytes: number, valueBytes: number, expiryMs: number, timeMs: number): number {
  return roundUp(4 + recordBytes(keyBytes, valueBytes, expiryMs, timeMs), 8);
}

function shapeOf(size: MemTableSize): {
  groups: number;
  groupsFrom: number;
  numbersFrom: number;
  orderFrom: number;
  itemsFrom: number;
  recordsFrom: number;
  end: number;
} {
  const { entriesMax, recordBytesMax } = size;
  if (!Number.isInteger(entriesMax) || entriesMax < 1 || entriesMax > memTableLimits.entriesMax || !Number.isInteger(recordBytesMax) || recordBytesMax < 0) {
    throw new MillraceError("invalid", `a memtable for ${entriesMax} entries of ${recordBytesMax} bytes together`, {
      todo: `use whole numbers, 1 to ${memTableLimits.entriesMax} entries`,
    });
  }
  const groups = Math.ceil(entriesMax / (groupSlots * load)) + 1;
  const groupsFrom = memTableHeaderBytes;
  const numbersFrom = groupsFrom + groups * groupBytes;
  const orderFrom = roundUp(numbersFrom + 4 * entriesMax, 64);
  const itemsFrom = orderFrom + 2 * roundUp(4 * entriesMax, 64);
  const recordsFrom = roundUp(itemsFrom + sortItemBytes * entriesMax + sortStackBytes, 64);
  return { groups, groupsFrom, numbersFrom, orderFrom, itemsFrom, recordsFrom, end: recordsFrom + roundUp(recordBytesMax, 64) };
}

/** Bytes to reserve for a table of this size. */
export function memTableBytes(size: MemTableSize): number {
  return shapeOf(size).end + recordTailBytes;
}

export class MemTable {
  readonly memory: KernelMemory;
  /** Its address: another thread attaches with it. */
  readonly at: number;
  readonly #t: number;
  /** A sort of everything under way: how many entries it covers (0 = none), and how far it came in making items and writing places. */
  #sorting = 0;
  #made = 0;
  #placed = 0;

  private constructor(memory: KernelMemory, at: number) {
    this.memory = memory;
    this.at = at;
    this.#t = at / 4;
  }

  /** An empty table in the data area of `memory`. The seed should be random: keys may be chosen by strangers. */
  static create(memory: KernelMemory, size: MemTableSize, seed: KeySeed): MemTable {
    const shape = shapeOf(size);
    if (shape.end > 2 ** 32) throw new MillraceError("invalid", `a memtable of ${shape.end} bytes`, { todo: "use a smaller one: a memory has 4 GiB" });
    const at = memory.reserve(memTableBytes(size));
    const t = at / 4;
    const { u32 } = memory;
    const w = memTableWords;
    u32.fill(0, t, t + memTableHeaderBytes / 4);
    u32[t + w.groups] = shape.groups;
    u32[t + w.groupsFrom] = shape.groupsFrom;
    u32[t + w.numbersFrom] = shape.numbersFrom;
    u32[t + w.recordsFrom] = shape.recordsFrom;
    u32[t + w.recordsEnd] = shape.end;
    u32[t + w.countMax] = size.entriesMax;
    u32[t + w.orderFrom] = shape.orderFrom;
    u32[t + w.itemsFrom] = shape.itemsFrom;
    u32[t + w.frozenRecords] = size.threads === true ? 1 : 0;
    const table = new MemTable(memory, at);
    table.clear(seed);
    u32[t] = magic;
    return table;
  }

  /** The table that another thread made at `at`. Throws `corrupt` when there is none. */
  static attach(memory: KernelMemory, at: number): MemTable {
    if (memory.u32[at / 4] !== magic) throw new MillraceError("corrupt", `no memtable at address ${at}`, { todo: "attach with the address of a MemTable" });
    return new MemTable(memory, at);
  }

  #word(word: number): number {
    return this.memory.u32[this.#t + word]!;
  }

  /** Empties the table; what views showed is overwritten by later puts. No other thread may be probing. */
  clear(seed: KeySeed): void {
    const { u32 } = this.memory;
    const w = memTableWords;
    const from = this.#t + this.#word(w.groupsFrom) / 4;
    // By words: in shared memory `fill` goes entry by entry, bytes take 3.7 ms for the 4 MiB of a usual table, words 0.5, on the serving loop.
    u32.fill(0, from, from + this.#word(w.groups) * (groupBytes / 4));
    u32[this.#t + w.recordsUsed] = this.#word(w.recordsFrom);
    u32[this.#t + w.seedLow] = seed.low;
    u32[this.#t + w.seedHigh] = seed.high;
    u32[this.#t + w.ordered] = 0;
    u32[this.#t + w.tombstonesEver] = 0;
    Atomics.store(u32, this.#t + w.count, 0);
    this.#sorting = 0;
  }

  /** Distinct keys, tombstones too. */
  get count(): number {
    return Atomics.load(this.memory.u32, this.#t + memTableWords.count);
  }
  get entriesMax(): number {
    return this.#word(memTableWords.countMax);
  }
  /** Bytes of the record area in use, and its size. The table is full when either this or the count reaches its end. */
  get recordBytes(): { readonly used: number; readonly max: number } {
    const from = this.#word(memTableWords.recordsFrom);
    return { used: this.#word(memTableWords.recordsUsed) - from, max: this.#word(memTableWords.recordsEnd) - from };
  }
  /** Tombstones put so far; some may have been overwritten since. */
  get tombstonesEver(): number {
    return this.#word(memTableWords.tombstonesEver);
  }

  /** Puts all records of the batch, in order; returns how many: fewer when the table is full. Throws as `putRecords`. */
  put(batch: RecordBatch): number {
    return this.putRecords(batch.bytes, 0, batch.used, batch.count).taken;
  }

  /**
   * Puts `count` records that lie one behind the other in `bytes[from, to)`, in order, a later one over an earlier one of its key.
   * `taken` of them were put, they end at `next`; fewer than `count` when the table is full.
   * Throws `corrupt` at a malformed record (those before it are in), `invalid` when a record exceeds the lane.
   */
  putRecords(bytes: Uint8Array, from: number, to: number, count: number): { readonly taken: number; readonly next: number } {
    const { memory } = this;
    const { lane } = memory;
    let taken = 0;
    let next = from;
    while (taken < count) {
      lane.reset();
      const scratchAt = lane.take(probeScratchBytes);
      const room = lane.free - overreadBytes;
      const part = Math.min(to - next, room);
      const at = lane.take(part + overreadBytes);
      memory.bytes.set(bytes.subarray(next, next + part), at);
      const done = memory.calls.memTablePut(this.at, at, part, count - taken, scratchAt) >>> 0;
      const used = memory.u32[scratchAt / 4]!;
      const malformed = memory.u32[scratchAt / 4 + 1] === 1;
      taken += done;
      next += used;
      if (taken === count) break;
      if (!malformed) return { taken, next };
      // Whole only in the next part, or longer than a part, or no record.
      const end = recordEnd(bytes, next, to);
      if (end < 0) {
        throw new MillraceError("corrupt", `record ${taken} of ${count} is malformed, at byte ${next} of the batch`, {
          todo: "check where the batch came from",
        });
      }
      if (end - next > room) {
        throw new MillraceError("invalid", `a record of ${end - next} bytes exceeds the lane`, { todo: "give the memory larger lanes (laneBytes)" });
      }
    }
    return { taken, next };
  }

  /** Puts one record; false when the table is full. Throws `invalid` beyond the limits of a record or of the lane. */
  putOne(key: Uint8Array, kind: number, value: Uint8Array, expiryMs = 0, timeMs = 0): boolean {
    const { memory } = this;
    const { lane } = memory;
    lane.reset();
    const scratchAt = lane.take(probeScratchBytes);
    const size = recordBytes(key.length, value.length, expiryMs, timeMs);
    const at = lane.take(size + overreadBytes);
    writeRecord(memory.bytes, at, key, kind, value, expiryMs, timeMs);
    return memory.calls.memTablePut(this.at, at, size, 1, scratchAt) >>> 0 === 1;
  }

  /**
   * Looks up the keys of which no source is known yet; those found get the number `source` (0 to 254). Returns how many were found,
   * tombstones too. Any thread, through its own lane.
   */
  probe(keys: KeyBatch, refs: EntryRefs, source: number): number {
    const w = memTableWords;
    return probeEntries(
      this.memory,
      {
        groupsAt: this.at + this.#word(w.groupsFrom),
        groups: this.#word(w.groups),
        base: this.at,
        limit: this.#word(w.recordsEnd),
        seedLow: this.#word(w.seedLow),
        seedHigh: this.#word(w.seedHigh),
        isStriped: true,
      },
      keys,
      refs,
      source,
    );
  }

  // ---- order ----

  /** Entries that the order holds; `isOrdered` when it is all of them. */
  get orderedCount(): number {
    return this.#word(memTableWords.ordered);
  }
  get isOrdered(): boolean {
    return this.orderedCount === this.count;
  }

  /**
   * Brings the order up to date by about a millisecond of work; true when it holds every entry. What came since the last time is merged in
   * when it is little; otherwise everything is sorted anew, over several steps, while the old order stays usable.
   */
  orderStep(): boolean {
    const { calls, u32 } = this.memory;
    const { mergeEntries, stepItems, stepVisits, stepPlaces } = memTableLimits;
    const items = this.#itemsAt();
    if (this.#sorting === 0) {
      const ordered = this.orderedCount;
      const fresh = this.count - ordered;
      if (fresh === 0) return true;
      if (fresh <= mergeEntries || fresh <= ordered / 64) {
        const size = Math.min(fresh, mergeEntries);
        calls.memTableItems(this.at, ordered, size, items);
        calls.entrySortBegin(this.#stackAt(), size);
        calls.entrySort(items, this.#stackAt(), 0x7fffffff);
        calls.memTableMerge(this.at, items, size, this.#orderAt(), ordered, this.#orderAt(true));
        this.#turn(ordered + size);
        return this.isOrdered;
      }
      this.#sorting = this.count;
      this.#made = 0;
      this.#placed = 0;
      calls.entrySortBegin(this.#stackAt(), this.#sorting);
    }
    if (this.#made < this.#sorting) {
      const size = Math.min(stepItems, this.#sorting - this.#made);
      calls.memTableItems(this.at, this.#made, size, items + this.#made * sortItemBytes);
      this.#made += size;
      return false;
    }
    if (this.#placed === 0 && calls.entrySort(items, this.#stackAt(), stepVisits) === 0) return false;
    const size = Math.min(stepPlaces, this.#sorting - this.#placed);
    calls.entrySortTake(items + this.#placed * sortItemBytes, size, numberWord, this.#orderAt(true) + 4 * this.#placed);
    this.#placed += size;
    if (this.#placed < this.#sorting) return false;
    u32[this.#t + memTableWords.ordered] = 0;
    this.#turn(this.#sorting);
    this.#sorting = 0;
    return this.isOrdered;
  }

  /** The other order becomes the valid one. */
  #turn(count: number): void {
    const { u32 } = this.memory;
    u32[this.#t + memTableWords.orderSide] = 1 - this.#word(memTableWords.orderSide);
    u32[this.#t + memTableWords.ordered] = count;
  }

  /** Brings the order up to date at once: for flushes and tests; on a serving loop use `orderStep`. */
  order(): void {
    while (!this.orderStep());
  }

  #orderAt(other = false): number {
    const side = this.#word(memTableWords.orderSide);
    return this.at + this.#word(memTableWords.orderFrom) + (other ? 1 - side : side) * roundUp(4 * this.entriesMax, 64);
  }

  /** Address of the record at a place in the order, for readEntry. `place` < orderedCount. */
  addressAt(place: number): number {
    const { u32 } = this.memory;
    const number = u32[this.#orderAt() / 4 + place]!;
    return this.at + u32[(this.at + this.#word(memTableWords.numbersFrom)) / 4 + number]!;
  }

  /** Writes the addresses of `count` records from a place in the order on; returns how many there were. */
  addresses(place: number, count: number, into: Uint32Array): number {
    const { u32 } = this.memory;
    const { at } = this;
    const order = this.#orderAt() / 4;
    const numbers = (at + this.#word(memTableWords.numbersFrom)) / 4;
    const end = Math.min(place + count, this.orderedCount);
    for (let i = place; i < end; i++) into[i - place] = at + u32[numbers + u32[order + i]!]!;
    return Math.max(0, end - place);
  }

  /** Reads the entry at a place in the order. */
  entryAt(place: number, into: EntryView): EntryView {
    return readEntry(this.memory, this.addressAt(place), into);
  }

  /** First place in the order whose key is >= `key` (orderedCount when there is none). */
  seek(key: Uint8Array): number {
    const { lane, bytes, calls } = this.memory;
    lane.reset();
    const keyAt = lane.take(key.length + overreadBytes);
    bytes.set(key, keyAt);
    return calls.memTableSeek(this.at, this.#orderAt(), this.orderedCount, keyAt, key.length) >>> 0;
  }

  #itemsAt(): number {
    return this.at + this.#word(memTableWords.itemsFrom);
  }

  #stackAt(): number {
    return this.#itemsAt() + sortItemBytes * this.entriesMax;
  }
}
