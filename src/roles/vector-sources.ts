// Where the rows of vector tasks come from, opened by what a task says. Wiring only: files by the import room, tables and parameters through the running server.
// Why through the server: live writes of a table are in its memory, and parameter rows move all the time; it hands both out as it does to everybody.
// Limits: pages of `pageRows`; calls end by the deadline of ServerCall.

import { MillraceError } from "#base/errors";
import { openVectorNpy } from "#features/import/vector-npy";
import { checkInside } from "#features/import/vector-row-reader";
import { systemFiles } from "#platform/system-files";
import { importDefault } from "#platform/system-process";
import type { VectorChain } from "#sdk/vector-chain";
import type { VectorRowBatch, VectorRowSource } from "#vectors/builder/row-source";
import { vectorTaskDefaults, type VectorTaskSource } from "#wire/vector-task-config";
import { exportParameters } from "./parameter-exchange.ts";
import { type ServerCall, serverCall } from "./server-call.ts";

const pageRows = 1_000;

export interface SourceParts {
  readonly dataFolder: string;
  /** For exports and what DuckDB puts on disk; exists. */
  readonly folder: string;
  readonly memoryBytes: number;
  /** Files lie in these alone; undefined: anywhere. */
  readonly folders: readonly string[] | undefined;
  /** HTTP address of the server whose tables are read, and a token with the scope read, import for parameters. */
  readonly server: string | undefined;
  readonly token: string | undefined;
}

/** What a task's module exports by default, or returns when that is a function, where it is no chain of the SDK: makes the vectors of rows, by a model say. */
export interface VectorModel {
  readonly dims: number;
  /** `dims` numbers for each id, row-major; NaN where there is none. `rows`: the table's columns by name. */
  vectors(ids: readonly string[], rows: readonly Readonly<Record<string, unknown>>[], signal: AbortSignal): Promise<Float32Array> | Float32Array;
  close?(): Promise<void> | void;
}

/** Throws `not-found`, `invalid`, `unauthorized`, and what the server answers. */
export async function openVectorSource(source: VectorTaskSource, parts: SourceParts): Promise<VectorRowSource> {
  const { folders, folder, memoryBytes } = parts;
  if ("npy" in source) return openVectorNpy(systemFiles, source.npy, source.ids, folders);
  if ("files" in source) {
    // DuckDB is loaded by those alone who need it.
    const { openVectorFiles } = await import("#features/import/vector-rows");
    const { files, query, format, id = vectorTaskDefaults.idColumn, vector = vectorTaskDefaults.vectorColumn, attributes = [] } = source;
    return openVectorFiles({
      files,
      id,
      vector,
      attributes,
      memoryBytes: Math.max(64 << 20, Math.floor(memoryBytes / 4)),
      tempFolder: folder,
      ...(query === undefined ? {} : { query }),
      ...(format === undefined ? {} : { format }),
      ...(folders === undefined ? {} : { folders }),
    });
  }
  const call = callOf(parts);
  if ("parameters" in source) {
    const into = systemFiles.join(folder, "parameters");
    await exportParameters({ call, dataFolder: parts.dataFolder, table: source.parameters, folder: into });
    return openVectorNpy(systemFiles, systemFiles.join(into, "values.npy"), systemFiles.join(into, "keys.npy"));
  }
  if ("column" in source) return tableVectors(call, source);
  checkInside([source.module], folders);
  return modelVectors(call, source);
}

function callOf({ server, token }: SourceParts): ServerCall {
  if (server !== undefined) return serverCall(server, token);
  throw new MillraceError("invalid", "the task reads a table of the running server, and this builder knows none", { todo: "start the builder with --server" });
}

interface TablePage {
  readonly cursor: string | null;
  readonly keys: readonly (string | number)[];
  readonly columns: readonly string[];
  /** null: not found (removed meanwhile). */
  readonly rows: readonly (readonly unknown[] | null)[];
}

/** Pages of a table: the ids that are there, and the columns of each. */
async function* pagesOf(
  call: ServerCall,
  table: string,
  columns: readonly string[] | undefined,
): AsyncGenerator<{ ids: string[]; rows: unknown[][]; columns: readonly string[] }, void, void> {
  let cursor: string | null = "";
  do {
    const page: TablePage = await call<TablePage>("POST", `/v1/tables/${encodeURIComponent(table)}/scan`, {
      cursor,
      limit: pageRows,
      ...(columns === undefined ? {} : { columns }),
    });
    ({ cursor } = page);
    const ids: string[] = [];
    const rows: unknown[][] = [];
    page.keys.forEach((key, i) => {
      const row = page.rows[i];
      if (row === null || row === undefined) return;
      if (typeof key === "number" && !Number.isSafeInteger(key)) {
        throw new MillraceError("unsupported", `table ${table} has keys above 2^53, which JSON rounds`, { todo: "build from a file of the same rows" });
      }
      ids.push(String(key));
      rows.push([...row]);
    });
    if (ids.length > 0) yield { ids, rows, columns: page.columns };
  } while (cursor !== null);
}

/** Attributes of a row as JSON; undefined when it has none. */
function attributesOf(names: readonly string[], columns: readonly string[], row: readonly unknown[]): string | undefined {
  const fields = names.flatMap((name) => {
    const value = row[columns.indexOf(name)];
    return value === null || value === undefined || value === "" ? [] : [[name, value] as const];
  });
  return fields.length === 0 ? undefined : JSON.stringify(Object.fromEntries(fields));
}

