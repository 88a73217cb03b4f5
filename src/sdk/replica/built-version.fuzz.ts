// Imported versions of a table for tests and benches of replicas: rows packed, dealt to runs by hash and written as an import would.

import { RowPacker, type PackedColumn } from "#features/tables/row-packer";
import { rowKind } from "#features/tables/row-cells";
import type { TableSchema } from "#features/tables/table-schema";
import { runFileName, runOf, type TableVersionMeta } from "#features/import/table-version";
import { EntryView, recordBytes, writeRecord } from "#kernel/entry-record";
import { KeyHasher, type KeySeed, keySeed } from "#kernel/key-hash";
import { KernelMemory } from "#kernel/kernel-memory";
import { runHeaderBytes } from "#kernel/run-format";
import { RunWriter, runWriterBytes } from "#kernel/run-writer";
import { engineKey } from "#lsm/store";
import type { Manifest } from "#snapshot/manifest";
import type { PublishOptions, SnapshotStore } from "#snapshot/snapshot-store";

export interface RowsToBuild {
  /** User keys, each once, in any order. */
  readonly keys: readonly (string | Uint8Array)[];
  /** By the schema's order of columns, a value a key. */
  readonly columns: readonly (PackedColumn | undefined)[];
  readonly timeMs: number;
  /** Run files a shard. Default 1. */
  readonly runsPerShard?: number;
  readonly logOffset?: number;
}

const laneBytes = 1 << 20;
const encoder = new TextEncoder();
const builtSeed: KeySeed = keySeed(77n);
/** Of the index of run files. */
export const builtIndexSeed = 5n;

export interface BuiltTable {
  readonly meta: TableVersionMeta;
  /** The bytes of each run file. */
  readonly runs: readonly Uint8Array[];
}

/** The run files of a version, in this process. */
export function buildTable(schema: TableSchema, rows: RowsToBuild): BuiltTable {
  const { keys, timeMs, columns } = rows;
  const { shards } = schema.document;
  const runs = shards * (rows.runsPerShard ?? 1);
  const engineKeys = keys.map((key) => engineKey(schema.namespace, typeof key === "string" ? encoder.encode(key) : key));
  const packer = new RowPacker(schema);
  packer.pack(keys.length, columns, timeMs);
  const expiryMs = packer.expiryOf(timeMs);
  const hasher = new KeyHasher(builtSeed);
  const byRun: number[][] = Array.from({ length: runs }, () => []);
  for (const [i, key] of engineKeys.entries()) {
    hasher.hash(new DataView(key.buffer, key.byteOffset, key.byteLength), 0, key.length);
    byRun[runOf(hasher.high, runs)]!.push(i);
  }
  const meta: TableVersionMeta = {
    format: 1,
    schema: schema.document,
    runs,
    shards,
    seed: builtSeed,
    timeMs,
    logOffsets: rows.logOffset === undefined ? {} : { "table-log": rows.logOffset },
  };
  return { meta, runs: byRun.map((numbers) => writeRun(numbers, engineKeys, packer, timeMs, expiryMs)) };
}

function writeRun(numbers: number[], keys: readonly Uint8Array[], packer: RowPacker, timeMs: number, expiryMs: number): Uint8Array {
  numbers.sort((a, b) => Buffer.compare(keys[a]!, keys[b]!));
  const valueOf = (i: number): Uint8Array => packer.bytes.subarray(packer.offsets[i], packer.offsets[i + 1]);
  const bytes = numbers.reduce((sum, i) => sum + recordBytes(keys[i]!.length, valueOf(i).length, expiryMs, timeMs), 0);
  const size = { entriesMax: Math.max(1, numbers.length), recordBytesMax: bytes, longestRecordBytes: 64 << 10 };
  const memory = KernelMemory.create({ dataBytes: runWriterBytes(size), laneBytes });
  const writer = RunWriter.create(memory, size, keySeed(builtIndexSeed));
  const parts: Uint8Array[] = [];
  const record = new Uint8Array(128 << 10);
  const entry = new EntryView();
  for (const i of numbers) {
    const end = writeRecord(record, 0, keys[i]!, rowKind, valueOf(i), expiryMs, timeMs);
    entry.read(record, 0, end);
    while (!writer.add(entry)) parts.push(new Uint8Array(writer.drain()));
  }
  for (const chunk of writer.finish()) parts.push(new Uint8Array(chunk));
  const file = new Uint8Array(runHeaderBytes + parts.reduce((sum, part) => sum + part.length, 0));
  file.set(writer.headerBytes);
  let at = runHeaderBytes;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}

/** Publishes a version; `spoil` may change a file's bytes after its checksum was taken from what stands in the manifest. */
export async function publishTable(
  snapshots: SnapshotStore,
  schema: TableSchema,
  rows: RowsToBuild,
  options?: PublishOptions & { readonly meta?: (meta: TableVersionMeta) => unknown; readonly file?: (run: number, bytes: Uint8Array) => Uint8Array },
): Promise<Manifest> {
  const { meta, runs } = buildTable(schema, rows);
  const build = await snapshots.begin(schema.name);
  for (const [run, bytes] of runs.entries()) await build.put(runFileName(run), options?.file?.(run, bytes) ?? bytes);
  return build.publish({ statistics: { rows: rows.keys.length }, meta: options?.meta?.(meta) ?? meta }, options);
}
