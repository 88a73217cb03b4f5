// The head of a .npy file: which values lie behind it, and where. Format: numpy/lib/format.py of NumPy, versions 1 to 3.
// Invariant: what is returned is checked against the limits; the size of the file is checked by the reader.

import { MillraceError } from "#base/errors";
import { importLimits } from "./import-limits.ts";

export interface NpyField {
  /** Undefined when the file is not structured. */
  readonly name: string | undefined;
  /** Little-endian numbers, booleans, byte strings (S) and texts (U, four bytes a character). */
  readonly kind: "i" | "u" | "f" | "b" | "S" | "U";
  /** Of one element. */
  readonly bytes: number;
  /** Elements a row. */
  readonly elements: number;
  /** From the start of a row. */
  readonly offset: number;
}

export interface NpyHeader {
  readonly rows: number;
  readonly rowBytes: number;
  /** Where the rows begin in the file. */
  readonly from: number;
  readonly fields: readonly NpyField[];
}

/** 0x93, then NUMPY. */
const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

/** Reads a header out of the first bytes of a file. Throws `invalid` (no .npy, or one that cannot be read here). */
export function parseNpyHeader(bytes: Uint8Array, path: string): NpyHeader {
  const bad = (why: string, todo = "write it with numpy.save: numbers, booleans, S or U, little-endian, in C order"): MillraceError =>
    new MillraceError("invalid", `${path} ${why}`, { todo });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || !magic.every((byte, at) => bytes[at] === byte)) throw bad("is no .npy file");
  const version = bytes[6]!;
  if (version < 1 || version > 3) throw bad(`has format version ${version}`);
  const wide = version > 1;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const from = (wide ? 12 : 10) + length;
  if (from > importLimits.headerBytesMax || from > bytes.length) throw bad("has a header that is cut short or too long");
  const text = new TextDecoder().decode(bytes.subarray(wide ? 12 : 10, from));
  const head = new PythonLiteral(text, bad).read();
  if (typeof head !== "object" || head === null || Array.isArray(head)) throw bad("has a header that is no dictionary");
  const { descr, fortran_order: fortran, shape } = head;
  if (!Array.isArray(shape) || shape.length === 0 || !shape.every((size) => typeof size === "number" && Number.isSafeInteger(size) && size >= 0))
    throw bad("has no shape");
  const [rows = 0, ...inner] = shape as number[];
  if (fortran === true && inner.length > 0) throw bad("is in Fortran order");
  const across = inner.reduce((product, size) => product * size, 1);
  const fields: NpyField[] = [];
  let offset = 0;
  const add = (name: string | undefined, type: unknown, elements: number): void => {
    const parts = typeof type === "string" ? /^([<>|=])([iufbSU])(\d+)$/.exec(type) : null;
    if (parts === null) throw bad(`has values of type ${JSON.stringify(type)?.slice(0, 40) ?? "none"}`);
    const kind = parts[2] as NpyField["kind"];
    const size = Number(parts[3]) * (kind === "U" ? 4 : 1);
    if (parts[1] === ">" && size > 1) throw bad("is big-endian", "convert it: a.astype(a.dtype.newbyteorder('<'))");
    const known = kind === "S" || kind === "U" || (kind === "b" ? size === 1 : kind === "f" ? size === 4 || size === 8 : [1, 2, 4, 8].includes(size));
    if (String(type) === "<f2") throw bad("has half-precision floats (float16), which are not read", "write it as float32: array.astype(numpy.float32)");
    if (!known || elements < 1 || elements * size > importLimits.rowBytesMax) throw bad(`has values of type ${String(type)}, ${elements} a row`);
    fields.push({ name, kind, bytes: size, elements, offset });
    offset += size * elements;
  };
  if (Array.isArray(descr)) {
    if (inner.length > 0) throw bad("is a structured array of more than one dimension");
    for (const field of descr) {
      const [name, type, size] = Array.isArray(field) ? field : [];
      if (typeof name !== "string") throw bad("has a field without a name");
      const sizes = size === undefined ? [] : Array.isArray(size) ? size : [size];
      add(
        name,
        type,
        sizes.reduce<number>((product, one) => product * (typeof one === "number" ? one : Number.NaN), 1),
      );
    }
  } else add(undefined, descr, across);
  if (offset > importLimits.rowBytesMax) throw bad(`has rows of ${offset} bytes`);
  return { rows, rowBytes: offset, from, fields };
}

type Literal = string | number | boolean | null | Literal[] | { [key: string]: Literal };

/** The small part of Python's literals that NumPy writes. */
class PythonLiteral {
  readonly #text: string;
  readonly #bad: (why: string) => MillraceError;
  #at = 0;
  #depth = 0;

  constructor(text: string, bad: (why: string) => MillraceError) {
    this.#text = text;
    this.#bad = bad;
  }

  read(): Literal {
    this.#skip();
    const start = this.#text[this.#at];
    if (start === "{" || start === "(" || start === "[") {
      if (++this.#depth > 8) throw this.#bad("has a header that is nested too deeply");
      this.#at++;
      const read = start === "{" ? this.#dictionary() : this.#list(start === "(" ? ")" : "]");
      this.#depth--;
      return read;
    }
    const rest = this.#text.slice(this.#at);
    const text = /^'([^'\\]*)'|^"([^"\\]*)"/.exec(rest);
    if (text !== null) {
      this.#at += text[0].length;
      return text[1] ?? text[2] ?? "";
    }
    const word = /^(True|False|None|-?\d{1,18})L?/.exec(rest);
    if (word === null) throw this.#bad("has a header that cannot be read");
    this.#at += word[0].length;
    return word[1] === "True" ? true : word[1] === "False" ? false : word[1] === "None" ? null : Number(word[1]);
  }

  #dictionary(): Literal {
    const entries: [string, Literal][] = [];
    for (;;) {
      if (this.#taken("}")) return Object.fromEntries(entries);
      const key = this.read();
      if (typeof key !== "string" || !this.#taken(":")) throw this.#bad("has a header that cannot be read");
      entries.push([key, this.read()]);
      if (!this.#taken(",") && !this.#next("}")) throw this.#bad("has a header that cannot be read");
    }
  }

  #list(end: string): Literal {
    const items: Literal[] = [];
    for (;;) {
      if (this.#taken(end)) return items;
      items.push(this.read());
      if (!this.#taken(",") && !this.#next(end)) throw this.#bad("has a header that cannot be read");
    }
  }

  #skip(): void {
    while (/\s/.test(this.#text[this.#at] ?? "")) this.#at++;
  }

  #next(character: string): boolean {
    this.#skip();
    return this.#text[this.#at] === character;
  }

  #taken(character: string): boolean {
    const is = this.#next(character);
    if (is) this.#at++;
    return is;
  }
}
