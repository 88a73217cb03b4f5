// Guards that the cache of results never gives an answer that the engine would not give, that it stays within its room, and that collections which are shown are read only.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { PlainVectors } from "./plain-vectors.contract.ts";
import { ResultCache } from "./result-cache.ts";
import { ServedCollections } from "./served-collections.ts";
import { vectorServiceContract } from "./vector-service.contract.ts";
import type { SearchRequest } from "./vector-service.ts";

const plain = (cacheBytesMax = 1 << 20): ServedCollections => new ServedCollections({ engine: new PlainVectors(), cacheBytesMax, reservedPrefix: "model:" });

vectorServiceContract("plain", () => ({ service: new PlainVectors(), close: () => undefined }));
vectorServiceContract("served", () => ({ service: plain(), close: () => undefined }));

const seed = Number(process.env["SEED"] ?? 1);

test(`promise: a cached answer is the one that a search would give, through writes, deletes and drops, seed ${seed}`, async () => {
  const prng = new Prng(seed);
  const engine = new PlainVectors();
  const service = new ServedCollections({ engine, cacheBytesMax: 20_000, reservedPrefix: "model:" });
  const names = ["a", "b"];
  for (const name of names) await service.create(name, { dims: 2, metric: "ip" });
  for (let step = 0; step < 3_000; step++) {
    const collection = prng.pick(names);
    const element = `e${prng.below(20)}`;
    const kind = prng.below(120);
    if (kind === 0) await service.upsert(collection, { elements: [element], vectors: Float32Array.of(prng.float(), prng.float()) });
    else if (kind === 1) await service.remove(collection, [element]);
    else if (kind === 2 && prng.chance(0.1)) {
      await service.drop(collection);
      await service.create(collection, { dims: 2, metric: "ip" });
    } else {
      const request: SearchRequest = { collection, queries: Float32Array.of(prng.below(4), prng.below(4)), count: 1 + prng.below(3), exact: prng.chance(0.5) };
      const { elements, scores } = (await service.search(request))!;
      const expected = (await engine.search(request))!;
      assert.deepEqual(elements, expected.elements);
      assert.deepEqual(scores, expected.scores);
    }
  }
  const { hits, misses, invalidated, bytes, bytesMax } = service.cache.counts;
  assert.ok(hits > 300 && misses > 300 && invalidated > 20, `${hits} hits, ${misses} misses, ${invalidated} invalidated`);
  assert.ok(bytes <= bytesMax);
});

test("a search that a write overtakes is not kept", async () => {
  const cache = new ResultCache(1 << 20);
  let changes = 1;
  const answer = { version: "", from: Uint32Array.of(0, 0), elements: [], scores: new Float32Array(0), searchMs: 0, rowsCompared: 0 };
  const request = { collection: "a", queries: { element: "x" }, count: 1 };
  const wait = Promise.withResolvers<typeof answer>();
  const under = cache.search(
    request,
    () => changes,
    () => wait.promise,
  );
  changes = 2;
  wait.resolve(answer);
  await under;
  assert.equal(cache.counts.entries, 0);
});

test("every option is part of the key, and the deadline is not", async () => {
  const cache = new ResultCache(1 << 20);
  const answer = { version: "", from: Uint32Array.of(0, 0), elements: [], scores: new Float32Array(0), searchMs: 0, rowsCompared: 0 };
  const ask = (request: Partial<SearchRequest>): Promise<unknown> =>
    cache.search(
      { collection: "a", queries: Float32Array.of(1, 2), count: 1, ...request },
      () => 1,
      async () => answer,
    );
  const different: Partial<SearchRequest>[] = [
    {},
    { collection: "b" },
    { version: "v1" },
    { queries: Float32Array.of(1, -2) },
    { queries: Float32Array.of(0, 2) },
    { queries: Float32Array.of(-0, 2) },
    { queries: { element: "x" } },
    { queries: { element: "y" } },
    { count: 2 },
    { filter: ".x == 1" },
    { exact: true },
    { withAttributes: true },
    { probes: 3 },
  ];
  for (const request of different) await ask(request);
  assert.deepEqual([cache.counts.hits, cache.counts.misses], [0, different.length]);
  for (const request of different) await ask({ ...request, timeoutMs: 5 });
  assert.deepEqual([cache.counts.hits, cache.counts.misses], [different.length, different.length]);
});

test("room: the least recently used goes first, and nothing that would take a large part of it is kept", async () => {
  const cache = new ResultCache(20_000);
  const ask = (element: string, elements: readonly string[] = []): Promise<unknown> =>
    cache.search(
      { collection: "a", queries: { element }, count: 1 },
      () => 1,
      async () => ({ version: "", from: Uint32Array.of(0, 0), elements, scores: new Float32Array(0), searchMs: 0, rowsCompared: 0 }),
    );
  for (let i = 0; i < 100; i++) {
    await ask(`q${i}`);
    await ask("always");
  }
  const { entries, bytes, hits } = cache.counts;
  assert.ok(entries > 10 && entries < 60 && bytes <= 20_000, `${entries} entries of ${bytes} bytes`);
  assert.equal(hits, 99);
  await ask("large", ["x".repeat(5_000)]);
  assert.equal(cache.counts.entries, entries);
});

test("shown collections are searched and never written", async () => {
  const service = plain();
  const shape = { dims: 1, metric: "ip" } as const;
  const answer = { version: "", from: Uint32Array.of(0, 1), elements: ["x"], scores: Float32Array.of(1), searchMs: 0, rowsCompared: 1 };
  service.show({
    name: "model:items",
    shape,
    search: async () => answer,
    get: () => ({ found: Uint8Array.of(1), vectors: Float32Array.of(1), norms: Float32Array.of(1), attributes: [undefined] }),
    count: () => 1,
    random: () => ["x"],
    status: () => ({ ...new PlainVectors().status().collections[0]!, name: "model:items", ...shape }),
  });
  assert.equal(await service.search({ collection: "model:items", queries: { element: "x" }, count: 1 }), answer);
  assert.equal(await service.count("model:items"), 1);
  assert.deepEqual(service.shapeOf("model:items"), shape);
  for (const write of [
    () => service.upsert("model:items", { elements: ["y"], vectors: Float32Array.of(1) }),
    () => service.remove("model:items", ["x"]),
    () => service.setAttributes("model:items", ["x"], ["{}"]),
    () => service.drop("model:items"),
    () => service.create("model:other", shape),
  ]) {
    await assert.rejects(write(), { code: "invalid" });
  }
  assert.deepEqual(
    service.status().collections.map(({ name }) => name),
    ["model:items"],
  );
});

test("without an engine nothing is made, and the error says why", async () => {
  const service = new ServedCollections({ engine: undefined, cacheBytesMax: 1 << 20, reservedPrefix: "model:" });
  assert.equal(await service.search({ collection: "a", queries: { element: "x" }, count: 1 }), undefined);
  assert.equal(await service.upsert("a", { elements: ["x"], vectors: Float32Array.of(1) }), undefined);
  await assert.rejects(service.create("a", { dims: 1, metric: "ip" }), { code: "unsupported", message: /section `vectors`/ });
});
