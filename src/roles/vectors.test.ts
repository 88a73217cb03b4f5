// The vector engine in its real thread, over real files.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { npyHeader } from "#base/npy-header";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { systemWorkers } from "#platform/system-workers";
import { vectorServiceContract } from "#vectors/vector-service.contract";
import type { VectorService } from "#vectors/vector-service";
import { noHistory, TaskBoard } from "#vectors/builder/task-board";
import { openDataFolder } from "./data-folder.ts";
import { vectorTaskControl } from "./builder.ts";
import { buildVectorTask } from "./vector-build.ts";
import { startVectors } from "./vectors.ts";

vectorServiceContract("engine in its thread", async () => {
  const dataFolder = await mkdtemp(join(tmpdir(), "millrace-vectors-"));
  const warnings: string[] = [];
  const vectors = startVectors({
    workers: systemWorkers,
    clock: systemClock,
    config: {},
    dataFolder,
    durability: "interval",
    node: "test",
    warn: (message) => warnings.push(message),
  });
  await vectors.opened;
  return {
    service: vectors.service,
    async close() {
      await vectors.stop();
      await rm(dataFolder, { recursive: true, force: true });
      if (warnings.length > 0) throw new Error(warnings.join("\n"));
    },
  };
});

const dims = 8;
const rowOf = (n: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: dims }, (_, j) => Math.sin(n * 7 + j) + (j === 0 ? 2 : 0));

async function untilServed(service: VectorService, name: string, version: string): Promise<void> {
  for (const end = systemClock.monotonicMs() + 120_000; ; await systemClock.sleep(20)) {
    // Told once a second: at first nothing.
    const { versions = [] } = service.status().collections.find((one) => one.name === name) ?? {};
    if (versions.some((one) => one.version === version && one.state === "serving")) return;
    assert.ok(systemClock.monotonicMs() < end, `${version} was not served within two minutes`);
  }
}

/** The role over a data folder that is there, or will be; `always`. */
function startOver(dataFolder: string, warnings: string[]): ReturnType<typeof startVectors> {
  return startVectors({
    workers: systemWorkers,
    clock: systemClock,
    config: {},
    dataFolder,
    durability: "always",
    node: "test",
    warn: (message) => warnings.push(message),
  });
}

