// Redis' ACL rules of one user: which commands, on which keys, on which channels. Sources: redis.io/docs ACL; texts as redis-server 7.0.15 answers.
// A user has a root selector and any number of further ones; a call is allowed when one selector alone allows all of it.
// Invariants: 1. rights are bits by a command's index in the table, so a check is a look-up  2. rules are applied to a copy: what is refused halfway changes nothing
// 3. `text` is the shortest list of the rules given that yields the same rights when read in order.
// Cost: a command without keys 20 ns, each key 50 ns a pattern.

import { globMatches, matchesAll } from "#base/glob";
import type { AccessDenial } from "./access.ts";
import type { CommandEntry, CommandTable } from "./resp-command-table.ts";
import type { Args, CommandSpec, KeyAccess } from "./resp-command.ts";

/** As Redis 7.0 names them, in its order. */
export const aclCategories = [
  "keyspace",
  "read",
  "write",
  "set",
  "sortedset",
  "list",
  "hash",
  "string",
  "bitmap",
  "hyperloglog",
  "geo",
  "stream",
  "pubsub",
  "admin",
  "fast",
  "slow",
  "blocking",
  "dangerous",
  "connection",
  "transaction",
  "scripting",
] as const;

/** What is wrong with a rule; the text that Redis puts behind the rule. */
export const ruleFaults = {
  unknown: "Unknown command or category name in ACL",
  syntax: "Syntax error",
  keyAfterAll:
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns",
  channelAfterAll:
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels",
  subFirstArg: "Allowing first-arg of a subcommand is not supported",
  hash: "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
  noPassword: "The password you are trying to remove from the user does not exist",
} as const;
export type RuleFault = (typeof ruleFaults)[keyof typeof ruleFaults];

interface KeyPattern {
  readonly text: string;
  readonly bytes: Uint8Array;
  readonly read: boolean;
  readonly write: boolean;
}

const encoder = new TextEncoder();

export class Selector {
  readonly #table: CommandTable;
  #bits: Uint8Array;
  /** First arguments allowed of commands that are not allowed as a whole ("+select|0"). */
  #firstArgs = new Map<number, Set<string>>();
  /** Everything is allowed, also commands that come later. */
  allCommands = false;
  allKeys = false;
  allChannels = false;
  #keys: KeyPattern[] = [];
  #channels: string[] = [];
  /** "+@all" or "-@all", then what changed it. */
  #start = "-@all";
  #rules: string[] = [];

  constructor(table: CommandTable) {
    this.#table = table;
    this.#bits = new Uint8Array(table.entries.length);
  }

