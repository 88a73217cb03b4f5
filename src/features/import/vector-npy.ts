// Rows of ids and vectors out of .npy files, for builds of vector collections. Without DuckDB, which takes 70 MB.
// Invariants: 1. a file is refused before its first row when it has other values or fewer bytes than fit  2. row i of the ids belongs to row i of the vectors.

import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import { importLimits } from "./import-limits.ts";
import { type NpyField, type NpyHeader, parseNpyHeader } from "./npy-header.ts";
import { checkInside, type VectorRowReader, type VectorRowsRead } from "./vector-row-reader.ts";

interface OpenNpy {
  readonly path: string;
  readonly file: OpenFile;
  readonly header: NpyHeader;
  readonly field: NpyField;
}

/** Rows of one .npy file of f32 or f64 vectors; ids of another, or their row numbers. Throws `not-found`, `invalid`. */
export async function openVectorNpy(files: Files, path: string, idsPath: string | undefined, folders?: readonly string[]): Promise<VectorRowReader> {
  checkInside(idsPath === undefined ? [path] : [path, idsPath], folders);
  const vectors = await openNpy(files, path);
  let ids: OpenNpy | undefined;
  try {
    if (vectors.field.kind !== "f") throw new MillraceError("invalid", `${path} holds no floats`, { todo: "write vectors as float32" });
    if (idsPath !== undefined) {
      ids = await openNpy(files, idsPath);
      const { kind, elements } = ids.field;
      if (elements !== 1 || kind === "f" || kind === "b")
        throw new MillraceError("invalid", `${idsPath} holds neither texts nor whole numbers, one a row`, { todo: "write one id a row" });
      if (ids.header.rows !== vectors.header.rows) {
        throw new MillraceError("invalid", `${idsPath} has ${ids.header.rows} rows, ${path} ${vectors.header.rows}`, { todo: "write both from the same rows" });
      }
    }
    return new NpyVectors(vectors, ids);
  } catch (thrown) {
    await vectors.file.close();
    await ids?.file.close();
    throw thrown;
  }
}

async function openNpy(files: Files, path: string): Promise<OpenNpy> {
  const file = await files.open(path, "read");
  if (file === undefined) throw new MillraceError("not-found", `there is no file ${path}`, { todo: "check the path" });
  try {
    const head = new Uint8Array(Math.min(importLimits.headerBytesMax, await file.size()));
    const header = parseNpyHeader(head.subarray(0, await file.read(head, 0)), path);
    const wanted = header.from + header.rows * header.rowBytes;
    if ((await file.size()) < wanted)
      throw new MillraceError("invalid", `${path} has fewer than the ${wanted} bytes that its header says`, { todo: "write the file again" });
    const [field] = header.fields;
    if (field === undefined || header.fields.length !== 1)
      throw new MillraceError("invalid", `${path} has several fields a row`, { todo: "write ids and vectors as two files" });
    return { path, file, header, field };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

class NpyVectors implements VectorRowReader {
  readonly dims: number;
  readonly rowsAbout: number;
  readonly refused = 0;
  readonly #vectors: OpenNpy;
  readonly #ids: OpenNpy | undefined;
  #row = 0;

  constructor(vectors: OpenNpy, ids: OpenNpy | undefined) {
    this.#vectors = vectors;
    this.#ids = ids;
    this.dims = vectors.field.elements;
    this.rowsAbout = vectors.header.rows;
  }

  async read(rowsMax: number, signal: AbortSignal): Promise<VectorRowsRead | undefined> {
    signal.throwIfAborted();
    const first = this.#row;
    const rows = Math.min(rowsMax, this.rowsAbout - first);
    if (rows <= 0) return undefined;
    this.#row += rows;
    const bytes = await rowBytesOf(this.#vectors, first, rows);
    const count = rows * this.dims;
    const vectors = this.#vectors.field.bytes === 4 ? new Float32Array(bytes.buffer, 0, count) : Float32Array.from(new Float64Array(bytes.buffer, 0, count));
    const ids =
      this.#ids === undefined
        ? Array.from({ length: rows }, (_, i) => String(first + i))
        : idsOf(this.#ids.field, await rowBytesOf(this.#ids, first, rows), rows);
    return { ids, vectors };
  }

  async close(): Promise<void> {
    await this.#vectors.file.close();
    await this.#ids?.file.close();
  }
}

async function rowBytesOf({ file, header, path }: OpenNpy, first: number, rows: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(rows * header.rowBytes);
  for (let read = 0; read < bytes.length;) {
    const more = await file.read(bytes.subarray(read), header.from + first * header.rowBytes + read);
    if (more === 0) throw new MillraceError("invalid", `${path} is cut short`, { todo: "write the file again" });
    read += more;
  }
  return bytes;
}

/** Texts end at their first zero, as NumPy pads them. */
function idsOf({ kind, bytes: width }: NpyField, bytes: Uint8Array<ArrayBuffer>, rows: number): string[] {
  const view = new DataView(bytes.buffer);
  const decoder = new TextDecoder();
  return Array.from({ length: rows }, (_, row) => {
    const at = row * width;
    if (kind === "S") {
      const end = bytes.subarray(at, at + width).indexOf(0);
      return decoder.decode(bytes.subarray(at, end < 0 ? at + width : at + end));
    }
    if (kind === "U") {
      let id = "";
      for (let place = at; place < at + width; place += 4) {
        const code = view.getUint32(place, true);
        if (code === 0 || code > 0x10_ffff) break;
        id += String.fromCodePoint(code);
      }
      return id;
    }
    const signed = kind === "i";
    if (width === 8) return String(signed ? view.getBigInt64(at, true) : view.getBigUint64(at, true));
    if (width === 4) return String(signed ? view.getInt32(at, true) : view.getUint32(at, true));
    if (width === 2) return String(signed ? view.getInt16(at, true) : view.getUint16(at, true));
    return String(signed ? view.getInt8(at) : view.getUint8(at));
  });
}
