// Writes a run file: entries in key order go in, the bytes of the file come out in chunks. Byte format: docs/format/run-file.md.
// How it is used:
//   let taken = 0;
//   while (taken < n) {
//     taken += writer.addSorted(memory, addresses, taken, n);
//     if (writer.isFull) break;                          // this run takes no more: finish it, begin another
//     if (taken < n) await file.write(writer.drain(), position) and add its length to position (which begins at runHeaderBytes)
//   }
//   for (const chunk of writer.finish()) write it likewise;   then writer.headerBytes at position 0, last.
// Why the header last: a file whose building was cut off has none and is no run.
// Invariants: 1. keys ascend strictly, or `add...` throws  2. a chunk that was given out is overwritten by the next but one `drain`, or by `finish`
//             3. a record stands in one block, or has whole blocks to itself.
// Cost: 12 bytes an entry while writing, and the index at the end, beside a chunk. Concurrency: one thread, through the lane of its memory.
// Limits: what RunWriterSize says; runLimits.

import { crc32c } from "#base/crc32c";
import { combineEqualCrc32c } from "#base/crc32c-combine";
import { MillraceError } from "#base/errors";
import { blockBytes, groupBytes, groupSlots, runWriterStateBytes, runWriterStatus, runWriterWords, stageEntryBytes } from "./entry-layout.ts";
import { crc32cOf } from "./checksum.ts";
import { EntryView, recordEnd } from "./entry-record.ts";
import { type KernelMemory, roundUp } from "./kernel-memory.ts";
import type { KeySeed } from "./key-hash.ts";
import { runFormatVersion, type RunHeader, runHeaderBytes, runLimits, type RunStatistics, writeRunHeader } from "./run-format.ts";

export interface RunWriterSize {
  /** Entries that one run takes. */
  readonly entriesMax: number;
  /** Bytes of their records together. */
  readonly recordBytesMax: number;
  /** Longest record. Default 1 MiB. */
  readonly longestRecordBytes?: number;
  /** Bytes of the file that are gathered before they are given out. Default 256 KiB; at least the longest record. */
  readonly chunkBytes?: number;
  /** Bytes of separators a block on average. A run whose keys need more is full earlier. Default 96. */
  readonly separatorBytes?: number;
}

const keyRoom = 4_096;

interface WriterShape {
  readonly chunkBytes: number;
  readonly blocksMax: number;
  readonly checksMax: number;
  readonly separatorsMax: number;
  readonly groupsMax: number;
  readonly bytes: number;
}

/** Groups for so many entries with so many bytes of keys and values together. */
function groupsFor(entries: number, bytes: number): number {
  const load = bytes >= entries * runLimits.longEntryBytes ? runLimits.longEntryLoad : runLimits.load;
  return Math.max(1, Math.ceil(entries / (groupSlots * load)));
}

