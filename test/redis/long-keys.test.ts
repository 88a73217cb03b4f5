// Guards docs/redis.md: a key of more than 4,094 bytes cannot be written, so for reads and deletes it is not there; writes say the limit, whatever the command.

import assert from "node:assert/strict";
import { test } from "node:test";
import { RawClient, type Tree } from "./raw-client.ts";
import { startMillrace } from "./millrace-server.ts";

const said = ([type, content]: Tree): string =>
  Array.isArray(content) ? `[${content.map((one) => said(one as Tree)).join(" ")}]` : `${type}${String(content)}`;

const long = "k".repeat(5_000);
const refused = "-ERR key exceeds maximum allowed size (4094 bytes)";

test("promise: a key that is too long is absent for reads and deletes", async (t) => {
  const server = await startMillrace();
  t.after(() => server.stop());
  const client = await RawClient.open(server.port);
  t.after(() => {
    client.close();
  });
  const ask = async (...call: string[]): Promise<string> => said((await client.send([call]))[0]!);
  await client.send([
    ["SET", "a", "1"],
    ["SET", "b", "2"],
    ["HSET", "h", "f", "v"],
  ]);
  const nil = await ask("GET", "nosuch");
  for (const [command, ...more] of [["GET"], ["DUMP"], ["HGET", "f"], ["OBJECT"]] as const) {
    const call = command === "OBJECT" ? ["OBJECT", "ENCODING", long] : [command, long, ...more];
    assert.equal(await ask(...call), nil, command);
  }
  for (const [command, ...more] of [
    ["EXISTS"],
    ["DEL"],
    ["UNLINK"],
    ["TOUCH"],
    ["STRLEN"],
    ["HLEN"],
    ["HDEL", "f"],
    ["HEXISTS", "f"],
    ["PERSIST"],
    ["EXPIRE", "9"],
  ] as const) {
    assert.equal(await ask(command, long, ...more), ":0", command);
  }
  assert.equal(await ask("TTL", long), ":-2");
  assert.equal(await ask("TYPE", long), "+none");
  assert.equal(await ask("RENAME", long, "c"), "-ERR no such key");
  assert.equal(await ask("HGETALL", long), "[]");
  assert.equal(await ask("HGET", "h", long), nil);
  assert.equal(await ask("MGET", "a", long, "b"), `[$"1" ${nil} $"2"]`);
  assert.equal(await ask("EXISTS", "a", long, "b"), ":2");
  // As parts of a pipeline, which are looked up together, and of a transaction.
  const replies = await client.send([
    ["GET", "a"],
    ["GET", long],
    ["GET", "b"],
    ["MULTI"],
    ["GET", long],
    ["SET", "a", "3"],
    ["GET", long],
    ["GET", "a"],
    ["EXEC"],
  ]);
  assert.deepEqual(replies.map(said), ['$"1"', nil, '$"2"', "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", `[${nil} +OK ${nil} $"3"]`]);
});

test("promise: a write to a key that is too long says the limit and disturbs no other one of its pipeline", async (t) => {
  const server = await startMillrace();
  t.after(() => server.stop());
  const client = await RawClient.open(server.port);
  t.after(() => {
    client.close();
  });
  const writes: readonly (readonly [string, ...string[]])[] = [
    ...[
      ["SET", "v"],
      ["SETNX", "v"],
      ["GETSET", "v"],
      ["APPEND", "v"],
      ["SETEX", "9", "v"],
      ["PSETEX", "9000", "v"],
      ["SETRANGE", "0", "v"],
    ],
    ...[["INCR"], ["DECR"], ["INCRBY", "2"], ["DECRBY", "2"], ["INCRBYFLOAT", "2.5"], ["MSET", "v"], ["MSETNX", "v"]],
    ...[
      ["HSET", "f", "v"],
      ["HMSET", "f", "v"],
      ["HSETNX", "f", "v"],
      ["HINCRBY", "f", "1"],
      ["HINCRBYFLOAT", "f", "1.5"],
    ],
  ] as [string, ...string[]][];
  for (const [command, ...more] of writes) {
    const one = (key: string): string[] => [command, key, ...more];
    const [before, wrong, after] = (await client.send([one(`${command}:1`), one(long), one(`${command}:2`)])).map(said);
    assert.equal(wrong, refused, command);
    assert.ok(!before!.startsWith("-") && !after!.startsWith("-"), `${command}: ${before}, ${after}`);
    assert.equal(said((await client.send([["EXISTS", `${command}:1`, `${command}:2`]]))[0]!), ":2", command);
  }
  await client.send([["SET", "a", "1"]]);
  for (const call of [
    ["RENAME", "a", long],
    ["RENAMENX", "a", long],
    ["COPY", "a", long],
  ])
    assert.equal(said((await client.send([call]))[0]!), refused, call[0]);
});
