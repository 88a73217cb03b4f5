// promise: models on a whole server: a switch is seen by the next pull and by none before, a model over its quota does not slow another, operators see and change all of it
// by HTTP and by the command line, with scopes and names in the list of changes.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { readPullHead } from "#wire/parameter-api";
import { newDataFolder, startWholeServer } from "../whole-server.ts";

const dim = 4;
const keysOf = (count: number): Buffer => Buffer.from(BigUint64Array.from({ length: count }, (_, i) => BigInt(i + 1)).buffer);
const rowsOf = (count: number, value: number): Buffer => Buffer.from(new Float32Array(count * dim).fill(value).buffer);
const table = { dim, memoryMb: 4, checkpoint: { everySeconds: 3_600 } };

function connect(t: TestContext, port: number): (...args: (string | number | Buffer)[]) => Promise<unknown> {
  const redis = new Redis({ port, host: "127.0.0.1", protocol: 2 } as never);
  // A server that is stopped within a test.
  redis.on("error", () => undefined);
  t.after(() => redis.disconnect());
  return (name, ...args) => redis.callBuffer(name as string, ...args);
}

/** The numbers of an answer of PPULL. */
function numbersOf(answer: unknown): Float32Array {
  const blob = new Uint8Array(answer as Buffer);
  const { rows, numbersAt } = readPullHead(blob);
  return new Float32Array(blob.buffer, numbersAt, rows * dim);
}

test("promise: a pull that begins after a switch has the new version's rows, and every pull has those of one version", { timeout: 60_000 }, async (t) => {
  const server = await startWholeServer(t, { parameters: { tables: { old: table, new: table } } });
  const call = connect(t, server.respPort);
  const keys = keysOf(100);
  await call("PASSIGN", "old", keys, rowsOf(100, 1));
  await call("PASSIGN", "new", keys, rowsOf(100, 2));
  const versions = [
    String(await call("PMODEL", "REGISTER", "ctr", "TABLES", 1, "users=old", "LIVE")),
    String(await call("PMODEL", "REGISTER", "ctr", "TABLES", 1, "users=new")),
  ];
  const reader = connect(t, server.respPort);
  const seen: number[] = [];
  let reading = true;
  const readers = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (reading) {
        const numbers = numbersOf(await reader("PPULL", "model:ctr/users", keys));
        assert.equal(new Set(numbers).size, 1, "rows of two versions in one pull");
        seen.push(numbers[0]!);
      }
    }),
  );
  for (let i = 1; i <= 20; i += 1) {
    await call("PMODEL", "LIVE", "ctr", versions[i % 2]!);
    assert.equal(numbersOf(await call("PPULL", "model:ctr", keys))[0], 1 + (i % 2));
  }
  reading = false;
  await readers;
  assert.deepEqual([...new Set(seen)].toSorted(), [1, 2]);
  await assert.rejects(call("PPULL", "model:ctr/items", keys), /no table in that role: name one of its roles: users/);
  await assert.rejects(call("PPULL", "model:other", keys), /there is no model/);
  assert.equal(await call("PADD", "model:ctr/users", keysOf(1), rowsOf(1, 3)), 1);
  assert.equal(numbersOf(await call("PPULL", "old", keysOf(1)))[0], 4, "pushes go to the live version's table");
  await assert.rejects(call("PADD", "new", keysOf(1), rowsOf(1, 3), "MODEL", "other"), /has no table/);
});

