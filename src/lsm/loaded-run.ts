// Runs as they are served: files read into pooled memories and verified.
// Invariant: files of a run stand in key order and do not overlap.

import { MillraceError } from "#base/errors";
import { compareBytes } from "#kernel/entry-record";
import { blockBytes } from "#kernel/entry-layout";
import { runHeaderBytes } from "#kernel/run-format";
import { RunImage } from "#kernel/run-image";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { ManifestFile } from "./manifest.ts";
import { tableLaneBytes, tableLanes } from "./write-table.ts";

/** Bytes of one read, verified while they are in the cache. Several are under way at once; each holds a thread for some 0.2 ms. */
const pieceBytes = 128 * blockBytes;
const piecesAtOnce = 4;
/** Blocks verified between two turns of the loop: about 0.15 ms. */
const verifyBlocks = 128;
/** Checksums of blocks joined between two turns. */
const joinedBlocks = 4_096;
const headerCrcAt = 4_092;

export interface LoadedFile {
  readonly listed: ManifestFile;
  /** Its number among the sources of a look-up. */
  readonly source: number;
  readonly lease: MemoryLease;
  readonly image: RunImage;
}

export interface LoadedRun {
  /** Tells runs apart while others come and go. */
  readonly id: number;
  readonly level: number;
  readonly files: readonly LoadedFile[];
}

/** A memory for the bytes of a run file and the address for them. Throws `overloaded` when the pool has no room. */
export function leaseForRun(pool: MemoryPool, owner: string, bytes: number): { lease: MemoryLease; at: number } {
  const lease = pool.lease({ owner, dataBytes: bytes + 64, lanes: tableLanes, laneBytes: tableLaneBytes });
  return { lease, at: lease.memory.reserve(bytes) };
}

export interface RunToLoad {
  readonly path: string;
  readonly bytes: number;
  /** CRC32C of the header, as whoever listed the file has it. Undefined: not known. */
  readonly headerCrc32c: number | undefined;
  /** CRC32C of the whole file, likewise. */
  readonly crc32c?: number;
}

/**
 * Reads a run file to `at` of a memory and verifies every byte, each once. Throws `corrupt` when it is missing, of another size, damaged or another file.
 * Yields the loop between slices of 0.15 ms; `onRead` is told of bytes as they come.
 */
export async function readRun(
  files: Files,
  clock: Clock,
  run: RunToLoad,
  memory: KernelMemory,
  at: number,
  onRead?: (bytes: number) => void,
): Promise<RunImage> {
  const bad = (why: string, cause?: unknown): MillraceError =>
    new MillraceError("corrupt", `run file ${run.path} ${why}`, { cause, todo: "check the disk, and restore this file from a backup; nothing was changed" });
  const checked = <T>(look: () => T): T => {
    try {
      return look();
    } catch (thrown) {
      throw thrown instanceof MillraceError && thrown.code === "corrupt" ? bad("is damaged", thrown) : thrown;
    }
  };
  const file = await files.open(run.path, "read");
  if (file === undefined) throw bad("is missing");
  try {
    const size = await file.size();
    if (size !== run.bytes) throw bad(`has ${size} bytes instead of ${run.bytes}`);
    const read = async (from: number, end: number): Promise<void> => {
      const got = await file.read(memory.bytes.subarray(at + from, at + end), from);
      if (got !== end - from) throw bad(`ends at byte ${from + got}`);
      onRead?.(got);
    };
    await read(0, runHeaderBytes);
    if (run.headerCrc32c !== undefined && memory.u32[(at + headerCrcAt) / 4] !== run.headerCrc32c) throw bad("is not the file that was listed");
    const image = checked(() => RunImage.attach(memory, at, run.bytes));
    // The checksums first: the header names theirs, they name those of all blocks, and together they are the checksum of the whole file.
    await read(image.header.checksFrom, size);
    checked(() => image.verify(0, 0));
    if (run.crc32c !== undefined) {
      let sum = 0;
      for (let block = 0; block <= image.blocks; block += joinedBlocks) {
        sum = image.checksumOf(sum, block, Math.min(image.blocks + 1, block + joinedBlocks));
        await clock.yield();
      }
      if (sum !== run.crc32c) throw bad("is not the file that was listed");
    }
    let next = runHeaderBytes;
    const reader = async (): Promise<void> => {
      while (next < image.header.checksFrom) {
        const from = next;
        const end = Math.min(image.header.checksFrom, from + pieceBytes);
        next = end;
        await read(from, end);
        const toBlock = end / blockBytes - 1;
        for (let block = from / blockBytes - 1; block < toBlock; block += verifyBlocks) {
          checked(() => image.verify(block, Math.min(toBlock, block + verifyBlocks)));
          await clock.yield();
        }
      }
    };
    const ends = await Promise.allSettled(Array.from({ length: piecesAtOnce }, reader));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
    return image;
  } finally {
    await file.close();
  }
}

/** Bytes, entries and tombstones of all files of a run. */
export function sumsOfRun(run: LoadedRun): { bytes: number; entries: number; tombstones: number } {
  const sums = { bytes: 0, entries: 0, tombstones: 0 };
  for (const { listed } of run.files) {
    sums.bytes += listed.bytes;
    sums.entries += listed.entries;
    sums.tombstones += listed.tombstones;
  }
  return sums;
}

/** Index of the first file that may hold a key >= `key`; `files.length` when none does. */
export function fileFrom(files: readonly { readonly image: RunImage }[], key: Uint8Array): number {
  let low = 0;
  let high = files.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { maxKey } = files[middle]!.image;
    if (compareBytes(maxKey, 0, maxKey.length, key, 0, key.length) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the last file that may hold a key < `key`; -1 when none does. */
export function fileBefore(files: readonly { readonly image: RunImage }[], key: Uint8Array): number {
  let low = -1;
  let high = files.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    const { minKey } = files[middle]!.image;
    if (compareBytes(minKey, 0, minKey.length, key, 0, key.length) < 0) low = middle;
    else high = middle - 1;
  }
  return low;
}
