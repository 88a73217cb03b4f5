// local-read: look-ups and reads in a local replica of a table (`openTable`), held against the two ways that JavaScript and this repository had before.
// Work: a table of 1,000,000 rows of 50 f32 columns with keys of 60 bytes, published as a version of one run file (what an import of 250 MB makes) into a data folder and
// opened from there, log and registry included; no row was written live, so a look-up is one probe of the version. Batches of 1,000 random keys, uniform, one in ten
// absent, the same batches for all. Data are far larger than the caches: keys and rows are 276 MB.
// Timed: `string_lookups` = `lookup` of keys that lie in a batch as bytes; `js_string_lookups` = the same from JavaScript strings, the batch filled anew each time;
// `rows` = `read` of all 50 columns into one matrix of the caller, look-up included. One thread. A rate is per second of processor time of this process (the best of the
// rounds; the median stands beside it), since other work on the machine takes wall time away, not the caller's.
// Index = bytes of the run file that are no records (search groups, block table, checksums) over the keys.
// Peers in alternating rounds: a JavaScript Map asked with live strings, one asked with strings made of the same bytes, and KeyTable (key -> row number, no values).
// Checked: every answer of every batch against the Map, every number of every row against what was imported. Nothing durable is timed.

import { join } from "node:path";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { Prng } from "#base/prng";
import { registerSchemas } from "#features/tables/schema-registry";
import { absentRow } from "#kernel/kernel-calls";
import { kernelReport } from "#kernel/kernels";
import { KeyBatch } from "#kernel/key-batch";
import { keySeed } from "#kernel/key-hash";
import { KeyTable, keyTableBytes } from "#kernel/key-table";
import { MemoryPool } from "#kernel/memory-pool";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { openTable } from "#sdk/open-table";
import { publishTable } from "#sdk/replica/built-version.fuzz";
import { replicaLayout } from "#sdk/replica/open-table";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { alternatingRounds, median, type Samples, type Scenario } from "./harness.ts";
import { temporaryFolder } from "./load/server-process.ts";

const batchKeys = 1_000;
const width = 50;
const columnNames = Array.from({ length: width }, (_, i) => `f${String(i).padStart(2, "0")}`);

/** 60 bytes, of which some differ: a title, an author and a number. */
function keyOf(i: number): string {
  return `${String(Math.imul(i, 0x9e3779b1) >>> 0).padStart(10, "0")}:a title of some words:the name of its author:${String(i).padStart(8, "0")}`
    .padEnd(60, "-")
    .slice(-60);
}

function valueOf(row: number, column: number): number {
  return (row % 65_536) + column / 64;
}

/** Builds the data folder of a server that has imported the table. */
async function makeData(folder: string, rows: number): Promise<void> {
  const registry = openSqliteRegistry({ path: join(folder, replicaLayout.registry), clock: systemClock, processes: systemProcesses });
  const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: join(folder, replicaLayout.log), durability: "interval" });
  await (await log.openWriter(replicaLayout.partition)).close();
  const columns = Object.fromEntries(columnNames.map((name) => [name, { type: "f32" as const }]));
  const schema = (await registerSchemas(registry, { items: { key: "string", columns } })).get("items")!;
  const blobs = openFolderBlobs({ files: systemFiles, folder: join(folder, replicaLayout.blobs) });
  const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: replicaLayout.kind });
  await publishTable(snapshots, schema, {
    keys: Array.from({ length: rows }, (_, i) => keyOf(i)),
    columns: schema.columns.map((_, column) => {
      const data = Float32Array.from({ length: rows }, (_, row) => valueOf(row, column));
      return { kind: "fixed" as const, width: 4, data: new Uint8Array(data.buffer), valid: undefined };
    }),
    timeMs: Date.now(),
  });
  await log.close();
  await registry.close();
}

