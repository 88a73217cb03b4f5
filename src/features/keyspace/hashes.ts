// Hashes: small ones are one entry, a packed row (hash-row.ts); large ones a meta entry and an entry for each field.
//
//   small  namespace 0       key                       -> kind hash: the row
//   large  namespace 0       key                       -> kind hashMeta: u8 format, u8 flags, u48 id, u32 fields without expiry   [18-byte bound]
//          namespace 0xffff  u48 id (big-endian), 0     -> kind hashField: the key, so that a sweep finds whose fields these are
//          namespace 0xffff  u48 id, 1, name            -> kind hashField: the value, with its expiry
//
// Why an id and not the key in the field's key: RENAME moves one meta entry whatever the size, fields are shorter, and the name may be as long as a key.
// Why two forms: a field's write copies its row, so rows are bounded; a large hash pays 20 B and a probe a field instead.
// Why a large hash stays large: a hash around the bound would be rewritten again and again. It ends with DEL or its last field.
// Invariants: 1. a meta entry counts the fields that have no expiry exactly; those with one are counted when asked, since they vanish by themselves
// 2. ids are never used again while fields of theirs are in the store  3. fields whose owner has another meta entry, or none, are dead: never read, swept.
// Cost: DEL and RENAME of a large hash are one write; its fields are swept later. HLEN of a large hash with expiring fields reads them.
// Limits: keyspaceLimits; a name is at most fieldBytesMax, as it may come to stand in a key.

import { MillraceError } from "#base/errors";
import { entryKinds } from "#kernel/entry-record";
import { keyAfterPrefix, storeLimits } from "#lsm/store";
import { decodeRow, type HashField, HashRowEncoder, hasFieldExpiry, keyExpiryOf } from "./hash-row.ts";
import { type Entry, fieldNamespace, type Keyspace } from "./keyspace.ts";

/** Engine key without namespace, id and mark. */
export const fieldBytesMax = storeLimits.keyBytesMax - 2 - 7;

const metaFormat = 1;
const metaBytes = 12;
const mayExpire = 1;
const ownerMark = 0;
const fieldMark = 1;

export interface Hash {
  /** Its fields are entries of their own: `set` and `delete` put at once, not only `save`. */
  readonly large: boolean;
  /** The key's own expiry; 0: none. */
  keyExpiryMs: number;
  get(name: Uint8Array): HashField | undefined;
  /** Sets a field, `expiryMs` 0: for good. True when it is new. */
  set(name: Uint8Array, value: Uint8Array, expiryMs: number): boolean;
  delete(name: Uint8Array): boolean;
  /** Live fields. */
  count(): number;
  /** Visits live fields, in the order of their first write when small, in the order of their names when large. Views are valid during the visit. */
  each(visit: (field: HashField) => void): void;
  /** Puts the changes; a hash without fields removes its key. */
  save(): void;
}

export class Hashes {
  readonly keyspace: Keyspace;
  readonly encoder = new HashRowEncoder();
  #nextId = 0;

  constructor(keyspace: Keyspace) {
    this.keyspace = keyspace;
    keyspace.isAlive = (entry) => entry.kind !== entryKinds.hashMeta || anyField(keyspace, entry);
  }

  static isHash(entry: Entry): boolean {
    return entry.kind === entryKinds.hash || entry.kind === entryKinds.hashMeta;
  }

  /** The hash of an entry that is one. */
  open(key: Uint8Array, entry: Entry): Hash {
    if (entry.kind === entryKinds.hashMeta) return new LargeHash(this, key, readMeta(entry), entry.expiryMs);
    const { fields, keyExpiryMs } = decodeRow(entry.value, entry.expiryMs, this.keyspace.nowMs);
    return new SmallHash(this, key, fields, keyExpiryMs);
  }

  create(key: Uint8Array): Hash {
    return new SmallHash(this, key, [], 0);
  }

