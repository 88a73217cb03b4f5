// The engine behind the store: an active memtable, full ones on their way to disk, runs, and the loop that flushes and merges.
//
//   write -> active memtable ----full----> frozen memtables --flush--> runs, newest first --merge--> fewer, larger runs
//        \-> group commit -> log             (one after the other, oldest first)            the manifest moves, the log is trimmed, old files go
//
// Why a look-up asks every source for all keys not found yet: a miss costs a cache line of tags, less than telling which source could have it.
// Invariants: those of store.ts, and: 1. the sources newest first are: active, frozen (newest first), runs (newest first)  2. a source keeps its number for
// life  3. a memtable is flushed only when all its effects are synced in the log: a run never holds what the log may still lose  4. the manifest moves before
// the log is trimmed, the log is trimmed before old files go; a step that fails leaves the state before it  5. memory of a run is released only in a
// turn of the loop of its own, so views of the turn before are never overwritten.
// Cost: docs/design/lsm.md. Concurrency: one thread; the worker sees only frozen memtables and files.
// Limits: `memoryBytesMax`, `storeLimits.sourcesMax`.

import { MillraceError, toMillraceError } from "#base/errors";
import type { LogWriter } from "#backbone/log";
import { absentSource, type EntryRefs } from "#kernel/entry-refs";
import { entryKinds } from "#kernel/entry-record";
import type { KeyBatch } from "#kernel/key-batch";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { MemoryLease } from "#kernel/memory-pool";
import { collectDropped } from "#kernel/collect-dropped";
import { RunImage } from "#kernel/run-image";
import type { Timer } from "#platform/clock";
import type { EffectBatch } from "./effect-batch.ts";
import { GroupCommit } from "./group-commit.ts";
import { type ManifestHead, type ManifestRun, runFileNumber } from "./manifest.ts";
import { type MergePlan, planMerge } from "./merge-plan.ts";
import type { StoreSettings } from "./open-store.ts";
import { leaseForRun, type LoadedFile, type LoadedRun, sumsOfRun } from "./loaded-run.ts";
import { Scanner } from "./scanner.ts";
import type { ScanPage } from "./scan-page.ts";
import type { WrittenFile } from "./run-files.ts";
import type { SourceNumbers } from "./source-numbers.ts";
import { mergeScratchBytes } from "./store-job.ts";
import { type Refusal, type ScanRange, type Store, storeLimits, type StoreState, markAbsent } from "./store.ts";
import { WorkLine } from "./work-line.ts";
import { tableLaneBytes, tableLanes, WriteTable } from "./write-table.ts";

/** Full memtables that may wait before acknowledgements are held back. Chosen: one is flushed, one waits, one came meanwhile. */
const frozenUsual = 3;
/** A memtable is flushed when the log grew by so many times its size, which overwriting in place can do. */
const loggedTimesMax = 3;
/** A memtable that holds something is flushed at the latest so long after its first effect, so that a restart has little to replay. */
const flushAfterMs = 30_000;
/** The store counts as idle when nothing was flushed for so long. */
const idleAfterMs = 5_000;
const mergeAfterMsDefault = 2_000;
/** Memtables above the memory limit that deletes may take (also those that the active memtable holds and a flush must bring to disk before they make room), and a flush. */
const deletesAllowance = 2;
const flushAllowance = 1;
const retryMsMin = 1_000;
const retryMsMax = 30_000;

/** Entries of one file of a merge: bounds the memory of its writer, some 20 bytes an entry. */
const mergeEntriesMax = 3_000_000;

/** What opening a store found and made. */
export interface Recovered {
  readonly writer: LogWriter;
  readonly head: ManifestHead;
  /** Files of the manifest's runs, in its order. */
  readonly runs: readonly (readonly LoadedFile[])[];
  /** Memtables with what the log held, oldest first; the last one is active. At least one. */
  readonly tables: readonly WriteTable[];
  /** Above every producer that wrote this log. */
  readonly producer: number;
  readonly numbers: SourceNumbers;
}

