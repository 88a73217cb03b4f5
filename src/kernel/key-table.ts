// Index of byte-string keys to row numbers 0, 1, 2, ... in order of insertion, in a kernel memory. Layout: kernels/key-table.ts.
// Why rows in order of insertion: columns beside the table are plain arrays, and a probe's answer goes straight into a gather.
// Invariants: 1. a key has one row for ever; nothing is removed (a version or a row's own state says what is gone)
//             2. found means: all bytes of the key are equal  3. at most 3/4 of the slots are taken, so a probe ends.
// Cost: 8 bytes a slot, 1.33 to 2.67 slots a key, and 8 bytes + the key rounded up to 8; a probe is about two cache misses, overlapped over 32.
// Concurrency: one thread inserts, any number probe meanwhile, each through its own lane.
// Limits: keyLimits.keyBytesMax a key; a table and its memory at most 4 GiB. A full table takes no more: the caller makes a larger one.

import { MillraceError } from "#base/errors";
import { keyTableScratchBytes } from "./kernel-calls.ts";
import { type KernelMemory, roundUp } from "./kernel-memory.ts";
import type { KeyBatch } from "./key-batch.ts";
import type { KeySeed } from "./key-hash.ts";
import { throughLane } from "./key-lane.ts";

/** "KTB1": the layout of kernels/key-table.ts. */
const layout = 0x3142544b;
const headerBytes = 64;
const firstRecord = 8;
const tailBytes = 64;

export interface KeyTableSize {
  /** Keys it must hold. */
  readonly keysMax: number;
  /** Sum of the lengths of those keys, bytes. */
  readonly keyBytesMax: number;
}

function slotsFor(keysMax: number): number {
  return Math.max(16, 2 ** Math.ceil(Math.log2(Math.ceil(keysMax / 0.75))));
}

function recordBytesFor(size: KeyTableSize): number {
  // 8 of head and up to 7 of padding a key.
  return roundUp(firstRecord + size.keyBytesMax + size.keysMax * 15, 8);
}

/** Bytes to reserve for a table of this size. */
export function keyTableBytes(size: KeyTableSize): number {
  return headerBytes + slotsFor(size.keysMax) * 8 + recordBytesFor(size) + tailBytes;
}

export class KeyTable {
  readonly #memory: KernelMemory;
  /** Its address: another thread attaches with it. */
  readonly at: number;

  private constructor(memory: KernelMemory, at: number) {
    this.#memory = memory;
    this.at = at;
  }

  /** An empty table in the data area of `memory`. The seed should be random for keys that strangers choose. */
  static create(memory: KernelMemory, size: KeyTableSize, seed: KeySeed): KeyTable {
    if (!Number.isInteger(size.keysMax) || size.keysMax < 1 || size.keysMax > 2 ** 28 || !Number.isInteger(size.keyBytesMax) || size.keyBytesMax < 0) {
      throw new MillraceError("invalid", `a key table for ${size.keysMax} keys of ${size.keyBytesMax} bytes together`, {
        todo: "use whole numbers, 1 to 2^28 keys",
      });
    }
    const slots = slotsFor(size.keysMax);
    const slotBytes = slots * 8;
    const recordBytes = recordBytesFor(size);
    const at = memory.reserve(keyTableBytes(size));
    memory.bytes.fill(0, at, at + headerBytes + slotBytes + firstRecord);
    memory.u32.set([layout, slots - 1, headerBytes, headerBytes + slotBytes, recordBytes, firstRecord, 0, size.keysMax, seed.low, seed.high], at / 4);
    return new KeyTable(memory, at);
  }

  /** The table that another thread made at `at`. Throws `corrupt` when there is none. */
  static attach(memory: KernelMemory, at: number): KeyTable {
    if (memory.u32[at / 4] !== layout) throw new MillraceError("corrupt", `no key table at address ${at}`, { todo: "attach with the address of a KeyTable" });
    return new KeyTable(memory, at);
  }

  /** Keys in the table = rows given out. */
  get count(): number {
    return Atomics.load(this.#memory.u32, this.at / 4 + 6);
  }

  get keysMax(): number {
    return this.#memory.u32[this.at / 4 + 7]!;
  }

  /** Bytes of the record area in use, and its size. The table is full when either this or the count reaches its end. */
  get recordBytes(): { readonly used: number; readonly max: number } {
    return { used: this.#memory.u32[this.at / 4 + 5]!, max: this.#memory.u32[this.at / 4 + 4]! };
  }

  /**
   * Inserts the keys in order; `rows[i]` = row of key i, its old one when it was there. New keys get rows `count`, `count + 1`, ...
   * Returns how many keys were handled: fewer than `keys.count` when the table became full; the rest is not in it.
   */
  insert(keys: KeyBatch, rows: Uint32Array): number {
    const memory = this.#memory;
    checkRows(keys, rows);
    let handled = 0;
    throughLane(memory, keys, keyTableScratchBytes, 4, ({ keysAt, offsetsAt, first, count, resultAt, scratchAt }) => {
      const done = memory.calls.keyTableInsert(this.at, keysAt, offsetsAt, count, resultAt, scratchAt) >>> 0;
      rows.set(memory.u32.subarray(resultAt / 4, resultAt / 4 + done), first);
      handled += done;
      return done === count;
    });
    return handled;
  }

  /** Looks up all keys; `rows[i]` = row of key i, or `absentRow`. Returns how many were found. */
  probe(keys: KeyBatch, rows: Uint32Array): number {
    const memory = this.#memory;
    checkRows(keys, rows);
    let found = 0;
    throughLane(memory, keys, keyTableScratchBytes, 4, ({ keysAt, offsetsAt, first, count, resultAt, scratchAt }) => {
      found += memory.calls.keyTableProbe(this.at, keysAt, offsetsAt, count, resultAt, scratchAt) >>> 0;
      rows.set(memory.u32.subarray(resultAt / 4, resultAt / 4 + count), first);
      return true;
    });
    return found;
  }
}

function checkRows(keys: KeyBatch, rows: Uint32Array): void {
  if (rows.length < keys.count) throw new MillraceError("invalid", `${keys.count} rows into ${rows.length} words`, { todo: "give an array of a word a key" });
}
