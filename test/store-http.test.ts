// The store, its versions and imports over HTTP: a whole server in this process, real sockets, imports in the processes they really have.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readConfig } from "#cli/config-file";
import { type Server, startServer } from "#roles/server";
import { checkAccessConfig } from "#wire/access-config";
import type { AccessConfig } from "#wire/access-config";
import type { TablesConfig } from "#wire/table-config";

const tables: TablesConfig = {
  items: { key: "string", columns: { views: { type: "i64" }, title: { type: "string" }, ctr: { type: "f32", owner: "stream" } } },
};

interface Answered {
  readonly status: number;
  readonly text: string;
  readonly json: unknown;
}

interface Node {
  readonly server: Server;
  readonly folder: string;
  readonly inputs: string;
  readonly warnings: string[];
  send(method: string, path: string, body?: unknown, token?: string): Promise<Answered>;
  /** The import's last word. */
  ended(job: string): Promise<Job>;
}

interface Job {
  readonly job: string;
  readonly table: string;
  readonly stage: string;
  readonly error?: string;
  readonly version?: string;
  readonly rowsStaged: number;
}

async function startNode(context: TestContext, access?: AccessConfig): Promise<Node> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-store-http-"));
  const inputs = mkdtempSync(join(tmpdir(), "millrace-store-inputs-"));
  const warnings: string[] = [];
  const file = join(inputs, "millrace.json");
  writeFileSync(file, JSON.stringify({ model: null, tables, storage: { memoryMiB: 512, importFolders: [inputs] } }));
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    respPort: 0,
    dataFolder: folder,
    durability: "none",
    version: "0.0.0-test",
    config: { ...(await readConfig(file, "feed")), access },
    logger: { error: (_detail, message) => warnings.push(message), warn: (_detail, message) => warnings.push(message) },
  });
  context.after(async () => {
    await server.stop(1_000);
    for (const one of [folder, inputs]) rmSync(one, { recursive: true, force: true });
  });
  await server.gateway.opened;
  const send: Node["send"] = async (method, path, body, token) => {
    const init: RequestInit = { method, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } };
    if (body !== undefined) {
      init.headers = { ...init.headers, "content-type": "application/json" };
      init.body = JSON.stringify(body);
    }
    const response = await fetch(server.address + path, init);
    const text = await response.text();
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    return { status: response.status, text, json };
  };
  return {
    server,
    folder,
    inputs,
    warnings,
    send,
    async ended(job) {
      for (let tries = 0; tries < 600; tries += 1) {
        const { status, text, json } = await send("GET", `/v1/imports/${job}`);
        assert.equal(status, 200, `a job that was answered is always found: ${text}`);
        const entry = json as Job;
        if (entry.stage === "done" || entry.stage === "failed") return entry;
        await sleep(100);
      }
      throw new Error(`import ${job} does not end`);
    },
  };
}

const begun = ({ status, text, json }: Answered): string => {
  assert.equal(status, 202, text);
  return (json as { job: string }).job;
};

test("promise: an import over HTTP, seen from its first moment, read while it goes live, rolled back, live writes kept", async (t) => {
  const node = await startNode(t);
  const { send, ended, inputs } = node;
  const csv = join(inputs, "items.csv");
  writeFileSync(csv, "id,views,title,ctr\na,1,one,0.5\nb,1,one,0.5\n");
  const write = (values: object): Promise<Answered> => send("POST", "/v1/tables/items/write", { rows: [{ key: "a", values }] });
  assert.equal((await write({ ctr: 0.25 })).status, 200);

  // A reader all the while: no answer may fail, and none may mix two versions.
  const reading = { on: true, failed: [] as string[], reads: 0, versions: new Set<string>() };
  const reader = (async () => {
    while (reading.on) {
      const { status, text, json } = await send("POST", "/v1/tables/items/read", { keys: ["a", "b"], columns: ["views", "title"] });
      reading.reads += 1;
      const { statuses = [], rows = [], version = "?" } = (json ?? {}) as { statuses?: string[]; rows?: (unknown[] | null)[]; version?: string };
      const [a, b] = rows;
      const whole = version === "" ? statuses[0] === "found" && b === null : statuses.every((one) => one === "found") && String(a) === String(b);
      if (status !== 200 || !whole) reading.failed.push(text);
      reading.versions.add(version);
      await sleep(10);
    }
  })();

  const first = await ended(begun(await send("POST", "/v1/imports", { table: "items", files: [csv] })));
  assert.equal(first.stage, "done", first.error);
  writeFileSync(csv, "id,views,title,ctr\na,2,two,0.75\nb,2,two,0.75\n");
  const second = await ended(begun(await send("POST", "/v1/imports", { table: "items", query: `SELECT * FROM '${csv}'` })));
  assert.equal(second.stage, "done", second.error);
  const serves = async (version: string): Promise<void> => {
    for (let tries = 0; tries < 200; tries += 1) {
      const { json } = await send("GET", "/v1/tables/items");
      if ((json as { version: string }).version === version) return;
      await sleep(50);
    }
    throw new Error(`${version} is not served: ${node.warnings.join("; ")}`);
  };
  await serves(second.version!);
  const ctr = async (): Promise<unknown> =>
    ((await send("POST", "/v1/tables/items/read", { keys: ["a", "b"], columns: ["ctr"] })).json as { rows: unknown }).rows;
  assert.deepEqual(await ctr(), [[0.25], [0.75]], "the stream's column holds the live value, and the imported one where there is none");
  reading.on = false;
  await reader;
  assert.deepEqual(reading.failed, []);
  assert.deepEqual([...reading.versions], ["", first.version, second.version]);

  assert.equal((await write({ views: 99 })).status, 200);
  const back = await send("POST", "/v1/snapshots/table/items/rollback", {});
  assert.equal(back.status, 200, back.text);
  assert.deepEqual(back.json, { kind: "table", name: "items", live: first.version });
  await serves(first.version!);
  const rows = (await send("POST", "/v1/tables/items/read", { keys: ["a", "b"] })).json as { rows: unknown };
  assert.deepEqual(rows.rows, [
    [99, "one", 0.25],
    [1, "one", 0.5],
  ]);

  const forward = await send("POST", "/v1/snapshots/table/items/live", { version: second.version });
  assert.equal(forward.status, 200, forward.text);
  await serves(second.version!);
  const [overview] = (await send("GET", "/v1/snapshots")).json as {
    name: string;
    live: string;
    versions: { version: string; state: string; usedBy: string[] }[];
  }[];
  assert.equal(overview?.name, "items");
  assert.equal(overview.live, second.version);
  assert.deepEqual(
    overview.versions.map(({ version, state }) => [version, state]),
    [
      [second.version, "live"],
      [first.version, "backup"],
    ],
  );
  const jobs = (await send("GET", "/v1/imports")).json as Job[];
  assert.deepEqual(
    jobs.map(({ job, stage }) => [job, stage]),
    [
      [second.job, "done"],
      [first.job, "done"],
    ],
  );
});

