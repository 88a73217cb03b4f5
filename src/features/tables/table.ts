// A feature table: rows of typed columns, read from an imported version (base) and live writes (delta) as one.
// Reading is one look-up of all keys in each tree, one gather of byte ranges by the kernel, and a walk over the few rows that need more: rows that both trees have, older
// revisions, sparse rows, expired cells.
// Why both trees are asked for every key: a live write of one column leaves the others to the base.
// Invariants: 1. an answer is of one imported version and of one moment of the delta, whose log offset it carries  2. a key that is not there and a table that is not
// loaded are told by row, never as values  3. a write is one transaction of the log: all its rows or none  4. nothing a caller sends reaches the store unchecked.
// Cost: docs/design/tables.md. Concurrency: the serving loop alone; a look-up in a version on disk waits, everything else does not.
// Limits: tableLimits.

import { MillraceError } from "#base/errors";
import { absentSource, EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import type { KernelMemory } from "#kernel/kernel-memory";
import { EffectBatch } from "#lsm/effect-batch";
import { isHidden, type Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import { tableLimits } from "#wire/table-limits";
import { BlockWriter } from "./block-writer.ts";
import { type CellValue, setText, setValue, valueOf } from "./cell-values.ts";
import { rowStatus } from "./column-block.ts";
import { ColumnHealth, type ColumnHealthStatus } from "./column-health.ts";
import { ReadPlan } from "./read-plan.ts";
import { cellState, RowCells, rowFlags, rowKind } from "./row-cells.ts";
import { fromBase, fromNone, isLive, winnerOf } from "./row-merge.ts";
import type { BaseLease, BaseSource } from "./table-base.ts";
import { TableGather } from "./table-gather.ts";
import type { Column, Owner, TableSchema } from "./table-schema.ts";

export interface TableOptions {
  readonly schema: TableSchema;
  readonly store: Store;
  readonly clock: Clock;
  /** Imported versions; left out, the table holds live writes alone. */
  readonly base?: BaseSource;
  /** Writes are refused: the server itself writes the rows. */
  readonly readOnly?: boolean;
}

/** A value for a column: as JavaScript has it, or as an argument of a command. */
export interface CellWrite {
  readonly column: Column;
  /** null makes the cell null. */
  readonly value: unknown;
}

export interface RowWrite {
  /** The user's key as the table stores it (`keyBytesOf`). */
  readonly key: Uint8Array;
  readonly cells: readonly CellWrite[];
  /** The values are arguments of a command (`setText`), not JavaScript values. */
  readonly text?: boolean;
  /** When the values were true, ms since 1970: a cell with a later time stays. Left out: now, and the write counts whatever was there. */
  readonly timeMs?: number;
  /** All must hold, or the row is not written; a null value: the cell has no value. */
  readonly conditions?: readonly CellWrite[];
}

/** What became of a row of a write. `stale`: all its cells had later times. */
export const writeOutcome = { written: 0, conditionFailed: 1, stale: 2 } as const;

export interface WriteAnswer {
  /** For `Table.durable`. Undefined when nothing was written. */
  readonly ticket: number | undefined;
  /** Of `writeOutcome`, by row. */
  readonly outcomes: Uint8Array;
  readonly written: number;
}

/** One cell as a person or Feast looks at it. */
export interface Cell {
  /** `expired` has the value that expired, as long as it is still stored. */
  readonly state: "value" | "null" | "expired" | "absent";
  readonly value: CellValue | undefined;
  readonly timeMs: number;
  /** 0: never. */
  readonly expiryMs: number;
  /** From the imported version or a live write; undefined for an absent one. */
  readonly from: "base" | "delta" | undefined;
}

export interface LookedRow {
  /** Of `rowStatus`. */
  readonly status: number;
  /** By the columns asked for. */
  readonly cells: readonly Cell[];
}

export interface LookAnswer {
  readonly version: string;
  readonly logOffset: number;
  readonly nowMs: number;
  readonly rows: readonly LookedRow[];
}

export interface TableState {
  readonly name: string;
  readonly namespace: number;
  readonly key: "string" | "u64";
  readonly entity: string;
  readonly storage: "memory" | "disk";
  readonly revision: number;
  /** False while a published version is not loaded yet. */
  readonly loaded: boolean;
  /** The version that is read; "" without one. */
  readonly version: string;
  /** The version that is live: another one than `version` while it is loaded, or when it was refused here; "" without one. */
  readonly live: string;
  readonly versions: readonly string[];
  /** Of the imported version. */
  readonly baseRows: number;
  /** Of a version on disk, since it was loaded: reads, and their bytes. */
  readonly diskReads: { readonly reads: number; readonly bytes: number };
  readonly logOffset: number;
  readonly counts: {
    readonly reads: number;
    readonly keysRead: number;
    readonly keysAbsent: number;
    readonly rowsWritten: number;
    readonly rowsDeleted: number;
    readonly rowsStale: number;
    readonly conditionsFailed: number;
  };
  readonly columns: readonly (ColumnHealthStatus & {
    readonly name: string;
    readonly id: number;
    readonly type: string;
    readonly elements: number;
    readonly owner: Owner;
    readonly ttlMs: number;
  })[];
}

const plansMax = 256;
const noCell: Cell = { state: "absent", value: undefined, timeMs: 0, expiryMs: 0, from: undefined };

/** One look-up under way: what was found in the base, and the lease that keeps it. */
interface Look {
  readonly base: EntryRefs;
  lease: BaseLease | undefined;
}

export class Table {
  readonly schema: TableSchema;
  readonly readOnly: boolean;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #base: BaseSource | undefined;
  readonly #plans = new Map<string, ReadPlan>();
  readonly #all: ReadPlan;
  readonly #gathers = new WeakMap<ReadPlan, TableGather>();
  readonly #delta = new EntryRefs();
  readonly #looks: Look[] = [];
  readonly #block = new BlockWriter();
  readonly #baseCells: RowCells;
  readonly #deltaCells: RowCells;
  readonly #wanted: RowCells;
  readonly #effects = new EffectBatch();
  readonly #keys = new KeyBatch();
  readonly #health: ColumnHealth;
  #touched = new Uint8Array(0);
  #live = new Uint8Array(0);
  #reads = 0;
  #keysRead = 0;
  #keysAbsent = 0;
  #rowsWritten = 0;
  #rowsDeleted = 0;
  #rowsStale = 0;
  #conditionsFailed = 0;

  constructor(options: TableOptions) {
    this.schema = options.schema;
    this.readOnly = options.readOnly === true;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#base = options.base;
    this.#all = new ReadPlan(options.schema, undefined);
    this.#baseCells = new RowCells(options.schema);
    this.#deltaCells = new RowCells(options.schema);
    this.#wanted = new RowCells(options.schema);
    this.#health = new ColumnHealth(options.schema);
  }

  /** The plan of a read of these columns, as names or as a text with commas between them; all when left out. Kept: the next of the same is free. Throws `invalid`. */
  plan(names?: readonly string[] | string): ReadPlan {
    if (names === undefined) return this.#all;
    // Names that are asked for may be any texts: what was asked as one text must not answer a list, nor the other way round.
    const key = typeof names === "string" ? `,${names}` : `\u0000${names.join("\u0000")}`;
    let plan = this.#plans.get(key);
    if (plan === undefined) {
      plan = new ReadPlan(this.schema, typeof names === "string" ? names.split(",") : names);
      if (this.#plans.size >= plansMax) this.#plans.delete(this.#plans.keys().next().value!);
      this.#plans.set(key, plan);
    }
    return plan;
  }

  /** Adds the bytes `start` to `end` of `memory` to a batch, as the engine's key of this table. Throws `invalid` for a key that cannot be one. */
  addKey(keys: KeyBatch, memory: Uint8Array, start = 0, end = memory.length): void {
    const length = end - start;
    if (this.schema.key === "u64" ? length !== 8 : length === 0 || length > tableLimits.keyBytesMax) {
      throw new MillraceError("invalid", `a key of ${length} bytes for table ${this.schema.name}`, {
        todo: this.schema.key === "u64" ? "keys of this table are 8 bytes, big-endian" : `use 1 to ${tableLimits.keyBytesMax} bytes`,
      });
    }
    keys.addIn(this.schema.namespace, memory, start, end);
  }

  /**
   * Adds the keys of a run (KeyBatch.addRunIn) as `addKey` does. Returns how many: fewer than `count` when the bounds of the next one are not in order or do not lie within
   * the run. Throws as `addKey`.
   */
  addKeys(keys: KeyBatch, memory: Uint8Array, run: { readonly count: number; readonly boundsAt: number; readonly from: number; readonly to: number }): number {
    const isText = this.schema.key === "string";
    const added = keys.addRunIn(this.schema.namespace, memory, { ...run, keyBytesMin: isText ? 1 : 8, keyBytesMax: isText ? tableLimits.keyBytesMax : 8 });
    if (added === run.count) return added;
    const view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
    const start = run.from + view.getUint32(run.boundsAt + 4 * added, true);
    const end = run.from + view.getUint32(run.boundsAt + 4 * added + 4, true);
    // Where the bounds are right it is the length that is wrong.
    if (start <= end && end <= run.to) this.addKey(keys, memory, start, end);
    return added;
  }

  /**
   * Reads rows as a column block (docs/format/column-block.md), a view that holds until the next read. `keys` by `addKey`, at most tableLimits.readKeysMax.
   * A promise only when the imported version lies on disk; `keys` must then stay as they are. `pinned`: read this version, which stays the caller's.
   */
  read(keys: KeyBatch, plan: ReadPlan, pinned?: BaseLease): Uint8Array | Promise<Uint8Array> {
    this.#checkKeys(keys);
    return this.#look(keys, (look) => this.#answer(keys, plan, look), pinned);
  }

  /** The version that is read now, for several reads of the same; give it back soon. Undefined without one. */
  pin(): BaseLease | undefined {
    return this.#base?.lease();
  }

  /** Looks at rows cell by cell, with times and where each comes from: for people and for Feast. `pinned` as in `read`. */
  look(keys: KeyBatch, columns: readonly Column[], pinned?: BaseLease): LookAnswer | Promise<LookAnswer> {
    this.#checkKeys(keys);
    return this.#look(
      keys,
      (look) => {
        const nowMs = this.#clock.nowMs();
        this.#store.getMany(keys, this.#delta, 0);
        const loaded = this.#isLoaded(look);
        const rows: LookedRow[] = [];
        for (let row = 0; row < keys.count; row += 1) {
          if (!loaded) {
            rows.push({ status: rowStatus.notLoaded, cells: columns.map(() => noCell) });
            continue;
          }
          const merged = this.#load(row, look);
          const exists = merged !== undefined && this.#exists(merged, nowMs);
          rows.push({
            status: exists ? rowStatus.found : rowStatus.absent,
            cells: columns.map((column) => (merged === undefined ? noCell : cellOf(column, merged, nowMs))),
          });
        }
        return { version: look.lease?.value.version ?? "", logOffset: this.#store.offset, nowMs, rows };
      },
      pinned,
    );
  }

  /** Which of the keys have a row now, by `rowStatus`. */
  statuses(keys: KeyBatch, pinned?: BaseLease): Uint8Array | Promise<Uint8Array> {
    this.#checkKeys(keys);
    return this.#look(
      keys,
      (look) => {
        const nowMs = this.#clock.nowMs();
        this.#store.getMany(keys, this.#delta, 0);
        return this.#statusesOf(keys.count, look, nowMs);
      },
      pinned,
    );
  }

  /** Writes rows; see RowWrite. A promise only when there are conditions and the imported version lies on disk. Throws `invalid`, and what Store.write throws. */
  write(rows: readonly RowWrite[]): WriteAnswer | Promise<WriteAnswer> {
    if (rows.length > tableLimits.writeRowsMax) {
      throw new MillraceError("invalid", `${rows.length} rows in one write`, { todo: `write at most ${tableLimits.writeRowsMax} at once` });
    }
    this.#checkWritable();
    const keys = this.#keys;
    keys.clear();
    for (const { key } of rows) this.addKey(keys, key);
    if (rows.every(({ conditions }) => conditions === undefined || conditions.length === 0)) return this.#write(rows, keys, undefined);
    // Conditions look at the whole row. The keys are kept: while a look-up waits, another write may use the batch.
    const kept = KeyBatch.of([]);
    for (const { key } of rows) this.addKey(kept, key);
    return this.#look(kept, (look) => {
      if (!this.#isLoaded(look)) throw this.#notLoaded();
      return this.#write(rows, kept, look);
    });
  }

  /** Deletes rows. `deleted`: how many of the keys had one. */
  delete(keys: KeyBatch): { ticket: number | undefined; deleted: number } | Promise<{ ticket: number | undefined; deleted: number }> {
    this.#checkKeys(keys);
    this.#checkWritable();
    return this.#look(keys, (look) => {
      const nowMs = this.#clock.nowMs();
      const { namespace } = this.schema;
      this.#store.getMany(keys, this.#delta, 0);
      if (!this.#isLoaded(look)) throw this.#notLoaded();
      const statuses = this.#statusesOf(keys.count, look, nowMs);
      const effects = this.#effects;
      effects.clear();
      let deleted = 0;
      const { bytes, offsets } = keys;
      for (let row = 0; row < keys.count; row += 1) {
        if (statuses[row] !== rowStatus.found) continue;
        deleted += 1;
        // Not before what is there: a clock that went back must not leave the row standing.
        const live = this.#delta.source[row] === absentSource ? 0 : this.#delta.timeMs[row]!;
        const old = look.base.source[row] === absentSource || look.lease === undefined ? 0 : look.base.timeMs[row]!;
        effects.delete(namespace, bytes.subarray(offsets[row]! + 2, offsets[row + 1]), Math.max(1, nowMs, live, old));
      }
      this.#rowsDeleted += deleted;
      return { ticket: deleted === 0 ? undefined : this.#store.write(effects), deleted };
    });
  }

  /** Resolves when the write is as durable as the log's policy says. */
  durable(ticket: number | undefined): Promise<void> {
    return ticket === undefined ? Promise.resolve() : this.#store.durable(ticket);
  }

  get state(): TableState {
    const { schema } = this;
    const lease = this.#base?.lease();
    const version = lease?.value.version ?? "";
    const baseRows = lease?.value.rows ?? 0;
    const diskReads = lease?.value.runs.diskReads ?? { reads: 0, bytes: 0 };
    lease?.release();
    return {
      name: schema.name,
      namespace: schema.namespace,
      key: schema.key,
      entity: schema.entity,
      storage: schema.document.storage,
      revision: schema.layout.revision,
      loaded: lease !== undefined || this.#base?.awaited !== true,
      version,
      live: this.#base?.live ?? version,
      versions: this.#base?.versions ?? [],
      baseRows,
      diskReads,
      logOffset: this.#store.offset,
      counts: {
        reads: this.#reads,
        keysRead: this.#keysRead,
        keysAbsent: this.#keysAbsent,
        rowsWritten: this.#rowsWritten,
        rowsDeleted: this.#rowsDeleted,
        rowsStale: this.#rowsStale,
        conditionsFailed: this.#conditionsFailed,
      },
      columns: schema.columns.map((column, i) => {
        const { name, id, type, elements, owner, ttlMs } = column;
        return { name, id, type, elements, owner, ttlMs, ...this.#health.status(i) };
      }),
    };
  }

  /** The store, imported versions and clock of this table: for scans. */
  get parts(): { readonly store: Store; readonly base: BaseSource | undefined; readonly clock: Clock } {
    return { store: this.#store, base: this.#base, clock: this.#clock };
  }

  // ---- reading ----------------------------------------------------------------------------------------------------------------------

  /** Looks the keys up in the base, then does the rest in one go; gives the lease back whatever happens. */
  #look<T>(keys: KeyBatch, rest: (look: Look) => T, pinned?: BaseLease): T | Promise<T> {
    const look = this.#looks.pop() ?? { base: new EntryRefs(), lease: undefined };
    const done = (): void => {
      if (pinned === undefined) look.lease?.release();
      look.lease = undefined;
      this.#looks.push(look);
    };
    let waits: void | Promise<void>;
    try {
      look.lease = pinned ?? this.#base?.lease();
      look.base.reset(keys.count);
      waits = look.lease?.value.runs.getMany(keys, look.base, 0);
    } catch (thrown) {
      done();
      throw thrown;
    }
    if (waits !== undefined) return waits.then(() => rest(look)).finally(done);
    try {
      return rest(look);
    } finally {
      done();
    }
  }

  #isLoaded(look: Look): boolean {
    return look.lease !== undefined || this.#base?.awaited !== true;
  }

  #answer(keys: KeyBatch, plan: ReadPlan, look: Look): Uint8Array {
    const nowMs = this.#clock.nowMs();
    const rows = keys.count;
    const block = this.#block;
    const delta = this.#delta;
    const { base, lease } = look;
    this.#store.getMany(keys, delta, 0);
    block.begin(plan, rows, lease?.value.version ?? "", this.#store.offset);
    this.#reads += 1;
    this.#keysRead += rows;
    if (!this.#isLoaded(look)) {
      for (let row = 0; row < rows; row += 1) {
        block.setDefaults(row);
        block.setStatus(row, rowStatus.notLoaded);
      }
      return block.finish();
    }
    if (this.#touched.length < rows) {
      this.#touched = new Uint8Array(rows);
      this.#live = new Uint8Array(rows);
    }
    const touched = this.#touched;
    touched.fill(0, 0, rows);
    const layout = this.schema.layout;
    const baseFound = base.found > 0;
    const gather = this.#gatherOf(plan);
    if (baseFound) gather.gather(block, base, base.source, (source) => lease!.value.runs.memoryOf(source), touched);
    if (delta.found > 0) {
      // Rows that both trees have are laid over what was gathered from the base.
      const live = this.#live;
      for (let row = 0; row < rows; row += 1) live[row] = base.source[row] === absentSource ? delta.source[row]! : absentSource;
      gather.gather(block, delta, live, (source) => this.#store.memoryOf(source), touched);
    }
    let absent = 0;
    const hasTexts = plan.texts.length > 0;
    for (let row = 0; row < rows; row += 1) {
      const inDelta = delta.source[row] !== absentSource;
      const inBase = base.source[row] !== absentSource;
      let status: number = rowStatus.found;
      // What nearly all rows are: on one side alone, gathered, without times of cells, without an expiry. All that is left to say is that they are there.
      if (touched[row] === 1 && inDelta !== inBase && !hasTexts) {
        const refs = inBase ? base : delta;
        if ((!refs.timed || refs.expiryMs[row] === 0) && !(inBase && isHidden(delta, row))) {
          block.setStatus(row, status);
          continue;
        }
      }
      if (!inDelta && !inBase) {
        block.setDefaults(row);
        status = rowStatus.absent;
      } else {
        const refs = inBase ? base : delta;
        const memory = touched[row] === 0 ? undefined : inBase ? lease!.value.runs.memoryOf(base.source[row]!) : this.#store.memoryOf(delta.source[row]!);
        const plain =
          memory !== undefined && isFresh(memory, refs, row, layout.fixedTo, nowMs) && (plan.texts.length === 0 || pointTexts(block, plan, row, memory, refs));
        if (!plain) status = this.#mergeRow(row, look, plan, nowMs);
        else if (inBase && inDelta) {
          if (!this.#layOver(row, look, plan, nowMs, memory)) status = this.#mergeRow(row, look, plan, nowMs);
        } else if (inBase && isHidden(delta, row)) status = this.#mergeRow(row, look, plan, nowMs);
      }
      if (status !== rowStatus.found) absent += 1;
      block.setStatus(row, status);
    }
    this.#keysAbsent += absent;
    this.#health.sample(block, lease?.value.version ?? "");
    return block.finish();
  }

  #gatherOf(plan: ReadPlan): TableGather {
    let gather = this.#gathers.get(plan);
    if (gather === undefined) {
      gather = new TableGather(plan);
      this.#gathers.set(plan, gather);
    }
    return gather;
  }

  /** A live row over the same row of the base, which was gathered whole. False: it takes more than that. */
  #layOver(row: number, look: Look, plan: ReadPlan, nowMs: number, memory: KernelMemory): boolean {
    const { base } = look;
    // Cells with times of their own: the general way.
    if ((memory.bytes[base.at[row]! + 1]! & rowFlags.cells) !== 0) return false;
    const cells = this.#deltaCells;
    this.#loadInto(cells, this.#delta, row, this.#store.memoryOf(this.#delta.source[row]!));
    const baseTimeMs = base.timeMs[row]!;
    if (cells.floorMs > 0 && baseTimeMs <= cells.floorMs) return false;
    const { byPlace } = plan;
    for (let place = 0; place < byPlace.length; place += 1) {
      const column = byPlace[place];
      if (column === undefined || cells.state[place] === cellState.unsaid) continue;
      const { owner } = column.column;
      if (owner !== "stream" && this.#block.isValid(row, column) && (owner === "batch" || baseTimeMs > cells.timeMs[place]!)) continue;
      if (isLive(cells, place, nowMs)) this.#block.set(row, column, cells.bytes, cells.at[place]!, cells.length[place]!);
      else this.#block.unset(row, column);
    }
    return true;
  }

  /** A row put together cell by cell. Returns its status. */
  #mergeRow(row: number, look: Look, plan: ReadPlan, nowMs: number): number {
    const block = this.#block;
    const merged = this.#load(row, look);
    block.setDefaults(row);
    if (merged === undefined || !this.#exists(merged, nowMs)) return rowStatus.absent;
    for (const planned of plan.columns) {
      const { laid, owner } = planned.column;
      const from = winnerOf(owner, laid.at, merged.base, merged.delta, merged.deletedMs);
      if (from === fromNone) continue;
      const cells = from === fromBase ? merged.base! : merged.delta!;
      if (isLive(cells, laid.at, nowMs)) block.set(row, planned, cells.bytes, cells.at[laid.at]!, cells.length[laid.at]!);
    }
    return rowStatus.found;
  }

  /** Both sides of a row taken apart; undefined when neither tree has one. */
  #load(row: number, look: Look): MergedRow | undefined {
    const delta = this.#delta;
    const { base, lease } = look;
    const inBase = lease !== undefined && base.source[row] !== absentSource;
    const inDelta = delta.source[row] !== absentSource;
    if (!inBase && !inDelta) return undefined;
    if (inBase) this.#loadInto(this.#baseCells, base, row, lease.value.runs.memoryOf(base.source[row]!));
    if (inDelta) this.#loadInto(this.#deltaCells, delta, row, this.#store.memoryOf(delta.source[row]!));
    return {
      base: inBase ? this.#baseCells : undefined,
      delta: inDelta ? this.#deltaCells : undefined,
      deletedMs: inDelta || !isHidden(delta, row) ? 0 : deletionTime(delta, row),
    };
  }

  #loadInto(cells: RowCells, refs: EntryRefs, row: number, memory: KernelMemory): void {
    const at = refs.at[row]!;
    if (refs.kind[row] !== rowKind) {
      throw new MillraceError("corrupt", `an entry of kind ${refs.kind[row]} in table ${this.schema.name}`, { todo: "check the disk that holds the table" });
    }
    cells.load(memory.bytes.subarray(at, at + refs.bytes[row]!), refs.timed ? refs.timeMs[row]! : 0, refs.timed ? refs.expiryMs[row]! : 0);
  }

  /** Whether anything of the row is still said: a value or a null that has not expired. */
  #exists(merged: MergedRow, nowMs: number): boolean {
    for (const { laid, owner } of this.schema.columns) {
      const from = winnerOf(owner, laid.at, merged.base, merged.delta, merged.deletedMs);
      if (from === fromNone) continue;
      const expiryMs = (from === fromBase ? merged.base! : merged.delta!).expiryMs[laid.at]!;
      if (expiryMs === 0 || expiryMs > nowMs) return true;
    }
    return false;
  }

  #statusesOf(count: number, look: Look, nowMs: number): Uint8Array {
    const statuses = new Uint8Array(count);
    const loaded = this.#isLoaded(look);
    for (let row = 0; row < count; row += 1) {
      if (!loaded) {
        statuses[row] = rowStatus.notLoaded;
        continue;
      }
      const merged = this.#load(row, look);
      statuses[row] = merged !== undefined && this.#exists(merged, nowMs) ? rowStatus.found : rowStatus.absent;
    }
    return statuses;
  }

  // ---- writing ----------------------------------------------------------------------------------------------------------------------

  #write(rows: readonly RowWrite[], keys: KeyBatch, look: Look | undefined): WriteAnswer {
    const nowMs = this.#clock.nowMs();
    const { namespace } = this.schema;
    const delta = this.#delta;
    const effects = this.#effects;
    const outcomes = new Uint8Array(rows.length);
    effects.clear();
    this.#store.getMany(keys, delta, 0);
    // A key that comes twice: the second write is made on what the first one left.
    const pending = rows.length > 1 ? new Map<string, { row: Uint8Array; timeMs: number; expiryMs: number }>() : undefined;
    let written = 0;
    let stale = 0;
    let failed = 0;
    for (let i = 0; i < rows.length; i += 1) {
      const row = rows[i]!;
      const cells = this.#deltaCells;
      const name = pending === undefined ? "" : latin1.decode(row.key);
      const before = pending?.get(name);
      if (before !== undefined) cells.load(before.row, before.timeMs, before.expiryMs);
      else if (delta.source[i] !== absentSource) this.#loadInto(cells, delta, i, this.#store.memoryOf(delta.source[i]!));
      else {
        cells.clear();
        if (isHidden(delta, i)) cells.floorMs = deletionTime(delta, i);
      }
      if (look !== undefined && row.conditions !== undefined && !this.#hold(row, i, look, cells, nowMs)) {
        outcomes[i] = writeOutcome.conditionFailed;
        failed += 1;
        continue;
      }
      if (!this.#apply(row, cells, nowMs)) {
        outcomes[i] = writeOutcome.stale;
        stale += 1;
        continue;
      }
      const bytes = cells.encode();
      effects.put(namespace, row.key, rowKind, bytes, cells.rowExpiryMs, cells.rowTimeMs);
      pending?.set(name, { row: bytes.slice(), timeMs: cells.rowTimeMs, expiryMs: cells.rowExpiryMs });
      written += 1;
    }
    const ticket = written === 0 ? undefined : this.#store.write(effects);
    this.#rowsWritten += written;
    this.#rowsStale += stale;
    this.#conditionsFailed += failed;
    return { ticket, outcomes, written };
  }

  /** Puts the values of a write into the row; false when all were overtaken by what is there. */
  #apply(row: RowWrite, cells: RowCells, nowMs: number): boolean {
    if (row.cells.length === 0) throw new MillraceError("invalid", `a write of no columns to table ${this.schema.name}`, { todo: "name at least one" });
    const { timeMs } = row;
    if (timeMs !== undefined && !(timeMs > 0 && timeMs <= nowMs + futureMsMax)) {
      throw new MillraceError("invalid", `a write to table ${this.schema.name} with a time that cannot be`, {
        todo: "send milliseconds since 1970, at most a minute ahead of the server's clock",
      });
    }
    let applied = false;
    this.#wanted.clear();
    for (const { column, value } of row.cells) {
      const place = column.laid.at;
      if (column.owner === "batch") {
        throw new MillraceError("invalid", `column ${column.name} of table ${this.schema.name} is owned by batch`, {
          todo: "import it, or declare its owner as stream or newest",
        });
      }
      const standing = Math.max(cells.state[place] === cellState.unsaid ? 0 : cells.timeMs[place]!, cells.floorMs);
      // Checked even when it is overtaken: whether a write is valid must not depend on what is there.
      const at = timeMs ?? Math.max(nowMs, standing + (standing === cells.floorMs && standing > 0 ? 1 : 0));
      const overtaken = timeMs !== undefined && (timeMs < standing || (timeMs === standing && standing === cells.floorMs));
      const into = overtaken ? this.#wanted : cells;
      const expiryMs = column.ttlMs === 0 ? 0 : at + column.ttlMs;
      if (row.text === true && value !== null) setText(into, column, value as Uint8Array, at, expiryMs);
      else setValue(into, column, value, at, expiryMs);
      if (!overtaken) applied = true;
    }
    return applied;
  }

  /** Whether the row is as the conditions say. `cells`: its live side. */
  #hold(row: RowWrite, i: number, look: Look, cells: RowCells, nowMs: number): boolean {
    const { base, lease } = look;
    const inBase = lease !== undefined && base.source[i] !== absentSource;
    if (inBase) this.#loadInto(this.#baseCells, base, i, lease.value.runs.memoryOf(base.source[i]!));
    const wanted = this.#wanted;
    for (const { column, value } of row.conditions!) {
      const place = column.laid.at;
      const from = winnerOf(column.owner, place, inBase ? this.#baseCells : undefined, cells, 0);
      const winner = from === fromNone ? undefined : from === fromBase ? this.#baseCells : cells;
      const there = winner !== undefined && isLive(winner, place, nowMs);
      if (value === null) {
        if (there) return false;
        continue;
      }
      wanted.clear();
      if (row.text === true) setText(wanted, column, value as Uint8Array, 0, 0);
      else setValue(wanted, column, value, 0, 0);
      if (!there || !sameBytes(winner.valueOf(place), wanted.valueOf(place))) return false;
    }
    return true;
  }

  #checkKeys(keys: KeyBatch): void {
    if (keys.count <= tableLimits.readKeysMax) return;
    throw new MillraceError("invalid", `${keys.count} keys at once`, { todo: `send at most ${tableLimits.readKeysMax} in one request` });
  }

  #checkWritable(): void {
    if (!this.readOnly) return;
    throw new MillraceError("invalid", `table ${this.schema.name} is counted from the activity log and takes no writes`, {
      todo: "send events (POST /v1/events) or items and users (PUT /v1/items, /v1/users); write to a table of your own",
    });
  }

  #notLoaded(): MillraceError {
    return new MillraceError("unavailable", `table ${this.schema.name} is not loaded yet`, { todo: "send again in a moment; its status says how far it is" });
  }
}

