// The commands on vector collections over a real socket, with clients that people use, in both protocols; and what DEL, EXISTS and TYPE say of collections.
// The collections themselves are plain objects here (plain-vectors.contract.ts): what is tested is reading, replies and errors.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { Prng } from "#base/prng";
import { Hashes } from "#features/keyspace/hashes";
import { Keyspace } from "#features/keyspace/keyspace";
import { openTableWorld, type TableWorld } from "#features/tables/table-world.contract";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { PlainVectors } from "#vectors/plain-vectors.contract";
import { ServedCollections } from "#vectors/served-collections";
import { Access } from "#wire/access-users";
import { CommandTable } from "#wire/resp-command-table";
import { type RespServer, startRespServer } from "#wire/resp-server";
import { decodeAnswer, encodeTexts } from "#wire/vector-api";
import { aclCommands } from "./acl.ts";
import { connectionCommands } from "./connection.ts";
import { keyspaceCommands } from "./index.ts";
import { namedCollections } from "./named-collections.ts";
import { vectorCommands } from "./vectors.ts";

/** What is used here of node-redis; types of replies are named by their byte. */
interface Modern {
  connect(): Promise<unknown>;
  destroy(): void;
  sendCommand(args: readonly (string | Buffer)[]): Promise<unknown>;
  withTypeMapping(mapping: Record<number, unknown>): Modern;
}
const mapByte = 37;

let world: TableWorld;
let server: RespServer;
/** RESP2. */
let redis: Redis;
/** RESP3. */
let modern: Modern;

const openModern = (port: number): Modern =>
  createClient({ RESP: 3, socket: { port, reconnectStrategy: false }, disableClientInfo: true } as never) as unknown as Modern;
const f32 = (...numbers: number[]): Buffer => Buffer.from(Float32Array.from(numbers).buffer);
const call = (...args: (string | number | Buffer)[]): Promise<unknown> => redis.call(args[0] as string, ...args.slice(1));
const callBuffer = (...args: (string | number | Buffer)[]): Promise<unknown> => redis.callBuffer(args[0] as string, ...args.slice(1));
const call3 = (...args: (string | Buffer)[]): Promise<unknown> => modern.sendCommand(args);
const fails = (message: RegExp, ...args: (string | number | Buffer)[]): Promise<void> => assert.rejects(call(...args), { message });

before(async () => {
  world = await openTableWorld({});
  const keyspace = new Keyspace({ store: world.store, clock: systemClock, random: new Prng(1) });
  const hashes = new Hashes(keyspace);
  const vectors = new ServedCollections({ engine: new PlainVectors(), cacheBytesMax: 1 << 20, reservedPrefix: "model:" });
  const later: { access?: Access } = {};
  const accessOf = (): Access => later.access!;
  const commands = new CommandTable(
    ...keyspaceCommands({ keyspace, hashes, collections: namedCollections(vectors) }),
    vectorCommands({ vectors, isPlainKey: (key) => (keyspace.begin(), keyspace.find(key) !== undefined) }),
    connectionCommands(accessOf),
    aclCommands(accessOf, { bytes: (into) => new Prng(1).bytes(into) }),
  );
  later.access = new Access({ commands, clock: systemClock });
  server = await startRespServer({
    network: systemNetwork,
    clock: systemClock,
    port: 0,
    commands,
    access: later.access,
    onDefect: (thrown) => assert.fail(String(thrown)),
  });
  redis = new Redis({ port: server.port, enableReadyCheck: false, disableClientInfo: true, protocol: 2, maxRetriesPerRequest: 1 } as never);
  modern = openModern(server.port);
  await modern.connect();
});

after(async () => {
  redis.disconnect();
  modern.destroy();
  await server.drain(1_000);
  await world.close();
});

