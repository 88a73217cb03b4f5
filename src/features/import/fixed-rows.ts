// Rows of one length packed by the kernel: schemas without texts and without times of their own a column. The same bytes as RowPacker, which packs all others.
// How: what is equal in all rows of a batch is a template (head, bits of the columns that have every value, zeros); columns are copied into the memory and put into place by
// one call (kernels/stage-rows.ts).
// Invariants: 1. a column that the batch does not have, or a value that is not valid, is bit 0 and zeros  2. the bytes are RowPacker's (a test compares them).
// Cost: a copy of each column, then some 10 ns a row of eight numbers. Limits: fixedRowBytesMax a row.

import { packArgumentBytes, packColumnBytes, packColumnWords, packWords } from "#kernel/entry-layout";
import { type KernelMemory, roundUp } from "#kernel/kernel-memory";
import { rowFormat } from "../tables/row-cells.ts";
import { rowHeadBytes } from "../tables/row-layout.ts";
import type { TableSchema } from "../tables/table-schema.ts";
import type { BatchColumn } from "./column-batch.ts";

/** Longer rows go through RowPacker: their bytes are copied by vectors there, too, and the room here stays small. */
const fixedRowBytesMax = 1_024;

/** Bytes of a row, or 0 when the rows of a schema are not all of one (short) length. */
export function fixedRowBytes(schema: TableSchema): number {
  const { layout, byPlace, ttlMaxMs } = schema;
  const bytes = roundUp(layout.fixedTo, 4);
  const plain = byPlace.every(({ ttlMs, laid }) => ttlMs === ttlMaxMs && !laid.variable);
  return plain && bytes <= fixedRowBytesMax ? bytes : 0;
}

export class FixedRows {
  readonly rowBytes: number;
  /** Packed rows: row i begins at `at + i * rowBytes`. */
  readonly at: number;
  readonly #memory: KernelMemory;
  readonly #schema: TableSchema;
  readonly #argsAt: number;
  readonly #templateAt: number;
  readonly #columnsAt: number;
  readonly #dataAt: readonly number[];
  readonly #validAt: readonly number[];

  /** Bytes in the memory for batches of `rowsMax` rows. */
  static bytesFor(schema: TableSchema, rowsMax: number): number {
    const rowBytes = fixedRowBytes(schema);
    const columns = schema.columns.length;
    const data = schema.columns.reduce((sum, { laid }) => sum + roundUp(rowsMax * laid.bytes, 64), 0);
    return (
      roundUp(packArgumentBytes, 64) +
      roundUp(rowBytes, 64) +
      roundUp(columns * packColumnBytes, 64) +
      data +
      columns * bitsRoom(rowsMax) +
      rowsMax * rowBytes +
      64
    );
  }

  /** `at`: 64-aligned, `bytesFor` bytes. Only for schemas with `fixedRowBytes`. */
  constructor(memory: KernelMemory, schema: TableSchema, rowsMax: number, at: number) {
    this.#memory = memory;
    this.#schema = schema;
    this.rowBytes = fixedRowBytes(schema);
    let next = at;
    const place = (bytes: number): number => {
      const from = next;
      next += roundUp(bytes, 64);
      return from;
    };
    this.#argsAt = place(packArgumentBytes);
    this.#templateAt = place(this.rowBytes);
    this.#columnsAt = place(schema.columns.length * packColumnBytes);
    this.#dataAt = schema.columns.map(({ laid }) => place(rowsMax * laid.bytes));
    this.#validAt = schema.columns.map(() => place(bitsRoom(rowsMax)));
    this.at = place(rowsMax * this.rowBytes);
  }

  /** Packs the rows of a batch. */
  pack(rows: number, columns: readonly (BatchColumn | undefined)[]): void {
    const { bytes, u32, calls } = this.#memory;
    const template = bytes.subarray(this.#templateAt, this.#templateAt + this.rowBytes).fill(0);
    new DataView(template.buffer, template.byteOffset).setUint32(0, rowFormat | (this.#schema.layout.revision << 16), true);
    let count = 0;
    for (let place = 0; place < columns.length; place++) {
      const column = columns[place];
      if (column?.kind !== "fixed") continue;
      const { laid } = this.#schema.columns[place]!;
      const dataAt = this.#dataAt[place]!;
      const validAt = this.#validAt[place]!;
      const bitAt = rowHeadBytes + (laid.at >> 3);
      const bit = 1 << (laid.at & 7);
      bytes.set(column.data.subarray(0, rows * laid.bytes), dataAt);
      if (column.valid === undefined) template[bitAt]! |= bit;
      else bytes.set(column.valid.subarray(0, Math.ceil(rows / 8)), validAt);
      const c = (this.#columnsAt + count * packColumnBytes) / 4;
      u32[c + packColumnWords.data] = dataAt;
      u32[c + packColumnWords.width] = laid.bytes;
      u32[c + packColumnWords.offset] = laid.offset;
      u32[c + packColumnWords.valid] = column.valid === undefined ? 0 : validAt;
      u32[c + packColumnWords.bitAt] = bitAt;
      u32[c + packColumnWords.bit] = bit;
      count++;
    }
    const a = this.#argsAt / 4;
    u32[a + packWords.rows] = rows;
    u32[a + packWords.out] = this.at;
    u32[a + packWords.rowBytes] = this.rowBytes;
    u32[a + packWords.template] = this.#templateAt;
    u32[a + packWords.columns] = this.#columnsAt;
    u32[a + packWords.columnCount] = count;
    calls.packRows(this.#argsAt);
  }
}

function bitsRoom(rows: number): number {
  return roundUp(Math.ceil(rows / 8), 64);
}
