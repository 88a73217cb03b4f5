// Together: items that users touched within one window with what this user touched last (taste.ts).
// The score itself is hydrated for all candidates by `taste-hydrate.ts`, since a popular candidate may have one too.

import { source } from "#pipeline/index";
import { eligible, type SceneRequest, type SceneStores } from "../scene.ts";
import type { TasteOptions, TastePool } from "../taste.ts";

export function togetherSource(stores: SceneStores, pool: TastePool, options: TasteOptions) {
  return source<SceneRequest>()("together", {}, ({ req, limit }, emit) => {
    const history = req.user < 0 ? undefined : stores.history.of(req.user);
    if (history === undefined) return 0;
    const taste = pool.take();
    req.taste = taste;
    taste.compute(stores, history, req.nowMs, options);
    const threshold = taste.threshold(limit);
    const out = emit(Math.min(limit, taste.count));
    let row = 0;
    for (let at = 0; at < taste.count && row < out.id.length; at += 1) {
      const item = taste.touched[at]!;
      if (taste.score(item) < threshold || !eligible(stores, req, item)) continue;
      out.id[row] = item;
      row += 1;
    }
    return row;
  });
}
