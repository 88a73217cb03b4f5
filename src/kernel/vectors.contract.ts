// What exact search over vector blocks must do, in every kernel variant: the answers of a plain sort, whatever the form of the search.
// Vectors of small whole numbers make every product and squared distance exact, so answers must be equal number for number, ties included.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { createTopK, type TopK } from "./dot-top-k.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, type KernelVariant } from "./kernels.ts";
import {
  bitmapBytes,
  codeBytes,
  createVectorBlock,
  fewBits,
  hasSlot,
  rowFloats,
  setSlot,
  vectorBlockBytes,
  type VectorBlock,
  type VectorMetric,
} from "./vector-layout.ts";
import {
  countBits,
  countSlots,
  type ExactOptions,
  exactSearch,
  exactSearchBatch,
  exactSearchOf,
  ExactScan,
  killNotFinite,
  listSlots,
  normalise,
  quantise,
  scalesOf,
  writeRows,
} from "./vector-rows.ts";

interface Scored {
  readonly slot: number;
  readonly score: number;
}

function of({ size, rows, scores }: TopK): Scored[] {
  return Array.from({ length: size }, (_, i) => ({ slot: rows[i]!, score: scores[i]! }));
}

function wholeNumbers(prng: Prng, count: number, largest: number): Float32Array {
  return Float32Array.from({ length: count }, () => prng.between(-largest, largest));
}

