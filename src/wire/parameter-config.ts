// The section `parameters` of the configuration file: tables of the parameter server, the models that own them, synchronisation between nodes. Meaning: docs/parameters.md.
// Invariants: 1. every field has its unit in the name and its default is said here  2. what a schema cannot say (a model's tables must exist, memory of a shard) is in `checkParameters`.

import Type, { type Static } from "typebox";
import { MillraceError } from "#base/errors";
import { isLoopbackHost } from "./loopback-host.ts";
import { parameterLimits } from "./parameter-limits.ts";
import { tableNamePattern } from "./table-config.ts";

const closed = { additionalProperties: false } as const;
const limits = parameterLimits;

export const ParameterTableConfig = Type.Object(
  {
    /** Numbers of a row. */
    dim: Type.Integer({ minimum: 1, maximum: limits.dimMax }),
    /** Of the initial values; equal seeds give equal values on every node. Default 1. */
    seed: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    /** Missing keys read as numbers uniform in [-initialScale, initialScale). Default 0: they read as zeros. */
    initialScale: Type.Optional(Type.Number({ minimum: 0, maximum: 1e6 })),
    /** So many leading numbers of a row begin at random, the others at 0. Default: as many as dim allows, a multiple of 4. */
    factors: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.dimMax, multipleOf: 4 })),
    /** Of rows and index together, MiB. The rows written longest ago are evicted when it is nearly full. */
    memoryMb: Type.Integer({ minimum: 1, maximum: limits.memoryMbMax }),
    /** Memories that the table is cut into. Default: as few as 4 GiB each allow. It cannot be changed later. */
    shards: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.shardsMax })),
    /** Parts of a shard that versions are counted in and synchronisation compares, a power of two; equal on all nodes. Default: 4,096, fewer in a table of less than 262,144 rows. It cannot be changed later. */
    buckets: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_536 })),
    /** A key gets a row with so many additions; until then it is counted in a sketch of `sketchMb` (default 1). Assignments are not held back. */
    admission: Type.Optional(
      Type.Object(
        {
          sightings: Type.Integer({ minimum: 1, maximum: 15 }),
          sketchMb: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_024 })),
        },
        closed,
      ),
    ),
    /** Rows that were not written for so long are removed. Default: never. */
    expireAfterS: Type.Optional(Type.Integer({ minimum: 1, maximum: 2_000_000_000 })),
    /** A kill -9 loses what was written after the last checkpoint. Default: every 60 s when something was written. */
    checkpoint: Type.Optional(Type.Object({ everySeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400 })) }, closed)),
  },
  closed,
);
export type ParameterTableConfig = Static<typeof ParameterTableConfig>;

export const ParameterModelConfig = Type.Object(
  {
    tables: Type.Array(Type.String({ pattern: tableNamePattern }), { maxItems: limits.modelTablesMax, uniqueItems: true }),
    /** Version of the feature extractor that the model was trained with. */
    extractor: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    /** What the model may take; a field that is not there is not bounded. */
    quota: Type.Optional(
      Type.Object(
        {
          rows: Type.Optional(Type.Integer({ minimum: 1 })),
          bytesMb: Type.Optional(Type.Integer({ minimum: 1 })),
          pulledRowsPerS: Type.Optional(Type.Integer({ minimum: 1 })),
          pushedRowsPerS: Type.Optional(Type.Integer({ minimum: 1 })),
          requestsPerS: Type.Optional(Type.Integer({ minimum: 1 })),
        },
        closed,
      ),
    ),
  },
  closed,
);
export type ParameterModelConfig = Static<typeof ParameterModelConfig>;

export const ParameterSyncConfig = Type.Object(
  {
    /** Of this node among those that hold the same tables. */
    node: Type.Integer({ minimum: 0, maximum: 255 }),
    /** Where followers connect. */
    port: Type.Integer({ minimum: 0, maximum: 65_535 }),
    /** Default 127.0.0.1. Beyond loopback only with `token`. */
    host: Type.Optional(Type.String({ minLength: 1, maxLength: 255 })),
    /** `host:port` of nodes that this one takes its tables from, the nearest first. Without it this node leads. */
    follow: Type.Optional(Type.Array(Type.String({ pattern: "^[^\\s]{1,255}:[0-9]{1,5}$" }), { minItems: 1, maxItems: limits.followMax, uniqueItems: true })),
    /** The server's model is synchronised too: with `follow` it is taken from there and not trained here, without it it is trained here and may be followed. Default false. */
    model: Type.Optional(Type.Boolean()),
    /** `lease`: of the servers that share `registry` one leads all tables; when it is gone the next one does, within two seconds. Without `follow`. */
    lead: Type.Optional(Type.Literal("lease")),
    /** With `lead`: a file that all of them open, on one machine. Its folder must exist. */
    registry: Type.Optional(Type.String({ minLength: 1, maxLength: 1_024 })),
    /** Both sides name the same one. */
    token: Type.Optional(Type.String({ minLength: 8, maxLength: 1_024 })),
  },
  closed,
);
export type ParameterSyncConfig = Static<typeof ParameterSyncConfig>;

