// Which collections exist: one small value of the registry for each, from its making to the end of its forgetting.
//   vectors/collections/KEY    {"format":1,"name","id","dims","metric","state":"open"|"dropping","madeMs"}     KEY: 32 hex digits of the name's SHA-256
// Why the registry: it is compare-and-set and synced before it answers, and builders of other processes read the same records.
// Why an id: the delta log is named by it (`vec-` and its hex digits), so a collection that is made again under a name of before cannot meet the records of that one.
// Forgetting: the record becomes `dropping` (from then on the collection is gone for everybody), then versions and log go, then the record. Whoever finds one that is dropping
// goes on with it, so a crash anywhere in between leaves a collection that is there or one that is gone.
// Limits: vectorLimits; a record is checked before it is believed.

import { MillraceError } from "#base/errors";
import type { Entry, Registry } from "#backbone/registry";
import { sha256Hex } from "#platform/sha256";
import type { RandomSource } from "#platform/system-random";
import { isSnapshotName } from "#snapshot/version";
import { type CollectionShape, vectorLimits, type VectorMetric } from "../vector-service.ts";

export interface CollectionRecord extends CollectionShape {
  readonly name: string;
  /** Of this making: 1 to 2^48 - 1. */
  readonly id: number;
  readonly state: "open" | "dropping";
  readonly madeMs: number;
}

export interface StoredRecord {
  readonly record: CollectionRecord;
  readonly revision: number;
}

const prefix = "vectors/collections/";
const decoder = new TextDecoder("utf-8", { fatal: true });
const metrics: readonly VectorMetric[] = ["cosine", "ip", "l2"];

/** Of the delta log: a partition of the embedded log. */
export function deltaPartition(id: number): string {
  return `vec-${id.toString(16)}`;
}

/** Under which its versions stand: the name itself where that can name a snapshot. */
export function snapshotNameOf(collection: string): string {
  return isSnapshotName(collection) ? collection : `x-${sha256Hex(collection).slice(0, 40)}`;
}

function keyOf(collection: string): string {
  return prefix + sha256Hex(collection).slice(0, 32);
}

export function newCollectionId(random: RandomSource): number {
  const bytes = random.bytes(new Uint8Array(8));
  return Math.max(1, new DataView(bytes.buffer).getUint32(0) * 2 ** 16 + new DataView(bytes.buffer).getUint16(4));
}

function decode(entry: Entry): StoredRecord {
  let value: Partial<CollectionRecord> & { format?: unknown };
  try {
    value = JSON.parse(decoder.decode(entry.value)) as typeof value;
  } catch (cause) {
    throw damaged(entry.key, "no JSON text", cause);
  }
  if (typeof value !== "object" || value === null) throw damaged(entry.key, "no object");
  if (value.format !== 1) {
    throw new MillraceError("unsupported", `the record of a collection (${entry.key}) has another format`, {
      todo: "use the millrace that wrote it, or a later one",
    });
  }
  const { name, id, dims, metric, state, madeMs } = value;
  const good =
    typeof name === "string" &&
    keyOf(name) === entry.key &&
    Number.isSafeInteger(id) &&
    id! >= 1 &&
    id! < 2 ** 48 &&
    Number.isInteger(dims) &&
    dims! >= 1 &&
    dims! <= vectorLimits.dimsMax &&
    metrics.includes(metric!) &&
    (state === "open" || state === "dropping") &&
    Number.isSafeInteger(madeMs);
  if (!good) throw damaged(entry.key, "a field is missing or wrong");
  return { record: { name, id: id!, dims: dims!, metric: metric!, state, madeMs: madeMs! }, revision: entry.revision };
}

function damaged(key: string, why: string, cause?: unknown): MillraceError {
  return new MillraceError("corrupt", `the record of a collection (${key}): ${why}`, {
    todo: "look at the registry: nothing but millrace may write under vectors/",
    cause,
  });
}

function encode(record: CollectionRecord): Uint8Array {
  const { name, id, dims, metric, state, madeMs } = record;
  return new TextEncoder().encode(JSON.stringify({ format: 1, name, id, dims, metric, state, madeMs }));
}

/** All records; those that cannot be read are given as errors. */
export async function listCollections(registry: Registry): Promise<(StoredRecord | MillraceError)[]> {
  return (await registry.list(prefix)).map((entry) => {
    try {
      return decode(entry);
    } catch (thrown) {
      return thrown as MillraceError;
    }
  });
}

/** The record of a collection, undefined when there is none. Throws `corrupt` for one that cannot be read. */
export async function readCollection(registry: Registry, name: string): Promise<StoredRecord | undefined> {
  const entry = await registry.get(keyOf(name));
  return entry === undefined ? undefined : decode(entry);
}

/** Stores a record: `revision` that of before, 0 for a new one. Undefined when somebody else was first. */
export async function putCollection(registry: Registry, record: CollectionRecord, revision: number): Promise<StoredRecord | undefined> {
  const entry = await registry.put(keyOf(record.name), encode(record), { expect: revision });
  return entry === undefined ? undefined : { record, revision: entry.revision };
}

/** Ends the forgetting of a collection. */
export async function forgetCollection(registry: Registry, stored: StoredRecord): Promise<void> {
  await registry.delete(keyOf(stored.record.name), { expect: stored.revision });
}
