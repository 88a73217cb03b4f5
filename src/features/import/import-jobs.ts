// Imports that were asked for over HTTP: each runs as a whole in a process of its own, so that the server only passes on what is asked and what is said.
// Routes for the gateway (all JSON):
//   POST   /v1/imports         ImportAsk -> 202 { job }        start; `invalid` or `not-found` at once for an ask without input or of an unknown table
//   GET    /v1/imports         [BoardEntry]                     list, those of terminals too
//   GET    /v1/imports/{job}   BoardEntry, 404                   status
//   DELETE /v1/imports/{job}   { stopped }                       stop one that this server started; what it has done is kept
// Invariant: a job that was answered is found under its name from then on, also before its process has come up, and when that was killed.
// Limits: `jobsMax` at once, `failedMax` remembered here; asks are checked by `checkAsk`, files by the folders that the server allows (importer.ts).

import { MillraceError, toMillraceError } from "#base/errors";
import type { Registry } from "#backbone/registry";
import type { Clock } from "#platform/clock";
import type { RunningWorker } from "#platform/workers";
import { isServersTable } from "#wire/table-config";
import { readSchema } from "../tables/schema-registry.ts";
import { importLimits } from "./import-limits.ts";
import { type BoardEntry, listImports } from "./import-board.ts";
import { noStatus } from "./import-status.ts";
import type { FileFormat } from "./inputs.ts";

export interface ImportAsk {
  readonly table: string;
  readonly files?: readonly string[];
  readonly query?: string;
  readonly format?: FileFormat;
  /** Refused rows at which it gives up. */
  readonly rejectsMax?: number;
  /** False: publish without going live. */
  readonly live?: boolean;
}

const fields = ["table", "files", "query", "format", "rejectsMax", "live"];

/** An ask out of a request's body. Throws `invalid`. */
export function checkAsk(value: unknown): ImportAsk {
  const bad = (what: string): MillraceError =>
    new MillraceError("invalid", `an import that ${what}`, { todo: "give table, files or query, and if need be format, rejectsMax, live" });
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad("is no object");
  const { table, files, query, format, rejectsMax, live } = value as Partial<Record<keyof ImportAsk, unknown>>;
  const unknown = Object.keys(value).find((name) => !fields.includes(name));
  if (unknown !== undefined) throw bad(`has a field ${JSON.stringify(unknown.slice(0, 40))}`);
  if (typeof table !== "string") throw bad("names no table");
  if (
    files !== undefined &&
    !(Array.isArray(files) && files.length <= importLimits.inputsMax && files.every((file) => typeof file === "string" && file.length <= 4_096))
  )
    throw bad("names its files wrongly");
  if (query !== undefined && typeof query !== "string") throw bad("has a query that is no text");
  if (format !== undefined && format !== "parquet" && format !== "csv" && format !== "json") throw bad("has an unknown format");
  if (rejectsMax !== undefined && !(Number.isInteger(rejectsMax) && (rejectsMax as number) >= 0 && (rejectsMax as number) <= importLimits.rejectsMax))
    throw bad("has no number as rejectsMax");
  if (live !== undefined && typeof live !== "boolean") throw bad("says live without true or false");
  if ((files?.length ?? 0) === 0 && (query === undefined || query.trim() === "")) throw bad("reads nothing");
  return value as ImportAsk;
}

/** Imports of one server at once; more are refused, those that run take turns. */
const jobsMax = 16;
/** Failed jobs that are told from memory: those whose process could not write its last status. */
const failedMax = 20;

interface Job {
  readonly process: RunningWorker;
  readonly entry: BoardEntry;
}

export class ImportJobs {
  readonly #registry: Registry;
  readonly #start: (ask: ImportAsk, job: string) => RunningWorker;
  readonly #newJob: () => string;
  readonly #onFailure: (job: string, failure: MillraceError) => void;
  readonly #clock: Clock;
  readonly #running = new Map<string, Job>();
  readonly #failed = new Map<string, BoardEntry>();

  /** `start`: runs the whole import of an ask in a process; it puts its status on the board under the job's name. */
  constructor(options: {
    registry: Registry;
    clock: Clock;
    start: (ask: ImportAsk, job: string) => RunningWorker;
    newJob: () => string;
    onFailure?: (job: string, failure: MillraceError) => void;
  }) {
    this.#registry = options.registry;
    this.#clock = options.clock;
    this.#start = options.start;
    this.#newJob = options.newJob;
    this.#onFailure = options.onFailure ?? (() => undefined);
  }

  /** Starts an import. Throws `invalid`, `not-found` for a table that nobody registered, or `overloaded` when too many run. */
  async start(body: unknown): Promise<{ readonly job: string }> {
    const ask = checkAsk(body);
    const { table } = ask;
    if (isServersTable(table) || (await readSchema(this.#registry, table)) === undefined)
      throw new MillraceError("not-found", `there is no table ${JSON.stringify(table.slice(0, 64))}`, { todo: "declare it in the configuration (tables)" });
    if (this.#running.size >= jobsMax) throw new MillraceError("overloaded", `${jobsMax} imports are running`, { todo: "wait for one to end" });
    const job = this.#newJob();
    const process = this.#start(ask, job);
    const entry = beginning(job, table, this.#clock.nowMs());
    this.#running.set(job, { process, entry });
    void process.failed.then((failure) => {
      this.#running.delete(job);
      if (failure === undefined) return;
      const error = toMillraceError(failure);
      this.#failed.set(job, { ...entry, stage: "failed", error: error.message, atMs: this.#clock.nowMs() });
      if (this.#failed.size > failedMax) this.#failed.delete(this.#failed.keys().next().value!);
      this.#onFailure(job, error);
    });
    return { job };
  }

  /** All that run or ran lately, the latest first. What the processes say themselves comes before what is known of them here. */
  async list(): Promise<BoardEntry[]> {
    const board = await listImports(this.#registry);
    const known = new Map(board.map((entry) => [entry.job, entry]));
    for (const [job, entry] of this.#failed)
      if (!isEnded(known.get(job))) known.set(job, { ...(known.get(job) ?? entry), stage: entry.stage, error: entry.error, atMs: entry.atMs });
    for (const [job, { entry }] of this.#running) if (!known.has(job)) known.set(job, entry);
    return [...known.values()].toSorted((a, b) => b.startedAtMs - a.startedAtMs);
  }

  /** Throws `not-found`. */
  async status(job: string): Promise<BoardEntry> {
    const found = (await this.list()).find((entry) => entry.job === job);
    if (found !== undefined) return found;
    throw new MillraceError("not-found", `there is no import ${JSON.stringify(job.slice(0, 64))}`, { todo: "list the imports; old ones are forgotten" });
  }

  /** Stops one that this server started. Throws `not-found`. */
  async stop(job: string): Promise<{ readonly stopped: boolean }> {
    const process = this.#running.get(job)?.process;
    if (process === undefined) {
      await this.status(job);
      return { stopped: false };
    }
    await process.stop();
    return { stopped: true };
  }

  /** Ends all, for the server's own end. */
  async close(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ process }) => process.stop()));
  }
}

function isEnded(entry: BoardEntry | undefined): boolean {
  return entry?.stage === "done" || entry?.stage === "failed";
}

/** What there is to say of an import whose process is coming up. */
function beginning(job: string, table: string, nowMs: number): BoardEntry {
  return { ...noStatus(table, nowMs), job, atMs: nowMs };
}
