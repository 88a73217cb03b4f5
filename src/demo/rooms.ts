// The life of the rooms: each slot is a streamer who keeps hours, goes live within them, changes topic, pauses, comes back, and at last makes place for a new one.
// Why slots: they are independent of one another and every draw is keyed by (slot, number of the event in the slot), so a slot's future does not depend on
// how often or how far the world was advanced.
// Invariants: 1. `advance` in one step or in many gives the same changes and the same state  2. within the hours of a streamer durations are exponential, so the
// world is in equilibrium from its first moment: live / on air = liveMean / (liveMean + pauseMean), and all that are on air stop at the end of their hours
// 3. a slot's arrays describe the room that holds it now.
// Cost: one pass over the slots per call plus the changes, sorted; 9,400 slots, of which 3,000 are open, make about 13 changes a second.

import type { ItemBody, ItemRow } from "#wire/api";
import type { Breaking } from "./breaking.ts";
import { type Draws, cumulate, drawBits } from "./draws.ts";
import { categoryWords, formatWords, languageWords, moodWords } from "./names.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { dayMs, type Hours, hoursAt, onAirShare, type Plan, planNames, planOf } from "./schedules.ts";
import { streamNumber as stream } from "./stream-number.ts";
import { roomArt, roomTitle, streamerName, type TitleOf } from "./titles.ts";
import { normalise, type Topics } from "./topics.ts";

const roomId = /^room-(\d+)-(\d+)$/;

/** What happened to a room. `patch` holds the fields that changed; a newly opened room has all of them. */
export interface RoomChange {
  readonly kind: "open" | "topic" | "watchers" | "close" | "retire";
  readonly atMs: number;
  readonly slot: number;
  readonly id: string;
  readonly patch: ItemBody;
}

/** Of a streamer who is on air, the share of the time in which the room is open. */
const liveShare = parameter.liveMeanMs / (parameter.liveMeanMs + parameter.pauseMeanMs);
/** After the hours began with an open room, the share of open ones falls to `liveShare` with this time constant. */
const settleMs = 1 / (1 / parameter.liveMeanMs + 1 / parameter.pauseMeanMs);

export class Rooms {
  readonly slots: number;
  readonly live: Uint8Array;
  readonly topic: Int32Array;
  readonly language: Uint8Array;
  /** Quality of the streamer and of this session together, in logits. */
  readonly quality: Float64Array;
  /** When the room opened or last changed its topic. */
  readonly freshSinceMs: Float64Array;
  /** Row-major unit vectors. */
  readonly vectors: Float64Array;
  /** Grows with every new streamer of the slot; part of the room's id. */
  readonly generation: Int32Array;

  readonly #draws: Draws;
  readonly #topics: Topics;
  readonly #breaking: Breaking;
  readonly #languages = cumulate(languageWords.length, (i) => parameter.languageShares[i]!);
  readonly #home: Int32Array;
  readonly #streamerQuality: Float64Array;
  readonly #watchers: Int32Array;
  readonly #openedAtMs: Float64Array;
  readonly #event: Int32Array;
  readonly #plans: Plan[] = [];
  /** The end of the hours in which the streamer is or was last; a pause at or after it lasts until the next ones. */
  readonly #hoursEndMs: Float64Array;
  readonly #onNews: Uint8Array;
  readonly #phaseEndsMs: Float64Array;
  readonly #topicEndsMs: Float64Array;
  readonly #watchersNextMs: Float64Array;
  #atMs: number;

