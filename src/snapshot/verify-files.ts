// Checks files against the sizes and checksums that their manifest names, in a thread of its own where there is one.
// Why a thread: a gigabyte is half a second of reads and checksums; on the thread that serves it would be taken from readers, in pieces or not.
// Invariants: 1. every byte is read from the file, whoever wrote it  2. without a thread nothing runs longer than a piece's checksum (0.1 ms).
// Cost: 0.2 s of CPU a gigabyte by the kernel (in TypeScript 1 to 2), and the reads. Limits: chunks of `chunkBytes`; one file at a time.

import { MillraceError, toMillraceError } from "#base/errors";
import { crc32cOf } from "#kernel/checksum";
import { KernelMemory, kernelMemoryLimits } from "#kernel/kernel-memory";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { moduleBeside } from "#platform/module-beside";
import type { Workers } from "#platform/workers";

export const verifyLimits = { chunkBytes: 1024 * 1024, pieceBytes: 512 * 1024 } as const;

export interface FileToVerify {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly crc32c: number;
}

export interface VerifyParts {
  readonly files: Files;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Bytes read so far. */
  readonly onProgress: (bytesDone: number) => void;
}

/** What the worker tells: bytes read so far, then the names that are bad. */
export type VerifyMessage = number | readonly string[];

const verifyWorker = moduleBeside("./verify-files.worker", import.meta.url);

/** Names of the files that are missing, have another size or another checksum. Throws `unavailable` for a disk that cannot be read, or the signal's reason. */
export async function verifyFiles(list: readonly FileToVerify[], parts: VerifyParts, workers?: Workers): Promise<readonly string[]> {
  return workers === undefined ? verifyHere(list, parts) : verifyInThread(list, parts, workers);
}

export async function verifyHere(list: readonly FileToVerify[], { files, clock, signal, onProgress }: VerifyParts): Promise<string[]> {
  const memory = KernelMemory.create({ dataBytes: verifyLimits.chunkBytes, laneBytes: kernelMemoryLimits.laneBytesMin });
  const chunkAt = memory.reserve(verifyLimits.chunkBytes);
  const bad: string[] = [];
  let done = 0;
  for (const { name, path, bytes, crc32c: wanted } of list) {
    const file = await files.open(path, "read");
    let crc = file === undefined || (await file.size()) !== bytes ? -1 : 0;
    for (let at = 0; at < bytes && crc !== -1 && file !== undefined;) {
      signal.throwIfAborted();
      const got = await file.read(memory.bytes.subarray(chunkAt, chunkAt + Math.min(verifyLimits.chunkBytes, bytes - at)), at);
      for (let from = 0; from < got; from += verifyLimits.pieceBytes) {
        crc = crc32cOf(memory, chunkAt + from, Math.min(got - from, verifyLimits.pieceBytes), crc);
        if (from + verifyLimits.pieceBytes < got) await clock.yield();
      }
      if (got === 0) crc = -1;
      at += got;
      onProgress(done + at);
    }
    await file?.close();
    if (crc !== wanted) bad.push(name);
    done += bytes;
  }
  return bad;
}

async function verifyInThread(list: readonly FileToVerify[], { signal, onProgress }: VerifyParts, workers: Workers): Promise<readonly string[]> {
  signal.throwIfAborted();
  const worker = workers.start(verifyWorker, list, "verify");
  const stop = (): void => void worker.stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    for (;;) {
      const message = (await worker.receive()) as VerifyMessage | undefined;
      signal.throwIfAborted();
      if (message === undefined) throw (await worker.failed) ?? new MillraceError("internal", "the verifying thread ended without an answer");
      if (typeof message !== "number") return message;
      onProgress(message);
    }
  } catch (thrown) {
    throw signal.aborted ? (signal.reason as Error) : toMillraceError(thrown);
  } finally {
    signal.removeEventListener("abort", stop);
    await worker.stop();
  }
}
