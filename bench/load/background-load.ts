// Steady load beside a probe: single-event requests and recommend requests at fixed rates, open loop.

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

childMain(async ({ address, catalogue, seed, durationMs, eventsPerS, recommendsPerS }: BackgroundWork): Promise<BackgroundResult> => {
  const prng = new Prng(seed);
  const item = zipf(catalogue.items, prng.fork("items"));
  const user = zipf(catalogue.users, prng.fork("users"));
  const asker = zipf(catalogue.users, prng.fork("askers"));
  const eventLanes = new Lanes(address, 8);
  const askLanes = new Lanes(address, 8);
  const [events, recommends] = await Promise.all([
    openLoop({
      ratePerS: eventsPerS,
      durationMs,
      async send(index) {
        const body = JSON.stringify({ id: `load-${seed}-${index}`, type: index % 8 === 0 ? "like" : "click", user: user(), item: item(), ts: Date.now() });
        const { status, body: answer } = await eventLanes.request("POST", "/v1/events", body);
        if (status !== 200 || (JSON.parse(answer) as EventsAnswer).accepted !== 1) throw new Error(`event answered ${status}: ${answer.slice(0, 200)}`);
      },
    }),
    openLoop({
      ratePerS: recommendsPerS,
      durationMs,
      async send() {
        const { status, body } = await askLanes.request("POST", "/v1/recommend/home", JSON.stringify({ user: asker(), n: itemsAsked }));
        if (status !== 200) throw new Error(`recommend answered ${status}: ${body.slice(0, 200)}`);
        if ((JSON.parse(body) as RecommendAnswer).items.length !== itemsAsked) throw new Error("recommend answered too few items");
      },
    }),
  ]);
  eventLanes.close();
  askLanes.close();
  const plain = (result: LoadResult): LoadResult => ({ ...result, firstFailure: result.firstFailure === undefined ? undefined : String(result.firstFailure) });
  return { events: plain(events), recommends: plain(recommends) };
});