test("promise: elements are added, found, overwritten and removed as in Redis 8, in RESP2", async () => {
  assert.equal(await call("VADD", "films", "VALUES", 2, "1", "0", "alien"), 1);
  assert.equal(await call("VADD", "films", "FP32", f32(0, 2), "dune", "CAS", "NOQUANT", "EF", "200", "SETATTR", '{"year":1984}', "M", "16"), 1);
  assert.equal(await call("VADD", "films", "FP32", f32(0, 3), "dune"), 0);
  assert.equal(await call("VCARD", "films"), 2);
  assert.equal(await call("VDIM", "films"), 2);
  assert.deepEqual(await call("VSIM", "films", "VALUES", 2, "1", "0.1"), ["alien", "dune"]);
  assert.deepEqual(await call("VSIM", "films", "FP32", f32(0, 1), "WITHSCORES", "COUNT", "2", "EF", "100", "TRUTH", "NOTHREAD"), ["dune", "1", "alien", "0.5"]);
  assert.deepEqual(await call("VSIM", "films", "ELE", "dune", "WITHSCORES", "WITHATTRIBS"), ["dune", "1", '{"year":1984}', "alien", "0.5", null]);
  assert.deepEqual(await call("VSIM", "films", "ELE", "dune", "WITHATTRIBS"), ["dune", '{"year":1984}', "alien", null]);
  assert.deepEqual(await call("VSIM", "films", "ELE", "dune", "COUNT", "1"), ["dune"]);
  assert.deepEqual(await call("VSIM", "films", "ELE", "dune", "EPSILON", "0.4"), ["dune"]);
  assert.deepEqual(await call("VSIM", "films", "ELE", "dune", "EPSILON", "0.5"), ["dune", "alien"]);
  assert.deepEqual(await call("VSIM", "films", "ELE", "alien", "FILTER", ".year > 1980", "FILTER-EF", "0"), ["dune"]);
  // As it was added, its length given back.
  assert.deepEqual(await call("VEMB", "films", "dune"), ["0", "3"]);
  const [kind, blob, norm] = (await callBuffer("VEMB", "films", "dune", "RAW")) as Buffer[];
  assert.deepEqual([kind!.toString(), blob, norm!.toString()], ["fp32", f32(0, 1), "3"]);
  assert.equal(await call("VGETATTR", "films", "dune"), '{"year":1984}');
  assert.equal(await call("VSETATTR", "films", "alien", '{"year":1979}'), 1);
  assert.equal(await call("VGETATTR", "films", "alien"), '{"year":1979}');
  assert.equal(await call("VSETATTR", "films", "alien", ""), 1);
  assert.equal(await call("VGETATTR", "films", "alien"), null);
  assert.equal(await call("VSETATTR", "films", "none", "{}"), 0);
  assert.equal(await call("VISMEMBER", "films", "alien"), 1);
  assert.equal(await call("VISMEMBER", "films", "none"), 0);
  assert.ok(["alien", "dune"].includes((await call("VRANDMEMBER", "films")) as string));
  assert.deepEqual([...((await call("VRANDMEMBER", "films", "5")) as string[])].sort(), ["alien", "dune"]);
  assert.equal(((await call("VRANDMEMBER", "films", "-5")) as string[]).length, 5);
  const info = (await call("VINFO", "films")) as (string | number)[];
  const field = (name: string): unknown => info[info.indexOf(name) + 1];
  assert.deepEqual([field("quant-type"), field("vector-dim"), field("size"), field("metric")], ["f32", 2, 2, "cosine"]);
  assert.equal(await call("VREM", "films", "alien"), 1);
  assert.equal(await call("VREM", "films", "alien"), 0);
  assert.equal(await call("VCARD", "films"), 1);
  assert.ok(((await call("VLIST")) as string[]).includes("films"));
});

test("promise: replies of RESP3 are booleans, doubles and maps", async () => {
  assert.equal(await call3("VADD", "three", "VALUES", "2", "1", "0", "a"), true);
  assert.equal(await call3("VADD", "three", "VALUES", "2", "1", "0", "a"), false);
  assert.equal(await call3("VADD", "three", "VALUES", "2", "0", "1", "b", "SETATTR", "{}"), true);
  const maps = modern.withTypeMapping({ [mapByte]: Map });
  assert.deepEqual(
    await maps.sendCommand(["VSIM", "three", "ELE", "a", "WITHSCORES"]),
    new Map([
      ["a", 1],
      ["b", 0.5],
    ]),
  );
  assert.deepEqual(
    await maps.sendCommand(["VSIM", "three", "ELE", "a", "WITHSCORES", "WITHATTRIBS"]),
    new Map<string, unknown>([
      ["a", [1, null]],
      ["b", [0.5, "{}"]],
    ]),
  );
  assert.deepEqual(await call3("VSIM", "three", "ELE", "a"), ["a", "b"]);
  assert.deepEqual(await call3("VEMB", "three", "b"), [0, 1]);
  assert.equal(await call3("VISMEMBER", "three", "b"), true);
  assert.equal(await call3("VSETATTR", "three", "b", ""), true);
  assert.equal(await call3("VREM", "three", "b"), true);
  assert.equal(await call3("VGETATTR", "three", "b"), null);
});

