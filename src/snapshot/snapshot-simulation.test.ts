// Guards the promises of the room through crashes: a publisher and three followers, killed or cut off from power at any step, with bad versions, decayed files,
// roll-backs and retiring in between. A follower never serves a mixed, unverified or refused version; reads never fail during a switch; what was
// published stays readable; and in the end all serve the head. A seed that fails is repeated with SEED=n. The last test shows that the checker can fail.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError, toMillraceError } from "#base/errors";
import { crc32c } from "#base/crc32c";
import type { Blobs } from "#backbone/blobs";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import type { Registry } from "#backbone/registry";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import type { Manifest } from "./manifest.ts";
import type { Workers } from "#platform/workers";
import { decodeHead } from "./head.ts";
import { SnapshotFollower } from "./snapshot-follower.ts";
import { SnapshotStore } from "./snapshot-store.ts";

const home = "blobs";
const name = "items";

/** What another process gives only arrives while this one lives. */
function guarded<S extends object>(node: SimulatedNode, service: () => S): S {
  return new Proxy({} as S, {
    get: (_, method: string) => {
      const value = (service() as Record<string, unknown>)[method];
      if (typeof value !== "function" || method === "watch") return typeof value === "function" ? value.bind(service()) : value;
      return (...args: unknown[]) => {
        const result = (value as (...args: unknown[]) => unknown).apply(service(), args);
        if (!(result instanceof Promise)) return result;
        return new Promise((resolve, reject) => {
          result.then(
            (given) => node.alive && resolve(given),
            (thrown: unknown) => node.alive && reject(toMillraceError(thrown)),
          );
        });
      };
    },
  });
}

interface Value {
  readonly version: string;
  readonly texts: readonly string[];
  closed: boolean;
}

interface Report {
  readonly published: number;
  readonly refused: number;
  readonly crashes: number;
  readonly switches: number;
  readonly reads: number;
}

/** What is broken on purpose, to see that the checker notices. */
type Mutant = "no checksums" | "lying disk";

/** A thread that finds everything right without looking. */
const blindWorkers: Workers = {
  start: () => ({ send: () => undefined, receive: async () => [], stop: async () => undefined, failed: Promise.resolve(undefined) }),
};

class World {
  readonly simulation: Simulation;
  readonly registry: MemoryRegistry;
  readonly violations: string[] = [];
  readonly everLive = new Set<string>();
  readonly refused = new Set<string>();
  readonly damaged = new Set<string>();
  readonly report = { published: 0, refused: 0, crashes: 0, switches: 0, reads: 0 };
  readonly mutant: Mutant | undefined;
  calm = false;

  constructor(seed: number, mutant: Mutant | undefined) {
    this.simulation = new Simulation({ seed });
    this.registry = createMemoryRegistry({ clock: this.simulation.clock });
    this.mutant = mutant;
    if (mutant === "lying disk") this.simulation.node(home).disk.syncsNothing = true;
  }

  homeBlobs(): Blobs {
    const { files, processes } = this.simulation.node(home);
    return openFolderBlobs({ files, processes, folder: "/blobs" });
  }

  storeOn(node: SimulatedNode, blobs: Blobs): SnapshotStore {
    const face = this.registry.connect({ clock: node.clock, alive: () => node.alive });
    const registry: Registry = guarded(node, () => this.observed(face));
    return new SnapshotStore({ blobs, registry, clock: node.clock, random: node.random, kind: "table", abandonedMs: 20_000, buildLeaseMs: 1_000 });
  }

  /** Notes every version that ever becomes live. */
  observed(face: Registry): Registry {
    return {
      get: (key) => face.get(key),
      list: (prefix) => face.list(prefix),
      put: async (key, value, how) => {
        const entry = await face.put(key, value, how);
        const { current } = key.endsWith("/head") && entry !== undefined ? decodeHead(value, name) : { current: undefined };
        if (current !== undefined) this.everLive.add(current);
        return entry;
      },
      delete: (key, how) => face.delete(key, how),
      watch: (prefix, signal) => face.watch(prefix, signal),
      lease: (ttlMs) => face.lease(ttlMs),
      tryLock: (lock, lease) => face.tryLock(lock, lease),
      lock: (lock, lease, timeoutMs) => face.lock(lock, lease, timeoutMs),
      close: () => face.close(),
    };
  }

  /** Every file of a version says whose it is. */
  content(version: string, file: number, rows: number): Uint8Array {
    return new TextEncoder().encode(`${version} ${file} ${rows} ${"x".repeat(300 + 700 * file)}`);
  }

  check(claim: boolean, what: string): void {
    if (!claim) this.violations.push(`${what} (at ${this.simulation.clock.monotonicMs().toFixed(0)} ms)`);
  }
}

