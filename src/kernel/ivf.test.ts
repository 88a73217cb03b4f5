// The index of lists: the contract in every variant, and that all variants agree.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { createTopK } from "./dot-top-k.ts";
import { ivfContract, plainIndex } from "./ivf.contract.ts";
import { kernelVariants, loadVariant } from "./kernels.ts";
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
      return Array.from({ length: 10 }, () => {
        const query = Float32Array.from({ length: 20 }, () => prng.normal());
        const work = { lists: 0, slots: 0, exact: 0 };
        const top = searchLists(index, query, { probes: 1_000, margin: 2, slack: 3 }, createTopK(10), work);
        return { rows: [...top.rows], lists: work.lists };
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
