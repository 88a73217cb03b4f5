// Group commit: the effects of one turn of the loop become one append of the log.
// Why one append at a time: while one is under way the next effects gather, so the group grows with the load by itself and every append's fixed cost (some
// objects, a write, a look at the writer's lock) is shared by more of them.
// Invariants: 1. offsets are known when effects are added: this is the partition's only writer and appends in order  2. a group's buffers are not touched
// between the append and its end  3. after a failure nothing is appended and every promise of `durable` rejects with it  4. groups are acknowledged in order.
// Cost: one copy of the entries; a promise, an append and some objects a group.
// Concurrency: one thread. Limits: `storeLimits.pendingBytesMax` waiting, above it `overloaded`; a group is cut at `groupBytesMax`.

import { MillraceError, toMillraceError } from "#base/errors";
import type { LogWriter } from "#backbone/log";
import type { Clock } from "#platform/clock";
import { effectBodyBytesMax, effectFlags, effectHeadBytes, encodeEffectHead } from "./effect-record.ts";
import { storeLimits } from "./store.ts";

/** One append at most; the log takes 8 MiB. */
const groupBytesMax = 6 * 1024 * 1024;
/** A record is closed when it has grown beyond this, so that a reader can take the log in small bites. Chosen. */
const recordBytesUsual = 64 * 1024;
/** Buffers kept for later groups, and how large they may be. */
const spareMax = 16;
const keptBytesMax = 256 * 1024;

/** A record that grows: head first, entries behind it. */
class OpenRecord {
  bytes = new Uint8Array(16 * 1024);
  used = effectHeadBytes;
  entries = 0;
  flags = 0;

  reset(): void {
    if (this.bytes.length > keptBytesMax) this.bytes = new Uint8Array(16 * 1024);
    this.used = effectHeadBytes;
    this.entries = 0;
    this.flags = 0;
  }

  append(entries: Uint8Array): void {
    const end = this.used + entries.length;
    if (end > this.bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.bytes.length * 2));
      grown.set(this.bytes.subarray(0, this.used));
      this.bytes = grown;
    }
    this.bytes.set(entries, this.used);
    this.used = end;
  }
}

/** What goes into one append. */
class Group {
  readonly records: OpenRecord[] = [];
  bytes = 0;
  /** Offset after its last record. */
  end = 0;
  #done: { promise: Promise<void>; resolve: () => void; reject: (error: MillraceError) => void } | undefined;
  #outcome: MillraceError | true | undefined;