test("promise: what is written while a task builds is there after its version is live, after a roll-back, and after a restart", async () => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-live-"));
  const dataFolder = join(folder, "data");
  const random = new Prng(4);
  const rows = 500;
  await writeFile(join(folder, "items.npy"), [
    npyHeader("<f4", [rows, dims]),
    new Uint8Array(Float32Array.from({ length: rows * dims }, () => random.normal()).buffer),
  ]);
  const warnings: string[] = [];
  const start = () => startOver(dataFolder, warnings);
  let vectors = start();
  // A name that names no snapshot: versions stand under another.
  const collection = "Items of the shop";
  const write = (element: string, n: number): Promise<unknown> => vectors.service.upsert(collection, { elements: [element], vectors: rowOf(n) });
  const finds = async (element: string, n: number): Promise<boolean> => {
    const answer = await vectors.service.search({ collection, queries: rowOf(n), count: 1 });
    return answer!.elements[0] === element;
  };
  try {
    await vectors.opened;
    await vectors.service.create(collection, { dims, metric: "cosine" });
    const config = { source: { npy: join(folder, "items.npy") }, collection, memoryMb: 512 };
    const build = async (during: () => Promise<unknown>): Promise<string> => {
      let meanwhile: Promise<unknown> | undefined;
      const built = await buildVectorTask(
        { dataFolder, task: { task: "items", edition: 1, config, trigger: "asked", restricted: false }, folders: [] },
        { signal: new AbortController().signal, onProgress: () => void (meanwhile ??= during()) },
      );
      assert.equal(built.outcome, "live", built.reasons.join("; "));
      assert.ok(meanwhile !== undefined);
      await meanwhile;
      return built.version;
    };
    await write("before", 1);
    // Row 7 of the source is overwritten while it is read, row 8 deleted.
    const first = await build(() => Promise.all([write("during", 2), write("7", 3), vectors.service.remove(collection, ["8"])]));
    await untilServed(vectors.service, collection, first);
    await write("after", 4);
    const check = async (count: number): Promise<void> => {
      assert.equal(await vectors.service.count(collection), count);
      assert.ok((await finds("during", 2)) && (await finds("7", 3)) && (await finds("after", 4)));
      assert.equal((await vectors.service.get(collection, ["8"]))!.found[0], 0);
    };
    // What was written before a build began is the source's to know: the version replaces it.
    assert.equal((await vectors.service.get(collection, ["before"]))!.found[0], 0);
    await check(rows + 1);
    // A builder dies in its build: what was written meanwhile is newer than what the build that begins anew reads, too.
    const folderOpen = await openDataFolder(dataFolder, "none");
    const board = new TaskBoard(folderOpen.registry);
    const begin = () => board.moveHistory("items", (history) => ({ ...history, attempts: history.attempts + 1 }));
    const killed = new AbortController();
    let written: Promise<unknown> | undefined;
    await begin();
    await assert.rejects(
      buildVectorTask(
        { dataFolder, task: { task: "items", edition: 1, config, trigger: "asked", restricted: false }, folders: [] },
        {
          signal: killed.signal,
          onProgress() {
            written ??= write("killed", 9);
            killed.abort(new Error("killed"));
          },
        },
      ),
    );
    await written;
    await begin();
    const anew = await build(() => Promise.resolve());
    await board.moveHistory("items", () => noHistory);
    await folderOpen.close();
    await untilServed(vectors.service, collection, anew);
    assert.ok(await finds("killed", 9), "a write of the killed attempt");
    await vectors.service.remove(collection, ["killed"]);
    const second = await build(() => write("second", 5));
    await untilServed(vectors.service, collection, second);
    await write("late", 6);
    assert.ok((await finds("second", 5)) && (await finds("late", 6)));
    const data = await openDataFolder(dataFolder, "none");
    try {
      await vectorTaskControl(data.registry, dataFolder).create("items", config, "anna");
      await vectorTaskControl(data.registry, dataFolder).live("items", first, false, "anna");
    } finally {
      await data.close();
    }
    await untilServed(vectors.service, collection, first);
    await check(rows + 3);
    await vectors.stop();
    vectors = start();
    await vectors.opened;
    await untilServed(vectors.service, collection, first);
    await check(rows + 3);
    assert.ok((await finds("second", 5)) && (await finds("late", 6)));
    assert.deepEqual(warnings, []);
  } finally {
    await vectors.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
});

test("bug: after a restart all names are told before any collection is opened, and one that is dropped before its turn stays dropped", async () => {
  const dataFolder = await mkdtemp(join(tmpdir(), "millrace-named-"));
  const warnings: string[] = [];
  const start = () => startOver(dataFolder, warnings);
  const made = Array.from({ length: 12 }, (_, i) => `c${String(i).padStart(2, "0")}`);
  let vectors = start();
  try {
    await vectors.opened;
    for (const name of made) {
      await vectors.service.create(name, { dims, metric: "cosine" });
      await vectors.service.upsert(name, { elements: ["a"], vectors: rowOf(1) });
    }
    await vectors.stop();
    vectors = start();
    assert.ok(!vectors.isNamed());
    for (const end = systemClock.monotonicMs() + 120_000; !vectors.isNamed(); await systemClock.yield()) {
      assert.deepEqual(vectors.service.names(), []);
      assert.ok(systemClock.monotonicMs() < end, "no names were told within two minutes");
    }
    assert.deepEqual([...vectors.service.names()].sort(), made);
    const last = made.pop()!;
    assert.equal(await vectors.service.drop(last), true);
    await vectors.opened;
    assert.deepEqual([...vectors.service.names()].sort(), made);
    assert.equal(await vectors.service.count(last), undefined);
    for (const name of made) assert.equal(await vectors.service.count(name), 1);
    assert.deepEqual(warnings, []);
  } finally {
    await vectors.stop();
    await rm(dataFolder, { recursive: true, force: true, maxRetries: 5 });
  }
});
