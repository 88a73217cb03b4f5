// The text of `GET /metrics`, made when somebody asks: our counters and histograms, the gateway's numbers of the moment, and the process.
// prom-client brings the process metrics and the gauges; our families are written here: its labelled observations are too dear for a hot path, and its
// writer took 4 us a line, so that one family of 200 histograms held the loop for 15 ms.
// Invariants: 1. a scrape changes nothing  2. scrapes share one rendering at a time, so that many of them cost as much as one  3. between two metrics the
// loop gets its turn.
// Cost: about 2 us a line, most of it the walk over 1,728 counters a histogram; measured in bench/http-cost.ts.

import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { Histogram } from "#base/histogram";
import type { Clock } from "#platform/clock";
import type { GatewayStatus } from "./gateway.ts";
import { Counter, Family } from "./metric-families.ts";
import type { RankingMetrics } from "#ranking/ranking-metrics";
import type { TrainingStatus } from "#wire/live-api";
import { learningGauges, rankingFamilies } from "./learning-metrics.ts";
import type { GatewayMetrics } from "./metrics.ts";
import type { GaugeSource } from "./store-metrics.ts";

/** The platform's meter of the serving loop: CPU time between two ticks, in microseconds, and the largest value in milliseconds. */
export interface LoopStall {
  readonly histogram: Histogram;
  readonly maxMs: number;
  /** The largest value of each of the last seconds, newest last, in milliseconds. */
  lastSecondsMs(count: number): number[];
}

export interface ExpositionSources {
  readonly metrics: GatewayMetrics;
  readonly status: () => GatewayStatus;
  /** Absent or undefined without a model, as the next one. */
  readonly training?: () => TrainingStatus | undefined;
  readonly ranking?: RankingMetrics | undefined;
  readonly clock: Clock;
  /** Labels of `rec_build_info`, e.g. the version and the live kernel. */
  readonly build: Readonly<Record<string, string>>;
  readonly loopStall?: LoopStall | undefined;
  /** Running requests. */
  readonly running: () => number;
  /** Of what else this server runs. */
  readonly gauges?: readonly GaugeSource[];
}

export interface Exposition {
  readonly contentType: string;
  text(): Promise<string>;
}

