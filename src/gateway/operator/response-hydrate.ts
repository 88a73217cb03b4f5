// What is known of every candidate from how often it and its like were clicked when shown (responses.ts), as natural logarithms, 0 = as expected:
// `rate` of the item and its values with everybody, `affinity` of the user to its values, `again` of the user to the item beyond them; `unproven` from 1 (never shown) towards 0.

import { hydrate } from "#pipeline/index";
import type { SceneRequest, SceneStores } from "../scene.ts";

export function responseHydrate(stores: SceneStores) {
  return hydrate<SceneRequest>()("responses", {}, { rate: "f32", affinity: "f32", again: "f32", unproven: "f32" }, ({ req }, batch, out) => {
    const { responses } = stores;
    const { itemProof } = responses.options;
    responses.begin(req.user, req.nowMs);
    for (let row = 0; row < batch.n; row += 1) {
      const item = batch.id[row]!;
      out.rate[row] = Math.log(responses.itemLift(item)) + responses.general(item);
      out.affinity[row] = responses.personal(item);
      out.again[row] = Math.log(responses.pairLift(item));
      out.unproven[row] = itemProof / (itemProof + responses.itemExpected(item));
    }
  });
}
