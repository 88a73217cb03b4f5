// Ranks by the learned model: its logit of a click, and something for what was hardly shown yet. The candidates' features are worked out here, the scoring is
// the ranker's, outside the serving loop. When it is late or not there the step is skipped and the weighted score stands.
//   score = logit + explore x (1 for what was never shown .. 0)
// The features stay with the request: they are what the answer logs, also when the ranker did not answer.
// Cost: 0.5 us a candidate on the serving loop, then a wait.

import { score } from "#pipeline/index";
import type { Scorer } from "#ranking/scorer";
import type { ModelRank } from "../model-config.ts";
import type { ModelFeatures } from "../model-features.ts";
import type { SceneRequest } from "../scene.ts";

const reads = { score: "f32", popularity: "f32", trend: "f32", ownDecayed: "f32", together: "f32", unproven: "f32" } as const;

export function modelScore(features: ModelFeatures, scorer: Scorer, { explore, deadlineMs }: ModelRank) {
  return score<SceneRequest>()("model", reads, { score: "f32" }, async (ctx, batch, out) => {
    const { model } = ctx.req;
    if (model === undefined || batch.n === 0) return;
    const rows = features.candidates(model, batch.id, batch.n, {
      score: batch.col("score"),
      popularity: batch.col("popularity"),
      trend: batch.col("trend"),
      ownDecayed: batch.col("ownDecayed"),
      together: batch.col("together"),
    });
    const unproven = batch.col("unproven");
    const { logits } = model;
    model.scoring += 1;
    try {
      await scorer.score(model.slots, rows, logits, Math.max(1, Math.min(deadlineMs, ctx.remainingMs())));
    } finally {
      model.scoring -= 1;
    }
    for (let row = 0; row < batch.n; row += 1) out.score[row] = logits[row]! + explore * unproven[row]!;
  });
}
