// The model of the preset feed: what it sees and how it learns, as chosen by `npm run bench -- learning` (docs/design/learning.md).
// The counting model's opinion is one of its inputs and begins with weight 1: untrained, the model is the counting model, and what it learns is what counting
// does not see.
// Why these rates: all slots of a sample step along the same gradient, some 25 of them. Larger steps (0.05, or a first accumulator below 10) let a young model show its own mistakes
// first; smaller ones (0.005) never get ahead of counting. Both by the true probabilities of what was shown, docs/design/learning.md.

import type { ModelConfig } from "./model-config.ts";

export const feedModel: ModelConfig = {
  fields: [
    { name: "user", from: "user.id", kind: "id" },
    { name: "recent", from: "user.recent", kind: "ids", max: 8 },
    { name: "hour", from: "context.hour", kind: "bucket", bounds: [4, 8, 12, 16, 20] },
    { name: "languages", from: "user.attributes.languages", kind: "ids", max: 4 },
    { name: "position", from: "context.position", kind: "bucket", bounds: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 30], linearOnly: true },
    { name: "item", from: "item.id", kind: "id" },
    { name: "category", from: "item.category", kind: "id" },
    { name: "topic", from: "item.state", kind: "id" },
    { name: "language", from: "item.attributes.language", kind: "id" },
    { name: "streamer", from: "item.attributes.streamer", kind: "id" },
    { name: "age", from: "signal.ageMinutes", kind: "bucket", bounds: [2, 5, 10, 20, 40, 80, 160], linearOnly: true },
    { name: "counting", from: "signal.counting", kind: "linear", initial: 1 },
    // Its opinion once more, by size: corrects where counting says too much or too little.
    {
      name: "countingStep",
      from: "signal.counting",
      kind: "bucket",
      bounds: [-7, -6.5, -6, -5.5, -5, -4.5, -4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5],
      linearOnly: true,
    },
    { name: "rate", from: "signal.rate", kind: "linear" },
    { name: "affinity", from: "signal.affinity", kind: "linear" },
    { name: "again", from: "signal.again", kind: "linear" },
    { name: "unproven", from: "signal.unproven", kind: "linear" },
  ],
  crosses: [
    { name: "user-topic", cross: ["user", "topic"] },
    { name: "user-category", cross: ["user", "category"] },
    { name: "language-language", cross: ["languages", "language"] },
  ],
  factors: 16,
  capacityRows: 262_144,
  itemsMax: 65_536,
  slotsPerItemMax: 16,
  seed: 1,
  optimizer: "adagrad",
  initialScale: 0.1,
  initialAccumulator: 10,
  rate: { linear: 0.03, factors: 0.01 },
  l2: { linear: 0, factors: 1e-4 },
  samples: { positiveTypes: ["click", "like"], windowSeconds: 20, latenessSeconds: 600, negativeRate: 1, openAnswersMax: 200_000 },
  checkpointSeconds: 60,
};
