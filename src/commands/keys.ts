// The commands on keys of any type and on the whole database, with Redis 7.0's semantics and texts.
// What takes the whole database (KEYS, DBSIZE, FLUSHALL) goes in slices and gives the loop away between them, so that it holds up nobody but its own
// connection; inside a transaction it goes in one.
// DBSIZE counts: there is no counter to keep right over expiry and replay, and no write pays for one.

import { globMatches, literalPrefix, matchesAll } from "#base/glob";
import { int64Max, parseInteger } from "#features/keyspace/decimal-integer";
import { decodeRow, hashRowLimits } from "#features/keyspace/hash-row";
import { Hashes } from "#features/keyspace/hashes";
import { justBefore } from "#features/keyspace/scan-cursors";
import { type Entry, fieldNamespace, userNamespace } from "#features/keyspace/keyspace";
import { entryKinds } from "#kernel/entry-record";
import { keyAfterPrefix } from "#lsm/store";
import type { Args, Call, CommandFlag, CommandSpec } from "#wire/resp-command";
import { CommandError, dataCommand, type DataParts, hold, integerAt, newKey, oneKey, texts } from "./data-command.ts";
import { absoluteMs, storable, type TimeUnit } from "./expiry-argument.ts";
import { readScanOptions, replyScan, scanCursorAt } from "./scan-argument.ts";

const nothing = new Uint8Array(0);
const noKey = -2;
const noExpiry = -1;
/** Longest text that Redis keeps inside its object, and in a small hash. */
const embeddedBytesMax = 44;
const smallFieldBytesMax = 64;
/** Integers that Redis keeps one object of. */
const sharedIntegers = 10_000;
const sharedReferences = 2_147_483_647;
/** Keys deleted by one write of FLUSHALL. */
const flushKeys = 1_024;
/** Keys among which RANDOMKEY chooses. */
const randomWindow = 32;
/** Bytes of keys that one KEYS answers. */
const keysReplyBytesMax = 256 << 20;

function typeOf(entry: Entry): "string" | "hash" {
  return Hashes.isHash(entry) ? "hash" : "string";
}

