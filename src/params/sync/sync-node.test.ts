// Guards what a node does with its neighbours: refusals, trees and their second way, slow followers, expiry, writes past the node.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels } from "#kernel/kernels";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import { MapTable } from "../map-table.ts";
import { ParameterShard } from "../parameter-shard.ts";
import { contentOf, keysOf } from "../sync-table.contract.ts";
import { compareVersions, EntryBatch, lastVersion, noVersion, type SyncTable, versionOf } from "../sync-table.ts";
import { encodePlaces, restorePlaces } from "./places.ts";
import { syncLimits, SyncNode, type SyncNodeOptions } from "./sync-node.ts";
import { SyncPort } from "./sync-port.ts";
import { syncStatusOf } from "./sync-status.ts";

const dim = 4;
const shape = { dim, buckets: 64, initial: { seed: 1n, factors: 0, initialScale: 0 } };
const port = 7000;
const times = { pollMs: 0, beatMs: 200, compareMs: 500, greetMs: 300, retryMs: 20, collectMs: 300 };

interface Side {
  readonly machine: SimulatedNode;
  readonly table: SyncTable;
  readonly sync: SyncNode;
}

async function side(simulation: Simulation, name: string, more: Partial<SyncNodeOptions> = {}): Promise<Side> {
  const machine = simulation.node(name);
  const table = more.table ?? new MapTable(shape);
  const { network, clock, random } = machine;
  const sync = new SyncNode({ name: "t", node: Number(name.slice(1)), network, clock, random, times, table, ...more });
  await sync.listen({ host: "0.0.0.0", port });
  return { machine, table, sync };
}

function leadAll({ sync }: Side, epoch = 1): void {
  sync.lead(
    Array.from({ length: sync.groups }, (_, group) => group),
    epoch,
  );
}

function follow({ sync }: Side, ...names: string[]): void {
  sync.addSource(
    names.map((host) => ({ host, port })),
    "all",
  );
  sync.start();
}

function write({ sync, table }: Side, from: number, count: number, value: number): void {
  sync.assign(keysOf(table, count, undefined, from), count, new Float32Array(count * dim).fill(value));
}

async function until(simulation: Simulation, what: string, claim: () => boolean, turnsMax = 1_000): Promise<void> {
  for (let waited = 0; !claim(); waited++) {
    assert.ok(waited < turnsMax, what);
    await simulation.clock.sleep(20);
  }
}

const same = (a: Side, b: Side): boolean =>
  Array.from({ length: shape.buckets }, (_, bucket) => compareVersions(a.table.digest(bucket), b.table.digest(bucket)) === 0).every(Boolean);

test("another token, table, shape or the same number is refused, and nothing is taken from it", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1", { token: "secret" });
    leadAll(root);
    root.sync.start();
    write(root, 0, 50, 1);
    const others: Side[] = [
      await side(simulation, "n2", { token: "guessed" }),
      await side(simulation, "n3", { token: "secret", name: "other" }),
      await side(simulation, "n4", { token: "secret", table: new MapTable({ ...shape, dim: 8 }) }),
      await side(simulation, "n5", { token: "secret", node: 1 }),
    ];
    for (const other of others) follow(other, "n1");
    const own = await side(simulation, "n7", { token: "secret" });
    follow(own, "n7");
    const right = await side(simulation, "n6", { token: "secret" });
    follow(right, "n1");
    await right.sync.whenReady(5_000);
    await simulation.clock.sleep(1_000);
    for (const { sync, table } of others) assert.deepEqual([sync.ready, sync.metrics.sources[0]!.connected, contentOf(table).length], [false, false, 0]);
    assert.deepEqual([contentOf(right.table).length, root.sync.metrics.followers.length], [50, 1]);
    assert.match(others[3]!.sync.metrics.sources[0]!.fault!.message, /both sides are node 1/);
    assert.match(own.sync.metrics.sources[0]!.fault!.message, /it follows itself: follow another server/);
    // Waiting does not end it: the status says so, and what to do.
    const needsOf = ({ sync }: Side): unknown => syncStatusOf([sync]).sources[0]!.needs;
    const todo = "give both sides the same table, shape and token, and numbers of their own";
    for (const other of others) assert.deepEqual(needsOf(other), { code: "conflict", todo });
    assert.deepEqual([needsOf(own), needsOf(right)], [{ code: "conflict", todo: "follow another server" }, undefined]);
    await assert.rejects(others[0]!.sync.whenReady(100), (thrown) => thrown instanceof MillraceError && thrown.code === "timeout");
  });
});

