// One row taken apart into cells, to be changed, merged or looked at; and the codec of rows. Bytes: docs/format/row.md.
// Why: a fan-out read gathers byte ranges and never takes a row apart. Whatever needs more (a partial write, a row in base and delta, an older revision, times of a
// column) goes through here, a row at a time and without allocation once the buffers have grown.
// Invariants: 1. cells are by place in the schema's newest layout, whatever revision a row was written by  2. every length of a row is checked before it is believed; a row
// that contradicts itself is `corrupt`  3. what is encoded and loaded again is the same cells.
// Cost: load about 0.3 us + 5 ns a cell, encode the like.
// Concurrency: an object belongs to one thread and one use at a time.

import { MillraceError } from "#base/errors";
import { copyBytes } from "#platform/copy-bytes";
import { tableLimits } from "#wire/table-limits";
import { type LayoutColumn, rowHeadBytes, type RowLayout } from "./row-layout.ts";
import type { TableSchema } from "./table-schema.ts";

/** Of the entry's head: a table row. Shared numbering of the engine: docs/format/run-file.md. */
export const rowKind = 8;
export const rowFormat = 1;
/** Flags of a row. */
export const rowFlags = { sparse: 1, cells: 2, floor: 4 } as const;
const flagsKnown = 7;

/** What a row says of a column. */
export const cellState = { unsaid: 0, value: 1, null: 2 } as const;

const groupBytes = 13;
const groupNull = 1;
const noGroup = 255;

/** How cells of an older layout get into the newest one. `step` by place in the old layout: place in the new one, or -1; and whether its bytes change. */
interface Mapping {
  readonly place: Int16Array;
  readonly widened: Uint8Array;
}

export class RowCells {
  readonly schema: TableSchema;
  readonly state: Uint8Array;
  readonly timeMs: Float64Array;
  /** 0: never. */
  readonly expiryMs: Float64Array;
  /** Where a value's bytes begin in `bytes`, and how many they are. */
  readonly at: Uint32Array;
  readonly length: Uint32Array;
  /** What the base says that is not newer than this does not count: the row was deleted then. 0: never was. */
  floorMs = 0;
  /** Of the row, after `load` or `encode`: the newest of its cells; when it goes as a whole, 0 = never. */
  rowTimeMs = 0;
  rowExpiryMs = 0;
  #bytes = new Uint8Array(1_024);
  #view = new DataView(this.#bytes.buffer);
  #used = 0;
  readonly #mappings = new Map<number, Mapping>();
  // Of encode: distinct (time, expiry, flags), and which each cell has.
  readonly #groupTime = new Float64Array(noGroup);
  readonly #groupExpiry = new Float64Array(noGroup);
  readonly #groupFlags = new Uint8Array(noGroup);
  readonly #groupOf: Uint8Array;
  #out = new Uint8Array(1_024);
  #outView = new DataView(this.#out.buffer);

  constructor(schema: TableSchema) {
    const count = schema.layout.columns.length;
    this.schema = schema;
    this.state = new Uint8Array(count);
    this.timeMs = new Float64Array(count);
    this.expiryMs = new Float64Array(count);
    this.at = new Uint32Array(count);
    this.length = new Uint32Array(count);
    this.#groupOf = new Uint8Array(count);
  }

  /** What `at` counts in; a new one after something was added. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }
  get view(): DataView {
    return this.#view;
  }

  /** A row of nothing. */
  clear(): void {
    this.state.fill(0);
    this.floorMs = 0;
    this.rowTimeMs = 0;
    this.rowExpiryMs = 0;
    this.#used = 0;
  }

  /** Room for a value of `length` bytes in the cell; returns where to write it in `bytes`. */
  take(place: number, length: number, timeMs: number, expiryMs: number): number {
    const at = this.#need(length);
    this.state[place] = cellState.value;
    this.timeMs[place] = timeMs;
    this.expiryMs[place] = expiryMs;
    this.at[place] = at;
    this.length[place] = length;
    return at;
  }

  set(place: number, value: Uint8Array, timeMs: number, expiryMs: number): void {
    const at = this.take(place, value.length, timeMs, expiryMs);
    this.#bytes.set(value, at);
  }

  setNull(place: number, timeMs: number, expiryMs: number): void {
    this.state[place] = cellState.null;
    this.timeMs[place] = timeMs;
    this.expiryMs[place] = expiryMs;
    this.length[place] = 0;
  }

  /** A view of the value's bytes, until something is added. */
  valueOf(place: number): Uint8Array {
    const at = this.at[place]!;
    return this.#bytes.subarray(at, at + this.length[place]!);
  }

