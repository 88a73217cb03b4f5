// The chain id -> profile -> features -> model -> vector -> nearest elements, in batches: each step is handed in, each may be left out, a run begins with what the caller has and ends where
// it wants. One chain serves a request (one id, top k), a job over a table (many ids, until the vector) and a test of one step.
//
//   const chain = vectorChain({ profile: tableProfiles(...), features: rowsOf, model: userTower, search: films });
//   await chain.run({ ids: ["alice"] }, { count: 10 });                       // answers
//   await chain.run({ ids }, { until: "vectors" });                           // vectors of many
//   await chain.run({ vectors, dims: 64 });                                   // answers of vectors that are there
//
// Invariants: 1. what comes out stands in the order of what went in; a row that a step has nothing for is left out of the later steps and is told by `found`  2. no step is called without rows.
// Cost: that of the steps. Limits: those of the steps; `rowsMax` of one run.

import { MillraceError } from "#base/errors";
import type { SearchOptions, VectorCollection } from "./vector-collection.ts";

export const vectorChainLimits = { rowsMax: 1_000_000 } as const;

/** Rows of numbers; `found[i]` 0: there is none, its numbers are zeros. */
export interface ChainVectors {
  readonly dims: number;
  readonly vectors: Float32Array;
  readonly found: Uint8Array;
}

type Soon<T> = T | Promise<T>;

export interface ChainSteps<Profile, Features> {
  /** What is known of each id; undefined for one of whom nothing is. */
  readonly profile?: (ids: readonly string[]) => Soon<readonly (Profile | undefined)[]>;
  /** What a model sees of a profile; undefined for one that it cannot. */
  readonly features?: (profiles: readonly Profile[]) => Soon<readonly (Features | undefined)[]>;
  /** The vectors of features, row-major. */
  readonly model?: (features: readonly Features[]) => Soon<{ readonly dims: number; readonly vectors: Float32Array }>;
  /** The short way from an id to its vector, in place of the three: a collection of users, or the learned model's (`model:users`). Used where `profile` is not there. */
  readonly vector?: (ids: readonly string[]) => Soon<ChainVectors>;
  readonly search?: Pick<VectorCollection, "search">;
}

export type ChainInput<Profile, Features> =
  | { readonly ids: readonly string[] }
  | { readonly profiles: readonly (Profile | undefined)[] }
  | { readonly features: readonly (Features | undefined)[] }
  | { readonly vectors: Float32Array; readonly dims: number };

export type ChainStep = "profiles" | "features" | "vectors" | "answers";

export interface ChainOptions extends SearchOptions {
  /** The last step. Default "answers". */
  readonly until?: ChainStep;
}

export interface ChainAnswer {
  readonly element: string;
  readonly score: number;
  /** JSON text. */
  readonly attributes?: string;
}

/** What the run came to, step by step; what it did not do is undefined. */
export interface ChainResult<Profile, Features> {
  readonly rows: number;
  /** 1 for rows that came through to the last step. */
  readonly found: Uint8Array;
  readonly profiles?: readonly (Profile | undefined)[];
  readonly features?: readonly (Features | undefined)[];
  readonly vectors?: ChainVectors;
  /** Best first; none for a row without a vector. */
  readonly answers?: readonly (readonly ChainAnswer[])[];
  /** Of the collection, that answered. */
  readonly version?: string;
}

export interface VectorChain<Profile, Features> {
  /** Throws `invalid` for a step that is needed and not there, and what the steps throw. */
  run(input: ChainInput<Profile, Features>, options?: ChainOptions): Promise<ChainResult<Profile, Features>>;
}

const order: readonly ChainStep[] = ["profiles", "features", "vectors", "answers"];

export function vectorChain<Profile, Features>(steps: ChainSteps<Profile, Features>): VectorChain<Profile, Features> {
  return { run: (input, options = {}) => runChain(steps, input, options) };
}

/** Vectors of ids from a collection whose elements are ids: a collection of users, or `model:users`. */
export function vectorsFrom(collection: Pick<VectorCollection, "get">): (ids: readonly string[]) => Promise<ChainVectors> {
  return async (ids) => collection.get(ids);
}

function missingStep(step: string): MillraceError {
  return new MillraceError("invalid", `a chain without the step ${step}`, { todo: "hand it in, begin behind it, or end before it" });
}

function rowsOf<Profile, Features>(input: ChainInput<Profile, Features>): number {
  if ("ids" in input) return input.ids.length;
  if ("profiles" in input) return input.profiles.length;
  if ("features" in input) return input.features.length;
  const rows = input.vectors.length / input.dims;
  if (!Number.isInteger(rows))
    throw new MillraceError("invalid", `${input.vectors.length} numbers as vectors of ${input.dims}`, { todo: "give whole vectors" });
  return rows;
}

