// Own history: the distinct items that the user touched, best by decayed count. What people come back to.
// Columns: `ownCount` events, `ownDecayed` decayed count now, `ownAgeDays` since the last one.
// Cost: a scan of the user's list (at most its declared length).

import { kthLargest } from "#base/select-largest";
import { source } from "#pipeline/index";
import type { SceneRequest, SceneStores } from "../scene.ts";

export const msPerDay = 86_400_000;

export function ownHistorySource(stores: SceneStores) {
  const halfLifeMs = stores.history.options.halfLifeMs;
  let scratch = new Float32Array(1_024);
  return source<SceneRequest>()("own-history", { ownCount: "f32", ownDecayed: "f32", ownAgeDays: "f32" }, ({ req, limit }, emit) => {
    const view = req.user < 0 ? undefined : stores.history.of(req.user);
    if (view === undefined) return 0;
    const n = view.to - view.from;
    if (scratch.length < n) scratch = new Float32Array(n * 2);
    for (let at = 0; at < n; at += 1) {
      scratch[at] = view.decayed[view.from + at]! * 2 ** ((view.times[view.from + at]! - req.nowMs) / halfLifeMs);
    }
    const threshold = n > limit ? kthLargest(scratch, n, limit) : -1;
    const rows = Math.min(n, limit);
    const out = emit(rows);
    let row = 0;
    for (let at = view.from; at < view.to && row < rows; at += 1) {
      const decayed = view.decayed[at]! * 2 ** ((view.times[at]! - req.nowMs) / halfLifeMs);
      if (Math.fround(decayed) < threshold) continue;
      out.id[row] = view.items[at]!;
      out.ownCount[row] = view.counts[at]!;
      out.ownDecayed[row] = decayed;
      out.ownAgeDays[row] = Math.max(0, req.nowMs - view.times[at]!) / msPerDay;
      row += 1;
    }
    return row;
  });
}
