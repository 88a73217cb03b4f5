// The batch of one request in flight: a row count and one array per column that exists so far.
// Invariants: 1. an array belongs to this table from take to release  2. a column nobody wrote does not exist until it is read, then holds its default
//             3. rows keep their order through filters, and take the selector's order through a select
//             4. while `stragglers` is not 0 nothing goes back to the pool: a step that outlived its timeout may still hold these arrays, and another
//                request must neither see its writes nor be read by it.
// Cost: a filter costs one pass to list the kept rows and one gather per existing column.

import { type ColumnArray, type ColumnPool, type ColumnType, copyColumn, fillColumn, gatherColumn, viewColumn } from "./column.ts";
import { type PlanColumn, idColumn } from "./plan.ts";

/** The slot behind the declared columns: the number of each row in the explain log. */
const ordinalType: ColumnType = "u32";

export class Table {
  readonly pool: ColumnPool;
  /** Steps of this request that were given up but still run. */
  stragglers = 0;
  readonly #columns: readonly PlanColumn[];
  readonly #data: (ColumnArray | undefined)[];
  readonly #views: (ColumnArray | undefined)[];
  #n = 0;
  #capacity = 0;

  constructor(pool: ColumnPool, columns: readonly PlanColumn[]) {
    this.pool = pool;
    this.#columns = columns;
    // One slot more than columns: the explain log's row numbers travel with the rows.
    this.#data = new Array<ColumnArray | undefined>(columns.length + 1).fill(undefined);
    this.#views = new Array<ColumnArray | undefined>(columns.length + 1).fill(undefined);
  }

  get n(): number {
    return this.#n;
  }

  get ordinalSlot(): number {
    return this.#columns.length;
  }

  typeOf(slot: number): ColumnType {
    return this.#columns[slot]?.type ?? ordinalType;
  }

  exists(slot: number): boolean {
    return this.#data[slot] !== undefined;
  }

  /** Room for `rows` rows; existing columns keep their values. */
  reserve(rows: number): void {
    if (rows <= this.#capacity) return;
    this.#capacity = rows;
    for (let slot = 0; slot < this.#data.length; slot++) {
      const old = this.#data[slot];
      if (old === undefined || old.length >= rows) continue;
      const bigger = this.pool.take(this.typeOf(slot), rows);
      copyColumn(this.typeOf(slot), bigger, 0, old, this.#n);
      this.#replace(slot, bigger);
    }
  }

  /** Adds `count` rows whose ids the caller has written already; the other existing columns get their defaults. Call `reserve` first. */
  grow(count: number): void {
    for (let slot = idColumn + 1; slot < this.#columns.length; slot++) {
      const array = this.#data[slot];
      if (array !== undefined) fillColumn(array, this.#columns[slot]!.default, this.#n, this.#n + count);
    }
    this.#setRows(this.#n + count);
  }

  /** The whole array of a column, made and filled with its default when it does not exist. Longer than n. */
  raw(slot: number): ColumnArray {
    let array = this.#data[slot];
    if (array === undefined) {
      array = this.pool.take(this.typeOf(slot), this.#capacity);
      fillColumn(array, this.#columns[slot]?.default ?? 0, 0, this.#n);
      this.#data[slot] = array;
    }
    return array;
  }

  /** The column as steps see it. */
  view(slot: number): ColumnArray {
    return (this.#views[slot] ??= viewColumn(this.raw(slot), this.#n));
  }

  /** An array for a step to write into: a copy of the column so far, or its defaults. Becomes the column by `commit`. */
  draft(slot: number): ColumnArray {
    const draft = this.pool.take(this.typeOf(slot), this.#capacity);
    const current = this.#data[slot];
    if (current === undefined) fillColumn(draft, this.#columns[slot]!.default, 0, this.#n);
    else copyColumn(this.typeOf(slot), draft, 0, current, this.#n);
    return draft;
  }

  commit(slot: number, draft: ColumnArray): void {
    this.#replace(slot, draft);
  }

  /** Gives back an array that is no column (yet, or any more). */
  giveBack(type: ColumnType, array: ColumnArray): void {
    if (this.stragglers === 0) this.pool.give(type, array);
  }

  /** Keeps the rows whose byte is not 0. Returns how many stay. */
  compact(keep: Uint8Array): number {
    const rows = this.pool.take("u32", this.#n);
    let kept = 0;
    for (let i = 0; i < this.#n; i++) {
      rows[kept] = i;
      kept += keep[i] === 0 ? 0 : 1;
    }
    if (kept < this.#n) {
      for (let slot = 0; slot < this.#data.length; slot++) {
        const array = this.#data[slot];
        // In place: `rows` ascends.
        if (array !== undefined) gatherColumn(this.typeOf(slot), array, 0, array, rows, kept);
      }
      this.#setRows(kept);
    }
    this.pool.give("u32", rows);
    return kept;
  }

  /** Keeps the first `count` rows listed in `order`, in that order. */
  reorder(order: Uint32Array, count: number): void {
    for (let slot = 0; slot < this.#data.length; slot++) {
      const array = this.#data[slot];
      if (array === undefined) continue;
      const chosen = this.pool.take(this.typeOf(slot), this.#capacity);
      gatherColumn(this.typeOf(slot), chosen, 0, array, order, count);
      this.#replace(slot, chosen);
    }
    this.#setRows(count);
  }

  /** Drops all rows. */
  clear(): void {
    this.#setRows(0);
  }

  /** Gives everything back. The table must not be used again. */
  release(): void {
    for (let slot = 0; slot < this.#data.length; slot++) {
      const array = this.#data[slot];
      if (array !== undefined) this.giveBack(this.typeOf(slot), array);
      this.#data[slot] = undefined;
      this.#views[slot] = undefined;
    }
    this.#n = 0;
  }

  #replace(slot: number, array: ColumnArray): void {
    const old = this.#data[slot];
    if (old !== undefined) this.giveBack(this.typeOf(slot), old);
    this.#data[slot] = array;
    this.#views[slot] = undefined;
  }

  #setRows(n: number): void {
    this.#n = n;
    this.#views.fill(undefined);
  }
}
