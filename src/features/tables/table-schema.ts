// The schema of a table: what its columns are called, of which type, whose they are; every layout in which rows of it may lie; and its form as a document.
// Why ids: rows and files name columns by the layout of their revision, layouts by column ids. So a column can be added, dropped or widened without touching a row: what
// a row lacks is absent, what the schema lacks is passed over, what became wider is converted when it is read.
// Invariants: 1. an id is given once and never again, also when a column of the same name comes back  2. a revision names one layout for ever
// 3. what reads rows (an importer, a replica in another process) needs this document and nothing else.

import { MillraceError } from "#base/errors";
import { columnTypes, type ColumnType, type LayoutColumn, RowLayout } from "./row-layout.ts";

export const owners = ["batch", "stream", "newest"] as const;
export type Owner = (typeof owners)[number];

export interface ColumnDocument {
  readonly id: number;
  readonly name: string;
  readonly type: ColumnType;
  readonly elements: number;
  readonly owner: Owner;
  /** 0: for ever. */
  readonly ttlMs: number;
  readonly default?: number | string | boolean;
}

/** A layout as it is kept: [column id, type, elements] in the order of the layout. */
export type LayoutDocument = readonly (readonly [id: number, type: ColumnType, elements: number])[];

/** Everything of a schema, as JSON: kept in the registry, carried in manifests of imported versions. */
export interface SchemaDocument {
  readonly format: 1;
  readonly name: string;
  /** First two bytes of every key of the table in the engine, big-endian. */
  readonly namespace: number;
  readonly key: "string" | "u64";
  readonly entity: string;
  readonly storage: "memory" | "disk";
  readonly shards: number;
  /** Of the layout by which rows are written. */
  readonly revision: number;
  /** The next column to be added gets this id. */
  readonly nextColumn: number;
  readonly columns: readonly ColumnDocument[];
  readonly layouts: Readonly<Record<string, LayoutDocument>>;
}

export interface Column extends ColumnDocument {
  /** Its place in rows that are written now. */
  readonly laid: LayoutColumn;
  /** What stands in an answer where there is no value: the bytes of the fixed area, or of the text. */
  readonly defaultBytes: Uint8Array;
}

const encoder = new TextEncoder();

export class TableSchema {
  readonly document: SchemaDocument;
  readonly name: string;
  readonly namespace: number;
  readonly key: "string" | "u64";
  readonly entity: string;
  /** In the order of the configuration. */
  readonly columns: readonly Column[];
  /** By which rows are written. */
  readonly layout: RowLayout;
  /** Columns of `layout`, by their place in it. */
  readonly byPlace: readonly Column[];
  /** The longest time to live of a column; 0 when one lives for ever. */
  readonly ttlMaxMs: number;
  readonly #layouts = new Map<number, RowLayout>();
  readonly #byName: ReadonlyMap<string, Column>;

  /** Throws `corrupt` when the document contradicts itself. */
  constructor(document: SchemaDocument) {
    this.document = document;
    this.name = document.name;
    this.namespace = document.namespace;
    this.key = document.key;
    this.entity = document.entity;
    for (const [revision, columns] of Object.entries(document.layouts)) {
      this.#layouts.set(
        Number(revision),
        new RowLayout(
          Number(revision),
          columns.map(([id, type, elements]) => ({ id, type, elements })),
        ),
      );
    }
    const layout = this.#layouts.get(document.revision);
    if (layout === undefined) throw damaged(document.name, `no layout of revision ${document.revision}`);
    this.layout = layout;
    this.columns = document.columns.map((column) => {
      const laid = layout.byId(column.id);
      if (laid?.type !== column.type || laid.elements !== column.elements) throw damaged(document.name, `column ${column.name} is not as its layout says`);
      return { ...column, laid, defaultBytes: defaultBytesOf(column, laid) };
    });
    this.#byName = new Map(this.columns.map((column) => [column.name, column]));
    this.ttlMaxMs = document.columns.some(({ ttlMs }) => ttlMs === 0) ? 0 : Math.max(0, ...document.columns.map(({ ttlMs }) => ttlMs));
    this.byPlace = layout.columns.map(({ id }) => {
      const column = this.columns.find((one) => one.id === id);
      if (column === undefined) throw damaged(document.name, `column ${id} of the layout has no name`);
      return column;
    });
  }

  column(name: string): Column | undefined {
    return this.#byName.get(name);
  }

  /** Throws `invalid` naming table and column. */
  required(name: string): Column {
    const column = this.#byName.get(name);
    if (column !== undefined) return column;
    const known = this.columns.slice(0, 12).map((one) => one.name);
    throw new MillraceError("invalid", `table ${this.name} has no column ${JSON.stringify(name.slice(0, 64))}`, {
      todo: `name some of: ${known.join(", ")}${this.columns.length > 12 ? ", ..." : ""}`,
    });
  }

  layoutOf(revision: number): RowLayout | undefined {
    return this.#layouts.get(revision);
  }
}

