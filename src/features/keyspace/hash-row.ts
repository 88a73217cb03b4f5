// A small hash as one value: all its fields with their values and, where they have one, their expiry. Format: docs/format/hash-row.md.
//
//   u8 format = 1   u8 flags   u16 fields   [u48 shared expiry]  [u48 expiry of the key]
//   fields: u8 head   u8|u16 name bytes   u8|u16 value bytes   [u48 own expiry]   name   value
//
// Why packed: reading ten fields is then one probe and one pass over bytes that lie together, and a key of five short fields costs some 20 bytes more
// than its content.
// Why an expiry once: fields that were written together mostly expire together; the row keeps the first one's and the others refer to it.
// Why the entry's expiry may be the fields': an engine entry that has expired is gone for every reader and for compaction. When all fields expire, the
// entry expires with the last of them, and "is the key there" needs no look into the row. The key's own, later expiry then stands in the row.
// Invariants: 1. 1 to fieldsMax fields and at most rowBytesMax bytes  2. names are distinct  3. a row is checked as it is read; what does not fit is
// `corrupt`, never a wrong value.
// Cost: 3 B a field beside name and value; reading ten of ten about 0.5 us.

import { MillraceError } from "#base/errors";
import { DistinctKeys } from "./distinct-keys.ts";

export const hashRowLimits = {
  /** More fields make a large hash. Source: Redis' own bound, hash-max-listpack-entries. */
  fieldsMax: 512,
  /** More bytes make a large hash: a field's write would copy them all. */
  rowBytesMax: 16_384,
} as const;

const format = 1;
/** Fields times names beyond which a merge leaves it to the plain way, which has an index. */
const comparisonsMax = 16_384;
const headBytes = 4;
const expiryBytes = 6;
const rowShared = 1;
const rowFieldsDecide = 2;
const rowKeyExpiry = 4;
const rowFlags = 7;
const longName = 1;
const longValue = 2;
const ownExpiry = 4;
const sharedExpiry = 8;
const fieldFlags = 15;

/** Latest time that six bytes hold, in the year 10889. */
export const expiryMsMax = 2 ** 48 - 1;

/** A field as a view into a row or into arguments. `expiryMs` 0: none. */
export interface HashField {
  name: Uint8Array;
  value: Uint8Array;
  expiryMs: number;
}

export interface DecodedRow {
  /** Fields that have not expired, in the order of their first write. */
  readonly fields: HashField[];
  /** The key's own expiry; 0: none. */
  readonly keyExpiryMs: number;
}

function corrupt(what: string): MillraceError {
  return new MillraceError("corrupt", `a hash row ${what}`, { todo: "restore the node's data from a backup; the key can be deleted and written anew" });
}

function u16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

function u48(bytes: Uint8Array, at: number): number {
  return u16(bytes, at) + u16(bytes, at + 2) * 65_536 + u16(bytes, at + 4) * 4_294_967_296;
}

function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

function putU48(bytes: Uint8Array, at: number, value: number): void {
  const low = value % 4_294_967_296;
  putU16(bytes, at, low & 0xffff);
  putU16(bytes, at + 2, low >>> 16);
  putU16(bytes, at + 4, Math.floor(value / 4_294_967_296));
}

/** `set` costs some 40 ns whatever it copies. */
function putBytes(bytes: Uint8Array, at: number, part: Uint8Array): number {
  const { length } = part;
  if (length > 32) bytes.set(part, at);
  else for (let i = 0; i < length; i++) bytes[at + i] = part[i]!;
  return at + length;
}

/** The key's own expiry of a row whose entry expires at `entryExpiryMs`. */
export function keyExpiryOf(row: Uint8Array, entryExpiryMs: number): number {
  checkHead(row, 0, row.length);
  const flags = row[1]!;
  if ((flags & rowKeyExpiry) !== 0) return u48(row, headBytes + ((flags & rowShared) !== 0 ? expiryBytes : 0));
  return (flags & rowFieldsDecide) !== 0 ? 0 : entryExpiryMs;
}

/** Whether the row has fields with an expiry of their own, so that its entry's expiry depends on them. */
export function hasFieldExpiry(row: Uint8Array): boolean {
  checkHead(row, 0, row.length);
  return (row[1]! & rowShared) !== 0;
}

function checkHead(memory: Uint8Array, at: number, bytes: number): void {
  if (bytes < headBytes || memory[at] !== format || (memory[at + 1]! & ~rowFlags) !== 0) throw corrupt(`of ${bytes} bytes has an unknown head`);
}

