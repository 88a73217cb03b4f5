// Brings the state back at a start, and keeps it while the server runs: the latest checkpoint is loaded, what the log holds behind it is counted by `rebuild`.
// Invariants: 1. a checkpoint counts only when it was made by the same declarations and the log goes on where it ends; else everything is counted again from the log
// 2. where the log does not reach back any more, the start is refused and says what would be lost, unless `acceptLoss` is configured.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Log, LogBounds, LogWriter } from "#backbone/log";
import type { CheckpointHead } from "#features/checkpoint/checkpoint-head";
import type { CheckpointRows } from "#features/checkpoint/checkpoint-rows";
import { Checkpointer } from "#features/checkpoint/checkpointer";
import type { Declarations } from "#features/feature-set";
import type { TableSchema } from "#features/tables/table-schema";
import type { Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import type { ActivityState } from "./activity-state.ts";
import type { CheckpointConfig } from "./config.ts";

/** Where checkpoints are kept. */
export interface CheckpointPlace {
  readonly store: Store;
  /** Of `activityTablesOf`, by name. */
  readonly schemas: ReadonlyMap<string, TableSchema>;
}

export const checkpointDefaults = {
  everySeconds: 60,
  everyRecords: 200_000,
  kibPerSecond: 512,
  acceptLoss: false,
} as const satisfies Required<CheckpointConfig>;

export interface ActivityCheckpointsOptions<D extends Declarations> {
  readonly place: CheckpointPlace;
  readonly state: ActivityState<D>;
  readonly clock: Clock;
  readonly config: CheckpointConfig;
  /** See CheckpointerOptions: small ones make tests go the long way. */
  readonly chunkBytes?: number;
  /** Told what an operator should know, a sentence each. */
  readonly warn: (message: string) => void;
}

export class ActivityCheckpoints<D extends Declarations> {
  readonly #options: ActivityCheckpointsOptions<D>;
  readonly #rows: CheckpointRows;
  #head: CheckpointHead | undefined;
  #checkpointer: Checkpointer | undefined;

  constructor(options: ActivityCheckpointsOptions<D>) {
    const { place, state, clock } = options;
    this.#options = options;
    this.#rows = state.tables.rows(place.store, clock, place.schemas);
  }

  /** Loads the checkpoint into the empty state, if there is one that fits; the state's position says up to where. Returns how many rows. The log's writer must be open: only it knows
   * where the log ends after one that fell. */
  async restore(log: Log, partition: string, onRows: (rows: number) => void): Promise<number> {
    const { state, warn } = this.#options;
    const bounds = await log.bounds(partition);
    let head = this.#rows.head();
    if (head !== undefined && head.staged > 0) head = await this.#rows.finish(head);
    const misfit = head === undefined ? undefined : misfitOf(head, state.fingerprint, bounds);
    let rows = 0;
    if (head !== undefined && misfit === undefined) {
      rows = await this.#load(head, bounds, onRows);
      this.#head = head;
      state.position = head.offset;
      for (const id of head.ahead) state.ahead.add(id);
    } else {
      this.#checkLoss(misfit, bounds);
      const cleared = await this.#rows.clear();
      if (misfit !== undefined) warn(`${misfit}: ${cleared} rows are cleared, everything is counted again from the log`);
    }
    state.tables.follow();
    return rows;
  }

  /** Makes checkpoints from now on. */
  start(writer: LogWriter): void {
    const { place, state, clock, config, chunkBytes, warn } = this.#options;
    const { everySeconds, everyRecords, kibPerSecond } = { ...checkpointDefaults, ...config };
    const { tables } = state;
    this.#checkpointer = new Checkpointer(
      {
        store: place.store,
        clock,
        rows: this.#rows,
        tables: tables.tables,
        lists: tables.lists,
        fingerprint: state.fingerprint,
        pace: { everySeconds, everyRecords, kibPerSecond },
        position: () => ({ offset: state.position, ahead: [...state.ahead], numbers: tables.numbers }),
        sync: () => writer.sync(),
        ...(chunkBytes === undefined ? {} : { chunkBytes }),
        onTrouble: (error) => warn(`the aggregations cannot be kept, a restart counts more of the log: ${error.message}`),
      },
      this.#head,
    );
    this.#checkpointer.start();
  }

  get checkpointer(): Checkpointer | undefined {
    return this.#checkpointer;
  }

  async #load(head: CheckpointHead, bounds: LogBounds, onRows: (rows: number) => void): Promise<number> {
    const { state } = this.#options;
    try {
      state.tables.numbers = head.numbers;
      return await this.#rows.load(head, onRows);
    } catch (thrown) {
      const error = toMillraceError(thrown);
      if (error.code !== "corrupt" || bounds.first > 0) throw error;
      // What was loaded stands half in memory: the next start begins from the log alone.
      await this.#rows.clear();
      throw new MillraceError("corrupt", "the kept aggregations are damaged and were cleared", {
        cause: thrown,
        todo: "start again: everything is counted from the log; check the disk",
      });
    }
  }

  #checkLoss(misfit: string | undefined, { first }: LogBounds): void {
    if (first === 0) return;
    const lost = `the first ${first} records of the activity log were trimmed and cannot be counted again`;
    if (this.#options.config.acceptLoss === true) {
      this.#options.warn(`${misfit ?? "there is no checkpoint"}; ${lost}`);
      return;
    }
    throw new MillraceError("invalid", `${misfit ?? "there is no checkpoint of the aggregations"}, and ${lost}`, {
      todo: "undo what changed (configuration, data folder), or accept to go on without what those records said: checkpoint.acceptLoss in the configuration",
    });
  }
}

/** Why a checkpoint cannot be used, undefined when it can. */
function misfitOf(head: CheckpointHead, fingerprint: string, bounds: LogBounds): string | undefined {
  if (head.fingerprint !== fingerprint) return "the aggregations are declared otherwise than those that were kept";
  if (head.offset > bounds.next) return `the aggregations hold ${head.offset} records, the activity log ${bounds.next}`;
  if (head.offset < bounds.first) return `the aggregations end at record ${head.offset}, the activity log begins at ${bounds.first}`;
  return undefined;
}
