// Rows of an import packed from columns, a batch at a time: dense rows of the schema's newest layout, one behind another. Bytes: docs/format/row.md.
// Why not RowCells: it takes about a microsecond a row; an import has two for everything. Here each column is written down all rows in one loop, words where they are aligned.
// Invariants: 1. what is packed and loaded by RowCells is the same values, times and expiries  2. a value that is not valid is a column of which the row says nothing.
// Cost: measured in docs/design/tables.md; no allocation once the buffers have grown.
// Limits: a batch of packed rows is at most 2^31 bytes; a row beyond tableLimits.rowBytesMax is for the caller to refuse before (`bytesOf`).

import { rowFlags, rowFormat, writeU48 } from "./row-cells.ts";
import { rowHeadBytes } from "./row-layout.ts";
import type { TableSchema } from "./table-schema.ts";

/** Values of one column, one a row, refused rows included. Bit i (least first) of `valid` says whether row i has one; undefined: all have. */
export type PackedColumn =
  | { readonly kind: "fixed"; readonly width: number; readonly data: Uint8Array; readonly valid: Uint8Array | undefined }
  | { readonly kind: "bytes"; readonly offsets: Uint32Array; readonly bytes: Uint8Array; readonly valid: Uint8Array | undefined };

const groupBytes = 13;

export class RowPacker {
  readonly schema: TableSchema;
  /** Packed rows: row i is the bytes `offsets[i]` to `offsets[i + 1]`. Until the next `pack`. */
  bytes = new Uint8Array(0);
  offsets = new Uint32Array(1);
  readonly #ttls: readonly number[];
  readonly #groupOf: Uint8Array;
  /** Bytes before the texts: all that has a fixed length. */
  readonly #fixedBytes: number;
  readonly #cells: boolean;

  constructor(schema: TableSchema) {
    this.schema = schema;
    const { layout, byPlace, ttlMaxMs } = schema;
    this.#ttls = [...new Set(byPlace.map(({ ttlMs }) => ttlMs))];
    this.#groupOf = Uint8Array.from(byPlace, ({ ttlMs }) => this.#ttls.indexOf(ttlMs));
    this.#cells = byPlace.some(({ ttlMs }) => ttlMs !== ttlMaxMs);
    this.#fixedBytes = layout.fixedTo + (this.#cells ? 7 + this.#ttls.length * groupBytes + byPlace.length : 0);
  }

  /** When a row of this time goes as a whole: the entry's expiry, 0 = never. */
  expiryOf(timeMs: number): number {
    return this.schema.ttlMaxMs === 0 ? 0 : timeMs + this.schema.ttlMaxMs;
  }

  /** Bytes of row `row` when packed: to refuse what is too long. */
  bytesOf(columns: readonly (PackedColumn | undefined)[], row: number): number {
    let bytes = this.#fixedBytes;
    for (const column of columns) if (column?.kind === "bytes" && isSet(column.valid, row)) bytes += column.offsets[row + 1]! - column.offsets[row]!;
    return bytes;
  }

