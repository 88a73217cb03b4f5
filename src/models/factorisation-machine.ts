// A factorisation machine: trained sample by sample, read by any thread meanwhile. Its parameters are rows of a parameter shard (shard-rows.ts).
//   logit = sum w x + 1/2 sum_f [(sum v_f x)^2 - sum (v_f x)^2], the second part over full slots only. Source: Rendle, "Factorization Machines", ICDM 2010.
// A row is `factors` numbers v, then w. The bias is a linear-only slot like any other (the extractor adds it).
// Why sample by sample and not in minibatches: what the model is after a sample is then a function of the samples alone, not of how they were cut.
// Invariants: 1. learn(samples) = learn of each sample by itself, in order, bit for bit, on every kernel variant
//             2. the logit of `learn` is the model's before the step of that sample, without its shift
//             3. logit = c_U + <U, I> + c_I with `query` and `vectors`, up to f32 rounding; `score` = `evaluate` of the joined rows, likewise
//             4. a sample whose logit is not finite changes nothing and is counted (`skipped`); gradients are bounded, the error is taken at
//                |logit + shift| <= 30.
// Cost: docs/design/params.md. Concurrency: one thread learns, assigns, saves and loads; any thread reads through its own lane.
// Limits: shardMachineLimits; batches of any length (they go through the lane in parts of whole rows).

import { MillraceError } from "#base/errors";
import type { SlotRows } from "#extract/slot-rows";
import type { KernelMemory } from "#kernel/kernel-memory";
import { shardMachineLimits, type ShardMachineShape } from "#kernel/shard-machine-layout";
import { ShardRows, type SlotPlaces } from "./shard-rows.ts";

/**
 * Usual: factors 8 to 16 (cost grows with them), initialScale 0.01 to 0.1 (0 never learns an interaction), with AdaGrad rates of 0.02 to 0.2 and a first
 * accumulator of 0.1 to 10 (larger: smaller first steps).
 */
export type FmOptions = ShardMachineShape;

/** Where one part of a batch lies in the lane. */
interface Part extends SlotPlaces {
  readonly first: number;
  /** Address of what the caller asked for, 16-aligned. */
  readonly numbers: number;
}

export class FactorisationMachine {
  readonly table: ShardRows;
  readonly factors: number;
  /** Numbers of a vector and of a query: factors + 1, padded to a multiple of 4. */
  readonly vectorDims: number;
  readonly #memory: KernelMemory;

  private constructor(memory: KernelMemory, table: ShardRows) {
    this.#memory = memory;
    this.table = table;
    this.factors = table.factors;
    this.vectorDims = table.factors + 4;
  }

  /** Bytes that it takes of a memory's data. Throws `invalid`. */
  static bytesFor(options: FmOptions): number {
    return ShardRows.bytesFor(options);
  }

  /** An untrained machine in the data area of `memory`. */
  static create(memory: KernelMemory, options: FmOptions): FactorisationMachine {
    return new FactorisationMachine(memory, ShardRows.create(memory, options));
  }

  /** The machine that another thread made at `at`. Throws `corrupt` when there is none. */
  static attach(memory: KernelMemory, at: number): FactorisationMachine {
    return new FactorisationMachine(memory, ShardRows.attach(memory, at));
  }

  get at(): number {
    return this.table.at;
  }

  get rowCount(): number {
    return this.table.rowCount;
  }

  get capacityRows(): number {
    return this.table.capacityRows;
  }

  get refused(): number {
    return this.table.refused;
  }

  get skipped(): number {
    return this.table.skipped;
  }

