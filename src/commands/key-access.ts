// What each command does with the content of its keys, so that `%R~` and `%W~` patterns mean what they mean in Redis: a user who may only write can SET, HSET and
// DEL, but not INCR, which shows what was there; EXISTS and TYPE show no content and need either right. As COMMAND INFO of Redis 7.0 says (8.0 for the expiry of
// fields); test/access.test.ts asks a redis-server. What is not named: "R" for reading commands, "RW" for writing ones.

import type { Args, KeyAccess } from "#wire/resp-command";

type KeyAccessRule = KeyAccess | ((args: Args, i: number) => KeyAccess);

const written = [
  ...["mset", "msetnx", "setnx", "setex", "psetex", "append", "setrange"],
  ...["hset", "hmset", "hsetnx", "hsetex", "hdel"],
  ...["del", "unlink", "expire", "pexpire", "expireat", "pexpireat", "persist"],
  ...["hexpire", "hpexpire", "hexpireat", "hpexpireat", "hpersist"],
];
const untouched = ["strlen", "hlen", "hstrlen", "hexists", "exists", "touch", "type", "object|encoding", "object|refcount", "object|idletime", "object|freq"];

/** SET shows the old value only with GET, which stands behind key and value. */
function ofSet(args: Args): KeyAccess {
  for (let i = 3; i < args.count; i++) if (args.is(i, "GET")) return "RW";
  return "W";
}

const rules: ReadonlyMap<string, KeyAccessRule> = new Map<string, KeyAccessRule>([
  ...written.map((name) => [name, "W"] as const),
  ...untouched.map((name) => [name, ""] as const),
  ["set", ofSet],
  ["copy", (_args, i) => (i === 1 ? "R" : "W")],
  ["rename", (_args, i) => (i === 1 ? "RW" : "W")],
  ["renamenx", (_args, i) => (i === 1 ? "RW" : "W")],
]);

/** The rule of a command, `undefined` where its flags say it. */
export function keyAccessOf(name: string): KeyAccessRule | undefined {
  return rules.get(name);
}
