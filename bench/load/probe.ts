// The probe viewer: how long until an event of mine is in an answer of mine, in the model's parameters, and in the item's vector?
// One probe: an answer shows the viewer two items of different kinds, the second one as a control (not timed, as all that is asked before); an event says that the
// first was clicked, and without waiting for its acknowledgement three questions are asked again and again, all timed from the send of the event:
//   feature    POST /v1/recommend  until `ownCount` or `ownDecayed` of `parts`, columns that the score reads, has risen
//   parameter  POST /v1/score      the model's scores of the clicked item and of the control by the features *as they were logged when they were served*, asked at
//                                  once on two connections: until their difference has risen by `scoreRise` or more and both answers say that the parameters have
//                                  learned up to the event's offset or beyond. Features cannot move it, they are fixed; ages and counts neither; duplicates neither,
//                                  the event's id is new. What others teach moves both scores alike (bias, hour, pipeline, place) and falls out of the difference:
//                                  what is left is this click. Timed by the receipt of the later answer. The difference before the event is of one moment
//                                  (at-one-moment.ts): what others taught between two questions was 0.02 to 0.2 where the windows of many answers closed at once.
//   vector     POST /v1/similar    until the similarities of the item's neighbours are others and the vectors have learned up to the event's offset
// Each question has a connection of its own.
// A change that shows before its offset is reached is somebody else's: it counts as `early`, and the probe goes on until both hold.

import { setTimeout as sleep } from "node:timers/promises";
import type { EventsAnswer, RecommendAnswer } from "#wire/api";
import type { ScoreAnswer, SimilarAnswer } from "#wire/live-api";
import { differenceAtOneMoment } from "./at-one-moment.ts";
import { childMain } from "./child.ts";
import { Lane } from "./lane.ts";

export interface ProbeWork {
  readonly address: string;
  readonly items: readonly string[];
  readonly name: string;
  readonly durationMs: number;
  readonly perS: number;
  /** What the difference of logits has to rise by to be seen. */
  readonly scoreRise: number;
}

export interface ProbeResult {
  readonly featureMs: number[];
  readonly parameterMs: number[];
  readonly vectorMs: number[];
  /** Of each probe the slowest of its three. */
  readonly answerMs: number[];
  /** Answers asked for until the change, in all probes. */
  readonly asked: number;
  /** Changes seen before the event's offset was learned. */
  readonly early: number;
  /** By how much each probe's difference of scores had risen when it was seen. */
  readonly scoreRises: number[];
  readonly failures: string[];
}

const waitMsMax = 5_000;
/** Between two questions about scores and vectors: each is answered in a fraction of a millisecond, and thousands a second would be a load of their own. They make a
 * time longer by half of it, never shorter. */
const pauseMs = 2;
/** Relative change of a count: above the rounding of decay between two answers. */
const rise = 1e-9;
const similarityChange = 1e-6;
/** Tries to read two scores of one moment: with a hundred steps a second nearly every one succeeds. */
const stillTriesMax = 200;

