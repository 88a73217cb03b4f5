// A table over an imported version: owners, deletions, times and the switch of versions against a Map; scans stay on the version that they began on.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { EntryView, writeRecord } from "#kernel/entry-record";
import { KeyBatch } from "#kernel/key-batch";
import { keySeed } from "#kernel/key-hash";
import { KernelMemory } from "#kernel/kernel-memory";
import { RunFiles, runFilesBytes } from "#lsm/run-files";
import { RunSet } from "#lsm/run-set";
import { engineKey } from "#lsm/store";
import { inSimulation, testPool } from "#lsm/store-world.contract";
import type { SimulatedNode } from "#platform/simulation";
import type { TableConfig } from "#wire/table-config";
import { setValue, valueOf } from "./cell-values.ts";
import { ColumnBlock, rowStatus } from "./column-block.ts";
import { RowCells } from "./row-cells.ts";
import { evolve } from "./schema-evolution.ts";
import type { BaseSource, BaseVersion } from "./table-base.ts";
import { TableScans } from "./table-scan.ts";
import { TableSchema } from "./table-schema.ts";
import { Table } from "./table.ts";

const seed = process.env["SEED"] ?? "table-base";
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

const config: TableConfig = {
  key: "string",
  columns: {
    batch: { type: "f32", owner: "batch" },
    stream: { type: "f32", owner: "stream" },
    newest: { type: "i64" },
    text: { type: "string", owner: "newest" },
    soon: { type: "f32", owner: "stream", ttlHours: 1 },
  },
};

interface ModelCell {
  readonly value: unknown;
  readonly timeMs: number;
  readonly expiryMs: number;
}
type ModelRow = Map<string, ModelCell>;
type Version = BaseVersion & { close(): Promise<void> };

/** A version's rows as run files of two shards on the simulated disk, opened as the server opens them. */
async function buildVersion(
  node: SimulatedNode,
  schema: TableSchema,
  name: string,
  rows: ReadonlyMap<string, ModelRow>,
  storage: "memory" | "disk",
): Promise<Version> {
  const folder = `/versions/${name}`;
  await node.files.makeFolder("/versions");
  await node.files.makeFolder(folder);
  const cells = new RowCells(schema);
  const runs: { path: string; bytes: number; headerCrc32c: number }[] = [];
  const size = { entriesMax: 2_000, recordBytesMax: 1 << 20 };
  for (const shard of [0, 1]) {
    const memory = KernelMemory.create({ dataBytes: runFilesBytes(size) });
    const out = RunFiles.staged({ files: node.files, folder, firstNumber: 1 + 10 * shard, fileBytesTarget: Infinity, seed: keySeed(3n) }, memory, size);
    const record = new Uint8Array(8_192);
    const entry = new EntryView();
    for (const [key, row] of [...rows].filter(([one]) => one.charCodeAt(one.length - 1) % 2 === shard).sort(([a], [b]) => (a < b ? -1 : 1))) {
      cells.clear();
      for (const [column, { value, timeMs, expiryMs }] of row) setValue(cells, schema.required(column), value, timeMs, expiryMs);
      const bytes = cells.encode();
      const end = writeRecord(record, 0, engineKey(schema.namespace, utf8(key)), 8, bytes, cells.rowExpiryMs, cells.rowTimeMs);
      assert.ok(entry.read(record, 0, end));
      if (out.stage(entry)) await out.flush();
    }
    for (const file of await out.finish()) runs.push({ path: `${folder}/${file.name}`, bytes: file.bytes, headerCrc32c: file.headerCrc32c });
  }
  const set = await RunSet.open(runs, { files: node.files, clock: node.clock, pool: testPool, owner: name, storage });
  return { version: name, runs: set, rows: rows.size, close: () => set.close() };
}