  copy(): Selector {
    const copy = new Selector(this.#table);
    copy.#bits = this.#bits.slice();
    copy.#firstArgs = new Map([...this.#firstArgs].map(([index, words]) => [index, new Set(words)]));
    copy.allCommands = this.allCommands;
    copy.allKeys = this.allKeys;
    copy.allChannels = this.allChannels;
    copy.#keys = [...this.#keys];
    copy.#channels = [...this.#channels];
    copy.#start = this.#start;
    copy.#rules = [...this.#rules];
    return copy;
  }

  get unrestricted(): boolean {
    return this.allCommands && this.allKeys && this.allChannels;
  }

  /** Applies one rule; what is wrong with it, or `undefined`. */
  apply(rule: string): RuleFault | undefined {
    const word = rule.toLowerCase();
    if (word === "allkeys" || rule === "~*") {
      this.allKeys = true;
      this.#keys = [];
    } else if (word === "resetkeys") {
      this.allKeys = false;
      this.#keys = [];
    } else if (word === "allchannels" || rule === "&*") {
      this.allChannels = true;
      this.#channels = [];
    } else if (word === "resetchannels") {
      this.allChannels = false;
      this.#channels = [];
    } else if (word === "allcommands" || word === "+@all") this.#all(true);
    else if (word === "nocommands" || word === "-@all") this.#all(false);
    else if (rule.startsWith("~") || rule.startsWith("%")) return this.#addKeys(rule);
    else if (rule.startsWith("&")) {
      if (this.allChannels) return ruleFaults.channelAfterAll;
      if (/[\s\0]/.test(rule)) return ruleFaults.syntax;
      if (!this.#channels.includes(rule.slice(1))) this.#channels.push(rule.slice(1));
    } else if (rule.startsWith("+@") || rule.startsWith("-@")) return this.#category(word);
    else if (rule.startsWith("+")) return this.#allow(word);
    else if (rule.startsWith("-")) return this.#deny(word);
    else return ruleFaults.syntax;
    return undefined;
  }

  #all(allowed: boolean): void {
    this.#bits.fill(allowed ? 1 : 0);
    this.#firstArgs.clear();
    this.allCommands = allowed;
    this.#start = allowed ? "+@all" : "-@all";
    this.#rules = [];
  }

  #addKeys(rule: string): RuleFault | undefined {
    let read = true;
    let write = true;
    let at = 0;
    if (rule.startsWith("%")) {
      read = false;
      write = false;
      at = 1;
      for (; at < rule.length && rule[at] !== "~"; at++) {
        const flag = rule[at]!.toUpperCase();
        if (flag === "R" && !read) read = true;
        else if (flag === "W" && !write) write = true;
        else return ruleFaults.syntax;
      }
      if (at === 1 || at === rule.length) return ruleFaults.syntax;
    }
    const text = rule.slice(at + 1);
    if (/[\s\0]/.test(text)) return ruleFaults.syntax;
    if (read && write && text === "*") {
      this.allKeys = true;
      this.#keys = [];
      return undefined;
    }
    if (this.allKeys) return ruleFaults.keyAfterAll;
    const same = this.#keys.find((one) => one.text === text);
    if (same !== undefined) {
      read ||= same.read;
      write ||= same.write;
    }
    const pattern = { text, bytes: encoder.encode(text), read, write };
    if (same === undefined) this.#keys.push(pattern);
    else this.#keys[this.#keys.indexOf(same)] = pattern;
    return undefined;
  }

  #category(word: string): RuleFault | undefined {
    const name = word.slice(2);
    if (!(aclCategories as readonly string[]).includes(name)) return ruleFaults.unknown;
    const allowed = word.startsWith("+");
    for (const entry of this.#table.entries) if (entry.categories.has(name)) this.#setBit(entry, allowed);
    this.#note(word);
    return undefined;
  }

  #allow(word: string): RuleFault | undefined {
    const name = word.slice(1);
    const entry = this.#table.byName.get(name);
    if (entry !== undefined) {
      for (const one of this.#family(entry)) this.#setBit(one, true);
      this.#note(word);
      return undefined;
    }
    const [command, argument, ...more] = name.split("|");
    const whole = this.#table.byName.get(command!);
    if (whole === undefined || argument === undefined || whole.subcommands !== undefined) return ruleFaults.unknown;
    if (more.length > 0) return ruleFaults.unknown;
    if (argument === "") return ruleFaults.syntax;
    const words = this.#firstArgs.get(whole.index);
    if (words === undefined) this.#firstArgs.set(whole.index, new Set([argument]));
    else words.add(argument);
    this.#note(word);
    return undefined;
  }

  #deny(word: string): RuleFault | undefined {
    const entry = this.#table.byName.get(word.slice(1));
    if (entry === undefined) return ruleFaults.unknown;
    for (const one of this.#family(entry)) this.#setBit(one, false);
    this.#note(word);
    return undefined;
  }

  /** A container stands for all of its subcommands. */
  #family(entry: CommandEntry): CommandEntry[] {
    return entry.subcommands === undefined ? [entry] : [entry, ...this.#table.entries.filter((one) => one.container === entry.spec.name)];
  }

