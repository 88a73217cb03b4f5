// The machine's file system. See files.ts for the contract.
// Cost: every call is one trip through libuv's thread pool (about 20-60 us); the serving loop never blocks on a disk.
// `threadFiles` reads in the calling thread instead: the pool's threads have the priority of the process, so that reads of a thread that shall stand back
// (workers.ts, `niceness`) would not stand back with it; after each read it gives way. Only for threads that nobody waits for.
// `promptFiles` writes a little in the calling thread, as long as the disk takes it at once (prompt-writes.ts): for the log of a thread whose writes somebody waits for.

import { constants, readSync, writeSync } from "node:fs";
import { type FileHandle, mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { threadId } from "node:worker_threads";
import { MillraceError } from "#base/errors";
import { giveWay } from "./be-nicer.ts";
import { refusedByFileSystem } from "./file-errors.ts";
import type { Files, OpenFile } from "./files.ts";
import { PromptWrites } from "./prompt-writes.ts";
import { replaceFile } from "./replace-file.ts";

const absent = new Set(["ENOENT", "ENOTDIR"]);

function codeOf(thrown: unknown): string {
  return (thrown as NodeJS.ErrnoException).code ?? "";
}

function refused(action: string, path: string, thrown: unknown): MillraceError {
  return refusedByFileSystem(action, path, codeOf(thrown), thrown);
}

/** What of a file is done in the calling thread. */
interface CallingThread {
  readonly readsHere?: boolean;
  readonly prompt?: PromptWrites;
}

class SystemFile implements OpenFile {
  readonly #handle: FileHandle;
  readonly #path: string;
  readonly #readsHere: boolean;
  readonly #prompt: PromptWrites | undefined;

  constructor(handle: FileHandle, path: string, { readsHere, prompt }: CallingThread) {
    this.#handle = handle;
    this.#path = path;
    this.#readsHere = readsHere ?? false;
    this.#prompt = prompt;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    try {
      let done = this.#writtenHere(bytes, position);
      while (done < bytes.length) {
        const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, position + done);
        done += bytesWritten;
      }
    } catch (thrown) {
      throw refused("write", this.#path, thrown);
    }
  }

  /** Writes in the calling thread where that is allowed; returns how many bytes. A closed file is refused by the other way. */
  #writtenHere(bytes: Uint8Array, position: number): number {
    const prompt = this.#prompt;
    if (prompt === undefined || this.#handle.fd < 0) return 0;
    const fromMs = performance.now();
    if (!prompt.allows(bytes.length, fromMs)) return 0;
    const done = writeSync(this.#handle.fd, bytes, 0, bytes.length, position);
    prompt.took(fromMs, performance.now());
    return done;
  }

  async writeAll(parts: readonly Uint8Array[], position: number): Promise<void> {
    const total = parts.reduce((sum, part) => sum + part.length, 0);
    let written: number;
    try {
      written = (await this.#handle.writev(parts as Uint8Array[], position)).bytesWritten;
    } catch (thrown) {
      throw refused("write", this.#path, thrown);
    }
    if (written === total) return;
    // A short writev is rare (signal, nearly full disk): write the rest part by part.
    let start = 0;
    for (const part of parts) {
      const from = Math.max(0, written - start);
      if (from < part.length) await this.write(part.subarray(from), position + start + from);
      start += part.length;
    }
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    try {
      let done = 0;
      while (done < into.length) {
        const length = into.length - done;
        // A closed one is refused by the other.
        const bytesRead =
          this.#readsHere && this.#handle.fd >= 0
            ? readSync(this.#handle.fd, into, done, length, position + done)
            : (await this.#handle.read(into, done, length, position + done)).bytesRead;
        if (bytesRead === 0) break;
        done += bytesRead;
        if (this.#readsHere) giveWay();
      }
      return done;
    } catch (thrown) {
      throw refused("read", this.#path, thrown);
    }
  }

  async size(): Promise<number> {
    try {
      return (await this.#handle.stat()).size;
    } catch (thrown) {
      throw refused("look at", this.#path, thrown);
    }
  }

  async truncate(size: number): Promise<void> {
    try {
      await this.#handle.truncate(size);
    } catch (thrown) {
      throw refused("truncate", this.#path, thrown);
    }
  }

  async sync(): Promise<void> {
    try {
      await this.#handle.datasync();
    } catch (thrown) {
      throw refused("sync", this.#path, thrown);
    }
  }

  async close(): Promise<void> {
    try {
      await this.#handle.close();
    } catch (thrown) {
      throw refused("close", this.#path, thrown);
    }
  }
}

const openFlags = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR | constants.O_CREAT,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
} as const;

/** Of this thread: each has its own copy of this module. */
let temporaryCount = 0;

async function openFile(path: string, mode: "read" | "write" | "create", here: CallingThread): Promise<OpenFile | undefined> {
  try {
    return new SystemFile(await open(path, openFlags[mode], 0o644), path, here);
  } catch (thrown) {
    const code = codeOf(thrown);
    if (mode === "read" && absent.has(code)) return undefined;
    if (mode === "create" && code === "EEXIST") return undefined;
    throw refused("open", path, thrown);
  }
}

export const systemFiles: Files = {
  open: (path, mode) => openFile(path, mode, {}),

  async readFile(path) {
    try {
      const bytes = await readFile(path);
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    } catch (thrown) {
      if (absent.has(codeOf(thrown))) return undefined;
      throw refused("read", path, thrown);
    }
  },

  async writeFileAtomic(path, bytes) {
    temporaryCount += 1;
    await replaceFile(systemFiles, path, `${path}.tmp-${process.pid}-${threadId}-${temporaryCount}`, bytes);
  },

  async list(folder) {
    try {
      return (await readdir(folder)).sort();
    } catch (thrown) {
      if (absent.has(codeOf(thrown))) return undefined;
      throw refused("list", folder, thrown);
    }
  },

  async sizeOf(path) {
    try {
      const found = await stat(path);
      return found.isFile() ? found.size : undefined;
    } catch (thrown) {
      if (absent.has(codeOf(thrown))) return undefined;
      throw refused("look at", path, thrown);
    }
  },

  async rename(from, to) {
    try {
      await rename(from, to);
    } catch (thrown) {
      throw refused("rename", from, thrown);
    }
  },

  async remove(path) {
    try {
      await unlink(path);
      return true;
    } catch (thrown) {
      if (absent.has(codeOf(thrown))) return false;
      throw refused("remove", path, thrown);
    }
  },

  async removeFolder(path) {
    try {
      await rm(path, { recursive: true, force: true });
    } catch (thrown) {
      throw refused("remove", path, thrown);
    }
  },

  // Level by level: a recursive mkdir never returns where a parent exists but refuses children by "no such file" (/proc).
  async makeFolder(path) {
    const missing: string[] = [];
    try {
      for (let at = path; (await stat(at).catch(() => undefined)) === undefined && dirname(at) !== at; at = dirname(at)) missing.push(at);
      for (const folder of missing.reverse()) {
        await mkdir(folder).catch((thrown: unknown) => {
          // Another process was faster.
          if (codeOf(thrown) !== "EEXIST") throw thrown;
        });
        await systemFiles.syncFolder(dirname(folder));
      }
    } catch (thrown) {
      if (thrown instanceof MillraceError) throw thrown;
      throw refused("make folder", path, thrown);
    }
    if (!(await stat(path)).isDirectory()) throw refusedByFileSystem("make folder", path, "ENOTDIR");
  },

  async syncFolder(path) {
    try {
      const handle = await open(path, constants.O_RDONLY);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (thrown) {
      throw refused("sync folder", path, thrown);
    }
  },

  join: (...parts) => join(...parts),
};

/** The same files; what an open one reads is read in the calling thread, which waits for it. */
export const threadFiles: Files = { ...systemFiles, open: (path, mode) => openFile(path, mode, { readsHere: true }) };

/** The same files; little writes are done in the calling thread. One for all files of a thread. */
export function promptFiles(): Files {
  const prompt = new PromptWrites();
  return { ...systemFiles, open: (path, mode) => openFile(path, mode, { prompt }) };
}

/** A new empty folder of the system's temporary space; whoever asked for it removes it. */
export async function makeTemporaryFolder(prefix: string): Promise<string> {
  try {
    return await mkdtemp(join(tmpdir(), prefix));
  } catch (thrown) {
    throw refused("make a temporary folder in", tmpdir(), thrown);
  }
}
