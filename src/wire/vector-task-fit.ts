// Whether what a task is told fits what is around it: folders, tables, parameter tables, the collection that it builds. Whoever makes or changes a task asks, and so does the reader of the
// configuration file; a build finds the rest (files that are not there, rows of another length).
// Invariants: 1. a refusal names the field and what to do  2. what is not known here (undefined) is no reason to refuse; `null` is: it is known that there is none.

import { MillraceError } from "#base/errors";
import type { ParametersConfig } from "./parameter-config.ts";
import { isServersTable, type TablesConfig } from "./table-config.ts";
import type { VectorsConfig } from "./vector-config.ts";
import { collectionOf, taskPaths, type VectorTaskConfig, vectorTaskDefaults } from "./vector-task-config.ts";

export interface TaskColumn {
  readonly name: string;
  /** As a table has it: vectors of f32 are `f32[]`. */
  readonly type: string;
  readonly elements: number;
}

/** What is known; a field left out is not. */
export interface TaskSurroundings {
  /** The task comes over the network: it may read below these alone, and run no code. */
  readonly folders?: readonly string[] | undefined;
  /** The columns of the table that the source names. */
  readonly columns?: readonly TaskColumn[] | null | undefined;
  /** Numbers of a row of the parameter table that the source names. */
  readonly parameterDims?: number | null | undefined;
  /** The collection that the task builds, where there is one. */
  readonly collection?: { readonly dims: number; readonly metric: "cosine" | "ip" | "l2" } | null | undefined;
}

/** Whether an absolute path lies below one of the folders, by its text: steps back are outside. */
export function isBelow(path: string, folders: readonly string[]): boolean {
  return folders.some((folder) => path.startsWith(folder.endsWith("/") ? folder : `${folder}/`)) && !path.split("/").includes("..");
}

/** Throws `invalid`, `unauthorized` (a file outside the folders) or `conflict` (a collection of another shape), naming the field. */
export function checkTaskFit(name: string, config: VectorTaskConfig, around: TaskSurroundings): void {
  const refuse = (field: string, what: string, todo: string, code: "invalid" | "unauthorized" | "conflict" = "invalid"): never => {
    throw new MillraceError(code, `vector task ${name}: ${field} ${what}`, { todo });
  };
  const { source, dims } = config;
  const { folders, columns, parameterDims, collection } = around;
  if (folders !== undefined) {
    if ("module" in source)
      refuse("source.module", "cannot be told over HTTP: it runs code", "declare it in the configuration, or by command on the machine", "unauthorized");
    for (const [field, path] of taskPaths(config)) {
      if (isBelow(path, folders)) continue;
      refuse(
        field,
        path.split("/").includes("..")
          ? "steps back (..), which a task told over HTTP may not"
          : "lies outside the folders that tasks told over HTTP may read (storage.importFolders)",
        folders.length === 0
          ? "name folders in the server's configuration (storage.importFolders): it has none; or make the task there, or by command on the machine"
          : `put it into one of: ${folders.join(", ")}`,
        "unauthorized",
      );
    }
  }
  const known = (names: readonly string[]): string => (names.length === 0 ? "it has none" : names.slice(0, 12).join(", ") + (names.length > 12 ? ", ..." : ""));
  /** What the source's rows have, where that is known, and the field that says it. */
  let found: readonly [field: string, dims: number] | undefined;
  if ("table" in source) {
    if (columns === null) refuse("source.table", `is ${source.table}, and there is no such table`, "declare it in the configuration (tables), or name another");
    const column = "column" in source ? source.column : undefined;
    if (columns !== undefined && columns !== null) {
      if (column !== undefined) {
        const one = columns.find((candidate) => candidate.name === column);
        const vectors = columns.filter(({ type }) => type === "f32[]").map((candidate) => candidate.name);
        if (one?.type !== "f32[]") {
          refuse(
            "source.column",
            one === undefined ? `is ${column}, which table ${source.table} does not have` : `is ${column}, which holds ${one.type} and no vectors of f32`,
            vectors.length === 0 ? `table ${source.table} has no column of vectors: declare one, f32 with a length` : `name one of: ${known(vectors)}`,
          );
        } else found = ["source.column", one.elements];
      }
      for (const [i, attribute] of (source.attributes ?? []).entries()) {
        if (columns.some((candidate) => candidate.name === attribute)) continue;
        refuse(
          `source.attributes.${i}`,
          `is ${attribute}, which table ${source.table} does not have`,
          `name some of: ${known(columns.map((candidate) => candidate.name))}`,
        );
      }
    }
  }
  if ("parameters" in source) {
    if (parameterDims === null) {
      refuse(
        "source.parameters",
        `is ${source.parameters}, and there is no such parameter table`,
        "declare it in the configuration (parameters), or name another",
      );
    } else if (parameterDims !== undefined) found = ["source.parameters", parameterDims];
  }
  if (dims !== undefined && found !== undefined && dims !== found[1]) {
    refuse("dims", `is ${dims}, and the rows of ${found[0]} have ${found[1]} numbers`, "leave dims out, or give that number");
  }
  if (collection === undefined || collection === null) return;
  const target = collectionOf(name, config);
  const other = "build another collection, or drop this one";
  const { metric = vectorTaskDefaults.metric } = config;
  if (metric !== collection.metric) {
    const said = config.metric === undefined ? `is left out, so ${metric}` : `is ${metric}`;
    refuse("metric", `${said}, and collection ${target} compares by ${collection.metric}`, `give ${collection.metric}, ${other}`, "conflict");
  }
  if (dims !== undefined && dims !== collection.dims) {
    refuse("dims", `is ${dims}, and collection ${target} has vectors of ${collection.dims} numbers`, `correct it, ${other}`, "conflict");
  }
  if (found !== undefined && found[1] !== collection.dims) {
    refuse(found[0], `has vectors of ${found[1]} numbers, and collection ${target} of ${collection.dims}`, `name another source, ${other}`, "conflict");
  }
}

/** What a configuration file says of tasks beside what it says of tables and collections. Throws as checkTaskFit. */
export function checkDeclaredTasks(vectors: VectorsConfig, tables: TablesConfig, parameters: ParametersConfig | undefined): void {
  for (const [name, config] of Object.entries(vectors.tasks ?? {})) {
    const { source } = config;
    const table = "table" in source && !isServersTable(source.table) ? (tables[source.table] ?? null) : undefined;
    const declared = vectors.collections?.[collectionOf(name, config)];
    checkTaskFit(name, config, {
      // The server's own tables are not in the file, and parameter tables are made at run time too.
      columns:
        table === null || table === undefined
          ? table
          : Object.entries(table.columns).map(([column, { type, length }]) => ({
              name: column,
              type: type === "f32" && length !== undefined ? "f32[]" : type,
              elements: length ?? 1,
            })),
      parameterDims: "parameters" in source ? parameters?.tables?.[source.parameters]?.dim : undefined,
      collection: declared === undefined ? undefined : { dims: declared.dims, metric: declared.metric ?? vectorTaskDefaults.metric },
    });
  }
}