for (const storage of ["memory", "disk"] as const) {
  test(`promise: base and live rows are one table, by owner and time, over switches, in ${storage} (SEED=${seed})`, async () => {
    const prng = new Prng(`${seed}-${storage}`);
    await inSimulation(11, async ({ open, node }) => {
      const schema = new TableSchema(evolve("items", config, undefined, 9).document);
      const store = await open({ keepTombstones: () => [9] });
      let current: Version | undefined;
      let leases = 0;
      const base: BaseSource = {
        awaited: false,
        versions: [],
        lease() {
          if (current === undefined) return undefined;
          leases += 1;
          return { value: current, release: () => void (leases -= 1) };
        },
      };
      const table = new Table({ schema, store, clock: node.clock, base });
      const scans = new TableScans(node.clock);
      const names = Array.from({ length: 40 }, (_, i) => `key ${i}`);
      const live = new Map<string, { cells: ModelRow; floorMs: number }>();
      let old = new Map<string, ModelRow>();
      const closing: Version[] = [];

      /** What a reader must find: the rule of row-merge.ts in the model's words. */
      const expected = (key: string, column: string, nowMs: number): ModelCell | undefined => {
        const delta = live.get(key);
        const mine = delta?.cells.get(column);
        let its = old.get(key)?.get(column);
        if (its !== undefined && delta !== undefined && its.timeMs <= delta.floorMs) its = undefined;
        const { owner } = schema.required(column);
        const ofBoth = owner === "batch" ? its : owner === "stream" ? mine : (its?.timeMs ?? 0) > (mine?.timeMs ?? 0) ? its : mine;
        const cell = mine === undefined || its === undefined ? (mine ?? its) : ofBoth;
        return cell === undefined || (cell.expiryMs !== 0 && cell.expiryMs <= nowMs) ? undefined : cell;
      };
      const exists = (key: string, nowMs: number): boolean => schema.columns.some(({ name }) => expected(key, name, nowMs) !== undefined);
      const value = (name: string): unknown =>
        name === "newest" ? prng.below(1_000) : name === "text" ? "t".repeat(prng.below(40)) : Math.fround(prng.below(1_000) / 3);

      for (let step = 0; step < 200; step += 1) {
        if (prng.chance(0.1)) await node.clock.sleep(prng.pick([10, 1_000, 1_800_000, 3_700_000]));
        const nowMs = node.clock.nowMs();
        const action = prng.below(12);
        if (action === 0 || step === 0) {
          // A new version; live writes survive it.
          const rows = new Map<string, ModelRow>();
          const timeMs = nowMs - prng.below(2_000);
          for (const name of names) {
            const row: ModelRow = new Map();
            for (const column of schema.columns) {
              if (prng.chance(0.4)) continue;
              row.set(column.name, { value: value(column.name), timeMs, expiryMs: column.ttlMs === 0 ? 0 : timeMs + column.ttlMs });
            }
            if (row.size > 0 && prng.chance(0.7)) rows.set(name, row);
          }
          const next = await buildVersion(node, schema, `v${step}`, rows, storage);
          if (current !== undefined) closing.push(current);
          current = next;
          old = rows;
        } else if (action < 5) {
          const key = prng.pick(names);
          const columns = schema.columns.filter(({ owner }) => owner !== "batch" && prng.chance(0.5));
          if (columns.length === 0) continue;
          const cells = columns.map((column) => ({ column, value: prng.chance(0.1) ? null : value(column.name) }));
          const at = node.clock.nowMs();
          await table.write([{ key: utf8(key), cells }]);
          const row = live.get(key) ?? { cells: new Map<string, ModelCell>(), floorMs: 0 };
          for (const { column, value: written } of cells) {
            const standing = Math.max(row.cells.get(column.name)?.timeMs ?? 0, row.floorMs);
            const timeMs = Math.max(at, standing + (standing === row.floorMs && standing > 0 ? 1 : 0));
            row.cells.set(column.name, { value: written, timeMs, expiryMs: column.ttlMs === 0 ? 0 : timeMs + column.ttlMs });
          }
          live.set(key, row);
        } else if (action < 6) {
          const key = prng.pick(names);
          const keys = new KeyBatch();
          table.addKey(keys, utf8(key));
          const { deleted } = await table.delete(keys);
          const at = node.clock.nowMs();
          const there = exists(key, at);
          assert.equal(deleted, there ? 1 : 0, key);
          if (there) {
            const times = [...(live.get(key)?.cells.values() ?? []), ...(old.get(key)?.values() ?? [])].map(({ timeMs }) => timeMs);
            live.set(key, { cells: new Map(), floorMs: Math.max(at, live.get(key)?.floorMs ?? 0, ...times) });
          }
        } else if (action < 7) {
          await store.flush();
        } else if (action < 8) {
          const seen: string[] = [];
          let cursor = "0";
          do {
            const page = await scans.page(table, { cursor, limit: 7 });
            const { bytes, offsets } = page.keys;
            for (let i = 0; i < page.keys.count; i += 1) seen.push(new TextDecoder().decode(bytes.subarray(offsets[i]! + 2, offsets[i + 1])));
            assert.equal(page.version, current?.version ?? "");
            ({ cursor } = page);
          } while (cursor !== "0");
          const at = node.clock.nowMs();
          assert.deepEqual(seen, names.filter((name) => exists(name, at)).sort());
        } else {
          const asked = schema.columns.filter(() => prng.chance(0.6)).map(({ name }) => name);
          const plan = table.plan(asked.length === 0 ? undefined : asked);
          const chosen = names.filter(() => prng.chance(0.6));
          const keys = new KeyBatch();
          for (const name of chosen) table.addKey(keys, utf8(name));
          const block = new ColumnBlock(await table.read(keys, plan));
          const at = node.clock.nowMs();
          assert.equal(block.version, current?.version ?? "");
          for (const [row, key] of chosen.entries()) {
            assert.equal(block.status(row), exists(key, at) ? rowStatus.found : rowStatus.absent, key);
            for (const laid of block.columns) {
              const cell = expected(key, laid.name, at);
              const has = cell !== undefined && cell.value !== null;
              assert.equal(block.isValid(row, laid), has, `${key} ${laid.name}`);
              if (has) assert.deepEqual(valueOf(schema.required(laid.name), block.bytesOf(row, laid)), cell.value, `${key} ${laid.name}`);
            }
          }
        }
      }
      scans.close();
      assert.equal(leases, 0, "every lease was given back");
      for (const version of closing) await version.close();
      await current?.close();
      await store.close();
    });
  });
}

test("promise: a table whose version is not loaded says so by row, and refuses what needs it", async () => {
  await inSimulation(12, async ({ open, node }) => {
    const schema = new TableSchema(evolve("items", config, undefined, 9).document);
    const store = await open();
    const table = new Table({ schema, store, clock: node.clock, base: { awaited: true, versions: [], lease: () => undefined } });
    await table.write([{ key: utf8("a"), cells: [{ column: schema.required("stream"), value: 1 }] }]);
    const keys = new KeyBatch();
    table.addKey(keys, utf8("a"));
    const block = new ColumnBlock(await table.read(keys, table.plan()));
    assert.equal(block.status(0), rowStatus.notLoaded);
    assert.ok(block.columns.every((column) => !block.isValid(0, column)));
    assert.equal(table.state.loaded, false);
    assert.throws(() => table.delete(keys), /not loaded yet/);
    await store.close();
  });
});
