// The disk of a simulated machine: what the operating system shows, what is safe on the platter, and every change between the two.
// Why: leveldb's fault-injection environment forgets what was not synced; here single writes and single name changes may also survive, tear, or
// survive without those before them, since real disks and file systems do all of that.
// Model: a file has its shown bytes, its safe bytes and the list of changes (write, truncate) that are not safe yet. A folder has shown names and
// safe names; name changes (create, rename, remove) stand in one list of the disk.
// Invariants: 1. bytes written before a sync was asked for are safe once it has succeeded  2. a name change is safe once its folder was synced after
// it; earlier changes of the same name become safe with it  3. name changes that share a name survive a power cut in order: a later one only
// with all earlier ones; a rename is atomic. Everything else is decided one by one by the seed  4. a failed sync makes nothing safe, and what was
// written before it may stay unsafe for ever, also after a later sync that succeeds (as on Linux, where a failed fsync marks the pages
// clean).
// Limits: no links, no rights, no times.

import type { Prng } from "#base/prng";
import { MillraceError } from "#base/errors";
import { refusedByFileSystem } from "./file-errors.ts";

/** Unit in which a torn write may survive. */
export const sectorBytes = 512;

/** What a power cut does with what was not synced: the seed decides change by change, or all of it is dropped, or all kept. */
export type Unsynced = "seeded" | "drop" | "keep";

export type DiskOperation = "open" | "read" | "write" | "truncate" | "sync" | "sync-folder" | "rename" | "remove" | "list" | "make-folder";

/** An operation that is to fail with an I/O error. */
export interface DiskFault {
  readonly operation: DiskOperation;
  /** Only operations on paths that contain this text. */
  readonly path?: string;
  /** How many matching operations succeed first, default 0. */
  readonly after?: number;
  /** How many fail then, default 1; Infinity for a broken disk. */
  readonly times?: number;
  /** Of a failing sync: whether the changes it was to save may be lost although a later sync succeeds (invariant 4), default true. */
  readonly forgets?: boolean;
}

export interface InstalledFault {
  /** Operations that failed by it so far. */
  readonly hits: number;
  remove(): void;
}

/** Bytes that grow; everything beyond `size` is zero. */
class Bytes {
  size = 0;
  #buffer = new Uint8Array(0);

  write(position: number, bytes: Uint8Array): void {
    const end = position + bytes.length;
    this.#reserve(end);
    this.#buffer.set(bytes, position);
    if (bytes.length > 0) this.size = Math.max(this.size, end);
  }

  truncate(size: number): void {
    this.#reserve(size);
    if (size < this.size) this.#buffer.fill(0, size, this.size);
    this.size = size;
  }

