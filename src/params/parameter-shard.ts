// A shard of parameters in one kernel memory: u64 keys to rows of f32 with versions. Protocols and layout: kernels/parameter-shard.ts and the files it names.
// Why one memory with everything: a kernel sees one memory, and a pull reads index and rows of many keys at once, their misses side by side.
// Invariants: 1. those of SyncTable  2. a reader in another thread sees a row whole, of the key it asked for, and waits for no writer  3. a place in memory is
//             used again only when every reader that may have seen it has left  4. equal calls in equal order give equal bytes on every kernel variant.
// Cost: 36 bytes a row and 6.3 to 7.9 of index beside its numbers; times in docs/design/params.md.
// Concurrency: one writing thread (whoever made the shard); any thread reads through `ShardReader` with a number and a lane of its own.
// Limits: parameterShardLimits; batches of any length. A full shard refuses new keys and goes on with those it has: evict or expire in time.

import { MillraceError } from "#base/errors";
import { copyBytes } from "#platform/copy-bytes";
import type { KernelMemory } from "#kernel/kernel-memory";
import { checkHeader } from "#kernel/memory-header";
import { bucketOf } from "#kernel/parameter-key";
import {
  bucketBytes,
  bucketWord,
  checkShardShape,
  formatParameterShard,
  parameterShardLimits,
  parameterShardMagic,
  type ParameterShardShape,
  rowBytesOf,
  shardHeaderBytes,
  shardScratch,
  shardWord,
} from "#kernel/parameter-shard-layout";
import { compareVersions, counterOf, type EntryBatch, type SyncTable, type Version, versionLimits } from "./sync-table.ts";

export type { ParameterShardShape };

/** What the 16-byte pieces of a lane may cost on top. */
const alignmentBytes = 6 * 16;
/** Of an entry in columns, beside its numbers. */
const entryHeadBytes = 24;
/** Entries that `changes` copies without views. */
const wordByWordMax = 4;
const noReader = 0xffff_ffff;

function invalid(what: string, todo: string): MillraceError {
  return new MillraceError("invalid", what, { todo });
}

type Column = Uint8Array | Int8Array | Uint16Array | Uint32Array | Float32Array;

function bytesOf({ buffer, byteOffset, byteLength }: Column): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** How a pull hands rows out. */
export interface NarrowRows {
  /** `dim` numbers a key. */
  readonly bytes: Int8Array;
  /** number = byte x scale of its row. */
  readonly scales: Float32Array;
}

/** What readers and the writer share: pulls in the forms there are. */
class ShardAccess {
  readonly memory: KernelMemory;
  readonly at: number;
  readonly dim: number;
  readonly buckets: number;
  protected readonly head: number;
  readonly #reader: number;

  constructor(memory: KernelMemory, at: number, reader: number) {
    this.memory = memory;
    this.at = at;
    this.head = at / 4;
    this.dim = this.word(shardWord.dim);
    this.buckets = this.word(shardWord.bucketMask) + 1;
    this.#reader = reader;
  }

  protected word(index: number): number {
    return Atomics.load(this.memory.u32, this.head + index);
  }

  protected checkBatch(keys: Uint32Array, count: number, numbers: number, perKey: number): void {
    if (Number.isInteger(count) && count >= 0 && keys.length >= 2 * count && numbers >= count * perKey) return;
    throw invalid(`${count} keys in ${keys.length} words with room for ${numbers} numbers, ${perKey} a key`, "give two words a key and a whole row each");
  }

  /** `count` entries from `first` on into this thread's lane at byte `at`. As bytes: TypedArray.set on shared memory goes word by word. */
  protected put(from: Column, first: number, count: number, at: number): void {
    const size = from.BYTES_PER_ELEMENT;
    copyBytes(bytesOf(from), size * first, size * (first + count), this.memory.bytes, at);
  }

  /** `count` entries of this thread's lane from byte `at` on. */
  protected take(at: number, count: number, into: Column, first: number): void {
    const size = into.BYTES_PER_ELEMENT;
    copyBytes(this.memory.bytes, at, at + size * count, bytesOf(into), size * first);
  }