/** A document that came from a file or the registry, checked. Throws `corrupt`. */
export function schemaOf(value: unknown, what: string): TableSchema {
  const document = value as SchemaDocument;
  const bad = (detail: string): MillraceError => damaged(what, detail);
  if (typeof value !== "object" || value === null) throw bad("no object");
  if (document.format !== 1) throw bad("a format that this version does not know");
  if (typeof document.name !== "string" || !isCount(document.namespace, 1, 65_534) || !isCount(document.revision, 1, 65_535))
    throw bad("no name, namespace or revision");
  if ((document.key !== "string" && document.key !== "u64") || typeof document.entity !== "string") throw bad("no kind of key");
  if (!isCount(document.nextColumn, 1, 2 ** 31) || !Array.isArray(document.columns) || typeof document.layouts !== "object") throw bad("no columns");
  for (const column of document.columns as unknown as readonly Partial<ColumnDocument>[]) {
    const { id, name, type, elements, owner, ttlMs } = column;
    if (!isCount(id, 1, 2 ** 31) || typeof name !== "string" || !columnTypes.includes(type!) || !isCount(elements, 1, 65_536))
      throw bad("a column is not whole");
    if (!owners.includes(owner!) || typeof ttlMs !== "number" || !(ttlMs >= 0)) throw bad("a column is not whole");
  }
  for (const layout of Object.values(document.layouts) as unknown[]) {
    if (!Array.isArray(layout)) throw bad("a layout is no list");
    for (const one of layout as unknown[]) {
      const [id, type, elements] = one as [unknown, ColumnType, unknown];
      if (!isCount(id, 1, 2 ** 31) || !columnTypes.includes(type) || !isCount(elements, 1, 65_536)) throw bad("a layout is not whole");
    }
  }
  return new TableSchema(document);
}

function isCount(value: unknown, min: number, max: number): boolean {
  return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

function damaged(name: string, detail: string): MillraceError {
  return new MillraceError("corrupt", `the schema of table ${name}: ${detail}`, { todo: "restore the registry from its backup, or import the table anew" });
}

function defaultBytesOf(column: ColumnDocument, laid: LayoutColumn): Uint8Array {
  const { type, default: value } = column;
  if (laid.variable) return encoder.encode(typeof value === "string" ? value : "");
  const bytes = new Uint8Array(laid.bytes);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < laid.bytes; at += laid.bytes / laid.elements) {
    if (type === "f32" || type === "f32[]") view.setFloat32(at, typeof value === "number" ? value : Number.NaN, true);
    else if (type === "f64") view.setFloat64(at, typeof value === "number" ? value : Number.NaN, true);
    else if (type === "i64") view.setBigInt64(at, BigInt(typeof value === "number" ? value : 0), true);
    else if (type === "u64[]") view.setBigUint64(at, BigInt(typeof value === "number" ? value : 0), true);
    else view.setUint8(at, value === true ? 1 : 0);
  }
  return bytes;
}
