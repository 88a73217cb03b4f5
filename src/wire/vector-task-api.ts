// What HTTP, commands and the console say of the tasks of the vector builder: plain JSON. Routes: src/gateway/vector-tasks-http.ts.
//   GET  /v1/vector-tasks                    VectorTasksAnswer
//   POST /v1/vector-tasks                    VectorTaskCreate -> VectorTaskDetail
//   GET  /v1/vector-tasks/NAME               VectorTaskDetail
//   POST /v1/vector-tasks/NAME/change        VectorTaskChange -> VectorTaskDetail       `conflict` when it was changed meanwhile
//   POST /v1/vector-tasks/NAME/run           -> VectorTaskAsked                         a build begins as soon as a builder is free
//   POST /v1/vector-tasks/NAME/finished      -> VectorTaskAsked                         the same by an outside job; the task must allow it (schedule.webhook)
//   POST /v1/vector-tasks/NAME/live          VectorTaskLive -> VectorTaskLiveAnswer
//   POST /v1/vector-tasks/NAME/rollback      VectorTaskRollback -> VectorTaskLiveAnswer
//   POST /v1/vector-tasks/NAME/enable, /disable, /remove    -> VectorTaskDetail
// Apart from what makes them, so that a client need not load it.

import type { VectorTaskConfig } from "./vector-task-config.ts";

/** Where a task comes from: the configuration file is read again at each start, and what it says then holds. */
export type VectorTaskOrigin = "config" | "made";

export type VectorTaskAction = "create" | "change" | "enable" | "disable" | "remove" | "run" | "live" | "rollback" | "refused" | "failed";

/** Who changed what, when; also what the builder did by itself and an operator must see. */
export interface VectorTaskAudit {
  /** Of the task, from 1, without gaps. */
  readonly seq: number;
  readonly atMs: number;
  /** A user of the configuration's `access`, `config`, `command line`, or a builder. */
  readonly who: string;
  readonly action: VectorTaskAction;
  /** Of the configuration (create, change), or of the collection (live, rollback, refused). */
  readonly version?: string;
  /** What was live before, or why it was refused. */
  readonly note?: string;
}

/** What a task was told, now or before. */
export interface VectorTaskEdition {
  /** From 1; `change` names the one it was made from. */
  readonly edition: number;
  readonly atMs: number;
  readonly who: string;
  readonly config: VectorTaskConfig;
  /** It came over HTTP: it reads the folders alone from which the server imports (storage.importFolders), and runs no module. */
  readonly restricted?: true;
}

export type VectorTaskTrigger = "asked" | "webhook" | "marker" | "schedule";

export type VectorBuildVerdict =
  /** The version is live, or was until a later one came. */
  | "live"
  /** Published; waits to be put live, because the task says so or a later one is live. */
  | "staged"
  /** Its checks refused it; kept, with reasons. */
  | "refused"
  /** No version came of it. */
  | "failed";

/** One build as it ended. */
export interface VectorBuildRecord {
  readonly startedAtMs: number;
  readonly tookMs: number;
  readonly trigger: VectorTaskTrigger;
  /** Which builder did it. */
  readonly builder: string;
  readonly edition: number;
  readonly verdict: VectorBuildVerdict;
  /** Of a version that was refused, or a build that failed. */
  readonly reasons: readonly string[];
  readonly version?: string;
  readonly rows?: number;
  readonly bytes?: number;
  readonly refusedRows?: number;
  readonly replacedRows?: number;
  /** User and system time of the process that built. */
  readonly cpuMs?: number;
  readonly rssBytesPeak?: number;
  /** Wall and CPU time by stage: read, index, tune, validate, publish. */
  readonly stages?: Readonly<Record<string, { readonly ms: number; readonly cpuMs: number }>>;
  /** Of held-out queries against exact search. */
  readonly recall?: number;
  readonly searchP50Ms?: number;
  readonly searchP99Ms?: number;
  /** Rows compared a query by the tuned settings, per row of the version. */
  readonly comparedShare?: number;
  /** The tuned settings: lists, probes, candidates, ... */
  readonly settings?: Readonly<Record<string, number>>;
}

/** A build under way. */
export interface VectorBuildRunning {
  readonly builder: string;
  readonly trigger: VectorTaskTrigger;
  readonly sinceMs: number;
  /** `start`, then read, index, tune, validate, publish. */
  readonly stage: string;
  readonly rows: number;
  /** 0 to 1 of the stage. */
  readonly share?: number;
}

export interface VectorTaskOverview {
  readonly name: string;
  readonly collection: string;
  readonly origin: VectorTaskOrigin;
  readonly enabled: boolean;
  readonly edition: number;
  readonly config: VectorTaskConfig;
  /** A build waits for a builder. */
  readonly asked: boolean;
  readonly running: VectorBuildRunning | null;
  readonly last: VectorBuildRecord | null;
  /** The live version of the collection, whoever made it. */
  readonly live: string | null;
  /** When it is due by its schedule. */
  readonly nextAtMs: number | null;
}

export interface VectorBuilderOverview {
  readonly builder: string;
  readonly sinceMs: number;
  readonly slots: number;
  readonly running: readonly string[];
}

/** `GET /v1/vector-tasks`. */
export interface VectorTasksAnswer {
  readonly nowMs: number;
  readonly tasks: readonly VectorTaskOverview[];
  /** None: nothing will be built until one is started. */
  readonly builders: readonly VectorBuilderOverview[];
}

export interface VectorTaskVersion {
  readonly version: string;
  /** `staged` waits to be put live; `withdrawn` was live and was rolled back from; `backup` was live before the live one. */
  readonly state: "live" | "backup" | "staged" | "withdrawn" | "refused" | "building";
  readonly createdAtMs: number | null;
  readonly rows: number | null;
  readonly bytes: number | null;
  readonly statistics: Readonly<Record<string, number>>;
  readonly reasons: readonly string[];
  /** Servers that have loaded it. */
  readonly usedBy: readonly string[];
}

/** `GET /v1/vector-tasks/NAME`, and the answer of every change. */
export interface VectorTaskDetail extends VectorTaskOverview {
  readonly nowMs: number;
  /** Of the collection, latest first. */
  readonly versions: readonly VectorTaskVersion[];
  /** Latest first. */
  readonly history: readonly VectorBuildRecord[];
  readonly audit: readonly VectorTaskAudit[];
  /** Before the one that holds, latest first. */
  readonly editions: readonly VectorTaskEdition[];
}

export interface VectorTaskCreate {
  readonly name: string;
  readonly config: VectorTaskConfig;
}

export interface VectorTaskChange {
  /** The edition that was looked at: another one now is a `conflict`. */
  readonly edition: number;
  readonly config: VectorTaskConfig;
}

export interface VectorTaskLive {
  /** A version, or the beginning of one. */
  readonly version: string;
  /** Although its checks refused it. */
  readonly refusedToo?: boolean;
}

export interface VectorTaskRollback {
  /** Default: the one that was live before. */
  readonly version?: string;
}

export interface VectorTaskLiveAnswer {
  readonly collection: string;
  readonly live: string;
  readonly before: string | null;
}

export interface VectorTaskAsked {
  readonly task: string;
  readonly atMs: number;
  /** False: nobody has started a builder. */
  readonly builders: boolean;
}
