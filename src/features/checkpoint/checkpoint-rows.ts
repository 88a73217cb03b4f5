// The checkpoint as it lies in the store: its head, its rows, and the chunks of one that is being written. Reading, clearing, finishing.
// The protocol, each step a write of the store, which keeps their order whatever happens:
//   small:  all rows and the head, one transaction
//   large:  chunks (stage/0 ...), head that names the chunks, rows from the chunks, head that names none and deletions of the chunks
// Why it holds: what opens again after a crash is the state after some beginning of the writes (docs/design/lsm.md). Before the head that names the chunks it is the
// old checkpoint, since no row of it was touched; from then on the chunks are all there, and writing them to their rows again changes nothing.
// Invariants: 1. the head is written after the log that it speaks of was synced  2. rows without a head that fits are cleared before anything is written.
// Cost: a page of 1 ms of rows between two turns of the loop; a row about a microsecond.

import { absentSource, EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { EffectBatch } from "#lsm/effect-batch";
import { ScanPage } from "#lsm/scan-page";
import { engineKey, keyAfterPrefix, type ScanRange, type Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import type { TableConfig } from "#wire/table-config";
import { rowKind } from "../tables/row-cells.ts";
import type { TableSchema } from "../tables/table-schema.ts";
import { type CheckpointHead, decodeHead, encodeHead } from "./checkpoint-head.ts";
import { readChunk } from "./effect-chunks.ts";
import { Slices } from "./slices.ts";
import { damagedState, StateRowReader, StateRowWriter } from "./state-row.ts";
import { handleColumn, type StateList, type StateTable } from "./stored-state.ts";

/** Holds the head, lists, and chunks under way. */
export const checkpointTable = "activity.checkpoint";
export const checkpointTableConfig: TableConfig = { key: "string", columns: { data: { type: "bytes", owner: "stream" } } };

const headKey = "head";
const stagePrefix = "stage/";
const pageRows = 1_000;
const sliceMs = 1;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export interface CheckpointRowsOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** Of every table of the state, and of `checkpointTable`. */
  readonly schemas: ReadonlyMap<string, TableSchema>;
  readonly tables: readonly StateTable[];
  readonly lists: readonly StateList[];
}

export class CheckpointRows {
  readonly #options: CheckpointRowsOptions;
  readonly #own: TableSchema;
  readonly #row: StateRowWriter;
  readonly #reader: StateRowReader;
  readonly #effects = new EffectBatch();
  readonly #page = new ScanPage();
  readonly #keys = new KeyBatch();
  readonly #refs = new EntryRefs();

  constructor(options: CheckpointRowsOptions) {
    this.#options = options;
    this.#own = this.schemaOf(checkpointTable);
    this.#row = new StateRowWriter(this.#own);
    this.#reader = new StateRowReader(this.#own);
  }

  schemaOf(table: string): TableSchema {
    const schema = this.#options.schemas.get(table);
    if (schema === undefined) throw new TypeError(`no schema of table ${table}`);
    return schema;
  }

  /** Namespace of the lists, and a list's bytes as the row that holds them: a view until the next one. */
  get listNamespace(): number {
    return this.#own.namespace;
  }
  listRow(bytes: Uint8Array, atMs: number): Uint8Array {
    this.#row.begin(atMs);
    this.#row.bytes("data", bytes);
    return this.#row.encode();
  }

  /** The head that stands, undefined when there is none. Throws `corrupt`, `unsupported`. */
  head(): CheckpointHead | undefined {
    const bytes = this.#dataOf(headKey);
    return bytes === undefined ? undefined : decodeHead(bytes);
  }

  /** Stages a chunk; returns the store's ticket. Throws what Store.write throws. */
  stage(number: number, chunk: Uint8Array, atMs: number): number {
    this.#effects.clear();
    this.#effects.put(this.#own.namespace, stageKey(number), rowKind, this.listRow(chunk, atMs), 0, atMs);
    return this.#options.store.write(this.#effects);
  }

  /** Writes a head, and the effects of `chunks` in the same transaction. */
  commit(head: CheckpointHead, chunks: readonly Uint8Array[]): number {
    const effects = this.#effects;
    effects.clear();
    for (const chunk of chunks) this.#fill(chunk, 0, head.atMs, Infinity, Infinity);
    effects.put(this.#own.namespace, encoder.encode(headKey), rowKind, this.listRow(encodeHead(head), head.atMs), 0, head.atMs);
    return this.#options.store.write(effects);
  }

  /** Writes staged chunks to their rows, a slice a turn. Can be called again after it failed. Not beside `load`: both read through the same row. */
  async finish(head: CheckpointHead): Promise<CheckpointHead> {
    const { store, clock } = this.#options;
    const slices = new Slices(clock, finishSliceMs);
    let unlogged = 0;
    for (let number = 0; number < head.staged; number += 1) {
      const chunk = this.#dataOf(decoder.decode(stageKey(number)));
      if (chunk === undefined) throw damagedState(`chunk ${number} of ${head.staged} is not there`);
      for (let at = 0; at < chunk.length;) {
        const from = at;
        this.#effects.clear();
        at = this.#fill(chunk, at, head.atMs, effectsPerWrite, bytesPerWrite);
        const ticket = store.write(this.#effects);
        unlogged += at - from;
        if (unlogged >= unloggedMax) {
          await store.durable(ticket);
          unlogged = 0;
        }
        if (slices.due) await slices.next();
      }
    }
    const complete = { ...head, staged: 0 };
    this.#effects.clear();
    for (let number = 0; number < head.staged; number += 1) this.#effects.delete(this.#own.namespace, stageKey(number), head.atMs);
    this.#effects.put(this.#own.namespace, encoder.encode(headKey), rowKind, this.listRow(encodeHead(complete), head.atMs), 0, head.atMs);
    await store.durable(store.write(this.#effects));
    return complete;
  }

  /** Reads all rows into their stores. `onRows` is told how many there are so far. Throws `corrupt` when they are not what the head says. */
  async load(head: CheckpointHead, onRows: (rows: number) => void): Promise<number> {
    const { tables, lists, clock } = this.#options;
    const slices = new Slices(clock, sliceMs);
    let rows = 0;
    await this.#each(this.#own.namespace, true, slices, (key, value) => {
      const name = textOf(key);
      if (name === headKey || name.startsWith(stagePrefix)) return;
      const list = lists.find((one) => name === one.name || name.startsWith(`${one.name}/`));
      if (list === undefined) throw damagedState(`a list ${JSON.stringify(name.slice(0, 64))} that nobody knows`);
      this.#reader.load(value);
      list.load(name, this.#reader.bytes("data").slice());
    });
    for (const table of tables) {
      const schema = this.schemaOf(table.name);
      const reader = new StateRowReader(schema);
      const handles = head.handles[table.name] ?? 0;
      table.reserve?.(handles);
      await this.#each(schema.namespace, true, slices, (key, value) => {
        reader.load(value);
        const handle = reader.whole(handleColumn);
        if (!(handle >= 0 && handle < handles)) throw reader.damaged(`handle ${handle} of ${handles}`);
        const name = textOf(key);
        table.meet?.(handle, name);
        for (const part of table.parts) part.load(handle, reader);
        if (table.keyOf(handle) !== name) throw reader.damaged("it lies under a key of another handle");
        table.marks.restored(handle);
        rows += 1;
        if (rows % pageRows === 0) onRows(rows);
      });
      const expected = head.rows[table.name] ?? 0;
      if (table.marks.rows !== expected) throw damagedState(`table ${table.name} has ${table.marks.rows} rows, its head says ${expected}`);
      const missing = table.missing?.() ?? 0;
      if (missing > 0) throw damagedState(`table ${table.name} lacks ${missing} of ${handles} handles`);
    }
    for (const list of lists) list.loaded?.();
    onRows(rows);
    return rows;
  }

  /** Deletes every row, the head first. Returns how many there were. */
  async clear(): Promise<number> {
    const { store, tables, clock } = this.#options;
    let deleted = 0;
    const nowMs = clock.nowMs();
    if (this.#dataOf(headKey) !== undefined) {
      this.#effects.clear();
      this.#effects.delete(this.#own.namespace, encoder.encode(headKey), nowMs);
      await store.durable(store.write(this.#effects));
    }
    for (const schema of [this.#own, ...tables.map(({ name }) => this.schemaOf(name))]) {
      let range: ScanRange | undefined = { ...rangeOf(schema.namespace), limit: pageRows, values: false };
      while (range !== undefined) {
        this.#page.clear();
        const more: boolean = store.scan(range, this.#page);
        range = more ? { ...range, from: this.#page.next! } : undefined;
        this.#effects.clear();
        for (let i = 0; i < this.#page.count; i += 1) this.#effects.delete(schema.namespace, this.#page.keyOf(i).subarray(2), nowMs);
        deleted += this.#page.count;
        if (this.#page.count > 0) await store.durable(store.write(this.#effects));
        await clock.yield();
      }
    }
    return deleted;
  }

  /** Fills the batch with effects of a chunk from byte `from` on; returns where to go on. */
  #fill(chunk: Uint8Array, from: number, atMs: number, effectsMost: number, bytesMost: number): number {
    const effects = this.#effects;
    return readChunk(
      chunk,
      from,
      {
        put: (namespace, bytes, keyAt, valueAt, end) => effects.putRange(namespace, bytes, keyAt, valueAt, end, rowKind, 0, atMs),
        delete: (namespace, key) => effects.delete(namespace, key, atMs),
      },
      () => effects.count >= effectsMost || effects.bytes >= bytesMost,
    );
  }

  async #each(namespace: number, values: boolean, slices: Slices, visit: (key: Uint8Array, value: Uint8Array) => void): Promise<void> {
    const { store } = this.#options;
    const page = this.#page;
    let range: ScanRange = { ...rangeOf(namespace), limit: pageRows, values };
    for (;;) {
      page.clear();
      const more = store.scan(range, page);
      for (let i = 0; i < page.count; i += 1) {
        visit(page.keyOf(i).subarray(2), page.valueOf(i));
        if ((i & 7) === 7 && slices.due) await slices.next();
      }
      if (!more) return;
      range = { ...range, from: page.next! };
      await slices.next();
    }
  }

  /** A view, until the next write. */
  #dataOf(key: string): Uint8Array | undefined {
    const { store } = this.#options;
    const bytes = encoder.encode(key);
    this.#keys.clear();
    this.#keys.addIn(this.#own.namespace, bytes, 0, bytes.length);
    store.getMany(this.#keys, this.#refs, 0);
    if (this.#refs.source[0] === absentSource) return undefined;
    this.#reader.load(store.bytesOf(this.#refs, 0));
    return this.#reader.bytes("data");
  }
}

/** While chunks go to their rows: most of a turn, and of one write (about a tenth of it). Chosen. */
const finishSliceMs = 0.5;
const effectsPerWrite = 64;
const bytesPerWrite = 16 * 1024;
/** Bytes that may wait for the log then: one append of it is one sum over its bytes, 1 to 2 ms a MiB. */
const unloggedMax = 128 * 1024;

function stageKey(number: number): Uint8Array {
  return encoder.encode(stagePrefix + String(number).padStart(6, "0"));
}

function rangeOf(namespace: number): { readonly from: Uint8Array; readonly to?: Uint8Array } {
  const from = engineKey(namespace, new Uint8Array(0));
  const to = keyAfterPrefix(from);
  return to === undefined ? { from } : { from, to };
}

function textOf(key: Uint8Array): string {
  try {
    return decoder.decode(key);
  } catch {
    throw damagedState("a key that is no UTF-8");
  }
}
