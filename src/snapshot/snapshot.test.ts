// Guards the life of a version, from builder to reader, on a simulated machine: what is bad never goes live, what is live is whole, and reads never notice.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Blobs } from "#backbone/blobs";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import type { SnapshotAlarm } from "./alarm.ts";
import type { Manifest } from "./manifest.ts";
import { SnapshotFollower, type SnapshotFollowerOptions } from "./snapshot-follower.ts";
import { SnapshotStore, type SnapshotStoreOptions } from "./snapshot-store.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const refusal =
  (code: string, pattern?: RegExp) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof MillraceError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (pattern !== undefined) assert.match(thrown.message, pattern);
    return true;
  };

interface World {
  readonly simulation: Simulation;
  readonly node: SimulatedNode;
  readonly registry: MemoryRegistry;
  readonly blobs: Blobs;
  readonly store: SnapshotStore;
  readonly alarms: SnapshotAlarm[];
  storeWith(options: Partial<SnapshotStoreOptions>): SnapshotStore;
  publish(rows: number, options?: { live?: boolean; text?: string }): Promise<Manifest>;
  follower(options?: Partial<SnapshotFollowerOptions<Read>>): SnapshotFollower<Read>;
  /** Lets virtual time pass until the claim holds. */
  until(claim: () => boolean | Promise<boolean>): Promise<void>;
}

/** What the test's loader makes: the text of every file. */
interface Read {
  readonly version: string;
  readonly texts: readonly string[];
  closed: boolean;
}

function within(body: (world: World) => Promise<void>, seed: number | string = 1): Promise<void> {
  const simulation = new Simulation({ seed });
  return simulation.run(async () => {
    const node = simulation.node("a");
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const blobs = openFolderBlobs({ files: node.files, folder: "/blobs" });
    const alarms: SnapshotAlarm[] = [];
    const storeWith = (options: Partial<SnapshotStoreOptions>): SnapshotStore =>
      new SnapshotStore({ blobs, registry, clock: node.clock, random: new Prng(seed), kind: "table", onAlarm: (alarm) => alarms.push(alarm), ...options });
    const store = storeWith({});
    await body({
      simulation,
      node,
      registry,
      blobs,
      store,
      alarms,
      storeWith,
      async publish(rows, options = {}) {
        const build = await store.begin("items");
        await build.put("a.run", bytes(`${options.text ?? "rows"} ${rows} of ${build.version}`), rows);
        await build.put("b.run", bytes("b".repeat(1000)));
        return build.publish({ statistics: { rows }, meta: { schema: 1 } }, { ...(options.live === undefined ? {} : { live: options.live }) });
      },
      follower: (options = {}) =>
        new SnapshotFollower<Read>({
          store,
          name: "items",
          node: "a",
          files: node.files,
          clock: node.clock,
          folder: "/local",
          onAlarm: (alarm) => alarms.push(alarm),
          load: async (manifest, { files }) => {
            const texts = await Promise.all(files.map(async ({ path }) => new TextDecoder().decode(await node.files.readFile(path))));
            const value: Read = { version: manifest.version, texts, closed: false };
            return { value, close: () => void (value.closed = true) };
          },
          ...options,
        }),
      async until(claim) {
        for (let tries = 0; !(await claim()); tries += 1) {
          assert.ok(tries < 2_000, "it never came to that");
          await simulation.clock.sleep(50);
        }
      },
    });
  });
}

test("promise: a version goes from builder to reader, whole", () =>
  within(async ({ store, publish, follower }) => {
    const manifest = await publish(10);
    const head = await store.head("items");
    assert.equal(head?.current, manifest.version);
    const items = follower();
    assert.equal(items.lease(), undefined);
    items.start();
    await items.settled;
    const lease = items.lease()!;
    assert.equal(lease.version, manifest.version);
    assert.deepEqual(lease.value.texts, [`rows 10 of ${manifest.version}`, "b".repeat(1000)]);
    assert.deepEqual(await store.serving("items"), [{ node: "a", version: manifest.version }]);
    lease.release();
    await items.stop();
    assert.deepEqual(await store.serving("items"), []);
    assert.equal(lease.value.closed, true);
  }));

test("promise: a switch leaves readers on their version until they are done, and no read fails", () =>
  within(async ({ publish, follower, until }) => {
    const one = await publish(10);
    const items = follower();
    items.start();
    await items.settled;
    const [held, other] = [items.lease()!, items.lease()!];
    const two = await publish(11);
    await until(() => {
      const lease = items.lease()!;
      assert.equal(lease.value.closed, false);
      lease.release();
      return items.version === two.version;
    });
    assert.equal(held.version, one.version);
    held.release();
    held.release();
    assert.equal(held.value.closed, false, "the other still reads");
    assert.deepEqual(
      items.state.loaded.map(({ version, leases }) => [version, leases]),
      [
        [one.version, 1],
        [two.version, 0],
      ],
    );
    other.release();
    assert.equal(held.value.closed, true);
    await until(() => items.state.loaded.length === 1);
    await items.stop();
  }));

test("promise: a version whose rows shrank is refused with an alarm; by hand it can go live", () =>
  within(async ({ store, publish, alarms }) => {
    const good = await publish(1000);
    await assert.rejects(publish(100), refusal("invalid", /rows fell from 1000 to 100 \(by 90 %\), at most 50 % is allowed/));
    assert.equal((await store.head("items"))?.current, good.version);
    assert.deepEqual(
      alarms.map(({ what }) => what),
      ["refused"],
    );
    const [refused] = (await store.head("items"))!.refused;
    await assert.rejects(store.goLive("items", refused!.version), refusal("conflict"));
    assert.equal((await store.goLive("items", refused!.version, { refusedToo: true })).current, refused!.version);
  }));

test("promise: roll-back serves the version before, and going live by hand the later one again", () =>
  within(async ({ store, publish, follower, until }) => {
    const one = await publish(10);
    const two = await publish(11);
    const items = follower();
    items.start();
    await items.settled;
    assert.equal(items.version, two.version);
    const head = await store.rollback("items");
    assert.deepEqual([head.current, head.backups, head.staged], [one.version, [], [two.version]]);
    await until(() => items.version === one.version);
    await assert.rejects(store.rollback("items"), refusal("not-found"));
    await store.goLive("items", two.version);
    await until(() => items.version === two.version);
    await items.stop();
  }));

test("a published version may wait to go live", () =>
  within(async ({ store, publish, follower, until, simulation }) => {
    const one = await publish(10);
    const items = follower();
    items.start();
    await items.settled;
    const two = await publish(11, { live: false });
    await simulation.clock.sleep(1_000);
    assert.equal(items.version, one.version);
    assert.deepEqual((await store.head("items"))!.staged, [two.version]);
    await store.goLive("items", two.version);
    await until(() => items.version === two.version);
    await items.stop();
  }));