test("what cannot be imported is refused at once or told under the job's name, and steps on versions that are not there say so", async (t) => {
  const { send, ended, inputs } = await startNode(t);
  const refused = async (path: string, body: unknown, status: number, text: RegExp): Promise<void> => {
    const answer = await send("POST", path, body);
    assert.equal(answer.status, status, `${path}: ${answer.text}`);
    assert.match(answer.text, text);
  };
  await refused("/v1/imports", {}, 400, /names no table/);
  await refused("/v1/imports", { table: "items" }, 400, /reads nothing/);
  await refused("/v1/imports", { table: "items", files: [] }, 400, /reads nothing/);
  await refused("/v1/imports", { table: "items", query: " " }, 400, /reads nothing/);
  await refused("/v1/imports", { table: "nope", files: ["/x.csv"] }, 404, /no table \\"nope\\"/);
  await refused("/v1/imports", { table: "items", files: ["/x.csv"], rejects: 1 }, 400, /a field \\"rejects\\"/);
  await refused("/v1/snapshots/table/items/rollback", {}, 404, /no version before/);
  await refused("/v1/snapshots/table/items/live", { version: "2" }, 404, /has no version \\"2\\"/);
  await refused("/v1/snapshots/table/items/live", {}, 400, /lacks \\"version\\"/);
  await refused("/v1/snapshots/table/items/retire", { keep: 0 }, 400, /keep/);
  await refused("/v1/snapshots/no%2Fkind/items/retire", {}, 400, /names no snapshot/);
  assert.deepEqual((await send("POST", "/v1/snapshots/table/items/retire", {})).json, { kind: "table", name: "items", live: null, removed: [] });
  assert.equal((await send("GET", "/v1/imports/nope")).status, 404);
  assert.equal((await send("DELETE", "/v1/imports/nope")).status, 404);

  writeFileSync(join(inputs, "broken.parquet"), "PAR1 and no more");
  const jobs = [
    [{ files: ["/etc/hostname"] }, /\[unauthorized\] a file outside the folders/],
    [{ files: [`${inputs}/../x.csv`] }, /\[unauthorized\] a file outside the folders/],
    [{ files: [join(inputs, "none.csv")] }, /\[not-found\] there is no file/],
    [{ files: [join(inputs, "broken.parquet")] }, /\[invalid\] .*broken\.parquet cannot be read/],
    [{ query: "SELECT * FROM read_csv('/etc/hostname')" }, /\[invalid\] query cannot be read/],
  ] as const;
  for (const [ask, message] of jobs) {
    const { stage, error } = await ended(begun(await send("POST", "/v1/imports", { table: "items", ...ask })));
    assert.equal(stage, "failed");
    assert.match(error!, message);
  }
  assert.equal((await send("GET", "/v1/snapshots")).status, 200);
});

