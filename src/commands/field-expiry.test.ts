// Expiry of hash fields, on simulated time. There is no server of Redis 7.4 or later to compare with: what is asserted is what its documentation says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inSimulation } from "#lsm/store-world.contract";
import { type Caller, commandWorld, SetClock } from "./command-caller.contract.ts";

/** In the small form, and again in the large one. */
function inBothForms(name: string, body: (client: Caller, clock: SetClock) => Promise<void>): void {
  for (const large of [false, true]) {
    test(`${name}, ${large ? "large" : "small"} hash`, async () => {
      await inSimulation(3, async ({ clock, open }) => {
        const store = await open();
        const time = new SetClock(clock);
        const client = commandWorld(store, time).connect();
        if (large) {
          const many = Array.from({ length: 600 }, (_, i) => [`x${i}`, "1"]);
          await client.call("HSET", "h", ...many.flat());
          await client.call("HDEL", "h", ...many.map(([field]) => field!));
          assert.equal(await client.call("EXISTS", "h"), ":0");
          // Emptied, it is small again: keep one field to stay large.
          await client.call("HSET", "h", ...many.flat());
          await client.call("HDEL", "h", ...many.slice(1).map(([field]) => field!));
          await client.call("HSET", "h", "a", "1", "b", "2", "c", "3");
          await client.call("HDEL", "h", "x0");
          assert.equal(await client.call("OBJECT|ENCODING", "ENCODING", "h"), "$9 hashtable");
        } else {
          await client.call("HSET", "h", "a", "1", "b", "2", "c", "3");
        }
        await body(client, time);
        await store.close();
      });
    });
  }
}

inBothForms("promise: a field is gone from its millisecond on, and the key with its last field", async (client, clock) => {
  assert.equal(await client.call("HPEXPIRE", "h", "1000", "FIELDS", "2", "a", "none"), "*2 :1 :-2");
  assert.equal(await client.call("HPTTL", "h", "FIELDS", "3", "a", "b", "none"), "*3 :1000 :-1 :-2");
  assert.equal(await client.call("HTTL", "h", "FIELDS", "1", "a"), "*1 :1");
  clock.advance(999);
  assert.equal(await client.call("HGET", "h", "a"), "$1 1");
  clock.advance(1);
  assert.equal(await client.call("HGET", "h", "a"), "$-1");
  assert.equal(await client.call("HMGET", "h", "b", "a"), "*2 $1 2 $-1");
  assert.equal(await client.call("HLEN", "h"), ":2");
  assert.equal(await client.call("HEXISTS", "h", "a"), ":0");
  assert.equal(await client.call("HKEYS", "h"), "*2 $1 b $1 c");
  assert.equal(await client.call("HSCAN", "h", "0", "COUNT", "100"), "*2 $1 0 *4 $1 b $1 2 $1 c $1 3");
  assert.equal(await client.call("HPEXPIRE", "h", "50", "FIELDS", "2", "b", "c"), "*2 :1 :1");
  assert.equal(await client.call("EXISTS", "h"), ":1");
  clock.advance(50);
  assert.equal(await client.call("EXISTS", "h"), ":0");
  assert.equal(await client.call("TYPE", "h"), "+none");
  assert.equal(await client.call("KEYS", "*"), "*0");
  assert.equal(await client.call("DBSIZE"), ":0");
  // A new hash under the key knows nothing of the old one.
  assert.equal(await client.call("HSETNX", "h", "b", "9"), ":1");
  assert.equal(await client.call("HGETALL", "h"), "*2 $1 b $1 9");
});

inBothForms("promise: HSET and HDEL end a field's expiry, HINCRBY keeps it", async (client, clock) => {
  await client.call("HEXPIRE", "h", "10", "FIELDS", "3", "a", "b", "c");
  assert.equal(await client.call("HINCRBY", "h", "a", "5"), ":6");
  assert.equal(await client.call("HINCRBYFLOAT", "h", "c", "0.5"), "$3 3.5");
  await client.call("HSET", "h", "b", "2");
  assert.equal(await client.call("HTTL", "h", "FIELDS", "3", "a", "b", "c"), "*3 :10 :-1 :10");
  await client.call("HDEL", "h", "a");
  await client.call("HSET", "h", "a", "1");
  assert.equal(await client.call("HPERSIST", "h", "FIELDS", "4", "a", "b", "c", "d"), "*4 :-1 :-1 :1 :-2");
  clock.advance(60_000);
  assert.equal(await client.call("HLEN", "h"), ":3");
});

inBothForms("conditions: no expiry counts as later than any", async (client) => {
  const expire = (...args: string[]): Promise<string> => client.call("HPEXPIREAT", "h", ...args, "FIELDS", "1", "a");
  assert.equal(await expire("4000000000000", "XX"), "*1 :0");
  assert.equal(await expire("4000000000000", "GT"), "*1 :0");
  assert.equal(await expire("4000000000000", "LT"), "*1 :1");
  assert.equal(await expire("4000000000000", "NX"), "*1 :0");
  assert.equal(await expire("4000000000001", "LT"), "*1 :0");
  assert.equal(await expire("4000000000001", "GT"), "*1 :1");
  assert.equal(await client.call("HPEXPIRETIME", "h", "FIELDS", "1", "a"), "*1 :4000000000001");
  assert.equal(await client.call("HEXPIRETIME", "h", "FIELDS", "1", "b"), "*1 :-1");
  assert.equal(await client.call("HEXPIRE", "h", "0", "FIELDS", "2", "a", "b"), "*2 :2 :2");
  assert.equal(await client.call("HEXPIRE", "none", "1", "FIELDS", "2", "a", "b"), "*2 :-2 :-2");
  assert.equal(await client.call("HGETALL", "h"), "*2 $1 c $1 3");
  assert.equal(await client.call("HEXPIREAT", "h", "1", "FIELDS", "1", "c"), "*1 :2");
  assert.equal(await client.call("EXISTS", "h"), ":0");
});