export function vectorContract(variant: KernelVariant): void {
  const seed = process.env["SEED"] ?? "vectors";
  const under = (name: string): string => `${variant}: ${name}`;
  const live = kernels(variant);

  /** A block with these rows in its first slots, which alone are live, and room for `filters` bitmaps. */
  const blockOf = (
    vectors: Float32Array,
    dims: number,
    metric: VectorMetric,
    parts = { codes: true, live: true },
    laneBytes = 64 * 1024,
    filters = 1,
  ): { block: VectorBlock; filterAt: number } => {
    const count = vectors.length / dims;
    const shape = { dims, metric };
    const slots = count + 32;
    const memory = KernelMemory.create(
      { dataBytes: vectorBlockBytes(shape, slots + 32, parts) + filters * (bitmapBytes(slots + 32) + 64), laneBytes, lanes: 2 },
      live,
    );
    const block = createVectorBlock(memory, shape, slots, parts);
    writeRows(block, 0, vectors);
    if (parts.live) for (let slot = 0; slot < count; slot++) setSlot(memory, block.liveAt, slot, true);
    if (parts.codes) {
      killNotFinite(block);
      assert.equal(scalesOf(block), 0);
      quantise(block);
    }
    const filterAt = memory.reserve(bitmapBytes(block.slots));
    return { block, filterAt };
  };

  /** The definition: all slots that pass, sorted. */
  const naive = (
    block: VectorBlock,
    query: Float32Array,
    k: number,
    { filterAt = 0, from = 0, to = block.slots }: ExactOptions = {},
    list?: Uint32Array,
  ): Scored[] => {
    const { memory, shape, rowsAt, liveAt } = block;
    const { dims, metric } = shape;
    const scored: Scored[] = [];
    for (const slot of list ?? Uint32Array.from({ length: block.slots }, (_, i) => i)) {
      if (slot < from || slot >= to) continue;
      if (liveAt !== 0 && !hasSlot(memory, liveAt, slot)) continue;
      if (filterAt !== 0 && !hasSlot(memory, filterAt, slot)) continue;
      const row = memory.f32.subarray(rowsAt / 4 + slot * rowFloats(dims));
      let score = 0;
      for (let i = 0; i < dims; i++) score += metric === "l2" ? -((row[i]! - query[i]!) ** 2) : row[i]! * query[i]!;
      if (score > -Infinity) scored.push({ slot, score: Math.fround(score) });
    }
    scored.sort((a, b) => (a.score === b.score ? 0 : b.score - a.score) || a.slot - b.slot);
    return scored.slice(0, k).map(({ slot, score }) => ({ slot, score: metric === "l2" ? 0 - score : score }));
  };

  const random = (prng: Prng, block: VectorBlock, at: number, share: number): void => {
    for (let slot = 0; slot < block.slots; slot++) setSlot(block.memory, at, slot, prng.chance(share));
  };

  test(under(`every form of search gives the answers of a plain sort (SEED=${seed})`), (t) => {
    const prng = new Prng(seed).fork("forms");
    const most = variant === "scalar" ? 70 : 300;
    const isLong = process.env["MILLRACE_LONG"] !== undefined;
    const step = isLong ? 1 : 6;
    if (!isLong) t.diagnostic("one of a few dimensions up to 300; MILLRACE_LONG: one of two or three");
    for (let dims = 1; dims <= most; dims += prng.between(1, dims < 20 ? step : 6 * step)) {
      const count = prng.pick([1, 2, 7, 8, 9, 31, 33, 64, 100, 257, 500]);
      const metric = prng.pick(["ip", "l2"] as const);
      // Few distinct numbers in low dimensions: most scores are ties.
      const vectors = wholeNumbers(prng, count * dims, 3);
      const { block, filterAt } = blockOf(vectors, dims, metric);
      const { memory } = block;
      for (let slot = 0; slot < count; slot++) if (prng.chance(0.2)) setSlot(memory, block.liveAt, slot, false);
      const queries = wholeNumbers(prng, prng.between(1, 9) * dims, 3);
      const query = queries.subarray(0, dims);
      for (const k of isLong ? [1, prng.between(1, 20), count + 5] : [prng.between(1, 20), prng.pick([1, count + 5])]) {
        const from = prng.below(block.slots);
        const ranges: ExactOptions[] = [{}, { from, to: prng.between(from, block.slots) }];
        for (const share of [0, 0.03, 0.2, 0.7, 1]) {
          random(prng, block, filterAt, share);
          for (const range of ranges) {
            for (const options of [range, { ...range, filterAt }]) {
              const where = `dims ${dims} rows ${count} k ${k} ${metric} share ${share} ${JSON.stringify(options)}`;
              const expected = naive(block, query, k, options);
              const top = createTopK(k);
              assert.deepEqual(of(exactSearch(block, query, k, top, { ...options, use: "f32" })), expected, `f32 ${where}`);
              assert.deepEqual(of(exactSearch(block, query, k, top, { ...options, use: "int8" })), expected, `int8 ${where}`);
              const tops = Array.from({ length: queries.length / dims }, () => createTopK(k));
              for (const use of ["f32", "int8"] as const) {
                exactSearchBatch(block, queries, k, tops, { ...options, use });
                for (const [i, one] of tops.entries()) {
                  assert.deepEqual(of(one), naive(block, queries.subarray(i * dims, (i + 1) * dims), k, options), `batch ${use} query ${i} ${where}`);
                }
              }
            }
            if (variant === "scalar" || share === 0.03) break;
          }
        }
        const list = Uint32Array.from({ length: block.slots + 40 }, (_, i) => i).filter(() => prng.chance(0.3));
        const expected = naive(
          block,
          query,
          k,
          {},
          list.filter((slot) => slot < block.slots),
        );
        assert.deepEqual(of(exactSearchOf(block, query, k, createTopK(k), list)), expected, `list dims ${dims} rows ${count} k ${k}`);
      }
    }
  });

  test(under(`a search in slices, other searches between them, ends as one in one piece (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("slices");
    const dims = 20;
    for (const metric of ["ip", "l2"] as const) {
      const { block, filterAt } = blockOf(wholeNumbers(prng, 700 * dims, 5), dims, metric, undefined, 8 * 1024);
      random(prng, block, filterAt, 0.4);
      const queries = wholeNumbers(prng, 21 * dims, 5);
      const scan = new ExactScan(block);
      const other = new ExactScan({ ...block, memory: KernelMemory.attach(block.memory.memory, 1, live) });
      for (const options of [{ use: "f32" }, { use: "int8" }, { use: "f32", filterAt }, { use: "int8", filterAt }] as const) {
        const k = prng.between(1, 30);
        scan.begin(queries, k, options);
        other.begin(queries.subarray(0, dims), k, options);
        for (let at = 0; at < block.slots;) {
          const end = Math.min(block.slots, at + prng.pick([1, 7, 32, 99, 200]));
          scan.scan(at, end);
          exactSearch(block, queries.subarray(dims, 2 * dims), 3, createTopK(3));
          other.scan(at, end);
          at = end;
        }
        const tops = Array.from({ length: 21 }, () => createTopK(k));
        scan.end(tops);
        for (const [i, top] of tops.entries()) {
          assert.deepEqual(
            of(top),
            naive(block, queries.subarray(i * dims, (i + 1) * dims), k, options),
            `${metric} query ${i} k ${k} ${JSON.stringify(options)}`,
          );
        }
        const one = createTopK(k);
        other.end([one]);
        assert.deepEqual(of(one), of(tops[0]!));
      }
    }
  });

  test(under("padding and dead rows are never answers, also where every score is below theirs"), () => {
    const dims = 3;
    const vectors = new Float32Array(40 * dims).fill(-1);
    for (const metric of ["ip", "l2", "cosine"] as const) {
      const { block, filterAt } = blockOf(vectors, dims, metric);
      setSlot(block.memory, block.liveAt, 4, false);
      const query = Float32Array.of(1, 1, 1);
      for (const use of ["f32", "int8"] as const) {
        const top = exactSearch(block, query, 50, createTopK(50), { use });
        assert.equal(top.size, 39);
        assert.ok(!top.rows.subarray(0, top.size).includes(4));
        assert.ok(top.rows.subarray(0, top.size).every((slot) => slot < 40));
        // Nothing passes, nothing lives.
        assert.equal(exactSearch(block, query, 5, createTopK(5), { use, filterAt }).size, 0);
      }
      block.memory.u32.fill(0, block.liveAt / 4, block.liveAt / 4 + block.slots / 32);
      for (const use of ["f32", "int8"] as const) assert.equal(exactSearch(block, query, 5, createTopK(5), { use }).size, 0);
    }
  });

  test(under("a block without bitmap and without codes: every slot is live, f32 is the way"), () => {
    const { block } = blockOf(Float32Array.of(1, 2, 3, 4), 1, "ip", { codes: false, live: false });
    assert.deepEqual(of(exactSearch(block, Float32Array.of(-1), 3, createTopK(3))), [
      { slot: 4, score: 0 },
      { slot: 5, score: 0 },
      { slot: 6, score: 0 },
    ]);
    assert.throws(() => exactSearch(block, Float32Array.of(1), 1, createTopK(1), { use: "int8" }), /without/);
  });

  test(under("rows that are not finite: f32 orders infinities and hides NaN; codes are of finite rows, and NaN is no answer by them either"), () => {
    const dims = 5;
    const vectors = new Float32Array(30 * dims).fill(1);
    vectors[3 * dims] = Number.NaN;
    vectors[5 * dims + 4] = Infinity;
    vectors[6 * dims + 2] = -Infinity;
    vectors[7 * dims] = Infinity;
    vectors[7 * dims + 1] = -Infinity;
    const query = new Float32Array(dims).fill(2);
    const { block: f32Block } = blockOf(vectors, dims, "ip", { codes: false, live: true });
    const top = of(exactSearch(f32Block, query, 40, createTopK(40)));
    assert.deepEqual(top, naive(f32Block, query, 40));
    assert.equal(top.length, 27);
    assert.deepEqual(top[0], { slot: 5, score: Infinity });
    const { block } = blockOf(vectors, dims, "ip");
    assert.equal(countSlots(block), 26);
    assert.equal(exactSearch(block, query, 40, createTopK(40)).size, 26);
    setSlot(block.memory, block.liveAt, 3, true);
    assert.equal(scalesOf(block), 1);
    assert.equal(exactSearch(block, query, 40, createTopK(40)).size, 26);
    // A query that is not finite has no codes: f32 says what comes of it.
    assert.equal(exactSearch(block, new Float32Array(dims).fill(Number.NaN), 40, createTopK(40)).size, 0);
    assert.equal(exactSearch(block, new Float32Array(dims), 40, createTopK(40)).size, 26);
  });

  test(under(`real numbers, three metrics: int8 and f32 give the same answers (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("reals");
    for (const [dims, metric] of [
      [48, "ip"],
      [100, "cosine"],
      [33, "l2"],
    ] as const) {
      const count = 4_000;
      // Dimensions of different size, lengths too.
      const vectors = new Float32Array(count * dims);
      for (let row = 0; row < count; row++) {
        const length = Math.exp(prng.normal());
        for (let i = 0; i < dims; i++) vectors[row * dims + i] = (prng.normal() * length) / (1 + i / 8);
      }
      const { block } = blockOf(vectors, dims, metric);
      const queries = Float32Array.from({ length: 12 * dims }, (_, i) => prng.normal() / (1 + (i % dims) / 8));
      if (metric === "cosine") normalise(queries, dims);
      const k = 20;
      const fours = Array.from({ length: 12 }, () => createTopK(k));
      exactSearchBatch(block, queries, k, fours, { use: "f32" });
      const eights = Array.from({ length: 12 }, () => createTopK(k));
      exactSearchBatch(block, queries, k, eights, { use: "int8" });
      for (let i = 0; i < 12; i++) {
        const query = queries.subarray(i * dims, (i + 1) * dims);
        const exact = naive(block, query, k);
        // Single queries and batches sum alike: equal to the last bit.
        assert.deepEqual(of(exactSearch(block, query, k, createTopK(k), { use: "f32" })), of(fours[i]!), `${metric} ${i}`);
        assert.deepEqual(of(exactSearch(block, query, k, createTopK(k), { use: "int8" })), of(eights[i]!), `${metric} ${i}`);
        assert.deepEqual(of(eights[i]!), of(fours[i]!), `${metric} ${i}`);
        const scale = Math.max(...exact.map(({ score }) => Math.abs(score)));
        for (const [rank, { score }] of of(fours[i]!).entries()) assert.ok(Math.abs(score - exact[rank]!.score) <= 4e-6 * scale, `${metric} ${i} rank ${rank}`);
      }
    }
  });

  test(under("squared distances are exact where products are not: a row near the query, both far from zero"), () => {
    const dims = 16;
    const vectors = Float32Array.from({ length: 10 * dims }, (_, i) => 1_000 + ((i * i) % 11) + (i % 7));
    vectors.copyWithin(3 * dims, 0, dims);
    vectors[3 * dims]! += 1 / 64;
    const { block } = blockOf(vectors, dims, "l2");
    const top = of(exactSearch(block, vectors.slice(0, dims), 10, createTopK(10)));
    assert.deepEqual(top.slice(0, 2), [
      { slot: 0, score: 0 },
      { slot: 3, score: 1 / 4_096 },
    ]);
  });

  test(under(`codes and scales: by their definition, whatever the dimensions (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("codes");
    for (const dims of [1, 3, 4, 5, 15, 16, 17, 31, 64, 100]) {
      const vectors = Float32Array.from({ length: 50 * dims }, (_, i) => (i % dims === 2 ? 0 : prng.normal()));
      const { block } = blockOf(vectors, dims, "ip");
      const { f32, bytes } = block.memory;
      const codes = new Int8Array(bytes.buffer);
      for (let i = 0; i < codeBytes(dims); i++) {
        let scale = 0;
        for (let row = 0; row < 50 && i < dims; row++) scale = Math.max(scale, Math.abs(vectors[row * dims + i]!));
        assert.equal(f32[block.scalesAt / 4 + i], scale);
        for (let row = 0; row < 50; row++) {
          const code = codes[block.codesAt + row * codeBytes(dims) + i]!;
          if (scale === 0) assert.equal(code, 0);
          else assert.ok(Math.abs(code - (vectors[row * dims + i]! / scale) * 127) <= 0.5001);
        }
      }
      // Beyond a scale that was not raised, numbers are cut.
      writeRows(block, 0, new Float32Array(dims).fill(-1e30));
      quantise(block, 0, 1);
      assert.equal(codes[block.codesAt], -127);
    }
  });

  test(under(`bitmaps: counts and lists of ranges of one and two (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("bits");
    const memory = KernelMemory.create({ dataBytes: 8_192 }, live);
    const first = memory.reserve(bitmapBytes(1_000));
    const second = memory.reserve(bitmapBytes(1_000));
    const listAt = memory.reserve(4_100);
    const block: VectorBlock = { memory, shape: { dims: 1, metric: "ip" }, slots: 1_000, rowsAt: 64, codesAt: 0, scalesAt: 0, biasAt: 0, liveAt: first };
    for (let round = 0; round < 60; round++) {
      for (let slot = 0; slot < 1_000; slot++) {
        setSlot(memory, first, slot, prng.chance(0.5));
        setSlot(memory, second, slot, round === 0 || prng.chance(0.3));
      }
      const from = round === 0 ? 0 : prng.below(1_000);
      const to = round === 0 ? 1_000 : prng.between(from, 1_000);
      const filterAt = prng.chance(0.5) ? second : 0;
      const slots: number[] = [];
      for (let slot = from; slot < to; slot++) if (hasSlot(memory, first, slot) && (filterAt === 0 || hasSlot(memory, second, slot))) slots.push(slot);
      assert.equal(countSlots(block, filterAt, from, to), slots.length);
      assert.equal(countBits(memory, 0, 0, from, to), to - from);
      assert.equal(listSlots(block, filterAt, listAt, 1_000, from, to), slots.length);
      assert.deepEqual([...memory.u32.subarray(listAt / 4, listAt / 4 + slots.length)], slots);
      const few = prng.below(slots.length + 1);
      memory.u32.fill(7, listAt / 4, listAt / 4 + 1_000);
      assert.equal(listSlots(block, filterAt, listAt, few, from, to), few);
      assert.equal(memory.u32[listAt / 4 + few], 7);
    }
  });

  test(under(`lists of bitmaps from nearly empty to full (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("sparse bits");
    const all = 9_000;
    const memory = KernelMemory.create({ dataBytes: 65_536 }, live);
    const first = memory.reserve(bitmapBytes(all));
    const second = memory.reserve(bitmapBytes(all));
    const listAt = memory.reserve(4 * all + 16);
    const block: VectorBlock = { memory, shape: { dims: 1, metric: "ip" }, slots: all, rowsAt: 64, codesAt: 0, scalesAt: 0, biasAt: 0, liveAt: first };
    for (const share of [0, 0.0005, 0.002, 0.005, 0.01, 0.03, 0.3, 1]) {
      for (let round = 0; round < 4; round++) {
        // Now and then a full stretch between empty ones.
        const full = prng.below(all);
        for (let slot = 0; slot < all; slot++) {
          setSlot(memory, first, slot, prng.chance(0.9));
          setSlot(memory, second, slot, prng.chance(share) || (round === 1 && slot >= full && slot < full + 500));
        }
        const from = round < 2 ? 0 : prng.below(all);
        const to = round < 2 ? all : prng.between(from, all);
        const slots: number[] = [];
        for (let slot = from; slot < to; slot++) if (hasSlot(memory, first, slot) && hasSlot(memory, second, slot)) slots.push(slot);
        assert.equal(listSlots(block, second, listAt, all, from, to), slots.length);
        assert.deepEqual([...memory.u32.subarray(listAt / 4, listAt / 4 + slots.length)], slots);
        const few = prng.below(slots.length + 1);
        memory.u32.fill(7, listAt / 4, listAt / 4 + all);
        assert.equal(listSlots(block, second, listAt, few, from, to), few);
        assert.equal(memory.u32[listAt / 4 + few], 7);
      }
    }
  });

  test(under(`few bits of many words are listed, or told to be too many (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("few bits");
    const words = 64 * 70;
    const max = 3_000;
    const memory = KernelMemory.create({ dataBytes: words * 4 + (max + 16) * 4 + fewBits.roomBytes + 512 }, live);
    const [bitsAt, listAt, room] = [memory.reserve(words * 4), memory.reserve((max + 16) * 4), memory.reserve(fewBits.roomBytes)];
    const bits = memory.u32.subarray(bitsAt / 4, bitsAt / 4 + words);
    const list = memory.u32.subarray(listAt / 4, listAt / 4 + max + 16);
    for (const share of [0, 0.0001, 0.001, 0.01, 0.019, 0.3, 1]) {
      for (let round = 0; round < 4; round++) {
        // Now and then a full stretch between empty ones.
        const full = prng.below(words);
        const all: number[] = [];
        const first = prng.below(1_000) * 32;
        const looked = 64 * prng.between(round === 0 ? 70 : 0, 70);
        for (let word = 0; word < words; word++) {
          let set = 0;
          for (let bit = 0; bit < 32; bit++) {
            if (!prng.chance(share) && !(round === 1 && word >= full && word < full + 20)) continue;
            set |= 1 << bit;
            if (word < looked) all.push(first + word * 32 + bit);
          }
          bits[word] = set;
        }
        const before = prng.below(20);
        list.fill(7);
        const count = memory.calls.bitsFew(bitsAt, looked, first, listAt, before, max, room) >>> 0;
        if (before + all.length > max) assert.ok(count > max);
        else {
          assert.equal(count, before + all.length);
          assert.deepEqual([...list.subarray(before, count)], all);
        }
        assert.deepEqual(
          [...list.subarray(0, before)],
          Array.from({ length: before }, () => 7),
        );
        assert.ok(list.subarray(max + 4).every((one) => one === 7));
      }
    }
  });

  test(under("blocks above 2 GiB are reached: addresses are unsigned"), () => {
    const shape = { dims: 4, metric: "l2" } as const;
    const memory = KernelMemory.create({ dataBytes: 3 * 2 ** 30 }, live);
    memory.reserve(2.5 * 2 ** 30);
    const block = createVectorBlock(memory, shape, 64, { codes: true, live: true });
    assert.ok(block.rowsAt > 2 ** 31);
    writeRows(block, 40, Float32Array.of(0, 0, 7, 0));
    setSlot(memory, block.liveAt, 40, true);
    assert.equal(scalesOf(block), 0);
    quantise(block);
    const listAt = memory.reserve(256);
    memory.u32[listAt / 4] = 40;
    const query = Float32Array.of(0, 0, 5, 0);
    const expected = [{ slot: 40, score: 4 }];
    for (const use of ["f32", "int8"] as const) {
      assert.deepEqual(of(exactSearch(block, query, 2, createTopK(2), { use })), expected);
      const tops = [createTopK(2), createTopK(2)];
      exactSearchBatch(block, Float32Array.of(...query, ...query), 2, tops, { use });
      for (const top of tops) assert.deepEqual(of(top), expected);
    }
    assert.deepEqual(of(exactSearchOf(block, query, 2, createTopK(2), { at: listAt, count: 1 })), expected);
    assert.equal(countSlots(block), 1);
  });
}
