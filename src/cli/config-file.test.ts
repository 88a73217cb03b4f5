// Guards what a configuration file means beside the preset: what it names replaces, pipelines and the model's fields merge, `"model": null` leaves the model out.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { defaultConfig } from "#gateway/index";
import { readConfig } from "./config-file.ts";

test("a file's model merges into the preset's, null leaves it out everywhere, nonsense is refused by name", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-config-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const read = async (content: object) => {
    const path = join(folder, "config.json");
    writeFileSync(path, JSON.stringify(content));
    return (await readConfig(path, "feed")).gateway;
  };
  const faster = await read({ model: { checkpointSeconds: 5 } });
  assert.deepEqual(faster, { ...defaultConfig, model: { ...defaultConfig.model!, checkpointSeconds: 5 } });
  const without = await read({ model: null });
  assert.equal(without.model, undefined);
  assert.deepEqual(Object.keys(without.pipelines), Object.keys(defaultConfig.pipelines));
  for (const { model, quota } of Object.values(without.pipelines)) {
    assert.equal(model, undefined);
    assert.equal(quota.vectors, 0);
  }
  assert.deepEqual(await readConfig(undefined, "feed"), { gateway: defaultConfig, tables: {}, feast: {}, access: undefined, storage: {} });
  const sync = { node: 1, port: 7_001, model: true, follow: ["127.0.0.1:7000"] };
  assert.notEqual((await read({ parameters: { sync } })).model, undefined);
  await assert.rejects(read({ model: null, parameters: { sync } }), /parameters\.sync\.model is true, and this server has no model/);
  await assert.rejects(read({ model: { factors: 5 } }), /model\.factors|factors/);
  await assert.rejects(read({ model: { fields: [{ name: "a", from: "signal.nothing", kind: "linear" }], crosses: [] } }), /signal\.nothing/);
  await assert.rejects(read({ model: { samples: { ...defaultConfig.model!.samples, positiveTypes: ["bought"] } } }), /bought/);
  // Whoever writes a file is shown a page, not the document of a server that does not run.
  for (const [section, page] of [
    ["tables", /config\.json, docs\/tables\.md says/],
    ["feast", /config\.json, docs\/tables\.md says/],
    ["parameters", /config\.json, docs\/parameters\.md says/],
    ["storage", /config\.json, it may have memoryMiB and importFolders/],
  ] as const) {
    await assert.rejects(read({ [section]: 5 }), (thrown: Error) => page.test(thrown.message) && !thrown.message.includes("openapi"), section);
  }
  const { model } = await read({ model: { samples: { windowSeconds: 5 }, rate: { linear: 0.5 } } });
  assert.deepEqual(model!.samples, { ...defaultConfig.model!.samples, windowSeconds: 5 });
  assert.deepEqual(model!.rate, { ...defaultConfig.model!.rate, linear: 0.5 });
});
