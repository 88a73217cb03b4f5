// Both scorers hold the contract; the one with a thread of its own keeps deadlines, loses no answer to another request, and comes back after its thread died.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { startWriting } from "#kernel/writing-thread.fuzz";
import type { LiveModel } from "#models/live-model";
import { moduleBeside } from "#platform/module-beside";
import { Simulation } from "#platform/simulation";
import { systemClock } from "#platform/system-clock";
import { systemWorkers } from "#platform/system-workers";
import type { Workers } from "#platform/workers";
import { bellKinds } from "./bell.ts";
import { inlineScorer } from "./inline-scorer.ts";
import { createModel, naiveLogits, randomRows, scorerContract, writeVectors } from "./scorer.contract.ts";
import { type WorkerScorer, workerScorer, type WorkerScorerOptions } from "./worker-scorer.ts";

const readyMsMax = 30_000;

scorerContract("inline", (model) => Promise.resolve(inlineScorer(model, systemClock)));
// Most of the suite's time is starting threads; the way of messages is run in simulation below, and here on request.
const bells = process.env["MILLRACE_LONG"] === undefined ? bellKinds.slice(0, 1) : bellKinds;
if (bells.length < bellKinds.length) console.log(`the contract over ${bellKinds.slice(1).join()} on real threads: with MILLRACE_LONG=1`);
for (const bell of bells) {
  scorerContract(`worker, ${bell}`, async (model) => {
    const scorer = workerScorer(systemWorkers, systemClock, model.ticket, { bell });
    assert.ok(await scorer.whenReady(readyMsMax), "the ranker starts");
    return scorer;
  });
}

async function start(t: TestContext, model: LiveModel, options: WorkerScorerOptions = {}, workers: Workers = systemWorkers): Promise<WorkerScorer> {
  const scorer = workerScorer(workers, systemClock, model.ticket, options);
  t.after(() => scorer.close());
  assert.ok(await scorer.whenReady(readyMsMax), "the ranker starts");
  return scorer;
}

/** Candidates that keep a ranker busy for tens of milliseconds. */
function manyRows(rows: number, slots: number): SlotRows {
  const made = new SlotRows();
  for (let row = 0; row < rows; row++) {
    for (let slot = 0; slot < slots; slot++) made.addFull((row * 31 + slot * 7) % 5_000, 3, 0.1);
    made.endRow();
  }
  return made;
}

test("promise: a ranking request never waits beyond its deadline, and nothing of a late answer arrives anywhere", async (t) => {
  const model = createModel(10);
  const scorer = await start(t, model, { requestsMax: 6, requestBytesMax: 16 << 20 });
  const random = new Prng(Number(process.env["SEED"] ?? 8));
  const slow = manyRows(5_000, 200);
  const user = randomRows(random, 1, 8);
  const small = randomRows(random, 40, 6);
  const wanted = naiveLogits(model, user, small);
  let timeouts = 0;
  let overloads = 0;
  let answered = 0;
  let latestMs = 0;
  for (let round = 0; round < 12; round++) {
    const calls: Promise<void>[] = [];
    const late: Float32Array[] = [];
    for (let i = 0; i < 8; i++) {
      const big = i % 2 === 0;
      const items = big ? slow : small;
      const logits = new Float32Array(items.rows).fill(12_345);
      const deadlineMs = big ? 3 + random.below(20) : 1 + random.below(200);
      const beganMs = performance.now();
      const call = scorer.score(user, items, logits, deadlineMs).then(
        () => {
          answered += 1;
          if (big) return;
          for (let row = 0; row < wanted.length; row++) assert.ok(Math.abs(logits[row]! - wanted[row]!) < 1e-3, "an answer is that of its own request");
        },
        (error: { code?: string }) => {
          late.push(logits);
          latestMs = Math.max(latestMs, performance.now() - beganMs - deadlineMs);
          if (error.code === "timeout") timeouts += 1;
          else if (error.code === "overloaded") overloads += 1;
          else throw error;
        },
      );
      calls.push(call);
    }
    await Promise.all(calls);
    // What was rejected stays untouched, also by what the ranker finishes later.
    await systemClock.sleep(15);
    for (const logits of late) assert.ok(logits.every((logit) => logit === 12_345));
  }
  console.log(`${answered} answered, ${timeouts} timeouts, ${overloads} refused; at most ${latestMs.toFixed(1)} ms late`);
  assert.ok(timeouts > 10 && overloads > 5 && answered > 0);
  assert.equal(scorer.metrics.timeouts, timeouts);
  assert.equal(scorer.metrics.overloads, overloads);
  assert.equal(scorer.metrics.underWay, 0);
  assert.ok(latestMs < 3_000, `${latestMs} ms after the deadline`);
  // All slots have come back.
  await systemClock.sleep(100);
  const logits = Array.from({ length: 6 }, () => new Float32Array(40));
  await Promise.all(logits.map((into) => scorer.score(user, small, into, 20_000)));
  for (const into of logits) into.forEach((logit, row) => assert.ok(Math.abs(logit - wanted[row]!) < 1e-3));
});

