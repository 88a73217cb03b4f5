// The registry contract on the embedded engines, and what only the SQLite file promises.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { OpenFile } from "#platform/files";
import { Simulation } from "#platform/simulation";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { refusal, StoppableClock } from "./suite.contract.ts";
import { createMemoryRegistry } from "./memory-registry.ts";
import type { Registry } from "./registry.ts";
import { registryContract } from "./registry.contract.ts";
import { openSqliteRegistry } from "./sqlite-registry.ts";

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-registry-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

registryContract({
  name: "SQLite",
  within: (body) =>
    withFolder(async (folder) => {
      const opened: Registry[] = [];
      const open = (clock = new StoppableClock(systemClock)): Registry => {
        const registry = openSqliteRegistry({ path: join(folder, "registry.sqlite"), clock, processes: systemProcesses, watchPollMs: 5 });
        opened.push(registry);
        return registry;
      };
      const openStoppable = async () => {
        const clock = new StoppableClock(systemClock);
        return { registry: open(clock), stop: () => clock.stop() };
      };
      await body({ clock: systemClock, open: async () => open(), openStoppable });
      for (const registry of opened) await registry.close();
    }),
});

registryContract({
  name: "memory, simulated",
  within: async (body) => {
    const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
    await simulation.run(async () => {
      const registry = createMemoryRegistry({ clock: simulation.clock });
      let count = 0;
      const node = () => simulation.node(`node-${(count += 1)}`);
      await body({
        clock: simulation.clock,
        open: async () => registry.connect({ clock: node().clock }),
        openStoppable: async () => {
          const process = node();
          return { registry: registry.connect({ clock: process.clock }), stop: () => process.crash("kill") };
        },
      });
      await registry.close();
    });
  },
});

