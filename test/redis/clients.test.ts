// promise: the Redis clients that people use work with millrace as they are: they connect, talk the protocol they choose, and get what they expect.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Redis as IoRedis6 } from "ioredis";
import { Redis as IoRedis5 } from "ioredis5";
import { createClient as createClient4 } from "redis4";
import { createClient as createClient5 } from "redis5";
import { createClient as createClient6 } from "redis";
import { type MillraceServer, startMillrace } from "./millrace-server.ts";

let millrace: MillraceServer;

before(async () => {
  millrace = await startMillrace();
});
after(async () => {
  await millrace.stop();
});

for (const [version, Client] of [
  [5, IoRedis5 as unknown as typeof IoRedis6],
  [6, IoRedis6],
] as const) {
  test(`promise: ioredis ${version} works unmodified`, { timeout: 20_000 }, async () => {
    const redis = new Client({ port: millrace.port, host: "127.0.0.1" });
    try {
      await redis.flushall();
      assert.equal(await redis.set("user:1", "Ada", "EX", 100), "OK");
      assert.equal(await redis.get("user:1"), "Ada");
      assert.equal(await redis.getBuffer("user:1").then(String), "Ada");
      assert.ok((await redis.ttl("user:1")) > 90);
      await redis.hset("item:1", { ctr: "0.25", title: "Föhn" });
      assert.deepEqual(await redis.hgetall("item:1"), { ctr: "0.25", title: "Föhn" });
      assert.deepEqual(await redis.hmget("item:1", "title", "none"), ["Föhn", null]);
      assert.deepEqual(await redis.mget("user:1", "nobody"), ["Ada", null]);

      const pipeline = redis.pipeline();
      for (let i = 0; i < 500; i++) pipeline.set(`p:${i}`, String(i)).get(`p:${i}`).incr("count");
      const replies = await pipeline.exec();
      assert.deepEqual(replies!.at(-2), [null, "499"]);
      assert.deepEqual(replies!.at(-1), [null, 500]);

      assert.deepEqual(await redis.multi().incr("count").hincrby("item:1", "n", 2).exec(), [
        [null, 501],
        [null, 2],
      ]);
      const watcher = redis.duplicate();
      await watcher.watch("count");
      await redis.incr("count");
      assert.equal(await watcher.multi().set("count", "0").exec(), null);
      watcher.disconnect();

      const seen = new Set<string>();
      for await (const page of redis.scanStream({ match: "p:*", count: 100 }) as AsyncIterable<string[]>) for (const key of page) seen.add(key);
      assert.equal(seen.size, 500);
      await assert.rejects(redis.incr("user:1"), /ERR value is not an integer or out of range/);
      await assert.rejects(redis.lpush("list", "1"), /ERR unknown command/);
    } finally {
      redis.disconnect();
    }
  });
}

for (const [version, connect] of [
  [4, createClient4],
  [5, createClient5],
  [6, createClient6],
] as const) {
  test(`promise: node-redis ${version} works unmodified`, { timeout: 20_000 }, async () => {
    const redis = connect({ url: `redis://127.0.0.1:${millrace.port}` });
    await redis.connect();
    try {
      await redis.flushAll();
      await redis.set("a", "1", { EX: 100, NX: true });
      assert.equal(await redis.set("a", "2", { NX: true }), null);
      assert.equal(await redis.get("a"), "1");
      assert.equal(await redis.incrBy("a", 41), 42);
      assert.equal(Number(await redis.incrByFloat("f", 0.1)), 0.1);
      await redis.hSet("h", { x: "1", y: "2" });
      assert.deepEqual({ ...(await redis.hGetAll("h")) }, { x: "1", y: "2" });
      assert.deepEqual(await redis.hmGet("h", ["y", "z"]), ["2", null]);
      assert.deepEqual(await redis.mGet(["a", "b"]), ["42", null]);
      assert.deepEqual(await redis.multi().set("m", "1").get("m").exec(), ["OK", "1"]);
      // Many at once: the client pipelines them.
      const many = await Promise.all(Array.from({ length: 300 }, (_, i) => redis.set(`k:${i}`, String(i)).then(() => redis.get(`k:${i}`))));
      assert.equal(many[299], "299");
      assert.equal((await redis.keys("k:*")).length, 300);
      assert.equal(await redis.exists(["a", "h", "nothing"]), 2);
      assert.equal(await redis.type("h"), "hash");
      await assert.rejects(redis.hGet("a", "x"), /WRONGTYPE/);
    } finally {
      if (version === 4) await redis.quit();
      else redis.destroy();
    }
  });
}
