// Steady load beside a probe: single-event requests and recommend requests at fixed rates, open loop.
// A share of the events are clicks on what recent answers showed, so that a model has something to learn from; the others come without an answer, as from search.

import { Prng } from "#base/prng";
import type { EventsAnswer, RecommendAnswer } from "#wire/api";
import { type LoadResult, openLoop } from "../harness.ts";
import { type Catalogue, zipf } from "./catalogue.ts";
import { childMain } from "./child.ts";
import { Lanes } from "./lane.ts";

export interface BackgroundWork {
  readonly address: string;
  readonly catalogue: Catalogue;
  readonly seed: number;
  readonly durationMs: number;
  readonly eventsPerS: number;
  readonly recommendsPerS: number;
}

export interface BackgroundResult {
  readonly events: LoadResult;
  readonly recommends: LoadResult;
}

const itemsAsked = 20;
/** One event in so many is a click on a recent answer; there are at most so many clicks as one in twenty items shown. */
const joinedEvery = 10;
const answersKept = 64;

childMain(async ({ address, catalogue, seed, durationMs, eventsPerS, recommendsPerS }: BackgroundWork): Promise<BackgroundResult> => {
  const prng = new Prng(seed);
  const item = zipf(catalogue.items, prng.fork("items"));
  const user = zipf(catalogue.users, prng.fork("users"));
  const asker = zipf(catalogue.users, prng.fork("askers"));
  const eventLanes = new Lanes(address, 8);
  const askLanes = new Lanes(address, 8);
  /** Recent answers, each clicked at most once. */
  const answers: { recommendationId: string; user: string; items: readonly string[] }[] = [];
  const places = prng.fork("places");
  const [events, recommends] = await Promise.all([
    openLoop({
      ratePerS: eventsPerS,
      durationMs,
      async send(index) {
        const shown = index % joinedEvery === 0 ? answers.shift() : undefined;
        const position = places.below(itemsAsked);
        const body = JSON.stringify({
          id: `load-${seed}-${index}`,
          ts: Date.now(),
          ...(shown === undefined
            ? { type: index % 8 === 0 ? "like" : "click", user: user(), item: item() }
            : { type: "click", user: shown.user, item: shown.items[position]!, recommendationId: shown.recommendationId, position }),
        });
        const { status, body: answer } = await eventLanes.request("POST", "/v1/events", body);
        if (status !== 200 || (JSON.parse(answer) as EventsAnswer).accepted !== 1) throw new Error(`event answered ${status}: ${answer.slice(0, 200)}`);
      },
    }),
    openLoop({
      ratePerS: recommendsPerS,
      durationMs,
      async send() {
        const user = asker();
        const { status, body } = await askLanes.request("POST", "/v1/recommend/home", JSON.stringify({ user, n: itemsAsked }));
        if (status !== 200) throw new Error(`recommend answered ${status}: ${body.slice(0, 200)}`);
        const { items, recommendationId } = JSON.parse(body) as RecommendAnswer;
        if (items.length !== itemsAsked) throw new Error("recommend answered too few items");
        if (answers.push({ recommendationId, user, items: items.map(({ id }) => id) }) > answersKept) answers.shift();
      },
    }),
  ]);
  eventLanes.close();
  askLanes.close();
  const plain = (result: LoadResult): LoadResult => ({ ...result, firstFailure: result.firstFailure === undefined ? undefined : String(result.firstFailure) });
  return { events: plain(events), recommends: plain(recommends) };
});
