// Brings the files of a version to this machine: resumable, bounded, every byte checked.
//   FOLDER/VERSION/files/FILE        whole
//   FOLDER/VERSION/files/FILE~       what has come so far of a file (no file's name has a tilde)
//   FOLDER/VERSION/manifest          last: every file that was wanted then was there and right
// Where the blobs are files of this machine they are read in place: nothing is copied, and FOLDER/VERSION holds the manifest alone.
// Invariants: 1. what is returned was checked, byte by byte, as it lies on the disk (verify-files.ts); with `loadVerifies` the loader does that, and here only what was
// copied is checked once, before its manifest is put  2. a file that is wrong is fetched again once; then the blobs hold other bytes than the manifest says, which is `corrupt`
// 3. the manifest comes after every file's bytes and name are synced.
// Cost: one read of the blobs and one write a byte, none in place; one read more to check, in place with `loadVerifies` none. Limits: `fetchLimits`; never more disk than the version's bytes.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { Workers } from "#platform/workers";
import { encodeManifest, type Manifest, manifestTodo, bytesOf, type SnapshotFile, versionText } from "./manifest.ts";
import { verifyFiles } from "./verify-files.ts";

export const fetchLimits = { chunkBytes: 1024 * 1024 } as const;

/** A file of a version on this machine. */
export interface FetchedFile extends SnapshotFile {
  readonly path: string;
}

export type FetchStage = "fetching" | "verifying";

export interface FetchParts {
  readonly files: Files;
  readonly clock: Clock;
  /** The follower's own. */
  readonly folder: string;
  readonly manifest: Manifest;
  /** Which of its files are wanted here. */
  readonly wants: (file: SnapshotFile) => boolean;
  readonly read: (file: SnapshotFile, start: number, end: number) => Promise<Uint8Array>;
  /** Where the blob of a file lies on this machine, if it does. */
  readonly pathOf: (file: SnapshotFile) => string | undefined;
  readonly signal: AbortSignal;
  /** Checksums are taken in a thread; without it here, in pieces. */
  readonly workers?: Workers;
  /** Whoever loads the files compares every byte with the manifest: files of a finished fetch (the manifest is there) and files in place then count by their size. */
  readonly loadVerifies: boolean;
  readonly onProgress: (stage: FetchStage, bytesDone: number, bytesAll: number) => void;
  /** At most so much a second from the blobs; default: no limit. */
  readonly bytesPerSecondMax?: number;
}

/** Fetches what is missing and checks all of it. Throws `corrupt` when the bytes do not agree with the manifest, `unavailable` for a disk that cannot, or the
 * signal's reason. */
export async function fetchVersion(parts: FetchParts): Promise<FetchedFile[]> {
  const { files, folder, manifest, signal } = parts;
  const place = files.join(folder, manifest.version);
  const filesFolder = files.join(place, "files");
  const manifestPath = files.join(place, "manifest");
  const manifestContent = encodeManifest(manifest);
  await files.makeFolder(filesFolder);
  const finished = await isFinished(files, manifestPath, manifestContent);

  const pace = new Pace(parts.clock, parts.bytesPerSecondMax ?? Infinity);
  const fetched: FetchedFile[] = manifest.files
    .filter(parts.wants)
    .map((file) => ({ ...file, path: parts.pathOf(file) ?? files.join(filesFolder, file.name) }));
  const bytesAll = bytesOf(fetched);
  const fetchAll = async (): Promise<void> => {
    let done = 0;
    const onBytes = (bytes: number): void => parts.onProgress("fetching", (done += bytes), bytesAll);
    for (const file of fetched) {
      signal.throwIfAborted();
      if (parts.pathOf(file) === undefined) await fetchFile(parts, file, pace, onBytes);
      else onBytes(file.bytes);
    }
    await files.syncFolder(filesFolder);
  };
  const verify = (list: readonly FetchedFile[]): Promise<readonly string[]> => {
    const onProgress = (bytesDone: number): void => parts.onProgress("verifying", bytesDone, bytesAll);
    if (list.length === 0) return Promise.resolve([]);
    onProgress(0);
    return verifyFiles(list, { ...parts, onProgress }, parts.workers);
  };

  if (finished && parts.loadVerifies && (await sizesAgree(files, fetched))) return fetched;
  await fetchAll();
  // In place nothing could be fetched again, so nothing is gained by looking before the loader does.
  let bad = await verify(parts.loadVerifies ? fetched.filter((file) => parts.pathOf(file) === undefined) : fetched);
  if (bad.length > 0) {
    // A disk that decayed, or a part that a crash had torn: once more from the front.
    const again = fetched.filter(({ name }) => bad.includes(name));
    for (const file of again) if (parts.pathOf(file) === undefined) await files.remove(file.path);
    await fetchAll();
    bad = await verify(again);
  }
  if (bad.length > 0) {
    const shown = bad.slice(0, 3).join(", ") + (bad.length > 3 ? ` and ${bad.length - 3} more` : "");
    throw new MillraceError("corrupt", `${versionText(manifest)}: the size or checksum of ${shown} does not agree`, { todo: manifestTodo });
  }
  if (!finished) await files.writeFileAtomic(manifestPath, manifestContent);
  return fetched;
}

async function isFinished(files: Files, path: string, content: Uint8Array): Promise<boolean> {
  const found = await files.readFile(path);
  return found !== undefined && found.length === content.length && found.every((byte, at) => byte === content[at]);
}

async function sizesAgree(files: Files, list: readonly FetchedFile[]): Promise<boolean> {
  for (const { path, bytes } of list) if ((await files.sizeOf(path)) !== bytes) return false;
  return true;
}

/** Brings one file to its path, going on where an earlier attempt ended. */
async function fetchFile(parts: FetchParts, file: FetchedFile, pace: Pace, onBytes: (bytes: number) => void): Promise<void> {
  const { files, signal } = parts;
  const size = await files.sizeOf(file.path);
  if (size === file.bytes) return onBytes(size);
  if (size !== undefined) await files.remove(file.path);
  const partPath = `${file.path}~`;
  const part = (await files.open(partPath, "write"))!;
  try {
    let at = await part.size();
    if (at > file.bytes) await part.truncate((at = 0));
    onBytes(at);
    while (at < file.bytes) {
      const end = Math.min(file.bytes, at + fetchLimits.chunkBytes);
      await pace.wait(end - at, signal);
      const chunk = await parts.read(file, at, end);
      signal.throwIfAborted();
      await part.write(chunk, at);
      onBytes(end - at);
      at = end;
    }
    await part.sync();
  } finally {
    await part.close();
  }
  await files.rename(partPath, file.path);
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
