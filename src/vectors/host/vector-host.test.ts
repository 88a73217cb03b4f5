// The host in simulation: folds, versions from outside, roll-backs, drops that a crash cuts off, limits, a disk that fails.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Durability } from "#backbone/log";
import type { VectorsConfig } from "#wire/vector-config";
import { buildVersion } from "../builder/build-version.ts";
import { rowsInMemory } from "../builder/row-source.ts";
import { listCollections, snapshotNameOf } from "../collection/collection-record.ts";
import { type HostLife, HostWorld } from "./host-world.fuzz.ts";

const dims = 4;
const name = "things";
const shape = { dims, metric: "ip" as const };
const eager = { tailRows: 40, tailRowsMin: 10, tailShare: 0.1, deletedShare: 0.3, memoryMb: 256 };
const patient = { tailRows: 1_000_000, tailRowsMin: 1_000_000, deletedShare: 1, memoryMb: 256 };

const refused =
  (code: string, pattern?: RegExp) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof MillraceError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (pattern !== undefined) assert.match(thrown.message, pattern);
    return true;
  };

function within(
  config: VectorsConfig,
  body: (life: HostLife, world: HostWorld) => Promise<void>,
  seed = 1,
  durability: Durability = "interval",
): Promise<void> {
  const world = new HostWorld(seed, config, durability);
  return world.simulation.run(async () => {
    const node = world.simulation.node("a");
    await node.run(async () => {
      const life = await world.begin(node);
      await body(life, world);
      await life.stop();
    });
  });
}

const collections = (fold: typeof eager | typeof patient): VectorsConfig => ({ collections: { [name]: { ...shape, fold } } });
const vectorOf = (n: number): Float32Array<ArrayBuffer> => Float32Array.of(Math.sin(n), Math.cos(n * 3), Math.sin(n * 5), 1 + (n % 10));
const put = async (life: HostLife, from: number, count: number, to = name): Promise<void> => {
  const vectors = new Float32Array(count * dims);
  for (let i = 0; i < count; i++) vectors.set(vectorOf(from + i), i * dims);
  await life.client.upsert(to, { elements: Array.from({ length: count }, (_, i) => `e${from + i}`), vectors });
};
const statusOf = (life: HostLife, of = name): NonNullable<ReturnType<HostLife["host"]["status"]>["collections"][number]> =>
  life.host.status().collections.find((one) => one.name === of)!;
const until = async (life: HostLife, claim: () => boolean): Promise<void> => {
  for (let tries = 0; !claim(); tries++) {
    assert.ok(tries < 3_000, `it never came to that: ${JSON.stringify(statusOf(life))} ${life.warnings.join("; ")}`);
    await life.node.clock.sleep(50);
  }
};

const serving = (life: HostLife, of = name): string | undefined => statusOf(life, of).versions.find(({ state }) => state === "serving")?.version;

/** A build from outside, of other rows. */
async function outside(
  life: HostLife,
  from: number,
  count: number,
  deltaOffset: number,
  collection = name,
  deltaLog?: number,
  lists?: number,
): Promise<string> {
  const vectors = new Float32Array(count * dims);
  for (let i = 0; i < count; i++) vectors.set(vectorOf(from + i), i * dims);
  const source = rowsInMemory({ ids: Array.from({ length: count }, (_, i) => `o${from + i}`), vectors, dims });
  const { node, snapshots } = life;
  const built = await buildVersion(
    source,
    {
      collection: snapshotNameOf(collection),
      metric: "ip",
      deltaOffset,
      ...(deltaLog === undefined ? {} : { deltaLog }),
      ...(lists === undefined ? {} : { lists }),
      memoryBytes: 64 << 20,
    },
    { snapshots, files: node.files, clock: node.clock, folder: "/data/outside", cpuMs: () => 0 },
  );
  assert.equal(built.outcome, "live", built.reasons.join("; "));
  return built.version;
}

