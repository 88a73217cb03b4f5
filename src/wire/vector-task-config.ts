// What a task of the vector builder is told: `vectors.tasks` of the configuration file, and what HTTP and commands say of a task. Meaning: docs/vector-tasks.md.
// Invariants: 1. a task says where rows come from, what becomes of them and when, and nothing of the machine that does it  2. every field has its unit in the name and its default is
// said here (`vectorTaskDefaults`)  3. what a schema cannot say is in `checkVectorTask`, which names the field.

import Type, { type Static } from "typebox";
import { MillraceError } from "#base/errors";
import { columnNamePattern, tableNamePattern } from "./table-config.ts";
import { vectorConfigLimits } from "./vector-limits.ts";

const closed = { additionalProperties: false } as const;

export const vectorTaskLimits = {
  /** Of one task as JSON: eight of them stand in one value of the registry. */
  configBytesMax: 4_096,
  filesMax: 16,
  pathCharactersMax: 512,
  queryCharactersMax: 2_000,
  attributesMax: 32,
  checksMax: 24,
  everySecondsMax: 31_536_000,
} as const;

/** Names of tasks. */
export const vectorTaskNamePattern = tableNamePattern;
/** Collections that a task can build: their names are names of snapshots too. */
export const builtCollectionPattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,98}[A-Za-z0-9_-]$|^[A-Za-z0-9_-]$";

const path = Type.String({ minLength: 1, maxLength: vectorTaskLimits.pathCharactersMax });
const Column = Type.String({ pattern: columnNamePattern });
const attributes = {
  /** Columns that become attributes, by their names; a row's empty ones are left out. */
  attributes: Type.Optional(Type.Array(Column, { maxItems: vectorTaskLimits.attributesMax, uniqueItems: true })),
} as const;

/** A column of f32 vectors of a feature table: every key that has one is a row. */
export const TableSource = Type.Object({ table: Type.String({ pattern: "^[a-z][a-z0-9._-]{0,63}$" }), column: Column, ...attributes }, closed);
/** The rows of a parameter table, as its latest checkpoint has them; ids are its keys in decimal. */
export const ParameterSource = Type.Object({ parameters: Type.String({ pattern: tableNamePattern }) }, closed);
/** One `.npy` file of vectors; `ids`: one of texts or whole numbers with as many rows, left out: row numbers. */
export const NpyRowsSource = Type.Object({ npy: path, ids: Type.Optional(path) }, closed);
/** Parquet, CSV and JSON lines (patterns allowed), or a query over files. CSV has a vector as a text `[1, 2.5, ...]`. */
export const FilesSource = Type.Object(
  {
    files: Type.Array(path, { maxItems: vectorTaskLimits.filesMax }),
    query: Type.Optional(Type.String({ minLength: 1, maxLength: vectorTaskLimits.queryCharactersMax })),
    format: Type.Optional(Type.Union([Type.Literal("parquet"), Type.Literal("csv"), Type.Literal("json")])),
    /** Default `id` and `vector`. */
    id: Type.Optional(Column),
    vector: Type.Optional(Column),
    ...attributes,
  },
  closed,
);
/** A model run over a table's rows: `module` is a file whose default export makes the vector of an id (docs/vector-tasks.md). */
export const ModelSource = Type.Object({ module: path, table: Type.String({ pattern: "^[a-z][a-z0-9._-]{0,63}$" }), ...attributes }, closed);

export const VectorTaskSource = Type.Union([TableSource, ParameterSource, NpyRowsSource, FilesSource, ModelSource]);
export type VectorTaskSource = Static<typeof VectorTaskSource>;

/** As StatisticCheck of src/snapshot/statistic-checks.ts; which statistics there are: docs/vector-tasks.md. */
export const VectorTaskCheck = Type.Object(
  {
    statistic: Type.String({ pattern: "^[\\x21-\\x7e]{1,100}$" }),
    per: Type.Optional(Type.String({ pattern: "^[\\x21-\\x7e]{1,100}$" })),
    min: Type.Optional(Type.Number()),
    max: Type.Optional(Type.Number()),
    fallMax: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    riseMax: Type.Optional(Type.Number({ minimum: 0 })),
    optional: Type.Optional(Type.Boolean()),
  },
  closed,
);

/** When it runs by itself. None of them: only when asked to. */
export const VectorTaskSchedule = Type.Object(
  {
    /** So long after the last build began. */
    everySeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: vectorTaskLimits.everySecondsMax })),
    /** `POST /v1/vector-tasks/NAME/finished` by an outside job. */
    webhook: Type.Optional(Type.Boolean()),
    /** A file that an outside job writes when it is done: a build begins when it appears, or its bytes change. */
    markerFile: Type.Optional(path),
  },
  closed,
);

