// Writes the state of the aggregations into tables while it goes on changing, so that a restart loads rows and replays only the log behind them.
// A checkpoint: the cut (one moment: an offset of the log, copies of what is small) -> changed rows encoded in slices -> the log synced -> committed (checkpoint-rows.ts).
// Why not when rows change: a popular row changes a thousand times a minute and is written once. Why not row by row with an offset each: what an event does to one row
// depends on others (pairs on the list of the user, a chance on what was shown to everybody), so only rows of one and the same offset give the same answers again.
// Invariants: 1. one checkpoint at a time  2. a checkpoint that fails is given up and its rows count as changed; nothing of the state is lost by it
// 3. between two checkpoints lie at least `everySeconds`, and so many seconds as its bytes take at `kibPerSecond`: the disk is not worn by a state that changes as a whole
// 4. no call of this holds the loop for more than about a millisecond, but for one row.
// Cost: a changed row 2-8 us once a checkpoint, and its bytes are written twice when the checkpoint is larger than a chunk: in all 10 us of this thread, 0.6 KB of garbage
// and, in the log's frames, twice its bytes. Memory: what is encoded and not yet written, at most `bufferedChunksMax` chunks before the checkpoint waits for the disk,
// more only by rows that change meanwhile.

import { type MillraceError, toMillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import type { Store } from "#lsm/store";
import { type CheckpointHead, headFormat } from "./checkpoint-head.ts";
import { type CheckpointRows } from "./checkpoint-rows.ts";
import { chunkBytes, EffectChunks } from "./effect-chunks.ts";
import { Slices } from "./slices.ts";
import { StateRowWriter } from "./state-row.ts";
import { handleColumn, type StateListCut, type StateList, type StateTable } from "./stored-state.ts";

const sliceMs = 0.5;
/** Between two looks at the clock: some 20 us of usual rows; of long lists and full tables of pairs fewer. Chosen. */
const rowsPerLook = 4;
const bytesPerLook = 16 * 1024;
const lookEveryMs = 250;
const retryMs = 1_000;
const giveBackRows = 20_000;
/** Encoded and not yet in the store. */
const bufferedChunksMax = 4;
/** Chunks that may wait for the log: one append of it is one sum over its bytes, 1 to 2 ms a MiB. */
const chunksPerWait = 2;

export interface CheckpointPace {
  /** Seconds between two checkpoints at least. */
  readonly everySeconds: number;
  /** A checkpoint begins earlier once so many records are behind the last one. */
  readonly everyRecords: number;
  /** Kibibytes a second that checkpoints may write on average. */
  readonly kibPerSecond: number;
}

/** Where the state stands at this moment. */
export interface StatePosition {
  /** All records before it are in the state. */
  readonly offset: number;
  /** Ids of what is in the state though its record lies at `offset` or behind. */
  readonly ahead: readonly string[];
  /** What stands in no row. */
  readonly numbers: Readonly<Record<string, number>>;
}

export interface CheckpointerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly rows: CheckpointRows;
  readonly tables: readonly StateTable[];
  readonly lists: readonly StateList[];
  readonly fingerprint: string;
  readonly pace: CheckpointPace;
  readonly position: () => StatePosition;
  /** Resolves once the log is as safe as it can be up to where it is now. */
  readonly sync: () => Promise<void>;
  /** Bytes of a chunk: a checkpoint of one chunk is one transaction. Default `chunkBytes`. */
  readonly chunkBytes?: number;
  /** Told when a checkpoint failed for the first time after one that did not. */
  readonly onTrouble?: (error: MillraceError) => void;
}

export interface CheckpointState {
  /** Checkpoints ever made of this state. */
  readonly number: number;
  /** A restart replays the log from here on. */
  readonly offset: number;
  readonly atMs: number;
  readonly records: number;
  readonly rows: number;
  readonly rowsChanged: number;
  readonly running: boolean;
  /** Of the last one. */
  readonly lastBytes: number;
  readonly lastRows: number;
  readonly lastMs: number;
  /** Since the start. */
  readonly made: number;
  readonly failed: number;
  readonly bytesWritten: number;
  readonly trouble: MillraceError | undefined;
}

