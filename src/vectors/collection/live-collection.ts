// One collection of a node: its delta log, the views of its loaded versions, who serves, and the way a write goes.
//   write -> encoded -> appended to the log (durable by its policy) -> applied to every view, in the order of offsets -> acknowledged
//   version -> loaded -> the log from its deltaOffset applied to it in slices -> takes writes like the others -> serves, by one assignment
// Why applied after the append: what a search sees is then never more than what a restart finds again.
// Invariants: 1. an acknowledged write is durable by the log's policy and in every view  2. every view that takes writes has applied exactly the records below `applied`; a view joins in
// the turn in which it has reached that  3. nothing else changes a view, so a restart, a switch and a roll-back come to the state of the log
// 4. the log is trimmed only below the `deltaOffset` of every version that may still be served, and not what is younger than `logKeepMs`.
// Cost: a write is one record of an append that all writes of a turn share. Slices of `sliceMs` bound what applying and replaying take from the thread.
// Concurrency: one thread. Limits: collectionLimits.

import { ByteWriter } from "#base/byte-writer";
import { assert, MillraceError, toMillraceError } from "#base/errors";
import { type Log, logLimits, type LogWriter } from "#backbone/log";
import type { MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { Workers } from "#platform/workers";
import type { SnapshotAlarm } from "#snapshot/alarm";
import { versionsOf } from "#snapshot/head";
import type { LoadSlots } from "#snapshot/load-slots";
import type { Manifest } from "#snapshot/manifest";
import { type FetchedFile, type FollowerState, SnapshotFollower } from "#snapshot/snapshot-follower";
import type { SnapshotStore } from "#snapshot/snapshot-store";
import { versionMetaOf } from "../builder/version-meta.ts";
import type { BaseVersion } from "./base-version.ts";
import { type CollectionRecord, deltaPartition, snapshotNameOf } from "./collection-record.ts";
import { CollectionView } from "./collection-view.ts";
import { readDelta, writeAttributes, writeNothing, writeRemove, writeUpsert } from "./delta-record.ts";

export const collectionLimits = {
  /** Of work on the thread before it lets others have it. */
  sliceMs: 0.5,
  /** Rows between two looks at the clock. */
  sliceRows: 32,
  /** Bytes and records of one append; a larger write becomes several. */
  appendBytes: 512 << 10,
  appendRecords: 2_048,
  /** Appends under way. */
  appendsMax: 64,
  /** Rows that wait to be acknowledged. */
  rowsWaitingMax: 200_000,
  /** Bytes of the log read at once in a replay. */
  replayBytes: 256 << 10,
  /** A record that is acknowledged must be readable at once; how often it is looked for before that is called damage. */
  replayLooksMax: 200,
  /** Records younger than this are not trimmed: a build that takes less finds every write since it began. */
  logKeepMs: 3_600_000,
  /** Pauses before a log that failed is opened again. */
  reopenMsMin: 200,
  reopenMsMax: 30_000,
} as const;

export interface CollectionParts {
  readonly clock: Clock;
  readonly files: Files;
  readonly log: Log;
  readonly snapshots: SnapshotStore;
  readonly pool: MemoryPool;
  /** Checksums of fetched files are taken there. */
  readonly workers?: Workers;
  readonly slots: LoadSlots;
  /** Of this server, in the registry. */
  readonly node: string;
  /** Of this collection alone: fetched versions. */
  readonly folder: string;
  /** Versions besides the serving one that stay loaded. */
  readonly spareMax: number;
  readonly loadBase: (manifest: Manifest, files: readonly FetchedFile[], owner: string, signal: AbortSignal) => Promise<BaseVersion>;
  readonly warn: (message: string) => void;
  /** Right after a switch, in the same turn. */
  readonly onSwitch: () => void;
  /** Default collectionLimits.sliceMs; tests take 0. */
  readonly sliceMs?: number;
}

/** One call that writes. */
export type CollectionWrite =
  | {
      readonly kind: "upsert";
      readonly elements: readonly string[];
      /** Kept until it is acknowledged: not written again. */
      readonly vectors: Float32Array;
      readonly from: number;
      readonly attributes: readonly (string | undefined)[] | undefined;
    }
  | { readonly kind: "remove"; readonly elements: readonly string[] }
  | { readonly kind: "attributes"; readonly elements: readonly string[]; readonly attributes: readonly string[] };

interface Waiting {
  readonly write: CollectionWrite;
  readonly flags: Uint8Array;
  /** Rows that are in an append. */
  encoded: number;
  readonly resolve: (flags: Uint8Array) => void;
  readonly reject: (error: MillraceError) => void;
}

/** Rows `from` to `to - 1` of a write, in one append. */
interface Part {
  readonly waiting: Waiting;
  readonly from: number;
  readonly to: number;
}

interface Append {
  readonly parts: readonly Part[];
  readonly done: Promise<{ readonly firstOffset: number } | MillraceError>;
}

/** A reader of a view. */
export interface ViewLease {
  readonly view: CollectionView;
  release(): void;
}

export class LiveCollection {
  readonly record: CollectionRecord;
  readonly partition: string;
  readonly snapshotName: string;
  readonly #parts: CollectionParts;
  readonly #sliceMs: number;
  readonly #stop = new AbortController();
  readonly #follower: SnapshotFollower<CollectionView>;
  /** Views that take writes. */
  readonly #views = new Set<CollectionView>();
  /** Without a base: before the first version. */
  #root: CollectionView | undefined;
  #rootReaders = 0;
  #writer: LogWriter | undefined;
  /** Offset of the first record that is not in the views. */
  #applied = 0;
  #queue: Waiting[] = [];
  #rowsWaiting = 0;
  #appends: Append[] = [];
  #encoding = false;
  #applying = false;
  #writeFailure: MillraceError | undefined;
  #switches = 0;
  upserts = 0;
  removes = 0;
  #tailSinceMs: number | undefined;

  private constructor(record: CollectionRecord, parts: CollectionParts) {
    this.record = record;
    this.partition = deltaPartition(record.id);
    this.snapshotName = snapshotNameOf(record.name);
    this.#parts = parts;
    this.#sliceMs = parts.sliceMs ?? collectionLimits.sliceMs;
    this.#follower = new SnapshotFollower<CollectionView>({
      store: parts.snapshots,
      name: this.snapshotName,
      node: parts.node,
      files: parts.files,
      clock: parts.clock,
      folder: parts.folder,
      slots: parts.slots,
      spareMax: parts.spareMax,
      ...(parts.workers === undefined ? {} : { workers: parts.workers }),
      load: (manifest, { files, signal }) => this.#load(manifest, files, signal),
      onSwitch: () => this.#switched(),
      onAlarm: (alarm) => parts.warn(alarmText(alarm)),
    });
  }

  /** Takes the collection's log, loads what is live and applies the log to it. Throws `conflict` when another process writes it, `corrupt` when its log or its base is not whole. */
  static async open(record: CollectionRecord, parts: CollectionParts): Promise<LiveCollection> {
    const collection = new LiveCollection(record, parts);
    try {
      await collection.#openLog();
      collection.#follower.start();
      await collection.#follower.settled;
      if (collection.#follower.value === undefined) await collection.#openRoot();
      return collection;
    } catch (thrown) {
      await collection.close().catch(() => undefined);
      throw thrown;
    }
  }

  // --- reading -------------------------------------------------------------------------------------------------------------------------

  /** What is served. Only until the next await. */
  get serving(): CollectionView | undefined {
    return this.#follower.value ?? this.#root;
  }

  /** A reader of what is served, or of a loaded version by name; undefined when there is none. */
  lease(version?: string): ViewLease | undefined {
    const lease = this.#follower.lease(version);
    if (lease !== undefined) return { view: lease.value, release: () => lease.release() };
    const root = this.#root;
    if (root === undefined || (version !== undefined && version !== "")) return undefined;
    this.#rootReaders += 1;
    let held = true;
    return {
      view: root,
      release: () => {
        if (!held) return;
        held = false;
        this.#rootReaders -= 1;
        this.#leaveRoot();
      },
    };
  }

  get follower(): FollowerState {
    return this.#follower.state;
  }

  get switches(): number {
    return this.#switches;
  }

  /** Offset of the first record that no view has. */
  get applied(): number {
    return this.#applied;
  }

  /** Why writes are refused now. */
  get failure(): MillraceError | undefined {
    return this.#writeFailure;
  }

  /** Since when something stands in the tail, monotonic milliseconds. */
  get tailSinceMs(): number | undefined {
    return this.#tailSinceMs;
  }

  /** Memory of all views. */
  get bytes(): number {
    let bytes = 0;
    for (const view of this.#views) bytes += view.bytes;
    return bytes;
  }

  // --- writing -------------------------------------------------------------------------------------------------------------------------

  /** Resolves when the write is durable and visible: upsert, 1 for each element that was new; else 1 for each that was there. Throws `overloaded` before anything is written. */
  write(write: CollectionWrite): Promise<Uint8Array> {
    const rows = write.elements.length;
    if (rows === 0) return Promise.resolve(new Uint8Array(0));
    if (this.#writeFailure !== undefined) return Promise.reject(this.#writeFailure);
    if (this.#stop.signal.aborted) return Promise.reject(gone(this.record.name));
    if (this.#rowsWaiting + rows > collectionLimits.rowsWaitingMax) {
      return Promise.reject(
        new MillraceError("overloaded", `${this.#rowsWaiting} rows of collection ${this.record.name} wait to be written`, {
          todo: "send less at once, then again",
        }),
      );
    }
    if (write.kind !== "remove") {
      try {
        for (const view of this.#views) view.reserve(this.#rowsWaiting + rows);
      } catch (thrown) {
        const error = toMillraceError(thrown);
        return Promise.reject(
          new MillraceError(error.code, `no memory for ${rows} more elements of collection ${this.record.name}: ${error.what}`, {
            todo: "raise vectors.memoryMb, drop a collection, or send again when a fold has given memory back",
            cause: thrown,
          }),
        );
      }
    }
    this.#rowsWaiting += rows;
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    this.#queue.push({ write, flags: new Uint8Array(rows), encoded: 0, resolve, reject });
    if (!this.#encoding) {
      this.#encoding = true;
      // At the end of the turn: what comes with it goes into the same append.
      queueMicrotask(() => void this.#encode());
    }
    return promise;
  }

  /** Puts what waits into appends, in slices. */
  async #encode(): Promise<void> {
    const { clock } = this.#parts;
    const { dims } = this.record;
    let sinceMs = clock.monotonicMs();
    while (this.#queue.length > 0 && this.#writeFailure === undefined) {
      const bytes = new ByteWriter(Math.min(collectionLimits.appendBytes, this.#rowsWaiting * (4 * dims + 64)));
      const records: Uint8Array[] = [];
      const parts: Part[] = [];
      while (this.#queue.length > 0 && bytes.length < collectionLimits.appendBytes && records.length < collectionLimits.appendRecords) {
        const waiting = this.#queue[0]!;
        const { write } = waiting;
        const from = waiting.encoded;
        for (; waiting.encoded < write.elements.length; waiting.encoded++) {
          const i = waiting.encoded;
          if (bytes.length >= collectionLimits.appendBytes || records.length >= collectionLimits.appendRecords) break;
          if (i % collectionLimits.sliceRows === 0 && clock.monotonicMs() - sinceMs >= this.#sliceMs) {
            await clock.yield();
            sinceMs = clock.monotonicMs();
            if (this.#writeFailure !== undefined) break;
          }
          const at = bytes.length;
          const element = write.elements[i]!;
          if (write.kind === "upsert") writeUpsert(bytes, element, write.vectors, write.from + i * dims, dims, write.attributes?.[i]);
          else if (write.kind === "remove") writeRemove(bytes, element);
          else writeAttributes(bytes, element, write.attributes[i]!);
          records.push(bytes.since(at));
        }
        if (waiting.encoded > from) parts.push({ waiting, from, to: waiting.encoded });
        if (waiting.encoded < write.elements.length) break;
        this.#queue.shift();
      }
      if (records.length > 0) this.#append(records, parts);
      while (this.#appends.length >= collectionLimits.appendsMax && this.#writeFailure === undefined) await this.#appends[0]!.done.then(() => clock.yield());
    }
    this.#encoding = false;
    if (this.#writeFailure !== undefined) this.#refuseAll(this.#writeFailure);
  }

  #append(records: readonly Uint8Array[], parts: readonly Part[]): void {
    const writer = this.#writer;
    const done =
      writer === undefined
        ? Promise.resolve(gone(this.record.name))
        : writer.append(records).then(
            (result) => result,
            (thrown: unknown) => toMillraceError(thrown, `writing to the log of collection ${this.record.name}`),
          );
    this.#appends.push({ parts, done });
    if (!this.#applying) void this.#applyAppends();
  }

  /** Applies appends in their order, once each is durable. */
  async #applyAppends(): Promise<void> {
    this.#applying = true;
    const { clock } = this.#parts;
    while (this.#appends.length > 0) {
      const append = this.#appends[0]!;
      const result = await append.done;
      if (result instanceof MillraceError) {
        this.#appends.shift();
        this.#failed(result, append);
        continue;
      }
      if (this.#stop.signal.aborted) {
        this.#appends.shift();
        this.#refuseParts(append, gone(this.record.name));
        continue;
      }
      assert(result.firstOffset === this.#applied, "appends are applied in the order of their offsets");
      let sinceMs = clock.monotonicMs();
      for (const { waiting, from, to } of append.parts) {
        for (let i = from; i < to; i++) {
          if (i % collectionLimits.sliceRows === 0 && clock.monotonicMs() - sinceMs >= this.#sliceMs) {
            await clock.yield();
            sinceMs = clock.monotonicMs();
          }
          this.#apply(waiting, i);
        }
        this.#rowsWaiting -= to - from;
        if (to === waiting.write.elements.length) waiting.resolve(waiting.flags);
      }
      this.#appends.shift();
    }
    this.#applying = false;
  }

  #apply({ write, flags }: Waiting, i: number): void {
    const element = write.elements[i]!;
    const { serving } = this;
    for (const view of this.#views) {
      let flag: boolean;
      if (write.kind === "upsert") flag = view.upsert(element, write.vectors, write.from + i * this.record.dims, write.attributes?.[i]);
      else if (write.kind === "remove") flag = view.remove(element);
      else flag = view.setAttributes(element, write.attributes[i]!);
      view.nextOffset += 1;
      if (view === serving) flags[i] = flag ? 1 : 0;
    }
    this.#applied += 1;
    if (write.kind === "upsert") this.upserts += 1;
    else if (write.kind === "remove" && flags[i] === 1) this.removes += 1;
    this.#tailSinceMs ??= this.#parts.clock.monotonicMs();
  }

  /** The log takes no more: what waits is refused, and it is opened again. */
  #failed(error: MillraceError, append: Append): void {
    const failure = new MillraceError("unavailable", `writes to collection ${this.record.name} failed and may or may not have been kept: ${error.what}`, {
      cause: error,
      todo: "send again in a moment: writes may be repeated",
    });
    this.#refuseParts(append, failure);
    // What is too large, say, harms nobody else.
    if (this.#writer?.failed === undefined && !this.#stop.signal.aborted && error.code !== "unavailable" && error.code !== "conflict") return;
    if (this.#writeFailure !== undefined) return;
    this.#writeFailure = failure;
    if (!this.#encoding) this.#refuseAll(failure);
    if (!this.#stop.signal.aborted) void this.#reopen();
  }

  #refuseParts({ parts }: Append, failure: MillraceError): void {
    for (const { waiting, from, to } of parts) {
      this.#rowsWaiting -= to - from;
      waiting.reject(failure);
    }
  }

  #refuseAll(failure: MillraceError): void {
    for (const waiting of this.#queue.splice(0)) {
      this.#rowsWaiting -= waiting.write.elements.length - waiting.encoded;
      waiting.reject(failure);
    }
  }

  /** Until the log can be written again; then the views catch up with what it holds. */
  async #reopen(): Promise<void> {
    const { clock, warn } = this.#parts;
    const { signal } = this.#stop;
    for (let pauseMs: number = collectionLimits.reopenMsMin; !signal.aborted; pauseMs = Math.min(2 * pauseMs, collectionLimits.reopenMsMax)) {
      try {
        await clock.sleep(pauseMs, signal);
        // Appends that were under way answer first.
        if (this.#applying || this.#encoding) continue;
        await this.#writer?.close().catch(() => undefined);
        this.#writer = undefined;
        await this.#openLog();
        this.#writeFailure = undefined;
        return;
      } catch (thrown) {
        if (!signal.aborted) warn(`the log of collection ${this.record.name} cannot be opened: ${toMillraceError(thrown).message}`);
      }
    }
  }

  // --- the log -------------------------------------------------------------------------------------------------------------------------

  async #openLog(): Promise<void> {
    const { log } = this.#parts;
    const writer = await log.openWriter(this.partition);
    this.#writer = writer;
    await this.#fillUp(writer);
    const { next } = writer.bounds;
    // A view that joins meanwhile has what the others had before.
    for (;;) {
      const behind = [...this.#views].find((view) => view.nextOffset < next);
      if (behind === undefined) break;
      await this.#replay(behind, () => next, this.#stop.signal);
    }
    this.#applied = next;
  }

  /** A power cut may have cost records that a version already holds: their offsets are not given to other writes. */
  async #fillUp(writer: LogWriter): Promise<void> {
    let wanted = 0;
    for (const { deltaOffset } of await this.#offsets()) wanted = Math.max(wanted, deltaOffset);
    if (wanted - writer.bounds.next > 10_000_000) {
      throw new MillraceError("corrupt", `the log of collection ${this.record.name} ends at ${writer.bounds.next}, a version of it begins at ${wanted}`, {
        todo: "restore the data folder from one backup, or build the collection again",
      });
    }
    const bytes = new ByteWriter(16);
    writeNothing(bytes);
    const record = bytes.since(0);
    while (writer.bounds.next < wanted) {
      const count = Math.min(logLimits.recordsPerAppendMax, wanted - writer.bounds.next);
      await writer.append(Array.from({ length: count }, () => record));
    }
  }

  /** Where the log goes on of every version that may be served, of those that were built over this log. */
  async #offsets(): Promise<{ readonly version: string; readonly deltaOffset: number }[]> {
    const { snapshots } = this.#parts;
    const head = await snapshots.head(this.snapshotName);
    const found: { version: string; deltaOffset: number }[] = [];
    for (const version of head === undefined ? [] : versionsOf(head)) {
      const manifest = await snapshots.manifest(this.snapshotName, version).catch((thrown: unknown) => toMillraceError(thrown));
      if (manifest instanceof MillraceError) {
        if (manifest.retryable) throw manifest;
        continue;
      }
      const deltaOffset = this.#deltaOffsetOf(manifest);
      if (deltaOffset !== undefined) found.push({ version, deltaOffset });
    }
    return found;
  }

  /** Undefined: it was built over the log of another making of this name. */
  #deltaOffsetOf({ statistics }: Manifest): number | undefined {
    const { deltaOffset, deltaLog } = statistics;
    return deltaOffset === undefined || (deltaLog !== undefined && deltaLog !== this.record.id) ? undefined : deltaOffset;
  }

  /** Forgets what no version needs. */
  async trim(): Promise<void> {
    const writer = this.#writer;
    if (writer === undefined || this.#root !== undefined || this.#follower.value === undefined) return;
    const offsets = (await this.#offsets()).map(({ deltaOffset }) => deltaOffset);
    if (offsets.length === 0) return;
    const old = await writer.oldUpTo({ beforeMs: this.#parts.clock.nowMs() - collectionLimits.logKeepMs });
    const upTo = Math.min(old, ...offsets, ...[...this.#views].map((view) => view.base?.deltaOffset ?? 0));
    if (upTo > writer.bounds.first) await writer.trim(upTo);
  }

  /** Everything applied so far is on the disk: what a fold may put into a version. Returns the offset up to which. */
  async syncedUpTo(): Promise<number> {
    const upTo = this.#applied;
    if (this.#writer === undefined) throw gone(this.record.name);
    await this.#writer.sync();
    return upTo;
  }

  /** Applies the log to a view until it has reached `upTo()`, in slices. */
  async #replay(view: CollectionView, upTo: () => number, signal: AbortSignal): Promise<void> {
    await replayLog({ log: this.#parts.log, partition: this.partition, view, upTo, clock: this.#parts.clock, signal, sliceMs: this.#sliceMs });
  }

  // --- versions ------------------------------------------------------------------------------------------------------------------------

  async #load(manifest: Manifest, files: readonly FetchedFile[], signal: AbortSignal): Promise<{ value: CollectionView; close: () => void }> {
    const { name, dims, metric } = this.record;
    const { pool, loadBase } = this.#parts;
    const meta = versionMetaOf(manifest);
    if (meta.dims !== dims || meta.metric !== metric) {
      throw new MillraceError(
        "invalid",
        `version ${manifest.version} has rows of ${meta.dims} numbers compared by ${meta.metric}, collection ${name} of ${dims} by ${metric}`,
        {
          todo: "build it of the collection's shape",
        },
      );
    }
    const deltaOffset = this.#deltaOffsetOf(manifest);
    if (deltaOffset === undefined) {
      throw new MillraceError("invalid", `version ${manifest.version} was built for a collection ${name} that was dropped since`, { todo: "build it again" });
    }
    const first = this.#writer?.bounds.first ?? 0;
    if (deltaOffset < first) {
      throw new MillraceError("invalid", `version ${manifest.version} of collection ${name} goes on at ${deltaOffset} of the log, which begins at ${first}`, {
        todo: "build it again: the writes since then are forgotten",
      });
    }
    const base = await loadBase(manifest, files, `collection ${name} ${manifest.version}`, signal);
    let view: CollectionView | undefined;
    try {
      view = new CollectionView({ shape: this.record, base, pool, owner: `collection ${name} ${manifest.version}` });
      await this.#replay(view, () => this.#applied, signal);
      // In the same turn: from here on it takes writes.
      assert(view.nextOffset === this.#applied, "a view joins when it has every record");
      this.#views.add(view);
      const joined = view;
      return {
        value: joined,
        close: () => {
          this.#views.delete(joined);
          joined.release();
        },
      };
    } catch (thrown) {
      if (view === undefined) base.release();
      else view.release();
      throw thrown;
    }
  }

  async #openRoot(): Promise<void> {
    const { name } = this.record;
    const state = this.#follower.state;
    if (state.live !== undefined) {
      throw new MillraceError(
        "unavailable",
        `no version of collection ${name} can be served: ${state.refused.map(({ reason }) => reason).join("; ") || "none was loaded"}`,
        {
          todo: "look at its versions; roll back, or build it again",
        },
      );
    }
    const first = this.#writer!.bounds.first;
    if (first > 0) {
      throw new MillraceError("corrupt", `the log of collection ${name} begins at ${first} and there is no version that holds what was before`, {
        todo: "restore the data folder from a backup, or drop the collection and write it again",
      });
    }
    const root = new CollectionView({ shape: this.record, pool: this.#parts.pool, owner: `collection ${name}` });
    await this.#replay(root, () => this.#applied, this.#stop.signal);
    this.#root = root;
    this.#views.add(root);
    // A version may have been loaded meanwhile.
    if (this.#follower.value !== undefined) this.#leaveRoot();
  }

  #switched(): void {
    this.#switches += 1;
    const tail = this.#follower.value?.tail;
    if (tail !== undefined) this.#tailSinceMs = tail.rows > 0 ? this.#parts.clock.monotonicMs() : undefined;
    this.#leaveRoot();
    this.#parts.onSwitch();
  }

  #leaveRoot(): void {
    const root = this.#root;
    if (root === undefined || this.#rootReaders > 0 || (this.#follower.value === undefined && !this.#stop.signal.aborted)) return;
    this.#root = undefined;
    this.#views.delete(root);
    root.release();
  }

  /** Ends everything; what waits is refused. Nothing is forgotten. */
  async close(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort(gone(this.record.name));
    this.#refuseAll(gone(this.record.name));
    await this.#follower.stop();
    this.#leaveRoot();
    await this.#writer?.close().catch(() => undefined);
  }

  /** Forgets the log, after `close`: what is left of it is one empty segment. */
  static async forgetLog(record: CollectionRecord, log: Log): Promise<void> {
    const writer = await log.openWriter(deltaPartition(record.id));
    try {
      await writer.trim(writer.bounds.next);
    } finally {
      await writer.close();
    }
  }
}

export interface Replay {
  readonly log: Log;
  readonly partition: string;
  readonly view: CollectionView;
  readonly upTo: () => number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly sliceMs: number;
}

/** Applies records from the view's `nextOffset` up to before `upTo()`, which are all acknowledged. */
export async function replayLog({ log, partition, view, upTo, clock, signal, sliceMs }: Replay): Promise<void> {
  const { dims } = view.shape;
  let looks = 0;
  let sinceMs = clock.monotonicMs();
  while (view.nextOffset < upTo()) {
    signal.throwIfAborted();
    const found = await log.read(partition, view.nextOffset, collectionLimits.replayBytes);
    if (found === undefined) {
      if (++looks > collectionLimits.replayLooksMax) {
        throw new MillraceError("unavailable", `record ${view.nextOffset} of ${partition} cannot be read`, { todo: "look at the disk; it is tried again" });
      }
      await clock.sleep(5, signal);
      continue;
    }
    looks = 0;
    for (const [i, record] of found.records.entries()) {
      if (found.firstOffset + i < view.nextOffset) continue;
      if (view.nextOffset >= upTo()) break;
      view.apply(readDelta(record, dims));
      if (i % collectionLimits.sliceRows !== 0 || clock.monotonicMs() - sinceMs < sliceMs) continue;
      await clock.yield();
      signal.throwIfAborted();
      sinceMs = clock.monotonicMs();
    }
  }
}

function gone(name: string): MillraceError {
  return new MillraceError("unavailable", `collection ${name} is closed`, { todo: "send again, if the server goes on" });
}

function alarmText({ what, kind, name, version, reasons }: SnapshotAlarm): string {
  return `${kind} ${name}${version === undefined ? "" : ` ${version}`} ${what}: ${reasons.join("; ")}`;
}