test("a fold makes the tail part of a base, nothing changes for searches, and the tail starts anew", () =>
  within(collections(eager), async (life) => {
    await put(life, 0, 30);
    const before = await life.client.search({ collection: name, queries: vectorOf(3), count: 30, exact: true });
    assert.equal(before!.version, "");
    await put(life, 30, 20);
    await until(life, () => statusOf(life).folds > 0);
    const status = statusOf(life);
    assert.equal(status.elements, 50);
    assert.ok(status.baseRows >= 30 && status.tailRows <= 20);
    const after = await life.client.search({ collection: name, queries: vectorOf(3), count: 50, exact: true });
    assert.equal(after!.version, status.versions[0]!.version);
    assert.deepEqual(
      after!.elements.filter((one) => Number(one.slice(1)) < 30),
      before!.elements,
    );
    // Folded again, from the base that the first one made.
    await put(life, 50, 60);
    await life.client.remove(name, ["e0", "e60"]);
    await until(life, () => statusOf(life).folds > 1 && statusOf(life).folding === undefined);
    assert.equal(await life.client.count(name), 108);
    assert.equal(statusOf(life).failure, undefined);
  }));

test("promise: a collection that is written without pause keeps no other from folding", () =>
  within({ collections: { a: { ...shape, fold: eager }, b: { ...shape, fold: eager }, c: { ...shape, fold: eager } } }, async (life) => {
    const names = ["a", "b", "c"];
    for (let round = 0; round < 40; round++) {
      // Each has a fold due at every look.
      for (const one of names) await put(life, 0, 45, one);
      await life.node.clock.sleep(300);
    }
    const folds = names.map((one) => statusOf(life, one).folds);
    assert.ok(Math.min(...folds) >= 2 && Math.max(...folds) - Math.min(...folds) <= 2, folds.join(" "));
  }));

test("an element by which nothing is found any more is gone from base and tail alike", () =>
  within(collections(eager), async (life) => {
    await put(life, 0, 60);
    await until(life, () => statusOf(life).baseRows === 60);
    await put(life, 0, 2);
    assert.deepEqual([...(await life.client.remove(name, ["e0", "e5", "none"]))!], [1, 1, 0]);
    assert.equal(await life.client.count(name), 58);
    for (const element of ["e0", "e5"]) {
      await assert.rejects(life.client.search({ collection: name, queries: { element }, count: 1 }), refused("not-found"));
    }
    const all = await life.client.search({ collection: name, queries: vectorOf(5), count: 100 });
    assert.equal(all!.elements.length, 58);
    assert.ok(!all!.elements.includes("e0") && !all!.elements.includes("e5"));
    const random = await life.client.random(name, 58);
    assert.equal(new Set(random).size, 58);
  }));

test("a version from outside is served with every write since its offset, and a roll-back finds the writes too", () =>
  within(collections(patient), async (life) => {
    await put(life, 0, 20);
    const version = await outside(life, 0, 30, 15);
    await until(life, () => serving(life) === version);
    // Its own 30 rows, and the writes from offset 15 on: e15 to e19.
    assert.equal(await life.client.count(name), 35);
    const second = await outside(life, 100, 40, 20);
    await until(life, () => serving(life) === second);
    assert.equal(await life.client.count(name), 40);
    await put(life, 500, 3);
    await life.client.remove(name, ["o101", "o2"]);
    assert.equal(await life.client.count(name), 42);
    await life.snapshots.rollback(name);
    await until(life, () => serving(life) === version);
    // e15 to e19, e500 to e502, and o2 is removed.
    assert.equal(await life.client.count(name), 37);
    assert.deepEqual([...(await life.client.get(name, ["e502", "o2", "o101", "o29"]))!.found], [1, 0, 0, 1]);
    const answer = await life.client.search({ collection: name, version, queries: vectorOf(1), count: 3 });
    assert.equal(answer!.version, version);
    await assert.rejects(life.client.search({ collection: name, version: second, queries: vectorOf(1), count: 3 }), refused("not-found", /not loaded/));
  }));