/** All live fields of a row, as views into it. `entryExpiryMs` is the expiry of its engine entry. Throws `corrupt`. */
export function decodeRow(row: Uint8Array, entryExpiryMs: number, nowMs: number): DecodedRow {
  const keyExpiryMs = keyExpiryOf(row, entryExpiryMs);
  const flags = row[1]!;
  let at = headBytes;
  const shared = (flags & rowShared) !== 0 ? u48(row, at) : 0;
  if ((flags & rowShared) !== 0) at += expiryBytes;
  if ((flags & rowKeyExpiry) !== 0) at += expiryBytes;
  const count = u16(row, 2);
  const fields: HashField[] = [];
  for (let i = 0; i < count; i++) {
    const head = row[at++]!;
    if (at > row.length || (head & ~fieldFlags) !== 0) throw corrupt(`ends or breaks in field ${i} of ${count}`);
    const nameBytes = (head & longName) !== 0 ? u16(row, at) : row[at]!;
    at += (head & longName) !== 0 ? 2 : 1;
    const valueBytes = (head & longValue) !== 0 ? u16(row, at) : row[at]!;
    at += (head & longValue) !== 0 ? 2 : 1;
    let expiryMs = 0;
    if ((head & ownExpiry) !== 0) {
      expiryMs = u48(row, at);
      at += expiryBytes;
    } else if ((head & sharedExpiry) !== 0) {
      expiryMs = shared;
    }
    const end = at + nameBytes + valueBytes;
    if (!(end <= row.length)) throw corrupt(`ends in field ${i} of ${count}`);
    if (expiryMs === 0 || expiryMs > nowMs) fields.push({ name: row.subarray(at, at + nameBytes), value: row.subarray(at + nameBytes, end), expiryMs });
    at = end;
  }
  if (at !== row.length) throw corrupt(`has ${row.length - at} bytes behind its ${count} fields`);
  return { fields, keyExpiryMs };
}

/** Bytes of a row with these fields, or -1 when it must be a large hash. */
export function rowBytes(fields: readonly HashField[], keyExpiryMs: number): number {
  if (fields.length > hashRowLimits.fieldsMax) return -1;
  let bytes = headBytes + expiryBytes + (keyExpiryMs === 0 ? 0 : expiryBytes);
  for (const { name, value, expiryMs } of fields) {
    bytes += 3 + (name.length > 255 ? 1 : 0) + (value.length > 255 ? 1 : 0) + name.length + value.length + (expiryMs === 0 ? 0 : expiryBytes);
    if (bytes > hashRowLimits.rowBytesMax) return -1;
  }
  return bytes;
}

export interface EncodedRow {
  /** A view into the encoder's room, until its next use. */
  readonly row: Uint8Array;
  /** For the engine entry. */
  readonly expiryMs: number;
}

/** A row with fields put into it. */
export interface MergedRow {
  /** A view into the encoder's room, until its next use. */
  readonly row: Uint8Array;
  readonly added: number;
}

/** Encodes rows into one room that it keeps. */
export class HashRowEncoder {
  readonly #room = new Uint8Array(hashRowLimits.rowBytesMax + 64);
  readonly #names = new DistinctKeys();
  #used = new Uint8Array(64);