test("a request for few candidates overtakes searches and large requests", async (t) => {
  const model = createModel(10);
  const scorer = await start(t, model, { requestBytesMax: 16 << 20 });
  const user = randomRows(new Prng(3), 1, 8);
  const slow = manyRows(5_000, 200);
  const small = manyRows(20, 10);
  const order: string[] = [];
  const calls = [1, 2, 3, 4, 5].map((n) => scorer.score(user, slow, new Float32Array(5_000), 60_000).then(() => order.push(`slow ${n}`)));
  calls.push(scorer.score(user, small, new Float32Array(20), 60_000).then(() => order.push("small")));
  await Promise.all(calls);
  // On a busy machine the first ones may be done before the small one is even posted.
  assert.ok(order.indexOf("small") < order.indexOf("slow 5"), order.join(", "));
});

/** Workers whose threads the test can kill. */
function killableWorkers(): { workers: Workers; kill: () => void; started: () => number } {
  const running: { stop(graceMs?: number): Promise<void> }[] = [];
  return {
    workers: {
      start(module, data, name) {
        const worker = systemWorkers.start(module, data, name);
        running.push(worker);
        return worker;
      },
    },
    // No grace: the thread is ended wherever it stands.
    kill: () => void running.at(-1)!.stop(0),
    started: () => running.length,
  };
}

test("promise: when the ranker's thread dies, what is under way is rejected at once and a new one answers", { timeout: 60_000 }, async (t) => {
  const model = createModel(10);
  const { workers, kill, started } = killableWorkers();
  const lost: string[] = [];
  const scorer = await start(
    t,
    model,
    { requestBytesMax: 16 << 20, restartPauseFirstMs: 20, onLost: (failure, pauseMs) => lost.push(`${failure.code} ${pauseMs}`) },
    workers,
  );
  const user = randomRows(new Prng(3), 1, 8);
  const slow = manyRows(5_000, 200);
  const small = randomRows(new Prng(4), 30, 6);
  const wanted = naiveLogits(model, user, small);
  for (let round = 0; round < 3; round++) {
    const calls = Array.from({ length: 4 }, () => scorer.score(user, slow, new Float32Array(5_000), 60_000));
    const settled = Promise.allSettled(calls);
    await systemClock.sleep(round * 3);
    kill();
    const results = await settled;
    const rejected = results.filter((result) => result.status === "rejected");
    assert.ok(rejected.length > 0);
    for (const { reason } of rejected) assert.equal((reason as { code: string }).code, "unavailable");
    await assert.rejects(scorer.score(user, small, new Float32Array(30), 1_000), { code: "unavailable" });
    assert.ok(await scorer.whenReady(readyMsMax));
    const logits = new Float32Array(30);
    await scorer.score(user, small, logits, 20_000);
    logits.forEach((logit, row) => assert.ok(Math.abs(logit - wanted[row]!) < 1e-3));
  }
  assert.equal(started(), 4);
  assert.equal(scorer.metrics.restarts, 3);
  assert.deepEqual(
    lost.map((line) => line.split(" ")[1]),
    ["20", "40", "80"],
    "pauses grow",
  );
});

