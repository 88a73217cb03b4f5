// What ranking by the model costs: a call through the mailbox against the same computation inline, searches by size, writes and sweeps of vectors.
// Run: `node src/ranking/ranking.bench.ts [items] [rounds]`. Minima and medians; on a busy machine only minima and ratios mean something. Answers are compared.

import assert from "node:assert/strict";
import { SlotRows } from "#extract/slot-rows";
import { smallModel } from "#models/small-model.fuzz";
import { systemClock } from "#platform/system-clock";
import { systemWorkers } from "#platform/system-workers";
import { inlineScorer } from "./inline-scorer.ts";
import { workerScorer } from "./worker-scorer.ts";

const itemCount = Number(process.argv[2] ?? 20_000);
const rounds = Number(process.argv[3] ?? 50);
const factors = 16;

const model = smallModel(itemCount, { factors, capacityRows: 400_000, slotsPerItemMax: 24 });

/** 14 full and 6 linear slots, as a user or a candidate has them. */
function addRow(rows: SlotRows, number: number, field: number): void {
  for (let slot = 0; slot < 14; slot++) rows.addFull(slot === 0 ? number : (number * 7 + slot) % 500, field + slot, 0.3);
  for (let slot = 0; slot < 6; slot++) rows.addLinear((number + slot) % 200, field + 20 + slot, 0.3);
  rows.endRow();
}

const user = new SlotRows();
addRow(user, 1, 100);
const few = new SlotRows();
addRow(few, 3, 200);
const many = new SlotRows();
for (let row = 0; row < 400; row++) addRow(many, row * 31, 200);
const ones = new Float32Array(400).fill(1);
for (let step = 0; step < 20; step++) model.machine.learn(many, ones, ones, ones, new Float32Array(400));

const slots = new SlotRows();
const rows = new Float32Array(128 * model.machine.vectorDims);
let writeMs = 0;
let vectorsMs = 0;
for (let first = 0; first < itemCount; first += 128) {
  slots.clear();
  const count = Math.min(128, itemCount - first);
  for (let row = 0; row < count; row++) addRow(slots, first + row, 200);
  const beganMs = systemClock.monotonicMs();
  model.machine.vectors(slots, rows);
  const madeMs = systemClock.monotonicMs();
  for (let row = 0; row < count; row++) model.vectors.write(first + row, rows, row * model.machine.vectorDims);
  vectorsMs += madeMs - beganMs;
  writeMs += systemClock.monotonicMs() - madeMs;
}
console.log(
  `${itemCount} items of 20 slots: vectors ${((vectorsMs / itemCount) * 1_000).toFixed(2)} us, write ${((writeMs / itemCount) * 1_000).toFixed(2)} us an item`,
);

const inline = inlineScorer(model, systemClock);
const worker = workerScorer(systemWorkers, systemClock, model.ticket);
const startedMs = systemClock.monotonicMs();
assert.ok(await worker.whenReady(60_000));
console.log(`the ranker was ready after ${(systemClock.monotonicMs() - startedMs).toFixed(0)} ms`);

const logits = [new Float32Array(400), new Float32Array(400)] as const;
const found = [new Uint32Array(1_000), new Uint32Array(1_000)] as const;
const scores = [new Float32Array(1_000), new Float32Array(1_000)] as const;

async function measure(what: string, times: number, call: (scorer: typeof inline, side: 0 | 1) => Promise<unknown>): Promise<void> {
  const tookUs: [number[], number[]] = [[], []];
  for (let round = 0; round < times; round++) {
    for (const side of [0, 1] as const) {
      const beganMs = systemClock.monotonicMs();
      await call(side === 0 ? inline : worker, side);
      tookUs[side].push((systemClock.monotonicMs() - beganMs) * 1_000);
    }
    await systemClock.yield();
  }
  const text = tookUs.map((list) => {
    list.sort((a, b) => a - b);
    return `${list[0]!.toFixed(0)} / ${list[list.length >> 1]!.toFixed(0)}`;
  });
  console.log(`${what}: inline ${text[0]}, worker ${text[1]} us (minimum / median)`);
}

await measure("score 1", rounds * 10, (scorer, side) => scorer.score(user, few, logits[side], 60_000));
await measure("score 400", rounds * 2, (scorer, side) => scorer.score(user, many, logits[side], 60_000));
assert.deepEqual(logits[0], logits[1]);
for (const k of [100, 1_000]) {
  await measure(`search ${k} of ${itemCount}`, rounds, (scorer, side) => scorer.search(user, k, found[side], scores[side], 60_000));
  assert.deepEqual(found[0], found[1]);
}
await measure(`similar 100 of ${itemCount}`, rounds, (scorer, side) => scorer.similar(7, 100, found[side], scores[side], 60_000));

const postUs: number[] = [];
const behindUs: number[] = [];
for (let round = 0; round < rounds; round++) {
  const beganMs = systemClock.monotonicMs();
  const call = worker.score(user, many, logits[1], 60_000);
  postUs.push((systemClock.monotonicMs() - beganMs) * 1_000);
  await call;
  const searches = [0, 1, 2, 3].map(() => worker.search(user, 100, new Uint32Array(100), new Float32Array(100), 60_000));
  const searchedMs = systemClock.monotonicMs();
  await worker.score(user, many, logits[1], 60_000);
  behindUs.push((systemClock.monotonicMs() - searchedMs) * 1_000);
  await Promise.all(searches);
}
for (const list of [postUs, behindUs]) list.sort((a, b) => a - b);
console.log(`on the serving loop a call of 400 takes ${postUs[0]!.toFixed(0)} / ${postUs[rounds >> 1]!.toFixed(0)} us`);
console.log(`score 400 behind four searches: ${behindUs[0]!.toFixed(0)} / ${behindUs[rounds >> 1]!.toFixed(0)} us`);
await worker.close();
