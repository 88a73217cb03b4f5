// A parameter table: u64 keys to rows of f32 in shared memory, with the optimizer's state. Layout and protocol: kernels/parameters.ts.
// Why one memory with everything: a kernel sees one memory, and a score reads the index and the rows of forty keys at once.
// Invariants: 1. a reader never sees a row half written (seq around every write; tested with threads)
//             and never waits for a writer: what a row is becoming can be read while it is written
//             2. a missing key reads as its initial values, the same in every thread and after a restart, so inserting changes no answer
//             3. one key has one row; a full table refuses new keys, counts them, and goes on with those it has
//             4. equal calls in equal order give equal bits, on every kernel variant and across save and load.
// Cost: a row of 17 numbers under AdaGrad takes 176 bytes and 11-21 of index; docs/design/params.md has the times.
// Concurrency: one writing thread (push, assign, save, load); any thread reads through its own lane. While `load` runs, a key may read as missing.
// Limits: parameterLimits (src/kernel/parameter-layout.ts); batches of any length but for `push` (pushKeysMax: duplicates are found within one call).

import { MillraceError } from "#base/errors";
import { parameterScratch } from "#kernel/kernel-calls";
import type { KernelMemory } from "#kernel/kernel-memory";
import { checkHeader } from "#kernel/memory-header";
import {
  formatParameterTable,
  type Optimizer,
  optimizers,
  parameterMagic,
  parameterRowHead,
  type ParameterShape,
  parameterTableBytes,
  parameterWord as word,
} from "#kernel/parameter-layout";
import { readCheckpoint, writeCheckpoint } from "./parameter-checkpoint.ts";

export type { Optimizer, ParameterShape };

/** What the kernels need beside keys and numbers. */
const alignmentBytes = 4 * 16;

export class ParameterTable {
  readonly #memory: KernelMemory;
  /** Its address: other threads attach with it, kernels are called with it. */
  readonly at: number;
  readonly dims: number;
  readonly factors: number;
  readonly capacityRows: number;
  readonly #head: number;
  readonly #paddedDims: number;

  private constructor(memory: KernelMemory, at: number) {
    this.#memory = memory;
    this.at = at;
    this.#head = at / 4;
    this.dims = this.#word(word.dims);
    this.factors = this.#word(word.factors);
    this.capacityRows = this.#word(word.capacityRows);
    this.#paddedDims = this.#word(word.paddedDims);
  }

  /** Bytes that a table of this shape takes of a memory's data. Throws `invalid`. */
  static bytesFor(shape: ParameterShape): number {
    return parameterTableBytes(shape);
  }

  /** An empty table in the data area of `memory`. Throws `invalid` for its shape, `overloaded` when the memory is full. */
  static create(memory: KernelMemory, shape: ParameterShape): ParameterTable {
    const at = memory.reserve(parameterTableBytes(shape));
    formatParameterTable(memory.u32, at, shape);
    return new ParameterTable(memory, at);
  }

  /** The table that another thread made at `at`. Throws `corrupt` when there is none. */
  static attach(memory: KernelMemory, at: number): ParameterTable {
    checkHeader(memory, at, 128, parameterMagic, "parameter table", "a ParameterTable");
    return new ParameterTable(memory, at);
  }

  #word(index: number): number {
    return Atomics.load(this.#memory.u32, this.#head + index);
  }

  /** Keys that have a row. */
  get rowCount(): number {
    return this.#word(word.count);
  }

  /** How often a key found no room (once for every use of it), modulo 2^32. */
  get refused(): number {
    return this.#word(word.refused);
  }

  /** Steps that were not made because a gradient or a logit was not finite. */
  get skipped(): number {
    return this.#word(word.skipped);
  }

  /** Readings that gave up on a row which stayed half written (its writer died) and took its initial values; `load` heals such rows. */
  get unsteady(): number {
    return this.#word(word.unsteady);
  }

