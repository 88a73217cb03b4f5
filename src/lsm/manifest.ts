// The manifest: which run files make up a store and how much of the log they include. docs/format/lsm-manifest.md is the document.
// Why in the registry: it moves by compare-and-set, so a store that lost its partition to another process cannot move it any more.
// Invariants: 1. every effect before `logOffset` is in the runs, as far as no newer one replaces it; what the runs hold beyond it is in the log too
// 2. runs stand newest first, files of a run in key order without overlap  3. a file that the manifest names is synced, under its name, before the
// manifest is written, and removed only after one is written that does not name it.
// Limits: a value of the registry is 64 KiB: some 600 files.

import { MillraceError } from "#base/errors";
import { type Registry, registryLimits } from "#backbone/registry";

export const manifestFormat = 1;

export interface ManifestFile {
  readonly name: string;
  readonly bytes: number;
  /** CRC32C of the file's header, which holds the checksums of the rest. */
  readonly headerCrc32c: number;
  readonly entries: number;
  readonly tombstones: number;
}

export interface ManifestRun {
  readonly level: number;
  readonly files: readonly ManifestFile[];
}

export interface Manifest {
  readonly logOffset: number;
  /** At least the highest producer that wrote effects before `logOffset`: the next one is above it. */
  readonly producer: number;
  /** Above the numbers of all files. */
  readonly nextFile: number;
  readonly runs: readonly ManifestRun[];
}

export const emptyManifest: Manifest = { logOffset: 0, producer: 0, nextFile: 1, runs: [] };

export function runFileName(number: number): string {
  return `${String(number).padStart(10, "0")}.run`;
}

/** The number in a run file's name; undefined for another name. */
export function runFileNumber(name: string): number | undefined {
  return /^\d{10}\.run$/.test(name) ? Number(name.slice(0, 10)) : undefined;
}

export const manifestKey = (partition: string): string => `lsm/${partition}/manifest`;

export function encodeManifest(manifest: Manifest): Uint8Array {
  const { logOffset, producer, nextFile, runs } = manifest;
  return new TextEncoder().encode(JSON.stringify({ format: manifestFormat, logOffset, producer, nextFile, runs }));
}

const isWhole = (value: unknown, max = Number.MAX_SAFE_INTEGER): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;
const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

/** Throws `corrupt` when the bytes are no manifest, `unsupported` when a later version wrote them. */
export function decodeManifest(partition: string, bytes: Uint8Array): Manifest {
  const refuse = (why: string): MillraceError =>
    new MillraceError("corrupt", `the manifest of store ${partition} is damaged: ${why}`, {
      todo: "restore the registry from a backup of the same time as the run files; nothing was changed",
    });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new MillraceError("corrupt", `the manifest of store ${partition} is no JSON`, { cause, todo: "restore the registry from a backup" });
  }
  if (!isRecord(value)) throw refuse("it is no object");
  if (isWhole(value["format"]) && value["format"] > manifestFormat) {
    throw new MillraceError("unsupported", `the manifest of store ${partition} was written by a later version`, { todo: "start that version, or a later one" });
  }
  const { format, logOffset, producer, nextFile, runs } = value;
  if (format !== manifestFormat || !isWhole(logOffset) || !isWhole(producer) || !isWhole(nextFile, 9_999_999_999) || !Array.isArray(runs))
    throw refuse("a field is missing");
  const names = new Set<string>();
  const checked = runs.map((run: unknown): ManifestRun => {
    if (!isRecord(run) || !isWhole(run["level"], 255) || !Array.isArray(run["files"]) || run["files"].length === 0) throw refuse("a run is not one");
    const files = run["files"].map((file: unknown): ManifestFile => {
      if (!isRecord(file)) throw refuse("a file is not one");
      const { name, bytes: size, headerCrc32c, entries, tombstones } = file;
      const number = typeof name === "string" ? runFileNumber(name) : undefined;
      if (number === undefined || number >= nextFile || names.has(name as string)) throw refuse("the name of a file cannot be");
      if (!isWhole(size) || !isWhole(headerCrc32c, 0xffff_ffff) || !isWhole(entries) || !isWhole(tombstones, entries))
        throw refuse(`the figures of file ${String(name)}`);
      names.add(name as string);
      return { name: name as string, bytes: size, headerCrc32c, entries, tombstones };
    });
    return { level: run["level"], files };
  });
  return { logOffset, producer, nextFile, runs: checked };
}

/** The manifest of one store in the registry, read once and moved by its owner. */
export class ManifestHead {
  readonly #registry: Registry;
  readonly #partition: string;
  #revision: number;
  #current: Manifest;
  /** What a call that failed may have written. */
  #unsure: Uint8Array | undefined;

  private constructor(registry: Registry, partition: string, revision: number, current: Manifest) {
    this.#registry = registry;
    this.#partition = partition;
    this.#revision = revision;
    this.#current = current;
  }

  /** Reads it; an absent one is empty. */
  static async load(registry: Registry, partition: string): Promise<ManifestHead> {
    const entry = await registry.get(manifestKey(partition));
    if (entry === undefined) return new ManifestHead(registry, partition, 0, emptyManifest);
    return new ManifestHead(registry, partition, entry.revision, decodeManifest(partition, entry.value));
  }

  get current(): Manifest {
    return this.#current;
  }

  /** Writes the next one. Throws `conflict` when another process has moved it meanwhile; after another failure it is not known whether it moved, and the next
   * call finds out. */
  async move(next: Manifest): Promise<void> {
    const key = manifestKey(this.#partition);
    const bytes = encodeManifest(next);
    const { valueBytesMax } = registryLimits;
    if (bytes.length > valueBytesMax) {
      throw new MillraceError("overloaded", `a manifest of ${bytes.length} bytes for store ${this.#partition}`, {
        todo: `it may have ${valueBytesMax}: raise the size of run files, so that there are fewer`,
      });
    }
    const unsure = this.#unsure;
    this.#unsure = bytes;
    let entry = await this.#registry.put(key, bytes, { expect: this.#revision });
    if (entry === undefined && unsure !== undefined) {
      const found = await this.#registry.get(key);
      if (found !== undefined && isSame(found.value, unsure)) entry = await this.#registry.put(key, bytes, { expect: found.revision });
    }
    this.#unsure = undefined;
    if (entry === undefined) {
      throw new MillraceError("conflict", `the manifest of store ${this.#partition} was moved by another process`, {
        todo: "this process is no longer its owner; restart it when it should be",
      });
    }
    this.#revision = entry.revision;
    this.#current = next;
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
