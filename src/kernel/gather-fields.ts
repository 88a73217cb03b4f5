// Copies fixed-width fields out of looked-up values into columns: what a columnar read of table rows comes down to.
// A value is a row of one layout: a first word that names it, bits that say which fields are there, fields at fixed offsets. The kernel knows
// no more of it than this plan says. Kernel: kernels/gather-fields.ts.
// Why a plan: it is made once for a layout and a choice of columns; neighbours that also lie side by side in the output become one copy.
// How it is used: `columns.begin(count)` fills in the defaults, then `gather` for each source and each layout of it; rows of other sources and
// layouts are left alone, so the newest source is gathered last or rows name one source only. Where there is one source and one layout `gatherAll` does both
// in one pass: the outputs are not copied into the kernel's memory first.
// Cost: see docs/design/kernel.md. Concurrency: a plan belongs to one thread. Limits: gatherLimits.

import { MillraceError } from "#base/errors";
import { copyBytes, copyNumbers } from "#platform/copy-bytes";
import { gatherArgumentBytes, gatherWords } from "./entry-layout.ts";
import type { EntryRefs } from "./entry-refs.ts";
import type { KernelMemory } from "./kernel-memory.ts";

export const gatherLimits = { fieldsMax: 4_096, fieldBytesMax: 1 << 20 } as const;

/** One field of a row and where it goes. */
export interface GatherField {
  /** First byte in the value. */
  readonly offset: number;
  readonly bytes: number;
  /** Number of the bit, counted from the value's first byte (bit 0 of byte 0 = 0), that says the field is there; undefined: always. */
  readonly validBit?: number;
  /** Which output (of `outputs`), and the first byte of the field in row 0 of it. */
  readonly output: number;
  readonly at: number;
  /** What stands in the output where the field is not there: `bytes` bytes. Default: zeros. */
  readonly defaults?: Uint8Array;
}

/** The layout that a row must have to take part. */
export interface RowLayout {
  /** Bytes that its value has at least: up to the end of the last field. */
  readonly bytesMin: number;
  /** `(first u32 of the value & mask) === match`. */
  readonly mask: number;
  readonly match: number;
  /** Bits of the first word that `taken` tells of. Default: none. */
  readonly note?: number;
}

/** What a gather writes: caller-owned and reused. */
export interface GatherTargets {
  /** Output o: row i begins at `i * rowBytes[o]`. */
  readonly outputs: readonly Uint8Array[];
  /** One bit a row and field (row 0 = bit 0 of byte 0), in the order of the fields; undefined: not wanted. */
  readonly valid: readonly (Uint8Array | undefined)[];
  /** Set to 1 for each row that took part, to 3 where its first word has a bit of `note` besides; undefined: not wanted. */
  readonly taken?: Uint8Array | undefined;
}

const fieldWords = 8;
const none = 0xffffffff;

export class FieldGather {
  readonly #layout: RowLayout;
  readonly #fields: readonly GatherField[];
  readonly #rowBytes: readonly number[];
  readonly #bytesARow: number;
  readonly #defaults: Uint8Array;
  readonly #defaultsFrom: number[] = [];
  /** Of each output, a row of defaults. */
  readonly #defaultRows: readonly Uint8Array[];
  /** For the fast way: runs of neighbouring fields, and the bits that must all be set. */
  readonly #spans: readonly { offset: number; bytes: number; output: number; at: number }[];
  readonly #requiredFrom: number;
  readonly #required: Uint8Array;

  /** `rowBytes[o]` = bytes of a row of output o. Throws `invalid` for a field outside its row, its output or the limits. */
  constructor(layout: RowLayout, fields: readonly GatherField[], rowBytes: readonly number[]) {
    if (fields.length > gatherLimits.fieldsMax)
      throw new MillraceError("invalid", `${fields.length} fields at once`, { todo: `gather at most ${gatherLimits.fieldsMax}` });
    let defaultBytes = 0;
    for (const [f, { offset, bytes, output, at, validBit, defaults }] of fields.entries()) {
      const room = rowBytes[output];
      const bad =
        room === undefined ||
        !(bytes >= 1 && bytes <= gatherLimits.fieldBytesMax) ||
        offset < 0 ||
        offset + bytes > layout.bytesMin ||
        at < 0 ||
        at + bytes > room ||
        (validBit !== undefined && (validBit < 0 || validBit >= 8 * layout.bytesMin)) ||
        (defaults !== undefined && defaults.length !== bytes);
      if (bad) throw new MillraceError("invalid", `field ${f} of a gather lies outside its row or its output`, { todo: "check offsets, widths and defaults" });
      this.#defaultsFrom.push(defaultBytes);
      defaultBytes += Math.ceil(bytes / 16) * 16;
    }
    this.#defaults = new Uint8Array(defaultBytes);
    for (const [f, field] of fields.entries()) if (field.defaults !== undefined) this.#defaults.set(field.defaults, this.#defaultsFrom[f]);
    const defaultRows = rowBytes.map((bytes) => new Uint8Array(bytes));
    for (const { output, at, defaults } of fields) if (defaults !== undefined) defaultRows[output]!.set(defaults, at);
    this.#defaultRows = defaultRows;
    this.#layout = layout;
    this.#fields = fields;
    this.#rowBytes = rowBytes;
    this.#bytesARow = rowBytes.reduce((sum, bytes) => sum + bytes, 0);
    const spans: { offset: number; bytes: number; output: number; at: number }[] = [];
    for (const { offset, bytes, output, at } of fields) {
      const last = spans.at(-1);
      if (last !== undefined && last.output === output && last.offset + last.bytes === offset && last.at + last.bytes === at) last.bytes += bytes;
      else spans.push({ offset, bytes, output, at });
    }
    this.#spans = spans;
    const bits = fields.flatMap(({ validBit }) => (validBit === undefined ? [] : [validBit]));
    const firstByte = bits.length === 0 ? 0 : Math.min(...bits) >>> 3;
    this.#requiredFrom = firstByte;
    this.#required = new Uint8Array(bits.length === 0 ? 0 : (Math.max(...bits) >>> 3) - firstByte + 1);
    for (const bit of bits) this.#required[(bit >>> 3) - firstByte]! |= 1 << (bit & 7);
  }

