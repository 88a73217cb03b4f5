// Times in the arguments of commands: seconds or milliseconds, from now or absolute, to absolute milliseconds.
// Limits: expiries are kept up to the year 10889 (six bytes); later ones are kept as that.

import { expiryMsMax } from "#features/keyspace/hash-row";
import { int64Max, int64Min } from "#features/keyspace/decimal-integer";
import { CommandError, integerAt } from "./data-command.ts";
import type { Args } from "#wire/resp-command";

export interface TimeUnit {
  readonly seconds: boolean;
  readonly absolute: boolean;
}

/** By the option's word. */
export const timeUnits: Readonly<Record<string, TimeUnit>> = {
  EX: { seconds: true, absolute: false },
  PX: { seconds: false, absolute: false },
  EXAT: { seconds: true, absolute: true },
  PXAT: { seconds: false, absolute: true },
};

/** The word of a time option at `i`, or `undefined`. */
export function timeWordAt(args: Args, i: number): string | undefined {
  for (const word in timeUnits) if (args.is(i, word)) return word;
  return undefined;
}

/** The absolute time in milliseconds, perhaps past or negative. Throws "invalid expire time" as Redis does. */
export function absoluteMs(value: number | bigint, unit: TimeUnit, nowMs: number, command: string): number {
  let when = BigInt(value);
  if (unit.seconds) {
    if (when > int64Max / 1000n || when < int64Min / 1000n) throw invalidExpire(command);
    when *= 1000n;
  }
  if (!unit.absolute) {
    if (when > int64Max - BigInt(nowMs)) throw invalidExpire(command);
    when += BigInt(nowMs);
  }
  return Number(when);
}

/** The same where only a positive time is one (SET, GETEX, HSETEX). */
export function positiveMs(args: Args, i: number, unit: TimeUnit, nowMs: number, command: string): number {
  const value = integerAt(args, i);
  if (value <= 0) throw invalidExpire(command);
  return storable(absoluteMs(value, unit, nowMs, command));
}

export function storable(ms: number): number {
  return Math.min(ms, expiryMsMax);
}

export function invalidExpire(command: string): CommandError {
  return new CommandError(`ERR invalid expire time in '${command}' command`);
}
