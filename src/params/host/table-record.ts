// What a table's folder says of the table: its configuration as it was last opened, the shape that its checkpoints have, and its epoch.
//   DATA/params/TABLE/table.json     beside the files of store-checkpoint.ts
// Why an epoch a start: writes after the last checkpoint are lost by a kill -9. Their versions must not be given to other writes, or a follower that saw the lost ones would keep them.
// Invariants: 1. the epoch is on disk before a write has a version of it  2. a table made by a command is found again by its record alone.

import { MillraceError } from "#base/errors";
import { rowBytesOf } from "#kernel/parameter-shard-layout";
import type { Files } from "#platform/files";
import { parameterDefaults, type ParameterTableConfig } from "#wire/parameter-config";
import { versionLimits } from "../sync-table.ts";
import { parameterStoreLimits, shardsFor } from "../parameter-store.ts";

const recordName = "table.json";
const recordBytesMax = 65_536;

/** What a table's checkpoints fix for ever. */
export interface TableShape {
  readonly dim: number;
  readonly seed: number;
  readonly initialScale: number;
  readonly factors: number;
  readonly shards: number;
  /** Of each shard. */
  readonly buckets: number;
}

const bucketsMost = 4_096;
/** Eviction takes of each bucket what it has beyond an equal share: with too few rows a bucket that would be chance. */
const bucketRows = 64;

function bucketsFor(shardBytes: number, dim: number): number {
  const rows = shardBytes / (rowBytesOf(dim) + 8);
  return Math.min(bucketsMost, 2 ** Math.max(0, Math.floor(Math.log2(rows / bucketRows))));
}

export interface TableRecord {
  readonly version: 1;
  /** Made by a command, not by the configuration file. */
  readonly created: boolean;
  readonly shape: TableShape;
  readonly config: ParameterTableConfig;
  /** Of the last start. */
  readonly epoch: number;
}

/** The shape that a configuration asks for; `kept` decides where it says nothing. */
export function shapeOf(config: ParameterTableConfig, kept?: TableShape): TableShape {
  const { dim, seed = parameterDefaults.seed, initialScale = parameterDefaults.initialScale } = config;
  const bytes = config.memoryMb * 2 ** 20;
  const shards = config.shards ?? kept?.shards ?? shardsFor(bytes);
  return {
    dim,
    seed,
    initialScale,
    factors: config.factors ?? (initialScale > 0 ? 4 * Math.floor(dim / 4) : 0),
    shards,
    buckets: config.buckets ?? kept?.buckets ?? bucketsFor(bytes / shards, dim),
  };
}

/** Throws `conflict` and names the first field in which a table on disk and what is asked for differ. */
export function checkSameShape(name: string, kept: TableShape, asked: TableShape, folder: string): void {
  for (const field of ["dim", "seed", "initialScale", "factors", "shards", "buckets"] as const) {
    if (kept[field] === asked[field]) continue;
    throw new MillraceError("conflict", `parameter table ${name}: ${field} is ${asked[field]} in the configuration and ${kept[field]} in ${folder}`, {
      todo: `set ${field} back to ${kept[field]}, give the new table another name, or remove that folder with all its rows`,
    });
  }
}

/** Throws `conflict` when the shards that a table was made with cannot have the memory that is asked for. */
export function checkShardMemory(name: string, { memoryMb }: ParameterTableConfig, { shards }: TableShape): void {
  const mostMb = Math.floor((shards * parameterStoreLimits.shardBytesMax) / 2 ** 20);
  if (memoryMb <= mostMb) return;
  throw new MillraceError("conflict", `parameter table ${name}: memoryMb is ${memoryMb}, its ${shards} shards hold ${mostMb}`, {
    todo: "give at most that, or export the table, drop it, make it with more shards and import it",
  });
}

/** Undefined: no table was opened in the folder before. Throws `corrupt`. */
export async function readTableRecord(files: Files, folder: string): Promise<TableRecord | undefined> {
  const path = files.join(folder, recordName);
  const damaged = (): MillraceError =>
    new MillraceError("corrupt", `${path} is not as a millrace writes it`, { todo: "restore it from a copy, or remove the folder with all its rows" });
  const size = await files.sizeOf(path);
  if (size === undefined) return undefined;
  if (size > recordBytesMax) throw damaged();
  const bytes = await files.readFile(path);
  if (bytes === undefined) return undefined;
  let read: Partial<TableRecord> | null;
  try {
    read = JSON.parse(new TextDecoder().decode(bytes)) as Partial<TableRecord> | null;
  } catch {
    throw damaged();
  }
  const whole = (value: unknown, most: number): boolean => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most;
  const { shape, epoch, config, created } = read ?? {};
  if (read?.version !== 1 || typeof created !== "boolean" || typeof config !== "object" || typeof shape !== "object" || !whole(epoch, versionLimits.epochMax))
    throw damaged();
  for (const field of ["dim", "seed", "factors", "shards", "buckets"] as const) if (!whole(shape[field], Number.MAX_SAFE_INTEGER)) throw damaged();
  if (typeof shape.initialScale !== "number" || typeof config.memoryMb !== "number") throw damaged();
  return read as TableRecord;
}

export function writeTableRecord(files: Files, folder: string, record: TableRecord): Promise<void> {
  return files.writeFileAtomic(files.join(folder, recordName), new TextEncoder().encode(JSON.stringify(record, undefined, 2)));
}
