// Rows by list that come and go, in every variant: a search of some lists names all of their rows that could be answers, whatever was put and taken out before.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, kernelVariants, loadVariant } from "./kernels.ts";
import { CodedQuery, ListCandidates, ListRows } from "./list-rows.ts";

const seed = freshSeed();

interface Row {
  readonly list: number;
  readonly numbers: Float32Array;
  readonly bias: number;
  place: number;
}

for (const variant of kernelVariants) {
  const loaded = loadVariant(variant);
  if (typeof loaded === "string") {
    test(`${variant}: rows by list`, { skip: loaded }, () => {});
    continue;
  }

  test(`${variant}: promise: no row of the lists that could be an answer is missed, and none that is not there is named (SEED=${seed})`, () => {
    const prng = new Prng(`${seed} list rows`);
    for (const [dims, lists, size] of [
      [1, 3, 1],
      [7, 40, 1e-20],
      [64, 9, 1],
      [100, 20, 1e15],
    ] as const) {
      const shape = { lists, dims, blocks: lists + 40 };
      const memory = KernelMemory.create({ dataBytes: ListRows.bytes(shape), laneBytes: ListRows.laneBytes(shape) }, kernels(variant));
      memory.bytes.fill(0xff, memory.dataFrom, memory.dataFrom + memory.dataBytes);
      const bank = new ListRows(memory, shape);
      const rows = new Map<number, Row>();
      const coded = new CodedQuery(dims);
      const found = new ListCandidates();
      const vector = (): Float32Array => Float32Array.from({ length: dims }, () => (prng.chance(0.05) ? 0 : size * prng.normal()));
      let next = 0;
      for (let round = 0; round < 60; round++) {
        for (let writes = 0; writes < 60; writes++) {
          const list = Math.floor(lists * prng.float() ** 2);
          if (prng.chance(round % 8 < 5 ? 0.65 : 0.35)) {
            if (!bank.hasRoom(list)) continue;
            const numbers = vector();
            const bias = prng.chance(0.5) ? 0 : -size * size * prng.float();
            rows.set(next, { list, numbers, bias, place: bank.put(list, next, numbers, 0, bias) });
            next += 1;
          } else if (rows.size > 0) {
            const number = prng.pick([...rows.keys()]);
            const { place } = rows.get(number)!;
            rows.delete(number);
            const moved = bank.remove(place);
            if (moved !== undefined) rows.get(moved)!.place = place;
          }
        }
        assert.equal(bank.rows, rows.size);
        assert.equal(new Set(Array.from(rows.values(), ({ place }) => place)).size, rows.size);
        const looked = Uint32Array.from({ length: lists }, (_, i) => i).filter(() => prng.chance(0.6));
        const query = prng.chance(0.1) ? new Float32Array(dims) : vector();
        const scores = new Map<number, number>();
        for (const [number, { list, numbers, bias }] of rows) {
          if (!looked.includes(list)) continue;
          scores.set(
            number,
            numbers.reduce((sum, x, j) => sum + x * query[j]!, bias),
          );
        }
        const sorted = [...scores.values()].sort((a, b) => b - a);
        const k = 1 + prng.below(30);
        const bar = prng.chance(0.5) ? -Infinity : (sorted[prng.below(40)] ?? -Infinity);
        found.reset(bar);
        assert.ok(bank.search(looked, looked.length, coded.set(query), k, found));
        assert.equal(found.compared, scores.size);
        const size2 = found.keep();
        const named = new Set(found.rows.subarray(0, size2));
        assert.equal(named.size, size2, "a row is named twice");
        for (const row of named) assert.ok(scores.has(row), "a row that is not in the lists is named");
        const least = Math.max(bar, sorted.length >= k ? sorted[k - 1]! : -Infinity);
        const near = 1e-6 * (Math.abs(least) + size * size);
        for (const [row, score] of scores)
          if (score >= least + (Number.isFinite(least) ? near : 0)) assert.ok(named.has(row), `row ${row} of ${score}, bar ${least}`);
        // Where a bar is, not all come through; by a query of nothing but zeros half of the rows are as near as each other.
        if (dims > 1 && size === 1 && scores.size > 100 && k < 5 && query.some((x) => x !== 0))
          assert.ok(size2 < scores.size / 2, `${size2} of ${scores.size}`);
      }
    }
  });

  test(`${variant}: the lists of a search and those near the best (SEED=${seed})`, () => {
    const prng = new Prng(`${seed} lists near`);
    for (let round = 0; round < 200; round++) {
      const lists = prng.between(1, 70);
      const memory = KernelMemory.create({ dataBytes: 5 * 512 }, kernels(variant));
      const [scores, more, seen, reaches, out] = Array.from({ length: 5 }, () => memory.reserve(300)) as [number, number, number, number, number];
      const { f32, u32, calls } = memory;
      f32.fill(-Infinity, scores / 4, scores / 4 + 75);
      const isL2 = round % 2;
      const square = prng.between(0, 9) ** 2;
      const bar = prng.pick([-Infinity, Infinity, prng.between(0, 25)]);
      const slack = prng.between(0, 3);
      const all = Array.from({ length: lists }, (_, i) => {
        // Squares, so that roots are whole.
        const score = isL2 === 1 ? (square - prng.between(0, 9) ** 2) / 2 : prng.between(-20, 20);
        f32[scores / 4 + i] = score;
        const [added, reach, was] = [prng.between(-20, 20), prng.between(0, 3), prng.chance(0.1) ? 1 : 0];
        f32[more / 4 + i] = added;
        f32[reaches / 4 + i] = reach;
        u32[seen / 4 + i] = was;
        return { sum: score + added, isSeen: was === 1 || score + reach * Math.sqrt(isL2 === 1 ? square - 2 * score : square) >= bar };
      });
      const best = Math.max(...all.map(({ sum }) => sum));
      const expected = all.flatMap(({ sum, isSeen }, i) => (isSeen || sum >= best - slack ? [i] : []));
      const count = calls.listsNear(scores, seen, lists, reaches, square, isL2, bar, more, slack, out);
      assert.deepEqual([...u32.subarray(out / 4, out / 4 + count)], expected);
    }
  });
}
