// Sorts records by key: 8 bytes of the key beside each address, so that most comparisons touch no record. Kernel: kernels/entry-sort.ts.
// Equal keys come in order of their address: of staged rows that lie in order of arrival the last one is the newest.
// Cost: 16 bytes of scratch a record; well above 1.5 M records/s. What stands in order already is found in one pass.
// Concurrency: none of its own. `sortEntries` does everything at once: on a serving loop use EntrySort and its steps.

import { sortItemBytes, sortStackBytes } from "./entry-layout.ts";
import type { KernelMemory } from "./kernel-memory.ts";

/** Bytes of scratch, in the same memory, for a sort of so many records. */
export function sortScratchBytes(count: number): number {
  return count * sortItemBytes + sortStackBytes;
}

/** Where an item holds its address. */
const addressWord = 8;
/** Item visits that take about a millisecond. */
const stepVisits = 300_000;

/** A sort of the `count` record addresses that stand at `addressesAt` (u32 each), done in steps. */
export class EntrySort {
  readonly #memory: KernelMemory;
  readonly #addressesAt: number;
  readonly #count: number;
  readonly #scratchAt: number;
  #done: boolean;

  /** `scratchAt`: 64-aligned, `sortScratchBytes(count)` bytes. The addresses are rewritten when the sort is done. */
  constructor(memory: KernelMemory, addressesAt: number, count: number, scratchAt: number) {
    this.#memory = memory;
    this.#addressesAt = addressesAt;
    this.#count = count;
    this.#scratchAt = scratchAt;
    const { calls } = memory;
    this.#done = calls.entriesInOrder(addressesAt, count) >>> 0 === count;
    if (this.#done) return;
    calls.entrySortFill(scratchAt, addressesAt, count);
    calls.entrySortBegin(this.#stackAt, count);
  }

  get #stackAt(): number {
    return this.#scratchAt + this.#count * sortItemBytes;
  }

  /** Works on for about a millisecond; true when all is sorted. */
  step(visits = stepVisits): boolean {
    if (this.#done) return true;
    const { calls } = this.#memory;
    if (calls.entrySort(this.#scratchAt, this.#stackAt, visits) === 0) return false;
    calls.entrySortTake(this.#scratchAt, this.#count, addressWord, this.#addressesAt);
    return (this.#done = true);
  }
}

/** Sorts at once: the addresses at `addressesAt` stand in key order afterwards. */
export function sortEntries(memory: KernelMemory, addressesAt: number, count: number, scratchAt: number): void {
  const sort = new EntrySort(memory, addressesAt, count, scratchAt);
  while (!sort.step(0x7fffffff));
}
