// Guards that an import that ended anywhere goes on to the same version, that what is finished is not done again, that of equal keys the last one counts, and that builders stay within
// what they may take. How: the file system dies at its n-th change (with half a write), for every n; then the same request runs again on a living one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import { systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";
import { inWorld, type ImportWorld, type Row, schemaFor } from "./import-world.contract.ts";

const schema = schemaFor({ key: "string", shards: 2, columns: { n: { type: "i64" }, text: { type: "string" } } });

/** Three files with keys in common; row i of file f says so. */
async function threeFiles(world: ImportWorld, rows: number): Promise<{ files: string[]; expected: Map<string, Row> }> {
  const files: string[] = [];
  const latest = new Map<string, Row>();
  for (let file = 0; file < 3; file++) {
    const lines = ["id,n,text"];
    for (let i = 0; i < rows; i++) {
      const key = `key-${String((i * 7 + file * 3) % (rows + 500)).padStart(file === 0 ? 12 : 4, "0")}`;
      const n = file * 1_000_000 + i;
      lines.push(`${key},${n},row ${n} of a file`);
      latest.set(key, { n: BigInt(n), text: `row ${n} of a file` });
    }
    files.push(await world.write(`part-${file}.csv`, `${lines.join("\n")}\n`));
  }
  return { files, expected: latest };
}

class Died extends Error {}

/** A file system that dies at its n-th change: from then on everything fails. Dying in a write leaves half of it. */
function mortal(files: Files, changes: { left: number }): Files {
  const change = async <T>(run: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> => {
    if (changes.left === 1) await half?.();
    changes.left -= 1;
    if (changes.left <= 0) throw new Died("the file system died");
    return run();
  };
  const wrap = (file: OpenFile): OpenFile => ({
    write: (bytes, at) =>
      change(
        () => file.write(bytes, at),
        () => file.write(bytes.subarray(0, bytes.length >> 1), at),
      ),
    writeAll: (parts, at) =>
      change(
        () => file.writeAll(parts, at),
        () => file.write(parts[0]!.subarray(0, parts[0]!.length >> 1), at),
      ),
    read: (into, at) => file.read(into, at),
    size: () => file.size(),
    truncate: (size) => change(() => file.truncate(size)),
    sync: () => change(() => file.sync()),
    close: () => file.close(),
  });
  return {
    open: async (path, mode) => {
      const file = await files.open(path, mode);
      return file === undefined ? undefined : wrap(file);
    },
    readFile: (path) => files.readFile(path),
    writeFileAtomic: (path, bytes) => change(() => files.writeFileAtomic(path, bytes)),
    list: (path) => files.list(path),
    sizeOf: (path) => files.sizeOf(path),
    rename: (from, to) => change(() => files.rename(from, to)),
    remove: (path) => change(() => files.remove(path)),
    removeFolder: (path) => change(() => files.removeFolder(path)),
    makeFolder: (path) => change(() => files.makeFolder(path)),
    syncFolder: (path) => change(() => files.syncFolder(path)),
    join: (...parts) => files.join(...parts),
  };
}

test("promise: an import that dies at any change of a file goes on to the same rows, in one version", async () => {
  const step = process.env["MILLRACE_LONG"] === undefined ? 5 : 1;
  if (step > 1) console.log(`every ${step}th point only; all with MILLRACE_LONG=1`);
  await inWorld(async (world) => {
    const { files, expected } = await threeFiles(world, 2_000);
    let points = 0;
    let resumed = 0;
    for (let at = 1; ; at += step) {
      const changes = { left: at };
      const options = { checkpointBytes: 50_000 };
      const dying = world.import(schema, files, { ...options, files: mortal(systemFiles, changes) });
      const before = (await world.snapshots.head("items"))?.current;
      const ended = await dying.run().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (changes.left > 0) {
        assert.equal(ended, undefined);
        break;
      }
      points++;
      const after = (await world.snapshots.head("items"))?.current;
      if (after === before) {
        assert.ok(ended !== undefined);
        const again = world.import(schema, files, options);
        const result = await again.run();
        if (again.status.resumed) resumed++;
        assert.equal(result.overtaken, 6_000 - expected.size);
      }
      assert.deepEqual(await world.rows(schema), expected, `died at change ${at}`);
    }
    assert.ok(points > 5 && resumed > points / 2, `${points} points, ${resumed} resumed`);
    assert.deepEqual(await systemFiles.list(world.path("import")), [], "nothing is left in the work folder");
  });
});

test("what is staged is not read again", async () => {
  await inWorld(async (world) => {
    const { files, expected } = await threeFiles(world, 3_000);
    const stopping = new AbortController();

    const first = world.import(schema, files, {
      checkpointBytes: 60_000,
      signal: stopping.signal,
      onStatus: (status) => {
        if (status.runsBuilt === 1) stopping.abort(new MillraceError("unavailable", "stopped"));
      },
    });
    await assert.rejects(first.run());

    assert.equal(first.status.rowsStaged, 9_000);
    const stages = new Set<string>();
    const again = world.import(schema, files, { onStatus: ({ stage }) => void stages.add(stage) });
    await again.run();
    assert.equal(again.status.resumed, true);
    assert.ok(!stages.has("reading") && stages.has("building"), [...stages].join(" "));
    assert.deepEqual(await world.rows(schema), expected);
  });
});

test("files that changed since are another import", async () => {
  await inWorld(async (world) => {
    const { files } = await threeFiles(world, 500);
    const stopping = new AbortController();
    const first = world.import(schema, files, {
      signal: stopping.signal,
      onStatus: ({ stage }) => void (stage === "building" && stopping.abort(new Error("stop"))),
    });
    await assert.rejects(first.run());
    await world.write("part-2.csv", "id,n,text\nonly,1,one\n");
    const again = world.import(schema, files, { checks: [] });
    await again.run();
    assert.equal(again.status.resumed, false);
    assert.deepEqual((await world.rows(schema)).get("only"), { n: 1n, text: "one" });
  });
});

test("the same import does not run twice at once", async () => {
  await inWorld(async (world) => {
    const { files } = await threeFiles(world, 2_000);
    const ends = await Promise.allSettled([world.import(schema, files).run(), world.import(schema, files).run()]);
    const refusals = ends.flatMap((end) => (end.status === "rejected" ? [end.reason as unknown] : []));
    assert.equal(refusals.length, 1);
    assert.ok(refusals[0] instanceof MillraceError && refusals[0].code === "conflict");
  });
});

test("threads do the same as this process", async () => {
  await inWorld(async (world) => {
    const { files, expected } = await threeFiles(world, 2_000);
    const threaded = world.import(schema, files, {
      checkpointBytes: 50_000,
      builders: 2,
      start: (module, data, name) => systemWorkers.start(module, data, name),
    });
    await threaded.run();
    assert.deepEqual(await world.rows(schema), expected);
    assert.equal(threaded.status.stage, "done");
  });
});
