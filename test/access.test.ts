// Who may do what, as docs/access.md says it, over real sockets of a whole server: the page's own example, tokens on HTTP, key patterns on the Redis port, and that
// neither port listens beyond loopback while nobody is named who may. What a right lets a user do to a key is compared with a real redis-server.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type AccessConfig, checkAccessConfig } from "#wire/access-config";
import { RawClient, type Tree } from "./redis/raw-client.ts";
import { findRedisServer, startRedisServer } from "./redis/redis-server.ts";
import { startWholeServer } from "./whole-server.ts";

const tables = { items: { key: "string", columns: { ctr: { type: "f32" } } } };

const digest = (secret: string): string => createHash("sha256").update(secret).digest("hex");

/** The example of docs/access.md with its dots filled in. */
function documented(): AccessConfig {
  const page = readFileSync(join(import.meta.dirname, "..", "docs", "access.md"), "utf8");
  const example = /```json\n([^`]*)```/.exec(page)![1]!;
  const section = (JSON.parse(example) as { access: { users: Record<string, { passwordsSha256?: string[]; tokensSha256?: string[] }> } }).access;
  for (const [name, user] of Object.entries(section.users)) {
    if (user.passwordsSha256 !== undefined) user.passwordsSha256 = [digest(`password of ${name}`)];
    if (user.tokensSha256 !== undefined) user.tokensSha256 = [digest(`token-of-${name}`)];
  }
  return checkAccessConfig(section);
}

const said = ([type, content]: Tree): string => `${type}${String(content)}`;
const as = async (port: number, name: string, ...commands: string[]): Promise<string[]> => {
  const client = await RawClient.open(port);
  const replies = await client.send([["AUTH", name, `password of ${name}`], ...commands.map((line) => line.split(" "))]);
  client.close();
  assert.equal(said(replies[0]!), "+OK");
  return replies.slice(1).map(said);
};

test("a section that cannot be is refused with its place, and what is wrong there", () => {
  const refusals: [section: unknown, message: RegExp][] = [
    [null, /access must be object/],
    [{}, /access must have required properties users/],
    [{ users: {}, user: {} }, /access has no field "user"/],
    [{ users: { "two words": { anything: 1 } } }, /access\.users: "two words" cannot be a name/],
    [{ users: { a: { password: "12345678" } } }, /access\.users\.a has no field "password"/],
    [{ users: { a: { passwords: ["short"] } } }, /access\.users\.a\.passwords\.0 must not have fewer than 8 characters/],
    [{ users: { a: { scopes: ["reading"] } } }, /access\.users\.a\.scopes\.0 must be .*: read, events, recommend, write, import, admin/],
    [{ users: { a: { tokensSha256: ["zz"] } } }, /access\.users\.a\.tokensSha256\.0 must match/],
  ];
  for (const [section, message] of refusals) assert.throws(() => checkAccessConfig(section), { code: "invalid", message });
});

test("promise: tokens on a real server: each route answers 401 without one, 403 without its scope", async (t) => {
  const server = await startWholeServer(t, { tables, access: documented() });
  const status = async (method: string, path: string, token?: string, body?: unknown): Promise<number> => {
    const headers = {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    };
    const response = await fetch(server.address + path, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const text = await response.text();
    assert.ok(!text.includes("token-of-"), "no secret in an answer");
    if (response.status === 401) assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer /);
    return response.status;
  };
  const event = { id: "e-1", type: "click", user: "ann", item: "noodles" };
  const rows = { rows: [{ key: "a", values: { ctr: 0.5 } }] };
  const wanted: [method: string, path: string, body: unknown, anybody: number, shop: number, operator: number][] = [
    ["GET", "/health/live", undefined, 200, 200, 200],
    ["GET", "/health/ready", undefined, 200, 200, 200],
    ["GET", "/v1/status", undefined, 401, 403, 200],
    ["GET", "/v1/%73tatus", undefined, 401, 403, 200],
    ["HEAD", "/v1/status", undefined, 401, 403, 200],
    ["GET", "/metrics", undefined, 401, 403, 200],
    ["GET", "/openapi.json", undefined, 401, 403, 200],
    ["POST", "/v1/events", event, 401, 200, 200],
    ["POST", "/v1/recommend/home", { user: "ann", n: 1 }, 401, 200, 200],
    ["PUT", "/v1/items", [{ id: "noodles", title: "t", category: "c" }], 401, 403, 200],
    ["POST", "/v1/tables/items/write", rows, 401, 403, 200],
    ["POST", "/v1/tables/items/read", { keys: ["a"] }, 401, 403, 200],
    ["POST", "/v1/tables/items/delete", { keys: ["a"] }, 401, 403, 200],
  ];
  for (const [method, path, body, anybody, shop, operator] of wanted) {
    const asked = [await status(method, path, undefined, body), await status(method, path, "token-of-nobody", body)];
    assert.deepEqual(asked, [anybody, path.startsWith("/health") ? 200 : 401], `${method} ${path} without a known token`);
    assert.equal(await status(method, path, "token-of-shop", body), shop, `${method} ${path} of the shop`);
    assert.equal(await status(method, path, "token-of-operator", body), operator, `${method} ${path} of the operator`);
  }
  // A password is no token, and a token no password.
  assert.equal(await status("GET", "/v1/status", digest("token-of-operator")), 401);
});

test("promise: the users of the documented example may what the page says, over a real socket", async (t) => {
  const { respPort } = await startWholeServer(t, { tables, access: documented() });
  const noKey = "-NOPERM this user has no permissions to access one of the keys used as arguments";
  const stranger = await RawClient.open(respPort);
  for (const reply of await stranger.send([["GET", "items:1"], ["INFO"], ["ACL", "LIST"]])) assert.match(said(reply), /^-NOAUTH/);
  assert.match(said((await stranger.send([["AUTH", "ranker", "wrong password"]]))[0]!), /^-WRONGPASS/);
  stranger.close();
  assert.deepEqual(await as(respPort, "pipeline", "SET items:1 one", "HSET items:2 ctr 0.5", "EXPIRE items:1 100", "DEL items:9", "MSET items:3 a items:4 b"), [
    ...["+OK", ":1", ":1", ":0", "+OK"],
  ]);
  assert.deepEqual(await as(respPort, "pipeline", "SET other 1", "SET items:1 two GET", "MSET items:1 x other y", "GETDEL items:1"), [
    noKey,
    noKey,
    noKey,
    noKey,
  ]);
  assert.match((await as(respPort, "pipeline", "GET items:1"))[0]!, /^-NOPERM this user has no permissions to run the 'get' command/);
  assert.deepEqual(await as(respPort, "ranker", "GET items:1", "HGET items:2 ctr", "GET other", "MGET items:1 other"), ['$"one"', '$"0.5"', noKey, noKey]);
  for (const reply of await as(respPort, "ranker", "SET items:1 x", "DEL items:1", "FLUSHALL", "ACL LIST", "CONFIG GET dir")) assert.match(reply, /^-NOPERM/);

  // Whoever is deleted while connected is cut off.
  const open = await RawClient.open(respPort);
  await open.send([["AUTH", "ranker", "password of ranker"]]);
  assert.deepEqual(await as(respPort, "operator", "ACL DELUSER ranker"), [":1"]);
  await assert.rejects(open.send([["GET", "items:1"]]));
});

test("promise: beyond loopback neither port listens without access, and both do with it", async (t) => {
  for (const host of ["0.0.0.0", "::", "192.0.2.1"]) {
    await assert.rejects(startWholeServer(t, {}, { host }), /others could reach it and nobody is named who may: .*access/);
  }
  const server = await startWholeServer(t, { access: documented() }, { host: "0.0.0.0" });
  const { status } = await fetch(`http://127.0.0.1:${new URL(server.address).port}/v1/status`);
  assert.equal(status, 401);
  assert.deepEqual(await as(server.respPort, "operator", "PING"), ["+PONG"]);
});

