// What a read of some columns means for rows of the newest layout and for the answer: which byte ranges are copied, where they land, what the head of the answer says.
// Made once for each list of columns and kept: nothing of it depends on keys.
// Why ranges: columns that lie side by side in a row are one copy. Reading all of fifty floats is one copy of 200 bytes a row.

import { MillraceError } from "#base/errors";
import { blockColumnBytes, blockHeadBytes } from "./column-block.ts";
import { rowHeadBytes, typeCodeOf } from "./row-layout.ts";
import type { Column, TableSchema } from "./table-schema.ts";

/** Columns of fixed width that lie side by side: one range of a row, one matrix of the answer. */
export interface Segment {
  /** Of the range in a dense row. */
  readonly offset: number;
  readonly bytes: number;
  /** What stands there for a row without values. */
  readonly defaults: Uint8Array;
}

export interface PlanColumn {
  readonly column: Column;
  /** Of `segments`; -1 for a text. */
  readonly segment: number;
  /** Within a row of the segment. */
  readonly within: number;
  /** Of `texts`; -1 for a column of fixed width. */
  readonly text: number;
  /** In the validity bits of the answer. */
  readonly validBit: number;
}

const encoder = new TextEncoder();

export class ReadPlan {
  readonly schema: TableSchema;
  /** In the order in which they were asked for. */
  readonly columns: readonly PlanColumn[];
  /** By place in the layout; undefined: not asked for. */
  readonly byPlace: readonly (PlanColumn | undefined)[];
  readonly segments: readonly Segment[];
  readonly texts: readonly PlanColumn[];
  /** Bytes of a row's validity bits that the answer holds: from this offset of the row, so many. */
  readonly validFrom: number;
  readonly validBytes: number;
  /** Head, directory and names of the answer, places of sections not yet filled in. */
  readonly head: Uint8Array;

  constructor(schema: TableSchema, names: readonly string[] | undefined) {
    const columns = names === undefined ? schema.columns : names.map((name) => schema.required(name));
    if (columns.length === 0) throw new MillraceError("invalid", `a read of no columns of table ${schema.name}`, { todo: "name at least one" });
    if (new Set(columns).size < columns.length) {
      throw new MillraceError("invalid", `a read that names a column of table ${schema.name} twice`, { todo: "name each once" });
    }
    this.schema = schema;
    const places = columns.map(({ laid }) => laid.at).sort((a, b) => a - b);
    const firstByte = places[0]! >> 3;
    this.validFrom = rowHeadBytes + firstByte;
    this.validBytes = (places.at(-1)! >> 3) - firstByte + 1;
    const segments: { offset: number; bytes: number; order: number; defaults: Uint8Array[] }[] = [];
    const inSegment = new Map<number, { segment: number; within: number }>();
    for (const place of places) {
      const { laid, defaultBytes } = schema.byPlace[place]!;
      if (laid.variable) continue;
      let last = segments.at(-1);
      if (last === undefined || last.order !== laid.order || last.offset + last.bytes !== laid.offset) {
        last = { offset: laid.offset, bytes: 0, order: laid.order, defaults: [] };
        segments.push(last);
      }
      inSegment.set(place, { segment: segments.length - 1, within: last.bytes });
      last.bytes += laid.bytes;
      last.defaults.push(defaultBytes);
    }
    this.segments = segments.map(({ offset, bytes, defaults }) => {
      const joined = new Uint8Array(bytes);
      let at = 0;
      for (const part of defaults) {
        joined.set(part, at);
        at += part.length;
      }
      return { offset, bytes, defaults: joined };
    });
    let texts = 0;
    this.columns = columns.map((column) => ({
      column,
      segment: inSegment.get(column.laid.at)?.segment ?? -1,
      within: inSegment.get(column.laid.at)?.within ?? 0,
      text: column.laid.variable ? texts++ : -1,
      validBit: column.laid.at - firstByte * 8,
    }));
    this.texts = this.columns.filter(({ text }) => text >= 0);
    const byPlace: (PlanColumn | undefined)[] = schema.byPlace.map(() => undefined);
    for (const column of this.columns) byPlace[column.column.laid.at] = column;
    this.byPlace = byPlace;
    this.head = headOf(this.columns);
  }
}

function headOf(columns: readonly PlanColumn[]): Uint8Array {
  const names = columns.map(({ column }) => encoder.encode(column.name));
  const namesAt = blockHeadBytes + columns.length * blockColumnBytes;
  const head = new Uint8Array(namesAt + names.reduce((sum, { length }) => sum + length, 0));
  const view = new DataView(head.buffer);
  let nameAt = namesAt;
  columns.forEach(({ column, validBit }, i) => {
    const name = names[i]!;
    const at = blockHeadBytes + i * blockColumnBytes;
    view.setUint32(at, nameAt, true);
    view.setUint16(at + 4, name.length, true);
    view.setUint8(at + 6, typeCodeOf[column.type]);
    view.setUint32(at + 8, column.elements, true);
    view.setUint16(at + 28, validBit, true);
    head.set(name, nameAt);
    nameAt += name.length;
  });
  return head;
}
