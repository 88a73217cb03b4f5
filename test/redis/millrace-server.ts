// The Redis port of millrace over a real log and store in a temporary folder, for tests against real clients and a real redis-server.

import { rm } from "node:fs/promises";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Prng } from "#base/prng";
import { connectionCommands } from "#commands/connection";
import { keyspaceCommands } from "#commands/index";
import { serverCommands } from "#commands/server";
import { Hashes } from "#features/keyspace/hashes";
import { HashSweep } from "#features/keyspace/hash-sweep";
import { Keyspace } from "#features/keyspace/keyspace";
import { MemoryPool } from "#kernel/memory-pool";
import { openStore } from "#lsm/open-store";
import { systemClock } from "#platform/system-clock";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { systemNetwork } from "#platform/system-network";
import { systemWorkers } from "#platform/system-workers";
import { Access } from "#wire/access-users";
import { CommandTable } from "#wire/resp-command-table";
import { startRespServer } from "#wire/resp-server";

export interface MillraceServer {
  readonly port: number;
  stop(): Promise<void>;
}

export async function startMillrace(): Promise<MillraceServer> {
  const folder = await makeTemporaryFolder("millrace-redis-");
  const registry = createMemoryRegistry({ clock: systemClock });
  const connected = registry.connect({ clock: systemClock, alive: () => true });
  const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry: connected, folder: systemFiles.join(folder, "log"), durability: "none" });
  const failures: unknown[] = [];
  const { opened } = openStore({
    files: systemFiles,
    clock: systemClock,
    log,
    registry: connected,
    workers: systemWorkers,
    pool: new MemoryPool(),
    folder: systemFiles.join(folder, "runs"),
    partition: "table-log",
    // Small, so that flushes and merges come in between.
    memtableBytes: 1 << 20,
    onAlarm: (alarm) => failures.push(alarm),
  });
  const store = await opened;
  const keyspace = new Keyspace({ store, clock: systemClock, random: new Prng(systemClock.nowMs()) });
  const hashes = new Hashes(keyspace);
  const sweep = new HashSweep(keyspace, { soonMs: 20, onTrouble: (error) => failures.push(error) });
  const later: { access?: Access } = {};
  const accessOf = (): Access => later.access!;
  const facts = { version: "0.0.0", processId: process.pid, runId: "0".repeat(40), info: () => ({}), memoryUsage: () => undefined, lastSaveMs: () => 0 };
  const commands = new CommandTable(...keyspaceCommands({ keyspace, hashes }), connectionCommands(accessOf), serverCommands({ access: accessOf, ...facts }));
  const access = (later.access = new Access({ commands, clock: systemClock }));
  const server = await startRespServer({ network: systemNetwork, clock: systemClock, port: 0, commands, access, onDefect: (thrown) => failures.push(thrown) });
  sweep.start();
  return {
    port: server.port,
    async stop() {
      sweep.stop();
      await server.drain(1_000);
      await store.close();
      await log.close();
      await registry.close();
      await rm(folder, { recursive: true, force: true });
      if (failures.length > 0) throw new AggregateError(failures, `${failures.length} failures behind the replies`);
    },
  };
}
