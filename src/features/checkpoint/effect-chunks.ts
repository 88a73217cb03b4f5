// Rows to be written, gathered into chunks that can themselves be kept as values: what a checkpoint is made of before it counts.
// Bytes of a chunk (docs/format/aggregation-checkpoint.md), little-endian, one effect behind another:
//   opU16 (1 put, 2 delete), namespaceU16, keyBytesU16, 0 u16, valueBytesU32, key, value
// Why buffers are taken back: a checkpoint of some MB in fresh buffers makes the collector mark the whole heap, 10 to 15 ms beside the serving loop.
// Invariants: 1. an effect lies in one chunk  2. `readChunk` believes no length before it was checked  3. a buffer is written again only after `giveBack`.
// Limits: a chunk is closed at `chunkBytes`; one effect may be larger, up to a row's limit. At most `spareMax` buffers wait for their next use.

import { damagedState } from "./state-row.ts";

/** So that a transaction of one chunk, rows of 50 bytes, stays below a millisecond, and that the store's own buffers for it are kept (group-commit.ts). */
export const chunkBytes = 64 * 1024;
const spareMax = 8;
const headBytes = 12;
const put = 1;
const remove = 2;

const encoder = new TextEncoder();

export class EffectChunks {
  readonly #closeAt: number;
  #open: Uint8Array | undefined;
  #used = 0;
  #full: Uint8Array[] = [];
  #spare: Uint8Array[] = [];
  /** A key as UTF-8. */
  #key = new Uint8Array(1_024);
  #bytes = 0;
  #effects = 0;

  /** `closeAt`: bytes at which a chunk is closed. */
  constructor(closeAt: number = chunkBytes) {
    this.#closeAt = closeAt;
  }

  /** Begins again: what was added is forgotten, the buffers stay. */
  clear(): void {
    for (const chunk of this.#full) this.giveBack(chunk);
    this.#full = [];
    this.#used = 0;
    this.#bytes = 0;
    this.#effects = 0;
  }

  /** Bytes of all effects that were added and not taken. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Effects added since `clear`. */
  get effects(): number {
    return this.#effects;
  }

  /** Closed chunks that wait to be taken. */
  get chunks(): number {
    return this.#full.length;
  }

  put(namespace: number, key: string, value: Uint8Array): void {
    this.#add(put, namespace, key, value);
  }

  delete(namespace: number, key: string): void {
    this.#add(remove, namespace, key, nothing);
  }

  /** Takes a closed chunk, undefined when there is none. */
  takeFull(): Uint8Array | undefined {
    const chunk = this.#full.shift();
    if (chunk !== undefined) this.#bytes -= chunk.length;
    return chunk;
  }

  /** A chunk that was taken is not needed any more: its bytes will be overwritten. */
  giveBack(chunk: Uint8Array): void {
    if (chunk.buffer.byteLength === this.#closeAt && this.#spare.length < spareMax) this.#spare.push(new Uint8Array(chunk.buffer));
  }

  /** Closes the chunk under way. */
  close(): void {
    if (this.#used === 0) return;
    this.#full.push(this.#open!.subarray(0, this.#used));
    this.#open = undefined;
    this.#used = 0;
  }

  #add(op: number, namespace: number, key: string, value: Uint8Array): void {
    if (key.length * 3 > this.#key.length) this.#key = new Uint8Array(key.length * 3);
    const keyBytes = encoder.encodeInto(key, this.#key).written;
    const size = headBytes + keyBytes + value.length;
    if (this.#used + size > this.#closeAt) this.close();
    // One that is larger than a chunk has a buffer of its own, which is not kept.
    const open = this.#used > 0 ? this.#open! : (this.#open = size > this.#closeAt ? new Uint8Array(size) : this.#fresh());
    let at = this.#used;
    writeU16(open, at, op);
    writeU16(open, at + 2, namespace);
    writeU16(open, at + 4, keyBytes);
    writeU16(open, at + 6, 0);
    writeU16(open, at + 8, value.length & 0xffff);
    writeU16(open, at + 10, value.length >>> 16);
    at += headBytes;
    for (let i = 0; i < keyBytes; i += 1) open[at + i] = this.#key[i]!;
    open.set(value, at + keyBytes);
    this.#used += size;
    this.#bytes += size;
    this.#effects += 1;
  }

  #fresh(): Uint8Array {
    if (this.#open?.length === this.#closeAt) return this.#open;
    return this.#spare.pop() ?? new Uint8Array(this.#closeAt);
  }
}

function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

export interface ChunkSink {
  /** The key is `chunk[keyAt..valueAt)`, the value `chunk[valueAt..end)`. */
  put(namespace: number, chunk: Uint8Array, keyAt: number, valueAt: number, end: number): void;
  delete(namespace: number, key: Uint8Array): void;
}

/** Gives the effects of a chunk to `sink`, from byte `from` on, until `isFull` says so; returns where to go on, the chunk's length at its end. Throws `corrupt`. */
export function readChunk(chunk: Uint8Array, from: number, sink: ChunkSink, isFull: () => boolean = () => false): number {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
  let at = from;
  while (at < chunk.length && !isFull()) {
    if (at + headBytes > chunk.length) throw damagedState("a staged effect is cut short");
    const op = view.getUint16(at, true);
    const namespace = view.getUint16(at + 2, true);
    const keyBytes = view.getUint16(at + 4, true);
    const valueBytes = view.getUint32(at + 8, true);
    const keyAt = at + headBytes;
    const end = keyAt + keyBytes + valueBytes;
    if (view.getUint16(at + 6, true) !== 0 || (op !== put && op !== remove) || keyBytes === 0 || end > chunk.length) {
      throw damagedState("a staged effect contradicts itself");
    }
    if (op === remove && valueBytes > 0) throw damagedState("a staged deletion has a value");
    if (op === put) sink.put(namespace, chunk, keyAt, keyAt + keyBytes, end);
    else sink.delete(namespace, chunk.subarray(keyAt, end));
    at = end;
  }
  return at;
}

const nothing = new Uint8Array(0);
