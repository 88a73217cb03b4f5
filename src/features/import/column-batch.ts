// Rows of an import on their way from a file to a table: column by column, in arrays, never a JavaScript value a row.
// Why: one object or string a row costs ten times what reading the row costs (docs/design/import.md).
// Invariants: 1. key i is the bytes `keys.offsets[i]` to `keys.offsets[i + 1]`, as the table stores it (UTF-8, or u64 as 8 bytes big-endian)  2. columns stand in the
// order of the schema, little-endian, with one entry a row, refused rows included  3. everything is valid until the next batch of the same source.

/** Byte strings one after another. */
export interface ByteStrings {
  /** `rows + 1` bounds; may be longer. */
  readonly offsets: Uint32Array;
  readonly bytes: Uint8Array;
}

export interface FixedColumn {
  readonly kind: "fixed";
  /** Bytes of one value (a vector's elements included). */
  readonly width: number;
  /** `rows * width` bytes. */
  readonly data: Uint8Array;
  /** Bit i (least first in each byte) is set when row i has a value; undefined when all have. */
  readonly valid: Uint8Array | undefined;
}

export interface BytesColumn extends ByteStrings {
  readonly kind: "bytes";
  readonly valid: Uint8Array | undefined;
}

export type BatchColumn = FixedColumn | BytesColumn;

export interface ColumnBatch {
  readonly rows: number;
  readonly keys: ByteStrings;
  /** By the place of the column in the schema; undefined when this input has no such column. */
  readonly columns: readonly (BatchColumn | undefined)[];
  /** Per row 0, or why it is refused: 1 + place in `faults` of the source. Undefined when none is. */
  readonly faults: Uint16Array | undefined;
  /** Of a refused row, the value that was refused as text, cut. */
  sampleOf(row: number): string | undefined;
}

export function isValid(valid: Uint8Array | undefined, row: number): boolean {
  return valid === undefined || ((valid[row >> 3]! >> (row & 7)) & 1) === 1;
}
