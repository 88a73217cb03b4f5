// Records of the activity log: the bytes of what happened, from which all aggregations and the catalogue can be rebuilt.
// Format: docs/format/activity-record.md, golden bytes in test/golden/activity/. Little-endian. A record is `kind u8, version u8, body`; strings are
// `length varint (LEB128), UTF-8 bytes`.
// Invariants: 1. records are effects: times and defaults are resolved before they are written, a replay never asks a clock
// 2. decode checks every length against the record and throws `corrupt`, never reads beyond it, and refuses bytes left over
// 3. an unknown kind or a newer version is `unsupported`: this build is too old for the folder, nothing is skipped in silence.
// Cost: about 60-100 bytes an event, 0.3 us to encode.

import { MillraceError } from "#base/errors";
import type { ItemBody, UserBody } from "#wire/api";

export const recordVersion = 1;

export const recordKind = { event: 1, itemPut: 2, itemDelete: 3, userPut: 4, userDelete: 5, served: 6, itemPatch: 7, userPatch: 8 } as const;

export interface EventRecord {
  readonly kind: "event";
  readonly atMs: number;
  readonly receivedMs: number;
  readonly type: string;
  readonly user: string;
  readonly item: string;
  /** "" when the caller gave none. */
  readonly id: string;
  readonly recommendationId: string;
  /** -1 when there is none. */
  readonly position: number;
  /** NaN when there is none. */
  readonly value: number;
  /** JSON object text, "" when there is none. */
  readonly context: string;
}

export interface ItemPutRecord {
  readonly kind: "itemPut";
  readonly atMs: number;
  readonly id: string;
  readonly body: ItemBody;
}

/** Named fields replace those of the stored document, attributes merge by name. A record of its own, so that two patches at once both count. */
export interface ItemPatchRecord {
  readonly kind: "itemPatch";
  readonly atMs: number;
  readonly id: string;
  readonly body: ItemBody;
}

export interface UserPatchRecord {
  readonly kind: "userPatch";
  readonly atMs: number;
  readonly id: string;
  readonly body: UserBody;
}

export interface ItemDeleteRecord {
  readonly kind: "itemDelete";
  readonly atMs: number;
  readonly id: string;
}

export interface UserPutRecord {
  readonly kind: "userPut";
  readonly atMs: number;
  readonly id: string;
  readonly body: UserBody;
}

export interface UserDeleteRecord {
  readonly kind: "userDelete";
  readonly atMs: number;
  readonly id: string;
}

/** An answer that was given: the exposure, and what later events join by its id. */
export interface ServedRecord {
  readonly kind: "served";
  readonly atMs: number;
  readonly recommendationId: string;
  readonly pipeline: string;
  readonly user: string;
  readonly items: readonly string[];
}

export type ActivityRecord =
  EventRecord | ItemPutRecord | ItemPatchRecord | ItemDeleteRecord | UserPutRecord | UserPatchRecord | UserDeleteRecord | ServedRecord;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Encodes records one after another into one growing buffer. Not shared between concurrent batches: the slices live until the append ends. */
export class RecordWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;

  constructor(initialBytes = 16 * 1024) {
    this.#bytes = new Uint8Array(initialBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** The bytes of one record. */
  encode(record: ActivityRecord): Uint8Array {
    const start = this.#at;
    this.#need(64);
    this.#bytes[this.#at] = recordKind[record.kind];
    this.#bytes[this.#at + 1] = recordVersion;
    this.#view.setFloat64(this.#at + 2, record.atMs, true);
    this.#at += 10;
    switch (record.kind) {
      case "event":
        this.#view.setFloat64(this.#at, record.receivedMs, true);
        this.#view.setFloat64(this.#at + 8, record.value, true);
        this.#view.setInt32(this.#at + 16, record.position, true);
        this.#at += 20;
        this.#string(record.type);
        this.#string(record.user);
        this.#string(record.item);
        this.#string(record.id);
        this.#string(record.recommendationId);
        this.#string(record.context);
        break;
      case "itemPut":
      case "itemPatch":
      case "userPut":
      case "userPatch":
        this.#string(record.id);
        this.#string(JSON.stringify(record.body));
        break;
      case "itemDelete":
      case "userDelete":
        this.#string(record.id);
        break;
      case "served":
        this.#string(record.recommendationId);
        this.#string(record.pipeline);
        this.#string(record.user);
        this.#need(5);
        this.#varint(record.items.length);
        for (const item of record.items) this.#string(item);
        break;
    }
    return this.#bytes.subarray(start, this.#at);
  }

  /** Room for `count` more bytes. Slices given out before keep the old buffer. */
  #need(count: number): void {
    if (this.#at + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + count));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  #varint(value: number): void {
    let rest = value;
    while (rest > 127) {
      this.#bytes[this.#at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    this.#bytes[this.#at++] = rest;
  }

  #string(text: string): void {
    const length = text.length;
    this.#need(length * 3 + 5);
    if (length < 128) {
      // Most strings are short ASCII: one pass, undone when a character is not.
      const bytes = this.#bytes;
      let at = this.#at;
      bytes[at++] = length;
      let index = 0;
      for (; index < length; index += 1) {
        const code = text.charCodeAt(index);
        if (code > 127) break;
        bytes[at++] = code;
      }
      if (index === length) {
        this.#at = at;
        return;
      }
    }
    const utf8 = encoder.encode(text);
    this.#varint(utf8.length);
    this.#bytes.set(utf8, this.#at);
    this.#at += utf8.length;
  }
}

