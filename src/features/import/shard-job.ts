// One run file to be built, as a document: `millrace build-shard JOB` does it, in this process or on any machine that sees the files.
//   { "format": 1, "run": 3, "memoryBytes": 1073741824, "seed": { "low": 7, "high": 0 },
//     "staged": [{ "path": "/data/import/items-.../staged.rows", "parts": [{ "at": 24, "bytes": 65000, "rows": 900, "crc32c": 123 }] }],
//     "path": "/data/import/items-.../run-00003" }
// Why a document: a scheduler of someone else (Kubernetes jobs, a queue) can run a hundred of them, again after a failure too: the same job writes the same bytes.
// Invariant: a job that succeeded has written the whole file, synced; a job that failed has left nothing under the name.

import { MillraceError } from "#base/errors";
import type { KeySeed } from "#kernel/key-hash";
import { type BuiltShard, ShardBuilder, type StagedFile } from "#lsm/build-shard";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";

export interface ShardJob {
  readonly format: 1;
  /** Which run of the version. */
  readonly run: number;
  readonly memoryBytes: number;
  readonly seed: KeySeed;
  readonly staged: readonly StagedFile[];
  /** Of the run file. */
  readonly path: string;
}

/** What a builder says of a job that it has done. */
export interface ShardDone extends BuiltShard {
  readonly run: number;
}

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

/** A job that came from a file or a message, checked. Throws `invalid`. */
export function checkShardJob(value: unknown): ShardJob {
  const job = (typeof value === "object" && value !== null ? value : {}) as Partial<ShardJob>;
  const isPart = (part: Partial<StagedFile["parts"][number]>): boolean => isCount(part.at) && isCount(part.bytes) && isCount(part.rows) && isCount(part.crc32c);
  const staged =
    Array.isArray(job.staged) &&
    (job.staged as StagedFile[]).every((file) => typeof file.path === "string" && Array.isArray(file.parts) && file.parts.every(isPart));
  const counts = isCount(job.run) && isCount(job.memoryBytes) && isCount(job.seed?.low) && isCount(job.seed?.high);
  if (job.format === 1 && counts && staged && typeof job.path === "string") return job as ShardJob;
  throw new MillraceError("invalid", "this is no job of a shard", { todo: "write it as src/features/import/shard-job.ts says" });
}

/** Does a job. Throws what ShardBuilder throws. `builder`: one that was used before keeps its memory. */
export async function runShardJob(job: ShardJob, tools: { readonly files: Files; readonly clock: Clock }, builder?: ShardBuilder): Promise<ShardDone> {
  const used = builder ?? new ShardBuilder({ ...tools, memoryBytesMax: job.memoryBytes });
  return { run: job.run, ...(await used.build(job, job.path)) };
}