test("a tree passes on; when the parent falls its child goes to the next address and misses nothing", async () => {
  const simulation = new Simulation({ seed: 2 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    const relay = await side(simulation, "n2");
    follow(relay, "n1");
    const leaf = await side(simulation, "n3");
    follow(leaf, "n2", "n1");
    await leaf.sync.whenReady(5_000);
    write(root, 0, 300, 1);
    await until(simulation, "the leaf has it", () => same(root, leaf));
    assert.equal(relay.sync.metrics.followers.length, 1);
    relay.machine.crash("power");
    write(root, 100, 300, 2);
    await until(simulation, "the leaf has it by the other way", () => same(root, leaf));
    assert.deepEqual([leaf.sync.metrics.sources[0]!.address, leaf.sync.ready, leaf.sync.metrics.gaps], [`n1:${port}`, true, 0]);
  });
});

test("a child on its second way goes back to its parent once that is whole again; its reads and its readiness never stop", async () => {
  const simulation = new Simulation({ seed: 7 });
  await simulation.run(async () => {
    const returning = { times: { ...times, returnMs: 400 } };
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    const relay = await side(simulation, "n2");
    follow(relay, "n1");
    const leaf = await side(simulation, "n3", returning);
    follow(leaf, "n2", "n1");
    await leaf.sync.whenReady(5_000);
    write(root, 0, 300, 1);
    await until(simulation, "the leaf has it", () => same(root, leaf));
    relay.machine.crash("kill");
    await until(simulation, "the second way", () => leaf.sync.metrics.sources[0]!.address === `n1:${port}` && leaf.sync.metrics.sources[0]!.connected);
    let unready = 0;
    const watch = simulation.clock.after(1, function look() {
      if (!leaf.sync.ready) unready++;
      if (contentOf(leaf.table).length < 300) unready++;
      watching = simulation.clock.after(5, look, { background: true });
    });
    let watching = watch;
    // It comes back empty and takes a while to be loaded: nobody follows it before.
    const again = await side(simulation, "n2", { loadBytesPerS: 4_000 });
    follow(again, "n1");
    for (let round = 0; round < 20; round++) {
      write(root, round * 10, 30, 2 + round);
      await simulation.clock.sleep(20);
    }
    await until(simulation, "back at the parent", () => leaf.sync.metrics.sources[0]!.address === `n2:${port}`);
    assert.equal(again.sync.ready, true);
    write(root, 0, 50, 100);
    await until(simulation, "the leaf has it by its parent", () => same(root, leaf));
    watching.cancel();
    assert.equal(unready, 0);
    assert.deepEqual([root.sync.metrics.followers.length, again.sync.metrics.followers.length], [1, 1]);
  });
});

