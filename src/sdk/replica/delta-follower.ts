// Keeps the live rows of one table as the server has them: brings the delta, then applies every effect of the log.
//   bring -> catch up with what was logged meanwhile -> ready -> follow --(the log was trimmed under it, or failed)--> bring again beside, then switch
// Invariants: 1. effects apply in the order of the log, a transaction in one turn of the loop, so a read sees all of it or none  2. `offset` says what a read contains
// 3. whatever fails, reads go on from what was there; `state.failure` says since when they are old.
// Cost: 0.3 to 0.6 us an effect of this table, 0.05 of others. Concurrency: one thread; nothing longer than about a millisecond at once.
// Limits: `bytesMax` of live rows (delta-tables.ts); pauses between tries double from 100 ms to 10 s.

import { MillraceError, toMillraceError } from "#base/errors";
import type { LogRecords } from "#backbone/log";
import { EntryView } from "#kernel/entry-record";
import type { EntryRefs } from "#kernel/entry-refs";
import type { KeyBatch } from "#kernel/key-batch";
import type { KernelMemory } from "#kernel/kernel-memory";
import { EffectReader } from "#lsm/effect-record";
import type { Clock } from "#platform/clock";
import { DeltaTables, type DeltaTablesOptions } from "./delta-tables.ts";
import type { EffectFeed } from "./effect-feed.ts";

const retryMs = { first: 100, max: 10_000 } as const;
/** Records applied before others get their turn. */
const recordsAtOnce = 64;

export interface DeltaFollowerOptions {
  readonly feed: EffectFeed;
  readonly clock: Clock;
  /** Of the table whose rows are kept. */
  readonly namespace: number;
  readonly tables: DeltaTablesOptions;
  readonly onAlarm: (alarm: MillraceError) => void;
}

export interface DeltaState {
  /** Everything that was logged before it is in reads. */
  readonly offset: number;
  readonly entries: number;
  readonly bytes: number;
  /** How often the delta was brought as a whole. */
  readonly brought: number;
  /** Why effects do not come in now; undefined while they do. */
  readonly failure: MillraceError | undefined;
}

export class DeltaFollower {
  readonly #options: DeltaFollowerOptions;
  readonly #stop = new AbortController();
  readonly #ready = Promise.withResolvers<void>();
  readonly #entry = new EntryView();
  #tables: DeltaTables | undefined;
  #offset = 0;
  #brought = 0;
  #failure: MillraceError | undefined;
  #moving: Promise<void> | undefined;
  #running: Promise<void> | undefined;

  constructor(options: DeltaFollowerOptions) {
    this.#options = options;
    this.#ready.promise.catch(() => undefined);
  }

  /** Begins; resolves once everything is here that was logged before the call. Rejects when it is stopped before, or the bytes are `corrupt`. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#ready.promise;
  }

  async stop(): Promise<void> {
    this.#stop.abort(new MillraceError("unavailable", "the replica was closed"));
    await this.#running;
    await this.#moving;
    this.#ready.reject(this.#stop.signal.reason as Error);
    this.#tables?.release();
    this.#tables = undefined;
  }

  get offset(): number {
    return this.#offset;
  }

  get state(): DeltaState {
    return {
      offset: this.#offset,
      entries: this.#tables?.entries ?? 0,
      bytes: this.#tables?.bytes ?? 0,
      brought: this.#brought,
      failure: this.#failure,
    };
  }

  /** True when no row of the table was ever written live: a look-up in here can be left out. */
  get isEmpty(): boolean {
    return this.#tables === undefined || this.#tables.entries === 0;
  }

