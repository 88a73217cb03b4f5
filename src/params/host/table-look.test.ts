// Guards what a person sees of a table's rows: writes and rows by bucket add up, and ages of the sample are those of the rows.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryPool } from "#kernel/memory-pool";
import { ParameterStore } from "../parameter-store.ts";
import { lookAt, lookLimits } from "./table-look.ts";

test("writes, rows and ages of a table of two shards add up", async () => {
  const pool = new MemoryPool({ capBytes: 256 << 20 });
  const store = new ParameterStore(pool, "test", { dim: 4, initial: { seed: 1n, factors: 0, initialScale: 0 }, bytes: 32 << 20, shards: 2, buckets: 256 });
  store.lead(1, 0);
  const nowS = 2_000_000_000;
  const write = (first: number, count: number, touchedS: number): void => {
    const keys = new Uint32Array(2 * count);
    for (let i = 0; i < count; i++) keys[2 * i] = first + i;
    assert.equal(store.assign(keys, count, new Float32Array(4 * count).fill(1), touchedS), 0);
  };
  const rest = async (): Promise<void> => undefined;
  assert.deepEqual(await lookAt(store, nowS, rest), {
    buckets: 512,
    writes: new Array<number>(64).fill(0),
    rows: new Array<number>(64).fill(0),
    live: 0,
    touched: [0, 0, 0, 0, 0, 0, 0],
    sampled: 0,
  });
  write(1, 3_000, nowS - 30 * 86_400);
  write(3_001, 6_000, nowS - 3_000);
  write(9_001, 3_000, nowS - 5);
  write(9_001, 3_000, nowS + 5);
  let rests = 0;
  const look = await lookAt(store, nowS, async () => void (rests += 1));
  const sum = (numbers: readonly number[]): number => numbers.reduce((all, one) => all + one, 0);
  assert.deepEqual([sum(look.writes), sum(look.rows), look.live], [15_000, 12_000, 12_000]);
  assert.ok(look.sampled >= lookLimits.sampleRows && look.sampled < 1.1 * lookLimits.sampleRows, `${look.sampled} rows`);
  assert.equal(sum(look.touched), look.sampled);
  assert.ok(rests > 5);
  // A quarter, a half, a quarter, as whole buckets sample them.
  const [minute, , hour, , , , older] = look.touched;
  for (const [count, share] of [
    [minute!, 0.25],
    [hour!, 0.5],
    [older!, 0.25],
  ] as const)
    assert.ok(Math.abs(count / look.sampled - share) < 0.06, look.touched.join(" "));
  store.delete(new Uint32Array([9_001, 0]), 1);
  assert.equal((await lookAt(store, nowS, rest)).live, 11_999);
  store.release();
});
