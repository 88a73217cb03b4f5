// What is removed of abandoned imports, and what never is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Simulation } from "#platform/simulation";
import { abandonedWorkMs, removeAbandonedWork } from "./abandoned-work.ts";
import { type ImportPlan, workLockOf, writeJson } from "./import-plan.ts";
import { schemaFor } from "./import-world.contract.ts";

const schema = schemaFor({ key: "string", columns: { n: { type: "i64" } } });

test("promise: the work of an import that nobody came back for is removed after a week, of one that runs or may go on never", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const { files, clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const id = (digit: number): string => `items-${String(digit).repeat(16)}`;
    const begin = async (name: string): Promise<void> => {
      await files.makeFolder(`/import/${name}`);
      const plan: ImportPlan = {
        format: 1,
        id: name,
        table: "items",
        schema: schema.document,
        inputs: [],
        slices: 1,
        seed: { low: 1, high: 2 },
        timeMs: clock.nowMs(),
        logOffsets: {},
        memoryBytes: 1,
        rejectsMax: 0,
        checkpointBytes: 1,
      };
      await writeJson(files, `/import/${name}/plan.json`, plan);
      await files.writeFileAtomic(`/import/${name}/staged.rows`, new Uint8Array(100));
    };
    const left = async (): Promise<readonly string[]> => (await files.list("/import")) ?? [];
    const tidy = (except?: string): Promise<string[]> => removeAbandonedWork({ files, clock, registry, folder: "/import", except });
    assert.deepEqual(await tidy(), [], "no folder at all");
    for (const digit of [1, 2, 3]) await begin(id(digit));
    await files.makeFolder("/import/rejects");
    await files.makeFolder("/import/planning");
    await clock.sleep(abandonedWorkMs - 60_000);
    await begin(id(4));
    assert.deepEqual(await tidy(), [], "not yet a week");
    await clock.sleep(120_000);
    const lease = await registry.lease(60_000);
    const lock = await registry.tryLock(workLockOf(id(2)), lease);
    await files.makeFolder(`/import/${id(5)}`);
    await files.makeFolder(`/import/${id(6)}`);
    await files.writeFileAtomic(`/import/${id(6)}/plan.json`, new TextEncoder().encode("{"));
    assert.deepEqual(await tidy(id(3)), [id(1), id(5), id(6)], "old and idle, without a plan, with one that is none");
    assert.deepEqual(await left(), [id(2), id(3), id(4), "planning", "rejects"], "running, just tried, young, and what is no work");
    await lock!.release();
    assert.deepEqual(await tidy(), [id(2), id(3)]);
    assert.notEqual(await registry.tryLock(workLockOf(id(2)), lease), undefined, "its lock is free again");
    await registry.close();
  });
});
