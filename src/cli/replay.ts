// `millrace replay`: a progress bar while it runs, then the table, then with --json one JSON line.

import { Presets, SingleBar } from "cli-progress";
import { absolutePath, errorIsTerminal, onStopSignal, printError, printLine } from "#platform/system-process";
import { type ReplayModel, runReplay } from "#roles/replay";
import { progressLine, type Refresh, replayJson, replayTable, type ReplayProgress } from "#replay/index";
import { MillraceError } from "#base/errors";

/** Seconds between two progress lines where no terminal can show a bar. */
const lineEveryS = 5;

export async function replay(options: { file: string; refresh: Refresh; models: readonly ReplayModel[]; json: boolean; version: string }): Promise<void> {
  const stopping = new AbortController();
  onStopSignal((signal) => stopping.abort(new MillraceError("unavailable", `stopped by ${signal}`, { todo: "start the replay again" })));
  const progress = errorIsTerminal() ? bar() : lines();
  let result;
  try {
    result = await runReplay({
      path: absolutePath(options.file),
      refresh: options.refresh,
      models: options.models,
      version: options.version,
      onProgress: progress.show,
      signal: stopping.signal,
    });
  } finally {
    progress.end();
  }
  printLine(replayTable(result));
  if (options.json) printLine(replayJson(result));
}

interface ProgressShow {
  readonly show: (progress: ReplayProgress) => void;
  readonly end: () => void;
}

function bar(): ProgressShow {
  const single = new SingleBar({ format: "{bar} {text}", hideCursor: true, clearOnComplete: true, barsize: 30 }, Presets.shades_classic);
  single.start(1, 0, { text: "" });
  return {
    show(progress) {
      const done = progress.rowsTotal === undefined ? progress.bytesRead / Math.max(1, progress.bytesTotal) : progress.rows / Math.max(1, progress.rowsTotal);
      single.update(Math.min(1, done), { text: progressLine(progress) });
    },
    end: () => single.stop(),
  };
}

function lines(): ProgressShow {
  let nextRate = 0;
  let last = "";
  let calls = 0;
  return {
    show(progress) {
      calls += 1;
      // Progress comes about four times a second.
      if (progress.phase === last && calls < nextRate) return;
      last = progress.phase;
      nextRate = calls + lineEveryS * 4;
      printError(progressLine(progress));
    },
    end: () => undefined,
  };
}
