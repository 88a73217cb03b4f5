// Guards what a followed model promises: a follower has the rows that were learned, evictions too; after a restart from an older checkpoint and after a roll-back it has what the trainer has,
// whatever it held before; what is learned is the same with and without followers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { SyncPort } from "#params/sync/sync-port";
import { type SimulatedNode, Simulation } from "#platform/simulation";
import { FactorisationMachine, type FmOptions } from "./factorisation-machine.ts";
import { FollowedModel, LedModel, modelNodeName } from "./model-sync.ts";

const shape: FmOptions = {
  factors: 8,
  capacityRows: 2_048,
  seed: 7n,
  initialScale: 0.1,
  optimizer: "adagrad",
  rate: { linear: 0.1, factors: 0.05 },
  l2: { linear: 0, factors: 0 },
  initialAccumulator: 1,
};
const times = { beatMs: 200, compareMs: 500, retryMs: 20 };
const portNumber = 7_000;
const keysMost = 6_000;

function newMachine(options: Partial<FmOptions> = {}): FactorisationMachine {
  const full = { ...shape, ...options };
  const memory = KernelMemory.create({ dataBytes: FactorisationMachine.bytesFor(full) + 4_096, lanes: 1, laneBytes: 1 << 20 });
  return FactorisationMachine.create(memory, full);
}

/** Learns samples [from, to) of an endless stream: each the bias and seven of the keys, of which new ones come all the time. */
function learn(machine: FactorisationMachine, from: number, to: number): void {
  const slots = new SlotRows();
  const labels: number[] = [];
  for (let number = from; number < to; number++) {
    const prng = new Prng(`sample ${number}`);
    slots.addLinear(1, 0, 1);
    for (let i = 0; i < 7; i++) slots.addFull(2 + ((number + prng.below(3_000)) % keysMost), 0, 1);
    slots.endRow();
    labels.push(prng.below(2));
  }
  const zeros = new Float32Array(to - from);
  machine.learn(slots, Float32Array.from(labels), zeros.slice().fill(1), zeros, zeros.slice(), new Uint32Array(to - from).fill(1_000));
}

/** Of samples that mix known rows and rows that nobody has. */
function scoresOf(machine: FactorisationMachine): Float32Array {
  const slots = new SlotRows();
  const prng = new Prng("scores");
  for (let row = 0; row < 200; row++) {
    slots.addLinear(1, 0, 1);
    for (let i = 0; i < 7; i++) slots.addFull(2 + prng.below(2 * keysMost), 0, 1);
    slots.endRow();
  }
  const logits = new Float32Array(200);
  machine.evaluate(slots, logits);
  return logits;
}

/** All rows by key; those that are not there are left out. */
function rowsOf(machine: FactorisationMachine): Map<number, string> {
  const keys = new Uint32Array(2 * keysMost);
  for (let key = 0; key < keysMost; key++) keys[2 * key] = key + 1;
  const dims = shape.factors + 1;
  const values = new Float32Array(keysMost * dims);
  const found = new Uint8Array(keysMost);
  machine.table.shard.pull(keys, keysMost, values, found);
  const rows = new Map<number, string>();
  for (let key = 0; key < keysMost; key++) if (found[key] === 1) rows.set(key + 1, values.subarray(key * dims, (key + 1) * dims).join());
  return rows;
}

async function lead(simulated: SimulatedNode, machine: FactorisationMachine): Promise<LedModel> {
  const { network, clock, random, files } = simulated;
  const name = modelNodeName(5, shape);
  const led = await LedModel.open({ machine, name, node: 1, network, clock, random, token: "a token", times }, files, "/data/model");
  const port = new SyncPort({ network, clock, token: "a token" });
  await port.listen({ host: "0.0.0.0", port: portNumber });
  // As in a server: the port is another thread's, the model's own is reached through it.
  port.passOn(name, { host: "127.0.0.1", port: await led.listen() });
  return led;
}

/** Follows the node before it: n2 follows n1. */
async function follow(simulated: SimulatedNode, machine: FactorisationMachine, moved: (count: number) => void = () => undefined): Promise<FollowedModel> {
  const { network, clock, random } = simulated;
  const node = Number(simulated.name.slice(1));
  const name = modelNodeName(5, shape);
  const model = new FollowedModel({ machine, name, node, network, clock, random, token: "a token", times }, [`n${node - 1}:${portNumber}`], (_, count) =>
    moved(count),
  );
  const port = new SyncPort({ network, clock, token: "a token" });
  await port.listen({ host: "0.0.0.0", port: portNumber });
  port.passOn(name, { host: "127.0.0.1", port: await model.listen() });
  return model;
}

async function until(simulation: Simulation, what: string, claim: () => boolean): Promise<void> {
  for (let waited = 0; !claim(); waited++) {
    assert.ok(waited < 3_000, what);
    await simulation.clock.sleep(10);
  }
}