function shapeOf(size: RunWriterSize): WriterShape {
  const { entriesMax, recordBytesMax } = size;
  const longest = size.longestRecordBytes ?? 1 << 20;
  if (!(entriesMax >= 1) || !Number.isInteger(entriesMax) || !(recordBytesMax >= 0) || !Number.isInteger(recordBytesMax) || entriesMax > 2 ** 28) {
    throw new MillraceError("invalid", `a run writer for ${entriesMax} entries of ${recordBytesMax} bytes`, { todo: "use whole numbers, 1 to 2^28 entries" });
  }
  const chunkBytes = roundUp(Math.max(size.chunkBytes ?? 256 << 10, longest), blockBytes) + blockBytes;
  // Two neighbours do not fit into one block, so blocks are on average more than half full.
  const blocksWanted = Math.min(Math.floor(runLimits.fileBytesMax / blockBytes), Math.ceil((2 * recordBytesMax) / blockBytes) + 1);
  const separatorsMax = Math.min(blocksWanted, entriesMax) * (size.separatorBytes ?? 96) + keyRoom;
  const longMax = Math.min(entriesMax, Math.floor(recordBytesMax / runLimits.longEntryBytes));
  const groupsMax = Math.max(groupsFor(entriesMax, 0), groupsFor(longMax, recordBytesMax));
  const tailBlocks = Math.ceil((4 * blocksWanted + separatorsMax + 2 * keyRoom) / blockBytes) + Math.ceil((groupsMax * groupBytes) / blockBytes);
  // What follows the data must fit into the file as well: header, tail and 4 bytes a block of checksums.
  const blocksMax = Math.min(blocksWanted, Math.floor((runLimits.fileBytesMax - 64) / (blockBytes + 4)) - tailBlocks - 1);
  if (blocksMax < 1) throw new MillraceError("invalid", `a run writer for ${entriesMax} entries`, { todo: "use fewer entries a run" });
  const checksMax = blocksMax + tailBlocks;
  const bytes =
    roundUp(runWriterStateBytes, 64) +
    keyRoom * 2 +
    2 * chunkBytes +
    roundUp(stageEntryBytes * entriesMax, 64) +
    roundUp(4 * blocksMax, 64) +
    roundUp(4 * checksMax + 64, 64) +
    roundUp(separatorsMax, 64) +
    roundUp(groupsMax * groupBytes, blockBytes) +
    64;
  return { chunkBytes, blocksMax, checksMax, separatorsMax, groupsMax, bytes };
}

/** Bytes to reserve in a kernel memory for a writer of this size. */
export function runWriterBytes(size: RunWriterSize): number {
  return shapeOf(size).bytes;
}

export class RunWriter {
  readonly memory: KernelMemory;
  readonly at: number;
  readonly #w: number;
  readonly #shape: WriterShape;
  /** The last key stands here once its chunk was given out. */
  readonly #keyAt: number;
  readonly #minKeyAt: number;
  readonly #chunkAt: number;
  readonly #stageAt: number;
  readonly #tableAt: number;
  readonly #checksAt: number;
  readonly #separatorsAt: number;
  readonly #groupsAt: number;
  readonly #size: RunWriterSize;
  #minKeyBytes = -1;
  #seed: KeySeed;
  #header: RunHeader | undefined;

  private constructor(memory: KernelMemory, at: number, size: RunWriterSize, seed: KeySeed) {
    const shape = shapeOf(size);
    this.memory = memory;
    this.at = at;
    this.#w = at / 4;
    this.#shape = shape;
    this.#seed = seed;
    let next = at + roundUp(runWriterStateBytes, 64);
    const place = (bytes: number): number => {
      const from = next;
      next += roundUp(bytes, 64);
      return from;
    };
    this.#keyAt = place(keyRoom);
    this.#minKeyAt = place(keyRoom);
    this.#chunkAt = place(2 * shape.chunkBytes);
    this.#stageAt = place(stageEntryBytes * size.entriesMax);
    this.#tableAt = place(4 * shape.blocksMax);
    this.#checksAt = place(4 * shape.checksMax + 64);
    this.#separatorsAt = place(shape.separatorsMax);
    this.#groupsAt = place(roundUp(shape.groupsMax * groupBytes, blockBytes));
    this.#size = size;
    this.reset(seed);
  }

  /** A writer in the data area of `memory`. The seed goes into the file: random where keys are chosen by strangers. */
  static create(memory: KernelMemory, size: RunWriterSize, seed: KeySeed): RunWriter {
    return new RunWriter(memory, memory.reserve(runWriterBytes(size)), size, seed);
  }

