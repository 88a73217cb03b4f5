// The one writer of one partition: takes it over, groups appends, writes, syncs, checks that it is still the writer, acknowledges.
// Why group commit: a sync costs milliseconds and 20,000 events a second arrive; whatever comes while one group is under way makes the next one.
// Why the check after the sync: a writer that was paused (SIGSTOP, a swapped-out machine) does not know that its lease ended. Whoever took the lock
// since has read the segment after that, so what was written before a check that succeeds is in his history too.
// Invariants: 1. written (and synced, at `always`) -> lock still held -> acknowledged and visible, in this order  2. one group is one write of one
// buffer  3. after a write, sync or check failed nothing is written or acknowledged any more: what is on disk is unknown until it is reopened, and a
// sync that failed must not be tried again, since the system may have dropped the bytes and call the second one a success  4. at `interval` an
// acknowledgement waits while one given more than `intervalMs` ago is not synced, so that a power cut costs the acknowledgements of one interval at
// most, also on a disk that stalls  5. a segment is synced before the next one exists  6. a lock that ran out (the process stood still) is taken again only when nobody had it
// in between: its token is the next one and no other writer's segment or claim lies in the folder. Then nobody has decided where the history ends, so what is written stands.
// Cost: per group one write, one registry look-up (about 15 us); per record one copy and its CRC32C. The buffer of a group is used again, but while somebody reads
// what was just appended: the frames of the last groups are kept for those. Why: fresh buffers count against the collector's limit for what lies outside of its
// heap, and some 64 MB of them set off a full collection, 10 ms and more of the serving loop.
// Limits: `logLimits`; a group takes up to 4 MiB and yields the loop at every 1 MiB that it assembles.

import { crc32c } from "#base/crc32c";
import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import type { Files, OpenFile } from "#platform/files";
import { type AppendResult, checkAppend, type Durability, type LogAge, type LogBounds, type LogRecords, logLimits, type LogWriter } from "./log.ts";
import { damagedSegment, type PartitionFolder, readSegmentHeader, type Segment } from "./partition-folder.ts";
import type { Lease, Lock } from "./registry.ts";
import { claimName, encodeFrame, frameBytesOf, segmentHeaderBytes } from "./segment-format.ts";
import { scanSegment } from "./segment-recovery.ts";
import type { Wake } from "./wake.ts";

const groupBytesMax = 4 * 1024 * 1024;
const assembleBytesMax = 1024 * 1024;
/** Frames of the last groups stay in memory while somebody reads, so that followers in this process read no file. Bounded in bytes, and in number since a frame of one small
 * record is some objects for the garbage collector. Chosen. */
const recentBytesMax = 4 * 1024 * 1024;
const recentFramesMax = 4_096;
/** So long after the last read frames are kept for the next one. Chosen: followers read whenever something is appended. */
const recentAfterReadMs = 10_000;
/** A group of so many bytes or less is put together in the buffer that is used again. */
const ownBytesMax = 512 * 1024;
const ownBytesMin = 16 * 1024;
/** After this time without appends a mark is written: proof that the last group was synced. Chosen. */
const markAfterMs = 100;
/** How long a failing registry is asked again before the writer gives up. */
const checkPatienceMs = 2_000;

export interface WriterContext {
  readonly files: Files;
  readonly clock: Clock;
  readonly folder: PartitionFolder;
  readonly lease: Lease;
  readonly lock: Lock;
  /** The lock of the partition once more, under a new lease; `undefined` when somebody has it. */
  readonly lockAgain: () => Promise<{ readonly lease: Lease; readonly lock: Lock } | undefined>;
  /** How often an idle writer looks whether its lock is still held, ms. */
  readonly lookMs: number;
  readonly durability: Durability;
  readonly intervalMs: number;
  readonly segmentBytesMax: number;
  /** Told at every change of the visible end and when the writer ends. */
  readonly wake: Wake;
  readonly onClosed: () => void;
}

interface Pending {
  readonly records: readonly Uint8Array[];
  readonly recordBytes: number;
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: MillraceError) => void;
}

