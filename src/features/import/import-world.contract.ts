// What the tests of the import stand on: a folder of the machine (DuckDB has its own I/O), a registry in memory, a table, and a reader of what was published that shares no code
// with the importer: it walks the run files by the format and takes rows apart by the row codec.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { createMemoryRegistry } from "#backbone/memory-registry";
import type { Registry } from "#backbone/registry";
import { EntryView } from "#kernel/entry-record";
import { EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { KernelMemory } from "#kernel/kernel-memory";
import { hashKey } from "#kernel/key-hash";
import { RunImage } from "#kernel/run-image";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { SnapshotStore } from "#snapshot/snapshot-store";
import type { TableConfig } from "#wire/table-config";
import { RowCells } from "../tables/row-cells.ts";
import { evolve } from "../tables/schema-evolution.ts";
import { schemaOf, type TableSchema } from "../tables/table-schema.ts";
import { type ImportOptions, TableImport } from "./importer.ts";
import { runOf, tableVersionMeta } from "./table-version.ts";

export type Row = Readonly<Record<string, unknown>>;

export interface ImportWorld {
  readonly folder: string;
  readonly registry: Registry;
  readonly snapshots: SnapshotStore;
  path(name: string): string;
  write(name: string, content: string | Uint8Array): Promise<string>;
  text(path: string): Promise<string>;
  import(schema: TableSchema, files: readonly string[], options?: Partial<ImportOptions>): TableImport;
  /** All rows of the live version by key (u64 as decimal text), each only with the columns that have a value. */
  rows(schema: TableSchema): Promise<Map<string, Row>>;
}

export function schemaFor(config: TableConfig, namespace = 7): TableSchema {
  return schemaOf(evolve("items", config, undefined, namespace).document, "items");
}

export async function inWorld(body: (world: ImportWorld) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-import-"));
  const registry = createMemoryRegistry({ clock: systemClock });
  const blobs = openFolderBlobs({ files: systemFiles, folder: join(folder, "blobs"), processes: systemProcesses });
  const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: "table" });
  const path = (name: string): string => join(folder, name);
  try {
    await body({
      folder,
      registry,
      snapshots,
      path,
      async write(name, content) {
        await writeFile(path(name), content);
        return path(name);
      },
      text: (name) => readFile(name, "utf8"),
      import: (schema, given, options) =>
        new TableImport({
          files: systemFiles,
          clock: systemClock,
          registry,
          snapshots,
          schema,
          request: { files: given },
          folder: join(folder, "import"),
          start: undefined,
          logOffsets: () => Promise.resolve({ "table-log": 42 }),
          ...options,
        }),
      rows: (schema) => publishedRows(schema, snapshots, (name) => blobs.pathOf!(name)),
    });
  } finally {
    await registry.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function publishedRows(schema: TableSchema, snapshots: SnapshotStore, pathOf: (name: string) => string): Promise<Map<string, Row>> {
  const head = await snapshots.head(schema.name);
  assert.ok(head?.current !== undefined, "a version is live");
  const manifest = await snapshots.manifest(schema.name, head.current);
  const meta = tableVersionMeta(manifest.meta, schema.name);
  const rows = new Map<string, Row>();
  const cells = new RowCells(schema);
  const entry = new EntryView();
  assert.equal(manifest.files.length, meta.runs);
  for (const [run, file] of manifest.files.toSorted((a, b) => (a.name < b.name ? -1 : 1)).entries()) {
    const bytes = await readFile(pathOf(`${snapshots.keyOf(schema.name)}${head.current}/files/${file.name}`));
    const memory = KernelMemory.create({ dataBytes: bytes.length + 64 });
    const at = memory.reserve(bytes.length);
    memory.bytes.set(bytes, at);
    const image = RunImage.attach(memory, at, bytes.length);
    image.verify();
    let last: Uint8Array = new Uint8Array(0);
    for (let position = image.first; position < image.end;) {
      position = image.entryAt(position, entry);
      const key = entry.key().slice();
      assert.ok(Buffer.compare(last, key) < 0, "keys ascend");
      last = key;
      assert.equal((key[0]! << 8) | key[1]!, schema.namespace);
      assert.equal(runOf(Number(hashKey(key, meta.seed) >> 32n), meta.runs), run, "the key stands in the run of its hash");
      assert.equal(entry.timeMs, meta.timeMs);
      cells.load(entry.value(), entry.timeMs, entry.expiryMs);
      const text = schema.key === "u64" ? Buffer.from(key).readBigUInt64BE(2).toString() : Buffer.from(key.subarray(2)).toString();
      assert.ok(!rows.has(text), "each key once");
      rows.set(text, rowOf(schema, cells));
    }
    assert.equal(image.count, file.rows);
    const keys = new KeyBatch();
    for (let position = image.first; position < image.end && keys.count < 1_000;) {
      position = image.entryAt(position, entry);
      keys.add(entry.key());
    }
    const refs = new EntryRefs();
    refs.reset(keys.count);
    assert.equal(image.probe(keys, refs, 0), keys.count, "every key is found by its hash");
  }
  assert.equal(manifest.statistics["rows"], rows.size);
  return rows;
}

function rowOf(schema: TableSchema, cells: RowCells): Row {
  const row: Record<string, unknown> = {};
  for (const column of schema.columns) {
    if (cells.state[column.laid.at] !== 1) continue;
    const bytes = Buffer.from(cells.valueOf(column.laid.at));
    const each = <T>(width: number, read: (at: number) => T): T[] => Array.from({ length: bytes.length / width }, (_, i) => read(i * width));
    const values = {
      i64: () => bytes.readBigInt64LE(),
      f32: () => bytes.readFloatLE(),
      f64: () => bytes.readDoubleLE(),
      "f32[]": () => each(4, (at) => bytes.readFloatLE(at)),
      "u64[]": () => each(8, (at) => bytes.readBigUInt64LE(at)),
      string: () => bytes.toString(),
      bytes: () => bytes.toString("hex"),
      bool: () => bytes[0] === 1,
    };
    row[column.name] = values[column.type]();
  }
  return row;
}