  /**
   * A row with the fields that stand in `args` from `from` on, name and value in turn: bytes to bytes, without a view of each field, which is most of what HSET
   * costs. `row` undefined: a new one. `undefined` where the plain way must decide: expiries, names or values of more than 255 bytes, a name given twice, a row that
   * becomes too large. Throws `corrupt`.
   */
  merge(row: Uint8Array | undefined, args: WantedFields, from: number): MergedRow | undefined {
    const { buffer, count } = args;
    const pairs = (count - from) >> 1;
    const names = this.#names;
    names.begin();
    let most = headBytes + expiryBytes + (row === undefined ? 0 : row.length);
    for (let i = from; i < count; i += 2) {
      const name = args.end(i) - args.start(i);
      const value = args.end(i + 1) - args.start(i + 1);
      if (name > 255 || value > 255 || !names.add(buffer, args.start(i), args.end(i))) return undefined;
      most += 3 + name + value;
    }
    if (most > hashRowLimits.rowBytesMax) return undefined;
    if (this.#used.length < pairs) this.#used = new Uint8Array(pairs * 2);
    const used = this.#used.fill(0, 0, pairs);
    const room = this.#room;
    let at = headBytes;
    let fields = 0;
    let next = 0;
    if (row !== undefined) {
      checkHead(row, 0, row.length);
      if (row[1] !== 0) return undefined;
      fields = u16(row, 2);
      if (fields * pairs > comparisonsMax) return undefined;
      let read = headBytes;
      for (let i = 0; i < fields; i++) {
        if (read + 3 > row.length) throw corrupt(`ends in field ${i} of ${fields}`);
        if (row[read] !== 0) return undefined;
        const nameBytes = row[read + 1]!;
        const end = read + 3 + nameBytes + row[read + 2]!;
        if (end > row.length) throw corrupt(`ends in field ${i} of ${fields}`);
        let found = -1;
        for (let tried = 0; tried < pairs; tried++) {
          const pair = next + tried < pairs ? next + tried : next + tried - pairs;
          const start = args.start(from + 2 * pair);
          if (used[pair] !== 0 || args.end(from + 2 * pair) - start !== nameBytes) continue;
          let same = 0;
          while (same < nameBytes && buffer[start + same] === row[read + 3 + same]) same++;
          if (same < nameBytes) continue;
          found = pair;
          break;
        }
        if (found >= 0) {
          used[found] = 1;
          next = found + 1 < pairs ? found + 1 : 0;
          at = putField(room, at, buffer, args, from + 2 * found);
        } else {
          for (let byte = read; byte < end; byte++) room[at++] = row[byte]!;
        }
        read = end;
      }
      if (read !== row.length) throw corrupt(`has ${row.length - read} bytes behind its ${fields} fields`);
    }
    let added = 0;
    for (let pair = 0; pair < pairs; pair++) {
      if (used[pair] !== 0) continue;
      at = putField(room, at, buffer, args, from + 2 * pair);
      added++;
    }
    if (fields + added > hashRowLimits.fieldsMax) return undefined;
    room[0] = format;
    room[1] = 0;
    putU16(room, 2, fields + added);
    return { row: room.subarray(0, at), added };
  }

  /** `undefined` when the fields need a large hash. */
  encode(fields: readonly HashField[], keyExpiryMs: number): EncodedRow | undefined {
    if (rowBytes(fields, keyExpiryMs) < 0) return undefined;
    const room = this.#room;
    let shared = 0;
    let last = 0;
    let all = fields.length > 0;
    for (const { expiryMs } of fields) {
      if (expiryMs === 0) all = false;
      else {
        if (shared === 0) shared = expiryMs;
        if (expiryMs > last) last = expiryMs;
      }
    }
    const fieldsDecide = all && (keyExpiryMs === 0 || keyExpiryMs > last);
    const keepsKey = fieldsDecide && keyExpiryMs !== 0;
    room[0] = format;
    room[1] = (shared === 0 ? 0 : rowShared) | (fieldsDecide ? rowFieldsDecide : 0) | (keepsKey ? rowKeyExpiry : 0);
    putU16(room, 2, fields.length);
    let at = headBytes;
    if (shared !== 0) {
      putU48(room, at, shared);
      at += expiryBytes;
    }
    if (keepsKey) {
      putU48(room, at, keyExpiryMs);
      at += expiryBytes;
    }
    for (const { name, value, expiryMs } of fields) {
      const own = expiryMs !== 0 && expiryMs !== shared;
      room[at++] =
        (name.length > 255 ? longName : 0) | (value.length > 255 ? longValue : 0) | (own ? ownExpiry : 0) | (expiryMs !== 0 && !own ? sharedExpiry : 0);
      putU16(room, at, name.length);
      at += name.length > 255 ? 2 : 1;
      putU16(room, at, value.length);
      at += value.length > 255 ? 2 : 1;
      if (own) {
        putU48(room, at, expiryMs);
        at += expiryBytes;
      }
      at = putBytes(room, at, name);
      at = putBytes(room, at, value);
    }
    return { row: room.subarray(0, at), expiryMs: fieldsDecide ? last : keyExpiryMs };
  }
}

/** A field of short name and value, without an expiry: name and value stand at `i` and `i + 1`. */
function putField(room: Uint8Array, at: number, buffer: Uint8Array, args: WantedFields, i: number): number {
  const name = args.start(i);
  const nameEnd = args.end(i);
  const value = args.start(i + 1);
  const valueEnd = args.end(i + 1);
  room[at] = 0;
  room[at + 1] = nameEnd - name;
  room[at + 2] = valueEnd - value;
  at += 3;
  for (let byte = name; byte < nameEnd; byte++) room[at++] = buffer[byte]!;
  for (let byte = value; byte < valueEnd; byte++) room[at++] = buffer[byte]!;
  return at;
}

/** The names that are looked for: parts of one buffer, as they came over the wire. */
export interface WantedFields {
  readonly buffer: Uint8Array;
  readonly count: number;
  start(i: number): number;
  end(i: number): number;
}

/** Positions of values, owned and reused by the caller. Field i of the wanted is at `at[i]`, `bytes[i]` long; -1 when it is not there. */
export class FieldPlaces {
  at = new Int32Array(64);
  bytes = new Int32Array(64);
  starts = new Int32Array(64);
  sizes = new Int32Array(64);

