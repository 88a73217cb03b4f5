// The commands on hashes, with Redis 7.0's semantics and texts; the expiry of fields as Redis 7.4 and 8.0 document it is in field-expiry.ts.
// Why batches apart: consecutive HGETs or HMGETs of a pipeline are one look-up of the engine and one pass over each row.

import { addIntegers, parseInteger } from "#features/keyspace/decimal-integer";
import { findFields, FieldPlaces } from "#features/keyspace/hash-row";
import { fieldBytesMax, fieldRange, type Hash, Hashes, idOfMeta, nameOfField } from "#features/keyspace/hashes";
import { type Entry, fieldNamespace, keyspaceLimits } from "#features/keyspace/keyspace";
import { justBefore } from "#features/keyspace/scan-cursors";
import { addLongDouble, formatLongDouble } from "#features/keyspace/long-double";
import { entryKinds } from "#kernel/entry-record";
import type { Args, Call, CommandFlag, CommandSpec, Reply } from "#wire/resp-command";
import { bytesOf, CommandError, dataCommand, type DataParts, decimalBytes, integerAt, newKey, oneKey, perform, texts, wrongArguments } from "./data-command.ts";
import { KeyLookup } from "./key-lookup.ts";
import { readScanOptions, replyScan, scanCursorAt } from "./scan-argument.ts";
import { longDoubleOf } from "./strings.ts";

/** Answers of one HRANDFIELD at most: a negative count may repeat fields without end. */
const randomFieldsMax = 1 << 20;

/** The hash under a key; `undefined` when there is none. */
export function hashAt({ keyspace, hashes }: DataParts, key: Uint8Array): Hash | undefined {
  const entry = keyspace.find(key);
  if (entry === undefined) return undefined;
  if (!Hashes.isHash(entry)) throw new CommandError(texts.wrongType);
  return hashes.open(key, entry);
}

export function hashToWrite(parts: DataParts, key: Uint8Array): Hash {
  return hashAt(parts, key) ?? parts.hashes.create(key);
}

/** A field's name that is going to be written. */
export function newField(args: Args, i: number): Uint8Array {
  if (args.end(i) - args.start(i) > fieldBytesMax) throw new CommandError(`ERR field exceeds maximum allowed size (${fieldBytesMax} bytes)`);
  return args.bytes(i);
}

export function newFieldValue(args: Args, i: number): Uint8Array {
  if (args.end(i) - args.start(i) > keyspaceLimits.valueBytesMax) throw new CommandError(texts.tooLong);
  return args.bytes(i);
}

