// The versions of one snapshot that are in memory, and who reads them: the double buffer.
//   loading -> serving -> leaving --last lease ends--> closing -> gone
//                 ^          |
//                 +-- revive +      (a roll-back finds the version still there: it is not loaded a second time)
// Invariants: 1. a reader gets one whole version, whatever happens meanwhile: the switch is one assignment  2. `close` of a version is called once, after its
// last lease has ended and while it is not served  3. no version is there twice.
// Cost: a lease is one small object; `current` none. Concurrency: one thread; readers in other threads hold what the value itself hands out (memory-pool.ts).
// Limits: none of its own; the follower loads one version at a time.

import { assert } from "#base/errors";
import type { Manifest } from "./manifest.ts";

/** What a loader made. */
export interface Loaded<T> {
  readonly value: T;
  /** Gives memories and files back. Called once, when nobody reads it any more. */
  close(): void | Promise<void>;
}

/** One who reads a version. */
export interface Lease<T> {
  readonly value: T;
  readonly version: string;
  readonly manifest: Manifest;
  /** After the last access. A second call does nothing. */
  release(): void;
}

interface Entry<T> {
  readonly manifest: Manifest;
  readonly loaded: Loaded<T>;
  leases: number;
  closing: Promise<void> | undefined;
}

export interface LoadedVersion {
  readonly version: string;
  readonly leases: number;
  readonly serving: boolean;
}

export class LoadedVersions<T> {
  readonly #entries = new Map<string, Entry<T>>();
  /** Versions besides the serving one that stay loaded for a quick roll-back. */
  readonly #spareMax: number;
  readonly #onClosed: (version: string, failure: unknown) => void;
  #serving: Entry<T> | undefined;
  #spares: string[] = [];

  constructor(spareMax: number, onClosed: (version: string, failure: unknown) => void) {
    this.#spareMax = spareMax;
    this.#onClosed = onClosed;
  }

  get current(): { readonly value: T; readonly manifest: Manifest } | undefined {
    return this.#serving === undefined ? undefined : { value: this.#serving.loaded.value, manifest: this.#serving.manifest };
  }

  /** The value that is served, for reads that end before the next await. */
  get value(): T | undefined {
    return this.#serving?.loaded.value;
  }

  get servingVersion(): string | undefined {
    return this.#serving?.manifest.version;
  }

  get versions(): LoadedVersion[] {
    return [...this.#entries.values()].map((entry) => ({ version: entry.manifest.version, leases: entry.leases, serving: entry === this.#serving }));
  }

  /** A reader of the serving version, or of `version` while that is still loaded. */
  lease(version?: string): Lease<T> | undefined {
    const entry = version === undefined ? this.#serving : this.#entries.get(version);
    if (entry === undefined || entry.closing !== undefined) return undefined;
    entry.leases += 1;
    let held = true;
    return {
      value: entry.loaded.value,
      version: entry.manifest.version,
      manifest: entry.manifest,
      release: () => {
        if (!held) return;
        held = false;
        entry.leases -= 1;
        this.#closeIfLeft(entry);
      },
    };
  }

  /** True when `version` is loaded and can be served at once. */
  has(version: string): boolean {
    const entry = this.#entries.get(version);
    return entry !== undefined && entry.closing === undefined;
  }

  /** Resolves when a version that is being closed is gone. */
  async gone(version: string): Promise<void> {
    await this.#entries.get(version)?.closing;
  }

  add(manifest: Manifest, loaded: Loaded<T>): void {
    assert(!this.#entries.has(manifest.version), "a version is loaded once");
    this.#entries.set(manifest.version, { manifest, loaded, leases: 0, closing: undefined });
  }

  /** The switch. What was served becomes a spare or leaves with its last reader. */
  serve(version: string | undefined): void {
    const entry = version === undefined ? undefined : this.#entries.get(version);
    assert(version === undefined || (entry !== undefined && entry.closing === undefined), "what is served is loaded");
    const before = this.#serving;
    if (before === entry) return;
    this.#serving = entry;
    const left = [...(before === undefined ? [] : [before.manifest.version]), ...this.#spares.filter((one) => one !== version)];
    this.#spares = entry === undefined ? [] : left.slice(0, this.#spareMax);
    for (const one of left) this.#closeIfLeft(this.#entries.get(one)!);
  }

  /** Lets go a version that was loaded and shall not be served. */
  drop(version: string): void {
    this.#spares = this.#spares.filter((one) => one !== version);
    const entry = this.#entries.get(version);
    if (entry !== undefined) this.#closeIfLeft(entry);
  }

  #closeIfLeft(entry: Entry<T>): void {
    const { version } = entry.manifest;
    if (entry.leases > 0 || entry.closing !== undefined || entry === this.#serving || this.#spares.includes(version)) return;
    entry.closing = this.#close(entry);
  }

  async #close(entry: Entry<T>): Promise<void> {
    const { version } = entry.manifest;
    let failure: unknown;
    try {
      await entry.loaded.close();
    } catch (thrown) {
      failure = thrown;
    }
    this.#entries.delete(version);
    this.#onClosed(version, failure);
  }
}
