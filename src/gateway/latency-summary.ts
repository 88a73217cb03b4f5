// A histogram of microseconds as the summary in milliseconds that status, page and stream show.

import type { Histogram } from "#base/histogram";
import type { LatencySummary } from "./gateway.ts";

/** Zeros when nothing was recorded. */
export function summaryOf(times: Histogram): LatencySummary {
  if (times.count === 0) return { count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 };
  return { count: times.count, p50Ms: times.quantile(0.5) / 1_000, p99Ms: times.quantile(0.99) / 1_000, maxMs: times.max / 1_000 };
}
