// Vector collections of a whole server, as its users reach them: Redis commands, HTTP, metrics, and over a restart.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Redis } from "ioredis";
import type { Server } from "#roles/server";
import { newDataFolder, startWholeServer } from "../whole-server.ts";

const config = { vectors: { collections: { films: { dims: 2 }, points: { dims: 2, metric: "l2" } }, memoryMb: 256 } };
const f32 = (...numbers: number[]): Buffer => Buffer.from(Float32Array.from(numbers).buffer);

function clientOf(t: TestContext, { respPort }: Server): Redis {
  const redis = new Redis({ port: respPort, maxRetriesPerRequest: 1 });
  t.after(() => {
    redis.disconnect();
  });
  return redis;
}

async function send<T>({ address }: Server, method: string, path: string, body?: unknown): Promise<{ status: number; json: T }> {
  const answer = await fetch(`${address}${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  return { status: answer.status, json: (await answer.json()) as T };
}

interface Searched {
  readonly version: string;
  readonly answers: readonly { readonly element: string; readonly score: number; readonly attributes?: object }[];
  readonly batch: readonly Searched["answers"][];
}
interface Refused {
  readonly error: { readonly code: string; readonly message: string };
}

test("promise: elements written over HTTP and over the Redis port are one collection, and are there after a restart", async (t) => {
  const dataFolder = newDataFolder(t);
  const server = await startWholeServer(t, config, { dataFolder });
  const redis = clientOf(t, server);
  assert.equal(await redis.call("VADD", "films", "FP32", f32(1, 0), "alien", "SETATTR", '{"year":1979}'), 1);
  const written = await send(server, "POST", "/v1/collections/films/write", { rows: [{ element: "dune", vector: [0, 2], attributes: { year: 1984 } }] });
  assert.deepEqual(written, { status: 200, json: { added: 1, updated: 0, missing: 0 } });
  assert.deepEqual(await redis.call("VSIM", "films", "VALUES", "2", "0", "1", "WITHSCORES"), ["dune", "1", "alien", "0.5"]);
  const { json } = await send<Searched>(server, "POST", "/v1/collections/films/search", { element: "dune", withAttributes: true, filter: ".year > 1980" });
  assert.deepEqual(json.answers, [{ element: "dune", score: 1, attributes: { year: 1984 } }]);
  redis.disconnect();
  await server.stop(500);

  const again = await startWholeServer(t, config, { dataFolder });
  const other = clientOf(t, again);
  assert.equal(await other.call("VCARD", "films"), 2);
  assert.deepEqual(await other.call("VSIM", "films", "ELE", "alien", "COUNT", "1"), ["alien"]);
  assert.equal(await other.call("VGETATTR", "films", "dune"), '{"year":1984}');
});
