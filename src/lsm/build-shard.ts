// One shard of a bulk build: staged entry records in, one run file out. Pure: what goes in decides every byte that comes out, so any process on any machine may do it, again
// after a kill too.
// Why in memory: a global sort writes and reads everything several times; a shard that fits into memory is sorted there and written once (docs/design/import.md).
// How: the staged blocks are read into one kernel memory and checked, the addresses of their records are sorted by key, of equal keys the last staged one stays, and the run writer
// packs them straight into the file; its header, the first block, comes last.
// Invariants: 1. no byte of a staged block is used before its checksum agreed  2. the same records, seed and format give the same file
// 3. a file under its name is whole and synced: it is written beside and renamed  4. the memory is taken once and used again by the next shard that fits: a shared memory that is dropped stays resident.
// Cost: `shardMemoryBytes`; about 1.1 times the staged bytes and 45 bytes a row.
// Concurrency: one builder, one thread, one shard at a time.
// Limits: one run file is less than 4 GiB (runLimits); a shard that needs more memory than the builder may take is refused with how much it needs.

import { MillraceError } from "#base/errors";
import { crc32cOf } from "#kernel/checksum";
import { recordSortWorkBytes, sortItemBytes } from "#kernel/entry-layout";
import type { KeySeed } from "#kernel/key-hash";
import { KernelMemory, memoryBytesFor, roundUp } from "#kernel/kernel-memory";
import { runHeaderBytes, type RunStatistics } from "#kernel/run-format";
import { RunWriter, runWriterBytes } from "#kernel/run-writer";
import type { WasmMemory } from "#kernel/web-assembly";
import type { Clock } from "#platform/clock";
import type { Files, OpenFile } from "#platform/files";

/** Whole entry records (docs/format/run-file.md) one behind another in a file. */
export interface StagedPart {
  readonly at: number;
  readonly bytes: number;
  readonly rows: number;
  readonly crc32c: number;
}

export interface StagedFile {
  readonly path: string;
  /** In the order in which they were staged: of equal keys the last one stays. */
  readonly parts: readonly StagedPart[];
}

export interface ShardToBuild {
  readonly staged: readonly StagedFile[];
  /** Of the hash by which keys were dealt to shards. The run's index has another, made of it (`indexSeedOf`). */
  readonly seed: KeySeed;
}

/**
 * The seed of a shard's index. Keys of one shard agree in the upper bits of the hash that dealt them, and the index places keys by the same bits: with one seed for both, all keys of a shard of R
 * would crowd into one R-th of its groups, and building and probing would take as long as the crowd is.
 */
export function indexSeedOf({ low, high }: KeySeed): KeySeed {
  return { low: ~low >>> 0, high: ~high >>> 0 };
}

export interface BuiltShard {
  /** Of the run file. */
  readonly bytes: number;
  readonly crc32c: number;
  /** Staged records whose key came again later. */
  readonly overtaken: number;
  readonly statistics: RunStatistics;
}

export interface ShardBuilderOptions {
  readonly files: Files;
  readonly clock: Clock;
  /** Everything that a shard takes: memory of the kernels and the finished run. */
  readonly memoryBytesMax: number;
  readonly signal?: AbortSignal;
}

const chunkBytes = 1 << 20;
const laneBytes = 1 << 20;
/** A new memory is this much larger than its shard, so that the next one fits too. */
const headroom = 1.08;

function writerSize(
  rows: number,
  bytes: number,
  longest: number,
): { entriesMax: number; recordBytesMax: number; longestRecordBytes: number; chunkBytes: number } {
  return { entriesMax: Math.max(1, rows), recordBytesMax: bytes, longestRecordBytes: longest, chunkBytes };
}

/** Memory that a shard of so many staged rows and bytes takes while it is built. */
export function shardMemoryBytes(rows: number, bytes: number, longestRecordBytes = 1 << 20): number {
  return kernelBytes(rows, bytes, longestRecordBytes) + 16 * chunkBytes;
}

function kernelBytes(rows: number, bytes: number, longest: number): number {
  return (
    roundUp(bytes, 64) +
    roundUp(4 * rows, 64) +
    roundUp(sortItemBytes * rows, 64) +
    roundUp(recordSortWorkBytes, 64) +
    roundUp(runWriterBytes(writerSize(rows, bytes, longest)), 64) +
    4_096
  );
}

export class ShardBuilder {
  readonly #options: ShardBuilderOptions;
  #memory: WasmMemory | undefined;

  constructor(options: ShardBuilderOptions) {
    this.#options = options;
  }

