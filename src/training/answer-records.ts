// The records of answers that are still open: newest ones in memory, older ones read from the log again.
// Why the log is the spill: everything that an open answer needs stands in its record; a second copy on disk would cost writes and a format of its own.
// Three places: a bounded memory of the newest records; pieces of the log that were read lately (answers close in the order in which they were given, so one
// piece serves many of them: that is the cursor trailing the head by the window); the log itself.
// Invariants: 1. where a record comes from changes nothing about it  2. at most `cacheBytesMax` and `piecesMax` pieces of about `pieceBytes`
// 3. a record that the log no longer has is "lost", once looked for.
// Cost: one read of 256 KiB for some 100 answers. Concurrency: one thread, one `load` at a time.

import type { LogRecords } from "#backbone/log";
import { MillraceError } from "#base/errors";

const pieceBytes = 256 * 1024;
const piecesMax = 4;

/** Records from an offset on, as `Log.read` gives them. */
export type ReadRecords = (offset: number, bytesMax: number) => Promise<LogRecords | undefined>;

export class AnswerRecords {
  readonly #read: ReadRecords;
  readonly #cacheBytesMax: number;
  /** By offset, oldest first. */
  readonly #cache = new Map<number, Uint8Array>();
  #cacheBytes = 0;
  /** Last used at the end. */
  #pieces: LogRecords[] = [];
  #lost = -1;
  #reads = 0;

  /** `cacheBytesMax`: bytes of records kept in memory; 0 keeps none. */
  constructor(read: ReadRecords, cacheBytesMax: number) {
    this.#read = read;
    this.#cacheBytesMax = cacheBytesMax;
  }

  /** Bytes in memory, without the pieces. */
  get bytes(): number {
    return this.#cacheBytes;
  }
  /** Reads of the log so far. */
  get reads(): number {
    return this.#reads;
  }

  /** Keeps a copy of the newest answer's record. */
  keep(offset: number, record: Uint8Array): void {
    if (record.length > this.#cacheBytesMax) return;
    this.#cache.set(offset, record.slice());
    this.#cacheBytes += record.length;
    for (const [oldest, { length }] of this.#cache) {
      if (this.#cacheBytes <= this.#cacheBytesMax) return;
      this.#cache.delete(oldest);
      this.#cacheBytes -= length;
    }
  }

  /** The answer is closed and will not be asked for soon. */
  drop(offset: number): void {
    const record = this.#cache.get(offset);
    if (record === undefined) return;
    this.#cache.delete(offset);
    this.#cacheBytes -= record.length;
  }

  /** The record at that offset; `undefined`: `load` it first, then ask again; "lost": the log has it no more. */
  get(offset: number): Uint8Array | "lost" | undefined {
    const kept = this.#cache.get(offset);
    if (kept !== undefined) return kept;
    for (let at = this.#pieces.length - 1; at >= 0; at -= 1) {
      const piece = this.#pieces[at]!;
      const record = piece.records[offset - piece.firstOffset];
      if (record === undefined) continue;
      if (at < this.#pieces.length - 1) this.#pieces.push(...this.#pieces.splice(at, 1));
      return record;
    }
    return offset === this.#lost ? "lost" : undefined;
  }

  /** Reads the record, and those behind it, from the log. */
  async load(offset: number): Promise<void> {
    this.#reads += 1;
    try {
      const piece = await this.#read(offset, pieceBytes);
      if (piece === undefined || piece.records.length === 0) {
        this.#lost = offset;
        return;
      }
      this.#pieces.push(piece);
      if (this.#pieces.length > piecesMax) this.#pieces.shift();
    } catch (thrown) {
      if (!(thrown instanceof MillraceError) || thrown.code !== "not-found") throw thrown;
      this.#lost = offset;
    }
  }
}
