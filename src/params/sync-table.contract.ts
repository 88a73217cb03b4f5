// What every SyncTable must do; run against the plain table and the kernel's.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { entryTerm, type InitialShape, initialValues } from "#kernel/parameter-key";
import {
  compareVersions,
  counterOf,
  EntryBatch,
  entryFlags,
  epochOf,
  lastVersion,
  nodeOf,
  noVersion,
  type SyncTable,
  type Version,
  versionOf,
} from "./sync-table.ts";

export interface SyncTableShape {
  readonly dim: number;
  readonly buckets: number;
  readonly initial: InitialShape;
}

/** What every table here is made with. `dim` is what the engine must take. */
export const contractShape: SyncTableShape = { dim: 4, buckets: 8, initial: { seed: 7n, factors: 4, initialScale: 0.1 } };

export interface Held {
  readonly key: string;
  readonly version: string;
  readonly tombstone: boolean;
  readonly touched: number;
  readonly values: readonly number[];
}

/** Everything a table holds, bucket by bucket in the order of its lists. */
export function contentOf(table: SyncTable): Held[] {
  const batch = new EntryBatch(table.dim);
  const held: Held[] = [];
  for (let bucket = 0; bucket < table.buckets; bucket++) {
    batch.clear();
    assert.equal(table.changes(bucket, noVersion, lastVersion, 1 << 20, batch), true);
    for (let i = 0; i < batch.count; i++) {
      const version = batch.versionAt(i);
      held.push({
        key: `${batch.keys[2 * i + 1]!}:${batch.keys[2 * i]!}`,
        version: `${epochOf(version)}.${counterOf(version)}.${nodeOf(version)}`,
        tombstone: batch.isTombstone(i),
        touched: batch.touched[i]!,
        values: batch.isTombstone(i) ? [] : [...batch.values.subarray(i * table.dim, (i + 1) * table.dim)],
      });
    }
  }
  return held;
}

/** Lists ascend, and counts, digests and the newest version say what they must about what the lists hold. */
export function checkTable(table: SyncTable): void {
  const batch = new EntryBatch(table.dim);
  const term = new Uint32Array(2);
  for (let bucket = 0; bucket < table.buckets; bucket++) {
    batch.clear();
    table.changes(bucket, noVersion, lastVersion, 1 << 20, batch);
    let digest = 0n;
    let tombstones = 0;
    for (let i = 0; i < batch.count; i++) {
      const version = batch.versionAt(i);
      assert.equal(table.bucketOf(batch.keys[2 * i]!, batch.keys[2 * i + 1]!), bucket);
      if (i > 0) assert.ok(compareVersions(batch.versionAt(i - 1), version) < 0, "ascending");
      assert.ok(compareVersions(version, table.newest(bucket)) <= 0, "newest");
      entryTerm(batch.keys[2 * i]!, batch.keys[2 * i + 1]!, version.high, version.low, term, 0);
      digest += (BigInt(term[1]!) << 32n) | BigInt(term[0]!);
      if (batch.isTombstone(i)) tombstones++;
    }
    const { high, low } = table.digest(bucket);
    assert.equal((BigInt(high) << 32n) | BigInt(low), digest & 0xffff_ffff_ffff_ffffn, `digest of bucket ${bucket}`);
    assert.deepEqual(table.counts(bucket), { live: batch.count - tombstones, tombstones });
  }
}

/** `count` keys of one bucket (of any when left out), the first ones from `from` on. */
export function keysOf(table: SyncTable, count: number, bucket?: number, from = 0): Uint32Array {
  const keys = new Uint32Array(2 * count);
  for (let low = from, at = 0; at < count; low++) {
    if (bucket !== undefined && table.bucketOf(low, 1) !== bucket) continue;
    keys[2 * at] = low;
    keys[2 * at + 1] = 1;
    at++;
  }
  return keys;
}

const filled = (count: number, dim: number, value: number): Float32Array => new Float32Array(count * dim).fill(value);

