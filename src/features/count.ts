// Count: the sum of weights of all events of an item or user, for ever.
// Cost: 8 bytes a handle, an addition an event.

import { chunkBits, chunkMask, f64Column } from "#base/chunked";
import type { RowMarks } from "./checkpoint/row-marks.ts";
import type { StoredColumns } from "./checkpoint/stored-state.ts";
import { type Aggregation, type AggregationStore, type FoldEvent, type KeptStore, type StoreContext, type TypeWeights, weightTable } from "./aggregation.ts";

export interface CountOptions {
  readonly by: "item" | "user";
  readonly types: TypeWeights;
}

export class CountStore implements AggregationStore {
  readonly options: CountOptions;
  readonly #values = f64Column();
  readonly #weights: Float64Array;
  #count = 0;
  #total = 0;
  #marks: RowMarks | undefined;

  constructor(options: CountOptions, context: StoreContext) {
    this.options = options;
    this.#weights = weightTable(context.eventTypes, options.types);
  }

  fold(event: FoldEvent): void {
    const weight = this.#weights[event.type]!;
    if (weight === 0) return;
    const handle = this.options.by === "item" ? event.item : event.user;
    this.#marks?.touch(handle);
    this.#ensure(handle);
    this.#values.chunks[handle >>> chunkBits]![handle & chunkMask]! += weight;
    this.#total += weight;
  }

  at(handle: number): number {
    return handle < this.#count ? this.#values.get(handle) : 0;
  }

  /** Counts of `n` handles into `out`. */
  gather(handles: Uint32Array, n: number, out: Float32Array): void {
    for (let row = 0; row < n; row += 1) out[row] = this.at(handles[row]!);
  }

  /** Sum over all handles. */
  get total(): number {
    return this.#total;
  }

  get bytes(): number {
    return this.#values.bytes;
  }

  kept(name: string): KeptStore {
    return {
      by: this.options.by,
      place: "beside others",
      part: this.#stored(name),
      // A sum of the rows would be rounded otherwise.
      number: {
        get: () => this.#total,
        set: (total) => {
          this.#total = total;
        },
      },
    };
  }

  #stored(name: string): StoredColumns {
    return {
      columns: { [name]: { type: "f64" } },
      follow: (marks) => {
        this.#marks = marks;
      },
      save: (handle, row) => row.f64(name, this.at(handle)),
      load: (handle, row) => {
        const value = row.f64(name);
        if (value === 0) return;
        this.#ensure(handle);
        this.#values.set(handle, value);
      },
    };
  }

  #ensure(handle: number): void {
    if (handle < this.#count) return;
    this.#values.ensure(handle + 1);
    this.#count = handle + 1;
  }
}

/** Declares a count. */
export function count(options: CountOptions): Aggregation<CountStore> {
  return { kind: "count", options: { ...options }, create: (context) => new CountStore(options, context) };
}
