// The store before it is open: commands are declared and the ports listen while it is read.
// Invariant: nobody asks for data before `open`; whoever does gets `unavailable`.
// Cost: one call more for each call of the store.

import { MillraceError } from "#base/errors";
import type { EntryRefs } from "#kernel/entry-refs";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { KeyBatch } from "#kernel/key-batch";
import type { EffectBatch } from "#lsm/effect-batch";
import type { ScanPage } from "#lsm/scan-page";
import type { ScanRange, Store, StoreState } from "#lsm/store";

export class LateStore implements Store {
  #store: Store | undefined;

  get isOpen(): boolean {
    return this.#store !== undefined;
  }

  open(store: Store): void {
    this.#store = store;
  }

  get #opened(): Store {
    if (this.#store === undefined) throw new MillraceError("unavailable", "the store is not open yet", { todo: "ask again in a moment" });
    return this.#store;
  }

  getMany(keys: KeyBatch, refs: EntryRefs, nowMs: number): void {
    this.#opened.getMany(keys, refs, nowMs);
  }

  bytesOf(refs: EntryRefs, i: number): Uint8Array {
    return this.#opened.bytesOf(refs, i);
  }

  memoryOf(source: number): KernelMemory {
    return this.#opened.memoryOf(source);
  }

  write(effects: EffectBatch): number {
    return this.#opened.write(effects);
  }

  durable(ticket: number): Promise<void> {
    return this.#opened.durable(ticket);
  }

  scan(range: ScanRange, into: ScanPage): boolean {
    return this.#opened.scan(range, into);
  }

  get offset(): number {
    return this.#opened.offset;
  }

  get state(): StoreState {
    return this.#opened.state;
  }

  flush(): Promise<void> {
    return this.#opened.flush();
  }

  async close(): Promise<void> {
    await this.#store?.close();
  }
}
