// Guards what a server's tables promise with synchronisation: followers have every row, expiry and eviction included, take no writes and open once they are as new as their source; a leader
// that is killed has its unsaved rows back before it takes a write; a follower's checkpoint spares it the load.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { MemoryPool } from "#kernel/memory-pool";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import type { ParameterTableConfig } from "#wire/parameter-config";
import { compareVersions } from "../sync-table.ts";
import { createUpdateRing, UpdateProducer } from "../update-ring.ts";
import { HostSync, hostSyncLimits } from "./host-sync.ts";
import { ParameterHost } from "./parameter-host.ts";

const port = 7_000;
const user = { dim: 4, memoryMb: 2, shards: 2, buckets: 16, expireAfterS: 30, checkpoint: { everySeconds: 3_600 } } satisfies ParameterTableConfig;

interface Side {
  readonly machine: SimulatedNode;
  readonly host: ParameterHost;
  /** Names of tables that may be used. */
  readonly opened: string[];
  readonly warnings: string[];
}

async function start(simulation: Simulation, name: string, more: { follow?: string[]; memoryMb?: number; seed?: number } = {}): Promise<Side> {
  const machine = simulation.node(name);
  const { clock, files, network, random } = machine;
  const [opened, warnings]: [string[], string[]] = [[], []];
  const config = { node: Number(name.slice(1)), host: "0.0.0.0", port, token: "a token of all", ...(more.follow === undefined ? {} : { follow: more.follow }) };
  const warn = (message: string): void => void warnings.push(message);
  const times = { beatMs: 200, compareMs: 500, retryMs: 20, collectMs: 300 };
  const host = await ParameterHost.open({
    pool: new MemoryPool({ capBytes: 1 << 30 }),
    clock,
    files,
    folder: "/data/params",
    tables: { user: { ...user, memoryMb: more.memoryMb ?? user.memoryMb, seed: more.seed ?? 1 } },
    memoryBytesMax: 64 << 20,
    node: config.node,
    sync: new HostSync({ config, network, clock, random, warn, times }),
    warn,
    onOpened: (table) => opened.push(table.name),
  });
  // As `run`, without a bell.
  const turning = (): void => {
    if (!machine.alive) return;
    host.turn();
    clock.after(5, turning, { background: true });
  };
  turning();
  return { machine, host, opened, warnings };
}

function write({ host, machine }: Side, kind: "assign" | "add", from: number, count: number, value: number): void {
  const { id, store } = host.required("user");
  const keys = new Uint32Array(2 * count);
  for (let i = 0; i < count; i++) keys[2 * i] = from + i;
  const touchedS = Math.floor(machine.clock.nowMs() / 1_000);
  host.apply({ table: id, kind, keys, count, numbers: new Float32Array(count * store.dim).fill(value), touchedS });
}

const firstOf = ({ host }: Side, key: number): number => {
  const row = new Float32Array(4);
  return host.required("user").store.pull(Uint32Array.of(key, 0), 1, row) === 0 ? row[0]! : NaN;
};
const live = ({ host }: Side): number => host.required("user").store.live;
const same = (a: Side, b: Side): boolean =>
  a.host.required("user").store.shards.every((shard, s) => {
    const other = b.host.required("user").store.shards[s]!;
    for (let bucket = 0; bucket < shard.buckets; bucket++) if (compareVersions(shard.digest(bucket), other.digest(bucket)) !== 0) return false;
    return true;
  });
const statusOf = ({ host }: Side) => host.status().tables[0]!.sync!;

async function until(simulation: Simulation, what: string, claim: () => boolean): Promise<void> {
  for (let waited = 0; !claim(); waited++) {
    assert.ok(waited < 3_000, what);
    await simulation.clock.sleep(10);
  }
}