  /**
   * Builds the run of a shard as the file at `path`, which is replaced. Throws `overloaded` when the shard is too large for the memory, `corrupt` when a staged block is
   * damaged, and what the disk says.
   */
  async build(shard: ShardToBuild, path: string): Promise<BuiltShard> {
    const parts = shard.staged.flatMap((file) => file.parts);
    const rows = parts.reduce((sum, part) => sum + part.rows, 0);
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    const longest = Math.max(64 << 10, ...parts.map((part) => part.bytes));
    const memory = this.#memoryFor(rows, bytes, longest);
    const stageAt = memory.reserve(bytes + 64);
    const addressesAt = memory.reserve(4 * rows);
    const itemsAt = memory.reserve(sortItemBytes * rows);
    const workAt = memory.reserve(recordSortWorkBytes);
    const seed = indexSeedOf(shard.seed);
    const writer = RunWriter.create(memory, writerSize(rows, bytes, longest), seed);
    const sharedBytes = await this.#read(shard.staged, memory, stageAt, addressesAt, workAt);
    await this.#breathe();
    // The writer takes more than 16 bytes an entry and has nothing to keep yet: its room is the sort's second one.
    const kept = memory.calls.sortRecords(addressesAt, rows, sharedBytes, itemsAt, writer.at, workAt) >>> 0;
    writer.reset(seed);
    await this.#breathe();
    const addresses = memory.u32.subarray(addressesAt / 4, addressesAt / 4 + kept);
    const { files } = this.#options;
    const beside = `${path}.part`;
    await files.remove(beside);
    const file = await files.open(beside, "create");
    if (file === undefined)
      throw new MillraceError("conflict", `${beside} is being written by another process`, { todo: "run one build for a file at a time" });
    try {
      const out = new RunFile(file);
      for (let taken = 0; taken < kept;) {
        taken += writer.addSorted(memory, addresses, taken, kept);
        if (writer.isFull) throw new MillraceError("overloaded", `a run of ${writer.count} entries is full`, { todo: "cut the table into more shards" });
        if (taken === kept) break;
        await out.append(writer.drain());
        this.#options.signal?.throwIfAborted();
      }
      for (const chunk of writer.finish()) await out.append(chunk);
      const built = await out.finish(writer.headerBytes);
      await files.rename(beside, path);
      return { bytes: built, crc32c: writer.fileChecksum, overtaken: rows - kept, statistics: writer.header.statistics };
    } finally {
      await file.close();
    }
  }

  #memoryFor(rows: number, bytes: number, longest: number): KernelMemory {
    const needed = shardMemoryBytes(rows, bytes, longest);
    const { memoryBytesMax } = this.#options;
    if (needed > memoryBytesMax) {
      throw new MillraceError(
        "overloaded",
        `a shard of ${rows} rows and ${bytes} bytes needs ${Math.ceil(needed / 2 ** 20)} MiB, the builder may take ${Math.floor(memoryBytesMax / 2 ** 20)}`,
        {
          todo: "allow more memory, or cut the table into more shards",
        },
      );
    }
    const dataBytes = kernelBytes(rows, bytes, longest) + 4_096;
    const shape = { dataBytes, laneBytes };
    if (this.#memory !== undefined && memoryBytesFor(shape) <= this.#memory.buffer.byteLength) return KernelMemory.format(this.#memory, shape);
    const grown = { dataBytes: Math.floor(Math.min(dataBytes * headroom, Math.max(dataBytes, memoryBytesMax - (needed - dataBytes)))), laneBytes };
    const memory = KernelMemory.create(grown);
    this.#memory = memory.memory;
    return memory;
  }

  /** Reads all parts to `at` and writes the address of every record, a part at a time while it is in the cache. Returns how many bytes all keys begin with. */
  async #read(staged: readonly StagedFile[], memory: KernelMemory, at: number, addressesAt: number, sharedAt: number): Promise<number> {
    const { files, signal } = this.#options;
    const { calls, u32 } = memory;
    let to = at;
    let found = addressesAt;
    u32.fill(0, sharedAt / 4, sharedAt / 4 + 2);
    for (const { path, parts } of staged) {
      const file = await files.open(path, "read");
      if (file === undefined) throw damaged(path, "is missing");
      try {
        for (const part of parts) {
          signal?.throwIfAborted();
          await readWhole(file, memory.bytes.subarray(to, to + part.bytes), part.at, path);
          if (crc32cOf(memory, to, part.bytes) !== part.crc32c) throw damaged(path, `has damaged records at byte ${part.at}`);
          if (calls.findRecords(to, to + part.bytes, found, part.rows, sharedAt) >>> 0 !== part.rows) {
            throw damaged(path, `does not hold the records that were announced at byte ${part.at}`);
          }
          to += part.bytes;
          found += 4 * part.rows;
        }
      } finally {
        await file.close();
      }
    }
    return u32[sharedAt / 4 + 1]!;
  }

  async #breathe(): Promise<void> {
    this.#options.signal?.throwIfAborted();
    await this.#options.clock.yield();
  }
}

/** The file of a run: what comes behind its header is appended, the header is written last. */
class RunFile {
  readonly #file: OpenFile;
  #position = runHeaderBytes;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  async append(chunk: Uint8Array): Promise<void> {
    await this.#file.write(chunk, this.#position);
    this.#position += chunk.length;
  }

  /** Returns the length of the file. */
  async finish(header: Uint8Array): Promise<number> {
    await this.#file.write(header, 0);
    await this.#file.sync();
    return this.#position;
  }
}

async function readWhole(file: OpenFile, into: Uint8Array, at: number, path: string): Promise<void> {
  for (let read = 0; read < into.length;) {
    const more = await file.read(into.subarray(read), at + read);
    if (more === 0) throw damaged(path, `ends at byte ${at + read}`);
    read += more;
  }
}

function damaged(path: string, why: string): MillraceError {
  return new MillraceError("corrupt", `${path} ${why}`, { todo: "remove the work folder and start the import again" });
}