test("a follower that hears nothing for long is not ready until it has caught up; it goes on to be readable, and its children learn its age", async () => {
  const simulation = new Simulation({ seed: 8 });
  await simulation.run(async () => {
    const stale = { times: { ...times, staleMs: 2_000 } };
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    const relay = await side(simulation, "n2", stale);
    follow(relay, "n1");
    const leaf = await side(simulation, "n3", stale);
    follow(leaf, "n2");
    await leaf.sync.whenReady(5_000);
    write(root, 0, 100, 1);
    await until(simulation, "the leaf has it", () => same(root, leaf));
    simulation.internet.partition("n1", "n2");
    await simulation.clock.sleep(1_000);
    assert.deepEqual([relay.sync.ready, leaf.sync.ready], [true, true]);
    await simulation.clock.sleep(2_500);
    assert.deepEqual([relay.sync.ready, relay.sync.caughtUp, leaf.sync.ready, contentOf(leaf.table).length], [false, true, false, 100]);
    simulation.internet.heal("n1", "n2");
    await until(simulation, "ready again", () => relay.sync.ready && leaf.sync.ready);
    assert.deepEqual([relay.sync.metrics.turnedStale, leaf.sync.metrics.turnedStale], [1, 1]);
  });
});

test("promise: a source that accepts connections and says nothing makes no follower young: its age rises, and it is not ready once that is too much", async () => {
  const simulation = new Simulation({ seed: 14 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    write(root, 0, 100, 1);
    const far = await side(simulation, "n2", { times: { ...times, staleMs: 2_000 } });
    follow(far, "n1");
    await far.sync.whenReady(5_000);
    // What a stopped process looks like from outside: its system goes on to accept.
    root.machine.crash("kill");
    let accepted = 0;
    await simulation.node("n1").network.listen({ host: "0.0.0.0", port }, () => void accepted++);
    await simulation.clock.sleep(1_500);
    assert.equal(far.sync.ready, true);
    await simulation.clock.sleep(3_500);
    const { ready, turnedStale, sources } = far.sync.metrics;
    assert.ok(accepted >= 3, `${accepted} connections`);
    assert.deepEqual([ready, far.sync.caughtUp, turnedStale], [false, true, 1]);
    const { ageMs } = syncStatusOf([far.sync]).sources[0]!;
    assert.ok(ageMs > 4_500 && sources[0]!.silentMs > 4_500, `${ageMs} ms`);
    assert.match(sources[0]!.fault!.message, /its greeting of .* did not come in time/);
  });
});

test("promise: a follower of what others lead that follows no leader any more says so, its age rises, it is not ready, and all is well once there is one", async () => {
  const simulation = new Simulation({ seed: 15 });
  await simulation.run(async () => {
    const stale = { times: { ...times, staleMs: 2_000 } };
    const one = await side(simulation, "n1", stale);
    const two = await side(simulation, "n2", stale);
    const three = await side(simulation, "n3", stale);
    const sides = [one, two, three];
    const pointer = ({ machine }: Side): { host: string; port: number }[] => [{ host: machine.name, port }];
    for (const side of sides) {
      for (const other of sides) if (other !== side) side.sync.addSource(pointer(other), "led");
      side.sync.start();
    }
    leadAll(one);
    await until(simulation, "all ready", () => sides.every(({ sync }) => sync.ready));
    write(one, 0, 100, 1);
    await until(simulation, "followed", () => same(one, two) && same(one, three));
    // As if the leader had left the registry: it is connected to the others, and sends nothing.
    two.sync.removeSource(pointer(one));
    await simulation.clock.sleep(1_500);
    write(one, 0, 100, 2);
    await simulation.clock.sleep(1_500);
    assert.deepEqual([one.sync.ready, two.sync.ready, three.sync.ready, two.sync.caughtUp], [true, false, true, true]);
    const { address, connected, ageMs, fault } = syncStatusOf([two.sync]).sources.at(-1)!;
    assert.deepEqual([address, connected], ["whoever leads", false]);
    assert.ok(ageMs > 2_000, `${ageMs} ms`);
    assert.match(fault!, /no server that leads is followed here/);
    two.sync.addSource(pointer(one), "led");
    await until(simulation, "well again", () => two.sync.ready && same(one, two));
    assert.equal(two.sync.metrics.sources.length, 2);
    // Who led last itself lacks nothing of others: without a lease it waits, and is ready.
    one.sync.unlead(Array.from({ length: one.sync.groups }, (_, group) => group));
    await simulation.clock.sleep(3_000);
    assert.deepEqual([one.sync.ready, two.sync.ready], [true, true]);
  });
});

