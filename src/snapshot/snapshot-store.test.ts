// Guards publishing: one head, moved by whoever wins; builds that are killed, resumed, paused or forgotten; disk that stays bounded.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Blobs } from "#backbone/blobs";
import type { Registry } from "#backbone/registry";
import { remote, bytes, refusal, within, type World } from "./snapshot-world.fuzz.ts";

const day = 24 * 3_600_000;
const parts = { statistics: { rows: 1 }, meta: null };

async function blobVersions({ blobs }: World): Promise<string[]> {
  return [...new Set((await blobs.list("snapshots/table/items/")).map(({ name }) => name.split("/")[3]!))];
}

test("promise: of several publishers each is heard; one that began earlier does not replace a later one, it is staged", () =>
  within(async (world) => {
    const { store } = world;
    const builds = [await store.begin("items"), await store.begin("items"), await store.begin("items")];
    for (const build of builds) await build.put("a", bytes(build.version));
    const [first, second, third] = builds as [(typeof builds)[0], (typeof builds)[0], (typeof builds)[0]];
    assert.deepEqual([first.version, second.version, third.version].toSorted(), [first.version, second.version, third.version]);
    assert.equal((await second.publish(parts)).version, second.version);
    await assert.rejects(first.publish(parts), refusal("conflict", /was begun before .*, which is live.*it is staged/));
    await third.publish(parts);
    const head = (await store.head("items"))!;
    assert.deepEqual([head.current, head.backups, head.staged], [third.version, [second.version], [first.version]]);
    // All at once: every one ends, and the latest is live.
    const more = await Promise.all([store.begin("items"), store.begin("items"), store.begin("items"), store.begin("items")]);
    assert.equal(new Set(more.map(({ version }) => version)).size, 4);
    const ends = await Promise.allSettled(more.map((build) => build.publish(parts)));
    for (const end of ends) if (end.status === "rejected") assert.ok(refusal("conflict")(end.reason));
    const latest = more
      .map(({ version }) => version)
      .toSorted()
      .at(-1);
    assert.equal((await store.head("items"))!.current, latest);
  }));

test("a build that was killed is resumed with the files it had put", () =>
  within(async ({ store, node, simulation, registry, storeWith }) => {
    // The builder is another process: what it holds ends with it.
    let alive = true;
    const builder = storeWith({ registry: registry.connect({ clock: node.clock, alive: () => alive }) });
    const build = await builder.begin("items");
    const a = await build.put("a", bytes("first half"), 5);
    await assert.rejects(store.begin("items", { resume: build.version }), refusal("conflict", /is being built/));
    assert.deepEqual(
      (await store.versions("items")).map(({ version, state }) => [version, state]),
      [[build.version, "building"]],
    );
    alive = false;
    await simulation.clock.sleep(1_000);
    const again = await store.begin("items", { resume: build.version });
    assert.equal(again.version, build.version);
    assert.equal(await again.keep(a), true);
    assert.equal(await again.keep({ name: "b", bytes: 3, crc32c: 1 }), false);
    assert.equal(await again.keep({ ...a, bytes: 3 }), false);
    await again.put("b", bytes("second half"));
    const manifest = await again.publish(parts);
    assert.deepEqual(
      manifest.files.map(({ name, rows }) => [name, rows]),
      [
        ["a", 5],
        ["b", undefined],
      ],
    );
    await assert.rejects(store.begin("items", { resume: build.version }), refusal("conflict", /published or removed/));
    await assert.rejects(again.put("c", bytes("late")), refusal("invalid", /is over/));
  }));

test("a publish that died between manifest and head is repeated", () =>
  within(async ({ store, registry, storeWith }) => {
    // The head cannot be moved once: the process ends there.
    let refuse = true;
    const flaky = new Proxy(registry, {
      get: (target, name: keyof Registry) => {
        const value = target[name] as (...args: unknown[]) => unknown;
        return (...args: unknown[]) => {
          if (refuse && name === "put" && String(args[0]).endsWith("/head")) throw new MillraceError("unavailable", "the registry is away");
          return value.apply(target, args);
        };
      },
    });
    const build = await storeWith({ registry: flaky }).begin("items");
    await build.put("a", bytes("a"));
    await assert.rejects(build.publish(parts), refusal("unavailable"));
    assert.equal(await store.head("items"), undefined);
    refuse = false;
    // Again, with other statistics than the manifest that nobody knows.
    await build.publish({ statistics: { rows: 2 }, meta: { second: true } });
    assert.equal((await store.head("items"))!.current, build.version);
    assert.deepEqual((await store.manifest("items", build.version)).meta, { second: true });
  }));

test("promise: what killed builders left is removed, and one that was only paused cannot bring it back", () =>
  within(async (world) => {
    const { store, node, simulation, registry, storeWith, publish } = world;
    let alive = true;
    const builder = storeWith({ registry: registry.connect({ clock: node.clock, alive: () => alive }) });
    const paused = await builder.begin("items");
    await paused.put("a", bytes("half"));
    const kept = await publish(1);
    alive = false;
    await simulation.clock.sleep(day / 2);
    assert.deepEqual(await store.retire("items"), [], "it may still be resumed");
    await simulation.clock.sleep(day);
    assert.deepEqual(await blobVersions(world), [paused.version, kept.version]);
    assert.deepEqual(await store.retire("items"), [paused.version]);
    assert.deepEqual(await blobVersions(world), [kept.version]);
    alive = true;
    await assert.rejects(paused.publish(parts), refusal("conflict"));
    await assert.rejects(store.begin("items", { resume: paused.version }), refusal("conflict"));
    assert.equal((await store.head("items"))!.current, kept.version);
    await store.retire("items");
    assert.deepEqual(await blobVersions(world), [kept.version]);
  }));

