// The last quarter of an hour in seconds: rates and latencies of each second, kept for a page that is opened now and told to those who watch.
// Why here and not in the metrics: a scrape sees sums since the start; a person wants to see what happened in the second after a click.
// Invariants: 1. a second is told once, after it has passed, to all watchers  2. nothing is counted twice or lost between two seconds: rates are differences
// of counters, latencies come from histograms that are swapped  3. a watcher that throws is dropped, the others are told.
// Cost: about 0.2 ms a second, most of it the sums of status; 900 seconds about 0.6 MB.
// Limits: `secondsMax` seconds.

import { Histogram } from "#base/histogram";
import type { Clock, Timer } from "#platform/clock";
import type { StatusAnswer } from "#wire/api";
import type { LiveSecond, TrainingStatus } from "#wire/live-api";
import type { LatencySummary } from "./gateway.ts";
import { summaryOf } from "./latency-summary.ts";

export const secondsMax = 900;

/** Latencies of the running second, in microseconds; `take` gives their summary and begins the next. */
export class SecondLatency {
  readonly #now = new Histogram();

  record(milliseconds: number): void {
    this.#now.record(milliseconds * 1_000);
  }

  take(): LatencySummary {
    const summary = summaryOf(this.#now);
    if (summary.count > 0) this.#now.reset();
    return summary;
  }
}

/** What is recorded as it happens, by whoever measures it. */
export class SecondLatencies {
  readonly recommend = new SecondLatency();
  readonly eventToFeature = new SecondLatency();
  readonly eventToParameter = new SecondLatency();
  readonly eventToVector = new SecondLatency();
  /** Items shown by recorded answers, and how many of such were clicked, since the start. */
  shown = 0;
  clicked = 0;
}

export interface LiveSecondsOptions {
  readonly clock: Clock;
  readonly latencies: SecondLatencies;
  readonly status: () => StatusAnswer;
  readonly training: () => TrainingStatus | undefined;
}

interface Counters {
  readonly requests: number;
  readonly refused: number;
  readonly recommendations: number;
  readonly fallbacks: number;
  readonly events: number;
  readonly clicked: number;
  readonly shown: number;
}

export class LiveSeconds {
  readonly #options: LiveSecondsOptions;
  readonly #seconds: LiveSecond[] = [];
  readonly #watchers = new Set<(second: LiveSecond) => void>();
  #before: Counters | undefined;
  #beganMs = 0;
  #timer: Timer | undefined;

  constructor(options: LiveSecondsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#beganMs = this.#options.clock.monotonicMs();
    this.#next();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#watchers.clear();
  }

  /** Oldest first. */
  get seconds(): readonly LiveSecond[] {
    return this.#seconds;
  }

  /** Tells each second from now on; the answer ends it. */
  watch(tell: (second: LiveSecond) => void): () => void {
    this.#watchers.add(tell);
    return () => this.#watchers.delete(tell);
  }

  #next(): void {
    this.#timer = this.#options.clock.after(
      1_000,
      () => {
        this.#close();
        this.#next();
      },
      { background: true },
    );
  }

  #close(): void {
    const { clock, latencies, status: statusOf, training: trainingOf } = this.#options;
    const endMs = clock.monotonicMs();
    const perS = 1_000 / Math.max(1, endMs - this.#beganMs);
    this.#beganMs = endMs;
    const status = statusOf();
    const counters: Counters = {
      requests: status.http.requests,
      refused: status.http.refused,
      recommendations: status.recommendations,
      fallbacks: status.fallbacks,
      events: status.eventsAccepted,
      clicked: latencies.clicked,
      shown: latencies.shown,
    };
    const before = this.#before ?? counters;
    this.#before = counters;
    const rate = (name: keyof Counters): number => Math.max(0, counters[name] - before[name]) * perS;
    const training = trainingOf();
    const parameter = latencies.eventToParameter.take();
    const vector = latencies.eventToVector.take();
    const shown = counters.shown - before.shown;
    const second: LiveSecond = {
      atMs: clock.nowMs(),
      requestsPerS: rate("requests"),
      recommendationsPerS: rate("recommendations"),
      eventsPerS: rate("events"),
      errorsPerS: rate("refused"),
      fallbacksPerS: rate("fallbacks"),
      recommend: latencies.recommend.take(),
      eventToFeature: latencies.eventToFeature.take(),
      ...(parameter.count === 0 ? {} : { eventToParameter: parameter }),
      ...(vector.count === 0 ? {} : { eventToVector: vector }),
      loopStallMaxMs: status.loopStallSecondsMs?.at(-1) ?? 0,
      memoryBytes: Object.values(status.memoryBytes).reduce((sum, bytes) => sum + bytes, 0),
      ...(shown === 0 ? {} : { clickRate: (counters.clicked - before.clicked) / shown }),
      ...(training === undefined ? {} : { training }),
    };
    this.#seconds.push(second);
    if (this.#seconds.length > secondsMax) this.#seconds.shift();
    for (const tell of this.#watchers) {
      try {
        tell(second);
      } catch {
        this.#watchers.delete(tell);
      }
    }
  }
}
