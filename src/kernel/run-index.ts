// The index of a run whose data stays on disk: which one unit of blocks may hold a key, and whether a unit that was read is intact.
// Why at most one read a key: a tag may lie (1 in 250 a slot), but the separators say which unit a key would be in; a reference that leads
// elsewhere is passed over in memory. So a present key costs one read, an absent one nearly never any.
// What lies in the memory: the file without its data blocks, i.e. its first 4,096 bytes and directly behind them those from `tableFrom` on.
// Invariants and limits: as RunImage. Cost: 6.3 bytes a key of index, 0.5-1 of separators and checksums.
// Concurrency: immutable; any number of threads, each through its own lane.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { absentBlock, blockBytes, indexProbeWords, probeArgumentBytes, probeScratchBytes } from "./entry-layout.ts";
import { compareBytes, endOfBlock, type EntryView } from "./entry-record.ts";
import type { KernelMemory } from "./kernel-memory.ts";
import type { KeyBatch } from "./key-batch.ts";
import { throughLane } from "./key-lane.ts";
import { readRunHeader, type RunHeader, runHeaderBytes, type RunStatistics } from "./run-format.ts";
import { RunDirectory } from "./run-directory.ts";

/** Bytes of memory that the index of a run takes. */
export function runIndexBytes(header: RunHeader): number {
  return runHeaderBytes + header.fileBytes - header.tableFrom;
}

export class RunIndex {
  readonly memory: KernelMemory;
  readonly at: number;
  readonly header: RunHeader;
  readonly #directory: RunDirectory;
  /** Address that offsets of the file behind the data count from. May be negative. */
  readonly #base: number;

  private constructor(memory: KernelMemory, at: number, header: RunHeader) {
    this.memory = memory;
    this.at = at;
    this.header = header;
    this.#base = at + runHeaderBytes - header.tableFrom;
    this.#directory = new RunDirectory(memory.bytes, this.#base, header);
  }

  /** The index that lies at `at`. Throws `corrupt` when the header is damaged or the parts do not lie in the memory; `verify` checks the rest. */
  static attach(memory: KernelMemory, at: number): RunIndex {
    if (at % 64 !== 0) throw new MillraceError("invalid", `a run at address ${at}`, { todo: "place it at a multiple of 64" });
    const header = readRunHeader(memory.bytes, at);
    if (at + runIndexBytes(header) > memory.bytes.length - 64) {
      throw new MillraceError("corrupt", `the index of a run, ${runIndexBytes(header)} bytes, is cut off`, { todo: "read it again" });
    }
    return new RunIndex(memory, at, header);
  }

  get count(): number {
    return this.header.statistics.entries;
  }
  get statistics(): RunStatistics {
    return this.header.statistics;
  }
  get minKey(): Uint8Array {
    return this.#directory.minKey;
  }
  get maxKey(): Uint8Array {
    return this.#directory.maxKey;
  }
  /** Data blocks of the file. Block b stands at `4,096 * (b + 1)`. */
  get dataBlocks(): number {
    return this.header.dataBlocks;
  }

