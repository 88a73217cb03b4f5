// Whether a version that was built may be served: measured on what was written and loaded again, never on what the build still holds in its arrays.
//   rows      every sampled input row is found by its id, in the slot that has its numbers, and alive; as many rows as went in
//   searches  held-out queries against exact search: recall, latency, success (as many answers as there can be, finite, no slot twice)
//   sense     not all rows are equal
//   drift     rows and lengths of vectors against the live version
// A task may declare further checks of the same statistics (docs/vector-tasks.md); what it declares of a statistic replaces the default below.
// Invariants: 1. a reason names what was measured and what was wanted  2. a version that cannot be loaded is refused with that as its reason.

import { createTopK } from "#kernel/dot-top-k";
import type { Clock } from "#platform/clock";
import type { StatisticCheck } from "#snapshot/statistic-checks";
import type { SearchSettings } from "../segment/search-settings.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import type { GatheredRows } from "./gathered-rows.ts";
import { measure, type QuerySet, type Tried } from "./tuner.ts";

/** Below it an index is taken for broken; between it and the target its settings are widened. */
export const recallLeast = (recallTarget: number): number => recallTarget - Math.max(0.005, (1 - recallTarget) / 2);

/** What every version must satisfy. Chosen: half of the rows gone, lengths doubled or halved are what broken inputs look like. */
export function defaultVersionChecks(recallTarget: number): StatisticCheck[] {
  return [
    { statistic: "rows", min: 1, fallMax: 0.5 },
    // What is above this and below the target was widened until it reached it (build-version.ts); below it an index is broken.
    { statistic: "recall", min: recallLeast(recallTarget) },
    { statistic: "success", min: 0.999 },
    { statistic: "norm.mean", fallMax: 0.5, riseMax: 1, optional: true },
    { statistic: "norm.max", riseMax: 9, optional: true },
    { statistic: "refused", per: "read", max: 0.5, optional: true },
  ];
}

/** The task's checks and those defaults whose statistic it says nothing of. */
export function checksOf(recallTarget: number, declared: readonly StatisticCheck[] = []): StatisticCheck[] {
  const said = new Set(declared.map(({ statistic, per }) => `${statistic}/${per ?? ""}`));
  return [...defaultVersionChecks(recallTarget).filter(({ statistic, per }) => !said.has(`${statistic}/${per ?? ""}`)), ...declared];
}

/** Reasons why the loaded segment is not the rows that went in. Looks at `rowsMax` of them, spread evenly. */
export function rowFaults(segment: VectorSegment, rows: GatheredRows, rowsMax = 2_000): string[] {
  const { dims, count } = rows;
  const reasons: string[] = [];
  if (segment.rows !== count || segment.liveRows !== count) {
    reasons.push(`it has ${segment.rows} rows, ${segment.liveRows} of them alive, and was built of ${count}`);
  }
  if (segment.shape.dims !== dims) return [...reasons, `its rows have ${segment.shape.dims} numbers, those it was built of ${dims}`];
  const { vectors } = rows;
  const stored = new Float32Array(dims);
  const step = Math.max(1, Math.floor(count / rowsMax));
  let [looked, missing, dead, misnamed, other] = [0, 0, 0, 0, 0];
  for (let row = 0; row < count && looked < rowsMax; row += step, looked++) {
    const id = rows.idOf(row);
    const slot = segment.slotOf(id);
    if (slot === undefined) {
      missing++;
      continue;
    }
    if (!segment.isLive(slot)) dead++;
    if (segment.idOf(slot) !== id) misnamed++;
    segment.vectorOf(slot, stored);
    if (!areClose(stored, vectors, row * dims, segment.shape.metric === "cosine")) other++;
  }
  const say = (found: number, what: string): void => {
    if (found > 0) reasons.push(`${found} of ${looked} sampled rows ${what}`);
  };
  say(missing, "are not found by their ids");
  say(dead, "are not alive");
  say(misnamed, "have another id where they lie");
  say(other, "have other numbers than went in");
  return reasons;
}

/** Rows that are looked at for equal ones, spread evenly. */
const distinctRowsMax = 10_000;
/** From so many rows on all equal ones are a broken source. */
const equalRowsMin = 16;

/** How many of the rows, of at most `distinctRowsMax` of them, differ: 1 = no two are equal. Equal hashes count as equal rows: of 10,000 rows some hundred-thousandths of a pair. */
export function distinctShare({ vectors, dims, count }: GatheredRows): number {
  if (count === 0) return 1;
  const looked = Math.min(count, distinctRowsMax);
  const bits = new Uint32Array(vectors.buffer, vectors.byteOffset, count * dims);
  const seen = new Set<number>();
  for (let i = 0; i < looked; i++) {
    const row = Math.floor((i * count) / looked) * dims;
    let hash = 0x811c9dc5;
    for (let j = row; j < row + dims; j++) hash = Math.imul(hash ^ bits[j]!, 0x01000193) ^ (hash >>> 15);
    seen.add(hash);
  }
  return seen.size / looked;
}

/** Why rows cannot be meant, whatever index is made of them; `declared`: the task's own checks, which may say that they can. */
export function sameRowFaults(rows: GatheredRows, declared: readonly StatisticCheck[] = []): string[] {
  if (rows.count < equalRowsMin || declared.some(({ statistic }) => statistic === "distinctShare")) return [];
  const share = distinctShare(rows);
  if (share * Math.min(rows.count, distinctRowsMax) > 1.5) return [];
  return [`all ${rows.count} rows are equal; where that is meant, declare a check of distinctShare`];
}

/** Whether a stored row is a given one, normalised if need be, but for rounding. */
function areClose(stored: Float32Array, vectors: Float32Array, from: number, normalised: boolean): boolean {
  const { length } = stored;
  let squares = 0;
  for (let j = 0; j < length; j++) squares += vectors[from + j]! * vectors[from + j]!;
  const norm = Math.sqrt(squares);
  const scale = normalised && norm > 0 ? 1 / norm : 1;
  const near = 1e-5 * (normalised ? 1 : Math.max(norm, 1e-30));
  for (let j = 0; j < length; j++) if (!(Math.abs(stored[j]! - vectors[from + j]! * scale) <= near)) return false;
  return true;
}

export interface SearchFigures extends Tried {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Share of searches that gave what they must. */
  readonly success: number;
}

/** Recall, work, latency (wall) and success of searches by the settings. */
export function searchFigures(segment: VectorSegment, queries: QuerySet, settings: SearchSettings, clock: Clock): SearchFigures {
  const { dims, at, found } = queries;
  const times = new Float64Array(queries.count);
  const into = createTopK(at);
  const seen = new Set<number>();
  let good = 0;
  for (let q = 0; q < queries.count; q++) {
    const query = queries.vectors.subarray(q * dims, (q + 1) * dims);
    const before = clock.monotonicMs();
    const { size, rows, scores } = segment.search(query, settings, into);
    times[q] = clock.monotonicMs() - before;
    seen.clear();
    let whole = size === Math.min(found[q]!, at);
    for (let i = 0; i < size; i++) {
      seen.add(rows[i]!);
      whole &&= Number.isFinite(scores[i]!) && segment.isLive(rows[i]!);
    }
    if (whole && seen.size === size) good++;
  }
  times.sort();
  const quantile = (part: number): number => times[Math.max(0, Math.ceil(part * times.length) - 1)] ?? 0;
  return { ...measure(segment, queries, settings), p50Ms: quantile(0.5), p99Ms: quantile(0.99), success: queries.count === 0 ? 1 : good / queries.count };
}
