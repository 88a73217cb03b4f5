// The typed builder: `pipeline<Req>("home").recall([...]).filter(...).score(...).select(20, topK()).fallback(popular).build()`.
// Why types and not only a check at run time: "is this column there yet?" is the commonest mistake in a recommender, and here it does not compile.
// A flow is a value: each call returns a new flow and leaves the old one as it was, so a common beginning can be shared.
// The same rules are checked again by plan.ts when `build` is called, for callers without types and for flows that come from data.

import type { ColumnSpecs, ColumnTypes, ReadType, Reads, TypesOf } from "./column.ts";
import { type Declaration, type Plan, compilePlan } from "./plan.ts";
import { type Graph, graphOf, mermaidOf } from "./graph.ts";
import type { FallbackPolicy, FilterPolicy, Policy, RecallPolicy } from "./policy.ts";
import type { Filter, Hydrate, Score, Select, Source, StepContext } from "./step.ts";

/** Columns every flow has: the item handle, the score (0 until somebody writes it), and which sources brought the row (bit i = i-th source). */
export type BaseColumns = { readonly id: "u32"; readonly score: "f32"; readonly sources: "u32" };

type Missing<Have extends ColumnTypes, In extends Reads> = Exclude<keyof In, keyof Have>;
type Mistyped<Have extends ColumnTypes, In extends Reads> = {
  [K in keyof In & keyof Have]: In[K] extends "any" ? never : [Have[K]] extends [In[K]] ? never : K;
}[keyof In & keyof Have];

/** Nothing when the flow has all columns of `In`; else an object type no step has, whose key is the message the compiler prints. */
type CheckReads<Have extends ColumnTypes, In extends Reads> = [Missing<Have, In>] extends [never]
  ? [Mistyped<Have, In>] extends [never]
    ? unknown
    : { readonly "this step reads a column that was written with another type": Mistyped<Have, In> }
  : { readonly "this step reads a column nobody wrote before it": Missing<Have, In> };

type Rewritten<Have extends ColumnTypes, Out extends ColumnSpecs> = {
  [K in keyof Out & keyof Have]: [TypesOf<Out>[K]] extends [Have[K]] ? never : K;
}[keyof Out & keyof Have];
type CheckWrites<Have extends ColumnTypes, Out extends ColumnSpecs> = [Rewritten<Have, Out>] extends [never]
  ? unknown
  : { readonly "this step writes a column that was written before it with another type": Rewritten<Have, Out> };

type IsUnion<T, U = T> = [T] extends [never] ? false : T extends unknown ? ([U] extends [T] ? false : true) : never;
type SourceColumns<W> = W extends ColumnSpecs ? keyof W : never;
type TypeIn<W, K> = W extends ColumnSpecs ? (K extends keyof W ? TypesOf<W>[K] : never) : never;
/** The columns that a union of source declarations writes; a column on whose type they disagree gets a union type. */
type UnionColumns<W> = { readonly [K in SourceColumns<W>]: TypeIn<W, K> };
type Disagreed<C> = { [K in keyof C]: IsUnion<C[K]> extends true ? K : never }[keyof C];
type CheckSources<Have extends ColumnTypes, W> = [Disagreed<UnionColumns<W>>] extends [never]
  ? [Disagreed<{ [K in keyof UnionColumns<W> & keyof Have]: UnionColumns<W>[K] | Have[K] }>] extends [never]
    ? unknown
    : {
        readonly "a source writes a column that was written before it with another type": Disagreed<{
          [K in keyof UnionColumns<W> & keyof Have]: UnionColumns<W>[K] | Have[K];
        }>;
      }
  : { readonly "two sources write the same column with different types": Disagreed<UnionColumns<W>> };

type Flat<T> = { readonly [K in keyof T]: T[K] };
type Plus<Have extends ColumnTypes, More> = Flat<Have & Omit<More, keyof Have>> extends infer C extends ColumnTypes ? C : never;

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- sources of one recall differ in their columns; the columns are checked by CheckSources
type AnySource<R> = Source<R, any, string>;

/** k as a number, or computed per request (for example from the page size asked for). */
export type Count<R> = number | ((ctx: StepContext<R>) => number);

