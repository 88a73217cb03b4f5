// The live model's rows between servers: led where they are trained, followed where they only rank. One SyncNode over the shard of the machine, in the thread that writes it.
//
// What is special of a model: its trainer is the only writer for ever, and what it knows is a function of its log. After a start it learns again what a crash took, so nothing that followers
// hold beyond its checkpoint may come back; after the guard took the parameters back the rows of before must win. Both are one move, `SyncNode.startOver` in a new epoch.
// Evicted rows leave at once and without tombstones, as they do without followers: eviction takes the oldest of a bucket, so a bound says all (`SyncNode.rowsLeft`). So whether a model is
// followed changes nothing of what it learns.
// Invariants: 1. an epoch is on disk before a version of it is handed out; `epochsAhead` of them at a time, since the guard cannot wait  2. optimizer state never travels
//             3. models meet only when extractor, factors, seed and initial values are equal: these are the node's name.
// Cost: where it is led some us a push, 10 us when rows were evicted; a start over about a microsecond a row. Concurrency: the thread that writes the rows.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Prng } from "#base/prng";
import { addressOf } from "#params/sync/sync-address";
import { SyncNode, type SyncTimes } from "#params/sync/sync-node";
import { syncStatusOf } from "#params/sync/sync-status";
import { epochOf, versionLimits } from "#params/sync-table";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { Network } from "#platform/network";
import type { ModelSync } from "#wire/live-api";
import type { FactorisationMachine } from "./factorisation-machine.ts";
import type { ShardRows } from "./shard-rows.ts";

/** Written at a time: a start takes one, each roll-back another. */
const epochsAhead = 8;
const recordName = "sync.json";
const recordBytesMax = 4_096;
/** Its node is reached through the server's port for parameters (SyncPort.passOn). */
const loopback = "127.0.0.1";

export interface ModelSyncOptions {
  readonly machine: FactorisationMachine;
  /** `modelNodeName`. */
  readonly name: string;
  /** 0 to 255, as in `parameters.sync`. */
  readonly node: number;
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Prng;
  readonly token?: string;
  readonly times?: Partial<SyncTimes>;
}

/** What must be equal for rows to mean the same on both sides. No table can have this name. */
export function modelNodeName(extractorId: number, { factors, seed, initialScale }: { factors: number; seed: bigint | number; initialScale: number }): string {
  return `(model) extractor ${extractorId} factors ${factors} seed ${seed} initial ${initialScale}`;
}

/** A model that is trained here and may be followed. */
export class LedModel {
  readonly #node: SyncNode;
  readonly #rows: ShardRows;
  readonly #files: Files;
  readonly #folder: string;
  #epoch: number;
  /** Up to which epochs are taken on disk. */
  #reserved: number;
  readonly #left: Uint32Array;
  #evicted: number;

  private constructor(options: ModelSyncOptions, files: Files, folder: string, epoch: number) {
    const { machine, times } = options;
    this.#rows = machine.table;
    this.#files = files;
    this.#folder = folder;
    this.#epoch = epoch;
    this.#reserved = epoch + epochsAhead - 1;
    const { shard } = this.#rows;
    // Whoever writes the rows says so: `written`.
    const onOvertaken = (): void => this.#startOver(this.#node.highestEpoch + 1);
    this.#node = new SyncNode({ ...options, table: shard, times: { ...times, pollMs: 0 }, onOvertaken });
    this.#left = new Uint32Array(shard.buckets);
    this.#evicted = 0;
  }

  /** Of a machine that has been restored and that nobody trains yet. `folder`: of the model's checkpoints. Throws `corrupt` for a record that is none. */
  static async open(options: ModelSyncOptions, files: Files, folder: string): Promise<LedModel> {
    await files.makeFolder(folder);
    const { shard } = options.machine.table;
    let epoch = (await readEpoch(files, folder)) + 1;
    for (let bucket = 0; bucket < shard.buckets; bucket++) epoch = Math.max(epoch, epochOf(shard.newest(bucket)) + 1);
    const model = new LedModel(options, files, folder, epoch);
    await model.#reserve();
    model.#startOver(epoch);
    model.#node.start();
    return model;
  }

  /** Takes followers of this machine. Returns the port. */
  listen(): Promise<number> {
    return this.#node.listen({ host: loopback, port: 0 });
  }

