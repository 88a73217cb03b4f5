// Guards a local replica: it says what the server's table says, follows versions and live writes, compares whole keys, and keeps what it has when a version is bad.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { createMemoryRegistry } from "#backbone/memory-registry";
import type { Log } from "#backbone/log";
import type { Registry } from "#backbone/registry";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { Prng } from "#base/prng";
import { ColumnBlock, rowStatus } from "#features/tables/column-block";
import { schemaOf, type TableSchema } from "#features/tables/table-schema";
import { registerSchemas } from "#features/tables/schema-registry";
import { Table } from "#features/tables/table";
import type { PackedColumn } from "#features/tables/row-packer";
import { KeyBatch } from "#kernel/key-batch";
import { KeyHasher, keySeed } from "#kernel/key-hash";
import { openOn, testPool } from "#lsm/store-world.contract";
import type { Store } from "#lsm/store";
import { type SimulatedNode, Simulation } from "#platform/simulation";
import type { RandomSource } from "#platform/system-random";
import { SnapshotStore } from "#snapshot/snapshot-store";
import type { TableConfig } from "#wire/table-config";
import { BaseFollower } from "./base-follower.ts";
import { builtIndexSeed, publishTable, type RowsToBuild } from "./built-version.fuzz.ts";
import type { LocalTable } from "./local-table.ts";
import { openReplica, type OpenTableOptions, replicaLayout } from "./open-table.ts";

const seed = Number(process.env["SEED"] ?? 41);
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

const config: TableConfig = {
  key: "string",
  shards: 2,
  columns: {
    ctr: { type: "f32", owner: "stream", default: 0.5 },
    price: { type: "f64" },
    stock: { type: "i64", owner: "newest" },
    vector: { type: "f32", length: 4 },
    title: { type: "string", owner: "newest" },
    good: { type: "bool", owner: "stream" },
  },
};

interface World {
  readonly node: SimulatedNode;
  readonly registry: Registry;
  readonly log: Log;
  readonly store: Store;
  readonly snapshots: SnapshotStore;
  schema: TableSchema;
  /** The server's own table. */
  server: Table;
  openTable(options?: Partial<OpenTableOptions>): Promise<LocalTable>;
  publish(rows: number, more?: Partial<RowsToBuild> & { salt?: number }, options?: Parameters<typeof publishTable>[3]): Promise<string>;
  /** Until the replica has what the server has. */
  reached(table: LocalTable, version?: string): Promise<void>;
}

const alarms: string[] = [];

async function inWorld(body: (world: World) => Promise<void>, tableConfig = config): Promise<void> {
  const simulation = new Simulation({ seed });
  const kept = createMemoryRegistry({ clock: simulation.clock });
  alarms.length = 0;
  await simulation.run(async () => {
    const node = simulation.node("a");
    const ran = await node.run(async () => {
      const { files, clock } = node;
      const registry = kept.connect({ clock, alive: () => node.alive });
      const { store, log } = await openOn(node, kept, { keepTombstones: () => [1] });
      const schema = (await registerSchemas(registry, { items: tableConfig })).get("items")!;
      const random: RandomSource = new Prng(seed);
      const blobs = openFolderBlobs({ files, folder: "/blobs" });
      const snapshots = new SnapshotStore({ blobs, registry, clock, random, kind: replicaLayout.kind });
      const base = new BaseFollower({
        snapshots,
        table: "items",
        node: "server",
        files,
        clock,
        pool: testPool,
        loader: undefined,
        folder: "/server",
        shards: undefined,
        onAlarm: () => undefined,
        onVersion: () => undefined,
      });
      await base.start();
      const tables: LocalTable[] = [];
      const world: World = {
        node,
        registry,
        log,
        store,
        snapshots,
        schema,
        server: new Table({ schema, store, clock, base }),
        async openTable(options = {}) {
          const number = tables.length;
          const table = await openReplica(
            "items",
            { node: `r${number}`, onAlarm: (message) => alarms.push(message), ...options },
            // Every second one loads in a thread of its own.
            {
              files,
              clock,
              random,
              registry,
              log,
              blobs,
              engineFolder: "/runs",
              folder: `/replica-${number}`,
              ...(number % 2 === 0 ? { workers: node.workers } : {}),
            },
          );
          tables.push(table);
          return table;
        },
        async publish(rows, { salt = 0, ...more } = {}, options) {
          const manifest = await publishTable(snapshots, world.schema, { ...rowsOf(rows, salt), timeMs: clock.nowMs(), ...more }, options);
          for (let tries = 0; base.value?.version !== manifest.version; tries++) {
            // A version that is bad is refused by the server too.
            if (tries > 200) break;
            await clock.sleep(5);
          }
          return manifest.version;
        },
        async reached(table, version) {
          for (let tries = 0; table.offset < store.offset || (version !== undefined && table.version !== version); tries++) {
            assert.ok(tries < 2_000, `the replica stands at ${table.offset} of ${store.offset}, version ${table.version}`);
            await clock.sleep(5);
          }
        },
      };
      await body(world);
      for (const table of tables) await table.close();
      await base.stop();
      await store.close();
      await log.close();
    });
    assert.equal(ran.crashed, false);
  });
  await kept.close();
  testPool.releaseAll();
}

