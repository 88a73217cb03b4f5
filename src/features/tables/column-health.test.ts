// What health says of columns: null rate and mean of late reads, drift against the version before.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { BlockWriter } from "./block-writer.ts";
import { rowStatus } from "./column-block.ts";
import { ColumnHealth, driftOf } from "./column-health.ts";
import { ReadPlan } from "./read-plan.ts";
import { evolve } from "./schema-evolution.ts";
import { TableSchema } from "./table-schema.ts";

const schema = new TableSchema(evolve("items", { key: "string", columns: { still: { type: "f32" }, moved: { type: "f32" } } }, undefined, 9).document);
const plan = new ReadPlan(schema, undefined);

/** Reads `count` answers of 8 rows; one value in four of `still` is missing. */
function read(health: ColumnHealth, version: string, prng: Prng, count: number, move: number): void {
  const block = new BlockWriter();
  const value = new Uint8Array(4);
  const view = new DataView(value.buffer);
  for (let one = 0; one < count; one++) {
    block.begin(plan, 8, version, 0);
    for (let row = 0; row < 8; row++) {
      block.setDefaults(row);
      block.setStatus(row, rowStatus.found);
      for (const column of plan.columns) {
        const moves = column.column.name === "moved";
        view.setFloat32(0, prng.below(1_000) + (moves ? move : 0), true);
        if (moves || row % 4 !== 0) block.set(row, column, value, 0, 4);
      }
    }
    health.sample(block, version);
  }
}

test("promise: drift is told against what was read of the version before, as long as that was enough", () => {
  const prng = new Prng("health");
  const health = new ColumnHealth(schema);
  assert.deepEqual(health.status(0), { sampled: 0, nullRate: undefined, mean: undefined, drift: undefined });
  read(health, "one", prng, 400, 0);
  const first = health.status(1);
  assert.equal(first.sampled, 512);
  assert.ok(first.mean! > 400 && first.mean! < 600, String(first.mean));
  assert.ok(first.drift! < 0.1, "the first version against its own first samples");
  read(health, "two", prng, 400, 700);
  const [still, moved] = [health.status(0), health.status(1)];
  assert.ok(still.nullRate! > 0.15 && still.nullRate! < 0.35, String(still.nullRate));
  assert.ok(still.drift! < 0.25 && moved.drift! > 0.25, `${still.drift} and ${moved.drift}`);
  // Too few reads of a version to be a reference: the one before it stays.
  read(health, "three", prng, 5, 0);
  read(health, "four", prng, 400, 700);
  assert.ok(health.status(1).drift! < 0.25, "against the second");
  read(health, "five", prng, 400, 0);
  assert.ok(health.status(1).drift! > 0.25, "against the fourth");
});

test("drift of samples against themselves is none, of samples that do not meet much", () => {
  const some = Float64Array.from({ length: 200 }, (_, i) => i);
  assert.ok(Math.abs(driftOf(some, some)) < 1e-9);
  assert.ok(
    driftOf(
      some,
      some.map((value) => value + 1_000),
    ) > 2,
  );
});