test("promise: followers have all rows, open when they are as new as their source, and take no writes; expired and evicted rows leave them too", async () => {
  const simulation = new Simulation({ seed: "followers" });
  await simulation.run(async () => {
    const leader = await start(simulation, "n1");
    assert.deepEqual(leader.opened, ["user"]);
    write(leader, "assign", 0, 5_000, 1);
    const relay = await start(simulation, "n2", { follow: [`n1:${port}`] });
    const leaf = await start(simulation, "n3", { follow: [`n2:${port}`, `n1:${port}`] });
    assert.deepEqual([relay.opened, leaf.opened, statusOf(leaf).ready], [[], [], false]);
    await until(simulation, "all are open", () => relay.opened.length === 1 && leaf.opened.length === 1);
    assert.ok(same(leader, relay) && same(leader, leaf));
    assert.throws(
      () => write(leaf, "add", 0, 1, 1),
      (thrown) => thrown instanceof MillraceError && thrown.code === "conflict",
    );
    write(leader, "add", 4_000, 2_000, 2);
    await until(simulation, "pushed on", () => same(leader, leaf));
    assert.deepEqual([firstOf(leaf, 3_999), firstOf(leaf, 4_000), firstOf(leaf, 5_999)], [1, 3, 2]);
    const { followers, leads } = statusOf(leader);
    assert.deepEqual([followers.map(({ node }) => node), leads, statusOf(relay).leads], [[2], 32, 0]);
    // Only the leader expires; by its clock.
    await simulation.clock.sleep(20_000);
    write(leader, "add", 0, 100, 1);
    await simulation.clock.sleep(15_000);
    await until(simulation, "expired everywhere", () => live(leader) === 100 && live(relay) === 100 && live(leaf) === 100);
    // More than fits: what was written longest ago is evicted, and its tombstones do not fill the memory either.
    for (let round = 0; round < 60; round++) {
      write(leader, "assign", 10_000 + round * 1_000, 1_000, round);
      await simulation.clock.sleep(10);
    }
    await until(simulation, "evicted everywhere", () => same(leader, relay) && same(leader, leaf));
    const { evicted, refused, rows } = leader.host.status().tables[0]!;
    assert.ok(evicted > 20_000 && refused === 0 && rows > 5_000, JSON.stringify({ evicted, refused, rows }));
    assert.equal(firstOf(leaf, 69_999), 59);
    for (const side of [leader, relay, leaf]) assert.deepEqual([statusOf(side).digestMismatches, statusOf(side).conflicts, side.warnings], [0, 0, []]);
  });
});

test("promise: a leader that is killed has back what its follower holds before it takes a write; an orderly end does not wait", async () => {
  const simulation = new Simulation({ seed: "handed in" });
  await simulation.run(async () => {
    let leader = await start(simulation, "n1");
    const follower = await start(simulation, "n2", { follow: [`n1:${port}`] });
    await until(simulation, "open", () => follower.opened.length === 1);
    write(leader, "add", 0, 1_000, 1);
    await until(simulation, "followed", () => same(leader, follower));
    await leader.host.save("user");
    // What follows is in no checkpoint.
    for (let round = 0; round < 20; round++) write(leader, "add", 0, 1_000, 1);
    await until(simulation, "followed", () => same(leader, follower));
    leader.machine.crash("kill");
    await simulation.clock.sleep(3_000);
    leader = await start(simulation, "n1");
    assert.deepEqual(leader.opened, []);
    const fromMs = simulation.clock.monotonicMs();
    await until(simulation, "the leader is open", () => leader.opened.length === 1);
    assert.ok(simulation.clock.monotonicMs() - fromMs < 10_000);
    assert.deepEqual([firstOf(leader, 0), firstOf(leader, 999)], [21, 21]);
    write(leader, "add", 0, 1_000, 1);
    await until(simulation, "followed again", () => same(leader, follower) && firstOf(follower, 5) === 22);

    await leader.host.stop();
    leader.machine.crash("kill");
    leader = await start(simulation, "n1");
    assert.deepEqual([leader.opened, firstOf(leader, 7)], [["user"], 22]);
    // Without a follower it waits only so long.
    await until(simulation, "the follower is back", () => statusOf(leader).followers.length === 1);
    await leader.host.save("user");
    for (const { machine } of [leader, follower]) machine.crash("kill");
    leader = await start(simulation, "n1");
    assert.deepEqual(leader.opened, []);
    await simulation.clock.sleep(hostSyncLimits.followerWaitMs + 500);
    assert.deepEqual([leader.opened, firstOf(leader, 7)], [["user"], 22]);
  });
});

test("what keeps a follower from following is said once, with what to do, and that it goes again", async () => {
  const simulation = new Simulation({ seed: "faults" });
  await simulation.run(async () => {
    const leader = await start(simulation, "n1", { memoryMb: 8 });
    write(leader, "assign", 0, 40_000, 1);
    const small = await start(simulation, "n2", { follow: [`n1:${port}`] });
    const stranger = await start(simulation, "n3", { follow: [`n1:${port}`], seed: 9 });
    const lost = await start(simulation, "n4", { follow: [`n9:${port}`] });
    await simulation.clock.sleep(30_000);
    for (const [side, complaint] of [
      [small, /user follows n1:7000, which does not go: .*full.*give followers at least the memory of their primary/s],
      [stranger, /user follows n1:7000, which does not go: .*here it is "user 0\/2 seed 1 initial 0 x 0"/s],
      [lost, /user follows n9:7000, which does not go: /],
    ] as const) {
      assert.match(side.warnings[0]!, complaint);
      assert.ok(side.warnings.length <= 4, side.warnings.join("\n"));
      assert.deepEqual(side.opened, []);
    }
    assert.match(statusOf(small).sources[0]!.fault!, /full/);
    await start(simulation, "n9");
    await until(simulation, "what was lost is found", () => lost.opened.length === 1);
    await simulation.clock.sleep(6_000);
    assert.match(lost.warnings.at(-1)!, /user follows n9:7000 again/);
  });
});

