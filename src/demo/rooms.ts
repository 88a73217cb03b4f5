// The life of the rooms: each slot is a streamer who goes live, changes topic, pauses, comes back, and at last makes place for a new one.
// Why slots: they are independent of one another and every draw is keyed by (slot, number of the event in the slot), so a slot's future does not depend on
// how often or how far the world was advanced.
// Invariants: 1. `advance` in one step or in many gives the same changes and the same state  2. durations are exponential, so the world is in
// equilibrium from its first moment: live / all = liveMean / (liveMean + pauseMean)  3. a slot's arrays describe the room that holds it now.
// Cost: one pass over the slots per call plus the changes, sorted; 4,500 slots make about 13 changes a second.

import type { ItemBody, ItemRow } from "#wire/api";
import { type Draws, cumulate, drawBits } from "./draws.ts";
import { categoryWords, formatWords, languageWords, moodWords, roomTitle, streamerName } from "./names.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";
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
  readonly #languages = cumulate(languageWords.length, (i) => parameter.languageShares[i]!);
  readonly #home: Int32Array;
  readonly #streamerQuality: Float64Array;
  readonly #watchers: Int32Array;
  readonly #openedAtMs: Float64Array;
  readonly #event: Int32Array;
  readonly #phaseEndsMs: Float64Array;
  readonly #topicEndsMs: Float64Array;
  readonly #watchersNextMs: Float64Array;

  /** `live` is how many are open on average. The rooms stand as at `startMs`. */
  constructor(draws: Draws, topics: Topics, live: number, startMs: number) {
    const slots = Math.max(1, Math.round((live * (parameter.liveMeanMs + parameter.pauseMeanMs)) / parameter.liveMeanMs));
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
    this.#phaseEndsMs = new Float64Array(slots);
    this.#topicEndsMs = new Float64Array(slots);
    this.#watchersNextMs = new Float64Array(slots);
    const liveShare = parameter.liveMeanMs / (parameter.liveMeanMs + parameter.pauseMeanMs);
    for (let slot = 0; slot < slots; slot += 1) {
      this.#settle(slot);
      this.#goLive(slot, startMs);
      // An open room of the first moment has been open for a while: exponential times have no memory, so its age has the distribution of its rest.
      this.#openedAtMs[slot] = startMs - Math.ceil(draws.exponential(parameter.liveMeanMs, stream.roomLiveAtStart, slot, 1));
      this.freshSinceMs[slot] = Math.max(
        this.#openedAtMs[slot]!,
        startMs - Math.ceil(draws.exponential(parameter.topicMeanMs, stream.roomLiveAtStart, slot, 2)),
      );
      if (draws.uniform(stream.roomLiveAtStart, slot) >= liveShare) this.#pause(slot, startMs);
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
    for (let slot = 0; slot < this.slots; slot += 1) {
      for (;;) {
        const live = this.live[slot] === 1;
        const at = live ? Math.min(this.#phaseEndsMs[slot]!, this.#topicEndsMs[slot]!, this.#watchersNextMs[slot]!) : this.#phaseEndsMs[slot]!;
        if (at > toMs) break;
        this.#event[slot]! += 1;
        if (changes === undefined) {
          this.#step(slot, live, at);
          continue;
        }
        const id = this.idOf(slot);
        changes.push(this.#describe(this.#step(slot, live, at), slot, id, at));
      }
    }
  }

  /** The next event of a slot. */
  #step(slot: number, live: boolean, at: number): RoomChange["kind"] {
    if (!live) {
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
      this.#takeTopic(slot, at);
      return "topic";
    }
    this.#countWatchers(slot);
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

  /** A new streamer takes the slot. */
  #settle(slot: number): void {
    const generation = this.generation[slot]!;
    this.language[slot] = this.#draws.weighted(this.#languages, stream.roomLanguage, slot, generation);
    this.#home[slot] = this.#draws.below(categoryWords.length, stream.roomHomeCategory, slot, generation);
    this.#streamerQuality[slot] = parameter.streamerQualitySd * this.#draws.normal(stream.roomQuality, slot, generation);
  }

  #goLive(slot: number, at: number): void {
    const event = this.#event[slot]!;
    this.live[slot] = 1;
    this.quality[slot] = this.#streamerQuality[slot]! + parameter.sessionQualitySd * this.#draws.normal(stream.sessionQuality, slot, event);
    this.#openedAtMs[slot] = at;
    this.#phaseEndsMs[slot] = at + Math.ceil(this.#draws.exponential(parameter.liveMeanMs, stream.sessionLive, slot, event));
    // Spread evenly, so that the shown numbers do not all change at the same moment.
    this.#watchersNextMs[slot] = at + Math.ceil(parameter.watchersEveryMs * this.#draws.uniform(stream.watchersPhase, slot, event));
    this.#takeTopic(slot, at);
  }

  #pause(slot: number, at: number): void {
    this.live[slot] = 0;
    this.#phaseEndsMs[slot] = at + Math.ceil(this.#draws.exponential(parameter.pauseMeanMs, stream.sessionPause, slot, this.#event[slot]));
  }

  #takeTopic(slot: number, at: number): void {
    const event = this.#event[slot]!;
    const home = this.#draws.uniform(stream.topicHome, slot, event) < parameter.homeCategoryChance;
    const topic = home
      ? this.#topics.pickWithin(this.#home[slot]!, this.#draws, stream.topicPick, slot, event)
      : this.#topics.pick(this.#draws, stream.topicPick, slot, event);
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
    this.#countWatchers(slot);
  }

  #countWatchers(slot: number): void {
    const noise = parameter.watchersLogNoise * this.#draws.normal(stream.watchersNoise, slot, this.#event[slot]);
    this.#watchers[slot] = Math.round(Math.exp(parameter.watchersLogMean + parameter.watchersPerQuality * this.quality[slot]! + noise));
  }

  #streamerOf(slot: number): string {
    return streamerName(drawBits(this.#draws.seed, stream.roomName, slot, this.generation[slot]));
  }

  #attributes(slot: number): NonNullable<ItemBody["attributes"]> {
    return { viewers: this.#watchers[slot]!, language: languageWords[this.language[slot]!]!, streamer: this.#streamerOf(slot) };
  }

  #body(slot: number): ItemBody {
    const topic = this.topic[slot]!;
    const name = this.#topics.nameOf(topic);
    const words = drawBits(this.#draws.seed, stream.topicWords, slot, this.generation[slot], topic);
    return {
      title: roomTitle(words >>> 8, name, this.#streamerOf(slot)),
      category: categoryWords[this.#topics.categoryOf(topic)]!.name,
      tags: [name, moodWords[words % moodWords.length]!, formatWords[(words >>> 4) % formatWords.length]!],
      createdAt: Math.max(0, this.#openedAtMs[slot]!),
      available: this.live[slot] === 1,
      state: `topic-${topic}`,
      attributes: this.#attributes(slot),
    };
  }
}
