// Rows that the kernel packs are the rows that RowPacker packs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { KernelMemory } from "#kernel/kernel-memory";
import type { TableConfig } from "#wire/table-config";
import { RowPacker } from "../tables/row-packer.ts";
import type { BatchColumn } from "./column-batch.ts";
import { fixedRowBytes, FixedRows } from "./fixed-rows.ts";
import { schemaFor } from "./import-world.contract.ts";

const seed = process.env["SEED"] ?? "fixed-rows";

test(`rows of one length: the kernel's bytes are the packer's (SEED=${seed})`, () => {
  const prng = new Prng(seed);
  const kinds: TableConfig["columns"][string][] = [
    { type: "f32" },
    { type: "bool" },
    { type: "i64" },
    { type: "f64" },
    { type: "f32", length: 5 },
    { type: "u64", length: 2 },
  ];
  for (let round = 0; round < 60; round++) {
    const columns = Object.fromEntries(Array.from({ length: 1 + prng.below(40) }, (_, i) => [`c${i}`, prng.pick(kinds)]));
    const schema = schemaFor({ key: "u64", columns, ...(prng.chance(0.5) ? { ttlDays: 1 } : {}) });
    assert.ok(fixedRowBytes(schema) > 0);
    const rowsMax = 100;
    const memory = KernelMemory.create({ dataBytes: FixedRows.bytesFor(schema, rowsMax) + 64 });
    const fixed = new FixedRows(memory, schema, rowsMax, memory.reserve(FixedRows.bytesFor(schema, rowsMax)));
    const packer = new RowPacker(schema);
    // Several batches through the same room.
    for (const rows of [rowsMax, 1, prng.below(rowsMax)]) {
      const batch = schema.columns.map(({ laid }): BatchColumn | undefined => {
        if (prng.chance(0.1)) return undefined;
        const valid = prng.chance(0.5) ? undefined : prng.bytes(new Uint8Array(Math.ceil(rows / 8) + 1));
        return { kind: "fixed", width: laid.bytes, data: prng.bytes(new Uint8Array(rows * laid.bytes + 1)).subarray(1), valid };
      });
      packer.pack(rows, batch, 1_700_000_000_000);
      fixed.pack(rows, batch);
      assert.ok(
        Buffer.from(memory.bytes.subarray(fixed.at, fixed.at + rows * fixed.rowBytes)).equals(packer.bytes.subarray(0, packer.offsets[rows])),
        `round ${round}`,
      );
    }
  }
});

test("texts, times a column and long rows are for the packer", () => {
  assert.equal(fixedRowBytes(schemaFor({ key: "u64", columns: { a: { type: "f32" }, b: { type: "string" } } })), 0);
  assert.equal(fixedRowBytes(schemaFor({ key: "u64", columns: { a: { type: "f32" }, b: { type: "f32", ttlHours: 1 } } })), 0);
  assert.equal(fixedRowBytes(schemaFor({ key: "u64", columns: { a: { type: "f32", length: 1_000 } } })), 0);
});
