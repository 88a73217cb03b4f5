// ACL: users and their rights at run time. Changes live until the server ends; the configuration's section `access` is what a start begins with.
// Texts as redis-server 7.0.15. Where Redis prints the rules of a user as it thinks best, these stand in the order in which they were given.

import { type Access, joinSelectors } from "#wire/access-users";
import { aclCategories } from "#wire/access-rules";
import type { RandomSource } from "#platform/system-random";
import { RespArgs } from "#wire/resp-arguments";
import type { Call, CommandSpec } from "#wire/resp-command";
import { helpOf } from "./server-facts.ts";

const noFile =
  "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.";
const genPassBitsMax = 4_096;

export function aclCommands(accessOf: () => Access, random: RandomSource): CommandSpec[] {
  const setUser = ({ args, reply }: Call): void => {
    const name = args.text(2);
    if (/[\s\0]/.test(name)) {
      reply.error("ERR Usernames can't contain spaces or null characters");
      return;
    }
    const words: string[] = [];
    for (let i = 3; i < args.count; i++) words.push(args.text(i));
    const { rules, open } = joinSelectors(words);
    if (open !== undefined) {
      reply.error(`ERR Unmatched parenthesis in acl selector starting at '${open}'.`);
      return;
    }
    const fault = accessOf().setUser(name, rules);
    if (fault === undefined) reply.ok();
    else reply.error(`ERR Error in ACL SETUSER modifier '${fault[0]}': ${fault[1]}`);
  };

  const delUser = ({ args, session, reply }: Call): void => {
    let deleted = 0;
    for (let i = 2; i < args.count; i++) {
      if (args.text(i) === "default") {
        reply.error("ERR The 'default' user cannot be removed");
        return;
      }
    }
    void session;
    for (let i = 2; i < args.count; i++) if (accessOf().deleteUser(args.text(i))) deleted += 1;
    reply.integer(deleted);
  };

  const getUser = ({ args, reply }: Call): void => {
    const facts = accessOf().facts(args.text(2));
    if (facts === undefined) {
      reply.nil();
      return;
    }
    const fields = (of: { commands: string; keys: string; channels: string }): void => {
      for (const name of ["commands", "keys", "channels"] as const) {
        reply.bulk(name);
        reply.bulk(of[name]);
      }
    };
    reply.map(6);
    reply.bulk("flags");
    reply.set(facts.flags.length);
    for (const flag of facts.flags) reply.bulk(flag);
    reply.bulk("passwords");
    reply.array(facts.passwords.length);
    for (const password of facts.passwords) reply.bulk(password);
    fields(facts);
    reply.bulk("selectors");
    reply.array(facts.selectors.length);
    for (const selector of facts.selectors) {
      reply.map(3);
      fields(selector);
    }
  };

  const list = ({ reply }: Call): void => {
    const { names } = accessOf();
    reply.array(names.length);
    for (const name of names) reply.bulk(accessOf().facts(name)!.line);
  };

  const users = ({ reply }: Call): void => {
    const { names } = accessOf();
    reply.array(names.length);
    for (const name of names) reply.bulk(name);
  };

  const cat = ({ args, session, reply }: Call): void => {
    if (args.count > 3) {
      reply.error("ERR wrong number of arguments for 'acl|cat' command");
      return;
    }
    if (args.count === 2) {
      reply.array(aclCategories.length);
      for (const name of aclCategories) reply.bulk(name);
      return;
    }
    const name = args.text(2).toLowerCase();
    if (!(aclCategories as readonly string[]).includes(name)) {
      reply.error(`ERR Unknown category '${args.text(2)}'`);
      return;
    }
    const found = session.server.commands.entries.filter((entry) => entry.subcommands === undefined && entry.categories.has(name));
    reply.array(found.length);
    for (const { spec } of found) reply.bulk(spec.name);
  };

  const genPass = ({ args, reply }: Call): void => {
    if (args.count > 3) {
      reply.error("ERR wrong number of arguments for 'acl|genpass' command");
      return;
    }
    const bits = args.count === 3 ? args.integer(2) : 256;
    if (bits === undefined) {
      reply.error("ERR value is not an integer or out of range");
      return;
    }
    if (typeof bits !== "number" || bits <= 0 || bits > genPassBitsMax) {
      reply.error("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096");
      return;
    }
    const digits = Math.ceil(bits / 4);
    let text = "";
    for (const byte of random.bytes(new Uint8Array(digits))) text += (byte & 15).toString(16);
    reply.bulk(text);
  };

  const dryRun = ({ args, session, reply }: Call): void => {
    const user = accessOf().user(args.text(2));
    if (user === undefined) {
      reply.error(`ERR User '${args.text(2)}' not found`);
      return;
    }
    const words: Uint8Array[] = [];
    for (let i = 3; i < args.count; i++) words.push(args.bytes(i));
    const call = RespArgs.of(words);
    const { commands } = session.server;
    let entry = commands.find(call.buffer, call.start(0), call.end(0));
    if (entry?.subcommands !== undefined && call.count > 1) entry = entry.subcommands.find(call.buffer, call.start(1), call.end(1));
    if (entry === undefined) {
      reply.error(`ERR Command '${args.text(3)}' not found`);
      return;
    }
    const { spec } = entry;
    if (spec.arity < 0 ? call.count < -spec.arity : call.count !== spec.arity) {
      reply.error(`ERR wrong number of arguments for '${spec.name}' command`);
      return;
    }
    const denial = user.denial(spec, call);
    if (denial === undefined) reply.ok();
    else if (denial.reason === "key") reply.bulk(`This user has no permissions to access the '${denial.object}' key`);
    else reply.bulk(`This user has no permissions to run the '${spec.name}' command`);
  };

  const log = ({ args, session, reply }: Call): void => {
    if (args.count > 3) {
      reply.error("ERR wrong number of arguments for 'acl|log' command");
      return;
    }
    let count = 10;
    if (args.count === 3) {
      if (args.is(2, "RESET")) {
        accessOf().clearLog();
        reply.ok();
        return;
      }
      const given = args.integer(2);
      if (given === undefined) {
        reply.error("ERR value is not an integer or out of range");
        return;
      }
      count = Math.max(0, Number(given));
    }
    const shown = accessOf().log.slice(0, count);
    const nowMs = session.server.clock.nowMs();
    reply.array(shown.length);
    for (const { count: times, refusal, firstMs } of shown) {
      reply.map(7);
      reply.bulk("count");
      reply.integer(times);
      for (const [name, value] of [
        ["reason", refusal.reason],
        ["context", refusal.context],
        ["object", refusal.object],
        ["username", refusal.user],
      ] as const) {
        reply.bulk(name);
        reply.bulk(value);
      }
      reply.bulk("age-seconds");
      reply.double(Math.max(0, nowMs - firstMs) / 1_000);
      reply.bulk("client-info");
      reply.bulk(refusal.client);
    }
  };

  const base = { categories: [], keys: undefined, group: "server", since: "6.0.0" };
  const admin = { ...base, flags: ["admin", "noscript", "loading", "stale"] as const };
  const open = { ...base, flags: ["noscript", "loading", "stale"] as const };
  return [
    { ...admin, name: "acl|setuser", arity: -3, summary: "Makes or changes a user", run: setUser },
    { ...admin, name: "acl|deluser", arity: -3, summary: "Deletes users and closes their connections", run: delUser },
    { ...admin, name: "acl|getuser", arity: 3, summary: "The rules of a user", run: getUser },
    { ...admin, name: "acl|list", arity: 2, summary: "All users with their rules", run: list },
    { ...admin, name: "acl|users", arity: 2, summary: "Names of all users", run: users },
    { ...open, name: "acl|whoami", arity: 2, summary: "The user of this connection", run: ({ session, reply }) => reply.bulk(session.user.name) },
    { ...open, name: "acl|cat", arity: -2, summary: "Categories, or the commands of one", run: cat },
    { ...open, name: "acl|genpass", arity: -2, summary: "A random password", run: genPass },
    { ...admin, name: "acl|dryrun", arity: -4, since: "7.0.0", summary: "Whether a user may make a call", run: dryRun },
    { ...admin, name: "acl|log", arity: -2, summary: "What was refused lately", run: log },
    { ...admin, name: "acl|load", arity: 2, summary: "There is no ACL file", run: ({ reply }) => reply.error(noFile) },
    { ...admin, name: "acl|save", arity: 2, summary: "There is no ACL file", run: ({ reply }) => reply.error(noFile) },
    { ...open, flags: ["loading", "stale"], name: "acl|help", arity: 2, summary: "Lists the subcommands", run: (call) => helpOf(call, "acl") },
  ];
}
