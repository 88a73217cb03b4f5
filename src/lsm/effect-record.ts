// Effects as records of the log: docs/format/effect-record.md is the document, with a hex dump.
// Why several transactions in one record: a record is there whole or not at all, so it may hold more than one; a look-up of its bounds, its place in the log's
// index and its acknowledgement are then paid once for all that one turn of the loop brought. A transaction larger than a record is cut over several of one
// append, which is also there whole or not at all.
// Invariants: 1. `EffectReader` never throws, whatever the bytes: it says what is wrong  2. entries come out only as whole transactions  3. replaying any
// beginning of the records, any number of times, gives the state that its last entries describe.
// Versions: 2 = this one; 1 had longer heads of entries, and no release wrote it.

import { logLimits } from "#backbone/log";
import { entryKinds, EntryView } from "#kernel/entry-record";
import { storeLimits } from "./store.ts";

export const effectRecordVersion = 2;
export const effectHeadBytes = 24;
export const effectFlags = { continues: 1, continued: 2 } as const;
/** Entry bytes that one record takes. */
export const effectBodyBytesMax = logLimits.recordBytesMax - effectHeadBytes;

const twoTo32 = 0x1_0000_0000;

export interface EffectHead {
  readonly flags: number;
  /** Entries of the transactions that begin in this record, whole ones counted; 0 in a record that only continues one. */
  readonly entries: number;
  /** Who wrote it: the time in ms at which the writing store was opened. */
  readonly producer: number;
  /** Counts the producer's records from 0. */
  readonly sequence: number;
}

/** Writes the head at the beginning of `bytes`. */
export function encodeEffectHead(bytes: Uint8Array, head: EffectHead): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, effectHeadBytes);
  view.setUint8(0, effectRecordVersion);
  view.setUint8(1, head.flags);
  view.setUint16(2, 0, true);
  view.setUint32(4, head.entries, true);
  view.setUint32(8, head.producer % twoTo32, true);
  view.setUint32(12, Math.floor(head.producer / twoTo32), true);
  view.setUint32(16, head.sequence % twoTo32, true);
  view.setUint32(20, Math.floor(head.sequence / twoTo32), true);
}

/** The head of a record; `version` when it has another version, undefined when it is none. */
export function decodeEffectHead(record: Uint8Array): EffectHead | "version" | undefined {
  if (record.length < effectHeadBytes) return undefined;
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  if (view.getUint8(0) !== effectRecordVersion && view.getUint8(0) > 0) return "version";
  const flags = view.getUint8(1);
  const producerHigh = view.getUint32(12, true);
  const sequenceHigh = view.getUint32(20, true);
  if (view.getUint8(0) === 0 || flags > 3 || view.getUint16(2, true) !== 0 || producerHigh > 0x1f_ffff || sequenceHigh > 0x1f_ffff) return undefined;
  return {
    flags,
    entries: view.getUint32(4, true),
    producer: producerHigh * twoTo32 + view.getUint32(8, true),
    sequence: sequenceHigh * twoTo32 + view.getUint32(16, true),
  };
}

/** Whole transactions out of a record: `bytes` is a run of `count` checked entries. */
export interface Effects {
  readonly bytes: Uint8Array;
  readonly count: number;
}

/** What a record gave: its transactions; undefined = a part of one, the rest comes; a text = what is wrong with it. */
export type EffectsRead = Effects | undefined | string;

/** Reads records in the order of the log; joins transactions that were cut. One a stream. */
export class EffectReader {
  #parts: Uint8Array[] = [];
  #partBytes = 0;
  #wanted = 0;
  #producer = -1;
  #sequence = -1;
  readonly #entry = new EntryView();

  /** Of the last record; -1 before the first. */
  get producer(): number {
    return this.#producer;
  }

  /** Whether the last record belongs to a transaction whose rest has not come. */
  get isInside(): boolean {
    return this.#parts.length > 0;
  }

  /** Takes the next record. The bytes given out are a view of it, unless the transaction was cut. */
  read(record: Uint8Array): EffectsRead {
    const head = decodeEffectHead(record);
    if (head === undefined) return "it does not begin as an effect record";
    if (head === "version") return `it has version ${record[0]!} of the format, this program knows ${effectRecordVersion}`;
    if (head.producer === this.#producer && head.sequence !== this.#sequence + 1)
      return `it is number ${head.sequence} of its producer after ${this.#sequence}`;
    const continued = (head.flags & effectFlags.continued) !== 0;
    if (continued !== this.isInside) return continued ? "it continues a transaction that did not begin" : "it interrupts a transaction";
    if (continued && head.producer !== this.#producer) return "it continues the transaction of another producer";
    this.#producer = head.producer;
    this.#sequence = head.sequence;
    let body = record.subarray(effectHeadBytes);
    let count = head.entries;
    if (continued || (head.flags & effectFlags.continues) !== 0) {
      // A copy: the record may be a view of what is read into again.
      this.#parts.push(body.slice());
      this.#partBytes += body.length;
      this.#wanted += count;
      if (this.#partBytes > storeLimits.batchBytesMax) return "its transaction is longer than any may be";
      if ((head.flags & effectFlags.continues) !== 0) return undefined;
      body = new Uint8Array(this.#partBytes);
      let at = 0;
      for (const part of this.#parts) {
        body.set(part, at);
        at += part.length;
      }
      count = this.#wanted;
      this.#parts = [];
      this.#partBytes = 0;
      this.#wanted = 0;
    }
    let at = 0;
    let found = 0;
    for (const entry = this.#entry; at < body.length; at = entry.end) {
      if (!entry.read(body, at, body.length) || !isEffect(entry)) return `its entry ${found} is not whole or not valid`;
      found++;
    }
    return found === count ? { bytes: body, count } : `it has ${found} entries and says ${count}`;
  }
}

/** What the entry's own layout does not say: bounds of the store, and that a tombstone has no value and never expires. */
function isEffect(entry: EntryView): boolean {
  if (entry.keyBytes < 2 || entry.valueBytes > storeLimits.valueBytesMax) return false;
  return entry.kind !== entryKinds.tombstone || (entry.valueBytes === 0 && entry.expiryMs === 0);
}