const redisProgram = findRedisServer();

test(
  "promise: what a right to read or write lets a user do to a key is what redis-server says",
  { skip: redisProgram === undefined ? "redis-server is not installed" : false },
  async (t) => {
    const { respPort } = await startWholeServer(t);
    const redis = await startRedisServer(redisProgram!);
    t.after(() => redis.stop());
    const calls = [
      ...["GET k", "SET k v", "SET k v GET", "SET k v EX 9 get", "MGET k j", "MSET k v j v", "MSETNX k v", "GETEX k", "GETDEL k", "GETSET k v", "SETNX k v"],
      ...["SETEX k 9 v", "PSETEX k 9 v", "APPEND k v", "GETRANGE k 0 1", "SUBSTR k 0 1", "SETRANGE k 0 v", "STRLEN k", "INCR k", "DECR k", "INCRBY k 1"],
      ...["DECRBY k 1", "INCRBYFLOAT k 1", "LCS k j", "HSET k f v", "HMSET k f v", "HSETNX k f v", "HGET k f", "HMGET k f", "HGETALL k", "HDEL k f"],
      ...["HEXISTS k f", "HKEYS k", "HVALS k", "HLEN k", "HSTRLEN k f", "HINCRBY k f 1", "HINCRBYFLOAT k f 1", "HSCAN k 0", "HRANDFIELD k", "DEL k j"],
      ...["UNLINK k", "EXISTS k", "TOUCH k", "TYPE k", "RENAME k j", "RENAMENX k j", "COPY k j", "EXPIRE k 1", "PEXPIRE k 1", "EXPIREAT k 1", "PEXPIREAT k 1"],
      ...["TTL k", "PTTL k", "EXPIRETIME k", "PEXPIRETIME k", "PERSIST k", "WATCH k", "OBJECT ENCODING k", "OBJECT REFCOUNT k", "MEMORY USAGE k"],
    ];
    const users = { reader: "%R~*", writer: "%W~*", mover: "%RW~k %W~j", copier: "%R~k %W~j", stranger: "~other" };
    const commands = Object.entries(users).flatMap(([name, rules]) => [
      ["ACL", "SETUSER", name, "on", "nopass", "+@all", ...rules.split(" ")],
      ...calls.map((call) => ["ACL", "DRYRUN", name, ...call.split(" ")]),
    ]);
    const answers: string[][] = [];
    for (const port of [respPort, redis.port]) {
      const client = await RawClient.open(port);
      answers.push((await client.send(commands)).map(said));
      client.close();
    }
    const different = commands.flatMap((command, index) =>
      answers[0]![index] === answers[1]![index] ? [] : [`${command.join(" ")}: ours ${answers[0]![index]!}, theirs ${answers[1]![index]!}`],
    );
    assert.deepEqual(different, []);
  },
);
