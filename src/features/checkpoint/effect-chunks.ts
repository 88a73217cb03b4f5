// Rows to be written, gathered into chunks that can themselves be kept as values: what a checkpoint is made of before it counts.
// Bytes of a chunk (docs/format/aggregation-checkpoint.md), little-endian, one effect behind another:
//   opU16 (1 put, 2 delete), namespaceU16, keyBytesU16, 0 u16, valueBytesU32, key, value
// Invariants: 1. an effect lies in one chunk  2. `readChunk` believes no length before it was checked.
// Limits: a chunk is closed at `chunkBytes`; one effect may be larger, up to a row's limit.

import { damagedState } from "./state-row.ts";

export const chunkBytes = 256 * 1024;
const headBytes = 12;
const put = 1;
const remove = 2;

export class EffectChunks {
  #open: Uint8Array;
  #view: DataView;
  #used = 0;
  #full: Uint8Array[] = [];
  #bytes = 0;
  #effects = 0;

  /** `closeAt`: bytes at which a chunk is closed. */
  constructor(closeAt: number = chunkBytes) {
    this.#open = new Uint8Array(closeAt);
    this.#view = new DataView(this.#open.buffer);
  }

  /** Bytes of all effects that were added and not taken. */
  get bytes(): number {
    return this.#bytes;
  }

  get effects(): number {
    return this.#effects;
  }

  /** Closed chunks that wait to be taken. */
  get chunks(): number {
    return this.#full.length;
  }

  put(namespace: number, key: Uint8Array, value: Uint8Array): void {
    this.#add(put, namespace, key, value);
  }

  delete(namespace: number, key: Uint8Array): void {
    this.#add(remove, namespace, key, nothing);
  }

  /** Takes a closed chunk, undefined when there is none. */
  takeFull(): Uint8Array | undefined {
    const chunk = this.#full.shift();
    if (chunk !== undefined) this.#bytes -= chunk.length;
    return chunk;
  }

  /** Closes the chunk under way. */
  close(): void {
    if (this.#used === 0) return;
    this.#full.push(this.#open.slice(0, this.#used));
    this.#used = 0;
  }

  #add(op: number, namespace: number, key: Uint8Array, value: Uint8Array): void {
    const size = headBytes + key.length + value.length;
    if (this.#used + size > this.#open.length) {
      this.close();
      if (size > this.#open.length) {
        this.#open = new Uint8Array(size);
        this.#view = new DataView(this.#open.buffer);
      }
    }
    const at = this.#used;
    const view = this.#view;
    view.setUint16(at, op, true);
    view.setUint16(at + 2, namespace, true);
    view.setUint16(at + 4, key.length, true);
    view.setUint16(at + 6, 0, true);
    view.setUint32(at + 8, value.length, true);
    this.#open.set(key, at + headBytes);
    this.#open.set(value, at + headBytes + key.length);
    this.#used += size;
    this.#bytes += size;
    this.#effects += 1;
  }
}

export interface ChunkSink {
  put(namespace: number, key: Uint8Array, value: Uint8Array): void;
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
    const key = chunk.subarray(keyAt, keyAt + keyBytes);
    if (op === put) sink.put(namespace, key, chunk.subarray(keyAt + keyBytes, end));
    else sink.delete(namespace, key);
    at = end;
  }
  return at;
}

const nothing = new Uint8Array(0);
