// Decayed count: the sum over events of weight x 2^-(age / half-life), for each item or user.
// Why this form: a cell is (value, reference time); an event before the reference time is added decayed to it, so order does not matter, and
// nothing has to be touched as time passes. log2(value) + reference / half-life orders cells without knowing "now" (all decay alike),
// which is what lets `top` hold the best M exactly.
// Source of the form: forward decay, Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009.
// Cost: an event 30 ns and, with `top`, its rank gain; 16 bytes a handle.

import { chunkBits, chunkMask, f64Column } from "#base/chunked";
import type { RowMarks } from "./checkpoint/row-marks.ts";
import type { StoredColumns } from "./checkpoint/stored-state.ts";
import { type Aggregation, type AggregationStore, type FoldEvent, type KeptStore, type StoreContext, type TypeWeights, weightTable } from "./aggregation.ts";
import { TopList } from "./top-list.ts";

export interface DecayedCountOptions {
  readonly by: "item" | "user";
  readonly halfLifeMs: number;
  readonly types: TypeWeights;
  /** Keep the best so many in order; 0 (default) keeps none. */
  readonly top?: number;
}

export class DecayedCountStore implements AggregationStore {
  readonly options: DecayedCountOptions;
  readonly top: TopList | undefined;
  readonly #values = f64Column();
  readonly #times = f64Column();
  readonly #weights: Float64Array;
  #count = 0;
  #marks: RowMarks | undefined;

  constructor(options: DecayedCountOptions, context: StoreContext) {
    this.options = options;
    this.#weights = weightTable(context.eventTypes, options.types);
    this.top = options.top === undefined || options.top === 0 ? undefined : new TopList(options.top);
  }

  fold(event: FoldEvent): void {
    const weight = this.#weights[event.type]!;
    if (weight > 0) this.add(this.options.by === "item" ? event.item : event.user, event.atMs, weight);
  }

  /** Adds `weight` at `atMs` to a handle's count. */
  add(handle: number, atMs: number, weight: number): void {
    this.#marks?.touch(handle);
    if (handle >= this.#count) this.#ensure(handle);
    const halfLife = this.options.halfLifeMs;
    const values = this.#values.chunks[handle >>> chunkBits]!;
    const times = this.#times.chunks[handle >>> chunkBits]!;
    const at = handle & chunkMask;
    let value = values[at]!;
    let time = times[at]!;
    if (value === 0) {
      value = weight;
      time = atMs;
    } else if (atMs >= time) {
      value = value * 2 ** ((time - atMs) / halfLife) + weight;
      time = atMs;
    } else {
      value += weight * 2 ** ((atMs - time) / halfLife);
    }
    values[at] = value;
    times[at] = time;
    this.top?.update(handle, Math.log2(value) + time / halfLife);
  }

  /** The count of one handle at `nowMs`. Events after `nowMs` count with more than their weight; callers ask with the present. */
  at(handle: number, nowMs: number): number {
    if (handle >= this.#count) return 0;
    const value = this.#values.get(handle);
    return value === 0 ? 0 : value * 2 ** ((this.#times.get(handle) - nowMs) / this.options.halfLifeMs);
  }

  /** Counts of `n` handles at `nowMs` into `out`. */
  gather(handles: Uint32Array, n: number, nowMs: number, out: Float32Array): void {
    const halfLife = this.options.halfLifeMs;
    for (let row = 0; row < n; row += 1) {
      const handle = handles[row]!;
      if (handle >= this.#count) {
        out[row] = 0;
        continue;
      }
      const chunk = handle >>> chunkBits;
      const at = handle & chunkMask;
      const value = this.#values.chunks[chunk]![at]!;
      out[row] = value === 0 ? 0 : value * 2 ** ((this.#times.chunks[chunk]![at]! - nowMs) / halfLife);
    }
  }

  /** weight / (count now + shrinkage) of `n` keys (handle + 1; 0 gives -1): how strong something is for how common it is. */
  strengths(keys: Uint32Array, weights: Float32Array, n: number, nowMs: number, shrinkage: number, out: Float32Array): void {
    const halfLife = this.options.halfLifeMs;
    for (let at = 0; at < n; at += 1) {
      const handle = keys[at]! - 1;
      if (handle < 0) {
        out[at] = -1;
        continue;
      }
      let count = 0;
      if (handle < this.#count) {
        const chunk = handle >>> chunkBits;
        const place = handle & chunkMask;
        count = this.#values.chunks[chunk]![place]! * 2 ** ((this.#times.chunks[chunk]![place]! - nowMs) / halfLife);
      }
      out[at] = weights[at]! / (count + shrinkage);
    }
  }

  /** Takes a handle out of `top` (it is not offered any more); its count stays. */
  hide(handle: number): void {
    if (this.top === undefined) return;
    this.top.remove(handle);
  }

  /** Puts a handle back into `top`. */
  show(handle: number): void {
    if (this.top === undefined || handle >= this.#count) return;
    if (this.#values.get(handle) > 0) this.top.update(handle, this.keyOf(handle));
  }

  get bytes(): number {
    return this.#values.bytes + this.#times.bytes + (this.top?.bytes ?? 0);
  }

  kept(name: string): KeptStore {
    const { top } = this;
    return {
      by: this.options.by,
      place: "beside others",
      part: this.stored(name),
      ...(top === undefined ? {} : { top, topKey: (handle) => this.keyOf(handle) }),
    };
  }

  /** Orders handles whose count is not 0, whatever the time. */
  keyOf(handle: number): number {
    return Math.log2(this.#values.get(handle)) + this.#times.get(handle) / this.options.halfLifeMs;
  }

  /** As columns of a table: `name`, the count at the time `name_at` (ms); it halves every half-life from there on. `top` is restored by itself. */
  stored(name: string): StoredColumns {
    const at = `${name}_at`;
    return {
      columns: { [name]: { type: "f64" }, [at]: { type: "f64" } },
      follow: (marks) => {
        this.#marks = marks;
      },
      save: (handle, row) => {
        if (handle >= this.#count) return;
        row.f64(name, this.#values.get(handle));
        row.f64(at, this.#times.get(handle));
      },
      load: (handle, row) => {
        const value = row.f64(name);
        if (value === 0) return;
        this.#ensure(handle);
        this.#values.set(handle, value);
        this.#times.set(handle, row.f64(at));
      },
    };
  }

  #ensure(handle: number): void {
    if (handle < this.#count) return;
    this.#values.ensure(handle + 1);
    this.#times.ensure(handle + 1);
    this.#count = handle + 1;
  }
}

/** Declares a decayed count. */
export function decayedCount(options: DecayedCountOptions): Aggregation<DecayedCountStore> {
  return { kind: "decayed-count", options: { ...options }, create: (context) => new DecayedCountStore(options, context) };
}
