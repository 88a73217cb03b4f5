// Imports that were asked for over HTTP: each runs as a whole in a process of its own, so that the server only passes on what is asked and what is said.
// Routes for the gateway (all JSON):
//   POST   /v1/imports         ImportAsk -> 202 { job }        start
//   GET    /v1/imports         [BoardEntry]                     list, those of terminals too
//   GET    /v1/imports/{job}   BoardEntry, 404                   status
//   DELETE /v1/imports/{job}   { stopped }                       stop one that this server started; what it has done is kept
// Limits: `jobsMax` at once; asks are checked by `checkAsk`, files by the folders that the server allows (importer.ts).

import { MillraceError, toMillraceError } from "#base/errors";
import type { Registry } from "#backbone/registry";
import type { RunningWorker } from "#platform/workers";
import { importLimits } from "./import-limits.ts";
import { type BoardEntry, listImports } from "./import-board.ts";
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
  return value as ImportAsk;
}

/** Imports of one server at once; more are refused, those that run take turns. */
const jobsMax = 16;

export class ImportJobs {
  readonly #registry: Registry;
  readonly #start: (ask: ImportAsk, job: string) => RunningWorker;
  readonly #newJob: () => string;
  readonly #onFailure: (job: string, failure: MillraceError) => void;
  readonly #running = new Map<string, RunningWorker>();

  /** `start`: runs the whole import of an ask in a process; it puts its status on the board under the job's name. */
  constructor(options: {
    registry: Registry;
    start: (ask: ImportAsk, job: string) => RunningWorker;
    newJob: () => string;
    onFailure?: (job: string, failure: MillraceError) => void;
  }) {
    this.#registry = options.registry;
    this.#start = options.start;
    this.#newJob = options.newJob;
    this.#onFailure = options.onFailure ?? (() => undefined);
  }

  /** Starts an import. Throws `invalid`, or `overloaded` when too many run. */
  start(body: unknown): { readonly job: string } {
    const ask = checkAsk(body);
    if (this.#running.size >= jobsMax) throw new MillraceError("overloaded", `${jobsMax} imports are running`, { todo: "wait for one to end" });
    const job = this.#newJob();
    const process = this.#start(ask, job);
    this.#running.set(job, process);
    void process.failed.then((failure) => {
      this.#running.delete(job);
      if (failure !== undefined) this.#onFailure(job, toMillraceError(failure));
    });
    return { job };
  }

  list(): Promise<BoardEntry[]> {
    return listImports(this.#registry);
  }

  /** Throws `not-found`. */
  async status(job: string): Promise<BoardEntry> {
    const found = (await this.list()).find((entry) => entry.job === job);
    if (found !== undefined) return found;
    throw new MillraceError("not-found", `there is no import ${JSON.stringify(job.slice(0, 64))}`, { todo: "list the imports; old ones are forgotten" });
  }

  /** Stops one that this server started. Throws `not-found`. */
  async stop(job: string): Promise<{ readonly stopped: boolean }> {
    const process = this.#running.get(job);
    if (process === undefined) {
      await this.status(job);
      return { stopped: false };
    }
    await process.stop();
    return { stopped: true };
  }

  /** Ends all, for the server's own end. */
  async close(): Promise<void> {
    await Promise.all([...this.#running.values()].map((process) => process.stop()));
  }
}