  /** Cuts `count` keys into parts that fit the lane: `bytesPerKey` beside the scratch. */
  protected parts(count: number, scratchBytes: number, bytesPerKey: number, call: (first: number, size: number, scratchAt: number) => boolean | void): void {
    const { lane } = this.memory;
    for (let first = 0; first < count;) {
      lane.reset();
      const scratchAt = lane.take(scratchBytes);
      const size = Math.min(count - first, Math.floor((lane.free - alignmentBytes) / bytesPerKey));
      if (size < 1) throw invalid(`a lane too small for rows of ${this.dim} numbers`, "give the memory larger lanes (laneBytes)");
      if (call(first, size, scratchAt) === false) return;
      first += size;
    }
  }

  /** Pulls in parts; `take` gets the address of each part's rows. */
  #pull(
    keys: Uint32Array,
    count: number,
    found: Uint8Array | undefined,
    moreBytes: number,
    take: (rowsAt: number, first: number, size: number) => void,
  ): number {
    if (found !== undefined && found.length < count) throw invalid(`${found.length} bytes to say which of ${count} keys were found`, "give a byte a key");
    const { lane, calls } = this.memory;
    let missing = 0;
    this.parts(count, shardScratch.readBytes, 9 + 4 * this.dim + moreBytes, (first, size, scratchAt) => {
      const keysAt = lane.take(8 * size);
      const rowsAt = lane.take(4 * this.dim * size);
      const foundAt = found === undefined ? 0 : lane.take(size);
      this.put(keys, 2 * first, 2 * size, keysAt);
      missing += calls.shardPull(this.at, keysAt, size, rowsAt, foundAt, this.#reader, scratchAt) >>> 0;
      take(rowsAt, first, size);
      if (found !== undefined) this.take(foundAt, size, found, first);
    });
    return missing;
  }

  /** Rows of `count` keys (low, high), `dim` numbers each; missing keys read as their initial values. `found[i]`: 1 or 0. Returns how many were missing. */
  pull(keys: Uint32Array, count: number, into: Float32Array, found?: Uint8Array): number {
    this.checkBatch(keys, count, into.length, this.dim);
    return this.#pull(keys, count, found, 0, (rowsAt, first, size) => {
      this.take(rowsAt, size * this.dim, into, first * this.dim);
    });
  }

  /** The same as f16 (IEEE 754 binary16), to the nearest. */
  pullHalves(keys: Uint32Array, count: number, into: Uint16Array, found?: Uint8Array): number {
    this.checkBatch(keys, count, into.length, this.dim);
    const { lane, calls } = this.memory;
    return this.#pull(keys, count, found, 2 * this.dim, (rowsAt, first, size) => {
      const halvesAt = lane.take(2 * this.dim * size);
      calls.narrowHalves(rowsAt, this.dim * size, halvesAt);
      this.take(halvesAt, this.dim * size, into, first * this.dim);
    });
  }

  /** The same as int8 with a scale a row. */
  pullBytes(keys: Uint32Array, count: number, into: NarrowRows, found?: Uint8Array): number {
    this.checkBatch(keys, count, into.bytes.length, this.dim);
    if (into.scales.length < count) throw invalid(`${into.scales.length} scales for ${count} keys`, "give a number a key");
    const { lane, calls } = this.memory;
    return this.#pull(keys, count, found, this.dim + 4, (rowsAt, first, size) => {
      const scalesAt = lane.take(4 * size);
      const bytesAt = lane.take(this.dim * size);
      calls.narrowBytes(rowsAt, size, this.dim, scalesAt, bytesAt);
      this.take(scalesAt, size, into.scales, first);
      this.take(bytesAt, this.dim * size, into.bytes, first * this.dim);
    });
  }

  /** Rows of now. */
  get live(): number {
    return this.word(shardWord.live);
  }

  /** Rows that are deleted and not yet collected. */
  get tombstones(): number {
    return this.word(shardWord.tombstones);
  }

  /** Numbers of writes that were not finite, modulo 2^32. */
  get skipped(): number {
    return this.word(shardWord.skipped);
  }

  /** What they and the index take now; what rows that left have given back is not counted. */
  get heldBytes(): number {
    return this.live * rowBytesOf(this.dim) + this.word(shardWord.indexBytes);
  }

  /** Taken of the memory so far. It never falls: places are used again. */
  get usedBytes(): number {
    return this.word(shardWord.bump) - this.at;
  }

  /** Readings that gave up on a row which stayed half written: its writer's thread died. The shard has to be built anew then. */
  get unsteady(): number {
    return this.word(shardWord.unsteady);
  }
}

