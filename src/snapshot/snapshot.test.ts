// Guards the life of a version, from builder to reader, on a simulated machine: what is bad never goes live, what is live is whole, and reads never notice.

import assert from "node:assert/strict";
import { test } from "node:test";
import { refusal, within } from "./snapshot-world.fuzz.ts";

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
