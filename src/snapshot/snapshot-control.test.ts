// Guards what an operator sees and does: the truth about every version, by any kind, and steps that do what they say.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { overviewLines, parseSnapshotId, SnapshotControl } from "./snapshot-control.ts";
import { refusal, within, type World } from "./snapshot-world.fuzz.ts";

const controlOf = ({ blobs, registry, node }: World): SnapshotControl => new SnapshotControl({ blobs, registry, clock: node.clock, random: new Prng(1) });
const items = { kind: "table", name: "items" };

test("an operator lists, puts live, rolls back and retires", () =>
  within(async (world) => {
    const { store, storeWith, publish, follower, until, blobs } = world;
    const control = controlOf(world);
    assert.deepEqual(await control.list(), []);
    const one = await publish(1_000);
    const two = await publish(1_100, { live: false });
    await assert.rejects(publish(3), refusal("invalid"));
    await (await storeWith({ kind: "vectors" }).begin("items")).publish({ statistics: {}, meta: null });
    const building = await store.begin("users");
    const served = follower();
    served.start();
    await until(() => served.version === one.version && served.state.loading === undefined);
    await until(async () => (await store.followers("items"))[0]?.loading === undefined);

    assert.deepEqual(await control.kinds(), ["table", "vectors"]);
    const all = await control.list();
    assert.deepEqual(
      all.map(({ kind, name, live }) => [kind, name, live === one.version]),
      [
        ["table", "items", true],
        ["table", "users", false],
        ["vectors", "items", false],
      ],
    );
    assert.deepEqual(JSON.parse(JSON.stringify(all)), all, "plain JSON");
    const [table] = await control.list(items);
    assert.deepEqual(
      table!.versions.map(({ version, state, rows, bytes, usedBy }) => ({ version, state, rows, bytes, usedBy })),
      [
        { version: table!.versions[0]!.version, state: "refused", rows: 3, bytes: 1_000 + "rows 3 of ".length + one.version.length, usedBy: [] },
        { version: two.version, state: "staged", rows: 1_100, bytes: 1_000 + "rows 1100 of ".length + one.version.length, usedBy: [] },
        { version: one.version, state: "live", rows: 1_000, bytes: 1_000 + "rows 1000 of ".length + one.version.length, usedBy: ["a"] },
      ],
    );
    const lines = overviewLines(table!);
    assert.equal(lines[0], `table/items: live ${one.version}`);
    assert.match(lines[1]!, /refused {3}3 rows; \d+ B; rows fell from 1000 to 3 \(by 99.7 %\), at most 50 % is allowed$/);
    assert.equal(lines[3], `  ${one.version}  live      1000 rows; ${table!.versions[2]!.bytes} B; loaded by a`);
    assert.equal(lines[4], `  a: serves ${one.version}`);
    assert.equal(overviewLines(all[1]!)[0], "table/users: nothing is live");
    assert.match(overviewLines(all[1]!)[1]!, /building$/);

    assert.deepEqual(await control.live(items, two.version), { ...items, live: two.version });
    assert.deepEqual(await control.rollback(items), { ...items, live: one.version });
    const refused = table!.versions[0]!.version;
    await assert.rejects(control.live(items, refused), refusal("conflict", /although it was refused/));
    assert.deepEqual(await control.live(items, refused, { refusedToo: true }), { ...items, live: refused });
    assert.deepEqual(await control.rollback(items, one.version), { ...items, live: one.version });
    assert.deepEqual((await control.retire(items, 1)).removed, [two.version]);
    assert.deepEqual((await control.retire(items, 1)).removed, []);
    await building.abandon();

    await assert.rejects(control.live(items, "2024"), refusal("invalid", /2 versions of table\/items begin with "2024"/));
    await assert.rejects(control.live(items, "1999"), refusal("not-found"));
    await assert.rejects(control.live({ kind: "table", name: "nothing" }, "2024"), refusal("not-found"));
    await assert.rejects(control.list({ kind: "table", name: "nothing" }), refusal("not-found"));
    await assert.rejects(control.list({ kind: "a b" }), refusal("invalid"));
    await served.stop();

    // What cannot be read is shown, and hides nothing else.
    await blobs.delete(`snapshots/table/items/${one.version}/manifest`);
    await world.registry.put("snapshots/vectors/items/head", new Uint8Array([1, 2, 3]));
    const damaged = await controlOf(world).list();
    assert.match(damaged.find(({ kind }) => kind === "vectors")!.fault!, /^\[corrupt\] the head of vectors\/items/);
    assert.match(damaged[0]!.versions.find(({ version }) => version === one.version)!.fault!, /^\[not-found\]/);
    assert.match(overviewLines(damaged[0]!).join("\n"), /\[not-found\] the manifest of/);
  }));

test("a unique beginning of a version's name is enough; names of snapshots are read and checked", () =>
  within(async (world) => {
    const one = await world.publish(1);
    await world.simulation.clock.sleep(5_000);
    const two = await world.publish(1, { live: false });
    const control = controlOf(world);
    await control.live(items, two.version.slice(0, -2));
    assert.deepEqual(await control.rollback(items, one.version.slice(0, -3)), { ...items, live: one.version });
    assert.deepEqual(parseSnapshotId("table/items"), items);
    for (const wrong of ["", "items", "table/", "/items", "table/items/more", "table/..", "a b/c"])
      assert.throws(() => parseSnapshotId(wrong), { code: "invalid" }, wrong);
  }));
