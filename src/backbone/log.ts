// The log: partitions of records with offsets. This file is the contract; engines: `embedded-log.ts` (segment files).
// `log.contract.ts` is the suite that every engine must pass, also an adapter over nats-server: nothing here promises more than it can give.
// Invariants: 1. offsets of a partition are dense from 0 and never reused, and one append's records are adjacent
// 2. append resolves once its records are durable by the log's policy, and the answer names the policy
// 3. a reader sees records in offset order, each once, and never a record that recovery may still cut (at `always`)
// 4. one writer a partition: a second one gets `conflict` while the first one's lease lives; a writer that lost the partition to another one
//    gets `conflict` and acknowledges nothing more. One whose lease ended while nobody took the partition goes on: the next append, or a look of its own, takes the lease again.
// 5. an append that failed has an unknown outcome: its records may be there after the writer is opened again, all of one append or none.
// Limits: `logLimits`; an append beyond them is `invalid`, a full queue `overloaded`.

import { MillraceError } from "#base/errors";

/** Bounds of every engine. */
export const logLimits = {
  recordsPerAppendMax: 10_000,
  recordBytesMax: 1024 * 1024,
  /** All records of one append: one append is one frame here and one message on a broker, and brokers cap a message (NATS advises 8 MiB). */
  appendBytesMax: 8 * 1024 * 1024,
  /** Bytes of appends that wait for their acknowledgement in one writer. */
  pendingBytesMax: 64 * 1024 * 1024,
  partitionNameLengthMax: 64,
} as const;

/** Throws `invalid` when `partition` is no partition name. */
export function checkPartitionName(partition: string): void {
  if (/^[a-z0-9-]{1,64}$/.test(partition)) return;
  throw new MillraceError("invalid", `the partition name ${JSON.stringify(partition.slice(0, 80))} is not allowed`, {
    todo: "use 1 to 64 of the characters a-z, 0-9 and -",
  });
}

/** Total bytes of the records of one append; throws `invalid` when a limit is passed. */
export function checkAppend(partition: string, records: readonly Uint8Array[]): number {
  if (records.length < 1 || records.length > logLimits.recordsPerAppendMax) {
    throw new MillraceError("invalid", `an append of ${records.length} records to partition ${partition}`, {
      todo: `append 1 to ${logLimits.recordsPerAppendMax} records at once`,
    });
  }
  let total = 0;
  for (const record of records) {
    if (record.length > logLimits.recordBytesMax) {
      throw new MillraceError("invalid", `a record of ${record.length} bytes for partition ${partition}`, {
        todo: `keep records within ${logLimits.recordBytesMax} bytes`,
      });
    }
    total += record.length;
  }
  if (total > logLimits.appendBytesMax) {
    throw new MillraceError("invalid", `an append of ${total} bytes to partition ${partition}`, {
      todo: `keep one append within ${logLimits.appendBytesMax} bytes`,
    });
  }
  return total;
}

/** `always`: synced before the acknowledgement. `interval`: handed to the operating system before, synced every interval (kill -9 loses
 * nothing, a power cut at most the last interval). `none`: never synced but at close and rotation. */
export type Durability = "always" | "interval" | "none";

export interface AppendResult {
  /** Offset of the first record of this append. */
  readonly firstOffset: number;
  /** Offset after the last record of this append. */
  readonly nextOffset: number;
  readonly durability: Durability;
}

export interface LogRecords {
  /** Offset of the first record; the others follow without gaps. */
  readonly firstOffset: number;
  /** Views of a buffer that nobody writes again, or of the `room` that `read` was given; copy a record that is kept long, or it keeps the whole chunk alive. */
  readonly records: readonly Uint8Array[];
}

export interface LogBounds {
  /** Oldest offset that can still be read. */
  readonly first: number;
  /** Offset that the next record will get. */
  readonly next: number;
}

export interface LogAge {
  /** Default: nothing is too old. */
  readonly beforeMs?: number;
  /** What stays takes no more. Default: nothing is too much. */
  readonly bytesMax?: number;
}

export interface LogWriter {
  readonly partition: string;
  readonly durability: Durability;
  readonly bounds: LogBounds;
  /** Why it takes no more records, once an append, a sync or its lease failed; at `interval` a sync fails without anybody waiting for it. Stays until the log is
   * opened again. */
  readonly failed: MillraceError | undefined;
  /** Appends 1 to `recordsPerAppendMax` records atomically: after a crash all of them are there or none. Concurrent appends are grouped into
   * one write and one sync. `overloaded` when more than `pendingBytesMax` wait; `unavailable` when the disk refuses, after which the
   * writer refuses everything (what is on disk is unknown until it is reopened). */
  append(records: readonly Uint8Array[]): Promise<AppendResult>;
  /** Forgets records before `offset`, in whole segments or messages, so `first` may stay below it; the last ones always stay, since they say what the next
   * offset is. `invalid` beyond `bounds.next`. */
  trim(offset: number): Promise<void>;
  /** Up to where the records are old: appended before `beforeMs` (wall time), or more than `bytesMax` bytes away from the end. Whole segments or
   * messages: by time those that hold nothing younger, by size as many as it takes; the last one never is. `bounds.first` when nothing is old. What may be given to `trim`. */
  oldUpTo(age: LogAge): Promise<number>;
  /** Resolves when everything appended before the call is as safe as the engine can make it, whatever the policy: synced by the embedded one, acknowledged by
   * as many replicas as were asked for by a broker. */
  sync(): Promise<void>;
  /** Syncs, then gives the lease back. */
  close(): Promise<void>;
}

export interface Log {
  /** Takes the partition's lease, recovers (cuts a torn tail, refuses with `corrupt` when a record before the tail is damaged) and opens it for
   * appending. Partition names: `[a-z0-9-]{1,64}`. */
  openWriter(partition: string): Promise<LogWriter>;
  /** Records from `offset` on, at most about `bytesMax`; `undefined` when there are none yet. `not-found` when `offset` was trimmed. `room`: records may be views of it, valid
   * until it is given again; for those who read much at once and would else leave a buffer a read to the garbage collector. */
  read(partition: string, offset: number, bytesMax: number, room?: Uint8Array<ArrayBuffer>): Promise<LogRecords | undefined>;
  /** Follows the partition from `offset` for ever, also while another process writes it; ends when the signal aborts. */
  tail(partition: string, offset: number, signal: AbortSignal): AsyncIterable<LogRecords>;
  bounds(partition: string): Promise<LogBounds>;
  close(): Promise<void>;
}
