import assert from "node:assert/strict";
import { test } from "node:test";
import { LoopTurns } from "./loop-turns.ts";
import { systemClock } from "./system-clock.ts";

/** Holds the loop. */
function busy(ms: number): void {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs);
}

/** A number that rises with each turn of the loop. */
function countTurns(): { turn: number; stop(): void } {
  const counted = { turn: 0, stop: () => clearImmediate(immediate) };
  const next = (): NodeJS.Immediate =>
    setImmediate(() => {
      counted.turn += 1;
      immediate = next();
    });
  let immediate = next();
  return counted;
}

test("promise: tasks that come at once are taken in order, and each beyond what a turn bears has a turn of its own", async () => {
  const turns = new LoopTurns(systemClock);
  const counted = countTurns();
  const began: { task: number; turn: number }[] = [];
  for (let task = 0; task < 6; task += 1) {
    turns.run(() => {
      began.push({ task, turn: counted.turn });
      busy(3);
    });
  }
  assert.deepEqual(
    began.map(({ task }) => task),
    [0],
    "the first at once",
  );
  assert.equal(turns.waiting, 5);
  while (turns.waiting > 0) await systemClock.yield();
  counted.stop();
  assert.deepEqual(
    began.map(({ task }) => task),
    [0, 1, 2, 3, 4, 5],
  );
  assert.equal(new Set(began.map(({ turn }) => turn)).size, 6);
});

test("small tasks of one turn run at once, and nothing is left waiting", async () => {
  const turns = new LoopTurns(systemClock);
  for (let round = 0; round < 50; round += 1) {
    let ran = 0;
    const beganMs = performance.now();
    for (let i = 0; i < 3; i += 1) turns.run(() => (ran += 1));
    // The machine may have been busy elsewhere between two of them.
    if (performance.now() - beganMs < 2) assert.equal(ran, 3);
    await systemClock.yield();
    await systemClock.yield();
    await systemClock.yield();
    await systemClock.yield();
    assert.equal(ran, 3);
  }
});

test("a task that comes while others wait goes behind them, also from within one", async () => {
  const turns = new LoopTurns(systemClock);
  const order: string[] = [];
  turns.run(() => busy(3));
  turns.run(() => {
    order.push("a");
    turns.run(() => order.push("c"));
  });
  turns.run(() => order.push("b"));
  while (turns.waiting > 0) await systemClock.yield();
  await systemClock.yield();
  assert.deepEqual(order, ["a", "b", "c"]);
});