  /** After steps, in the same turn. */
  written(): void {
    const { shard } = this.#rows;
    const { evicted } = shard.statistics();
    if (evicted !== this.#evicted) {
      this.#evicted = evicted;
      for (let bucket = 0; bucket < shard.buckets; bucket++) {
        const left = shard.left(bucket);
        if (left === this.#left[bucket]) continue;
        this.#left[bucket] = left;
        this.#node.rowsLeft(bucket);
      }
    }
    this.#node.kick();
  }

  /** The machine went back to what it was: followers do too. */
  rolledBack(): void {
    this.#startOver(this.#epoch + 1);
  }

  status(): ModelSync {
    return statusOf(this.#node);
  }

  close(): Promise<void> {
    return this.#node.close();
  }

  #startOver(epoch: number): void {
    const { epochMax } = versionLimits;
    if (epoch > epochMax) {
      throw new MillraceError("unavailable", `the model has begun anew ${epochMax} times`, { todo: "remove DATA/model: training begins anew from the log" });
    }
    this.#epoch = epoch;
    this.#node.startOver(epoch);
    const { shard } = this.#rows;
    for (let bucket = 0; bucket < shard.buckets; bucket++) this.#left[bucket] = shard.left(bucket);
    this.#evicted = shard.statistics().evicted;
    if (epoch <= this.#reserved - epochsAhead / 2) return;
    this.#reserved = epoch + epochsAhead - 1;
    // It stands long before the ones that are left are used up; a failed one is written with the next.
    this.#reserve().catch((thrown: unknown) => toMillraceError(thrown));
  }

  #reserve(): Promise<void> {
    const record = new TextEncoder().encode(JSON.stringify({ version: 1, epoch: this.#reserved }));
    return this.#files.writeFileAtomic(this.#files.join(this.#folder, recordName), record);
  }
}

/** The last epoch that may have been used, at least 1: what a new machine's rows have. */
async function readEpoch(files: Files, folder: string): Promise<number> {
  const path = files.join(folder, recordName);
  const size = await files.sizeOf(path);
  if (size === undefined) return 1;
  const bytes = size > recordBytesMax ? undefined : await files.readFile(path);
  const epoch = bytes === undefined ? 0 : epochIn(bytes);
  if (epoch < 1 || epoch >= versionLimits.epochMax) {
    throw new MillraceError("corrupt", `${path} is not as a millrace writes it`, { todo: "remove it, and restart the followers of this server once it runs" });
  }
  return epoch;
}

/** 0: those bytes are no record. */
function epochIn(bytes: Uint8Array): number {
  try {
    const read = JSON.parse(new TextDecoder().decode(bytes)) as { version?: unknown; epoch?: unknown } | null;
    return read?.version === 1 && Number.isInteger(read.epoch) ? (read.epoch as number) : 0;
  } catch {
    return 0;
  }
}

/** A model that another server trains. */
export class FollowedModel {
  readonly #node: SyncNode;
  #wasCaughtUp = false;

  /** `follow`: addresses as in the configuration. `moved`: told the keys of rows that came (low and high word each, `count` of them). Throws `invalid`. */
  constructor(options: ModelSyncOptions, follow: readonly string[], moved: (keys: Uint32Array, count: number) => void) {
    const { shard } = options.machine.table;
    const sources = follow.map(addressOf);
    this.#node = new SyncNode({
      ...options,
      table: shard,
      times: { ...options.times, pollMs: 0 },
      onJoined: ({ entries }) => moved(entries.keys, entries.count),
    });
    this.#node.addSource(sources, "all");
    this.#node.start();
  }

  /** Takes followers of this machine in turn. Returns the port. */
  listen(): Promise<number> {
    return this.#node.listen({ host: loopback, port: 0 });
  }

  /** Whether it has once been as new as its source; from then on its rows are used, however old. */
  get usable(): boolean {
    this.#wasCaughtUp ||= this.#node.caughtUp;
    return this.#wasCaughtUp;
  }

  status(): ModelSync {
    return statusOf(this.#node);
  }

  close(): Promise<void> {
    return this.#node.close();
  }
}

function statusOf(node: SyncNode): ModelSync {
  const { followers, sources, ...rest } = syncStatusOf([node]);
  return { ...rest, followers: [...followers], sources: [...sources] };
}
