// The demo world: live rooms and viewers with known true click probabilities, one deterministic function of its options and of time.
// Why: nothing measured on a log tells how good an answer could have been. Here the truth is known, so recommendations are measured against random,
// popular and perfect ones (yardstick.ts), and later a model's predictions against the probabilities themselves. The numbers stand in parameters.ts and are
// explained in docs/design/demo-world.md.
// Invariants: 1. equal options and times give equal rooms, tastes, probabilities and actions  2. asking (probabilities, `act`, yardstick) never changes the
// world, only `advance` (and `skipTo`) does, and it may be cut as one likes  3. the probability of a click depends on viewer, room, position and moment alone, not on
// what was shown or clicked before  4. clicks of one page view are independent of one another.
// Cost: 0.1 us a probability; memory about 2 MB for 9,400 rooms and 2,000 viewers.

import { MillraceError } from "#base/errors";
import type { EventBody } from "#wire/api";
import { Breaking, type BreakingNews } from "./breaking.ts";
import { Draws } from "./draws.ts";
import { categoryWords } from "./names.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { type RoomChange, Rooms } from "./rooms.ts";
import { streamNumber as stream } from "./stream-number.ts";
import { type TasteShift, Tastes } from "./tastes.ts";
import { Topics } from "./topics.ts";
import { Visits } from "./visits.ts";

export interface WorldOptions {
  /** Integer; equal seeds make equal worlds. */
  readonly seed: number;
  /** The world's first moment, milliseconds since 1970-01-01T00:00Z. The hour of the day matters, so it is part of the world. */
  readonly startMs: number;
  /** Rooms open on average, 1 to 100,000. Default 3,000. */
  readonly rooms?: number;
  /** 1 to 1,000,000. Default 2,000. */
  readonly viewers?: number;
  /** A multiple of 12, at most 48. Default 48. */
  readonly topics?: number;
  /** Of tastes and topics, 2 to 256. Default 16. */
  readonly dimensions?: number;
  /** False: tastes stand still, and so do tides, hours of the day and the bonus of a fresh room. Default true. */
  readonly drift?: boolean;
  /** False: rooms never open, close or change topic. With `drift: false` the world is stationary. Default true. */
  readonly churn?: boolean;
  /** Moments at which many viewers change at once. Default none. */
  readonly shifts?: readonly TasteShift[];
  /** Breaking news: the first some minutes after `fromMs`, then one every two hours or so. Default: from `startMs` on; none with `drift: false`. */
  readonly news?: NewsOptions | false;
}

export interface NewsOptions {
  readonly fromMs?: number;
  /** False: only the triggered ones. Default true. */
  readonly scheduled?: boolean;
  /** What was triggered in this world before (`World.trigger`), so that it is made again as it was. */
  readonly triggered?: readonly BreakingNews[];
}

/** What a page view led to. */
export interface PageView {
  /** Slots of the clicked rooms, in the order of their positions. */
  readonly clicked: readonly number[];
  /** The sum of the true probabilities of what was shown. */
  readonly expectedClicks: number;
  /** In the order of time; `ts` may lie up to about ten minutes after the view (the seconds watched are known at the end). */
  readonly events: readonly EventBody[];
}

export interface ShownItem {
  readonly id: string;
  /** 0 first. */
  readonly position: number;
}

function checked(name: string, value: number, minimum: number, maximum: number): number {
  if (Number.isInteger(value) && value >= minimum && value <= maximum) return value;
  throw new MillraceError("invalid", `demo world: ${name} is ${value}`, { todo: `give an integer from ${minimum} to ${maximum}` });
}

export class World {
  readonly options: WorldOptions;
  readonly draws: Draws;
  readonly topics: Topics;
  readonly rooms: Rooms;
  readonly tastes: Tastes;
  /** When viewers come. */
  readonly visits: Visits;
  readonly news: Breaking;
  readonly #drift: boolean;
  readonly #churn: boolean;
  #nowMs: number;

