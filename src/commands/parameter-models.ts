// The commands on parameter tables and models as things: PCREATE, PDROP, PMODEL REGISTER, LIVE, ROLLBACK, RETIRE, LIST, AUDIT. Pulls and pushes stand in
// parameters.ts. Use: docs/parameters.md.
// Invariants: 1. who sent a command stands in the audit  2. none of them has the category @write: a user who may push rows may not drop a table  3. who names a table needs the key patterns
//             that reach it: through a model nobody reaches more than by himself.
// Concurrency: the serving loop; each waits for the registry, PCREATE and PDROP for the parameters thread, and holds back its own connection alone.
// Limits: catalogueLimits, parameterLimits.

import { MillraceError } from "#base/errors";
import { catalogueLimits } from "#params/catalogue/catalogue-state";
import type { ParameterModels } from "#params/catalogue/parameter-models";
import { RespArgs } from "#wire/resp-arguments";
import type { Args, Call, CommandSpec, Reply } from "#wire/resp-command";
import type { ParameterControl } from "#wire/parameter-api";
import { checkParameterTable, type ParameterTableConfig } from "#wire/parameter-config";
import { parameterLimits } from "#wire/parameter-limits";
import type { ModelOverview } from "#wire/parameter-models-api";
import { helpOf } from "./server-facts.ts";

export interface ParameterModelParts {
  readonly models: ParameterModels;
  readonly control: Pick<ParameterControl, "status">;
}

/** Of a table that PCREATE names no MEMORY for. */
const memoryMbDefault = 64;
const auditMax = 1_000;

/** The commands. `parts` is asked for at each call: the port listens before the tables are open. */
export function parameterModelCommands(parts: () => ParameterModelParts): CommandSpec[] {
  const common = { categories: ["admin"], group: "parameters", since: "7.0.0", flags: ["admin", "no_multi"] } as const;
  const ofTable = { ...common, keys: { first: 1, last: 1, step: 1 }, keyAccess: "RW" } as const;
  const ofModel = { ...common, keys: undefined } as const;
  const register: CommandSpec = {
    ...ofModel,
    name: "pmodel|register",
    arity: -6,
    keys: tableArguments,
    keyAccess: "RW",
    summary: "Registers a version of a model: PMODEL REGISTER name TABLES n [role=]table ... [EXTRACTOR v] [CONFIG json] [LIVE]. Answers the version.",
    async run(call) {
      const { args, reply, session } = call;
      const { model, ...registration } = registrationOf(args);
      if (isRefused(call, register, Object.values(registration.tables))) return;
      reply.bulk(await parts().models.catalogue.register(model, registration, session.user.name));
    },
  };
  return [
    {
      ...ofTable,
      name: "pcreate",
      arity: -4,
      summary: "Makes a parameter table: PCREATE name DIM d [MEMORY mb] [SEED n] [SCALE x] [SHARDS n] [SIGHTINGS n] [EXPIRE s] [CHECKPOINT s].",
      async run({ args, reply, session }) {
        const name = args.text(1);
        const config = tableConfig(args);
        checkParameterTable(name, config);
        const { models, control } = parts();
        const stands = control.status().tables.some((table) => table.name === name);
        await models.createTable(name, config, stands, session.user.name);
        reply.ok();
      },
    },
    {
      ...ofTable,
      name: "pdrop",
      arity: 2,
      summary: "Drops a parameter table that no model uses, with its rows and checkpoints.",
      async run({ args, reply, session }) {
        await parts().models.dropTable(args.text(1), session.user.name);
        reply.ok();
      },
    },
    register,
    {
      ...ofModel,
      flags: ["readonly", "loading", "stale", "no_multi"],
      categories: [],
      name: "pmodel|help",
      arity: 2,
      summary: "Lists the subcommands",
      run: (call) => helpOf(call, "pmodel"),
    },
    {
      ...ofModel,
      name: "pmodel|live",
      arity: 4,
      summary: "Puts a version of a model live; requests that run end with the one they began with. Answers the version.",
      run: async ({ args, reply, session }) => reply.bulk(await parts().models.catalogue.live(args.text(2), args.text(3), session.user.name)),
    },
    {
      ...ofModel,
      name: "pmodel|rollback",
      arity: -3,
      summary: "Puts the version before, or a named one of those before, live again. Answers the version.",
      async run({ args, reply, session }) {
        if (args.count > 4) throw syntax("PMODEL ROLLBACK");
        reply.bulk(await parts().models.catalogue.rollback(args.text(2), args.count === 4 ? args.text(3) : undefined, session.user.name));
      },
    },
    {
      ...ofModel,
      name: "pmodel|retire",
      arity: -4,
      summary: "Retires a version, all but the latest (KEEP n), or the model (ALL). Answers those retired and those removed already.",
      async run({ args, reply, session }) {
        const { retired, removed } = await parts().models.catalogue.retire(args.text(2), whatToRetire(args), session.user.name);
        reply.map(2);
        for (const [name, versions] of [
          ["retired", retired],
          ["removed", removed],
        ] as const) {
          reply.bulk(name);
          reply.array(versions.length);
          for (const version of versions) reply.bulk(version);
        }
      },
    },
    {
      ...ofModel,
      flags: ["readonly", "no_multi"],
      categories: [],
      name: "pmodel|list",
      arity: -2,
      summary: "All models, or one, with their versions.",
      run({ args, reply }) {
        if (args.count > 3) throw syntax("PMODEL LIST");
        const all = parts().models.catalogue.list();
        const named = args.count === 3 ? args.text(2) : undefined;
        const found = named === undefined ? all : all.filter(({ model }) => model === named);
        if (named !== undefined && found.length === 0) {
          throw new MillraceError("not-found", `there is no model ${JSON.stringify(named.slice(0, 64))}`, { todo: "PMODEL LIST names them all" });
        }
        reply.array(found.length);
        for (const model of found) replyModel(reply, model);
      },
    },
    {
      ...ofModel,
      name: "pmodel|audit",
      arity: -2,
      summary: "The latest changes of models and tables, newest first: who changed what when.",
      async run({ args, reply }) {
        const max = args.count === 2 ? 20 : wholeAt(args, 2, "a number of changes", 1, auditMax);
        const changes = await parts().models.catalogue.audit(max);
        reply.array(changes.length);
        for (const { seq, atMs, who, action, name, version, before } of changes) {
          const fields: readonly (readonly [string, string | number | undefined])[] = [
            ["seq", seq],
            ["atMs", atMs],
            ["who", who],
            ["action", action],
            ["name", name],
            ["version", version],
            ["before", before],
          ];
          replyFields(
            reply,
            fields.filter((field): field is readonly [string, string | number] => field[1] !== undefined),
          );
        }
      },
    },
  ];
}

