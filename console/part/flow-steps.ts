// The steps of a pipeline in the order in which they run, with what they did lately: the graph of GET /v1/pipelines beside the work of GET /v1/status.

import type { StatusAnswer } from "#wire/api";

export interface Graph {
  readonly name: string;
  readonly nodes: readonly {
    readonly id: string;
    readonly kind: string;
    /** Nodes of one stage do not depend on one another. */
    readonly stage?: number;
    readonly reads?: readonly string[];
    readonly writes?: readonly string[];
  }[];
}

type Work = StatusAnswer["work"][number];

export interface Figures {
  /** Means of one run. */
  readonly rowsIn: number;
  readonly rowsOut: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly errors: number;
}

export interface Step {
  readonly id: string;
  readonly kind: string;
  readonly stage: number;
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  /** Undefined: has not run. */
  readonly figures: Figures | undefined;
}

/** Sums since the start are means times runs, so the mean of the runs since `before` is a difference of sums. */
function lately(now: Work["steps"][number], before: Work["steps"][number] | undefined): Figures {
  const runs = now.count - (before?.count ?? 0);
  const mean = (field: "rowsIn" | "rowsOut"): number =>
    before === undefined || runs <= 0 ? now[field] : Math.max(0, (now[field] * now.count - before[field] * before.count) / runs);
  return { rowsIn: mean("rowsIn"), rowsOut: mean("rowsOut"), p50Ms: now.p50Ms, p99Ms: now.p99Ms, errors: now.errors };
}

export function stepsOf(graph: Graph, work: Work | undefined, before: Work | undefined): Step[] {
  const figuresOf = (id: string): Figures | undefined => {
    const now = work?.steps.find(({ step }) => step === id);
    return now === undefined
      ? undefined
      : lately(
          now,
          before?.steps.find(({ step }) => step === id),
        );
  };
  const steps: Step[] = [];
  for (const [at, { id, kind, stage = at, reads = [], writes = [] }] of graph.nodes.entries()) {
    steps.push({ id, kind, stage, reads, writes, figures: figuresOf(id) });
    // Several sources of one stage are merged by a step that stands in no declaration.
    const next = graph.nodes[at + 1];
    const merge = figuresOf(`merge ${stage}`);
    if (kind === "source" && (next === undefined || next.stage !== stage) && merge !== undefined) {
      steps.push({ id: `merge ${stage}`, kind: "merge", stage: stage + 0.5, reads: [], writes: [], figures: merge });
    }
  }
  return steps;
}
