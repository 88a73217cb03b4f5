// The commands on strings: SET and GET with all their options, batches, counters, parts of a string, LCS. Semantics and texts are those of Redis 7.0.
// Why batches apart: consecutive GETs (SETs) of a pipeline are one look-up of the engine (one write), see `getMany`, `setMany`.
// Limits: a value is at most keyspaceLimits.valueBytesMax; LCS compares pairs of at most cellsMax bytes by bytes.

import { cellsMax, longestCommonSubsequence } from "#features/keyspace/common-subsequence";
import { addIntegers, int64Min, parseInteger } from "#features/keyspace/decimal-integer";
import { addLongDouble, formatLongDouble, type LongDouble, parseLongDouble } from "#features/keyspace/long-double";
import { type Entry, type Keyspace, keyspaceLimits } from "#features/keyspace/keyspace";
import { entryKinds } from "#kernel/entry-record";
import type { Args, Call, CommandFlag, CommandSpec, Reply } from "#wire/resp-command";
import {
  batchBytesMax,
  bytesOf,
  CommandError,
  dataCommand,
  type DataParts,
  decimalBytes,
  hold,
  integerAt,
  newKey,
  oneKey,
  perform,
  roughAt,
  stringAt,
  texts,
  wrongArguments,
} from "./data-command.ts";
import { KeyLookup } from "./key-lookup.ts";
import { absoluteMs, invalidExpire, positiveMs, storable, timeUnits, timeWordAt } from "./expiry-argument.ts";

const nothing = new Uint8Array(0);
const valueBytesMax = keyspaceLimits.valueBytesMax;

/** A value from outside, within the limit. */
function newValue(args: Args, i: number): Uint8Array {
  if (args.end(i) - args.start(i) > valueBytesMax) throw new CommandError(texts.tooLong);
  return args.bytes(i);
}

function bulkOrNil(reply: Reply, entry: Entry | undefined): void {
  if (entry === undefined) reply.nil();
  else reply.bulk(entry.value);
}

/** A value as a long double. */
export function longDoubleOf(value: Uint8Array, text: string): LongDouble {
  const parsed = parseLongDouble(asciiOf(value));
  if (parsed === undefined) throw new CommandError(text);
  return parsed;
}

const latin1 = new TextDecoder("latin1");
function asciiOf(value: Uint8Array): string {
  return latin1.decode(value.slice());
}

interface SetOptions {
  nx: boolean;
  xx: boolean;
  get: boolean;
  keep: boolean;
  persist: boolean;
  /** Position of the time; 0: none. */
  timeAt: number;
  timeWord: string;
}

/** Options of SET (from 3) and GETEX (from 2). */
function readOptions(args: Args, from: number, set: boolean): SetOptions {
  const options: SetOptions = { nx: false, xx: false, get: false, keep: false, persist: false, timeAt: 0, timeWord: "" };
  const timed = (): boolean => options.timeAt !== 0 || options.keep || options.persist;
  for (let i = from; i < args.count; i++) {
    const word = timeWordAt(args, i);
    if (set && args.is(i, "NX") && !options.xx) options.nx = true;
    else if (set && args.is(i, "XX") && !options.nx) options.xx = true;
    else if (set && args.is(i, "GET")) options.get = true;
    else if (set && args.is(i, "KEEPTTL") && options.timeAt === 0) options.keep = true;
    else if (!set && args.is(i, "PERSIST") && options.timeAt === 0) options.persist = true;
    else if (word !== undefined && i + 1 < args.count && !timed()) {
      options.timeAt = ++i;
      options.timeWord = word;
    } else throw new CommandError(texts.syntax);
  }
  return options;
}

