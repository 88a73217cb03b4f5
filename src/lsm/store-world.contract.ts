// A store on a simulated machine, for tests: log, registry, workers and files of one seed.

import { openEmbeddedLog } from "#backbone/embedded-log";
import type { Durability, Log } from "#backbone/log";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import { type DropReason, type LeaseRequest, type MemoryLease, MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import { openStore, type StoreOptions } from "./open-store.ts";
import type { Store } from "./store.ts";

export type StoreTestOptions = Partial<Omit<StoreOptions, "log" | "registry" | "workers" | "clock" | "pool">> & {
  readonly durability?: Durability;
  readonly segmentBytesMax?: number;
  readonly files?: Files;
};

export interface OpenedStore {
  readonly store: Store;
  readonly log: Log;
}

/** A pool that can take back what a crashed store never released. */
class TestPool extends MemoryPool {
  readonly #leases = new Set<MemoryLease>();
  readonly #stops = new Set<() => void>();

  override onDropped(listener: (why: DropReason) => void): () => void {
    const stop = super.onDropped(listener);
    this.#stops.add(stop);
    return stop;
  }

  override lease(request: LeaseRequest): MemoryLease {
    const lease = super.lease(request);
    this.#leases.add(lease);
    return lease;
  }

  releaseAll(): void {
    for (const lease of this.#leases) lease.release();
    this.#leases.clear();
    // A listener of a store that fell would hold all of it.
    for (const stop of this.#stops) stop();
    this.#stops.clear();
  }
}

/** One pool for all stores of a test file: memories that are dropped would stay. */
export const testPool = new TestPool({ capBytes: 2 ** 30 });

export const partition = "table-log";

/** Opens the store of a machine. */
export async function openOn(node: SimulatedNode, registry: MemoryRegistry, options: StoreTestOptions = {}): Promise<OpenedStore> {
  const { durability = "always", segmentBytesMax = 64 * 1024, files = node.files, ...rest } = options;
  const connected = registry.connect({ clock: node.clock, alive: () => node.alive });
  const log = openEmbeddedLog({ files, clock: node.clock, registry: connected, folder: "/log", durability, segmentBytesMax });
  const store = await openStore({
    files,
    clock: node.clock,
    log,
    registry: connected,
    workers: node.workers,
    pool: testPool,
    folder: "/runs",
    partition,
    memtableBytes: 256 << 10,
    fileBytesMax: 256 << 10,
    // A life of a simulated store is short: its merges must not wait.
    mergeAfterMs: 0,
    ...rest,
  }).opened;
  return { store, log };
}

export interface StoreWorld {
  readonly node: SimulatedNode;
  readonly clock: Clock;
  open(options?: StoreTestOptions): Promise<Store>;
  /** The log of the store opened last. */
  log(): Log;
}

/** Runs a body on one machine that does not crash. */
export async function inSimulation(seed: number, body: (world: StoreWorld) => Promise<void>): Promise<void> {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const node = simulation.node("a");
    let last: OpenedStore | undefined;
    const open = async (options?: StoreTestOptions): Promise<Store> => (last = await openOn(node, registry, options)).store;
    await node.run(() => body({ node, clock: node.clock, open, log: () => last!.log }));
    await registry.close();
  });
  testPool.releaseAll();
}
