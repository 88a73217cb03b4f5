// The commands on parameter tables and models over a real socket, with a client that people use, on a real host of tables.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Redis } from "ioredis";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Prng } from "#base/prng";
import { MemoryPool } from "#kernel/memory-pool";
import { ModelCatalogue } from "#params/catalogue/model-catalogue";
import { ParameterModels } from "#params/catalogue/parameter-models";
import { ParameterHost } from "#params/host/parameter-host";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemNetwork } from "#platform/system-network";
import { Access } from "#wire/access-users";
import { CommandTable } from "#wire/resp-command-table";
import { type RespServer, startRespServer } from "#wire/resp-server";
import { aclCommands } from "./acl.ts";
import { connectionCommands } from "./connection.ts";
import { parameterModelCommands } from "./parameter-models.ts";

let folder: string;
let host: ParameterHost;
let catalogue: ModelCatalogue;
let server: RespServer;
let redis: Redis;

const call = (...args: (string | number)[]): Promise<unknown> => redis.call(args[0] as string, ...args.slice(1));
const version = /^\d{8}T\d{9}-\w{4}$/;
/** Pairs of an answer in RESP2. */
const fields = (list: unknown): Record<string, unknown> => {
  const flat = list as unknown[];
  return Object.fromEntries(flat.flatMap((name, i) => (i % 2 === 0 ? [[name as string, flat[i + 1]]] : [])));
};

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-pmodel-"));
  host = await ParameterHost.open({
    pool: new MemoryPool({ capBytes: 256 << 20 }),
    clock: systemClock,
    files: systemFiles,
    folder: join(folder, "params"),
    tables: { users: { dim: 4, memoryMb: 4 }, items: { dim: 4, memoryMb: 4 } },
    memoryBytesMax: 256 << 20,
    warn: (message) => assert.fail(message),
  });
  catalogue = await ModelCatalogue.open({
    registry: createMemoryRegistry({ clock: systemClock }),
    clock: systemClock,
    random: new Prng(1),
    node: "server",
    isDeclared: (table) => table === "users" || table === "items",
  });
  const models = new ParameterModels({
    catalogue,
    control: host,
    monotonicMs: () => systemClock.monotonicMs(),
    usageOf: () => ({ rows: 0, bytes: 0 }),
    models: {},
  });
  const commands = new CommandTable(
    parameterModelCommands(() => ({ models, control: host })),
    connectionCommands(() => access),
    aclCommands(() => access, new Prng(2)),
  );
  const access: Access = new Access({ commands, clock: systemClock });
  server = await startRespServer({ network: systemNetwork, clock: systemClock, port: 0, commands, access });
  redis = new Redis({ port: server.port, enableReadyCheck: false, disableClientInfo: true, protocol: 2, maxRetriesPerRequest: 1 } as never);
});

after(async () => {
  redis.disconnect();
  await server.drain(1_000);
  await catalogue.close();
  await host.stop();
  await rm(folder, { recursive: true, force: true });
});

test("promise: a model is registered, goes live and back, and is retired; who did it stands in the audit", async () => {
  const first = (await call("PMODEL", "REGISTER", "ctr", "TABLES", 2, "users", "items", "EXTRACTOR", "7", "CONFIG", '{"rate":0.1}')) as string;
  assert.match(first, version);
  assert.equal(await call("PMODEL", "LIVE", "ctr", first), first);
  const second = (await call("pmodel", "register", "ctr", "tables", 1, "users=items", "live")) as string;
  const [model] = (await call("PMODEL", "LIST")) as unknown[];
  const { live, versions } = fields(model);
  assert.equal(live, second);
  assert.deepEqual(
    (versions as unknown[]).map(fields).map((one) => [one["version"], one["state"], one["tables"], one["extractor"]]),
    [
      [second, "live", "users=items", ""],
      [first, "backup", "users items", "7"],
    ],
  );
  assert.equal(await call("PMODEL", "ROLLBACK", "ctr"), first);
  await assert.rejects(call("PMODEL", "ROLLBACK", "ctr"), /no version before the live one/);
  assert.equal(await call("PMODEL", "LIVE", "ctr", second.slice(0, -1)), second);
  assert.deepEqual(await call("PMODEL", "RETIRE", "ctr", first), ["retired", [first], "removed", [first]]);
  await assert.rejects(call("PMODEL", "RETIRE", "ctr", second), /is live: put another version live first/);
  const latest = fields(((await call("PMODEL", "AUDIT", 1)) as unknown[])[0]);
  assert.deepEqual([latest["who"], latest["action"], latest["version"]], ["server", "removed", first]);
  assert.deepEqual(((await call("PMODEL", "AUDIT")) as unknown[]).map((one) => `${String(fields(one)["who"])} ${String(fields(one)["action"])}`).slice(1, 4), [
    "default retire",
    "default live",
    "default rollback",
  ]);
  assert.deepEqual(fields(((await call("PMODEL", "LIST", "ctr")) as unknown[])[0])["live"], second);
  await assert.rejects(call("PMODEL", "LIST", "other"), /no model "other"/);
  assert.deepEqual(await call("PMODEL", "RETIRE", "ctr", "ALL"), ["retired", [second], "removed", [second]]);
  assert.deepEqual(await call("PMODEL", "LIST"), []);
});

