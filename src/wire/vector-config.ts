// The section `vectors` of the configuration file: collections with their shapes, how they are folded and tuned, memory. Meaning: docs/vectors.md.
// Invariants: 1. every field has its unit in the name and its default is said here (`vectorDefaults`)  2. what a schema cannot say (memory, names that are taken, candidates below the
// answers) is in `checkVectors`, which names the field.

import Type, { type Static } from "typebox";
import { MillraceError } from "#base/errors";
import { checkVectorTask, VectorTaskConfig, vectorTaskNamePattern } from "./vector-task-config.ts";
import { reservedCollectionPrefix, vectorConfigLimits as limits } from "./vector-limits.ts";

const closed = { additionalProperties: false } as const;

/** Names of collections in the file: any text without control characters, since they are keys of the Redis port too. */
export const collectionNamePattern = `^[^\\u0000-\\u001f\\u007f]{1,${limits.nameCharactersMax}}$`;

/** When the live tail becomes part of a new base. Whichever comes first begins a fold; two folds of a collection never run at once. */
export const CollectionFoldConfig = Type.Object(
  {
    /** Rows of the tail. Default 100,000. */
    tailRows: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000_000 })),
    /** Rows of the tail for each row of the base; only with at least `tailRowsMin` rows in the tail. Default 0.1. */
    tailShare: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 100 })),
    /** Below so many rows in the tail nothing is folded for its share alone. Default 10,000. */
    tailRowsMin: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000_000 })),
    /** Deleted or overwritten rows of the base for each of its rows. Default 0.2. */
    deletedShare: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
    /** While anything was written. Default: only by the rows. */
    everySeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 31_536_000 })),
    /** Of the process that folds, MiB. Default 4,096. */
    memoryMb: Type.Optional(Type.Integer({ minimum: 64, maximum: limits.memoryMbMax })),
    /** False: only an outside build makes versions. Default true. */
    enabled: Type.Optional(Type.Boolean()),
  },
  closed,
);
export type CollectionFoldConfig = Static<typeof CollectionFoldConfig>;

/** How searches of a collection are tuned and watched. Each field may stand in `defaults` for all collections, and in a collection. */
const tuning = {
  /** Share of the exact answers that a search shall find, of its first `recallAt`. Default 0.99. */
  recallTarget: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
  /** Default 20. */
  recallAt: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000 })),
  /** Of so many searches one is compared with exact search, while the server has time. Default 1,000; 0: none. */
  recallSampleEvery: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000_000 })),
  /** Below so many rows a base has no lists: it is searched exactly. Default 20,000. */
  exactBelowRows: Type.Optional(Type.Integer({ minimum: 0, maximum: 100_000_000 })),
  /** Versions that are kept to go back to, the one that serves among them. Default 2. */
  keepVersions: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.versionsMax })),
  /** Versions that stay in memory, the one that serves among them: a search may name them, and a roll-back to them loads nothing. Each takes its memory. Default 1. */
  loadedVersions: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.versionsMax })),
  /** A search that took longer is answered with `timeout`. Default 1,000. */
  searchTimeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 60_000 })),
  fold: Type.Optional(CollectionFoldConfig),
} as const;

export const CollectionTuning = Type.Object(tuning, closed);
export type CollectionTuning = Static<typeof CollectionTuning>;

export const CollectionConfig = Type.Object(
  {
    /** Numbers of a vector. */
    dims: Type.Integer({ minimum: 1, maximum: limits.dimsMax }),
    /** How two vectors are compared. Default cosine. */
    metric: Type.Optional(Type.Union([Type.Literal("cosine"), Type.Literal("ip"), Type.Literal("l2")])),
    ...tuning,
  },
  closed,
);
export type CollectionConfig = Static<typeof CollectionConfig>;

