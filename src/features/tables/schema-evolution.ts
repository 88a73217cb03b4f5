// From what a table was and what the configuration says it shall be, to what it is from now on; or a clear error.
// What may change without rewriting: a column more, a column less, a column that became wider without loss, and everything that is no layout (owner, default, times, shards).
// What may not: the kind of key, and any other change of a column's type. Such a column is dropped and added anew under another name.
// Invariant: pure; the same document and configuration give the same answer, so that two processes that start at once agree.

import { MillraceError } from "#base/errors";
import type { ColumnConfig, TableConfig } from "#wire/table-config";
import { tableLimits } from "#wire/table-limits";
import { type ColumnType, type LaidColumn, RowLayout } from "./row-layout.ts";
import type { ColumnDocument, LayoutDocument, SchemaDocument } from "./table-schema.ts";

const hourMs = 3_600_000;

/** From -> to, where every value of the one is a value of the other. i64 to f64 would lose digits above 2^53. */
const widenings: Readonly<Partial<Record<ColumnType, readonly ColumnType[]>>> = { f32: ["f64"], bool: ["i64", "f32", "f64"] };

export interface Evolution {
  readonly document: SchemaDocument;
  /** Sentences for a log: what was added, dropped, widened. Empty: nothing changed. */
  readonly changes: readonly string[];
}

/** The type of a declared column. Throws `invalid` naming table and column. */
export function typeOfConfig(table: string, name: string, config: ColumnConfig): { readonly type: ColumnType; readonly elements: number } {
  const { type, length } = config;
  if (type === "u64") {
    if (length === undefined)
      throw wrong(table, name, "is u64 without a length", "write the number of elements, for example length: 8, or use i64 for one number");
    return { type: "u64[]", elements: length };
  }
  if (length === undefined) return { type, elements: 1 };
  if (type !== "f32") throw wrong(table, name, `has a length and is ${type}`, "vectors are of f32 or u64");
  return { type: "f32[]", elements: length };
}

/** The next document of a table. `before` is undefined for a new one, which gets `namespace`. */
export function evolve(name: string, config: TableConfig, before: SchemaDocument | undefined, namespace: number): Evolution {
  const changes: string[] = [];
  if (before !== undefined && before.key !== config.key) {
    throw new MillraceError("invalid", `table ${name} has keys of type ${before.key}, the configuration says ${config.key}`, {
      todo: "keep the key, or declare a table of another name and import into it",
    });
  }
  let nextColumn = before?.nextColumn ?? 1;
  const columns: ColumnDocument[] = Object.entries(config.columns).map(([column, declared]) => {
    const { type, elements } = typeOfConfig(name, column, declared);
    checkDefault(name, column, type, declared.default);
    const known = before?.columns.find((one) => one.name === column);
    if (known !== undefined && (known.type !== type || known.elements !== elements)) {
      if (elements !== 1 || known.elements !== 1 || !(widenings[known.type] ?? []).includes(type)) {
        throw wrong(
          name,
          column,
          `is ${shown(known.type, known.elements)} and cannot become ${shown(type, elements)}`,
          "keep its type, or add a column of another name (f32 may become f64, bool i64, f32 or f64)",
        );
      }
      changes.push(`column ${column} is ${type} from now on, it was ${known.type}`);
    }
    if (known === undefined && before !== undefined) changes.push(`column ${column} is new`);
    const ttlMs = declared.ttlHours === undefined ? (config.ttlDays ?? 0) * 24 * hourMs : declared.ttlHours * hourMs;
    return {
      id: known?.id ?? nextColumn++,
      name: column,
      type,
      elements,
      owner: declared.owner ?? "newest",
      ttlMs,
      ...(declared.default === undefined ? {} : { default: declared.default }),
    };
  });
  for (const { name: gone } of before?.columns ?? []) if (config.columns[gone] === undefined) changes.push(`column ${gone} is dropped`);

  const rest = {
    format: 1 as const,
    name,
    namespace: before?.namespace ?? namespace,
    key: config.key,
    entity: config.entity ?? "id",
    storage: config.storage ?? ("memory" as const),
    shards: config.shards ?? 1,
    nextColumn,
    columns,
  };
  if (rest.entity in config.columns) throw wrong(name, rest.entity, "has the name of the key", "give the key another name (entity), or the column");
  const layout = layoutOf(columns);
  const current = before?.layouts[String(before.revision)];
  if (before !== undefined && JSON.stringify(layout) === JSON.stringify(current)) {
    return { document: { ...rest, revision: before.revision, layouts: before.layouts }, changes };
  }
  const revision = (before?.revision ?? 0) + 1;
  if (revision > 65_535) throw new MillraceError("invalid", `table ${name} changed its columns 65,535 times`, { todo: "declare a table of another name" });
  return { document: { ...rest, revision, layouts: { ...before?.layouts, [String(revision)]: layout } }, changes };
}

function layoutOf(columns: readonly LaidColumn[]): LayoutDocument {
  return new RowLayout(1, columns).columns.map(({ id, type, elements }) => [id, type, elements] as const);
}

function checkDefault(table: string, column: string, type: ColumnType, value: number | string | boolean | undefined): void {
  if (value === undefined) return;
  const fits =
    type === "string"
      ? typeof value === "string"
      : type === "bool"
        ? typeof value === "boolean"
        : type === "i64" || type === "u64[]"
          ? Number.isSafeInteger(value) && (type === "i64" || (value as number) >= 0)
          : type !== "bytes" && typeof value === "number";
  if (!fits) throw wrong(table, column, `has a default that is no ${type}`, "correct the default, or leave it out");
}

function shown(type: ColumnType, elements: number): string {
  return type === "f32[]" || type === "u64[]" ? type.replace("]", `${elements}]`) : type;
}

function wrong(table: string, column: string, what: string, todo: string): MillraceError {
  return new MillraceError("invalid", `column ${column} of table ${table} ${what}`, { todo });
}

/** Throws `invalid` when there are more tables than there is room for. */
export function checkTableCount(count: number): void {
  if (count > tableLimits.tablesMax) {
    throw new MillraceError("invalid", `${count} tables`, { todo: `declare at most ${tableLimits.tablesMax}` });
  }
}
