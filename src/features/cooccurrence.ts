// Co-occurrence: for each item the items that the same user touched within a window of time, with decayed weights.
// Weights of event types are those of the list's declaration. A pair of events (a on item i, b on item j, i != j, same user, |time a - time b| <= window) adds weight(a) x weight(b), decayed by the later
// one's age, to i's neighbour j and to j's neighbour i.
// Why from the recent list: the events to pair a new one with are the user's last N; a pair is counted when its later-arriving event is folded, so
// the order of arrival does not matter as long as the list still holds the earlier one.
// Invariants: 1. symmetric until an eviction  2. an item keeps its `neighbours` strongest: a table that has grown to twice as many is cut to them,
// strongest by weight / (norm of the neighbour + shrinkage), not by weight alone: that would keep only pairs with what is popular anyway and
// cost a tenth of the novel recall of a shop's replay (docs/design/recommend.md)  3. weights of one item are relative to that item's own reference
// time (forward decay), moved forward when the factor grows beyond 2^60, so that f32 neither overflows nor is everything touched at once.
// Layout: per item an open-addressing table of u32 neighbour + 1 and f32 weight, 8 bytes a slot, linear probing, load <= 3/4, doubling up to the size that
// holds twice `neighbours`.
// Cost: a pair 2 probes, about 100 ns; an event pairs with at most `pairsPerEvent` entries of the list; a cut of 768 to 384 about 80 us, every 384th new
// neighbour of a full item, so 0.2 us each.

