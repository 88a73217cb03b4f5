// The entry record: one key with its value, kind, expiry and time, the same bytes in a memtable, in a run file and in a batch on its way.
// Byte format: docs/format/run-file.md, "Entry record". Little-endian, at any address.
//
//   u8 head (low 4 bits kind, 0x10 has expiry, 0x20 has time, 0x40 and 0x80 form), then by form
//   0: u8 keyBytes   u8 valueBytes      0x40: u8 keyBytes   u16 valueBytes      0x80: u24 keyBytes   u32 valueBytes      0xc0: no record
//   then   [u48 expiryMs]   [u48 timeMs]   key   value
//
// In a run a key of 48 to 62 bytes may have a line of 64 bytes, at a multiple of 64, and the rest of its entry elsewhere in the block ("Key lines" of the same page): a look-up
// of the key touches one cache line instead of two or three.
//
// Why three forms: of a store of short values the heads are a tenth of its memory. The length of a short key stands at the same place in the first two, so that a look-up
// compares it and the form in one word.
// Invariants: 1. a record is read only after `recordEnd` found it whole inside its bounds  2. times are whole milliseconds below 2^48, 0 = none
//             3. kind 0 is a tombstone: it hides older entries of its key  4. writers take the shortest form, readers take any.
// Cost: 3, 4 or 8 bytes beside key and value, 6 more for an expiry, 6 more for a time.
// Limits: entryLimits.

import { MillraceError } from "#base/errors";
import { blockBytes } from "./entry-layout.ts";
import type { KernelMemory } from "./kernel-memory.ts";
import { keyLimits } from "./key-batch.ts";

export const entryKinds = { tombstone: 0, string: 1, hash: 2, hashMeta: 3, hashField: 4, row: 8 } as const;

export const entryLimits = {
  keyBytesMax: keyLimits.keyBytesMax,
  /** Longest value of one record. */
  valueBytesMax: 1 << 28,
  kindMax: 15,
  /** Largest expiry or time, milliseconds. */
  timeMsMax: 2 ** 48 - 1,
  /** Bytes of all records of one RecordBatch. */
  batchBytesMax: 2 ** 29,
} as const;

const hasExpiry = 0x10;
const hasTime = 0x20;
const formBits = 0xc0;
const shortForm = 0x40;
const longForm = 0x80;
/** The smallest head, and the smallest record. */
export const recordHeadBytesMin = 3;
/** The largest head: both times are there. */
export const recordHeadBytesMax = 20;
/** First byte where a block of a run ends before its room does. */
export const endOfBlock = 0xff;

export const keyLine = {
  bytes: 64,
  /** Keys that may have one. */
  keyBytesMin: 48,
  keyBytesMax: 62,
  /** Where the key begins in it. */
  keyFrom: 2,
  /** Entries in a row that could have lines before a block of a run gives them some: one that cannot cuts a block off. */
  streak: 32,
  /** A line costs at most this part of key and value. */
  costPart: 16,
} as const;

/** First byte of a line; bits 0 to 3 say how many bytes the key is shorter than the longest. */
const lineForm = 0xc0;

/** First two bytes of the line of a key whose entry goes on at `place` in the block, a multiple of 4. */
export function lineHead(keyBytes: number, place: number): number {
  return lineForm | ((place >>> 6) & 0x30) | (keyLine.keyBytesMax - keyBytes) | ((place << 6) & 0xff00);
}

/** Bytes before the optional fields, in the shortest form. */
export function recordHeadBytes(keyBytes: number, valueBytes: number): number {
  if (keyBytes > 0xff || valueBytes > 0xffff) return 8;
  return valueBytes > 0xff ? 4 : 3;
}

/** Bytes of a record. */
export function recordBytes(keyBytes: number, valueBytes: number, expiryMs: number, timeMs: number): number {
  return recordHeadBytes(keyBytes, valueBytes) + (expiryMs > 0 ? 6 : 0) + (timeMs > 0 ? 6 : 0) + keyBytes + valueBytes;
}

