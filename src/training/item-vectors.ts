// Item vectors: keeps the vectors that are searched true to the parameters that are learned.
// An item's vector is a sum over the parameters of its slots, so it changes with every sample of the item itself, and a little with every sample of its category,
// its language and so on. Four ways keep up, nearest first:
//   learned   items of the samples just trained: at once, so that the next query finds them where they now are
//   moved     the same for rows that another server trained, as they come
//   changes   items whose document changed, came or went (the ring of ItemSlots)
//   sweep     all items in turn, at the rate that the caller gives: bounds how long a shared parameter's change stays unseen
// Arithmetic of the sweep: 1.5 to 2 us an item (slots read, parameters gathered, vector written), so 100,000 items a second would be
// a fifth of a core; `sweepItemsPerSecond` takes 4 %.
// Invariants: 1. an item that is not available has no vector  2. a vector written is that of one moment of its item's slots; of its parameters each row is whole
// 3. what was missed in the ring (more changes than it holds) is looked at by a sweep of all rows before anything else is swept.
// Cost: memory 28 to 52 bytes an item for the map from keys to handles; `learned` 1.5 to 3 us a sample.
// Concurrency: belongs to the thread that writes the vectors, the trainer's.
// Limits: the rows of the model; samples of items that were never put are counted.

import type { FactorisationMachine } from "#models/factorisation-machine";
import type { ItemSlots } from "#models/item-slots";
import { SlotRows } from "#extract/slot-rows";
import type { LiveVectors } from "#vectors/live-vectors";

/** Items of one kernel call. */
const batchItems = 128;

/** Chosen: about 4 % of a core while it learns; 100,000 items are true to shared parameters within five seconds, 2,000 within a tenth of one. */
export const sweepItemsPerSecond = 20_000;

/** What of a live model is read and written. */
export interface VectorModel {
  readonly machine: Pick<FactorisationMachine, "vectors" | "vectorDims">;
  readonly items: Pick<ItemSlots, "read" | "rowCount" | "changes" | "changedSince">;
  readonly vectors: LiveVectors;
}

/** The slot of a row whose key belongs to this item alone; -1 when it has none. */
export type KeySlot = (slots: SlotRows, row: number) => number;

/** For extractors that declare the field of `item.id` before every other full field of the item. */
export const firstFullSlot: KeySlot = (slots, row) => (slots.linearEnds[row]! < slots.offsets[row + 1]! ? slots.linearEnds[row]! : -1);

export class ItemVectors {
  readonly #model: VectorModel;
  readonly #keySlot: KeySlot;
  readonly #handles = new KeyHandles();
  readonly #slots = new SlotRows(batchItems, 32);
  readonly #batch = new Uint32Array(batchItems);
  readonly #changed = new Uint32Array(batchItems);
  readonly #written: Float32Array;
  #since: number;
  #next = 0;
  #rounds = 0;
  #unknown = 0;
  /** By item: the call that last rewrote it. */
  readonly #stamps: Uint32Array;
  #stamp = 0;

  constructor(model: VectorModel, keySlot: KeySlot = firstFullSlot) {
    this.#model = model;
    this.#keySlot = keySlot;
    this.#written = new Float32Array(batchItems * model.machine.vectorDims);
    this.#stamps = new Uint32Array(model.vectors.rowsMax);
    // What changed before now is seen by the first round.
    this.#since = model.items.changes;
  }

  /** Rounds that the sweep has completed: after the first every item has its vector. */
  get rounds(): number {
    return this.#rounds;
  }

  /** Samples whose item has no slots here (never put, gone, or beyond the rows of the model). */
  get unknown(): number {
    return this.#unknown;
  }

  /** The handle of the item that has this key, as far as its slots were read. */
  handleOf(low: number, high: number): number | undefined {
    const handle = this.#handles.get(low, high);
    return handle < 0 ? undefined : handle;
  }