/** Upper bounds in seconds and in rows: few, because each is a line a series. Chosen: 1 : 2.5 : 5 a decade. */
const secondBounds = [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const rowBounds = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
const microsecondsPerSecond = 1e6;

export function createExposition(sources: ExpositionSources): Exposition {
  const registry = new Registry();
  const { metrics } = sources;
  const families: (Family<Counter> | Family<Histogram>)[] = [
    metrics.requestSeconds,
    metrics.stepSeconds,
    metrics.stepRows,
    metrics.stepErrors,
    metrics.fallbacks,
    metrics.shortAnswers,
    metrics.emptyAnswers,
    metrics.eventCounts,
    metrics.joinedCounts,
    metrics.eventToFeatureSeconds,
    metrics.eventToParameterSeconds,
    metrics.eventToVectorSeconds,
    metrics.logAppendSeconds,
    metrics.httpRequests,
    metrics.httpSeconds,
  ];

  // Read once a scrape: the first gauge to collect reads, the others reuse.
  let status: GatewayStatus | undefined;
  const gauge = (name: string, help: string, read: (status: GatewayStatus) => number): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read((status ??= sources.status())));
      },
    });
  };
  gauge("rec_items", "Items of the catalogue", (of) => of.items);
  gauge("rec_users", "Users known by attributes or events", (of) => of.users);
  gauge("rec_log_offset", "Offset of the log up to which events are counted", (of) => of.logOffset);
  gauge("rec_events_rebuilt", "Events counted again from the log at the start", (of) => of.eventsRebuilt);
  gauge("rec_start_time_seconds", "When the gateway started", (of) => of.startedAtMs / 1_000);
  gauge("rec_http_requests_running", "HTTP requests that are being answered", () => sources.running());
  for (const { name, help, read } of sources.ranking === undefined ? [] : learningGauges(sources.training ?? (() => undefined), sources.ranking)) {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read() ?? Number.NaN);
      },
    });
  }
  for (const { name, help, label, read } of sources.gauges ?? []) {
    new Gauge({
      name,
      help,
      labelNames: label === undefined ? [] : [label],
      registers: [registry],
      collect() {
        const values = read();
        if (typeof values === "number") this.set(values);
        else {
          // What is gone since the last scrape is told no more.
          this.reset();
          for (const [of, value] of values) this.set({ [label ?? ""]: of }, value);
        }
      },
    });
  }
  if (sources.ranking !== undefined) families.push(...rankingFamilies(sources.ranking));
  const { loopStall } = sources;
  if (loopStall !== undefined) {
    const stalls = new Family("rec_loop_stall_seconds", "CPU time of the serving thread between two ticks of a 1 ms timer", [], () => loopStall.histogram, 1);
    stalls.with();
    families.push(stalls);
    gauge("rec_loop_stall_max_seconds", "The largest of them since the start", () => loopStall.maxMs / 1_000);
  }
  new Gauge({
    name: "rec_memory_bytes",
    help: "Memory held, by owner",
    labelNames: ["owner"],
    registers: [registry],
    collect() {
      for (const [owner, bytes] of Object.entries((status ??= sources.status()).memoryBytes)) this.set({ owner }, bytes);
    },
  });
  new Gauge({ name: "rec_build_info", help: "Always 1; the labels say what runs", labelNames: Object.keys(sources.build), registers: [registry] }).set(
    { ...sources.build },
    1,
  );
  collectDefaultMetrics({ register: registry });

  const names = registry.getMetricsAsArray().map((metric) => (metric as unknown as { name: string }).name);
  async function render(): Promise<string> {
    status = undefined;
    let text = "";
    let lines = 0;
    for (const family of families) {
      for (const piece of familyText(family)) {
        text += piece.text;
        lines += piece.lines;
        if (lines < linesPerTurn) continue;
        lines = 0;
        await sources.clock.yield();
      }
    }
    for (const name of names) {
      text += `${await registry.getSingleMetricAsString(name)}\n`;
      await sources.clock.yield();
    }
    return text;
  }
  let rendering: Promise<string> | undefined;
  return {
    contentType: registry.contentType,
    text() {
      rendering ??= render().finally(() => {
        rendering = undefined;
      });
      return rendering;
    },
  };
}

/** Lines that are written before the loop gets its turn: about 0.5 ms. */
const linesPerTurn = 250;

/** The text of a family in pieces of one series each, its head first. */
function* familyText(family: Family<Counter> | Family<Histogram>): Generator<{ readonly text: string; readonly lines: number }> {
  const { name } = family;
  let headed = false;
  for (const { labels, metric } of family.series()) {
    const own = labelText(family.labelNames, labels);
    const isCounter = metric instanceof Counter;
    const written = isCounter ? `${name}${own === "" ? "" : `{${own}}`} ${metric.value}\n` : histogramText(name, own, metric);
    const head = headed ? "" : `# HELP ${name} ${escaped(family.help)}\n# TYPE ${name} ${isCounter ? "counter" : "histogram"}\n`;
    headed = true;
    yield { text: head + written, lines: isCounter ? 1 : secondBounds.length + 3 };
  }
}

function histogramText(name: string, labels: string, histogram: Histogram): string {
  const isTime = name.endsWith("_seconds");
  const scale = isTime ? microsecondsPerSecond : 1;
  const before = `${name}_bucket{${labels}${labels === "" ? "" : ","}le="`;
  const braced = labels === "" ? "" : `{${labels}}`;
  // One pass: our fine buckets come in ascending order, each goes below the first bound that holds its largest value.
  let text = "";
  let below = 0;
  const fine = histogram.buckets();
  let next = fine.next();
  for (const bound of isTime ? secondBounds : rowBounds) {
    while (next.done !== true && next.value[0] <= bound * scale) {
      below += next.value[1];
      next = fine.next();
    }
    text += `${before}${bound}"} ${below}\n`;
  }
  const { count } = histogram;
  return `${text}${before}+Inf"} ${count}\n${name}_sum${braced} ${histogram.sum / scale}\n${name}_count${braced} ${count}\n`;
}

function labelText(names: readonly string[], values: readonly string[]): string {
  return names.map((name, at) => `${name}="${escaped(values[at] ?? "").replaceAll('"', '\\"')}"`).join(",");
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
