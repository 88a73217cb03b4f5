// Co-occurrence: for each item the items that the same user touched within a window of time, with decayed weights.
// Weights of event types are those of the list's declaration. A pair of events (a on item i, b on item j, i != j, same user, |time a - time b| <= window) adds weight(a) x weight(b), decayed by the later
// one's age, to i's neighbour j and to j's neighbour i.
// Why from the recent list: the events to pair a new one with are the user's last N; a pair is counted when its later-arriving event is folded, so
// the order of arrival does not matter as long as the list still holds the earlier one.
// Invariants: 1. symmetric until an eviction  2. an item keeps its `neighbours` strongest: a table that has grown a quarter beyond is cut to them,
// strongest by weight / (norm of the neighbour + shrinkage), not by weight alone: that would keep only pairs with what is popular anyway and
// cost a tenth of the novel recall of a shop's replay (docs/design/recommend.md)  3. weights of one item are relative to that item's own reference
// time (forward decay), moved forward when the factor grows beyond 2^60, so that f32 neither overflows nor is everything touched at once.
// Layout: per item an open-addressing table of u32 neighbour + 1 and f32 weight, 8 bytes a slot, linear probing, load <= 3/4, doubling up to the size that
// holds 5/4 of `neighbours`.
// Cost: a pair 2 probes, about 60 ns; an event pairs with at most `pairsPerEvent` entries of the list; a cut of 640 to 512 about 60 us, every 128th new
// neighbour of a full item.

import { MillraceError } from "#base/errors";
import { BlockAllocator, chunkBits, chunkMask, f32Column, f64Column, u32Column, u8Column } from "#base/chunked";
import { kthLargest } from "#base/select-largest";
import type { Aggregation, AggregationStore, FoldEvent } from "./aggregation.ts";
import { DecayedCountStore } from "./decayed-count.ts";
import { RecentListStore } from "./recent-list.ts";

const firstBits = 3;
const exponentMax = 60;

export interface CooccurrenceOptions {
  /** Name of a `recentList` aggregation declared **after** this one, so that it does not yet hold the event that is being folded. */
  readonly list: string;
  readonly windowMs: number;
  readonly halfLifeMs: number;
  /** Neighbours an item keeps, 8 to 16,384. */
  readonly neighbours: number;
  /** Name of a `decayedCount` by item: how much of everything an item is, for choosing which neighbours to keep. */
  readonly norm: string;
  /** Added to the norm, in events. */
  readonly shrinkage: number;
  /** Newest entries of the list that one event is paired with at most. */
  readonly pairsPerEvent: number;
}

/** One item's table: slots `[from, to)`; a slot is empty where `neighbours` is 0, else it holds the handle + 1. Weight now = weights x factor. */
export interface NeighbourView {
  readonly neighbours: Uint32Array;
  readonly weights: Float32Array;
  readonly from: number;
  readonly to: number;
  readonly factor: number;
}

export class CooccurrenceStore implements AggregationStore {
  readonly options: CooccurrenceOptions;
  readonly #list: RecentListStore;
  readonly #norm: DecayedCountStore;
  readonly #bitsMax: number;
  readonly #usedMax: number;
  readonly #allocator = new BlockAllocator();
  readonly #neighbours = u32Column();
  readonly #weights = f32Column();
  readonly #address = u32Column();
  readonly #used = u32Column();
  readonly #bits = u8Column();
  readonly #reference = f64Column();
  #items = 0;
  #evictions = 0;

  constructor(options: CooccurrenceOptions, list: RecentListStore, norm: DecayedCountStore) {
    this.options = options;
    this.#list = list;
    this.#norm = norm;
    this.#usedMax = Math.ceil(options.neighbours * 1.25);
    this.#bitsMax = Math.max(firstBits, Math.ceil(Math.log2(this.#usedMax / 0.75)));
  }