inBothForms("HGETEX, HSETEX, HGETDEL", async (client, clock) => {
  assert.equal(await client.call("HGETEX", "h", "PX", "100", "FIELDS", "2", "a", "none"), "*2 $1 1 $-1");
  assert.equal(await client.call("HGETEX", "h", "FIELDS", "1", "a"), "*1 $1 1");
  assert.equal(await client.call("HPTTL", "h", "FIELDS", "1", "a"), "*1 :100");
  assert.equal(await client.call("HGETEX", "h", "PERSIST", "FIELDS", "1", "a"), "*1 $1 1");
  assert.equal(await client.call("HPTTL", "h", "FIELDS", "1", "a"), "*1 :-1");
  assert.equal(await client.call("HSETEX", "h", "FNX", "FIELDS", "2", "a", "7", "d", "8"), ":0");
  assert.equal(await client.call("HSETEX", "h", "FXX", "PX", "100", "FIELDS", "2", "a", "7", "b", "8"), ":1");
  assert.equal(await client.call("HSETEX", "h", "KEEPTTL", "FIELDS", "1", "a", "9"), ":1");
  assert.equal(await client.call("HPTTL", "h", "FIELDS", "2", "a", "b"), "*2 :100 :100");
  assert.equal(await client.call("HSETEX", "h", "FIELDS", "1", "b", "2"), ":1");
  clock.advance(100);
  assert.equal(await client.call("HMGET", "h", "a", "b"), "*2 $-1 $1 2");
  assert.equal(await client.call("HGETDEL", "h", "FIELDS", "3", "a", "b", "c"), "*3 $-1 $1 2 $1 3");
  assert.equal(await client.call("EXISTS", "h"), ":0");
  assert.equal(await client.call("HGETDEL", "h", "FIELDS", "1", "a"), "*1 $-1");
});

inBothForms("the key's own expiry stays its own, whatever its fields'", async (client, clock) => {
  await client.call("PEXPIRE", "h", "5000");
  await client.call("HPEXPIRE", "h", "1000", "FIELDS", "3", "a", "b", "c");
  assert.equal(await client.call("PTTL", "h"), ":5000");
  await client.call("HPERSIST", "h", "FIELDS", "1", "a");
  assert.equal(await client.call("PTTL", "h"), ":5000");
  await client.call("HPEXPIRE", "h", "9000", "FIELDS", "1", "a");
  await client.call("PERSIST", "h");
  assert.equal(await client.call("PTTL", "h"), ":-1");
  clock.advance(8_999);
  assert.equal(await client.call("HGETALL", "h"), "*2 $1 a $1 1");
  await client.call("PEXPIRE", "h", "1");
  clock.advance(1);
  assert.equal(await client.call("EXISTS", "h"), ":0");
});

test("what is refused", async () => {
  await inSimulation(4, async ({ clock, open }) => {
    const store = await open();
    const client = commandWorld(store, clock).connect();
    await client.call("SET", "s", "1");
    const wrongType = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    assert.equal(await client.call("HEXPIRE", "s", "1", "FIELDS", "1", "a"), wrongType);
    assert.equal(await client.call("HTTL", "s", "FIELDS", "1", "a"), wrongType);
    assert.equal(await client.call("HEXPIRE", "h", "x", "FIELDS", "1", "a"), "-ERR value is not an integer or out of range");
    assert.equal(await client.call("HEXPIRE", "h", "9223372036854775807", "FIELDS", "1", "a"), "-ERR invalid expire time in 'hexpire' command");
    assert.equal(await client.call("HEXPIRE", "h", "-1", "FIELDS", "1", "a"), "-ERR invalid expire time, must be >= 0");
    assert.equal(await client.call("HEXPIRE", "h", "1", "FIELD", "1", "a"), "-ERR Mandatory argument FIELDS is missing or not at the right position");
    assert.equal(await client.call("HEXPIRE", "h", "1", "FIELDS", "0", "a"), "-ERR Parameter `numFields` should be greater than 0");
    assert.equal(await client.call("HEXPIRE", "h", "1", "FIELDS", "2", "a"), "-ERR The `numfields` parameter must match the number of arguments");
    assert.equal(await client.call("HSETEX", "h", "EX", "0", "FIELDS", "1", "a", "1"), "-ERR invalid expire time in 'hsetex' command");
    assert.equal(await client.call("HSETEX", "h", "EX", "1", "KEEPTTL", "FIELDS", "1", "a", "1"), "-ERR syntax error");
    assert.equal(await client.call("EXISTS", "h"), ":0");
    await store.close();
  });
});
