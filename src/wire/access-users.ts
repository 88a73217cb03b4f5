// The authenticator: users from the configuration, changed at run time by ACL SETUSER, for RESP and HTTP alike.
// Invariants: 1. secrets are kept as SHA-256 only and compared in constant time  2. a change of rules binds open connections at once; a user who is deleted or
// switched off loses them (Redis keeps the connections of a user who is off)  3. without configuration the default user may do everything, and every port
// stays on loopback.
// Limits: accessLimits; ACL LOG keeps `logEntriesMax` entries and joins equal ones of a minute.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import { sameDigest, sha256Hex } from "#platform/sha256";
import { type AccessConfig, accessLimits, type AccessUserConfig } from "./access-config.ts";
import { denialOf, type RuleFault, ruleFaults, Selector } from "./access-rules.ts";
import { type AccessDenial, type AccessRefusal, type AccessScope, accessScopes, type AccessUser, type Authenticator } from "./access.ts";
import type { CommandTable } from "./resp-command-table.ts";
import type { Args, CommandSpec, SessionUser } from "./resp-command.ts";

/** CONFIG: acllog-max-len. */
const logEntriesMax = 128;
const sameEntryMs = 60_000;
/** Compared with when there is no user: no password has it. */
const noDigest = "0".repeat(64);

/** The rules of a user that may change; copied, changed, put back. */
class Rights {
  enabled = false;
  noPassword = false;
  passwords: string[] = [];
  root: Selector;
  selectors: Selector[] = [];

  constructor(table: CommandTable) {
    this.root = new Selector(table);
  }
}

class User implements AccessUser {
  readonly name: string;
  readonly #table: CommandTable;
  rights: Rights;
  tokens: readonly string[] = [];
  scopes: ReadonlySet<AccessScope> = new Set();

  constructor(name: string, table: CommandTable) {
    this.name = name;
    this.#table = table;
    this.rights = new Rights(table);
  }

  get enabled(): boolean {
    return this.rights.enabled;
  }

  get unrestricted(): boolean {
    return this.rights.root.unrestricted;
  }

  denial(spec: CommandSpec, args: Args): AccessDenial | undefined {
    const entry = this.#table.byName.get(spec.name);
    if (entry === undefined) return { text: `NOPERM this user has no permissions to run the '${spec.name}' command`, reason: "command", object: spec.name };
    const { root, selectors } = this.rights;
    return denialOf(selectors.length === 0 ? [root] : [root, ...selectors], entry, args);
  }

  refusal(spec: CommandSpec, args: Args): string | undefined {
    return this.denial(spec, args)?.text;
  }

