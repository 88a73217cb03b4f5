// A table of parameters in plain TypeScript: the model that the real one (parameter-shard.ts) is held against, and the table of simulations.
// Why: everything the contract says is said here once in the simplest way: a Map, and per bucket a linked list in the order of versions.
// Invariants: those of sync-table.ts.
// Cost: some 300 bytes and a few hundred nanoseconds a row. Concurrency: one thread. Limits: memory; never full, so nothing is refused.

import { assert } from "#base/errors";
import { bucketOf, entryTerm, type InitialShape, initialValues } from "#kernel/parameter-key";
import { counterOf, type EntryBatch, entryFlags, noVersion, type SyncTable, type Version, versionLimits, versionOf } from "./sync-table.ts";

interface Row {
  readonly keyLow: number;
  readonly keyHigh: number;
  high: number;
  low: number;
  touched: number;
  tombstone: boolean;
  readonly values: Float32Array;
  previous: Row | undefined;
  next: Row | undefined;
}

interface Bucket {
  head: Row | undefined;
  tail: Row | undefined;
  newest: Version;
  /** Of the stamps given out by `lead`; epoch 0: not led. */
  epoch: number;
  node: number;
  counter: number;
  live: number;
  tombstones: number;
  digestLow: number;
  digestHigh: number;
  dirty: boolean;
}

export interface MapTableOptions {
  readonly dim: number;
  /** A power of two. */
  readonly buckets: number;
  readonly initial: InitialShape;
}

const isNewer = (row: Row, high: number, low: number): boolean => row.high > high || (row.high === high && row.low > low);

export class MapTable implements SyncTable {
  readonly dim: number;
  readonly buckets: number;
  readonly #initial: InitialShape;
  /** By the upper half of the key, then by the lower. */
  readonly #rows = new Map<number, Map<number, Row>>();
  readonly #buckets: Bucket[];
  #dirty: number[] = [];
  #conflicts = 0;
  readonly #term = new Uint32Array(2);
  readonly #words: Uint32Array;
  readonly #row: Float32Array;