test("promise: a table is made and dropped, and not dropped while a model uses it", async () => {
  assert.equal(await call("PCREATE", "made", "DIM", 8, "MEMORY", 2, "SCALE", "0.5", "SIGHTINGS", 3, "EXPIRE", 60), "OK");
  assert.deepEqual(host.status().tables.find(({ name }) => name === "made")?.config, {
    dim: 8,
    memoryMb: 2,
    initialScale: 0.5,
    admission: { sightings: 3 },
    expireAfterS: 60,
  });
  await assert.rejects(call("PCREATE", "made", "DIM", 8), /there is a parameter table made/);
  const used = (await call("PMODEL", "REGISTER", "similar", "TABLES", 1, "vectors=made", "LIVE")) as string;
  await assert.rejects(call("PDROP", "made"), new RegExp(`table made is used by similar@${used} \\(live\\): retire these versions first`));
  assert.ok(host.status().tables.some(({ name }) => name === "made"));
  await call("PMODEL", "RETIRE", "similar", "ALL");
  assert.equal(await call("PDROP", "made"), "OK");
  assert.equal(
    host.status().tables.some(({ name }) => name === "made"),
    false,
  );
  await assert.rejects(call("PDROP", "made"), /no parameter table made/);
  await assert.rejects(call("PDROP", "users"), /declared in the configuration/);
});

test("PMODEL HELP names the subcommands", async () => {
  const lines = (await call("PMODEL", "HELP")) as string[];
  assert.match(lines[0]!, /^PMODEL <subcommand>/);
  for (const name of ["REGISTER", "LIVE", "ROLLBACK", "RETIRE", "LIST", "AUDIT", "HELP"]) assert.ok(lines.includes(name), name);
  assert.ok(!lines.some((line) => line.endsWith("..")), "one stop ends a summary");
});

test("promise: who registers a version needs the key patterns that reach its tables", async () => {
  assert.equal(await call("ACL", "SETUSER", "half", "on", "nopass", "+@all", "~users", "~model:mine/*", "%R~items"), "OK");
  const half = new Redis({
    port: server.port,
    username: "half",
    password: "any",
    enableReadyCheck: false,
    disableClientInfo: true,
    protocol: 2,
    maxRetriesPerRequest: 1,
  } as never);
  const register = (...tables: string[]): Promise<unknown> => half.call("PMODEL", "REGISTER", "mine", "TABLES", tables.length, ...tables);
  try {
    for (const tables of [["items"], ["users", "items"], ["role=items"], ["users=items"], ["users", "model:mine/x=items"], ["absent"]]) {
      await assert.rejects(register(...tables), /^\w*Error: NOPERM this user has no permissions to access one of the keys/, tables.join(" "));
    }
    assert.deepEqual(await call("PMODEL", "LIST"), []);
    assert.match((await register("users")) as string, version);
    assert.match((await register("role=users")) as string, version);
    assert.match(String(await call("ACL", "LOG", 1)), /,object,(?:items|absent),username,half,/);
    await call("PMODEL", "RETIRE", "mine", "ALL");
  } finally {
    half.disconnect();
  }
});

test("what a command does not know is refused, with what to do", async () => {
  const refused: readonly [readonly (string | number)[], RegExp][] = [
    [["PCREATE", "x", "MEMORY", 4], /PCREATE without DIM/],
    [["PCREATE", "x", "DIM", 0], /DIM that is no whole number from 1 to 1024/],
    [["PCREATE", "x", "DIM", 4, "MEMORY"], /MEMORY \(MiB\) that is no whole number/],
    [["PCREATE", "Big!", "DIM", 4], /no name of a parameter table/],
    [["PCREATE", "x", "DIM", 4, "COLOUR", 4], /docs\/parameters\.md/],
    [["PCREATE", "x", "DIM", 2, "SCALE", 1], /groups of 4/],
    [["PCREATE", "x", "DIM", 4, "MEMORY", 512], /MiB|memory/i],
    [["PCREATE", "x", "DIM", 4, "dim", 5], /PCREATE with "DIM", which it does not know, or twice/],
    [["PMODEL", "REGISTER", "m", "TABLES", 1, "users", "LIVE", "live"], /"LIVE", which it does not know, or twice/],
    [["PMODEL", "REGISTER", "m", "TABLES", 3, "users"], /does not know/],
    [["PMODEL", "REGISTER", "m", "TABLES", 2, "users", "users"], /twice in one role/],
    [["PMODEL", "REGISTER", "m", "TABLES", 1, "absent"], /does not stand: create it with PCREATE/],
    [["PMODEL", "REGISTER", "m", "TABLES", 1, "users", "CONFIG", "{"], /no JSON/],
    [["PMODEL", "RETIRE", "m", "KEEP", 0], /KEEP/],
    [["PMODEL", "LIVE", "m", "2026"], /no model "m"/],
  ];
  for (const [args, words] of refused) await assert.rejects(call(...args), words, args.join(" "));
  assert.deepEqual(catalogue.view.state.tables, {}, "nothing is left of a table that could not be made");
});