/** Rows 0 .. n-1 with values that tell the row, the column and `salt`. Every seventh has no price. */
function rowsOf(n: number, salt: number): Omit<RowsToBuild, "timeMs"> {
  const all = Array.from({ length: n }, (_, i) => i);
  const texts = all.map((i) => utf8(`title ${i} of ${salt}`));
  const offsets = new Uint32Array(n + 1);
  for (const [i, text] of texts.entries()) offsets[i + 1] = offsets[i]! + text.length;
  const fixed = (width: number, data: ArrayBufferView, valid?: Uint8Array): PackedColumn => ({
    kind: "fixed",
    width,
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    valid,
  });
  const priced = new Uint8Array(Math.ceil(n / 8));
  for (const i of all) if (i % 7 !== 0) priced[i >> 3]! |= 1 << (i & 7);
  return {
    keys: all.map(keyOf),
    columns: [
      fixed(
        4,
        Float32Array.from(all, (i) => i + salt),
      ),
      fixed(
        8,
        Float64Array.from(all, (i) => i * 2 + salt),
        priced,
      ),
      fixed(
        8,
        BigInt64Array.from(all, (i) => BigInt(i * 3 + salt)),
      ),
      fixed(
        16,
        Float32Array.from({ length: 4 * n }, (_, i) => i + salt),
      ),
      { kind: "bytes", offsets, bytes: Buffer.concat(texts), valid: undefined },
      fixed(
        1,
        Uint8Array.from(all, (i) => i & 1),
      ),
    ],
  };
}

/** 60 bytes. */
function keyOf(i: number): string {
  return `title and author of the work number ${String(i).padStart(10, "0")}`.padEnd(60, "-");
}

interface Arrays {
  readonly ctr: Float32Array;
  readonly price: Float64Array;
  readonly stock: BigInt64Array;
  readonly vector: Float32Array;
  readonly good: Uint8Array;
}
const names = ["ctr", "price", "stock", "vector", "good"] as const;

function arraysFor(rows: number): Arrays {
  return {
    ctr: new Float32Array(rows),
    price: new Float64Array(rows),
    stock: new BigInt64Array(rows),
    vector: new Float32Array(4 * rows),
    good: new Uint8Array(rows),
  };
}