export class Checkpointer {
  readonly #options: CheckpointerOptions;
  /** Both are kept from one checkpoint to the next: fresh ones would be the garbage of each. */
  readonly #chunks: EffectChunks;
  readonly #rowOf: ReadonlyMap<StateTable, StateRowWriter>;
  #head: CheckpointHead | undefined;
  /** Committed, and not yet in its rows: comes before anything else. */
  #unfinished: CheckpointHead | undefined;
  #running: Promise<void> | undefined;
  #timer: Timer | undefined;
  #stopped = false;
  #lastBeginMs: number;
  #lastEndMs: number;
  #last = { bytes: 0, rows: 0, ms: 0 };
  #made = 0;
  #failed = 0;
  #bytesWritten = 0;
  #trouble: MillraceError | undefined;

  /** `head`: of the checkpoint that was loaded. */
  constructor(options: CheckpointerOptions, head: CheckpointHead | undefined) {
    this.#options = options;
    this.#chunks = new EffectChunks(options.chunkBytes);
    this.#rowOf = new Map(options.tables.map((table) => [table, new StateRowWriter(options.rows.schemaOf(table.name))]));
    this.#head = head;
    this.#lastBeginMs = this.#lastEndMs = options.clock.monotonicMs();
  }

  /** From now on checkpoints are made when they are due. */
  start(): void {
    if (this.#stopped || this.#timer !== undefined) return;
    this.#timer = this.#options.clock.after(
      lookEveryMs,
      () => {
        this.#timer = undefined;
        const next = this.#isDue() ? this.run() : Promise.resolve();
        void next.catch(() => undefined).then(() => this.start());
      },
      { background: true },
    );
  }

