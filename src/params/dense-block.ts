// Dense parameters in the store of the sparse ones: a named block of numbers, cut into rows of the table's width.
// Why: weights of a network then travel, are versioned and checkpointed as everything else does; a block of a million numbers is a thousand rows of 1,024.
// Invariants: 1. row i of a block has the key hash(name) + i in its low word; that two blocks meet, or a block and a sparse key, is as likely as two hashes of 64 bits
//                  agreeing, and a table of its own for dense blocks leaves out the latter  2. numbers behind the end of the last row have no meaning
//             3. a block that was never written reads as the table's initial values; each row is whole, the block as a whole is not one moment.
// Cost: that of its rows. Concurrency: as the store. Limits: numbersMax a block.

import { MillraceError } from "#base/errors";
import { KeyHasher, keySeed } from "#kernel/key-hash";
import type { ParameterStore } from "./parameter-store.ts";

export const denseLimits = { numbersMax: 1 << 26 } as const;

const seed = keySeed(0x64656e7365n);

export class DenseBlock {
  readonly size: number;
  readonly rows: number;
  readonly #store: ParameterStore;
  readonly #keys: Uint32Array;
  readonly #padded: Float32Array;

  constructor(store: ParameterStore, name: string, size: number) {
    if (!Number.isInteger(size) || size < 1 || size > denseLimits.numbersMax || name === "") {
      throw new MillraceError("invalid", `a dense block "${name}" of ${size} numbers`, { todo: `give it a name and 1 to ${denseLimits.numbersMax} numbers` });
    }
    this.#store = store;
    this.size = size;
    this.rows = Math.ceil(size / store.dim);
    const bytes = new TextEncoder().encode(name);
    const hasher = new KeyHasher(seed);
    hasher.hash(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length);
    this.#keys = new Uint32Array(2 * this.rows);
    for (let i = 0; i < this.rows; i++) {
      this.#keys[2 * i] = hasher.low + i;
      this.#keys[2 * i + 1] = hasher.high;
    }
    this.#padded = new Float32Array(this.rows * store.dim);
  }

  #check(numbers: Float32Array): void {
    if (numbers.length !== this.size)
      throw new MillraceError("invalid", `${numbers.length} numbers for a dense block of ${this.size}`, { todo: "give all of them" });
  }

  /** Returns how many of its rows were never written. */
  read(into: Float32Array): number {
    this.#check(into);
    const missing = this.#store.pull(this.#keys, this.rows, this.#padded);
    into.set(this.#padded.subarray(0, this.size));
    return missing;
  }

  /** Sets the block. Throws `overloaded` when a row found no room. */
  write(values: Float32Array, touchedS: number): void {
    this.#change("assign", values, touchedS);
  }

  /** Adds to the block; use a table without admission. */
  add(deltas: Float32Array, touchedS: number): void {
    this.#change("add", deltas, touchedS);
  }

  #change(call: "assign" | "add", numbers: Float32Array, touchedS: number): void {
    this.#check(numbers);
    this.#padded.fill(0, this.size);
    this.#padded.set(numbers);
    const refused = this.#store[call](this.#keys, this.rows, this.#padded, touchedS);
    if (refused === 0) return;
    throw new MillraceError("overloaded", `${refused} of ${this.rows} rows of a dense block found no room`, { todo: "give the table more memory" });
  }

  delete(): void {
    this.#store.delete(this.#keys, this.rows);
  }
}
