// What a person wants to see of a table beyond its counts: where among its buckets writes fall, and how long ago rows were written.
// Why on demand: it reads every bucket's head and some hundred rows, which is too much for a status that goes out each second.
// Ages are of whole buckets, some of them: a bucket is a random sample of the keys, and its rows stand in the order of writes, so a part of one would be of one age.
// Cost: some 50 ns a bucket and 100 ns a row of the sample, in steps of a bucket. Concurrency: the store's writing thread; it lets go between buckets.
// Limits: `lookLimits`.

import { type ParameterTableLook, touchedUpToS } from "#wire/parameter-api";
import type { ParameterStore } from "../parameter-store.ts";
import { EntryBatch, noVersion } from "../sync-table.ts";

export const lookLimits = {
  /** Stretches of buckets that writes are counted by. */
  groupsMax: 64,
  /** Sampled rows after which no other bucket is begun, and numbers of them. */
  sampleRows: 4_000,
  sampleNumbers: 256_000,
  /** Rows that one step copies. */
  stepRows: 500,
} as const;

/** `rest` is awaited between buckets. */
export async function lookAt(store: ParameterStore, nowS: number, rest: () => Promise<void>): Promise<ParameterTableLook> {
  const buckets = store.shards[0]!.buckets;
  const groups = Math.min(lookLimits.groupsMax, buckets);
  const writes = new Array<number>(groups).fill(0);
  const rows = new Array<number>(groups).fill(0);
  let live = 0;
  for (const shard of store.shards) {
    for (let bucket = 0; bucket < buckets; bucket++) {
      const group = Math.floor((bucket * groups) / buckets);
      const counts = shard.counts(bucket);
      writes[group]! += shard.writes(bucket);
      rows[group]! += counts.live;
      live += counts.live;
    }
    await rest();
  }
  const touched = new Array<number>(touchedUpToS.length + 1).fill(0);
  const sampleMax = Math.min(lookLimits.sampleRows, Math.max(1, Math.floor(lookLimits.sampleNumbers / store.dim)));
  const batch = new EntryBatch(store.dim);
  let sampled = 0;
  // Buckets far apart, of one shard after another: an odd stride meets each bucket once, as their number is a power of two.
  const stride = 2 * Math.floor(buckets / 7) + 1;
  for (let i = 0; i < buckets && sampled < sampleMax; i++) {
    const shard = store.shards[i % store.shards.length]!;
    const bucket = (i * stride) % buckets;
    const upTo = shard.newest(bucket);
    let after = noVersion;
    for (let complete = false; !complete;) {
      batch.clear();
      complete = shard.changes(bucket, after, upTo, lookLimits.stepRows, batch);
      if (batch.count === 0) break;
      after = batch.versionAt(batch.count - 1);
      for (let row = 0; row < batch.count; row++) {
        if (batch.isTombstone(row)) continue;
        const ageS = Math.max(0, nowS - batch.touched[row]!);
        const at = touchedUpToS.findIndex((upToS) => ageS <= upToS);
        touched[at === -1 ? touchedUpToS.length : at]!++;
        sampled++;
      }
    }
    if (i % 16 === 15) await rest();
  }
  return { buckets: buckets * store.shards.length, writes, rows, live, touched, sampled };
}