  /** Replaces everything by what the row says. `timeMs` and `expiryMs` are the entry's. Throws `corrupt`. */
  load(row: Uint8Array, timeMs: number, expiryMs: number): void {
    this.clear();
    this.rowTimeMs = timeMs;
    this.rowExpiryMs = expiryMs;
    const { schema } = this;
    if (row.length < rowHeadBytes || row[0] !== rowFormat || (row[1]! & ~flagsKnown) !== 0) throw this.#damaged("an unknown format");
    const flags = row[1]!;
    const revision = row[2]! | (row[3]! << 8);
    const layout = revision === schema.layout.revision ? schema.layout : schema.layoutOf(revision);
    if (layout === undefined) throw this.#damaged(`revision ${revision}, which the schema does not know`);
    const { columns, fixedFrom } = layout;
    const sparse = (flags & rowFlags.sparse) !== 0;
    // The whole row at once; cells point into it.
    const base = this.#need(row.length);
    this.#bytes.set(row, base);
    const bytes = this.#bytes;
    const view = this.#view;
    const size = row.length;
    if (fixedFrom > size) throw this.#damaged("cut short");
    let fixedTo = layout.fixedTo;
    if (sparse) {
      fixedTo = fixedFrom;
      for (const column of columns) if (isValid(bytes, base, column.at)) fixedTo += column.bytes;
    }
    let tail = fixedTo;
    if (tail > size) throw this.#damaged("cut short");
    if ((flags & rowFlags.floor) !== 0) {
      if (tail + 6 > size) throw this.#damaged("cut short");
      this.floorMs = readU48(view, base + tail);
      tail += 6;
    }
    let groupsAt = 0;
    let groups = 0;
    let groupOfAt = 0;
    if ((flags & rowFlags.cells) !== 0) {
      if (tail + 7 > size) throw this.#damaged("cut short");
      groups = bytes[base + tail + 6]!;
      groupsAt = base + tail + 7;
      groupOfAt = groupsAt + groups * groupBytes;
      tail = groupOfAt - base + columns.length;
      if (tail > size) throw this.#damaged("cut short");
    }
    const mapping = layout === schema.layout ? undefined : this.#mappingOf(layout);
    let offset = fixedFrom;
    for (const column of columns) {
      const valid = isValid(bytes, base, column.at);
      const from = sparse ? offset : column.offset;
      if (sparse && valid) offset += column.bytes;
      const place = mapping === undefined ? column.at : mapping.place[column.at]!;
      let cellTimeMs = timeMs;
      let cellExpiryMs = expiryMs;
      let isNull = false;
      if (groups > 0) {
        const group = bytes[groupOfAt + column.at]!;
        if (group === noGroup) {
          if (valid) throw this.#damaged("a value without a time");
          continue;
        }
        if (group >= groups) throw this.#damaged("a time that is not there");
        const groupAt = groupsAt + group * groupBytes;
        cellTimeMs = readU48(view, groupAt);
        cellExpiryMs = readU48(view, groupAt + 6);
        isNull = (bytes[groupAt + 12]! & groupNull) !== 0;
        if (isNull === valid) throw this.#damaged("a value that is marked as none");
      } else if (!valid) continue;
      if (place < 0) continue;
      if (isNull) {
        this.setNull(place, cellTimeMs, cellExpiryMs);
        continue;
      }
      this.state[place] = cellState.value;
      this.timeMs[place] = cellTimeMs;
      this.expiryMs[place] = cellExpiryMs;
      if (column.variable) {
        const at = view.getUint32(base + from, true);
        const length = view.getUint32(base + from + 4, true);
        if (at < tail || at + length > size) throw this.#damaged("a text outside of the row");
        this.at[place] = base + at;
        this.length[place] = length;
      } else if (mapping !== undefined && mapping.widened[column.at] === 1) {
        this.#widen(place, column, schema.layout.columns[place]!, base + from);
      } else {
        this.at[place] = base + from;
        this.length[place] = column.bytes;
      }
    }
  }