/** End of the record at `at` of `bytes`, or -1 when no whole, well-formed record stands between `at` and `limit`. */
export function recordEnd(bytes: Uint8Array, at: number, limit: number): number {
  if (limit > bytes.length || at + recordHeadBytesMin > limit) return -1;
  const form = bytes[at]! & formBits;
  let end = recordKeyAt(bytes, at) + bytes[at + 1]! + bytes[at + 2]!;
  if (form === shortForm) end += bytes[at + 3]! << 8;
  else if (form !== 0) {
    if (form !== longForm || at + 8 > limit) return -1;
    const keyBytes = recordKeyBytes(bytes, at);
    const valueBytes = (bytes[at + 4]! | (bytes[at + 5]! << 8) | (bytes[at + 6]! << 16) | (bytes[at + 7]! << 24)) >>> 0;
    if (keyBytes > entryLimits.keyBytesMax || valueBytes > entryLimits.valueBytesMax) return -1;
    end = recordKeyAt(bytes, at) + keyBytes + valueBytes;
  }
  return end > limit ? -1 : end;
}

/** Where the key of a record begins that is known to be whole (`recordEnd`). */
export function recordKeyAt(bytes: Uint8Array, at: number): number {
  const head = bytes[at]!;
  return at + ((head & longForm) !== 0 ? 8 : (head & shortForm) !== 0 ? 4 : 3) + ((head & hasExpiry) === 0 ? 0 : 6) + ((head & hasTime) === 0 ? 0 : 6);
}

/** Length of the key of such a record. */
export function recordKeyBytes(bytes: Uint8Array, at: number): number {
  return (bytes[at]! & longForm) === 0 ? bytes[at + 1]! : bytes[at + 1]! | (bytes[at + 2]! << 8) | (bytes[at + 3]! << 16);
}

function u48At(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0) + (bytes[at + 4]! | (bytes[at + 5]! << 8)) * 2 ** 32;
}

/** One record as it lies in some bytes: a view that is set again for each record, so that walking allocates nothing. */
export class EntryView {
  /** The bytes that `at`, `keyAt` and `valueAt` count in. */
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  /** First byte behind the record; of an entry with a key line, behind its value. */
  end = 0;
  /** Where the next entry begins, or what ends the block. */
  next = 0;
  /** Where head, lengths and times stand: before the key, or before the value. */
  headAt = 0;
  kind = 0;
  keyAt = 0;
  keyBytes = 0;
  valueAt = 0;
  valueBytes = 0;
  /** 0 = none. */
  expiryMs = 0;
  /** 0 = none. */
  timeMs = 0;

  /** Reads the record at `at`, which must end by `limit`. False (nothing set) when it does not or is malformed. */
  read(bytes: Uint8Array, at: number, limit: number): boolean {
    const end = recordEnd(bytes, at, limit);
    if (end < 0) return false;
    const head = bytes[at]!;
    const keyAt = recordKeyAt(bytes, at);
    this.bytes = bytes;
    this.at = at;
    this.end = end;
    this.next = end;
    this.headAt = at;
    this.keyBytes = recordKeyBytes(bytes, at);
    this.#readHead(head, keyAt);
    this.keyAt = keyAt;
    this.valueAt = keyAt + this.keyBytes;
    this.valueBytes = end - this.valueAt;
    return true;
  }