/** A finished pipeline: immutable, without a store or a clock of its own. A runner runs it (run.ts). */
export interface Built<R, C extends ColumnTypes = ColumnTypes> {
  readonly name: string;
  /** The pipeline as data: nodes, edges, columns, warnings. Plain JSON. */
  readonly graph: Graph;
  /** The graph as Mermaid flowchart text. */
  mermaid(): string;
  readonly plan: Plan;
  /** Types only, never present: a pipeline for R cannot be given another request, and its result has columns C. */
  readonly "~types"?: { readonly request: (req: R) => void; readonly columns: C };
}

export interface BuildOptions<Have extends ColumnTypes> {
  /** Columns the result carries beside id, score and sources. Default: all. */
  readonly output?: readonly (keyof Have & string)[];
}

export interface Flow<R, Have extends ColumnTypes> {
  /** Asks all sources in parallel and merges their rows by id. Comes before every other kind of step; several recalls run one after the other. */
  recall<const S extends readonly AnySource<R>[]>(
    sources: S & CheckSources<Have, S[number]["writes"]>,
    policy?: RecallPolicy<R, S[number]["name"]>,
  ): Flow<R, Plus<Have, UnionColumns<S[number]["writes"]>>>;
  hydrate<In extends Reads, Out extends ColumnSpecs>(
    step: Hydrate<R, In, Out> & CheckReads<Have, In> & CheckWrites<Have, Out>,
    policy?: Policy<R>,
  ): Flow<R, Plus<Have, TypesOf<Out>>>;
  filter<In extends Reads>(step: Filter<R, In> & CheckReads<Have, In>, policy?: FilterPolicy<R>): Flow<R, Have>;
  score<In extends Reads, Out extends ColumnSpecs>(
    step: Score<R, In, Out> & CheckReads<Have, In> & CheckWrites<Have, Out>,
    policy?: Policy<R>,
  ): Flow<R, Plus<Have, TypesOf<Out>>>;
  /** Keeps the k rows the selector chooses, in its order. The k of the last select is what the fallback fills up to. */
  select<In extends Reads>(k: Count<R>, step: Select<R, In> & CheckReads<Have, In>, policy?: Policy<R>): Flow<R, Have>;
  /** The pipeline that answers when this one fails, runs out of time, or finds fewer rows than asked for. */
  fallback(built: Built<R>, policy?: FallbackPolicy): Flow<R, Have>;
  /** Checks the whole flow. Throws `invalid` with the step and the column when it does not fit together. */
  build(options?: BuildOptions<Have>): Built<R, Have>;
}

interface FallbackDeclaration {
  readonly plan: Plan;
  readonly graph: Graph;
  readonly policy: FallbackPolicy;
}

// The untyped flow behind all typed ones. Its methods mirror `Flow`; what the types promise is checked again by compilePlan.
function flowOf(name: string, declarations: readonly Declaration[], fallback: FallbackDeclaration | undefined): unknown {
  const add = (declaration: Declaration): unknown => flowOf(name, [...declarations, declaration], fallback);
  return {
    recall: (sources: readonly Source<unknown, ColumnSpecs>[], policy: RecallPolicy<unknown, string> = {}) => add({ kind: "recall", sources, policy }),
    hydrate: (step: Hydrate<unknown, Reads, ColumnSpecs>, policy: Policy = {}) => add({ kind: "hydrate", step, policy }),
    filter: (step: Filter<unknown, Reads>, policy: FilterPolicy = {}) => add({ kind: "filter", step, policy }),
    score: (step: Score<unknown, Reads, ColumnSpecs>, policy: Policy = {}) => add({ kind: "score", step, policy }),
    select: (k: Count<unknown>, step: Select<unknown, Reads>, policy: Policy = {}) => add({ kind: "select", k, step, policy }),
    fallback: (built: Built<unknown>, policy: FallbackPolicy = {}) => flowOf(name, declarations, { plan: built.plan, graph: built.graph, policy }),
    build: (options: { readonly output?: readonly string[] } = {}): Built<unknown> => {
      const plan = compilePlan(name, declarations, fallback, options.output);
      const graph = graphOf(plan, fallback?.graph);
      return Object.freeze({ name, plan, graph, mermaid: () => mermaidOf(graph) });
    },
  };
}

/** Begins a pipeline for requests of type R. The name stands in metrics and traces. */
export function pipeline<R>(name: string): Flow<R, BaseColumns> {
  return flowOf(name, [], undefined) as Flow<R, BaseColumns>;
}

export type { ReadType };
