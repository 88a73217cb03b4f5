// The blobs contract on a folder of the machine and on a simulated one, and power cuts.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Simulation } from "#platform/simulation";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { blobsContract } from "./blobs.contract.ts";
import { openFolderBlobs } from "./folder-blobs.ts";

blobsContract({
  name: "folder",
  within: async (body) => {
    const folder = await mkdtemp(join(tmpdir(), "millrace-blobs-"));
    try {
      await body({ open: async () => openFolderBlobs({ files: systemFiles, folder, processes: systemProcesses }) });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
});

blobsContract({
  name: "folder, simulated",
  within: async (body) => {
    const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
    await simulation.run(() => body({ open: async () => openFolderBlobs({ files: simulation.node("a").files, folder: "/blobs" }) }));
  },
});

test("promise: a blob that was put survives a power cut, and one that was being put is there whole or not at all", async () => {
  const seed = Number(process.env["SEED"] ?? 1);
  for (let round = 0; round < 60; round += 1) {
    const simulation = new Simulation({ seed: seed * 1_000 + round });
    const done = new Set<string>();
    const content = (name: string): Uint8Array => new TextEncoder().encode(name.repeat(200));
    const names = Array.from({ length: 12 }, (_, i) => `v${i % 3}/part-${i}`);
    const isGone = (owner: string): boolean => owner !== `process-${simulation.node("a").incarnation}`;
    await simulation.run(async () => {
      const node = simulation.node("a");
      const blobs = openFolderBlobs({ files: node.files, folder: "/blobs", processes: { self: `process-${node.incarnation}`, isGone } });
      void node.run(() => Promise.all(names.map((name) => blobs.put(name, content(name)).then(() => done.add(name)))));
      await simulation.clock.sleep(simulation.random.below(40));
      node.crash("power");
      const again = simulation.node("a");
      const reopened = openFolderBlobs({ files: again.files, folder: "/blobs", processes: { self: `process-${again.incarnation}`, isGone } });
      for (const name of names) {
        const got = await reopened.get(name);
        if (done.has(name)) assert.ok(got !== undefined, `seed ${simulation.seed}: ${name} was put and is gone`);
        if (got !== undefined) assert.deepEqual(got, content(name), `seed ${simulation.seed}: ${name} is torn`);
      }
      for (const name of names) await reopened.put(name, content(name));
      assert.equal((await reopened.list("")).length, names.length);
      assert.deepEqual(await again.files.list("/blobs/.tmp"), [], "nothing half-made stays");
    });
  }
});

test("a finished file is stored by moving it, with put's promises, and read in place", async () => {
  const seed = Number(process.env["SEED"] ?? 1);
  for (let round = 0; round < 40; round += 1) {
    const simulation = new Simulation({ seed: seed * 1_000 + round });
    await simulation.run(async () => {
      const node = simulation.node("a");
      const content = new Uint8Array(3_000).fill(round);
      let done = false;
      void node.run(async () => {
        const blobs = openFolderBlobs({ files: node.files, folder: "/blobs" });
        await node.files.makeFolder("/made");
        for (const name of ["one", "same", "other"]) {
          const file = (await node.files.open(`/made/${name}`, "write"))!;
          await file.write(name === "other" ? content.subarray(1) : content, 0);
          await file.close();
        }
        assert.deepEqual(await blobs.putFile!("v/a", "/made/one"), { name: "v/a", size: 3_000 });
        done = true;
        assert.equal(await node.files.sizeOf("/made/one"), undefined);
        assert.deepEqual(await node.files.readFile(blobs.pathOf!("v/a")), content);
        assert.deepEqual(await blobs.putFile!("v/a", "/made/same"), { name: "v/a", size: 3_000 });
        await assert.rejects(blobs.putFile!("v/a", "/made/other"), { code: "conflict" });
        await assert.rejects(blobs.putFile!("v/b", "/made/none"), { code: "not-found" });
      });
      await simulation.clock.sleep(round < 10 ? 1_000 : simulation.random.below(40));
      node.crash("power");
      const reopened = openFolderBlobs({ files: simulation.node("a").files, folder: "/blobs" });
      const got = await reopened.get("v/a");
      if (done || round < 10) assert.ok(got !== undefined, `seed ${simulation.seed}: the blob is gone`);
      if (got !== undefined) assert.deepEqual(got, content, `seed ${simulation.seed}: the blob is torn`);
    });
  }
});
