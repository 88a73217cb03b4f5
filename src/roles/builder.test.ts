// Guards the way of a vector task through real processes: a task on a data folder, a builder, a child that builds, the version live; sources of files; what a task over HTTP may not read.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import { npyHeader } from "#base/npy-header";
import type { VectorTaskDetail } from "#wire/vector-task-api";
import { startBuilder, vectorTaskControl } from "./builder.ts";
import { openDataFolder } from "./data-folder.ts";

async function within(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-builder-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function until(look: () => Promise<VectorTaskDetail>, done: (detail: VectorTaskDetail) => boolean): Promise<VectorTaskDetail> {
  for (const end = Date.now() + 120_000; ; await sleep(100)) {
    const detail = await look();
    if (done(detail)) return detail;
    assert.ok(Date.now() < end, `not within two minutes: ${JSON.stringify(detail.last)}`);
  }
}

test("promise: a task is built in a process of its own and live; a failed one says why; over HTTP only allowed folders are read", () =>
  within(async (folder) => {
    const random = new Prng(4);
    const vectors = Float32Array.from({ length: 500 * 8 }, () => random.normal());
    await writeFile(join(folder, "items.npy"), [npyHeader("<f4", [500, 8]), new Uint8Array(vectors.buffer)]);
    await writeFile(
      join(folder, "items.jsonl"),
      Array.from({ length: 50 }, (_, i) => JSON.stringify({ id: `item-${i}`, vector: [...vectors.subarray(i * 8, i * 8 + 8)], price: i })).join("\n"),
    );
    const dataFolder = join(folder, "data");
    const data = await openDataFolder(dataFolder, "none");
    const said: string[] = [];
    const builder = startBuilder({
      registry: data.registry,
      dataFolder,
      slots: 2,
      folders: [join(folder, "allowed")],
      server: () => undefined,
      warn: (line) => said.push(line),
    });
    try {
      const control = vectorTaskControl(data.registry, dataFolder);
      // As a server that imports from more folders than this builder may read.
      const overHttp = vectorTaskControl(data.registry, dataFolder, true, { folders: [folder] });
      await control.create("items", { source: { npy: join(folder, "items.npy") }, metric: "ip" }, "anna");
      await control.create("lines", { source: { files: [join(folder, "items.jsonl")], attributes: ["price"] }, memoryMb: 1_024 }, "anna");
      await control.create("clash", { source: { files: [join(folder, "items.jsonl")] }, collection: "items", metric: "cosine" }, "anna");
      await control.create("gone", { source: { npy: join(folder, "gone.npy") } }, "anna");
      await overHttp.create("outside", { source: { npy: join(folder, "items.npy") } }, "bert");
      await assert.rejects(overHttp.create("code", { source: { module: join(folder, "model.ts"), table: "items" } }, "bert"), { code: "unauthorized" });
      for (const name of ["items", "lines", "gone", "outside"]) await control.run(name, "anna");
      const look = (name: string) => () => control.detail(name);
      const items = await until(look("items"), ({ history }) => history.length > 0);
      assert.equal(items.last?.verdict, "live", items.last?.reasons.join());
      assert.deepEqual([items.last.rows, items.live], [500, items.last.version]);
      assert.ok(items.last.cpuMs! > 0 && items.last.rssBytesPeak! > 0 && items.last.recall! >= 0.99);
      const lines = await until(look("lines"), ({ history }) => history.length > 0);
      assert.deepEqual([lines.last?.verdict, lines.last?.rows], ["live", 50], lines.last?.reasons.join());
      const gone = await until(look("gone"), ({ history }) => history.length > 0);
      assert.match(gone.last!.reasons.join(), /no file .*gone\.npy/);
      const outside = await until(look("outside"), ({ history }) => history.length > 0);
      assert.match(outside.last!.reasons.join(), /outside the folders/);
      // Told after the history has it.
      await until(look("outside"), () => said.length >= 2);
      assert.equal(said.length, 2, said.join());
      // A collection of another shape is not overwritten: not by a task that was made before it, nor by one told so now.
      await control.run("clash", "anna");
      const clash = await until(look("clash"), ({ history }) => history.length > 0);
      assert.match(clash.last!.reasons.join(), /compared by ip/);
      const other = { source: { npy: join(folder, "items.npy") }, collection: "items", metric: "cosine" } as const;
      await assert.rejects(control.change("lines", 1, other, "anna"), {
        code: "conflict",
        message: /lines: metric is cosine, and collection items compares by ip/,
      });
      await assert.rejects(control.create("narrow", { ...other, metric: "ip", dims: 4 }, "anna"), { code: "conflict", message: /narrow: dims is 4/ });
    } finally {
      await builder.stop();
      await data.close();
    }
  }));
