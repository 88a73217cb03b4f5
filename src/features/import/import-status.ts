// What an import says of itself, and of an import that has not said anything yet.
// Why apart from the importer: who only tells of imports (a server, the console) need not load what reads files.

export type ImportStage = "planning" | "waiting" | "reading" | "building" | "publishing" | "done" | "failed";

/** For terminals, HTTP and the console. */
export interface ImportStatus {
  readonly id: string;
  readonly table: string;
  readonly stage: ImportStage;
  /** True when it goes on behind an earlier attempt. */
  readonly resumed: boolean;
  readonly startedAtMs: number;
  readonly inputs: number;
  readonly inputsDone: number;
  /** By the footers of Parquet and .npy files; undefined when some input does not say. */
  readonly rowsTotal: number | undefined;
  readonly rowsStaged: number;
  readonly rowsRefused: number;
  readonly rowBytes: number;
  readonly runs: number;
  readonly runsBuilt: number;
  /** Rows of this attempt through the current stage, a second. */
  readonly rowsPerS: number;
  /** Of the whole import, guessed from this attempt; undefined when there is nothing to guess from. */
  readonly etaMs: number | undefined;
  readonly version: string | undefined;
  readonly rejectFile: string | undefined;
  /** Why the first refused rows were refused, each reason once, at most importLimits.refusedWhyMax; known once all is read. */
  readonly refusedWhy: readonly string[];
  readonly error: string | undefined;
}

/** Of an import that has just begun. */
export function noStatus(table: string, nowMs: number): ImportStatus {
  return {
    id: "",
    table,
    stage: "planning",
    resumed: false,
    startedAtMs: nowMs,
    inputs: 0,
    inputsDone: 0,
    rowsTotal: undefined,
    rowsStaged: 0,
    rowsRefused: 0,
    rowBytes: 0,
    runs: 0,
    runsBuilt: 0,
    rowsPerS: 0,
    etaMs: undefined,
    version: undefined,
    rejectFile: undefined,
    refusedWhy: [],
    error: undefined,
  };
}
