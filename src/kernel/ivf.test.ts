// The index of lists: the contract in every variant, and that all variants agree.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { createTopK } from "./dot-top-k.ts";
import { ivfContract, plainIndex } from "./ivf.contract.ts";
import { kernelVariants, loadVariant } from "./kernels.ts";
import { bitmapBytes, setSlot } from "./vector-layout.ts";
import { searchLists } from "./vector-ivf.ts";

for (const variant of kernelVariants) {
  const loaded = loadVariant(variant);
  if (typeof loaded === "string") test(`${variant}: index of lists`, { skip: loaded }, () => {});
  else ivfContract(variant);
}

test("all variants look into the same lists and give the same answers", () => {
  const draw = (prng: Prng): number => prng.normal();
  for (const metric of ["cosine", "ip", "l2"] as const) {
    const counts = Array.from({ length: 30 }, (_, i) => 10 + 7 * i);
    const found = kernelVariants.map((variant) => {
      const index = plainIndex(variant, `same${metric}`, 20, metric, counts, draw);
      const prng = new Prng(7);
      const { block, startsAt } = index;
      const filterAt = block.memory.reserve(bitmapBytes(block.slots));
      for (let list = 0; list < counts.length; list++)
        for (let slot = block.memory.u32[startsAt / 4 + list]!; slot < block.memory.u32[startsAt / 4 + list + 1]!; slot++)
          setSlot(block.memory, filterAt, slot, list % 2 === 0 || slot % 20 === 3);
      return Array.from({ length: 10 }, () => {
        const query = Float32Array.from({ length: 20 }, () => prng.normal());
        const work = { lists: 0, slots: 0, exact: 0 };
        const plain = searchLists(index, query, { probes: 1_000, margin: 2, slack: 3 }, createTopK(10), work);
        const [rows, lists] = [[...plain.rows], work.lists];
        // One row in twenty passes in every other list, all in the others: both kinds of codes.
        const few = searchLists(index, query, { probes: 1_000, margin: 2, slack: 3, filterAt }, createTopK(10), work);
        return { rows, lists, few: [...few.rows], listsOfFew: work.lists };
      });
    });
    for (const other of found) assert.deepEqual(other, found[0]);
  }
});

test("a query of other dimensions is refused", () => {
  const index = plainIndex("scalar", "refused", 4, "ip", [3, 3], (prng) => prng.normal());
  assert.throws(
    () => searchLists(index, new Float32Array(5), { probes: 1, margin: 0, slack: 0 }, createTopK(1)),
    (error: unknown) => error instanceof MillraceError && error.code === "invalid",
  );
});