/** The replica and the server's table say the same of these keys, in every column. */
function assertSame({ server }: World, table: LocalTable, asked: readonly string[]): void {
  const keys = table.newKeys();
  const serverKeys = new KeyBatch();
  for (const key of asked) {
    keys.add(key);
    server.addKey(serverKeys, utf8(key));
  }
  const block = new ColumnBlock((server.read(serverKeys, server.plan()) as Uint8Array).slice());
  const arrays = arraysFor(asked.length);
  const rows = table.newRows(arrays as unknown as Record<string, Float32Array>, asked.length);
  const status = new Uint8Array(asked.length);
  const found = table.read(keys, rows);
  assert.equal(table.lookup(keys, status), found);
  assert.deepEqual(status, rows.status);
  const own = table.rows(keys);
  for (let row = 0; row < asked.length; row++) {
    const what = `${asked[row]!}, row ${row}`;
    assert.equal(rows.status[row], block.status(row), what);
    for (const name of names) {
      const column = block.column(name)!;
      assert.equal(rows.isValid(name, row), block.isValid(row, column), `${name} of ${what}`);
      const array = arrays[name];
      const width = (array.byteLength / asked.length) | 0;
      assert.deepEqual(new Uint8Array(array.buffer, row * width, width), Uint8Array.from(block.bytesOf(row, column)), `${name} of ${what}`);
    }
    const title = block.column("title")!;
    assert.deepEqual(Uint8Array.from(own.bytesOf(row, own.column("title")!)), Uint8Array.from(block.bytesOf(row, title)), what);
  }
}

test(`promise: a replica says what the server's table says, through versions and live writes (SEED=${seed})`, async () => {
  console.log(`seed ${seed}`);
  await inWorld(async (world) => {
    const random = new Prng(seed);
    let version = await world.publish(400);
    const table = await world.openTable();
    assert.equal(table.version, version);
    const { server, node } = world;
    for (let step = 0; step < 120; step++) {
      await node.clock.sleep(1 + random.below(20));
      if (random.chance(0.06)) {
        version = await world.publish(300 + random.below(200), { salt: step, runsPerShard: random.pick([1, 2]) });
      } else if (random.chance(0.15)) {
        const keys = new KeyBatch();
        for (let n = 0; n < 5; n++) server.addKey(keys, utf8(keyOf(random.below(600))));
        const { ticket } = (await server.delete(keys)) as { ticket: number | undefined };
        await server.durable(ticket);
      } else {
        const { ticket } = await server.write(
          Array.from({ length: 1 + random.below(5) }, () => ({
            key: utf8(keyOf(random.below(600))),
            cells: [
              { column: world.schema.required("ctr"), value: random.below(100) },
              ...(random.chance(0.5) ? [{ column: world.schema.required("title"), value: `live ${step}` }] : []),
              ...(random.chance(0.3) ? [{ column: world.schema.required("good"), value: random.chance(0.5) ? null : true }] : []),
              ...(random.chance(0.3) ? [{ column: world.schema.required("stock"), value: random.below(1_000) }] : []),
            ],
          })),
        );
        await server.durable(ticket);
      }
      if (random.chance(0.1)) await world.store.flush();
      if (step % 6 !== 0) continue;
      await world.reached(table, version);
      assertSame(
        world,
        table,
        Array.from({ length: 150 }, () => keyOf(random.below(650))),
      );
    }
    // Another process that comes later finds the same, out of run files and log.
    const later = await world.openTable();
    assertSame(
      world,
      later,
      Array.from({ length: 600 }, (_, i) => keyOf(i)),
    );
    assert.deepEqual(alarms, []);
  });
});

test("promise: found means the whole key is equal: keys of one hash are told apart", async () => {
  await inWorld(async (world) => {
    const [one, other] = collidingKeys(world.schema.namespace);
    const rows = rowsOf(1, 5);
    await world.publish(1, { ...rows, keys: [one] });
    const table = await world.openTable();
    const keys = table.newKeys();
    keys.add(one);
    keys.add(other);
    keys.add(one.slice(0, 59));
    const status = new Uint8Array(3);
    assert.equal(table.lookup(keys, status), 1);
    assert.deepEqual([...status], [rowStatus.found, rowStatus.absent, rowStatus.absent]);
    const arrays = { ctr: new Float32Array(3) };
    assert.equal(table.read(keys, table.newRows(arrays, 3)), 1);
    assert.deepEqual([...arrays.ctr], [5, 0.5, 0.5], "the default stands where there is no row");
  });
});

/**
 * Two user keys of 60 bytes whose engine keys have one 64-bit hash. The hash takes words in turn, h = f(h ^ word): after two first words that differ the states
 * do too, and the second word can undo the difference. What follows is the same.
 */
