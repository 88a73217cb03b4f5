// Rows of ids and vectors out of files, for builds of vector collections: Parquet, CSV and JSON lines through DuckDB, or a query. Batches have the shape of VectorRowBatch (src/vectors).
// Why beside the table import and not through it: a build wants one id, one vector and some attributes as JSON, of dimensions that the first row says, and keeps nothing on the way.
// Invariants: 1. a row without an id, or whose vector is missing, of another length or no list of numbers, is left out and counted (`refused`)  2. SQL reads only `folders`, when given
// 3. nothing is rounded but floats to f32; ids and texts are those of the file, whatever they look like.
// Cost: 110 ns a column of numbers by DuckDB, 150 ns an id. Concurrency: one reader.

import { MillraceError } from "#base/errors";
import type { DuckDBResult } from "@duckdb/node-api";
import { literal, quoted } from "./column-expressions.ts";
import { DuckDb, unreadable } from "./duckdb-source.ts";
import { arrayOf, StringReader, textOf, validityOf, vectorOf } from "./duckdb-vectors.ts";
import { importLimits } from "./import-limits.ts";
import { type FileFormat, formatOf } from "./inputs.ts";
import { checkInside, type VectorRowReader, type VectorRowsRead } from "./vector-row-reader.ts";

export interface VectorFilesOptions {
  /** Paths and patterns; or `query`. */
  readonly files: readonly string[];
  readonly query?: string;
  readonly format?: FileFormat;
  readonly id: string;
  readonly vector: string;
  readonly attributes: readonly string[];
  /** Of the whole reader; DuckDB takes it. */
  readonly memoryBytes: number;
  /** For what DuckDB puts on disk. */
  readonly tempFolder: string;
  readonly folders?: readonly string[];
}

/** Reads ids, vectors and attributes of files, or of a query. Throws `invalid` for what is no such input, `unauthorized` for files outside `folders`. */
export async function openVectorFiles(options: VectorFilesOptions): Promise<VectorRowReader> {
  checkInside([...options.files], options.folders);
  const { memoryBytes, tempFolder, folders } = options;
  const duck = await DuckDb.open({ memoryBytes, tempFolder, ...(folders === undefined ? {} : { folders }) });
  const what = options.query === undefined ? (options.files[0] ?? "no files") : "the query";
  try {
    const from = await relationOf(duck, options);
    const types = new Map((await duck.rows(`DESCRIBE SELECT * FROM ${from}`)).map(([name, type]) => [String(name).toLowerCase(), String(type)]));
    checkColumns(options, types, what);
    const vector = vectorOfColumn(options.vector, types);
    const [[dims, rows] = []] = await duck.rows(
      `SELECT (SELECT len(v) FROM (SELECT ${vector} AS v FROM ${from}) WHERE len(v) > 0 LIMIT 1), ${options.query === undefined ? `(SELECT count(*) FROM ${from})` : "NULL"}`,
    );
    if (dims === undefined || dims === null) {
      throw new MillraceError("invalid", `${what} has no row with a vector in ${options.vector}`, { todo: "name the column (vector), and look at the file" });
    }
    const all = options.attributes.map((column) => `${literal(column)}, ${quoted(column)}`).join(", ");
    const attributes = all === "" ? "NULL" : `CAST(json_merge_patch('{}', json_object(${all})) AS VARCHAR)`;
    const sql =
      `SELECT __id, TRY_CAST(__vector AS FLOAT[${Number(dims)}]), ${attributes} ` +
      `FROM (SELECT *, ${idOfColumn(options.id, types)} AS __id, ${vector} AS __vector FROM ${from})`;
    const result = await duck.connection.stream(sql);
    return new DuckDbVectors(duck, result, what, Number(dims), rows === null || rows === undefined ? undefined : Number(rows));
  } catch (cause) {
    duck.close();
    throw unreadable(what, cause);
  }
}

/** Names of columns that are not there are what is most often wrong: told with those that are. (JSON lines are read by the names that are asked for.) */
function checkColumns({ id, vector, attributes }: VectorFilesOptions, types: ReadonlyMap<string, string>, what: string): void {
  const known = [...types.keys()].slice(0, 20).join(", ");
  for (const [field, column] of [["id", id], ["vector", vector], ...attributes.map((name) => ["attributes", name] as const)] as const) {
    if (types.has(column.toLowerCase())) continue;
    throw new MillraceError("invalid", `${what} has no column ${column}`, { todo: `name one that it has (source.${field}): ${known}` });
  }
}

/** SQL of an id as the file has it: a JSON string without its quotes, a number by its digits; a list or an object is none. */
function idOfColumn(name: string, types: ReadonlyMap<string, string>): string {
  const column = quoted(name);
  if (types.get(name.toLowerCase()) !== "JSON") return `CAST(${column} AS VARCHAR)`;
  return `CASE WHEN json_type(${column}) NOT IN ('ARRAY', 'OBJECT') THEN ${column} ->> '$' END`;
}

