// Slots of every item's document, in the memory of the live model: written by the serving loop when a document changes, read by whoever makes vectors.
//
//   header   64 bytes: u32 magic, itemsMax, slotsMax, words of a row, changes, rowCount, address of the ring, of the rows
//   ring     u32[ringLength]: the items of the last changes; change n stands at n & (ringLength - 1)
//   rows     u32 seq, flags (0 none, 1 hidden, 2 available), count, linear (of these the first so many are linear-only), keys [2 slotsMax], weights f32 [slotsMax]
//
// Why here and not in messages: an item changes seldom and is read whenever its vector is made again; the trainer needs them all after a restart, and a message a
// change would have to be kept by somebody until then. Why a fixed stride: the row of a handle is found by a multiplication.
// Invariants: 1. a reader gets one whole version of a row: `seq` is odd while it is written, the same before and after it was read, and all words are read and
// written by Atomics, which no processor reorders  2. rows below rowCount are laid out; what stands beyond may be anything
// 3. a change is in the ring before `changes` counts it, and its row is written before that.
// Cost: 16 + 12 x slotsMax bytes an item; a write 0.5 us, a read 0.1 us.
// Concurrency: one thread writes (`put`, `setAvailable`) and may use `copy`; any thread reads.
// Limits: itemsMax items, slotsMax slots; `put` returns false beyond them, and the item is ranked without the model. A row that stays half written (its writer
// died) reads as absent.

import { MillraceError } from "#base/errors";
import type { SlotRows } from "#extract/slot-rows";
import { type KernelMemory, roundUp } from "#kernel/kernel-memory";
import { checkHeader } from "#kernel/memory-header";

const magic = 0x3153494d; // "MIS1"
const headerBytes = 64;
const headWords = 4;
const ringLength = 65_536;
/** Reads of a row that is being written before it counts as absent. */
const readsMax = 10_000;

export const itemSlotLimits = { itemsMax: 50_000_000, slotsMax: 1_024 } as const;

export interface ItemSlotsShape {
  /** Items are handles below it. */
  readonly itemsMax: number;
  /** Slots of one item at most; `itemSlotsMax` of the extractor always suffices. */
  readonly slotsMax: number;
}

const word = { changes: 4, rowCount: 5 } as const;

/** `none`: never put, or it did not fit. */
const flag = { none: 0, hidden: 1, available: 2 } as const;

export class ItemSlots {
  /** Address of the header: what another thread attaches to. */
  readonly at: number;
  readonly itemsMax: number;
  readonly slotsMax: number;
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #f32: Float32Array<SharedArrayBuffer>;
  readonly #stride: number;
  readonly #ring: number;
  readonly #rows: number;
  readonly #readKeys: Uint32Array;
  readonly #readBits: Uint32Array;
  readonly #readWeights: Float32Array;
  readonly #writeBits = new Uint32Array(1);
  readonly #writeWeight = new Float32Array(this.#writeBits.buffer);

  private constructor(memory: KernelMemory, at: number) {
    const { u32, f32 } = memory;
    const head = at / 4;
    checkHeader(memory, at, headerBytes, magic, "item slots", "an ItemSlots");
    this.at = at;
    this.itemsMax = u32[head + 1]!;
    this.slotsMax = u32[head + 2]!;
    this.#stride = u32[head + 3]!;
    this.#ring = u32[head + 6]! / 4;
    this.#rows = u32[head + 7]! / 4;
    this.#u32 = u32;
    this.#f32 = f32;
    this.#readKeys = new Uint32Array(this.slotsMax * 2);
    this.#readBits = new Uint32Array(this.slotsMax);
    this.#readWeights = new Float32Array(this.#readBits.buffer);
  }

