// Column batches to entry records of the engine, staged by the key's hash: where an import spends its own time, so batch by batch and without a value a row.
// How: rows are packed column by column (fixed-rows.ts, else src/features/tables/row-packer.ts), and one call of the kernel hashes each key behind the table's namespace and
// puts head, key and row into the block of the key's slice (kernels/stage-rows.ts). It comes back when a slice needs another block.
// What it writes: docs/format/row.md (dense rows), docs/format/run-file.md (entry record), kind 8, with the import's time and the row's expiry.
// Invariants: 1. rows keep their order within a slice, so of equal keys the last one wins  2. a refused row leaves no trace but in the reject file.
// Limits: importLimits.rowBytesMax a row; a record must fit into a stage block.

import { stageArgumentBytes, stageWords } from "#kernel/entry-layout";
import { roundUp } from "#kernel/kernel-memory";
import type { KeySeed } from "#kernel/key-hash";
import { rowKind, writeU48 } from "../tables/row-cells.ts";
import { RowPacker } from "../tables/row-packer.ts";
import type { TableSchema } from "../tables/table-schema.ts";
import type { ColumnBatch } from "./column-batch.ts";
import { fixedRowBytes, FixedRows } from "./fixed-rows.ts";
import { importLimits } from "./import-limits.ts";
import { sharedFaults } from "./row-source.ts";
import type { StageBlocks } from "./stage-blocks.ts";

const expiryFlag = 0x10;
const timeFlag = 0x20;
/** Of the table, before every key. */
const namespaceBytes = 2;

/** Most rows of one batch; bounds the room for keys. */
const batchRowsMax = 2_048;
const keyRoomBytes = roundUp(batchRowsMax * importLimits.keyBytesMax + 64, 64);
const boundsRoomBytes = roundUp((batchRowsMax + 1) * 4, 64);
const refusedRoomBytes = batchRowsMax * 2;
const frontRoomBytes = 64;
/** Rows that RowPacker packed, a part of a batch at a time; the longest row fits. */
const rowsRoomBytes = 2 * importLimits.rowBytesMax;

/** Bytes that a stager needs as scratch of its stage blocks. */
export function stagerScratchBytes(schema: TableSchema): number {
  const rows = fixedRowBytes(schema) > 0 ? FixedRows.bytesFor(schema, batchRowsMax) : rowsRoomBytes + boundsRoomBytes + 64;
  return keyRoomBytes + boundsRoomBytes + refusedRoomBytes + frontRoomBytes + roundUp(stageArgumentBytes, 64) + rows;
}

export interface StagerOptions {
  /** With `stagerScratchBytes`. */
  readonly blocks: StageBlocks;
  readonly schema: TableSchema;
  readonly slices: number;
  readonly seed: KeySeed;
  /** Of every row. */
  readonly timeMs: number;
}

export class RowStager {
  rows = 0;
  /** Key and value bytes of all staged rows. */
  bytes = 0;
  readonly #options: StagerOptions;
  readonly #packer: RowPacker;
  readonly #fixed: FixedRows | undefined;
  readonly #texts: boolean;
  readonly #keysAt: number;
  readonly #boundsAt: number;
  readonly #refusedAt: number;
  readonly #argsAt: number;
  /** Where packed rows and their bounds are put for the kernel; of rows that the kernel packs, none. */
  readonly #rowsAt: number;
  readonly #rowBoundsAt: number;