export function syncTableContract(
  engine: string,
  within: (body: (make: (shape: SyncTableShape) => SyncTable) => void | Promise<void>) => Promise<void> | void,
): void {
  const check = (name: string, body: (make: () => SyncTable) => void): void => {
    test(`sync table contract, ${engine}: ${name}`, () => within((make) => body(() => make(contractShape))));
  };
  const { dim } = contractShape;
  const led = (make: () => SyncTable, epoch = 1, node = 1): SyncTable => {
    const table = make();
    for (let bucket = 0; bucket < table.buckets; bucket++) table.lead(bucket, epoch, node);
    return table;
  };
  const pulled = (table: SyncTable, keys: Uint32Array): { values: number[]; found: number[]; missing: number } => {
    const count = keys.length / 2;
    const into = new Float32Array(count * dim);
    const found = new Uint8Array(count);
    const missing = table.pull(keys, count, into, found);
    return { values: [...into], found: [...found], missing };
  };

  check("an empty table has no versions, no changes, digests of zero, and reads initial values", (make) => {
    const table = make();
    const keys = keysOf(table, 3);
    const { values, found, missing } = pulled(table, keys);
    assert.deepEqual([found, missing], [[0, 0, 0], 3]);
    const expected = new Float32Array(dim);
    initialValues(contractShape.initial, dim, keys[2]!, keys[3]!, expected, 0);
    assert.deepEqual(values.slice(dim, 2 * dim), [...expected]);
    assert.deepEqual(contentOf(table), []);
    checkTable(table);
    for (let bucket = 0; bucket < table.buckets; bucket++) assert.deepEqual(table.newest(bucket), noVersion);
  });

  check("writes are stamped in order, a key again moves to the end, deletes are tombstones, a deleted key begins anew", (make) => {
    const table = led(make, 3, 9);
    const keys = keysOf(table, 3, 5);
    assert.equal(table.assign(keys, 3, filled(3, dim, 1), 100), 0);
    assert.deepEqual(
      contentOf(table).map(({ version, touched }) => [version, touched]),
      [
        ["3.1.9", 100],
        ["3.2.9", 100],
        ["3.3.9", 100],
      ],
    );
    assert.equal(table.add(keys, 1, filled(1, dim, 0.5), 101), 0);
    assert.equal(table.delete(keys.subarray(2), 1), 1);
    assert.equal(table.delete(keys.subarray(2), 1), 0);
    assert.equal(table.delete(keysOf(table, 1, 5, 1_000_000), 1), 0);
    const content = contentOf(table);
    assert.deepEqual(
      content.map(({ version, tombstone }) => [version, tombstone]),
      [
        ["3.3.9", false],
        ["3.4.9", false],
        ["3.5.9", true],
      ],
    );
    assert.deepEqual(content[1]!.values, [1.5, 1.5, 1.5, 1.5]);
    assert.deepEqual(pulled(table, keys).found, [1, 0, 1]);
    assert.deepEqual(table.newest(5), versionOf(3, 5, 9));
    checkTable(table);
    // The tombstone lives again, from its initial values.
    table.add(keys.subarray(2), 1, filled(1, dim, 0), 102);
    const initial = new Float32Array(dim);
    initialValues(contractShape.initial, dim, keys[2]!, keys[3]!, initial, 0);
    assert.deepEqual(contentOf(table).at(-1), { key: `${keys[3]}:${keys[2]}`, version: "3.6.9", tombstone: false, touched: 102, values: [...initial] });
    checkTable(table);
  });

  check("a key twice in one batch is written twice", (make) => {
    const table = led(make);
    const key = keysOf(table, 1, 2);
    table.add(Uint32Array.from([...key, ...key]), 2, filled(2, dim, 1), 5);
    const initial = new Float32Array(dim);
    initialValues(contractShape.initial, dim, key[0]!, key[1]!, initial, 0);
    assert.deepEqual(pulled(table, key).values, [...initial.map((value) => Math.fround(Math.fround(value + 1) + 1))]);
    assert.equal(contentOf(table)[0]!.version, "1.2.1");
  });

  check("changes: bounds are open below and closed above, `max` cuts and says so, they are appended", (make) => {
    const table = led(make);
    const keys = keysOf(table, 6, 1);
    table.assign(keys, 6, filled(6, dim, 1), 1);
    const batch = new EntryBatch(dim);
    assert.equal(table.changes(1, versionOf(1, 2, 1), versionOf(1, 4, 1), 10, batch), true);
    assert.deepEqual([counterOf(batch.versionAt(0)), counterOf(batch.versionAt(1)), batch.count], [3, 4, 2]);
    assert.equal(table.changes(1, versionOf(1, 4, 1), lastVersion, 1, batch), false);
    assert.deepEqual([batch.count, counterOf(batch.versionAt(2))], [3, 5]);
    assert.equal(table.changes(1, versionOf(1, 4, 1), lastVersion, 2, batch), true);
    assert.equal(table.changes(1, versionOf(1, 6, 1), lastVersion, 2, batch), true);
    assert.equal(table.changes(0, noVersion, lastVersion, 2, batch), true);
    assert.equal(batch.count, 5);
  });

  check("a new leader goes on above what is there, in a higher epoch", (make) => {
    const table = led(make);
    const keys = keysOf(table, 2, 4);
    table.assign(keys, 2, filled(2, dim, 1), 1);
    table.lead(4, 2, 7);
    table.assign(keys, 1, filled(1, dim, 2), 2);
    assert.deepEqual(table.newest(4), versionOf(2, 3, 7));
    assert.deepEqual(
      contentOf(table).map(({ version }) => version),
      ["1.2.1", "2.3.7"],
    );
    checkTable(table);
  });

  check("join: the newer version wins whole, what is older or the same changes nothing", (make) => {
    const [source, target] = [led(make), make()];
    const keys = keysOf(source, 4, 3);
    source.assign(keys, 4, filled(4, dim, 1), 1);
    const old = new EntryBatch(dim);
    source.changes(3, noVersion, lastVersion, 9, old);
    source.assign(keys, 1, filled(1, dim, 2), 2);
    source.delete(keys.subarray(2), 1);
    const recent = new EntryBatch(dim);
    source.changes(3, noVersion, lastVersion, 9, recent);
    assert.equal(target.join(recent, 0, recent.count), 4);
    assert.equal(target.join(old, 0, old.count), 0);
    assert.equal(target.join(recent, 1, 2), 0);
    assert.deepEqual(contentOf(target), contentOf(source));
    assert.deepEqual(target.digest(3), source.digest(3));
    assert.deepEqual(target.newest(3), source.newest(3));
    assert.equal(target.conflicts, 0);
    checkTable(target);
  });

  check("equal versions with different bytes: counted, and the same ones win in either order", (make) => {
    const [one, two] = [make(), make()];
    const key = keysOf(one, 1);
    const version = versionOf(1, 9, 1);
    const entry = (flags: number, touched: number, values: readonly number[]): EntryBatch => {
      const batch = new EntryBatch(dim);
      const i = batch.push(key[0]!, key[1]!, version, flags, touched);
      batch.values.set(values, i * dim);
      return batch;
    };
    for (const [a, b] of [
      [entry(0, 1, [1, 2, 3, 4]), entry(0, 1, [1, 2, -3, 4])],
      [entry(0, 1, [1, 2, 3, 4]), entry(0, 2, [0, 0, 0, 0])],
      [entry(entryFlags.tombstone, 1, []), entry(0, 2, [5, 5, 5, 5])],
    ] as const) {
      const conflicts = one.conflicts;
      one.join(a, 0, 1);
      one.join(b, 0, 1);
      two.join(b, 0, 1);
      two.join(a, 0, 1);
      assert.ok(one.conflicts > conflicts);
      assert.deepEqual(contentOf(one), contentOf(two));
    }
    checkTable(one);
  });

  check("a digest tells what a bucket holds and nothing else: order and way do not matter", (make) => {
    const source = led(make);
    const random = new Prng("digest");
    for (let step = 0; step < 300; step++) {
      const key = Uint32Array.from([random.below(40), 0]);
      if (random.chance(0.2)) source.delete(key, 1);
      else source.assign(key, 1, filled(1, dim, step), step);
    }
    const all = new EntryBatch(dim);
    for (let bucket = 0; bucket < source.buckets; bucket++) source.changes(bucket, noVersion, lastVersion, 100, all);
    const target = make();
    for (const i of random.shuffle(Array.from({ length: all.count }, (_, at) => at))) assert.equal(target.join(all, i, 1), 1);
    assert.deepEqual(contentOf(target), contentOf(source));
    checkTable(source);
    checkTable(target);
    for (let bucket = 0; bucket < source.buckets; bucket++) assert.deepEqual(target.digest(bucket), source.digest(bucket));
    const added = Uint32Array.of(0xffff_ffff, 7);
    source.addDigests(1, source.buckets - 2, added);
    const sum = [0xffff_ffff, 7];
    for (let bucket = 1; bucket < source.buckets - 1; bucket++) {
      const { high, low } = source.digest(bucket);
      sum[0] = (sum[0]! + high) % 2 ** 32;
      sum[1] = (sum[1]! + low) % 2 ** 32;
    }
    assert.deepEqual([...added], sum);
  });

  check("a bucket that is followed takes no writes but joins, until it is led again", (make) => {
    const table = led(make);
    const keys = keysOf(table, 2, 4);
    table.assign(keys, 2, filled(2, dim, 1), 1);
    const before = contentOf(table);
    table.follow(4);
    assert.throws(() => table.assign(keys, 1, filled(1, dim, 2), 2));
    assert.throws(() => table.delete(keys, 1));
    assert.deepEqual(contentOf(table), before);
    const newer = new EntryBatch(dim);
    newer.push(keys[0]!, keys[1]!, versionOf(9, 1, 3), 0, 5);
    assert.equal(table.join(newer, 0, 1), 1);
    table.lead(4, 10, 1);
    assert.equal(table.delete(keys, 1), 1);
    checkTable(table);
  });

  check("collect takes tombstones up to a version, expire takes everything, the newest version stays", (make) => {
    const table = led(make);
    const keys = keysOf(table, 6, 6);
    table.assign(keys, 6, filled(6, dim, 1), 1);
    table.delete(keys, 2);
    table.delete(keys.subarray(4), 1);
    assert.equal(table.collect(6, versionOf(1, 8, 1)), 2);
    assert.equal(table.collect(6, versionOf(1, 8, 1)), 0);
    assert.deepEqual(table.counts(6), { live: 3, tombstones: 1 });
    checkTable(table);
    assert.equal(table.expire(6, versionOf(1, 4, 1)), 1);
    assert.deepEqual(table.counts(6), { live: 2, tombstones: 1 });
    assert.equal(table.expire(6, lastVersion), 3);
    assert.deepEqual(contentOf(table), []);
    assert.deepEqual(table.digest(6), noVersion);
    assert.deepEqual(table.newest(6), versionOf(1, 9, 1));
    // What was removed is a new row.
    table.assign(keys, 1, filled(1, dim, 3), 2);
    assert.deepEqual(contentOf(table)[0]!.version, "1.10.1");
    checkTable(table);
  });

  check("dirty buckets come once each, in pieces when asked so, and again after they were taken", (make) => {
    const table = led(make);
    const into = new Uint32Array(table.buckets);
    assert.equal(table.takeDirty(into), 0);
    for (const bucket of [4, 2, 4, 7]) table.assign(keysOf(table, 1, bucket), 1, filled(1, dim, 1), 1);
    assert.equal(table.takeDirty(into.subarray(0, 2)), 2);
    assert.equal(table.takeDirty(into.subarray(2)), 1);
    assert.deepEqual([...into.subarray(0, 3)].sort(), [2, 4, 7]);
    const other = make();
    const batch = new EntryBatch(dim);
    table.changes(4, noVersion, lastVersion, 9, batch);
    other.join(batch, 0, batch.count);
    assert.deepEqual([other.takeDirty(into), into[0]], [1, 4]);
    other.join(batch, 0, batch.count);
    assert.equal(other.takeDirty(into), 0);
    table.assign(keysOf(table, 1, 4), 1, filled(1, dim, 2), 1);
    assert.deepEqual([table.takeDirty(into), into[0]], [1, 4]);
  });

  check("replicas that join each other's changes in any order, some twice, hold the same", (make) => {
    const seed = Number(process.env["SEED"] ?? 11);
    const random = new Prng(seed);
    const tables = [make(), make(), make()];
    const batches: EntryBatch[] = [];
    const newest: Version[] = Array.from({ length: contractShape.buckets }, () => noVersion);
    // One leader an epoch, as it must be; each begins with what it happens to hold.
    for (let epoch = 1; epoch <= 6; epoch++) {
      const at = random.below(3);
      const leader = tables[at]!;
      for (let bucket = 0; bucket < leader.buckets; bucket++) leader.lead(bucket, epoch, at);
      for (let step = 0; step < 60; step++) {
        const key = Uint32Array.from([random.below(50), random.below(2)]);
        if (random.chance(0.25)) leader.delete(key, 1);
        else if (random.chance(0.5)) leader.assign(key, 1, filled(1, dim, random.float()), step);
        else leader.add(key, 1, filled(1, dim, random.float()), step);
        if (!random.chance(0.2)) continue;
        const batch = new EntryBatch(dim);
        const bucket = leader.bucketOf(key[0]!, key[1]!);
        leader.changes(bucket, random.chance(0.5) ? newest[bucket]! : noVersion, lastVersion, 100, batch);
        newest[bucket] = leader.newest(bucket);
        batches.push(batch);
        for (const table of tables) if (random.chance(0.4)) table.join(batch, 0, batch.count);
      }
    }
    for (const table of tables) {
      const all = new EntryBatch(dim);
      for (let bucket = 0; bucket < table.buckets; bucket++) table.changes(bucket, noVersion, lastVersion, 1_000, all);
      batches.push(all);
    }
    for (const table of tables) for (const batch of random.shuffle([...batches])) table.join(batch, 0, batch.count);
    for (const table of tables) {
      checkTable(table);
      assert.deepEqual(contentOf(table), contentOf(tables[0]!), `seed ${seed}`);
      assert.equal(table.conflicts, 0);
    }
  });
}
