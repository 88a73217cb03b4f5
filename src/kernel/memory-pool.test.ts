// The pool's promises: a switch of versions reuses memory, a reader is never robbed of it, the cap holds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { collectGarbage } from "#platform/garbage";
import { Simulation } from "#platform/simulation";
import { collectDropped, collectDroppedLimits, dropLongIdle, idleMsMax } from "./collect-dropped.ts";
import { classBytesOf, joinReaders, type MemoryLease, MemoryPool, type MemoryReader } from "./memory-pool.ts";
import { memoryBytesFor } from "./kernel-memory.ts";

const mebi = 1 << 20;
const shape = (dataBytes: number): { dataBytes: number; laneBytes: number } => ({ dataBytes, laneBytes: 8 * 1024 });

/** After a collection of garbage in this thread, and what the pool heard of it. */
async function collected(): Promise<void> {
  await sleep(1);
  collectGarbage();
  await sleep(1);
}

function isOverloaded(error: unknown): boolean {
  return error instanceof MillraceError && error.code === "overloaded";
}

test("promise: switching versions reuses memories, it never grows without bound", () => {
  const pool = new MemoryPool({ capBytes: 64 * mebi });
  let current: MemoryLease | undefined;
  for (let version = 0; version < 50; version++) {
    // Sizes drift by a tenth, as versions do.
    const next = pool.lease({ ...shape(Math.round(mebi * (4 + (version % 5) / 10))), owner: `items@${version}` });
    current?.release();
    current = next;
  }
  const { memories, created, reused, totalBytes } = pool.statistics();
  assert.ok(memories <= 3, `${memories} memories`);
  assert.equal(created, memories);
  assert.equal(reused, 50 - created);
  assert.ok(totalBytes < 16 * mebi);
});

test("a memory is handed on only after its last reader has left", () => {
  const pool = new MemoryPool({ capBytes: 2 * mebi });
  const lease = pool.lease({ ...shape(mebi), owner: "a" });
  const first = lease.read()!;
  const second = lease.read()!;
  lease.release();
  lease.release();
  assert.equal(lease.read(), undefined, "no reader after the release");
  assert.throws(() => pool.lease({ ...shape(mebi), owner: "b" }), isOverloaded);
  first.release();
  first.release();
  assert.throws(() => pool.lease({ ...shape(mebi), owner: "b" }), isOverloaded, "a double release counts once");
  second.release();
  const next = pool.lease({ ...shape(mebi), owner: "b" });
  assert.equal(next.memory.memory, lease.memory.memory, "the same memory");
  assert.equal(lease.read(), undefined, "a reader of the old lease is refused by its generation");
  assert.equal(joinReaders(lease.ticket), undefined);
  assert.equal(pool.statistics().owners.get("b")!.readers, 0, "a refused reader leaves no trace");
  assert.ok(joinReaders(next.ticket) !== undefined);
});

test("the cap is never passed, and its error names the owners", () => {
  const pool = new MemoryPool({ capBytes: 5 * mebi });
  pool.lease({ ...shape(2 * mebi), owner: "vectors@7" });
  pool.lease({ ...shape(mebi), owner: "users@1" });
  assert.throws(
    () => pool.lease({ ...shape(2 * mebi), owner: "vectors@8" }),
    (error: unknown) => isOverloaded(error) && /vectors@8/.test((error as Error).message) && /vectors@7/.test((error as Error).message),
  );
  const { refused, totalBytes, capBytes } = pool.statistics();
  assert.equal(refused, 1);
  assert.ok(totalBytes <= capBytes);
});

test("promise: idle memories of other sizes make room before a lease is refused", async () => {
  const pool = new MemoryPool({ capBytes: 8 * mebi });
  const small = [1, 2, 3].map((version) => pool.lease({ ...shape(mebi / 2), owner: `small@${version}` }));
  const held = pool.lease({ ...shape(2 * mebi), owner: "held" });
  for (const lease of small) lease.release();
  let drops = 0;
  const stop = pool.onDropped(() => drops++);
  const before = pool.statistics();
  assert.equal(before.idleBytes, 3 * mebi);
  const large = pool.lease({ ...shape(5 * mebi - 100_000), owner: "large@4" });
  const after = pool.statistics();
  assert.equal(drops, 1, "listeners are told once a lease");
  assert.deepEqual({ dropped: after.dropped, droppedBytes: after.droppedBytes, idle: after.idleBytes }, { dropped: 3, droppedBytes: 3 * mebi, idle: 0 });
  assert.ok(after.totalBytes <= pool.capBytes);
  held.memory.u32[held.memory.dataFrom / 4] = 7;
  large.memory.bytes.fill(1, large.memory.dataFrom);
  assert.equal(held.memory.u32[held.memory.dataFrom / 4], 7);
  // The other way round: a large idle one goes for small ones, it is not lent whole.
  large.release();
  const many = Array.from({ length: 4 }, (_one, index) => pool.lease({ ...shape(mebi / 2), owner: `small@${5 + index}` }));
  assert.equal(pool.statistics().leasedBytes, held.memory.memory.buffer.byteLength + many.length * mebi);
  stop();
  assert.equal(drops, 2);
});

