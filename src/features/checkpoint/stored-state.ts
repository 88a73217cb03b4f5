// What a part of the state must say of itself to be kept in tables: its columns, and how a row of it is written and comes back.
// Three forms: rows by handle in tables, several parts side by side in one (StateTable); lists that only grow or are small and taken whole (StateList); and a few numbers
// in the checkpoint's head.

import type { TableConfig } from "#wire/table-config";
import type { RowMarks } from "./row-marks.ts";
import type { StateRowReader, StateRowWriter } from "./state-row.ts";

/** Columns of one store in a table of the state. */
export interface StoredColumns {
  readonly columns: TableConfig["columns"];
  /** From now on the store tells `marks` before it changes a row. */
  follow(marks: RowMarks): void;
  save(handle: number, row: StateRowWriter): void;
  /** Throws `corrupt`. */
  load(handle: number, row: StateRowReader): void;
}

/** A table of the state: a row for each handle of one kind. */
export interface StateTable {
  /** With a dot, so that no configured table can have it: `activity.items`. */
  readonly name: string;
  readonly parts: readonly StoredColumns[];
  readonly marks: RowMarks;
  /** Handles there are: those of rows are below. */
  handles(): number;
  /** Of a row's key, as people see it; unique. */
  keyOf(handle: number): string;
  /** Called before its rows are loaded, with the number of handles there were. */
  reserve?(handles: number): void;
  /** Called before the parts of a row are loaded, with the row's key. Throws `corrupt`. */
  meet?(handle: number, key: string): void;
  /** Called after its rows; how many handles have none though they must: any but 0 is `corrupt`. */
  missing?(): number;
}

/** Pieces of state under keys of their own, as bytes. */
export interface StateList {
  /** First part of the keys: `top/popularity`. */
  readonly name: string;
  /**
   * At the cut: what has to be written and deleted, beginning with what was taken before and not kept. The bytes are made later: what they are made from must not change.
   * Keys are `name`, or `name/...`.
   */
  cut(): StateListCut;
  /** Throws `corrupt`. Called with each piece, in the order of the keys, before any row is loaded; the bytes may be kept. */
  load(key: string, bytes: Uint8Array): void;
  /** Called when all rows are there. */
  loaded?(): void;
}

export interface StateListCut {
  readonly pieces: readonly { readonly key: string; readonly bytes: () => Uint8Array }[];
  readonly deleted: readonly string[];
  /** The checkpoint stands; without this call it is given up. */
  done(): void;
  giveUp(): void;
}

/** Rows of lists of at most this many entries of 20 bytes fit into a row. */
export const listEntriesMax = 16_384;

/** Every row has its handle. */
export const handleColumn = "handle";

/** The configuration of the table that holds a part of the state. */
export function tableConfigOf(table: Pick<StateTable, "parts">): TableConfig {
  const columns: Record<string, TableConfig["columns"][string]> = { [handleColumn]: { type: "i64", owner: "stream" } };
  for (const part of table.parts) {
    for (const [name, column] of Object.entries(part.columns)) {
      if (columns[name] !== undefined) throw new TypeError(`two parts of the state have a column ${name}`);
      columns[name] = { ...column, owner: "stream" };
    }
  }
  return { key: "string", columns };
}
