// The scalar twin of the kernels: the same calls over the same bytes, in plain TypeScript.
// Why: it runs where the binaries are missing or refused, it is the readable definition of what they do, and one test suite holds all equal.
// Invariants: 1. same arguments, layouts and answers as kernels/*.ts; a table built by one variant is read by any other
//             2. scores are summed in f64 and rounded once, so they may differ from the binaries' in the last bits (f32 sums depend on order).
// Shards of parameters stand in scalar-parameter-shard.ts, factorisation machines over them in scalar-shard-factorisation.ts, optimizers in scalar-optimizers.ts, the engine's calls in scalar-entries.ts, bulk loads in scalar-staging.ts, vectors by slot in scalar-vectors.ts, the index of lists in scalar-ivf.ts, rows by list in scalar-list-rows.ts.
// Cost: 3-5x a SIMD scan, about 3x a batched probe. Concurrency: as the kernels (one inserting thread, any number of readers of a table).

import { absentRow, type KernelCalls } from "./kernel-calls.ts";
import { KeyHasher, StripeHasher } from "./key-hash.ts";
import { bindScalarEntries } from "./scalar-entries.ts";
import { bindScalarIvf } from "./scalar-ivf.ts";
import { bindScalarListRows } from "./scalar-list-rows.ts";
import { bindScalarOptimizers } from "./scalar-optimizers.ts";
import { bindScalarParameterShard } from "./scalar-parameter-shard.ts";
import { bindScalarShardMachine } from "./scalar-shard-factorisation.ts";
import { bindScalarStaging } from "./scalar-staging.ts";
import { bindScalarVectors } from "./scalar-vectors.ts";
import type { WasmMemory } from "./web-assembly.ts";

const scoresFrom = 16;