test("what is not there", async () => {
  assert.deepEqual(await call("VSIM", "none", "ELE", "a"), []);
  assert.deepEqual(await call("VSIM", "none", "VALUES", 1, 1, "WITHSCORES"), []);
  assert.equal(await call("VCARD", "none"), 0);
  assert.equal(await call("VREM", "none", "a"), 0);
  assert.equal(await call("VEMB", "none", "a"), null);
  assert.equal(await call("VGETATTR", "none", "a"), null);
  assert.equal(await call("VSETATTR", "none", "a", "{}"), 0);
  assert.equal(await call("VISMEMBER", "none", "a"), 0);
  assert.equal(await call("VRANDMEMBER", "none"), null);
  assert.deepEqual(await call("VRANDMEMBER", "none", 3), []);
  assert.equal(await call("VINFO", "none"), null);
  await fails(/^ERR key does not exist$/, "VDIM", "none");
  await fails(/^ERR key does not exist$/, "VSEARCH", "none", f32(1));
});

test("errors say what is wrong and change nothing", async () => {
  await call("VADD", "two", "VALUES", 2, 1, 2, "a");
  await fails(/^ERR Vector dimension mismatch - got 3 but set has 2$/, "VADD", "two", "FP32", f32(1, 2, 3), "b");
  await fails(/^ERR Vector dimension mismatch - got 1 but set has 2$/, "VSIM", "two", "FP32", f32(1));
  await fails(/^ERR element not found in set$/, "VSIM", "two", "ELE", "none");
  await fails(/^ERR invalid vector specification$/, "VADD", "two", "FP32", Buffer.from("abc"), "b");
  await fails(/^ERR invalid vector specification$/, "VADD", "two", "VALUES", 2, "1", "x", "b");
  await fails(/^ERR invalid vector specification$/, "VADD", "two", "VALUES", 9, "1", "2", "b");
  await fails(/^ERR a vector of 4097 numbers, at most 4096$/, "VADD", "two", "FP32", Buffer.alloc(4 * 4_097), "b");
  await fails(/^ERR a vector of 4097 numbers, at most 4096$/, "VADD", "two", "VALUES", 4_097, ...new Array<string>(4_097).fill("1"), "b");
  await fails(/^ERR invalid vector specification$/, "VADD", "two", "VALUES", 0, "1", "2");
  await fails(/^ERR syntax error$/, "VADD", "two", "VALUES", 2, "1", "2");
  await fails(/not finite/, "VADD", "two", "FP32", f32(1, NaN), "b");
  await fails(/not finite/, "VADD", "two", "VALUES", 2, "1", "1e300", "b");
  await fails(/^ERR invalid option after element$/, "VADD", "two", "VALUES", 2, 1, 2, "b", "WHAT");
  await fails(/^ERR invalid M$/, "VADD", "two", "VALUES", 2, 1, 2, "b", "M", "0");
  await fails(/^ERR REDUCE is not supported/, "VADD", "two", "REDUCE", 1, "VALUES", 2, 1, 2, "b");
  await fails(/attributes must be a JSON object/, "VADD", "two", "VALUES", 2, 1, 2, "b", "SETATTR", "[1]");
  await fails(/attributes must be a JSON object/, "VSETATTR", "two", "a", "{");
  await fails(/UTF-8/, "VADD", "two", "VALUES", 2, 1, 2, Buffer.of(0xff));
  await fails(/never empty/, "VADD", "two", "VALUES", 2, 1, 2, "");
  await fails(/element of 1025 bytes, at most 1024/, "VADD", "two", "VALUES", 2, 1, 2, "x".repeat(1_025));
  await fails(/^ERR invalid COUNT$/, "VSIM", "two", "ELE", "a", "COUNT", "0");
  await fails(/^ERR COUNT of 10001, at most 10000$/, "VSIM", "two", "ELE", "a", "COUNT", "10001");
  await fails(/^ERR syntax error$/, "VSIM", "two", "ELE", "a", "COUNT");
  await fails(/^ERR syntax error$/, "VSIM", "two", "ELE", "a", "WHAT", "1");
  await fails(/^ERR invalid EPSILON$/, "VSIM", "two", "ELE", "a", "EPSILON", "x");
  await fails(/^ERR \[invalid\] a filter/, "VSIM", "two", "ELE", "a", "FILTER", "year >");
  await fails(/^ERR \[not-found\] no version v9/, "VSIM", "two", "ELE", "a", "VERSION", "v9");
  await fails(/VLINKS is not supported/, "VLINKS", "two", "a");
  await fails(/wrong number of arguments/, "VADD", "two", "VALUES", "1");
  await fails(/^ERR \[invalid\] collection model:x is one that the server shows/, "VADD", "model:x", "VALUES", 1, 1, "a");
  assert.equal(await call("VCARD", "two"), 1);
});

