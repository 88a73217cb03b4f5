// Update ring: batches of parameter writes from one thread to the thread that owns the tables, and what became of them back.
// Why a ring in shared memory and not messages: a batch is copied once and cloned never, a full ring tells its producer at once, and nothing piles up in a port.
//
// Layout, relative to the ring's address (64-byte aligned), words of 4 bytes:
//   +0 "URG1"   +4 words of records (a power of two)   +8 results (a power of two)
//   +64 head: place behind the last record published                                          (producer)
//   +128 tail: place behind the last record applied   +132 applied: its number                (consumer)
//   +192 results: u32 number of the record, u32 refused, u32 removed, u32 error (0 = none, else 1 + its place among the error codes)
//   behind them the records: u32 words of the record (all ones: go on at the beginning), u32 number, u16 table, u8 kind, u8 0, u32 keys, u32 numbers a key,
//   u32 touchedS, keys (low and high word), numbers
// Places count words modulo 2^32; a record is never split, what is left before the end is passed over. Records are numbered from 1, modulo 2^32.
//
// Invariants: 1. a record is published by one store of the head, when it is whole: a producer that dies before it leaves nothing
//             2. results are written before `applied`, and a record has a place for its result before it is published: none is lost
//             3. records are applied once, in the order of their numbers; a record whose `apply` throws is answered with the error, and the next one follows
//             4. no wake-up is lost: who waits looks at the counter first, and every wait has a deadline.
// Cost: 24 bytes a record, a copy of keys and numbers; no allocation a row. CPU of both sides 0.7 us a record of one row, 6 us one of 1,000 rows of 16.
// Concurrency: one producing and one consuming thread; a bell may serve many rings of one consumer. A ring serves one life of its producer.
// Limits: updateRingLimits; a record takes at most half the ring. A full ring refuses (`undefined`): take results, wait for `room`, offer again.

import { type ErrorCode, errorActors, MillraceError, toMillraceError } from "#base/errors";
import { copyBytes } from "#platform/copy-bytes";

export const updateRingLimits = { bytesMin: 4_096, bytesMax: 2 ** 28, resultsMax: 65_536 } as const;

export const updateKinds = ["assign", "add", "delete"] as const;
export type UpdateKind = (typeof updateKinds)[number];

/** "URG1" */
const magic = 0x3147_5255;
/** Words of the header, by place; for the tests too, which begin near the end of the numbers. */
export const updateRingWord = { magic: 0, words: 1, results: 2, head: 16, tail: 32, applied: 33 } as const;
const headerBytes = 192;
const resultBytes = 16;
const recordHeadWords = 6;
const passOver = 0xffff_ffff;
const errorCodes = Object.keys(errorActors) as ErrorCode[];

function invalid(what: string, todo: string): MillraceError {
  return new MillraceError("invalid", what, { todo });
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && (value & (value - 1)) === 0;
}

/** What both threads need; to be sent to the other one. */
export interface UpdateRingTicket {
  /** Shared, also the buffer of a shared WebAssembly memory. */
  readonly memory: ArrayBufferLike;
  readonly at: number;
  /** Rung at every offer. */
  readonly bell: SharedArrayBuffer;
}