interface MergedRow {
  readonly base: RowCells | undefined;
  readonly delta: RowCells | undefined;
  readonly deletedMs: number;
}

/** A write may be this far ahead of the server's clock. */
const futureMsMax = 60_000;
const latin1 = new TextDecoder("latin1");

/** A deletion without a time (none is written, but a tree may hold one) hides everything. */
function deletionTime(refs: EntryRefs, row: number): number {
  return refs.timed && refs.timeMs[row]! > 0 ? refs.timeMs[row]! : 2 ** 47;
}

function cellOf(column: Column, merged: MergedRow, nowMs: number): Cell {
  const place = column.laid.at;
  const from = winnerOf(column.owner, place, merged.base, merged.delta, merged.deletedMs);
  if (from === fromNone) return noCell;
  const cells = from === fromBase ? merged.base! : merged.delta!;
  const expiryMs = cells.expiryMs[place]!;
  const expired = expiryMs !== 0 && expiryMs <= nowMs;
  const isNull = cells.state[place] === cellState.null;
  return {
    state: expired ? "expired" : isNull ? "null" : "value",
    value: isNull ? undefined : valueOf(column, cells.valueOf(place)),
    timeMs: cells.timeMs[place]!,
    expiryMs,
    from: from === fromBase ? "base" : "delta",
  };
}

