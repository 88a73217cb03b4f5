// The log of one machine: segment files in a folder, one writer a partition by lock, readers in every process.
// docs/design/backbone.md has the why and the figures, docs/format/log-segment.md the bytes.
// Why a lock of the registry and not of the file system: it is fenced (its token is the epoch in every segment name), it ends by itself, and the
// cluster form has the same one.
// Invariants: those of log.ts. Concurrency: one thread a Log; several Logs and processes may share a folder and a registry.
// Cost: see partition-writer.ts and partition-reader.ts. An idle `tail` beside the writer costs nothing, in another process one look every 20 ms.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { checkPartitionName, type Durability, type Log, type LogBounds, type LogRecords, type LogWriter } from "./log.ts";
import { PartitionFolder } from "./partition-folder.ts";
import { PartitionCursor, type ReaderContext } from "./partition-reader.ts";
import { PartitionWriter, type Recovery } from "./partition-writer.ts";
import type { Lease, Lock, Registry } from "./registry.ts";
import { Wake } from "./wake.ts";

export interface EmbeddedLogOptions {
  readonly files: Files;
  readonly clock: Clock;
  /** Holds the lock of each partition; shared by all processes that share the folder. */
  readonly registry: Registry;
  /** Where the partitions' folders lie. Made when missing. */
  readonly folder: string;
  readonly durability: Durability;
  /** At `interval`: a power cut costs the acknowledgements of at most this long. Milliseconds, 2 to 60,000, default 200: ten syncs a second cost a disk
   * nothing, and 200 ms is what a user may repeat without noticing. */
  readonly intervalMs?: number;
  /** A segment is closed before it grows beyond this; one append may be larger. Bytes, 1 KiB to 1 GiB, default 64 MiB: trim and recovery work by segment. */
  readonly segmentBytesMax?: number;
  /** How long a paused writer keeps the partition surely (after it, until somebody takes it); one that died is replaced at once where the registry can tell. Milliseconds, default 10,000. */
  readonly leaseMs?: number;
  /** Begins the names of the locks: two logs in one registry need different ones. Default `log`. */
  readonly lockPrefix?: string;
  /** Told after each opening of a writer what was found, for the operator's log. */
  readonly onRecovery?: (partition: string, recovery: Recovery) => void;
}

interface Partition {
  readonly folder: PartitionFolder;
  readonly wake: Wake;
  readonly reader: ReaderContext;
  /** For `read` and `bounds`, which take turns. */
  readonly cursor: PartitionCursor;
  turn: Promise<unknown>;
  writer: PartitionWriter | undefined;
}

const followBytes = 256 * 1024;
const followMsMin = 1;
const followMsMax = 20;

function checkRange(name: string, value: number, min: number, max: number): number {
  if (Number.isFinite(value) && value >= min && value <= max) return value;
  throw new MillraceError("invalid", `${name} = ${value}`, { todo: `choose ${min} to ${max}` });
}

/** Opens the embedded log. Nothing is read or made before the first call. */
export function openEmbeddedLog(options: EmbeddedLogOptions): Log {
  return new EmbeddedLog(options);
}

class EmbeddedLog implements Log {
  readonly #options: EmbeddedLogOptions;
  readonly #intervalMs: number;
  readonly #segmentBytesMax: number;
  readonly #leaseMs: number;
  readonly #partitions = new Map<string, Partition>();
  readonly #ending = new AbortController();

  constructor(options: EmbeddedLogOptions) {
    this.#options = options;
    this.#intervalMs = checkRange("intervalMs", options.intervalMs ?? 200, 2, 60_000);
    this.#segmentBytesMax = checkRange("segmentBytesMax", options.segmentBytesMax ?? 64 * 1024 * 1024, 1024, 1024 * 1024 * 1024);
    this.#leaseMs = checkRange("leaseMs", options.leaseMs ?? 10_000, 100, 3_600_000);
  }

