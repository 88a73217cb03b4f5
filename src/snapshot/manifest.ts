// The manifest of a version: which files it is made of, their sizes and checksums, statistics, and what its kind adds. Bytes: docs/format/snapshot-manifest.md.
// Why JSON with a checksum line: a person can read and compare it, and a program still notices every flipped bit.
// Invariants: 1. what `decodeManifest` returns is whole: checksum, every field, no file twice, no name that leaves its folder  2. it says itself which version
// of what it is, so that a manifest in the wrong place is refused  3. encoding is a function of the manifest: equal manifests, equal bytes.
// Limits: `manifestLimits`; a version has at most 2^53 bytes.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { fileNameCharactersMax, isFileName, isKind, isSnapshotName, isVersion } from "./version.ts";

export const manifestFormat = 1;

export const manifestLimits = { bytesMax: 4 * 1024 * 1024, filesMax: 20_000, statisticsMax: 10_000, statisticNameMax: 200 } as const;

export interface SnapshotFile {
  readonly name: string;
  readonly bytes: number;
  /** CRC32C of all its bytes. */
  readonly crc32c: number;
  readonly rows?: number;
}

export interface Manifest {
  readonly format: typeof manifestFormat;
  /** What it is a snapshot of: `table`, `vectors`, ... Its readers know what `meta` means. */
  readonly kind: string;
  readonly name: string;
  readonly version: string;
  readonly createdAtMs: number;
  readonly files: readonly SnapshotFile[];
  /** Numbers that checks compare with limits and with the version before: rows, nulls.ctr, norm.embedding.mean, ... */
  readonly statistics: Readonly<Record<string, number>>;
  /** The kind's own, any JSON: schema, shards, log offset per partition. */
  readonly meta: unknown;
}

export const manifestTodo = "publish the version again, or roll back to an earlier one";
const statisticName = /^[\x21-\x7e]+$/;
const fields = ["format", "kind", "name", "version", "createdAtMs", "files", "statistics", "meta"] as const;
const trailerBytes = 16;

/** Bytes of all these files. */
export function bytesOf(files: readonly SnapshotFile[]): number {
  return files.reduce((sum, file) => sum + file.bytes, 0);
}

/** `table/items 2026...`: how errors and logs name a version. */
export function versionText(manifest: { readonly kind: string; readonly name: string; readonly version: string }): string {
  return `${manifest.kind}/${manifest.name} ${manifest.version}`;
}

