// Last-N list: for each user the N newest events as (item, time, tag), newest last by time.
// Why by time and not by arrival: a late event takes its own place, so the list is the same whatever the order of arrival.
// Invariants: 1. entries are ordered by (time, arrival among equal times), oldest first  2. at most N entries; when full, the oldest leaves, and a
// late event older than all of a full list is not taken.
// Layout: parallel columns in blocks of 8, 16, ... N entries (base/chunked.ts): 16 bytes an entry.
// Cost: appending in order is a write; a late event moves what is newer; a full list shifts by one (N = 256: 0.1 us).

import { BlockAllocator, chunkBits, chunkMask, f64Column, u32Column, u8Column } from "#base/chunked";
import type { RowMarks } from "./checkpoint/row-marks.ts";
import type { StoredColumns } from "./checkpoint/stored-state.ts";
import { type Aggregation, type AggregationStore, type FoldEvent, type KeptStore, type StoreContext, type TypeWeights, weightTable } from "./aggregation.ts";

const firstBits = 3;

export interface RecentListOptions {
  /** How many entries a user keeps, a power of two from 8 to 65,536. */
  readonly n: number;
  readonly types: TypeWeights;
}

/** A window on one user's entries: `items[from..to)`, oldest first. Valid until the next fold. */
export interface RecentView {
  readonly items: Uint32Array;
  readonly times: Float64Array;
  readonly tags: Uint32Array;
  readonly from: number;
  readonly to: number;
}

export class RecentListStore implements AggregationStore {
  readonly options: RecentListOptions;
  readonly #weights: Float64Array;
  readonly #bitsMax: number;
  readonly #allocator = new BlockAllocator();
  readonly #items = u32Column();
  readonly #times = f64Column();
  readonly #tags = u32Column();
  // Per user: block address, entries, bits of the block (0 = no block).
  readonly #address = u32Column();
  readonly #length = u32Column();
  readonly #bits = u8Column();
  #users = 0;
  #marks: RowMarks | undefined;

  constructor(options: RecentListOptions, eventTypes: readonly string[]) {
    this.options = options;
    this.#weights = weightTable(eventTypes, options.types);
    this.#bitsMax = Math.max(firstBits, Math.ceil(Math.log2(options.n)));
  }

  /** The tag of an entry made by `fold` is the event's type. */
  fold(event: FoldEvent): void {
    if (this.#weights[event.type]! > 0) this.add(event.user, event.item, event.atMs, event.type);
  }

  /** Weight of an event type in this list, 0 when it does not enter. */
  weightOf(type: number): number {
    return this.#weights[type]!;
  }

  add(user: number, item: number, atMs: number, tag: number): void {
    this.#marks?.touch(user);
    if (user >= this.#users) {
      this.#address.ensure(user + 1);
      this.#length.ensure(user + 1);
      this.#bits.ensure(user + 1);
      this.#users = user + 1;
    }
    let bits = this.#bits.get(user);
    let length = this.#length.get(user);
    let address = this.#address.get(user);
    if (bits === 0 || (length === 1 << bits && bits < this.#bitsMax)) {
      const nextBits = bits === 0 ? firstBits : bits + 1;
      const next = this.#allocator.take(nextBits);
      this.#items.ensure(this.#allocator.end);
      this.#times.ensure(this.#allocator.end);
      this.#tags.ensure(this.#allocator.end);
      for (let entry = 0; entry < length; entry += 1) {
        this.#items.set(next + entry, this.#items.get(address + entry));
        this.#times.set(next + entry, this.#times.get(address + entry));
        this.#tags.set(next + entry, this.#tags.get(address + entry));
      }
      if (bits !== 0) this.#allocator.give(address, bits);
      address = next;
      bits = nextBits;
      this.#address.set(user, address);
      this.#bits.set(user, bits);
    }
    const chunk = address >>> chunkBits;
    const items = this.#items.chunks[chunk]!;
    const times = this.#times.chunks[chunk]!;
    const tags = this.#tags.chunks[chunk]!;
    const start = address & chunkMask;
    if (length >= this.options.n) {
      if (atMs < times[start]!) return;
      items.copyWithin(start, start + 1, start + length);
      times.copyWithin(start, start + 1, start + length);
      tags.copyWithin(start, start + 1, start + length);
      length -= 1;
    }
    let at = start + length;
    while (at > start && times[at - 1]! > atMs) {
      items[at] = items[at - 1]!;
      times[at] = times[at - 1]!;
      tags[at] = tags[at - 1]!;
      at -= 1;
    }
    items[at] = item;
    times[at] = atMs;
    tags[at] = tag;
    this.#length.set(user, length + 1);
  }

  /** The entries of a user, `undefined` when there are none. */
  of(user: number): RecentView | undefined {
    if (user >= this.#users) return undefined;
    const length = this.#length.get(user);
    if (length === 0) return undefined;
    const address = this.#address.get(user);
    const chunk = address >>> chunkBits;
    const from = address & chunkMask;
    return { items: this.#items.chunks[chunk]!, times: this.#times.chunks[chunk]!, tags: this.#tags.chunks[chunk]!, from, to: from + length };
  }

  kept(): KeptStore {
    return { by: "user", place: "own table", part: this.stored() };
  }

  /** As columns of a table: lists of items (handles), times (ms) and tags (type of the event, or whatever was added), oldest first. */
  stored(): StoredColumns {
    return {
      columns: { items: { type: "bytes" }, times: { type: "bytes" }, tags: { type: "bytes" } },
      follow: (marks) => {
        this.#marks = marks;
      },
      save: (user, row) => {
        const view = this.of(user);
        if (view === undefined) return;
        row.list("items", view.items, view.from, view.to);
        row.list("times", view.times, view.from, view.to);
        row.list("tags", view.tags, view.from, view.to);
      },
      load: (user, row) => {
        const items = row.u32s("items");
        const times = row.f64s("times");
        const tags = row.u32s("tags");
        if (items.length !== times.length || items.length !== tags.length || items.length > this.options.n) {
          throw row.damaged(`a list of ${items.length} items, ${times.length} times and ${tags.length} tags, at most ${this.options.n}`);
        }
        for (let at = 0; at < items.length; at += 1) this.add(user, items[at]!, times[at]!, tags[at]!);
      },
    };
  }

  get bytes(): number {
    return this.#items.bytes + this.#times.bytes + this.#tags.bytes + this.#address.bytes + this.#length.bytes + this.#bits.bytes;
  }
}

/** Declares a last-N list of events per user. */
export function recentList(options: RecentListOptions): Aggregation<RecentListStore> {
  return { kind: "recent-list", options: { ...options }, create: (context: StoreContext) => new RecentListStore(options, context.eventTypes) };
}