/** SQL of a vector as FLOAT[], null where it is none; a text `[1, 2]` is one. */
function vectorOfColumn(name: string, types: ReadonlyMap<string, string>): string {
  const column = quoted(name);
  if (types.get(name.toLowerCase()) !== "JSON") return `TRY_CAST(${column} AS FLOAT[])`;
  return `CASE json_type(${column}) WHEN 'ARRAY' THEN TRY_CAST(${column} AS FLOAT[]) WHEN 'VARCHAR' THEN TRY_CAST(${column} ->> '$' AS FLOAT[]) END`;
}

async function relationOf(duck: DuckDb, { files, query, format, id, vector, attributes }: VectorFilesOptions): Promise<string> {
  if (query !== undefined) {
    const statements = await duck.connection.extractStatements(query);
    if (statements.count !== 1) throw new MillraceError("invalid", `the query has ${statements.count} statements`, { todo: "give one SELECT" });
    return `(${query.trim().replace(/;\s*$/, "")}\n)`;
  }
  const formats = new Set(files.map((file) => format ?? formatOf(file)));
  const [one] = formats;
  if (formats.size !== 1 || one === undefined) {
    throw new MillraceError("invalid", "the files are of several formats, or their names do not say it", {
      todo: "give files of one format, or name it (format)",
    });
  }
  const list = `[${files.map(literal).join(", ")}]`;
  if (one === "parquet") return `read_parquet(${list})`;
  if (one === "csv") return `read_csv(${list}, header = true, all_varchar = true)`;
  // Named types, never found ones: DuckDB would make a UUID of an id that looks like one, a time of a text, and write them its own way.
  const columns = [...new Set([id, vector, ...attributes])].map((column) => `${quoted(column)}: 'JSON'`).join(", ");
  return `read_json(${list}, format = 'newline_delimited', columns = {${columns}})`;
}

class DuckDbVectors implements VectorRowReader {
  readonly dims: number;
  readonly rowsAbout?: number;
  refused = 0;
  readonly #duck: DuckDb;
  readonly #result: DuckDBResult;
  readonly #what: string;
  readonly #ids = new StringReader();
  readonly #attributes = new StringReader();

  constructor(duck: DuckDb, result: DuckDBResult, what: string, dims: number, rows: number | undefined) {
    this.#duck = duck;
    this.#result = result;
    this.#what = what;
    this.dims = dims;
    if (rows !== undefined) this.rowsAbout = rows;
  }

  /** A chunk of DuckDB's at a time, 2,048 rows, however many are asked for. */
  async read(_rowsMax: number, signal: AbortSignal): Promise<VectorRowsRead | undefined> {
    for (;;) {
      signal.throwIfAborted();
      let chunk;
      try {
        chunk = await this.#result.fetchChunk();
      } catch (cause) {
        throw unreadable(this.#what, cause);
      }
      const rows = chunk?.rowCount ?? 0;
      if (chunk === null || rows === 0) return undefined;
      const { dims } = this;
      const [idVector, vectors, attributeVector] = [vectorOf(chunk.chunk, 0), vectorOf(chunk.chunk, 1), vectorOf(chunk.chunk, 2)];
      const [idValid, valid, attributeValid] = [validityOf(idVector, rows), validityOf(vectors, rows), validityOf(attributeVector, rows)];
      this.#ids.read(idVector, rows, idValid, importLimits.chunkStringBytesMax);
      this.#attributes.read(attributeVector, rows, attributeValid, importLimits.chunkStringBytesMax);
      const { data, holes } = arrayOf(vectors, rows, dims, 4);
      const numbers = new Float32Array(data.slice().buffer);
      const ids: string[] = [];
      const kept = new Float32Array(rows * dims);
      const attributes: (string | undefined)[] = [];
      for (let row = 0; row < rows; row++) {
        const id = isSet(idValid, row) ? textOf(this.#ids, row) : "";
        let whole = id !== "" && isSet(valid, row);
        for (let at = row * dims; whole && holes !== undefined && at < (row + 1) * dims; at++) whole = isSet(holes, at);
        if (!whole) {
          this.refused++;
          continue;
        }
        kept.set(numbers.subarray(row * dims, (row + 1) * dims), ids.length * dims);
        const json = isSet(attributeValid, row) ? textOf(this.#attributes, row) : "";
        attributes.push(json === "" || json === "{}" ? undefined : json);
        ids.push(id);
      }
      if (ids.length > 0) return { ids, vectors: kept.subarray(0, ids.length * dims), attributes };
    }
  }

  close(): Promise<void> {
    this.#duck.close();
    return Promise.resolve();
  }
}

const isSet = (bits: Uint8Array | undefined, at: number): boolean => bits === undefined || ((bits[at >> 3]! >> (at & 7)) & 1) === 1;
