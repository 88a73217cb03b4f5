// What the gateway does, as an interface: the HTTP server, in-process callers (replay) and tests speak to this.
// Invariant: every failure is a MillraceError; a row that is refused is in `rejected`, it does not fail its batch.

import type { ErrorCode } from "#base/errors";
import type { RankingMetrics } from "#ranking/ranking-metrics";
import type { QualityAnswer, ScoreAnswer, ScoreBody, SimilarAnswer, SimilarBody, TrainingStatus, WayStep } from "#wire/live-api";
import type { Need } from "#wire/parameter-api";
import type { EventsAnswer, ItemBody, ItemRow, PipelineGraph, PutAnswer, RecommendAnswer, RecommendBody, UserBody, UserRow } from "#wire/api";

export interface Readiness {
  readonly ready: boolean;
  /** What it waits for, in words with numbers, e.g. `rebuilding from the log: 120,000 of 400,000 records`. */
  readonly waiting: readonly string[];
  /** What somebody must do; absent when it comes by itself. */
  readonly todo?: string;
  /** As the refused requests say it; absent: `unavailable`. */
  readonly code?: ErrorCode;
}

/** Something without which the server is not ready: in words alone when it comes by waiting, else with what somebody must do. */
export type Waited = string | { readonly what: string; readonly needs: Need };

export interface Gateway {
  /** Validates each event, drops known ids, appends the rest to the log, counts them, then answers. */
  putEvents(events: readonly unknown[]): Promise<EventsAnswer>;
  putItems(rows: readonly unknown[]): Promise<PutAnswer>;
  /** Merges into the stored item; `not-found` when there is none. */
  patchItem(id: string, body: ItemBody): Promise<PutAnswer>;
  getItem(id: string): ItemRow | undefined;
  /** Items in the order of their first appearance after `after`. */
  listItems(page: { after?: string; limit: number }): ItemRow[];
  /** False when there was none. */
  deleteItem(id: string): Promise<boolean>;
  putUsers(rows: readonly unknown[]): Promise<PutAnswer>;
  patchUser(id: string, body: UserBody): Promise<PutAnswer>;
  getUser(id: string): UserRow | undefined;
  deleteUser(id: string): Promise<boolean>;
  /** `not-found` for an unknown pipeline. Never an empty answer while one item is available and passes the filter. */
  recommend(pipeline: string, body: RecommendBody): Promise<RecommendAnswer>;
  pipelines(): readonly PipelineGraph[];
  /** Items whose live vectors point the same way; `not-found` for an unknown item, or without a model. */
  similar(body: SimilarBody): Promise<SimilarAnswer>;
  /** What the model thinks now of an item that an answer showed, by the features that were logged then; `not-found` when the answer is not remembered. */
  score(body: ScoreBody): ScoreAnswer;
  /** Undefined without a model. */
  training(): TrainingStatus | undefined;
  /** What is counted of the scorer; undefined without a model. */
  ranking(): RankingMetrics | undefined;
  /** Switches learning on or off, by a record of the log; resolves when the trainer has read it, with its state. */
  switchTraining(on: boolean): Promise<TrainingStatus>;
  quality(minutes: number): QualityAnswer;
  /** Tells each stage of the user's events from now on; the answer ends it. */
  watch(user: string, tell: (step: WayStep) => void): () => void;
  readiness(): Readiness;
  /** Numbers for the page and the metrics, read at the moment of the call. */
  status(): GatewayStatus;
}

/** A latency summary in milliseconds since start (or since the window that the field's name says). */
export interface LatencySummary {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface GatewayStatus {
  readonly version: string;
  readonly startedAtMs: number;
  readonly nowMs: number;
  readonly durability: string;
  readonly items: number;
  readonly users: number;
  /** Accepted events since start, and those rebuilt from the log. */
  readonly eventsAccepted: number;
  readonly eventsRebuilt: number;
  readonly eventsDuplicate: number;
  readonly eventsRejected: number;
  readonly eventsJoined: number;
  readonly recommendations: number;
  readonly fallbacks: number;
  readonly degraded: number;
  readonly logOffset: number;
  readonly recommend: LatencySummary;
  /** From the receipt of an event to the moment after which every answer counts it. */
  readonly eventToFeature: LatencySummary;
  /** Bytes by owner (aggregations, catalogue, dedupe, exposures, ...). */
  readonly memoryBytes: Readonly<Record<string, number>>;
  readonly pipelines: readonly string[];
}