/** Reads a shard of another thread. */
export class ShardReader extends ShardAccess {
  /** The shard that lies at `at`. `reader`: 0 to 63, of this reader alone. Throws `corrupt` when there is none. */
  static attach(memory: KernelMemory, at: number, reader: number): ShardReader {
    checkHeader(memory, at, shardHeaderBytes, parameterShardMagic, "parameter shard", "a ParameterShard");
    const { readersMax } = parameterShardLimits;
    if (!Number.isInteger(reader) || reader < 0 || reader >= readersMax) throw invalid(`reader ${reader} of a shard`, `number readers 0 to ${readersMax - 1}`);
    const place = at / 4 + shardWord.readers;
    for (let known = Atomics.load(memory.u32, place); known < reader + 1; known = Atomics.load(memory.u32, place)) {
      Atomics.compareExchange(memory.u32, place, known, reader + 1);
    }
    return new ShardReader(memory, at, reader);
  }
}

export interface ShardStatistics {
  readonly live: number;
  readonly tombstones: number;
  /** Rows that wait until readers have left, and rows ready to be used again. */
  readonly waiting: number;
  readonly free: number;
  readonly rowBytes: number;
  readonly indexBytes: number;
  /** Taken of the shard's memory so far, and its size. */
  readonly usedBytes: number;
  readonly bytes: number;
  /** Keys that found no room; additions held back by admission; writes of buckets led elsewhere; numbers that were not finite. All modulo 2^32. */
  readonly refused: number;
  readonly heldBack: number;
  readonly notLed: number;
  readonly skipped: number;
  readonly conflicts: number;
  readonly evicted: number;
  readonly expired: number;
  readonly unsteady: number;
}

export class ParameterShard extends ShardAccess implements SyncTable {
  private constructor(memory: KernelMemory, at: number) {
    super(memory, at, noReader);
  }

  /** An empty shard in `shape.bytes` bytes of the memory's data. Throws `invalid` for its shape, `overloaded` when the memory is full. */
  static create(memory: KernelMemory, shape: ParameterShardShape): ParameterShard {
    checkShardShape(shape);
    const at = memory.reserve(shape.bytes);
    formatParameterShard(memory.u32, at, shape);
    return new ParameterShard(memory, at);
  }

  /** The shard at `at`, to be written from this thread from now on: nobody else writes it any more. Throws `corrupt` when there is none. */
  static takeOver(memory: KernelMemory, at: number): ParameterShard {
    checkHeader(memory, at, shardHeaderBytes, parameterShardMagic, "parameter shard", "a ParameterShard");
    return new ParameterShard(memory, at);
  }

  /** Frees what the reader with this number holds: its thread has ended. */
  forgetReader(reader: number): void {
    Atomics.store(this.memory.u32, this.head + shardWord.readerWords + 16 * reader, 0);
  }

  bucketOf(keyLow: number, keyHigh: number): number {
    return bucketOf(keyLow, keyHigh, this.buckets);
  }

