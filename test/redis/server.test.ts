// What only a whole server shows over its Redis port: what it says when it cannot start, figures of INFO that several parts make, limits, little memory.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { newDataFolder, startWholeServer } from "../whole-server.ts";
import { RawClient, type Tree } from "./raw-client.ts";

const said = ([type, content]: Tree): string => `${type}${String(content)}`;

test("promise: a second server on one data folder is told so, and a taken port names its option", async (t) => {
  const dataFolder = newDataFolder(t);
  const first = await startWholeServer(t, {}, { dataFolder });
  await assert.rejects(startWholeServer(t, {}, { dataFolder }), { code: "conflict", message: /another server writes the data folder .*--data/ });
  await assert.rejects(startWholeServer(t, {}, { respPort: first.respPort }), {
    code: "conflict",
    message: new RegExp(`port ${first.respPort} .*--resp-port`),
  });
  const client = await RawClient.open(first.respPort);
  assert.deepEqual((await client.send([["SET", "a", "1"]])).map(said), ["+OK"], "the first one is not disturbed");
  client.close();
});

test("with the least memory that the configuration allows the server works, refuses writes at its limit and keeps reading", async (t) => {
  const server = await startWholeServer(t, { storage: { memoryMiB: 64 } });
  const client = await RawClient.open(server.respPort);
  const value = "v".repeat(100_000);
  let written = 0;
  let refused: string | undefined;
  while (refused === undefined && written < 2_000) {
    const replies = await client.send(Array.from({ length: 10 }, (_one, index) => ["SET", `key:${written + index}`, value]));
    refused = replies.map(said).find((reply) => reply !== "+OK");
    if (refused === undefined) written += replies.length;
  }
  assert.match(refused ?? "", /^-OOM /);
  assert.ok(written >= 70, `${written} values of 100 kB fitted into 64 MiB`);
  const [first, last] = await client.send([
    ["GET", "key:0"],
    ["GET", `key:${written - 1}`],
  ]);
  assert.equal(said(first!), `$"${value}"`);
  assert.equal(said(last!), `$"${value}"`);

  // What is deleted makes room, by itself after a while.
  await client.send(Array.from({ length: written / 2 }, (_one, index) => ["DEL", `key:${index}`]));
  const before = Date.now();
  for (;;) {
    const [again] = await client.send([["SET", "key:0", value]]);
    if (said(again!) === "+OK") break;
    assert.match(said(again!), /^-OOM /);
    assert.ok(Date.now() - before < 20_000, "no room 20 s after half of the keys were deleted");
    await sleep(50);
  }
  client.close();
});

test("the memory of INFO is the same figure in bytes and in words", async (t) => {
  const server = await startWholeServer(t);
  const client = await RawClient.open(server.respPort);
  const [info] = await client.send([["INFO", "memory"]]);
  const bytes = Number(/used_memory:(\d+)/.exec(said(info!))![1]);
  assert.ok(bytes > 0);
  assert.doesNotMatch(said(info!), /(?:used_memory|maxmemory)_human:0B/);
  client.close();
});

test("too large a value is refused with the limit, in every way it can come about; OBJECT HELP is there", async (t) => {
  const server = await startWholeServer(t);
  const client = await RawClient.open(server.respPort);
  const largest = "x".repeat(512 << 10);
  const replies = await client.send([
    ["SET", "a", largest],
    ["SET", "b", `${largest}x`],
    ["APPEND", "a", "x"],
    ["SETRANGE", "c", String(512 << 10), "x"],
    ["HSET", "h", "f", `${largest}x`],
    ["STRLEN", "a"],
    ["EXISTS", "b", "c", "h"],
  ]);
  const refused = "-ERR string exceeds maximum allowed size (524288 bytes)";
  assert.deepEqual(replies.map(said), ["+OK", refused, refused, refused, refused, ":524288", ":0"]);
  const [help] = await client.send([["OBJECT", "HELP"]]);
  assert.match(said(help!), /^\*\+,OBJECT <subcommand>/);
  client.close();
});

test("INFO says how many keys there are and how many expire, and nothing of an empty database", async (t) => {
  const server = await startWholeServer(t);
  const client = await RawClient.open(server.respPort);
  const keyspace = async (): Promise<string> => said((await client.send([["INFO", "keyspace"]]))[0]!);
  assert.doesNotMatch(await keyspace(), /db0/);
  await client.send([
    ["SET", "a", "1"],
    ["SET", "b", "1", "EX", "100"],
    ["HSET", "h", "f", "v"],
    ["EXPIRE", "h", "100"],
    ["SET", "gone", "1"],
    ["DEL", "gone"],
  ]);
  assert.match(await keyspace(), /db0:keys=3,expires=2,avg_ttl=0\r\n/);
  await client.send([["FLUSHALL"]]);
  assert.doesNotMatch(await keyspace(), /db0/);
  client.close();
});
