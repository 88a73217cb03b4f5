// What a node holds of every bucket, origin by origin: the vectors that cursors, acknowledgements and comparisons are made of.
// An origin is (epoch, node) as one number, epoch * 256 + node: the primary of one epoch. vector[bucket][origin] = c says: of every key whose last write by
// that origin has a counter <= c, that write or a newer one is held.
// Why an own store: nearly every bucket has one origin, so two columns hold nearly everything, and a cursor for each follower costs 12 bytes a bucket.
// Invariants: 1. origins of a bucket ascend, their counters only rise (but by `forget` and `replace`)  2. at most `stretchesMax` origins: the oldest is left
//             out, and what is older than the oldest of a full list counts as held (every node comes to the same list, digests find what is not so).
// Cost: 12 B a bucket; some ns a call with one origin. Concurrency: one thread.

import { mixWord } from "#kernel/parameter-key";
import { epochOf, nodeOf, type Version } from "../sync-table.ts";

export interface Stretch {
  readonly origin: number;
  readonly counter: number;
}

export const stretchesMax = 8;

export const originOf = (version: Version): number => epochOf(version) * 256 + nodeOf(version);

const none: readonly Stretch[] = [];

function mixStretch(origin: number, counter: number, into: Uint32Array): void {
  into[0] = mixWord((mixWord(into[0]! ^ origin) + (counter % 4294967296)) | 0);
  into[1] = mixWord((into[1]! ^ into[0]) + Math.floor(counter / 4294967296));
}

export class VersionVectors {
  readonly buckets: number;
  /** The newest origin of each bucket, 0: none. */
  readonly #origin: Uint32Array;
  readonly #counter: Float64Array;
  /** The others, ascending. */
  readonly #older = new Map<number, Stretch[]>();

  constructor(buckets: number) {
    this.buckets = buckets;
    this.#origin = new Uint32Array(buckets);
    this.#counter = new Float64Array(buckets);
  }

  isEmpty(bucket: number): boolean {
    return this.#origin[bucket] === 0;
  }

  /** 0: none. */
  newestOrigin(bucket: number): number {
    return this.#origin[bucket]!;
  }

  newestCounter(bucket: number): number {
    return this.#counter[bucket]!;
  }

  /** 0 when nothing of that origin is held. */
  counterOf(bucket: number, origin: number): number {
    if (this.#origin[bucket] === origin) return this.#counter[bucket]!;
    const older = this.#older.get(bucket);
    if (older === undefined) return 0;
    for (const stretch of older) if (stretch.origin === origin) return stretch.counter;
    return older.length === stretchesMax - 1 && origin < older[0]!.origin ? Infinity : 0;
  }

  /** How many origins came before the newest. */
  olderOf(bucket: number): readonly Stretch[] {
    return this.#older.get(bucket) ?? none;
  }

  /** All of them, ascending. Allocates. */
  stretches(bucket: number): Stretch[] {
    if (this.#origin[bucket] === 0) return [];
    return [...this.olderOf(bucket), { origin: this.#origin[bucket]!, counter: this.#counter[bucket]! }];
  }

  /** True when the counter rose. */
  raise(bucket: number, origin: number, counter: number): boolean {
    const newest = this.#origin[bucket]!;
    if (newest === origin) {
      if (counter <= this.#counter[bucket]!) return false;
      this.#counter[bucket] = counter;
      return true;
    }
    if (newest === 0) {
      this.#origin[bucket] = origin;
      this.#counter[bucket] = counter;
      return true;
    }
    const known = this.counterOf(bucket, origin);
    if (counter <= known) return false;
    const all = this.stretches(bucket).filter((stretch) => stretch.origin !== origin);
    all.push({ origin, counter });
    this.replace(bucket, all);
    return true;
  }

  /** Takes the stretches (in any order, each origin once) in the place of what was known. */
  replace(bucket: number, stretches: readonly Stretch[]): void {
    if (stretches.length === 0) return this.forget(bucket);
    if (stretches.length === 1) {
      this.#older.delete(bucket);
      this.#origin[bucket] = stretches[0]!.origin;
      this.#counter[bucket] = stretches[0]!.counter;
      return;
    }
    const sorted = [...stretches].sort((a, b) => a.origin - b.origin).slice(-stretchesMax);
    const last = sorted.pop()!;
    this.#origin[bucket] = last.origin;
    this.#counter[bucket] = last.counter;
    this.#older.set(bucket, sorted);
  }

  forget(bucket: number): void {
    this.#older.delete(bucket);
    this.#origin[bucket] = 0;
    this.#counter[bucket] = 0;
  }

  forgetAll(): void {
    this.#older.clear();
    this.#origin.fill(0);
    this.#counter.fill(0);
  }

  /** Whether all that `stretches` say is held here. */
  covers(bucket: number, stretches: readonly Stretch[]): boolean {
    return stretches.every(({ origin, counter }) => this.counterOf(bucket, origin) >= counter);
  }

  /** Whether all that `other` holds of the bucket is held here. No allocation with one origin. */
  coversOther(bucket: number, other: VersionVectors): boolean {
    const origin = other.#origin[bucket]!;
    if (origin === 0) return true;
    if (this.counterOf(bucket, origin) < other.#counter[bucket]!) return false;
    const older = other.#older.get(bucket);
    return older === undefined || this.covers(bucket, older);
  }

  /** A term for sums over buckets, to into[0] and into[1]: equal vectors, equal terms. */
  term(bucket: number, into: Uint32Array): void {
    into[0] = into[1] = mixWord(bucket + 1);
    const older = this.#older.get(bucket);
    if (older !== undefined) for (const { origin, counter } of older) mixStretch(origin, counter, into);
    mixStretch(this.#origin[bucket]!, this.#counter[bucket]!, into);
  }
}
