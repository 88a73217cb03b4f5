// Writes column blocks into one reused buffer. Bytes: docs/format/column-block.md; the reader is column-block.ts.
// How it is used: `begin`, then each row once (a kernel fills ranges of many, or `setDefaults` and `set...` one), then `finish`.
// Invariants: 1. places of sections are multiples of 8 from the start of the block, so arrays can lie over them  2. after `finish` every byte of the block is written:
// nothing of an older answer shows.
// Limits: tableLimits.blockBytesMax a block.

import { MillraceError } from "#base/errors";
import { tableLimits } from "#wire/table-limits";
import { blockColumnBytes, blockHeadBytes, blockMagic } from "./column-block.ts";
import type { PlanColumn, ReadPlan } from "./read-plan.ts";

const encoder = new TextEncoder();
const nothing = new Uint8Array(0);

export class BlockWriter {
  plan!: ReadPlan;
  rows = 0;
  /** The block so far; places below count from its first byte. */
  bytes = new Uint8Array(4_096);
  statusAt = 0;
  validAt = 0;
  /** Where each segment of the plan begins; row r of it is `segment.bytes * r` further. */
  readonly segmentAt: number[] = [];
  #view = new DataView(this.bytes.buffer);
  #used = 0;
  #version = "";
  #versionBytes = nothing;
  // Texts by text column * rows + row.
  #textOf: Uint8Array[] = [];
  #textAt = new Uint32Array(0);
  #textLength = new Uint32Array(0);
  #kept = new Uint8Array(1_024);
  #keptUsed = 0;

