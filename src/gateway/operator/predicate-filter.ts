// Drops items that fail the filter of the scene or the request.

import { filter } from "#pipeline/index";
import type { SceneRequest, SceneStores } from "../scene.ts";

export function predicateFilter(stores: SceneStores) {
  return filter<SceneRequest>()("predicate", {}, ({ req }, batch, keep) => {
    const predicate = req.predicate;
    if (predicate === undefined) return;
    for (let row = 0; row < batch.n; row += 1) if (!predicate.test(stores.catalog, batch.id[row]!)) keep[row] = 0;
  });
}
