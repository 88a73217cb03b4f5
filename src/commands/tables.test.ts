// The commands on tables over a real socket, with a client that people use.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Redis } from "ioredis";
import { ColumnBlock, rowStatus } from "#features/tables/column-block";
import { openTableWorld, type TableWorld } from "#features/tables/table-world.contract";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { Access } from "#wire/access-users";
import { KeyBlobWriter } from "#wire/key-blob";
import { CommandTable } from "#wire/resp-command-table";
import { type RespServer, startRespServer } from "#wire/resp-server";
import { tableCommands } from "./tables.ts";

let world: TableWorld;
let server: RespServer;
let redis: Redis;

const call = (...args: (string | number | Buffer)[]): Promise<unknown> => redis.call(args[0] as string, ...args.slice(1));
const callBuffer = (...args: (string | number | Buffer)[]): Promise<Buffer> => redis.callBuffer(args[0] as string, ...args.slice(1)) as Promise<Buffer>;

before(async () => {
  world = await openTableWorld({
    items: {
      key: "string",
      columns: {
        ctr: { type: "f32", default: 0 },
        views: { type: "i64" },
        title: { type: "string" },
        embedding: { type: "f32", length: 2 },
        live: { type: "bool" },
        owned: { type: "f32", owner: "batch" },
      },
    },
    users: { key: "u64", columns: { age: { type: "f32" } } },
  });
  const commands = new CommandTable(tableCommands(world.tables));
  server = await startRespServer({ network: systemNetwork, clock: systemClock, port: 0, commands, access: new Access({ commands, clock: systemClock }) });
  // RESP2 without a handshake: the server of this test has no HELLO and no INFO.
  redis = new Redis({ port: server.port, enableReadyCheck: false, disableClientInfo: true, protocol: 2, maxRetriesPerRequest: 1 } as never);
});

after(async () => {
  redis.disconnect();
  await server.drain(1_000);
  await world.close();
});

test("rows are written and read as text", async () => {
  assert.equal(await call("TSET", "items", "a", "ctr", "0.1", "views", "900719925474", "title", "Noodles", "embedding", "[1, 2.5]", "live", "true"), 1);
  assert.deepEqual(await call("TGET", "items", "a", "ctr", "views", "title", "live", "owned"), ["0.1", 900719925474, "Noodles", 1, null]);
  assert.equal(await call("TGET", "items", "none"), null);
  assert.equal(await call("TGET", "items", "none", "ctr"), null);
  const all = (await call("TGET", "items", "a")) as unknown[];
  assert.deepEqual(all.slice(0, 2), ["ctr", "0.1"]);
  assert.equal(all.length, 12);
  assert.equal(await call("TNULL", "items", "a", "title"), 1);
  assert.deepEqual(await call("TGET", "items", "a", "title"), [null]);
});

test("a condition and an older time leave the row as it is", async () => {
  await call("TSET", "items", "b", "views", "1");
  assert.equal(await call("TSET", "items", "b", "views", "2", "IF", "views", "=", "7"), 0);
  assert.equal(await call("TSET", "items", "b", "views", "2", "IF", "views", "=", "1", "IF", "ctr", "NONE"), 1);
  assert.equal(await call("TSET", "items", "b", "AT", "1000", "views", "3"), 0);
  assert.deepEqual(await call("TGET", "items", "b", "views"), [2]);
});

test("promise: a missing key is told by row, never as zeros", async () => {
  await call("TSET", "items", "c", "ctr", "0.5");
  const block = new ColumnBlock(await callBuffer("TMREAD", "items", "ctr,views", "KEYS", "c", "missing"));
  assert.equal(block.status(0), rowStatus.found);
  assert.equal(block.status(1), rowStatus.absent);
  const [ctr, views] = block.columns;
  assert.equal(block.isValid(0, ctr!), true);
  assert.equal(block.isValid(0, views!), false);
  assert.equal(block.isValid(1, ctr!), false);
  assert.deepEqual(Array.from(block.f32("ctr")), [0.5, 0]);
  assert.equal(block.logOffset, world.store.offset);
});

