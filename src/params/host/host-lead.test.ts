// Guards leadership of whole servers by lease, on simulated machines with a registry that they share: one leads all tables, the next one when it is gone; a leader that was cut off takes no
// write and counts what it lost; all come to the same rows. The one with a registry that is deleted uses the real one, in a file.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import type { Registry } from "#backbone/registry";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { MillraceError } from "#base/errors";
import { MemoryPool } from "#kernel/memory-pool";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import { compareVersions } from "../sync-table.ts";
import type { Leader } from "./host-lead.ts";
import { HostSync } from "./host-sync.ts";
import { ParameterHost } from "./parameter-host.ts";

const port = 7_000;
const tables = { user: { dim: 4, memoryMb: 2, shards: 2, buckets: 64 }, item: { dim: 4, memoryMb: 1, buckets: 16 } };

interface Side {
  readonly name: string;
  readonly host: ParameterHost;
  leader: Leader;
  stop(): void;
}

/** Machines that the registry takes for gone. */
const cutOff = new Set<string>();

type RegistryOf = MemoryRegistry | ((machine: SimulatedNode) => Registry);

async function start(simulation: Simulation, registry: RegistryOf, name: string, node = Number(name.slice(1))): Promise<Side> {
  const machine = simulation.node(name);
  const { clock, files, network, random } = machine;
  const warn = (): void => undefined;
  const side = { name, leader: "nobody" as Leader };
  const host = await ParameterHost.open({
    pool: new MemoryPool({ capBytes: 1 << 30 }),
    clock,
    files,
    folder: "/data/params",
    tables,
    memoryBytesMax: 64 << 20,
    node,
    sync: new HostSync({
      // Where the others reach it: by the name of its machine.
      config: { node, host: name, port, lead: "lease", registry: "shared" },
      network,
      clock,
      random,
      warn,
      times: { beatMs: 200, compareMs: 500, retryMs: 20, collectMs: 300 },
      // Its leases end when it is gone, or as time goes by without it.
      registry: typeof registry === "function" ? registry(machine) : registry.connect({ clock, alive: () => machine.alive && !cutOff.has(name) }),
      onLeader: (leader) => (side.leader = leader),
    }),
    warn,
  });
  let stopped = false;
  const turning = (): void => {
    if (!machine.alive || stopped) return;
    host.turn();
    clock.after(5, turning, { background: true });
  };
  turning();
  return Object.assign(side, { host, stop: () => (stopped = true) });
}

/** Adds 1 to `count` keys of every table. Throws what the host throws. */
function add({ host }: Side, count: number): void {
  for (const { id, store } of host.tables) {
    const keys = new Uint32Array(2 * count);
    for (let i = 0; i < count; i++) keys[2 * i] = i + 1;
    host.apply({ table: id, kind: "add", keys, count, numbers: new Float32Array(count * store.dim).fill(1), touchedS: 1 });
  }
}

const takes = (side: Side): boolean => {
  try {
    add(side, 1);
    return true;
  } catch (thrown) {
    assert.ok(thrown instanceof MillraceError && (thrown.code === "conflict" || thrown.code === "unavailable"), String(thrown));
    return false;
  }
};

const same = (a: Side, b: Side): boolean =>
  a.host.tables.every(({ name, store }) =>
    store.shards.every((shard, s) => {
      const other = b.host.required(name).store.shards[s]!;
      for (let bucket = 0; bucket < shard.buckets; bucket++) if (compareVersions(shard.digest(bucket), other.digest(bucket)) !== 0) return false;
      return true;
    }),
  );

async function until(simulation: Simulation, what: string, claim: () => boolean): Promise<number> {
  const started = simulation.clock.monotonicMs();
  while (!claim()) {
    assert.ok(simulation.clock.monotonicMs() - started < 30_000, what);
    await simulation.clock.sleep(10);
  }
  return simulation.clock.monotonicMs() - started;
}

test("promise: one of several servers leads all tables; when it dies, or is taken for dead, another one does within two seconds, and all come to the same", async () => {
  const simulation = new Simulation({ seed: "leaders" });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const one = await start(simulation, registry, "n1");
    await until(simulation, "the first leads", () => takes(one));
    add(one, 500);
    const two = await start(simulation, registry, "n2");
    const three = await start(simulation, registry, "n3");
    await until(simulation, "all have it", () => same(one, two) && same(one, three));
    assert.deepEqual([one.leader, two.leader, three.leader], ["here", { address: `n1:${port}` }, { address: `n1:${port}` }]);
    assert.throws(() => add(two, 1), /takes no writes here: n1:7000 leads it/);

    simulation.node("n1").crash("kill");
    const deadMs = await until(simulation, "another one leads", () => takes(two) || takes(three));
    assert.ok(deadMs <= 2_000, `${deadMs} ms`);
    const [next, other] = two.leader === "here" ? [two, three] : [three, two];
    add(next, 400);
    await until(simulation, "the other follows it", () => same(next, other));
    assert.deepEqual(other.leader, { address: `${next.name}:${port}` });
    const leads = next.host.status().tables.map(({ sync }) => sync!.leads);
    assert.deepEqual(leads, [128, 16], "every bucket of every table");

    // The dead one comes back with nothing and follows.
    const again = await start(simulation, registry, "n1");
    await until(simulation, "it has all", () => same(next, again) && again.leader !== "nobody");
    assert.equal(takes(again), false);
    // The registry takes the leader for gone, which lives on: it takes no more writes once another one leads, and follows it.
    cutOff.add(next.name);
    await until(simulation, "another one leads", () => again.leader === "here" || other.leader === "here");
    assert.equal(takes(next), false);
    cutOff.delete(next.name);
    const third = again.leader === "here" ? again : other;
    await until(simulation, "the new one takes writes", () => takes(third));
    await until(simulation, "the one before follows", () => same(next, third) && typeof next.leader === "object");
    // An orderly end hands over.
    third.stop();
    await third.host.stop();
    const left = [next, again, other].filter((side) => side !== third);
    const handedMs = await until(simulation, "handed over", () => left.some(takes));
    assert.ok(handedMs <= 1_000, `${handedMs} ms`);
    await until(simulation, "the same again", () => same(left[0]!, left[1]!));
    for (const side of left) {
      for (const { sync } of side.host.status().tables) assert.deepEqual([sync!.digestMismatches, sync!.conflicts], [0, 0]);
      side.stop();
      await side.host.stop();
    }
  });
});