  #bucket(bucket: number): number {
    if (!Number.isInteger(bucket) || bucket < 0 || bucket >= this.buckets) throw invalid(`bucket ${bucket} of ${this.buckets}`, "use a bucket of this table");
    return (this.word(shardWord.bucketsAt) + bucketBytes * bucket) / 4;
  }

  #pair(bucket: number, high: number, low: number): Version {
    const at = this.#bucket(bucket);
    return { high: this.memory.u32[at + high]!, low: this.memory.u32[at + low]! };
  }

  lead(bucket: number, epoch: number, node: number): void {
    const whole = (value: number, least: number, most: number): boolean => Number.isInteger(value) && value >= least && value <= most;
    if (!whole(epoch, 1, versionLimits.epochMax) || !whole(node, 0, versionLimits.nodeMax)) {
      throw invalid(`a primary of epoch ${epoch} and node ${node}`, `use epochs 1 to ${versionLimits.epochMax} and nodes 0 to ${versionLimits.nodeMax}`);
    }
    const at = this.#bucket(bucket);
    this.memory.u32[at + bucketWord.leadEpoch] = epoch;
    this.memory.u32[at + bucketWord.leadNode] = node;
  }

  /** Takes no more writes of the bucket: it is led elsewhere. */
  follow(bucket: number): void {
    this.memory.u32[this.#bucket(bucket) + bucketWord.leadEpoch] = 0;
  }

  newest(bucket: number): Version {
    return this.#pair(bucket, bucketWord.newestHigh, bucketWord.newestLow);
  }

  digest(bucket: number): Version {
    return this.#pair(bucket, bucketWord.digestHigh, bucketWord.digestLow);
  }

  addDigests(first: number, count: number, into: Uint32Array): void {
    if (count < 1) return;
    this.#bucket(first + count - 1);
    const { u32 } = this.memory;
    for (let at = this.#bucket(first), end = at + (bucketBytes / 4) * count; at < end; at += bucketBytes / 4) {
      into[0]! += u32[at + bucketWord.digestHigh]!;
      into[1]! += u32[at + bucketWord.digestLow]!;
    }
  }

  /** Largest version of a tombstone that was removed: whoever knows the bucket only up to less cannot learn of it from `changes`. */
  collected(bucket: number): Version {
    return this.#pair(bucket, bucketWord.collectedHigh, bucketWord.collectedLow);
  }

  /** Live rows that left the bucket without a tombstone (`expire`, evictions at once), modulo 2^32. */
  left(bucket: number): number {
    return this.memory.u32[this.#bucket(bucket) + bucketWord.left]!;
  }

  counts(bucket: number): { live: number; tombstones: number } {
    const at = this.#bucket(bucket);
    return { live: this.memory.u32[at + bucketWord.live]!, tombstones: this.memory.u32[at + bucketWord.tombstones]! };
  }

  get conflicts(): number {
    return this.word(shardWord.conflicts);
  }

  #write(call: "shardAssign" | "shardAdd", keys: Uint32Array, count: number, numbers: Float32Array, touchedS: number): number {
    this.checkBatch(keys, count, numbers.length, this.dim);
    const { lane, calls } = this.memory;
    const notLed = this.word(shardWord.notLed);
    let refused = 0;
    this.parts(count, shardScratch.writeBytes(this.dim), 8 + 4 * this.dim, (first, size, scratchAt) => {
      const keysAt = lane.take(8 * size);
      const numbersAt = lane.take(4 * this.dim * size);
      this.put(keys, 2 * first, 2 * size, keysAt);
      this.put(numbers, first * this.dim, size * this.dim, numbersAt);
      refused += calls[call](this.at, keysAt, size, numbersAt, touchedS, scratchAt) >>> 0;
    });
    this.#checkLed(notLed);
    return refused;
  }

  #checkLed(before: number): void {
    const more = (this.word(shardWord.notLed) - before) >>> 0;
    if (more === 0) return;
    throw new MillraceError("conflict", `${more} writes of buckets that this shard does not lead (the others of the batch were made)`, {
      todo: "send them to the bucket's primary; a counter that ran out needs a new epoch",
    });
  }

  /** Sets rows; keys need no admission. Rows with numbers that are not finite are left out and counted. Throws `conflict` for buckets not led. */
  assign(keys: Uint32Array, count: number, values: Float32Array, touchedS: number): number {
    return this.#write("shardAssign", keys, count, values, touchedS);
  }

  add(keys: Uint32Array, count: number, deltas: Float32Array, touchedS: number): number {
    return this.#write("shardAdd", keys, count, deltas, touchedS);
  }

  delete(keys: Uint32Array, count: number): number {
    this.checkBatch(keys, count, 0, 0);
    const { lane, calls } = this.memory;
    const notLed = this.word(shardWord.notLed);
    let deleted = 0;
    this.parts(count, shardScratch.writeBytes(this.dim), 8, (first, size, scratchAt) => {
      const keysAt = lane.take(8 * size);
      this.put(keys, 2 * first, 2 * size, keysAt);
      deleted += calls.shardDelete(this.at, keysAt, size, scratchAt) >>> 0;
    });
    this.#checkLed(notLed);
    return deleted;
  }

  changes(bucket: number, after: Version, upTo: Version, max: number, into: EntryBatch): boolean {
    this.#bucket(bucket);
    const { lane, u32, f32, calls } = this.memory;
    const { dim } = this;
    let { high, low } = after;
    for (let left = max; left > 0;) {
      lane.reset();
      const size = Math.min(left, Math.floor((lane.free - alignmentBytes) / (entryHeadBytes + 4 * dim)));
      if (size < 1) throw invalid(`a lane too small for rows of ${dim} numbers`, "give the memory larger lanes (laneBytes)");
      const columns = lane.take(size * (entryHeadBytes + 4 * dim));
      const answer = calls.shardChanges(this.at, bucket, high, low, upTo.high, upTo.low, size, columns) >>> 0;
      const count = answer >>> 1;
      into.reserve(count);
      const to = into.count;
      const keys = columns / 4;
      const versions = keys + 2 * size;
      const touched = versions + 2 * size;
      const flags = touched + size;
      const values = flags + size;
      // A push asks for a row or two of each bucket: views of them would cost more than the words.
      if (count > wordByWordMax) {
        this.take(4 * keys, 2 * count, into.keys, 2 * to);
        this.take(4 * versions, 2 * count, into.versions, 2 * to);
        this.take(4 * touched, count, into.touched, to);
        this.take(4 * values, count * dim, into.values, to * dim);
      } else {
        for (let i = 0; i < 2 * count; i++) {
          into.keys[2 * to + i] = u32[keys + i]!;
          into.versions[2 * to + i] = u32[versions + i]!;
        }
        for (let i = 0; i < count; i++) into.touched[to + i] = u32[touched + i]!;
        for (let i = 0; i < count * dim; i++) into.values[to * dim + i] = f32[values + i]!;
      }
      for (let i = 0; i < count; i++) into.flags[to + i] = u32[flags + i]!;
      into.count += count;
      if ((answer & 1) === 1) return true;
      left -= size;
      if (count > 0) {
        high = u32[versions + 2 * count - 2]!;
        low = u32[versions + 2 * count - 1]!;
      }
    }
    return false;
  }

  /** Throws `overloaded` when memory is full: entries before the one that found no room are joined, and joining all again is harmless. */
  join(entries: EntryBatch, first: number, count: number): number {
    if (entries.dim !== this.dim) throw invalid(`entries of ${entries.dim} numbers for rows of ${this.dim}`, "tables that join have the same dim");
    const { lane, u32, calls } = this.memory;
    let newer = 0;
    this.parts(count, shardScratch.writeBytes(this.dim), entryHeadBytes + 4 * this.dim, (done, size, scratchAt) => {
      const from = first + done;
      const columns = lane.take(size * (entryHeadBytes + 4 * this.dim));
      const versions = columns / 4 + 2 * size;
      const touched = versions + 2 * size;
      const flags = touched + size;
      this.put(entries.keys, 2 * from, 2 * size, columns);
      this.put(entries.versions, 2 * from, 2 * size, 4 * versions);
      this.put(entries.touched, from, size, 4 * touched);
      for (let i = 0; i < size; i++) u32[flags + i] = entries.flags[from + i]!;
      this.put(entries.values, from * this.dim, size * this.dim, 4 * (flags + size));
      newer += calls.shardJoin(this.at, columns, size, scratchAt) >>> 0;
      if (u32[scratchAt / 4 + 2] === size) return;
      throw new MillraceError("overloaded", `a parameter shard that is full at ${this.live} rows while it joins entries`, {
        todo: "give followers at least the memory of their primary",
      });
    });
    return newer;
  }

  /** At most `max` in one call: 0.3 us each. */
  collect(bucket: number, upTo: Version, max: number = 2 ** 31): number {
    this.#bucket(bucket);
    return this.memory.calls.shardCollect(this.at, bucket, upTo.high, upTo.low, max, 0) >>> 0;
  }

  expire(bucket: number, upTo: Version, max: number = 2 ** 31): number {
    this.#bucket(bucket);
    return this.memory.calls.shardCollect(this.at, bucket, upTo.high, upTo.low, max, 1) >>> 0;
  }

  takeDirty(into: Uint32Array): number {
    const { u32 } = this.memory;
    const buckets = this.word(shardWord.bucketsAt) / 4;
    const last = 0xffff_ffff;
    let number = u32[this.head + shardWord.dirtyHead]!;
    let taken = 0;
    for (; number !== 0 && taken < into.length; taken++) {
      into[taken] = number - 1;
      const link = buckets + (bucketBytes / 4) * (number - 1) + bucketWord.dirtyNext;
      const following = u32[link]!;
      u32[link] = 0;
      number = following === last ? 0 : following;
    }
    u32[this.head + shardWord.dirtyHead] = number;
    if (number === 0) u32[this.head + shardWord.dirtyTail] = 0;
    return taken;
  }

  /**
   * Evicts what was written longest ago until live rows take at most `liveBytes` (rowBytes each), at most `max` rows; of each bucket what it has beyond an equal share. Evicted
   * rows become tombstones, so that they leave at followers too; `atOnce`: they are removed, for a table that nobody follows. Returns how many.
   */
  evict(liveBytes: number, max: number, atOnce = false): number {
    const target = Math.floor(liveBytes / this.rowBytes);
    return this.memory.calls.shardEvict(this.at, Math.min(target, 0xffff_ffff), max, atOnce ? 1 : 0) >>> 0;
  }

  /**
   * Expires rows touched before `beforeS` (seconds since 1970) in the next `buckets` buckets, at most `max`; call it again and again.
   * A bucket is looked through in the order of its writes up to the first row that was touched later. Returns how many.
   */
  expireUntouched(beforeS: number, buckets: number, max: number, atOnce = false): number {
    return this.memory.calls.shardExpire(this.at, beforeS, buckets, max, atOnce ? 1 : 0) >>> 0;
  }

  /** Of one row, its part of the index not counted. */
  get rowBytes(): number {
    return rowBytesOf(this.dim);
  }

  /**
   * For cursors over all buckets: `known` holds three words a bucket, newest version (high, low) and `left`. Writes the numbers of buckets that have gone on since, or of all with
   * `everyOne`, to `into`; returns how many. Some 10 ns a bucket.
   */
  bucketsSince(known: Uint32Array, into: Uint32Array, everyOne = false): number {
    const { u32 } = this.memory;
    let at = this.word(shardWord.bucketsAt) / 4;
    let count = 0;
    for (let bucket = 0; bucket < this.buckets; bucket++, at += bucketBytes / 4) {
      const same =
        u32[at + bucketWord.newestLow] === known[3 * bucket + 1] &&
        u32[at + bucketWord.newestHigh] === known[3 * bucket] &&
        u32[at + bucketWord.left] === known[3 * bucket + 2];
      if (everyOne || !same) into[count++] = bucket;
    }
    return count;
  }

  /** Newest version, collected version and `left` of every bucket at this moment, five words each. */
  cut(into: Uint32Array): void {
    const { u32 } = this.memory;
    let at = this.word(shardWord.bucketsAt) / 4;
    for (let to = 0; to < 5 * this.buckets; to += 5, at += bucketBytes / 4) {
      into[to] = u32[at + bucketWord.newestHigh]!;
      into[to + 1] = u32[at + bucketWord.newestLow]!;
      into[to + 2] = u32[at + bucketWord.collectedHigh]!;
      into[to + 3] = u32[at + bucketWord.collectedLow]!;
      into[to + 4] = u32[at + bucketWord.left]!;
    }
  }

  /** Lets a restored bucket know what its table had counted and collected, so that no version is given out twice. */
  resume(bucket: number, newest: Version, collected: Version, left: number): void {
    const at = this.#bucket(bucket);
    const { u32 } = this.memory;
    const raise = (high: number, low: number, to: Version): void => {
      if (compareVersions(to, { high: u32[at + high]!, low: u32[at + low]! }) <= 0) return;
      u32[at + high] = to.high;
      u32[at + low] = to.low;
    };
    raise(bucketWord.newestHigh, bucketWord.newestLow, newest);
    raise(bucketWord.collectedHigh, bucketWord.collectedLow, collected);
    u32[at + bucketWord.left] = left;
  }

  /** Writes of the bucket that its counter has counted in all epochs. */
  writes(bucket: number): number {
    return counterOf(this.newest(bucket));
  }

  statistics(): ShardStatistics {
    const word = (index: number): number => this.word(index);
    return {
      live: this.live,
      tombstones: word(shardWord.tombstones),
      waiting: word(shardWord.limboRows),
      free: word(shardWord.freeRows),
      rowBytes: this.rowBytes,
      indexBytes: word(shardWord.indexBytes),
      usedBytes: this.usedBytes,
      bytes: word(shardWord.endAt) - this.at,
      refused: word(shardWord.refused),
      heldBack: word(shardWord.heldBack),
      notLed: word(shardWord.notLed),
      skipped: this.skipped,
      conflicts: word(shardWord.conflicts),
      evicted: word(shardWord.evicted),
      expired: word(shardWord.expired),
      unsteady: word(shardWord.unsteady),
    };
  }
}
