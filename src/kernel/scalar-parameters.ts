// The scalar twin of kernels/parameters.ts and kernels/factorisation.ts: the same calls over the same bytes.
// Invariants: 1. the same bits as the binaries: every product, sum, quotient and root is rounded to f32 where theirs is, in the same order
//             2. rows are written and read by the same protocol of seq, so threads of different variants work on one table.
// Cost: some 8x the SIMD kernels. Concurrency: as theirs: one writing thread, any number of readers.

import type { KernelCalls } from "./kernel-calls.ts";
import { mixWord } from "./parameter-key.ts";
import { parameterRowHead, parameterWord as word } from "./parameter-layout.ts";
import { bounded, ScalarSums, slopeOf, stepNumbers } from "./scalar-factors.ts";
import type { WasmMemory } from "./web-assembly.ts";

export type ParameterCalls = Pick<
  KernelCalls,
  "parametersPull" | "parametersPush" | "parametersAssign" | "parametersTruncate" | "parametersFinite" | "fmLearn" | "fmLogits" | "fmSums" | "fmVectors"
>;

const { fround } = Math;
const golden = 0x9e3779b9;
const readingsMax = 4_096;
const rowwise = 2;
/** Words of one row at most, and of the sums. */
const wordsMax = 256;

export function bindScalarParameters(memory: WasmMemory): ParameterCalls {
  const { buffer } = memory;
  const u32 = new Uint32Array(buffer);
  const f32 = new Float32Array(buffer);
  const sums = new ScalarSums();
  const spare = new Float32Array(wordsMax);

  // ---- the table opened last: its header in plain variables ----

  let head = 0;
  let slotMask = 0;
  let index = 0;
  let rowsAt = 0;
  let rowBytes = 0;
  let accumulatorsAt = 0;
  let accumulatorBytes = 0;
  let dims = 0;
  let factors = 0;
  let padded = 0;
  let optimizer = 0;

  function open(table: number): void {
    head = table >>> 2;
    slotMask = u32[head + 1]!;
    index = (table + u32[head + word.indexFrom]!) >>> 2;
    rowsAt = table + u32[head + word.rowsFrom]!;
    rowBytes = u32[head + word.rowBytes]!;
    accumulatorsAt = table + u32[head + word.accumulatorsFrom]!;
    accumulatorBytes = u32[head + word.accumulatorBytes]!;
    dims = u32[head + word.dims]!;
    factors = u32[head + word.factors]!;
    padded = u32[head + word.paddedDims]!;
    optimizer = u32[head + word.optimizer]!;
  }

  /** `scratchWord`: a word of this thread. A read-modify-write keeps what is before it before what is after it. */
  function fence(scratchWord: number): void {
    Atomics.add(u32, scratchWord, 0);
  }

  const tagOf = (low: number): number => mixWord(low ^ u32[head + word.seedLow]!);
  const hashOf = (tag: number, high: number): number => mixWord((tag + ((high ^ u32[head + word.seedHigh]!) >>> 0)) | 0);

  function initialValues(tag: number, hash: number, into: Float32Array, at: number): void {
    const scale = f32[head + word.initialScale]!;
    for (let i = 0; i < factors; i++) {
      const bits = mixWord((mixWord((tag + Math.imul(i + 1, golden)) | 0) + hash) | 0) >>> 8;
      into[at + i] = (bits * 1.1920928955078125e-7 - 1) * scale;
    }
    for (let i = factors; i < padded; i++) into[at + i] = 0;
  }

  /** Address of the key's row, or 0. */
  function find(low: number, high: number, tag: number, hash: number): number {
    for (let slot = (hash & slotMask) >>> 0; ; slot = ((slot + 1) & slotMask) >>> 0) {
      // The reference after the tag may belong to a later entry only when the row was forgotten meanwhile; the key decides.
      const reference = Atomics.load(u32, index + 2 * slot + 1);
      if (reference === 0) return 0;
      if (Atomics.load(u32, index + 2 * slot) !== tag) continue;
      const row = rowsAt + rowBytes * (reference - 1);
      if (u32[row / 4 + 2] === low && u32[row / 4 + 3] === high) return row;
    }
  }

  /** Copies what a row is becoming into `spare`; false when no group is being written, it ended meanwhile, or the row is not in it. */
  function readPending(row: number, scratchWord: number): boolean {
    const epoch = Atomics.load(u32, head + word.epoch);
    if ((epoch & 1) === 0) return false;
    const slots = u32[head + word.pendingSlots]! / 4;
    const count = u32[head + word.pendingCount]!;
    let i = 0;
    while (i < count && u32[slots + 4 * i] !== row) i++;
    if (i === count) return false;
    const values = u32[head + word.pendingValues]! / 4 + padded * i;
    const kept = i < u32[head + word.pendingRestOnly]! ? factors : 0;
    for (let j = 0; j < padded; j++) spare[j] = j < kept ? f32[(row + parameterRowHead) / 4 + j]! : f32[values + j]!;
    fence(scratchWord);
    return Atomics.load(u32, head + word.epoch) === epoch;
  }

  /** Reads the values of the key at word `key`, never a mixture, into `spare`; false when it has no row. */
  function readSteady(key: number, scratchWord: number): boolean {
    const low = u32[key]!;
    const high = u32[key + 1]!;
    const tag = tagOf(low);
    const hash = hashOf(tag, high);
    for (let reading = 0; reading < readingsMax; reading++) {
      const row = find(low, high, tag, hash) / 4;
      if (row === 0) {
        initialValues(tag, hash, spare, 0);
        return false;
      }
      const seq = Atomics.load(u32, row);
      if (u32[row + 2] !== low || u32[row + 3] !== high) continue;
      if ((seq & 1) !== 0) {
        if (readPending(row * 4, scratchWord)) return true;
        continue;
      }
      for (let i = 0; i < padded; i++) spare[i] = f32[row + 4 + i]!;
      fence(scratchWord);
      if (Atomics.load(u32, row) === seq) return true;
    }
    Atomics.add(u32, head + word.unsteady, 1);
    initialValues(tag, hash, spare, 0);
    return false;
  }

  /** Ends the group of a writer that died in the middle, before its lane is used again. */
  function endOrphan(): void {
    if ((u32[head + word.epoch]! & 1) !== 0) Atomics.add(u32, head + word.epoch, 1);
  }

  function beginWrite(row: number): void {
    Atomics.store(u32, row / 4, u32[row / 4]! | 1);
  }

  function endWrite(row: number): void {
    Atomics.store(u32, row / 4, (u32[row / 4]! | 1) + 1);
  }

  /** Word of the one slot that `commit` names, behind the values. */
  const slotBehind = wordsMax + 8;

  /** Address of the key's row, which is made when there is none; 0 when the table is full. */
  function claim(key: number, scratchWord: number): number {
    const low = u32[key]!;
    const high = u32[key + 1]!;
    const tag = tagOf(low);
    const hash = hashOf(tag, high);
    const known = find(low, high, tag, hash);
    if (known !== 0) return known;
    const count = u32[head + word.count]!;
    if (count >= u32[head + word.capacityRows]!) {
      u32[head + word.refused]!++;
      return 0;
    }
    const row = rowsAt + rowBytes * count;
    beginWrite(row);
    fence(scratchWord);
    u32[row / 4 + 1] = 0;
    u32[row / 4 + 2] = low;
    u32[row / 4 + 3] = high;
    initialValues(tag, hash, f32, (row + parameterRowHead) / 4);
    fence(scratchWord);
    endWrite(row);
    const accumulator = (accumulatorsAt + accumulatorBytes * count) / 4;
    f32.fill(f32[head + word.initialAccumulator]!, accumulator, accumulator + accumulatorBytes / 4);
    let slot = (hash & slotMask) >>> 0;
    while (u32[index + 2 * slot + 1] !== 0) slot = ((slot + 1) & slotMask) >>> 0;
    Atomics.store(u32, head + word.count, count + 1);
    Atomics.store(u32, index + 2 * slot, tag);
    Atomics.store(u32, index + 2 * slot + 1, count + 1);
    return row;
  }

  const accumulatorOf = (row: number): number => (accumulatorsAt + accumulatorBytes * Math.round((row - rowsAt) / rowBytes)) / 4;

  function stepFactors(row: number, accumulator: number, values: number): void {
    if (factors === 0) return;
    const part = { optimizer, rate: f32[head + word.rateFactors]!, l2: f32[head + word.l2Factors]!, size: factors };
    stepNumbers(part, factors, f32, (row + parameterRowHead) / 4, accumulator, f32, values);
  }

  function stepRest(row: number, accumulator: number, values: number): void {
    if (dims === factors) return;
    const part = { optimizer, rate: f32[head + word.rateLinear]!, l2: f32[head + word.l2Linear]!, size: dims - factors };
    const second = accumulator + (optimizer === rowwise ? 1 : factors);
    stepNumbers(part, padded - factors, f32, (row + parameterRowHead) / 4 + factors, second, f32, values + factors);
  }

  /** Makes words [from, padded) at `values` the row's values: a group of one. */
  function commit(row: number, from: number, values: number, touch: number, scratchWord: number): void {
    u32[scratchWord + slotBehind] = row;
    u32[head + word.pendingSlots] = (scratchWord + slotBehind) * 4;
    u32[head + word.pendingCount] = 1;
    u32[head + word.pendingRestOnly] = from === 0 ? 0 : 1;
    u32[head + word.pendingValues] = values * 4;
    Atomics.add(u32, head + word.epoch, 1);
    beginWrite(row);
    fence(scratchWord);
    const weights = (row + parameterRowHead) / 4;
    for (let i = from; i < padded; i++) f32[weights + i] = f32[values + i]!;
    if (u32[row / 4 + 1] !== 0xffffffff) u32[row / 4 + 1]! += touch;
    fence(scratchWord);
    endWrite(row);
    Atomics.add(u32, head + word.epoch, 1);
  }

  function copyPadded(to: number, from: number): void {
    for (let i = 0; i < dims; i++) f32[to + i] = f32[from + i]!;
    for (let i = dims; i < padded; i++) f32[to + i] = 0;
  }

  function allFinite(at: number, words: number): boolean {
    for (let i = 0; i < words; i++) if (!Number.isFinite(f32[at + i]!)) return false;
    return true;
  }

  /** Sums each row of slots and hands it over. */
  function readRows(
    table: number,
    start: number,
    offsets: number,
    linearEnds: number,
    keys: number,
    weights: number,
    rows: number,
    scratch: number,
    put: (row: number) => void,
  ): void {
    open(table);
    for (let r = 0; r < rows; r++) {
      sums.begin(factors, start === 0 ? undefined : f32.subarray(start / 4, start / 4 + factors + 8));
      const linearEnd = u32[linearEnds / 4 + r]!;
      const end = u32[offsets / 4 + r + 1]!;
      for (let i = u32[offsets / 4 + r]!; i < end; i++) {
        const found = readSteady(keys / 4 + 2 * i, scratch / 4);
        const x = f32[weights / 4 + i]!;
        if (i >= linearEnd) sums.addSlot(spare, 0, x);
        else if (found) sums.addLinear(x, spare[factors]!);
      }
      put(r);
    }
  }

  return {
    parametersPull(table, keys, count, out, scratch) {
      open(table);
      let missing = 0;
      for (let i = 0; i < count; i++) {
        if (!readSteady(keys / 4 + 2 * i, scratch / 4)) missing++;
        for (let j = 0; j < dims; j++) f32[out / 4 + i * dims + j] = spare[j]!;
      }
      return missing;
    },

    parametersPush(table, keys, count, gradients, _merge, _mergeMask, scratch) {
      open(table);
      endOrphan();
      let refused = 0;
      const firstOf = new Map<number, number>();
      const rows = new Float64Array(count);
      for (let i = 0; i < count; i++) {
        const row = claim(keys / 4 + 2 * i, scratch / 4);
        if (row === 0) {
          refused++;
          continue;
        }
        const earlier = firstOf.get(row);
        if (earlier === undefined) {
          firstOf.set(row, i);
          rows[i] = row;
          continue;
        }
        for (let j = 0; j < dims; j++) f32[gradients / 4 + earlier * dims + j]! += f32[gradients / 4 + i * dims + j]!;
      }
      const values = scratch / 4 + 4;
      for (let i = 0; i < count; i++) {
        const row = rows[i]!;
        if (row === 0) continue;
        copyPadded(values, gradients / 4 + i * dims);
        if (!allFinite(values, padded)) {
          u32[head + word.skipped]!++;
          continue;
        }
        const accumulator = accumulatorOf(row);
        stepFactors(row, accumulator, values);
        stepRest(row, accumulator, values);
        commit(row, 0, values, 1, scratch / 4);
      }
      return refused;
    },

    parametersAssign(table, keys, count, given, scratch) {
      open(table);
      endOrphan();
      let refused = 0;
      const values = scratch / 4 + 4;
      for (let i = 0; i < count; i++) {
        const row = claim(keys / 4 + 2 * i, scratch / 4);
        if (row === 0) {
          refused++;
          continue;
        }
        copyPadded(values, given / 4 + i * dims);
        commit(row, 0, values, 0, scratch / 4);
      }
      return refused;
    },

    parametersTruncate(table, rows) {
      open(table);
      endOrphan();
      for (let count = u32[head + word.count]!; count > rows; count--) {
        const row = (rowsAt + rowBytes * (count - 1)) / 4;
        let slot = (hashOf(tagOf(u32[row + 2]!), u32[row + 3]!) & slotMask) >>> 0;
        while (u32[index + 2 * slot + 1] !== count && u32[index + 2 * slot + 1] !== 0) slot = ((slot + 1) & slotMask) >>> 0;
        Atomics.store(u32, index + 2 * slot + 1, 0);
        Atomics.store(u32, index + 2 * slot, 0);
        Atomics.store(u32, head + word.count, count - 1);
      }
    },

    parametersFinite(table) {
      open(table);
      const count = u32[head + word.count]!;
      for (let i = 0; i < count; i++) if (!allFinite((rowsAt + rowBytes * i + parameterRowHead) / 4, padded)) return 0;
      return allFinite(accumulatorsAt / 4, (count * accumulatorBytes) / 4) ? 1 : 0;
    },

    fmLearn(table, offsets, linearEnds, keys, weights, rows, labels, importance, shifts, logits, scratch) {
      open(table);
      endOrphan();
      for (let r = 0; r < rows; r++) {
        const first = u32[offsets / 4 + r]!;
        const linearEnd = u32[linearEnds / 4 + r]!;
        const end = u32[offsets / 4 + r + 1]!;
        const claimed = new Float64Array(end - first);
        sums.begin(factors);
        for (let i = first; i < end; i++) {
          const row = claim(keys / 4 + 2 * i, scratch / 4);
          claimed[i - first] = row;
          const x = f32[weights / 4 + i]!;
          if (row === 0 && i >= linearEnd) {
            const tag = tagOf(u32[keys / 4 + 2 * i]!);
            initialValues(tag, hashOf(tag, u32[keys / 4 + 2 * i + 1]!), spare, 0);
            sums.addSlot(spare, 0, x);
          } else if (i >= linearEnd) sums.addSlot(f32, (row + parameterRowHead) / 4, x);
          else if (row !== 0) sums.addLinear(x, f32[(row + parameterRowHead) / 4 + factors]!);
        }
        const logit = sums.finish();
        f32[logits / 4 + r] = logit;
        const g = slopeOf(logit, f32[shifts / 4 + r]!, f32[labels / 4 + r]!, f32[importance / 4 + r]!);
        if (g === undefined) {
          u32[head + word.skipped]!++;
          continue;
        }
        const values = scratch / 4 + 4;
        for (let i = first; i < end; i++) {
          const row = claimed[i - first]!;
          if (row === 0) continue;
          const accumulator = accumulatorOf(row);
          const x = f32[weights / 4 + i]!;
          const gx = fround(g * x);
          if (i >= linearEnd) {
            sums.gradient(f32, (row + parameterRowHead) / 4, x, gx, f32, values);
            stepFactors(row, accumulator, values);
          }
          f32[values + factors] = bounded(gx);
          f32.fill(0, values + factors + 1, values + padded);
          stepRest(row, accumulator, values);
          commit(row, i >= linearEnd ? 0 : factors, values, 1, scratch / 4);
        }
      }
    },

    fmLogits(table, start, offsets, linearEnds, keys, weights, rows, logits, scratch) {
      readRows(table, start, offsets, linearEnds, keys, weights, rows, scratch, (row) => {
        f32[logits / 4 + row] = sums.finish();
      });
    },

    fmSums(table, offsets, linearEnds, keys, weights, rows, out, scratch) {
      readRows(table, 0, offsets, linearEnds, keys, weights, rows, scratch, (row) => {
        f32.set(sums.sums.subarray(0, factors + 8), out / 4 + row * (factors + 8));
      });
    },

    fmVectors(table, offsets, linearEnds, keys, weights, rows, out, scratch) {
      readRows(table, 0, offsets, linearEnds, keys, weights, rows, scratch, (row) => {
        const at = out / 4 + row * (factors + 4);
        f32.set(sums.sums.subarray(0, factors), at);
        f32.fill(0, at + factors, at + factors + 4);
        f32[at + factors] = sums.finish();
      });
    },
  };
}