test("promise: what nobody wanted for long is given back, small memories apart", async () => {
  const simulation = new Simulation({ seed: 1 });
  const pool = new MemoryPool({ capBytes: 1024 * mebi });
  const leases = [8, 40, 100, 200].map((size) => pool.lease({ ...shape(size * mebi - 100_000), owner: `version@${size}` }));
  await simulation.run(async () => {
    const { clock } = simulation;
    const dropping = dropLongIdle(pool, clock);
    await clock.sleep(idleMsMax * 0.9);
    for (const lease of leases.slice(0, 3)) lease.release();
    await clock.sleep(idleMsMax * 0.9);
    assert.equal(pool.statistics().dropped, 0, "idle for less than a whole pause");
    const again = pool.lease({ ...shape(100 * mebi - 100_000), owner: "version@101" });
    again.release();
    await clock.sleep(idleMsMax * 0.9);
    assert.equal(pool.statistics().dropped, 0, "what was wanted meanwhile counts anew");
    await clock.sleep(idleMsMax * 1.2);
    const { dropped, idleBytes, leasedBytes } = pool.statistics();
    assert.deepEqual(
      [dropped, idleBytes, leasedBytes].map((one, at) => (at === 0 ? one : Math.round(one / mebi))),
      [1, 48, 224],
      "the small two stay, what is held stays",
    );
    dropping.stop();
  });
});

test("promise: what is dropped because it was idle for long is collected in a quiet moment, what a lease needs at once", async () => {
  const simulation = new Simulation({ seed: 2 });
  const pool = new MemoryPool({ capBytes: 640 * mebi });
  const { delayMs, pauseMs, quietLoad, patienceMs } = collectDroppedLimits;
  await simulation.run(async () => {
    const { clock } = simulation;
    let load = 0.9;
    let collections = 0;
    const collecting = collectDropped(
      pool,
      clock,
      () => (collections += 1),
      () => load,
    );
    // Held, so that the engine does not collect them by itself before.
    const held: unknown[] = [];
    const idle = (): void => {
      const lease = pool.lease({ ...shape(100 * mebi - 100_000), owner: "version" });
      held.push(lease.memory);
      lease.release();
      pool.dropLongIdle();
      assert.ok(pool.dropLongIdle() > 0);
    };
    idle();
    await clock.sleep(20 * pauseMs);
    assert.equal(collections, 0, "the thread serves");
    load = quietLoad / 2;
    await clock.sleep(2 * delayMs);
    assert.equal(collections, 1, "it is quiet");
    load = 0.9;
    await clock.sleep(pauseMs);
    idle();
    await clock.sleep(0.9 * patienceMs);
    assert.equal(collections, 1);
    await clock.sleep(0.2 * patienceMs);
    assert.equal(collections, 2, "nobody waits for ever");
    const large = pool.lease({ ...shape(300 * mebi), owner: "large" });
    held.push(large.memory);
    large.release();
    pool.lease({ ...shape(450 * mebi), owner: "needs its room" });
    await clock.sleep(2 * pauseMs);
    assert.equal(collections, 3, "a lease needed the room");
    assert.equal(held.length, 3);
    collecting.stop();
  });
});

test("what was dropped and is not collected is bounded: beyond it a lease is refused, and after a collection it is not", async () => {
  const pool = new MemoryPool({ capBytes: 8 * mebi });
  const sizes = [3, 6, 8].map((size) => shape(size * mebi - 100_000));
  const grow = (): number => {
    for (const [version, size] of sizes.entries()) {
      try {
        pool.lease({ ...size, owner: `grows@${version}` }).release();
      } catch (thrown) {
        assert.ok(isOverloaded(thrown));
        assert.match((thrown as Error).message, /dropped and not yet collected/);
        return version;
      }
      const { totalBytes, droppedBytes } = pool.statistics();
      assert.ok(totalBytes <= pool.capBytes && totalBytes + droppedBytes <= 2 * pool.capBytes);
    }
    return sizes.length;
  };
  assert.equal(grow(), 2);
  assert.equal(pool.statistics().droppedBytes, 3 * mebi);
  // A registry hears of what was collected in a later turn of the loop, which one is the engine's affair.
  for (let tries = 0; tries < 50 && pool.statistics().droppedBytes > 0; tries++) await collected();
  assert.equal(pool.statistics().droppedBytes, 0);
  pool.lease({ ...sizes[2]!, owner: "grown" });
});

test("a shape that cannot be is invalid, not overloaded", () => {
  const pool = new MemoryPool();
  assert.throws(
    () => pool.lease({ dataBytes: 5 * 2 ** 30, owner: "x" }),
    (error: unknown) => error instanceof MillraceError && error.code === "invalid" && /split/.test(error.message),
  );
  assert.throws(
    () => pool.lease({ dataBytes: -1, owner: "x" }),
    (error: unknown) => error instanceof MillraceError && error.code === "invalid",
  );
});