test("an import is stopped, is told as failed, and goes on when it is asked for again", async (t) => {
  const { send, ended, inputs } = await startNode(t);
  const csv = join(inputs, "many.csv");
  writeFileSync(csv, `id,views\n${Array.from({ length: 300_000 }, (_, i) => `k${i},${i}`).join("\n")}\n`);
  const ask = { table: "items", files: [csv] };
  const job = begun(await send("POST", "/v1/imports", ask));
  const stopped = await send("DELETE", `/v1/imports/${job}`);
  assert.deepEqual(stopped.json, { stopped: true });
  const entry = await ended(job);
  assert.equal(entry.stage, "failed");
  assert.deepEqual((await send("DELETE", `/v1/imports/${job}`)).json, { stopped: false });
  assert.equal((await send("GET", "/v1/snapshots/")).status, 404);
  const again = await ended(begun(await send("POST", "/v1/imports", ask)));
  assert.equal(again.stage, "done", again.error);
  assert.equal(again.rowsStaged, 300_000);
});

test("the store tells its state; with access each of its routes needs its scope", async (t) => {
  const { send, server } = await startNode(
    t,
    checkAccessConfig({
      users: {
        console: { tokens: ["token-of-the-console"], scopes: ["read"] },
        pipeline: { tokens: ["token-of-the-pipeline"], scopes: ["write"] },
        batch: { tokens: ["token-of-the-importer"], scopes: ["import"] },
      },
    }),
  );
  const store = await send("GET", "/v1/store", undefined, "token-of-the-console");
  assert.equal(store.status, 200, store.text);
  const { state, memory, redis } = store.json as { state: { offset: number; runs: unknown[] }; memory: { capBytes: number; owners: unknown[] }; redis: object };
  assert.ok(state.offset >= 0 && Array.isArray(state.runs));
  assert.equal(memory.capBytes, 512 * 2 ** 20);
  assert.ok(Array.isArray(memory.owners));
  assert.deepEqual(redis, { port: server.respPort, connections: 0, commands: 0, commandsPerSecond: 0 });
  const routes = [
    ["GET", "/v1/store", "read"],
    ["GET", "/v1/snapshots", "read"],
    ["GET", "/v1/imports", "read"],
    ["GET", "/v1/imports/x", "read"],
    ["POST", "/v1/imports", "import"],
    ["DELETE", "/v1/imports/x", "import"],
    ["POST", "/v1/snapshots/table/items/live", "import"],
    ["POST", "/v1/snapshots/table/items/rollback", "import"],
    ["POST", "/v1/snapshots/table/items/retire", "import"],
  ] as const;
  const tokens = { read: "token-of-the-console", write: "token-of-the-pipeline", import: "token-of-the-importer" } as const;
  for (const [method, path, scope] of routes) {
    const body = method === "POST" ? {} : undefined;
    assert.equal((await send(method, path, body)).status, 401, `${method} ${path}`);
    for (const [of, token] of Object.entries(tokens)) {
      const { status } = await send(method, path, body, token);
      if (of === scope) assert.ok(status !== 401 && status !== 403, `${method} ${path} with ${of}: ${status}`);
      else assert.equal(status, 403, `${method} ${path} with ${of}`);
    }
  }
});

test("promise: rec_table_loaded is 0 while a version that was refused is live, and 1 when the served one is live again", async (t) => {
  const { folder, inputs, send, ended } = await startNode(t);
  const version = async (name: string, live: boolean): Promise<string> => {
    const csv = join(inputs, name);
    writeFileSync(csv, "id,views\na,1\nb,2\n");
    const begun = (await send("POST", "/v1/imports", { table: "items", files: [csv], live })).json as { job: string };
    return (await ended(begun.job)).version!;
  };
  const loaded = async (): Promise<string | undefined> => /^rec_table_loaded\{table="items"\} (\d)$/m.exec((await send("GET", "/metrics")).text)?.[1];
  const until = async (wanted: string): Promise<void> => {
    for (let look = 0; look < 400 && (await loaded()) !== wanted; look += 1) await sleep(25);
    assert.equal(await loaded(), wanted);
  };
  assert.equal(await loaded(), "1", "nothing was published: nothing is missing");
  const good = await version("good.csv", true);
  await until("1");
  const bad = await version("bad.csv", false);
  const runs = readdirSync(folder, { recursive: true, withFileTypes: true }).filter(
    (one) => one.isFile() && join(one.parentPath, one.name).includes(`${bad}/files/`),
  );
  assert.ok(runs.length > 0);
  for (const { parentPath, name } of runs) {
    const path = join(parentPath, name);
    writeFileSync(path, new Uint8Array(statSync(path).size));
  }
  assert.equal((await send("POST", "/v1/snapshots/table/items/live", { version: bad })).status, 200);
  await until("0");
  for (let look = 0; look < 400 && !(await send("GET", "/v1/snapshots")).text.includes('"reason"'); look += 1) await sleep(25);
  const [state] = ((await send("GET", "/v1/tables")).json as { tables: { name: string; version: string; live: string }[] }).tables.filter(
    ({ name }) => name === "items",
  );
  assert.deepEqual([state?.version, state?.live], [good, bad]);
  assert.equal(await loaded(), "0", "refused, not loading");
  assert.equal((await send("POST", "/v1/snapshots/table/items/rollback", {})).status, 200);
  await until("1");
});