test("promise: a server that comes with the number of the leader takes nothing from it: the others follow on while it is there and after it went", async () => {
  const simulation = new Simulation({ seed: "numbers" });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const one = await start(simulation, registry, "n1");
    await until(simulation, "the first leads", () => takes(one));
    const two = await start(simulation, registry, "n2");
    const three = await start(simulation, registry, "n3");
    await until(simulation, "followed", () => same(one, two) && same(one, three));
    const again = await start(simulation, registry, "again", 1);
    for (let second = 0; second < 3; second++) {
      await simulation.clock.sleep(1_000);
      add(one, 100);
      await until(simulation, "the others have it beside the wrong one", () => same(one, two) && same(one, three));
    }
    assert.deepEqual([again.leader, again.host.status().tables[0]!.sync!.ready], ["nobody", false]);
    await simulation.clock.sleep(3_000);
    // It says what to do, to whoever asks and to whoever writes; no longer that waiting two seconds will do.
    const { leadFault, leadNeeds } = again.host.status().tables[0]!.sync!;
    assert.match(leadFault!, /the number 1 of this server is taken by n1:7000/);
    assert.match(leadNeeds!.todo, /give each server a `node` of its own/);
    assert.throws(() => add(again, 1), {
      code: "unavailable",
      message: /takes no writes, the number 1 of this server is taken by n1:7000: give each server a `node` of its own/,
    });
    again.stop();
    simulation.node("again").crash("kill");
    await simulation.clock.sleep(3_000);
    // Its entry in the registry is gone, or was never one.
    add(one, 200);
    await until(simulation, "the others have it after the wrong one", () => same(one, two) && same(one, three));
    assert.equal(one.host.status().tables[0]!.sync!.followers.length, 2);
    // What the registry lost of a server that lives is there again.
    await registry.delete("params-servers/members/1");
    await simulation.clock.sleep(1_000);
    add(one, 300);
    await until(simulation, "the others have it after the loss", () => same(one, two) && same(one, three));
    for (const side of [two, three, one]) {
      side.stop();
      await side.host.stop();
    }
  });
});

test("promise: a registry that is deleted under its servers ends writing on all of them, with what to do; reads go on, and started anew they go on in a later epoch", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-lead-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "leaders.sqlite");
  const simulation = new Simulation({ seed: "registry" });
  const inFile = ({ clock }: SimulatedNode): Registry => openSqliteRegistry({ path, clock, checkFileMs: 250 });
  await simulation.run(async () => {
    const first = [await start(simulation, inFile, "n1"), await start(simulation, inFile, "n2")];
    await until(simulation, "one leads", () => first.some(takes));
    const leader = first.find(({ leader: of }) => of === "here")!;
    add(leader, 300);
    await until(simulation, "both have it", () => same(first[0]!, first[1]!));
    for (const end of ["", "-wal", "-shm"]) rmSync(`${path}${end}`, { force: true });
    const refused = (side: Side): boolean => {
      try {
        add(side, 1);
        return false;
      } catch (thrown) {
        return thrown instanceof MillraceError && thrown.code === "corrupt";
      }
    };
    const noticedMs = await until(simulation, "both refuse", () => first.every(refused));
    assert.ok(noticedMs <= 1_000, `${noticedMs} ms`);
    for (const side of first) {
      assert.throws(() => add(side, 1), /takes no writes, the registry .*leaders\.sqlite was deleted or replaced.*stop all processes that use it/s);
      for (const { sync } of side.host.status().tables) {
        assert.match(sync!.leadFault!, /\[corrupt\].*was deleted or replaced/);
        assert.equal(sync!.leadNeeds!.code, "corrupt");
        assert.match(sync!.leadNeeds!.todo, /stop all processes that use it/);
      }
      const rows = new Float32Array(300 * 4);
      const keys = Uint32Array.from({ length: 600 }, (_, i) => (i % 2 === 0 ? i / 2 + 1 : 0));
      assert.equal(side.host.required("user").store.pull(keys, 300, rows), 0);
      assert.ok(rows.every((number) => number >= 1));
    }
    // It does not come back by itself, and no server leads beside another meanwhile.
    await simulation.clock.sleep(5_000);
    assert.deepEqual([first.every(refused), first.map(({ leader: of }) => of)], [true, ["nobody", "nobody"]]);
    for (const side of first) {
      side.stop();
      await side.host.stop();
    }
    const again = [await start(simulation, inFile, "n1"), await start(simulation, inFile, "n2")];
    await until(simulation, "one leads again", () => again.some(takes));
    add(
      again.find(({ leader: of }) => of === "here")!,
      200,
    );
    await until(simulation, "both have it again", () => same(again[0]!, again[1]!));
    for (const side of again) {
      side.stop();
      await side.host.stop();
    }
  });
});
