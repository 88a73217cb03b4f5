// A table in this process: its own copy of the imported version and of the live rows, read without a network.
//   lookup   which keys have a row
//   read     columns of fixed width into arrays of the caller, by one kernel gather
//   rows     any columns, as a column block
// How a read goes: all keys in the base, all keys in the live rows, one gather of what is plain (a row of the newest layout that only the base has, nothing in it expired);
// the few others are put together one by one by the table's own rules (src/features/tables).
// Invariants: 1. a read is of one imported version and one moment of the live rows; it says which  2. found means that all bytes of the key are equal  3. a key of a shard that
// is not here, or of a table that is not loaded, is `not loaded`, never absent and never zeros.
// Cost: docs/local-replica.md. No allocation a row. Concurrency: one thread; a read never waits.
// Limits: tableLimits.readKeysMax keys a read, keyLimits.keysMax a look-up.

import { MillraceError } from "#base/errors";
import { ColumnBlock, rowStatus } from "#features/tables/column-block";
import type { ReadPlan } from "#features/tables/read-plan";
import { Table } from "#features/tables/table";
import type { TableSchema } from "#features/tables/table-schema";
import { absentSource, EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { isHidden } from "#lsm/store";
import type { Clock } from "#platform/clock";
import { tableLimits } from "#wire/table-limits";
import type { BaseFollower, ReplicaVersion } from "./base-follower.ts";
import type { DeltaFollower, DeltaState } from "./delta-follower.ts";
import { type MadeFor, TableRows, type TableTargets } from "./read-targets.ts";
import { ReplicaStore } from "./replica-store.ts";
import { TableKeys } from "./table-keys.ts";

export interface LocalTableParts {
  readonly schema: TableSchema;
  readonly clock: Clock;
  readonly base: BaseFollower;
  readonly delta: DeltaFollower;
  /** Stops following and gives everything back. */
  readonly close: () => Promise<void>;
}

export interface LocalTableState {
  readonly table: string;
  /** False while a published version is not loaded here. */
  readonly loaded: boolean;
  /** "" without one. */
  readonly version: string;
  /** Rows of the version that are here, bytes of its files in memory, and how many of them are index. */
  readonly rows: number;
  readonly bytes: number;
  readonly indexBytes: number;
  readonly live: DeltaState;
  /** Versions that were not taken over, and why. */
  readonly refused: readonly { readonly version: string; readonly reason: string }[];
}

export class LocalTable {
  readonly #parts: LocalTableParts;
  #table: Table;
  readonly #baseRefs = new EntryRefs();
  readonly #deltaRefs = new EntryRefs();
  readonly #slowKeys = new KeyBatch();
  #slow = new Uint32Array(0);
  #here = new Uint8Array(0);
  readonly #there = new Uint8Array(256);

  /** @private Made by `openTable`. */
  constructor(parts: LocalTableParts) {
    this.#parts = parts;
    this.#table = this.#tableOf(parts.schema);
  }

  get name(): string {
    return this.#table.schema.name;
  }

  /** Columns as they are read now. */
  get columns(): readonly { readonly name: string; readonly type: string; readonly elements: number }[] {
    return this.#table.schema.columns.map(({ name, type, elements }) => ({ name, type, elements }));
  }

  /** An empty batch of keys, to be filled, cleared and used again. */
  newKeys(): TableKeys {
    const { name, namespace, key } = this.#table.schema;
    return new TableKeys(name, namespace, key);
  }

  /** Arrays to read into: made once, for reads of up to `rowsMax` keys. Throws `invalid` for columns or arrays that do not fit. */
  newRows(targets: TableTargets, rowsMax: number): TableRows {
    return new TableRows(this.#table.schema, targets, rowsMax);
  }

  /** @private The schema was changed at the server: reads go by it from now on. */
  takeSchema(schema: TableSchema): void {
    if (schema.namespace === this.#table.schema.namespace) this.#table = this.#tableOf(schema);
  }

  #tableOf(schema: TableSchema): Table {
    const { clock, base, delta } = this.#parts;
    return new Table({ schema, store: new ReplicaStore(delta), clock, base });
  }

  /** Writes of each key whether it has a row: 0 yes, 1 no, 2 its shard or the table is not loaded here. Returns how many have one. */
  lookup(keys: TableKeys, status: Uint8Array): number {
    const { batch } = keys;
    const { count } = batch;
    if (status.length < count) throw new MillraceError("invalid", `${count} keys into ${status.length} bytes`, { todo: "give an array of a byte a key" });
    const { base, delta, clock } = this.#parts;
    const version = base.value;
    if (version === undefined && base.awaited) {
      status.fill(rowStatus.notLoaded, 0, count);
      return 0;
    }
    const refs = this.#baseRefs;
    const canExpire = version?.runs.canExpire === true;
    const plain = delta.isEmpty && !canExpire;
    refs.reset(count, canExpire ? "all" : "presence");
    version?.runs.getMany(batch, refs, 0);
    let { found } = refs;
    // 1 and 0, as rowStatus has them.
    if (plain) refs.absences(status);
    else found = this.#lookupLive(batch, status, clock.nowMs());
    if (version?.runs.isWhole === false) this.#markElsewhere(version, batch, status);
    return found;
  }

  /** Expiries and live rows: what stands in the base alone and lives is found, the rest is asked of the table. */
  #lookupLive(batch: KeyBatch, status: Uint8Array, nowMs: number): number {
    const { count } = batch;
    const base = this.#baseRefs;
    const live = this.#deltaRefs;
    const { delta } = this.#parts;
    const isLive = !delta.isEmpty;
    if (isLive) delta.getMany(batch, live, 0);
    this.#beginSlow(count);
    const slowRows = this.#slow;
    const { source, expiryMs } = base;
    const isTimed = base.timed;
    let slow = 0;
    let found = 0;
    for (let i = 0; i < count; i++) {
      const inBase = source[i] !== absentSource;
      if (isLive && (live.source[i] !== absentSource || (inBase && isHidden(live, i)))) slowRows[slow++] = i;
      else if (!inBase) status[i] = rowStatus.absent;
      else if (isTimed && expiryMs[i] !== 0 && expiryMs[i]! <= nowMs) status[i] = rowStatus.absent;
      else {
        status[i] = rowStatus.found;
        found += 1;
      }
    }
    for (let from = 0; from < slow; from += tableLimits.readKeysMax) {
      const to = Math.min(slow, from + tableLimits.readKeysMax);
      const statuses = this.#table.statuses(this.#slowOf(batch, from, to)) as Uint8Array;
      for (let i = from; i < to; i++) {
        const one = statuses[i - from]!;
        status[this.#slow[i]!] = one;
        if (one === rowStatus.found) found += 1;
      }
    }
    return found;
  }

  /** Reads the keys' rows into the arrays of `rows`. Returns how many were found. Throws `invalid` for more keys than the rows take. */
  read(keys: TableKeys, rows: TableRows): number {
    const { batch } = keys;
    const { count } = batch;
    if (count > rows.rowsMax)
      throw new MillraceError("invalid", `${count} keys into ${rows.rowsMax} rows`, { todo: "make the rows for more, or read in parts" });
    const { base: follower, delta, clock } = this.#parts;
    const made = rows.madeFor(this.#table.schema);
    const version = follower.value;
    rows.count = count;
    rows.version = version?.version ?? "";
    rows.offset = delta.offset;
    if (version === undefined && follower.awaited) {
      made.gather.begin(count, made.targets);
      rows.status.fill(rowStatus.notLoaded, 0, count);
      return 0;
    }
    const base = this.#baseRefs;
    const live = this.#deltaRefs;
    const { taken, status } = rows;
    const canExpire = version?.runs.canExpire === true;
    base.reset(count, canExpire ? "all" : "places");
    version?.runs.getMany(batch, base, 0);
    this.#gather(version, made);
    const isLive = !delta.isEmpty;
    if (isLive) delta.getMany(batch, live, 0);
    const nowMs = canExpire ? clock.nowMs() : 0;
    this.#beginSlow(count);
    const slowRows = this.#slow;
    const { source, expiryMs } = base;
    let slow = 0;
    let found = 0;
    for (let i = 0; i < count; i++) {
      const inBase = source[i] !== absentSource;
      const isOther = isLive && (live.source[i] !== absentSource || (inBase && isHidden(live, i)));
      if (!isOther && !inBase) status[i] = rowStatus.absent;
      else if (isOther || taken[i] === 0 || (nowMs > 0 && expiryMs[i] !== 0 && expiryMs[i]! <= nowMs)) slowRows[slow++] = i;
      else {
        status[i] = rowStatus.found;
        found += 1;
      }
    }
    if (slow > 0) found += this.#readSlow(batch, slow, rows, made);
    if (version?.runs.isWhole === false) this.#markElsewhere(version, batch, status);
    return found;
  }

  /** Writes every row: values of those that the base holds in the plain way, defaults for the others. */
  #gather(version: ReplicaVersion | undefined, made: MadeFor): void {
    const refs = this.#baseRefs;
    const { gather, targets } = made;
    if (version === undefined || refs.found === 0) {
      gather.begin(refs.count, targets);
      return;
    }
    const there = this.#there;
    there.fill(0);
    const { source, count } = refs;
    for (let i = 0; i < count; i++) there[source[i]!] = 1;
    const first = there.indexOf(1);
    const last = there.lastIndexOf(1, absentSource - 1);
    if (first === last) {
      gather.gatherAll(version.runs.memoryOf(first), refs, first, targets);
      return;
    }
    gather.begin(count, targets);
    for (let one = first; one <= last; one++) if (there[one] === 1) gather.gather(version.runs.memoryOf(one), refs, one, targets);
  }

  /** Rows that need the table's rules. Returns how many were found. */
  #readSlow(batch: KeyBatch, slow: number, rows: TableRows, made: MadeFor): number {
    const block = new ColumnBlock(
      this.#table.read(this.#slowOf(batch, 0, slow), this.#table.plan(made.plan.columns.map(({ column }) => column.name))) as Uint8Array,
    );
    const columns = made.fields.map(({ column }) => block.column(column.name)!);
    let found = 0;
    for (let n = 0; n < slow; n++) {
      const row = this.#slow[n]!;
      const status = block.status(n);
      rows.status[row] = status;
      if (status === rowStatus.found) found += 1;
      for (let field = 0; field < columns.length; field++) {
        const column = columns[field]!;
        rows.put(made, field, row, block.bytesOf(n, column), block.isValid(n, column));
      }
    }
    return found;
  }

  #beginSlow(count: number): void {
    if (this.#slow.length < count) this.#slow = new Uint32Array(Math.max(1_024, count));
  }

  /** The keys of a part of the slow ones. */
  #slowOf(batch: KeyBatch, from: number, to: number): KeyBatch {
    const keys = this.#slowKeys;
    const { namespace } = this.#table.schema;
    const { bytes, offsets } = batch;
    keys.clear();
    for (let n = from; n < to; n++) {
      const i = this.#slow[n]!;
      keys.addIn(namespace, bytes, offsets[i]! + 2, offsets[i + 1]!);
    }
    return keys;
  }

  /** Keys without a row whose shard is not here may have one elsewhere. */
  #markElsewhere(version: ReplicaVersion, batch: KeyBatch, status: Uint8Array): void {
    const { count } = batch;
    if (this.#here.length < count) this.#here = new Uint8Array(Math.max(1_024, count));
    version.runs.isHere(batch, this.#here);
    for (let i = 0; i < count; i++) if (this.#here[i] === 0) status[i] = rowStatus.notLoaded;
  }

  /** Rows of any columns (all when left out), texts too, as a block: a view until the next read of this table. At most tableLimits.readKeysMax keys. */
  rows(keys: TableKeys, columns?: readonly string[]): ColumnBlock {
    const plan: ReadPlan = this.#table.plan(columns);
    // A version in memory answers at once; shards that are not here are told by `lookup`.
    return new ColumnBlock(this.#table.read(keys.batch, plan) as Uint8Array);
  }

  get version(): string {
    return this.#parts.base.value?.version ?? "";
  }

  /** Everything that the server logged before it is in reads. */
  get offset(): number {
    return this.#parts.delta.offset;
  }

  get state(): LocalTableState {
    const { base, delta } = this.#parts;
    const version = base.value;
    return {
      table: this.name,
      loaded: version !== undefined || !base.awaited,
      version: version?.version ?? "",
      rows: version?.rows ?? 0,
      bytes: version?.runs.bytes ?? 0,
      indexBytes: version?.runs.indexBytes ?? 0,
      live: delta.state,
      refused: base.state.refused.map(({ version: one, reason }) => ({ version: one, reason })),
    };
  }

  /** Stops following; the memory goes back. Reads are over. */
  close(): Promise<void> {
    return this.#parts.close();
  }
}
