// The separators of a run: which block a key belongs to. Shared by the image in memory and the index of a run on disk.
// A unit is one block, or the several that one long record fills: its blocks share one separator. The separator of a unit is above every key
// before it and at most its first key.
// Invariant: nothing outside the area that the header names is read, whatever it holds. Concurrency: immutable.

import { MillraceError } from "#base/errors";
import { crc32cOf } from "./checksum.ts";
import { compareBytes } from "./entry-record.ts";
import type { KernelMemory } from "./kernel-memory.ts";
import type { RunHeader } from "./run-format.ts";

export class RunDirectory {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #header: RunHeader;
  /** Address that offsets of the file count from, for all parts behind the data. */
  readonly #base: number;

  constructor(bytes: Uint8Array, base: number, header: RunHeader) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#base = base;
    this.#header = header;
  }

  /** Checks the list of block checksums. Throws `corrupt`. */
  check(memory: KernelMemory): void {
    const { checksFrom, blocks, checksCrc } = this.#header;
    if (crc32cOf(memory, this.#base + checksFrom, 4 * blocks) !== checksCrc) {
      throw new MillraceError("corrupt", "the list of checksums of a run is damaged", { todo: "take another copy of the file, or build it again" });
    }
  }

  get minKey(): Uint8Array {
    const from = this.#base + this.#header.minKeyFrom;
    return this.#bytes.subarray(from, from + this.#header.minKeyBytes);
  }

  get maxKey(): Uint8Array {
    const from = this.#base + this.#header.maxKeyFrom;
    return this.#bytes.subarray(from, from + this.#header.maxKeyBytes);
  }

  /** Offset of a block's separator behind the separators. */
  #separator(block: number): number {
    return this.#view.getUint32(this.#base + this.#header.tableFrom + 4 * block, true);
  }

  /** CRC32C of a data block as the list has it. */
  checksumOf(block: number): number {
    return this.#view.getUint32(this.#base + this.#header.checksFrom + 4 * block, true);
  }

  /** The last unit whose separator is <= key, by the number of its first block; 0 when the key is before all. */
  unitOf(key: Uint8Array, from: number, to: number): number {
    let low = 0;
    let high = this.#header.dataBlocks - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#compare(middle, key, from, to) <= 0) low = middle;
      else high = middle - 1;
    }
    return this.unitStart(low);
  }

  /** First block of the unit that a block belongs to. */
  unitStart(block: number): number {
    let first = Math.min(block, this.#header.dataBlocks - 1);
    while (first > 0 && this.#separator(first) === this.#separator(first - 1)) first--;
    return first;
  }

  /** Blocks of the unit that begins with a block. */
  unitBlocks(first: number): number {
    let end = first + 1;
    while (end < this.#header.dataBlocks && this.#separator(end) === this.#separator(first)) end++;
    return end - first;
  }

  /** Order of a block's separator against a key. Throws `corrupt` when it lies outside. */
  #compare(block: number, key: Uint8Array, from: number, to: number): number {
    const offset = this.#separator(block);
    const start = this.#base + this.#header.separatorsFrom + offset;
    const size = offset + 2 > this.#header.separatorsBytes ? -1 : this.#view.getUint16(start, true);
    if (size < 0 || offset + 2 + size > this.#header.separatorsBytes) {
      throw new MillraceError("corrupt", `block ${block} of a run has no separator`, { todo: "take another copy of the file, or build it again" });
    }
    return compareBytes(this.#bytes, start + 2, start + 2 + size, key, from, to);
  }
}