/** Whether nothing of a gathered row has expired. */
function isFresh(memory: KernelMemory, refs: EntryRefs, row: number, fixedTo: number, nowMs: number): boolean {
  if (refs.timed) {
    const expiryMs = refs.expiryMs[row]!;
    if (expiryMs !== 0 && expiryMs <= nowMs) return false;
  }
  const at = refs.at[row]!;
  const { bytes } = memory;
  if ((bytes[at + 1]! & rowFlags.cells) === 0) return true;
  if (refs.bytes[row]! < fixedTo + 7) return false;
  const from = at + fixedTo;
  let earliestMs = 0;
  for (let i = 5; i >= 0; i -= 1) earliestMs = earliestMs * 256 + bytes[from + i]!;
  return earliestMs === 0 || earliestMs > nowMs;
}

/** Points the block to the texts of a gathered row; false when one lies outside of it. */
function pointTexts(block: BlockWriter, plan: ReadPlan, row: number, memory: KernelMemory, refs: EntryRefs): boolean {
  const { bytes } = memory;
  const rowAt = refs.at[row]!;
  const size = refs.bytes[row]!;
  for (const planned of plan.texts) {
    const { laid, defaultBytes } = planned.column;
    if (!block.isValid(row, planned)) {
      block.setText(row, planned, defaultBytes, 0, defaultBytes.length);
      continue;
    }
    const slot = rowAt + laid.offset;
    const at = (bytes[slot]! | (bytes[slot + 1]! << 8) | (bytes[slot + 2]! << 16) | (bytes[slot + 3]! << 24)) >>> 0;
    const length = (bytes[slot + 4]! | (bytes[slot + 5]! << 8) | (bytes[slot + 6]! << 16) | (bytes[slot + 7]! << 24)) >>> 0;
    if (at + length > size) return false;
    block.setText(row, planned, bytes, rowAt + at, length);
  }
  return true;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}
