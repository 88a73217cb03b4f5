// What an import is going to do, decided once and kept in its work folder, so that an interrupted one goes on with exactly the same.
//   WORK/plan.json        this file
//   WORK/progress.json    the journal of the reader (import-journal.ts)
//   WORK/staged.rows      rows by slice of the key's hash (stage-blocks.ts)
//   WORK/rejects.jsonl    refused rows with reasons
//   WORK/run-N.json       a run file that is built and stored: what its builder said
// Invariants: 1. a plan is written before anything else; only its limits may change (memory, refused rows)  2. its id is made of the table, the request and the inputs with their sizes and times, so the same
// command over the same files finds the same work  3. slices, seed and time are in the plan: whoever goes on stages and builds the same bytes.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import type { KeySeed } from "#kernel/key-hash";
import type { Files } from "#platform/files";
import { type SchemaDocument, schemaOf } from "../tables/table-schema.ts";
import type { ImportInput } from "./inputs.ts";

export interface PlannedInput {
  readonly input: ImportInput;
  /** Bytes of its files; 0 for a query. */
  readonly bytes: number;
  /** Sizes and times of change of its files: another one means other rows. */
  readonly fingerprint: string;
}

export interface ImportPlan {
  readonly format: 1;
  readonly id: string;
  readonly table: string;
  readonly schema: SchemaDocument;
  readonly inputs: readonly PlannedInput[];
  /** Parts of the key hash in which rows are staged: a multiple of the shards. How many of them a run file holds is decided when all are staged. */
  readonly slices: number;
  /** Of the hash that places keys. Part of the version's meta. */
  readonly seed: KeySeed;
  /** Of every imported row. */
  readonly timeMs: number;
  /** Offset of the log at the start, by partition: what is written later is newer than this version. */
  readonly logOffsets: Readonly<Record<string, number>>;
  readonly memoryBytes: number;
  readonly rejectsMax: number;
  /** Staged bytes between two checkpoints of the reader. */
  readonly checkpointBytes: number;
  /** SQL may read files of these folders only; undefined: all. */
  readonly folders?: readonly string[];
}

/** The id of an import: the same request over the same files has the same one. */
export function importId(table: string, schema: SchemaDocument, inputs: readonly PlannedInput[]): string {
  const { revision, namespace } = schema;
  const text = JSON.stringify([table, revision, namespace, schema.columns, inputs]);
  const bytes = new TextEncoder().encode(text);
  const hex = (seed: number): string => crc32c(bytes, seed).toString(16).padStart(8, "0");
  return `${table}-${hex(0)}${hex(0x9e3779b9)}`;
}

/** Whether a name is that of a work folder: an id as `importId` makes them. */
export function isWorkName(name: string): boolean {
  return /^.+-[0-9a-f]{16}$/.test(name);
}

/** The lock that whoever works on an import holds. */
export function workLockOf(id: string): string {
  return `import/running/${id}`;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** A JSON file of the work folder, or undefined when it is not there. Throws `corrupt` when it cannot be read. */
export async function readJson(files: Files, path: string): Promise<unknown> {
  const bytes = await files.readFile(path);
  if (bytes === undefined) return undefined;
  try {
    return JSON.parse(decoder.decode(bytes)) as unknown;
  } catch (cause) {
    throw new MillraceError("corrupt", `${path} is no JSON text`, { todo: "remove the work folder and start the import again", cause });
  }
}

export async function writeJson(files: Files, path: string, value: unknown): Promise<void> {
  await files.writeFileAtomic(path, new TextEncoder().encode(JSON.stringify(value)));
}

/** The plan in a work folder, checked; undefined when there is none. */
export async function readPlan(files: Files, folder: string): Promise<ImportPlan | undefined> {
  const path = files.join(folder, "plan.json");
  const value = (await readJson(files, path)) as Partial<ImportPlan> | undefined;
  if (value === undefined) return undefined;
  const { format, id, table, inputs, slices, seed, timeMs, memoryBytes, checkpointBytes } = value;
  const counts = [slices, timeMs, memoryBytes, checkpointBytes, seed?.low, seed?.high].every((one) => Number.isSafeInteger(one) && one! >= 0);
  if (format !== 1 || typeof id !== "string" || typeof table !== "string" || !Array.isArray(inputs) || !counts) {
    throw new MillraceError("corrupt", `${path} is no plan of an import`, { todo: "remove the work folder and start the import again" });
  }
  schemaOf(value.schema, table);
  return value as ImportPlan;
}
