// Filters over columns and exact search of the few rows that pass, in every kernel variant, against plain definitions.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { createTopK } from "./dot-top-k.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, kernelVariants } from "./kernels.ts";
import { bitmapBytes, createVectorBlock, hasSlot, setSlot, vectorBlockBytes } from "./vector-layout.ts";
import { ExactScan, exactSearch, exactSearchOf, listSlots, normalise, quantise, scalesOf, writeRows } from "./vector-rows.ts";

const seed = process.env["SEED"] ?? "filters";

for (const variant of kernelVariants) {
  void test(`${variant}: ranges of numbers and codes to bits (SEED=${seed})`, () => {
    const prng = new Prng(seed).fork("columns");
    const slots = 32 * 40;
    const memory = KernelMemory.create({ dataBytes: slots * 12 + slots / 8 + 256 }, kernels(variant));
    const [numbersAt, codesAt, out] = [memory.reserve(slots * 8), memory.reserve(slots * 4), memory.reserve(slots / 8)];
    const numbers = new Float64Array(memory.memory.buffer, numbersAt, slots);
    const some = [0, -0, 1, -1, 0.1, Infinity, -Infinity, Number.NaN, 1e300, 5e-324, 7];
    for (let slot = 0; slot < slots; slot++) {
      numbers[slot] = prng.pick(some);
      memory.u32[codesAt / 4 + slot] = prng.pick([0, 1, 2, 0xffff_ffff, 65_536]);
    }
    const isSet = (slot: number): boolean => ((memory.u32[out / 4 + (slot >>> 5)]! >>> (slot & 31)) & 1) === 1;
    for (let round = 0; round < 40; round++) {
      const [low, high] = [prng.pick(some), prng.pick(some)];
      memory.calls.filterNumbers(numbersAt, low, high, slots / 32, out);
      for (let slot = 0; slot < slots; slot++)
        assert.equal(isSet(slot), numbers[slot]! >= low && numbers[slot]! <= high, `${low} <= ${numbers[slot]} <= ${high}`);
      const code = prng.pick([0, 1, 2, 3, 0xffff_ffff, 65_536]);
      memory.calls.filterCodes(codesAt, code, slots / 32, out);
      for (let slot = 0; slot < slots; slot++) assert.equal(isSet(slot), memory.u32[codesAt / 4 + slot] === code);
    }
  });

  void test(`${variant}: promise: a filtered search by codes has the answers of f32, also where the filter names only what lies far away (SEED=${seed})`, () => {
    const prng = new Prng(seed).fork("search");
    const [dims, count, k] = [24, variant === "scalar" ? 3_000 : 9_000, 20];
    for (const metric of ["cosine", "ip", "l2"] as const) {
      const vectors = Float32Array.from({ length: count * dims }, () => prng.normal());
      const shape = { dims, metric };
      const slots = count + 64;
      const memory = KernelMemory.create(
        { dataBytes: vectorBlockBytes(shape, slots, { codes: true, live: true }) + bitmapBytes(slots) + slots * 4 + 2_048 },
        kernels(variant),
      );
      const block = createVectorBlock(memory, shape, slots, { codes: true, live: true });
      writeRows(block, 0, vectors);
      for (let slot = 0; slot < count; slot++) setSlot(memory, block.liveAt, slot, !prng.chance(0.1));
      scalesOf(block);
      quantise(block);
      const filterAt = memory.reserve(bitmapBytes(block.slots));
      const listAt = memory.reserve(block.slots * 4);
      const query = Float32Array.from({ length: dims }, () => prng.normal());
      normalise(query, dims);
      const all = createTopK(count);
      exactSearch(block, query, count, all, { use: "f32" });
      for (const share of [0.002, 0.05, 0.5, 1]) {
        for (const opposed of [false, true]) {
          memory.u32.fill(0, filterAt / 4, filterAt / 4 + block.slots / 32);
          if (opposed) for (const slot of all.rows.subarray(Math.floor(all.size * (1 - share)), all.size)) setSlot(memory, filterAt, slot, true);
          else for (let slot = 0; slot < block.slots; slot++) setSlot(memory, filterAt, slot, prng.chance(share));
          const [byCodes, byList] = [createTopK(k), createTopK(k)];
          exactSearch(block, query, k, byCodes, { filterAt, use: "int8" });
          exactSearchOf(block, query, k, byList, { at: listAt, count: listSlots(block, filterAt, listAt, block.slots) });
          const check = (): void => {
            assert.equal(byCodes.size, byList.size);
            assert.deepEqual(byCodes.rows.subarray(0, byCodes.size), byList.rows.subarray(0, byList.size), `${metric} ${share} ${opposed}`);
          };
          check();
          // Slots given, dead ones and such that do not exist among them, in any order.
          const given: number[] = [];
          for (let slot = 0; slot < block.slots; slot++) if (hasSlot(memory, filterAt, slot)) given.push(slot);
          for (let more = prng.below(4); more > 0; more--) given.push(block.slots + prng.below(1_000));
          const slotsGiven = Uint32Array.from(prng.shuffle(given));
          exactSearchOf(block, query, k, byCodes, slotsGiven, "int8");
          check();
          const scan = new ExactScan(block);
          scan.begin(query, k);
          const half = prng.below(given.length + 1);
          memory.u32.set(slotsGiven.subarray(0, half), listAt / 4);
          scan.scanOf({ at: listAt, count: half });
          scan.scanOf(slotsGiven.subarray(half));
          scan.end([byCodes]);
          check();
        }
      }
    }
  });
}
