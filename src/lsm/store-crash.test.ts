// The store through power cuts and kills at any moment of writing, flushing and merging, against the list of its transactions. Whatever happens, what opens again
// is the state after a beginning of that list, and the beginning holds everything that the policy promised to keep.
// Each case is a seed: SEED=n replays one alone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Durability } from "#backbone/log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import type { InstalledFault } from "#platform/simulated-disk";
import { Simulation } from "#platform/simulation";
import { compareStore, keptNamespace, type ModelEffect, randomEffects, StoreModel, writeEffects } from "./store-model.contract.ts";
import type { StoreState } from "./store.ts";
import { openOn, testPool } from "./store-world.contract.ts";

/** The log's default interval; at a power cut everything acknowledged before it must be there. */
const intervalMs = 200;

interface CrashCase {
  readonly durability: Durability;
  readonly how: "kill" | "power";
  readonly rounds: number;
  /** Writes and syncs of run files and of the log fail now and then. */
  readonly faults?: boolean;
}

interface Transaction {
  readonly effects: readonly ModelEffect[];
  readonly ticket: number;
  ackedMs: number | undefined;
}

interface CrashCounts {
  crashes: number;
  acked: number;
  lost: number;
  flushes: number;
  merges: number;
  /** Crashes while a flush or merge was under way. */
  during: number;
  faultsHit: number;
}

async function survive(seed: number, crash: CrashCase, counts: CrashCounts): Promise<void> {
  const simulation = new Simulation({ seed });
  const { random } = simulation;
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    let history: Transaction[] = [];
    let mustKeep = (transaction: Transaction): boolean => transaction.ackedMs !== undefined;
    let latestMs = 0;
    let written = 0;
    for (let round = 0; round <= crash.rounds; round++) {
      const node = simulation.node("a");
      let fault = undefined as InstalledFault | undefined;
      let state = undefined as StoreState | undefined;
      const ended = node.run(async () => {
        const { store, log } = await openOn(node, registry, { durability: crash.durability, keepTombstones: () => [keptNamespace] });
        const lost = history.filter((transaction) => transaction.ticket > store.offset);
        for (const transaction of lost) assert.ok(!mustKeep(transaction), `seed ${seed}: a transaction acknowledged at ${transaction.ackedMs} ms is gone`);
        counts.lost += lost.filter((transaction) => transaction.ackedMs !== undefined).length;
        history = history.filter((transaction) => transaction.ticket <= store.offset);
        const model = new StoreModel();
        model.latestMs = latestMs;
        for (const { effects } of history) model.apply(effects);
        await compareStore(store, model, node.clock, random, `seed ${seed}, after ${round} crashes`);
        if (round === crash.rounds) {
          await store.close();
          return log.close();
        }
        // What is there now is what the promise is about from here on.
        for (const transaction of history) transaction.ackedMs ??= -Infinity;
        mustKeep = (transaction) => transaction.ackedMs !== undefined;
        if (crash.faults === true) {
          fault = node.disk.fail({
            operation: random.pick(["write", "sync"]),
            path: random.pick([".run", ".run", ".seg"]),
            after: random.below(30),
            times: random.pick([1, 3]),
          });
        }
        for (;;) {
          const effects = randomEffects(random, node.clock.nowMs(), `${written++}:`, 6_000);
          let ticket: number;
          try {
            ticket = writeEffects(store, effects);
          } catch (thrown) {
            assert.ok(crash.faults === true && thrown instanceof MillraceError && thrown.code === "unavailable", String(thrown));
            assert.equal(store.state.refused?.reason, "log-failed");
            // Reads go on, with what was written before.
            await compareStore(store, model, node.clock, random, `seed ${seed}, writes refused`);
            await node.clock.sleep(1_000_000);
            continue;
          }
          model.apply(effects);
          const transaction: Transaction = { effects, ticket, ackedMs: undefined };
          history.push(transaction);
          void store.durable(ticket).then(
            () => {
              transaction.ackedMs = simulation.clock.monotonicMs();
              counts.acked++;
            },
            () => undefined,
          );
          if (random.chance(0.6)) await node.clock.sleep(random.below(6));
          if (random.chance(0.01)) await store.flush().catch((thrown: unknown) => assert.ok(crash.faults === true, String(thrown)));
          state = store.state;
          latestMs = Math.max(latestMs, node.clock.nowMs());
        }
      });
      if (round === crash.rounds) {
        assert.equal((await ended).crashed, false);
        break;
      }
      await Promise.race([ended, simulation.clock.sleep(random.below(random.chance(0.5) ? 200 : 1_000))]);
      const nowMs = simulation.clock.monotonicMs();
      node.crash(crash.how);
      await ended;
      testPool.releaseAll();
      counts.faultsHit += fault?.hits ?? 0;
      fault?.remove();
      counts.crashes++;
      counts.flushes += state?.counts.flushes ?? 0;
      counts.merges += state?.counts.compactions ?? 0;
      if (state?.working !== undefined) counts.during++;
      if (crash.how === "power" && crash.durability === "interval")
        mustKeep = (transaction) => transaction.ackedMs !== undefined && transaction.ackedMs < nowMs - intervalMs;
    }
    await registry.close();
  });
}

const replay = process.env["SEED"] === undefined ? undefined : Number(process.env["SEED"]);
const long = process.env["MILLRACE_LONG"];
/** `MILLRACE_LONG=5`: five times as many seeds; otherwise sixty-four times. */
const times = long === undefined ? 1 : Number(long) > 1 ? Number(long) : 64;

async function surviveAll(seeds: number, crash: CrashCase): Promise<CrashCounts> {
  const counts: CrashCounts = { crashes: 0, acked: 0, lost: 0, flushes: 0, merges: 0, during: 0, faultsHit: 0 };
  const chosen = replay === undefined ? Array.from({ length: seeds * times }, (_, i) => 1 + i) : [replay];
  for (const seed of chosen) await survive(seed, crash, counts);
  return counts;
}

const reduced = long === undefined ? "; MILLRACE_LONG: 64 times as many" : "";

test("promise: a store at always loses nothing acknowledged and applies nothing twice, in power cuts at any write", async (t) => {
  const counts = await surviveAll(5, { durability: "always", how: "power", rounds: 3 });
  assert.equal(counts.lost, 0);
  if (replay === undefined) assert.ok(counts.crashes >= 15 && counts.acked > 300 && counts.during > 2 && counts.merges > 2, JSON.stringify(counts));
  t.diagnostic(`${JSON.stringify(counts)}${reduced}`);
});

test("promise: a store at interval loses at most what was acknowledged in the last interval", async (t) => {
  const counts = await surviveAll(5, { durability: "interval", how: "power", rounds: 3 });
  if (replay === undefined) assert.ok(counts.crashes >= 15 && counts.lost > 0, "power cuts that cost nothing prove nothing");
  t.diagnostic(`${JSON.stringify(counts)}${reduced}`);
});

test("promise: kill -9 costs a store nothing acknowledged (simulated)", async (t) => {
  const counts = await surviveAll(4, { durability: "interval", how: "kill", rounds: 3 });
  assert.equal(counts.lost, 0);
  t.diagnostic(JSON.stringify(counts));
});

test("promise: a disk that fails costs nothing acknowledged: a flush is tried again, a log that failed refuses writes while reads go on", async (t) => {
  const counts = await surviveAll(4, { durability: "always", how: "power", rounds: 3, faults: true });
  assert.equal(counts.lost, 0);
  if (replay === undefined) assert.ok(counts.faultsHit > 3, JSON.stringify(counts));
  t.diagnostic(`${JSON.stringify(counts)}${reduced}`);
});