function syntax(command: string, option?: string): MillraceError {
  const what =
    option === undefined ? "arguments that it does not know, or one of them twice" : `${JSON.stringify(option.slice(0, 32))}, which it does not know, or twice`;
  return new MillraceError("invalid", `${command} with ${what}`, {
    todo: `COMMAND DOCS ${command.replace(" ", "|")} and docs/parameters.md show how it is written`,
  });
}

function wholeAt(args: Args, i: number, what: string, min: number, max: number): number {
  const value = i < args.count ? args.integer(i) : undefined;
  if (typeof value === "number" && value >= min && value <= max) return value;
  throw new MillraceError("invalid", `${what} that is no whole number from ${min} to ${max}`, { todo: "correct it" });
}

/** Where PMODEL REGISTER names tables by their names alone; those behind a role are no keys of Redis, `isRefused` asks for them. */
function tableArguments(args: Args): number[] {
  const count = args.count > 4 ? args.integer(4) : undefined;
  if (typeof count !== "number") return [];
  const found: number[] = [];
  for (let i = 5; i < Math.min(args.count, 5 + count); i++) if (!args.text(i).includes("=")) found.push(i);
  return found;
}

/** Answers NOPERM, with an entry of ACL LOG, when the user's patterns do not reach one of the tables. */
function isRefused({ session, reply }: Call, spec: CommandSpec, tables: readonly string[]): boolean {
  const { user, server } = session;
  if (user.unrestricted) return false;
  for (const table of tables) {
    const refusal = user.refusal(spec, RespArgs.of(["PMODEL", "REGISTER", "", "TABLES", "1", table]));
    if (refusal === undefined) continue;
    server.access.refused({
      reason: "key",
      object: table,
      user: user.name,
      context: "toplevel",
      client: `id=${session.id} addr=${session.remote} name=${session.name}`,
    });
    reply.error(refusal);
    return true;
  }
  return false;
}