  constructor(options: MapTableOptions) {
    this.dim = options.dim;
    this.buckets = options.buckets;
    this.#initial = options.initial;
    this.#row = new Float32Array(options.dim);
    this.#words = new Uint32Array(this.#row.buffer);
    this.#buckets = Array.from({ length: options.buckets }, () => ({
      head: undefined,
      tail: undefined,
      newest: noVersion,
      epoch: 0,
      node: 0,
      counter: 0,
      live: 0,
      tombstones: 0,
      digestLow: 0,
      digestHigh: 0,
      dirty: false,
    }));
  }

  get conflicts(): number {
    return this.#conflicts;
  }

  bucketOf(keyLow: number, keyHigh: number): number {
    return bucketOf(keyLow, keyHigh, this.buckets);
  }

  lead(bucket: number, epoch: number, node: number): void {
    assert(epoch >= 1 && epoch <= versionLimits.epochMax && node >= 0 && node <= versionLimits.nodeMax, "epoch and node of a leader");
    const at = this.#buckets[bucket]!;
    at.epoch = epoch;
    at.node = node;
    at.counter = Math.max(at.counter, counterOf(at.newest));
  }

  follow(bucket: number): void {
    this.#buckets[bucket]!.epoch = 0;
  }

  newest(bucket: number): Version {
    return this.#buckets[bucket]!.newest;
  }

  digest(bucket: number): Version {
    const { digestHigh, digestLow } = this.#buckets[bucket]!;
    return { high: digestHigh, low: digestLow };
  }

  addDigests(first: number, count: number, into: Uint32Array): void {
    for (let bucket = first; bucket < first + count; bucket++) {
      into[0]! += this.#buckets[bucket]!.digestHigh;
      into[1]! += this.#buckets[bucket]!.digestLow;
    }
  }

  counts(bucket: number): { live: number; tombstones: number } {
    const { live, tombstones } = this.#buckets[bucket]!;
    return { live, tombstones };
  }

  assign(keys: Uint32Array, count: number, values: Float32Array, touchedS: number): number {
    for (let i = 0; i < count; i++) {
      const row = this.#stamped(keys[2 * i]!, keys[2 * i + 1]!, touchedS);
      row.values.set(values.subarray(i * this.dim, (i + 1) * this.dim));
    }
    return 0;
  }

  add(keys: Uint32Array, count: number, deltas: Float32Array, touchedS: number): number {
    for (let i = 0; i < count; i++) {
      const row = this.#stamped(keys[2 * i]!, keys[2 * i + 1]!, touchedS);
      for (let c = 0; c < this.dim; c++) row.values[c]! += deltas[i * this.dim + c]!;
    }
    return 0;
  }

  delete(keys: Uint32Array, count: number): number {
    let deleted = 0;
    for (let i = 0; i < count; i++) {
      const row = this.#find(keys[2 * i]!, keys[2 * i + 1]!);
      if (row === undefined || row.tombstone) continue;
      const at = this.#buckets[this.bucketOf(row.keyLow, row.keyHigh)]!;
      assert(at.epoch > 0, "a write of a bucket that is led");
      this.#take(at, row);
      row.tombstone = true;
      this.#place(at, row, this.#stamp(at));
      deleted++;
    }
    return deleted;
  }

  changes(bucket: number, after: Version, upTo: Version, max: number, into: EntryBatch): boolean {
    const at = this.#buckets[bucket]!;
    let first: Row | undefined;
    for (let row = at.tail; row !== undefined && isNewer(row, after.high, after.low); row = row.previous) first = row;
    let taken = 0;
    for (let row = first; row !== undefined && !isNewer(row, upTo.high, upTo.low); row = row.next) {
      if (taken === max) return false;
      taken++;
      const i = into.push(row.keyLow, row.keyHigh, { high: row.high, low: row.low }, row.tombstone ? entryFlags.tombstone : 0, row.touched);
      if (!row.tombstone) into.values.set(row.values, i * this.dim);
    }
    return true;
  }

  join(entries: EntryBatch, first: number, count: number): number {
    let newer = 0;
    for (let i = first; i < first + count; i++) if (this.#joinOne(entries, i)) newer++;
    return newer;
  }

  collect(bucket: number, upTo: Version): number {
    return this.#remove(bucket, upTo, true);
  }

  expire(bucket: number, upTo: Version): number {
    return this.#remove(bucket, upTo, false);
  }

  takeDirty(into: Uint32Array): number {
    const taken = Math.min(into.length, this.#dirty.length);
    for (let i = 0; i < taken; i++) {
      const bucket = this.#dirty[i]!;
      into[i] = bucket;
      this.#buckets[bucket]!.dirty = false;
    }
    this.#dirty = taken === this.#dirty.length ? [] : this.#dirty.slice(taken);
    return taken;
  }

  pull(keys: Uint32Array, count: number, into: Float32Array, found?: Uint8Array): number {
    let missing = 0;
    for (let i = 0; i < count; i++) {
      const row = this.#find(keys[2 * i]!, keys[2 * i + 1]!);
      const is = row !== undefined && !row.tombstone;
      if (is) into.set(row.values, i * this.dim);
      else {
        initialValues(this.#initial, this.dim, keys[2 * i]!, keys[2 * i + 1]!, into, i * this.dim);
        missing++;
      }
      if (found !== undefined) found[i] = is ? 1 : 0;
    }
    return missing;
  }

  #find(keyLow: number, keyHigh: number): Row | undefined {
    return this.#rows.get(keyHigh)?.get(keyLow);
  }

  /** A new row, in no list yet. */
  #insert(keyLow: number, keyHigh: number): Row {
    const row: Row = {
      keyLow,
      keyHigh,
      high: 0,
      low: 0,
      touched: 0,
      tombstone: false,
      values: new Float32Array(this.dim),
      previous: undefined,
      next: undefined,
    };
    let ofHigh = this.#rows.get(keyHigh);
    if (ofHigh === undefined) this.#rows.set(keyHigh, (ofHigh = new Map()));
    ofHigh.set(keyLow, row);
    return row;
  }

  /** The row of a key with a new version, living; a new one and a tombstone begin at their initial values. */
  #stamped(keyLow: number, keyHigh: number, touchedS: number): Row {
    const known = this.#find(keyLow, keyHigh);
    const at = this.#buckets[this.bucketOf(keyLow, keyHigh)]!;
    assert(at.epoch > 0, "a write of a bucket that is led");
    const row = known ?? this.#insert(keyLow, keyHigh);
    if (known !== undefined) this.#take(at, row);
    if (known === undefined || row.tombstone) initialValues(this.#initial, this.dim, keyLow, keyHigh, row.values, 0);
    row.tombstone = false;
    row.touched = touchedS;
    this.#place(at, row, this.#stamp(at));
    return row;
  }

  #stamp(at: Bucket): Version {
    assert(at.counter < versionLimits.counterMax, "a counter that is left in the epoch");
    at.counter++;
    return versionOf(at.epoch, at.counter, at.node);
  }

  #joinOne(entries: EntryBatch, i: number): boolean {
    const [keyLow, keyHigh] = [entries.keys[2 * i]!, entries.keys[2 * i + 1]!];
    const [high, low] = [entries.versions[2 * i]!, entries.versions[2 * i + 1]!];
    const tombstone = entries.isTombstone(i);
    const at = this.#buckets[this.bucketOf(keyLow, keyHigh)]!;
    const known = this.#find(keyLow, keyHigh);
    if (known !== undefined) {
      if (isNewer(known, high, low)) return false;
      if (known.high === high && known.low === low) {
        const order = this.#compare(known, entries, i);
        if (order === 0) return false;
        this.#conflicts++;
        if (order > 0) return false;
      }
      this.#take(at, known);
    }
    const row = known ?? this.#insert(keyLow, keyHigh);
    row.tombstone = tombstone;
    row.touched = entries.touched[i]!;
    if (!tombstone) row.values.set(entries.values.subarray(i * this.dim, (i + 1) * this.dim));
    this.#place(at, row, { high, low });
    return true;
  }

  /** Positive: the row's bytes are larger. A tombstone is larger than any row, then the later touch counts, then the words of the values in their order. */
  #compare(row: Row, entries: EntryBatch, i: number): number {
    const tombstone = entries.isTombstone(i);
    if (row.tombstone !== tombstone) return row.tombstone ? 1 : -1;
    if (row.touched !== entries.touched[i]!) return row.touched - entries.touched[i]!;
    if (tombstone) return 0;
    const words = new Uint32Array(row.values.buffer, row.values.byteOffset, this.dim);
    this.#row.set(entries.values.subarray(i * this.dim, (i + 1) * this.dim));
    for (let c = 0; c < this.dim; c++) if (words[c] !== this.#words[c]) return words[c]! - this.#words[c]!;
    return 0;
  }

  /** Out of the list, the counts and the digest. */
  #take(at: Bucket, row: Row): void {
    if (row.previous === undefined) at.head = row.next;
    else row.previous.next = row.next;
    if (row.next === undefined) at.tail = row.previous;
    else row.next.previous = row.previous;
    row.previous = row.next = undefined;
    this.#count(at, row, -1);
  }

  /** Into the list at the place of its version, and into counts and digest. */
  #place(at: Bucket, row: Row, version: Version): void {
    row.high = version.high;
    row.low = version.low;
    let before = at.tail;
    while (before !== undefined && isNewer(before, row.high, row.low)) before = before.previous;
    row.previous = before;
    row.next = before === undefined ? at.head : before.next;
    if (row.previous === undefined) at.head = row;
    else row.previous.next = row;
    if (row.next === undefined) at.tail = row;
    else row.next.previous = row;
    this.#count(at, row, 1);
    if (version.high > at.newest.high || (version.high === at.newest.high && version.low > at.newest.low)) at.newest = version;
    if (at.dirty) return;
    at.dirty = true;
    this.#dirty.push(this.bucketOf(row.keyLow, row.keyHigh));
  }

  #count(at: Bucket, row: Row, sign: 1 | -1): void {
    if (row.tombstone) at.tombstones += sign;
    else at.live += sign;
    entryTerm(row.keyLow, row.keyHigh, row.high, row.low, this.#term, 0);
    const low = at.digestLow + sign * this.#term[0]!;
    at.digestLow = low >>> 0;
    const carry = low > 0xffff_ffff ? 1 : low < 0 ? -1 : 0;
    at.digestHigh = (at.digestHigh + sign * this.#term[1]! + carry) >>> 0;
  }

  #remove(bucket: number, upTo: Version, tombstonesOnly: boolean): number {
    const at = this.#buckets[bucket]!;
    let removed = 0;
    for (let row = at.head; row !== undefined && !isNewer(row, upTo.high, upTo.low);) {
      const { next } = row;
      if (row.tombstone || !tombstonesOnly) {
        this.#take(at, row);
        this.#rows.get(row.keyHigh)!.delete(row.keyLow);
        removed++;
      }
      row = next;
    }
    return removed;
  }
}
