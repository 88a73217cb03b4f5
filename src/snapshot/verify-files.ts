// Checks files against the sizes and checksums that their manifest names, in a thread of its own where there is one.
// Why a thread: a gigabyte takes a second of checksums; on the thread that serves it would be a second taken from readers, in pieces or not.
// Invariants: 1. every byte is read from the file, whoever wrote it  2. without a thread nothing runs longer than a piece's checksum (0.3 ms).
// Cost: 0.9 to 1.1 s of CPU a gigabyte, and the reads. Limits: chunks of `chunkBytes`; one file at a time.

import { crc32c } from "#base/crc32c";
import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { moduleBeside } from "#platform/module-beside";
import type { Workers } from "#platform/workers";

export const verifyLimits = { chunkBytes: 1024 * 1024, pieceBytes: 256 * 1024 } as const;

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
  const buffer = new Uint8Array(verifyLimits.chunkBytes);
  const bad: string[] = [];
  let done = 0;
  for (const { name, path, bytes, crc32c: wanted } of list) {
    const file = await files.open(path, "read");
    let crc = file === undefined || (await file.size()) !== bytes ? -1 : 0;
    for (let at = 0; at < bytes && crc !== -1 && file !== undefined;) {
      signal.throwIfAborted();
      const got = await file.read(buffer.subarray(0, Math.min(buffer.length, bytes - at)), at);
      for (let from = 0; from < got; from += verifyLimits.pieceBytes) {
        crc = crc32c(buffer, crc, from, Math.min(got, from + verifyLimits.pieceBytes));
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
