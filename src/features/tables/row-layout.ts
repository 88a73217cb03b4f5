// Where each column of a schema revision lies in a row's fixed area. Bytes: docs/format/row.md.
// Why fixed offsets: a fan-out read is then a gather of the same few byte ranges out of every row, by one kernel call.
// Why columns are sorted by alignment (8 bytes, floats, slots of texts, booleans) and then by id: columns of one type lie side by side, so that an answer holds them
// as one matrix, and the order in which a configuration names its columns means nothing.
// Invariants: 1. a revision's layout never changes: rows of it may lie in files for ever  2. bit i of a row's validity bits is column i of the layout.

import { MillraceError } from "#base/errors";
import { tableLimits } from "#wire/table-limits";

export const columnTypes = ["i64", "f32", "f64", "f32[]", "u64[]", "string", "bytes", "bool"] as const;
export type ColumnType = (typeof columnTypes)[number];

/** Code of a type on disk and on the wire: never change one. */
export const typeCodeOf: Readonly<Record<ColumnType, number>> = { i64: 1, f32: 2, f64: 3, "f32[]": 4, "u64[]": 5, string: 6, bytes: 7, bool: 8 };

export function typeOfCode(code: number): ColumnType | undefined {
  return columnTypes[code - 1];
}

/** Bytes of one element in the fixed area; texts have a slot there, u32 place and u32 length. */
const elementBytesOf: Readonly<Record<ColumnType, number>> = { i64: 8, f32: 4, f64: 8, "f32[]": 4, "u64[]": 8, string: 8, bytes: 8, bool: 1 };
const orderOf: Readonly<Record<ColumnType, number>> = { i64: 0, f64: 0, "u64[]": 0, f32: 1, "f32[]": 1, string: 2, bytes: 2, bool: 3 };

export function isVariable(type: ColumnType): boolean {
  return type === "string" || type === "bytes";
}

/** What a layout needs to know of a column. */
export interface LaidColumn {
  /** Given once in the life of a table, never again. */
  readonly id: number;
  readonly type: ColumnType;
  /** Of a vector; else 1. */
  readonly elements: number;
}

export interface LayoutColumn extends LaidColumn {
  /** Place in the layout = bit of the validity bits. */
  readonly at: number;
  /** Of its bytes in a dense row, from the start of the row. */
  readonly offset: number;
  /** In the fixed area. */
  readonly bytes: number;
  /** Columns of one class lie side by side and may stand in one segment of an answer: 0 = 8 bytes, 1 = floats, 2 = slots, 3 = booleans. */
  readonly order: number;
  readonly variable: boolean;
}

export const rowHeadBytes = 4;

export class RowLayout {
  readonly revision: number;
  readonly columns: readonly LayoutColumn[];
  /** Bytes of the validity bits, a multiple of 4. They begin at `rowHeadBytes`. */
  readonly validBytes: number;
  readonly fixedFrom: number;
  /** Where the fixed area of a dense row ends. */
  readonly fixedTo: number;
  readonly #byId: ReadonlyMap<number, LayoutColumn>;

  constructor(revision: number, columns: readonly LaidColumn[]) {
    if (columns.length === 0 || columns.length > tableLimits.columnsMax) {
      throw new MillraceError("invalid", `a table of ${columns.length} columns`, { todo: `declare 1 to ${tableLimits.columnsMax}; a vector counts as one` });
    }
    const sorted = [...columns].sort((a, b) => orderOf[a.type] - orderOf[b.type] || a.id - b.id);
    this.revision = revision;
    this.validBytes = Math.ceil(columns.length / 32) * 4;
    this.fixedFrom = rowHeadBytes + this.validBytes;
    let offset = this.fixedFrom;
    this.columns = sorted.map(({ id, type, elements }, at) => {
      const bytes = elementBytesOf[type] * elements;
      const column = { id, type, elements, at, offset, bytes, order: orderOf[type], variable: isVariable(type) };
      offset += bytes;
      return column;
    });
    this.fixedTo = offset;
    if (offset - this.fixedFrom > tableLimits.fixedBytesMax) {
      throw new MillraceError("invalid", `columns of ${offset - this.fixedFrom} bytes together`, {
        todo: `keep numbers, vectors and booleans of a table within ${tableLimits.fixedBytesMax} bytes, or make two tables`,
      });
    }
    this.#byId = new Map(this.columns.map((column) => [column.id, column]));
  }

  byId(id: number): LayoutColumn | undefined {
    return this.#byId.get(id);
  }
}
