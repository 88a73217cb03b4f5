// All commands of a server, found by the bytes of a name whatever their case; subcommands under their container.
// Why not a Map of strings: making a string of each name costs more than finding it.
// Invariants: 1. names are unique  2. `index` numbers all specs, containers and subcommands, from 0: ACL rules are bits by it  3. nothing is added after it was made.
// Cost: some 15 ns a look-up.

import { assert } from "#base/errors";
import type { CommandSpec } from "./resp-command.ts";

/** A command in the table with what the table and the server know of it. */
export class CommandEntry {
  readonly spec: CommandSpec;
  /** Number of its bit in ACL rules. */
  readonly index: number;
  /** Categories with those that follow from the flags. */
  readonly categories: ReadonlySet<string>;
  /** Of a container; `undefined` when the command has no subcommands. */
  readonly subcommands: CommandNames | undefined;
  /** The container of a subcommand. */
  readonly container: string | undefined;
  // Statistics, kept by the server and reset by CONFIG RESETSTAT.
  calls = 0;
  microseconds = 0;
  rejected = 0;
  failed = 0;

  constructor(spec: CommandSpec, index: number, subcommands: CommandNames | undefined) {
    this.spec = spec;
    this.index = index;
    this.subcommands = subcommands;
    const bar = spec.name.indexOf("|");
    this.container = bar < 0 ? undefined : spec.name.slice(0, bar);
    const categories = new Set(spec.categories);
    if (spec.flags.includes("readonly")) categories.add("read");
    if (spec.flags.includes("write")) categories.add("write");
    if (spec.flags.includes("admin")) categories.add("admin").add("dangerous");
    if (spec.flags.includes("blocking")) categories.add("blocking");
    categories.add(spec.flags.includes("fast") ? "fast" : "slow");
    this.categories = categories;
  }
}

/** Entries by name, open addressing. */
export class CommandNames {
  readonly #slots: (CommandEntry | undefined)[];
  readonly #names: (Uint8Array | undefined)[];
  readonly #mask: number;

  constructor(entries: readonly { readonly name: string; readonly entry: CommandEntry }[]) {
    let size = 8;
    while (size < entries.length * 4) size *= 2;
    this.#mask = size - 1;
    this.#slots = new Array<CommandEntry | undefined>(size).fill(undefined);
    this.#names = new Array<Uint8Array | undefined>(size).fill(undefined);
    for (const { name, entry } of entries) {
      const bytes = new TextEncoder().encode(name);
      assert(name === name.toLowerCase() && this.find(bytes, 0, bytes.length) === undefined, `the command name ${name} is new and in lower case`);
      let slot = hashOf(bytes, 0, bytes.length) & this.#mask;
      while (this.#slots[slot] !== undefined) slot = (slot + 1) & this.#mask;
      this.#slots[slot] = entry;
      this.#names[slot] = bytes;
    }
  }

  /** The entry whose name is `buffer[start..end)`, whatever the case. */
  find(buffer: Uint8Array, start: number, end: number): CommandEntry | undefined {
    let slot = hashOf(buffer, start, end) & this.#mask;
    for (;;) {
      const name = this.#names[slot];
      if (name === undefined) return undefined;
      if (sameName(name, buffer, start, end)) return this.#slots[slot];
      slot = (slot + 1) & this.#mask;
    }
  }
}

export class CommandTable {
  /** By `index`: containers and subcommands too. */
  readonly entries: readonly CommandEntry[];
  /** By full lower-case name ("get", "config", "config|get"). */
  readonly byName: ReadonlyMap<string, CommandEntry>;
  /** Commands that stand alone and containers. */
  readonly top: readonly CommandEntry[];
  readonly #names: CommandNames;

  /** Families one after another; a name may stand in one of them only. */
  constructor(...families: readonly (readonly CommandSpec[])[]) {
    const specs = families.flat();
    const ofContainer = new Map<string, CommandSpec[]>();
    const alone: CommandSpec[] = [];
    for (const spec of specs) {
      const bar = spec.name.indexOf("|");
      if (bar < 0) alone.push(spec);
      else {
        const container = spec.name.slice(0, bar);
        const list = ofContainer.get(container);
        if (list === undefined) ofContainer.set(container, [spec]);
        else list.push(spec);
      }
    }
    const named = new Set(alone.map((spec) => spec.name));
    for (const [name, subs] of ofContainer) if (!named.has(name)) alone.push(containerOf(name, subs));
    const entries: CommandEntry[] = [];
    const top: CommandEntry[] = [];
    for (const spec of alone) {
      const subs = ofContainer.get(spec.name);
      let names: CommandNames | undefined;
      if (subs !== undefined) {
        const members = subs.map((sub) => {
          const entry = new CommandEntry(sub, entries.length, undefined);
          entries.push(entry);
          return { name: sub.name.slice(spec.name.length + 1), entry };
        });
        names = new CommandNames(members);
      }
      const entry = new CommandEntry(spec, entries.length, names);
      entries.push(entry);
      top.push(entry);
    }
    this.entries = entries;
    this.top = top;
    this.#names = new CommandNames(top.map((entry) => ({ name: entry.spec.name, entry })));
    this.byName = new Map(entries.map((entry) => [entry.spec.name, entry]));
  }

  /** A command or a container by the bytes of its name. */
  find(buffer: Uint8Array, start: number, end: number): CommandEntry | undefined {
    return this.#names.find(buffer, start, end);
  }
}

/** A container has no work of its own: the server answers for it (arity, unknown subcommand). */
function containerOf(name: string, subs: readonly CommandSpec[]): CommandSpec {
  const [first] = subs;
  return {
    name,
    arity: -2,
    flags: [],
    // As in Redis: rights are of the subcommands.
    categories: [],
    keys: undefined,
    ...(first?.group === undefined ? {} : { group: first.group }),
    summary: `A container for ${name} commands.`,
    run(call) {
      call.reply.error(`ERR wrong number of arguments for '${name}' command`);
    },
  };
}

function hashOf(buffer: Uint8Array, start: number, end: number): number {
  let hash = end - start;
  for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (buffer[at]! | 0x20)) | 0;
  return hash ^ (hash >>> 15);
}

function sameName(name: Uint8Array, buffer: Uint8Array, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = 0; i < name.length; i++) {
    let byte = buffer[start + i]!;
    if (byte >= 65 && byte <= 90) byte |= 0x20;
    if (byte !== name[i]) return false;
  }
  return true;
}