test("many at once: one blob of rows, one blob of answers", async () => {
  assert.equal(await call("VCREATE", "many", "DIM", 2, "METRIC", "l2"), 1);
  assert.equal(await call("VCREATE", "many", "DIM", 2, "METRIC", "L2"), 0);
  await fails(/^ERR \[conflict\]/, "VCREATE", "many", "DIM", 3);
  await fails(/VCREATE key DIM n/, "VCREATE", "many", "DIM", 0);
  await fails(/METRIC cosine\|ip\|l2/, "VCREATE", "other", "DIM", 3, "METRIC", "hamming");
  const names = Buffer.from(encodeTexts(["a", "b", "ä"]));
  assert.equal(await call("VADDS", "many", f32(0, 0, 3, 4, 6, 8), names, "ATTRIBS", Buffer.from(encodeTexts(['{"x":1}', "", '{"x":2}']))), 3);
  assert.equal(await call("VADDS", "many", f32(0, 0, 3, 4, 6, 8), names), 0);
  const answer = decodeAnswer((await callBuffer("VSEARCH", "many", f32(0, 0, 6, 7), "COUNT", "2", "WITHATTRIBS")) as Buffer);
  assert.deepEqual(answer, {
    metric: "l2",
    version: "",
    from: Uint32Array.of(0, 2, 4),
    elements: ["a", "b", "ä", "b"],
    scores: Float32Array.of(0, 25, 1, 18),
    attributes: ['{"x":1}', undefined, '{"x":2}', undefined],
  });
  assert.deepEqual(decodeAnswer((await callBuffer("VSEARCH", "many", f32(0, 0), "FILTER", ".x >= 2")) as Buffer).elements, ["ä"]);
  assert.deepEqual(decodeAnswer((await callBuffer("VSEARCH", "many", Buffer.alloc(0))) as Buffer).from, Uint32Array.of(0));
  assert.deepEqual(decodeAnswer((await callBuffer("VSEARCH", "many", "ELE", "ä", "COUNT", "1")) as Buffer).elements, ["ä"]);
  await fails(/^ERR \[not-found\]/, "VSEARCH", "many", "ELE", "none");
  assert.deepEqual(await call("VSIM", "many", "ELE", "a", "WITHSCORES", "EPSILON", "25"), ["a", "0", "b", "25"]);
  assert.equal(await call("VADDS", "made", f32(1, 2, 3, 4, 5, 6), Buffer.from(encodeTexts(["a", "b"]))), 2);
  assert.equal(await call("VDIM", "made"), 3);
  assert.equal(await call("VADDS", "many", Buffer.alloc(0), Buffer.from(encodeTexts([]))), 0);
  await fails(/7 numbers for 2 elements/, "VADDS", "many", f32(1, 2, 3, 4, 5, 6, 7), Buffer.from(encodeTexts(["a", "b"])));
  await fails(
    /1 attributes for 2 elements/,
    "VADDS",
    "many",
    f32(1, 2, 3, 4),
    Buffer.from(encodeTexts(["a", "b"])),
    "ATTRIBS",
    Buffer.from(encodeTexts(["{}"])),
  );
  await fails(/^ERR \[invalid\] elements/, "VADDS", "many", f32(1, 2), Buffer.from("abc"));
  await fails(/3 numbers are no whole queries of 2/, "VSEARCH", "many", f32(1, 2, 3));
  await fails(/at most 1024 and 1000000 in all/, "VSEARCH", "many", Buffer.alloc(8 * 1_025));
  await fails(/^ERR syntax error$/, "VSEARCH", "many", f32(1, 2), "WITHSCORES");
});

