// The probe viewer of a model that is served from a follower: how long until an event of mine, sent to the server that trains, is in the scores of a server that follows it?
// One probe: both servers answer the viewer with the same two items of different kinds; an event tells the trainer's server that the first was clicked there; the follower is asked for the scores of
// both again and again, by its own answer's features as they were logged, at once on two connections. Timed from the send of the event to the receipt of the later of the two answers whose
// difference has risen by `scoreRise` or more, once the trainer says that it has learned up to the event's offset (asked beside them on a third connection). See probe.ts for why a difference.
// A change that shows before that is somebody else's: it counts as `early`, and the probe goes on until both hold.

import { setTimeout as sleep } from "node:timers/promises";
import type { EventsAnswer, RecommendAnswer } from "#wire/api";
import type { ScoreAnswer } from "#wire/live-api";
import { differenceAtOneMoment } from "./at-one-moment.ts";
import { childMain } from "./child.ts";
import { Lane } from "./lane.ts";

export interface FollowerProbeWork {
  readonly trainer: string;
  readonly follower: string;
  readonly items: readonly string[];
  readonly name: string;
  readonly durationMs: number;
  readonly perS: number;
  readonly scoreRise: number;
}

export interface FollowerProbeResult {
  readonly parameterMs: number[];
  readonly early: number;
  readonly failures: string[];
}

const waitMsMax = 5_000;
const pauseMs = 2;
const stillTriesMax = 200;

childMain(async ({ trainer, follower, items, name, durationMs, perS, scoreRise }: FollowerProbeWork): Promise<FollowerProbeResult> => {
  const eventLane = new Lane(trainer);
  const trainerLane = new Lane(trainer);
  const [scoreLane, controlLane] = [new Lane(follower), new Lane(follower)];
  const parameterMs: number[] = [];
  const failures: string[] = [];
  let early = 0;
  const start = performance.now();
  const total = Math.max(1, Math.round((durationMs * perS) / 1_000));
  for (let index = 0; index < total; index += 1) {
    const due = start + (index * 1_000) / perS;
    if (due > performance.now()) await sleep(due - performance.now());
    const item = items[index % items.length]!;
    const control = items[(index + (items.length >> 1)) % items.length]!;
    const user = `${name}-${index}`;
    try {
      const ask = (lane: Lane): Promise<RecommendAnswer> => lane.json("POST", "/v1/recommend/home", { user, n: 2, filter: { id: [item, control] } });
      const [served, followed] = await Promise.all([ask(trainerLane), ask(scoreLane)]);
      const position = served.items.findIndex(({ id }) => id === item);
      if (position < 0 || followed.items.length !== 2) throw new Error("an item or its control were not served by both");
      const scoreOf = async (lane: Lane, one: string): Promise<number> =>
        (await lane.json<ScoreAnswer>("POST", "/v1/score", { recommendationId: followed.recommendationId, item: one })).score;
      const learnedTo = async (): Promise<number> =>
        (await trainerLane.json<ScoreAnswer>("POST", "/v1/score", { recommendationId: served.recommendationId, item })).trainedOffset;
      const before = await differenceAtOneMoment(
        () => scoreOf(scoreLane, item),
        () => scoreOf(controlLane, control),
        stillTriesMax,
      );
      const event = { id: user, type: "click", user, item, ts: Date.now(), recommendationId: served.recommendationId, position };
      let offset = Number.POSITIVE_INFINITY;
      const sent = performance.now();
      const acknowledged = eventLane.json<EventsAnswer>("POST", "/v1/events", event).then((answer) => {
        if (answer.accepted !== 1) throw new Error("the event was not accepted");
        offset = answer.offset;
      });
      // A refused event fails the probe below, not as a stray rejection.
      acknowledged.catch(() => undefined);
      let wasEarly = false;
      for (;;) {
        let scoredMs = 0;
        const [over, upTo] = await Promise.all([
          Promise.all([scoreOf(scoreLane, item), scoreOf(controlLane, control)]).then(([own, other]) => {
            scoredMs = performance.now() - sent;
            return own - other;
          }),
          learnedTo(),
        ]);
        const risen = over - before > scoreRise;
        if (risen && upTo >= offset) {
          parameterMs.push(scoredMs);
          break;
        }
        // An acknowledgement that is still on its way says nothing yet: the event may have been learned already.
        if (risen && Number.isFinite(offset) && !wasEarly) {
          wasEarly = true;
          early += 1;
        }
        if (scoredMs > waitMsMax)
          throw new Error(
            `no score showed the event at ${offset} within ${waitMsMax} ms, probe ${index}: risen by ${(over - before).toFixed(4)}, learned up to ${upTo}`,
          );
        await sleep(pauseMs);
      }
      await acknowledged;
    } catch (thrown) {
      failures.push(String(thrown));
    }
  }
  for (const lane of [eventLane, trainerLane, scoreLane, controlLane]) lane.close();
  return { parameterMs, early, failures };
});
