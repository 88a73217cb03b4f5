// The bytes of DuckDB's result vectors, without a JavaScript value a row.
// Why: decoding an id of 17 bytes into a string costs 1.7 us a row, more than all the rest of an import may. The strings of a chunk lie back to back in a few
// blocks of the chunk's own heap (a streamed chunk is a copy, and a copy appends), so a chunk of 2,048 ids is some 4 copies instead of 2,048 calls.
// Layout (DuckDB's C interface, duckdb_string_t, 16 bytes a value): u32 length; up to 12 bytes inline, else 4 bytes of prefix and a pointer.
// Invariants: 1. only bytes that belong to a string are read: strings are joined to one copy when one begins exactly where the last ended
// 2. what the vector says is null is not looked at: its bytes may be anything.
// Concurrency: a reader belongs to one thread; its arrays are reused by the next chunk.

import duckdb, { type DataChunk, type Vector } from "@duckdb/node-bindings";
import { MillraceError } from "#base/errors";

const inlineBytesMax = 12;

/** Validity bits of `rows` values: bit i of byte i >> 3; undefined when all are valid. */
export function validityOf(vector: Vector, rows: number): Uint8Array | undefined {
  // The binding gives an empty array (or none) for a vector without a mask.
  const bits = duckdb.vector_get_validity(vector, Math.ceil(rows / 64) * 8) as Uint8Array | null | undefined;
  if (bits === null || bits === undefined || bits.length === 0) return undefined;
  const whole = rows >> 3;
  for (let i = 0; i < whole; i++) if (bits[i] !== 0xff) return bits;
  const rest = (1 << (rows & 7)) - 1;
  return rest !== 0 && (bits[whole]! & rest) !== rest ? bits : undefined;
}

export function vectorOf(chunk: DataChunk, column: number): Vector {
  return duckdb.data_chunk_get_vector(chunk, column);
}

/** `rows * width` bytes of a vector of fixed-width values. */
export function fixedOf(vector: Vector, rows: number, width: number): Uint8Array {
  return duckdb.vector_get_data(vector, rows * width);
}

/** The elements of an ARRAY vector one after another; undefined as `holes` when no element is null, else the bits of the elements. */
export function arrayOf(vector: Vector, rows: number, length: number, width: number): { data: Uint8Array; holes: Uint8Array | undefined } {
  const child = duckdb.array_vector_get_child(vector);
  return { data: fixedOf(child, rows * length, width), holes: validityOf(child, rows * length) };
}

/** Reads the strings (or blobs) of a vector; one a column, reused from chunk to chunk. */
export class StringReader {
  offsets = new Uint32Array(2_049);
  bytes = new Uint8Array(64 * 1_024);

  /** Fills `offsets` and `bytes` with the values of `rows` rows; a null is an empty string. `bytesMax` bounds the whole chunk. */
  read(vector: Vector, rows: number, valid: Uint8Array | undefined, bytesMax: number): void {
    if (this.offsets.length < rows + 1) this.offsets = new Uint32Array(rows + 1);
    const entries = fixedOf(vector, rows, 16);
    const words = new Uint32Array(entries.buffer, entries.byteOffset, rows * 4);
    const { offsets } = this;
    let total = 0;
    for (let row = 0; row < rows; row++) {
      offsets[row] = total;
      if (valid === undefined || ((valid[row >> 3]! >> (row & 7)) & 1) === 1) total += words[4 * row]!;
    }
    offsets[rows] = total;
    if (total > bytesMax) {
      throw new MillraceError("invalid", `strings of ${total} bytes in ${rows} rows`, { todo: `keep the strings of 2,048 rows within ${bytesMax} bytes` });
    }
    if (this.bytes.length < total) this.bytes = new Uint8Array(Math.max(total, this.bytes.length * 2));
    const { bytes } = this;
    // A run: strings from `first` on that lie back to back, `runBytes` so far, the next one expected at `end`.
    let first = -1;
    let runBytes = 0;
    let endLow = 0;
    let endHigh = 0;
    for (let row = 0; row < rows; row++) {
      const length = offsets[row + 1]! - offsets[row]!;
      if (length === 0) continue;
      if (length <= inlineBytesMax) {
        const from = 16 * row + 4;
        let to = offsets[row]!;
        for (let at = from; at < from + length; at++) bytes[to++] = entries[at]!;
        if (first >= 0) this.#copy(entries, first, runBytes);
        first = -1;
        continue;
      }
      const low = words[4 * row + 2]!;
      const high = words[4 * row + 3]!;
      if (first >= 0 && low === endLow && high === endHigh) {
        runBytes += length;
      } else {
        if (first >= 0) this.#copy(entries, first, runBytes);
        first = row;
        runBytes = length;
      }
      endLow = (low + length) >>> 0;
      endHigh = endLow < low ? high + 1 : high;
    }
    if (first >= 0) this.#copy(entries, first, runBytes);
  }

  #copy(entries: Uint8Array, first: number, runBytes: number): void {
    this.bytes.set(duckdb.get_data_from_pointer(entries.buffer as ArrayBuffer, entries.byteOffset + 16 * first + 8, runBytes), this.offsets[first]);
  }
}

/** The text of one value, for messages about refused rows. */
export function textOf(reader: StringReader, row: number): string {
  return new TextDecoder().decode(reader.bytes.subarray(reader.offsets[row], reader.offsets[row + 1]));
}
