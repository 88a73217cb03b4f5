// .npy files as rows of a table: a file of keys and one a column, or one structured file.
// Cost: values of the column's own type are passed on as they lie in the file; other types are converted one by one.
// Invariants: the rules of column-expressions.ts hold here too: nothing is rounded (but floats to f32), a value that does not fit refuses its row.

import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import type { TableSchema } from "../tables/table-schema.ts";
import type { BatchColumn, ByteStrings, ColumnBatch } from "./column-batch.ts";
import { shownType } from "./duckdb-source.ts";
import { importLimits } from "./import-limits.ts";
import { type ImportInput, inputName } from "./inputs.ts";
import { type NpyField, type NpyHeader, parseNpyHeader } from "./npy-header.ts";
import { faultList, type Fault, type RowSource, sharedFaults } from "./row-source.ts";

const batchRows = 2_048;

interface OpenNpy {
  readonly path: string;
  readonly file: OpenFile;
  readonly header: NpyHeader;
  buffer: Uint8Array;
}

/** A field of one of the files, and where its values go. */
interface Reading {
  readonly npy: OpenNpy;
  readonly field: NpyField;
}

export class NpySource implements RowSource {
  readonly name: string;
  readonly ordered = true;
  readonly faults: readonly Fault[];
  readonly rows: number;
  readonly unused: readonly string[];
  readonly missing: readonly string[];
  readonly #schema: TableSchema;
  readonly #files: readonly OpenNpy[];
  readonly #key: Reading;
  readonly #columns: readonly (Reading | undefined)[];
  #row: number;

  private constructor(
    schema: TableSchema,
    name: string,
    files: readonly OpenNpy[],
    key: Reading,
    columns: readonly (Reading | undefined)[],
    unused: readonly string[],
    skipRows: number,
  ) {
    this.name = name;
    this.#schema = schema;
    this.#files = files;
    this.#key = key;
    this.#columns = columns;
    this.rows = key.npy.header.rows;
    this.unused = unused;
    this.missing = schema.columns.filter((_, place) => columns[place] === undefined).map((column) => column.name);
    this.#row = skipRows;
    this.faults = faultList(
      schema.columns.map((column) => ({ name: column.name, shown: shownType(column) })),
      false,
    );
  }

  /** Throws `not-found`, or `invalid` naming everything that does not fit. */
  static async open(files: Files, input: Extract<ImportInput, { kind: "npy" }>, schema: TableSchema, skipRows = 0): Promise<NpySource> {
    const opened: OpenNpy[] = [];
    try {
      const named = [...(input.keyPath === undefined ? [] : [{ column: schema.entity, path: input.keyPath }]), ...input.values];
      const readings = new Map<string, Reading>();
      for (const { column, path } of named) {
        const npy = await openNpy(files, path);
        opened.push(npy);
        for (const field of npy.header.fields) {
          const name = field.name ?? column;
          if (name === undefined)
            throw new MillraceError("invalid", `${path} is not structured and has no name`, { todo: `write ${schema.entity}=keys.npy column=${path}` });
          if (readings.has(name)) throw new MillraceError("invalid", `column ${name} is given twice`, { todo: "name each column once" });
          readings.set(name, { npy, field });
        }
      }
      const key = readings.get(schema.entity);
      const wrong: string[] = [];
      if (key === undefined) wrong.push(`no column ${schema.entity} (the key)`);
      else if (!keyFits(key.field, schema.key)) wrong.push(`${schema.entity} is ${shownField(key.field)}, the key is ${schema.key}`);
      for (const { path, header } of opened)
        if (key !== undefined && header.rows !== key.npy.header.rows) wrong.push(`${path} has ${header.rows} rows, the keys have ${key.npy.header.rows}`);
      const columns = schema.columns.map((column) => {
        const reading = readings.get(column.name);
        if (reading !== undefined && !columnFits(reading.field, column.laid))
          wrong.push(`${column.name} is ${shownField(reading.field)}, the table has ${shownType(column)}`);
        return reading;
      });
      if (wrong.length > 0) {
        throw new MillraceError("invalid", `${inputName(input)} does not fit table ${schema.name}: ${wrong.slice(0, 8).join("; ")}`, {
          todo: "correct the files or the table",
        });
      }
      const unused = [...readings.keys()].filter((name) => name !== schema.entity && schema.column(name) === undefined);
      return new NpySource(schema, inputName(input), opened, key!, columns, unused, skipRows);
    } catch (thrown) {
      for (const { file } of opened) await file.close();
      throw thrown;
    }
  }

