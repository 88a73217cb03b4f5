// Guards what a server sees of versions: one load at a time and never the same twice, failures that pass and are tried again, waits that end, announcements that
// are true.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Registry } from "#backbone/registry";
import { LoadSlots } from "./load-slots.ts";
import type { Manifest } from "./manifest.ts";
import type { LoadContext, Loaded } from "./snapshot-follower.ts";
import { type Read, within } from "./snapshot-world.fuzz.ts";

const loaded = (manifest: Manifest, close: () => void = () => undefined): Loaded<Read> => ({
  value: { version: manifest.version, texts: [], closed: false },
  close,
});

test("promise: a version is never loaded twice at once, whatever the head does", () =>
  within(async ({ store, publish, follower, until, simulation, node }) => {
    const there = new Set<string>();
    let loads = 0;
    const items = follower({
      load: async (manifest) => {
        assert.ok(!there.has(manifest.version), `${manifest.version} is loaded a second time`);
        there.add(manifest.version);
        loads += 1;
        await node.clock.sleep(300);
        return loaded(manifest, () => void there.delete(manifest.version));
      },
    });
    items.start();
    const one = await publish(10);
    await items.settled;
    await until(() => items.version === one.version);
    const two = await publish(11);
    await until(() => items.version === two.version);
    // Somebody reads two for long; back and forth needs no further load of it.
    const held = items.lease()!;
    for (let round = 0; round < 3; round += 1) {
      await store.rollback("items");
      await until(() => items.version === one.version);
      await store.goLive("items", two.version);
      await until(() => items.version === two.version);
    }
    assert.equal(loads, 5, "one, two, and one again for each roll-back");
    held.release();
    // The head jumps while a load is under way.
    for (let round = 0; round < 20; round += 1) {
      await (simulation.random.chance(0.5) ? store.rollback("items") : store.goLive("items", two.version)).catch((thrown: unknown) =>
        assert.ok(thrown instanceof MillraceError),
      );
      await simulation.clock.sleep(simulation.random.below(500));
    }
    await until(async () => items.version === (await store.head("items"))!.current && items.state.loading === undefined);
    await items.stop();
    assert.deepEqual([...there], []);
  }));

test("with a spare a roll-back is at once, without loading", () =>
  within(async ({ store, publish, follower, until }) => {
    let loads = 0;
    const items = follower({ spareMax: 1, load: async (manifest) => ((loads += 1), loaded(manifest)) });
    items.start();
    const one = await publish(10);
    await until(() => items.version === one.version);
    const two = await publish(11);
    await until(() => items.version === two.version);
    await store.rollback("items");
    await until(() => items.version === one.version);
    assert.equal(loads, 2);
    assert.equal(items.lease(two.version)?.version, two.version);
    await items.stop();
  }));

test("promise: what may pass is tried again with growing pauses, while the version before is served", () =>
  within(async ({ publish, follower, until, simulation, alarms }) => {
    const times: number[] = [];
    let full = false;
    const items = follower({
      load: async (manifest) => {
        if (full) {
          times.push(simulation.clock.monotonicMs());
          throw new MillraceError("overloaded", "no memory in the pool", { todo: "retry" });
        }
        return loaded(manifest);
      },
    });
    items.start();
    const one = await publish(10);
    await until(() => items.version === one.version);
    full = true;
    const two = await publish(11);
    await until(() => times.length === 6);
    assert.equal(items.version, one.version);
    assert.deepEqual(
      items.state.refused.map(({ version, code, passing }) => [version, code, passing]),
      [[two.version, "overloaded", true]],
    );
    const pauses = times.slice(1).map((at, index) => at - times[index]!);
    for (let i = 1; i < pauses.length; i += 1) assert.ok(pauses[i]! > pauses[i - 1]! * 1.5, pauses.join(" "));
    assert.equal(alarms.length, 1, "told once");
    full = false;
    await until(() => items.version === two.version);
    assert.deepEqual(items.state.refused, []);
    await items.stop();
  }));

