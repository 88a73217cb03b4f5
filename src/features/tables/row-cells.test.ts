// Rows: what is written is read again by every revision that came later; golden bytes; a damaged row is refused, never believed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { TableConfig } from "#wire/table-config";
import { setValue, valueOfCell } from "./cell-values.ts";
import { cellState, RowCells } from "./row-cells.ts";
import { evolve } from "./schema-evolution.ts";
import { TableSchema } from "./table-schema.ts";

const seed = process.env["SEED"] ?? "row-cells";

const config: TableConfig = {
  key: "string",
  columns: {
    title: { type: "string" },
    live: { type: "bool" },
    ctr: { type: "f32", default: 0, ttlHours: 1 },
    viewers: { type: "i64" },
    price: { type: "f64" },
    embedding: { type: "f32", length: 3 },
    tags: { type: "u64", length: 2 },
    raw: { type: "bytes" },
  },
};

function schemaFor(table: TableConfig, before?: TableSchema): TableSchema {
  return new TableSchema(evolve("items", table, before?.document, 7).document);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

test("golden bytes of a dense and a sparse row: docs/format/row.md", () => {
  const schema = schemaFor(config);
  const cells = new RowCells(schema);
  const at = 1_700_000_000_000;
  const put = (name: string, value: unknown, timeMs = at, expiryMs = 0): void => setValue(cells, schema.required(name), value, timeMs, expiryMs);
  put("viewers", 258);
  put("price", 1.5);
  put("tags", [1n, 2n]);
  put("ctr", 0.25);
  put("embedding", [1, 2, 3]);
  put("title", "hé");
  put("raw", new Uint8Array([9]));
  put("live", true);
  assert.equal(
    hex(cells.encode()),
    "01000100" + // format 1, no flags, revision 1
      "ff000000" + // all eight columns
      "0201000000000000" + // viewers
      "000000000000f83f" + // price
      "01000000000000000200000000000000" + // tags
      "0000803e" + // ctr
      "0000803f0000004000004040" + // embedding
      "4900000003000000" + // title: at 73, 3 bytes
      "4c00000001000000" + // raw: at 76, 1 byte
      "01" + // live
      "68c3a9" +
      "09",
  );
  assert.equal(cells.rowTimeMs, at);
  assert.equal(cells.rowExpiryMs, 0);

  cells.clear();
  put("ctr", 0.25, at, at + 3_600_000);
  put("live", null, at + 1);
  cells.floorMs = at - 1;
  assert.equal(
    hex(cells.encode()),
    "01070100" + // sparse, cells, floor
      "08000000" + // ctr is place 3
      "0000803e" +
      "ff67e5cf8b01" + // floor
      "80561cd08b01" + // earliest expiry
      "02" + // two groups: time, expiry, flags
      "0068e5cf8b01" +
      "80561cd08b01" +
      "00" +
      "0168e5cf8b01" +
      "000000000000" +
      "01" + // null
      "ffffff00ffffff01", // ctr has the first, live the second
  );
});

interface Said {
  value: unknown;
  timeMs: number;
  expiryMs: number;
}

function randomValue(prng: Prng, type: string, elements: number): unknown {
  switch (type) {
    case "i64":
      return prng.chance(0.3) ? 2n ** 53n + BigInt(prng.below(1_000)) : prng.below(2 ** 31) - 2 ** 30;
    case "f32":
      return Math.fround(prng.below(1_000_000) / 7);
    case "f64":
      return prng.below(1_000_000) / 7;
    case "bool":
      return prng.chance(0.5);
    case "string":
      return "é".repeat(prng.below(20));
    case "bytes":
      return Uint8Array.from({ length: prng.below(30) }, () => prng.below(256));
    case "f32[]":
      return Float32Array.from({ length: elements }, () => prng.below(1_000) / 3);
    default:
      return BigUint64Array.from({ length: elements }, () => BigInt(prng.below(2 ** 31)) << 20n);
  }
}

test(`random rows over evolving schemas come back as they were written (SEED=${seed})`, () => {
  const prng = new Prng(seed);
  for (let round = 0; round < 60; round += 1) {
    let schema = schemaFor({ key: "string", columns: { first: { type: "f32" }, flag: { type: "bool" } } });
    const said = new Map<string, Said>();
    let bytes: Uint8Array = new Uint8Array(0);
    let timeMs = 0;
    let expiryMs = 0;
    let floorMs = 0;
    const types = ["i64", "f32", "f64", "string", "bytes", "bool", "vector", "numbers"] as const;
    for (let step = 0; step < 12; step += 1) {
      // The schema changes, the row stays as it lies.
      const columns: Record<string, TableConfig["columns"][string]> = {};
      for (const column of schema.columns) {
        if (prng.chance(0.15) && schema.columns.length > 1 && Object.keys(columns).length > 0) {
          said.delete(column.name);
          continue;
        }
        const wider = column.type === "f32" && prng.chance(0.1);
        columns[column.name] =
          column.type === "f32[]"
            ? { type: "f32", length: column.elements }
            : column.type === "u64[]"
              ? { type: "u64", length: column.elements }
              : { type: wider ? "f64" : column.type };
      }
      for (let add = prng.below(4); add > 0; add -= 1) {
        const type = prng.pick(types);
        columns[`c${round}_${step}_${add}`] =
          type === "vector" ? { type: "f32", length: 1 + prng.below(9) } : type === "numbers" ? { type: "u64", length: 1 + prng.below(9) } : { type };
      }
      schema = schemaFor({ key: "string", columns }, schema);
      const cells = new RowCells(schema);
      if (bytes.length > 0) cells.load(bytes, timeMs, expiryMs);
      for (const column of schema.columns) {
        const expected = said.get(column.name);
        const place = column.laid.at;
        const value = valueOfCell(cells, column);
        if (expected === undefined) {
          assert.equal(cells.state[place], cellState.unsaid, column.name);
          continue;
        }
        assert.deepEqual(typeof expected.value === "bigint" ? BigInt(value as bigint) : value, expected.value, column.name);
        assert.equal(cells.timeMs[place], expected.timeMs);
        assert.equal(cells.expiryMs[place], expected.expiryMs);
      }
      assert.equal(cells.floorMs, floorMs);
      for (const column of schema.columns) {
        if (!prng.chance(0.4)) continue;
        const cell = { timeMs: 1 + prng.below(3), expiryMs: prng.chance(0.5) ? 0 : 2 ** 40 + prng.below(3) };
        const value = prng.chance(0.1) ? null : randomValue(prng, column.type, column.elements);
        setValue(cells, column, value, cell.timeMs, cell.expiryMs);
        said.set(column.name, { value, ...cell });
      }
      if (prng.chance(0.1)) cells.floorMs = floorMs = 1 + prng.below(5);
      bytes = cells.encode().slice();
      timeMs = cells.rowTimeMs;
      expiryMs = cells.rowExpiryMs;
    }
  }
});

test(`a damaged row is refused or read as some row, and nothing beyond it is read (SEED=${seed})`, () => {
  const prng = new Prng(`${seed}-damage`);
  const schema = schemaFor(config);
  const cells = new RowCells(schema);
  let refused = 0;
  for (let round = 0; round < 3_000; round += 1) {
    cells.clear();
    for (const column of schema.columns) {
      if (prng.chance(0.5)) setValue(cells, column, randomValue(prng, column.type, column.elements), 1 + prng.below(2), prng.below(2) * 2 ** 41);
    }
    const row = cells.encode().slice();
    for (let flips = 1 + prng.below(3); flips > 0 && row.length > 0; flips -= 1) row[prng.below(row.length)]! ^= 1 << prng.below(8);
    const cut = prng.chance(0.3) ? row.subarray(0, prng.below(row.length)) : row;
    try {
      cells.load(cut, 1, 0);
      for (const column of schema.columns) {
        if (cells.state[column.laid.at] !== cellState.value) continue;
        assert.ok(cells.at[column.laid.at]! + cells.length[column.laid.at]! <= cells.bytes.length);
        assert.ok(cells.length[column.laid.at]! <= cut.length);
      }
    } catch (thrown) {
      assert.ok(thrown instanceof MillraceError && thrown.code === "corrupt", String(thrown));
      refused += 1;
    }
  }
  assert.ok(refused > 100, `${refused} refused`);
});