  /** Bytes that `create` reserves. Throws `invalid` for a shape that cannot be. */
  static bytesFor({ itemsMax, slotsMax }: ItemSlotsShape): number {
    if (!Number.isInteger(itemsMax) || itemsMax < 1 || itemsMax > itemSlotLimits.itemsMax) {
      throw new MillraceError("invalid", `slots of ${itemsMax} items`, { todo: `ask for 1 to ${itemSlotLimits.itemsMax}` });
    }
    if (!Number.isInteger(slotsMax) || slotsMax < 1 || slotsMax > itemSlotLimits.slotsMax) {
      throw new MillraceError("invalid", `items of ${slotsMax} slots`, { todo: `ask for 1 to ${itemSlotLimits.slotsMax}` });
    }
    return headerBytes + ringLength * 4 + roundUp(itemsMax * strideWords(slotsMax) * 4, 64);
  }

  /** Reserves and lays out an empty block. Memory is used as rows are written. */
  static create(memory: KernelMemory, shape: ItemSlotsShape): ItemSlots {
    const at = memory.reserve(ItemSlots.bytesFor(shape));
    const ringAt = at + headerBytes;
    memory.u32.set([magic, shape.itemsMax, shape.slotsMax, strideWords(shape.slotsMax), 0, 0, ringAt, ringAt + ringLength * 4], at / 4);
    return new ItemSlots(memory, at);
  }

  /** Joins what another thread created. Throws `corrupt` where there is none. */
  static attach(memory: KernelMemory, at: number): ItemSlots {
    return new ItemSlots(memory, at);
  }