  get optimizer(): Optimizer {
    return optimizers[this.#word(word.optimizer)]!;
  }

  /** Bytes in use by rows, their accumulators and the index. */
  get usedBytes(): number {
    return this.#word(word.rowsFrom) + this.rowCount * (this.#word(word.rowBytes) + this.#word(word.accumulatorBytes));
  }

  /** Keys that one `push` takes. */
  get pushKeysMax(): number {
    const { lane } = this.#memory;
    lane.reset();
    // Key, gradient, address, and up to four words of the merge table.
    return Math.max(0, Math.floor((lane.free - this.#writeScratchBytes - alignmentBytes) / (8 + 4 * this.dims + 4 + 16)));
  }

  get #writeScratchBytes(): number {
    return parameterScratch.baseBytes + parameterScratch.groupKeys * (parameterScratch.slotBytes + 4 * this.#paddedDims);
  }

  #check(keys: Uint32Array, count: number, values: Float32Array): void {
    if (!Number.isInteger(count) || count < 0 || keys.length < 2 * count || values.length < count * this.dims) {
      throw new MillraceError("invalid", `${count} keys in ${keys.length} words with ${values.length} numbers of rows of ${this.dims}`, {
        todo: "give two words a key and a whole row of numbers for each",
      });
    }
  }

  /** Cuts `count` keys into parts that fit the lane with `numberBytes` of numbers each. */
  #parts(
    keys: Uint32Array,
    count: number,
    scratchBytes: number,
    call: (first: number, size: number, keysAt: number, numbersAt: number, scratchAt: number) => void,
  ): void {
    const { lane, u32 } = this.#memory;
    const rowBytes = 4 * this.dims;
    for (let first = 0; first < count;) {
      lane.reset();
      const scratchAt = lane.take(scratchBytes);
      const room = Math.floor((lane.free - alignmentBytes) / (8 + rowBytes));
      const size = Math.min(count - first, room);
      if (size < 1)
        throw new MillraceError("invalid", `a lane too small for rows of ${this.dims} numbers`, { todo: "give the memory larger lanes (laneBytes)" });
      const keysAt = lane.take(size * 8);
      const numbersAt = lane.take(size * rowBytes + 16);
      u32.set(keys.subarray(2 * first, 2 * (first + size)), keysAt / 4);
      call(first, size, keysAt, numbersAt, scratchAt);
      first += size;
    }
  }

  /**
   * Reads the rows of `count` keys (low word, high word) into `into`, `dims` numbers each. A missing key reads as its initial values.
   * Returns how many were missing. Any thread.
   */
  pull(keys: Uint32Array, count: number, into: Float32Array): number {
    this.#check(keys, count, into);
    const { calls, f32 } = this.#memory;
    let missing = 0;
    const scratchBytes = parameterScratch.baseBytes + parameterScratch.groupKeys * parameterScratch.slotBytes;
    this.#parts(keys, count, scratchBytes, (first, size, keysAt, numbersAt, scratchAt) => {
      missing += calls.parametersPull(this.at, keysAt, size, numbersAt, scratchAt) >>> 0;
      into.set(f32.subarray(numbersAt / 4, numbersAt / 4 + size * this.dims), first * this.dims);
    });
    return missing;
  }