test("promise: a pipeline of writes and reads is answered in order, each read seeing the writes before it", async () => {
  const pipeline = redis.pipeline();
  for (let i = 0; i < 100; i++) pipeline.call("VADD", "line", "FP32", f32(Math.cos(i / 100), Math.sin(i / 100)), `e${i}`);
  pipeline.call("VCARD", "line");
  pipeline.call("VADD", "line", "VALUES", 3, "1", "1", "1", "wrong");
  for (let i = 0; i < 50; i++) pipeline.call("VREM", "line", `e${i}`);
  pipeline.call("VSIM", "line", "ELE", "e0");
  pipeline.call("VSIM", "line", "ELE", "e99", "COUNT", "1");
  pipeline.call("VCARD", "line");
  const replies = (await pipeline.exec())!;
  assert.deepEqual(
    replies.slice(0, 101).map(([, reply]) => reply),
    [...Array.from({ length: 100 }, () => 1), 100],
  );
  assert.match(String(replies[101]![0]), /dimension mismatch/);
  assert.ok(replies.slice(102, 152).every(([, reply]) => reply === 1));
  assert.match(String(replies[152]![0]), /element not found/);
  assert.deepEqual(replies[153]![1], ["e99"]);
  assert.equal(replies[154]![1], 50);
});

test("promise: a first row that is refused makes no collection", async () => {
  const names = Buffer.from(encodeTexts(["a", "b"]));
  await fails(/length 0/, "VADD", "unmade", "VALUES", 2, 0, 0, "a");
  await fails(/of length 1\.00e\+30/, "VADD", "unmade", "VALUES", 2, "1e30", 0, "a");
  await fails(/length 0/, "VADDS", "unmade", f32(1, 2, 0, 0), names);
  await fails(/attributes must be a JSON object/, "VADD", "unmade", "VALUES", 2, 1, 0, "a", "SETATTR", "7");
  assert.equal(await call("EXISTS", "unmade"), 0);
  assert.ok(!((await call("VLIST")) as string[]).includes("unmade"));
  // Another shape than that of the row that was refused is free.
  assert.equal(await call("VADD", "unmade", "VALUES", 3, 1, 0, 0, "a"), 1);
  assert.equal(await call("DEL", "unmade"), 1);
});

