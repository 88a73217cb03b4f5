// A scorer that answers only once its model may be used: before that every call is rejected with `unavailable`, and the caller goes on without a model.
// Why: a model that is still being loaded ranks as if it knew nothing, which is worse than what counts say.

import { MillraceError } from "#base/errors";
import type { Scorer } from "./scorer.ts";

export function gatedScorer(scorer: Scorer, open: () => boolean, why: string): Scorer {
  const closed = (): Promise<never> =>
    Promise.reject(new MillraceError("unavailable", why, { todo: "go on without the model, or ask /health/ready and send again" }));
  return {
    score: (...call) => (open() ? scorer.score(...call) : closed()),
    search: (...call) => (open() ? scorer.search(...call) : closed()),
    similar: (...call) => (open() ? scorer.similar(...call) : closed()),
    get metrics() {
      return scorer.metrics;
    },
    close: () => scorer.close(),
  };
}
