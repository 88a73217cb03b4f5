// The scalar twin of kernels/vector-ivf.ts, k-means.ts, centroid-codes.ts and vector-codes4.ts: the same calls over the same bytes, and the readable definition of what they do.
// Invariant: lists, codes and answers are those of the kernels but where two sums differ in their last bits only.
// Cost: 5-20x the binaries. Concurrency: as the kernels.

import {
  bestBlocksMax,
  codePoints,
  codePointsBytes,
  comparedTogether,
  fetchedTogether,
  firstReach,
  groupBlocks,
  ivfWords,
  orderSteps,
  partedBlocksMin,
  tableLimits,
} from "./ivf-layout.ts";
import type { IvfCalls } from "./kernel-calls.ts";
import { codeMargin, foldQuery, nearestWhole, scoreCode } from "./scalar-codes8.ts";
import type { ScalarHeap } from "./scalar-vectors.ts";
import type { WasmMemory } from "./web-assembly.ts";

const fround = Math.fround;

/** Bits set in a word. */
function bitsIn(word: number): number {
  let count = 0;
  for (let bits = word >>> 0; bits !== 0; bits = (bits & (bits - 1)) >>> 0) count++;
  return count;
}

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

  /** Along the line between two means; each half of whole blocks again. */
  function blocksOrder(rows: number, rowBytes: number, order: number, count: number, keys: number, scratch: number): void {
    if (count <= 32) return;
    const words = rowBytes / 4;
    const rowOf = (i: number): number => rows / 4 + u32[order / 4 + i]! * words;
    const farthest = (from: number): number => {
      let [most, found] = [-1, from];
      for (let i = 0; i < count; i++) {
        let far = 0;
        for (let j = 0; j < words; j++) far += (f32[rowOf(i) + j]! - f32[from + j]!) ** 2;
        if (far > most) [most, found] = [far, rowOf(i)];
      }
      return found;
    };
    const one = farthest(rowOf(0));
    let a = f32.slice(one, one + words);
    const other = farthest(one);
    let b = f32.slice(other, other + words);
    for (let round = 0; round <= 3; round++) {
      const axis = a.map((x, j) => x - b[j]!);
      const middle = axis.reduce((sum, way, j) => sum + (way * (a[j]! + b[j]!)) / 2, 0);
      const sums = [new Float32Array(words), new Float32Array(words)] as const;
      let ones = 0;
      for (let i = 0; i < count; i++) {
        let key = 0;
        for (let j = 0; j < words; j++) key += f32[rowOf(i) + j]! * axis[j]!;
        f32[keys / 4 + i] = key;
        if (key > middle) ones++;
        const to = sums[key > middle ? 0 : 1];
        for (let j = 0; j < words; j++) to[j]! += f32[rowOf(i) + j]!;
      }
      if (ones === 0 || ones === count) break;
      if (round < 3) [a, b] = [sums[0].map((x) => x / ones), sums[1].map((x) => x / (count - ones))];
    }
    const first = Math.floor((count + 31) / 64) * 32;
    const sorted = Array.from({ length: count }, (_, i) => [f32[keys / 4 + i]!, u32[order / 4 + i]!] as const).sort((x, y) => y[0] - x[0]);
    sorted.forEach(([, row], i) => (u32[order / 4 + i] = row));
    blocksOrder(rows, rowBytes, order, first, keys, scratch);
    blocksOrder(rows, rowBytes, order + 4 * first, count - first, keys, scratch);
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

    blocksOrder,

    blocksMean(rows, blocks, rowBytes, live, means, squares) {
      const words = rowBytes / 4;
      for (let b = 0; b < blocks; b++) {
        const count = bitsIn(u32[live / 4 + b]!);
        let square = 0;
        for (let j = 0; j < words; j++) {
          let sum = 0;
          for (let i = 0; i < count; i++) sum = fround(sum + f32[rows / 4 + (b * 32 + i) * words + j]!);
          const mean = count > 0 ? fround(sum * fround(1 / count)) : 0;
          f32[means / 4 + b * words + j] = mean;
          for (let i = 0; i < count; i++) square += (f32[rows / 4 + (b * 32 + i) * words + j]! - mean) ** 2;
        }
        f32[squares / 4 + b] = count > 0 ? square / count : 0;
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
      let most = 0;
      for (let j = 0; j < codes; j++) most += table.subarray(j * codePoints, (j + 1) * codePoints).reduce((a, b) => Math.max(a, b), 0);
      const sumOf = (slot: number, at = word(ivfWords.codes)): number => {
        const block = at + (slot >>> 5) * codes * 16;
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
      // Blocks: their scores, how many spreads below T they may be for each count of rows, which were looked into.
      const groupAt = word(ivfWords.blockCodes);
      const done = new Uint8Array(Math.ceil(word(ivfWords.slots) / 32));
      const limits = new Float64Array(33).fill(firstReach);
      limits[0] = -Infinity;
      const withoutOf = (list: number): number => fround(fround(scores[list]! - (listBias === 0 ? 0 : f32[listBias + list]!)) + least);
      const blockScore = (list: number, block: number): number => {
        const slot = u32[word(ivfWords.groups) / 4 + list]! * groupBlocks + block - u32[starts + list]! / 32;
        const score = fround(withoutOf(list) + fround(sumOf(slot, groupAt) * step));
        return word(ivfWords.blockBias) === 0 ? score : fround(score + f32[word(ivfWords.blockBias) / 4 + block]!);
      };
      const isPromising = (list: number, block: number, threshold: number): boolean => {
        const length = real(ivfWords.queryLength);
        const score = blockScore(list, block);
        const reach = word(ivfWords.blockBias) === 0 ? length : Math.sqrt(Math.max(length * length - 2 * score, 0));
        const far = limits[bitsIn(bitsAt(block))]! * f32[word(ivfWords.blockSpreads) / 4 + block]! * Math.max(reach, 1e-20);
        return fround(score + fround(far)) >= threshold;
      };
      const visit = (list: number): void => {
        const from = u32[starts + list]!;
        const to = u32[starts + list + 1]!;
        const slack = real(ivfWords.slack);
        const without = withoutOf(list);
        const isScarce = passing[list]! < fround(byteShare * (to - from));
        for (let group = from; group < to; group += 32 * groupBlocks) {
          const threshold = thresholdOf(heap);
          const bar = slack < Infinity ? fround(threshold - fround(slack * f32[word(ivfWords.codeErrors) / 4 + list]!)) : -Infinity;
          const needed = bar > -Infinity && bias === 0 ? Math.ceil(fround(fround(bar - without) / step)) : 0;
          if (bar > -Infinity && bias === 0 && !isScarce && needed > most) return;
          const isParted = groupAt !== 0 && threshold > -Infinity && to - from >= 32 * partedBlocksMin;
          if (isParted) work.slots += 32;
          const blocks: number[] = [];
          for (let block = group / 32; block < Math.min(to, group + 32 * groupBlocks) / 32; block++)
            if (done[block] === 0 && (!isParted || isPromising(list, block, threshold))) blocks.push(block);
          if (groupAt !== 0) for (const block of blocks) done[block] = 1;
          if (bar > -Infinity && isScarce) {
            // By two words where they stand beside each other, as they are read.
            for (let i = 0; i < blocks.length; i++) {
              const two = blocks[i + 1] === blocks[i]! + 1 ? 64 : 32;
              for (let slot = blocks[i]! * 32; slot < blocks[i]! * 32 + two; slot++) if (passes(slot)) waiting.push(slot);
              if (two === 64) i++;
              if (waiting.length >= fetchedTogether) lookAt();
            }
            continue;
          }
          const coded = bar > -Infinity && (bias !== 0 || needed > 0);
          if (coded) work.slots += 32 * blocks.length;
          for (const block of blocks)
            for (let slot = block * 32; slot < block * 32 + 32; slot++) {
              if (!passes(slot)) continue;
              if (coded && (bias === 0 ? sumOf(slot) < needed : fround(fround(sumOf(slot) * step) + f32[bias + slot]!) < fround(bar - without))) continue;
              candidates.push(slot);
            }
          if (candidates.length >= comparedTogether) compare();
        }
      };
      /** All rows of the best blocks of these lists: a first threshold. */
      const compareBest = (nearest: readonly number[]): void => {
        let [passed, slotsNear] = [0, 0];
        const found: { readonly block: number; readonly score: number }[] = [];
        for (const list of nearest) {
          passed += passing[list]!;
          slotsNear += u32[starts + list + 1]! - u32[starts + list]!;
          for (let from = u32[starts + list]!; from < u32[starts + list + 1]!; from += 32 * groupBlocks) work.slots += 32;
          for (let block = u32[starts + list]! / 32; block < u32[starts + list + 1]! / 32; block++)
            if (bitsAt(block) !== 0) found.push({ block, score: blockScore(list, block) });
        }
        const wanted = 2 * (Math.min(u32[heap / 4]!, bestBlocksMax * 32) + 8);
        const count = Math.min(bestBlocksMax, Math.ceil(fround(fround(wanted * slotsNear) / (32 * Math.max(passed, 1)))));
        found.sort((x, y) => y.score - x.score || x.block - y.block);
        for (const { block } of found.slice(0, count)) {
          done[block] = 1;
          for (let slot = block * 32; slot < block * 32 + 32; slot++) if (passes(slot)) candidates.push(slot);
        }
        compare();
      };

      // The first look, then what is worth it.
      u32[args / 4 + ivfWords.gaveUp] = 0;
      const probes = word(ivfWords.probes);
      const seen = new Uint8Array(lists);
      const sizeOf = (list: number): number => f32[word(ivfWords.sizes) / 4 + list]!;
      const rowsAll = Array.from(scores.keys()).reduce((sum, list) => sum + sizeOf(list), 0);
      let crowd = 1;
      const byScore = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]! || a - b);
      for (let look = Math.min(word(ivfWords.firstLists), lists); work.lists < probes; look *= 4) {
        const next = byScore.filter((list) => seen[list] === 0 && passing[list]! > 0).slice(0, look);
        if (next.length === 0) break;
        if (work.lists === 0) {
          const rowsNear = next.reduce((sum, list) => sum + sizeOf(list), 0);
          const passNear = next.reduce((sum, list) => sum + passing[list]!, 0);
          crowd = (passNear * rowsAll) / Math.max(all * rowsNear, 1);
          if (crowd < real(ivfWords.leastShare)) {
            u32[args / 4 + ivfWords.gaveUp] = 1;
            break;
          }
        }
        const looked = next.slice(0, probes - work.lists);
        if (groupAt !== 0) compareBest(looked);
        for (const list of looked) {
          seen[list] = 1;
          visit(list);
        }
        work.lists += looked.length;
        lookAt();
        compare();
        if (thresholdOf(heap) > -Infinity) break;
      }
      const threshold = thresholdOf(heap);
      if (threshold > -Infinity && (work.lists < probes || groupAt !== 0)) {
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
        const more = real(ivfWords.crowding) * Math.log(Math.max(crowd, 1));
        const enough = Math.max(largest + Math.log(total / Math.max(all, 1)) - real(ivfWords.margin) - more, -1e30);
        const bottom = groupAt === 0 ? enough : Math.max(enough - real(ivfWords.gate), -1e30);
        const [fall, bend] = [real(ivfWords.fall), real(ivfWords.bend)];
        for (let count = 1; count <= 32; count++) {
          const room = Math.max(Math.log(count / ((32 * all) / rowsAll)) - enough, 0);
          limits[count] = bend > 0 ? (Math.sqrt(fall * fall + 4 * bend * room) - fall) / (2 * bend) : room / fall;
        }
        const width = largest > bottom ? (orderSteps - 1) / (largest - bottom) : 0;
        const bucket = (list: number): number => Math.floor((largest - falls[list]!) * width);
        const order = Array.from(falls.keys())
          .filter((list) => falls[list]! >= bottom && (groupAt !== 0 || seen[list] === 0))
          .sort((a, b) => bucket(a) - bucket(b) || a - b);
        for (const list of order) {
          if (groupAt !== 0 && falls[list]! < enough && u32[starts + list + 1]! - u32[starts + list]! < 32 * partedBlocksMin) continue;
          if (seen[list] === 0) {
            if (work.lists >= probes) continue;
            seen[list] = 1;
            work.lists++;
          }
          visit(list);
        }
        lookAt();
        compare();
      }
      const scratch = word(ivfWords.scratch);
      f32.set(scores, scratch / 4);
      u32.set(seen, scratch / 4 + lists);
      u32[args / 4 + ivfWords.scoresAt] = scratch;
      u32[args / 4 + ivfWords.seenAt] = scratch + 4 * lists;
      u32[args / 4 + ivfWords.listsDone] = work.lists;
      u32[args / 4 + ivfWords.slotsDone] = work.slots;
      u32[args / 4 + ivfWords.exactDone] = work.exact;
    },
  };
}
