// What the tests of the host share: one simulated machine with the host, its client and its folds in the same process, and the history of what was written.

import assert from "node:assert/strict";
import { MillraceError } from "#base/errors";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { openFolderBlobs } from "#backbone/folder-blobs";
import type { Durability } from "#backbone/log";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import { SnapshotStore } from "#snapshot/snapshot-store";
import type { VectorsConfig } from "#wire/vector-config";
import { vectorsKind } from "../builder/version-config.ts";
import { foldVersion } from "../collection/fold.ts";
import { loadBase } from "../collection/load-base.ts";
import { PlainCollection } from "../collection/plain-collection.contract.ts";
import type { CollectionShape } from "../vector-service.ts";
import { VectorClient } from "./vector-client.ts";
import { VectorHost } from "./vector-host.ts";

export interface HostLife {
  readonly node: SimulatedNode;
  readonly client: VectorClient;
  readonly host: VectorHost;
  readonly snapshots: SnapshotStore;
  readonly warnings: string[];
  stop(): Promise<void>;
}

export class HostWorld {
  readonly simulation: Simulation;
  readonly registry: MemoryRegistry;
  readonly config: VectorsConfig;
  readonly durability: Durability;
  folds = 0;

  constructor(seed: number | string, config: VectorsConfig, durability: Durability) {
    this.simulation = new Simulation({ seed });
    this.registry = createMemoryRegistry({ clock: this.simulation.clock });
    this.config = config;
    this.durability = durability;
  }

  snapshotsOn(node: SimulatedNode, keepVersions: number): SnapshotStore {
    const registry = this.registry.connect({ clock: node.clock, alive: () => node.alive });
    const blobs = openFolderBlobs({ files: node.files, folder: "/data/blobs", processes: node.processes });
    return new SnapshotStore({ blobs, registry, clock: node.clock, random: node.random, kind: vectorsKind, keepVersions });
  }

  /** One life of the process: inside `node.run`. Resolves when the host is ready. */
  async begin(node: SimulatedNode, config = this.config): Promise<HostLife> {
    const registry = this.registry.connect({ clock: node.clock, alive: () => node.alive });
    const { files, clock, random } = node;
    const log = openEmbeddedLog({ files, clock, registry, folder: "/data/log", durability: this.durability, segmentBytesMax: 20_000 });
    const reader = openEmbeddedLog({ files, clock, registry, folder: "/data/log", durability: "none" });
    const warnings: string[] = [];
    const ready = Promise.withResolvers<void>();
    const abort = new AbortController();
    // A port keeps the order of its messages.
    const ordered = <T>(take: (message: T) => void): ((message: T) => void) => {
      const waiting: T[] = [];
      return (message) => {
        waiting.push(structuredClone(message));
        clock.after(0.05, () => take(waiting.shift()!));
      };
    };
    const client: VectorClient = new VectorClient({
      clock,
      memoryBytesMax: 1 << 30,
      warn: (message) => void warnings.push(message),
      send: ordered((message) => host.hear(message)),
    });
    const host = new VectorHost({
      config,
      clock,
      files,
      registry,
      log,
      snapshots: (keepVersions) => this.snapshotsOn(node, keepVersions),
      random,
      node: "a",
      folder: "/data/vectors",
      sliceMs: 0,
      fold: async (job, signal, onProgress) => {
        this.folds += 1;
        // A process of its own takes its time.
        await clock.sleep(random.below(400), signal);
        return foldVersion(job, {
          snapshots: this.snapshotsOn(node, 2),
          log: reader,
          files,
          clock,
          folder: "/data/vectors/fold",
          cpuMs: () => 0,
          loadBase: (manifest, fetched, pool, owner) => loadBase({ manifest, fetched, files, pool, owner, probes: 2 }),
          onProgress,
          signal,
        });
      },
      tell: ordered((message) => {
        if (client.hear(message)) ready.resolve();
      }),
    });
    const running = host.run(abort.signal);
    running.catch(ready.reject);
    try {
      await ready.promise;
    } catch (thrown) {
      await log.close();
      await reader.close();
      throw thrown;
    }
    return {
      node,
      client,
      host,
      snapshots: this.snapshotsOn(node, 2),
      warnings,
      async stop() {
        abort.abort(new MillraceError("unavailable", "the test stops it"));
        await running.catch(() => undefined);
        await log.close();
        await reader.close();
      },
    };
  }
}

/** One row of a write, as it stands in the log. */
export type HistoryRow =
  | { readonly kind: "upsert"; readonly element: string; readonly vector: Float32Array; readonly attributes: string | undefined }
  | { readonly kind: "remove"; readonly element: string }
  | { readonly kind: "attributes"; readonly element: string; readonly attributes: string };

/** What was written to a collection, in the order of the log, and what of it was acknowledged. */
export class History {
  readonly shape: CollectionShape;
  rows: HistoryRow[] = [];
  /** Rows up to here were acknowledged; and when. */
  acknowledged: { upTo: number; atMs: number }[] = [];
  /** After the first `#at` rows. */
  #plain: PlainCollection;
  #at = 0;

  constructor(shape: CollectionShape) {
    this.shape = shape;
    this.#plain = new PlainCollection(shape);
  }

  /** After so many rows; rising but for a restart. */
  plainAt(upTo: number): PlainCollection {
    if (upTo < this.#at) {
      this.#plain = new PlainCollection(this.shape);
      this.#at = 0;
    }
    for (; this.#at < upTo; this.#at++) {
      const row = this.rows[this.#at]!;
      if (row.kind === "upsert") this.#plain.upsert(row.element, row.vector, row.attributes);
      else if (row.kind === "remove") this.#plain.remove(row.element);
      else this.#plain.setAttributes(row.element, row.attributes);
    }
    return this.#plain;
  }

  get now(): PlainCollection {
    return this.plainAt(this.rows.length);
  }

  /** Rows that must be there after a crash at `atMs`. */
  surely(beforeMs: number): number {
    let upTo = 0;
    for (const one of this.acknowledged) if (one.atMs < beforeMs) upTo = Math.max(upTo, one.upTo);
    return upTo;
  }

  /** The restart kept the first `upTo` rows. */
  cut(upTo: number): void {
    this.rows.length = upTo;
    this.acknowledged = [{ upTo, atMs: -Infinity }];
  }
}

/** Throws unless the collection holds exactly what the plain one does. */
export async function differences(client: VectorClient, name: string, plain: PlainCollection, names: readonly string[]): Promise<string | undefined> {
  const count = await client.count(name);
  if (count !== plain.size) return `${count} elements where ${plain.size} are expected`;
  const found = await client.get(name, names);
  assert.ok(found !== undefined);
  const { dims } = plain.shape;
  for (const [i, element] of names.entries()) {
    const row = plain.rows.get(element);
    if ((found.found[i] === 1) !== (row !== undefined)) return `${element} is ${row === undefined ? "there" : "missing"}`;
    if (row === undefined) continue;
    if (found.attributes[i] !== row.attributes) return `${element} has attributes ${found.attributes[i]} for ${row.attributes}`;
    if (Math.abs(found.norms[i]! - row.norm) > 1e-5 * row.norm) return `${element} has length ${found.norms[i]} for ${row.norm}`;
    for (let j = 0; j < dims; j++) {
      if (Math.abs(found.vectors[i * dims + j]! - row.vector[j]!) > 2e-6 * Math.max(1, Math.abs(row.vector[j]!))) return `${element} has another vector`;
    }
  }
  return undefined;
}