  async next(): Promise<ColumnBatch | undefined> {
    const rows = Math.min(batchRows, this.rows - this.#row);
    if (rows <= 0) return undefined;
    for (const npy of this.#files) {
      const { rowBytes, from } = npy.header;
      if (npy.buffer.length < rows * rowBytes) npy.buffer = new Uint8Array(rows * rowBytes);
      const into = npy.buffer.subarray(0, rows * rowBytes);
      let read = 0;
      while (read < into.length) {
        const more = await npy.file.read(into.subarray(read), from + this.#row * rowBytes + read);
        if (more === 0)
          throw new MillraceError("invalid", `${npy.path} is cut short in row ${this.#row + Math.floor(read / rowBytes)}`, { todo: "write the file again" });
        read += more;
      }
    }
    this.#row += rows;
    let faults: Uint16Array | undefined;
    const refuse = (row: number, code: number): void => {
      faults ??= new Uint16Array(rows);
      if (faults[row] === 0) faults[row] = code;
    };
    const keys = this.#schema.key === "u64" ? numberKeys(this.#key, rows, refuse) : texts(this.#key, rows);
    const columns = this.#columns.map((reading, place): BatchColumn | undefined => {
      if (reading === undefined) return undefined;
      const { laid } = this.#schema.columns[place]!;
      if (laid.variable) return { kind: "bytes", ...texts(reading, rows), valid: undefined };
      return {
        kind: "fixed",
        width: laid.bytes,
        data: numbers(reading, rows, laid.type, (row) => refuse(row, sharedFaults.columnsFrom + place)),
        valid: undefined,
      };
    });
    return { rows, keys, columns, faults, sampleOf: () => undefined };
  }

  refusedLines(): Promise<{ lines: readonly []; count: number }> {
    return Promise.resolve({ lines: [], count: 0 });
  }