/** PCREATE name DIM d ... */
function tableConfig(args: Args): ParameterTableConfig {
  const { dimMax, memoryMbMax, shardsMax } = parameterLimits;
  const given: { -readonly [Name in keyof ParameterTableConfig]?: ParameterTableConfig[Name] } = {};
  const named = new Set<string>();
  for (let i = 2; i < args.count; i += 2) {
    const option = args.text(i).toUpperCase();
    if (named.has(option)) throw syntax("PCREATE", option);
    named.add(option);
    if (args.is(i, "DIM")) given.dim = wholeAt(args, i + 1, "DIM", 1, dimMax);
    else if (args.is(i, "MEMORY")) given.memoryMb = wholeAt(args, i + 1, "MEMORY (MiB)", 1, memoryMbMax);
    else if (args.is(i, "SEED")) given.seed = wholeAt(args, i + 1, "SEED", 0, Number.MAX_SAFE_INTEGER);
    else if (args.is(i, "SHARDS")) given.shards = wholeAt(args, i + 1, "SHARDS", 1, shardsMax);
    else if (args.is(i, "SIGHTINGS")) given.admission = { sightings: wholeAt(args, i + 1, "SIGHTINGS", 1, 15) };
    else if (args.is(i, "EXPIRE")) given.expireAfterS = wholeAt(args, i + 1, "EXPIRE (seconds)", 1, 2_000_000_000);
    else if (args.is(i, "CHECKPOINT")) given.checkpoint = { everySeconds: wholeAt(args, i + 1, "CHECKPOINT (seconds)", 1, 86_400) };
    else if (args.is(i, "SCALE")) {
      const scale = i + 1 < args.count ? args.float(i + 1) : undefined;
      if (scale === undefined || !(scale >= 0 && scale <= 1e6))
        throw new MillraceError("invalid", "SCALE that is no number from 0 to 1e6", { todo: "correct it" });
      given.initialScale = scale;
    } else throw syntax("PCREATE", option);
  }
  const { dim, memoryMb = memoryMbDefault } = given;
  if (dim === undefined) throw new MillraceError("invalid", "PCREATE without DIM", { todo: "say how many numbers a row has: PCREATE name DIM 16" });
  return { ...given, dim, memoryMb };
}

/** PMODEL REGISTER name TABLES n [role=]table ... */
function registrationOf(args: Args): Parameters<ParameterModels["catalogue"]["register"]>[1] & { readonly model: string } {
  if (!args.is(3, "TABLES")) throw syntax("PMODEL REGISTER");
  const count = wholeAt(args, 4, "TABLES", 1, catalogueLimits.tablesOfVersionMax);
  if (5 + count > args.count) throw syntax("PMODEL REGISTER");
  const tables: Record<string, string> = {};
  for (let i = 5; i < 5 + count; i++) {
    const [role = "", table = role, ...more] = args.text(i).split("=");
    if (more.length > 0 || Object.hasOwn(tables, role)) {
      throw new MillraceError("invalid", "a table of a model twice in one role, or with two signs =", { todo: "write role=table, each role once" });
    }
    tables[role] = table;
  }
  let extractor = "";
  let config: unknown = null;
  let live = false;
  const named = new Set<string>();
  for (let i = 5 + count; i < args.count; i++) {
    const option = args.text(i).toUpperCase();
    if (named.has(option)) throw syntax("PMODEL REGISTER", option);
    named.add(option);
    if (args.is(i, "LIVE")) live = true;
    else if (args.is(i, "EXTRACTOR") && i + 1 < args.count) extractor = args.text(++i);
    else if (args.is(i, "CONFIG") && i + 1 < args.count) {
      try {
        config = JSON.parse(args.text(++i));
      } catch {
        throw new MillraceError("invalid", "a CONFIG that is no JSON", { todo: "send one JSON value" });
      }
    } else throw syntax("PMODEL REGISTER", option);
  }
  return { model: args.text(2), tables, extractor, config, live };
}

/** PMODEL RETIRE name (version | KEEP n | ALL) */
function whatToRetire(args: Args): Parameters<ParameterModels["catalogue"]["retire"]>[1] {
  if (args.count === 4) return args.is(3, "ALL") ? { wholeModel: true } : { version: args.text(3) };
  if (args.count === 5 && args.is(3, "KEEP")) return { keep: wholeAt(args, 4, "KEEP", 1, catalogueLimits.versionsMax) };
  throw syntax("PMODEL RETIRE");
}

function replyFields(reply: Reply, fields: readonly (readonly [string, string | number])[]): void {
  reply.map(fields.length);
  for (const [name, value] of fields) {
    reply.bulk(name);
    if (typeof value === "number") reply.integer(value);
    else reply.bulk(value);
  }
}

function replyModel(reply: Reply, { model, live, versions }: ModelOverview): void {
  reply.map(3);
  reply.bulk("model");
  reply.bulk(model);
  reply.bulk("live");
  if (live === null) reply.nil();
  else reply.bulk(live);
  reply.bulk("versions");
  reply.array(versions.length);
  for (const { version, state, tables, extractor, registeredAtMs, inUse } of versions) {
    const names = Object.entries(tables).map(([role, table]) => (role === table ? table : `${role}=${table}`));
    replyFields(reply, [
      ["version", version],
      ["state", state],
      ["tables", names.join(" ")],
      ["extractor", extractor],
      ["registeredAtMs", registeredAtMs],
      ["inUse", inUse],
    ]);
  }
}
