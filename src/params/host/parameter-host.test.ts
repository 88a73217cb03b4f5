// Guards what the parameter server's engine promises: rows are back after a crash up to the last checkpoint, tables stay within their bounds without refusing a write, versions
// are never given out twice, a table of another shape is refused by the name of the field, a damaged one does not stop the others.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { MemoryPool } from "#kernel/memory-pool";
import { freshSeed } from "#platform/fresh-seed";
import { Simulation } from "#platform/simulation";
import type { Files } from "#platform/files";
import type { Clock } from "#platform/clock";
import { ParameterReader } from "../parameter-reader.ts";
import { epochOf } from "../sync-table.ts";
import { createUpdateRing, UpdateProducer } from "../update-ring.ts";
import { parameterLanes } from "./host-table.ts";
import { ParameterHost, type ParameterHostOptions } from "./parameter-host.ts";

const keysOf = (numbers: readonly number[]): Uint32Array => Uint32Array.from(numbers.flatMap((key) => [key, Math.imul(key, 0x9e37_79b1) >>> 0]));
const range = (count: number, from = 0): number[] => Array.from({ length: count }, (_, i) => from + i);
const long = process.env["MILLRACE_LONG"] !== undefined;
const user = { dim: 4, memoryMb: 1 };

function optionsOf(node: { files: Files; clock: Clock }, more: Partial<ParameterHostOptions> = {}): ParameterHostOptions {
  return {
    pool: new MemoryPool({ capBytes: 1 << 30 }),
    clock: node.clock,
    files: node.files,
    folder: "/data/params",
    tables: { user },
    memoryBytesMax: 64 << 20,
    warn: () => undefined,
    ...more,
  };
}

const pulled = (host: ParameterHost, name: string, numbers: readonly number[]): number[] => {
  const { store } = host.required(name);
  const into = new Float32Array(numbers.length * store.dim);
  store.pull(keysOf(numbers), numbers.length, into);
  return Array.from(numbers, (_, i) => into[i * store.dim]!);
};
const newestEpoch = (host: ParameterHost): number => {
  const [shard] = host.required("user").store.shards;
  return Math.max(...range(shard!.buckets).map((bucket) => epochOf(shard!.newest(bucket))));
};
const assign = (host: ParameterHost, name: string, numbers: readonly number[], value: number): void => {
  const { id, store } = host.required(name);
  const numbersOf = new Float32Array(numbers.length * store.dim).fill(value);
  const answer = host.apply({ table: id, kind: "assign", keys: keysOf(numbers), count: numbers.length, numbers: numbersOf, touchedS: 1_000 });
  assert.equal(answer.refused, 0, JSON.stringify(host.status().tables[0]));
};

test("promise: after a crash a table has what its last checkpoint holds, and gives out no version a second time", async () => {
  const simulation = new Simulation({ seed: "host" });
  await simulation.run(async () => {
    let node = simulation.node("a");
    let host = await ParameterHost.open(optionsOf(node));
    assign(host, "user", range(500), 1);
    const saved = await host.save("user");
    assert.deepEqual([saved.id, saved.full, saved.rows], [1, true, 500]);
    assign(host, "user", range(100), 2);
    const lostEpoch = newestEpoch(host);
    assert.equal(host.status().tables[0]!.checkpoint.unsavedRows, 100);
    node.crash("kill");
    node = simulation.node("a");
    host = await ParameterHost.open(optionsOf(node));
    assert.deepEqual(pulled(host, "user", range(500)), new Array(500).fill(1));
    const [status] = host.status().tables;
    assert.deepEqual([status!.rows, status!.checkpoint.id, status!.checkpoint.unsavedRows, status!.checkpoint.atMs > 0], [500, 1, 0, true]);
    assign(host, "user", range(100), 3);
    assert.ok(newestEpoch(host) > lostEpoch);
    const { id } = host.required("user");
    host.apply({ table: id, kind: "delete", keys: keysOf(range(50)), count: 50, numbers: new Float32Array(0), touchedS: 0 });
    await host.stop();
    host = await ParameterHost.open(optionsOf(node));
    assert.equal(host.required("user").store.live, 450);
    assert.deepEqual(pulled(host, "user", [10, 60, 400]), [0, 3, 1]);
    await host.stop();
  });
});