test("promise: a lock of a process that was killed is free at once, not after its lease", () =>
  withFolder(async (folder) => {
    const path = join(folder, "registry.sqlite");
    const url = (name: string): string => JSON.stringify(new URL(name, import.meta.url).href);
    const script = `
      const { openSqliteRegistry } = await import(${url("./sqlite-registry.ts")});
      const { systemClock } = await import(${url("../platform/system-clock.ts")});
      const { systemProcesses } = await import(${url("../platform/system-processes.ts")});
      const registry = openSqliteRegistry({ path: ${JSON.stringify(path)}, clock: systemClock, processes: systemProcesses });
      const lease = await registry.lease(60_000);
      const lock = await registry.tryLock("writer", lease);
      await registry.put("nodes/child", new Uint8Array(1), { lease });
      process.stdout.write(String(lock.token));
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
    const [chunk] = (await once(child.stdout, "data")) as [Buffer];
    const registry = openSqliteRegistry({ path, clock: systemClock, processes: systemProcesses });
    const lease = await registry.lease(10_000);
    assert.equal(await registry.tryLock("writer", lease), undefined, "its owner lives");
    child.kill("SIGKILL");
    await once(child, "exit");
    const lock = (await registry.tryLock("writer", lease))!;
    assert.ok(lock.token > Number(chunk.toString()));
    assert.equal(await registry.get("nodes/child"), undefined);
    await registry.close();
  }));

test("values, revisions and tokens are there after a reopen, leases of closed processes are not", () =>
  withFolder(async (folder) => {
    const open = (): Registry => openSqliteRegistry({ path: join(folder, "r.sqlite"), clock: systemClock });
    const one = open();
    const put = (await one.put("a", new Uint8Array([7])))!;
    const token = (await one.tryLock("l", await one.lease(60_000)))!.token;
    await one.close();
    const two = open();
    assert.deepEqual(await two.get("a"), put);
    assert.ok((await two.tryLock("l", await two.lease(1_000)))!.token > token);
    await two.close();
  }));

test("promise: what is put without a lease is synced before put resolves, what stands under one is not; a sync that fails is told", () =>
  withFolder(async (folder) => {
    let synced: string[] = [];
    let failing = false;
    const files = {
      ...systemFiles,
      async open(path: string, mode: "read" | "write" | "create"): Promise<OpenFile | undefined> {
        const file = await systemFiles.open(path, mode);
        if (file === undefined) return undefined;
        const sync = async (): Promise<void> => {
          if (failing) throw new MillraceError("unavailable", "the disk failed");
          await file.sync();
          synced.push(path);
        };
        return { ...file, sync, close: () => file.close() };
      },
      async syncFolder(path: string): Promise<void> {
        await systemFiles.syncFolder(path);
        synced.push(path);
      },
    };
    const path = join(folder, "r.sqlite");
    const registry = openSqliteRegistry({ path, clock: systemClock, files });
    const during = async (change: () => Promise<unknown>): Promise<string[]> => {
      synced = [];
      await change();
      return synced;
    };
    assert.deepEqual(await during(() => registry.put("a", new Uint8Array(1))), [`${path}-wal`, folder], "with the name of the log, once");
    assert.deepEqual(await during(() => registry.put("a", new Uint8Array(2))), [`${path}-wal`]);
    assert.deepEqual(await during(() => registry.delete("a")), [`${path}-wal`]);
    assert.deepEqual(await during(() => registry.delete("a")), [], "nothing changed");
    assert.deepEqual(await during(() => registry.put("a", new Uint8Array(1), { expect: 5 })), [], "nothing changed");
    const lease = await registry.lease(60_000);
    assert.deepEqual(await during(() => registry.put("b", new Uint8Array(1), { lease })), []);
    failing = true;
    await assert.rejects(registry.put("c", new Uint8Array(1)), refusal("unavailable"));
    failing = false;
    await registry.close();
  }));

test("a file that is no registry is refused, and so is a folder that is not there", () =>
  withFolder(async (folder) => {
    await writeFile(join(folder, "text"), "this is not a database, whatever its name says. ".repeat(40));
    assert.throws(() => openSqliteRegistry({ path: join(folder, "text"), clock: systemClock }), refusal("corrupt"));
    assert.throws(() => openSqliteRegistry({ path: join(folder, "missing", "r.sqlite"), clock: systemClock }), refusal("unavailable"));
  }));

test("a wall clock set back does not make a lease of a stopped process live longer than its time", () =>
  withFolder(async (folder) => {
    let nowMs = 1_700_000_000_000;
    const clock = new StoppableClock({ ...systemClock, nowMs: () => nowMs });
    clock.stop();
    const path = join(folder, "r.sqlite");
    const one = openSqliteRegistry({ path, clock });
    const two = openSqliteRegistry({ path, clock });
    assert.ok(await one.tryLock("l", await one.lease(1_000)));
    nowMs -= 3_600_000;
    const lease = await two.lease(10_000);
    assert.equal(await two.tryLock("l", lease), undefined);
    nowMs += 1_001;
    assert.ok(await two.tryLock("l", lease));
    await one.close();
    await two.close();
  }));

test("a watcher that missed more deletions than are remembered still ends at the truth", () =>
  withFolder(async (folder) => {
    const path = join(folder, "r.sqlite");
    const registry = openSqliteRegistry({ path, clock: systemClock, watchPollMs: 5, tombstonesMax: 100 });
    const lease = await registry.lease(600_000);
    await registry.put("keep", new Uint8Array(1), { lease });
    await registry.put("gone", new Uint8Array(1), { lease });
    const abort = new AbortController();
    const watch = registry.watch("", abort.signal)[Symbol.asyncIterator]();
    const state = new Map<string, number | undefined>();
    for (let count = 0; count < 2; count += 1) {
      const { key, entry } = (await watch.next()).value!;
      state.set(key, entry?.revision);
    }
    await registry.delete("gone");
    const crowd = await registry.lease(600_000);
    for (let count = 0; count < 400; count += 1) await registry.put(`crowd/${count}`, new Uint8Array(0), { lease: crowd });
    await crowd.end();
    while (state.has("gone")) {
      const { key, entry } = (await watch.next()).value!;
      if (entry === undefined) state.delete(key);
      else state.set(key, entry.revision);
    }
    assert.ok(state.has("keep"));
    abort.abort();
    await registry.close();
  }));

test("a file that was deleted or replaced under its users is noticed by each of them, and gives nobody a lock any more", async () => {
  const folder = await mkdtemp(join(tmpdir(), "registry-"));
  const path = join(folder, "r.sqlite");
  const open = (): Registry => openSqliteRegistry({ path, clock: systemClock, processes: systemProcesses, checkFileMs: 0 });
  for (const replaced of [false, true]) {
    const [one, two] = [open(), open()];
    const [lease, waiting] = [await one.lease(60_000), await two.lease(60_000)];
    const lock = (await one.tryLock("lead", lease))!;
    for (let i = 0; i < 20; i++) assert.deepEqual([await lease.alive(), await waiting.alive(), await lock.held()], [true, true, true]);
    for (const end of ["", "-wal", "-shm"]) await rm(`${path}${end}`, { force: true });
    const next = replaced ? open() : undefined;
    // The leases of the new file have the same numbers.
    const fresh = await next?.lease(60_000);
    await assert.rejects(lease.alive(), /^MillraceError: \[corrupt\].*was deleted or replaced.*stop all processes that use it/);
    await assert.rejects(lock.held(), refusal("corrupt"));
    await assert.rejects(one.lease(1_000), refusal("corrupt"));
    await assert.rejects(waiting.alive(), refusal("corrupt"));
    if (fresh !== undefined) {
      assert.equal(await fresh.alive(), true);
      assert.notEqual(await next!.tryLock("lead", fresh), undefined);
    }
    for (const registry of [one, two, next]) await registry?.close();
    assert.equal((await readdir(folder)).includes("r.sqlite"), replaced, "closing brings nothing back");
    await rm(path, { force: true });
  }
  await rm(folder, { recursive: true });
});