export function keyCommands(parts: DataParts): CommandSpec[] {
  const { keyspace, hashes, collections } = parts;
  const command = (
    name: string,
    arity: number,
    flags: readonly CommandFlag[],
    keys: CommandSpec["keys"],
    since: string,
    summary: string,
    body: (call: Call) => void | Promise<void>,
  ): CommandSpec => dataCommand(parts, { name, arity, flags, categories: ["keyspace"], group: "generic", keys, summary, since }, body);
  const dangerous = (spec: CommandSpec): CommandSpec => ({ ...spec, categories: [...spec.categories, "dangerous"] });
  const allKeys = { first: 1, last: -1, step: 1 };
  const twoKeys = { first: 1, last: 2, step: 1 };

  const remove = (call: Call): void | Promise<void> => {
    const { args, reply } = call;
    let removed = 0;
    const dropped = new Set<string>();
    for (let i = 1; i < args.count; i++) {
      const key = args.bytes(i);
      const entry = keyspace.find(key);
      const collection = collections?.nameOf(key);
      if (collection !== undefined) dropped.add(collection);
      if (entry === undefined) continue;
      hashes.remove(key, entry);
      // One that has the name of a collection too counts with it.
      if (collection === undefined) removed++;
    }
    if (dropped.size === 0) {
      reply.integer(removed);
      return undefined;
    }
    // A collection goes by itself: it is no part of the keyspace's write.
    if (!keyspace.inTransaction) hold(keyspace, call, keyspace.commit());
    return Promise.all([...dropped].map((name) => collections!.drop(name))).then((gone) => {
      reply.integer(removed + gone.filter(Boolean).length);
    });
  };
  const countExisting = ({ args, reply }: Call): void => {
    let there = 0;
    for (let i = 1; i < args.count; i++) {
      const key = args.bytes(i);
      if (keyspace.find(key) !== undefined || collections?.nameOf(key) !== undefined) there++;
    }
    reply.integer(there);
  };

  const rename = (onlyNew: boolean) => {
    return ({ args, reply }: Call): void => {
      const from = args.bytes(1);
      const to = newKey(args, 2);
      const entry = keyspace.find(from);
      if (entry === undefined) throw new CommandError(texts.noKey);
      const same = sameBytes(from, to);
      if (onlyNew && (same || keyspace.find(to) !== undefined)) {
        reply.integer(0);
        return;
      }
      if (!same) {
        const old = onlyNew ? undefined : keyspace.find(to);
        if (old !== undefined && old.kind === entryKinds.hashMeta) keyspace.onOrphans();
        hashes.transfer(entry, from, to, true);
      }
      if (onlyNew) reply.integer(1);
      else reply.ok();
    };
  };

  const copy = ({ args, reply }: Call): void => {
    const from = args.bytes(1);
    const to = newKey(args, 2);
    let replace = false;
    for (let i = 3; i < args.count; i++) {
      if (args.is(i, "REPLACE")) replace = true;
      else if (args.is(i, "DB") && i + 1 < args.count) {
        if (integerAt(args, ++i) !== 0) throw new CommandError("ERR DB index is out of range");
      } else throw new CommandError(texts.syntax);
    }
    if (sameBytes(from, to)) throw new CommandError("ERR source and destination objects are the same");
    const entry = keyspace.find(from);
    if (entry === undefined || (!replace && keyspace.find(to) !== undefined)) {
      reply.integer(0);
      return;
    }
    hashes.transfer(entry, from, to, false);
    reply.integer(1);
  };

  const randomkey = ({ reply }: Call): void => {
    const key = randomKey();
    if (key === undefined) reply.nil();
    else reply.bulk(key);
  };
  const keysFrom = (from: Uint8Array): Uint8Array[] => {
    const found: Uint8Array[] = [];
    let next: Uint8Array | undefined = from;
    while (next !== undefined && found.length < randomWindow) {
      next = keyspace.walkSlice(userNamespace, next, undefined, (key, entry) => {
        if (keyspace.isAlive(entry)) found.push(key.slice());
        return found.length < randomWindow;
      });
    }
    return found;
  };
  /** One of the keys that follow a random place between the first and the last key. */
  const randomKey = (): Uint8Array | undefined => {
    const { random } = keyspace;
    const first = keysFrom(nothing);
    if (first.length === 0) return undefined;
    const last = first.length < randomWindow ? undefined : keyspace.lastKeyIn(userNamespace);
    if (last === undefined) return random.pick(first);
    const low = first[0]!;
    let shared = 0;
    while (shared < low.length && low[shared] === last[shared]) shared++;
    // Eight bytes behind what both begin with, drawn between theirs.
    const place = new Uint8Array(shared + 8);
    place.set(last.subarray(0, shared));
    const number = (key: Uint8Array): bigint => {
      let value = 0n;
      for (let i = 0; i < 8; i++) value = (value << 8n) | BigInt(key[shared + i] ?? 0);
      return value;
    };
    const span = number(last) - number(low) + 1n;
    const drawn = number(low) + (((BigInt(random.u32()) << 32n) | BigInt(random.u32())) * span) / 2n ** 64n;
    new DataView(place.buffer).setBigUint64(shared, drawn);
    const found = keysFrom(place);
    return random.pick(found.length === 0 ? first : found);
  };

  const keys = ({ args, reply }: Call): void | Promise<void> => {
    const pattern = args.bytes(1).slice();
    const all = matchesAll(pattern);
    const prefix = literalPrefix(pattern);
    const found: Uint8Array[] = [];
    let bytes = 0;
    const wait = keyspace.walkKeys(prefix, prefix.length === 0 ? undefined : keyAfterPrefix(prefix), (key) => {
      if (all || globMatches(pattern, key)) {
        found.push(key.slice());
        bytes += key.length;
      }
      return bytes <= keysReplyBytesMax;
    });
    const answer = (): void => {
      if (bytes > keysReplyBytesMax) {
        reply.error(`ERR KEYS found more than ${keysReplyBytesMax} bytes of keys: use SCAN`);
        return;
      }
      reply.array(found.length);
      for (const key of found) reply.bulk(key);
    };
    if (wait !== undefined) return wait.then(answer);
    answer();
    return undefined;
  };

  const scan = ({ args, reply }: Call): void => {
    const cursor = scanCursorAt(args, 1);
    const options = readScanOptions(args, 2, true);
    const after = keyspace.cursors.after(cursor, "keys");
    const { prefix } = options;
    let from = prefix;
    if (after !== undefined) {
      from = new Uint8Array(after.length + 1);
      from.set(after);
    }
    let left = options.count;
    let last: Uint8Array | undefined;
    let more = false;
    const found: Uint8Array[] = [];
    const next = keyspace.walkSome(userNamespace, from, prefix.length === 0 ? undefined : keyAfterPrefix(prefix), (key, entry) => {
      if (left === 0) {
        more = true;
        return false;
      }
      left--;
      last = key.slice();
      if (options.matches(key) && (options.type === undefined || options.type === typeOf(entry)) && keyspace.isAlive(entry)) found.push(last);
      return true;
    });
    // Where a slice ended early the next key to look at is known, but not seen: going on behind its predecessor finds it.
    if (last === undefined && next !== undefined) last = justBefore(next);
    replyScan(reply, (more || next !== undefined) && last !== undefined ? keyspace.cursors.keep("keys", last) : 0, found);
  };

  const expire = (name: string, unit: TimeUnit): CommandSpec =>
    command(name, -3, ["write", "fast"], oneKey, unit.seconds && !unit.absolute ? "1.0.0" : "2.6.0", "Set a key's time to live", ({ args, reply }) => {
      const key = args.bytes(1);
      const { nx, xx, gt, lt } = readConditions(args, 3);
      const expiryMs = absoluteMs(integerAt(args, 2), unit, keyspace.nowMs, name);
      const entry = keyspace.find(key);
      const before = entry === undefined ? 0 : hashes.keyExpiry(entry);
      const refused =
        (nx && before !== 0) || (xx && before === 0) || (gt && (before === 0 || expiryMs <= before)) || (lt && before !== 0 && expiryMs >= before);
      if (entry === undefined || refused) {
        reply.integer(0);
        return;
      }
      if (expiryMs <= keyspace.nowMs) hashes.remove(key, entry);
      else hashes.setKeyExpiry(key, entry, storable(expiryMs));
      reply.integer(1);
    });

  const tell = (name: string, since: string, seconds: boolean, left: boolean): CommandSpec =>
    command(name, 2, ["readonly", "fast"], oneKey, since, "Get the expiration of a key", ({ args, reply }) => {
      const entry = keyspace.find(args.bytes(1));
      const expiryMs = entry === undefined ? 0 : hashes.keyExpiry(entry);
      if (entry === undefined) reply.integer(noKey);
      else if (expiryMs === 0) reply.integer(noExpiry);
      else {
        const ms = expiryMs - (left ? keyspace.nowMs : 0);
        reply.integer(seconds ? Math.floor((ms + 500) / 1_000) : ms);
      }
    });

  const persist = ({ args, reply }: Call): void => {
    const key = args.bytes(1);
    const entry = keyspace.find(key);
    const timed = entry !== undefined && hashes.keyExpiry(entry) !== 0;
    if (timed) hashes.setKeyExpiry(key, entry, 0);
    reply.integer(timed ? 1 : 0);
  };

  const dbsize = ({ reply }: Call): void | Promise<void> => {
    let count = 0;
    const wait = keyspace.walkKeys(nothing, undefined, () => {
      count++;
      return true;
    });
    if (wait === undefined) reply.integer(count);
    else {
      return wait.then(() => {
        reply.integer(count);
      });
    }
    return undefined;
  };

  const flush = (call: Call): void | Promise<void> => {
    const { args, reply } = call;
    if (args.count > 2 || (args.count === 2 && !args.is(1, "ASYNC") && !args.is(1, "SYNC"))) throw new CommandError(texts.syntax);
    if (keyspace.inTransaction) {
      void keyspace.walk(userNamespace, nothing, undefined, (key) => {
        // The visit's view would be another key's bytes on the next page.
        keyspace.remove(key.slice());
        return true;
      });
      keyspace.onOrphans();
      reply.ok();
      return undefined;
    }
    return flushAll(call);
  };
  const flushAll = (call: Call): void | Promise<void> => {
    const namespaces = [userNamespace, fieldNamespace];
    let namespace = namespaces.shift();
    let next: Uint8Array | undefined = nothing;
    /** One write; true at the end. */
    const step = (): boolean => {
      let left = flushKeys;
      const keysGone: Uint8Array[] = [];
      let stopped: Uint8Array | undefined;
      next = keyspace.walkSlice(namespace!, next!, undefined, (key) => {
        if (left-- === 0) {
          stopped = key.slice();
          return false;
        }
        keysGone.push(key.slice());
        return true;
      });
      for (const key of keysGone) {
        keyspace.removeIn(namespace!, key);
        if (namespace === userNamespace) keyspace.touch(key);
      }
      hold(keyspace, call, keyspace.commit());
      next = stopped ?? next;
      if (next !== undefined) return false;
      namespace = namespaces.shift();
      next = nothing;
      return namespace === undefined;
    };
    const go = async (): Promise<void> => {
      do {
        await keyspace.clock.yield();
        keyspace.begin();
      } while (!step());
      call.reply.ok();
    };
    // What fits into two writes is gone before the next command of anybody.
    if (step() || step()) {
      call.reply.ok();
      return undefined;
    }
    return go();
  };

  const object = (name: string, summary: string, body: (entry: Entry, call: Call) => void): CommandSpec =>
    command(`object|${name}`, 3, ["readonly"], { first: 2, last: 2, step: 1 }, "2.2.3", summary, (call) => {
      const entry = keyspace.find(call.args.bytes(2));
      if (entry === undefined) call.reply.nil();
      else body(entry, call);
    });

  const read: readonly CommandFlag[] = ["readonly"];
  const fastRead: readonly CommandFlag[] = ["readonly", "fast"];
  const write: readonly CommandFlag[] = ["write"];
  return [
    command("del", -2, write, allKeys, "1.0.0", "Delete a key", remove),
    command("unlink", -2, ["write", "fast"], allKeys, "4.0.0", "Delete a key asynchronously in another thread", remove),
    command("exists", -2, fastRead, allKeys, "1.0.0", "Determine if a key exists", countExisting),
    command("touch", -2, fastRead, allKeys, "3.2.1", "Alters the last access time of a key(s). Returns the number of existing keys specified", countExisting),
    command("type", 2, fastRead, oneKey, "1.0.0", "Determine the type stored at key", ({ args, reply }) => {
      const key = args.bytes(1);
      const entry = keyspace.find(key);
      reply.simple(collections?.nameOf(key) !== undefined ? "vectorset" : entry === undefined ? "none" : typeOf(entry));
    }),
    command("rename", 3, write, twoKeys, "1.0.0", "Rename a key", rename(false)),
    command("renamenx", 3, ["write", "fast"], twoKeys, "1.0.0", "Rename a key, only if the new key does not exist", rename(true)),
    command("copy", -3, ["write", "denyoom"], twoKeys, "6.2.0", "Copy a key", copy),
    command("randomkey", 1, read, undefined, "1.0.0", "Return a random key from the keyspace", randomkey),
    dangerous(command("keys", 2, read, undefined, "1.0.0", "Find all keys matching the given pattern", keys)),
    command("scan", -2, read, undefined, "2.8.0", "Incrementally iterate the keys space", scan),
    expire("expire", { seconds: true, absolute: false }),
    expire("pexpire", { seconds: false, absolute: false }),
    expire("expireat", { seconds: true, absolute: true }),
    expire("pexpireat", { seconds: false, absolute: true }),
    tell("ttl", "1.0.0", true, true),
    tell("pttl", "2.6.0", false, true),
    tell("expiretime", "7.0.0", true, false),
    tell("pexpiretime", "7.0.0", false, false),
    command("persist", 2, ["write", "fast"], oneKey, "2.2.0", "Remove the expiration from a key", persist),
    command("dbsize", 1, fastRead, undefined, "1.0.0", "Return the number of keys in the selected database", dbsize),
    dangerous(command("flushdb", -1, write, undefined, "1.0.0", "Remove all keys from the current database", flush)),
    dangerous(command("flushall", -1, write, undefined, "1.0.0", "Remove all keys from all databases", flush)),
    object("encoding", "Inspect the internal encoding of a Redis object", (entry, { reply }) => {
      reply.bulk(encodingOf(entry));
    }),
    object("refcount", "Get the number of references to the value of the key", (entry, { reply }) => {
      const value = entry.kind === entryKinds.string ? parseInteger(entry.value) : undefined;
      reply.integer(value !== undefined && value >= 0 && value < sharedIntegers ? sharedReferences : 1);
    }),
    object("idletime", "Get the time since a Redis object was last accessed", (_entry, { reply }) => {
      reply.integer(0);
    }),
    object("freq", "Get the logarithmic access frequency counter of a Redis object", () => {
      throw new CommandError(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
      );
    }),
  ];
}

