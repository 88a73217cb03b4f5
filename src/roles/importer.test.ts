// Guards the importer as a whole, with the processes it really has: kill -9 at several points of its life, and it goes on; its processes stay at low priority; what it did is on the board.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { listImports } from "#features/import/import-board";
import { ImportJobs } from "#features/import/import-jobs";
import { registerSchemas } from "#features/tables/schema-registry";
import { systemClock } from "#platform/system-clock";
import { systemProcesses } from "#platform/system-processes";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { systemFiles } from "#platform/system-files";
import { systemRandom } from "#platform/system-random";
import { blobsFolderOf } from "./import-process.ts";
import { importTable } from "./importer.ts";

const tables = { items: { key: "u64" as const, columns: { n: { type: "i64" as const } } } };
const rows = 30_000;

async function inData(body: (data: string, files: readonly string[]) => Promise<void>): Promise<void> {
  const data = await mkdtemp(join(tmpdir(), "millrace-importer-"));
  try {
    const files: string[] = [];
    for (let file = 0; file < 3; file++) {
      const lines = Array.from({ length: rows }, (_, i) => `${file * rows + i},${i}`);
      const path = join(data, `in-${file}.csv`);
      await writeFile(path, `id,n\n${lines.join("\n")}\n`);
      files.push(path);
    }
    await body(data, files);
  } finally {
    await rm(data, { recursive: true, force: true });
  }
}

/** Every name under the work folders. */
async function workNames(data: string): Promise<string[]> {
  const folder = join(data, "import");
  const works = await readdir(folder).catch(() => []);
  const names = await Promise.all(works.map(async (work) => readdir(join(folder, work)).catch(() => [])));
  return names.flat();
}

const role = new URL("./importer.ts", import.meta.url).href;

/** An import in a process of its own, killed as soon as a file of this name is there; false when it ended before. */
async function killedAt(data: string, files: readonly string[], name: string): Promise<boolean> {
  const options = JSON.stringify({ dataFolder: data, table: "items", files, tables });
  const child = spawn(process.execPath, ["--input-type=module", "-e", `import { importTable } from ${JSON.stringify(role)}; await importTable(${options});`], {
    stdio: "ignore",
  });
  const ended = once(child, "exit");
  let over = false;
  void ended.then(() => (over = true));
  while (!over && !(await workNames(data)).includes(name)) await sleep(2);
  const killed = child.kill("SIGKILL");
  await ended;
  return killed;
}

test("promise: an import that is killed with kill -9 goes on where it was, and publishes one whole version", async () => {
  await inData(async (data, files) => {
    const long = process.env["MILLRACE_LONG"] !== undefined;
    if (!long) console.log("killed at three points of five; all with MILLRACE_LONG=1");
    for (const name of long ? ["plan.json", "staged.rows", "progress.json", "version.json", "run-0.json"] : ["staged.rows", "progress.json", "run-0.json"]) {
      const killed = await killedAt(data, files, name);
      const before = (await workNames(data)).includes("progress.json");
      let resumed = false;
      let read = false;
      const result = await importTable({
        dataFolder: data,
        table: "items",
        files,
        onStatus: (status) => {
          resumed ||= status.resumed;
          read ||= status.stage === "reading";
        },
      });
      assert.deepEqual([result.rows, result.refused, result.overtaken], [3 * rows, 0, 0], name);
      assert.ok(!killed || resumed, `killed at ${name}: goes on`);
      assert.ok(!killed || !before || !read, `killed at ${name}: nothing is read again`);
    }
    const registry = openSqliteRegistry({ path: join(data, "registry.sqlite"), clock: systemClock, processes: systemProcesses });
    try {
      const board = await listImports(registry);
      const done = board.filter(({ stage }) => stage === "done");
      assert.ok(done.length >= 3 && done.every(({ table, rowsStaged }) => table === "items" && rowsStaged === 3 * rows));
      const snapshots = new SnapshotStore({
        blobs: openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(data) }),
        registry,
        clock: systemClock,
        random: systemRandom,
        kind: "table",
      });
      const head = await snapshots.head("items");
      const manifest = await snapshots.manifest("items", head!.current!);
      assert.equal(manifest.statistics["rows"], 3 * rows);
      assert.deepEqual((await systemFiles.list(join(data, "import")))?.length, 0, "no work is left");
    } finally {
      await registry.close();
    }
    assert.ok((await stat(blobsFolderOf(data))).isDirectory());
  });
});

test("two imports of two tables at once take turns and both end", async () => {
  await inData(async (data, files) => {
    const two = { ...tables, others: tables.items };
    const results = await Promise.all(["items", "others"].map((table) => importTable({ dataFolder: data, table, files, tables: two })));
    assert.deepEqual(
      results.map((result) => result.rows),
      [3 * rows, 3 * rows],
    );
  });
});

test("promise: nothing is imported into a table that the server writes", async () => {
  await inData(async (data, files) => {
    const registry = openSqliteRegistry({ path: join(data, "registry.sqlite"), clock: systemClock, processes: systemProcesses });
    try {
      // As a server leaves it behind: its own tables are registered under names with a dot.
      await registerSchemas(registry, { "activity.users": tables.items });
      const jobs = new ImportJobs({ registry, clock: systemClock, start: () => assert.fail("no process is started"), newJob: () => "job" });
      await assert.rejects(jobs.start({ table: "activity.users", files }), /\[not-found\]/, "over HTTP");
    } finally {
      await registry.close();
    }
    await assert.rejects(importTable({ dataFolder: data, table: "activity.users", files }), /\[invalid\].*activity\.users is counted by the server/);
  });
});
