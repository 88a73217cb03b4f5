// The effects of one transaction: entries in the order they apply, encoded as they will stand in the log (docs/format/effect-record.md) and in runs
// (docs/format/run-file.md). Reused: `clear`, fill, `write`.
// Why encoded at once: the same bytes go into the memtable and into the log's record, each by one copy.
// Invariants: 1. `entries` holds whole entries one behind another  2. of two effects on one key in a batch the later one counts.
// Cost: no allocation once it has grown; about 0.15 us an effect. Limits: `storeLimits`.

import { MillraceError } from "#base/errors";
import { entryKinds, recordBytes, writeRecordHead } from "#kernel/entry-record";
import { copyBytes as copyRange } from "#platform/copy-bytes";
import { storeLimits } from "./store.ts";

const u48Max = 2 ** 48 - 1;

export class EffectBatch {
  #bytes = new Uint8Array(8_192);
  #used = 0;
  #count = 0;
  #deletes = 0;

  get count(): number {
    return this.#count;
  }

  /** How many of them delete. */
  get deletes(): number {
    return this.#deletes;
  }

  /** Encoded bytes of all effects. */
  get bytes(): number {
    return this.#used;
  }

  /** The encoded entries: a view, until the next change. */
  get entries(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#used);
  }

  clear(): void {
    this.#used = 0;
    this.#count = 0;
    this.#deletes = 0;
  }

  /** Sets a key. `kind`: of `entryKinds`, no tombstone; `expiryMs`, `timeMs`: milliseconds since 1970, 0 = none. Throws `invalid` beyond a limit. */
  put(namespace: number, key: Uint8Array, kind: number, value: Uint8Array, expiryMs: number, timeMs: number): void {
    checkValue(kind, value.length);
    this.#add(namespace, key, kind, value, expiryMs, timeMs);
  }

  /** `put` of the key `bytes[keyAt..valueAt)` and the value `bytes[valueAt..end)`, without a view of either. */
  putRange(namespace: number, bytes: Uint8Array, keyAt: number, valueAt: number, end: number, kind: number, expiryMs: number, timeMs: number): void {
    checkValue(kind, end - valueAt);
    const at = this.#begin(namespace, valueAt - keyAt, kind, end - valueAt, expiryMs, timeMs);
    // Key and value lie there as they will here, one behind the other.
    copyRange(bytes, keyAt, end, this.#bytes, at);
  }

  /** Deletes a key; `timeMs` as above. A key that is not there may be deleted. */
  delete(namespace: number, key: Uint8Array, timeMs: number): void {
    this.#add(namespace, key, entryKinds.tombstone, nothing, 0, timeMs);
    this.#deletes++;
  }

  #add(namespace: number, key: Uint8Array, kind: number, value: Uint8Array, expiryMs: number, timeMs: number): void {
    const at = this.#begin(namespace, key.length, kind, value.length, expiryMs, timeMs);
    copyBytes(key, this.#bytes, at);
    copyBytes(value, this.#bytes, at + key.length);
  }

  /** Makes room for an entry and writes all but key and value; returns where they go. */
  #begin(namespace: number, keyLength: number, kind: number, valueLength: number, expiryMs: number, timeMs: number): number {
    const keyBytes = keyLength + 2;
    if (keyBytes > storeLimits.keyBytesMax) {
      throw new MillraceError("invalid", `a key of ${keyLength} bytes`, { todo: `keep keys within ${storeLimits.keyBytesMax - 2} bytes` });
    }
    if (!(namespace >= 0 && namespace <= 0xffff && expiryMs >= 0 && expiryMs <= u48Max && timeMs >= 0 && timeMs <= u48Max)) {
      throw new MillraceError("invalid", `an effect in namespace ${namespace} with expiry ${expiryMs} and time ${timeMs}`, {
        todo: "use a namespace of 0 to 65535 and times in milliseconds since 1970",
      });
    }
    const end = this.#used + recordBytes(keyBytes, valueLength, expiryMs, timeMs);
    if (end > this.#bytes.length) this.#grow(end);
    const target = this.#bytes;
    const at = writeRecordHead(target, this.#used, kind, keyBytes, valueLength, expiryMs, timeMs);
    target[at] = namespace >>> 8;
    target[at + 1] = namespace;
    this.#used = end;
    this.#count++;
    return at + 2;
  }

  #grow(end: number): void {
    if (end > storeLimits.batchBytesMax) {
      throw new MillraceError("invalid", `a transaction of ${end} bytes`, { todo: `keep one within ${storeLimits.batchBytesMax} bytes, or split it` });
    }
    const grown = new Uint8Array(Math.min(storeLimits.batchBytesMax, Math.max(end, this.#bytes.length * 2)));
    grown.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = grown;
  }
}

const nothing = new Uint8Array(0);

function checkValue(kind: number, bytes: number): void {
  if (kind < 1 || kind > 15) throw new MillraceError("invalid", `an effect of kind ${kind}`, { todo: "use 1 to 15" });
  if (bytes > storeLimits.valueBytesMax) {
    throw new MillraceError("invalid", `a value of ${bytes} bytes`, { todo: `keep values within ${storeLimits.valueBytesMax} bytes` });
  }
}

/** `set` costs some 40 ns whatever it copies: short keys and values are cheaper by a loop. */
function copyBytes(from: Uint8Array, to: Uint8Array, at: number): void {
  const { length } = from;
  if (length > 32) to.set(from, at);
  else for (let i = 0; i < length; i++) to[at + i] = from[i]!;
}
