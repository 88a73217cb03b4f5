// The buckets of one node as the protocol sees them: the table, what is held of each origin, what was collected and expired, who leads.
// All rules of when a vector may advance stand here; nothing here knows of connections or time.
//
// Invariants: 1. a vector advances only by a whole interval that begins at or below it; what comes with a gap is joined, and the vector stays
//             2. nothing up to `expired` is ever joined; of what is not newer than `collected` only keys that are there: so nothing deleted comes back
//             3. tombstones are collected only when the vector covers the bound, so equal vectors and bounds mean equal digests
//             4. pushes of a leader whose epoch was overtaken are not joined (its entries may come by comparison, the join decides)
//             5. this node leads a bucket only while it knows of no higher epoch; of what it does not lead, its table takes no writes either.
// Cost: 40 B a bucket beside the vectors. Concurrency: one thread, the table's.

import { compareVersions, counterOf, EntryBatch, lastVersion, noVersion, type SyncTable, type Version, versionLimits } from "../sync-table.ts";
import { type Bounds, placeOfVersion, type Push, sectionFlags } from "./sync-frames.ts";
import { originOf, type Stretch, VersionVectors } from "./version-vectors.ts";

export interface ReplicaCounters {
  /** Entries that came, and how many of them were newer than what was there. */
  entriesIn: number;
  entriesNewer: number;
  /** Intervals whose predecessor was missing. */
  gaps: number;
  /** Entries that were refused since they are not newer than what was collected or expired. */
  refusedOld: number;
  /** Sections of leaders that were overtaken. */
  fenced: number;
  /** Buckets that were forgotten and loaded anew. */
  anew: number;
  /** Stamps of this node's own writes that were not held by whoever took the bucket over, as far as known: what a fail-over may have lost. */
  lostWrites: number;
  tombstonesCollected: number;
  expired: number;
}

/** Takes the place of a section's flags once it was refused. */
const fencedFlag = 255;

/** What a push did; used again. */
export class Outcome {
  /** Buckets whose vector did not reach the end of their interval, each with its vector to be told. */
  readonly behind: number[] = [];
  /** Buckets of this node that somebody leads in a higher epoch. */
  readonly overtaken: number[] = [];
  /** Buckets of which something was forgotten. */
  readonly anew: number[] = [];
  /** Buckets whose bounds moved, since what they waited for has come. */
  readonly bounded: number[] = [];

  clear(): void {
    this.behind.length = 0;
    this.overtaken.length = 0;
    this.anew.length = 0;
    this.bounded.length = 0;
  }
}

export class BucketReplica {
  readonly table: SyncTable;
  readonly node: number;
  readonly vectors: VersionVectors;
  readonly counters: ReplicaCounters = {
    entriesIn: 0,
    entriesNewer: 0,
    gaps: 0,
    refusedOld: 0,
    fenced: 0,
    anew: 0,
    lostWrites: 0,
    tombstonesCollected: 0,
    expired: 0,
  };
  /** Epoch in which this node leads the bucket, 0: it does not. */
  readonly ledEpoch: Uint16Array;
  /** The highest epoch that was heard of. */
  readonly knownEpoch: Uint16Array;
  readonly #collected = new Map<number, Version>();
  readonly #expired = new Map<number, Version>();
  /** Bounds that the vector does not cover yet. */
  readonly #toCollect = new Map<number, Version>();
  /** Entries beyond the vector: the largest counter of each origin. */
  readonly #ahead = new Map<number, Map<number, number>>();
  /** The last own stretch of a bucket that `takenOver` judged. */
  readonly #judged = new Map<number, number>();
  readonly #found = new Uint8Array(1);
  readonly #row: Float32Array;

  constructor(table: SyncTable, node: number) {
    this.table = table;
    this.node = node;
    this.vectors = new VersionVectors(table.buckets);
    this.ledEpoch = new Uint16Array(table.buckets);
    for (let bucket = 0; bucket < table.buckets; bucket++) table.follow(bucket);
    this.knownEpoch = new Uint16Array(table.buckets);
    this.#row = new Float32Array(table.dim);
  }