/** Fewer than 4,000 rows fill it. */
function smallTable(): ParameterShard {
  const bytes = 1 << 17;
  return ParameterShard.create(KernelMemory.create({ dataBytes: bytes, lanes: 1, laneBytes: 1 << 17 }, kernels()), { ...shape, bytes });
}

test("a follower whose table is full says so, tries again ever more seldom, and goes on when there is room", async () => {
  const simulation = new Simulation({ seed: 9 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    const table = smallTable();
    write(root, 0, 3_000, 1);
    const small = await side(simulation, "n2", { table });
    follow(small, "n1");
    await simulation.clock.sleep(20_000);
    const { tableFull, sources } = small.sync.metrics;
    // A second at first, twice as much each time: not the hundreds of connections that a wait of some milliseconds would make.
    assert.ok(tableFull >= 3 && tableFull <= 9, `${tableFull} times full`);
    assert.match(sources[0]!.fault!.message, /\[overloaded\].*full.*memory of their primary/s);
    assert.equal(small.sync.ready, false);
    await simulation.clock.sleep(5_000);
    for (let bucket = 0; bucket < shape.buckets; bucket++) root.sync.expireUntouched(bucket, Math.floor(root.machine.clock.nowMs() / 1000));
    write(root, 0, 100, 2);
    await until(simulation, "ready", () => small.sync.ready && same(root, small), 5_000);
    assert.equal(small.sync.metrics.sources[0]!.fault, undefined);
  });
});

test("promise: a follower that is full of rows which its leader has no more makes room itself and has all again", async () => {
  const simulation = new Simulation({ seed: 10 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    const table = smallTable();
    // Until no more fit.
    for (let bucket = 0; bucket < shape.buckets; bucket++) table.lead(bucket, 1, 9);
    const keys = Uint32Array.from({ length: 8_000 }, (_, word) => (word % 2 === 0 ? 50_000 + word : 3));
    assert.ok(table.assign(keys, 4_000, new Float32Array(4_000 * dim).fill(9), 1) > 0);
    const most = table.live;
    write(root, 0, Math.floor(0.7 * most), 1);
    const full = await side(simulation, "n2", { table });
    follow(full, "n1");
    await until(simulation, "all there", () => full.sync.ready && same(root, full), 20_000);
    assert.ok(full.sync.metrics.tableFull >= 2, `${full.sync.metrics.tableFull} times full`);
  });
});

test("small pushes keep their distance and carry what came meanwhile; after a pause, and behind large ones, a push leaves at once", async () => {
  const simulation = new Simulation({ seed: 13 });
  await simulation.run(async () => {
    const arrivedMs: number[] = [];
    const root = await side(simulation, "n1", { times: { ...times, paceMs: 20 } });
    leadAll(root);
    root.sync.start();
    const far = await side(simulation, "n2", { onJoined: () => void arrivedMs.push(simulation.clock.monotonicMs()) });
    follow(far, "n1");
    await far.sync.whenReady(5_000);
    await simulation.clock.sleep(100);
    const pushesOf = async (rows: number): Promise<number> => {
      const before = root.sync.metrics.pushesOut;
      const beganMs = simulation.clock.monotonicMs();
      for (let i = 0; simulation.clock.monotonicMs() - beganMs < 400; i++) {
        write(root, i, rows, i);
        await simulation.clock.sleep(1);
      }
      const pushes = root.sync.metrics.pushesOut - before;
      await until(simulation, "all there", () => same(root, far));
      return pushes;
    };
    const small = await pushesOf(2);
    assert.ok(small >= 15 && small <= 25, `${small} pushes in 400 ms`);
    let late = 0;
    for (let i = 0; i < 20; i++) {
      await simulation.clock.sleep(100);
      const count = arrivedMs.length;
      const writtenMs = simulation.clock.monotonicMs();
      write(root, i, 1, 1_000 + i);
      await until(simulation, "there", () => arrivedMs.length > count);
      if (arrivedMs[count]! - writtenMs > 1) late++;
    }
    // A packet in 200 is late by itself.
    assert.ok(late <= 2, `${late} of 20`);
    const large = await pushesOf(100);
    assert.ok(large > 100, `${large} pushes of 100 rows in 400 ms`);
  });
});

