// Guards DUMP and RESTORE: what comes back is what went out; damaged bytes are refused and write nothing; refusals are Redis' (texts of 7.0).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { startMillrace } from "./millrace-server.ts";
import { Redis } from "ioredis";

test(`promise: a value comes back whole under another key, with its expiry; no damaged payload is taken (SEED=${process.env["SEED"] ?? "dump"})`, async (t) => {
  const server = await startMillrace();
  t.after(() => server.stop());
  const redis = new Redis(server.port);
  t.after(() => redis.disconnect());
  const random = new Prng(process.env["SEED"] ?? "dump");
  const binary = Buffer.from([0, 255, 13, 10, 128]);
  await redis.set("s", binary);
  await redis.set("empty", "");
  await redis.hset("h", { a: "1", b: binary });
  await redis.call("HPEXPIRE", "h", "100000", "FIELDS", "1", "a");
  // Beyond the bounds of one row.
  await redis.hset("large", Object.fromEntries(Array.from({ length: 700 }, (_one, index) => [`f${index}`, "v".repeat(40)])));

  for (const key of ["s", "empty", "h", "large"]) {
    const payload = await redis.dumpBuffer(key);
    assert.equal(await redis.restore(`${key}:2`, 5_000, payload), "OK");
    const ttl = await redis.pttl(`${key}:2`);
    assert.ok(ttl > 0 && ttl <= 5_000);
    await assert.rejects(redis.restore(`${key}:2`, 0, payload), /^ReplyError: BUSYKEY Target key name already exists\.$/);
    assert.equal(await redis.restore(`${key}:2`, 0, payload, "REPLACE"), "OK");
    assert.equal(await redis.pttl(`${key}:2`), -1);
    if (key === "s" || key === "empty") assert.deepEqual(await redis.getBuffer(`${key}:2`), await redis.getBuffer(key));
    else assert.deepEqual(await redis.hgetallBuffer(`${key}:2`), await redis.hgetallBuffer(key));
    for (let i = 0; i < 60; i++) {
      const damaged = Buffer.from(payload);
      damaged[random.below(damaged.length)]! ^= 1 << random.below(8);
      const cut = payload.subarray(0, random.below(payload.length));
      for (const bytes of [damaged, cut]) await assert.rejects(redis.restore("never", 0, bytes), /ERR DUMP payload version or checksum are wrong/);
    }
  }
  const [ttl] = (await redis.call("HPTTL", "h:2", "FIELDS", "1", "a")) as number[];
  assert.ok(ttl! > 0 && ttl! <= 100_000, "a field keeps its expiry");
  assert.equal(await redis.exists("never"), 0);
  assert.equal(await redis.dump("never"), null);

  const payload = await redis.dumpBuffer("s");
  const refusals: [(string | number | Buffer)[], RegExp][] = [
    [["x", "-1", payload], /^ReplyError: ERR Invalid TTL value, must be >= 0$/],
    [["x", "abc", payload], /^ReplyError: ERR value is not an integer or out of range$/],
    [["x", "0", payload, "NOPE"], /^ReplyError: ERR syntax error$/],
    [["x", "0", payload, "IDLETIME", "-1"], /^ReplyError: ERR Invalid IDLETIME value, must be >= 0$/],
    [["x", "0", payload, "FREQ", "256"], /^ReplyError: ERR Invalid FREQ value, must be >= 0 and <= 255$/],
    [["x", "0", payload, "FREQ", "1", "IDLETIME", "1"], /^ReplyError: ERR syntax error$/],
  ];
  for (const [args, text] of refusals) await assert.rejects(redis.call("RESTORE", ...args), text);
  assert.equal(await redis.call("RESTORE", "x", "1", payload, "ABSTTL", "IDLETIME", "9"), "OK", "a time that is past is taken");
  assert.equal(await redis.exists("x"), 0);
});
