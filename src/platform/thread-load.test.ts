// The meter tells a busy thread from a resting one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { threadLoadMeter } from "./thread-load.ts";

test("a thread that works is busy, one that waits is not, and each call begins anew", async () => {
  const load = threadLoadMeter();
  const until = process.threadCpuUsage().user + 50_000;
  while (process.threadCpuUsage().user < until);
  const busy = load();
  await sleep(300);
  const resting = load();
  assert.ok(busy > 0 && busy <= 1, `${busy}`);
  assert.ok(resting < 0.5, `${resting}`);
  // On a machine whose processors others use, working takes longer than it would; resting never looks busier than that.
  assert.ok(resting < busy || busy < 0.1, `${resting} at rest, ${busy} at work`);
});
