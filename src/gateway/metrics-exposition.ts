// The text of `GET /metrics`, made when somebody asks: our counters and histograms, the gateway's numbers of the moment, and the process.
// prom-client writes the format and brings the process metrics; it counts nothing of ours, its labelled observations are too dear for a hot path.
// Invariants: 1. a scrape changes nothing  2. scrapes share one rendering at a time, so that many of them cost as much as one  3. between two metrics the
// loop gets its turn.
// Cost: about 1 us a line; measured in bench/http-cost.ts.

import { collectDefaultMetrics, Gauge, type Metric, Registry } from "prom-client";
import type { Histogram } from "#base/histogram";
import type { Clock } from "#platform/clock";
import type { GatewayStatus } from "./gateway.ts";
import type { Counter, Family } from "./metric-families.ts";
import type { GatewayMetrics } from "./metrics.ts";

export interface ExpositionSources {
  readonly metrics: GatewayMetrics;
  readonly status: () => GatewayStatus;
  readonly clock: Clock;
  /** Labels of `rec_build_info`, e.g. the version and the live kernel. */
  readonly build: Readonly<Record<string, string>>;
  /** Longest stall of the loop in milliseconds since the start, from the platform's meter. */
  readonly loopStallMs?: (() => number) | undefined;
  /** Running requests. */
  readonly running: () => number;
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
  for (const family of [metrics.httpRequests, metrics.eventCounts, metrics.joinedCounts]) counters(registry, family);
  for (const family of [metrics.fallbacks, metrics.shortAnswers, metrics.emptyAnswers, metrics.stepErrors]) counters(registry, family);
  const times = [metrics.requestSeconds, metrics.stepSeconds, metrics.eventToFeatureSeconds, metrics.logAppendSeconds, metrics.httpSeconds];
  for (const family of times) histograms(registry, family, secondBounds, microsecondsPerSecond);
  histograms(registry, metrics.stepRows, rowBounds, 1);

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
  const { loopStallMs } = sources;
  if (loopStallMs !== undefined) gauge("rec_loop_stall_seconds", "Longest stall of the serving loop since the start", () => loopStallMs() / 1_000);
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
    const parts: string[] = [];
    for (const name of names) {
      parts.push(await registry.getSingleMetricAsString(name));
      await sources.clock.yield();
    }
    return `${parts.join("\n\n")}\n`;
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

/** A metric of prom-client is, to its registry, a name and a `get`: ours reads the family. */
function register(registry: Registry, type: string, family: Family<unknown>, values: () => object[]): void {
  const { name, help } = family;
  const adapter = { name, help, type, get: () => Promise.resolve({ name, help, type, values: values(), aggregator: "sum" }) };
  registry.registerMetric(adapter as unknown as Metric);
}

function counters(registry: Registry, family: Family<Counter>): void {
  register(registry, "counter", family, () => Array.from(family.series(), ({ labels, metric }) => ({ labels: labelled(family, labels), value: metric.value })));
}

function histograms(registry: Registry, family: Family<Histogram>, bounds: readonly number[], unitsPerBound: number): void {
  const { name } = family;
  register(registry, "histogram", family, () => {
    const values: object[] = [];
    for (const { labels, metric } of family.series()) {
      const sharedLabels = labelled(family, labels);
      const add = (suffix: string, own: object, value: number): void => void values.push({ metricName: `${name}${suffix}`, labels: own, sharedLabels, value });
      // One pass: our fine buckets come in ascending order, each goes below the first bound that holds its largest value.
      let below = 0;
      const fine = metric.buckets();
      let next = fine.next();
      for (const bound of bounds) {
        while (next.done !== true && next.value[0] <= bound * unitsPerBound) {
          below += next.value[1];
          next = fine.next();
        }
        add("_bucket", { le: bound }, below);
      }
      add("_bucket", { le: "+Inf" }, metric.count);
      add("_sum", {}, metric.sum / unitsPerBound);
      add("_count", {}, metric.count);
    }
    return values;
  });
}

function labelled(family: Family<unknown>, values: readonly string[]): Record<string, string> {
  return Object.fromEntries(family.labelNames.map((name, at) => [name, values[at] ?? ""]));
}