test("promise: a load that does not end is a timeout; what comes of it later is let go", () =>
  within(async ({ publish, follower, until, simulation }) => {
    const late = Promise.withResolvers<void>();
    let closed = 0;
    let tries = 0;
    const signals: AbortSignal[] = [];
    const items = follower({
      loadMsMax: 5_000,
      load: async (manifest, { signal }: LoadContext) => {
        tries += 1;
        signals.push(signal);
        if (tries === 1) await late.promise;
        return loaded(manifest, () => void (closed += 1));
      },
    });
    const one = await publish(10);
    items.start();
    await items.settled;
    assert.equal(items.state.refused[0]?.code, "timeout");
    assert.ok(signals[0]!.aborted, "the loader is told to leave off");
    await until(() => items.version === one.version);
    late.resolve();
    await simulation.clock.sleep(100);
    assert.equal(closed, 1, "the late one");
    await items.stop();
    assert.equal(closed, 2);
  }));

test("a version that is rolled back while it loads is left off", () =>
  within(async ({ store, publish, follower, until, node }) => {
    let aborted = false;
    const items = follower({
      load: async (manifest, { signal }) => {
        if (manifest.statistics["rows"] === 11) {
          await node.clock.sleep(3_600_000, signal).catch((thrown: unknown) => {
            aborted = true;
            throw thrown;
          });
        }
        return loaded(manifest);
      },
    });
    items.start();
    const one = await publish(10);
    await until(() => items.version === one.version);
    const two = await publish(11);
    await until(() => items.state.loading?.stage === "loading");
    await store.rollback("items");
    await until(() => items.state.loading === undefined);
    assert.ok(aborted);
    assert.equal(items.version, one.version);
    assert.equal(items.lease(two.version), undefined);
    await items.stop();
  }));

test("the loads of a process are bounded by its slots, and every follower comes to its turn", () =>
  within(async ({ store, follower, until, node }) => {
    const slots = new LoadSlots(2);
    let now = 0;
    let most = 0;
    const names = ["a", "b", "c", "d", "e", "f"];
    for (const name of names) {
      const build = await store.begin(name);
      await build.publish({ statistics: {}, meta: null });
    }
    const followers = names.map((name) =>
      follower({
        name,
        slots,
        folder: `/local/${name}`,
        load: async (manifest) => {
          most = Math.max(most, (now += 1));
          await node.clock.sleep(200);
          now -= 1;
          return loaded(manifest);
        },
      }),
    );
    for (const one of followers) one.start();
    await until(() => followers.every(({ version }) => version !== undefined));
    assert.equal(most, 2);
    assert.deepEqual([slots.held, slots.waiting], [0, 0]);
    assert.deepEqual(await store.names(), names);
    await Promise.all(followers.map((one) => one.stop()));
  }));

test("promise: a node is announced only once it serves, with the version it serves, and not after it stopped", () =>
  within(async ({ store, publish, follower, until, node, simulation, registry, storeWith }) => {
    const gate = Promise.withResolvers<void>();
    let alive = true;
    const own = storeWith({ registry: registry.connect({ clock: node.clock, alive: () => alive }) });
    const items = follower({
      store: own,
      announceMs: 1_000,
      load: async (manifest) => {
        await gate.promise;
        return loaded(manifest);
      },
    });
    const one = await publish(10);
    items.start();
    await until(async () => (await store.followers("items")).some(({ loading }) => loading?.version === one.version));
    assert.deepEqual(await store.serving("items"), []);
    gate.resolve();
    await items.settled;
    assert.deepEqual(await store.serving("items"), [{ node: "a", version: one.version }]);
    const [info] = await store.versions("items");
    assert.deepEqual([info!.version, info!.state, info!.usedBy], [one.version, "live", ["a"]]);
    // The process stands still for longer than its lease: it is gone, then announced again.
    alive = false;
    await simulation.clock.sleep(100);
    assert.deepEqual(await store.serving("items"), []);
    alive = true;
    await until(async () => (await store.serving("items")).length === 1);
    await items.stop();
    assert.deepEqual(await store.serving("items"), []);
    assert.deepEqual(await store.followers("items"), []);
    assert.equal(items.lease(), undefined);
  }));

test("a registry that is away hinders no reader; the follower goes on when it is back", () =>
  within(async ({ publish, follower, until, registry, storeWith, simulation }) => {
    let away = true;
    const flaky = new Proxy(registry, {
      get: (target, name: keyof Registry) => {
        const value = target[name] as (...args: unknown[]) => unknown;
        return (...args: unknown[]) => {
          if (away) throw new MillraceError("unavailable", "the registry is away");
          return value.apply(target, args);
        };
      },
    });
    const items = follower({ store: storeWith({ registry: flaky }) });
    items.start();
    const one = await publish(10);
    await simulation.clock.sleep(5_000);
    assert.match(items.state.backbone!, /away/);
    assert.equal(items.version, undefined);
    away = false;
    await until(() => items.version === one.version);
    away = true;
    await simulation.clock.sleep(30_000);
    assert.equal(items.lease()?.version, one.version);
    const two = await publish(11);
    away = false;
    await until(() => items.version === two.version);
    await items.stop();
  }));

