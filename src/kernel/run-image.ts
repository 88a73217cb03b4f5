// An immutable run of entries in a kernel memory, the same bytes as its file: looked up in batches, walked in key order both ways.
// Byte format: docs/format/run-file.md. Why the same bytes: opening is reading, whoever reads them and wherever they lie.
// Invariants: 1. nothing outside the image is read, whatever its bytes say: the header is checked when it is attached, every offset before it
//             is followed  2. a damaged block is refused only by `verify` (or the checksum of whoever fetched the file): verify before serving
//             3. keys ascend strictly.
// Cost: a probe is two cache misses a found key, one an absent one, overlapped over 32 keys; 6.3 bytes a key of index, 0.5-1 of table.
// Concurrency: immutable; any number of threads, each through its own lane.

import { combineEqualCrc32c } from "#base/crc32c-combine";
import { MillraceError } from "#base/errors";
import { crc32cOf } from "./checksum.ts";
import { blockBytes, groupBytes } from "./entry-layout.ts";
import { probeEntries, type SearchedEntries } from "./entry-probe.ts";
import { compareBytes, endOfBlock, EntryView } from "./entry-record.ts";
import type { EntryRefs } from "./entry-refs.ts";
import type { KernelMemory } from "./kernel-memory.ts";
import type { KeyBatch } from "./key-batch.ts";
import { readRunHeader, type RunHeader, runHeaderBytes, type RunStatistics } from "./run-format.ts";
import { RunDirectory } from "./run-directory.ts";

/** Blocks that one kernel call checks: about 0.5 ms. */
const verifyBlocks = 256;

export class RunImage {
  readonly memory: KernelMemory;
  /** Address of the file's first byte, a multiple of 64. */
  readonly at: number;
  readonly header: RunHeader;
  readonly #where: SearchedEntries;
  readonly #directory: RunDirectory;
  readonly #entry = new EntryView();
  /** Addresses of the data. */
  readonly #from: number;
  readonly #end: number;

