// Schemas in the registry: tables/NAME is the document without its layouts, tables/NAME/layout/REVISION each layout, tables.namespace the last namespace given.
// Why layouts apart: a value of the registry holds 64 KiB, and layouts only ever become more.
// Order of a change: the layout first, then the document by compare-and-set. A layout that nobody names does no harm; if one of that number is there already and differs,
// the next number is taken, so a revision names one layout for ever. A namespace is taken before a table is made; one lost between the two is never given again.

import { MillraceError } from "#base/errors";
import type { Registry } from "#backbone/registry";
import type { TableConfig, TablesConfig } from "#wire/table-config";
import { checkTableCount, evolve } from "./schema-evolution.ts";
import { type LayoutDocument, type SchemaDocument, schemaOf, type TableSchema } from "./table-schema.ts";

const attemptsMax = 100;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The registered schema of a table, or undefined. For importers, tools and replicas: they follow what the server registered. */
export async function readSchema(registry: Registry, name: string): Promise<TableSchema | undefined> {
  return (await readDocument(registry, name))?.schema;
}

/** Names of all tables that were ever registered. */
export async function listSchemas(registry: Registry): Promise<string[]> {
  const entries = await registry.list("tables/");
  return entries.map(({ key }) => key.slice("tables/".length)).filter((name) => !name.includes("/"));
}

/** Registers what the configuration says of all tables, or throws before anything of the first wrong one is changed. `said` is told each change. */
export async function registerSchemas(
  registry: Registry,
  config: TablesConfig,
  said: (line: string) => void = () => undefined,
): Promise<Map<string, TableSchema>> {
  const tables = Object.entries(config);
  checkTableCount(tables.length);
  // First look at all, then change: a configuration with one mistake must not be taken over half.
  for (const [name, table] of tables) evolve(name, table, (await readDocument(registry, name))?.schema.document, 1);
  const schemas = new Map<string, TableSchema>();
  for (const [name, table] of tables) schemas.set(name, await registerSchema(registry, name, table, said));
  return schemas;
}

async function registerSchema(registry: Registry, name: string, config: TableConfig, said: (line: string) => void): Promise<TableSchema> {
  let namespace = 0;
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const found = await readDocument(registry, name);
    if (found === undefined && namespace === 0) namespace = await takeNamespace(registry);
    const before = found?.schema.document;
    const next = evolve(name, config, before, namespace);
    let { document } = next;
    if (before !== undefined && same(before, document)) return found!.schema;
    if (document.revision !== before?.revision) document = await putLayout(registry, document);
    const { layouts: _apart, ...kept } = document;
    const put = await registry.put(`tables/${name}`, encoder.encode(JSON.stringify(kept)), { expect: found?.revision ?? 0 });
    if (put === undefined) continue;
    for (const change of next.changes) said(`table ${name}: ${change}`);
    return schemaOf(document, name);
  }
  throw new MillraceError("conflict", `the schema of table ${name} was changed by others ${attemptsMax} times`, { todo: "start one server at a time" });
}

/** Puts the newest layout, under another number when that one is taken by another layout. */
async function putLayout(registry: Registry, document: SchemaDocument): Promise<SchemaDocument> {
  const layout = document.layouts[String(document.revision)]!;
  const text = JSON.stringify(layout);
  for (let { revision } = document; revision <= 65_535; revision += 1) {
    const key = `tables/${document.name}/layout/${revision}`;
    const put = await registry.put(key, encoder.encode(text), { expect: 0 });
    const there = put === undefined ? await registry.get(key) : undefined;
    if (put === undefined && (there === undefined || decoder.decode(there.value) !== text)) continue;
    const layouts = Object.fromEntries(Object.entries(document.layouts).filter(([number]) => Number(number) !== document.revision));
    return { ...document, revision, layouts: { ...layouts, [String(revision)]: layout } };
  }
  throw new MillraceError("invalid", `table ${document.name} has used all 65,535 revisions`, { todo: "declare a table of another name" });
}

async function takeNamespace(registry: Registry): Promise<number> {
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const entry = await registry.get("tables.namespace");
    const last = entry === undefined ? 0 : Number(decoder.decode(entry.value));
    if (!Number.isInteger(last) || last < 0) {
      throw new MillraceError("corrupt", "the registry key tables.namespace is no number", { todo: "restore the registry from its backup" });
    }
    if (last >= 65_534) throw new MillraceError("invalid", "65,534 tables were made in this registry", { todo: "begin a new data folder" });
    const put = await registry.put("tables.namespace", encoder.encode(String(last + 1)), { expect: entry?.revision ?? 0 });
    if (put !== undefined) return last + 1;
  }
  throw new MillraceError("conflict", "others took namespaces 100 times", { todo: "start one server at a time" });
}

async function readDocument(registry: Registry, name: string): Promise<{ readonly schema: TableSchema; readonly revision: number } | undefined> {
  const entry = await registry.get(`tables/${name}`);
  if (entry === undefined) return undefined;
  const prefix = `tables/${name}/layout/`;
  const layouts: Record<string, LayoutDocument> = {};
  for (const { key, value } of await registry.list(prefix)) layouts[key.slice(prefix.length)] = parsed(value, name) as LayoutDocument;
  return { schema: schemaOf({ ...(parsed(entry.value, name) as object), layouts }, name), revision: entry.revision };
}

function parsed(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch (cause) {
    throw new MillraceError("corrupt", `the schema of table ${name} is no JSON`, { cause, todo: "restore the registry from its backup" });
  }
}

function same(a: SchemaDocument, b: SchemaDocument): boolean {
  const { layouts: _a, ...restA } = a;
  const { layouts: _b, ...restB } = b;
  const order = (document: object): string => JSON.stringify(Object.entries(document).sort(([x], [y]) => (x < y ? -1 : 1)));
  return a.revision === b.revision && order({ ...restA, columns: a.columns.map(order) }) === order({ ...restB, columns: b.columns.map(order) });
}
