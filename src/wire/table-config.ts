// The section `tables` of the configuration file, and `feast` beside it: schemas, from which come the types and the validators.
// Why here: the gateway reads the file, the engine room makes tables of it, the SDK and the importer name the same columns.
// Invariants: 1. every field has its unit in the name and a default that is said here  2. what a schema cannot say (a default that fits its type, sums of sizes)
// is checked where tables are opened (src/features/tables/table-schema.ts).

import Type, { type Static } from "typebox";
import { tableLimits } from "./table-limits.ts";

const closed = { additionalProperties: false } as const;

/** Names of tables: lower case, so that they can stand in paths, keys of the registry and files. */
export const tableNamePattern = "^[a-z][a-z0-9_-]{0,63}$";
/** No configured table has a dot in its name: those that do are written by the server itself (docs/tables.md). */
export function isServersTable(name: string): boolean {
  return name.includes(".");
}
export const columnNamePattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$";

export const ColumnConfig = Type.Object(
  {
    type: Type.Union([
      Type.Literal("i64"),
      Type.Literal("f32"),
      Type.Literal("f64"),
      Type.Literal("u64"),
      Type.Literal("string"),
      Type.Literal("bytes"),
      Type.Literal("bool"),
    ]),
    /** Makes a vector of f32 or u64; u64 is always one. */
    length: Type.Optional(Type.Integer({ minimum: 1, maximum: tableLimits.lengthMax, description: "elements of a vector of f32 or u64" })),
    owner: Type.Optional(
      Type.Union([Type.Literal("batch"), Type.Literal("stream"), Type.Literal("newest")], {
        description: "who says what holds: the imported version, live writes, or whoever wrote last (default)",
      }),
    ),
    /** Stands in answers where a row has no value, beside a validity bit of 0. Default: NaN, 0, an empty text. */
    default: Type.Optional(Type.Union([Type.Number(), Type.String({ maxLength: 1_024 }), Type.Boolean()])),
    ttlHours: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 876_000, description: "a value older than this is as if it were not there" })),
  },
  closed,
);
export type ColumnConfig = Static<typeof ColumnConfig>;

export const TableConfig = Type.Object(
  {
    key: Type.Union([Type.Literal("string"), Type.Literal("u64")]),
    /** Where the base lies: in memory (default), or on disk with its index in memory. */
    storage: Type.Optional(Type.Union([Type.Literal("memory"), Type.Literal("disk")])),
    /** Parts into which an import cuts the table by the hash of the key. Default 1. */
    shards: Type.Optional(Type.Integer({ minimum: 1, maximum: tableLimits.shardsMax })),
    /** Of every column that says nothing itself. */
    ttlDays: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 36_500 })),
    /** What the key is called in Feast's requests and in files. Default "id". */
    entity: Type.Optional(Type.String({ pattern: columnNamePattern })),
    columns: Type.Record(Type.String({ pattern: columnNamePattern }), ColumnConfig, { ...closed, minProperties: 1, maxProperties: tableLimits.columnsMax }),
  },
  closed,
);
export type TableConfig = Static<typeof TableConfig>;

export const TablesConfig = Type.Record(Type.String({ pattern: tableNamePattern }), TableConfig, { ...closed, maxProperties: tableLimits.tablesMax });
export type TablesConfig = Static<typeof TablesConfig>;

/** How Feast's names map to tables. A view is a table, a feature is a column. */
export const FeastConfig = Type.Object(
  {
    /** Feature service -> its features, each "view:feature". */
    services: Type.Optional(
      Type.Record(Type.String({ pattern: "^[\\s\\S]{1,128}$" }), Type.Array(Type.String({ maxLength: 256 }), { minItems: 1, maxItems: 1_000 }), {
        ...closed,
        maxProperties: 1_000,
      }),
    ),
    /** Push source -> table. A name that is not here is the table of the same name. */
    pushSources: Type.Optional(
      Type.Record(Type.String({ pattern: "^[\\s\\S]{1,128}$" }), Type.String({ pattern: tableNamePattern }), { ...closed, maxProperties: 1_000 }),
    ),
  },
  closed,
);
export type FeastConfig = Static<typeof FeastConfig>;
