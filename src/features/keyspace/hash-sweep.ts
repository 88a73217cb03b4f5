// Takes away the fields of large hashes that are gone: deleted, overwritten, renamed over, expired.
// Why later: DEL of a hash of a million fields is then one small write. Why a walk over owners and no list of what to take: a list would be lost with the
// process, and an expired hash tells nobody.
// How: for each id in the namespace of fields, the owner entry names a key; when that key's entry is no meta entry of this id, the id's entries are
// deleted, the owner entry last, so that a sweep that was cut off goes on with the next one.
// Invariant: an id that a live meta entry names loses nothing.
// Cost: two probes an id and round; a field swept costs a write. Slices of sweepEntries entries, the loop given away in between.
// Concurrency: between commands only, by a background timer, so no transaction is open.

import { entryKinds } from "#kernel/entry-record";
import type { Timer } from "#platform/clock";
import { fieldNamespace, type Keyspace } from "./keyspace.ts";
import { idOf, idOfMeta, ownerKey } from "./hashes.ts";

export interface HashSweepOptions {
  /** From one round's end to the next, for hashes that expired or were overwritten. Default 10 minutes. */
  readonly everyMs?: number;
  /** From the end of a large hash to the round that takes its fields. Default 1 second. */
  readonly soonMs?: number;
  /** Entries deleted in one slice. Default 256. */
  readonly sweepEntries?: number;
  /** A write was refused: the round ends and the next one tries again. */
  readonly onTrouble?: (error: unknown) => void;
}

export class HashSweep {
  readonly #keyspace: Keyspace;
  readonly #everyMs: number;
  readonly #soonMs: number;
  readonly #sweepEntries: number;
  readonly #onTrouble: (error: unknown) => void;
  #timer: Timer | undefined;
  #stopped = false;
  #running = false;
  #soon = false;
  /** Entries deleted since the start. */
  swept = 0;

  constructor(keyspace: Keyspace, options: HashSweepOptions = {}) {
    this.#keyspace = keyspace;
    this.#everyMs = options.everyMs ?? 600_000;
    this.#soonMs = options.soonMs ?? 1_000;
    this.#sweepEntries = options.sweepEntries ?? 256;
    this.#onTrouble = options.onTrouble ?? (() => undefined);
    keyspace.onOrphans = () => {
      this.#sweepSoon();
    };
  }

  /** The first round begins after `soonMs`. */
  start(): void {
    this.#stopped = false;
    this.#sweepSoon();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #sweepSoon(): void {
    if (this.#soon || this.#stopped) return;
    this.#soon = true;
    if (!this.#running) this.#arm(this.#soonMs);
  }

  #arm(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#keyspace.clock.after(
      delayMs,
      () => {
        this.#soon = false;
        this.#running = true;
        this.round()
          .catch(this.#onTrouble)
          .finally(() => {
            this.#running = false;
            if (!this.#stopped) this.#arm(this.#soon ? this.#soonMs : this.#everyMs);
          });
      },
      { background: true },
    );
  }

  /** One round over all ids. Rejects when a write was refused. */
  async round(): Promise<void> {
    const { clock } = this.#keyspace;
    let id: number | undefined = 0;
    while (id !== undefined && !this.#stopped) {
      id = this.#sliceFrom(id);
      await clock.yield();
    }
  }

  /** Looks at the first id from `id` on and deletes a slice of it if it is dead. The id to go on with; `undefined` at the end. */
  #sliceFrom(id: number): number | undefined {
    const keyspace = this.#keyspace;
    keyspace.begin();
    let found = -1;
    let dead: Uint8Array[] | undefined;
    let next: Uint8Array | undefined = ownerKey(id);
    while (next !== undefined) {
      next = keyspace.walkSlice(fieldNamespace, next, undefined, (key, entry) => {
        const at = idOf(key);
        if (found === -1) {
          found = at;
          if (this.#owned(at, entry.value)) return false;
          dead = [];
        }
        if (at !== found) return false;
        dead?.push(key.slice());
        return dead !== undefined && dead.length <= this.#sweepEntries;
      });
    }
    if (found === -1) return undefined;
    if (dead === undefined) return found + 1;
    // The first one is the owner entry: it goes with the last slice.
    const more = dead.length > this.#sweepEntries;
    for (const key of more ? dead.slice(1) : dead) {
      keyspace.removeIn(fieldNamespace, key);
      this.swept++;
    }
    keyspace.commit();
    return more ? found : found + 1;
  }

  /** Whether the key that the owner entry names has this id. */
  #owned(id: number, owner: Uint8Array): boolean {
    const entry = this.#keyspace.find(owner.slice());
    return entry !== undefined && entry.kind === entryKinds.hashMeta && idOfMeta(entry) === id;
  }
}
