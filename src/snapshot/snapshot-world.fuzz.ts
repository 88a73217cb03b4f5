// What the tests of this room share: one simulated machine with blobs, registry, a store, and a loader that reads its files as text.

import assert from "node:assert/strict";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Blobs } from "#backbone/blobs";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import type { SnapshotAlarm } from "./alarm.ts";
import type { Manifest } from "./manifest.ts";
import { SnapshotFollower, type SnapshotFollowerOptions } from "./snapshot-follower.ts";
import { SnapshotStore, type SnapshotStoreOptions } from "./snapshot-store.ts";

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const refusal =
  (code: string, pattern?: RegExp) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof MillraceError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    if (pattern !== undefined) assert.match(thrown.message, pattern);
    return true;
  };

export interface World {
  readonly simulation: Simulation;
  readonly node: SimulatedNode;
  readonly registry: MemoryRegistry;
  readonly blobs: Blobs;
  readonly store: SnapshotStore;
  readonly alarms: SnapshotAlarm[];
  storeWith(options: Partial<SnapshotStoreOptions>): SnapshotStore;
  publish(rows: number, options?: { live?: boolean; text?: string }): Promise<Manifest>;
  follower(options?: Partial<SnapshotFollowerOptions<Read>>): SnapshotFollower<Read>;
  /** Lets virtual time pass until the claim holds. */
  until(claim: () => boolean | Promise<boolean>): Promise<void>;
}

/** What the test's loader makes: the text of every file. */
export interface Read {
  readonly version: string;
  readonly texts: readonly string[];
  closed: boolean;
}

/** As on another machine: the blobs are no files of this one, so everything is fetched. */
export function remote(blobs: Blobs): Blobs {
  return {
    put: (name, content) => blobs.put(name, content),
    get: (name, range) => blobs.get(name, range),
    info: (name) => blobs.info(name),
    list: (prefix, page) => blobs.list(prefix, page),
    delete: (name) => blobs.delete(name),
  };
}

/** `openBlobs`: what stands between store and folder; default: the blobs are remote. */
export function within(body: (world: World) => Promise<void>, seed: number | string = 1, openBlobs: (blobs: Blobs) => Blobs = remote): Promise<void> {
  const simulation = new Simulation({ seed });
  return simulation.run(async () => {
    const node = simulation.node("a");
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const blobs = openBlobs(openFolderBlobs({ files: node.files, folder: "/blobs" }));
    const alarms: SnapshotAlarm[] = [];
    const storeWith = (options: Partial<SnapshotStoreOptions>): SnapshotStore =>
      new SnapshotStore({ blobs, registry, clock: node.clock, random: new Prng(seed), kind: "table", onAlarm: (alarm) => alarms.push(alarm), ...options });
    const store = storeWith({});
    await body({
      simulation,
      node,
      registry,
      blobs,
      store,
      alarms,
      storeWith,
      async publish(rows, options = {}) {
        const build = await store.begin("items");
        await build.put("a.run", bytes(`${options.text ?? "rows"} ${rows} of ${build.version}`), rows);
        await build.put("b.run", bytes("b".repeat(1000)));
        return build.publish({ statistics: { rows }, meta: { schema: 1 } }, { ...(options.live === undefined ? {} : { live: options.live }) });
      },
      follower: (options = {}) =>
        new SnapshotFollower<Read>({
          store,
          name: "items",
          node: "a",
          files: node.files,
          clock: node.clock,
          folder: "/local",
          onAlarm: (alarm) => alarms.push(alarm),
          load: async (manifest, { files }) => {
            const texts = await Promise.all(files.map(async ({ path }) => new TextDecoder().decode(await node.files.readFile(path))));
            const value: Read = { version: manifest.version, texts, closed: false };
            return { value, close: () => void (value.closed = true) };
          },
          ...options,
        }),
      async until(claim) {
        for (let tries = 0; !(await claim()); tries += 1) {
          assert.ok(tries < 2_000, "it never came to that");
          await simulation.clock.sleep(50);
        }
      },
    });
  });
}
