// Expiry of hash fields: HEXPIRE and its family, HTTL and its family, HPERSIST, HGETEX, HSETEX, HGETDEL, as the public documentation of Redis 7.4 and 8.0
// has them. Redis 7.0 knows none of them.
// What holds: HSET and HDEL end a field's expiry, HINCRBY keeps it; no expiry counts as later than any; the key goes with its last field; an expired field
// is not there from its millisecond on. A missing key answers -2 for each field.

import { hashAt, hashToWrite, newField, newFieldValue } from "./hashes.ts";
import type { Hash } from "#features/keyspace/hashes";
import type { Args, Call, CommandFlag, CommandSpec } from "#wire/resp-command";
import { CommandError, dataCommand, type DataParts, integerAt, newKey, oneKey, texts } from "./data-command.ts";
import { absoluteMs, positiveMs, storable, type TimeUnit, timeUnits, timeWordAt } from "./expiry-argument.ts";

const noField = -2;
const noExpiry = -1;

/** Where the names stand: `FIELDS n name...` at `i`, with `width` arguments a field, to the end of the call. */
function fieldsAt(args: Args, i: number, width = 1): { readonly first: number; readonly count: number } {
  if (i >= args.count || !args.is(i, "FIELDS")) throw new CommandError("ERR Mandatory argument FIELDS is missing or not at the right position");
  if (i + 1 >= args.count) throw new CommandError("ERR wrong number of arguments");
  const count = args.integer(i + 1);
  if (count === undefined || count < 1) throw new CommandError("ERR Parameter `numFields` should be greater than 0");
  if (Number(count) * width !== args.count - i - 2) throw new CommandError("ERR The `numfields` parameter must match the number of arguments");
  return { first: i + 2, count: Number(count) };
}

