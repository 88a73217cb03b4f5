// Guards the double buffer: what is read is never closed, what nobody reads is closed once, and a version is never there twice.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { type Lease, LoadedVersions } from "./loaded-versions.ts";
import type { Manifest } from "./manifest.ts";

interface Value {
  readonly version: string;
  closed: number;
}

const manifestOf = (version: string): Manifest => ({ format: 1, kind: "table", name: "items", version, createdAtMs: 0, files: [], statistics: {}, meta: null });
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

for (const spareMax of [0, 2]) {
  test(`model: random loads, switches and leases, ${spareMax} spares`, async () => {
    const seed = Number(process.env["SEED"] ?? 5);
    const random = new Prng(`${seed} ${spareMax}`);
    for (let round = 0; round < 30; round += 1) {
      const closed: string[] = [];
      const versions = new LoadedVersions<Value>(spareMax, (version) => closed.push(version));
      const values: Value[] = [];
      const leases: Lease<Value>[] = [];
      const names = ["a", "b", "c", "d"];
      let serving: string | undefined;
      for (let step = 0; step < 80; step += 1) {
        const name = random.pick(names);
        switch (random.below(5)) {
          case 0:
            await versions.gone(name);
            if (!versions.has(name)) {
              const value = { version: name, closed: 0 };
              values.push(value);
              versions.add(manifestOf(name), { value, close: () => void (value.closed += 1) });
              if (random.chance(0.3)) versions.drop(name);
            }
            break;
          case 1:
            if (versions.has(name)) {
              versions.serve(name);
              serving = name;
            }
            break;
          case 2: {
            const lease = versions.lease(random.chance(0.7) ? undefined : name);
            if (lease !== undefined) leases.push(lease);
            break;
          }
          case 3:
            if (leases.length > 0) {
              const [lease] = leases.splice(random.below(leases.length), 1);
              lease!.release();
              if (random.chance(0.2)) lease!.release();
            }
            break;
          default:
            await settle();
        }
        for (const lease of leases) assert.equal(lease.value.closed, 0, `seed ${seed}: a version is read after it was closed`);
        assert.equal(versions.servingVersion, serving);
        assert.equal(versions.value?.version, serving);
        if (versions.value !== undefined) assert.equal(versions.value.closed, 0);
        for (const value of values) assert.ok(value.closed <= 1, `seed ${seed}: closed twice`);
        for (const one of names)
          assert.ok(values.filter((value) => value.version === one && value.closed === 0).length <= 1, `seed ${seed}: ${one} is there twice`);
        const idle = values.filter((value) => value.closed === 0 && value.version !== serving && !leases.some((lease) => lease.value === value));
        const dropped = versions.versions.filter(({ version }) => idle.some((value) => value.version === version));
        assert.ok(dropped.length <= spareMax + names.length, "idle ones are spares, or just loaded");
      }
      for (const lease of leases) lease.release();
      versions.serve(undefined);
      for (const name of names) versions.drop(name);
      await settle();
      assert.deepEqual(versions.versions, []);
      assert.ok(values.every((value) => value.closed === 1));
      assert.equal(closed.length, values.length);
    }
  });
}

test("a roll-back to a version that somebody still reads, or that is a spare, needs no second load", () => {
  const versions = new LoadedVersions<Value>(1, () => undefined);
  const make = (version: string): Value => {
    const value = { version, closed: 0 };
    versions.add(manifestOf(version), { value, close: () => void (value.closed += 1) });
    return value;
  };
  const [a, b, c] = [make("a"), make("b"), make("c")];
  versions.serve("a");
  const lease = versions.lease()!;
  versions.serve("b");
  versions.serve("c");
  assert.ok(versions.has("a") && versions.has("b"), "a is read, b is the spare");
  lease.release();
  assert.deepEqual([a.closed, b.closed, c.closed], [1, 0, 0]);
  assert.equal(versions.lease("a"), undefined);
  versions.serve("b");
  assert.deepEqual([b.closed, c.closed], [0, 0]);
  assert.equal(versions.lease("c")!.value, c);
});

test("a close that fails is told, and the version is gone", async () => {
  let failure: unknown;
  const versions = new LoadedVersions<number>(0, (_, thrown) => (failure = thrown));
  versions.add(manifestOf("a"), {
    value: 1,
    close: () => {
      throw new Error("no");
    },
  });
  versions.drop("a");
  await settle();
  assert.match(String(failure), /no/);
  assert.equal(versions.has("a"), false);
  assert.deepEqual(versions.versions, []);
});
