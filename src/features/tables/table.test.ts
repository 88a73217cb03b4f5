// A table against a Map: random writes, deletes, times, conditions and expiries over an evolving schema; what is read is what the model says, cell by cell.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { KeyBatch } from "#kernel/key-batch";
import { inSimulation } from "#lsm/store-world.contract";
import type { TableConfig } from "#wire/table-config";
import { valueOf, type CellValue } from "./cell-values.ts";
import { ColumnBlock, rowStatus } from "./column-block.ts";
import { evolve } from "./schema-evolution.ts";
import { Table, writeOutcome } from "./table.ts";
import { TableSchema } from "./table-schema.ts";

const seed = process.env["SEED"] ?? "table";
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

interface ModelCell {
  value: unknown;
  timeMs: number;
  expiryMs: number;
}

function keysOf(table: Table, names: readonly string[]): KeyBatch {
  const keys = new KeyBatch();
  for (const name of names) table.addKey(keys, utf8(name));
  return keys;
}

function plainValue(block: ColumnBlock, table: Table, row: number, name: string): CellValue | undefined {
  const column = block.column(name)!;
  return block.isValid(row, column) ? valueOf(table.schema.required(name), block.bytesOf(row, column)) : undefined;
}

const config = (extra: TableConfig["columns"] = {}): TableConfig => ({
  key: "string",
  columns: {
    a: { type: "f32" },
    b: { type: "f32", ttlHours: 1 },
    c: { type: "i64", owner: "stream" },
    d: { type: "string", default: "none" },
    e: { type: "f32", length: 4 },
    f: { type: "bool" },
    ...extra,
  },
});

test(`promise: random writes, deletes, evolution and time against a Map (SEED=${seed})`, async () => {
  const prng = new Prng(seed);
  await inSimulation(7, async ({ open, node }) => {
    let store = await open({ keepTombstones: () => [5] });
    let document = evolve("items", config(), undefined, 5).document;
    let table = new Table({ schema: new TableSchema(document), store, clock: node.clock });
    const model = new Map<string, Map<string, ModelCell>>();
    const names = Array.from({ length: 60 }, (_, i) => `key ${i}`);
    let extra: TableConfig["columns"] = {};
    const values: Record<string, () => unknown> = {
      f32: () => Math.fround(prng.below(1_000) / 3),
      i64: () => prng.below(1_000),
      string: () => "x".repeat(prng.below(50)),
      bool: () => prng.chance(0.5),
      f64: () => prng.below(1_000) / 3,
      "f32[]": () => Float32Array.from({ length: 4 }, () => prng.below(9)),
    };
    for (let step = 0; step < 400; step += 1) {
      const nowMs = node.clock.nowMs();
      if (prng.chance(0.02)) {
        // A column more or less; the rows stay as they lie.
        const name = `x${prng.below(3)}`;
        if (extra[name] === undefined) extra = { ...extra, [name]: { type: prng.pick(["f32", "string"] as const) } };
        else {
          extra = Object.fromEntries(Object.entries(extra).filter(([one]) => one !== name));
          for (const row of model.values()) row.delete(name);
        }
        document = evolve("items", config(extra), document, 5).document;
        table = new Table({ schema: new TableSchema(document), store, clock: node.clock });
      }
      if (prng.chance(0.03)) await store.flush();
      if (prng.chance(0.01)) {
        await store.close();
        store = await open({ keepTombstones: () => [5] });
        table = new Table({ schema: new TableSchema(document), store, clock: node.clock });
      }
      if (prng.chance(0.05)) await node.clock.sleep(prng.pick([1_000, 1_800_000, 3_600_001]));
      const action = prng.below(10);
      if (action < 6) {
        const rows = Array.from({ length: 1 + prng.below(8) }, () => {
          const timeMs = prng.chance(0.3) ? Math.max(1, nowMs - prng.below(100)) : undefined;
          const columns = table.schema.columns.filter(() => prng.chance(0.3));
          if (columns.length === 0) columns.push(table.schema.columns[0]!);
          const cells = columns.map((column) => ({ column, value: prng.chance(0.1) ? null : values[column.type]!() }));
          return { key: utf8(prng.pick(names)), cells, ...(timeMs === undefined ? {} : { timeMs }) };
        });
        const now = node.clock.nowMs();
        const answer = await table.write(rows);
        if (prng.chance(0.2)) await table.durable(answer.ticket);
        for (const [i, row] of rows.entries()) {
          const name = new TextDecoder().decode(row.key);
          const there = model.get(name) ?? new Map<string, ModelCell>();
          const floor = there.get("\u0000deleted")?.timeMs ?? 0;
          let applied = false;
          for (const { column, value } of row.cells) {
            const standing = Math.max(there.get(column.name)?.timeMs ?? 0, floor);
            const explicit = "timeMs" in row ? row.timeMs : undefined;
            if (explicit !== undefined && (explicit < standing || (explicit === floor && standing === floor))) continue;
            applied = true;
            const at = explicit ?? Math.max(now, standing + (standing === floor && floor > 0 ? 1 : 0));
            there.set(column.name, { value, timeMs: at, expiryMs: column.ttlMs === 0 ? 0 : at + column.ttlMs });
          }
          assert.equal(
            answer.outcomes[i],
            applied ? writeOutcome.written : writeOutcome.stale,
            JSON.stringify({ step, name, now, t: "timeMs" in row ? row.timeMs : 0, cells: row.cells.map((c) => c.column.name), there: [...there] }),
          );
          if (applied) model.set(name, there);
        }
      } else if (action < 7) {
        const chosen = names.filter(() => prng.chance(0.05));
        const now = node.clock.nowMs();
        const { deleted } = await table.delete(keysOf(table, chosen));
        let expected = 0;
        for (const name of chosen) {
          const row = model.get(name);
          if (row === undefined || !exists(row, now)) continue;
          expected += 1;
          const last = Math.max(...[...row.values()].map(({ timeMs }) => timeMs));
          model.set(name, new Map([["\u0000deleted", { value: null, timeMs: Math.max(now, last), expiryMs: 1 }]]));
        }
        assert.equal(deleted, expected);
      } else {
        const asked = prng.chance(0.5) ? undefined : table.schema.columns.filter(() => prng.chance(0.5)).map(({ name }) => name);
        const plan = table.plan(asked === undefined || asked.length === 0 ? undefined : asked);
        const chosen = [...names.filter(() => prng.chance(0.5)), "never"];
        const now = node.clock.nowMs();
        const block = new ColumnBlock(await table.read(keysOf(table, chosen), plan));
        assert.equal(block.logOffset, store.offset);
        for (const [row, name] of chosen.entries()) {
          const cells = model.get(name);
          assert.equal(block.status(row), cells !== undefined && exists(cells, now) ? rowStatus.found : rowStatus.absent, name);
          for (const { column } of plan.columns) {
            const cell = cells?.get(column.name);
            const live = cell !== undefined && cell.value !== null && (cell.expiryMs === 0 || cell.expiryMs > now);
            const read = plainValue(block, table, row, column.name);
            assert.deepEqual(read, live ? cell.value : undefined, `${name} ${column.name}`);
            if (!live) assert.deepEqual(Buffer.from(block.bytesOf(row, block.column(column.name)!)), Buffer.from(column.defaultBytes));
          }
        }
      }
    }
    await store.close();
  });
});

function exists(row: Map<string, ModelCell>, nowMs: number): boolean {
  return [...row.values()].some(({ expiryMs }) => expiryMs === 0 || expiryMs > nowMs);
}
