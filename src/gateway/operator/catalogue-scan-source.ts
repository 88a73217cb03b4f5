// Catalogue scan: items that pass a narrow filter which no list reached, oldest handle first, or the ids that the filter names. The last resort of the fallback: with it an answer is empty
// only when no available item passes.
// Cost: a predicate per item looked at, in slices of 1 ms between which other requests run, until `limit` items are found, the catalogue ends or the
// request's time does.

import { source } from "#pipeline/index";
import type { Clock } from "#platform/clock";
import { eligible, type SceneRequest, type SceneStores } from "../scene.ts";

const sliceMs = 1;

export function catalogueScanSource(stores: SceneStores, clock: Clock) {
  return source<SceneRequest>()("catalogue-scan", {}, async ({ req, limit, signal }, emit) => {
    const found: number[] = [];
    const ids = req.predicate?.ids;
    const size = ids?.length ?? stores.catalog.items.size;
    let sliceEndMs = clock.monotonicMs() + sliceMs;
    for (let at = 0; at < size && found.length < limit && !signal.aborted; at += 1) {
      const item = ids === undefined ? at : stores.catalog.items.find(ids[at]!);
      if (item !== undefined && !req.exclude.has(item) && eligible(stores, req, item)) found.push(item);
      if ((at & 255) === 255 && clock.monotonicMs() > sliceEndMs) {
        await clock.yield();
        sliceEndMs = clock.monotonicMs() + sliceMs;
      }
    }
    emit(found.length).id.set(found);
    return found.length;
  });
}