export function stringCommands(parts: DataParts): CommandSpec[] {
  const { keyspace } = parts;
  const lookup = new KeyLookup(keyspace);
  const command = (
    name: string,
    arity: number,
    flags: readonly CommandFlag[],
    summary: string,
    body: (call: Call) => void,
    more: { keys?: CommandSpec["keys"]; since?: string } = {},
  ): CommandSpec => dataCommand(parts, { name, arity, flags, categories: ["string"], group: "string", keys: oneKey, summary, ...more }, body);
  const put = (key: Uint8Array, value: Uint8Array, expiryMs: number): void => {
    keyspace.put(key, entryKinds.string, value, expiryMs);
  };

  const set = (call: Call): void => {
    const { args, reply } = call;
    const key = newKey(args, 1);
    const value = newValue(args, 2);
    const options = readOptions(args, 3, true);
    const expiryMs = options.timeAt === 0 ? 0 : positiveMs(args, options.timeAt, timeUnits[options.timeWord]!, keyspace.nowMs, "set");
    const { nx, xx, get, keep } = options;
    if (!nx && !xx && !get && !keep) {
      put(key, value, expiryMs);
      reply.ok();
      return;
    }
    const entry = keyspace.find(key);
    if (get && entry !== undefined && entry.kind !== entryKinds.string) throw new CommandError(texts.wrongType);
    if (get) bulkOrNil(reply, entry);
    if ((nx && entry !== undefined) || (xx && entry === undefined)) {
      if (!get) reply.nil();
      return;
    }
    const kept = keep && entry !== undefined ? parts.hashes.keyExpiry(entry) : 0;
    put(key, value, keep ? kept : expiryMs);
    if (!get) reply.ok();
  };

  /** Consecutive SETs: one write when none has options. */
  const setMany = (calls: readonly Call[]): void => {
    if (keyspace.inTransaction || !calls.every(({ args }) => args.count === 3)) {
      for (const call of calls) void perform(keyspace, call, set);
      return;
    }
    const effects = keyspace.beginDirect();
    const write = (): void => {
      hold(keyspace, calls[0]!, keyspace.commitDirect());
    };
    for (const { args } of calls) {
      const key = args.bytes(1);
      const value = args.bytes(2);
      if (key.length > keyspaceLimits.keyBytesMax || value.length > valueBytesMax) continue;
      if (effects.bytes > batchBytesMax) {
        write();
        effects.clear();
      }
      effects.put(0, key, entryKinds.string, value, 0, 0);
      keyspace.touch(key);
    }
    write();
    for (const { args, reply } of calls) {
      if (args.end(1) - args.start(1) > keyspaceLimits.keyBytesMax) reply.error(`ERR key exceeds maximum allowed size (${keyspaceLimits.keyBytesMax} bytes)`);
      else if (args.end(2) - args.start(2) > valueBytesMax) reply.error(texts.tooLong);
      else reply.ok();
    }
  };

  const get = ({ args, reply }: Call): void => {
    bulkOrNil(reply, stringAt(keyspace, args.bytes(1)));
  };

  /** Consecutive GETs: one look-up. */
  const getMany = (calls: readonly Call[]): void => {
    if (!keyspace.readsDirect) {
      for (const call of calls) void perform(keyspace, call, get);
      return;
    }
    lookup.begin();
    for (const { args } of calls) lookup.add(args, 1);
    lookup.run();
    for (let i = 0; i < calls.length; i++) {
      const call = calls[i]!;
      const kind = lookup.kind(i);
      if (kind === entryKinds.string) lookup.bulk(call.reply, i);
      else if (kind === 0) call.reply.nil();
      // A large hash may have lost its last field.
      else void perform(keyspace, call, get);
    }
  };

  const mget = (call: Call): void => {
    const { args, reply } = call;
    reply.array(args.count - 1);
    if (!keyspace.readsDirect) {
      for (let i = 1; i < args.count; i++) {
        const entry = keyspace.find(args.bytes(i));
        bulkOrNil(reply, entry?.kind === entryKinds.string ? entry : undefined);
      }
      return;
    }
    lookup.begin();
    for (let i = 1; i < args.count; i++) lookup.add(args, i);
    lookup.run();
    mgetReply(call, 0);
  };
  const mgetReply = ({ args, reply }: Call, from: number): void => {
    for (let i = 0; i < args.count - 1; i++) {
      if (lookup.kind(from + i) === entryKinds.string) lookup.bulk(reply, from + i);
      else reply.nil();
    }
  };
  /** Consecutive MGETs: one look-up. */
  const mgetMany = (calls: readonly Call[]): void => {
    if (!keyspace.readsDirect) {
      for (const call of calls) void perform(keyspace, call, mget);
      return;
    }
    lookup.begin();
    for (const { args } of calls) for (let i = 1; i < args.count; i++) lookup.add(args, i);
    lookup.run();
    let from = 0;
    for (const call of calls) {
      call.reply.array(call.args.count - 1);
      mgetReply(call, from);
      from += call.args.count - 1;
    }
  };

  const mset = ({ args, reply }: Call, name: string, onlyNew: boolean): void => {
    if (args.count % 2 === 0) throw wrongArguments(name);
    for (let i = 1; i < args.count; i += 2) {
      newKey(args, i);
      newValue(args, i + 1);
    }
    if (onlyNew) {
      for (let i = 1; i < args.count; i += 2) {
        if (keyspace.find(args.bytes(i)) !== undefined) {
          reply.integer(0);
          return;
        }
      }
    }
    for (let i = 1; i < args.count; i += 2) put(args.bytes(i), args.bytes(i + 1), 0);
    if (onlyNew) reply.integer(1);
    else reply.ok();
  };

  const setWithTime = (name: string): ((call: Call) => void) => {
    const unit = timeUnits[name === "setex" ? "EX" : "PX"]!;
    return ({ args, reply }) => {
      const key = newKey(args, 1);
      const value = newValue(args, 3);
      put(key, value, positiveMs(args, 2, unit, keyspace.nowMs, name));
      reply.ok();
    };
  };

  const getex = ({ args, reply }: Call): void => {
    const key = args.bytes(1);
    const options = readOptions(args, 2, false);
    const entry = stringAt(keyspace, key);
    if (entry === undefined) {
      reply.nil();
      return;
    }
    if (options.timeAt !== 0) {
      const unit = timeUnits[options.timeWord]!;
      const value = integerAt(args, options.timeAt);
      if (value <= 0) throw invalidExpire("getex");
      const expiryMs = storable(absoluteMs(value, unit, keyspace.nowMs, "getex"));
      put(key, entry.value, expiryMs);
    } else if (options.persist && entry.expiryMs !== 0) {
      put(key, entry.value, 0);
    }
    reply.bulk(entry.value);
  };

  const increment = (call: Call, by: number | bigint): void => {
    const key = newKey(call.args, 1);
    const entry = stringAt(keyspace, key);
    const before = entry === undefined ? 0 : parseInteger(entry.value);
    if (before === undefined) throw new CommandError(texts.notInteger);
    const after = addIntegers(before, by);
    if (after === undefined) throw new CommandError(texts.overflow);
    put(key, decimalBytes(after), entry?.expiryMs ?? 0);
    call.reply.integer(after);
  };

  const incrbyfloat = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    const entry = stringAt(keyspace, key);
    const before = longDoubleOf(entry === undefined ? zero : entry.value, texts.notFloat);
    const by = longDoubleOf(args.bytes(2), texts.notFloat);
    const after = addLongDouble(before, by);
    if (after === undefined || after.infinite) throw new CommandError(texts.notFinite);
    const text = formatLongDouble(after);
    put(key, bytesOf(text), entry?.expiryMs ?? 0);
    reply.bulk(text);
  };

  const append = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    const added = newValue(args, 2);
    const entry = stringAt(keyspace, key);
    const before = entry?.value ?? nothing;
    if (before.length + added.length > valueBytesMax) throw new CommandError(texts.tooLong);
    const value = new Uint8Array(before.length + added.length);
    value.set(before);
    value.set(added, before.length);
    put(key, value, entry?.expiryMs ?? 0);
    reply.integer(value.length);
  };

  const getrange = ({ args, reply }: Call): void => {
    let start = roughAt(args, 2);
    let end = roughAt(args, 3);
    const entry = stringAt(keyspace, args.bytes(1));
    const value = entry?.value ?? nothing;
    if (start < 0 && end < 0 && start > end) {
      reply.bulk(nothing);
      return;
    }
    if (start < 0) start += value.length;
    if (end < 0) end += value.length;
    reply.bulk(value.subarray(Math.max(0, start), Math.max(0, Math.min(value.length - 1, Math.max(0, end)) + 1)));
  };

  const setrange = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    const offset = roughAt(args, 2);
    const part = args.bytes(3);
    if (offset < 0) throw new CommandError("ERR offset is out of range");
    const entry = stringAt(keyspace, key);
    const before = entry?.value ?? nothing;
    if (part.length === 0) {
      reply.integer(before.length);
      return;
    }
    if (offset + part.length > valueBytesMax) throw new CommandError(texts.tooLong);
    const value = new Uint8Array(Math.max(before.length, offset + part.length));
    value.set(before);
    value.set(part, offset);
    put(key, value, entry?.expiryMs ?? 0);
    reply.integer(value.length);
  };

  const everySecond = { first: 1, last: -1, step: 2 };
  const allKeys = { first: 1, last: -1, step: 1 };
  const write: readonly CommandFlag[] = ["write", "denyoom"];
  const fastWrite: readonly CommandFlag[] = ["write", "denyoom", "fast"];
  const fastRead: readonly CommandFlag[] = ["readonly", "fast"];
  return [
    { ...command("get", 2, fastRead, "Get the value of a key", get), runMany: getMany },
    { ...command("set", -3, write, "Set the string value of a key", set), runMany: setMany },
    { ...command("mget", -2, fastRead, "Get the values of all the given keys", mget, { keys: allKeys }), runMany: mgetMany },
    command("mset", -3, write, "Set multiple keys to multiple values", (call) => mset(call, "mset", false), { keys: everySecond, since: "1.0.1" }),
    command("msetnx", -3, write, "Set multiple keys to multiple values, only if none of the keys exist", (call) => mset(call, "msetnx", true), {
      keys: everySecond,
      since: "1.0.1",
    }),
    command("getex", -2, ["write", "fast"], "Get the value of a key and optionally set its expiration", getex, { since: "6.2.0" }),
    command(
      "getdel",
      2,
      ["write", "fast"],
      "Get the value of a key and delete the key",
      ({ args, reply }) => {
        const key = args.bytes(1);
        const entry = stringAt(keyspace, key);
        bulkOrNil(reply, entry);
        if (entry !== undefined) keyspace.remove(key);
      },
      { since: "6.2.0" },
    ),
    command("getset", 3, fastWrite, "Set the string value of a key and return its old value", ({ args, reply }) => {
      const key = newKey(args, 1);
      const value = newValue(args, 2);
      bulkOrNil(reply, stringAt(keyspace, key));
      put(key, value, 0);
    }),
    command("setnx", 3, fastWrite, "Set the value of a key, only if the key does not exist", ({ args, reply }) => {
      const key = newKey(args, 1);
      const value = newValue(args, 2);
      const isNew = keyspace.find(key) === undefined;
      if (isNew) put(key, value, 0);
      reply.integer(isNew ? 1 : 0);
    }),
    command("setex", 4, write, "Set the value and expiration of a key", setWithTime("setex"), { since: "2.0.0" }),
    command("psetex", 4, write, "Set the value and expiration in milliseconds of a key", setWithTime("psetex"), { since: "2.6.0" }),
    command("append", 3, fastWrite, "Append a value to a key", append, { since: "2.0.0" }),
    command("getrange", 4, ["readonly"], "Get a substring of the string stored at a key", getrange, { since: "2.4.0" }),
    command("substr", 4, ["readonly"], "Get a substring of the string stored at a key", getrange),
    command("setrange", 4, write, "Overwrite part of a string at key starting at the specified offset", setrange, { since: "2.2.0" }),
    command(
      "strlen",
      2,
      fastRead,
      "Get the length of the value stored in a key",
      ({ args, reply }) => {
        reply.integer(stringAt(keyspace, args.bytes(1))?.value.length ?? 0);
      },
      { since: "2.2.0" },
    ),
    command("incr", 2, fastWrite, "Increment the integer value of a key by one", (call) => {
      increment(call, 1);
    }),
    command("decr", 2, fastWrite, "Decrement the integer value of a key by one", (call) => {
      increment(call, -1);
    }),
    command("incrby", 3, fastWrite, "Increment the integer value of a key by the given amount", (call) => {
      increment(call, integerAt(call.args, 2));
    }),
    command("decrby", 3, fastWrite, "Decrement the integer value of a key by the given number", (call) => {
      const by = integerAt(call.args, 2);
      if (by === int64Min) throw new CommandError("ERR decrement would overflow");
      increment(call, -by);
    }),
    command("incrbyfloat", 3, fastWrite, "Increment the float value of a key by the given amount", incrbyfloat, { since: "2.6.0" }),
    command("lcs", -3, ["readonly"], "Find longest common substring", (call) => lcs(keyspace, call), {
      keys: { first: 1, last: 2, step: 1 },
      since: "7.0.0",
    }),
  ];
}

