// What is asked of a build, what it needs, and what comes of it: the contract of `buildVersion` (build-version.ts), which tasks and folds call.
//   rows -> segment -> (attribute columns) -> tuned settings -> validated -> published with SnapshotStore (kind `vectors`, name = collection)
// Invariants: 1. nothing is served of a build that did not end: a version enters the head after its manifest, the manifest after its files
//             2. `deltaOffset` was read before the first row was, so that every write acknowledged since then is in the collection's log behind it
//             3. a version whose checks fail is kept as refused, with reasons, and is not live.

import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { Workers } from "#platform/workers";
import type { SnapshotStore } from "#snapshot/snapshot-store";
import type { StatisticCheck } from "#snapshot/statistic-checks";
import type { SearchSettings } from "../segment/search-settings.ts";
import type { VectorMetric } from "../vector-service.ts";

export const vectorsKind = "vectors";

export interface VersionConfig {
  readonly collection: string;
  readonly metric: VectorMetric;
  /** recall@`recallAt` against exact search that the settings must reach. Default 0.99. */
  readonly recallTarget?: number;
  /** Default 20. */
  readonly recallAt?: number;
  /** Lists of the index; left out: chosen by the tuner. 1: exact search. */
  readonly lists?: number;
  /** Queries to tune and validate by, row-major, for collections that are searched by other vectors than their own (users for items). Default: rows held out. */
  readonly queries?: Float32Array;
  /** The task's own checks, beside those that every version must pass (validation.ts). */
  readonly checks?: readonly StatisticCheck[];
  /** Offset of the collection's delta log before the first row was read; writes from there on are newer than these rows. */
  readonly deltaOffset: number;
  /** Which log that is: the id of the collection's record (collection-record.ts). Left out: that of whichever collection of this name serves the version. */
  readonly deltaLog?: number;
  /** `search` of the version before: tried first, kept when it still meets the target (a fold does this). */
  readonly settings?: SearchSettings;
  /** Lists of the version before: rows are given to them, and none are looked for, while that does as well (build-version.ts). A fold does this. */
  readonly trained?: TrainedLists;
  /** False: publish, and leave the live one. Default true. */
  readonly live?: boolean;
  readonly seed?: number;
  /** Most bytes that the rows, the segment and their attributes may take together. Default: 2 GiB. */
  readonly memoryBytes?: number;
}

/** Lists that were found before, with what is needed to tell whether they still do. */
export interface TrainedLists {
  /** As SegmentOptions.centroids. */
  readonly centroids: Float32Array;
  /** Rows that they were found for, and how many of the rows now are others. */
  readonly rows: number;
  readonly changed: number;
  /** Of a search then, by the tuner's weights. */
  readonly costNs: number;
}

export const buildStages = ["read", "index", "tune", "validate", "publish"] as const;
export type BuildStage = (typeof buildStages)[number];

export interface BuildProgress {
  readonly stage: BuildStage;
  readonly rows: number;
  /** 0 to 1 of the stage, when that is known. */
  readonly share?: number;
}

export interface BuildParts {
  readonly snapshots: SnapshotStore;
  readonly files: Files;
  readonly clock: Clock;
  /** For finished files until they are moved into the blobs; emptied before and after. */
  readonly folder: string;
  /** User and system time of this process so far, milliseconds. */
  readonly cpuMs: () => number;
  readonly onProgress?: (progress: BuildProgress) => void;
  readonly signal?: AbortSignal;
  /** Who starts threads, and how many may compute at once, the caller's among them. Default: the caller's alone. What is built is the same. */
  readonly threads?: { readonly workers: Workers; readonly count: number };
}

/** What became of a build: stands in the history of its task. */
export interface BuiltVersion {
  readonly version: string;
  /** `staged`: as asked (`live` false), or because a version that was begun later is live already. `refused`: kept, with `reasons`. */
  readonly outcome: "live" | "staged" | "refused";
  readonly reasons: readonly string[];
  readonly settings: SearchSettings;
  readonly rows: number;
  readonly bytes: number;
  /** Rows left out: no vector, not finite, length 0 under cosine; and rows that a later one of the same id replaced. */
  readonly refused: number;
  readonly replaced: number;
  readonly statistics: Readonly<Record<string, number>>;
  /** Wall and CPU time of each stage. */
  readonly stages: Readonly<Record<BuildStage, { readonly ms: number; readonly cpuMs: number }>>;
}