test("promise: a model over its quota does not slow another", { timeout: 60_000 }, async (t) => {
  const quota = { pulledRowsPerS: 1_000, pushedRowsPerS: 1_000, rows: 5_000 };
  const server = await startWholeServer(t, {
    parameters: { tables: { greedy: table, calm: table }, models: { greedy: { tables: ["greedy"], quota }, calm: { tables: ["calm"] } } },
  });
  const [greedy, calm] = [connect(t, server.respPort), connect(t, server.respPort)];
  const keys = keysOf(500);
  assert.equal(await calm("PASSIGN", "calm", keys, rowsOf(500, 1)), 500);
  const pulls = 150;
  const timeMs = async (): Promise<number> => {
    const from = performance.now();
    for (let i = 0; i < pulls; i += 1) assert.equal(numbersOf(await calm("PPULL", "calm", keys))[0], 1);
    return performance.now() - from;
  };
  await timeMs();
  const aloneMs = await timeMs();
  const [outcomes, stop] = [{ done: 0, refused: 0 }, new AbortController()];
  const hammering = (async () => {
    while (!stop.signal.aborted) {
      const batch = await Promise.allSettled(
        Array.from({ length: 100 }, (_, i) => greedy(...(i % 2 === 0 ? ["PPULL", "greedy", keys] : ["PADD", "model:greedy", keys, rowsOf(500, 1)]))),
      );
      for (const one of batch) {
        if (one.status === "fulfilled") outcomes.done += 1;
        else {
          assert.match(String(one.reason), /BUSY \[overloaded\] model greedy is over its quota of 1000 rows (?:pulled|pushed) a second: send again in \d+ ms/);
          outcomes.refused += 1;
        }
      }
    }
  })();
  const besideMs = await timeMs();
  stop.abort();
  await hammering;
  assert.ok(outcomes.refused > outcomes.done && outcomes.done > 0, JSON.stringify(outcomes));
  // Refusals cost the loop something, each some microseconds; a hundred are under way all the time.
  assert.ok(besideMs < 20 * aloneMs + 2_000, `${pulls} pulls took ${besideMs.toFixed(0)} ms beside the other model, ${aloneMs.toFixed(0)} ms alone`);
  const { quotas } = (await (await fetch(`${server.address}/v1/parameters`)).json()) as { quotas: { model: string; refused: Record<string, number> }[] };
  assert.equal(quotas.find(({ model }) => model === "greedy")!.refused["pulledRowsPerS"]! > 0, true);
  const metrics = await (await fetch(`${server.address}/metrics`)).text();
  assert.match(metrics, /rec_ps_model_refused\{model="greedy"\} [1-9]/);
  const documented = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");
  for (const [, name] of metrics.matchAll(/^# HELP (rec_ps_\w+)/gm)) assert.ok(documented.includes(`\`${name!}`), `docs/metrics.md lacks ${name!}`);
  assert.match(metrics, /rec_ps_pulled_rows\{table="calm"\} 225000\n/);
});

/** What stands in the answers of this test. */
interface Json {
  readonly version?: string;
  readonly rows?: number;
  readonly text?: string;
  readonly changes?: readonly { readonly who: string; readonly action: string }[];
}

test("promise: routes need their scopes, who changed what is kept, and a dropped table is gone from the metrics", { timeout: 60_000 }, async (t) => {
  const users = {
    watcher: { tokens: ["token-of-the-watcher"], scopes: ["read"] },
    operator: { tokens: ["token-of-the-operator"], scopes: ["import", "read"] },
    default: { rules: "~* &* +@all", passwords: ["password-1"] },
    worker: { rules: "~a ~model:ctr/* +@read +@write +@connection", passwords: ["password-2"] },
  };
  const server = await startWholeServer(t, { access: { users, anonymous: [] }, parameters: { tables: { a: table, b: table } } });
  const ask = async (method: string, path: string, token: string | undefined, body?: object): Promise<{ status: number; json: Json }> => {
    const response = await fetch(server.address + path, {
      method,
      headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, json: (path === "/metrics" ? { text } : JSON.parse(text)) as Json };
  };
  const [watcher, operator] = ["token-of-the-watcher", "token-of-the-operator"];
  const model = "/v1/parameters/models/ctr";
  const register = (role: string, live: boolean) =>
    ask("POST", `${model}/register`, operator, { tables: { users: role }, extractor: "2", config: { rate: 1 }, live });
  assert.equal((await ask("POST", `${model}/register`, watcher, { tables: { users: "a" } })).status, 403);
  assert.equal((await ask("GET", "/v1/parameters", undefined)).status, 401);
  const first = (await register("a", true)).json.version!;
  const second = (await register("b", false)).json.version!;
  assert.deepEqual((await ask("POST", `${model}/live`, operator, { version: second })).json, { model: "ctr", live: second });
  assert.deepEqual((await ask("POST", `${model}/rollback`, operator, {})).json, { model: "ctr", live: first });
  assert.equal((await ask("POST", `${model}/rollback`, operator, {})).status, 404);
  assert.equal((await ask("POST", `${model}/rollback`, watcher, {})).status, 403);
  assert.deepEqual((await ask("POST", `${model}/retire`, operator, { version: second })).json, { model: "ctr", retired: [second], removed: [second] });
  for (const wrong of [{}, { version: first, keep: 1 }, { keep: 0 }, { other: 1 }])
    assert.equal((await ask("POST", `${model}/retire`, operator, wrong)).status, 400);
  assert.equal((await register("absent", true)).status, 404);
  const { changes } = (await ask("GET", "/v1/parameters/changes?limit=3", watcher)).json;
  assert.deepEqual(
    changes!.map(({ who, action }) => [who.replace(/^server-\d+$/, "server"), action]),
    [
      ["server", "removed"],
      ["operator", "retire"],
      ["operator", "rollback"],
    ],
  );
  assert.equal((await ask("GET", "/v1/parameters/changes?limit=x", watcher)).status, 400);
  assert.equal((await ask("POST", "/v1/parameters/tables/a/save", operator)).json.rows, 0);
  assert.equal((await ask("GET", "/v1/parameters/tables/absent/look", watcher)).status, 404);
  assert.equal((await ask("POST", "/v1/parameters/tables/a/export", operator, { name: "../out" })).status, 400);

  const redis = new Redis({ port: server.respPort, host: "127.0.0.1", protocol: 2, password: "password-1" } as never);
  t.after(() => redis.disconnect());
  await redis.call("PCREATE", "made", "DIM", 4, "MEMORY", 2);
  assert.match((await ask("GET", "/metrics", watcher)).json.text!, /rec_ps_rows\{table="made"\} 0/);
  // Who may push rows may not change tables or models, and sees the tables of its model alone.
  const worker = new Redis({
    port: server.respPort,
    host: "127.0.0.1",
    protocol: 2,
    username: "worker",
    password: "password-2",
    enableReadyCheck: false,
  } as never);
  t.after(() => worker.disconnect());
  assert.equal(await worker.call("PADD", "model:ctr/users", keysOf(1), rowsOf(1, 1)), 1);
  for (const refused of [
    ["PDROP", "a"],
    ["PCREATE", "a", "DIM", "4"],
    ["PMODEL", "LIVE", "ctr", first],
    ["PSAVE", "a"],
    ["PPULL", "b", keysOf(1)],
    ["PPULL", "model:other/x", keysOf(1)],
  ] as const) {
    await assert.rejects(worker.call(...(refused as unknown as [string])), /NOPERM/, refused.slice(0, 2).join(" "));
  }
  await redis.call("PDROP", "made");
  assert.doesNotMatch((await ask("GET", "/metrics", watcher)).json.text!, /rec_ps_rows\{table="made"\}/);
});

const program = fileURLToPath(new URL("../../bin/millrace.js", import.meta.url));

function millrace(...args: string[]): Promise<{ code: number; out: string; error: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, "params", ...args], (failure, out, error) =>
      resolve({ code: failure === null ? 0 : Number(failure.code), out, error }),
    );
  });
}

