// The weighted score: a sum of a few readable terms over the columns that sources and hydrates wrote.
//   score = trend ln(1 + trend count / trendFloor) + popularity ln(1 + popularity count / popularityFloor)
//         + for items of the user's own:  ownBase + ownOften ln(1 + own decayed count / ownFloor) + ownRecency 2^(-days since / ownHalfLife)
//                                         + ownTogether ln(1 + taste / togetherFloor)
//         + for all others:               together ln(1 + taste / togetherFloor) + fresh 2^(-days since creation / freshHalfLife)
//         + rate x ln(how often it and its values are clicked when shown) + affinity x ln(this user's share in that) + again x ln(this user and item)
//         + explore x (1 for what was never shown .. 0)      the three rates are 1, their logarithms 0, where nothing was shown (responses.ts)
// A floor says which size counts ln 2: below it a term is linear, above it logarithmic.
// Why logarithms: counts of popular and rare things differ by orders of magnitude, and terms of like size make weights readable. Why these terms: each is
// one sentence that a user understands, and the reason shown is the term that brought most. Weights come from a replay (docs/design/recommend.md).
// Cost: 4 logarithms a row.

import { score } from "#pipeline/index";
import type { SceneRequest } from "../scene.ts";

export interface ScoreWeights {
  readonly trend: number;
  readonly trendFloor: number;
  readonly popularity: number;
  readonly popularityFloor: number;
  /** For being an item of the user's own. */
  readonly ownBase: number;
  readonly ownOften: number;
  readonly ownFloor: number;
  /** Negative: what was just touched is not wanted again at once. */
  readonly ownRecency: number;
  readonly ownHalfLifeDays: number;
  readonly ownTogether: number;
  readonly together: number;
  readonly togetherFloor: number;
  readonly fresh: number;
  readonly freshHalfLifeDays: number;
  /** How often it and its like are clicked when shown. */
  readonly rate: number;
  /** How often this user clicks its like when shown, beyond everybody. */
  readonly affinity: number;
  /** How often this user clicks it beyond its like when shown. */
  readonly again: number;
  /** For what was hardly shown yet. */
  readonly explore: number;
}

/** Columns that the score reads, one row. */
export interface ScoreColumns {
  readonly ownCount: number;
  readonly ownDecayed: number;
  readonly ownAgeDays: number;
  readonly together: number;
  readonly trend: number;
  readonly popularity: number;
  readonly ageDays: number;
  /** Natural logarithm, 0 = as expected. */
  readonly rate: number;
  readonly affinity: number;
  readonly again: number;
  /** From 1 (never shown) towards 0. */
  readonly unproven: number;
}

/** The terms of one row: for reasons and explain. Their sum is the score. */
export function scoreTerms(
  row: ScoreColumns,
  weights: ScoreWeights,
): { own: number; together: number; popular: number; fresh: number; rate: number; affinity: number; again: number } {
  const own = row.ownCount > 0;
  const taste = Math.log1p(row.together / weights.togetherFloor);
  return {
    own: own
      ? weights.ownBase +
        weights.ownOften * Math.log1p(row.ownDecayed / weights.ownFloor) +
        weights.ownRecency * 2 ** (-row.ownAgeDays / weights.ownHalfLifeDays)
      : 0,
    together: (own ? weights.ownTogether : weights.together) * taste,
    popular: weights.trend * Math.log1p(row.trend / weights.trendFloor) + weights.popularity * Math.log1p(row.popularity / weights.popularityFloor),
    fresh: (own ? 0 : weights.fresh * 2 ** (-row.ageDays / weights.freshHalfLifeDays)) + weights.explore * row.unproven,
    rate: weights.rate * row.rate,
    affinity: weights.affinity * row.affinity,
    again: weights.again * row.again,
  };
}

const reads = {
  ownCount: "f32",
  ownDecayed: "f32",
  ownAgeDays: "f32",
  together: "f32",
  trend: "f32",
  popularity: "f32",
  ageDays: "f32",
  rate: "f32",
  affinity: "f32",
  again: "f32",
  unproven: "f32",
} as const;

export function weightedScore(weights: ScoreWeights) {
  return score<SceneRequest>()("weighted", reads, { score: "f32" }, (_, batch, out) => {
    const ownCount = batch.col("ownCount");
    const ownDecayed = batch.col("ownDecayed");
    const ownAgeDays = batch.col("ownAgeDays");
    const together = batch.col("together");
    const trend = batch.col("trend");
    const popularity = batch.col("popularity");
    const ageDays = batch.col("ageDays");
    const rate = batch.col("rate");
    const affinity = batch.col("affinity");
    const again = batch.col("again");
    const unproven = batch.col("unproven");
    const w = weights;
    for (let row = 0; row < batch.n; row += 1) {
      const taste = Math.log1p(together[row]! / w.togetherFloor);
      let sum = w.trend * Math.log1p(trend[row]! / w.trendFloor) + w.popularity * Math.log1p(popularity[row]! / w.popularityFloor);
      if (ownCount[row]! > 0) {
        const often = Math.log1p(ownDecayed[row]! / w.ownFloor);
        sum += w.ownBase + w.ownOften * often + w.ownRecency * 2 ** (-ownAgeDays[row]! / w.ownHalfLifeDays) + w.ownTogether * taste;
      } else {
        sum += w.together * taste + w.fresh * 2 ** (-ageDays[row]! / w.freshHalfLifeDays);
      }
      out.score[row] = sum + w.rate * rate[row]! + w.affinity * affinity[row]! + w.again * again[row]! + w.explore * unproven[row]!;
    }
  });
}