test("one port takes followers of several tables; without the token nothing is told, and who asks for another shape is told which one there is", async () => {
  const simulation = new Simulation({ seed: 10 });
  await simulation.run(async () => {
    const { network, clock, random } = simulation.node("n1");
    const syncPort = new SyncPort({ network, clock, token: "secret" });
    await syncPort.listen({ host: "0.0.0.0", port });
    const roots = ["a 0/2 seed 1", "a 1/2 seed 1"].map((name) => {
      const table = new MapTable(shape);
      const sync = new SyncNode({ name, node: 1, network, clock, random, times, table, token: "secret" });
      leadAll({ machine: simulation.node("n1"), table, sync });
      sync.start();
      syncPort.add(sync);
      return { machine: simulation.node("n1"), table, sync };
    });
    for (const [i, root] of roots.entries()) write(root, 0, 50 * (i + 1), i);
    const followers = [
      await side(simulation, "n2", { name: "a 0/2 seed 1", token: "secret" }),
      await side(simulation, "n3", { name: "a 1/2 seed 1", token: "secret" }),
    ];
    const refused = [
      await side(simulation, "n4", { name: "a 0/3 seed 1", token: "secret" }),
      await side(simulation, "n5", { name: "b 0/1 seed 1", token: "secret" }),
      await side(simulation, "n6", { name: "b 0/1 seed 1", token: "guessed" }),
    ];
    for (const one of [...followers, ...refused]) follow(one, "n1");
    for (const [i, { sync, table }] of followers.entries()) {
      await sync.whenReady(5_000);
      assert.equal(contentOf(table).length, 50 * (i + 1));
    }
    await simulation.clock.sleep(5_000);
    for (const [i, complaint] of [/here it is "a 0\/2 seed 1"/, /there is no table b here/, /another token/].entries()) {
      assert.match(refused[i]!.sync.metrics.sources[0]!.fault!.message, complaint);
      assert.equal(refused[i]!.sync.ready, false);
    }
    // Something that speaks another protocol, and something that says nothing.
    const { network: other } = simulation.node("n7");
    const [loud, silent] = [await other.connect({ host: "n1", port }), await other.connect({ host: "n1", port })];
    await loud.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
    assert.deepEqual([await loud.read(), await silent.read()], [undefined, undefined]);
    syncPort.remove(roots[0]!.sync);
    await syncPort.close();
  });
});

test("a node that as many follow as may refuses one more, says so, and it comes in when there is a place", async () => {
  const simulation = new Simulation({ seed: 11 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    write(root, 0, 10, 1);
    const all: Side[] = [];
    for (let n = 2; n < syncLimits.followersMax + 2; n++) {
      const one = await side(simulation, `n${n}`);
      follow(one, "n1");
      all.push(one);
    }
    for (const { sync } of all) await sync.whenReady(5_000);
    const late = await side(simulation, "n99");
    follow(late, "n1");
    await simulation.clock.sleep(20_000);
    const { followersRefused } = root.sync.metrics;
    assert.ok(followersRefused >= 3 && followersRefused <= 12, `${followersRefused} refusals`);
    assert.match(late.sync.metrics.sources[0]!.fault!.message, /64 follow this node, the most: follow one of them/);
    await all[5]!.sync.close();
    await late.sync.whenReady(10_000);
    assert.equal(contentOf(late.table).length, 10);
  });
});