test("promise: a follower has every row that was learned and none that was evicted, and its scores are those of the trainer", async () => {
  const simulation = new Simulation({ seed: "followed model" });
  await simulation.run(async () => {
    const trained = newMachine();
    const led = await lead(simulation.node("n1"), trained);
    learn(trained, 0, 200);
    led.written();
    const followed = newMachine({ optimizer: "sgd" });
    let moved = 0;
    const model = await follow(simulation.node("n2"), followed, (count) => (moved += count));
    assert.equal(model.usable, false);
    await until(simulation, "caught up", () => model.usable);
    assert.deepEqual(rowsOf(followed), rowsOf(trained));
    assert.equal(moved, rowsOf(trained).size);
    for (let from = 200; from < 4_000; from += 50) {
      learn(trained, from, from + 50);
      led.written();
      await simulation.clock.sleep(3);
    }
    assert.ok(trained.table.shard.statistics().evicted > 1_000, "rows were evicted");
    await until(simulation, "the same rows", () => rowsOf(followed).size === rowsOf(trained).size && model.status().sources[0]!.ageMs === 0);
    await simulation.clock.sleep(2_000);
    assert.deepEqual(rowsOf(followed), rowsOf(trained));
    assert.deepEqual(scoresOf(followed), scoresOf(trained));
    const alone = newMachine();
    for (let from = 0; from < 200; from += 200) learn(alone, from, 200);
    for (let from = 200; from < 4_000; from += 50) learn(alone, from, from + 50);
    assert.deepEqual(rowsOf(alone), rowsOf(trained), "nobody notices while it learns");
    const status = model.status();
    assert.deepEqual([status.ready, status.digestMismatches, status.conflicts, status.tableFull], [true, 0, 0, 0]);
    assert.deepEqual([led.status().leads, led.status().followers.map(({ node }) => node)], [1_024, [2]]);
    await model.close();
    await led.close();
  });
});

test("promise: what a follower held of a trainer that died or took its parameters back does not outlive it", async () => {
  const simulation = new Simulation({ seed: "restarted model" });
  await simulation.run(async () => {
    const first = newMachine();
    let one = simulation.node("n1");
    let led = await lead(one, first);
    learn(first, 0, 300);
    led.written();
    const checkpoint = first.save();
    const followed = newMachine({ optimizer: "sgd" });
    const model = await follow(simulation.node("n2"), followed);
    // Whoever follows the follower has no less.
    const behind = newMachine({ optimizer: "sgd" });
    const leaf = await follow(simulation.node("n3"), behind);
    await until(simulation, "caught up", () => model.usable && leaf.usable);
    learn(first, 300, 900);
    led.written();
    await until(simulation, "the same rows", () => rowsOf(followed).size === rowsOf(first).size);
    assert.notDeepEqual(rowsOf(followed).get(1), undefined);

    // Killed; the next one begins at the checkpoint and has learned less.
    one.crash("kill");
    one = simulation.node("n1");
    const second = newMachine();
    second.load(checkpoint);
    led = await lead(one, second);
    await until(simulation, "what the first one learned last is gone", () => rowsOf(followed).size === rowsOf(second).size);
    await until(simulation, "ready again", () => model.status().ready);
    assert.deepEqual(rowsOf(followed), rowsOf(second));
    await until(simulation, "the leaf, too", () => rowsOf(behind).size === rowsOf(second).size && leaf.status().ready);
    assert.deepEqual(rowsOf(behind), rowsOf(second));
    // It learns what the first one had learned, to the same bits.
    learn(second, 300, 900);
    led.written();
    await simulation.clock.sleep(1_000);
    assert.deepEqual(rowsOf(second), rowsOf(first));
    assert.deepEqual(rowsOf(followed), rowsOf(first));

    // The guard.
    const good = second.save();
    learn(second, 900, 1_400);
    led.written();
    await simulation.clock.sleep(500);
    assert.deepEqual(rowsOf(followed), rowsOf(second));
    second.load(good);
    led.rolledBack();
    await until(simulation, "ready after the roll-back", () => rowsOf(followed).size === rowsOf(first).size && model.status().ready);
    assert.deepEqual(rowsOf(followed), rowsOf(first));
    learn(second, 900, 1_000);
    led.written();
    await until(simulation, "the leaf after the roll-back", () => leaf.status().ready);
    await simulation.clock.sleep(2_000);
    assert.deepEqual(rowsOf(followed), rowsOf(second));
    assert.deepEqual(rowsOf(behind), rowsOf(second));
    for (const { digestMismatches, conflicts } of [model.status(), leaf.status()]) assert.deepEqual([digestMismatches, conflicts], [0, 0]);
    await leaf.close();
    await model.close();
    await led.close();
  });
});