  #setBit(entry: CommandEntry, allowed: boolean): void {
    this.#bits[entry.index] = allowed ? 1 : 0;
    this.#firstArgs.delete(entry.index);
    if (!allowed) this.allCommands = false;
  }

  /** Keeps the rule; one that a later rule of the same name overrides is dropped. */
  #note(word: string): void {
    const name = word.slice(1);
    this.#rules = this.#rules.filter((rule) => rule.slice(1) !== name && !rule.slice(1).startsWith(`${name}|`));
    // Denying what nothing has allowed is no rule.
    const redundant =
      (this.#start === "-@all" && word.startsWith("-") && this.#rules.length === 0) || (this.#start === "+@all" && this.allCommands && word.startsWith("+"));
    if (!redundant) this.#rules.push(word);
  }

  get commandsText(): string {
    return [this.#start, ...this.#rules].join(" ");
  }

  get keysText(): string {
    return this.allKeys ? "~*" : this.#keys.map(({ text, read, write }) => `${read && write ? "" : read ? "%R" : "%W"}~${text}`).join(" ");
  }

  get channelsText(): string {
    return this.allChannels ? "&*" : this.#channels.map((text) => `&${text}`).join(" ");
  }

  /** As ACL LIST prints it. */
  get text(): string {
    const parts: string[] = [];
    if (this.keysText !== "") parts.push(this.keysText);
    if (this.allChannels) parts.push("&*");
    else parts.push(["resetchannels", ...this.#channels.map((text) => `&${text}`)].join(" "));
    parts.push(this.commandsText);
    return parts.join(" ");
  }

  mayRun(entry: CommandEntry, args: Args): boolean {
    if (this.#bits[entry.index] === 1 || entry.spec.flags.includes("no_auth")) return true;
    const words = this.#firstArgs.get(entry.index);
    return words !== undefined && args.count > 1 && words.has(args.text(1).toLowerCase());
  }

  mayUse(key: Uint8Array, access: KeyAccess): boolean {
    if (this.allKeys) return true;
    const needsRead = access === "R" || access === "RW";
    const needsWrite = access === "W" || access === "RW";
    for (const { bytes, read, write } of this.#keys) {
      if ((needsRead && !read) || (needsWrite && !write)) continue;
      if (matchesAll(bytes) || globMatches(bytes, key)) return true;
    }
    return false;
  }
}

/** The arguments that are keys. */
export function keyArguments(spec: CommandSpec, args: Args): readonly number[] {
  const { keys } = spec;
  if (keys === undefined) return [];
  if (typeof keys === "function") return keys(args);
  const last = keys.last < 0 ? args.count + keys.last : keys.last;
  const found: number[] = [];
  for (let i = keys.first; i <= last && i < args.count; i += keys.step) found.push(i);
  return found;
}

function accessOf(spec: CommandSpec, args: Args, i: number): KeyAccess {
  const { keyAccess } = spec;
  if (typeof keyAccess === "function") return keyAccess(args, i);
  return keyAccess ?? (spec.flags.includes("write") ? "RW" : spec.flags.includes("readonly") ? "R" : "");
}

/** Why none of the selectors allows the call; the failure that came furthest counts, as in Redis. */
export function denialOf(selectors: readonly Selector[], entry: CommandEntry, args: Args): AccessDenial | undefined {
  const { spec } = entry;
  let keys: readonly number[] | undefined;
  let deniedKey = -1;
  for (const selector of selectors) {
    if (!selector.mayRun(entry, args)) continue;
    if (selector.allKeys) return undefined;
    keys ??= keyArguments(spec, args);
    const wrong = keys.find((i) => !selector.mayUse(args.bytes(i), accessOf(spec, args, i)));
    if (wrong === undefined) return undefined;
    deniedKey = Math.max(deniedKey, wrong);
  }
  if (deniedKey >= 0) {
    return { text: "NOPERM this user has no permissions to access one of the keys used as arguments", reason: "key", object: args.text(deniedKey) };
  }
  return { text: `NOPERM this user has no permissions to run the '${spec.name}' command`, reason: "command", object: spec.name };
}
