// Guards docs/access.md: categories and flags of our commands are those of Redis 7.0, so `+@read` or `-@dangerous` give the rights that they give there. Asks a
// real redis-server; what differs on purpose stands below with its reason, and what only we have is listed with its rights.

import assert from "node:assert/strict";
import { test } from "node:test";
import { newDataFolder, startWholeServer } from "../whole-server.ts";
import { RawClient, type Tree } from "./raw-client.ts";
import { findRedisServer, startRedisServer } from "./redis-server.ts";

interface Facts {
  readonly arity: number;
  readonly flags: readonly string[];
  readonly categories: readonly string[];
  readonly keys: readonly number[];
}

const words = ([, content]: Tree): string[] => (content as Tree[]).map(textOf).sort();
const textOf = ([, content]: Tree): string => String(content).replace(/^"|"$/g, "");

/** COMMAND with all subcommands, by name. */
async function commandsOf(port: number): Promise<Map<string, Facts>> {
  const client = await RawClient.open(port);
  const [all] = await client.send([["COMMAND"]]);
  client.close();
  const found = new Map<string, Facts>();
  const add = ([, content]: Tree): void => {
    const [name, arity, flags, first, last, step, categories, , , subcommands] = content as Tree[];
    found.set(textOf(name!), {
      arity: Number(arity![1]),
      flags: words(flags!),
      categories: words(categories!),
      keys: [first!, last!, step!].map(([, number]) => Number(number)),
    });
    for (const sub of subcommands![1] as Tree[]) add(sub);
  };
  for (const one of all![1] as Tree[]) add(one);
  return found;
}

/** What stays different: the part, and ours. */
const onPurpose: Readonly<Record<string, Partial<Facts>>> = {
  // A wrong count of arguments ends the transaction, which EXEC says itself; and SLOWLOG shows a transaction as one call, not its commands.
  exec: { arity: -1, flags: ["loading", "noscript", "stale"] },
};

/** Commands of later versions, and those of tables and vector collections. */
const ours: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(
    ["hexpire", "hpexpire", "hexpireat", "hpexpireat", "hpersist", "hsetex", "hgetex", "hgetdel"].map((name) => [name, ["@fast", "@hash", "@write"]]),
  ),
  ...Object.fromEntries(["httl", "hpttl", "hexpiretime", "hpexpiretime"].map((name) => [name, ["@fast", "@hash", "@read"]])),
  ...Object.fromEntries(["tmread", "tscan", "tinfo"].map((name) => [name, ["@keyspace", "@read", "@slow"]])),
  ...Object.fromEntries(["tset", "tnull", "tdel"].map((name) => [name, ["@keyspace", "@slow", "@write"]])),
  tget: ["@fast", "@keyspace", "@read"],
  ...Object.fromEntries(["vcard", "vdim", "vemb", "vgetattr", "vinfo", "vismember", "vlinks"].map((name) => [name, ["@fast", "@keyspace", "@read"]])),
  ...Object.fromEntries(["vlist", "vrandmember", "vsearch", "vsim"].map((name) => [name, ["@keyspace", "@read", "@slow"]])),
  ...Object.fromEntries(["vadd", "vadds", "vcreate", "vrem"].map((name) => [name, ["@keyspace", "@slow", "@write"]])),
  vsetattr: ["@fast", "@keyspace", "@write"],
  "client|setinfo": ["@connection", "@slow"],
  "client|no-touch": ["@connection", "@slow"],
};

const program = findRedisServer();

test(
  "promise: every command has the arity, flags, key positions and ACL categories of Redis 7.0",
  { skip: program === undefined ? "there is no redis-server to compare with (package redis-server)" : false },
  async (t) => {
    const redis = await startRedisServer(program!);
    t.after(() => redis.stop());
    // What we promise is Redis 7.0's; later ones moved commands between categories, so another server proves nothing here. .ci/run installs the system's own.
    if (!redis.version.startsWith("7.0.")) {
      t.skip(`the redis-server here is ${redis.version}, the comparison is with 7.0`);
      return;
    }
    const server = await startWholeServer(t, {}, { dataFolder: newDataFolder(t) });
    const [own, theirs] = [await commandsOf(server.respPort), await commandsOf(redis.port)];
    const differing: Record<string, object> = {};
    const expected: Record<string, object> = {};
    let compared = 0;
    for (const [name, facts] of own) {
      const of = theirs.get(name);
      if (of === undefined) continue;
      compared++;
      const want = { ...of, ...onPurpose[name] };
      try {
        assert.deepEqual(facts, want);
      } catch {
        differing[name] = facts;
        expected[name] = want;
      }
    }
    t.diagnostic(`${compared} commands and subcommands compared with redis-server ${redis.version}`);
    assert.deepEqual(differing, expected);
    assert.ok(compared > 130, `${compared} commands in common`);

    const alone = [...own].filter(([name]) => !theirs.has(name)).map(([name, { categories }]) => [name, categories]);
    assert.deepEqual(Object.fromEntries(alone), ours);
  },
);