  /** `live` is how many are open on average. The rooms stand as at `startMs`. */
  constructor(draws: Draws, topics: Topics, breaking: Breaking, live: number, startMs: number) {
    const slots = Math.max(1, Math.round(live / (liveShare * onAirShare)));
    this.#atMs = startMs;
    this.#breaking = breaking;
    this.slots = slots;
    this.#draws = draws;
    this.#topics = topics;
    this.live = new Uint8Array(slots);
    this.topic = new Int32Array(slots);
    this.language = new Uint8Array(slots);
    this.quality = new Float64Array(slots);
    this.freshSinceMs = new Float64Array(slots);
    this.vectors = new Float64Array(slots * topics.dimensions);
    this.generation = new Int32Array(slots);
    this.#home = new Int32Array(slots);
    this.#streamerQuality = new Float64Array(slots);
    this.#watchers = new Int32Array(slots);
    this.#openedAtMs = new Float64Array(slots);
    this.#event = new Int32Array(slots);
    this.#hoursEndMs = new Float64Array(slots);
    this.#onNews = new Uint8Array(slots);
    this.#phaseEndsMs = new Float64Array(slots);
    this.#topicEndsMs = new Float64Array(slots);
    this.#watchersNextMs = new Float64Array(slots);
    for (let slot = 0; slot < slots; slot += 1) {
      this.#settle(slot);
      const hours = this.#hours(slot, startMs);
      const sinceMs = startMs - hours.fromMs;
      this.#hoursEndMs[slot] = sinceMs < 0 ? startMs : hours.toMs;
      const chance = sinceMs < 0 ? 0 : liveShare + (1 - liveShare) * Math.exp(-sinceMs / settleMs);
      if (draws.uniform(stream.roomLiveAtStart, slot) < chance) {
        this.#goLive(slot, startMs);
        // An open room of the first moment has been open for a while: exponential times have no memory, so its age has the distribution of its rest.
        const ageMs = Math.ceil(draws.exponential(parameter.liveMeanMs, stream.roomLiveAtStart, slot, 1));
        this.#openedAtMs[slot] = startMs - Math.min(sinceMs, ageMs);
        const topicAgeMs = Math.ceil(draws.exponential(parameter.topicMeanMs, stream.roomLiveAtStart, slot, 2));
        this.freshSinceMs[slot] = Math.max(this.#openedAtMs[slot]!, startMs - topicAgeMs);
      } else {
        this.topic[slot] = this.#ownTopic(slot);
        this.#openedAtMs[slot] = startMs - dayMs;
        this.#pause(slot, startMs);
      }
    }
  }

  idOf(slot: number): string {
    return `room-${slot}-${this.generation[slot]!}`;
  }

  /** The slot of a room's id; `undefined` for a foreign id and for a room that has made place for another. */
  slotOf(id: string): number | undefined {
    const parts = roomId.exec(id);
    if (parts === null) return undefined;
    const slot = Number(parts[1]);
    return slot < this.slots && this.generation[slot] === Number(parts[2]) ? slot : undefined;
  }

  /** Is this the id of a room that has made place for another one? */
  isGone(id: string): boolean {
    return roomId.test(id) && this.slotOf(id) === undefined;
  }

  /** The room of a slot as an item of the catalogue. */
  row(slot: number): ItemRow {
    return { id: this.idOf(slot), ...this.#body(slot) };
  }

  /** Moves every slot to `toMs`; the changes in the order of time, then slot. */
  advance(toMs: number): RoomChange[] {
    const changes: RoomChange[] = [];
    this.#moveSlots(toMs, changes);
    return changes.sort((a, b) => a.atMs - b.atMs || a.slot - b.slot);
  }

  /** As `advance` for a caller who does not ask what happened: ten times cheaper, most of the cost is in describing it. */
  skipTo(toMs: number): void {
    this.#moveSlots(toMs, undefined);
  }

  #moveSlots(toMs: number, changes: RoomChange[] | undefined): void {
    const fromMs = this.#atMs;
    if (toMs <= fromMs) return;
    this.#atMs = toMs;
    const news = this.#breaking.between(fromMs - parameter.newsJoinMaxMs, toMs);
    for (let slot = 0; slot < this.slots; slot += 1) {
      const joins = news.length === 0 ? news : this.#breaking.joinsOf(slot, news, fromMs, toMs);
      let joined = 0;
      for (;;) {
        const live = this.live[slot] === 1;
        let at = live ? Math.min(this.#phaseEndsMs[slot]!, this.#topicEndsMs[slot]!, this.#watchersNextMs[slot]!) : this.#phaseEndsMs[slot]!;
        // News that come while the room is closed pass it by.
        while (!live && joined < joins.length && joins[joined]!.atMs < at) joined += 1;
        let topic = -1;
        if (live && joined < joins.length && joins[joined]!.atMs < at) {
          ({ atMs: at, topic } = joins[joined]!);
          joined += 1;
        }
        if (at > toMs) break;
        this.#event[slot]! += 1;
        if (changes === undefined) {
          // Of a row of renewed watchers only the last one leaves a trace: the others are counted and left out.
          if (live && topic < 0 && at === this.#watchersNextMs[slot]) {
            const joinMs = joined < joins.length ? joins[joined]!.atMs : Infinity;
            const lastMs = Math.min(toMs, Math.min(this.#phaseEndsMs[slot]!, this.#topicEndsMs[slot]!, joinMs) - 1);
            const more = Math.max(0, Math.floor((lastMs - at) / parameter.watchersEveryMs));
            at += more * parameter.watchersEveryMs;
            this.#watchersNextMs[slot] = at;
            this.#event[slot]! += more;
          }
          this.#step(slot, live, at, topic);
          continue;
        }
        const id = this.idOf(slot);
        changes.push(this.#describe(this.#step(slot, live, at, topic), slot, id, at));
      }
    }
  }

  /** The next event of a slot; `newsTopic` is not -1 when it is a switch to that topic because of news. */
  #step(slot: number, live: boolean, at: number, newsTopic: number): RoomChange["kind"] {
    if (newsTopic >= 0) {
      this.#takeTopic(slot, at, newsTopic);
      return "topic";
    }
    if (!live) {
      if (at >= this.#hoursEndMs[slot]!) this.#hoursEndMs[slot] = this.#hours(slot, at).toMs;
      this.#goLive(slot, at);
      return "open";
    }
    if (at === this.#phaseEndsMs[slot]) {
      const retires = this.#draws.uniform(stream.sessionRetires, slot, this.#event[slot]) < parameter.retireChance;
      if (retires) {
        this.generation[slot]! += 1;
        this.#settle(slot);
      }
      this.#pause(slot, at);
      return retires ? "retire" : "close";
    }
    if (at === this.#topicEndsMs[slot]) {
      this.#takeTopic(slot, at, -1);
      return "topic";
    }
    this.#countWatchers(slot, at);
    this.#watchersNextMs[slot]! += parameter.watchersEveryMs;
    return "watchers";
  }

  /** What a step did to the room that had this id before it. */
  #describe(kind: RoomChange["kind"], slot: number, id: string, atMs: number): RoomChange {
    switch (kind) {
      case "open":
        return { kind, atMs, slot, id, patch: this.#body(slot) };
      case "topic": {
        const { title, category, tags, state, attributes } = this.#body(slot);
        return { kind, atMs, slot, id, patch: { title: title!, category: category!, tags: tags!, state: state!, attributes: attributes! } };
      }
      case "watchers":
        return { kind, atMs, slot, id, patch: { attributes: this.#attributes(slot) } };
      case "close":
      case "retire":
        return { kind, atMs, slot, id, patch: { available: false } };
    }
  }

  /** A new streamer takes the slot, of the same language and with the same hours: were they drawn anew, fewer rooms would be open as time goes by, since streamers
   * leave while they are on air. */
  #settle(slot: number): void {
    const generation = this.generation[slot]!;
    if (generation === 0) {
      this.language[slot] = this.#draws.weighted(this.#languages, stream.roomLanguage, slot);
      this.#plans[slot] = planOf(this.#draws, slot, this.language[slot]);
    }
    this.#home[slot] = this.#draws.below(categoryWords.length, stream.roomHomeCategory, slot, generation);
    this.#streamerQuality[slot] = parameter.streamerQualitySd * this.#draws.normal(stream.roomQuality, slot, generation);
  }

  #hours(slot: number, atMs: number): Hours {
    return hoursAt(this.#draws, slot, this.#plans[slot]!, atMs);
  }

  #goLive(slot: number, at: number): void {
    const event = this.#event[slot]!;
    this.live[slot] = 1;
    this.quality[slot] = this.#streamerQuality[slot]! + parameter.sessionQualitySd * this.#draws.normal(stream.sessionQuality, slot, event);
    this.#openedAtMs[slot] = at;
    const endsMs = at + Math.ceil(this.#draws.exponential(parameter.liveMeanMs, stream.sessionLive, slot, event));
    this.#phaseEndsMs[slot] = Math.min(endsMs, this.#hoursEndMs[slot]!);
    // Spread evenly, so that the shown numbers do not all change at the same moment.
    this.#watchersNextMs[slot] = at + Math.ceil(parameter.watchersEveryMs * this.#draws.uniform(stream.watchersPhase, slot, event));
    this.#takeTopic(slot, at, -1);
  }

  /** Closes the room, for a while or, at the end of the streamer's hours, until the next ones. */
  #pause(slot: number, at: number): void {
    this.live[slot] = 0;
    const backMs = at + Math.ceil(this.#draws.exponential(parameter.pauseMeanMs, stream.sessionPause, slot, this.#event[slot]));
    const endMs = this.#hoursEndMs[slot]!;
    this.#phaseEndsMs[slot] = backMs < endMs ? backMs : Math.max(at + 1, this.#hours(slot, Math.max(at, endMs)).fromMs);
  }

  /** What the streamer turns to when nothing else is on. */
  #ownTopic(slot: number): number {
    const event = this.#event[slot]!;
    const home = this.#draws.uniform(stream.topicHome, slot, event) < parameter.homeCategoryChance;
    return home
      ? this.#topics.pickWithin(this.#home[slot]!, this.#draws, stream.topicPick, slot, event)
      : this.#topics.pick(this.#draws, stream.topicPick, slot, event);
  }

  /** `newsTopic` is not -1 when news make the streamer take that one. */
  #takeTopic(slot: number, at: number, newsTopic: number): void {
    const event = this.#event[slot]!;
    const hot = newsTopic >= 0 ? newsTopic : this.#breaking.topicFor(slot, event, at);
    this.#onNews[slot] = hot >= 0 ? 1 : 0;
    const topic = hot >= 0 ? hot : this.#ownTopic(slot);
    this.topic[slot] = topic;
    this.freshSinceMs[slot] = at;
    this.#topicEndsMs[slot] = at + Math.ceil(this.#draws.exponential(parameter.topicMeanMs, stream.topicLasts, slot, event));
    const { dimensions, vectors } = this.#topics;
    const share = parameter.roomTopicShare;
    const rest = Math.sqrt(1 - share * share);
    const from = slot * dimensions;
    for (let i = 0; i < dimensions; i += 1) this.vectors[from + i] = this.#draws.normal(stream.roomStyle, slot, this.generation[slot], i);
    normalise(this.vectors, from, dimensions);
    for (let i = 0; i < dimensions; i += 1) this.vectors[from + i] = rest * this.vectors[from + i]! + share * vectors[topic * dimensions + i]!;
    normalise(this.vectors, from, dimensions);
    this.#countWatchers(slot, at);
  }

  #countWatchers(slot: number, at: number): void {
    const noise = parameter.watchersLogNoise * this.#draws.normal(stream.watchersNoise, slot, this.#event[slot]);
    this.#watchers[slot] = Math.round(
      Math.exp(
        parameter.watchersLogMean +
          parameter.watchersPerQuality * this.quality[slot]! +
          noise +
          parameter.newsWatchersLog * this.#breaking.heat(this.topic[slot]!, at),
      ),
    );
  }

  /** What is said about the room now, and the bits that choose among the ways to say it. */
  #words(slot: number): { bits: number; of: TitleOf } {
    const topic = this.topic[slot]!;
    const category = this.#topics.categoryOf(topic);
    const bits = drawBits(this.#draws.seed, stream.topicWords, slot, this.generation[slot], topic);
    return {
      bits: bits >>> 8,
      of: {
        language: this.language[slot]!,
        category,
        topicInCategory: topic - category * this.#topics.perCategory,
        mood: bits % moodWords.length,
        format: (bits >>> 4) % formatWords.length,
        news: this.#onNews[slot] === 1,
      },
    };
  }

  #attributes(slot: number): NonNullable<ItemBody["attributes"]> {
    const { bits, of } = this.#words(slot);
    return {
      viewers: this.#watchers[slot]!,
      language: languageWords[of.language]!,
      streamer: streamerName(drawBits(this.#draws.seed, stream.roomName, slot, this.generation[slot]), of.language),
      schedule: planNames[this.#plans[slot]!.kind]!,
      art: roomArt(bits, of),
    };
  }

  #body(slot: number): ItemBody {
    const topic = this.topic[slot]!;
    const { bits, of } = this.#words(slot);
    return {
      title: roomTitle(bits, of),
      category: categoryWords[of.category]!.name,
      tags: [this.#topics.nameOf(topic), moodWords[of.mood]!, formatWords[of.format]!, ...(of.news ? ["breaking"] : [])],
      createdAt: Math.max(0, this.#openedAtMs[slot]!),
      available: this.live[slot] === 1,
      state: `topic-${topic}`,
      attributes: this.#attributes(slot),
    };
  }
}
