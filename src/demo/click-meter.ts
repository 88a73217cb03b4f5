// Click rates and latencies over sliding windows of whole seconds.
// Invariants: 1. a window holds the last `n` complete seconds and the running one  2. memory is bounded: one bucket a second, latencies of ten seconds.

import type { ClickRates } from "./audience-report.ts";

const windowSeconds = 60;
const latencySeconds = 10;
/** Latencies kept of one second; more are counted in the rates but not in the quantiles. */
const latenciesPerSecondMax = 2_000;

const fields = ["views", "shown", "clicked", "judgedShown", "expected", "random", "popular", "oracle"] as const;
type Bucket = Record<(typeof fields)[number], number>;

function emptyBucket(): Bucket {
  return { views: 0, shown: 0, clicked: 0, judgedShown: 0, expected: 0, random: 0, popular: 0, oracle: 0 };
}

/** Expected clicks of one page view under the world's yardsticks. */
export interface JudgedView {
  readonly expected: number;
  readonly random: number;
  readonly popular: number;
  readonly oracle: number;
}

export class ClickMeter {
  #buckets: Bucket[] = [emptyBucket()];
  #latencies: number[][] = [[]];

  /** Begins a new second. */
  turn(): void {
    this.#buckets.push(emptyBucket());
    if (this.#buckets.length > windowSeconds) this.#buckets.shift();
    this.#latencies.push([]);
    if (this.#latencies.length > latencySeconds) this.#latencies.shift();
  }

  view(shown: number, clicked: number, judged: JudgedView | undefined): void {
    const bucket = this.#buckets.at(-1)!;
    bucket.views += 1;
    bucket.shown += shown;
    bucket.clicked += clicked;
    if (judged === undefined) return;
    bucket.judgedShown += shown;
    bucket.expected += judged.expected;
    bucket.random += judged.random;
    bucket.popular += judged.popular;
    bucket.oracle += judged.oracle;
  }

  /** Clicks on a list that was counted as shown before. */
  lateClicks(clicked: number): void {
    this.#buckets.at(-1)!.clicked += clicked;
  }

  latency(ms: number): void {
    const latest = this.#latencies.at(-1)!;
    if (latest.length < latenciesPerSecondMax) latest.push(ms);
  }

  /** `undefined` while nothing was shown. */
  rates(): ClickRates | undefined {
    const sum = emptyBucket();
    for (const bucket of this.#buckets) for (const field of fields) sum[field] += bucket[field];
    if (sum.shown === 0) return undefined;
    const per = (clicks: number): number => (sum.judgedShown === 0 ? 0 : clicks / sum.judgedShown);
    return {
      views: sum.views,
      shown: sum.shown,
      clicked: sum.clicked / sum.shown,
      expected: per(sum.expected),
      random: per(sum.random),
      popular: per(sum.popular),
      oracle: per(sum.oracle),
    };
  }

  /** The latency that `part` (0..1) of the last ten seconds' requests did not exceed; 0 when there was none. */
  quantileMs(part: number): number {
    const sorted = Float64Array.from(this.#latencies.flat()).sort();
    return sorted.length === 0 ? 0 : sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!;
  }
}