  /** Begins another run in the same room. */
  reset(seed: KeySeed): void {
    const { u32 } = this.memory;
    const w = runWriterWords;
    this.#seed = seed;
    this.#minKeyBytes = -1;
    this.#header = undefined;
    u32.fill(0, this.#w, this.#w + runWriterStateBytes / 4);
    const set = (word: number, value: number): void => void (u32[this.#w + word] = value);
    set(w.fileAt, runHeaderBytes);
    set(w.chunkAt, this.#chunkAt);
    set(w.chunkBytes, this.#shape.chunkBytes);
    set(w.stageAt, this.#stageAt);
    set(w.stageMax, this.#size.entriesMax);
    set(w.tableAt, this.#tableAt);
    set(w.checksAt, this.#checksAt);
    set(w.blocksMax, this.#shape.blocksMax);
    set(w.separatorsAt, this.#separatorsAt);
    set(w.separatorsMax, this.#shape.separatorsMax);
    set(w.seedLow, seed.low);
    set(w.seedHigh, seed.high);
    set(w.crcRoom, this.memory.crcAt);
  }

  #word(word: number): number {
    return this.memory.u32[this.#w + word]!;
  }

  /** Entries written. */
  get count(): number {
    return this.#word(runWriterWords.count);
  }

  /** Bytes of the file so far, without index and tables. */
  get dataBytes(): number {
    return this.#word(runWriterWords.fileAt) - runHeaderBytes + this.#word(runWriterWords.chunkUsed);
  }

  /** True when the last `add...` stopped because this run takes no more entries. */
  get isFull(): boolean {
    return this.#word(runWriterWords.status) === runWriterStatus.runFull;
  }

  /**
   * Appends the entries whose records lie at `addresses[from, to)` of a memory, in key order. Returns how many it took: fewer when the chunk is
   * full (`drain` it) or the run is (`isFull`). Records in the writer's own memory are copied by the kernel at once, others by way of the lane.
   * Throws `invalid` when a key is not above the one before, `corrupt` when an address holds no record.
   */
  addSorted(source: KernelMemory, addresses: Uint32Array, from: number, to: number): number {
    this.#refuseFinished();
    const { memory } = this;
    const { lane, u32, bytes } = memory;
    const own = source.memory === memory.memory;
    let taken = 0;
    while (from + taken < to) {
      lane.reset();
      // From elsewhere: an eighth of the lane for addresses, the rest for records.
      const most = Math.floor((own ? lane.free - 64 : lane.free / 8) / 4);
      let count = Math.min(to - from - taken, most, 16_384);
      const listAt = lane.take(4 * count);
      let limit = bytes.length - 64;
      if (own) {
        u32.set(addresses.subarray(from + taken, from + taken + count), listAt / 4);
      } else {
        const room = lane.free - 64;
        let next = lane.take(room);
        limit = next + room;
        let staged = 0;
        for (; staged < count; staged++) {
          const address = addresses[from + taken + staged]!;
          const end = recordEnd(source.bytes, address, source.bytes.length - 64);
          if (end < 0) throw noRecord(address);
          const size = end - address;
          // As far behind a word as there, so that words can be copied.
          next = roundUp(next, 4) + (address & 3);
          if (next + size > limit) break;
          if (size > wordCopyMax) bytes.set(source.bytes.subarray(address, end), next);
          else copyWords(source.u32, address >>> 2, u32, next >>> 2, ((address & 3) + size + 3) >>> 2);
          u32[listAt / 4 + staged] = next;
          next += size;
        }
        if (staged === 0) throw new MillraceError("invalid", "a record exceeds the lane", { todo: "give the memory larger lanes (laneBytes)" });
        count = staged;
      }
      const done = this.#pack(listAt, count, limit);
      taken += done;
      if (done < count) break;
    }
    return taken;
  }

  /** Appends one entry from any bytes; false as when `addSorted` takes none. */
  add(entry: EntryView): boolean {
    this.#refuseFinished();
    const { lane, u32, bytes } = this.memory;
    lane.reset();
    const listAt = lane.take(4);
    const at = lane.take(entry.recordBytes + 16);
    u32[listAt / 4] = at;
    return this.#pack(listAt, 1, entry.writeTo(bytes, at)) === 1;
  }

  #pack(listAt: number, count: number, limit: number): number {
    const { memory } = this;
    const { u32 } = memory;
    const w = runWriterWords;
    if (this.#minKeyBytes < 0) this.#keepMinKey(u32[listAt / 4]!, limit);
    const done = memory.calls.runPack(this.at, listAt, count, limit) >>> 0;
    const status = this.#word(w.status);
    if (status === runWriterStatus.malformed) throw noRecord(u32[listAt / 4 + done]!);
    if (status === runWriterStatus.disorder) {
      throw new MillraceError("invalid", `entry ${this.count} of a run is not above the one before`, { todo: "add entries in key order, each key once" });
    }
    if (status === runWriterStatus.chunkFull && this.#word(w.chunkUsed) === 0) {
      throw new MillraceError("invalid", `a record exceeds a chunk of ${this.#shape.chunkBytes} bytes`, {
        todo: "give the writer a larger longestRecordBytes",
      });
    }
    return done;
  }

  #keepMinKey(address: number, limit: number): void {
    const { bytes } = this.memory;
    const entry = new EntryView();
    if (!entry.read(bytes, address, limit)) throw noRecord(address);
    bytes.copyWithin(this.#minKeyAt, entry.keyAt, entry.keyEnd);
    this.#minKeyBytes = entry.keyBytes;
  }

  #refuseFinished(): void {
    if (this.#header !== undefined) throw new MillraceError("internal", "an entry for a run that is finished");
  }

  /** The closed blocks of the chunk: the next bytes of the file. A view, valid until the next call of `drain` or `finish`. */
  drain(): Uint8Array<SharedArrayBuffer> {
    const { u32, bytes } = this.memory;
    const w = runWriterWords;
    const chunk = this.#word(w.chunkAt);
    const used = this.#word(w.chunkUsed);
    const closed = this.#word(w.chunkClosed);
    const lastAt = this.#word(w.lastKeyAt);
    bytes.copyWithin(this.#keyAt, lastAt, lastAt + this.#word(w.lastKeyBytes));
    u32[this.#w + w.lastKeyAt] = this.#keyAt;
    // Two chunks in turn: what was given out lies still while the open block goes on in the other.
    const other = chunk === this.#chunkAt ? this.#chunkAt + this.#shape.chunkBytes : this.#chunkAt;
    // Whole: in a block of key lines the rests of entries stand at its end.
    bytes.copyWithin(other, chunk + closed, chunk + roundUp(used, blockBytes));
    u32[this.#w + w.chunkAt] = other;
    u32[this.#w + w.fileAt] = this.#word(w.fileAt) + closed;
    u32[this.#w + w.chunkUsed] = used - closed;
    u32[this.#w + w.chunkClosed] = 0;
    return bytes.subarray(chunk, chunk + closed);
  }

  /** Ends the run: the rest of the file behind what was drained, in chunks that are valid until the next one. Then `header` is there. */
  *finish(): Generator<Uint8Array> {
    this.#refuseFinished();
    const { memory } = this;
    const { calls, bytes, u32 } = memory;
    const w = runWriterWords;
    const maxKeyBytes = this.#word(w.lastKeyBytes);
    calls.runClose(this.at);
    const last = this.drain();
    if (last.length > 0) yield last;

    const entries = this.count;
    const dataBlocks = this.#word(w.blocks);
    const tableFrom = runHeaderBytes + dataBlocks * blockBytes;
    const separatorsFrom = tableFrom + 4 * dataBlocks;
    const separatorsBytes = this.#word(w.separatorsUsed);
    const minKeyFrom = separatorsFrom + separatorsBytes;
    const minKeyBytes = Math.max(0, this.#minKeyBytes);
    const maxKeyFrom = minKeyFrom + minKeyBytes;
    const indexFrom = roundUp(maxKeyFrom + maxKeyBytes, blockBytes);
    const directory = new Uint8Array(indexFrom - tableFrom);
    directory.set(bytes.subarray(this.#tableAt, this.#tableAt + 4 * dataBlocks), 0);
    directory.set(bytes.subarray(this.#separatorsAt, this.#separatorsAt + separatorsBytes), separatorsFrom - tableFrom);
    directory.set(bytes.subarray(this.#minKeyAt, this.#minKeyAt + minKeyBytes), minKeyFrom - tableFrom);
    directory.set(bytes.subarray(this.#keyAt, this.#keyAt + maxKeyBytes), maxKeyFrom - tableFrom);
    let block = dataBlocks;
    for (let from = 0; from < directory.length; from += this.#shape.chunkBytes) {
      const part = directory.subarray(from, from + this.#shape.chunkBytes);
      bytes.set(part, this.#chunkAt);
      block = this.#check(this.#chunkAt, part.length, block);
      yield part;
    }

    const sums = new Float64Array(u32.buffer, this.at, runWriterStateBytes / 8);
    const groups = groupsFor(entries, sums[w.keyBytes / 2]! + sums[w.valueBytes / 2]!);
    const indexBytes = roundUp(groups * groupBytes, blockBytes);
    bytes.fill(0, this.#groupsAt + groups * groupBytes, this.#groupsAt + indexBytes);
    calls.runIndexBuild(this.#stageAt, entries, this.#groupsAt, groups);
    for (let from = 0; from < indexBytes; from += this.#shape.chunkBytes) {
      const size = Math.min(this.#shape.chunkBytes, indexBytes - from);
      block = this.#check(this.#groupsAt + from, size, block);
      yield bytes.subarray(this.#groupsAt + from, this.#groupsAt + from + size);
    }

    const checksFrom = indexFrom + indexBytes;
    const fileBytes = roundUp(checksFrom + 4 * block, 64);
    const checksEnd = this.#checksAt + fileBytes - checksFrom;
    bytes.fill(0, this.#checksAt + 4 * block, checksEnd);
    yield bytes.subarray(this.#checksAt, checksEnd);

    const f64 = new Float64Array(u32.buffer, this.at, runWriterStateBytes / 8);
    const statistics: RunStatistics = {
      entries,
      tombstones: this.#word(w.tombstones),
      expiring: this.#word(w.expiring),
      keyBytes: f64[w.keyBytes / 2]!,
      valueBytes: f64[w.valueBytes / 2]!,
      minTimeMs: f64[w.minTime / 2]!,
      maxTimeMs: f64[w.maxTime / 2]!,
      minExpiryMs: f64[w.minExpiry / 2]!,
      maxExpiryMs: f64[w.maxExpiry / 2]!,
    };
    this.#header = {
      version: runFormatVersion,
      fileBytes,
      dataBlocks,
      tableFrom,
      separatorsFrom,
      separatorsBytes,
      minKeyFrom,
      minKeyBytes,
      maxKeyFrom,
      maxKeyBytes,
      indexFrom,
      groups,
      checksFrom,
      blocks: block,
      checksCrc: crc32cOf(memory, this.#checksAt, 4 * block),
      seed: this.#seed,
      statistics,
    };
  }

  /** Writes the checksums of blocks that lie at an address; returns the number of the next block. */
  #check(at: number, size: number, block: number): number {
    const count = size / blockBytes;
    this.memory.calls.crc32cBlocks(this.memory.crcAt, at, blockBytes, count, this.#checksAt + 4 * block);
    return block + count;
  }

  /** The header of the finished run. */
  get header(): RunHeader {
    if (this.#header === undefined) throw new MillraceError("internal", "the header of a run that is not finished");
    return this.#header;
  }

  /** CRC32C of the whole finished file, put together from those of its blocks. */
  get fileChecksum(): number {
    const { fileBytes, checksFrom, blocks } = this.header;
    const first = this.#checksAt / 4;
    const sum = combineEqualCrc32c(crc32c(this.headerBytes), this.memory.u32, first, first + blocks, blockBytes);
    return crc32cOf(this.memory, this.#checksAt, fileBytes - checksFrom, sum);
  }

  /** The first 4,096 bytes of the file: written last, at position 0. */
  get headerBytes(): Uint8Array<ArrayBuffer> {
    return writeRunHeader(this.header);
  }
}

/** Up to here a loop over words is faster than making a view and calling `set`. */
const wordCopyMax = 512;

function copyWords(from: Uint32Array, first: number, to: Uint32Array, at: number, count: number): void {
  for (let i = 0; i < count; i++) to[at + i] = from[first + i]!;
}

function noRecord(address: number): MillraceError {
  return new MillraceError("corrupt", `no entry record at address ${address}`, { todo: "verify the run before it is merged" });
}
