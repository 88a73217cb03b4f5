// One page of a scan: copies, so that it stays valid over waits. Reused: filling it again allocates nothing once it has grown.
// Limits: the page grows with what the scan puts into it (`storeLimits.pageEntriesMax` entries).

export class ScanPage {
  #bytes = new Uint8Array(4_096);
  #bounds = new Uint32Array(128);
  #used = 0;
  #count = 0;
  #kind = new Uint8Array(64);
  #expiryMs = new Float64Array(64);
  #timeMs = new Float64Array(64);
  /** Where the next page begins (`from`, or `to` of a scan in reverse), undefined when the range is exhausted. A copy. */
  next: Uint8Array | undefined = undefined;

  get count(): number {
    return this.#count;
  }

  /** Kinds, expiries and times (ms since 1970, 0 = none) of the entries; valid up to `count`, until the page is filled again. */
  get kind(): Uint8Array {
    return this.#kind;
  }

  get expiryMs(): Float64Array {
    return this.#expiryMs;
  }

  get timeMs(): Float64Array {
    return this.#timeMs;
  }

  /** Bytes of keys and values together. */
  get bytes(): number {
    return this.#used;
  }

  /** The engine key of entry `i`: a view, until the page is filled again. */
  keyOf(i: number): Uint8Array {
    return this.#bytes.subarray(i === 0 ? 0 : this.#bounds[2 * i - 1]!, this.#bounds[2 * i]);
  }

  /** The value of entry `i`: a view, until the page is filled again. Empty when the scan left values out. */
  valueOf(i: number): Uint8Array {
    return this.#bytes.subarray(this.#bounds[2 * i], this.#bounds[2 * i + 1]);
  }

  clear(): void {
    this.#used = 0;
    this.#count = 0;
    this.next = undefined;
  }

  /** Adds an entry; `memory` holds the bytes of key and value. */
  add(memory: Uint8Array, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number, kind: number, expiryMs: number, timeMs: number): void {
    this.#need(keyBytes + valueBytes);
    const i = this.#count++;
    this.#bytes.set(memory.subarray(keyAt, keyAt + keyBytes), this.#used);
    this.#used += keyBytes;
    this.#bounds[2 * i] = this.#used;
    if (valueBytes > 0) this.#bytes.set(memory.subarray(valueAt, valueAt + valueBytes), this.#used);
    this.#used += valueBytes;
    this.#bounds[2 * i + 1] = this.#used;
    this.#kind[i] = kind;
    this.#expiryMs[i] = expiryMs;
    this.#timeMs[i] = timeMs;
  }

  #need(bytes: number): void {
    if (this.#used + bytes > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#used + bytes, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = grown;
    }
    if (this.#count < this.#kind.length) return;
    const size = this.#kind.length * 2;
    const copy = <T extends Uint8Array | Uint32Array | Float64Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.#bounds = copy(this.#bounds, new Uint32Array(2 * size));
    this.#kind = copy(this.#kind, new Uint8Array(size));
    this.#expiryMs = copy(this.#expiryMs, new Float64Array(size));
    this.#timeMs = copy(this.#timeMs, new Float64Array(size));
  }
}
