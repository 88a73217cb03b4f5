// Guards the parameters thread as the server has it: requests and their errors cross the thread, tables come and go, a thread that dies costs no pull and is started anew, one that cannot
// open says why.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { systemClock } from "#platform/system-clock";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";
import type { RunningWorker, Workers } from "#platform/workers";
import type { ParametersConfig } from "#wire/parameter-config";
import { type Parameters, startParameters } from "./parameters.ts";

const config: ParametersConfig = { tables: { user: { dim: 4, memoryMb: 4 } }, memoryMb: 16 };
const keys = Uint32Array.of(1, 0, 2, 0);

function started(t: TestContext, dataFolder: string, of: ParametersConfig = config): { parameters: Parameters; workers: RunningWorker[]; warnings: string[] } {
  const made: RunningWorker[] = [];
  const warnings: string[] = [];
  const workers: Workers = {
    start(...args) {
      const worker = systemWorkers.start(...args);
      made.push(worker);
      return worker;
    },
  };
  const parameters = startParameters({ workers, clock: systemClock, config: of, dataFolder, warn: (message) => warnings.push(message) });
  t.after(() => parameters.stop());
  return { parameters, workers: made, warnings };
}

async function folderOf(t: TestContext): Promise<string> {
  const folder = await makeTemporaryFolder("millrace-parameters-");
  t.after(() => systemFiles.removeFolder(folder));
  return folder;
}

const pulled = ({ served }: Parameters, name: string): number[] => {
  const into = new Float32Array(8);
  served.find(name)!.reader.pull(keys, 2, into);
  return [into[0]!, into[4]!];
};

test(
  "promise: when the parameters thread dies pulls go on, pushes say why not, and a new thread has the rows of the last checkpoint",
  { timeout: 60_000 },
  async (t) => {
    const folder = await folderOf(t);
    const { parameters, workers, warnings } = started(t, folder);
    await parameters.opened;
    const { served } = parameters;
    assert.deepEqual(await served.write(served.find("user")!, "assign", keys, 2, new Float32Array(8).fill(3)), { refused: 0, removed: 0 });
    const saved = await parameters.save("user");
    assert.deepEqual([saved.id, saved.full, saved.rows], [1, true, 2]);
    assert.equal(parameters.status().tables[0]!.pushedRows, 2);
    await workers[0]!.stop(0);
    // Its end is told a moment later.
    const deadline = systemClock.monotonicMs() + 10_000;
    while (parameters.writesFailed() === undefined && systemClock.monotonicMs() < deadline) await systemClock.sleep(5);
    assert.deepEqual(pulled(parameters, "user"), [3, 3]);
    await assert.rejects(served.write(served.find("user")!, "add", keys, 1, new Float32Array(4)), {
      code: "unavailable",
      message: /parameters thread died.*pulls go on/,
    });
    await assert.rejects(parameters.save("user"), { code: "unavailable" });
    assert.equal(parameters.status().state, "failed");
    assert.match(warnings.join(), /a new thread starts in 1000 ms/);
    while (parameters.writesFailed() !== undefined && systemClock.monotonicMs() < deadline + 20_000) await systemClock.sleep(20);
    assert.equal(workers.length, 2);
    assert.deepEqual(pulled(parameters, "user"), [3, 3]);
    await served.write(served.find("user")!, "add", keys, 2, new Float32Array(8).fill(1));
    assert.deepEqual(pulled(parameters, "user"), [4, 4]);
  },
);

test("tables are made, exported, imported and dropped at run time; refusals cross the thread with their code", { timeout: 60_000 }, async (t) => {
  const folder = await folderOf(t);
  const { parameters } = started(t, folder);
  await parameters.opened;
  const { served } = parameters;
  await parameters.create("item", { dim: 4, memoryMb: 2 });
  await served.write(served.find("item")!, "assign", keys, 2, new Float32Array(8).fill(5));
  await assert.rejects(parameters.create("item", { dim: 3, memoryMb: 2 }), { code: "conflict" });
  await assert.rejects(parameters.create("large", { dim: 3, memoryMb: 20 }), { code: "overloaded", message: /16 MiB/ });
  await assert.rejects(parameters.drop("user"), { code: "conflict", message: /configuration/ });
  await assert.rejects(parameters.save("nobody"), { code: "not-found" });
  await assert.rejects(parameters.exportTable("item", "../x"), { code: "invalid" });
  assert.deepEqual(await parameters.exportTable("item", "one"), { rows: 2, refused: 0 });
  assert.deepEqual(await parameters.importTable("user", "one"), { rows: 2, refused: 0 });
  assert.deepEqual(pulled(parameters, "user"), [5, 5]);
  assert.equal((await parameters.look("user")).live, 2);
  await parameters.drop("item");
  assert.equal(served.find("item"), undefined);
  assert.deepEqual(
    parameters.status().tables.map(({ name, rows }) => [name, rows]),
    [["user", 2]],
  );
});

test("a thread that cannot open its tables ends the start with the reason", { timeout: 60_000 }, async (t) => {
  const folder = await folderOf(t);
  const first = started(t, folder).parameters;
  await first.opened;
  await first.stop();
  const second = started(t, folder, { tables: { user: { dim: 5, memoryMb: 4 } } }).parameters;
  await assert.rejects(second.opened, { code: "conflict", message: /user: dim is 5 in the configuration and 4/ });
});

test("promise: a table that is made and dropped at once, or a message that cannot be followed, does not end the server", { timeout: 60_000 }, async (t) => {
  const folder = await folderOf(t);
  let spoil: ((message: unknown) => unknown) | undefined;
  const warnings: string[] = [];
  const workers: Workers = {
    start(...args) {
      const worker = systemWorkers.start(...args);
      return {
        ...worker,
        send: (message) => worker.send(message),
        stop: (graceMs) => worker.stop(graceMs),
        failed: worker.failed,
        receive: async () => {
          const message = await worker.receive();
          return spoil?.(message) ?? message;
        },
      };
    },
  };
  const parameters = startParameters({ workers, clock: systemClock, config, dataFolder: folder, warn: (message) => warnings.push(message) });
  t.after(() => parameters.stop());
  await parameters.opened;
  for (let round = 0; round < 5; round++) {
    const made = parameters.create("race", { dim: 4, memoryMb: 2 });
    await Promise.allSettled([made, ...Array.from({ length: 4 }, () => parameters.drop("race"))]);
    await Promise.allSettled([parameters.drop("race")]);
    assert.equal(parameters.served.find("race"), undefined);
  }
  spoil = (message) => ((message as { kind: string }).kind === "opened" ? { kind: "opened", table: { id: 99, name: "broken" } } : message);
  await parameters.create("broken", { dim: 4, memoryMb: 2 });
  spoil = undefined;
  assert.match(warnings.join(), /\(opened\) came to nothing/);
  const broken = parameters.status().tables.find(({ name }) => name === "broken")!;
  assert.equal(broken.state, "failed");
  assert.ok((broken.reason ?? "").length > 0);
  await parameters.served.write(parameters.served.find("user")!, "add", keys, 2, new Float32Array(8).fill(1));
  assert.deepEqual(pulled(parameters, "user"), [1, 1]);
});