test("a follower comes back with the rows of its checkpoint and is sent what came after; promoted by the configuration it leads in a higher epoch", async () => {
  const simulation = new Simulation({ seed: "checkpoint" });
  await simulation.run(async () => {
    const leader = await start(simulation, "n1");
    let follower = await start(simulation, "n2", { follow: [`n1:${port}`] });
    await until(simulation, "open", () => follower.opened.length === 1);
    write(leader, "assign", 0, 4_000, 1);
    await until(simulation, "followed", () => same(leader, follower));
    await follower.host.save("user");
    follower.machine.crash("kill");
    write(leader, "assign", 0, 50, 2);
    follower = await start(simulation, "n2", { follow: [`n1:${port}`] });
    assert.equal(live(follower), 4_000);
    await until(simulation, "open again", () => follower.opened.length === 1 && same(leader, follower));
    await follower.host.save("user");
    for (const { machine } of [leader, follower]) machine.crash("kill");
    // The operator makes it the leader, and the other one its follower.
    const promoted = await start(simulation, "n2");
    const before = await start(simulation, "n1", { follow: [`n2:${port}`] });
    await until(simulation, "both open", () => promoted.opened.length === 1 && before.opened.length === 1);
    write(promoted, "assign", 0, 10, 3);
    await until(simulation, "followed the other way", () => same(promoted, before) && firstOf(before, 9) === 3);
    assert.deepEqual([firstOf(before, 49), firstOf(before, 3_999), live(before)], [2, 1, 4_000]);
  });
});

test("promise: a flood of new rows at a leader with followers refuses none, and every follower has all that is left when it ends", async (t) => {
  const long = process.env["MILLRACE_LONG"] !== undefined;
  // The table holds some 20,000 of these rows.
  const [rounds, past] = long ? [150, 40] : [50, 20];
  if (!long) t.diagnostic(`${2_000 * (rounds + past)} new rows (with MILLRACE_LONG 380,000)`);
  const simulation = new Simulation({ seed: "flood" });
  await simulation.run(async () => {
    const leader = await start(simulation, "n1");
    const relay = await start(simulation, "n2", { follow: [`n1:${port}`] });
    const leaf = await start(simulation, "n3", { follow: [`n2:${port}`] });
    await until(simulation, "all are open", () => relay.opened.length === 1 && leaf.opened.length === 1);
    // As the serving loop hands writes over: they wait in the ring while followers do not hold the tombstones.
    const ring = createUpdateRing({ bytes: 1 << 20 }, leader.host.bell);
    leader.host.attach(ring);
    const producer = new UpdateProducer(ring);
    const { id } = leader.host.required("user");
    let answered = 0;
    let refused = 0;
    for (let round = 0; round < rounds; round++) {
      const keys = new Uint32Array(4_000);
      for (let i = 0; i < 2_000; i++) keys[2 * i] = 10_000 + round * 2_000 + i;
      const numbers = new Float32Array(8_000).fill(round);
      while (producer.offer(id, "assign", keys, 2_000, numbers, 1) === undefined) {
        producer.results((result) => (answered++, (refused += result.refused)));
        await simulation.clock.sleep(5);
      }
    }
    await until(simulation, "all applied", () => {
      producer.results((result) => (answered++, (refused += result.refused)));
      return answered === rounds;
    });
    assert.equal(refused, 0);
    await until(simulation, "the same everywhere", () => same(leader, relay) && same(leader, leaf));
    assert.equal(firstOf(leaf, 10_000 + 2_000 * rounds - 1), rounds - 1);
    assert.deepEqual([statusOf(relay).digestMismatches, statusOf(leaf).digestMismatches], [0, 0]);
    // Past the ring nobody waits: tombstones go whoever holds them, and followers load such buckets anew.
    for (let round = 0; round < past; round++) write(leader, "assign", 1_000_000 + round * 2_000, 2_000, round);
    assert.equal(leader.host.status().tables[0]!.refused, 0);
    await until(simulation, "the same everywhere", () => same(leader, relay) && same(leader, leaf));
    assert.equal(firstOf(leaf, 1_000_000 + 2_000 * past - 1), past - 1);
  });
});
