// Counters of every candidate as of now: `popularity` and `trend` (decayed counts, long and short), `ageDays` since creation, `category` handle + 1.

import { hydrate } from "#pipeline/index";
import type { SceneRequest, SceneStores } from "../scene.ts";
import { msPerDay } from "./own-history-source.ts";

export function counterHydrate(stores: SceneStores) {
  return hydrate<SceneRequest>()("counters", {}, { popularity: "f32", trend: "f32", ageDays: "f32", category: "u32" }, ({ req }, batch, out) => {
    stores.popularity.gather(batch.id, batch.n, req.nowMs, out.popularity);
    stores.trend.gather(batch.id, batch.n, req.nowMs, out.trend);
    for (let row = 0; row < batch.n; row += 1) {
      const item = batch.id[row]!;
      out.ageDays[row] = Math.max(0, req.nowMs - stores.catalog.createdAt.get(item)) / msPerDay;
      out.category[row] = stores.catalog.category.get(item);
    }
  });
}