  /** Lays out a block of `rows` rows. Throws `invalid` when it would be too large. */
  begin(plan: ReadPlan, rows: number, version: string, logOffset: number): void {
    this.plan = plan;
    this.rows = rows;
    if (version !== this.#version) {
      this.#version = version;
      this.#versionBytes = encoder.encode(version);
    }
    let at = plan.head.length;
    const versionAt = at;
    at = aligned(at + this.#versionBytes.length);
    this.statusAt = at;
    at = aligned(at + rows);
    this.validAt = at;
    at = aligned(at + rows * plan.validBytes);
    this.segmentAt.length = 0;
    for (const { bytes } of plan.segments) {
      this.segmentAt.push(at);
      at = aligned(at + rows * bytes);
    }
    this.#used = at;
    this.#room(at);
    const { bytes } = this;
    const view = this.#view;
    bytes.set(plan.head);
    bytes.set(this.#versionBytes, versionAt);
    view.setUint32(0, blockMagic, true);
    view.setUint32(8, rows, true);
    view.setUint16(12, plan.columns.length, true);
    view.setUint32(16, logOffset % 2 ** 32, true);
    view.setUint32(20, Math.floor(logOffset / 2 ** 32), true);
    view.setUint32(24, this.statusAt, true);
    view.setUint32(28, this.validAt, true);
    view.setUint16(32, plan.validBytes, true);
    view.setUint16(34, plan.schema.layout.revision, true);
    view.setUint32(36, versionAt, true);
    view.setUint32(40, this.#versionBytes.length, true);
    // Gaps between sections.
    bytes.fill(0, versionAt + this.#versionBytes.length, this.statusAt);
    bytes.fill(0, this.statusAt + rows, this.validAt);
    bytes.fill(0, this.validAt + rows * plan.validBytes, this.segmentAt[0] ?? at);
    plan.segments.forEach((segment, i) => {
      bytes.fill(0, this.segmentAt[i]! + rows * segment.bytes, this.segmentAt[i + 1] ?? at);
    });
    const texts = plan.texts.length * rows;
    if (texts > this.#textAt.length) {
      this.#textAt = new Uint32Array(texts);
      this.#textLength = new Uint32Array(texts);
    }
    if (this.#textOf.length < texts) this.#textOf = new Array<Uint8Array>(texts).fill(nothing);
    this.#keptUsed = 0;
  }

  /** Over `bytes`. */
  get view(): DataView {
    return this.#view;
  }

  setStatus(row: number, status: number): void {
    this.bytes[this.statusAt + row] = status;
  }

  /** The row has no value in any column. */
  setDefaults(row: number): void {
    const { plan, bytes } = this;
    const validAt = this.validAt + row * plan.validBytes;
    bytes.fill(0, validAt, validAt + plan.validBytes);
    for (let i = 0; i < plan.segments.length; i += 1) {
      const segment = plan.segments[i]!;
      bytes.set(segment.defaults, this.segmentAt[i]! + row * segment.bytes);
    }
    for (const column of plan.texts) this.setText(row, column, column.column.defaultBytes, 0, column.column.defaultBytes.length);
  }

  /** The value of a column, from the bytes `at` on of `from`, `length` bytes; a text is copied. */
  set(row: number, column: PlanColumn, from: Uint8Array, at: number, length: number): void {
    const { plan, bytes } = this;
    bytes[this.validAt + row * plan.validBytes + (column.validBit >> 3)]! |= 1 << (column.validBit & 7);
    if (column.text >= 0) {
      this.setText(row, column, this.#keep(from, at, length), this.#keptUsed - length, length);
      return;
    }
    const to = this.segmentAt[column.segment]! + row * plan.segments[column.segment]!.bytes + column.within;
    if (length <= 16) for (let i = 0; i < length; i += 1) bytes[to + i] = from[at + i]!;
    else bytes.set(from.subarray(at, at + length), to);
  }

  /** No value in one column of a row that has others. */
  unset(row: number, column: PlanColumn): void {
    const { defaultBytes } = column.column;
    this.set(row, column, defaultBytes, 0, defaultBytes.length);
    this.bytes[this.validAt + row * this.plan.validBytes + (column.validBit >> 3)]! &= ~(1 << (column.validBit & 7));
  }

  /** A text that stays where it is until `finish`. */
  setText(row: number, column: PlanColumn, from: Uint8Array, at: number, length: number): void {
    const i = column.text * this.rows + row;
    this.#textOf[i] = from;
    this.#textAt[i] = at;
    this.#textLength[i] = length;
  }

  /** Whether the row has a value in the column, by what was written. */
  isValid(row: number, column: PlanColumn): boolean {
    return (this.bytes[this.validAt + row * this.plan.validBytes + (column.validBit >> 3)]! & (1 << (column.validBit & 7))) !== 0;
  }

  /** The whole block: a view until the next `begin`. */
  finish(): Uint8Array {
    const { plan, rows } = this;
    for (const { text } of plan.texts) {
      let total = 0;
      for (let row = 0; row < rows; row += 1) total += this.#textLength[text * rows + row]!;
      const boundsAt = this.#used;
      const dataAt = aligned(boundsAt + 4 * (rows + 1));
      const end = aligned(dataAt + total);
      this.#room(end);
      const { bytes } = this;
      const view = this.#view;
      bytes.fill(0, boundsAt + 4 * (rows + 1), dataAt);
      let bound = 0;
      for (let row = 0; row < rows; row += 1) {
        const i = text * rows + row;
        const at = this.#textAt[i]!;
        const length = this.#textLength[i]!;
        view.setUint32(boundsAt + 4 * row, bound, true);
        const from = this.#textOf[i]!;
        if (length > 32) bytes.set(from.subarray(at, at + length), dataAt + bound);
        else for (let k = 0; k < length; k += 1) bytes[dataAt + bound + k] = from[at + k]!;
        bound += length;
      }
      view.setUint32(boundsAt + 4 * rows, bound, true);
      bytes.fill(0, dataAt + total, end);
      this.#used = end;
      const at = blockHeadBytes + plan.columns.findIndex((column) => column.text === text) * blockColumnBytes;
      view.setUint32(at + 12, dataAt, true);
      view.setUint32(at + 20, boundsAt, true);
      view.setUint32(at + 24, total, true);
    }
    const view = this.#view;
    plan.columns.forEach(({ segment, within }, i) => {
      if (segment < 0) return;
      const at = blockHeadBytes + i * blockColumnBytes;
      view.setUint32(at + 12, this.segmentAt[segment]! + within, true);
      view.setUint32(at + 16, plan.segments[segment]!.bytes, true);
    });
    view.setUint32(4, this.#used, true);
    return this.bytes.subarray(0, this.#used);
  }

  #keep(from: Uint8Array, at: number, length: number): Uint8Array {
    if (this.#keptUsed + length > this.#kept.length) {
      // Texts kept before stay in the old buffer, which they name.
      this.#kept = new Uint8Array(Math.max(length, this.#kept.length * 2));
      this.#keptUsed = 0;
    }
    this.#kept.set(from.subarray(at, at + length), this.#keptUsed);
    this.#keptUsed += length;
    return this.#kept;
  }

  #room(bytes: number): void {
    if (bytes <= this.bytes.length) return;
    if (bytes > tableLimits.blockBytesMax) {
      throw new MillraceError("invalid", `an answer of ${bytes} bytes`, {
        todo: `ask for fewer keys or columns: an answer holds ${tableLimits.blockBytesMax} bytes`,
      });
    }
    const grown = new Uint8Array(Math.min(tableLimits.blockBytesMax, Math.max(bytes, this.bytes.length * 2)));
    grown.set(this.bytes.subarray(0, Math.min(this.#used, this.bytes.length)));
    this.bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

function aligned(at: number): number {
  return Math.ceil(at / 8) * 8;
}
