// The store on the simulated platform: what one store promises while it runs. Crashes stand in store-crash.test.ts, random operations in store-model.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Prng } from "#base/prng";
import { EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { MemoryPool } from "#kernel/memory-pool";
import { collectGarbage } from "#platform/garbage";
import { Simulation } from "#platform/simulation";
import { EffectBatch } from "./effect-batch.ts";
import { openStore } from "./open-store.ts";
import { ScanPage } from "./scan-page.ts";
import { engineKey, isHidden, type Store } from "./store.ts";
import { compareStore, StoreModel, writeEffects } from "./store-model.contract.ts";
import { inSimulation } from "./store-world.contract.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);

test("what is written is read at once, from runs after a flush, and after opening again", async () => {
  await inSimulation(1, async ({ open, clock }) => {
    let store = await open();
    const batch = new EffectBatch();
    for (let i = 0; i < 2_000; i++) batch.put(0, bytes(`key ${i}`), 1, bytes(`value ${i}`), 0, 0);
    const ticket = store.write(batch);
    await store.durable(ticket);
    batch.clear();
    batch.delete(0, bytes("key 7"), 0);
    batch.put(0, bytes("key 8"), 1, bytes("soon gone"), clock.nowMs() + 1_000_000, 0);
    store.write(batch);
    const refs = new EntryRefs();
    const check = (later: number): void => {
      const keys = KeyBatch.of(["key 1", "key 7", "key 8", "none"].map((key) => engineKey(0, bytes(key))));
      store.getMany(keys, refs, clock.nowMs() + later);
      assert.equal(text(store.bytesOf(refs, 0)), "value 1");
      assert.equal(refs.source[1], 255);
      assert.equal(isHidden(refs, 1), true);
      if (later === 0) assert.equal(text(store.bytesOf(refs, 2)), "soon gone");
      else assert.equal(isHidden(refs, 2), true);
      assert.equal(refs.source[3], 255);
      assert.equal(isHidden(refs, 3), false);
    };
    check(0);
    check(2_000_000);
    await store.flush();
    assert.equal(store.state.runs.length, 1);
    assert.equal(store.state.replayBytes, 0);
    check(0);
    check(2_000_000);
    await store.close();
    store = await open();
    check(0);
    const page = new ScanPage();
    assert.equal(store.scan({ from: engineKey(0, bytes("key 1")), limit: 3 }, page), true);
    assert.deepEqual(
      [0, 1, 2].map((i) => text(page.keyOf(i).subarray(2))),
      ["key 1", "key 10", "key 100"],
    );
    await store.close();
  });
});

/** One key a write, `count` of them. */
function fill(store: Store, from: number, count: number, valueBytes: number): number {
  const batch = new EffectBatch();
  let ticket = 0;
  for (let i = from; i < from + count; i++) {
    batch.clear();
    batch.put(0, bytes(`key ${String(i).padStart(6, "0")}`), 1, new Uint8Array(valueBytes).fill(i), 0, 0);
    ticket = store.write(batch);
  }
  return ticket;
}

function has(store: Store, key: string): boolean {
  const refs = new EntryRefs();
  store.getMany(KeyBatch.of([engineKey(0, bytes(key))]), refs, 1);
  return refs.found === 1 && refs.source[0] !== 255;
}

test("what is written in one turn of the loop is one append, and every ticket is acknowledged", async () => {
  await inSimulation(2, async ({ open }) => {
    const store = await open();
    const tickets = Array.from({ length: 200 }, (_, i) => fill(store, i, 1, 20));
    await Promise.all(tickets.map((ticket) => store.durable(ticket)));
    assert.equal(store.state.counts.appends, 1);
    assert.equal(store.state.loggedOffset, store.offset);
    await store.durable(tickets[0]!);
    await store.close();
  });
});

test("a transaction larger than a record of the log is whole after opening again", async () => {
  await inSimulation(3, async ({ open }) => {
    let store = await open({ memtableBytes: 8 << 20 });
    const batch = new EffectBatch();
    for (let i = 0; i < 9; i++) batch.put(2, bytes(`part ${i}`), 2, new Uint8Array(400_000).fill(i), 0, 0);
    await store.durable(store.write(batch));
    await store.close();
    store = await open({ memtableBytes: 8 << 20 });
    const refs = new EntryRefs();
    store.getMany(KeyBatch.of(Array.from({ length: 9 }, (_, i) => engineKey(2, bytes(`part ${i}`)))), refs, 1);
    for (let i = 0; i < 9; i++) assert.deepEqual(new Set(store.bytesOf(refs, i)), new Set([i]));
    await store.close();
  });
});

test("promise: at the memory limit writes are overloaded, reads go on and deletes make room", async () => {
  await inSimulation(4, async ({ open, clock }) => {
    const alarms: string[] = [];
    const store = await open({ memoryBytesMax: 16 << 20, onAlarm: (alarm) => alarms.push(alarm.code) });
    let written = 0;
    assert.throws(
      () => {
        for (;;) written = fill(store, written, 1, 2_000) > 0 ? written + 1 : written;
      },
      { code: "overloaded" },
    );
    // Memtables become runs and the limit is met by what the store holds.
    for (let i = 0; i < 30; i++) {
      await clock.sleep(100);
      try {
        for (;;) written = fill(store, written, 1, 2_000) > 0 ? written + 1 : written;
      } catch (thrown) {
        assert.equal((thrown as { code: string }).code, "overloaded");
      }
    }
    const { refused, memoryBytes, memoryBytesMax } = store.state;
    assert.equal(refused?.reason, "memory");
    assert.ok(memoryBytes <= memoryBytesMax && alarms.includes("overloaded"));
    assert.ok(has(store, "key 000000") && has(store, `key ${String(written - 1).padStart(6, "0")}`));
    const batch = new EffectBatch();
    for (let i = 0; i < written; i++) {
      batch.clear();
      batch.delete(0, bytes(`key ${String(i).padStart(6, "0")}`), 0);
      store.write(batch);
    }
    await store.flush();
    await clock.sleep(60_000);
    assert.ok(!has(store, "key 000000"));
    fill(store, 0, 10, 2_000);
    assert.equal(store.state.refused, undefined);
    await store.close();
  });
});

test("promise: on a full disk writes are refused with unavailable, reads go on, and nothing acknowledged is lost", async () => {
  await inSimulation(5, async ({ open, node }) => {
    const alarms: string[] = [];
    let store = await open({ onAlarm: (alarm) => alarms.push(alarm.message) });
    await store.durable(fill(store, 0, 100, 100));
    node.disk.capacityBytes = 0;
    await assert.rejects(store.durable(fill(store, 100, 10, 100)), { code: "unavailable" });
    assert.throws(() => fill(store, 110, 1, 100), { code: "unavailable" });
    assert.equal(store.state.refused?.reason, "log-failed");
    assert.ok(alarms.length > 0);
    assert.ok(has(store, "key 000000") && has(store, "key 000105"));
    await assert.rejects(store.flush(), { code: "unavailable" });
    await store.close().catch(() => undefined);
    node.disk.capacityBytes = Infinity;
    store = await open();
    assert.ok(has(store, "key 000000") && has(store, "key 000099"));
    await store.durable(fill(store, 200, 10, 100));
    await store.close();
  });
});

test("promise: a sync of the log that fails behind acknowledged writes is seen at once, not with the next write", async () => {
  await inSimulation(5, async ({ open, node, clock }) => {
    const store = await open({ durability: "interval" });
    await store.durable(fill(store, 0, 10, 100));
    const before = store.state;
    assert.equal(before.refused, undefined);
    node.disk.fail({ operation: "sync", times: Infinity });
    await clock.sleep(2_000);
    assert.equal(store.state.refused?.reason, "log-failed");
    assert.match(store.state.refused.error.todo ?? "", /repair the disk/);
    await store.close().catch(() => undefined);
  });
});

test("promise: a flush that fails is said, tried again by itself, and holds nobody up", async () => {
  await inSimulation(6, async ({ open, node, clock }) => {
    const alarms: string[] = [];
    const store = await open({ onAlarm: (alarm) => alarms.push(alarm.message) });
    const fault = node.disk.fail({ operation: "write", path: ".run", times: Infinity });
    await store.durable(fill(store, 0, 400, 1_000));
    await clock.sleep(500);
    assert.ok(fault.hits > 0 && store.state.trouble !== undefined && alarms.length > 0);
    assert.equal(store.state.refused, undefined);
    await store.durable(fill(store, 400, 10, 100));
    assert.ok(has(store, "key 000003"));
    fault.remove();
    await clock.sleep(60_000);
    assert.equal(store.state.trouble, undefined);
    assert.ok(store.state.runs.length > 0 && store.state.frozen.count === 0);
    await store.close();
  });
});

test("the log is trimmed behind what is flushed, and not beyond what a follower still needs", async () => {
  await inSimulation(7, async ({ open, log }) => {
    let needed = 0;
    const store = await open({ keepLogFrom: () => needed, segmentBytesMax: 32 * 1024 });
    await store.durable(fill(store, 0, 300, 1_000));
    await store.flush();
    assert.equal((await log().bounds("table-log")).first, 0);
    needed = Infinity;
    await store.durable(fill(store, 300, 300, 1_000));
    await store.flush();
    const { first, next } = await log().bounds("table-log");
    assert.ok(first > 0 && first <= store.state.flushedOffset && next === store.offset);
    await store.close();
  });
});

test("entries whose keys have lines are flushed, merged, overwritten, deleted and opened again as all others", async () => {
  await inSimulation(81, async ({ open, clock }) => {
    const random = new Prng("lines");
    const model = new StoreModel();
    let store = await open();
    await clock.sleep(3_000);
    for (let round = 0; round < 8; round++) {
      const effects = Array.from({ length: 250 }, (_, i) => {
        const key = `user:${random.below(600)}:`.padEnd(random.pick([46, 53, 60]), "-");
        const isGone = random.chance(0.05);
        const value = isGone ? undefined : `${round}.${i}`.padEnd(random.between(230, 330), "v");
        return { namespace: 0, key, value, expiryMs: 0, timeMs: isGone ? 0 : 1_000 + i };
      });
      model.apply(effects);
      await store.durable(writeEffects(store, effects));
      await store.flush();
      if (round % 4 === 1) await compareStore(store, model, clock, random, `round ${round}`);
    }
    await clock.sleep(30_000);
    assert.ok(store.state.counts.compactions > 0);
    await compareStore(store, model, clock, random, "merged");
    await store.close();
    store = await open();
    await compareStore(store, model, clock, random, "opened again");
    await store.close();
  });
});

test("merges bound the runs, drop what nobody can miss, and leave no file behind", async () => {
  await inSimulation(8, async ({ open, node, clock }) => {
    const store = await open();
    // Merges wait until the start is over.
    await clock.sleep(3_000);
    for (let round = 0; round < 40; round++) {
      await store.durable(fill(store, (round % 4) * 100, 100, 2_000));
      await store.flush();
    }
    await clock.sleep(30_000);
    const { runs, counts } = store.state;
    assert.ok(runs.length <= 2 && counts.compactions > 3, JSON.stringify(runs));
    assert.ok(runs.reduce((sum, run) => sum + run.entries, 0) <= 500, "400 keys, overwritten ten times");
    assert.equal(
      (await node.files.list("/runs"))!.length,
      runs.reduce((sum, run) => sum + run.files, 0),
    );
    const batch = new EffectBatch();
    for (let i = 0; i < 400; i++) batch.delete(0, bytes(`key ${String(i).padStart(6, "0")}`), 0);
    store.write(batch);
    await store.flush();
    await clock.sleep(30_000);
    assert.deepEqual(store.state.runs, [], "no key, no tombstone, no file");
    assert.deepEqual(await node.files.list("/runs"), []);
    await store.close();
  });
});

test("a second store of the same partition is refused", async () => {
  await inSimulation(9, async ({ open }) => {
    const store = await open();
    await assert.rejects(open(), { code: "conflict" });
    await store.close();
    assert.throws(() => fill(store, 0, 1, 1), { code: "invalid" });
  });
});

test("promise: a damaged, cut, missing or exchanged run file is refused when a store opens, and nothing is changed", async () => {
  await inSimulation(10, async ({ open, node }) => {
    let store = await open();
    for (const from of [0, 100]) {
      await store.durable(fill(store, from, 100, 500));
      await store.flush();
    }
    await store.close();
    const names = (await node.files.list("/runs"))!;
    const [path, other] = names.map((name) => `/runs/${name}`) as [string, string];
    const whole = (await node.files.readFile(path))!;
    const random = new Prng(10);
    for (let round = 0; round < 25; round++) {
      const bent = whole.slice();
      const at = random.below(bent.length);
      bent[at] = bent[at]! ^ (1 << random.below(8));
      await node.files.writeFileAtomic(path, bent);
      await assert.rejects(open(), { code: "corrupt" }, `bit of byte ${at}`);
    }
    await node.files.writeFileAtomic(path, whole.subarray(0, whole.length - 100));
    await assert.rejects(open(), { code: "corrupt" });
    await node.files.writeFileAtomic(path, (await node.files.readFile(other))!);
    await assert.rejects(open(), { code: "corrupt" });
    await node.files.remove(path);
    await assert.rejects(open(), { code: "corrupt" });
    await node.files.writeFileAtomic(path, whole);
    assert.deepEqual(await node.files.list("/runs"), names);
    store = await open();
    assert.ok(has(store, "key 000000") && has(store, "key 000199"));
    await store.close();
  });
});

test("files of work that was cut off go when the store opens; others stay", async () => {
  await inSimulation(11, async ({ open, node }) => {
    await (await open()).close();
    await node.files.writeFileAtomic("/runs/0000000009.run", bytes("half a run"));
    await node.files.writeFileAtomic("/runs/notes.txt", bytes("not ours"));
    await (await open()).close();
    assert.deepEqual(await node.files.list("/runs"), ["notes.txt"]);
  });
});

test("promise: memories of runs that were merged away are freed, also those of the opening while somebody keeps asking for its progress", async () => {
  const pool = new MemoryPool({ capBytes: 90 << 20 });
  const simulation = new Simulation({ seed: 5 });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const node = simulation.node("a");
    await node.run(async () => {
      const { clock, files, workers } = node;
      const connected = registry.connect({ clock, alive: () => node.alive });
      const log = openEmbeddedLog({ files, clock, registry: connected, folder: "/log", durability: "always" });
      const open = (mergeAfterMs: number) =>
        openStore({ files, clock, log, registry: connected, workers, pool, folder: "/runs", partition: "t", memtableBytes: 256 << 10, mergeAfterMs });
      let opening = open(1e9);
      let store = await opening.opened;
      for (let run = 0; run < 6; run++) {
        fill(store, run * 500, 500, 200);
        await store.flush();
      }
      await store.close();
      opening = open(0);
      store = await opening.opened;
      const before = store.state.runs.length;
      assert.ok(before >= 4, `${before} runs`);
      while (store.state.counts.compactions === 0 || store.state.working !== undefined) await clock.sleep(50);
      assert.ok(store.state.runs.length < before);
      // Asks for more than is free, so that nearly all that is idle is dropped.
      assert.ok(pool.statistics().idleBytes > 20 << 20);
      pool.lease({ dataBytes: 79 << 20, laneBytes: 8 * 1024, owner: "test" }).release();
      const { droppedBytes } = pool.statistics();
      assert.ok(droppedBytes > 0, "nothing was dropped, so nothing is proved");
      for (let turn = 0; turn < 5 && pool.statistics().droppedBytes > 0; turn++) {
        collectGarbage();
        await new Promise((resolve) => setImmediate(resolve));
        await clock.sleep(1_000);
      }
      assert.equal(opening.progress().stage, "ready");
      assert.equal(pool.statistics().droppedBytes, 0);
      await store.close();
      await log.close();
    });
    await registry.close();
  });
});
