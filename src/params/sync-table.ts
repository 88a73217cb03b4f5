// What synchronisation needs of a table of parameters at one node, and the entries that travel between nodes.
// Why: the protocol is written against this and simulated over a plain table (map-table.ts); the real one (parameter-shard.ts) is held to the same.
//
// A version orders the writes of a bucket: epoch u16 | counter u40 | node u8 from high to low bits, compared unsigned, in two halves of 32 bits. A bucket
// has one primary an epoch, so (epoch, node) is one stretch of that order and the counters in it are without gaps at the primary.
//
// Invariants: 1. join is commutative, associative and idempotent: of two entries of one key the one with the larger version wins whole (values, touch,
//                tombstone); with equal versions and different bytes (a bug somewhere) the larger bytes win and it is counted
//             2. `changes` walks a bucket in ascending order of version at every node, so a version is a cursor anywhere, at a relay too
//             3. a digest is the sum mod 2^64 of `entryTerm` over all entries of a bucket, tombstones included: equal entries, equal digests.
// Concurrency: one thread. Limits: batchEntriesMax; 2^40 - 1 writes of a bucket an epoch (`lead` with the next epoch begins anew).

import { assert } from "#base/errors";

/** Two halves of an unsigned 64-bit number. */
export interface Version {
  readonly high: number;
  readonly low: number;
}

export const noVersion: Version = { high: 0, low: 0 };
/** Above every version. */
export const lastVersion: Version = { high: 0xffff_ffff, low: 0xffff_ffff };

export const versionLimits = { epochMax: 0xffff, counterMax: 2 ** 40 - 1, nodeMax: 255 } as const;

export function versionOf(epoch: number, counter: number, node: number): Version {
  return { high: ((epoch << 16) | Math.floor(counter / 2 ** 24)) >>> 0, low: (((counter % 2 ** 24) << 8) | node) >>> 0 };
}

export function epochOf(version: Version): number {
  return version.high >>> 16;
}

export function counterOf(version: Version): number {
  return (version.high & 0xffff) * 2 ** 24 + (version.low >>> 8);
}

export function nodeOf(version: Version): number {
  return version.low & 255;
}

/** Negative, 0 or positive: as sort takes it. */
export function compareVersions(a: Version, b: Version): number {
  return a.high === b.high ? a.low - b.low : a.high - b.high;
}

export const batchEntriesMax = 1 << 22;

/** Entries as columns, used again and again: `clear`, then fill. Columns grow and keep their content. */
export class EntryBatch {
  readonly dim: number;
  count = 0;
  /** Low and high half, entry by entry. */
  keys = new Uint32Array(0);
  /** High and low half, entry by entry. */
  versions = new Uint32Array(0);
  /** Bits of `entryFlags`. */
  flags = new Uint8Array(0);
  /** When the key was last touched: seconds since 1970. */
  touched = new Uint32Array(0);
  /** `dim` numbers an entry; of tombstones without meaning. */
  values = new Float32Array(0);

  constructor(dim: number) {
    this.dim = dim;
  }

  clear(): void {
    this.count = 0;
  }

  /** Makes room for `more` entries behind `count`. */
  reserve(more: number): void {
    const needed = this.count + more;
    assert(needed <= batchEntriesMax, "entries of one batch");
    const room = this.flags.length;
    if (needed <= room) return;
    const next = Math.max(needed, 2 * room, 16);
    const grown = <T extends { set(from: T): void }>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.keys = grown(new Uint32Array(2 * next), this.keys);
    this.versions = grown(new Uint32Array(2 * next), this.versions);
    this.flags = grown(new Uint8Array(next), this.flags);
    this.touched = grown(new Uint32Array(next), this.touched);
    this.values = grown(new Float32Array(next * this.dim), this.values);
  }