function faultOf(manifest: Record<string, unknown>): string | undefined {
  const unknown = Object.keys(manifest).find((key) => !(fields as readonly string[]).includes(key));
  if (unknown !== undefined) return `it has a field ${JSON.stringify(unknown.slice(0, 40))} that format ${manifestFormat} does not know`;
  const missing = fields.find((field) => !(field in manifest));
  if (missing !== undefined) return `it has no ${missing}`;
  if (!isKind(manifest["kind"]) || !isSnapshotName(manifest["name"]) || !isVersion(manifest["version"])) return "it does not say which version of what it is";
  if (!isCount(manifest["createdAtMs"])) return "it does not say when it was made";
  return filesFault(manifest["files"]) ?? statisticsFault(manifest["statistics"]);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

function filesFault(files: unknown): string | undefined {
  if (!Array.isArray(files)) return "its files are no list";
  if (files.length > manifestLimits.filesMax) return `it has ${files.length} files, at most ${manifestLimits.filesMax} are allowed`;
  const names = new Set<string>();
  let bytesAll = 0;
  for (const file of files as unknown[]) {
    if (!isObject(file) || !isFileName(file["name"])) return `a file's name is not 1 to ${fileNameCharactersMax} letters, digits, dots, underscores and -`;
    const { name, bytes, crc32c: crc, rows, ...more } = file;
    if (names.has(name)) return `it names the file ${String(name)} twice`;
    names.add(name);
    if (!isCount(bytes)) return `the size of ${String(name)} is no size`;
    if (!isCount(crc) || crc > 0xffff_ffff) return `the checksum of ${String(name)} is no CRC32C`;
    if (rows !== undefined && !isCount(rows)) return `the rows of ${String(name)} are no number of rows`;
    if (Object.keys(more).length > 0) return `the file ${String(name)} has fields that format ${manifestFormat} does not know`;
    bytesAll += bytes;
  }
  return Number.isSafeInteger(bytesAll) ? undefined : "its files have more than 2^53 bytes";
}

function statisticsFault(statistics: unknown): string | undefined {
  if (!isObject(statistics)) return "its statistics are no object";
  const entries = Object.entries(statistics);
  if (entries.length > manifestLimits.statisticsMax) return `it has ${entries.length} statistics, at most ${manifestLimits.statisticsMax} are allowed`;
  for (const [name, value] of entries) {
    if (name.length > manifestLimits.statisticNameMax || !statisticName.test(name))
      return `a statistic's name is not 1 to ${manifestLimits.statisticNameMax} printable characters`;
    if (!Number.isFinite(value)) return `the statistic ${name} is no number`;
  }
  return undefined;
}

/** The manifest's bytes. Throws `invalid` for one that `decodeManifest` would refuse. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const ordered = Object.fromEntries(fields.map((field) => [field, manifest[field] ?? null]));
  const fault = manifest.format === manifestFormat ? faultOf(ordered) : `its format is ${String(manifest.format)}`;
  if (fault !== undefined) throw new MillraceError("invalid", `a manifest cannot be written: ${fault}`, { todo: "mend what the builder hands in" });
  const body = new TextEncoder().encode(`${JSON.stringify(ordered, undefined, 1)}\n`);
  if (body.length + trailerBytes > manifestLimits.bytesMax) {
    throw new MillraceError("invalid", `a manifest of ${body.length} bytes`, {
      todo: `at most ${manifestLimits.bytesMax} are allowed: put large metadata into a file`,
    });
  }
  const bytes = new Uint8Array(body.length + trailerBytes);
  bytes.set(body);
  bytes.set(new TextEncoder().encode(trailerOf(body)), body.length);
  return bytes;
}

function trailerOf(body: Uint8Array): string {
  return `crc32c ${crc32c(body).toString(16).padStart(8, "0")}\n`;
}

/**
 * Reads a manifest and believes none of it. `expected`: what its place says it is. Throws `corrupt` for anything that `encodeManifest` did not write or that is
 * in the wrong place, `unsupported` for a later format.
 */
export function decodeManifest(bytes: Uint8Array, expected?: { readonly kind: string; readonly name: string; readonly version: string }): Manifest {
  const what = expected === undefined ? "manifest" : `manifest of ${versionText(expected)}`;
  const damaged = (why: string, cause?: unknown): MillraceError => new MillraceError("corrupt", `${what}: ${why}`, { todo: manifestTodo, cause });
  if (bytes.length > manifestLimits.bytesMax) throw damaged(`${bytes.length} bytes are more than a manifest may have`);
  const body = bytes.subarray(0, Math.max(0, bytes.length - trailerBytes));
  const trailer = bytes.subarray(body.length);
  let text: string;
  let parsed: unknown;
  try {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    if (decoder.decode(trailer) !== trailerOf(body)) throw damaged("its checksum does not agree");
    text = decoder.decode(body);
    parsed = JSON.parse(text);
  } catch (thrown) {
    throw thrown instanceof MillraceError ? thrown : damaged("it is no JSON text", thrown);
  }
  if (!isObject(parsed)) throw damaged("it is no object");
  // After the checksum: a flipped bit is damage, not a later format.
  if (parsed["format"] !== manifestFormat) {
    throw new MillraceError("unsupported", `${what} has format ${JSON.stringify(parsed["format"] ?? null)}`, {
      todo: `this millrace reads format ${manifestFormat}: use the one that published it, or a later one`,
    });
  }
  const fault = faultOf(parsed);
  if (fault !== undefined) throw damaged(fault);
  const manifest = parsed as unknown as Manifest;
  if (expected !== undefined && (manifest.kind !== expected.kind || manifest.name !== expected.name || manifest.version !== expected.version)) {
    throw damaged(`it says that it is ${versionText(manifest)}`);
  }
  return manifest;
}
