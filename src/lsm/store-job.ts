// The store's work away from its loop: flush a memtable, merge runs, read a run into memory. Steps over memories and files, whoever runs them.
// Invariants: 1. a job changes nothing but the files it makes and the memories it was given for that  2. a job that fails removes what it made.
// Concurrency: runs in the worker's thread (lane `workerLane` of every memory), or in whichever thread calls `doJob`.

import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { giveRoomBack } from "#platform/garbage";
import type { KeySeed } from "#kernel/key-hash";
import { KernelMemory } from "#kernel/kernel-memory";
import { MemTable } from "#kernel/mem-table";
import type { LeaseTicket } from "#kernel/memory-pool";
import { RunImage } from "#kernel/run-image";
import { mergeEntries } from "./merge-entries.ts";
import { readRun, type RunToLoad } from "./loaded-run.ts";
import { RunFiles, runFilesBytes, type WrittenFile } from "./run-files.ts";
import { type TableTicket, tableWriterSize, workerLane } from "./write-table.ts";

/** A loaded run file in its memory. */
export interface ImageTicket {
  readonly ticket: LeaseTicket;
  readonly at: number;
}

export interface FlushJob {
  readonly kind: "flush";
  readonly table: TableTicket;
  readonly folder: string;
  readonly firstNumber: number;
  readonly seed: KeySeed;
}

export interface MergeJob {
  readonly kind: "merge";
  /** Newest first; the files of each in key order. */
  readonly runs: readonly (readonly ImageTicket[])[];
  readonly from: Uint8Array | undefined;
  readonly to: Uint8Array | undefined;
  readonly nowMs: number;
  readonly isOldest: boolean;
  readonly keptNamespaces: readonly number[];
  /** Memory for the writer: `mergeScratchBytes`. */
  readonly scratch: LeaseTicket;
  readonly size: MergeSize;
  readonly folder: string;
  readonly firstNumber: number;
  readonly fileBytesTarget: number;
  readonly seed: KeySeed;
}

export interface LoadJob {
  readonly kind: "load";
  readonly run: RunToLoad;
  readonly into: ImageTicket;
}

/** Lets go of memories that the pool dropped: a collection of garbage in the thread that does the job. */
export interface CollectJob {
  readonly kind: "collect";
}

export type StoreJob = FlushJob | MergeJob | LoadJob | CollectJob;

/** Files that were made, in key order; none for a load and a collection. */
export interface StoreJobResult {
  readonly files: readonly WrittenFile[];
}

/** Bounds of one file of a merge. */
export interface MergeSize {
  readonly entriesMax: number;
  readonly recordBytesMax: number;
}

/** Bytes of memory that a merge writes its files by. */
export function mergeScratchBytes(size: MergeSize): number {
  return runFilesBytes(size);
}

export async function doJob(job: StoreJob, files: Files, clock: Clock, lane = workerLane): Promise<StoreJobResult> {
  if (job.kind === "flush") return flushTable(job, files, lane);
  if (job.kind === "merge") return mergeRuns(job, files, lane);
  if (job.kind === "collect") {
    // Nobody waits for this thread: what it has as room for the garbage of the next merge goes too.
    giveRoomBack();
    return { files: [] };
  }
  await readRun(files, clock, job.run, KernelMemory.attach(job.into.ticket.memory, lane), job.into.at);
  return { files: [] };
}

const addressesAtOnce = 4_096;

async function flushTable(job: FlushJob, files: Files, lane: number): Promise<StoreJobResult> {
  const memory = KernelMemory.attach(job.table.ticket.memory, lane);
  // The store laid out the table in front; what this thread reserves comes behind it.
  memory.reserve(job.table.bytes);
  const table = MemTable.attach(memory, job.table.at);
  table.order();
  const { folder, firstNumber, seed } = job;
  const size = tableWriterSize(table.entriesMax, table.recordBytes.max);
  const out = RunFiles.direct({ files, folder, firstNumber, fileBytesTarget: Infinity, seed }, memory, size);
  try {
    const addresses = new Uint32Array(addressesAtOnce);
    for (let place = 0; place < table.count;) {
      const count = table.addresses(place, addressesAtOnce, addresses);
      await out.addSorted(memory, addresses, count);
      place += count;
    }
    return { files: await out.finish() };
  } catch (thrown) {
    await out.abandon();
    throw thrown;
  }
}

async function mergeRuns(job: MergeJob, files: Files, lane: number): Promise<StoreJobResult> {
  const runs = job.runs.map((images) => images.map(({ ticket, at }) => RunImage.attach(KernelMemory.attach(ticket.memory, lane), at)));
  const { folder, firstNumber, fileBytesTarget, seed, from, to, nowMs, isOldest } = job;
  const out = RunFiles.staged({ files, folder, firstNumber, fileBytesTarget, seed }, KernelMemory.attach(job.scratch.memory, lane), job.size);
  try {
    const rules = { nowMs, isOldest, keptNamespaces: new Set(job.keptNamespaces) };
    const pauses = mergeEntries(runs, { from, to }, rules, (entry, fate) => (fate === "keep" ? out.stage(entry) : out.stageTombstone(entry)));
    while (pauses.next().done !== true) await out.flush();
    return { files: await out.finish() };
  } catch (thrown) {
    await out.abandon();
    throw thrown;
  }
}
