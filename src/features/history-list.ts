// History list: for each user the N distinct items touched last, with how often, how lately and a decayed count of each.
// Why beside the recent list: "what did I already buy" and "what do I come back to" ask for distinct items over a long time; a list of events
// would be filled by one favourite.
// Invariants: 1. an item stands once in a user's list  2. at most N items; when full the item with the oldest last time makes room, ties to
// the earlier place; an event older than all of a full list is not taken  3. entries are in no order.
// Cost: 20 bytes an entry; an event scans the user's items (1,000 items: 0.3 us).

import { BlockAllocator, chunkBits, chunkMask, f32Column, f64Column, u32Column, u8Column } from "#base/chunked";
import type { RowMarks } from "./checkpoint/row-marks.ts";
import type { StoredColumns } from "./checkpoint/stored-state.ts";
import { type Aggregation, type AggregationStore, type FoldEvent, type KeptStore, type StoreContext, type TypeWeights, weightTable } from "./aggregation.ts";

const firstBits = 2;

export interface HistoryListOptions {
  /** How many distinct items a user keeps, up to 65,536. */
  readonly n: number;
  /** Half-life of the decayed count, ms. */
  readonly halfLifeMs: number;
  readonly types: TypeWeights;
}

/** One user's entries `[from, to)`; valid until the next fold. `decayed` is as of `times` of the same entry. */
export interface HistoryView {
  readonly items: Uint32Array;
  /** Last time, ms. */
  readonly times: Float64Array;
  /** Number of events. */
  readonly counts: Float32Array;
  /** Sum of weights, decayed to the entry's last time. */
  readonly decayed: Float32Array;
  readonly from: number;
  readonly to: number;
}

export class HistoryListStore implements AggregationStore {
  readonly options: HistoryListOptions;
  readonly #weights: Float64Array;
  readonly #bitsMax: number;
  readonly #allocator = new BlockAllocator();
  readonly #items = u32Column();
  readonly #times = f64Column();
  readonly #counts = f32Column();
  readonly #decayed = f32Column();
  readonly #address = u32Column();
  readonly #length = u32Column();
  readonly #bits = u8Column();
  #users = 0;
  #marks: RowMarks | undefined;

  constructor(options: HistoryListOptions, eventTypes: readonly string[]) {
    this.options = options;
    this.#weights = weightTable(eventTypes, options.types);
    this.#bitsMax = Math.max(firstBits, Math.ceil(Math.log2(options.n)));
  }

  fold(event: FoldEvent): void {
    const weight = this.#weights[event.type]!;
    if (weight > 0) this.add(event.user, event.item, event.atMs, weight);
  }

