// `millrace import TABLE FILES...`: a progress bar while it runs, then what was imported; and `millrace build-shard JOB`, one step of it for schedulers.

import { Presets, SingleBar } from "cli-progress";
import { MillraceError } from "#base/errors";
import type { FileFormat } from "#features/import/inputs";
import type { ImportStatus } from "#features/import/importer";
import { checkShardJob, runShardJob } from "#features/import/shard-job";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { absolutePath, errorIsTerminal, onStopSignal, printError, printLine, setExitCode } from "#platform/system-process";
import { importTable } from "#roles/importer";
import { servedText } from "#snapshot/serving-wait";
import { readConfig } from "./config-file.ts";
import { refusedExitCode } from "./exit-codes.ts";

/** The options of `import` as main.ts declares them. */
export interface ImportCommandOptions {
  readonly data: string;
  readonly query?: string;
  readonly format?: FileFormat;
  readonly rejects: number;
  readonly memoryMb: number;
  readonly builders: number;
  readonly config?: string;
  readonly preset: "feed" | "shop";
  /** False by --no-live. */
  readonly live: boolean;
  readonly json?: boolean;
}

const count = (value: number): string => value.toLocaleString("en-US", { maximumFractionDigits: 0 });

const rowsOf = (value: number): string => (value === 1 ? "1 row was" : `${count(value)} rows were`);

/** Absolute, also behind `column=`. Patterns stay patterns. */
function absoluteFile(file: string): string {
  const named = /^([A-Za-z_][A-Za-z0-9_]{0,63})=(.+\.npy)$/i.exec(file);
  return named === null ? absolutePath(file) : `${named[1]!}=${absolutePath(named[2]!)}`;
}

/** Imports files into a table of a data folder, whose server may be running. */
export async function importFiles(table: string, files: readonly string[], options: ImportCommandOptions): Promise<void> {
  const stopping = new AbortController();
  onStopSignal((signal) => stopping.abort(new MillraceError("unavailable", `stopped by ${signal}`, { todo: "start the same import again, it goes on" })));
  const tables = options.config === undefined ? undefined : (await readConfig(options.config, options.preset)).tables;
  const progress = errorIsTerminal() ? bar() : lines();
  const startedMs = systemClock.monotonicMs();
  let result;
  let last: ImportStatus | undefined;
  try {
    result = await importTable({
      dataFolder: absolutePath(options.data),
      table,
      files: files.map(absoluteFile),
      rejectsMax: options.rejects,
      memoryBytes: options.memoryMb * 2 ** 20,
      builders: options.builders,
      live: options.live,
      ...(options.query === undefined ? {} : { query: options.query }),
      ...(options.format === undefined ? {} : { format: options.format }),
      ...(tables === undefined ? {} : { tables }),
      onStatus: (status) => progress.show((last = status)),
      onAbandoned: (ids) => printError(`removed the work of abandoned imports: ${ids.join(", ")}`),
      signal: stopping.signal,
    });
  } catch (thrown) {
    if (last !== undefined && last.rowsRefused > 0 && last.rejectFile !== undefined) printError(`${rowsOf(last.rowsRefused)} refused, see ${last.rejectFile}`);
    throw thrown;
  } finally {
    progress.end();
  }
  const tookMs = systemClock.monotonicMs() - startedMs;
  if (result.served !== undefined && result.served.refused.length > 0) setExitCode(refusedExitCode);
  if (options.json === true) {
    printLine(JSON.stringify({ table, ...result, tookMs: Math.round(tookMs) }));
    return;
  }
  const { version, rows, overtaken, refused, rejectFile, unused, missing, bytes, served } = result;
  const what = `${count(rows)} ${rows === 1 ? "row" : "rows"}, ${count(bytes / 2 ** 20)} MiB, in ${(tookMs / 1_000).toFixed(1)} s`;
  const now = !options.live ? "is published" : served === undefined ? "is live" : servedText(served);
  printLine(`${what}: version ${version} of ${table} ${now}`);
  if (overtaken > 0) printLine(`${count(overtaken)} ${overtaken === 1 ? "row" : "rows"} had a key that came again later: the last one counts`);
  if (refused > 0) printLine(`${rowsOf(refused)} refused, see ${rejectFile ?? "the reject file"}`);
  if (missing.length > 0) printLine(`no input has ${missing.join(", ")}: no value there`);
  if (unused.length > 0) printLine(`not in the table, left out: ${unused.join(", ")}`);
}

/** Does the job that a file describes, prints what became of it as one JSON line. */
export async function buildShardFile(jobFile: string): Promise<void> {
  const path = absolutePath(jobFile);
  const bytes = await systemFiles.readFile(path);
  if (bytes === undefined) throw new MillraceError("not-found", `there is no file ${jobFile}`, { todo: "name the job's file" });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new MillraceError("invalid", `${jobFile} is no JSON text`, { todo: "write it as src/features/import/shard-job.ts says", cause });
  }
  printLine(JSON.stringify(await runShardJob(checkShardJob(value), { files: systemFiles, clock: systemClock })));
}

interface Progress {
  readonly show: (status: ImportStatus) => void;
  readonly end: () => void;
}

/** One line of what is going on. */
export function statusLine(status: ImportStatus): string {
  const { stage, rowsStaged, rowsTotal, rowsPerS, etaMs, rowsRefused, runs, runsBuilt } = status;
  const of = rowsTotal === undefined ? "" : ` of ${count(rowsTotal)}`;
  const done = stage === "building" ? `${runsBuilt} of ${runs} run files` : `${count(rowsStaged)}${of} rows`;
  const speed = rowsPerS > 0 ? `, ${count(rowsPerS)} rows/s` : "";
  const left = etaMs === undefined || etaMs === 0 ? "" : `, about ${Math.ceil(etaMs / 1_000)} s left`;
  return `${stage}: ${done}${speed}${left}${rowsRefused > 0 ? `, ${count(rowsRefused)} refused` : ""}`;
}

/** How much of the whole is done, 0 to 1: reading is nearly half of it. */
function partDone({ stage, rowsStaged, rowsRefused, rowsTotal, inputs, inputsDone, runs, runsBuilt }: ImportStatus): number {
  const read = rowsTotal === undefined ? inputsDone / Math.max(1, inputs) : (rowsStaged + rowsRefused) / Math.max(1, rowsTotal);
  const built = runsBuilt / Math.max(1, runs);
  return stage === "done" ? 1 : Math.min(1, 0.45 * Math.min(1, read) + 0.5 * built);
}

function bar(): Progress {
  const single = new SingleBar({ format: "{bar} {text}", hideCursor: true, clearOnComplete: true, barsize: 30 }, Presets.shades_classic);
  single.start(1, 0, { text: "" });
  return { show: (status) => single.update(partDone(status), { text: statusLine(status) }), end: () => single.stop() };
}

const lineEveryMs = 5_000;

function lines(): Progress {
  let stage = "";
  let due = 0;
  return {
    show(status) {
      const now = systemClock.monotonicMs();
      if (status.stage === stage && now < due) return;
      stage = status.stage;
      due = now + lineEveryMs;
      printError(statusLine(status));
    },
    end: () => undefined,
  };
}