interface RecentFrame {
  readonly firstOffset: number;
  readonly records: readonly Uint8Array[];
  readonly bytes: number;
}

/** What recovery found, for the operator's log. */
export interface Recovery {
  /** Bytes of a torn tail that count no more; above 0 after a power cut or a kill in the middle of a write. */
  readonly cutBytes: number;
  readonly nextOffset: number;
  /** Of this writer. */
  readonly epoch: number;
}

export class PartitionWriter implements LogWriter {
  readonly partition: string;
  readonly recovery: Recovery;
  readonly #context: WriterContext;
  readonly #epoch: number;
  #lease: Lease;
  #lock: Lock;
  #segments: Segment[];
  #file: OpenFile;
  #salt: number;
  /** End of what was written, in the current segment. */
  #position = segmentHeaderBytes;
  /** Bytes of the current segment below this are synced. */
  #syncedBytes = segmentHeaderBytes;
  /** When the oldest byte that is not synced was written, monotonic milliseconds. */
  #unsyncedSince: number | undefined;
  #unsynced = false;
  #next: number;
  #queue: Pending[] = [];
  #syncWaiters: { resolve: () => void; reject: (error: MillraceError) => void }[] = [];
  #pendingBytes = 0;
  #running = false;
  #idle: Promise<void> = Promise.resolve();
  #syncing: Promise<void> | undefined;
  #timer: Timer | undefined;
  #markTimer: Timer | undefined;
  #lookTimer: Timer | undefined;
  #lookWanted = false;
  #markWanted = false;
  #failed: MillraceError | undefined;
  #closed: Promise<void> | undefined;
  #recent: RecentFrame[] = [];
  #recentBytes = 0;
  /** When somebody last asked for recent frames, monotonic milliseconds. */
  #readMs = -Infinity;
  /** For groups whose frames nobody keeps; one group is under way at a time. */
  #own = new Uint8Array(ownBytesMin);

  private constructor(context: WriterContext, epoch: number, segments: Segment[], file: OpenFile, salt: number, next: number, recovery: Recovery) {
    this.#context = context;
    this.partition = context.folder.partition;
    this.#epoch = epoch;
    this.#lease = context.lease;
    this.#lock = context.lock;
    this.#segments = segments;
    this.#file = file;
    this.#salt = salt;
    this.#next = next;
    this.recovery = recovery;
    this.#lookLater();
  }

  /** Takes the partition over: claims it, finds the end of the last segment, begins a segment of its own there. */
  static async open(context: WriterContext): Promise<PartitionWriter> {
    const { files, folder, lock, clock } = context;
    await files.makeFolder(folder.path);
    const epoch = Math.max(lock.token, (await folder.list()).epochMax + 1);
    const claim = folder.pathOf(claimName(epoch));
    const claimFile = await files.open(claim, "create");
    if (claimFile === undefined) throw lostLease(folder.partition);
    await claimFile.close();
    try {
      const { nextOffset, previousEpoch, cutBytes } = await recoverEnd(context, [...(await folder.list()).segments]);
      if (!(await lock.held())) throw lostLease(folder.partition);
      const salt = newSalt(clock, epoch);
      const created = await folder.create({ firstOffset: nextOffset, epoch, previousEpoch }, salt, clock.nowMs());
      if (created === undefined) throw lostLease(folder.partition);
      const after = await folder.list();
      for (const leaving of after.leavings) await files.remove(folder.pathOf(leaving));
      if (after.segments.at(-1) !== created.segment || !(await lock.held())) {
        await created.file.close();
        throw lostLease(folder.partition);
      }
      return new PartitionWriter(context, epoch, [...after.segments], created.file, salt, nextOffset, { cutBytes, nextOffset, epoch });
    } catch (thrown) {
      await files.remove(claim).catch(() => false);
      throw thrown;
    }
  }

  get durability(): Durability {
    return this.#context.durability;
  }