export function fieldExpiryCommands(parts: DataParts): CommandSpec[] {
  const { keyspace } = parts;
  const command = (name: string, arity: number, flags: readonly CommandFlag[], since: string, summary: string, body: (call: Call) => void): CommandSpec =>
    dataCommand(parts, { name, arity, flags, categories: ["hash"], group: "hash", keys: oneKey, summary, since }, body);

  const expire = (name: string, unit: TimeUnit): CommandSpec =>
    command(name, -6, ["write", "denyoom", "fast"], "7.4.0", "Set the expiration of hash fields", ({ args, reply }) => {
      const value = integerAt(args, 2);
      if (value < 0) throw new CommandError(`ERR invalid expire time, must be >= 0`);
      const condition = (["NX", "XX", "GT", "LT"] as const).find((word) => args.is(3, word));
      const { first, count } = fieldsAt(args, condition === undefined ? 3 : 4);
      const expiryMs = storable(absoluteMs(value, unit, keyspace.nowMs, name));
      const hash = hashAt(parts, args.bytes(1));
      reply.array(count);
      let changed = false;
      for (let i = first; i < first + count; i++) {
        const field = hash?.get(args.bytes(i));
        if (hash === undefined || field === undefined) {
          reply.integer(noField);
          continue;
        }
        const before = field.expiryMs;
        const refused =
          (condition === "NX" && before !== 0) ||
          (condition === "XX" && before === 0) ||
          (condition === "GT" && (before === 0 || expiryMs <= before)) ||
          (condition === "LT" && before !== 0 && expiryMs >= before);
        if (refused) {
          reply.integer(0);
        } else if (expiryMs <= keyspace.nowMs) {
          hash.delete(args.bytes(i));
          changed = true;
          reply.integer(2);
        } else {
          hash.set(args.bytes(i), field.value, expiryMs);
          changed = true;
          reply.integer(1);
        }
      }
      if (changed) hash!.save();
    });

  const tell = (name: string, seconds: boolean, left: boolean): CommandSpec =>
    command(name, -5, ["readonly", "fast"], "7.4.0", "Get the expiration of hash fields", ({ args, reply }) => {
      const { first, count } = fieldsAt(args, 2);
      const hash = hashAt(parts, args.bytes(1));
      reply.array(count);
      for (let i = first; i < first + count; i++) {
        const field = hash?.get(args.bytes(i));
        if (field === undefined) reply.integer(noField);
        else if (field.expiryMs === 0) reply.integer(noExpiry);
        else {
          const ms = field.expiryMs - (left ? keyspace.nowMs : 0);
          // Rounded up, so that a field that lives never shows 0.
          reply.integer(seconds ? Math.ceil(ms / 1_000) : ms);
        }
      }
    });

  const persist = ({ args, reply }: Call): void => {
    const { first, count } = fieldsAt(args, 2);
    const hash = hashAt(parts, args.bytes(1));
    reply.array(count);
    let changed = false;
    for (let i = first; i < first + count; i++) {
      const field = hash?.get(args.bytes(i));
      if (hash === undefined || field === undefined) reply.integer(noField);
      else if (field.expiryMs === 0) reply.integer(noExpiry);
      else {
        hash.set(args.bytes(i), field.value, 0);
        changed = true;
        reply.integer(1);
      }
    }
    if (changed) hash!.save();
  };

  /** Values of fields as HMGET answers them. Views are written before anything changes. */
  const answer = ({ args, reply }: Call, hash: Hash | undefined, first: number, count: number): void => {
    reply.array(count);
    for (let i = first; i < first + count; i++) {
      const field = hash?.get(args.bytes(i));
      if (field === undefined) reply.nil();
      else reply.bulk(field.value);
    }
  };

  const getex = (call: Call): void => {
    const { args } = call;
    let i = 2;
    let expiryMs = -1;
    const word = timeWordAt(args, i);
    if (word !== undefined && i + 1 < args.count) {
      expiryMs = positiveMs(args, i + 1, timeUnits[word]!, keyspace.nowMs, "hgetex");
      i += 2;
    } else if (args.is(i, "PERSIST")) {
      expiryMs = 0;
      i++;
    }
    const { first, count } = fieldsAt(args, i);
    const hash = hashAt(parts, args.bytes(1));
    answer(call, hash, first, count);
    if (hash === undefined || expiryMs === -1) return;
    let changed = false;
    for (let at = first; at < first + count; at++) {
      const field = hash.get(args.bytes(at));
      if (field === undefined || field.expiryMs === expiryMs) continue;
      if (expiryMs !== 0 && expiryMs <= keyspace.nowMs) hash.delete(args.bytes(at));
      else hash.set(args.bytes(at), field.value, expiryMs);
      changed = true;
    }
    if (changed) hash.save();
  };

  const setex = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    let condition: "FNX" | "FXX" | undefined;
    let expiryMs = -1;
    let keep = false;
    let i = 2;
    for (; i < args.count && !args.is(i, "FIELDS"); i++) {
      const word = timeWordAt(args, i);
      if (condition === undefined && args.is(i, "FNX")) condition = "FNX";
      else if (condition === undefined && args.is(i, "FXX")) condition = "FXX";
      else if (args.is(i, "KEEPTTL") && !keep && expiryMs === -1) keep = true;
      else if (word !== undefined && !keep && expiryMs === -1 && i + 1 < args.count) {
        expiryMs = positiveMs(args, ++i, timeUnits[word]!, keyspace.nowMs, "hsetex");
      } else throw new CommandError(texts.syntax);
    }
    const { first, count } = fieldsAt(args, i, 2);
    const end = first + 2 * count;
    for (let at = first; at < end; at += 2) {
      newField(args, at);
      newFieldValue(args, at + 1);
    }
    const hash = hashToWrite(parts, key);
    for (let at = first; at < end && condition !== undefined; at += 2) {
      if ((hash.get(args.bytes(at)) === undefined) === (condition === "FNX")) continue;
      reply.integer(0);
      return;
    }
    for (let at = first; at < end; at += 2) {
      const name = args.bytes(at);
      const kept = keep ? (hash.get(name)?.expiryMs ?? 0) : Math.max(0, expiryMs);
      if (kept !== 0 && kept <= keyspace.nowMs) hash.delete(name);
      else hash.set(name, args.bytes(at + 1), kept);
    }
    hash.save();
    reply.integer(1);
  };

  const getdel = (call: Call): void => {
    const { args } = call;
    const { first, count } = fieldsAt(args, 2);
    const hash = hashAt(parts, args.bytes(1));
    answer(call, hash, first, count);
    let changed = false;
    for (let i = first; i < first + count; i++) if (hash?.delete(args.bytes(i)) === true) changed = true;
    if (changed) hash!.save();
  };

  return [
    expire("hexpire", { seconds: true, absolute: false }),
    expire("hpexpire", { seconds: false, absolute: false }),
    expire("hexpireat", { seconds: true, absolute: true }),
    expire("hpexpireat", { seconds: false, absolute: true }),
    tell("httl", true, true),
    tell("hpttl", false, true),
    tell("hexpiretime", true, false),
    tell("hpexpiretime", false, false),
    command("hpersist", -5, ["write", "fast"], "7.4.0", "Remove the expiration of hash fields", persist),
    command("hgetex", -5, ["write", "fast"], "8.0.0", "Get hash fields and optionally set their expiration", getex),
    command("hsetex", -6, ["write", "denyoom", "fast"], "8.0.0", "Set hash fields and optionally their expiration", setex),
    command("hgetdel", -5, ["write", "fast"], "8.0.0", "Get and delete hash fields", getdel),
  ];
}
