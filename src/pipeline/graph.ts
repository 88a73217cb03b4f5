// A pipeline as data (plain JSON, for the console and for comparing versions) and as Mermaid text.

import type { ColumnType, MergeRule } from "./column.ts";
import type { Plan, PlanStep, StepKind } from "./plan.ts";
import type { OnError } from "./policy.ts";

export interface GraphNode {
  /** The step's name, unique in the pipeline. */
  readonly id: string;
  readonly kind: StepKind;
  /** Stages run one after the other, from 1; nodes of one stage run in parallel. */
  readonly stage: number;
  /** Nodes that run in parallel have the same group, the others have none. */
  readonly group?: number;
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  readonly policy: {
    readonly onError: OnError;
    readonly timeoutMs?: number;
    readonly quota?: number;
    /** True when the step runs only under a condition. */
    readonly conditional?: true;
    readonly optional?: true;
    readonly note?: string;
  };
  /** Selectors: rows kept; `request` when computed per request. */
  readonly k?: number | "request";
}

export interface GraphColumn {
  readonly name: string;
  readonly type: ColumnType;
  readonly default: number | string;
  readonly merge: MergeRule;
  readonly writtenBy: readonly string[];
  readonly readBy: readonly string[];
}

export interface GraphWarning {
  readonly step: string;
  readonly column: string;
  readonly message: string;
}

export interface Graph {
  readonly pipeline: string;
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly { readonly from: string; readonly to: string }[];
  readonly columns: readonly GraphColumn[];
  readonly warnings: readonly GraphWarning[];
  readonly fallback?: Graph;
}

function nodeOf(step: PlanStep, groupSize: number): GraphNode {
  return {
    id: step.name,
    kind: step.kind,
    stage: step.stage,
    ...(groupSize > 1 ? { group: step.stage } : {}),
    reads: [...step.reads.keys()],
    writes: step.kind === "source" ? ["id", ...step.writes.keys()] : [...step.writes.keys()],
    policy: {
      onError: step.onError,
      ...(step.timeoutMs === undefined ? {} : { timeoutMs: step.timeoutMs }),
      ...(step.quota === undefined ? {} : { quota: step.quota }),
      ...(step.when === undefined ? {} : { conditional: true as const }),
      ...(step.optional ? { optional: true as const } : {}),
      ...(step.note === undefined ? {} : { note: step.note }),
    },
    ...(step.k === undefined ? {} : { k: typeof step.k === "number" ? step.k : ("request" as const) }),
  };
}

/** Writes that no later step reads and no result names: work for nothing, or a forgotten step. */
function deadWrites(plan: Plan, steps: readonly PlanStep[]): GraphWarning[] {
  const warnings: GraphWarning[] = [];
  for (const step of steps) {
    for (const [name, column] of step.writes) {
      if (name === "score" || (plan.outputNamed && plan.output.includes(name))) continue;
      if (steps.some((later) => later.stage > step.stage && [...later.reads.values()].includes(column))) continue;
      warnings.push({
        step: step.name,
        column: name,
        message: `step ${step.name} writes column ${name} and no later step reads it: remove it, or name it in build({ output })`,
      });
    }
  }
  return warnings;
}

export function graphOf(plan: Plan, fallback: Graph | undefined): Graph {
  const steps = plan.stages.flatMap((s) => s.steps);
  return {
    pipeline: plan.name,
    nodes: plan.stages.flatMap((stage) => stage.steps.map((step) => nodeOf(step, stage.steps.length))),
    edges: plan.stages.slice(1).flatMap((stage, i) => plan.stages[i]!.steps.flatMap((from) => stage.steps.map((to) => ({ from: from.name, to: to.name })))),
    columns: plan.columns.map((column) => ({
      name: column.name,
      type: column.type,
      default: column.default,
      merge: column.merge,
      writtenBy: steps.filter((s) => [...s.writes.values()].includes(column.index)).map((s) => s.name),
      readBy: steps.filter((s) => [...s.reads.values()].includes(column.index)).map((s) => s.name),
    })),
    warnings: deadWrites(plan, steps),
    ...(fallback === undefined ? {} : { fallback }),
  };
}

function labelOf(node: GraphNode): string {
  const lines = [`${node.kind}: ${node.id}${node.k === undefined ? "" : ` (k ${node.k})`}`];
  const policy = [
    ...(node.policy.quota === undefined ? [] : [`quota ${node.policy.quota}`]),
    ...(node.policy.timeoutMs === undefined ? [] : [`${node.policy.timeoutMs} ms`]),
    ...(node.policy.onError === "fail" ? [] : [`on error ${node.policy.onError}`]),
    ...(node.policy.conditional === true ? ["conditional"] : []),
  ];
  if (policy.length > 0) lines.push(policy.join(", "));
  // Mermaid reads quotes, brackets and ampersands as syntax; its own escape is the entity.
  return lines.map((line) => line.replace(/[&"<>#]/g, (c) => `#${c.charCodeAt(0)};`)).join("<br/>");
}

/** Mermaid flowchart text; parallel steps stand side by side, the fallback hangs on a dotted edge. */
export function mermaidOf(graph: Graph): string {
  const lines = ["flowchart TD"];
  const draw = (g: Graph, prefix: string): void => {
    const key = new Map(g.nodes.map((node, i) => [node.id, `${prefix}${i}`]));
    for (const node of g.nodes) lines.push(`  ${key.get(node.id)!}["${labelOf(node)}"]`);
    for (const edge of g.edges) lines.push(`  ${key.get(edge.from)!} --> ${key.get(edge.to)!}`);
    lines.push(`  ${prefix}end(["${g.pipeline.replace(/[&"<>#]/g, (c) => `#${c.charCodeAt(0)};`)}"])`);
    const last = g.nodes.at(-1)?.stage;
    for (const node of g.nodes) if (node.stage === last) lines.push(`  ${key.get(node.id)!} --> ${prefix}end`);
    if (g.fallback !== undefined) {
      draw(g.fallback, `${prefix}f`);
      lines.push(`  ${prefix}fend -.->|fallback| ${prefix}end`);
    }
  };
  draw(graph, "n");
  return lines.join("\n");
}