export const ParametersConfig = Type.Object(
  {
    tables: Type.Optional(
      Type.Record(Type.String({ pattern: tableNamePattern }), ParameterTableConfig, { ...closed, maxProperties: limits.tablesMax, description: "by name" }),
    ),
    models: Type.Optional(
      Type.Record(Type.String({ pattern: tableNamePattern }), ParameterModelConfig, { ...closed, maxProperties: limits.modelsMax, description: "by name" }),
    ),
    sync: Type.Optional(ParameterSyncConfig),
    /** Of all tables together, those made at run time included, MiB. Default: what the named tables take, and 1,024 more. */
    memoryMb: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.memoryMbMax })),
  },
  closed,
);
export type ParametersConfig = Static<typeof ParametersConfig>;

export const parameterDefaults = { seed: 1, initialScale: 0, sketchMb: 1, checkpointSeconds: 60, moreMemoryMb: 1_024 } as const;

/** Memory of all tables together, MiB. */
export function parameterMemoryMb({ memoryMb, tables = {} }: ParametersConfig): number {
  return memoryMb ?? Object.values(tables).reduce((sum, table) => sum + table.memoryMb, 0) + parameterDefaults.moreMemoryMb;
}

/** What the schema cannot say of one table. Throws `invalid`. */
export function checkParameterTable(name: string, { dim, factors, initialScale, memoryMb, shards, buckets }: ParameterTableConfig): void {
  const refuse = (field: string, what: string, todo: string): never => {
    throw new MillraceError("invalid", `parameters.tables.${name}.${field} ${what}`, { todo });
  };
  if ((factors ?? 0) > dim) refuse("factors", `is ${factors}, more than dim (${dim})`, "give a multiple of 4, at most dim");
  if (dim < 4 && factors === undefined && (initialScale ?? 0) > 0) {
    refuse("initialScale", `with rows of ${dim} numbers: only groups of 4 can begin at random`, "leave it out, or give rows of at least 4 numbers");
  }
  if (buckets !== undefined && (buckets & (buckets - 1)) !== 0) refuse("buckets", `is ${buckets}`, "give a power of two");
  const [shardMbMax, leastMb] = [4_032, 1];
  if (shards !== undefined && memoryMb / shards > shardMbMax)
    refuse("shards", `gives ${memoryMb / shards} MiB to each`, `give at least ${Math.ceil(memoryMb / shardMbMax)}`);
  if (shards !== undefined && memoryMb / shards < leastMb)
    refuse("memoryMb", `gives less than ${leastMb} MiB to each of ${shards} shards`, "give more, or use fewer shards");
  if (shards === undefined && memoryMb / limits.shardsMax > shardMbMax) {
    refuse("memoryMb", `is more than ${limits.shardsMax} shards hold`, `give at most ${limits.shardsMax * shardMbMax}`);
  }
}

function checkSync({ follow, model, lead, registry, port, host = "127.0.0.1" }: ParameterSyncConfig): void {
  const refuse = (what: string, todo: string): never => {
    throw new MillraceError("invalid", `parameters.sync.${what}`, { todo });
  };
  if ((lead === undefined) !== (registry === undefined)) {
    refuse(lead === undefined ? "registry is given without lead" : "lead is given without registry", "give both, or none of them");
  }
  if (lead !== undefined && follow !== undefined) refuse("lead and follow are both given", "leave follow out: servers that lead by lease find one another");
  // All names of this machine's loopback are one when it listens there; of other hosts only the same name is known to be this one.
  const own = (follow ?? []).find((address) => {
    const at = address.lastIndexOf(":");
    const other = address.slice(0, at);
    return (
      Number(address.slice(at + 1)) === port && (other === host || (isLoopbackHost(other) && (isLoopbackHost(host) || host === "0.0.0.0" || host === "::")))
    );
  });
  if (own !== undefined) refuse(`follow names ${own}, which is this server`, "name the port of synchronisation of another server");
  if (lead !== undefined && model === true) refuse("lead and model are both given", "leave model out: a model is trained where its log is");
}

/** What the schema cannot say of the section. Throws `invalid` and names the field. */
export function checkParameters(config: ParametersConfig): ParametersConfig {
  const { tables = {}, models = {}, sync } = config;
  const { host = "127.0.0.1", token } = sync ?? {};
  if (!isLoopbackHost(host) && token === undefined) {
    throw new MillraceError("invalid", `parameters.sync.host is ${host}, which others than this machine reach, without a token`, {
      todo: "give parameters.sync.token, the same on all nodes, or listen on 127.0.0.1",
    });
  }
  if (sync !== undefined) checkSync(sync);
  for (const [name, table] of Object.entries(tables)) checkParameterTable(name, table);
  const askedMb = Object.values(tables).reduce((sum, { memoryMb }) => sum + memoryMb, 0);
  if (askedMb > parameterMemoryMb(config)) {
    throw new MillraceError("invalid", `parameters.memoryMb is ${config.memoryMb}, the tables ask for ${askedMb}`, {
      todo: "raise it, or give the tables less",
    });
  }
  for (const [name, model] of Object.entries(models)) {
    const missing = model.tables.find((table) => !Object.hasOwn(tables, table));
    // A table made at run time may be named by a model that is made at run time too, never by the file, which is read before.
    if (missing !== undefined) {
      throw new MillraceError("invalid", `parameters.models.${name}.tables names ${missing}, which is no table`, {
        todo: "declare it in parameters.tables, or correct the name",
      });
    }
  }
  return config;
}
