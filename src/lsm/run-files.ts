// Writes entries in key order into run files, one after another, each synced under its name.
// Why a new file for each name: a name that is there already may belong to a process that lost its partition; it is left alone and the next number taken.
// Invariants: 1. a file that `finish` returned is whole, synced, and its name is safe  2. files of one writer do not overlap and come in key order
// 3. a file that failed is removed, as far as the disk lets us.
// Concurrency: one thread; a write is under way while the next chunk is filled. Limits: `fileBytesTarget` a file, then the next begins.

import { MillraceError } from "#base/errors";
import { entryKinds, type EntryView, writeRecordHead } from "#kernel/entry-record";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { KeySeed } from "#kernel/key-hash";
import { runHeaderBytes } from "#kernel/run-format";
import { RunWriter, runWriterBytes, type RunWriterSize } from "#kernel/run-writer";
import type { Files, OpenFile } from "#platform/files";
import { type ManifestFile, runFileName } from "./manifest.ts";

/** Half of it is used before it is written, so that the longest record fits behind. */
const stageRoom = 2 << 20;
const stageEntries = 4_096;

export interface RunFilesOptions {
  readonly files: Files;
  readonly folder: string;
  /** Number of the first file; taken ones are passed over. */
  readonly firstNumber: number;
  /** A file is closed when its entries have so many bytes. */
  readonly fileBytesTarget: number;
  readonly seed: KeySeed;
}

/** A file that was written, with the number in its name. */
export interface WrittenFile extends ManifestFile {
  readonly number: number;
}

/** Bytes of memory that a `RunFiles` with a stage needs. */
export function runFilesBytes(size: RunWriterSize): number {
  return runWriterBytes(size) + stageRoom + 128;
}

export class RunFiles {
  readonly #options: RunFilesOptions;
  readonly #writer: RunWriter;
  readonly #memory: KernelMemory;
  readonly #stageAt: number;
  readonly #addresses = new Uint32Array(stageEntries);
  #staged = 0;
  #stageUsed = 0;
  #number: number;
  #file: { readonly file: OpenFile; readonly path: string; readonly name: string; readonly number: number } | undefined;
  #position = 0;
  #writing: Promise<void> = Promise.resolve();
  readonly #written: WrittenFile[] = [];

  /** `writer` and, when entries are staged, the stage at `stageAt` lie in the same memory. */
  private constructor(options: RunFilesOptions, writer: RunWriter, stageAt: number) {
    this.#options = options;
    this.#writer = writer;
    this.#memory = writer.memory;
    this.#stageAt = stageAt;
    this.#number = options.firstNumber;
  }

  /** For `stage`: in the data area of a memory with `runFilesBytes` free. */
  static staged(options: RunFilesOptions, memory: KernelMemory, size: RunWriterSize): RunFiles {
    const stageAt = memory.reserve(stageRoom);
    return new RunFiles(options, RunWriter.create(memory, size, options.seed), stageAt);
  }

  /** For `addSorted` alone: in the data area of a memory with `runWriterBytes` free. */
  static direct(options: RunFilesOptions, memory: KernelMemory, size: RunWriterSize): RunFiles {
    return new RunFiles(options, RunWriter.create(memory, size, options.seed), 0);
  }

  /** Takes one entry; true when `flush` is due before the next one. */
  stage(entry: EntryView): boolean {
    const from = this.#stageAt + this.#stageUsed;
    return this.#count(from, entry.writeTo(this.#memory.bytes, from) - from);
  }

  /** Takes a tombstone of an entry's key and time, in place of the entry. */
  stageTombstone(entry: EntryView): boolean {
    const { bytes } = this.#memory;
    const from = this.#stageAt + this.#stageUsed;
    const next = writeRecordHead(bytes, from, entryKinds.tombstone, entry.keyBytes, 0, 0, entry.timeMs);
    bytes.set(entry.bytes.subarray(entry.keyAt, entry.keyAt + entry.keyBytes), next);
    return this.#count(from, next + entry.keyBytes - from);
  }

  #count(from: number, bytes: number): boolean {
    this.#addresses[this.#staged++] = from;
    this.#stageUsed += bytes;
    return this.#staged === stageEntries || this.#stageUsed > stageRoom / 2;
  }

  /** Writes what was staged. */
  async flush(): Promise<void> {
    const staged = this.#staged;
    this.#staged = 0;
    this.#stageUsed = 0;
    if (staged > 0) await this.addSorted(this.#memory, this.#addresses, staged);
  }

  /** Writes the entries at `count` addresses of a memory, in key order. */
  async addSorted(source: KernelMemory, addresses: Uint32Array, count: number): Promise<void> {
    const writer = this.#writer;
    let taken = 0;
    while (taken < count) {
      if (this.#file === undefined) await this.#begin();
      const before = taken;
      taken += writer.addSorted(source, addresses, taken, count);
      if (writer.isFull || writer.dataBytes >= this.#options.fileBytesTarget) {
        if (writer.count === 0) throw new MillraceError("internal", "a run file that takes no entry");
        await this.#end();
      } else if (taken < count) {
        // What was drained before must be written before it is drained again.
        await this.#writing;
        const chunk = writer.drain();
        if (chunk.length === 0 && taken === before) throw new MillraceError("internal", "a run writer that takes no entry");
        this.#write(chunk);
      }
    }
  }

  /** Ends the last file; returns all of them. None when no entry came. */
  async finish(): Promise<readonly WrittenFile[]> {
    await this.flush();
    if (this.#file !== undefined) await this.#end();
    if (this.#written.length > 0) await this.#options.files.syncFolder(this.#options.folder);
    return this.#written;
  }

  /** Gives up: removes what was written. */
  async abandon(): Promise<void> {
    const { files, folder } = this.#options;
    await this.#writing.catch(() => undefined);
    const open = this.#file;
    this.#file = undefined;
    if (open !== undefined) {
      await open.file.close().catch(() => undefined);
      await files.remove(open.path).catch(() => false);
    }
    for (const { name } of this.#written) await files.remove(files.join(folder, name)).catch(() => false);
  }

  async #begin(): Promise<void> {
    const { files, folder, seed } = this.#options;
    for (;;) {
      const number = this.#number++;
      const name = runFileName(number);
      const path = files.join(folder, name);
      const file = await files.open(path, "create");
      if (file === undefined) continue;
      this.#file = { file, path, name, number };
      break;
    }
    this.#writer.reset(seed);
    this.#position = runHeaderBytes;
  }

  /** Begins a write; its failure comes out at the next one or at the end. */
  #write(chunk: Uint8Array): void {
    this.#writing = this.#file!.file.write(chunk, this.#position);
    this.#writing.catch(() => undefined);
    this.#position += chunk.length;
  }

  async #end(): Promise<void> {
    const writer = this.#writer;
    const { file, name, number } = this.#file!;
    await this.#writing;
    for (const chunk of writer.finish()) {
      this.#write(chunk);
      await this.#writing;
    }
    const header = writer.headerBytes;
    await file.write(header, 0);
    await file.sync();
    await file.close();
    this.#file = undefined;
    const { fileBytes, statistics } = writer.header;
    const { entries, tombstones } = statistics;
    this.#written.push({ name, number, bytes: fileBytes, headerCrc32c: new DataView(header.buffer).getUint32(runHeaderBytes - 4, true), entries, tombstones });
  }
}
