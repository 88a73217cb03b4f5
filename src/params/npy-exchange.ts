// Rows of a parameter store as .npy files with a manifest, for other programs, and back.
// Why .npy: every numerical tool reads it, and a file is its array behind a head of 128 bytes.
// Folder: manifest.json; keys.npy u64 [n]; values.npy f32 [n, dim]; versions.npy u64 [n]; touched.npy u32 [n] (seconds since 1970). Row i of one is row i of all.
// Only live rows. Each row is whole; buckets are read one after another, so an export under writes is not one moment (a checkpoint is).
// Invariants: 1. the manifest is written last: a folder without it is no export  2. an import checks lengths, heads and checksums of all files before it writes a row
//             3. imported rows are assignments: they get new versions, and a key that stands twice has the later row. With the files' own times they stand in the
//                order of the file, so a row may expire late, after the rows before it in its bucket.
// Cost: one copy and one checksum each way. Concurrency: the store's writing thread; it lets go after stepRows rows.
// Limits: 2^32 - 1 rows; the store must lead the buckets that it imports into.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import type { ParameterStore } from "./parameter-store.ts";
import { EntryBatch, noVersion } from "./sync-table.ts";

export const npyLimits = { stepRows: 1_000, stepNumbers: 64_000, manifestBytesMax: 1 << 16, rowsMax: 2 ** 32 - 1 } as const;

const headBytes = 128;
const manifestName = "manifest.json";
const columns = ["keys", "values", "versions", "touched"] as const;
type Column = (typeof columns)[number];
const kinds: Record<Column, string> = { keys: "<u8", values: "<f4", versions: "<u8", touched: "<u4" };

export interface NpyManifest {
  readonly version: 1;
  readonly kind: "parameters";
  readonly rows: number;
  readonly dim: number;
  readonly initial: { readonly seed: string; readonly factors: number; readonly initialScale: number };
  readonly files: Record<Column, { readonly bytes: number; readonly crc32c: number }>;
}