test("promise: a leader that starts more often than a vector has places keeps no row from a new follower", async () => {
  const simulation = new Simulation({ seed: 12 });
  await simulation.run(async () => {
    let table = new MapTable(shape);
    // The first life was without synchronisation: rows, and no places.
    for (let bucket = 0; bucket < shape.buckets; bucket++) table.lead(bucket, 1, 1);
    table.assign(keysOf(table, 200), 200, new Float32Array(200 * dim).fill(1), 77);
    let places: Uint8Array | undefined;
    let renewed = 0;
    for (let life = 2; life <= 14; life++) {
      const { network, clock, random } = simulation.node(`l${life}`);
      const sync = new SyncNode({ name: "t", node: 1, network, clock, random, times, table });
      if (places !== undefined) restorePlaces(sync.replica, places);
      for (let bucket = 0; bucket < shape.buckets; bucket++) sync.replica.adoptRows(bucket);
      await sync.listen({ host: "0.0.0.0", port });
      const root = { machine: simulation.node(`l${life}`), table, sync };
      leadAll(root, life);
      sync.start();
      write(root, life * 10, 300, life);
      sync.delete(keysOf(table, 5, undefined, life), 5);
      for (let bucket = 0; bucket < shape.buckets; bucket++) renewed += sync.renewOldest(bucket);
      const fresh = await side(simulation, `n${life + 20}`);
      follow(fresh, `l${life}`);
      await fresh.sync.whenReady(10_000);
      assert.ok(same(root, fresh), `life ${life}`);
      assert.deepEqual(contentOf(fresh.table), contentOf(table));
      assert.equal(fresh.sync.metrics.digestMismatches, 0);
      places = encodePlaces(sync.replica);
      await sync.close();
      await fresh.sync.close();
      // The next life has what a checkpoint holds.
      const rows = new EntryBatch(dim);
      for (let bucket = 0; bucket < shape.buckets; bucket++) table.changes(bucket, noVersion, lastVersion, 1 << 20, rows);
      table = new MapTable(shape);
      table.join(rows, 0, rows.count);
    }
    assert.ok(renewed > 20, `${renewed} rows`);
    const oldest = contentOf(table).find(({ touched }) => touched === 77);
    assert.ok(oldest !== undefined, "rows that nobody wrote again keep their touch");
  });
});

test("promise: a follower that is cut off costs its distinct keys and no more; the age of what it lacks is told; it catches up", async () => {
  const simulation = new Simulation({ seed: 3 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1", { times: { ...times, beatMs: 10_000, answerMs: 60_000 } });
    leadAll(root);
    root.sync.start();
    const far = await side(simulation, "n2", { times: { ...times, beatMs: 10_000 } });
    follow(far, "n1");
    await far.sync.whenReady(5_000);
    write(root, 0, 20, 0);
    await until(simulation, "followed", () => same(root, far));
    simulation.internet.partition("n1", "n2");
    const before = root.sync.metrics;
    for (let round = 1; round <= 200; round++) {
      write(root, 0, 20, round);
      await simulation.clock.sleep(10);
    }
    const during = root.sync.metrics;
    assert.ok(during.followers[0]!.lagMs > 1_500, `${during.followers[0]!.lagMs} ms`);
    // One push is on the way; 3,980 writes wait as 20 keys.
    assert.ok(during.entriesOut - before.entriesOut <= 20, `${during.entriesOut - before.entriesOut} entries`);
    simulation.internet.heal("n1", "n2");
    await until(simulation, "caught up", () => same(root, far) && root.sync.metrics.followers[0]!.lagMs === 0);
    const after = root.sync.metrics;
    assert.ok(after.entriesOut - before.entriesOut <= 60, `${after.entriesOut - before.entriesOut} entries for 20 keys`);
  });
});

