// The imported versions of one table in a server: its follower, and what a version is in memory. Wiring only.

import { runFileName, tableVersionMeta } from "#features/import/table-version";
import type { BaseSource, BaseVersion } from "#features/tables/table-base";
import type { TableSchema } from "#features/tables/table-schema";
import type { MemoryPool } from "#kernel/memory-pool";
import type { RunLoader } from "#lsm/run-loader";
import { RunSet } from "#lsm/run-set";
import { MillraceError } from "#base/errors";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";
import { standingBack } from "#platform/workers";
import type { AlarmSink } from "#snapshot/alarm";
import type { LoadSlots } from "#snapshot/load-slots";
import { SnapshotFollower } from "#snapshot/snapshot-follower";
import type { SnapshotStore } from "#snapshot/snapshot-store";

export interface TableBaseOptions {
  readonly snapshots: SnapshotStore;
  readonly schema: TableSchema;
  readonly node: string;
  readonly pool: MemoryPool;
  /** Reads versions into memories of the pool, for all tables of a process. Without it the serving thread does. */
  readonly loader?: RunLoader;
  readonly slots: LoadSlots;
  readonly folder: string;
  readonly onAlarm: AlarmSink;
}

export interface TableBase {
  readonly source: BaseSource;
  readonly follower: SnapshotFollower<BaseVersion>;
}

export function followTable({ snapshots, schema, node, pool, loader, slots, folder, onAlarm }: TableBaseOptions): TableBase {
  const { name } = schema;
  const { storage } = schema.document;
  const follower = new SnapshotFollower<BaseVersion>({
    store: snapshots,
    name,
    node,
    files: systemFiles,
    clock: systemClock,
    workers: standingBack(systemWorkers),
    slots,
    folder,
    onAlarm,
    // Every block of a run in memory is checked when it is loaded, and the whole against the manifest; on disk when it is read.
    loadVerifies: storage === "memory",
    async load(manifest, { files, signal, onProgress }) {
      const meta = tableVersionMeta(manifest.meta, name);
      let done = 0;
      const runs = Array.from({ length: meta.runs }, (_, run) => {
        const file = files.find((one) => one.name === runFileName(run));
        if (file !== undefined) return { path: file.path, bytes: file.bytes, headerCrc32c: undefined, crc32c: file.crc32c };
        throw new MillraceError("corrupt", `version ${manifest.version} of table ${name} has no run ${run}`, { todo: "import it again, or roll back" });
      });
      const set = await RunSet.open(runs, {
        files: systemFiles,
        clock: systemClock,
        pool,
        owner: `table ${name} ${manifest.version}`,
        storage,
        signal,
        ...(loader === undefined ? {} : { loader }),
        onRead: (bytes) => onProgress((done += bytes)),
      });
      return { value: { version: manifest.version, runs: set, rows: set.count }, close: () => set.close() };
    },
  });
  return {
    follower,
    source: {
      lease: () => follower.lease(),
      get awaited() {
        return follower.awaited;
      },
      get live() {
        return follower.state.live;
      },
      get versions() {
        const { serving, loaded } = follower.state;
        return loaded.map(({ version }) => version).sort((a, b) => Number(b === serving) - Number(a === serving));
      },
    },
  };
}