test(
  "promise: millrace params lists, saves, exports and imports tables, and moves models, while the server runs and without it",
  { timeout: 120_000 },
  async (t) => {
    const dataFolder = newDataFolder(t);
    const out = mkdtempSync(join(tmpdir(), "millrace-exchange-"));
    t.after(() => rmSync(out, { recursive: true, force: true }));
    const server = await startWholeServer(
      t,
      { parameters: { tables: { users: table, items: table }, models: { ctr: { tables: ["users"] } } } },
      { dataFolder },
    );
    const call = connect(t, server.respPort);
    await call("PASSIGN", "users", keysOf(1_000), rowsOf(1_000, 5));
    const [at, data] = [
      ["--server", server.address],
      ["--data", dataFolder],
    ] as const;
    const good = async (...args: string[]): Promise<string> => {
      const { code, out: said, error } = await millrace(...args);
      assert.equal(code, 0, `${args.join(" ")}: ${error}`);
      return said;
    };
    assert.match(await good("save", "users", ...at), /^users: 1000 rows, [\d.]+ \w+ in \d+ ms\n$/);
    assert.match(await good("list", ...at), /^users: 1000 rows of 4, .* checkpoint \d+ s old\nitems: 0 rows of 4, /);
    assert.match(await good("info", "users", ...at), /writes counted 1000\n/);
    assert.equal((JSON.parse(await good("info", "users", "--json", ...at)) as { rows: number }).rows, 1_000);
    assert.equal(await good("export", "users", join(out, "x"), ...at, ...data), `users: 1000 rows are in ${join(out, "x")}\n`);
    assert.deepEqual(readdirSync(join(out, "x")).toSorted(), ["keys.npy", "manifest.json", "touched.npy", "values.npy", "versions.npy"]);
    assert.match((await millrace("export", "users", join(out, "x"), ...at, ...data)).error, /holds an export/);
    assert.equal(await good("import", "items", join(out, "x"), ...at, ...data), "items: 1000 rows were read\n");
    assert.deepEqual([...new Set(numbersOf(await call("PPULL", "items", keysOf(1_000))))], [5]);
    assert.deepEqual(readdirSync(join(dataFolder, "exchange")), [], "nothing is left in between");
    assert.match((await millrace("import", "items", join(out, "none"), ...at, ...data)).error, /no manifest\.json/);
    assert.equal(existsSync(join(out, "none")), false);

    // The server hears of it by the registry.
    const second = String(await call("PMODEL", "REGISTER", "ctr", "TABLES", 1, "users=items"));
    assert.equal(await good("live", "ctr", second.slice(0, -1), ...data), `ctr: ${second} is live\n`);
    for (let tries = 0; !String(await call("PMODEL", "LIST", "ctr")).includes(`live,${second}`); tries += 1) {
      assert.ok(tries < 400, "the server has not heard of it");
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    await server.stop(500);
    const [model] = JSON.parse(await good("models", "--json", ...data)) as { live: string; before: string }[];
    assert.equal(model!.live, second);
    assert.equal(await good("rollback", "ctr", ...data), `ctr: ${model!.before} is live\n`);
    assert.match(await good("retire", "ctr", second, ...data), /is gone\n$/);
    assert.match(await good("models", ...data), /^ctr: live \S+\n {2}\S+ {2}live {6}users\n$/);
    const failed = await millrace("rollback", "ctr", ...data);
    assert.deepEqual([failed.code, /no version before the live one/.test(failed.error)], [1, true]);
    assert.match((await millrace("list", ...at)).error, /found no server at/);
  },
);

test("promise: a configuration that forgot a table of a model is refused, and says which model uses it", { timeout: 60_000 }, async (t) => {
  const dataFolder = newDataFolder(t);
  const server = await startWholeServer(t, { parameters: { tables: { users: table, items: table } } }, { dataFolder });
  const call = connect(t, server.respPort);
  await call("PASSIGN", "items", keysOf(3), rowsOf(3, 2));
  const version = String(await call("PMODEL", "REGISTER", "ctr", "TABLES", 1, "items", "LIVE"));
  await server.stop(500);
  await assert.rejects(startWholeServer(t, { parameters: { tables: { users: table } } }, { dataFolder }), (thrown: Error) => {
    assert.ok(thrown.message.includes(`declares no parameter table items, which ctr@${version} (live) uses`), thrown.message);
    return true;
  });
  // With it again, rows and model are as they were.
  const again = await startWholeServer(t, { parameters: { tables: { users: table, items: table } } }, { dataFolder });
  assert.equal(numbersOf(await connect(t, again.respPort)("PPULL", "model:ctr", keysOf(3)))[0], 2);
});
