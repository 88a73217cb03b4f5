// The demo of a node: the seeded world and its viewers, who use the public API like any other client, from a thread of their own.
// Which world a data folder holds stands in DATA/demo.json, so that after a restart the same one goes on.
// Invariant: a folder with data and without demo.json is somebody's own: no demo there.

import { MillraceError } from "#base/errors";
export type { AudienceReport, RunningAudience } from "#demo/index";
import { type AudienceReport, newAudience, type RunningAudience, startAudience } from "#demo/index";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";

export interface DemoWorld {
  readonly seed: number;
  /** Where the world's own clock begins, ms since 1970. */
  readonly startMs: number;
  /** True when all rooms and the past events are in the log. */
  readonly furnished: boolean;
}

const fileName = "demo.json";

/** The demo world of a data folder, `undefined` when it holds none. */
export async function readDemoWorld(dataFolder: string): Promise<DemoWorld | undefined> {
  const path = systemFiles.join(dataFolder, fileName);
  const bytes = await systemFiles.readFile(path);
  if (bytes === undefined) return undefined;
  try {
    const { seed, startMs, furnished } = JSON.parse(new TextDecoder().decode(bytes)) as Partial<DemoWorld>;
    if (Number.isInteger(seed) && Number.isFinite(startMs) && typeof furnished === "boolean") return { seed: seed!, startMs: startMs!, furnished };
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
  const world = options.world ?? { seed: fresh.world.seed, startMs: fresh.world.startMs, furnished: false };
  const write = async (furnished: boolean): Promise<void> => {
    const text = `${JSON.stringify({ seed: world.seed, startMs: world.startMs, furnished })}\n`;
    await systemFiles.writeFileAtomic(systemFiles.join(dataFolder, fileName), new TextEncoder().encode(text));
  };
  if (options.world === undefined) await write(false);
  return startAudience(
    systemWorkers,
    {
      ...fresh,
      world: { ...fresh.world, seed: world.seed, startMs: world.startMs },
      requestsPerS: options.requestsPerS,
      viewsBefore: world.furnished ? 0 : fresh.viewsBefore,
    },
    (report) => {
      if (report.kind === "furnished" && !world.furnished) void write(true);
      onReport(report);
    },
  );
}
