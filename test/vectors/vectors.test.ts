// Vector collections of a whole server, as its users reach them: Redis commands, HTTP, metrics, and over a restart.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";
import { Redis } from "ioredis";
import { defaultConfig } from "#gateway/index";
import type { Server } from "#roles/server";
import { freePort } from "../free-port.ts";
import { RawClient } from "../redis/raw-client.ts";
import { newDataFolder, startWholeServer } from "../whole-server.ts";

const config = { vectors: { collections: { films: { dims: 2 }, points: { dims: 2, metric: "l2" } }, memoryMb: 256 } };
const f32 = (...numbers: number[]): Buffer => Buffer.from(Float32Array.from(numbers).buffer);

function clientOf(t: TestContext, { respPort }: Server): Redis {
  const redis = new Redis({ port: respPort, maxRetriesPerRequest: 1 });
  // The server may be stopped before its client.
  redis.on("error", () => undefined);
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

test("bug: while a restarted server opens its collections none is answered as absent, and no name is taken twice", async (t) => {
  const dataFolder = newDataFolder(t);
  const respPort = await freePort();
  const first = await startWholeServer(t, config, { dataFolder });
  const filling = clientOf(t, first);
  const made = Array.from({ length: 8 }, (_, i) => `made:${i}`);
  for (const name of made) for (let i = 0; i < 3; i++) await filling.call("VADD", name, "VALUES", "2", "1", `${i}`, `e${i}`);
  filling.disconnect();
  await first.stop(500);

  const starting = startWholeServer(t, config, { dataFolder, respPort });
  let started = false;
  starting.then(
    () => (started = true),
    () => (started = true),
  );
  const asked: [expected: RegExp, ...command: string[]][] = made.flatMap((name): typeof asked => [
    [/^:1$/, "EXISTS", name],
    [/^\+vectorset$/, "TYPE", name],
    [/^-WRONGTYPE /, "SET", name, "v", "NX"],
    [/^:3$|^-MISCONF \[unavailable\].* is being opened/, "VCARD", name],
    [/^\*.*e0|^-MISCONF \[unavailable\].* is being opened/, "VSIM", name, "VALUES", "2", "1", "0"],
  ]);
  asked.push([/made:0.*made:7/, "VLIST"]);
  const seen = { loading: 0, served: 0 };
  let early: RawClient | undefined;
  try {
    for (let wasStarted = false; !wasStarted; await setTimeout(1)) {
      wasStarted = started;
      early ??= await RawClient.open(respPort).catch(() => undefined);
      const answers = (await early?.send(asked.map(([, ...command]) => command))) ?? [];
      for (const [i, [type, content]] of answers.entries()) {
        const said = `${type}${String(content)}`;
        const [expected, ...command] = asked[i]!;
        if (said.startsWith("-LOADING ")) seen.loading++;
        else {
          seen.served++;
          assert.match(said, expected, `${command.join(" ")} (${JSON.stringify(seen)})`);
        }
      }
    }
  } finally {
    early?.close();
    await starting;
  }
  assert.ok(seen.loading > 0 && seen.served > 0, "nothing was asked while it opened");
});

test("HTTP: collections are made, listed and dropped, rows written, read and deleted, searches one or many", async (t) => {
  const server = await startWholeServer(t, config);
  const path = "/v1/collections/shop%3Aitems%20%C3%A4";
  assert.deepEqual(await send(server, "PUT", path, { dims: 3, metric: "ip" }), { status: 200, json: { name: "shop:items ä", made: true } });
  assert.equal((await send<{ made: boolean }>(server, "PUT", path, { dims: 3, metric: "ip" })).json.made, false);
  const rows = [
    { element: "a", vector: [1, 0, 0], attributes: { x: 1 } },
    { element: "b", vector: [0, 2, 0], attributes: { x: 2 } },
    { element: "c", vector: [0, 0, 3] },
  ];
  assert.deepEqual((await send(server, "POST", `${path}/write`, { rows })).json, { added: 3, updated: 0, missing: 0 });
  const again = {
    rows: [
      { element: "a", vector: [4, 0, 0] },
      { element: "c", attributes: { x: 3 } },
      { element: "none", attributes: {} },
      { element: "b", attributes: null },
    ],
  };
  assert.deepEqual((await send(server, "POST", `${path}/write`, again)).json, { added: 0, updated: 3, missing: 1 });
  const read = await send(server, "POST", `${path}/read`, { elements: ["a", "b", "none"] });
  assert.deepEqual(read.json, {
    rows: [
      { element: "a", found: true, vector: [4, 0, 0], norm: 1, attributes: { x: 1 } },
      { element: "b", found: true, vector: [0, 2, 0], norm: 1 },
      { element: "none", found: false },
    ],
  });
  const one = await send<Searched>(server, "POST", `${path}/search`, { vector: [1, 1, 1], count: 2, exact: true });
  assert.deepEqual(
    [one.json.answers, one.json.batch],
    [
      [
        { element: "a", score: 4 },
        { element: "c", score: 3 },
      ],
      undefined,
    ],
  );
  const many = await send<Searched>(server, "POST", `${path}/search`, {
    vectors: [
      [1, 0, 0],
      [0, 0, 1],
    ],
    count: 1,
    withAttributes: true,
  });
  assert.deepEqual(many.json.batch, [[{ element: "a", score: 4, attributes: { x: 1 } }], [{ element: "c", score: 3, attributes: { x: 3 } }]]);
  assert.deepEqual((await send(server, "POST", `${path}/delete`, { elements: ["a", "none"] })).json, { deleted: 1 });
  const looked = (await send<{ elements: number; dims: number; metric: string }>(server, "GET", path)).json;
  assert.deepEqual([looked.elements, looked.dims, looked.metric], [2, 3, "ip"]);
  assert.deepEqual((await send(server, "DELETE", path)).json, { name: "shop:items ä", dropped: true });

  const refused = async (method: string, url: string, body: unknown, status: number, code: string, message: RegExp): Promise<void> => {
    const { status: got, json } = await send<Refused>(server, method, url, body);
    assert.equal(got, status, JSON.stringify(json));
    assert.equal(json.error.code, code);
    assert.match(json.error.message, message);
  };
  const films = "/v1/collections/films";
  await refused("DELETE", path, undefined, 404, "not-found", /no collection/);
  await refused("GET", path, undefined, 404, "not-found", /no collection/);
  await refused("POST", `${path}/search`, { element: "a" }, 404, "not-found", /no collection/);
  await refused("PUT", films, { dims: 3 }, 409, "conflict", /films/);
  await refused("PUT", "/v1/collections/model%3Ax", { dims: 3 }, 400, "invalid", /model:x/);
  await refused("PUT", "/v1/collections/other", { dims: 0 }, 400, "invalid", /dims/);
  await refused("POST", `${films}/search`, { vector: [1] }, 400, "invalid", /the vector has 1 numbers, the collection has 2/);
  await refused("POST", `${films}/search`, { vector: [1, 2], element: "a" }, 400, "invalid", /exactly one/);
  await refused("POST", `${films}/search`, {}, 400, "invalid", /exactly one/);
  await refused("POST", `${films}/search`, { element: "none" }, 404, "not-found", /element/);
  await refused("POST", `${films}/search`, { vector: [1, 2], version: "none" }, 404, "not-found", /version/);
  await refused("POST", `${films}/search`, { vector: [1, 2], filter: ".x >" }, 400, "invalid", /filter/i);
  await refused("POST", `${films}/search`, { vector: [1, 2], cuont: 1 }, 400, "invalid", /cuont/);
  await refused("POST", `${films}/search`, { vector: [1e39, 2] }, 400, "invalid", /f32/);
  await refused("POST", `${films}/write`, { rows: [{ element: "a" }] }, 400, "invalid", /neither vector nor attributes/);
  await refused("POST", `${films}/write`, { rows: [{ element: "a", vector: [1, 2, 3] }] }, 400, "invalid", /row 0 has 3 numbers/);
});

test("status and metrics name each collection, and the cache answers what did not change", async (t) => {
  const server = await startWholeServer(t, config);
  const redis = clientOf(t, server);
  await redis.call("VADD", "films", "VALUES", "2", "1", "0", "a");
  for (let i = 0; i < 5; i++) await redis.call("VSIM", "films", "VALUES", "2", "1", "1");
  const { json } = await send<{ cache: { hits: number; misses: number }; collections: { name: string }[] }>(server, "GET", "/v1/vectors");
  assert.deepEqual([json.cache.hits, json.cache.misses], [4, 1]);
  await redis.call("VADD", "films", "VALUES", "2", "1", "1", "b");
  assert.deepEqual(await redis.call("VSIM", "films", "VALUES", "2", "1", "1", "COUNT", "1"), ["b"]);
  const text = await (await fetch(`${server.address}/metrics`)).text();
  assert.match(text, /^rec_vectors_cache_hits 4$/m);
  assert.match(text, /^rec_vectors_elements\{collection="points"\} 0$/m);
  const { json: ready } = await send<{ ready: boolean }>(server, "GET", "/health/ready");
  assert.equal(ready.ready, true);
});

test("promise: a pipeline recalls from a collection by the user's vector and by the last item, and answers without it when it fails", async (t) => {
  const quota = { ownHistory: 0, together: 0, popular: 0, trending: 0, fresh: 0, affinity: 0 };
  const { weights } = defaultConfig.pipelines["popular"]!;
  const pipeline = (collections: object[]): object => ({ quota, weights, collections, shownMinutes: 0, doneMinutes: 0, deadlineMs: 5_000 });
  const near = { name: "near", collection: "films", rows: 2, deadlineMs: 2_000 };
  const server = await startWholeServer(t, {
    vectors: { collections: { films: { dims: 2 }, people: { dims: 2 } }, memoryMb: 256 },
    pipelines: {
      byuser: pipeline([{ ...near, by: "user", users: "people" }]),
      byitem: pipeline([{ ...near, by: "item", filter: ".x > 0" }]),
      broken: pipeline([{ ...near, by: "user", users: "nobody" }]),
    },
  });
  const redis = clientOf(t, server);
  const ids = ["alien", "dune", "heat"];
  await server.gateway.putItems(ids.map((id) => ({ id })));
  const sent = await server.gateway.putEvents([{ type: "click", user: "ann", item: "heat" }]);
  for (const [i, id] of ids.entries()) await redis.call("VADD", "films", "FP32", f32(Math.cos(i), Math.sin(i)), id, "SETATTR", `{"x":${i}}`);
  await redis.call("VADD", "films", "FP32", f32(1, 1), "no item of the catalogue");
  await redis.call("VADD", "people", "FP32", f32(1, 0.01), "ann");
  interface Recommended {
    readonly items: readonly { readonly id: string; readonly sources: readonly string[] }[];
    readonly degraded: readonly string[];
  }
  const ask = async (name: string, more: object = {}): Promise<Recommended> =>
    (await send<Recommended>(server, "POST", `/v1/recommend/${name}`, { user: "ann", n: 5, minOffset: sent.offset, ...more })).json;
  const recalled = ({ items }: Recommended): string[] => items.filter(({ sources }) => sources.includes("near")).map(({ id }) => id);
  const byUser = await ask("byuser");
  assert.deepEqual([recalled(byUser), byUser.degraded.filter((one) => one.startsWith("near"))], [["alien"], []], "one of the two nearest is no item");
  assert.deepEqual(recalled(await ask("byitem")).sort(), ["dune"], "the item itself is left out, and what the filter does not pass");
  const broken = await ask("broken");
  assert.ok(broken.items.length > 0 && broken.degraded.some((one) => one.startsWith("near: ")), JSON.stringify(broken.degraded));
  const unknown = await ask("byuser", { versions: { films: "none" } });
  assert.ok(unknown.items.length > 0 && unknown.degraded.some((one) => one.startsWith("near: ")), JSON.stringify(unknown.degraded));
  assert.deepEqual(recalled(await ask("byuser", { user: "nobody" })), []);
});

test("promise: the learned model's items are a collection, found by the vectors of this moment, without a section `vectors`", async (t) => {
  const server = await startWholeServer(t, { model: {} });
  const redis = clientOf(t, server);
  const ids = Array.from({ length: 30 }, (_, i) => `item-${i}`);
  await server.gateway.putItems(ids.map((id, i) => ({ id, category: i % 2 === 0 ? "jazz" : "cooking" })));
  await server.gateway.putEvents(ids.map((item) => ({ type: "click", user: "ann", item })));
  const deadline = performance.now() + 60_000;
  const found = async (): Promise<string[]> =>
    ((await redis.call("VSIM", "model:items", "ELE", "item-0", "WITHSCORES").catch(() => [])) as string[]).slice(0, 2);
  while ((await found())[0] !== "item-0") assert.ok(performance.now() < deadline, "no vector of item-0 within a minute");
  assert.equal(Math.round(Number((await found())[1]) * 1_000), 1_000);
  assert.equal(await redis.call("VDIM", "model:items"), 16);
  assert.equal(await redis.call("TYPE", "model:items"), "vectorset");
  const user = (await redis.callBuffer("VEMB", "model:users", "ann", "RAW")) as Buffer[];
  assert.equal(user[1]!.length, 4 * 17);
  const best = (await redis.call("VSIM", "model:scores", "FP32", user[1]!, "COUNT", "3", "WITHSCORES")) as string[];
  assert.equal(best.length, 6);
  assert.ok(Number(best[1]) >= Number(best[3]) && Number(best[3]) >= Number(best[5]));
  assert.equal(await redis.call("VEMB", "model:users", "nobody"), null);
  await assert.rejects(redis.call("VREM", "model:items", "item-0"), /one that the server shows/);
  await assert.rejects(redis.call("DEL", "model:items"), /one that the server shows/);
  await assert.rejects(redis.call("VADD", "mine", "VALUES", "1", "1", "x"), /section `vectors`/);
  await assert.rejects(redis.call("VSIM", "model:users", "ELE", "ann"), /worked out/);
  const similar = (await send<{ items: { id: string }[] }>(server, "POST", "/v1/similar", { item: "item-0", n: 3 })).json;
  const byCommand = (await redis.call("VSIM", "model:items", "ELE", "item-0", "COUNT", "30")) as string[];
  for (const { id } of similar.items) assert.ok(byCommand.includes(id));
});