test("disk is bounded: so many versions are kept, and those that are used", () =>
  within(async (world) => {
    const { store, publish, follower, until } = world;
    const items = follower({ keepLocal: 1 });
    items.start();
    const first = await publish(1);
    await until(() => items.version === first.version);
    const held = items.lease()!;
    const published = [first.version];
    for (let rows = 2; rows < 10; rows += 1) published.push((await publish(rows)).version);
    await until(() => items.version === published.at(-1));
    await publish(10);
    assert.deepEqual(await blobVersions(world), [first.version, ...published.slice(-2), (await store.head("items"))!.current!]);
    held.release();
    await until(() => items.state.loaded.length === 1 && items.version === items.state.live);
    await until(async () => (await store.retire("items")).includes(first.version));
    assert.equal((await blobVersions(world)).length, 3);
    assert.ok((await world.node.files.list("/local"))!.length <= 2, "one loaded, one more for a roll-back");
    for (let i = 0; i < 9; i += 1) await publish(10, { live: false });
    assert.equal((await store.head("items"))!.staged.length, 3);
    assert.ok((await blobVersions(world)).length <= 6);
    await assert.rejects(store.retire("items", 0), refusal("invalid"));
    assert.deepEqual((await store.retire("items", 1)).length, 4);
    await items.stop();
  }));

test("an abandoned build leaves nothing", () =>
  within(async (world) => {
    const build = await world.store.begin("items");
    await build.put("a", bytes("a"));
    await build.abandon();
    await build.abandon();
    assert.deepEqual(await blobVersions(world), []);
    assert.deepEqual(await world.store.versions("items"), []);
    await assert.rejects(build.put("b", bytes("b")), refusal("invalid"));
  }));

test("versions rise though the clock goes back", () =>
  within(async ({ store, publish, node }) => {
    const one = await publish(1);
    node.jumpWallTime(-30 * day);
    const two = await publish(2);
    assert.ok(two.version > one.version);
    assert.equal((await store.head("items"))!.current, two.version);
  }));

test("files come as bytes, in pieces, or finished ones are moved; names and sizes are checked", () =>
  within(
    async ({ store, node, blobs }) => {
      const content = new Uint8Array(700_000).map((_, at) => at % 253);
      const build = await store.begin("items");
      const whole = await build.put("whole", content);
      const pieces = await build.put(
        "pieces",
        (async function* () {
          for (let at = 0; at < content.length; at += 1_234) yield content.subarray(at, at + 1_234);
        })(),
      );
      assert.deepEqual({ ...pieces, name: "whole" }, whole);
      const file = (await node.files.open("/finished", "write"))!;
      await file.write(content, 0);
      await file.close();
      await assert.rejects(build.putFile({ ...whole, name: "moved", bytes: 3 }, node.files, "/finished"), refusal("invalid"));
      await build.putFile({ ...whole, name: "moved", rows: 9 }, node.files, "/finished");
      assert.equal(await node.files.sizeOf("/finished"), undefined);
      assert.deepEqual(await blobs.get(`snapshots/table/items/${build.version}/files/moved`), content);
      assert.equal(build.bytesDone, 2_100_000);
      for (const wrong of ["", "../a", "a/b", ".a", "a~", "a.", "x".repeat(129)]) await assert.rejects(build.put(wrong, content), refusal("invalid"), wrong);
      for (const wrong of ["", "..", "a/b", "a b"]) await assert.rejects(store.begin(wrong), refusal("invalid"), wrong);
      await build.publish(parts);
    },
    3,
    (blobs: Blobs) => blobs,
  ));

test("a finished file is copied where the blobs are elsewhere", () =>
  within(async ({ store, node, blobs }) => {
    const build = await store.begin("items");
    await node.files.writeFileAtomic("/finished", bytes("content"));
    await build.putFile({ name: "a", bytes: 7, crc32c: 1 }, node.files, "/finished");
    assert.equal(await node.files.sizeOf("/finished"), undefined);
    assert.deepEqual(await blobs.get(`snapshots/table/items/${build.version}/files/a`), bytes("content"));
  }));

test("a file that vanished before the publish is noticed", () =>
  within(async ({ store, blobs }) => {
    const build = await store.begin("items");
    await build.put("a", bytes("a"));
    await blobs.delete(`snapshots/table/items/${build.version}/files/a`);
    await assert.rejects(build.publish(parts), refusal("conflict", /is gone/));
    assert.equal(await store.head("items"), undefined);
  }));

test("the live version's damage does not hinder its successor", () =>
  within(async ({ store, publish, blobs, alarms, storeWith }) => {
    const one = await publish(1_000);
    await blobs.delete(`snapshots/table/items/${one.version}/manifest`);
    const build = await storeWith({}).begin("items");
    await build.publish({ statistics: { rows: 10 }, meta: null });
    assert.equal((await store.head("items"))!.current, build.version);
    assert.deepEqual(
      alarms.map(({ what }) => what),
      ["damaged"],
    );
  }));

test("blobs that do not answer are a timeout, not a wait for ever", () =>
  within(async ({ storeWith, blobs }) => {
    const deaf: Blobs = { ...remote(blobs), get: () => new Promise(() => undefined) };
    await assert.rejects(storeWith({ blobs: deaf }).manifest("items", "20261122T084107123-k3dq"), refusal("timeout"));
  }));