  /** Checks all that lies in memory. Throws `corrupt`. About 0.6 ms a MB. */
  verify(): void {
    const { memory, at, header } = this;
    this.#directory.check(memory);
    const count = header.blocks - header.dataBlocks;
    const { lane, u32 } = memory;
    const part = 1_024;
    for (let first = 0; first < count; first += part) {
      const size = Math.min(part, count - first);
      lane.reset();
      const out = lane.take(4 * size);
      memory.calls.crc32cBlocks(memory.crcAt, at + runHeaderBytes + first * blockBytes, blockBytes, size, out);
      for (let i = 0; i < size; i++) {
        if (u32[out / 4 + i] === this.#directory.checksumOf(header.dataBlocks + first + i)) continue;
        throw new MillraceError("corrupt", "the index of a run is damaged", { todo: "take another copy of the file, or build it again" });
      }
    }
  }

  /**
   * `blocks[i]` = first block of the only unit that may hold key i, or `absentBlock`. Returns how many keys have one.
   * Read `unitBlocks(block)` blocks from there, `check` them, then `find`.
   */
  probe(keys: KeyBatch, blocks: Uint32Array): number {
    const { memory, header } = this;
    const { u32 } = memory;
    if (blocks.length < keys.count)
      throw new MillraceError("invalid", `${keys.count} blocks into ${blocks.length} words`, { todo: "give an array of a word a key" });
    let found = 0;
    throughLane(memory, keys, probeScratchBytes + probeArgumentBytes, 4, ({ keysAt, offsetsAt, first, count, resultAt, scratchAt }) => {
      const argumentsAt = scratchAt + probeScratchBytes;
      const a = argumentsAt / 4;
      u32[a + indexProbeWords.groupsAt] = this.#base + header.indexFrom;
      u32[a + indexProbeWords.groups] = header.groups;
      u32[a + indexProbeWords.seedLow] = header.seed.low;
      u32[a + indexProbeWords.seedHigh] = header.seed.high;
      u32[a + indexProbeWords.keys] = keysAt;
      u32[a + indexProbeWords.offsets] = offsetsAt;
      u32[a + indexProbeWords.count] = count;
      u32[a + indexProbeWords.striped] = header.version > 2 ? 1 : 0;
      u32[a + indexProbeWords.table] = this.#base + header.tableFrom;
      u32[a + indexProbeWords.blocks] = header.dataBlocks;
      u32[a + indexProbeWords.separators] = this.#base + header.separatorsFrom;
      u32[a + indexProbeWords.separatorsBytes] = header.separatorsBytes;
      u32[a + indexProbeWords.outBlocks] = resultAt;
      found += memory.calls.indexProbe(argumentsAt, scratchAt) >>> 0;
      blocks.set(u32.subarray(resultAt / 4, resultAt / 4 + count), first);
      return true;
    });
    return found;
  }

  /** First block of the unit that holds the first key >= `key`, or of the one before it: where a scan begins. `dataBlocks` > 0. */
  seek(key: Uint8Array): number {
    return this.#directory.unitOf(key, 0, key.length);
  }

  /** First block of the unit that a block belongs to: for walking backwards. */
  unitStart(block: number): number {
    return this.#directory.unitStart(block);
  }

  /** Blocks of the unit that begins with a block: 1, or more for a long record. */
  unitBlocks(block: number): number {
    return this.#directory.unitBlocks(block);
  }

  /** Checks blocks that were read, `bytes` being a whole number of them from `block` on; `run` is its name for the message. Throws `corrupt`. */
  check(block: number, bytes: Uint8Array, run: string): void {
    const count = bytes.length / blockBytes;
    for (let i = 0; i < count; i++) {
      const from = i * blockBytes;
      const crc = block + i < this.dataBlocks && Number.isInteger(count) ? crc32c(bytes, 0, from, from + blockBytes) : -1;
      if (crc === this.#directory.checksumOf(block + i)) continue;
      throw new MillraceError("corrupt", `block ${block + i} of ${run} is damaged`, { todo: "take another copy of the file, or build it again" });
    }
  }
}

/** Finds a key among the records of a unit that was read and checked; false when it is not there. */
export function findInUnit(bytes: Uint8Array, key: Uint8Array, into: EntryView): boolean {
  for (let at = 0; at < bytes.length && bytes[at] !== endOfBlock; at = into.next) {
    if (!into.readIn(bytes, at, at - (at % blockBytes), bytes.length))
      throw new MillraceError("corrupt", `a unit of a run holds no record at byte ${at}`, { todo: "build the run again" });
    const order = compareBytes(bytes, into.keyAt, into.keyEnd, key, 0, key.length);
    if (order === 0) return true;
    if (order > 0) return false;
  }
  return false;
}

export { absentBlock };