export const VectorTaskConfig = Type.Object(
  {
    source: VectorTaskSource,
    /** Default: the task's name. */
    collection: Type.Optional(Type.String({ pattern: builtCollectionPattern })),
    /** Default cosine. */
    metric: Type.Optional(Type.Union([Type.Literal("cosine"), Type.Literal("ip"), Type.Literal("l2")])),
    /** Numbers of a vector; a source with another number is refused. Default: what the source has. */
    dims: Type.Optional(Type.Integer({ minimum: 1, maximum: vectorConfigLimits.dimsMax })),
    /** Default 0.99. */
    recallTarget: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
    /** Default 20. */
    recallAt: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
    /** Lists of the index; 1: exact search. Default: as many as fit the rows, then tuned. */
    lists: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_536 })),
    checks: Type.Optional(Type.Array(VectorTaskCheck, { maxItems: vectorTaskLimits.checksMax })),
    schedule: Type.Optional(VectorTaskSchedule),
    /** False: a good version is published and waits to be put live. Default true. */
    live: Type.Optional(Type.Boolean()),
    /** Versions that were live to keep, and as many staged ones. Default 3. */
    keepVersions: Type.Optional(Type.Integer({ minimum: 1, maximum: vectorConfigLimits.versionsMax })),
    /** Resident memory of the process that builds, MiB. Default 4,096. */
    memoryMb: Type.Optional(Type.Integer({ minimum: 192, maximum: vectorConfigLimits.memoryMbMax })),
    /** A build that takes longer is ended. Default 3,600. */
    timeoutSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400 })),
  },
  closed,
);
export type VectorTaskConfig = Static<typeof VectorTaskConfig>;

export const vectorTaskDefaults = {
  metric: "cosine",
  recallTarget: 0.99,
  recallAt: 20,
  live: true,
  keepVersions: 3,
  memoryMb: 4_096,
  timeoutSeconds: 3_600,
  idColumn: "id",
  vectorColumn: "vector",
} as const;

/** What a check may name: what a build measures (build-version.ts), and `files` and `bytes` of the version. */
export const vectorStatistics = [
  "rows",
  "read",
  "refused",
  "replaced",
  "distinctShare",
  "dims",
  "lists",
  "recall",
  "recallTuned",
  "success",
  "latencyP50Ms",
  "latencyP99Ms",
  "comparedShare",
  "exactShare",
  "memoryBytes",
  "bytes",
  "files",
  "norm.mean",
  "norm.deviation",
  "norm.min",
  "norm.max",
  "settings.probes",
  "settings.margin",
  "settings.slack",
] as const;

/** The collection that a task builds. Throws `invalid` for a name that cannot be one. */
export function collectionOf(task: string, { collection = task }: VectorTaskConfig): string {
  return collection;
}

/** The files that a task reads, patterns included, each with its field. */
export function taskPaths({ source, schedule }: VectorTaskConfig): (readonly [field: string, path: string])[] {
  const paths: (readonly [string, string])[] = [];
  if ("npy" in source) paths.push(["source.npy", source.npy]);
  if ("npy" in source && source.ids !== undefined) paths.push(["source.ids", source.ids]);
  if ("files" in source) source.files.forEach((path, i) => paths.push([`source.files.${i}`, path]));
  if ("module" in source) paths.push(["source.module", source.module]);
  if (schedule?.markerFile !== undefined) paths.push(["schedule.markerFile", schedule.markerFile]);
  return paths;
}

/** What the schema cannot say of a task by itself; what is around it: vector-task-fit.ts. Throws `invalid`. */
export function checkVectorTask(name: string, config: VectorTaskConfig): VectorTaskConfig {
  const refuse = (field: string, what: string, todo: string): never => {
    throw new MillraceError("invalid", `vector task ${name}: ${field} ${what}`, { todo });
  };
  if (!new RegExp(vectorTaskNamePattern).test(name)) {
    throw new MillraceError("invalid", `${JSON.stringify(name.slice(0, 64))} is no name of a vector task`, {
      todo: "use small letters, digits, - and _, at most 64, beginning with a letter",
    });
  }
  const { source, checks = [], schedule } = config;
  if ("files" in source && (source.files.length === 0) === (source.query === undefined)) {
    refuse("source", "names neither files nor a query, or both", "give one of them");
  }
  for (const [field, path] of taskPaths(config)) {
    if (!path.startsWith("/")) refuse(field, `is ${JSON.stringify(path)}, no absolute path`, "begin it with /: the builder has another working folder");
  }
  checks.forEach(({ statistic, per, min, max, fallMax, riseMax }, i) => {
    const field = `checks.${i}`;
    for (const [part, named] of [
      ["statistic", statistic],
      ["per", per],
    ] as const) {
      if (named !== undefined && !(vectorStatistics as readonly string[]).includes(named))
        refuse(`${field}.${part}`, `is ${JSON.stringify(named)}, which no build measures`, `name one of: ${vectorStatistics.join(", ")}`);
    }
    if ([min, max, fallMax, riseMax].every((limit) => limit === undefined))
      refuse(`${field} (${statistic})`, "has no limit", "give min, max, fallMax or riseMax");
    if (min !== undefined && max !== undefined && min > max) refuse(`${field}.min`, `is ${min}, more than max (${max})`, "nothing satisfies both: correct one");
  });
  if (schedule !== undefined && schedule.everySeconds === undefined && schedule.webhook !== true && schedule.markerFile === undefined) {
    refuse(
      "schedule",
      "names nothing that begins a build",
      "give everySeconds, webhook: true or markerFile, or leave it out: it is built when it is asked for",
    );
  }
  const bytes = new TextEncoder().encode(JSON.stringify(config)).length;
  const { configBytesMax } = vectorTaskLimits;
  if (bytes > configBytesMax) refuse("the configuration", `takes ${bytes} bytes`, `keep it within ${configBytesMax}: read a pattern of files, or a view`);
  return config;
}
