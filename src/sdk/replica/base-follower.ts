// The imported versions of one table in this process: fetched, checked, loaded beside, switched, let go when the last read ends (src/snapshot).
// Limit: all files of a version are fetched to the local disk, also those of shards that were not chosen; memory holds the chosen ones alone.

import { MillraceError } from "#base/errors";
import { runFileName, tableVersionMeta, type TableVersionMeta } from "#features/import/table-version";
import type { BaseSource, BaseVersion } from "#features/tables/table-base";
import type { MemoryPool } from "#kernel/memory-pool";
import type { RunToLoad } from "#lsm/loaded-run";
import type { RunLoader } from "#lsm/run-loader";
import { RunSet } from "#lsm/run-set";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { AlarmSink } from "#snapshot/alarm";
import type { Manifest } from "#snapshot/manifest";
import { type FollowerState, type Lease, type LoadContext, type Loaded, SnapshotFollower } from "#snapshot/snapshot-follower";
import type { SnapshotStore } from "#snapshot/snapshot-store";
import { ReplicaRuns } from "./replica-runs.ts";

export interface ReplicaVersion extends BaseVersion {
  readonly runs: ReplicaRuns;
  readonly meta: TableVersionMeta;
}

export interface BaseFollowerOptions {
  readonly snapshots: SnapshotStore;
  readonly table: string;
  /** Who follows; one follower a table and node. */
  readonly node: string;
  readonly files: Files;
  readonly clock: Clock;
  readonly pool: MemoryPool;
  /** Reads versions into memories of the pool; without it the calling thread does. */
  readonly loader: RunLoader | undefined;
  /** Local place of the fetched files. */
  readonly folder: string;
  /** Undefined: all. */
  readonly shards: readonly number[] | undefined;
  readonly onAlarm: AlarmSink;
  /** Told before a version is served, so that its schema can be taken over first. */
  readonly onVersion: (version: ReplicaVersion) => void;
}

export class BaseFollower implements BaseSource {
  readonly #options: BaseFollowerOptions;
  readonly #follower: SnapshotFollower<ReplicaVersion>;

  constructor(options: BaseFollowerOptions) {
    this.#options = options;
    const { snapshots, table, node, files, clock, folder, onAlarm, onVersion } = options;
    this.#follower = new SnapshotFollower<ReplicaVersion>({
      store: snapshots,
      name: table,
      node,
      files,
      clock,
      folder,
      onAlarm,
      loadVerifies: true,
      load: (manifest, context) => this.#load(manifest, context),
      check: (version) => {
        onVersion(version);
        return [];
      },
    });
  }

  /** Resolves when what is published now is served, or was refused. */
  async start(): Promise<void> {
    this.#follower.start();
    await this.#follower.settled;
  }

  stop(): Promise<void> {
    return this.#follower.stop();
  }

  lease(): Lease<ReplicaVersion> | undefined {
    return this.#follower.lease();
  }

  /** For reads that end before the next await. */
  get value(): ReplicaVersion | undefined {
    return this.#follower.value;
  }

  get awaited(): boolean {
    return this.#follower.awaited;
  }

  get live(): string | undefined {
    return this.#follower.state.live;
  }

  get versions(): readonly string[] {
    const { serving, loaded } = this.#follower.state;
    return loaded.map(({ version }) => version).sort((a, b) => Number(b === serving) - Number(a === serving));
  }

  get state(): FollowerState {
    return this.#follower.state;
  }

  async #load(manifest: Manifest, { files: fetched, signal, onProgress }: LoadContext): Promise<Loaded<ReplicaVersion>> {
    const { table, shards, files, clock, pool, loader } = this.#options;
    const meta = tableVersionMeta(manifest.meta, table);
    const perShard = meta.runs / meta.shards;
    const held: number[] = [];
    const wanted: RunToLoad[] = [];
    for (const shard of shards ?? Array.from({ length: meta.shards }, (_, one) => one)) {
      if (!Number.isInteger(shard) || shard < 0 || shard >= meta.shards) {
        throw new MillraceError("invalid", `shard ${shard} of table ${table}, which has ${meta.shards}`, { todo: "choose shards that there are" });
      }
      for (let run = shard * perShard; run < (shard + 1) * perShard; run++) {
        const file = fetched.find(({ name }) => name === runFileName(run));
        if (file === undefined) {
          throw new MillraceError("corrupt", `version ${manifest.version} of table ${table} has no run ${run}`, { todo: "import it again, or roll back" });
        }
        held.push(run);
        wanted.push({ path: file.path, bytes: file.bytes, headerCrc32c: undefined, crc32c: file.crc32c });
      }
    }
    const owner = `replica ${table} ${manifest.version}`;
    let done = 0;
    const set = await RunSet.open(wanted, {
      files,
      clock,
      pool,
      owner,
      storage: "memory",
      signal,
      onRead: (bytes) => onProgress((done += bytes)),
      ...(loader === undefined ? {} : { loader }),
    });
    const runs = new ReplicaRuns({ set, held, runs: meta.runs, seed: meta.seed });
    return { value: { version: manifest.version, runs, rows: runs.rows, meta }, close: () => runs.close() };
  }
}
