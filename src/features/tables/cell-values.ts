// Values of columns: from JavaScript (JSON, SDK) and from text or bytes (RESP) into a cell's bytes, and back.
// Invariants: 1. what a column cannot hold is refused with table and column, never cut or rounded, but for what the type says (f32 has 24 bits)  2. an error never holds the
// value  3. integers of 64 bits are exact: numbers up to 2^53, bigint beyond.
// Limits: a text or blob is bounded by the row (tableLimits.rowBytesMax).

import { MillraceError } from "#base/errors";
import { cellState, type RowCells } from "./row-cells.ts";
import type { Column, TableSchema } from "./table-schema.ts";

/** A cell as JavaScript has it. A vector of f32 is a Float32Array, of u64 a BigUint64Array. */
export type CellValue = number | bigint | string | boolean | Uint8Array | Float32Array | BigUint64Array;

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true });
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const i64Min = -(2n ** 63n);
const i64Max = 2n ** 63n - 1n;
const u64Max = 2n ** 64n - 1n;

/** Puts a JavaScript value into the cell; null makes it null. Bytes may be a Uint8Array or base64, vectors any list of numbers. Throws `invalid`. */
export function setValue(cells: RowCells, column: Column, value: unknown, timeMs: number, expiryMs: number): void {
  const { laid } = column;
  const place = laid.at;
  if (value === null) {
    cells.setNull(place, timeMs, expiryMs);
    return;
  }
  switch (column.type) {
    case "string": {
      if (typeof value !== "string") throw misfit(cells.schema, column, "a text");
      cells.set(place, encoder.encode(value), timeMs, expiryMs);
      return;
    }
    case "bytes": {
      if (value instanceof Uint8Array) cells.set(place, value, timeMs, expiryMs);
      else if (typeof value === "string") cells.set(place, base64Bytes(cells.schema, column, value), timeMs, expiryMs);
      else throw misfit(cells.schema, column, "base64");
      return;
    }
    case "bool": {
      if (typeof value !== "boolean") throw misfit(cells.schema, column, "true or false");
      const at = cells.take(place, 1, timeMs, expiryMs);
      cells.bytes[at] = value ? 1 : 0;
      return;
    }
    case "i64": {
      const whole = wholeOf(value, i64Min, i64Max);
      if (whole === undefined) throw misfit(cells.schema, column, "an integer of 64 bits; as a JavaScript number at most 2^53");
      const at = cells.take(place, 8, timeMs, expiryMs);
      cells.view.setBigInt64(at, whole, true);
      return;
    }
    case "f32":
    case "f64": {
      if (typeof value !== "number" && typeof value !== "bigint") throw misfit(cells.schema, column, "a number");
      const at = cells.take(place, laid.bytes, timeMs, expiryMs);
      if (column.type === "f32") cells.view.setFloat32(at, Number(value), true);
      else cells.view.setFloat64(at, Number(value), true);
      return;
    }
    case "f32[]": {
      const list = listOf(value);
      if (list?.length !== laid.elements) throw misfit(cells.schema, column, `a list of ${laid.elements} numbers`);
      const at = cells.take(place, laid.bytes, timeMs, expiryMs);
      const { view } = cells;
      for (let i = 0; i < laid.elements; i += 1) {
        const one = list[i];
        if (typeof one !== "number" && typeof one !== "bigint") throw misfit(cells.schema, column, `a list of ${laid.elements} numbers`);
        view.setFloat32(at + 4 * i, Number(one), true);
      }
      return;
    }
    case "u64[]": {
      const list = listOf(value);
      if (list?.length !== laid.elements) throw misfit(cells.schema, column, `a list of ${laid.elements} integers`);
      const at = cells.take(place, laid.bytes, timeMs, expiryMs);
      const { view } = cells;
      for (let i = 0; i < laid.elements; i += 1) {
        const one = wholeOf(list[i], 0n, u64Max);
        if (one === undefined) throw misfit(cells.schema, column, `a list of ${laid.elements} integers from 0 to 2^64 - 1`);
        view.setBigUint64(at + 8 * i, one, true);
      }
    }
  }
}

/**
 * Puts an argument of a command into the cell: numbers as decimal text, bool as 0, 1, true or false, text and bytes as they are; a vector as its little-endian bytes, or as a
 * JSON list. Throws `invalid`.
 */
export function setText(cells: RowCells, column: Column, argument: Uint8Array, timeMs: number, expiryMs: number): void {
  const { laid, type } = column;
  if (type === "bytes") {
    cells.set(laid.at, argument, timeMs, expiryMs);
    return;
  }
  if ((type === "f32[]" || type === "u64[]") && argument.length === laid.bytes && listIn(argument)?.length !== laid.elements) {
    cells.set(laid.at, argument, timeMs, expiryMs);
    return;
  }
  setValue(cells, column, valueOfText(cells.schema, column, argument), timeMs, expiryMs);
}

/** An argument of a command as the value that `setValue` takes. Throws `invalid`. */
export function valueOfText(schema: TableSchema, column: Column, argument: Uint8Array): CellValue | readonly unknown[] {
  const { type } = column;
  if (type === "bytes") return argument.slice();
  let text: string;
  try {
    text = strict.decode(argument);
  } catch {
    if (type === "f32[]" || type === "u64[]") throw misfit(schema, column, `${column.laid.bytes} bytes, or a JSON list of ${column.laid.elements} numbers`);
    throw misfit(schema, column, "UTF-8");
  }
  switch (type) {
    case "string":
      return text;
    case "bool":
      if (text === "1" || text === "true") return true;
      if (text === "0" || text === "false") return false;
      throw misfit(schema, column, "0, 1, true or false");
    case "i64":
      if (!/^-?\d{1,19}$/.test(text)) throw misfit(schema, column, "a decimal integer of 64 bits");
      return BigInt(text);
    case "f32":
    case "f64": {
      const number = floatOf(text);
      if (number === undefined) throw misfit(schema, column, "a decimal number");
      return number;
    }
    default: {
      const list = listIn(argument);
      if (list === undefined) throw misfit(schema, column, `${column.laid.bytes} bytes, or a JSON list of ${column.laid.elements} numbers`);
      return list;
    }
  }
}

