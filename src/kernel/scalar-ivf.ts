// The scalar twin of kernels/vector-ivf.ts, k-means.ts, centroid-codes.ts and vector-codes4.ts: the same calls over the same bytes, and the readable definition of what they do.
// Invariant: lists, codes and answers are those of the kernels but where two sums differ in their last bits only.
// Cost: 5-20x the binaries. Concurrency: as the kernels.

import { codePoints, codePointsBytes, comparedTogether, fetchedTogether, ivfWords, orderSteps, tableLimits } from "./ivf-layout.ts";
import type { IvfCalls } from "./kernel-calls.ts";
import { codeMargin, foldQuery, nearestWhole, scoreCode } from "./scalar-codes8.ts";
import type { ScalarHeap } from "./scalar-vectors.ts";
import type { WasmMemory } from "./web-assembly.ts";

const fround = Math.fround;

/** Binds the twin to a memory. */
export function bindScalarIvf(memory: WasmMemory, { offer, thresholdOf }: ScalarHeap): IvfCalls {
  const u8 = new Uint8Array(memory.buffer);
  const i8 = new Int8Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  const f32 = new Float32Array(memory.buffer);
  const f64 = new Float64Array(memory.buffer);

  function dot(a: number, b: number, words: number): number {
    let sum = 0;
    for (let i = 0; i < words; i++) sum += f32[a + i]! * f32[b + i]!;
    return fround(sum);
  }

  /** The nearest of the 16 points at word `entry`, and its squared distance to `far`. */
  let far = 0;
  function nearestPoint(entry: number, x: number, y: number): number {
    let code = 0;
    far = Infinity;
    for (let c = 0; c < codePoints; c++) {
      const dx = fround(f32[entry + c]! - x);
      const dy = fround(f32[entry + codePoints + c]! - y);
      const square = fround(fround(dx * dx) + fround(dy * dy));
      if (square < far) {
        far = square;
        code = c;
      }
    }
    return code;
  }

  function centroidsNearest(
    rows: number,
    count: number,
    rowBytes: number,
    blocks: number,
    centroids: number,
    bias: number,
    outList: number,
    outScore: number,
  ): void {
    const words = rowBytes / 4;
    for (let i = 0; i < Math.ceil(count / 4) * 4; i++) {
      let best = -Infinity;
      let list = 0;
      for (let c = 0; c < centroids; c++) {
        let sum = f32[bias / 4 + c]!;
        for (let j = 0; j < words; j++) sum += f32[rows / 4 + i * words + j]! * f32[blocks / 4 + (c >>> 3) * 8 * words + 8 * j + (c & 7)]!;
        const score = fround(sum);
        if (score > best) {
          best = score;
          list = c;
        }
      }
      u32[outList / 4 + i] = list;
      f32[outScore / 4 + i] = best;
    }
  }

  return {
    centroidsTranspose(rows, count, rowBytes, out) {
      const words = rowBytes / 4;
      f32.fill(0, out / 4, out / 4 + Math.ceil(count / 8) * 8 * words);
      for (let c = 0; c < count; c++) for (let i = 0; i < words; i++) f32[out / 4 + (c >>> 3) * 8 * words + 8 * i + (c & 7)] = f32[rows / 4 + c * words + i]!;
    },

    centroidsNearest,

    // Codes are how the binaries are fast: here nobody reads them.
    centroidsCodes: () => undefined,

    centroidsNearest8(rows, count, rowBytes, blocks, centroids, bias, _codes, _scratch, outList, outScore) {
      centroidsNearest(rows, count, rowBytes, blocks, centroids, bias, outList, outScore);
    },

    centroidsAdd(rows, count, rowBytes, lists, sums, counts) {
      const words = rowBytes / 4;
      for (let i = 0; i < count; i++) {
        const list = u32[lists / 4 + i]!;
        for (let j = 0; j < words; j++) f32[sums / 4 + list * words + j]! += f32[rows / 4 + i * words + j]!;
        u32[counts / 4 + list]!++;
      }
    },

    codes4Encode(rows, blocks, rowBytes, lists, centroids, book, codes, out, errors) {
      const words = rowBytes / 4;
      for (let b = 0; b < blocks; b++) {
        const to = out + b * codes * 16;
        u8.fill(0, to, to + codes * 16);
        const centroid = centroids / 4 + u32[lists / 4 + b]! * words;
        for (let slot = 0; slot < 32; slot++) {
          const row = rows / 4 + (b * 32 + slot) * words;
          let error = 0;
          for (let j = 0; 2 * j < words; j++) {
            const x = fround(f32[row + 2 * j]! - f32[centroid + 2 * j]!);
            const y = fround(f32[row + 2 * j + 1]! - f32[centroid + 2 * j + 1]!);
            u8[to + 16 * j + (slot & 15)]! |= nearestPoint((book + j * codePointsBytes) / 4, x, y) << ((slot >> 4) * 4);
            error = fround(error + far);
          }
          f32[errors / 4 + b * 32 + slot] = error;
        }
      }
    },

    codes4Learn(differences, count, rowBytes, book, sums) {
      const words = rowBytes / 4;
      let error = 0;
      for (let i = 0; i < count; i++)
        for (let j = 0; 2 * j < words; j++) {
          const x = f32[differences / 4 + i * words + 2 * j]!;
          const y = f32[differences / 4 + i * words + 2 * j + 1]!;
          const sum = sums / 8 + j * 48 + nearestPoint((book + j * codePointsBytes) / 4, x, y);
          f64[sum]! += x;
          f64[sum + codePoints]! += y;
          f64[sum + 2 * codePoints]! += 1;
          error += far;
        }
      return error;
    },

    floatsFinite(at, count) {
      for (let i = 0; i < count; i++) if (!Number.isFinite(f32[at / 4 + i])) return 0;
      return 1;
    },

    ivfSearch(args) {
      const word = (index: number): number => u32[args / 4 + index]!;
      const real = (index: number): number => f32[args / 4 + index]!;
      const lists = word(ivfWords.lists);
      const words = word(ivfWords.rowBytes) / 4;
      const query = word(ivfWords.query) / 4;
      const listBias = word(ivfWords.listBias) / 4;
      const starts = word(ivfWords.starts) / 4;
      const rows = word(ivfWords.rows) / 4;
      const bias = word(ivfWords.bias) / 4;
      const live = word(ivfWords.live) / 4;
      const filter = word(ivfWords.filter) / 4;
      const heap = word(ivfWords.heap);
      const codes = word(ivfWords.codeCount);
      const work = { lists: 0, slots: 0, exact: 0 };

      const bitsAt = (w: number): number => (live === 0 ? 0xffffffff : u32[live + w]!) & (filter === 0 ? 0xffffffff : u32[filter + w]!);
      const passes = (slot: number): boolean => ((bitsAt(slot >>> 5) >>> (slot & 31)) & 1) === 1;

      const scores = new Float32Array(lists);
      const passing = new Float32Array(lists);
      let all = 0;
      for (let l = 0; l < lists; l++) {
        scores[l] = dot(word(ivfWords.centroids) / 4 + l * words, query, words) + (listBias === 0 ? 0 : f32[listBias + l]!);
        passing[l] = f32[word(ivfWords.sizes) / 4 + l]!;
        if (filter !== 0) {
          passing[l] = 0;
          for (let slot = u32[starts + l]!; slot < u32[starts + l + 1]!; slot++) if (passes(slot)) passing[l]!++;
        }
        all += passing[l]!;
      }

      // Tables: products less their least, in steps.
      const products = new Float32Array(codes * codePoints);
      const lowest = new Float32Array(codes);
      let widest = 0;
      let wide = 0;
      let least = 0;
      for (let j = 0; j < codes; j++) {
        const entry = (word(ivfWords.book) + j * codePointsBytes) / 4;
        const x = 2 * j < words ? f32[query + 2 * j]! : 0;
        const y = 2 * j < words ? f32[query + 2 * j + 1]! : 0;
        let high = -Infinity;
        let low = Infinity;
        for (let c = 0; c < codePoints; c++) {
          const product = fround(fround(f32[entry + c]! * x) + fround(f32[entry + codePoints + c]! * y));
          products[j * codePoints + c] = product;
          high = Math.max(high, product);
          low = Math.min(low, product);
        }
        lowest[j] = low;
        least = fround(least + low);
        wide = fround(wide + fround(high - low));
        widest = Math.max(widest, fround(high - low));
      }
      const step = Math.max(fround(widest / tableLimits.entryMax), fround(wide / tableLimits.sumMax), fround(1e-30));
      const table = Uint8Array.from(products, (product, i) =>
        Math.min(tableLimits.entryMax, nearestWhole(fround(fround(product - lowest[Math.floor(i / codePoints)]!) / step))),
      );
      const sumOf = (slot: number): number => {
        const block = word(ivfWords.codes) + (slot >>> 5) * codes * 16;
        let sum = 0;
        for (let j = 0; j < codes; j++) sum += table[j * codePoints + ((u8[block + 16 * j + (slot & 15)]! >>> (((slot >>> 4) & 1) * 4)) & 15)]!;
        return sum;
      };

      let candidates: number[] = [];
      const compare = (): void => {
        work.exact += candidates.length;
        for (const slot of candidates) offer(heap, fround(dot(rows + slot * words, query, words) + (bias === 0 ? 0 : f32[bias + slot]!)), slot);
        candidates = [];
      };

      // Rows that wait for a look at their int8 codes.
      const byteShare = real(ivfWords.byteShare);
      const coded = new Int16Array(word(ivfWords.codeBytes));
      const unit = byteShare > 0 ? foldQuery(f32, query, word(ivfWords.scales) / 4, words, coded) : 0;
      const margin = unit > 0 ? codeMargin(coded, unit, real(ivfWords.byteSlack)) : Infinity;
      let waiting: number[] = [];
      const lookAt = (): void => {
        work.slots += waiting.length;
        const bar = fround(thresholdOf(heap) - margin);
        for (const slot of waiting) {
          const score = scoreCode(i8, word(ivfWords.codes8) + slot * coded.length, coded, unit);
          if ((bias === 0 ? score : fround(score + f32[bias + slot]!)) >= bar) candidates.push(slot);
        }
        waiting = [];
        if (candidates.length >= comparedTogether) compare();
      };
      const visit = (list: number): void => {
        const from = u32[starts + list]!;
        const to = u32[starts + list + 1]!;
        const slack = real(ivfWords.slack);
        const bar = slack < Infinity ? fround(thresholdOf(heap) - fround(slack * f32[word(ivfWords.codeErrors) / 4 + list]!)) : -Infinity;
        work.lists++;
        if (bar > -Infinity && passing[list]! < fround(byteShare * (to - from))) {
          // By two words, as they are read.
          for (let slot = from; slot < to; slot++) {
            if (passes(slot)) waiting.push(slot);
            if (((slot + 1 - from) % 64 === 0 || slot + 1 === to) && waiting.length >= fetchedTogether) lookAt();
          }
          return;
        }
        const without = fround(scores[list]! - (listBias === 0 ? 0 : f32[listBias + list]!) + least);
        const needed = bar > -Infinity && bias === 0 ? Math.ceil(fround(fround(bar - without) / step)) : 0;
        const coded = bar > -Infinity && (bias !== 0 || needed > 0);
        if (coded) work.slots += to - from;
        for (let slot = from; slot < to; slot++) {
          if (!passes(slot)) continue;
          if (coded && (bias === 0 ? sumOf(slot) < needed : fround(fround(sumOf(slot) * step) + f32[bias + slot]!) < fround(bar - without))) continue;
          candidates.push(slot);
        }
        if (candidates.length >= comparedTogether) compare();
      };

      // The first look, then what is worth it.
      u32[args / 4 + ivfWords.gaveUp] = 0;
      const most = word(ivfWords.probes);
      const seen = new Uint8Array(lists);
      const byScore = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
      for (let look = Math.min(word(ivfWords.firstLists), lists); work.lists < most; look *= 4) {
        const next = byScore.filter((list) => seen[list] === 0 && passing[list]! > 0).slice(0, look);
        if (next.length === 0) break;
        const least = real(ivfWords.leastShare);
        if (work.lists === 0 && least > 0) {
          const sizeOf = (list: number): number => f32[word(ivfWords.sizes) / 4 + list]!;
          const rowsNear = next.reduce((sum, list) => sum + sizeOf(list), 0);
          const passNear = next.reduce((sum, list) => sum + passing[list]!, 0);
          if (passNear * Array.from(scores.keys()).reduce((sum, list) => sum + sizeOf(list), 0) < least * all * rowsNear) {
            u32[args / 4 + ivfWords.gaveUp] = 1;
            break;
          }
        }
        for (const list of next) {
          if (work.lists >= most) break;
          seen[list] = 1;
          visit(list);
        }
        lookAt();
        compare();
        if (thresholdOf(heap) > -Infinity) break;
      }
      const threshold = thresholdOf(heap);
      if (threshold > -Infinity && work.lists < most) {
        const length = real(ivfWords.queryLength);
        const falls = scores.map((score, l) => {
          if (passing[l] === 0) return -Infinity;
          const reach = listBias === 0 ? length : Math.sqrt(Math.max(length * length - 2 * score, 0));
          const far = Math.min(Math.max(threshold - score, 0) / Math.max(f32[word(ivfWords.spreads) / 4 + l]! * reach, 1e-20), 1e12);
          return Math.max(-far * (real(ivfWords.fall) + real(ivfWords.bend) * far), -1e30);
        });
        const largest = falls.reduce((a, b) => Math.max(a, b), -Infinity);
        let total = 0;
        falls.forEach((value, l) => (total += passing[l]! * Math.exp(Math.max(value - largest, -80))));
        const bottom = Math.max(largest + Math.log(total / Math.max(all, 1)) - real(ivfWords.margin), -1e30);
        const width = largest > bottom ? (orderSteps - 1) / (largest - bottom) : 0;
        const bucket = (list: number): number => Math.floor((largest - falls[list]!) * width);
        const order = Array.from(falls.keys())
          .filter((list) => falls[list]! >= bottom && seen[list] === 0)
          .sort((a, b) => bucket(a) - bucket(b) || a - b);
        for (const list of order.slice(0, most - work.lists)) visit(list);
        lookAt();
        compare();
      }
      u32[args / 4 + ivfWords.listsDone] = work.lists;
      u32[args / 4 + ivfWords.slotsDone] = work.slots;
      u32[args / 4 + ivfWords.exactDone] = work.exact;
    },
  };
}