  constructor(options: WorldOptions) {
    this.options = options;
    const seed = checked("seed", options.seed, -(2 ** 31), 2 ** 32 - 1);
    const startMs = checked("startMs", options.startMs, 0, 8.64e15);
    const topics = checked("topics", options.topics ?? parameter.topics, categoryWords.length, parameter.topics);
    if (topics % categoryWords.length !== 0) {
      throw new MillraceError("invalid", `demo world: topics is ${topics}`, { todo: `give a multiple of ${categoryWords.length}` });
    }
    this.#drift = options.drift ?? true;
    this.#churn = options.churn ?? true;
    this.#nowMs = startMs;
    this.draws = new Draws(seed);
    this.topics = new Topics(this.draws, topics, checked("dimensions", options.dimensions ?? parameter.dimensions, 2, 256), this.#drift);
    const viewers = checked("viewers", options.viewers ?? parameter.viewers, 1, 1_000_000);
    const news = this.#drift && options.news !== false ? (options.news ?? {}) : undefined;
    const scheduled = news !== undefined && news.scheduled !== false;
    this.news = new Breaking(this.draws, this.topics, viewers, scheduled, news?.fromMs ?? startMs, news?.triggered ?? []);
    this.rooms = new Rooms(this.draws, this.topics, this.news, checked("rooms", options.rooms ?? parameter.rooms, 1, 100_000), startMs);
    this.tastes = new Tastes(this.draws, this.topics, viewers, startMs, this.#drift, options.shifts ?? []);
    this.visits = new Visits(this.draws, this.tastes);
  }

  /** The moment as of which rooms and tastes stand. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Moves the world on; returns what happened to rooms since, in the order of time. A moment in the past changes nothing. */
  advance(toMs: number): RoomChange[] {
    if (toMs <= this.#nowMs) return [];
    this.#nowMs = toMs;
    this.tastes.advance(toMs);
    return this.#churn ? this.rooms.advance(toMs) : [];
  }

  /** As `advance` for a caller who does not ask what happened: much cheaper over long times. */
  skipTo(toMs: number): void {
    if (toMs <= this.#nowMs) return;
    this.#nowMs = toMs;
    this.tastes.advance(toMs);
    if (this.#churn) this.rooms.skipTo(toMs);
  }

  /** Breaking news now: from this moment on `topic` (default: a topic of the world's choice) is hot. Part of the world's inputs: who makes it again gives
   * `news.triggered` among the options. Throws `invalid` in a world whose tastes stand still. */
  trigger(topic?: number): BreakingNews {
    if (!this.#drift) throw new MillraceError("invalid", "demo world: no news in a world without drift", { todo: "make it with drift: true" });
    const number = checked("topic", topic ?? this.topics.pick(this.draws, stream.newsTriggered, Math.floor(this.#nowMs / 1_000), 0), 0, this.topics.count - 1);
    const piece = { atMs: this.#nowMs, topic: number };
    this.news.add(piece);
    return piece;
  }

  /** What the moment adds to the logit of a room, beside its topic's time effect: the bonus of being fresh. */
  freshEffect(slot: number, atMs: number): number {
    if (!this.#drift) return 0;
    return parameter.freshBonus * Math.exp(-Math.max(0, atMs - this.rooms.freshSinceMs[slot]!) / parameter.freshDecayMs);
  }

  /** Agreement of taste and room, -1 to 1. */
  affinity(viewer: number, slot: number): number {
    const { dimensions } = this.topics;
    const tastes = this.tastes.vectors;
    const rooms = this.rooms.vectors;
    const v = viewer * dimensions;
    const r = slot * dimensions;
    let dot = 0;
    for (let i = 0; i < dimensions; i += 1) dot += tastes[v + i]! * rooms[r + i]!;
    return dot;
  }

  /** What position `position` (0 first) takes off the logit. */
  positionEffect(position: number): number {
    return parameter.positionSlope * Math.log(1 + position);
  }

  /** The part of the logit that no viewer changes: bias, quality, time effects. */
  roomLogit(slot: number, atMs: number): number {
    return parameter.bias + this.rooms.quality[slot]! + this.topics.timeEffect(this.rooms.topic[slot]!, atMs) + this.freshEffect(slot, atMs);
  }

  /** The part of the logit that depends on the viewer: taste, language, and interest in the news. */
  viewerLogit(viewer: number, slot: number, atMs: number): number {
    const foreign = this.tastes.speaks(viewer, this.rooms.language[slot]!) ? 0 : parameter.languageMismatch;
    return parameter.tasteWeight * this.affinity(viewer, slot) - foreign + this.news.interest(viewer, this.rooms.topic[slot]!, atMs);
  }

  /** True probability that the viewer clicks the room of this slot at this position. 0 for a closed room. Rooms and tastes are those of `nowMs`; `atMs`
   * should be close to it and matters for the time effects. */
  clickProbability(viewer: number, slot: number, position: number, atMs: number): number {
    if (this.rooms.live[slot] !== 1) return 0;
    return logistic(this.roomLogit(slot, atMs) + this.viewerLogit(viewer, slot, atMs) - this.positionEffect(position));
  }

  /** What the viewer does with the shown items at `atMs`: clicks, then likes and the seconds watched. Ids of closed or foreign rooms are looked at and
   * never clicked. Event ids follow from (viewer, moment, room), so that a retry is the same event. */
  act(viewer: number, shown: readonly ShownItem[], atMs: number, recommendationId?: string): PageView {
    const clicked: number[] = [];
    const events: (EventBody & { ts: number })[] = [];
    let expectedClicks = 0;
    const user = this.tastes.idOf(viewer);
    for (const { id, position } of shown) {
      const slot = this.rooms.slotOf(id);
      if (slot === undefined) continue;
      const probability = this.clickProbability(viewer, slot, position, atMs);
      expectedClicks += probability;
      if (this.draws.uniform(stream.click, viewer, slot, atMs) >= probability) continue;
      clicked.push(slot);
      const affinity = this.affinity(viewer, slot);
      const clickMs = atMs + 300 + Math.ceil(this.draws.exponential(parameter.clickDelayMeanMs, stream.clickDelay, viewer, slot, atMs));
      const add = (type: string, ts: number, value?: number): void => {
        events.push({
          id: `${type}-${viewer}-${slot}-${atMs}`,
          type,
          user,
          item: id,
          ts,
          position,
          ...(recommendationId === undefined ? {} : { recommendationId }),
          ...(value === undefined ? {} : { value }),
        });
      };
      add("click", clickMs);
      if (this.draws.uniform(stream.like, viewer, slot, atMs) < logistic(parameter.likeBias + parameter.likeTaste * affinity)) {
        add("like", clickMs + Math.ceil(this.draws.exponential(parameter.likeDelayMeanMs, stream.likeDelay, viewer, slot, atMs)));
      }
      const logSeconds = parameter.watchLogMeanS + parameter.watchTaste * affinity + parameter.watchLogSd * this.draws.normal(stream.watch, viewer, slot, atMs);
      const seconds = Math.min(parameter.watchMaxS, Math.ceil(Math.exp(logSeconds)));
      add("watch", clickMs + seconds * 1_000, seconds);
    }
    events.sort((a, b) => a.ts - b.ts);
    return { clicked, expectedClicks, events };
  }
}

export function logistic(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}

/** Makes the world of these options, standing at `startMs`. Costs some 30 ms at the default size. */
export function createWorld(options: WorldOptions): World {
  return new World(options);
}