/** A memtable or a run file, in look-ups. */
interface Source {
  readonly memory: KernelMemory;
  probe(keys: KeyBatch, refs: EntryRefs, source: number): number;
}

export class Engine implements Store {
  readonly #settings: StoreSettings;
  readonly #writer: LogWriter;
  readonly #head: ManifestHead;
  readonly #commit: GroupCommit;
  readonly #flusher: WorkLine;
  readonly #merger: WorkLine;
  readonly #scanner: Scanner;
  readonly #numbers: SourceNumbers;
  readonly #producer: number;
  #active: WriteTable;
  /** Deletes that went into the active memtable since it was made. */
  #activeDeletes = 0;
  /** Oldest first. */
  #frozen: WriteTable[] = [];
  /** Newest first. */
  #runs: LoadedRun[];
  /** By source number. */
  readonly #sources: (Source | undefined)[] = [];
  /** Numbers of the sources, newest first. */
  #order: number[] = [];
  #refused: Refusal | undefined;
  #trouble: MillraceError | undefined;
  #flushing: Promise<void> | undefined;
  #merging: Promise<void> | undefined;
  #flushFailures = 0;
  #mergeFailures = 0;
  #retry: Timer | undefined;
  #mergeRetry: Timer | undefined;
  #moving: Promise<void> = Promise.resolve();
  #nextRunId = 1;
  #ageTimer: Timer | undefined;
  #idleTimer: Timer | undefined;
  #runWaiters: (() => void)[] = [];
  readonly #collecting: { stop(): void };
  #closed: Promise<void> | undefined;
  #flushes = 0;
  #merges = 0;
  #runBytesWritten = 0;
  #flushedMs = 0;
  #runBytes = 0;