  /** The row as bytes, by the newest layout: a view that holds until the next `encode`. Sets `rowTimeMs` and `rowExpiryMs`. Throws `invalid` for a row that is too long. */
  encode(): Uint8Array {
    const { layout } = this.schema;
    const { columns, fixedFrom } = layout;
    const { state, timeMs, expiryMs } = this;
    let groups = 0;
    let fixedBytes = 0;
    let heapBytes = 0;
    let newest = this.floorMs;
    let latest = 0;
    let earliest = 0;
    let forEver = false;
    let said = 0;
    let nulls = 0;
    for (const { at, bytes, variable } of columns) {
      const is = state[at]!;
      this.#groupOf[at] = noGroup;
      if (is === cellState.unsaid) continue;
      said += 1;
      const time = timeMs[at]!;
      const expiry = expiryMs[at]!;
      const flags = is === cellState.null ? groupNull : 0;
      let group = 0;
      while (group < groups && (this.#groupTime[group] !== time || this.#groupExpiry[group] !== expiry || this.#groupFlags[group] !== flags)) group += 1;
      if (group === groups) {
        this.#groupTime[group] = time;
        this.#groupExpiry[group] = expiry;
        this.#groupFlags[group] = flags;
        groups += 1;
      }
      this.#groupOf[at] = group;
      if (time > newest) newest = time;
      if (expiry === 0) forEver = true;
      else {
        if (expiry > latest) latest = expiry;
        if (earliest === 0 || expiry < earliest) earliest = expiry;
      }
      if (is === cellState.null) nulls += 1;
      else {
        fixedBytes += bytes;
        if (variable) heapBytes += this.length[at]!;
      }
    }
    const floor = this.floorMs > 0;
    this.rowTimeMs = newest;
    // The engine forgets a row as a whole, and what the base holds of it from before is hidden with it: so not before that has expired too.
    this.rowExpiryMs = forEver || this.schema.ttlMaxMs === 0 ? 0 : Math.max(latest, newest + this.schema.ttlMaxMs);
    const cells = groups > 1 || nulls > 0 || (groups === 1 && (this.#groupTime[0] !== newest || this.#groupExpiry[0] !== this.rowExpiryMs));
    const allBytes = layout.fixedTo - fixedFrom;
    const sparse = fixedBytes * 2 < allBytes;
    const fixedTo = fixedFrom + (sparse ? fixedBytes : allBytes);
    const tail = fixedTo + (floor ? 6 : 0) + (cells ? 7 + groups * groupBytes + columns.length : 0);
    const size = tail + heapBytes;
    if (size > tableLimits.rowBytesMax) {
      throw new MillraceError("invalid", `a row of ${size} bytes in table ${this.schema.name}`, { todo: `keep rows within ${tableLimits.rowBytesMax} bytes` });
    }
    if (size > this.#out.length) {
      this.#out = new Uint8Array(size * 2);
      this.#outView = new DataView(this.#out.buffer);
    }
    const out = this.#out;
    const view = this.#outView;
    out.fill(0, 0, tail);
    out[0] = rowFormat;
    out[1] = (sparse ? rowFlags.sparse : 0) | (cells ? rowFlags.cells : 0) | (floor ? rowFlags.floor : 0);
    view.setUint16(2, layout.revision, true);
    let offset = fixedFrom;
    let heap = tail;
    const source = this.#bytes;
    for (const { at, bytes, variable, offset: dense } of columns) {
      if (state[at] !== cellState.value) continue;
      out[rowHeadBytes + (at >> 3)]! |= 1 << (at & 7);
      const to = sparse ? offset : dense;
      offset += bytes;
      const from = this.at[at]!;
      if (variable) {
        const length = this.length[at]!;
        view.setUint32(to, heap, true);
        view.setUint32(to + 4, length, true);
        copyBytes(source, from, from + length, out, heap);
        heap += length;
      } else if (bytes <= 8) {
        for (let i = 0; i < bytes; i += 1) out[to + i] = source[from + i]!;
      } else out.set(source.subarray(from, from + bytes), to);
    }
    let place = fixedTo;
    if (floor) {
      writeU48(view, place, this.floorMs);
      place += 6;
    }
    if (cells) {
      writeU48(view, place, earliest);
      out[place + 6] = groups;
      place += 7;
      for (let group = 0; group < groups; group += 1) {
        writeU48(view, place, this.#groupTime[group]!);
        writeU48(view, place + 6, this.#groupExpiry[group]!);
        out[place + 12] = this.#groupFlags[group]!;
        place += groupBytes;
      }
      out.set(this.#groupOf, place);
    }
    return out.subarray(0, size);
  }

  #mappingOf(layout: RowLayout): Mapping {
    const known = this.#mappings.get(layout.revision);
    if (known !== undefined) return known;
    const place = new Int16Array(layout.columns.length).fill(-1);
    const widened = new Uint8Array(layout.columns.length);
    for (const column of layout.columns) {
      const now = this.schema.layout.byId(column.id);
      if (now === undefined) continue;
      place[column.at] = now.at;
      widened[column.at] = now.type === column.type ? 0 : 1;
    }
    const made = { place, widened };
    this.#mappings.set(layout.revision, made);
    return made;
  }

  /** A value of an older type, as the newer type. */
  #widen(place: number, from: LayoutColumn, to: LayoutColumn, at: number): void {
    const value = from.type === "f32" ? this.#view.getFloat32(at, true) : this.#bytes[at]!;
    const into = this.#need(to.bytes);
    const view = this.#view;
    if (to.type === "f64") view.setFloat64(into, value, true);
    else if (to.type === "f32") view.setFloat32(into, value, true);
    else if (to.type === "i64") view.setBigInt64(into, BigInt(value), true);
    else throw this.#damaged(`a ${from.type} where the schema has ${to.type}`);
    this.at[place] = into;
    this.length[place] = to.bytes;
  }

  #need(bytes: number): number {
    const at = this.#used;
    this.#used += bytes;
    if (this.#used > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#used, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }

  #damaged(what: string): MillraceError {
    return new MillraceError("corrupt", `a row of table ${this.schema.name}: ${what}`, { todo: "write the row anew, and check the disk that holds the table" });
  }
}

function isValid(bytes: Uint8Array, rowAt: number, place: number): boolean {
  return (bytes[rowAt + rowHeadBytes + (place >> 3)]! & (1 << (place & 7))) !== 0;
}

export function readU48(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
}

export function writeU48(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint16(at + 4, Math.floor(value / 2 ** 32), true);
}
