// Parquet, CSV, JSON lines and queries, read by DuckDB into column batches.
// Why DuckDB does so little here: it reads Parquet at 8.9 M rows a CPU second, but sorts or partitions at under 0.9 M (docs/design/import.md). It reads, checks types
// and hands over vectors; nothing else.
// Invariants: 1. a select without conditions, limits apart: rows come in the order of the file  2. one thread, a memory limit, spill in the import's own folder, no
// downloads of extensions  3. a query is one SELECT inside ours: it can read files, and change nothing
// 4. what DuckDB throws at a broken file becomes `invalid` with its first line.
// Limits: chunks of 2,048 rows; importLimits.chunkStringBytesMax of strings a chunk.

import { DuckDBInstance, type DuckDBConnection, type DuckDBDataChunk, type DuckDBResult } from "@duckdb/node-api";
import { MillraceError } from "#base/errors";
import type { Files } from "#platform/files";
import type { TableSchema } from "../tables/table-schema.ts";
import type { BatchColumn, ColumnBatch } from "./column-batch.ts";
import { columnExpression, keyExpression, literal, quoted, type SourceKind } from "./column-expressions.ts";
import { readCsvHeader } from "./csv-header.ts";
import { arrayOf, fixedOf, StringReader, textOf, validityOf, vectorOf } from "./duckdb-vectors.ts";
import { importLimits } from "./import-limits.ts";
import { type ImportInput, inputName } from "./inputs.ts";
import { faultList, type Fault, type RefusedLine, type RowSource, sharedFaults } from "./row-source.ts";

export interface DuckDbOptions {
  readonly memoryBytes: number;
  readonly tempFolder: string;
  /** When given, SQL reads files of these folders only. */
  readonly folders?: readonly string[];
}

/** A DuckDB of one import. */
export class DuckDb {
  readonly connection: DuckDBConnection;
  readonly #instance: DuckDBInstance;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection) {
    this.#instance = instance;
    this.connection = connection;
  }

  static async open(options: DuckDbOptions): Promise<DuckDb> {
    const instance = await DuckDBInstance.create(":memory:", {
      threads: "1",
      memory_limit: `${Math.floor(options.memoryBytes / 1_000_000)}MB`,
      temp_directory: options.tempFolder,
      preserve_insertion_order: "true",
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
    });
    const connection = await instance.connect();
    if (options.folders !== undefined) {
      const folders = [...options.folders, options.tempFolder].map((folder) => literal(folder.endsWith("/") ? folder : `${folder}/`));
      await connection.run(`SET allowed_directories = [${folders.join(", ")}]`);
      await connection.run("SET enable_external_access = false");
    }
    await connection.run("SET lock_configuration = true");
    return new DuckDb(instance, connection);
  }

  /** All rows of a small answer. */
  async rows(sql: string): Promise<unknown[][]> {
    return (await this.connection.runAndReadAll(sql)).getRowsJson();
  }

  close(): void {
    this.connection.closeSync();
    this.#instance.closeSync();
  }
}

