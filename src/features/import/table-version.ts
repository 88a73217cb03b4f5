// What a published version of a table says of itself in its manifest's `meta`, and which of its run files holds a key.
// Invariants: 1. run file r of R holds the keys whose hash (docs/format/key-hash.md, engine key with its namespace, `seed`) has floor(high half * R / 2^32) = r
// 2. shard s of S is the runs s * R / S up to (s + 1) * R / S, R a multiple of S  3. `logOffsets` are those before the first row was read: writes from there on are newer than this
// version and stand in the delta.

import { MillraceError } from "#base/errors";
import type { KeySeed } from "#kernel/key-hash";
import { type SchemaDocument, schemaOf } from "../tables/table-schema.ts";

export interface TableVersionMeta {
  readonly format: 1;
  readonly schema: SchemaDocument;
  readonly runs: number;
  readonly shards: number;
  readonly seed: KeySeed;
  /** Of every imported row. */
  readonly timeMs: number;
  readonly logOffsets: Readonly<Record<string, number>>;
}

/** Name of a run file in the version. */
export function runFileName(run: number): string {
  return `run-${String(run).padStart(5, "0")}`;
}

/** Which run of `runs` a key with this hash stands in. */
export function runOf(hashHigh: number, runs: number): number {
  return Math.floor((hashHigh * runs) / 2 ** 32);
}

/** The meta of a manifest, checked. Throws `corrupt`. */
export function tableVersionMeta(value: unknown, table: string): TableVersionMeta {
  const meta = value as Partial<TableVersionMeta> | null;
  const isCount = (one: unknown): boolean => Number.isSafeInteger(one) && (one as number) >= 0;
  const offsets = typeof meta?.logOffsets === "object" && meta.logOffsets !== null && Object.values(meta.logOffsets).every(isCount);
  if (
    typeof value !== "object" ||
    meta === null ||
    meta.format !== 1 ||
    !offsets ||
    ![meta.runs, meta.shards, meta.timeMs, meta.seed?.low, meta.seed?.high].every(isCount) ||
    meta.runs! % meta.shards! !== 0
  ) {
    throw new MillraceError("corrupt", `the manifest of table ${table} does not say what its run files hold`, { todo: "import the table again, or roll back" });
  }
  schemaOf(meta.schema, table);
  return meta as TableVersionMeta;
}