interface Conditions {
  readonly nx: boolean;
  readonly xx: boolean;
  readonly gt: boolean;
  readonly lt: boolean;
}

function readConditions(args: Args, from: number): Conditions {
  const found = { nx: false, xx: false, gt: false, lt: false };
  for (let i = from; i < args.count; i++) {
    if (args.is(i, "NX")) found.nx = true;
    else if (args.is(i, "XX")) found.xx = true;
    else if (args.is(i, "GT")) found.gt = true;
    else if (args.is(i, "LT")) found.lt = true;
    else throw new CommandError(`ERR Unsupported option ${args.text(i)}`);
  }
  if (found.nx && (found.xx || found.gt || found.lt)) throw new CommandError("ERR NX and XX, GT or LT options at the same time are not compatible");
  if (found.gt && found.lt) throw new CommandError("ERR GT and LT options at the same time are not compatible");
  return found;
}

/** What Redis would keep the value in, judged by the value as it is now. */
function encodingOf(entry: Entry): string {
  const { value } = entry;
  if (entry.kind === entryKinds.hashMeta) return "hashtable";
  if (entry.kind === entryKinds.hash) {
    const { fields } = decodeRow(value, entry.expiryMs, 0);
    const small = fields.every((field) => field.name.length <= smallFieldBytesMax && field.value.length <= smallFieldBytesMax);
    return small && fields.length <= hashRowLimits.fieldsMax ? "listpack" : "hashtable";
  }
  const integer = parseInteger(value);
  if (integer !== undefined && integer <= int64Max) return "int";
  return value.length <= embeddedBytesMax ? "embstr" : "raw";
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
