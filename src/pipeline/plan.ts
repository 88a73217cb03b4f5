// The compiled form of a flow: columns numbered, steps grouped into stages, parallel groups decided, the fallback joined with the filters its rows must pass.
// Why a compile step: everything a request would otherwise look up by name (columns, defaults, merge rules, quotas) is an array index by the time it runs.
// Invariants: 1. recalls come first  2. every column read was written by an earlier stage, with the type read  3. step names are unique in a pipeline
//             4. steps of one stage run in parallel and none writes a column that another one of the stage reads or writes
//             5. the plan of a fallback begins with its own recalls and then has every non-optional filter of the flows it stands in for.
// Plans are immutable and hold no request state: one plan serves any number of requests in flight.

import { MillraceError } from "#base/errors";
import type { ColumnSpec, ColumnSpecs, ColumnType, MergeRule, ReadType, Reads } from "./column.ts";
import { sourcesMax, stepsMax } from "./limits.ts";
import type { FallbackPolicy, FilterPolicy, OnError, Policy, RecallPolicy } from "./policy.ts";
import type { Filter, Hydrate, Score, Select, Source, StepContext } from "./step.ts";

export type StepKind = "source" | "hydrate" | "filter" | "score" | "select";

/** What the builder collected, in order. */
export type Declaration =
  | { readonly kind: "recall"; readonly sources: readonly Source<unknown, ColumnSpecs>[]; readonly policy: RecallPolicy<unknown, string> }
  | { readonly kind: "hydrate"; readonly step: Hydrate<unknown, Reads, ColumnSpecs>; readonly policy: Policy }
  | { readonly kind: "filter"; readonly step: Filter<unknown, Reads>; readonly policy: FilterPolicy }
  | { readonly kind: "score"; readonly step: Score<unknown, Reads, ColumnSpecs>; readonly policy: Policy }
  | { readonly kind: "select"; readonly k: number | ((ctx: StepContext<unknown>) => number); readonly step: Select<unknown, Reads>; readonly policy: Policy };

export interface PlanColumn {
  readonly index: number;
  readonly name: string;
  readonly type: ColumnType;
  readonly default: number | string;
  readonly merge: MergeRule;
}

export interface PlanStep {
  readonly kind: StepKind;
  readonly name: string;
  /** The pipeline the step was declared in: another one than the plan's for a filter that guards a fallback. */
  readonly pipeline: string;
  readonly stage: number;
  readonly timeoutMs: number | undefined;
  readonly onError: OnError;
  readonly when: ((ctx: StepContext<unknown>) => boolean) | undefined;
  readonly note: string | undefined;
  readonly optional: boolean;
  /** Declared name of each readable column -> its number. */
  readonly reads: ReadonlyMap<string, number>;
  /** Declared name of each written column -> its number. */
  readonly writes: ReadonlyMap<string, number>;
  /** Sources only: number of the source, which is its bit in the column `sources`. */
  readonly source: number;
  /** Sources only: most rows kept. */
  readonly quota: number | undefined;
  /** Selectors only. */
  readonly k: number | ((ctx: StepContext<unknown>) => number) | undefined;
  readonly run: (...args: never[]) => unknown;
}

export interface PlanStage {
  readonly kind: "recall" | "hydrate" | "filter" | "score" | "select";
  readonly number: number;
  readonly steps: readonly PlanStep[];
}

export interface Plan {
  readonly name: string;
  readonly declarations: readonly Declaration[];
  readonly columns: readonly PlanColumn[];
  readonly byName: ReadonlyMap<string, PlanColumn>;
  readonly stages: readonly PlanStage[];
  /** Names of the sources by number. */
  readonly sources: readonly string[];
  /** By column: bits of the sources that write it. */
  readonly sourceBits: readonly number[];
  /** Stage of the last select; its k is what the fallback fills up to. Undefined without a select. */
  readonly lastSelect: number | undefined;
  readonly fallback: { readonly plan: Plan; readonly policy: FallbackPolicy } | undefined;
  /** Names of the columns the result carries. */
  readonly output: readonly string[];
  /** Whether `output` was named by the builder. */
  readonly outputNamed: boolean;
}

