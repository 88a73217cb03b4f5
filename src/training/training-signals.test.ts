// Waiters of the shared words wake over threads, at once, or by their deadline.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { systemClock } from "#platform/system-clock";
import { TrainingSignals } from "./training-signals.ts";

test("a waiter wakes when another thread publishes, at once when it has passed already, and by its deadline", async () => {
  const signals = new TrainingSignals();
  signals.publish("head", 7);
  assert.equal(signals.get("head"), 7);
  await signals.changed("head", 6, 10_000);
  const worker = new Worker(
    `const { workerData, parentPort } = require("node:worker_threads");
     const words = new BigInt64Array(workerData);
     parentPort.on("message", () => { Atomics.store(words, 0, 9n); Atomics.notify(words, 0); });
     parentPort.postMessage("up");`,
    { eval: true, workerData: signals.memory },
  );
  await new Promise((resolve) => worker.once("message", resolve));
  const waiting = signals.changed("head", 7, 10_000);
  worker.postMessage("go");
  await waiting;
  assert.equal(signals.get("head"), 9);
  await worker.terminate();

  const before = systemClock.monotonicMs();
  await signals.changed("trained", 0, 20);
  assert.ok(systemClock.monotonicMs() - before >= 15);
});

test("offsets beyond 32 bits; a memory of another size is refused", () => {
  const signals = new TrainingSignals();
  signals.publish("vectors", 2 ** 40 + 1);
  assert.equal(new TrainingSignals(signals.memory).get("vectors"), 2 ** 40 + 1);
  assert.throws(() => new TrainingSignals(new SharedArrayBuffer(32)), { code: "invalid" });
});