/** One life of the publisher's process, beside the blobs. */
async function publishFor(world: World, node: SimulatedNode): Promise<void> {
  const { random } = world.simulation;
  const blobs = world.homeBlobs();
  const store = world.storeOn(node, blobs);
  const head = await store.head(name);
  // What was acknowledged before the power went is whole.
  if (head?.current !== undefined && !world.damaged.has(head.current)) {
    const manifest = await store.manifest(name, head.current);
    for (const file of manifest.files) {
      const bytes = await store.read(manifest, file, 0, file.bytes);
      world.check(crc32c(bytes) === file.crc32c, `file ${file.name} of the live ${head.current} is damaged after a restart`);
    }
  }
  for (;;) {
    try {
      await step(world, node, store, blobs);
    } catch (thrown) {
      const expected = thrown instanceof MillraceError && ["conflict", "not-found", "timeout", "corrupt"].includes(thrown.code);
      if (!expected) throw thrown;
    }
    await node.clock.sleep(random.below(400));
  }
}

async function step(world: World, node: SimulatedNode, store: SnapshotStore, blobs: Blobs): Promise<void> {
  const { random } = world.simulation;
  const chosen = random.float();
  if (chosen < 0.1) return void (await store.rollback(name));
  if (chosen < 0.2) return void (await store.retire(name, 1 + random.below(3)));
  if (chosen < 0.3) {
    const staged = (await store.head(name))?.staged[0];
    if (staged !== undefined) await store.goLive(name, staged);
    return;
  }
  const build = await store.begin(name);
  const shrunk = random.chance(0.15);
  const rows = shrunk ? 10 : 1_000 + random.below(100);
  const files = 1 + random.below(3);
  for (let file = 0; file < files; file += 1) await build.put(`f${file}`, world.content(build.version, file, rows), rows);
  const decay = random.chance(0.15);
  try {
    await build.publish({ statistics: { rows }, meta: { files } }, { live: !decay });
    world.report.published += 1;
    if (!decay) return;
    // Published, then a bit turns, then it goes live: only the follower can see it.
    world.damaged.add(build.version);
    node.disk.flipBit(`/blobs/snapshots/table/${name}/${build.version}/files/f${random.below(files)}@/bytes`);
    await store.goLive(name, build.version);
  } catch (thrown) {
    if (thrown instanceof MillraceError && thrown.code === "invalid") {
      world.refused.add(build.version);
      world.report.refused += 1;
    } else throw thrown;
  }
}

function followerOn(world: World, node: SimulatedNode, inPlace: boolean): SnapshotFollower<Value> {
  const blobs = inPlace ? world.homeBlobs() : { ...remoteOf(guarded(node, () => world.homeBlobs())) };
  return new SnapshotFollower<Value>({
    store: world.storeOn(node, blobs),
    name,
    node: node.name,
    files: node.files,
    clock: node.clock,
    folder: `/local-${node.name}`,
    keepLocal: 1,
    announceMs: 1_000,
    ...(world.mutant === "no checksums" ? { workers: blindWorkers } : {}),
    load: async (manifest: Manifest, { files, signal }) => {
      const texts: string[] = [];
      for (const file of files) {
        signal.throwIfAborted();
        texts.push(new TextDecoder().decode(await node.files.readFile(file.path)));
      }
      // No longer wanted: its files may be gone, and what is loaded is thrown away.
      signal.throwIfAborted();
      const rows = manifest.statistics["rows"]!;
      const whole =
        texts.length === (manifest.meta as { files: number }).files &&
        texts.every((text, at) => text === new TextDecoder().decode(world.content(manifest.version, at, rows)));
      // Whatever reaches the loader was checked before.
      world.check(whole, `${node.name} loads ${manifest.version}, which is mixed or damaged`);
      const value: Value = { version: manifest.version, texts, closed: false };
      return { value, close: () => void (value.closed = true) };
    },
    onSwitch: () => void (world.report.switches += 1),
  });
}

/** As a process elsewhere sees the blobs: no paths. */
function remoteOf(blobs: Blobs): Blobs {
  return {
    put: (blob, content) => blobs.put(blob, content),
    get: (blob, range) => blobs.get(blob, range),
    info: (blob) => blobs.info(blob),
    list: (prefix, page) => blobs.list(prefix, page),
    delete: (blob) => blobs.delete(blob),
  };
}

/** One life of a follower's process: reads all the time, whatever happens. */
async function followFor(world: World, node: SimulatedNode, inPlace: boolean, onFollower: (follower: SnapshotFollower<Value>) => void): Promise<void> {
  const follower = followerOn(world, node, inPlace);
  onFollower(follower);
  follower.start();
  let served = false;
  const held: ReturnType<typeof follower.lease>[] = [];
  for (;;) {
    const lease = follower.lease();
    world.check(lease !== undefined || !served, `${node.name}: a read failed`);
    if (lease !== undefined) {
      served = true;
      world.report.reads += 1;
      const { version, value } = lease;
      world.check(!value.closed, `${node.name} reads ${version} after it was closed`);
      world.check(value.version === version && value.texts.every((text) => text.startsWith(`${version} `)), `${node.name} serves a mixed ${version}`);
      world.check(world.everLive.has(version), `${node.name} serves ${version}, which was never live`);
      world.check(!world.refused.has(version) && !world.damaged.has(version), `${node.name} serves the bad ${version}`);
      // Some readers take long.
      if (node.random.chance(0.1)) held.push(lease);
      else lease.release();
      for (const one of held) world.check(!one!.value.closed, `${node.name}: a version was closed under a reader`);
      if (held.length > 3) held.shift()!.release();
    }
    await node.clock.sleep(1 + node.random.below(40));
  }
}

