// The items that the model would rank highest for the user, of all items, by exact search over the live vectors in the ranker's thread. What the model has learned a
// moment ago is in them. Signals and crosses take no part: they belong to a pair of user and item, not to a vector.

import { source } from "#pipeline/index";
import type { Scorer } from "#ranking/scorer";
import type { SceneRequest } from "../scene.ts";

/** Buffers of searches that are not under way. */
interface Found {
  readonly items: Uint32Array;
  readonly scores: Float32Array;
}

const idleMax = 8;

export function vectorsSource(scorer: Scorer, rowsMax: number, deadlineMs: number) {
  const idle: Found[] = [];
  return source<SceneRequest>()("vectors", {}, async (ctx, emit) => {
    const { req, limit } = ctx;
    if (req.model === undefined) return;
    const found = idle.pop() ?? { items: new Uint32Array(rowsMax), scores: new Float32Array(rowsMax) };
    const k = Math.min(limit, rowsMax);
    // A failed search keeps its buffers: they are not given out again while the ranker might know them.
    const count = await scorer.search(req.model.slots, k, found.items, found.scores, Math.max(1, Math.min(deadlineMs, ctx.remainingMs())));
    const out = emit(count);
    out.id.set(found.items.subarray(0, count));
    if (idle.length < idleMax) idle.push(found);
  });
}