function collidingKeys(namespace: number): [Uint8Array, Uint8Array] {
  const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
  const mix64 = (z: bigint): bigint => {
    z = u64((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = u64((z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  };
  const golden = 0x9e3779b97f4a7c15n;
  const step = (x: bigint): bigint => u64((x & 0xffff_ffffn) * (x >> 32n) + ((x << 23n) | (x >> 41n)));
  const start = u64(mix64(u64(builtIndexSeed + golden)) + 62n * golden);
  const keyWith = (first: string): DataView => {
    const view = new DataView(new ArrayBuffer(62));
    view.setUint16(0, namespace);
    for (let at = 2; at < 62; at++) view.setUint8(at, at < 8 ? first.charCodeAt(at - 2) : 97);
    return view;
  };
  const one = keyWith("first.");
  const other = keyWith("other.");
  const after = (view: DataView): bigint => step(start ^ view.getBigUint64(0, true));
  other.setBigUint64(8, one.getBigUint64(8, true) ^ after(one) ^ after(other), true);
  const hashes = [one, other].map((view) => {
    const hasher = new KeyHasher(keySeed(builtIndexSeed));
    hasher.hash(view, 0, 62);
    return [hasher.low, hasher.high];
  });
  assert.deepEqual(hashes[0], hashes[1], "one hash");
  return [new Uint8Array(one.buffer, 2), new Uint8Array(other.buffer, 2)];
}

test("promise: a damaged, truncated or foreign version is refused with an alarm, and the one before goes on", async () => {
  await inWorld(async (world) => {
    const good = await world.publish(200);
    const table = await world.openTable();
    const keys = table.newKeys();
    for (let i = 0; i < 300; i++) keys.add(keyOf(i));
    const arrays = { ctr: new Float32Array(300) };
    const rows = table.newRows(arrays, 300);
    const expected = (): void => {
      assert.equal(table.version, good);
      assert.equal(table.read(keys, rows), 200);
      assert.ok(arrays.ctr.every((value, i) => value === (i < 200 ? i : 0.5)));
    };
    expected();
    const spoils: Parameters<typeof publishTable>[3][] = [
      { file: (_, bytes) => bytes.map((byte, at) => (at === 9_000 ? byte ^ 1 : byte)) },
      { file: (_, bytes) => bytes.subarray(0, bytes.length - 4_096) },
      { meta: (meta) => ({ ...meta, runs: 6 }) },
      { meta: () => ({ format: 1 }) },
    ];
    for (const [n, spoil] of spoils.entries()) {
      await world.publish(250, { salt: 1_000 + n }, spoil);
      for (let tries = 0; alarms.length <= n; tries++) {
        assert.ok(tries < 1_000, `spoil ${n} was noticed`);
        expected();
        await world.node.clock.sleep(5);
      }
      expected();
    }
    assert.ok(table.state.refused.length > 0 && table.state.refused.every(({ reason }) => reason !== ""));
    const better = await world.publish(200, { salt: 9 });
    await world.reached(table, better);
    table.read(keys, rows);
    assert.equal(arrays.ctr[3], 12);
  });
});

test("keys of shards that are not here, and of versions that are not loaded, are told, never absent", async () => {
  await inWorld(async (world) => {
    const asked = Array.from({ length: 300 }, (_, i) => keyOf(i));
    const none = await world.openTable();
    const keys = none.newKeys();
    for (const key of asked) keys.add(key);
    const status = new Uint8Array(300);
    assert.equal(none.lookup(keys, status), 0);
    assert.ok(
      status.every((one) => one === rowStatus.absent),
      "nothing was ever imported: they are absent",
    );
    await world.publish(200, { runsPerShard: 2 });
    const halves = [await world.openTable({ shards: [0] }), await world.openTable({ shards: [1] })];
    const statuses = halves.map((table) => {
      const rows = table.newRows({ ctr: new Float32Array(300) }, 300);
      table.lookup(keys, status);
      const found = table.read(keys, rows);
      assert.deepEqual(rows.status, status);
      assert.equal(found, status.filter((one) => one === rowStatus.found).length);
      return status.slice();
    });
    for (const [i] of asked.entries()) {
      const [a, b] = [statuses[0]![i]!, statuses[1]![i]!];
      assert.ok((a === rowStatus.notLoaded) !== (b === rowStatus.notLoaded), "each key has one shard");
      assert.equal(Math.min(a, b), i < 200 ? rowStatus.found : rowStatus.absent);
    }
    await assert.rejects(world.openTable({ shards: [2] }), { code: "unavailable" });
  });
});

test("a table of ids, a schema that changes, and what is refused", async () => {
  const ids: TableConfig = { key: "u64", columns: { a: { type: "f32", owner: "stream" }, n: { type: "i64", owner: "stream" } } };
  await inWorld(async (world) => {
    const table = await world.openTable();
    const { server, registry } = world;
    const id = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer).reverse();
    const big = 2n ** 63n + 5n;
    const write = async (to: Table, key: bigint, cells: Record<string, unknown>): Promise<void> => {
      const columns = Object.entries(cells).map(([name, value]) => ({ column: to.schema.required(name), value }));
      await to.durable((await to.write([{ key: id(key), cells: columns }])).ticket);
    };
    await write(server, 7n, { a: 1.5, n: 9 });
    await write(server, big, { a: 2.5 });
    await world.reached(table);
    const keys = table.newKeys();
    keys.addId(7);
    keys.addId(big);
    keys.addId(2 ** 40);
    const arrays = { a: new Float32Array(3), n: new BigInt64Array(3) };
    const rows = table.newRows(arrays, 3);
    assert.equal(table.read(keys, rows), 2);
    assert.deepEqual(
      [[...arrays.a].map(String), [...arrays.n]],
      [
        ["1.5", "2.5", "NaN"],
        [9n, 0n, 0n],
      ],
    );
    assert.deepEqual(
      [0, 1, 2].map((row) => rows.isValid("n", row)),
      [true, false, false],
    );
    assert.equal(rows.offset, world.store.offset);

    const wider: TableConfig = { ...ids, columns: { ...ids.columns, b: { type: "f32", owner: "stream" } } };
    const next = (await registerSchemas(registry, { items: wider })).get("items")!;
    for (let tries = 0; table.columns.length < 3; tries++) {
      assert.ok(tries < 1_000);
      await world.node.clock.sleep(5);
    }
    await write(new Table({ schema: next, store: world.store, clock: world.node.clock }), 7n, { b: 4.5 });
    await world.reached(table);
    assert.equal(table.read(keys, rows), 2);
    assert.equal(arrays.a[0], 1.5, "rows of the old layout and of the new one");
    const b = new Float32Array(3);
    table.read(keys, table.newRows({ b }, 3));
    assert.equal(b[0], 4.5);

    const invalid = { code: "invalid" };
    assert.throws(() => keys.add("text"), invalid);
    assert.throws(() => keys.addId(-1), invalid);
    assert.throws(() => keys.addId(1.5), invalid);
    assert.throws(() => keys.add(new Uint8Array(7)), invalid);
    assert.throws(() => table.newRows({ a: new Float64Array(3) }, 3), invalid);
    assert.throws(() => table.newRows({ a: new Float32Array(2) }, 3), invalid);
    assert.throws(() => table.newRows({ c: new Float32Array(3) }, 3), invalid);
    assert.throws(() => table.read(keys, table.newRows({ a: new Float32Array(2) }, 2)), invalid);
    assert.throws(() => rows.isValid("b", 0), invalid);
    schemaOf(next.document, "items");
  }, ids);
  await inWorld(async (world) => {
    const { files, clock } = world.node;
    const log = openEmbeddedLog({ files, clock, registry: world.registry, folder: "/log", durability: "always" });
    const blobs = openFolderBlobs({ files, folder: "/blobs" });
    const sources = { files, clock, random: new Prng(1), registry: world.registry, log, blobs, engineFolder: "/runs", folder: "/x" };
    await assert.rejects(openReplica("other", { node: "x" }, sources), { code: "not-found" });
    await log.close();
  });
});
