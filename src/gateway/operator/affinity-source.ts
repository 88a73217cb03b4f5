// Affinity: of the popular and the new items those whose values the user likes most, weighed by what everybody makes of them. Finds what nobody was shown yet.
// Cost: walks at most `walkMax` entries of each list, about 10 ns each.

import { kthLargest } from "#base/select-largest";
import { source } from "#pipeline/index";
import { eligible, type SceneRequest, type SceneStores } from "../scene.ts";

/** Entries of each list looked at for one request. */
const walkMax = 2_000;

export function affinitySource(stores: SceneStores, weights: { readonly rate: number; readonly affinity: number }) {
  const found = new Uint32Array(2 * walkMax);
  const scores = new Float32Array(2 * walkMax);
  const scratch = new Float32Array(2 * walkMax);
  const lists = [stores.popularity.top!, stores.catalog.fresh];
  return source<SceneRequest>()("affinity", {}, ({ req, limit }, emit) => {
    const { responses } = stores;
    responses.begin(req.user, req.nowMs);
    let n = 0;
    for (const list of lists) {
      const handles = list.handles;
      const end = Math.min(handles.length, walkMax);
      for (let at = 0; at < end; at += 1) {
        const item = handles[at]!;
        if (!eligible(stores, req, item) || req.exclude.has(item)) continue;
        found[n] = item;
        scores[n] = responses.guess(item, weights.rate, weights.affinity);
        scratch[n] = scores[n]!;
        n += 1;
      }
    }
    const rows = Math.min(limit, n);
    const threshold = rows < n ? kthLargest(scratch, n, rows) : Number.NEGATIVE_INFINITY;
    const out = emit(rows);
    let row = 0;
    for (let at = 0; at < n && row < rows; at += 1) {
      if (scores[at]! < threshold) continue;
      out.id[row] = found[at]!;
      row += 1;
    }
    return row;
  });
}