async function tableVectors(
  call: ServerCall,
  source: { readonly table: string; readonly column: string; readonly attributes?: readonly string[] },
): Promise<VectorRowSource> {
  const { table, column, attributes = [] } = source;
  const pages = pagesOf(call, table, [column, ...attributes.filter((name) => name !== column)]);
  const counted = { refused: 0, dims: 0 };
  const batchOf = (page: { ids: string[]; rows: unknown[][]; columns: readonly string[] }): VectorRowBatch | undefined => {
    const place = page.columns.indexOf(column);
    const ids: string[] = [];
    const numbers: number[] = [];
    const texts: (string | undefined)[] = [];
    page.rows.forEach((row, i) => {
      const vector = row[place];
      if (!Array.isArray(vector) || !vector.every((value) => typeof value === "number")) {
        counted.refused++;
        return;
      }
      counted.dims ||= vector.length;
      ids.push(page.ids[i]!);
      for (const value of vector) numbers.push(value);
      texts.push(attributesOf(attributes, page.columns, row));
    });
    return ids.length === 0 ? undefined : { ids, vectors: Float32Array.from(numbers), attributes: texts };
  };
  const next = async (): Promise<VectorRowBatch | undefined> => {
    for (;;) {
      const page = await pages.next();
      if (page.done === true) return undefined;
      const batch = batchOf(page.value);
      if (batch !== undefined) return batch;
    }
  };
  let first = await next();
  if (first === undefined) {
    throw new MillraceError("invalid", `no row of table ${table} has a vector in ${column}`, {
      todo: "name a column of f32 with a length, and import or write rows",
    });
  }
  return {
    dims: counted.dims,
    get refused() {
      return counted.refused;
    },
    async read(_rowsMax, signal) {
      signal.throwIfAborted();
      const batch = first ?? (await next());
      first = undefined;
      return batch;
    },
    async close() {
      await pages.return();
    },
  };
}

type Rows = readonly Readonly<Record<string, unknown>>[];
type VectorsOfRows = (ids: readonly string[], rows: Rows, signal: AbortSignal) => Promise<{ readonly dims: number; readonly vectors: Float32Array }>;

/** What the module exports, a model or a chain, as one function; rows without a vector have NaN and are refused by the build. */
async function modelOf(path: string): Promise<{ readonly vectorsOf: VectorsOfRows; readonly close: () => Promise<void> | void }> {
  let made: unknown;
  try {
    made = await importDefault(path);
    if (typeof made === "function") made = await (made as () => unknown)();
  } catch (cause) {
    throw new MillraceError("invalid", `${path} cannot be loaded: ${(cause as Error).message}`, { cause, todo: "correct the module" });
  }
  const { dims, vectors, run, close } = (made ?? {}) as Partial<VectorModel> & Partial<VectorChain<Readonly<Record<string, unknown>>, unknown>>;
  const owner = made as VectorModel & VectorChain<Readonly<Record<string, unknown>>, unknown>;
  const ending = (): Promise<void> | void => (typeof close === "function" ? owner.close?.() : undefined);
  if (Number.isInteger(dims) && typeof vectors === "function") {
    return { close: ending, vectorsOf: async (ids, rows, signal) => ({ dims: dims!, vectors: await owner.vectors(ids, rows, signal) }) };
  }
  if (typeof run === "function") {
    return {
      close: ending,
      async vectorsOf(_ids, rows) {
        const { vectors: found } = await owner.run({ profiles: rows }, { until: "vectors" });
        if (found === undefined) throw new MillraceError("invalid", `the chain of ${path} gave no vectors`, { todo: "give it the steps features and model" });
        const numbers = Float32Array.from(found.vectors);
        found.found.forEach((one, row) => one === 0 && numbers.fill(Number.NaN, row * found.dims, (row + 1) * found.dims));
        return { dims: found.dims, vectors: numbers };
      },
    };
  }
  throw new MillraceError("invalid", `${path} exports neither a chain nor a model`, {
    todo: "export vectorChain(...), or { dims, vectors(ids, rows, signal) }, as default, or a function that returns it",
  });
}

async function modelVectors(
  call: ServerCall,
  source: { readonly module: string; readonly table: string; readonly attributes?: readonly string[] },
): Promise<VectorRowSource> {
  const { table, attributes = [] } = source;
  const model = await modelOf(source.module);
  const pages = pagesOf(call, table, undefined);
  const next = async (signal: AbortSignal): Promise<(VectorRowBatch & { readonly dims: number }) | undefined> => {
    const page = await pages.next();
    if (page.done === true) return undefined;
    const { ids, rows, columns } = page.value;
    const objects = rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
    const { dims, vectors } = await model.vectorsOf(ids, objects, signal).catch((cause: unknown) => {
      signal.throwIfAborted();
      // A chain's own refusals say more than that it failed.
      if (cause instanceof MillraceError) throw cause;
      throw new MillraceError("invalid", `${source.module} failed: ${cause instanceof Error ? cause.message : String(cause)}`, {
        cause,
        todo: "correct the module",
      });
    });
    return { ids, dims, vectors, attributes: rows.map((row) => attributesOf(attributes, columns, row)) };
  };
  let first = await next(new AbortController().signal);
  if (first === undefined) throw new MillraceError("invalid", `table ${table} has no rows`, { todo: "import or write some" });
  return {
    dims: first.dims,
    async read(_rowsMax, signal) {
      signal.throwIfAborted();
      const batch = first ?? (await next(signal));
      first = undefined;
      return batch;
    },
    async close() {
      await pages.return();
      await model.close();
    },
  };
}
