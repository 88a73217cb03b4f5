// Opens a store.
import type { Log } from "#backbone/log";
import type { Registry } from "#backbone/registry";
import type { MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { Workers } from "#platform/workers";
import type { MillraceError } from "#base/errors";
import { MillraceError as Refused } from "#base/errors";
import type { Store } from "./store.ts";

export interface StoreOptions {
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Log;
  readonly registry: Registry;
  readonly workers: Workers;
  /** Memtables and runs take their memories here. */
  readonly pool: MemoryPool;
  /** Folder of the run files. Made when missing. */
  readonly folder: string;
  /** Partition of the log, and name of the manifest. */
  readonly partition: string;
  /** Records of one memtable, bytes; default 32 MiB, 1 MiB to 512 MiB. A restart replays about so much. */
  readonly memtableBytes?: number;
  /** All memory of memtables and runs; above it writes are `overloaded`. Default 2 GiB. */
  readonly memoryBytesMax?: number;
  /** Largest run file. Default 256 MiB: a merge holds about so much twice. */
  readonly fileBytesMax?: number;
  /** Namespaces whose tombstones must stay, since an older tree (base versions of a table) may hold what they hide. Asked at each merge. Default: none. */
  readonly keepTombstones?: (namespace: number) => boolean;
  /** The log is kept from this offset on, for those who follow it. Asked at each trim. Default: no need. */
  readonly keepLogFrom?: () => number;
  /** Told of failures that an operator should see: flush, merge, log. */
  readonly onAlarm?: (alarm: MillraceError) => void;
}

export interface StoreProgress {
  readonly stage: "log" | "runs" | "replay" | "ready" | "failed";
  /** Of the run files. */
  readonly bytesLoaded: number;
  readonly bytesTotal: number;
  /** Of the log. */
  readonly recordsReplayed: number;
  readonly recordsTotal: number;
}

export interface StoreOpening {
  readonly opened: Promise<Store>;
  progress(): StoreProgress;
}

/** Opens the store of a partition: manifest, runs (read and verified), replay of the log. Rejects with `corrupt` when a file or record is damaged. */
export function openStore(options: StoreOptions): StoreOpening {
  const progress: StoreProgress = { stage: "log", bytesLoaded: 0, bytesTotal: 0, recordsReplayed: 0, recordsTotal: 0 };
  return { opened: Promise.reject(new Refused("unsupported", `store ${options.partition}`)), progress: () => progress };
}