  collectedTo(bucket: number): Version {
    return this.#collected.get(bucket) ?? noVersion;
  }

  expiredTo(bucket: number): Version {
    return this.#expired.get(bucket) ?? noVersion;
  }

  bounds(bucket: number): Bounds {
    return { bucket, collected: this.collectedTo(bucket), expired: this.expiredTo(bucket) };
  }

  /** What was collected, or will be as soon as the vector covers it. */
  collectedOrWanted(bucket: number): Version {
    const [collected, wanted] = [this.collectedTo(bucket), this.#toCollect.get(bucket) ?? noVersion];
    return compareVersions(collected, wanted) < 0 ? wanted : collected;
  }

  /** Buckets with bounds. */
  *bounded(): Generator<number> {
    yield* this.#collected.keys();
    for (const bucket of this.#expired.keys()) if (!this.#collected.has(bucket)) yield bucket;
  }

  /** False while entries beyond the vector are held. */
  isSteady(bucket: number): boolean {
    return !this.#ahead.has(bucket) && !this.#toCollect.has(bucket);
  }

  /** Takes the writes of a bucket. The epoch must be above every one that was heard of. */
  lead(bucket: number, epoch: number): boolean {
    if (epoch <= this.knownEpoch[bucket]! && !(epoch === this.ledEpoch[bucket])) return false;
    this.knownEpoch[bucket] = epoch;
    this.ledEpoch[bucket] = epoch;
    this.table.lead(bucket, epoch, this.node);
    return true;
  }

  unlead(bucket: number): void {
    this.ledEpoch[bucket] = 0;
    this.table.follow(bucket);
  }

  /** After writes: how far this node's own stretch of a led bucket goes. True when it rose. */
  stamped(bucket: number): boolean {
    const epoch = this.ledEpoch[bucket]!;
    if (epoch === 0) return false;
    const newest = this.table.newest(bucket);
    const origin = originOf(newest);
    return origin === epoch * 256 + this.node && this.vectors.raise(bucket, origin, counterOf(newest));
  }

  /** True when this node led the bucket and does no longer. */
  noteEpoch(bucket: number, epoch: number): boolean {
    if (epoch > this.knownEpoch[bucket]!) this.knownEpoch[bucket] = epoch;
    const led = this.ledEpoch[bucket]!;
    if (led === 0 || epoch <= led) return false;
    this.unlead(bucket);
    return true;
  }

  /** Whoever leads now held `stretches` when it took over: what of this node's last stretch is beyond that may be lost. Counted once a stretch. */
  takenOver(bucket: number, stretches: readonly Stretch[]): void {
    const own = this.vectors.stretches(bucket).findLast(({ origin }) => (origin & 255) === this.node);
    if (own === undefined || this.#judged.get(bucket) === own.origin) return;
    this.#judged.set(bucket, own.origin);
    const held = stretches.find(({ origin }) => origin === own.origin)?.counter ?? 0;
    if (own.counter > held) this.counters.lostWrites += own.counter - held;
  }

  /**
   * Joins a push, then advances vectors by the rule of intervals. `outcome` is cleared first. Throws what the table throws when it is full; then no vector has
   * advanced.
   */
  apply(push: Push, outcome: Outcome): void {
    outcome.clear();
    const { entries } = push;
    let first = 0;
    /** Entries of sections in a row that need no look are joined by one call. */
    let runFirst = 0;
    const joinRun = (end: number): void => {
      if (end > runFirst) this.counters.entriesNewer += this.table.join(entries, runFirst, end - runFirst);
    };
    for (let s = 0; s < push.sections; s++) {
      const bucket = push.bucket[s]!;
      const count = push.count[s]!;
      const end = first + count;
      const flags = push.flags[s]!;
      const epoch = push.origin[s]! >>> 8;
      const known = this.knownEpoch[bucket]!;
      const anew = (flags & sectionFlags.anew) !== 0 && this.ledEpoch[bucket] === 0;
      if (epoch !== known || anew || this.#collected.has(bucket) || this.#expired.has(bucket)) {
        joinRun(first);
        runFirst = end;
        if ((flags & sectionFlags.leading) !== 0 && epoch < known) {
          this.counters.fenced++;
          push.flags[s] = fencedFlag;
          first = end;
          continue;
        }
        if (this.noteEpoch(bucket, epoch)) outcome.overtaken.push(bucket);
        if (anew) {
          this.forget(bucket);
          outcome.anew.push(bucket);
        }
        if (count > 0) this.#join(bucket, entries, first, count);
      }
      this.counters.entriesIn += count;
      first = end;
    }
    joinRun(first);
    first = 0;
    for (let s = 0; s < push.sections; s++) {
      const count = push.count[s]!;
      first += count;
      if (push.flags[s] === fencedFlag) outcome.behind.push(push.bucket[s]!);
      else this.#advance(push, s, count === 0 ? 0 : entries.counterAt(first - 1), outcome);
    }
  }

  #advance(push: Push, s: number, last: number, outcome: Outcome): void {
    const bucket = push.bucket[s]!;
    const origin = push.origin[s]!;
    const { vectors } = this;
    if (push.from[s]! <= vectors.counterOf(bucket, origin)) {
      vectors.raise(bucket, origin, push.to[s]!);
      const ahead = this.#ahead.size === 0 ? undefined : this.#ahead.get(bucket);
      if (ahead !== undefined && (ahead.get(origin) ?? 0) <= vectors.counterOf(bucket, origin)) {
        ahead.delete(origin);
        if (ahead.size === 0) this.#ahead.delete(bucket);
      }
      if (this.#toCollect.size > 0 && this.#collectWanted(bucket)) outcome.bounded.push(bucket);
      return;
    }
    this.counters.gaps++;
    outcome.behind.push(bucket);
    if (last === 0) return;
    let ahead = this.#ahead.get(bucket);
    if (ahead === undefined) this.#ahead.set(bucket, (ahead = new Map()));
    ahead.set(origin, Math.max(ahead.get(origin) ?? 0, last));
  }

  /** Entries of one bucket, ascending: passes over what expiry and collection forbid. */
  #join(bucket: number, entries: EntryBatch, first: number, count: number): void {
    const { table, counters } = this;
    let at = first;
    const end = first + count;
    const expired = this.#expired.get(bucket);
    if (expired !== undefined) {
      while (at < end && compareVersions(entries.versionAt(at), expired) <= 0) at++;
      counters.refusedOld += at - first;
    }
    const collected = this.#collected.get(bucket);
    if (collected !== undefined) {
      for (; at < end && compareVersions(entries.versionAt(at), collected) <= 0; at++) {
        table.pull(entries.keys.subarray(2 * at, 2 * at + 2), 1, this.#row, this.#found);
        if (this.#found[0] === 1) counters.entriesNewer += table.join(entries, at, 1);
        else counters.refusedOld++;
      }
    }
    if (at < end) counters.entriesNewer += table.join(entries, at, end - at);
  }

  /** Everything of a bucket but what is known to have expired. */
  forget(bucket: number): void {
    this.table.expire(bucket, lastVersion);
    this.vectors.forget(bucket);
    this.#ahead.delete(bucket);
    const collected = this.#collected.get(bucket);
    this.#collected.delete(bucket);
    if (collected !== undefined) this.#want(bucket, collected);
    this.counters.anew++;
  }

  /** Bounds that a source tells. True when something changed here that those who follow this node must be told. */
  takeBounds({ bucket, collected, expired }: Bounds): boolean {
    let changed = false;
    if (compareVersions(expired, this.expiredTo(bucket)) > 0) {
      this.#expired.set(bucket, expired);
      this.counters.expired += this.table.expire(bucket, expired);
      changed = true;
    }
    if (compareVersions(collected, this.collectedTo(bucket)) > 0) {
      this.#want(bucket, collected);
      changed = this.#collectWanted(bucket) || changed;
    }
    return changed;
  }

  /** Restored vectors and bounds of a checkpoint. */
  restore(bucket: number, stretches: readonly Stretch[], bounds: Bounds): void {
    this.vectors.replace(bucket, stretches);
    if (compareVersions(bounds.collected, noVersion) > 0) this.#collected.set(bucket, bounds.collected);
    if (compareVersions(bounds.expired, noVersion) > 0) this.#expired.set(bucket, bounds.expired);
    for (const { origin } of stretches) this.noteEpoch(bucket, origin >>> 8);
  }

  /** Whether a peer that holds `of` of the bucket has seen every tombstone that was collected here. */
  knowsCollected(bucket: number, of: VersionVectors): boolean {
    const collected = this.#collected.size === 0 ? undefined : this.#collected.get(bucket);
    if (collected === undefined) return true;
    const { origin, counter } = placeOfVersion(collected);
    return of.counterOf(bucket, origin) >= counter;
  }

  /**
   * Of a table that has rows and no places (it was not synchronised before): takes what it holds for all that there is. Reads every row of the buckets whose vectors
   * are empty.
   */
  adoptRows(bucket: number): void {
    const { table, vectors } = this;
    if (!vectors.isEmpty(bucket) || compareVersions(table.newest(bucket), noVersion) === 0) return;
    const batch = new EntryBatch(table.dim);
    const found = new Map<number, number>();
    let after = noVersion;
    for (let whole = false; !whole;) {
      batch.clear();
      whole = table.changes(bucket, after, lastVersion, 256, batch);
      for (let i = 0; i < batch.count; i++) {
        after = batch.versionAt(i);
        found.set(originOf(after), counterOf(after));
      }
    }
    const newest = table.newest(bucket);
    found.set(originOf(newest), counterOf(newest));
    vectors.replace(
      bucket,
      Array.from(found, ([origin, counter]) => ({ origin, counter })),
    );
    for (const origin of found.keys()) this.noteEpoch(bucket, origin >>> 8);
  }

  /** A term for sums over buckets: equal vectors and bounds, equal terms. */
  placesTerm(bucket: number, into: Uint32Array): void {
    this.vectors.term(bucket, into);
    if (this.#collected.size > 0) this.#mixBound(this.#collected.get(bucket), into);
    if (this.#expired.size > 0) this.#mixBound(this.#expired.get(bucket), into);
  }

  #mixBound(bound: Version | undefined, into: Uint32Array): void {
    if (bound === undefined) return;
    into[0] = (Math.imul(into[0]!, 31) + bound.low) >>> 0;
    into[1] = (Math.imul(into[1]!, 31) + bound.high) >>> 0;
  }

  #want(bucket: number, collected: Version): void {
    const wanted = this.#toCollect.get(bucket);
    if (wanted === undefined || compareVersions(wanted, collected) < 0) this.#toCollect.set(bucket, collected);
  }

  #collectWanted(bucket: number): boolean {
    const wanted = this.#toCollect.get(bucket);
    if (wanted === undefined) return false;
    const { origin, counter } = placeOfVersion(wanted);
    if (this.vectors.counterOf(bucket, origin) < counter) return false;
    this.#toCollect.delete(bucket);
    this.#collected.set(bucket, wanted);
    // Everything up to there was left behind (SyncNode.startOver): what this copy knew to have expired is below it, and equal copies have equal bounds.
    if (counter === versionLimits.counterMax && compareVersions(wanted, this.expiredTo(bucket)) > 0) {
      this.#expired.set(bucket, wanted);
      this.counters.expired += this.table.expire(bucket, wanted);
    }
    this.counters.tombstonesCollected += this.table.collect(bucket, wanted);
    return true;
  }
}
