// What a run tells about itself: one record a step, always; and what was left out of the answer.

import type { StepKind } from "./plan.ts";

/**
 * How a step ended. `ok`; `off`: its condition said no; `error`: it threw or rejected; `timeout`: it took longer than allowed; `defect`: it broke the rules of
 * the framework (wrong length, only NaN scores, a column it did not declare), which throws in strict mode; `cancelled`: ended because the flow ended.
 */
export type Outcome = "ok" | "off" | "error" | "timeout" | "defect" | "cancelled";

export interface StepTrace {
  /** Pipeline that ran the step (the fallback's name for its steps). */
  readonly pipeline: string;
  readonly step: string;
  /** `merge`: joining the rows of a recall's sources; `exclude`: a fallback leaving out what is in the answer already. */
  readonly kind: StepKind | "merge" | "exclude";
  readonly stage: number;
  /** Rows before; for a source: rows it emitted. */
  readonly rowsIn: number;
  /** Rows after; for a source: rows kept after its quota. */
  readonly rowsOut: number;
  /** Wall time from start to end, microseconds. Steps of one stage overlap. */
  readonly micros: number;
  readonly outcome: Outcome;
  /** Sources: rows the step was allowed to keep. */
  readonly quota?: number;
  /** Merge only: rows that did not fit into the batch (`candidatesMax`). */
  readonly cut?: number;
  readonly error?: string;
  readonly note?: string;
}

/** Something the answer lacks. A result, not an error. */
export interface Degraded {
  readonly pipeline: string;
  /** The step, or the pipeline's name when the reason is `short`. */
  readonly step: string;
  readonly reason: Exclude<Outcome, "ok" | "off" | "cancelled"> | "short";
  /** What was done instead: the step's policy, or the fallback pipeline. */
  readonly action: "skip" | "empty" | "fallback" | "none";
  readonly message: string;
}

/** Receives one call a step after each request. Must be cheap and must not throw. */
export interface Observer {
  step(pipeline: string, step: string, micros: number, rowsIn: number, rowsOut: number, outcome: Outcome): void;
  /** Once a request: wall microseconds, rows answered, and what was left out. */
  request?(pipeline: string, micros: number, rows: number, degraded: readonly Degraded[]): void;
}
