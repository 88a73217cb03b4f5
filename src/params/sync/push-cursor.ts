// What one follower was told and still has to be told: a cursor for each bucket, and the queue of those that changed.
// Why cursors and no list of changes: a cursor is cleared by nobody. A push that was lost, cut off or answered with less is simply sent again from where the
// follower says it is, and a key that was written a hundred times meanwhile goes out once.
//
// Invariants: 1. one push is under way at a time; the next one begins where its answer leaves the cursors  2. a bucket is at most once in the queues
//             3. live changes go before a load (a follower's first copy of a bucket), a load within its budget of bytes
//             4. frames ascend in the version order of a bucket, so each one advances the follower's vector alone.
// Cost: 33 B a bucket and follower. Concurrency: one thread.

import { compareVersions, type Version, versionLimits, versionOf } from "../sync-table.ts";
import type { BucketReplica } from "./bucket-replica.ts";
import {
  type BucketVector,
  entryBytesMax,
  frameBytesMax,
  originsMax,
  type Push,
  pushHeadBytesMax,
  pushSectionsMax,
  sectionBytesMax,
  sectionFlags,
} from "./sync-frames.ts";
import { VersionVectors } from "./version-vectors.ts";

/** A frame must have room for a bucket of many origins with one row. */
export function frameBytesMin(dim: number): number {
  return pushHeadBytesMax + 9 * sectionBytesMax + entryBytesMax + 4 * dim;
}

const queues = { none: 0, live: 1, load: 2 } as const;

/** First in, first out; each bucket once, so it never grows. */
class BucketQueue {
  readonly #ring: Uint32Array;
  #first = 0;
  length = 0;

  constructor(buckets: number) {
    this.#ring = new Uint32Array(buckets);
  }

  push(bucket: number): void {
    this.#ring[(this.#first + this.length++) % this.#ring.length] = bucket;
  }

  unshift(bucket: number): void {
    this.#first = (this.#first + this.#ring.length - 1) % this.#ring.length;
    this.#ring[this.#first] = bucket;
    this.length++;
  }

  peek(): number {
    return this.#ring[this.#first]!;
  }

  shift(): number {
    const bucket = this.#ring[this.#first]!;
    this.#first = (this.#first + 1) % this.#ring.length;
    this.length--;
    return bucket;
  }

  clear(): void {
    this.length = 0;
  }
}

export class PushCursor {
  readonly #replica: BucketReplica;
  readonly #roomBytes: number;
  /** What the follower said that it holds. */
  readonly acked: VersionVectors;
  readonly #live: BucketQueue;
  readonly #load: BucketQueue;
  readonly #queued: Uint8Array;
  /** When the oldest change of a bucket that is in no push yet was made, 0: there is none. */
  readonly #sinceMs: Float64Array;
  /** Buckets that are being sent from their beginning to one who holds nothing of them: what had been collected then. */
  readonly #fresh = new Map<number, Version>();
  /** Buckets of which the follower must throw its copy away before it is sent them. */
  readonly #anewDue = new Set<number>();
  /** Of the push under way: the buckets that were begun anew in it. */
  readonly #sentAnew = new Set<number>();
  #underWay = 0;
  #underWaySinceMs = 0;
  /** Sections of the push under way; the arrays keep their length. */
  #sent = 0;
  readonly #sentBucket: number[] = [];
  readonly #sentOrigin: number[] = [];
  readonly #sentTo: number[] = [];
  /** Of the frame that is built. */
  #room = 0;
  readonly #origins = new Uint32Array(originsMax);

  /** `frameBytes`: of a frame at most. */
  constructor(replica: BucketReplica, frameBytes = frameBytesMax) {
    this.#replica = replica;
    this.#roomBytes = frameBytes - pushHeadBytesMax;
    const { buckets } = replica.table;
    this.acked = new VersionVectors(buckets);
    this.#live = new BucketQueue(buckets);
    this.#load = new BucketQueue(buckets);
    this.#queued = new Uint8Array(buckets);
    this.#sinceMs = new Float64Array(buckets);
  }

  /** The number of the push that is not answered, 0: none. */
  get underWay(): number {
    return this.#underWay;
  }

  get liveBuckets(): number {
    return this.#live.length;
  }

  get loadBuckets(): number {
    return this.#load.length;
  }

  get idle(): boolean {
    return this.#underWay === 0 && this.#live.length === 0 && this.#load.length === 0;
  }

