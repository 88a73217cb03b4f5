// What the parameter server says of itself, and the bytes of its commands. Status goes from the parameters thread to the serving loop about once a second, and from there to HTTP, metrics,
// console and PINFO.
//
// Answer of PPULL, little-endian, one bulk:
//   0  u32 magic "PRA1"          4  u8 form (pullForms)      5  u8 flags (1: found bits follow)      6  u16 dim
//   8  u32 rows n               12  u32 missing keys (they read as their initial values)
//  16  [found bits, ceil(n / 8) bytes, bit i % 8 of byte i / 8, zeros up to a multiple of 4]  [f32 scale a row, form INT8]  n x dim numbers (f32, f16 bits or i8)
// Keys of all commands: n x u64. Rows of PADD and PASSIGN: n x dim x f32.
// Invariant: the numbers begin at a multiple of 4 from the blob's begin.

import { type ErrorCode, MillraceError } from "#base/errors";
import type { ParameterTableConfig } from "./parameter-config.ts";

export const pullMagic = 0x3141_5250;
export const pullHeadBytes = 16;
export const pullForms = { F32: 0, F16: 1, INT8: 2 } as const;
export type PullForm = keyof typeof pullForms;
export const pullFlags = { found: 1 } as const;
/** Bytes of a number, by form. */
export const numberBytes: Readonly<Record<PullForm, number>> = { F32: 4, F16: 2, INT8: 1 };

export interface PullPlaces {
  readonly foundAt: number;
  readonly scalesAt: number;
  readonly numbersAt: number;
  readonly bytes: number;
}

/** Where the parts of an answer stand. */
export function pullPlaces(form: PullForm, withFound: boolean, rows: number, dim: number): PullPlaces {
  const foundAt = pullHeadBytes;
  const scalesAt = foundAt + (withFound ? 4 * Math.ceil(rows / 32) : 0);
  const numbersAt = scalesAt + (form === "INT8" ? 4 * rows : 0);
  return { foundAt, scalesAt, numbersAt, bytes: numbersAt + rows * dim * numberBytes[form] };
}

export interface PullHead extends PullPlaces {
  readonly form: PullForm;
  readonly withFound: boolean;
  readonly dim: number;
  readonly rows: number;
  readonly missing: number;
}

/** The head of an answer. Throws `corrupt` for bytes that are none, `unsupported` for a later form. */
export function readPullHead(bytes: Uint8Array): PullHead {
  const broken = (what: string): MillraceError =>
    new MillraceError("corrupt", `an answer of PPULL that ${what}`, { todo: "look whether host and port are those of a millrace server" });
  if (bytes.length < pullHeadBytes) throw broken("is shorter than its head");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== pullMagic) throw broken("does not begin as one");
  const number = view.getUint8(4);
  const form = (Object.keys(pullForms) as PullForm[]).find((name) => pullForms[name] === number);
  if (form === undefined) throw new MillraceError("unsupported", `an answer of PPULL in form ${number}`, { todo: "use the client of the server's version" });
  const withFound = (view.getUint8(5) & pullFlags.found) !== 0;
  const dim = view.getUint16(6, true);
  const rows = view.getUint32(8, true);
  const places = pullPlaces(form, withFound, rows, dim);
  if (places.bytes !== bytes.length) throw broken(`has ${bytes.length} bytes where ${rows} rows of ${dim} need ${places.bytes}`);
  return { ...places, form, withFound, dim, rows, missing: view.getUint32(12, true) };
}

export interface ParameterCheckpointStatus {
  /** Number of its newest file, 0 before the first. */
  readonly id: number;
  /** When it was taken (its cut), milliseconds since 1970; 0: never. */
  readonly atMs: number;
  /** Of the last file, and how long it took. */
  readonly bytes: number;
  readonly ms: number;
  /** Files that a restore reads. */
  readonly files: number;
  /** Writes to rows since, which a kill -9 now would lose. */
  readonly unsavedRows: number;
  /** Why the last attempt failed; the next one comes in its time. */
  readonly error?: string;
}

/** What stands in the way until somebody acts: waiting alone does not end it. */
export interface Need {
  readonly code: ErrorCode;
  readonly todo: string;
}

export interface ParameterSourceStatus {
  readonly address: string;
  readonly connected: boolean;
  readonly ageMs: number;
  /** Why the connection before ended or could not be made, until a comparison came out well. */
  readonly fault?: string;
  /** Beside a fault that does not pass by waiting (another token, another shape). */
  readonly needs?: Need;
}

export interface ParameterSyncStatus {
  readonly ready: boolean;
  /** Buckets led here. */
  readonly leads: number;
  readonly followers: readonly { readonly node: number; readonly lagMs: number; readonly waitingBuckets: number }[];
  readonly sources: readonly ParameterSourceStatus[];
  readonly digestMismatches: number;
  readonly conflicts: number;
  readonly lostWrites: number;
  /** Times that there was no room for what a source sent; followers that were refused since there are too many; times that this copy was found to be behind. */
  readonly tableFull: number;
  readonly followersRefused: number;
  readonly turnedStale: number;
  /** With a leader by lease: why this server can neither lead nor know who does, until somebody acts; writes are refused with it. */
  readonly leadFault?: string;
  /** Beside `leadFault`. */
  readonly leadNeeds?: Need;
}