  add(user: number, item: number, atMs: number, weight: number): void {
    this.#marks?.touch(user);
    if (user >= this.#users) this.#ensure(user);
    const length = this.#length.get(user);
    let address = this.#address.get(user);
    if (length > 0) {
      const found = this.#items.chunks[address >>> chunkBits]!.subarray(address & chunkMask, (address & chunkMask) + length).indexOf(item);
      if (found >= 0) return this.#touch(address + found, atMs, weight);
    }
    if (length >= this.options.n) {
      const oldest = this.#oldest(address, length);
      if (this.#times.get(oldest) > atMs) return;
      return this.#write(oldest, item, atMs, weight);
    }
    address = this.#room(user, length, address);
    this.#write(address + length, item, atMs, weight);
    this.#length.set(user, length + 1);
  }

  /** The entries of a user, `undefined` when there are none. */
  of(user: number): HistoryView | undefined {
    if (user >= this.#users) return undefined;
    const length = this.#length.get(user);
    if (length === 0) return undefined;
    const address = this.#address.get(user);
    const chunk = address >>> chunkBits;
    const from = address & chunkMask;
    return {
      items: this.#items.chunks[chunk]!,
      times: this.#times.chunks[chunk]!,
      counts: this.#counts.chunks[chunk]!,
      decayed: this.#decayed.chunks[chunk]!,
      from,
      to: from + length,
    };
  }

  kept(): KeptStore {
    return { by: "user", place: "own table", part: this.stored() };
  }

  /** As columns of a table: lists of items (handles), last times (ms), numbers of events, and decayed counts as of the last times; in no order. */
  stored(prefix = ""): StoredColumns {
    const [itemsOf, timesOf, countsOf, decayedOf] = [`${prefix}items`, `${prefix}times`, `${prefix}counts`, `${prefix}decayed`];
    return {
      columns: { [itemsOf]: { type: "bytes" }, [timesOf]: { type: "bytes" }, [countsOf]: { type: "bytes" }, [decayedOf]: { type: "bytes" } },
      follow: (marks) => {
        this.#marks = marks;
      },
      save: (user, row) => {
        const view = this.of(user);
        if (view === undefined) return;
        row.list(itemsOf, view.items, view.from, view.to);
        row.list(timesOf, view.times, view.from, view.to);
        row.list(countsOf, view.counts, view.from, view.to);
        row.list(decayedOf, view.decayed, view.from, view.to);
      },
      load: (user, row) => {
        const items = row.u32s(itemsOf);
        const times = row.f64s(timesOf);
        const counts = row.f32s(countsOf);
        const decayed = row.f32s(decayedOf);
        const { length } = items;
        if (times.length !== length || counts.length !== length || decayed.length !== length || length > this.options.n) {
          throw row.damaged(`lists of ${length}, ${times.length}, ${counts.length} and ${decayed.length} entries, at most ${this.options.n}`);
        }
        if (length === 0) return;
        this.#ensure(user);
        let address = this.#address.get(user);
        for (let at = 0; at < length; at += 1) {
          address = this.#room(user, at, address);
          this.#write(address + at, items[at]!, times[at]!, decayed[at]!);
          this.#counts.set(address + at, counts[at]!);
        }
        this.#length.set(user, length);
      },
    };
  }

  get bytes(): number {
    return this.#items.bytes + this.#times.bytes + this.#counts.bytes + this.#decayed.bytes + this.#address.bytes + this.#length.bytes + this.#bits.bytes;
  }

  #ensure(user: number): void {
    if (user < this.#users) return;
    this.#address.ensure(user + 1);
    this.#length.ensure(user + 1);
    this.#bits.ensure(user + 1);
    this.#users = user + 1;
  }

  /** Address of a user's block with room for one entry more. */
  #room(user: number, length: number, address: number): number {
    const bits = this.#bits.get(user);
    if (bits !== 0 && (length < 1 << bits || bits >= this.#bitsMax)) return address;
    const grown = this.#grow(address, length, bits);
    this.#address.set(user, grown);
    this.#bits.set(user, bits === 0 ? firstBits : bits + 1);
    return grown;
  }

  #touch(entry: number, atMs: number, weight: number): void {
    const time = this.#times.get(entry);
    const halfLife = this.options.halfLifeMs;
    const decayed = this.#decayed.get(entry);
    this.#counts.set(entry, this.#counts.get(entry) + 1);
    if (atMs >= time) {
      this.#decayed.set(entry, decayed * 2 ** ((time - atMs) / halfLife) + weight);
      this.#times.set(entry, atMs);
    } else {
      this.#decayed.set(entry, decayed + weight * 2 ** ((atMs - time) / halfLife));
    }
  }

  #write(entry: number, item: number, atMs: number, weight: number): void {
    this.#items.set(entry, item);
    this.#times.set(entry, atMs);
    this.#counts.set(entry, 1);
    this.#decayed.set(entry, weight);
  }

  #oldest(address: number, length: number): number {
    const times = this.#times.chunks[address >>> chunkBits]!;
    const start = address & chunkMask;
    let oldest = start;
    for (let at = start + 1; at < start + length; at += 1) if (times[at]! < times[oldest]!) oldest = at;
    return address - start + oldest;
  }

  #grow(address: number, length: number, bits: number): number {
    const next = this.#allocator.take(bits === 0 ? firstBits : bits + 1);
    const end = this.#allocator.end;
    for (const column of [this.#items, this.#times, this.#counts, this.#decayed]) {
      column.ensure(end);
      for (let entry = 0; entry < length; entry += 1) column.set(next + entry, column.get(address + entry));
    }
    if (bits !== 0) this.#allocator.give(address, bits);
    return next;
  }
}

/** Declares a list of the last N distinct items per user. */
export function historyList(options: HistoryListOptions): Aggregation<HistoryListStore> {
  return { kind: "history-list", options: { ...options }, create: (context: StoreContext) => new HistoryListStore(options, context.eventTypes) };
}