/** Lets a machine live, crash and live again; when the world is calm it lives. */
async function livesOf(world: World, machine: string, live: (node: SimulatedNode) => Promise<void>): Promise<void> {
  const { simulation } = world;
  for (;;) {
    const node = simulation.node(machine);
    const running = node.run(() => live(node));
    running.catch((thrown: unknown) => world.check(false, `${machine} failed: ${String(thrown)}`));
    await simulation.clock.sleep(200 + simulation.random.below(4_000));
    if (world.calm) return;
    node.crash(simulation.random.chance(0.7) ? "power" : "kill");
    world.report.crashes += 1;
    await simulation.clock.sleep(simulation.random.below(300));
  }
}

/** Runs a seed; throws when a promise is broken. */
async function survive(seed: number, options: { mutant?: Mutant; ms?: number } = {}): Promise<Report> {
  const world = new World(seed, options.mutant);
  const { simulation, report, violations } = world;
  const followers = new Map<string, SnapshotFollower<Value>>();
  const followOn = (node: SimulatedNode, inPlace: boolean): Promise<void> =>
    followFor(world, node, inPlace, (follower) => void followers.set(node.name, follower));
  await simulation.run(async () => {
    // The blobs' own machine has a publisher and a follower that reads in place: they fall together.
    const lives = [
      livesOf(world, home, async (node) => void (await Promise.all([publishFor(world, node), followOn(node, true)]))),
      livesOf(world, "a", (node) => followOn(node, false)),
      livesOf(world, "b", (node) => followOn(node, false)),
    ];
    await simulation.clock.sleep(options.ms ?? 10_000);
    world.calm = true;
    await Promise.all(lives);

    // From here on nothing crashes; the publisher's machine starts once more, a good version is published, and everyone comes to it.
    simulation.node(home).crash("kill");
    const node = simulation.node(home);
    node.run(() => followOn(node, true)).catch((thrown: unknown) => world.check(false, String(thrown)));
    const publisher = world.storeOn(node, world.homeBlobs());
    const build = await publisher.begin(name);
    await build.put("f0", world.content(build.version, 0, 1_000), 1_000);
    await build.publish({ statistics: { rows: 1_000 }, meta: { files: 1 } }, { checks: [] });
    const allServe = async (): Promise<boolean> =>
      [...followers.values()].every((follower) => follower.version === build.version) &&
      (await publisher.serving(name)).filter(({ version }) => version === build.version).length === 3;
    const states = (): string => JSON.stringify([...followers].map(([machine, follower]) => [machine, follower.state]));
    for (let waitedMs = 0; !(await allServe()); waitedMs += 100) {
      if (waitedMs > 300_000) return world.check(false, `not all came to the head and said so: ${states()}`);
      await simulation.clock.sleep(100);
    }
  });
  assert.deepEqual(violations.slice(0, 5), [], `seed ${seed}`);
  return report;
}

const long = process.env["MILLRACE_LONG"] !== undefined;
const seeds = process.env["SEED"] === undefined ? Array.from({ length: long ? 200 : 5 }, (_, i) => i + 1) : [Number(process.env["SEED"])];

test("promise: through crashes and power cuts no follower serves a bad version or fails a read, and all come to the head", async (context) => {
  const sums = { published: 0, refused: 0, crashes: 0, switches: 0, reads: 0 };
  for (const seed of seeds) {
    const report = await survive(seed, { ms: long ? 25_000 : 8_000 });
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += report[key];
  }
  context.diagnostic(`${seeds.length} seeds of ${long ? 25 : 8} s (with MILLRACE_LONG 200 of 25 s): ${JSON.stringify(sums)}`);
  assert.ok(sums.crashes >= seeds.length * 3 && sums.switches >= seeds.length * 3 && sums.reads >= seeds.length * 100, JSON.stringify(sums));
});

test("a run is repeated by its seed", async () => {
  assert.deepEqual(await survive(4, { ms: 3_000 }), await survive(4, { ms: 3_000 }));
});

for (const mutant of ["no checksums", "lying disk"] as const) {
  test(`canary: the checker notices ${mutant === "lying disk" ? "a disk that syncs nothing" : "a follower that checks nothing"}`, async () => {
    for (let seed = 1; seed <= 12; seed += 1) {
      const failure: unknown = await survive(seed, { mutant, ms: 8_000 }).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (failure === undefined) continue;
      assert.match(String(failure), mutant === "lying disk" ? /damaged after a restart|the manifest of .* is not there/ : /which is mixed or damaged/);
      return;
    }
    assert.fail("twelve seeds went by without a finding");
  });
}
