// Policy: what a flow says beside a step about time, failure and conditions. Degrading lives here, as data, and not in the code of steps.

import type { StepContext } from "./step.ts";

/**
 * What a failure (a throw, a rejection, a timeout) of a step does:
 * - `fail`: the flow ends and the fallback answers, or the request fails when there is none.
 * - `skip`: as if the step were not there. A source brings nothing, a filter keeps all, a writer leaves its columns as they were (their declared defaults
 *   when nobody wrote them), a selector is replaced by the plain top k. Counted as degraded.
 * - `empty`: a source brings nothing; any other step leaves no row, so that the fallback answers. Counted as degraded.
 */
export type OnError = "fail" | "skip" | "empty";

export interface Policy<R = unknown> {
  /** Most milliseconds an asynchronous step may take. Default: what is left of the request's time. A synchronous step cannot be interrupted. */
  readonly timeoutMs?: number;
  /** Default `fail`. */
  readonly onError?: OnError;
  /** Runs the step only when true. A step left out on purpose is not counted as degraded. Must be cheap. */
  readonly when?: (ctx: StepContext<R>) => boolean;
  /** Shown in the graph and in the trace. */
  readonly note?: string;
}

export interface FilterPolicy<R = unknown> extends Policy<R> {
  /** True: rows of the fallback need not pass this filter. Default false: they must. */
  readonly optional?: boolean;
}

export interface RecallPolicy<R, N extends string> extends Policy<R> {
  /** Most rows kept of a source, by source name. Default: the batch limit. */
  readonly quota?: { readonly [K in N]?: number };
  /** Policy of one source where it differs from that of the whole recall, by source name. */
  readonly each?: { readonly [K in N]?: Policy<R> };
}

export interface FallbackPolicy {
  /**
   * Milliseconds kept for the fallback at the end of the request's time: the flow itself must end that much earlier, and a fallback that begins late gets at
   * least so much. Default: a fifth of the request's time.
   */
  readonly reserveMs?: number;
}
