// The file system of one life on a simulated machine. See files.ts for the contract and simulated-disk.ts for what a power cut leaves.
// Invariants: 1. an operation takes effect at its event, between call and resolution; two that are not awaited one after the other may take
// effect in either order, as in a thread pool  2. bytes are taken when the operation takes effect: a buffer that is changed before the write
// resolved writes garbage here, as it may on a machine  3. operations of an ended life never settle; those in flight when it ended took
// effect fully, in part or not at all by the seed.

import { posix } from "node:path";
import type { Prng } from "#base/prng";
import { refusedByFileSystem } from "./file-errors.ts";
import type { Files, OpenFile } from "./files.ts";
import { replaceFile } from "./replace-file.ts";
import type { DiskFault, DiskFile, DiskOperation, SimulatedDisk } from "./simulated-disk.ts";
import type { Life, SimulatedScheduler } from "./simulated-scheduler.ts";

/** Takes effect; `part` below 1 says which part of a write or removal a crash or a fault let through. */
type Effect<T> = (part: number) => T;

interface FileWorld {
  readonly scheduler: SimulatedScheduler;
  readonly life: Life;
  readonly disk: SimulatedDisk;
  /** `machine#incarnation`, for traces and for names of temporary files. */
  readonly name: string;
}

/** Microseconds until an operation takes effect. Chosen after an SSD: 20 to 120, a sync 0.2 to 3 ms, one operation in 200 up to 50 ms. */
function latencyUs(random: Prng, operation: DiskOperation): number {
  if (random.chance(0.005)) return random.below(50_000);
  return operation === "sync" || operation === "sync-folder" ? 200 + random.below(2_800) : 20 + random.below(100);
}

export class SimulatedFiles implements Files {
  readonly #world: FileWorld;
  readonly #random: Prng;
  readonly #inFlight = new Set<Effect<unknown>>();
  #temporaryCount = 0;

