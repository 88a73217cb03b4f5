// The packer of imports writes the rows that the row codec reads.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import type { TableConfig } from "#wire/table-config";
import { cellState, RowCells } from "./row-cells.ts";
import { type PackedColumn, RowPacker } from "./row-packer.ts";
import { evolve } from "./schema-evolution.ts";
import { TableSchema } from "./table-schema.ts";

const seed = process.env["SEED"] ?? "row-packer";

test(`packed columns come back cell by cell, with their times and expiries (SEED=${seed})`, () => {
  const prng = new Prng(seed);
  const kinds: TableConfig["columns"][string][] = [
    { type: "f32" },
    { type: "bool" },
    { type: "i64" },
    { type: "string" },
    { type: "f32", length: 5 },
    { type: "u64", length: 2 },
    { type: "bytes" },
    { type: "f64", ttlHours: 1 },
    { type: "f32", ttlHours: 2 },
  ];
  for (let round = 0; round < 80; round += 1) {
    const columns = Object.fromEntries(Array.from({ length: 1 + prng.below(12) }, (_, i) => [`c${i}`, prng.pick(kinds)]));
    const schema = new TableSchema(evolve("t", { key: "u64", columns, ...(prng.chance(0.5) ? { ttlDays: 1 } : {}) }, undefined, 1).document);
    const rows = prng.below(20);
    const batch = schema.columns.map(({ laid }): PackedColumn | undefined => {
      if (prng.chance(0.1)) return undefined;
      const valid = prng.chance(0.5) ? undefined : Uint8Array.from({ length: Math.ceil(rows / 8) + 1 }, () => prng.below(256));
      const random = (length: number): Uint8Array => Uint8Array.from({ length }, () => prng.below(256));
      if (!laid.variable)
        return { kind: "fixed", width: laid.bytes, data: prng.chance(0.5) ? random(rows * laid.bytes) : random(rows * laid.bytes + 1).subarray(1), valid };
      const offsets = new Uint32Array(rows + 1);
      for (let row = 0; row < rows; row += 1) offsets[row + 1] = offsets[row]! + prng.below(60);
      return { kind: "bytes", offsets, bytes: random(offsets[rows]!), valid };
    });
    const times = Float64Array.from({ length: rows }, () => 1_700_000_000_000 + prng.below(1_000));
    const packer = new RowPacker(schema);
    // Twice: the second time into used buffers.
    packer.pack(rows, batch, times);
    packer.pack(rows, batch, times);
    const cells = new RowCells(schema);
    for (let row = 0; row < rows; row += 1) {
      const time = times[row]!;
      cells.load(packer.bytes.subarray(packer.offsets[row], packer.offsets[row + 1]), time, packer.expiryOf(time));
      schema.columns.forEach(({ laid, ttlMs }, place) => {
        const values = batch[place];
        const has = values !== undefined && (values.valid === undefined || (values.valid[row >> 3]! & (1 << (row & 7))) !== 0);
        assert.equal(cells.state[laid.at], has ? cellState.value : cellState.unsaid);
        if (!has) return;
        const expected =
          values.kind === "fixed"
            ? values.data.subarray(row * values.width, (row + 1) * values.width)
            : values.bytes.subarray(values.offsets[row], values.offsets[row + 1]);
        assert.deepEqual(Buffer.from(cells.valueOf(laid.at)), Buffer.from(expected));
        assert.equal(cells.timeMs[laid.at], time);
        assert.equal(cells.expiryMs[laid.at], ttlMs === 0 ? 0 : time + ttlMs);
      });
      // Written again by the row codec it is the same cells: no information is lost either way.
      const before = Array.from(cells.state);
      cells.load(cells.encode().slice(), cells.rowTimeMs, cells.rowExpiryMs);
      assert.deepEqual(Array.from(cells.state), before);
    }
  }
});
