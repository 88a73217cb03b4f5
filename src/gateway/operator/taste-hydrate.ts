// The taste of every candidate, whoever brought it, and the seed behind most of it (handle + 1, 0 = none) for the reason shown to the user.

import { hydrate } from "#pipeline/index";
import type { SceneRequest } from "../scene.ts";

export function tasteHydrate() {
  return hydrate<SceneRequest>()("taste", {}, { together: "f32", via: "u32" }, ({ req }, batch, out) => {
    const taste = req.taste;
    if (taste === undefined) return;
    for (let row = 0; row < batch.n; row += 1) {
      const item = batch.id[row]!;
      out.together[row] = taste.score(item);
      out.via[row] = taste.via(item) + 1;
    }
  });
}
