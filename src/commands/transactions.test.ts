// Transactions on simulated time, where redis-server cannot be compared with: expiry of watched keys, sessions that end, crashes, scans while writes go on.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { inSimulation } from "#lsm/store-world.contract";
import { freshSeed } from "#platform/fresh-seed";
import { commandWorld } from "./command-caller.contract.ts";

const seed = freshSeed();

test("promise: EXEC is refused when a watched key changed or expired meanwhile, by whomever", async () => {
  await inSimulation(1, async ({ clock, open }) => {
    const store = await open();
    const world = commandWorld(store, clock);
    const [one, two] = [world.connect(), world.connect()];
    const attempt = async (meanwhile: () => Promise<unknown>): Promise<string> => {
      await one.call("SET", "k", "1", "PX", "1000");
      await one.call("WATCH", "k", "absent");
      await meanwhile();
      await one.call("MULTI");
      assert.equal(await one.call("GET", "k"), "+QUEUED");
      return one.call("EXEC");
    };
    assert.equal(await attempt(() => two.call("GET", "k")), "*1 $1 1");
    assert.equal(await attempt(() => two.call("SET", "k", "1")), "*-1");
    assert.equal(await attempt(() => one.call("APPEND", "k", "")), "*-1");
    assert.equal(
      await attempt(() =>
        two.callMany([
          ["SET", "other", "1"],
          ["SET", "k", "2"],
        ]),
      ),
      "*-1",
    );
    assert.equal(await attempt(() => two.call("HSET", "absent", "f", "v")), "*-1");
    assert.equal(await attempt(() => two.call("HSET", "absent", ...Array.from({ length: 1_200 }, (_, i) => String(i)))), "*-1");
    assert.equal(await attempt(() => two.call("HDEL", "absent", "4")), "*-1");
    assert.equal(await attempt(() => two.call("FLUSHALL")), "*-1");
    assert.equal(await attempt(() => two.call("RENAME", "k", "moved")), "*-1");
    assert.equal(await attempt(() => clock.sleep(1_000)), "*-1");
    assert.equal(
      await attempt(async () => {
        await two.call("SET", "k", "1");
        await one.call("UNWATCH");
      }),
      "*1 $1 1",
    );
    // A key that had expired before it was watched may be taken away.
    await one.call("SET", "k", "1", "PX", "1");
    await clock.sleep(1);
    await one.call("WATCH", "k");
    await clock.sleep(5);
    await one.call("MULTI");
    assert.equal(await one.call("EXEC"), "*0");
    await store.close();
  });
});

test("a session that ends leaves no watch behind", async () => {
  await inSimulation(2, async ({ clock, open }) => {
    const store = await open();
    const world = commandWorld(store, clock);
    const watcher = { changed: false };
    const session = world.connect();
    await session.call("WATCH", "k");
    session.end();
    // The only other watch of the key: taking it away leaves nothing to tell.
    const key = Buffer.from("k");
    assert.ok(world.parts.keyspace.watch(key, watcher));
    world.parts.keyspace.touch(key);
    assert.ok(watcher.changed);
    await store.close();
  });
});

test("promise: what a transaction wrote is there as a whole after a restart, in one record", async () => {
  await inSimulation(5, async ({ clock, open }) => {
    let store = await open();
    let client = commandWorld(store, clock).connect();
    const before = store.offset;
    await client.call("MULTI");
    await client.call("SET", "a", "1");
    await client.call("HSET", "h", "f", "v");
    await client.call("INCR", "a");
    await client.call("RENAME", "a", "b");
    await client.call("HSET", "h", "f", "w", "g", "x");
    await client.call("INCR", "h");
    assert.equal(await client.call("EXEC"), "*6 +OK :1 :2 +OK :1 -WRONGTYPE Operation against a key holding the wrong kind of value");
    assert.equal(store.offset, before + 1, "one record");
    await store.close();
    store = await open();
    client = commandWorld(store, clock).connect();
    assert.equal(await client.call("MGET", "a", "b"), "*2 $-1 $1 2");
    assert.equal(await client.call("HGETALL", "h"), "*4 $1 f $1 w $1 g $1 x");
    await store.close();
  });
});

test(`promise: SCAN and HSCAN return everything that is there throughout, once, while others write (SEED=${seed})`, async () => {
  await inSimulation(seed, async ({ clock, open }) => {
    const random = new Prng(seed);
    const store = await open();
    const world = commandWorld(store, clock);
    const [reader, writer] = [world.connect(), world.connect()];
    const stay = Array.from({ length: 900 }, (_, i) => `stay:${(i * 7_919) % 1_000}:${i}`);
    await writer.call("MSET", ...stay.flatMap((key) => [key, "v"]));
    await writer.call("HSET", "hash", ...stay.flatMap((key) => [key, "v"]));
    for (const [command, skip] of [
      [["SCAN"], 1],
      [["HSCAN", "hash"], 2],
    ] as const) {
      const seen = new Map<string, number>();
      let cursor = "0";
      let calls = 0;
      do {
        const reply = (await reader.call(...command, cursor, "COUNT", String(random.between(1, 60)), "MATCH", "stay:*")).split(" ");
        cursor = reply[2]!;
        for (let i = 5; i < reply.length; i += 2 * skip) seen.set(reply[i]!, (seen.get(reply[i]!) ?? 0) + 1);
        const other = `stay:${random.below(1_000)}:x${random.below(50)}`;
        if (command[0] === "SCAN") await writer.call(random.pick(["DEL", "INCR"]), other);
        else await writer.call(...(random.chance(0.5) ? ["HDEL", "hash", other] : ["HSET", "hash", other, "v"]));
        calls++;
      } while (cursor !== "0" && calls < 5_000);
      for (const key of stay) assert.equal(seen.get(key), 1, `${command[0]} ${key}`);
    }
    // A cursor that nobody knows starts over.
    const reply = await reader.call("SCAN", "123456789", "COUNT", "10000");
    for (const key of stay) assert.ok(reply.includes(key));
    await store.close();
  });
});

test("promise: writes that the engine refuses leave no trace, and reads go on", async () => {
  await inSimulation(6, async ({ clock, open }) => {
    const store = await open({ memoryBytesMax: 3 << 20, durability: "none" });
    const client = commandWorld(store, clock).connect();
    const value = "v".repeat(200_000);
    const refused = { code: "overloaded" };
    let taken = 0;
    for (; taken < 100; taken++) {
      try {
        await client.call("SET", `k${taken}`, value);
      } catch (thrown) {
        assert.equal((thrown as { code?: string }).code, refused.code);
        break;
      }
    }
    assert.ok(taken > 0 && taken < 100, `${taken} values were taken`);
    await client.call("MULTI");
    await client.call("SET", "a", "1");
    await client.call("HSET", "h", "f", value);
    await assert.rejects(client.call("EXEC"), refused);
    assert.equal(await client.call("EXISTS", "a", "h", "k0", `k${taken}`), ":1");
    assert.equal(await client.call("STRLEN", "k0"), ":200000");
    await store.close();
  });
});
