// The manifest: its golden file, what is refused, and that it moves by compare-and-set alone.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { createMemoryRegistry } from "#backbone/memory-registry";
import type { Registry } from "#backbone/registry";
import { Simulation } from "#platform/simulation";
import { decodeManifest, encodeManifest, type Manifest, ManifestHead, manifestKey } from "./manifest.ts";

const golden = new URL("../../test/golden/lsm-manifest/v1.json", import.meta.url);
const example: Manifest = {
  logOffset: 7_815,
  producer: 1_704_067_200_000,
  nextFile: 18,
  runs: [
    { level: 0, files: [{ name: "0000000017.run", bytes: 20_544, headerCrc32c: 0xdeadbeef, entries: 400, tombstones: 400 }] },
    {
      level: 2,
      files: [
        { name: "0000000012.run", bytes: 844_672, headerCrc32c: 1, entries: 4_000, tombstones: 0 },
        { name: "0000000013.run", bytes: 844_608, headerCrc32c: 2, entries: 3_999, tombstones: 0 },
      ],
    },
  ],
};

test("promise: manifests of version 1 are read for ever", () => {
  const bytes = new Uint8Array(readFileSync(golden));
  assert.deepEqual(decodeManifest("table-log", bytes), example);
  assert.equal(new TextDecoder().decode(encodeManifest(example)), new TextDecoder().decode(bytes).trimEnd());
});

test("what is no manifest is refused, a later version says so", () => {
  const refused = (change: (value: Record<string, unknown>) => void, code = "corrupt"): void => {
    const value = JSON.parse(new TextDecoder().decode(encodeManifest(example))) as Record<string, unknown>;
    change(value);
    assert.throws(() => decodeManifest("t", new TextEncoder().encode(JSON.stringify(value))), { code });
  };
  refused((value) => (value["format"] = 2), "unsupported");
  refused((value) => (value["logOffset"] = -1));
  refused((value) => (value["nextFile"] = 17));
  refused((value) => delete value["producer"]);
  refused((value) => (value["runs"] = {}));
  const file = (change: Record<string, unknown>) => (value: Record<string, unknown>) =>
    Object.assign((value["runs"] as { files: Record<string, unknown>[] }[])[1]!.files[0]!, change);
  refused(file({ name: "../../etc/passwd" }));
  refused(file({ name: "0000000017.run" }));
  refused(file({ bytes: 1.5 }));
  refused(file({ headerCrc32c: 2 ** 32 }));
  refused(file({ tombstones: 4_001 }));
  const bytes = encodeManifest(example);
  const random = new Prng(1);
  for (let round = 0; round < 5_000; round++) {
    const bent = bytes.slice(0, random.chance(0.2) ? random.below(bytes.length) : bytes.length);
    for (let i = 0; i < 3; i++) if (bent.length > 0) bent[random.below(bent.length)] = random.below(256);
    try {
      decodeManifest("t", bent);
    } catch (thrown) {
      assert.ok(["corrupt", "unsupported"].includes((thrown as { code: string }).code), String(thrown));
    }
  }
});

test("a manifest moves by compare-and-set; one whose move has an unknown outcome finds out", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const mine = await ManifestHead.load(registry, "t");
    const others = await ManifestHead.load(registry, "t");
    await mine.move(example);
    await assert.rejects(others.move(example), { code: "conflict" });
    const next = { ...example, logOffset: 9_000 };
    await (await ManifestHead.load(registry, "t")).move(next);
    await assert.rejects(mine.move(example), { code: "conflict" });

    // The answer is lost after the write took effect.
    let lost = false;
    const flaky = {
      get: (key: string) => registry.get(key),
      put: async (...put: Parameters<Registry["put"]>) => {
        const entry = await registry.put(...put);
        if (!lost) return entry;
        lost = false;
        throw new Error("the answer was lost");
      },
    } as Registry;
    const unsure = await ManifestHead.load(flaky, "t");
    lost = true;
    await assert.rejects(unsure.move({ ...example, logOffset: 9_001 }));
    await unsure.move({ ...example, logOffset: 9_002 });
    assert.equal(decodeManifest("t", (await registry.get(manifestKey("t")))!.value).logOffset, 9_002);
    await registry.close();
  });
});