test("a much larger idle memory is kept for those who need it, while the cap allows a fitting one", () => {
  const pool = new MemoryPool({ capBytes: 20 * mebi });
  const big = pool.lease({ ...shape(12 * mebi), owner: "big" });
  big.release();
  const small = pool.lease({ ...shape(mebi), owner: "small" });
  assert.notEqual(small.memory.memory, big.memory.memory);
  const again = pool.lease({ ...shape(11 * mebi), owner: "big" });
  assert.equal(again.memory.memory, big.memory.memory);
  again.release();
  // Nothing else left: now the large one serves a small request.
  pool.lease({ ...shape(6 * mebi), owner: "fills the cap" });
  const taken = pool.statistics();
  assert.ok(taken.totalBytes <= taken.capBytes);
});

test("classes hold what is asked, waste at most a quarter above 1 MiB, and grow with the request", () => {
  let last = 0;
  for (let bytes = 1; bytes < 2 ** 32; bytes = Math.ceil(bytes * 1.07)) {
    const size = classBytesOf(bytes);
    assert.ok(size >= bytes && size >= last && size % 65_536 === 0);
    if (bytes > mebi) assert.ok(size <= bytes * 1.25 + 65_536, `${bytes} in ${size}`);
    last = size;
  }
  assert.equal(classBytesOf(2 ** 32), 2 ** 32);
  assert.equal(classBytesOf(1), mebi);
});

test(`random leases, readers and releases against a model (SEED=${process.env["SEED"] ?? "pool"})`, async () => {
  const prng = new Prng(process.env["SEED"] ?? "pool");
  const capBytes = 24 * mebi;
  const pool = new MemoryPool({ capBytes });
  const held: { lease: MemoryLease; readers: MemoryReader[]; released: boolean; stamp: number }[] = [];
  let stamps = 0;
  for (let step = 0; step < 3_000; step++) {
    const entry = held.length > 0 ? prng.pick(held) : undefined;
    if (entry === undefined || prng.chance(0.3)) {
      const request = shape(prng.below(4 * mebi));
      let lease: MemoryLease;
      try {
        lease = pool.lease({ ...request, owner: `o${prng.below(5)}` });
      } catch (error) {
        assert.ok(isOverloaded(error));
        if (pool.statistics().droppedBytes > 0) {
          await collected();
          continue;
        }
        assert.ok(held.length > 0 || memoryBytesFor(request) > capBytes);
        continue;
      }
      assert.ok(
        held.every((other) => other.lease.memory.memory !== lease.memory.memory),
        "a memory that is in use was handed out",
      );
      assert.ok(lease.memory.dataBytes >= request.dataBytes);
      const stamp = ++stamps;
      lease.memory.u32[lease.memory.dataFrom / 4] = stamp;
      held.push({ lease, readers: [], released: false, stamp });
    } else if (prng.chance(0.4)) {
      const reader = entry.lease.read();
      assert.equal(reader === undefined, entry.released);
      if (reader !== undefined) entry.readers.push(reader);
    } else if (prng.chance(0.5)) {
      entry.readers.pop()?.release();
    } else {
      entry.lease.release();
      entry.released = true;
    }
    for (const { lease, stamp } of held) assert.equal(lease.memory.u32[lease.memory.dataFrom / 4], stamp, "somebody wrote into a memory in use");
    for (let i = held.length - 1; i >= 0; i--) if (held[i]!.released && held[i]!.readers.length === 0) held.splice(i, 1);
    const statistics = pool.statistics();
    assert.ok(statistics.totalBytes <= capBytes);
    assert.equal(statistics.leasedBytes + statistics.closingBytes + statistics.idleBytes, statistics.totalBytes);
    let readers = 0;
    for (const owner of statistics.owners.values()) readers += owner.readers;
    assert.equal(
      readers,
      held.reduce((sum, { readers: own }) => sum + own.length, 0),
    );
  }
});

test("readers in another thread hold the memory, and it comes back when they leave", async (t) => {
  const pool = new MemoryPool({ capBytes: 2 * mebi });
  const lease = pool.lease({ ...shape(mebi), owner: "shared" });
  const module = JSON.stringify(new URL("./memory-pool.ts", import.meta.url).href);
  const worker = new Worker(
    `const { parentPort, workerData } = require("node:worker_threads");
     import(${module}).then(({ joinReaders }) => {
       const reader = joinReaders(workerData);
       parentPort.once("message", () => { reader.release(); parentPort.postMessage(joinReaders(workerData) === undefined ? "left, refused" : "left, let in"); });
       parentPort.postMessage(reader === undefined ? "refused" : "joined");
     });`,
    { eval: true, workerData: lease.ticket },
  );
  t.after(() => worker.terminate());
  const next = (): Promise<unknown> =>
    new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  assert.equal(await next(), "joined");
  lease.release();
  assert.throws(() => pool.lease({ ...shape(mebi), owner: "next" }), isOverloaded);
  assert.equal(pool.statistics().owners.get("shared")!.readers, 1);
  const left = next();
  worker.postMessage("leave");
  assert.equal(await left, "left, refused");
  assert.equal(pool.lease({ ...shape(mebi), owner: "next" }).memory.memory, lease.memory.memory);
});
