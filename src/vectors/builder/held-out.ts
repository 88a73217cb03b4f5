// Queries that a version is tuned and validated by: rows held out of it, with what exact search finds for them.
// Why rows are taken out of the loaded segment (`kill`) and not left out of the build: the build is then that of the version as it is served, and a query still never finds itself.
// Invariants: 1. the same rows and seed give the same queries  2. truth is of the rows that are alive after all queries were taken out.
// Cost: exact search of every query, in batches that read the rows once for many: `comparisonsMax` rows compared at most.

import { Prng } from "#base/prng";
import { createTopK } from "#kernel/dot-top-k";
import { exactSearchBatch, normalise } from "#kernel/vector-rows";
import type { VectorSegment } from "../segment/vector-segment.ts";
import type { GatheredRows } from "./gathered-rows.ts";
import type { QuerySet } from "./tuner.ts";

export const heldOutLimits = {
  queriesMax: 2_000,
  queriesMin: 64,
  /** Of the rows at most so many are held out. */
  share: 0.1,
  /** Queries times rows. */
  comparisonsMax: 1.2e9,
  batch: 32,
} as const;

/** How many queries a version of so many rows is judged by. */
export function heldOutCount(rows: number): number {
  const { queriesMax, queriesMin, share, comparisonsMax } = heldOutLimits;
  const byWork = Math.max(queriesMin, Math.floor(comparisonsMax / Math.max(1, rows)));
  return Math.max(Math.min(1, rows), Math.min(queriesMax, byWork, Math.floor(rows * share)));
}

/** Rows of the segment as queries, taken out of it. Of few rows a query may be held out of nothing: then it is a row that stays. */
export function takeHeldOut(segment: VectorSegment, rows: GatheredRows, seed: number): Float32Array {
  const { dims, count } = rows;
  const wanted = heldOutCount(count);
  const random = new Prng(seed).fork("held out");
  const chosen = new Set<number>();
  while (chosen.size < wanted) chosen.add(random.below(count));
  const queries = new Float32Array(wanted * dims);
  let at = 0;
  for (const row of chosen) {
    queries.set(rows.vectors.subarray(row * dims, (row + 1) * dims), at);
    at += dims;
    const slot = segment.slotOf(rows.idOf(row));
    if (slot !== undefined && count > 2) segment.kill(slot);
  }
  if (segment.shape.metric === "cosine") normalise(queries, dims);
  return queries;
}

/** The exact answers of queries (normalised where the metric wants it). `yield_` is called between batches. */
export async function truthOf(segment: VectorSegment, queries: Float32Array, at: number, yield_: (share: number) => Promise<void>): Promise<QuerySet> {
  const { dims } = segment.shape;
  const count = queries.length / dims;
  const truth = new Uint32Array(count * at);
  const found = new Uint32Array(count);
  const { batch } = heldOutLimits;
  const into = Array.from({ length: batch }, () => createTopK(at));
  for (let from = 0; from < count; from += batch) {
    const to = Math.min(count, from + batch);
    exactSearchBatch(segment.block, queries.subarray(from * dims, to * dims), at, into.slice(0, to - from));
    for (let q = from; q < to; q++) {
      const { size, rows } = into[q - from]!;
      found[q] = size;
      truth.set(rows.subarray(0, size), q * at);
    }
    await yield_(to / count);
  }
  return { vectors: queries, count, dims, truth, found, at };
}

/** Every third query is kept for validation, the others tune. */
export function splitQueries(all: QuerySet): { readonly tuning: QuerySet; readonly validation: QuerySet } {
  const pick = (wants: (q: number) => boolean): QuerySet => {
    const chosen = Array.from({ length: all.count }, (_, q) => q).filter(wants);
    const { dims, at } = all;
    const vectors = new Float32Array(chosen.length * dims);
    const truth = new Uint32Array(chosen.length * at);
    chosen.forEach((q, i) => {
      vectors.set(all.vectors.subarray(q * dims, (q + 1) * dims), i * dims);
      truth.set(all.truth.subarray(q * at, (q + 1) * at), i * at);
    });
    return { vectors, count: chosen.length, dims, truth, found: Uint32Array.from(chosen, (q) => all.found[q]!), at };
  };
  if (all.count < 6) return { tuning: all, validation: all };
  return { tuning: pick((q) => q % 3 !== 2), validation: pick((q) => q % 3 === 2) };
}
