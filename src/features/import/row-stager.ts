// Column batches to entry records of the engine, staged by the key's hash: where an import spends its own time, so batch by batch and without a value a row.
// How: keys are copied behind the namespace and hashed by the kernel, rows are packed column by column (src/features/tables/row-packer.ts), and one pass puts head, key and
// row into the block of the key's slice, word by word.
// What it writes: docs/format/row.md (dense rows), docs/format/run-file.md (entry record), kind 8, with the import's time and the row's expiry.
// Invariants: 1. rows keep their order within a slice, so of equal keys the last one wins  2. a refused row leaves no trace but in the reject file.
// Limits: importLimits.rowBytesMax a row; a record must fit into a stage block.

import { recordBytes, writeRecordHead } from "#kernel/entry-record";
import type { KeySeed } from "#kernel/key-hash";
import { rowKind } from "../tables/row-cells.ts";
import { RowPacker } from "../tables/row-packer.ts";
import type { TableSchema } from "../tables/table-schema.ts";
import type { ColumnBatch } from "./column-batch.ts";
import { importLimits } from "./import-limits.ts";
import { sharedFaults } from "./row-source.ts";
import type { StageBlocks } from "./stage-blocks.ts";

/** The slice of a key's hash: equal parts of the range of its high half. */
export function sliceOf(hashHigh: number, slices: number): number {
  return Math.floor((hashHigh * slices) / 2 ** 32);
}

/** Most rows of one batch; bounds the room for keys. */
const batchRowsMax = 2_048;

const roundUp = (bytes: number): number => Math.ceil(bytes / 64) * 64;
const keyRoomBytes = roundUp(batchRowsMax * (importLimits.keyBytesMax + 2) + 8);
const offsetRoomBytes = roundUp((batchRowsMax + 1) * 4);

/** Bytes that a stager needs as scratch of its stage blocks. */
export const stagerScratchBytes = keyRoomBytes + offsetRoomBytes + batchRowsMax * 8 + 64;

export interface StagerOptions {
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
  readonly #texts: boolean;
  readonly #keysAt: number;
  readonly #offsetsAt: number;
  readonly #hashesAt: number;
  readonly #expiryMs: number;
  readonly #refused = new Uint16Array(batchRowsMax);

  constructor(options: StagerOptions) {
    this.#options = options;
    const { blocks, schema, timeMs } = options;
    this.#packer = new RowPacker(schema);
    this.#texts = schema.columns.some((column) => column.laid.variable);
    this.#keysAt = blocks.scratchAt;
    this.#offsetsAt = this.#keysAt + keyRoomBytes;
    this.#hashesAt = this.#offsetsAt + offsetRoomBytes;
    this.#expiryMs = this.#packer.expiryOf(timeMs);
  }

  /** Stages the rows of a batch that are not refused; `refuse` is told of the others. Waits when blocks must be written. */
  async add(batch: ColumnBatch, refuse: (row: number, code: number) => void): Promise<void> {
    const { blocks, timeMs } = this.#options;
    const refused = this.#refused.fill(0, 0, batch.rows);
    if (batch.faults !== undefined) refused.set(batch.faults.subarray(0, batch.rows));
    if (this.#texts) {
      for (let row = 0; row < batch.rows; row++) {
        if (refused[row] === 0 && this.#packer.bytesOf(batch.columns, row) > importLimits.rowBytesMax) refused[row] = sharedFaults.rowBytes;
      }
    }
    this.#hash(batch, refused);
    this.#packer.pack(batch.rows, batch.columns, timeMs);
    for (let done = 0; done < batch.rows;) {
      done = this.#stage(done, batch.rows, refused);
      if (blocks.full > 0) await blocks.flush();
    }
    for (let row = 0; row < batch.rows; row++) if (refused[row] !== 0) refuse(row, refused[row]!);
  }

  /** Keys behind the namespace into the scratch area, and their hashes. Marks keys that cannot be. */
  #hash(batch: ColumnBatch, refused: Uint16Array): void {
    const { blocks, schema, seed } = this.#options;
    const { memory } = blocks;
    const { offsets, bytes } = batch.keys;
    const target = memory.bytes;
    const bounds = memory.u32.subarray(this.#offsetsAt / 4, this.#offsetsAt / 4 + batch.rows + 1);
    const high = schema.namespace >>> 8;
    const low = schema.namespace & 0xff;
    const base = this.#keysAt;
    let to = base;
    bounds[0] = 0;
    for (let row = 0; row < batch.rows; row++) {
      const from = offsets[row]!;
      const end = offsets[row + 1]!;
      target[to] = high;
      target[to + 1] = low;
      to += 2;
      if (end - from > importLimits.keyBytesMax || end === from) {
        if (refused[row] === 0) refused[row] = sharedFaults.keyBytes;
      } else {
        for (let at = from; at < end; at++) target[to++] = bytes[at]!;
      }
      bounds[row + 1] = to - base;
    }
    memory.calls.hashKeys(base, this.#offsetsAt, batch.rows, seed.low, seed.high, this.#hashesAt);
  }

  /** Puts packed rows from `row` on into their blocks; returns the first that was not, since full blocks must be written. */
  #stage(row: number, rows: number, refused: Uint16Array): number {
    const { blocks, slices, timeMs } = this.#options;
    const { bytes: target, u32 } = blocks.memory;
    const { view, recordBytesMax } = blocks;
    const packed = this.#packer.bytes;
    const packedWords = new DataView(packed.buffer, packed.byteOffset);
    const bounds = this.#packer.offsets;
    const keyBounds = this.#offsetsAt / 4;
    const hashes = this.#hashesAt / 4;
    const expiryMs = this.#expiryMs;
    for (; row < rows; row++) {
      if (refused[row] !== 0) continue;
      const keyFrom = u32[keyBounds + row]!;
      const keyBytes = u32[keyBounds + row + 1]! - keyFrom;
      const from = bounds[row]!;
      const size = bounds[row + 1]! - from;
      const record = recordBytes(keyBytes, size, expiryMs, timeMs);
      if (record > recordBytesMax) {
        refused[row] = sharedFaults.rowBytes;
        continue;
      }
      let at = blocks.take(sliceOf(u32[hashes + 2 * row + 1]!, slices), record);
      if (at === 0) break;
      at = writeRecordHead(target, at, rowKind, keyBytes, size, expiryMs, timeMs);
      // By words: what is written behind the key is overwritten by the row, which has more than three bytes.
      const keyAt = this.#keysAt + keyFrom;
      for (let i = 0; i < keyBytes; i += 4) view.setUint32(at + i, view.getUint32(keyAt + i, true), true);
      at += keyBytes;
      const whole = size & ~3;
      if (size > 256) target.set(packed.subarray(from, from + size), at);
      else {
        for (let i = 0; i < whole; i += 4) view.setUint32(at + i, packedWords.getUint32(from + i, true), true);
        for (let i = whole; i < size; i++) target[at + i] = packed[from + i]!;
      }
      this.bytes += keyBytes + size;
      this.rows++;
    }
    return row;
  }
}