export const idColumn = 0;
export const scoreColumn = 1;
export const sourcesColumn = 2;

const baseColumns: readonly PlanColumn[] = [
  { index: idColumn, name: "id", type: "u32", default: 0, merge: "first" },
  { index: scoreColumn, name: "score", type: "f32", default: 0, merge: "max" },
  { index: sourcesColumn, name: "sources", type: "u32", default: 0, merge: "first" },
];

function invalid(pipeline: string, what: string, todo: string): MillraceError {
  return new MillraceError("invalid", `pipeline ${pipeline}: ${what}`, { todo });
}

/** A step of another flow that rows of this fallback must pass, and the columns of that flow. */
interface Guard {
  readonly pipeline: string;
  readonly declaration: Exclude<Declaration, { kind: "recall" | "select" }>;
  readonly columns: ReadonlyMap<string, PlanColumn>;
}

class ColumnRegistry {
  readonly #pipeline: string;
  readonly columns: PlanColumn[] = [...baseColumns];
  readonly byName = new Map<string, PlanColumn>(baseColumns.map((c) => [c.name, c]));
  readonly sourceBits: number[] = baseColumns.map(() => 0);

  constructor(pipeline: string) {
    this.#pipeline = pipeline;
  }

  write(name: string, spec: ColumnSpec, by: string): PlanColumn {
    const wanted: { readonly type: ColumnType; readonly default?: number | string; readonly merge?: MergeRule } =
      typeof spec === "string" ? { type: spec } : spec;
    const known = this.byName.get(name);
    if (known === undefined) {
      const isText = wanted.type === "str";
      const value = wanted.default ?? (isText ? "" : 0);
      const merge = wanted.merge ?? (isText ? "first" : "max");
      if ((typeof value === "string") !== isText) throw this.#refuse(name, by, `has a default of type ${typeof value}`, "give a default of the column's type");
      if (isText && merge !== "first") throw this.#refuse(name, by, `merges text by ${merge}`, "text merges by first only");
      return this.add({ name, type: wanted.type, default: value, merge });
    }
    if (known.type !== wanted.type) throw this.#refuse(name, by, `is ${wanted.type} here and ${known.type} before`, "use one type, or another name");
    if (wanted.default !== undefined && wanted.default !== known.default) {
      throw this.#refuse(name, by, "has another default than before", "declare one default, or use another name");
    }
    if (wanted.merge !== undefined && wanted.merge !== known.merge) {
      throw this.#refuse(name, by, "has another merge rule than before", "declare one merge rule, or use another name");
    }
    return known;
  }

  add(column: Omit<PlanColumn, "index">): PlanColumn {
    const added = { ...column, index: this.columns.length };
    this.columns.push(added);
    this.byName.set(column.name, added);
    this.sourceBits.push(0);
    return added;
  }

  read(name: string, type: ReadType, by: string): PlanColumn {
    const known = this.byName.get(name);
    if (known === undefined) throw this.#refuse(name, by, "was written by nobody before it", "put a step that writes it earlier, or correct the name");
    if (type !== "any" && known.type !== type)
      throw this.#refuse(name, by, `is read as ${type} and was written as ${known.type}`, "read it with the type written");
    return known;
  }

  #refuse(name: string, by: string, what: string, todo: string): MillraceError {
    return invalid(this.#pipeline, `column ${name} of step ${by} ${what}`, todo);
  }
}

/**
 * The steps of a flow that rows of its fallback have to go through: every non-optional filter, and before it each step that writes a column it needs.
 */
function guardsOf(pipeline: string, declarations: readonly Declaration[], columns: ReadonlyMap<string, PlanColumn>): Guard[] {
  const needed = new Set<string>();
  const guards: Guard[] = [];
  for (const declaration of [...declarations].reverse()) {
    if (declaration.kind === "recall" || declaration.kind === "select") continue;
    const isNeeded =
      declaration.kind === "filter" ? declaration.policy.optional !== true : Object.keys(declaration.step.writes).some((name) => needed.has(name));
    if (!isNeeded) continue;
    for (const name of Object.keys(declaration.step.reads)) needed.add(name);
    guards.push({ pipeline, declaration, columns });
  }
  return guards.reverse();
}

