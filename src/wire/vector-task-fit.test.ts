// Guards what is said of a vector task when it is made or changed: what cannot be, and what does not fit what is around it, is refused by the name of its field, with what to do.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { checkVectorTask, type VectorTaskConfig } from "./vector-task-config.ts";
import { checkDeclaredTasks, checkTaskFit, type TaskSurroundings } from "./vector-task-fit.ts";

const npy = (more: Partial<VectorTaskConfig> = {}): VectorTaskConfig => ({ source: { npy: "/srv/items.npy" }, ...more });

test("promise: a task that cannot be is refused by the name of its field when it is told, with what to do", () => {
  for (const [config, wanted] of [
    [npy({ source: { npy: "items.npy" } }), /source\.npy is "items\.npy", no absolute path/],
    [npy({ source: { npy: "/srv/items.npy", ids: "../ids.npy" } }), /source\.ids is "\.\.\/ids\.npy", no absolute path/],
    [npy({ source: { files: ["/srv/a.parquet", "b.parquet"] } }), /source\.files\.1 is "b\.parquet"/],
    [npy({ source: { module: "./model.ts", table: "items" } }), /source\.module/],
    [npy({ source: { files: [] } }), /source names neither files nor a query/],
    [npy({ checks: [{ statistic: "recal", min: 0.9 }] }), /checks\.0\.statistic is "recal", which no build measures/],
    [npy({ checks: [{ statistic: "refused", per: "reads", max: 0.1 }] }), /checks\.0\.per is "reads"/],
    [npy({ checks: [{ statistic: "rows" }] }), /checks\.0 \(rows\) has no limit/],
    [npy({ checks: [{ statistic: "rows", min: 5, max: 4 }] }), /checks\.0\.min is 5, more than max \(4\)/],
    [npy({ schedule: {} }), /schedule names nothing that begins a build/],
    [npy({ schedule: { webhook: false } }), /schedule names nothing/],
    [npy({ schedule: { markerFile: "done" } }), /schedule\.markerFile is "done", no absolute path/],
  ] as const) {
    assert.throws(
      () => checkVectorTask("items", config),
      (thrown) => thrown instanceof MillraceError && thrown.code === "invalid" && thrown.todo !== undefined && wanted.test(thrown.message),
      String(wanted),
    );
  }
  const good = npy({ checks: [{ statistic: "norm.mean", min: 1 }], schedule: { everySeconds: 60, markerFile: "/srv/done" } });
  assert.equal(checkVectorTask("items", good), good);
});

test("promise: a task that does not fit its tables, folders or collection is refused by the name of its field", () => {
  const columns = [
    { name: "embedding", type: "f32[]", elements: 8 },
    { name: "year", type: "i64", elements: 1 },
    { name: "score", type: "f32", elements: 1 },
  ];
  const table = (column: string, attributes: string[] = [], more: Partial<VectorTaskConfig> = {}): VectorTaskConfig => ({
    source: { table: "items", column, attributes },
    ...more,
  });
  const collection = { dims: 8, metric: "ip" } as const;
  const cases: readonly (readonly [config: VectorTaskConfig, around: TaskSurroundings, code: string, wanted: RegExp])[] = [
    [table("embedding"), { columns: null }, "invalid", /source\.table is items, and there is no such table/],
    [table("embeding"), { columns }, "invalid", /source\.column is embeding, which table items does not have/],
    [table("year"), { columns }, "invalid", /source\.column is year, which holds i64 and no vectors/],
    [table("score"), { columns }, "invalid", /source\.column is score, which holds f32 and no vectors/],
    [table("embedding", ["year", "colour"]), { columns }, "invalid", /source\.attributes\.1 is colour/],
    [table("embedding", [], { dims: 4 }), { columns }, "invalid", /dims is 4, and the rows of source\.column have 8/],
    [
      table("embedding"),
      { columns, collection: { dims: 4, metric: "cosine" } },
      "conflict",
      /source\.column has vectors of 8 numbers, and collection items of 4/,
    ],
    [{ source: { module: "/srv/m.ts", table: "items", attributes: ["no"] } }, { columns }, "invalid", /source\.attributes\.0 is no/],
    [{ source: { parameters: "vectors" } }, { parameterDims: null }, "invalid", /source\.parameters is vectors, and there is no such parameter table/],
    [{ source: { parameters: "vectors" }, dims: 16 }, { parameterDims: 8 }, "invalid", /dims is 16/],
    [npy(), { collection }, "conflict", /metric is left out, so cosine, and collection items compares by ip/],
    [npy({ metric: "ip", dims: 9 }), { collection }, "conflict", /dims is 9, and collection items has vectors of 8/],
    [npy(), { folders: [] }, "unauthorized", /source\.npy lies outside/],
    [npy(), { folders: ["/srv/in", "/srv/ite"] }, "unauthorized", /source\.npy lies outside/],
    [npy({ source: { npy: "/srv/in/../items.npy" } }), { folders: ["/srv/in"] }, "unauthorized", /source\.npy steps back/],
    [npy({ schedule: { markerFile: "/tmp/done" } }), { folders: ["/srv"] }, "unauthorized", /schedule\.markerFile lies outside/],
  ];
  for (const [config, around, code, wanted] of cases) {
    assert.throws(
      () => checkTaskFit("items", config, around),
      (thrown) => thrown instanceof MillraceError && thrown.code === code && thrown.todo !== undefined && wanted.test(thrown.message),
      String(wanted),
    );
  }
  // What is not known is no reason.
  for (const config of [table("anything"), npy(), { source: { parameters: "vectors" } }]) checkTaskFit("items", config, {});
  checkTaskFit("items", table("embedding", ["year"], { metric: "ip", dims: 8 }), { columns, collection, folders: [] });
  checkTaskFit("items", npy(), { folders: ["/srv/"], collection: null });
});

test("a configuration file is refused when its tasks do not fit its tables and collections", () => {
  const tables = { items: { key: "string", columns: { embedding: { type: "f32", length: 8 } } } } as const;
  const tasks = (config: VectorTaskConfig): { tasks: Record<string, VectorTaskConfig> } => ({ tasks: { items: config } });
  checkDeclaredTasks({ ...tasks({ source: { table: "items", column: "embedding" } }), collections: { items: { dims: 8 } } }, tables, undefined);
  // The server's own tables, and parameter tables made at run time, are not in the file.
  checkDeclaredTasks(tasks({ source: { table: "activity.user", column: "x" } }), tables, undefined);
  checkDeclaredTasks(tasks({ source: { parameters: "made-later" } }), tables, undefined);
  assert.throws(() => checkDeclaredTasks(tasks({ source: { table: "item", column: "embedding" } }), tables, undefined), /source\.table is item,/);
  const small = { ...tasks({ source: { table: "items", column: "embedding" } }), collections: { items: { dims: 4 } } };
  assert.throws(() => checkDeclaredTasks(small, tables, undefined), /source\.column has vectors of 8 numbers, and collection items of 4/);
  const rows = { tables: { v: { dim: 4, memoryMb: 1 } } };
  assert.throws(
    () => checkDeclaredTasks(tasks({ source: { parameters: "v" }, dims: 8 }), tables, rows),
    /dims is 8, and the rows of source\.parameters have 4/,
  );
});