test("promise: rows that a relay throws away and loads again are replaced at its followers, too, though these compare nothing", async () => {
  const simulation = new Simulation({ seed: 6 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    const relay = await side(simulation, "n2");
    follow(relay, "n1");
    const leaves = [
      await side(simulation, "n3", { times: { ...times, compareMs: 1e9 } }),
      await side(simulation, "n4", { times: { ...times, compareMs: 1e9 } }),
    ] as const;
    follow(leaves[0], "n2");
    follow(leaves[1], "n3");
    await leaves[1].sync.whenReady(5_000);
    write(root, 0, 300, 1);
    await until(simulation, "all have it", () => [relay, ...leaves].every((one) => same(root, one)));
    // A row that nobody wrote, below what every vector says is held: only digests tell.
    const stray = new EntryBatch(dim);
    const [low, high] = keysOf(root.table, 1, undefined, 9_000);
    stray.push(low!, high!, versionOf(1, 1, 1), 0, 1);
    for (const one of [relay, ...leaves]) assert.equal(one.table.join(stray, 0, 1), 1);
    await until(simulation, "the relay is repaired", () => same(root, relay));
    await until(simulation, "and those behind it", () => leaves.every((one) => same(root, one) && one.sync.ready));
    assert.ok(relay.sync.metrics.digestMismatches >= 2);
    assert.deepEqual(
      leaves.map(({ sync }) => sync.metrics.digestMismatches),
      [0, 0],
    );
  });
});

test("expiry is the leader's: the same rows go at every follower, and none comes back", async () => {
  const simulation = new Simulation({ seed: 4, clockSkewMsMax: 50_000 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1");
    leadAll(root);
    root.sync.start();
    const follower = await side(simulation, "n2");
    follow(follower, "n1");
    await follower.sync.whenReady(5_000);
    write(root, 0, 100, 1);
    await simulation.clock.sleep(5_000);
    write(root, 50, 100, 2);
    const beforeS = Math.floor(root.machine.clock.nowMs() / 1000) - 2;
    let gone = 0;
    for (let bucket = 0; bucket < shape.buckets; bucket++) gone += root.sync.expireUntouched(bucket, beforeS);
    assert.deepEqual([gone, contentOf(root.table).length, follower.sync.expireUntouched(0, beforeS + 100)], [50, 100, 0]);
    await until(simulation, "expired there too", () => same(root, follower));
    assert.equal(follower.sync.metrics.expired, 50);
    // A follower that starts empty is told the bounds and gets what is left.
    const late = await side(simulation, "n3");
    follow(late, "n2");
    await late.sync.whenReady(5_000);
    assert.ok(same(root, late));
  });
});

test("writes past the node go out with the poll; writes of buckets that are not led are refused whole", async () => {
  const simulation = new Simulation({ seed: 5 });
  await simulation.run(async () => {
    const root = await side(simulation, "n1", { times: { ...times, pollMs: 2 } });
    leadAll(root);
    root.sync.start();
    const follower = await side(simulation, "n2");
    follow(follower, "n1");
    await follower.sync.whenReady(5_000);
    root.table.assign(keysOf(root.table, 10), 10, new Float32Array(10 * dim), 1);
    await until(simulation, "polled", () => same(root, follower) && contentOf(follower.table).length === 10);
    assert.throws(() => write(follower, 0, 1, 1), /\[unavailable\] node 2 does not take writes/);
    root.sync.unlead([0]);
    const two = Uint32Array.from([...keysOf(root.table, 1, 63, 1_000), ...keysOf(root.table, 1, 0, 1_000)]);
    assert.throws(() => root.sync.assign(two, 2, new Float32Array(2 * dim)), /bucket 0/);
    assert.equal(contentOf(root.table).length, 10);
    assert.throws(() => leadAll(root), /\[conflict\] epoch 1/);
    leadAll(root, 2);
    // The lease behind it has run out.
    root.sync.leaseUntilMs = 0;
    assert.throws(() => write(root, 0, 1, 1), /\[unavailable\]/);
  });
});