import { MillraceError } from "#base/errors";
import { BlockAllocator, chunkBits, chunkMask, f32Column, f64Column, u32Column, u8Column } from "#base/chunked";
import { kthLargest } from "#base/select-largest";
import type { RowMarks } from "./checkpoint/row-marks.ts";
import type { StoredColumns } from "./checkpoint/stored-state.ts";
import type { Aggregation, AggregationStore, FoldEvent, KeptStore } from "./aggregation.ts";
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
  /** Work space of a cut. */
  readonly #cut: { readonly keys: Uint32Array; readonly held: Float32Array; readonly strengths: Float32Array; readonly sorted: Float32Array };
  #items = 0;
  #evictions = 0;
  #marks: RowMarks | undefined;

  constructor(options: CooccurrenceOptions, list: RecentListStore, norm: DecayedCountStore) {
    this.options = options;
    this.#list = list;
    this.#norm = norm;
    this.#usedMax = options.neighbours * 2;
    this.#bitsMax = Math.max(firstBits, Math.ceil(Math.log2(this.#usedMax / 0.75)));
    const slots = 1 << this.#bitsMax;
    this.#cut = { keys: new Uint32Array(slots), held: new Float32Array(slots), strengths: new Float32Array(slots), sorted: new Float32Array(slots) };
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

  kept(): KeptStore {
    return { by: "item", place: "own table", part: this.#stored() };
  }

  /**
   * As columns of a table: `neighbours` (handles) and `weights` (f32) as of the time `weights_at` (ms), and the size of the table in memory. Entries stand in the order of
   * its slots, from behind an empty one: put in again in this order, with linear probing, each falls into the slot that it had.
   */
  #stored(): StoredColumns {
    return {
      columns: { neighbours: { type: "bytes" }, weights: { type: "bytes" }, weights_at: { type: "f64" }, slot_bits: { type: "i64" } },
      follow: (marks) => {
        this.#marks = marks;
      },
      save: (item, row) => {
        const bits = item < this.#items ? this.#bits.get(item) : 0;
        if (bits === 0) return;
        const address = this.#address.get(item);
        const keys = this.#neighbours.chunks[address >>> chunkBits]!;
        const held = this.#weights.chunks[address >>> chunkBits]!;
        const start = address & chunkMask;
        const mask = (1 << bits) - 1;
        let first = 0;
        while (keys[start + first] !== 0) first += 1;
        const { keys: neighbours, held: weights } = this.#cut;
        let used = 0;
        for (let step = 1; step <= mask; step += 1) {
          const slot = start + ((first + step) & mask);
          if (keys[slot] === 0) continue;
          neighbours[used] = keys[slot]! - 1;
          weights[used] = held[slot]!;
          used += 1;
        }
        row.list("neighbours", neighbours, 0, used);
        row.list("weights", weights, 0, used);
        row.f64("weights_at", this.#reference.get(item));
        row.whole("slot_bits", bits);
      },
      load: (item, row) => {
        const neighbours = row.u32s("neighbours");
        const weights = row.f32s("weights");
        const bits = row.whole("slot_bits");
        if (bits === 0) return;
        if (bits < firstBits || bits > this.#bitsMax || neighbours.length !== weights.length || neighbours.length >= 1 << bits) {
          throw row.damaged(`${neighbours.length} neighbours and ${weights.length} weights in a table of 2^${bits} slots`);
        }
        this.#ensure(item);
        this.#place(item, bits);
        this.#reference.set(item, row.f64("weights_at"));
        const address = this.#address.get(item);
        const keys = this.#neighbours.chunks[address >>> chunkBits]!;
        const held = this.#weights.chunks[address >>> chunkBits]!;
        let used = 0;
        for (let at = 0; at < neighbours.length; at += 1) {
          if (insert(keys, held, address & chunkMask, bits, neighbours[at]! + 1, weights[at]!)) used += 1;
        }
        if (used !== neighbours.length) throw row.damaged("a neighbour that stands twice");
        this.#used.set(item, used);
      },
    };
  }

  get bytes(): number {
    return this.#neighbours.bytes + this.#weights.bytes + this.#address.bytes + this.#used.bytes + this.#bits.bytes + this.#reference.bytes;
  }

  #add(item: number, neighbour: number, atMs: number, weight: number): void {
    this.#marks?.touch(item);
    if (item >= this.#items) this.#ensure(item);
    // The hot path: columns are read from their chunks here, since a shared `get` sees arrays of several types and cannot be inlined.
    const chunk = item >>> chunkBits;
    const at = item & chunkMask;
    const usedOf = this.#used.chunks[chunk]!;
    const referenceOf = this.#reference.chunks[chunk]!;
    let bits = this.#bits.chunks[chunk]![at]!;
    if (bits === 0) {
      bits = firstBits;
      referenceOf[at] = atMs;
      this.#place(item, bits);
    }
    let exponent = (atMs - referenceOf[at]!) / this.options.halfLifeMs;
    if (exponent > exponentMax) {
      this.#rebase(item, atMs);
      exponent = 0;
    }
    const used = usedOf[at]!;
    if (bits === this.#bitsMax) {
      if (used >= this.#usedMax) this.#evict(item, atMs);
    } else if (used * 4 >= 3 << bits) {
      bits += 1;
      this.#resize(item, bits);
    }
    const address = this.#address.chunks[chunk]![at]!;
    const tables = address >>> chunkBits;
    if (insert(this.#neighbours.chunks[tables]!, this.#weights.chunks[tables]!, address & chunkMask, bits, neighbour + 1, weight * 2 ** exponent)) {
      usedOf[at]! += 1;
    }
  }

  #ensure(item: number): void {
    if (item < this.#items) return;
    this.#address.ensure(item + 1);
    this.#used.ensure(item + 1);
    this.#bits.ensure(item + 1);
    this.#reference.ensure(item + 1);
    this.#items = item + 1;
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
    const from = this.#address.get(item);
    const fromBits = this.#bits.get(item);
    const keys = this.#neighbours.chunks[from >>> chunkBits]!;
    const old = this.#weights.chunks[from >>> chunkBits]!;
    const fromStart = from & chunkMask;
    this.#place(item, bits);
    const to = this.#address.get(item);
    const neighbours = this.#neighbours.chunks[to >>> chunkBits]!;
    const weights = this.#weights.chunks[to >>> chunkBits]!;
    let used = 0;
    for (let slot = fromStart; slot < fromStart + (1 << fromBits); slot += 1) {
      if (keys[slot] !== 0 && insert(neighbours, weights, to & chunkMask, bits, keys[slot]!, old[slot]!)) used += 1;
    }
    this.#used.set(item, used);
    this.#allocator.give(from, fromBits);
  }

  /** Cuts a full table to its strongest neighbours. */
  #evict(item: number, nowMs: number): void {
    this.#evictions += 1;
    const bits = this.#bits.get(item);
    const address = this.#address.get(item);
    const start = address & chunkMask;
    const slots = 1 << bits;
    const neighbours = this.#neighbours.chunks[address >>> chunkBits]!;
    const weights = this.#weights.chunks[address >>> chunkBits]!;
    const { keys, held, strengths, sorted } = this.#cut;
    keys.set(neighbours.subarray(start, start + slots));
    held.set(weights.subarray(start, start + slots));
    this.#norm.strengths(keys, held, slots, nowMs, this.options.shrinkage, strengths);
    sorted.set(strengths);
    const most = this.options.neighbours;
    const threshold = kthLargest(sorted, slots, most);
    neighbours.fill(0, start, start + slots);
    let used = 0;
    // Strictly stronger ones first, then as many of the equal ones as fit, in slot order.
    for (let pass = 0; pass < 2; pass += 1) {
      for (let slot = 0; slot < slots && used < most; slot += 1) {
        const key = keys[slot]!;
        if (key === 0 || (pass === 0 ? strengths[slot]! <= threshold : strengths[slot] !== threshold)) continue;
        insert(neighbours, weights, start, bits, key, held[slot]!);
        used += 1;
      }
    }
    this.#used.set(item, used);
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

/** Adds a weight to a key of a table; true when the key is new. The table has a free slot. */
function insert(neighbours: Uint32Array, weights: Float32Array, start: number, bits: number, key: number, weight: number): boolean {
  const mask = (1 << bits) - 1;
  let slot = Math.imul(key, 0x9e3779b1) >>> (32 - bits);
  for (;;) {
    const found = neighbours[start + slot]!;
    if (found === key) {
      weights[start + slot]! += weight;
      return false;
    }
    if (found === 0) {
      neighbours[start + slot] = key;
      weights[start + slot] = weight;
      return true;
    }
    slot = (slot + 1) & mask;
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
