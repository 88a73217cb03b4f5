// The store against a Map, over random transactions, flushes, merges, openings and wall clocks that jump. SEED=n replays one run alone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { compareStore, keptNamespace, randomEffects, StoreModel, writeEffects } from "./store-model.contract.ts";
import { inSimulation } from "./store-world.contract.ts";

const replay = process.env["SEED"] === undefined ? undefined : Number(process.env["SEED"]);
const long = process.env["MILLRACE_LONG"] !== undefined;

interface RunCounts {
  flushes: number;
  merges: number;
  openings: number;
  transactions: number;
}

async function runModel(seed: number, steps: number, counts: RunCounts): Promise<void> {
  const random = new Prng(seed).fork("model");
  await inSimulation(seed, async ({ open, clock, node }) => {
    const alarms: string[] = [];
    const options = { keepTombstones: () => [keptNamespace], onAlarm: (alarm: Error) => alarms.push(alarm.message) };
    const model = new StoreModel();
    let store = await open(options);
    for (let step = 0; step < steps; step++) {
      const what = `seed ${seed}, step ${step}`;
      const dice = random.below(1_000);
      if (dice < 860) {
        const effects = randomEffects(random, clock.nowMs(), `${step}:`);
        const ticket = writeEffects(store, effects);
        counts.transactions++;
        model.apply(effects);
        if (random.chance(0.2)) await store.durable(ticket);
      } else if (dice < 900) {
        await clock.sleep(random.below(random.chance(0.1) ? 60_000 : 50));
      } else if (dice < 930) {
        await store.flush();
      } else if (dice < 935) {
        node.jumpWallTime(random.between(-200_000, 200_000));
      } else if (dice < 950) {
        const { flushes, compactions } = store.state.counts;
        counts.flushes += flushes;
        counts.merges += compactions;
        await store.close();
        store = await open(options);
        counts.openings++;
        await compareStore(store, model, clock, random, `${what}, opened`);
      } else if (dice < 975) {
        await compareStore(store, model, clock, random, what);
      }
      model.latestMs = Math.max(model.latestMs, clock.nowMs());
    }
    await compareStore(store, model, clock, random, `seed ${seed}, end`);
    const { flushes, compactions } = store.state.counts;
    counts.flushes += flushes;
    counts.merges += compactions;
    await store.close();
    assert.deepEqual(alarms, [], `seed ${seed}`);
  });
}

test("promise: a store shows what a map shows, whatever is flushed, merged, opened again or expires", async (t) => {
  const seeds = replay === undefined ? Array.from({ length: long ? 200 : 3 }, (_, i) => 1 + i) : [replay];
  const counts: RunCounts = { flushes: 0, merges: 0, openings: 0, transactions: 0 };
  for (const seed of seeds) await runModel(seed, long ? 2_000 : 700, counts);
  if (replay === undefined) assert.ok(counts.flushes > 40 && counts.merges > 5 && counts.openings > 10, JSON.stringify(counts));
  t.diagnostic(`seeds ${seeds[0]} to ${seeds.at(-1)}: ${JSON.stringify(counts)}${long ? "" : " (MILLRACE_LONG: 200 seeds)"}`);
});
