// What HTTP, CLI and console say of the models on a parameter server: their versions, quotas and changes. Plain JSON; the tables stand in parameter-api.ts.
// Apart from what makes them (src/params/catalogue), so that a client need not load it.

import type { ParametersStatus } from "./parameter-api.ts";

/** `retiring`: nobody may begin with it any more, and it goes when the last request that uses it has ended. */
export type ModelVersionState = "live" | "backup" | "staged" | "retiring";

export interface ModelVersionOverview {
  readonly version: string;
  readonly state: ModelVersionState;
  /** Role -> table. */
  readonly tables: Readonly<Record<string, string>>;
  /** "" = none. */
  readonly extractor: string;
  readonly registeredAtMs: number;
  /** Requests of the node that answers that use it now. */
  readonly inUse: number;
}

export interface ModelOverview {
  readonly model: string;
  readonly live: string | null;
  readonly liveSinceMs: number | null;
  /** What a roll-back would put live. */
  readonly before: string | null;
  /** The live one first. */
  readonly versions: readonly ModelVersionOverview[];
}

export type AuditAction = "register" | "live" | "rollback" | "retire" | "removed" | "create-table" | "drop-table";

/** Who changed what, when. */
export interface AuditEntry {
  /** From 1, without gaps. */
  readonly seq: number;
  readonly atMs: number;
  /** A user of the configuration's `access`, `config`, `command line`, or a node's name. */
  readonly who: string;
  readonly action: AuditAction;
  /** A model, or a table. */
  readonly name: string;
  /** Of the model; absent for tables. */
  readonly version?: string;
  /** What was live before. */
  readonly before?: string;
}

export interface ModelQuota {
  /** Of all tables of the model together. */
  readonly rows?: number;
  readonly bytesMb?: number;
  readonly pulledRowsPerS?: number;
  readonly pushedRowsPerS?: number;
  /** Pulls, pushes and deletes together. */
  readonly requestsPerS?: number;
}

export type QuotaName = keyof ModelQuota;

/** How a model stands to its quotas, since the start. */
export interface QuotaState {
  readonly model: string;
  readonly quota: ModelQuota;
  readonly requests: number;
  readonly pulledRows: number;
  readonly pushedRows: number;
  /** Requests refused, by quota. */
  readonly refused: Readonly<Record<QuotaName, number>>;
}

/** `GET /v1/parameters`. */
export interface ParametersAnswer extends ParametersStatus {
  readonly nowMs: number;
  readonly models: readonly ModelOverview[];
  /** Of models that have one. */
  readonly quotas: readonly QuotaState[];
}