/** DuckDB takes some characters of a path as a pattern. */
function pathLiteral(path: string): string {
  return literal(path.replaceAll(/[*?[]/g, "[$&]"));
}

/** What the broken input was, in one line and without a value of it. */
export function unreadable(name: string, cause: unknown): MillraceError {
  if (cause instanceof MillraceError) return cause;
  const line = (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0]!.slice(0, 300);
  return new MillraceError("invalid", `${name} cannot be read: ${line}`, { todo: "check the file, or its format", cause });
}

export interface ReadPlan {
  readonly name: string;
  readonly kind: SourceKind;
  /** FROM what. */
  readonly from: string;
  readonly select: string;
  /** By place in the columns of the schema: which of the selected columns holds it; -1 when the input has none. */
  readonly places: readonly number[];
  readonly checked: boolean;
  readonly ordered: boolean;
  readonly faults: readonly Fault[];
  /** Columns of the input that the table does not have. */
  readonly unused: readonly string[];
  readonly missing: readonly string[];
  /** Rows of a Parquet file by its footer, else undefined. */
  readonly rows: number | undefined;
}

/** Looks at an input and says how its rows become rows of the table. Throws `invalid` naming every column that cannot. */
export async function planRead(duck: DuckDb, files: Files, input: Exclude<ImportInput, { kind: "npy" }>, schema: TableSchema): Promise<ReadPlan> {
  const name = inputName(input);
  const kind: SourceKind = input.kind === "query" || input.format === "parquet" ? "typed" : input.format === "csv" ? "text" : "json";
  let from: string;
  let columns: { name: string; type: string }[];
  let rows: number | undefined;
  try {
    if (input.kind === "query") {
      const statements = await duck.connection.extractStatements(input.sql);
      if (statements.count !== 1) throw new MillraceError("invalid", `the query has ${statements.count} statements`, { todo: "give one SELECT" });
      from = `(${input.sql.trim().replace(/;\s*$/, "")}\n)`;
      columns = await describe(duck, from);
    } else if (input.format === "parquet") {
      from = `read_parquet(${pathLiteral(input.path)})`;
      columns = await describe(duck, from);
      const footer = await duck.rows(`SELECT num_rows FROM parquet_file_metadata(${pathLiteral(input.path)})`);
      rows = footer.reduce((sum, [count]) => sum + Number(count), 0);
    } else if (input.format === "csv") {
      const header = await readCsvHeader(files, input.path);
      columns = header.columns.map((column) => ({ name: column, type: "VARCHAR" }));
      const types = columns.map((column) => `${literal(column.name)}: 'VARCHAR'`).join(", ");
      from =
        `read_csv(${pathLiteral(input.path)}, auto_detect = false, header = true, delim = ${literal(header.delimiter)}, quote = '"', escape = '"', ` +
        `columns = {${types}}, store_rejects = true, parallel = false)`;
    } else {
      columns = [schema.entity, ...schema.columns.map((column) => column.name)].map((column) => ({ name: column, type: "JSON" }));
      const types = columns.map((column) => `${literal(column.name)}: 'JSON'`).join(", ");
      from = `read_json(${pathLiteral(input.path)}, format = 'newline_delimited', ignore_errors = true, columns = {${types}})`;
    }
  } catch (cause) {
    throw unreadable(name, cause);
  }

  const wrong: string[] = [];
  const key = columns.find((column) => column.name === schema.entity);
  const keyRead = key === undefined ? undefined : keyExpression(kind, key.name, key.type, schema.key);
  if (key === undefined) wrong.push(`no column ${schema.entity} (the key)`);
  else if (keyRead === undefined) wrong.push(`${key.name} is ${key.type}, the key is ${schema.key}`);
  const selected = [`${keyRead?.value ?? "NULL"}`];
  const refusals: { when: string; code: number; name: string }[] = [];
  if (keyRead?.refuses !== undefined) refusals.push({ when: keyRead.refuses, code: sharedFaults.noKey, name: schema.entity });
  const missing: string[] = [];
  const places = schema.columns.map((column, place) => {
    const found = columns.find((one) => one.name === column.name);
    if (found === undefined) {
      missing.push(column.name);
      return -1;
    }
    const read = columnExpression(kind, found.name, found.type, column);
    if (read === undefined) {
      wrong.push(`${column.name} is ${found.type}, the table has ${shownType(column)}`);
      return -1;
    }
    if (read.refuses !== undefined) refusals.push({ when: read.refuses, code: sharedFaults.columnsFrom + place, name: found.name });
    return selected.push(read.value) - 1;
  });
  if (wrong.length > 0) {
    throw new MillraceError("invalid", `${name} does not fit table ${schema.name}: ${wrong.slice(0, 8).join("; ")}`, {
      todo: "correct the file or the table, or read it with a query that casts its columns",
    });
  }
  const checked = refusals.length > 0;
  if (checked) {
    const codes = refusals.map(({ when, code }) => `WHEN ${when} THEN ${code}`);
    const samples = refusals.map(({ when, name: column }) => `WHEN ${when} THEN left(CAST(${quoted(column)} AS VARCHAR), ${importLimits.sampleCharactersMax})`);
    selected.push(`CAST(CASE ${codes.join(" ")} ELSE 0 END AS USMALLINT)`, `CASE ${samples.join(" ")} END`);
  }
  return {
    name,
    kind,
    from,
    select: selected.map((value, at) => `${value} AS c${at}`).join(", "),
    places,
    checked,
    ordered: input.kind === "file",
    faults: faultList(
      schema.columns.map((column) => ({ name: column.name, shown: shownType(column) })),
      kind === "json",
    ),
    unused:
      kind === "json" ? [] : columns.filter((column) => column.name !== schema.entity && schema.column(column.name) === undefined).map((column) => column.name),
    missing,
    rows,
  };
}

export function shownType(column: { readonly type: string; readonly elements: number }): string {
  return column.type.endsWith("[]") ? column.type.replace("[]", `[${column.elements}]`) : column.type;
}

async function describe(duck: DuckDb, from: string): Promise<{ name: string; type: string }[]> {
  return (await duck.rows(`DESCRIBE SELECT * FROM ${from}`)).map(([name, type]) => ({ name: String(name), type: String(type) }));
}

/** Reads the rows of a plan, behind the first `skipRows` (of ordered inputs). */
export class DuckDbSource implements RowSource {
  readonly name: string;
  readonly ordered: boolean;
  readonly faults: readonly Fault[];
  readonly #duck: DuckDb;
  readonly #plan: ReadPlan;
  readonly #schema: TableSchema;
  readonly #result: DuckDBResult;
  readonly #keys = new StringReader();
  readonly #strings: readonly (StringReader | undefined)[];
  readonly #samples = new StringReader();
  #faults = new Uint16Array(2_048);

  private constructor(duck: DuckDb, plan: ReadPlan, schema: TableSchema, result: DuckDBResult) {
    this.name = plan.name;
    this.ordered = plan.ordered;
    this.faults = plan.faults;
    this.#duck = duck;
    this.#plan = plan;
    this.#schema = schema;
    this.#result = result;
    this.#strings = schema.columns.map((column) => (column.laid.variable ? new StringReader() : undefined));
  }

  static async open(duck: DuckDb, plan: ReadPlan, schema: TableSchema, skipRows: number): Promise<DuckDbSource> {
    const skip = skipRows === 0 ? "" : plan.kind === "typed" && plan.ordered ? ` WHERE file_row_number >= ${skipRows}` : ` OFFSET ${skipRows}`;
    try {
      if (plan.kind === "text") await duck.connection.run("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans");
      return new DuckDbSource(duck, plan, schema, await duck.connection.stream(`SELECT ${plan.select} FROM ${plan.from}${skip}`));
    } catch (cause) {
      throw unreadable(plan.name, cause);
    }
  }

  async next(): Promise<ColumnBatch | undefined> {
    let chunk: DuckDBDataChunk | null;
    try {
      chunk = await this.#result.fetchChunk();
    } catch (cause) {
      throw unreadable(this.name, cause);
    }
    const rows = chunk?.rowCount ?? 0;
    return chunk === null || rows === 0 ? undefined : this.#batch(chunk, rows);
  }

  #batch(chunk: DuckDBDataChunk, rows: number): ColumnBatch {
    const { places, checked } = this.#plan;
    let faulty = false;
    if (this.#faults.length < rows) this.#faults = new Uint16Array(rows);
    const faults = this.#faults.fill(0, 0, rows);
    const refuse = (row: number, code: number): void => {
      faulty = true;
      if (faults[row] === 0) faults[row] = code;
    };
    const columnCount = places.filter((place) => place >= 0).length + 1;
    if (checked) {
      const codes = fixedOf(vectorOf(chunk.chunk, columnCount), rows, 2);
      const found = new Uint16Array(codes.buffer, codes.byteOffset, rows);
      for (let row = 0; row < rows; row++) if (found[row] !== 0) refuse(row, found[row]!);
    }
    const keyVector = vectorOf(chunk.chunk, 0);
    const keyValid = validityOf(keyVector, rows);
    if (keyValid !== undefined) for (let row = 0; row < rows; row++) if (((keyValid[row >> 3]! >> (row & 7)) & 1) === 0) refuse(row, sharedFaults.noKey);
    const keys = this.#keys;
    if (this.#schema.key === "string") keys.read(keyVector, rows, keyValid, importLimits.chunkStringBytesMax);
    else numbersToKeys(fixedOf(keyVector, rows, 8), rows, keys);

    const columns = places.map((at, place): BatchColumn | undefined => {
      if (at < 0) return undefined;
      const vector = vectorOf(chunk.chunk, at);
      const valid = validityOf(vector, rows);
      const { laid } = this.#schema.columns[place]!;
      if (laid.variable) {
        const reader = this.#strings[place]!;
        reader.read(vector, rows, valid, importLimits.chunkStringBytesMax);
        return { kind: "bytes", offsets: reader.offsets, bytes: reader.bytes, valid };
      }
      if (!laid.type.endsWith("[]")) return { kind: "fixed", width: laid.bytes, data: fixedOf(vector, rows, laid.bytes), valid };
      const { data, holes } = arrayOf(vector, rows, laid.elements, laid.bytes / laid.elements);
      if (holes !== undefined) {
        for (let row = 0; row < rows; row++) {
          if (valid !== undefined && ((valid[row >> 3]! >> (row & 7)) & 1) === 0) continue;
          for (let bit = row * laid.elements; bit < (row + 1) * laid.elements; bit++) {
            if (((holes[bit >> 3]! >> (bit & 7)) & 1) === 0) refuse(row, sharedFaults.columnsFrom + place);
          }
        }
      }
      return { kind: "fixed", width: laid.bytes, data, valid };
    });
    let sampled = false;
    return {
      rows,
      keys,
      columns,
      faults: faulty ? faults : undefined,
      sampleOf: (row) => {
        if (!checked) return undefined;
        const vector = vectorOf(chunk.chunk, columnCount + 1);
        const valid = validityOf(vector, rows);
        if (!sampled) this.#samples.read(vector, rows, valid, importLimits.chunkStringBytesMax);
        sampled = true;
        return valid !== undefined && ((valid[row >> 3]! >> (row & 7)) & 1) === 0 ? undefined : textOf(this.#samples, row);
      },
    };
  }

  async refusedLines(max: number): Promise<{ lines: readonly RefusedLine[]; count: number }> {
    if (this.#plan.kind !== "text") return { lines: [], count: 0 };
    const found = await this.#duck.rows(`SELECT DISTINCT ON (line) line, error_type FROM reject_errors ORDER BY line LIMIT ${max}`);
    const [[count] = [0]] = await this.#duck.rows("SELECT count(DISTINCT line) FROM reject_errors");
    return { lines: found.map(([line, type]) => ({ line: Number(line), reason: `the line is no row: ${String(type).toLowerCase()}` })), count: Number(count) };
  }

  close(): void {
    // The result goes with its chunks; the connection belongs to whoever opened it.
  }
}

/** u64 keys, little-endian as DuckDB has them, to 8 bytes big-endian each: so that the order of bytes is the order of numbers. */
export function numbersToKeys(data: Uint8Array, rows: number, into: StringReader): void {
  if (into.bytes.length < rows * 8) into.bytes = new Uint8Array(rows * 8);
  if (into.offsets.length < rows + 1) into.offsets = new Uint32Array(rows + 1);
  const { bytes, offsets } = into;
  for (let row = 0; row < rows; row++) {
    const at = row * 8;
    offsets[row] = at;
    for (let i = 0; i < 8; i++) bytes[at + i] = data[at + 7 - i]!;
  }
  offsets[rows] = rows * 8;
}
