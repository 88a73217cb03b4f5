// Seeded random commands on strings, hashes, keys and transactions over a small key space, right and wrong ones; and what of their replies two servers
// need not have in common.
// Why absolute times: an expiry from now is a different one on each server; those are compared with a tolerance.
// Left out on purpose: what is random (RANDOMKEY, HRANDFIELD of some fields) is compared by shape; OBJECT ENCODING and REFCOUNT (Redis
// remembers how a value was made); times that pass during the run.

import type { Prng } from "#base/prng";
import type { Tree } from "./raw-client.ts";

export interface Step {
  /** Which of two connections. */
  readonly connection: 0 | 1;
  readonly args: readonly string[];
}

const keys = ["a", "b", "key:1", "key:22", "k\x00\xff", "h*[x]"];
const fields = ["f", "g", "field:3", "\xe9", "", "10"];
const integers = ["0", "1", "-1", "7", "12345", "9223372036854775807", "-9223372036854775808", "9223372036854775806", "4611686018427387904"];
const oddNumbers = ["+1", "01", " 1", "1 ", "1.0", "-0", "9223372036854775808", "", "abc", "1e3", "0x10", "nan", "inf", "-inf"];
const floats = ["0.1", "0.2", "3.0e3", "-1.5", "10.50", "1e-10", "123456789.123", "1e17", "5.", ".5", "0x1p3", "1e400", "1e-5000"];
const texts = ["", "hello", "Hello World", "x".repeat(44), "y".repeat(45), "z".repeat(70), "\x00\x01\r\n", "12345678901234567890123"];
const patterns = ["*", "a*", "k*", "key:?", "key:[0-9]", "key:[^1]*", "*\xff", "h\\*\\[x]", "[a-c]", "nothing", "**", "?", "[b-a]", "[", "a\\", "h\\*[[]x*"];
const far = 4_102_444_800;

/** A list of steps that uses every command of the families. */
export function randomSteps(random: Prng, length: number): Step[] {
  const steps: Step[] = [];
  while (steps.length < length) {
    // Runs on one connection are pipelined, so runs of one command meet the batched forms.
    const connection = random.chance(0.75) ? 0 : 1;
    const same = random.chance(0.15) ? random.pick(batched) : undefined;
    const run = random.between(1, 8);
    for (let i = 0; i < run; i++) {
      const made = (same ?? random.pick(makers))(random);
      steps.push({ connection, args: random.chance(0.04) ? damaged(random, made) : made });
    }
  }
  return steps;
}

function damaged(random: Prng, args: string[]): string[] {
  // Another cursor or count is another part of the whole.
  if (args[0]!.endsWith("SCAN")) return args;
  const changed = [...args];
  const at = random.between(1, Math.max(1, changed.length - 1));
  const way = random.below(4);
  if (way === 0 && changed.length > 1) changed.splice(at, 1);
  else if (way === 1) changed.splice(at, 0, random.pick(oddNumbers));
  else if (way === 2 && changed.length > 1) changed[at] = random.pick(oddNumbers);
  else changed[0] = changed[0]!.toLowerCase();
  return changed;
}

const key = (random: Prng): string => random.pick(keys);
const field = (random: Prng): string => random.pick(fields);
const value = (random: Prng): string => random.pick(random.pick([integers, texts, floats]));
const integer = (random: Prng): string => (random.chance(0.85) ? random.pick(integers) : random.pick(oddNumbers));
const small = (random: Prng): string => String(random.between(-12, 12));
const some = (random: Prng, most: number, make: () => string[]): string[] => Array.from({ length: random.between(1, most) }, make).flat();
const maybe = (random: Prng, chance: number, ...args: string[]): string[] => (random.chance(chance) ? args : []);
/** A time that is past, or far: never one that passes during the run. */
const time = (random: Prng, seconds: boolean, absolute: boolean, past: boolean): string => {
  if (random.chance(0.1)) {
    // Beyond the year 10889 millrace keeps that year: only what Redis refuses, too, is sent.
    const late = [...(seconds || !absolute ? ["9223372036854775807"] : []), ...(seconds && !absolute ? ["9223372036854775"] : [])];
    return random.pick([...(past ? ["0"] : []), "-5", ...oddNumbers, ...late]);
  }
  const unit = seconds ? 1 : 1_000;
  if (!absolute) return String(random.between(50_000, 60_000) * unit);
  return String((past && random.chance(0.2) ? 1_000 : far + random.below(100)) * unit);
};
const timeOption = (random: Prng): string[] => {
  const word = random.pick(["EX", "PX", "EXAT", "PXAT"]);
  return [random.chance(0.8) ? word : word.toLowerCase(), time(random, word.startsWith("EX"), word.endsWith("AT"), false)];
};

