// The store: ordered byte keys with values, kinds, times and expiries, over one partition of the log. This file is the contract; `open-store.ts` opens the
// engine behind it.
// Why effects and not commands: what stands in the log are the entries that result, with absolute times, so any replay gives the same bytes.
// Invariants: 1. a write is visible to the next read of this process  2. after `durable(ticket)` resolves the write survives what the log's policy promises
// 3. the effects of one `write` are there together or not at all, also after a crash  4. a reader never meets an expired entry or a deleted one
// 5. once an append has failed no write is taken any more, while reads go on (what is on disk is unknown until the store is opened again).
// Concurrency: one writer, all calls on one thread. `getMany`, `bytesOf`, `write` and `scan` never wait; a view they give is valid until the next await.
// Limits: `storeLimits`.

import { type MillraceError } from "#base/errors";
import { absentSource, type EntryRefs } from "#kernel/entry-refs";
import { type KeyBatch, keyLimits } from "#kernel/key-batch";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { EffectBatch } from "./effect-batch.ts";
import type { ScanPage } from "./scan-page.ts";

export const storeLimits = {
  /** Namespace and user key together. */
  keyBytesMax: keyLimits.keyBytesMax,
  valueBytesMax: 512 * 1024,
  /** All entries of one `write` as they stand in the log. One append of the log takes 8 MiB. */
  batchBytesMax: 4 * 1024 * 1024,
  /** Bytes of effects that wait for the log. */
  pendingBytesMax: 32 * 1024 * 1024,
  /** Sources of one look-up (memtables and run files): their numbers stand in one byte. */
  sourcesMax: 250,
  /** Entries of one page of a scan. */
  pageEntriesMax: 10_000,
} as const;

const hiddenMark = 1;

/** Whether the absent key `i` was found as a tombstone or an expired entry: what an older tree (a base version) holds of it counts no more. */
export function isHidden(refs: EntryRefs, i: number): boolean {
  return refs.source[i] === absentSource && refs.at[i] === hiddenMark;
}

/** Makes key `i` absent; `hidden` as above. For what resolves a look-up. A hidden key keeps its time: what an older tree says from later on still counts. */
export function markAbsent(refs: EntryRefs, i: number, hidden: boolean): void {
  const timeMs = refs.timeMs[i]!;
  refs.forget(i);
  refs.at[i] = hidden ? hiddenMark : 0;
  if (hidden) refs.timeMs[i] = timeMs;
}

/** The engine key: two bytes of namespace, big-endian, then the user's key. */
export function engineKey(namespace: number, key: Uint8Array): Uint8Array {
  const joined = new Uint8Array(2 + key.length);
  joined[0] = namespace >>> 8;
  joined[1] = namespace;
  joined.set(key, 2);
  return joined;
}

/** The smallest key above all keys that begin with `prefix`; undefined when there is none (all bytes 255). */
export function keyAfterPrefix(prefix: Uint8Array): Uint8Array | undefined {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 255) length--;
  if (length === 0) return undefined;
  const after = new Uint8Array(prefix.subarray(0, length));
  after[length - 1] = after[length - 1]! + 1;
  return after;
}

export interface ScanRange {
  /** First engine key, included. */
  readonly from: Uint8Array;
  /** Engine key that ends the range, excluded. Default: no end. `keyAfterPrefix` makes one for a prefix. */
  readonly to?: Uint8Array;
  /** From the end to the beginning. */
  readonly reverse?: boolean;
  /** Most entries of this page, 1 to `storeLimits.pageEntriesMax`. */
  readonly limit: number;
  /** False leaves the values out. Default true. */
  readonly values?: boolean;
  /** Wall time that decides what has expired. Default: the clock's. */
  readonly nowMs?: number;
}

/** Why writes are refused now. */
export interface Refusal {
  readonly reason: "log-failed" | "memory" | "closed";
  readonly error: MillraceError;
}

export interface RunState {
  /** 0 = flushed from one memtable, then one more for each merge by a factor of four. */
  readonly level: number;
  readonly files: number;
  readonly bytes: number;
  readonly entries: number;
  readonly tombstones: number;
}

export interface StoreState {
  /** Offset after the last effect applied, after the last acknowledged by the log, and included in runs. A restart replays from the last one. */
  readonly offset: number;
  readonly loggedOffset: number;
  readonly flushedOffset: number;
  /** Bytes of effects that a restart would replay. */
  readonly replayBytes: number;
  readonly memtable: { readonly entries: number; readonly bytes: number };
  /** Full memtables that wait for their flush, bytes of the memory they hold. */
  readonly frozen: { readonly count: number; readonly bytes: number };
  /** Newest first. */
  readonly runs: readonly RunState[];
  /** All memory that the store holds, and the limit. */
  readonly memoryBytes: number;
  readonly memoryBytesMax: number;
  readonly working: "flush" | "compaction" | undefined;
  /** The last failure of a flush or compaction that was not made good yet; it is tried again by itself. */
  readonly trouble: MillraceError | undefined;
  readonly refused: Refusal | undefined;
  readonly counts: {
    readonly flushes: number;
    readonly compactions: number;
    /** Written by flushes and compactions: over the bytes logged it is the write amplification. */
    readonly runBytesWritten: number;
    readonly loggedBytes: number;
    readonly appends: number;
  };
}

export interface Store {
  /**
   * The newest live entry of each engine key. Resets `refs` to `keys.count`; a key without one comes out with source 255, `isHidden` tells whether a
   * tombstone or an expired entry stands here.
   */
  getMany(keys: KeyBatch, refs: EntryRefs, nowMs: number): void;
  /** The value of key `i` of the last `getMany`: a view into its source's memory. */
  bytesOf(refs: EntryRefs, i: number): Uint8Array;
  /** The memory of a source of the last `getMany`, for kernels. */
  memoryOf(source: number): KernelMemory;
  /**
   * Applies the effects and queues them for the log; all that is written in one turn of the loop is one append. Returns a ticket. The batch can be cleared
   * and filled again at once. Throws `invalid` (limits), `overloaded` (memory, or the log is behind) or `unavailable` (writes are refused).
   */
  write(effects: EffectBatch): number;
  /** Resolves when the effects are logged by the policy; waits longer while flushes are far behind, which slows whoever waits. Rejects when the log failed. */
  durable(ticket: number): Promise<void>;
  /**
   * One page of live entries in key order, merged over all levels; at most about 1 ms of work, so a page may be short or empty. False when the range is
   * exhausted; else go on from `into.next` (as `from`, or as `to` in reverse). Entries that stay in the range over several pages come exactly once.
   */
  scan(range: ScanRange, into: ScanPage): boolean;
  /** Offset after the last effect applied. */
  readonly offset: number;
  readonly state: StoreState;
  /** Everything written before the call is in runs when it resolves. Rejects when that failed (it is tried again by itself). */
  flush(): Promise<void>;
  /** Waits for the work under way, flushes nothing, closes the log's writer. What is in memtables comes back from the log. */
  close(): Promise<void>;
}