export function hashCommands(parts: DataParts): CommandSpec[] {
  const { keyspace, hashes } = parts;
  const lookup = new KeyLookup(keyspace);
  const places = new FieldPlaces();
  const command = (name: string, arity: number, flags: readonly CommandFlag[], summary: string, body: (call: Call) => void, since = "2.0.0"): CommandSpec =>
    dataCommand(parts, { name, arity, flags, categories: ["hash"], group: "hash", keys: oneKey, summary, since }, body);

  const hset = (name: "hset" | "hmset") => {
    return ({ args, reply }: Call): void => {
      if (args.count % 2 === 1) throw wrongArguments(name);
      const key = newKey(args, 1);
      const entry = keyspace.find(key);
      if (entry === undefined || entry.kind === entryKinds.hash) {
        const merged = hashes.encoder.merge(entry?.value, args, 2);
        if (merged !== undefined) {
          keyspace.put(key, entryKinds.hash, merged.row, entry?.expiryMs ?? 0);
          if (name === "hset") reply.integer(merged.added);
          else reply.ok();
          return;
        }
      }
      const hash = hashToWrite(parts, key);
      let added = 0;
      // A large hash puts each field at once: all must be seen to hold the limits before.
      for (let i = 2; i < args.count && hash.large; i += 2) {
        newField(args, i);
        newFieldValue(args, i + 1);
      }
      for (let i = 2; i < args.count; i += 2) if (hash.set(newField(args, i), newFieldValue(args, i + 1), 0)) added++;
      hash.save();
      if (name === "hset") reply.integer(added);
      else reply.ok();
    };
  };

  const hsetnx = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    const name = newField(args, 2);
    const value = newFieldValue(args, 3);
    const hash = hashToWrite(parts, key);
    if (hash.get(name) !== undefined) {
      reply.integer(0);
      return;
    }
    hash.set(name, value, 0);
    hash.save();
    reply.integer(1);
  };

  const fieldOrNil = (reply: Reply, hash: Hash | undefined, name: Uint8Array): void => {
    const field = hash?.get(name);
    if (field === undefined) reply.nil();
    else reply.bulk(field.value);
  };
  const hget = ({ args, reply }: Call): void => {
    fieldOrNil(reply, hashAt(parts, args.bytes(1)), args.bytes(2));
  };
  const hmget = ({ args, reply }: Call): void => {
    const hash = hashAt(parts, args.bytes(1));
    reply.array(args.count - 2);
    for (let i = 2; i < args.count; i++) fieldOrNil(reply, hash, args.bytes(i));
  };
  /** Fields of many calls: one look-up of all keys, then one pass over each row. */
  const readMany = (calls: readonly Call[], one: (call: Call) => void, array: boolean): void => {
    if (!keyspace.readsDirect) {
      for (const call of calls) void perform(keyspace, call, one);
      return;
    }
    lookup.begin();
    for (const { args } of calls) lookup.add(args, 1);
    lookup.run();
    const { refs } = lookup;
    for (let c = 0; c < calls.length; c++) {
      const call = calls[c]!;
      const { args, reply } = call;
      const kind = lookup.kind(c);
      if (kind !== entryKinds.hash && kind !== 0) {
        void perform(keyspace, call, one);
        continue;
      }
      const count = args.count - 2;
      if (array) reply.array(count);
      if (kind === 0) {
        for (let i = 0; i < count; i++) reply.nil();
        continue;
      }
      const memory = lookup.memory(c);
      findFields(memory, refs.at[c]!, refs.bytes[c]!, args, 2, keyspace.nowMs, places);
      for (let i = 0; i < count; i++) {
        if (places.at[i] === -1) reply.nil();
        else reply.bulkOf(memory, places.at[i]!, places.bytes[i]!);
      }
    }
  };
  const single: Call[] = [];
  const readOne = (one: (call: Call) => void, array: boolean) => (call: Call) => {
    single[0] = call;
    readMany(single, one, array);
  };

  const hdel = ({ args, reply }: Call): void => {
    const hash = hashAt(parts, args.bytes(1));
    let deleted = 0;
    if (hash !== undefined) for (let i = 2; i < args.count; i++) if (hash.delete(args.bytes(i))) deleted++;
    if (deleted > 0) hash!.save();
    reply.integer(deleted);
  };

  const all = (names: boolean, values: boolean) => {
    return ({ args, reply }: Call): void => {
      const hash = hashAt(parts, args.bytes(1));
      const count = hash?.count() ?? 0;
      if (names && values) reply.map(count);
      else reply.array(count);
      hash?.each(({ name, value }) => {
        if (names) reply.bulk(name);
        if (values) reply.bulk(value);
      });
    };
  };

  const hincrby = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    const by = integerAt(args, 3);
    const name = newField(args, 2);
    const hash = hashToWrite(parts, key);
    const field = hash.get(name);
    const before = field === undefined ? 0 : parseInteger(field.value);
    if (before === undefined) throw new CommandError("ERR hash value is not an integer");
    const after = addIntegers(before, by);
    if (after === undefined) throw new CommandError(texts.overflow);
    hash.set(name, decimalBytes(after), field?.expiryMs ?? 0);
    hash.save();
    reply.integer(after);
  };

  const hincrbyfloat = ({ args, reply }: Call): void => {
    const key = newKey(args, 1);
    const by = longDoubleOf(args.bytes(3), texts.notFloat);
    if (by.infinite) throw new CommandError("ERR value is NaN or Infinity");
    const name = newField(args, 2);
    const hash = hashToWrite(parts, key);
    const field = hash.get(name);
    const before = longDoubleOf(field === undefined ? zero : field.value, "ERR hash value is not a float");
    const after = addLongDouble(before, by);
    if (after === undefined || after.infinite) throw new CommandError(texts.notFinite);
    const text = formatLongDouble(after);
    hash.set(name, bytesOf(text), field?.expiryMs ?? 0);
    hash.save();
    reply.bulk(text);
  };

  const hrandfield = ({ args, reply, session }: Call): void => {
    if (args.count === 2) {
      const hash = hashAt(parts, args.bytes(1));
      if (hash === undefined) reply.nil();
      else reply.bulk(allFields(hash, keyspace.random.below(hash.count()))[0]!.name);
      return;
    }
    const wanted = Number(integerAt(args, 2));
    if (args.count > 4 || (args.count === 4 && !args.is(3, "WITHVALUES"))) throw new CommandError(texts.syntax);
    const withValues = args.count === 4;
    if (wanted < -randomFieldsMax || (withValues && wanted > 2 ** 62)) throw new CommandError(texts.outOfRange);
    const hash = hashAt(parts, args.bytes(1));
    const fields = hash === undefined || wanted === 0 ? [] : allFields(hash);
    let chosen = fields;
    if (wanted < 0) {
      chosen = [];
      if (fields.length > 0) for (let i = 0; i < -wanted; i++) chosen.push(keyspace.random.pick(fields));
    } else if (wanted < fields.length) {
      // The first of a shuffle (Fisher and Yates) that ends early.
      for (let i = 0; i < wanted; i++) {
        const j = i + keyspace.random.below(fields.length - i);
        const kept = fields[i]!;
        fields[i] = fields[j]!;
        fields[j] = kept;
      }
      chosen = fields.slice(0, wanted);
    }
    const pairs = withValues && session.protocol === 3;
    reply.array(chosen.length * (withValues && !pairs ? 2 : 1));
    for (const { name, value } of chosen) {
      if (pairs) reply.array(2);
      reply.bulk(name);
      if (withValues) reply.bulk(value);
    }
  };

  const hscan = ({ args, reply }: Call): void => {
    const cursor = scanCursorAt(args, 2);
    const key = args.bytes(1);
    const entry = keyspace.find(key);
    if (entry !== undefined && !Hashes.isHash(entry)) throw new CommandError(texts.wrongType);
    if (entry === undefined) {
      replyScan(reply, 0, []);
      return;
    }
    const options = readScanOptions(args, 3, false);
    const found: Uint8Array[] = [];
    const visit = (name: Uint8Array, value: Uint8Array): void => {
      if (options.matches(name)) found.push(name.slice(), value.slice());
    };
    let next = 0;
    if (entry.kind === entryKinds.hash) {
      parts.hashes.open(key, entry).each(({ name, value }) => {
        visit(name, value);
      });
    } else {
      next = scanLarge(entry, cursor, options.count, visit);
    }
    replyScan(reply, next, found);
  };
  /** A part of a large hash; the cursor for the next one. */
  const scanLarge = (entry: Entry, cursor: number | bigint, count: number, visit: (name: Uint8Array, value: Uint8Array) => void): number => {
    const id = idOfMeta(entry);
    const scan = `hash ${id}`;
    const { from, to } = fieldRange(id, keyspace.cursors.after(cursor, scan));
    let left = count;
    let last: Uint8Array | undefined;
    let more = false;
    const next = keyspace.walkSome(fieldNamespace, from, to, (fieldKey, { value }) => {
      if (left === 0) {
        more = true;
        return false;
      }
      const name = nameOfField(fieldKey);
      visit(name, value);
      last = name.slice();
      left--;
      return true;
    });
    // A slice that ended early may have seen nothing.
    if (next !== undefined && last === undefined) last = justBefore(nameOfField(next));
    return (more || next !== undefined) && last !== undefined ? keyspace.cursors.keep(scan, last) : 0;
  };

  const fastWrite: readonly CommandFlag[] = ["write", "denyoom", "fast"];
  const fastRead: readonly CommandFlag[] = ["readonly", "fast"];
  const read: readonly CommandFlag[] = ["readonly"];
  return [
    command("hset", -4, fastWrite, "Set the string value of a hash field", hset("hset")),
    command("hmset", -4, fastWrite, "Set multiple hash fields to multiple values", hset("hmset")),
    command("hsetnx", 4, fastWrite, "Set the value of a hash field, only if the field does not exist", hsetnx),
    {
      ...command("hget", 3, fastRead, "Get the value of a hash field", readOne(hget, false)),
      runMany(calls) {
        readMany(calls, hget, false);
      },
    },
    {
      ...command("hmget", -3, fastRead, "Get the values of all the given hash fields", readOne(hmget, true)),
      runMany(calls) {
        readMany(calls, hmget, true);
      },
    },
    command("hgetall", 2, read, "Get all the fields and values in a hash", all(true, true)),
    command("hkeys", 2, read, "Get all the fields in a hash", all(true, false)),
    command("hvals", 2, read, "Get all the values in a hash", all(false, true)),
    command("hdel", -3, ["write", "fast"], "Delete one or more hash fields", hdel),
    command("hexists", 3, fastRead, "Determine if a hash field exists", ({ args, reply }) => {
      reply.integer(hashAt(parts, args.bytes(1))?.get(args.bytes(2)) === undefined ? 0 : 1);
    }),
    command("hlen", 2, fastRead, "Get the number of fields in a hash", ({ args, reply }) => {
      reply.integer(hashAt(parts, args.bytes(1))?.count() ?? 0);
    }),
    command(
      "hstrlen",
      3,
      fastRead,
      "Get the length of the value of a hash field",
      ({ args, reply }) => {
        reply.integer(hashAt(parts, args.bytes(1))?.get(args.bytes(2))?.value.length ?? 0);
      },
      "3.2.0",
    ),
    command("hincrby", 4, fastWrite, "Increment the integer value of a hash field by the given number", hincrby),
    command("hincrbyfloat", 4, fastWrite, "Increment the float value of a hash field by the given amount", hincrbyfloat, "2.6.0"),
    command("hscan", -3, read, "Incrementally iterate hash fields and associated values", hscan, "2.8.0"),
    command("hrandfield", -2, read, "Get one or multiple random fields from a hash", hrandfield, "6.2.0"),
  ];
}

const zero = bytesOf("0");

/** Copies of all fields, or of the one at a position. */
function allFields(hash: Hash, at = -1): { readonly name: Uint8Array; readonly value: Uint8Array }[] {
  const fields: { readonly name: Uint8Array; readonly value: Uint8Array }[] = [];
  let i = 0;
  hash.each(({ name, value }) => {
    if (at === -1 || i++ === at) fields.push({ name: name.slice(), value: value.slice() });
  });
  return fields;
}