  /** The key's own expiry of any entry; 0: none. */
  keyExpiry(entry: Entry): number {
    return entry.kind === entryKinds.hash ? keyExpiryOf(entry.value, entry.expiryMs) : entry.expiryMs;
  }

  /** Puts the entry again with another expiry of the key. */
  setKeyExpiry(key: Uint8Array, entry: Entry, expiryMs: number): void {
    if (entry.kind === entryKinds.hash && hasFieldExpiry(entry.value)) {
      const hash = this.open(key, entry);
      hash.keyExpiryMs = expiryMs;
      hash.save();
    } else {
      this.keyspace.put(key, entry.kind, entry.value, expiryMs);
    }
  }

  /** Puts what stands under one key under another as well, instead of it (`move`) or beside it. */
  transfer(entry: Entry, from: Uint8Array, to: Uint8Array, move: boolean): void {
    const { keyspace } = this;
    if (entry.kind === entryKinds.hashMeta) {
      const meta = readMeta(entry);
      if (move) {
        keyspace.putIn(fieldNamespace, ownerKey(meta.id), entryKinds.hashField, to, 0);
        keyspace.put(to, entry.kind, entry.value, entry.expiryMs);
      } else {
        const copy = new LargeHash(this, to, { id: this.newId(), persistent: 0, mayExpire: false }, entry.expiryMs);
        copy.own();
        this.open(from, entry).each(({ name, value, expiryMs }) => copy.add(name.slice(), value.slice(), expiryMs));
        copy.save();
      }
    } else {
      keyspace.put(to, entry.kind, entry.value, entry.expiryMs);
    }
    if (move) this.remove(from, entry);
  }

  /** Removes a key. The fields of a large hash are left to the sweep. */
  remove(key: Uint8Array, entry: Entry): void {
    this.keyspace.remove(key);
    if (entry.kind === entryKinds.hashMeta) this.keyspace.onOrphans();
  }

  /** Above every id of which the store has a field. */
  newId(): number {
    if (this.#nextId === 0) {
      const last = this.keyspace.lastKeyIn(fieldNamespace);
      this.#nextId = last === undefined ? 1 : idOf(last) + 1;
    }
    return this.#nextId++;
  }
}

interface Meta {
  readonly id: number;
  /** Fields without an expiry. */
  persistent: number;
  /** A field was given an expiry once. */
  mayExpire: boolean;
}

function readMeta(entry: Entry): Meta {
  const { value } = entry;
  if (value.length !== metaBytes || value[0] !== metaFormat || value[1]! > mayExpire) {
    throw new MillraceError("corrupt", `a hash meta entry of ${value.length} bytes`, { todo: "restore the node's data from a backup" });
  }
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return { id: view.getUint32(2, true) + view.getUint16(6, true) * 2 ** 32, persistent: view.getUint32(8, true), mayExpire: value[1] === mayExpire };
}

function writeMeta(meta: Meta): Uint8Array {
  const value = new Uint8Array(metaBytes);
  const view = new DataView(value.buffer);
  value[0] = metaFormat;
  value[1] = meta.mayExpire ? mayExpire : 0;
  view.setUint32(2, meta.id % 2 ** 32, true);
  view.setUint16(6, Math.floor(meta.id / 2 ** 32), true);
  view.setUint32(8, meta.persistent, true);
  return value;
}

function prefixed(id: number, mark: number, name: Uint8Array): Uint8Array {
  const key = new Uint8Array(7 + name.length);
  const view = new DataView(key.buffer);
  view.setUint16(0, Math.floor(id / 2 ** 32), false);
  view.setUint32(2, id % 2 ** 32, false);
  key[6] = mark;
  key.set(name, 7);
  return key;
}

const nothing = new Uint8Array(0);

/** Key, in the namespace of fields, of the entry that says whose fields these are. */
export function ownerKey(id: number): Uint8Array {
  return prefixed(id, ownerMark, nothing);
}

