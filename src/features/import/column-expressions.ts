// Which SQL reads a column of a file as a column of the table: the type rules of an import in one place.
// Rules: nothing is rounded, cut or guessed. A value that the column cannot hold exactly (f32 excepted, which takes the nearest) refuses its row; a type that can
// never hold refuses the import before a row is read. Null is "no value": the column's default and a validity bit of 0.
// Three kinds of sources: `typed` (Parquet, queries) with types of their own; `text` (CSV), where all is text; `json`, where each value says its type.

import type { ColumnType } from "../tables/row-layout.ts";

/** What a rule needs to know of a column. */
export interface TargetColumn {
  readonly type: ColumnType;
  /** Of a vector; else 1. */
  readonly elements: number;
}

export type SourceKind = "typed" | "text" | "json";

export interface ColumnExpression {
  /** Of the type `columnSqlType` says, null for no value and for a value that does not fit. */
  readonly value: string;
  /** True for a value that does not fit; undefined when there can be none. */
  readonly refuses: string | undefined;
}

/** DuckDB's type in which a column reaches us. */
export function columnSqlType(column: TargetColumn): string {
  switch (column.type) {
    case "i64":
      return "BIGINT";
    case "f32":
      return "FLOAT";
    case "f64":
      return "DOUBLE";
    case "f32[]":
      return `FLOAT[${column.elements}]`;
    case "u64[]":
      return `UBIGINT[${column.elements}]`;
    case "string":
      return "VARCHAR";
    case "bytes":
      return "BLOB";
    case "bool":
      return "BOOLEAN";
  }
}

/** The name as SQL writes it. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A text as SQL writes it. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

const wholeTypes = new Set(["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"]);
const wideWholeTypes = new Set(["UBIGINT", "HUGEINT", "UHUGEINT"]);
const isDecimal = (type: string): boolean => type.startsWith("DECIMAL(");
const isWhole = (type: string): boolean => wholeTypes.has(type) || wideWholeTypes.has(type);
const isNumber = (type: string): boolean => isWhole(type) || type === "FLOAT" || type === "DOUBLE" || isDecimal(type);
const isVector = (column: TargetColumn): boolean => column.type === "f32[]" || column.type === "u64[]";
const isText = (type: string): boolean => type === "VARCHAR" || type === "UUID" || type.startsWith("ENUM(");

/** Reads a column `name` of `sourceType` (of typed sources) as `column`; undefined when that can never hold. */
export function columnExpression(kind: SourceKind, name: string, sourceType: string, column: TargetColumn): ColumnExpression | undefined {
  const from = quoted(name);
  if (kind === "text") return tried(textValue(from, column), from);
  if (kind === "json") return tried(jsonValue(from, column), `${from} ->> '$'`);
  return typedExpression(from, sourceType, column);
}

/** The key: a VARCHAR, or a UBIGINT for u64. */
export function keyExpression(kind: SourceKind, name: string, sourceType: string, key: "string" | "u64"): ColumnExpression | undefined {
  const from = quoted(name);
  if (key === "string") return columnExpression(kind, name, sourceType, { type: "string", elements: 1 });
  const digits = (text: string): string => `CASE WHEN regexp_full_match(${text}, '[0-9]{1,20}') THEN TRY_CAST(${text} AS UBIGINT) END`;
  if (kind === "text") return tried(digits(from), from);
  // As text too: many writers of JSON cannot write whole numbers above 2^53.
  if (kind === "json") return tried(digits(`(${from} ->> '$')`), `${from} ->> '$'`);
  if (sourceType === "UBIGINT") return { value: from, refuses: undefined };
  return isWhole(sourceType) ? tried(`TRY_CAST(${from} AS UBIGINT)`, from) : undefined;
}

/** `value` is null where `source` is not: refused. */
function tried(value: string, source: string): ColumnExpression {
  return value === source ? { value, refuses: undefined } : { value, refuses: `(${source}) IS NOT NULL AND (${value}) IS NULL` };
}

function typedExpression(from: string, sourceType: string, column: TargetColumn): ColumnExpression | undefined {
  const target = columnSqlType(column);
  if (sourceType === target) return { value: from, refuses: undefined };
  const cast = { value: `CAST(${from} AS ${target})`, refuses: undefined };
  const tryCast = tried(`TRY_CAST(${from} AS ${target})`, from);
  const elements = /^(.+)\[(\d*)\]$/.exec(sourceType);
  if (isVector(column)) {
    if (elements === null) return undefined;
    const [, element = "", length = ""] = elements;
    const fits = column.type === "u64[]" ? isWhole(element) : isNumber(element);
    return fits && (length === "" || Number(length) === column.elements) ? tryCast : undefined;
  }
  switch (column.type) {
    case "i64":
      return wholeTypes.has(sourceType) ? cast : wideWholeTypes.has(sourceType) ? tryCast : undefined;
    case "f32":
    case "f64":
      return isNumber(sourceType) ? tryCast : undefined;
    case "string":
      return isText(sourceType) ? cast : undefined;
    case "bytes":
      return isText(sourceType) ? { value: `encode(${from}::VARCHAR)`, refuses: undefined } : undefined;
    default:
      return undefined;
  }
}

/** Vectors in text: [1, 2, 3]. DuckDB knows no CASE of arrays, so the text is chosen before the cast. */
function vectorValue(text: string, column: TargetColumn): string {
  const element = column.type === "u64[]" ? "UBIGINT" : "FLOAT";
  const fitting = column.type === "u64[]" ? `CASE WHEN regexp_full_match(${text}, '\\s*\\[[0-9\\s,]*\\]\\s*') THEN ${text} END` : text;
  return `TRY_CAST(TRY_CAST(${fitting} AS ${element}[]) AS ${columnSqlType(column)})`;
}

const wholeText = (text: string): string => `CASE WHEN regexp_full_match(${text}, '\\s*[+-]?[0-9]+\\s*') THEN TRY_CAST(${text} AS BIGINT) END`;

function textValue(text: string, column: TargetColumn): string {
  if (isVector(column)) return vectorValue(text, column);
  switch (column.type) {
    case "string":
      return text;
    case "i64":
      return wholeText(text);
    case "bytes":
      return `TRY(from_base64(${text}))`;
    default:
      return `TRY_CAST(${text} AS ${columnSqlType(column)})`;
  }
}

function jsonValue(from: string, column: TargetColumn): string {
  const text = `(${from} ->> '$')`;
  const when = (types: string, value: string): string => `CASE WHEN json_type(${from}) IN (${types}) THEN ${value} END`;
  if (isVector(column)) return vectorValue(`(${when("'ARRAY'", text)})`, column);
  switch (column.type) {
    case "string":
      return when("'VARCHAR'", text);
    case "bytes":
      return when("'VARCHAR'", `TRY(from_base64(${text}))`);
    case "bool":
      return when("'BOOLEAN'", `TRY_CAST(${text} AS BOOLEAN)`);
    case "i64":
      return when("'UBIGINT', 'BIGINT'", wholeText(text));
    default:
      return when("'UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT', 'UHUGEINT'", `TRY_CAST(${text} AS ${columnSqlType(column)})`);
  }
}
