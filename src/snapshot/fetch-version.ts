// Brings the files of a version into a folder of this machine: resumable, bounded, every byte checked.
//   FOLDER/VERSION/files/FILE        whole and checked
//   FOLDER/VERSION/files/FILE~       what has come so far of a file (no file's name has a tilde)
//   FOLDER/VERSION/manifest          last: with it the version is whole
// Why the files' checksums are taken over the bytes as they come and not read back: what was written is read again, and checked, whenever it was written by an
// earlier process (`fetchVersion` finds the files there).
// Invariants: 1. a file gets its name after its checksum agreed and its bytes are synced; the manifest comes after every file's name is synced  2. what is
// found of an earlier attempt is read and checked before it counts  3. nothing runs longer than a piece's checksum (0.3 ms) without letting others on.
// Cost: one read of the blobs, one checksum, one write. Resuming reads what is there once more.
// Limits: `fetchLimits`; a fetch never takes more disk than the version's bytes.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Files, OpenFile } from "#platform/files";
import { encodeManifest, type Manifest, manifestBytes, manifestTodo, type SnapshotFile, versionText } from "./manifest.ts";

export const fetchLimits = { chunkBytes: 1024 * 1024, pieceBytes: 256 * 1024 } as const;

/** A file of a version on this machine. */
export interface FetchedFile extends SnapshotFile {
  readonly path: string;
}

export interface FetchParts {
  readonly files: Files;
  readonly clock: Clock;
  /** The follower's own. */
  readonly folder: string;
  readonly manifest: Manifest;
  readonly read: (file: SnapshotFile, start: number, end: number) => Promise<Uint8Array>;
  readonly signal: AbortSignal;
  /** Files of a finished fetch (the manifest is there) count by their size alone. */
  readonly trustFinished: boolean;
  /** Bytes that are there and checked, of all. */
  readonly onProgress: (bytesDone: number, bytesAll: number) => void;
  /** At most so much a second from the blobs; default: no limit. */
  readonly bytesPerSecondMax?: number;
}

/** Fetches what is missing. Throws `corrupt` when the bytes do not agree with the manifest, `unavailable` for a disk that cannot, or the signal's reason. */
export async function fetchVersion(parts: FetchParts): Promise<FetchedFile[]> {
  const { files, folder, manifest } = parts;
  const place = files.join(folder, manifest.version);
  const filesFolder = files.join(place, "files");
  await files.makeFolder(filesFolder);
  const manifestPath = files.join(place, "manifest");
  const manifestContent = encodeManifest(manifest);
  const finished = await isFinished(files, manifestPath, manifestContent);
  const pace = new Pace(parts.clock, parts.bytesPerSecondMax ?? Infinity);
  const bytesAll = manifestBytes(manifest);
  let done = 0;
  const onBytes = (bytes: number): void => parts.onProgress((done += bytes), bytesAll);
  const fetched: FetchedFile[] = [];
  for (const file of manifest.files) {
    parts.signal.throwIfAborted();
    const path = files.join(filesFolder, file.name);
    if (finished && parts.trustFinished && (await files.sizeOf(path)) === file.bytes) onBytes(file.bytes);
    else await fetchFile(parts, file, path, pace, onBytes);
    fetched.push({ ...file, path });
  }
  await files.syncFolder(filesFolder);
  if (!finished) await files.writeFileAtomic(manifestPath, manifestContent);
  return fetched;
}

async function isFinished(files: Files, path: string, content: Uint8Array): Promise<boolean> {
  const found = await files.readFile(path);
  return found !== undefined && found.length === content.length && found.every((byte, at) => byte === content[at]);
}

async function fetchFile(parts: FetchParts, file: SnapshotFile, path: string, pace: Pace, onBytes: (bytes: number) => void): Promise<void> {
  const { files, manifest, signal } = parts;
  if (await isWhole(parts, file, path)) return onBytes(file.bytes);
  const partPath = `${path}~`;
  // A second attempt begins at the front: the first may have gone on from bytes that a crash had torn.
  for (let attempt = 1; ; attempt += 1) {
    if (attempt > 1) await files.remove(partPath);
    const part = (await files.open(partPath, "write"))!;
    let taken = 0;
    try {
      let { at, crc } = await resumeAt(parts, part, file);
      onBytes((taken = at));
      while (at < file.bytes) {
        const end = Math.min(file.bytes, at + fetchLimits.chunkBytes);
        await pace.wait(end - at, signal);
        const chunk = await parts.read(file, at, end);
        crc = await crcInPieces(parts.clock, chunk, crc);
        await part.write(chunk, at);
        signal.throwIfAborted();
        onBytes(end - at);
        taken += end - at;
        at = end;
      }
      if (crc === file.crc32c) {
        await part.sync();
        break;
      }
      if (attempt === 2) {
        throw new MillraceError("corrupt", `file ${file.name} of ${versionText(manifest)}: its checksum does not agree`, { todo: manifestTodo });
      }
      onBytes(-taken);
    } finally {
      await part.close();
    }
  }
  await files.rename(partPath, path);
}

/** Is the file there, with every byte right? One that is not is removed. */
async function isWhole(parts: FetchParts, file: SnapshotFile, path: string): Promise<boolean> {
  const { files } = parts;
  const size = await files.sizeOf(path);
  if (size === undefined) return false;
  if (size === file.bytes) {
    const open = await files.open(path, "read");
    if (open !== undefined) {
      try {
        if ((await crcOf(parts, open, size)) === file.crc32c) return true;
      } finally {
        await open.close();
      }
    }
  }
  await files.remove(path);
  return false;
}

/** How much of a part is there, and its checksum. */
async function resumeAt(parts: FetchParts, part: OpenFile, file: SnapshotFile): Promise<{ at: number; crc: number }> {
  const size = await part.size();
  if (size > file.bytes) await part.truncate(0);
  const at = size > file.bytes ? 0 : size;
  return { at, crc: await crcOf(parts, part, at) };
}

async function crcOf(parts: FetchParts, file: OpenFile, bytes: number): Promise<number> {
  const buffer = new Uint8Array(Math.min(bytes, fetchLimits.chunkBytes));
  let crc = 0;
  for (let at = 0; at < bytes;) {
    parts.signal.throwIfAborted();
    const got = await file.read(buffer.subarray(0, Math.min(buffer.length, bytes - at)), at);
    if (got === 0) return -1;
    crc = await crcInPieces(parts.clock, buffer.subarray(0, got), crc);
    at += got;
  }
  return crc;
}

async function crcInPieces(clock: Clock, bytes: Uint8Array, seed: number): Promise<number> {
  let crc = seed;
  for (let from = 0; from < bytes.length; from += fetchLimits.pieceBytes) {
    crc = crc32c(bytes, crc, from, Math.min(bytes.length, from + fetchLimits.pieceBytes));
    if (from + fetchLimits.pieceBytes < bytes.length) await clock.yield();
  }
  return crc;
}

/** Holds a transfer to so many bytes a second, averaged from its begin. */
class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecondMax: number;
  readonly #beganMs: number;
  #bytes = 0;

  constructor(clock: Clock, bytesPerSecondMax: number) {
    this.#clock = clock;
    this.#bytesPerSecondMax = bytesPerSecondMax;
    this.#beganMs = clock.monotonicMs();
  }

  async wait(bytes: number, signal: AbortSignal): Promise<void> {
    const dueMs = this.#beganMs + (this.#bytes / this.#bytesPerSecondMax) * 1000;
    this.#bytes += bytes;
    const waitMs = dueMs - this.#clock.monotonicMs();
    if (waitMs > 0) await this.#clock.sleep(waitMs, signal);
  }
}