export const VectorsConfig = Type.Object(
  {
    /** They are there from the first start on; commands and HTTP make others, which are cosine unless they say so. */
    collections: Type.Optional(
      Type.Record(Type.String({ pattern: collectionNamePattern }), CollectionConfig, {
        ...closed,
        maxProperties: limits.collectionsMax,
        description: "by name",
      }),
    ),
    /** Of collections that do not say it themselves, those made at run time included. */
    defaults: Type.Optional(CollectionTuning),
    /** What builds versions of collections from outside, by name. */
    tasks: Type.Optional(
      Type.Record(Type.String({ pattern: vectorTaskNamePattern }), VectorTaskConfig, { ...closed, maxProperties: limits.tasksMax, description: "by name" }),
    ),
    /** Tasks that the server itself builds at once, each in a process of its own; 0: only those of `millrace builder`. Default 1. */
    builders: Type.Optional(Type.Integer({ minimum: 0, maximum: 16 })),
    /** Threads that one build of the server's computes with, all standing back. Default: as many as there are cores, at most 4. */
    buildThreads: Type.Optional(Type.Integer({ minimum: 1, maximum: 16 })),
    /** Of all collections with their spare versions, MiB. Default 1,024. */
    memoryMb: Type.Optional(Type.Integer({ minimum: 16, maximum: limits.memoryMbMax })),
    /** Of answers that are given again while nothing changed, MiB; 0: none are kept. Default 32. */
    cacheMb: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_536 })),
  },
  closed,
);
export type VectorsConfig = Static<typeof VectorsConfig>;

export const vectorDefaults = {
  metric: "cosine",
  builders: 1,
  memoryMb: 1_024,
  cacheMb: 32,
  recallTarget: 0.99,
  recallAt: 20,
  recallSampleEvery: 1_000,
  exactBelowRows: 20_000,
  keepVersions: 2,
  loadedVersions: 1,
  searchTimeoutMs: 1_000,
  fold: { tailRows: 100_000, tailShare: 0.1, tailRowsMin: 10_000, deletedShare: 0.2, everySeconds: 0, memoryMb: 4_096, enabled: true },
} as const;

/** What holds of one collection once everything is said; `everySeconds` 0: never by time alone. */
export interface EffectiveTuning {
  readonly recallTarget: number;
  readonly recallAt: number;
  readonly recallSampleEvery: number;
  readonly exactBelowRows: number;
  readonly keepVersions: number;
  readonly loadedVersions: number;
  readonly searchTimeoutMs: number;
  readonly fold: Required<CollectionFoldConfig>;
}

/** The collection's own word, else that of `defaults`, else the default. A collection that the file does not name has the defaults. */
export function tuningOf(config: VectorsConfig, collection: string): EffectiveTuning {
  const own: CollectionTuning = config.collections?.[collection] ?? {};
  const common = config.defaults ?? {};
  const { fold, recallTarget, recallAt, recallSampleEvery, exactBelowRows, keepVersions, loadedVersions, searchTimeoutMs } = vectorDefaults;
  return {
    recallTarget: own.recallTarget ?? common.recallTarget ?? recallTarget,
    recallAt: own.recallAt ?? common.recallAt ?? recallAt,
    recallSampleEvery: own.recallSampleEvery ?? common.recallSampleEvery ?? recallSampleEvery,
    exactBelowRows: own.exactBelowRows ?? common.exactBelowRows ?? exactBelowRows,
    keepVersions: own.keepVersions ?? common.keepVersions ?? keepVersions,
    loadedVersions: own.loadedVersions ?? common.loadedVersions ?? loadedVersions,
    searchTimeoutMs: own.searchTimeoutMs ?? common.searchTimeoutMs ?? searchTimeoutMs,
    fold: { ...fold, ...common.fold, ...own.fold },
  };
}

/** What the schema cannot say of the section. Throws `invalid` and names the field. */
export function checkVectors(config: VectorsConfig): VectorsConfig {
  const { collections = {}, defaults = {} } = config;
  const refuse = (field: string, what: string, todo: string): never => {
    throw new MillraceError("invalid", `vectors.${field} ${what}`, { todo });
  };
  const checkFold = (at: string, fold: CollectionFoldConfig | undefined): void => {
    const { tailRows = vectorDefaults.fold.tailRows, tailRowsMin } = { ...defaults.fold, ...fold };
    if (tailRowsMin !== undefined && tailRowsMin > tailRows) {
      refuse(`${at}.tailRowsMin`, `is ${tailRowsMin}, more than tailRows (${tailRows})`, "give at most tailRows");
    }
  };
  checkFold("defaults.fold", undefined);
  for (const [name, { fold }] of Object.entries(collections)) {
    if (name.startsWith(reservedCollectionPrefix)) {
      refuse(`collections.${name}`, `begins with ${reservedCollectionPrefix}, which is for what the server shows itself`, "choose another name");
    }
    checkFold(`collections.${name}.fold`, fold);
  }
  for (const [name, task] of Object.entries(config.tasks ?? {})) checkVectorTask(name, task);
  return config;
}