/** Head of version 1.0: magic, length, a Python dictionary, spaces, a newline; always 128 bytes. */
export function npyHead(kind: string, shape: readonly number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(headBytes).fill(0x20);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, headBytes - 10, 0]);
  const text = `{'descr': '${kind}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  bytes.set(new TextEncoder().encode(text), 10);
  bytes[headBytes - 1] = 0x0a;
  return bytes;
}

const shapeOf = (column: Column, rows: number, dim: number): readonly number[] => (column === "values" ? [rows, dim] : [rows]);
const rowBytesOf = (column: Column, dim: number): number => (column === "values" ? 4 * dim : column === "touched" ? 4 : 8);

function refused(what: string): MillraceError {
  return new MillraceError("corrupt", `parameters in .npy: ${what}`, { todo: "export them again" });
}

/** Keys and versions as little-endian u64: low half, high half. */
function asWords(batch: EntryBatch): Record<Column, Uint8Array<ArrayBuffer>> {
  const { count, dim } = batch;
  const versions = new Uint32Array(2 * count);
  for (let i = 0; i < count; i++) {
    versions[2 * i] = batch.versions[2 * i + 1]!;
    versions[2 * i + 1] = batch.versions[2 * i]!;
  }
  const bytesOf = (numbers: Uint32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => new Uint8Array(numbers.buffer);
  return {
    keys: bytesOf(batch.keys.slice(0, 2 * count)),
    values: bytesOf(batch.values.slice(0, count * dim)),
    versions: bytesOf(versions),
    touched: bytesOf(batch.touched.slice(0, count)),
  };
}

/** Takes tombstones out. */
function keepLive(batch: EntryBatch): void {
  let to = 0;
  for (let i = 0; i < batch.count; i++) {
    if (batch.isTombstone(i)) continue;
    if (to !== i) {
      batch.keys.copyWithin(2 * to, 2 * i, 2 * i + 2);
      batch.versions.copyWithin(2 * to, 2 * i, 2 * i + 2);
      batch.touched[to] = batch.touched[i]!;
      batch.flags[to] = 0;
      batch.values.copyWithin(to * batch.dim, i * batch.dim, (i + 1) * batch.dim);
    }
    to++;
  }
  batch.count = to;
}

/** Writes all live rows into an empty folder. Throws `conflict` when it holds an export. */
export async function exportNpy(store: ParameterStore, files: Files, folder: string): Promise<NpyManifest> {
  await files.makeFolder(folder);
  const place = (name: string): string => files.join(folder, name);
  const opened = new Map<Column, OpenFile>();
  let rows = 0;
  try {
    for (const column of columns) {
      const file = await files.open(place(`${column}.npy`), "create");
      if (file === undefined) throw new MillraceError("conflict", `${folder} holds an export`, { todo: "give each export a folder of its own" });
      opened.set(column, file);
    }
    const crcs: Record<Column, number> = { keys: 0, values: 0, versions: 0, touched: 0 };
    const step = Math.max(1, Math.min(npyLimits.stepRows, Math.floor(npyLimits.stepNumbers / store.dim)));
    const batch = new EntryBatch(store.dim);
    for (const shard of store.shards) {
      for (let bucket = 0; bucket < shard.buckets; bucket++) {
        const upTo = shard.newest(bucket);
        let after = noVersion;
        for (let complete = false; !complete;) {
          batch.clear();
          complete = shard.changes(bucket, after, upTo, step, batch);
          if (batch.count === 0) break;
          after = batch.versionAt(batch.count - 1);
          keepLive(batch);
          const parts = asWords(batch);
          for (const column of columns) {
            await opened.get(column)!.write(parts[column], headBytes + rows * rowBytesOf(column, store.dim));
            crcs[column] = crc32c(parts[column], crcs[column]);
          }
          rows += batch.count;
        }
      }
    }
    if (rows > npyLimits.rowsMax) throw new MillraceError("unsupported", `an export of ${rows} rows`, { todo: "export fewer" });
    for (const column of columns) {
      const file = opened.get(column)!;
      await file.write(npyHead(kinds[column], shapeOf(column, rows, store.dim)), 0);
      await file.sync();
    }
    const sizeAndCrc = (column: Column): { bytes: number; crc32c: number } => ({
      bytes: headBytes + rows * rowBytesOf(column, store.dim),
      crc32c: crcs[column],
    });
    const { seed, factors, initialScale } = store.initial;
    const manifest: NpyManifest = {
      version: 1,
      kind: "parameters",
      rows,
      dim: store.dim,
      initial: { seed: String(seed), factors, initialScale },
      files: { keys: sizeAndCrc("keys"), values: sizeAndCrc("values"), versions: sizeAndCrc("versions"), touched: sizeAndCrc("touched") },
    };
    await files.writeFileAtomic(place(manifestName), new TextEncoder().encode(JSON.stringify(manifest, undefined, 2)));
    return manifest;
  } finally {
    for (const file of opened.values()) await file.close();
  }
}

async function readManifest(files: Files, path: string): Promise<NpyManifest> {
  const size = await files.sizeOf(path);
  if (size === undefined) throw new MillraceError("not-found", `${path} is not there`, { todo: "name the folder of a complete export" });
  if (size > npyLimits.manifestBytesMax) throw refused("a manifest that is too long");
  let read: unknown;
  try {
    read = JSON.parse(new TextDecoder().decode((await files.readFile(path)) ?? new Uint8Array(0)));
  } catch {
    throw refused("a manifest that is no JSON");
  }
  const manifest = read as Partial<NpyManifest> | null;
  const isCount = (value: unknown): boolean => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
  if (manifest?.kind !== "parameters" || manifest.version !== 1 || !isCount(manifest.rows) || !isCount(manifest.dim) || typeof manifest.files !== "object") {
    throw refused("a manifest of another kind");
  }
  for (const column of columns) {
    const file = (manifest.files as Partial<NpyManifest["files"]>)[column];
    if (file === undefined || file.bytes !== headBytes + manifest.rows! * rowBytesOf(column, manifest.dim!) || !isCount(file.crc32c)) {
      throw refused(`a manifest whose ${column} do not fit its rows`);
    }
  }
  return manifest as NpyManifest;
}

/**
 * Assigns the rows of an export (or of files that another program made alike); `touchedS` of the files when it is left out. Returns rows and how many were refused. Throws `not-found`, `corrupt`,
 * `conflict` (of another dim).
 */
export async function importNpy(
  store: Pick<ParameterStore, "dim" | "assign">,
  files: Files,
  folder: string,
  touchedS?: number,
): Promise<{ rows: number; refused: number }> {
  const manifest = await readManifest(files, files.join(folder, manifestName));
  const { rows, dim } = manifest;
  if (dim !== store.dim)
    throw new MillraceError("conflict", `rows of ${dim} numbers for a table of ${store.dim}`, { todo: "import into a table of the same dim" });
  const opened = new Map<Column, OpenFile>();
  const step = Math.max(1, Math.min(npyLimits.stepRows, Math.floor(npyLimits.stepNumbers / dim)));
  const part = async (column: Column, first: number, count: number): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = new Uint8Array(count * rowBytesOf(column, dim));
    const read = await opened.get(column)!.read(bytes, headBytes + first * rowBytesOf(column, dim));
    if (read < bytes.length) throw refused(`${column} that end too early`);
    return bytes;
  };
  try {
    for (const column of columns) {
      const file = await files.open(files.join(folder, `${column}.npy`), "read");
      if (file === undefined) throw refused(`${column}.npy is missing`);
      opened.set(column, file);
      if ((await file.size()) !== manifest.files[column].bytes) throw refused(`${column}.npy has another length than its manifest says`);
      const head = new Uint8Array(headBytes);
      await file.read(head, 0);
      const expected = npyHead(kinds[column], shapeOf(column, rows, dim));
      if (head.some((byte, i) => byte !== expected[i])) throw refused(`${column}.npy has another type or shape than its manifest says`);
      let crc = 0;
      for (let first = 0; first < rows; first += step) crc = crc32c(await part(column, first, Math.min(step, rows - first)), crc);
      if (crc !== manifest.files[column].crc32c) throw refused(`${column}.npy fails its checksum`);
    }
    let refusedRows = 0;
    for (let first = 0; first < rows; first += step) {
      const count = Math.min(step, rows - first);
      const keys = new Uint32Array((await part("keys", first, count)).buffer);
      const values = new Float32Array((await part("values", first, count)).buffer);
      if (touchedS !== undefined) {
        refusedRows += store.assign(keys, count, values, touchedS);
        continue;
      }
      // Rows of one second together: mostly one call.
      const touched = new Uint32Array((await part("touched", first, count)).buffer);
      for (let from = 0; from < count;) {
        let to = from + 1;
        while (to < count && touched[to] === touched[from]) to++;
        refusedRows += store.assign(keys.subarray(2 * from, 2 * to), to - from, values.subarray(from * dim, to * dim), touched[from]!);
        from = to;
      }
    }
    return { rows, refused: refusedRows };
  } finally {
    for (const file of opened.values()) await file.close();
  }
}
