// The vector client and the chain of the SDK against a whole server, and the same collection in this process.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Redis } from "ioredis";
import { collectionOf } from "#sdk/vector-collection";
import { VectorClient, vectorChain, vectorsFrom } from "#sdk/index";
import { PlainVectors } from "#vectors/plain-vectors.contract";
import { startWholeServer } from "../whole-server.ts";

const config = {
  vectors: { collections: { films: { dims: 2 } }, memoryMb: 256 },
  tables: { viewers: { key: "string", columns: { likes: { type: "f32", length: 2 }, age: { type: "f32" } } } },
};

test("promise: batches of any length are written, searched, read and removed through the client", async (t) => {
  const server = await startWholeServer(t, config);
  const client = await VectorClient.connect({ port: server.respPort });
  t.after(() => {
    client.close();
  });
  assert.equal(await client.create("points", 4, "l2"), true);
  assert.equal(await client.create("points", 4, "l2"), false);
  await assert.rejects(client.create("points", 5, "l2"), /conflict/);
  const points = client.collection("points");
  assert.equal(await points.dims(), 4);
  // More than one command takes.
  const rows = 12_000;
  const elements = Array.from({ length: rows }, (_, i) => `p${i}`);
  const vectors = Float32Array.from({ length: 4 * rows }, (_, i) => (i % 4 === 0 ? i / 4 : 0));
  const attributes = elements.map((_, i) => (i % 2 === 0 ? `{"even":1,"n":${i}}` : undefined));
  assert.equal(await points.add(elements, vectors, attributes), rows);
  assert.equal(await points.count(), rows);
  assert.ok((await client.collections()).includes("points"));
  const queries = vectors.slice(0, 4 * 1_500);
  const found = await points.search(queries, { count: 2, attributes: true, exact: true });
  assert.equal(found.from.length, 1_501);
  for (const q of [0, 700, 1_499]) {
    const best = found.from[q]!;
    assert.equal(found.elements[best], `p${q}`);
    assert.equal(found.scores[best], 0);
    assert.equal(found.scores[best + 1], 1);
    assert.equal(found.attributes![best], attributes[q]);
  }
  const filtered = await points.search(Float32Array.of(5, 0, 0, 0), { count: 3, filter: ".even == 1 and .n < 6" });
  assert.deepEqual(filtered.elements, ["p4", "p2", "p0"]);
  assert.deepEqual((await points.search({ element: "p7" }, { count: 1 })).elements, ["p7"]);
  const got = await points.get(["p3", "none"]);
  assert.deepEqual(
    [[...got.found], [...got.vectors]],
    [
      [1, 0],
      [3, 0, 0, 0, 0, 0, 0, 0],
    ],
  );
  assert.equal(await points.remove(["p3", "none", "p4"]), 2);
  assert.equal(await points.count(), rows - 2);
  await assert.rejects(client.collection("none").search(Float32Array.of(1)), /key does not exist/);
  assert.equal(await client.drop("points"), true);
  assert.equal(await client.drop("points"), false);
});

