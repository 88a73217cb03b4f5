// The Redis database over the store: entries of keys with their kind, value and expiry, what a transaction has written so far, who watches which key.
// It knows entries, not strings or hashes (string commands and hashes.ts do), and nothing of the protocol.
//
// Why an overlay: the effects of one command, or of all commands of a transaction, are one write of the store, there together or not at all. Until it is
// made, what they wrote stands here, and reads of the same transaction look here first.
// Invariants: 1. between `begin` and `commit` time stands still  2. nothing reaches the store but by `commit`; `rollback` leaves no trace  3. an expired
// entry is never returned; writing one that has already expired removes the key  4. every change of a key touches its watchers, and nothing else does.
// Cost: `find` of one key some 1-2 us, nearly all of it the call; a put 0.3 us. Batches go around it with `look`, one probe for many keys.
// Concurrency: the serving loop alone. Views are valid until the next await.
// Limits: keyspaceLimits.

import type { Prng } from "#base/prng";
import { assert } from "#base/errors";
import { compareBytes, entryKinds } from "#kernel/entry-record";
import { absentSource, EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { EffectBatch } from "#lsm/effect-batch";
import { ScanPage } from "#lsm/scan-page";
import { engineKey, type Store, storeLimits } from "#lsm/store";
import type { Clock } from "#platform/clock";
import { DistinctKeys } from "./distinct-keys.ts";
import { ScanCursors } from "./scan-cursors.ts";

/** Redis database 0. */
export const userNamespace = 0;
/** Fields of large hashes: docs/format/hash-row.md. Tables take their ids from 1 up and never reach it. */
export const fieldNamespace = 0xffff;

export const keyspaceLimits = {
  keyBytesMax: storeLimits.keyBytesMax - 2,
  valueBytesMax: storeLimits.valueBytesMax,
  /** Keys under WATCH, of all sessions together. */
  watchedKeysMax: 100_000,
  /** One slice of a long walk, milliseconds, then the loop is given away. */
  sliceMs: 1,
  /** Slices of one SCAN or HSCAN. */
  slicesMax: 8,
  pageEntries: 512,
} as const;

/** What stands under a key. The value is a view, valid until the next await or commit. */
export interface Entry {
  readonly kind: number;
  readonly value: Uint8Array;
  /** Of the engine entry; 0: none. For a hash row it may be the fields' (hash-row.ts). */
  readonly expiryMs: number;
}

interface Pending extends Entry {
  readonly namespace: number;
  readonly key: Uint8Array;
}

/** A key as a part of a buffer. */
export interface KeyPlace {
  readonly buffer: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Who watches keys: told when one changes. */
export interface Watcher {
  changed: boolean;
}

export interface KeyspaceParts {
  readonly store: Store;
  readonly clock: Clock;
  /** For RANDOMKEY, HRANDFIELD and the first cursor. */
  readonly random: Prng;
}

const latin1 = new TextDecoder("latin1");
const nothing = new Uint8Array(0);
const noKey: KeyPlace = { buffer: nothing, start: 0, end: -1 };

/** Whether a view is of this place: the same memory, so the same bytes. */
function isPlace({ buffer, start, end }: KeyPlace, key: Uint8Array): boolean {
  return key.length === end - start && key.byteOffset === buffer.byteOffset + start && key.buffer === buffer.buffer;
}

export class Keyspace {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Prng;
  readonly cursors: ScanCursors;
  /** Time of the command or transaction that runs. */
  nowMs = 0;
  /** Decides for kinds whose entry alone does not tell whether something lives under it; set by hashes.ts. */
  isAlive: (entry: Entry) => boolean = () => true;
  /** Called with the key of a large hash whose fields have lost their meta entry; set by hash-sweep.ts. */
  onOrphans: () => void = () => undefined;
  /** Look-ups of keys that found something, and that did not. */
  hits = 0;
  misses = 0;

  readonly #one = new KeyBatch();
  readonly #refs = new EntryRefs();
  readonly #effects = new EffectBatch();
  readonly #pending = new Map<string, Pending>();
  readonly #watchers = new Map<string, Set<Watcher>>();
  #page = new ScanPage();
  readonly #inner = new ScanPage();
  readonly #room = new Uint8Array(storeLimits.keyBytesMax);
  #transaction = false;
  /** Effects of several commands are collected: values are copied when they are put. */
  #collects = false;
  #pendingBytes = 0;
  /** Keys of a batch that were looked up at once, and which of them the command at hand is about; -1: none. */
  readonly #primedKeys = new KeyBatch();
  readonly #primedRefs = new EntryRefs();
  #primedAt = -1;
  #primedKey: KeyPlace = noKey;
  /** The keys of the batch are distinct: what a command puts under its own is an effect at once, since no other one of the batch reads it. */
  #direct = false;
  /** The command of the batch that has put its key. */
  #putAt = -1;
  readonly #distinct = new DistinctKeys();
  /** The name of the key that was asked for last: most commands look up what they write. */
  #named: KeyPlace = noKey;
  #name = "";

  constructor({ store, clock, random }: KeyspaceParts) {
    this.store = store;
    this.clock = clock;
    this.random = random;
    this.cursors = new ScanCursors(random);
    this.nowMs = clock.nowMs();
  }

  /** True while the commands of one transaction run: their effects wait for its end. */
  get inTransaction(): boolean {
    return this.#transaction;
  }

  /** Starts a command, or a transaction of several: from here on time stands still. */
  begin(transaction = false): void {
    this.nowMs = this.clock.nowMs();
    this.#transaction = transaction;
    this.#collects = transaction;
    this.#primedAt = -1;
    this.#named = noKey;
  }

  /**
   * Starts a batch of independent commands whose effects are one write: all their keys are looked up at once. Before each command `select` says which key
   * it is about. The keys' buffers must not change before `commit`.
   */
  beginBatch(keys: readonly KeyPlace[]): void {
    this.begin();
    this.#collects = true;
    this.#primedKeys.clear();
    this.#distinct.begin();
    let distinct = true;
    for (const { buffer, start, end } of keys) {
      this.addKey(this.#primedKeys, userNamespace, buffer, start, end);
      distinct = distinct && this.#distinct.add(buffer, start, end);
    }
    this.#direct = distinct;
    this.#putAt = -1;
    this.#effects.clear();
    this.store.getMany(this.#primedKeys, this.#primedRefs, this.nowMs);
  }

  select(i: number, key: KeyPlace): void {
    this.#primedAt = i;
    this.#primedKey = key;
  }

  /** Bytes of what waits for `commit`. */
  get pendingBytes(): number {
    return this.#direct ? this.#pendingBytes + this.#effects.bytes : this.#pendingBytes;
  }

  /** Writes what was put and removed since `begin`. The store's ticket, or -1 when nothing was. Throws what the store throws; then nothing is written. */
  commit(): number {
    this.#transaction = false;
    this.#collects = false;
    this.#primedAt = -1;
    const direct = this.#direct;
    this.#direct = false;
    if (this.#pending.size === 0) return direct && this.#effects.count > 0 ? this.store.write(this.#effects) : -1;
    try {
      if (!direct) this.#effects.clear();
      for (const { namespace, key, kind, value, expiryMs } of this.#pending.values()) {
        if (kind === entryKinds.tombstone) this.#effects.delete(namespace, key, 0);
        else this.#effects.put(namespace, key, kind, value, expiryMs, 0);
      }
      return this.store.write(this.#effects);
    } finally {
      this.#forget();
    }
  }

  #forget(): void {
    this.#pending.clear();
    this.#pendingBytes = 0;
  }

  /** Forgets what was put and removed since `begin`. */
  rollback(): void {
    this.#transaction = false;
    this.#collects = false;
    this.#primedAt = -1;
    this.#direct = false;
    this.#forget();
  }

  /** The entry of a key, if it lives. */
  find(key: Uint8Array): Entry | undefined {
    const entry = this.findIn(userNamespace, key);
    if (entry === undefined || !this.isAlive(entry)) {
      this.misses++;
      return undefined;
    }
    this.hits++;
    return entry;
  }

  findIn(namespace: number, key: Uint8Array): Entry | undefined {
    if (this.#pending.size !== 0) {
      const pending = this.#pending.get(this.#nameOf(namespace, key));
      if (pending !== undefined) return pending.kind === entryKinds.tombstone ? undefined : pending;
    }
    if (this.#primedAt >= 0 && namespace === userNamespace && isPlace(this.#primedKey, key)) {
      assert(!this.#direct || this.#putAt !== this.#primedAt, "a command of a batch reads the key that it has put");
      return this.#entryOf(this.#primedRefs, this.#primedAt);
    }
    this.#one.clear();
    this.addKey(this.#one, namespace, key, 0, key.length);
    this.store.getMany(this.#one, this.#refs, this.nowMs);
    return this.#entryOf(this.#refs, 0);
  }

  #entryOf(refs: EntryRefs, i: number): Entry | undefined {
    if (refs.source[i] === absentSource) return undefined;
    return { kind: refs.kind[i]!, value: this.store.bytesOf(refs, i), expiryMs: refs.expiryMs[i]! };
  }

  /** As nameOf, without making the same name twice. */
  #nameOf(namespace: number, key: Uint8Array): string {
    if (namespace !== userNamespace) return nameOf(namespace, key);
    if (!isPlace(this.#named, key)) {
      this.#name = nameOf(namespace, key);
      this.#named = { buffer: key, start: 0, end: key.length };
    }
    return this.#name;
  }

  /** Adds a user's key to a batch as the engine's key; one that is too long to have been written as one that is never there. */
  addKey(batch: KeyBatch, namespace: number, buffer: Uint8Array, start: number, end: number): void {
    const room = this.#room;
    const bytes = end - start;
    if (bytes > keyspaceLimits.keyBytesMax) {
      // No field has this key: each begins with the number of its hash.
      room[0] = fieldNamespace >>> 8;
      room[1] = fieldNamespace;
      batch.add(room.subarray(0, 2));
      return;
    }
    room[0] = namespace >>> 8;
    room[1] = namespace;
    if (bytes > 32) room.set(buffer.subarray(start, end), 2);
    else for (let i = 0; i < bytes; i++) room[2 + i] = buffer[start + i]!;
    batch.add(room.subarray(0, bytes + 2));
  }

  /** Whether a batch of look-ups may go to the store: a transaction has written nothing yet. */
  get readsDirect(): boolean {
    return this.#pending.size === 0;
  }

  /** Effects that go to the store without the overlay, by `commitDirect`: for a batch that reads nothing of what it writes, outside a transaction. */
  beginDirect(): EffectBatch {
    this.begin();
    this.#effects.clear();
    return this.#effects;
  }

  /** As `commit`. The caller has touched the keys. */
  commitDirect(): number {
    return this.#effects.count === 0 ? -1 : this.store.write(this.#effects);
  }

  put(key: Uint8Array, kind: number, value: Uint8Array, expiryMs: number): void {
    this.putIn(userNamespace, key, kind, value, expiryMs);
    this.touch(key);
  }

  putIn(namespace: number, key: Uint8Array, kind: number, value: Uint8Array, expiryMs: number): void {
    if (expiryMs !== 0 && expiryMs <= this.nowMs) {
      this.removeIn(namespace, key);
      return;
    }
    // A view may end with the command that made it: an encoder's room is used again by the next one.
    this.#set(namespace, key, kind, this.#collects && !(this.#direct && namespace === userNamespace) ? value.slice() : value, expiryMs);
  }

  /** A key that is not there may be removed. */
  remove(key: Uint8Array): void {
    this.removeIn(userNamespace, key);
    this.touch(key);
  }

  removeIn(namespace: number, key: Uint8Array): void {
    this.#set(namespace, key, entryKinds.tombstone, nothing, 0);
  }

  #set(namespace: number, key: Uint8Array, kind: number, value: Uint8Array, expiryMs: number): void {
    if (this.#direct && namespace === userNamespace) {
      this.#putAt = this.#primedAt;
      if (kind === entryKinds.tombstone) this.#effects.delete(namespace, key, 0);
      else this.#effects.put(namespace, key, kind, value, expiryMs, 0);
      return;
    }
    this.#pending.set(this.#nameOf(namespace, key), { namespace, key: this.#collects ? key.slice() : key, kind, value, expiryMs });
    this.#pendingBytes += key.length + value.length;
  }

  /** Tells who watches a key that it has changed. */
  touch(key: Uint8Array): void {
    if (this.#watchers.size === 0) return;
    const watchers = this.#watchers.get(nameOf(userNamespace, key));
    if (watchers !== undefined) for (const watcher of watchers) watcher.changed = true;
  }

  /** False when too many keys are watched. */
  watch(key: Uint8Array, watcher: Watcher): boolean {
    const name = nameOf(userNamespace, key);
    const watchers = this.#watchers.get(name);
    if (watchers !== undefined) watchers.add(watcher);
    else if (this.#watchers.size < keyspaceLimits.watchedKeysMax) this.#watchers.set(name, new Set([watcher]));
    else return false;
    return true;
  }

  unwatch(key: Uint8Array, watcher: Watcher): void {
    const name = nameOf(userNamespace, key);
    const watchers = this.#watchers.get(name);
    if (watchers?.delete(watcher) === true && watchers.size === 0) this.#watchers.delete(name);
  }

  /**
   * Visits live entries of a namespace in key order from `from` on, until `visit` returns false or the slice is over. Returns where to go on (a key), or
   * `undefined` when all was seen or `visit` ended it. Views are valid during the visit only; `visit` may put and remove.
   */
  walkSlice(namespace: number, from: Uint8Array, to: Uint8Array | undefined, visit: (key: Uint8Array, entry: Entry) => boolean): Uint8Array | undefined {
    const endMs = this.clock.monotonicMs() + keyspaceLimits.sliceMs;
    const overlay = this.#overlay(namespace, from, to);
    let next = 0;
    let at: Uint8Array = engineKey(namespace, from);
    const end = to === undefined ? engineKeyAfter(namespace) : engineKey(namespace, to);
    const page = this.#page;
    for (;;) {
      const range = { from: at, limit: keyspaceLimits.pageEntries, nowMs: this.nowMs };
      const more = this.store.scan(end === undefined ? range : { ...range, to: end }, page);
      for (let i = 0; i < page.count; i++) {
        const key = page.keyOf(i).subarray(2);
        let hidden = false;
        for (; next < overlay.length; next++) {
          const pending = overlay[next]!;
          const order = compareKeys(pending.key, key);
          if (order > 0) break;
          if (order === 0) hidden = true;
          if (pending.kind !== entryKinds.tombstone && !visit(pending.key, pending)) return undefined;
        }
        if (!hidden && !visit(key, { kind: page.kind[i]!, value: page.valueOf(i), expiryMs: page.expiryMs[i]! })) return undefined;
      }
      if (!more || page.next === undefined) break;
      at = page.next;
      if (!this.#transaction && this.clock.monotonicMs() >= endMs) return at.slice(2);
    }
    for (; next < overlay.length; next++) {
      const pending = overlay[next]!;
      if (pending.kind !== entryKinds.tombstone && !visit(pending.key, pending)) return undefined;
    }
    return undefined;
  }

  /** As `walkSlice`, but several slices at once, for a scan whose client said how much it wants. */
  walkSome(namespace: number, from: Uint8Array, to: Uint8Array | undefined, visit: (key: Uint8Array, entry: Entry) => boolean): Uint8Array | undefined {
    let next: Uint8Array | undefined = from;
    for (let i = 0; i < keyspaceLimits.slicesMax && next !== undefined; i++) next = this.walkSlice(namespace, next, to, visit);
    return next;
  }

  #overlay(namespace: number, from: Uint8Array, to: Uint8Array | undefined): Pending[] {
    const found: Pending[] = [];
    if (this.#pending.size === 0) return found;
    for (const pending of this.#pending.values()) {
      if (pending.namespace === namespace && compareKeys(pending.key, from) >= 0 && (to === undefined || compareKeys(pending.key, to) < 0)) found.push(pending);
    }
    return found.sort((a, b) => compareKeys(a.key, b.key));
  }

  /**
   * Walks a range to its end, at once when it takes one slice or a transaction runs (which nothing may interrupt), else slice by slice with the loop given
   * away between them: what others write meanwhile behind the walk is not seen, what they write before it is.
   */
  walk(namespace: number, from: Uint8Array, to: Uint8Array | undefined, visit: (key: Uint8Array, entry: Entry) => boolean): undefined | Promise<void> {
    const next = this.walkSlice(namespace, from, to, visit);
    return next === undefined ? undefined : this.#walkOn(namespace, next, to, visit);
  }

  async #walkOn(namespace: number, from: Uint8Array, to: Uint8Array | undefined, visit: (key: Uint8Array, entry: Entry) => boolean): Promise<void> {
    for (let next: Uint8Array | undefined = from; next !== undefined;) {
      await this.clock.yield();
      this.nowMs = this.clock.nowMs();
      next = this.walkSlice(namespace, next, to, visit);
    }
  }

  /** Visits live keys in order, as `walk`. */
  walkKeys(from: Uint8Array, to: Uint8Array | undefined, visit: (key: Uint8Array, entry: Entry) => boolean): undefined | Promise<void> {
    return this.walk(userNamespace, from, to, (key, entry) => !this.isAlive(entry) || visit(key, entry));
  }

  /** Whether a range has a live entry. May be asked during a visit. */
  hasAny(namespace: number, from: Uint8Array, to: Uint8Array | undefined): boolean {
    let found = false;
    let next: Uint8Array | undefined = from;
    const outer = this.#page;
    this.#page = this.#inner;
    while (next !== undefined && !found) {
      next = this.walkSlice(namespace, next, to, () => {
        found = true;
        return false;
      });
    }
    this.#page = outer;
    return found;
  }

  /** The greatest live key of a namespace in the store, a copy. What a transaction has written so far is not seen. */
  lastKeyIn(namespace: number): Uint8Array | undefined {
    const from = engineKey(namespace, nothing);
    let to = engineKeyAfter(namespace);
    const page = this.#page;
    for (;;) {
      const range = { from, limit: 1, reverse: true, values: false, nowMs: this.nowMs };
      const more = this.store.scan(to === undefined ? range : { ...range, to }, page);
      if (page.count > 0) return page.keyOf(0).slice(2);
      if (!more || page.next === undefined) return undefined;
      to = page.next;
    }
  }
}

function compareKeys(a: Uint8Array, b: Uint8Array): number {
  return compareBytes(a, 0, a.length, b, 0, b.length);
}

/** The key of the overlay and of watches: a text that is different for different bytes. */
function nameOf(namespace: number, key: Uint8Array): string {
  return `${namespace === userNamespace ? "k" : "f"}${latin1.decode(key)}`;
}

function engineKeyAfter(namespace: number): Uint8Array | undefined {
  return namespace === fieldNamespace ? undefined : engineKey(namespace + 1, nothing);
}
