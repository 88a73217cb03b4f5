// What the gateway counts while it works, by the names of docs/metrics.md. Intake, recommend and the observers of the pipeline call this;
// metrics-exposition.ts turns it into text when somebody asks.
// Invariants: 1. a call never throws and never waits  2. label values come from the configuration (types, pipelines, steps, reasons), never
// from the text of a request; `other` stands for what goes beyond the bound of series  3. times are handed in, in milliseconds,
// and kept in microseconds.
// Cost: see metric-families.ts; keep the handles of `pipeline(name)` and `step(name)`.
// Concurrency: one event loop. Limits: `seriesMax` series a family (default 200, 6.9 KiB each where it is a histogram), then `other`.

import { Histogram } from "#base/histogram";
import type { LatencySummary } from "./gateway.ts";
import { summaryOf } from "./latency-summary.ts";
import { SecondLatencies } from "./live-seconds.ts";
import { Counter, Family } from "./metric-families.ts";

/** What became of an event: in the log, known by its id, or refused. A refused one whose type is not configured is counted with type `other`. */
export type EventResult = "accepted" | "duplicate" | "rejected";
/** What became of an event's `recommendationId`: it showed that item, it did not, or it is not remembered (any more). */
export type JoinResult = "joined" | "not-shown" | "unknown";

/** One step of one pipeline as the page and `GET /v1/status` show it. */
export interface StepSummary extends LatencySummary {
  readonly step: string;
  readonly errors: number;
  /** Means per run. */
  readonly rowsIn: number;
  readonly rowsOut: number;
}

export interface PipelineSummary {
  readonly pipeline: string;
  readonly requests: LatencySummary;
  readonly fallbacks: Readonly<Record<string, number>>;
  readonly steps: readonly StepSummary[];
}

/** The handle of one step. */
export class StepMetrics {
  readonly seconds: Histogram;
  readonly rowsIn: Histogram;
  readonly rowsOut: Histogram;
  readonly #errors: (errorClass: string) => Counter;
  #errorCount = 0;

  constructor(seconds: Histogram, rowsIn: Histogram, rowsOut: Histogram, errors: (errorClass: string) => Counter) {
    this.seconds = seconds;
    this.rowsIn = rowsIn;
    this.rowsOut = rowsOut;
    this.#errors = errors;
  }

  /** A run that ended, well or not: its time and its rows. */
  ran(milliseconds: number, rowsIn: number, rowsOut: number): void {
    this.seconds.record(milliseconds * 1_000);
    this.rowsIn.record(rowsIn);
    this.rowsOut.record(rowsOut);
  }

  /** A run that failed; the class is an error code or `timeout`. */
  failed(errorClass: string): void {
    this.#errorCount += 1;
    this.#errors(errorClass).add();
  }

  get errorCount(): number {
    return this.#errorCount;
  }
}

/** The handle of one pipeline. */
export class PipelineMetrics {
  readonly name: string;
  readonly #all: GatewayMetrics;
  readonly #requests: Histogram;
  readonly #short: Counter;
  readonly #empty: Counter;
  readonly #steps = new Map<string, StepMetrics>();
  readonly #fallbacks = new Map<string, Counter>();

  constructor(name: string, all: GatewayMetrics) {
    this.name = name;
    this.#all = all;
    this.#requests = all.requestSeconds.with(name);
    this.#short = all.shortAnswers.with(name);
    this.#empty = all.emptyAnswers.with(name);
  }

  /** An answer that was given: its time, how many items it has and how many were wanted. */
  answered(milliseconds: number, items: number, wanted: number): void {
    this.#requests.record(milliseconds * 1_000);
    this.#all.second.recommend.record(milliseconds);
    if (items === 0) this.#empty.add();
    else if (items < wanted) this.#short.add();
  }