type Maker = (random: Prng) => string[];
const batched: Maker[] = [
  (r) => ["GET", key(r)],
  (r) => ["SET", key(r), value(r)],
  (r) => ["MGET", ...some(r, 4, () => [key(r)])],
  (r) => ["HGET", key(r), field(r)],
  (r) => ["HMGET", key(r), ...some(r, 6, () => [field(r)])],
  (r) => ["HSET", key(r), ...some(r, 4, () => [field(r), value(r)])],
];
const conditions: Maker = (r) => (r.chance(0.5) ? [] : some(r, 2, () => [r.pick(["NX", "XX", "GT", "LT", "nx", "ZZ"])]));
const makers: Maker[] = [
  ...batched,
  ...batched,
  (r) => [
    "SET",
    key(r),
    value(r),
    ...maybe(r, 0.3, "NX"),
    ...maybe(r, 0.3, "XX"),
    ...maybe(r, 0.3, "GET"),
    ...maybe(r, 0.2, "KEEPTTL"),
    ...(r.chance(0.4) ? timeOption(r) : []),
  ],
  (r) => ["MSET", ...some(r, 3, () => [key(r), value(r)])],
  (r) => ["MSETNX", ...some(r, 2, () => [key(r), value(r)])],
  (r) => ["GETEX", key(r), ...r.pick([[], ["PERSIST"], timeOption(r), ["EX"]])],
  (r) => ["GETDEL", key(r)],
  (r) => ["GETSET", key(r), value(r)],
  (r) => ["SETNX", key(r), value(r)],
  (r) => ["SETEX", key(r), time(r, true, false, false), value(r)],
  (r) => ["PSETEX", key(r), time(r, false, false, false), value(r)],
  (r) => ["APPEND", key(r), value(r)],
  (r) => [r.pick(["GETRANGE", "SUBSTR"]), key(r), small(r), small(r)],
  (r) => ["SETRANGE", key(r), small(r), r.pick(texts)],
  (r) => ["STRLEN", key(r)],
  (r) => [r.pick(["INCR", "DECR"]), key(r)],
  (r) => [r.pick(["INCRBY", "DECRBY"]), key(r), integer(r)],
  (r) => ["INCRBYFLOAT", key(r), r.pick(r.pick([floats, floats, integers, oddNumbers]))],
  (r) => ["LCS", key(r), key(r), ...maybe(r, 0.3, "LEN"), ...maybe(r, 0.4, "IDX"), ...maybe(r, 0.3, "MINMATCHLEN", small(r)), ...maybe(r, 0.3, "WITHMATCHLEN")],
  (r) => ["HMSET", key(r), ...some(r, 3, () => [field(r), value(r)])],
  (r) => ["HSETNX", key(r), field(r), value(r)],
  (r) => ["HGETALL", key(r)],
  (r) => ["HDEL", key(r), ...some(r, 4, () => [field(r)])],
  (r) => ["HEXISTS", key(r), field(r)],
  (r) => [r.pick(["HKEYS", "HVALS", "HLEN"]), key(r)],
  (r) => ["HSTRLEN", key(r), field(r)],
  (r) => ["HINCRBY", key(r), field(r), integer(r)],
  (r) => ["HINCRBYFLOAT", key(r), field(r), r.pick(r.pick([floats, integers, oddNumbers]))],
  (r) => ["HSCAN", key(r), r.pick(["0", "0", "0", "x", "-"]), ...maybe(r, 0.4, "MATCH", r.pick(patterns)), "COUNT", r.pick(["2000", "2000", "2000", "0", "x"])],
  (r) => ["HRANDFIELD", key(r), ...maybe(r, 0.7, r.pick(["0", "5", "-3", "1000", "1", "x"]), ...maybe(r, 0.5, "WITHVALUES"))],
  // A hash beyond the bounds of the small form.
  (r) => ["HSET", key(r), ...Array.from({ length: r.pick([400, 520]) }, (_, i) => [`many:${i}`, r.chance(0.01) ? "w".repeat(80) : String(i)]).flat()],
  (r) => ["HSET", key(r), field(r), "v".repeat(r.pick([300, 9_000, 20_000]))],
  (r) => [r.pick(["DEL", "UNLINK", "EXISTS", "TOUCH"]), ...some(r, 3, () => [key(r)])],
  (r) => ["TYPE", key(r)],
  (r) => [r.pick(["RENAME", "RENAMENX"]), key(r), key(r)],
  (r) => ["COPY", key(r), key(r), ...maybe(r, 0.4, "REPLACE"), ...maybe(r, 0.2, "DB", r.pick(["0", "x", "99"]))],
  (r) => ["RANDOMKEY", ...maybe(r, 0.05, "x")],
  (r) => ["KEYS", r.pick(patterns)],
  (r) => [
    "SCAN",
    r.pick(["0", "0", "0", "x", "1 ", "99999999999999999999"]),
    ...maybe(r, 0.4, "MATCH", r.pick(patterns)),
    "COUNT",
    r.pick(["2000", "2000", "2000", "0", "x"]),
    ...maybe(r, 0.3, "TYPE", r.pick(["string", "hash", "list", "HASH"])),
  ],
  (r) => ["OBJECT", r.pick(["IDLETIME", "FREQ", "NOSUCH"]), key(r)],
  ...(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"] as const).map((name): Maker => (r) => [
    name,
    key(r),
    time(r, !name.startsWith("P"), name.endsWith("AT"), true),
    ...conditions(r),
  ]),
  (r) => [r.pick(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"]), key(r)],
  (r) => ["PERSIST", key(r)],
  (r) => ["DBSIZE"],
  (r) => (r.chance(0.2) ? [r.pick(["FLUSHDB", "FLUSHALL"]), ...maybe(r, 0.5, r.pick(["ASYNC", "SYNC", "x"]))] : ["DBSIZE"]),
  (r) => ["MULTI"],
  (r) => ["MULTI"],
  (r) => ["MULTI"],
  (r) => ["EXEC"],
  (r) => ["EXEC"],
  (r) => ["EXEC"],
  (r) => ["EXEC"],
  (r) => ["DISCARD"],
  (r) => ["WATCH", ...some(r, 2, () => [key(r)])],
  (r) => ["WATCH", key(r)],
  (r) => ["UNWATCH"],
  (r) => ["NOSUCHCOMMAND", value(r), key(r)],
];

/** A reply without what may differ: order where Redis has none, random choices. `queued`: the commands that an EXEC ran. */
export function comparable(args: readonly string[], reply: Tree, queued: readonly (readonly string[])[]): Tree {
  const name = args[0]!.toUpperCase();
  const [type, content] = reply;
  if (typeof content === "string") {
    if (name === "RANDOMKEY" || (name === "HRANDFIELD" && type === "$")) return [type, content === "nil" ? "nil" : "some"];
    return reply;
  }
  switch (name) {
    case "EXEC":
      return [type, content.map((part, i) => (queued[i] === undefined ? part : comparable(queued[i], part, [])))];
    case "HGETALL":
      return [type, pairs(content)];
    case "HSCAN":
      return [type, [content[0]!, typeof content[1]![1] === "string" ? content[1]! : ["*", pairs(content[1]![1])]]];
    case "SCAN":
      return [type, [content[0]!, typeof content[1]![1] === "string" ? content[1]! : ["*", sorted(content[1]![1])]]];
    case "KEYS":
    case "HKEYS":
    case "HVALS":
      return [type, sorted(content)];
    case "HRANDFIELD":
      return [
        type,
        content.map((part): Tree => (typeof part[1] === "string" ? [part[0], "some"] : [part[0], part[1].map((inner): Tree => [inner[0], "some"])])),
      ];
    default:
      return reply;
  }
}

function sorted(parts: readonly Tree[]): Tree[] {
  return [...parts].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

function pairs(parts: readonly Tree[]): Tree[] {
  const found: Tree[] = [];
  for (let i = 0; i + 1 < parts.length; i += 2) found.push(["pair", [parts[i]!, parts[i + 1]!]]);
  return sorted(found);
}

/** Times that may differ: left or absolute, they come from clocks read at different moments. Milliseconds and seconds. */
const timeReplies: Readonly<Record<string, number>> = { TTL: 3, PTTL: 3_000, EXPIRETIME: 3, PEXPIRETIME: 3_000, OBJECT: 3 };

const lcsRefusal = /^ERR Insufficient memory, transient memory for LCS exceeds/;

export function sameReply(args: readonly string[], ours: Tree, theirs: Tree, queued: readonly (readonly string[])[]): boolean {
  const name = args[0]!.toUpperCase();
  if (name === "EXEC" && typeof ours[1] !== "string" && typeof theirs[1] !== "string") {
    const mine = ours[1];
    const other = theirs[1];
    return ours[0] === theirs[0] && mine.length === other.length && mine.every((part, i) => sameReply(queued[i] ?? [""], part, other[i]!, []));
  }
  // Long pairs of strings are refused here (docs/redis.md).
  if (name === "LCS" && ours[0] === "-" && lcsRefusal.test(String(ours[1])) && theirs[0] !== "-") return true;
  const tolerance = timeReplies[name];
  if (tolerance !== undefined && ours[0] === ":" && theirs[0] === ":" && Number(ours[1]) >= 0 && Number(theirs[1]) >= 0) {
    return Math.abs(Number(ours[1]) - Number(theirs[1])) <= tolerance;
  }
  return JSON.stringify(comparable(args, ours, queued)) === JSON.stringify(comparable(args, theirs, queued));
}
