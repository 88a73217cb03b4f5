// Records of the activity log: the bytes of what happened, from which all aggregations and the catalogue can be rebuilt.
// Format: docs/format/activity-record.md, golden bytes in test/golden/activity/. Little-endian. A record is `kind u8, version u8, body`; strings are
// `length varint (LEB128), UTF-8 bytes`.
// Invariants: 1. records are effects: times and defaults are resolved before they are written, a replay never asks a clock
// 2. decode checks every length against the record and throws `corrupt`, never reads beyond it, and refuses bytes left over
// 3. an unknown kind or a newer version is `unsupported`: this build is too old for the folder, nothing is skipped in silence.
// Cost: about 60-100 bytes an event, 0.3 us to encode.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import type { ItemBody, UserBody } from "#wire/api";

export const recordKind = { event: 1, itemPut: 2, itemDelete: 3, userPut: 4, userDelete: 5, served: 6, itemPatch: 7, userPatch: 8, training: 9 } as const;

/** Newest version of each kind. `served`: 1 without features, 2 with them. */
export const recordVersion = {
  event: 1,
  itemPut: 1,
  itemDelete: 1,
  userPut: 1,
  userDelete: 1,
  served: 2,
  itemPatch: 1,
  userPatch: 1,
  training: 1,
} as const satisfies Record<keyof typeof recordKind, number>;

const versionOfKind = new Map<number, number>(Object.entries(recordKind).map(([kind, code]) => [code, recordVersion[kind as keyof typeof recordKind]]));

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
  /** What the model saw of the answer (src/extract/answer-features.ts); absent when no model is configured. Read: a view of the record's bytes. */
  readonly features?: Uint8Array;
}

/** The switch of online learning. A record, so that what was learned follows from the log alone. */
export interface TrainingRecord {
  readonly kind: "training";
  readonly atMs: number;
  readonly on: boolean;
  /** Who or what switched it, for people; "" when nobody said. */
  readonly reason: string;
}

export type ActivityRecord =
  EventRecord | ItemPutRecord | ItemPatchRecord | ItemDeleteRecord | UserPutRecord | UserPatchRecord | UserDeleteRecord | ServedRecord | TrainingRecord;

/** Encodes records one after another into one growing buffer. Not shared between concurrent batches: the slices live until the append ends. */
export class RecordWriter {
  readonly #out: ByteWriter;

  constructor(initialBytes = 16 * 1024) {
    this.#out = new ByteWriter(initialBytes);
  }

  /** The bytes of one record. */
  encode(record: ActivityRecord): Uint8Array {
    const out = this.#out;
    const start = out.length;
    out.u8(recordKind[record.kind]);
    out.u8(record.kind === "served" && record.features === undefined ? 1 : recordVersion[record.kind]);
    out.f64(record.atMs);
    switch (record.kind) {
      case "event":
        out.f64(record.receivedMs);
        out.f64(record.value);
        out.i32(record.position);
        out.string(record.type);
        out.string(record.user);
        out.string(record.item);
        out.string(record.id);
        out.string(record.recommendationId);
        out.string(record.context);
        break;
      case "itemPut":
      case "itemPatch":
      case "userPut":
      case "userPatch":
        out.string(record.id);
        out.string(JSON.stringify(record.body));
        break;
      case "itemDelete":
      case "userDelete":
        out.string(record.id);
        break;
      case "served":
        out.string(record.recommendationId);
        out.string(record.pipeline);
        out.string(record.user);
        out.varint(record.items.length);
        for (const item of record.items) out.string(item);
        if (record.features !== undefined) out.block(record.features);
        break;
      case "training":
        out.u8(record.on ? 1 : 0);
        out.string(record.reason);
        break;
    }
    return out.since(start);
  }
}

/** Decodes one record. Throws `corrupt` for bytes that no writer made, `unsupported` for those of a newer version. */
export function decodeRecord(bytes: Uint8Array): ActivityRecord {
  const reader = new ByteReader(
    bytes,
    "activity record",
    "restore the data folder from a copy; the record passed the log's checksum, so this is a defect to report",
  );
  const kind = reader.u8();
  const version = reader.u8();
  if (version === 0 || kind === 0) throw reader.damaged("kind or version is 0");
  const known = versionOfKind.get(kind);
  if (known === undefined || version > known) {
    throw new MillraceError("unsupported", `activity record of kind ${kind}, version ${version}`, { todo: "use a newer millrace for this data folder" });
  }
  const atMs = reader.f64();
  const record = readBody(kind, version, atMs, reader);
  reader.end();
  return record;
}

function readBody(kind: number, version: number, atMs: number, reader: ByteReader): ActivityRecord {
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
    case recordKind.training: {
      const on = reader.u8();
      if (on > 1) throw reader.damaged("a switch that is neither 0 nor 1");
      return { kind: "training", atMs, on: on === 1, reason: reader.string() };
    }
    default: {
      const recommendationId = reader.string();
      const pipeline = reader.string();
      const user = reader.string();
      const count = reader.varint();
      if (count > reader.left) throw reader.damaged("more items than bytes");
      const items = Array.from({ length: count }, () => reader.string());
      return { kind: "served", atMs, recommendationId, pipeline, user, items, ...(version > 1 ? { features: reader.block() } : {}) };
    }
  }
}