test("a version larger than allowed is not fetched, and options are checked", () =>
  within(async ({ publish, follower, node }) => {
    await publish(10);
    const items = follower({ localBytesMax: 500 });
    items.start();
    await items.settled;
    assert.equal(items.state.refused[0]?.code, "overloaded");
    assert.equal((await node.files.list("/local")) ?? "none", "none");
    await items.stop();
    assert.throws(() => follower({ node: "a b" }), { code: "invalid" });
    const empty = follower({ name: "nothing" });
    empty.start();
    await empty.settled;
    assert.equal(empty.lease(), undefined);
    await empty.stop();
    await empty.stop();
  }));

test("in place nothing is copied; a disk error is tried again", () =>
  within(
    async ({ publish, follower, node, until }) => {
      const one = await publish(10);
      const paths: string[] = [];
      const items = follower({ load: async (manifest, { files }) => (paths.push(...files.map(({ path }) => path)), loaded(manifest)) });
      const fault = node.disk.fail({ operation: "read", path: `${one.version}/files/a.run`, times: 3 });
      items.start();
      await items.settled;
      assert.equal(items.state.refused[0]?.code, "unavailable");
      await until(() => items.version === one.version);
      assert.equal(fault.hits, 3);
      assert.ok(paths.every((path) => path.startsWith("/blobs/")));
      assert.deepEqual(await node.files.list(`/local/${one.version}/files`), []);
      await items.stop();
    },
    2,
    (blobs) => blobs,
  ));

test("checksums in a thread find the same", () =>
  within(async ({ store, publish, follower, node, until, alarms, blobs }) => {
    const items = follower({ workers: node.workers });
    items.start();
    const one = await publish(10);
    await until(() => items.version === one.version);
    const two = await publish(11, { live: false });
    const blob = `snapshots/table/items/${two.version}/files/b.run`;
    await blobs.delete(blob);
    await blobs.put(blob, new Uint8Array(1_000));
    await store.goLive("items", two.version);
    await until(() => items.state.refused.length === 1);
    assert.deepEqual([items.state.refused[0]!.stage, items.state.refused[0]!.code, items.version], ["verifying", "corrupt", one.version]);
    assert.match(alarms[0]!.reasons[0]!, /the size or checksum of b.run does not agree/);
    await items.stop();
  }));

test("only the files that are wanted are fetched; what is wanted later is fetched then", () =>
  within(async ({ publish, follower, node }) => {
    const one = await publish(10);
    for (const wanted of [["b.run"], ["a.run", "b.run"]]) {
      for (const loadVerifies of [false, true]) {
        const items = follower({ loadVerifies, wants: ({ name }) => wanted.includes(name) });
        items.start();
        await items.settled;
        assert.equal(items.lease()!.value.texts.length, wanted.length);
        assert.deepEqual(await node.files.list(`/local/${one.version}/files`), wanted);
        await items.stop();
      }
    }
  }));

test("promise: the first version of all takes nothing from readers while it loads; after a start a live version is awaited", () =>
  within(async ({ publish, follower, until, node }) => {
    const slow = {
      load: async (manifest: Manifest): Promise<Loaded<Read>> => {
        await node.clock.sleep(2_000);
        return loaded(manifest);
      },
    };
    const before = follower(slow);
    before.start();
    await before.settled;
    assert.equal(before.awaited, false, "nothing was published");
    await publish(10);
    await until(() => before.state.loading?.stage === "loading");
    assert.equal(before.awaited, false, "what stood before the first version stands until it is loaded");
    await until(() => before.version !== undefined);
    assert.equal(before.awaited, false);
    await before.stop();

    const after = follower({ ...slow, node: "b", folder: "/local-b" });
    after.start();
    await until(() => after.state.loading?.stage === "loading");
    assert.equal(after.awaited, true, "there are rows, and they are not here yet");
    await after.settled;
    assert.equal(after.awaited, false);
    await after.stop();
  }));
