// What the page *Parameters* knows: the parameter server's status and models, asked for every two seconds while the page is looked at (more often after a change), what
// was pulled and pushed in between, and how far each replica was behind.
// Invariants: 1. those of rounds.ts  2. a difference of counts is taken only within one process of the server  3. at most `samplesMax` rounds are kept.

import type { ParameterTableLook, ParameterTableStatus } from "#wire/parameter-api";
import type { AuditEntry, ParametersAnswer } from "#wire/parameter-models-api";
import { ask } from "./ask.ts";
import { type Rounds, stretchS, useRounds } from "./rounds.ts";
import { store } from "./store.ts";

/** A quarter of an hour. */
const samplesMax = 450;
/** Rounds between two looks at the rows of a table. */
export const lookEveryRounds = 3;
export const changesShown = 20;

export type Counts = Pick<ParameterTableStatus, "pulls" | "pulledRows" | "missedRows" | "pushedRows" | "refused" | "evicted" | "expired">;

/** Counts of one moment, and lags by replica and table. */
interface Sample {
  readonly atMs: number;
  readonly counts: ReadonlyMap<string, Counts>;
  readonly lags: ReadonlyMap<string, number>;
}

const known = store<ParametersAnswer | undefined>(undefined);
const samples = store<readonly Sample[]>([]);

async function round(): Promise<void> {
  const answer = await ask<ParametersAnswer>("GET", "/v1/parameters");
  known.set(answer);
  const lags = new Map<string, number>();
  for (const { sync } of answer.tables) {
    for (const { node, lagMs } of sync?.followers ?? []) lags.set(replicaName(node), Math.max(lags.get(replicaName(node)) ?? 0, lagMs));
  }
  const sample = { atMs: Date.now(), counts: new Map(answer.tables.map((table): [string, Counts] => [table.name, table])), lags };
  samples.set([...samples.get(), sample].slice(-samplesMax));
}

/** While it opens, a second is long. */
const isOpening = (): boolean => known.get()?.state === "opening";

export const replicaName = (node: number): string => `node ${node}`;

export interface ParameterServer extends Rounds {
  readonly known: ParametersAnswer | undefined;
}

/** Asks as long as the component stands. */
export function useParameterServer(): ParameterServer {
  const rounds = useRounds(round, isOpening);
  return { known: known.get(), ...rounds };
}

/** Rows a second between two rounds. */
export interface Rates extends Record<"pulledRows" | "missedRows" | "pushedRows" | "refused" | "evicted", number> {
  /** Seconds since 1970, end of the stretch. */
  readonly atS: number;
}

/** Of one table, oldest first. */
export function ratesOf(table: string): Rates[] {
  const all = samples.get();
  return all.flatMap((sample, i): Rates[] => {
    const before = all[i - 1];
    const [then, now] = [before?.counts.get(table), sample.counts.get(table)];
    if (before === undefined || then === undefined || now === undefined || now.pulls < then.pulls || now.pushedRows < then.pushedRows) return [];
    const seconds = stretchS(before.atMs, sample.atMs);
    if (seconds === undefined) return [];
    const rateOf = (count: keyof Omit<Rates, "atS">): number => Math.max(0, now[count] - then[count]) / seconds;
    return [
      {
        atS: sample.atMs / 1_000,
        pulledRows: rateOf("pulledRows"),
        missedRows: rateOf("missedRows"),
        pushedRows: rateOf("pushedRows"),
        refused: rateOf("refused"),
        evicted: rateOf("evicted"),
      },
    ];
  });
}

/** Milliseconds by which replicas were behind: names of all that were seen, and at each moment the lag of each, null where it was not there. */
export function lagsSeen(): { readonly times: number[]; readonly replicas: { readonly name: string; readonly lags: (number | null)[] }[] } {
  const all = samples.get();
  const names = [...new Set(all.flatMap(({ lags }) => [...lags.keys()]))].toSorted();
  return { times: all.map(({ atMs }) => atMs / 1_000), replicas: names.map((name) => ({ name, lags: all.map(({ lags }) => lags.get(name) ?? null) })) };
}

export const lookAt = (table: string): Promise<ParameterTableLook> => ask("GET", `/v1/parameters/tables/${encodeURIComponent(table)}/look`);

export async function latestChanges(): Promise<readonly AuditEntry[]> {
  return (await ask<{ changes: AuditEntry[] }>("GET", `/v1/parameters/changes?limit=${changesShown}`)).changes;
}

export function saveTable(table: string): Promise<{ readonly running?: boolean; readonly bytes?: number; readonly ms?: number }> {
  return ask("POST", `/v1/parameters/tables/${encodeURIComponent(table)}/save`, undefined, 15_000);
}

export function changeModel<Answer>(model: string, step: "live" | "rollback" | "retire", body: object): Promise<Answer> {
  return ask("POST", `/v1/parameters/models/${encodeURIComponent(model)}/${step}`, body);
}
