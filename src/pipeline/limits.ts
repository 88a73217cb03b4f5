// Named limits of the pipeline room. Each is a default; a runner may be given others (see `RunnerOptions.limits`).

export interface PipelineLimits {
  /** Rows a batch may hold after merging. Rows beyond it are dropped in source order and counted as `cut`. Range 1..1,000,000; cost: 4 B a column a row. */
  readonly candidatesMax: number;
  /** Rows one source may emit before its quota is applied. More is refused (`invalid`), since it is a mistake of the source. */
  readonly sourceRowsMax: number;
  /** Requests in flight in one runner. One more is refused with `overloaded`. */
  readonly concurrencyMax: number;
  /** Milliseconds for a whole request when the caller names none. */
  readonly timeoutMs: number;
  /** Bytes of idle column arrays a runner keeps for reuse. Arrays given back beyond it are left to the garbage collector. */
  readonly pooledBytesMax: number;
}

export const pipelineLimits: PipelineLimits = {
  candidatesMax: 5_000,
  sourceRowsMax: 100_000,
  concurrencyMax: 256,
  timeoutMs: 1_000,
  pooledBytesMax: 64 * 1024 * 1024,
};

/** The largest value each limit may be given. Rows: what sorting by packed keys can number, with room (select-top.ts). Chosen otherwise. */
export const limitCeilings: PipelineLimits = {
  candidatesMax: 1_000_000,
  sourceRowsMax: 1_000_000,
  concurrencyMax: 100_000,
  timeoutMs: 3_600_000,
  pooledBytesMax: 2 ** 32,
};

/** Sources in one pipeline: one bit each in the u32 column `sources`. */
export const sourcesMax = 32;
/** Steps in one pipeline, sources counted. */
export const stepsMax = 200;