  fold(event: FoldEvent): void {
    const weight = this.#list.weightOf(event.type);
    if (weight === 0) return;
    const view = this.#list.of(event.user);
    if (view === undefined) return;
    const { items, times, tags } = view;
    const windowMs = this.options.windowMs;
    const last = event.atMs + windowMs;
    const first = event.atMs - windowMs;
    let pairs = this.options.pairsPerEvent;
    for (let at = view.to - 1; at >= view.from && pairs > 0; at -= 1) {
      const time = times[at]!;
      if (time > last) continue;
      if (time < first) break;
      pairs -= 1;
      const other = items[at]!;
      if (other === event.item) continue;
      const pairWeight = weight * this.#list.weightOf(tags[at]!);
      const pairMs = Math.max(time, event.atMs);
      this.#add(event.item, other, pairMs, pairWeight);
      this.#add(other, event.item, pairMs, pairWeight);
    }
  }

  /** The neighbours of an item, `undefined` when it has none. */
  of(item: number, nowMs: number): NeighbourView | undefined {
    if (item >= this.#items) return undefined;
    const bits = this.#bits.get(item);
    if (bits === 0) return undefined;
    const address = this.#address.get(item);
    const chunk = address >>> chunkBits;
    const from = address & chunkMask;
    return {
      neighbours: this.#neighbours.chunks[chunk]!,
      weights: this.#weights.chunks[chunk]!,
      from,
      to: from + (1 << bits),
      factor: 2 ** ((this.#reference.get(item) - nowMs) / this.options.halfLifeMs),
    };
  }

  /** Weight of the pair at `nowMs`, 0 when it is not held. */
  weight(item: number, neighbour: number, nowMs: number): number {
    const view = this.of(item, nowMs);
    if (view === undefined) return 0;
    for (let at = view.from; at < view.to; at += 1) if (view.neighbours[at] === neighbour + 1) return view.weights[at]! * view.factor;
    return 0;
  }

  /** How often a table was cut. */
  get evictions(): number {
    return this.#evictions;
  }

  get bytes(): number {
    return this.#neighbours.bytes + this.#weights.bytes + this.#address.bytes + this.#used.bytes + this.#bits.bytes + this.#reference.bytes;
  }

  #add(item: number, neighbour: number, atMs: number, weight: number): void {
    if (item >= this.#items) {
      this.#address.ensure(item + 1);
      this.#used.ensure(item + 1);
      this.#bits.ensure(item + 1);
      this.#reference.ensure(item + 1);
      this.#items = item + 1;
    }
    let bits = this.#bits.get(item);
    if (bits === 0) {
      bits = firstBits;
      this.#reference.set(item, atMs);
      this.#place(item, bits);
    }
    let exponent = (atMs - this.#reference.get(item)) / this.options.halfLifeMs;
    if (exponent > exponentMax) {
      this.#rebase(item, atMs);
      exponent = 0;
    }
    const used = this.#used.get(item);
    if (bits === this.#bitsMax) {
      if (used >= this.#usedMax) this.#evict(item, atMs);
    } else if (used * 4 >= 3 << bits) {
      bits += 1;
      this.#resize(item, bits);
    }
    this.#insert(item, bits, neighbour + 1, weight * 2 ** exponent);
  }

  #insert(item: number, bits: number, key: number, weight: number): void {
    const address = this.#address.get(item);
    const neighbours = this.#neighbours.chunks[address >>> chunkBits]!;
    const weights = this.#weights.chunks[address >>> chunkBits]!;
    const start = address & chunkMask;
    const mask = (1 << bits) - 1;
    let slot = (Math.imul(key, 0x9e3779b1) >>> (32 - bits)) & mask;
    for (;;) {
      const found = neighbours[start + slot]!;
      if (found === key) {
        weights[start + slot]! += weight;
        return;
      }
      if (found === 0) {
        neighbours[start + slot] = key;
        weights[start + slot] = weight;
        this.#used.set(item, this.#used.get(item) + 1);
        return;
      }
      slot = (slot + 1) & mask;
    }
  }

  /** Gives the item an empty table of `1 << bits` slots. */
  #place(item: number, bits: number): void {
    const address = this.#allocator.take(bits);
    this.#neighbours.ensure(this.#allocator.end);
    this.#weights.ensure(this.#allocator.end);
    const start = address & chunkMask;
    this.#neighbours.chunks[address >>> chunkBits]!.fill(0, start, start + (1 << bits));
    this.#address.set(item, address);
    this.#bits.set(item, bits);
    this.#used.set(item, 0);
  }

  #resize(item: number, bits: number): void {
    const oldAddress = this.#address.get(item);
    const oldBits = this.#bits.get(item);
    this.#place(item, bits);
    for (let at = oldAddress; at < oldAddress + (1 << oldBits); at += 1) {
      const key = this.#neighbours.get(at);
      if (key !== 0) this.#insert(item, bits, key, this.#weights.get(at));
    }
    this.#allocator.give(oldAddress, oldBits);
  }

  /** Cuts a full table to its strongest neighbours. */
  #evict(item: number, nowMs: number): void {
    this.#evictions += 1;
    const bits = this.#bits.get(item);
    const address = this.#address.get(item);
    const start = address & chunkMask;
    const end = start + (1 << bits);
    const keys = this.#neighbours.chunks[address >>> chunkBits]!.slice(start, end);
    const weights = this.#weights.chunks[address >>> chunkBits]!.slice(start, end);
    const { neighbours, shrinkage } = this.options;
    const strengths = new Float32Array(keys.length);
    for (let slot = 0; slot < keys.length; slot += 1) {
      strengths[slot] = keys[slot] === 0 ? -1 : weights[slot]! / (this.#norm.at(keys[slot]! - 1, nowMs) + shrinkage);
    }
    const threshold = kthLargest(strengths.slice(), strengths.length, neighbours);
    this.#neighbours.chunks[address >>> chunkBits]!.fill(0, start, end);
    this.#used.set(item, 0);
    let room = neighbours;
    // Strictly stronger ones first, then as many of the equal ones as fit, in slot order.
    for (const equal of [false, true]) {
      for (let slot = 0; slot < keys.length && room > 0; slot += 1) {
        if (keys[slot] === 0 || (equal ? strengths[slot] !== threshold : strengths[slot]! <= threshold)) continue;
        this.#insert(item, bits, keys[slot]!, weights[slot]!);
        room -= 1;
      }
    }
  }

  /** Moves the item's reference time to `atMs`; neighbours that decay below the smallest f32 leave by the next eviction. */
  #rebase(item: number, atMs: number): void {
    const factor = 2 ** ((this.#reference.get(item) - atMs) / this.options.halfLifeMs);
    const address = this.#address.get(item);
    const start = address & chunkMask;
    const weights = this.#weights.chunks[address >>> chunkBits]!;
    for (let at = start; at < start + (1 << this.#bits.get(item)); at += 1) weights[at]! *= factor;
    this.#reference.set(item, atMs);
  }
}

/** Declares the co-occurrence of two items of one user within a window. */
export function cooccurrence(options: CooccurrenceOptions): Aggregation<CooccurrenceStore> {
  return {
    kind: "cooccurrence",
    options: { ...options },
    create: (context) => {
      const list = context.sister(options.list, "folded-after");
      if (!(list instanceof RecentListStore)) {
        throw new MillraceError("invalid", `cooccurrence reads "${options.list}", which is no recentList`, { todo: "name a recentList aggregation" });
      }
      const norm = context.sister(options.norm);
      if (!(norm instanceof DecayedCountStore) || norm.options.by !== "item") {
        throw new MillraceError("invalid", `cooccurrence reads "${options.norm}", which is no decayedCount by item`, { todo: "name one" });
      }
      return new CooccurrenceStore(options, list, norm);
    },
  };
}
