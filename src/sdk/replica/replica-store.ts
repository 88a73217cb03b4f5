// The live rows of a replica in the shape in which a table reads its delta. Whatever writes, scans or flushes is refused: a replica follows.

import { MillraceError } from "#base/errors";
import type { EntryRefs } from "#kernel/entry-refs";
import type { KeyBatch } from "#kernel/key-batch";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { Store, StoreState } from "#lsm/store";
import type { DeltaFollower } from "./delta-follower.ts";

export class ReplicaStore implements Store {
  readonly #delta: DeltaFollower;

  constructor(delta: DeltaFollower) {
    this.#delta = delta;
  }

  getMany(keys: KeyBatch, refs: EntryRefs, nowMs: number): void {
    this.#delta.getMany(keys, refs, nowMs);
  }

  bytesOf(refs: EntryRefs, i: number): Uint8Array {
    return this.#delta.bytesOf(refs, i);
  }

  memoryOf(source: number): KernelMemory {
    return this.#delta.memoryOf(source);
  }

  get offset(): number {
    return this.#delta.offset;
  }

  write(): never {
    throw refused("a write");
  }

  durable(): Promise<void> {
    return Promise.reject(refused("a write"));
  }

  scan(): never {
    throw refused("a scan");
  }

  get state(): StoreState {
    throw refused("a look at the engine");
  }

  flush(): Promise<void> {
    return Promise.reject(refused("a flush"));
  }

  close(): Promise<void> {
    return this.#delta.stop();
  }
}

function refused(what: string): MillraceError {
  return new MillraceError("unsupported", `${what} of a local replica`, { todo: "ask the table's server: a replica answers look-ups" });
}
