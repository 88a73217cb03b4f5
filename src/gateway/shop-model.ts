// The model of the preset shop: what it sees and how it learns, as chosen by `millrace replay` (docs/design/replay.md).
//   logit = 0.6 x weighted score - 5        what counting thinks, as a logit; both numbers go on learning
//         + item, <user, item>              things that are taken more or less than counting says, by everybody and by users alike
//         + (user, bought before or not)    how much of a user's basket is things bought before
// Why so few fields: a weight that all samples share (buckets of counts, of age, of taste) lowers the log loss and ranks worse. It learns what tells large baskets from small
// ones, and the deep end of the list from its middle; what is asked for is the order of one user's first places.
// Untrained it is the counting pipeline.

import type { ModelConfig } from "./model-config.ts";

export const shopModel: ModelConfig = {
  fields: [
    { name: "user", from: "user.id", kind: "id" },
    { name: "item", from: "item.id", kind: "id" },
    { name: "counting", from: "signal.weighted", kind: "linear", initial: 0.6 },
    { name: "own", from: "signal.own", kind: "bucket", bounds: [1e-6], linearOnly: true },
  ],
  crosses: [{ name: "user-own", cross: ["user", "own"] }],
  initialBias: -5,
  factors: 16,
  capacityRows: 262_144,
  itemsMax: 65_536,
  slotsPerItemMax: 16,
  seed: 1,
  optimizer: "adagrad",
  initialScale: 0.1,
  initialAccumulator: 1,
  rate: { linear: 0.01, factors: 0.04 },
  l2: { linear: 0, factors: 3e-3 },
  samples: { positiveTypes: ["purchase"], windowSeconds: 1_800, latenessSeconds: 86_400, gapSeconds: 7 * 86_400, negativeRate: 1, openAnswersMax: 200_000 },
  checkpointSeconds: 60,
};