  /** One more than the highest item ever put. */
  get rowCount(): number {
    return Atomics.load(this.#u32, this.at / 4 + word.rowCount);
  }

  /** Number of changes so far, modulo 2^32: what `changedSince` takes. */
  get changes(): number {
    return Atomics.load(this.#u32, this.at / 4 + word.changes);
  }

  /** Replaces an item's slots by row `row` of `slots`. False, and the item has none from now on, when they do not fit. Writer only. */
  put(item: number, slots: SlotRows, row: number, available: boolean): boolean {
    if (item >= this.itemsMax) return false;
    const from = slots.offsets[row]!;
    const count = slots.offsets[row + 1]! - from;
    const fits = count <= this.slotsMax;
    const at = this.#reach(item);
    const seq = this.#open(at);
    const u32 = this.#u32;
    Atomics.store(u32, at + 1, fits ? flagOf(available) : flag.none);
    Atomics.store(u32, at + 2, fits ? count : 0);
    Atomics.store(u32, at + 3, fits ? slots.linearEnds[row]! - from : 0);
    if (fits) {
      const keysAt = at + headWords;
      const weightsAt = keysAt + this.slotsMax * 2;
      for (let slot = 0; slot < count; slot += 1) {
        Atomics.store(u32, keysAt + 2 * slot, slots.keys[2 * (from + slot)]!);
        Atomics.store(u32, keysAt + 2 * slot + 1, slots.keys[2 * (from + slot) + 1]!);
        this.#writeWeight[0] = slots.weights[from + slot]!;
        Atomics.store(u32, weightsAt + slot, this.#writeBits[0]!);
      }
    }
    this.#close(at, seq, item);
    return fits;
  }

  /** Says whether the item may be recommended; nothing for one without slots. Writer only. */
  setAvailable(item: number, available: boolean): void {
    if (item >= this.rowCount) return;
    const at = this.#rows + item * this.#stride;
    const before = this.#u32[at + 1]!;
    if (before === flag.none || before === flagOf(available)) return;
    const seq = this.#open(at);
    Atomics.store(this.#u32, at + 1, flagOf(available));
    this.#close(at, seq, item);
  }

  /** Is the item put and available? */
  available(item: number): boolean {
    return item < this.rowCount && Atomics.load(this.#u32, this.#rows + item * this.#stride + 1) === flag.available;
  }

  /** Appends one whole version of the item's slots to `into` as a row. False, and no row, for an item that is not available or was never put. Any thread. */
  read(item: number, into: SlotRows): boolean {
    if (item >= this.rowCount) return false;
    const at = this.#rows + item * this.#stride;
    const u32 = this.#u32;
    const keysAt = at + headWords;
    const weightsAt = keysAt + this.slotsMax * 2;
    for (let tries = 0; tries < readsMax; tries += 1) {
      const seq = Atomics.load(u32, at);
      if ((seq & 1) === 1) continue;
      const available = Atomics.load(u32, at + 1) === flag.available;
      // A half-written row may say anything here; what is read is bounded all the same.
      const count = Math.min(Atomics.load(u32, at + 2), this.slotsMax);
      const linear = Math.min(Atomics.load(u32, at + 3), count);
      for (let slot = 0; slot < count; slot += 1) {
        this.#readKeys[2 * slot] = Atomics.load(u32, keysAt + 2 * slot);
        this.#readKeys[2 * slot + 1] = Atomics.load(u32, keysAt + 2 * slot + 1);
        this.#readBits[slot] = Atomics.load(u32, weightsAt + slot);
      }
      if (Atomics.load(u32, at) !== seq) continue;
      if (!available) return false;
      into.copySlots(this.#readKeys, 0, this.#readWeights, 0, linear, count);
      into.endRow();
      return true;
    }
    return false;
  }

  /** Copies the item's slots into the open row of `into`, available or not; false for an item without. The writing thread only: it needs no second look. */
  copy(item: number, into: SlotRows): boolean {
    if (item >= this.rowCount) return false;
    const at = this.#rows + item * this.#stride;
    const keysAt = at + headWords;
    into.copySlots(this.#u32, keysAt, this.#f32, keysAt + this.slotsMax * 2, this.#u32[at + 3]!, this.#u32[at + 2]!);
    return this.#u32[at + 1] !== flag.none;
  }

  /**
   * Items changed by changes `since`, `since` + 1, ... into `into`, in order, an item as often as it changed: how many. -1 when they are not known any more: then
   * all rows have to be looked at. The next `since` is `since` + the answer (modulo 2^32), after -1 the `changes` read before all rows are looked at.
   */
  changedSince(since: number, into: Uint32Array): number {
    const u32 = this.#u32;
    const behind = (this.changes - since) >>> 0;
    if (behind >= ringLength) return -1;
    const count = Math.min(behind, into.length);
    for (let at = 0; at < count; at += 1) into[at] = Atomics.load(u32, this.#ring + ((since + at) & (ringLength - 1)));
    // What was overwritten meanwhile is no answer.
    return (this.changes - since) >>> 0 >= ringLength ? -1 : count;
  }

  /** Lays out the rows up to the item's; its place. */
  #reach(item: number): number {
    const u32 = this.#u32;
    const known = this.rowCount;
    for (let next = known; next <= item; next += 1) u32.fill(0, this.#rows + next * this.#stride, this.#rows + next * this.#stride + headWords);
    if (item >= known) Atomics.store(u32, this.at / 4 + word.rowCount, item + 1);
    return this.#rows + item * this.#stride;
  }

  #open(at: number): number {
    const seq = this.#u32[at]! | 1;
    Atomics.store(this.#u32, at, seq);
    return seq;
  }

  #close(at: number, seq: number, item: number): void {
    const u32 = this.#u32;
    Atomics.store(u32, at, seq + 1);
    const changesAt = this.at / 4 + word.changes;
    const changes = u32[changesAt]!;
    Atomics.store(u32, this.#ring + (changes & (ringLength - 1)), item);
    Atomics.store(u32, changesAt, changes + 1);
  }
}

function flagOf(available: boolean): number {
  return available ? flag.available : flag.hidden;
}

/** Words of a row: a multiple of four, so that rows begin at 16 bytes. */
function strideWords(slotsMax: number): number {
  return roundUp(headWords + slotsMax * 3, 4);
}