  /** Appends one entry whose values are still to be written; returns its number. */
  push(keyLow: number, keyHigh: number, version: Version, flags: number, touched: number): number {
    this.reserve(1);
    const i = this.count++;
    this.keys[2 * i] = keyLow;
    this.keys[2 * i + 1] = keyHigh;
    this.versions[2 * i] = version.high;
    this.versions[2 * i + 1] = version.low;
    this.flags[i] = flags;
    this.touched[i] = touched;
    return i;
  }

  versionAt(i: number): Version {
    return { high: this.versions[2 * i]!, low: this.versions[2 * i + 1]! };
  }

  /** As `counterOf(versionAt(i))`, without an object. */
  counterAt(i: number): number {
    return (this.versions[2 * i]! & 0xffff) * 2 ** 24 + (this.versions[2 * i + 1]! >>> 8);
  }

  isTombstone(i: number): boolean {
    return (this.flags[i]! & entryFlags.tombstone) !== 0;
  }
}

export const entryFlags = { tombstone: 1 } as const;

/** Keys: low and high half, two words each. All calls are synchronous and of one thread; a batch may have any length. */
export interface SyncTable {
  readonly dim: number;
  /** A power of two. `bucketOf` of src/kernel/parameter-key.ts says which holds a key. */
  readonly buckets: number;
  bucketOf(keyLow: number, keyHigh: number): number;
  /** Takes the bucket's writes from now on: they get the versions (epoch, counter, node), the counter going on above the largest that the bucket holds. */
  lead(bucket: number, epoch: number, node: number): void;
  /** Takes no more writes of the bucket: it is led elsewhere. */
  follow(bucket: number): void;
  /** Largest version of the bucket that was stamped or joined here; (0, 0) when there was none. Never falls, not by `collect` either. */
  newest(bucket: number): Version;
  /** Of the bucket's entries, tombstones included. */
  digest(bucket: number): Version;
  /** Adds the digests of `count` buckets from `first` on: their high halves to into[0], their low ones to into[1], each modulo 2^32. */
  addDigests(first: number, count: number, into: Uint32Array): void;
  counts(bucket: number): { live: number; tombstones: number };

  // Writes at the primary: every key must be of a bucket that is led. `touchedS`: seconds since 1970.

  /** Sets rows. Returns how many keys were refused because memory is full. */
  assign(keys: Uint32Array, count: number, values: Float32Array, touchedS: number): number;
  /** Adds to rows; a missing key begins at its initial values. Returns how many keys were refused (admission, memory). */
  add(keys: Uint32Array, count: number, deltas: Float32Array, touchedS: number): number;
  /** Makes rows tombstones; keys without a row are passed over. Returns how many there were. */
  delete(keys: Uint32Array, count: number): number;

  /** Entries of the bucket with after < version <= upTo, ascending, at most `max`, appended to `into`. True: all of them. */
  changes(bucket: number, after: Version, upTo: Version, max: number, into: EntryBatch): boolean;
  /** Joins entries `first` on, of any bucket, in any order. Returns how many were newer than what was there. */
  join(entries: EntryBatch, first: number, count: number): number;
  /** Entries that met one of equal version and other bytes. */
  readonly conflicts: number;
  /** Removes tombstones with version <= upTo; returns how many. */
  collect(bucket: number, upTo: Version): number;
  /**
   * Removes every entry with version <= upTo, tombstones too, and leaves nothing in their place; returns how many. `expire(bucket, lastVersion)` empties the
   * bucket. That no older entry comes back afterwards is the business of whoever joins (src/params/sync).
   */
  expire(bucket: number, upTo: Version): number;
  /** Buckets written or joined into since the last call, each once; returns how many were written to `into`. The rest come with the next call. */
  takeDirty(into: Uint32Array): number;
  /** Rows of any keys, `dim` numbers each; missing keys (and tombstones) read as their initial values. `found[i]`: 1 or 0. Returns how many were missing. */
  pull(keys: Uint32Array, count: number, into: Float32Array, found?: Uint8Array): number;
}