  read(into: Uint8Array, position: number): number {
    const count = Math.max(0, Math.min(into.length, this.size - position));
    into.set(this.#buffer.subarray(position, position + count));
    return count;
  }

  copy(): Uint8Array {
    return this.#buffer.slice(0, this.size);
  }

  flip(bit: number): void {
    this.#buffer[bit >> 3]! ^= 1 << (bit & 7);
  }

  #reserve(size: number): void {
    if (size <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(size, this.#buffer.length * 2, 256));
    grown.set(this.#buffer);
    this.#buffer = grown;
  }
}

type Change =
  | { readonly kind: "write"; readonly sequence: number; readonly position: number; readonly bytes: Uint8Array; refused: boolean }
  | { readonly kind: "truncate"; readonly sequence: number; readonly size: number; refused: boolean };

function apply(change: Change, to: Bytes): void {
  if (change.kind === "write") to.write(change.position, change.bytes);
  else to.truncate(change.size);
}

/** A file's content, whatever its names. */
export class DiskFile {
  readonly kind = "file";
  readonly shown = new Bytes();
  readonly safe = new Bytes();
  unsafe: Change[] = [];
}

class DiskFolder {
  readonly kind = "folder";
  readonly id: number;
  readonly shown = new Map<string, DiskFile | DiskFolder>();
  readonly safe = new Map<string, DiskFile | DiskFolder>();

  constructor(id: number) {
    this.id = id;
  }
}

interface NameChange {
  readonly sequence: number;
  readonly folders: readonly DiskFolder[];
  /** `folder id/name` of every name it touches. */
  readonly keys: readonly string[];
  /** Makes the change among the safe names. */
  readonly settle: () => void;
}

interface Place {
  readonly folder: DiskFolder;
  readonly name: string;
}

export interface DiskCounts {
  reads: number;
  writes: number;
  bytesWritten: number;
  syncs: number;
  folderSyncs: number;
}

export class SimulatedDisk {
  /** Writes that would make the shown sizes exceed this fail with "disk is full", after the part that fits. */
  capacityBytes = Infinity;
  /** A disk that lies: syncs succeed and make nothing safe. For mutants: a test of durability must fail on it. */
  syncsNothing = false;
  /** Operations so far. */
  readonly counts: DiskCounts = { reads: 0, writes: 0, bytesWritten: 0, syncs: 0, folderSyncs: 0 };
  readonly #random: Prng;
  readonly #root = new DiskFolder(0);
  #folderCount = 1;
  #sequence = 0;
  #usedBytes = 0;
  #names: NameChange[] = [];
  readonly #faults = new Set<{ fault: DiskFault; seen: number; hits: number }>();

  constructor(random: Prng) {
    this.#random = random;
  }

  /** Sequence number of the next change; a sync covers what came before the number at the time it was asked for. */
  get sequence(): number {
    return this.#sequence;
  }

  // --- what tests do to the disk ------------------------------------------------------------------------------------------------

  /** Lets operations fail with an I/O error. A failing write first writes a random part; see invariant 4 for a failing sync. */
  fail(fault: DiskFault): InstalledFault {
    const installed = { fault, seen: 0, hits: 0 };
    this.#faults.add(installed);
    return {
      get hits() {
        return installed.hits;
      },
      remove: () => this.#faults.delete(installed),
    };
  }

  /** Flips one bit of a file, shown and safe alike (a decayed disk); returns the bit's index. Without `bit` the seed chooses. */
  flipBit(path: string, bit?: number): number {
    const file = this.#find(path);
    if (file === undefined || file.kind !== "file" || file.shown.size === 0) throw new MillraceError("invalid", `no bytes to flip in ${path}`);
    const chosen = bit ?? this.#random.below(file.shown.size * 8);
    file.shown.flip(chosen);
    if (chosen < file.safe.size * 8) file.safe.flip(chosen);
    return chosen;
  }

  /** Every file with its bytes: as shown now, or as a power cut that drops everything unsynced would leave them. */
  contents(of: "shown" | "safe" = "shown"): Map<string, Uint8Array> {
    const found = new Map<string, Uint8Array>();
    const walk = (folder: DiskFolder, path: string): void => {
      for (const [name, node] of [...folder[of]].sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (node.kind === "folder") walk(node, `${path}/${name}`);
        else found.set(`${path}/${name}`, node[of].copy());
      }
    };
    walk(this.#root, "");
    return found;
  }

  /** Decides the fate of everything unsynced; what is left is safe. */
  powerCut(unsynced: Unsynced): void {
    // Some cuts spare or take everything, so that both ends are seen often whatever the number of changes.
    const mood = this.#random.float();
    const how: Unsynced = unsynced !== "seeded" ? unsynced : mood < 0.15 ? "drop" : mood < 0.3 ? "keep" : "seeded";
    this.#settleNames(how);
    this.#usedBytes = 0;
    this.#settleFolder(this.#root, how, new Set());
  }

  // --- what the files of a machine do ----------------------------------------------------------------------------------------------

  /** The installed fault that hits this operation, if any; counts it as seen. */
  faultOf(operation: DiskOperation, path: string): DiskFault | undefined {
    for (const installed of this.#faults) {
      const { fault } = installed;
      if (fault.operation !== operation || (fault.path !== undefined && !path.includes(fault.path))) continue;
      const index = installed.seen++ - (fault.after ?? 0);
      if (index < 0 || index >= (fault.times ?? 1)) continue;
      installed.hits += 1;
      return fault;
    }
    return undefined;
  }

  open(path: string, mode: "read" | "write" | "create"): DiskFile | undefined {
    const found = this.#find(path, mode === "read" ? "" : "open");
    if (found !== undefined) {
      if (mode === "create") return undefined;
      if (found.kind === "folder") throw refusedByFileSystem("open", path, "EISDIR");
      return found;
    }
    if (mode === "read") return undefined;
    const place = this.#place(path, "open");
    const file = new DiskFile();
    this.#link(place, file);
    return file;
  }

  /** Writes what fits, at most `limit` bytes of it (a crash or a fault in the middle). */
  write(path: string, file: DiskFile, bytes: Uint8Array, position: number, limit = bytes.length): void {
    const growth = Math.max(0, position + bytes.length - file.shown.size);
    const room = this.capacityBytes - this.#usedBytes;
    const fits = growth <= room ? bytes.length : Math.max(0, bytes.length - Math.ceil(growth - room));
    const part = bytes.slice(0, Math.min(fits, limit));
    const sizeBefore = file.shown.size;
    if (part.length > 0) {
      file.shown.write(position, part);
      file.unsafe.push({ kind: "write", sequence: this.#sequence++, position, bytes: part, refused: false });
      this.#usedBytes += file.shown.size - sizeBefore;
    }
    this.counts.writes += 1;
    this.counts.bytesWritten += part.length;
    if (fits < bytes.length) throw refusedByFileSystem("write", path, "ENOSPC");
  }

  truncate(file: DiskFile, size: number): void {
    this.#usedBytes += size - file.shown.size;
    file.shown.truncate(size);
    file.unsafe.push({ kind: "truncate", sequence: this.#sequence++, size, refused: false });
  }

  /** Makes the changes before `sequence` safe. */
  sync(file: DiskFile, sequence: number): void {
    this.counts.syncs += 1;
    if (this.syncsNothing) return;
    for (const change of file.unsafe) {
      if (change.sequence < sequence && (!change.refused || this.#random.chance(0.5))) apply(change, file.safe);
    }
    file.unsafe = file.unsafe.filter((change) => change.sequence >= sequence);
  }

  /** After a sync that failed: the changes before `sequence` may never become safe. */
  syncFailed(file: DiskFile, sequence: number): void {
    for (const change of file.unsafe) if (change.sequence < sequence) change.refused = true;
  }

  syncFolder(path: string, sequence: number): void {
    const folder = this.#find(path);
    if (folder === undefined) throw refusedByFileSystem("sync folder", path, "ENOENT");
    this.counts.folderSyncs += 1;
    if (folder.kind === "file" || this.syncsNothing) return;
    const keys = new Set<string>();
    const settled = new Set<NameChange>();
    for (let i = this.#names.length - 1; i >= 0; i--) {
      const change = this.#names[i]!;
      if (change.sequence >= sequence) continue;
      if (!change.folders.includes(folder) && !change.keys.some((key) => keys.has(key))) continue;
      settled.add(change);
      for (const key of change.keys) keys.add(key);
    }
    for (const change of this.#names) if (settled.has(change)) change.settle();
    this.#names = this.#names.filter((change) => !settled.has(change));
  }

  find(path: string): DiskFile | undefined {
    const found = this.#find(path);
    if (found?.kind === "folder") throw refusedByFileSystem("read", path, "EISDIR");
    return found;
  }

  sizeOf(path: string): number | undefined {
    const found = this.#find(path);
    return found?.kind === "file" ? found.shown.size : undefined;
  }

  list(path: string): string[] | undefined {
    const folder = this.#find(path);
    return folder?.kind === "folder" ? [...folder.shown.keys()].sort() : undefined;
  }

  rename(from: string, to: string): void {
    const source = this.#place(from, "rename");
    const node = source.folder.shown.get(source.name);
    if (node === undefined) throw refusedByFileSystem("rename", from, "ENOENT");
    const target = this.#place(to, "rename");
    const replaced = target.folder.shown.get(target.name);
    if (replaced === node) return;
    if (replaced !== undefined && replaced.kind !== node.kind) throw refusedByFileSystem("rename", from, replaced.kind === "folder" ? "EISDIR" : "ENOTDIR");
    if (replaced?.kind === "folder" && replaced.shown.size > 0) throw refusedByFileSystem("rename", from, "ENOTEMPTY");
    if (replaced?.kind === "file") this.#usedBytes -= replaced.shown.size;
    source.folder.shown.delete(source.name);
    target.folder.shown.set(target.name, node);
    this.#names.push({
      sequence: this.#sequence++,
      folders: source.folder === target.folder ? [source.folder] : [source.folder, target.folder],
      keys: [keyOf(source), keyOf(target)],
      settle: () => {
        source.folder.safe.delete(source.name);
        target.folder.safe.set(target.name, node);
      },
    });
  }

  remove(path: string): boolean {
    const found = this.#find(path);
    if (found === undefined) return false;
    if (found.kind === "folder") throw refusedByFileSystem("remove", path, "EISDIR");
    this.#unlink(this.#place(path, "remove"));
    return true;
  }

  /** Removes a folder from the leaves up; `limit` (0 to 1) is the part of the removals that a crash lets happen. */
  removeFolder(path: string, limit = 1): void {
    const found = this.#find(path);
    if (found === undefined) return;
    const places: Place[] = [];
    const collect = (folder: DiskFolder): void => {
      for (const [name, node] of folder.shown) {
        if (node.kind === "folder") collect(node);
        places.push({ folder, name });
      }
    };
    if (found.kind === "folder") collect(found);
    if (found === this.#root) throw refusedByFileSystem("remove", path, "EACCES");
    places.push(this.#place(path, "remove"));
    for (const place of places.slice(0, Math.floor(places.length * limit))) this.#unlink(place);
  }

  /** mkdir -p; returns the folders whose names changed, to be synced. */
  makeFolder(path: string): string[] {
    const changed: string[] = [];
    let at = "/";
    let folder = this.#root;
    for (const name of partsOf(path)) {
      let next = folder.shown.get(name);
      if (next === undefined) {
        next = new DiskFolder(this.#folderCount++);
        this.#link({ folder, name }, next);
        changed.push(at);
      }
      if (next.kind === "file") throw refusedByFileSystem("make folder", path, "EEXIST");
      folder = next;
      at = at === "/" ? `/${name}` : `${at}/${name}`;
    }
    return changed;
  }

  // --- inside ----------------------------------------------------------------------------------------------------------------------

  /** What stands at a path. A file in the middle of the path is an absence, or an error when `action` names what was tried. */
  #find(path: string, action = ""): DiskFile | DiskFolder | undefined {
    let node: DiskFile | DiskFolder = this.#root;
    for (const part of partsOf(path)) {
      if (node.kind === "file") {
        if (action !== "") throw refusedByFileSystem(action, path, "ENOTDIR");
        return undefined;
      }
      const next: DiskFile | DiskFolder | undefined = node.shown.get(part);
      if (next === undefined) return undefined;
      node = next;
    }
    return node;
  }

  #place(path: string, action: string): Place {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) throw refusedByFileSystem(action, path, "EISDIR");
    const folder = this.#find(parts.join("/"), action);
    if (folder === undefined) throw refusedByFileSystem(action, path, "ENOENT");
    if (folder.kind === "file") throw refusedByFileSystem(action, path, "ENOTDIR");
    return { folder, name };
  }

  #link(place: Place, node: DiskFile | DiskFolder): void {
    place.folder.shown.set(place.name, node);
    this.#names.push({
      sequence: this.#sequence++,
      folders: [place.folder],
      keys: [keyOf(place)],
      settle: () => void place.folder.safe.set(place.name, node),
    });
  }

  #unlink(place: Place): void {
    const node = place.folder.shown.get(place.name);
    if (node?.kind === "file") this.#usedBytes -= node.shown.size;
    place.folder.shown.delete(place.name);
    this.#names.push({
      sequence: this.#sequence++,
      folders: [place.folder],
      keys: [keyOf(place)],
      settle: () => void place.folder.safe.delete(place.name),
    });
  }

  #settleNames(how: Unsynced): void {
    const dropped = new Set<string>();
    for (const change of this.#names) {
      const kept = how === "keep" || (how === "seeded" && !change.keys.some((key) => dropped.has(key)) && this.#random.chance(0.6));
      if (kept) change.settle();
      else for (const key of change.keys) dropped.add(key);
    }
    this.#names = [];
  }

  #settleFolder(folder: DiskFolder, how: Unsynced, done: Set<DiskFile>): void {
    folder.shown.clear();
    for (const [name, node] of folder.safe) {
      folder.shown.set(name, node);
      if (node.kind === "folder") this.#settleFolder(node, how, done);
      else if (!done.has(node)) {
        done.add(node);
        this.#settleFile(node, how);
        this.#usedBytes += node.shown.size;
      }
    }
  }

  #settleFile(file: DiskFile, how: Unsynced): void {
    for (const change of file.unsafe) {
      if (how === "keep" && !change.refused) apply(change, file.safe);
      else if (how !== "drop") this.#tear(change, file.safe);
    }
    file.unsafe = [];
    const left = file.safe.copy();
    file.shown.truncate(0);
    file.shown.write(0, left);
  }

  /** One unsynced change after a power cut: kept, dropped, cut short, kept by sectors, or only its room kept (zeros). */
  #tear(change: Change, to: Bytes): void {
    const fate = this.#random.float();
    if (fate < 0.4) return apply(change, to);
    if (fate < 0.7 || change.kind === "truncate") return;
    const { position, bytes } = change;
    if (fate < 0.82) return to.write(position, bytes.subarray(0, this.#random.below(bytes.length)));
    if (fate < 0.94) {
      // By the sectors of the file, not of the write: a write that begins inside a sector shares that sector's fate.
      for (let from = 0; from < bytes.length;) {
        const until = Math.min(bytes.length, from + sectorBytes - ((position + from) % sectorBytes));
        if (this.#random.chance(0.5)) to.write(position + from, bytes.subarray(from, until));
        from = until;
      }
      return;
    }
    if (position + bytes.length > to.size) to.truncate(position + bytes.length);
  }
}

function keyOf(place: Place): string {
  return `${place.folder.id}/${place.name}`;
}

/** The parts of a path from the root; "." and ".." are resolved, a relative path begins at the root. */
function partsOf(path: string): string[] {
  if (path.includes("\0")) throw refusedByFileSystem("open", path.replaceAll("\0", "\\0"), "EINVAL");
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") parts.pop();
    else parts.push(part);
  }
  return parts;
}