  /** As Store.getMany, of engine keys. */
  getMany(keys: KeyBatch, refs: EntryRefs, nowMs: number): void {
    if (this.#tables !== undefined) this.#tables.getMany(keys, refs, nowMs);
    else {
      refs.reset(keys.count);
      refs.at.fill(0, 0, keys.count);
    }
  }

  /** The value of key `i` of the last look-up: a view, until the next await. */
  bytesOf(refs: EntryRefs, i: number): Uint8Array {
    const at = refs.at[i]!;
    return this.memoryOf(refs.source[i]!).bytes.subarray(at, at + refs.bytes[i]!);
  }

  memoryOf(source: number): KernelMemory {
    return this.#tables!.memoryOf(source);
  }

  async #run(): Promise<void> {
    const { clock, onAlarm } = this.#options;
    const { signal } = this.#stop;
    for (let pauseMs: number = retryMs.first; !signal.aborted; pauseMs = Math.min(pauseMs * 2, retryMs.max)) {
      try {
        await this.#follow(() => (pauseMs = retryMs.first));
      } catch (thrown) {
        if (signal.aborted) return;
        const failure = toMillraceError(thrown);
        // Trimmed under us: the delta is brought anew, nothing is lost.
        if (failure.code === "not-found") continue;
        if (this.#failure?.message !== failure.message) onAlarm(failure);
        this.#failure = failure;
        // At the first opening somebody waits who can be told.
        if (!failure.retryable) this.#ready.reject(failure);
      }
      if (!signal.aborted) await clock.sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  /** Brings and follows until something fails. */
  async #follow(onGood: () => void): Promise<void> {
    const { feed, namespace } = this.#options;
    const { signal } = this.#stop;
    const tables = new DeltaTables(this.#options.tables);
    let offset = 0;
    let switched = false;
    const reader = new EffectReader();
    const serve = (): void => {
      this.#tables?.release();
      this.#tables = tables;
      this.#offset = offset;
      this.#brought += 1;
      this.#failure = undefined;
      switched = true;
      onGood();
      this.#ready.resolve();
    };
    try {
      const end = await feed.end();
      offset = await feed.bring(namespace, (bytes, from, to, count) => tables.put(bytes, from, to, count), signal);
      if (offset >= end) serve();
      for await (const records of feed.follow(offset, signal)) {
        for (let at = 0; at < records.records.length; at += recordsAtOnce) {
          const upTo = Math.min(records.records.length, at + recordsAtOnce);
          this.#apply(tables, reader, records, at, upTo);
          if (!reader.isInside) offset = records.firstOffset + upTo;
          if (switched) this.#offset = offset;
          else if (offset >= end) serve();
          if (tables.isMoving) this.#moveOn(tables);
          await this.#options.clock.yield();
        }
      }
    } finally {
      if (!switched) {
        await this.#moving;
        tables.release();
      }
    }
  }

  #apply(tables: DeltaTables, reader: EffectReader, records: LogRecords, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      const effects = reader.read(records.records[at]!);
      if (effects === undefined) continue;
      if (typeof effects === "string") {
        throw new MillraceError("corrupt", `record ${records.firstOffset + at} of the effects cannot be applied: ${effects}`, {
          todo: "use the same version of millrace as the server; else check its disk",
        });
      }
      this.#put(tables, effects.bytes);
    }
  }

  /** Puts the entries of our namespace, as many side by side as there are. */
  #put(tables: DeltaTables, bytes: Uint8Array): void {
    const { namespace } = this.#options;
    const entry = this.#entry;
    let from = 0;
    let count = 0;
    for (let at = 0; at < bytes.length; at = entry.end) {
      // Checked by the reader: it is whole.
      entry.read(bytes, at, bytes.length);
      if (bytes[entry.keyAt] === namespace >>> 8 && bytes[entry.keyAt + 1] === (namespace & 0xff)) {
        if (count === 0) from = at;
        count += 1;
      } else if (count > 0) {
        tables.put(bytes, from, at, count);
        count = 0;
      }
    }
    if (count > 0) tables.put(bytes, from, bytes.length, count);
  }

  /** Moves what is to be moved, a step a turn, beside the reads. */
  #moveOn(tables: DeltaTables): void {
    if (this.#moving !== undefined) return;
    const { signal } = this.#stop;
    const move = async (): Promise<void> => {
      while (!signal.aborted && tables.step()) await this.#options.clock.yield();
      this.#moving = undefined;
    };
    this.#moving = move();
  }
}
