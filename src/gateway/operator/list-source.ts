// Popular, rising, fresh: the head of an ordered list of items, as far as they pass the filter.
// A filter that names ids needs no list: named-source.ts and the scan look them up.
// Cost: walks at most `walkMax` entries of the list, so that a narrow filter cannot hold the loop.

import type { TopList } from "#features/top-list";
import { source } from "#pipeline/index";
import { eligible, type SceneRequest, type SceneStores } from "../scene.ts";

/** Entries of a list looked at for one request. */
const walkMax = 4_000;

export function listSource<const N extends string>(name: N, stores: SceneStores, list: TopList) {
  return source<SceneRequest>()(name, {}, ({ req, limit }, emit) => {
    if (req.predicate?.ids !== undefined) return 0;
    const handles = list.handles;
    const out = emit(Math.min(limit, handles.length));
    const end = Math.min(handles.length, walkMax);
    let row = 0;
    for (let at = 0; at < end && row < out.id.length; at += 1) {
      const item = handles[at]!;
      if (req.exclude.has(item) || !eligible(stores, req, item)) continue;
      out.id[row] = item;
      row += 1;
    }
    return row;
  });
}
