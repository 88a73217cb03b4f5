// What the page *Vectors* knows: collections and the tasks that build them, asked for every two seconds while the page is looked at (more often after a change and while something is built),
// and what was searched and written in between.
// Invariants: 1. those of rounds.ts  2. a difference of counts is taken only within one process of the server  3. at most `samplesMax` rounds are kept
// 4. a server that builds nothing (no section `vectors`) still shows the collections that it has.

import type { CollectionStatus, VectorsStatus } from "#vectors/vector-service";
import type { VectorTaskAsked, VectorTaskDetail, VectorTaskLiveAnswer, VectorTasksAnswer } from "#wire/vector-task-api";
import type { VectorTaskConfig } from "#wire/vector-task-config";
import { ask, Refused } from "./ask.ts";
import { type Rounds, stretchS, useRounds } from "./rounds.ts";
import { store } from "./store.ts";

/** A quarter of an hour. */
const samplesMax = 450;

/** `GET /v1/vectors`. */
export interface VectorsAnswer extends VectorsStatus {
  readonly nowMs: number;
  readonly cache: { readonly hits: number; readonly misses: number; readonly entries: number; readonly bytes: number; readonly bytesMax: number };
}

export interface Known {
  readonly vectors: VectorsAnswer;
  /** Undefined: this server has no tasks, since its configuration has no section `vectors`. */
  readonly tasks: VectorTasksAnswer | undefined;
}

interface Sample {
  readonly atMs: number;
  readonly collections: ReadonlyMap<string, CollectionStatus>;
}

const known = store<Known | undefined>(undefined);
const samples = store<readonly Sample[]>([]);

async function round(): Promise<void> {
  const [vectors, tasks] = await Promise.all([ask<VectorsAnswer>("GET", "/v1/vectors"), ask<VectorTasksAnswer>("GET", "/v1/vector-tasks").catch(unlessNone)]);
  known.set({ vectors, tasks });
  const sample = { atMs: Date.now(), collections: new Map(vectors.collections.map((one) => [one.name, one])) };
  samples.set([...samples.get(), sample].slice(-samplesMax));
}

function unlessNone(thrown: unknown): undefined {
  if (thrown instanceof Refused && thrown.code === "not-found") return undefined;
  throw thrown;
}

const isBuilding = (): boolean => known.get()?.tasks?.tasks.some(({ running, asked }) => running !== null || asked) === true;

export interface VectorEngine extends Rounds {
  readonly known: Known | undefined;
}

/** Asks as long as the component stands. */
export function useVectorEngine(): VectorEngine {
  const rounds = useRounds(round, isBuilding);
  return { known: known.get(), ...rounds };
}

/** Of one collection between two rounds: counts a second; of its latest moment: milliseconds, and recall where it was sampled. */
export interface CollectionPoint {
  /** Seconds since 1970, end of the stretch. */
  readonly atS: number;
  readonly searches: number;
  readonly upserts: number;
  readonly removes: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly recall: number | null;
  readonly tailRows: number;
  readonly deletedRows: number;
}

/** Oldest first. */
export function pointsOf(collection: string): CollectionPoint[] {
  const all = samples.get();
  return all.flatMap((sample, i): CollectionPoint[] => {
    const before = all[i - 1];
    const [then, now] = [before?.collections.get(collection), sample.collections.get(collection)];
    if (before === undefined || then === undefined || now === undefined || now.searches < then.searches || now.upserts < then.upserts) return [];
    const seconds = stretchS(before.atMs, sample.atMs);
    if (seconds === undefined) return [];
    const asked = now.searches > 0;
    return [
      {
        atS: sample.atMs / 1_000,
        searches: (now.searches - then.searches) / seconds,
        upserts: (now.upserts - then.upserts) / seconds,
        removes: Math.max(0, now.removes - then.removes) / seconds,
        p50Ms: asked ? now.searchP50Ms : null,
        p99Ms: asked ? now.searchP99Ms : null,
        recall: now.recall?.value ?? null,
        tailRows: now.tailRows,
        deletedRows: now.deletedRows,
      },
    ];
  });
}

/** One answer of a search. */
export interface FoundElement {
  readonly element: string;
  readonly score: number;
  readonly attributes?: Readonly<Record<string, unknown>>;
}

export interface Searched {
  readonly version: string;
  readonly metric: string;
  readonly answers: readonly FoundElement[];
  readonly searchMs: number;
  readonly rowsCompared: number;
}

export interface SearchAsked {
  readonly element: string;
  readonly count: number;
  readonly filter?: string;
  readonly exact?: boolean;
}

const pathOf = (kind: "collections" | "vector-tasks", name: string): string => `/v1/${kind}/${encodeURIComponent(name)}`;

export function search(collection: string, asked: SearchAsked): Promise<Searched> {
  return ask("POST", `${pathOf("collections", collection)}/search`, { ...asked, withAttributes: true });
}

export const taskOf = (task: string): Promise<VectorTaskDetail> => ask("GET", pathOf("vector-tasks", task));

export function makeTask(name: string, config: VectorTaskConfig): Promise<VectorTaskDetail> {
  return ask("POST", "/v1/vector-tasks", { name, config });
}

export function changeTask(name: string, edition: number, config: VectorTaskConfig): Promise<VectorTaskDetail> {
  return ask("POST", `${pathOf("vector-tasks", name)}/change`, { edition, config });
}

export const runTask = (task: string): Promise<VectorTaskAsked> => ask("POST", `${pathOf("vector-tasks", task)}/run`);

export function moveTask(task: string, step: "enable" | "disable" | "remove"): Promise<unknown> {
  return ask("POST", `${pathOf("vector-tasks", task)}/${step}`);
}

export function putLive(task: string, version: string, refusedToo: boolean): Promise<VectorTaskLiveAnswer> {
  return ask("POST", `${pathOf("vector-tasks", task)}/live`, { version, ...(refusedToo ? { refusedToo } : {}) }, 90_000);
}

export function rollBack(task: string): Promise<VectorTaskLiveAnswer> {
  return ask("POST", `${pathOf("vector-tasks", task)}/rollback`, {}, 90_000);
}