test("tables made by commands come back, dropped ones do not; other shapes are refused by field, a damaged table alone fails", async () => {
  const simulation = new Simulation({ seed: "host-tables" });
  const node = simulation.node("a");
  await simulation.run(async () => {
    let host = await ParameterHost.open(optionsOf(node));
    await host.create("item", { dim: 8, memoryMb: 2, seed: 5, initialScale: 0.1 });
    await host.create("item", { dim: 8, memoryMb: 2, seed: 5, initialScale: 0.1 });
    await host.create("gone", { dim: 1, memoryMb: 1 });
    await assert.rejects(host.create("item", { dim: 4, memoryMb: 2 }), { code: "conflict", message: /item/ });
    await assert.rejects(host.create("large", { dim: 4, memoryMb: 100 }), { code: "overloaded", message: /64 MiB, 4 are taken/ });
    await assert.rejects(host.drop("user"), { code: "conflict", message: /configuration/ });
    await assert.rejects(host.drop("nobody"), { code: "not-found" });
    const goneId = host.required("gone").id;
    await host.drop("gone");
    assert.throws(() => host.apply({ table: goneId, kind: "delete", keys: keysOf([1]), count: 1, numbers: new Float32Array(0), touchedS: 0 }), {
      code: "not-found",
    });
    assign(host, "item", [1, 2], 7);
    await host.stop();
    host = await ParameterHost.open(optionsOf(node));
    assert.deepEqual(host.tables.map(({ name, declared }) => [name, declared]).sort(), [
      ["item", false],
      ["user", true],
    ]);
    assert.deepEqual(pulled(host, "item", [1, 2]), [7, 7]);
    await host.stop();
    for (const [change, field] of [
      [{ dim: 5 }, /user: dim is 5 in the configuration and 4 in .*user: set dim back to 4/],
      [{ seed: 9 }, /user: seed is 9 .* and 1 /],
      [{ initialScale: 1 }, /user: initialScale is 1 .* and 0 /],
      [{ shards: 2, memoryMb: 4 }, /user: shards is 2 .* and 1 /],
    ] as const) {
      await assert.rejects(ParameterHost.open(optionsOf(node, { tables: { user: { ...user, ...change } } })), { code: "conflict", message: field });
    }
    await assert.rejects(ParameterHost.open(optionsOf(node, { tables: { user: { dim: 4, memoryMb: 5_000 } }, memoryBytesMax: 2 ** 40 })), {
      code: "conflict",
      message: /user: memoryMb is 5000, its 1 shards hold 4032/,
    });
    // A table of the configuration that is taken out of it stays on disk and is not served.
    const warned: string[] = [];
    host = await ParameterHost.open(optionsOf(node, { tables: {}, warn: (message) => warned.push(message) }));
    assert.deepEqual(
      host.tables.map(({ name }) => name),
      ["item"],
    );
    assert.match(warned.join(), /user is no longer in the configuration/);
    await host.stop();
    const path = "/data/params/item/000001.full";
    const bytes = (await node.files.readFile(path))!;
    bytes[100]! ^= 1;
    const file = (await node.files.open(path, "write"))!;
    await file.write(bytes, 0);
    await file.close();
    host = await ParameterHost.open(optionsOf(node));
    const status = host.status().tables.find(({ name }) => name === "item")!;
    assert.equal(status.state, "failed");
    assert.match(status.reason!, /item.*checksum/);
    assert.throws(() => host.required("item"), { code: "corrupt" });
    assert.ok(host.required("user"));
    await host.drop("item");
    await host.create("item", { dim: 3, memoryMb: 1 });
    await host.stop();
  });
});

// With 74695125 rows were evicted between the last checkpoint and the stop, and were there again after the restart.
const knownSeed = 74_695_125;
for (const seed of [knownSeed, freshSeed()])
  test(`promise: a full table evicts what was written longest ago and refuses nothing (SEED=${seed})`, async (t) => {
    const simulation = new Simulation({ seed: "host-full" });
    const node = simulation.node("a");
    const prng = new Prng(seed);
    const shapes = [
      [1, 1, 1],
      [4, 2, 1],
      [16, 1, 1],
      [64, 4, 3],
      [1_024, 4, 1],
    ] as const;
    const all = long || seed === knownSeed;
    if (!all) t.diagnostic("two of five shapes; all with MILLRACE_LONG");
    await simulation.run(async () => {
      for (const [dim, memoryMb, shards] of all ? shapes : [shapes[prng.below(3)]!, shapes[3 + prng.below(2)]!]) {
        const tables = { user: { dim, memoryMb, shards } };
        const options = optionsOf(node, { tables, folder: `/data/${dim}` });
        const host = await ParameterHost.open(options);
        const { store } = host.required("user");
        const batch = Math.min(1_000, Math.floor((1 << 17) / dim));
        const rowBytes = store.shards[0]!.rowBytes;
        const total = Math.floor((4 * memoryMb * 2 ** 20) / rowBytes);
        let newest = 0;
        for (let first = 0; first < total; first += batch) {
          assign(host, "user", range(batch, first), first);
          newest = first;
          if (prng.below(20) === 0) await host.save("user");
          host.turn();
          await node.clock.sleep(30);
        }
        assert.deepEqual(pulled(host, "user", range(batch, newest)), new Array(batch).fill(newest), `dim ${dim}: the newest rows are there`);
        const status = host.status().tables[0]!;
        assert.equal(status.refused, 0);
        assert.ok(status.evicted > total / 3, `dim ${dim}: ${status.evicted} of ${total} were evicted`);
        const share = (status.rows * rowBytes) / status.bytes;
        assert.ok(share > (memoryMb === 1 ? 0.3 : 0.5), `dim ${dim}: rows take ${share} of the memory`);
        await host.stop();
        const again = await ParameterHost.open(optionsOf(node, { tables, folder: `/data/${dim}` }));
        assert.equal(again.required("user").store.live, status.rows);
        await again.stop();
      }
    });
  });