function assemble(
  name: string,
  declarations: readonly Declaration[],
  guards: readonly Guard[],
  fallback: { readonly plan: Plan; readonly policy: FallbackPolicy } | undefined,
  output: readonly string[] | undefined,
): Plan {
  const registry = new ColumnRegistry(name);
  const stages: PlanStage[] = [];
  const sources: string[] = [];
  const stepNames = new Set<string>();
  let lastSelect: number | undefined;

  const base = (step: { readonly name: string }, policy: Policy, pipeline: string) => {
    const key = pipeline === name ? step.name : `${pipeline}/${step.name}`;
    if (stepNames.has(key)) throw invalid(name, `two steps are called ${key}`, "give each step its own name, since traces and metrics use it");
    stepNames.add(key);
    if (stepNames.size > stepsMax) throw invalid(name, `has more than ${stepsMax} steps`, "join steps or split the pipeline");
    if (policy.timeoutMs !== undefined && !(policy.timeoutMs > 0)) throw invalid(name, `timeoutMs of step ${key} is not above 0`, "give milliseconds above 0");
    return {
      name: step.name,
      pipeline,
      timeoutMs: policy.timeoutMs,
      onError: policy.onError ?? "fail",
      when: policy.when,
      note: policy.note,
      optional: false,
      reads: new Map<string, number>(),
      writes: new Map<string, number>(),
      source: -1,
      quota: undefined,
      k: undefined,
    };
  };

  const addRecall = (declaration: Extract<Declaration, { kind: "recall" }>): void => {
    if (stages.some((s) => s.kind !== "recall"))
      throw invalid(name, "a recall stands after another kind of step", "put all recalls first, so that every row passes every filter");
    if (declaration.sources.length === 0) throw invalid(name, "a recall has no source", "name at least one source");
    const { quota = {}, each = {}, ...shared } = declaration.policy;
    for (const key of [...Object.keys(quota), ...Object.keys(each)]) {
      if (!declaration.sources.some((s) => s.name === key))
        throw invalid(name, `the recall policy names ${key}, which is none of its sources`, "use the name of a source");
    }
    const steps = declaration.sources.map((source): PlanStep => {
      const index = sources.push(source.name) - 1;
      if (index >= sourcesMax) throw invalid(name, `has more than ${sourcesMax} sources`, "join sources");
      const limit = quota[source.name];
      if (limit !== undefined && !(Number.isInteger(limit) && limit >= 0))
        throw invalid(name, `the quota of ${source.name} is no count`, "give a whole number of rows");
      const writes = new Map<string, number>();
      for (const [column, spec] of Object.entries(source.writes)) {
        if (column === "id" || column === "sources") throw invalid(name, `source ${source.name} declares ${column}`, "leave it out, the framework writes it");
        const written = registry.write(column, spec, source.name);
        registry.sourceBits[written.index] = (registry.sourceBits[written.index]! | (1 << index)) >>> 0;
        writes.set(column, written.index);
      }
      return {
        ...base(source, { ...shared, ...each[source.name] }, name),
        kind: "source",
        stage: stages.length + 1,
        writes,
        source: index,
        quota: limit,
        run: source.run,
      };
    });
    stages.push({ kind: "recall", number: stages.length + 1, steps });
  };

  const addStep = (declaration: Exclude<Declaration, { kind: "recall" }>, guard?: Guard): void => {
    const { kind, step, policy } = declaration;
    const pipeline = guard?.pipeline ?? name;
    // The score of a guarding flow is kept apart, so that scoring a fallback's rows for a filter does not overwrite the fallback's own scores.
    const local = (column: string): string => (guard !== undefined && column === "score" ? `${guard.pipeline}/score` : column);
    const reads = new Map<string, number>();
    for (const [column, type] of Object.entries(step.reads)) {
      const owner = guard?.columns.get(column);
      // A column that only the sources of the guarding flow write has its default here, as it has for rows of another source.
      if (owner !== undefined) registry.write(local(column), specOf(owner), step.name);
      reads.set(column, registry.read(local(column), type, step.name).index);
    }
    const writes = new Map<string, number>();
    if (kind === "hydrate" || kind === "score") {
      for (const [column, spec] of Object.entries(step.writes)) {
        if (column === "id" || column === "sources") throw invalid(name, `step ${step.name} writes ${column}`, "leave it out, the framework writes it");
        const owner = guard?.columns.get(column);
        writes.set(column, registry.write(local(column), owner === undefined ? spec : specOf(owner), step.name).index);
      }
    }
    const last = stages.at(-1);
    const joins = kind === "hydrate" && last?.kind === "hydrate" && isIndependent(last.steps, reads, writes);
    const number = joins ? last.number : stages.length + 1;
    const planned: PlanStep = {
      ...base(step, policy, pipeline),
      kind,
      stage: number,
      optional: kind === "filter" && policy.optional === true,
      reads,
      writes,
      k: kind === "select" ? declaration.k : undefined,
      run: step.run,
    };
    if (joins) stages[number - 1] = { ...last, steps: [...last.steps, planned] };
    else stages.push({ kind, number, steps: [planned] });
    if (kind === "select") {
      lastSelect = number;
      if (typeof declaration.k === "number" && !(Number.isInteger(declaration.k) && declaration.k >= 0)) {
        throw invalid(name, `k of select ${step.name} is no count`, "give a whole number of rows");
      }
    }
  };

  let guarded = false;
  const addGuards = (): void => {
    if (guarded) return;
    guarded = true;
    for (const guard of guards) addStep(guard.declaration, guard);
  };
  for (const declaration of declarations) {
    if (declaration.kind === "recall") addRecall(declaration);
    else {
      if (stages.length === 0) throw invalid(name, `step ${declaration.step.name} stands before any recall`, "begin with recall([...])");
      addGuards();
      addStep(declaration);
    }
  }
  if (stages.length === 0) throw invalid(name, "has no recall", "begin with recall([...])");
  addGuards();
  for (const column of output ?? []) if (!registry.byName.has(column)) throw invalid(name, `output names ${column}, which nobody writes`, "correct the name");

  return {
    name,
    declarations,
    columns: registry.columns,
    byName: registry.byName,
    stages,
    sources,
    sourceBits: registry.sourceBits,
    lastSelect,
    fallback:
      fallback === undefined
        ? undefined
        : {
            policy: fallback.policy,
            plan: assemble(
              fallback.plan.name,
              fallback.plan.declarations,
              [...guards, ...guardsOf(name, declarations, registry.byName)],
              fallback.plan.fallback === undefined ? undefined : { policy: fallback.plan.fallback.policy, plan: fallback.plan.fallback.plan },
              undefined,
            ),
          },
    output: output ?? registry.columns.map((c) => c.name),
    outputNamed: output !== undefined,
  };
}

function specOf(column: PlanColumn): ColumnSpec {
  return { type: column.type, default: column.default, merge: column.merge } as ColumnSpec;
}

function isIndependent(group: readonly PlanStep[], reads: ReadonlyMap<string, number>, writes: ReadonlyMap<string, number>): boolean {
  const written = new Set(writes.values());
  const touched = new Set([...reads.values(), ...written]);
  for (const step of group) {
    for (const column of step.writes.values()) if (touched.has(column)) return false;
    for (const column of step.reads.values()) if (written.has(column)) return false;
  }
  return true;
}

/** Compiles a flow. Throws `invalid` naming the step and the column that do not fit. */
export function compilePlan(
  name: string,
  declarations: readonly Declaration[],
  fallback: { readonly plan: Plan; readonly policy: FallbackPolicy } | undefined,
  output: readonly string[] | undefined,
): Plan {
  return assemble(name, declarations, [], fallback, output);
}