const zero = bytesOf("0");

function lcs(keyspace: Keyspace, { args, reply }: Call): void {
  const a = keyspace.find(args.bytes(1));
  const b = keyspace.find(args.bytes(2));
  const wrong = (entry: Entry | undefined): boolean => entry !== undefined && entry.kind !== entryKinds.string;
  if (wrong(a) || wrong(b)) throw new CommandError("ERR The specified keys must contain string values");
  let length = false;
  let ranges = false;
  let withLengths = false;
  let lengthMin = 0;
  for (let i = 3; i < args.count; i++) {
    if (args.is(i, "IDX")) ranges = true;
    else if (args.is(i, "LEN")) length = true;
    else if (args.is(i, "WITHMATCHLEN")) withLengths = true;
    else if (args.is(i, "MINMATCHLEN") && i + 1 < args.count) lengthMin = Math.max(0, roughAt(args, ++i));
    else throw new CommandError(texts.syntax);
  }
  if (length && ranges) throw new CommandError("ERR If you want both the length and indexes, please just use IDX.");
  const found = longestCommonSubsequence(a?.value ?? nothing, b?.value ?? nothing);
  if (found === undefined) {
    throw new CommandError(`ERR Insufficient memory, transient memory for LCS exceeds ${cellsMax} cells: compare shorter strings`);
  }
  if (!ranges) {
    if (length) reply.integer(found.length);
    else reply.bulk(found.bytes);
    return;
  }
  const shown = found.ranges.filter(({ a: [from, to] }) => to - from + 1 >= lengthMin);
  reply.map(2);
  reply.bulk("matches");
  reply.array(shown.length);
  for (const range of shown) {
    reply.array(withLengths ? 3 : 2);
    for (const [from, to] of [range.a, range.b]) {
      reply.array(2);
      reply.integer(from);
      reply.integer(to);
    }
    if (withLengths) reply.integer(range.a[1] - range.a[0] + 1);
  }
  reply.bulk("len");
  reply.integer(found.length);
}