  private constructor(memory: KernelMemory, at: number, header: RunHeader) {
    this.memory = memory;
    this.at = at;
    this.header = header;
    this.#from = runHeaderBytes;
    this.#end = header.tableFrom;
    this.#directory = new RunDirectory(memory.bytes, at, header);
    this.#where = {
      groupsAt: at + header.indexFrom,
      groups: header.groups,
      base: at,
      limit: header.tableFrom,
      seedLow: header.seed.low,
      seedHigh: header.seed.high,
      isStriped: header.version > 2,
    };
  }

  /**
   * The run whose file lies at `at`, `bytes` long (default: what its header says). Throws `corrupt` when the header is damaged or the file
   * does not lie in the memory as a whole; blocks are checked by `verify`.
   */
  static attach(memory: KernelMemory, at: number, bytes?: number): RunImage {
    if (at % 64 !== 0) throw new MillraceError("invalid", `a run at address ${at}`, { todo: "place it at a multiple of 64" });
    const header = readRunHeader(memory.bytes, at);
    if (header.fileBytes > (bytes ?? Infinity) || at + header.fileBytes > memory.bytes.length - 64) {
      throw new MillraceError("corrupt", `a run of ${header.fileBytes} bytes is cut off`, { todo: "take another copy of the file, or build it again" });
    }
    if (bytes !== undefined && header.fileBytes !== bytes) {
      throw new MillraceError("corrupt", `a run of ${header.fileBytes} bytes in a file of ${bytes}`, {
        todo: "take another copy of the file, or build it again",
      });
    }
    return new RunImage(memory, at, header);
  }

  /** Entries, tombstones too. */
  get count(): number {
    return this.header.statistics.entries;
  }
  get statistics(): RunStatistics {
    return this.header.statistics;
  }
  /** Bytes in memory. */
  get bytes(): number {
    return this.header.fileBytes;
  }
  /** Blocks that `verify` checks. */
  get blocks(): number {
    return this.header.blocks;
  }
  /** Least key; a view. Empty when there are no entries. */
  get minKey(): Uint8Array {
    return this.#directory.minKey;
  }
  get maxKey(): Uint8Array {
    return this.#directory.maxKey;
  }

  /**
   * Checks the blocks `fromBlock` to `toBlock` (default: all; 250 blocks take about half a millisecond), and from block 0 on first the list of checksums: `verify(0, 0)`
   * checks it alone. Throws `corrupt` at the first that is damaged.
   */
  verify(fromBlock = 0, toBlock = this.blocks): void {
    const { memory, at, header } = this;
    const { u32, lane } = memory;
    const checks = (at + header.checksFrom) / 4;
    if (fromBlock === 0) {
      this.#directory.check(memory);
    }
    for (let first = fromBlock; first < toBlock; first += verifyBlocks) {
      const count = Math.min(verifyBlocks, toBlock - first);
      lane.reset();
      const out = lane.take(4 * count);
      memory.calls.crc32cBlocks(memory.crcAt, at + runHeaderBytes + first * blockBytes, blockBytes, count, out);
      for (let i = 0; i < count; i++) {
        if (u32[out / 4 + i] === u32[checks + first + i]) continue;
        throw new MillraceError("corrupt", `block ${first + i} of ${this.blocks} of a run is damaged`, {
          todo: "take another copy of the file, or build it again",
        });
      }
    }
  }

  /**
   * CRC32C of the file up to the end of block `toBlock - 1`, by the list of checksums, from that up to block `fromBlock` (for 0 it is the header's, and `before` is not
   * looked at); `toBlock` may be `blocks + 1` for the whole file. That of the bytes once `verify` has found list and blocks right. Cost: 60 ns a block instead of 2 us.
   */
  checksumOf(before: number, fromBlock: number, toBlock: number): number {
    const { memory, at, header } = this;
    const checks = (at + header.checksFrom) / 4;
    const first = fromBlock === 0 ? crc32cOf(memory, at, runHeaderBytes) : before;
    const sum = combineEqualCrc32c(first, memory.u32, checks + fromBlock, checks + Math.min(toBlock, this.blocks), blockBytes);
    return toBlock > this.blocks ? crc32cOf(memory, at + header.checksFrom, header.fileBytes - header.checksFrom, sum) : sum;
  }

  /** As MemTable.probe. */
  probe(keys: KeyBatch, refs: EntryRefs, source: number): number {
    return probeEntries(this.memory, this.#where, keys, refs, source);
  }

  // ---- order: a position is the offset of a record in the file ----

  /** Position of the first entry. */
  get first(): number {
    return this.count === 0 ? this.end : this.#from;
  }
  /** The position behind the last entry. */
  get end(): number {
    return this.#end;
  }

  /** Position of the first entry whose key is >= `key`; `end` when there is none. */
  seek(key: Uint8Array): number {
    if (this.count === 0) return this.end;
    const unit = this.#directory.unitOf(key, 0, key.length);
    const { bytes } = this.memory;
    const entry = this.#entry;
    let position = runHeaderBytes + unit * blockBytes;
    while (position < this.end) {
      const next = this.entryAt(position, entry);
      if (compareBytes(bytes, entry.keyAt, entry.keyEnd, key, 0, key.length) >= 0) return position;
      position = next;
    }
    return this.end;
  }

  /** Where the next record begins: here, or in the next block. */
  #skipPadding(position: number): number {
    if (position % blockBytes === 0) return position;
    return this.memory.bytes[this.at + position] === endOfBlock ? Math.ceil(position / blockBytes) * blockBytes : position;
  }

  #damaged(position: number): MillraceError {
    return new MillraceError("corrupt", `a run holds no record at byte ${position}`, { todo: "take another copy of the file, or build it again" });
  }

  /** Reads the entry at a position and returns the position of the next one (`end` behind the last). Throws `corrupt` when there is none. */
  entryAt(position: number, into: EntryView): number {
    const { at } = this;
    if (!into.readIn(this.memory.bytes, at + position, at + position - (position % blockBytes), at + this.end)) throw this.#damaged(position);
    return this.#skipPadding(into.next - at);
  }

  /** Address of the record at a position, for RunWriter.addSorted. */
  addressOf(position: number): number {
    return this.at + position;
  }

  /** Position of the entry before `position` (which may be `end`); -1 before the first. Costs a walk of one block: for many use `positionsBefore`. */
  before(position: number): number {
    const list: number[] = [];
    return this.positionsBefore(position, list) === 0 ? -1 : list.at(-1)!;
  }

  /** Replaces `into` by the positions, ascending, of the entries before `position` in the block that holds the last of them. Returns how many. */
  positionsBefore(position: number, into: number[]): number {
    into.length = 0;
    if (position <= runHeaderBytes || this.count === 0) return 0;
    const unit = this.#directory.unitStart(Math.floor((Math.min(position, this.end) - 1) / blockBytes) - 1);
    for (let at = runHeaderBytes + unit * blockBytes; at < position && at < this.end;) {
      into.push(at);
      at = this.entryAt(at, this.#entry);
    }
    return into.length;
  }

  /** Bytes of search groups. */
  get indexBytes(): number {
    return this.header.groups * groupBytes;
  }
}