test("a ranker that hangs is ended and replaced", { timeout: 60_000 }, async (t) => {
  const model = createModel(10);
  // The first thread says it is ready and never looks into its mailbox.
  let starts = 0;
  const workers: Workers = {
    start(module, data, name) {
      starts += 1;
      return systemWorkers.start(
        starts === 1 ? new URL("./test-bodies.worker.ts", new URL("../platform/", import.meta.url)) : module,
        starts === 1 ? { do: "sleep" } : data,
        name,
      );
    },
  };
  const scorer = await start(t, model, { hungMs: 60, restartPauseFirstMs: 10 }, workers);
  const user = randomRows(new Prng(3), 1, 8);
  const logits = new Float32Array(3);
  const items = randomRows(new Prng(3), 3, 4);
  const codes = new Set<string>();
  for (let call = 0; call < 200 && starts === 1; call++) await scorer.score(user, items, logits, 10).catch((error: { code: string }) => codes.add(error.code));
  for (; starts === 1;) await systemClock.sleep(5);
  assert.deepEqual(
    [...codes].sort(),
    ["timeout", "unavailable"].filter((code) => codes.has(code)),
  );
  assert.ok(codes.has("timeout"));
  assert.ok(await scorer.whenReady(readyMsMax));
  await scorer.score(user, items, logits, 20_000);
  assert.equal(scorer.metrics.restarts, 1);
});

test("a request beyond the mailbox's slot is invalid, and the next one is served", async (t) => {
  const model = createModel(10);
  const scorer = await start(t, model, { requestBytesMax: 16 << 10, requestsMax: 1 });
  const user = randomRows(new Prng(3), 1, 8);
  await assert.rejects(scorer.score(user, manyRows(100, 50), new Float32Array(100), 1_000), { code: "invalid" });
  await scorer.score(user, manyRows(10, 5), new Float32Array(10), 20_000);
  assert.equal(scorer.metrics.underWay, 0);
});

test("while another thread writes vectors, answers of the ranker are whole versions", { timeout: 60_000 }, async (t) => {
  const model = createModel(200);
  const random = new Prng(5);
  writeVectors(model, 200, random);
  const user = new SlotRows();
  user.endRow();
  const writer = await startWriting(moduleBeside("./test-answers.worker", import.meta.url), model.ticket);
  const scorer = await start(t, model);
  const found = new Uint32Array(50);
  const scores = new Float32Array(50);
  const untilMs = performance.now() + 400;
  let answers = 0;
  while (performance.now() < untilMs) {
    const count = await scorer.search(user, 50, found, scores, 20_000);
    answers += count;
    for (let i = 0; i < count; i++) assert.ok(Number.isInteger(scores[i]) && scores[i]! >= 0 && scores[i]! < 1_000, `score ${scores[i]}`);
  }
  const writes = await writer.stop();
  assert.ok(answers > 50 && writes > 1_000);
});

test("in simulation the same scorer and ranker run under a seed, twice the same", async () => {
  const seed = Number(process.env["SEED"] ?? 23);
  console.log(`seed ${seed}`);
  const run = async (): Promise<string> => {
    const model = createModel(10);
    const simulation = new Simulation({ seed });
    const outcomes: string[] = [];
    await simulation.run(async () => {
      const node = simulation.node("a");
      await node.run(async () => {
        const scorer = workerScorer(node.workers, node.clock, model.ticket, { bell: "messages", requestsMax: 3 });
        await assert.rejects(scorer.score(randomRows(new Prng(1), 1, 8), new SlotRows(), new Float32Array(0), 50), { code: "unavailable" });
        assert.ok(await scorer.whenReady(5_000));
        const random = simulation.random;
        for (let round = 0; round < 100; round++) {
          const calls = Array.from({ length: 1 + random.below(4) }, async () => {
            const user = randomRows(random, 1, 8);
            const items = randomRows(random, 1 + random.below(20), 5);
            const wanted = naiveLogits(model, user, items);
            const logits = new Float32Array(items.rows);
            const outcome = await scorer.score(user, items, logits, 1 + random.below(3)).then(
              () => "answered",
              (error: { code: string }) => error.code,
            );
            if (outcome === "answered") logits.forEach((logit, row) => assert.ok(Math.abs(logit - wanted[row]!) < 1e-3));
            outcomes.push(outcome);
          });
          await Promise.all(calls);
        }
        await scorer.close();
      });
    });
    assert.ok(outcomes.filter((outcome) => outcome === "answered").length > 50);
    return `${simulation.traceHash} ${outcomes.join()}`;
  };
  const [first, second] = [await run(), await run()];
  assert.equal(first, second);
  assert.ok(first.includes("overloaded"));
});