test("a published version makes its collection, and one of another shape is refused and told", () =>
  within(collections(patient), async (life) => {
    const version = await outside(life, 0, 25, 0, "made-outside");
    await until(life, () => life.client.shapeOf("made-outside") !== undefined);
    assert.deepEqual(life.client.shapeOf("made-outside"), shape);
    assert.equal(await life.client.count("made-outside"), 25);
    assert.equal(statusOf(life, "made-outside").versions[0]!.version, version);
    await life.client.create("other", { dims, metric: "cosine" });
    await outside(life, 0, 25, 0, "other");
    await until(life, () => statusOf(life, "other").versions.some(({ state }) => state === "refused"));
    assert.equal(await life.client.count("other"), 0);
  }));

test("promise: a collection that is made again under a name of before has nothing of that one", () =>
  within(collections(eager), async (life, world) => {
    await put(life, 0, 60);
    await until(life, () => statusOf(life).folds > 0);
    const old = (await listCollections(world.registry)).map((stored) => ("record" in stored ? stored.record.id : 0));
    const changes = life.client.changesOf(name);
    assert.equal(await life.client.drop(name), true);
    assert.equal(life.client.shapeOf(name), undefined);
    assert.equal(await life.client.count(name), undefined);
    assert.deepEqual(await listCollections(world.registry), []);
    assert.equal((await life.snapshots.head(name))?.current, undefined);
    await life.client.create(name, { dims, metric: "cosine" });
    assert.ok(life.client.changesOf(name) > changes);
    assert.equal(await life.client.count(name), 0);
    // A version of the collection of before, whose builder did not hear of the end.
    await life.client.drop(name);
    await life.client.create(name, shape);
    await outside(life, 0, 10, 0, name, old[0]);
    await until(life, () => statusOf(life).versions.some(({ state }) => state === "refused"));
    assert.equal(await life.client.count(name), 0);
  }));

test("promise: a crash in the middle of a drop leaves the collection there or gone, never in between", async () => {
  let [there, gone] = [0, 0];
  for (let seed = 1; seed <= 12; seed++) {
    const world = new HostWorld(seed, {}, "always");
    await world.simulation.run(async () => {
      const first = world.simulation.node("a");
      await first.run(async () => {
        const life = await world.begin(first);
        await life.client.create(name, shape);
        await put(life, 0, 20);
        await outside(life, 100, 30, 20);
        await until(life, () => statusOf(life).baseRows === 30);
        void life.client.drop(name).catch(() => undefined);
        await first.clock.sleep(0.1 + seed * 0.6);
        first.crash(seed % 2 === 0 ? "kill" : "power");
        await first.clock.sleep(1);
      });
      const second = world.simulation.node("a");
      await second.run(async () => {
        const life = await world.begin(second);
        for (let tries = 0; tries < 300 && statusOf(life)?.failure !== undefined; tries++) await second.clock.sleep(100);
        const count = await life.client.count(name);
        if (count === undefined) {
          gone += 1;
          assert.equal((await life.snapshots.head(name))?.current, undefined);
          assert.deepEqual(await world.registry.list("vectors/collections/"), []);
        } else {
          there += 1;
          // Those of the version: all twenty writes stand before its offset.
          assert.equal(count, 30);
        }
        assert.equal(await life.client.create(name, shape), count === undefined);
        await life.stop();
      });
    });
  }
  assert.ok(gone > 0, `${there} there, ${gone} gone`);
});

test("promise: a start whose configuration gives a stored collection other dims or another metric ends with an error that names the field", async () => {
  for (const [changed, field] of [
    [{ dims: 5, metric: "ip" }, "dims"],
    [{ dims: 4, metric: "l2" }, "metric"],
    [{ dims: 4 }, "metric"],
  ] as const) {
    const world = new HostWorld(1, collections(patient), "always");
    await world.simulation.run(async () => {
      const node = world.simulation.node("a");
      await node.run(async () => {
        const life = await world.begin(node);
        await put(life, 0, 3);
        await life.stop();
        await assert.rejects(
          world.begin(node, { collections: { [name]: changed } }),
          refused("invalid", new RegExp(`vectors\\.collections\\.${name}\\.${field} is`)),
        );
        const again = await world.begin(node);
        assert.equal(await again.client.count(name), 3);
        await again.stop();
      });
    });
  }
});