test("promise: a chain goes from an id over profile, features and model to the nearest elements, and begins and ends at any step", async (t) => {
  const server = await startWholeServer(t, config);
  const redis = new Redis({ port: server.respPort, maxRetriesPerRequest: 1 });
  const client = await VectorClient.connect({ port: server.respPort });
  t.after(() => {
    redis.disconnect();
    client.close();
  });
  await redis.call("TSET", "viewers", "ann", "likes", "[1, 0]", "age", "30");
  await redis.call("TSET", "viewers", "bob", "likes", "[0, 1]");
  await redis.call("TSET", "viewers", "cem", "age", "20");
  const films = client.collection("films");
  await films.add(["alien", "dune"], Float32Array.of(1, 0.1, 0.1, 1), ['{"year":1979}', '{"year":1984}']);
  const calls: string[] = [];
  const chain = vectorChain({
    profile: client.profiles("viewers", ["likes", "age"]),
    // Whoever has no likes has no features.
    features: (profiles) => (calls.push(`features ${profiles.length}`), profiles.map(({ likes }) => likes as Float32Array | undefined)),
    model: (rows) => (calls.push(`model ${rows.length}`), { dims: 2, vectors: Float32Array.from(rows.flatMap(([a = 0, b = 0]) => [a * 2, b * 2])) }),
    search: films,
  });
  const whole = await chain.run({ ids: ["ann", "none", "bob", "cem"] }, { count: 1, attributes: true });
  assert.deepEqual(whole.profiles, [{ likes: Float32Array.of(1, 0), age: 30 }, undefined, { likes: Float32Array.of(0, 1) }, { age: 20 }]);
  assert.deepEqual([...whole.found], [1, 0, 1, 0]);
  assert.deepEqual([...whole.vectors!.vectors], [2, 0, 0, 0, 0, 2, 0, 0]);
  assert.deepEqual(
    whole.answers!.map((list) => list.map(({ element, attributes }) => [element, attributes])),
    [[["alien", '{"year":1979}']], [], [["dune", '{"year":1984}']], []],
  );
  assert.deepEqual(calls, ["features 3", "model 2"]);
  // Ends where it is told, and begins where it is told.
  const profiles = await chain.run({ ids: ["ann", "none"] }, { until: "profiles" });
  assert.deepEqual([profiles.features, profiles.vectors, profiles.answers, [...profiles.found]], [undefined, undefined, undefined, [1, 0]]);
  const features = await chain.run({ profiles: [{ likes: Float32Array.of(3, 4) }, undefined] }, { until: "features" });
  assert.deepEqual(features.features, [Float32Array.of(3, 4), undefined]);
  const vectors = await chain.run({ features: [Float32Array.of(3, 4)] }, { until: "vectors" });
  assert.deepEqual(vectors.vectors, { dims: 2, vectors: Float32Array.of(6, 8), found: Uint8Array.of(1) });
  const answers = await chain.run({ vectors: Float32Array.of(0, 1, 1, 0), dims: 2 }, { count: 1 });
  assert.deepEqual(
    answers.answers!.map(([best]) => best!.element),
    ["dune", "alien"],
  );
  assert.equal((await chain.run({ ids: [] })).answers!.length, 0);
  // The short way: vectors of ids from a collection.
  await client.create("people", 2);
  await client.collection("people").add(["ann"], Float32Array.of(0, 5));
  const short = vectorChain({ vector: vectorsFrom(client.collection("people")), search: films });
  const [ann, none] = (await short.run({ ids: ["ann", "none"] }, { count: 1 })).answers!;
  assert.deepEqual([ann!.map(({ element }) => element), none], [["dune"], []]);
  await assert.rejects(short.run({ ids: ["ann"] }, { until: "profiles" }), /a chain without the step profile/);
  await assert.rejects(short.run({ features: [1] }), /a chain without the step model/);
  await assert.rejects(vectorChain({}).run({ vectors: Float32Array.of(1), dims: 1 }), /a chain without the step search/);
  await assert.rejects(vectorChain({ profile: () => [] }).run({ ids: ["a"] }, { until: "profiles" }), /step profile gave 0 rows for 1/);
});

test("a collection of this process has the same face", async () => {
  const service = new PlainVectors();
  await service.create("films", { dims: 2, metric: "cosine" });
  const films = collectionOf(service, "films");
  assert.equal(await films.dims(), 2);
  assert.equal(await films.add(["alien", "dune"], Float32Array.of(1, 0, 0, 2), [undefined, "{}"]), 2);
  assert.equal(await films.count(), 2);
  assert.deepEqual(await films.search(Float32Array.of(0, 1), { count: 1, attributes: true }), {
    version: "",
    from: Uint32Array.of(0, 1),
    elements: ["dune"],
    scores: Float32Array.of(1),
    attributes: ["{}"],
  });
  assert.deepEqual(await films.get(["dune", "none"]), { found: Uint8Array.of(1, 0), vectors: Float32Array.of(0, 1, 0, 0), dims: 2 });
  assert.equal(await films.remove(["alien", "none"]), 1);
  const none = collectionOf(service, "none");
  for (const call of [
    () => none.dims(),
    () => none.search(Float32Array.of(1)),
    () => none.get(["a"]),
    () => none.add(["a"], Float32Array.of(1)),
    () => none.count(),
  ]) {
    await assert.rejects(call(), { code: "not-found" });
  }
});
