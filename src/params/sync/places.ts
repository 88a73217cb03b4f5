// Where a copy of a table stands, as bytes: vectors and bounds of all buckets. Goes with a checkpoint of its rows, so that whoever starts from it is sent only
// what came after. Layout: docs/format/parameter-sync.md.
// Invariant: taken before (or in the same turn as) the rows are read; rows that are newer than their places do no harm, places that are newer than their rows would.
// Cost: some 8 bytes a bucket. Concurrency: the thread of the replica.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import { compareVersions, noVersion, type Version, versionLimits } from "../sync-table.ts";
import type { BucketReplica } from "./bucket-replica.ts";
import { type Stretch, stretchesMax } from "./version-vectors.ts";

const version = 1;
const what = "the places of a parameter checkpoint";
const todo = "use another checkpoint, or start empty and load from a source";
const bounded = { collected: 1, expired: 2 } as const;

export function encodePlaces(replica: BucketReplica): Uint8Array {
  const writer = new ByteWriter();
  const { buckets } = replica.vectors;
  writer.u8(version);
  writer.varint(buckets);
  const bound = ({ low, high }: Version): void => {
    writer.u32(low);
    writer.u32(high);
  };
  for (let bucket = 0; bucket < buckets; bucket++) {
    const stretches = replica.vectors.stretches(bucket);
    const { collected, expired } = replica.bounds(bucket);
    const has = (compareVersions(collected, noVersion) > 0 ? bounded.collected : 0) | (compareVersions(expired, noVersion) > 0 ? bounded.expired : 0);
    writer.varint(stretches.length * 4 + has);
    for (const { origin, counter } of stretches) {
      writer.varint(origin);
      writer.varint(counter % 2 ** 32);
      writer.varint(Math.floor(counter / 2 ** 32));
    }
    if ((has & bounded.collected) !== 0) bound(collected);
    if ((has & bounded.expired) !== 0) bound(expired);
  }
  return writer.since(0);
}

/** Into a replica whose table holds the rows of the same checkpoint and nothing else. Throws `corrupt`, `unsupported`, or `invalid` for another shape. */
export function restorePlaces(replica: BucketReplica, bytes: Uint8Array): void {
  const reader = new ByteReader(bytes, what, todo);
  const found = reader.u8();
  if (found !== version)
    throw new MillraceError("unsupported", `${what} have version ${found}`, { todo: "read them with the version of millrace that wrote them" });
  const { buckets } = replica.vectors;
  const stored = reader.varint();
  if (stored !== buckets)
    throw new MillraceError("invalid", `${what} are of ${stored} buckets, the table has ${buckets}`, {
      todo: "open the table with the shape of its checkpoint",
    });
  const corrupt = (why: string): MillraceError => new MillraceError("corrupt", `${what}: ${why}`, { todo });
  const bound = (has: boolean): Version => {
    if (!has) return noVersion;
    const low = reader.u32();
    return { low, high: reader.u32() };
  };
  const restored: (() => void)[] = [];
  for (let bucket = 0; bucket < buckets; bucket++) {
    const head = reader.varint();
    const stretches: Stretch[] = [];
    if (head >> 2 > stretchesMax) throw corrupt(`${head >> 2} origins in bucket ${bucket}`);
    for (let i = 0; i < head >> 2; i++) {
      const origin = reader.varint();
      const counter = reader.varint() + reader.varint() * 2 ** 32;
      const rises = i === 0 || origin > stretches[i - 1]!.origin;
      if (!rises || origin < 256 || origin > versionLimits.epochMax * 256 + versionLimits.nodeMax || counter > versionLimits.counterMax) {
        throw corrupt(`an origin of bucket ${bucket}`);
      }
      stretches.push({ origin, counter });
    }
    const bounds = { bucket, collected: bound((head & bounded.collected) !== 0), expired: bound((head & bounded.expired) !== 0) };
    restored.push(() => replica.restore(bucket, stretches, bounds));
  }
  if (reader.left !== 0) throw corrupt(`${reader.left} bytes too many`);
  for (const restore of restored) restore();
}