test("what the limits and the shapes forbid is refused, and the rest goes on", () =>
  within({ memoryMb: 16, collections: { [name]: { dims: 512, metric: "ip" } } }, async (life) => {
    const elements = Array.from({ length: 500 }, (_, i) => `e${i}`);
    const vectors = new Float32Array(500 * 512).fill(0.5);
    let written = 0;
    await assert.rejects(
      async () => {
        for (; written < 40; written++) await life.client.upsert(name, { elements: elements.map((one) => `${written} ${one}`), vectors });
      },
      refused("overloaded", /raise vectors.memoryMb/),
    );
    assert.ok(written >= 2);
    assert.equal(await life.client.count(name), written * 500);
    assert.equal((await life.client.search({ collection: name, queries: vectors.slice(0, 512), count: 3 }))!.elements.length, 3);
    // What is there may be written again and removed.
    assert.deepEqual([...(await life.client.remove(name, ["0 e1"]))!], [1]);
    await assert.rejects(life.client.upsert(name, { elements: ["x"], vectors: new Float32Array(3) }), refused("invalid"));
    await assert.rejects(life.client.upsert(name, { elements: ["x"], vectors: new Float32Array(512).fill(Number.NaN) }), refused("invalid", /finite/));
    await life.client.create("unit", { dims: 2, metric: "cosine" });
    await assert.rejects(life.client.upsert("unit", { elements: ["x"], vectors: new Float32Array(2) }), refused("invalid", /length 0/));
    await assert.rejects(life.client.create("unit", { dims: 3, metric: "cosine" }), refused("conflict"));
    await assert.rejects(life.client.create("none", { dims: 0, metric: "cosine" }), refused("invalid"));
  }));

test("promise: vectors so long that products and distances would not be finite are refused, and all others are found", () =>
  within({}, async (life) => {
    for (const metric of ["cosine", "ip", "l2"] as const) {
      await life.client.create(metric, { dims: 3, metric });
      const long = Float32Array.of(3e38, -3e38, 3e38);
      await assert.rejects(life.client.upsert(metric, { elements: ["x"], vectors: long }), refused("invalid", /length 5\.20e\+38.*4\.61e\+18/));
      await assert.rejects(life.client.search({ collection: metric, queries: long, count: 1 }), refused("invalid", /a query of length/));
      // The farthest that two may be apart is still told.
      await life.client.upsert(metric, { elements: ["far"], vectors: Float32Array.of(4.6e18, 0, 0) });
      const { scores } = (await life.client.search({ collection: metric, queries: Float32Array.of(-4.6e18, 0, 0), count: 1 }))!;
      assert.ok(scores.length === 1 && Number.isFinite(scores[0]), `${metric}: ${scores}`);
    }
  }));

test("recall of live searches is sampled in idle times", () =>
  within({ collections: { [name]: { ...shape, recallSampleEvery: 5, recallAt: 10, fold: patient } } }, async (life) => {
    await put(life, 0, 200);
    const prng = new Prng(1);
    for (let i = 0; i < 60; i++) {
      await life.client.search({ collection: name, queries: vectorOf(prng.below(1_000)), count: 5 });
      await life.node.clock.sleep(5);
    }
    const { recall, searches } = statusOf(life);
    assert.ok(recall !== undefined && recall.samples >= 8, JSON.stringify(recall));
    assert.equal(recall.at, 10);
    assert.ok(recall.value > 0.99);
    assert.equal(searches, 60);
  }));

