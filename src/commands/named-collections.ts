// Vector collections as keys of Redis. DEL, UNLINK, EXISTS, TOUCH and TYPE know them; MGET has nil for them; every other command on keys, strings and hashes answers WRONGTYPE for their
// names, as V commands do for a string's. So one name is one thing, and no SET hides or overwrites a collection. KEYS, SCAN and DBSIZE do not list them (VLIST does).
// Cost: some 10 ns a key where no collection's name has its length, first and last byte; else a decoding. Concurrency: the serving loop.

import type { VectorService } from "#vectors/vector-service";
import type { Args, Call, CommandSpec } from "#wire/resp-command";
import { texts } from "./data-command.ts";

export interface NamedCollections {
  /** The collection of that key; undefined when it is none. */
  nameOf(key: Uint8Array): string | undefined;
  /** False when no collection can have the key `buffer[start..end)`. */
  mayName(buffer: Uint8Array, start: number, end: number): boolean;
  /** False when it was gone already. Throws for one that is read only. */
  drop(name: string): Promise<boolean>;
}

/** Commands that know collections, or for which a key of another type is no error. */
const knowing = new Set(["del", "unlink", "exists", "touch", "type", "mget", "watch"]);

const sieveBits = 14;

/** Of length, first and last byte. */
function placeIn(length: number, first: number, last: number): number {
  return ((length & 31) << 9) ^ (first << 5) ^ last;
}

/** Over all collections of a server. */
export function namedCollections(vectors: Pick<VectorService, "shapeOf" | "drop" | "names" | "namesChanged">): NamedCollections {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const encoder = new TextEncoder();
  /** 1 where a collection's name may be. */
  const sieve = new Uint8Array(1 << sieveBits);
  let sievedAt = -1;
  const sift = (): void => {
    sieve.fill(0);
    for (const name of vectors.names()) {
      const bytes = encoder.encode(name);
      if (bytes.length > 0) sieve[placeIn(bytes.length, bytes[0]!, bytes[bytes.length - 1]!)] = 1;
    }
    sievedAt = vectors.namesChanged;
  };
  const mayName = (buffer: Uint8Array, start: number, end: number): boolean => {
    if (sievedAt !== vectors.namesChanged) sift();
    return end > start && sieve[placeIn(end - start, buffer[start]!, buffer[end - 1]!)] === 1;
  };
  return {
    mayName,
    nameOf(key) {
      if (!mayName(key, 0, key.length)) return undefined;
      let name: string;
      try {
        name = decoder.decode(key);
      } catch {
        return undefined;
      }
      return vectors.shapeOf(name) === undefined ? undefined : name;
    },
    drop: (name) => vectors.drop(name),
  };
}

/** The command, refusing names of collections unless it knows them. */
export function besideCollections(spec: CommandSpec, collections: NamedCollections): CommandSpec {
  const { keys } = spec;
  if (keys === undefined || knowing.has(spec.name)) return spec;
  const isNamed = (args: Args, i: number): boolean =>
    collections.mayName(args.buffer, args.start(i), args.end(i)) && collections.nameOf(args.bytes(i)) !== undefined;
  const names = ({ args }: Call): boolean => {
    if (typeof keys === "function") return keys(args).some((i) => isNamed(args, i));
    const last = keys.last < 0 ? args.count + keys.last : keys.last;
    for (let i = keys.first; i <= last; i += keys.step) if (isNamed(args, i)) return true;
    return false;
  };
  const { runMany } = spec;
  const run = (call: Call): void | Promise<void> => {
    if (!names(call)) return spec.run(call);
    call.reply.error(texts.wrongType);
    return undefined;
  };
  if (runMany === undefined) return { ...spec, run };
  return {
    ...spec,
    run,
    runMany(calls) {
      if (!calls.some(names)) return runMany.call(spec, calls);
      // What is run in batches never waits.
      for (const call of calls) void run(call);
      return undefined;
    },
  };
}
