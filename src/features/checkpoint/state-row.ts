// A row of the state as its stores write and read it: named columns of numbers, texts and lists of numbers, over the codec of table rows.
// Invariants: 1. what is 0 (unless by `wholeOrZero`), empty or left out takes no bytes and comes back as 0, empty  2. numbers come back bit by bit (f64, f32, u32), but that -0 is 0
// 3. a list whose bytes are no whole numbers is `corrupt`.
// Lists lie as little-endian numbers one behind another, so numpy reads them with `frombuffer`.
// Cost: 30 ns a number, a copy a list. A list that is read is a view, until the next row: a buffer each would cost 5 us.

import { MillraceError } from "#base/errors";
import { cellState, RowCells } from "../tables/row-cells.ts";
import type { TableSchema } from "../tables/table-schema.ts";

type Numbers = Uint32Array | Float32Array | Float64Array;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Lists up to so many entries are written number by number: a view for each would cost as much time, and garbage. */
const viewedFrom = 48;

export class StateRowWriter {
  readonly #cells: RowCells;
  #timeMs = 0;

  constructor(schema: TableSchema) {
    this.#cells = new RowCells(schema);
  }

  /** Begins a row whose cells are of `timeMs`. */
  begin(timeMs: number): void {
    this.#cells.clear();
    this.#timeMs = timeMs;
  }

  f64(name: string, value: number): void {
    if (value === 0) return;
    const at = this.#cells.take(this.#place(name), 8, this.#timeMs, 0);
    this.#cells.view.setFloat64(at, value, true);
  }

  f32(name: string, value: number): void {
    if (value === 0) return;
    const at = this.#cells.take(this.#place(name), 4, this.#timeMs, 0);
    this.#cells.view.setFloat32(at, value, true);
  }

  /** A whole number, at most 2^53. */
  whole(name: string, value: number): void {
    if (value !== 0) this.wholeOrZero(name, value);
  }

  /** As `whole`, but 0 is written too: for a column that others read, to whom what is left out is null. */
  wholeOrZero(name: string, value: number): void {
    const at = this.#cells.take(this.#place(name), 8, this.#timeMs, 0);
    this.#cells.view.setUint32(at, value >>> 0, true);
    this.#cells.view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
  }

  text(name: string, value: string): void {
    if (value === "") return;
    const place = this.#place(name);
    // A UTF-16 unit takes at most three bytes of UTF-8.
    const at = this.#cells.take(place, value.length * 3, this.#timeMs, 0);
    this.#cells.length[place] = encoder.encodeInto(value, this.#cells.bytes.subarray(at)).written;
  }

  bytes(name: string, value: Uint8Array): void {
    if (value.length > 0) this.#cells.set(this.#place(name), value, this.#timeMs, 0);
  }

  /** Entries `from` to `to` of a list. */
  list(name: string, values: Numbers, from: number, to: number): void {
    if (to <= from) return;
    const width = values.BYTES_PER_ELEMENT;
    if (to - from <= viewedFrom) {
      const at = this.#cells.take(this.#place(name), (to - from) * width, this.#timeMs, 0);
      writeNumbers(this.#cells.view, at, values, from, to);
      return;
    }
    this.#cells.set(this.#place(name), new Uint8Array(values.buffer, values.byteOffset + from * width, (to - from) * width), this.#timeMs, 0);
  }

  /** The row's bytes: a view until the next row. */
  encode(): Uint8Array {
    return this.#cells.encode();
  }

  #place(name: string): number {
    return this.#cells.schema.required(name).laid.at;
  }
}

function writeNumbers(view: DataView, start: number, values: Numbers, from: number, to: number): void {
  let at = start;
  if (values instanceof Uint32Array) for (let i = from; i < to; i += 1, at += 4) view.setUint32(at, values[i]!, true);
  else if (values instanceof Float32Array) for (let i = from; i < to; i += 1, at += 4) view.setFloat32(at, values[i]!, true);
  else for (let i = from; i < to; i += 1, at += 8) view.setFloat64(at, values[i]!, true);
}

export class StateRowReader {
  readonly #cells: RowCells;
  /** Lists of the row, aligned for any numbers. */
  #lists = new ArrayBuffer(16_384);
  #listsUsed = 0;

  constructor(schema: TableSchema) {
    this.#cells = new RowCells(schema);
  }

  /** Takes a row. Throws `corrupt`. */
  load(row: Uint8Array): void {
    this.#listsUsed = 0;
    this.#cells.load(row, 0, 0);
  }

  f64(name: string): number {
    const { at } = this.#cells;
    const place = this.#said(name);
    return place < 0 ? 0 : this.#cells.view.getFloat64(at[place]!, true);
  }

  f32(name: string): number {
    const { at } = this.#cells;
    const place = this.#said(name);
    return place < 0 ? 0 : this.#cells.view.getFloat32(at[place]!, true);
  }

  whole(name: string): number {
    const place = this.#said(name);
    if (place < 0) return 0;
    const { at, view } = this.#cells;
    const value = view.getUint32(at[place]!, true) + view.getInt32(at[place]! + 4, true) * 2 ** 32;
    if (!Number.isSafeInteger(value)) throw this.damaged(`column ${name} is no number that was written`);
    return value;
  }

  text(name: string): string {
    const place = this.#said(name);
    if (place < 0) return "";
    try {
      return decoder.decode(this.#cells.valueOf(place));
    } catch {
      throw this.damaged(`column ${name} is no UTF-8`);
    }
  }

  /** A view, until the next row. */
  bytes(name: string): Uint8Array {
    const place = this.#said(name);
    return place < 0 ? nothing : this.#cells.valueOf(place);
  }

  /** A list: a view, until the next row, as the next two. */
  u32s(name: string): Uint32Array {
    const { buffer, byteOffset, length } = this.#copy(name, 4);
    return new Uint32Array(buffer, byteOffset, length / 4);
  }

  f32s(name: string): Float32Array {
    const { buffer, byteOffset, length } = this.#copy(name, 4);
    return new Float32Array(buffer, byteOffset, length / 4);
  }

  f64s(name: string): Float64Array {
    const { buffer, byteOffset, length } = this.#copy(name, 8);
    return new Float64Array(buffer, byteOffset, length / 8);
  }

  /** The error for a row that contradicts itself. */
  damaged(what: string): MillraceError {
    return damagedState(`a row of table ${this.#cells.schema.name}: ${what}`);
  }

  #said(name: string): number {
    const place = this.#cells.schema.column(name)?.laid.at ?? -1;
    return place >= 0 && this.#cells.state[place] === cellState.value ? place : -1;
  }

  #copy(name: string, width: number): Uint8Array<ArrayBuffer> {
    const bytes = this.bytes(name);
    if (bytes.length % width !== 0) throw this.damaged(`list ${name} of ${bytes.length} bytes`);
    const size = (bytes.length + 7) & ~7;
    if (this.#listsUsed + size > this.#lists.byteLength) {
      // Views that were given out keep the old buffer.
      this.#lists = new ArrayBuffer((this.#listsUsed + size) * 2);
      this.#listsUsed = 0;
    }
    const copied = new Uint8Array(this.#lists, this.#listsUsed, bytes.length);
    this.#listsUsed += size;
    copied.set(bytes);
    return copied;
  }
}

const nothing = new Uint8Array(0);

/** State that contradicts itself. */
export function damagedState(what: string): MillraceError {
  return new MillraceError("corrupt", `the checkpoint of the aggregations: ${what}`, { todo: "see docs/design/features.md, When something fails" });
}
