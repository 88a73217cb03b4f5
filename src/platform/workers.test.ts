// Guards that a worker body behaves the same as a thread and as a task of the simulation.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { getPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { moduleBeside } from "./module-beside.ts";
import { Simulation } from "./simulation.ts";
import { systemClock } from "./system-clock.ts";
import { systemFiles } from "./system-files.ts";
import { systemWorkers } from "./system-workers.ts";
import { standingBack } from "./workers.ts";
import { workersContract } from "./workers.contract.ts";

const bodies = moduleBeside("./test-bodies.worker", import.meta.url);

workersContract("threads", async (body) => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-workers-"));
  try {
    await body({ workers: systemWorkers, clock: systemClock, files: systemFiles, folder });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

workersContract("simulated", async (body) => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(async () => {
    const { workers, clock, files } = simulation.node("a");
    await files.makeFolder("/data");
    await body({ workers, clock, files, folder: "/data" });
  });
});

test(
  "a thread that stands back does so alone, and reads files as others do",
  { skip: process.platform !== "linux" && "priorities of threads: Linux only" },
  async () => {
    const before = getPriority();
    const niced = standingBack(systemWorkers, 7);
    for (const [workers, expected] of [
      [niced, Math.min(19, before + 7)],
      [systemWorkers, before],
    ] as const) {
      const worker = workers.start(bodies, { do: "spin" }, "spin");
      assert.deepEqual(await worker.receive(), [process.pid, expected]);
      await worker.stop(0);
    }
    assert.equal(getPriority(), before, "the thread that started it");
    const folder = await mkdtemp(join(tmpdir(), "millrace-workers-"));
    try {
      const worker = niced.start(bodies, { do: "files", path: join(folder, "written") }, "files");
      assert.equal(await worker.failed, undefined);
      assert.equal(new TextDecoder().decode(await systemFiles.readFile(join(folder, "written"))), "by the worker");
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
);

test("simulated workers die with their machine's process, and their files with them", async () => {
  const simulation = new Simulation({ seed: 4 });
  await simulation.run(async () => {
    const node = simulation.node("a");
    const worker = node.workers.start(bodies, { do: "ignore-stop" }, "w");
    assert.equal(await worker.receive(), "ready");
    let heard = false;
    void worker.failed.then(() => (heard = true));
    node.crash("kill");
    const fired = simulation.eventCount;
    await simulation.clock.sleep(10_000);
    assert.equal(simulation.eventCount, fired + 1, "only the test's own sleep is left");
    assert.equal(heard, false);
  });
});

test("a simulated worker that was ended is silent", async () => {
  const simulation = new Simulation({ seed: 4 });
  await simulation.run(async () => {
    const worker = simulation.node("a").workers.start(bodies, { do: "ignore-stop" }, "w");
    assert.equal(await worker.receive(), "ready");
    await worker.stop(100);
    const fired = simulation.eventCount;
    await simulation.clock.sleep(10_000);
    assert.equal(simulation.eventCount, fired + 1, "only the test's own sleep is left");
  });
});

test("a simulation with workers is repeated by its seed", async () => {
  const hashOf = async (seed: number): Promise<string> => {
    const simulation = new Simulation({ seed });
    await simulation.run(async () => {
      const { workers } = simulation.node("a");
      const [one, two] = [workers.start(bodies, { do: "echo" }, "w"), workers.start(bodies, { do: "echo" }, "w")];
      for (let i = 0; i < 30; i++) {
        one.send(i);
        two.send(i);
        await Promise.race([one.receive(), two.receive()]);
      }
      await Promise.all([one.stop(), two.stop()]);
    });
    return simulation.traceHash;
  };
  assert.equal(await hashOf(1), await hashOf(1));
  assert.notEqual(await hashOf(1), await hashOf(2));
});
