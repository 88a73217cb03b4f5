// Drops items that are gone, hidden or excluded by the request. Sources may hold handles of items that left since they were counted.

import { filter } from "#pipeline/index";
import type { SceneRequest, SceneStores } from "../scene.ts";

export function availableFilter(stores: SceneStores) {
  return filter<SceneRequest>()("available", {}, ({ req }, batch, keep) => {
    for (let row = 0; row < batch.n; row += 1) {
      const item = batch.id[row]!;
      if (req.exclude.has(item) || !stores.catalog.available(item)) keep[row] = 0;
    }
  });
}
