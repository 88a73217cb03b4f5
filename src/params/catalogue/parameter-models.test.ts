// Guards what a name of a table means to a request, whose quota it counts for, and that tables come and go with the catalogue.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { Simulation } from "#platform/simulation";
import type { ParameterModelConfig } from "#wire/parameter-config";
import { ModelCatalogue } from "./model-catalogue.ts";
import { ParameterModels } from "./parameter-models.ts";

const refusal = (code: string, words: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof MillraceError, String(thrown));
  assert.equal(thrown.code, code);
  assert.match(thrown.message, words);
  return true;
};

function within(
  config: Readonly<Record<string, ParameterModelConfig>>,
  body: (world: {
    models: ParameterModels;
    again: (config: Readonly<Record<string, ParameterModelConfig>>) => ParameterModels;
    tables: Map<string, number>;
  }) => Promise<void>,
): Promise<void> {
  const simulation = new Simulation({ seed: 1 });
  return simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const tables = new Map([
      ["users", 10],
      ["items", 20],
    ]);
    const catalogue = await ModelCatalogue.open({
      registry,
      clock: simulation.clock,
      random: new Prng(1),
      node: "server",
      isDeclared: (table) => table === "users" || table === "items",
    });
    const make = (models: typeof config): ParameterModels =>
      new ParameterModels({
        catalogue,
        control: {
          async create(name, { dim }) {
            if (dim > 64) throw new MillraceError("overloaded", "no memory");
            tables.set(name, 0);
          },
          async drop(name) {
            if (!tables.delete(name)) throw new MillraceError("not-found", `no table ${name}`);
          },
        },
        monotonicMs: () => simulation.clock.monotonicMs(),
        usageOf: (table) => ({ rows: tables.get(table) ?? 0, bytes: 100 * (tables.get(table) ?? 0) }),
        models,
      });
    await body({ models: make(config), again: make, tables });
    await catalogue.close();
    await registry.close();
  });
}

test("promise: model:NAME/ROLE is the table of the live version, whatever goes live while the request runs", () =>
  within({}, async ({ models }) => {
    const { catalogue } = models;
    await models.createTable("users-2", { dim: 4, memoryMb: 1 }, false, "anna");
    await catalogue.register("ctr", { tables: { users: "users", items: "items" }, extractor: "1", live: true }, "anna");
    const first = models.use("model:ctr/users");
    await catalogue.register("ctr", { tables: { users: "users-2" }, extractor: "2", live: true }, "anna");
    assert.deepEqual(
      [first.table, models.use("model:ctr/users").table, models.use("model:ctr").table, models.use("users").table],
      ["users", "users-2", "users-2", "users"],
    );
    first.release();
    assert.throws(() => models.use("model:ctr/items"), refusal("not-found", /no table in that role: name one of its roles: users/));
    assert.throws(() => models.use("model:ctr/a/b"), refusal("not-found", /in that role/));
    assert.throws(() => models.use("model:other/users"), refusal("not-found", /no model "other"/));
    // A use that was refused holds nothing.
    assert.equal(catalogue.list()[0]!.versions[0]!.inUse, 2);
  }));

test("promise: a table counts for the model that has it, by whatever name it is asked", () =>
  within({ ctr: { tables: ["users"], quota: { pulledRowsPerS: 100, rows: 15 } }, similar: { tables: ["items"] } }, async ({ models, tables }) => {
    assert.deepEqual(await models.declareModels(), []);
    const admit = (name: string, kind: "pull" | "push", rows: number, as?: string): void => {
      const use = models.use(name);
      use.release();
      models.admit({ model: as ?? use.model, table: use.table, kind, rows });
    };
    admit("model:ctr/users", "pull", 60);
    admit("users", "pull", 60);
    assert.throws(() => admit("users", "pull", 1), refusal("overloaded", /model ctr is over its quota of 100 rows pulled/));
    admit("items", "pull", 1_000_000);
    admit("items", "pull", 1_000_000, "similar");
    assert.throws(() => admit("users", "pull", 1, "similar"), refusal("not-found", /model "similar" has no table "users"/));
    admit("users", "push", 5, "ctr");
    tables.set("users", 15);
    assert.throws(() => admit("users", "push", 1), refusal("overloaded", /holds 15 rows, its quota is 15/));
    assert.deepEqual(
      models.quotaStates().map(({ model, pulledRows, pushedRows, refused }) => [model, pulledRows, pushedRows, refused.pulledRowsPerS, refused.rows]),
      [["ctr", 120, 5, 1, 1]],
    );
  }));

test("models of the configuration go live once; a change of it waits for a person", () =>
  within({ ctr: { tables: ["users"], extractor: "1" } }, async ({ models, again }) => {
    await models.declareModels();
    const { live } = models.catalogue.list()[0]!;
    assert.deepEqual(await models.declareModels(), []);
    const changed = again({ ctr: { tables: ["users", "items"], extractor: "1" } });
    const [said, ...more] = await changed.declareModels();
    assert.deepEqual(more, []);
    assert.match(said!, /^model ctr: the configuration has changed, version \S+ waits for `millrace params live ctr \S+`$/);
    assert.deepEqual(await changed.declareModels(), []);
    const [model] = models.catalogue.list();
    assert.deepEqual([model!.live, model!.versions.map(({ state }) => state)], [live, ["live", "staged"]]);
  }));

test("a table that could not be made is struck out again, and half done commands are made good by the next one", () =>
  within({}, async ({ models, tables }) => {
    const { catalogue } = models;
    await assert.rejects(models.createTable("wide", { dim: 128, memoryMb: 1 }, false, "anna"), refusal("overloaded", /no memory/));
    assert.deepEqual(catalogue.view.state.tables, {});
    await models.createTable("small", { dim: 4, memoryMb: 1 }, false, "anna");
    await assert.rejects(models.createTable("small", { dim: 4, memoryMb: 1 }, true, "anna"), refusal("conflict", /there is a parameter table small/));
    tables.delete("small");
    await models.createTable("small", { dim: 4, memoryMb: 1 }, false, "anna");
    const version = await catalogue.register("ctr", { tables: { users: "small" }, extractor: "", live: true }, "anna");
    await assert.rejects(models.dropTable("small", "anna"), refusal("conflict", new RegExp(`used by ctr@${version} \\(live\\)`)));
    assert.ok(tables.has("small"));
    await catalogue.retire("ctr", { wholeModel: true }, "anna");
    tables.delete("small");
    await models.dropTable("small", "anna");
    await assert.rejects(models.dropTable("small", "anna"), refusal("not-found", /small/));
    await assert.rejects(models.dropTable("users", "anna"), refusal("conflict", /declared in the configuration/));
  }));
