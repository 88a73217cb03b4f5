// What the page *Features* knows: tables, versions, imports and the store, asked for every two seconds while the page is looked at (more often while something changes),
// and what was read in between.
// Why the shapes stand here: the server's own types reach deep into the engine; these are the fields that the page shows (docs/http-api.md, docs/tables.md).
// Invariants: 1. those of rounds.ts; while an import runs a round is asked for as often as its status is written  2. a difference of counts is taken only within one
// process of the server  3. at most `samplesMax` rounds are kept.

import { ask } from "./ask.ts";
import { type Rounds, stretchS, useRounds } from "./rounds.ts";
import { store } from "./store.ts";

/** A quarter of an hour without imports. */
const samplesMax = 450;

export interface ColumnState {
  readonly name: string;
  readonly type: string;
  /** Of a vector. */
  readonly elements: number;
  readonly owner: "batch" | "stream" | "newest";
  readonly ttlMs: number;
  readonly sampled: number;
  readonly nullRate?: number;
  readonly mean?: number;
  readonly drift?: number;
}

/** No declared table has a dot in its name: those that do are written by the server itself, and take no imports (docs/tables.md). */
export const isServersTable = (name: string): boolean => name.includes(".");

export interface TableState {
  readonly name: string;
  readonly key: "string" | "u64";
  readonly entity: string;
  readonly storage: "memory" | "disk";
  readonly loaded: boolean;
  /** "": nothing was imported. */
  readonly version: string;
  readonly versions: readonly string[];
  readonly baseRows: number;
  readonly logOffset: number;
  readonly counts: Readonly<Record<"reads" | "keysRead" | "keysAbsent" | "rowsWritten" | "rowsDeleted" | "rowsStale" | "conditionsFailed", number>>;
  readonly columns: readonly ColumnState[];
}

export interface VersionState {
  readonly version: string;
  readonly state: "live" | "backup" | "staged" | "refused" | "building";
  readonly begunAtMs: number;
  readonly publishedAtMs?: number;
  readonly bytes?: number;
  readonly rows?: number;
  readonly reasons?: readonly string[];
  readonly fault?: string;
  readonly usedBy: readonly string[];
}

export interface Snapshot {
  readonly kind: string;
  readonly name: string;
  readonly live: string | null;
  readonly servable: readonly string[];
  readonly versions: readonly VersionState[];
  readonly followers: readonly {
    readonly node: string;
    readonly serving?: string;
    readonly loading?: { readonly version: string; readonly stage: string; readonly bytesDone: number; readonly bytesAll: number };
    readonly refused: readonly { readonly version: string; readonly reason: string }[];
  }[];
  readonly fault?: string;
}

export interface ImportState {
  readonly job: string;
  readonly table: string;
  readonly stage: "planning" | "waiting" | "reading" | "building" | "publishing" | "done" | "failed";
  readonly resumed: boolean;
  readonly startedAtMs: number;
  /** When this was said. */
  readonly atMs: number;
  readonly inputs: number;
  readonly inputsDone: number;
  readonly rowsTotal?: number;
  readonly rowsStaged: number;
  readonly rowsRefused: number;
  readonly runs: number;
  readonly runsBuilt: number;
  readonly rowsPerS: number;
  readonly etaMs?: number;
  readonly version?: string;
  readonly rejectFile?: string;
  readonly refusedWhy?: readonly string[];
  readonly error?: string;
}

export interface StoreAnswer {
  readonly state: {
    readonly offset: number;
    readonly loggedOffset: number;
    readonly flushedOffset: number;
    readonly replayBytes: number;
    readonly memtable: { readonly entries: number; readonly bytes: number };
    readonly frozen: { readonly count: number; readonly bytes: number };
    readonly runs: readonly { readonly level: number; readonly files: number; readonly bytes: number; readonly entries: number; readonly tombstones: number }[];
    readonly memoryBytes: number;
    readonly memoryBytesMax: number;
    readonly working?: "flush" | "compaction";
    readonly trouble?: string;
    readonly refused?: { readonly reason: string; readonly message: string };
    readonly counts: { readonly flushes: number; readonly compactions: number; readonly runBytesWritten: number; readonly loggedBytes: number };
  };
  readonly memory: {
    readonly capBytes: number;
    readonly totalBytes: number;
    readonly idleBytes: number;
    readonly refused: number;
    readonly owners: readonly { readonly owner: string; readonly bytes: number; readonly memories: number; readonly readers: number }[];
  };
  readonly redis: { readonly port: number; readonly connections: number; readonly commands: number; readonly commandsPerSecond: number };
}

/** What one round brought. */
export interface Known {
  readonly tables: readonly TableState[];
  readonly snapshots: readonly Snapshot[];
  readonly imports: readonly ImportState[];
  readonly store: StoreAnswer;
}

/** Counts of one moment. */
interface Sample {
  readonly atMs: number;
  readonly importing: boolean;
  readonly counts: ReadonlyMap<string, TableState["counts"]>;
}

const known = store<Known | undefined>(undefined);
const samples = store<readonly Sample[]>([]);

export const isRunning = ({ stage }: ImportState): boolean => stage !== "done" && stage !== "failed";

async function round(): Promise<void> {
  const [{ tables }, snapshots, imports, storeAnswer] = await Promise.all([
    ask<{ tables: TableState[] }>("GET", "/v1/tables"),
    ask<Snapshot[]>("GET", "/v1/snapshots"),
    ask<ImportState[]>("GET", "/v1/imports"),
    ask<StoreAnswer>("GET", "/v1/store"),
  ]);
  known.set({ tables, snapshots: snapshots.filter(({ kind }) => kind === "table"), imports, store: storeAnswer });
  const sample = { atMs: Date.now(), importing: imports.some(isRunning), counts: new Map(tables.map(({ name, counts }) => [name, counts])) };
  samples.set([...samples.get(), sample].slice(-samplesMax));
}

const isImporting = (): boolean => known.get()?.imports.some(isRunning) === true;

export interface FeatureStore extends Rounds {
  readonly known: Known | undefined;
}

/** Asks as long as the component stands. */
export function useFeatureStore(): FeatureStore {
  const rounds = useRounds(round, isImporting);
  return { known: known.get(), ...rounds };
}

/** What happened to a table between two rounds, a second. */
export interface Rates {
  /** Seconds since 1970, end of the stretch. */
  readonly atS: number;
  /** How long it is. */
  readonly seconds: number;
  readonly importing: boolean;
  readonly keysRead: number;
  readonly keysAbsent: number;
  readonly rowsWritten: number;
}

/** Oldest first. */
export function ratesOf(table: string): Rates[] {
  const all = samples.get();
  return all.flatMap((sample, i): Rates[] => {
    const before = all[i - 1];
    const [then, now] = [before?.counts.get(table), sample.counts.get(table)];
    if (before === undefined || then === undefined || now === undefined || now.reads < then.reads || now.keysRead < then.keysRead) return [];
    const seconds = stretchS(before.atMs, sample.atMs);
    if (seconds === undefined) return [];
    const rateOf = (count: "keysRead" | "keysAbsent" | "rowsWritten"): number => Math.max(0, now[count] - then[count]) / seconds;
    return [
      {
        atS: sample.atMs / 1_000,
        seconds,
        importing: sample.importing || before.importing,
        keysRead: rateOf("keysRead"),
        keysAbsent: rateOf("keysAbsent"),
        rowsWritten: rateOf("rowsWritten"),
      },
    ];
  });
}
