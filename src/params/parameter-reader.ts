// Reads a table of parameters of another thread, straight from its memory: the shards of its tickets by readers of this thread.
// Invariants: those of ShardReader. The table's memory is not given to others until `release`.
// Concurrency: one thread, with a reader number and a lane that no other thread uses in these memories. Limits: those of the shards.

import { MillraceError } from "#base/errors";
import { KernelMemory } from "#kernel/kernel-memory";
import { joinReaders, type MemoryReader } from "#kernel/memory-pool";
import type { ShardTicket } from "./parameter-store.ts";
import { ShardReader } from "./parameter-shard.ts";
import { ShardedPulls } from "./sharded-pulls.ts";

export class ParameterReader extends ShardedPulls<ShardReader> {
  readonly #readers: readonly MemoryReader[];

  private constructor(shards: readonly ShardReader[], readers: readonly MemoryReader[]) {
    super(shards);
    this.#readers = readers;
  }

  /** `lane`: of this thread in the table's memories, and its number as a reader. Throws `unavailable` when the table is gone, `corrupt` when there is none. */
  static attach(tickets: readonly ShardTicket[], lane: number): ParameterReader {
    const readers: MemoryReader[] = [];
    try {
      const shards = tickets.map(({ lease, at }) => {
        const reader = joinReaders(lease);
        if (reader === undefined) throw new MillraceError("unavailable", "a parameter table that was dropped", { todo: "ask for the table again" });
        readers.push(reader);
        return ShardReader.attach(KernelMemory.attach(lease.memory, lane), at, lane);
      });
      return new ParameterReader(shards, readers);
    } catch (thrown) {
      for (const reader of readers) reader.release();
      throw thrown;
    }
  }

  /** Lets the memories go; the reader is not to be used any more. */
  release(): void {
    for (const reader of this.#readers) reader.release();
  }
}
