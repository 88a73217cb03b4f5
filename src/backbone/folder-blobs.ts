// Blobs in a folder. Contract: blobs.ts.
// Why a folder for each object: renaming a folder onto one that holds something fails on every POSIX file system, so publishing is atomic and never
// replaces, also between processes, and `a` and `a/b` can both be objects. Object `x/y` is the file `x/y@/bytes`; `@` is in no name.
// Invariants: 1. an object folder comes into its place whole, by one rename of synced bytes  2. `.tmp` holds what is being put or deleted; what a process
// that is gone left there is removed at the next first put.
// Cost: a put is 2 new names, 1 file sync and 3 folder syncs; a list reads the folders under the prefix and looks at each size.
// Limits: `blobLimits`.

import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import type { Processes } from "#platform/processes";
import { type BlobInfo, blobLimits, type Blobs, checkBlobName } from "./blobs.ts";

export interface FolderBlobsOptions {
  readonly files: Files;
  /** Where the objects lie. Made when missing. */
  readonly folder: string;
  /** Tells whose half-made objects may be removed; without it they stay. */
  readonly processes?: Processes;
}

const compareBytes = 256 * 1024;

/** Opens the objects in a folder. Nothing is read or made before the first call. */
export function openFolderBlobs(options: FolderBlobsOptions): Blobs {
  return new FolderBlobs(options);
}

class FolderBlobs implements Blobs {
  readonly #files: Files;
  readonly #folder: string;
  readonly #processes: Processes | undefined;
  #temporaries: Promise<string> | undefined;
  #temporaryCount = 0;

  constructor(options: FolderBlobsOptions) {
    this.#files = options.files;
    this.#folder = options.folder;
    this.#processes = options.processes;
  }

