// What SCAN and HSCAN have in common: the cursor and options in the arguments, the shape of the reply.

import { globMatches, literalPrefix, matchesAll } from "#base/glob";
import type { Args, Reply } from "#wire/resp-command";
import { CommandError, integerAt, texts } from "./data-command.ts";

/** Entries looked at in one call at most, whatever COUNT says: the reply is written at once. */
const scanCountMax = 10_000;
const countDefault = 10;

export interface ScanOptions {
  readonly count: number;
  readonly matches: (text: Uint8Array) => boolean;
  /** What all matches begin with. */
  readonly prefix: Uint8Array;
  /** TYPE, in lower case. */
  readonly type: string | undefined;
}

const nothing = new Uint8Array(0);

/** A cursor: an unsigned number of 64 bits, read as C's strtoul does. */
export function scanCursorAt(args: Args, i: number): number | bigint {
  const text = args.text(i);
  if (!/^[+-]?\d+$/.test(text)) throw new CommandError("ERR invalid cursor");
  const value = BigInt(text);
  if (value > 2n ** 64n - 1n || value < -(2n ** 64n) + 1n) throw new CommandError("ERR invalid cursor");
  return Number(value);
}

export function readScanOptions(args: Args, from: number, withType: boolean): ScanOptions {
  let count = countDefault;
  let pattern: Uint8Array | undefined;
  let type: string | undefined;
  for (let i = from; i < args.count; i += 2) {
    const has = i + 1 < args.count;
    if (has && args.is(i, "COUNT")) {
      const value = integerAt(args, i + 1);
      if (value < 1) throw new CommandError(texts.syntax);
      count = Math.min(scanCountMax, Number(value));
    } else if (has && args.is(i, "MATCH")) {
      pattern = args.bytes(i + 1);
    } else if (has && withType && args.is(i, "TYPE")) {
      type = args.text(i + 1).toLowerCase();
    } else {
      throw new CommandError(texts.syntax);
    }
  }
  const wanted = pattern === undefined || matchesAll(pattern) ? undefined : pattern;
  return {
    count,
    matches: wanted === undefined ? () => true : (text) => globMatches(wanted, text),
    prefix: wanted === undefined ? nothing : literalPrefix(wanted),
    type,
  };
}

export function replyScan(reply: Reply, cursor: number, found: readonly Uint8Array[]): void {
  reply.array(2);
  reply.bulk(String(cursor));
  reply.array(found.length);
  for (const bytes of found) reply.bulk(bytes);
}