  async openWriter(name: string): Promise<LogWriter> {
    const partition = this.#partition(name);
    const { files, clock, registry, durability, lockPrefix = "log" } = this.#options;
    const take = async (): Promise<{ lease: Lease; lock: Lock } | undefined> => {
      const lease = await registry.lease(this.#leaseMs);
      const lock = await registry.tryLock(`${lockPrefix}/${name}`, lease);
      if (lock !== undefined) return { lease, lock };
      await lease.end();
      return undefined;
    };
    const taken = await take();
    if (taken === undefined) {
      throw new MillraceError("conflict", `partition ${name} has a writer already`, { todo: "stop the other process, or wait until its lease ends" });
    }
    const { lease, lock } = taken;
    try {
      const writer = await PartitionWriter.open({
        files,
        clock,
        folder: partition.folder,
        lease,
        lock,
        lockAgain: take,
        lookMs: this.#leaseMs / 2,
        durability,
        intervalMs: this.#intervalMs,
        segmentBytesMax: this.#segmentBytesMax,
        wake: partition.wake,
        onClosed: () => {
          if (partition.writer === writer) partition.writer = undefined;
        },
      });
      partition.writer = writer;
      this.#options.onRecovery?.(name, writer.recovery);
      partition.wake.notify();
      return writer;
    } catch (thrown) {
      await lock.release();
      await lease.end();
      throw thrown;
    }
  }

  async read(name: string, offset: number, bytesMax: number, room?: Uint8Array<ArrayBuffer>): Promise<LogRecords | undefined> {
    checkOffset(name, offset);
    const partition = this.#partition(name);
    return takeTurn(partition, () => partition.cursor.read(offset, bytesMax, room));
  }

  async bounds(name: string): Promise<LogBounds> {
    const partition = this.#partition(name);
    return takeTurn(partition, () => partition.cursor.bounds());
  }

  async *tail(name: string, offset: number, outer: AbortSignal): AsyncGenerator<LogRecords, void, void> {
    checkOffset(name, offset);
    const { clock } = this.#options;
    const partition = this.#partition(name);
    const signal = AbortSignal.any([outer, this.#ending.signal]);
    const cursor = new PartitionCursor(partition.reader);
    let at = offset;
    let waitMs = followMsMin;
    try {
      while (!signal.aborted) {
        const { version } = partition.wake;
        const found = await cursor.read(at, followBytes);
        if (found !== undefined) {
          at = found.firstOffset + found.records.length;
          waitMs = followMsMin;
          if (signal.aborted) return;
          yield found;
          continue;
        }
        if (partition.writer !== undefined) {
          await partition.wake.changed(version, signal);
          continue;
        }
        await partition.wake.changed(version, signal, { clock, delayMs: waitMs });
        waitMs = Math.min(followMsMax, waitMs * 2);
      }
    } finally {
      await cursor.close();
    }
  }

  async close(): Promise<void> {
    this.#ending.abort();
    const partitions = [...this.#partitions.values()];
    const closed = await Promise.allSettled(partitions.map(async (partition) => partition.writer?.close()));
    for (const partition of partitions) await takeTurn(partition, () => partition.cursor.close());
    for (const one of closed) if (one.status === "rejected") throw one.reason;
  }

  #partition(name: string): Partition {
    checkPartitionName(name);
    if (this.#ending.signal.aborted) throw new MillraceError("invalid", `the log in ${this.#options.folder} is closed`, { todo: "open it again" });
    let partition = this.#partitions.get(name);
    if (partition === undefined) {
      const folder = new PartitionFolder(this.#options.files, this.#options.folder, name);
      const reader: ReaderContext = { folder, clock: this.#options.clock, writer: () => this.#partitions.get(name)?.writer };
      partition = { folder, wake: new Wake(), reader, cursor: new PartitionCursor(reader), turn: Promise.resolve(), writer: undefined };
      this.#partitions.set(name, partition);
    }
    return partition;
  }
}

function takeTurn<T>(partition: Partition, work: () => Promise<T>): Promise<T> {
  const turn = partition.turn.then(work, work);
  partition.turn = turn.catch(() => undefined);
  return turn;
}

function checkOffset(partition: string, offset: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0) return;
  throw new MillraceError("invalid", `offset ${offset} of partition ${partition}`, { todo: "name a whole number from 0 on" });
}