async function runChain<Profile, Features>(
  steps: ChainSteps<Profile, Features>,
  input: ChainInput<Profile, Features>,
  { until = "answers", ...search }: ChainOptions,
): Promise<ChainResult<Profile, Features>> {
  const rows = rowsOf(input);
  if (rows > vectorChainLimits.rowsMax) {
    throw new MillraceError("invalid", `a chain of ${rows} rows`, { todo: `run at most ${vectorChainLimits.rowsMax} at once` });
  }
  const goesTo = (step: ChainStep): boolean => order.indexOf(until) >= order.indexOf(step);
  let profiles = "profiles" in input ? input.profiles : undefined;
  let features = "features" in input ? input.features : undefined;
  let vectors: ChainVectors | undefined = "vectors" in input ? { dims: input.dims, vectors: input.vectors, found: new Uint8Array(rows).fill(1) } : undefined;

  if ("ids" in input && (steps.profile !== undefined || !goesTo("vectors") || steps.vector === undefined)) {
    if (steps.profile === undefined) throw missingStep("profile");
    profiles = rows === 0 ? [] : await steps.profile(input.ids);
    checkRows("profile", profiles.length, rows);
  } else if ("ids" in input) {
    vectors = rows === 0 ? { dims: 0, vectors: new Float32Array(0), found: new Uint8Array(0) } : await steps.vector!(input.ids);
    checkRows("vector", vectors.found.length, rows);
  }
  if (profiles !== undefined && goesTo("features")) {
    if (steps.features === undefined) throw missingStep("features");
    features = await spread(profiles, "features", steps.features);
  }
  if (features !== undefined && goesTo("vectors")) {
    if (steps.model === undefined) throw missingStep("model");
    vectors = await modelled(features, steps.model);
  }
  const reached = {
    rows,
    ...(profiles === undefined ? {} : { profiles }),
    ...(features === undefined ? {} : { features }),
    ...(vectors === undefined ? {} : { vectors }),
  };
  if (!goesTo("answers") || vectors === undefined) {
    const last = vectors?.found ?? Uint8Array.from((features ?? profiles ?? []) as readonly unknown[], (one) => Number(one !== undefined));
    return { ...reached, found: last };
  }
  if (steps.search === undefined) throw missingStep("search");
  return { ...reached, found: vectors.found, ...(await answered(vectors, steps.search, search)) };
}

/** `step` over the rows that are there; undefined for the others. */
async function spread<A, B>(
  given: readonly (A | undefined)[],
  name: string,
  step: (rows: readonly A[]) => Soon<readonly (B | undefined)[]>,
): Promise<(B | undefined)[]> {
  const there = given.filter((one) => one !== undefined);
  const made = there.length === 0 ? [] : await step(there);
  checkRows(name, made.length, there.length);
  let next = 0;
  return given.map((one) => (one === undefined ? undefined : made[next++]));
}

async function modelled<Features>(
  features: readonly (Features | undefined)[],
  model: (features: readonly Features[]) => Soon<{ readonly dims: number; readonly vectors: Float32Array }>,
): Promise<ChainVectors> {
  const found = Uint8Array.from(features, (one) => Number(one !== undefined));
  const there = features.filter((one) => one !== undefined);
  if (there.length === 0) return { dims: 0, vectors: new Float32Array(0), found };
  const { dims, vectors } = await model(there);
  checkRows("model", vectors.length / dims, there.length);
  if (there.length === features.length) return { dims, vectors, found };
  const all = new Float32Array(features.length * dims);
  let next = 0;
  for (const [row, is] of found.entries()) if (is === 1) all.set(vectors.subarray(next * dims, ++next * dims), row * dims);
  return { dims, vectors: all, found };
}

async function answered(
  { dims, vectors, found }: ChainVectors,
  collection: Pick<VectorCollection, "search">,
  options: SearchOptions,
): Promise<{ answers: ChainAnswer[][]; version: string }> {
  const rows = [...found.keys()].filter((row) => found[row] === 1);
  const answers: ChainAnswer[][] = Array.from(found, () => []);
  if (rows.length === 0) return { answers, version: "" };
  const queries = rows.length === found.length ? vectors : new Float32Array(rows.length * dims);
  if (queries !== vectors) for (const [q, row] of rows.entries()) queries.set(vectors.subarray(row * dims, (row + 1) * dims), q * dims);
  const { from, elements, scores, attributes, version } = await collection.search(queries, options);
  for (const [q, row] of rows.entries()) {
    for (let i = from[q]!; i < from[q + 1]!; i++) {
      const its = attributes?.[i];
      answers[row]!.push({ element: elements[i]!, score: scores[i]!, ...(its === undefined ? {} : { attributes: its }) });
    }
  }
  return { answers, version };
}

function checkRows(step: string, got: number, rows: number): void {
  if (got !== rows)
    throw new MillraceError("invalid", `the step ${step} gave ${got} rows for ${rows}`, { todo: "give one for each, undefined where there is none" });
}
