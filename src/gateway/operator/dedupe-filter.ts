// Dedupe in windows of time, two steps:
// `shown` drops what the user was shown within `shownMs`, unless the item's state has changed since (a live stream with a new topic is new). The fallback
// need not pass it: something seen is better than a short answer.
// `done` drops what the user is done with (bought) within `doneMs`. The fallback must pass it.
// Why windows and not a long-lived Bloom filter: what is shown changes under its id, and what was bought long ago may be wanted again; each scene says.
// Cost: the user's exposures (at most 256) or done items, once a request.

import { filter } from "#pipeline/index";
import type { SceneRequest, SceneStores } from "../scene.ts";

/** `shownMs`: milliseconds for which a shown item stays away. */

export function shownFilter(stores: SceneStores, shownMs: number) {
  return filter<SceneRequest>()("shown", {}, ({ req }, batch, keep) => {
    const shown = req.user < 0 ? undefined : stores.exposures.of(req.user);
    if (shown === undefined) return;
    const away = new Set<number>();
    for (let at = shown.to - 1; at >= shown.from && shown.times[at]! > req.nowMs - shownMs; at -= 1) {
      const item = shown.items[at]!;
      if (stores.catalog.stateVersion.get(item) === shown.tags[at]) away.add(item);
    }
    drop(away, batch.id, batch.n, keep);
  });
}

/** `doneMs`: milliseconds for which a done item stays away, Infinity: for ever. */

export function doneFilter(stores: SceneStores, doneMs: number) {
  return filter<SceneRequest>()("done", {}, ({ req }, batch, keep) => {
    const done = req.user < 0 ? undefined : stores.done.of(req.user);
    if (done === undefined) return;
    const away = new Set<number>();
    const since = req.nowMs - doneMs;
    for (let at = done.from; at < done.to; at += 1) if (done.times[at]! >= since) away.add(done.items[at]!);
    drop(away, batch.id, batch.n, keep);
  });
}

function drop(away: ReadonlySet<number>, ids: Uint32Array, n: number, keep: Uint8Array): void {
  if (away.size === 0) return;
  for (let row = 0; row < n; row += 1) if (away.has(ids[row]!)) keep[row] = 0;
}
