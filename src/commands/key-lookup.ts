// Many keys looked up at once, and their values written into replies without a view each: what the batched commands stand on.
// Invariant: results hold until the next look-up or the next await. Cost: one probe a batch; some 20 ns a key here.

import { EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { entryKinds } from "#kernel/entry-record";
import { type Keyspace, userNamespace } from "#features/keyspace/keyspace";
import type { Args, Reply } from "#wire/resp-command";

export class KeyLookup {
  readonly refs = new EntryRefs();
  readonly #keyspace: Keyspace;
  readonly #keys = new KeyBatch();
  #source = -1;
  #memory: Uint8Array = new Uint8Array(0);

  constructor(keyspace: Keyspace) {
    this.#keyspace = keyspace;
  }

  begin(): void {
    if (!this.#keyspace.inTransaction) this.#keyspace.begin();
    this.#keys.clear();
    this.#source = -1;
  }

  /** Adds the key at argument `i`. */
  add(args: Args, i: number): void {
    this.#keyspace.addKey(this.#keys, userNamespace, args.buffer, args.start(i), args.end(i));
  }

  run(): void {
    const { refs } = this;
    this.#keyspace.store.getMany(this.#keys, refs, this.#keyspace.nowMs);
    let found = 0;
    const { count } = refs;
    for (let i = 0; i < count; i++) if (refs.source[i] !== 255) found++;
    this.#keyspace.hits += found;
    this.#keyspace.misses += count - found;
  }

  /** Kind of the entry of key `i`; 0: there is none. */
  kind(i: number): number {
    return this.refs.source[i] === 255 ? entryKinds.tombstone : this.refs.kind[i]!;
  }

  /** Answers the value of key `i`. */
  bulk(reply: Reply, i: number): void {
    reply.bulkOf(this.memory(i), this.refs.at[i]!, this.refs.bytes[i]!);
  }

  /** The memory in which the value of key `i` lies. */
  memory(i: number): Uint8Array {
    const source = this.refs.source[i]!;
    if (source !== this.#source) {
      this.#source = source;
      this.#memory = this.#keyspace.store.memoryOf(source).bytes;
    }
    return this.#memory;
  }
}