  /**
   * Passes rows of slots through the lane, in as many parts as it takes. `numbersPerRow` f32 are reserved a row, `fixedBytes` (16-aligned
   * size) before the numbers stay the same for all parts. Throws `invalid` for rows that are too long or broken.
   */
  #parts(samples: SlotRows, writes: boolean, numbersPerRow: number, fixed: Float32Array | undefined, call: (part: Part, fixedAt: number) => void): void {
    const { lane, u32, f32 } = this.#memory;
    const { rows, offsets, linearEnds } = samples;
    let longest = 0;
    for (let row = 0; row < rows; row++) {
      const from = offsets[row]!;
      const linearEnd = linearEnds[row]!;
      const to = offsets[row + 1]!;
      if (!(from <= linearEnd && linearEnd <= to)) throw new MillraceError("invalid", `row ${row} of slots does not end behind its beginning`);
      if (to - from > longest) longest = to - from;
    }
    if (longest > shardMachineLimits.rowSlotsMax) {
      throw new MillraceError("invalid", `a row of ${longest} slots`, {
        todo: `declare fewer fields, or smaller \`max\`: at most ${shardMachineLimits.rowSlotsMax} slots a row`,
      });
    }
    const scratchBytes = this.table.scratchBytes(longest, writes);
    for (let first = 0; first < rows;) {
      lane.reset();
      const scratch = lane.take(scratchBytes);
      const fixedAt = fixed === undefined ? 0 : lane.take(fixed.length * 4);
      if (fixed !== undefined) f32.set(fixed, fixedAt / 4);
      // Five pieces, each rounded up to 16 bytes; one offset more than rows.
      let room = lane.free - 5 * 16 - 4;
      const from = offsets[first]!;
      let end = first;
      while (end < rows) {
        room -= 8 + 4 * numbersPerRow + 12 * (offsets[end + 1]! - offsets[end]!);
        if (room < 0) break;
        end++;
      }
      if (end === first) throw new MillraceError("invalid", `a row of slots exceeds the lane`, { todo: "give the memory larger lanes (laneBytes)" });
      const count = end - first;
      const to = offsets[end]!;
      const part: Part = {
        first,
        rows: count,
        offsets: lane.take((count + 1) * 4),
        linearEnds: lane.take(count * 4),
        keys: lane.take((to - from) * 8),
        weights: lane.take((to - from) * 4),
        numbers: lane.take(count * numbersPerRow * 4),
        scratch,
      };
      for (let row = 0; row < count; row++) {
        u32[part.offsets / 4 + row] = offsets[first + row]! - from;
        u32[part.linearEnds / 4 + row] = linearEnds[first + row]! - from;
      }
      u32[part.offsets / 4 + count] = to - from;
      u32.set(samples.keys.subarray(2 * from, 2 * to), part.keys / 4);
      f32.set(samples.weights.subarray(from, to), part.weights / 4);
      call(part, fixedAt);
      first = end;
    }
  }

  #checkRows(samples: SlotRows, numbers: number, each: number, name: string): void {
    if (numbers < samples.rows * each) {
      throw new MillraceError("invalid", `${samples.rows} rows of slots with ${numbers} ${name}`, { todo: `give ${each} a row` });
    }
  }

  /**
   * Trains, row by row: `logits[r]` = the model's logit before the step; then one step on `importance[r]` times the log loss of
   * sigmoid(logit + `shifts[r]`) against `labels[r]` (0 to 1). Keys without a row get one. `touchedS`: when each sample was (seconds since
   * 1970), what its rows remember. Writer only.
   */
  learn(samples: SlotRows, labels: Float32Array, importance: Float32Array, shifts: Float32Array, logits: Float32Array, touchedS?: Uint32Array): void {
    const least = Math.min(labels.length, importance.length, shifts.length, logits.length);
    this.#checkRows(samples, least, 1, "labels, importances, shifts or logits");
    if (touchedS !== undefined) this.#checkRows(samples, touchedS.length, 1, "seconds");
    const { f32, u32 } = this.#memory;
    this.#parts(samples, true, 5, undefined, (part) => {
      const { first, rows, numbers } = part;
      const at = numbers / 4;
      f32.set(labels.subarray(first, first + rows), at);
      f32.set(importance.subarray(first, first + rows), at + rows);
      f32.set(shifts.subarray(first, first + rows), at + 2 * rows);
      const step = 4 * rows;
      if (touchedS === undefined) u32.fill(0, at + 4 * rows, at + 5 * rows);
      else u32.set(touchedS.subarray(first, first + rows), at + 4 * rows);
      this.table.learn(part, numbers, numbers + step, numbers + 2 * step, numbers + 3 * step, numbers + 4 * step);
      logits.set(f32.subarray(at + 3 * rows, at + 4 * rows), first);
    });
  }

  /** The logit of each row, no step. Any thread. */
  evaluate(samples: SlotRows, logits: Float32Array): void {
    this.#logits(samples, undefined, logits);
  }

  /** The logit of each item row joined with the one user row: the user's slots are summed once. Any thread. */
  score(user: SlotRows, items: SlotRows, logits: Float32Array): void {
    this.#logits(items, this.#userSums(user), logits);
  }

  #logits(samples: SlotRows, start: Float32Array | undefined, logits: Float32Array): void {
    this.#checkRows(samples, logits.length, 1, "logits");
    const { f32 } = this.#memory;
    this.#parts(samples, false, 1, start, (part, startAt) => {
      const { first, rows, numbers } = part;
      this.table.logits(part, startAt, numbers);
      logits.set(f32.subarray(numbers / 4, numbers / 4 + rows), first);
    });
  }

  #oneRow(user: SlotRows): void {
    if (user.rows !== 1) throw new MillraceError("invalid", `${user.rows} rows of user slots`, { todo: "give exactly one" });
  }

  #userSums(user: SlotRows): Float32Array {
    this.#oneRow(user);
    const { f32 } = this.#memory;
    const sums = new Float32Array(this.factors + 8);
    this.#parts(user, false, sums.length, undefined, (part) => {
      this.table.sums(part, part.numbers);
      sums.set(f32.subarray(part.numbers / 4, part.numbers / 4 + sums.length));
    });
    return sums;
  }

  /**
   * Per row vectorDims numbers to `into`: I = sum v x, then c_I = the row's own logit, then zeros. For a user U and an item I:
   * logit = c_U + <U, I> + c_I. Any thread.
   */
  vectors(items: SlotRows, into: Float32Array): void {
    this.#checkRows(items, into.length, this.vectorDims, "numbers for vectors");
    const { f32 } = this.#memory;
    this.#parts(items, false, this.vectorDims, undefined, (part) => {
      const { first, rows, numbers } = part;
      this.table.vectors(part, numbers);
      into.set(f32.subarray(numbers / 4, numbers / 4 + rows * this.vectorDims), first * this.vectorDims);
    });
  }

  /** Writes [U, 1, 0, 0, 0] (vectorDims numbers) to `into` and returns c_U: <query, vector of I> + c_U is the logit. Any thread. */
  query(user: SlotRows, into: Float32Array): number {
    this.#oneRow(user);
    this.vectors(user, into);
    const own = into[this.factors]!;
    into[this.factors] = 1;
    return own;
  }

  /** Sets w of each key (low word, high word), leaving v: what linear fields begin with. Returns how many keys were refused. Writer only. */
  assignLinear(keys: Uint32Array, weights: Float32Array): number {
    const { table } = this;
    const count = weights.length;
    const values = new Float32Array(count * table.dims);
    table.pull(keys, count, values);
    for (let i = 0; i < count; i++) values[i * table.dims + this.factors] = weights[i]!;
    return table.assign(keys, count, values);
  }

  /** Whether every parameter and accumulator is finite; reads the whole table. Writer only. */
  finite(): boolean {
    return this.table.finite();
  }

  /** All rows with versions and the optimizer's state (docs/format/machine-checkpoint.md), copied. Writer only. */
  save(): Uint8Array[] {
    return this.table.save();
  }

  /** Goes back to what `save` gave; see ShardRows.load for what it throws. Writer only. */
  load(parts: readonly Uint8Array[]): void {
    this.table.load(parts);
  }
}
