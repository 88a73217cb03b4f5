// Guards the units of what metrics and benches print.

import assert from "node:assert/strict";
import { test } from "node:test";
import { systemProcessFacts as facts } from "./process-facts.ts";

test("facts are plausible and in their units", () => {
  assert.equal(facts.pid, process.pid);
  assert.ok(facts.cores >= 1);
  const memory = facts.memory();
  assert.ok(memory.residentBytes > memory.heapBytes && memory.heapBytes > 1_000_000);
  assert.ok(facts.machineMemoryBytes > memory.residentBytes);
  const [all, own] = [facts.cpuMs(), facts.threadCpuMs()];
  const until = performance.now() + 1000;
  while (facts.threadCpuMs() - own < 30 && performance.now() < until);
  assert.ok(facts.threadCpuMs() - own >= 30 && facts.threadCpuMs() - own < 40);
  assert.ok(facts.cpuMs() - all >= 25);
  assert.ok(facts.uptimeMs() > 10 && facts.uptimeMs() < 600_000);
  assert.ok(facts.load() >= 0);
});
