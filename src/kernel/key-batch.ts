// Many byte-string keys as one run of bytes and their bounds: the form in which keys go to a kernel, to a file and over the wire.
// Invariant: key i is the bytes `offsets[i]` to `offsets[i + 1]` of `bytes`; `offsets[0]` is 0.
// Cost: a reused batch allocates nothing once it has grown. Limits: keyBytesMax a key, keysMax and batchBytesMax a batch.

import { MillraceError } from "#base/errors";

export const keyLimits = {
  /** Longest key. */
  keyBytesMax: 4_096,
  keysMax: 1 << 20,
  batchBytesMax: 1 << 28,
} as const;

const encoder = new TextEncoder();

export class KeyBatch {
  #bytes = new Uint8Array(4_096);
  #offsets = new Uint32Array(257);
  #count = 0;

  /** Adds the bytes of each key; a text is added as UTF-8. */
  static of(keys: Iterable<Uint8Array | string>): KeyBatch {
    const batch = new KeyBatch();
    for (const key of keys) batch.add(key);
    return batch;
  }

  get count(): number {
    return this.#count;
  }
  /** Valid up to `offsets[count]`, until the next `add`. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }
  /** `count + 1` bounds are valid, until the next `add`. */
  get offsets(): Uint32Array {
    return this.#offsets;
  }

  /** Empties the batch and keeps its room. */
  clear(): void {
    this.#count = 0;
  }

  /** Throws `invalid` for a key that is too long, `overloaded` when the batch is full. */
  add(key: Uint8Array | string): void {
    const from = this.#offsets[this.#count]!;
    // A UTF-16 unit takes at most three bytes of UTF-8.
    const room = typeof key === "string" ? key.length * 3 : key.length;
    if (this.#count === keyLimits.keysMax || from + room > keyLimits.batchBytesMax) {
      throw new MillraceError("overloaded", `a batch of ${this.#count} keys and ${from} bytes is full`, { todo: "send smaller batches" });
    }
    if (from + room > this.#bytes.length) this.#bytes = grown(this.#bytes, new Uint8Array(Math.max(from + room, this.#bytes.length * 2)));
    let size: number;
    if (typeof key === "string") {
      size = encoder.encodeInto(key, this.#bytes.subarray(from)).written;
    } else {
      this.#bytes.set(key, from);
      size = key.length;
    }
    if (size > keyLimits.keyBytesMax) {
      throw new MillraceError("invalid", `a key of ${size} bytes`, { todo: `use keys of at most ${keyLimits.keyBytesMax} bytes` });
    }
    this.#close(from + size);
  }

  /** Adds the key of two bytes of `namespace`, big-endian, and then the bytes `start` to `end` of `memory`: the engine's keys, without a view each. Throws as `add`. */
  addIn(namespace: number, memory: Uint8Array, start: number, end: number): void {
    const from = this.#offsets[this.#count]!;
    const to = from + 2 + end - start;
    if (this.#count === keyLimits.keysMax || to > keyLimits.batchBytesMax) {
      throw new MillraceError("overloaded", `a batch of ${this.#count} keys and ${from} bytes is full`, { todo: "send smaller batches" });
    }
    if (to - from > keyLimits.keyBytesMax) {
      throw new MillraceError("invalid", `a key of ${to - from - 2} bytes`, { todo: `use keys of at most ${keyLimits.keyBytesMax - 2} bytes` });
    }
    if (to > this.#bytes.length) this.#bytes = grown(this.#bytes, new Uint8Array(Math.max(to, this.#bytes.length * 2)));
    const bytes = this.#bytes;
    bytes[from] = namespace >>> 8;
    bytes[from + 1] = namespace;
    if (end - start > 48) bytes.set(memory.subarray(start, end), from + 2);
    else for (let at = start, into = from + 2; at < end; at++, into++) bytes[into] = memory[at]!;
    this.#close(to);
  }

  /**
   * Adds the keys of a run as `addIn` does: key i is the bytes `from + bound(i)` to `from + bound(i + 1)` of `memory`, its `count + 1` bounds are u32, little-endian, from
   * `boundsAt` on. Returns how many were added: fewer than `count` when the next one does not lie within `from` to `to` behind the one before it, or has not
   * `keyBytesMin` to `keyBytesMax` bytes. Throws `overloaded` when the run does not fit. Why a run: a call and its checks are half the cost of a short key.
   */
  addRunIn(
    namespace: number,
    memory: Uint8Array,
    run: {
      readonly count: number;
      readonly boundsAt: number;
      readonly from: number;
      readonly to: number;
      readonly keyBytesMin: number;
      readonly keyBytesMax: number;
    },
  ): number {
    const { count, boundsAt, from, to } = run;
    const first = this.#count;
    const mostBytes = Math.min(run.keyBytesMax, keyLimits.keyBytesMax - 2);
    let into = this.#offsets[first]!;
    const room = into + 2 * count + Math.max(0, to - from);
    if (first + count > keyLimits.keysMax || room > keyLimits.batchBytesMax) {
      throw new MillraceError("overloaded", `a batch of ${first} keys and ${into} bytes is full`, { todo: "send smaller batches" });
    }
    if (room > this.#bytes.length) this.#bytes = grown(this.#bytes, new Uint8Array(Math.max(room, this.#bytes.length * 2)));
    if (first + count + 1 > this.#offsets.length) {
      this.#offsets = grown(this.#offsets, new Uint32Array(Math.max(first + count + 1, this.#offsets.length * 2)));
    }
    const bytes = this.#bytes;
    const offsets = this.#offsets;
    // Eight bytes at a time, the last eight over some of those before: views that know no alignment, made once a run.
    const source = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    const target = new DataView(bytes.buffer);
    let at = from + source.getUint32(boundsAt, true);
    let added = 0;
    while (added < count) {
      const end = from + source.getUint32(boundsAt + 4 * added + 4, true);
      const size = end - at;
      if (size < run.keyBytesMin || size > mostBytes || size < 0 || end > to) break;
      bytes[into] = namespace >>> 8;
      bytes[into + 1] = namespace;
      into += 2;
      if (size >= 8) {
        const last = size - 8;
        for (let i = 0; i < last; i += 8) target.setBigUint64(into + i, source.getBigUint64(at + i, true), true);
        target.setBigUint64(into + last, source.getBigUint64(at + last, true), true);
      } else for (let i = 0; i < size; i++) bytes[into + i] = memory[at + i]!;
      into += size;
      at = end;
      added++;
      offsets[first + added] = into;
    }
    this.#count = first + added;
    return added;
  }

  #close(to: number): void {
    if (this.#count + 2 > this.#offsets.length) this.#offsets = grown(this.#offsets, new Uint32Array(this.#offsets.length * 2));
    this.#count++;
    this.#offsets[this.#count] = to;
  }
}

function grown<T extends Uint8Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
