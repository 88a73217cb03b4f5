// The scalar twin of kernels/vector-rows.ts, vector-codes8.ts and vector-bits.ts: the same calls over the same bytes, and the readable definition of what they do.
// Invariants: 1. codes, lists and counts are equal to the kernels' bit for bit  2. f32 scores are summed in f64 and rounded once, so they may differ from the kernels'
// in the last bits (and each binary's from the other's).
// Cost: 3-5x the binaries for f32, more for int8. Concurrency: as the kernels.

import type { KernelCalls, VectorCalls } from "./kernel-calls.ts";
import { codeMargin, foldQuery, nearestWhole, scoreCode } from "./scalar-codes8.ts";
import { filterScanRows, scanWords } from "./vector-layout.ts";
import type { WasmMemory } from "./web-assembly.ts";

/** What the twin takes of the twin of kernels/top-k.ts. */
export interface ScalarHeap {
  /** Offers one scored row; returns the threshold after it. */
  offer(heap: number, score: number, row: number): number;
  thresholdOf(heap: number): number;
  topKReset: KernelCalls["topKReset"];
}

/** Binds the twin to a memory. */
export function bindScalarVectors(memory: WasmMemory, { offer, thresholdOf, topKReset }: ScalarHeap): VectorCalls {
  const i8 = new Int8Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  const f32 = new Float32Array(memory.buffer);
  const f64 = new Float64Array(memory.buffer);

  const passes = (live: number, filter: number, slot: number): boolean => {
    const word = slot >>> 5;
    let bits = 0xffffffff;
    if (live !== 0) bits = u32[live / 4 + word]!;
    if (filter !== 0) bits &= u32[filter / 4 + word]!;
    return ((bits >>> (slot & 31)) & 1) === 1;
  };

  /** The query in f64, or each use would widen it again. */
  let wide = new Float64Array(64);

  /** A scan of f32 rows: `slots` names them, one query. */
  function scanRows(args: number, query: number, heap: number, count: number, slotAt: (i: number) => number, live: number, filter: number): void {
    const word = (index: number): number => u32[args / 4 + index]!;
    const rows = word(scanWords.rows) / 4;
    const words = word(scanWords.rowBytes) / 4;
    const bias = word(scanWords.bias) / 4;
    const slots = word(scanWords.slots);
    if (wide.length < words) wide = new Float64Array(words);
    for (let i = 0; i < words; i++) wide[i] = f32[query / 4 + i]!;
    let threshold = thresholdOf(heap);
    for (let i = 0; i < count; i++) {
      const slot = slotAt(i);
      if (slot >= slots) continue;
      const row = rows + slot * words;
      let sum = 0;
      for (let j = 0; j < words; j++) sum += f32[row + j]! * wide[j]!;
      let score = Math.fround(sum);
      if (bias !== 0) score = Math.fround(score + f32[bias + slot]!);
      if (score >= threshold && passes(live, filter, slot)) threshold = offer(heap, score, slot);
    }
  }

  function scanRange(args: number, query: number, heap: number): void {
    const word = (index: number): number => u32[args / 4 + index]!;
    const from = word(scanWords.from);
    const count = Math.max(0, word(scanWords.to) - from);
    scanRows(args, query, heap, count, (i) => from + i, word(scanWords.live), word(scanWords.filter));
  }

  /** The query's codes; returns what a product is to be multiplied with. */
  function codesOf(args: number, query: number, coded: Int16Array): number {
    return foldQuery(f32, query / 4, u32[args / 4 + scanWords.scales]! / 4, u32[args / 4 + scanWords.rowBytes]! / 4, coded);
  }

  /** How far a score by codes may be from that of f32: see marginOf and roundingOf of the kernels. */
  function marginOf(args: number, query: number, coded: Int16Array, unit: number): { readonly margin: number; readonly share: number } {
    const scales = u32[args / 4 + scanWords.scales]! / 4;
    const words = u32[args / 4 + scanWords.rowBytes]! / 4;
    const share = (words / 4 + 16) * 6e-8;
    let margin = 0;
    let sum = 0;
    for (let i = 0; i < words; i++) {
      const folded = Math.fround(f32[query / 4 + i]! * f32[scales + i]!);
      margin += Math.abs(folded) / 254 + Math.abs(folded - 127 * unit * coded[i]!);
      sum += Math.abs(folded);
    }
    return { margin: margin * 1.001 + 2 * sum * share, share };
  }

  function scanCodes(args: number, query: number, heap: number): void {
    const word = (index: number): number => u32[args / 4 + index]!;
    const width = word(scanWords.codeBytes);
    const bias = word(scanWords.bias) / 4;
    const coded = new Int16Array(width);
    const unit = codesOf(args, query, coded);
    const { margin, share } = marginOf(args, query, coded, unit);
    for (let slot = word(scanWords.from); slot < word(scanWords.to); slot++) {
      let score = scoreCode(i8, word(scanWords.codes) + slot * width, coded, unit);
      if (bias !== 0) score = Math.fround(score + f32[bias + slot]!);
      const threshold = thresholdOf(heap);
      const bar = threshold === -Infinity ? threshold : threshold - margin - Math.abs(threshold) * share;
      if (score >= bar && passes(word(scanWords.live), word(scanWords.filter), slot)) scanRows(args, query, heap, 1, () => slot, 0, 0);
    }
  }

  /** Each query with its heap. */
  function eachQuery(args: number, call: (query: number, heap: number) => void): void {
    const word = (index: number): number => u32[args / 4 + index]!;
    for (let query = 0; query < word(scanWords.queryCount); query++) {
      call(word(scanWords.queries) + query * word(scanWords.rowBytes), word(scanWords.heaps) + query * word(scanWords.heapBytes));
    }
  }

  /** The bits of a word that both bitmaps have, of slots in [from, to). */
  function bitsOf(first: number, second: number, word: number, from: number, to: number): number {
    let bits = 0xffffffff;
    if (first !== 0) bits = u32[first / 4 + word]!;
    if (second !== 0) bits &= u32[second / 4 + word]!;
    const base = word * 32;
    if (base < from) bits &= 0xffffffff << (from - base);
    if (to - base < 32) bits &= (1 << (to - base)) - 1;
    return bits >>> 0;
  }

  function eachBit(first: number, second: number, from: number, to: number, call: (slot: number) => boolean): void {
    for (let word = from >>> 5; word * 32 < to; word++) {
      for (let bits = bitsOf(first, second, word, from, to); bits !== 0; bits = (bits & (bits - 1)) >>> 0) {
        if (!call(word * 32 + 31 - Math.clz32(bits & -bits))) return;
      }
    }
  }

  return {
    vectorScan: (args) => scanRange(args, u32[args / 4 + scanWords.queries]!, u32[args / 4 + scanWords.heaps]!),
    vectorScan8: (args) => scanCodes(args, u32[args / 4 + scanWords.queries]!, u32[args / 4 + scanWords.heaps]!),
    vectorBatch: (args) => eachQuery(args, (query, heap) => scanRange(args, query, heap)),
    vectorBatch8: (args) => eachQuery(args, (query, heap) => scanCodes(args, query, heap)),

    vectorScanOf(args) {
      const word = (index: number): number => u32[args / 4 + index]!;
      const list = word(scanWords.list) / 4;
      const slotAt = (i: number): number => u32[list + i]!;
      scanRows(args, word(scanWords.queries), word(scanWords.heaps), word(scanWords.listCount), slotAt, word(scanWords.live), word(scanWords.filter));
    },

    vectorDistances(args) {
      const word = (index: number): number => u32[args / 4 + index]!;
      const words = word(scanWords.rowBytes) / 4;
      const query = word(scanWords.queries) / 4;
      for (let i = 0; i < word(scanWords.listCount); i++) {
        const slot = u32[word(scanWords.list) / 4 + i]!;
        const row = word(scanWords.rows) / 4 + slot * words;
        let sum = 0;
        for (let j = 0; j < words; j++) {
          const apart = Math.fround(f32[row + j]! - f32[query + j]!);
          sum += apart * apart;
        }
        offer(word(scanWords.heaps), -Math.fround(sum), slot);
      }
    },

    vectorScales(rowsAt, rowBytes, live, from, to, scales) {
      const words = rowBytes / 4;
      let passedOver = 0;
      for (let slot = from; slot < to; slot++) {
        if (!passes(live, 0, slot)) continue;
        const row = rowsAt / 4 + slot * words;
        let rest = 0;
        for (let j = 0; j < words; j++) rest += f32[row + j]! - f32[row + j]!;
        if (rest !== 0) {
          passedOver++;
          continue;
        }
        for (let j = 0; j < words; j++) f32[scales / 4 + j] = Math.max(f32[scales / 4 + j]!, Math.abs(f32[row + j]!));
      }
      return passedOver;
    },

    vectorCodes(rowsAt, rowBytes, scales, codesAt, width, from, to) {
      const words = rowBytes / 4;
      const factors = Float64Array.from({ length: width }, (_, j) => (f32[scales / 4 + j]! > 0 ? Math.fround(127 / f32[scales / 4 + j]!) : 0));
      for (let slot = from; slot < to; slot++) {
        const row = rowsAt / 4 + slot * words;
        const code = codesAt + slot * width;
        for (let j = 0; j < width; j++) {
          const scaled = j < words ? Math.fround(f32[row + j]! * factors[j]!) : 0;
          i8[code + j] = Number.isNaN(scaled) ? 0 : Math.max(-127, Math.min(127, nearestWhole(scaled)));
        }
      }
    },

    bitsCount(first, second, from, to) {
      let count = 0;
      eachBit(first, second, from, to, () => ++count > 0);
      return count;
    },

    filterScanOf(args, slack, room) {
      const word = (index: number): number => u32[args / 4 + index]!;
      const [list, all, slots, heap, query] = [
        word(scanWords.list) / 4,
        word(scanWords.listCount),
        word(scanWords.slots),
        word(scanWords.heaps),
        word(scanWords.queries),
      ];
      const width = word(scanWords.codeBytes);
      const bias = word(scanWords.bias) / 4;
      const best = word(scanWords.candidates);
      const coded = new Int16Array(width);
      const unit = codesOf(args, query, coded);
      const margin = codeMargin(coded, unit, slack);
      topKReset(best, u32[heap / 4]!);
      let exact = 0;
      for (let first = 0; first < all; first += filterScanRows) {
        const count = Math.min(filterScanRows, all - first);
        const scores = f32.subarray(room / 4, room / 4 + count);
        for (let i = 0; i < count; i++) {
          const slot = u32[list + first + i]!;
          let score = slot < slots ? scoreCode(i8, word(scanWords.codes) + slot * width, coded, unit) : Number.NaN;
          if (bias !== 0 && slot < slots) score = Math.fround(score + f32[bias + slot]!);
          scores[i] = score;
          if (score >= thresholdOf(best) && passes(word(scanWords.live), 0, slot)) offer(best, score, 0);
        }
        const bar = Math.fround(Math.max(thresholdOf(best), thresholdOf(heap)) - margin);
        const chosen = Array.from({ length: count }, (_, i) => i).filter((i) => scores[i]! >= bar);
        scanRows(args, query, heap, chosen.length, (i) => u32[list + first + chosen[i]!]!, word(scanWords.live), word(scanWords.filter));
        exact += chosen.length;
      }
      return exact;
    },

    filterNumbers(column, low, high, words, out) {
      for (let w = 0; w < words; w++) {
        let bits = 0;
        for (let i = 0; i < 32; i++) {
          const number = f64[column / 8 + w * 32 + i]!;
          if (number >= low && number <= high) bits |= 1 << i;
        }
        u32[out / 4 + w] = bits;
      }
    },

    filterCodes(column, code, words, out) {
      for (let w = 0; w < words; w++) {
        let bits = 0;
        for (let i = 0; i < 32; i++) if (u32[column / 4 + w * 32 + i] === code >>> 0) bits |= 1 << i;
        u32[out / 4 + w] = bits;
      }
    },

    bitsFew(bits, words, firstSlot, out, count, max) {
      for (let word = 0; word < words; word++) {
        let set = u32[bits / 4 + word]!;
        while (set !== 0) {
          if (count >= max) return max + 1;
          u32[out / 4 + count++] = firstSlot + word * 32 + 31 - Math.clz32(set & -set);
          set = (set & (set - 1)) >>> 0;
        }
      }
      return count;
    },

    bitsList(first, second, from, to, out, max) {
      let count = 0;
      eachBit(first, second, from, to, (slot) => {
        if (count === max) return false;
        u32[out / 4 + count++] = slot;
        return true;
      });
      return count;
    },
  };
}