  get bounds(): LogBounds {
    return { first: this.#segments[0]!.firstOffset, next: this.#next };
  }

  /** The segments as this writer knows them, for readers in its process. */
  get segments(): readonly Segment[] {
    return this.#segments;
  }

  append(records: readonly Uint8Array[]): Promise<AppendResult> {
    let recordBytes: number;
    try {
      recordBytes = checkAppend(this.partition, records);
    } catch (thrown) {
      return Promise.reject(toMillraceError(thrown));
    }
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const frameBytes = frameBytesOf(records.length, recordBytes);
    if (this.#pendingBytes + frameBytes > logLimits.pendingBytesMax) {
      return Promise.reject(
        new MillraceError("overloaded", `${this.#pendingBytes} bytes wait to be written to partition ${this.partition}`, {
          todo: "wait a moment and try again",
        }),
      );
    }
    this.#pendingBytes += frameBytes;
    return new Promise((resolve, reject) => {
      this.#queue.push({ records, recordBytes, resolve, reject });
      this.#start();
    });
  }

  async trim(offset: number): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > this.#next) {
      throw new MillraceError("invalid", `cannot trim partition ${this.partition} to ${offset}`, { todo: `name an offset from 0 to ${this.#next}` });
    }
    const { files, folder } = this.#context;
    while (this.#segments.length > 1 && this.#segments[1]!.firstOffset <= offset) {
      const gone = this.#segments[0]!;
      this.#segments = this.#segments.slice(1);
      // Synced one by one: a power cut must not bring back an older one without the one after it.
      if (await files.remove(gone.path)) await files.syncFolder(folder.path);
    }
  }

  async oldUpTo({ beforeMs = -Infinity, bytesMax = Infinity }: LogAge): Promise<number> {
    const segments = this.#segments;
    const { files } = this.#context;
    // Closed ones do not change; of the one that is written only the rest counts, and that is kept.
    const sizes = await Promise.all(segments.slice(0, -1).map(async ({ path }) => (bytesMax === Infinity ? 0 : ((await files.sizeOf(path)) ?? 0))));
    let bytes = sizes.reduce((sum, size) => sum + size, this.#position);
    let upTo = segments[0]!.firstOffset;
    for (const [at, size] of sizes.entries()) {
      const next = segments[at + 1]!;
      // What a segment holds was appended before the next one was begun.
      if (bytes <= bytesMax && !((await this.#createdMsOf(next)) < beforeMs)) break;
      bytes -= size;
      upTo = next.firstOffset;
    }
    return upTo;
  }

  /** NaN for a segment that is no longer there. */
  async #createdMsOf(segment: Segment): Promise<number> {
    if (segment.createdMs === undefined) await (await this.#context.folder.openSegment(segment))?.close();
    return segment.createdMs ?? Number.NaN;
  }

  sync(): Promise<void> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      this.#syncWaiters.push({ resolve, reject });
      this.#start();
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** Frames from `offset` on out of memory; `undefined` when it must be read from the file. */
  readRecent(offset: number, bytesMax: number): LogRecords | undefined {
    this.#readMs = this.#context.clock.monotonicMs();
    const frames = this.#recent;
    if (frames.length === 0 || offset < frames[0]!.firstOffset) return undefined;
    let low = 0;
    let high = frames.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (frames[middle]!.firstOffset <= offset) low = middle;
      else high = middle - 1;
    }
    const records: Uint8Array[] = [];
    let bytes = 0;
    for (let at = low; at < frames.length && bytes < bytesMax; at += 1) {
      const frame = frames[at]!;
      const skip = Math.max(0, offset - frame.firstOffset);
      for (let index = skip; index < frame.records.length; index += 1) records.push(frame.records[index]!);
      bytes += frame.bytes;
    }
    return records.length === 0 ? undefined : { firstOffset: offset, records };
  }

  get failed(): MillraceError | undefined {
    return this.#closed === undefined ? this.#failed : undefined;
  }

  #refusal(): MillraceError | undefined {
    if (this.#failed !== undefined) return this.#failed;
    if (this.#closed === undefined) return undefined;
    return new MillraceError("invalid", `the writer of partition ${this.partition} is closed`, { todo: "open it again" });
  }

  /** Throws once something has failed; asked again after every wait. */
  #checkUsable(): void {
    if (this.#failed !== undefined) throw this.#failed;
  }

  #start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#markTimer?.cancel();
    this.#markTimer = undefined;
    this.#idle = this.#run();
  }

  async #run(): Promise<void> {
    // Whatever is appended in the same turn of the loop joins the first group.
    await Promise.resolve();
    while (this.#failed === undefined && (this.#queue.length > 0 || this.#syncWaiters.length > 0 || this.#markWanted || this.#lookWanted)) {
      const group = this.#takeGroup();
      const waiters = this.#syncWaiters;
      // A sync asked for now covers what was appended before it, so it goes with the last group of the queue.
      const syncNow = waiters.length > 0 && this.#queue.length === 0;
      if (syncNow) this.#syncWaiters = [];
      try {
        await this.#commit(group, syncNow);
        if (syncNow) for (const waiter of waiters) waiter.resolve();
      } catch (thrown) {
        this.#fail(toMillraceError(thrown, `writing to partition ${this.partition} failed`), syncNow ? [...group, ...waiters] : group);
      }
    }
    this.#running = false;
    this.#armMark();
  }

  #takeGroup(): Pending[] {
    let bytes = 0;
    let count = 0;
    while (count < this.#queue.length) {
      const next = this.#queue[count]!;
      const frameBytes = frameBytesOf(next.records.length, next.recordBytes);
      if (count > 0 && bytes + frameBytes > groupBytesMax) break;
      bytes += frameBytes;
      count += 1;
    }
    const group = count === this.#queue.length ? this.#queue : this.#queue.slice(0, count);
    this.#queue = count === this.#queue.length ? [] : this.#queue.slice(count);
    return group;
  }

  async #commit(group: readonly Pending[], syncNow: boolean): Promise<void> {
    const { clock, durability } = this.#context;
    const mark = this.#markWanted;
    this.#markWanted = false;
    const look = this.#lookWanted;
    this.#lookWanted = false;
    let bytes = mark ? frameBytesOf(0, 0) : 0;
    for (const pending of group) bytes += frameBytesOf(pending.records.length, pending.recordBytes);
    if (bytes > 0) {
      if (group.length > 0 && this.#position > segmentHeaderBytes && this.#position + bytes > this.#context.segmentBytesMax) await this.#rotate();
      const { buffer, frames } = await this.#assemble(group, bytes, mark);
      const start = this.#position;
      const begun = clock.monotonicMs();
      await this.#file.write(buffer, start);
      this.#checkUsable();
      // Only now: a sync that ran beside the write must not have taken these bytes for synced.
      this.#position = start + bytes;
      if (group.length > 0) {
        this.#unsynced = true;
        this.#unsyncedSince ??= begun;
      }
      if (durability === "always" && group.length > 0) await this.#syncFile();
      else if (durability === "interval" && group.length > 0) await this.#keepInterval();
      if (syncNow) await this.#syncFile();
      if (group.length > 0) await this.#checkLock();
      this.#checkUsable();
      this.#acknowledge(group, frames, bytes);
    } else if (syncNow) {
      await this.#syncFile();
      await this.#checkLock();
    } else if (look) {
      try {
        await this.#checkLock();
      } catch (thrown) {
        // Nothing waits for an answer: what may pass by itself is found by the next look, or by the next group.
        if (!toMillraceError(thrown).retryable) throw thrown;
      }
    }
  }

  async #assemble(group: readonly Pending[], bytes: number, mark: boolean): Promise<{ buffer: Uint8Array; frames: RecentFrame[] }> {
    const keeps = this.#context.clock.monotonicMs() - this.#readMs < recentAfterReadMs;
    if (!keeps && this.#recent.length > 0) {
      // What is kept must go on without a gap.
      this.#recent = [];
      this.#recentBytes = 0;
    }
    const buffer = keeps ? new Uint8Array(bytes) : this.#ownBuffer(bytes);
    const view = new DataView(buffer.buffer);
    const frames: RecentFrame[] = [];
    const segment = this.#segments[this.#segments.length - 1]!;
    const fields = { firstOffset: this.#next, epoch: this.#epoch, salt: this.#salt, syncedBytes: this.#syncedBytes };
    let at = 0;
    let yieldedAt = 0;
    for (const pending of group) {
      segment.noteFrame(fields.firstOffset, this.#position + at);
      const start = at;
      at = encodeFrame(buffer, view, at, pending.records, pending.recordBytes, fields);
      if (keeps) frames.push({ firstOffset: fields.firstOffset, records: viewsOf(buffer, start, pending.records), bytes: at - start });
      fields.firstOffset += pending.records.length;
      if (at - yieldedAt > assembleBytesMax) {
        yieldedAt = at;
        await this.#context.clock.yield();
      }
    }
    if (mark) encodeFrame(buffer, view, at, [], 0, fields);
    return { buffer, frames };
  }

  /** A view of `bytes` bytes in the buffer that is used again; a large group gets one for itself. */
  #ownBuffer(bytes: number): Uint8Array {
    if (bytes > ownBytesMax) return new Uint8Array(bytes);
    if (bytes > this.#own.length) {
      let size = this.#own.length;
      while (size < bytes) size *= 2;
      this.#own = new Uint8Array(size);
    }
    return this.#own.subarray(0, bytes);
  }

  /** Cuts back to the bounds when they are exceeded by a quarter: at every append it would copy the whole list each time. */
  #forgetOldFrames(): void {
    const frames = this.#recent;
    if (this.#recentBytes <= recentBytesMax * 1.25 && frames.length <= recentFramesMax * 1.25) return;
    let drop = 0;
    while (drop < frames.length - 1 && (this.#recentBytes > recentBytesMax || frames.length - drop > recentFramesMax)) {
      this.#recentBytes -= frames[drop]!.bytes;
      drop += 1;
    }
    this.#recent = frames.slice(drop);
  }

  #acknowledge(group: readonly Pending[], frames: readonly RecentFrame[], bytes: number): void {
    if (group.length === 0) return;
    const { durability, wake } = this.#context;
    if (frames.length > 0) {
      for (const frame of frames) this.#recent.push(frame);
      this.#recentBytes += bytes;
      this.#forgetOldFrames();
    }
    let firstOffset = this.#next;
    for (const pending of group) {
      const nextOffset = firstOffset + pending.records.length;
      this.#pendingBytes -= frameBytesOf(pending.records.length, pending.recordBytes);
      pending.resolve({ firstOffset, nextOffset, durability });
      firstOffset = nextOffset;
    }
    this.#next = firstOffset;
    wake.notify();
  }

  /** Makes everything written so far durable. Throws when the disk refuses, and then the writer has failed for good. */
  async #syncFile(): Promise<void> {
    // A sync under way may have begun before the last write: let it end, then do one of our own.
    if (this.#syncing !== undefined) await this.#syncing;
    this.#checkUsable();
    this.#timer?.cancel();
    this.#timer = undefined;
    if (!this.#unsynced) return;
    const end = this.#position;
    const begun = this.#context.clock.monotonicMs();
    this.#syncing = this.#file.sync().then(
      () => {
        this.#syncing = undefined;
        this.#syncedBytes = end;
        this.#unsynced = this.#position > end;
        this.#unsyncedSince = this.#unsynced ? begun : undefined;
      },
      (thrown: unknown) => {
        this.#syncing = undefined;
        const error = toMillraceError(thrown, `syncing partition ${this.partition} failed`);
        this.#fail(error, []);
        throw error;
      },
    );
    await this.#syncing;
  }

  /** At `interval`: makes sure that a sync will come in half an interval, and waits for it when one is overdue. */
  async #keepInterval(): Promise<void> {
    const { clock, intervalMs } = this.#context;
    const age = clock.monotonicMs() - (this.#unsyncedSince ?? clock.monotonicMs());
    if (age >= intervalMs) {
      await this.#syncFile();
      return;
    }
    if (this.#timer !== undefined || this.#syncing !== undefined) return;
    this.#timer = clock.after(Math.max(1, intervalMs / 2 - age), () => this.#onTimer());
  }

  #onTimer(): void {
    this.#timer = undefined;
    if (this.#failed !== undefined || this.#syncing !== undefined) return;
    this.#syncFile().then(
      () => {
        if (this.#unsynced && this.#failed === undefined) void this.#keepInterval().catch(() => undefined);
        else this.#armMark();
      },
      () => undefined,
    );
  }

  #armMark(): void {
    if (this.#running || this.#failed !== undefined || this.#closed !== undefined || this.#markTimer !== undefined) return;
    if (this.#unsynced || this.#syncedBytes === segmentHeaderBytes || this.#syncedBytes !== this.#position) return;
    this.#markTimer = this.#context.clock.after(
      markAfterMs,
      () => {
        this.#markTimer = undefined;
        if (this.#running || this.#failed !== undefined || this.#closed !== undefined) return;
        this.#markWanted = true;
        this.#start();
      },
      { background: true },
    );
  }

  /** So that an idle writer's loss is known before somebody writes, and a lock that ran out is taken again before others try. */
  #lookLater(): void {
    this.#lookTimer = this.#context.clock.after(
      this.#context.lookMs,
      () => {
        if (this.#failed !== undefined || this.#closed !== undefined) return;
        this.#lookWanted = true;
        this.#start();
        this.#lookLater();
      },
      { background: true },
    );
  }

  async #checkLock(): Promise<void> {
    const { clock } = this.#context;
    const patientUntil = clock.monotonicMs() + checkPatienceMs;
    for (;;) {
      try {
        // Taken again it is asked for once more: the process may have stood still in between, too.
        while (!(await this.#lock.held())) if (!(await this.#retake())) throw lostLease(this.partition);
        return;
      } catch (thrown) {
        const error = toMillraceError(thrown);
        if (!error.retryable || clock.monotonicMs() > patientUntil) throw error;
        await clock.sleep(20);
      }
    }
  }

  /** Invariant 6; false when the partition is another's, or was. */
  async #retake(): Promise<boolean> {
    if (!(await this.#isUntouched())) return false;
    const again = await this.#context.lockAgain().catch((thrown: unknown) => {
      const { code, what } = toMillraceError(thrown);
      // The new lease ended before the lock was asked for.
      throw code === "conflict" ? new MillraceError("unavailable", what, { cause: thrown, todo: "try again" }) : thrown;
    });
    if (again === undefined) return false;
    const { lease, lock } = again;
    if (lock.token !== this.#lock.token + 1 || !(await this.#isUntouched())) {
      await lock.release();
      await lease.end();
      return false;
    }
    const ended = this.#lease;
    this.#lease = lease;
    this.#lock = lock;
    await ended.end().catch(() => undefined);
    return true;
  }

  /** Whether the folder's history ends with this writer, and nobody has claimed it since. */
  async #isUntouched(): Promise<boolean> {
    const { epochMax, segments } = await this.#context.folder.list();
    return epochMax === this.#epoch && segments.at(-1)?.path === this.#segments.at(-1)!.path;
  }

  async #rotate(): Promise<void> {
    const { folder, clock } = this.#context;
    await this.#syncFile();
    await this.#checkLock();
    const salt = newSalt(clock, this.#epoch);
    const created = await folder.create({ firstOffset: this.#next, epoch: this.#epoch, previousEpoch: this.#epoch }, salt, clock.nowMs());
    if (created === undefined) throw lostLease(this.partition);
    await this.#file.close();
    this.#file = created.file;
    this.#salt = salt;
    this.#position = segmentHeaderBytes;
    this.#syncedBytes = segmentHeaderBytes;
    this.#unsyncedSince = undefined;
    this.#unsynced = false;
    this.#segments = [...this.#segments, created.segment];
  }

  #fail(error: MillraceError, current: readonly { reject: (error: MillraceError) => void }[]): void {
    this.#failed ??=
      error.code === "conflict"
        ? error
        : new MillraceError("unavailable", `partition ${this.partition} takes no more records, ${error.what}`, {
            cause: error,
            todo: "free or repair the disk, then start the server again",
          });
    this.#timer?.cancel();
    this.#markTimer?.cancel();
    this.#lookTimer?.cancel();
    const rejected = [...current, ...this.#queue, ...this.#syncWaiters];
    this.#queue = [];
    this.#syncWaiters = [];
    this.#pendingBytes = 0;
    for (const pending of rejected) pending.reject(this.#failed);
    this.#context.wake.notify();
  }

  async #close(): Promise<void> {
    const { onClosed, wake } = this.#context;
    this.#markTimer?.cancel();
    this.#lookTimer?.cancel();
    this.#timer?.cancel();
    await this.#idle;
    if (this.#syncing !== undefined) await this.#syncing.catch(() => undefined);
    let failure: unknown;
    if (this.#failed === undefined) {
      try {
        await this.#syncFile();
        if (this.#position > segmentHeaderBytes && this.#syncedBytes === this.#position && (await this.#lock.held())) await this.#commitMark();
      } catch (thrown) {
        failure = this.#failed ?? thrown;
      }
    }
    this.#failed ??= new MillraceError("invalid", `the writer of partition ${this.partition} is closed`, { todo: "open it again" });
    await this.#file.close().catch(() => undefined);
    onClosed();
    wake.notify();
    await this.#lock.release();
    await this.#lease.end();
    if (failure !== undefined) throw toMillraceError(failure);
  }

  async #commitMark(): Promise<void> {
    this.#markWanted = true;
    await this.#commit([], false);
  }
}

/** The records of a frame that was encoded at `start`. */
function viewsOf(buffer: Uint8Array, start: number, records: readonly Uint8Array[]): Uint8Array[] {
  let bodyAt = start + frameBytesOf(0, 0) + 4 * records.length;
  return records.map(({ length }) => {
    bodyAt += length;
    return buffer.subarray(bodyAt - length, bodyAt);
  });
}

function lostLease(partition: string): MillraceError {
  return new MillraceError("conflict", `this process is no longer the writer of partition ${partition}`, {
    todo: "it stood still for longer than its lease and another process took over: write there, or stop that one and restart this server",
  });
}

let saltCount = 0;

/** The salt only has to differ from segment to segment and be unknown to those who send records. */
function newSalt(clock: Clock, epoch: number): number {
  saltCount += 1;
  return crc32c(new Uint8Array(new Float64Array([clock.nowMs(), clock.monotonicMs(), epoch, saltCount]).buffer));
}

/** Finds where the history ends and makes what it keeps durable. */
async function recoverEnd(context: WriterContext, segments: Segment[]): Promise<{ nextOffset: number; previousEpoch: number; cutBytes: number }> {
  const last = segments.pop();
  if (last === undefined) return { nextOffset: 0, previousEpoch: 0, cutBytes: 0 };
  const { files, folder, clock } = context;
  const file = await files.open(last.path, "write");
  try {
    // A segment whose header never reached the disk holds no frame: its writer had not begun.
    const header = await readSegmentHeader(file!, folder.partition, last);
    if (header === undefined) return { nextOffset: last.firstOffset, previousEpoch: segments.at(-1)?.epoch ?? 0, cutBytes: 0 };
    last.salt = header.salt;
    last.createdMs = header.createdMs;
    const scan = await scanSegment(file!, last, clock);
    if (scan.corrupt) throw damagedSegment(last.path, scan.end, `though everything below byte ${scan.provenBytes} was synced`);
    // What no frame proves to be synced is written again before it is synced: after a sync that failed the system may hold pages that it
    // calls clean though they never reached the disk.
    const unproven = scan.end - scan.provenBytes;
    if (unproven > 0 && context.durability !== "none") {
      const piece = new Uint8Array(Math.min(unproven, assembleBytesMax));
      for (let at = scan.provenBytes; at < scan.end; at += piece.length) {
        const part = piece.subarray(0, Math.min(piece.length, scan.end - at));
        await file!.read(part, at);
        await file!.write(part, at);
      }
    }
    if (unproven > 0) await file!.sync();
    const empty = scan.nextOffset === last.firstOffset;
    return { nextOffset: scan.nextOffset, previousEpoch: (empty ? segments.at(-1)?.epoch : last.epoch) ?? 0, cutBytes: scan.fileBytes - scan.end };
  } finally {
    await file!.close();
  }
}