  constructor(options: StagerOptions) {
    this.#options = options;
    const { blocks, schema, timeMs, slices, seed } = options;
    const { bytes, u32 } = blocks.memory;
    this.#packer = new RowPacker(schema);
    this.#texts = schema.columns.some((column) => column.laid.variable);
    let next = blocks.scratchAt;
    const place = (room: number): number => {
      const from = next;
      next += roundUp(room, 64);
      return from;
    };
    this.#keysAt = place(keyRoomBytes);
    this.#boundsAt = place(boundsRoomBytes);
    this.#refusedAt = place(refusedRoomBytes);
    this.#argsAt = place(stageArgumentBytes);
    const frontAt = place(frontRoomBytes);
    if (fixedRowBytes(schema) > 0) {
      this.#fixed = new FixedRows(blocks.memory, schema, batchRowsMax, place(FixedRows.bytesFor(schema, batchRowsMax)));
      this.#rowsAt = 0;
      this.#rowBoundsAt = 0;
    } else {
      this.#rowsAt = place(rowsRoomBytes);
      this.#rowBoundsAt = place(boundsRoomBytes);
    }
    // Behind its lengths every record has the same bytes: times, namespace.
    const expiryMs = this.#packer.expiryOf(timeMs);
    const timesBytes = expiryMs > 0 ? 12 : 6;
    const front = new DataView(bytes.buffer, frontAt, timesBytes + namespaceBytes);
    if (expiryMs > 0) writeU48(front, 0, expiryMs);
    writeU48(front, timesBytes - 6, timeMs);
    front.setUint16(timesBytes, schema.namespace);
    const set = (word: number, value: number): void => void (u32[this.#argsAt / 4 + word] = value);
    set(stageWords.keys, this.#keysAt);
    set(stageWords.offsets, this.#boundsAt);
    set(stageWords.refused, this.#refusedAt);
    set(stageWords.front, frontAt);
    set(stageWords.timesBytes, timesBytes);
    set(stageWords.flags, rowKind | timeFlag | (expiryMs > 0 ? expiryFlag : 0));
    set(stageWords.prefixBytes, namespaceBytes);
    set(stageWords.keyBytesMax, importLimits.keyBytesMax);
    set(stageWords.keyFault, sharedFaults.keyBytes);
    set(stageWords.recordFault, sharedFaults.rowBytes);
    set(stageWords.seedLow, seed.low);
    set(stageWords.seedHigh, seed.high);
    set(stageWords.slices, slices);
    set(stageWords.slicesAt, blocks.slicesAt);
    set(stageWords.blockBytes, blocks.blockBytes);
    set(stageWords.recordBytesMax, blocks.recordBytesMax);
  }

  /** Stages the rows of a batch that are not refused; `refuse` is told of the others. Waits when blocks must be written. */
  async add(batch: ColumnBatch, refuse: (row: number, code: number) => void): Promise<void> {
    const { blocks, timeMs } = this.#options;
    const { rows } = batch;
    const refused = new Uint16Array(blocks.memory.bytes.buffer, this.#refusedAt, rows);
    if (batch.faults === undefined) refused.fill(0);
    else refused.set(batch.faults.subarray(0, rows));
    if (this.#texts) {
      for (let row = 0; row < rows; row++) {
        if (refused[row] === 0 && this.#packer.bytesOf(batch.columns, row) > importLimits.rowBytesMax) refused[row] = sharedFaults.rowBytes;
      }
    }
    this.#takeKeys(batch, refused);
    let refusedRows: number;
    if (this.#fixed !== undefined) {
      this.#fixed.pack(rows, batch.columns);
      this.#setValues(this.#fixed.at, 0, this.#fixed.rowBytes);
      refusedRows = await this.#stage(0, rows);
    } else {
      this.#packer.pack(rows, batch.columns, timeMs);
      refusedRows = await this.#stageParts(rows, refused);
    }
    if (refusedRows > 0) for (let row = 0; row < rows; row++) if (refused[row] !== 0) refuse(row, refused[row]!);
    if (blocks.full > 0) await blocks.flush();
  }

  /** Keys and their bounds into the memory. One too long for it, which is refused, is left out and the others are moved together. */
  #takeKeys({ rows, keys }: ColumnBatch, refused: Uint16Array): void {
    const { bytes, u32 } = this.#options.blocks.memory;
    const first = keys.offsets[0]!;
    const total = keys.offsets[rows]! - first;
    const bounds = u32.subarray(this.#boundsAt / 4, this.#boundsAt / 4 + rows + 1);
    if (total <= batchRowsMax * importLimits.keyBytesMax) {
      bytes.set(keys.bytes.subarray(first, first + total), this.#keysAt);
      bounds.set(keys.offsets.subarray(0, rows + 1));
      u32[this.#argsAt / 4 + stageWords.keys] = this.#keysAt - first;
      return;
    }
    let to = 0;
    for (let row = 0; row < rows; row++) {
      bounds[row] = to;
      const key = keys.bytes.subarray(keys.offsets[row], keys.offsets[row + 1]);
      if (key.length > importLimits.keyBytesMax) {
        if (refused[row] === 0) refused[row] = sharedFaults.keyBytes;
        continue;
      }
      bytes.set(key, this.#keysAt + to);
      to += key.length;
    }
    bounds[rows] = to;
    u32[this.#argsAt / 4 + stageWords.keys] = this.#keysAt;
  }

  #setValues(at: number, boundsAt: number, valueBytes: number): void {
    const { u32 } = this.#options.blocks.memory;
    u32[this.#argsAt / 4 + stageWords.values] = at;
    u32[this.#argsAt / 4 + stageWords.valueOffsets] = boundsAt;
    u32[this.#argsAt / 4 + stageWords.valueBytes] = valueBytes;
  }

  /** Rows that RowPacker packed: as many at a time as there is room for. Returns how many are refused. */
  async #stageParts(rows: number, refused: Uint16Array): Promise<number> {
    const { bytes, u32 } = this.#options.blocks.memory;
    const { bytes: packed, offsets } = this.#packer;
    u32.set(offsets.subarray(0, rows + 1), this.#rowBoundsAt / 4);
    let refusedRows = 0;
    for (let from = 0; from < rows;) {
      const begin = offsets[from]!;
      let to = from;
      while (to < rows && offsets[to + 1]! - begin <= rowsRoomBytes) to++;
      if (to === from) {
        // Longer than any row may be.
        if (refused[from] === 0) refused[from] = sharedFaults.rowBytes;
        refusedRows++;
        from++;
        continue;
      }
      bytes.set(packed.subarray(begin, offsets[to]), this.#rowsAt);
      // Bounds count from the first row of the batch: the address wraps around to the room.
      this.#setValues(this.#rowsAt - begin, this.#rowBoundsAt, 0);
      refusedRows += await this.#stage(from, to);
      from = to;
    }
    return refusedRows;
  }

  /** Puts the rows `from` to `to` into blocks; returns how many of them are refused. */
  async #stage(from: number, to: number): Promise<number> {
    const { blocks } = this.#options;
    const { u32, calls } = blocks.memory;
    const a = this.#argsAt / 4;
    u32[a + stageWords.row] = from;
    u32[a + stageWords.rowsEnd] = to;
    u32[a + stageWords.stagedRows] = 0;
    u32[a + stageWords.stagedBytes] = 0;
    u32[a + stageWords.refusedRows] = 0;
    while (calls.stageRows(this.#argsAt) !== 0) if (!blocks.advance(u32[a + stageWords.slice]!)) await blocks.flush();
    this.rows += u32[a + stageWords.stagedRows]!;
    this.bytes += u32[a + stageWords.stagedBytes]!;
    return u32[a + stageWords.refusedRows]!;
  }
}
