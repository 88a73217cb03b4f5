// Cursors of scans: a number that a client hands back, and the place where its scan goes on.
// Why a table: a client's cursor is a number and a place is a key of any length. Keys come in order, so whoever goes on behind the last key sees every
// key that stayed, once; that is more than the guarantee asks.
// Invariants: 1. a cursor can be used again and means the same place as long as it is known  2. one that is not known starts over, so the guarantee
// (what is there throughout is returned) holds after a restart and after eviction  3. numbers of one process are not numbers of the one before: they
// begin at a random place.
// Limits: cursorsMax; the oldest goes first. A client that lets so many other scans start between two of its calls starts over.

import type { Prng } from "#base/prng";

/** Places remembered. */
export const cursorsMax = 4_096;

interface Place {
  /** What is scanned: cursors of one scan mean nothing in another. */
  readonly of: string;
  readonly after: Uint8Array;
}

export class ScanCursors {
  readonly #places = new Map<number, Place>();
  #next: number;

  constructor(random: Prng) {
    // Up to 2^52, in steps of one: never ends, and stays an exact number.
    this.#next = 1 + random.below(2 ** 52);
  }

  /** A new cursor for going on behind `after`, which is copied. */
  keep(of: string, after: Uint8Array): number {
    if (this.#places.size >= cursorsMax) {
      for (const oldest of this.#places.keys()) {
        this.#places.delete(oldest);
        break;
      }
    }
    const cursor = this.#next++;
    this.#places.set(cursor, { of, after: after.slice() });
    return cursor;
  }

  /** The place behind which to go on; `undefined`: from the start. */
  after(cursor: number | bigint, of: string): Uint8Array | undefined {
    const place = this.#places.get(Number(cursor));
    return place !== undefined && place.of === of ? place.after : undefined;
  }
}

/** A place before `key` and behind every shorter or smaller key that is likely to be there: going on behind it finds `key` first. */
export function justBefore(key: Uint8Array): Uint8Array {
  if (key.length === 0 || key[key.length - 1] === 0) return key.slice(0, -1);
  const place = new Uint8Array(key.length + 8).fill(255);
  place.set(key);
  place[key.length - 1] = key[key.length - 1]! - 1;
  return place;
}
