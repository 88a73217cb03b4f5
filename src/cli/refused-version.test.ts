// Guards what a command says and ends with when a node refuses the version that went live: neither "is live" nor 0.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import { blobsFolderOf } from "#roles/import-process";
import { LoadSlots } from "#snapshot/load-slots";
import { SnapshotFollower } from "#snapshot/snapshot-follower";
import { SnapshotStore } from "#snapshot/snapshot-store";

const program = fileURLToPath(new URL("../../bin/millrace.js", import.meta.url));

function millrace(...args: string[]): Promise<{ code: number; out: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], (failure, out) => resolve({ code: failure === null ? 0 : Number(failure.code), out }));
  });
}

test("promise: import, snapshots live and rollback end with 3 and the reason when a node refuses the version", async () => {
  const data = await mkdtemp(join(tmpdir(), "millrace-refused-"));
  try {
    const config = join(data, "tables.json");
    await writeFile(config, JSON.stringify({ tables: { items: { key: "string", columns: { n: { type: "i64" } } } } }));
    const csv = async (name: string, rows: string): Promise<string> => {
      await writeFile(join(data, name), `id,n\n${rows}`);
      return join(data, name);
    };
    const first = await millrace("import", "items", await csv("a.csv", "a,1\nb,2\n"), "--data", data, "--config", config);
    assert.deepEqual([first.code, /: version \S+ of items is live\n$/.test(first.out)], [0, true], `nobody follows: ${first.out}`);

    const registry = openSqliteRegistry({ path: join(data, "registry.sqlite"), clock: systemClock, processes: systemProcesses });
    const blobs = openFolderBlobs({ files: systemFiles, folder: blobsFolderOf(data), processes: systemProcesses });
    const follower = new SnapshotFollower<string>({
      store: new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: "table" }),
      name: "items",
      node: "strict",
      files: systemFiles,
      clock: systemClock,
      workers: systemWorkers,
      slots: new LoadSlots(),
      folder: join(data, "following"),
      onAlarm: () => undefined,
      load: ({ version }) => Promise.resolve({ value: version, close: () => undefined }),
      check: (_, { statistics }) => (statistics["rows"] === 3 ? ["three rows"] : []),
    });
    follower.start();
    try {
      await follower.settled;
      const second = await millrace("import", "items", await csv("b.csv", "a,1\nb,2\nc,3\n"), "--data", data);
      assert.match(second.out, /: version \S+ of items is refused by strict \(.*three rows.*\): what was served before stays\n/);
      assert.equal(second.code, 3);
      const [, bad = ""] = /version (\S+) of/.exec(second.out) ?? [];
      const back = await millrace("snapshots", "rollback", "table/items", "--data", data);
      assert.match(back.out, /^table\/items: \S+ is live, served by strict\n$/);
      assert.equal(back.code, 0);
      const again = await millrace("snapshots", "live", "table/items", bad, "--data", data);
      assert.match(again.out, /^table\/items: \S+ is refused by strict \(.*three rows/);
      assert.equal(again.code, 3);
    } finally {
      await follower.stop();
      await registry.close();
    }
  } finally {
    await rm(data, { recursive: true, force: true });
  }
});
