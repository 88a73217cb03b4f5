// Where looked-up entries lie: the answer of a batch of look-ups over several sources (memtables, runs), as a struct of arrays.
// Why arrays and not objects: a batch is answered without an allocation, and a gather takes the same arrays.
// How it is used: `reset(count)`, then `probe` on one source after another, newest first; each fills in the keys that are still absent.
// Invariants: 1. `source[i]` is 255 until a source was found to hold key i, and never changes after that  2. a tombstone counts as found
//             (kind 0): it hides older sources  3. where `source[i]` is 255 the other arrays hold no meaning but times, which are 0.
// Cost: 26 bytes a key; a reset of 1,000 keys some 2 us. Limits: sources 0 to 254.

/** `source[i]` of a key that no source holds. */
export const absentSource = 255;
/** From so many keys on a view of four at a time pays. */
const wordsFrom = 64;
const noWords = new Uint32Array(0);

/**
 * What a look-up fills in: `presence` only `source`; `places` all but the times; `all`. Less is faster: 1, 10 or 26 bytes a key are written in the kernel's
 * memory and copied out of it.
 */
export type EntryParts = "presence" | "places" | "all";

export class EntryRefs {
  count = 0;
  /** Keys of which a source was found, tombstones too. */
  found = 0;
  /** What look-ups fill in; other arrays hold no meaning. */
  parts: EntryParts = "all";
  /** True when some found entry may have an expiry or a time: false spares a look at those arrays. */
  timed = false;
  /** Which source holds the entry, in the caller's numbering; 255 = none. */
  source = new Uint8Array(0);
  /** The same four at a time. */
  #sources = new Uint32Array(0);
  /** Address of the VALUE in that source's memory. */
  at = new Uint32Array(0);
  /** Length of the value. */
  bytes = new Uint32Array(0);
  /** Kind of the entry; 0 = tombstone. */
  kind = new Uint8Array(0);
  /** Absolute, milliseconds; 0 = none. */
  expiryMs = new Float64Array(0);
  /** 0 = none. */
  timeMs = new Float64Array(0);

  /** Begins a look-up of `count` keys: all absent. Grows the arrays when they are too small. */
  reset(count: number, parts: EntryParts = "all"): void {
    if (count > this.source.length) {
      const room = Math.max(256, 2 ** Math.ceil(Math.log2(count)));
      this.source = new Uint8Array(room);
      this.#sources = new Uint32Array(this.source.buffer);
      this.at = new Uint32Array(room);
      this.bytes = new Uint32Array(room);
      this.kind = new Uint8Array(room);
      this.expiryMs = new Float64Array(room);
      this.timeMs = new Float64Array(room);
    } else if (this.timed) {
      this.expiryMs.fill(0, 0, this.count);
      this.timeMs.fill(0, 0, this.count);
    }
    this.count = count;
    this.found = 0;
    this.timed = false;
    this.parts = parts;
    this.source.fill(absentSource, 0, count);
  }

  /** `source` four at a time; empty while it is an array of somebody else's. */
  get #words(): Uint32Array {
    return this.#sources.buffer === this.source.buffer ? this.#sources : noWords;
  }

  /** Whether none of the keys `from` to `to` has a source. */
  noneFound(from: number, to: number): boolean {
    const { source } = this;
    const words = this.#words;
    let done = from;
    if (from % 4 === 0) {
      const end = Math.min(to >>> 2, words.length);
      for (let word = from / 4; word < end; word++) if (words[word] !== 0xffff_ffff) return false;
      done = Math.max(from, 4 * end);
    }
    for (let i = done; i < to; i++) if (source[i] !== absentSource) return false;
    return true;
  }

  /** Writes of each key 1 when it has no source, else 0. */
  absences(into: Uint8Array): void {
    const { source, count } = this;
    let done = 0;
    if (into.byteOffset % 4 === 0 && count >= wordsFrom) {
      const from = this.#words;
      const to = new Uint32Array(into.buffer, into.byteOffset, Math.min(count >>> 2, from.length));
      for (let word = 0; word < to.length; word++) {
        // Bytes of all ones become 1, others 0.
        const inverse = ~from[word]!;
        to[word] = (~(((inverse & 0x7f7f_7f7f) + 0x7f7f_7f7f) | inverse) >>> 7) & 0x0101_0101;
      }
      done = 4 * to.length;
    }
    for (let i = done; i < count; i++) into[i] = source[i] === absentSource ? 1 : 0;
  }

  /** Makes key i absent again: what a reader does with an expired entry, or with a tombstone once all sources were asked. */
  forget(i: number): void {
    this.source[i] = absentSource;
    this.expiryMs[i] = 0;
    this.timeMs[i] = 0;
  }
}
