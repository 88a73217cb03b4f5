// Guards what measures stalls and steps of a thread: time is told when it was used, not with the next tick of the scheduler.

import assert from "node:assert/strict";
import { test } from "node:test";
import { threadCpuUs } from "./thread-cpu.ts";

test("between two readings a thread has never used more than the time that passed", () => {
  let beganMs = 0;
  let before = 0;
  let usedUs = 0;
  const tooMuch: number[] = [];
  for (let piece = 0; piece < 300; piece++) {
    const untilMs = performance.now() + 0.2;
    while (performance.now() < untilMs);
    const now = threadCpuUs();
    const nowMs = performance.now();
    // The first pieces compile all this.
    if (piece >= 10) {
      usedUs += now - before;
      // A reading lies some microseconds before its moment.
      if (now - before > (nowMs - beganMs) * 1_000 + 300) tooMuch.push(now - before);
    }
    [before, beganMs] = [now, nowMs];
  }
  // Without the account brought up to date every tick of 4 ms, some fifteen of these, tells up to 4 ms for 0.2. A virtual machine that stood still may cause one or two.
  assert.ok(tooMuch.length <= 3, `of pieces of 200 us: ${tooMuch.join(", ")} us`);
  assert.ok(usedUs > 10_000, `${usedUs} us in all`);
});
