// A live model of a size for tests and benches, with rates that learn fast.

import { LiveModel } from "./live-model.ts";

/** Factors of `smallModel` unless told otherwise. */
export const smallModelFactors = 8;

/** `itemsMax` items, nothing learned. */
export function smallModel(itemsMax: number, more: { seed?: bigint; factors?: number; capacityRows?: number; slotsPerItemMax?: number } = {}): LiveModel {
  const { seed = 9n, factors = smallModelFactors, capacityRows = 10_000, slotsPerItemMax = 8 } = more;
  return LiveModel.create({
    machine: {
      factors,
      capacityRows,
      seed,
      initialScale: 0.1,
      optimizer: "adagrad",
      rate: { linear: 0.2, factors: 0.1 },
      l2: { linear: 0, factors: 0 },
      initialAccumulator: 0.1,
    },
    itemsMax,
    slotsPerItemMax,
  });
}