  #readHead(head: number, end: number): void {
    const { bytes } = this;
    this.kind = head & 15;
    this.expiryMs = 0;
    this.timeMs = 0;
    if ((head & hasTime) !== 0) {
      this.timeMs = u48At(bytes, end - 6);
      if ((head & hasExpiry) !== 0) this.expiryMs = u48At(bytes, end - 12);
    } else if ((head & hasExpiry) !== 0) this.expiryMs = u48At(bytes, end - 6);
  }

  /** As `read`, in the block of a run that begins at `block`: there the key may have a line. */
  readIn(bytes: Uint8Array, at: number, block: number, limit: number): boolean {
    const first = bytes[at]!;
    if ((first & lineForm) !== lineForm) return this.read(bytes, at, limit);
    const keyBytes = keyLine.keyBytesMax - (first & 15);
    if (keyBytes < keyLine.keyBytesMin || at + keyLine.bytes > limit) return false;
    const headAt = block + 4 * (((first & 0x30) << 4) | bytes[at + 1]!);
    if (headAt + recordHeadBytesMin > limit) return false;
    const head = bytes[headAt]!;
    if ((head & longForm) !== 0 || bytes[headAt + 1] !== keyBytes) return false;
    const valueAt = recordKeyAt(bytes, headAt);
    const valueBytes = bytes[headAt + 2]! | ((head & shortForm) === 0 ? 0 : bytes[headAt + 3]! << 8);
    if (valueAt + valueBytes > limit) return false;
    this.bytes = bytes;
    this.at = at;
    this.end = valueAt + valueBytes;
    // Rests lie the other way round: where the next line would reach into this one there is none.
    this.next = at + 2 * keyLine.bytes <= headAt ? at + keyLine.bytes : block + blockBytes;
    this.headAt = headAt;
    this.#readHead(head, valueAt);
    this.keyAt = at + keyLine.keyFrom;
    this.keyBytes = keyBytes;
    this.valueAt = valueAt;
    this.valueBytes = valueBytes;
    return true;
  }

  /** Becomes the same view as another. */
  set(from: EntryView): void {
    Object.assign(this, from);
  }

  /** Bytes of the entry as one record. */
  get recordBytes(): number {
    return this.end - this.headAt + (this.#isWhole ? 0 : this.keyBytes);
  }

  /** False where the key has a line. */
  get #isWhole(): boolean {
    return this.keyAt > this.headAt && this.valueAt === this.keyAt + this.keyBytes;
  }

  /** Where the key ends. */
  get keyEnd(): number {
    return this.keyAt + this.keyBytes;
  }

  /** Writes the entry as one record to `into` at `at`, and returns its end. */
  writeTo(into: Uint8Array, at: number): number {
    const { bytes, headAt, keyAt, keyBytes, valueAt, end } = this;
    if (this.#isWhole) {
      into.set(bytes.subarray(headAt, end), at);
      return at + end - headAt;
    }
    into.set(bytes.subarray(headAt, valueAt), at);
    into.set(bytes.subarray(keyAt, keyAt + keyBytes), at + valueAt - headAt);
    into.set(bytes.subarray(valueAt, end), at + valueAt - headAt + keyBytes);
    return at + end - headAt + keyBytes;
  }

  /** A view of the key's bytes; it moves with what it views. */
  key(): Uint8Array {
    return this.bytes.subarray(this.keyAt, this.keyAt + this.keyBytes);
  }

  /** A view of the value's bytes. */
  value(): Uint8Array {
    return this.bytes.subarray(this.valueAt, this.valueAt + this.valueBytes);
  }
}

/** Order of byte strings: byte by byte, a prefix first. Negative, 0 or positive. `from` to `to` are bounds in each. */
export function compareBytes(a: Uint8Array, aFrom: number, aTo: number, b: Uint8Array, bFrom: number, bTo: number): number {
  const shared = Math.min(aTo - aFrom, bTo - bFrom);
  for (let i = 0; i < shared; i++) {
    const difference = a[aFrom + i]! - b[bFrom + i]!;
    if (difference !== 0) return difference;
  }
  return aTo - aFrom - (bTo - bFrom);
}

/**
 * Writes what stands before a record's key, in the shortest form, and returns where the key begins. `bytes` has room for the record, and the numbers are within
 * `entryLimits`: nothing is checked.
 */
export function writeRecordHead(bytes: Uint8Array, at: number, kind: number, keyBytes: number, valueBytes: number, expiryMs: number, timeMs: number): number {
  const first = kind | (expiryMs > 0 ? hasExpiry : 0) | (timeMs > 0 ? hasTime : 0);
  let next = at + 3;
  bytes[at + 1] = keyBytes;
  if (keyBytes > 0xff || valueBytes > 0xffff) {
    bytes[at] = first | longForm;
    bytes[at + 2] = keyBytes >>> 8;
    bytes[at + 3] = keyBytes >>> 16;
    bytes[at + 4] = valueBytes;
    bytes[at + 5] = valueBytes >>> 8;
    bytes[at + 6] = valueBytes >>> 16;
    bytes[at + 7] = valueBytes >>> 24;
    next = at + 8;
  } else {
    bytes[at + 2] = valueBytes;
    if (valueBytes > 0xff) {
      bytes[at] = first | shortForm;
      bytes[at + 3] = valueBytes >>> 8;
      next = at + 4;
    } else bytes[at] = first;
  }
  if (expiryMs > 0) next = writeU48(bytes, next, expiryMs);
  return timeMs > 0 ? writeU48(bytes, next, timeMs) : next;
}

