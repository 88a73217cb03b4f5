// What is counted of a scorer, for /metrics and the console.
// Times are in microseconds. Concurrency: written and read by the thread that calls the scorer.

import { Histogram } from "#base/histogram";

export type RankingRequestKind = "score" | "search" | "similar";
export const rankingRequestKinds: readonly RankingRequestKind[] = ["score", "search", "similar"];

export class RankingMetrics {
  /** Calls, refused ones too. */
  readonly requests: Record<RankingRequestKind, number> = { score: 0, search: 0, similar: 0 };
  /** Calls whose deadline passed. */
  timeouts = 0;
  /** Calls refused because no slot was free. */
  overloads = 0;
  /** Calls rejected because the ranker was not there, or died meanwhile. */
  unavailable = 0;
  /** Times the ranker was started again after it died or hung. */
  restarts = 0;
  /** Requests under way now. */
  underWay = 0;
  /** True while the ranker answers. */
  ready = false;
  /** Round trip less computation: in line, both wake-ups, pieces of other requests between its own. */
  readonly waitUs = new Histogram();
  /** Time the ranker spent on the request itself. */
  readonly computeUs = new Histogram();
  /** From the call to its answer; only of answered calls. */
  readonly roundTripUs = new Histogram();
  /** Candidates of one `score`. */
  readonly rows = new Histogram();
  /** Requests taken at one wake-up. */
  readonly batch = new Histogram();
}
