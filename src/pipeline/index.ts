// The face of the pipeline room: declare steps, build a flow, run it. docs/design/pipeline.md begins with an example.

export type { ColumnSpec, ColumnSpecs, ColumnType, ColumnTypes, MergeRule, ReadType, Reads } from "./column.ts";
export type { Why } from "./explain.ts";
export { Defect } from "./flight.ts";
export { type BaseColumns, type BuildOptions, type Built, type Count, type Flow, pipeline } from "./flow.ts";
export type { Graph, GraphColumn, GraphNode, GraphWarning } from "./graph.ts";
export { type PipelineLimits, pipelineLimits, sourcesMax, stepsMax } from "./limits.ts";
export type { FallbackPolicy, FilterPolicy, OnError, Policy, RecallPolicy } from "./policy.ts";
export { type Result, type RunOptions, Runner, type RunnerOptions } from "./run.ts";
export { topK, topRows } from "./select-top.ts";
export { type WindowRule, windowed } from "./select-window.ts";
export {
  type Batch,
  type Emitted,
  type Filter,
  type Hydrate,
  type Score,
  type Select,
  type SelectContext,
  type Source,
  type SourceContext,
  type StepContext,
  filter,
  hydrate,
  score,
  select,
  source,
} from "./step.ts";
export type { Degraded, Observer, Outcome, StepTrace } from "./trace.ts";
