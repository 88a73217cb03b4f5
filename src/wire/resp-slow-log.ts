// The slowest calls lately, for SLOWLOG. Arguments are cut as Redis cuts them; those of AUTH, HELLO, ACL, CONFIG SET and MIGRATE are never kept, since they may hold
// a password.
// Limits: `entriesMax` entries, 32 arguments each, 128 bytes of an argument.

import type { Args } from "./resp-command.ts";

export interface SlowCall {
  readonly id: number;
  readonly atSeconds: number;
  readonly microseconds: number;
  readonly args: readonly string[];
  readonly client: string;
  readonly clientName: string;
}

const argsMax = 32;
const argBytesMax = 128;
const secret = new Set(["auth", "hello", "acl", "config", "migrate"]);

export class SlowLog {
  /** Calls that took longer are kept, in microseconds; negative: none. CONFIG: slowlog-log-slower-than. */
  thresholdUs = 10_000;
  /** CONFIG: slowlog-max-len. */
  entriesMax = 128;
  #next = 0;
  /** Newest first. */
  #entries: SlowCall[] = [];

  get length(): number {
    return this.#entries.length;
  }

  /** The newest `count`, newest first; all for -1. */
  newest(count: number): readonly SlowCall[] {
    return count < 0 ? this.#entries : this.#entries.slice(0, count);
  }

  clear(): void {
    this.#entries = [];
  }

  add(args: Args, microseconds: number, nowMs: number, client: string, clientName: string): void {
    const kept: string[] = [];
    const name = args.text(0);
    const redacted = secret.has(name.toLowerCase());
    const many = args.count > argsMax;
    for (let i = 0; i < (many ? argsMax - 1 : args.count); i++) {
      if (i > 0 && redacted) kept.push("(redacted)");
      else {
        const bytes = args.end(i) - args.start(i);
        kept.push(
          bytes > argBytesMax ? `${new TextDecoder().decode(args.bytes(i).subarray(0, argBytesMax))}... (${bytes - argBytesMax} more bytes)` : args.text(i),
        );
      }
    }
    if (many) kept.push(`... (${args.count - argsMax + 1} more arguments)`);
    this.#entries.unshift({ id: this.#next++, atSeconds: Math.floor(nowMs / 1000), microseconds: Math.round(microseconds), args: kept, client, clientName });
    if (this.#entries.length > this.entriesMax) this.#entries.length = Math.max(0, this.entriesMax);
  }
}
