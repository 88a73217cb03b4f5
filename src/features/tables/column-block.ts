// The answer of a fan-out read: many rows, some columns, one run of bytes. Bytes: docs/format/column-block.md. Written by the server, read by any client.
// Why columns of one type that lie side by side share a segment, row by row: then a row is one copy out of storage and one matrix for numpy, and a column of it is the same
// matrix with a stride. Why the default stands where there is no value: a model may read the matrix as it is; the validity bits say which numbers are none.
// Invariants: 1. every place and length lies inside the block, `readColumnBlock` checks it before anything is believed  2. a row without a key and a row of a table or shard
// that is not loaded are told apart from values by `status` and by validity bits, never by zeros.

import { MillraceError } from "#base/errors";
import { columnTypes, isVariable, type ColumnType } from "./row-layout.ts";

export const blockMagic = 0x3142434d; // "MCB1"
export const blockHeadBytes = 64;
export const blockColumnBytes = 32;

/** What is known of each row. */
export const rowStatus = { found: 0, absent: 1, notLoaded: 2 } as const;

export interface BlockColumn {
  readonly name: string;
  readonly type: ColumnType;
  /** Of a vector; else 1. */
  readonly elements: number;
  /** Fixed width: where row 0's value begins, and how far the next row's is. */
  readonly dataAt: number;
  readonly stride: number;
  /** Text and bytes: where `rows + 1` bounds (u32) begin that count from `dataAt`; else 0. */
  readonly boundsAt: number;
  readonly validBit: number;
}

/** A block that was checked; reads are views of its bytes. */
export class ColumnBlock {
  readonly bytes: Uint8Array;
  readonly rows: number;
  readonly columns: readonly BlockColumn[];
  /** The imported version that was read; "" when the table has none. */
  readonly version: string;
  /** Of the table's log: what was written before it is in the answer. */
  readonly logOffset: number;
  readonly revision: number;
  readonly #view: DataView;
  readonly #statusAt: number;
  readonly #validAt: number;
  readonly #validStride: number;

  /** Throws `corrupt` for bytes that are no whole block. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = view;
    const size = bytes.length;
    if (size < blockHeadBytes || view.getUint32(0, true) !== blockMagic) throw damaged("it does not begin as one");
    if (view.getUint32(4, true) !== size) throw damaged("it is not as long as it says");
    const rows = view.getUint32(8, true);
    const count = view.getUint16(12, true);
    const inside = (at: number, length: number): number => {
      if (at < blockHeadBytes || at + length > size) throw damaged("a part lies outside");
      return at;
    };
    this.rows = rows;
    this.logOffset = view.getUint32(16, true) + view.getUint32(20, true) * 2 ** 32;
    this.#validStride = view.getUint16(32, true);
    this.#statusAt = inside(view.getUint32(24, true), rows);
    this.#validAt = inside(view.getUint32(28, true), rows * this.#validStride);
    this.revision = view.getUint16(34, true);
    const versionAt = view.getUint32(36, true);
    const versionBytes = view.getUint32(40, true);
    this.version = decoder.decode(bytes.subarray(inside(versionAt, versionBytes), versionAt + versionBytes));
    inside(blockHeadBytes, count * blockColumnBytes);
    const columns: BlockColumn[] = [];
    for (let i = 0; i < count; i += 1) {
      const at = blockHeadBytes + i * blockColumnBytes;
      const nameAt = view.getUint32(at, true);
      const nameBytes = view.getUint16(at + 4, true);
      const type = columnTypes[bytes[at + 6]! - 1];
      const elements = view.getUint32(at + 8, true);
      const dataAt = view.getUint32(at + 12, true);
      const stride = view.getUint32(at + 16, true);
      const boundsAt = view.getUint32(at + 20, true);
      const dataBytes = view.getUint32(at + 24, true);
      const validBit = view.getUint16(at + 28, true);
      if (type === undefined || validBit >= this.#validStride * 8) throw damaged("a column of an unknown type");
      const name = decoder.decode(bytes.subarray(inside(nameAt, nameBytes), nameAt + nameBytes));
      if (isVariable(type)) {
        inside(dataAt, dataBytes);
        inside(boundsAt, 4 * (rows + 1));
        let last = 0;
        for (let row = 0; row <= rows; row += 1) {
          const bound = view.getUint32(boundsAt + 4 * row, true);
          if (bound < last || bound > dataBytes) throw damaged("bounds that do not rise");
          last = bound;
        }
      } else if (rows > 0) {
        const width = elements * elementBytes(type);
        if (width === 0 || stride < width) throw damaged("a width that cannot be");
        inside(dataAt, (rows - 1) * stride + width);
      }
      columns.push({ name, type, elements, dataAt, stride, boundsAt: isVariable(type) ? boundsAt : 0, validBit });
    }
    this.columns = columns;
  }

  /** Of `rowStatus`. */
  status(row: number): number {
    return this.bytes[this.#statusAt + row]!;
  }

  /** Whether the row has a value in the column. */
  isValid(row: number, column: BlockColumn): boolean {
    return (this.bytes[this.#validAt + row * this.#validStride + (column.validBit >> 3)]! & (1 << (column.validBit & 7))) !== 0;
  }

  /** The bytes of a value; the default's where there is none. */
  bytesOf(row: number, column: BlockColumn): Uint8Array {
    if (column.boundsAt > 0) {
      const from = column.dataAt + this.#view.getUint32(column.boundsAt + 4 * row, true);
      return this.bytes.subarray(from, column.dataAt + this.#view.getUint32(column.boundsAt + 4 * row + 4, true));
    }
    const from = column.dataAt + row * column.stride;
    return this.bytes.subarray(from, from + column.elements * elementBytes(column.type));
  }

  column(name: string): BlockColumn | undefined {
    return this.columns.find((one) => one.name === name);
  }

  /** A column of f32 as numbers, row by row, `elements` each. A view when it lies alone and aligned, else a copy. Throws `invalid` for other types. */
  f32(name: string): Float32Array {
    const column = this.column(name);
    if (column === undefined || (column.type !== "f32" && column.type !== "f32[]")) {
      throw new MillraceError("invalid", `the block has no column ${name} of f32`, { todo: "ask for it, or read it by its own type" });
    }
    const { elements, stride, dataAt } = column;
    const start = this.bytes.byteOffset + dataAt;
    if (stride === 4 * elements && start % 4 === 0) return new Float32Array(this.bytes.buffer, start, this.rows * elements);
    const into = new Float32Array(this.rows * elements);
    for (let row = 0, to = 0; row < this.rows; row += 1) {
      for (let i = 0; i < elements; i += 1, to += 1) into[to] = this.#view.getFloat32(dataAt + row * stride + 4 * i, true);
    }
    return into;
  }
}

function elementBytes(type: ColumnType): number {
  return type === "bool" ? 1 : type === "f32" || type === "f32[]" ? 4 : 8;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function damaged(what: string): MillraceError {
  return new MillraceError("corrupt", `these bytes are no column block: ${what}`, { todo: "read again; is the other side a millrace of the same format?" });
}