/** Binds the twin to a memory. */
export function bindScalar(memory: WasmMemory): KernelCalls {
  const { buffer } = memory;
  const u8 = new Uint8Array(buffer);
  const u32 = new Uint32Array(buffer);
  const f32 = new Float32Array(buffer);
  const view = new DataView(buffer);

  // ---- top k: the heap's root is the worst entry kept ----

  const isWorse = (score: number, row: number, otherScore: number, otherRow: number): boolean => score < otherScore || (score === otherScore && row > otherRow);

  /** `scores` and `rows` are word indices. */
  function sink(scores: number, rows: number, size: number, score: number, row: number): void {
    let hole = 0;
    for (;;) {
      let child = 2 * hole + 1;
      if (child >= size) break;
      if (child + 1 < size && isWorse(f32[scores + child + 1]!, u32[rows + child + 1]!, f32[scores + child]!, u32[rows + child]!)) child++;
      if (!isWorse(f32[scores + child]!, u32[rows + child]!, score, row)) break;
      f32[scores + hole] = f32[scores + child]!;
      u32[rows + hole] = u32[rows + child]!;
      hole = child;
    }
    f32[scores + hole] = score;
    u32[rows + hole] = row;
  }

  /** Offers one scored row; returns the threshold after it. */
  function offer(heap: number, score: number, row: number): number {
    const head = heap >>> 2;
    const k = u32[head]!;
    const size = u32[head + 1]!;
    const scores = (heap + scoresFrom) >>> 2;
    const rows = scores + k;
    if (size === k) {
      if (isWorse(f32[scores]!, u32[rows]!, score, row)) sink(scores, rows, k, score, row);
      return f32[scores]!;
    }
    if (!(score > -Infinity)) return -Infinity;
    let hole = size;
    while (hole > 0) {
      const parent = (hole - 1) >>> 1;
      if (!isWorse(score, row, f32[scores + parent]!, u32[rows + parent]!)) break;
      f32[scores + hole] = f32[scores + parent]!;
      u32[rows + hole] = u32[rows + parent]!;
      hole = parent;
    }
    f32[scores + hole] = score;
    u32[rows + hole] = row;
    u32[head + 1] = size + 1;
    return size + 1 < k ? -Infinity : f32[scores]!;
  }

  function thresholdOf(heap: number): number {
    const head = heap >>> 2;
    return u32[head + 1]! < u32[head]! ? -Infinity : f32[head + (scoresFrom >>> 2)]!;
  }

  function topKReset(heap: number, k: number): void {
    u32.fill(0, heap >>> 2, (heap >>> 2) + 4);
    u32[heap >>> 2] = k;
  }

  /** The query in f64, or each use would widen it again. */
  let wide = new Float64Array(256);

  function widen(query: number, words: number): void {
    if (words > wide.length) wide = new Float64Array(words);
    for (let i = 0; i < words; i++) wide[i] = f32[(query >>> 2) + i]!;
  }

  /** Inner product of the widened query with the row at word `row`. */
  function dot(row: number, words: number): number {
    let sum = 0;
    for (let i = 0; i < words; i++) sum += f32[row + i]! * wide[i]!;
    return Math.fround(sum);
  }

  // ---- key table ----

  let hasher = new KeyHasher({ low: 0, high: 0 });
  let hasherLow = 0;
  let hasherHigh = 0;

  function useSeed(low: number, high: number): void {
    if (low === hasherLow && high === hasherHigh) return;
    hasher = new KeyHasher({ low, high });
    hasherLow = low;
    hasherHigh = high;
  }

  function hashBy(by: KeyHasher | StripeHasher, keys: number, offsets: number, count: number, out: number): void {
    for (let i = 0; i < count; i++) {
      by.hash(view, keys + u32[(offsets >>> 2) + i]!, keys + u32[(offsets >>> 2) + i + 1]!);
      u32[(out >>> 2) + 2 * i] = by.low;
      u32[(out >>> 2) + 2 * i + 1] = by.high;
    }
  }

  function keyEquals(record: number, key: number, bytes: number): boolean {
    if (u32[(record + 4) >>> 2] !== bytes) return false;
    for (let i = 0; i < bytes; i++) if (u8[record + 8 + i] !== u8[key + i]) return false;
    return true;
  }

  /** Where the last search ended. */
  let endSlot = 0;

  /** The key's row, or `absentRow`; hashes the key first, `hasher.high` is its tag afterwards. */
  function search(table: number, key: number, bytes: number): number {
    const head = table >>> 2;
    const slotMask = u32[head + 1]!;
    const slots = (table + u32[head + 2]!) >>> 2;
    const records = table + u32[head + 3]!;
    hasher.hash(view, key, key + bytes);
    const tag = hasher.high;
    for (let slot = (hasher.low & slotMask) >>> 0; ; slot = ((slot + 1) & slotMask) >>> 0) {
      // The reference before the tag: whoever inserts writes them in the other order.
      const reference = Atomics.load(u32, slots + 2 * slot + 1);
      if (reference === 0) {
        endSlot = slot;
        return absentRow;
      }
      if (u32[slots + 2 * slot] === tag && keyEquals(records + reference, key, bytes)) return u32[(records + reference) >>> 2]!;
    }
  }

  return {
    ...bindScalarParameterShard(memory),
    ...bindScalarOptimizers(memory),
    ...bindScalarShardMachine(memory),
    ...bindScalarEntries(memory),
    ...bindScalarStaging(memory),

    ...bindScalarVectors(memory, { offer, thresholdOf, topKReset }),
    ...bindScalarIvf(memory, { offer, thresholdOf, topKReset }),
    ...bindScalarListRows(memory, { offer, thresholdOf, topKReset }),

    topKReset,

    topKSort(heap) {
      const head = heap >>> 2;
      const size = u32[head + 1]!;
      const scores = (heap + scoresFrom) >>> 2;
      const rows = scores + u32[head]!;
      for (let last = size - 1; last > 0; last--) {
        const score = f32[scores + last]!;
        const row = u32[rows + last]!;
        f32[scores + last] = f32[scores]!;
        u32[rows + last] = u32[rows]!;
        sink(scores, rows, last, score, row);
      }
      return size;
    },

    dotTopK(heap, rowsAt, rowCount, stride, rowBytes, query, firstRow) {
      let threshold = thresholdOf(heap);
      const words = rowBytes >>> 2;
      const step = stride >>> 2;
      widen(query, words);
      const q = wide;
      let row = rowsAt >>> 2;
      let i = 0;
      // Four rows at once: one load of the query serves four. Each sum runs in the order of `dot`, so a row's place does not change its score.
      for (; i + 4 <= rowCount; i += 4, row += 4 * step) {
        const row1 = row + step;
        const row2 = row1 + step;
        const row3 = row2 + step;
        let a = 0;
        let b = 0;
        let c = 0;
        let d = 0;
        for (let j = 0; j < words; j++) {
          const x = q[j]!;
          a += f32[row + j]! * x;
          b += f32[row1 + j]! * x;
          c += f32[row2 + j]! * x;
          d += f32[row3 + j]! * x;
        }
        if ((a = Math.fround(a)) >= threshold) threshold = offer(heap, a, firstRow + i);
        if ((b = Math.fround(b)) >= threshold) threshold = offer(heap, b, firstRow + i + 1);
        if ((c = Math.fround(c)) >= threshold) threshold = offer(heap, c, firstRow + i + 2);
        if ((d = Math.fround(d)) >= threshold) threshold = offer(heap, d, firstRow + i + 3);
      }
      for (; i < rowCount; i++, row += step) {
        const score = dot(row, words);
        if (score >= threshold) threshold = offer(heap, score, firstRow + i);
      }
    },

    dotTopKOf(heap, rowsAt, rowCount, stride, rowBytes, query, list, listCount) {
      let threshold = thresholdOf(heap);
      let passedOver = 0;
      const words = rowBytes >>> 2;
      widen(query, words);
      for (let i = 0; i < listCount; i++) {
        const row = u32[(list >>> 2) + i]!;
        if (row >= rowCount) {
          passedOver++;
          continue;
        }
        const score = dot((rowsAt + row * stride) / 4, words);
        if (score >= threshold) threshold = offer(heap, score, row);
      }
      return passedOver;
    },

    gatherRows(rowsAt, rowCount, rowBytes, indices, count, out) {
      let absent = 0;
      for (let i = 0; i < count; i++) {
        const index = u32[(indices >>> 2) + i]!;
        const to = out + i * rowBytes;
        if (index < rowCount) {
          const from = rowsAt + index * rowBytes;
          u8.copyWithin(to, from, from + rowBytes);
        } else {
          u8.fill(0, to, to + rowBytes);
          absent++;
        }
      }
      return absent;
    },

    hashKeys(keys, offsets, count, seedLow, seedHigh, out) {
      useSeed(seedLow >>> 0, seedHigh >>> 0);
      hashBy(hasher, keys, offsets, count, out);
    },

    stripeHashes(keys, offsets, count, seedLow, seedHigh, out) {
      hashBy(new StripeHasher({ low: seedLow >>> 0, high: seedHigh >>> 0 }), keys, offsets, count, out);
    },

    keyTableProbe(table, keys, offsets, count, outRows) {
      useSeed(u32[(table >>> 2) + 8]!, u32[(table >>> 2) + 9]!);
      let found = 0;
      for (let i = 0; i < count; i++) {
        const from = u32[(offsets >>> 2) + i]!;
        const row = search(table, keys + from, u32[(offsets >>> 2) + i + 1]! - from);
        if (row !== absentRow) found++;
        u32[(outRows >>> 2) + i] = row;
      }
      return found;
    },

    keyTableInsert(table, keys, offsets, count, outRows) {
      const head = table >>> 2;
      useSeed(u32[head + 8]!, u32[head + 9]!);
      const slots = (table + u32[head + 2]!) >>> 2;
      const records = table + u32[head + 3]!;
      for (let i = 0; i < count; i++) {
        const from = u32[(offsets >>> 2) + i]!;
        const bytes = u32[(offsets >>> 2) + i + 1]! - from;
        let row = search(table, keys + from, bytes);
        if (row === absentRow) {
          row = u32[head + 6]!;
          const reference = u32[head + 5]!;
          const recordBytes = 8 + Math.ceil(bytes / 8) * 8;
          if (row >= u32[head + 7]! || reference + recordBytes > u32[head + 4]!) return i;
          const record = records + reference;
          u32[record >>> 2] = row;
          u32[(record + 4) >>> 2] = bytes;
          u8.copyWithin(record + 8, keys + from, keys + from + bytes);
          u8.fill(0, record + 8 + bytes, record + recordBytes);
          Atomics.store(u32, slots + 2 * endSlot, hasher.high);
          Atomics.store(u32, slots + 2 * endSlot + 1, reference);
          u32[head + 5] = reference + recordBytes;
          Atomics.store(u32, head + 6, row + 1);
        }
        u32[(outRows >>> 2) + i] = row;
      }
      return count;
    },
  };
}