function floatOf(text: string): number | undefined {
  if (/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text)) return Number(text);
  const word = /^([+-]?)(?:(inf|infinity)|(nan))$/i.exec(text);
  if (word === null) return undefined;
  if (word[3] !== undefined) return Number.NaN;
  return word[1] === "-" ? -Infinity : Infinity;
}

/** A JSON list, or undefined. Integers that a number cannot hold come out as bigint. */
function listIn(bytes: Uint8Array): readonly unknown[] | undefined {
  if (bytes[0] !== 0x5b || bytes[bytes.length - 1] !== 0x5d) return undefined;
  const text = decoder.decode(bytes);
  if (!/^\[[-+0-9.eE,\s]*\]$/.test(text)) return undefined;
  const parts = text.slice(1, -1).split(",");
  const values = parts.map((part) => {
    const trimmed = part.trim();
    return /^-?\d{16,20}$/.test(trimmed) ? BigInt(trimmed) : floatOf(trimmed);
  });
  return values.includes(undefined) ? undefined : values;
}

/** The value of cell bytes as they lie in a row or in an answer. Vectors and bytes are copies. */
export function valueOf(column: Pick<Column, "type">, bytes: Uint8Array): CellValue {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (column.type) {
    case "i64": {
      const value = view.getBigInt64(0, true);
      return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
    }
    case "f32":
      return view.getFloat32(0, true);
    case "f64":
      return view.getFloat64(0, true);
    case "bool":
      return bytes[0] !== 0;
    case "string":
      return decoder.decode(bytes);
    case "bytes":
      return bytes.slice();
    case "f32[]":
      return new Float32Array(bytes.slice().buffer);
    case "u64[]":
      return new BigUint64Array(bytes.slice().buffer);
  }
}

/** The cell's value; undefined where there is none, null where it was set to null. */
export function valueOfCell(cells: RowCells, column: Column): CellValue | null | undefined {
  const state = cells.state[column.laid.at]!;
  if (state === cellState.unsaid) return undefined;
  return state === cellState.null ? null : valueOf(column, cells.valueOf(column.laid.at));
}

/** A row as JSON has it: a float's shortest digits that read back as the same f32, bytes as base64, what JSON has no number for as null. */
export function jsonOf(column: Column, value: CellValue): unknown {
  if (typeof value === "number") {
    if (!Number.isFinite(value)) return null;
    return column.type === "f32" ? shortF32(value) : value;
  }
  if (value instanceof Float32Array) return Array.from(value, (one) => (Number.isFinite(one) ? shortF32(one) : null));
  if (value instanceof BigUint64Array) return Array.from(value, (one) => (one <= Number.MAX_SAFE_INTEGER ? Number(one) : one));
  if (value instanceof Uint8Array) return textOfBytes(value);
  return value;
}

/** The f32 with the fewest digits: 0.1 and not 0.10000000149011612. */
export function shortF32(value: number): number {
  for (let digits = 6; digits < 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

/** The key as bytes of the user's part: text as UTF-8, u64 big-endian so that scans go up. Throws `invalid`. */
export function keyBytesOf(schema: TableSchema, key: unknown): Uint8Array {
  if (schema.key === "string") {
    if (typeof key !== "string" || key === "") {
      throw new MillraceError("invalid", `a key of table ${schema.name} is no text`, { todo: "keys of this table are texts that are not empty" });
    }
    return encoder.encode(key);
  }
  const whole = typeof key === "string" && /^\d{1,20}$/.test(key) ? wholeOf(BigInt(key), 0n, u64Max) : wholeOf(key, 0n, u64Max);
  if (whole === undefined) {
    throw new MillraceError("invalid", `a key of table ${schema.name} is no u64`, { todo: "keys of this table are integers from 0 to 2^64 - 1" });
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, whole, false);
  return bytes;
}

/** The other way round; `bytes` without the namespace. */
export function keyOfBytes(schema: TableSchema, bytes: Uint8Array): string | number | bigint {
  if (schema.key === "string") return decoder.decode(bytes);
  if (bytes.length !== 8) {
    throw new MillraceError("corrupt", `a key of ${bytes.length} bytes in table ${schema.name}`, { todo: "import the table anew" });
  }
  const value = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, false);
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

function wholeOf(value: unknown, min: bigint, max: bigint): bigint | undefined {
  if (typeof value === "number") return Number.isSafeInteger(value) && BigInt(value) >= min ? BigInt(value) : undefined;
  return typeof value === "bigint" && value >= min && value <= max ? value : undefined;
}

function listOf(value: unknown): ArrayLike<unknown> | undefined {
  return Array.isArray(value) || value instanceof Float32Array || value instanceof Float64Array || value instanceof BigUint64Array ? value : undefined;
}

function base64Bytes(schema: TableSchema, column: Column, text: string): Uint8Array {
  let binary: string;
  try {
    binary = atob(text);
  } catch {
    throw misfit(schema, column, "base64");
  }
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function textOfBytes(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8_192) binary += String.fromCharCode(...bytes.subarray(at, at + 8_192));
  return btoa(binary);
}

function misfit(schema: TableSchema, column: Column, form: string): MillraceError {
  return new MillraceError("invalid", `the value for column ${column.name} of table ${schema.name} does not fit`, { todo: `send ${form}` });
}
