// Guards the live model as a whole: what one thread writes, another that joined by the ticket reads: parameters, slots and vectors.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { MillraceError } from "#base/errors";
import { Extractor } from "#extract/extractor";
import { SlotRows } from "#extract/slot-rows";
import { createTopK } from "#kernel/dot-top-k";
import { LiveModel, modelLane, type LiveModelShape } from "./live-model.ts";

const shape: LiveModelShape = {
  machine: {
    factors: 8,
    capacityRows: 2_048,
    seed: 7n,
    initialScale: 0.1,
    optimizer: "adagrad",
    rate: { linear: 0.1, factors: 0.1 },
    l2: { linear: 0, factors: 0 },
    initialAccumulator: 0.1,
  },
  itemsMax: 100,
  slotsPerItemMax: 8,
};

const extractor = Extractor.compile({
  fields: [
    { name: "user", from: "user.id", kind: "id" },
    { name: "counting", from: "signal.counting", kind: "linear", initial: 1 },
    { name: "item", from: "item.id", kind: "id" },
    { name: "category", from: "item.category", kind: "id" },
  ],
});

test("another thread joins by the ticket and scores what this one learned", async (t) => {
  const model = LiveModel.create(shape);
  const { keys, weights } = extractor.initialWeights();
  model.machine.assignLinear(keys, weights);
  const samples = new SlotRows();
  const labels = Float32Array.from({ length: 200 }, (_, at) => at % 2);
  const signals = Float32Array.of(-1);
  const user = extractor.encodeUser(["ann"]);
  const items = ["liked", "passed"].map((name) => extractor.encodeItem([name, `kind of ${name}`]));
  for (let at = 0; at < labels.length; at += 1) extractor.sampleSlots(user, 0, items[at % 2 === 1 ? 0 : 1]!, signals, samples);
  model.machine.learn(samples, labels, new Float32Array(200).fill(1), new Float32Array(200), new Float32Array(200));

  const vectors = new Float32Array(2 * model.machine.vectorDims);
  const slots = new SlotRows();
  for (const [handle, bytes] of items.entries()) {
    extractor.itemSlots(bytes, slots);
    assert.ok(model.items.put(handle + 40, slots, handle, true));
  }
  model.machine.vectors(slots, vectors);
  for (const handle of items.keys()) model.vectors.write(handle + 40, vectors, handle * model.machine.vectorDims);

  const body = `
    const { workerData, parentPort } = require("node:worker_threads");
    (async () => {
      const { LiveModel } = await import(workerData.modelModule);
      const { SlotRows } = await import(workerData.rowsModule);
      const { createTopK } = await import(workerData.topModule);
      const model = LiveModel.attach(workerData.ticket, workerData.lane);
      const user = Object.assign(new SlotRows(), workerData.user);
      const found = [];
      const query = new Float32Array(model.vectors.stride);
      const own = model.machine.query(user, query);
      const top = model.vectors.search("dot", query.subarray(0, model.vectors.dims), createTopK(5));
      const items = new SlotRows();
      for (let at = 0; at < top.size; at += 1) model.items.read(top.rows[at], items);
      const logits = new Float32Array(items.rows);
      model.machine.score(user, items, logits);
      parentPort.postMessage({ rows: [...top.rows.subarray(0, top.size)], scores: [...top.scores.subarray(0, top.size)].map((one) => one + own), logits });
    })();`;
  const module = (name: string): string => new URL(name, import.meta.url).href;
  const userRow = new SlotRows(1, 4);
  extractor.userSlots(user, 0, userRow);
  const { rows, offsets, linearEnds, keys: userKeys, weights: userWeights } = userRow;
  const worker = new Worker(body, {
    eval: true,
    workerData: {
      ticket: model.ticket,
      lane: modelLane.ranker,
      user: { rows, offsets, linearEnds, keys: userKeys, weights: userWeights },
      modelModule: module("./live-model.ts"),
      rowsModule: module("../extract/slot-rows.ts"),
      topModule: module("../kernel/dot-top-k.ts"),
    },
  });
  t.after(() => worker.terminate());
  const answer = await new Promise<{ rows: number[]; scores: number[]; logits: Float32Array }>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  assert.deepEqual(answer.rows, [40, 41], "the liked one first");
  const here = new Float32Array(2);
  model.machine.score(userRow, slots, here);
  assert.deepEqual(answer.logits, here);
  for (const [at, score] of answer.scores.entries()) assert.ok(Math.abs(score - here[at]!) < 1e-4, `${score} by vector, ${here[at]!} by slots`);
  assert.ok(here[0]! > here[1]!);
  assert.equal(model.vectors.search("dot", new Float32Array(9).fill(1), createTopK(5)).size, 2);
});

test("shapes that cannot be are refused", () => {
  const isInvalid = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "invalid";
  assert.throws(() => LiveModel.create({ ...shape, itemsMax: 0 }), isInvalid);
  assert.throws(() => LiveModel.create({ ...shape, machine: { ...shape.machine, factors: 7 } }), isInvalid);
  assert.throws(() => LiveModel.create({ ...shape, itemsMax: 40_000_000 }), isInvalid, "beyond 4 GiB");
  assert.throws(() => LiveModel.attach(LiveModel.create(shape).ticket, 3), isInvalid, "no such lane");
});