test("rows of the tail get their lists in idle times, and are found before and after", () =>
  within(collections(patient), async (life) => {
    const version = await outside(life, 0, 2_000, 0, name, undefined, 16);
    await until(life, () => serving(life) === version);
    await put(life, 50_000, 5_000);
    const queries = vectorOf(52_345);
    const ask = async (): Promise<unknown> => {
      const { elements, scores } = (await life.client.search({ collection: name, queries, count: 20 }))!;
      return { elements, scores };
    };
    const exact = (await life.client.search({ collection: name, queries, count: 20, exact: true }))!;
    const expected = { elements: exact.elements, scores: exact.scores };
    assert.deepEqual(await ask(), expected);
    await until(life, () => statusOf(life).tailUnlisted! < 1_500);
    assert.equal(statusOf(life).tailRows, 5_000);
    assert.deepEqual(await ask(), expected);
  }));

test("searches see writes that come between their slices, and a deadline ends one that takes too long", () =>
  within(collections(patient), async (life) => {
    await put(life, 0, 3_000);
    const many = new Float32Array(500 * dims).fill(1);
    // A batch of many steps; slices of one step each.
    const slow = life.client.search({ collection: name, queries: many, count: 10, exact: true });
    const write = put(life, 5_000, 5);
    await write;
    const after = await life.client.search({ collection: name, queries: { element: "e5003" }, count: 3_005 });
    assert.ok(after!.elements.includes("e5003"));
    assert.equal((await slow)!.elements.length, 5_000);
    const hurried = life.client.search({ collection: name, queries: many, count: 10, exact: true, timeoutMs: 0.01 });
    await assert.rejects(Promise.all([hurried, life.client.search({ collection: name, queries: many, count: 10, exact: true })]), refused("timeout"));
  }));

test("promise: a disk that fails refuses writes, and what it kept or lost of them is the same for all once it works again", () =>
  within(
    collections(eager),
    async (life) => {
      await put(life, 0, 60);
      await until(life, () => statusOf(life).folds > 0);
      life.node.disk.fail({ operation: "write", path: "/data/log/vec-", times: 1 });
      await assert.rejects(put(life, 1_000, 3), refused("unavailable", /may be repeated/));
      await assert.rejects(put(life, 1_010, 3), refused("unavailable"));
      // Searches go on.
      assert.equal((await life.client.search({ collection: name, queries: vectorOf(1), count: 200 }))!.elements.length, await life.client.count(name));
      for (let tries = 0; ; tries++) {
        assert.ok(tries < 200, "it is never opened again");
        await life.node.clock.sleep(100);
        if (
          await put(life, 2_000, 5).then(
            () => true,
            () => false,
          )
        )
          break;
      }
      const count = (await life.client.count(name))!;
      assert.ok(count === 65 || count === 68, String(count));
      assert.equal(statusOf(life).failure, undefined);
      await put(life, 3_000, 60);
      await until(life, () => statusOf(life).folds > 1 && statusOf(life).folding === undefined);
      assert.equal(await life.client.count(name), count + 60);
    },
    3,
    "always",
  ));

test("several versions stay loaded: a search may name one, each has every write, and a roll-back is at once", () =>
  within({ collections: { [name]: { ...shape, loadedVersions: 2, fold: patient } } }, async (life) => {
    const first = await outside(life, 0, 30, 0);
    await until(life, () => serving(life) === first);
    const second = await outside(life, 0, 40, 0);
    await until(life, () => serving(life) === second);
    await put(life, 0, 3);
    await life.client.remove(name, ["o5"]);
    assert.deepEqual(
      statusOf(life)
        .versions.map(({ state }) => state)
        .sort(),
      ["serving", "spare"],
    );
    for (const [version, count] of [
      [first, 32],
      [second, 42],
    ] as const) {
      const answer = await life.client.search({ collection: name, version, queries: vectorOf(7), count: 100 });
      assert.equal(answer!.version, version);
      assert.equal(answer!.elements.length, count);
      assert.ok(answer!.elements.includes("e2") && !answer!.elements.includes("o5"));
    }
    await life.snapshots.rollback(name);
    await until(life, () => serving(life) === first);
    assert.equal(await life.client.count(name), 32);
  }));