export function fieldKey(id: number, name: Uint8Array): Uint8Array {
  return prefixed(id, fieldMark, name);
}

/** The id in a key of the namespace of fields. */
export function idOf(key: Uint8Array): number {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  return view.getUint16(0, false) * 2 ** 32 + view.getUint32(2, false);
}

/** The id of a large hash's entry. */
export function idOfMeta(entry: Entry): number {
  return readMeta(entry).id;
}

/** Name of a field in a key of the namespace of fields. */
export function nameOfField(key: Uint8Array): Uint8Array {
  return key.subarray(7);
}

/** The range of an id's fields, `after` a name when one is given. */
export function fieldRange(id: number, after?: Uint8Array): { readonly from: Uint8Array; readonly to: Uint8Array | undefined } {
  const prefix = prefixed(id, fieldMark, nothing);
  if (after === undefined) return { from: prefix, to: keyAfterPrefix(prefix) };
  // The least name behind one is the same with a zero byte.
  const next = new Uint8Array(after.length + 1);
  next.set(after);
  return { from: prefixed(id, fieldMark, next), to: keyAfterPrefix(prefix) };
}

function anyField(keyspace: Keyspace, entry: Entry): boolean {
  const meta = readMeta(entry);
  if (meta.persistent > 0 || !meta.mayExpire) return meta.persistent > 0;
  const { from, to } = fieldRange(meta.id);
  return keyspace.hasAny(fieldNamespace, from, to);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Beyond so many comparisons a row's names are indexed. */
const comparisonsMax = 4_096;
const latin1 = new TextDecoder("latin1");

class SmallHash implements Hash {
  readonly large = false;
  keyExpiryMs: number;
  readonly #hashes: Hashes;
  readonly #key: Uint8Array;
  readonly #fields: HashField[];
  #comparisons = 0;
  /** Position by name, once searching has become expensive. */
  #index: Map<string, number> | undefined;

  constructor(hashes: Hashes, key: Uint8Array, fields: HashField[], keyExpiryMs: number) {
    this.#hashes = hashes;
    this.#key = key;
    this.#fields = fields;
    this.keyExpiryMs = keyExpiryMs;
  }

  #at(name: Uint8Array): number {
    const fields = this.#fields;
    if (this.#index !== undefined) return this.#index.get(latin1.decode(name)) ?? -1;
    this.#comparisons += fields.length;
    if (this.#comparisons > comparisonsMax) {
      this.#index = new Map(fields.map((field, i) => [latin1.decode(field.name), i]));
      return this.#at(name);
    }
    for (let i = 0; i < fields.length; i++) if (sameBytes(fields[i]!.name, name)) return i;
    return -1;
  }

  get(name: Uint8Array): HashField | undefined {
    return this.#fields[this.#at(name)];
  }

  set(name: Uint8Array, value: Uint8Array, expiryMs: number): boolean {
    const at = this.#at(name);
    if (at >= 0) {
      this.#fields[at] = { name: this.#fields[at]!.name, value, expiryMs };
      return false;
    }
    this.#index?.set(latin1.decode(name), this.#fields.length);
    this.#fields.push({ name, value, expiryMs });
    return true;
  }

  delete(name: Uint8Array): boolean {
    const at = this.#at(name);
    if (at < 0) return false;
    this.#fields.splice(at, 1);
    this.#index = undefined;
    this.#comparisons = 0;
    return true;
  }

  count(): number {
    return this.#live().length;
  }

  each(visit: (field: HashField) => void): void {
    for (const field of this.#live()) visit(field);
  }

  /** A field may have been given an expiry that has passed. */
  #live(): HashField[] {
    const { nowMs } = this.#hashes.keyspace;
    return this.#fields.some(({ expiryMs }) => expiryMs !== 0 && expiryMs <= nowMs)
      ? this.#fields.filter(({ expiryMs }) => expiryMs === 0 || expiryMs > nowMs)
      : this.#fields;
  }

  save(): void {
    const { keyspace, encoder } = this.#hashes;
    const fields = this.#live();
    if (fields.length === 0) {
      keyspace.remove(this.#key);
      return;
    }
    const encoded = encoder.encode(fields, this.keyExpiryMs);
    if (encoded !== undefined) {
      // A command saves one row, and the encoder's room is free again after its commit.
      keyspace.put(this.#key, entryKinds.hash, encoded.row, encoded.expiryMs);
      return;
    }
    const large = new LargeHash(this.#hashes, this.#key, { id: this.#hashes.newId(), persistent: 0, mayExpire: false }, this.keyExpiryMs);
    large.own();
    for (const { name, value, expiryMs } of fields) large.add(name, value, expiryMs);
    large.save();
  }
}

class LargeHash implements Hash {
  readonly large = true;
  keyExpiryMs: number;
  readonly #hashes: Hashes;
  readonly #key: Uint8Array;
  readonly #meta: Meta;

  constructor(hashes: Hashes, key: Uint8Array, meta: Meta, keyExpiryMs: number) {
    this.#hashes = hashes;
    this.#key = key;
    this.#meta = meta;
    this.keyExpiryMs = keyExpiryMs;
  }

  /** Writes whose fields these are. */
  own(): void {
    this.#hashes.keyspace.putIn(fieldNamespace, ownerKey(this.#meta.id), entryKinds.hashField, this.#key, 0);
  }

  get(name: Uint8Array): HashField | undefined {
    if (name.length > fieldBytesMax) return undefined;
    const entry = this.#hashes.keyspace.findIn(fieldNamespace, fieldKey(this.#meta.id, name));
    return entry === undefined ? undefined : { name, value: entry.value, expiryMs: entry.expiryMs };
  }

  set(name: Uint8Array, value: Uint8Array, expiryMs: number): boolean {
    const before = this.get(name);
    if (before?.expiryMs === 0) this.#meta.persistent--;
    this.add(name, value, expiryMs);
    return before === undefined;
  }

  /** Sets a field that is known to be new. */
  add(name: Uint8Array, value: Uint8Array, expiryMs: number): void {
    const { keyspace } = this.#hashes;
    if (expiryMs === 0) this.#meta.persistent++;
    else this.#meta.mayExpire = true;
    keyspace.putIn(fieldNamespace, fieldKey(this.#meta.id, name), entryKinds.hashField, value, expiryMs);
  }

  delete(name: Uint8Array): boolean {
    const before = this.get(name);
    if (before === undefined) return false;
    if (before.expiryMs === 0) this.#meta.persistent--;
    this.#hashes.keyspace.removeIn(fieldNamespace, fieldKey(this.#meta.id, name));
    return true;
  }

  count(): number {
    const meta = this.#meta;
    if (!meta.mayExpire) return meta.persistent;
    let expiring = 0;
    this.each(({ expiryMs }) => {
      if (expiryMs !== 0) expiring++;
    });
    return meta.persistent + expiring;
  }

  each(visit: (field: HashField) => void): void {
    const { keyspace } = this.#hashes;
    const { from, to } = fieldRange(this.#meta.id);
    let next: Uint8Array | undefined = from;
    while (next !== undefined) {
      next = keyspace.walkSlice(fieldNamespace, next, to, (key, { value, expiryMs }) => {
        visit({ name: nameOfField(key), value, expiryMs });
        return true;
      });
    }
  }

  save(): void {
    const { keyspace } = this.#hashes;
    const meta = this.#meta;
    const entry = { kind: entryKinds.hashMeta, value: writeMeta(meta), expiryMs: this.keyExpiryMs };
    if (anyField(keyspace, entry)) keyspace.put(this.#key, entry.kind, entry.value, entry.expiryMs);
    else this.#hashes.remove(this.#key, entry);
  }
}
