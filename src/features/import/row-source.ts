// Where an import's rows come from: one contract for DuckDB and .npy.
// Invariants: 1. a source that `ordered` gives the same rows in the same order each time it is opened on the same bytes, so an interrupted import goes on behind
// the rows it has  2. a batch is valid until the next call.

import type { ColumnBatch } from "./column-batch.ts";

export interface Fault {
  /** Undefined: the key. */
  readonly column: string | undefined;
  readonly reason: string;
}

export interface RefusedLine {
  /** From 1, as editors count. */
  readonly line: number;
  readonly reason: string;
}

export interface RowSource {
  readonly name: string;
  readonly ordered: boolean;
  /** What the codes in `ColumnBatch.faults` mean: code n is `faults[n - 1]`. */
  readonly faults: readonly Fault[];
  /** Undefined at the end. */
  next(): Promise<ColumnBatch | undefined>;
  /** Lines that were no rows, after the end. At most `max`, and how many there were. */
  refusedLines(max: number): Promise<{ readonly lines: readonly RefusedLine[]; readonly count: number }>;
  close(): void;
}

/** Fault codes that every source shares; those of column i follow at `columnFaultsFrom + i`. */
export const sharedFaults = { noKey: 1, keyBytes: 2, rowBytes: 3, columnsFrom: 4 } as const;

/** The meaning of all codes for these columns. */
export function faultList(columns: readonly { readonly name: string; readonly shown: string }[], lineFormat: boolean): Fault[] {
  return [
    { column: undefined, reason: lineFormat ? "no key that fits, or the line is no JSON object" : "no key, or none that fits its type" },
    { column: undefined, reason: "the key is empty or too long" },
    { column: undefined, reason: "the row is too large" },
    ...columns.map(({ name, shown }) => ({ column: name, reason: `the value is no ${shown}` })),
  ];
}