test("keys come as one blob, ids as u64", async () => {
  await call("TSET", "users", "18446744073709551615", "age", "40");
  await call("TSET", "users", "7", "age", "41");
  const ids = Buffer.alloc(24);
  ids.writeBigUInt64LE(7n, 0);
  ids.writeBigUInt64LE(2n ** 64n - 1n, 8);
  ids.writeBigUInt64LE(8n, 16);
  const byId = new ColumnBlock(await callBuffer("TMREAD", "users", "*", "IDSBLOB", ids));
  assert.deepEqual(Array.from(byId.f32("age")), [41, 40, Number.NaN]);
  const names = ["c", "missing", "a"].map((name) => Buffer.from(name));
  const head = Buffer.alloc(4 + 4 * 4);
  head.writeUInt32LE(3, 0);
  let bound = 0;
  names.forEach((name, i) => {
    bound += name.length;
    head.writeUInt32LE(bound, 8 + 4 * i);
  });
  const byBlob = new ColumnBlock(await callBuffer("TMREAD", "items", "*", "KEYSBLOB", Buffer.concat([head, ...names])));
  assert.deepEqual(
    [0, 1, 2].map((row) => byBlob.status(row)),
    [rowStatus.found, rowStatus.absent, rowStatus.found],
  );
  await assert.rejects(callBuffer("TMREAD", "items", "*", "KEYSBLOB", Buffer.from([9, 0, 0, 0, 1])), /the blob of keys is not whole/);
  head.writeUInt32LE(99, 8);
  await assert.rejects(callBuffer("TMREAD", "items", "*", "KEYSBLOB", Buffer.concat([head, ...names])), /the blob of keys is not whole/);
  const blobs = new KeyBlobWriter();
  const read = (table: string, keys: string[]): Promise<Buffer> => callBuffer("TMREAD", table, "*", "KEYSBLOB", Buffer.from(blobs.fill(keys)));
  assert.deepEqual(await read("items", ["c", "missing", "a"]), await callBuffer("TMREAD", "items", "*", "KEYS", "c", "missing", "a"));
  assert.equal(new ColumnBlock(await read("items", [])).rows, 0);
  await assert.rejects(read("items", ["a", "", "b"]), /a key of 0 bytes for table items/);
  await assert.rejects(read("items", ["a", "é".repeat(2_001)]), /a key of 4002 bytes for table items/);
  assert.deepEqual(Array.from(new ColumnBlock(await read("users", ["\0\0\0\0\0\0\0\x07"])).f32("age")), [41]);
  await assert.rejects(read("users", ["1234567"]), /a key of 7 bytes for table users/);
});

test("columns that are asked for as one text are found again, and no list of names is taken for them", async () => {
  const names = (block: Buffer): string[] => new ColumnBlock(block).columns.map(({ name }) => name);
  for (let i = 0; i < 2; i += 1) {
    assert.deepEqual(names(await callBuffer("TMREAD", "items", "views,ctr", "KEYS", "a")), ["views", "ctr"]);
    assert.deepEqual(names(await callBuffer("TMREAD", "items", "ctr,views", "KEYS", "a")), ["ctr", "views"]);
  }
  const table = world.tables.required("items");
  assert.deepEqual(table.plan("ctr,views"), table.plan(["ctr", "views"]));
  assert.throws(() => table.plan(["ctr,views"]), /has no column "ctr,views"/);
  table.plan(["views", "title"]);
  assert.throws(() => table.plan("views\0title"), /has no column/);
  await assert.rejects(callBuffer("TMREAD", "items", "ctr,,views", "KEYS", "a"), /has no column ""/);
});

test("what cannot be is refused with table and column", async () => {
  await assert.rejects(call("TSET", "items", "x", "owned", "1"), /column owned of table items is owned by batch/);
  await assert.rejects(call("TSET", "items", "x", "nope", "1"), /table items has no column "nope"/);
  await assert.rejects(call("TSET", "items", "x", "views", "1.5"), /the value for column views of table items does not fit/);
  await assert.rejects(call("TGET", "nope", "x"), /there is no table "nope"/);
  await assert.rejects(call("TSET", "users", "-1", "age", "1"), /a key of table users is no u64/);
  await assert.rejects(call("TMREAD", "items", "ctr", "KEYS", ...Array.from({ length: 10_001 }, (_, i) => `k${i}`)), /10001 keys in one read/);
});

test("rows are deleted and scanned in order", async () => {
  for (const key of ["s1", "s2", "s3", "s4", "t1"]) await call("TSET", "items", key, "views", "1");
  assert.equal(await call("TDEL", "items", "s2", "gone"), 1);
  const seen: string[] = [];
  let cursor = "0";
  do {
    const [next, keys, block] = (await callBuffer("TSCAN", "items", cursor, "COUNT", "2", "PREFIX", "s", "COLUMNS", "views")) as unknown as [
      Buffer,
      Buffer[],
      Buffer,
    ];
    cursor = String(next);
    seen.push(...keys.map(String));
    assert.equal(new ColumnBlock(block).rows, keys.length);
  } while (cursor !== "0");
  assert.deepEqual(seen, ["s1", "s3", "s4"]);
  await assert.rejects(call("TSCAN", "items", "ffff.x"), /a cursor that no page gave/);
});

test("a table says how it is", async () => {
  assert.deepEqual(await call("TINFO"), ["items", "users"]);
  const facts = (await call("TINFO", "users")) as unknown[];
  assert.equal(facts[facts.indexOf("name") + 1], "users");
  assert.equal(facts[facts.indexOf("loaded") + 1], 1);
});