/** Decodes one record. Throws `corrupt` for bytes that no writer made, `unsupported` for those of a newer version. */
export function decodeRecord(bytes: Uint8Array): ActivityRecord {
  const reader = new RecordReader(bytes);
  const kind = reader.u8();
  const version = reader.u8();
  if (version === 0 || kind === 0) throw damaged("kind or version is 0");
  if (version > recordVersion || kind > recordKind.userPatch) {
    throw new MillraceError("unsupported", `activity record of kind ${kind}, version ${version}`, { todo: "use a newer millrace for this data folder" });
  }
  const atMs = reader.f64();
  const record = readBody(kind, atMs, reader);
  reader.end();
  return record;
}

function readBody(kind: number, atMs: number, reader: RecordReader): ActivityRecord {
  switch (kind) {
    case recordKind.event: {
      const receivedMs = reader.f64();
      const value = reader.f64();
      const position = reader.i32();
      return {
        kind: "event",
        atMs,
        receivedMs,
        value,
        position,
        type: reader.string(),
        user: reader.string(),
        item: reader.string(),
        id: reader.string(),
        recommendationId: reader.string(),
        context: reader.string(),
      };
    }
    case recordKind.itemPut:
      return { kind: "itemPut", atMs, id: reader.string(), body: reader.object() as ItemBody };
    case recordKind.userPut:
      return { kind: "userPut", atMs, id: reader.string(), body: reader.object() as UserBody };
    case recordKind.itemPatch:
      return { kind: "itemPatch", atMs, id: reader.string(), body: reader.object() as ItemBody };
    case recordKind.userPatch:
      return { kind: "userPatch", atMs, id: reader.string(), body: reader.object() as UserBody };
    case recordKind.itemDelete:
      return { kind: "itemDelete", atMs, id: reader.string() };
    case recordKind.userDelete:
      return { kind: "userDelete", atMs, id: reader.string() };
    default: {
      const recommendationId = reader.string();
      const pipeline = reader.string();
      const user = reader.string();
      const count = reader.varint();
      if (count > reader.left) throw damaged("more items than bytes");
      return { kind: "served", atMs, recommendationId, pipeline, user, items: Array.from({ length: count }, () => reader.string()) };
    }
  }
}

function damaged(what: string): MillraceError {
  return new MillraceError("corrupt", `activity record: ${what}`, {
    todo: "restore the data folder from a copy; the record passed the log's checksum, so this is a defect to report",
  });
}

class RecordReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  varint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    throw damaged("a length of more than 5 bytes");
  }

  string(): string {
    const length = this.varint();
    const start = this.#take(length);
    const bytes = this.#bytes;
    if (length < 32) {
      // Short ASCII without the decoder's fixed cost.
      let text = "";
      let at = start;
      for (; at < start + length; at += 1) {
        const code = bytes[at]!;
        if (code > 127) break;
        text += String.fromCharCode(code);
      }
      if (at === start + length) return text;
    }
    try {
      return decoder.decode(bytes.subarray(start, start + length));
    } catch (cause) {
      throw new MillraceError("corrupt", "activity record: text is not UTF-8", { cause });
    }
  }

  object(): unknown {
    const text = this.string();
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    } catch (cause) {
      throw new MillraceError("corrupt", "activity record: body is not JSON", { cause });
    }
    throw damaged("body is not an object");
  }

  end(): void {
    if (this.left !== 0) throw damaged(`${this.left} bytes left over`);
  }

  #take(count: number): number {
    if (count > this.left) throw damaged("it ends inside a field");
    const at = this.#at;
    this.#at += count;
    return at;
  }
}