  constructor(settings: StoreSettings, recovered: Recovered) {
    const { writer, head, runs, tables, producer, numbers } = recovered;
    this.#settings = settings;
    this.#writer = writer;
    this.#head = head;
    this.#runs = runs.map((files, i) => ({ id: this.#nextRunId++, level: head.current.runs[i]!.level, files }));
    this.#numbers = numbers;
    this.#producer = producer;
    this.#flusher = new WorkLine(settings.workers, `${settings.partition}-flush`);
    this.#merger = new WorkLine(settings.workers, `${settings.partition}-merge`);
    this.#collecting = collectDropped(settings.pool, settings.clock, () => {
      for (const line of [this.#flusher, this.#merger]) line.rest();
    });
    this.#commit = new GroupCommit({
      writer,
      clock: settings.clock,
      producer,
      hold: () => this.#caughtUp(),
      onFailed: (error) => {
        this.#refused ??= { reason: "log-failed", error };
        settings.onAlarm?.(error);
      },
    });
    this.#frozen = tables.slice(0, -1);
    this.#active = tables.at(-1)!;
    this.#scanner = new Scanner(settings.clock);
    this.#reorder();
    this.#flushedMs = settings.clock.monotonicMs();
    this.#mergeRetry = settings.clock.after(
      settings.mergeAfterMs ?? mergeAfterMsDefault,
      () => {
        this.#mergeRetry = undefined;
        this.#startMerge(false);
      },
      { background: true },
    );
    this.#startWork();
    this.#armAge();
  }

  // ---- reads ----

  getMany(keys: KeyBatch, refs: EntryRefs, nowMs: number): void {
    const { count } = keys;
    refs.reset(count);
    const sources = this.#sources;
    for (const source of this.#order) {
      if (refs.found === count) break;
      sources[source]!.probe(keys, refs, source);
    }
    const { source, kind, expiryMs, at } = refs;
    if (refs.timed) {
      for (let i = 0; i < count; i++) {
        if (source[i] === absentSource) at[i] = 0;
        else if (kind[i] === entryKinds.tombstone || (expiryMs[i]! > 0 && expiryMs[i]! <= nowMs)) markAbsent(refs, i, true);
      }
    } else {
      for (let i = 0; i < count; i++) {
        if (source[i] === absentSource) at[i] = 0;
        else if (kind[i] === entryKinds.tombstone) markAbsent(refs, i, true);
      }
    }
  }

  bytesOf(refs: EntryRefs, i: number): Uint8Array {
    const at = refs.at[i]!;
    return this.memoryOf(refs.source[i]!).bytes.subarray(at, at + refs.bytes[i]!);
  }

  memoryOf(source: number): KernelMemory {
    const found = this.#sources[source];
    if (found === undefined) throw new MillraceError("invalid", `source ${source} of a look-up`, { todo: "ask for present keys only, before the next await" });
    return found.memory;
  }

  scan(range: ScanRange, into: ScanPage): boolean {
    return this.#scanner.scan(range, into, [this.#active, ...this.#frozen.toReversed()], this.#runs);
  }

  // ---- writes ----

  /** At `interval` the log may have failed in a sync that nobody waits for. */
  get #refusal(): Refusal | undefined {
    const { failed } = this.#writer;
    return failed === undefined || this.#closed !== undefined ? this.#refused : { reason: "log-failed", error: failed };
  }

  write(effects: EffectBatch): number {
    if (this.#refused !== undefined && this.#refused.reason !== "memory") throw this.#refused.error;
    const { count, bytes } = effects;
    if (count === 0) return this.#commit.next;
    this.#commit.check(bytes);
    let active = this.#active;
    if (!active.fits(count, bytes) || active.loggedBytes > loggedTimesMax * this.#settings.memtableBytes) {
      // Deletes may pass the limit a little: they are what makes room again, but only once they are flushed.
      this.#freeze(effects.deletes === count || this.#makesRoom ? deletesAllowance : 0);
      active = this.#active;
    }
    this.#activeDeletes += effects.deletes;
    const { entries } = effects;
    active.apply(entries, count, this.#commit.next, this.#settings.clock.monotonicMs());
    const ticket = this.#commit.add(entries, count);
    active.endOffset = ticket;
    return ticket;
  }

  durable(ticket: number): Promise<void> {
    return this.#commit.durable(ticket);
  }

  get offset(): number {
    return this.#commit.next;
  }

  get state(): StoreState {
    const { current } = this.#head;
    let frozenBytes = 0;
    let replayBytes = this.#active.loggedBytes;
    for (const table of this.#frozen) {
      frozenBytes += table.memoryBytes;
      replayBytes += table.loggedBytes;
    }
    return {
      offset: this.#commit.next,
      loggedOffset: this.#commit.logged,
      flushedOffset: current.logOffset,
      replayBytes,
      memtable: { entries: this.#active.table.count, bytes: this.#active.table.recordBytes.used },
      frozen: { count: this.#frozen.length, bytes: frozenBytes },
      runs: this.#runs.map((run) => ({ level: run.level, files: run.files.length, ...sumsOfRun(run) })),
      memoryBytes: this.#memoryBytes(),
      memoryBytesMax: this.#settings.memoryBytesMax,
      working: this.#flushing !== undefined ? "flush" : this.#merging !== undefined ? "compaction" : undefined,
      trouble: this.#trouble,
      refused: this.#refusal,
      counts: { flushes: this.#flushes, compactions: this.#merges, runBytesWritten: this.#runBytesWritten, ...this.#commit.counts },
    };
  }

  async flush(): Promise<void> {
    if (this.#refused !== undefined && this.#refused.reason !== "memory") throw this.#refused.error;
    if (!this.#active.isEmpty) this.#freeze(this.#makesRoom ? deletesAllowance : flushAllowance);
    const until = this.#frozen.at(-1);
    const failures = this.#flushFailures;
    while (until !== undefined && this.#frozen.includes(until)) {
      // Not after the wait of a flush that failed: somebody asks now.
      this.#retry?.cancel();
      this.#retry = undefined;
      this.#startWork();
      await this.#flushing;
      const error = this.#refused?.reason === "memory" ? undefined : this.#refused?.error;
      if (error !== undefined) throw error;
      if (this.#flushFailures > failures) throw this.#trouble ?? new MillraceError("unavailable", `a flush of store ${this.#settings.partition} failed`);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const { partition } = this.#settings;
    this.#refused = { reason: "closed", error: new MillraceError("invalid", `store ${partition} is closed`, { todo: "open it again" }) };
    for (const timer of [this.#retry, this.#mergeRetry, this.#ageTimer, this.#idleTimer]) timer?.cancel();
    this.#collecting.stop();
    this.#wakeHeld();
    await this.#commit.settled();
    await this.#flushing;
    await this.#merging;
    await this.#flusher.stop();
    await this.#merger.stop();
    try {
      await this.#writer.close();
    } finally {
      this.#active.release();
      for (const table of this.#frozen) table.release();
      for (const run of this.#runs) for (const file of run.files) file.lease.release();
    }
  }

  // ---- memtables ----

  /** Whether the active memtable mostly holds deletes. */
  get #makesRoom(): boolean {
    return this.#activeDeletes > 0 && this.#activeDeletes * 2 >= this.#active.table.count;
  }

  /** What the pool counts for it: whole memories, with lanes and what a larger memory has to spare. */
  #memoryBytes(): number {
    let bytes = this.#runBytes + this.#active.memoryBytes;
    for (const table of this.#frozen) bytes += table.memoryBytes;
    return bytes;
  }

  /** Sets the active memtable aside and begins another. Throws `overloaded` when there is no memory for one; then nothing has changed. `allowance`: memtables
   * that may stand above the limit. */
  #freeze(allowance = 0): void {
    const { memtableBytes, memoryBytesMax, pool, partition, seed, clock } = this.#settings;
    const needed = this.#active.memoryBytes;
    const held = this.#memoryBytes();
    const source = held + needed * (1 - allowance) > memoryBytesMax ? undefined : this.#numbers.take();
    let fresh: WriteTable;
    try {
      if (source === undefined) {
        throw new MillraceError("overloaded", `store ${partition} holds ${held} of ${memoryBytesMax} bytes of memory`, {
          todo: "raise the memory limit, or delete what is not needed; reads go on",
        });
      }
      fresh = WriteTable.create(pool, `${partition} memtable`, memtableBytes, seed, source, this.#commit.next);
    } catch (thrown) {
      if (source !== undefined) this.#numbers.give(source);
      const error = toMillraceError(thrown);
      if (this.#refused === undefined) this.#settings.onAlarm?.(error);
      this.#refused ??= { reason: "memory", error };
      this.#startWork();
      // What was overtaken or deleted takes memory until it is merged away.
      this.#startMerge(true);
      throw error;
    }
    if (this.#refused?.reason === "memory") this.#refused = undefined;
    // A restart replays whole records: none may hold effects of both.
    this.#commit.cut();
    this.#frozen.push(this.#active);
    this.#active = fresh;
    this.#activeDeletes = 0;
    this.#reorder();
    this.#flushedMs = clock.monotonicMs();
    this.#startWork();
    this.#armAge();
  }

  /** Takes the sources anew, after memtables or runs changed. */
  #reorder(): void {
    const order: number[] = [];
    this.#sources.length = 0;
    const add = (number: number, source: Source): void => {
      this.#sources[number] = source;
      order.push(number);
    };
    for (const table of [this.#active, ...this.#frozen.toReversed()]) {
      add(table.source, { memory: table.table.memory, probe: (keys, refs, source) => table.table.probe(keys, refs, source) });
    }
    let runBytes = 0;
    for (const run of this.#runs) {
      for (const file of run.files) {
        add(file.source, { memory: file.lease.memory, probe: (keys, refs, source) => file.image.probe(keys, refs, source) });
        runBytes += file.lease.memory.bytes.length;
      }
    }
    this.#runBytes = runBytes;
    this.#order = order;
  }

  /** Undefined when flushes keep up; else resolves when they do, or will not. */
  #caughtUp(): Promise<void> | undefined {
    if (this.#frozen.length <= frozenUsual || this.#refused !== undefined || this.#flushFailures > 0) return undefined;
    return new Promise((resolve) => this.#runWaiters.push(resolve));
  }

  #wakeHeld(): void {
    if (this.#frozen.length > frozenUsual && this.#refused === undefined && this.#flushFailures === 0) return;
    const waiters = this.#runWaiters;
    this.#runWaiters = [];
    for (const resolve of waiters) resolve();
  }

  #armAge(): void {
    this.#ageTimer?.cancel();
    this.#ageTimer = this.#settings.clock.after(
      flushAfterMs,
      () => {
        const { sinceMs, isEmpty } = this.#active;
        if (this.#refused === undefined && !isEmpty && sinceMs !== undefined && this.#settings.clock.monotonicMs() - sinceMs >= flushAfterMs) {
          try {
            this.#freeze(this.#makesRoom ? deletesAllowance : flushAllowance);
          } catch {
            // Memory is short: said already, and the next write says it again.
          }
        }
        this.#armAge();
      },
      { background: true },
    );
  }

  // ---- flush and merge ----

  #startWork(): void {
    if (this.#closed !== undefined) return;
    if (this.#flushing === undefined && this.#frozen.length > 0 && this.#commit.failed === undefined && this.#retry === undefined) {
      this.#flushing = this.#flushAll().finally(() => {
        this.#flushing = undefined;
        this.#wakeHeld();
        this.#startMerge(false);
      });
    }
    this.#startMerge(false);
  }

  async #flushAll(): Promise<void> {
    while (this.#frozen.length > 0 && this.#closed === undefined) {
      const table = this.#frozen[0]!;
      try {
        await this.#flushOne(table);
        this.#flushFailures = 0;
        this.#trouble = undefined;
        this.#startMerge(false);
      } catch (thrown) {
        this.#flushFailures++;
        this.#retry = this.#failed(toMillraceError(thrown, "a flush failed"), this.#flushFailures, () => {
          this.#retry = undefined;
          this.#startWork();
        });
        return;
      }
      this.#wakeHeld();
    }
  }

  /** Alarm, and another try later: the timer of that, undefined when there is none. */
  #failed(error: MillraceError, failures: number, again: () => void): Timer | undefined {
    const { clock, onAlarm } = this.#settings;
    this.#trouble = error;
    if (this.#closed !== undefined) return undefined;
    onAlarm?.(error);
    if (error.code === "conflict") {
      // Another process has this store now.
      this.#refused ??= { reason: "log-failed", error };
      return undefined;
    }
    return clock.after(Math.min(retryMsMax, retryMsMin * 2 ** (failures - 1)), again, { background: true });
  }

  async #flushOne(table: WriteTable): Promise<void> {
    const { folder, seed } = this.#settings;
    await this.#commit.settled();
    if (this.#commit.failed !== undefined) throw this.#commit.failed;
    // At `interval` an acknowledged effect may still be lost by a power cut; one that a run holds must not.
    await this.#writer.sync();
    const job = table.handOver();
    let written: readonly WrittenFile[];
    try {
      ({ files: written } = await this.#flusher.do({ kind: "flush", table: job, folder, firstNumber: this.#head.current.nextFile, seed }));
    } finally {
      table.takeBack();
    }
    const files = await this.#load(written, this.#flusher);
    const run: LoadedRun = { id: this.#nextRunId++, level: 0, files };
    await this.#move(files, () => ({
      logOffset: table.endOffset,
      runs: [run, ...this.#runs],
      apply: () => (this.#frozen = this.#frozen.filter((other) => other !== table)),
    }));
    this.#flushes++;
    this.#flushedMs = this.#settings.clock.monotonicMs();
    this.#numbers.give(table.source);
    table.release();
    await this.#trim();
  }

  /** Reads written files into memories of their own, in the worker. On failure nothing stays. */
  async #load(written: readonly WrittenFile[], line: WorkLine): Promise<LoadedFile[]> {
    const { pool, partition, folder, files } = this.#settings;
    const loaded: LoadedFile[] = [];
    try {
      for (const { number, ...listed } of written) {
        const source = this.#numbers.take();
        if (source === undefined) throw new MillraceError("overloaded", `store ${partition} has ${storeLimits.sourcesMax} files`, { todo: "wait for merges" });
        let lease: MemoryLease | undefined;
        try {
          const leased = leaseForRun(pool, `${partition} runs`, listed.bytes);
          lease = leased.lease;
          const { at } = leased;
          const run = { path: files.join(folder, listed.name), bytes: listed.bytes, headerCrc32c: listed.headerCrc32c };
          await line.do({ kind: "load", run, into: { ticket: lease.ticket, at } });
          loaded.push({ listed, source, lease, image: RunImage.attach(lease.memory, at, listed.bytes) });
        } catch (thrown) {
          lease?.release();
          this.#numbers.give(source);
          throw thrown;
        }
        this.#runBytesWritten += listed.bytes;
      }
      return loaded;
    } catch (thrown) {
      this.#drop(loaded);
      await this.#remove(written);
      throw thrown;
    }
  }

  /** Moves the manifest to what `change` makes of the runs as they are then; the runs are served from the same moment on. One move at a time. */
  #move(added: readonly LoadedFile[], change: () => { logOffset?: number; runs: LoadedRun[]; apply?: () => void }): Promise<void> {
    const turn = this.#moving.then(async () => {
      const { current } = this.#head;
      const { logOffset = current.logOffset, runs, apply } = change();
      const numbers = added.map((file) => runFileNumber(file.listed.name)! + 1);
      try {
        await this.#head.move({
          logOffset,
          producer: Math.max(current.producer, this.#producer),
          nextFile: Math.max(current.nextFile, ...numbers),
          runs: runs.map(({ level, files }): ManifestRun => ({ level, files: files.map((file) => file.listed) })),
        });
      } catch (thrown) {
        // Whether it moved is not known for sure: the new files stay where they are; those that no manifest names go when the store opens.
        this.#drop(added);
        throw thrown;
      }
      this.#runs = runs;
      apply?.();
      this.#reorder();
    });
    this.#moving = turn.catch(() => undefined);
    return turn;
  }

  /** Gives memories and numbers back. */
  #drop(files: readonly LoadedFile[]): void {
    for (const file of files) {
      file.lease.release();
      this.#numbers.give(file.source);
    }
  }

  /** Removes files that no manifest names. What stays is removed when the store opens. */
  async #remove(listed: readonly { readonly name: string }[]): Promise<void> {
    const { files, folder } = this.#settings;
    for (const { name } of listed) await files.remove(files.join(folder, name)).catch(() => false);
  }

  async #trim(): Promise<void> {
    const { keepLogFrom, onAlarm, partition } = this.#settings;
    const offset = Math.min(this.#head.current.logOffset, keepLogFrom?.() ?? Infinity);
    try {
      if (this.#closed === undefined) await this.#writer.trim(offset);
    } catch (thrown) {
      onAlarm?.(toMillraceError(thrown, `the log of store ${partition} was not trimmed`));
    }
  }

  #startMerge(idle: boolean): void {
    if (this.#merging !== undefined || this.#closed !== undefined || this.#mergeRetry !== undefined || this.#refused?.reason === "log-failed") return;
    const plan = planMerge(
      this.#runs.map((run) => ({ level: run.level, ...sumsOfRun(run) })),
      idle,
    );
    if (plan === undefined) {
      if (!idle) this.#armIdle();
      return;
    }
    this.#merging = this.#merge(plan)
      .then(
        () => {
          this.#mergeFailures = 0;
          this.#merges++;
          return true;
        },
        (thrown: unknown) => {
          this.#mergeFailures++;
          this.#mergeRetry = this.#failed(toMillraceError(thrown, "a merge failed"), this.#mergeFailures, () => {
            this.#mergeRetry = undefined;
            this.#startMerge(false);
          });
          return false;
        },
      )
      .then((merged) => {
        this.#merging = undefined;
        if (merged) this.#startMerge(false);
      });
  }

  #armIdle(): void {
    const { clock } = this.#settings;
    this.#idleTimer?.cancel();
    this.#idleTimer = clock.after(
      idleAfterMs,
      () => {
        this.#idleTimer = undefined;
        if (this.#frozen.length === 0 && clock.monotonicMs() - this.#flushedMs >= idleAfterMs) this.#startMerge(true);
      },
      { background: true },
    );
  }

  /**
   * Merges runs `plan.first` to `plan.last`. When the oldest of them has several files, file by file, each with what the newer runs have in its range: so a merge
   * holds one more file, not one more store. The newer runs go with the last piece; until then they say the same again, which changes nothing.
   */
  async #merge(plan: MergePlan): Promise<void> {
    const chosen = this.#runs.slice(plan.first, plan.last + 1);
    const isOldest = plan.last === this.#runs.length - 1;
    const newer = chosen.slice(0, -1);
    const oldest = chosen.at(-1)!;
    const pieces = oldest.files.map((file, i) => ({ file, from: i === 0 ? undefined : file.image.minKey.slice() }));
    const gone = new Set(newer.map((run) => run.id));
    for (const [i, { file, from }] of pieces.entries()) {
      if (this.#closed !== undefined) return;
      const to = pieces[i + 1]?.from;
      const isLast = i === pieces.length - 1;
      const made = await this.#mergePiece([...newer, { ...oldest, files: [file] }], from, to, isOldest);
      await this.#move(made, () => {
        const runs: LoadedRun[] = [];
        for (const run of this.#runs) {
          if (isLast && gone.has(run.id)) continue;
          if (run.id !== oldest.id) {
            runs.push(run);
            continue;
          }
          const files = run.files.flatMap((other) => (other === file ? made : [other]));
          if (files.length > 0) runs.push({ id: run.id, level: isLast ? plan.level : run.level, files });
        }
        return { runs };
      });
      const old = isLast ? [file, ...newer.flatMap((run) => run.files)] : [file];
      this.#drop(old);
      await this.#remove(old.map((other) => other.listed));
    }
  }

  async #mergePiece(runs: readonly LoadedRun[], from: Uint8Array | undefined, to: Uint8Array | undefined, isOldest: boolean): Promise<LoadedFile[]> {
    const { pool, partition, folder, seed, clock, fileBytesMax, keepTombstones } = this.#settings;
    let entries = 0;
    let bytes = 0;
    for (const { files } of runs) {
      for (const { listed } of files) {
        entries += listed.entries;
        bytes += listed.bytes;
      }
    }
    // Index and tables come on top of the entries.
    const fileBytesTarget = Math.floor(fileBytesMax * 0.88);
    const size = { entriesMax: Math.max(1, Math.min(entries, mergeEntriesMax)), recordBytesMax: Math.min(bytes, fileBytesMax) };
    const scratch = pool.lease({ owner: `${partition} merge`, dataBytes: mergeScratchBytes(size), lanes: tableLanes, laneBytes: tableLaneBytes });
    let written: readonly WrittenFile[];
    try {
      ({ files: written } = await this.#merger.do({
        kind: "merge",
        runs: runs.map(({ files }) => files.map(({ lease, image }) => ({ ticket: lease.ticket, at: image.at }))),
        from,
        to,
        nowMs: clock.nowMs(),
        isOldest,
        keptNamespaces: [...(keepTombstones?.() ?? [])],
        scratch: scratch.ticket,
        size,
        folder,
        firstNumber: this.#head.current.nextFile,
        fileBytesTarget,
        seed,
      }));
    } finally {
      scratch.release();
    }
    return this.#load(written, this.#merger);
  }
}
