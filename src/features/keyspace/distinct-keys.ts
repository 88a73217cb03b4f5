// Whether the keys of a batch differ from each other, judged by a hash: two different keys may be taken for the same, never the other way round.
// Cost: one pass over the bytes of each key, no allocation. Concurrency: one thread.
// Limits: `keysMax` keys; more are not called distinct.

const slots = 1_024;
const keysMax = 512;

export class DistinctKeys {
  readonly #hashes = new Int32Array(slots);
  /** Batch in which a slot was taken. */
  readonly #batches = new Int32Array(slots);
  #batch = 0;
  #count = 0;

  begin(): void {
    this.#batch = (this.#batch + 1) | 0;
    if (this.#batch === 0) {
      this.#batches.fill(0);
      this.#batch = 1;
    }
    this.#count = 0;
  }

  /** False when the key may have been added before. */
  add(buffer: Uint8Array, start: number, end: number): boolean {
    if (++this.#count > keysMax) return false;
    // FNV-1a, 32 bits, and a last mixing for the slot.
    let hash = 0x811c9dc5 ^ (end - start);
    for (let i = start; i < end; i++) hash = Math.imul(hash ^ buffer[i]!, 0x01000193);
    const batches = this.#batches;
    for (let slot = (hash ^ (hash >>> 15)) & (slots - 1); ; slot = (slot + 1) & (slots - 1)) {
      if (batches[slot] !== this.#batch) {
        batches[slot] = this.#batch;
        this.#hashes[slot] = hash;
        return true;
      }
      if (this.#hashes[slot] === hash) return false;
    }
  }
}