/** Wakes the consumer of one or more rings. */
export class UpdateBell {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(4)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  /** How often it was rung, modulo 2^32: look at it before draining. */
  get rung(): number {
    return Atomics.load(this.#words, 0);
  }

  ring(): void {
    Atomics.add(this.#words, 0, 1);
    Atomics.notify(this.#words, 0);
  }

  /** Resolves when it has been rung since `rung` was `seen`, or after `withinMs`. */
  async heard(seen: number, withinMs: number): Promise<void> {
    await wordChanged(this.#words, 0, seen, withinMs);
  }
}

async function wordChanged(words: Int32Array, word: number, seen: number, withinMs: number): Promise<void> {
  const waiting = Atomics.waitAsync(words, word, seen, withinMs);
  if (waiting.async) await waiting.value;
}

export interface UpdateRingShape {
  /** For records: a power of two, updateRingLimits. */
  readonly bytes: number;
  /** Records whose result was not taken yet: a power of two. Default 1,024. */
  readonly results?: number;
}

function checkShape({ bytes, results = 1_024 }: UpdateRingShape): number {
  const { bytesMin, bytesMax, resultsMax } = updateRingLimits;
  if (!isPowerOfTwo(bytes) || bytes < bytesMin || bytes > bytesMax) {
    throw invalid(`an update ring of ${bytes} bytes`, `use a power of two from ${bytesMin} to ${bytesMax}`);
  }
  if (!isPowerOfTwo(results) || results > resultsMax) throw invalid(`an update ring for ${results} results`, `use a power of two up to ${resultsMax}`);
  return results;
}

/** Bytes to reserve for a ring. Throws `invalid` for a shape that cannot be. */
export function updateRingBytes(shape: UpdateRingShape): number {
  return headerBytes + checkShape(shape) * resultBytes + shape.bytes;
}

/** Makes `updateRingBytes` bytes at `at` (64-aligned) an empty ring. */
export function formatUpdateRing(memory: ArrayBufferLike, at: number, shape: UpdateRingShape, bell: UpdateBell): UpdateRingTicket {
  const bytes = updateRingBytes(shape);
  if (at % 64 !== 0 || at < 0 || at + bytes > memory.byteLength) {
    throw invalid(`an update ring of ${bytes} bytes at ${at} of ${memory.byteLength}`, "reserve updateRingBytes at a multiple of 64");
  }
  const words = new Int32Array(memory, at, headerBytes / 4).fill(0);
  words[updateRingWord.words] = shape.bytes / 4;
  words[updateRingWord.results] = checkShape(shape);
  Atomics.store(words, updateRingWord.magic, magic);
  return { memory, at, bell: bell.memory };
}

/** A ring in a memory of its own. `bell`: of its consumer. */
export function createUpdateRing(shape: UpdateRingShape, bell = new UpdateBell()): UpdateRingTicket {
  return formatUpdateRing(new SharedArrayBuffer(updateRingBytes(shape)), 0, shape, bell);
}

/** What both sides see. */
class RingSide {
  protected readonly header: Int32Array;
  protected readonly answers: Uint32Array;
  protected readonly words: Uint32Array;
  protected readonly numbers: Float32Array;
  /** Of a place: `place & mask` is its word. */
  protected readonly mask: number;
  protected readonly resultMask: number;

  constructor({ memory, at }: UpdateRingTicket) {
    const there = at % 64 === 0 && at >= 0 && at + headerBytes <= memory.byteLength;
    const head = there ? new Int32Array(memory, at, headerBytes / 4) : new Int32Array(headerBytes / 4);
    const size = head[updateRingWord.words]!;
    const results = head[updateRingWord.results]!;
    const sound = Atomics.load(head, updateRingWord.magic) === magic && isPowerOfTwo(size) && isPowerOfTwo(results);
    if (!sound || at + headerBytes + results * resultBytes + 4 * size > memory.byteLength) {
      throw new MillraceError("corrupt", `no update ring at address ${at}`, { todo: "attach with the ticket of createUpdateRing or formatUpdateRing" });
    }
    const recordsAt = at + headerBytes + results * resultBytes;
    this.header = head;
    this.answers = new Uint32Array(memory, at + headerBytes, (results * resultBytes) / 4);
    this.words = new Uint32Array(memory, recordsAt, size);
    this.numbers = new Float32Array(memory, recordsAt, size);
    this.mask = size - 1;
    this.resultMask = results - 1;
  }

  protected word(place: number): number {
    return Atomics.load(this.header, place) >>> 0;
  }

  /** Number of the last record that was applied; 0 before the first. */
  get applied(): number {
    return this.word(updateRingWord.applied);
  }
}

/** What became of a record. */
export interface UpdateResult {
  /** Number of the record. */
  readonly seq: number;
  /** Keys that found no room or were held back by admission. */
  readonly refused: number;
  /** Rows that a delete found. */
  readonly removed: number;
  /** Why nothing of the record was applied. */
  readonly errorCode: ErrorCode | undefined;
}

export class UpdateProducer extends RingSide {
  readonly #bell: UpdateBell;
  #head: number;
  /** Numbers of the last record offered, and of the last whose result was taken. */
  #offered: number;
  #taken: number;

  constructor(ticket: UpdateRingTicket) {
    super(ticket);
    this.#bell = new UpdateBell(ticket.bell);
    this.#head = this.word(updateRingWord.head);
    this.#offered = this.applied;
    this.#taken = this.#offered;
    if (this.#head !== this.word(updateRingWord.tail)) {
      throw new MillraceError("conflict", "an update ring that another producer has written to", { todo: "make a ring for each life of a producer" });
    }
  }

  /** Words that a record may have. */
  get recordWordsMax(): number {
    return (this.mask + 1) / 2;
  }

  /** Keys of `dim` numbers that fit a record. */
  keysMax(dim: number): number {
    return Math.floor((this.recordWordsMax - recordHeadWords) / (2 + dim));
  }

  /** Records offered and not applied yet. */
  get waiting(): number {
    return (this.#offered - this.applied) >>> 0;
  }

  /**
   * Copies a batch into the ring and wakes the consumer: `count` keys (low and high word) and `numbers.length / count` numbers each, none for a delete.
   * Returns its number, or `undefined` when the ring is full or too many results were not taken. `table`: as agreed with the consumer, below 65,536.
   * Throws `invalid` for columns that do not fit each other, or a batch beyond `keysMax`.
   */
  offer(table: number, kind: UpdateKind, keys: Uint32Array, count: number, numbers: Float32Array, touchedS: number): number | undefined {
    const dim = count === 0 ? 0 : numbers.length / count;
    const kindNumber = updateKinds.indexOf(kind);
    if (!Number.isInteger(count) || count < 0 || keys.length < 2 * count || !Number.isInteger(dim) || (kind === "delete" && numbers.length > 0)) {
      throw invalid(`${count} keys in ${keys.length} words with ${numbers.length} numbers`, "give two words and whole rows a key, no numbers to a delete");
    }
    if (!Number.isInteger(table) || table < 0 || table > 0xffff || kindNumber < 0) {
      throw invalid(`an update ${String(kind)} of table ${table}`, `number tables from 0 to 65,535 and use ${updateKinds.join(", ")}`);
    }
    const needed = recordHeadWords + 2 * count + dim * count;
    if (needed > this.recordWordsMax) throw invalid(`a record of ${needed} words in a ring for ${this.recordWordsMax}`, "cut the batch (keysMax)");
    if ((this.#offered - this.#taken) >>> 0 > this.resultMask) return undefined;
    let at = this.#head & this.mask;
    const left = this.mask + 1 - at;
    const skipped = needed > left ? left : 0;
    const used = (this.#head - this.word(updateRingWord.tail)) >>> 0;
    if (used + skipped + needed > this.mask + 1) return undefined;
    const { words } = this;
    if (skipped > 0) {
      words[at] = passOver;
      at = 0;
    }
    const seq = (this.#offered + 1) >>> 0;
    words[at] = needed;
    words[at + 1] = seq;
    words[at + 2] = table | (kindNumber << 16);
    words[at + 3] = count;
    words[at + 4] = dim;
    words[at + 5] = touchedS;
    const keysAt = at + recordHeadWords;
    // As bytes: TypedArray.set on shared memory goes word by word.
    const into = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    copyBytes(new Uint8Array(keys.buffer, keys.byteOffset, 8 * count), 0, 8 * count, into, 4 * keysAt);
    copyBytes(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), 0, numbers.byteLength, into, 4 * (keysAt + 2 * count));
    this.#offered = seq;
    this.#head = (this.#head + skipped + needed) >>> 0;
    Atomics.store(this.header, updateRingWord.head, this.#head | 0);
    this.#bell.ring();
    return seq;
  }

  /** Hands out the results that are there and were not taken yet, in order, up to number `upTo` when it is given. Returns how many. */
  results(take: (result: UpdateResult) => void, upTo = this.applied): number {
    const ready = (this.applied - this.#taken) >>> 0;
    const asked = (upTo - this.#taken) >>> 0;
    // A number taken before is "far ahead" in numbers that wrap.
    const count = asked > this.resultMask + 1 ? 0 : Math.min(ready, asked);
    for (let i = 0; i < count; i++) {
      const seq = (this.#taken + 1) >>> 0;
      const at = 4 * (seq & this.resultMask);
      const { answers } = this;
      if (answers[at] !== seq) throw new MillraceError("internal", "the result of another record", { todo: "report this: an update ring has two consumers" });
      const result: UpdateResult = { seq, refused: answers[at + 1]!, removed: answers[at + 2]!, errorCode: errorCodes[answers[at + 3]! - 1] };
      this.#taken = seq;
      take(result);
    }
    return count;
  }

  /** Resolves when the consumer has applied more than `seen` (a reading of `applied`), was woken, or after `withinMs`; look again. */
  async appliedPast(seen: number, withinMs: number): Promise<void> {
    await wordChanged(this.header, updateRingWord.applied, seen | 0, withinMs);
  }
}

/** A record as the consumer reads it: in place, valid until `apply` returns, the same object every time. */
export interface UpdateRecord {
  readonly seq: number;
  readonly table: number;
  readonly kind: UpdateKind;
  readonly count: number;
  /** Numbers a key: for the consumer to compare with its table. 0 for a delete. */
  readonly dim: number;
  readonly touchedS: number;
  readonly keys: Uint32Array;
  readonly numbers: Float32Array;
}

export interface UpdateAnswer {
  readonly refused?: number;
  readonly removed?: number;
  readonly errorCode?: ErrorCode | undefined;
}

export class UpdateConsumer extends RingSide {
  /** Of this ring's producer, and of others that share it. */
  readonly bell: UpdateBell;

  constructor(ticket: UpdateRingTicket) {
    super(ticket);
    this.bell = new UpdateBell(ticket.bell);
  }

  /** No record waits. */
  get isEmpty(): boolean {
    return this.word(updateRingWord.head) === this.word(updateRingWord.tail);
  }

  /**
   * Applies at most `recordsMax` records in order and wakes the producer; returns how many. What `apply` throws is the record's result.
   * Throws `corrupt` when the ring holds what no producer wrote: drop the ring.
   */
  drain(recordsMax: number, apply: (record: UpdateRecord) => UpdateAnswer): number {
    const { words, header, answers, mask } = this;
    const head = this.word(updateRingWord.head);
    let tail = this.word(updateRingWord.tail);
    let seq = this.applied;
    let count = 0;
    for (; count < recordsMax && tail !== head; count++) {
      let at = tail & mask;
      if (words[at] === passOver) {
        tail = (tail + (mask + 1 - at)) >>> 0;
        at = 0;
      }
      seq = (seq + 1) >>> 0;
      const record = this.#read(at, seq, (head - tail) >>> 0);
      let answer: UpdateAnswer;
      try {
        answer = apply(record);
      } catch (thrown) {
        answer = { errorCode: toMillraceError(thrown).code };
      }
      const place = 4 * (seq & this.resultMask);
      answers[place] = seq;
      answers[place + 1] = answer.refused ?? 0;
      answers[place + 2] = answer.removed ?? 0;
      answers[place + 3] = answer.errorCode === undefined ? 0 : 1 + errorCodes.indexOf(answer.errorCode);
      tail = (tail + words[at]!) >>> 0;
      Atomics.store(header, updateRingWord.tail, tail | 0);
      Atomics.store(header, updateRingWord.applied, seq | 0);
    }
    if (count > 0) Atomics.notify(header, updateRingWord.applied);
    return count;
  }

  #read(at: number, seq: number, published: number): UpdateRecord {
    const { words } = this;
    const length = words[at]!;
    const kindAndTable = words[at + 2]!;
    const kind = updateKinds[kindAndTable >>> 16];
    const count = words[at + 3]!;
    const dim = words[at + 4]!;
    const keysAt = at + recordHeadWords;
    const numbersAt = keysAt + 2 * count;
    const sound = length <= published && at + length <= words.length && length === recordHeadWords + count * (2 + dim);
    if (!sound || kind === undefined || words[at + 1] !== seq) {
      throw new MillraceError("corrupt", `record ${seq} of an update ring`, { todo: "drop the ring and start its producer anew" });
    }
    const keys = words.subarray(keysAt, numbersAt);
    const numbers = this.numbers.subarray(numbersAt, at + length);
    return { seq, table: kindAndTable & 0xffff, kind, count, dim, touchedS: words[at + 5]!, keys, numbers };
  }
}