  /** Applies rules in order, all or none: [the rule, what is wrong with it], or `undefined`. */
  change(rules: readonly string[]): [rule: string, fault: RuleFault] | undefined {
    const next = new Rights(this.#table);
    const { rights } = this;
    next.enabled = rights.enabled;
    next.noPassword = rights.noPassword;
    next.passwords = [...rights.passwords];
    next.root = rights.root.copy();
    next.selectors = rights.selectors.map((one) => one.copy());
    for (const rule of rules) {
      const fault = applyRule(next, rule, this.#table);
      if (fault !== undefined) return [rule, fault];
    }
    this.rights = next;
    return undefined;
  }

  /** As ACL LIST prints it, without the word "user" and the name. */
  get text(): string {
    const { rights } = this;
    const parts = [rights.enabled ? "on" : "off"];
    if (rights.noPassword) parts.push("nopass");
    for (const password of rights.passwords) parts.push(`#${password}`);
    parts.push(rights.root.text);
    for (const selector of rights.selectors) parts.push(`(${selector.text})`);
    return parts.join(" ");
  }
}

function applyRule(rights: Rights, rule: string, table: CommandTable): RuleFault | undefined {
  const word = rule.toLowerCase();
  if (word === "on") rights.enabled = true;
  else if (word === "off") rights.enabled = false;
  else if (word === "nopass") {
    rights.noPassword = true;
    rights.passwords = [];
  } else if (word === "resetpass") {
    rights.noPassword = false;
    rights.passwords = [];
  } else if (word === "sanitize-payload" || word === "skip-sanitize-payload") {
    // Payloads are always checked.
  } else if (rule.startsWith(">") || rule.startsWith("#")) {
    const digest = rule.startsWith(">") ? sha256Hex(rule.slice(1)) : rule.slice(1);
    if (!/^[0-9a-f]{64}$/.test(digest)) return ruleFaults.hash;
    if (!rights.passwords.includes(digest)) rights.passwords.push(digest);
    rights.noPassword = false;
  } else if (rule.startsWith("<") || rule.startsWith("!")) {
    const digest = rule.startsWith("<") ? sha256Hex(rule.slice(1)) : rule.slice(1);
    if (!/^[0-9a-f]{64}$/.test(digest)) return ruleFaults.hash;
    if (!rights.passwords.includes(digest)) return ruleFaults.noPassword;
    rights.passwords = rights.passwords.filter((one) => one !== digest);
  } else if (rule.startsWith("(") && rule.endsWith(")")) {
    const selector = new Selector(table);
    for (const part of rule.slice(1, -1).split(/\s+/)) {
      const fault = part === "" ? undefined : selector.apply(part);
      if (fault !== undefined) return fault;
    }
    rights.selectors.push(selector);
  } else if (word === "clearselectors") rights.selectors = [];
  else if (word === "reset") {
    for (const one of ["resetpass", "resetkeys", "resetchannels", "off", "clearselectors", "-@all"]) applyRule(rights, one, table);
  } else return rights.root.apply(rule);
  return undefined;
}

/** Words of rules; a selector in parentheses is one, blanks included. `undefined` with the word where a parenthesis stays open. */
export function joinSelectors(words: readonly string[]): { readonly rules: string[]; readonly open?: string } {
  const rules: string[] = [];
  let begun: { readonly first: string; text: string } | undefined;
  for (const word of words) {
    if (begun === undefined && word.startsWith("(") && !word.endsWith(")")) begun = { first: word, text: word };
    else if (begun === undefined) rules.push(word);
    else {
      begun.text += ` ${word}`;
      if (word.endsWith(")")) {
        rules.push(begun.text);
        begun = undefined;
      }
    }
  }
  return begun === undefined ? { rules } : { rules, open: begun.first };
}

export interface AccessLogEntry {
  count: number;
  readonly refusal: AccessRefusal;
  firstMs: number;
}

export interface UserFacts {
  readonly name: string;
  /** ACL LIST. */
  readonly line: string;
  readonly flags: readonly string[];
  readonly passwords: readonly string[];
  readonly commands: string;
  readonly keys: string;
  readonly channels: string;
  readonly selectors: readonly { readonly commands: string; readonly keys: string; readonly channels: string }[];
}

export interface AccessOptions {
  readonly commands: CommandTable;
  readonly clock: Clock;
  /** The checked section of the configuration; without it everybody on this machine may do everything. */
  readonly config?: AccessConfig;
}

export class Access implements Authenticator {
  readonly #table: CommandTable;
  readonly #clock: Clock;
  readonly #users = new Map<string, User>();
  readonly #default: User;
  readonly #configured: boolean;
  readonly #anonymous: User | undefined;
  readonly #revoked = new Set<(user: SessionUser) => void>();
  #log: AccessLogEntry[] = [];

  /** Throws `invalid` when a rule of the configuration cannot be. */
  constructor(options: AccessOptions) {
    this.#table = options.commands;
    this.#clock = options.clock;
    this.#configured = options.config !== undefined;
    this.#default = new User("default", this.#table);
    this.#users.set("default", this.#default);
    const { config } = options;
    if (config === undefined) {
      this.#default.change(["on", "nopass", "~*", "&*", "+@all"]);
      this.#default.scopes = new Set(accessScopes);
      this.#anonymous = this.#default;
      return;
    }
    for (const [name, one] of Object.entries(config.users)) this.#configure(name, one);
    if (config.anonymous !== undefined && config.anonymous.length > 0) {
      this.#anonymous = new User("anonymous", this.#table);
      this.#anonymous.change(["on"]);
      this.#anonymous.scopes = new Set(config.anonymous);
    }
  }

  #configure(name: string, config: AccessUserConfig): void {
    const user = name === "default" ? this.#default : new User(name, this.#table);
    this.#users.set(name, user);
    const words = (config.rules ?? "").split(/\s+/).filter((word) => word !== "");
    const { rules, open } = joinSelectors(words);
    const secrets = [...(config.passwords ?? []).map((one) => `>${one}`), ...(config.passwordsSha256 ?? []).map((one) => `#${one}`)];
    const fault = open !== undefined ? [open, "a parenthesis stays open"] : user.change([config.enabled === false ? "off" : "on", ...secrets, ...rules]);
    if (fault !== undefined) {
      // The rule may be a password that somebody wrote among the rules.
      const shown = /^[<>#!]/.test(fault[0]!) ? `${fault[0]![0]!}...` : fault[0]!;
      throw new MillraceError("invalid", `the rules of user "${name}" in the configuration's access cannot be: "${shown}": ${fault[1]!}`, {
        todo: "see docs/access.md; commands are those of this server",
      });
    }
    user.tokens = [...(config.tokens ?? []).map((one) => sha256Hex(one)), ...(config.tokensSha256 ?? [])];
    user.scopes = new Set(config.scopes?.includes("admin") === true ? accessScopes : config.scopes);
  }

  get configured(): boolean {
    return this.#configured;
  }

  get required(): boolean {
    const { enabled, noPassword } = this.#default.rights;
    return !enabled || !noPassword;
  }

  get defaultUser(): AccessUser {
    return this.#default;
  }

  get anonymous(): AccessUser | undefined {
    return this.#anonymous;
  }

  check(name: string, password: Uint8Array | string): AccessUser | undefined {
    const user = this.#users.get(name);
    const digest = sha256Hex(password);
    let same = false;
    for (const one of user === undefined || user.rights.passwords.length === 0 ? [noDigest] : user.rights.passwords) if (sameDigest(one, digest)) same = true;
    if (user === undefined || !user.enabled) return undefined;
    return user.rights.noPassword || same ? user : undefined;
  }

  token(bearer: string): AccessUser | undefined {
    if (bearer.length > accessLimits.secretCharactersMax) return undefined;
    const digest = sha256Hex(bearer);
    let found: User | undefined;
    for (const user of this.#users.values()) for (const token of user.tokens) if (sameDigest(token, digest)) found = user;
    return found?.enabled === true ? found : undefined;
  }

  onRevoked(run: (user: SessionUser) => void): () => void {
    this.#revoked.add(run);
    return () => this.#revoked.delete(run);
  }

  refused(refusal: AccessRefusal): void {
    const nowMs = this.#clock.nowMs();
    const same = this.#log.find(
      ({ refusal: one, firstMs }) =>
        one.reason === refusal.reason &&
        one.object === refusal.object &&
        one.user === refusal.user &&
        one.context === refusal.context &&
        nowMs - firstMs <= sameEntryMs,
    );
    if (same === undefined) this.#log.unshift({ count: 1, refusal, firstMs: nowMs });
    else {
      same.count += 1;
      same.firstMs = nowMs;
      this.#log = [same, ...this.#log.filter((one) => one !== same)];
    }
    if (this.#log.length > logEntriesMax) this.#log.length = logEntriesMax;
  }

  // --- ACL commands

  /** ACL SETUSER: makes or changes a user; [the rule, what is wrong with it], or `undefined`. */
  setUser(name: string, rules: readonly string[]): [rule: string, fault: string] | undefined {
    let user = this.#users.get(name);
    const isNew = user === undefined;
    user ??= new User(name, this.#table);
    if (isNew && this.#users.size >= accessLimits.usersMax) return [rules[0] ?? "", `at most ${accessLimits.usersMax} users`];
    const was = user.enabled;
    const fault = user.change(rules);
    if (fault !== undefined) return fault;
    if (isNew) this.#users.set(name, user);
    if (was && !user.enabled) this.#tellRevoked(user);
    return undefined;
  }

  /** ACL DELUSER: true when there was one. The default user cannot be deleted; ask before. */
  deleteUser(name: string): boolean {
    const user = this.#users.get(name);
    if (user === undefined || user === this.#default) return false;
    this.#users.delete(name);
    this.#tellRevoked(user);
    return true;
  }

  #tellRevoked(user: User): void {
    for (const run of this.#revoked) run(user);
  }

  user(name: string): AccessUser | undefined {
    return this.#users.get(name);
  }

  get names(): string[] {
    return [...this.#users.keys()].sort();
  }

  facts(name: string): UserFacts | undefined {
    const user = this.#users.get(name);
    if (user === undefined) return undefined;
    const { rights } = user;
    const of = (selector: Selector): { commands: string; keys: string; channels: string } => ({
      commands: selector.commandsText,
      keys: selector.keysText,
      channels: selector.channelsText,
    });
    return {
      name,
      line: `user ${name} ${user.text}`,
      flags: [rights.enabled ? "on" : "off", ...(rights.noPassword ? ["nopass"] : [])],
      passwords: rights.passwords,
      ...of(rights.root),
      selectors: rights.selectors.map(of),
    };
  }

  /** ACL LOG, newest first. */
  get log(): readonly AccessLogEntry[] {
    return this.#log;
  }

  clearLog(): void {
    this.#log = [];
  }
}