  constructor(world: FileWorld) {
    this.#world = world;
    this.#random = world.scheduler.random.fork(`files ${world.name}`);
    world.life.onEnd(() => this.#crash());
  }

  /** Runs `effect` at its event. `path` is checked for faults and named in the trace. */
  operate<T>(operation: DiskOperation, action: string, path: string, effect: Effect<T>, onFault?: (fault: DiskFault) => void): Promise<T> {
    const { scheduler, life, disk, name } = this.#world;
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    if (!life.alive) return promise;
    this.#inFlight.add(effect);
    scheduler.schedule(latencyUs(this.#random, operation), `${name} ${action} ${path}`, life, () => {
      this.#inFlight.delete(effect);
      try {
        const fault = disk.faultOf(operation, path);
        if (fault !== undefined) {
          if (operation === "write") effect(this.#random.float());
          onFault?.(fault);
          throw refusedByFileSystem(action, path, "EIO");
        }
        resolve(effect(1));
      } catch (thrown) {
        reject(thrown);
      }
    });
    return promise;
  }

  async open(path: string, mode: "read" | "write" | "create"): Promise<OpenFile | undefined> {
    return this.operate("open", "open", path, () => {
      const file = this.#world.disk.open(path, mode);
      return file === undefined ? undefined : new SimulatedFile(this, this.#world.disk, file, path, mode !== "read");
    });
  }

  async readFile(path: string): Promise<Uint8Array | undefined> {
    return this.operate("read", "read", path, () => {
      this.#world.disk.counts.reads += 1;
      return this.#world.disk.find(path)?.shown.copy();
    });
  }

  async writeFileAtomic(path: string, bytes: Uint8Array): Promise<void> {
    this.#temporaryCount += 1;
    await replaceFile(this, path, `${path}.tmp-${this.#world.name.replaceAll("/", "-")}-${this.#temporaryCount}`, bytes);
  }

  async list(folder: string): Promise<string[] | undefined> {
    return this.operate("list", "list", folder, () => this.#world.disk.list(folder));
  }

  async sizeOf(path: string): Promise<number | undefined> {
    return this.operate("list", "look at", path, () => this.#world.disk.sizeOf(path));
  }

  async rename(from: string, to: string): Promise<void> {
    return this.operate("rename", "rename", from, () => this.#world.disk.rename(from, to));
  }

  async remove(path: string): Promise<boolean> {
    return this.operate("remove", "remove", path, () => this.#world.disk.remove(path));
  }

  async removeFolder(path: string): Promise<void> {
    return this.operate("remove", "remove", path, (part) => this.#world.disk.removeFolder(path, part));
  }

  async makeFolder(path: string): Promise<void> {
    const changed = await this.operate("make-folder", "make folder", path, () => this.#world.disk.makeFolder(path));
    for (const folder of changed) await this.syncFolder(folder);
  }

  async syncFolder(path: string): Promise<void> {
    const { disk } = this.#world;
    const asked = disk.sequence;
    return this.operate("sync-folder", "sync folder", path, () => disk.syncFolder(path, asked));
  }

  join(...parts: string[]): string {
    return posix.join(...parts);
  }

  /** The process is gone: of what was in flight some took effect, some in part, some not. */
  #crash(): void {
    for (const effect of this.#inFlight) {
      if (this.#random.chance(0.5)) continue;
      try {
        effect(this.#random.chance(0.5) ? 1 : this.#random.float());
      } catch {
        // Nobody is left who could hear of it.
      }
    }
    this.#inFlight.clear();
  }
}

class SimulatedFile implements OpenFile {
  readonly #files: SimulatedFiles;
  readonly #disk: SimulatedDisk;
  readonly #file: DiskFile;
  readonly #path: string;
  readonly #writable: boolean;
  #closed = false;

  constructor(files: SimulatedFiles, disk: SimulatedDisk, file: DiskFile, path: string, writable: boolean) {
    this.#files = files;
    this.#disk = disk;
    this.#file = file;
    this.#path = path;
    this.#writable = writable;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    return this.#operate("write", "write", (part) => {
      this.#disk.write(this.#path, this.#file, bytes, position, part === 1 ? bytes.length : Math.floor(bytes.length * part));
    });
  }

  async writeAll(parts: readonly Uint8Array[], position: number): Promise<void> {
    return this.#operate("write", "write", (part) => {
      // One system call is one change: it survives, tears or vanishes as a whole.
      const joined = new Uint8Array(parts.reduce((sum, bytes) => sum + bytes.length, 0));
      let at = 0;
      for (const bytes of parts) {
        joined.set(bytes, at);
        at += bytes.length;
      }
      this.#disk.write(this.#path, this.#file, joined, position, part === 1 ? at : Math.floor(at * part));
    });
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    return this.#operate("read", "read", () => {
      this.#disk.counts.reads += 1;
      return this.#file.shown.read(into, position);
    });
  }

  async size(): Promise<number> {
    return this.#operate("list", "look at", () => this.#file.shown.size);
  }

  async truncate(size: number): Promise<void> {
    return this.#operate("truncate", "truncate", () => this.#disk.truncate(this.#file, size));
  }

  async sync(): Promise<void> {
    const asked = this.#disk.sequence;
    return this.#operate(
      "sync",
      "sync",
      (part) => {
        if (part === 1) this.#disk.sync(this.#file, asked);
      },
      (fault) => {
        if (fault.forgets !== false) this.#disk.syncFailed(this.#file, asked);
      },
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #operate<T>(operation: DiskOperation, action: string, effect: Effect<T>, onFault?: (fault: DiskFault) => void): Promise<T> {
    const writes = operation === "write" || operation === "truncate";
    if (this.#closed || (writes && !this.#writable)) throw refusedByFileSystem(action, this.#path, "EBADF");
    return this.#files.operate(operation, action, this.#path, effect, onFault);
  }
}
