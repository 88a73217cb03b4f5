// What an import reads, as data: one entry a file (or query), each with what tells whether it is still the same one when an interrupted import goes on.

import { MillraceError } from "#base/errors";
import { importLimits } from "./import-limits.ts";

export type FileFormat = "parquet" | "csv" | "json";

export type ImportInput =
  | { readonly kind: "file"; readonly format: FileFormat; readonly path: string }
  /** A SELECT over files. Its rows may come in another order the next time, so it is never gone on with in the middle. */
  | { readonly kind: "query"; readonly sql: string }
  /** Row i of `keyPath` has row i of each value file; a structured file holds several columns. */
  | { readonly kind: "npy"; readonly keyPath: string | undefined; readonly values: readonly { readonly column: string | undefined; readonly path: string }[] };

/** What the caller names: paths (patterns allowed), `column=path.npy`, and at most one query. */
export interface ImportRequest {
  readonly files: readonly string[];
  readonly query?: string;
  /** For files whose names do not say it. */
  readonly format?: FileFormat;
}

const formatOfSuffix: Readonly<Record<string, FileFormat>> = {
  parquet: "parquet",
  pq: "parquet",
  csv: "csv",
  tsv: "csv",
  json: "json",
  jsonl: "json",
  ndjson: "json",
};

export function formatOf(path: string): FileFormat | undefined {
  const parts = (path.split(/[/\\]/).at(-1) ?? "").toLowerCase().split(".");
  const last = parts.at(-1) === "gz" || parts.at(-1) === "zst" ? parts.at(-2) : parts.at(-1);
  return formatOfSuffix[last ?? ""];
}

/** The inputs of a request whose patterns are resolved. `key` is the name of the key, for `key=path.npy`. Throws `invalid`. */
export function inputsOf(request: ImportRequest, paths: readonly string[], key: string): ImportInput[] {
  const inputs: ImportInput[] = [];
  const values: { column: string | undefined; path: string }[] = [];
  let keyPath: string | undefined;
  for (const given of paths) {
    const named = /^([A-Za-z_][A-Za-z0-9_]{0,63})=(.+)$/.exec(given);
    const path = named?.[2] ?? given;
    if (path.toLowerCase().endsWith(".npy")) {
      if (named?.[1] === key) keyPath = path;
      else values.push({ column: named?.[1], path });
      continue;
    }
    const format = request.format ?? formatOf(path);
    if (named !== null || format === undefined) {
      throw new MillraceError("invalid", `the file name ${JSON.stringify(given.slice(-120))} does not say what it is`, {
        todo: "give .parquet, .csv, .tsv, .jsonl or .npy files (column=file.npy), or say --format",
      });
    }
    inputs.push({ kind: "file", format, path });
  }
  if (values.length > 0 || keyPath !== undefined) inputs.push(npyInput(keyPath, values, key));
  if (request.query !== undefined && request.query.trim() !== "") {
    if (request.query.length > importLimits.queryCharactersMax)
      throw new MillraceError("invalid", "the query is too long", { todo: `use at most ${importLimits.queryCharactersMax} characters` });
    inputs.push({ kind: "query", sql: request.query });
  }
  if (inputs.length === 0) throw new MillraceError("invalid", "an import of nothing", { todo: "name files, or give a query" });
  if (inputs.length > importLimits.inputsMax) {
    throw new MillraceError("invalid", `an import of ${inputs.length} files`, {
      todo: `name at most ${importLimits.inputsMax}, or read more with a query over a pattern`,
    });
  }
  return inputs;
}

function npyInput(keyPath: string | undefined, values: readonly { column: string | undefined; path: string }[], key: string): ImportInput {
  // `key.npy values.npy` without names: the first is the key, when there are two and neither is structured; a single file must be structured.
  const unnamed = values.filter(({ column }) => column === undefined);
  if (unnamed.length > 1 || (unnamed.length === 1 && values.length > 1)) {
    throw new MillraceError("invalid", "several .npy files without names", { todo: `write ${key}=keys.npy column=values.npy, or give one structured file` });
  }
  if (unnamed.length === 0 && keyPath === undefined) throw new MillraceError("invalid", "no .npy file of keys", { todo: `add ${key}=keys.npy` });
  return { kind: "npy", keyPath, values };
}

/** How errors and reject files name an input. */
export function inputName(input: ImportInput): string {
  if (input.kind === "file") return input.path;
  if (input.kind === "query") return "query";
  return input.keyPath ?? input.values[0]?.path ?? "npy";
}