  close(): void {
    for (const { file } of this.#files) void file.close();
  }
}

async function openNpy(files: Files, path: string): Promise<OpenNpy> {
  const file = await files.open(path, "read");
  if (file === undefined) throw new MillraceError("not-found", `there is no file ${path}`, { todo: "check the path" });
  try {
    const head = new Uint8Array(importLimits.headerBytesMax);
    const read = await file.read(head, 0);
    const header = parseNpyHeader(head.subarray(0, read), path);
    const size = await file.size();
    if (size < header.from + header.rows * header.rowBytes) {
      throw new MillraceError("invalid", `${path} has ${size} bytes, its header says ${header.from + header.rows * header.rowBytes}`, {
        todo: "write the file again",
      });
    }
    return { path, file, header, buffer: new Uint8Array(0) };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

const isWhole = (field: NpyField): boolean => field.kind === "i" || field.kind === "u";
const isText = (field: NpyField): boolean => field.kind === "S" || field.kind === "U";

function keyFits(field: NpyField, key: "string" | "u64"): boolean {
  return field.elements === 1 && (key === "u64" ? isWhole(field) : isText(field));
}

function columnFits(field: NpyField, column: { readonly type: string; readonly elements: number }): boolean {
  if (field.elements !== column.elements) return false;
  switch (column.type) {
    case "i64":
    case "u64[]":
      return isWhole(field);
    case "f32":
    case "f32[]":
    case "f64":
      return isWhole(field) || field.kind === "f";
    case "bool":
      return field.kind === "b";
    case "string":
      return isText(field);
    default:
      return field.kind === "S";
  }
}

function shownField(field: NpyField): string {
  return `${field.kind}${field.kind === "U" ? field.bytes / 4 : field.bytes}${field.elements === 1 ? "" : `[${field.elements}]`}`;
}

/** The values of a field as the table stores them. */
function numbers({ npy, field }: Reading, rows: number, type: string, refuse: (row: number) => void): Uint8Array {
  const { buffer, header } = npy;
  const { kind, bytes, elements, offset } = field;
  const same =
    type === "bool" ||
    (kind === "f" && bytes === (type === "f64" ? 8 : 4) && type !== "i64") ||
    (bytes === 8 && ((kind === "i" && type === "i64") || (kind === "u" && type === "u64[]")));
  if (same && header.rowBytes === bytes * elements) return buffer.subarray(0, rows * header.rowBytes);
  const width = type === "bool" ? 1 : type === "f32" || type === "f32[]" ? 4 : 8;
  const out = new Uint8Array(rows * elements * width);
  const to = new DataView(out.buffer);
  const from = new DataView(buffer.buffer, buffer.byteOffset);
  for (let row = 0; row < rows; row++) {
    for (let element = 0; element < elements; element++) {
      const at = row * header.rowBytes + offset + element * bytes;
      const into = (row * elements + element) * width;
      if (width === 1) out[into] = buffer[at]! === 0 ? 0 : 1;
      else if (type === "i64" || type === "u64[]") {
        const value = wholeAt(from, at, field);
        const fits = type === "i64" ? BigInt.asIntN(64, value) === value : BigInt.asUintN(64, value) === value;
        if (fits) to.setBigUint64(into, BigInt.asUintN(64, value), true);
        else refuse(row);
      } else {
        const value = kind === "f" ? (bytes === 4 ? from.getFloat32(at, true) : from.getFloat64(at, true)) : Number(wholeAt(from, at, field));
        if (width === 8) to.setFloat64(into, value, true);
        else {
          const rounded = Math.fround(value);
          if (Number.isFinite(value) && !Number.isFinite(rounded)) refuse(row);
          to.setFloat32(into, rounded, true);
        }
      }
    }
  }
  return out;
}

function wholeAt(view: DataView, at: number, { kind, bytes }: NpyField): bigint {
  const signed = kind === "i";
  if (bytes === 8) return signed ? view.getBigInt64(at, true) : view.getBigUint64(at, true);
  if (bytes === 4) return BigInt(signed ? view.getInt32(at, true) : view.getUint32(at, true));
  if (bytes === 2) return BigInt(signed ? view.getInt16(at, true) : view.getUint16(at, true));
  return BigInt(signed ? view.getInt8(at) : view.getUint8(at));
}

function numberKeys({ npy, field }: Reading, rows: number, refuse: (row: number, code: number) => void): ByteStrings {
  const bytes = new Uint8Array(rows * 8);
  const to = new DataView(bytes.buffer);
  const from = new DataView(npy.buffer.buffer, npy.buffer.byteOffset);
  const offsets = new Uint32Array(rows + 1);
  for (let row = 0; row < rows; row++) {
    const value = wholeAt(from, row * npy.header.rowBytes + field.offset, field);
    if (value < 0n) refuse(row, sharedFaults.noKey);
    else to.setBigUint64(row * 8, value);
    offsets[row + 1] = (row + 1) * 8;
  }
  return { offsets, bytes };
}

const encoder = new TextEncoder();

/** NumPy fills texts up with zeros; those at the end do not belong to it. */
function texts({ npy, field }: Reading, rows: number): ByteStrings {
  const { buffer, header } = npy;
  const view = new DataView(buffer.buffer, buffer.byteOffset);
  const offsets = new Uint32Array(rows + 1);
  const bytes = new Uint8Array(rows * field.bytes);
  let used = 0;
  for (let row = 0; row < rows; row++) {
    const from = row * header.rowBytes + field.offset;
    let end = from + field.bytes;
    if (field.kind === "S") {
      while (end > from && buffer[end - 1] === 0) end--;
      bytes.set(buffer.subarray(from, end), used);
      used += end - from;
    } else {
      while (end > from && view.getUint32(end - 4, true) === 0) end -= 4;
      let text = "";
      for (let at = from; at < end; at += 4) {
        const code = view.getUint32(at, true);
        text += String.fromCodePoint(code > 0x10ffff ? 0xfffd : code);
      }
      used += encoder.encodeInto(text, bytes.subarray(used)).written;
    }
    offsets[row + 1] = used;
  }
  return { offsets, bytes };
}