export const scenario: Scenario = {
  name: "local-read",
  head: "a local replica of 1,000,000 rows of 50 f32 by 60-byte keys: look-ups and reads in batches of 1,000, one key in ten absent, one thread",
  async run({ quick, report, log }) {
    const count = quick ? 50_000 : 1_000_000;
    const batches = quick ? 20 : 200;
    const rounds = quick ? 4 : 15;
    const folder = temporaryFolder();
    try {
      let started = performance.now();
      await makeData(folder.path, count);
      log(`built    ${count} rows in ${((performance.now() - started) / 1000).toFixed(1)} s`);
      started = performance.now();
      const table = await openTable("items", { data: folder.path });
      log(
        `opened   version ${table.version} in ${((performance.now() - started) / 1000).toFixed(1)} s: ${table.state.rows} rows, ${(table.state.bytes / 2 ** 20).toFixed(0)} MiB`,
      );

      const prng = new Prng("local-read");
      const map = new Map<string, number>();
      for (let i = 0; i < count; i++) map.set(keyOf(i), i);
      const asked = Array.from({ length: batches }, () => Array.from({ length: batchKeys }, (_, i) => keyOf(prng.below(count) + (i % 10 === 9 ? count : 0))));
      const expected = asked.map((keys) => Uint32Array.from(keys, (key) => map.get(key) ?? absentRow));
      const wire = asked.map((keys) => keys.map((key) => Buffer.from(key)));
      const batchOf = asked.map((texts) => {
        const keys = table.newKeys();
        for (const text of texts) keys.add(text);
        return keys;
      });

      const size = { keysMax: count, keyBytesMax: count * 60 };
      const { memory } = new MemoryPool({ capBytes: 2 ** 30 }).lease({ dataBytes: keyTableBytes(size) + 64, owner: "local-read" });
      const keyTable = KeyTable.create(memory, size, keySeed(2026n));
      const numbers = new Uint32Array(batchKeys);
      const batch = new KeyBatch();
      for (let first = 0; first < count; first += batchKeys) {
        batch.clear();
        for (let i = first; i < Math.min(count, first + batchKeys); i++) batch.add(keyOf(i));
        keyTable.insert(batch, numbers);
      }
      const tableBatches = asked.map((keys) => KeyBatch.of(keys));

      const status = new Uint8Array(batchKeys);
      const matrix = new Float32Array(batchKeys * width);
      const rows = table.newRows([{ columns: columnNames, into: matrix }], batchKeys);
      const filled = table.newKeys();
      const fill = (texts: readonly string[]): void => {
        filled.clear();
        for (let i = 0; i < texts.length; i++) filled.add(texts[i]!);
      };
      let compared = 0;
      for (const [n, wanted] of expected.entries()) {
        const present = wanted.reduce((sum, row) => sum + Number(row !== absentRow), 0);
        if (table.lookup(batchOf[n]!, status) !== present) throw new Error("a look-up finds another number of keys");
        fill(asked[n]!);
        if (table.read(filled, rows) !== present) throw new Error("a read finds another number of rows");
        for (const [i, row] of wanted.entries()) {
          if ((status[i] === 0) !== (row !== absentRow) || rows.status[i] !== status[i]) throw new Error("a look-up answers wrongly");
          for (let column = 0; column < width; column++) {
            const value = matrix[i * width + column]!;
            if (row === absentRow ? !Number.isNaN(value) : value !== Math.fround(valueOf(row, column))) throw new Error("a read answers wrongly");
            compared++;
          }
        }
        keyTable.probe(tableBatches[n]!, numbers);
        if (!wanted.every((row, i) => row === numbers[i])) throw new Error("the KeyTable answers wrongly");
      }
      log(`checked  ${batches} batches against the Map, ${compared} numbers`);

      const each = (run: (n: number) => void) => (): void => {
        for (let n = 0; n < batches; n++) run(n);
      };
      const samples = await alternatingRounds(rounds, {
        lookup: each((n) => table.lookup(batchOf[n]!, status)),
        jsLookup: each((n) => {
          fill(asked[n]!);
          table.lookup(filled, status);
        }),
        read: each((n) => table.read(batchOf[n]!, rows)),
        keyTable: each((n) => keyTable.probe(tableBatches[n]!, numbers)),
        map: each((n) => {
          const keys = asked[n]!;
          for (let i = 0; i < batchKeys; i++) numbers[i] = map.get(keys[i]!) ?? absentRow;
        }),
        mapOfBytes: each((n) => {
          const keys = wire[n]!;
          for (let i = 0; i < batchKeys; i++) numbers[i] = map.get(keys[i]!.toString("latin1")) ?? absentRow;
        }),
      });
      const perS = (ms: number): number => (batches * batchKeys * 1_000) / ms;
      const rate = ({ cpuMs }: Samples): number => perS(Math.min(...cpuMs));
      const shown = (name: string, one: Samples): string => `${name}: ${(rate(one) / 1e6).toFixed(1)} M`;
      const measured = ({ cpuMs }: Samples): string => `median ${(perS(median(cpuMs)) / 1e6).toFixed(1)} M of ${rounds} rounds of ${batches} batches`;
      report({
        metric: "string_lookups_per_s",
        value: rate(samples.lookup),
        unit: "1/s",
        better: "higher",
        target: 15e6,
        peer: `${shown("Map, strings made of the bytes", samples.mapOfBytes)}; ${shown("KeyTable", samples.keyTable)}`,
        detail: `${measured(samples.lookup)}; live variant ${kernelReport().live}`,
      });
      report({
        metric: "js_string_lookups_per_s",
        value: rate(samples.jsLookup),
        unit: "1/s",
        better: "higher",
        target: 2.5e6,
        peer: shown("Map, live strings", samples.map),
        detail: measured(samples.jsLookup),
      });
      report({
        metric: "rows_per_s",
        value: rate(samples.read),
        unit: "1/s",
        better: "higher",
        target: 4e6,
        detail: `${measured(samples.read)}; ${width} f32 a row`,
      });
      report({ metric: "lookup_ratio_vs_key_table", value: rate(samples.lookup) / rate(samples.keyTable), unit: "ratio", better: "higher" });
      report({
        metric: "index_bytes_per_key",
        value: table.state.indexBytes / count,
        unit: "B/key",
        better: "lower",
        target: 17,
        detail: `search groups, block table and checksums; the whole file takes ${(table.state.bytes / count).toFixed(1)} B a key`,
      });
      await table.close();
    } finally {
      folder.remove();
    }
  },
};
