// The demo of a node: the seeded world and its viewers, who use the public API like any other client, from a thread of their own.
// Which world a data folder holds stands in DATA/demo.json, so that after a restart the same one goes on.
// Invariant: a folder with data and without demo.json is somebody's own: no demo there.

import { MillraceError } from "#base/errors";
export type { AudienceReport, RunningAudience } from "#demo/index";
import { type AudienceReport, type BreakingNews, demoWorldOptions, newAudience, type RunningAudience, startAudience } from "#demo/index";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";

export interface DemoWorld {
  readonly seed: number;
  /** Where the world's own clock begins, ms since 1970. */
  readonly startMs: number;
  /** True when all rooms and the past events are in the log. */
  readonly furnished: boolean;
  /** News that somebody triggered: part of the world from then on. */
  readonly news?: readonly BreakingNews[];
}

/** Older ones are forgotten: what they did is over. */
const newsKeptMax = 100;

const fileName = "demo.json";

/** The demo world of a data folder, `undefined` when it holds none. */
export async function readDemoWorld(dataFolder: string): Promise<DemoWorld | undefined> {
  const path = systemFiles.join(dataFolder, fileName);
  const bytes = await systemFiles.readFile(path);
  if (bytes === undefined) return undefined;
  try {
    const { seed, startMs, furnished, news = [] } = JSON.parse(new TextDecoder().decode(bytes)) as Partial<DemoWorld>;
    const newsRight = Array.isArray(news) && news.every(({ atMs, topic }) => Number.isFinite(atMs) && Number.isInteger(topic));
    if (Number.isInteger(seed) && Number.isFinite(startMs) && typeof furnished === "boolean" && newsRight) {
      return { seed: seed!, startMs: startMs!, furnished, news };
    }
  } catch {
    // Reported below, as any other damage of the file.
  }
  throw new MillraceError("corrupt", `${path} is not readable`, {
    todo: "remove the file to keep the data without the demo, or the data folder to begin anew",
  });
}

export interface DemoOptions {
  readonly baseUrl: string;
  readonly dataFolder: string;
  readonly seed: number;
  readonly requestsPerS: number;
  /** The world that the folder holds already. */
  readonly world: DemoWorld | undefined;
  readonly onReport: (report: AudienceReport) => void;
}

/** Starts the audience; in a new folder the world is made and furnished first. */
export async function startDemo(options: DemoOptions): Promise<RunningAudience> {
  const { dataFolder, onReport } = options;
  const fresh = newAudience(options.baseUrl, options.world?.seed ?? options.seed, systemClock.nowMs());
  const world: DemoWorld = options.world ?? { seed: fresh.world.seed, startMs: fresh.world.startMs, furnished: false };
  const news = [...(world.news ?? [])];
  let furnished = world.furnished;
  // One write after the other: the last state wins.
  let written: Promise<void> = Promise.resolve();
  const write = (): Promise<void> => {
    const text = `${JSON.stringify({ seed: world.seed, startMs: world.startMs, furnished, news: news.slice(-newsKeptMax) })}\n`;
    return (written = written
      .catch(() => undefined)
      .then(() => systemFiles.writeFileAtomic(systemFiles.join(dataFolder, fileName), new TextEncoder().encode(text))));
  };
  if (options.world === undefined) await write();
  return startAudience(
    systemWorkers,
    {
      ...fresh,
      world: demoWorldOptions(world.seed, world.startMs, news),
      requestsPerS: options.requestsPerS,
      viewsBefore: world.furnished ? 0 : fresh.viewsBefore,
    },
    (report) => {
      if (report.kind === "furnished" && !furnished) {
        furnished = true;
        void write();
      } else if (report.kind === "news" && report.triggered) {
        news.push({ atMs: report.atMs, topic: report.topic });
        void write();
      }
      onReport(report);
    },
  );
}