/**
 * Writes a record to `bytes` at `at` and returns its end. There must be room for it. Throws `invalid` for a key, value, kind or time beyond
 * the limits.
 */
export function writeRecord(bytes: Uint8Array, at: number, key: Uint8Array, kind: number, value: Uint8Array, expiryMs: number, timeMs: number): number {
  checkRecord(key.length, kind, value.length, expiryMs, timeMs);
  const keyAt = writeRecordHead(bytes, at, kind, key.length, value.length, expiryMs, timeMs);
  const valueAt = keyAt + key.length;
  copyShort(key, bytes, keyAt);
  copyShort(value, bytes, valueAt);
  return valueAt + value.length;
}

/** Below some 24 bytes a loop is faster than the call of `set`. */
function copyShort(from: Uint8Array, to: Uint8Array, at: number): void {
  if (from.length > 24) to.set(from, at);
  else for (let i = 0; i < from.length; i++) to[at + i] = from[i]!;
}

/** Cuts off a fraction. */
function writeU48(bytes: Uint8Array, at: number, ms: number): number {
  const high = Math.floor(ms / 2 ** 32);
  const low = ms - high * 2 ** 32;
  bytes[at] = low;
  bytes[at + 1] = low >>> 8;
  bytes[at + 2] = low >>> 16;
  bytes[at + 3] = low >>> 24;
  bytes[at + 4] = high;
  bytes[at + 5] = high >>> 8;
  return at + 6;
}

function checkRecord(keyBytes: number, kind: number, valueBytes: number, expiryMs: number, timeMs: number): void {
  const { keyBytesMax, valueBytesMax, kindMax, timeMsMax } = entryLimits;
  if (keyBytes > keyBytesMax) throw new MillraceError("invalid", `a key of ${keyBytes} bytes`, { todo: `use keys of at most ${keyBytesMax} bytes` });
  if (valueBytes > valueBytesMax)
    throw new MillraceError("invalid", `a value of ${valueBytes} bytes`, { todo: `use values of at most ${valueBytesMax} bytes` });
  if (!Number.isInteger(kind) || kind < 0 || kind > kindMax)
    throw new MillraceError("invalid", `an entry of kind ${kind}`, { todo: `use kinds 0 to ${kindMax}` });
  if (!isTime(expiryMs, timeMsMax) || !isTime(timeMs, timeMsMax)) {
    throw new MillraceError("invalid", `an entry with expiry ${expiryMs} and time ${timeMs}`, { todo: "use whole milliseconds from 0 to 2^48 - 1" });
  }
}

function isTime(ms: number, max: number): boolean {
  return Number.isInteger(ms) && ms >= 0 && ms <= max;
}

/** Records one behind the other: the form in which entries go to a memtable. A reused batch allocates nothing once it has grown. */
export class RecordBatch {
  #bytes = new Uint8Array(4_096);
  #used = 0;
  #count = 0;

  /** Adds one record. Throws `invalid` beyond the limits of a record, `overloaded` when the batch is full. */
  add(key: Uint8Array, kind: number, value: Uint8Array, expiryMs = 0, timeMs = 0): void {
    const end = this.#used + recordBytes(key.length, value.length, expiryMs, timeMs);
    if (end > this.#bytes.length) {
      if (end > entryLimits.batchBytesMax) {
        throw new MillraceError("overloaded", `a batch of ${this.#count} records and ${this.#used} bytes is full`, { todo: "send smaller batches" });
      }
      const grown = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = grown;
    }
    writeRecord(this.#bytes, this.#used, key, kind, value, expiryMs, timeMs);
    this.#used = end;
    this.#count++;
  }

  /** Empties the batch and keeps its room. */
  clear(): void {
    this.#used = 0;
    this.#count = 0;
  }

  get count(): number {
    return this.#count;
  }
  /** Valid up to `used`, until the next `add`. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }
  get used(): number {
    return this.#used;
  }
}

/** The record at an address of a memory, which a kernel or a sorted list gave. Throws `internal` when there is none. */
export function readEntry(memory: KernelMemory, at: number, into: EntryView): EntryView {
  if (!into.read(memory.bytes, at, memory.bytes.length)) throw new MillraceError("internal", `no entry record at address ${at}`);
  return into;
}