test("promise: no command on strings, hashes or keys hides, overwrites or renames a collection", async () => {
  await call("VADD", "own", "VALUES", 1, 1, "a");
  await call("SET", "other", "x");
  for (const args of [
    ["SET", "own", "x"],
    ["SET", "own", "x", "NX"],
    ["GET", "own"],
    ["SETEX", "own", 10, "x"],
    ["MSET", "free", "1", "own", "x"],
    ["INCR", "own"],
    ["APPEND", "own", "x"],
    ["HSET", "own", "f", "x"],
    ["HGET", "own", "f"],
    ["HGETALL", "own"],
    ["EXPIRE", "own", 10],
    ["TTL", "own"],
    ["PERSIST", "own"],
    ["RENAME", "own", "third"],
    ["RENAME", "other", "own"],
    ["RENAMENX", "other", "own"],
    ["COPY", "other", "own", "REPLACE"],
    ["OBJECT", "ENCODING", "own"],
    ["DUMP", "own"],
  ]) {
    await fails(/^WRONGTYPE/, ...args);
  }
  assert.equal(await call("EXISTS", "free", "third"), 0);
  assert.deepEqual(await call("MGET", "own", "other"), [null, "x"]);
  // A pipeline of one command: each by itself.
  const pipeline = redis.pipeline();
  pipeline.set("p1", "1").set("own", "x").set("p2", "2").get("p1").get("own").get("p2");
  const replies = (await pipeline.exec())!.map(([error, reply]) => error?.message.split(" ")[0] ?? reply);
  assert.deepEqual(replies, ["OK", "WRONGTYPE", "OK", "1", "WRONGTYPE", "2"]);
  const answers = (await redis.multi().set("own", "x").set("p1", "3").exec())!.map(([error, reply]) => error?.message.split(" ")[0] ?? reply);
  assert.deepEqual(answers, ["WRONGTYPE", "OK"]);
  assert.deepEqual(await call("VSIM", "own", "ELE", "a"), ["a"]);
  assert.equal(await call("TYPE", "own"), "vectorset");
  assert.equal(await call("DEL", "own"), 1);
  assert.equal(await call("SET", "own", "x"), "OK");
  await fails(/^WRONGTYPE/, "VADD", "own", "VALUES", 1, 1, "a");
  assert.equal(await call("DEL", "own", "other", "p1", "p2"), 4);
});

test("a collection is a key: DEL, UNLINK, EXISTS, TOUCH, TYPE; a plain key of the name is WRONGTYPE", async () => {
  await call("VADD", "keyed", "VALUES", 1, 1, "a");
  await call("SET", "plain", "x");
  assert.equal(await call("TYPE", "keyed"), "vectorset");
  assert.equal(await call("TYPE", "plain"), "string");
  assert.equal(await call("TYPE", "nothing"), "none");
  assert.equal(await call("EXISTS", "keyed", "plain", "nothing", "keyed"), 3);
  for (const args of [
    ["VADD", "plain", "VALUES", 1, 1, "a"],
    ["VSIM", "plain", "ELE", "a"],
    ["VCARD", "plain"],
    ["VADDS", "plain", f32(1), Buffer.from(encodeTexts(["a"]))],
    ["VCREATE", "plain", "DIM", 1],
  ]) {
    await fails(/^WRONGTYPE/, ...args);
  }
  assert.equal(await call("DEL", "keyed", "plain", "nothing", "keyed"), 2);
  assert.equal(await call("TYPE", "keyed"), "none");
  assert.equal(await call("EXISTS", "keyed", "plain"), 0);
  await call("VADD", "keyed", "VALUES", 2, 1, 1, "a");
  assert.equal(await call("VDIM", "keyed"), 2);
  const answers = await redis.multi().set("plain", "y").del("keyed", "plain").exists("keyed").exec();
  assert.deepEqual(
    answers!.map(([, reply]) => reply),
    ["OK", 2, 0],
  );
  await fails(/not allowed inside a transaction|EXECABORT/, "VCARD", "keyed").catch(() => undefined);
});

test("promise: a user reaches the collections of its key patterns, and writes only where it may", async () => {
  await call("VADD", "shop:items", "VALUES", 1, 1, "a");
  await call("ACL", "SETUSER", "reader", "on", ">secret", "resetkeys", "%R~shop:*", "+@read", "+@write", "+@connection");
  const reader = new Redis({
    port: server.port,
    enableReadyCheck: false,
    disableClientInfo: true,
    protocol: 2,
    username: "reader",
    password: "secret",
    maxRetriesPerRequest: 1,
  } as never);
  try {
    assert.deepEqual(await reader.call("VSIM", "shop:items", "ELE", "a"), ["a"]);
    assert.deepEqual(await reader.call("VLIST"), ["shop:items"]);
    assert.ok(((await call("VLIST")) as string[]).includes("films"));
    await assert.rejects(reader.call("VSIM", "films", "ELE", "a"), /NOPERM/);
    await assert.rejects(reader.call("VADD", "shop:items", "VALUES", "1", "1", "b"), /NOPERM/);
    await assert.rejects(reader.call("VREM", "shop:items", "a"), /NOPERM/);
    await assert.rejects(reader.call("DEL", "shop:items"), /NOPERM/);
  } finally {
    reader.disconnect();
  }
});
