// The parent's side of the audience: starts the worker, hands its reports on, stops it.
// Concurrency: the world and its viewers live in a thread of their own, so that they never take time from the serving loop (they do share its cores).

import type { MillraceError } from "#base/errors";
import type { Workers } from "#platform/workers";
import type { AudienceReport } from "./audience-report.ts";
import type { AudienceCommand } from "./audience.worker.ts";
import type { BreakingNews } from "./breaking.ts";
import type { WorldOptions } from "./world.ts";

export interface AudienceOptions {
  /** Of the server, e.g. `http://127.0.0.1:8080`. */
  readonly baseUrl: string;
  /** Keep it (seed and startMs) beside the data: the same world goes on after a restart. */
  readonly world: WorldOptions;
  /** Page views a second, 0.1 to 1,000. */
  readonly requestsPerS: number;
  /** Items a page view shows. */
  readonly items: number;
  readonly pipeline: string;
  /** Page views of each viewer between the world's start and now that the server is told of as past events; 0 when it already knows (a restart). */
  readonly viewsBefore: number;
}

export const audienceDefaults = { requestsPerS: 40, items: 10, pipeline: "home", viewsBefore: 7, historyMs: 2 * 3_600_000 } as const;

/** It ends within milliseconds of being asked, but a thread that has just been started on a busy machine must first load its modules. */
const stopGraceMs = 15_000;

export interface RunningAudience {
  /** A topic (its number; left out: one of the world's choice) becomes hot now; the report `news` says so. Nothing happens before the first page view. */
  breakingNews(topic?: number): void;
  /** Begins no new request, cuts off those under way. */
  stop(): Promise<void>;
  /** Resolves with the failure when the audience died, with undefined after `stop`. */
  readonly failed: Promise<MillraceError | undefined>;
}

/** The world of a demo: its own news begin when the history before the first answer is over. */
export function demoWorldOptions(seed: number, startMs: number, triggered: readonly BreakingNews[] = []): WorldOptions {
  return { seed, startMs, news: { fromMs: startMs + audienceDefaults.historyMs, triggered } };
}

/** Options for a world that begins now (with some hours behind it) and an audience of it. */
export function newAudience(baseUrl: string, seed: number, nowMs: number): AudienceOptions {
  const { requestsPerS, items, pipeline, viewsBefore, historyMs } = audienceDefaults;
  return { baseUrl, world: demoWorldOptions(seed, nowMs - historyMs), requestsPerS, items, pipeline, viewsBefore };
}

/** Starts the audience in a thread; `onReport` gets every report in order. */
export function startAudience(workers: Workers, options: AudienceOptions, onReport: (report: AudienceReport) => void): RunningAudience {
  // The built form has .js files: the worker has the extension of this module.
  const worker = workers.start(
    new URL(`./audience.worker${import.meta.url.slice(import.meta.url.lastIndexOf("."))}`, import.meta.url),
    options,
    "demo-audience",
  );
  const listening = (async () => {
    for (;;) {
      const report = (await worker.receive()) as AudienceReport | undefined;
      if (report === undefined) return;
      onReport(report);
    }
  })();
  return {
    breakingNews: (topic) => {
      const command: AudienceCommand = { kind: "news", ...(topic === undefined ? {} : { topic }) };
      worker.send(command);
    },
    stop: async () => {
      await worker.stop(stopGraceMs);
      await listening;
    },
    failed: worker.failed,
  };
}