  /** The pipeline's answer was replaced or filled up; `reason` is one of a few words (`error`, `timeout`, `short`, ...). */
  fallback(reason: string): void {
    let counter = this.#fallbacks.get(reason);
    if (counter === undefined) {
      counter = this.#all.fallbacks.with(this.name, reason);
      if (this.#fallbacks.size < 32) this.#fallbacks.set(reason, counter);
    }
    counter.add();
  }

  /** The handle of a step; steps come from the declaration of the pipeline, so there are few. */
  step(step: string): StepMetrics {
    let handle = this.#steps.get(step);
    if (handle === undefined) {
      const all = this.#all;
      handle = new StepMetrics(
        all.stepSeconds.with(this.name, step),
        all.stepRows.with(this.name, step, "in"),
        all.stepRows.with(this.name, step, "out"),
        (errorClass) => all.stepErrors.with(this.name, step, errorClass),
      );
      this.#steps.set(step, handle);
    }
    return handle;
  }

  summary(): PipelineSummary {
    const steps = [...this.#steps].map(([step, handle]) => ({
      step,
      ...summaryOf(handle.seconds),
      errors: handle.errorCount,
      rowsIn: meanOf(handle.rowsIn),
      rowsOut: meanOf(handle.rowsOut),
    }));
    const fallbacks = Object.fromEntries([...this.#fallbacks].map(([reason, counter]) => [reason, counter.value]));
    return { pipeline: this.name, requests: summaryOf(this.#requests), fallbacks, steps };
  }
}

export interface GatewayMetricsOptions {
  /** Most series a family holds; default 200, sensible 50 to 2,000. Memory: 6.9 KiB a series of a histogram. */
  readonly seriesMax?: number;
}

/** One for a server; hand the same one to the gateway and to `createHttpServer`. */
export class GatewayMetrics {
  readonly requestSeconds: Family<Histogram>;
  readonly stepSeconds: Family<Histogram>;
  readonly stepRows: Family<Histogram>;
  readonly stepErrors: Family<Counter>;
  readonly fallbacks: Family<Counter>;
  readonly shortAnswers: Family<Counter>;
  readonly emptyAnswers: Family<Counter>;
  readonly eventCounts: Family<Counter>;
  readonly joinedCounts: Family<Counter>;
  readonly eventToFeatureSeconds: Family<Histogram>;
  readonly eventToParameterSeconds: Family<Histogram>;
  readonly eventToVectorSeconds: Family<Histogram>;
  readonly logAppendSeconds: Family<Histogram>;
  readonly httpRequests: Family<Counter>;
  readonly httpSeconds: Family<Histogram>;
  /** Of the running second. */
  readonly second = new SecondLatencies();
  readonly #pipelines = new Map<string, PipelineMetrics>();
  readonly #eventToFeature: Histogram;
  readonly #logAppend: Histogram;
  readonly #seriesMax: number;

  constructor(options: GatewayMetricsOptions = {}) {
    const seriesMax = options.seriesMax ?? 200;
    this.#seriesMax = seriesMax;
    const counter = (name: string, help: string, labels: string[]): Family<Counter> => new Family(name, help, labels, () => new Counter(), seriesMax);
    const time = (name: string, help: string, labels: string[]): Family<Histogram> => new Family(name, help, labels, () => new Histogram(), seriesMax);
    this.requestSeconds = time("rec_request_seconds", "Time of a recommendation inside the gateway", ["pipeline"]);
    this.stepSeconds = time("rec_step_seconds", "Time of one run of a pipeline step", ["pipeline", "step"]);
    this.stepRows = new Family("rec_step_rows", "Rows that a run of a step got and gave", ["pipeline", "step", "dir"], () => new Histogram(), seriesMax);
    this.stepErrors = counter("rec_step_errors_total", "Runs of a step that failed, by class", ["pipeline", "step", "class"]);
    this.fallbacks = counter("rec_fallback_total", "Answers that were replaced or filled up by a fallback", ["pipeline", "reason"]);
    this.shortAnswers = counter("rec_short_answers_total", "Answers with fewer items than wanted, but not empty", ["pipeline"]);
    this.emptyAnswers = counter("rec_empty_answers_total", "Answers without an item", ["pipeline"]);
    this.eventCounts = counter("rec_events_total", "Events received, by type and what became of them", ["type", "result"]);
    this.joinedCounts = counter("rec_joined_events_total", "Events that named a recommendation, by what came of it", ["pipeline", "type", "result"]);
    this.eventToFeatureSeconds = time("rec_event_to_feature_seconds", "From the receipt of an event to the moment after which every answer counts it", []);
    this.eventToParameterSeconds = time("rec_event_to_parameter_seconds", "From the receipt of an event to the moment at which the model has learned it", []);
    this.eventToVectorSeconds = time("rec_event_to_vector_seconds", "From the receipt of an event to the moment at which its item's vector follows", []);
    this.logAppendSeconds = time("rec_log_append_seconds", "From the hand-over of a batch to the log until it was acknowledged", []);
    this.httpRequests = counter("rec_http_requests_total", "HTTP requests answered", ["route", "method", "status"]);
    this.httpSeconds = time("rec_http_request_seconds", "Time from the arrival of a request's head to the end of its answer", ["route"]);
    this.#eventToFeature = this.eventToFeatureSeconds.with();
    this.#logAppend = this.logAppendSeconds.with();
  }

  /** Keep the handle. */
  pipeline(name: string): PipelineMetrics {
    let handle = this.#pipelines.get(name);
    if (handle === undefined) {
      handle = new PipelineMetrics(name, this);
      if (this.#pipelines.size < this.#seriesMax) this.#pipelines.set(name, handle);
    }
    return handle;
  }

  /** `type` must be a configured type, or `other`. */
  events(type: string, result: EventResult, count = 1): void {
    this.eventCounts.with(type, result).add(count);
  }

  /** An event that named a recommendation; `pipeline` is `other` where the recommendation is unknown. */
  joined(pipeline: string, type: string, result: JoinResult): void {
    this.joinedCounts.with(pipeline, type, result).add();
  }

  eventToFeature(milliseconds: number): void {
    this.#eventToFeature.record(milliseconds * 1_000);
    this.second.eventToFeature.record(milliseconds);
  }

  eventToParameter(milliseconds: number): void {
    this.eventToParameterSeconds.with().record(milliseconds * 1_000);
    this.second.eventToParameter.record(milliseconds);
  }

  eventToVector(milliseconds: number): void {
    this.eventToVectorSeconds.with().record(milliseconds * 1_000);
    this.second.eventToVector.record(milliseconds);
  }

  logAppend(milliseconds: number): void {
    this.#logAppend.record(milliseconds * 1_000);
  }

  /** For `GatewayStatus.eventToFeature`. */
  eventToFeatureSummary(): LatencySummary {
    return summaryOf(this.#eventToFeature);
  }

  /** For `GatewayStatus.recommend`: all pipelines together. */
  recommendSummary(): LatencySummary {
    const all = new Histogram();
    for (const { metric } of this.requestSeconds.series()) all.merge(metric);
    return summaryOf(all);
  }

  pipelineSummaries(): PipelineSummary[] {
    return [...this.#pipelines.values()].map((pipeline) => pipeline.summary());
  }
}

function meanOf(rows: Histogram): number {
  return rows.count === 0 ? 0 : rows.mean;
}