  /**
   * One step of the optimizer for each distinct key: gradients of a key that comes several times are added up first. Missing keys get a row.
   * A gradient that is not finite makes no step (see `skipped`). Returns how many keys were refused because the table is full. Throws
   * `invalid` for more than pushKeysMax keys.
   */
  push(keys: Uint32Array, count: number, gradients: Float32Array): number {
    this.#check(keys, count, gradients);
    if (count === 0) return 0;
    if (count > this.pushKeysMax) {
      throw new MillraceError("invalid", `a push of ${count} keys exceeds ${this.pushKeysMax}`, {
        todo: "push less at once, or give the memory larger lanes (laneBytes)",
      });
    }
    const { lane, u32, f32, calls } = this.#memory;
    const mergeSlots = 2 ** Math.ceil(Math.log2(2 * count));
    lane.reset();
    const scratchAt = lane.take(this.#writeScratchBytes);
    const mergeAt = lane.take((mergeSlots + count) * 4);
    const keysAt = lane.take(count * 8);
    const gradientsAt = lane.take(count * this.dims * 4);
    u32.set(keys.subarray(0, 2 * count), keysAt / 4);
    f32.set(gradients.subarray(0, count * this.dims), gradientsAt / 4);
    return calls.parametersPush(this.at, keysAt, count, gradientsAt, mergeAt, mergeSlots - 1, scratchAt) >>> 0;
  }

  /** Sets the rows of `count` keys, `dims` numbers each; missing keys get a row, accumulators stay. Returns how many keys were refused. */
  assign(keys: Uint32Array, count: number, values: Float32Array): number {
    this.#check(keys, count, values);
    const { calls, f32 } = this.#memory;
    let refused = 0;
    this.#parts(keys, count, this.#writeScratchBytes, (first, size, keysAt, numbersAt, scratchAt) => {
      f32.set(values.subarray(first * this.dims, (first + size) * this.dims), numbersAt / 4);
      refused += calls.parametersAssign(this.at, keysAt, size, numbersAt, scratchAt) >>> 0;
    });
    return refused;
  }

  /** Whether every value and accumulator is finite. Reads the whole table: 20 ms for a million rows of 17. */
  finite(): boolean {
    return this.#memory.calls.parametersFinite(this.at) === 1;
  }

  /** How many steps the key's row has seen; undefined when it has no row. For tests, tools and eviction; one key at a time, slow. */
  touches(low: number, high: number): number | undefined {
    const { u32 } = this.#memory;
    for (let row = 0; row < this.rowCount; row++) {
      const at = this.#rowAt(row) / 4;
      if (u32[at + 2] === low >>> 0 && u32[at + 3] === high >>> 0) return u32[at + 1];
    }
    return undefined;
  }

  #rowAt(row: number): number {
    return this.at + this.#word(word.rowsFrom) + row * this.#word(word.rowBytes);
  }

  #accumulatorAt(row: number): number {
    return this.at + this.#word(word.accumulatorsFrom) + row * this.#word(word.accumulatorBytes);
  }

  /** Numbers of a row's accumulators that a checkpoint keeps. */
  get #accumulatorNumbers(): number {
    const { optimizer } = this;
    return optimizer === "adagrad" ? this.dims : optimizer === "rowwise-adagrad" ? 2 : 0;
  }

  /** What a checkpoint must agree on with the table that reads it. */
  #checkpointShape(): {
    dims: number;
    factors: number;
    optimizer: number;
    seedLow: number;
    seedHigh: number;
    initialScaleBits: number;
    accumulatorNumbers: number;
  } {
    return {
      dims: this.dims,
      factors: this.factors,
      optimizer: this.#word(word.optimizer),
      seedLow: this.#word(word.seedLow),
      seedHigh: this.#word(word.seedHigh),
      initialScaleBits: this.#word(word.initialScale),
      accumulatorNumbers: this.#accumulatorNumbers,
    };
  }

  /** Everything, as one file's parts (docs/format/parameter-checkpoint.md). Copies: the caller, who is the writer, may go on at once. */
  save(): Uint8Array[] {
    const { u32 } = this.#memory;
    const shape = this.#checkpointShape();
    const { accumulatorNumbers } = shape;
    return writeCheckpoint({ ...shape, rowCount: this.rowCount, refused: this.refused, skipped: this.skipped }, (row, record, at) => {
      const from = this.#rowAt(row) / 4;
      record[at] = u32[from + 2]!;
      record[at + 1] = u32[from + 3]!;
      record[at + 2] = u32[from + 1]!;
      const values = from + parameterRowHead / 4;
      for (let i = 0; i < this.dims; i++) record[at + 3 + i] = u32[values + i]!;
      const accumulator = this.#accumulatorAt(row) / 4;
      for (let i = 0; i < accumulatorNumbers; i++) record[at + 3 + this.dims + i] = u32[accumulator + i]!;
    });
  }

  /**
   * Replaces the content by what `save` gave (the same parts, or one array with all of them). Rates, l2 and capacity stay this table's own.
   * Checks everything before it changes anything. Throws `corrupt` (damaged), `unsupported` (a later version), `conflict` (of another shape),
   * `overloaded` (more rows than this table holds). Readers may go on; rows that both have stay readable throughout.
   */
  load(parts: readonly Uint8Array[]): void {
    const { head, rows } = readCheckpoint(parts);
    const own = this.#checkpointShape();
    for (const [name, value] of Object.entries(own)) {
      if (head[name as keyof typeof own] !== value) {
        throw new MillraceError("conflict", `a parameter checkpoint whose ${name} differs from the table's`, {
          todo: "start with the configuration that wrote it, or without the checkpoint",
        });
      }
    }
    if (head.rowCount > this.capacityRows) {
      throw new MillraceError("overloaded", `a checkpoint of ${head.rowCount} rows for a table of ${this.capacityRows}`, { todo: "raise capacityRows" });
    }
    const { u32, calls } = this.#memory;
    // Rows are numbered by age: what both have in common is a beginning, and rows behind it may leave without breaking a probe.
    let common = 0;
    const rowCount = this.rowCount;
    rows((row, words, at) => {
      const from = this.#rowAt(row) / 4;
      if (common === row && row < rowCount && u32[from + 2] === words[at] && u32[from + 3] === words[at + 1]) common++;
    });
    calls.parametersTruncate(this.at, common);
    const batch = 256;
    const keys = new Uint32Array(2 * batch);
    const values = new Float32Array(batch * this.dims);
    const bits = new Uint32Array(values.buffer);
    let waiting = 0;
    const flush = (): void => {
      this.assign(keys, waiting, values);
      waiting = 0;
    };
    rows((_, words, at) => {
      keys[2 * waiting] = words[at]!;
      keys[2 * waiting + 1] = words[at + 1]!;
      for (let i = 0; i < this.dims; i++) bits[waiting * this.dims + i] = words[at + 3 + i]!;
      if (++waiting === batch) flush();
    });
    flush();
    if (this.rowCount !== head.rowCount) {
      calls.parametersTruncate(this.at, 0);
      throw new MillraceError("corrupt", "a parameter checkpoint that names a key twice", { todo: "use an earlier checkpoint" });
    }
    rows((row, words, at) => {
      u32[this.#rowAt(row) / 4 + 1] = words[at + 2]!;
      const accumulator = this.#accumulatorAt(row) / 4;
      for (let i = 0; i < head.accumulatorNumbers; i++) u32[accumulator + i] = words[at + 3 + this.dims + i]!;
    });
    Atomics.store(u32, this.#head + word.refused, head.refused);
    Atomics.store(u32, this.#head + word.skipped, head.skipped);
  }
}
