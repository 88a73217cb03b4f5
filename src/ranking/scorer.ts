// Scorer: what the serving loop asks of the model: logits of candidates, the nearest items of a user, the items like an item.
// Two of them hold one contract (scorer.contract.ts): `inlineScorer` computes where it is called (replay, tests, benches), `workerScorer` in a thread of its own.
//
// Invariants: 1. a call settles by its deadline, with its answer or with one of `timeout`, `overloaded`, `unavailable`: the caller then goes on without a model
// 2. arrays of the caller are written before the promise resolves and never after it settled: a late answer is dropped
// 3. slots and queries given in may be reused by the caller as soon as the call returned its promise
// 4. `search` and `similar` never name an item whose vector is hidden.
// Limits: `scorerLimits`; more is `invalid`, since the caller can see it beforehand.

import { MillraceError } from "#base/errors";
import type { SlotRows } from "#extract/slot-rows";
import type { RankingMetrics, RankingRequestKind } from "./ranking-metrics.ts";

export interface Scorer {
  /** Logits of `items.rows` candidates for the one row of `user`, into `logits`. `deadlineMs`: milliseconds from now. */
  score(user: SlotRows, items: SlotRows, logits: Float32Array, deadlineMs: number): Promise<void>;
  /**
   * The k items with the largest logits for the user, best first, by exact search over the live vectors: handles into `items`, logits into `scores` (k values each).
   * Resolves to how many there are.
   */
  search(user: SlotRows, k: number, items: Uint32Array, scores: Float32Array, deadlineMs: number): Promise<number>;
  /** The k items with the largest cosine of the factor part to that of `item`, itself left out. 0 for an item without a vector. */
  similar(item: number, k: number, items: Uint32Array, scores: Float32Array, deadlineMs: number): Promise<number>;
  readonly metrics: RankingMetrics;
  /** Rejects what is under way with `unavailable`; later calls are rejected too. */
  close(): Promise<void>;
}

export const scorerLimits = {
  /** Answers of one search. */
  answersMax: 1_000,
  /** Candidates of one `score`: what a pipeline may hold (candidatesMax of src/pipeline/limits.ts). */
  rowsMax: 5_000,
  /** Bytes of one request with its answer, slots at 12 bytes: 5,000 candidates of 50 slots are 3 MB, 400 are 0.25 MB. */
  requestBytesMaxDefault: 4 << 20,
  /** Requests under way. */
  requestsMaxDefault: 32,
  deadlineMsMax: 60_000,
} as const;

/** Throws `invalid` for candidates beyond the limit or the caller's array. */
export function checkScore(user: SlotRows, items: SlotRows, logits: Float32Array): void {
  if (user.rows !== 1) throw new MillraceError("invalid", `${user.rows} rows of a user to rank for`, { todo: "give one" });
  if (items.rows > scorerLimits.rowsMax) {
    throw new MillraceError("invalid", `${items.rows} candidates to rank`, { todo: `give at most ${scorerLimits.rowsMax} at once` });
  }
  if (logits.length < items.rows)
    throw new MillraceError("invalid", `${items.rows} logits into ${logits.length} places`, { todo: "give an array of a value each" });
}

/** Throws `invalid` for a number of answers beyond the limit or the caller's arrays. */
export function checkAnswers(k: number, items: Uint32Array, scores: Float32Array): void {
  if (!Number.isInteger(k) || k < 1 || k > scorerLimits.answersMax) {
    throw new MillraceError("invalid", `a search for ${k} items`, { todo: `ask for 1 to ${scorerLimits.answersMax}` });
  }
  if (items.length < k || scores.length < k) {
    throw new MillraceError("invalid", `${k} answers into ${Math.min(items.length, scores.length)} places`, { todo: "give arrays of k values" });
  }
}

export function deadlinePassed(kind: RankingRequestKind, deadlineMs: number): MillraceError {
  return new MillraceError("timeout", `no answer of the ranker to ${kind} within ${deadlineMs} ms`, { todo: "go on without the model, or allow more time" });
}

export function rankerClosed(): MillraceError {
  return new MillraceError("unavailable", "the ranker is closed", { todo: "go on without the model" });
}
