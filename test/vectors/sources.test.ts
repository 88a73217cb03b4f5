// Every kind of source of a vector task against a whole server: files of each format, a query, a table, a parameter table, a model over a table.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DuckDBInstance } from "@duckdb/node-api";
import { Redis } from "ioredis";
import type { VectorTaskDetail } from "#wire/vector-task-api";
import { temporaryFolder } from "../../bench/load/server-process.ts";
import { startWholeServer } from "../whole-server.ts";

test("promise: each kind of source of a task is built by a server and found by its ids", { timeout: 600_000 }, async (t) => {
  const folder = temporaryFolder();
  t.after(() => {
    folder.remove();
  });
  const at = (name: string): string => join(folder.path, name);
  const duck = await (await DuckDBInstance.create()).connect();
  await duck.run(`CREATE TABLE t AS SELECT 'film-' || i AS id, [sin(i), cos(i)]::FLOAT[2] AS vector, 1950 + i AS year FROM range(40) r(i)`);
  await duck.run(`COPY t TO '${at("films.parquet")}'`);
  await duck.run(`COPY (SELECT id, CAST(vector::FLOAT[] AS VARCHAR) AS vector, year FROM t) TO '${at("films.csv")}' (HEADER)`);
  duck.disconnectSync();
  writeFileSync(
    at("model.mjs"),
    "export default { dims: 3, vectors: (ids, rows) => Float32Array.from(rows.flatMap(({ year }) => [year === null ? NaN : year - 1950, 1, 2])) };",
  );
  const table = { key: "string", columns: { embedding: { type: "f32", length: 2 }, year: { type: "i64" } } };
  const sources = {
    parquet: { files: [at("films.parquet")], attributes: ["year"] },
    csv: { files: [at("films.csv")], attributes: ["year"] },
    query: { files: [], query: `SELECT id, vector, year FROM '${at("films.parquet")}' WHERE year >= 1970`, attributes: ["year"] },
    table: { table: "items", column: "embedding", attributes: ["year"] },
    model: { module: at("model.mjs"), table: "items" },
    parameters: { parameters: "item-vectors" },
  } as const;
  const server = await startWholeServer(t, {
    tables: { items: table },
    parameters: { tables: { "item-vectors": { dim: 2, memoryMb: 4 } } },
    vectors: { builders: 2, memoryMb: 256, tasks: Object.fromEntries(Object.entries(sources).map(([name, source]) => [name, { source, memoryMb: 1_024 }])) },
  });
  const redis = new Redis({ port: server.respPort, maxRetriesPerRequest: 1 });
  // The server may be stopped before its client.
  redis.on("error", () => undefined);
  t.after(() => {
    redis.disconnect();
  });
  for (let i = 0; i < 30; i++) {
    const year = i < 20 ? ["year", String(1950 + i)] : [];
    await redis.call("TSET", "items", `k${i}`, "embedding", JSON.stringify([Math.sin(i), Math.cos(i)]), ...year);
  }
  await redis.call("TSET", "items", "bare", "year", "1999");
  const keys = [1n, 7n, 2n ** 60n + 7n];
  const rows = Float32Array.of(1, 0, 0, 1, 3, 4);
  await redis.call("PASSIGN", "item-vectors", Buffer.from(BigUint64Array.from(keys).buffer), Buffer.from(rows.buffer));

  const ask = async (path: string, init?: RequestInit): Promise<VectorTaskDetail> =>
    (await (await fetch(`${server.address}/v1/vector-tasks/${path}`, init)).json()) as VectorTaskDetail;
  // As clients call that name a type and send nothing.
  for (const name of Object.keys(sources)) await ask(`${name}/run`, { method: "POST", headers: { "content-type": "application/json" } });
  const refused = async (config: object): Promise<readonly [status: number, message: string]> => {
    const answer = await fetch(`${server.address}/v1/vector-tasks`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: "odd", config }),
    });
    return [answer.status, ((await answer.json()) as { error: { message: string } }).error.message];
  };
  for (const [config, status, message] of [
    [{ source: { npy: at("v.npy") } }, 403, /source\.npy lies outside the folders/],
    [{ source: { module: at("model.mjs"), table: "items" } }, 403, /source\.module cannot be told over HTTP/],
    [{ source: { table: "items", column: "year" } }, 400, /source\.column is year, which holds i64/],
    [{ source: { parameters: "none" } }, 400, /source\.parameters is none/],
    [{ source: { fils: [at("films.csv")] } }, 400, /config\.source names no rows/],
    [{ source: { table: "items", colum: "embedding" } }, 400, /config\.source has no field "colum"/],
  ] as const) {
    const [code, said] = await refused(config);
    assert.equal(code, status, said);
    assert.match(said, message);
  }
  const post = (path: string, body: string): Promise<Response> => fetch(`${server.address}/v1/vector-tasks/${path}`, { method: "POST", body });
  assert.equal((await post("table/run", '{"force":true}')).status, 400, "what a step does not know is refused");
  assert.equal((await post("table/finished", "job 7 is done")).status, 409, "what a job sends is its own; this task is not built by jobs");
  const built = async (name: string): Promise<readonly [rows: number | undefined, refused: number | undefined]> => {
    for (;;) {
      const { last } = await ask(name);
      if (last === null) await sleep(100);
      else {
        assert.equal(last.verdict, "live", `${name}: ${last.reasons.join()}`);
        return [last.rows, last.refusedRows];
      }
    }
  };
  assert.deepEqual(await built("parquet"), [40, 0]);
  assert.deepEqual(await built("csv"), [40, 0]);
  assert.deepEqual(await built("query"), [20, 0]);
  assert.deepEqual(await built("table"), [30, 1], "a row without a vector is left out and counted");
  assert.deepEqual(await built("model"), [21, 10]);
  assert.deepEqual(await built("parameters"), [3, 0]);
  const first = async (collection: string, element: string): Promise<unknown> => {
    for (const end = Date.now() + 180_000; ; await sleep(100)) {
      const found = await redis.call("VSIM", collection, "ELE", element, "COUNT", "1", "WITHATTRIBS").catch((thrown: unknown) => thrown);
      // The collection is there before its first version is loaded.
      if ((Array.isArray(found) && found.length > 0) || Date.now() > end) return found;
    }
  };
  assert.deepEqual(await first("parquet", "film-7"), ["film-7", '{"year":1957}']);
  assert.deepEqual(await first("csv", "film-7"), ["film-7", '{"year":"1957"}']);
  assert.deepEqual(await first("query", "film-27"), ["film-27", '{"year":1977}']);
  assert.deepEqual(await first("table", "k7"), ["k7", '{"year":1957}']);
  assert.deepEqual(await first("model", "bare"), ["bare", null]);
  assert.deepEqual(await first("parameters", String(2n ** 60n + 7n)), [String(2n ** 60n + 7n), null]);
});