/** Each source with what stands against it. */
export function sourcesInWords({ sources }: Pick<ParameterSyncStatus, "sources">): string {
  return sources.map(({ address, connected, fault }) => `${address} (${fault ?? (connected ? "connected" : "not connected")})`).join(", ");
}

/** What somebody must do before a copy can be as new as its source; undefined while one of its sources may still come by itself. */
export function needOf({ sources }: Pick<ParameterSyncStatus, "sources">): Need | undefined {
  return sources.every(({ needs }) => needs !== undefined) ? sources[0]?.needs : undefined;
}

/** Counters count since the start of the server. */
export interface ParameterTableStatus {
  readonly name: string;
  /** `failed`: its checkpoint is damaged; it neither reads nor writes, its files are kept as they are. */
  readonly state: "open" | "failed";
  readonly reason?: string;
  /** Beside `reason`. */
  readonly needs?: Need;
  readonly config: ParameterTableConfig;
  /** Named by the configuration file: it cannot be dropped by a command. */
  readonly declared: boolean;
  readonly dim: number;
  readonly shards: number;
  readonly rows: number;
  readonly tombstones: number;
  /** Taken so far of rows and index, and the table's size. */
  readonly usedBytes: number;
  readonly bytes: number;
  /** Commands and their rows: those of the Redis port here. */
  readonly pulls: number;
  readonly pulledRows: number;
  readonly missedRows: number;
  readonly pushes: number;
  readonly pushedRows: number;
  /** Rows that found no room, that admission held back, that were not finite. */
  readonly refused: number;
  readonly heldBack: number;
  readonly skipped: number;
  readonly evicted: number;
  readonly expired: number;
  readonly checkpoint: ParameterCheckpointStatus;
  /** Writes counted by all buckets of each shard: it only grows. */
  readonly versions: readonly number[];
  /** Seconds since 1970 of the latest and the earliest last write of a row, 0 without rows; the earliest of a sample of buckets. */
  readonly hottestS: number;
  readonly coldestS: number;
  readonly sync?: ParameterSyncStatus;
}

export interface ParametersStatus {
  /** `failed`: the thread died; pulls go on, writes are refused. */
  readonly state: "opening" | "open" | "failed";
  readonly reason?: string;
  readonly tables: readonly ParameterTableStatus[];
  /** Of all tables together. */
  readonly memoryBytes: number;
  readonly memoryBytesMax: number;
}

/** What a saved checkpoint was. */
export interface ParameterSaved {
  readonly id: number;
  readonly full: boolean;
  readonly rows: number;
  readonly bytes: number;
  readonly ms: number;
}

/** Ages of rows that a look tells apart, seconds since the last write; the last class is what is older. */
export const touchedUpToS = [60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400] as const;

/** What a person sees of a table's rows. */
export interface ParameterTableLook {
  /** Of all shards. */
  readonly buckets: number;
  /** By stretches of equally many buckets: writes counted (the sum of their versions' counters), and rows. */
  readonly writes: readonly number[];
  readonly rows: readonly number[];
  readonly live: number;
  /** Rows of a sample by the age of their last write, classes as `touchedUpToS`, and how many the sample has. */
  readonly touched: readonly number[];
  readonly sampled: number;
}

/** What commands and HTTP routes ask of the parameter server of their process. */
export interface ParameterControl {
  status(): ParametersStatus;
  /** Makes a table; it is there after a restart too. Throws `conflict` for a name that is taken by another shape, `invalid`, `overloaded`. */
  create(name: string, config: ParameterTableConfig): Promise<void>;
  /** Removes a table, its rows and its checkpoints. Throws `not-found`, `conflict` for one that the configuration names. */
  drop(name: string): Promise<void>;
  /** A checkpoint now; resolves when it is on disk. Throws `not-found`, `unavailable`. */
  save(name: string): Promise<ParameterSaved>;
}

/** What an export or import of a table as .npy files was. */
export interface ParameterExchange {
  readonly rows: number;
  /** Of an import: rows that found no room. */
  readonly refused: number;
}

/** What HTTP routes ask beside. Names of exchanges are folders under DATA/exchange: one part of a path. */
export interface ParameterLooking {
  /** Throws `not-found`. */
  look(name: string): Promise<ParameterTableLook>;
  /** Writes all live rows as .npy files and a manifest. Throws `not-found`, `conflict` for a name that holds an export. */
  exportTable(name: string, exchange: string): Promise<ParameterExchange>;
  /** Assigns the rows of an export. Throws `not-found`, `corrupt`, `conflict` for one of another dim, or where this node does not lead. */
  importTable(name: string, exchange: string): Promise<ParameterExchange>;
}

/** One part of a path, without a dot in front. */
export const exchangeNamePattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$";
