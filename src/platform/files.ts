// The one way to the file system. `systemFiles` is the machine's; the simulated twin (`simulation.ts`) forgets or tears what was
// not synced when its power is cut.
// Invariants: 1. nothing outside src/platform imports node:fs  2. after `sync()` resolves, all bytes written before it survive a power
// cut  3. a created, renamed or removed name survives a power cut only after `syncFolder` of its folder.
// Missing files are values (`undefined`), not throws; every other failure is a MillraceError (`unavailable` disk full or I/O error with
// the cause kept, `invalid` for a path that cannot be).

export interface OpenFile {
  /** Writes all bytes at `position`. Returns once the operating system has them (survives kill -9, not a power cut). */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** As `write` for several buffers after one another, in one system call. */
  writeAll(parts: readonly Uint8Array[], position: number): Promise<void>;
  /** Reads up to `into.length` bytes at `position`; returns how many (fewer only at the end of the file). */
  read(into: Uint8Array, position: number): Promise<number>;
  size(): Promise<number>;
  truncate(size: number): Promise<void>;
  /** fdatasync: all bytes written before the call survive a power cut once it resolves. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Files {
  /** `read`: must exist (else `undefined`). `write`: opened for read and write, created when missing. `create`: must not exist (else `undefined`). */
  open(path: string, mode: "read" | "write" | "create"): Promise<OpenFile | undefined>;
  /** Whole file, or `undefined` when it is not there. */
  readFile(path: string): Promise<Uint8Array | undefined>;
  /** Writes beside, syncs, renames over `path`, syncs the folder: after it resolves a power cut leaves the new bytes, before it the old or the new. */
  writeFileAtomic(path: string, bytes: Uint8Array): Promise<void>;
  /** Names (not paths) in a folder, sorted; `undefined` when there is no such folder. */
  list(folder: string): Promise<string[] | undefined>;
  /** Size in bytes, or `undefined` when there is no such file. */
  sizeOf(path: string): Promise<number | undefined>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; false when it was not there. */
  remove(path: string): Promise<boolean>;
  /** Removes a folder and all it holds; silent when it is not there. */
  removeFolder(path: string): Promise<void>;
  /** mkdir -p; the new names are synced. */
  makeFolder(path: string): Promise<void>;
  syncFolder(path: string): Promise<void>;
  /** Joins with the separator of the platform. */
  join(...parts: string[]): string;
}
