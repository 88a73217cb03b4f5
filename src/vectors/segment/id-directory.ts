// Ids of slots and slots of ids: UTF-8 bytes one id behind the other, where each begins, and a table that finds them, all in the memory of a segment.
//
// The table holds no hash, only a slot and, in the bits that slots do not need, a part of the id's hash, which saves comparisons. Whole ids decide. It is built when a segment is
// loaded (0.1 to 0.2 us an id) and so cannot disagree with the ids.
// Invariants: 1. each slot that has an id is in the table once, ids are unique  2. at most half of the table is taken.
// Cost: 8 to 16 bytes a row and the id; a look-up hashes once and compares about one id. Concurrency: one thread.

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { KeySeed } from "#kernel/key-hash";
import { vectorLimits } from "../vector-service.ts";

/** Ids hashed at a time. */
const hashedTogether = 1_024;
/** Entries of the table made empty between two pauses. */
const clearedTogether = 1 << 16;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

function entriesFor(rows: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(16, 2 * rows)));
}

export class IdDirectory {
  readonly #memory: KernelMemory;
  readonly #idsAt: number;
  readonly #startsAt: number;
  readonly #slots: number;
  readonly #tableAt: number;
  readonly #mask: number;
  readonly #slotMask: number;
  readonly #seed: KeySeed;

  static bytes(rows: number): number {
    return entriesFor(rows) * 4;
  }

  /** `startsAt`: slots + 1 u32, checked already: rising, up to the bytes at `idsAt`. A slot whose id is empty has none. */
  constructor(memory: KernelMemory, ids: { readonly idsAt: number; readonly startsAt: number; readonly slots: number; readonly rows: number }, seed: KeySeed) {
    this.#memory = memory;
    this.#idsAt = ids.idsAt;
    this.#startsAt = ids.startsAt;
    this.#slots = ids.slots;
    const entries = entriesFor(ids.rows);
    this.#mask = entries - 1;
    this.#slotMask = 2 ** Math.ceil(Math.log2(ids.slots + 2)) - 1;
    this.#tableAt = memory.reserve(entries * 4);
    this.#seed = seed;
  }

  /** Enters all ids: before it nothing is found. `pause`: called after every some tenths of a millisecond. Throws `corrupt` when two are equal. */
  async fill(pause: (() => Promise<void>) | undefined): Promise<void> {
    const { u32, lane, calls } = this.#memory;
    const table = this.#tableAt / 4;
    const starts = this.#startsAt / 4;
    // The first touch of a page costs more than its zeros.
    for (let from = 0; from <= this.#mask; from += clearedTogether) {
      u32.fill(0, table + from, table + Math.min(this.#mask + 1, from + clearedTogether));
      await pause?.();
    }
    for (let from = 0; from < this.#slots; from += hashedTogether) {
      const count = Math.min(hashedTogether, this.#slots - from);
      lane.reset();
      const hashes = lane.take(count * 8);
      calls.hashKeys(this.#idsAt, this.#startsAt + from * 4, count, this.#seed.low, this.#seed.high, hashes);
      for (let i = 0; i < count; i++) {
        const slot = from + i;
        if (u32[starts + slot] === u32[starts + slot + 1]) continue;
        const entry = this.#entry(slot, u32[hashes / 4 + 2 * i + 1]!);
        let at = u32[hashes / 4 + 2 * i]! & this.#mask;
        for (let found = u32[table + at]!; found !== 0; found = u32[table + (at = (at + 1) & this.#mask)]!) {
          if (((found ^ entry) & ~this.#slotMask) === 0 && this.#equal((found & this.#slotMask) - 1, slot)) {
            throw new MillraceError("corrupt", "a segment in which two rows have the same id", { todo: "build it again" });
          }
        }
        u32[table + at] = entry;
      }
      await pause?.();
    }
  }

  #entry(slot: number, high: number): number {
    return ((slot + 1) | (high & ~this.#slotMask)) >>> 0;
  }

  #equal(a: number, b: number): boolean {
    const { u32, bytes } = this.#memory;
    const starts = this.#startsAt / 4;
    const from = this.#idsAt + u32[starts + a]!;
    const other = this.#idsAt + u32[starts + b]!;
    const size = u32[starts + a + 1]! - u32[starts + a]!;
    if (size !== u32[starts + b + 1]! - u32[starts + b]!) return false;
    for (let i = 0; i < size; i++) if (bytes[from + i] !== bytes[other + i]) return false;
    return true;
  }

  slotOf(id: Uint8Array | string): number | undefined {
    const key = typeof id === "string" ? encoder.encode(id) : id;
    if (key.length === 0 || key.length > vectorLimits.elementBytesMax) return undefined;
    const { u32, bytes, lane, calls } = this.#memory;
    lane.reset();
    const offsets = lane.take(8);
    const hash = lane.take(8);
    const keyAt = lane.take(key.length + 16);
    u32[offsets / 4] = 0;
    u32[offsets / 4 + 1] = key.length;
    bytes.set(key, keyAt);
    calls.hashKeys(keyAt, offsets, 1, this.#seed.low, this.#seed.high, hash);
    const high = u32[hash / 4 + 1]! & ~this.#slotMask;
    const table = this.#tableAt / 4;
    const starts = this.#startsAt / 4;
    for (let at = u32[hash / 4]! & this.#mask; ; at = (at + 1) & this.#mask) {
      const found = u32[table + at]!;
      if (found === 0) return undefined;
      if (((found ^ high) & ~this.#slotMask) !== 0) continue;
      const slot = (found & this.#slotMask) - 1;
      const from = u32[starts + slot]!;
      if (u32[starts + slot + 1]! - from !== key.length) continue;
      let i = 0;
      while (i < key.length && bytes[this.#idsAt + from + i] === key[i]) i++;
      if (i === key.length) return slot;
    }
  }

  idOf(slot: number): string | undefined {
    const { u32, bytes } = this.#memory;
    const from = u32[this.#startsAt / 4 + slot]!;
    const to = u32[this.#startsAt / 4 + slot + 1]!;
    if (slot < 0 || slot >= this.#slots || from === to) return undefined;
    // A decoder takes no shared memory.
    return decoder.decode(bytes.slice(this.#idsAt + from, this.#idsAt + to));
  }
}
