// Merging what sources brought into one batch with one row per id.
// Rows keep the order in which sources were declared and emitted; a row brought again is merged into the first one column by column. A column's rule (max,
// sum, first) applies between sources that declared the column; a row of another source simply takes the value, so a default never wins a `max`.
// Invariants: 1. ids are unique in the table  2. bit i of `sources` is set exactly when source i brought the row.
// Cost: one probe of an open-addressing table per emitted row; copies of whole columns when nothing was brought twice.

import { type ColumnArray, type MergeRule, type NumberArray, copyColumn, gatherColumn } from "./column.ts";
import { type Plan, type PlanStep, idColumn, sourcesColumn } from "./plan.ts";
import type { Table } from "./table.ts";

/** Rows of one source: its arrays (by column number) and how many rows to take of them. */
export interface SourceRows {
  readonly step: PlanStep;
  readonly ids: Uint32Array;
  readonly arrays: ReadonlyMap<number, ColumnArray>;
  readonly n: number;
}

/** Hash of a u32 handle: multiplication by 2^32 / golden ratio, upper bits (Knuth). Handles are dense, so any odd multiplier spreads them. */
const multiplier = 0x9e3779b1;

function mergeValue(rule: MergeRule, old: number, brought: number): number {
  return rule === "sum" ? old + brought : rule === "max" ? (brought > old ? brought : old) : old;
}

/**
 * Merges the rows of all sources of one recall into the table, up to `rowsMax` rows. Returns how many new rows did not fit; `onCut` is told each of them.
 */
export function mergeSources(plan: Plan, table: Table, brought: readonly SourceRows[], rowsMax: number, onCut?: (id: number) => void): number {
  let incoming = 0;
  for (const rows of brought) incoming += rows.n;
  if (incoming === 0) return 0;
  const pool = table.pool;
  const rowsPossible = Math.min(rowsMax, table.n + incoming);
  table.reserve(rowsPossible);
  const slots = 2 ** (33 - Math.clz32(Math.max(rowsPossible, 16) - 1));
  const shift = Math.clz32(slots) + 1;
  const mask = slots - 1;
  // Row number + 1 by hash of id; 0 is free. Load stays below one half.
  const lookup = pool.take("u32", slots);
  lookup.fill(0, 0, slots);
  const idArray = table.raw(idColumn) as Uint32Array;
  for (let row = 0; row < table.n; row++) {
    let slot = Math.imul(idArray[row]!, multiplier) >>> shift;
    while (lookup[slot] !== 0) slot = (slot + 1) & mask;
    lookup[slot] = row + 1;
  }

  let cut = 0;
  const fresh = pool.take("u32", incoming);
  const againFrom = pool.take("u32", incoming);
  const againRow = pool.take("u32", incoming);
  for (const { step, ids, arrays, n } of brought) {
    const base = table.n;
    let freshCount = 0;
    let againCount = 0;
    for (let i = 0; i < n; i++) {
      const id = ids[i]!;
      let slot = Math.imul(id, multiplier) >>> shift;
      let found = lookup[slot]!;
      while (found !== 0 && idArray[found - 1] !== id) {
        slot = (slot + 1) & mask;
        found = lookup[slot]!;
      }
      if (found !== 0) {
        againFrom[againCount] = i;
        againRow[againCount++] = found - 1;
      } else if (base + freshCount < rowsMax) {
        const row = base + freshCount;
        idArray[row] = id;
        lookup[slot] = row + 1;
        fresh[freshCount++] = i;
      } else {
        cut++;
        onCut?.(id);
      }
    }
    for (const column of arrays.keys()) table.raw(column);
    table.grow(freshCount);
    const bit = (1 << step.source) >>> 0;
    (table.raw(sourcesColumn) as Uint32Array).fill(bit, base, base + freshCount);
    for (const [column, array] of arrays) {
      if (freshCount === n) copyColumn(table.typeOf(column), table.raw(column), base, array, n);
      else gatherColumn(table.typeOf(column), table.raw(column), base, array, fresh, freshCount);
    }
    if (againCount > 0) mergeAgain(plan, table, arrays, bit, againFrom, againRow, againCount);
  }
  pool.give("u32", lookup);
  pool.give("u32", fresh);
  pool.give("u32", againFrom);
  pool.give("u32", againRow);
  return cut;
}

function mergeAgain(
  plan: Plan,
  table: Table,
  arrays: ReadonlyMap<number, ColumnArray>,
  bit: number,
  from: Uint32Array,
  rows: Uint32Array,
  count: number,
): void {
  const bits = table.raw(sourcesColumn) as Uint32Array;
  const columns = [...arrays].map(([column, array]) => ({
    rule: plan.columns[column]!.merge,
    writers: plan.sourceBits[column]!,
    to: table.raw(column) as NumberArray,
    array: array as NumberArray,
  }));
  for (let j = 0; j < count; j++) {
    const row = rows[j]!;
    const i = from[j]!;
    const before = bits[row]!;
    for (const { rule, writers, to, array } of columns) {
      // Text columns only ever merge by `first`, so arithmetic never meets a string.
      if ((before & writers) === 0) to[row] = array[i]!;
      else if (rule !== "first") to[row] = mergeValue(rule, to[row]!, array[i]!);
    }
    bits[row] = (before | bit) >>> 0;
  }
}