  /** Age of the oldest live change that is not acknowledged. */
  ageMs(nowMs: number): number {
    let since = this.#underWay === 0 ? 0 : this.#underWaySinceMs;
    if (this.#live.length > 0) {
      const head = this.#sinceMs[this.#live.peek()]!;
      if (since === 0 || (head !== 0 && head < since)) since = head;
    }
    return since === 0 ? 0 : Math.max(0, nowMs - since);
  }

  /** A bucket of this follower changed. */
  mark(bucket: number, nowMs: number): void {
    if (this.#sinceMs[bucket] === 0) this.#sinceMs[bucket] = nowMs;
    if (this.#queued[bucket] !== queues.none) return;
    const load = this.acked.isEmpty(bucket) && this.#replica.vectors.olderOf(bucket).length + this.#replica.table.counts(bucket).live > 256;
    this.#queued[bucket] = load ? queues.load : queues.live;
    (load ? this.#load : this.#live).push(bucket);
  }

  /** The follower says what it holds: of all buckets anew (then `begin` follows), or of some; of those what it lacks is queued. */
  take(vectors: readonly BucketVector[], all: boolean, nowMs: number): void {
    if (all) {
      this.acked.forgetAll();
      this.#fresh.clear();
      this.#anewDue.clear();
      this.#sentAnew.clear();
      this.#live.clear();
      this.#load.clear();
      this.#queued.fill(queues.none);
      this.#sinceMs.fill(0);
      this.#underWay = 0;
    }
    for (const { bucket, stretches } of vectors) {
      this.acked.replace(
        bucket,
        stretches.filter(({ counter }) => counter > 0),
      );
      if (!all && !this.acked.coversOther(bucket, this.#replica.vectors)) this.mark(bucket, nowMs);
    }
  }

  /**
   * The copy here was thrown away, so what the follower took from it is not to be trusted either: it begins the bucket anew. Nothing goes out before this node
   * holds what the follower holds; until then the follower keeps what it has.
   */
  renew(bucket: number): void {
    this.#anewDue.add(bucket);
  }

  /** After the last vector of a whole: queues what is lacking as a load. */
  begin(wanted: (bucket: number) => boolean): void {
    for (let bucket = 0; bucket < this.acked.buckets; bucket++) {
      if (this.#queued[bucket] !== queues.none || !wanted(bucket) || this.acked.coversOther(bucket, this.#replica.vectors)) continue;
      this.#queued[bucket] = queues.load;
      this.#load.push(bucket);
    }
  }

  /**
   * The answer to push `id`: its intervals are held, but of the buckets in `vectors`; or a part of it was missing (`torn`), and nothing counts. False: it
   * answers nothing that is under way.
   */
  answered(id: number, torn: boolean, vectors: readonly BucketVector[], nowMs: number): boolean {
    if (id !== this.#underWay) return false;
    this.#underWay = 0;
    for (let s = 0; s < this.#sent; s++) {
      if (torn) this.mark(this.#sentBucket[s]!, this.#underWaySinceMs === 0 ? nowMs : this.#underWaySinceMs);
      else this.acked.raise(this.#sentBucket[s]!, this.#sentOrigin[s]!, this.#sentTo[s]!);
    }
    // Whether the follower threw its copy away is not known when a frame was missing or it refused the bucket: it is told again, or dead rows could stay there.
    if (torn) for (const bucket of this.#sentAnew) this.#anewDue.add(bucket);
    else if (this.#sentAnew.size > 0) for (const { bucket } of vectors) if (this.#sentAnew.has(bucket)) this.#anewDue.add(bucket);
    this.#sentAnew.clear();
    this.take(vectors, false, nowMs);
    return true;
  }

  /** Begins a push; `build` fills its frames one by one. */
  start(id: number): void {
    this.#underWay = id;
    this.#underWaySinceMs = 0;
    this.#sent = 0;
    this.#sentAnew.clear();
  }

  /** Nothing went into the push that was begun. */
  abandon(): void {
    this.#underWay = 0;
  }

  /** Fills one frame. Returns the bytes of its entries, at most; nothing but sections that were sent is in it. */
  build(push: Push, loadBytes: number): number {
    push.clear();
    const rowBytes = entryBytesMax + 4 * push.entries.dim;
    this.#room = this.#roomBytes;
    const origins = this.#origins;
    let originCount = 0;
    let left = loadBytes;
    while (push.sections + 9 <= pushSectionsMax && originCount + 9 <= originsMax) {
      const load = this.#live.length === 0;
      const queue = load ? this.#load : this.#live;
      if (queue.length === 0 || (load && left <= 0)) break;
      const before = this.#room;
      if (before < 9 * sectionBytesMax + rowBytes) break;
      const bucket = queue.shift();
      this.#queued[bucket] = queues.none;
      const since = this.#sinceMs[bucket]!;
      const sections = push.sections;
      const whole = this.#bucket(bucket, push, rowBytes);
      for (let s = sections; s < push.sections; s++) {
        let place = 0;
        while (place < originCount && origins[place] !== push.origin[s]) place++;
        if (place === originCount) origins[originCount++] = push.origin[s]!;
      }
      if (push.sections > sections && since !== 0 && (this.#underWaySinceMs === 0 || since < this.#underWaySinceMs)) this.#underWaySinceMs = since;
      if (load) left -= before - this.#room;
      if (!whole) {
        this.#queued[bucket] = load ? queues.load : queues.live;
        queue.unshift(bucket);
        break;
      }
      this.#sinceMs[bucket] = 0;
    }
    for (let s = 0; s < push.sections; s++) {
      this.#sentBucket[this.#sent] = push.bucket[s]!;
      this.#sentOrigin[this.#sent] = push.origin[s]!;
      this.#sentTo[this.#sent++] = push.to[s]!;
    }
    return this.#roomBytes - this.#room;
  }

  /** Everything of a bucket that the follower lacks, as far as there is room; true: all of it. */
  #bucket(bucket: number, push: Push, rowBytes: number): boolean {
    const replica = this.#replica;
    const { vectors } = replica;
    let anew = false;
    const { acked } = this;
    const due = this.#anewDue.size > 0 && this.#anewDue.has(bucket);
    if (!due && replica.knowsCollected(bucket, acked)) {
      if (this.#fresh.size > 0) this.#fresh.delete(bucket);
    } else if (!due && acked.isEmpty(bucket)) this.#fresh.set(bucket, replica.collectedTo(bucket));
    else {
      // Its tombstones are gone here, so the follower begins anew; but not by one who knows less than it does, and not again in the middle of that.
      const begun = due ? undefined : this.#fresh.get(bucket);
      if (begun === undefined || compareVersions(begun, replica.collectedTo(bucket)) !== 0) {
        if (vectors.isEmpty(bucket) || vectors.counterOf(bucket, acked.newestOrigin(bucket)) < acked.newestCounter(bucket)) return true;
        this.#anewDue.delete(bucket);
        this.#sentAnew.add(bucket);
        acked.forget(bucket);
        this.#fresh.set(bucket, replica.collectedTo(bucket));
        anew = true;
      }
    }
    for (const { origin, counter } of vectors.olderOf(bucket)) {
      const sections = push.sections;
      if (!this.#section(bucket, origin, counter, anew, push, rowBytes)) return false;
      if (push.sections > sections) anew = false;
    }
    return vectors.isEmpty(bucket) || this.#section(bucket, vectors.newestOrigin(bucket), vectors.newestCounter(bucket), anew, push, rowBytes);
  }

  /** What the follower lacks of one origin, up to `counter`; true: all of it. */
  #section(bucket: number, origin: number, counter: number, anew: boolean, push: Push, rowBytes: number): boolean {
    const from = this.#heldBy(bucket, origin);
    if (counter <= from) return true;
    this.#room -= sectionBytesMax;
    const max = Math.floor(this.#room / rowBytes);
    if (max < 1) return false;
    const { table, ledEpoch, node } = this.#replica;
    const { entries } = push;
    const before = entries.count;
    const epoch = origin >>> 8;
    // The last counter of all: everything of that epoch was left behind (SyncNode.startOver), there is nothing to look for.
    const whole = counter === versionLimits.counterMax || table.changes(bucket, versionOf(epoch, from, 255), versionOf(epoch, counter, 255), max, entries);
    const s = push.sections++;
    push.bucket[s] = bucket;
    push.origin[s] = origin;
    push.flags[s] = (origin === ledEpoch[bucket]! * 256 + node ? sectionFlags.leading : 0) | (anew ? sectionFlags.anew : 0);
    push.from[s] = from;
    push.to[s] = whole ? counter : entries.counterAt(entries.count - 1);
    push.count[s] = entries.count - before;
    this.#room -= push.count[s] * rowBytes;
    return whole;
  }

  /** What the follower holds of an origin, with what this push already carries. */
  #heldBy(bucket: number, origin: number): number {
    let held = this.acked.counterOf(bucket, origin);
    // Only the last section of the frame before may be of a bucket that was cut.
    for (let s = this.#sent - 1; s >= 0 && this.#sentBucket[s] === bucket; s--) {
      if (this.#sentOrigin[s] === origin && this.#sentTo[s]! > held) held = this.#sentTo[s]!;
    }
    return held;
  }
}
