// What a table needs of its imported versions: the runs of one version, held by a lease while something reads it.
// Why an interface: the follower that fetches, verifies and switches versions stands in the snapshot room, the runs in the engine's; a table knows neither.

import type { EntryRefs } from "#kernel/entry-refs";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { KeyBatch } from "#kernel/key-batch";
import type { ScanPage } from "#lsm/scan-page";
import type { ScanRange } from "#lsm/store";

/** The runs of a version, shards by key hash. Keys as in the engine: namespace and user key. */
export interface BaseRuns {
  /** Fills `refs` for the keys that are still absent; its sources count from `firstSource`. A promise when the version lies on disk. */
  getMany(keys: KeyBatch, refs: EntryRefs, firstSource: number): void | Promise<void>;
  /** The memory of a source of the last `getMany`. */
  memoryOf(source: number): KernelMemory;
  /** One page in key order, as Store.scan. */
  scan(range: ScanRange, into: ScanPage): boolean | Promise<boolean>;
  /** Reads of the disk since the version was loaded; 0 for one that lies in memory. */
  readonly diskReads?: { readonly reads: number; readonly bytes: number };
}

export interface BaseVersion {
  /** Name of the version, as the manifest has it. */
  readonly version: string;
  readonly runs: BaseRuns;
  /** Rows, as the build counted them. */
  readonly rows: number;
}

export interface BaseLease {
  readonly value: BaseVersion;
  /** Call once, after the last access. */
  release(): void;
}

export interface BaseSource {
  /** The version served now; undefined when none is loaded. Synchronous. */
  lease(): BaseLease | undefined;
  /** True when a version was published before this source began to follow, and none is loaded yet: the table is not whole then, and reads say so. A first version that is
   * published later is not awaited: readers keep what there was until it is loaded. */
  readonly awaited: boolean;
  /** The version that should be served, as last heard: another one than the served while it is loaded, or when it was refused here. Undefined: not known, or none. */
  readonly live?: string | undefined;
  /** Versions loaded now, the served one first; for the status. */
  readonly versions: readonly string[];
}
