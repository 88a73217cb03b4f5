// The step of a chain (vector-chain.ts) that reads profiles from a feature table: one read of all ids, columns as values by name.
// Limits: tableLimits.readKeysMax ids a read; more go as several. Tables with text keys.

import { type CellValue, valueOf } from "#features/tables/cell-values";
import { ColumnBlock, rowStatus } from "#features/tables/column-block";
import { KeyBlobWriter } from "#wire/key-blob";
import { tableLimits } from "#wire/table-limits";
import type { RespCalls } from "./resp-calls.ts";

/** Values by column; a column without a value is not there. */
export type TableProfile = Readonly<Record<string, CellValue>>;

/** Profiles of ids, undefined for an id without a row. `columns`: all when left out. Throws `not-found` for a table or column that is not there. */
export function tableProfiles(calls: RespCalls, table: string, columns?: readonly string[]): (ids: readonly string[]) => Promise<(TableProfile | undefined)[]> {
  const named = columns === undefined ? "*" : columns.join(",");
  return async (ids) => {
    const deadlineMs = calls.deadlineMs();
    const parts: Promise<(TableProfile | undefined)[]>[] = [];
    for (let first = 0; first < ids.length; first += tableLimits.readKeysMax) {
      // A writer each: reads go side by side.
      const keys = new KeyBlobWriter().fill(ids.slice(first, first + tableLimits.readKeysMax));
      parts.push(calls.command(["TMREAD", table, named, "KEYSBLOB", keys], deadlineMs).then((answer) => profilesOf(new ColumnBlock(answer as Uint8Array))));
    }
    return (await Promise.all(parts)).flat();
  };
}

function profilesOf(block: ColumnBlock): (TableProfile | undefined)[] {
  return Array.from({ length: block.rows }, (_, row) => {
    if (block.status(row) !== rowStatus.found) return undefined;
    const values: Record<string, CellValue> = {};
    for (const column of block.columns) if (block.isValid(row, column)) values[column.name] = valueOf(column, block.bytesOf(row, column));
    return values;
  });
}