test("rows expire, tombstones go once a checkpoint holds them, checkpoints come by themselves while writes go on", async () => {
  const simulation = new Simulation({ seed: "host-time" });
  const node = simulation.node("a");
  await simulation.run(async () => {
    const host = await ParameterHost.open(optionsOf(node, { tables: { user: { ...user, expireAfterS: 3_600, checkpoint: { everySeconds: 5 } } } }));
    const { id } = host.required("user");
    const nowS = (): number => Math.floor(node.clock.nowMs() / 1_000);
    const goOn = async (ms: number, stepMs = 25): Promise<void> => {
      for (let past = 0; past < ms; past += stepMs) {
        host.turn();
        await node.clock.sleep(stepMs);
      }
    };
    host.apply({ table: id, kind: "assign", keys: keysOf(range(300)), count: 300, numbers: new Float32Array(1_200).fill(1), touchedS: nowS() });
    host.apply({ table: id, kind: "delete", keys: keysOf(range(100)), count: 100, numbers: new Float32Array(0), touchedS: nowS() });
    await goOn(1_000);
    assert.deepEqual([host.status().tables[0]!.rows, host.status().tables[0]!.tombstones], [200, 100]);
    await goOn(10_000);
    const saved = host.status().tables[0]!;
    assert.deepEqual([saved.tombstones, saved.checkpoint.unsavedRows, saved.checkpoint.id], [0, 0, 1]);
    await goOn(3_700_000, 10_000);
    await goOn(5_000);
    assert.deepEqual([host.status().tables[0]!.rows, host.status().tables[0]!.expired], [0, 200]);
    await host.stop();
  });
});

test("a ring's writes are applied in order and seen by a reader of another lane", async () => {
  const simulation = new Simulation({ seed: "host-ring" });
  const node = simulation.node("a");
  await simulation.run(async () => {
    const host = await ParameterHost.open(optionsOf(node));
    const table = host.required("user");
    const ticket = createUpdateRing({ bytes: 1 << 16 }, host.bell);
    const detach = host.attach(ticket);
    const ring = new UpdateProducer(ticket);
    const reader = ParameterReader.attach(host.ticketOf(table).shards, parameterLanes.serving);
    ring.offer(table.id, "assign", keysOf([1, 2]), 2, new Float32Array(8).fill(2), 5);
    ring.offer(table.id, "add", keysOf([2]), 1, new Float32Array(4).fill(0.5), 6);
    ring.offer(table.id, "add", keysOf([2]), 1, new Float32Array(3), 6);
    ring.offer(77, "add", keysOf([2]), 1, new Float32Array(4), 6);
    ring.offer(table.id, "add", keysOf([2, 3]), 2, new Float32Array([Number.NaN, 0, 0, 0, 1, 1, 1, 1]), 7);
    ring.offer(table.id, "delete", keysOf([1, 9]), 2, new Float32Array(0), 7);
    assert.equal(host.turn(), 6);
    const results: unknown[] = [];
    ring.results(({ refused, removed, errorCode }) => results.push([refused, removed, errorCode]));
    assert.deepEqual(results, [
      [0, 0, undefined],
      [0, 0, undefined],
      [0, 0, "invalid"],
      [0, 0, "not-found"],
      [1, 0, undefined],
      [0, 1, undefined],
    ]);
    const into = new Float32Array(12);
    assert.equal(reader.pull(keysOf([1, 2, 3]), 3, into), 1);
    assert.deepEqual([into[0], into[4], into[8]], [0, 2.5, 1]);
    const { hottestS, coldestS } = table.status();
    assert.deepEqual([hottestS, coldestS], [7, 6]);
    reader.release();
    detach();
    await host.stop();
  });
});