  /** The same promise for everyone who waits for this group. */
  wait(): Promise<void> {
    if (this.#done === undefined) {
      this.#done = Promise.withResolvers<void>();
      // Nobody has to listen.
      this.#done.promise.catch(() => undefined);
      if (this.#outcome !== undefined) this.settle(this.#outcome);
    }
    return this.#done.promise;
  }

  settle(outcome: MillraceError | true): void {
    this.#outcome = outcome;
    if (outcome === true) this.#done?.resolve();
    else this.#done?.reject(outcome);
  }
}

export interface GroupCommitOptions {
  readonly writer: LogWriter;
  readonly clock: Clock;
  readonly producer: number;
  /** Asked before a group that is in the log is acknowledged; a promise holds it back. */
  readonly hold?: () => Promise<void> | undefined;
  /** Told once. */
  readonly onFailed: (error: MillraceError) => void;
}

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #spare: OpenRecord[] = [];
  /** Takes effects. */
  #open = new Group();
  /** Closed and not yet appended, oldest first; above them one may be under way. */
  #waiting: Group[] = [];
  #underWay: Group | undefined;
  #next: number;
  #isCut = false;
  #logged: number;
  #acknowledged: number;
  #sequence = 0;
  #running: Promise<void> | undefined;
  #failed: MillraceError | undefined;
  #pendingBytes = 0;
  #loggedBytes = 0;
  #appends = 0;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.#next = options.writer.bounds.next;
    this.#logged = this.#next;
    this.#acknowledged = this.#next;
  }

  /** Offset after the last record given out. */
  get next(): number {
    return this.#next;
  }

  /** Offset after the last record that the log acknowledged. */
  get logged(): number {
    return this.#logged;
  }

  get failed(): MillraceError | undefined {
    return this.#failed;
  }

  get counts(): { readonly loggedBytes: number; readonly appends: number } {
    return { loggedBytes: this.#loggedBytes, appends: this.#appends };
  }

  /** Throws the failure, or `overloaded` when `bytes` more of entries cannot be taken. */
  check(bytes: number): void {
    if (this.#failed !== undefined) throw this.#failed;
    if (this.#pendingBytes + bytes > storeLimits.pendingBytesMax) {
      throw new MillraceError("overloaded", `${this.#pendingBytes} bytes of effects wait for the log`, { todo: "wait for earlier writes, then try again" });
    }
  }

  /** What is added from here on stands in other records than what came before: a memtable ends between two records. */
  cut(): void {
    this.#isCut = true;
  }

  /** Queues one transaction of encoded entries; returns the offset after it. */
  add(entries: Uint8Array, count: number): number {
    const { length } = entries;
    if (this.#open.bytes > 0 && this.#open.bytes + length > groupBytesMax) {
      this.#waiting.push(this.#open);
      this.#open = new Group();
    }
    this.#pendingBytes += length;
    this.#open.bytes += length;
    let record = this.#open.records.at(-1);
    if (record === undefined || this.#isCut || record.used + length > recordBytesUsual) record = this.#newRecord();
    record.entries += count;
    for (let at = 0; ;) {
      const end = Math.min(length, at + effectBodyBytesMax);
      record.append(at === 0 && end === length ? entries : entries.subarray(at, end));
      at = end;
      if (at === length) break;
      record.flags |= effectFlags.continues;
      record = this.#newRecord();
      record.flags = effectFlags.continued;
    }
    this.#running ??= this.#run();
    return this.#next;
  }

  /** Resolves when the log has acknowledged everything before `offset`, one that `add` returned. */
  durable(offset: number): Promise<void> {
    if (offset <= this.#acknowledged) return done;
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    if (this.#underWay !== undefined && offset <= this.#underWay.end) return this.#underWay.wait();
    for (const group of this.#waiting) if (offset <= group.end) return group.wait();
    return this.#open.wait();
  }

  /** Resolves when all that was added has been tried. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  #newRecord(): OpenRecord {
    const record = this.#spare.pop() ?? new OpenRecord();
    record.reset();
    this.#isCut = false;
    this.#open.records.push(record);
    this.#next++;
    this.#open.end = this.#next;
    return record;
  }

  async #run(): Promise<void> {
    // After the loop has handed out all that had come: what the other connections brought joins this group.
    await this.#options.clock.yield();
    while (this.#failed === undefined) {
      const group = this.#waiting.shift() ?? this.#open;
      if (group.records.length === 0) break;
      if (group === this.#open) this.#open = new Group();
      this.#underWay = group;
      try {
        await this.#append(group);
        await this.#options.hold?.();
        this.#acknowledged = group.end;
        group.settle(true);
      } catch (thrown) {
        this.#fail(toMillraceError(thrown, "the log did not take the effects"), group);
      }
      this.#underWay = undefined;
    }
    this.#running = undefined;
  }

  async #append(group: Group): Promise<void> {
    const records: Uint8Array[] = [];
    for (const record of group.records) {
      encodeEffectHead(record.bytes, { flags: record.flags, entries: record.entries, producer: this.#options.producer, sequence: this.#sequence++ });
      records.push(record.bytes.subarray(0, record.used));
    }
    const { nextOffset } = await this.#options.writer.append(records);
    if (nextOffset !== group.end) {
      throw new MillraceError("internal", `the log gave offset ${nextOffset} instead of ${group.end}`, { todo: "somebody else writes this partition" });
    }
    this.#logged = nextOffset;
    this.#pendingBytes -= group.bytes;
    this.#loggedBytes += group.bytes;
    this.#appends++;
    for (const record of group.records) if (this.#spare.length < spareMax) this.#spare.push(record);
  }

  #fail(error: MillraceError, group: Group): void {
    this.#failed =
      error.code === "conflict" || error.code === "unavailable"
        ? error
        : new MillraceError("unavailable", `the log takes no more effects, ${error.what}`, { cause: error, todo: "repair what the cause says, then restart" });
    const groups = [group, ...this.#waiting, this.#open];
    this.#waiting = [];
    this.#open = new Group();
    for (const one of groups) one.settle(this.#failed);
    this.#options.onFailed(this.#failed);
  }
}

const done = Promise.resolve();
