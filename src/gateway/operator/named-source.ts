// Named: when the filter names the ids that may pass, these are the candidates, whether or not anything else recalls them.

import { source } from "#pipeline/index";
import { eligible, type SceneRequest, type SceneStores } from "../scene.ts";

export function namedSource(stores: SceneStores) {
  return source<SceneRequest>()("named", {}, ({ req, limit }, emit) => {
    const ids = req.predicate?.ids;
    if (ids === undefined) return 0;
    const out = emit(Math.min(limit, ids.length));
    let row = 0;
    for (const id of ids) {
      const item = stores.catalog.items.find(id);
      if (item === undefined || row === out.id.length || !eligible(stores, req, item)) continue;
      out.id[row] = item;
      row += 1;
    }
    return row;
  });
}