  /** Rewrites the vectors of the items of these samples from the parameters as they are now. Returns how many items they are. */
  learned(samples: SlotRows): number {
    this.followChanges();
    this.#stamp += 1;
    let known = 0;
    let filled = 0;
    for (let row = 0; row < samples.rows; row++) {
      let seen = false;
      for (let slot = samples.linearEnds[row]!; slot < samples.offsets[row + 1]!; slot++) {
        const item = this.#handles.get(samples.keys[2 * slot]!, samples.keys[2 * slot + 1]!);
        if (item < 0) continue;
        seen = true;
        if (this.#stamps[item] === this.#stamp) continue;
        this.#stamps[item] = this.#stamp;
        known++;
        this.#batch[filled++] = item;
        if (filled < batchItems) continue;
        this.#rewrite(filled);
        filled = 0;
      }
      if (!seen) this.#unknown += 1;
    }
    this.#rewrite(filled);
    return known;
  }

  /** Rewrites the vectors of the items whose own rows these are (`count` keys, low and high word): they came from elsewhere. Returns how many items they are. */
  moved(keys: Uint32Array, count: number): number {
    this.#stamp += 1;
    let known = 0;
    let filled = 0;
    for (let at = 0; at < 2 * count; at += 2) {
      const item = this.#handles.get(keys[at]!, keys[at + 1]!);
      if (item < 0 || this.#stamps[item] === this.#stamp) continue;
      this.#stamps[item] = this.#stamp;
      known++;
      this.#batch[filled++] = item;
      if (filled < batchItems) continue;
      this.#rewrite(filled);
      filled = 0;
    }
    this.#rewrite(filled);
    return known;
  }

  /** All vectors are wrong (the parameters were taken back): the sweep begins anew. */
  startOver(): void {
    this.#next = 0;
  }

  /** Gives items whose slots changed their vectors, hides those that went; at most `itemsMax` changes. Returns how many. */
  followChanges(itemsMax = Infinity): number {
    const { items } = this.#model;
    let done = 0;
    while (done < itemsMax) {
      const before = items.changes;
      const count = items.changedSince(this.#since, this.#changed);
      if (count === 0) break;
      if (count < 0) {
        this.#since = before;
        this.#next = 0;
        break;
      }
      this.#since = (this.#since + count) >>> 0;
      this.#batch.set(this.#changed.subarray(0, count));
      this.#rewrite(count);
      done += count;
    }
    return done;
  }

  /** Rewrites the next `itemsMax` items in turn. Returns how many; fewer at the end of a round. */
  sweep(itemsMax: number): number {
    const { rowCount } = this.#model.items;
    let done = 0;
    while (done < itemsMax && this.#next < rowCount) {
      const count = Math.min(batchItems, itemsMax - done, rowCount - this.#next);
      for (let i = 0; i < count; i++) this.#batch[i] = this.#next + i;
      this.#rewrite(count);
      this.#next += count;
      done += count;
    }
    if (this.#next >= rowCount) {
      this.#next = 0;
      this.#rounds += 1;
    }
    return done;
  }

  /** Vectors of the first `count` items of the batch. */
  #rewrite(count: number): void {
    const { machine, items, vectors } = this.#model;
    const slots = this.#slots;
    const written = this.#written;
    slots.clear();
    let rows = 0;
    for (let i = 0; i < count; i++) {
      const item = this.#batch[i]!;
      if (item >= vectors.rowsMax) continue;
      if (!items.read(item, slots)) {
        vectors.hide(item);
        continue;
      }
      const slot = this.#keySlot(slots, rows);
      if (slot >= 0) this.#handles.set(slots.keys[2 * slot]!, slots.keys[2 * slot + 1]!, item);
      this.#batch[rows++] = item;
    }
    if (rows === 0) return;
    machine.vectors(slots, written);
    for (let row = 0; row < rows; row++) vectors.write(this.#batch[row]!, written, row * machine.vectorDims);
  }
}

/** 64-bit keys to handles: open addressing over typed arrays, at most half full; nothing is removed, since a handle belongs to its item for ever. */
class KeyHandles {
  #keys = new Uint32Array(2 * 1_024);
  /** Handle + 1; 0: free. */
  #handles = new Uint32Array(1_024);
  #size = 0;

  /** -1: unknown. */
  get(low: number, high: number): number {
    return this.#handles[this.#place(low >>> 0, high >>> 0)]! - 1;
  }

  set(low: number, high: number, handle: number): void {
    const place = this.#place(low >>> 0, high >>> 0);
    if (this.#handles[place] === 0) {
      this.#keys[2 * place] = low;
      this.#keys[2 * place + 1] = high;
      this.#size += 1;
    }
    this.#handles[place] = handle + 1;
    if (this.#size * 2 > this.#handles.length) this.#grow();
  }

  /** Where the key stands, or would. */
  #place(low: number, high: number): number {
    const mask = this.#handles.length - 1;
    // Keys are hashes; the mix keeps numbered ones (tests, other extractors) apart too.
    const mixed = Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1);
    let place = (mixed ^ (mixed >>> 15)) & mask;
    while (this.#handles[place] !== 0 && (this.#keys[2 * place] !== low || this.#keys[2 * place + 1] !== high)) place = (place + 1) & mask;
    return place;
  }

  #grow(): void {
    const keys = this.#keys;
    const handles = this.#handles;
    this.#keys = new Uint32Array(keys.length * 2);
    this.#handles = new Uint32Array(handles.length * 2);
    for (let from = 0; from < handles.length; from++) {
      if (handles[from] === 0) continue;
      const place = this.#place(keys[2 * from]!, keys[2 * from + 1]!);
      this.#keys[2 * place] = keys[2 * from]!;
      this.#keys[2 * place + 1] = keys[2 * from + 1]!;
      this.#handles[place] = handles[from]!;
    }
  }
}
