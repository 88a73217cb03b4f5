// Guards that a disk which makes writers wait holds up the calling thread once a pause, and ever more seldom.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PromptWrites, promptWriteLimits } from "./prompt-writes.ts";

const { bytesMax, slowMs, pauseMsMin, pauseMsMax, forgivenAfter } = promptWriteLimits;

test("small writes are done at once, large ones are not", () => {
  const prompt = new PromptWrites();
  assert.equal(prompt.allows(bytesMax, 0), true);
  assert.equal(prompt.allows(bytesMax + 1, 0), false);
});

test("after a slow write the pool writes, twice as long each time, up to a bound", () => {
  const prompt = new PromptWrites();
  let nowMs = 1_000;
  let pauseMs: number = pauseMsMin;
  for (let times = 0; times < 14; times++) {
    assert.equal(prompt.allows(1, nowMs), true);
    prompt.took(nowMs, nowMs + slowMs);
    nowMs += slowMs;
    assert.equal(prompt.allows(1, nowMs + pauseMs - 1), false, `pause ${times}`);
    nowMs += pauseMs;
    pauseMs = Math.min(2 * pauseMs, pauseMsMax);
  }
  assert.equal(pauseMs, pauseMsMax);
});

test("a disk that was fine for long is tried again soon", () => {
  const prompt = new PromptWrites();
  prompt.took(0, slowMs);
  prompt.took(10_000, 10_000 + slowMs);
  for (let times = 0; times < forgivenAfter; times++) prompt.took(20_000, 20_000.01);
  prompt.took(30_000, 30_000 + slowMs);
  assert.equal(prompt.allows(1, 30_000 + slowMs + pauseMsMin), true);
});
