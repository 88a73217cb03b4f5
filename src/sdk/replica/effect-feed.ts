// Where a replica's live rows come from: what the server's delta holds at some moment, then every effect from there on.
// `folderFeed` reads the data folder of a server on this machine, beside it: the run files that its manifest names, then its log.
// Why runs first: the server trims its log behind every flush, so the log alone does not hold what was written long ago.
// Invariants: 1. what `bring` gave, and the effects from the offset that it returned, are together everything that was ever written to the namespace and may still
// count  2. every block of a run file is checked before it is believed  3. nothing is written to the server's folder or registry.
// Cost: one read of all run files, of which the namespace's part is kept. Limits: `feedLimits`.

import type { Log, LogRecords } from "#backbone/log";
import type { Registry } from "#backbone/registry";
import { EntryView, RecordBatch } from "#kernel/entry-record";
import type { MemoryPool } from "#kernel/memory-pool";
import { leaseForRun, readRun } from "#lsm/loaded-run";
import { decodeManifest, emptyManifest, type Manifest, manifestKey, type ManifestFile } from "#lsm/manifest";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";

export const feedLimits = {
  /** Tries to read the files of a manifest that moves on meanwhile. */
  bringTriesMax: 20,
  /** Entries handed over at once. */
  batchEntries: 1_024,
} as const;

/** Takes `count` entries that lie one behind another in `bytes[from, to)`. */
export type EntrySink = (bytes: Uint8Array, from: number, to: number, count: number) => void;

export interface EffectFeed {
  /** Hands over the delta's entries of a namespace, those of older runs first; resolves with the offset from which the log goes on. */
  bring(namespace: number, sink: EntrySink, signal: AbortSignal): Promise<number>;
  /** Offset after the last effect that is in the log now. */
  end(): Promise<number>;
  /** Records of effects from `offset` on, for ever. Throws `not-found` when they were trimmed: then `bring` again. */
  follow(offset: number, signal: AbortSignal): AsyncIterable<LogRecords>;
}

export interface FolderFeedOptions {
  readonly files: Files;
  readonly clock: Clock;
  readonly registry: Registry;
  readonly log: Log;
  /** Where the server's run files lie. */
  readonly folder: string;
  readonly partition: string;
  /** For the file that is being read. */
  readonly pool: MemoryPool;
}

/** The feed of a server whose data folder this machine has. */
export function folderFeed(options: FolderFeedOptions): EffectFeed {
  const { log, partition } = options;
  return {
    async bring(namespace, sink, signal) {
      let read = await readManifest(options);
      for (let attempt = 1; ; attempt++) {
        signal.throwIfAborted();
        try {
          // Older runs first, so that what is newer is put over it.
          for (const run of [...read.manifest.runs].reverse()) for (const file of run.files) await bringFile(options, file, namespace, sink, signal);
          return read.manifest.logOffset;
        } catch (thrown) {
          const now = await readManifest(options);
          if (now.revision === read.revision || attempt === feedLimits.bringTriesMax) throw thrown;
          // A merge replaced the file that was to be read. What was put already is put again, under the same keys.
          read = now;
        }
      }
    },
    async end() {
      return (await log.bounds(partition)).next;
    },
    follow(offset, signal) {
      return log.tail(partition, offset, signal);
    },
  };
}

async function readManifest({ registry, partition }: FolderFeedOptions): Promise<{ manifest: Manifest; revision: number }> {
  const entry = await registry.get(manifestKey(partition));
  return entry === undefined ? { manifest: emptyManifest, revision: 0 } : { manifest: decodeManifest(partition, entry.value), revision: entry.revision };
}

async function bringFile(options: FolderFeedOptions, wanted: ManifestFile, namespace: number, sink: EntrySink, signal: AbortSignal): Promise<void> {
  const { files, clock, folder, pool } = options;
  const { lease, at } = leaseForRun(pool, "replica: reading a run", wanted.bytes);
  try {
    const path = files.join(folder, wanted.name);
    const run = await readRun(files, clock, { path, bytes: wanted.bytes, headerCrc32c: wanted.headerCrc32c }, lease.memory, at);
    const batch = new RecordBatch();
    const entry = new EntryView();
    const [high, low] = [namespace >>> 8, namespace & 0xff];
    for (let position = run.seek(Uint8Array.of(high, low)); position < run.end;) {
      batch.clear();
      while (position < run.end && batch.count < feedLimits.batchEntries) {
        position = run.entryAt(position, entry);
        const key = entry.key();
        if (key[0] === high && key[1] === low) batch.add(key, entry.kind, entry.value(), entry.expiryMs, entry.timeMs);
        else position = run.end;
      }
      if (batch.count > 0) sink(batch.bytes, 0, batch.used, batch.count);
      signal.throwIfAborted();
      await clock.yield();
    }
  } finally {
    lease.release();
  }
}