  /** Fills `count` rows with the defaults and clears all bits: what rows that nobody gathers keep. */
  begin(count: number, targets: GatherTargets): void {
    this.#check(count, targets);
    for (const [o, rowBytes] of this.#rowBytes.entries()) {
      const out = targets.outputs[o]!;
      const end = count * rowBytes;
      const row = this.#defaultRows[o]!;
      if (row.every((byte) => byte === 0)) {
        out.fill(0, 0, end);
        continue;
      }
      if (end > 0) out.set(row);
      // Doubling: the rows that are there are copied behind themselves.
      for (let done = rowBytes; done < end; done *= 2) out.copyWithin(done, 0, Math.min(done, end - done));
    }
    for (const bits of targets.valid) bits?.fill(0, 0, Math.ceil(count / 8));
    targets.taken?.fill(0, 0, count);
  }

  #check(count: number, targets: GatherTargets): void {
    for (const [o, rowBytes] of this.#rowBytes.entries()) {
      const room = targets.outputs[o]?.length ?? -1;
      if (room < count * rowBytes) throw new MillraceError("invalid", `${count} rows of ${rowBytes} bytes into ${room}`, { todo: "give larger arrays" });
    }
    for (const bits of targets.valid) {
      if (bits !== undefined && bits.length * 8 < count)
        throw new MillraceError("invalid", `bits of ${count} rows into ${bits.length} bytes`, { todo: "give larger arrays" });
    }
    if (targets.taken !== undefined && targets.taken.length < count)
      throw new MillraceError("invalid", "too little room for what took part", { todo: "give larger arrays" });
  }

  /**
   * Gathers the rows whose `refs.source` is `source` and whose value has the layout, out of the memory of that source. Returns how many took
   * part. A row's field that is not there gets its default and bit 0. `begin` must have been called for as many rows.
   */
  gather(memory: KernelMemory, refs: EntryRefs, source: number, targets: GatherTargets): number {
    this.#check(refs.count, targets);
    return this.#run(memory, refs, source, targets, false);
  }

  /** `begin(refs.count, targets)` and `gather` in one: every row is written, those that do not take part with the defaults. */
  gatherAll(memory: KernelMemory, refs: EntryRefs, source: number, targets: GatherTargets): number {
    this.#check(refs.count, targets);
    return this.#run(memory, refs, source, targets, true);
  }

  #run(memory: KernelMemory, refs: EntryRefs, source: number, targets: GatherTargets, all: boolean): number {
    const { count } = refs;
    const { lane, u32, bytes, calls } = memory;
    const fields = this.#fields;
    const perRow = this.#bytesARow + 4 + 4 + 1 + 1 + Math.ceil(fields.length / 8);
    let takenSum = 0;
    for (let first = 0; first < count;) {
      lane.reset();
      const argumentsAt = lane.take(gatherArgumentBytes);
      const fieldsAt = lane.take(4 * fieldWords * fields.length);
      const spansAt = lane.take(16 * this.#spans.length);
      const defaultsAt = lane.take(this.#defaults.length);
      const requiredAt = lane.take(this.#required.length + 16);
      const outputsAt = lane.take(16 * this.#rowBytes.length);
      const rowsAt = this.#defaultRows.map((row) => lane.take(row.length));
      // 32 bytes of rounding an array; a multiple of 32 rows, so that bits fall on whole words.
      const room = lane.free - 32 * (4 + this.#rowBytes.length + fields.length);
      const most = Math.floor(room / perRow / 32) * 32;
      if (most < 32 && room < count * perRow)
        throw new MillraceError("invalid", `rows of ${this.#bytesARow} bytes exceed the lane`, { todo: "give the memory larger lanes (laneBytes)" });
      const size = Math.min(count - first, Math.max(most, Math.min(32, count)));
      const end = first + size;
      bytes.set(this.#defaults, defaultsAt);
      bytes.set(this.#required, requiredAt);
      const atsAt = lane.take(4 * size);
      const lengthsAt = lane.take(4 * size);
      const sourcesAt = lane.take(size);
      const touchedAt = lane.take(16 + size);
      copyNumbers(refs.at, first, end, u32, atsAt / 4);
      copyNumbers(refs.bytes, first, end, u32, lengthsAt / 4);
      copyBytes(refs.source, first, end, bytes, sourcesAt);
      bytes.fill(0, touchedAt, touchedAt + 16 + size);
      const outAt: number[] = [];
      for (const [o, rowBytes] of this.#rowBytes.entries()) {
        const at = lane.take(size * rowBytes);
        outAt.push(at);
        if (all) {
          bytes.set(this.#defaultRows[o]!, rowsAt[o]);
          u32[outputsAt / 4 + 4 * o] = at;
          u32[outputsAt / 4 + 4 * o + 1] = rowBytes;
          u32[outputsAt / 4 + 4 * o + 2] = rowsAt[o]!;
        } else copyBytes(targets.outputs[o]!, first * rowBytes, end * rowBytes, bytes, at);
      }
      const bitBytes = Math.ceil(size / 8);
      const bitsAt: number[] = [];
      for (const [f, field] of fields.entries()) {
        const valid = targets.valid[f];
        const at = valid === undefined ? 0 : lane.take(roundedBits(size));
        bitsAt.push(at);
        if (valid !== undefined && all) bytes.fill(0, at, at + bitBytes);
        else if (valid !== undefined) bytes.set(valid.subarray(first / 8, first / 8 + bitBytes), at);
        const word = fieldsAt / 4 + f * fieldWords;
        u32[word] = field.offset;
        u32[word + 1] = field.bytes;
        u32[word + 2] = outAt[field.output]! + field.at;
        u32[word + 3] = this.#rowBytes[field.output]!;
        u32[word + 4] = field.validBit ?? none;
        u32[word + 5] = at;
        u32[word + 6] = defaultsAt + this.#defaultsFrom[f]!;
      }
      for (const [s, span] of this.#spans.entries()) {
        const word = spansAt / 4 + 4 * s;
        u32[word] = span.offset;
        u32[word + 1] = span.bytes;
        u32[word + 2] = outAt[span.output]! + span.at;
        u32[word + 3] = this.#rowBytes[span.output]!;
      }
      const a = argumentsAt / 4;
      u32[a + gatherWords.count] = size;
      u32[a + gatherWords.source] = source;
      u32[a + gatherWords.sources] = sourcesAt;
      u32[a + gatherWords.ats] = atsAt;
      u32[a + gatherWords.lengths] = lengthsAt;
      u32[a + gatherWords.bytesMin] = Math.max(4, this.#layout.bytesMin);
      u32[a + gatherWords.mask] = this.#layout.mask;
      u32[a + gatherWords.match] = this.#layout.match;
      u32[a + gatherWords.fields] = fieldsAt;
      u32[a + gatherWords.fieldCount] = fields.length;
      u32[a + gatherWords.spans] = spansAt;
      u32[a + gatherWords.spanCount] = this.#spans.length;
      u32[a + gatherWords.requiredFrom] = this.#requiredFrom;
      u32[a + gatherWords.requiredAt] = requiredAt;
      u32[a + gatherWords.requiredBytes] = this.#required.length;
      u32[a + gatherWords.memoryEnd] = bytes.length - 64;
      u32[a + gatherWords.touched] = touchedAt;
      u32[a + gatherWords.outputs] = outputsAt;
      u32[a + gatherWords.outputCount] = all ? this.#rowBytes.length : 0;
      u32[a + gatherWords.note] = this.#layout.note ?? 0;
      const taken = calls.gatherFields(argumentsAt) >>> 0;
      takenSum += taken;
      if (taken > 0 || all) {
        for (const [o, rowBytes] of this.#rowBytes.entries()) {
          copyBytes(bytes, outAt[o]!, outAt[o]! + size * rowBytes, targets.outputs[o]!, first * rowBytes);
        }
        for (const [f, at] of bitsAt.entries()) if (at !== 0) targets.valid[f]!.set(bytes.subarray(at, at + bitBytes), first / 8);
        if (targets.taken !== undefined && all) copyBytes(bytes, touchedAt + 16, touchedAt + 16 + size, targets.taken, first);
        else if (targets.taken !== undefined) {
          for (let i = 0; i < size; i++) if (bytes[touchedAt + 16 + i] !== 0) targets.taken[first + i] = bytes[touchedAt + 16 + i]!;
        }
      }
      first = end;
    }
    return takenSum;
  }
}

function roundedBits(rows: number): number {
  return Math.ceil(rows / 32) * 4;
}
