// Guards the way of a write from a serving thread to the host and back: read your write, order, back-pressure, the end of the host's thread, tables that go.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { MemoryPool } from "#kernel/memory-pool";
import { Simulation } from "#platform/simulation";
import { systemClock } from "#platform/system-clock";
import { MillraceError } from "#base/errors";
import { parameterLanes } from "./host-table.ts";
import { ParameterHost } from "./parameter-host.ts";
import { ServedTables } from "./served-tables.ts";

const keysOf = (numbers: readonly number[]): Uint32Array => Uint32Array.from(numbers.flatMap((key) => [key, 7]));

async function both(t: TestContext): Promise<{ host: ParameterHost; served: ServedTables; pull: (name: string, numbers: readonly number[]) => number[] }> {
  const simulation = new Simulation({ seed: "served" });
  const { files } = simulation.node("a");
  const served = new ServedTables(systemClock, parameterLanes.serving);
  const host = await simulation.run(() =>
    ParameterHost.open({
      pool: new MemoryPool({ capBytes: 1 << 30 }),
      clock: systemClock,
      files,
      folder: "/p",
      tables: { user: { dim: 4, memoryMb: 4 } },
      memoryBytesMax: 64 << 20,
      warn: () => undefined,
      onOpened: (table) => served.opened({ id: table.id, name: table.name, dim: table.store.dim, shards: table.store.tickets() }),
      onDropped: ({ id }) => served.dropped(id),
    }),
  );
  host.attach(served.serve(host.bell));
  t.after(() => served.close());
  const pull = (name: string, numbers: readonly number[]): number[] => {
    const into = new Float32Array(4 * numbers.length);
    served.find(name)!.reader.pull(keysOf(numbers), numbers.length, into);
    return numbers.map((_, i) => into[4 * i]!);
  };
  return { host, served, pull };
}

test("promise: who waited for a write reads it; writes keep their order, also those that waited for room", async (t) => {
  const { host, served, pull } = await both(t);
  const table = served.find("user")!;
  const first = served.write(table, "assign", keysOf([1, 2]), 2, new Float32Array(8).fill(1));
  host.turn();
  assert.deepEqual(await first, { refused: 0, removed: 0 });
  assert.deepEqual(pull("user", [1, 2, 3]), [1, 1, 0]);
  // 1.6 MB each: a ring of 16 MiB holds a few of them, the rest waits.
  const keys = keysOf(Array.from({ length: 16_384 }, (_, i) => i));
  const values = new Float32Array(4 * 16_384);
  const many = Array.from({ length: 100 }, (_, i) => served.write(table, "assign", keys, 16_384, values.fill(i + 10)));
  const more = served.write(table, "add", keysOf([5]), 1, new Float32Array(4).fill(0.5));
  let settled = false;
  const all = Promise.all([...many, more]).then(() => (settled = true));
  for (let turns = 0; !settled && turns < 10_000; turns++) {
    host.turn();
    await systemClock.yield();
  }
  await all;
  assert.deepEqual(pull("user", [5, 16_000]), [109.5, 109]);
  assert.deepEqual([table.counts.pushes, table.counts.pushedRows], [102, 2 + 100 * 16_384 + 1]);
});

test("too much waiting is refused; a lost thread refuses writes and pulls go on; a dropped table is gone", async (t) => {
  const { host, served, pull } = await both(t);
  const table = served.find("user")!;
  const keys = keysOf(Array.from({ length: 16_384 }, (_, i) => i));
  const values = new Float32Array(4 * 16_384).fill(3);
  await assert.rejects(served.write(table, "add", keys, 2, values), { code: "invalid", message: /65536 numbers for 2 keys of table user/ });
  const writes = Array.from({ length: 250 }, () => served.write(table, "assign", keys, 16_384, values));
  const outcomes = Promise.allSettled(writes);
  host.turn();
  served.lost(new MillraceError("unavailable", "the parameters thread ended"));
  const codes = (await outcomes).map((one) => (one.status === "fulfilled" ? "done" : (one.reason as MillraceError).code));
  assert.ok(codes.includes("overloaded") && codes.includes("unavailable"), [...new Set(codes)].join());
  assert.deepEqual(pull("user", [5]), [3]);
  await assert.rejects(served.write(table, "add", keys, 1, new Float32Array(4)), { code: "unavailable", message: /thread ended/ });
  host.attach(served.serve(host.bell));
  const again = served.write(table, "delete", keysOf([5, 6, 20_000]), 3, new Float32Array(0));
  // Deletes of keys with another high half find nothing; these are those of `keysOf`.
  host.turn();
  assert.deepEqual(await again, { refused: 0, removed: 2 });
  const gone = served.write({ ...table, id: 99, name: "gone" }, "delete", keysOf([1]), 1, new Float32Array(0));
  host.turn();
  await assert.rejects(gone, { code: "not-found", message: /gone was dropped/ });
  served.dropped(table.id);
  assert.equal(served.find("user"), undefined);
});

test("promise: a table that was dropped before its opening was heard is no table, and nothing throws; nor is the one before it of that name", async (t) => {
  const { host, served } = await both(t);
  const { id, name, store } = host.required("user");
  const ticket = { id, name, dim: 4, shards: store.tickets() };
  assert.equal(served.opened({ ...ticket, name: "twice" }), true);
  store.release();
  assert.equal(served.opened({ ...ticket, id: 7, name: "late" }), false);
  assert.equal(served.find("late"), undefined);
  assert.equal(served.opened({ ...ticket, id: 8, name: "twice" }), false);
  assert.equal(served.find("twice"), undefined);
});