  async put(name: string, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<BlobInfo> {
    checkBlobName(name);
    const files = this.#files;
    const temporary = await this.#newTemporary();
    try {
      const size = await this.#fill(name, temporary.file, content);
      return await this.#place(name, temporary.path, size);
    } finally {
      await temporary.file.close();
      await files.removeFolder(temporary.path);
    }
  }

  pathOf(name: string): string {
    checkBlobName(name);
    return this.#bytesOf(name);
  }

  async putFile(name: string, path: string): Promise<BlobInfo> {
    checkBlobName(name);
    const files = this.#files;
    const size = await files.sizeOf(path);
    if (size === undefined) throw new MillraceError("not-found", `there is no file ${path} to store as blob ${name}`, { todo: "check the path" });
    this.#checkSize(name, size);
    const temporary = await this.#newTemporary();
    try {
      await temporary.file.close();
      const bytesPath = files.join(temporary.path, "bytes");
      await files.rename(path, bytesPath);
      const file = await files.open(bytesPath, "write");
      try {
        await file!.sync();
      } finally {
        await file!.close();
      }
      return await this.#place(name, temporary.path, size);
    } finally {
      await files.removeFolder(temporary.path);
    }
  }

  /** Brings a folder with its synced bytes to its place, or finds the same bytes there. */
  async #place(name: string, temporaryPath: string, size: number): Promise<BlobInfo> {
    const files = this.#files;
    const { parent, place } = this.#placeOf(name);
    if (!(await this.#isThere(place))) {
      await files.syncFolder(temporaryPath);
      await files.makeFolder(parent);
      try {
        await files.rename(temporaryPath, place);
        await files.syncFolder(parent);
        return { name, size };
      } catch (thrown) {
        // Somebody else was first: then it is a question of the bytes.
        if (!(await this.#isThere(place))) throw thrown;
      }
    }
    if (!(await this.#areEqual(files.join(temporaryPath, "bytes"), files.join(place, "bytes")))) {
      throw new MillraceError("conflict", `the blob ${name} exists with other bytes`, { todo: "objects never change: choose a new name" });
    }
    // Whoever put it may not have come as far as syncing the name.
    await files.syncFolder(parent);
    return { name, size };
  }

  async get(name: string, range?: { start: number; end: number }): Promise<Uint8Array | undefined> {
    checkBlobName(name);
    const { start, end } = range ?? { start: 0, end: Infinity };
    if (!Number.isSafeInteger(start) || start < 0 || Number.isNaN(end) || end < start) {
      throw new MillraceError("invalid", `the range ${start} to ${end} of blob ${name}`, { todo: "name a range with 0 <= start <= end" });
    }
    const file = await this.#files.open(this.#bytesOf(name), "read");
    if (file === undefined) return undefined;
    try {
      const length = Math.max(0, Math.min(end, await file.size()) - start);
      if (length > blobLimits.getBytesMax) {
        throw new MillraceError("invalid", `${length} bytes of blob ${name} at once`, { todo: `ask for ranges of at most ${blobLimits.getBytesMax} bytes` });
      }
      const bytes = new Uint8Array(length);
      const got = length === 0 ? 0 : await file.read(bytes, start);
      return bytes.subarray(0, got);
    } finally {
      await file.close();
    }
  }

  async info(name: string): Promise<BlobInfo | undefined> {
    checkBlobName(name);
    const size = await this.#files.sizeOf(this.#bytesOf(name));
    return size === undefined ? undefined : { name, size };
  }

  async list(prefix: string, page: { after?: string; limit?: number } = {}): Promise<BlobInfo[]> {
    const limit = Math.min(page.limit ?? blobLimits.listMax, blobLimits.listMax);
    const found: BlobInfo[] = [];
    await this.#listFolder(this.#folder, "", prefix, page.after ?? "", limit, found);
    return found;
  }

  async delete(name: string): Promise<boolean> {
    checkBlobName(name);
    const { parent, place } = this.#placeOf(name);
    if (!(await this.#isThere(place))) return false;
    const temporary = await this.#newTemporary();
    await temporary.file.close();
    const grave = this.#files.join(temporary.path, "deleted");
    try {
      await this.#files.rename(place, grave);
    } catch (thrown) {
      if (await this.#isThere(place)) throw thrown;
      return false;
    } finally {
      await this.#files.removeFolder(temporary.path);
    }
    await this.#files.syncFolder(parent);
    return true;
  }

  #placeOf(name: string): { parent: string; place: string } {
    const parts = name.split("/");
    const leaf = parts.pop()!;
    const parent = this.#files.join(this.#folder, ...parts);
    return { parent, place: this.#files.join(parent, `${leaf}@`) };
  }

  #bytesOf(name: string): string {
    return this.#files.join(this.#placeOf(name).place, "bytes");
  }

  async #isThere(place: string): Promise<boolean> {
    return (await this.#files.sizeOf(this.#files.join(place, "bytes"))) !== undefined;
  }

  #checkSize(name: string, size: number): void {
    if (size <= blobLimits.objectBytesMax) return;
    throw new MillraceError("invalid", `blob ${name} is larger than ${blobLimits.objectBytesMax} bytes`, { todo: "divide it into several objects" });
  }

  async #fill(name: string, file: OpenFile, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<number> {
    let size = 0;
    const add = async (bytes: Uint8Array): Promise<void> => {
      this.#checkSize(name, size + bytes.length);
      await file.write(bytes, size);
      size += bytes.length;
    };
    if (content instanceof Uint8Array) await add(content);
    else for await (const bytes of content) await add(bytes);
    await file.sync();
    return size;
  }

  /** A folder of our own in `.tmp` with an empty file `bytes`. */
  async #newTemporary(): Promise<{ path: string; file: OpenFile }> {
    this.#temporaries ??= this.#openTemporaries();
    const folder = await this.#temporaries;
    for (;;) {
      this.#temporaryCount += 1;
      const path = this.#files.join(folder, `${encodeURIComponent(this.#processes?.self ?? "")}.${this.#temporaryCount}`);
      await this.#files.makeFolder(path);
      const file = await this.#files.open(this.#files.join(path, "bytes"), "create");
      if (file !== undefined) return { path, file };
    }
  }

  async #openTemporaries(): Promise<string> {
    const folder = this.#files.join(this.#folder, ".tmp");
    await this.#files.makeFolder(folder);
    for (const name of (await this.#files.list(folder)) ?? []) {
      const owner = decodeURIComponent(name.slice(0, name.lastIndexOf(".")));
      if (owner !== "" && this.#processes?.isGone(owner) === true) await this.#files.removeFolder(this.#files.join(folder, name));
    }
    return folder;
  }

  async #areEqual(one: string, other: string): Promise<boolean> {
    const [a, b] = await Promise.all([this.#files.open(one, "read"), this.#files.open(other, "read")]);
    try {
      if (a === undefined || b === undefined || (await a.size()) !== (await b.size())) return false;
      const left = new Uint8Array(compareBytes);
      const right = new Uint8Array(compareBytes);
      for (let at = 0; ; at += compareBytes) {
        const [got] = await Promise.all([a.read(left, at), b.read(right, at)]);
        for (let index = 0; index < got; index += 1) if (left[index] !== right[index]) return false;
        if (got < compareBytes) return true;
      }
    } finally {
      await Promise.all([a?.close(), b?.close()]);
    }
  }

  /** Adds the objects under `path`, whose names begin with `begin`, in name order. */
  async #listFolder(path: string, begin: string, prefix: string, after: string, limit: number, found: BlobInfo[]): Promise<void> {
    const names = (await this.#files.list(path)) ?? [];
    // A folder sorts as its name with a slash, so that the objects under it come in the order of their whole names.
    const children = names
      .filter((name) => !name.startsWith("."))
      .map((name) => (name.endsWith("@") ? begin + name.slice(0, -1) : `${begin}${name}/`))
      .sort((a, b) => (a < b ? -1 : 1));
    for (const child of children) {
      if (found.length >= limit) return;
      if (!child.endsWith("/")) {
        if (!child.startsWith(prefix) || child <= after) continue;
        const size = await this.#files.sizeOf(this.#bytesOf(child));
        if (size !== undefined) found.push({ name: child, size });
        continue;
      }
      const maybeUnder = child.startsWith(prefix) || prefix.startsWith(child);
      if (!maybeUnder || (after > child && !after.startsWith(child))) continue;
      await this.#listFolder(this.#files.join(path, child.slice(begin.length, -1)), child, prefix, after, limit, found);
    }
  }
}