  /** Makes no more of them; one under way ends first. `last`: makes one more when something changed. */
  async stop(last: boolean): Promise<void> {
    this.#timer?.cancel();
    await this.#running?.catch(() => undefined);
    this.#stopped = true;
    this.#timer?.cancel();
    if (last && this.#trouble === undefined) await this.#begin().catch(() => undefined);
  }

  /** Makes a checkpoint now, or waits for the one under way. Rejects when it failed. */
  run(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return this.#begin();
  }

  get state(): CheckpointState {
    const { tables, position } = this.#options;
    const { offset } = position();
    return {
      number: this.#head?.number ?? 0,
      offset: this.#head?.offset ?? 0,
      atMs: this.#head?.atMs ?? 0,
      records: offset - (this.#head?.offset ?? 0),
      rows: tables.reduce((sum, { marks }) => sum + marks.rows, 0),
      rowsChanged: tables.reduce((sum, { marks }) => sum + marks.changed, 0),
      running: this.#running !== undefined,
      lastBytes: this.#last.bytes,
      lastRows: this.#last.rows,
      lastMs: this.#last.ms,
      made: this.#made,
      failed: this.#failed,
      bytesWritten: this.#bytesWritten,
      trouble: this.#trouble,
    };
  }

  #isDue(): boolean {
    const { clock, pace, position } = this.#options;
    const records = position().offset - (this.#head?.offset ?? 0);
    if (records === 0 && this.#unfinished === undefined) return false;
    const nowMs = clock.monotonicMs();
    // The bytes count twice: as chunks and as rows.
    const restMs = Math.max((2 * this.#last.bytes * 1_000) / (pace.kibPerSecond * 1_024), this.#trouble === undefined ? 0 : retryMs);
    if (nowMs - this.#lastEndMs < restMs) return false;
    return records >= pace.everyRecords || nowMs - this.#lastBeginMs >= pace.everySeconds * 1_000;
  }

  #begin(): Promise<void> {
    this.#running ??= this.#make()
      .then(
        () => {
          this.#trouble = undefined;
        },
        (thrown: unknown) => {
          const error = toMillraceError(thrown, "a checkpoint of the aggregations failed");
          this.#failed += 1;
          if (this.#trouble === undefined) this.#options.onTrouble?.(error);
          this.#trouble = error;
          throw error;
        },
      )
      .finally(() => {
        this.#running = undefined;
        this.#lastEndMs = this.#options.clock.monotonicMs();
      });
    return this.#running;
  }

  async #make(): Promise<void> {
    const { clock, tables, lists, rows, store, fingerprint, position } = this.#options;
    if (this.#unfinished !== undefined) {
      this.#head = await rows.finish(this.#unfinished);
      this.#unfinished = undefined;
    }
    const beganMs = clock.monotonicMs();
    this.#lastBeginMs = beganMs;
    const closeAt = this.#options.chunkBytes ?? chunkBytes;
    const chunks = this.#chunks;
    chunks.clear();
    let fault: unknown;

    // The cut: nothing else runs until its end.
    const { offset, ahead, numbers } = position();
    if (offset === this.#head?.offset && tables.every(({ marks }) => marks.changed === 0)) return;
    const atMs = clock.nowMs();
    const head: CheckpointHead = {
      format: headFormat,
      number: (this.#head?.number ?? 0) + 1,
      offset,
      atMs,
      fingerprint,
      staged: 0,
      rows: Object.fromEntries(tables.map(({ name, marks }) => [name, marks.rows])),
      handles: Object.fromEntries(tables.map((table) => [table.name, table.handles()])),
      numbers,
      ahead,
    };
    for (const table of tables) {
      const { namespace } = rows.schemaOf(table.name);
      const row = this.#rowOf.get(table)!;
      table.marks.cut((handle) => {
        // Called by whoever changes the row, too: that must go on whatever happens here.
        try {
          row.begin(atMs);
          row.wholeOrZero(handleColumn, handle);
          for (const part of table.parts) part.save(handle, row);
          chunks.put(namespace, table.keyOf(handle), row.encode());
        } catch (thrown) {
          fault ??= thrown;
        }
      });
    }
    const cuts: StateListCut[] = lists.map((list) => list.cut());

    let staged = 0;
    let bytes = 0;
    const slices = new Slices(clock, sliceMs);
    const stageFull = async (): Promise<void> => {
      for (let chunk = chunks.takeFull(); chunk !== undefined; chunk = chunks.takeFull()) {
        bytes += chunk.length;
        const ticket = rows.stage(staged++, chunk, atMs);
        // The store has a copy.
        chunks.giveBack(chunk);
        if (chunks.bytes > bufferedChunksMax * closeAt || staged % chunksPerWait === 0) await store.durable(ticket);
        await slices.next();
      }
    };
    try {
      for (const { marks } of tables) {
        let looked = chunks.bytes;
        for (let row = 1; marks.saveNext(); row += 1) {
          if (row % rowsPerLook !== 0 && chunks.bytes - looked < bytesPerLook) continue;
          if (slices.due) {
            await slices.next();
            if (chunks.chunks > 0) await stageFull();
          }
          looked = chunks.bytes;
        }
        if (fault !== undefined) throw toMillraceError(fault);
      }
      for (const { pieces, deleted } of cuts) {
        for (const key of deleted) chunks.delete(rows.listNamespace, key);
        for (const piece of pieces) {
          chunks.put(rows.listNamespace, piece.key, rows.listRow(piece.bytes(), atMs));
          if (slices.due) await slices.next();
        }
      }
      chunks.close();
      const only = staged === 0 && chunks.chunks === 1 ? chunks.takeFull() : undefined;
      if (only === undefined) await stageFull();
      await this.#options.sync();
      if (only !== undefined || staged === 0) {
        bytes += only?.length ?? 0;
        const ticket = rows.commit(head, only === undefined ? [] : [only]);
        if (only !== undefined) chunks.giveBack(only);
        await store.durable(ticket);
        this.#head = head;
      } else {
        const committed = { ...head, staged };
        const ticket = rows.commit(committed, []);
        this.#unfinished = committed;
        await store.durable(ticket);
      }
    } catch (thrown) {
      for (const { marks } of tables) marks.giveUp();
      for (const cut of cuts) cut.giveUp();
      for (const { marks } of tables) while (marks.giveBack(giveBackRows)) await slices.next();
      throw thrown;
    }
    for (const { marks } of tables) marks.done();
    for (const cut of cuts) cut.done();
    this.#bytesWritten += this.#unfinished === undefined ? bytes : 2 * bytes;
    this.#last = { bytes, rows: chunks.effects, ms: clock.monotonicMs() - beganMs };
    if (this.#unfinished !== undefined) {
      this.#head = await rows.finish(this.#unfinished);
      this.#unfinished = undefined;
    }
    this.#last = { ...this.#last, ms: clock.monotonicMs() - beganMs };
    this.#made += 1;
  }
}
