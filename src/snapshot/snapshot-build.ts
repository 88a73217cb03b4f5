// A version that is being made: its files go into the blobs one by one, then it is published. `SnapshotStore.begin` gives one out.
// Invariants: 1. checksums are taken over the bytes as they pass, or believed of a builder that took them (every reader checks)  2. after a publish that
// succeeded or was refused, nothing can be added.
// Cost: a checksum (1 ms a MiB) and a copy of what is `put`; `putFile` moves a finished file where it can. Concurrency: one process builds a version, its files
// in any order and several at once. Limits: manifestLimits.

import { crc32c } from "#base/crc32c";
import { MillraceError, toMillraceError } from "#base/errors";
import type { Blobs } from "#backbone/blobs";
import type { Lease } from "#backbone/registry";
import { streamFile } from "#platform/file-stream";
import type { Files } from "#platform/files";
import { type Manifest, manifestLimits, type SnapshotFile } from "./manifest.ts";
import type { StatisticCheck } from "./statistic-checks.ts";
import { checkFileName } from "./version.ts";

/** Bytes handed to the blobs at once: a checksum of them takes some 0.3 ms. */
const pieceBytes = 256 * 1024;

export interface PublishParts {
  readonly statistics: Readonly<Record<string, number>>;
  readonly meta: unknown;
}

export interface PublishOptions {
  /** Default: `defaultChecks`. An empty list checks nothing. */
  readonly checks?: readonly StatisticCheck[];
  /** Further checks: reasons why the version is bad. */
  readonly validate?: (manifest: Manifest, live: Manifest | undefined) => Promise<readonly string[]> | readonly string[];
  /** False: publish, and wait for `goLive`. Default true. */
  readonly live?: boolean;
}

/** A version that is being made. */
export interface Build {
  readonly kind: string;
  readonly name: string;
  readonly version: string;
  /** Bytes put so far. */
  readonly bytesDone: number;
  readonly files: readonly SnapshotFile[];
  /** Stores a file; several at once are fine. Content that comes in pieces is checksummed as it passes. */
  put(file: string, content: Uint8Array | AsyncIterable<Uint8Array>, rows?: number): Promise<SnapshotFile>;
  /** Takes a finished local file whose size and checksum the builder knows: moved where the blobs are files of this machine, else copied. The file at `path` is gone
   * afterwards. The checksum is believed here and checked by everyone who loads the version. */
  putFile(file: SnapshotFile, files: Files, path: string): Promise<SnapshotFile>;
  /** Takes a file that an earlier attempt at this version has put; false when it is not there in this size. */
  keep(file: SnapshotFile): Promise<boolean>;
  /** Validates, puts the manifest, moves the head. Throws `invalid` with the reasons for a version that its checks refuse (it is kept as refused), `conflict` when a
   * later version is live already (it is staged) or the build was taken for abandoned: the build is over then. After `unavailable`, `timeout` and `overloaded` it may be
   * called again. */
  publish(parts: PublishParts, options?: PublishOptions): Promise<Manifest>;
  /** Gives up; its files are removed. */
  abandon(): Promise<void>;
}

/** What a build needs of its store. */
export interface Publisher {
  readonly kind: string;
  publish(name: string, version: string, files: readonly SnapshotFile[], lease: Lease, parts: PublishParts, options: PublishOptions): Promise<Manifest>;
  discard(name: string, version: string): Promise<void>;
}

export interface BuildParts {
  readonly publisher: Publisher;
  readonly name: string;
  readonly version: string;
  readonly lease: Lease;
  readonly blobs: Blobs;
  readonly place: (file: string) => string;
}

export class StoredBuild implements Build {
  readonly kind: string;
  readonly name: string;
  readonly version: string;
  readonly #publisher: Publisher;
  readonly #parts: BuildParts;
  readonly #files = new Map<string, SnapshotFile>();
  #bytesDone = 0;
  #over = false;

  constructor(parts: BuildParts) {
    this.#publisher = parts.publisher;
    this.#parts = parts;
    this.kind = parts.publisher.kind;
    this.name = parts.name;
    this.version = parts.version;
  }

  get bytesDone(): number {
    return this.#bytesDone;
  }

  get files(): readonly SnapshotFile[] {
    return [...this.#files.values()];
  }

  async put(file: string, content: Uint8Array | AsyncIterable<Uint8Array>, rows?: number): Promise<SnapshotFile> {
    this.#checkOpen(file);
    let bytes = 0;
    let crc = 0;
    const checked = async function* (build: StoredBuild): AsyncGenerator<Uint8Array, void, void> {
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        for (let from = 0; from < piece.length; from += pieceBytes) {
          const part = piece.subarray(from, from + pieceBytes);
          crc = crc32c(part, crc);
          bytes += part.length;
          yield part;
          build.#bytesDone += part.length;
        }
      }
    };
    await this.#parts.blobs.put(this.#parts.place(file), checked(this));
    return this.#add({ name: file, bytes, crc32c: crc, ...(rows === undefined ? {} : { rows }) });
  }

  async putFile(file: SnapshotFile, files: Files, path: string): Promise<SnapshotFile> {
    this.#checkOpen(file.name);
    const { blobs, place } = this.#parts;
    const size = await files.sizeOf(path);
    if (size !== file.bytes) {
      throw new MillraceError("invalid", `file ${file.name} of ${this.name} has ${size ?? "no"} bytes at ${path}, not ${file.bytes}`, {
        todo: "finish and close it first",
      });
    }
    if (blobs.putFile === undefined) {
      await blobs.put(place(file.name), streamFile(files, path, { chunkBytes: pieceBytes }));
      await files.remove(path);
    } else await blobs.putFile(place(file.name), path);
    this.#bytesDone += file.bytes;
    return this.#add(file);
  }

  async keep(file: SnapshotFile): Promise<boolean> {
    this.#checkOpen(file.name);
    const info = await this.#parts.blobs.info(this.#parts.place(file.name));
    if (info?.size !== file.bytes) return false;
    this.#bytesDone += file.bytes;
    this.#add(file);
    return true;
  }

  #add(file: SnapshotFile): SnapshotFile {
    this.#files.set(file.name, file);
    return file;
  }

  async publish(parts: PublishParts, options: PublishOptions = {}): Promise<Manifest> {
    this.#checkOpen();
    this.#over = true;
    try {
      return await this.#publisher.publish(this.name, this.version, this.files, this.#parts.lease, parts, options);
    } catch (thrown) {
      // What may succeed later may be tried again: the move of a head that has it already changes nothing.
      this.#over = !toMillraceError(thrown).retryable;
      throw thrown;
    } finally {
      if (this.#over) await this.#parts.lease.end().catch(() => undefined);
    }
  }

  async abandon(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    try {
      await this.#publisher.discard(this.name, this.version);
    } finally {
      await this.#parts.lease.end().catch(() => undefined);
    }
  }

  #checkOpen(file?: string): void {
    if (file !== undefined) {
      checkFileName(file);
      if (this.#files.size >= manifestLimits.filesMax && !this.#files.has(file)) {
        throw new MillraceError("invalid", `more than ${manifestLimits.filesMax} files in a version`, { todo: "make larger ones" });
      }
    }
    if (this.#over) throw new MillraceError("invalid", `the build of ${this.kind}/${this.name} ${this.version} is over`, { todo: "begin a new one" });
  }
}
