// How the commands on keys run: time taken, effects of one command written together, the reply held back until they are durable, errors answered.
// Why here: a command is then the reading of its arguments and what it does, and none forgets a step.
// Invariants: 1. what a command wrote goes to the store in one write, or with the whole transaction  2. a command that answers an error has written nothing
// 3. the reply leaves when the log's policy calls the write durable.

import type { Hashes } from "#features/keyspace/hashes";
import { type Entry, type Keyspace, keyspaceLimits } from "#features/keyspace/keyspace";
import { entryKinds } from "#kernel/entry-record";
import type { Args, Call, CommandFlag, CommandSpec, KeySpec } from "#wire/resp-command";
import { keyAccessOf } from "./key-access.ts";
import type { NamedCollections } from "./named-collections.ts";

/** What the families of commands on keys work on. */
export interface DataParts {
  readonly keyspace: Keyspace;
  readonly hashes: Hashes;
  /** Vector collections, which are keys too. */
  readonly collections?: NamedCollections;
}

/** Ends a command with an error for the client, before it has written anything. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

export const texts = {
  wrongType: "WRONGTYPE Operation against a key holding the wrong kind of value",
  syntax: "ERR syntax error",
  notInteger: "ERR value is not an integer or out of range",
  notFloat: "ERR value is not a valid float",
  overflow: "ERR increment or decrement would overflow",
  notFinite: "ERR increment would produce NaN or Infinity",
  noKey: "ERR no such key",
  outOfRange: "ERR value is out of range",
  tooLong: `ERR string exceeds maximum allowed size (${keyspaceLimits.valueBytesMax} bytes)`,
} as const;

/** What a batch of commands may leave unwritten: well below the limit of one write, with room for one more command. */
export const batchBytesMax = 1 << 20;

/** One key, the first argument; commands with it never wait, so they go in batches. */
export const oneKey: KeySpec = { first: 1, last: 1, step: 1 };

export interface CommandShape {
  readonly name: string;
  readonly arity: number;
  readonly flags: readonly CommandFlag[];
  readonly categories: readonly string[];
  readonly group: string;
  readonly keys: CommandSpec["keys"];
  readonly summary: string;
  readonly since?: string;
}

/** A command whose body answers, and puts into the keyspace or throws a CommandError before it does. */
export function dataCommand({ keyspace }: DataParts, shape: CommandShape, body: (call: Call) => void | Promise<void>): CommandSpec {
  const { keys, ...spec } = shape;
  const run = (call: Call): void | Promise<void> => perform(keyspace, call, body);
  const keyAccess = keyAccessOf(shape.name);
  const made: CommandSpec = { ...spec, keys, run, ...(keyAccess === undefined ? {} : { keyAccess }) };
  if (keys !== oneKey) return made;
  return {
    ...made,
    runMany: (calls) => {
      performMany(keyspace, calls, body);
    },
  };
}

/** Places of a batch's keys, reused. */
const places: { buffer: Uint8Array; start: number; end: number }[] = [];

/**
 * Consecutive calls of one command on a key each, none of which waits: one look-up of all keys and one write. They are as independent as before, but reach
 * the log together.
 */
function performMany(keyspace: Keyspace, calls: readonly Call[], body: (call: Call) => void | Promise<void>): void {
  if (keyspace.inTransaction) {
    for (const call of calls) void perform(keyspace, call, body);
    return;
  }
  places.length = Math.min(places.length, calls.length);
  for (let i = 0; i < calls.length; i++) {
    const { args } = calls[i]!;
    const place = (places[i] ??= { buffer: args.buffer, start: 0, end: 0 });
    place.buffer = args.buffer;
    place.start = args.start(1);
    place.end = args.end(1);
  }
  keyspace.beginBatch(places);
  try {
    for (let i = 0; i < calls.length; i++) {
      const call = calls[i]!;
      keyspace.select(i, places[i]!);
      try {
        void body(call);
      } catch (thrown) {
        if (!(thrown instanceof CommandError)) throw thrown;
        call.reply.error(thrown.message);
      }
      if (keyspace.pendingBytes > batchBytesMax) {
        hold(keyspace, calls[0]!, keyspace.commit());
        keyspace.beginBatch(places);
      }
    }
    hold(keyspace, calls[0]!, keyspace.commit());
  } catch (thrown) {
    keyspace.rollback();
    throw thrown;
  }
}

export function perform(keyspace: Keyspace, call: Call, body: (call: Call) => void | Promise<void>): void | Promise<void> {
  // In a transaction begin and commit are EXEC's.
  const own = !keyspace.inTransaction;
  if (own) keyspace.begin();
  try {
    const wait = body(call);
    if (wait !== undefined) return wait;
    if (own) hold(keyspace, call, keyspace.commit());
  } catch (thrown) {
    if (own) keyspace.rollback();
    if (!(thrown instanceof CommandError)) throw thrown;
    call.reply.error(thrown.message);
  }
  return undefined;
}

/** Holds the reply of a call until what it wrote is durable. -1: it wrote nothing. */
export function hold(keyspace: Keyspace, call: Call, ticket: number): void {
  if (ticket >= 0) call.hold(keyspace.store.durable(ticket));
}

/** The name of a command in an error: as it is called. */
export function wrongArguments(name: string): CommandError {
  return new CommandError(`ERR wrong number of arguments for '${name}' command`);
}

/** A key that is going to be written. */
export function newKey(args: Args, i: number): Uint8Array {
  const key = args.bytes(i);
  if (key.length > keyspaceLimits.keyBytesMax) throw new CommandError(`ERR key exceeds maximum allowed size (${keyspaceLimits.keyBytesMax} bytes)`);
  return key;
}

/** The string under a key; `undefined` when there is none. */
export function stringAt(keyspace: Keyspace, key: Uint8Array): Entry | undefined {
  const entry = keyspace.find(key);
  if (entry !== undefined && entry.kind !== entryKinds.string) throw new CommandError(texts.wrongType);
  return entry;
}

export function integerAt(args: Args, i: number, text: string = texts.notInteger): number | bigint {
  const value = args.integer(i);
  if (value === undefined) throw new CommandError(text);
  return value;
}

/** An integer as a number that may have lost its last digits: for comparisons and clamping, where they do not matter. */
export function roughAt(args: Args, i: number, text: string = texts.notInteger): number {
  return Number(integerAt(args, i, text));
}

const encoder = new TextEncoder();
export function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The decimal text of an integer. */
export function decimalBytes(value: number | bigint): Uint8Array {
  const text = value.toString();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