childMain(async ({ address, items, name, durationMs, perS, scoreRise }: ProbeWork): Promise<ProbeResult> => {
  const eventLane = new Lane(address);
  const lanes = [new Lane(address), new Lane(address), new Lane(address), new Lane(address)] as const;
  const [askLane, scoreLane, controlLane, similarLane] = lanes;
  const result = {
    featureMs: [] as number[],
    parameterMs: [] as number[],
    vectorMs: [] as number[],
    answerMs: [] as number[],
    asked: 0,
    early: 0,
    scoreRises: [] as number[],
  };
  const failures: string[] = [];

  const counts = async (user: string, item: string): Promise<{ ownCount: number; ownDecayed: number }> => {
    const answer = await askLane.json<RecommendAnswer>("POST", "/v1/recommend/home", { user, n: 1, explain: true, record: false, filter: { id: [item] } });
    const parts = answer.items.find(({ id }) => id === item)?.parts;
    return { ownCount: parts?.["ownCount"] ?? 0, ownDecayed: parts?.["ownDecayed"] ?? 0 };
  };
  const similarities = async (item: string): Promise<{ offset: number; of: Map<string, number> }> => {
    const answer = await similarLane.json<SimilarAnswer>("POST", "/v1/similar", { item, n: 10 });
    return { offset: answer.trainedOffset, of: new Map(answer.items.map(({ id, similarity }) => [id, similarity])) };
  };
  const others = (a: Map<string, number>, b: Map<string, number>): boolean =>
    [...b].some(([id, similarity]) => Math.abs((a.get(id) ?? Number.POSITIVE_INFINITY) - similarity) > similarityChange);

  const start = performance.now();
  const total = Math.max(1, Math.round((durationMs * perS) / 1000));
  for (let index = 0; index < total; index += 1) {
    const due = start + (index * 1000) / perS;
    if (due > performance.now()) await sleep(due - performance.now());
    const item = items[index % items.length]!;
    // Far from it in the row of items: neither was clicked lately when the other is.
    const control = items[(index + (items.length >> 1)) % items.length]!;
    // A new viewer each time: of one who clicked everything before, the next click would teach next to nothing.
    const user = `${name}-${index}`;
    try {
      const served = await askLane.json<RecommendAnswer>("POST", "/v1/recommend/home", { user, n: 2, filter: { id: [item, control] } });
      const { recommendationId } = served;
      const position = served.items.findIndex(({ id }) => id === item);
      if (position < 0 || served.items.length !== 2) throw new Error(`${served.items.length} items were served where an item and its control were asked for`);
      const scoreOf = (lane: Lane, one: string): Promise<ScoreAnswer> => lane.json<ScoreAnswer>("POST", "/v1/score", { recommendationId, item: one });
      /** The clicked item's score over the control's, by parameters that have learned at least up to the offset. */
      const score = async (): Promise<{ over: number; offset: number }> => {
        const [own, other] = await Promise.all([scoreOf(scoreLane, item), scoreOf(controlLane, control)]);
        return { over: own.score - other.score, offset: Math.min(own.trainedOffset, other.trainedOffset) };
      };
      const [countsBefore, overBefore, similarBefore] = await Promise.all([
        counts(user, item),
        differenceAtOneMoment(
          async () => (await scoreOf(scoreLane, item)).score,
          async () => (await scoreOf(controlLane, control)).score,
          stillTriesMax,
        ),
        similarities(item),
      ]);
      const event = { id: `${name}-${index}`, type: "click", user, item, ts: Date.now(), recommendationId, position };
      let offset = Number.POSITIVE_INFINITY;
      /** What the last pair of scores said, for a failure. */
      let told = "not asked";
      const sent = performance.now();
      const acknowledged = eventLane.json<EventsAnswer>("POST", "/v1/events", event).then((answer) => {
        if (answer.accepted !== 1) throw new Error("the event was not accepted");
        offset = answer.offset;
      });
      // A refused event fails the probe below, not as a stray rejection.
      acknowledged.catch(() => undefined);
      /** Asks until `seen`; the time of the receipt of that answer. */
      const until = async (what: string, pauseMs: number, seen: () => Promise<boolean>): Promise<number> => {
        for (;;) {
          const there = await seen();
          const ms = performance.now() - sent;
          result.asked += 1;
          if (there) return ms;
          if (ms > waitMsMax) throw new Error(`no ${what} showed the event at ${offset} within ${waitMsMax} ms, probe ${index}: score ${told}`);
          if (pauseMs > 0) await sleep(pauseMs);
        }
      };
      /** True when it changed and has learned this event; changed without having learned it is early, once a probe. */
      let wasEarly = false;
      const learned = (changed: boolean, upTo: number): boolean => {
        // An acknowledgement that is still on its way says nothing yet: the event may have been learned already.
        if (changed && Number.isFinite(offset) && upTo < offset && !wasEarly) {
          wasEarly = true;
          result.early += 1;
        }
        return changed && upTo >= offset;
      };
      const times = await Promise.all([
        until("answer", 0, async () => {
          const now = await counts(user, item);
          return now.ownCount > countsBefore.ownCount * (1 + rise) || now.ownDecayed > countsBefore.ownDecayed * (1 + rise);
        }),
        until("score", pauseMs, async () => {
          const now = await score();
          const risen = now.over - overBefore;
          told = `risen by ${risen.toFixed(4)}, learned up to ${now.offset}`;
          if (!learned(risen > scoreRise, now.offset)) return false;
          result.scoreRises.push(risen);
          return true;
        }),
        until("vector", pauseMs, async () => {
          const now = await similarities(item);
          return learned(others(similarBefore.of, now.of), now.offset);
        }),
      ]);
      await acknowledged;
      result.featureMs.push(times[0]);
      result.parameterMs.push(times[1]);
      result.vectorMs.push(times[2]);
      result.answerMs.push(Math.max(...times));
    } catch (thrown) {
      failures.push(String(thrown));
    }
  }
  eventLane.close();
  for (const lane of lanes) lane.close();
  return { ...result, failures };
});