  reset(count: number): void {
    if (count > this.at.length) {
      const room = Math.max(count, this.at.length * 2);
      this.at = new Int32Array(room);
      this.bytes = new Int32Array(room);
      this.starts = new Int32Array(room);
      this.sizes = new Int32Array(room);
    }
    this.at.fill(-1, 0, count);
  }
}

/**
 * Finds wanted fields, in one pass over the row that lies in `memory` from `at`: addresses are of `memory`. The next wanted field is tried first, since
 * fields are mostly asked for in the order in which they were written. Expired ones are not found. Throws `corrupt`.
 */
export function findFields(memory: Uint8Array, rowAt: number, bytes: number, wanted: WantedFields, from: number, nowMs: number, places: FieldPlaces): void {
  const count = wanted.count - from;
  places.reset(count);
  const { at: valueAt, bytes: valueSize, starts, sizes } = places;
  const buffer = wanted.buffer;
  for (let i = 0; i < count; i++) {
    const start = wanted.start(from + i);
    starts[i] = start;
    sizes[i] = wanted.end(from + i) - start;
  }
  checkHead(memory, rowAt, bytes);
  const end = rowAt + bytes;
  const flags = memory[rowAt + 1]!;
  const fields = u16(memory, rowAt + 2);
  let at = rowAt + headBytes;
  let sharedGone = false;
  if ((flags & rowShared) !== 0) {
    sharedGone = u48(memory, at) <= nowMs;
    at += expiryBytes;
  }
  if ((flags & rowKeyExpiry) !== 0) at += expiryBytes;
  let left = count;
  let next = 0;
  for (let i = 0; i < fields; i++) {
    const head = memory[at++]!;
    let nameBytes = memory[at++]!;
    if ((head & longName) !== 0) nameBytes |= memory[at++]! << 8;
    let size = memory[at++]!;
    if ((head & longValue) !== 0) size |= memory[at++]! << 8;
    let gone = false;
    if ((head & (ownExpiry | sharedExpiry)) !== 0) {
      if ((head & ownExpiry) !== 0) {
        gone = u48(memory, at) <= nowMs;
        at += expiryBytes;
      } else gone = sharedGone;
    }
    const nameEnd = at + nameBytes;
    if (nameEnd + size > end) throw corrupt(`ends in field ${i} of ${fields}`);
    if (!gone) {
      for (let k = 0; k < count; k++) {
        let j = next + k;
        if (j >= count) j -= count;
        if (sizes[j] !== nameBytes) continue;
        let a = at;
        let b = starts[j]!;
        while (a < nameEnd && memory[a] === buffer[b]) {
          a++;
          b++;
        }
        if (a < nameEnd) continue;
        if (valueAt[j] === -1) left--;
        valueAt[j] = nameEnd;
        valueSize[j] = size;
        next = j + 1 === count ? 0 : j + 1;
        break;
      }
      if (left === 0) return;
    }
    at = nameEnd + size;
  }
  // A field that was asked for twice has been found once.
  for (let j = 0; j < count; j++) {
    if (valueAt[j] !== -1) continue;
    const twin = twinOf(places, buffer, j, count);
    if (twin < 0) continue;
    valueAt[j] = valueAt[twin]!;
    valueSize[j] = valueSize[twin]!;
  }
}

/** Another wanted field of the same name that was found, or -1. */
function twinOf(places: FieldPlaces, buffer: Uint8Array, j: number, count: number): number {
  const { at, starts, sizes } = places;
  const size = sizes[j]!;
  const start = starts[j]!;
  for (let other = 0; other < count; other++) {
    if (at[other] === -1 || sizes[other] !== size) continue;
    let i = 0;
    while (i < size && buffer[start + i] === buffer[starts[other]! + i]) i++;
    if (i === size) return other;
  }
  return -1;
}
