// Tables on this machine, for tests with real sockets: real files in a folder of their own, real clock and workers.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { MemoryPool } from "#kernel/memory-pool";
import { openStore, type StoreOptions } from "#lsm/open-store";
import type { Store } from "#lsm/store";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";
import type { TablesConfig } from "#wire/table-config";
import { openTables, type Tables, type TablesOptions } from "./tables.ts";

export interface TableWorld {
  readonly tables: Tables;
  readonly store: Store;
  close(): Promise<void>;
}

/** Opens a store and tables in a new folder, which `close` removes. */
export async function openTableWorld(config: TablesConfig, options: Partial<StoreOptions> & Pick<TablesOptions, "baseOf"> = {}): Promise<TableWorld> {
  const { baseOf, ...storeOptions } = options;
  const folder = await mkdtemp(join(tmpdir(), "millrace-tables-"));
  const registry = createMemoryRegistry({ clock: systemClock }).connect({ clock: systemClock, alive: () => true });
  const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: join(folder, "log"), durability: "interval", intervalMs: 10 });
  const store = await openStore({
    files: systemFiles,
    clock: systemClock,
    log,
    registry,
    workers: systemWorkers,
    pool: new MemoryPool({ capBytes: 2 ** 31 }),
    folder: join(folder, "runs"),
    partition: "table-log",
    memtableBytes: 4 << 20,
    ...storeOptions,
  }).opened;
  const tables = await openTables({ registry, store, clock: systemClock, config, ...(baseOf === undefined ? {} : { baseOf }) });
  return {
    tables,
    store,
    async close() {
      tables.close();
      await store.close();
      await log.close();
      await registry.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