  /** Packs `rows` rows; `columns` by the schema's order of columns. `timeMs`: of all rows, or one a row. */
  pack(rows: number, columns: readonly (PackedColumn | undefined)[], timeMs: number | Float64Array): void {
    const { schema } = this;
    const { layout } = schema;
    if (this.offsets.length < rows + 1) this.offsets = new Uint32Array(Math.max(rows + 1, this.offsets.length * 2));
    const offsets = this.offsets;
    const texts = columns.some((column) => column?.kind === "bytes");
    // Rows of one length are padded to whole words, so that columns are written by words.
    const size = texts ? this.#fixedBytes : Math.ceil(this.#fixedBytes / 4) * 4;
    let total = 0;
    for (let row = 0; row < rows; row += 1) {
      offsets[row] = total;
      total += texts ? this.bytesOf(columns, row) : size;
    }
    offsets[rows] = total;
    if (this.bytes.length < total) this.bytes = new Uint8Array(Math.ceil((total * 1.25) / 64) * 64);
    const { bytes } = this;
    const view = new DataView(bytes.buffer);
    const words = new Uint32Array(bytes.buffer);
    bytes.fill(0, 0, total);
    const head = rowFormat | ((this.#cells ? rowFlags.cells : 0) << 8) | (layout.revision << 16);
    for (let row = 0; row < rows; row += 1) view.setUint32(offsets[row]!, head, true);
    schema.columns.forEach((column, place) => {
      const values = columns[place];
      if (values === undefined) return;
      const { laid } = column;
      const { valid } = values;
      const bitAt = rowHeadBytes + (laid.at >> 3);
      const bit = 1 << (laid.at & 7);
      for (let row = 0; row < rows; row += 1) if (isSet(valid, row)) bytes[offsets[row]! + bitAt]! |= bit;
      // The slot of a text is filled by `#putTexts`.
      if (values.kind === "bytes") return;
      const { data, width } = values;
      const stride = size >> 2;
      if (!texts && (width & 3) === 0 && (data.byteOffset & 3) === 0 && (laid.offset & 3) === 0) {
        const from = new Uint32Array(data.buffer, data.byteOffset, (rows * width) >> 2);
        const wide = width >> 2;
        for (let part = 0; part < wide; part += 1) {
          for (let row = 0, to = (laid.offset >> 2) + part, at = part; row < rows; row += 1, to += stride, at += wide) words[to] = from[at]!;
        }
        // What is not valid may be any bytes: zeros, as everywhere.
        if (valid !== undefined) {
          for (let row = 0; row < rows; row += 1) if (!isSet(valid, row)) bytes.fill(0, offsets[row]! + laid.offset, offsets[row]! + laid.offset + width);
        }
        return;
      }
      for (let row = 0; row < rows; row += 1) {
        if (!isSet(valid, row)) continue;
        const to = offsets[row]! + laid.offset;
        const from = row * width;
        for (let i = 0; i < width; i += 1) bytes[to + i] = data[from + i]!;
      }
    });
    if (texts) this.#putTexts(rows, columns, view);
    if (this.#cells) this.#putTimes(rows, timeMs, view);
  }

  #putTexts(rows: number, columns: readonly (PackedColumn | undefined)[], view: DataView): void {
    const { bytes, offsets } = this;
    const { schema } = this;
    for (let row = 0; row < rows; row += 1) {
      const rowAt = offsets[row]!;
      let heap = this.#fixedBytes;
      for (let place = 0; place < columns.length; place += 1) {
        const values = columns[place];
        if (values?.kind !== "bytes" || !isSet(values.valid, row)) continue;
        const from = values.offsets[row]!;
        const length = values.offsets[row + 1]! - from;
        const slot = rowAt + schema.columns[place]!.laid.offset;
        view.setUint32(slot, heap, true);
        view.setUint32(slot + 4, length, true);
        if (length > 32) bytes.set(values.bytes.subarray(from, from + length), rowAt + heap);
        else for (let i = 0; i < length; i += 1) bytes[rowAt + heap + i] = values.bytes[from + i]!;
        heap += length;
      }
    }
  }

  #putTimes(rows: number, timeMs: number | Float64Array, view: DataView): void {
    const { bytes, offsets } = this;
    const { layout } = this.schema;
    const columns = layout.columns.length;
    let earliestTtl = 0;
    for (const ttl of this.#ttls) if (ttl > 0 && (earliestTtl === 0 || ttl < earliestTtl)) earliestTtl = ttl;
    for (let row = 0; row < rows; row += 1) {
      const time = typeof timeMs === "number" ? timeMs : timeMs[row]!;
      let at = offsets[row]! + layout.fixedTo;
      writeU48(view, at, earliestTtl === 0 ? 0 : time + earliestTtl);
      bytes[at + 6] = this.#ttls.length;
      at += 7;
      for (const ttl of this.#ttls) {
        writeU48(view, at, time);
        writeU48(view, at + 6, ttl === 0 ? 0 : time + ttl);
        at += groupBytes;
      }
      const validAt = offsets[row]! + rowHeadBytes;
      for (let i = 0; i < columns; i += 1) bytes[at + i] = (bytes[validAt + (i >> 3)]! & (1 << (i & 7))) === 0 ? 255 : this.#groupOf[i]!;
    }
  }
}

function isSet(valid: Uint8Array | undefined, row: number): boolean {
  return valid === undefined || (valid[row >> 3]! & (1 << (row & 7))) !== 0;
}
