// All tables of a node, by name. Opening them registers what the configuration says (schema-registry.ts) and puts each over the one store of the node.

import { MillraceError } from "#base/errors";
import type { Registry } from "#backbone/registry";
import type { Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import type { TablesConfig } from "#wire/table-config";
import { registerSchemas } from "./schema-registry.ts";
import type { BaseSource } from "./table-base.ts";
import { TableScans } from "./table-scan.ts";
import { Table } from "./table.ts";
import type { TableSchema } from "./table-schema.ts";

export interface TablesOptions {
  readonly registry: Registry;
  readonly store: Store;
  readonly clock: Clock;
  readonly config: TablesConfig;
  /** Tables that this server writes itself, past `Table`: users read them, their writes are refused. They have no imported versions. */
  readonly ownConfig?: TablesConfig;
  /** Where a table's imported versions come from; undefined: it has none. */
  readonly baseOf?: (schema: TableSchema) => BaseSource | undefined;
  /** Told what changed in schemas, a sentence each. */
  readonly said?: (line: string) => void;
}

export class Tables {
  readonly #tables: ReadonlyMap<string, Table>;
  readonly scans: TableScans;

  constructor(tables: Iterable<Table>, clock: Clock) {
    this.#tables = new Map(Array.from(tables, (table) => [table.schema.name, table]));
    this.scans = new TableScans(clock);
  }

  get(name: string): Table | undefined {
    return this.#tables.get(name);
  }

  /** Throws `not-found`. */
  required(name: string): Table {
    const table = this.#tables.get(name);
    if (table !== undefined) return table;
    const known = [...this.#tables.keys()];
    throw new MillraceError("not-found", `there is no table ${JSON.stringify(name.slice(0, 64))}`, {
      todo: known.length === 0 ? "declare it in the configuration (tables)" : `use one of: ${known.slice(0, 12).join(", ")}${known.length > 12 ? ", ..." : ""}`,
    });
  }

  get list(): readonly Table[] {
    return [...this.#tables.values()];
  }

  /** Namespaces whose tombstones the store must keep: an imported version may hold what they hide. */
  get namespaces(): readonly number[] {
    return this.list.filter(({ readOnly }) => !readOnly).map(({ schema }) => schema.namespace);
  }

  /** Gives up scans that nobody goes on with, and their versions. */
  close(): void {
    this.scans.close();
  }
}

/** Registers the schemas and opens the tables. Throws `invalid` for a schema that contradicts what is registered, naming table and column. */
export async function openTables(options: TablesOptions): Promise<Tables> {
  const { registry, store, clock, config, ownConfig = {}, baseOf, said } = options;
  const schemas = await registerSchemas(registry, config, said);
  const own = await registerSchemas(registry, ownConfig, said);
  const tables = Array.from(schemas.values(), (schema) => {
    const base = baseOf?.(schema);
    return new Table({ schema, store, clock, ...(base === undefined ? {} : { base }) });
  });
  return new Tables([...tables, ...Array.from(own.values(), (schema) => new Table({ schema, store, clock, readOnly: true }))], clock);
}
